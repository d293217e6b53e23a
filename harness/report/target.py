"""Time to target as tables: one accuracy in detail, and the whole ladder of accuracies.
Misses stay misses.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import pandas as pd

from harness.records.differences import holm
from harness.records.schema import RunRecord, SpeedRecord
from harness.report.cells import (
    EMPTY,
    Cells,
    Figures,
    figures,
    formatted,
    interval_text,
    known,
    number,
    p_text,
    texts,
)
from harness.report.frame import NUMBER, TEXT, TRUTH, WHOLE, Columns, typed
from harness.report.table import in_doubt
from harness.studies.target import (
    NO_TIMES,
    Reach,
    Target,
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

_NEVER = "not reached"
TARGET_COLUMNS: Columns = {
    "label": TEXT,
    "reference": TEXT,
    "accuracy": NUMBER,
    "linear_at_end": NUMBER,
    "runs": WHOLE,
    "reached": WHOLE,
    "clips": NUMBER,
    "median_seconds": NUMBER,
    "seconds": NUMBER,
    "seconds_low": NUMBER,
    "seconds_high": NUMBER,
    "speedup": NUMBER,
    "speedup_low": NUMBER,
    "speedup_high": NUMBER,
    "speedup_at_most": NUMBER,
    "p": NUMBER,
    "smallest_p": NUMBER,
    "holm": NUMBER,
}
LADDER_COLUMNS: Columns = {
    "accuracy": NUMBER,
    "target": TRUTH,
    "label": TEXT,
    "runs": WHOLE,
    "reached": WHOLE,
    "seconds": NUMBER,
    "speedup": NUMBER,
}


def target_frame(
    records: Sequence[RunRecord],
    target: Target,
    times: Mapping[str, float] = NO_TIMES,
    speed: SpeedRecord | None = None,
) -> pd.DataFrame:
    """A row per method at the frozen accuracy, as numbers; `TARGET_COLUMNS`.

    ``clips`` (median) and ``seconds`` (geometric mean with its interval) are there when all
    ``runs`` got there; ``speedup`` over the ``reference``, or ``speedup_at_most`` where the row
    missed; p of the test against it.

    Args:
        times: `harness.studies.target.step_times`, of `speed`, without which a confirmed target has
            no speedup.
    """
    reached = {
        label: reach(records, label, target.accuracy, times, confirmed=target.confirmed)
        for label in (*_labels(records), target.reference)
    }
    reference = reached[target.reference]
    tests = {
        label: permutation_test(found, reference)
        for label, found in reached.items()
        if found is not reference
    }
    tested = [label for label, test in tests.items() if test]
    adjusted = dict(zip(tested, holm([test.p for test in tests.values() if test]), strict=True))
    rows = []
    for label in _labels(records):
        ends, test = [final(record) for record in finished(records, label)], tests.get(label)
        rows.append(
            {
                "label": label,
                "reference": target.reference,
                "accuracy": target.accuracy,
                "linear_at_end": statistics.mean(ends) if ends else None,
                **_reached(reached[label]),
                **_over(reached[label], reference, target, speed),
                **({"p": test.p, "smallest_p": test.smallest} if test and target.confirmed else {}),
                "holm": adjusted.get(label) if target.confirmed else None,
            }
        )
    return typed(rows, TARGET_COLUMNS)


def _reached(found: Reach) -> Figures:
    several = found.all_reached and len(found.seconds) > 1
    low, high = interval(found) if several else (None, None)
    return {
        "runs": found.runs,
        "reached": len(found.seconds),
        "clips": statistics.median(found.clips.values()) if found.all_reached else None,
        "median_seconds": found.median_seconds,
        "seconds": found.mean_seconds,
        "seconds_low": low,
        "seconds_high": high,
    }


def _over(found: Reach, reference: Reach, target: Target, speed: SpeedRecord | None) -> Figures:
    """The speedup, or its bound where the row missed; since version 3 of targets by rules 5."""
    if found.label == reference.label:
        return {"speedup": 1.0 if found.all_reached else None}
    if not target.confirmed:
        ratio = speedup(found, reference)
    elif (bound := at_most(found, reference)) is not None:
        return {"speedup_at_most": bound}
    else:
        per_step = steps_ratio(speed, found.label, reference.label) if speed else None
        ratio = combined_speedup(found, reference, per_step) if per_step else None
    return (
        {"speedup": ratio.value, "speedup_low": ratio.low, "speedup_high": ratio.high}
        if ratio
        else {}
    )


def target_table(frame: pd.DataFrame, target: Target, *, wide: bool = False) -> pd.DataFrame:
    """One row per method at the frozen accuracy; every cell a string.

    Args:
        frame: `target_frame`.
        wide: every column, not only those that matter first.
    """
    over = f"speedup over {target.reference} [95 %]"
    cells: Cells = {
        "method": lambda row: row["label"],
        "linear at the end": formatted("linear_at_end", ".1f", 100),
        "reached by": lambda row: f"{row['reached']} of {row['runs']} seeds",
        "clips to target": lambda row: number(row["clips"], ",.0f", missing=_NEVER),
        "median seconds": lambda row: number(row["median_seconds"], ".1f", missing=_NEVER),
        "seconds to target [95 %]": _seconds,
        over: _speedup,
        "p (smallest)": lambda row: (
            f"{p_text(row['p'])} ({p_text(row['smallest_p'])})" if known(row["p"]) else EMPTY
        ),
        "Holm": lambda row: p_text(row["holm"]),
    }
    if not target.confirmed:
        cells = {name: cells[name] for name in cells if name not in ("p (smallest)", "Holm")}
    narrow = ("method", over, "Holm", "seconds to target [95 %]", "reached by", "linear at the end")
    return texts(frame, cells if wide else {name: cells[name] for name in narrow if name in cells})


def _seconds(row: Figures) -> str:
    """Geometric mean of the seconds with its interval, when all seeds got there."""
    low, high = row["seconds_low"], row["seconds_high"]
    return number(row["seconds"], ".1f", missing=_NEVER) + (
        f" [{low:.0f}, {high:.0f}]" if known(low) else ""
    )


def _speedup(row: Figures) -> str:
    if row["label"] == row["reference"]:
        return "1 (reference)" if known(row["speedup"]) else "reference"
    if known(row["speedup_at_most"]):
        return f"< {row['speedup_at_most']:.2f}x"
    if known(row["speedup_high"]) and (row["speedup_low"], row["speedup_high"]) == (0, math.inf):
        return "not resolved"
    return interval_text(row, "speedup") if known(row["speedup"]) else EMPTY


def ladder_frame(
    records: Sequence[RunRecord], target: Target, times: Mapping[str, float] = NO_TIMES
) -> pd.DataFrame:
    """A row per accuracy and method, as numbers; `LADDER_COLUMNS`.

    ``seconds``: geometric mean when all ``runs`` of the row got there; ``speedup`` where the
    reference's did too.
    """
    rows = []
    for accuracy in ladder(records, target):
        reference = reach(
            records, target.reference, accuracy, times, confirmed=target.confirmed
        ).mean_seconds
        for label in _labels(records):
            found = reach(records, label, accuracy, times, confirmed=target.confirmed)
            own = found.mean_seconds
            rows.append(
                {
                    "accuracy": accuracy,
                    "target": accuracy == target.accuracy,
                    "label": label,
                    "runs": found.runs,
                    "reached": len(found.seconds),
                    "seconds": own,
                    "speedup": None if own is None or reference is None else reference / own,
                }
            )
    return typed(rows, LADDER_COLUMNS)


def ladder_table(frame: pd.DataFrame) -> pd.DataFrame:
    """The speedup over the reference as a curve: one row per accuracy, one column per method; every
    cell a string.

    A cell holds the speedup where all seeds of both rows got there, else how many did.
    """
    lines = []
    for accuracy, cells in frame.groupby("accuracy"):
        target = " (target)" if cells["target"].any() else ""
        line = {"linear": number(accuracy, ".1f", 100) + target}
        line |= {cell["label"]: _rung(cell) for cell in figures(cells)}
        lines.append(line)
    return pd.DataFrame(lines)


def _rung(cell: Figures) -> str:
    if not known(cell["seconds"]):
        return f"{cell['reached']} of {cell['runs']}"
    return f"{cell['speedup']:.2f}x" if known(cell["speedup"]) else f"{cell['seconds']:.0f} s"


def target_notes(records: Sequence[RunRecord], target: Target, *, frozen: bool = True) -> list[str]:
    """Where the target comes from and how to read the tables."""
    chance = untrained(records, target)
    return [
        f"target: {100 * target.accuracy:.1f} % linear, the median over seeds"
        f" {', '.join(map(str, target.seeds))} of "
        + (
            f"the lower one of the last two evaluations of {target.reference}"
            if target.confirmed
            else target.reference
        )
        + f" at its full budget {target.budget}; "
        + (
            f"frozen {target.frozen}, version {target.version}"
            if frozen
            else "not frozen: for this look alone"
        ),
        (
            f"data: {target.data} ({target.fingerprint}), split {target.split}, encoder"
            f" {target.encoder}"
        ),
        *(
            [f"the untrained encoder stands at {100 * chance:.1f} % (mean over seeds)"]
            if chance is not None
            else []
        ),
        *(
            ["the target is no higher than that: reaching it means nothing"]
            if chance and chance >= target.accuracy
            else []
        ),
        "a run's time: steps until its first evaluation at or above the accuracy"
        + (" that the next one confirms" if target.confirmed else "")
        + ", at the interleaved step time; evaluation is off the clock; no run is stopped or"
        " selected by it",
        (
            "reached by k of n seeds: a row some of whose seeds missed has no mean time and no"
            " speedup; in the median a miss counts as never; crossings are seen at evaluations"
            " only: intervals hold the time since the one before"
        ),
        *(
            [
                (
                    "speedup: log steps over seeds + log seconds per step of the measurement,"
                    " variances added (Welch-Satterthwaite); < for a row with misses: with each of"
                    " them at the end of its run"
                ),
                (
                    "p: log-rank statistic, misses censored, over all divisions of both rows' runs"
                    " (the smallest that so many runs can give); Holm over all rows against the"
                    " reference"
                ),
            ]
            if target.confirmed
            else []
        ),
        *in_doubt(records, None),
        (
            "no speedup with a single seed; not resolved: in both rows a seed was there at its"
            " first evaluation, before which nothing bounds its time; ladder: seconds of the"
            " reference over the row's, geometric mean over seeds"
        ),
    ]


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """Rows in the order of their first record."""
    return list(dict.fromkeys(record.label for record in records))
