"""The price of tuning as a table: published settings, best of k draws, what it cost,
and whether the order moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from datasets.wording import minutes
from harness.records.differences import Row, pairs, these_people
from harness.report.apart import brackets, closing, points
from harness.report.cells import EMPTY, Cells, Figures, accuracy_text, formatted, known, texts
from harness.report.frame import NUMBER, TEXT, WHOLE, Columns, accuracy_figures, typed
from harness.spec.tuning import draws, read_space
from harness.studies.tuning import Tuned

_COLUMNS: Columns = {
    "data": TEXT,
    "budget": TEXT,
    "label": TEXT,
    "seeds": WHOLE,
    "draws": WHOLE,
    **{
        f"{name}{part}": NUMBER
        for name in ("published", "first", "best")
        for part in ("", "_sd", "_low", "_high")
    },
    "gain": NUMBER,
    "gain_text": TEXT,
    "lowest": NUMBER,
    "highest": NUMBER,
    "chosen": TEXT,
    "published_seconds": NUMBER,
    "tuning_seconds": NUMBER,
}


def tuning_frame(found: Sequence[Sequence[Tuned]]) -> pd.DataFrame:
    """One row per setting and method, as numbers; accuracies are shares, ``gain`` in points."""
    return typed([_row(one) for methods in found for one in methods], _COLUMNS)


def _row(one: Tuned) -> Figures:
    run = next(iter(one.published.values()))
    published, first, best = one.as_published, one.best_of(1), one.best_of(one.count)
    both = [seed for seed in best.by_seed if seed in published.by_seed]
    gain = these_people(
        [best.by_seed[seed] for seed in both], [published.by_seed[seed] for seed in both]
    ).interval
    chosen = [
        (one.drawn[seed].index(record) + 1) if record else 0
        for seed in one.drawn
        for record in [one.chosen(seed, one.count)]
    ]
    accuracies: dict[str, object] = {}
    for name, row in (("published", published), ("first", first), ("best", best)):
        accuracies |= accuracy_figures(name, list(row.by_seed.values()), run.data.test_clips)
    spread = one.spread
    return {
        "data": run.data.name,
        "budget": run.spec.train.budget,
        "label": one.label,
        "seeds": len(one.published),
        "draws": one.count,
        **accuracies,
        "gain": 100 * gain.mean,
        "gain_text": points(gain),
        "lowest": spread and spread[0],
        "highest": spread and spread[1],
        "chosen": "/".join(map(str, chosen)),
        "published_seconds": one.seconds(tuned=False),
        "tuning_seconds": one.seconds(tuned=True),
    }


def _range(row: Figures) -> str:
    return (
        f"{100 * row['lowest']:.1f} to {100 * row['highest']:.1f}"
        if known(row["lowest"])
        else EMPTY
    )


_CELLS: Cells = {
    "method": lambda row: row["label"],
    "seeds": formatted("seeds", "d"),
    "published": lambda row: accuracy_text(row, "published"),
    "draw 1": lambda row: accuracy_text(row, "first"),
    "best of k": lambda row: accuracy_text(row, "best"),
    "k": formatted("draws", "d"),
    "gain": lambda row: row["gain_text"],
    "all draws": _range,
    "chosen": lambda row: row["chosen"],
    "published took": lambda row: minutes(row["published_seconds"]),
    "k draws took": lambda row: minutes(row["tuning_seconds"]),
}


def tuning_table(found: Sequence[Sequence[Tuned]]) -> pd.DataFrame:
    """One row per setting and method; every cell a string."""
    return texts(tuning_frame(found), _CELLS)


def tuning_notes(found: Sequence[Sequence[Tuned]]) -> list[str]:
    """What the columns are, the draws themselves, and whether the order moves."""
    space = read_space()
    most = max(one.count for methods in found for one in methods)
    named = sorted({one.label.partition(":")[0] for methods in found for one in methods})
    lines = [
        (
            "% of test clips by the linear probe; best of k: of each seed the draw that is best on"
            " held-out training-side subjects, no test clip looked at; all draws: lowest and"
            " highest mean over seeds; chosen: number of the draw, by seed; took: wall time of"
            " these runs, evaluation included, the speed measurements not"
        ),
        f"space version {space.version} (benchmarks/tuning.yaml), the same draws for all methods",
    ]
    for draw in draws(most, space):
        train = ", ".join(f"{name} {value:g}" for name, value in draw.train.items())
        own = "; ".join(
            " ".join([method, *(f"{name}={value:g}" for name, value in draw.own(method).items())])
            for method in named
        )
        lines.append(f"draw {draw.number}: {train}; {own}")
    for methods in found:
        lines += order(methods)
    return lines


def order(methods: Sequence[Tuned]) -> list[str]:
    """Who is above whom under published settings, and after tuning."""
    if len(methods) < 2:
        return []
    count, run = min(one.count for one in methods), next(iter(methods[0].published.values()))
    published, tuned = (
        [one.as_published for one in methods],
        [one.best_of(count) for one in methods],
    )
    lines = [
        f"{run.data.name}, {run.spec.train.budget}: {_said(published, tuned, count)}",
        *brackets([len(row.by_seed) for row in published], False),
        *closing("published", pairs(published)),
        *closing(f"best of {count}", pairs(tuned)),
    ]
    return list(dict.fromkeys(lines))


def _said(published: Sequence[Row], tuned: Sequence[Row], count: int) -> str:
    before, after = (
        (
            [row.label for row in sorted(rows, key=lambda row: -row.mean)]
            if all(row.by_seed for row in rows)
            else []
        )
        for rows in (published, tuned)
    )
    if not before or not after:
        return "no order, as a method has no run that ended well"
    moved = "the same by the best of" if before == after else f"{' > '.join(after)} by the best of"
    return f"order of the means {' > '.join(before)} as published, {moved} {count}"
