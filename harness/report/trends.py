"""Which published trends show in recorded runs: paired differences over seeds, with intervals.

A trend is a pair of rows of which the papers' ablations put one above the other; its name says
which paper. Two rows are compared seed by seed: same seed, same initial encoder, same batches.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.special import stdtrit

from harness.records.schema import RunRecord
from harness.report.cells import Cells, Figures, figures, formatted, known, number, texts
from harness.report.frame import NUMBER, TEXT, WHOLE, Columns, typed

TREND_COLUMNS: Columns = {
    "data": TEXT,
    "split": TEXT,
    "encoder": TEXT,
    "budget": TEXT,
    "trend": TEXT,
    "above": TEXT,
    "below": TEXT,
    "points": NUMBER,
    "points_low": NUMBER,
    "points_high": NUMBER,
    "points_half": NUMBER,
    "seeds": WHOLE,
    "shows": TEXT,
}
_SETTINGS: Cells = {
    "data": lambda row: f"{row['data']} {row['split']}",
    "encoder": lambda row: row["encoder"],
    "budget": lambda row: row["budget"],
}


@dataclass(frozen=True)
class Trend:
    """``above`` is expected to have the higher linear accuracy; both are labels of rows."""

    name: str
    above: str
    below: str


PUBLISHED = (
    Trend("motion rather than coordinates (MAMP)", "mamp", "skeletonmae"),
    Trend(
        "clip- rather than patch-normalised coordinates (NAT)",
        "skeletonmae:normalise=clip",
        "skeletonmae",
    ),
    Trend("coordinates normalised over the clip rather than the patch (NAT)", "nat", "skeletonmae"),
    Trend("coordinates normalised over the clip rather than motion (NAT)", "nat", "mamp"),
    Trend("cosines of neighbouring joints rather than coordinates (MCSP)", "mcsp", "skeletonmae"),
    Trend("motion-aware rather than random mask (MAMP)", "mamp", "mamp:tau=0"),
    Trend(
        "teacher's features rather than coordinates (Skeleton2vec)", "skeleton2vec", "skeletonmae"
    ),
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
    """Mean difference over seeds and the half width of its 95 % t interval;
    infinite with a single seed.
    """

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


def _accuracies(records: Iterable[RunRecord], label: str) -> dict[int, float]:
    """Linear test accuracy in per cent by seed, of the finished runs with that label."""
    return {
        record.spec.seed: 100 * record.accuracy.linear_test
        for record in records
        if record.label == label and record.status == "ok" and record.accuracy
    }


def _compare(records: Sequence[RunRecord], trend: Trend) -> Difference | None:
    """The trend's difference over the seeds that both rows have; None where they share no seed."""
    above, below = _accuracies(records, trend.above), _accuracies(records, trend.below)
    seeds = sorted(above.keys() & below.keys())
    return (
        paired_difference([above[seed] for seed in seeds], [below[seed] for seed in seeds])
        if seeds
        else None
    )


def trend_frame(records: Sequence[RunRecord], trends: Sequence[Trend] = PUBLISHED) -> pd.DataFrame:
    """One row per setting and trend that the records can speak to, as numbers; `TREND_COLUMNS`.

    Only runs that were held equal in everything but method and seed are compared. ``points``: the
    mean difference in percentage points with its 95 % interval, and half its width.
    """
    settings: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.training:
            settings.setdefault(record.spec.held_equal, []).append(record)
    rows = []
    for equal in settings.values():
        spec = equal[0].spec
        where = {"data": spec.data.name, "split": spec.data.split, "encoder": spec.encoder.text}
        where |= {"budget": spec.train.budget}
        for trend in trends:
            if found := _compare(equal, trend):
                rows.append(
                    {
                        **where,
                        "trend": trend.name,
                        "above": trend.above,
                        "below": trend.below,
                        **_figures(found),
                    }
                )
    return typed(rows, TREND_COLUMNS)


def _figures(found: Difference) -> Figures:
    bounded = math.isfinite(found.half)
    return {
        "points": found.mean,
        "points_low": found.mean - found.half if bounded else None,
        "points_high": found.mean + found.half if bounded else None,
        "points_half": found.half if bounded else None,
        "seeds": found.seeds,
        "shows": found.shows,
    }


def trend_table(frame: pd.DataFrame, *, wide: bool = False) -> pd.DataFrame:
    """`trend_frame` as text.

    Args:
        wide: every column, not only those that matter first and the settings in which rows differ.
    """
    apart = [
        name for name, write in _SETTINGS.items() if len({write(row) for row in figures(frame)}) > 1
    ]
    cells: Cells = {
        **_SETTINGS,
        "trend": lambda row: row["trend"],
        "above": lambda row: row["above"],
        "below": lambda row: row["below"],
        "points [95 %]": _points,
        "seeds": formatted("seeds", "d"),
        "shows": lambda row: row["shows"],
    }
    narrow = ["trend", "points [95 %]", "shows", "seeds", *apart]
    return texts(frame, cells if wide else {name: cells[name] for name in narrow})


def _points(row: Figures) -> str:
    return number(row["points"], "+.1f") + (
        f" ± {row['points_half']:.1f}" if known(row["points_half"]) else ""
    )
