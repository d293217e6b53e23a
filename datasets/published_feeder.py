"""Training batches the way MAMP's feeder makes them: padded clips, one sample at a time, in worker
processes.

Only for measuring what that costs (`harness explain`): clips are padded to 300 frames with every
body slot, a worker crops, resizes and rotates one clip after the other, and batches are collated on
the host and copied to the device (maoyunyao/MAMP, feeder/feeder_ntu.py and feeder/tools.py).
`PublishedClips` takes the same operations in the same order as that code, `PaddedClips` the
shortest way to the same sample. `datasets.batches` makes the same kind of batch without any of
this.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from datasets.batches import Augmentation, Batches, rotations
from datasets.clips import ClipSet, clip_origins, present_bodies
from datasets.errors import DataError

VERSION = 2

PADDED_FRAMES = 300
"""NTU RGB+D's longest clip: what the published files pad every clip to."""
_ENDLESS = 2**40
"""Samples of one pass of the loader: it never ends,
so that no epoch restarts the workers on the clock.
"""
PREFETCH = 2
"""Batches that each worker prepares ahead, torch's default."""
_LOOK = 1.0
"""Seconds between two looks of a worker at rest whether the command is still there."""


def pad_clips(
    clips: ClipSet, chosen: NDArray[np.int64], *, center: bool = True
) -> Float[NDArray[np.float32], "N 3 _ V M"]:
    """Zero-padded clips in memory, centred as `BodySequences` does; later frames are cut off.

    A view, as in MAMP's feeder, of what its files hold: ``[N, 300, M, V, 3]``.
    """
    _, bodies, joints, _ = clips.joints.shape
    origin = (
        clip_origins(clips, present_bodies(clips))
        if center
        else np.zeros((len(clips), 3), np.float32)
    )
    stored = np.zeros((len(chosen), PADDED_FRAMES, bodies, joints, 3), np.float32)
    for row, index in enumerate(chosen):
        clip = clips.clip(int(index))[:PADDED_FRAMES]
        present = (clip != 0).any(axis=(2, 3), keepdims=True)
        stored[row, : len(clip)] = (clip - origin[index]) * present
    return stored.transpose(0, 4, 1, 3, 2)


class PaddedClips(Dataset[Tensor]):
    """Padded clips, augmented one by one; a sample is ``[M, T, V, 3]``.

    Args:
        padded: what `pad_clips` returns.
        frames: T.
        augmentation: crop and rotation.
    """

    def __init__(
        self,
        padded: Float[NDArray[np.float32], "N 3 _ V M"],
        *,
        frames: int,
        augmentation: Augmentation,
    ) -> None:
        self.padded, self.frames, self.augmentation = padded, frames, augmentation

    def __len__(self) -> int:
        return len(self.padded)

    def __getitem__(self, row: int) -> Float32[Tensor, "M T V 3"]:
        """One augmented clip."""
        clip = self.padded[row]  # [3, 300, V, M]
        valid = int((clip.sum(axis=(0, 2, 3)) != 0).sum())
        channels, _, joints, bodies = clip.shape
        if not valid:
            return torch.zeros(bodies, self.frames, joints, channels)
        first, kept = self.crop(valid)
        window = torch.from_numpy(clip[:, first : first + kept]).permute(0, 2, 3, 1)
        window = window.reshape(1, 1, -1, kept)  # [1, 1, 3 V M, kept]
        size = (window.shape[2], self.frames)
        resized = torch.nn.functional.interpolate(window, size=size, mode="bilinear")
        x = resized.reshape(channels, joints, bodies, self.frames)
        x = x.permute(2, 3, 1, 0)  # [M, T, V, 3]
        angles = (2 * torch.rand(1, 3) - 1) * self.augmentation.rotation
        return x @ rotations(angles)[0].T

    def crop(self, valid: int) -> tuple[int, int]:
        """First frame and length of a random crop of a clip of ``valid`` frames."""
        low, high = self.augmentation.crop
        share = np.random.rand() * (high - low) + low  # noqa: NPY002 - torch seeds this stream in every worker
        kept = min(max(int(valid * share), self.augmentation.min_crop), valid)
        return np.random.randint(0, valid - kept + 1), kept  # noqa: NPY002

    @staticmethod
    def sequences(batch: Float[Tensor, "N M T V 3"]) -> Float[Tensor, "N*M T V 3"]:
        """The body sequences of a batch of samples, on the device."""
        return batch.flatten(0, 1)


