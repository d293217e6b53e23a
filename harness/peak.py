"""What a device can do: FLOP/s of a large matrix product, measured, in the precision of the training."""

from __future__ import annotations

import torch

from harness.clock import StepClock

SIZE = {"cpu": 1024, "cuda": 8192}
REPEATS = 10


def matmul_flops(device: torch.device, precision: str, size: int | None = None) -> float:
    """FLOP/s (2 per multiply-add) of a square matrix product: the fastest of a few.

    Args:
        precision: ``fp32``, or ``bf16``.
        size: rows of the matrices; large enough to fill the device by default.
    """
    rows = size or SIZE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(rows, rows, device=device, dtype=dtype) for _ in range(2))
    clock = StepClock(device)
    for _ in range(REPEATS + 1):  # the first one warms up, and the fastest counts
        clock.start()
        torch.mm(a, b)
        clock.mark("mm")
        clock.stop("mm")
    return 2 * rows**3 / min(clock.steps)
