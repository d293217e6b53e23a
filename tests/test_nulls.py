"""The script that tries the rules on equal rows: its arithmetic by hand,
and that what it draws is equal.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.nulls import Spread, halves, measured, simulated, told_apart
from harness.records.differences import Row, these_people, variance_components

SPREAD = Spread(accuracy=0.6, seed=0.02, person=0.1, liking=0.05, clip=0.4)


def test_components_of_a_two_way_table_by_hand() -> None:
    # Mean squares 9, 4 and 1 (as in tests/harness/test_differences.py): (9 - 1) / 2 people, (4 - 1)
    # / 2 seeds, 1.
    assert variance_components(np.array([[1.0, 2.0], [3.0, 6.0]])) == pytest.approx((4.0, 1.5, 1.0))
    assert variance_components(np.array([[0.0, 1.0], [1.0, 0.0]]))[:2] == (0.0, 0.0)


def test_simulated_rows_are_equal_but_for_what_was_measured() -> None:
    generator = np.random.default_rng(0)
    rows, subjects = simulated(SPREAD, generator, rows=400, seeds=3, people=8, clips=25, new=False)
    assert len(subjects) == 200
    means = np.array([list(row.by_seed.values()) for row in rows])
    # Seeds vary by .02, and the clips of all people by .4 / sqrt(200): their squares add to
    # .0346^2.
    assert means.std() == pytest.approx(0.0346, rel=0.15)
    assert all(right.shape == (200,) for row in rows for right in (row.right or {}).values())


def test_what_is_simulated_is_measured_again() -> None:
    generator = np.random.default_rng(1)
    found = []
    for _ in range(60):
        rows, subjects = simulated(
            SPREAD, generator, rows=2, seeds=6, people=12, clips=25, new=True
        )
        one, other = (np.stack(list((row.right or {}).values())) for row in rows)
        found.append(measured(one, other, subjects))
    assert np.sqrt(np.mean([spread.seed**2 for spread in found])) == pytest.approx(0.02, abs=0.008)
    assert np.sqrt(np.mean([spread.liking**2 for spread in found])) == pytest.approx(0.05, abs=0.01)
    assert np.mean([spread.clip for spread in found]) == pytest.approx(0.4, rel=0.1)


def test_halves_of_a_row_are_all_pairs_of_disjoint_groups() -> None:
    found = halves(
        "linear", Row("gfp", dict(enumerate((0.5, 0.52, 0.49, 0.51, 0.48, 0.53, 0.5, 0.47))))
    )
    assert (
        found["nulls"] == "280 pairs of 3 : 3 of 8 seeds of gfp, linear"
    )  # 28 choices of six, 10 ways to halve them


def test_all_pairs_at_once_are_told_apart_as_one_by_one() -> None:
    differences = np.random.default_rng(0).normal(0.02, 0.02, (50, 3)).round(2)
    one_by_one = [(these_people(row, [0.0] * 3).p or 0.0) < 0.05 for row in differences]
    assert told_apart(differences).tolist() == one_by_one
    assert 0 < sum(one_by_one) < 50
