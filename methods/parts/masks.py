"""Which tokens stay visible: uniform random, motion-aware (MAMP), tubes (Skeleton2vec) and whole
time steps.

All draws are by `methods.parts.ranks.uniform`, so that a batch split over ranks has the masks of
the whole one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from methods.parts.ranks import uniform
from methods.parts.tokens import TokenGrid, frame_motion, patchify

VERSION = 1


class Mask(NamedTuple):
    """Token indices of each body sequence; the two parts together hold every token once.

    Attributes:
        visible: what the encoder sees.
        masked: what it does not.
    """

    visible: Int[Tensor, "B K"]
    masked: Int[Tensor, "B L-K"]


def visible_count(tokens: int, mask_ratio: float) -> int:
    """Tokens kept at a mask ratio: truncated as in MAMP's code, so 750 tokens at 0.9 keep 74,
    not 75.
    """
    return int(tokens * (1 - mask_ratio))


def lowest_visible(scores: Float[Tensor, "B L"], keep: int) -> Mask:
    """The ``keep`` tokens with the lowest score are visible."""
    order = torch.argsort(scores, dim=1)  # [B, L]
    return Mask(order[:, :keep], order[:, keep:])


def random_mask(x: Float[Tensor, "B T V 3"], grid: TokenGrid, mask_ratio: float) -> Mask:
    """Uniform random masking."""
    scores = uniform(len(x), grid.tokens, device=x.device)  # [B, L]
    return lowest_visible(scores, visible_count(grid.tokens, mask_ratio))


def token_motion(x: Float[Tensor, "B T V 3"], grid: TokenGrid) -> Float[Tensor, "B {grid.tokens}"]:
    """Mean displacement of each token since the previous time step, in the unit of ``x``.

    Patch minus patch, i.e. over ``patch`` frames; the first time step copies the second, as in
    MAMP's released code (model_mamp/transformer.py).
    """
    patches = patchify(x, grid.patch)  # [B, L, P]
    patches = patches.reshape(len(x), grid.times, grid.joints, grid.patch_width)
    step = (patches[:, 1:] - patches[:, :-1]).abs().mean(-1)  # [B, T_e - 1, V]
    return torch.cat([step[:, :1], step], dim=1).reshape(len(x), grid.tokens)


def motion_log_odds(
    x: Float[Tensor, "B T V 3"], grid: TokenGrid, tau: float
) -> Float[Tensor, "B {grid.tokens}"]:
    """Log-probability of each token to be drawn first for masking: softmax(I / (max(I) * tau)).

    The odds of that first draw are at most exp(1 / tau) between two tokens, 3.5 at tau = 0.8. After
    all draws, without replacement, the preference is far stronger: where a still token stays
    visible with probability p, the one of largest motion does with about p to that power (0.1 and
    0.0003).
    """
    motion = token_motion(x, grid)  # [B, L], I
    scaled = motion / (motion.amax(dim=1, keepdim=True) * tau + 1e-10)
    return torch.log_softmax(scaled, dim=1)


def motion_aware_mask(
    x: Float[Tensor, "B T V 3"], grid: TokenGrid, mask_ratio: float, tau: float
) -> Mask:
    """Moving tokens are more likely masked: Gumbel top-k without replacement.

    From MAMP (arXiv 2308.07092) and its released code, model_mamp/transformer.py. ``tau <= 0`` is
    uniform random masking, as in MAMP's ablation. A sequence without motion is uniform too.
    """
    if tau <= 0:
        return random_mask(x, grid, mask_ratio)
    drawn = uniform(len(x), grid.tokens, device=x.device)  # [B, L]
    # top-k of log p plus Gumbel noise is k draws without replacement; 1e-10 as released, for log 0
    gumbel = -torch.log(-torch.log(drawn + 1e-10) + 1e-10)
    return lowest_visible(
        motion_log_odds(x, grid, tau) + gumbel, visible_count(grid.tokens, mask_ratio)
    )


def frame_and_joint_mask(
    x: Float[Tensor, "B T V 3"], grid: TokenGrid, mask_ratio: float, frames: float
) -> Mask:
    """A share ``frames`` of the time steps is masked whole; in the others single tokens,
    ``mask_ratio`` in all.

    After the joint-level and frame-level masking of Wu et al. (arXiv 2209.02399), whose ratios we
    could not read. Time steps are kept in excess if they could not hold the visible tokens.
    """
    keep = visible_count(grid.tokens, mask_ratio)
    steps = max(round(grid.times * (1 - frames)), -(-keep // grid.joints))
    place = uniform(len(x), grid.times, device=x.device).argsort(dim=1).argsort(dim=1)  # [B, T_e]
    dropped = (place >= steps).float().repeat_interleave(grid.joints, dim=1)  # [B, L]
    # 1 is more than any draw: tokens of dropped steps come last
    return lowest_visible(uniform(len(x), grid.tokens, device=x.device) + dropped, keep)


def tube_motion(
    x: Float[Tensor, "B T V 3"], grid: TokenGrid, tube: int
) -> Float[Tensor, "B {grid.times}//{tube} V"]:
    """Relative motion of each joint in each tube of ``tube`` time steps, 0 to 1.

    Mean absolute frame-to-frame displacement, divided by the largest of the tube's joints, as in
    Skeleton2vec's released code (models/transformer.py).
    """
    moved = patchify(frame_motion(x).abs(), grid.patch).mean(-1)  # [B, L]
    motion = moved.reshape(len(x), grid.times // tube, tube, grid.joints).mean(2)  # [B, W, V]
    return motion / (motion.amax(dim=2, keepdim=True) + 1e-6)


def visible_joints(joints: int, mask_ratio: float) -> int:
    """Joints kept in a tube: 2 of 25 at 0.9, truncated; 2 of 20 too, whatever 20 * (1 - 0.9)
    rounds to.
    """
    return int(joints * (1 - mask_ratio) + 1e-9)


def tube_mask(
    x: Float[Tensor, "B T V 3"], grid: TokenGrid, mask_ratio: float, tube: int, beta: float
) -> Mask:
    """The same joints are masked throughout a tube, moving ones rather (Skeleton2vec, arXiv
    2401.00921).

    Score ``U(0, 1) + beta * motion`` per tube and joint; the joints with the lowest scores stay
    visible.
    """
    motion = tube_motion(x, grid, tube)  # [B, W, V]
    drawn = uniform(*motion.shape, device=motion.device, dtype=motion.dtype)  # [B, W, V]
    order = torch.argsort(drawn + beta * motion, dim=2)  # [B, W, V], joints
    keep = visible_joints(grid.joints, mask_ratio)
    return Mask(
        _tube_tokens(order[..., :keep], grid, tube), _tube_tokens(order[..., keep:], grid, tube)
    )


def _tube_tokens(
    joints: Int[Tensor, "B W n"], grid: TokenGrid, tube: int
) -> Int[Tensor, "B W*{tube}*n"]:
    """Token indices of joints in every time step of their tube."""
    times = torch.arange(grid.times, device=joints.device)  # [T_e]
    first = (times * grid.joints).reshape(1, -1, tube, 1)  # [1, W, tube, 1], of each time step
    return (first + joints.unsqueeze(2)).flatten(1)
