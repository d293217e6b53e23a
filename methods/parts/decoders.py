"""Decoders that more than one method uses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from methods.parts.encoder import (
    SeparablePositions,
    SkeletonEncoder,
    initialise,
    transformer_blocks,
)
from methods.parts.kernels import TORCHS_OWN, attention_in_float32, kernel_order
from methods.parts.masks import Mask
from methods.parts.tokens import TokenGrid

VERSION = 1


def scaled_depth(published: int, encoder: SkeletonEncoder) -> int:
    """A decoder depth published for the 8-block encoder,
    in the same proportion to this one, rounded half up.
    """
    return max(1, (published * encoder.size.depth + 4) // 8)


class TokenFiller(nn.Module):
    """Puts encoded visible tokens back on the whole grid, mask tokens elsewhere, and adds the
    decoder's positions.

    A method of its own width or order can be built on this; see `TokenDecoder` (MAE) and GFP's
    pyramid.
    """

    def __init__(self, encoder: SkeletonEncoder) -> None:
        super().__init__()
        self.grid: TokenGrid = encoder.grid
        width = encoder.width
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.positions = SeparablePositions(self.grid.times, self.grid.joints, width)

    def forward(
        self, latent: Float[Tensor, "B K D"], mask: Mask
    ) -> Float[Tensor, "B {self.grid.tokens} D"]:
        """Visible latents to all tokens, in token order."""
        batch, _, width = latent.shape
        empty = self.mask_token.to(latent.dtype).expand(batch, self.grid.tokens, width)  # [B, L, D]
        place = mask.visible.unsqueeze(-1).expand(-1, -1, width)  # [B, K, D]
        return empty.scatter(1, place, latent) + self.positions()

    def pooled(
        self, latent: Float[Tensor, "B K D"], mask: Mask, windows: int
    ) -> Float[Tensor, "B {windows}*{self.grid.joints} D"]:
        """The same averaged over each of ``windows`` stretches of time, to rounding.

        A mask token everywhere, and what the visible tokens of a window differ from it by: the grid
        is never built.
        """
        (batch, _, width), grid = latent.shape, self.grid
        steps = grid.times // windows
        window, joint = mask.visible // (steps * grid.joints), mask.visible % grid.joints  # [B, K]
        cell = torch.add(joint, window, alpha=grid.joints).unsqueeze(-1)  # [B, K, 1]
        positions = self.positions().unflatten(0, (windows, steps, grid.joints))
        positions = positions.mean(1).flatten(0, 1)  # [W * V, D]
        hidden = (self.mask_token + positions).expand(batch, -1, -1)  # [B, W * V, D]
        shown = (latent - self.mask_token) / steps  # [B, K, D]
        return hidden.scatter_add(1, cell.expand(-1, -1, width), shown)


class TokenDecoder(nn.Module):
    """MAE's decoder as MAMP uses it: project, fill with mask tokens, blocks, norm, predict.

    As in MAMP's released code, model_mamp/transformer.py.

    Args:
        encoder: the shared encoder; the decoder takes its width, heads and grid.
        depth: transformer blocks.
        outputs: numbers predicted per token.
    """

    def __init__(self, encoder: SkeletonEncoder, depth: int, outputs: int) -> None:
        super().__init__()
        width = encoder.width
        self.project = nn.Linear(width, width)
        self.fill = TokenFiller(encoder)
        self.blocks = transformer_blocks(depth, width, encoder.size.heads)
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, outputs)
        initialise(self)

    def forward(self, latent: Float[Tensor, "B K D"], mask: Mask) -> Float[Tensor, "B L C"]:
        """Visible latents to predictions for all tokens, C = ``outputs``."""
        tokens = self.fill(self.project(latent), mask)  # [B, L, D]
        for block in self.blocks:
            tokens = block(tokens)
        return self.predict(self.norm(tokens))


class CrossAttentionBlock(nn.Module):
    """Queries read the encoded tokens: pre-norm cross-attention, (self-attention,) MLP ratio 4
    (AMR).

    Attributes:
        fused_attn, kernel_order, full_precision: the kernel, see
            `methods.parts.encoder.set_attention_kernel`.
    """

    def __init__(self, width: int, heads: int, *, self_attention: bool) -> None:
        super().__init__()
        self.norm_query, self.norm_memory = nn.LayerNorm(width), nn.LayerNorm(width)
        self.cross = nn.MultiheadAttention(width, heads, batch_first=True)
        self.among = transformer_blocks(1, width, heads) if self_attention else nn.ModuleList()
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.fused_attn = True
        self.kernel_order = TORCHS_OWN
        self.full_precision = False

    def forward(
        self, queries: Float[Tensor, "B n D"], memory: Float[Tensor, "B K D"]
    ) -> Float[Tensor, "B n D"]:
        """What n queries make of the memory."""
        keys = self.norm_memory(memory)  # [B, K, D]
        with kernel_order(self.kernel_order):
            queries = queries + self._read(self.norm_query(queries), keys)
        for block in self.among:
            queries = block(queries)
        return queries + self.mlp(self.norm_mlp(queries))

    def _read(
        self, queries: Float[Tensor, "B n D"], keys: Float[Tensor, "B K D"]
    ) -> Float[Tensor, "B n D"]:
        """Cross-attention by the kernel asked for."""
        if not (self.fused_attn and self.full_precision):
            # without its weights the layer takes the fused kernel, with them plain matrix products
            return self.cross(queries, keys, keys, need_weights=not self.fused_attn)[0]
        layer, width, heads = self.cross, queries.shape[-1], self.cross.num_heads
        query = linear(queries, layer.in_proj_weight[:width], layer.in_proj_bias[:width])
        query = query.unflatten(-1, (heads, -1)).transpose(1, 2)  # [B, H, n, D_H]
        both = linear(keys, layer.in_proj_weight[width:], layer.in_proj_bias[width:])
        both = both.unflatten(-1, (2, heads, -1))  # [B, K, 2, H, D_H]
        key, value = both.permute(2, 0, 3, 1, 4).unbind(0)  # [B, H, K, D_H]
        read = attention_in_float32(query, key, value)  # [B, H, n, D_H]
        return layer.out_proj(read.transpose(1, 2).flatten(2))


class QueryDecoder(nn.Module):
    """AMR's decoupled decoder (arXiv 2606.11450): learnable queries on their own grid, no mask
    tokens.

    Args:
        encoder: the shared encoder; the decoder takes its width, heads and joints.
        depth: cross-attention blocks.
        windows: queries per joint, in time.
        outputs: numbers predicted per query.
        self_attention: let the queries attend to each other as well.
    """

    def __init__(
        self,
        encoder: SkeletonEncoder,
        depth: int,
        windows: int,
        outputs: int,
        *,
        self_attention: bool = False,
    ) -> None:
        super().__init__()
        width, heads = encoder.width, encoder.size.heads
        self.project = nn.Linear(width, width)
        self.query = nn.Parameter(torch.empty(1, 1, width))
        nn.init.trunc_normal_(self.query, std=0.02)
        self.positions = SeparablePositions(windows, encoder.grid.joints, width)
        self.blocks = nn.ModuleList(
            CrossAttentionBlock(width, heads, self_attention=self_attention) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Linear(width, outputs)
        initialise(self)

    def forward(self, latent: Float[Tensor, "B K D"]) -> Float[Tensor, "B n C"]:
        """Visible latents to predictions of n = ``windows`` * V queries, time-major,
        C = ``outputs``.
        """
        memory = self.project(latent)  # [B, K, D]
        queries = (self.query + self.positions()).expand(len(latent), -1, -1)  # [B, n, D]
        for block in self.blocks:
            queries = block(queries, memory)
        return self.predict(self.norm(queries))
