"""Which rows of a folder are better: every accuracy with its interval, every pair of rows, and who is above whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from datasets.wording import counted, printable
from harness.records.differences import Pair, Row, pairs, people_interval
from harness.records.evaluations import Evaluations
from harness.report.apart import EMPTY, MARKS, accuracy_cell, bounds, closing, marks, p_text, points
from harness.report.folder import FolderTable
from harness.report.table import plain_markdown
from harness.studies.compare import Column, are_folds, both_folds, probe_columns, protocol_columns

THESE, NEW = "these people", "new people"
BEST = "best test point (the papers' habit)"


@dataclass(frozen=True)
class Comparison:
    """One column of one of a folder's tables.

    Attributes:
        setting: what tells its table from the folder's others, empty where there is one.
        these: all pairs of rows by *these people*; `new` by *new people*, empty where no prediction is there.
    """

    setting: str
    column: Column
    these: list[Pair]
    new: list[Pair]

    @property
    def heading(self) -> str:
        """Its name in a page of several."""
        return ", ".join(filter(None, [self.column.name, self.setting]))

    @property
    def rows(self) -> pd.DataFrame:
        """One line a row of the table."""
        marked = marks(self.column.rows, self.these)
        return pd.DataFrame([self._row(row, marked) for row in self.column.rows])

    def _row(self, row: Row, marked: dict[str, str]) -> dict[str, str]:
        values = list(row.by_seed.values())
        return {
            "row": row.label,
            "seeds": EMPTY if row.constant else str(len(values)),
            "accuracy [95 %]": accuracy_cell(values, self.column.clips) + marked.get(row.label, ""),
            **({BEST: self._best_cell(row)} if self.column.best else {}),
            **({f"{NEW} [95 %]": self._people_cell(row)} if self.new else {}),
        }

    def _best_cell(self, row: Row) -> str:
        return accuracy_cell(self.column.best.get(row.label, ()), self.column.clips, chosen=True)

    def _people_cell(self, row: Row) -> str:
        if not row.right or self.column.subjects is None:
            return EMPTY
        interval = people_interval(np.stack(list(row.right.values())), self.column.subjects)
        return f"{100 * interval.mean:.1f} [{bounds(interval)}]" if interval else EMPTY

    @property
    def pairs(self) -> pd.DataFrame:
        """One line a pair of rows."""
        new = {frozenset((pair.above, pair.below)): pair for pair in self.new}
        return pd.DataFrame(
            [
                {
                    "above": pair.above,
                    "below": pair.below,
                    **_cells(THESE, pair),
                    "sign flips p (smallest)": _flips(pair),
                    **(_cells(NEW, _turned(new[frozenset((pair.above, pair.below))], pair)) if new else {}),
                }
                for pair in self.these
            ]
        )

    @property
    def lines(self) -> list[str]:
        """What stands below."""
        found = [MARKS] if marks(self.column.rows, self.these) else []
        lost = self.column.uncounted
        return [
            *found,
            *([f"{self.column.name}, not counted: {'; '.join(lost)}"] if lost else []),
            *closing(self.column.name, self.these, THESE),
            *(closing(self.column.name, self.new, NEW) or [self._no_people]),
        ]

    @property
    def _no_people(self) -> str:
        kept = any(row.right for row in self.column.rows)
        why = (
            "who is in the test clips is not known"
            if kept
            else "no prediction for each test clip; `evaluate` keeps them"
        )
        return f"{self.column.name}, {NEW}: not testable ({why})"

    @property
    def plain(self) -> dict[str, Any]:
        """As values for a program."""
        return {
            "setting": self.setting,
            "column": self.column.name,
            "rows": [{"label": row.label, "by_seed": dict(row.by_seed)} for row in self.column.rows],
            "these_people": [_plain(pair) for pair in self.these],
            "new_people": [_plain(pair) for pair in self.new],
            "notes": self.lines,
        }


def comparisons(tables: Sequence[FolderTable], evaluations: Evaluations) -> list[Comparison]:
    """Every column of every table of a folder that has two rows or more, then those of both folds of a split."""
    named = [(table.heading if len(tables) > 1 else "", table.runs, columns_of(table, evaluations)) for table in tables]
    found = [(setting, column) for setting, _, columns in named for column in columns]
    for setting, runs, columns in named:
        for _, others, theirs in named:
            if runs and others and are_folds(runs[0], others[0]):
                partners = {column.name: column for column in theirs}
                found += [
                    (f"both folds of: {setting}", both_folds(column, partners[column.name]))
                    for column in columns
                    if column.name in partners
                ]
    return [
        Comparison(
            setting, column, pairs(column.rows), [] if column.subjects is None else pairs(column.rows, column.subjects)
        )
        for setting, column in found
        if len(column.rows) > 1
    ]


def columns_of(table: FolderTable, evaluations: Evaluations) -> list[Column]:
    """The run's own probes, then protocols."""
    return [*probe_columns(table.runs), *protocol_columns(table.runs, evaluations)]


def compare_page(found: Sequence[Comparison], command: str, left_out: Sequence[str] = ()) -> str:
    """All comparisons as Markdown."""
    pieces = [f"    {printable(command)}\n"]
    for comparison in found:
        tables = (_headless(plain_markdown(table, command)) for table in (comparison.rows, comparison.pairs))
        lines = "".join(f"- {printable(line)}\n" for line in comparison.lines)
        pieces.append(f"## {printable(comparison.heading)}\n\n" + "\n".join([*tables, lines]))
    return "\n".join([*pieces, *(f"- {printable(line)}" for line in left_out)])


def _headless(page: str) -> str:
    """A table without the command above it."""
    return page.partition("\n\n")[2]


def _cells(question: str, pair: Pair) -> dict[str, str]:
    told = EMPTY if pair.holm is None else "told apart" if pair.apart else "not told apart"
    return {
        f"{question}: points [95 %]": points(pair.difference.interval),
        f"{question}: p": p_text(pair.difference.p),
        f"{question}: Holm": p_text(pair.holm),
        f"{question}": told,
    }


def _turned(pair: Pair, like: Pair) -> Pair:
    """The pair in the order of another one of the same rows; two questions may put different rows above."""
    if pair.above == like.above:
        return pair
    return pair.turned


def _flips(pair: Pair) -> str:
    difference = pair.difference
    return EMPTY if difference.flips is None else f"{p_text(difference.flips)} ({p_text(difference.smallest)})"


def _plain(pair: Pair) -> dict[str, Any]:
    difference = pair.difference
    return {
        "above": pair.above, "below": pair.below, "difference": difference.interval.mean,
        "interval": None if difference.p is None else [difference.interval.low, difference.interval.high],
        "seeds": difference.seeds, "subjects": difference.subjects, "p": difference.p, "sign_flips": difference.flips,
        "smallest": difference.smallest, "holm": pair.holm, "apart": pair.apart, "why": difference.why,
    }  # fmt: skip


def left_out(refused: Sequence[object]) -> list[str]:
    """What a page says of records that cannot be used."""
    return [f"left out: {counted(len(refused), 'record')} that cannot be used; `verify` names them"] if refused else []
