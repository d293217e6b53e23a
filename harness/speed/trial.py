"""Trial steps: a few steps of a fresh build of a method, before it is timed, that show what no
clock can.

Does the loss read its whole batch, and leave it as it was? Is every step a step, with the FLOPs
that are counted on the meta device? Nothing of it is left: the builds are thrown away, and random
numbers go on as they were.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.batches import Batch
from datasets.layouts import SkeletonLayout
from harness.isolation.guard import seeded
from harness.records.doubts import FLOP_ROUNDING
from harness.records.schema import Doubt
from harness.spec.model import RunSpec
from harness.speed.flops import flop_counter, step_flops
from harness.training.build import build_method, build_optimizer
from methods.base import Method
from methods.parts.encoder import set_attention_kernel

STEPS, _UNJUDGED = 8, 2
"""Steps, and how many at their beginning are not judged:
behind a layer that starts at zero there is no gradient.
"""
_COUNTED = (_UNJUDGED + 1, STEPS)
"""Steps whose FLOPs are counted: counting takes longer than a step of so few body sequences."""
_SEQUENCES = 2
"""Body sequences of a trial step."""
_UNREAD = 1e-6
"""Relative to the largest gradient of a body sequence, or to the loss: below it there is none,
or no change.
"""


@dataclass(frozen=True)
class Trial:
    """A method to be tried, as a run builds it.

    Attributes:
        batch: of its training, on the device.
    """

    method: type[Method]
    spec: RunSpec
    layout: SkeletonLayout
    batch: Batch

    def doubts(self) -> list[Doubt]:
        """Everything that trial steps give away."""
        with seeded(self.spec.seed):
            return [*part_of_the_batch(self), *unlike_counted(self)]

    def build(self) -> Method:
        """A fresh one, in training mode; the same weights and random numbers every time."""
        return build_method(self.method, self.spec, self.layout, self.views[0].device).train()

    @property
    def views(self) -> tuple[Tensor, ...]:
        """The batch as a tuple, ``[B, T, V, 3]`` each."""
        return self.batch if isinstance(self.batch, tuple) else (self.batch,)

    def loss(self, views: Sequence[Tensor]) -> Tensor:
        """The loss of a fresh build on these views."""
        built = self.build()
        torch.manual_seed(self.spec.seed)
        return built.loss(_packed(views))[0]


def _packed(views: Sequence[Tensor]) -> Batch:
    """Views as `Method.loss` gets them."""
    return tuple(views) if len(views) > 1 else views[0]


# --- the whole batch ---


def part_of_the_batch(trial: Trial) -> list[Doubt]:
    """A doubt where the loss stays the same whatever stands in some rows of its batch."""
    size, unread = len(trial.views[0]), unread_rows(trial)
    if not unread:
        return []
    text = f"the loss of {size} body sequences stays the same when {len(unread)} of them are others"
    return [Doubt(kind="part of the batch", text=text)]


def unread_rows(trial: Trial) -> list[int]:
    """Rows whose body sequences do not matter.

    Those without a gradient are suspected. It may have been cut off on purpose, or a hinge be shut:
    only a loss that stays the same with others in their place convicts them. Without any gradient
    groups of rows are tried.
    """
    given = [view.detach().clone().requires_grad_() for view in trial.views]
    loss = trial.loss(
        [view.clone() for view in given]
    )  # a copy may be written into, what asks for gradients not
    found = torch.autograd.grad(loss, given, allow_unused=True)
    gradients = [gradient for gradient in found if gradient is not None]
    if gradients:
        largest = torch.stack([gradient.abs().flatten(1).amax(1) for gradient in gradients]).amax(0)
        suspects: Iterator[list[int]] = iter([_rows_of(largest <= _UNREAD * largest.max())])
    else:
        suspects = groups(len(given[0]))
    guilty = {row for rows in suspects if rows and _same_loss(trial, rows, loss) for row in rows}
    return sorted(guilty)


def _rows_of(flags: Tensor) -> list[int]:
    """Numbers of the rows that are marked."""
    return [row for row, marked in enumerate(flags.tolist()) if marked]


def groups(size: int) -> Iterator[list[int]]:
    """Eighths of the rows, and every other one."""
    rows, eighth = list(range(size)), math.ceil(size / 8)
    yield from (rows[start : start + eighth] for start in range(0, size, eighth))
    yield from (rows[start::2] for start in range(2) if size > 1)


def _same_loss(trial: Trial, rows: Sequence[int], loss: Tensor) -> bool:
    """The loss does not change when these rows are backwards,
    three times as large and a metre away.
    """
    others = []
    for view in trial.views:
        changed = view.detach().clone()
        changed[rows] = 3 * changed[rows].flip(1) + 1
        others.append(changed)
    return math.isclose(trial.loss(others).item(), loss.item(), rel_tol=_UNREAD)


# --- steps ---


@dataclass(frozen=True)
class Step:
    """What a trial step showed.

    Attributes:
        flops: None where they are not counted.
        trained: a parameter of the encoder that learns got a gradient.
        changed: the batch is another after it.
    """

    flops: float | None
    trained: bool
    changed: bool


def unlike_counted(trial: Trial) -> list[Doubt]:
    """Doubts about steps that are none, cost what is not counted, or write into their batch."""
    steps = list(trial_steps(trial))
    judged = steps[_UNJUDGED:]
    found = []
    if any(step.changed for step in steps):
        found.append(
            Doubt(kind="batch changed", text="a step writes into the batch that it is given")
        )
    idle = sum(not step.trained for step in judged)
    if idle > len(judged) / 2:
        text = f"the encoder had no gradient in {idle} of {len(judged)} trial steps"
        found.append(Doubt(kind="steps skipped", text=text))
    size = len(_small(trial.views)[0])
    counted = step_flops(trial.method, trial.spec.with_train(batch_size=size), trial.layout)
    mean = statistics.fmean(step.flops for step in judged if step.flops is not None)
    if abs(mean - counted) > FLOP_ROUNDING * max(mean, counted):
        text = (
            f"a trial step takes {mean / 1e6:.4g} MFLOP with values and {counted / 1e6:.4g} on the"
            " meta device"
        )
        found.append(Doubt(kind="FLOPs differ", text=text))
    return found


def trial_steps(trial: Trial) -> Iterator[Step]:
    """Steps of one build, from the start to the end of a training as far
    as `after_step` can tell.
    """
    method = trial.build()
    set_attention_kernel(method, fused=False)  # as FLOPs are counted
    optimizer = build_optimizer(method, trial.spec.train)
    torch.manual_seed(trial.spec.seed)
    views = _small(trial.views)
    for number in range(1, STEPS + 1):
        given = [view.clone() for view in views]
        counter = flop_counter() if number in _COUNTED else None
        with counter or nullcontext():
            loss, _ = method.loss(_packed(given))
            loss.backward()
        gradients = [p.grad for p in method.encoder.parameters() if p.grad is not None]
        trained = any(bool(gradient.any()) for gradient in gradients)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        method.after_step(number / STEPS)
        changed = any(not _same_bits(one, other) for one, other in zip(given, views, strict=True))
        yield Step(float(counter.get_total_flops()) if counter else None, trained, changed)


def _small(views: Sequence[Tensor]) -> list[Tensor]:
    """The first few body sequences."""
    return [view[:_SEQUENCES].detach().clone() for view in views]


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Equal, also where a number is none."""
    return bool(
        torch.equal(one.nan_to_num(), other.nan_to_num())
        and torch.equal(one.isnan(), other.isnan())
    )
