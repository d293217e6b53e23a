"""What records say against a budget: whose runs count, and where the plan says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.runs.hopeless import below_untrained, runs_below
from harness.spec.model import RunSpec
from tests.harness.made_up_records import run_record


def on(fingerprint: str, name: str, linear: float, **changes: Any) -> RunRecord:
    """A run of 6,400 clips on data of that fingerprint."""
    record = run_record(name, linear, **changes)
    data = record.spec.data.model_copy(update={"fingerprint": fingerprint})
    spec = record.spec.model_copy(update={"data": data})
    return record.model_copy(update={"spec": spec, "address": spec.address})


RECORDS = [
    on("f00", "gfp", 0.45),
    on("f00", "gfp", 0.47, seed=1),
    on("f00", "mamp", 0.6),
    on("f00", "random-init", 0.5),
    on("f00", "random-init", 0.5, seed=1),
]


def said(
    name: str = "gfp", clips: float = 4000.0, records: list[RunRecord] = RECORDS, data: str = "f00"
) -> list[str]:
    spec: RunSpec = on(data, name, 0.5, seed=7).spec
    return below_untrained({name: (spec, clips)}, records)


def test_a_budget_that_ended_below_the_untrained_encoder_is_warned_of() -> None:
    assert said() == [
        "warning: gfp: 2 runs of at least as many clips on this data ended 4.0 points below the"
        " untrained encoder (linear): this budget ranks nothing"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "mamp"},
        {"name": "amr"},
        {"clips": 7000.0},
        {"data": "f01"},
        {"data": ""},
        {"records": RECORDS[:3]},
        {"records": RECORDS[3:]},
    ],
    ids=[
        "above it",
        "no run",
        "more clips than any",
        "other data",
        "data not read",
        "no control",
        "controls alone",
    ],
)
def test_otherwise_nothing_is_said(changes: dict[str, Any]) -> None:
    assert said(**changes) == []


def test_every_run_below_some_folders_counts_once(tmp_path: Path) -> None:
    for folder in ("a", "b/c"):
        store = RecordStore(tmp_path / folder)
        for record in RECORDS[:2]:
            store.write_run(record)
    (tmp_path / "a" / "damaged").mkdir()
    (tmp_path / "a" / "damaged" / "record.json").write_text("{")
    assert [run.label for run in runs_below([tmp_path / "a", tmp_path / "b"])] == ["gfp", "gfp"]
