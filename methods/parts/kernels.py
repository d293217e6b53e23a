"""Which of torch's fused attention kernels is asked first; each takes the next where it refuses a shape or a type."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel

TORCHS_OWN = "default"
ORDERS = {
    "cudnn-first": [
        SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH,
    ],
    "flash-first": [
        SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH,
    ],
    "efficient-first": [
        SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH,
    ],
}  # fmt: skip
"""By the name that the setting ``train.sdpa`` gives them; they matter on CUDA alone."""


def kernel_order(name: str) -> AbstractContextManager[Any]:
    """Inside, `torch.nn.functional.scaled_dot_product_attention` asks in that order; in torch's own for `TORCHS_OWN`.

    It stands in the layer, not around the loss: a compiled layer is compiled anew for another order only if it reads
    the order itself.
    """
    return nullcontext() if name == TORCHS_OWN else sdpa_kernel(ORDERS[name], set_priority=True)
