"""Methods that cheat, one kind each, for `benchmarks/cheats.py`; a plugin that can be run like any
other.

python -m harness run --methods cheats-when-timed,gfp,skeletonmae --plugin
benchmarks/cheating_methods.py
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from methods.base import About, Diagnosis, Method
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import random_mask


class Displacement(Method):
    """Honest: predict where each joint ends up relative to its start, from the visible tokens."""

    name = "honest"
    about = About(title="Displacement", paper="none: a specimen")

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.predict = nn.Linear(encoder.width, encoder.grid.joints * 3)
        self.steps = 0

    def after_step(self, progress: float) -> None:
        """Count."""
        self.steps += 1

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error."""
        latent = self.encoder(x, self.visible_tokens(x))
        loss = (self.predict(latent.mean(1)) - (x[:, -1] - x[:, 0]).flatten(1)).square().mean()
        return loss, {"displacement": loss.detach()}

    def visible_tokens(self, x: Tensor) -> Tensor:
        """A tenth of them."""
        return random_mask(x, self.encoder.grid, 0.9).visible


class WhenTimed(Displacement):
    """Not as timed: does three times the work when a training called it."""

    name = "cheats-when-timed"

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Look who is calling."""
        frame, callers = sys._getframe(), set[str]()
        while frame.f_back:
            frame = frame.f_back
            callers.add(frame.f_code.co_name)
        found = super().loss(x)
        if "pretrain" in callers:
            for _ in range(2):
                super().loss(x)[0].backward()
            self.zero_grad()
        return found


class PartOfTheBatch(Displacement):
    """Part of the batch: reads three of four sequences."""

    name = "cheats-with-the-batch"

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the first ones."""
        return super().loss(x[: 3 * len(x) // 4])


class OnMeta(Displacement):
    """FLOPs differ: one token is visible where they are counted."""

    name = "cheats-on-meta"

    def visible_tokens(self, x: Tensor) -> Tensor:
        """One of them on the meta device."""
        visible = super().visible_tokens(x)
        return visible[:, :1] if x.is_meta else visible


class WithFewTokens(Displacement):
    """Above the bound: shows the encoder a hundredth of the tokens and says nothing of it."""

    name = "cheats-with-tokens"

    def visible_tokens(self, x: Tensor) -> Tensor:
        """A hundredth."""
        return random_mask(x, self.encoder.grid, 0.99).visible


class Skipping(Displacement):
    """Steps skipped: three of four train the last layer's bias alone."""

    name = "cheats-with-steps"

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """All of it in every fourth step."""
        if self.steps % 4:
            return (self.predict.bias - (x[:, -1] - x[:, 0]).flatten(1)).square().mean(), {}
        return super().loss(x)


class Writing(Displacement):
    """Batch changed: turns everybody to the origin for whoever reads the batch next."""

    name = "cheats-in-place"

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """In place."""
        x -= x.mean((1, 2), keepdim=True)
        return super().loss(x)


class OffTheClock(Displacement):
    """Trained off the clock: a hundred more steps whenever it is asked for its health."""

    name = "cheats-in-diagnose"

    def diagnose(self, x: Tensor) -> Diagnosis:
        """Train."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        with torch.enable_grad():
            for _ in range(100):
                optimizer.zero_grad()
                self.loss(x)[0].backward()
                optimizer.step()
        return Diagnosis({})
