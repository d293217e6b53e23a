"""A claim card: the claim, what was measured of it, what arithmetic says, the verdict."""

from __future__ import annotations

import pandas as pd

from harness.records.schema import SpeedRecord
from harness.report.explain import conditions, disturbed, factor
from harness.report.inference import inference_notes
from harness.studies.claims import Card, Claim, Finding

MEANING = {
    "hours": "hours of whole schedules",
    "clips": "clips/s",
    "inference": "clips/s of forward passes",
    "flops": "FLOPs of a forward pass",
}


def card_table(card: Card) -> pd.DataFrame:
    """One row per way of training and definition; the claim's own definition first. Every cell a string."""
    claim, own = card.claim, " (the claim's)"
    rows = [
        {
            "trained": finding.way,
            "definition": MEANING[finding.definition] + own * (finding.definition == claim.definition),
            "claimed": f"{claim.factor:g}x" if finding.verdict else "-",
            "measured [95 %]": _measured(finding, card.record),
            "verdict on the factor": finding.verdict or "-",
        }
        for finding in card.findings
    ]
    return pd.DataFrame(rows)


def _measured(finding: Finding, record: SpeedRecord | None) -> str:
    """A ratio with its interval; what was counted has none."""
    if finding.ratio is None or record is None:
        return "-"
    return factor(finding.ratio, record.floor) if finding.ratio.pairs else f"{finding.ratio.value:.2f}x"


def card_notes(card: Card, rules: str) -> list[str]:
    """The claim in words, the arithmetic, and the conditions of claim and measurement; `rules`: version judged by."""
    claim, record = card.claim, card.record
    said = [
        f"claim: {claim.statement}; {claim.source}",
        f"claimed on: {claim.hardware}, encoder {claim.encoder}, batch {claim.batch}; {claim.schedule}",
    ]
    why = [f"not measurable here: {claim.unmeasured}"] if claim.unmeasured else []
    if record is None:
        return [*said, *why, *claim.remarks]
    if claim.what == "inference":
        measured = f"measured: {claim.method} over {claim.baseline} on {record.environment.device}"
        return [*said, measured, *why, *claim.remarks, *disturbed(record), *inference_notes(record)]
    size = record.spec["encoder"]["size"]
    return [
        *said,
        f"measured: {claim.method} over {claim.baseline} on {record.environment.device}, batch "
        f"{record.batch_size} body sequences"
        + ("" if size == claim.encoder else f", with encoder {size} instead of {claim.encoder}"),
        f"arithmetic: {card.flop_ratio:.2f}x by FLOPs per clip, at most {card.bound:.2f}x with this encoder and mask "
        "(decoder-free bound, by FLOPs too)",
        *why,
        *claim.remarks,
        *_other_hardware(claim, record),
        *disturbed(record),
        f"judged by rules version {rules}: {claim.factor:g} as printed is reached from {claim.reached_from:g} on",
        f"only a {claim.device} tests this claim; the time to an accuracy is another question: `harness target`",
        *conditions(record),
    ]


def _other_hardware(claim: Claim, record: SpeedRecord) -> list[str]:
    """What the numbers are where the claim's class of hardware was not measured."""
    here = record.environment.device_class
    if here == claim.device:
        return []
    return [
        f"other hardware: claimed on a {claim.device}, measured on a {here}; FLOP ratio, bound and the ratio "
        "measured here are evidence and no test"
    ]
