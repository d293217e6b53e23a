"""Statistics of accuracy: may one row be called better than another? (benchmarks/RULES.md,
"Accuracy: two questions")

*These people*: other seeds, the same test clips. *New people*: other seeds and other people. Pure
functions over arrays; accuracies and their differences are shares of 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

LEVEL = 0.05
"""Rate of false "different" that the rules allow."""
FEWEST_SEEDS = 3
"""With fewer there may be an interval, and no verdict."""
FEWEST_SUBJECTS = 6
SPREADLESS = 1e-12
"""Standard errors below are rounding."""
_MOST_FLIPPED = 16
"""Of more seeds the 2^n sign assignments are not gone through."""
NO_SEED, NO_PREDICTIONS = "no seed in common", "no prediction for each test clip"
"""Why two rows cannot be compared."""

Floats = NDArray[np.float64]
Right = NDArray[Any]
"""[seeds, clips] whether the prediction for a test clip is right;
of several predictions the share that is.
"""


@dataclass(frozen=True)
class Interval:
    """A mean, or a difference of means, and its 95 % interval,
    which is infinite where nothing bounds it.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One row's accuracy minus another's.

    Attributes:
        p: of the t test that belongs to the interval, two-sided; None where the question is not
            testable.
        flips: p of the exact sign-flip test, for *these people* up to `_MOST_FLIPPED` seeds;
            `smallest`: the smallest that it can be with so many seeds.
        why: why it is not testable, empty where it is.
    """

    interval: Interval
    seeds: int
    subjects: int | None = None
    p: float | None = None
    flips: float | None = None
    smallest: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Row:
    """What a row of a table got on the test clips.

    Attributes:
        by_seed: accuracy by seed.
        control: it is a yardstick, and never the best.
        constant: it has no seed (raw coordinates), and goes with every seed of another row.
        right: whether each test clip was classified rightly, by seed; empty where predictions were
            not kept.
    """

    label: str
    by_seed: Mapping[int, float]
    control: bool = False
    constant: bool = False
    right: Mapping[int, Right] | None = None

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(list(self.by_seed.values())))


@dataclass(frozen=True)
class Pair:
    """Two rows of a table, the one with the higher mean first,
    and Holm's p over all pairs of it.
    """

    above: str
    below: str
    difference: Difference
    holm: float | None

    @property
    def apart(self) -> bool:
        """They are told apart."""
        return self.holm is not None and self.holm < LEVEL

    @property
    def turned(self) -> Pair:
        """The same pair, named in the other order."""
        own = self.difference.interval
        interval = Interval(-own.mean, -own.high, -own.low)
        return Pair(self.below, self.above, replace(self.difference, interval=interval), self.holm)


# --- one row ---


def seeds_interval(values: ArrayLike) -> Interval:
    """Mean and 95 % t interval of values over seeds; infinite with a single one."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return Interval(float(values.mean()), -math.inf, math.inf)
    return _t_interval(float(values.mean()), _error(values), len(values) - 1)


def clips_interval(accuracy: float, clips: int) -> Interval:
    """95 % binomial (Wilson) interval of a share of clips: neither seeds nor people vary in it."""
    from scipy.stats import binomtest  # half a second to load

    low, high = binomtest(round(accuracy * clips), clips).proportion_ci(method="wilson")
    return Interval(accuracy, float(low), float(high))


# --- two rows ---


def these_people(one: ArrayLike, other: ArrayLike) -> Difference:
    """Would other seeds say the same of these test clips?

    Args:
        one: [seeds] accuracies of a row; `other` those of another, of the same seeds in the same
            order.
    """
    differences = np.asarray(one, dtype=float) - np.asarray(other, dtype=float)
    seeds, interval = len(differences), seeds_interval(differences)
    if seeds < FEWEST_SEEDS:
        return Difference(interval, seeds, why=f"{seeds} of {FEWEST_SEEDS} seeds")
    p = _t_test(interval.mean, _error(differences), seeds - 1)
    return Difference(
        interval, seeds, p=p, flips=sign_flips(differences), smallest=2.0 ** (1 - seeds)
    )


def sign_flips(differences: ArrayLike) -> float | None:
    """Share of all 2^n sign assignments with a mean at least as far from 0; None above
    `_MOST_FLIPPED` differences.
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) > _MOST_FLIPPED:
        return None
    bits = np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences)) & 1
    sums = np.abs((1 - 2 * bits) @ differences)
    return float(
        np.mean(sums >= abs(differences.sum()) - 1e-9)
    )  # equal sums may differ in their last digits


def new_people(one: Right, other: Right, subjects: ArrayLike) -> Difference:
    """Would other people, and other seeds, say the same?

    Args:
        one: [seeds, clips] of a row; `other` of another, of the same seeds in the same order.
        subjects: [clips] who is in each test clip.
    """
    return difference_of_people(person_shares(one, subjects) - person_shares(other, subjects))


def difference_of_people(cells: Floats) -> Difference:
    """The same from the [seeds, subjects] differences of both rows' shares of right clips."""
    seeds, people = cells.shape
    mean = float(cells.mean())
    unbounded = Interval(mean, -math.inf, math.inf)
    if people < FEWEST_SUBJECTS:
        return Difference(
            unbounded, seeds, people, why=f"{people} of {FEWEST_SUBJECTS} test subjects"
        )
    if seeds < 2:
        return Difference(unbounded, seeds, people, why="one seed")
    error, freedom = math.sqrt(two_way_variance(cells)), min(seeds, people) - 1
    return Difference(
        _t_interval(mean, error, freedom), seeds, people, p=_t_test(mean, error, freedom)
    )


