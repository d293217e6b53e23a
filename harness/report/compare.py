"""Which rows of a folder are better: every accuracy with its interval, every pair of rows,
and who is above whom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from datasets.wording import counted, printable
from harness.records.differences import Interval, Pair, Row, pairs, people_interval
from harness.records.evaluations import SELECTED, Evaluations
from harness.report.apart import MARKS, NEW, QUESTIONS, THESE, closing, marks, points
from harness.report.cells import (
    EMPTY,
    Cells,
    Figures,
    accuracy_text,
    formatted,
    known,
    p_text,
    texts,
)
from harness.report.folder import FolderTable
from harness.report.frame import (
    NUMBER,
    TEXT,
    TRUTH,
    WHOLE,
    Columns,
    accuracy_figures,
    standing,
    typed,
)
from harness.report.power import plain_power, power_frame, power_lines, power_table
from harness.report.table import grid
from harness.studies.compare import (
    PROBES,
    PROTOCOL,
    Column,
    are_folds,
    both_folds,
    probe_columns,
    protocol_columns,
)

_BEST = "best test point (the papers' habit)"
ROW_COLUMNS: Columns = {
    "setting": TEXT,
    "column": TEXT,
    "label": TEXT,
    "control": TRUTH,
    "seeds": WHOLE,
    "test_clips": WHOLE,
    "accuracy": NUMBER,
    "accuracy_sd": NUMBER,
    "accuracy_low": NUMBER,
    "accuracy_high": NUMBER,
    "accuracy_mark": TEXT,
    "best": NUMBER,
    "best_sd": NUMBER,
    "best_low": NUMBER,
    "best_high": NUMBER,
    "people_accuracy": NUMBER,
    "people_accuracy_low": NUMBER,
    "people_accuracy_high": NUMBER,
}
PAIR_COLUMNS: Columns = {
    "setting": TEXT,
    "column": TEXT,
    "above": TEXT,
    "below": TEXT,
    **{
        f"{question}_{name}": kind
        for question in QUESTIONS
        for name, kind in {
            "difference": NUMBER,
            "low": NUMBER,
            "high": NUMBER,
            "p": NUMBER,
            "holm": NUMBER,
            "apart": TRUTH,
            "seeds": WHOLE,
            "subjects": WHOLE,
            "sign_flips": NUMBER,
            "smallest": NUMBER,
            "why": TEXT,
        }.items()
    },
}


@dataclass(frozen=True)
class Comparison:
    """One column of one of a folder's tables.

    Attributes:
        setting: what tells its table from the folder's others, empty where there is one.
        these: all pairs of rows by *these people*; `new` by *new people*, empty where no prediction
            is there.
        wanted: half-width of a difference's 95 % interval, of which it says what it would take.
    """

    setting: str
    column: Column
    these: list[Pair]
    new: list[Pair]
    wanted: float | None = None

    @property
    def heading(self) -> str:
        """Its name in a page of several."""
        return ", ".join(filter(None, [self.column.name, self.setting]))

    @property
    def rows(self) -> pd.DataFrame:
        """One line a row of the table, as numbers; `ROW_COLUMNS`."""
        marked = standing(self.column.rows, self.these)
        return typed((self._row(row, marked) for row in self.column.rows), ROW_COLUMNS)

    def _row(self, row: Row, marked: Mapping[str, str]) -> Figures:
        values, clips = list(row.by_seed.values()), self.column.clips
        people = self._people(row)
        return {
            "setting": self.setting,
            "column": self.column.name,
            "label": row.label,
            "control": row.control,
            "seeds": None if row.constant else len(values),
            "test_clips": clips,
            **accuracy_figures("accuracy", values, clips),
            "accuracy_mark": marked.get(row.label, ""),
            **accuracy_figures("best", self.column.best.get(row.label, ()), clips, chosen=True),
            "people_accuracy": people and people.mean,
            "people_accuracy_low": people and max(people.low, 0.0),
            "people_accuracy_high": people and min(people.high, 1.0),
        }

    def _people(self, row: Row) -> Interval | None:
        if not self.new or not row.right or self.column.subjects is None:
            return None
        return people_interval(np.stack(list(row.right.values())), self.column.subjects)

    @property
    def pairs(self) -> pd.DataFrame:
        """One line a pair of rows, as numbers; `PAIR_COLUMNS`."""
        new = {frozenset((pair.above, pair.below)): pair for pair in self.new}
        return typed(
            (
                {
                    "setting": self.setting,
                    "column": self.column.name,
                    "above": pair.above,
                    "below": pair.below,
                    **_figures("these", pair),
                    **(
                        _figures("new", _turned(new[frozenset((pair.above, pair.below))], pair))
                        if new
                        else {}
                    ),
                }
                for pair in self.these
            ),
            PAIR_COLUMNS,
        )

    def row_table(self, *, wide: bool = False) -> pd.DataFrame:
        """One line a row of the table; every cell a string.

        Args:
            wide: with standard deviations and the papers' habit.
        """
        cells: Cells = {
            "row": lambda row: row["label"],
            "seeds": formatted("seeds", "d"),
            "accuracy [95 %]": lambda row: accuracy_text(row, "accuracy", spread=wide),
            **(
                {_BEST: lambda row: accuracy_text(row, "best")} if self.column.best and wide else {}
            ),
            **({f"{NEW} [95 %]": _people_text} if self.new else {}),
        }
        return texts(self.rows, cells)

    def pair_table(self, *, wide: bool = False) -> pd.DataFrame:
        """One line a pair of rows; every cell a string.

        Args:
            wide: with the tests' p before Holm, and that of sign flips.
        """
        cells: Cells = {
            "above": lambda row: row["above"],
            "below": lambda row: row["below"],
            **(_wide_cells("these") if wide else _pair_cells("these")),
            **({"sign flips p (smallest)": _flips} if wide else {}),
            **((_wide_cells("new") if wide else _pair_cells("new")) if self.new else {}),
        }
        return texts(self.pairs, cells)

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
    def power(self) -> pd.DataFrame:
        """What the wanted half-width would take, a line a pair (`harness.report.power`)."""
        return power_frame(self.setting, self.column, self.these, self.wanted or 0.0)

    def tables(self, *, wide: bool = False) -> list[tuple[pd.DataFrame, list[str]]]:
        """Its tables as text, each with what stands below it."""
        found = [(self.row_table(wide=wide), []), (self.pair_table(wide=wide), self.lines)]
        if self.wanted is not None:
            found.append((power_table(self.power), power_lines(self.power)))
        return found

    @property
    def plain(self) -> dict[str, Any]:
        """As values for a program."""
        return {
            "setting": self.setting,
            "column": self.column.name,
            "rows": [
                {"label": row.label, "by_seed": dict(row.by_seed)} for row in self.column.rows
            ],
            "these_people": [_plain(pair) for pair in self.these],
            "new_people": [_plain(pair) for pair in self.new],
            "notes": self.lines,
            **({} if self.wanted is None else {"power": plain_power(self.power)}),
        }


def comparisons(
    tables: Sequence[FolderTable], evaluations: Evaluations, wanted: float | None = None
) -> list[Comparison]:
    """Every column of every table of a folder that has two rows or more, then those of both folds
    of a split.

    Args:
        wanted: half-width of a difference's 95 % interval, a share of 1, of which each says what it
            would take.
    """
    named = [
        (table.heading if len(tables) > 1 else "", table.runs, columns_of(table, evaluations))
        for table in tables
    ]
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
            setting,
            column,
            pairs(column.rows),
            [] if column.subjects is None else pairs(column.rows, column.subjects),
            wanted,
        )
        for setting, column in found
        if len(column.rows) > 1
    ]


def columns_of(table: FolderTable, evaluations: Evaluations) -> list[Column]:
    """The run's own probes, then protocols."""
    return [*probe_columns(table.runs), *protocol_columns(table.runs, evaluations)]


