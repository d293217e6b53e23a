"""What the blocks of a speed measurement went through, in words."""

from __future__ import annotations

from harness.records.differences import LEVEL
from harness.records.ratios import signed_ranks
from harness.records.schema import ArmRecord, SpeedRecord


def disturbances(record: SpeedRecord) -> str:
    """Disturbed and repeated blocks with the reasons; GPU clock and heat where they were read."""
    health = record.health
    if health is None:
        return "disturbances not watched"
    text = f"{health.disturbed} of {health.blocks} blocks disturbed, {health.repeated} timed again"
    reasons = f" ({'; '.join(health.reasons)})" if health.reasons else ""
    clocks = (
        f"; GPU clock {' to '.join(map(str, health.clock_mhz))} MHz" if health.clock_mhz else ""
    )
    heat = f", at most {health.temperature_c} C" if health.temperature_c is not None else ""
    blind = (
        "; GPU not watched (nvidia-ml-py is missing or refused)"
        if health.gpu_watched is False
        else ""
    )
    return f"{text}{reasons}{clocks}{heat}{blind}"


def rounds_text(record: SpeedRecord) -> str:
    """``11 interleaved rounds in one process``, on ranks that train together, or those of each of
    several that measure one after the other.
    """
    if not record.rounds:
        ranks = record.environment.ranks
        place = f"on {ranks} ranks" if ranks > 1 else "in one process"
        return f"{record.same.pairs} interleaved rounds {place}"
    rounds = " + ".join(map(str, record.rounds))
    return (
        f"{rounds} interleaved rounds in {len(record.rounds)} fresh processes, intervals over"
        " processes"
    )


def signed_ranks_of(arm: ArmRecord, record: SpeedRecord) -> float | None:
    """p of the rounds' signed ranks against the baseline;
    None for the baseline and where clips were not kept.
    """
    baseline = record.arm(record.baseline)
    if baseline is None or arm is baseline or not (arm.clips and baseline.clips):
        return None
    return signed_ranks(baseline.clip_seconds, arm.clip_seconds)


def second_opinions(record: SpeedRecord) -> list[str]:
    """Rows of which signed ranks and the t interval over rounds do not say the same at 0.05."""
    found = []
    for arm in record.arms:
        p, apart = signed_ranks_of(arm, record), not arm.ratio.low <= 1 <= arm.ratio.high
        able = 2.0 ** (1 - len(arm.blocks)) < LEVEL  # of fewer rounds no ranks can say so
        if p is not None and able and (p < LEVEL) != apart:
            found.append(f"{arm.label} (p {p:.2g}, interval {'without' if apart else 'with'} 1)")
    return (
        [
            "Wilcoxon's signed ranks of the rounds say otherwise than the t interval:"
            f" {', '.join(found)}"
        ]
        if found
        else []
    )
