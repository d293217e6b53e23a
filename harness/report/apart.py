"""Words for accuracies: a cell with its interval, who is marked, and who is above whom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from harness.records.differences import LEVEL, Interval, Pair, Row
from harness.report.cells import p_text
from harness.report.frame import AS_GOOD, BEST, standing

THESE, NEW = "these people", "new people"
QUESTIONS = {"these": THESE, "new": NEW}
"""Of a pair's columns, by the start of their names."""
MARKS = f"{BEST}: the method with the highest mean; {AS_GOOD}: not told apart from it"


def points(interval: Interval) -> str:
    """``+2.0 [-0.5, +4.5]``, of a difference in percentage points."""
    if not math.isfinite(interval.low):
        return f"{100 * interval.mean:+.1f}"
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def marks(rows: Sequence[Row], found: Sequence[Pair]) -> dict[str, str]:
    """What stands behind a row's accuracy, by row (`harness.report.frame.standing`)."""
    return {label: f" {mark}" for label, mark in standing(rows, found).items()}


def brackets(seeds: Iterable[int], marked: bool) -> list[str]:
    """What the brackets behind accuracies are, in a line.

    Args:
        seeds: numbers of seeds of the cells.
        marked: some cells have a mark.
    """
    counts = set(seeds)
    words = ["[95 %]: t interval over seeds"] if max(counts, default=0) > 1 else []
    if 1 in counts:
        words.append(
            "[95 % clips]: one seed, the binomial interval over test clips, in which neither seeds"
            " nor people vary; it compares nothing"
        )
    return ["; ".join([*words, *([MARKS] if marked else [])])] if words else []


def closing(name: str, found: Sequence[Pair], question: str = THESE) -> list[str]:
    """Who is above whom in a column, in a sentence; nothing for fewer than two rows."""
    if not found:
        return []
    tested = [pair for pair in found if pair.holm is not None]
    if not tested:
        return [
            f"{name}, {question}: not testable ({reasons(found)}); nobody is said to be above"
            " anybody"
        ]
    above: dict[str, list[str]] = {}
    for pair in tested:
        if pair.apart:
            above.setdefault(pair.above, []).append(pair.below)
    said = [f"{label} is above {listed(others)}" for label, others in above.items()]
    left = sum(not pair.apart for pair in tested)
    if left:
        said.append(
            f"no other of {len(tested)} pairs is told apart" if said else "nobody is above anybody"
        )
    return [f"{name}, {question}: {'; '.join(said)} ({how(tested)}){untested(found)}"]


def how(tested: Sequence[Pair]) -> str:
    """By what it was decided."""
    seeds = sorted({pair.difference.seeds for pair in tested})
    counts = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    people = tested[0].difference.subjects
    units = f"{counts} seeds" + (f" x {people} people" if people is not None else "")
    flips = [
        one.smallest
        for pair in tested
        if (one := pair.difference).flips is not None and one.smallest is not None
    ]
    smallest = f"; the smallest p that sign flips can give: {p_text(max(flips))}" if flips else ""
    alone = " (> 0.05: it rests on normal differences)" if flips and max(flips) > LEVEL else ""
    return f"t test over {units}, Holm over {len(tested)} pairs at {LEVEL:g}{smallest}{alone}"


def untested(found: Sequence[Pair]) -> str:
    """What could not be tested."""
    without = [pair for pair in found if pair.holm is None]
    return f"; {len(without)} not testable ({reasons(without)})" if without else ""


def reasons(found: Sequence[Pair]) -> str:
    """Why pairs are not testable, each reason once."""
    return ", ".join(dict.fromkeys(pair.difference.why for pair in found))


def listed(labels: Sequence[str]) -> str:
    """``a, b and c``."""
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