class PublishedClips(PaddedClips):
    """The same samples by the operations of MAMP's released feeder, in its order; a sample is
    ``[3, T, V, M]``.

    Three copies, a rotation matrix for every frame, and bodies that are folded into the batch on
    the device (there by the model, model_mamp/transformer.py) are what that costs more.
    """

    def __getitem__(self, row: int) -> Float32[Tensor, "3 T V M"]:
        """One augmented clip."""
        clip = np.array(self.padded[row])  # a copy of all 300 frames
        channels, _, joints, bodies = clip.shape
        valid = int((clip.sum(0).sum(-1).sum(-1) != 0).sum())
        if not valid:
            return torch.zeros(channels, self.frames, joints, bodies)
        first, kept = self.crop(valid)
        window = torch.tensor(clip[:, first : first + kept], dtype=torch.float)
        window = window.permute(0, 2, 3, 1).contiguous().view(1, 1, -1, kept)  # [1, 1, 3 V M, kept]
        size = (window.shape[2], self.frames)
        resized = torch.nn.functional.interpolate(
            window, size=size, mode="bilinear", align_corners=False
        ).squeeze()
        x = resized.view(channels, joints, bodies, self.frames)
        x = x.permute(0, 3, 1, 2).contiguous()  # [3, T, V, M]
        x = x.permute(1, 0, 2, 3).contiguous().view(self.frames, channels, -1)  # [T, 3, V M]
        angles = (2 * torch.rand(1, 3) - 1) * self.augmentation.rotation
        x = torch.matmul(rotation_products(torch.cat([angles] * self.frames)), x)
        return x.view(self.frames, channels, joints, bodies).permute(1, 0, 2, 3).contiguous()

    @staticmethod
    def sequences(batch: Float[Tensor, "N 3 T V M"]) -> Float[Tensor, "N*M T V 3"]:
        """The body sequences of a batch of samples, on the device."""
        return batch.permute(0, 4, 2, 3, 1).contiguous().flatten(0, 1)


def rotation_products(angles: Float[Tensor, "T 3"]) -> Float[Tensor, "T 3 3"]:
    """What `rotations` makes of angles, as the product of three matrices each."""
    cos, sin = angles.cos(), angles.sin()
    zero, one = torch.zeros(len(angles)), torch.ones(len(angles))

    def matrices(*rows: tuple[Float[Tensor, "T"], ...]) -> Float[Tensor, "T 3 3"]:
        return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)

    about_x = matrices(
        (one, zero, zero), (zero, cos[:, 0], -sin[:, 0]), (zero, sin[:, 0], cos[:, 0])
    )
    about_y = matrices(
        (cos[:, 1], zero, sin[:, 1]), (zero, one, zero), (-sin[:, 1], zero, cos[:, 1])
    )
    about_z = matrices(
        (cos[:, 2], -sin[:, 2], zero), (sin[:, 2], cos[:, 2], zero), (zero, zero, one)
    )
    return about_z.matmul(about_y).matmul(about_x)


class _AtRest(Dataset[Tensor]):
    """Clips whose samples are only made while an event is set."""

    def __init__(self, clips: PaddedClips, running: Event) -> None:
        self.clips, self.running = clips, running

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, row: int) -> Float32[Tensor, "..."]:
        while not self.running.wait(_LOOK):
            command = multiprocessing.parent_process()
            if command and not command.is_alive():
                os._exit(1)
        return self.clips[row]


