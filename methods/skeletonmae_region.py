"""The graph SkeletonMAE's pretext on the shared encoder: masked body regions, graph decoder, cosine
error.

Closed-division counterpart of `methods.skeletonmae_graph` (Yan et al., ICCV 2023, arXiv
2307.08476): it asks what that pretext is worth when the encoder is the one that every other method
trains.
"""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from methods.base import About, Diagnosis, Method, MethodOptions, Scalar
from methods.parts.encoder import SkeletonEncoder
from methods.parts.graph import (
    GraphDecoder,
    check_regions,
    cosine_error,
    cosine_health,
    part_membership,
    region_mask,
)
from methods.parts.tokens import patchify

VERSION = 1


class SkeletonMAERegionOptions(MethodOptions):
    """Options; ``regions`` counts the masked body parts of a sequence,
    ``beta`` is the exponent of the cosine error.
    """

    regions: int = Field(default=1, ge=1, le=10_000)
    beta: float = Field(default=2.0, ge=1, le=100)

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Check ``regions`` against the layout's body parts."""
        check_regions(self.regions, encoder.skeleton)
        return self


class SkeletonMAERegion(Method[SkeletonMAERegionOptions]):
    """Reconstruct the patch embeddings of masked body regions with the shared encoder
    and a graph decoder.
    """

    name = "skeletonmae-region"
    about = About(
        title="SkeletonMAE (graph) pretext on the shared encoder",
        paper="pretext of Yan et al., ICCV 2023, arXiv 2307.08476",
        deviations=(
            (
                "the shared transformer over joint-wise patches of a sequence instead of a graph"
                " network over single frames; of the paper's network only the decoder is kept"
            ),
            (
                "3-D joints of the data's own layout instead of 17 2-D HRNet joints, with that"
                " layout's bones and parts"
            ),
            (
                "the harness's optimiser, schedule, batch and budget instead of lr 1.5e-4, batch"
                " 1024 and 50 epochs"
            ),
        ),
        choices=(
            (
                "masked tokens stay in the encoder as a mask token with their position, as in the"
                " paper; it therefore sees all tokens, which at base costs 14 times the encoder of"
                " a method that drops 90 % of them"
            ),
            (
                "one region per body sequence, masked in all its time steps: the encoder attends"
                " over time, and a region that is seen a step earlier would be copied"
            ),
            "target: the patch embedding of the unmasked input without positions, detached",
            (
                "GIN layer: linear, batch norm, ReLU, linear, batch norm, ReLU, all of the"
                " encoder's width"
            ),
            (
                "the decoder works on the joint graph of each time step; it has no positions of"
                " its own"
            ),
            (
                "mean of (1 - cos)^beta over all masked tokens of a batch, large and small regions"
                " alike"
            ),
        ),
    )
    Options = SkeletonMAERegionOptions
    parts: Bool[Tensor, "R V"]

    def __init__(self, encoder: SkeletonEncoder, options: SkeletonMAERegionOptions) -> None:
        super().__init__(encoder, options)
        skeleton = check_regions(self.options.regions, encoder.skeleton)
        self.mask_token = nn.Parameter(torch.empty(encoder.width))
        self.decoder = GraphDecoder(skeleton, encoder.width, outputs=encoder.width)
        self.register_buffer("parts", part_membership(skeleton), persistent=False)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def predict(
        self, x: Float[Tensor, "B T V 3"]
    ) -> tuple[Float[Tensor, "B T_e V D"], Float[Tensor, "B T_e V D"], Bool[Tensor, "B T_e V"]]:
        """Predictions and targets of every token, and where it is masked."""
        encoder, grid = self.encoder, self.encoder.grid
        region = region_mask((len(x),), self.parts, self.options.regions)  # [B, V]
        mask = region.repeat(1, grid.times)  # [B, L], time-major
        embedded = encoder.patch_embed(patchify(x, grid.patch))  # [B, L, D]
        shown = torch.where(mask.unsqueeze(-1), self.mask_token, embedded)  # [B, L, D]
        latent = encoder.norm(encoder.layers_of(shown + encoder.positions())[-1])  # [B, L, D]
        shape = (grid.times, grid.joints)
        prediction = self.decoder(latent.unflatten(1, shape))  # [B, T_e, V, D]
        return prediction, embedded.detach().unflatten(1, shape), mask.unflatten(1, shape)

    def visible(self, x: Float[Tensor, "B T V 3"]) -> Bool[Tensor, "B T_e V"]:
        """The tokens outside the masked regions."""
        return ~self.predict(x)[2]

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``mean (1 - cos(P, Z))^beta`` over the masked tokens."""
        loss = cosine_error(*self.predict(x), self.options.beta)
        return loss, {"cosine_error": loss.detach()}

    def diagnose(self, x: Float[Tensor, "B T V 3"]) -> Diagnosis:
        """The error on masked tokens beside that of predicting every joint's mean target."""
        return Diagnosis(cosine_health(*self.predict(x), self.options.beta))
