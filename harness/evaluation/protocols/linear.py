"""The cached linear probe: logistic regression on frozen features of the test view. Cheap,
and a proxy.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from harness.evaluation.probes import choose_regularisation, predicted_linearly
from harness.evaluation.protocol import (
    AboutProtocol,
    Protocol,
    ProtocolOptions,
    ProtocolResult,
    Subject,
)
from harness.spec.model import ProbeSpec
from methods.parts.options import SlashList

VERSION = 1

_Strength = Annotated[float, Field(gt=0, le=1e9)]


class _LinearOptions(ProtocolOptions):
    """Options; ``regularisation`` are the inverse strengths C to choose from, ``0.1/1/10``."""

    regularisation: Annotated[
        tuple[_Strength, ...], SlashList, Field(min_length=1, max_length=100)
    ] = ProbeSpec().regularisation


class Linear(Protocol[_LinearOptions]):
    """Standardise, then a multinomial logistic regression."""

    about = AboutProtocol(
        title="Linear probe on cached features",
        source="adapted from MAMP, main_linprobe.py (maoyunyao/MAMP 09e6252)",
        deviations=(
            (
                "logistic regression on features of the test view, computed once, instead of 100"
                " epochs of SGD on augmented views"
            ),
            "nothing is selected on the test clips",
        ),
        choices=(
            "inverse regularisation C: the best on subjects that the probe was not fitted on",
        ),
    )
    Options = _LinearOptions
    reads_raw = True

    def evaluate(self, subject: Subject) -> ProtocolResult:
        """Fit on training and validation clips with the C that is best on held-out subjects."""
        data, features = subject.data, subject.features
        probe = ProbeSpec(regularisation=self.options.regularisation)
        strength, _ = choose_regularisation(
            features, subject.labels, data.clips.columns["subject"], data.split, probe
        )
        predictions = predicted_linearly(
            strength, features, subject.labels, subject.training_side, subject.test
        )
        return ProtocolResult(predictions, notes=(f"C {strength:g}",))
