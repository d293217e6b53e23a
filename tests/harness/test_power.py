"""What an interval of a wanted width takes, by hand and as `compare` says it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.special import stdtrit

from harness.records.differences import Row
from harness.records.power import Needed, power, power_of_people, power_of_seeds
from tests.harness.made_up_records import run_record
from tests.harness.small_run import harness
from tests.harness.test_compare import evaluated, folder_of

# Two seeds, six people: means of people .5 (three of them) and .25, of seeds .5 and .25; mean
# squares of seeds .1875, people .0375, rest .0375. So people vary by (.0375 - .0375) / 2 = 0, seeds
# by (.1875 - .0375) / 6 = .025.
CELLS = np.array([[0.5] * 6, [0.5] * 3 + [0.0] * 3])


def test_seeds_for_a_half_width_by_hand() -> None:
    # Standard deviation .1, now t(.975, 2) = 4.302653 * .1 / sqrt(3). 45 seeds: 2.015368 * .1 /
    # sqrt(45) = .030043; 46: 2.014103 * .1 / sqrt(46) = .029696.
    found = power_of_seeds([0.1, 0.2, 0.3], 0.03)
    assert found.half_width == pytest.approx(0.248414, abs=1e-6)
    assert found.seeds is not None
    assert found.seeds.count == 46
    # The variance is between 2 / 7.377759 and 2 / .0506356 of what was measured (χ², 2 degrees of
    # freedom). 14 seeds: 2.160369 * .0520658 / sqrt(14) = .030062; 15: .028833.
    assert found.seeds.low == 15
    deviation = 0.1 * math.sqrt(2 / 0.0506356)
    half = [stdtrit(n - 1, 0.975) * deviation / math.sqrt(n) for n in (1688, 1689)]
    assert half[1] <= 0.03 < half[0]
    assert found.seeds.high == 1689
    assert (found.people, found.both, found.why) == (None, None, "")


def test_people_with_these_seeds_seeds_with_these_people_and_both_by_hand() -> None:
    # Now t(.975, 1) = 12.7062 * .125. People, two seeds: .025 / 2 stays, .0375 / 2 is divided by
    # their number: (1.5 / 12.7062)^2 - .0125 = .0014366, .01875 / .0014366 = 13.05.
    found = power_of_people(CELLS, 1.5)
    assert found.half_width == pytest.approx(1.588275, abs=1e-5)
    assert found.people is not None
    assert found.people.count == 14
    # Seeds, six people: .025 + .0375 / 6 = .03125 is divided by their number: 3 seeds 4.302653 *
    # sqrt(.03125 / 3) = .4391, 4 seeds 3.182446 * sqrt(.03125 / 4) = .2813.
    found = power_of_people(CELLS, 0.3)
    assert found.seeds is not None
    assert found.seeds.count == 4
    # Both: 6 of each: 2.570582 * sqrt(.025 / 6 + .0375 / 36) = .1855; 7: 2.446912 *
    # sqrt(.025 / 7 + .0375 / 49) = .1611.
    found = power_of_people(CELLS, 0.17)
    assert found.both is not None
    assert found.both.count == 7


def test_no_number_of_people_makes_up_for_the_seeds() -> None:
    assert 12.7062 * math.sqrt(0.0125) > 1.4  # what two seeds leave
    assert power_of_people(CELLS, 1.4).people == Needed(math.inf, math.inf, math.inf)


def test_too_few_people_are_not_testable_and_still_say_how_many_it_takes() -> None:
    found = power_of_people(CELLS[:, 1:5], 1.5)  # seeds .25 apart, people .125 or .25
    assert (found.half_width, found.seeds, found.why) == (None, None, "4 of 6 test subjects")
    assert found.people is not None
    assert found.both is not None
    assert 6 <= found.people.low <= found.people.count <= found.people.high
    one_seed = power_of_people(CELLS[:1], 0.03)
    assert (one_seed.people, one_seed.both, one_seed.why) == (None, None, "one seed")


def test_one_seed_says_nothing_and_two_an_interval_without_a_verdict() -> None:
    one, other = Row("a", {0: 0.5, 1: 0.6, 2: 0.7}), Row("b", {0: 0.5})
    assert (power(one, other, 0.03).half_width, power(one, other, 0.03).seeds) == (None, None)
    two = power(one, Row("b", {0: 0.5, 1: 0.5}), 0.03)
    assert two.half_width == pytest.approx(12.7062 * 0.05, abs=1e-5)
    assert two.why == "2 of 3 seeds"
    assert power(one, Row("b", {3: 0.5}), 0.03).why == "no seed in common"


def test_what_never_varied_takes_the_fewest_seeds_that_a_verdict_takes() -> None:
    found = power_of_seeds([0.1, 0.1, 0.1, 0.1], 0.03)
    assert (found.half_width, found.seeds) == (0.0, Needed(3, 3, 3))


# --- the command ---


def test_compare_says_what_a_half_width_takes(tmp_path: Path) -> None:
    outcome = harness("compare", evaluated(tmp_path), "--half-width", "3")
    assert outcome.code == 0
    page = (tmp_path / "compare.md").read_text()
    assert "| above | below | these people: half-width | seeds [95 %] | new people: half" in page
    assert (
        "protocol linear, these people: ±3 points for 3 of 3 pairs; all pairs take 3 [3, 3]" in page
    )
    csv = (tmp_path / "compare-power.csv").read_text()
    assert csv.startswith("setting,column,above,below,wanted,these_half_width,these_seeds,")
    plain = json.loads(harness("compare", tmp_path, "--half-width", "3", "--json").out)
    (found,) = (one for one in plain if one["column"] == "protocol linear")
    assert found["power"][0]["these_seeds"] == 3
    harness("compare", tmp_path)
    assert "half-width" not in (tmp_path / "compare.md").read_text()


def test_compare_asks_nothing_of_one_seed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [run_record("gfp", 0.9), run_record("skeletonmae", 0.1)])
    assert harness("compare", folder, "--half-width", "3").code == 0
    page = (tmp_path / "compare.md").read_text()
    assert "linear, these people: not testable (1 of 3 seeds)\n" in page


@pytest.mark.parametrize("points", ["0", "-1", "nan", "101"])
def test_a_half_width_is_a_number_of_points(tmp_path: Path, points: str) -> None:
    outcome = harness("compare", folder_of(tmp_path, [run_record("gfp")]), "--half-width", points)
    assert outcome.code == 2
    assert "half-width" in outcome.err
