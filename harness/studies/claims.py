"""Published speed claims as data, and what a measurement says about one;
`harness.studies.explain` measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from harness import ROOT
from harness.errors import UsageError, nearest
from harness.progress import warn
from harness.records.doubts import is_doubted
from harness.records.ratios import claim_verdict, disturbed_share, speedup
from harness.records.schema import (
    BOUND,
    EVERY_SWITCH,
    INFERENCE,
    DeviceClass,
    Ratio,
    SpeedRecord,
    Verdict,
    at_stage,
)
from harness.records.store import RecordStore
from harness.spec.model import MethodSpec, Section, build, read_spec, row_named
from harness.spec.yaml_text import read_yaml

CLAIMS = ROOT / "benchmarks" / "claims"
ClaimVerdict = Verdict | Literal["other hardware: not tested"]


_DEFINITIONS = {"training": ("hours", "clips"), "inference": ("inference", "flops")}
"""What a claim may be a ratio of, by the work that it is about."""


class Epochs(Section):
    """Epochs of both schedules."""

    method: int = Field(ge=1)
    baseline: int = Field(ge=1)


class Claim(Section):
    """A published speed claim; every field is quoted from its source.

    Attributes:
        factor: the claimed speedup, below 1 for "slower".
        what: the work that it is about; of ``inference``, method and baseline are encoders as
            `speed` takes them.
        definition: what it is a ratio of: ``hours`` of whole schedules, or ``clips`` per second; of
            ``inference``, clips per second forward, or ``flops`` forward.
        method: the row that is measured; empty where none stands for it.
        baseline: what it is claimed against.
        epochs: of both schedules; training has them.
        schedule: what was printed beside the factor, such as the schedules' length.
        device: the class of hardware that it is about; only a measurement on that class tests it.
            None where it is counted, or where none is known.
        unmeasured: why nothing that is measured here can judge it; numbers are then evidence and no
            test.
        remarks: lines for its card.
    """

    statement: str
    factor: float = Field(gt=0, allow_inf_nan=False)
    what: Literal["training", "inference"] = "training"
    definition: Literal["hours", "clips", "inference", "flops"]
    method: str = ""
    baseline: str = ""
    epochs: Epochs | None = None
    schedule: str
    hardware: str
    device: DeviceClass | None = None
    encoder: str
    batch: str
    source: str
    unmeasured: str = ""
    remarks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.definition not in _DEFINITIONS[self.what]:
            raise ValueError(
                f"definition: expected {' or '.join(_DEFINITIONS[self.what])} of {self.what}"
            )
        if self.what == "training" and not self.epochs:
            raise ValueError("epochs: expected those of both schedules")
        if not (self.method and self.baseline) and not self.unmeasured:
            raise ValueError("method and baseline: expected both, or `unmeasured` with the reason")
        return self

    @property
    def reached_from(self) -> float:
        """The least speedup (the greatest, for "slower") that is printed as `factor`:
        half a unit of its last digit.
        """
        digits = len(str(self.factor).partition(".")[2].rstrip("0"))
        half = 0.5 * 10.0**-digits
        return self.factor - half if self.factor > 1 else self.factor + half


def read_claims(folder: Path = CLAIMS) -> dict[str, Claim]:
    """All claims by file name; a `UsageError` names a file that is not one."""
    claims = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = read_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UsageError(
                f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})"
            ) from None
        if not isinstance(content, dict):
            raise UsageError(f"{path}: expected a mapping of {', '.join(Claim.model_fields)}")
        claims[path.stem] = build(Claim, content, str(path))
    return claims


def find_claim(name: str, folder: Path = CLAIMS) -> Claim:
    """The claim of that name."""
    claims = read_claims(folder)
    if name not in claims:
        known = ", ".join(claims) or f"none in {folder}"
        raise UsageError(f"unknown claim {name!r}{nearest(name, claims)} (known: {known})")
    return claims[name]


@dataclass(frozen=True)
class ClaimMeasurement:
    """A measured ratio under one definition and one way of training;
    judged under the claim's own definition.
    """

    definition: str
    way: str
    ratio: Ratio | None
    verdict: ClaimVerdict | None


@dataclass(frozen=True)
class Card:
    """A claim, what was measured of it, and what arithmetic says;
    without a record nothing stands for it here.
    """

    claim: Claim
    measurements: Sequence[ClaimMeasurement]
    flop_ratio: float | None = None
    bound: float | None = None
    record: SpeedRecord | None = None


def kind_of(claims: Iterable[Claim]) -> str:
    """What these claims are measured by, ``training`` or ``inference``;
    empty where nothing stands for any of them.
    """
    kinds = list(dict.fromkeys(claim.what for claim in claims if claim.method))
    if len(kinds) > 1:
        raise UsageError(
            "expected claims about training or about inference, found both; give each a command"
        )
    return kinds[0] if kinds else ""


def rows_of(claims: Iterable[Claim]) -> str:
    """What to measure for these claims: their methods, the bound,
    and what they are claimed against; or encoders.
    """
    claims = [claim for claim in claims if claim.method]
    methods, baselines = [claim.method for claim in claims], [claim.baseline for claim in claims]
    inference = kind_of(claims) == "inference"
    return ",".join(
        dict.fromkeys([*baselines, *methods] if inference else [*methods, BOUND, *baselines])
    )


def measured_claims(folder: Path, stage: str = EVERY_SWITCH) -> SpeedRecord:
    """The newest measurement of claims in a folder; a `UsageError` where there is none."""
    store = RecordStore.existing(folder)
    found = [record for record in store.speeds() if stage in record.stages]
    warn(*store.passed_over())
    if not found:
        raise UsageError(
            f"{folder}: expected a measurement of `claim`, found none; leave --from out to measure"
        )
    return max(found, key=lambda record: record.finished)


def row_of(record: SpeedRecord, asked: str) -> str:
    """Label of the row of a claim's method:
    ``mamp:decoder_depth=5`` may stand there as ``mamp``, its default.
    """
    rows, methods = record.rows, record.spec.get("methods", ())[:: len(record.stages)]
    resolved = map(_resolved, methods or rows)  # the first records of stages have no methods
    if (label := row_named(asked, zip(rows, resolved, strict=True))) is None:
        raise UsageError(
            f"{asked} was not measured (rows: {', '.join(rows)}); a claim needs both its methods"
            " and the bound"
        )
    return label


def _resolved(text: str) -> MethodSpec:
    """A method as a record spells it, its options as numbers and truths where they are that."""
    spec = read_spec(text)
    options = {key: _value_of(value) for key, value in spec.options.items()}
    return spec.model_copy(update={"options": options})


def _value_of(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def make_card(claim: Claim, record: SpeedRecord | None) -> Card:
    """The card of a claim from a record with both ways of training.
    A `UsageError` names a row that is not in it.
    """
    if not claim.method or record is None:
        return Card(claim, [ClaimMeasurement(claim.definition, "-", None, "not measurable here")])
    if claim.what == "inference":
        return _of_inference(claim, record)
    ways, rows = (
        record.stages,
        [row_of(record, name) for name in (claim.method, claim.baseline, BOUND)],
    )
    for label, way in product(rows, ways):
        if record.arm(at_stage(label, way)) is None:
            raise UsageError(
                f"{label} could not be measured {way}; a claim needs both its methods and the bound"
            )
    method, baseline, bound = (partial(at_stage, label) for label in rows)
    measurements = []
    for way, definition in product(ways, definitions(claim)):
        measured = speedup(record, method(way), baseline(way))
        assert measured is not None
        ratio = _scaled(measured, schedule_factor(claim, definition))
        doubted = _any_doubted(record, method(way), baseline(way))
        measurements.append(
            ClaimMeasurement(
                definition, way, ratio, judged(claim, ratio, record, definition, doubted=doubted)
            )
        )
    fastest = ways[-1]
    predicted, limit = (
        record.flop_speedup(row(fastest), baseline(fastest)) for row in (method, bound)
    )
    assert predicted is not None
    assert limit is not None
    return Card(claim, measurements, predicted, limit, record)


def _of_inference(claim: Claim, record: SpeedRecord) -> Card:
    """The card of a claim about encoders: their forward passes, timed and counted."""
    method, baseline = (
        at_stage(row_of(record, name), INFERENCE) for name in (claim.method, claim.baseline)
    )
    measured, counted = speedup(record, method, baseline), record.flop_speedup(method, baseline)
    if measured is None or counted is None:
        raise UsageError(
            f"{claim.method} or {claim.baseline} could not be measured; a claim needs both its"
            " encoders"
        )
    ratios = {
        "inference": measured,
        "flops": Ratio(value=counted, low=counted, high=counted, pairs=0),
    }
    doubted = _any_doubted(record, method, baseline)
    measurements = [
        ClaimMeasurement(
            name,
            INFERENCE,
            ratios[name],
            judged(claim, ratios[name], record, name, doubted=doubted),
        )
        for name in definitions(claim)
    ]
    return Card(claim, measurements, counted, record=record)


def _any_doubted(record: SpeedRecord, *labels: str) -> bool:
    """One of these arms is in doubt."""
    return any(is_doubted(arm, record) for label in labels if (arm := record.arm(label)))


def judged(
    claim: Claim, ratio: Ratio, record: SpeedRecord, definition: str, *, doubted: bool = False
) -> ClaimVerdict | None:
    """The verdict on a ratio of the claim's own definition; None for another one.

    Args:
        doubted: numbers of one of the two methods give something away (`harness.records.doubts`).
    """
    if definition != claim.definition:
        return None
    if doubted:
        return "in doubt"
    if claim.unmeasured:
        return "not measurable here"
    if definition == "flops":  # counted, the same everywhere
        return "supported" if ratio.value >= claim.reached_from else "not supported"
    if record.environment.device_class != claim.device:
        return "other hardware: not tested"
    return claim_verdict(claim.reached_from, ratio, record.floor, disturbed_share(record))


def definitions(claim: Claim) -> list[str]:
    """The claim's own definition first."""
    return sorted(_DEFINITIONS[claim.what], key=lambda name: name != claim.definition)


def schedule_factor(claim: Claim, definition: str) -> float:
    """What a ratio of clips/s is multiplied with:
    whole schedules may have different numbers of epochs.
    """
    return (
        claim.epochs.baseline / claim.epochs.method
        if claim.epochs and definition == "hours"
        else 1.0
    )


def _scaled(ratio: Ratio, factor: float) -> Ratio:
    """A ratio and its interval times a factor."""
    return Ratio(
        value=ratio.value * factor,
        low=ratio.low * factor,
        high=ratio.high * factor,
        pairs=ratio.pairs,
    )
