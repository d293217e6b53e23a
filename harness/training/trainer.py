"""The training loop: AdamW, warm-up and cosine, and one small timed region.

On the clock: data, forward (mask, encode, predict, target, loss), backward, optimiser, what follows
a step. Off the clock: everything else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from datasets.batches import Batches
from harness.errors import MethodFault
from harness.isolation.contract import loss_and_parts
from harness.records.store import host_copies
from harness.spec.model import TrainSpec
from harness.training.build import build_optimizer, build_schedule
from harness.training.clock import StepClock
from harness.training.compilation import Loss, compiled
from harness.training.distributed import ALONE, DRAWS, Ranks, split_loss
from methods.base import Method

VERSION = 1

LAST_PHASE = "after_step"
_GRAPH_STEPS = 3
"""Untimed steps where CUDA graphs are on: the first compiles, the second captures the graphs,
the third replays.
"""


class Diverged(MethodFault):
    """The loss is not a finite number any more."""


@contextmanager
def undisturbed(method: Method, device: torch.device) -> Iterator[None]:
    """Whatever runs inside leaves torch's random state and the method's buffers (running means)
    as they were.
    """
    buffers = [(buffer, buffer.clone()) for buffer in method.buffers()]
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Inside, fp32 matrix products round their inputs to TF32 where the precision setting is
    ``tf32``.

    By the one switch of torch that its compiler asks for too.
    """
    if precision != "tf32":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def whole(method: Method) -> dict[str, Tensor]:
    """Every parameter and buffer of a method by name,
    those too that its `state_dict` leaves out.
    """
    return {**dict(method.named_parameters()), **dict(method.named_buffers())}


def _remembering(method: Method) -> dict[str, nn.Module]:
    """The modules of a method that keep more than parameters and buffers,
    by name (torch's `get_extra_state`).
    """
    own = nn.Module.get_extra_state
    return {
        name: module
        for name, module in method.named_modules()
        if type(module).get_extra_state is not own
    }


def by_first_name(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """``{"a/b/c": x}`` as ``{"a": {"b/c": x}}``; what has no slash is left out."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        first, slash, rest = name.partition("/")
        if slash:
            found.setdefault(first, {})[rest] = value
    return found


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Norm of all gradients, from one norm per parameter (as in MAMP's util/misc.py):
    many small kernels.
    """
    gradients = [parameter.grad.detach() for parameter in parameters if parameter.grad is not None]
    return torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
    )


def never() -> bool:
    """A block is left at its end."""
    return False


