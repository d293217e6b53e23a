"""Device-resident batches of body sequences: crop, time resize and rotation as batched tensor
operations.

Pre-training sees *body sequences* ``[B, T, V, 3]``: one body of one clip. A body that is absent
from a whole clip is not batched (41 % of NTU-60's body slots are empty). The frames are moved to
the device once, so that no loader hides or fakes a speedup. Crops follow MAMP's released code
(maoyunyao/MAMP, feeder/tools.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from datasets.clips import ClipSet, clip_origins, present_bodies
from datasets.errors import DataError

VERSION = 1


@dataclass(frozen=True)
class Augmentation:
    """Training-time crop and rotation; the defaults are MAMP's.

    Attributes:
        crop: share of a clip that a crop keeps, uniform between the two.
        min_crop: shortest crop in the clip's own frames; shorter clips are taken whole.
        rotation: largest rotation about each axis, radians; one draw per body sequence.
    """

    crop: tuple[float, float] = (0.5, 1.0)
    min_crop: int = 64
    rotation: float = 0.3


@dataclass(frozen=True)
class Look:
    """How one view of a batch is cropped, resized and turned.

    Attributes:
        frames: T after the time resize.
        augmentation: its crop and rotation, drawn for this view alone.
    """

    frames: int
    augmentation: Augmentation = Augmentation()


Batch = Float[Tensor, "B T V 3"] | tuple[Float[Tensor, "B _ V 3"], ...]
"""Body sequences; where a method wants several views, one of each:
row b is the same body sequence in all.
"""


class Batches(Protocol):
    """Where a training loop gets its batches from."""

    size: int
    device: torch.device
    divisible: bool
    """A block of steps may be left and entered again where it was left."""

    @property
    def lead(self) -> int:
        """Untimed steps before a block is timed, until they come as in a long training."""

    def next(self) -> Batch:
        """The next batch."""

    def sample(self) -> Batch:
        """A batch to warm up with; the stream goes on as if it had not been taken."""

    def flowing(self) -> AbstractContextManager[None]:
        """What has to run while batches are drawn, started and stopped off the clock."""

    def state(self) -> dict[str, Tensor]:
        """All that the batches to come depend on, copied."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a `state` of batches like these."""

    def keep_workers(self) -> None:
        """From now on worker processes rest between blocks, until `end_workers`, where that costs
        little memory; nothing where there are none.
        """
        return  # most have none

    def end_workers(self) -> None:
        """End worker processes that rest; the next block starts others.
        Nothing where there are none.
        """
        return


