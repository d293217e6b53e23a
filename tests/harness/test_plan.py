"""Plans: step times from made-up rates by hand, what a matrix costs,
and that planning leaves no trace.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from datasets.wording import minutes
from harness.errors import UsageError
from harness.records.claims import Claims, Progress
from harness.records.schema import SpeedRecord
from harness.records.store import RecordStore
from harness.report.plan import plan_lines, plan_table, size, together
from harness.runs.door import prepared
from harness.runs.experiment import Experiment
from harness.runs.plan import CellPlan, MeasurementPlan, Plan
from harness.runs.planning import make_plan
from harness.speed.estimate import Estimate, StepEstimate, at_rate
from harness.speed.few_steps import TimedBatch, at_batch, times_at_batch
from harness.speed.flops import encoder_flops
from harness.speed.rates import (
    RESULTS,
    Rate,
    Reached,
    Way,
    all_reached,
    given_rate,
    parse_rate,
    rate_of_device,
)
from tests.harness.made_up_records import arm, ratio, speed_record, stage_arm, stage_record
from tests.harness.small_run import SMALL, harness, plugin_file, records_in, small_file

TINY = Way("tiny", "fp32", compiled=False)
RATE = Rate("Far", 1e9, 5e8, 2e9, "made up")


def reached(flops: float, matmul: float | None = 1e11, **changes: Any) -> Reached:
    values: dict[str, Any] = {
        "label": "gfp",
        "device": "Abacus 3000",
        "device_class": "cpu",
        "threads": 2,
        "precision": "fp32",
        "encoder": "tiny",
        "compiled": False,
        "record": "a",
    }
    return Reached(**{**values, **changes}, flops=flops, matmul=matmul)


THREE = [reached(4e10), reached(1e10), reached(2e10, record="b")]
"""They reach 0.4, 0.1 and 0.2 of the matmul rate."""


# --- rates ---


@pytest.mark.parametrize("text", ["2e13", "2e13flops", "2E13 FLOPS", "20000000000000flop/s"])
def test_a_rate_is_flops_a_second(text: str) -> None:
    assert parse_rate(text, "--rate") == 2e13


@pytest.mark.parametrize("text", ["", "fast", "0", "-1e9", "1e999", "2e13steps", "1.2.3"])
def test_what_is_no_rate_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"--rate .*: expected FLOP/s, positive and finite, e\.g\. 2e13flops$"
    ):
        parse_rate(text, "--rate")


def test_a_given_rate_is_taken_as_it_is() -> None:
    step = at_rate(4e13, given_rate("2e13flops"))
    assert (step.seconds, step.low, step.high, step.flops) == (2.0, 2.0, 2.0, 4e13)


def test_a_device_of_the_records_has_the_median_of_what_methods_reached_there() -> None:
    rate = rate_of_device("abacus", THREE, TINY, "cpu")
    assert (rate.device, rate.value, rate.low, rate.high) == ("Abacus 3000", 2e10, 1e10, 4e10)
    step = at_rate(4e10, rate)
    assert (step.seconds, step.low, step.high) == (2.0, 1.0, 4.0)
    assert (
        "0.10 to 0.40 of its matmul rate; 3 step times in 2 records, tiny encoder, fp32"
        in step.source
    )


def test_a_method_that_ran_on_the_device_has_its_own_rate_and_launches_no_faster() -> None:
    """A small batch of a method that waits for the host takes as long as a large one."""
    steps = [
        reached(4e10, label="mamp"),
        reached(1e10, label="gfp", launching=0.3),
        reached(3e10, label="gfp", launching=0.2, record="b"),
    ]
    rate = rate_of_device("abacus", steps, TINY, "cpu")
    assert rate.value == 3e10
    own = at_rate(4e10, rate, "mamp")
    assert (own.seconds, own.low, own.high) == (1.0, 1.0, 4.0)
    assert own.source.endswith("; mamp at its own 4e+10")
    assert at_rate(2e10, rate, "gfp").seconds == 1.0
    small = at_rate(2e9, rate, "gfp")
    assert (small.seconds, small.low, small.high) == (0.3, 0.05, 0.3)
    assert small.source.endswith("its own 2e+10 and no less than the 300 ms of launching kernels")
    assert at_rate(3e10, rate, "amr").seconds == 1.0


def test_a_matmul_rate_counts_as_far_as_methods_reach_it_elsewhere() -> None:
    rate = rate_of_device("Loom=1e12", THREE, TINY, "cpu")
    assert rate.device == "Loom"
    assert (rate.value, rate.low, rate.high) == pytest.approx((2e11, 1e11, 4e11))
    assert "0.20 of the matmul rate of Loom (1e+12 FLOP/s)" in rate.source


def test_without_a_record_of_such_a_device_the_time_is_a_lower_bound() -> None:
    rate = rate_of_device("Loom=1e12", THREE, TINY, "gpu")
    step = at_rate(2e12, rate)
    assert (step.seconds, step.low, step.high) == (2.0, 2.0, math.inf)
    assert step.source.startswith("at least: ")
    assert step.source.endswith("other devices reach 0.10 to 0.40 of theirs")


def test_steps_of_the_same_encoder_size_count_alone_where_there_are_any() -> None:
    both = [*THREE, reached(9e10, encoder="base")]
    assert rate_of_device("abacus", both, Way("base", "fp32", compiled=False), "cpu").value == 9e10
    assert rate_of_device(
        "abacus", both, Way("small", "fp32", compiled=False), "cpu"
    ).value == pytest.approx(3e10)


def test_steps_of_another_precision_never_count() -> None:
    with pytest.raises(
        UsageError, match="expected a record in bf16, found fp32 only; give its matmul rate"
    ):
        rate_of_device("abacus", THREE, Way("tiny", "bf16", compiled=False), "cpu")


def test_a_device_that_no_record_names_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="found none of that name, did you mean 'Abacus 3000'"):
        rate_of_device("Abacos 3000", THREE, TINY, "cpu")
    with pytest.raises(UsageError, match="found 2 devices of that name"):
        rate_of_device("abacus", [*THREE, reached(1e10, device="Abacus 4000")], TINY, "cpu")


def test_what_methods_reached_is_read_from_plain_measurements(tmp_path: Path) -> None:
    closed = arm("gfp", ratio(2, 2.2, 2.4), step_seconds=0.5, step_flops=1e9)
    others = [
        arm("graph", ratio(1, 1, 1), division="open"),
        arm("encoder-only", ratio(1, 1, 1), control=True),
        arm("counts-nothing", ratio(1, 1, 1), step_flops=0.0),
    ]
    write(
        tmp_path / "plain", speed_record(closed, *others).model_copy(update={"matmul_flops": 1e10})
    )
    write(tmp_path / "stages", stage_record(stage_arm("gfp @ one", 1.0, 1.0), stages=["one"]))
    damaged = tmp_path / "damaged" / "speed-0" / "speed.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    (found,) = all_reached([tmp_path, tmp_path / "missing"])
    assert (found.device, found.threads, found.encoder, found.precision) == (
        "Abacus 3000",
        1,
        "tiny",
        "fp32",
    )
    assert (found.flops, found.share) == pytest.approx((2e9, 0.2))


def write(folder: Path, record: SpeedRecord) -> None:
    RecordStore(folder).write_speed(record)


def test_the_repositorys_own_records_say_what_methods_reach() -> None:
    shares = [one.share for one in all_reached([RESULTS]) if one.share]
    assert shares
    assert all(0 < share < 1.2 for share in shares)


def test_the_time_of_a_batch_lies_between_the_line_through_two_others_and_proportion() -> None:
    small, large = TimedBatch(4, [1.0, 1.2], None), TimedBatch(8, [1.6, 1.5, 1.7], None)
    # The line: 0.5 s and 0.125 s a body sequence. In proportion: 0.2 s each.
    assert times_at_batch(64, small, large) == pytest.approx(((8.5 + 12.8) / 2, 8.5, 13.6))
    assert times_at_batch(8, small, large) == (1.6, 1.5, 1.7)
    assert times_at_batch(64, large, TimedBatch(16, [1.5], None)) == pytest.approx(
        (3.75, 1.5, 6.0)
    )  # no time added at all


def test_memory_at_a_batch_lies_on_the_line_through_two_others() -> None:
    small, large = TimedBatch(4, [1.0], 100), TimedBatch(8, [1.0], 140)
    assert at_batch(64, small, large) == 700  # 60 and 10 for each body sequence
    assert at_batch(8, small, large) == 140
    assert at_batch(64, small, TimedBatch(8, [1.0], None)) is None


# --- the matrix ---


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 18 clips of one body: 6 of them to train on, 3 to validate, 9 to test."""
    return small_file(tmp_path_factory.mktemp("clips"))


