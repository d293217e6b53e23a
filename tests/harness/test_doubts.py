"""What records give away: the rules on numbers written by hand,
and where they stand in tables, cards and checks.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.isolation.state import State, state_of
from harness.records import doubts
from harness.records.doubts import (
    FARTHEST,
    above_bound,
    doubts_of,
    kinds,
    step_factor,
    unlike_timed,
)
from harness.records.ratios import verdict
from harness.records.schema import ArmRecord, Doubt, Health, RunRecord, SpeedRecord
from harness.records.store import RecordStore
from harness.report.explain import waterfall_notes
from harness.report.speed import speed_notes, speed_table
from harness.report.table import build_table, notes
from harness.report.target import target_notes
from harness.runs import cell
from harness.runs.cell import diagnose
from harness.speed import disturbance
from harness.speed.trial import Trial
from harness.studies import verify as studies_verify
from harness.studies.claims import find_claim, judged
from harness.studies.target import freeze
from harness.training import clock
from harness.training.clock import StepClock
from methods.base import About, Diagnosis, Method
from methods.parts.encoder import Encoder, SkeletonEncoder
from tests.harness.made_up_records import (
    arm,
    curve_record,
    ratio,
    run_record,
    speed_record,
    stage_arm,
    stage_record,
)
from tests.harness.small_run import (
    SMALL,
    harness,
    plugin_file,
    run_small_cell,
    small_cell,
    small_data,
    small_file,
    small_trainer,
)

SKIPPED = Doubt(kind="steps skipped", text="made up for a test")
ONE = ratio(1.0, 1.0, 1.0)


def trained(name: str, own: float | None, timed: float | None = 0.2, seed: int = 0) -> RunRecord:
    """A run whose steps took the process ``own`` seconds each, and ``timed`` in the measurement."""
    record = run_record(name, seed=seed)
    assert record.training is not None
    times = {"own_step_seconds": own, "interleaved_own_step_seconds": timed}
    return record.model_copy(update={"training": record.training.model_copy(update=times)})


def measured(*arms: ArmRecord, disturbed: int = 0, **changes: Any) -> SpeedRecord:
    record = speed_record(*arms, **changes)
    return record.model_copy(update={"health": Health(blocks=10, disturbed=disturbed)})


# --- not as timed ---


def found(label: str, *records: RunRecord, disturbed: int = 0) -> list[str]:
    return [doubt.text for doubt in unlike_timed(label, records, measured(disturbed=disturbed))]


def test_steps_that_took_the_process_far_more_than_while_timed_are_named() -> None:
    records = [trained("gfp", 0.48, seed=3), trained("mamp", 0.2), trained("skeletonmae", 0.21)]
    assert found("gfp", *records) == [
        "seed 3: a step in training took 2.40 times what it took while it was timed (the other"
        " methods' 1.02 times)"
    ]
    assert found("mamp", *records) == []
    assert found("skeletonmae", *records) == []


def test_steps_that_took_far_less_are_named_too() -> None:
    records = [trained("slow-baseline", 0.1), trained("mamp", 0.2), trained("gfp", 0.2)]
    assert len(found("slow-baseline", *records)) == 1


def test_of_two_methods_the_one_is_named_whose_steps_changed() -> None:
    records = [trained("gfp", 0.48), trained("skeletonmae", 0.2)]
    assert [label for label in ("gfp", "skeletonmae") if found(label, *records)] == ["gfp"]


def test_what_befell_all_methods_is_nobodys_doing() -> None:
    records = [trained(name, 0.48) for name in ("gfp", "mamp", "skeletonmae")]
    assert [label for label in ("gfp", "mamp", "skeletonmae") if found(label, *records)] == []


def test_other_methods_that_changed_do_not_make_one_far_that_did_not() -> None:
    records = [trained("gfp", 0.2), trained("mamp", 0.48), trained("skeletonmae", 0.48)]
    assert found("gfp", *records) == []


def test_every_seed_is_judged_by_itself() -> None:
    records = [trained("gfp", own, seed=seed) for seed, own in enumerate((0.2, 0.48, 0.2))]
    assert [text[:7] for text in found("gfp", *records, trained("skeletonmae", 0.2))] == ["seed 1:"]


@pytest.mark.parametrize(("factor", "far"), [(0.98, False), (1.02, True)])
def test_the_rules_factor_is_where_it_begins(factor: float, far: bool) -> None:
    records = [trained("gfp", 0.2 * FARTHEST * factor), trained("skeletonmae", 0.2)]
    assert bool(found("gfp", *records)) is far


@pytest.mark.parametrize(
    "records",
    [
        [trained("gfp", 0.48)],
        [trained("gfp", 0.48), run_record("random-init")],
        [trained("gfp", None), trained("skeletonmae", 0.2)],
        [trained("gfp", 0.48, None), trained("skeletonmae", 0.2)],
        [trained("gfp", 0.48), trained("skeletonmae", None)],
        [run_record("gfp"), run_record("skeletonmae")],
    ],
    ids=[
        "alone",
        "controls only",
        "training disturbed",
        "timing disturbed",
        "others disturbed",
        "older records",
    ],
)
def test_it_is_silent_where_it_cannot_know(records: list[RunRecord]) -> None:
    assert found("gfp", *records) == []


def test_it_is_silent_when_the_measurement_was_mostly_disturbed() -> None:
    records = [trained("gfp", 0.48), trained("skeletonmae", 0.2)]
    assert found("gfp", *records, disturbed=6) == []
    assert len(found("gfp", *records, disturbed=5)) == 1


# --- above the bound ---


def bounded(
    label: str, speedup: float, gflops: float, bound: float | None, **changes: Any
) -> ArmRecord:
    """An arm with a narrow interval whose step takes so many FLOPs,
    and the encoder alone on its tokens so many.
    """
    interval = ratio(0.98 * speedup, speedup, 1.02 * speedup)
    flops = {"step_flops": gflops * 1e9, "bound_flops": None if bound is None else bound * 1e9}
    return arm(label, interval, **{"batch_size": 64, **flops, **changes})


BOUND = bounded("encoder-only", 10.0, 1.0, 1.0, control=True)


@pytest.mark.parametrize(
    ("method", "texts"),
    [
        (bounded("gfp", 5.0, 2.0, 1.0), []),
        (
            bounded("gfp", 5.0, 0.5, 1.0),
            ["a step takes 0.5 GFLOP, the encoder alone 1 GFLOP on as many tokens"],
        ),
        (bounded("gfp", 15.0, 2.0, 1.0), ["measured 15.00x, the encoder alone at most 10.20x"]),
        (bounded("gfp", 10.5, 2.0, 1.0), []),  # inside the noise floor of 1.05
        (bounded("gfp:mask_ratio=0.95", 15.0, 0.6, 0.5), []),  # half the tokens
        (
            bounded("gfp:mask_ratio=0.95", 25.0, 0.6, 0.5),
            ["measured 25.00x, the encoder alone at most 20.40x"],
        ),
        (
            bounded("gfp:mask_ratio=0.5", 9.0, 6.0, 5.0),
            [],
        ),  # more tokens need not take that much more time
        (bounded("strl", 15.0, 0.5, None), []),  # open division, or no bound timed beside it
        (bounded("gfp", 15.0, 2.0, 1.0, batch_size=128), []),
        (BOUND, []),
    ],
)
def test_less_than_the_encoder_alone_is_named(method: ArmRecord, texts: list[str]) -> None:
    doubts = above_bound(method, measured(method, BOUND))
    assert [doubt.kind for doubt in doubts] == ["above the bound"] * len(texts)
    assert all(doubt.text.startswith(text) for doubt, text in zip(doubts, texts, strict=True))


def test_a_measurement_that_was_mostly_disturbed_is_not_held_against_the_bound() -> None:
    method = bounded("gfp", 15.0, 2.0, 1.0)
    assert above_bound(method, measured(method, BOUND, disturbed=6)) == []


def test_stages_have_their_own_bound() -> None:
    method, bound = (
        bounded("gfp @ compiled", 15.0, 2.0, 1.0),
        BOUND.model_copy(update={"label": "encoder-only @ bf16"}),
    )
    assert above_bound(method, measured(method, bound)) == []
    assert above_bound(
        method, measured(method, bound.model_copy(update={"label": "encoder-only @ compiled"}))
    )


# --- in the row ---


def doubted(label: str = "gfp", *doubts: Doubt) -> ArmRecord:
    return arm(label, ratio(2.9, 3.0, 3.1), doubts=doubts or (SKIPPED,), verdict="in doubt")


def verdicts(records: list[RunRecord], speed: SpeedRecord) -> dict[str, str]:
    table = build_table(records, speed)
    return dict(zip(table["method"], table["trains faster"], strict=True))


def test_a_row_names_all_its_doubts_and_the_notes_their_reasons() -> None:
    weights = Doubt(kind="trained off the clock", text="diagnose changed head.bias")
    run = trained("gfp", 0.48).model_copy(update={"doubts": (weights,)})
    records, speed = (
        [run, trained("skeletonmae", 0.2)],
        measured(doubted(), arm("skeletonmae", ONE)),
    )
    assert verdicts(records, speed) == {
        "gfp": "in doubt (steps skipped, trained off the clock, not as timed)",
        "skeletonmae": "-",
    }
    lines = [line for line in notes(records, speed) if line.startswith("in doubt")]
    assert lines[:2] == [
        "in doubt (steps skipped): gfp: made up for a test",
        "in doubt (trained off the clock): gfp: diagnose changed head.bias",
    ]
    assert lines[2].startswith(
        "in doubt (not as timed): gfp: seed 0: a step in training took 2.40 times"
    )


def test_a_doubt_that_both_know_of_is_said_once() -> None:
    run = run_record("gfp").model_copy(update={"doubts": (SKIPPED,)})
    assert doubts_of("gfp", [run], measured(doubted())) == [SKIPPED]
    assert kinds([SKIPPED, SKIPPED]) == "in doubt (steps skipped)"


def test_nothing_is_supported_over_a_baseline_in_doubt() -> None:
    speed = measured(arm("gfp", ratio(2.9, 3.0, 3.1)), doubted("skeletonmae"))
    assert verdicts([], speed) == {
        "gfp": "in doubt (the baseline)",
        "skeletonmae": "in doubt (steps skipped)",
    }


def test_without_doubts_everything_reads_as_before() -> None:
    speed = measured(arm("gfp", ratio(2.9, 3.0, 3.1)), arm("skeletonmae", ONE))
    assert verdicts([], speed) == {"gfp": "supported", "skeletonmae": "-"}
    assert not [line for line in notes([], speed) if "in doubt" in line]


def test_a_run_that_failed_says_so() -> None:
    records = [run_record("gfp", status="failed", accuracy=None)]
    assert verdicts(records, measured(doubted(), arm("skeletonmae", ONE)))["gfp"] == "failed"


def test_the_speed_table_says_it_too() -> None:
    speed = measured(doubted(), arm("skeletonmae", ONE))
    assert list(speed_table(speed)["trains faster"]) == ["in doubt (steps skipped)", "-"]
    assert "in doubt (steps skipped): gfp: made up for a test" in speed_notes(speed)


def test_times_to_target_say_it_from_the_runs_alone() -> None:
    runs = [curve_record(name, 0.5, 0.6) for name in ("gfp", "mamp")]
    runs[0] = runs[0].model_copy(update={"doubts": (SKIPPED,)})
    lines = target_notes(runs, freeze(runs, "mamp"))
    assert "in doubt (steps skipped): gfp: made up for a test" in lines


def test_a_waterfall_names_the_doubts_of_its_stages() -> None:
    stages = [stage_arm(f"{name} @ a", 0.1, 0.1) for name in ("gfp", "mamp")]
    record = stage_record(
        stages[0].model_copy(update={"doubts": (SKIPPED,)}), stages[1], stages=["a"]
    )
    assert "in doubt (steps skipped): gfp @ a: made up for a test" in waterfall_notes(record)


def test_a_verdict_on_a_claim_is_in_doubt_before_anything_else() -> None:
    claim, record = find_claim("gfp-6.2x"), speed_record(arm("gfp", ONE))
    assert judged(claim, ratio(6.0, 6.2, 6.4), record, claim.definition, doubted=True) == "in doubt"
    assert judged(claim, ratio(6.0, 6.2, 6.4), record, "clips", doubted=True) is None
    assert verdict(ratio(2.9, 3.0, 3.1), 1.05, doubted=True) == "in doubt"


# --- state ---


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, torch.nan]))
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("sparse", torch.eye(2).to_sparse())


def test_a_state_changes_with_parameters_gradients_and_buffers() -> None:
    module = Stateful()
    before = state_of(module)
    assert before.changed(module) == []
    module.count += 1
    module.weight.grad = torch.ones(2)
    assert before.changed(module) == ["count", "weight.grad"]
    with torch.no_grad():
        module.weight[0] = 2
    module.register_buffer("late", torch.zeros(0))
    del module.sparse
    assert before.changed(module) == ["weight", "count", "sparse", "weight.grad", "late"]


# --- in a run ---


class Plain(Method):
    about = About(title="Mean position", paper="none: made up for a test")

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)
        self.register_buffer("seen", torch.zeros(1))
        self.steps = 0

    def after_step(self, progress: float) -> None:
        self.steps += 1

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean(), {}


class TrainingInDiagnose(Plain):
    def diagnose(self, x: Tensor) -> Diagnosis:
        with torch.enable_grad():
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            self.loss(x)[0].backward()
            optimizer.step()
        return Diagnosis({})


class SwappingABuffer(Plain):
    def diagnose(self, x: Tensor) -> Diagnosis:
        self.seen = self.seen + 1
        return Diagnosis({})


class LookingOnly(Plain):
    """A forward pass that moves what is put back."""

    def diagnose(self, x: Tensor) -> Diagnosis:
        self.seen += 1
        return Diagnosis({"loss": self.loss(x)[0].item()})


class ImprovingWhenAsked(Plain):
    def evaluated_encoder(self) -> Encoder:
        if self.steps:
            self.encoder.norm.bias.data += 1
        return self.encoder


class MostlyIdle(Plain):
    """Its encoder is out of the graph in two of three steps."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.steps % 3:
            return (self.head.bias - x.mean((0, 1, 2))).square().mean(), {}
        return super().loss(x)


