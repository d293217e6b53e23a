"""The doctor's one pass over the frames: gaps, frozen frames, steps, bones, and votes for up and
for left and right.

Frames are gone through in blocks of whole clips, about `_BLOCK_BYTES` at a time; what is kept is a
few numbers per clip. Nothing here judges: `datasets.doctor.examination` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.clips import ClipSet, Fingerprint, Stored, clip_hash, clip_origin
from datasets.doctor.body import FORWARD, RIGHT, TALL, body_vectors, hip_joint, least_forward
from datasets.layouts import SkeletonLayout

_BLOCK_BYTES = 8 * 2**20
_LEAST_FRAMES = 8
"""Frames of a body below which nothing is said about how steady its bones are."""
_MOST_POSES = 1000
"""Poses that are kept to look at the joints' distances, one from every so many clips."""
_EIGHTHS = 8
_STEP_BITS = 16
"""Steps are counted by the upper half of their float32 bits: bins that are 0.8 % wide,
whatever the size.
"""

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Block:
    """Some whole clips that stand one after the other.

    Attributes:
        first: the first clip.
        raw: [f, M, V, 3] frames as they are stored.
        starts: [n + 1] where each clip starts in them, and their number.
        layout: the skeleton.
    """

    first: int
    raw: NDArray[np.floating]
    starts: NDArray[np.int64]
    layout: SkeletonLayout

    @cached_property
    def finite(self) -> Bools:
        """[f, M, V, 3]."""
        return np.isfinite(self.raw)

    @cached_property
    def joints(self) -> Floats:
        """[f, M, V, 3] float32; a coordinate that is no finite number is 0."""
        joints = np.asarray(self.raw, np.float32)
        return joints if self.finite.all() else np.where(self.finite, joints, np.float32(0))

    @cached_property
    def body(self) -> Bools:
        """[f, M] the body is there."""
        return np.asarray(_flat(self.joints).any(axis=2))

    @cached_property
    def missing(self) -> Bools:
        """[f, M, V] the joint is at the origin and the body is there.

        Root and centre joint never count: clips are centred on them.
        """
        x, y, z = np.moveaxis(self.joints, 3, 0)
        missing = (x == 0) & (y == 0) & (z == 0) & self.body[..., None] & self.finite.all(axis=3)
        missing[..., [self.layout.parents.index(-1), self.layout.center]] = False
        return missing

    @cached_property
    def seen(self) -> Bools:
        """[f, M, V] the joint has a position."""
        return self.body[..., None] & ~self.missing & self.finite.all(axis=3)

    @cached_property
    def follows(self) -> Bools:
        """[f - 1] the frame after this one is of the same clip."""
        follows = np.ones(len(self.raw) - 1, dtype=bool)
        follows[self.starts[1:-1] - 1] = False
        return follows

    @property
    def clips(self) -> slice:
        """Indices of the clips."""
        return slice(self.first, self.first + len(self.starts) - 1)

    def per_clip(self, ufunc: np.ufunc, values: Any) -> NDArray:
        """``[n, ...]`` the values [f, ...] of each clip's frames, reduced."""
        return ufunc.reduceat(values, self.starts[:-1], axis=0)

    def most_per_clip(self, values: NDArray) -> NDArray:
        """``[n]`` largest of the values [f - 1] between the frames of each clip,
        0 in a clip of one frame.
        """
        return self.per_clip(
            np.maximum, np.append(np.where(self.follows, values, 0), values.dtype.type(0))
        )