def asked(
    clips: Path, out: Path, methods: str = "skeletonmae", seeds: tuple[int, ...] = (0,), **more: Any
) -> Experiment:
    """The request of `SMALL`: batches of 4."""
    encoder = {"encoder.depth": 1, "encoder.width": 8, "encoder.heads": 2, "encoder.frames": 24}
    return prepared(
        methods,
        seeds=list(seeds),
        dataset=str(clips),
        out=out,
        batch_size=4,
        overrides={**encoder, "probe.points": 2, **more.pop("overrides", {})},
        **more,
    )


def made_up(seconds: float = 0.5, low: float = 0.4, high: float = 0.75) -> StepEstimate:
    return StepEstimate(
        seconds=seconds, low=low, high=high, flops=2e6, source="made up", peak_bytes=3_000_000
    )


def plan_of(experiment: Experiment, **steps: StepEstimate) -> Plan:
    return make_plan(experiment, steps, {}, measured=True, measure=False, rate=RATE)


def only(plan: Plan, label: str) -> CellPlan:
    (cell,) = plan.row(label)
    return cell


@pytest.mark.parametrize(
    ("budget", "steps", "low", "high"),
    [
        ("10steps", 10, 4.0, 7.5),
        ("40clips", 10, 4.0, 7.5),
        ("2e7flops", 10, 4.0, 7.5),
        ("6s", 12, 6.0, 6.0),  # 15 faster steps, or 8 slower ones, take as long
        ("4ep", 6, 2.4, 4.5),
    ],
)
def test_every_budget_becomes_steps_clips_and_seconds(
    clips: Path, tmp_path: Path, budget: str, steps: int, low: float, high: float
) -> None:
    experiment = asked(clips, tmp_path / "out", budget=budget)
    assert len(experiment.data.sequences) == 6
    plan = plan_of(experiment, skeletonmae=made_up())
    cell, one = only(plan, "skeletonmae"), plan.evaluation
    assert one is not None
    assert (cell.steps, cell.clips, cell.evaluations) == (steps, 4 * steps, 2)
    assert cell.training == pytest.approx(0.5 * steps)
    assert cell.evaluating == pytest.approx(2 * one.seconds)
    assert cell.seconds == pytest.approx(0.5 * steps + 2 * one.seconds)
    assert (cell.low, cell.high) == pytest.approx((low + 2 * one.low, high + 2 * one.high))