def two_encoders(found: Sequence[Comparison]) -> list[str]:
    """Of which of a run's encoders figures are, where those of both stand beside each other."""
    names = dict.fromkeys(comparison.column.name for comparison in found)
    probes = [name for name in names if name in PROBES]
    last = [name for name in names if name.startswith(PROTOCOL) and not name.endswith(SELECTED)]
    if not (probes and last):
        return []
    return [
        f"two accuracies of a row may differ: {', '.join(probes)} are of the run's own evaluation"
        f" that counts, which held-out subjects select where there are any; {', '.join(last)} of"
        " the last encoder"
    ]


def compare_frames(found: Sequence[Comparison]) -> dict[str, pd.DataFrame]:
    """Rows of all comparisons, their ``pairs``, and ``power`` where it is wanted, as numbers."""
    frames = {
        "": [comparison.rows for comparison in found],
        "pairs": [comparison.pairs for comparison in found],
        "power": [comparison.power for comparison in found if comparison.wanted is not None],
    }
    return {name: pd.concat(one, ignore_index=True) for name, one in frames.items() if one}


def compare_page(
    found: Sequence[Comparison], command: str, left_out: Sequence[str] = (), *, wide: bool = False
) -> str:
    """All comparisons as Markdown; `wide`: every column."""
    pieces = [f"    {printable(command)}\n"]
    for comparison in found:
        pieces.append(f"## {printable(comparison.heading)}\n")
        for table, lines in comparison.tables(wide=wide):
            notes = "".join(f"- {printable(line)}\n" for line in lines)
            pieces.append("\n".join([grid(table), *([notes] if notes else [])]))
    below = [*two_encoders(found), *left_out]
    return "\n".join([*pieces, *(f"- {printable(line)}" for line in below)])


