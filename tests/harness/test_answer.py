"""What stands on top of a report says no more than its records do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.records.differences import Row, pairs
from harness.records.schema import Doubt, SpeedRecord
from harness.records.store import PICTURES_FILE, as_json, write_atomically
from harness.report.answer import Answer, better, explained, faster, how_sure
from harness.report.frame import summary
from tests.harness.made_up_records import (
    ENVIRONMENT,
    arm,
    ratio,
    run_record,
    speed_record,
    stage_arm,
    stage_record,
)
from tests.harness.test_report_page import folder, measurement, page_of, pictures, runs, text_of

DOUBT = Doubt(kind="steps skipped", text="half of them")


# --- who represents better ---


def ranked(rows: Mapping[str, Sequence[float]], doubts: Mapping[str, str] | None = None) -> Answer:
    """Rows with these accuracies, by seed; a control's name begins with ``r``."""
    found = [
        Row(
            label,
            dict(enumerate(values)),
            control=label.startswith("r"),
            constant=label == "raw-pca",
        )
        for label, values in rows.items()
    ]
    return better("linear", found, pairs(found), doubts)


def test_rows_not_told_apart_from_a_third_may_be_told_apart() -> None:
    answer = ranked(
        {"a": [0.95, 0.60, 0.76], "b": [0.70, 0.701, 0.702], "c": [0.50, 0.501, 0.5021]}
    )
    assert answer.headline == "a 77.0 %, the highest mean: not told apart from b and c."
    assert answer.tone == "level"
    assert "b is above c" in answer.more


def test_what_is_below_is_told_from_what_is_not() -> None:
    rows = {
        "a": [0.95, 0.80, 0.875],
        "b": [0.80, 0.801, 0.802],
        "c": [0.77, 0.771, 0.7721],
        "d": [0.1, 0.101, 0.1021],
    }
    answer = ranked(rows)
    assert answer.headline == "a 87.5 %, the highest mean: above d; not told apart from b and c."
    assert "b is above d and c" in answer.more or "b is above c and d" in answer.more


def test_of_what_cannot_be_tested_nothing_is_said() -> None:
    answer = ranked({"a": [0.95], "b": [0.70, 0.701, 0.702], "c": [0.50, 0.501, 0.5021]})
    assert (
        answer.headline
        == "a 95.0 %, the highest mean: over b and c it cannot be said (1 of 3 seeds)."
    )
    assert answer.tone == "open"
    assert "2 not testable (1 of 3 seeds)" in answer.sure


def test_all_level_and_all_above() -> None:
    level = ranked({"a": [0.7, 0.5, 0.6], "b": [0.5, 0.7, 0.58]})
    assert level.headline == "Cannot be told apart: a and b (59.3 to 60.0 %)."
    assert (
        ranked({"a": [0.9, 0.91, 0.9], "b": [0.5, 0.52, 0.5]}).headline
        == "a 90.3 %, above b 50.7 %."
    )


def test_a_best_row_in_doubt_is_in_doubt() -> None:
    rows = {"a": [0.9, 0.91, 0.9], "b": [0.5, 0.52, 0.5]}
    answer = ranked(rows, {"a": "in doubt (trained off the clock)"})
    assert (answer.tone, answer.headline) == ("doubt", "In doubt: a 90.3 %, above b 50.7 %.")
    assert answer.more[0] == "a: in doubt (trained off the clock)"
    assert ranked(rows, {"b": "in doubt (trained off the clock)"}).tone == "clear"


def test_controls_above_the_best_method_are_named() -> None:
    answer = ranked(
        {
            "a": [0.56, 0.57, 0.568],
            "b": [0.5, 0.51, 0.5],
            "raw-pca": [0.77],
            "random-init": [0.3, 0.31, 0.3],
        }
    )
    assert "Higher than the best method: raw coordinates (77.0 %)" in answer.headline
    assert "untrained" not in answer.headline


# --- what makes it fast ---

STAGES = ("as published", "fused attention", "compiled")


def staged(*missing: str, **changes: Any) -> SpeedRecord:
    """gfp over mamp: 2x, 3x and 4x."""
    seconds = {"gfp": (0.2, 0.1, 0.05), "mamp": (0.4, 0.3, 0.2)}
    arms = [
        stage_arm(f"{method} @ {stage}", value, value * 1.01, value * 0.99)
        for method, values in seconds.items()
        for stage, value in zip(STAGES, values, strict=True)
    ]
    return stage_record(
        *(one for one in arms if one.label not in missing), stages=STAGES, **changes
    )


def test_every_switch_is_on_at_the_last_stage_alone() -> None:
    first, last = ("gfp @ as published",), ("gfp @ compiled", "mamp @ compiled")
    whole = "gfp trains 2.00 times as fast as mamp as published, 4.00 times with every switch on."
    assert explained(staged()).headline == whole
    assert "3.00 times at 'fused attention'" in explained(staged(*last)).headline
    assert "every switch" not in explained(staged(*last)).headline
    assert (
        "3.00 times as fast as mamp at 'fused attention', 4.00 times"
        in explained(staged(*first)).headline
    )
    assert "failed, left out: gfp at 'as published'" in explained(staged(*first)).more


