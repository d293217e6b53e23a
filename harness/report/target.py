"""Time to target as tables: one accuracy in detail, and the whole ladder of accuracies. Misses stay misses."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import pandas as pd

from harness.records.differences import holm
from harness.records.schema import RunRecord, SpeedRecord
from harness.report.apart import p_text
from harness.report.table import in_doubt
from harness.studies.target import (
    NO_TIMES,
    Reach,
    Target,
    Test,
    at_most,
    combined_speedup,
    final,
    finished,
    interval,
    ladder,
    permutation_test,
    reach,
    speedup,
    steps_ratio,
    untrained,
)

NEVER = "not reached"
EMPTY = "-"


def target_table(
    records: Sequence[RunRecord], target: Target, times: Mapping[str, float] = NO_TIMES,
    speed: SpeedRecord | None = None,
) -> pd.DataFrame:  # fmt: skip
    """One row per method at the frozen accuracy; every cell a string.

    Args:
        times: `harness.studies.target.step_times`, of `speed`, without which a confirmed target has no speedup.
    """
    reached = {label: reach_of(records, label, target, times) for label in (*labels(records), target.reference)}
    reference = reached[target.reference]
    tests = {label: permutation_test(found, reference) for label, found in reached.items() if found is not reference}
    tested = [label for label, test in tests.items() if test]
    adjusted = dict(zip(tested, holm([test.p for test in tests.values() if test]), strict=True))
    rows = []
    for label in labels(records):
        found = reached[label]
        ends = [final(record) for record in finished(records, label)]
        rows.append(
            {
                "method": label,
                "linear at the end": f"{100 * statistics.mean(ends):.1f}" if ends else EMPTY,
                "reached by": f"{len(found.seconds)} of {found.runs} seeds",
                "clips to target": clips(found),
                "median seconds": f"{found.median_seconds:.1f}" if found.median_seconds is not None else NEVER,
                "seconds to target [95 %]": seconds(found),
                f"speedup over {target.reference} [95 %]": (
                    over_steps(found, reference, speed) if target.confirmed else over(found, reference)
                ),
                **(cells_of_test(tests.get(label), adjusted.get(label)) if target.confirmed else {}),
            }
        )
    return pd.DataFrame(rows)


def ladder_table(records: Sequence[RunRecord], target: Target, times: Mapping[str, float] = NO_TIMES) -> pd.DataFrame:
    """The speedup over the reference as a curve: one row per accuracy, one column per method.

    A cell holds the speedup where all seeds of both rows got there, else how many did.
    """
    rows = []
    for accuracy in ladder(records, target):
        reference = reach(records, target.reference, accuracy, times, confirmed=target.confirmed)
        row = {"linear": f"{100 * accuracy:.1f}" + (" (target)" if accuracy == target.accuracy else "")}
        for label in labels(records):
            row[label] = rung(reach(records, label, accuracy, times, confirmed=target.confirmed), reference)
        rows.append(row)
    return pd.DataFrame(rows)


def target_notes(records: Sequence[RunRecord], target: Target, *, frozen: bool = True) -> list[str]:
    """Where the target comes from and how to read the tables."""
    chance = untrained(records, target)
    return [
        f"target: {100 * target.accuracy:.1f} % linear, the median over seeds {', '.join(map(str, target.seeds))} of "
        + (f"the lower one of the last two evaluations of {target.reference}" if target.confirmed else target.reference)
        + f" at its full budget {target.budget}; "
        + (f"frozen {target.frozen}, version {target.version}" if frozen else "not frozen: for this look alone"),
        f"data: {target.data} ({target.fingerprint}), split {target.split}, encoder {target.encoder}",
        *([f"the untrained encoder stands at {100 * chance:.1f} % (mean over seeds)"] if chance is not None else []),
        *(
            ["the target is no higher than that: reaching it means nothing"]
            if chance and chance >= target.accuracy
            else []
        ),
        "a run's time: steps until its first evaluation at or above the accuracy"
        + (" that the next one confirms" if target.confirmed else "")
        + ", at the interleaved step time; evaluation is off the clock; no run is stopped or selected by it",
        "reached by k of n seeds: a row some of whose seeds missed has no mean time and no speedup; in the median a "
        "miss counts as never; crossings are seen at evaluations only: intervals hold the time since the one before",
        *(
            [
                "speedup: log steps over seeds + log seconds per step of the measurement, variances added "
                "(Welch-Satterthwaite); < for a row with misses: with each of them at the end of its run",
                "p: log-rank statistic, misses censored, over all divisions of both rows' runs (the smallest that so "
                "many runs can give); Holm over all rows against the reference",
            ]
            if target.confirmed
            else []
        ),
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


def reach_of(records: Sequence[RunRecord], label: str, target: Target, times: Mapping[str, float]) -> Reach:
    """How a row fared against a target, by the target's rule."""
    return reach(records, label, target.accuracy, times, confirmed=target.confirmed)


def over_steps(found: Reach, reference: Reach, speed: SpeedRecord | None) -> str:
    """The speedup by rules 5, its interval, or its bound where the row missed."""
    if found.label == reference.label:
        return "1 (reference)" if found.all_reached else "reference"
    if (bound := at_most(found, reference)) is not None:
        return f"< {bound:.2f}x"
    per_step = steps_ratio(speed, found.label, reference.label) if speed else None
    ratio = combined_speedup(found, reference, per_step) if per_step else None
    return f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]" if ratio else EMPTY


def cells_of_test(test: Test | None, adjusted: float | None) -> dict[str, str]:
    """The test against the reference."""
    return {
        "p (smallest)": f"{p_text(test.p)} ({p_text(test.smallest)})" if test else EMPTY,
        "Holm": p_text(adjusted),
    }


def rung(found: Reach, reference: Reach) -> str:
    """One cell of the ladder."""
    if found.mean_seconds is None:
        return f"{len(found.seconds)} of {found.runs}"
    if reference.mean_seconds is None:
        return f"{found.mean_seconds:.0f} s"
    return f"{reference.mean_seconds / found.mean_seconds:.2f}x"