def test_an_evaluation_elsewhere_is_the_encoders_flops_over_the_rate(
    clips: Path, tmp_path: Path
) -> None:
    experiment = asked(clips, tmp_path / "out")
    plan = plan_of(experiment, skeletonmae=made_up())
    flops = encoder_flops(experiment.cells()[1].spec, experiment.data.clips.layout)
    assert plan.evaluation is not None
    assert flops > 0
    assert plan.evaluation.seconds == pytest.approx(18 * flops / 1e9)
    assert (plan.evaluation.low, plan.evaluation.high) == pytest.approx(
        (9 * flops / 1e9, 36 * flops / 1e9)
    )


def test_the_sum_is_of_all_runs_and_the_measurement(clips: Path, tmp_path: Path) -> None:
    experiment = asked(
        clips, tmp_path / "out", "skeletonmae,gfp", (0, 1), budget="10steps", speed_seconds=3.0
    )
    steps = {"skeletonmae": made_up(), "gfp": made_up(0.25, 0.25, 0.25)}
    plan = make_plan(experiment, steps, {}, measured=False, measure=False, rate=RATE)
    assert [len(plan.row(label)) for label in ("raw-pca", "random-init", "gfp", "skeletonmae")] == [
        1,
        2,
        2,
        2,
    ]
    assert plan.evaluation is not None
    # Five rounds of 0.5 + 0.25 and the baseline's 0.5 again, which is more than three seconds; four
    # steps each before.
    assert plan.measurement.seconds == pytest.approx(5 * 1.25 + 4 * 0.75)
    assert plan.measurement.high == pytest.approx(
        15 * 1.25 + 4 * 0.75
    )  # each block timed three times
    assert plan.seconds == pytest.approx(
        9.25 + 2 * (5.0 + 2.5) + (2 + 4 * 2) * plan.evaluation.seconds
    )
    assert plan.peak_bytes == 3_000_000


