"""The watch over timed blocks: whose processor time it was, what the GPU says,
and how blocks are booked.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.machine import processors
from harness.records.schema import Health
from harness.report.health import disturbances
from harness.speed import disturbance as health
from harness.speed.disturbance import Gpu, ProcessorTime, Watch, busy_seconds, own_cores
from tests.harness.made_up_records import stage_arm, stage_record
from tests.harness.small_run import CPU

Own = namedtuple("Own", "user system children_user children_system")
Linux = namedtuple("Linux", "user nice system idle iowait irq softirq steal guest guest_nice")
Mac = namedtuple("Mac", "user nice system idle")


@pytest.fixture(autouse=True)
def _four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may use processors 1, 2, 4 and 5,
    and others disturb a block as they do outside the tests.
    """
    monkeypatch.setattr(health, "FOREIGN_SHARE", 0.1)
    monkeypatch.setattr(health.os, "sched_getaffinity", lambda process: {1, 2, 4, 5}, raising=False)


# --- processor time ---


def share(machine: float, own: float, wall: float) -> float:
    """Share of others when the machine was busy for ``machine`` seconds
    and this process for ``own``.
    """
    return ProcessorTime(100 + machine, 20 + own).foreign_share(ProcessorTime(100, 20), wall)


def test_the_share_of_others_by_hand() -> None:
    # 4 processors, 2 seconds: 8 in all; 3 were busy, 1 of them with this process
    assert share(3, 1, wall=2) == 2 / 8


def test_nobody_else_is_a_share_of_zero() -> None:
    assert share(3, 3, wall=2) == 0


def test_ticks_that_round_the_other_way_are_no_negative_share() -> None:
    assert share(1.0, 1.01, wall=2) == 0


def test_blocks_too_short_for_the_kernels_ticks_are_not_judged() -> None:
    assert share(0.16, 0, wall=0.04) == 0  # 0.16 processor seconds
    assert share(0.16, 0, wall=0.08) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("times", "busy"),
    [
        # guests stand in user and nice as well; waiting for a disk is idling; steal is somebody's
        # work
        (Linux(10, 1, 3, 100, 7, 0.5, 0.25, 4, 2, 1), 10 + 1 + 3 + 0.5 + 0.25 + 4),
        (Mac(10, 1, 3, 100), 14),
    ],
)
def test_busy_time_by_hand(times: Any, busy: float) -> None:
    assert busy_seconds(times) == busy


def cores(*busy: float) -> list[Mac]:
    """Counters of processors that were busy for so long."""
    return [Mac(seconds, 0, 0, 1000) for seconds in busy]


def counters(monkeypatch: pytest.MonkeyPatch, *busy: float) -> ProcessorTime:
    monkeypatch.setattr(health.psutil, "cpu_times", lambda percpu: cores(*busy) if percpu else None)
    monkeypatch.setattr(health.os, "times", lambda: Own(1, 2, 30, 40))  # ended children are its own
    return ProcessorTime.now()


def test_only_the_processors_that_this_process_may_use_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = counters(monkeypatch, 1, 20, 300, 4000, 50000, 600000, 7000000)
    assert found == ProcessorTime(machine=20 + 300 + 50000 + 600000, own=73)
    assert processors() == 4


def test_a_processor_without_counters_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert counters(monkeypatch, 1, 20, 300) == ProcessorTime(machine=320, own=73)


def test_a_system_that_knows_no_affinity_counts_all_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(health.os, "sched_getaffinity")
    monkeypatch.setattr(health.os, "cpu_count", lambda: 3)
    assert counters(monkeypatch, 1, 20, 300) == ProcessorTime(machine=321, own=73)
    assert own_cores(cores(1, 20, 300)) == cores(1, 20, 300)
    assert processors() == 3


# --- a block under watch ---


def watched(monkeypatch: pytest.MonkeyPatch, watch: Watch, foreign: float) -> str:
    """What the watch says of a block of 2.5 seconds, 10 processor seconds,
    of which others took ``foreign``.
    """
    ran: list[bool] = []
    monkeypatch.setattr(ProcessorTime, "now", lambda: ProcessorTime(50 + foreign * bool(ran), 0))
    monkeypatch.setattr(health, "time", SimpleNamespace(perf_counter=lambda: 7 + 2.5 * bool(ran)))
    reason = watch.disturbance(lambda: ran.append(True))
    assert ran == [True]
    return reason


def test_more_than_a_tenth_of_all_processors_is_a_disturbance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch(CPU)
    assert watched(monkeypatch, watch, 1.0) == ""
    assert watched(monkeypatch, watch, 1.25).startswith("other processes took")


def test_the_largest_share_of_a_counted_block_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(CPU)
    for foreign, counted in ((0.25, True), (0.75, True), (0.5, True), (2.0, False)):
        watch.note(watched(monkeypatch, watch, foreign), counted=counted)
    assert watch.health.foreign_share == 0.075


def test_on_a_gpu_the_share_of_others_is_kept_but_disturbs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml()
    watch = Watch(torch.device("cuda"), gpu=Gpu(nvml, "handle"))
    watch.note(watched(monkeypatch, watch, 5.0), counted=True)
    assert watch.health == Health(
        blocks=1, foreign_share=0.5, clock_mhz=(1500, 1500), temperature_c=60, gpu_watched=True
    )
    nvml.processes = 2
    assert watched(monkeypatch, watch, 5.0) == "another process on the GPU"


