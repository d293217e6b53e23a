"""Training budgets: ``30ep | 2000steps | 50000clips | 300s | 1h30min | 2e15flops``,
all resolved to optimiser steps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from harness.errors import MethodFault, UsageError, shortened

if TYPE_CHECKING:
    from harness.spec.model import RunSpec

MOST = {"ep": 1e6, "steps": 1e9, "clips": 1e12, "s": 1e8, "flops": 1e26}
"""Of each unit, the largest budget: more than anybody has (3 years of seconds, say),
and safe to count with.
"""
_SECONDS = {"h": 3600, "min": 60, "s": 1}
"""Units of time, in the order in which a budget may have several: ``1h30min``."""
UNITS = (*MOST, "min", "h")
_EXAMPLES = "30ep, 2000steps, 300s or 1h30min"
_OTHER_WORDS = {
    "h": ("hr", "hrs", "hour", "hours"),
    "min": ("m", "mins", "minute", "minutes"),
    "s": ("sec", "secs", "second", "seconds"),
}
"""What the units of time are called elsewhere."""
_NUMBER = r"([0-9.]+(?:e[+-]?[0-9]+)?)"
_TIME = re.compile(r"\s*" + "".join(rf"(?:{_NUMBER}\s*{unit}\s*)?" for unit in _SECONDS))
_AMOUNT = re.compile(rf"\s*{_NUMBER}\s*([a-z]*)\s*")


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
    """The text, if it is a budget, with hours and minutes as the seconds that they are,
    so that runs of ``2h`` and of ``7200s`` are the same;
    `ValueError` otherwise: for the types of a spec.
    """
    budget = _parse(text)
    in_other_units = budget.unit == "s" and re.search("h|min", text.lower())
    return f"{budget.amount:.15g}s" if in_other_units else text


def _meant(amount: float, word: str) -> str:
    """``20steps`` of 20 and ``step``, ``5min`` of 5 and ``m``;
    nothing for a word that is like no unit.
    """
    word = word or "steps"
    alike = [unit for unit, words in _OTHER_WORDS.items() if word in words] or [
        unit for unit in MOST if unit != "s" and (word.startswith(unit) or unit.startswith(word))
    ]
    return f"{amount:g}{alike[-1]}" if alike else ""


def _parse(text: str) -> Budget:
    amount, unit = _amount_and_unit(text.lower())
    if unit not in MOST:
        raise ValueError(
            f"expected a number and one of {', '.join(UNITS)}, e.g."
            f" {_meant(amount, unit) or _EXAMPLES}"
        )
    if not 0 < amount <= MOST[unit]:
        raise ValueError(f"expected an amount above 0 and up to {MOST[unit]:g}{unit}")
    return Budget(amount, unit)


def _amount_and_unit(text: str) -> tuple[float, str]:
    """The number and the word behind it, times in seconds; no unit's name where there are none."""
    try:
        if (times := _TIME.fullmatch(text)) and any(times.groups()):
            given = zip(times.groups(), _SECONDS.values(), strict=True)
            # in decimals: 1.1 h are 3960 s, not 3960.0000000000005
            return float(sum(Decimal(number) * unit for number, unit in given if number)), "s"
        if match := _AMOUNT.fullmatch(text):
            return float(match[1]), match[2]
    except (ValueError, ArithmeticError):  # 1.2.3
        pass
    return 0.0, "nothing"