@pytest.mark.parametrize(
    ("method", "doubts"),
    [
        (Plain, []),
        (LookingOnly, []),
        (
            TrainingInDiagnose,
            [("trained off the clock", "diagnose changed encoder.patch_embed.weight, ")],
        ),
        (SwappingABuffer, [("trained off the clock", "diagnose changed seen")]),
        (
            ImprovingWhenAsked,
            [("trained off the clock", "evaluated_encoder changed encoder.norm.bias")],
        ),
        (MostlyIdle, [("steps skipped", "the encoder had a gradient in 2 of 6 steps")]),
    ],
)
def test_a_run_says_what_its_method_did(
    method: type[Method], doubts: list[tuple[str, str]], tmp_path: Path
) -> None:
    data = small_data(tmp_path)
    record = run_small_cell(small_cell(data, method), data, tmp_path)
    assert record.status == "ok", record.error
    assert [doubt.kind for doubt in record.doubts] == [kind for kind, _ in doubts]
    assert all(
        doubt.text.startswith(text) for doubt, (_, text) in zip(record.doubts, doubts, strict=True)
    )


def test_a_diagnosis_changes_no_random_number_and_no_weight_of_an_honest_method(
    tmp_path: Path,
) -> None:
    trainer = small_trainer(small_data(tmp_path), LookingOnly)
    before, random = state_of(trainer.method), torch.get_rng_state()
    diagnose(trainer.method, trainer.batches.sample())
    assert before.changed(trainer.method) == []
    assert torch.equal(torch.get_rng_state(), random)


