"""A method under examination in a small world: tiny encoders, four skeletons, a few synthetic
clips.

Small enough that a whole examination (`harness.conformance.suite`) takes seconds on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from datasets.batches import Batch, BodySequences, test_crops
from datasets.clips import ClipSet
from datasets.layouts import KINECT20, NTU25, UIPRMD22, SkeletonLayout, layout_from_parents
from datasets.synthetic.generation import generate
from harness.isolation.contract import loss_and_parts
from harness.spec.model import DataSpec, EncoderSpec, MethodSpec, RunSpec, TrainSpec
from harness.speed.trial import Trial
from harness.training.build import build_method, build_optimizer
from methods.base import Method, MethodOptions
from methods.parts.encoder import Encoder

CPU = torch.device("cpu")
FRAMES = 24
ROUNDING = 1e-5

MADE_UP15 = layout_from_parents(
    (
        "pelvis",
        "spine",
        "head",
        "left_shoulder",
        "left_elbow",
        "left_hand",
        "right_shoulder",
        "right_elbow",
        "right_hand",
        "left_hip",
        "left_knee",
        "left_foot",
        "right_hip",
        "right_knee",
        "right_foot",
    ),
    (-1, 0, 1, 1, 3, 4, 1, 6, 7, 0, 9, 10, 0, 12, 13),
    name="made-up15",
)
SKELETONS = {layout.joint_count: layout for layout in (MADE_UP15, KINECT20, UIPRMD22, NTU25)}

ALONE = ("wave", "kick")
TOGETHER = ("handshake", "push")
_BOTH = ("wave", "handshake")


class NotApplicable(Exception):
    """The check has no meaning for this method; the message says why."""


class Unmet(AssertionError):
    """What a check found wrong, in one line: expected, found, next step;
    a method's own asserts are none.
    """


@dataclass(frozen=True)
class Specimen:
    """A method class, the options to examine it with, and everything a check needs to try it.

    Attributes:
        method: the class.
        options: as in a spec; whatever is not given keeps its default.
    """

    method: type[Method]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def open_division(self) -> bool:
        """The method brings its own encoder."""
        return self.method.about.division == "open"

    def spec(self, *, depth: int = 2, seed: int = 0, **train: Any) -> RunSpec:
        """A run of the width-16 encoder; ``train`` goes into its `TrainSpec`."""
        return RunSpec(
            method=MethodSpec(name="specimen", options=dict(self.options)),
            seed=seed,
            encoder=EncoderSpec(
                size="tiny", depth=depth, width=16, heads=2, frames=FRAMES, patch=4
            ),
            data=DataSpec(min_crop=8),
            train=TrainSpec(**{"batch_size": 12, "lr": 3e-3, **train}),
        )

    def typed_options(self) -> MethodOptions:
        """The options as the method's own type."""
        return self.method.Options.model_validate(dict(self.options))

    def build(self, layout: SkeletonLayout = NTU25, device: str = "cpu", **spec: Any) -> Method:
        """The method in training mode on a fresh encoder, built as a run builds it."""
        return build_method(self.method, self.spec(**spec), layout, device).train()

    def trial(self) -> Trial:
        """The method, to be tried as before it is timed."""
        return Trial(self.method, self.spec(), NTU25, views(self.build(), batch()))

    def train(self, method: Method, steps: int) -> list[float]:
        """Losses of a few steps on one batch."""
        torch.manual_seed(0)
        x, losses = batch(), []
        optimizer = build_optimizer(method, self.spec().train)
        for step in range(1, steps + 1):
            loss, _ = loss_and_parts(method, method.loss(views(method, x.clone())))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            method.after_step(step / steps)
            losses.append(loss.item())
        return losses


def loss_of(method: Method, x: Tensor, seed: int = 0) -> Tensor:
    """The loss of a batch under a seed of the global generator."""
    torch.manual_seed(seed)
    return loss_and_parts(method, method.loss(views(method, x)))[0]


def views(method: Method, x: Tensor) -> Batch:
    """What a method is given for body sequences ``x`` ``[B, 24, V, 3]``:
    of several views the first frames of each.
    """
    looks = tuple(x[:, : view.frames] for view in method.views)  # no number of frames: all
    return looks if len(looks) > 1 else looks[0]


def weights(encoder: Encoder) -> dict[str, Tensor]:
    """A copy of an encoder's parameters as they are now."""
    return {name: parameter.detach().clone() for name, parameter in encoder.named_parameters()}


@cache
def clips(actions: tuple[str, ...] = _BOTH) -> ClipSet:
    """Two subjects, three views of every action: 12 clips of two actions."""
    return generate(subjects=2, actions=actions)


@cache
def _sequences(actions: tuple[str, ...], empty: bool) -> Tensor:
    bodies = BodySequences(clips(actions), CPU, include_empty=empty)
    return bodies.window(torch.arange(len(bodies)), *test_crops(bodies.length), FRAMES)


def batch(joints: int = 25, actions: tuple[str, ...] = _BOTH, *, empty: bool = False) -> Tensor:
    """All body sequences of `clips`, ``[B, 24, joints, 3]``; fewer joints are the first ones of the
    25.

    ``empty`` adds the absent second bodies of one-person actions, all zeros.
    """
    return _sequences(actions, empty)[:, :, :joints].clone()


def blank(layout: SkeletonLayout, size: int) -> Tensor:
    """A batch on the meta device: shapes without values."""
    return torch.empty(size, FRAMES, layout.joint_count, 3, device="meta")


def relabelled(clip_set: ClipSet) -> ClipSet:
    """The same clips with their labels handed round."""
    order = torch.randperm(len(clip_set), generator=torch.Generator().manual_seed(0)).numpy()
    return replace(
        clip_set, columns={**clip_set.columns, "label": clip_set.columns["label"][order]}
    )


def must(condition: bool, message: str) -> None:
    """Raise `Unmet` with ``message`` unless the condition holds;
    unlike ``assert`` also under ``-O``.
    """
    if not condition:
        raise Unmet(message)


def close(a: Tensor, b: Tensor, tolerance: float = ROUNDING) -> bool:
    """Two losses agree up to a relative tolerance."""
    return math.isclose(a.item(), b.item(), rel_tol=tolerance, abs_tol=1e-6)
