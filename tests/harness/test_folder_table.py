"""The tables of a whole folder: what shares one, what stands beside it, and in which order,
from records alone.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.records.schema import RunRecord, SpeedRecord
from harness.records.store import read_records, write_atomically
from harness.report.folder import FolderTable, Typed, folder_page, folder_tables
from harness.report.repeat import words_of
from harness.spec.model import (
    SECTIONS,
    DataSpec,
    MethodSpec,
    ProbeSpec,
    RunSpec,
    Section,
    TrainSpec,
)
from tests.harness.made_up_records import ENVIRONMENT, TIME, arm, ratio, run_record, speed_record
from tests.harness.made_up_records import folder_of as folder
from tests.harness.small_run import harness

ARMS = (
    arm("skeletonmae", ratio(1, 1, 1)),
    arm("gfp", ratio(2, 2.2, 2.4)),
    arm("encoder-only", ratio(4, 4.5, 5), control=True),
)
ELSEWHERE = ENVIRONMENT.model_copy(update={"processor": "Abacus 4000"})


def under(record: RunRecord, **changes: Any) -> RunRecord:
    """The same run with other settings: of a section by its name, or the seed or method."""
    spec = record.spec.model_copy(update=changes)
    return record.model_copy(update={"spec": spec, "address": spec.address})


def trained(name: str, linear: float = 0.8, *, seed: int = 0, **train: Any) -> RunRecord:
    record = run_record(name, linear, seed=seed)
    return under(record, train=record.spec.train.model_copy(update=train))


def control(name: str, linear: float = 0.5, seed: int = 0, **changes: Any) -> RunRecord:
    """As a run matrix makes them: under settings that do not depend on the budget,
    raw coordinates on seed 0 alone.
    """
    return under(
        run_record(name, linear, seed=seed), train=TrainSpec(), probe=ProbeSpec(points=1), **changes
    )


def speed(*arms: Any, **changes: Any) -> SpeedRecord:
    return speed_record(*(arms or ARMS)).model_copy(update=changes)


def tables(where: Path, *records: RunRecord | SpeedRecord) -> list[FolderTable]:
    return folder_tables(read_records(folder(where, *records)))


def only(where: Path, *records: RunRecord | SpeedRecord) -> FolderTable:
    (found,) = tables(where, *records)
    return found


def rows(table: FolderTable) -> list[str]:
    return list(table.table["method"])


# --- what shares a table ---


def test_runs_of_one_setting_their_controls_and_their_speed_are_one_table(tmp_path: Path) -> None:
    table = only(
        tmp_path,
        trained("gfp"),
        trained("skeletonmae"),
        control("random-init"),
        control("raw-pca"),
        speed(),
    )
    assert rows(table) == [
        "skeletonmae",
        "gfp",
        "random-init",
        "raw-pca",
        "encoder-only",
    ]  # as the speed was asked for
    assert table.table.set_index("method").loc["gfp", "speedup [95 %]"] == "2.20x [2.00, 2.40]"


def test_runs_under_two_budgets_are_two_tables_with_the_same_controls(tmp_path: Path) -> None:
    runs = [
        trained(name, budget=budget)
        for name in ("gfp", "skeletonmae")
        for budget in ("100steps", "20steps")
    ]
    found = tables(tmp_path, *runs, control("random-init"), control("raw-pca"), speed())
    assert [table.heading for table in found] == ["train.budget 20steps", "train.budget 100steps"]
    assert {tuple(rows(table)) for table in found} == {
        ("skeletonmae", "gfp", "random-init", "raw-pca", "encoder-only")
    }


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({"train": TrainSpec(budget="60s", lr=0.5)}, "train.lr 0.5"),
        ({"probe": ProbeSpec(every="100clips")}, "probe.every 100clips"),
        ({"data": DataSpec(split="xview")}, "data.split xview"),
        ({"device": "cuda"}, "device cuda"),
    ],
)
def test_a_heading_names_what_differs(
    changes: dict[str, Any], heading: str, tmp_path: Path
) -> None:
    found = tables(tmp_path, trained("gfp"), under(trained("gfp"), **changes))
    assert heading in [table.heading for table in found]
    assert len(found) == 2


def test_data_is_told_by_what_it_holds_not_by_its_name(tmp_path: Path) -> None:
    def on(name: str, fingerprint: str, seed: int = 0) -> RunRecord:
        record = under(trained("gfp", seed=seed), data=DataSpec(name=name, fingerprint=fingerprint))
        return record.model_copy(
            update={
                "data": record.data.model_copy(update={"name": name, "fingerprint": fingerprint})
            }
        )

    found = tables(
        tmp_path,
        on("here.npz", "a" * 16),
        on("there.npz", "a" * 16, seed=1),
        on("other.npz", "b" * 16),
    )
    assert [table.heading for table in found] == [
        f"data here.npz ({'a' * 16})",
        f"data other.npz ({'b' * 16})",
    ]
    assert [len(table.runs) for table in found] == [2, 1]


def test_the_order_of_tables_does_not_depend_on_when_records_came(tmp_path: Path) -> None:
    runs = [trained("gfp", budget=f"{number}steps") for number in (9, 100, 20)]
    first = [table.heading for table in tables(tmp_path / "a", *runs)]
    assert first == [table.heading for table in tables(tmp_path / "b", *reversed(runs))]
    assert first == [f"train.budget {number}steps" for number in (9, 20, 100)]


def test_controls_of_other_seeds_stay_out_of_a_table_unless_they_wait_for_their_runs(
    tmp_path: Path,
) -> None:
    runs = [trained("gfp", budget="9steps", seed=seed) for seed in (0, 1)] + [
        trained("gfp", budget="20steps")
    ]
    controls = [control("random-init", seed=seed) for seed in (0, 1, 2)]
    found = tables(tmp_path, *runs, *controls)
    seeds = [[run.spec.seed for run in table.runs if run.label == "random-init"] for table in found]
    assert seeds == [[0, 1, 2], [0, 2]]


def test_controls_without_a_run_are_a_table(tmp_path: Path) -> None:
    table = only(tmp_path, control("random-init"), control("raw-pca"))
    assert (table.kind, rows(table)) == ("controls alone", ["random-init", "raw-pca"])
    assert "budget" not in "".join(table.lines()).partition("departs")[0]


def test_controls_of_other_data_are_a_table_of_their_own_after_the_runs(tmp_path: Path) -> None:
    found = tables(tmp_path, trained("gfp"), control("raw-pca", data=DataSpec(split="xview")))
    assert [table.kind for table in found] == ["runs", "controls alone"]
    assert [table.heading for table in found] == [
        "data.split xsub",
        "controls alone, data.split xview",
    ]


def test_a_run_that_lies_there_under_two_addresses_counts_once(tmp_path: Path) -> None:
    record = trained("gfp", 0.8)
    before = record.model_copy(update={"address": record.spec.addresses[1]})
    for one in (before, record):
        write_atomically(tmp_path / one.address / "record.json", one.model_dump_json().encode())
    assert len(list(tmp_path.glob("*/record.json"))) == 2
    assert [run.address for run in only(tmp_path).runs] == [record.address]


def test_a_default_that_changed_does_not_mix_two_methods_in_one_row(tmp_path: Path) -> None:
    def made(weight: float, linear: float, days: int) -> RunRecord:
        record = run_record("gfp", linear, finished=TIME + timedelta(days=days))
        return under(record, method=MethodSpec(name="gfp", options={"weight": weight, "tau": 0.8}))

    methods = ["gfp:weight=1,tau=0.8"]
    measured = speed_record(ARMS[1])
    measured = measured.model_copy(update={"spec": {**measured.spec, "methods": methods}})
    table = only(tmp_path, made(5, 0.6, days=0), made(1, 0.8, days=1), measured)
    assert rows(table) == ["gfp", "gfp:weight=5"]
    assert [cell.partition(" ")[0] for cell in table.wide["linear"]] == ["80.0", "60.0"]
    assert list(table.table["speedup [95 %]"]) == ["2.20x [2.00, 2.40]", "-"]


# --- the speed beside them ---


def test_the_speed_of_the_runs_machine_is_taken_before_a_newer_one(tmp_path: Path) -> None:
    later = {"finished": TIME + timedelta(days=1), "address": "speed-1"}
    table = only(tmp_path, trained("gfp"), speed(), speed(environment=ELSEWHERE, **later))
    assert table.speed is not None
    assert table.speed.address == "speed-0"


def test_the_speed_of_another_machine_is_better_than_none_and_said(tmp_path: Path) -> None:
    table = only(tmp_path, trained("gfp"), speed(environment=ELSEWHERE))
    assert table.speed is not None
    assert "trained on another machine or with other versions: gfp, seed 0" in table.lines()


def test_a_measurement_with_all_rows_is_taken_before_a_newer_one_with_some(tmp_path: Path) -> None:
    later = speed(ARMS[0], address="speed-1", finished=TIME + timedelta(days=1))
    table = only(tmp_path, trained("gfp"), trained("skeletonmae"), speed(), later)
    assert table.speed is not None
    assert table.speed.address == "speed-0"


def test_rows_that_no_measurement_has_are_named(tmp_path: Path) -> None:
    lines = only(tmp_path, trained("gfp"), trained("mamp"), speed()).lines()
    assert [line for line in lines if line.startswith("not in this speed measurement: mamp; ")]


def test_rows_that_another_measurement_has_are_said_with_what_it_says(tmp_path: Path) -> None:
    newer = speed(ARMS[0], ARMS[2], arm("mamp", ratio(1.2, 1.3, 1.4)))
    newer = newer.model_copy(update={"address": "speed-1", "finished": TIME + timedelta(days=1)})
    lines = only(tmp_path, trained("gfp"), trained("mamp"), speed(), newer).lines()
    assert [line for line in lines if line.startswith("not in this speed measurement: gfp; ")]
    assert (
        "measured apart from these rows: gfp 2.20x [2.00, 2.40] over skeletonmae (speed-0)" in lines
    )


def test_speed_under_other_settings_is_not_beside_the_runs(tmp_path: Path) -> None:
    other = speed_record(*ARMS)
    other = other.model_copy(
        update={"spec": {**other.spec, "train": {**other.spec["train"], "batch_size": 7}}}
    )
    runs, alone = tables(tmp_path, trained("gfp"), other)
    assert (runs.speed, runs.heading) == (None, "train.batch_size 64")
    assert (alone.heading, rows(alone)) == (
        "speed alone, train.batch_size 7",
        ["skeletonmae", "gfp", "encoder-only"],
    )
    assert (
        "speed: not measured under these settings; the `run` command of these rows measures it"
        in runs.lines()
    )


def test_measurements_of_stages_are_no_table_of_a_folder(tmp_path: Path) -> None:
    waterfall = speed_record(*ARMS)
    waterfall = waterfall.model_copy(update={"spec": {**waterfall.spec, "stages": ["one", "two"]}})
    assert tables(tmp_path, waterfall) == []


def test_a_measurement_from_before_a_setting_existed_fits_the_default(tmp_path: Path) -> None:
    early = speed_record(*ARMS)
    train = {key: value for key, value in early.spec["train"].items() if key != "cuda_graphs"}
    assert only(
        tmp_path, trained("gfp"), early.model_copy(update={"spec": {**early.spec, "train": train}})
    ).speed


def test_a_measurement_that_does_not_say_what_it_measured_is_refused(tmp_path: Path) -> None:
    found = read_records(
        folder(tmp_path, speed_record(*ARMS).model_copy(update={"spec": {"train": 7}}))
    )
    assert (found.speeds, len(found.refused)) == ([], 1)


# --- notes that a command adds, and that follow from the records without it ---


def in_seconds(name: str, seed: int = 0, **train: Any) -> RunRecord:
    return trained(name, seed=seed, budget="30s", **train)


def repeats(lines: list[str]) -> list[str]:
    return [line.partition("): ")[2] for line in lines if line.startswith("the same steps again")]


def test_the_command_of_a_folder_nobody_typed_follows_from_its_records(tmp_path: Path) -> None:
    lines = only(tmp_path, in_seconds("gfp"), in_seconds("gfp", seed=1)).lines()
    assert repeats(lines) == [
        "python -m harness run --split xsub --set train.lr=0.002 --set train.final_lr=0.5 --set"
        " probe.points=3 --methods gfp --seeds 0,1 --budget 100steps"
    ]


def test_rows_of_the_command_have_it_as_typed_and_those_of_other_settings_do_not(
    tmp_path: Path,
) -> None:
    mine, other = in_seconds("gfp"), in_seconds("gfp", lr=0.5)
    found = tables(tmp_path, mine, in_seconds("mamp"), other)
    typed = Typed(["run", "--out", "x"], {"gfp": "gfp:tau=0.80"}, mine.spec.held_equal)
    commands = {table.heading: repeats(table.lines(typed)) for table in found}
    assert [line.partition("harness ")[2] for line in commands["train.lr 0.002"]] == [
        "run --out x --methods gfp:tau=0.80 --seeds 0 --budget 100steps",
        (
            "run --split xsub --set train.lr=0.002 --set train.final_lr=0.5 --set probe.points=3"
            " --methods mamp --seeds 0 --budget 100steps"
        ),
    ]
    assert "train.lr=0.5" in commands["train.lr 0.5"][0]


OTHERWISE: dict[str, dict[str, Any]] = {
    "encoder": {"size": "base", "depth": 3},
    "data": {
        "name": "a b.npz",
        "split": "view:1,2->3",
        "label": "label,correct",
        "crop": (0.1, 0.2),
        "validation": 0,
    },
    "train": {
        "batch_size": 7,
        "lr": 1e-05,
        "precision": "bf16",
        "clip_gradient": 0.5,
        "compile": True,
    },
    "probe": {"every": "1000clips", "regularisation": (0.1, 1.0)},
}


def test_words_that_follow_from_a_record_ask_for_its_settings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sections: dict[str, Section] = {
        name: model(**OTHERWISE[name]) for name, model in SECTIONS.items()
    }
    spec = RunSpec(method=MethodSpec(name="gfp"), device="cuda", **sections)  # type: ignore[arg-type]
    run, *words = shlex.split(shlex.join(words_of(spec)))
    assert run == "run"
    outcome = harness("show-config", *words, "--budget", spec.train.budget, "--json")
    assert outcome.code == 0, outcome.err
    asked = json.loads(outcome.out)
    assert asked["device"] == "cuda"
    assert {name: asked[name] for name in SECTIONS} == {
        name: section.model_dump(mode="json") for name, section in sections.items()
    }


def test_rows_that_other_versions_made_are_named_without_loading_a_method(tmp_path: Path) -> None:
    record = trained("gfp")
    before = record.model_copy(
        update={"method": record.method.model_copy(update={"versions": {"gfp": "0", "mine": "0"}})}
    )
    last = only(tmp_path, before).lines()[-1]
    assert last.startswith("note: gfp, seed 0: gfp 0 -> ")
    assert "mine" not in last  # a plugin: nothing is known of it
    typed = Typed(own={"gfp": {"mine": "3"}})
    assert "mine 0 -> 3" in only(tmp_path).lines(typed)[-1]


# --- the page and the command ---


def test_a_page_of_one_setting_has_no_heading(tmp_path: Path) -> None:
    found = tables(tmp_path, trained("gfp"), trained("skeletonmae"), speed())
    lines = folder_page(found, [], "the command").splitlines()
    assert lines[:3] == ["    the command", "", "| " + " | ".join(found[0].table.columns) + " |"]
    assert "## " not in "\n".join(lines)


def test_a_page_of_several_settings_has_the_command_once_and_a_heading_each(tmp_path: Path) -> None:
    found = tables(tmp_path, trained("gfp"), trained("gfp", budget="9steps"))
    lines = folder_page(found, ["a refused record"], "the command").splitlines()
    assert lines[:3] == ["    the command", "", "## train.budget 9steps"]
    assert lines.count("    the command") == 1
    assert [line for line in lines if line.startswith("## ")] == [
        f"## {table.heading}" for table in found
    ]
    assert lines[-1] == "- left out: 1 record that cannot be used; `verify` names them"


def test_the_command_prints_every_table_of_a_folder(tmp_path: Path) -> None:
    outcome = harness(
        "table", folder(tmp_path, trained("gfp"), trained("gfp", budget="9steps"), speed())
    )
    assert (outcome.code, outcome.err) == (0, "")
    firsts = [line.split()[0] for line in outcome.out.splitlines() if line]
    assert firsts.count("method") == 2
    assert outcome.out.startswith("train.budget 9steps\n")
    assert not (tmp_path / "table.md").exists()


def test_the_command_prints_cells_and_numbers_as_json(tmp_path: Path) -> None:
    outcome = harness(
        "table", folder(tmp_path, trained("gfp", 0.8), control("random-init"), speed()), "--json"
    )
    (table,) = json.loads(outcome.out)["tables"]
    row = next(row for row in table["rows"] if row["cells"]["method"] == "gfp")
    assert row["cells"]["linear"] == "80.0 [75.8, 83.6 clips]"
    assert (row["runs"][0]["linear"], row["speedup"]["value"]) == (0.8, 2.2)


def test_a_folder_without_a_record_is_an_error_in_one_line(tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "none"):
        outcome = harness("table", where)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)


def test_records_of_a_newer_suite_are_one_line_and_the_others_a_table(tmp_path: Path) -> None:
    where = folder(tmp_path, *(trained("gfp", seed=seed) for seed in range(3)))
    for path in where.glob("gfp-s[12]-*/record.json"):
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"schema_version": 99, "more": 1})
        )
    outcome = harness("table", where)
    assert outcome.code == 0
    newer = [
        line for line in outcome.err.splitlines() if "newer version of the suite (schema 99" in line
    ]
    assert len(newer) == 1
    assert "record.json and 1 more: written by a newer version" in newer[0]


def test_the_command_loads_no_torch(tmp_path: Path) -> None:
    where = folder(tmp_path, trained("gfp"), speed())
    script = (
        "import sys; from harness.__main__ import main\nsys.argv = ['harness', 'table',"
        f" {str(where)!r}]\ntry:\n    main()\nfinally:\n    print(sorted({{'torch', 'sklearn',"
        " 'timm'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
