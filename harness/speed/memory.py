"""Peak memory of a training step: the CUDA allocator's counter,
or the CPU allocations that torch's profiler saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from harness.speed.timed import Timed
from harness.training.clock import StepClock

_FIRST_BATCH, _MULTIPLE, _LARGEST_BATCH = 8, 8, 4096
"""Body sequences: the smallest batch tried, the step between batches, and where the search ends."""


def peak_step_bytes(trainer: Timed) -> int | None:
    """Bytes at the peak of one step: what lives before it (weights, optimiser state) plus what the
    step adds.

    None under CUDA graphs: their memory was taken when they were recorded, and a step takes none.
    """
    if trainer.train.cuda_graphs:
        return None
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
        others = torch.cuda.memory_allocated(trainer.device) - resident_bytes(
            trainer
        )  # the data, other methods
        trainer.run_block(1, StepClock(trainer.device))
        return torch.cuda.max_memory_allocated(trainer.device) - others
    return resident_bytes(trainer) + _peak_of_allocations(trainer)


def largest_batch(peak: Callable[[int], int], cap: float) -> int:
    """The largest batch, in multiples of 8, whose step stays under ``cap`` bytes.

    Memory grows in nearly a straight line with the batch: two small batches predict the answer,
    which is tried and lowered until it holds; the line through that one then says whether a larger
    one is worth a last try. Raises `MemoryError` when not even the smallest batch fits.

    Args:
        peak: peak bytes of a step at a batch size; running out of memory counts as over the cap.
    """

    def needed(size: int) -> float:
        try:
            return peak(size)
        except torch.OutOfMemoryError:
            return math.inf

    def predicted(low: float, size: int, high: float) -> int:
        slope = max(1.0, (high - low) / (size - _FIRST_BATCH))
        return min(_LARGEST_BATCH, _FIRST_BATCH + int((cap - low) / slope)) // _MULTIPLE * _MULTIPLE

    low, high = needed(_FIRST_BATCH), needed(2 * _FIRST_BATCH)
    if low > cap:
        raise MemoryError(
            f"a step of {_FIRST_BATCH} body sequences takes {low / 1e9:.2f} GB, over the cap"
        )
    size = predicted(low, 2 * _FIRST_BATCH, high)
    while size > _FIRST_BATCH and (high := needed(size)) > cap:
        size = min(size - _MULTIPLE, int(0.95 * size)) // _MULTIPLE * _MULTIPLE
    if size <= _FIRST_BATCH:
        return _FIRST_BATCH
    larger = predicted(low, size, high)
    return larger if larger > size and needed(larger) <= cap else size


def resident_bytes(trainer: Timed) -> int:
    """Weights, buffers and optimiser state."""
    return sum(tensor.numel() * tensor.element_size() for tensor in trainer.resident())


def _peak_of_allocations(trainer: Timed) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        trainer.run_block(1, StepClock(trainer.device))
    memory = [
        event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"
    ]
    level = peak = 0
    for event in sorted(memory, key=lambda event: event.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak
