"""The table of a run: what it says is what the records say."""

from __future__ import annotations

import io
import re
from typing import Any

import pandas as pd
import pytest

from harness import ROOT
from harness.progress import PlainConsole, print_table
from harness.records.schema import ArmRecord, Health, RunRecord, SpeedRecord
from harness.report.cells import blocks
from harness.report.departures import SECTIONS, departures
from harness.report.speed import speed_notes
from harness.report.table import CELLS, WIDE, build_table, notes, to_markdown
from harness.spec.model import ProbeSpec, RunSpec
from harness.spec.presets import PRESETS
from tests.harness.made_up_records import arm, ratio, run_record, speed_record, with_encoder

RECORDS = [
    run_record("raw-pca", 0.55, knn=0.45),
    run_record("random-init", 0.6, knn=0.4),
    run_record("gfp", 0.8, knn=0.7),
    run_record("skeletonmae", 0.58, knn=0.3),
]
SPEED = speed_record(
    arm("gfp", ratio(2.0, 2.2, 2.4)),
    arm(
        "skeletonmae",
        ratio(1.0, 1.0, 1.0),
        flop_ratio=1.0,
        clips_per_second=9.876,
        verdict="not supported",
    ),
    arm("encoder-only", ratio(4.0, 4.5, 5.0), flop_ratio=9.0, control=True, peak_bytes=None),
)


def table(records: list[RunRecord] = RECORDS, speed: SpeedRecord = SPEED) -> pd.DataFrame:
    return build_table(records, speed, wide=True).set_index("method")


def cell(
    row: str, column: str, records: list[RunRecord] = RECORDS, speed: SpeedRecord = SPEED
) -> str:
    found = table(records, speed).loc[row, column]
    assert isinstance(found, str)
    return found


def speedup(speedup_arm: ArmRecord, floor: float = 1.05) -> str:
    return cell(speedup_arm.label, "speedup [95 %]", speed=speed_record(speedup_arm, floor=floor))


OPEN_RECORD = run_record("graph", 0.7)
OPEN_RECORD = OPEN_RECORD.model_copy(
    update={"method": OPEN_RECORD.method.model_copy(update={"division": "open"})}
)
OPEN_ARM = arm("graph", ratio(8.0, 9.0, 10.0), division="open", flop_ratio=2.0)
WITH_OPEN = [*RECORDS, OPEN_RECORD]
OPEN_SPEED = speed_record(*SPEED.arms, OPEN_ARM)
OPEN_BASELINE = speed_record(*SPEED.arms, OPEN_ARM, baseline="graph")


# --- rows and columns ---


def test_methods_come_first_then_controls_then_the_bound() -> None:
    assert list(table().index) == ["gfp", "skeletonmae", "random-init", "raw-pca", "encoder-only"]


def test_columns_are_the_documented_ones_and_cells_are_text() -> None:
    for wide, columns in ((False, CELLS), (True, WIDE)):
        found = build_table(RECORDS, SPEED, wide=wide)
        assert list(found.columns) == list(columns)
        assert all(isinstance(value, str) for row in found.itertuples(index=False) for value in row)


# --- accuracy ---


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ("gfp", "linear", "80.0 [75.8, 83.6 clips]"),
        ("gfp", "kNN-1", "70.0 [65.3, 74.3 clips]"),
        ("gfp", "vs random", "+20.0"),
        ("skeletonmae", "vs random", "-2.0"),
        ("gfp", "best point", "85.0"),
        ("gfp", "clips seen", "6,400"),
        ("gfp", "wall s", "60"),
        ("random-init", "linear", "60.0 [55.1, 64.7 clips]"),
        ("random-init", "vs random", "-"),
        ("raw-pca", "kNN-1", "45.0 [40.2, 49.9 clips]"),
        ("raw-pca", "best point", "-"),
        ("raw-pca", "clips/s", "-"),
        ("encoder-only", "linear", "-"),
        ("encoder-only", "vs random", "-"),
    ],
)
def test_accuracy_is_in_percent_and_compared_with_the_random_encoder(
    row: str, column: str, expected: str
) -> None:
    assert cell(row, column) == expected


