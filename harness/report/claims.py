"""A claim card: the claim, what was measured of it, what arithmetic says, the verdict."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.records.schema import SpeedRecord, at_stage
from harness.report.cells import EMPTY, Cells, Figures, known, texts
from harness.report.conditions import encoder_text
from harness.report.explain import conditions, disturbed, factor_text, ratio_figures
from harness.report.frame import NUMBER, TEXT, TRUTH, Columns, typed
from harness.report.inference import inference_notes
from harness.studies.claims import Card, Claim, ClaimMeasurement, row_of

_MEANING = {
    "hours": "hours of whole schedules",
    "clips": "clips/s",
    "inference": "clips/s of forward passes",
    "flops": "FLOPs of a forward pass",
}
CARD_COLUMNS: Columns = {
    "statement": TEXT,
    "method": TEXT,
    "baseline": TEXT,
    "trained": TEXT,
    "definition": TEXT,
    "own_definition": TRUTH,
    "claimed": NUMBER,
    "measured": NUMBER,
    "measured_low": NUMBER,
    "measured_high": NUMBER,
    "measured_noise": TRUTH,
    "floor": NUMBER,
    "flop_ratio": NUMBER,
    "bound": NUMBER,
    "verdict": TEXT,
}


def card_frame(card: Card) -> pd.DataFrame:
    """A row per way of training and definition, as numbers;
    the claim's own definition first; `CARD_COLUMNS`.
    """
    claim, floor = card.claim, card.record.floor if card.record else None
    return typed(
        (
            {
                "statement": claim.statement,
                "method": claim.method,
                "baseline": claim.baseline,
                "trained": one.way,
                "definition": one.definition,
                "own_definition": one.definition == claim.definition,
                "claimed": claim.factor,
                **_measured(one, card.record),
                "floor": floor,
                "flop_ratio": card.flop_ratio,
                "bound": card.bound,
                "verdict": one.verdict,
            }
            for one in card.measurements
        ),
        CARD_COLUMNS,
    )


def cards_frame(cards: Sequence[tuple[str, Card]]) -> pd.DataFrame:
    """The judged rows of `card_frame` of several claims about training, by their names, with the
    hardware of claim and measurement and whether that tests it.
    """
    frames = [
        card_frame(card).assign(
            claim=name,
            hardware=card.claim.hardware,
            device=card.record.environment.device,
            tested=card.record.environment.device_class == card.claim.device,
            measurement=card.record.address,
        )
        for name, card in cards
        if card.record and card.claim.what == "training"
    ]
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return found[found["verdict"].notna()] if len(found) else found


def _measured(one: ClaimMeasurement, record: SpeedRecord | None) -> Figures:
    """A ratio with its interval; what was counted has none."""
    if one.ratio is None or record is None:
        return {}
    if not one.ratio.pairs:
        return {"measured": one.ratio.value}
    return ratio_figures("measured", one.ratio, record.floor)


_CELLS: Cells = {
    "trained": lambda row: row["trained"],
    "definition": lambda row: (
        _MEANING[row["definition"]] + " (the claim's)" * row["own_definition"]
    ),
    "claimed": lambda row: f"{row['claimed']:g}x" if known(row["verdict"]) else EMPTY,
    "measured [95 %]": lambda row: factor_text(row, "measured"),
    "verdict on the factor": lambda row: row["verdict"] if known(row["verdict"]) else EMPTY,
}


def card_table(card: Card) -> pd.DataFrame:
    """`card_frame` as text."""
    return texts(card_frame(card), _CELLS)


def card_notes(card: Card, rules: str) -> list[str]:
    """The claim in words, the arithmetic, and the conditions of claim and measurement;
    `rules`: version judged by.
    """
    claim, record = card.claim, card.record
    said = [
        f"claim: {claim.statement}; {claim.source}",
        (
            f"claimed on: {claim.hardware}, encoder {claim.encoder}, batch {claim.batch};"
            f" {claim.schedule}"
        ),
    ]
    why = [f"not measurable here: {claim.unmeasured}"] if claim.unmeasured else []
    if record is None:
        return [*said, *why, *claim.remarks]
    if claim.what == "inference":
        measured = f"measured: {claim.method} over {claim.baseline} on {record.environment.device}"
        return [*said, measured, *why, *claim.remarks, *disturbed(record), *inference_notes(record)]
    size = encoder_text(record.spec)
    return [
        *said,
        f"measured: {claim.method} over {claim.baseline} on {record.environment.device}, batch "
        f"{record.batch_size} body sequences"
        + _memory(record, claim.baseline)
        + ("" if size == claim.encoder else f", with encoder {size} instead of {claim.encoder}"),
        (
            f"arithmetic: {card.flop_ratio:.2f}x by FLOPs per clip, at most {card.bound:.2f}x with"
            " this encoder and mask (decoder-free bound, by FLOPs too)"
        ),
        *why,
        *claim.remarks,
        *_other_hardware(claim, record),
        *disturbed(record),
        (
            f"judged by rules version {rules}: {claim.factor:g} as printed is reached from"
            f" {claim.reached_from:g} on"
        ),
        (
            f"only a {claim.device} tests this claim; the time to an accuracy is another question:"
            " `harness target`"
        ),
        *conditions(record),
    ]


def _memory(record: SpeedRecord, baseline: str) -> str:
    """What a step of the baseline takes as published: more than some cards have."""
    arm = record.arm(at_stage(row_of(record, baseline), record.stages[0]))
    if arm is None or not arm.peak_bytes:
        return ""
    return f", {arm.peak_bytes / 1e9:.1f} GB for a step of {baseline} as published"


def _other_hardware(claim: Claim, record: SpeedRecord) -> list[str]:
    """What the numbers are where the claim's class of hardware was not measured."""
    here = record.environment.device_class
    if here == claim.device:
        return []
    return [
        f"other hardware: claimed on a {claim.device}, measured on a {here}; FLOP ratio, bound and"
        " the ratio measured here are evidence and no test"
    ]
