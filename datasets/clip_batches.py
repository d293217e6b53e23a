"""Batches of whole clips, all bodies of a clip cropped and turned alike: what a classifier of clips
is trained on.

Pre-training sees body sequences one by one (`datasets.batches`); a label belongs to a clip. As
there, frames lie on the device, and the augmentation is MAMP's (maoyunyao/MAMP 09e6252,
feeder/tools.py): one crop and one rotation a clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches import Augmentation, BodySequences, random_crops, rotate, test_crops, uniform

VERSION = 1


@dataclass(frozen=True)
class ClipBatch:
    """Clips and their bodies.

    Attributes:
        clips: their numbers.
        x: body sequences of all of them.
        row: place in the batch of the clip that a body belongs to.
        slot: which of that clip's bodies it is, from 0.
    """

    clips: Int[Tensor, "B"]
    x: Float[Tensor, "n T V 3"]
    row: Int[Tensor, "n"]
    slot: Int[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.clips)

    def mean(self, bodies: Float[Tensor, "n ..."]) -> Float[Tensor, "B ..."]:
        """Mean over a clip's bodies; zeros for a clip without a body."""
        count = torch.bincount(self.row, minlength=len(self)).clamp(min=1).to(bodies.dtype)  # [B]
        total = bodies.new_zeros(len(self), *bodies.shape[1:]).index_add(0, self.row, bodies)
        return total / count.view(-1, *[1] * (bodies.ndim - 1))

    def in_slots(self, slots: int) -> Float[Tensor, "B T {slots} V 3"]:
        """The bodies of every clip side by side, absent ones zero."""
        whole = self.x.new_zeros(len(self), slots, *self.x.shape[1:])  # [B, M, T, V, 3]
        whole[self.row, self.slot] = self.x
        return whole.transpose(1, 2)


class ClipBatches:
    """Augmented training batches of clips, epoch by epoch; the same for one seed.

    Args:
        bodies: all body sequences.
        lengths: frames of every clip of the data set.
        clips: numbers of those to train on; one that stands there twice is seen twice an epoch.
        size: clips per batch; all of them where there are fewer.
        frames: T.
        augmentation: crop and rotation.
        seed: order and augmentation.
        drop_last: leave out the rest of an epoch that fills no batch. Otherwise it is a smaller
            batch; a single clip, of which batch norm can make nothing, joins the batch before.
        slots: bodies per clip, absent ones as zeros; None: present bodies only.
    """

    def __init__(
        self,
        bodies: BodySequences,
        lengths: Int[NDArray[np.int64], "N"],
        clips: Int[NDArray[np.int64], "_"],
        *,
        size: int,
        frames: int,
        augmentation: Augmentation,
        seed: int,
        drop_last: bool,
        slots: int | None = None,
    ) -> None:
        self.clip_bodies = ClipBodies(bodies, lengths, frames, slots)
        self.clips = torch.as_tensor(clips, device=bodies.device)
        self.augmentation = augmentation
        self.sizes = batch_sizes(len(clips), size, drop_last=drop_last)
        self.generator = torch.Generator(device=bodies.device).manual_seed(seed)

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(self.sizes)

    def epoch(self) -> Iterator[ClipBatch]:
        """The batches of the next epoch, in a fresh random order."""
        device = self.clips.device
        order = self.clips[torch.randperm(len(self.clips), generator=self.generator, device=device)]
        for chosen in order[: sum(self.sizes)].split(self.sizes):
            first, kept = random_crops(
                self.clip_bodies.lengths[chosen], self.augmentation, self.generator
            )
            turn = uniform(chosen, self.generator, 3)  # [B, 3]
            batch = self.clip_bodies.batch(chosen, first, kept)
            turned = rotate(batch.x, turn[batch.row], self.augmentation.rotation)  # [n, T, V, 3]
            yield ClipBatch(batch.clips, turned, batch.row, batch.slot)


def batch_sizes(clips: int, size: int, *, drop_last: bool) -> list[int]:
    """Clips in every batch of an epoch, as `ClipBatches` says."""
    full, rest = divmod(clips, size)
    if not full or (rest == 1 and not drop_last):
        return [size] * (full - 1) + [size + rest if full else rest]
    return [size] * full + ([rest] if rest and not drop_last else [])


def evaluation_view(
    bodies: BodySequences,
    lengths: Int[NDArray[np.int64], "N"],
    clips: Int[NDArray[np.int64], "_"],
    *,
    size: int,
    frames: int,
    slots: int | None = None,
) -> Iterator[ClipBatch]:
    """Every clip once, in order, test-cropped; arguments as of `ClipBatches`."""
    clip_bodies = ClipBodies(bodies, lengths, frames, slots)
    for chosen in torch.as_tensor(clips, device=bodies.device).split(size):
        yield clip_bodies.batch(chosen, *test_crops(clip_bodies.lengths[chosen]))


class ClipBodies:
    """Which body sequences belong to a clip; arguments as of `ClipBatches`."""

    def __init__(
        self,
        bodies: BodySequences,
        lengths: Int[NDArray[np.int64], "N"],
        frames: int,
        slots: int | None,
    ) -> None:
        self.bodies, self.frames, self.slots = bodies, frames, slots
        self.lengths = torch.as_tensor(lengths, device=bodies.device)  # [N]
        self.sequences = torch.nonzero(bodies.present).squeeze(1)  # [present of S], by clip
        owners = bodies.clip[self.sequences]
        self.count = torch.bincount(owners, minlength=bodies.clip_count)  # [N]
        self.start = self.count.cumsum(0) - self.count

    def batch(
        self, clips: Int[Tensor, "B"], first: Int[Tensor, "B"], kept: Int[Tensor, "B"]
    ) -> ClipBatch:
        """Clips with frames ``first .. first + kept`` of all their bodies."""
        count = self.count[clips]  # [B]
        row = torch.repeat_interleave(torch.arange(len(clips), device=clips.device), count)  # [n]
        slot = torch.arange(len(row), device=clips.device) - (count.cumsum(0) - count)[row]  # [n]
        chosen = self.sequences[self.start[clips[row]] + slot]  # [n]
        x = self.bodies.window(chosen, first[row], kept[row], self.frames)  # [n, T, V, 3]
        if self.slots is None:
            return ClipBatch(clips, x, row, slot)
        absent = torch.repeat_interleave(
            torch.arange(len(clips), device=clips.device), self.slots - count
        )
        filled = torch.arange(len(absent), device=clips.device)
        empty = (self.slots - count).cumsum(0) - (self.slots - count)
        more = count[absent] + filled - empty[absent]
        zeros = x.new_zeros(len(absent), *x.shape[1:])
        return ClipBatch(
            clips, torch.cat([x, zeros]), torch.cat([row, absent]), torch.cat([slot, more])
        )
