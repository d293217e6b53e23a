"""Parts of graph-based methods: GIN layers on the joint graph, the graph encoder, region masks, the
cosine error.

Yan et al., "SkeletonMAE: Graph-based Masked Autoencoder for Skeleton Sequence Pre-training", ICCV
2023, arXiv 2307.08476. Every frame is a graph of its own: time is folded into the batch. Shared by
`methods.skeletonmae_graph`, `methods.skeletonmae_region` and `methods.strl`; there is no method in
this file.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from methods.parts.encoder import Encoder, Skeleton
from methods.parts.options import OptionError
from methods.parts.ranks import average, uniform
from methods.parts.tokens import CHANNELS, TokenGrid

VERSION = 1

COSINE_EPSILON = 1e-4
"""Vectors shorter than this count as this long: a zero vector has cosine 0 and a bounded gradient.
"""


def adjacency(parents: tuple[int, ...]) -> Float[Tensor, "V V"]:
    """Symmetric adjacency of the joint graph: 1 where two joints share a bone, no self loops."""
    bones = {(joint, parent) for joint, parent in enumerate(parents) if parent >= 0}
    joints = range(len(parents))
    return torch.tensor(
        [[float((u, v) in bones or (v, u) in bones) for v in joints] for u in joints]
    )


# --- region masks ---


def check_regions(regions: int, skeleton: Skeleton | None) -> Skeleton:
    """The skeleton, if ``regions`` of its body parts can be masked with one left
    to see; `OptionError` otherwise.
    """
    if skeleton is None or not skeleton.parts:
        raise OptionError(
            "region masking needs body parts and the joint layout of this data tells none; name the"
            " joints so that each belongs to the head, the torso, an arm or a leg"
        )
    names = ", ".join(skeleton.parts)
    if not 1 <= regions < len(skeleton.parts):
        raise OptionError(
            f"regions={regions}: the layout has {len(skeleton.parts)} body parts ({names}) and one"
            f" must stay visible; allowed are 1 to {len(skeleton.parts) - 1}"
        )
    return skeleton


def part_membership(skeleton: Skeleton) -> Bool[Tensor, "R V"]:
    """Whether joint v belongs to body part r."""
    joints = range(len(skeleton.parents))
    return torch.tensor([[joint in part for joint in joints] for part in skeleton.parts.values()])


def region_mask(
    batch: tuple[int, ...], parts: Bool[Tensor, "R V"], regions: int
) -> Bool[Tensor, "*n V"]:
    """Mask all joints of ``regions`` different body parts, drawn for every element of ``batch``,
    which is the shape ``*n``.

    ``parts`` is `part_membership`, on the device that the mask is wanted on.
    """
    drawn = uniform(*batch, len(parts), device=parts.device)  # [*n, R]
    chosen = drawn.topk(regions).indices  # [*n, regions]
    return parts[chosen].any(dim=-2)


# --- layers ---


class GINLayer(nn.Module):
    """Graph isomorphism layer: ``h_v <- MLP((1 + eps) h_v + sum_{u in N(v)} h_u)``, eps learnable
    from 0.

    The MLP is linear, batch norm, ReLU, linear; batch norm and ReLU follow it. Batch norm counts
    every joint of every graph as a row, with running statistics in eval mode.

    Args:
        neighbours: adjacency without self loops.
        width: D.
    """

    neighbours: Float[Tensor, "V V"]

    def __init__(self, neighbours: Float[Tensor, "V V"], width: int) -> None:
        super().__init__()
        self.register_buffer("neighbours", neighbours, persistent=False)
        self.eps = nn.Parameter(torch.zeros(()))
        self.mlp = nn.Sequential(
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )

    def aggregate(self, joints: Float[Tensor, "*n V D"]) -> Float[Tensor, "*n V D"]:
        """``(1 + eps)`` self plus the sum over neighbours."""
        return (1 + self.eps) * joints + self.neighbours @ joints

    def forward(self, joints: Float[Tensor, "*n V D"]) -> Float[Tensor, "*n V D"]:
        """The next features of every joint."""
        gathered = self.aggregate(joints)  # [*n, V, D]
        # batch norm takes rows: every joint of every graph is one
        return self.mlp(gathered.flatten(0, -2)).reshape(gathered.shape)


def _head(width: int, outputs: int) -> nn.Sequential:
    """The MLP after the graph layers: linear, ReLU, linear."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))


