"""The waterfall as printed: times, switches, ratios and the story below,
from blocks written by hand.
"""

from __future__ import annotations

import math

import pytest

from harness.records.schema import ArmRecord, Health, Ratio, SpeedRecord
from harness.report.explain import factor, move, times, waterfall, waterfall_frame, waterfall_notes
from tests.harness.made_up_records import ratio, stage_arm, stage_record

SPREAD = 5.594985
"""Half the interval, as a factor, of three ratios x, 2x and 4x: exp(4.302653 ln 2 / sqrt(3))."""
STAGES = ("as published", "fused attention", "compiled")
PUBLISHED, FUSED, COMPILED = (f" @ {stage}" for stage in STAGES)
ARMS = (
    # Steps of 2 clips, one arm's of 1. FLOPs per clip at the end: gfp 2e9 / 2, mamp 1.6e9 / 1.
    stage_arm("gfp" + PUBLISHED, 0.008, 0.016, 0.032, step_flops=9e9),
    stage_arm("gfp" + FUSED, 0.004, 0.004, 0.004, step_flops=9e9),
    stage_arm("gfp" + COMPILED, 0.002, 0.002, 0.002, step_flops=2e9),
    stage_arm("mamp" + PUBLISHED, 0.032, 0.032, 0.032),
    stage_arm("mamp" + FUSED, 0.016, 0.016, 0.016),
    stage_arm("mamp" + COMPILED, 0.012, 0.012, 0.012, clips=1.0, step_flops=1.6e9),
)


def record(*missing: str) -> SpeedRecord:
    """The measurement, without these arms."""
    return stage_record(
        *(arm for arm in ARMS if arm.label not in missing), stages=STAGES, rules="1"
    )


def note(start: str, found: SpeedRecord) -> str:
    (line,) = (line for line in waterfall_notes(found) if line.startswith(start))
    return line


# --- the table ---


def test_times_switches_and_ratios_by_hand() -> None:
    # Ratios x, 2x, 4x have a 95 % interval of a factor 5.594985 either side of 2x (t of two degrees
    # of freedom).
    found = waterfall(record(), wide=True)
    assert list(found.columns) == [
        "stage",
        "gfp: ms/clip",
        "gfp: this switch",
        "gfp: all so far",
        "mamp: ms/clip",
        "mamp: this switch",
        "mamp: all so far",
        "gfp over mamp",
    ]
    assert found.to_numpy().tolist() == [
        ["as published", "8", "-", "-", "16", "-", "-", "2.00x [0.36, 11.19] (noise)"],
        [
            "fused attention",
            "2",
            "4.00x [0.71, 22.38] (noise)",
            "4.00x [0.71, 22.38] (noise)",
            "8",
            "2.00x [2.00, 2.00]",
            "2.00x [2.00, 2.00]",
            "4.00x [4.00, 4.00]",
        ],
        [
            "compiled",
            "1",
            "2.00x [2.00, 2.00]",
            "8.00x [1.43, 44.76]",
            "12",
            "0.67x [0.67, 0.67]",
            "1.33x [1.33, 1.33]",
            "12.00x [12.00, 12.00]",
        ],
    ]


def test_a_stage_that_failed_is_a_dash_wherever_it_is_needed() -> None:
    found = waterfall(record("gfp" + FUSED), wide=True).set_index("stage")
    assert found.loc["fused attention"].tolist()[:3] == ["-", "-", "-"]
    assert found.loc["fused attention", "gfp over mamp"] == "-"
    assert found.loc["compiled"].tolist()[:3] == ["1", "-", "8.00x [1.43, 44.76]"]
    assert found.loc["compiled", "mamp: this switch"] == "0.67x [0.67, 0.67]"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ((1.1, 1.2, 1.4), "1.20x [1.10, 1.40]"),
        ((1.01, 1.2, 1.4), "1.20x [1.01, 1.40] (noise)"),
        ((0.5, 0.7, 0.9), "0.70x [0.50, 0.90]"),
    ],
)
def test_a_factor_that_touches_the_noise_floor_is_marked(
    found: tuple[float, float, float], expected: str
) -> None:
    assert factor(ratio(*found), 1.05) == expected