def test_seeds_give_mean_and_standard_deviation() -> None:
    seeds = [run_record("gfp", linear, seed=seed) for seed, linear in enumerate((0.70, 0.72, 0.77))]
    records = [*RECORDS[:2], *seeds, RECORDS[3]]
    # Deviations -3, -1, 4: sqrt(26 / 2) = 3.61; the interval is 4.3027 * 3.61 / sqrt(3) = 8.96 to
    # each side.
    assert cell("gfp", "linear", records) == "73.0 ± 3.6 [64.0, 82.0] best"
    assert cell("gfp", "vs random", records) == "+13.0"
    assert cell("gfp", "best point", records) == "78.0 ± 3.6 [69.0, 87.0]"


def test_two_option_sets_of_a_method_are_two_rows() -> None:
    records = [*RECORDS, run_record("gfp", 0.9, label="gfp:tau=1")]
    assert cell("gfp", "linear", records).startswith("80.0 ")
    assert cell("gfp:tau=1", "linear", records).startswith("90.0 ")


@pytest.mark.parametrize("status", ["failed", "diverged", "oom", "interrupted"])
def test_a_run_that_did_not_end_shows_its_status_and_no_accuracy(status: str) -> None:
    records = [
        *RECORDS[:2],
        run_record("gfp", status=status, error="why it was", accuracy=None),
        RECORDS[3],
    ]
    assert cell("gfp", "trains faster", records) == status
    assert cell("gfp", "linear", records) == "-"
    assert cell("gfp", "vs random", records) == "-"
    assert f"{status}: gfp, seed 0: why it was" in notes(records, SPEED)


def test_the_seeds_that_ended_count_when_another_failed() -> None:
    failed = run_record("gfp", seed=1, status="failed", error="why", accuracy=None)
    records = [*RECORDS, failed]
    assert cell("gfp", "linear", records).startswith("80.0 ")
    assert cell("gfp", "trains faster", records) == "failed"


def test_without_a_random_control_nothing_is_compared() -> None:
    assert cell("gfp", "vs random", RECORDS[2:]) == "-"


# --- speed ---


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ("gfp", "clips/s", "123"),
        ("skeletonmae", "clips/s", "9.88"),
        ("gfp", "speedup [95 %]", "2.20x [2.00, 2.40]"),
        ("skeletonmae", "speedup [95 %]", "1 (baseline)"),
        ("skeletonmae", "trains faster", "-"),
        ("gfp", "trains faster", "supported"),
        ("gfp", "by FLOPs", "3.00x"),
        ("gfp", "GFLOP/clip", "0.1"),  # 3.2e9 / 64 sequences * 2 bodies
        ("gfp", "peak MB", "456"),
        ("encoder-only", "peak MB", "-"),
        ("encoder-only", "by FLOPs", "9.00x"),
    ],
)
def test_speed_stands_beside_accuracy(row: str, column: str, expected: str) -> None:
    assert cell(row, column) == expected


@pytest.mark.parametrize("interval", [(0.99, 1.2, 1.4), (1.05, 1.2, 1.4), (0.9, 0.93, 0.96)])
def test_a_ratio_inside_the_noise_floor_is_not_printed(
    interval: tuple[float, float, float],
) -> None:
    assert speedup(arm("gfp", ratio(*interval)), floor=1.05) == "within noise"


def test_a_clear_slowdown_is_printed() -> None:
    assert speedup(arm("gfp", ratio(0.5, 0.6, 0.7))) == "0.60x [0.50, 0.70]"


@pytest.mark.parametrize("verdict", ["supported", "not supported", "not measurable here"])
def test_the_verdict_is_one_of_three(verdict: str) -> None:
    speed = speed_record(arm("gfp", ratio(2.0, 2.2, 2.4), verdict=verdict))
    assert cell("gfp", "trains faster", speed=speed) == verdict


def test_a_method_that_was_not_timed_has_no_speed() -> None:
    speed = speed_record(arm("skeletonmae", ratio(1.0, 1.0, 1.0)))
    assert [cell("gfp", column, speed=speed) for column in [*WIDE][-6:]] == ["-"] * 6