def test_disk_holds_weights_and_records_and_two_states_for_a_while(
    clips: Path, tmp_path: Path
) -> None:
    plan = plan_of(asked(clips, tmp_path / "out", seeds=(0, 1)), skeletonmae=made_up())
    cells = plan.row("skeletonmae")
    assert all(
        cell.weights_bytes > 4 * 500 for cell in cells
    )  # an encoder of width 8 has more than 500 parameters
    assert all(
        cell.state_bytes > 1.5 * (cell.weights_bytes - 16_000) for cell in cells
    )  # it may leave two encoders
    assert plan.disk_bytes == sum(cell.weights_bytes + cell.record_bytes for cell in plan.cells)
    assert plan.states_bytes == 2 * cells[0].state_bytes


def test_what_cannot_be_said_of_one_method_is_said_of_the_others(
    clips: Path, tmp_path: Path
) -> None:
    experiment = asked(clips, tmp_path / "out", "skeletonmae,gfp")
    plan = make_plan(
        experiment,
        {"gfp": made_up()},
        {"skeletonmae": "broken"},
        measured=True,
        measure=False,
        rate=RATE,
    )
    assert only(plan, "skeletonmae").problem == "broken"
    assert only(plan, "skeletonmae").seconds == 0
    assert only(plan, "gfp").seconds > 0
    assert "skeletonmae, seed 0: will fail: broken" in plan_lines(plan)


def hand_made(**changes: Any) -> Plan:
    """A plan of one run of two hours."""
    cell = CellPlan(
        label="gfp",
        seed=0,
        address="gfp-s0",
        state="to do",
        steps=7200,
        clips=28_800.0,
        evaluations=2,
        training=7000.0,
        evaluating=200.0,
        low=3600.0,
        high=10_800.0,
        weights_bytes=25_000_000,
        record_bytes=0,
        state_bytes=100_000_000,
    )
    values: dict[str, Any] = {
        "budget": "7200steps",
        "baseline": "gfp",
        "batch_size": 4,
        "device": "Loom",
        "cells": [cell],
        "steps": {"gfp": made_up()},
        "measurement": MeasurementPlan(stored=True),
        "evaluation": Estimate(seconds=100.0, low=50.0, high=math.inf, source="made up"),
    }
    return Plan(**values | changes)


def test_the_text_of_a_plan() -> None:
    lines = plan_lines(hand_made(price=2.5, memory_bytes=2_000_000))
    assert lines == [
        "step time: made up",
        "evaluations: at least 50 s each: made up",
        "speed measurement: in the folder, not made again",
        (
            "memory: 3.0 MB of 2.0 MB there at the peak of the largest step, too much: lower"
            " --batch-size: "
        ),
        (
            "disk: 25.0 MB to come for weights and records, and 200.0 MB for two states of a run"
            " while it lasts"
        ),
        "price: 5.00 at 2.5 an hour",
        "about 2.0 h (60.0 min to 3.0 h) in all by these sources, on Loom, one run after the other",
    ]


