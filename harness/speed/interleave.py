"""Training speed measured side by side: short alternating blocks, a same-against-same floor, paired
ratios.

All methods live in one process on one device. A round runs one block of every method and, half a
round away, a second block of the baseline; the next round starts one slot further (A B A' C | B A'
C A | ...), so that every arm takes every slot in turn and machine drift hits both sides of every
pair. A block that other processes disturbed is timed again, at most `RETRIES` times
(`harness.speed.disturbance`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from harness.isolation.guard import Guard
from harness.isolation.mistakes import forget_frames
from harness.speed.disturbance import Effort, Watch
from harness.speed.memory import peak_step_bytes
from harness.speed.timed import Timed
from harness.training.clock import StepClock

VERSION = 2
"""2: every arm takes every slot in turn; every second round used to run in reverse."""

WARMUP_BLOCKS = 6
PROBE_STEPS = 5
"""Steps in a row that size a block, where so many fit into it."""
_LONGEST_BLOCK = 100
"""Steps."""
MINIMUM_ROUNDS = 5
MAXIMUM_ROUNDS = 40
RETRIES = 2
"""How often a disturbed block is timed again before it counts as it is."""


@dataclass(eq=False)
class Arm:
    """One method in the measurement.

    Attributes:
        label: the method's row in the table.
        trainer: ready to step.
        clips: clips per step.
        block: steps per block.
        probe_seconds: step time at the end of the warm-up, good enough for a plan.
        blocks: mean step seconds of each counted block, in round order.
        phases: seconds per phase over all counted blocks.
        host: mean host seconds per step of each counted block (`StepClock.host_seconds`); empty on
            a CPU.
        warmup_seconds: wall time before the first counted block.
        peak_bytes: peak memory of a step.
        guard: of the method's row.
        effort: what the process itself took for the undisturbed ones of the counted blocks.
    """

    label: str
    trainer: Timed
    clips: float = 1.0
    block: int = 1
    probe_seconds: float = 0.0
    blocks: list[float] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    host: list[float] = field(default_factory=list)
    warmup_seconds: float = 0.0
    peak_bytes: int | None = None
    guard: Guard = field(default_factory=Guard)
    effort: Effort = field(default_factory=Effort)

    @property
    def step_seconds(self) -> float:
        """Median over blocks of the block's mean step time."""
        return statistics.median(self.blocks)

    @property
    def clip_seconds(self) -> list[float]:
        """Seconds per clip of each counted block: what ratios are formed of."""
        return [seconds / self.clips for seconds in self.blocks]

    def run(self) -> StepClock:
        """Run one block; its clock."""
        clock = StepClock(self.trainer.device)
        self.trainer.run_block(self.block, clock)
        return clock

    def settle(self) -> None:
        """An untimed step on a GPU, after another arm's block.

        Where memory is scarce it makes the allocator give back the other arm's cached blocks and
        take its own, which waits for the device. Worker processes that make batches bring untimed
        steps of their own.
        """
        if self.trainer.device.type == "cuda" and not self.trainer.lead:
            self.trainer.run_block(1, StepClock(self.trainer.device))

    def count(self, clock: StepClock) -> None:
        """Keep a block's times."""
        self.blocks.append(statistics.fmean(clock.steps))
        if clock.device.type == "cuda":
            self.host.append(clock.host_seconds / len(clock.steps))
        for name, seconds in clock.phases.items():
            self.phases[name] = self.phases.get(name, 0.0) + seconds


def warm_up(arm: Arm, block_seconds: float) -> None:
    """Step until two steps agree within 5 % (bounded), size the block, note step time and peak
    memory.

    The first steps, which compile and capture, never count. A block is sized by several steps in a
    row: a single one is launched into an empty queue, and takes longer than one of many where
    launching is what takes the time.
    """
    began = time.perf_counter()
    for _ in range(arm.trainer.first_steps):
        last = statistics.fmean(arm.run().steps)
    compiled = time.perf_counter()
    for _ in range(WARMUP_BLOCKS):
        current = statistics.fmean(arm.run().steps)
        settled = abs(current - last) < 0.05 * last
        last = current
        if settled or time.perf_counter() - compiled > 10 * block_seconds:
            break
    arm.block = min(PROBE_STEPS, _steps_in(block_seconds, last))
    if arm.block > 1:
        last = statistics.fmean(arm.run().steps)
    arm.block = _steps_in(block_seconds, last)
    arm.peak_bytes = peak_step_bytes(arm.trainer)
    arm.probe_seconds = last
    arm.warmup_seconds = time.perf_counter() - began


def _steps_in(block_seconds: float, step_seconds: float) -> int:
    """Steps of a block: 1 to `_LONGEST_BLOCK`."""
    return max(1, min(_LONGEST_BLOCK, round(block_seconds / step_seconds)))


def measure(
    arms: Sequence[Arm],
    baseline: Arm,
    *,
    seconds: float,
    failures: dict[str, Exception],
    watch: Watch | None = None,
    first: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    leave: Callable[[list[float], int], None] = lambda again, total: None,
) -> list[float]:
    """Interleave blocks of all (warm) arms for about ``seconds``; fills in ``arm.blocks``.

    An arm that throws is left out from then on and noted in ``failures``; the baseline's exceptions
    are passed on. Returns the second baseline block of every round, in seconds per clip: the
    same-against-same partner of ``baseline.clip_seconds``.

    Args:
        first: slot that the first round starts at.
        leave: called with what was measured so far, as it will be returned, and the number of
            rounds in all; after every round but the last.
    """
    watch = watch or Watch(baseline.trainer.device)
    again = replace(baseline, blocks=[], phases={}, host=[], effort=Effort())
    order = [baseline, *(arm for arm in arms if arm is not baseline)]
    order.insert((len(order) + 1) // 2, again)
    began, rounds, total = time.perf_counter(), 0, MINIMUM_ROUNDS
    while rounds < total:
        start = (first + rounds) % len(order)
        for arm in (*order[start:], *order[:start]):
            _guarded(arm, order, failures, watch)
            if arm not in order:
                forget_frames(failures[arm.label])
        rounds += 1
        per_round = (time.perf_counter() - began) / rounds
        total = min(MAXIMUM_ROUNDS, int(seconds / per_round))
        total = max(MINIMUM_ROUNDS, total - total % len(order))  # whole turns
        progress(rounds, total)
        if rounds < total:
            leave(again.clip_seconds, total)
    return again.clip_seconds


def _guarded(arm: Arm, order: list[Arm], failures: dict[str, Exception], watch: Watch) -> None:
    try:
        with arm.guard("being timed"):
            _timed(arm, watch)
    except Exception as problem:
        if (
            arm.trainer is order[0].trainer
        ):  # the baseline, or its second block: nothing can be compared without
            raise
        failures[arm.label] = problem
        order.remove(arm)


def _timed(arm: Arm, watch: Watch) -> None:
    """One counted block; a disturbed one is thrown away and timed again while tries are left."""
    arm.settle()
    clocks: list[StepClock] = []
    for tries_left in reversed(range(RETRIES + 1)):
        reason = watch.disturbance(lambda: clocks.append(arm.run()))
        watch.note(reason, counted=not (reason and tries_left))
        if not reason:
            break
    arm.count(clocks[-1])
    if not reason:
        arm.effort.add(len(clocks[-1].steps), clocks[-1].own_seconds)
