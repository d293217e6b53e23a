"""Model FLOPs of a training step, counted once on the meta device with plain attention.

Convention: 2 FLOPs per multiply-add; matrix products and convolutions only, no normalisation,
softmax or activation. *Per clip* means two bodies: an encoder's forward cost then agrees with the
one that GFP prints (arXiv 2509.03609) within 1 %. Counting with plain attention makes the number
independent of the kernel that runs: a fused kernel's recomputation is not model work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from datasets.batches import Batch
from datasets.layouts import SkeletonLayout
from harness.isolation.contract import loss_and_parts
from harness.records.schema import BOUND
from harness.spec.model import MethodSpec, RunSpec
from harness.training.build import build_encoder, build_method
from methods.base import Method, OptionError
from methods.parts.encoder import Encoder, set_attention_kernel

_ATEN = torch.ops.aten


def flop_counter() -> FlopCounterMode:
    """Counts FLOPs of what runs inside it, by this suite's own formulas of matrix products.

    Those of torch up to 2.11 refuse a product with ``out_dtype``, which CUDA alone has.
    """
    return FlopCounterMode(
        display=False,
        custom_mapping={
            _ATEN.mm: _product_flops,
            _ATEN.bmm: _product_flops,
            _ATEN.addmm: _added_product_flops,
            _ATEN.baddbmm: _added_product_flops,
        },
    )


def _product_flops(one: torch.Size, other: torch.Size, *_: object, **__: object) -> int:
    """Of ``[..., m, k] @ [..., k, n]``; what else is given, such as a dtype, changes nothing."""
    return 2 * one.numel() * other[-1]


def _added_product_flops(
    _: object, one: torch.Size, other: torch.Size, *__: object, **___: object
) -> int:
    """Of a product that is added to something."""
    return _product_flops(one, other)


def step_flops(method: type[Method], spec: RunSpec, layout: SkeletonLayout) -> float:
    """FLOPs of one training step of ``spec.train.batch_size`` body sequences,
    forward and backward.
    """
    built, x = _on_meta(method, spec, layout)
    with flop_counter() as counter:
        loss, _ = loss_and_parts(built, built.loss(x))
        loss.backward()
    return float(counter.get_total_flops())


def bound_flops(
    bound: type[Method], method: type[Method], spec: RunSpec, layout: SkeletonLayout
) -> float | None:
    """FLOPs of a step of the decoder-free bound on what a method's encoder sees at least.

    At the method's own ``mask_ratio``, else at the bound's, on the shortest of its views. None in
    the open division, and where the ratio leaves none of so short a view visible.
    """
    built, x = _on_meta(method, spec, layout)
    if built.about.division == "open":
        return None
    ratio = getattr(built.options, "mask_ratio", None)
    options = {"mask_ratio": ratio} if isinstance(ratio, float) and 0 < ratio < 1 else {}
    frames = min(view.shape[1] for view in (x if isinstance(x, tuple) else (x,)))
    alone = {
        "method": MethodSpec(name=BOUND, options=options),
        "encoder": spec.encoder.model_copy(update={"frames": frames}),
    }
    try:
        return step_flops(bound, spec.model_copy(update=alone), layout)
    except OptionError:
        return None


def _blank_batch(method: Method, size: int, layout: SkeletonLayout) -> Batch:
    """A batch of the method's views on the meta device: shapes without values."""
    whole = method.evaluated_encoder().grid.frames
    looks = tuple(
        torch.empty(size, view.frames or whole, layout.joint_count, 3, device="meta")
        for view in method.views
    )
    return looks if len(looks) > 1 else looks[0]


def forward_shares(method: type[Method], spec: RunSpec, layout: SkeletonLayout) -> dict[str, float]:
    """Shares of a step's forward FLOPs that the method's own modules take, ``rest`` for what none
    of them does.

    Forward alone, because the counter cannot tell where the backward pass of a module ends whose
    input needs no gradient. A module counts from the outermost call inside it: a teacher's encoder
    counts for the teacher.
    """
    built, x = _on_meta(method, spec, layout)
    with flop_counter() as counter:
        _Loss(built)(x)
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    total = counter.get_total_flops()
    parts = {
        name: _outermost(flops, f"{_Loss.__name__}.method.{name}")
        for name, _ in built.named_children()
    }
    parts["rest"] = total - sum(parts.values())
    return {name: count / total for name, count in parts.items() if count}


class _Loss(nn.Module):
    """A method's loss as a module, which the counter needs to name the modules inside."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, x: Batch) -> Tensor:
        return self.method.loss(x)[0]


def _outermost(flops: dict[str, int], name: str) -> int:
    """FLOPs of the module of that name, or, where it is never called itself,
    of the outermost modules in it.
    """
    if name in flops:
        return flops[name]
    inside = [other for other in flops if other.startswith(f"{name}.")]
    return sum(
        flops[one] for one in inside if not any(one.startswith(f"{other}.") for other in inside)
    )


def _on_meta(method: type[Method], spec: RunSpec, layout: SkeletonLayout) -> tuple[Method, Batch]:
    """The method with plain attention and a batch for it, both without storage."""
    built = build_method(method, spec, layout, "meta")
    set_attention_kernel(built, fused=False)
    return built, _blank_batch(built, spec.train.batch_size, layout)


def encoder_flops(spec: RunSpec, layout: SkeletonLayout) -> float:
    """FLOPs of the shared encoder on every token of one body sequence, forward:
    what an evaluation pays for it.
    """
    return forward_flops(build_encoder(spec, layout, "meta"), layout)


def forward_flops(encoder: Encoder, layout: SkeletonLayout) -> float:
    """FLOPs of an encoder's forward pass on every token of one body sequence;
    it stands on the meta device.
    """
    set_attention_kernel(encoder, fused=False)
    x = torch.empty(1, encoder.grid.frames, layout.joint_count, 3, device="meta")
    with flop_counter() as counter, torch.no_grad():
        encoder(x)
    return float(counter.get_total_flops())
