"""What rows of a table got on the test clips, column by column:
what `harness.records.differences` tells apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from datasets.splits import swapped
from harness.records.differences import Row
from harness.records.evaluations import (
    SELECTED,
    EvaluationRecord,
    Evaluations,
    TestClips,
    column_of,
    row_of,
)
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, Accuracy, RunRecord


@dataclass(frozen=True)
class Column:
    """One accuracy of every row.

    Attributes:
        clips: number of test clips.
        subjects: [clips] who is in each of them; None where it is not known.
        best: accuracy of each seed at its best test epoch, by row: the papers' habit, by which
            nothing is judged.
        uncounted: seeds of rows that have no accuracy here or none to pair, each with the reason.
    """

    name: str
    rows: Sequence[Row]
    clips: int
    subjects: NDArray | None = None
    best: Mapping[str, Sequence[float]] = field(default_factory=dict)
    uncounted: Sequence[str] = ()


PROBES: dict[str, Callable[[Accuracy], float]] = {
    "linear": lambda accuracy: accuracy.linear_test,
    "kNN-1": lambda accuracy: accuracy.knn_test,
}
"""Columns of a run's own probes, as the table names them."""
PROTOCOL = "protocol "
"""Begins the names of the others."""


def probe_columns(records: Sequence[RunRecord]) -> list[Column]:
    """A column for each probe of runs that were held equal, controls among them;
    rows in the order of the records.
    """
    done = [record for record in records if record.status == "ok" and record.accuracy]
    if not done:
        return []
    clips, lost = done[0].data.test_clips, _unfinished(records)
    return [
        Column(name, rows_of(done, value), clips, best=best_points(done, value), uncounted=lost)
        for name, value in PROBES.items()
    ]


def _unfinished(runs: Sequence[RunRecord]) -> list[str]:
    """Seeds that a row lost: what is left of it may be no fair sample of it."""
    return [
        f"{run.label}, seed {run.spec.seed}: its run is {run.status}"
        for run in runs
        if run.status != "ok"
    ]


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


def best_points(
    records: Sequence[RunRecord], value: Callable[[Accuracy], float]
) -> dict[str, list[float]]:
    """The best test figure over the evaluations of each run, by row."""
    found: dict[str, list[float]] = {}
    for record in records:
        if record.curve:
            found.setdefault(record.label, []).append(
                max(value(point.accuracy) for point in record.curve)
            )
    return found


# --- protocols ---


def evaluations_on(
    runs: Sequence[RunRecord], evaluations: Sequence[EvaluationRecord]
) -> list[EvaluationRecord]:
    """Those of ``evaluations`` that are of these runs on their data, under the labels of their
    rows.

    Of runs on several data sets together there is none: each set's are those of the runs as they
    did on it (`RunRecord.on`), where a protocol's name needs no set.
    """
    by_address = {run.address: run for run in runs}
    return [
        one.model_copy(update={"label": run.label, "of_set": ""})
        for one in evaluations
        if (run := by_address.get(one.run))
        and not run.data.sets
        and one.data == run.data.fingerprint
    ]


def protocol_columns(runs: Sequence[RunRecord], evaluations: Evaluations) -> list[Column]:
    """A column for each protocol on runs that were held equal, with its controls; rows in the order
    of the runs.
    """
    order, lost = [run.address for run in runs], _unfinished(runs)
    found = newest(evaluations_on(runs, evaluations.of(runs)))
    found.sort(key=lambda one: (bool(one.control), order.index(one.run)))
    asked = dict.fromkeys(
        column_of(record) for record in found if record.status == "ok" and not record.control
    )
    return [
        _protocol_column(
            name, [record for record in found if _goes_into(record, name)], evaluations, lost
        )
        for name in asked
    ]


def are_folds(one: RunRecord, other: RunRecord) -> bool:
    """The other run's table is that of the swapped split, all else equal;
    not the other way round.
    """
    specs = [record.spec.identity for record in (one, other)]
    data = [
        {**spec["data"], "split": "", "fingerprint": record.data.fingerprint.partition("-")[0]}
        for spec, record in zip(specs, (one, other), strict=True)
    ]
    rest = [{key: spec[key] for key in ("encoder", "train", "probe")} for spec in specs]
    split, turned = one.spec.data.split, other.spec.data.split
    is_swap = swapped(split) == turned and len(split) < len(turned)
    return is_swap and data[0] == data[1] and rest[0] == rest[1]


def both_folds(one: Column, other: Column) -> Column:
    """The clips and people of both sides of a split as one column:
    rows and seeds that both have.
    """
    partners, share = {row.label: row for row in other.rows}, one.clips / (one.clips + other.clips)
    people = (
        None
        if one.subjects is None or other.subjects is None
        else np.append(one.subjects, other.subjects)
    )
    rows = [_both(row, partners[row.label], share) for row in one.rows if row.label in partners]
    lost = dict.fromkeys([*one.uncounted, *other.uncounted])
    return Column(
        one.name,
        [row for row in rows if row.by_seed],
        one.clips + other.clips,
        people,
        uncounted=list(lost),
    )


