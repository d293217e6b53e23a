"""Training budgets: ``30ep | 2000steps | 50000clips | 300s | 2e15flops``, all resolved to optimiser steps."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import MethodFault, UsageError
from harness.spec.model import RunSpec

UNITS = ("ep", "steps", "clips", "s", "flops")


@dataclass(frozen=True)
class StepCost:
    """What one optimiser step of a method consumes, in the units a budget can have.

    Attributes:
        epochs: share of the training set.
        clips: body sequences divided by the training set's bodies per clip.
        seconds: measured step time, interleaved with the other methods'.
        flops: model FLOPs, forward and backward.
    """

    epochs: float
    clips: float
    seconds: float
    flops: float


@dataclass(frozen=True)
class Budget:
    """An amount of one unit."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    def steps(self, cost: StepCost) -> int:
        """Whole optimiser steps that this budget buys, at least 1; a `MethodFault` when a step consumes nothing.

        A budget in seconds divides by the *interleaved* step time: a slow neighbour during one method's run then
        costs that method wall time but no steps.
        """
        if not self.share(cost):
            raise MethodFault(
                f"budget {self}: a step of this method takes no FLOPs that are counted; give steps or clips"
            )
        return max(1, round(self.amount / self.share(cost)))

    def share(self, cost: StepCost) -> float:
        """What one step consumes, in this budget's unit."""
        return {
            "steps": 1.0, "ep": cost.epochs, "clips": cost.clips, "s": cost.seconds, "flops": cost.flops,
        }[self.unit]  # fmt: skip


def counts_seconds(spec: RunSpec) -> bool:
    """The run's number of steps, or of steps between evaluations, follows from a measured step time."""
    texts = [spec.train.budget, *([spec.probe.every] if spec.probe.every else [])]
    return any(parse_budget(text).unit == "s" for text in texts)


def parse_budget(text: str) -> Budget:
    """Parse ``<number><unit>``; raises `UsageError` for anything else, and for amounts that are not positive."""
    match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*", text.lower())
    problem = f"budget {text!r}: expected a number and one of {', '.join(UNITS)}, e.g. 30ep, 2000steps or 300s"
    if not match or match[2] not in UNITS:
        raise UsageError(problem)
    try:
        amount = float(match[1])
    except ValueError:
        raise UsageError(problem) from None
    if not 0 < amount < float("inf"):
        raise UsageError(f"budget {text!r}: the amount must be positive and finite")
    return Budget(amount, match[2])
