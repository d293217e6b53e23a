"""Readers of raw downloads, one file per data set (`datasets.raw.base.Source`), and the preparation that runs them."""

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
"""Data sets that can be prepared: module and what opens the raw folder there. Imported when asked for."""


def open_source(name: str, raw: Path) -> Source:
    """The source of a data set; a `DataError` for an unknown name or a folder that is none of it."""
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}; {nearest(name, SOURCES)}these can be prepared: {listed(SOURCES)}")
    module, _, opener = SOURCES[name].partition(":")
    opened: Callable[[Path], Source] = getattr(import_module(f"datasets.raw.{module}"), opener)
    return opened(raw)