# --- the open division ---


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("linear", "70.0 [65.3, 74.3 clips]"),
        ("vs random", "-"),
        ("clips/s", "123"),
        ("speedup [95 %]", "open division"),
        ("by FLOPs", "-"),
        ("GFLOP/clip", "0.1"),
        ("trains faster", "-"),
    ],
)
def test_a_method_with_its_own_encoder_is_compared_with_nothing(column: str, expected: str) -> None:
    assert cell("graph (open)", column, WITH_OPEN, OPEN_SPEED) == expected


def test_a_method_with_its_own_encoder_stands_once_among_the_methods_and_is_marked() -> None:
    expected = ["gfp", "skeletonmae", "graph (open)", "random-init", "raw-pca", "encoder-only"]
    assert list(table(WITH_OPEN, OPEN_SPEED).index) == expected


@pytest.mark.parametrize(
    ("records", "speed"), [(WITH_OPEN, SPEED), ([], OPEN_SPEED)], ids=["record", "arm"]
)
def test_either_record_tells_the_division(records: list[RunRecord], speed: SpeedRecord) -> None:
    assert "graph (open)" in table(records, speed).index


def test_a_failed_run_with_its_own_encoder_shows_its_status() -> None:
    failed = OPEN_RECORD.model_copy(update={"status": "failed", "error": "why", "accuracy": None})
    assert cell("graph (open)", "trains faster", [*RECORDS, failed], OPEN_SPEED) == "failed"


def test_the_closed_rows_are_as_without_an_open_one() -> None:
    closed = table(WITH_OPEN, OPEN_SPEED).drop(index="graph (open)")
    pd.testing.assert_frame_equal(closed, table())


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ("graph (open)", "speedup [95 %]", "open division"),
        ("gfp", "speedup [95 %]", "-"),
        ("gfp", "by FLOPs", "-"),
        ("gfp", "trains faster", "-"),
        ("encoder-only", "speedup [95 %]", "-"),
    ],
)
def test_no_speedup_is_formed_over_an_open_baseline(row: str, column: str, expected: str) -> None:
    assert cell(row, column, WITH_OPEN, OPEN_BASELINE) == expected


def test_an_open_baseline_has_no_bound_and_nothing_to_explain() -> None:
    lines = notes(WITH_OPEN, OPEN_BASELINE)
    assert not [line for line in lines if line.startswith(("decoder-free bound", "explain"))]


# --- what stands below ---


def note(start: str, records: list[RunRecord] = RECORDS, speed: SpeedRecord = SPEED) -> str:
    (line,) = (line for line in notes(records, speed) if line.startswith(start))
    return line


def test_notes_are_single_lines() -> None:
    assert all(line and "\n" not in line for line in notes(RECORDS, SPEED))


def test_notes_give_the_noise_floor_and_same_against_same() -> None:
    line = note("speed: ")
    assert "same against same 1.010 [0.970, 1.050], noise floor 1.050" in line
    assert "20 interleaved rounds" in line
    assert "speedup = clips/s over skeletonmae" in line
    assert "batch 64 body sequences" in line


def vague(*labels: str) -> list[ArmRecord]:
    return [arm(label, ratio(0.9, 1.2, 1.6), verdict="not measurable here") for label in labels]


@pytest.mark.parametrize(
    ("floor", "disturbed", "why"),
    [
        (1.05, None, "the interval is wider than a factor of 1.5"),  # 1.6 / 0.9
        (1.25, 5, "the interval is wider than a factor of 1.5"),  # 5 of 10 is not most
        (1.26, None, "the noise floor is above 1.25"),
        (1.05, 6, "60% of the blocks stayed disturbed"),
        (1.3, 7, "70% of the blocks stayed disturbed and the noise floor is above 1.25"),
    ],
)
def test_rows_that_are_not_measurable_are_named_with_the_reason(
    floor: float, disturbed: int | None, why: str
) -> None:
    speed = speed_record(
        *vague("gfp", "skeletonmae", "amr"), arm("mamp", ratio(2.0, 2.2, 2.4)), floor=floor
    )
    health = None if disturbed is None else Health(blocks=10, disturbed=disturbed)
    found = note("not measurable", speed=speed.model_copy(update={"health": health}))
    assert (
        found
        == f"not measurable here (gfp, amr): {why}; measure again on a quiet machine or for longer"
    )


def test_where_all_is_measurable_there_is_no_such_note() -> None:
    for speed in (SPEED, speed_record(*SPEED.arms, *vague("mamp"), baseline="mamp")):
        assert not [line for line in notes(RECORDS, speed) if line.startswith("not measurable")]