def _turned(pair: Pair, like: Pair) -> Pair:
    """The pair in the order of another one of the same rows;
    two questions may put different rows above.
    """
    if pair.above == like.above:
        return pair
    return pair.turned


def _figures(question: str, pair: Pair) -> Figures:
    difference = pair.difference
    interval, bounded = difference.interval, math.isfinite(difference.interval.low)
    values = {
        "difference": interval.mean,
        "low": interval.low if bounded else None,
        "high": interval.high if bounded else None,
        "p": difference.p,
        "holm": pair.holm,
        "apart": None if pair.holm is None else pair.apart,
        "seeds": difference.seeds,
        "subjects": difference.subjects,
        "sign_flips": difference.flips,
        "smallest": difference.smallest,
        "why": difference.why,
    }
    return {f"{question}_{name}": value for name, value in values.items()}


def _pair_cells(question: str) -> Cells:
    name = QUESTIONS[question]
    return {
        f"{name}: points": lambda row: _points(row, question),
        "told apart" + " (new)" * (question == "new"): lambda row: _told(
            row[f"{question}_apart"], "yes", "no"
        ),
    }


def _wide_cells(question: str) -> Cells:
    name = QUESTIONS[question]
    return {
        f"{name}: points [95 %]": lambda row: _points(row, question),
        f"{name}: p": lambda row: p_text(row[f"{question}_p"]),
        f"{name}: Holm": lambda row: p_text(row[f"{question}_holm"]),
        name: lambda row: _told(row[f"{question}_apart"], "told apart", "not told apart"),
    }


def _told(apart: Any, yes: str, no: str) -> str:
    return EMPTY if not known(apart) else yes if apart else no


def _points(row: Figures, question: str) -> str:
    mean, low, high = (row[f"{question}_{name}"] for name in ("difference", "low", "high"))
    return points(Interval(mean, *((low, high) if known(low) else (-math.inf, math.inf))))


def _people_text(row: Figures) -> str:
    mean, low, high = (row[f"people_accuracy{part}"] for part in ("", "_low", "_high"))
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]" if known(mean) else EMPTY


def _flips(row: Figures) -> str:
    flips, smallest = row["these_sign_flips"], row["these_smallest"]
    return f"{p_text(flips)} ({p_text(smallest)})" if known(flips) else EMPTY


def _plain(pair: Pair) -> dict[str, Any]:
    difference = pair.difference
    return {
        "above": pair.above,
        "below": pair.below,
        "difference": difference.interval.mean,
        "interval": None
        if difference.p is None
        else [difference.interval.low, difference.interval.high],
        "seeds": difference.seeds,
        "subjects": difference.subjects,
        "p": difference.p,
        "sign_flips": difference.flips,
        "smallest": difference.smallest,
        "holm": pair.holm,
        "apart": pair.apart,
        "why": difference.why,
    }


def left_out(refused: Sequence[object]) -> list[str]:
    """What a page says of records that cannot be used."""
    return (
        [f"left out: {counted(len(refused), 'record')} that cannot be used; `verify` names them"]
        if refused
        else []
    )
