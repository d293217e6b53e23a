"""Time to target as tables: one accuracy in detail, and the whole ladder of accuracies. Misses stay misses."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import pandas as pd

from harness.records.schema import RunRecord
from harness.report.table import in_doubt
from harness.studies.target import NO_TIMES, Reach, Target, final, finished, interval, ladder, reach, speedup, untrained

NEVER = "not reached"
EMPTY = "-"


def target_table(records: Sequence[RunRecord], target: Target, times: Mapping[str, float] = NO_TIMES) -> pd.DataFrame:
    """One row per method at the frozen accuracy; every cell a string. `times`: `harness.studies.target.step_times`."""
    reference = reach(records, target.reference, target.accuracy, times)
    rows = []
    for label in labels(records):
        found = reach(records, label, target.accuracy, times)
        ends = [final(record) for record in finished(records, label)]
        rows.append(
            {
                "method": label,
                "linear at the end": f"{100 * statistics.mean(ends):.1f}" if ends else EMPTY,
                "reached by": f"{len(found.seconds)} of {found.runs} seeds",
                "clips to target": clips(found),
                "median seconds": f"{found.median_seconds:.1f}" if found.median_seconds is not None else NEVER,
                "seconds to target [95 %]": seconds(found),
                f"speedup over {target.reference} [95 %]": over(found, reference),
            }
        )
    return pd.DataFrame(rows)


def ladder_table(records: Sequence[RunRecord], target: Target, times: Mapping[str, float] = NO_TIMES) -> pd.DataFrame:
    """The speedup over the reference as a curve: one row per accuracy, one column per method.

    A cell holds the speedup where all seeds of both rows got there, else how many did.
    """
    rows = []
    for accuracy in ladder(records, target):
        reference = reach(records, target.reference, accuracy, times)
        row = {"linear": f"{100 * accuracy:.1f}" + (" (target)" if accuracy == target.accuracy else "")}
        for label in labels(records):
            row[label] = rung(reach(records, label, accuracy, times), reference)
        rows.append(row)
    return pd.DataFrame(rows)


def target_notes(records: Sequence[RunRecord], target: Target, *, frozen: bool = True) -> list[str]:
    """Where the target comes from and how to read the tables."""
    chance = untrained(records, target)
    return [
        f"target: {100 * target.accuracy:.1f} % linear, the median over seeds {', '.join(map(str, target.seeds))} of "
        f"{target.reference} at its full budget {target.budget}; "
        + (f"frozen {target.frozen}, version {target.version}" if frozen else "not frozen: for this look alone"),
        f"data: {target.data} ({target.fingerprint}), split {target.split}, encoder {target.encoder}",
        *([f"the untrained encoder stands at {100 * chance:.1f} % (mean over seeds)"] if chance is not None else []),
        *(
            ["the target is no higher than that: reaching it means nothing"]
            if chance and chance >= target.accuracy
            else []
        ),
        "a run's time: steps until its first evaluation at or above the accuracy, at the interleaved step time; "
        "evaluation is off the clock; no run is stopped or selected by it",
        "reached by k of n seeds: a row some of whose seeds missed has no mean time and no speedup; in the median a "
        "miss counts as never; crossings are seen at evaluations only: intervals hold the time since the one before",
        *in_doubt(records, None),
        "no speedup with a single seed; ladder: seconds of the reference over the row's, geometric mean over seeds",
    ]


def labels(records: Sequence[RunRecord]) -> list[str]:
    """Rows in the order of their first record."""
    return list(dict.fromkeys(record.label for record in records))


def clips(found: Reach) -> str:
    """Median clips seen of the seeds that got there, when all did."""
    return f"{statistics.median(found.clips.values()):,.0f}" if found.all_reached else NEVER


def seconds(found: Reach) -> str:
    """Geometric mean of the seconds with its interval, when all seeds got there."""
    if found.mean_seconds is None:
        return NEVER
    low, high = interval(found)
    bounds = f" [{low:.0f}, {high:.0f}]" if len(found.seconds) > 1 else ""
    return f"{found.mean_seconds:.1f}{bounds}"


def over(found: Reach, reference: Reach) -> str:
    """The speedup with its interval."""
    if found.label == reference.label:
        return "1 (reference)" if found.all_reached else "reference"
    ratio = speedup(found, reference)
    return f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else EMPTY


def rung(found: Reach, reference: Reach) -> str:
    """One cell of the ladder."""
    if found.mean_seconds is None:
        return f"{len(found.seconds)} of {found.runs}"
    if reference.mean_seconds is None:
        return f"{found.mean_seconds:.0f} s"
    return f"{reference.mean_seconds / found.mean_seconds:.2f}x"
