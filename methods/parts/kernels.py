"""Which of torch's fused attention kernels is asked first, and in which precision it computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

VERSION = 1

TORCHS_OWN = "default"
ORDERS = {
    "cudnn-first": [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ],
    "flash-first": [
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.MATH,
    ],
    "efficient-first": [
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.MATH,
    ],
}
"""By the name that the setting ``train.sdpa`` gives them. What one refuses, by shape or type,
the next one gets.
"""


def kernel_order(name: str) -> AbstractContextManager[Any]:
    """Inside, `torch.nn.functional.scaled_dot_product_attention` asks in that order; in torch's own
    for `TORCHS_OWN`.

    It stands in the layer, not around the loss: a compiled layer is compiled anew for another order
    only if it reads the order itself.
    """
    return nullcontext() if name == TORCHS_OWN else sdpa_kernel(ORDERS[name], set_priority=True)


def full_precision(x: Float[Tensor, "..."]) -> torch.autocast:
    """No autocast on the device of ``x``."""
    return torch.autocast("cuda" if x.is_cuda else "cpu", enabled=False)


def attention_in_float32(
    query: Float[Tensor, "B H n D_H"],
    key: Float[Tensor, "B H L D_H"],
    value: Float[Tensor, "B H L D_H"],
) -> Float[Tensor, "B H n D_H"]:
    """Fused attention of n queries in float32 whatever the run's precision; its result is float32.

    On a CPU the kernel's backward pass takes twice as long in bfloat16 as in float32 (torch 2.14,
    with AMX).
    """
    with full_precision(query):
        return torch.nn.functional.scaled_dot_product_attention(
            query.float(), key.float(), value.float()
        )
