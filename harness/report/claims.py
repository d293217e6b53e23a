"""A claim card: the claim, what was measured of it, what arithmetic says, the verdict."""

from __future__ import annotations

import pandas as pd

from harness.report.explain import conditions, disturbed, factor
from harness.studies.claims import Card

MEANING = {"hours": "hours of whole schedules", "clips": "clips/s"}


def card_table(card: Card) -> pd.DataFrame:
    """One row per way of training and definition; the claim's own definition first. Every cell a string."""
    claim, own = card.claim, " (the claim's)"
    rows = [
        {
            "trained": finding.way,
            "definition": MEANING[finding.definition] + own * (finding.definition == claim.definition),
            "claimed": f"{claim.factor:g}x" if finding.verdict else "-",
            "measured [95 %]": factor(finding.ratio, card.record.floor),
            "verdict on the factor": finding.verdict or "-",
        }
        for finding in card.findings
    ]
    return pd.DataFrame(rows)


def card_notes(card: Card, rules: str) -> list[str]:
    """The claim in words, the arithmetic, and the conditions of claim and measurement; `rules`: version judged by."""
    claim, record = card.claim, card.record
    size = record.spec["encoder"]["size"]
    return [
        f"claim: {claim.statement}; {claim.source}",
        f"claimed on: {claim.hardware}, encoder {claim.encoder}, batch {claim.batch}; {claim.schedule}",
        f"measured: {claim.method} over {claim.baseline} on {record.environment.device}, batch "
        f"{record.batch_size} body sequences"
        + ("" if size == claim.encoder else f", with encoder {size} instead of {claim.encoder}"),
        f"arithmetic: {card.flop_ratio:.2f}x by FLOPs per clip, at most {card.bound:.2f}x with this encoder and mask "
        "(decoder-free bound, by FLOPs too)",
        *_other_hardware(card),
        *disturbed(record),
        f"judged by rules version {rules}: {claim.factor:g} as printed is reached from {claim.reached_from:g} on",
        f"only a {claim.device} tests this claim; the time to an accuracy is another question: `harness target`",
        *conditions(record),
    ]


def _other_hardware(card: Card) -> list[str]:
    """What the numbers are where the claim's class of hardware was not measured."""
    here = card.record.environment.device_class
    if here == card.claim.device:
        return []
    return [
        f"other hardware: claimed on a {card.claim.device}, measured on a {here}; FLOP ratio, bound and the ratio "
        "measured here are evidence and no test"
    ]
