"""What the reader of a raw format is: it finds units and turns one into clips;
`datasets.raw.prepare` does the rest.

Units are read in worker processes, so a source, its units and what it reads can be pickled. Reading
the same unit again gives the same clips, bit for bit.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.formats.kinds import expected_folder, names_of
from datasets.layouts import SkeletonLayout

Value = int | float | str


class BrokenFile(Exception):
    """A raw file that cannot be read; it is named with line and reason, counted, and skipped (fatal
    with strict).

    Args:
        path: the file.
        reason: expected what, found what.
        line: where, counted from 1; 0 when no line is to blame.
    """

    def __init__(self, path: Path, reason: str, line: int = 0) -> None:
        super().__init__(path, reason, line)
        self.path, self.reason, self.line = path, reason, line

    def __str__(self) -> str:
        return f"{self.path}{f', line {self.line}' if self.line else ''}: {self.reason}"


@dataclass(frozen=True)
class Unit:
    """A piece of raw data that is read on its own, usually a file.

    Attributes:
        name: unique within the source; units stand in the order in which their clips will.
        path: the file.
        part: which part of the file, where several units share one.
    """

    name: str
    path: Path
    part: int | str = 0


@dataclass(frozen=True)
class RawClip:
    """A clip as it will stand in the store.

    Attributes:
        joints: [T, M, V, 3] float32, metres, y up, finite; an absent body is all zeros. M at most
            `Source.bodies`.
        columns: ``label`` (from 0), ``subject`` (-1 unknown), ``names`` (the clip's own name) and
            others; every clip of a source has the same ones.
    """

    joints: NDArray[np.float32]
    columns: Mapping[str, Value]


@dataclass
class Reading:
    """What came of a unit.

    Attributes:
        clips: clips to keep, in order.
        counts: stages in words to counts, e.g. ``{"bodies dropped, 11 frames or fewer": 1}``.
        problems: clips left out although the rest of the file is fine: one line each.
    """

    clips: list[RawClip] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """What lies in a raw folder.

    Attributes:
        units: to be read, in order.
        counts: stages before reading to counts, in order: found, on the missing list, ...
    """

    units: Sequence[Unit]
    counts: Mapping[str, int]


def files_below(folder: Path, suffix: str = "") -> Iterator[Path]:
    """The files under a folder, all or those of a suffix in either case; linked folders included,
    each once.

    In the order of their names, folder by folder, whatever order the file system lists them in.
    """
    seen = set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        paths = (Path(place) / name for name in sorted(names))
        yield from (path for path in paths if path.suffix.lower() == suffix or not suffix)


class Source(ABC):
    """A raw data set.

    Subclasses set what follows as class attributes, or in ``__init__`` where the raw folder
    decides.

    Attributes:
        title: name and publication.
        layout: its skeleton.
        fps: frames per second.
        bodies: M, most bodies in a clip.
        class_names: names by label.
        default_split: the split used when none is asked for.
        splits: official split names to split texts (`datasets.splits`), e.g.
            ``{"xview": "view:2,3->1"}``.
        expected: official split names to the published numbers of training and test clips.
        expects: what the raw folder must hold, for messages.
        version: of the reader, with all that it is built on in `datasets.raw`. Raised when the same
            raw files would give other clips, counts or problems than before; a test holds it
            against the syntax of the code.
        chunk: units that are read together; their frames are in memory at once, a few MB of them.
        is_file: the raw path is a file, not a folder.
        assumed: what the files do not tell and was assumed, in words; printed by
            ``harness data prepare``.
    """

    title: str
    expects: ClassVar[str]
    version: ClassVar[int]
    chunk: ClassVar[int] = 64
    is_file: ClassVar[bool] = False
    layout: SkeletonLayout
    fps: float
    bodies: int
    class_names: Sequence[str]
    default_split: str = "xsub"
    splits: Mapping[str, str] = {}
    expected: Mapping[str, tuple[int, int]] = {}
    assumed: Sequence[str] = ()

    def __init__(self, raw: Path) -> None:
        expected = f"{raw}: expected {self.expects}"
        if not raw.exists():
            raise DataError(f"{expected}, found nothing there; check the path")
        if self.is_file and raw.is_dir():
            raise DataError(
                f"{expected}, found a folder; name the file in it (there are {names_of(raw)})"
            )
        if not self.is_file and not raw.is_dir():
            raise DataError(f"{expected}, {expected_folder(raw)}")
        self.raw = raw

    def twice(self, what: str, one: Path, other: Path) -> DataError:
        """The error for two files where one is expected."""
        return DataError(
            f"{self.raw}: expected one {what}, found {one} and {other}; keep one of them"
        )

    @abstractmethod
    def find(self) -> Found:
        """The units under `raw`; a `DataError` when there are none, saying what was expected."""

    @abstractmethod
    def read(self, unit: Unit) -> Reading:
        """The clips of a unit. Raises `BrokenFile` (or `OSError`) when it cannot be read."""
