"""Speed: the order of blocks, their size, the same-against-same partner, disturbed blocks."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
import torch

from datasets.batches import BodySequences, TrainingBatches
from harness.errors import UsageError
from harness.machine import describe_environment
from harness.progress import Reporter, make_console
from harness.records.schema import Health
from harness.report.speed import speed_notes
from harness.spec.model import TrainSpec
from harness.speed import interleave as speed
from harness.speed import peak
from harness.speed.disturbance import Watch
from harness.speed.interleave import MAXIMUM_ROUNDS, MINIMUM_ROUNDS, Arm, measure, warm_up
from harness.speed.measurement import Timing, host_step_seconds
from harness.speed.peak import matmul_flops
from harness.training.clock import StepClock
from harness.training.data import LoadedData
from harness.training.pool import pool
from harness.training.trainer import Trainer
from methods.base import About, Method
from tests.harness.made_up_records import arm as made_up_arm
from tests.harness.made_up_records import ratio, speed_record
from tests.harness.small_run import CPU, small_cell, small_data, small_trainer


class ScriptedTrainer:
    """Stands in for a trainer: notes who stepped when,
    and takes scripted seconds per step on a clock of its own.
    """

    def __init__(self, label: str, journal: list[str], now: list[float], *seconds: float) -> None:
        self.label, self.journal, self.now, self.script = label, journal, now, list(seconds)
        self.device, self.sizes = CPU, []
        self.first_steps, self.lead = 1, 0

    def run_block(self, steps: int, clock: StepClock) -> dict[str, float]:
        self.journal.append(self.label)
        self.sizes.append(steps)
        seconds = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        clock.steps += [seconds] * steps
        clock.phases["forward"] += seconds * steps
        self.now[0] += seconds * steps
        return {}


@pytest.fixture
def arm(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Arm]:
    """Makes arms that share one journal and one scripted clock."""
    journal: list[str] = []
    now = [0.0]
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(speed, "peak_step_bytes", lambda trainer: 123)

    def make(label: str, *seconds: float, block: int = 1) -> Arm:
        return Arm(
            label, cast(Trainer, ScriptedTrainer(label, journal, now, *seconds)), block=block
        )

    return make


def scripted(arm: Arm) -> Any:
    return arm.trainer


def test_every_arm_takes_every_slot_in_turn(arm: Callable[..., Arm]) -> None:
    # The baseline's second block, half a round away from its first, is written A too.
    a, b, c = arm("A", 1.0), arm("B", 1.0), arm("C", 1.0)
    measure([a, b, c], a, seconds=0, failures={})
    journal = "".join(scripted(a).journal)
    assert journal.startswith("ABAC BACA ACAB CABA".replace(" ", ""))
    assert len(journal) == 4 * MINIMUM_ROUNDS


def test_another_process_starts_at_another_slot(arm: Callable[..., Arm]) -> None:
    a, b, c = arm("A", 1.0), arm("B", 1.0), arm("C", 1.0)
    measure([a, b, c], a, seconds=0, failures={}, first=5)
    assert "".join(scripted(a).journal).startswith("BACA ACAB".replace(" ", ""))


def test_the_baseline_comes_first_wherever_it_was_listed(arm: Callable[..., Arm]) -> None:
    a, b = arm("A", 1.0), arm("B", 1.0)
    measure([b, a], a, seconds=0, failures={})
    assert "".join(scripted(a).journal[:6]) == "AABABA"


def test_every_round_gives_one_block_per_arm_and_one_partner(arm: Callable[..., Arm]) -> None:
    a, b = arm("A", 1.0), arm("B", 2.0)
    again = measure([a, b], a, seconds=0, failures={})
    assert len(a.blocks) == len(b.blocks) == len(again) == MINIMUM_ROUNDS


def test_the_partner_is_the_second_baseline_block_of_the_same_round(
    arm: Callable[..., Arm],
) -> None:
    # Rounds in the order they run, P the partner: A P B, P B A, B A P, and again.
    a = arm("A", 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0)
    again = measure([a, arm("B", 1.0)], a, seconds=0, failures={})
    assert a.blocks == [1.0, 4.0, 5.0, 7.0, 10.0]
    assert again == [2.0, 3.0, 6.0, 8.0, 9.0]


@pytest.fixture(autouse=True)
def _as_many_rounds_as_outside_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "MAXIMUM_ROUNDS", MAXIMUM_ROUNDS)


def test_rounds_fill_the_time(arm: Callable[..., Arm]) -> None:
    a = arm("A", 1.0)
    measure([a, arm("B", 2.0)], a, seconds=60, failures={})  # a round takes 1 + 2 + 1 seconds
    assert len(a.blocks) == 15


def test_as_many_rounds_as_make_whole_turns(arm: Callable[..., Arm]) -> None:
    a = arm("A", 1.0)
    measure([a, arm("B", 2.0)], a, seconds=71, failures={})  # 17 rounds of three slots
    assert len(a.blocks) == 15


def test_rounds_are_bounded(arm: Callable[..., Arm]) -> None:
    a = arm("A", 0.001)
    measure([a], a, seconds=1000, failures={})
    assert len(a.blocks) == MAXIMUM_ROUNDS


def test_progress_ends_where_it_said_it_would(arm: Callable[..., Arm]) -> None:
    a, seen = arm("A", 1.0), list[tuple[int, int]]()
    measure([a], a, seconds=0, failures={}, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, MINIMUM_ROUNDS) for done in range(1, MINIMUM_ROUNDS + 1)]


def test_step_time_is_the_median_over_blocks(arm: Callable[..., Arm]) -> None:
    a, b = arm("A", 1.0), arm("B", 3.0, 1.0, 100.0, 2.0, 4.0)
    measure([a, b], a, seconds=0, failures={})
    assert b.step_seconds == 3.0


def test_phases_add_up_over_counted_blocks(arm: Callable[..., Arm]) -> None:
    a = arm("A", 1.0, 2.0, 3.0, block=4)
    a.count(a.run())
    a.run()
    a.count(a.run())
    assert a.blocks == [1.0, 3.0]
    assert a.phases == {"forward": 16.0}


@pytest.mark.parametrize(
    ("step", "block"), [(0.01, 50), (0.03, 17), (0.5, 1), (2.0, 1), (0.0001, 100)]
)
def test_a_block_lasts_about_as_long_as_asked(
    arm: Callable[..., Arm], step: float, block: int
) -> None:
    a = arm("A", step)
    warm_up(a, 0.5)
    assert a.block == block
    assert a.probe_seconds == step


def test_warming_up_goes_on_until_two_steps_agree(arm: Callable[..., Arm]) -> None:
    a = arm("A", 8.0, 4.0, 2.0, 1.99, 1.0)
    warm_up(a, 2.0)
    assert len(scripted(a).journal) == 4
    assert a.probe_seconds == 1.99
    assert a.warmup_seconds == pytest.approx(8 + 4 + 2 + 1.99)


def test_warming_up_is_bounded_in_steps(arm: Callable[..., Arm]) -> None:
    a = arm("A", *(2.0**-power for power in range(20)))
    warm_up(a, 10.0)
    assert scripted(a).sizes == [1] * (1 + speed.WARMUP_BLOCKS) + [speed.PROBE_STEPS]


def test_warming_up_is_bounded_in_time(arm: Callable[..., Arm]) -> None:
    a = arm("A", 8.0, 4.0, 2.0, 1.0)
    warm_up(
        a, 0.5
    )  # ten blocks of half a second after the first step, which compiles: over with 4 + 2 seconds
    assert len(scripted(a).journal) == 3


def test_steps_that_compile_and_capture_end_no_warming_up_and_size_no_block(
    arm: Callable[..., Arm],
) -> None:
    a = arm("A", 30.0, 40.0, 1.0)
    scripted(a).first_steps = 3
    warm_up(a, 0.5)  # the capture alone took longer than ten blocks
    assert scripted(a).sizes == [1, 1, 1, 1]
    assert (a.block, a.probe_seconds) == (1, 1.0)


def test_a_block_is_sized_by_several_steps_in_a_row(arm: Callable[..., Arm]) -> None:
    a = arm("A", 0.1, 0.1, 0.05)  # alone a step waits for its launch
    warm_up(a, 0.5)
    assert scripted(a).sizes == [1, 1, 5]
    assert (a.block, a.probe_seconds) == (10, 0.05)


def test_a_block_is_sized_by_no_more_steps_than_fit_into_it(arm: Callable[..., Arm]) -> None:
    a, b = arm("A", 0.2), arm("B", 0.4)
    warm_up(a, 0.5)
    warm_up(b, 0.5)
    assert (scripted(a).sizes, a.block) == ([1, 1, 2], 2)
    assert (scripted(b).sizes, b.block) == ([1, 1], 1)


def test_warming_up_counts_no_block(arm: Callable[..., Arm]) -> None:
    a = arm("A", 1.0)
    warm_up(a, 1.0)
    assert (a.blocks, a.phases, a.peak_bytes) == ([], {}, 123)


# --- what is left after every round ---


def test_what_was_measured_is_left_after_every_round_but_the_last(arm: Callable[..., Arm]) -> None:
    a, left = (
        arm("A", 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
        list[tuple[list[float], list[float], int]](),
    )
    measure(
        [a],
        a,
        seconds=0,
        failures={},
        leave=lambda again, total: left.append(([*a.blocks], list(again), total)),
    )
    assert left == [
        ([1], [2], MINIMUM_ROUNDS),
        ([1, 4], [2, 3], MINIMUM_ROUNDS),
        ([1, 4, 5], [2, 3, 6], MINIMUM_ROUNDS),
        ([1, 4, 5, 8], [2, 3, 6, 7], MINIMUM_ROUNDS),
    ]


# --- on a GPU ---


def on_gpu(arm: Arm) -> Arm:
    arm.trainer.device = torch.device("cuda")
    return arm


def test_on_a_gpu_an_untimed_step_stands_before_each_block(arm: Callable[..., Arm]) -> None:
    a, b = on_gpu(arm("A", 1.0, block=4)), on_gpu(arm("B", 1.0, block=2))
    measure(
        [a, b], a, seconds=0, failures={}, watch=ScriptedWatch("noise")
    )  # the first block is timed again
    assert scripted(a).sizes[:7] == [1, 4, 4, 1, 4, 1, 4]
    assert scripted(b).sizes == [1, 2] * MINIMUM_ROUNDS
    assert len(a.blocks) == MINIMUM_ROUNDS


def test_worker_processes_bring_untimed_steps_of_their_own(arm: Callable[..., Arm]) -> None:
    a = on_gpu(arm("A", 1.0, block=4))
    scripted(a).lead = 3
    measure([a], a, seconds=0, failures={}, watch=ScriptedWatch())
    assert scripted(a).sizes == [4] * 2 * MINIMUM_ROUNDS


def test_a_block_keeps_what_its_host_took_for_a_step(arm: Callable[..., Arm]) -> None:
    a, clock = arm("A", 1.0), StepClock(torch.device("cuda"))
    clock.steps, clock.host_seconds = [2.0, 2.0], 1.0
    a.count(clock)
    assert (a.blocks, a.host) == ([2.0], [0.5])
    a.count(a.run())
    assert a.host == [0.5]  # a CPU is its own host


@pytest.mark.parametrize(
    ("host", "block", "bound"),
    [
        (
            0.00995,
            10,
            True,
        ),  # half a millisecond is left to do when the host has handed out ten steps
        (0.0090, 10, False),  # a whole step is: the queue was full, and held the host up
        (0.0020, 1, False),
        (0.0095, 1, True),
        (0.0101, 10, True),
    ],
)
def test_a_gpu_that_has_nothing_left_to_do_waits_for_its_host(
    host: float, block: int, bound: bool
) -> None:
    measured = made_up_arm(
        "gfp", ratio(1, 1, 1), step_seconds=0.010, host_step_seconds=host, steps_per_block=block
    )
    assert measured.launch_bound is bound
    (line,) = [
        line
        for line in speed_notes(speed_record(measured))
        if line.startswith("host time per step")
    ]
    assert (f"gfp {1000 * host:.3g} ms (launch-bound)" in line) is bound


@pytest.mark.parametrize(
    ("train", "seconds"),
    [({}, 0.5), ({"synchronise": True}, None), ({"gradient_scaler": True}, None)],
)
def test_a_host_that_waits_in_every_step_says_nothing(
    arm: Callable[..., Arm], train: dict[str, bool], seconds: float | None
) -> None:
    a = arm("A", 1.0)
    a.host, a.trainer.train = [0.25, 0.5, 0.75], TrainSpec(**train)
    assert host_step_seconds(a) == seconds


def test_without_a_gpu_nothing_is_said_of_its_host() -> None:
    measured = made_up_arm("gfp", ratio(1, 1, 1))
    assert not measured.launch_bound
    assert not [line for line in speed_notes(speed_record(measured)) if "launch-bound" in line]


# --- an arm that fails ---


class Activations:
    """What a step leaves in the variables of its frames."""


def test_what_a_failed_step_held_is_gone_before_the_next_block(arm: Callable[..., Arm]) -> None:
    a, b, failures, kept, alive = (
        arm("A", 1.0),
        arm("B", 1.0),
        dict[str, Exception](),
        [],
        list[bool](),
    )

    def out_of_memory(steps: int, clock: StepClock) -> None:
        activations = Activations()
        kept.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory")

    def look(steps: int, clock: StepClock) -> None:
        alive.extend(reference() is not None for reference in kept)
        ScriptedTrainer.run_block(scripted(a), steps, clock)

    b.trainer.run_block = out_of_memory  # type: ignore[assignment, method-assign]
    a.trainer.run_block = look  # type: ignore[assignment, method-assign]
    measure([a, b], a, seconds=0, failures=failures)
    assert list(failures) == ["B"]
    assert alive
    assert not any(alive)


# --- disturbed blocks ---


class ScriptedWatch(Watch):
    """Calls blocks disturbed as the script says, and none after its end."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(CPU)
        self.reasons = list(reasons)

    def disturbance(self, block: Callable[[], None]) -> str:
        block()
        return self.reasons.pop(0) if self.reasons else ""


