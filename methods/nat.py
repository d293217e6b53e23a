"""NAT, Normalisation Among Timestamps: coordinates of masked tokens, normalised over the clip and
not over the patch.

"Rethinking Masked Data Reconstruction Pretraining for Strong 3D Action Representation Learning",
AAAI 2025; no public code. Its point: a patch of four frames, standardised on its own, is nearly the
same for every joint that moves slowly, and that, not the coordinates, is why SkeletonMAE stands 10
points below MAMP.
"""

from __future__ import annotations

from typing import Self

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.base import About, Method, MethodOptions, Scalar, known
from methods.parts.decoders import TokenDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import Mask, motion_aware_mask
from methods.parts.options import Depth, Sharpness
from methods.parts.tokens import patchify, restore_clip, standardise_clip, take, unpatchify

VERSION = 1


class NATOptions(MethodOptions):
    """Options; ``decoder_depth`` is 5 at ``base`` and in proportion to the encoder's depth
    elsewhere.

    ``tau``: 0 is a random mask; above, moving tokens are rather masked, as in MAMP.
    """

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    tau: Sharpness = 0.0
    decoder_depth: Depth | None = None

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in the decoder depth."""
        return self.model_copy(
            update={"decoder_depth": self.decoder_depth or scaled_depth(5, encoder)}
        )


class NAT(Method[NATOptions]):
    """Reconstruct the clip-normalised coordinates of masked tokens."""

    about = About(
        title="Normalisation Among Timestamps (masked joints, without the contrastive branch)",
        paper=(
            "Rethinking Masked Data Reconstruction Pretraining for Strong 3D Action Representation"
            " Learning, AAAI 2025, no arXiv number"
        ),
        epochs=400,
        deviations=(
            (
                "the contrastive branch is not built: no description of it could be read; so"
                " accuracies and the 46.6 h that are printed for NAT are of more than this row does"
            ),
        ),
        choices=(
            (
                "random mask, so that the target is all that differs from skeletonmae; tau=0.8"
                " takes MAMP's"
            ),
            "the clip is what the method is shown: the crop after its resize, 120 frames at base",
            "epsilon 1e-6 and the n - 1 variance of MAMP's normalisation",
            (
                "schedule of 400 epochs and decoder depth 5 at base, as for MAMP: the paper's could"
                " not be read"
            ),
            "empty bodies take no part in the loss because the harness does not batch them",
        ),
    )
    Options = NATOptions

    def __init__(self, encoder: SkeletonEncoder, options: NATOptions) -> None:
        super().__init__(encoder, options)
        self.decoder = TokenDecoder(
            encoder, known(self.options.decoder_depth), outputs=encoder.grid.patch_width
        )

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``mean (P - patchify((x - mean_T x) / sd_T x))^2`` over masked tokens."""
        mask = motion_aware_mask(x, self.encoder.grid, self.options.mask_ratio, self.options.tau)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        prediction = take(self.decoder(latent, mask), mask.masked)  # [B, L - K, P]
        target = take(self.targets(x), mask.masked)  # [B, L - K, P]
        loss = (prediction - target).square().mean()
        return loss, {"reconstruction": loss.detach()}

    def targets(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B L P"]:
        """Coordinates of every token, each joint's each axis standardised over the clip."""
        return patchify(standardise_clip(x), self.encoder.grid.patch)

    def reconstruct(self, x: Float[Tensor, "B T V 3"], mask: Mask) -> Float[Tensor, "B T V 3"]:
        """Coordinates of all tokens, with the mean and scale of the true clip."""
        predicted = self.decoder(self.encoder(x, mask.visible), mask)  # [B, L, P]
        return restore_clip(unpatchify(predicted, self.encoder.grid.patch, x.shape[2]), x)
