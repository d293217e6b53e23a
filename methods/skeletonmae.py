"""SkeletonMAE as later papers' tables mean it: masked autoencoding of joint coordinates on MAMP's transformer.

The row "SkeletonMAE" of GFP's and AMR's tables is MAMP's re-implementation (``model_mae`` in its repository;
dossier 5.2), which is what this file follows: uniform random mask, per-patch standardised coordinates, mean
squared error on masked tokens. It is neither the graph SkeletonMAE of Yan et al. (ICCV 2023) nor the
network of Wu et al. (ICMEW 2023).
"""

from __future__ import annotations

from typing import Self

from pydantic import Field
from torch import Tensor

from methods.base import About, Method, MethodOptions
from methods.decoders import TokenDecoder, scaled_depth
from methods.encoder import SkeletonEncoder
from methods.masks import random_mask
from methods.tokens import patchify, standardise, take


class SkeletonMAEOptions(MethodOptions):
    """Options; ``decoder_depth=0`` is 5 at ``base`` and in proportion to the encoder's depth elsewhere."""

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    decoder_depth: int = Field(default=0, ge=0)

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in the decoder depth."""
        return self.model_copy(update={"decoder_depth": self.decoder_depth or scaled_depth(5, encoder)})


class SkeletonMAE(Method[SkeletonMAEOptions]):
    """Reconstruct the coordinates of masked tokens."""

    about = About(
        title="SkeletonMAE (coordinate reconstruction under MAMP's transformer)",
        paper="Wu et al., ICMEW 2023, arXiv 2209.02399; as re-implemented by MAMP, ICCV 2023, arXiv 2308.07092",
        code="maoyunyao/MAMP, model_mae",
        deviations=(
            "follows MAMP's re-implementation, the row that GFP's and AMR's tables print, not Wu et al.'s network",
        ),
        choices=(
            "decoder depth 5 at base, as GFP's and AMR's speed tables cost it; MAMP's released NTU-60 run uses 3",
            "empty bodies take no part in the loss because the harness does not batch them",
        ),
    )
    Options = SkeletonMAEOptions

    def __init__(self, encoder: SkeletonEncoder, options: SkeletonMAEOptions) -> None:
        super().__init__(encoder, options)
        self.decoder = TokenDecoder(encoder, self.options.decoder_depth, outputs=encoder.grid.patch_width)

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean squared error over masked tokens, ``mean (P - standardise(patchify(x)))^2`` (dossier 1.5, 5.2)."""
        mask = random_mask(x, self.encoder.grid, self.options.mask_ratio)
        latent = self.encoder(x, mask.visible)
        prediction = take(self.decoder(latent, mask), mask.masked)
        target = take(standardise(patchify(x, self.encoder.grid.patch)), mask.masked)
        loss = (prediction - target).square().mean()
        return loss, {"reconstruction": loss.detach()}
