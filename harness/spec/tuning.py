"""The price of tuning: a published space of settings,
and random draws from it that are the same for every method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from harness import ROOT
from harness.errors import UsageError
from harness.spec.model import MethodSpec, Section, TrainSpec, build
from harness.spec.yaml_text import read_yaml

_SPACE = ROOT / "benchmarks" / "tuning.yaml"
_SEED = 0
_DIGITS = 3
"""Of a value that is drawn: what is printed is what is run."""
Number = Annotated[float, Field(gt=-1e9, lt=1e9)]
Few = Annotated[int, Field(ge=1, le=100)]


class Range(Section):
    """Where a setting is drawn from: uniformly on a logarithmic or a linear scale,
    or from a list.
    """

    log: tuple[Number, Number] | None = None
    linear: tuple[Number, Number] | None = None
    choice: tuple[Number, ...] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.log, self.linear, self.choice)) != 1:
            raise ValueError("expected one of log, linear and choice")
        return self

    def at(self, share: float) -> float:
        """The value at a uniform random number, 0 to 1."""
        if self.choice:
            return self.choice[min(int(share * len(self.choice)), len(self.choice) - 1)]
        if self.log:
            low, high = self.log
            return float(f"{low * (high / low) ** share:.{_DIGITS}g}")
        low, high = self.linear or (0.0, 0.0)
        return float(f"{low + (high - low) * share:.{_DIGITS}g}")


class Space(Section):
    """Settings of the training that are drawn, and each method's own."""

    version: Few
    train: dict[str, Range]
    methods: dict[str, dict[str, Range]]


@dataclass(frozen=True)
class Draw:
    """One draw: uniform random numbers, of which every method makes its settings.

    Attributes:
        number: from 1.
        train: settings of the training, the same for all.
    """

    number: int
    train: Mapping[str, float]
    shares: Sequence[float]
    space: Space

    def own(self, method: str) -> dict[str, float]:
        """A method's own options; a `UsageError` where the space has none for it."""
        if method not in self.space.methods:
            raise UsageError(
                f"--tuning: expected two options of {method} in {_SPACE.name}, found none (it has "
                f"{', '.join(self.space.methods)}); add them there, or leave {method} out"
            )
        ranges = self.space.methods[method]
        return {
            name: _whole(one.at(share))
            for (name, one), share in zip(ranges.items(), self.shares, strict=False)
        }

    def applied(self, settings: Mapping[str, Any], methods: Sequence[MethodSpec]) -> dict[str, Any]:
        """Settings of a run with this draw's values;
        options that were asked for and are drawn are a `UsageError`.
        """
        drawn = []
        for method in methods:
            own = self.own(method.name)
            if fixed := sorted(own.keys() & method.options.keys()):
                raise UsageError(
                    f"--tuning draws {fixed[0]} of {method.name}: leave it out of --methods"
                )
            drawn.append(str(MethodSpec(name=method.name, options={**method.options, **own})))
        train = build(TrainSpec, {**settings["train"].model_dump(), **self.train}, "tuning")
        return {**settings, "methods": ",".join(drawn), "train": train}


def _whole(value: float) -> float:
    return int(value) if value == int(value) and not isinstance(value, bool) else value


def read_space() -> Space:
    """The published space."""
    return build(Space, read_yaml(_SPACE.read_text(encoding="utf-8")), str(_SPACE))


def draws(count: int, space: Space | None = None) -> list[Draw]:
    """The first so many draws; a larger count has them too, in the same order."""
    import numpy as np  # a quarter of a second that few commands need

    space = space or read_space()
    own = max(map(len, space.methods.values()))
    # RandomState's stream is frozen for good, a Generator's may change between releases of numpy.
    random = np.random.RandomState(_SEED).random_sample((count, len(space.train) + own))
    return [
        Draw(
            number,
            {
                name: one.at(share)
                for (name, one), share in zip(space.train.items(), row, strict=False)
            },
            row[len(space.train) :].tolist(),
            space,
        )
        for number, row in enumerate(random, 1)
    ]
