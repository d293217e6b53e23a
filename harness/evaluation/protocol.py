"""The contract of a protocol: it reads an encoder and labelled clips, and says the class of every
test clip.

A new protocol is one file with one subclass of `Protocol`, a plugin as well. The harness owns the
rest: which encoder, random numbers, the clock, the accuracy, the record. A protocol must choose
nothing on the test clips.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from harness.evaluation.probes import Features, LabelledClips, Labels, clip_features, reduced_raw
from harness.records.evaluations import EpochPoint
from methods.parts.encoder import Encoder

VERSION = 1


class ProtocolOptions(BaseModel):
    """Typed options of a protocol; a spec string such as ``semi:ratio=0.1`` overrides the defaults.

    A default that depends on the data or on the encoder is None until `Protocol.resolved` replaces
    it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class AboutProtocol:
    """What a report says about a protocol, as data.

    Attributes:
        title: in a few words.
        source: where its numbers come from: paper, or file and commit of released code; "none" for
            our own.
        deviations: where it differs from that source, one sentence each.
        choices: what the source leaves open and what was chosen, one sentence each.
    """

    title: str
    source: str
    deviations: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass
class Subject:
    """What a protocol evaluates, and on what.

    Attributes:
        encoder: in evaluation mode, on the data's device, for this protocol alone; None: raw
            coordinates.
        data: clips, labels and split.
        fingerprint: of the data.
        classes: how many there are.
        seed: of everything that is drawn; torch's and numpy's global generators begin at it too.
        untrained: the encoder was never trained: a control.
        tell: shows progress: done, in all, and what else there is to say.
        frozen: makes the features of `features`; of the harness, which several protocols share.
        features_seconds: that making `features` took; 0 where another protocol had them made.
    """

    encoder: Encoder | None
    data: LabelledClips
    fingerprint: str
    classes: int
    seed: int = 0
    untrained: bool = False
    tell: Callable[[int, int, str], None] = lambda done, total, detail: None
    frozen: Callable[[], Features] | None = None
    features_seconds: float = 0.0

    @property
    def labels(self) -> Labels:
        """``[N]`` class of every clip of the data set."""
        return self.data.labels

    @cached_property
    def training_side(self) -> Labels:
        """Clips whose labels may be used, ascending: training and validation clips."""
        return np.sort(np.concatenate([self.data.split.train, self.data.split.validation]))

    @property
    def test(self) -> Labels:
        """Clips to predict, ascending."""
        return self.data.split.test

    @cached_property
    def features(self) -> Features:
        """``[N, D]`` frozen features of every clip: mean final token over time, joints and present
        bodies.

        Of raw coordinates: standardised, the first principal components
        (`harness.evaluation.probes.reduced_raw`).
        """
        began = time.perf_counter()
        found = self.frozen() if self.frozen else frozen_features(self.encoder, self.data)
        self.features_seconds = time.perf_counter() - began
        return found


def frozen_features(encoder: Encoder | None, data: LabelledClips) -> Features:
    """`Subject.features`, computed afresh."""
    return (
        reduced_raw(data.clips, data.split)
        if encoder is None
        else clip_features(encoder, data.bodies)
    )


@dataclass(frozen=True)
class ProtocolResult:
    """What a protocol found out.

    Attributes:
        predictions: ``[len(subject.test)]`` class of every test clip.
        curve: accuracy of the test clips while it trained, at its end that of `predictions`; it
            chose nothing.
        figures: other accuracies that came along, by name.
        labelled: clips whose labels were used; None: all of the training side.
        notes: what must be said beside the number.
    """

    predictions: Labels
    curve: Sequence[EpochPoint] = ()
    figures: dict[str, float] = field(default_factory=dict)
    labelled: Labels | None = None
    notes: tuple[str, ...] = ()


OptionsT = TypeVar("OptionsT", bound=ProtocolOptions)


class Protocol(Generic[OptionsT]):
    """Base class of every protocol.

    Args:
        options: an instance of the class attribute ``Options``.

    Attributes:
        name: empty: the file's name.
        trains_encoder: the encoder is trained too, so the control is *from scratch*: an untrained
            encoder under the same recipe. Else it is the untrained encoder, frozen.
        reads_raw: raw coordinates can stand in for an encoder's features.
    """

    name: ClassVar[str] = ""
    about: ClassVar[AboutProtocol]
    Options: ClassVar[type[ProtocolOptions]] = ProtocolOptions
    trains_encoder: ClassVar[bool] = False
    reads_raw: ClassVar[bool] = False

    def __init__(self, options: OptionsT) -> None:
        self.options = options

    def unfit(self, encoder: Encoder | None) -> str:
        """Why an encoder cannot be evaluated so, in a few words; empty where it can.
        Such rows are left out.
        """
        return "raw coordinates have no encoder" if encoder is None and not self.reads_raw else ""

    def resolved(self, subject: Subject) -> Self:
        """The same protocol with every option at the value that it has for this encoder
        and these clips.
        """
        return self

    def evaluate(self, subject: Subject) -> ProtocolResult:
        """Predict the test clips; called with `resolved` options."""
        raise NotImplementedError

    def with_options(self, **changes: Any) -> Self:
        """The same protocol with other options."""
        return type(self)(self.options.model_copy(update=changes))
