"""SkeletonMAE, the graph one: mask whole body regions of a frame, reconstruct their joints from the
rest.

Yan et al., "SkeletonMAE: Graph-based Masked Autoencoder for Skeleton Sequence Pre-training", ICCV
2023, arXiv 2307.08476; no public code. An open-division method: its encoder is a small graph
network of its own. The same pretext on the shared encoder is `methods.skeletonmae_region`; the
paper's fine-tuning model is `methods.strl`. Not to be confused with the SkeletonMAE of later
papers' tables, `methods.skeletonmae`.
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
    GraphEncoder,
    check_regions,
    cosine_error,
    cosine_health,
    part_membership,
    region_mask,
)
from methods.parts.options import Depth, Width

VERSION = 1


class SkeletonMAEGraphOptions(MethodOptions):
    """Options; ``regions`` counts the masked body parts of a frame,
    ``beta`` is the exponent of the cosine error.
    """

    regions: int = Field(default=1, ge=1, le=10_000)
    beta: float = Field(default=2.0, ge=1, le=100)
    width: Width = 64
    depth: Depth = 3

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Check ``regions`` against the layout's body parts."""
        check_regions(self.regions, encoder.skeleton)
        return self


class SkeletonMAEGraph(Method[SkeletonMAEGraphOptions]):
    """Reconstruct the projected joints of masked body regions, frame by frame,
    with a graph network.
    """

    name = "skeletonmae-graph"
    about = About(
        title="SkeletonMAE (graph): masked body regions under a graph network",
        paper="Yan et al., ICCV 2023, arXiv 2307.08476",
        epochs=50,
        deviations=(
            (
                "3-D joints of the data's own layout instead of 17 2-D HRNet joints, with that"
                " layout's bones and parts"
            ),
            (
                "the harness's frames, optimiser, schedule, batch and budget instead of 64 frames,"
                " lr 1.5e-4, batch 1024 and 50 epochs"
            ),
            (
                "evaluated by probes on the frozen encoder, mean over frames and joints, instead of"
                " fine-tuning STRL"
            ),
        ),
        choices=(
            (
                "frames are independent: no temporal module in pre-training, a region is drawn for"
                " every frame"
            ),
            "one region per frame, drawn uniformly; regions=2 and more as an option",
            (
                "target: the linear projection of the unmasked input joint, detached; its bias lets"
                " the direction, all that a cosine sees, tell a joint's distance from the"
                " origin too"
            ),
            (
                "learnable joint embedding added after masking, so that a masked joint still says"
                " which joint it is"
            ),
            (
                "no root-centring of its own: clips arrive centred on their first frame, the same"
                " for every method"
            ),
            (
                "GIN layer: linear, batch norm, ReLU, linear, batch norm, ReLU, all of one width;"
                " MLPs have two layers"
            ),
            (
                "the decoder reads the encoder's output as it is; masked joints are not masked"
                " again before it"
            ),
            (
                "mean of (1 - cos)^beta over all masked joints of a batch, large and small regions"
                " alike"
            ),
            "batch norm has seen masked frames only when the probes give it whole ones",
        ),
        division="open",
    )
    Options = SkeletonMAEGraphOptions
    encoder: GraphEncoder
    parts: Bool[Tensor, "R V"]

    def __init__(self, encoder: SkeletonEncoder, options: SkeletonMAEGraphOptions) -> None:
        super().__init__(encoder, options)
        width, skeleton = self.options.width, self.encoder.skeleton
        self.mask_token = nn.Parameter(torch.empty(width))
        self.decoder = GraphDecoder(skeleton, width, outputs=width)
        self.register_buffer("parts", part_membership(skeleton), persistent=False)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def own_encoder(self, shared: SkeletonEncoder) -> GraphEncoder:
        """The graph network, on the shared encoder's frames and skeleton."""
        skeleton = check_regions(self.options.regions, shared.skeleton)
        return GraphEncoder(shared.grid.frames, skeleton, self.options.width, self.options.depth)

    def predict(
        self, x: Float[Tensor, "B T V 3"]
    ) -> tuple[Float[Tensor, "B T V D"], Float[Tensor, "B T V D"], Bool[Tensor, "B T V"]]:
        """Predictions and targets of every joint, and where it is masked."""
        mask = region_mask(x.shape[:2], self.parts, self.options.regions)  # [B, T, V]
        projected = self.encoder.project(x)  # [B, T, V, D]
        seen = torch.where(mask.unsqueeze(-1), self.mask_token, projected)  # [B, T, V, D]
        prediction = self.decoder(self.encoder.network(seen))  # [B, T, V, D]
        # detached: else the projection would learn to be easily predicted
        return prediction, projected.detach(), mask

    def visible(self, x: Float[Tensor, "B T V 3"]) -> Bool[Tensor, "B T V"]:
        """The joints outside the masked regions, frame by frame."""
        return ~self.predict(x)[2]

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``mean (1 - cos(P, Z))^beta`` over the masked joints."""
        loss = cosine_error(*self.predict(x), self.options.beta)
        return loss, {"cosine_error": loss.detach()}

    def diagnose(self, x: Float[Tensor, "B T V 3"]) -> Diagnosis:
        """The error on masked joints beside that of predicting every joint's mean target."""
        return Diagnosis(cosine_health(*self.predict(x), self.options.beta))