def test_what_steps_took_the_process_is_kept_of_training_and_timing_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disturbance, "SHORTEST_EFFORT", 1e-9)
    monkeypatch.setattr(disturbance.Watch, "since", lambda watch, moment: "")
    arguments = (
        "--dataset",
        small_file(tmp_path),
        "--methods",
        "encoder-only,gfp",
        "--out",
        tmp_path / "out",
    )
    assert harness("run", *SMALL, *arguments).code == 0
    (speed,) = RecordStore(tmp_path / "out").speeds()
    timed = {arm.label: arm.own_step_seconds for arm in speed.arms}
    assert all(timed.values())
    trained_ones = [record for record in RecordStore(tmp_path / "out").runs() if record.training]
    assert len(trained_ones) == 2
    for record in trained_ones:
        assert record.training is not None
        assert record.training.interleaved_own_step_seconds == timed[record.label]
        assert step_factor(record) is not None


def test_a_disturbed_block_says_nothing_of_what_steps_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, booked = iter(["", "noise"]), list[tuple[int, float]]()
    monkeypatch.setattr(disturbance.Watch, "since", lambda watch, moment: next(told, ""))
    monkeypatch.setattr(StepClock, "own_seconds", property(lambda clock: 10.0 * len(clock.steps)))
    monkeypatch.setattr(
        disturbance.Effort, "add", lambda effort, steps, seconds: booked.append((steps, seconds))
    )
    data = small_data(tmp_path)
    assert run_small_cell(small_cell(data), data, tmp_path).status == "ok"
    assert booked == [(1, 10.0)] * 5  # of six blocks of a step each