def test_notes_give_the_decoder_free_bound() -> None:
    assert "9.00x by FLOPs, 4.50x [4.00, 5.00] measured" in note("decoder-free bound: ")


def test_without_a_measured_bound_there_is_no_such_note() -> None:
    speed = speed_record(arm("gfp", ratio(2.0, 2.2, 2.4)))
    assert not [line for line in notes(RECORDS, speed) if line.startswith("decoder-free bound")]


def test_notes_give_the_largest_untracked_share_of_a_training_run() -> None:
    records = [
        run_record("raw-pca", untracked=0.5),
        run_record("gfp", untracked=0.0123),
        run_record("skeletonmae"),
    ]
    assert "1.2%" in note("untracked wall time: ", records)


def test_notes_say_what_the_accuracies_are() -> None:
    assert "% of test clips on frozen features" in note("linear, kNN-1: ")


def test_how_far_the_proxy_may_be_trusted_is_what_its_study_found() -> None:
    said = note("linear is a proxy")
    table = (ROOT / "benchmarks/results/proxy/table.md").read_text(encoding="utf-8")
    [row] = [
        line.split(" | ")
        for line in table.splitlines()
        if line.startswith("| data/utdmhad") and "| linear | linear-mamp:epochs=30 |" in line
    ]
    encoders, furthest = row[3], row[-1].split(" / ")[0]
    assert f"of {encoders} tiny encoders on UTD-MHAD" in said
    assert f"up to {furthest} points apart" in said


def test_without_validation_subjects_notes_say_that_the_last_evaluation_counts() -> None:
    alone = RECORDS[0].data.model_copy(update={"validation_clips": 0})
    found = note(
        "linear, kNN-1: ", [record.model_copy(update={"data": alone}) for record in RECORDS]
    )
    assert "no validation subjects: the last evaluation counts" in found
    assert "the last evaluation" not in note("linear, kNN-1: ")


def probed(
    *, validation: int, points: int, strengths: tuple[float, ...], selection: float | None
) -> list[RunRecord]:
    """Records of runs whose evaluation was so set up."""
    found = []
    for record in RECORDS:
        assert record.accuracy is not None
        found.append(
            record.model_copy(
                update={
                    "data": record.data.model_copy(update={"validation_clips": validation}),
                    "spec": record.spec.model_copy(
                        update={"probe": ProbeSpec(regularisation=strengths)}
                    ),
                    "curve": record.curve[:points],
                    "accuracy": record.accuracy.model_copy(update={"selection": selection}),
                }
            )
        )
    return found


HELD_OUT = "held-out training-side subjects"


@pytest.mark.parametrize(
    ("validation", "points", "strengths", "selection", "said"),
    [
        (200, 2, (0.1, 1.0), 0.5, f"evaluation and regularisation chosen on {HELD_OUT}"),
        (200, 1, (0.1, 1.0), 0.5, f"frozen features; regularisation chosen on {HELD_OUT}"),
        (200, 2, (0.1,), 0.5, f"evaluation chosen on {HELD_OUT}, regularisation 0.1, as set"),
        (
            0,
            2,
            (0.1, 1.0),
            0.5,
            (
                "the last evaluation counts, regularisation chosen on training-side subjects that"
                " the probe was not fitted on"
            ),
        ),
        (
            0,
            2,
            (0.1, 1.0),
            None,
            "the last evaluation counts, regularisation 1: no subjects are known",
        ),
    ],
)
def test_notes_say_what_was_chosen_and_on_what(
    validation: int, points: int, strengths: tuple[float, ...], selection: float | None, said: str
) -> None:
    records = probed(validation=validation, points=points, strengths=strengths, selection=selection)
    assert said in note("linear, kNN-1: ", records)
    assert ("held-out" in note("linear, kNN-1: ", records)) == (validation > 0)


@pytest.mark.parametrize(("clips", "warned"), [(9, True), (29, True), (30, False), (400, False)])
def test_a_handful_of_test_clips_is_warned_of(clips: int, warned: bool) -> None:
    few = RECORDS[0].data.model_copy(update={"test_clips": clips})
    found = notes([record.model_copy(update={"data": few}) for record in RECORDS], SPEED)
    assert (
        any(
            line.startswith(f"warning: {clips} test clips, {100 / clips:.1f} points each")
            for line in found
        )
        == warned
    )


