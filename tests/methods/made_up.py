"""Small encoders and made-up motion for the tests of the methods."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.parts.decoders import TokenFiller
from methods.parts.encoder import EncoderSize, Skeleton, SkeletonEncoder
from methods.parts.masks import Mask
from methods.parts.tokens import take

SMALL = EncoderSize(depth=2, width=16, heads=2, frames=24, patch=4)
JOINTS = 5


def encoder(size: EncoderSize = SMALL, joints: int = JOINTS, seed: int = 0) -> SkeletonEncoder:
    """A freshly initialised encoder; seeds the global generator."""
    torch.manual_seed(seed)
    return SkeletonEncoder(size, joints, skeleton(joints))


def skeleton(joints: int) -> Skeleton:
    """A chain of joints whose upper half, and lower half, is a body part."""
    half = joints // 2
    return Skeleton(
        tuple(range(-1, joints - 1)),
        {"upper": tuple(range(half)), "lower": tuple(range(half, joints))},
    )


def meta_encoder(size: EncoderSize, joints: int = 25) -> SkeletonEncoder:
    """An encoder without storage: for shapes and counts at sizes too large for a test."""
    with torch.device("meta"):
        return SkeletonEncoder(size, joints, skeleton(joints))


def motion(batch: int, joints: int = JOINTS, frames: int = SMALL.frames, seed: int = 0) -> Tensor:
    """Body sequences ``[batch, frames, joints, 3]``:
    every joint walks at random from its own place.
    """
    random = torch.Generator().manual_seed(seed)
    place = 0.3 * torch.randn(batch, 1, joints, 3, generator=random)
    return place + 0.05 * torch.randn(batch, frames, joints, 3, generator=random).cumsum(1)


def sorted_back(fill: TokenFiller, latent: Tensor, mask: Mask) -> Tensor:
    """What `TokenFiller.forward` is, written out: visible tokens, then mask tokens,
    in the grid's order.
    """
    hidden = fill.mask_token.expand(*mask.masked.shape, -1)
    order = torch.cat([mask.visible, mask.masked], dim=1).argsort(dim=1)
    return take(torch.cat([latent, hidden], dim=1), order) + fill.positions()


def averaged(fill: TokenFiller, latent: Tensor, mask: Mask, windows: int) -> Tensor:
    """What `TokenFiller.pooled` is, written out: the whole grid, and the mean of each window."""
    grid = sorted_back(fill, latent, mask)
    return (
        grid.unflatten(1, (windows, fill.grid.times // windows, fill.grid.joints))
        .mean(2)
        .flatten(1, 2)
    )
