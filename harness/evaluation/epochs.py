"""Training a classifier of clips epoch by epoch, as protocols do that train anything:
rate per iteration, few looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from datasets.batches import Augmentation
from datasets.clip_batches import ClipBatch, ClipBatches
from harness.evaluation.probes import Labels
from harness.evaluation.protocol import Subject
from harness.records.evaluations import EpochPoint
from methods.parts.encoder import Encoder

VERSION = 1

FEW_CLIPS = 6000
"""Below, the rest of an epoch that fills no batch is kept: too much would be lost."""
_SHORTEST_CROP = 64 / 120
"""MAMP's crops have at least 64 frames and are resized to 120 (feeder/tools.py);
here a share of the encoder's.
"""
DEVIATIONS = (
    "accuracy at the last epoch; published is the best of 100 epochs on the test clips",
    (
        "mean over present bodies; published is the mean over both body slots, empty ones too:"
        " empty_bodies=true"
    ),
    "the shortest crop is 64/120 of the encoder's frames; published are 64 frames at 120",
    (
        "a clip ends at its last frame with a body; published is after as many frames as have"
        " coordinates that add up to more or less than 0"
    ),
    "under 6,000 training clips the last, smaller batch of an epoch is kept",
    "batch norm over the whole batch; published is over the half of it that each of two GPUs has",
)
"""From MAMP, of every protocol that trains as here."""


class Batches(Protocol):
    """Where batches come from: `datasets.clip_batches.ClipBatches`."""

    @property
    def steps(self) -> int:
        """Batches per epoch."""

    def epoch(self) -> Iterator[ClipBatch]:
        """Those of the next epoch."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from 0, then a half cosine (MAMP, util/lr_sched.py), looked up at every
    iteration.

    Attributes:
        lr: highest rate; `final` the one that the cosine ends in.
        epochs: of training; `warmup` of them warm up.
    """

    lr: float
    epochs: int
    warmup: float = 0.0
    final: float = 0.0

    def rate(self, epoch: float) -> float:
        """The learning rate at a fractional epoch."""
        if epoch < self.warmup:
            return self.lr * epoch / self.warmup
        through = (epoch - self.warmup) / (self.epochs - self.warmup)
        return self.final + (self.lr - self.final) * 0.5 * (1 + math.cos(math.pi * through))


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One rate for all parameter groups, each times its own ``lr_scale`` where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)


def published_augmentation(encoder: Encoder) -> Augmentation:
    """MAMP's crops of half a clip or more and rotations to 0.3 rad;
    the shortest crop as a share of the frames.
    """
    return Augmentation(
        crop=(0.5, 1.0), min_crop=round(_SHORTEST_CROP * encoder.grid.frames), rotation=0.3
    )


def training_batches(
    subject: Subject, encoder: Encoder, clips: Labels, size: int, *, slots: int | None
) -> ClipBatches:
    """Augmented batches of the labelled clips."""
    return ClipBatches(
        subject.data.bodies,
        subject.data.clips.lengths,
        clips,
        size=size,
        frames=encoder.grid.frames,
        augmentation=published_augmentation(encoder),
        seed=subject.seed,
        drop_last=len(clips) >= FEW_CLIPS,
        slots=slots,
    )


def train(
    subject: Subject,
    batches: Batches,
    loss_of: Callable[[ClipBatch], Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    predict: Callable[[], Labels],
    looks: int,
) -> tuple[Labels, list[EpochPoint]]:
    """Train, and look at the test clips ``looks`` times evenly, the last time at the end; that
    look's predictions.

    Raises:
        FloatingPointError: the loss is no finite number.
    """
    due = {max(1, round(schedule.epochs * (look + 1) / looks)) for look in range(looks)}
    truth, curve, predictions = (
        subject.labels[subject.test],
        list[EpochPoint](),
        np.zeros(0, np.int64),
    )
    for epoch in range(schedule.epochs):
        total = torch.zeros((), device=subject.data.device)
        for step, batch in enumerate(batches.epoch()):
            _set_rate(optimizer, schedule.rate(epoch + step / batches.steps))
            loss = loss_of(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        mean = float(total) / batches.steps
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"loss is {mean} in epoch {epoch + 1}; lower the protocol's lr"
            )
        subject.tell(epoch + 1, schedule.epochs, f"loss {mean:.4g}")
        if epoch + 1 in due:
            predictions = predict()
            curve.append(
                EpochPoint(
                    epoch=epoch + 1, accuracy=float(np.mean(predictions == truth)), loss=mean
                )
            )
    return predictions, curve
