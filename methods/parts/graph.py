"""Parts of graph-based methods: GIN layers on the joint graph, the graph encoder, region masks, the
cosine error.

Yan et al., "SkeletonMAE: Graph-based Masked Autoencoder for Skeleton Sequence Pre-training", ICCV
2023, arXiv 2307.08476. Every frame is a graph of its own: time is folded into the batch. Shared by
`methods.skeletonmae_graph`, `methods.skeletonmae_region` and `methods.strl`; there is no method in
this file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.parts.encoder import Encoder, Skeleton
from methods.parts.options import OptionError
from methods.parts.ranks import average, uniform
from methods.parts.tokens import CHANNELS, TokenGrid

VERSION = 1

COSINE_EPSILON = 1e-4
"""Vectors shorter than this count as this long: a zero vector has cosine 0 and a bounded gradient.
"""


def adjacency(parents: tuple[int, ...]) -> Tensor:
    """Symmetric adjacency ``[V, V]`` of the joint graph: 1 where two joints share a bone,
    no self loops.
    """
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


def part_membership(skeleton: Skeleton) -> Tensor:
    """``[P, V]`` bool: joint v belongs to body part p."""
    joints = range(len(skeleton.parents))
    return torch.tensor([[joint in part for joint in joints] for part in skeleton.parts.values()])


def region_mask(batch: tuple[int, ...], parts: Tensor, regions: int) -> Tensor:
    """Mask all joints of ``regions`` different body parts, drawn for every element of ``batch``:
    bool ``[*batch, V]``.

    ``parts`` is `part_membership`, on the device that the mask is wanted on.
    """
    chosen = uniform(*batch, len(parts), device=parts.device).topk(regions).indices
    return parts[chosen].any(dim=-2)


# --- layers ---


class GINLayer(nn.Module):
    """Graph isomorphism layer: ``h_v <- MLP((1 + eps) h_v + sum_{u in N(v)} h_u)``, eps learnable
    from 0.

    The MLP is linear, batch norm, ReLU, linear; batch norm and ReLU follow it. Batch norm counts
    every joint of every graph as a row, with running statistics in eval mode.

    Args:
        neighbours: adjacency ``[V, V]`` without self loops.
        width: D.
    """

    neighbours: Tensor

    def __init__(self, neighbours: Tensor, width: int) -> None:
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

    def aggregate(self, joints: Tensor) -> Tensor:
        """``(1 + eps)`` self plus the sum over neighbours; ``[..., V, D]`` keeps its shape."""
        return (1 + self.eps) * joints + self.neighbours @ joints

    def forward(self, joints: Tensor) -> Tensor:
        """``[..., V, D]`` keeps its shape."""
        gathered = self.aggregate(joints)
        return self.mlp(gathered.flatten(0, -2)).reshape(gathered.shape)


def head(width: int, outputs: int) -> nn.Sequential:
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
        self.head = head(width, width)
        nn.init.trunc_normal_(self.joint, std=0.02)

    def forward(self, joints: Tensor) -> Tensor:
        """``[..., V, D]`` keeps its shape; the joint embedding is added here,
        so a masked joint keeps its name.
        """
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

    def forward(self, x: Tensor) -> Tensor:
        """Tokens ``[B, T * V, D]`` of ``x`` ``[B, T, V, 3]``, nothing masked."""
        return self.network(self.project(x)).flatten(1, 2)

    def describe(self) -> dict[str, object]:
        """Grid and bones."""
        return {**super().describe(), "parents": list(self.skeleton.parents)}


class GraphDecoder(nn.Module):
    """One GIN layer and an MLP on the joint graph of every time step."""

    def __init__(self, skeleton: Skeleton, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = GINLayer(adjacency(skeleton.parents), width)
        self.head = head(width, outputs)

    def forward(self, joints: Tensor) -> Tensor:
        """``[..., V, D]`` to ``[..., V, outputs]``."""
        return self.head(self.layer(joints))


# --- the loss ---


def cosine_error(prediction: Tensor, target: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Re-weighted cosine error ``mean (1 - cos(P, Z))^beta`` over the joints where ``mask``.

    The paper's sum over |V| masked joints divides by |V|^beta; that constant power is left out.
    ``beta`` must be at least 1. ``[..., V, D]``, ``[..., V, D]`` and bool ``[..., V]`` give a
    float32 scalar.
    """
    cosine = nn.functional.cosine_similarity(
        prediction.float(), target.float(), dim=-1, eps=COSINE_EPSILON
    )
    error = (1 - cosine).clamp(min=0) ** beta  # rounding may put a cosine above 1
    return (error * mask).sum() / average(
        mask.sum()
    )  # a rank's part of the mean over all ranks' joints


def cosine_health(
    prediction: Tensor, target: Tensor, mask: Tensor, beta: float
) -> dict[str, float]:
    """The cosine error, and that of always predicting a joint's mean target direction, for
    `Method.diagnose`.

    Targets are ``[B, T, V, D]``. The first below the second: more than the mean pose was learnt.
    The second near 0: the targets have collapsed.
    """
    mean = (
        nn.functional.normalize(target.float(), dim=-1)
        .mean(dim=(0, 1), keepdim=True)
        .expand_as(target)
    )
    return {
        "error/prediction": cosine_error(prediction, target, mask, beta).item(),
        "error/mean-target": cosine_error(mean, target, mask, beta).item(),
    }
