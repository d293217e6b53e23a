"""Statistics of speed, against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.records.ratios import (
    COARSE_FLOOR,
    COARSE_INTERVAL,
    MOSTLY_DISTURBED,
    claim_verdict,
    inside_floor,
    noise_floor,
    paired_ratio,
    verdict,
)
from harness.records.schema import Ratio


def ratio(low: float, high: float) -> Ratio:
    return Ratio(value=math.sqrt(low * high), low=low, high=high, pairs=10)


def test_paired_ratio_is_the_exponential_of_the_mean_log_ratio_with_a_t_interval() -> None:
    # Ratios 2, 4, 8: logs are 1, 2, 3 times ln 2; mean 2 ln 2, standard deviation ln 2, error ln 2
    # / sqrt(3). t(0.975, 2 degrees of freedom) = 4.302653, so the logs' half width is 4.302653 *
    # 0.693147 / 1.732051 = 1.721871. exp(1.721871) = 5.594985.
    found = paired_ratio([2.0, 8.0, 24.0], [1.0, 2.0, 3.0])
    assert found.value == pytest.approx(4.0)
    assert found.low == pytest.approx(4.0 / 5.594985, rel=1e-5)
    assert found.high == pytest.approx(4.0 * 5.594985, rel=1e-5)
    assert found.pairs == 3


def test_equal_ratios_have_an_interval_without_width() -> None:
    found = paired_ratio([3.0, 6.0, 9.0, 12.0], [1.0, 2.0, 3.0, 4.0])
    assert (found.value, found.low, found.high) == pytest.approx((3.0, 3.0, 3.0))


def test_exchanging_the_sides_inverts_ratio_and_interval() -> None:
    one, two = [1.0, 1.3, 0.9, 1.1], [0.5, 0.4, 0.6, 0.45]
    there, back = paired_ratio(one, two), paired_ratio(two, one)
    assert (back.value, back.low, back.high) == pytest.approx(
        (1 / there.value, 1 / there.high, 1 / there.low)
    )


def test_drift_that_both_sides_share_cancels() -> None:
    drift = np.array([1.0, 1.5, 3.0, 0.7])
    found = paired_ratio((2 * drift).tolist(), drift.tolist())
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))


def test_nothing_bounds_the_ratio_of_a_single_pair() -> None:
    found = paired_ratio([6.0], [2.0])
    assert (found.value, found.low, found.high, found.pairs) == (pytest.approx(3), 0, math.inf, 1)
    floor = noise_floor(found)
    assert floor == math.inf
    assert verdict(found, floor) == "not measurable here"
    for claimed in (6.2, 0.2):
        assert claim_verdict(claimed, found, floor) == "not measurable here"
    with pytest.raises(ValueError, match="a ratio needs a pair"):
        paired_ratio([], [])


def test_sides_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        paired_ratio([1.0, 2.0, 3.0], [1.0, 2.0])


def test_five_pairs_cover_the_true_ratio_95_times_in_100() -> None:
    random, true, trials = np.random.default_rng(0), 2.2, 2000
    inside = 0
    for _ in range(trials):
        base = np.exp(random.normal(0.0, 0.3, size=5))
        noisy = true * base * np.exp(random.normal(0.0, 0.1, size=5))
        found = paired_ratio(noisy, base)
        inside += found.low <= true <= found.high
    assert inside / trials == pytest.approx(0.95, abs=0.015)  # three standard errors of 2000 trials


@pytest.mark.parametrize(
    ("low", "high", "floor"), [(0.98, 1.03, 1.03), (0.8, 1.1, 1.25), (1.01, 1.04, 1.04)]
)
def test_the_noise_floor_is_the_farther_end_of_same_against_same(
    low: float, high: float, floor: float
) -> None:
    assert noise_floor(ratio(low, high)) == pytest.approx(floor)


@pytest.mark.parametrize(
    ("low", "high", "floor", "expected"),
    [
        (1.06, 1.2, 1.05, "supported"),
        (1.06, 9.0, 1.05, "supported"),  # a wide interval, but all of it above the floor
        (1.40, 1.6, 1.30, "supported"),
        (1.05, 1.2, 1.05, "not supported"),  # it begins at the floor
        (1.02, 1.2, 1.05, "not supported"),
        (0.95, 1.05, 1.05, "not supported"),
        (1.00, 1.5, 1.05, "not supported"),
        (1.00, 1.51, 1.05, "not measurable here"),  # wider than a factor of 1.5
        (1.20, 1.4, 1.25, "not supported"),
        (1.20, 1.4, 1.26, "not measurable here"),  # a floor above 1.25
    ],
)
def test_the_verdict_needs_the_whole_interval_above_the_floor(
    low: float, high: float, floor: float, expected: str
) -> None:
    assert (COARSE_FLOOR, COARSE_INTERVAL) == (1.25, 1.5)
    assert verdict(ratio(low, high), floor) == expected


@pytest.mark.parametrize(("low", "high"), [(2.0, 2.2), (0.5, 0.6), (1.0, 1.1)])
def test_mostly_disturbed_blocks_measure_nothing(low: float, high: float) -> None:
    assert MOSTLY_DISTURBED == 0.5
    assert verdict(ratio(low, high), 1.05, disturbed=0.51) == "not measurable here"
    assert verdict(ratio(low, high), 1.05, disturbed=0.5) == verdict(ratio(low, high), 1.05)
    assert verdict(ratio(low, high), 1.05) != "not measurable here"


@pytest.mark.parametrize(
    ("claimed", "low", "high", "expected"),
    [
        (6.2, 5.5, 6.2, "supported"),  # the upper end just reaches it
        (6.2, 5.5, 6.1, "not supported"),
        (6.2, 7.0, 8.0, "supported"),  # faster than claimed
        (6.2, 4.2, 6.3, "supported"),  # exactly a factor of 1.5
        (6.2, 4.1, 6.3, "not measurable here"),
        (6.2, 0.7, 0.8, "not supported"),
        (1.1, 1.06, 1.2, "supported"),
        (1.1, 1.05, 1.2, "not supported"),  # begins at the floor
        (0.2, 0.20, 0.25, "supported"),  # five times slower: the lower end just reaches it
        (0.2, 0.21, 0.25, "not supported"),
        (0.2, 0.10, 0.12, "supported"),  # slower than claimed
        (0.2, 0.19, 0.30, "not measurable here"),
        (0.9, 0.85, 0.95, "supported"),
        (0.9, 0.85, 0.96, "not supported"),  # ends inside the band of the floor, 1 / 1.05 = 0.952
        (0.2, 5.0, 6.0, "not supported"),  # faster, not slower
    ],
)
def test_a_claimed_factor_must_be_reached_and_lie_outside_the_floor(
    claimed: float, low: float, high: float, expected: str
) -> None:
    assert claim_verdict(claimed, ratio(low, high), 1.05) == expected


@pytest.mark.parametrize(("claimed", "low", "high"), [(6.2, 6.0, 6.4), (0.2, 0.19, 0.21)])
def test_mostly_disturbed_blocks_support_no_claim(claimed: float, low: float, high: float) -> None:
    assert claim_verdict(claimed, ratio(low, high), 1.05, disturbed=0.5) == "supported"
    assert claim_verdict(claimed, ratio(low, high), 1.05, disturbed=0.51) == "not measurable here"


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [
        (1.2, 1.4, False),  # faster
        (1.05, 1.4, True),  # begins inside the band
        (0.99, 1.01, True),
        (0.5, 2.0, True),
        (0.7, 0.95, True),  # ends inside the band, 1 / 1.1 = 0.909
        (0.6, 0.9, False),  # slower
    ],
)
def test_an_interval_that_touches_the_band_of_the_floor_is_noise(
    low: float, high: float, inside: bool
) -> None:
    assert inside_floor(ratio(low, high), 1.1) is inside


def test_what_is_supported_is_never_noise() -> None:
    for low in np.linspace(0.5, 2.5, 41):
        for floor in np.linspace(1.0, 1.6, 13):
            found = ratio(float(low), float(low) * 1.2)
            assert verdict(found, float(floor)) != "supported" or not inside_floor(
                found, float(floor)
            )
