"""Time to target: what is frozen, when a run got there, what a miss does, and how it is printed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from harness.errors import UsageError
from harness.records.schema import Ratio, RunRecord, SpeedRecord
from harness.records.store import RecordStore
from harness.report.target import (
    ladder_frame,
    ladder_table,
    target_frame,
    target_notes,
    target_table,
)
from harness.runs.cell import evaluation_steps
from harness.spec.budget import StepCost
from harness.spec.model import MethodSpec, ProbeSpec, TrainSpec, is_later
from harness.studies.target import (
    NO_TIMES,
    Reach,
    Target,
    at_most,
    combined_speedup,
    crossing,
    eligible_runs,
    freeze,
    interval,
    ladder,
    log_rank_scores,
    permutation_test,
    reach,
    read_target,
    speedup,
    step_times,
    untrained,
    write_target,
)
from tests.harness.made_up_records import TIME, curve_record, run_record, stage_arm, stage_record
from tests.harness.small_run import (
    SMALL,
    Outcome,
    harness,
    run_small_cell,
    small_cell,
    small_data,
    small_file,
)

COST = StepCost(epochs=0.5, clips=4.0, seconds=0.1, flops=1e6)
MAMP = [
    curve_record("mamp", 0.4, 0.7),
    curve_record("mamp", 0.9, 0.5, seed=1),
    curve_record("mamp", 0.3, 0.6, seed=2),
]
SPREAD = 5.594985
"""exp(4.302653 ln 2 / sqrt(3)): half the interval, as a factor, of three ratios x,
2x and 4x (t of two degrees).
"""


def got(label: str, *seconds: float, runs: int = 0, before: float = 1.0) -> Reach:
    """A row whose seeds 0, 1, ... took so many seconds; the other runs missed. `before`: the
    evaluation before stood at that share of the time.
    """
    times = dict(enumerate(seconds))
    earlier = {seed: before * time for seed, time in times.items()}
    return Reach(label=label, clips=times, seconds=times, before=earlier, runs=runs or len(times))


# --- when the probes run ---


@pytest.mark.parametrize(
    ("total", "probe", "steps"),
    [
        (10, ProbeSpec(points=2), [5, 10]),
        (2, ProbeSpec(points=5), [1, 2]),
        (10, ProbeSpec(points=2, every="12clips"), [3, 6, 9, 10]),  # a step is 4 clips
        (12, ProbeSpec(every="12clips"), [3, 6, 9, 12]),
        (
            6,
            ProbeSpec(every="6clips"),
            [2, 3, 4, 6],
        ),  # 1.5 steps: 1.5, 3, 4.5 (both halves to even), then the end
        (6, ProbeSpec(every="100clips"), [6]),
        (6, ProbeSpec(every="1ep"), [2, 4, 6]),
        (5, ProbeSpec(every="2steps"), [2, 4, 5]),
        (5, ProbeSpec(every="0.3s"), [3, 5]),
        (3, ProbeSpec(every="1clips"), [1, 2, 3]),  # more often than there are steps
    ],
)
def test_probes_run_evenly_or_at_every_so_much_and_at_the_end(
    total: int, probe: ProbeSpec, steps: list[int]
) -> None:
    assert evaluation_steps(total, probe, COST) == steps


def test_a_run_is_evaluated_at_the_same_clips_whatever_its_length(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    cell = small_cell(data, budget="5steps")
    cell = replace(
        cell,
        spec=cell.spec.model_copy(
            update={"probe": ProbeSpec(every="8clips", regularisation=(0.1,))}
        ),
    )
    record = run_small_cell(cell, data, tmp_path / "out")  # 4 clips and 10 ms a step
    assert [point.clips_seen for point in record.curve] == [8, 16, 20]
    assert reach([record], "skeletonmae", 0.0).seconds == {0: pytest.approx(0.02)}


def test_an_impossible_interval_between_probes_is_one_line_before_any_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = harness(
        "run", *SMALL, "--dataset", small_file(tmp_path), "--out", out, "--set", "probe.every=often"
    )
    assert found.code == 2
    assert found.err.startswith(
        "error: probe: every: expected a number and one of ep, steps, clips, s, flops"
    )
    assert not out.exists()


# --- freezing ---


def test_the_target_is_the_median_over_seeds_of_what_they_hold_at_their_end() -> None:
    failed = curve_record("mamp", 0.1, seed=3, status="failed", accuracy=None)
    target = freeze([curve_record("gfp", 0.99), *MAMP, failed], "mamp")
    assert target.accuracy == 0.4  # of 0.4, 0.5 and 0.3, the lower ones of the last two evaluations
    assert (target.reference, target.seeds, target.budget, target.version) == (
        "mamp",
        (0, 1, 2),
        "60s",
        3,
    )
    assert (target.data, target.split, target.encoder) == ("synthetic", "xsub", "tiny")
    assert target.held_equal == MAMP[0].spec.held_equal


def test_a_reference_without_finished_runs_sets_no_target() -> None:
    failed = curve_record("mamp", 0.1, status="failed", accuracy=None)
    records = [
        failed,
        curve_record("gfp", 0.5),
        curve_record("amr", 0.5),
        run_record("random-init"),
    ]
    with pytest.raises(
        UsageError, match=r"no finished run of 'mamp' to set a target \(there are: amr, gfp"
    ):
        freeze(records, "mamp")
    with pytest.raises(UsageError, match=r"there are: none"):
        freeze([], "mamp")


@pytest.mark.parametrize(
    ("asked", "label"),
    [
        ("mamp", "mamp"),
        ("mamp:decoder_depth=5", "mamp"),
        ("mamp:mask_ratio=0.90,decoder_depth=5", "mamp"),
        ("mamp:decoder_depth=3", "mamp:decoder_depth=3"),
        ("mamp:mask_ratio=9e-1,decoder_depth=3", "mamp:decoder_depth=3"),
    ],
)
def test_a_reference_may_be_spelt_in_any_way(asked: str, label: str) -> None:
    rows = [with_options("mamp", 5), with_options("mamp:decoder_depth=3", 3)]
    assert freeze(rows, asked).reference == freeze(rows[::-1], asked).reference == label


def test_a_rows_own_label_is_its_reference_whatever_stands_in_it() -> None:
    label = "encoder of a paper, 8 deep"
    rows = [with_options(label, 5), with_options("mamp", 5)]
    assert freeze(rows, label).reference == label
    assert freeze(rows, "mamp:decoder_depth=5").reference == "mamp"


@pytest.mark.parametrize("asked", ["mamp:decoder_depth=4", "mamp:depth=5", "gfp:decoder_depth=5"])
def test_a_reference_that_no_row_has_is_not_guessed(asked: str) -> None:
    with pytest.raises(UsageError, match=f"no finished run of '{asked}'"):
        freeze([with_options("mamp", 5), with_options("mamp:decoder_depth=3", 3)], asked)


def with_options(label: str, depth: int) -> RunRecord:
    """A run of a method that has two options, both in its record."""
    found = curve_record("mamp", 0.4, 0.5)
    method = MethodSpec(name="mamp", options={"mask_ratio": 0.9, "decoder_depth": depth})
    spec = found.spec.model_copy(update={"method": method})
    return found.model_copy(update={"label": label, "spec": spec})


def test_a_reference_under_two_budgets_sets_no_target() -> None:
    with pytest.raises(UsageError, match="runs of 'mamp' differ in more than the seed"):
        freeze([*MAMP, curve_record("mamp", 0.5, seed=3, budget="90s")], "mamp")


def evaluated_every(every: str, budget: str) -> RunRecord:
    """A run of MAMP whose evaluations stand there; without ``every`` evenly over the budget."""
    spec = MAMP[0].spec.with_train(budget=budget)
    return MAMP[0].model_copy(
        update={"spec": spec.model_copy(update={"probe": ProbeSpec(every=every)})}
    )


@pytest.mark.parametrize(("every", "budget"), [("1ep", "30s"), ("100steps", "30s"), ("", "2ep")])
def test_a_reference_evaluated_elsewhere_than_other_rows_sets_no_target(
    every: str, budget: str
) -> None:
    with pytest.raises(
        UsageError,
        match="runs of 'mamp' were not evaluated at fixed clips seen, or seconds; run with --set",
    ):
        freeze([evaluated_every(every, budget)], "mamp")


@pytest.mark.parametrize(
    ("every", "budget"), [("1000clips", "2ep"), ("5s", "2ep"), ("", "30s"), ("", "6000clips")]
)
def test_a_target_is_set_at_fixed_clips_or_seconds(every: str, budget: str) -> None:
    assert freeze([evaluated_every(every, budget)], "mamp").reference == "mamp"


def test_a_frozen_target_reads_back_and_is_not_moved(tmp_path: Path) -> None:
    path, target = tmp_path / "targets" / "mamp.yaml", freeze(MAMP, "mamp")
    write_target(path, target)
    assert read_target(path) == target
    with pytest.raises(UsageError, match=r"mamp\.yaml exists: a frozen target is not moved"):
        write_target(path, target.model_copy(update={"accuracy": 0.1}))
    assert read_target(path).accuracy == 0.4


def test_a_target_of_version_1_judges_by_the_rule_that_it_was_frozen_under() -> None:
    data = MAMP[0].spec.data.model_copy(update={"fingerprint": "f00"})
    records = [
        r.model_copy(update={"spec": r.spec.model_copy(update={"data": data})}) for r in MAMP
    ]
    target = freeze(records, "mamp")
    old = target.model_copy(
        update={"version": 1, "held_equal": records[0].spec.held_equal_by_rule_1}
    )
    assert old.held_equal != target.held_equal
    assert eligible_runs(records, old) == eligible_runs(records, target) == records


def spoilt(**changes: Any) -> str:
    """A target file with these values; None removes one."""
    values = freeze(MAMP, "mamp").model_dump(mode="json") | changes
    return yaml.safe_dump({key: value for key, value in values.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "cannot be read (while parsing a flow sequence)"),
        ("\xff", "cannot be read ('utf-8' codec"),
        ("- 0.6", "expected a mapping as `harness target --freeze` writes it"),
        ("", "expected a mapping"),
        (spoilt(accuracy=None), "accuracy: Field required"),
        (spoilt(accuracy="high"), "accuracy: "),
        (spoilt(acuracy=0.5), "unknown option 'acuracy', did you mean 'accuracy'?"),
        (spoilt(version=4), "has version 4, expected 1 to 3; freeze it again"),
    ],
    # A frozen target holds the time: as a name it would be another test in every process that
    # collects it.
    ids=["flow", "bytes", "list", "empty", "missing", "text", "unknown", "version"],
)
def test_an_unreadable_target_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "target.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as error:
        read_target(path)
    assert str(error.value).startswith(f"target {path}")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


# --- reaching ---


def test_only_runs_held_equal_to_the_references_are_judged() -> None:
    inside = [
        curve_record("gfp", 0.5, seed=7),
        curve_record("amr", 0.4, status="diverged", accuracy=None),
        curve_record("amr", 0.4, seed=1, status="failed", accuracy=None, curve=[], training=None),
    ]
    outside = [
        curve_record("gfp", 0.5, budget="90s"),
        curve_record("gfp", 0.5, seed=8, status="interrupted", accuracy=None),
        curve_record("random-init", 0.5),
        run_record("gfp", seed=9),
    ]
    assert eligible_runs([*inside, *outside], freeze(MAMP, "mamp")) == inside


@pytest.mark.parametrize(
    ("accuracy", "clips", "seconds"),
    [
        (
            0.6,
            {0: 200, 1: 100},
            {0: 10.0, 1: 2.0},
        ),  # at 0.6 itself; what the run loses again does not count
        (0.61, {0: 400, 1: 100}, {0: 20.0, 1: 2.0}),
        (0.7, {0: 400}, {0: 20.0}),
        (0.71, {}, {}),
    ],
)
def test_a_run_gets_there_with_its_first_evaluation_at_or_above(
    accuracy: float, clips: dict[int, float], seconds: dict[int, float]
) -> None:
    records = [
        curve_record("gfp", 0.4, 0.6, 0.5, 0.7),  # half a second a step, interleaved
        curve_record("gfp", 0.65, 0.2, seed=1, step_seconds=0.2),
        curve_record("gfp", 0.99, seed=2, status="failed", accuracy=None),
        curve_record("mamp", 0.99, seed=3),
    ]
    found = reach(records, "gfp", accuracy)
    assert (found.clips, found.seconds, found.runs) == (
        clips,
        pytest.approx(seconds),
        3,
    )  # the failed one is a miss
    assert not found.all_reached
    without = reach([record for record in records if record.status == "ok"], "gfp", accuracy)
    assert (without.clips, without.runs, without.all_reached) == (clips, 2, len(clips) == 2)


@pytest.mark.parametrize("status", ["failed", "diverged", "oom"])
def test_a_seed_that_broke_off_is_a_miss_even_above_the_accuracy(status: str) -> None:
    good = [curve_record("gfp", 0.7), curve_record("gfp", 0.8, seed=1)]  # 10 steps of 0.5 s each
    broken = curve_record("gfp", 0.9, seed=2, status=status, accuracy=None)
    found = reach([*good, broken], "gfp", 0.6)
    assert (found.clips, found.seconds, found.runs) == ({0: 100, 1: 100}, {0: 5.0, 1: 5.0}, 3)
    assert found.mean_seconds is None
    assert found.median_seconds == 5.0
    assert speedup(found, got("mamp", 9.0, 9.0, 9.0)) is None


@pytest.mark.parametrize(
    ("seconds", "runs", "expected"),
    [
        ((9.0, 1.0, 4.0), 3, 4.0),
        ((4.0, 9.0), 2, 6.5),
        ((9.0, 4.0), 3, 9.0),  # 4, 9, never
        ((9.0, 1.0, 4.0), 4, 6.5),  # 1, 4, 9, never: between 4 and 9
        ((9.0, 1.0, 4.0), 5, 9.0),  # 1, 4, 9, never, never
        ((4.0,), 2, None),  # between 4 and never
        ((4.0,), 3, None),
        ((), 2, None),
        ((), 0, None),
    ],
)
def test_in_the_median_a_miss_counts_as_never(
    seconds: tuple[float, ...], runs: int, expected: float | None
) -> None:
    assert got("gfp", *seconds, runs=runs).median_seconds == expected


def test_a_run_without_an_interleaved_step_time_is_timed_by_its_own() -> None:
    record = curve_record("gfp", 0.4, 0.6)
    assert record.training is not None
    alone = record.training.model_copy(update={"interleaved_step_seconds": None})
    assert reach([record.model_copy(update={"training": alone})], "gfp", 0.6).seconds == {
        0: pytest.approx(18.0)
    }


def measured(hours: int = 0, **step_seconds: float) -> SpeedRecord:
    """A speed measurement of rows with these step times, finished so many hours later."""
    arms = [
        stage_arm(label, 0.1, 0.1, step_seconds=seconds) for label, seconds in step_seconds.items()
    ]
    return stage_record(*arms, stages=[], finished=TIME + timedelta(hours=hours))


def test_all_rows_are_timed_by_the_newest_measurement_of_such_runs() -> None:
    run, other = curve_record("gfp", 0.4, budget="90s"), measured(3, gfp=9.0)
    unlike = [
        other.model_copy(update={"spec": other.spec | {"encoder": {"size": "base"}}}),
        other.model_copy(update={"spec": other.spec | {"memory_cap": 1e9}}),
        other.model_copy(update={"spec": other.spec | {"stages": ["as published"]}}),
        other.model_copy(
            update={"environment": other.environment.model_copy(update={"threads": 9})}
        ),
    ]
    speeds = [measured(gfp=0.1), measured(2, gfp=0.3, mamp=0.7), measured(1, gfp=0.2), *unlike]
    assert step_times(speeds, [run]) == {"gfp": 0.3, "mamp": 0.7}
    assert step_times(unlike, [run]) == {}


def test_a_measurement_from_before_a_setting_existed_or_of_moved_data_still_times_its_runs() -> (
    None
):
    run, speed = curve_record("gfp", 0.4), measured(gfp=0.3)
    data = run.spec.data.model_copy(update={"fingerprint": "f00"})
    run = run.model_copy(update={"spec": run.spec.model_copy(update={"data": data})})
    train = {
        name: value
        for name, value in speed.spec["train"].items()
        if not is_later(TrainSpec.model_fields[name])
    }
    assert train.keys() < speed.spec["train"].keys()
    before = {
        **speed.spec,
        "train": train,
        "data": {**data.model_dump(mode="json"), "name": "elsewhere.npz"},
    }
    assert step_times([speed.model_copy(update={"spec": before})], [run]) == {"gfp": 0.3}
    other = {**before, "train": {**train, "lr": 0.5}}
    assert step_times([speed.model_copy(update={"spec": other})], [run]) == {}


def test_step_times_never_mix_two_measurements() -> None:
    runs = [curve_record("gfp", 0.4), curve_record("mamp", 0.4)]
    assert step_times([measured(gfp=0.1, mamp=0.2), measured(1, gfp=0.3)], runs) == {
        "gfp": 0.1,
        "mamp": 0.2,
    }


def test_a_measured_step_time_stands_above_the_planned_one() -> None:
    records = [curve_record("gfp", 0.4, 0.6), curve_record("mamp", 0.6)]
    times = {"gfp": 0.25}
    assert reach(records, "gfp", 0.6, times).seconds == {0: pytest.approx(5.0)}
    assert reach(records, "mamp", 0.6, times).seconds == {
        0: pytest.approx(5.0)
    }  # 10 planned steps of 0.5 s


def test_the_mean_time_is_geometric_and_needs_every_seed() -> None:
    assert got("gfp", 4.0, 9.0).mean_seconds == pytest.approx(6.0)
    assert got("gfp", 4.0, 9.0, runs=3).mean_seconds is None
    assert got("gfp").mean_seconds is None


def test_the_speedup_is_paired_by_seed() -> None:
    unsorted = {2: 80.0, 0: 20.0, 1: 40.0}
    other = Reach(label="mamp", clips={}, seconds=unsorted, before=unsorted, runs=3)
    found = speedup(got("gfp", 10.0, 10.0, 10.0), other)
    assert found is not None
    assert found.value == pytest.approx(4.0)  # 2, 4 and 8
    assert (found.low, found.high) == pytest.approx((4 / SPREAD, 4 * SPREAD), rel=1e-5)
    assert speedup(got("gfp", 5.0, 10.0), other).model_dump() == pytest.approx(  # type: ignore[union-attr]
        {"value": 4.0, "low": 4.0, "high": 4.0, "pairs": 2}
    )


@pytest.mark.parametrize(
    ("one", "reference"),
    [
        (got("gfp", 1.0, 1.0, runs=3), got("mamp", 2.0, 2.0, 2.0)),
        (got("gfp", 1.0, 1.0, 1.0), got("mamp", 2.0, 2.0, runs=3)),
        (got("gfp", 1.0), got("mamp", 2.0)),
    ],
    ids=["row missed", "reference missed", "one seed"],
)
def test_without_every_seed_of_both_there_is_no_speedup(one: Reach, reference: Reach) -> None:
    assert speedup(one, reference) is None


def test_the_interval_of_a_time_is_a_t_interval_on_logs() -> None:
    assert interval(got("gfp", 2.0, 4.0, 8.0)) == pytest.approx((4 / SPREAD, 4 * SPREAD), rel=1e-5)
    assert interval(got("gfp", 5.0)) == (0.0, math.inf)


def test_intervals_hold_the_time_between_evaluations() -> None:
    """Both rows got there somewhere between half their time and all of it: from 2 down to 4 / 2,
    up to 4 * 2.
    """
    one, other = got("gfp", 2.0, 2.0, before=0.5), got("mamp", 8.0, 8.0, before=0.5)
    assert interval(one) == pytest.approx((1.0, 2.0))
    found = speedup(one, other)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((2.0, 4.0, 8.0))


def test_an_accuracy_that_the_first_evaluation_finds_bounds_the_time_on_one_side_alone() -> None:
    at_once, later = got("gfp", 2.0, 2.0, before=0.0), got("mamp", 8.0, 8.0, before=0.5)
    assert interval(at_once) == pytest.approx((0.0, 2.0))
    for one, other, expected in (
        (at_once, later, (2.0, 4.0, math.inf)),
        (later, at_once, (0.0, 0.25, 0.5)),
    ):
        found = speedup(one, other)
        assert found is not None
        assert (found.low, found.value, found.high) == pytest.approx(expected)


def test_the_evaluation_before_is_the_one_of_the_curve() -> None:
    record = curve_record("gfp", 0.3, 0.4, 0.6, 0.7)  # after 5, 10, 15 and 20 s
    assert (reach([record], "gfp", 0.6).seconds, reach([record], "gfp", 0.6).before) == (
        {0: 15.0},
        {0: 10.0},
    )
    assert (reach([record], "gfp", 0.3).seconds, reach([record], "gfp", 0.3).before) == (
        {0: 5.0},
        {0: 0.0},
    )


# --- since rules 5 ---


def test_a_single_evaluation_sets_no_target() -> None:
    with pytest.raises(UsageError, match="has one evaluation: nothing confirms what it reaches"):
        freeze([curve_record("mamp", 0.5)], "mamp")


@pytest.mark.parametrize(
    ("curve", "confirmed", "expected"),
    [
        ([0.4, 0.6, 0.5, 0.7, 0.8], False, 1),
        ([0.4, 0.6, 0.5, 0.7, 0.8], True, 3),  # what the next evaluation loses again does not count
        ([0.6, 0.6, 0.1], True, 0),
        ([0.4, 0.5, 0.7], True, None),  # nothing confirms the last one
        ([0.7], True, None),
        ([0.1, 0.2], True, None),
    ],
)
def test_a_crossing_counts_when_the_next_evaluation_confirms_it(
    curve: list[float], confirmed: bool, expected: int | None
) -> None:
    assert crossing(curve, 0.6, confirmed) == expected


def test_a_row_knows_until_when_its_misses_are_known_to_be_some() -> None:
    records = [curve_record("gfp", 0.4, 0.7, 0.8), curve_record("gfp", 0.4, 0.5, 0.5, seed=1)]
    found = reach(records, "gfp", 0.6, confirmed=True)
    assert (found.seconds, found.before, found.runs, found.end) == ({0: 10.0}, {0: 5.0}, 2, 15.0)


def test_the_speedup_adds_what_seeds_and_the_measurement_leave_open() -> None:
    # All seeds of a row agree: the interval is the measurement's, error .1 with 4 degrees of
    # freedom.
    wide = math.exp(2.776445 * 0.1)
    per_step = Ratio(value=2.0, low=2.0 / wide, high=2.0 * wide, pairs=5)
    found = combined_speedup(got("gfp", 100.0, 100.0), got("mamp", 400.0, 400.0, 400.0), per_step)
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx(
        (8 / wide, 8.0, 8 * wide), rel=1e-5
    )
    # Evaluations before stood at half the time.
    halves = got("gfp", 100.0, 100.0, before=0.5), got("mamp", 400.0, 400.0, before=0.5)
    found = combined_speedup(*halves, per_step)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((4 / wide, 16 * wide), rel=1e-5)


def test_with_an_exact_measurement_the_speedup_is_welchs_test_on_log_steps() -> None:
    one, other = (100.0, 200.0, 300.0), (500.0, 400.0, 900.0, 700.0)
    exact = Ratio(value=1.0, low=1.0, high=1.0, pairs=40)
    found = combined_speedup(got("gfp", *one), got("mamp", *other), exact)
    welch = stats.ttest_ind(np.log(other), np.log(one), equal_var=False).confidence_interval()
    assert found is not None
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((welch.low, welch.high))


def test_a_row_with_misses_has_a_bound_and_no_speedup() -> None:
    row = got("gfp", 2.0, runs=2).model_copy(
        update={"end": 8.0}
    )  # at least 4 s, the geometric mean of 2 and 8
    reference = got("mamp", 20.0, 20.0)
    assert combined_speedup(row, reference, Ratio(value=1, low=1, high=1, pairs=5)) is None
    assert at_most(row, reference) == pytest.approx(5.0)
    assert at_most(reference, row) is None
    assert at_most(got("gfp", 2.0, 2.0), reference) is None


def ended(label: str, *seconds: float, runs: int, end: float) -> Reach:
    return got(label, *seconds, runs=runs).model_copy(update={"end": end})


def test_log_rank_scores_by_hand() -> None:
    # Four runs: there after 1, 2 and 3 s, one had not been after 4. Rates 1/4, 1/3 and 1/2.
    found = log_rank_scores(
        ended("gfp", 1.0, 2.0, runs=2, end=4.0), ended("mamp", 3.0, runs=2, end=4.0)
    )
    assert found == pytest.approx([3 / 4, 5 / 12, -1 / 12, -13 / 12])


@pytest.mark.parametrize(
    ("one", "other", "p", "smallest"),
    [
        (ended("a", 1, 2, 3, runs=3, end=9), ended("b", 4, 5, 6, runs=3, end=9), 0.1, 0.1),
        (ended("a", 1, 2, 3, runs=3, end=9), ended("b", runs=3, end=9), 0.1, 0.1),
        (
            ended("a", 1, 2, 3, 4, 5, 6, runs=6, end=9),
            ended("b", 7, runs=6, end=9),
            2 / 924,
            2 / 924,
        ),
        (ended("a", runs=3, end=9), ended("b", runs=3, end=9), 1.0, 0.1),
        (ended("a", 2, 2, 2, runs=3, end=9), ended("b", 2, 2, 2, runs=3, end=9), 1.0, 0.1),
    ],
    ids=["apart", "one misses", "six seeds", "nobody got there", "the same"],
)
def test_the_permutation_test_goes_through_all_divisions(
    one: Reach, other: Reach, p: float, smallest: float
) -> None:
    found = permutation_test(one, other)
    assert found is not None
    assert (found.p, found.smallest) == pytest.approx((p, smallest))


def test_a_single_run_or_none_that_finished_cannot_be_tested() -> None:
    assert permutation_test(ended("a", 1, runs=1, end=9), ended("b", 1, 2, runs=2, end=9)) is None
    assert permutation_test(ended("a", runs=2, end=0), ended("b", 1, 2, runs=2, end=9)) is None


def test_more_divisions_than_can_be_gone_through_are_drawn() -> None:
    early, late = (
        ended(name, *range(first, first + 12), runs=12, end=99)
        for name, first in (("a", 1), ("b", 20))
    )
    found = permutation_test(early, late)
    assert found is not None
    assert found.p == pytest.approx(1 / 10_000)


def test_rows_at_a_target_of_rules_5() -> None:
    races = {
        "mamp": [(0.2, 0.6, 0.7), (0.2, 0.6, 0.6), (0.2, 0.6, 0.9)],
        "gfp": [(0.6, 0.6, 0.9), (0.6, 0.7, 0.7), (0.7, 0.7, 0.9)],
        "amr": [(0.1, 0.2, 0.7), (0.1, 0.5, 0.5), (0.1, 0.7, 0.7)],
    }
    records = [
        curve_record(label, *curve, seed=seed)
        for label, curves in races.items()
        for seed, curve in enumerate(curves)
    ]
    goal = freeze(records, "mamp")
    assert goal.accuracy == 0.6
    arms = [stage_arm(label, 0.5, 0.5, 0.5, step_seconds=0.5) for label in races]
    speed = stage_record(*arms, stages=[])
    found = at_target(records, goal, {}, speed).set_index("method")
    assert found.loc["mamp"].tolist()[1:] == [
        "3 of 3 seeds",
        "200",
        "10.0",
        "10.0 [5, 10]",
        "1 (reference)",
        "-",
        "-",
    ]
    # Twice as fast at the evaluations; it may have been there at once, and mamp right after its
    # first evaluation.
    assert found.loc["gfp"].tolist()[1:] == [
        "3 of 3 seeds",
        "100",
        "5.0",
        "5.0 [0, 5]",
        "2.00x [1.00, inf]",
        "0.1 (0.1)",
        "0.2",
    ]
    # One of three after 10 s, two not after 15: at least 13.1 s, where mamp takes 10.
    assert found.loc["amr"].tolist()[1:] == [
        "1 of 3 seeds",
        "not reached",
        "not reached",
        "not reached",
        "< 0.76x",
        "0.4 (0.1)",
        "0.4",
    ]
    lines = target_notes(records, goal)
    assert any("Welch-Satterthwaite" in line for line in lines)


def test_the_ladder_rises_from_above_the_lowest_evaluation_to_the_best_with_the_target_on_it() -> (
    None
):
    target = freeze([curve_record("mamp", 0.5, 0.5)], "mamp")
    records = [curve_record("gfp", 0.2, 0.9), curve_record("mamp", 1.0, 0.5)]
    assert ladder(records, target) == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def test_the_best_evaluation_is_on_the_ladder() -> None:
    target = freeze([curve_record("mamp", 0.03, 0.29)], "mamp")
    assert max(ladder([curve_record("mamp", 0.03, 0.29)], target)) == 0.29


def test_the_untrained_encoder_is_the_mean_over_seeds() -> None:
    controls = [run_record("random-init", 0.5), run_record("random-init", 0.7, seed=1)]
    goal = freeze(MAMP, "mamp")
    assert untrained([*MAMP, *controls], goal) == pytest.approx(0.6)
    assert untrained([*MAMP, *controls], goal.model_copy(update={"encoder": "base"})) is None
    assert untrained(MAMP, goal) is None


# --- tables ---


def at_target(
    records: list[RunRecord],
    goal: Target,
    times: Mapping[str, float] = NO_TIMES,
    speed: SpeedRecord | None = None,
) -> pd.DataFrame:
    return target_table(target_frame(records, goal, times, speed), goal, wide=True)


RACE = [
    curve_record("mamp", 0.22, 0.5, 0.6, seed=0, step_seconds=0.2),  # 0.5 after 4 s
    curve_record("mamp", 0.22, 0.3, 0.6, seed=1, step_seconds=0.3),  # 9 s
    curve_record("gfp", 0.5, 0.6, seed=0, step_seconds=0.1),  # 1 s
    curve_record("gfp", 0.6, 0.7, seed=1, step_seconds=0.225),  # 2.25 s
    curve_record("amr", 0.5, 0.4, seed=0),
    curve_record("amr", 0.3, 0.4, seed=1),
    curve_record("sjepa", 0.3, status="failed", accuracy=None),
]
GOAL = freeze(RACE, "mamp").model_copy(update={"accuracy": 0.5, "version": 2})
"""Frozen before rules 5: the first evaluation at the target counts."""


def test_rows_at_the_target() -> None:
    # The logs of 4 and 9 are ln 6 -+ 0.405465; t(0.975, 1) = 12.706205, so the half width is
    # 5.151921: a factor 172.8. gfp is four times faster on either seed, and got there at its first
    # evaluations: they bound nothing from below. mamp did after 2 and 6 s at the earliest: ratios 2
    # and 2.667, 2.309 / exp(12.706205 * 0.143841) = 0.37.
    assert at_target(RACE, GOAL).to_numpy().tolist() == [
        [
            "mamp",
            "60.0",
            "2 of 2 seeds",
            "250",
            "6.5",
            "6.0 [0, 1037]",
            "1 (reference)",
        ],  # between 4 and 9 s
        [
            "gfp",
            "65.0",
            "2 of 2 seeds",
            "100",
            "1.6",
            "1.5 [0, 259]",
            "4.00x [0.37, inf]",
        ],  # 1 and 2.25: 1.625
        ["amr", "40.0", "1 of 2 seeds", "not reached", "not reached", "not reached", "-"],
        ["sjepa", "-", "0 of 1 seeds", "not reached", "not reached", "not reached", "-"],
    ]


def test_a_row_with_a_miss_among_three_has_a_median_and_nothing_else() -> None:
    # 10 steps of 0.5 s; seed 2 diverged, though above the target
    records = [
        *RACE[:2],
        curve_record("gfp", 0.5),
        curve_record("gfp", 0.5, seed=1),
        curve_record("gfp", 0.9, seed=2, status="diverged", accuracy=None),
    ]
    found = at_target(records, GOAL).to_numpy().tolist()[1]
    assert found == ["gfp", "50.0", "2 of 3 seeds", "not reached", "5.0", "not reached", "-"]


def test_a_reference_that_missed_is_no_unit() -> None:
    records = [RACE[0], curve_record("mamp", 0.4, seed=1), *RACE[2:4]]
    assert at_target(records, GOAL).iloc[:, -1].tolist() == ["reference", "-"]


def test_the_open_division_is_not_compared_and_sets_no_target() -> None:
    graph = curve_record("graph", 0.6)
    opened = graph.model_copy(
        update={"method": graph.method.model_copy(update={"division": "open"})}
    )
    goal = freeze(MAMP, "mamp")
    assert eligible_runs([*MAMP, opened], goal) == MAMP
    with pytest.raises(UsageError, match=r"^'graph' brings its own encoder"):
        freeze([opened], "graph")


def test_columns_name_the_reference() -> None:
    assert at_target(RACE, GOAL).columns[-1] == "speedup over mamp [95 %]"


def test_a_single_seed_has_a_time_without_an_interval_and_no_speedup() -> None:
    single = [RACE[0], RACE[2]]
    assert at_target(single, GOAL)["seconds to target [95 %]"].tolist() == ["4.0", "1.0"]
    assert at_target(single, GOAL).iloc[1, -1] == "-"


def test_the_ladder_shows_ratios_and_says_who_is_missing() -> None:
    found = ladder_table(ladder_frame(RACE, GOAL)).set_index("linear")
    # From 22 to 70 in eight rungs; at 28 mamp's second evaluations decide, after 4 and 6 s, and all
    # others' first.
    assert list(found.index) == [
        "28.0",
        "34.0",
        "40.0",
        "46.0",
        "50.0 (target)",
        "52.0",
        "58.0",
        "64.0",
        "70.0",
    ]
    assert list(found.columns) == ["mamp", "gfp", "amr", "sjepa"]
    assert found.loc["28.0"].tolist() == ["1.00x", f"{math.sqrt(24) / 1.5:.2f}x", "0.98x", "0 of 1"]
    assert found.loc["50.0 (target)"].tolist() == ["1.00x", "4.00x", "1 of 2", "0 of 1"]
    assert found.loc["64.0"].tolist() == ["0 of 2", "1 of 2", "0 of 2", "0 of 1"]


def test_a_rung_that_only_the_reference_misses_shows_seconds() -> None:
    records = [curve_record("mamp", 0.3, 0.4), curve_record("gfp", 0.5, 0.8)]
    found = ladder_table(
        ladder_frame(records, freeze(records, "mamp").model_copy(update={"version": 2}))
    )
    assert found.iloc[-1].tolist() == ["80.0", "0 of 1", "10 s"]


def test_notes_say_where_the_target_comes_from() -> None:
    lines = target_notes([*RACE, run_record("random-init", 0.25)], GOAL)
    assert lines[0].startswith(
        "target: 50.0 % linear, the median over seeds 0, 1 of mamp at its full budget 60s; frozen"
    )
    assert lines[1].startswith("data: synthetic (")
    assert "the untrained encoder stands at 25.0 % (mean over seeds)" in lines
    assert not [line for line in target_notes(RACE, GOAL) if "untrained" in line]


def test_notes_say_when_a_target_is_not_frozen() -> None:
    assert target_notes(RACE, GOAL, frozen=False)[0].endswith(
        "at its full budget 60s; not frozen: for this look alone"
    )
    assert "not frozen" not in target_notes(RACE, GOAL)[0]


@pytest.mark.parametrize(("untrained", "remark"), [(0.49, False), (0.5, True), (0.51, True)])
def test_notes_say_when_the_untrained_encoder_stands_at_the_target(
    untrained: float, remark: bool
) -> None:
    lines = target_notes([*RACE, run_record("random-init", untrained)], GOAL)
    assert ("the target is no higher than that: reaching it means nothing" in lines) is remark


# --- the command ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = RecordStore(tmp_path / "out")
    for record in [*MAMP, curve_record("gfp", 0.6, 0.8), run_record("random-init", 0.25)]:
        store.write_run(record)
    store.write_speed(measured(gfp=0.5, mamp=0.5))
    return store.root


def refused(outcome: Outcome, message: str) -> None:
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert message in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""


def test_the_command_freezes_prints_and_leaves_the_tables_beside_the_records(
    folder: Path, tmp_path: Path
) -> None:
    frozen = tmp_path / "mamp.yaml"
    outcome = harness("target", folder, "--freeze", frozen)
    assert (outcome.code, outcome.err) == (0, "")
    assert read_target(frozen).accuracy == 0.4
    assert (
        "target: 40.0 % linear, the median over seeds 0, 1, 2 of the lower one of the last two"
        in outcome.out
    )
    written = (folder / "target.md").read_text()
    assert "| gfp | - | - | 5.0 | 1 of 1 seeds | 80.0 |" in written
    # Of mamp's seeds the last one gets there at its last evaluation, which nothing confirms.
    assert "| mamp | reference | - | not reached | 2 of 3 seeds | 60.0 |" in written
    assert "not frozen" not in written
    assert "| 40.0 (target) |" in written
    assert "the untrained encoder stands at 25.0 %" in written


def test_a_frozen_target_judges_another_folder(folder: Path, tmp_path: Path) -> None:
    frozen, other = tmp_path / "high.yaml", RecordStore(tmp_path / "other")
    write_target(frozen, freeze(MAMP, "mamp").model_copy(update={"accuracy": 0.55}))
    other.write_run(curve_record("gfp", 0.6, 0.8))
    other.write_speed(measured(gfp=0.5))
    assert harness("target", other.root, "--target", frozen).code == 0
    assert "| gfp | - | - | 5.0 | 1 of 1 seeds | 80.0 |" in (other.root / "target.md").read_text()


def test_the_folders_measurement_gives_the_step_times(folder: Path) -> None:
    newer = measured(1, gfp=0.25, mamp=0.5).model_copy(update={"address": "speed-1"})
    RecordStore(folder).write_speed(newer)
    assert harness("target", folder).code == 0
    assert "| gfp | - | - | 2.5 | 1 of 1 seeds | 80.0 |" in (folder / "target.md").read_text()


def test_without_a_measurement_of_all_rows_there_is_no_table(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for record in (*MAMP, curve_record("gfp", 0.6)):
        store.write_run(record)
    store.write_speed(measured(mamp=0.5))
    refused(
        harness("target", tmp_path),
        f"{tmp_path}: no speed measurement has all the rows; the same `run` command",
    )
    assert not (tmp_path / "target.md").exists()


def test_a_look_without_a_file_is_not_frozen(folder: Path) -> None:
    assert harness("target", folder).code == 0
    assert (
        "at its full budget 60s; not frozen: for this look alone"
        in (folder / "target.md").read_text()
    )


def test_another_row_can_be_the_reference(folder: Path) -> None:
    shown = harness("target", folder, "--reference", "gfp").out
    assert (
        "target: 60.0 % linear, the median over seeds 0 of the lower one of the last two"
        " evaluations of gfp" in shown
    )


def test_a_target_that_exists_is_refused(folder: Path, tmp_path: Path) -> None:
    frozen = tmp_path / "mamp.yaml"
    frozen.write_text("mine")
    refused(
        harness("target", folder, "--freeze", frozen),
        f"{frozen} exists: a frozen target is not moved",
    )
    assert frozen.read_text() == "mine"


@pytest.mark.parametrize("name", ["nowhere.yaml", "out"], ids=["missing", "a folder"])
def test_a_target_that_cannot_be_read_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    refused(
        harness("target", folder, "--target", tmp_path / name),
        f"target {tmp_path / name} cannot be read (",
    )


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    refused(
        harness("target", tmp_path), "no finished run of 'mamp' to set a target (there are: none)"
    )


def test_a_folder_without_comparable_runs_is_refused(folder: Path, tmp_path: Path) -> None:
    frozen, records = tmp_path / "mamp.yaml", [curve_record("mamp", 0.5, 0.5, budget="90s")]
    write_target(frozen, freeze(records, "mamp"))
    refused(
        harness("target", folder, "--target", frozen),
        "no finished run was held equal to the target's mamp runs",
    )
    assert not (folder / "target.md").exists()


def test_a_speedup_that_nothing_bounds_is_not_resolved_and_the_notes_say_why() -> None:
    """In both rows a seed was there at its first evaluation: it may have been there at once."""
    runs = [
        curve_record(name, *curve, seed=seed)
        for name in ("gfp", "mamp")
        for seed, curve in enumerate([(0.6, 0.6, 0.6), (0.1, 0.6, 0.6)])
    ]
    frame = target_frame(runs, GOAL).set_index("label")
    assert frame.loc["gfp", ["speedup", "speedup_low", "speedup_high"]].tolist() == [1, 0, math.inf]
    table = target_table(frame.reset_index(), GOAL).set_index("method")
    assert table.loc["gfp", "speedup over mamp [95 %]"] == "not resolved"
    assert any(
        "not resolved: in both rows a seed was there" in line for line in target_notes(runs, GOAL)
    )
