"""What it takes to know differences to within some points, as a table (`compare --half-width`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd

from datasets.wording import counted
from harness.records.differences import Pair
from harness.records.power import Needed, Power, power
from harness.report.apart import QUESTIONS
from harness.report.cells import EMPTY, Cells, Figures, figures, known, number, texts
from harness.report.frame import NUMBER, TEXT, Columns, typed
from harness.studies.compare import Column

_UNITS = {"these": ("seeds",), "new": ("seeds", "people", "both")}
"""What may be increased, by the question."""
_ENDS = {"": "count", "_low": "low", "_high": "high"}
"""Of a `Needed`, by the ending of its columns."""
_POWER_COLUMNS: Columns = {
    "setting": TEXT,
    "column": TEXT,
    "above": TEXT,
    "below": TEXT,
    "wanted": NUMBER,
    **{
        f"{question}_{name}": TEXT if name == "why" else NUMBER
        for question, units in _UNITS.items()
        for name in ("half_width", *(f"{unit}{end}" for unit in units for end in _ENDS), "why")
    },
}
_NONE = "none"
"""No number is enough."""


def power_frame(setting: str, column: Column, found: Sequence[Pair], wanted: float) -> pd.DataFrame:
    """A line a pair of a column's rows, as numbers; `_POWER_COLUMNS`. Half-widths are shares of 1.

    A number of seeds or people is missing where it cannot be said, infinite where none is enough.

    Args:
        found: the pairs, in their order.
        wanted: half-width of the 95 % interval of a difference, a share of 1.
    """
    rows = {row.label: row for row in column.rows}
    lines = []
    for pair in found:
        one, other = rows[pair.above], rows[pair.below]
        line = {
            "setting": setting,
            "column": column.name,
            "above": pair.above,
            "below": pair.below,
            "wanted": wanted,
            **_figures("these", power(one, other, wanted)),
        }
        if column.subjects is not None:
            line |= _figures("new", power(one, other, wanted, column.subjects))
        lines.append(line)
    return typed(lines, _POWER_COLUMNS)


def _figures(question: str, found: Power) -> Figures:
    needed: dict[str, Needed | None] = {unit: getattr(found, unit) for unit in _UNITS[question]}
    return {
        f"{question}_half_width": found.half_width,
        **{
            f"{question}_{unit}{end}": one and getattr(one, name)
            for unit, one in needed.items()
            for end, name in _ENDS.items()
        },
        f"{question}_why": found.why,
    }


def power_table(frame: pd.DataFrame) -> pd.DataFrame:
    """`power_frame` as text: the columns in which something is known."""
    cells: Cells = {"above": lambda row: row["above"], "below": lambda row: row["below"]}
    for question, units in _UNITS.items():
        half, mark = f"{question}_half_width", " (new)" * (question == "new")
        cells = {
            **cells,
            **(
                {f"{QUESTIONS[question]}: half-width": _half(half)}
                if _known_in(frame, half)
                else {}
            ),
            **{
                f"{unit}{mark} [95 %]": _needed(f"{question}_{unit}")
                for unit in units
                if _known_in(frame, f"{question}_{unit}")
            },
        }
    return texts(frame, cells)


def _known_in(frame: pd.DataFrame, column: str) -> bool:
    """Some line has a value there."""
    return bool(frame[column].notna().any())


def _half(name: str) -> Callable[[Figures], str]:
    return lambda row: number(row[name], ".1f", 100)


def _needed(name: str) -> Callable[[Figures], str]:
    """``46 [15, 1,688]``."""

    def write(row: Figures) -> str:
        count, low, high = (row[f"{name}{end}"] for end in _ENDS)
        return f"{_count(count)} [{_count(low)}, {_count(high)}]" if known(count) else EMPTY

    return write


def _count(value: float) -> str:
    return f"{value:,.0f}" if math.isfinite(value) else _NONE


def power_lines(frame: pd.DataFrame) -> list[str]:
    """What the numbers are, and for each question how far it is to the wanted half-width."""
    wanted = f"±{100 * frame['wanted'].iloc[0]:g} points"
    name = frame["column"].iloc[0]
    return [
        f"half-width: of a difference's 95 % interval, in points, before Holm; how many {wanted} "
        "take by the variances measured here [by the ends of their 95 % χ² intervals]: seeds, with "
        "these people; people, with these seeds; both, as many seeds as people; "
        f"{_NONE}: no number is enough, for what the others vary by stays",
        *(f"{name}, {text}: {_said(frame, one, wanted)}" for one, text in QUESTIONS.items()),
    ]


def plain_power(frame: pd.DataFrame) -> list[dict[str, object]]:
    """As values for a program: what is not known is left out, null where no number is enough."""
    return [
        {
            name: None if isinstance(value, float) and math.isinf(value) else value
            for name, value in row.items()
            if known(value) and value != ""
        }
        for row in figures(frame)
    ]


def _said(frame: pd.DataFrame, question: str, wanted: str) -> str:
    """How many pairs are known so well, and what the pair takes that takes the most."""
    rows = figures(frame)
    bounded = [row for row in rows if known(row[f"{question}_half_width"])]
    there = sum(row[f"{question}_half_width"] <= row["wanted"] for row in bounded)
    said = [f"{wanted} for {there} of {counted(len(bounded), 'pair')}"] if bounded else []
    reasons = (row[f"{question}_why"] for row in rows)
    if why := ", ".join(dict.fromkeys(one for one in reasons if known(one) and one)):
        said.append(f"not testable ({why})")
    for unit in _UNITS[question]:
        name = f"{question}_{unit}"
        if possible := [row for row in rows if known(row[name])]:
            most = max(possible, key=lambda row: row[name])
            pair = f"{most['above']} over {most['below']}"
            said.append(
                f"all pairs take {_needed(name)(most)} {'of ' * (unit == 'both')}{unit} ({pair})"
                if math.isfinite(most[name])
                else f"no number of {unit} alone is enough for every pair ({pair})"
            )
    return "; ".join(said) or "not testable (who is in the test clips is not known)"