# --- departures from the published training ---


def trained_as(
    name: str = "gfp", *, epochs: float = 400, clips: float = 128.0, **sections: dict[str, Any]
) -> RunRecord:
    """A run of the published preset but for what `sections` change."""
    made = run_record(name)
    spec = made.spec.model_dump() | {
        section: model.model_validate(
            {**PRESETS["published"].get(section, {}), **sections.get(section, {})}
        )
        for section, model in SECTIONS.items()
    }
    steps = round(epochs * made.data.train_clips / clips)
    assert made.training is not None
    training = made.training.model_copy(update={"steps": steps, "clips_seen": steps * clips})
    method = made.method.model_copy(update={"epochs": 400})
    return made.model_copy(
        update={"spec": RunSpec.model_validate(spec), "training": training, "method": method}
    )


def test_the_published_training_departs_in_nothing() -> None:
    assert departures([trained_as(), trained_as("skeletonmae")]) == []
    assert departures([trained_as(clips=151 / 1.18)]) == []  # whole sequences: 127.97 clips
    faster = {"fused_attention": False, "compile": True, "batch_size": 256}
    assert (
        departures([trained_as(train=faster, data={"include_empty_bodies": True, "name": "ntu60"})])
        == []
    )


def test_every_departure_stands_in_one_line_with_the_published_value() -> None:
    runs = [
        trained_as(
            name,
            epochs=epochs,
            clips=57.0,
            encoder={"size": "tiny"},
            data={"validation": 0.2},
            train={"final_lr": 0.01, "clip_gradient": 1.0},
        )
        for name, epochs in (("gfp", 40), ("gfp", 42), ("skeletonmae", 400))
    ]
    assert departures(runs) == [
        "departs from --preset published: encoder.size tiny (base), data.validation 0.2 (0),"
        " train.final_lr 0.01 (0.5), train.clip_gradient 1 (unset), 57 clips a batch (128), gfp 41"
        " epochs (400)"
    ]


def test_epochs_are_compared_with_those_of_each_methods_paper() -> None:
    longer = trained_as("sjepa")
    longer = longer.model_copy(update={"method": longer.method.model_copy(update={"epochs": 1200})})
    assert departures([trained_as(), longer]) == [
        "departs from --preset published: sjepa 400 epochs (1200)"
    ]


def test_the_line_stands_below_the_table_of_a_run_and_not_below_speed_alone() -> None:
    assert note("departs from --preset published: ").startswith(
        "departs from --preset published: encoder.size tiny (base)"
    )
    assert not [line for line in notes([], SPEED) if line.startswith("departs")]


def test_notes_give_machine_versions_commit_and_date() -> None:
    line = note("machine: ")
    for part in (
        "Abacus 3000",
        "2 cores",
        "1 threads",
        "torch 2.11.0",
        "commit 0123456789ab",
        "2026-01-02 03:04 UTC",
    ):
        assert part in line


def test_warnings_stand_before_data_and_conditions() -> None:
    collapsed = run_record("gfp", 0.9).model_copy(update={"warnings": ("targets collapsed",)})
    lines = notes([*RECORDS, collapsed], SPEED, wide=False)
    (data,) = (place for place, line in enumerate(lines) if line.startswith("data: synthetic"))
    marks = [place for place, line in enumerate(lines) if line.startswith(("warning", "in doubt"))]
    assert len(marks) > 1
    assert max(marks) < data


def test_notes_explain_what_is_shown() -> None:
    columns = ("best point", "interleaved s", "wall s", "peak MB", "GFLOP/clip", "'vs random'")
    narrow, wide = (" ".join(notes(WITH_OPEN, OPEN_SPEED, wide=wide)) for wide in (False, True))
    assert not [column for column in columns if column in narrow]
    assert not [column for column in columns if column not in wide]
    assert "±" not in wide  # of one seed
    assert "±: standard deviation" in " ".join(
        notes([*RECORDS, run_record("gfp", 0.7, seed=1)], SPEED)
    )


