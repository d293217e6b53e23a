"""Frames: what records hold as numbers, with columns that are the same whatever there is."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.records.evaluations import EpochPoint, EvaluationRecord, Evaluations, WhichEncoder
from harness.records.schema import Doubt, Health, SpeedRecord, Training
from harness.report import frame
from harness.report.cells import TRAINS_FASTER
from harness.report.folder import FolderTable
from harness.report.speed import speed_frame, speed_table
from tests.harness.made_up_records import (
    ENVIRONMENT,
    TIME,
    accuracy,
    arm,
    curve_record,
    ratio,
    run_record,
    speed_record,
    stage_arm,
    stage_record,
)

OPEN = run_record("graph").method.model_copy(update={"division": "open"})


def only(found: pd.DataFrame) -> dict[str, Any]:
    (row,) = found.to_dict("records")
    return {str(name): value for name, value in row.items()}


def row(found: pd.DataFrame, label: str) -> dict[str, Any]:
    return only(found[found["label"] == label])


def missing(found: dict[str, Any], *names: str) -> bool:
    return all(pd.isna(found[name]) for name in names)


def evaluation(
    run: str, *, seed: int = 0, spec: str = "finetune", **changes: Any
) -> EvaluationRecord:
    values: dict[str, Any] = {
        "address": f"finetune-{seed}",
        "run": run,
        "label": "gfp",
        "seed": seed,
        "protocol": "finetune",
        "spec": spec,
        "options": {},
        "encoder": "last",
        "data": "f" * 16,
        "status": "ok",
        "accuracy": 0.5,
        "predictions": [0, 1, 1, 0],
        "labelled": 8,
        "seconds": 3.0,
        "environment": ENVIRONMENT,
        "started": TIME,
        "finished": TIME,
    }
    return EvaluationRecord(**values | changes)


# --- columns ---

EMPTY_FRAMES = [
    (frame.runs_frame([]), frame.RUN_COLUMNS),
    (frame.points_frame([]), frame.POINT_COLUMNS),
    (frame.losses_frame([]), frame.LOSS_COLUMNS),
    (frame.of_evaluations([]), frame.EVALUATION_COLUMNS),
    (frame.arms_frame([]), frame.ARM_COLUMNS),
    (frame.blocks_frame([]), frame.BLOCK_COLUMNS),
    (frame.summary([], None), frame.SUMMARY_COLUMNS),
]
SPEED = speed_record(
    arm("gfp", ratio(2.0, 2.2, 2.4)),
    arm("skeletonmae", ratio(1.0, 1.0, 1.0), flop_ratio=1.0, verdict="not supported"),
    arm("encoder-only", ratio(4.0, 4.5, 5.0), flop_ratio=9.0, control=True, peak_bytes=None),
)
FILLED_FRAMES = [
    (
        frame.runs_frame([run_record(), run_record("raw-pca", accuracy=None, encoder=None)]),
        frame.RUN_COLUMNS,
    ),
    (frame.points_frame([run_record()]), frame.POINT_COLUMNS),
    (frame.of_evaluations([evaluation("gfp-s0")]), frame.EVALUATION_COLUMNS),
    (frame.arms_frame([SPEED]), frame.ARM_COLUMNS),
    (frame.blocks_frame([SPEED]), frame.BLOCK_COLUMNS),
    (frame.summary([run_record()], SPEED), frame.SUMMARY_COLUMNS),
]


@pytest.mark.parametrize(("found", "columns"), [*EMPTY_FRAMES, *FILLED_FRAMES])
def test_columns_and_their_types_are_the_same_whatever_there_is(
    found: pd.DataFrame, columns: frame.Columns
) -> None:
    assert list(found.columns)[: len(columns)] == list(columns)
    assert {name: str(found[name].dtype) for name in columns} == dict(columns)


def test_none_of_the_numbers_is_text() -> None:
    for found, columns in FILLED_FRAMES:
        assert all(
            str(found[name].dtype) == "float64" for name in found.columns if name not in columns
        )


# --- runs ---


def test_a_run_is_a_row() -> None:
    found = only(frame.runs_frame([run_record("gfp", 0.8, seed=3, knn=0.7)]))
    assert (found["label"], found["method"], found["seed"], found["encoder"]) == (
        "gfp",
        "gfp",
        3,
        "tiny",
    )
    assert (found["linear"], found["knn"], found["best_linear"]) == (0.8, 0.7, pytest.approx(0.85))
    assert (found["steps"], found["clips_seen"], found["seconds"], found["wall_seconds"]) == (
        100,
        6400,
        59.7,
        70,
    )
    assert (found["split"], found["budget"], found["test_clips"]) == ("xsub", "60s", 400)
    assert found["finished"] == pd.Timestamp(TIME)
    assert missing(found, "selection", "untrained_linear", "interleaved_seconds")


@pytest.mark.parametrize("name", ["random-init", "raw-pca"])
def test_a_control_has_nothing_of_the_training_that_it_did_not_have(name: str) -> None:
    found = only(frame.runs_frame([run_record(name)]))
    assert found["linear"] == 0.8
    assert missing(found, "budget", "batch_size", "lr", "precision", "steps", "seconds")


def test_a_run_that_failed_has_no_accuracy() -> None:
    record = run_record("gfp", status="failed", error="why", accuracy=None, training=None, curve=[])
    found = only(frame.runs_frame([record]))
    assert (found["status"], found["error"]) == ("failed", "why")
    assert missing(found, "linear", "knn", "best_linear", "steps", "seconds")


def test_doubts_of_a_run_are_their_kinds() -> None:
    doubts = (Doubt(kind="steps skipped", text="a"), Doubt(kind="part of the batch", text="b"))
    assert (
        only(frame.runs_frame([run_record(doubts=doubts)]))["in_doubt"]
        == "steps skipped, part of the batch"
    )
    assert only(frame.runs_frame([run_record()]))["in_doubt"] == ""


def test_times_are_utc_wherever_they_were_taken() -> None:
    there = datetime(9000, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    found = frame.runs_frame([run_record(finished=there), run_record()])
    assert found["finished"][0] == pd.Timestamp(datetime(9000, 1, 1, tzinfo=UTC))


def test_points_are_rows_with_their_diagnosis() -> None:
    record = curve_record("gfp", 0.5, 0.6, step_seconds=0.25)
    curve = [record.curve[0].model_copy(update={"diagnosis": {"rank": 7.5}}), record.curve[1]]
    found = frame.points_frame([record.model_copy(update={"curve": curve})])
    assert found["linear"].tolist() == [0.5, 0.6]
    assert found["step"].tolist() == [10, 20]
    assert found["seconds"].tolist() == [9.0, 18.0]
    assert found["interleaved_seconds"].tolist() == [2.5, 5.0]
    assert found["diag_rank"][0] == 7.5
    assert math.isnan(found["diag_rank"][1])


def test_losses_are_rows_with_their_parts() -> None:
    losses = [
        {"step": 10.0, "loss": 2.0, "joints": 1.5},
        {"step": 20.0, "loss": 1.0, "joints": 0.5},
    ]
    training = Training(
        steps=20, clips_seen=40, seconds=2, step_seconds=0.1, flops=1, losses=losses
    )
    found = frame.losses_frame([run_record(training=training), run_record("raw-pca")])
    assert found[["step", "loss", "part_joints"]].to_numpy().tolist() == [
        [10, 2.0, 1.5],
        [20, 1.0, 0.5],
    ]


# --- evaluations ---


def test_evaluations_are_rows_under_the_labels_of_their_runs(tmp_path: Path) -> None:
    run = run_record("gfp", label="gfp:tau=1")
    store = Evaluations(tmp_path)
    looks = [EpochPoint(epoch=1, accuracy=0.75), EpochPoint(epoch=2, accuracy=0.5)]
    store.write(
        evaluation(run.address, curve=looks, spec="finetune:share=0.1,draw=2", options={"draw": 2})
    )
    store.write(evaluation("somebody-else"))
    found = only(frame.evaluations_frame([run], store))
    assert (found["label"], found["row"], found["column"], found["draw"]) == (
        "gfp:tau=1",
        "gfp:tau=1",
        "finetune:share=0.1",
        2,
    )
    assert (found["accuracy"], found["best"], found["test_clips"], found["labelled"]) == (
        0.5,
        0.75,
        4,
        8,
    )


@pytest.mark.parametrize(("control", "which"), [("random-init", "untrained"), ("", "last")])
def test_a_control_is_another_row(control: str, which: WhichEncoder) -> None:
    found = only(frame.of_evaluations([evaluation("gfp-s0", control=control, encoder=which)]))
    assert found["row"] == ("gfp (untrained)" if control else "gfp")
    assert missing(found, "draw", "best")


# --- speed ---


def test_an_arm_is_a_row() -> None:
    found = row(frame.arms_frame([SPEED]), "gfp")
    assert (found["speedup"], found["speedup_low"], found["speedup_high"]) == (2.2, 2.0, 2.4)
    assert (found["flop_ratio"], found["verdict"], found["baseline"]) == (
        3.0,
        "supported",
        "skeletonmae",
    )
    assert found["gflops_per_clip"] == pytest.approx(0.1)
    assert (found["floor"], found["same"], found["same_low"], found["peak_bytes"]) == (
        1.05,
        1.01,
        0.97,
        456_000_000,
    )
    assert (found["phase_forward"], found["disturbed_share"], found["bound"]) == (1.0, 0.0, False)


def test_the_bound_is_marked_and_the_baseline_has_no_verdict() -> None:
    found = frame.arms_frame([SPEED])
    assert row(found, "encoder-only")["bound"]
    assert missing(row(found, "encoder-only"), "peak_bytes")
    assert missing(row(found, "skeletonmae"), "verdict")


def test_no_speedup_is_formed_with_an_encoder_of_its_own() -> None:
    speed = speed_record(*SPEED.arms, arm("graph", ratio(8, 9, 10), division="open"))
    assert missing(
        row(frame.arms_frame([speed]), "graph"), "speedup", "speedup_low", "flop_ratio", "verdict"
    )


@pytest.mark.parametrize(("low", "inside"), [(1.04, True), (1.06, False)])
def test_what_lies_within_the_noise_is_marked(low: float, inside: bool) -> None:
    found = row(frame.arms_frame([speed_record(arm("gfp", ratio(low, 1.2, 1.4)))]), "gfp")
    assert found["within_noise"] is inside


def test_a_stage_is_told_from_its_method() -> None:
    speed = stage_record(stage_arm("gfp @ plain", 0.1, 0.1), stages=["plain"])
    found = only(frame.arms_frame([speed]))
    assert (found["method"], found["stage"]) == ("gfp", "plain")


def test_an_interval_that_nothing_bounds_is_infinite() -> None:
    assert (
        row(frame.arms_frame([speed_record(arm("gfp", ratio(0.1, 1, math.inf)))]), "gfp")[
            "speedup_high"
        ]
        == math.inf
    )


def test_blocks_are_rows_with_their_process() -> None:
    speed = speed_record(arm("gfp", ratio(1, 1, 1), blocks=[0.1, 0.2, 0.4, 0.5], clips=2.0))
    found = frame.blocks_frame([speed.model_copy(update={"rounds": (2, 2)})])
    assert found["block"].tolist() == [1, 2, 3, 4]
    assert found["process"].tolist() == [1, 1, 2, 2]
    assert found["seconds_per_step"].tolist() == [0.1, 0.2, 0.4, 0.5]
    assert found["clips_per_second"].tolist() == pytest.approx([20, 10, 5, 4])


def test_blocks_of_records_that_kept_no_clips_have_no_clips_per_second() -> None:
    assert frame.blocks_frame([SPEED])["clips_per_second"].isna().all()
    assert set(frame.blocks_frame([SPEED])["process"]) == {1}


# --- rows of a table ---


def summary(*records: Any, speed: SpeedRecord | None = SPEED) -> pd.DataFrame:
    return frame.summary_frame(FolderTable(list(records), speed, "runs"))


def test_rows_are_methods_then_controls_then_the_bound() -> None:
    found = summary(run_record("raw-pca"), run_record("random-init"), run_record("gfp"))
    assert found[["label", "kind"]].to_numpy().tolist() == [
        ["gfp", "method"],
        ["random-init", "control"],
        ["raw-pca", "control"],
        ["skeletonmae", "method"],
        ["encoder-only", "bound"],
    ]


def test_a_row_has_accuracy_over_seeds_beside_its_speed() -> None:
    seeds = [run_record("gfp", linear, seed=seed) for seed, linear in enumerate((0.70, 0.72, 0.77))]
    found = row(summary(run_record("random-init", 0.6), run_record("raw-pca", 0.5), *seeds), "gfp")
    assert (found["seeds"], found["test_clips"]) == (3, 400)
    # Deviations -3, -1, 4: sqrt(26 / 2) = 3.61; the interval is 4.3027 * 3.61 / sqrt(3) = 8.96 to
    # each side.
    assert [found[f"linear{part}"] for part in ("", "_sd", "_low", "_high")] == pytest.approx(
        [0.73, 0.03606, 0.6404, 0.8196], abs=1e-4
    )
    assert (found["linear_mark"], found["vs_random"]) == ("best", pytest.approx(0.13))
    assert (found["speedup"], found["peak_mb"], found["judgement"]) == (2.2, 456, "supported")


def test_one_seed_has_an_interval_over_clips_and_the_best_point_none() -> None:
    found = row(summary(run_record("gfp", 0.8)), "gfp")
    assert (found["linear_low"], found["linear_high"]) == (
        pytest.approx(0.758, abs=1e-3),
        pytest.approx(0.836, abs=1e-3),
    )
    assert found["best_point"] == pytest.approx(0.85)
    assert missing(found, "linear_sd", "best_point_low", "vs_random")


def test_intervals_stay_inside_what_an_accuracy_can_be() -> None:
    found = row(summary(run_record("gfp", 0.5), run_record("gfp", 0.9, seed=1)), "gfp")
    assert (found["linear_low"], found["linear_high"]) == (0, 1)


def test_judgement_says_what_puts_a_row_in_doubt() -> None:
    doubt = Doubt(kind="steps skipped", text="why")
    assert (
        row(summary(run_record(doubts=(doubt,))), "gfp")["judgement"] == "in doubt (steps skipped)"
    )
    assert missing(row(summary(run_record("skeletonmae")), "skeletonmae"), "judgement")


def test_of_the_bound_nothing_is_judged() -> None:
    bound = arm("encoder-only", ratio(4, 4.5, 5), control=True)
    speed = speed_record(arm("gfp", ratio(2, 2.2, 2.4)), bound)
    found = row(summary(run_record("gfp"), speed=speed), "encoder-only")
    assert (found["kind"], found["speedup"]) == ("bound", 4.5)
    assert missing(found, "judgement")
    assert speed_table(speed)[TRAINS_FASTER].tolist() == ["supported", "-"]


def test_an_open_row_is_compared_with_its_own_untrained_encoder() -> None:
    record = run_record("graph", 0.7, method=OPEN, untrained=accuracy(0.4))
    found = row(summary(run_record("random-init", 0.6), record, speed=None), "graph")
    assert found["open"]
    assert found["vs_random"] == pytest.approx(0.3)


def test_status_says_how_runs_ended_that_did_not_end_well() -> None:
    records = [run_record(), run_record(seed=1, status="oom", accuracy=None)]
    assert row(summary(*records), "gfp")["status"] == "oom"
    assert row(summary(*records), "gfp")["seeds"] == 1


def test_a_disturbed_measurement_says_so_in_each_row() -> None:
    speed = SPEED.model_copy(update={"health": Health(blocks=10, disturbed=6)})
    assert row(summary(run_record(), speed=speed), "gfp")["disturbed_share"] == 0.6


def test_the_speed_frame_has_what_the_command_says_of_arms() -> None:
    timed = arm("gfp", ratio(2.0, 2.2, 2.4), epochs=400, clips_per_second=100.0, clips=10.0)
    found = row(speed_frame(speed_record(timed).model_copy(update={"matmul_flops": 64e9})), "gfp")
    assert (found["gflops_per_second"], found["of_peak"]) == (pytest.approx(32), pytest.approx(0.5))
    assert found["schedule_hours"] == pytest.approx(400 * 40_091 / 100 / 3600)
    assert (found["peak_mb"], found["judgement"]) == (456, "supported")


def test_a_count_that_no_frame_can_hold_is_the_largest_one() -> None:
    timed = arm("gfp", ratio(2.0, 2.2, 2.4), peak_bytes=10**30)
    assert row(frame.arms_frame([speed_record(timed)]), "gfp")["peak_bytes"] == 2**63 - 1
