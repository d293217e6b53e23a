"""`ClipSet`: labelled skeleton clips as one packed frame array plus an index; never padded.

What a clip set is made of is checked by `datasets.checks.validate`; it is read from and written to disk by
`datasets.exchange`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.layouts import SkeletonLayout

BLOCK_BYTES = 32 * 2**20
"""Frames are gone through in blocks of about this many bytes, so that mapped data never fills the memory."""


@dataclass(frozen=True)
class ClipSet:
    """N clips of up to M bodies with V joints.

    Attributes:
        name: data set name, e.g. ``"synthetic"``.
        joints: [F, M, V, 3] packed frames of all clips, metres, y up; float32 or float16, may be
            memory-mapped. A body that is absent in a frame is all zeros there.
        offsets: [N + 1] int64; clip i is ``joints[offsets[i]:offsets[i + 1]]``.
        columns: per-clip columns of length N; always ``label`` (int64, index into `class_names`) and
            ``subject`` (int64, -1 unknown), others (``view``, ``correct``, ...) where the source has them.
        class_names: class names, index = label.
        layout: the skeleton.
        fps: frames per second.
        default_split: the split used when none is asked for.
        origin: [N, 3] float32 metres, or None. Add it to every joint of a clip for the source's coordinates;
            nothing here does, because clips are centred before use.
    """

    name: str
    joints: NDArray[np.floating]
    offsets: NDArray[np.int64]
    columns: Mapping[str, NDArray]
    class_names: tuple[str, ...]
    layout: SkeletonLayout
    fps: float
    default_split: str = "xsub"
    origin: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def clip(self, index: int) -> NDArray[np.float32]:
        """Frames of one clip, [T, M, V, 3] float32."""
        return np.asarray(self.joints[self.offsets[index] : self.offsets[index + 1]], dtype=np.float32)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N] frames of every clip."""
        return np.diff(self.offsets)

    def describe(self, index: int) -> str:
        """How messages call a clip: its index, and its entry in the column ``names`` where there is one."""
        names = self.columns.get("names", ())
        return f"clip {index} ({names[index]})" if index < len(names) else f"clip {index}"


def frame_blocks(joints: NDArray[np.floating]) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """(first frame, [f, M, V, 3] frames) over all of ``joints`` in order, about `BLOCK_BYTES` at a time."""
    step = max(1, BLOCK_BYTES // max(1, joints[:1].nbytes))
    for first in range(0, len(joints), step):
        yield first, np.asarray(joints[first : first + step])


def fingerprint(clips: ClipSet) -> str:
    """SHA-256 (64 hex digits) of frames, offsets, label, subject, class names and parents.

    The frames count as little-endian float32, so the same data has the same fingerprint in memory, mapped
    from disk or stored as float16; two laboratories can compare theirs without sharing the data.
    """
    digest = hashlib.sha256(f"joints {list(clips.joints.shape)}\n".encode())
    for _, block in frame_blocks(clips.joints):
        digest.update(np.ascontiguousarray(block, dtype="<f4").data)
    integers = {"offsets": clips.offsets, **{name: clips.columns[name] for name in ("label", "subject")}}
    for name, values in (integers | {"parents": np.array(clips.layout.parents)}).items():
        digest.update(f"\n{name} {len(values)}\n".encode())
        digest.update(np.ascontiguousarray(values, dtype="<i8").data)
    digest.update(f"\nclass_names {list(clips.class_names)!r}".encode())
    return digest.hexdigest()


def repeated_clips(clips: ClipSet) -> tuple[NDArray[np.int64], ...]:
    """Groups of two or more clips whose joints are equal in every frame, as ascending clip indices.

    Labels and other columns are not looked at. The groups are in the order of their first clip.
    """
    groups: dict[bytes, list[int]] = {}
    for index in range(len(clips)):
        frames = clips.clip(index) + np.float32(0)  # -0.0 equals 0.0 but has other bytes
        groups.setdefault(hashlib.sha256(frames.data).digest(), []).append(index)
    return tuple(np.array(group, dtype=np.int64) for group in groups.values() if len(group) > 1)