def test_an_effort_leaves_the_first_block_out_and_is_silent_when_short() -> None:
    effort = disturbance.Effort(leave_out=1)
    for seconds in (7.0, 0.2, 0.2):
        effort.add(2, seconds)
    assert (effort.steps, effort.seconds, effort.step_seconds) == (4, 0.4, None)
    effort.add(1, 0.6)
    assert effort.step_seconds == pytest.approx(0.2)


CHEATS = """
from torch import nn
from methods.base import About, Diagnosis, Method, MethodOptions


class Options(MethodOptions):
    fault: str = ""


class Cheats(Method):
    about = About(title="Cheats", paper="none: made up for a test")
    Options = Options

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)

    def loss(self, x):
        if self.options.fault == "part":
            x = x[:1]
        if self.options.fault == "writing":
            x -= x.mean((1, 2), keepdim=True)
        if self.options.fault == "meta" and x.is_meta:
            return self.head(self.encoder(x[:, :4]).mean(1)).square().mean(), {}
        return (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean(), {}
"""


@pytest.fixture
def bound_by_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    """No method is above a measured bound, which small steps beside other work may seem to be."""
    real = doubts.above_bound

    def by_flops(arm: ArmRecord, speed: SpeedRecord) -> list[Doubt]:
        return [doubt for doubt in real(arm, speed) if "GFLOP" in doubt.text]

    monkeypatch.setattr(doubts, "above_bound", by_flops)
    monkeypatch.setattr(studies_verify, "above_bound", by_flops)


