"""Two runs, folders or records held against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.records.schema import Doubt, Health, RunRecord
from harness.report.diff import (
    Diff,
    diff,
    result_rows,
    section_line,
    section_rows,
    side_line,
    side_of,
)
from harness.spec.model import MethodSpec
from tests.harness.made_up_records import (
    ENVIRONMENT,
    arm,
    folder_of,
    ratio,
    run_record,
    speed_record,
)
from tests.harness.small_run import harness


def with_train(record: RunRecord, **changes: Any) -> RunRecord:
    spec = record.spec.with_train(**changes)
    return record.model_copy(update={"spec": spec, "address": spec.address})


def seeds(name: str, *linear: float) -> list[RunRecord]:
    return [run_record(name, value, seed=seed) for seed, value in enumerate(linear)]


def compared(path: Path, a: list[Any], b: list[Any]) -> Diff:
    return diff(side_of(folder_of(path / "a", *a)), side_of(folder_of(path / "b", *b)))


def section(found: Diff, name: str) -> dict[str, tuple[str, str]]:
    return {key: (a, b) for key, a, b in section_rows(found.sections[name][1])}


def test_settings_code_data_and_machine_are_named_where_they_differ(tmp_path: Path) -> None:
    here = run_record()
    elsewhere = with_train(here, budget="30s", precision="bf16")
    machine = ENVIRONMENT.model_copy(
        update={"processor": "Slide rule", "versions": {"python": "3.12.1"}, "commit": "f" * 12}
    )
    method = here.method.model_copy(update={"versions": {"gfp": "2"}})
    data = here.data.model_copy(update={"train_clips": 700})
    elsewhere = elsewhere.model_copy(
        update={"environment": machine, "method": method, "data": data}
    )
    found = compared(tmp_path, [here], [elsewhere])
    assert section(found, "settings") == {
        "train.budget": ("60s", "30s"),
        "train.precision": ("fp32", "bf16"),
    }
    assert section(found, "code") == {"commit": ("0123456789ab", "f" * 12), "gfp": ("-", "2")}
    assert section(found, "data") == {"train_clips": ("800", "700")}
    assert section(found, "machine") == {
        "processor": ("Abacus 3000", "Slide rule"),
        "python": ("3.11.7", "3.12.1"),
        "torch": ("2.11.0", "-"),
    }


@pytest.mark.parametrize(
    ("alike", "differ", "line"),
    [
        (4, {}, "all 4 alike"),
        (4, {"a": ([1], [2])}, "1 of 5 differ"),
        (
            0,
            {"a": ([1], [2]), "b": ([1], []), "c": ([1], [])},
            "1 of 1 differ, 2 not recorded in B",
        ),
        (1, {"a": ([], [2])}, "all 1 alike, 1 not recorded in A"),
        (0, {"a": ([], [2]), "b": ([1], [])}, "1 not recorded in A, 1 not recorded in B"),
        (0, {}, "all 0 alike"),
    ],
)
def test_what_one_side_has_not_recorded_is_not_called_different(
    alike: int, differ: dict[str, Any], line: str
) -> None:
    assert section_line(alike, differ) == line


def test_the_command_says_what_is_not_recorded(tmp_path: Path) -> None:
    here = run_record()
    method = here.method.model_copy(update={"versions": {"gfp": "2", "mask": "1"}})
    folders = [
        folder_of(tmp_path / "a", here.model_copy(update={"method": method})),
        folder_of(tmp_path / "b", here),
    ]
    assert "code: all 2 alike, 2 not recorded in B" in harness("diff", *folders).lines


def test_options_are_told_apart_of_methods_that_both_have(tmp_path: Path) -> None:
    one, other = run_record(), run_record()
    changed = other.spec.model_copy(update={"method": MethodSpec(name="gfp", options={"tau": 0.5})})
    other = other.model_copy(update={"spec": changed, "address": changed.address})
    mamp = run_record("mamp")
    own = mamp.spec.model_copy(update={"method": MethodSpec(name="mamp", options={"tau": 0.8})})
    found = compared(
        tmp_path, [one, mamp.model_copy(update={"spec": own, "address": own.address})], [other]
    )
    assert section(found, "methods' options") == {"gfp.tau": ("-", "0.5")}


def test_all_values_of_a_folder_stand_beside_those_of_the_other(tmp_path: Path) -> None:
    runs = [run_record(), with_train(run_record(), budget="30s")]
    found = compared(tmp_path, runs, runs[:1])
    assert section(found, "settings") == {"train.budget": ("30s, 60s", "60s")}


def test_a_difference_is_formed_over_the_seeds_that_both_have(tmp_path: Path) -> None:
    found = compared(tmp_path, seeds("gfp", 0.60, 0.62, 0.64, 0.9), seeds("gfp", 0.63, 0.64, 0.67))
    linear = next(one for one in found.results if one.measure == "linear")
    assert linear.a is not None
    assert (linear.a.of, len(linear.a.by_seed)) == ("seeds", 4)
    assert linear.difference is not None
    assert linear.difference.seeds == 3
    # 3, 2 and 3 points: mean 2.667, standard error 1/3, times t(2) = 4.303
    assert linear.difference.interval.mean == pytest.approx(0.0266667, abs=1e-6)
    assert linear.difference.interval.low == pytest.approx(0.0266667 - 0.014342, abs=1e-5)
    assert result_rows([linear])[0][-1] == "+2.7 [+1.2, +4.1]"


def test_of_one_seed_there_is_an_interval_over_clips_and_none_of_the_difference(
    tmp_path: Path,
) -> None:
    found = compared(tmp_path, [run_record(linear=0.5)], [run_record(linear=0.6)])
    row = result_rows(found.results)[0]
    assert row == (
        "gfp",
        "linear",
        "50.0 [45.1, 54.9 clips]",
        "60.0 [55.1, 64.7 clips]",
        "+10.0 (1 of 3 seeds)",
    )


def test_nothing_is_formed_of_other_test_clips_or_of_what_one_side_lacks(tmp_path: Path) -> None:
    other = run_record()
    other = other.model_copy(
        update={"data": other.data.model_copy(update={"fingerprint": "e" * 16})}
    )
    found = compared(tmp_path, [run_record(), run_record("mamp")], [other])
    reasons = {(one.row, one.measure): (one.why, one.difference) for one in found.results}
    assert reasons["gfp", "linear"] == ("another data fingerprint", None)
    assert reasons["mamp", "linear"] == ("only in A", None)


def test_rows_of_a_side_with_several_settings_are_told_apart_by_them(tmp_path: Path) -> None:
    both = [run_record(linear=0.5), with_train(run_record(linear=0.6), budget="30s")]
    found = compared(tmp_path, both, [run_record(linear=0.7)])
    rows = {row[0]: row[2:4] for row in result_rows(found.results) if row[1] == "linear"}
    assert rows["gfp (train.budget 60s)"] == ("50.0 [45.1, 54.9 clips]", "70.0 [65.3, 74.3 clips]")
    assert rows["gfp (train.budget 30s)"] == ("60.0 [55.1, 64.7 clips]", "-")


def test_speedups_stand_beside_each_other(tmp_path: Path) -> None:
    base = arm("skeletonmae", ratio(1.0, 1.0, 1.0))
    one = speed_record(arm("gfp", ratio(1.9, 2.0, 2.1)), base)
    other = speed_record(arm("gfp", ratio(1.0, 1.02, 1.04)), base)
    found = compared(tmp_path, [one], [other])
    rows = [row for row in result_rows(found.results) if row[1].startswith("speedup")]
    assert rows == [("gfp", "speedup over skeletonmae", "2.00x [1.90, 2.10]", "within noise", "-")]


def test_one_runs_folder_or_its_record_is_a_side_too(tmp_path: Path) -> None:
    record = run_record()
    folder = folder_of(tmp_path / "a", record, run_record("mamp"))
    for path in (folder / record.address, folder / record.address / "record.json"):
        side = side_of(path)
        assert [run.address for run in side.runs] == [record.address]
        assert side_line(side) == f"{path}: 1 run (gfp), 2026-01-02"


@pytest.mark.parametrize("name", ["nowhere", "empty", "other.json"])
def test_what_is_no_record_is_said_in_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match="expected") as error:
        side_of(tmp_path / name)
    assert "\n" not in str(error.value)


def test_the_command_prints_text_and_json(tmp_path: Path) -> None:
    a, b = (
        folder_of(tmp_path / "a", *seeds("gfp", 0.5, 0.6)),
        folder_of(tmp_path / "b", *seeds("gfp", 0.6, 0.6)),
    )
    result = harness("diff", str(a), str(b))
    assert result.code == 0
    assert "settings: all" in result.out
    assert "55.0" in result.out
    table = result.out.partition("results")[2].partition("accuracies in %")[0]
    assert max(map(len, table.splitlines())) <= 100
    found = json.loads(harness("diff", str(a), str(b), "--json").out)
    assert found["results"][0]["difference"]["value"] == pytest.approx(0.05)
    assert found["settings"]["differ"] == {}


def test_a_speedup_of_a_doubted_row_or_a_disturbed_measurement_says_so(tmp_path: Path) -> None:
    doubt = Doubt(kind="FLOPs differ", text="more than counted")
    gfp, base = arm("gfp", ratio(2.0, 2.2, 2.4)), arm("skeletonmae", ratio(1.0, 1.0, 1.0))
    doubted = speed_record(base, gfp.model_copy(update={"doubts": (doubt,)}))
    disturbed = speed_record(base, gfp).model_copy(
        update={"health": Health(blocks=10, disturbed=9)}
    )
    found = compared(tmp_path, [doubted], [disturbed])
    (row,) = (row for row in result_rows(found.results) if row[1].startswith("speedup"))
    assert row[2].startswith("2.20x [2.00, 2.40] (")
    assert row[3] == "2.20x [2.00, 2.40] (disturbed)"
