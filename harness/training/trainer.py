"""The training loop: AdamW, warm-up and cosine, and one small timed region.

On the clock: data, forward (mask, encode, predict, target, loss), backward, optimiser, what follows a step.
Off the clock: everything else.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from datasets.batches import Batch, Batches
from harness.errors import MethodFault
from harness.isolation.contract import loss_and_parts
from harness.spec.model import TrainSpec
from harness.training.build import build_optimizer, build_schedule
from harness.training.clock import StepClock
from methods.base import Method

VERSION = 1

LAST_PHASE = "after_step"


class Diverged(MethodFault):
    """The loss is not a finite number any more."""


@contextmanager
def undisturbed(method: Method, device: torch.device) -> Iterator[None]:
    """Whatever runs inside leaves torch's random state and the method's buffers (running means) as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in method.buffers()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)


def compiled(method: Method, train: TrainSpec) -> Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]:
    """The method's loss, compiled for fixed shapes.

    Too many compilations of one function are an error: torch would go on uncompiled without a word, and that is what
    would be timed.
    """
    quiet_compiler()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return torch.compile(method.loss, mode="reduce-overhead" if train.cuda_graphs else None, dynamic=False)


def quiet_compiler() -> None:
    """Keep the compiler's log to itself: what it cannot compile comes as an exception. ``TORCH_LOGS`` turns it on."""
    if "TORCH_LOGS" not in os.environ:
        torch._logging.set_logs(all=logging.CRITICAL)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Norm of all gradients, from one norm per parameter (as in MAMP's util/misc.py): many small kernels."""
    gradients = [parameter.grad.detach() for parameter in parameters if parameter.grad is not None]
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))


class Trainer:
    """One method, its optimiser, its schedule and its batches.

    Args:
        method: on its device.
        batches: endless training batches.
        train: how to train.
        steps: length of the schedule.

    Attributes:
        done: optimiser steps taken.
        latest: loss of the last of them.
    """

    def __init__(self, method: Method, batches: Batches, train: TrainSpec, steps: int) -> None:
        self.method, self.batches, self.train, self.steps = method, batches, train, steps
        self.device = batches.device
        self.optimizer = build_optimizer(method, train)
        self.schedule = build_schedule(self.optimizer, train, steps)
        self.loss: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]] = method.loss
        if train.compile:
            self.loss = compiled(method, train)
        # Only CUDA has one: MAMP's on a CPU switches itself off. In fp32 it changes no number but by rounding.
        self.scaler = torch.amp.GradScaler(enabled=train.gradient_scaler and self.device.type == "cuda")
        self.done = 0
        self.latest: Tensor | None = None
        method.train()

    def run_block(self, steps: int, clock: StepClock) -> dict[str, float]:
        """Train ``steps`` steps on the clock; mean loss and named parts of the block.

        The timed region is what stands between ``clock.start()`` and ``clock.stop()``.

        Raises:
            Diverged: the loss is no finite number.
            MethodFault: the loss reached no parameter.
        """
        totals: dict[str, Tensor | float] = {}
        with self.batches.flowing():
            if self.batches.lead:
                with undisturbed(self.method, self.device):
                    self._lead()
            clock.start()
            for _ in range(steps):
                x = self.batches.next()
                clock.mark("data")
                with self.autocast():
                    loss, parts = self.loss(x)
                if self.train.synchronise:
                    self._require_finite(loss.item())
                clock.mark("forward")
                self.scaler.scale(loss).backward()
                clock.mark("backward")
                parts = {**parts, **self._update()}
                clock.mark("optimizer")
                self.method.after_step(self.done / self.steps)
                if self.train.synchronise:
                    clock.synchronise()
                self.latest = loss.detach()
                for name, part in {"loss": self.latest, **parts}.items():
                    totals[name] = totals.get(name, 0.0) + part  # on the device: no synchronisation
                clock.mark(LAST_PHASE)
            clock.stop(LAST_PHASE)
        means = {name: float(total) / steps for name, total in totals.items()}
        self._require_finite(means["loss"])
        if not self.optimizer.state:
            raise MethodFault("the loss reaches no parameter: nothing is trained")
        return means

    def autocast(self) -> torch.autocast:
        """bf16 for what the precision setting says; nothing in fp32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.precision == "bf16")

    def _require_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(f"loss is {loss} after {self.done} steps; lower --set train.lr={self.train.lr}")

    def _lead(self) -> None:
        """Steps before the clock starts, without the optimiser's, until the source of batches runs steadily."""
        for _ in range(self.batches.lead):
            with self.autocast():
                loss, _ = self.loss(self.batches.next())
            loss.backward()
            self.optimizer.zero_grad(set_to_none=True)
        # Workers were just forked: the first write to a page of weights or optimiser state copies it, which a long
        # training pays once and a timed block would pay every time.
        with torch.no_grad():
            for tensor in self.resident():
                if tensor.is_floating_point():
                    tensor.mul_(1)

    def resident(self) -> list[Tensor]:
        """What lives from step to step: weights, buffers and optimiser state."""
        states = self.optimizer.state.values()
        kept = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        return [*self.method.parameters(), *self.method.buffers(), *kept]

    def warm_up(self) -> None:
        """Run one step's forward and backward off the clock (compilation, allocation) and forget all about it."""
        x = self.batches.sample()
        with undisturbed(self.method, self.device):
            with self.autocast():
                loss, _ = loss_and_parts(self.method, self.loss(x))
            loss.backward()
        self.optimizer.zero_grad(set_to_none=True)

    def _update(self) -> dict[str, Tensor]:
        """The optimiser's step; what is worth logging of it."""
        parts = {}
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        if self.train.gradient_norm:
            parts["gradient_norm"] = gradient_norm(self.method.parameters())
        if self.train.clip_gradient is not None:
            clip_grad_norm_(self.method.parameters(), self.train.clip_gradient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self.schedule.step_update(self.done)
        return parts
