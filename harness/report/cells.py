"""The last step: how numbers of a frame (`harness.report.frame`)
become the text of a table's cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from harness.records.ratios import MOSTLY_DISTURBED

EMPTY = "-"
TRAINS_FASTER = "trains faster"
"""Heading of the verdict on "trains faster than the baseline" (benchmarks/RULES.md)."""

Figures = Mapping[str, Any]
"""A row of a frame, by column."""
Cells = Mapping[str, Callable[[Figures], str]]
"""A table: how each cell of a row is written, by its column's heading."""


def figures(frame: pd.DataFrame) -> list[Figures]:
    """Its rows."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def texts(frame: pd.DataFrame, cells: Cells) -> pd.DataFrame:
    """A table of strings, a row for each of the frame's."""
    rows = [[write(row) for write in cells.values()] for row in figures(frame)]
    return pd.DataFrame(rows, columns=list(cells), dtype=object)


def known(value: Any) -> bool:
    """It is there: neither None, NaN nor `pd.NA`."""
    return not pd.isna(value)


def formatted(name: str, form: str, scale: float = 1) -> Callable[[Figures], str]:
    """A column of the frame, as `number` writes it."""
    return lambda row: number(row[name], form, scale)


def number(value: Any, form: str, scale: float = 1, *, missing: str = EMPTY) -> str:
    """A number times a scale in a format (``.1f``), or a dash where it is missing."""
    return format(value * scale, form) if known(value) else missing


def interval_text(row: Figures, name: str) -> str:
    """``2.20x [2.00, 2.40]``, of a ratio's columns."""
    return f"{row[name]:.2f}x [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"


def method_text(row: Figures) -> str:
    """The row's label, marked where the method brings its own encoder."""
    return f"{row['label']} (open)" if known(row["open"]) and row["open"] else str(row["label"])


# --- accuracies ---


def accuracy_text(row: Figures, name: str, *, spread: bool = True) -> str:
    """``73.0 ± 3.6 [64.0, 82.0] best`` over seeds, in %; of one seed ``73.0 [70.1, 75.7 clips]``.

    Args:
        name: of the frame's columns, as `harness.report.frame.accuracy_figures` makes them, and of
            the mark beside.
        spread: with the standard deviation.
    """
    value, sd, low, high = (row[f"{name}{part}"] for part in ("", "_sd", "_low", "_high"))
    if not known(value):
        return EMPTY
    text = number(value, ".1f", 100)
    if known(sd) and spread:
        text += f" ± {100 * sd:.1f}"
    if known(low):
        text += f" [{100 * low:.1f}, {100 * high:.1f}{'' if known(sd) else ' clips'}]"
    return text + _mark_text(row.get(f"{name}_mark"))


def mean_text(row: Figures, name: str) -> str:
    """``73.0 best``: the mean alone, and its mark."""
    value = row[name]
    return (
        number(value, ".1f", 100) + _mark_text(row.get(f"{name}_mark")) if known(value) else EMPTY
    )


def _mark_text(mark: Any) -> str:
    """`` best``, behind a number; empty where there is none."""
    return f" {mark}" if known(mark) and mark else ""


# --- speed ---


def speedup_text(row: Figures) -> str:
    """The measured speedup with its interval, or why there is none."""
    if not known(row["clips_per_second"]):
        return EMPTY
    if not known(row["speedup"]):
        return "open division" if row["open"] else EMPTY
    if row["label"] == row["baseline"]:
        return "1 (baseline)"
    return "within noise" if row["within_noise"] else ratio_text(row)


def ratio_text(row: Figures) -> str:
    """A measured ratio with its interval; marked
    where the interval promises more than the blocks hold.
    """
    mark = " (disturbed)" if row["disturbed_share"] > MOSTLY_DISTURBED else ""
    return interval_text(row, "speedup") + mark


def flop_text(row: Figures) -> str:
    """The speedup that FLOPs predict, where there is one."""
    return f"{row['flop_ratio']:.2f}x" if known(row["flop_ratio"]) else EMPTY


def judgement_text(row: Figures) -> str:
    """How runs ended that did not end well, or else what is judged of the row's speed."""
    return row.get("status") or (row["judgement"] if known(row["judgement"]) else EMPTY)


def rate_text(row: Figures) -> str:
    """Clips/s."""
    rate = row["clips_per_second"]
    return number(rate, ",.0f" if known(rate) and rate >= 10 else ".2f")


def p_text(p: Any) -> str:
    """``0.031``."""
    return EMPTY if not known(p) else f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def blocks(table: pd.DataFrame, width: int = 100) -> list[pd.DataFrame]:
    """A table of strings in parts that are no wider, where that can be;
    each begins with its first column.
    """
    first, *others = table.columns
    widths = {name: max(map(len, [name, *table[name]])) + 2 for name in table}
    parts: list[list[str]] = [[]]
    for name in others:
        if parts[-1] and widths[first] + sum(widths[one] for one in [*parts[-1], name]) > width:
            parts.append([])
        parts[-1].append(name)
    return [table[[first, *part]] for part in parts]
