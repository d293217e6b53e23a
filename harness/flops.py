"""Model FLOPs of a training step, counted once on the meta device with plain attention.

Convention: 2 FLOPs per multiply-add; matrix products and convolutions only, no normalisation, softmax or
activation. *Per clip* means two bodies: an encoder's forward cost then agrees with the one that GFP prints
(arXiv 2509.03609) within 1 %. Counting with plain attention makes the number independent of the kernel that runs: a
fused kernel's recomputation is not model work.
"""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from datasets.batches import Batch
from datasets.layouts import SkeletonLayout
from harness.spec import RunSpec
from harness.training import build_method
from methods.base import Method
from methods.parts.encoder import set_attention_kernel


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
