"""Was a timed block disturbed? Other processes on the processor; clocks, heat and other users of a
GPU.

A block that something else took time from says nothing about a method. It is timed again at most
twice, and what stays disturbed is counted in the record (RULES.md, "Disturbed blocks").
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch

from harness.isolation.outliving import strays
from harness.machine import processors
from harness.records.schema import Health
from harness.training.distributed import joined

FOREIGN_SHARE = 0.1
"""Above this share of all processor time taken by others, a block counts as disturbed."""
_SHORTEST = 0.2
"""Seconds of processor time below which the kernel's ticks are too coarse to judge."""
SHORTEST_EFFORT = 0.5
"""Seconds below which an `Effort` is too short to judge."""
_THROTTLES = {
    "nvmlClocksEventReasonHwSlowdown": "hardware slowdown",
    "nvmlClocksEventReasonSwThermalSlowdown": "thermal slowdown",
    "nvmlClocksEventReasonHwThermalSlowdown": "hardware thermal slowdown",
    "nvmlClocksEventReasonHwPowerBrakeSlowdown": "power brake",
}


@dataclass
class Watch:
    """Watches blocks of one measurement and keeps their `Health`."""

    device: torch.device
    health: Health = field(default_factory=Health)
    gpu: Gpu | None = None
    last_share: float = 0.0

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            self.gpu = self.gpu or Gpu.open(self.device)
            self.health.gpu_watched = self.gpu is not None

    def disturbance(self, block: Callable[[], None]) -> str:
        """Run a block; why it was disturbed, or an empty string."""
        before = self.begin()
        block()
        return self.since(before)

    def begin(self) -> Moment:
        """This moment, to be asked about with `since`."""
        return Moment.now(self.device)

    def since(self, moment: Moment) -> str:
        """Why what ran since then was disturbed, or an empty string."""
        share = moment.foreign_share()
        # A GPU's step does not wait for a busy processor elsewhere on its host: there the share is
        # only kept.
        busy = f"other processes took more than {100 * FOREIGN_SHARE:.0f} % of the processor"
        reason = busy if share > FOREIGN_SHARE and self.device.type == "cpu" else ""
        if _allocation_retries(self.device) > moment.retries:
            reason = "GPU memory ran short, and its cache was emptied"
        if self.gpu:
            reason = self.gpu.look(self.health) or reason
        if strays():  # in this process, so that their time counts as its own
            reason = reason or "a thread that a method left running"
        self.last_share = share
        return reason

    def note(self, reason: str, *, counted: bool) -> None:
        """Book the last block: counted, disturbed or not, or thrown away."""
        if counted:
            self.health.foreign_share = max(self.health.foreign_share, self.last_share)
        self.health.blocks += counted
        self.health.repeated += not counted
        self.health.disturbed += counted and bool(reason)
        if reason:
            self.health.reasons = tuple(dict.fromkeys((*self.health.reasons, reason)))


@dataclass
class Effort:
    """What the process itself took for steps of blocks that nothing disturbed, to compare steps at
    two times.

    Attributes:
        leave_out: blocks at the beginning, which hold what only first steps do.
        seconds: `harness.training.clock.StepClock.own_seconds`.
    """

    leave_out: int = 0
    steps: int = 0
    seconds: float = 0.0

    def add(self, steps: int, seconds: float) -> None:
        """Book an undisturbed block."""
        if self.leave_out:
            self.leave_out -= 1
            return
        self.steps += steps
        self.seconds += seconds

    @property
    def step_seconds(self) -> float | None:
        """Mean per step; None below `SHORTEST_EFFORT`."""
        return self.seconds / self.steps if self.seconds >= SHORTEST_EFFORT else None


