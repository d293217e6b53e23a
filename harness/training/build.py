"""Building what is trained: the shared encoder, the method on it,
the optimiser and the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler

from datasets.layouts import SkeletonLayout
from harness.errors import UsageError, nearest
from harness.isolation.guard import Guard
from harness.records.schema import EncoderInfo
from harness.spec.model import EncoderSpec, RunSpec, TrainSpec
from methods.base import Method
from methods.parts.encoder import (
    SIZES,
    Encoder,
    EncoderSize,
    Skeleton,
    SkeletonEncoder,
    set_attention_kernel,
)

VERSION = 1
_MOST_PARAMETERS = 2_000_000_000
"""Of an encoder; the published one has 6 million."""


def encoder_size(spec: EncoderSpec) -> EncoderSize:
    """Named size with the spec's overrides;
    `UsageError` for unknown names and impossible numbers.
    """
    if spec.size not in SIZES:
        raise UsageError(
            f"unknown encoder {spec.size!r}{nearest(spec.size, SIZES)} (known: {', '.join(SIZES)})"
        )
    values = {**vars(SIZES[spec.size]), **spec.model_dump(exclude={"size"}, exclude_none=True)}
    size = EncoderSize(**values)
    if size.frames % size.patch:
        raise UsageError(
            f"encoder: {size.frames} frames are not a multiple of the patch of {size.patch} frames"
        )
    if size.width % size.heads:
        raise UsageError(f"encoder: width {size.width} is not a multiple of {size.heads} heads")
    if (
        12 * size.depth * size.width**2 > _MOST_PARAMETERS
    ):  # weights of a block: 4 of attention, 8 of its MLP
        raise UsageError(
            f"encoder: {size.depth} blocks of width {size.width} have"
            f" {12 * size.depth * size.width**2:,} parameters, expected at most"
            f" {_MOST_PARAMETERS:,}; lower encoder.depth or encoder.width"
        )
    return size


def build_encoder(
    spec: RunSpec, layout: SkeletonLayout, device: torch.device | str
) -> SkeletonEncoder:
    """The shared encoder, initialised from the spec's seed:
    the same weights for every method of that seed.
    """
    torch.manual_seed(spec.seed)
    with torch.device(device):
        return SkeletonEncoder(encoder_size(spec.encoder), layout.joint_count, skeleton_of(layout))


def skeleton_of(layout: SkeletonLayout) -> Skeleton:
    """What methods see of a layout."""
    return Skeleton(layout.parents, layout.parts)


def build_method(
    method: type[Method], spec: RunSpec, layout: SkeletonLayout, device: torch.device | str
) -> Method:
    """A method on a fresh encoder; its own parts are initialised after the encoder,
    from the same seed.
    """
    encoder = build_encoder(spec, layout, device)
    with torch.device(device):
        built = method(encoder, method.Options.model_validate(spec.method.options))
    set_kernel(built, spec.train)
    return built


def set_kernel(module: torch.nn.Module, train: TrainSpec) -> None:
    """Tell every attention layer below a module how the spec wants attention computed."""
    set_attention_kernel(
        module,
        fused=train.fused_attention,
        scale_scores=train.scale_scores,
        order=train.sdpa,
        full_precision=train.attention_precision == "fp32",
    )


def build_optimizer(method: Method, train: TrainSpec) -> torch.optim.Optimizer:
    """AdamW; biases and other 1-D parameters are not decayed (as in MAMP's main_pretrain.py)."""
    return create_optimizer_v2(
        method,
        opt="adamw",
        lr=train.lr,
        weight_decay=train.weight_decay,
        betas=train.betas,
        fused=train.fused_optimizer
        or None,  # None leaves torch its own default, False would force the slowest
    )


def build_schedule(
    optimizer: torch.optim.Optimizer, train: TrainSpec, steps: int
) -> CosineLRScheduler:
    """Linear warm-up from 0, then a half cosine to ``lr * final_lr``, refitted to ``steps``."""
    warmup = round(train.warmup * steps)
    return CosineLRScheduler(
        optimizer,
        t_initial=max(2, steps - warmup),
        lr_min=train.lr * train.final_lr,
        warmup_t=warmup,
        warmup_lr_init=0.0,
        warmup_prefix=True,
        t_in_epochs=False,
    )


@dataclass(frozen=True)
class Cell:
    """A run to do: its row's label, its spec and, unless it is a control,
    the method class and the row's guard.
    """

    label: str
    spec: RunSpec
    method: type[Method] | None = None
    guard: Guard = field(default_factory=Guard, compare=False)


def encoder_info(encoder: Encoder) -> EncoderInfo:
    """What a record keeps of an encoder."""
    return EncoderInfo(
        architecture=encoder.architecture,
        parameters=encoder.parameter_count,
        tokens=encoder.grid.tokens,
    )