class GraphNetwork(nn.Module):
    """Joint features to joint features: joint embedding, ``depth`` GIN layers, MLP.

    Args:
        skeleton: its bones are the graph.
        width: D.
        depth: GIN layers; the paper's L_D is 3.
    """

    def __init__(self, skeleton: Skeleton, width: int, depth: int) -> None:
        super().__init__()
        neighbours = adjacency(skeleton.parents)
        self.joint = nn.Parameter(torch.empty(len(skeleton.parents), width))
        self.layers = nn.Sequential(*(GINLayer(neighbours, width) for _ in range(depth)))
        self.head = _head(width, width)
        nn.init.trunc_normal_(self.joint, std=0.02)

    def forward(self, joints: Float[Tensor, "*n V D"]) -> Float[Tensor, "*n V D"]:
        """The joint embedding is added here, so a masked joint keeps its name."""
        return self.head(self.layers(joints + self.joint))


class GraphEncoder(Encoder):
    """The graph SkeletonMAE's encoder: every frame by itself, one token per frame and joint.

    Args:
        frames: T.
        skeleton: bones of the V joints.
        width: D, 64 in the paper.
        depth: GIN layers, 3 in the paper.

    Attributes:
        grid: ``T * V`` tokens of one frame each, so the mean over tokens is the mean over frames
            and joints.
        project: a joint's coordinates to D numbers; what a method masks, and predicts, is its
            output.
        network: what follows, `GraphNetwork`.
    """

    def __init__(self, frames: int, skeleton: Skeleton, width: int, depth: int) -> None:
        super().__init__()
        self.width, self.skeleton = width, skeleton
        self.grid = TokenGrid(times=frames, joints=len(skeleton.parents), patch=1)
        self.project = nn.Linear(CHANNELS, width)
        self.network = GraphNetwork(skeleton, width, depth)

    def forward(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B T*V D"]:
        """One token for every frame and joint, nothing masked."""
        return self.network(self.project(x)).flatten(1, 2)

    def describe(self) -> dict[str, object]:
        """Grid and bones."""
        return {**super().describe(), "parents": list(self.skeleton.parents)}


class GraphDecoder(nn.Module):
    """One GIN layer and an MLP on the joint graph of every time step."""

    def __init__(self, skeleton: Skeleton, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = GINLayer(adjacency(skeleton.parents), width)
        self.head = _head(width, outputs)

    def forward(self, joints: Float[Tensor, "*n V D"]) -> Float[Tensor, "*n V C"]:
        """Predictions of every joint, C = ``outputs``."""
        return self.head(self.layer(joints))


# --- the loss ---


def cosine_error(
    prediction: Float[Tensor, "*n V D"],
    target: Float[Tensor, "*n V D"],
    mask: Bool[Tensor, "*n V"],
    beta: float,
) -> Float32[Tensor, ""]:
    """Re-weighted cosine error ``mean (1 - cos(P, Z))^beta`` over the joints where ``mask``.

    The paper's sum over |V| masked joints divides by |V|^beta; that constant power is left out.
    ``beta`` must be at least 1.
    """
    cosine = nn.functional.cosine_similarity(
        prediction.float(), target.float(), dim=-1, eps=COSINE_EPSILON
    )  # [*n, V]
    error = (1 - cosine).clamp(min=0) ** beta  # rounding may put a cosine above 1
    # a rank's part of the mean over all ranks' joints
    return (error * mask).sum() / average(mask.sum())


def cosine_health(
    prediction: Float[Tensor, "B T_e V D"],
    target: Float[Tensor, "B T_e V D"],
    mask: Bool[Tensor, "B T_e V"],
    beta: float,
) -> dict[str, float]:
    """The cosine error, and that of always predicting a joint's mean target direction, for
    `Method.diagnose`.

    The first below the second: more than the mean pose was learnt. The second near 0: the targets
    have collapsed.
    """
    direction = nn.functional.normalize(target.float(), dim=-1)  # [B, T_e, V, D]
    mean = direction.mean(dim=(0, 1), keepdim=True).expand_as(target)  # [B, T_e, V, D]
    return {
        "error/prediction": cosine_error(prediction, target, mask, beta).item(),
        "error/mean-target": cosine_error(mean, target, mask, beta).item(),
    }
