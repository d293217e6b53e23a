"""What rows of a table got on the test clips, column by column: what `harness.records.differences` tells apart."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from datasets.splits import swapped
from harness.records.differences import Row
from harness.records.evaluations import SELECTED, EvaluationRecord, Evaluations, TestClips, column_of, row_of
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, Accuracy, RunRecord


@dataclass(frozen=True)
class Column:
    """One accuracy of every row.

    Attributes:
        clips: number of test clips.
        subjects: [clips] who is in each of them; None where it is not known.
        best: accuracy of each seed at its best test epoch, by row: the papers' habit, by which nothing is judged.
    """

    name: str
    rows: Sequence[Row]
    clips: int
    subjects: NDArray | None = None
    best: Mapping[str, Sequence[float]] = field(default_factory=dict)


PROBES: dict[str, Callable[[Accuracy], float]] = {
    "linear": lambda accuracy: accuracy.linear_test,
    "kNN-1": lambda accuracy: accuracy.knn_test,
}
"""Columns of a run's own probes, as the table names them."""


def probe_columns(records: Sequence[RunRecord]) -> list[Column]:
    """A column for each probe of runs that were held equal, controls among them; rows in the order of the records."""
    done = [record for record in records if record.status == "ok" and record.accuracy]
    if not done:
        return []
    clips = done[0].data.test_clips
    return [Column(name, rows_of(done, value), clips, best=best_points(done, value)) for name, value in PROBES.items()]


def rows_of(records: Sequence[RunRecord], value: Callable[[Accuracy], float]) -> list[Row]:
    """A row for each label of finished runs."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record.accuracy:
            found.setdefault(record.label, {})[record.spec.seed] = value(record.accuracy)
    return [
        Row(label, by_seed, control=label in (RANDOM_INIT, RAW_FLOOR), constant=label == RAW_FLOOR)
        for label, by_seed in found.items()
    ]


def best_points(records: Sequence[RunRecord], value: Callable[[Accuracy], float]) -> dict[str, list[float]]:
    """The best test figure over the evaluations of each run, by row."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record.curve:
            found.setdefault(record.label, []).append(max(value(point.accuracy) for point in record.curve))
    return found


# --- protocols ---


def protocol_columns(runs: Sequence[RunRecord], evaluations: Evaluations) -> list[Column]:
    """A column for each protocol on runs that were held equal, with its controls; rows in the order of the runs."""
    labels = {run.address: run.label for run in runs}
    found = [one.model_copy(update={"label": labels[one.run]}) for one in evaluations.of(runs) if one.status == "ok"]
    found.sort(key=lambda one: (bool(one.control), list(labels).index(one.run)))
    asked = dict.fromkeys(column_of(record) for record in found if not record.control)
    return [
        protocol_column(name, [record for record in found if goes_into(record, name)], evaluations) for name in asked
    ]


def are_folds(one: RunRecord, other: RunRecord) -> bool:
    """The other run's table is that of the swapped split, all else equal."""
    specs = [record.spec.identity for record in (one, other)]
    data = [{**spec["data"], "split": "", "fingerprint": record.data.fingerprint.partition("-")[0]}
            for spec, record in zip(specs, (one, other), strict=True)]  # fmt: skip
    rest = [{key: spec[key] for key in ("encoder", "train", "probe")} for spec in specs]
    return swapped(one.spec.data.split) == other.spec.data.split and data[0] == data[1] and rest[0] == rest[1]


def both_folds(one: Column, other: Column) -> Column:
    """The clips and people of both sides of a split as one column: rows and seeds that both have."""
    partners, share = {row.label: row for row in other.rows}, one.clips / (one.clips + other.clips)
    people = None if one.subjects is None or other.subjects is None else np.append(one.subjects, other.subjects)
    rows = [_both(row, partners[row.label], share) for row in one.rows if row.label in partners]
    return Column(one.name, [row for row in rows if row.by_seed], one.clips + other.clips, people)


def _both(one: Row, other: Row, share: float) -> Row:
    seeds = [seed for seed in one.by_seed if seed in other.by_seed]
    by_seed = {seed: share * one.by_seed[seed] + (1 - share) * other.by_seed[seed] for seed in seeds}
    first, second = one.right or {}, other.right or {}
    right = {seed: np.append(first[seed], second[seed]) for seed in seeds if seed in first and seed in second}
    return replace(one, by_seed=by_seed, right=right if len(right) == len(seeds) else None)


def goes_into(record: EvaluationRecord, column: str) -> bool:
    """The column's own, or a control of its protocol; a control has no selected encoder."""
    own = column_of(record)
    return own == column or (bool(record.control) and own == column.removesuffix(SELECTED))


def protocol_column(name: str, records: Sequence[EvaluationRecord], evaluations: Evaluations) -> Column:
    """One protocol's column."""
    clips = evaluations.test_clips(records[0].data)
    people = np.array(clips.subjects) if clips and min(clips.subjects, default=-1) >= 0 else None
    best = {
        label: list(by_seed(own, lambda record: record.best).values())
        for label, own in grouped(records).items()
        if all(record.curve for record in own)
    }
    rows = rows_of_evaluations(records, clips)
    return Column(f"protocol {name}", rows, len(records[0].predictions), people, best)


def rows_of_evaluations(records: Sequence[EvaluationRecord], clips: TestClips | None = None) -> list[Row]:
    """A row for each label; several draws of one seed count as their mean."""
    return [
        Row(
            label, by_seed(own, lambda record: record.accuracy), control=bool(own[0].control),
            constant=own[0].label == RAW_FLOOR, right=right_by_seed(own, clips) if clips else None,
        )
        for label, own in grouped(records).items()
    ]  # fmt: skip


def grouped(records: Iterable[EvaluationRecord]) -> dict[str, list[EvaluationRecord]]:
    """Finished evaluations by row."""
    found: dict[str, list[EvaluationRecord]] = {}
    for record in records:
        if record.status == "ok":
            found.setdefault(row_of(record), []).append(record)
    return found


def by_seed(
    records: Iterable[EvaluationRecord], value: Callable[[EvaluationRecord], float | None]
) -> dict[int, float]:  # fmt: skip
    """Mean over the draws of each seed."""
    found: dict[int, list[float]] = {}
    for record in records:
        if (one := value(record)) is not None:
            found.setdefault(record.seed, []).append(one)
    return {seed: statistics.fmean(values) for seed, values in sorted(found.items())}


def right_by_seed(records: Iterable[EvaluationRecord], clips: TestClips) -> dict[int, NDArray]:
    """[clips] share of the draws of each seed that classified each test clip rightly; empty where it cannot be said."""
    labels, found = np.array(clips.labels), dict[int, list[NDArray]]()
    for record in records:
        if len(record.predictions) != len(labels):
            return {}
        found.setdefault(record.seed, []).append(np.array(record.predictions) == labels)
    return {seed: np.mean(draws, axis=0) for seed, draws in found.items()}
