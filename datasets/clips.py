"""`ClipSet`: labelled skeleton clips as one packed frame array plus an index; never padded.

What a clip set is made of is checked by `datasets.checks.validate`; it is read from and written to
disk by `datasets.formats.npz`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datasets.layouts import SkeletonLayout

BLOCK_BYTES = 32 * 2**20
"""Frames are gone through in blocks of about this many bytes,
so that mapped data never fills the memory.
"""


@dataclass(frozen=True)
class Stored:
    """What a store remembers of its clips, so that opening it reads no frames.

    Attributes:
        fingerprint: as `fingerprint` computes it.
        hashes: [N] uint64, equal for clips with equal joints (`clip_hash`).
        present: [N, M] as `present_bodies` finds them.
        origins: [N, 3] float32 as `clip_origins` finds them.
    """

    fingerprint: str
    hashes: NDArray[np.uint64]
    present: NDArray[np.bool_]
    origins: NDArray[np.float32]


@dataclass(frozen=True)
class ClipSet:
    """N clips of up to M bodies with V joints.

    Attributes:
        name: data set name, e.g. ``"synthetic"``.
        joints: [F, M, V, 3] packed frames of all clips, metres, y up; float32 or float16, may be
            memory-mapped. A body that is absent in a frame is all zeros there.
        offsets: [N + 1] int64; clip i is ``joints[offsets[i]:offsets[i + 1]]``.
        columns: per-clip columns of length N; always ``label`` (int64, index into `class_names`)
            and ``subject`` (int64, -1 unknown), others (``view``, ``correct``, ...) where the
            recordings have them.
        class_names: class names, index = label.
        layout: the skeleton.
        fps: frames per second.
        default_split: the split used when none is asked for.
        splits: names of the data set's official splits to split texts (`datasets.splits`).
        stored: what was computed once, when a store was made (`datasets.formats.store`); None
            elsewhere.
    """

    name: str
    joints: NDArray[np.floating]
    offsets: NDArray[np.int64]
    columns: Mapping[str, NDArray]
    class_names: tuple[str, ...]
    layout: SkeletonLayout
    fps: float
    default_split: str = "xsub"
    splits: Mapping[str, str] = field(default_factory=dict)
    stored: Stored | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def clip(self, index: int) -> NDArray[np.float32]:
        """Frames of one clip, [T, M, V, 3] float32."""
        return np.asarray(
            self.joints[self.offsets[index] : self.offsets[index + 1]], dtype=np.float32
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N] frames of every clip."""
        return np.diff(self.offsets)

    def describe(self, index: int) -> str:
        """How messages call a clip: its index,
        and its entry in the column ``names`` where there is one.
        """
        names = self.columns.get("names", ())
        return f"clip {index} ({names[index]})" if index < len(names) else f"clip {index}"


def frame_blocks(joints: NDArray[np.floating]) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """(first frame, [f, M, V, 3] frames) over all of ``joints`` in order,
    about `BLOCK_BYTES` at a time.
    """
    step = max(1, BLOCK_BYTES // max(1, joints[:1].nbytes))
    for first in range(0, len(joints), step):
        yield first, np.asarray(joints[first : first + step])


def present_bodies(clips: ClipSet) -> NDArray[np.bool_]:
    """``[N, M]`` bool: body m has a non-zero coordinate in clip n."""
    if clips.stored:
        return clips.stored.present
    frames, bodies = clips.joints.shape[:2]
    visible = np.empty((frames, bodies), dtype=bool)
    for first, block in frame_blocks(clips.joints):
        visible[first : first + len(block)] = block.any(axis=(2, 3))
    return np.logical_or.reduceat(visible, clips.offsets[:-1], axis=0)


def clip_origins(clips: ClipSet, present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``[N, 3]`` center joint of each clip's first present body
    in that body's first non-zero frame.
    """
    if clips.stored:
        return clips.stored.origins
    origins = np.zeros((len(clips), 3), dtype=np.float32)
    for index in np.nonzero(present.any(axis=1))[0]:
        frames = clips.joints[clips.offsets[index] : clips.offsets[index + 1]]
        origins[index] = clip_origin(frames, clips.layout.center)
    return origins


def clip_origin(frames: NDArray[np.floating], center: int) -> NDArray[np.floating]:
    """``[3]`` center joint of the first present body of a clip [T, M, V, 3],
    in that body's first non-zero frame.
    """
    body = frames[:, int(frames.any(axis=(0, 2, 3)).argmax())]
    return body[int(body.any(axis=(1, 2)).argmax()), center]


class Fingerprint:
    """A fingerprint in the making: frames first, in order and in any pieces, then the index.

    Args:
        shape: [F, M, V, 3] of all frames together.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.digest = hashlib.sha256(f"joints {list(shape)}\n".encode())

    def frames(self, block: NDArray[np.floating]) -> None:
        """The next frames."""
        self.digest.update(
            (np.ascontiguousarray(block, dtype="<f4") + np.float32(0)).data
        )  # -0.0 is 0.0

    def index(
        self,
        offsets: NDArray,
        label: NDArray,
        subject: NDArray,
        parents: Sequence[int],
        class_names: Sequence[str],
    ) -> str:
        """The fingerprint, 64 hex digits."""
        integers = {
            "offsets": offsets,
            "label": label,
            "subject": subject,
            "parents": np.array(parents),
        }
        for name, values in integers.items():
            self.digest.update(f"\n{name} {len(values)}\n".encode())
            self.digest.update(np.ascontiguousarray(values, dtype="<i8").data)
        self.digest.update(f"\nclass_names {list(class_names)!r}".encode())
        return self.digest.hexdigest()


def fingerprint(clips: ClipSet) -> str:
    """SHA-256 (64 hex digits) of frames, offsets, label, subject, class names and parents.

    The frames count as little-endian float32, so the same data has the same fingerprint in memory,
    mapped from disk or stored as float16; two laboratories can compare theirs without sharing the
    data.
    """
    made = Fingerprint(clips.joints.shape)
    for _, block in frame_blocks(clips.joints):
        made.frames(block)
    columns = clips.columns["label"], clips.columns["subject"]
    return made.index(clips.offsets, *columns, clips.layout.parents, clips.class_names)


def clip_hash(frames: NDArray[np.float32]) -> np.uint64:
    """The first eight bytes of the SHA-256 of a clip's frames [T, M, V, 3]; -0.0 counts as 0.0."""
    digest = hashlib.sha256((np.ascontiguousarray(frames, "<f4") + np.float32(0)).data).digest()
    return np.uint64(int.from_bytes(digest[:8], "big"))


def clip_hashes(clips: ClipSet) -> list[int]:
    """`clip_hash` of every clip."""
    if clips.stored:
        return clips.stored.hashes.tolist()
    return [int(clip_hash(clips.clip(index))) for index in range(len(clips))]


def repeated_clips(clips: ClipSet) -> tuple[NDArray[np.int64], ...]:
    """Groups of two or more clips whose joints are equal in every frame, as ascending clip indices.

    Labels and other columns are not looked at. The groups are in the order of their first clip.
    """
    groups: dict[int, list[int]] = {}
    for index, value in enumerate(clip_hashes(clips)):
        groups.setdefault(value, []).append(index)
    return tuple(np.array(group, dtype=np.int64) for group in groups.values() if len(group) > 1)
