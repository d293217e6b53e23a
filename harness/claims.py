"""Published speed claims as data, and what a measurement says about one; `harness.explain` does the measuring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from harness.environment import ROOT
from harness.errors import UsageError, nearest
from harness.records import STAGE_SEPARATOR, ArmRecord, SpeedRecord
from harness.spec import Section, build
from harness.stats import Ratio, Verdict, claim_verdict, paired_ratio

CLAIMS = ROOT / "benchmarks" / "claims"


class Epochs(Section):
    """Epochs of both schedules."""

    method: int
    baseline: int


class Claim(Section):
    """A published speed claim; every field is quoted from its source.

    Attributes:
        factor: the claimed speedup, below 1 for "slower".
        definition: what it is a ratio of: ``hours`` of whole schedules, or ``clips`` per second.
        baseline: what it is claimed against.
        schedule: what was printed about the schedules' length.
    """

    statement: str
    factor: float
    definition: Literal["hours", "clips"]
    method: str
    baseline: str
    epochs: Epochs
    schedule: str
    hardware: str
    encoder: str
    batch: str
    source: str


def read_claims(folder: Path = CLAIMS) -> dict[str, Claim]:
    """All claims by file name; a `UsageError` names a file that is not one."""
    claims = {}
    for path in sorted(folder.glob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise UsageError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
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
class Finding:
    """A measured ratio under one definition and one way of training; judged under the claim's own definition."""

    definition: str
    way: str
    ratio: Ratio
    verdict: Verdict | None


@dataclass(frozen=True)
class Card:
    """A claim, what was measured of it, and what arithmetic says."""

    claim: Claim
    findings: Sequence[Finding]
    flop_ratio: float
    bound: float
    record: SpeedRecord


def make_card(claim: Claim, record: SpeedRecord, labels: Sequence[str]) -> Card:
    """The card of a claim from a record with both ways of training; `labels`: method, baseline, bound."""
    method, baseline, bound = labels
    findings, ways = [], record.spec["stages"]
    for way in ways:
        for definition in definitions(claim):
            ratio = scaled(measured(record, method, baseline, way), schedule_factor(claim, definition))
            share = record.health.disturbed_share if record.health else 0.0
            judged = claim_verdict(claim.factor, ratio, record.floor, share)
            findings.append(Finding(definition, way, ratio, judged if definition == claim.definition else None))
    return Card(claim, findings, flops(record, method, baseline), flops(record, bound, baseline), record)


def definitions(claim: Claim) -> list[str]:
    """The claim's own definition first."""
    return sorted(("hours", "clips"), key=lambda name: name != claim.definition)


def schedule_factor(claim: Claim, definition: str) -> float:
    """What a ratio of clips/s is multiplied with: whole schedules may have different numbers of epochs."""
    return claim.epochs.baseline / claim.epochs.method if definition == "hours" else 1.0


def scaled(ratio: Ratio, factor: float) -> Ratio:
    """A ratio and its interval times a factor."""
    return Ratio(value=ratio.value * factor, low=ratio.low * factor, high=ratio.high * factor, pairs=ratio.pairs)


def measured(record: SpeedRecord, method: str, baseline: str, way: str) -> Ratio:
    """Clips/s of the method over the baseline's, both trained that way."""
    one, other = (arm_of(record, label, way) for label in (method, baseline))
    return paired_ratio(other.clip_seconds, one.clip_seconds)


def flops(record: SpeedRecord, method: str, baseline: str) -> float:
    """FLOPs per clip of the baseline over the method's."""
    one, other = (arm_of(record, label, record.spec["stages"][-1]) for label in (method, baseline))
    return (other.step_flops / other.clips) / (one.step_flops / one.clips)


def arm_of(record: SpeedRecord, label: str, way: str) -> ArmRecord:
    """The arm of a row trained that way; a `UsageError` where it failed."""
    arm = record.arm(f"{label}{STAGE_SEPARATOR}{way}")
    if arm is None:
        raise UsageError(f"{label} could not be measured {way}; a claim needs both its methods and the bound")
    return arm