def test_the_sum_of_plans_counts_a_run_of_one_folder_once() -> None:
    plan, one, other = hand_made(price=2.5), Path("one"), Path("other")
    assert together([(one, plan), (one, plan), (other, plan)]) == (
        "3 plans together: 2 of 2 runs to do, about 4.0 h (2.0 h to 6.0 h) in all, 10.00 at 2.5 an"
        " hour"
    )


def test_the_parts_of_a_file_get_a_sum(clips: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("methods: gfp\nparts: {a: {seeds: 0, out: a}, b: {seeds: 1, out: b}}\n")
    flags = ["--dataset", clips, *SMALL, "--device-rate", "imagined=1e9"]
    outcome = harness("plan", "--config", plan, *flags)
    assert outcome.lines[-1].startswith("2 plans together: 6 of 6 runs to do, ")
    assert "together" not in harness("plan", "--config", plan, "--part", "a", *flags).out


def test_a_plan_says_first_what_records_say_against_its_budget() -> None:
    assert (
        plan_lines(hand_made(warnings=("warning: gfp: too little",)))[0]
        == "warning: gfp: too little"
    )


def test_json_that_is_read_again_is_the_same_plan() -> None:
    plan = hand_made()
    content = json.loads(plan.model_dump_json())
    assert content["seconds"] == 7200
    derived = {"seconds", "low", "high", "peak_bytes", "disk_bytes", "states_bytes", "cost"}
    content["cells"] = [
        {key: value for key, value in cell.items() if key != "seconds"} for cell in content["cells"]
    ]
    assert (
        Plan.model_validate({key: value for key, value in content.items() if key not in derived})
        == plan
    )


# --- the command ---


def files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, a plugin, and a finished run of it."""
    folder = tmp_path_factory.mktemp("plan")
    small_file(folder)
    plugin_file(folder)
    outcome = harness(*command(folder, "run"), "--methods", "plain")
    assert outcome.code == 0, outcome
    return folder


def command(folder: Path, name: str = "plan", out: str = "out") -> list[str | Path]:
    data, plugin = folder / "small.npz", folder / "plain.py"
    return [name, *SMALL, "--dataset", data, "--plugin", plugin, "--out", folder / out]


@pytest.mark.parametrize("how", [["plan"], ["run", "--dry-run"]])
def test_planning_measures_a_few_steps_and_writes_nothing(folder: Path, how: list[str]) -> None:
    before = files(folder)
    outcome = harness(*command(folder, how[0], "none"), *how[1:], "--methods", "plain,skeletonmae")
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert (
        outcome.lines[0] == "plan: 4 of 4 runs to do, budget 6steps each, speedups over skeletonmae"
    )
    assert any(
        line.startswith("step time: ") and "just timed on this machine" in line
        for line in outcome.lines
    )
    assert files(folder) == before


def test_a_finished_run_costs_nothing(folder: Path) -> None:
    outcome = harness(*command(folder), "--methods", "plain", "--json")
    plan = json.loads(outcome.out)
    assert {(cell["state"], cell["seconds"], cell["weights_bytes"]) for cell in plan["cells"]} == {
        ("finished", 0, 0)
    }
    assert (plan["seconds"], plan["disk_bytes"], plan["states_bytes"]) == (0, 0, 0)
    assert [cell["steps"] for cell in plan["cells"]] == [0, 0, 6]


def test_the_folders_measurement_and_evaluations_are_used_where_there_are_some(
    folder: Path,
) -> None:
    outcome = harness(*command(folder), "--methods", "plain", "--seeds", "0-1", "--no-measure")
    assert outcome.lines[0] == "plan: 2 of 5 runs to do, budget 6steps each, speedups over plain"
    text = "\n".join(outcome.lines)
    assert "step time: the folder's interleaved measurement of " in text
    assert "as in 2 finished runs of this folder on this machine" in text
    assert "speed measurement: in the folder, not made again" in text
    (record,) = RecordStore(folder / "out").speeds()
    (row,) = (line.split() for line in outcome.lines if line.startswith("plain "))
    assert row[1:5] == ["1", "of", "2", "6"]
    plain = record.arm("plain")
    assert plain is not None
    assert f"{1000 * plain.step_seconds:.3g}" in row


def test_both_folds_are_planned(folder: Path) -> None:
    outcome = harness(*command(folder), "--methods", "plain", "--folds", "2", "--json")
    here, swapped = json.loads(outcome.out)
    assert {cell["state"] for cell in here["cells"]} == {"finished"}
    assert {cell["state"] for cell in swapped["cells"]} == {"to do"}


def test_draws_of_settings_are_planned_too(folder: Path) -> None:
    words = ["--methods", "gfp", "--tuning", "1", "--rate", "1e9"]
    outcome = harness(*command(folder, out="none"), *words)
    headings = [line for line in outcome.lines if line.startswith("plan: ")]
    assert [line[:30] for line in headings] == ["plan: 3 of 3 runs to do, budge"] * 2
    # the untrained encoder and the raw coordinates are those of all draws
    assert outcome.lines[-1].startswith("2 plans together: 4 of 4 runs to do, about ")


def test_rerun_plans_everything_again(folder: Path) -> None:
    outcome = harness(*command(folder), "--methods", "plain", "--rerun")
    assert outcome.lines[0].startswith("plan: 3 of 3 runs to do")
    assert not any("not made again" in line for line in outcome.lines)


def test_without_a_measurement_and_without_leave_to_measure_there_is_no_plan(folder: Path) -> None:
    outcome = harness(*command(folder, out="none"), "--methods", "plain", "--no-measure")
    assert outcome.code == 2
    assert outcome.err.startswith(
        "error: --no-measure: expected a speed measurement of these methods on this machine"
    )


@pytest.mark.parametrize("flags", [["--rate", "1e9"], ["--device-rate", "Loom=1e9"]])
def test_a_machine_that_is_not_here_is_planned_for_without_a_step(
    folder: Path, flags: list[str]
) -> None:
    arguments = [*command(folder, out="none"), "--methods", "plain", "--device", "cuda", *flags]
    outcome = harness(*arguments, "--no-measure")
    assert outcome.code == 0, outcome
    assert "memory: not known, as no step was run" in outcome.lines
    assert outcome.lines[-1].endswith("one run after the other")


def test_text_and_json_have_the_same_numbers(folder: Path) -> None:
    arguments = [
        *command(folder, out="none"),
        "--methods",
        "plain,gfp",
        "--seeds",
        "0-1",
        "--rate",
        "1e6",
        "--no-measure",
    ]
    lines, plan = harness(*arguments).lines, json.loads(harness(*arguments, "--json").out)
    rows = {line.split()[0]: line for line in lines}
    for label, step in plan["steps"].items():
        first, second = (cell for cell in plan["cells"] if cell["label"] == label)
        expected = [
            "2 of 2",
            str(first["steps"]),
            f"{first['clips']:.0f}",
            f"{1000 * step['seconds']:,.0f}",
            minutes(first["training"]),
            f"2 = {minutes(first['evaluating'])}",
            minutes(first["seconds"]),
            minutes(first["seconds"] + second["seconds"]),
            "-",
            size(first["weights_bytes"]),
        ]
        assert rows[label].split() == [label, *" ".join(expected).split()]
    low, high = minutes(plan["low"]), minutes(plan["high"])
    assert lines[-1].startswith(f"about {minutes(plan['seconds'])} ({low} to {high}) in all")
    disk = (
        f"disk: {size(plan['disk_bytes'])} to come for weights and records, and"
        f" {size(plan['states_bytes'])} for two"
    )
    assert any(line.startswith(disk) for line in lines)


def test_two_rates_are_one_too_many(folder: Path) -> None:
    outcome = harness(*command(folder), "--rate", "1e9", "--device-rate", "Loom=1e9")
    assert (outcome.code, outcome.err) == (
        2,
        "error: --rate and --device-rate: expected one of them, found both\n",
    )


def test_a_method_that_fails_has_a_line_that_says_so(folder: Path) -> None:
    outcome = harness(*command(folder, out="none"), "--methods", "plain:fault=raise,encoder-only")
    assert outcome.code == 0, outcome
    assert any(
        line.startswith("plain:fault=raise, seed 0: will fail: RuntimeError: broken on")
        for line in outcome.lines
    )


def test_a_damaged_record_is_to_do_and_stays_where_it_is(folder: Path) -> None:
    path = records_in(folder / "out")["plain-s0"]
    content = path.read_text()
    try:
        path.write_text("{")
        outcome = harness(*command(folder), "--methods", "plain")
        assert outcome.lines[0].startswith("plan: 1 of 3 runs to do")
        assert outcome.err.startswith(f"record {path}: cannot be read")
        assert path.read_text() == "{"
    finally:
        path.write_text(content)


def test_a_row_that_is_finished_has_no_time() -> None:
    done = CellPlan(label="gfp", seed=0, address="gfp-s0", state="finished", steps=6, steps_done=6)
    (row,) = plan_table(hand_made(cells=[done])).to_dict("records")
    assert row["to do"] == "0 of 1"
    assert row["a run"] == row["all"] == "-"


def stopped(folder: Path, tmp_path: Path) -> tuple[list[str | Path], str]:
    """The command that plans a run which was stopped half-way, and the run's address."""
    arguments = [*command(folder), "--out", tmp_path / "out", "--methods", "plain:fault=interrupt"]
    assert harness("run", *arguments[1:]).code == 130
    path, *_ = (tmp_path / "out").glob("*/state-*.json")
    return arguments, path.parent.name


def test_a_run_that_was_stopped_costs_what_is_left_of_it(folder: Path, tmp_path: Path) -> None:
    arguments, address = stopped(folder, tmp_path)
    before = files(tmp_path)
    plan = json.loads(harness(*arguments, "--json").out)
    (cell,) = (cell for cell in plan["cells"] if cell["address"] == address)
    assert (cell["state"], cell["before"], cell["steps"]) == ("begun", "interrupted", 6)
    assert 0 < cell["steps_done"] < 6
    left, step = 6 - cell["steps_done"], plan["steps"][cell["label"]]
    assert cell["training"] == pytest.approx(left * step["seconds"])
    assert cell["evaluations"] == (2 if cell["steps_done"] < 3 else 1)
    line = f"{cell['label']}, seed 0: goes on at step {cell['steps_done']} of 6: "
    assert any(said.startswith(line) for said in harness(*arguments).lines)
    assert files(tmp_path) == before
    again = json.loads(harness(*arguments, "--json", "--rerun").out)
    assert {cell["state"] for cell in again["cells"]} == {"to do"}


def test_a_run_that_a_process_works_on_says_where_it_is(folder: Path, tmp_path: Path) -> None:
    arguments, address = stopped(folder, tmp_path)
    with Claims(tmp_path / "out").hold(address, "plain:fault=interrupt", 0) as claim:
        claim.look = lambda: Progress(step=5, steps=6)
        claim.beat()
        lines = harness(*arguments).lines
        (cell,) = (
            one
            for one in json.loads(harness(*arguments, "--json").out)["cells"]
            if one["address"] == address
        )
    assert (cell["state"], cell["steps_done"]) == ("running", 5)
    assert any(f"seed 0: {claim.claim} is at step 5 of 6: " in line for line in lines)


def test_a_shard_plans_its_own_runs(folder: Path) -> None:
    flags = ["--methods", "plain,gfp", "--rate", "1e6", "--no-measure"]
    plans = [
        json.loads(harness(*command(folder, out="none"), *flags, "--shard", f"{i}/2", "--json").out)
        for i in (1, 2)
    ]
    whole = json.loads(harness(*command(folder, out="none"), *flags, "--json").out)
    for plan in plans:
        assert {cell["state"] for cell in plan["cells"]} == {"to do", "of another shard"}
    assert sum(cell["seconds"] for plan in plans for cell in plan["cells"]) == pytest.approx(
        sum(cell["seconds"] for cell in whole["cells"])
    )


def test_where_nothing_is_left_to_do_the_plan_is_one_line(folder: Path) -> None:
    lines = harness(*command(folder), "--methods", "plain").lines
    assert lines == ["plan: 0 of 3 runs to do, budget 6steps each, speedups over plain"]