def test_notes_give_data_split_and_the_number_of_clips() -> None:
    lines = [line for line in notes(RECORDS, SPEED) if line.startswith("data")]
    assert lines[0].startswith(f"data: synthetic ({'f' * 16}), split xsub, 12 classes")
    assert "800 train + 200 validation / 400 test" in lines[0]
    assert "data: two clips have a single frame" in lines


def test_notes_give_the_numbers_of_an_encoder_that_is_not_its_size() -> None:
    records = [with_encoder(run_record("gfp"), depth=1)]
    (line,) = [line for line in notes(records, None) if line.startswith("encoder: ")]
    assert line.startswith("encoder: tiny (depth=1), 1,234,567 parameters")


def test_notes_give_encoder_seeds_and_training() -> None:
    records = [*RECORDS, run_record("gfp", seed=2)]
    line = note("encoder: ", records)
    for part in (
        "tiny, 1,234,567 parameters, 450 tokens",
        "seeds 0, 2",
        "budget 60s, lr 0.002, fp32",
    ):
        assert part in line


def test_a_measurement_of_speed_alone_has_notes_too() -> None:
    lines = notes([], SPEED)
    assert any(line.startswith("speed: ") for line in lines)
    assert not [line for line in lines if line.startswith(("linear", "untracked"))]
    assert list(table([]).index) == ["gfp", "skeletonmae", "encoder-only"]


def test_a_ratio_far_above_the_flop_ratio_asks_for_an_explanation() -> None:
    speed = speed_record(arm("gfp", ratio(2.0, 2.2, 2.4), flop_ratio=1.5))  # 2.0 > 1.25 * 1.5
    assert "gfp measures 2.20x where FLOPs predict 1.50x" in note("explain: ", speed=speed)


@pytest.mark.parametrize(("low", "control"), [(1.8, False), (2.0, True)])
def test_near_the_flop_ratio_and_for_controls_nothing_is_to_explain(
    low: float, control: bool
) -> None:
    speed = speed_record(arm("gfp", ratio(low, 2.2, 2.4), flop_ratio=1.5, control=control))
    assert not [line for line in notes(RECORDS, speed) if line.startswith("explain")]


def test_a_ratio_far_below_the_flop_ratio_asks_for_an_explanation() -> None:
    slow = arm("gfp", ratio(1.9, 2.0, 2.1), flop_ratio=3.0)
    (line,) = [line for line in notes([], speed_record(slow)) if line.startswith("explain:")]
    assert "gfp measures 2.00x where FLOPs predict 3.00x" in line


def test_methods_without_a_clear_gain_are_named() -> None:
    made = [
        run_record("random-init", 0.50),
        run_record("gfp", 0.56),
        run_record("skeletonmae", 0.53, seed=0),
        run_record("skeletonmae", 0.55, seed=1),
    ]
    (line,) = [line for line in notes(made, SPEED) if "above the untrained encoder" in line]
    assert line == "under this budget not 5 points above the untrained encoder: skeletonmae (+4.0)"


def test_runs_from_elsewhere_are_named() -> None:
    other = RECORDS[2].environment.model_copy(update={"processor": "Abacus 4000"})
    made = [*RECORDS[:2], RECORDS[2].model_copy(update={"environment": other})]
    assert (
        note("trained on another machine", made)
        == "trained on another machine or with other versions: gfp, seed 0"
    )
    assert not [line for line in notes(RECORDS, SPEED) if line.startswith("trained on another")]


def test_rows_below_the_untrained_encoder_are_warned_of() -> None:
    made = [
        run_record("random-init", 0.50, knn=0.4),
        run_record("gfp", 0.49, knn=0.4),
        run_record("mamp", 0.6, knn=0.3),
    ]
    found = [line for line in notes(made, SPEED) if "below the untrained encoder" in line]
    assert found == [
        (
            "warning: linear: below the untrained encoder on this data: gfp (-1.0); a budget that"
            " leaves them there ranks nothing"
        ),
        (
            "warning: kNN-1: below the untrained encoder on this data: mamp (-10.0); a budget that"
            " leaves them there ranks nothing"
        ),
    ]


