"""Which tokens stay visible: uniform random and motion-aware masking (MAMP, dossier 1.3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from methods.tokens import TokenGrid, patchify


class Mask(NamedTuple):
    """Token indices of each body sequence; the two parts together hold every token once.

    Attributes:
        visible: ``[B, k]`` indices that the encoder sees.
        masked: ``[B, L - k]`` indices that it does not.
    """

    visible: Tensor
    masked: Tensor


def visible_count(tokens: int, mask_ratio: float) -> int:
    """Tokens kept at a mask ratio: truncated as in MAMP's code, so 750 tokens at 0.9 keep 74, not 75."""
    return int(tokens * (1 - mask_ratio))


def lowest_visible(scores: Tensor, keep: int) -> Mask:
    """The ``keep`` tokens with the lowest score are visible; ``scores`` is ``[B, L]``."""
    order = torch.argsort(scores, dim=1)
    return Mask(order[:, :keep], order[:, keep:])


def random_mask(x: Tensor, grid: TokenGrid, mask_ratio: float) -> Mask:
    """Uniform random masking of ``x`` ``[B, T, V, 3]``."""
    scores = torch.rand(len(x), grid.tokens, device=x.device)
    return lowest_visible(scores, visible_count(grid.tokens, mask_ratio))


def token_motion(x: Tensor, grid: TokenGrid) -> Tensor:
    """Mean displacement of each token since the previous time step, ``[B, L]``, in the unit of ``x``.

    Patch minus patch, i.e. over ``patch`` frames; the first time step copies the second (dossier 1.3, steps 2-3).
    """
    patches = patchify(x, grid.patch).reshape(len(x), grid.times, grid.joints, grid.patch_width)
    step = (patches[:, 1:] - patches[:, :-1]).abs().mean(-1)
    return torch.cat([step[:, :1], step], dim=1).reshape(len(x), grid.tokens)


def motion_log_odds(x: Tensor, grid: TokenGrid, tau: float) -> Tensor:
    """Log-probability of each token to be drawn for masking, ``[B, L]``: softmax(I / (max(I) * tau)).

    The odds between two tokens of a sequence are at most exp(1 / tau), 3.5 at tau = 0.8.
    """
    motion = token_motion(x, grid)
    scaled = motion / (motion.amax(dim=1, keepdim=True) * tau + 1e-10)
    return torch.log_softmax(scaled, dim=1)


def motion_aware_mask(x: Tensor, grid: TokenGrid, mask_ratio: float, tau: float) -> Mask:
    """Moving tokens are more likely masked: Gumbel top-k without replacement (dossier 1.3, steps 4-7).

    ``tau <= 0`` is uniform random masking, as in MAMP's ablation. A sequence without motion is uniform too.
    """
    if tau <= 0:
        return random_mask(x, grid, mask_ratio)
    uniform = torch.rand(len(x), grid.tokens, device=x.device)
    gumbel = -torch.log(-torch.log(uniform + 1e-10) + 1e-10)
    return lowest_visible(motion_log_odds(x, grid, tau) + gumbel, visible_count(grid.tokens, mask_ratio))
