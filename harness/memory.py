"""Peak memory of a training step: the CUDA allocator's counter, or the CPU allocations that torch's profiler saw."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from harness.clock import StepClock
from harness.training import Trainer


def peak_step_bytes(trainer: Trainer) -> int:
    """Bytes at the peak of one step: what lives before it (weights, optimiser state) plus what the step adds."""
    if trainer.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trainer.device)
        others = torch.cuda.memory_allocated(trainer.device) - resident_bytes(trainer)  # the data, other methods
        trainer.run_block(1, StepClock(trainer.device))
        return torch.cuda.max_memory_allocated(trainer.device) - others
    return resident_bytes(trainer) + _peak_of_allocations(trainer)


def resident_bytes(trainer: Trainer) -> int:
    """Weights, buffers and optimiser state."""
    tensors = [*trainer.method.parameters(), *trainer.method.buffers()]
    for state in trainer.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _peak_of_allocations(trainer: Trainer) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        trainer.run_block(1, StepClock(trainer.device))
    memory = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    level = peak = 0
    for event in sorted(memory, key=lambda event: event.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    return peak