def test_a_gpu_without_nvml_is_not_disturbed_by_others_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    watch = Watch(torch.device("cuda"))
    assert watched(monkeypatch, watch, 10.0) == ""
    assert watch.last_share == 1.0
    assert watch.health.gpu_watched is False
    record = stage_record(stage_arm("gfp @ a", 0.1, 0.1), stages=["a"], health=watch.health)
    assert disturbances(record).endswith("; GPU not watched (nvidia-ml-py is missing or refused)")


@pytest.mark.parametrize(
    ("before", "after", "reason"), [(3, 3, ""), (3, 4, "GPU memory ran short")]
)
def test_a_block_in_which_the_allocator_emptied_its_cache_is_disturbed(
    before: int, after: int, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What earlier blocks did, and the untimed step before this one, counts for nothing."""
    counts = {"num_alloc_retries": before}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: counts)
    watch = Watch(torch.device("cuda"))
    assert watch.disturbance(lambda: counts.update(num_alloc_retries=after)).startswith(reason)
    watch = Watch(torch.device("cuda"), gpu=Gpu(FakeNvml(), "handle"))
    counts["num_alloc_retries"] = before
    found = watch.disturbance(lambda: counts.update(num_alloc_retries=after))
    assert bool(found) == bool(reason)


def test_without_a_gpu_there_is_none_to_watch() -> None:
    assert Watch(CPU).health.gpu_watched is None


def test_a_block_that_throws_is_no_disturbance_but_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        Watch(CPU).disturbance(lambda: print(1 / 0))


def test_blocks_are_booked_as_counted_disturbed_or_repeated() -> None:
    watch = Watch(CPU)
    for reason, counted in (
        ("", True),
        ("noise", False),
        ("heat", False),
        ("noise", True),
        ("", True),
        ("", True),
    ):
        watch.note(reason, counted=counted)
    assert watch.health == Health(blocks=4, repeated=2, disturbed=1, reasons=("noise", "heat"))
    assert watch.health.disturbed_share == 1 / 4


def test_without_blocks_nothing_is_disturbed() -> None:
    assert Health().disturbed_share == 0


# --- GPU ---


class FakeNvml:
    """NVML with one GPU; the numbers of the reasons are nvml.h's."""

    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = "sm", "gpu"
    nvmlClocksEventReasonGpuIdle = 0x01
    nvmlClocksEventReasonHwSlowdown = 0x08
    nvmlClocksEventReasonSwThermalSlowdown = 0x20
    nvmlClocksEventReasonHwThermalSlowdown = 0x40
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80

    def __init__(
        self, clock: int = 1500, heat: int = 60, processes: int = 1, active: int = 0
    ) -> None:
        self.clock, self.heat, self.processes, self.active = clock, heat, processes, active

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, identity: bytes) -> tuple[str, bytes]:
        return "handle of", identity

    def nvmlDeviceGetClockInfo(self, handle: object, kind: str) -> int:
        return {"sm": self.clock}[kind]

    def nvmlDeviceGetTemperature(self, handle: object, kind: str) -> int:
        return {"gpu": self.heat}[kind]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[str]:
        return ["process"] * self.processes

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object) -> int:
        return self.active


def look(**state: int) -> str:
    return Gpu(FakeNvml(**state), "handle").look(Health())


@pytest.mark.parametrize(
    ("active", "reason"),
    [
        (0x00, ""),
        (0x01, ""),  # idle is nobody's disturbance
        (0x08, "hardware slowdown"),
        (0x20, "thermal slowdown"),
        (0x40, "hardware thermal slowdown"),
        (0x80, "power brake"),
        (0x61, "thermal slowdown, hardware thermal slowdown"),
    ],
)
def test_a_gpu_that_throttles_says_why(active: int, reason: str) -> None:
    assert look(active=active) == reason


@pytest.mark.parametrize(
    ("processes", "reason"), [(0, ""), (1, ""), (2, "another process on the GPU")]
)
def test_a_second_process_on_the_gpu_is_a_disturbance(processes: int, reason: str) -> None:
    assert look(processes=processes) == reason


def test_clock_and_temperature_are_kept() -> None:
    seen = Health()
    for clock, heat in ((1500, 60), (1200, 71), (1700, 65)):
        Gpu(FakeNvml(clock=clock, heat=heat, processes=2), "handle").look(seen)
    assert (seen.clock_mhz, seen.temperature_c) == ((1200, 1700), 71)


def test_a_watch_looks_at_the_gpu_after_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml()
    watch = Watch(CPU, gpu=Gpu(nvml, "handle"))
    assert watched(monkeypatch, watch, 0) == ""
    nvml.active, nvml.heat = 0x20, 80
    assert watched(monkeypatch, watch, 0) == "thermal slowdown"
    nvml.active = 0
    assert watched(monkeypatch, watch, 5).startswith("other processes took")
    assert watch.health.temperature_c == 80


def test_the_gpu_is_found_by_its_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34")
    )
    gpu = Watch(torch.device("cuda")).gpu
    assert gpu is not None
    assert gpu.handle == ("handle of", b"GPU-12-34")


def test_without_nvml_there_is_no_gpu_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Watch(torch.device("cuda")).gpu is None


def test_a_processor_has_no_gpu_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert Watch(CPU).gpu is None