class BodySequences:
    """The present bodies of a clip set, packed on a device.

    Args:
        clips: the clip set.
        device: where the frames live; frames that are memory-mapped (in row-major order) stay so
            on the CPU.
        center: subtract the first present body's center joint at its first frame from the whole
            clip, so that camera position does not enter (as in CTR-GCN's released code,
            data/ntu/seq_transformation.py).
        include_empty: batch absent bodies too (all zeros), for cost parity with the papers.

    Attributes:
        clip: clip index of each body sequence.
        length: frames of each body sequence.
        present: False for an empty body, which is there only with `include_empty`.
        rows: frames as they are stored.
        start: the first row of each body sequence.
        stride: rows from one of its frames to the next.
        origin: the center that is subtracted from each body sequence.
    """

    clip: Int[Tensor, "S"]
    length: Int[Tensor, "S"]
    present: Bool[Tensor, "S"]
    rows: Float[Tensor, "F V 3"]
    start: Int[Tensor, "S"]
    stride: int
    origin: Float[Tensor, "S 3"]

    def __init__(
        self,
        clips: ClipSet,
        device: torch.device,
        *,
        center: bool = True,
        include_empty: bool = False,
    ) -> None:
        present = present_bodies(clips)
        kept = np.ones_like(present) if include_empty else present
        clip, body = np.nonzero(kept)
        lengths = np.diff(clips.offsets)[clip]
        self.device = device
        self.clip_count = len(clips)
        self.clip = torch.as_tensor(clip, device=device)
        self.length = torch.as_tensor(lengths, device=device)
        self.present = torch.as_tensor(present[clip, body], device=device)
        self.rows, start, self.stride = _rows(clips, clip, body, device)
        self.start = torch.as_tensor(start, device=device)
        origins = clip_origins(clips, present) if center else np.zeros((len(clips), 3), np.float32)
        self.origin = torch.as_tensor(origins[clip], device=device)

    def __len__(self) -> int:
        return len(self.clip)

    def of_clips(self, indices: Int[np.ndarray, "_"]) -> Int[Tensor, "n"]:
        """Body sequence numbers that belong to the given clips, ascending."""
        wanted = torch.zeros(self.clip_count, dtype=torch.bool, device=self.device)
        wanted[torch.as_tensor(indices, device=self.device)] = True
        return torch.nonzero(wanted[self.clip]).squeeze(1)

    def window(
        self,
        sequences: Int[Tensor, "B"],
        first: Int[Tensor, "B"],
        length: Int[Tensor, "B"],
        frames: int,
    ) -> Float32[Tensor, "B {frames} V 3"]:
        """Frames ``first .. first + length`` of each sequence, resized to ``frames``.

        Linear in time with half-pixel centres: ``torch.nn.functional.interpolate(mode="linear")``
        to rounding.
        """
        steps = torch.arange(frames, device=self.device, dtype=torch.float32)  # [T]
        scale = (length / frames).unsqueeze(1)  # [B, 1]
        position = (scale * (steps + 0.5) - 0.5).clamp(min=0)  # [B, T]
        low = torch.minimum(position.long(), length.unsqueeze(1) - 1)  # [B, T]
        high = torch.minimum(low + 1, length.unsqueeze(1) - 1)  # [B, T]
        weight = (position - low)[..., None, None]  # [B, T, 1, 1]
        # [B, T, V, 3] each
        lower, upper = self._frames(sequences, first, low), self._frames(sequences, first, high)
        return torch.addcmul(weight * upper, 1 - weight, lower)

    def _frames(
        self, sequences: Int[Tensor, "B"], first: Int[Tensor, "B"], step: Int[Tensor, "B T"]
    ) -> Float32[Tensor, "B T V 3"]:
        """Centred frames ``first + step`` of each sequence; absent frames stay zero."""
        row = self.start[sequences, None] + self.stride * (first[:, None] + step)  # [B, T]
        raw = self.rows[row.to(self.rows.device)].to(self.device, torch.float32)  # [B, T, V, 3]
        absent = (raw == 0).flatten(2).all(2)  # [B, T]
        return (raw - self.origin[sequences, None, None]).masked_fill(absent[..., None, None], 0.0)


def pooled(parts: Sequence[BodySequences]) -> BodySequences:
    """The body sequences of several clip sets of one skeleton as one, in their order.

    The frames lie in memory once: each of ``parts`` goes on with its share of them.
    """
    frames = [_packed(part) for part in parts]
    rows = torch.cat([packed for packed, _ in frames])
    pool, first, clips = copy(parts[0]), 0, 0
    starts, numbers = [], []
    for part, (packed, start) in zip(parts, frames, strict=True):
        part.rows, part.start, part.stride = rows[first : first + len(packed)], start, 1
        starts.append(start + first)
        numbers.append(part.clip + clips)
        first, clips = first + len(packed), clips + part.clip_count
    pool.rows, pool.start, pool.stride = rows, torch.cat(starts), 1
    pool.clip, pool.clip_count = torch.cat(numbers), clips
    pool.length = torch.cat([part.length for part in parts])
    pool.present = torch.cat([part.present for part in parts])
    pool.origin = torch.cat([part.origin for part in parts])
    return pool


def _packed(bodies: BodySequences) -> tuple[Float32[Tensor, "F V 3"], Int[Tensor, "S"]]:
    """Frames one after the other, and the first of each body sequence."""
    if bodies.stride == 1:
        return bodies.rows.to(bodies.device, torch.float32), bodies.start
    ends = bodies.length.cumsum(0)
    start = ends - bodies.length
    step = torch.arange(int(ends[-1]), device=bodies.device) - start.repeat_interleave(
        bodies.length
    )
    row = bodies.start.repeat_interleave(bodies.length) + bodies.stride * step
    return bodies.rows[row.to(bodies.rows.device)].to(bodies.device, torch.float32), start


