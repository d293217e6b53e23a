"""MAMP, Masked Motion Prediction: predict the motion of masked tokens.

Mao et al., "Masked Motion Predictors are Strong 3D Action Representation Learners", ICCV 2023,
arXiv 2308.07092; code maoyunyao/MAMP. The base of the others, and the row that their speedups are
stated against.
"""

from __future__ import annotations

from typing import Literal, Self

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.base import About, Method, MethodOptions, Scalar, known
from methods.parts.decoders import QueryDecoder, TokenDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import Mask, motion_aware_mask
from methods.parts.options import Depth, Sharpness
from methods.parts.tokens import frame_motion, patchify, standardise, take

VERSION = 1


class MAMPOptions(MethodOptions):
    """Options; ``decoder_depth`` is 5 at ``base`` and in proportion to the encoder's depth
    elsewhere.

    ``decoder=cross`` is a control: AMR's cross-attention decoder with one query per token, targets
    unchanged.
    """

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    tau: Sharpness = 0.8
    decoder: Literal["self", "cross"] = "self"
    decoder_depth: Depth | None = None

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in the decoder depth."""
        return self.model_copy(
            update={"decoder_depth": self.decoder_depth or scaled_depth(5, encoder)}
        )


class MAMP(Method[MAMPOptions]):
    """Predict the standardised frame-to-frame motion of masked tokens."""

    about = About(
        title="Masked Motion Prediction",
        paper="Mao et al., ICCV 2023, arXiv 2308.07092",
        epochs=400,
        code="maoyunyao/MAMP",
        choices=(
            (
                "decoder depth 5 at base, as GFP's and AMR's speed tables cost it; MAMP's released"
                " NTU-60 run uses 3"
            ),
            "tau 0.8 everywhere; MAMP takes 0.75 on NTU-120",
            "empty bodies take no part in the loss because the harness does not batch them",
        ),
    )
    Options = MAMPOptions

    def __init__(self, encoder: SkeletonEncoder, options: MAMPOptions) -> None:
        super().__init__(encoder, options)
        grid, depth = encoder.grid, known(self.options.decoder_depth)
        self.decoder: TokenDecoder | QueryDecoder
        if self.options.decoder == "self":
            self.decoder = TokenDecoder(encoder, depth, outputs=grid.patch_width)
        else:
            self.decoder = QueryDecoder(
                encoder, depth, windows=grid.times, outputs=grid.patch_width
            )

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``mean (P - standardise(patchify(motion(x))))^2`` over masked tokens."""
        mask = motion_aware_mask(x, self.encoder.grid, self.options.mask_ratio, self.options.tau)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        prediction = take(self.predict(latent, mask), mask.masked)  # [B, L - K, P]
        # each patch by itself (norm_skes_loss, model_mamp/transformer.py)
        target = standardise(patchify(frame_motion(x), self.encoder.grid.patch))  # [B, L, P]
        loss = (prediction - take(target, mask.masked)).square().mean()
        return loss, {"motion": loss.detach()}

    def predict(self, latent: Float[Tensor, "B K D"], mask: Mask) -> Float[Tensor, "B L P"]:
        """Predictions for all tokens."""
        if isinstance(self.decoder, TokenDecoder):
            return self.decoder(latent, mask)
        return self.decoder(latent)