def test_a_disturbed_block_is_timed_again(arm: Callable[..., Arm]) -> None:
    # A, A again (disturbed, so once more), and from then on as ever: A' A | A A' | A' A | A A'
    a, watch = arm("A", *(float(number) for number in range(1, 12))), ScriptedWatch("", "noise")
    again = measure([a], a, seconds=0, failures={}, watch=watch)
    assert a.blocks == [1, 5, 6, 9, 10]
    assert again == [3, 4, 7, 8, 11]
    assert watch.health == Health(blocks=10, repeated=1, disturbed=0, reasons=("noise",))


def test_a_block_disturbed_three_times_counts_and_is_counted(arm: Callable[..., Arm]) -> None:
    a, watch = (
        arm("A", *(float(number) for number in range(1, 13))),
        ScriptedWatch("noise", "heat", "noise"),
    )
    again = measure([a], a, seconds=0, failures={}, watch=watch)
    assert a.blocks == [3, 6, 7, 10, 11]
    assert again == [4, 5, 8, 9, 12]
    assert watch.health == Health(blocks=10, repeated=2, disturbed=1, reasons=("noise", "heat"))


def test_where_everything_is_disturbed_every_block_has_three_tries(arm: Callable[..., Arm]) -> None:
    a, watch = arm("A", 1.0), ScriptedWatch(*["noise"] * 30)
    measure([a], a, seconds=0, failures={}, watch=watch)
    assert len(scripted(a).journal) == 3 * 2 * MINIMUM_ROUNDS
    assert watch.health.disturbed_share == 1


