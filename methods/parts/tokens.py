"""From body sequences to tokens and back: patches, motion, per-token standardisation.

Shapes, everywhere in the suite: a batch of body sequences is ``[B, T, V, 3]``; a token is ``patch``
consecutive frames of one joint, flattened frame-major (frame, then xyz); tokens are ordered
time-major, so token ``t * V + v`` is joint ``v`` in time step ``t``. Source: MAMP (arXiv
2308.07092), section 3 and its released code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
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


def patchify(x: Tensor, patch: int) -> Tensor:
    """``[B, T, V, 3] -> [B, T / patch * V, patch * 3]``; T must be a multiple of ``patch``."""
    batch, frames, joints, channels = x.shape
    steps = x.reshape(batch, frames // patch, patch, joints, channels)
    return steps.transpose(2, 3).reshape(batch, frames // patch * joints, patch * channels)


def unpatchify(tokens: Tensor, patch: int, joints: int) -> Tensor:
    """Inverse of `patchify`: ``[B, T_e * V, patch * 3] -> [B, T_e * patch, V, 3]``."""
    batch, count, width = tokens.shape
    steps = tokens.reshape(batch, count // joints, joints, patch, width // patch)
    return steps.transpose(2, 3).reshape(batch, count // joints * patch, joints, width // patch)


def frame_motion(x: Tensor) -> Tensor:
    """Frame-level motion ``y[t] = x[t + 1] - x[t]``, zero in the last frame;
    shape kept (MAMP's target).
    """
    return torch.cat([x[:, 1:] - x[:, :-1], torch.zeros_like(x[:, :1])], dim=1)


def standardise(tokens: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Each token to zero mean and unit variance over its own numbers (n - 1 denominator; MAMP's
    ``norm_skes_loss``).

    A token of constant value becomes zeros. For varying tokens the mean of the squares is (n - 1) /
    n.
    """
    variance, mean = torch.var_mean(tokens, dim=-1, keepdim=True)
    return (tokens - mean) * torch.rsqrt(variance + epsilon)


def restore(predicted: Tensor, tokens: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Inverse of `standardise`: predictions with the mean and the scale
    of the true ``tokens``, both ``[B, L, n]``.
    """
    variance, mean = torch.var_mean(tokens, dim=-1, keepdim=True)
    return predicted * (variance + epsilon).sqrt() + mean


def restore_clip(predicted: Tensor, x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Inverse of `standardise_clip`, with the mean and the scale of the true frames,
    both ``[B, T, V, 3]``.
    """
    variance, mean = torch.var_mean(x, dim=1, keepdim=True)
    return predicted * (variance + epsilon).sqrt() + mean


def standardise_clip(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Each joint's each axis of ``x`` ``[B, T, V, 3]`` to zero mean and unit variance over the
    whole clip.

    Normalising among timestamps (NAT: "Rethinking Masked Data Reconstruction Pretraining for Strong
    3D Action Representation Learning", AAAI 2025): unlike `standardise`, the size of a patch's
    movement within the clip survives.
    """
    variance, mean = torch.var_mean(x, dim=1, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + epsilon)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens: ``[B, L, D]`` and ``[B, k]`` give ``[B, k, D]``."""
    return torch.gather(tokens, 1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
