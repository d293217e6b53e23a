"""How the ranking moves between equal clips, equal seconds and equal FLOPs.

A folder may hold runs under several budgets; each gives a column with its own, refitted schedule.
For units that no run was given a budget in, a column is read off the curves of the runs that are
there: at the largest amount that every row reached, in the middle of schedules that were made for
another budget: the runs with the most evaluations. Its heading says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd

from harness.records.schema import Point, RunRecord
from harness.report.cells import EMPTY, Figures, figures, known, method_text
from harness.report.frame import NUMBER, TEXT, TRUTH, WHOLE, Columns, interleaved_seconds, typed
from harness.spec.budget import parse_budget
from harness.spec.model import digest
from harness.studies.target import NO_TIMES, step_seconds

_Spent = Callable[[RunRecord, Point], float]
_UNIT = {"ep": "clips", "steps": "clips"}
"""Budgets in epochs or steps hold clips equal too."""


def _spent(times: Mapping[str, float]) -> dict[str, _Spent]:
    """What a run had spent at an evaluation, by unit; `times` as in
    `harness.studies.target.step_seconds`.
    """
    return {
        "clips": lambda record, point: point.clips_seen,
        "s": lambda record, point: point.step * step_seconds(record, times),
        "flops": lambda record, point: point.step * _flops_per_step(record),
    }


RANKING_COLUMNS: Columns = {
    "label": TEXT,
    "open": TRUTH,
    "held_equal": TEXT,
    "unit": TEXT,
    "read_off": TEXT,
    "linear": NUMBER,
    "rank": WHOLE,
}


def ranking_frame(
    records: Sequence[RunRecord], times: Mapping[str, float] = NO_TIMES
) -> pd.DataFrame:
    """A row per method and budget, as numbers; `RANKING_COLUMNS`.

    ``held_equal``: what was, in words; ``read_off``: the budget whose curves it was read off, empty
    where runs had it.
    """
    units = _spent(times)
    trained = [record for record in records if record.training and record.status == "ok"]
    labels = list(dict.fromkeys(record.label for record in trained))
    open_rows = {record.label for record in trained if record.method.division == "open"}
    rows: list[Figures] = []

    def column(held_equal: str, unit: str, values: dict[str, float], read_off: str = "") -> None:
        ranks = {
            label: 1 + sum(other > values[label] for other in values.values()) for label in values
        }
        rows.extend(
            {
                "label": label,
                "open": label in open_rows,
                "held_equal": held_equal,
                "unit": unit,
                "read_off": read_off,
                "linear": values.get(label),
                "rank": ranks.get(label),
            }
            for label in labels
        )

    budgets = dict.fromkeys(record.spec.train.budget for record in trained)
    for budget in budgets:
        own = [record for record in trained if record.spec.train.budget == budget]
        column(f"equal {budget}", _unit_of(budget), _by_label(own, lambda record: record.curve[-1]))
    given = {_unit_of(record.spec.train.budget) for record in trained}
    longest = max(
        budgets,
        key=lambda budget: (_most_evaluations(trained, budget), _most_clips(trained, budget)),
    )
    of_longest = [record for record in trained if record.spec.train.budget == longest]
    for unit in [unit for unit in units if unit not in given]:
        amount = min(units[unit](record, record.curve[-1]) for record in of_longest)
        heading = f"about {amount:.3g} {unit} (read off {longest})"
        within = partial(_last_within, spending=units[unit], amount=amount)
        column(heading, unit, _by_label(of_longest, within), longest)
    return typed(rows, RANKING_COLUMNS)


def ranking_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per method, one column per budget:
    mean linear accuracy over seeds and its rank; every cell a string.
    """
    lines = []
    for _, cells in frame.groupby("label", sort=False):
        found = figures(cells)
        lines.append(
            {"method": method_text(found[0]), **{cell["held_equal"]: _cell(cell) for cell in found}}
        )
    return pd.DataFrame(lines)


def _cell(cell: Figures) -> str:
    """``48.9 (1)``; a dash where nothing was measured."""
    return f"{100 * cell['linear']:.1f} ({cell['rank']})" if known(cell["linear"]) else EMPTY


def seconds_lines(records: Sequence[RunRecord]) -> list[str]:
    """What rows took under budgets in seconds: at the interleaved step time,
    which is held equal, and on the wall.
    """
    lines = []
    for budget in dict.fromkeys(record.spec.train.budget for record in records):
        if parse_budget(budget).unit != "s":
            continue
        rows: dict[str, list[tuple[float, float]]] = {}
        for record in records:
            if record.spec.train.budget == budget and record.training:
                interleaved = interleaved_seconds(record)
                wall = record.training.seconds
                rows.setdefault(record.label, []).append(
                    (math.nan if interleaved is None else interleaved, wall)
                )
        means = {
            label: [statistics.mean(column) for column in zip(*row, strict=True)]
            for label, row in rows.items()
        }
        found = ", ".join(
            f"{label} {_seconds_text(one)} / {_seconds_text(other)}"
            for label, (one, other) in means.items()
        )
        lines.append(f"equal {budget}: seconds at the interleaved step time / on the wall: {found}")
    return lines


def _seconds_text(seconds: float) -> str:
    """``30``, or a dash where it was not kept."""
    return f"{seconds:.0f}" if math.isfinite(seconds) else "-"


def settings(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Finished runs of methods in groups that share everything but method, seed and budget."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.training and record.status == "ok":
            same = {
                part: record.spec.identity[part] for part in ("encoder", "data", "train", "device")
            }
            same["train"].pop("budget")
            groups.setdefault(digest(same), []).append(record)
    return list(groups.values())


def _by_label(
    records: Sequence[RunRecord], point: Callable[[RunRecord], Point | None]
) -> dict[str, float]:
    """Mean accuracy over seeds at an evaluation of each run;
    rows one of whose runs has none are absent.
    """
    found: dict[str, list[float | None]] = {}
    for record in records:
        chosen = point(record)
        found.setdefault(record.label, []).append(chosen.accuracy.linear_test if chosen else None)
    return {
        label: statistics.mean(value for value in values if value is not None)
        for label, values in found.items()
        if None not in values
    }


def _last_within(record: RunRecord, spending: _Spent, amount: float) -> Point | None:
    """The last evaluation that had spent no more than the amount."""
    within = [point for point in record.curve if spending(record, point) <= amount * (1 + 1e-9)]
    return within[-1] if within else None


def _unit_of(budget: str) -> str:
    """The unit that a budget holds equal."""
    unit = parse_budget(budget).unit
    return _UNIT.get(unit, unit)


def _most_evaluations(records: Sequence[RunRecord], budget: str) -> int:
    """Most evaluations of a run of a budget."""
    return max(len(record.curve) for record in records if record.spec.train.budget == budget)


def _most_clips(records: Sequence[RunRecord], budget: str) -> float:
    """Most clips that a run of a budget saw."""
    return max(
        r.training.clips_seen for r in records if r.training and r.spec.train.budget == budget
    )


def _flops_per_step(record: RunRecord) -> float:
    """Model FLOPs of a step."""
    assert record.training is not None
    return record.training.flops / record.training.steps
