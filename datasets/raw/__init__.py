"""Readers of raw downloads, one file per data set (`datasets.raw.base.Source`),
and the preparation that runs them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from datasets.errors import DataError
from datasets.raw.base import Source
from datasets.wording import listed, nearest

SOURCES: Mapping[str, str] = {
    "ntu60": "ntu.tree:open_ntu60",
    "ntu120": "ntu.tree:open_ntu120",
    "pkummd1": "pkummd:PkuMmd1",
    "pkummd2": "pkummd:PkuMmd2",
    "nwucla": "nwucla:NwUcla",
    "utdmhad": "utdmhad:UtdMhad",
    "uiprmd": "uiprmd:UiPrmd",
    "bvh": "bvh:Bvh",
    "npz": "npz:ExchangeFile",
}
"""Data sets that can be prepared: module and what opens the raw folder there.
Imported when asked for.
"""

FILES = ("npz",)
"""Those whose raw path is a file; of the others it is a folder."""

_HANDS = (
    "hand tips and thumbs (joints 22 to 25) have the hand as parent; in CTR-GCN's list a tip has"
    " the thumb"
)
_PKU = (
    _HANDS,
    (
        "clips are centred on the first body's spine, unless data.center=false; MAMP's stay in the"
        " camera's metres"
    ),
    "clips keep all their frames; MAMP's end after 300",
)
DEVIATIONS: Mapping[str, tuple[str, ...]] = {
    "ntu60": (_HANDS,),
    "ntu120": (
        _HANDS,
        (
            "where a clip has one body, the second place is empty; CTR-GCN and MAMP copy the body"
            " there"
        ),
    ),
    "pkummd1": _PKU,
    "pkummd2": _PKU,
}
"""Where a data set, as prepared and batched here,
differs from the released code that others use, one sentence each.
"""


def raw_word(name: str) -> str:
    """What ``--raw`` takes of a data set, in the examples of messages."""
    return "FILE" if name in FILES else "FOLDER"


def open_source(name: str, raw: Path) -> Source:
    """The source of a data set; a `DataError` for an unknown name or a folder
    that is none of it.
    """
    if name not in SOURCES:
        raise DataError(
            f"unknown data set {name!r}; {nearest(name, SOURCES)}these can be prepared:"
            f" {listed(SOURCES, len(SOURCES))}"
        )
    module, _, opener = SOURCES[name].partition(":")
    opened: Callable[[Path], Source] = getattr(import_module(f"datasets.raw.{module}"), opener)
    return opened(raw)
