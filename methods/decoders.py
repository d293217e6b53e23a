"""Decoders that more than one method uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.encoder import SeparablePositions, SkeletonEncoder, initialise, transformer_blocks
from methods.masks import Mask
from methods.tokens import take


def scaled_depth(published: int, encoder: SkeletonEncoder) -> int:
    """A decoder depth published for the 8-block encoder, in the same proportion to this one, rounded half up."""
    return max(1, (published * encoder.size.depth + 4) // 8)


class TokenFiller(nn.Module):
    """Puts encoded visible tokens back on the whole grid, mask tokens elsewhere, and adds the decoder's positions.

    A method of its own width or order can be built on this; see `TokenDecoder` (MAE) and GFP's pyramid.
    """

    def __init__(self, encoder: SkeletonEncoder) -> None:
        super().__init__()
        grid, width = encoder.grid, encoder.width
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.positions = SeparablePositions(grid.times, grid.joints, width)

    def forward(self, latent: Tensor, mask: Mask) -> Tensor:
        """``[B, k, D]`` visible latents to ``[B, L, D]`` in token order."""
        batch, hidden, width = *mask.masked.shape, latent.shape[-1]
        tokens = torch.cat([latent, self.mask_token.to(latent.dtype).expand(batch, hidden, width)], dim=1)
        back = torch.argsort(torch.cat([mask.visible, mask.masked], dim=1), dim=1)
        return take(tokens, back) + self.positions()


class TokenDecoder(nn.Module):
    """MAE's decoder as MAMP uses it (dossier 1.4): project, fill with mask tokens, blocks, norm, predict.

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

    def forward(self, latent: Tensor, mask: Mask) -> Tensor:
        """``[B, k, D]`` visible latents to predictions for all tokens, ``[B, L, outputs]``."""
        tokens = self.fill(self.project(latent), mask)
        for block in self.blocks:
            tokens = block(tokens)
        return self.predict(self.norm(tokens))
