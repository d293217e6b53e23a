"""Tables of a page: what stands in a cell, what it is sorted by,
and the record that it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        sort: a number that it is sorted by; by its text without one.
        link: where in the page its record stands.
        tone: how it is shown: ``good``, ``bad``, ``faint`` or empty.
    """

    text: str
    sort: float | None = None
    link: str = ""
    tone: str = ""


@dataclass(frozen=True)
class Grid:
    """A table of a page.

    Attributes:
        anchors: of each row, where there are any.
        numbers: places of the columns that hold numbers.
        texts: how many columns, from the first, hold words where all others hold numbers; 0 where
            `numbers` says it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    anchors: Sequence[str] = ()
    numbers: frozenset[int] = field(default_factory=frozenset)
    texts: int = 0


EMPTY = "-"


def sort_key(value: Any) -> float | None:
    """What a cell is sorted by, None where there is no number."""
    return None if pd.isna(value) else float(value)


def number(value: Any, form: str, *, link: str = "", scale: float = 1.0, unit: str = "") -> Cell:
    """A number in a cell, a dash where there is none."""
    if pd.isna(value):
        return Cell(EMPTY)
    return Cell(f"{scale * float(value):{form}}{unit}", float(value), link)


def of_strings(table: pd.DataFrame, links: Mapping[str, str] | None = None, texts: int = 1) -> Grid:
    """A table of strings.

    Args:
        links: where the records of a row stand, by the text of its first column.
        texts: how many columns, from the first, hold words.
    """
    links = links or {}
    rows = [
        [
            Cell(
                str(text),
                link=links.get(str(row[0]), "") if place >= texts and text != EMPTY else "",
            )
            for place, text in enumerate(row)
        ]
        for row in table.itertuples(index=False, name=None)
    ]
    return Grid([str(column) for column in table.columns], rows, texts=texts)


def grid(
    columns: Mapping[str, bool], rows: Iterable[Sequence[Cell]], anchors: Sequence[str] = ()
) -> Grid:
    """A table; `columns` by name, whether they hold numbers."""
    numbers = frozenset(place for place, holds in enumerate(columns.values()) if holds)
    return Grid(list(columns), list(rows), anchors, numbers)
