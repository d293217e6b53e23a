"""Is a budget too small to tell anything? What records of the same data say before it is spent."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from datasets.wording import counted
from harness.records.schema import RANDOM_INIT, RunRecord
from harness.records.store import records_below
from harness.spec.model import RunSpec


def runs_below(folders: Iterable[Path]) -> Iterator[RunRecord]:
    """Every run record below some folders, each address once;
    those that are refused are left out.
    """
    seen = set[str]()
    for _, record in records_below(folders, RunRecord):
        if record.address not in seen:
            seen.add(record.address)
            yield record


def below_untrained(
    planned: Mapping[str, tuple[RunSpec, float]], records: Sequence[RunRecord]
) -> list[str]:
    """A line for each method whose runs, at no smaller a budget, ended below the untrained encoder
    on this data.

    Args:
        planned: by label, what is to run and the clips that it will see.
    """
    lines = []
    for label, (spec, clips) in planned.items():
        alike = [
            record
            for record in records
            if record.status == "ok"
            and record.accuracy
            and record.spec.data.fingerprint == spec.data.fingerprint != ""
            and record.spec.identity["encoder"] == spec.identity["encoder"]
        ]
        own = [
            record
            for record in alike
            if record.training
            and record.method.division == "closed"
            and record.training.clips_seen >= clips
            and record.spec.method.identity == spec.method.identity
        ]
        controls = [record for record in alike if record.label == RANDOM_INIT]
        gain = _mean_linear(own) - _mean_linear(controls) if own and controls else 0.0
        if gain < 0:
            lines.append(
                f"warning: {label}: {counted(len(own), 'run')} of at least as many clips on this"
                f" data ended {-100 * gain:.1f} points below the untrained encoder (linear): this"
                " budget ranks nothing"
            )
    return lines


def _mean_linear(records: Sequence[RunRecord]) -> float:
    """Mean linear test accuracy."""
    return statistics.mean(record.accuracy.linear_test for record in records if record.accuracy)
