"""SkeletonMAE under the shared encoder: reconstruct the standardised coordinates of masked tokens.

The row that MAMP's, GFP's and AMR's tables call SkeletonMAE is MAMP's re-implementation
(maoyunyao/MAMP, model_mae/transformer.py), not the network of Wu et al., "SkeletonMAE:
Spatial-Temporal Masked Autoencoders for Self-supervised Skeleton Action Recognition", ICMEW 2023,
arXiv 2209.02399.
"""

from __future__ import annotations

from typing import Literal, Self

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.base import About, Method, MethodOptions, Scalar, known
from methods.parts.decoders import TokenDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import Mask, frame_and_joint_mask, motion_aware_mask, random_mask
from methods.parts.options import Depth, Sharpness
from methods.parts.tokens import (
    patchify,
    restore,
    restore_clip,
    standardise,
    standardise_clip,
    take,
    unpatchify,
)

VERSION = 1


class SkeletonMAEOptions(MethodOptions):
    """Options; ``decoder_depth`` is 5 at ``base`` and in proportion to the encoder's depth
    elsewhere.

    ``mask``: uniform over tokens; MAMP's motion-aware one (strength ``tau``); or whole time steps
    (a share ``frames`` of them) and single tokens in the others. ``normalise``: each patch on its
    own, or each joint's axes over the clip.
    """

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    mask: Literal["random", "motion", "frames"] = "random"
    tau: Sharpness = 0.8
    frames: float = Field(default=0.5, ge=0, lt=1)
    normalise: Literal["patch", "clip"] = "patch"
    decoder_depth: Depth | None = None

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in the decoder depth."""
        return self.model_copy(
            update={"decoder_depth": self.decoder_depth or scaled_depth(5, encoder)}
        )


class SkeletonMAE(Method[SkeletonMAEOptions]):
    """Reconstruct the coordinates of masked tokens."""

    about = About(
        title="SkeletonMAE (coordinate reconstruction under MAMP's transformer)",
        paper=(
            "Wu et al., ICMEW 2023, arXiv 2209.02399; as re-implemented by MAMP, ICCV 2023, arXiv"
            " 2308.07092"
        ),
        epochs=400,
        code="maoyunyao/MAMP, model_mae",
        deviations=(
            (
                "follows MAMP's re-implementation, the row that GFP's and AMR's tables print, not"
                " Wu et al.'s network"
            ),
        ),
        choices=(
            (
                "decoder depth 5 at base, as GFP's and AMR's speed tables cost it; MAMP's released"
                " NTU-60 run uses 3"
            ),
            "empty bodies take no part in the loss because the harness does not batch them",
            (
                "mask=frames: half of the time steps masked whole (ours: Wu et al.'s ratios could"
                " not be read)"
            ),
            (
                "normalise=clip: each joint's axes over the clip, the target of NAT (AAAI 2025)"
                " without its other parts"
            ),
        ),
    )
    Options = SkeletonMAEOptions

    def __init__(self, encoder: SkeletonEncoder, options: SkeletonMAEOptions) -> None:
        super().__init__(encoder, options)
        self.decoder = TokenDecoder(
            encoder, known(self.options.decoder_depth), outputs=encoder.grid.patch_width
        )

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``mean (P - standardise(patchify(x)))^2`` over masked tokens."""
        mask = self.mask(x)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        prediction = take(self.decoder(latent, mask), mask.masked)  # [B, L - K, P]
        target = take(self.targets(x), mask.masked)  # [B, L - K, P]
        loss = (prediction - target).square().mean()
        return loss, {"reconstruction": loss.detach()}

    def mask(self, x: Float[Tensor, "B T V 3"]) -> Mask:
        """The mask of one batch, by the option of that name."""
        grid, options = self.encoder.grid, self.options
        if options.mask == "motion":
            return motion_aware_mask(x, grid, options.mask_ratio, options.tau)
        if options.mask == "frames":
            return frame_and_joint_mask(x, grid, options.mask_ratio, options.frames)
        return random_mask(x, grid, options.mask_ratio)

    def targets(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B L P"]:
        """Normalised coordinates of every token."""
        patch = self.encoder.grid.patch
        if self.options.normalise == "clip":
            return patchify(standardise_clip(x), patch)
        return standardise(patchify(x, patch))

    def reconstruct(self, x: Float[Tensor, "B T V 3"], mask: Mask) -> Float[Tensor, "B T V 3"]:
        """Coordinates of all tokens, with the mean and scale of the true patch, or of the clip."""
        patch = self.encoder.grid.patch
        predicted = self.decoder(self.encoder(x, mask.visible), mask)  # [B, L, P]
        if self.options.normalise == "clip":
            return restore_clip(unpatchify(predicted, patch, x.shape[2]), x)
        return unpatchify(restore(predicted, patchify(x, patch)), patch, x.shape[2])
