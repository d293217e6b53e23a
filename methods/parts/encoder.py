"""The shared encoder: MAMP's joint-wise transformer (arXiv 2308.07092) built from timm blocks.

As in MAMP's released code, model_mamp/transformer.py. The harness builds it, hands the same one to
every method, and checks `SkeletonEncoder.architecture` afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.parts.kernels import TORCHS_OWN
from methods.parts.tokens import CHANNELS, TokenGrid, patchify, take

VERSION = 1
"""Of this module and of `methods.parts.attention`."""


@dataclass(frozen=True)
class EncoderSize:
    """Depth and width of an encoder and the token grid that it reads.

    Attributes:
        depth: transformer blocks.
        width: token width D.
        heads: attention heads.
        frames: T, frames after the time resize.
        patch: frames per token.
    """

    depth: int
    width: int
    heads: int
    frames: int
    patch: int


SIZES = {
    "base": EncoderSize(depth=8, width=256, heads=8, frames=120, patch=4),
    "small": EncoderSize(depth=6, width=128, heads=4, frames=120, patch=4),
    "tiny": EncoderSize(depth=4, width=64, heads=2, frames=72, patch=4),
}


def transformer_blocks(depth: int, width: int, heads: int) -> nn.ModuleList:
    """Pre-norm blocks with qkv bias, MLP ratio 4, GELU and no dropout:
    the one block of the whole suite.
    """
    # Here, as timm loads torchvision: two seconds that nobody waits for who builds nothing.
    from timm.models.vision_transformer import Block

    from methods.parts.attention import SelfAttention

    return nn.ModuleList(
        Block(width, heads, qkv_bias=True, norm_layer=nn.LayerNorm, attn_layer=SelfAttention)
        for _ in range(depth)
    )


def initialise(module: nn.Module) -> None:
    """Xavier-uniform weights and zero bias for every linear layer below ``module``,
    as in MAMP's released code.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class SeparablePositions(nn.Module):
    """Learnable position of a token: a joint vector plus a time vector,
    both truncated normal with sigma 0.02.
    """

    def __init__(self, times: int, joints: int, width: int) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.empty(times, 1, width))
        self.joint = nn.Parameter(torch.empty(1, joints, width))
        nn.init.trunc_normal_(self.time, std=0.02)
        nn.init.trunc_normal_(self.joint, std=0.02)

    def forward(self) -> Float[Tensor, "L D"]:
        """All positions, in token order."""
        return (self.time + self.joint).flatten(0, 1)


