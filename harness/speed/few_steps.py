"""A method's step time and memory from a few steps, within seconds: for a plan, never for a
comparison.

A step of the run's own batch may take a minute on a small machine. It is then guessed from two
smaller ones. Memory lies on the straight line through them (`harness.speed.memory`). So does time,
where a part of a step does not grow with the batch; it is in proportion to the batch at most. The
estimate is the middle.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from datasets.wording import counted
from harness.speed.estimate import StepEstimate
from harness.speed.flops import step_flops
from harness.speed.measurement import timed_trainer
from harness.speed.memory import peak_step_bytes
from harness.training.build import Cell
from harness.training.clock import StepClock
from harness.training.data import LoadedData

_FIRST_BATCH = 4
"""Body sequences of the first steps, which say how many can be afforded."""
_STEPS = 3
_UNTIMED = 2
"""Steps beside the timed ones: the first of all, and the one whose memory is watched."""


@dataclass(frozen=True)
class TimedBatch:
    """Steps of one batch size.

    Attributes:
        steps: seconds of each.
    """

    batch: int
    steps: list[float]
    peak_bytes: int | None


def few_steps(cell: Cell, data: LoadedData, *, seconds: float) -> StepEstimate:
    """Run about ``seconds`` of a method's steps, more only where the smallest batch takes longer.

    Compiled methods run uncompiled: compiling takes minutes, and a compiled step takes less time
    and memory. Whatever the method throws is passed on.
    """
    assert cell.method is not None
    wanted, train = cell.spec.train.batch_size, cell.spec.train
    uncompiled = Cell(
        cell.label, cell.spec.with_train(compile=False, cuda_graphs=False), cell.method, cell.guard
    )
    flops = step_flops(cell.method, cell.spec, data.clips.layout)
    divisible = (
        cell.spec.data.loader == "device"
    )  # worker processes start for every trainer: once is enough
    small = _trial(uncompiled, data, min(_FIRST_BATCH, wanted) if divisible else wanted, steps=2)
    large = small
    if small.batch < wanted:
        affordable = int(small.batch * seconds / ((_STEPS + _UNTIMED) * min(small.steps)))
        if affordable > small.batch:
            large = _trial(uncompiled, data, min(wanted, affordable), steps=_STEPS)
        else:
            small = _trial(uncompiled, data, _FIRST_BATCH // 2, steps=2)
    seconds, low, high = times_at_batch(wanted, small, large)
    steps = counted(len(large.steps), "step")
    smaller = f" of {large.batch} body sequences, for {wanted}" if large.batch != wanted else ""
    line = ", on a line through two smaller batches" if large.batch != wanted else ""
    plain = ", not compiled as in the run" if train.compile else ""
    return StepEstimate(
        seconds=seconds,
        low=low,
        high=high,
        flops=flops,
        source=f"{steps}{smaller}, just timed on this machine{plain}",
        peak_bytes=at_batch(wanted, small, large),
        memory_source=f"as allocated on this machine{line}",
    )


def _trial(cell: Cell, data: LoadedData, batch: int, *, steps: int) -> TimedBatch:
    """Time some steps of a batch size, after a first one, and watch the memory of one."""
    assert cell.method is not None
    with cell.guard("warming up"):
        trainer = timed_trainer(cell.method, cell.spec.with_train(batch_size=batch), data)
        trainer.run_block(1, StepClock(trainer.device))
        peak = peak_step_bytes(trainer)
        clock = StepClock(trainer.device)
        trainer.run_block(steps, clock)
    return TimedBatch(batch, clock.steps, peak)


def times_at_batch(wanted: int, small: TimedBatch, large: TimedBatch) -> tuple[float, float, float]:
    """Expected, lowest and highest seconds of a step at a batch size, from steps of two others."""
    if large.batch == wanted:
        return statistics.median(large.steps), min(large.steps), max(large.steps)
    slope = (min(large.steps) - min(small.steps)) / (large.batch - small.batch)
    on_line = min(large.steps) + max(0.0, slope) * (wanted - large.batch)
    in_proportion = wanted / large.batch
    low = min(on_line, in_proportion * min(large.steps))
    return (
        (low + in_proportion * statistics.median(large.steps)) / 2,
        low,
        in_proportion * max(large.steps),
    )


def at_batch(wanted: int, small: TimedBatch, large: TimedBatch) -> int | None:
    """Peak memory at a batch size, on the line through two others;
    None where memory was not watched.
    """
    if large.peak_bytes is None or small.peak_bytes is None:
        return None
    if large.batch in (small.batch, wanted):
        return large.peak_bytes
    slope = (large.peak_bytes - small.peak_bytes) / (large.batch - small.batch)
    return round(large.peak_bytes + slope * (wanted - large.batch))