def people_interval(right: Right, subjects: ArrayLike) -> Interval | None:
    """Mean over people of one row and its 95 % interval over seeds and people;
    None where it is not testable.
    """
    cells = person_shares(right, subjects)
    if len(cells) < 2 or cells.shape[1] < FEWEST_SUBJECTS:
        return None
    return _t_interval(
        float(cells.mean()), math.sqrt(two_way_variance(cells)), min(cells.shape) - 1
    )


def person_shares(right: Right, subjects: ArrayLike) -> Floats:
    """[seeds, subjects] share of right clips of each seed and person,
    people in ascending order of their numbers.
    """
    people, person = np.unique(np.asarray(subjects), return_inverse=True)
    members = np.eye(len(people))[person.ravel()]  # [clips, people]
    return np.asarray(right, dtype=float) @ members / members.sum(0)


def two_way_variance(cells: Floats) -> float:
    """Variance of the mean of [seeds, subjects] values when seeds and subjects are both drawn."""
    seeds, people = cells.shape
    of_seeds, of_people, rest = variance_components(cells)
    return of_seeds / seeds + of_people / people + rest / (seeds * people)


def variance_components(cells: Floats) -> tuple[float, float, float]:
    """Variances of [seeds, subjects] values: between seeds, between subjects, and what is left.

    From the mean squares of the two-way table with one value a cell; a component below zero counts
    as zero.
    """
    seeds, people = cells.shape
    by_seed, by_person = cells.mean(1), cells.mean(0)
    rest = cells - by_seed[:, None] - by_person + cells.mean()
    left = float((rest**2).sum()) / ((seeds - 1) * (people - 1))
    return (
        max(float(by_seed.var(ddof=1)) - left / people, 0.0),
        max(float(by_person.var(ddof=1)) - left / seeds, 0.0),
        left,
    )


def _error(values: Floats) -> float:
    """Standard error of a mean; values that differ by no more than rounding does have none."""
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return error if error > SPREADLESS else 0.0


def _t_interval(mean: float, error: float, freedom: int) -> Interval:
    half = float(stdtrit(freedom, 0.975)) * error
    return Interval(mean, mean - half, mean + half)


def _t_test(mean: float, error: float, freedom: int) -> float:
    """Two-sided p; without any spread the smallest that signs of as many values can give."""
    if not error:
        return 2.0**-freedom if mean else 1.0
    return 2 * float(stdtr(freedom, -abs(mean) / error))


# --- all rows of a table ---


def holm(p: Sequence[float]) -> list[float]:
    """p adjusted by Holm's step-down for as many tests as there are."""
    order = np.argsort(p)
    stepped = np.minimum(
        np.maximum.accumulate(np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)), 1
    )
    adjusted = np.empty(len(p))
    adjusted[order] = stepped
    return adjusted.tolist()


def pairs(rows: Sequence[Row], subjects: ArrayLike | None = None) -> list[Pair]:
    """All pairs of rows: *these people*, or *new people* where the subject of every test clip is
    given.

    Pairs that are not testable are not among Holm's tests.
    """
    found = [
        Pair(one.label, other.label, _difference(one, other, subjects), None)
        for one, other in combinations(rows, 2)
    ]
    found = [pair.turned if pair.difference.interval.mean < 0 else pair for pair in found]
    adjusted = iter(holm([pair.difference.p for pair in found if pair.difference.p is not None]))
    return [
        pair if pair.difference.p is None else replace(pair, holm=next(adjusted)) for pair in found
    ]


def _difference(one: Row, other: Row, subjects: ArrayLike | None) -> Difference:
    seeds = shared_seeds(one, other)
    unbounded = Interval(one.mean - other.mean, -math.inf, math.inf)
    if not seeds:
        return Difference(unbounded, 0, why=NO_SEED)
    if subjects is None:
        return these_people(of_seeds(one.by_seed, seeds), of_seeds(other.by_seed, seeds))
    if not (one.right and other.right):
        return Difference(unbounded, len(seeds), why=NO_PREDICTIONS)
    return new_people(of_seeds(one.right, seeds), of_seeds(other.right, seeds), subjects)


def shared_seeds(one: Row, other: Row) -> list[int]:
    """Seeds that both rows have; a row without seeds has every seed of another."""
    if one.constant and other.constant:
        return []
    if one.constant or other.constant:
        return sorted((other if one.constant else one).by_seed)
    return sorted(one.by_seed.keys() & other.by_seed.keys())


def of_seeds(by_seed: Mapping[int, Any], seeds: Sequence[int]) -> NDArray:
    """[seeds, ...] the values of these seeds; that of a row without seeds for each."""
    return np.stack(
        [by_seed[seed] if seed in by_seed else next(iter(by_seed.values())) for seed in seeds]
    )


def best(rows: Sequence[Row]) -> str | None:
    """The method with the highest mean; None where there is none."""
    methods = [row for row in rows if not row.control]
    return max(methods, key=lambda row: row.mean).label if methods else None


def as_good_as(label: str, rows: Sequence[Row], found: Sequence[Pair]) -> list[str]:
    """Methods that are not told apart from a row."""
    told = {pair.above for pair in found if pair.apart and pair.below == label}
    told |= {pair.below for pair in found if pair.apart and pair.above == label}
    return [
        row.label
        for row in rows
        if not row.control and row.label != label and row.label not in told
    ]