def test_an_open_row_is_compared_with_its_own_encoder_before_training() -> None:
    untrained = OPEN_RECORD.model_copy(update={"untrained": run_record("x", 0.69).accuracy})
    made = [*RECORDS, untrained]
    assert cell("graph (open)", "vs random", made, OPEN_SPEED) == "+1.0"
    (line,) = [line for line in notes(made, OPEN_SPEED) if "above the untrained encoder" in line]
    assert "graph (+1.0)" in line


def test_without_a_control_or_with_gains_throughout_there_is_no_such_note() -> None:
    for made in (
        [run_record("gfp", 0.56)],
        [run_record("gfp", 0.56), run_record("random-init", 0.50)],
    ):
        assert not [line for line in notes(made, SPEED) if "above the untrained encoder" in line]


def test_an_open_row_has_nothing_to_explain() -> None:
    assert not [line for line in notes(WITH_OPEN, OPEN_SPEED) if line.startswith("explain")]


def test_notes_name_the_open_division_once() -> None:
    line = note("open division: ", WITH_OPEN, OPEN_SPEED)
    assert line.startswith(
        "open division: graph bring their own encoder; no speedup is formed against them"
    )


def test_without_open_rows_there_is_no_such_note() -> None:
    assert not [line for line in notes(RECORDS, SPEED) if line.startswith("open division")]


def test_warnings_of_methods_are_repeated() -> None:
    records = [*RECORDS, run_record("gfp", seed=1, warnings=("targets collapsed",))]
    assert "warning: gfp, seed 1: targets collapsed" in notes(records, SPEED)


def test_markdown_holds_command_table_and_notes() -> None:
    text = to_markdown(
        build_table(RECORDS, SPEED),
        ["first note", "second note"],
        "python -m harness run --seeds 0",
    )
    lines = text.splitlines()
    assert lines[0] == "    python -m harness run --seeds 0"
    assert lines[2] == "| " + " | ".join(CELLS) + " |"
    assert lines[3].count("---") == len(CELLS)
    assert (
        lines[4]
        == "| gfp | 2.20x [2.00, 2.40] | supported | 3.00x | 80.0 [75.8, 83.6 clips] | 70.0 |"
    )
    assert lines[-2:] == ["- first note", "- second note"]
    assert {line.count("|") for line in lines[2:9]} == {len(CELLS) + 1}


@pytest.mark.parametrize(
    ("tf32", "told"), [(True, ", TF32 on; "), (False, ", TF32 off; "), (None, " threads; ")]
)
def test_a_gpus_matrix_products_are_told_where_they_are_known(tf32: bool | None, told: str) -> None:
    environment = SPEED.environment.model_copy(update={"device": "NVIDIA H100", "tf32": tf32})
    assert told in notes([], SPEED.model_copy(update={"environment": environment}))[-1]


def test_tf32_steps_and_a_machine_that_has_it_off_contradict_nothing() -> None:
    environment = SPEED.environment.model_copy(update={"device": "NVIDIA H100", "tf32": False})
    spec = {**SPEED.spec, "train": {**SPEED.spec["train"], "precision": "tf32"}}
    lines = notes([], SPEED.model_copy(update={"environment": environment, "spec": spec}))
    assert ", TF32 on in training steps, off elsewhere; " in lines[-1]


# --- the speed table's notes ---


def test_forward_flops_are_told_by_part() -> None:
    parts = {"encoder": 0.4445, "decoder": 0.4957, "regulariser": 0.0598}
    told = speed_notes(
        speed_record(arm("gfp", ratio(2.0, 2.2, 2.4), forward_shares=parts), *SPEED.arms[1:])
    )
    assert "forward FLOPs by part: gfp encoder 44.5%, decoder 49.6%, regulariser 6.0%" in told
    assert not any("by part" in note for note in speed_notes(SPEED))  # a record of before


def test_where_most_blocks_were_disturbed_numbers_say_so_and_nothing_is_explained() -> None:
    narrow = arm("gfp", ratio(2.1, 2.2, 2.3), flop_ratio=4.0, verdict="not measurable here")
    speed = speed_record(narrow, *SPEED.arms[1:])
    disturbed = speed.model_copy(update={"health": Health(blocks=10, disturbed=6)})
    assert cell("gfp", "speedup [95 %]", speed=disturbed) == "2.20x [2.10, 2.30] (disturbed)"
    assert cell("gfp", "trains faster", speed=disturbed) == "not measurable here"
    lines = notes(RECORDS, disturbed)
    assert any("4.50x [4.00, 5.00] (disturbed) measured" in line for line in lines)
    assert not [line for line in lines if line.startswith("explain")]


