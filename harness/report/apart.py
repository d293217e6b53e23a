"""Words for accuracies: a cell with its interval, who is marked, and who is above whom."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from harness.records.differences import (
    LEVEL,
    Interval,
    Pair,
    Row,
    as_good_as,
    best,
    clips_interval,
    seeds_interval,
)

EMPTY = "-"
BEST, AS_GOOD = " best", " ~best"
"""Marks of the method with the highest mean, and of those that are not told apart from it."""
MARKS = f"{BEST.strip()}: the method with the highest mean; {AS_GOOD.strip()}: not told apart from it"


def accuracy_cell(values: Sequence[float], clips: int, *, chosen: bool = False) -> str:
    """``73.0 ± 3.6 [64.0, 82.0]`` over seeds, in %; of one seed ``73.0 [70.1, 75.7 clips]``.

    Args:
        values: shares of right test clips, one for each seed.
        clips: number of test clips.
        chosen: the best of several on the same clips, which has no binomial interval.
    """
    if not values:
        return EMPTY
    mean = f"{100 * statistics.mean(values):.1f}"
    if len(values) > 1:
        return f"{mean} ± {100 * statistics.stdev(values):.1f} [{bounds(seeds_interval(values))}]"
    return mean if chosen else f"{mean} [{bounds(clips_interval(values[0], clips))} clips]"


def bounds(interval: Interval) -> str:
    """``64.0, 82.0`` in %, within what an accuracy can be."""
    return f"{100 * max(interval.low, 0):.1f}, {100 * min(interval.high, 1):.1f}"


def points(interval: Interval) -> str:
    """``+2.0 [-0.5, +4.5]``, of a difference in percentage points."""
    if not math.isfinite(interval.low):
        return f"{100 * interval.mean:+.1f}"
    return f"{100 * interval.mean:+.1f} [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"


def p_text(p: float | None) -> str:
    """``0.031``."""
    if p is None:
        return EMPTY
    return f"{p:.2g}" if p >= 1e-4 else "<0.0001"


def marks(rows: Sequence[Row], found: Sequence[Pair]) -> dict[str, str]:
    """Mark by row: the best method, and methods not told apart from it; empty where nothing is testable."""
    top = best(rows)
    if top is None or not any(pair.holm is not None for pair in found):
        return {}
    return {top: BEST} | dict.fromkeys(as_good_as(top, rows, found), AS_GOOD)


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
            "[95 % clips]: one seed, the binomial interval over test clips, in which neither seeds nor people vary; "
            "it compares nothing"
        )
    return ["; ".join([*words, *([MARKS] if marked else [])])] if words else []


def closing(name: str, found: Sequence[Pair], question: str = "these people") -> list[str]:
    """Who is above whom in a column, in a sentence; nothing for fewer than two rows."""
    if not found:
        return []
    tested = [pair for pair in found if pair.holm is not None]
    if not tested:
        return [f"{name}, {question}: not testable ({reasons(found)}); nobody is said to be above anybody"]
    above: dict[str, list[str]] = {}
    for pair in tested:
        if pair.apart:
            above.setdefault(pair.above, []).append(pair.below)
    said = [f"{label} is above {listed(others)}" for label, others in above.items()]
    left = sum(not pair.apart for pair in tested)
    if left:
        said.append(f"no other of {len(tested)} pairs is told apart" if said else "nobody is above anybody")
    return [f"{name}, {question}: {'; '.join(said)} ({how(tested)}){untested(found)}"]


def how(tested: Sequence[Pair]) -> str:
    """By what it was decided."""
    seeds = sorted({pair.difference.seeds for pair in tested})
    counts = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    people = tested[0].difference.subjects
    units = f"{counts} seeds" + (f" x {people} people" if people is not None else "")
    flips = [one.smallest for pair in tested if (one := pair.difference).flips is not None and one.smallest is not None]
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
