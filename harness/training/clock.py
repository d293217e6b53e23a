"""Clocks: the timed region of training, and the ledger that accounts
for a whole run's wall time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

VERSION = 1


class StepClock:
    """Times the phases of training steps in blocks: one synchronisation per block, none per step.

    On a GPU the stamps are CUDA events, read when the block ends; on a CPU they are
    ``time.perf_counter``.

    Attributes:
        phases: seconds per phase, all blocks added.
        steps: seconds of every step.
        block: how many of them were before the last start.
        processor_seconds: processor time of all threads of this process between the starts and
            stops.
        host_seconds: time from each start until everything was handed to the device, the wait for
            it at the end left out; 0 on a CPU, which does the work itself.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.phases: dict[str, float] = defaultdict(float)
        self.steps: list[float] = []
        self.block = 0
        self.processor_seconds = self.host_seconds = 0.0
        self._host_began = 0.0
        self._processor_began = 0.0
        self._stamps: list[tuple[str, torch.cuda.Event | float]] = []

    def start(self) -> None:
        """Begin a block."""
        self.synchronise()
        self._processor_began = time.process_time()
        if self.device.type == "cuda":
            self._host_began = time.perf_counter()
        self.block = len(self.steps)
        self._stamps = [("", self._now())]

    def mark(self, phase: str) -> None:
        """The time since the last stamp belongs to ``phase``."""
        self._stamps.append((phase, self._now()))

    def stop(self, last_phase: str) -> None:
        """End a block; a step ends with each stamp of ``last_phase``."""
        if self.device.type == "cuda":
            self.host_seconds += time.perf_counter() - self._host_began
        self.synchronise()
        self.processor_seconds += time.process_time() - self._processor_began
        step = 0.0
        for (_, before), (phase, after) in zip(self._stamps, self._stamps[1:], strict=False):
            seconds = _elapsed(before, after)
            self.phases[phase] += seconds
            step += seconds
            if phase == last_phase:
                self.steps.append(step)
                step = 0.0

    @property
    def seconds(self) -> float:
        """Time on the clock."""
        return sum(self.phases.values())

    @property
    def own_seconds(self) -> float:
        """What this process itself took: processor time, which waiting for others is not; on a GPU
        the clock's time.

        A GPU's host only hands out work, and its processor time says nothing of the steps.
        """
        return self.seconds if self.device.type == "cuda" else self.processor_seconds

    def _now(self) -> torch.cuda.Event | float:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def synchronise(self) -> None:
        """Wait until the device has done what it was asked to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _elapsed(before: torch.cuda.Event | float, after: torch.cuda.Event | float) -> float:
    if isinstance(before, float) or isinstance(after, float):
        assert isinstance(before, float)
        assert isinstance(after, float)
        return after - before
    return before.elapsed_time(after) / 1000.0


class Ledger:
    """Accounts for the wall time of a run: named phases, and what no phase claims.

    Args:
        phases: seconds that earlier processes spent on this run.
        wall: the same in all.
    """

    def __init__(self, phases: Mapping[str, float] | None = None, wall: float = 0.0) -> None:
        self.phases: dict[str, float] = defaultdict(float, phases or {})
        self._began = time.perf_counter() - wall
        self._ended: float | None = None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Everything inside belongs to phase ``name``; phases do not nest."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.phases[name] += time.perf_counter() - began

    @contextmanager
    def block(self, clock: StepClock) -> Iterator[None]:
        """A training block: its phases are those that the training clock adds;
        a broken-off block is one phase.
        """
        before, began = dict(clock.phases), time.perf_counter()
        try:
            yield
        except BaseException:
            self.phases["broken off"] += time.perf_counter() - began
            raise
        for name, seconds in clock.phases.items():
            self.phases[name] += seconds - before.get(name, 0.0)

    def close(self) -> None:
        """Stop the wall clock."""
        self._ended = time.perf_counter()

    @property
    def wall(self) -> float:
        """Seconds since the ledger was opened, until it was closed."""
        return (self._ended or time.perf_counter()) - self._began

    @property
    def untracked(self) -> float:
        """Share of the wall time that no phase claims."""
        return 1 - sum(self.phases.values()) / self.wall