def test_ratios_are_per_clip() -> None:
    arms = (stage_arm("gfp @ a", 0.1, 0.1), stage_arm("mamp @ a", 0.1, 0.1, clips=1.0))
    assert (
        waterfall(stage_record(*arms, stages=["a"])).loc[0, "gfp over mamp"] == "2.00x [2.00, 2.00]"
    )


def test_one_method_has_no_ratio_of_methods() -> None:
    found = stage_record(*ARMS[:3], stages=STAGES)
    assert list(waterfall(found, wide=True).columns) == [
        "stage",
        "gfp: ms/clip",
        "gfp: this switch",
        "gfp: all so far",
    ]
    assert not [line for line in waterfall_notes(found) if " over " in line]


# --- the notes ---


def test_the_story_tells_first_last_prediction_and_the_largest_move() -> None:
    # The methods' ratio goes 2, 4, 12: compiling triples it in every round; the fused kernel
    # doubles it in the mean, by rounds 1, 2 and 4 times, with the interval of such ratios.
    assert waterfall_notes(record())[:2] == [
        (
            "gfp over mamp: 2.00x at 'as published', 12.00x at 'compiled'; by FLOPs 1.60x; the"
            " switch that moves it most is 'compiled': times 3.00 [3.00, 3.00]"
        ),
        "the attention kernel alone: times 2.00 [0.36, 11.19] on the methods' ratio",
    ]


def test_a_switch_that_lowers_the_ratio_moves_it_too() -> None:
    arms = [stage_arm(f"gfp @ {stage}", 0.1, 0.1) for stage in "abc"]
    arms += [
        stage_arm(f"mamp @ {stage}", time, time)
        for stage, time in zip("abc", (0.4, 0.1, 0.2), strict=True)
    ]
    story = note("gfp over mamp: ", stage_record(*arms, stages=["a", "b", "c"]))
    assert "4.00x at 'a', 2.00x at 'c'" in story
    assert story.endswith("'b': times 0.25 [0.25, 0.25]")


def moved(*arms: ArmRecord) -> Ratio | None:
    return move(stage_record(*arms, stages=["a", "b"]), "a", "b")


def test_a_move_is_paired_by_round() -> None:
    # mamp over gfp in seconds per clip, by round: 2, 4, 8 at 'a' and 4, 16, 64 at 'b'; so the
    # switch does 2, 4 and 8.
    found = moved(
        stage_arm("gfp @ a", 1.0, 1.0, 1.0),
        stage_arm("mamp @ a", 2.0, 4.0, 8.0),
        stage_arm("gfp @ b", 0.5, 0.25, 0.125),
        stage_arm("mamp @ b", 2.0, 4.0, 8.0),
    )
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx(
        (4 / SPREAD, 4.0, 4 * SPREAD), rel=1e-5
    )
    assert found.pairs == 3
    assert times(found) == "times 4.00 [0.71, 22.38]"


