"""Statistics of accuracy, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.records.differences import (
    Interval,
    Row,
    as_good_as,
    best,
    clips_interval,
    holm,
    new_people,
    pairs,
    people_interval,
    person_shares,
    seeds_interval,
    sign_flips,
    these_people,
    two_way_variance,
)


def bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.mean, interval.low, interval.high


# --- these people ---


def test_these_people_is_a_paired_t_test_with_exact_sign_flips_beside_it() -> None:
    # Differences .1, .2, .2: mean 1/6, standard deviation .057735, error .033333, t = 5 with 2
    # degrees of freedom. Two-sided p of t with 2 degrees of freedom: 1 - t / sqrt(t^2 + 2) = 1 - 5
    # / sqrt(27) = .037750. t(0.975, 2) = 4.302653, half width .143422. Of 8 sign assignments only
    # two lie as far from 0: p = .25.
    found = these_people([0.6, 0.7, 0.8], [0.5, 0.5, 0.6])
    assert bounds(found.interval) == pytest.approx(
        (1 / 6, 1 / 6 - 0.143422, 1 / 6 + 0.143422), abs=1e-6
    )
    assert found.p == pytest.approx(0.037750, abs=1e-6)
    assert (found.flips, found.smallest, found.seeds) == (0.25, 0.25, 3)


@pytest.mark.parametrize(
    ("seeds", "smallest"), [(3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125), (7, 0.015625)]
)
def test_the_smallest_p_of_sign_flips_follows_from_the_number_of_seeds(
    seeds: int, smallest: float
) -> None:
    found = these_people(np.linspace(0.6, 0.7, seeds), np.full(seeds, 0.5))
    assert found.flips == found.smallest == smallest


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([3, -1, 2], 0.5),  # sums +-6, +-4, +-2, 0: four of eight are at least as far from 0 as 4
        ([1, -1, 0], 1.0),
        ([0.1, 0.2, -0.3], 1.0),  # 0 but for rounding
        ([0.1, 0.2, 0.7, -0.1], 0.375),  # 1.1 once, .9 twice, either sign: six of sixteen
    ],
)
def test_sign_flips_by_hand(differences: list[float], expected: float) -> None:
    assert sign_flips(differences) == expected


def test_sign_flips_are_left_out_where_there_are_too_many_to_go_through() -> None:
    assert sign_flips(np.ones(16)) == 2.0**-15
    assert sign_flips(np.ones(17)) is None


def test_two_seeds_have_an_interval_and_no_verdict() -> None:
    found = these_people([0.6, 0.8], [0.5, 0.5])
    assert (found.p, found.why) == (None, "2 of 3 seeds")
    assert found.interval.high - found.interval.mean == pytest.approx(12.7062 * 0.1, rel=1e-4)


def test_differences_without_spread_have_the_smallest_p_of_the_sign_flips() -> None:
    assert these_people([0.6, 0.7, 0.8], [0.5, 0.6, 0.7]).p == 0.25
    assert these_people([0.6, 0.7, 0.8], [0.6, 0.7, 0.8]).p == 1.0


# --- new people ---


def test_the_variance_of_a_two_way_mean_by_hand() -> None:
    # Means of rows 1.5, 4.5, of columns 2, 4, of all 3. Mean squares: seeds 2 * 4.5 = 9, people 2 *
    # 2 = 4, rest (.25 + .25 + .25 + .25) / 1 = 1. Variance of the mean: (9 + 4 - 1) / 4.
    assert two_way_variance(np.array([[1.0, 2.0], [3.0, 6.0]])) == pytest.approx(3.0)


def test_a_component_below_zero_counts_as_zero() -> None:
    assert two_way_variance(np.array([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx(
        0.25
    )  # the rest's 1, over 4 cells


def test_every_person_counts_alike_however_many_clips() -> None:
    right = np.array([[True, True, False, True], [False, False, False, True]])
    assert person_shares(right, [7, 7, 7, 2]).tolist() == [
        [1.0, 2 / 3],
        [1.0, 0.0],
    ]  # in order of the numbers


def test_new_people_by_hand() -> None:
    # Six people with two clips each. The one row is right everywhere. The other has one right of
    # two; with seed 1 the last three people's are both right. Cells .5 everywhere, 0 for those:
    # mean .375; mean squares: seeds .1875, people .0375, rest .0375; variance (.15 + 0 + .0375) /
    # 12 = .125^2; t = 3 with 1 degree of freedom: p = 1 - 2 / pi * atan(3) = .204833; t(0.975, 1) =
    # 12.7062.
    subjects = np.repeat(np.arange(6), 2)
    one = np.ones((2, 12), bool)
    other = np.tile([True, False], 6) * one
    other[1, 6:] = True
    found = new_people(one, other, subjects)
    assert bounds(found.interval) == pytest.approx(
        (0.375, 0.375 - 1.588275, 0.375 + 1.588275), abs=1e-5
    )
    assert found.p == pytest.approx(0.204833, abs=1e-6)
    assert (found.seeds, found.subjects, found.flips) == (2, 6, None)


@pytest.mark.parametrize(
    ("seeds", "people", "why"),
    [(3, 5, "5 of 6 test subjects"), (1, 6, "one seed"), (1, 5, "5 of 6 test subjects")],
)
def test_too_few_people_or_seeds_are_not_testable(seeds: int, people: int, why: str) -> None:
    one, other = np.ones((seeds, people), bool), np.zeros((seeds, people), bool)
    found = new_people(one, other, np.arange(people))
    assert (found.p, found.why, found.interval.mean) == (None, why, 1.0)
    assert math.isinf(found.interval.high)
    assert people_interval(one, np.arange(people)) is None


def test_a_difference_that_one_person_makes_is_none_between_new_people() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(8), 50)
    right = generator.random((6, 400)) < 0.6
    better = right.copy()
    better[:, subjects == 3] = True
    assert (these_people(better.mean(1), right.mean(1)).p or 1) < 0.001
    assert (new_people(better, right, subjects).p or 0) > 0.2


# --- one row ---


def test_an_interval_over_seeds_and_one_over_clips_by_hand() -> None:
    # Values .6, .7, .8: error .1 / sqrt(3), half width 4.302653 * .0577350.
    assert bounds(seeds_interval([0.6, 0.7, 0.8])) == pytest.approx(
        (0.7, 0.451586, 0.948414), abs=1e-5
    )
    assert bounds(seeds_interval([0.7])) == (0.7, -math.inf, math.inf)
    # Wilson, 8 of 10, z = 1.959964: centre (.8 + z^2 / 20) / (1 + z^2 / 10) = .716740, half width
    # .226578.
    assert bounds(clips_interval(0.8, 10)) == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-5)


# --- a table ---


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx(
        [0.03, 0.06, 0.06]
    )  # 3 x .01; 2 x .03; 1 x .04, not below .06
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def rows(**values: tuple[float, ...]) -> list[Row]:
    return [
        Row(
            name.replace("_", "-"),
            dict(enumerate(found)),
            control=name.startswith("raw"),
            constant=name == "raw_pca",
        )
        for name, found in values.items()
    ]


def test_pairs_put_the_higher_row_first_and_share_holms_family() -> None:
    table = rows(low=(0.5, 0.51, 0.52), high=(0.9, 0.905, 0.921), middle=(0.89, 0.92, 0.9))
    found = pairs(table)
    assert [(pair.above, pair.below, pair.apart) for pair in found] == [
        ("high", "low", True),
        ("middle", "low", True),
        ("high", "middle", False),
    ]
    assert [pair.holm for pair in found] == holm([pair.difference.p or 1.0 for pair in found])
    assert best(table) == "high"
    assert as_good_as("high", table, found) == ["middle"]


def test_only_seeds_that_both_rows_have_are_paired() -> None:
    table = rows(one=(0.5, 0.6, 0.7, 0.9), other=(0.4, 0.55, 0.6))
    (pair,) = pairs(table)
    assert pair.difference.seeds == 3
    assert pair.difference.interval.mean == pytest.approx((0.1 + 0.05 + 0.1) / 3)


def test_raw_coordinates_have_no_seed_and_are_never_the_best() -> None:
    table = rows(gfp=(0.5, 0.51, 0.52), raw_pca=(0.77,))
    (pair,) = pairs(table)
    assert (pair.above, pair.below, pair.apart, pair.difference.seeds) == (
        "raw-pca",
        "gfp",
        True,
        3,
    )
    assert best(table) == "gfp"


def test_a_pair_without_enough_seeds_is_no_test_of_the_family() -> None:
    table = rows(one=(0.5, 0.6, 0.71), other=(0.4, 0.52, 0.6), short=(0.9,))
    found = {(pair.above, pair.below): pair for pair in pairs(table)}
    assert found["short", "one"].holm is None
    assert found["one", "other"].holm == found["one", "other"].difference.p
    assert pairs(rows(one=(0.5,), other=(0.6,)))[0].difference.why == "1 of 3 seeds"
    assert (
        pairs([Row("one", {0: 0.5}), Row("other", {1: 0.4})])[0].difference.why
        == "no seed in common"
    )


def test_new_people_need_predictions() -> None:
    generator = np.random.default_rng(1)
    subjects = np.repeat(np.arange(6), 10)
    guesses = {seed: generator.random(60) < 0.4 for seed in range(3)}
    right = {seed: np.ones(60, bool) for seed in range(3)}
    good = Row("good", dict.fromkeys(range(3), 1.0), right=right)
    bad = Row("bad", dict.fromkeys(range(3), 0.4), right=guesses)
    told = pairs([good, bad], subjects)
    assert told[0].apart
    assert told[0].difference.subjects == 6
    (without,) = pairs(rows(one=(0.5, 0.6, 0.7), other=(0.4, 0.5, 0.6)), subjects)
    assert (without.holm, without.difference.why) == (None, "no prediction for each test clip")