@pytest.mark.usefixtures("bound_by_flops")
def test_run_names_the_kind_in_the_verdict_and_verify_agrees(tmp_path: Path) -> None:
    methods = (
        ",".join(f"cheats:fault={fault}" for fault in ("part", "writing", "meta"))
        + ",cheats,encoder-only"
    )
    ran = harness(
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin_file(tmp_path, "cheats", CHEATS),
        "--methods",
        methods,
        "--baseline",
        "encoder-only",
        "--out",
        tmp_path / "out",
    )
    assert (ran.code, ran.err) == (0, "")
    (speed,) = RecordStore(tmp_path / "out").speeds()
    kinds_of = {arm.label: {doubt.kind for doubt in arm.doubts} for arm in speed.arms}
    assert "part of the batch" in kinds_of["cheats:fault=part"]
    assert kinds_of["cheats:fault=writing"] == {"batch changed"}
    assert kinds_of["cheats:fault=meta"] == {"FLOPs differ"}
    assert kinds_of["cheats"] == kinds_of["encoder-only"] == set()
    assert {arm.label for arm in speed.arms if arm.verdict == "in doubt"} == {
        f"cheats:fault={fault}" for fault in ("part", "writing", "meta")
    }
    runs = {
        record.label: {doubt.kind for doubt in record.doubts}
        for record in RecordStore(tmp_path / "out").runs()
    }
    assert {label: runs[label] for label in kinds_of} == kinds_of
    assert "in doubt (batch changed)" in ran.out
    assert (
        "in doubt (batch changed): cheats:fault=writing: a step writes into the batch that it is"
        " given" in ran.out
    )
    checked = harness("verify", tmp_path / "out")
    assert (checked.code, checked.err) == (0, ""), checked.out