def test_phases_leave_out_the_blocks_that_were_thrown_away(arm: Callable[..., Arm]) -> None:
    a, watch = (
        arm("A", *(float(number) for number in range(1, 13))),
        ScriptedWatch("noise", "noise"),
    )
    measure([a], a, seconds=0, failures={}, watch=watch)
    assert a.phases == {"forward": 3 + 6 + 7 + 10 + 11}


# --- what the device can do ---


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_devices_speed_is_that_of_its_fastest_matrix_product(
    precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    factors: list[torch.Tensor] = []

    class Clock:
        steps = (9.0, 0.5, 0.25, 0.5)

        def __init__(self, device: torch.device) -> None:
            self.start, self.mark, self.stop = (
                (lambda: None),
                (lambda phase: None),
                (lambda phase: None),
            )

    monkeypatch.setattr(peak, "StepClock", Clock)
    monkeypatch.setattr(torch, "mm", lambda a, b: factors.extend((a, b)))
    assert matmul_flops(CPU, precision, size=10) == 2 * 10 * 10 * 10 / 0.25
    assert len(factors) == 2 * (1 + peak.REPEATS)
    assert {(factor.shape, factor.dtype) for factor in factors} == {((10, 10), dtype)}


def test_a_device_without_memory_for_the_product_has_no_measured_peak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*shape: int, **kind: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(torch, "randn", full)
    assert matmul_flops(CPU, "fp32") is None


# --- with a real trainer ---


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LoadedData:
    return small_data(tmp_path_factory.mktemp("speed"))


class OutOfMemory(Method):
    """Fits nowhere but on the meta device, where FLOPs are counted."""

    about = About(title="Out of memory", paper="none")
    kept: ClassVar[list[weakref.ref[Any]]] = []

    def loss(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        activations = self.encoder(x)
        if not x.is_meta:
            self.kept += [weakref.ref(activations), weakref.ref(self)]
            raise torch.OutOfMemoryError("CUDA out of memory")
        return activations.square().mean(), {}


def test_a_method_that_fails_while_warming_up_leaves_neither_activations_nor_weights(
    data: LoadedData,
) -> None:
    cells = [small_cell(data, "encoder-only"), small_cell(data, OutOfMemory)]
    timing = Timing(
        cells,
        baseline="encoder-only",
        data=data,
        environment=describe_environment(CPU),
        seconds=0.1,
    )
    timing.warm_up(Reporter(make_console()))
    assert list(timing.failures) == ["made-up"]
    assert OutOfMemory.kept
    gc.collect()
    assert {reference() for reference in OutOfMemory.kept} == {None}


def test_data_that_do_not_fit_on_the_device_are_no_methods_fault(data: LoadedData) -> None:
    """They are placed when a measurement begins, outside what guards the methods."""
    rows = data.bodies.rows

    def packed() -> BodySequences:
        raise torch.OutOfMemoryError("CUDA out of memory")

    full = replace(data, packed=packed)
    timing = Timing(
        [small_cell(data, "encoder-only")], "encoder-only", full, describe_environment(CPU), 0.1
    )
    said = f"expected room for frames of {rows.nbytes:,} bytes on cpu, found less; choose a smaller"
    with pytest.raises(UsageError, match=f"--dataset .*: {said} set, or --device cpu"):
        timing.warm_up(Reporter(make_console()))
    assert not timing.failures
    both = pool(data.spec, [full, data])
    assert both.frame_bytes == 2 * rows.nbytes
    with pytest.raises(UsageError, match=said):
        both.place()


class Staffed(TrainingBatches):
    """Batches of a class of their own that have workers."""

    heard: ClassVar[list[str]] = []

    def keep_workers(self) -> None:
        self.heard.append("keep")

    def end_workers(self) -> None:
        self.heard.append("end")


def test_whatever_batches_have_workers_keep_them_until_something_breaks_off(
    data: LoadedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.training.data.TrainingBatches", Staffed)
    monkeypatch.setattr(Staffed, "heard", [])
    cells = [small_cell(data, "encoder-only"), small_cell(data, OutOfMemory)]
    timing = Timing(cells, "encoder-only", data, describe_environment(CPU), seconds=0.1)
    timing.warm_up(Reporter(make_console()))
    assert Staffed.heard == ["keep", "keep", "end", "end"]


def test_a_real_arm_runs_whole_blocks(data: LoadedData) -> None:
    arm = Arm("skeletonmae", small_trainer(data, steps=100), block=3)
    arm.count(arm.run())
    assert arm.trainer.done == 3
    assert len(arm.blocks) == 1
    assert 3 * arm.blocks[0] == pytest.approx(sum(arm.phases.values()))


def test_warming_up_in_no_time_takes_two_real_steps_and_one_for_memory(data: LoadedData) -> None:
    arm = Arm("encoder-only", small_trainer(data, "encoder-only", steps=100))
    warm_up(arm, 0.0)
    assert arm.block == 1
    assert arm.trainer.done == 3