def _blocks(clips: ClipSet) -> Iterator[Block]:
    """All clips in order, as many at a time as take about `_BLOCK_BYTES` as float32;
    at least one.
    """
    step = max(1, _BLOCK_BYTES // max(1, 4 * int(np.prod(clips.joints.shape[1:]))))
    first = 0
    while first < len(clips):
        reach = int(np.searchsorted(clips.offsets, clips.offsets[first] + step, side="right")) - 1
        last = max(first + 1, reach)
        offsets = clips.offsets[first : last + 1]
        yield Block(
            first,
            np.asarray(clips.joints[offsets[0] : offsets[-1]]),
            offsets - offsets[0],
            clips.layout,
        )
        first = last


class FramePass:
    """What is found in the frames of a clip set.

    Attributes:
        not_finite: [N] coordinates that are NaN or infinite, per clip.
        empty: [N] frames without any body.
        missing: [V] times that a joint of a present body has no position.
        gaps: [N] frames in which a present body lacks a joint.
        frozen: [N] frames equal to the one before, in all coordinates.
        longest_frozen: [N] longest run of them.
        steps: [2^15] joint steps from one frame to the next, counted by the upper bits of their
            length.
        largest_step: [N] longest step of a joint.
        largest_shift: [N] longest step of a body's mean position.
        present: [N, M] the body is there in some frame.
        copied: [N] a second body equals the first in every frame.
        poses: up to `_MOST_POSES` times [V, 3], in the middle of their clips.
        up_votes: [6] frames in which feet to head points along each of
            `datasets.doctor.body.DIRECTIONS`.
        tallest: list of [rows, 6] largest extent from feet to head in those directions, per clip
            and body.
        facing: [3, 8] frames in which left to right points into each eighth of a turn about each
            axis.
        spans: list of [rows, 2, 3] how far the hips, and the feet, go along each axis, per clip and
            body.
        side_votes: [2, 3] frames that agree and frames that disagree with no mirroring, were that
            axis up, of those in which toes or knees stand out enough to tell; `side_total` with or
            without.
        variations, lengths: lists of [rows, V - 1] coefficient of variation and mean of each bone
            of the layout.
        rows: list of [rows] the clip of each row.
    """

    def __init__(self, clips: ClipSet) -> None:
        count, (_, bodies, joints, _) = len(clips), clips.joints.shape
        self.not_finite, self.empty, self.gaps, self.frozen, self.longest_frozen = np.zeros(
            (5, count), np.int64
        )
        self.largest_step, self.largest_shift = np.zeros((2, count), np.float32)
        self.present, self.copied = np.zeros((count, bodies), bool), np.zeros(count, bool)
        self.missing = np.zeros(joints, np.int64)
        self.steps = np.zeros(1 << 15, np.int64)
        self.up_votes, self.side_votes, self.side_total = (
            np.zeros(6, np.int64),
            np.zeros((2, 3), np.int64),
            0,
        )
        self.facing = np.zeros((3, _EIGHTHS), np.int64)
        self.poses: list[Floats] = []
        self.tallest: list[Floats] = []
        self.spans: list[Floats] = []
        self.variations: list[Floats] = []
        self.lengths: list[Floats] = []
        self.rows: list[NDArray[np.int64]] = []
        self.vectors, self.hips = body_vectors(clips.layout), hip_joint(clips.layout)
        self.least_forward = least_forward(clips.layout)
        self.bones = np.array(clips.layout.bones, np.int64).reshape(-1, 2)
        self.every = -(-count // _MOST_POSES)

    def add(self, block: Block) -> None:
        """Look at the next clips."""
        self._gaps(block)
        self._motion(block)
        self._bones(block)
        self._directions(block)
        self._poses(block)

    def _gaps(self, block: Block) -> None:
        if not block.finite.all():
            self.not_finite[block.clips] = block.per_clip(
                np.add, (~block.finite).sum(axis=(1, 2, 3))
            )
        self.empty[block.clips] = block.per_clip(np.add, (~block.body.any(axis=1)).astype(np.int64))
        self.gaps[block.clips] = block.per_clip(
            np.add, block.missing.any(axis=(1, 2)).astype(np.int64)
        )
        self.missing += block.missing.sum(axis=(0, 1))
        self.present[block.clips] = block.per_clip(np.logical_or, block.body)
        first, *others = np.moveaxis(_flat(block.joints), 1, 0)
        same = np.array(
            [(other == first).all(axis=1) for other in others] or [np.zeros(len(first), bool)]
        ).any(axis=0)
        self.copied[block.clips] = block.per_clip(np.logical_and, same)

    def _motion(self, block: Block) -> None:
        delta = block.joints[1:] - block.joints[:-1]
        both = block.seen[1:] & block.seen[:-1] & block.follows[:, None, None]
        size = _norms(delta)
        self.steps += np.bincount(
            size[both].view(np.uint32) >> _STEP_BITS, minlength=len(self.steps)
        )
        self.largest_step[block.clips] = block.most_per_clip(
            np.where(both, size, 0).max(axis=(1, 2))
        )
        shift = _norms(delta.mean(axis=2))
        self.largest_shift[block.clips] = block.most_per_clip(
            np.where(both.all(axis=2), shift, 0).max(axis=1)
        )
        frozen = block.follows & ~size.any(axis=(1, 2)) & block.body[1:].any(axis=1)
        self.frozen[block.clips] = block.per_clip(np.add, np.append(frozen, False).astype(np.int64))
        self.longest_frozen[block.clips] = block.most_per_clip(run_lengths(frozen))

    def _bones(self, block: Block) -> None:
        child, parent = self.bones.T
        seen = block.seen[..., child] & block.seen[..., parent]
        length = _norms(block.joints[:, :, child] - block.joints[:, :, parent]).astype(np.float64)
        length[~seen] = 0
        count = block.per_clip(np.add, seen.astype(np.int64))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = block.per_clip(np.add, length) / count
            square = block.per_clip(np.add, length**2) / count
            variation = np.sqrt(np.maximum(square - mean**2, 0)) / mean
        variation[count < _LEAST_FRAMES] = np.nan
        clip, body = np.nonzero(self.present[block.clips])
        self.variations.append(variation[clip, body].astype(np.float32))
        self.lengths.append(mean[clip, body].astype(np.float32))
        self.rows.append(clip + block.first)

    def _directions(self, block: Block) -> None:
        vectors = np.moveaxis(self.vectors @ block.joints, 2, 0)
        known = np.stack(
            [block.seen[..., weights != 0].all(axis=-1) & weights.any() for weights in self.vectors]
        )
        tall = vectors[TALL]
        axis = np.abs(tall).argmax(axis=-1)
        down = np.take_along_axis(tall, axis[..., None], axis=-1)[..., 0] < 0
        self.up_votes += np.bincount((2 * axis + down)[known[TALL]], minlength=6)
        extents = np.stack([tall, -tall], axis=-1).reshape(*tall.shape[:2], 6)
        extents[~known[TALL]] = 0
        self.tallest.append(block.per_clip(np.maximum, extents)[self.present[block.clips]])
        both = known[RIGHT] & known[FORWARD]
        # Toes point along up x right, and toes . (up x right) = up . (right x toes).
        turned = np.cross(vectors[RIGHT], vectors[FORWARD])[both]
        least = (self.least_forward * _norms(vectors[RIGHT]) * _norms(vectors[TALL]))[both][:, None]
        self.side_votes += (turned > least).sum(axis=0), (turned < -least).sum(axis=0)
        self.side_total += int(both.sum())
        self._facing(vectors[RIGHT][known[RIGHT]])
        self._spans(block)

    def _facing(self, right: Floats) -> None:
        for axis in range(3):
            angle = np.arctan2(right[:, axis - 1], right[:, axis - 2]) / (2 * np.pi) + 0.5
            eighths = np.minimum((_EIGHTHS * angle).astype(np.int64), _EIGHTHS - 1)
            self.facing[axis] += np.bincount(eighths, minlength=_EIGHTHS)

    def _spans(self, block: Block) -> None:
        feet = np.maximum(-self.vectors[TALL], 0)
        hips = np.eye(block.layout.joint_count, dtype=np.float32)[self.hips or 0]
        spans = []
        for weights in (hips, feet):
            seen, place = (
                block.seen[..., weights != 0].all(axis=-1, keepdims=True),
                weights @ block.joints,
            )
            top = block.per_clip(np.maximum, np.where(seen, place, -np.inf))
            spans.append(
                np.maximum(top - block.per_clip(np.minimum, np.where(seen, place, np.inf)), 0)
            )
        self.spans.append(np.stack(spans, axis=2)[self.present[block.clips]])

    def _poses(self, block: Block) -> None:
        for clip in range(-(-block.first // self.every) * self.every, block.clips.stop, self.every):
            start, end = block.starts[clip - block.first : clip - block.first + 2]
            whole = np.argwhere(block.seen[start:end].all(axis=2))
            if len(whole):
                frame, body = whole[len(whole) // 2]
                self.poses.append(
                    block.joints[start + frame, body].copy()
                )  # a view would keep the block


def _flat(joints: Floats) -> Floats:
    """[f, M, V * 3]."""
    return joints.reshape(*joints.shape[:2], -1)


def _norms(vectors: Floats) -> Floats:
    """Lengths of vectors [..., 3]."""
    return np.sqrt(np.einsum("...c,...c->...", vectors, vectors))


def run_lengths(flags: Bools) -> NDArray[np.int64]:
    """``[n]`` how many True stand in a row up to and including each place; 0 where it is False."""
    place = np.arange(1, len(flags) + 1)
    return place - np.maximum.accumulate(np.where(flags, 0, place))


def step_percentile(steps: NDArray[np.int64], percent: float) -> float:
    """The step below which ``percent`` of the counted ones lie, to within 0.8 %;
    0 when there are none.
    """
    if not steps.sum():
        return 0.0
    place = int(np.searchsorted(np.cumsum(steps), percent / 100 * steps.sum()))
    return float(np.array((place + 1) << _STEP_BITS, np.uint32).view(np.float32)) if place else 0.0


def steps_above(steps: NDArray[np.int64], size: float) -> int:
    """How many counted steps are longer than ``size``, to within 0.8 % of it."""
    return int(steps[(int(np.float32(size).view(np.uint32)) >> _STEP_BITS) + 1 :].sum())


@dataclass
class _FingerprintPass:
    """Fingerprint, hashes and origins of the clips, computed on the way as a store does it.

    Attributes:
        shape: [F, M, V, 3] of all frames together.
    """

    shape: tuple[int, ...]
    hashes: list[np.uint64] = field(default_factory=list)
    origins: list[NDArray[np.floating]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.made = Fingerprint(self.shape)

    def add(self, block: Block) -> None:
        """The next clips."""
        self.made.frames(block.raw)
        for start, end in zip(block.starts, block.starts[1:], strict=False):
            frames = np.asarray(block.raw[start:end], np.float32)
            self.hashes.append(clip_hash(frames))
            self.origins.append(clip_origin(frames, block.layout.center).copy())

    def stored(self, clips: ClipSet, present: Bools) -> Stored:
        """What a store of these clips would remember."""
        label, subject = clips.columns["label"], clips.columns["subject"]
        fingerprint = self.made.index(
            clips.offsets, label, subject, clips.layout.parents, clips.class_names
        )
        return Stored(
            fingerprint,
            np.array(self.hashes, np.uint64),
            present,
            np.array(self.origins, np.float32),
        )


def look(clips: ClipSet, *, identify: bool) -> tuple[FramePass, Stored | None]:
    """Go through all frames once; with ``identify`` also compute what a store
    of these clips would remember.
    """
    seen, identity = FramePass(clips), _FingerprintPass(clips.joints.shape)
    for block in _blocks(clips):
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # absurd coordinates are judged, not warned of
            seen.add(block)
        if identify:
            identity.add(block)
    return seen, identity.stored(clips, seen.present) if identify else None
