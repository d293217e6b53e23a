"""MCSP, Masked Cosine Similarity Prediction: the angles between neighbouring joints of masked
tokens, frame by frame.

Ren et al., "Masked cosine similarity prediction for self-supervised skeleton-based action
representation learning", Pattern Analysis and Applications 2025; code skyisyourlimit/MCSP, a fork
of MAMP with another target.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cosine_similarity

from methods.base import About, Method, MethodOptions, Scalar, known
from methods.parts.decoders import TokenDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import motion_aware_mask
from methods.parts.options import Depth, Sharpness
from methods.parts.tokens import frame_motion, patchify, standardise, take

VERSION = 1


class MCSPOptions(MethodOptions):
    """Options; ``decoder_depth`` is 5 at ``base`` and in proportion to the encoder's depth
    elsewhere.

    ``of``: cosines between the joints' positions, or between their motions. ``tau``: 0 is a random
    mask.
    """

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    tau: Sharpness = 0.0
    of: Literal["positions", "motion"] = "positions"
    decoder_depth: Depth | None = None

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in the decoder depth."""
        return self.model_copy(
            update={"decoder_depth": self.decoder_depth or scaled_depth(5, encoder)}
        )


def neighbour_cosine(vectors: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B T V 1"]:
    """``c[t, v] = cos(x[t, v], x[t, v + 1])``, 0 at the last joint.

    A vector of length 0 has the cosine 0.
    """
    cosines = cosine_similarity(vectors[:, :, :-1], vectors[:, :, 1:], dim=-1)  # [B, T, V - 1]
    return torch.cat([cosines, torch.zeros_like(cosines[:, :, :1])], dim=2).unsqueeze(-1)


class MCSP(Method[MCSPOptions]):
    """Predict the standardised cosines between each joint and the next, for masked tokens."""

    about = About(
        title="Masked Cosine Similarity Prediction",
        paper=(
            "Ren et al., Pattern Analysis and Applications 2025, doi 10.1007/s10044-025-01472-3, no"
            " arXiv number"
        ),
        epochs=400,
        code="skyisyourlimit/MCSP, model_mcsp/transformer_pretrain.py",
        choices=(
            (
                "as the released code: cosines of positions, seen from the clip's origin; of=motion"
                " takes those of frame-to-frame motion"
            ),
            (
                "a joint's neighbour is the next one by index, whatever the skeleton, and the last"
                " joint's cosine is 0, as released; its masked tokens count in the loss"
            ),
            (
                "where the run centres clips on a joint, that joint's first vector has length 0 and"
                " the cosine 0"
            ),
            "decoder depth 5 at base, as for MAMP; the released configurations have 3 and 5",
            "empty bodies take no part in the loss because the harness does not batch them",
        ),
    )
    Options = MCSPOptions

    def __init__(self, encoder: SkeletonEncoder, options: MCSPOptions) -> None:
        super().__init__(encoder, options)
        self.decoder = TokenDecoder(
            encoder, known(self.options.decoder_depth), outputs=encoder.grid.patch
        )

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``mean (P - standardise(patchify(c(x))))^2`` over masked tokens."""
        mask = motion_aware_mask(x, self.encoder.grid, self.options.mask_ratio, self.options.tau)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        prediction = take(self.decoder(latent, mask), mask.masked)  # [B, L - K, patch]
        target = take(self.targets(x), mask.masked)  # [B, L - K, patch]
        loss = (prediction - target).square().mean()
        return loss, {"cosine": loss.detach()}

    def targets(
        self, x: Float[Tensor, "B T V 3"]
    ) -> Float[Tensor, "B L {self.encoder.grid.patch}"]:
        """Standardised cosines of every token."""
        vectors = frame_motion(x) if self.options.of == "motion" else x  # [B, T, V, 3]
        return standardise(patchify(neighbour_cosine(vectors), self.encoder.grid.patch))
