"""Clock and peak memory on CUDA, on a driver that is made up: the order of what is asked of it,
and the arithmetic.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.speed.memory import peak_step_bytes, resident_bytes
from harness.training.clock import StepClock
from tests.fake_gpu import CUDA, Driver
from tests.harness.small_run import CPU, small_data, small_trainer


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(monkeypatch)


def passes(driver: Driver, milliseconds: float) -> None:
    driver.milliseconds += milliseconds


def test_a_block_waits_for_the_device_at_its_ends_and_reads_its_events_after_that(
    driver: Driver,
) -> None:
    clock = StepClock(CUDA)
    clock.start()
    for step in (1, 2):
        passes(driver, 1 * step)
        clock.mark("data")
        passes(driver, 4 * step)
        clock.mark("forward")
    clock.stop("forward")
    assert driver.calls == ["synchronize", *["record"] * 5, "synchronize", *["elapsed_time"] * 4]
    assert clock.phases == pytest.approx(
        {"data": 0.003, "forward": 0.012}
    )  # seconds of milliseconds
    assert clock.steps == pytest.approx([0.005, 0.010])
    assert clock.seconds == pytest.approx(0.015)


def test_time_between_blocks_is_off_the_clock(driver: Driver) -> None:
    clock = StepClock(CUDA)
    for _ in range(2):
        passes(driver, 1000)
        clock.start()
        passes(driver, 20)
        clock.mark("step")
        passes(driver, 1000)
        clock.stop("step")
    assert clock.steps == pytest.approx([0.020, 0.020])
    assert driver.calls.count("synchronize") == 4


def test_what_the_process_took_is_the_devices_time(driver: Driver) -> None:
    clock = StepClock(CUDA)
    clock.start()
    passes(driver, 5)
    clock.mark("step")
    clock.stop("step")
    assert clock.own_seconds == clock.seconds == pytest.approx(0.005)


def test_a_trainers_block_records_events_and_waits_twice(driver: Driver, tmp_path: Path) -> None:
    trainer = small_trainer(small_data(tmp_path))
    trainer.run_block(3, StepClock(CUDA))
    phases = 5  # data, forward, backward, optimizer, after_step
    assert [call for call in driver.calls if call != "elapsed_time"] == [
        "synchronize",
        *["record"] * (1 + 3 * phases),
        "synchronize",
    ]


def test_peak_memory_is_that_of_one_step_without_what_others_hold(
    driver: Driver, tmp_path: Path
) -> None:
    trainer = small_trainer(small_data(tmp_path))
    trainer.run_block(1, StepClock(CPU))  # the optimiser's state
    resident, others, activations = resident_bytes(trainer), 1_000, 777
    driver.allocate(10**9)  # a peak of the past
    driver.allocate(others + resident - 10**9)
    loss = trainer.loss

    def forward(x):  # type: ignore[no-untyped-def]
        driver.allocate(activations)
        driver.allocate(-activations)
        return loss(x)

    trainer.loss, trainer.device = forward, CUDA
    assert peak_step_bytes(trainer) == resident + activations
    asked = [call for call in driver.calls if "memory" in call]
    assert asked == ["reset_peak_memory_stats", "memory_allocated", "max_memory_allocated"]
    assert (
        driver.calls.index("memory_allocated")
        < driver.calls.index("record")
        < driver.calls.index(asked[-1])
    )
