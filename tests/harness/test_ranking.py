"""The ranking: accuracy and rank at equal clips, seconds and FLOPs,
given as budgets or read off curves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.report.ranking import ranking_frame, ranking_table, settings
from tests.harness.made_up_records import curve_record, run_record
from tests.harness.small_run import harness

# Equal clips: 30 steps each. gfp then stands at 3 s and 60 GFLOPs, mamp at 6 s and 30 GFLOPs.
GFP = curve_record("gfp", 0.5, 0.6, 0.7, budget="300clips", step_seconds=0.1, step_flops=2e9)
MAMP = curve_record("mamp", 0.55, 0.65, 0.8, budget="300clips", step_seconds=0.2, step_flops=1e9)


def table(*records: RunRecord) -> pd.DataFrame:
    return ranking_table(ranking_frame(records)).set_index("method")


def changed(record: RunRecord, section: str, **values: Any) -> RunRecord:
    """The record with these settings in a section of its spec."""
    part = getattr(record.spec, section).model_copy(update=values)
    return record.model_copy(update={"spec": record.spec.model_copy(update={section: part})})


# --- columns ---


def test_units_without_a_budget_are_read_off_where_the_first_row_ends() -> None:
    found = table(GFP, MAMP)
    assert list(found.columns) == [
        "equal 300clips",
        "about 3 s (read off 300clips)",
        "about 3e+10 flops (read off 300clips)",
    ]
    assert found.loc["gfp"].tolist() == [
        "70.0 (2)",
        "70.0 (1)",
        "50.0 (2)",
    ]  # 10 steps are 20 GFLOPs, 20 are 40
    assert found.loc["mamp"].tolist() == [
        "80.0 (1)",
        "55.0 (2)",
        "80.0 (1)",
    ]  # 10 steps are 2 s, 20 are 4 s


def test_a_budget_gives_its_own_column_and_its_unit_is_not_read_off() -> None:
    found = table(
        GFP,
        MAMP,
        curve_record("gfp", 0.3, 0.4, budget="2s"),
        curve_record("mamp", 0.35, budget="2s"),
    )
    assert list(found.columns) == [
        "equal 300clips",
        "equal 2s",
        "about 3e+10 flops (read off 300clips)",
    ]
    assert found["equal 2s"].tolist() == ["40.0 (1)", "35.0 (2)"]


@pytest.mark.parametrize(
    ("budget", "units"),
    [
        ("3ep", ["s", "flops"]),
        ("30steps", ["s", "flops"]),
        ("9s", ["clips", "flops"]),
        ("9e9flops", ["clips", "s"]),
    ],
)
def test_epochs_and_steps_hold_clips_equal(budget: str, units: list[str]) -> None:
    _, *read_off = table(curve_record("gfp", 0.5, budget=budget)).columns
    assert [heading.split()[2] for heading in read_off] == units


def test_clips_are_read_off_at_the_fewest_that_a_row_saw() -> None:
    found = table(curve_record("gfp", 0.5, 0.6, 0.7), curve_record("mamp", 0.4, 0.8))
    assert found["about 200 clips (read off 60s)"].tolist() == ["60.0 (2)", "80.0 (1)"]


def test_the_budget_with_the_most_clips_is_read_off() -> None:
    found = table(
        curve_record("gfp", 0.5, budget="100clips"),
        curve_record("gfp", 0.4, 0.6, budget="200clips"),
    )
    assert "about 10 s (read off 200clips)" in found.columns


# --- cells ---


def test_seeds_are_averaged() -> None:
    found = table(GFP, curve_record("gfp", 0.86, budget="300clips", seed=1), MAMP)
    assert found["equal 300clips"].tolist() == ["78.0 (2)", "80.0 (1)"]


def test_a_row_without_runs_under_a_budget_is_a_dash_and_takes_no_rank() -> None:
    found = table(GFP, MAMP, curve_record("mamp", 0.35, budget="2s"))
    assert found["equal 2s"].tolist() == ["-", "35.0 (1)"]


def test_a_row_that_was_not_evaluated_early_enough_is_a_dash() -> None:
    late = MAMP.model_copy(update={"curve": MAMP.curve[1:]})  # first evaluated after 4 s
    assert table(GFP, late)["about 3 s (read off 300clips)"].tolist() == ["70.0 (1)", "-"]
    early = MAMP.model_copy(update={"spec": MAMP.spec.model_copy(update={"seed": 1})})
    assert table(GFP, late, early)["about 3 s (read off 300clips)"].tolist() == ["70.0 (1)", "-"]


def test_runs_that_did_not_end_are_left_out() -> None:
    failed = curve_record("amr", 0.9, budget="300clips", status="failed", accuracy=None)
    pd.testing.assert_frame_equal(
        ranking_table(ranking_frame([GFP, failed, MAMP])), ranking_table(ranking_frame([GFP, MAMP]))
    )


def test_seconds_are_read_off_at_the_step_times_of_one_measurement() -> None:
    found = ranking_table(ranking_frame([GFP, MAMP], {"gfp": 0.4, "mamp": 0.2})).set_index(
        "method"
    )  # 12 s and 6 s in all
    assert found["about 6 s (read off 300clips)"].tolist() == ["50.0 (2)", "80.0 (1)"]


# --- settings ---


def test_methods_seeds_budgets_and_probes_share_a_setting() -> None:
    other = [
        curve_record("mamp", 0.5),
        curve_record("gfp", 0.5, seed=3),
        curve_record("gfp", 0.5, budget="9s"),
        changed(curve_record("gfp", 0.5), "probe", every="8clips"),
    ]
    assert settings([GFP, *other]) == [[GFP, *other]]


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("train", {"lr": 0.5}),
        ("train", {"batch_size": 8}),
        ("data", {"name": "x.npz"}),
        ("encoder", {"size": "base"}),
    ],
)
def test_other_training_data_or_encoder_is_another_setting(
    section: str, values: dict[str, Any]
) -> None:
    other = changed(GFP, section, **values)
    assert settings([GFP, other, MAMP]) == [[GFP, MAMP], [other]]


def test_controls_belong_to_no_setting() -> None:
    assert settings([run_record("random-init"), run_record("raw-pca")]) == []


# --- the command ---


def stored(folder: Path, *records: RunRecord) -> Path:
    for record in records:
        RecordStore(folder).write_run(record)
    return folder


def test_the_command_prints_the_table_and_leaves_it_beside_the_records(tmp_path: Path) -> None:
    out = stored(tmp_path / "out", GFP, MAMP, run_record("random-init"))
    outcome = harness("ranking", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert "equal 300clips" in outcome.out
    written = (out / "ranking.md").read_text()
    assert "| gfp | 70.0 (2) | 70.0 (1) | 50.0 (2) |" in written
    assert (
        "- linear accuracy in %, mean over seeds, at the last evaluation of each budget; (rank)"
        in written
    )


@pytest.mark.parametrize("records", [(), (run_record("random-init"),)], ids=["nothing", "controls"])
def test_a_folder_without_runs_of_a_method_is_one_line(
    records: tuple[RunRecord, ...], tmp_path: Path
) -> None:
    outcome = harness("ranking", stored(tmp_path, *records))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"error: {tmp_path}: no run of a method; see `ls runs --out {tmp_path}`\n"


def test_a_folder_where_no_run_ended_is_one_line(tmp_path: Path) -> None:
    failed = curve_record("gfp", 0.5, status="failed", accuracy=None)
    outcome = harness("ranking", stored(tmp_path, failed))
    assert outcome.code == 2
    assert "no run of a method" in outcome.err


def test_a_folder_of_two_settings_is_one_line(tmp_path: Path) -> None:
    other = changed(GFP, "train", lr=0.5)
    outcome = harness(
        "ranking", stored(tmp_path, GFP, other.model_copy(update={"address": other.spec.address}))
    )
    assert outcome.code == 2
    assert (
        outcome.err
        == f"error: {tmp_path}: runs of 2 different settings; keep one data set and encoder a"
        " folder\n"
    )
    assert not (tmp_path / "ranking.md").exists()


def test_the_earlier_name_of_the_command_works_and_says_so(tmp_path: Path) -> None:
    outcome = harness("exchange", stored(tmp_path, GFP, MAMP))
    assert outcome.code == 0
    assert "'exchange' is deprecated" in outcome.err
    assert (tmp_path / "ranking.md").exists()