def test_noise_is_no_fact() -> None:
    answer = explained(staged(floor=9.0))
    assert (answer.tone, answer.headline) == (
        "level",
        "gfp and mamp are not told apart as published and with every switch on.",
    )
    assert not [line for line in answer.more if "moves it most" in line]
    one = explained(staged(floor=3.0)).headline
    assert (
        one
        == "gfp is not told apart from mamp as published and trains 4.00 times as fast as mamp with"
        " every switch on."
    )


def test_a_doubt_of_a_stage_is_told() -> None:
    record = staged()
    arms = [
        one.model_copy(update={"doubts": (DOUBT,)}) if one.label.startswith("gfp") else one
        for one in record.arms
    ]
    record = record.model_copy(update={"arms": arms})
    assert (explained(record).tone, explained(record).more) == (
        "doubt",
        ("gfp: in doubt (steps skipped)",),
    )
    sure = how_sure([], [], [record], 0, 0)
    assert sure.headline == "Something is in doubt."
    assert sure.more[0] == "gfp: in doubt (steps skipped)"


# --- who trains faster ---


def timed(*arms: Any, **changes: Any) -> Answer:
    record = speed_record(*arms).model_copy(update=changes)
    return faster(summary([], record), record)


BASELINE = arm("skeletonmae", ratio(1, 1, 1), clips=2.0)
SLOW = arm("sjepa", ratio(0.7, 0.74, 0.78), clips=2.0, verdict="not supported")
UNPROVEN = arm("mamp", ratio(1.04, 1.2, 1.34), clips=2.0, verdict="not supported")


def test_that_no_row_is_faster_must_be_shown() -> None:
    assert timed(BASELINE, SLOW).headline == "skeletonmae: no other row trains faster."
    mixed = timed(BASELINE, SLOW, UNPROVEN)
    assert (
        mixed.headline
        == "No row is shown to train faster than skeletonmae; not told apart from it: mamp."
    )
    assert mixed.more == ("slower than skeletonmae: sjepa (0.74 times)",)
    assert timed(BASELINE, UNPROVEN).headline == "No row is told apart from skeletonmae: mamp."


def test_a_row_in_doubt_is_not_said_to_be_slower() -> None:
    doubted = SLOW.model_copy(update={"doubts": (DOUBT,), "verdict": "in doubt"})
    assert timed(BASELINE, doubted, UNPROVEN).more == ("sjepa: in doubt (steps skipped)",)


def test_encoders_of_their_own_are_not_the_baseline_alone() -> None:
    own = UNPROVEN.model_copy(update={"division": "open"})
    assert timed(BASELINE).headline == "Nothing to compare: skeletonmae was measured alone."
    assert timed(BASELINE, own).headline.endswith("with encoders of their own only mamp.")
    assert (
        "brings an encoder of its own"
        in timed(BASELINE.model_copy(update={"division": "open"}), UNPROVEN).headline
    )
    assert "was not measured" in timed().headline


# --- how sure ---


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"failures": {"amr": "out of memory"}}, "could not be timed: amr"),
        ({"baseline": "amr"}, "the baseline amr is not among the rows that were timed"),
        (
            {"environment": ENVIRONMENT.model_copy(update={"processor": "Abacus 9000"})},
            "speed was measured on another machine than the runs",
        ),
    ],
)
def test_reservations_of_a_measurement(changes: dict[str, Any], line: str) -> None:
    assert line in how_sure(runs(), [], [measurement(**changes)], 0, 0).more
    assert line not in how_sure(runs(), [], [measurement()], 0, 0).more


def test_runs_that_all_failed_or_are_controls_make_nothing_sure() -> None:
    failed = run_record("gfp", status="failed", accuracy=None)
    assert how_sure([failed], [summary([failed], None)], [], 0, 0).tone == "doubt"
    controls = [run_record("random-init", 0.3)]
    assert how_sure(controls, [summary(controls, None)], [], 0, 0).headline.startswith(
        "Only controls"
    )


# --- odd records ---


def test_a_measurement_with_nothing_to_compare_has_a_page(tmp_path: Path) -> None:
    own = [one.model_copy(update={"division": "open"}) for one in measurement().arms]
    page = page_of(tmp_path, folder(tmp_path / "open", *runs(), measurement(arms=own)))
    assert "brings an encoder of its own" in text_of(page)


def test_a_measurement_whose_rows_have_other_numbers_of_rounds_is_named(tmp_path: Path) -> None:
    arms = measurement().arms
    arms[1] = arms[1].model_copy(update={"blocks": arms[1].blocks[:3], "verdict": "supported"})
    page = page_of(tmp_path, folder(tmp_path / "rounds", *runs(), measurement(arms=arms)))
    assert "cannot be true (20 blocks of " in text_of(page)


def test_damaged_pictures_are_not_drawn(tmp_path: Path) -> None:
    run = run_record("gfp", 0.8)
    found = pictures(run, free=True)
    clip = found.clips[0].model_copy(update={"visible": [[[True, False]]] * 2})
    source = folder(tmp_path / "runs", run)
    write_atomically(
        source / run.address / PICTURES_FILE, as_json(found.model_copy(update={"clips": [clip]}))
    )
    assert 'aria-label="tokens' not in page_of(tmp_path, source)