@dataclass(frozen=True)
class Skeleton:
    """What a method may know of the joints: how they hang together and which body part each belongs
    to.

    Attributes:
        parents: V parent indices, -1 at the root.
        parts: body-part name -> joint indices, every joint once; empty when the data does not tell.
    """

    parents: tuple[int, ...]
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class Encoder(nn.Module):
    """What the probes and the records need of an encoder: the shared one, or one of the open
    division.

    Attributes:
        grid: the token grid that it reads.
        width: D, numbers per token.
    """

    grid: TokenGrid
    width: int

    def forward(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B L D"]:
        """Tokens of body sequences, nothing masked."""
        raise NotImplementedError

    def describe(self) -> dict[str, object]:
        """What makes two encoders of one class differ, beside their parameters."""
        return {"grid": asdict(self.grid)}

    @property
    def parameter_count(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def architecture(self) -> str:
        """Hash of the module class, size, grid and every parameter's name and shape;
        equal means comparable.
        """
        description = {
            "class": type(self).__qualname__,
            **self.describe(),
            "parameters": [
                (name, list(parameter.shape)) for name, parameter in self.named_parameters()
            ],
        }
        return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()[:16]


class SkeletonEncoder(Encoder):
    """Transformer over the visible joint-wise patches of a body sequence.

    ``base`` has 6,336,000 parameters at 25 joints.

    Args:
        size: depth, width, heads and token grid.
        joints: V.
        skeleton: bones and body parts, for methods that use them; it changes nothing in the
            encoder.
    """

    def __init__(self, size: EncoderSize, joints: int, skeleton: Skeleton | None = None) -> None:
        super().__init__()
        self.size = size
        self.width = size.width
        self.skeleton = skeleton
        self.grid = TokenGrid(times=size.frames // size.patch, joints=joints, patch=size.patch)
        self.patch_embed = nn.Linear(size.patch * CHANNELS, size.width)
        self.positions = SeparablePositions(self.grid.times, joints, size.width)
        self.blocks = transformer_blocks(size.depth, size.width, size.heads)
        self.norm = nn.LayerNorm(size.width)
        initialise(self.blocks)  # the patch embedding keeps the framework's default, as in MAMP

    def embed(
        self, x: Float[Tensor, "B T V 3"], visible: Int[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B n D"]:
        """Patch embedding plus position of all n = L tokens, or of the n = K ``visible`` ones."""
        patches, positions = patchify(x, self.grid.patch), self.positions()  # [B, L, P], [L, D]
        if visible is None:
            # a shorter view has the positions of the first time steps
            return self.patch_embed(patches) + positions[: patches.shape[1]]
        seen = self.patch_embed(take(patches, visible))  # [B, K, D]
        return seen + nn.functional.embedding(visible, positions)

    def layers(
        self, x: Float[Tensor, "B T V 3"], visible: Int[Tensor, "B K"] | None = None
    ) -> list[Float[Tensor, "B n D"]]:
        """Output of every block, before the final norm (Skeleton2vec averages these)."""
        return self.layers_of(self.embed(x, visible))

    def layers_of(self, tokens: Float[Tensor, "B n D"]) -> list[Float[Tensor, "B n D"]]:
        """Output of every block for tokens that are embedded already."""
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return outputs

    def forward(
        self, x: Float[Tensor, "B T V 3"], visible: Int[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B n D"]:
        """Encode all n = L tokens of body sequences, or only the n = K ``visible`` ones."""
        return self.norm(self.layers(x, visible)[-1])

    def describe(self) -> dict[str, object]:
        """Size and grid."""
        return {"size": asdict(self.size), "grid": asdict(self.grid)}


def set_attention_kernel(
    module: nn.Module,
    *,
    fused: bool,
    scale_scores: bool = False,
    order: str = TORCHS_OWN,
    full_precision: bool = False,
) -> None:
    """Switch every attention layer below ``module`` between the fused kernel and plain matrix
    products.

    A layer takes part by having an attribute ``fused_attn``, as timm's do; only
    `methods.parts.attention.SelfAttention`, which has ``scale_scores``, can scale its scores. Which
    fused kernel is asked first (`methods.parts.kernels.ORDERS`) and whether it computes in float32,
    layers with ``kernel_order`` and ``full_precision`` can be told.

    Raises:
        ValueError: a layer cannot be told.
    """
    told = {"kernel_order": (order, TORCHS_OWN), "full_precision": (full_precision, False)}
    for layer in module.modules():
        if hasattr(layer, "fused_attn"):
            setattr(layer, "fused_attn", fused)  # noqa: B010 - timm declares it final, for TorchScript only
        if hasattr(layer, "scale_scores"):
            setattr(layer, "scale_scores", scale_scores)  # noqa: B010
        for name, (value, usual) in told.items():
            if hasattr(layer, name):
                setattr(layer, name, value)
            elif hasattr(layer, "fused_attn") and value != usual:
                raise ValueError(
                    f"{name}={value}: expected attention that can be told, found"
                    f" {type(layer).__name__}"
                )


def repeated_blocks(module: nn.Module) -> list[nn.Module]:
    """The transformer blocks below ``module``: what stands in a list and attends,
    without the blocks inside a block.
    """
    found = [
        block
        for blocks in module.modules()
        if isinstance(blocks, nn.ModuleList)
        for block in blocks
        if any(hasattr(layer, "fused_attn") for layer in block.modules())
    ]
    inside = {part for block in found for part in block.modules() if part is not block}
    return [block for block in dict.fromkeys(found) if block not in inside]