def _leave_group(worker: int) -> None:
    """A signal to the command's whole process group, such as a terminal or ``timeout`` sends, is
    the command's, which ends its workers.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


class FeederBatches(Batches):
    """Endless training batches ``[B, T, V, 3]`` from worker processes, both body slots of every
    clip in them.

    The workers live only inside `flowing`, or are at rest outside, so that they take nothing from a
    neighbour's time.

    Attributes:
        keeps_workers: they are at rest outside `flowing` until `end_workers`: the next block finds
            them, and what they prepared, as the last one left them.

    Args:
        dataset: the padded clips.
        size: B, body sequences per batch; a multiple of the clips' body slots M.
        workers: processes.
        device: where batches go.
        seed: order and augmentation.

    Raises:
        DataError: a batch size that does not hold whole clips, or more clips than there are.
    """

    divisible = False  # a block's workers end with it

    def __init__(
        self, dataset: PaddedClips, *, size: int, workers: int, device: torch.device, seed: int
    ) -> None:
        bodies = dataset.padded.shape[-1]
        if size % bodies:
            raise DataError(
                f"loader workers batch whole clips: batch size {size} is not a multiple of {bodies}"
                " bodies"
            )
        if size // bodies > len(dataset):
            raise DataError(
                f"a batch of {size // bodies} clips needs as many training clips, found"
                f" {len(dataset)}"
            )
        self.dataset, self.size, self.device = dataset, size, device
        self.ahead = PREFETCH * workers
        self.generator = torch.Generator().manual_seed(seed)
        self.running = multiprocessing.Event()
        self.running.set()
        self.loader = DataLoader(
            _AtRest(dataset, self.running),
            size // bodies,
            sampler=RandomSampler(dataset, num_samples=_ENDLESS, generator=self.generator),
            num_workers=workers,
            prefetch_factor=PREFETCH,
            pin_memory=device.type == "cuda",
            generator=self.generator,
            worker_init_fn=_leave_group,
        )
        self.stream: Iterator[Tensor] | None = None
        self.drawn, self.keeps_workers = 0, False

    @property
    def lead(self) -> int:
        """Untimed steps that bring the workers' queue to where it stands in a long training: full
        where the step is slower than the workers, empty where it is faster.

        One where it stands there already.
        """
        return max(1, self.ahead - self.drawn)

    def next(self) -> Float[Tensor, "B T V 3"]:
        """The next batch; outside `flowing` the workers run for it alone."""
        if self.stream is None or not self.running.is_set():
            with self.flowing():
                return self.next()
        self.drawn += 1
        return self.dataset.sequences(next(self.stream).to(self.device, non_blocking=True))

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Workers run inside. The first `lead` batches, what they prepare ahead,
        belong to untimed steps.
        """
        self.running.set()
        try:
            if self.stream is None:
                self.drawn, self.stream = 0, iter(self.loader)
            yield
        finally:
            if self.keeps_workers:
                self.running.clear()
            else:
                self.end_workers()

    def keep_workers(self) -> None:
        """Started for every block anew, workers would take most of a short one.

        Forked, they share the clips; else each has its own copy, and only one stream's may live
        at a time.
        """
        self.keeps_workers = multiprocessing.get_start_method() == "fork"

    def end_workers(self) -> None:
        """End the workers, wherever else their stream is referred to, such as in a traceback."""
        stream, self.stream, self.drawn = self.stream, None, 0
        self.running.set()  # what waits has to see that it is over
        if stream and hasattr(stream, "_shutdown_workers"):
            stream._shutdown_workers()

    def sample(self) -> Float[Tensor, "B T V 3"]:
        """A batch to warm up with; the order goes on as if it had not been taken."""
        state = self.generator.get_state()
        x = self.next()
        self.generator.set_state(state)
        return x

    def state(self) -> dict[str, Tensor]:
        """Between blocks, the random generator's is all there is."""
        return {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from there."""
        self.generator.set_state(state["generator"])