@dataclass(frozen=True)
class ProcessorTime:
    """Busy processor seconds so far: of the whole machine, and of this process with its ended
    children and its loaders' workers.

    Ranks that train together are one process here.
    """

    machine: float
    own: float

    @classmethod
    def now(cls) -> ProcessorTime:
        """The counters at this moment."""
        machine = sum(busy_seconds(core) for core in own_cores(psutil.cpu_times(percpu=True)))
        own = os.times()
        workers = [child.pid for child in multiprocessing.active_children() if child.daemon]
        others = sum(map(_seconds_of, filter(None, [*joined().processes, *workers])))
        return cls(
            machine, own.user + own.system + own.children_user + own.children_system + others
        )

    def foreign_share(self, before: ProcessorTime, wall: float) -> float:
        """Share of all processors' time between two moments that others took;
        0 when too short to tell.
        """
        capacity = wall * processors()
        if capacity < _SHORTEST:
            return 0.0
        return max(0.0, (self.machine - before.machine) - (self.own - before.own)) / capacity


@dataclass(frozen=True)
class Moment:
    """A moment, to ask later what other processes took since then.

    Attributes:
        retries: `_allocation_retries` until then.
    """

    clock: float
    processor: ProcessorTime
    retries: int = 0

    @classmethod
    def now(cls, device: torch.device | None = None) -> Moment:
        """This moment; of a device too where one is given."""
        return cls(
            time.perf_counter(), ProcessorTime.now(), _allocation_retries(device) if device else 0
        )

    def foreign_share(self) -> float:
        """Share of all processors' time since then that others took; 0 when too short to tell."""
        return ProcessorTime.now().foreign_share(self.processor, time.perf_counter() - self.clock)


def _allocation_retries(device: torch.device) -> int:
    """How often so far a GPU had no memory left, so that torch emptied its cache and asked again; 0
    for a CPU.

    That waits for the device and takes milliseconds, whatever the method does.
    """
    return (
        int(torch.cuda.memory_stats(device).get("num_alloc_retries", 0))
        if device.type == "cuda"
        else 0
    )


def busy_lines(share: float, count: int, *, judged: bool, threads: int | None = None) -> list[str]:
    """What it means that other processes take a share of so many processors; nothing where it means
    nothing.

    Args:
        judged: a measurement follows whose blocks such a share disturbs.
        threads: that this process computes with; as many as processors without.
    """
    if share <= FOREIGN_SHARE:
        return []
    verdicts = "speed verdicts are likely to read 'not measurable here' and " if judged else ""
    free = max(1, round(count * (1 - share)))
    fewer = f", or leave them room with --threads {free}" if free < (threads or count) else ""
    return [
        f"busy: other processes take {count * share:.1f} of {count} processors:"
        f" {verdicts}everything takes longer; wait for them{fewer}"
    ]


def own_cores(cores: list[Any]) -> list[Any]:
    """The counters of the processors that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return cores
    return [cores[index] for index in sorted(os.sched_getaffinity(0)) if index < len(cores)]


def _seconds_of(process: int) -> float:
    """Processor seconds of another process so far; 0 where it is gone."""
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def busy_seconds(times: Any) -> float:
    """Seconds that a processor was busy; guests are counted in user and nice already."""
    idle = times.idle + getattr(times, "iowait", 0.0)
    return float(
        sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    )


class Gpu:
    """One GPU through NVML (the optional package nvidia-ml-py).

    Args:
        nvml: the module ``pynvml``.
        handle: its handle of the GPU.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle

    @classmethod
    def open(cls, device: torch.device) -> Gpu | None:
        """The GPU behind a torch device; None where NVML is not there."""
        try:
            import pynvml

            pynvml.nvmlInit()
            identity = str(torch.cuda.get_device_properties(device).uuid)
            gpu = cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}".encode()))
            gpu.look(
                Health()
            )  # whatever this GPU does not support shows here, not in the middle of a measurement
            return gpu
        except Exception:  # noqa: BLE001 - whatever NVML lacks here, the measurement goes on without it
            return None

    def look(self, health: Health) -> str:
        """Note clock and temperature; why the GPU's last block was disturbed,
        or an empty string.
        """
        nvml, handle = self.nvml, self.handle
        clock = int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        seen = (*health.clock_mhz, clock)
        health.clock_mhz = (min(seen), max(seen))
        heat = int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
        health.temperature_c = max(heat, health.temperature_c or heat)
        if len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)) > 1:
            return "another process on the GPU"
        active = int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        return ", ".join(
            name for bit, name in _THROTTLES.items() if active & int(getattr(nvml, bit, 0))
        )
