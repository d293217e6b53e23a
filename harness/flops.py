"""Model FLOPs of a training step, counted once on the meta device with plain attention.

Convention: 2 FLOPs per multiply-add; matrix products and convolutions only, no normalisation, softmax or
activation; *per clip* means two bodies: `encoder_macs` then agrees with the encoder cost that GFP prints
(arXiv 2509.03609) within 1 %. Counting with plain attention makes the number independent of the kernel that runs: a
fused kernel's recomputation is not model work.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from datasets.batches import Batch
from datasets.layouts import SkeletonLayout
from harness.records import BODIES_PER_CLIP
from harness.spec import RunSpec
from harness.training import build_method
from methods.base import Method
from methods.parts.encoder import EncoderSize, set_attention_kernel


def step_flops(method: type[Method], spec: RunSpec, layout: SkeletonLayout) -> float:
    """FLOPs of one training step of ``spec.train.batch_size`` body sequences, forward and backward."""
    built = build_method(method, spec, layout, "meta")
    set_attention_kernel(built, fused=False)
    x = blank_batch(built, spec.train.batch_size, layout)
    with FlopCounterMode(display=False) as counter:
        loss, _ = built.loss(x)
        loss.backward()
    return float(counter.get_total_flops())


def blank_batch(method: Method, size: int, layout: SkeletonLayout) -> Batch:
    """A batch of the method's views on the meta device: shapes without values."""
    whole = method.evaluated_encoder().grid.frames
    looks = tuple(
        torch.empty(size, view.frames or whole, layout.joint_count, 3, device="meta") for view in method.views
    )
    return looks if len(looks) > 1 else looks[0]


def block_macs(tokens: int, width: int) -> int:
    """Multiply-adds of one transformer block: ``12 N d^2 + 2 N^2 d``, checked against torch's flop counter."""
    return 12 * tokens * width**2 + 2 * tokens**2 * width


def encoder_macs(size: EncoderSize, tokens: int) -> int:
    """Multiply-adds of the encoder on ``tokens`` visible tokens, patch embedding included."""
    return size.depth * block_macs(tokens, size.width) + tokens * size.patch * 3 * size.width


def training_gflops(macs: float) -> float:
    """GFLOPs per clip of a training step (forward and twice that backward, two bodies) from forward MACs."""
    return macs * 2 * 3 * BODIES_PER_CLIP / 1e9
