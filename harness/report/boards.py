"""What `harness.report.leaderboard` found, as numbers and in words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from datasets.wording import counted, printable
from harness.report.apart import MARKS
from harness.report.cells import (
    EMPTY,
    TRAINS_FASTER,
    Cells,
    Figures,
    accuracy_text,
    flop_text,
    judgement_text,
    rate_text,
    speedup_text,
)
from harness.report.conditions import differing, differing_text
from harness.report.leaderboard import SPEEDUP, Board, Cell, Entry, Laboratory
from harness.report.table import plain_markdown

_BESIDE = 2
"""Columns of accuracies that stand beside each other in 100 characters."""
_SPEED_TEXTS: Cells = {
    "speedup [95 %]": speedup_text,
    "by FLOPs": flop_text,
    "clips/s": rate_text,
    TRAINS_FASTER: judgement_text,
}
RULE = (
    "a board holds what was made under the same conditions; rows of two boards compare nothing."
    " Accuracies: % of test clips [95 % t interval over seeds; of one seed binomial over clips]"
)

# --- as numbers ---


def leaderboard_frame(boards: Sequence[Board]) -> pd.DataFrame:
    """A row per number: its board and column, its place, whose it is, value and interval;
    what is missing is empty.
    """
    rows = [
        {
            "board": f"{board.kind} {board.number}",
            "kind": board.kind,
            "data": board.data,
            "data_fingerprint": board.conditions["data"],
            "conditions": board.heading.partition(": ")[2],
            "column": name,
            "place": place,
            "method": entry.label,
            "from": entry.laboratory,
            "control": entry.control,
            "open": entry.open,
            **_numbers(cell),
            "seeds": len(cell.row.by_seed) if cell.row else None,
            "finished": entry.finished,
            "records": " ".join(entry.addresses),
        }
        for board in boards
        for name in board.columns
        for place, (entry, cell) in enumerate(_ranked(board, name), 1)
    ]
    return pd.DataFrame(rows)


def _numbers(cell: Cell) -> Figures:
    """A cell's figures that are no label."""
    return {name: value for name, value in cell.figures.items() if name not in ("label", "open")}


def _ranked(board: Board, column: str) -> list[tuple[Entry, Cell]]:
    """Rows that have a number in a column, the highest first."""
    found = [(entry, entry.cells[column]) for entry in board.entries if column in entry.cells]
    return sorted(found, key=lambda pair: -pair[1].value)


def leaderboard_json(boards: Sequence[Board], labs: Sequence[Laboratory]) -> dict[str, Any]:
    """As values for a program: the boards with all their conditions, and what was left out."""
    return {
        "boards": [_plain_board(board) for board in boards],
        "left_out": {
            lab.name: [str(refusal) for refusal in lab.refused] for lab in labs if lab.refused
        },
    }


def _plain_board(board: Board) -> dict[str, Any]:
    return {
        "name": f"{board.kind} {board.number}",
        "kind": board.kind,
        "heading": board.heading,
        "data": board.data,
        "conditions": dict(board.conditions),
        "columns": {name: dict(facts) for name, facts in board.columns.items()},
        "apart": (
            board.apart
            and {
                "from": f"{board.kind} {board.apart[0]}",
                "differ": {
                    name: {"here": here, "there": there}
                    for name, (here, there) in board.apart[1].items()
                },
            }
        ),
        "rows": [_plain_entry(entry) for entry in board.entries],
        "notes": list(board.notes),
    }


def _plain_entry(entry: Entry) -> dict[str, Any]:
    return {
        "method": entry.label,
        "from": entry.laboratory,
        "control": entry.control,
        "open": entry.open,
        "records": list(entry.addresses),
        "finished": entry.finished.isoformat(),
        "cells": {
            name: {
                **_finite(_numbers(cell)),
                **({"by_seed": dict(cell.row.by_seed)} if cell.row else {}),
            }
            for name, cell in entry.cells.items()
        },
    }


def _finite(figures: Figures) -> Figures:
    """JSON knows no infinity: what nothing bounds has no bound there."""
    return {
        name: None if value in (math.inf, -math.inf) else value for name, value in figures.items()
    }


# --- in words ---


Shown = tuple[str, float | None]
"""A cell as it is printed, and the number that it is sorted by."""


def board_figures(board: Board) -> tuple[list[str], list[list[Shown]]]:
    """Columns and rows of a board."""
    if board.kind == "speed":
        speeds = [(entry, entry.cells[SPEEDUP]) for entry in board.entries]
        found = [[*_who(entry), *_speeds(cell)] for entry, cell in speeds]
        return ["method", "from", *_SPEED_TEXTS], found
    names = list(board.columns)
    rows = [
        [*_who(entry), *(_accuracy(entry.cells.get(name)) for name in names)]
        for entry in board.entries
    ]
    return ["method", "from", *names], rows


def board_tables(board: Board) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Columns and rows of texts; so many columns of accuracies beside each other
    as a line holds.
    """
    columns, rows = board_figures(board)
    together = len(columns) if board.kind == "speed" else _BESIDE
    for start in range(2, len(columns), together):
        places = [0, 1, *range(start, min(start + together, len(columns)))]
        shown = [[row[place][0] for place in places] for row in rows]
        yield (
            [columns[place] for place in places],
            [row for row in shown if set(row[2:]) != {EMPTY}],
        )


def board_lines(board: Board) -> list[str]:
    """What stands below it."""
    return [*([board.reason] if board.reason else []), *_ways(board), *board.notes]


def _ways(board: Board) -> Iterator[str]:
    """Why one protocol is several columns."""
    for name, facts in board.columns.items():
        first = re.sub(r" \(\d+\)$", "", name)
        if first != name and first in board.columns:
            differ = differing(facts, board.columns[first])
            yield f"{name} is not {first}: {differing_text(differ)}"


def leaderboard_page(boards: Sequence[Board], labs: Sequence[Laboratory], command: str) -> str:
    """All boards as Markdown."""
    pieces = [f"    {printable(command)}\n"]
    for board in boards:
        tables = [
            plain_markdown(pd.DataFrame(rows, columns=columns), command).partition("\n\n")[2]
            for columns, rows in board_tables(board)
        ]
        lines = "".join(f"- {printable(line)}\n" for line in board_lines(board))
        pieces.append(f"## {printable(board.heading)}\n\n" + "\n".join([*tables, lines]))
    refused = sum(len(lab.refused) for lab in labs)
    left_out = (
        [f"left out: {counted(refused, 'record')} that cannot be used; `verify` names them"]
        if refused
        else []
    )
    return "\n".join([*pieces, *(f"- {line}" for line in [RULE, MARKS, *left_out]), ""])


def _who(entry: Entry) -> list[Shown]:
    return [
        (f"{entry.label} (open)" if entry.open else entry.label, None),
        (entry.laboratory, None),
    ]


def _accuracy(cell: Cell | None) -> Shown:
    return (
        (accuracy_text(cell.figures, "value", spread=False), cell.value) if cell else (EMPTY, None)
    )


def _speeds(cell: Cell) -> list[Shown]:
    numbers = (cell.value, cell.figures["flop_ratio"], cell.figures["clips_per_second"], None)
    return [
        (text(cell.figures), number)
        for text, number in zip(_SPEED_TEXTS.values(), numbers, strict=True)
    ]
