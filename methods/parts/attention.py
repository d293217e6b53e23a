"""The attention of every transformer block; `methods.parts.encoder` loads it late, and its VERSION counts for it."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer import Attention
from torch import Tensor

from methods.parts.kernels import TORCHS_OWN, kernel_order


class SelfAttention(Attention):
    """timm's attention; plain, it can also scale the N x N scores instead of the queries.

    The same numbers to rounding, at another cost: MAMP's released code (model_mamp/transformer.py) writes and reads
    every score once more, forward and backward.

    Attributes:
        fused_attn: the fused kernel; see `methods.parts.encoder.set_attention_kernel` for all three.
        scale_scores: plain matrix products, the scores scaled.
        kernel_order: which fused kernel is asked first.
    """

    scale_scores = False
    kernel_order = TORCHS_OWN

    def forward(self, x: Tensor, *mask: Any, **masks: Any) -> Tensor:
        """Tokens ``[B, N, D]`` to ``[B, N, D]``; the masks of timm's blocks are never set here."""
        if self.fused_attn or not self.scale_scores:
            with kernel_order(self.kernel_order):
                return super().forward(x, *mask, **masks)
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B, heads, N, D / heads]
        scores = (query @ key.transpose(-2, -1)) * self.scale  # [B, heads, N, N]
        read = scores.softmax(dim=-1) @ value
        return self.proj(read.transpose(1, 2).reshape(batch, tokens, -1))