def _both(one: Row, other: Row, share: float) -> Row:
    seeds = [seed for seed in one.by_seed if seed in other.by_seed]
    by_seed = {
        seed: share * one.by_seed[seed] + (1 - share) * other.by_seed[seed] for seed in seeds
    }
    first, second = one.right or {}, other.right or {}
    right = {
        seed: np.append(first[seed], second[seed])
        for seed in seeds
        if seed in first and seed in second
    }
    return replace(one, by_seed=by_seed, right=right if len(right) == len(seeds) else None)


def newest(records: Iterable[EvaluationRecord]) -> list[EvaluationRecord]:
    """Each evaluation once: where a default has changed since,
    one spec stands for several options.
    """
    kept: dict[tuple[object, ...], EvaluationRecord] = {}
    for record in sorted(records, key=lambda record: record.finished):
        kept[record.run, record.control, column_of(record), draw_of(record)] = record
    return list(kept.values())


def _goes_into(record: EvaluationRecord, column: str) -> bool:
    """The column's own, or a control of its protocol; a control has no selected encoder."""
    own = column_of(record)
    return own == column or (bool(record.control) and own == column.removesuffix(SELECTED))


def _protocol_column(
    name: str,
    records: Sequence[EvaluationRecord],
    evaluations: Evaluations,
    lost: Sequence[str] = (),
) -> Column:
    """One protocol's column; ``lost``: what runs without an encoder took from it."""
    done = [record for record in records if record.status == "ok"]
    paired, unpaired = same_draws(done)
    clips = evaluations.test_clips(done[0].data)
    people = np.array(clips.subjects) if clips and min(clips.subjects, default=-1) >= 0 else None
    best = {
        label: list(by_seed(own, lambda record: record.best).values())
        for label, own in _grouped(paired).items()
        if all(record.curve for record in own)
    }
    failed = [
        f"{row_of(one)}, seed {one.seed}: {one.status}" for one in records if one.status != "ok"
    ]
    rows = rows_of_evaluations(paired, clips)
    return Column(
        f"{PROTOCOL}{name}",
        rows,
        len(done[0].predictions),
        people,
        best,
        [*lost, *failed, *unpaired],
    )


def draw_of(record: EvaluationRecord) -> object:
    """Which draw of labels it was trained on; None where a protocol draws none."""
    return record.options.get("draw")


def same_draws(records: Sequence[EvaluationRecord]) -> tuple[list[EvaluationRecord], list[str]]:
    """Finished evaluations whose draw of labels every row with their seed has, and a line for each
    of the others.

    Rows are paired by seed: were one's mean over other draws than the other's, their difference
    would hold that of the draws.
    """
    drawn: dict[int, dict[str, set[object]]] = {}
    for record in records:
        drawn.setdefault(record.seed, {}).setdefault(row_of(record), set()).add(draw_of(record))
    common = {seed: set.intersection(*rows.values()) for seed, rows in drawn.items()}
    return [record for record in records if draw_of(record) in common[record.seed]], [
        f"{row_of(record)}, seed {record.seed}: draw {draw_of(record)}, which not every row has"
        for record in records
        if draw_of(record) not in common[record.seed]
    ]


def rows_of_evaluations(
    records: Sequence[EvaluationRecord], clips: TestClips | None = None
) -> list[Row]:
    """A row for each label; several draws of one seed count as their mean."""
    return [
        Row(
            label,
            by_seed(own, lambda record: record.accuracy),
            control=bool(own[0].control),
            constant=own[0].label == RAW_FLOOR,
            right=_right_by_seed(own, clips) if clips else None,
        )
        for label, own in _grouped(records).items()
    ]


def _grouped(records: Iterable[EvaluationRecord]) -> dict[str, list[EvaluationRecord]]:
    """Finished evaluations by row."""
    found: dict[str, list[EvaluationRecord]] = {}
    for record in records:
        if record.status == "ok":
            found.setdefault(row_of(record), []).append(record)
    return found


def by_seed(
    records: Iterable[EvaluationRecord], value: Callable[[EvaluationRecord], float | None]
) -> dict[int, float]:
    """Mean over the draws of each seed."""
    found: dict[int, list[float]] = {}
    for record in records:
        if (one := value(record)) is not None:
            found.setdefault(record.seed, []).append(one)
    return {seed: statistics.fmean(values) for seed, values in sorted(found.items())}


def _right_by_seed(records: Iterable[EvaluationRecord], clips: TestClips) -> dict[int, NDArray]:
    """[clips] share of the draws of each seed that classified each test clip rightly;
    empty where it cannot be said.
    """
    labels, found = np.array(clips.labels), dict[int, list[NDArray]]()
    for record in records:
        if len(record.predictions) != len(labels):
            return {}
        found.setdefault(record.seed, []).append(np.array(record.predictions) == labels)
    return {seed: np.mean(draws, axis=0) for seed, draws in found.items()}