def test_a_ratio_that_was_not_measurable_asks_for_no_explanation() -> None:
    coarse = arm("gfp", ratio(0.9, 1.2, 1.6), flop_ratio=4.0, verdict="not measurable here")
    assert not [
        line
        for line in notes(RECORDS, speed_record(coarse, *SPEED.arms[1:]))
        if line.startswith("explain")
    ]


@pytest.mark.parametrize(
    ("clips", "said"),
    [(29, ["warning: 29 test clips, 3.4 points each: too few to tell rows apart"]), (30, [])],
)
def test_few_test_clips_are_warned_of(clips: int, said: list[str]) -> None:
    records = [
        record.model_copy(update={"data": record.data.model_copy(update={"test_clips": clips})})
        for record in RECORDS
    ]
    assert [line for line in notes(records, SPEED) if "too few to tell" in line] == said


# --- what fits ---


def seeds(name: str, *linear: float) -> list[RunRecord]:
    return [run_record(name, value, seed=seed) for seed, value in enumerate(linear)]


def on_screen(shown: pd.DataFrame, width: int = 100) -> list[str]:
    """The lines of a table on a terminal."""
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, no_color=True, width=width)
    print_table(console, shown.columns, shown.itertuples(index=False), [])
    return [re.sub(r"\x1b\[\d*m", "", line).rstrip() for line in file.getvalue().splitlines()]


def test_what_matters_first_fits_100_columns_and_each_row_a_line() -> None:
    records = [
        *seeds("skeletonmae", 0.70, 0.72, 0.77),
        *seeds("gfp", 0.70, 0.72, 0.76),
        *RECORDS[:2],
    ]
    shown = build_table(records, SPEED)
    assert shown["linear [95 %]"].tolist()[1] == "72.7 [65.1, 80.3] ~best"
    lines = on_screen(shown)
    assert len(lines) == 1 + len(shown)
    assert max(map(len, lines)) <= 100
    assert max(map(len, to_markdown(shown, [], "").splitlines())) <= 100


def test_a_long_label_is_folded_and_nothing_of_it_lost() -> None:
    label = "gfp:" + ",".join(f"option{number}=value" for number in range(20))
    lines = on_screen(build_table([run_record("gfp", label=label)], None))
    assert max(map(len, lines)) <= 100
    assert "".join(line.split(" ")[0] for line in lines[1:]) == label


def test_wide_shows_every_column() -> None:
    assert list(build_table(RECORDS, SPEED, wide=True)) == [
        "method",
        "linear",
        "vs random",
        "kNN-1",
        "best point",
        "clips seen",
        "interleaved s",
        "wall s",
        "clips/s",
        "speedup [95 %]",
        "by FLOPs",
        "GFLOP/clip",
        "peak MB",
        "trains faster",
    ]


def test_a_terminal_that_is_too_narrow_folds_the_label_and_nothing_else() -> None:
    label = "gfp:target_input=masked-joints"
    arms = [arm(label, ratio(2.0, 2.2, 2.4)), *SPEED.arms[1:]]
    lines = on_screen(build_table([run_record("gfp", label=label)], speed_record(*arms)), width=92)
    assert max(map(len, lines)) <= 92
    assert [
        line
        for line in lines
        if "2.20x [2.00, 2.40]" in line and "supported" in line and "80.0 [" in line
    ]


def test_a_table_is_cut_into_parts_that_fit_each_with_its_rows() -> None:
    cells = pd.DataFrame(
        {"method": ["gfp", "mamp"], **{f"protocol {number}": ["1" * 40] * 2 for number in range(5)}}
    )
    parts = blocks(cells)
    assert [list(part) for part in parts] == [
        ["method", "protocol 0", "protocol 1"],
        ["method", "protocol 2", "protocol 3"],
        ["method", "protocol 4"],
    ]
    assert [list(part) for part in blocks(cells, 20)] == [
        ["method", f"protocol {number}"] for number in range(5)
    ]
    assert list(blocks(cells[["method"]])[0]) == ["method"]
