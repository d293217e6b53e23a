"""NTU RGB+D as CTR-GCN's preparation writes it: ``NTU60_CS.npz``,
``NTU120_CSub.npz`` and the like.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.checks import refuse
from datasets.clips import BLOCK_BYTES
from datasets.formats.archive import Archive, open_archive
from datasets.raw.base import Found, RawClip, Reading, Unit
from datasets.raw.ntu.facts import NOBODY, NtuSource, OfNtu60, OfNtu120
from datasets.wording import listed

_SIDES = ("train", "test")
MOST_ROWS = 64
"""Rows of a unit."""
COPIES = "second bodies that were copies of the first, emptied"
_VALUES = 150  # of a frame: two bodies of 25 joints
_OFFICIAL: Mapping[str, str] = {
    "cs": "xsub", "csub": "xsub", "xsub": "xsub", "cv": "xview", "cview": "xview",
    "xview": "xview", "cset": "xset", "xset": "xset", "csetup": "xset", "xsetup": "xset",
}  # fmt: skip
"""Words in the names of such files (CTR-GCN's, MAMP's) to the official split that they stand for.
"""


class _NtuNpz(NtuSource, ABC):
    """An archive of ``x_train`` [N, T, 150], one-hot ``y_train`` [N, classes], ``x_test`` and
    ``y_test``.

    The clips are taken through the standard chain already and padded with zeros at the end, which
    are cut off here. The file has neither subjects nor views, only its two sides: the official
    split that its name tells (``NTU60_CS``, ``NTU60_XView``, ``NTU120_CSub``, ``NTU120_CSet``),
    else ``as stored``. NTU RGB+D 120's second body is a copy of the first where a clip has one
    body; it is emptied, as everywhere in this suite (see `datasets.raw.ntu.tree._NtuTree`), and
    counted. Columns: ``label``, ``subject`` (-1), ``side``, ``names`` (``train-00012``).

    Arrays are mapped from the file where they are stored as they are (`numpy.savez`), otherwise
    from a copy in the cache folder, and never unpickled; a unit reads at most 64 rows.
    """

    version = 2
    expects = (
        "a .npz file of x_train [N, T, 150], y_train [N, classes], x_test and y_test, as CTR-GCN"
        " writes it"
    )
    chunk = 1
    is_file = True

    def __init__(self, raw: Path) -> None:
        super().__init__(raw)
        told = [
            _OFFICIAL[word] for word in re.findall("[a-z]+", raw.stem.lower()) if word in _OFFICIAL
        ]
        self.default_split = told[0] if told and told[0] in self.published else "as stored"
        self.assumed = (
            f"split {self.default_split}, "
            + ("by the file's name" if told else "no name tells which"),
        )
        self.splits = {self.default_split: "side:train->test"}
        official = self.published.get(self.default_split)
        self.expected = {self.default_split: official} if official else {}

    def find(self) -> Found:
        """Blocks of rows of both sides. Raises `DataError` when an array is missing
        or of another form.
        """
        units, rows = list[Unit](), dict[str, int]()
        with open_archive(self.raw) as archive:
            for side in _SIDES:
                rows[side], block = self._rows(archive, side)
                starts = range(0, rows[side], block)
                spans = [(first, min(first + block, rows[side])) for first in starts]
                units += [
                    Unit(f"{side}-{a:05} to {b - 1:05}", self.raw, f"{side}:{a}:{b}")
                    for a, b in spans
                ]
                _mapped(
                    archive, side
                )  # makes the copies that are needed, before several workers ask for them
            others = archive.members.keys() - {f"{kind}_{side}" for kind in "xy" for side in _SIDES}
        if not units:
            refuse(str(self.raw), "x_train", "at least one clip", "none", "prepare the file anew")
        counts = {"found": sum(rows.values())}
        return Found(
            units,
            counts
            | ({f"arrays not read: {listed(sorted(others))}": len(others)} if others else {}),
        )

    def read(self, unit: Unit) -> Reading:
        """The clips of a block; one that is all zeros, or has no single class, is a problem."""
        side, first, last = str(unit.part).split(":")
        with open_archive(self.raw) as archive:
            frames, classes = (
                np.array(array[int(first) : int(last)]) for array in _mapped(archive, side)
            )
        reading = Reading()
        for row, (clip, one_hot) in enumerate(zip(frames, classes, strict=True), int(first)):
            self._add(reading, side, f"{side}-{row:05}", clip, one_hot)
        return reading

    def _rows(self, archive: Archive, side: str) -> tuple[int, int]:
        """Clips of a side, and how many make a unit."""
        where, (x, y) = str(archive.path), (f"x_{side}", f"y_{side}")
        for name in (x, y):
            if name not in archive.members:
                refuse(
                    where,
                    name,
                    "an array of this name",
                    listed(archive.members),
                    f"name {self.expects}",
                )
        frames, classes = archive.members[x], archive.members[y]
        if (
            len(frames.shape) != 3
            or frames.shape[1] < 1
            or frames.shape[2] != _VALUES
            or frames.dtype.kind != "f"
        ):
            found = f"{frames.dtype} of shape {list(frames.shape)}"
            refuse(
                where,
                x,
                "floating-point numbers of shape [N, T, 150]",
                found,
                "prepare the file anew",
            )
        wanted = (frames.shape[0], len(self.class_names))
        if classes.shape != wanted or classes.dtype.kind not in "biuf":
            found = f"{classes.dtype} of shape {list(classes.shape)}"
            step = "prepare it as the other edition of NTU RGB+D, or anew"
            refuse(where, y, f"one-hot classes of shape {list(wanted)}", found, step)
        row_bytes = max(1, frames.shape[1] * _VALUES * 4)
        return frames.shape[0], max(1, min(MOST_ROWS, BLOCK_BYTES // row_bytes))

    def _add(
        self, reading: Reading, side: str, name: str, frames: NDArray, one_hot: NDArray
    ) -> None:
        """Add a row, frames [T, 150] and classes [K], to what was read."""
        hot = np.flatnonzero(one_hot)
        real = np.flatnonzero(frames.any(axis=1))
        if len(hot) != 1 or one_hot[hot[0]] != 1:
            reading.problems.append(
                f"{self.raw}: {name}: expected one class, a single 1, found {len(hot)} set"
            )
        elif not len(real):
            reading.problems.append(f"{self.raw}: {name}: no body in any frame")
            reading.counts[NOBODY] += 1
        else:
            joints = (
                frames[: real[-1] + 1].astype(np.float32).reshape(-1, 2, self.layout.joint_count, 3)
            )
            if np.array_equal(joints[:, 0], joints[:, 1]):
                joints[:, 1] = 0
                reading.counts[COPIES] += 1
            reading.clips.append(
                RawClip(joints, {"label": int(hot[0]), "subject": -1, "side": side, "names": name})
            )


class Ntu60Npz(_NtuNpz, OfNtu60):
    """NTU RGB+D 60: ``NTU60_CS.npz`` or ``NTU60_CV.npz``."""


class Ntu120Npz(_NtuNpz, OfNtu120):
    """NTU RGB+D 120: ``NTU120_CSub.npz`` or ``NTU120_CSet.npz``."""


def _mapped(archive: Archive, side: str) -> tuple[NDArray, NDArray]:
    """Frames [N, T, 150] and classes [N, K] of a side, on disk."""
    return archive.map(f"x_{side}"), archive.map(f"y_{side}")
