"""Training budgets: ``30ep | 2000steps | 50000clips | 300s | 2e15flops``,
all resolved to optimiser steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import MethodFault, UsageError, shortened

if TYPE_CHECKING:
    from harness.spec.model import RunSpec

MOST = {"ep": 1e6, "steps": 1e9, "clips": 1e12, "s": 1e8, "flops": 1e26}
"""Of each unit, the largest budget: more than anybody has (3 years of seconds, say),
and safe to count with.
"""
UNITS = tuple(MOST)
EXAMPLES = "30ep, 2000steps or 300s"
SECONDS = {
    "sec": 1,
    "secs": 1,
    "seconds": 1,
    "min": 60,
    "mins": 60,
    "minutes": 60,
    "m": 60,
    "h": 3600,
    "hours": 3600,
}


@dataclass(frozen=True)
class StepCost:
    """What one optimiser step of a method consumes, in the units a budget can have.

    Attributes:
        epochs: share of the training set.
        clips: body sequences divided by the training set's bodies per clip.
        seconds: measured step time, interleaved with the other methods'.
        flops: model FLOPs, forward and backward.
        own_seconds: what the process itself took of `seconds`, as `ArmRecord.own_step_seconds`.
    """

    epochs: float
    clips: float
    seconds: float
    flops: float
    own_seconds: float | None = None


@dataclass(frozen=True)
class Budget:
    """An amount of one unit."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    def steps(self, cost: StepCost) -> int:
        """Whole optimiser steps that this budget buys, at least 1; a `MethodFault` when a step
        consumes nothing.

        A budget in seconds divides by the *interleaved* step time: a slow neighbour during one
        method's run then costs that method wall time but no steps.
        """
        if not self.share(cost):
            raise MethodFault(
                f"budget {self}: a step of this method takes no FLOPs that are counted; give steps"
                " or clips"
            )
        return max(1, round(self.amount / self.share(cost)))

    def share(self, cost: StepCost) -> float:
        """What one step consumes, in this budget's unit."""
        return {
            "steps": 1.0,
            "ep": cost.epochs,
            "clips": cost.clips,
            "s": cost.seconds,
            "flops": cost.flops,
        }[self.unit]


def counts_seconds(spec: RunSpec) -> bool:
    """The run's number of steps, or of steps between evaluations,
    follows from a measured step time.
    """
    texts = [spec.train.budget, *([spec.probe.every] if spec.probe.every else [])]
    return any(parse_budget(text).unit == "s" for text in texts)


def parse_budget(text: str) -> Budget:
    """Parse ``<number><unit>``; raises `UsageError` for anything else,
    and for amounts beyond reason.
    """
    try:
        return _parse(text)
    except ValueError as problem:
        raise UsageError(f"budget {shortened(repr(text))}: {problem}") from None


def check_budget(text: str) -> str:
    """The text, if it is a budget; `ValueError` otherwise: for the types of a spec."""
    _parse(text)
    return text


def meant(amount: float, word: str) -> str:
    """``20steps`` of 20 and ``step``, ``300s`` of 5 and ``min``;
    nothing for a word that is like no unit.
    """
    if word in SECONDS:
        return f"{amount * SECONDS[word]:g}s"
    word = word or "steps"
    alike = [
        unit for unit in UNITS if unit != "s" and (word.startswith(unit) or unit.startswith(word))
    ]
    return f"{amount:g}{alike[-1]}" if alike else ""


def _parse(text: str) -> Budget:
    match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    try:
        amount, unit = (float(match[1]), match[2]) if match else (0.0, "nothing")
    except ValueError:
        amount, unit = 0.0, "nothing"
    if unit not in UNITS:
        raise ValueError(
            f"expected a number and one of {', '.join(UNITS)}, e.g."
            f" {meant(amount, unit) or EXAMPLES}"
        )
    if not 0 < amount <= MOST[unit]:
        raise ValueError(f"expected an amount above 0 and up to {MOST[unit]:g}{unit}")
    return Budget(amount, unit)
