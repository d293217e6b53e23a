"""What the numbers of records give away about a method that is not what it seems; its row is *in
doubt* then.

Two kinds are judged here, from numbers alone (benchmarks/RULES.md, "In doubt"): `above_bound` and
`unlike_timed`. The others are seen where the method's code runs, and arrive as data:
`harness.speed.trial` takes a few steps of a method before it is timed, `harness.runs.cell` watches
its weights and counts its steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from harness.records.ratios import mostly_disturbed
from harness.records.schema import BOUND, STAGE_MARK, ArmRecord, Doubt, RunRecord, SpeedRecord

FARTHEST = 1.5
"""Factor between a method's steps in training and its interleaved ones,
alone and over the other methods' factor.
"""
FLOP_ROUNDING = 0.01
"""FLOPs are counted, not measured: equal ones differ by nothing,
and this leaves room for odd shapes.
"""


def doubts_of(label: str, records: Sequence[RunRecord], speed: SpeedRecord | None) -> list[Doubt]:
    """All doubts about a row, each once: of its speed measurement, of its runs, and of the two
    beside each other.

    Without a measurement those of the one that planned the runs, which their records hold too.
    """
    own, arm = (
        [record for record in records if record.label == label],
        speed.arm(label) if speed else None,
    )
    seen = [*(arm.doubts if arm else ()), *(doubt for record in own for doubt in record.doubts)]
    return list(
        {
            (doubt.kind, doubt.text): doubt
            for doubt in [*seen, *unlike_timed(label, records, speed)]
        }.values()
    )


def kinds(doubts: Iterable[Doubt]) -> str:
    """``in doubt (part of the batch, steps skipped)``."""
    return f"in doubt ({', '.join(dict.fromkeys(doubt.kind for doubt in doubts))})"


# --- above the bound ---


def above_bound(arm: ArmRecord, speed: SpeedRecord) -> list[Doubt]:
    """A step that takes less than the encoder alone does on the same tokens, by FLOPs or measured.

    The measured bound is the upper end of its interval, outside the noise floor; of a method that
    shows the encoder fewer tokens than the bound row does it is raised by what that saves in FLOPs,
    which time never exceeds.
    """
    if arm.bound_flops is None:
        return []
    found = []
    if arm.step_flops < (1 - FLOP_ROUNDING) * arm.bound_flops:
        found.append(
            f"a step takes {arm.step_flops / 1e9:.3g} GFLOP, the encoder alone"
            f" {arm.bound_flops / 1e9:.3g} GFLOP on as many tokens as its mask_ratio leaves"
        )
    _, mark, stage = arm.label.partition(STAGE_MARK)
    bound = speed.arm(f"{BOUND}{mark}{stage}")  # at the same stage, where there are stages
    if bound and bound.batch_size == arm.batch_size and not mostly_disturbed(speed):
        limit = bound.ratio.high * max(1.0, bound.step_flops / arm.bound_flops)
        if arm.ratio.low > limit * speed.floor:
            found.append(f"measured {arm.ratio.value:.2f}x, the encoder alone at most {limit:.2f}x")
    return [Doubt(kind="above the bound", text=text) for text in found]


def is_doubted(arm: ArmRecord, speed: SpeedRecord) -> bool:
    """Something puts an arm in doubt: what its record says of it, or its numbers as they stand."""
    return bool(arm.doubts) or arm.verdict == "in doubt" or bool(above_bound(arm, speed))


def in_doubt(record: SpeedRecord) -> SpeedRecord:
    """The record with what its numbers give away of each arm, and the verdicts that follow."""
    doubted = [
        arm.model_copy(update={"doubts": (*arm.doubts, *above_bound(arm, record))})
        for arm in record.arms
    ]
    baseline = any(arm.doubts for arm in doubted if arm.label == record.baseline)
    arms = [
        arm.model_copy(update={"verdict": "in doubt"}) if baseline or arm.doubts else arm
        for arm in doubted
    ]
    return record.model_copy(update={"arms": arms})


# --- not as timed ---


def unlike_timed(
    label: str, records: Sequence[RunRecord], speed: SpeedRecord | None
) -> list[Doubt]:
    """Runs of a row whose steps took the process far more, or far less, than the interleaved steps
    did.

    Far is a factor of `FARTHEST`, by itself and over the median factor of the other rows: what
    befalls all of them (another clock rate, a neighbour in the cache) is nobody's doing. Silent
    where no other row was trained, where the measurement was mostly disturbed, and where blocks
    were disturbed or too short to say.
    """
    if speed and mostly_disturbed(speed):
        return []
    factors: dict[str, list[float]] = {}
    for record in records:
        if (factor := step_factor(record)) is not None:
            factors.setdefault(record.label, []).append(factor)
    others = [statistics.median(values) for name, values in factors.items() if name != label]
    if not others:
        return []
    usual = statistics.median(others)
    return [
        Doubt(
            kind="not as timed",
            text=(
                f"seed {record.spec.seed}: a step in training took {factor:.2f} times what it took"
                f" while it was timed (the other methods' {usual:.2f} times)"
            ),
        )
        for record in records
        if record.label == label
        and (factor := step_factor(record)) is not None
        and _is_far(factor, usual)
    ]


def step_factor(record: RunRecord) -> float | None:
    """What the process itself took per step in training, over the same while timed;
    None where either is not known.
    """
    training = record.training
    if (
        training is None
        or not training.own_step_seconds
        or not training.interleaved_own_step_seconds
    ):
        return None
    return training.own_step_seconds / training.interleaved_own_step_seconds


def _is_far(factor: float, usual: float) -> bool:
    """Above `FARTHEST`, or below its inverse, by itself and over what is usual."""
    both = (factor, factor / usual)
    return min(both) > FARTHEST or max(both) < 1 / FARTHEST
