"""Training batches the way MAMP's feeder makes them: padded clips, one sample at a time, in worker processes.

Only for measuring what that costs (`harness explain`): clips are padded to 300 frames with every body slot, a worker
crops, resizes and rotates one clip after the other, and batches are collated on the host and copied to the device
(maoyunyao/MAMP, feeder/feeder_ntu.py and feeder/tools.py). `datasets.batches` makes the same kind of batch without
any of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler

from datasets.batches import Augmentation, rotations
from datasets.clips import ClipSet, clip_origins, present_bodies
from datasets.errors import DataError

VERSION = 1

PADDED_FRAMES = 300
"""NTU RGB+D's longest clip: what the published files pad every clip to."""
ENDLESS = 2**40
"""Samples of one pass of the loader: it never ends, so that no epoch restarts the workers on the clock."""
PREFETCH = 2
"""Batches that each worker prepares ahead, torch's default."""


def pad_clips(clips: ClipSet, chosen: NDArray[np.int64], *, center: bool = True) -> NDArray[np.float32]:
    """Zero-padded clips ``[N, 3, 300, V, M]`` in memory, centred as `BodySequences` does; later frames are cut off."""
    _, bodies, joints, _ = clips.joints.shape
    origin = clip_origins(clips, present_bodies(clips)) if center else np.zeros((len(clips), 3), np.float32)
    padded = np.zeros((len(chosen), 3, PADDED_FRAMES, joints, bodies), np.float32)
    for row, index in enumerate(chosen):
        clip = clips.clip(int(index))[:PADDED_FRAMES]
        present = (clip != 0).any(axis=(2, 3), keepdims=True)
        padded[row, :, : len(clip)] = ((clip - origin[index]) * present).transpose(3, 0, 2, 1)
    return padded


class PaddedClips(Dataset[Tensor]):
    """Padded clips, augmented one by one as MAMP's feeder does.

    Args:
        padded: ``[N, 3, 300, V, M]`` (`pad_clips`).
        frames: T.
        augmentation: crop and rotation.
    """

    def __init__(self, padded: NDArray[np.float32], *, frames: int, augmentation: Augmentation) -> None:
        self.padded, self.frames, self.augmentation = padded, frames, augmentation

    def __len__(self) -> int:
        return len(self.padded)

    def __getitem__(self, row: int) -> Tensor:
        """One augmented clip, ``[M, T, V, 3]``."""
        clip = self.padded[row]
        valid = int((clip.sum(axis=(0, 2, 3)) != 0).sum())
        channels, _, joints, bodies = clip.shape
        if not valid:
            return torch.zeros(bodies, self.frames, joints, channels)
        low, high = self.augmentation.crop
        share = np.random.rand() * (high - low) + low  # noqa: NPY002 - torch seeds this stream in every worker
        kept = min(max(int(valid * share), self.augmentation.min_crop), valid)
        first = np.random.randint(0, valid - kept + 1)  # noqa: NPY002
        window = torch.from_numpy(clip[:, first : first + kept]).permute(0, 2, 3, 1).reshape(1, 1, -1, kept)
        resized = torch.nn.functional.interpolate(window, size=(window.shape[2], self.frames), mode="bilinear")
        x = resized.reshape(channels, joints, bodies, self.frames).permute(2, 3, 1, 0)
        angles = (2 * torch.rand(1, 3) - 1) * self.augmentation.rotation
        return x @ rotations(angles)[0].T


class FeederBatches:
    """Endless training batches ``[B, T, V, 3]`` from worker processes, both body slots of every clip in them.

    The workers live only inside `flowing`, so that they take nothing from a neighbour's time.

    Attributes:
        lead: untimed steps that bring the workers' queue to where it stands in a long training: full where the
            step is slower than the workers, empty where it is faster.

    Args:
        dataset: the padded clips.
        size: B, body sequences per batch; a multiple of the clips' body slots M.
        workers: processes.
        device: where batches go.
        seed: order and augmentation.

    Raises:
        DataError: a batch size that does not hold whole clips, or more clips than there are.
    """

    def __init__(self, dataset: PaddedClips, *, size: int, workers: int, device: torch.device, seed: int) -> None:
        bodies = dataset.padded.shape[-1]
        if size % bodies:
            raise DataError(f"loader workers batch whole clips: batch size {size} is not a multiple of {bodies} bodies")
        if size // bodies > len(dataset):
            raise DataError(f"a batch of {size // bodies} clips needs as many training clips, found {len(dataset)}")
        self.size, self.device = size, device
        self.lead = PREFETCH * workers
        self.generator = torch.Generator().manual_seed(seed)
        self.loader = DataLoader(
            dataset, size // bodies, sampler=RandomSampler(dataset, num_samples=ENDLESS, generator=self.generator),
            num_workers=workers, prefetch_factor=PREFETCH, pin_memory=device.type == "cuda", generator=self.generator,
        )  # fmt: skip
        self.stream: Iterator[Tensor] | None = None

    def next(self) -> Tensor:
        """The next batch; outside `flowing` the workers are started for it alone."""
        if self.stream is None:
            with self.flowing():
                return self.next()
        return next(self.stream).to(self.device, non_blocking=True).flatten(0, 1)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Workers run inside. The first `lead` batches, what they prepare ahead, belong to untimed steps."""
        self.stream = iter(self.loader)
        try:
            yield
        finally:
            self.stream = None  # drops the loader's iterator, which ends its workers

    def sample(self) -> Tensor:
        """A batch to warm up with; the order goes on as if it had not been taken."""
        state = self.generator.get_state()
        x = self.next()
        self.generator.set_state(state)
        return x
