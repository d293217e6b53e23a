"""STRL, the graph SkeletonMAE's downstream model: spatial-temporal representation learning by
fine-tuning.

Yan et al., ICCV 2023, arXiv 2307.08476. A plain module, no method: it turns a pre-trained
`methods.parts.graph.GraphEncoder` into a classifier of whole clips, to be trained end to end. The
paper does so with SGD (momentum 0.9, lr 0.1), batch 128, 110 epochs and label smoothing 0.1.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from methods.parts.graph import GraphEncoder, GraphNetwork

VERSION = 1


class STRLLayer(nn.Module):
    """One layer: the pre-trained network on every body, what the bodies say together, residuals.

    Args:
        network: pre-trained; the layer keeps a copy, which all bodies share.
    """

    def __init__(self, network: GraphNetwork) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(
        self, bodies: Float[Tensor, "n T V D"], clip: Int[Tensor, "n"], clips: int
    ) -> Float[Tensor, "n T V D"]:
        """The next features of n bodies; ``clip`` says which of the ``clips`` each belongs to."""
        joints = self.network(bodies)  # [n, T, V, D]
        together = pool_bodies(joints, clip, clips)  # [B, T, D]
        return bodies + joints + together[clip].unsqueeze(2)


def pool_bodies(
    joints: Float[Tensor, "n T V D"], clip: Int[Tensor, "n"], clips: int
) -> Float[Tensor, "{clips} T D"]:
    """Sum over a clip's bodies of their mean over joints."""
    means = joints.mean(dim=2)  # [n, T, D]
    return means.new_zeros(clips, *means.shape[1:]).index_add(0, clip, means)


def pool_time_scales(
    steps: Float[Tensor, "B T D"], scales: tuple[int, ...]
) -> Float[Tensor, "B {sum(scales)}*D"]:
    """Means over 1, 2, ... equal windows of time, joined."""
    lines = steps.transpose(1, 2)  # [B, D, T]
    windows = [
        nn.functional.adaptive_avg_pool1d(lines, count) for count in scales
    ]  # [B, D, W] each
    return torch.cat(windows, dim=2).transpose(1, 2).flatten(1)


class STRL(nn.Module):
    """Class logits of clips from a pre-trained graph encoder.

    From the paper: M = 3 layers, each with two pre-trained encoders that share their weights, one
    per person, fused by sum-pooling and repeat, with residuals; a learnable temporal position;
    multi-scale temporal pooling; an MLP classifier.

    What we could not find stated, and our choice:

    - The projection from coordinates stands once, at the entrance; every layer has its own copy of
      everything after it (joint embedding, GIN layers, MLP). All copies start pre-trained and are
      then trained apart. ``encoder`` itself is left as it was.
    - The temporal position is added once, after the projection, the same for all joints and bodies.
    - Fusion sums over the bodies the mean over each body's joints, and repeats it to every body and
      joint. A plain sum over the joints as well would drown a joint's own features in the residual.
    - A layer's output is its input plus the encoder's output plus the repeated fusion.
    - The last layer's bodies are fused once more and averaged over 1, 2 and 4 equal windows of
      time; all seven window means go side by side into the classifier: layer norm, linear, ReLU,
      linear.
    - A body that is zero throughout a clip is absent: it is not computed, so it changes neither its
      clip nor the batch-norm statistics. Finding the present bodies synchronises with the host once
      per forward pass.

    Args:
        encoder: pre-trained.
        classes: number of classes.
        depth: M.
        scales: window counts of the temporal pooling.
    """

    def __init__(
        self,
        encoder: GraphEncoder,
        classes: int,
        *,
        depth: int = 3,
        scales: tuple[int, ...] = (1, 2, 4),
    ) -> None:
        super().__init__()
        width, features = encoder.width, sum(scales) * encoder.width
        self.scales = scales
        self.project = copy.deepcopy(encoder.project)
        self.time = nn.Parameter(torch.empty(encoder.grid.times, 1, width))
        self.layers = nn.ModuleList(STRLLayer(encoder.network) for _ in range(depth))
        self.classifier = nn.Sequential(
            nn.LayerNorm(features),
            nn.Linear(features, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, classes),
        )
        nn.init.trunc_normal_(self.time, std=0.02)

    def forward(self, x: Float[Tensor, "B T M V 3"]) -> Float[Tensor, "B C"]:
        """Logits of clips for C classes; any number of body slots M, in any order."""
        slots = x.transpose(1, 2)  # [B, M, T, V, 3]
        present = (slots != 0).flatten(2).any(dim=2)  # [B, M]
        clip, slot = present.nonzero(as_tuple=True)  # [n], [n]
        bodies = self.project(slots[clip, slot]) + self.time  # [n, T, V, D]
        for layer in self.layers:
            bodies = layer(bodies, clip, len(x))
        steps = pool_bodies(bodies, clip, len(x))  # [B, T, D]
        return self.classifier(pool_time_scales(steps, self.scales))
