"""Control: the encoder's forward and backward on visible tokens and nothing else, the decoder-free
bound.

No method that feeds this encoder the same visible tokens can train faster. Its loss has no meaning;
the row exists for its speed.
"""

from __future__ import annotations

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.base import About, Method, MethodOptions, Scalar
from methods.parts.masks import random_mask

VERSION = 1


class EncoderOnlyOptions(MethodOptions):
    """Options."""

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)


class EncoderOnly(Method[EncoderOnlyOptions]):
    """Encode the visible tokens; the loss only makes the backward pass run."""

    about = About(title="Encoder only (decoder-free bound)", paper="none", control=True)
    Options = EncoderOnlyOptions

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """Mean of the squared deviation of the latents from 1."""
        mask = random_mask(x, self.encoder.grid, self.options.mask_ratio)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        # any function of all latents would do: it is there for its backward pass
        loss = (latent - 1).square().mean()
        return loss, {}
