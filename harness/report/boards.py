"""What `harness.report.leaderboard` found, as numbers and in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from datasets.wording import counted, printable
from harness.report.apart import MARKS
from harness.report.conditions import differing, differing_text
from harness.report.leaderboard import SPEEDUP, Board, Cell, Entry, Laboratory
from harness.report.table import EMPTY, plain_markdown

BESIDE = 2
"""Columns of accuracies that stand beside each other in 100 characters."""
RULE = (
    "a board holds what was made under the same conditions; rows of two boards compare nothing. Accuracies: % of test "
    "clips [95 % t interval over seeds; of one seed binomial over clips]"
)

# --- as numbers ---


def leaderboard_frame(boards: Sequence[Board]) -> pd.DataFrame:
    """A row per number: its board and column, its place, whose it is, value and interval; what is missing is empty."""
    rows = [
        {
            "board": f"{board.kind} {board.number}", "kind": board.kind, "data": board.data,
            "data_fingerprint": board.conditions["data"], "conditions": board.heading.partition(": ")[2],
            "column": name, "place": place, "method": entry.label, "from": entry.laboratory, "control": entry.control,
            "open": entry.open, "value": cell.value, "low": cell.low, "high": cell.high, "interval": cell.interval,
            "mark": cell.mark.strip(), "seeds": len(cell.row.by_seed) if cell.row else None,
            **{key: cell.speed.get(key) for key in SPEED_COLUMNS},
            "finished": entry.finished, "records": " ".join(entry.addresses),
        }
        for board in boards
        for name in board.columns
        for place, (entry, cell) in enumerate(ranked(board, name), 1)
    ]  # fmt: skip
    return pd.DataFrame(rows)


SPEED_COLUMNS = ("clips_per_second", "flop_ratio", "gflops_per_clip", "within_noise", "floor", "judgement")


def ranked(board: Board, column: str) -> list[tuple[Entry, Cell]]:
    """Rows that have a number in a column, the highest first."""
    found = [(entry, entry.cells[column]) for entry in board.entries if column in entry.cells]
    return sorted(found, key=lambda pair: -pair[1].value)


def leaderboard_json(boards: Sequence[Board], labs: Sequence[Laboratory]) -> dict[str, Any]:
    """As values for a program: the boards with all their conditions, and what was left out."""
    return {
        "boards": [_plain_board(board) for board in boards],
        "left_out": {lab.name: [str(refusal) for refusal in lab.refused] for lab in labs if lab.refused},
    }


def _plain_board(board: Board) -> dict[str, Any]:
    return {
        "name": f"{board.kind} {board.number}", "kind": board.kind, "heading": board.heading, "data": board.data,
        "conditions": dict(board.conditions), "columns": {name: dict(facts) for name, facts in board.columns.items()},
        "apart": board.apart and {
            "from": f"{board.kind} {board.apart[0]}",
            "differ": {name: {"here": here, "there": there} for name, (here, there) in board.apart[1].items()},
        },
        "rows": [_plain_entry(entry) for entry in board.entries],
        "notes": list(board.notes),
    }  # fmt: skip


def _plain_entry(entry: Entry) -> dict[str, Any]:
    return {
        "method": entry.label, "from": entry.laboratory, "control": entry.control, "open": entry.open,
        "records": list(entry.addresses), "finished": entry.finished.isoformat(),
        "cells": {
            name: {
                "value": cell.value, "low": cell.low, "high": cell.high, "interval": cell.interval,
                "mark": cell.mark.strip(),
                **({"by_seed": {str(seed): value for seed, value in cell.row.by_seed.items()}} if cell.row else {}),
                **cell.speed,
            }
            for name, cell in entry.cells.items()
        },
    }  # fmt: skip


# --- in words ---


def board_tables(board: Board) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Columns and rows of texts; so many columns of accuracies beside each other as a line holds."""
    if board.kind == "speed":
        columns = ["method", "from", "speedup [95 %]", "by FLOPs", "clips/s", "against FLOPs"]
        yield columns, [[*_who(entry), *_speed_cells(entry.cells[SPEEDUP])] for entry in board.entries]
        return
    names = list(board.columns)
    for shown in (names[start : start + BESIDE] for start in range(0, len(names), BESIDE)):
        rows = [entry for entry in board.entries if any(name in entry.cells for name in shown)]
        yield (
            ["method", "from", *shown],
            [[*_who(entry), *(_accuracy_cell(entry.cells.get(name)) for name in shown)] for entry in rows],
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
    left_out = [f"left out: {counted(refused, 'record')} that cannot be used; `verify` names them"] if refused else []
    return "\n".join([*pieces, *(f"- {line}" for line in [RULE, MARKS, *left_out]), ""])


def _who(entry: Entry) -> list[str]:
    return [f"{entry.label} (open)" if entry.open else entry.label, entry.laboratory]


def _accuracy_cell(cell: Cell | None) -> str:
    if cell is None:
        return EMPTY
    clips = " clips" if cell.interval == "clips" else ""
    return f"{100 * cell.value:.1f} [{100 * cell.low:.1f}, {100 * cell.high:.1f}{clips}]{cell.mark}"


def _rate(clips: float) -> str:
    return f"{clips:,.0f}" if clips >= 10 else f"{clips:.2f}"


def _speed_cells(cell: Cell) -> list[str]:
    more = cell.speed
    ratio = f"{cell.value:.2f}x [{cell.low:.2f}, {cell.high:.2f}]" + " (disturbed)" * more["disturbed"]
    shown = "1 (baseline)" if more["baseline"] else "within noise" if more["within_noise"] else ratio
    flops = EMPTY if more["flop_ratio"] is None else f"{more['flop_ratio']:.2f}x"
    return [shown, flops, _rate(more["clips_per_second"]), more["judgement"]]
