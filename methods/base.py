"""The contract of a method: what it owns is the mask, the target, the decoder, the loss, and what follows a step.

The harness owns the rest: data, encoder, optimiser, schedule, precision, budget, clock and probes.
A new method is one file with one subclass of `Method`; README, "Adding a method", walks through one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from torch import Tensor, nn

from methods.encoder import Encoder, SkeletonEncoder
from methods.masks import visible_count

VERSION = 1


class OptionError(ValueError):
    """An option's value cannot work with this encoder; the message names the allowed values."""


def _split(value: object) -> object:
    return value.split("/") if isinstance(value, str) else value


SlashList = BeforeValidator(_split)
"""Lets a tuple option be written ``6/3/1`` in a spec string: ``Annotated[tuple[int, ...], SlashList]``."""


class MethodOptions(BaseModel):
    """Typed options of a method; a spec string such as ``gfp:lambda_pred=5`` overrides the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """The same options with every encoder-relative default replaced by its value; raises `OptionError`."""
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
        division: ``closed`` uses the shared encoder; ``open`` brings its own and never shares a speedup column.
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
    """What a method says about its own health: numbers to log and warnings to print in the table's notes."""

    values: dict[str, float]
    warnings: tuple[str, ...] = ()


def resolve(options: OptionsT, encoder: SkeletonEncoder) -> OptionsT:
    """Options complete for an encoder; `OptionError` also when ``mask_ratio`` would leave no token visible."""
    ratio, tokens = getattr(options, "mask_ratio", None), encoder.grid.tokens
    if ratio is not None and not visible_count(tokens, ratio):
        raise OptionError(
            f"mask_ratio={ratio} leaves none of {tokens} tokens visible; allowed is to {1 - 1 / tokens:.3f}"
        )
    return options.resolved(encoder)


class Method(nn.Module, Generic[OptionsT]):
    """Base class of every pre-training method.

    Args:
        encoder: the shared encoder, built by the harness.
        options: an instance of the class attribute ``Options``; `self.options` holds it resolved for the encoder.
    """

    name: ClassVar[str] = ""  # empty: the file's name
    about: ClassVar[About]
    Options: ClassVar[type[MethodOptions]] = MethodOptions

    def __init__(self, encoder: SkeletonEncoder, options: OptionsT) -> None:
        super().__init__()
        self.encoder = encoder
        self.options = resolve(options, encoder)

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Mask, encode, predict, target, loss for body sequences ``x`` ``[B, T, V, 3]`` in metres.

        Returns the scalar to minimise and its named parts (detached, on the device: no host synchronisation).
        """
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each optimiser step with the share of the budget done, 0 to 1 (EMA teachers)."""

    def evaluated_encoder(self) -> Encoder:
        """The encoder that the probes read; a teacher's where the paper evaluates the teacher."""
        return self.encoder

    def diagnose(self, x: Tensor) -> Diagnosis:
        """Health of the method on one batch ``[B, T, V, 3]``; called off the clock, without gradients."""
        return Diagnosis({})
