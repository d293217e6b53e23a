"""Data sets by name: the synthetic ones, those that were prepared, and those of installed packages.

`open_clips` is the one door to data: a name, a store's folder or an ``.npz`` file. A package adds a
data set under the entry point ``masked_skeleton.datasets``: a function without required arguments
that returns a `ClipSet`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.formats.npz import read_npz
from datasets.formats.store import (
    check_prepared,
    is_store,
    open_prepared,
    open_store,
    read_header,
    stores_dir,
)
from datasets.formats.store_check import Advance
from datasets.raw import SOURCES, raw_word
from datasets.wording import listed, nearest, one_line

_GROUP = "masked_skeleton.datasets"
MADE = {
    "synthetic": "datasets.synthetic.generation",
    "synthetic-twins": "datasets.synthetic.twins",
    "ntu60-sized": "datasets.synthetic.ntu60_sized",
}
"""Data sets that are made here: name -> module with a function ``load``."""
_ABOUT_MADE = {
    "synthetic": "24 made-up bodies, 16 actions, 3 cameras: 1,152 clips; no licence needed",
    "synthetic-twins": (
        "as synthetic, with six near-doubles of its actions (backwards, out of phase, sideways):"
        " 22 classes"
    ),
    "ntu60-sized": (
        "made-up clips, as many as NTU RGB+D 60 has (56,578, of them 40,091 to train on); for"
        " speed and memory, never for accuracy"
    ),
}


def open_clips(
    name: str,
    *,
    check_frames: bool = True,
    afresh: bool = False,
    advance: Advance = lambda done, total: None,
) -> ClipSet:
    """The clips of a data set.

    Args:
        name: of a data set; or the path of a store or of an ``.npz`` file.
        check_frames: look at every frame of an ``.npz``.
        afresh: hash a store that was hashed before (`datasets.formats.store.open_store`).
        advance: told of bytes done and bytes in all while a store is hashed.

    Raises:
        DataError: there is no such data set, or it is not what it should be.
    """
    path = Path(name)
    if path.is_dir() and is_store(path):
        return open_store(path, afresh=afresh, advance=advance)
    if path.is_dir() and (_is_path(name) or name not in known_names()):
        raise DataError(
            f"{name}: expected a prepared store or an .npz file, found a folder that is no store;"
            " raw files are read by python -m harness data prepare NAME --raw FOLDER"
        )
    if name.endswith(".npz") or _is_path(name):
        return read_npz(path, check_frames=check_frames)
    if name in SOURCES:
        return open_prepared(name, raw=raw_word(name), afresh=afresh, advance=advance)
    return _loader(name)()


def check_known(name: str) -> None:
    """Refuse data sets (`set_names`) that no name stands for or that are not prepared here;
    nothing is read.

    Raises:
        DataError: as `open_clips`.
    """
    for piece in set_names(name):
        if piece.endswith(".npz") or _is_path(piece) or Path(piece).is_dir():
            continue
        if piece in SOURCES:
            check_prepared(piece, raw=raw_word(piece))
        elif piece not in known_names():
            raise _unknown(piece)


def set_names(name: str) -> list[str]:
    """The data sets of ``a+b+c``; a file or folder of that very name is one."""
    names = (
        [name]
        if "+" not in name or Path(name).exists()
        else [piece.strip() for piece in name.split("+")]
    )
    if not all(names):
        raise DataError(
            f"{name}: expected a data set on both sides of every +, found nothing on one"
        )
    if twice := [piece for piece in dict.fromkeys(names) if names.count(piece) > 1]:
        raise DataError(f"{name}: expected different data sets, found {twice[0]} more than once")
    return names


def _is_path(name: str) -> bool:
    """Paths of Windows may have another separator."""
    return any(separator in name for separator in (os.sep, os.altsep) if separator)


def about() -> dict[str, str]:
    """Every name with one line on what it is, or on how to get it."""
    found = _ABOUT_MADE | {name: _about_prepared(name) for name in SOURCES}
    found |= {point.name: f"of the package {point.value.partition('.')[0]}" for point in _points()}
    return dict(sorted(found.items()))


def _loader(name: str) -> Callable[[], ClipSet]:
    if name in MADE:
        made: Callable[[], ClipSet] = import_module(MADE[name]).load
        return made
    points = {point.name: point for point in _points()}
    if name in points:
        return _loaded(points[name])
    raise _unknown(name)


def _unknown(name: str) -> DataError:
    known = known_names()
    return DataError(
        f"unknown data set {name!r}; {nearest(name.casefold(), known)}known:"
        f" {listed(known, len(known))}"
    )


def known_names() -> list[str]:
    """All data sets that a name stands for."""
    return sorted({*MADE, *SOURCES, *(point.name for point in _points())})


def _points() -> list[EntryPoint]:
    """Entry points of installed packages, without those whose name is taken."""
    return [point for point in entry_points(group=_GROUP) if point.name not in {*MADE, *SOURCES}]


def _loaded(point: EntryPoint) -> Callable[[], ClipSet]:
    try:
        loaded = point.load()
    except Exception as error:  # a foreign package may fail in any way; its reason is passed on
        raise DataError(
            f"data set {point.name!r} ({point.value}) did not load: {one_line(error)}"
        ) from error
    if not callable(loaded):
        raise DataError(
            f"data set {point.name!r}: expected a function at {point.value}, found"
            f" {type(loaded).__name__}"
        )
    return loaded


def _about_prepared(name: str) -> str:
    folder = stores_dir() / name
    if not is_store(folder):
        return f"not prepared: harness data prepare {name} --raw {raw_word(name)}"
    try:
        return f"{read_header(folder).title}, prepared"
    except DataError as error:
        return str(error)
