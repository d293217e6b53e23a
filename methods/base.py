"""The contract of a method: what it owns is the mask, the target, the decoder, the loss, and what
follows a step.

The harness owns the rest: data, encoder, optimiser, schedule, precision, budget, clock and probes.
A new method is one file with one subclass of `Method`; `methods/README.md` walks through one.

In shapes one letter has one meaning, in all of `methods` and in the batches of `datasets`:

    B    body sequences of a batch, or its clips where it is one of whole clips
    T    frames
    V    joints
    T_e  time steps, T / patch: a patch is so many consecutive frames of one joint
    L    tokens of a body sequence, T_e * V, time-major: token t * V + v is joint v in time step t
    K    tokens that are picked, of a mask those that the encoder sees
    D    width: numbers per token
    P    numbers per patch, 3 * patch for coordinates
    C    channels: coordinates of a joint, outputs of a decoder, features of a row, classes
    W    windows (tubes) of consecutive time steps or frames
    H    attention heads
    D_H  width of a head, D / H
    R    regions: body parts of a skeleton
    N    clips of a data set
    S    body sequences of a data set
    F    frames of all body sequences, one after the other
    M    body slots of a clip
    n    any number
    _    any number, another one each time

Annotations that name them (``Float[Tensor, "B T V 3"]``, of jaxtyping) are checked in the test run
and nowhere else; a method without any works as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.functional import interpolate

from methods.parts.encoder import Encoder, SkeletonEncoder
from methods.parts.masks import Mask, visible_count
from methods.parts.options import OptionError, SlashList, known

VERSION = 1

__all__ = [
    "About",
    "Diagnosis",
    "Method",
    "MethodOptions",
    "OptionError",
    "Scalar",
    "SlashList",
    "View",
    "known",
    "resolve",
]


Scalar = Float[Tensor, ""]
"""A loss, or a part of one: a single number on the device."""


class MethodOptions(BaseModel):
    """Typed options of a method; a spec string such as ``gfp:lambda_pred=5`` overrides the
    defaults.

    A default that depends on the encoder is None until `resolved` replaces it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """The same options with every encoder-relative default replaced by its value;
        raises `OptionError`.
        """
        return self


OptionsT = TypeVar("OptionsT", bound=MethodOptions)


