"""Teachers: a copy of the encoder that follows it as an exponential moving average (EMA).

Papers give the decay per step for schedules of some 200,000 steps; over some hundred steps the same
decay would leave the teacher at its random start. What is kept from the paper is therefore the
number of time constants that the teacher follows the student for, whatever the number of steps
(`published_follows`).
"""

from __future__ import annotations

import copy
import math
from typing import Literal, Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from methods.parts.encoder import SkeletonEncoder

VERSION = 1

Shape = Literal["linear", "cosine"]


def published_follows(decay: float, steps: int) -> float:
    """Time constants of an EMA whose decay rises from ``decay`` to 1 over ``steps``: its mean rate
    times the steps.

    Linear and half-cosine rises have the same mean, half the first rate.
    """
    return (1 - decay) * steps / 2


class Teacher(torch.nn.Module):
    """A frozen copy of the encoder, updated by `follow` after every optimiser step.

    At progress ``p`` of the budget a step of length ``dp`` keeps ``exp(-2 * follows * fall(p) *
    dp)`` of the teacher, with ``fall = 1 - p`` (linear) or ``(1 + cos(pi p)) / 2`` (cosine). With
    the published number of steps that is the published decay: 0.9999 at first, 1 at the end.

    Args:
        encoder: the student's encoder; the copy starts with its weights.
        follows: time constants over the whole budget.
        shape: how the rate falls to 0.
    """

    progress: float

    def __init__(self, encoder: SkeletonEncoder, follows: float, shape: Shape) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.follows, self.shape = follows, shape
        self.progress = 0.0
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """A teacher is always in eval mode."""
        return super().train(False)

    def get_extra_state(self) -> Float64[Tensor, ""]:
        """How far it has come, beside the weights."""
        return torch.tensor(self.progress, dtype=torch.float64)

    def set_extra_state(self, state: Float64[Tensor, ""]) -> None:
        """Go on from there."""
        self.progress = state.item()

    def decay(self, progress: float, step: float) -> float:
        """Share of the teacher's weights that a step
        of length ``step`` ending at ``progress`` keeps.
        """
        fall = 1 - progress if self.shape == "linear" else (1 + math.cos(math.pi * progress)) / 2
        return math.exp(-2 * self.follows * fall * step)

    @torch.no_grad()
    def follow(self, student: SkeletonEncoder, progress: float) -> None:
        """Move towards the student; ``progress`` is the share of the budget done, 0 to 1."""
        decay = self.decay(progress, progress - self.progress)
        self.progress = progress
        average = get_ema_multi_avg_fn(decay)
        average(tuple(self.encoder.parameters()), tuple(student.parameters()), torch.tensor(1))

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "B T V 3"]) -> list[Float[Tensor, "B L D"]]:
        """Outputs of all blocks for the unmasked input."""
        return self.encoder.layers(x)