def _rows(
    clips: ClipSet, clip: Int[np.ndarray, "S"], body: Int[np.ndarray, "S"], device: torch.device
) -> tuple[Float[Tensor, "F V 3"], Int[np.ndarray, "S"], int]:
    """Packed frame rows, first row of each sequence, and the row step between frames."""
    _, bodies, joints, _ = clips.joints.shape
    if (
        isinstance(clips.joints, np.memmap)
        and clips.joints.flags.c_contiguous
        and device.type == "cpu"
    ):
        with warnings.catch_warnings():  # the map is read-only and nothing here writes to it
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            rows = torch.from_numpy(clips.joints.reshape(-1, joints, 3))
        return rows, clips.offsets[clip] * bodies + body, bodies
    lengths = np.diff(clips.offsets)[clip]
    start = np.concatenate([[0], np.cumsum(lengths)])
    packed = np.empty((start[-1], joints, 3), dtype=np.float32)
    for sequence, (index, slot) in enumerate(zip(clip, body, strict=True)):
        frames = clips.joints[clips.offsets[index] : clips.offsets[index + 1], slot]
        packed[start[sequence] : start[sequence + 1]] = frames
    return torch.from_numpy(packed).to(device), start[:-1], 1


def random_crops(
    length: Int[Tensor, "B"], augmentation: Augmentation, generator: torch.Generator
) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
    """First frame and length of one random crop per sequence of ``length`` frames,
    as in MAMP's feeder.
    """
    return crops(length, augmentation, uniform(length, generator), uniform(length, generator))


def uniform(
    length: Int[Tensor, "B"], generator: torch.Generator | None, *columns: int
) -> Float[Tensor, "B ..."]:
    """Uniform random numbers ``[B, *columns]`` for sequences of ``length``, on their device;
    without a generator torch's own.
    """
    return torch.rand(len(length), *columns, generator=generator, device=length.device)


def crops(
    length: Int[Tensor, "B"],
    augmentation: Augmentation,
    share: Float[Tensor, "B"],
    place: Float[Tensor, "B"],
) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
    """First frame and length of the crop at ``share`` and ``place``, 0 to 1,
    of what may be drawn.
    """
    low, high = augmentation.crop
    kept = (
        (length * (low + (high - low) * share))
        .long()
        .clamp(min=augmentation.min_crop)
        .minimum(length)
    )
    first = place * (length - kept + 1)
    return first.long().minimum(length - kept), kept


def test_crops(length: Int[Tensor, "B"]) -> tuple[Int[Tensor, "B"], Int[Tensor, "B"]]:
    """First frame and length of MAMP's deterministic test crop: 2.5 % dropped at each end."""
    dropped = (0.05 * length / 2).long()
    return dropped, length - 2 * dropped


def rotations(angles: Float[Tensor, "B 3"]) -> Float[Tensor, "B 3 3"]:
    """Rotation matrices ``R_z R_y R_x`` from angles about x, y, z in radians."""
    # [B] each
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(1), angles.cos().unbind(1)
    rows = [
        cz * cy,
        cz * sy * sx - sz * cx,
        cz * sy * cx + sz * sx,
        sz * cy,
        sz * sy * sx + cz * cx,
        sz * sy * cx - cz * sx,
        -sy,
        cy * sx,
        cy * cx,
    ]
    return torch.stack(rows, dim=1).reshape(-1, 3, 3)


def rotate(
    x: Float[Tensor, "B T V 3"], turn: Float[Tensor, "B 3"], largest: float
) -> Float[Tensor, "B T V 3"]:
    """One rotation per body sequence: at ``turn``, 0 to 1,
    of up to ``largest`` radians about each axis.
    """
    angles = (2 * turn - 1) * largest
    return torch.einsum("bij,btvj->btvi", rotations(angles), x)


def _augmented(
    bodies: BodySequences,
    chosen: Int[Tensor, "B"],
    look: Look,
    share: Float[Tensor, "B"],
    place: Float[Tensor, "B"],
    turn: Float[Tensor, "B 3"],
) -> Float[Tensor, "B {look.frames} V 3"]:
    """Sequences ``chosen``, cropped, resized and turned by uniform draws.

    Draws come from outside, so that this can be compiled.
    """
    first, kept = crops(bodies.length[chosen], look.augmentation, share, place)  # [B], [B]
    x = bodies.window(chosen, first, kept, look.frames)  # [B, T, V, 3]
    return rotate(x, turn, look.augmentation.rotation)


