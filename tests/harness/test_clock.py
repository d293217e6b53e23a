"""Clocks: phases of steps, and a ledger that accounts for every second of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from harness.records.schema import RunRecord
from harness.training import clock as clock_module
from harness.training.clock import Ledger, StepClock
from methods.base import About, Method, MethodOptions
from methods.parts.encoder import SkeletonEncoder
from tests.harness.small_run import CPU, run_small_cell, small_cell, small_data, small_trainer

STEPS = 120
TRAINING_PHASES = ("data", "forward", "backward", "optimizer", "after_step")


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The stamps that the clock will read, in order."""
    stamps: list[float] = []
    monkeypatch.setattr(
        clock_module,
        "time",
        SimpleNamespace(perf_counter=lambda: stamps.pop(0), process_time=float),
    )
    return stamps


def test_every_interval_belongs_to_the_phase_that_ends_it(times: list[float]) -> None:
    # Two steps: data 1 s, forward 4 s; data 2 s, forward 8 s.
    times += [100.0, 101.0, 105.0, 107.0, 115.0]
    clock = StepClock(CPU)
    clock.start()
    for _ in range(2):
        clock.mark("data")
        clock.mark("forward")
    clock.stop("forward")
    assert clock.phases == {"data": 3.0, "forward": 12.0}
    assert clock.steps == [5.0, 10.0]
    assert clock.seconds == 15.0


def test_a_gpus_host_is_timed_until_it_waits_for_the_gpu(
    times: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps, waited = [1.0, 2.0, 5.0, 10.0, 11.0, 12.0], []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at = 0.0

        def record(self) -> None:
            self.at = stamps.pop(0)

        def elapsed_time(self, end: Event) -> float:
            return 1000 * (end.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(len(times)))
    times += [100.0, 100.5, 200.0, 200.25]  # the host's: begins and ends two blocks
    clock = StepClock(torch.device("cuda"))
    for _ in range(2):
        clock.start()
        clock.mark("forward")
        clock.mark("backward")
        clock.stop("backward")
    assert clock.host_seconds == 0.75
    assert waited == [4, 2, 2, 0]  # it waits before it looks at its clock, and after
    assert clock.phases == {"forward": 2.0, "backward": 4.0}
    assert clock.steps == [4.0, 2.0]


def test_a_cpu_is_its_own_host(times: list[float]) -> None:
    times += [100.0, 101.0]
    clock = StepClock(CPU)
    clock.start()
    clock.mark("step")
    clock.stop("step")
    assert clock.host_seconds == 0.0


def test_time_between_blocks_is_off_the_clock(times: list[float]) -> None:
    times += [0.0, 1.0, 50.0, 52.0]
    clock = StepClock(CPU)
    for _ in range(2):
        clock.start()
        clock.mark("step")
        clock.stop("step")
    assert clock.steps == [1.0, 2.0]
    assert clock.seconds == 3.0


def test_a_training_block_has_one_time_per_step_and_phases_that_sum_to_them(tmp_path: Path) -> None:
    clock = StepClock(CPU)
    small_trainer(small_data(tmp_path)).run_block(7, clock)
    assert len(clock.steps) == 7
    assert min(clock.steps) > 0
    assert tuple(clock.phases) == TRAINING_PHASES
    assert (
        sum(clock.steps)
        == pytest.approx(clock.seconds)
        == pytest.approx(sum(clock.phases.values()))
    )


def test_a_ledger_books_phases_and_leaves_the_rest_untracked() -> None:
    ledger = Ledger()
    with ledger.phase("work"):
        time.sleep(0.06)
    time.sleep(0.04)
    with ledger.phase("work"):
        time.sleep(0.06)
    ledger.close()
    assert 0.12 <= ledger.phases["work"] < ledger.wall
    assert ledger.wall - ledger.phases["work"] >= 0.04
    assert ledger.untracked == pytest.approx(1 - ledger.phases["work"] / ledger.wall)


def test_a_training_block_books_what_its_clock_added(times: list[float]) -> None:
    times += [0.0, 3.0, 10.0]
    ledger, clock = Ledger(), StepClock(CPU)
    clock.phases["forward"] = 2.0
    with ledger.block(clock):
        clock.phases["forward"] += 4.0
        clock.phases["backward"] += 1.0
    ledger.close()
    assert ledger.phases == {"forward": 4.0, "backward": 1.0}
    assert ledger.wall == 10.0
    assert ledger.untracked == pytest.approx(0.5)


def test_a_closed_ledger_stands_still() -> None:
    ledger = Ledger()
    time.sleep(0.001)
    ledger.close()
    wall = ledger.wall
    time.sleep(0.002)
    assert ledger.wall == wall


def test_a_phase_that_throws_is_booked() -> None:
    def work() -> None:
        with ledger.phase("work"):
            time.sleep(0.001)
            raise KeyError

    ledger = Ledger()
    with pytest.raises(KeyError):
        work()
    assert ledger.phases["work"] >= 0.001


@contextmanager
def processor_time() -> Iterator[None]:
    """The clock reads this process's own processor time,
    so that no share depends on what else the machine does.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            clock_module,
            "time",
            SimpleNamespace(perf_counter=time.process_time, process_time=time.process_time),
        )
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A run of `STEPS` steps."""
    folder = tmp_path_factory.mktemp("clock")
    data = small_data(folder)
    with processor_time():
        return run_small_cell(small_cell(data, budget=f"{STEPS}steps"), data, folder / "out")


def test_a_run_of_a_hundred_steps_and_more_leaves_little_untracked(run: RunRecord) -> None:
    assert run.status == "ok", run.traceback
    assert run.training is not None
    assert run.training.steps == STEPS
    assert 0 <= run.untracked < 0.1


def test_phases_and_what_is_untracked_add_up_to_the_wall_time(run: RunRecord) -> None:
    assert sum(run.phases.values()) + run.untracked * run.wall_seconds == pytest.approx(
        run.wall_seconds
    )
    assert {*TRAINING_PHASES, "build", "warm-up", "evaluate", "log", "state", "save"} == set(
        run.phases
    )


def test_training_seconds_are_the_training_phases(run: RunRecord) -> None:
    assert run.training is not None
    assert sum(run.phases[name] for name in TRAINING_PHASES) == pytest.approx(run.training.seconds)
    assert run.training.step_seconds * STEPS == pytest.approx(
        run.training.seconds, rel=0.5
    )  # the median step


class SlowAndBroken(Method):
    """Works for long in the second step of the training, and then throws or is no number."""

    about = About(title="Slow and broken", paper="none")
    throws = False

    def __init__(self, encoder: SkeletonEncoder, options: MethodOptions) -> None:
        super().__init__(encoder, options)
        self.calls = 0

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        loss = self.encoder(x).square().mean()
        if self.calls < 3:  # the warm-up, and the first step
            return loss, {}
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
        if self.throws:
            raise RuntimeError
        return loss * float("nan"), {}


class SlowAndThrowing(SlowAndBroken):
    throws = True


@pytest.mark.parametrize(
    ("method", "status"), [(SlowAndBroken, "diverged"), (SlowAndThrowing, "failed")]
)
def test_a_run_that_breaks_off_accounts_for_its_time_too(
    tmp_path: Path, method: type[Method], status: str
) -> None:
    data = small_data(tmp_path)
    with processor_time():
        record = run_small_cell(small_cell(data, method), data, tmp_path / "out")
    assert record.status == status
    assert record.wall_seconds > 0.3
    assert record.untracked < 0.05
