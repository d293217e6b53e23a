"""What an interval of a wanted width takes in seeds and people (benchmarks/RULES.md, "Power").

From the variances that were measured, and with their uncertainty. Nothing is judged by it. Pure
functions over arrays; accuracies and their differences are shares of 1.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, stdtrit

from harness.records.differences import (
    FEWEST_SEEDS,
    FEWEST_SUBJECTS,
    NO_PREDICTIONS,
    NO_SEED,
    Floats,
    Row,
    difference_of_people,
    of_seeds,
    person_shares,
    shared_seeds,
    these_people,
    variance_components,
)

_MOST = 1_000_000
"""A number above counts as out of reach."""


@dataclass(frozen=True)
class Needed:
    """How many seeds or people; infinite where no number is enough.

    Attributes:
        low: where the variance that they average is at the lower end of its 95 % χ² interval;
            `high`: at the upper end.
    """

    count: float
    low: float
    high: float


@dataclass(frozen=True)
class Power:
    """What it takes to know a difference to within a half-width.

    Attributes:
        half_width: of the 95 % interval now; None where the question is not testable.
        seeds: with the people that are there.
        people: with the seeds that are there.
        both: as many seeds as people.
        why: why the question is not testable now, empty where it is.
    """

    half_width: float | None
    seeds: Needed | None = None
    people: Needed | None = None
    both: Needed | None = None
    why: str = ""


def power(one: Row, other: Row, wanted: float, subjects: ArrayLike | None = None) -> Power:
    """For *these people*, or *new people* where the subject of every test clip is given.

    Args:
        wanted: half-width of the 95 % interval of the rows' difference.
    """
    seeds = shared_seeds(one, other)
    if not seeds:
        return Power(None, why=NO_SEED)
    if subjects is None:
        return power_of_seeds(of_seeds(one.by_seed, seeds) - of_seeds(other.by_seed, seeds), wanted)
    if not (one.right and other.right):
        return Power(None, why=NO_PREDICTIONS)
    shares = [person_shares(of_seeds(right, seeds), subjects) for right in (one.right, other.right)]
    return power_of_people(shares[0] - shares[1], wanted)


def power_of_seeds(differences: ArrayLike, wanted: float) -> Power:
    """For *these people*, from the [seeds] differences of two rows' accuracies."""
    differences = np.asarray(differences, dtype=float)
    found, seeds = these_people(differences, np.zeros_like(differences)), len(differences)
    if seeds < 2:
        return Power(None, why=found.why)
    variance = float(differences.var(ddof=1))
    more = _needed(lambda count, times: times * variance / count, seeds - 1, wanted, FEWEST_SEEDS)
    return Power(found.interval.high - found.interval.mean, more, why=found.why)


def power_of_people(cells: Floats, wanted: float) -> Power:
    """For *new people*, from the [seeds, people] differences of two rows' shares of right clips.

    With fewer people than the question takes, those who are there still say how many it would be.
    """
    seeds, people = cells.shape
    found = difference_of_people(cells)
    if min(seeds, people) < 2:
        return Power(None, why=found.why)
    by_seed, by_person, rest = variance_components(cells)
    more_people = _needed(
        lambda count, times: by_seed / seeds + times * (by_person + rest / seeds) / count,
        people - 1,
        wanted,
        FEWEST_SUBJECTS,
        others=seeds,
    )
    both = _needed(  # both variances are uncertain: the fewer degrees of freedom, as in the rules
        lambda count, times: times * (by_seed + by_person + rest / count) / count,
        min(seeds, people) - 1,
        wanted,
        FEWEST_SUBJECTS,
    )
    if people < FEWEST_SUBJECTS:
        return Power(None, people=more_people, both=both, why=found.why)
    more_seeds = _needed(
        lambda count, times: by_person / people + times * (by_seed + rest / people) / count,
        seeds - 1,
        wanted,
        2,
        others=people,
    )
    return Power(found.interval.high - found.interval.mean, more_seeds, more_people, both)


def _needed(
    variance: Callable[[int, float], float],
    freedom: int,
    wanted: float,
    fewest: int,
    others: float = math.inf,
) -> Needed:
    """The smallest number whose 95 % t interval is as narrow as wanted.

    Its degrees of freedom are the smaller of it and ``others``, less one: they grow with it.

    Args:
        variance: of the mean, with so many, where what they average varies so many times as much as
            measured.
        freedom: degrees of freedom of what was measured.
        fewest: no smaller number is asked for.
        others: how many there are of what is not increased.
    """

    def enough(count: int, times: float) -> bool:
        quantile = float(stdtrit(min(count, others) - 1, 0.975))
        return quantile * math.sqrt(variance(count, times)) <= wanted

    def smallest(times: float) -> float:
        counts = range(fewest, _MOST + 1)
        found = bisect_left(counts, True, key=lambda count: enough(count, times))
        return counts[found] if found < len(counts) else math.inf

    low, high = (freedom / float(chdtri(freedom, tail)) for tail in (0.025, 0.975))
    return Needed(smallest(1.0), smallest(low), smallest(high))
