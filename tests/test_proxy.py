"""The script that asks how far a cheap protocol may be trusted: its numbers by hand."""

from __future__ import annotations

import pytest

from benchmarks.proxy import compared, sentence, swapped_pairs

CHEAP = {"a": 0.70, "b": 0.60, "c": 0.50, "d": 0.40, "f": 0.30}
DEAR = {"a": 0.60, "b": 0.40, "c": 0.45, "d": 0.35, "e": 0.10}


def test_pairs_that_change_their_order_are_found_with_their_distances() -> None:
    assert swapped_pairs([70, 60, 50], [60, 40, 45]) == [(10, 5)]
    assert swapped_pairs([70, 60], [50, 50]) == []
    assert swapped_pairs([60, 60], [50, 40]) == []


def test_only_encoders_of_both_columns_are_compared() -> None:
    answer = compared("set", ("cheap", "dear"), {"cheap": CHEAP, "dear": DEAR})
    assert answer is not None
    row, furthest = answer
    assert row["encoders"] == "4"
    # Ranks 1 2 3 4 against 1 3 2 4: Spearman 1 - 6 * 2 / (4 * 15) = .8, Kendall (5 - 1) / 6;
    # offsets 10, 20, 5, 5. Fisher's .8 is 1.0986, its error sqrt(1.32 / 1) = 1.1489: from -1.1532
    # to 3.3504.
    assert row["Spearman [95 %]"] == "0.80 [-0.82, 1.00]"
    assert row["Kendall"] == "0.67"
    assert row["cheap - dear, points ± sd"] == "+10.0 ± 7.1"
    assert (row["pairs"], row["change order"]) == ("6", "1")
    assert furthest == pytest.approx(10)
    assert "set 10.0" in sentence("cheap", "dear", {"set": furthest})


def test_of_few_encoders_nothing_is_said() -> None:
    assert (
        compared("set", ("cheap", "dear"), {"cheap": CHEAP, "dear": {"a": 0.1, "b": 0.2}}) is None
    )
