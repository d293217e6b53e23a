"""A file in the exchange format as a store: opened at once however large it is, checked once."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from datasets.clips import ClipSet
from datasets.formats.npz import not_kept, read_npz
from datasets.raw.base import Found, RawClip, Reading, Source, Unit
from datasets.wording import listed

_BLOCK = 64
"""Clips of a unit."""


class ExchangeFile(Source):
    """An ``.npz`` in the exchange format (`datasets.formats.npz`), all columns kept; ``names``
    counts where missing.

    What `datasets.formats.npz` leaves out is counted, an ``origin`` apart.
    """

    version = 2
    title = "exchange file"
    expects = "the path of an .npz in the exchange format"
    chunk = 1
    is_file = True

    def __init__(self, raw: Path) -> None:
        super().__init__(raw)
        clips = read_npz(raw)
        self.title = raw.stem
        self.layout, self.fps, self.class_names = clips.layout, clips.fps, clips.class_names
        self.bodies, self.default_split, self.count = (
            clips.joints.shape[1],
            clips.default_split,
            len(clips),
        )

    def find(self) -> Found:
        """Blocks of clips."""
        starts = range(0, self.count, _BLOCK)
        counts, others = {"found": self.count}, not_kept(self.raw)
        if others:
            counts[f"arrays that are no columns, left out: {listed(others)}"] = len(others)
        return Found([Unit(f"clips from {first}", self.raw, first) for first in starts], counts)

    def read(self, unit: Unit) -> Reading:
        """The clips of a block."""
        clips, first = _opened(self.raw), int(unit.part)
        found = []
        for number in range(first, min(first + _BLOCK, len(clips))):
            columns = {name: values[number].item() for name, values in clips.columns.items()}
            found.append(RawClip(clips.clip(number), {"names": str(number), **columns}))
        return Reading(found)


@lru_cache(maxsize=1)
def _opened(path: Path) -> ClipSet:
    return read_npz(path, memory_limit=0, check_frames=False)
