"""Statistics of speed: paired log ratios, t intervals, the noise floor and the verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from harness import ROOT
from harness.records.schema import Ratio, SpeedRecord, Verdict

COARSE_FLOOR = 1.25
COARSE_INTERVAL = 1.5
MOSTLY_DISTURBED = 0.5


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """``exp(mean(log(numerator / denominator)))`` over pairs, with a t interval on the logs.

    Nothing bounds the interval of a single pair: it reaches from 0 to infinity.
    """
    logs = np.log(np.asarray(numerator) / np.asarray(denominator))
    pairs = len(logs)
    if not pairs:
        raise ValueError("a ratio needs a pair")
    mean = float(logs.mean())
    if pairs == 1:
        return Ratio(value=math.exp(mean), low=0, high=math.inf, pairs=1)
    error = float(logs.std(ddof=1)) / math.sqrt(pairs)
    half = float(stdtrit(pairs - 1, 0.975)) * error
    return Ratio(
        value=math.exp(mean), low=math.exp(mean - half), high=math.exp(mean + half), pairs=pairs
    )


def replicated(ratios: Sequence[Ratio]) -> Ratio:
    """One ratio from those of several fresh processes: a t interval over the means of their log
    ratios.

    Rounds of one process are not independent; of one process there are only they.
    """
    if len(ratios) < 2:
        return ratios[0]
    return paired_ratio([ratio.value for ratio in ratios], [1.0] * len(ratios))


def block_ratio(
    numerator: Sequence[float], denominator: Sequence[float], rounds: Sequence[int] = ()
) -> Ratio:
    """Ratio of blocks, paired by round; `rounds` of each process, where there were several."""
    if len(rounds) < 2:
        return paired_ratio(numerator, denominator)
    ends = np.cumsum(rounds)
    parts = [slice(end - count, end) for end, count in zip(ends, rounds, strict=True)]
    return replicated([paired_ratio(numerator[part], denominator[part]) for part in parts])


def signed_ranks(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """p of the exact Wilcoxon signed-rank test of the rounds' log ratios, two-sided."""
    from scipy.stats import wilcoxon  # half a second to load

    logs = np.log(np.asarray(numerator) / np.asarray(denominator))
    return float(wilcoxon(logs).pvalue) if logs.any() else 1.0


def noise_floor(same: Ratio) -> float:
    """The factor inside which a ratio means nothing:
    the farther end of the same-against-same interval.
    """
    return max(same.high, _inverse(same.low))


def _inverse(bound: float) -> float:
    """1 over an end of an interval, which may be 0 or infinite."""
    return 1 / bound if bound else math.inf


def verdict(
    ratio: Ratio, floor: float, disturbed: float = 0.0, *, doubted: bool = False
) -> Verdict:
    """Is "trains faster" supported?

    In doubt, whatever was measured, where numbers of one of the two methods give something away
    (``doubted``).

    Supported: the whole interval lies above the noise floor. Otherwise not supported, unless the
    measurement itself is too coarse to tell (a floor above `COARSE_FLOOR` or an interval wider than
    the factor `COARSE_INTERVAL`) and the interval reaches above 1. Not measurable where other
    processes disturbed more than `MOSTLY_DISTURBED` of the blocks (share `disturbed`).
    """
    if doubted:
        return "in doubt"
    if disturbed > MOSTLY_DISTURBED:
        return "not measurable here"
    if ratio.low > floor:
        return "supported"
    if ratio.high < 1:
        return "not supported"
    coarse = floor > COARSE_FLOOR or ratio.high / ratio.low > COARSE_INTERVAL
    return "not measurable here" if coarse else "not supported"


def claim_verdict(claimed: float, ratio: Ratio, floor: float, disturbed: float = 0.0) -> Verdict:
    """Is the claimed factor itself supported (RULES.md)?

    A claim above 1 needs the interval's upper end to reach it and the interval to lie above the
    noise floor; a claim below 1 (slower) needs the mirror image.
    """
    if claimed < 1:
        mirrored = Ratio(
            value=1 / ratio.value,
            low=_inverse(ratio.high),
            high=_inverse(ratio.low),
            pairs=ratio.pairs,
        )
        return claim_verdict(1 / claimed, mirrored, floor, disturbed)
    if (
        disturbed > MOSTLY_DISTURBED
        or floor > COARSE_FLOOR
        or ratio.high / ratio.low > COARSE_INTERVAL
    ):
        return "not measurable here"
    return "supported" if ratio.high >= claimed and ratio.low > floor else "not supported"


def disturbed_share(record: SpeedRecord) -> float:
    """Share of a measurement's blocks that stayed disturbed; 0 where nobody watched."""
    return record.health.disturbed_share if record.health else 0.0


def mostly_disturbed(record: SpeedRecord) -> bool:
    """Other processes disturbed so many blocks that nothing was measurable,
    however narrow an interval is.
    """
    return disturbed_share(record) > MOSTLY_DISTURBED


def inside_floor(ratio: Ratio, floor: float) -> bool:
    """True when the interval touches the band of the noise floor: then no speedup is printed."""
    return ratio.low <= floor and ratio.high >= 1 / floor


def speedup(record: SpeedRecord, one: str, other: str) -> Ratio | None:
    """Clips/s of one arm of a measurement over another's, paired by round; None where one was not
    measured.

    Nor is there one of records of before clips per step were kept.
    """
    arms = [arm for label in (one, other) if (arm := record.arm(label)) and arm.clips]
    return (
        block_ratio(arms[1].clip_seconds, arms[0].clip_seconds, record.rounds)
        if len(arms) == 2
        else None
    )


def rules_version() -> str:
    """Version of the measurement rules, from the heading of benchmarks/RULES.md;
    ``unknown`` without that file.
    """
    rules = ROOT / "benchmarks" / "RULES.md"
    heading = rules.read_text(encoding="utf-8").partition("\n")[0] if rules.exists() else ""
    return heading.rpartition("version ")[2] or "unknown"