@pytest.mark.long
def test_looking_for_doubts_changes_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*SMALL, "--dataset", small_file(tmp_path), "--methods", "gfp,sjepa,skeletonmae")
    assert harness("run", *arguments, "--out", tmp_path / "looked").code == 0
    monkeypatch.setattr(Trial, "doubts", lambda trial: [])
    monkeypatch.setattr(cell, "state_of", lambda method: State({}))
    monkeypatch.setattr(State, "changed", lambda state, method: [])
    assert harness("run", *arguments, "--out", tmp_path / "not").code == 0
    looked, blind = (
        {
            record.label: (record.weights, record.accuracy)
            for record in RecordStore(tmp_path / name).runs()
        }
        for name in ("looked", "not")
    )
    assert looked == blind
    assert sum(bool(weights) for weights, _ in looked.values()) == 3


WHEN_TIMED = '''
import sys
from torch import nn
from methods.base import About, Method, MethodOptions

DONE = [0.0]


class Options(MethodOptions):
    work: int = 1


class WhenTimed(Method):
    """Does more when a training called it; counts what it does."""
    about = About(title="When timed", paper="none: made up for a test")
    Options = Options

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)

    def loss(self, x):
        frame, callers = sys._getframe(), set()
        while frame := frame.f_back:
            callers.add(frame.f_code.co_name)
        DONE[0] += self.options.work if "pretrain" in callers else 1
        return (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean(), {}
'''


@pytest.mark.usefixtures("bound_by_flops")
def test_run_names_a_method_that_does_more_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = SimpleNamespace(
        perf_counter=time.perf_counter, process_time=lambda: sys.modules["when_timed"].DONE[0]
    )
    monkeypatch.setattr(clock, "time", counted)  # what a step does, in the place of processor time
    monkeypatch.setattr(disturbance.Watch, "since", lambda watch, moment: "")
    ran = harness(
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin_file(tmp_path, "when_timed", WHEN_TIMED),
        "--methods",
        "when-timed:work=3,when-timed",
        "--baseline",
        "when-timed",
        "--out",
        tmp_path / "out",
    )
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.count("in doubt (not as timed)") == 2  # the row, and its reason
    text = (
        "seed 0: a step in training took 3.00 times what it took while it was timed (the other"
        " methods' 1.00 times)"
    )
    assert f"in doubt (not as timed): when-timed:work=3: {text}" in ran.out


def differences(folder: Path, speed: SpeedRecord) -> str:
    """What `verify` says of a folder with this record alone."""
    RecordStore(folder).write_speed(speed)
    return harness("verify", folder).out


def test_a_doubt_that_was_taken_out_of_a_record_is_a_difference(tmp_path: Path) -> None:
    speed = measured(doubted(), arm("skeletonmae", ONE))
    clean = [arm.model_copy(update={"doubts": ()}) for arm in speed.arms]
    found = differences(tmp_path, speed.model_copy(update={"arms": clean}))
    assert "gfp: verdict in doubt, its ratio and the floor give" in found


def test_a_doubt_that_follows_from_numbers_is_computed_again(tmp_path: Path) -> None:
    text = "gfp: no doubt (above the bound), its numbers give one: a step takes 0.5 GFLOP"
    arms = [bounded("gfp", 5.0, 0.5, 1.0), BOUND, arm("skeletonmae", ONE)]
    assert text in differences(tmp_path / "out", measured(*arms))
    arms[0] = arms[0].model_copy(update={"doubts": tuple(above_bound(arms[0], measured(*arms)))})
    assert text not in differences(tmp_path / "with", measured(*arms))
