"""AMR, Adaptive Masked Reconstruction: fewer, larger patches from a decoupled decoder, weighted by
motion energy.

Sun et al., "Exploring Adaptive Masked Reconstruction for Self-Supervised Skeleton-Based Action
Recognition", CVPR 2026, arXiv 2606.11450; no public code. Notation: prediction X_p, target X_t,
weight W.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.base import About, Method, MethodOptions, OptionError, Scalar, SlashList, known
from methods.parts.decoders import QueryDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import Mask, random_mask
from methods.parts.options import Depth
from methods.parts.tokens import (
    CHANNELS,
    TokenGrid,
    divisors,
    frame_motion,
    nearest_divisor,
    patchify,
    restore,
    standardise,
    unpatchify,
)

VERSION = 1

PUBLISHED_QUERIES = 5  # in time: 30 time steps, r = 6
PUBLISHED_WINDOWS = (4, 8, 12)


class AMROptions(MethodOptions):
    """Options; not given, at ``base`` ``r`` is 6, ``decoder_depth`` 5 and ``windows`` 4/8/12,
    elsewhere in proportion.

    ``r`` consecutive tokens of a joint are one query; ``windows`` are the window counts of the
    motion energy; ``down_sampled`` makes as many targets by leaving frames out.
    """

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    r: int | None = Field(default=None, ge=1, le=10_000)
    decoder_depth: Depth | None = None
    self_attention: bool = False
    target: Literal["coordinates", "motion"] = "coordinates"
    weighting: bool = True
    windows: Annotated[tuple[int, ...], SlashList] = ()
    k: float = Field(default=0.01, ge=0, le=1e6)
    down_sampled: bool = False

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in r and the decoder depth; check that both kinds of windows tile the clip."""
        grid = encoder.grid
        r = self.r or nearest_divisor(grid.times, grid.times / PUBLISHED_QUERIES)
        if grid.times % r:
            raise OptionError(
                f"r={r} must divide the {grid.times} time steps: {_listed(divisors(grid.times))}"
            )
        windows = self.windows or tuple(
            dict.fromkeys(nearest_divisor(grid.frames, count) for count in PUBLISHED_WINDOWS)
        )
        if wrong := [count for count in windows if count < 1 or grid.frames % count]:
            raise OptionError(
                f"windows={'/'.join(map(str, windows))}: {wrong[0]} does not divide the"
                f" {grid.frames} frames: {_listed(divisors(grid.frames))}"
            )
        depth = self.decoder_depth or scaled_depth(5, encoder)
        return self.model_copy(update={"r": r, "windows": windows, "decoder_depth": depth})


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def window_energy(x: Float[Tensor, "B T V 3"], count: int) -> Float[Tensor, "B {count} V"]:
    """Motion energy e_s of each joint in each of ``count`` windows.

    Mean squared distance from the window's mean position: ``e_s = mean_t |s_t - mean(s)|^2``.
    """
    batch, frames, joints, channels = x.shape
    window = x.reshape(batch, count, frames // count, joints, channels)  # [B, W, T / W, V, 3]
    return (window - window.mean(2, keepdim=True)).square().sum(-1).mean(2)


def energy_weight(
    x: Float[Tensor, "B T V 3"], windows: tuple[int, ...], k: float, epsilon: float = 1e-6
) -> Float[Tensor, "B T V"]:
    """Weight of each frame and joint: the mean over scales of ``1 / (1 + k e_avg / (e_s + eps))``.

    ``e_avg`` is the mean over all windows and joints of the body sequence: what hardly moves beside
    the rest of the body is switched off (0.99 at the average, 0.5 at a hundredth of it, for k =
    0.01).
    """
    scales = []
    for count in windows:
        energy = window_energy(x, count)  # [B, W, V], e_s
        average = energy.mean(dim=(1, 2), keepdim=True)  # [B, 1, 1], e_avg
        weight = 1 / (1 + k * average / (energy + epsilon))  # [B, W, V]
        scales.append(weight.repeat_interleave(x.shape[1] // count, dim=1))
    return torch.stack(scales).mean(0)


class AMR(Method[AMROptions]):
    """Reconstruct patches of r tokens through cross-attention queries."""

    about = About(
        title="Adaptive Masked Reconstruction",
        paper="Sun et al., CVPR 2026, arXiv 2606.11450",
        epochs=400,
        choices=(
            "5 cross-attention layers at base: inferred from the published 3.8 GFLOPs",
            (
                "pre-norm on queries and encoder output, MLP ratio 4, one shared query plus"
                " separable positions"
            ),
            (
                "target: coordinates, standardised per coarse patch (the literal reading);"
                " target=motion is the other arm"
            ),
            (
                "motion energy per joint, compared with the mean over all joints and windows of the"
                " body sequence"
            ),
            (
                "the three scales are averaged; the loss is the mean over elements, not divided by"
                " the sum of weights"
            ),
            (
                "r and depth scale with the encoder: r is the divisor of the time steps nearest to"
                " a fifth of them"
            ),
            (
                "down_sampled: the queries predict every r-th frame only; the paper's down-sampling"
                " arm, without a decoupled decoder, is not built"
            ),
        ),
    )
    Options = AMROptions

    def __init__(self, encoder: SkeletonEncoder, options: AMROptions) -> None:
        super().__init__(encoder, options)
        grid, settings = encoder.grid, self.options
        self.r = known(settings.r)
        self.coarse = TokenGrid(grid.times // self.r, grid.joints, grid.patch * self.r)
        self.decoder = QueryDecoder(
            encoder,
            known(settings.decoder_depth),
            windows=self.coarse.times,
            outputs=len(self.kept_frames) * CHANNELS,
            self_attention=settings.self_attention,
        )

    @property
    def kept_frames(self) -> range:
        """Frames of a coarse patch that are reconstructed: all, or every r-th."""
        return range(0, self.coarse.patch, self.r if self.options.down_sampled else 1)

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``mean W (X_p - X_t)^2`` over all patches, visible or not."""
        mask = random_mask(x, self.encoder.grid, self.options.mask_ratio)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        prediction = self.decoder(latent)  # [B, n, C], X_p of n = L / r coarse patches
        error = (prediction - self.targets(x)).square()  # [B, n, C]
        weight = self.weights(x)  # [B, n, C], W
        loss = (weight * error).mean() if weight is not None else error.mean()
        return loss, {"reconstruction": error.mean().detach()}

    def targets(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B n C"]:
        """X_t: standardised coarse patches."""
        source = x if self.options.target == "coordinates" else frame_motion(x)  # [B, T, V, 3]
        return standardise(self.coarse_patches(source))

    def weights(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B n C"] | None:
        """W in the targets' shape, or None when weighting is off."""
        if not self.options.weighting:
            return None
        weight = energy_weight(x, self.options.windows, self.options.k)  # [B, T, V]
        return self.coarse_patches(weight.unsqueeze(-1).expand(-1, -1, -1, CHANNELS))

    def coarse_patches(
        self, x: Float[Tensor, "B T V 3"]
    ) -> Float[Tensor, "B {self.coarse.tokens} 3*{len(self.kept_frames)}"]:
        """Patches of r tokens, of the kept frames only."""
        patches = patchify(x, self.coarse.patch)  # [B, n, r * P]
        if not self.options.down_sampled:
            return patches
        frames = patches.unflatten(-1, (self.coarse.patch, CHANNELS))  # [B, n, r * patch, 3]
        return frames[:, :, :: self.r].flatten(-2)

    def reconstruct(
        self, x: Float[Tensor, "B T V 3"], mask: Mask
    ) -> Float[Tensor, "B T V 3"] | None:
        """Coordinates of all tokens, with the mean and scale of the true coarse patch."""
        if self.options.target != "coordinates" or self.options.down_sampled:
            return None
        predicted = self.decoder(self.encoder(x, mask.visible))  # [B, n, r * P]
        predicted = restore(predicted, patchify(x, self.coarse.patch))  # [B, n, r * P]
        return unpatchify(predicted, self.coarse.patch, x.shape[2])