def test_noise_that_both_stages_share_in_a_round_leaves_the_move_exact() -> None:
    noise = (1.0, 3.0, 0.2)
    found = moved(
        *(stage_arm(f"gfp @ {stage}", *noise) for stage in "ab"),
        stage_arm("mamp @ a", *(4 * x for x in noise)),
        stage_arm("mamp @ b", *(2 * x for x in noise)),
    )
    assert found is not None
    assert (found.low, found.value, found.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_move_is_per_clip() -> None:
    arms = [
        stage_arm(f"{method} @ {stage}", 0.1, 0.1) for method in ("gfp", "mamp") for stage in "ab"
    ]
    arms[3] = stage_arm("mamp @ b", 0.1, 0.1, clips=1.0)  # the same step for half the clips
    found = moved(*arms)
    assert found is not None
    assert found.value == pytest.approx(2.0)


@pytest.mark.parametrize("missing", range(4))
def test_without_one_of_its_four_arms_there_is_no_move(missing: int) -> None:
    arms = [
        stage_arm(f"{method} @ {stage}", 0.1, 0.1) for method in ("gfp", "mamp") for stage in "ab"
    ]
    del arms[missing]
    assert moved(*arms) is None


def test_a_single_common_stage_has_no_story() -> None:
    found = record("gfp" + FUSED, "mamp" + COMPILED)
    assert not [line for line in waterfall_notes(found) if line.startswith("gfp over mamp")]


def test_what_failed_is_named() -> None:
    line = note("failed", record("gfp" + FUSED, "mamp" + COMPILED))
    assert line == "failed, left out: gfp at 'fused attention', mamp at 'compiled'"
    assert not [line for line in waterfall_notes(record()) if line.startswith("failed")]


def test_a_method_that_failed_at_every_stage_is_named_too() -> None:
    alone = stage_record(*ARMS[3:], stages=STAGES)
    found = alone.model_copy(update={"spec": alone.spec | {"rows": ["gfp", "mamp"]}})
    assert note("failed", found).startswith(
        "failed, left out: gfp at 'as published', gfp at 'fused attention', gfp at"
    )
    assert waterfall(found)["gfp over mamp"].tolist() == ["-", "-", "-"]


def test_a_failed_stage_is_not_told_as_the_switch_after_it() -> None:
    """Without 'b' the step from 'a' to 'fused attention' holds two switches,
    so it is not the kernel alone.
    """
    stages = ("a", "b", "fused attention")
    arms = [
        stage_arm(f"{method} @ {stage}", 0.1, 0.1) for method in ("gfp", "mamp") for stage in stages
    ]
    found = stage_record(*(arm for arm in arms if arm.label != "gfp @ b"), stages=stages)
    assert not [
        line for line in waterfall_notes(found) if line.startswith("the attention kernel alone")
    ]


def test_measurements_of_before_rules_3_say_what_as_published_is_not() -> None:
    assert "'as published' lacks the feeder" in note("measured before rules 3", record())
    newer = record().model_copy(update={"rules": "3"})
    assert not [line for line in waterfall_notes(newer) if line.startswith("measured before")]


def test_conditions_of_the_measurement() -> None:
    health = Health(
        blocks=20,
        repeated=3,
        disturbed=1,
        reasons=("noise",),
        clock_mhz=(900, 1980),
        temperature_c=61,
    )
    found = record().model_copy(
        update={"health": health, "same": ratio(0.97, 1.01, 1.05), "baseline": "mamp @ x"}
    )
    assert (
        note("20 interleaved rounds", found)
        == "20 interleaved rounds in one process; mamp @ x against itself 1.010 [0.970, 1.050],"
        " (noise) marks what touches the noise floor 1.050; 1 of 20 blocks disturbed, 3 timed"
        " again (noise); GPU clock 900 to 1980 MHz, at most 61 C"
    )
    assert note("20 interleaved rounds", record()).endswith("; disturbances not watched")
    assert "synthetic, 1.10 present bodies per clip" in note("data: ", found)
    assert "encoder tiny, batch 64 body sequences; loader workers: 2," in note("data: ", found)
    assert note("machine: ", found).startswith(
        "machine: cpu, Abacus 3000, 2 cores, 1 threads; python 3.11.7, torch"
    )
    assert note("machine: ", found).endswith("commit 0123456789ab; rules 1; 2026-01-02 03:04 UTC")


def test_a_mostly_disturbed_measurement_tells_no_story() -> None:
    found = record().model_copy(update={"health": Health(blocks=10, disturbed=6)})
    lines = waterfall_notes(found)
    assert lines[0].startswith("not measurable here: 60% of the blocks stayed disturbed")
    assert not [line for line in lines if "moves it most" in line]


# --- as numbers, and what matters first ---


def test_a_row_of_the_frame_is_a_method_at_a_stage() -> None:
    found = waterfall_frame(record()).set_index(["stage", "method"])
    gfp = found.loc[("compiled", "gfp")]
    assert gfp[["milliseconds", "switch", "so_far", "over"]].tolist() == pytest.approx(
        [1, 2, 8, 12]
    )
    assert gfp[["so_far_low", "so_far_high"]].tolist() == pytest.approx([1.43, 44.76], abs=0.005)
    assert not gfp["over_noise"]
    assert found.loc[("as published", "gfp"), "over_noise"]
    mamp = found.loc[("compiled", "mamp")]
    assert mamp["switch"] == pytest.approx(2 / 3)
    assert math.isnan(mamp["over"])
    assert math.isnan(found.loc[("as published", "mamp"), "switch"])


def test_the_ratio_of_the_methods_comes_first() -> None:
    found = waterfall(record())
    assert list(found.columns) == [
        "stage",
        "gfp over mamp",
        "gfp: this switch",
        "mamp: this switch",
    ]
    assert found["gfp over mamp"].tolist()[-1] == "12.00x [12.00, 12.00]"
