"""What a device can do: FLOP/s of a large matrix product, measured,
in the precision of the training.
"""

from __future__ import annotations

import torch

from harness.training.clock import StepClock
from harness.training.trainer import matrix_products

SIZE = {"cpu": 1024, "cuda": 8192}
REPEATS = 10


def matmul_flops(device: torch.device, precision: str, size: int | None = None) -> float | None:
    """FLOP/s (2 per multiply-add) of a square matrix product: the fastest of a few; None without
    memory for it.

    Args:
        precision: of the training: ``fp32``, ``tf32`` or ``bf16``.
        size: rows of the matrices; large enough to fill the device by default.
    """
    rows = size or SIZE[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    clock = StepClock(device)
    with matrix_products(precision):
        try:
            a, b = (torch.randn(rows, rows, device=device, dtype=dtype) for _ in range(2))
            torch.mm(a, b)
        except torch.OutOfMemoryError:
            return None
        for _ in range(REPEATS):
            clock.start()
            torch.mm(a, b)
            clock.mark("mm")
            clock.stop("mm")
    return 2 * rows**3 / min(clock.steps)