class TrainingBatches(Batches):
    """Endless stream of augmented training batches, identical for one seed.

    Sequences come in a fresh random order each epoch; an epoch's end never shortens a batch. No
    sequence at all is a `DataError`.

    Args:
        bodies: all body sequences.
        sequences: the numbers to train on.
        size: body sequences per batch.
        looks: the views of each of them, drawn one after the other.
        seed: order and augmentation.
        part: rows of each batch that are made; all of them are drawn.
        groups: sequences that are to come up as often as each other group; together they are
            ``sequences``. None: each sequence once an epoch.

    Attributes:
        augment: `_augmented`, or the same compiled.
    """

    lead, divisible = 0, True

    def __init__(
        self,
        bodies: BodySequences,
        sequences: Int[Tensor, "n"],
        *,
        size: int,
        looks: Sequence[Look],
        seed: int,
        part: slice = slice(None),
        groups: Sequence[Int[Tensor, "_"]] = (),
    ) -> None:
        if not len(sequences) or not all(map(len, groups)):
            raise DataError(
                "no body sequence to train on: every body of the training clips is empty"
            )
        self.bodies, self.sequences, self.size, self.looks, self.part = (
            bodies,
            sequences,
            size,
            tuple(looks),
            part,
        )
        self.device = bodies.device
        self.generator = torch.Generator(device=bodies.device).manual_seed(seed)
        self.queue = sequences[:0]
        self.groups = tuple(groups)
        self.augment = _augmented

    def next(self) -> Batch:
        """The next batch."""
        while len(self.queue) < self.size:
            self.queue = torch.cat([self.queue, self.epoch()])
        chosen, self.queue = self.queue[: self.size], self.queue[self.size :]
        views = tuple(self.view(chosen, look) for look in self.looks)
        return views if len(views) > 1 else views[0]

    def epoch(self) -> Int[Tensor, "n"]:
        """Sequences in a fresh random order: each once; of groups as many of each as the largest
        has.
        """
        if not self.groups:
            return self.sequences[self._order(len(self.sequences))]
        largest = max(map(len, self.groups))
        drawn = [self._drawn(group, largest) for group in self.groups]
        return torch.cat(drawn)[self._order(largest * len(drawn))]

    def _drawn(self, group: Int[Tensor, "n"], count: int) -> Int[Tensor, "{count}"]:
        """So many of a group: all of it again and again, and of the last round a random part."""
        rounds = [group[self._order(len(group))] for _ in range(-(-count // len(group)))]
        return torch.cat(rounds)[:count]

    def _order(self, count: int) -> Int[Tensor, "{count}"]:
        return torch.randperm(count, generator=self.generator, device=self.bodies.device)

    def view(self, chosen: Int[Tensor, "n"], look: Look) -> Float[Tensor, "B {look.frames} V 3"]:
        """One view of the chosen sequences, of this part of them: cropped, resized and turned."""
        # [n], [n], [n, 3]
        draws = [uniform(chosen, self.generator, *columns) for columns in ((), (), (3,))]
        return self.augment(
            self.bodies, chosen[self.part], look, *(drawn[self.part] for drawn in draws)
        )

    def sample(self) -> Batch:
        """The batch that `next` is going to return."""
        kept, queue = self.generator.get_state(), self.queue
        x = self.next()
        self.generator.set_state(kept)
        self.queue = queue
        return x

    def flowing(self) -> AbstractContextManager[None]:
        """Nothing: the frames lie on the device."""
        return nullcontext()

    def state(self) -> dict[str, Tensor]:
        """The random generator's, and the rest of this epoch's order."""
        return {"generator": self.generator.get_state(), "queue": self.queue.clone()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from there."""
        self.generator.set_state(state["generator"].cpu())
        self.queue = state["queue"].to(self.device)


def evaluation_batches(
    bodies: BodySequences, size: int, frames: int
) -> Iterator[tuple[Int[Tensor, "B"], Float[Tensor, "B T V 3"]]]:
    """Every body sequence once, in order, test-cropped: their numbers and a batch; nothing
    dropped.
    """
    for numbers in torch.arange(len(bodies), device=bodies.device).split(size):
        first, kept = test_crops(bodies.length[numbers])
        yield numbers, bodies.window(numbers, first, kept, frames)