@dataclass(frozen=True)
class About:
    """What a report says about a method, as data.

    Attributes:
        title: full name.
        paper: citation with venue and arXiv number; "none" for controls.
        code: the authors' public code, or "none".
        epochs: length of the published pre-training schedule; None where there is none.
        deviations: where this implementation differs from the paper, one sentence each.
        choices: what the paper leaves open and what was chosen, one sentence each.
        division: ``closed`` uses the shared encoder; ``open`` brings its own and never shares a
            speedup column.
        control: True for reference rows that are no method of their own.
    """

    title: str
    paper: str
    code: str = "none"
    epochs: int | None = None
    deviations: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    division: Literal["closed", "open"] = "closed"
    control: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """What a method says about its own health:
    numbers to log and warnings to print in the table's notes.
    """

    values: dict[str, float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """One look at a body sequence: how the harness crops, resizes and turns it for a method.

    What is None is the run's. A method that wants several, or others than the run's, lists them in
    `Method.views`.

    Attributes:
        crop: smallest and largest share of the clip that is kept.
        min_crop: shortest crop in the clip's own frames.
        frames: T after the time resize; a multiple of the encoder's patch, at most the encoder's
            frames.
        rotation: largest rotation about each axis, radians.
    """

    crop: tuple[float, float] | None = None
    min_crop: int | None = None
    frames: int | None = None
    rotation: float | None = None


def resolve(options: OptionsT, encoder: SkeletonEncoder) -> OptionsT:
    """Options complete for an encoder; `OptionError` also
    when ``mask_ratio`` would leave no token visible.
    """
    ratio, tokens = getattr(options, "mask_ratio", None), encoder.grid.tokens
    if ratio is not None and not visible_count(tokens, ratio):
        raise OptionError(
            f"mask_ratio={ratio} leaves none of {tokens} tokens visible; allowed is to"
            f" {1 - 1 / tokens:.3f}"
        )
    return options.resolved(encoder)


def _in_frames(x: Float[Tensor, "B T V 3"], frames: int) -> Float[Tensor, "B {frames} V 3"]:
    """Resized linearly in time, first and last frame as they are."""
    if x.shape[1] == frames:
        return x
    lines = x.permute(0, 2, 3, 1).flatten(1, 2)  # [B, V * 3, T]
    resized = interpolate(lines, frames, mode="linear", align_corners=True)  # [B, V * 3, frames]
    return resized.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class Method(nn.Module, Generic[OptionsT]):
    """Base class of every pre-training method.

    Args:
        encoder: the shared encoder, built by the harness.
        options: an instance of the class attribute ``Options``; `self.options` holds it resolved
            for the encoder.

    Attributes:
        views: what `loss` gets of every body sequence: one batch, or a tuple of batches where there
            are several.
    """

    name: ClassVar[str] = ""  # empty: the file's name
    about: ClassVar[About]
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    views: tuple[View, ...] = (View(),)

    def __init__(self, encoder: SkeletonEncoder, options: OptionsT) -> None:
        super().__init__()
        self.options = resolve(options, encoder)
        self.encoder = self.own_encoder(encoder)

    def own_encoder(self, shared: SkeletonEncoder) -> Any:
        """The encoder that is trained, a `methods.parts.encoder.Encoder`: the shared one.

        A method of the open division returns its own, built for the grid and the skeleton of the
        shared one.
        """
        return shared

    def loss(self, x: Any) -> tuple[Scalar, dict[str, Scalar]]:
        """Mask, encode, predict, target, loss for body sequences ``x`` ``[B, T, V, 3]`` in metres.

        Returns the scalar to minimise and its named parts (detached, on the device: no host
        synchronisation). Where the method has several `views`, ``x`` is a tuple with a batch of
        each; row b is the same body in all.
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with the share of the budget done,
        0 to 1 (EMA teachers).
        """

    def evaluated_encoder(self) -> Encoder:
        """The encoder that the probes read; a teacher's where the paper evaluates the teacher."""
        return self.encoder

    def diagnose(self, x: Any) -> Diagnosis:
        """Health of the method on one batch as `loss` gets it; called off the clock,
        without gradients.
        """
        return Diagnosis({})

    def visible(self, x: Float[Tensor, "B T V 3"]) -> Bool[Tensor, "B T_e V"] | None:
        """Which tokens a training step shows the encoder, for pictures.

        By default those that `loss` hands to the shared encoder as ``visible``; None when that
        always gets all of them. A method that hides tokens in another way says here where.
        """
        seen: list[Int[Tensor, "B K"]] = []

        def note(encoder: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            shown = named.get("visible", inputs[1] if len(inputs) > 1 else None)
            if shown is not None:
                seen.append(shown)

        handle = self.encoder.register_forward_pre_hook(note, with_kwargs=True)
        try:
            # each [B, T of the view, V, 3]
            looks = tuple(_in_frames(x, view.frames or x.shape[1]) for view in self.views)
            self.loss(looks[0] if len(looks) == 1 else looks)
        finally:
            handle.remove()
        if not seen:
            return None
        grid = self.encoder.grid
        hidden = torch.zeros(len(x), grid.tokens, dtype=torch.bool, device=x.device)  # [B, L]
        shown = hidden.scatter(1, seen[0], True)  # [B, L]; of several looks, the first
        return shown.unflatten(1, (grid.times, grid.joints))

    def reconstruct(
        self, x: Float[Tensor, "B T V 3"], mask: Mask
    ) -> Float[Tensor, "B T V 3"] | None:
        """What the method makes of the coordinates when it sees ``mask.visible``, in metres.

        For pictures; None where it predicts something else. A prediction of standardised patches
        gets the true mean and scale of each patch back.
        """
        return None
