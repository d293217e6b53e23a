"""What an arm of the interleaved measurement steps: a trainer, or an encoder's forward pass."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from datasets.batches import Batches
from harness.spec.model import TrainSpec
from harness.training.clock import StepClock
from methods.base import Method


class Timed(Protocol):
    """Something that is stepped in blocks on a clock;
    `harness.training.trainer.Trainer` says what each name is.
    """

    @property
    def method(self) -> Method:
        """What is said about the row, and its encoder."""

    @property
    def batches(self) -> Batches:
        """Where body sequences come from."""

    @property
    def train(self) -> TrainSpec:
        """How it computes."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def lead(self) -> int:
        """Untimed steps that stand before each block."""

    @property
    def first_steps(self) -> int:
        """Steps until one runs as all that follow."""

    def run_block(self, steps: int, clock: StepClock) -> dict[str, float]:
        """A block of steps on the clock."""

    def resident(self) -> list[Tensor]:
        """What lives from step to step."""
