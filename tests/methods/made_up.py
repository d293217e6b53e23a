"""Small encoders and made-up motion for the tests of the methods."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.parts.encoder import EncoderSize, Skeleton, SkeletonEncoder

SMALL = EncoderSize(depth=2, width=16, heads=2, frames=24, patch=4)
JOINTS = 5


def encoder(size: EncoderSize = SMALL, joints: int = JOINTS, seed: int = 0) -> SkeletonEncoder:
    """A freshly initialised encoder; seeds the global generator."""
    torch.manual_seed(seed)
    return SkeletonEncoder(size, joints, skeleton(joints))


def skeleton(joints: int) -> Skeleton:
    """A chain of joints whose upper half, and lower half, is a body part."""
    half = joints // 2
    return Skeleton(tuple(range(-1, joints - 1)), {"upper": tuple(range(half)), "lower": tuple(range(half, joints))})


def meta_encoder(size: EncoderSize, joints: int = 25) -> SkeletonEncoder:
    """An encoder without storage: for shapes and counts at sizes too large for a test."""
    with torch.device("meta"):
        return SkeletonEncoder(size, joints, skeleton(joints))


def motion(batch: int, joints: int = JOINTS, frames: int = SMALL.frames, seed: int = 0) -> Tensor:
    """Body sequences ``[batch, frames, joints, 3]``: every joint walks at random from its own place."""
    random = torch.Generator().manual_seed(seed)
    place = 0.3 * torch.randn(batch, 1, joints, 3, generator=random)
    return place + 0.05 * torch.randn(batch, frames, joints, 3, generator=random).cumsum(1)
