"""Which published trends show in recorded runs: paired differences over seeds, with intervals.

A trend is a pair of rows of which the papers' ablations put one above the other; its name says which paper. Two
rows are compared seed by seed: same seed, same initial encoder, same batches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.special import stdtrit

from harness.records.schema import RunRecord

COLUMNS = ("data", "encoder", "budget", "trend", "above", "below", "points [95 %]", "seeds", "shows")


@dataclass(frozen=True)
class Trend:
    """``above`` is expected to have the higher linear accuracy; both are labels of rows."""

    name: str
    above: str
    below: str


PUBLISHED = (
    Trend("motion rather than coordinates (MAMP)", "mamp", "skeletonmae"),
    Trend("clip- rather than patch-normalised coordinates (NAT)", "skeletonmae:normalise=clip", "skeletonmae"),
    Trend("coordinates normalised over the clip rather than the patch (NAT)", "nat", "skeletonmae"),
    Trend("coordinates normalised over the clip rather than motion (NAT)", "nat", "mamp"),
    Trend("cosines of neighbouring joints rather than coordinates (MCSP)", "mcsp", "skeletonmae"),
    Trend("motion-aware rather than random mask (MAMP)", "mamp", "mamp:tau=0"),
    Trend("teacher's features rather than coordinates (Skeleton2vec)", "skeleton2vec", "skeletonmae"),
    Trend("learned features rather than motion (GFP)", "gfp", "mamp"),
    Trend("target network reads motion rather than joints (GFP)", "gfp", "gfp:target_input=joints"),
    Trend(
        "target network reads joints rather than masked joints (GFP)",
        "gfp:target_input=joints",
        "gfp:target_input=masked-joints",
    ),
    Trend("large patches rather than down-sampling (AMR)", "amr", "amr:down_sampled=true"),
    Trend("motion-energy weights rather than none (AMR)", "amr", "amr:weighting=false"),
    Trend("AMR above GFP", "amr", "gfp"),
    Trend("AMR above MAMP", "amr", "mamp"),
)


@dataclass(frozen=True)
class Difference:
    """Mean difference over seeds and the half width of its 95 % t interval; infinite with a single seed."""

    mean: float
    half: float
    seeds: int

    @property
    def shows(self) -> str:
        """yes or reversed when the interval leaves zero out, otherwise not resolved."""
        if abs(self.mean) <= self.half:
            return "not resolved"
        return "yes" if self.mean > 0 else "reversed"


def paired_difference(above: Sequence[float], below: Sequence[float]) -> Difference:
    """Student's t over the differences of pairs; at least one pair."""
    differences = [a - b for a, b in zip(above, below, strict=True)]
    count, mean = len(differences), statistics.mean(differences)
    if count < 2:
        return Difference(mean, math.inf, count)
    error = statistics.stdev(differences) / math.sqrt(count)
    return Difference(mean, float(stdtrit(count - 1, 0.975)) * error, count)


def accuracies(records: Iterable[RunRecord], label: str) -> dict[int, float]:
    """Linear test accuracy in per cent by seed, of the finished runs with that label."""
    return {
        record.spec.seed: 100 * record.accuracy.linear_test
        for record in records
        if record.label == label and record.status == "ok" and record.accuracy
    }


def compare(records: Sequence[RunRecord], trend: Trend) -> Difference | None:
    """The trend's difference over the seeds that both rows have; None where they share no seed."""
    above, below = accuracies(records, trend.above), accuracies(records, trend.below)
    seeds = sorted(above.keys() & below.keys())
    return paired_difference([above[seed] for seed in seeds], [below[seed] for seed in seeds]) if seeds else None


def trend_table(records: Sequence[RunRecord], trends: Sequence[Trend] = PUBLISHED) -> pd.DataFrame:
    """One row per setting and trend that the records can speak to; every cell a string.

    Only runs that were held equal in everything but method and seed are compared.
    """
    settings: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.training:
            settings.setdefault(record.spec.held_equal, []).append(record)
    rows = []
    for equal in settings.values():
        spec = equal[0].spec
        where = [f"{spec.data.name} {spec.data.split}", spec.encoder.size, spec.train.budget]
        for trend in trends:
            if found := compare(equal, trend):
                rows.append([*where, trend.name, trend.above, trend.below, *_cells(found)])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _cells(found: Difference) -> list[str]:
    half = f" ± {found.half:.1f}" if math.isfinite(found.half) else ""
    return [f"{found.mean:+.1f}{half}", str(found.seeds), found.shows]
