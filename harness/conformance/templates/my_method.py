"""My method: predict the coordinates of masked tokens, each relative to its own patch's mean."""

from __future__ import annotations

from typing import Self

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.base import About, Method, MethodOptions, Scalar
from methods.parts.decoders import TokenDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import random_mask
from methods.parts.tokens import patchify, take


class MyMethodOptions(MethodOptions):
    """Options; ``decoder_depth=0`` is 2 at ``base``, elsewhere in proportion to the encoder's."""

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    decoder_depth: int = Field(default=0, ge=0)

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in what depends on the encoder."""
        return self.model_copy(
            update={"decoder_depth": self.decoder_depth or scaled_depth(2, encoder)}
        )


class MyMethod(Method[MyMethodOptions]):
    """Reconstruct where the joint of each masked token moves within its patch."""

    about = About(
        title="My method",
        # a citation with its number: "Doe et al., ICCV 2025, arXiv 2501.01234"
        paper="none: not published",
        choices=("one sentence for each thing that the paper leaves open and what was chosen",),
    )
    Options = MyMethodOptions

    def __init__(self, encoder: SkeletonEncoder, options: MyMethodOptions) -> None:
        super().__init__(encoder, options)
        self.decoder = TokenDecoder(
            encoder, self.options.decoder_depth, outputs=encoder.grid.patch_width
        )

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """Mean squared error over masked tokens of body sequences in metres."""
        mask = random_mask(x, self.encoder.grid, self.options.mask_ratio)
        latent = self.encoder(x, mask.visible)  # [B, K, D]: K visible tokens
        prediction = take(self.decoder(latent, mask), mask.masked)  # [B, L - K, P]
        target = take(self.target(x), mask.masked)  # [B, L - K, P]
        loss = (prediction - target).square().mean()
        return loss, {"coordinates": loss.detach()}

    def target(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B L P"]:
        """Every patch minus its mean position, in decimetres; P = patch * 3 numbers."""
        patches = patchify(x, self.encoder.grid.patch).unflatten(-1, (-1, 3))  # [B, L, patch, 3]
        return 10 * (patches - patches.mean(dim=-2, keepdim=True)).flatten(-2)
