"""What rows of a table got on the test clips, column by column: what `harness.records.differences` tells apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numpy.typing import NDArray

from harness.records.differences import Row
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, Accuracy, RunRecord


@dataclass(frozen=True)
class Column:
    """One accuracy of every row.

    Attributes:
        clips: number of test clips.
        subjects: [clips] who is in each of them; None where it was not kept.
    """

    name: str
    rows: Sequence[Row]
    clips: int
    subjects: NDArray | None = None


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
    return [Column(name, rows_of(done, value), clips) for name, value in PROBES.items()]


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
