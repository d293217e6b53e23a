"""Training speed measured side by side: short alternating blocks, a same-against-same floor, paired ratios.

All methods live in one process on one device. A round runs one block of every method and a second block of the
baseline; the next round runs in reverse (A B A' | A' B A). Machine drift then hits both sides of every pair.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.clock import StepClock
from harness.memory import peak_step_bytes
from harness.training import Trainer

WARMUP_BLOCKS = 6
MINIMUM_ROUNDS = 5
MAXIMUM_ROUNDS = 40


@dataclass(eq=False)
class Arm:
    """One method in the measurement.

    Attributes:
        label: the method's row in the table.
        trainer: ready to step.
        block: steps per block.
        probe_seconds: step time at the end of the warm-up, good enough for a plan.
        blocks: median step seconds of each counted block, in round order.
        phases: seconds per phase over all counted blocks.
        warmup_seconds: wall time before the first counted block.
        peak_bytes: peak memory of a step.
    """

    label: str
    trainer: Trainer
    block: int = 1
    probe_seconds: float = 0.0
    blocks: list[float] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)
    warmup_seconds: float = 0.0
    peak_bytes: int | None = None

    @property
    def step_seconds(self) -> float:
        """Median over blocks of the block's median step time."""
        return statistics.median(self.blocks)

    def run(self, *, count: bool) -> float:
        """Run one block; its median step time in seconds."""
        clock = StepClock(self.trainer.device)
        self.trainer.run_block(self.block, clock)
        median = statistics.median(clock.steps)
        if count:
            self.blocks.append(median)
            for name, seconds in clock.phases.items():
                self.phases[name] = self.phases.get(name, 0.0) + seconds
        return median


def warm_up(arm: Arm, block_seconds: float) -> None:
    """Step until two steps agree within 5 % (bounded), size the block, note step time and peak memory."""
    began = time.perf_counter()
    last = arm.run(count=False)
    for _ in range(WARMUP_BLOCKS):
        current = arm.run(count=False)
        settled = abs(current - last) < 0.05 * last
        last = current
        if settled or time.perf_counter() - began > 10 * block_seconds:
            break
    arm.peak_bytes = peak_step_bytes(arm.trainer)
    arm.block = max(1, min(100, round(block_seconds / last)))
    arm.probe_seconds = last
    arm.warmup_seconds = time.perf_counter() - began


def measure(
    arms: Sequence[Arm],
    baseline: Arm,
    *,
    seconds: float,
    failures: dict[str, Exception],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Interleave blocks of all (warm) arms for about ``seconds``; fills in ``arm.blocks``.

    An arm that throws is left out from then on and noted in ``failures``; the baseline's exceptions are passed on.
    Returns the second baseline block of every round: the same-against-same partner of ``baseline.blocks``.
    """
    again = Arm(baseline.label, baseline.trainer, block=baseline.block)
    order = [baseline, *(arm for arm in arms if arm is not baseline), again]
    began, rounds, total = time.perf_counter(), 0, MINIMUM_ROUNDS
    while rounds < total:
        for arm in tuple(order if rounds % 2 == 0 else reversed(order)):
            _guarded(arm, order, failures)
        rounds += 1
        per_round = (time.perf_counter() - began) / rounds
        total = max(MINIMUM_ROUNDS, min(MAXIMUM_ROUNDS, int(seconds / per_round)))
        progress(rounds, total)
    return again.blocks


def _guarded(arm: Arm, order: list[Arm], failures: dict[str, Exception]) -> None:
    try:
        arm.run(count=True)
    except Exception as problem:
        if arm.trainer is order[0].trainer:  # the baseline, or its second block: nothing can be compared without
            raise
        failures[arm.label] = problem
        order.remove(arm)
