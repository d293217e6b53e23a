"""From body sequences to tokens and back: patches, motion, per-token standardisation.

A token is ``patch`` consecutive frames of one joint, flattened frame-major (frame, then xyz);
tokens are ordered time-major, so token ``t * V + v`` is joint ``v`` in time step ``t``. What the
letters in shapes mean: `methods.base`. Source: MAMP (arXiv 2308.07092), section 3 and its released
code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

VERSION = 1

CHANNELS = 3


@dataclass(frozen=True)
class TokenGrid:
    """The L = times * joints tokens of one body sequence.

    Attributes:
        times: time steps T_e, i.e. frames / patch.
        joints: V.
        patch: frames per token.
    """

    times: int
    joints: int
    patch: int

    @property
    def tokens(self) -> int:
        """L."""
        return self.times * self.joints

    @property
    def frames(self) -> int:
        """T."""
        return self.times * self.patch

    @property
    def patch_width(self) -> int:
        """Numbers in one patch."""
        return self.patch * CHANNELS


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [count for count in range(1, number + 1) if number % count == 0]


def nearest_divisor(number: int, wanted: float) -> int:
    """The divisor of ``number`` nearest to ``wanted`` by ratio;
    carries published fractions to another grid.
    """
    return min(divisors(number), key=lambda divisor: abs(math.log(divisor / wanted)))


def patchify(x: Float[Tensor, "B T V C"], patch: int) -> Float[Tensor, "B T//{patch}*V {patch}*C"]:
    """Body sequences to the patches of their tokens, ``[B, L, P]``;
    T must be a multiple of ``patch``.
    """
    batch, frames, joints, channels = x.shape
    steps = x.reshape(batch, frames // patch, patch, joints, channels)  # [B, T_e, patch, V, C]
    return steps.transpose(2, 3).reshape(batch, frames // patch * joints, patch * channels)


def unpatchify(
    tokens: Float[Tensor, "B L P"], patch: int, joints: int
) -> Float[Tensor, "B L//{joints}*{patch} {joints} P//{patch}"]:
    """Inverse of `patchify`: ``[B, T, V, C]``."""
    batch, count, width = tokens.shape
    times, channels = count // joints, width // patch
    steps = tokens.reshape(batch, times, joints, patch, channels)  # [B, T_e, V, patch, C]
    return steps.transpose(2, 3).reshape(batch, times * patch, joints, channels)


def frame_motion(x: Float[Tensor, "B T V C"]) -> Float[Tensor, "B T V C"]:
    """Frame-level motion ``y[t] = x[t + 1] - x[t]``, zero in the last frame (MAMP's target)."""
    return torch.cat([x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])], dim=1)


def standardise(tokens: Float[Tensor, "B L P"], epsilon: float = 1e-6) -> Float[Tensor, "B L P"]:
    """Each token to zero mean and unit variance over its own numbers (n - 1 denominator; MAMP's
    ``norm_skes_loss``).

    A token of constant value becomes zeros. For varying tokens the mean of the squares is (n - 1) /
    n.
    """
    variance, mean = torch.var_mean(tokens, dim=-1, keepdim=True)  # [B, L, 1]
    return (tokens - mean) * torch.rsqrt(variance + epsilon)


def restore(
    predicted: Float[Tensor, "B L P"], tokens: Float[Tensor, "B L P"], epsilon: float = 1e-6
) -> Float[Tensor, "B L P"]:
    """Inverse of `standardise`: predictions with the mean and the scale of the true ``tokens``."""
    variance, mean = torch.var_mean(tokens, dim=-1, keepdim=True)  # [B, L, 1]
    return predicted * (variance + epsilon).sqrt() + mean


def restore_clip(
    predicted: Float[Tensor, "B T V C"], x: Float[Tensor, "B T V C"], epsilon: float = 1e-6
) -> Float[Tensor, "B T V C"]:
    """Inverse of `standardise_clip`, with the mean and the scale of the true frames."""
    variance, mean = torch.var_mean(x, dim=1, keepdim=True)  # [B, 1, V, C]
    return predicted * (variance + epsilon).sqrt() + mean


def standardise_clip(
    x: Float[Tensor, "B T V C"], epsilon: float = 1e-6
) -> Float[Tensor, "B T V C"]:
    """Each joint's each axis to zero mean and unit variance over the whole clip.

    Normalising among timestamps (NAT: "Rethinking Masked Data Reconstruction Pretraining for Strong
    3D Action Representation Learning", AAAI 2025): unlike `standardise`, the size of a patch's
    movement within the clip survives.
    """
    variance, mean = torch.var_mean(x, dim=1, keepdim=True)  # [B, 1, V, C]
    return (x - mean) * torch.rsqrt(variance + epsilon)


def take(tokens: Float[Tensor, "B L D"], index: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
    """Pick K tokens of every body sequence."""
    return torch.gather(tokens, 1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
