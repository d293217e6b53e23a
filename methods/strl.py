"""STRL, the graph SkeletonMAE's downstream model: spatial-temporal representation learning by
fine-tuning.

Yan et al., ICCV 2023, arXiv 2307.08476. A plain module, no method: it turns a pre-trained
`methods.parts.graph.GraphEncoder` into a classifier of whole clips, to be trained end to end. The
paper does so with SGD (momentum 0.9, lr 0.1), batch 128, 110 epochs and label smoothing 0.1.
"""

from __future__ import annotations

import copy

import torch
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

    def forward(self, bodies: Tensor, clip: Tensor, clips: int) -> Tensor:
        """``[n, T, V, D]`` keeps its shape;
        ``clip`` ``[n]`` says which of the ``clips`` a body belongs to.
        """
        joints = self.network(bodies)
        together = pool_bodies(joints, clip, clips)  # [B, T, D]
        return bodies + joints + together[clip].unsqueeze(2)


def pool_bodies(joints: Tensor, clip: Tensor, clips: int) -> Tensor:
    """Sum over a clip's bodies of their mean over joints: ``[n, T, V, D]`` to ``[clips, T, D]``."""
    means = joints.mean(dim=2)
    return means.new_zeros(clips, *means.shape[1:]).index_add(0, clip, means)


def pool_time_scales(steps: Tensor, scales: tuple[int, ...]) -> Tensor:
    """Means over 1, 2, ... equal windows of time, joined: ``[B, T, D]`` to
    ``[B, sum(scales) * D]``.
    """
    windows = [nn.functional.adaptive_avg_pool1d(steps.transpose(1, 2), count) for count in scales]
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

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of clips ``x`` ``[B, T, M, V, 3]``; any number of bodies M,
        in any order.
        """
        slots = x.transpose(1, 2)  # [B, M, T, V, 3]
        present = (slots != 0).flatten(2).any(dim=2)
        clip, slot = present.nonzero(as_tuple=True)
        bodies = self.project(slots[clip, slot]) + self.time
        for layer in self.layers:
            bodies = layer(bodies, clip, len(x))
        return self.classifier(pool_time_scales(pool_bodies(bodies, clip, len(x)), self.scales))
