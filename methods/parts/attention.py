"""The attention of every transformer block; `methods.parts.encoder` loads it late,
and its VERSION counts for it.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from timm.models.vision_transformer import Attention
from torch import Tensor

from methods.parts.kernels import TORCHS_OWN, attention_in_float32, kernel_order


class SelfAttention(Attention):
    """timm's attention; plain, it can also scale the L x L scores instead of the queries, and
    fused, stay in float32.

    The same numbers to rounding, at another cost: MAMP's released code (model_mamp/transformer.py)
    scales scores, and so writes and reads every one once more, forward and backward.

    Attributes:
        fused_attn: the fused kernel; see `methods.parts.encoder.set_attention_kernel` for all of
            them.
        scale_scores: plain matrix products, the scores scaled.
        kernel_order: which fused kernel is asked first.
        full_precision: the fused kernel in float32.
    """

    scale_scores = False
    kernel_order = TORCHS_OWN
    full_precision = False

    def forward(
        self, x: Float[Tensor, "B L D"], *mask: Any, **masks: Any
    ) -> Float[Tensor, "B L D"]:
        """What every token reads of all; the masks of timm's blocks are never set here."""
        with kernel_order(self.kernel_order):
            if not (self.full_precision if self.fused_attn else self.scale_scores):
                return super().forward(x, *mask, **masks)
            return self._own(x)

    def _own(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, self.head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # [B, H, L, D_H]
        if self.fused_attn:
            read = attention_in_float32(query, key, value)  # [B, H, L, D_H]
        else:
            scores = (query @ key.transpose(-2, -1)) * self.scale  # [B, H, L, L]
            read = scores.softmax(dim=-1) @ value  # [B, H, L, D_H]
        return self.proj(read.transpose(1, 2).reshape(batch, tokens, -1))