class Trainer:
    """One method, its optimiser, its schedule and its batches.

    Args:
        method: on its device.
        batches: endless training batches.
        train: how to train.
        steps: length of the schedule.
        ranks: that train it together; ``batches`` are then this one's part.
        not_identical: why they do not train to the weights of one process; nothing where they do.

    Attributes:
        done: optimiser steps taken.
        begun: how many of them belong to a block that is not finished.
        latest: loss of the last of them.
    """

    def __init__(
        self,
        method: Method,
        batches: Batches,
        train: TrainSpec,
        steps: int,
        ranks: Ranks = ALONE,
        *,
        not_identical: str = "",
    ) -> None:
        self.method, self.batches, self.train, self.steps, self.ranks = (
            method,
            batches,
            train,
            steps,
            ranks,
        )
        self.device = batches.device
        self.optimizer = build_optimizer(method, train)
        self.schedule = build_schedule(self.optimizer, train, steps)
        self.loss: Loss = method.loss
        if train.compile:
            self.loss = compiled(method, train)
        self.not_identical = not_identical
        if ranks.size > 1:
            self.loss = split_loss(method, self.loss, ranks, own_draws=not_identical == DRAWS)
        # Only CUDA has one: MAMP's on a CPU switches itself off. In fp32 it changes no number but
        # by rounding.
        self.scaler = torch.amp.GradScaler(
            enabled=train.gradient_scaler and self.device.type == "cuda"
        )
        self.done = self.begun = 0
        self.totals: dict[str, Tensor | float] = {}
        self.latest: Tensor | None = None
        method.train()

    def run_block(self, steps: int, clock: StepClock) -> dict[str, float]:
        """Train a block of ``steps`` steps on the clock; mean loss and named parts of it.
        Raises as `go_on` does.
        """
        self.begun, self.totals = 0, {}
        means = self.go_on(steps, clock)
        assert means is not None
        return means

    def go_on(
        self, steps: int, clock: StepClock, leave: Callable[[], bool] = never
    ) -> dict[str, float] | None:
        """Train on the clock until the block of ``steps`` steps that was begun is full; its mean
        loss and named parts.

        None where ``leave``, asked after every step, said so before the end: the next call goes on
        with the block. The timed region is what stands between ``clock.start()`` and
        ``clock.stop()``.

        Raises:
            Diverged: the loss is no finite number.
            MethodFault: the loss reached no parameter.
        """
        with self.batches.flowing(), matrix_products(self.train.precision):
            if self.lead:
                with undisturbed(self.method, self.device):
                    self._lead()
            clock.start()
            while self.begun < steps:
                x = self.batches.next()
                clock.mark("data")
                with self.autocast():
                    loss, parts = self.loss(x)
                if self.train.synchronise:
                    self._require_finite(self.ranks.finite(loss))
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
                    self.totals[name] = (
                        self.totals.get(name, 0.0) + part
                    )  # on the device: no synchronisation
                self.begun += 1
                clock.mark(LAST_PHASE)
                if leave():
                    break
            clock.stop(LAST_PHASE)
            self.ranks.slowest(clock)
        if self.begun < steps:
            return None
        means = self.ranks.mean({name: float(total) / steps for name, total in self.totals.items()})
        self.begun, self.totals = 0, {}
        self._require_finite(means["loss"])
        if not self.optimizer.state:
            raise MethodFault("the loss reaches no parameter: nothing is trained")
        return means

    def autocast(self) -> torch.autocast:
        """bf16 for what the precision setting says; nothing in fp32 and TF32."""
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.train.precision == "bf16"
        )

    def _require_finite(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise Diverged(
                f"loss is {loss} after {self.done} steps; lower --set train.lr={self.train.lr}"
            )

    def _lead(self) -> None:
        """Steps before the clock starts, without the optimiser's,
        until the source of batches runs steadily.
        """
        for _ in range(self.lead):
            with self.autocast():
                loss, _ = self.loss(self.batches.next())
            loss.backward()
            self.optimizer.zero_grad(set_to_none=True)
        # Workers were just forked: the first write to a page of weights or optimiser state copies
        # it, which a long training pays once and a timed block would pay every time.
        with torch.no_grad():
            for tensor in self.resident():
                if tensor.is_floating_point():
                    tensor.mul_(1)

    def state(self) -> dict[str, Tensor]:
        """All that the steps to come depend on but the random numbers that a process shares; copied
        to the host.

        The learning rate is not in it: it follows from the steps taken.

        Raises:
            TypeError: a module keeps something beside tensors.
        """
        extra = {
            name: module.get_extra_state() for name, module in _remembering(self.method).items()
        }
        for name, value in extra.items():
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"get_extra_state of {name or 'the method'}: expected a tensor, found"
                    f" {value!r:.50}"
                )
        optimizer = self.optimizer.state_dict()["state"]
        found = {
            "counts": torch.tensor([self.done, self.begun, self.steps]),
            **{f"method/{name}": value for name, value in whole(self.method).items()},
            **{f"extra/{name}": value for name, value in extra.items()},
            **{f"batches/{name}": value for name, value in self.batches.state().items()},
            **{f"totals/{name}": torch.as_tensor(total) for name, total in self.totals.items()},
            **{
                f"scaler/{name}": torch.tensor(value)
                for name, value in self.scaler.state_dict().items()
            },
            **{
                f"optimizer/{number}/{name}": torch.as_tensor(value)
                for number, values in optimizer.items()
                for name, value in values.items()
            },
        }
        return host_copies(found)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state` of a trainer that was built as this one was.

        Raises:
            ValueError: it was built otherwise.
        """
        parts = by_first_name(state)
        self.done, self.begun, steps = state["counts"].tolist()
        if steps != self.steps:
            raise ValueError(f"a schedule of {steps} steps, this one has {self.steps}")
        own = whole(self.method)
        if {name: value.shape for name, value in own.items()} != {
            n: v.shape for n, v in parts["method"].items()
        }:
            raise ValueError("other weights and buffers")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(parts["method"][name])
        for name, module in _remembering(self.method).items():
            module.set_extra_state(parts["extra"][name])
        self.batches.restore(parts["batches"])
        # several where ranks left a block that others go on with
        self.totals = {
            name: total.to(self.device).mean() for name, total in parts.get("totals", {}).items()
        }
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(
                {name: value.item() for name, value in parts["scaler"].items()}
            )
        moments = by_first_name(parts.get("optimizer", {}))
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict(
            {
                "state": {int(number): dict(values) for number, values in moments.items()},
                "param_groups": groups,
            }
        )
        if self.done:
            self.schedule.step_update(self.done)

    def resident(self) -> list[Tensor]:
        """What lives from step to step: weights, buffers and optimiser state."""
        states = self.optimizer.state.values()
        kept = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        return [*self.method.parameters(), *self.method.buffers(), *kept]

    @property
    def lead(self) -> int:
        """Untimed steps that stand before each block anyway,
        until batches from worker processes come steadily.
        """
        return self.batches.lead

    @property
    def first_steps(self) -> int:
        """Steps until one runs as all that follow: before, it is compiled,
        and captured where CUDA graphs are on.
        """
        return _GRAPH_STEPS if self.train.cuda_graphs else 1

    def warm_up(self) -> None:
        """Run the first steps' forward and backward off the clock (compilation, allocation)
        and forget all about it.
        """
        x = self.batches.sample()
        with undisturbed(self.method, self.device), matrix_products(self.train.precision):
            for _ in range(self.first_steps):
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
