"""A record that is refused is named, passed over and counted by every command
that reads a folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.records.store import RecordStore
from tests.harness.made_up_records import curve_record, edit, run_record, stage_arm, stage_record
from tests.harness.small_run import harness

LABELS = ("gfp", "mamp")
COMMANDS = ("trends", "ranking", "target")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two methods on two seeds with their speed, and one more run, of seed 9,
    for a test to spoil.
    """
    store = RecordStore(tmp_path / "out")
    for label in LABELS:
        for seed in (0, 1):
            store.write_run(curve_record(label, 0.4, 0.6, seed=seed))
    store.write_run(curve_record("gfp", 0.9, 0.9, seed=9))
    store.write_speed(stage_record(*(stage_arm(label, 0.1) for label in LABELS), stages=[]))
    return store.root


def of_seed_9(folder: Path) -> Path:
    (found,) = folder.glob("gfp-s9-*/record.json")
    return found


def cut(folder: Path) -> Path:
    path = of_seed_9(folder)
    path.write_bytes(path.read_bytes()[:100])
    return path


def nulled(folder: Path) -> Path:
    """What versions of before wrote for a NaN."""
    edit(of_seed_9(folder), lambda content: content["curve"][0].update(diagnosis={"spread": None}))
    return of_seed_9(folder)


def impossible(folder: Path) -> Path:
    edit(of_seed_9(folder), lambda content: content["accuracy"].update(linear_test=7.5))
    return of_seed_9(folder)


def newer(folder: Path) -> Path:
    edit(of_seed_9(folder), lambda content: content.update(schema_version=99, surprise=1))
    return of_seed_9(folder)


def misplaced(folder: Path) -> Path:
    """Another run's record."""
    path = of_seed_9(folder)
    shutil.copy(next(folder.glob("mamp-s0-*/record.json")), path)
    return path


SPOILT = {
    cut: "cannot be read (",
    nulled: "cannot be read (curve.0.diagnosis.spread: ",
    impossible: "cannot be read (accuracy.linear_test: ",
    newer: "written by a newer version of the suite (schema 99",
    misplaced: "is the record of mamp-s0-",
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_table_goes_on_without_it_and_says_so(
    folder: Path, tmp_path: Path, command: str, spoil: Callable[[Path], Path]
) -> None:
    without = shutil.copytree(folder, tmp_path / "without")
    of_seed_9(without).unlink()
    path = spoil(folder)
    found, expected = harness(command, folder), harness(command, without)
    assert (found.code, expected.code, expected.err) == (0, 0, "")
    assert found.out.replace(str(folder), "") == expected.out.replace(str(without), "")
    line, count = found.err.splitlines()
    assert line.startswith(f"record {path}: {SPOILT[spoil]}")
    assert count.startswith(f"1 record of {folder} passed over")


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_the_list_of_runs_goes_on_without_it_and_says_so(
    folder: Path, spoil: Callable[[Path], Path]
) -> None:
    path = spoil(folder)
    found = harness("ls", "runs", "--out", folder, "--json")
    assert found.code == 0
    rows = json.loads(found.out)
    assert sorted((row["method"], row["seed"]) for row in rows) == [
        (label, seed) for label in LABELS for seed in (0, 1)
    ]
    assert all(row["linear"] == 0.6 for row in rows)
    line, count = found.err.splitlines()
    assert line.startswith(f"record {path}: {SPOILT[spoil]}")
    assert count.startswith(f"1 record of {folder} passed over")


def test_several_are_each_named_and_counted(folder: Path) -> None:
    cut(folder)
    (speed,) = folder.glob("*/speed.json")
    other = folder / "speed-other" / "speed.json"
    other.parent.mkdir()
    shutil.copy(speed, other)
    found = harness("target", folder)
    assert found.code == 0
    assert len(found.err.splitlines()) == 3
    assert f"2 records of {folder} passed over" in found.err
    assert f"record {other}: is the record of {speed.parent.name}; " in found.err


def test_a_folder_of_which_nothing_can_be_used_says_both(tmp_path: Path) -> None:
    record = run_record()
    path = tmp_path / record.address / "record.json"
    path.parent.mkdir()
    path.write_text("{")
    found = harness("ls", "runs", "--out", tmp_path)
    assert (found.code, found.out) == (0, f"no runs in {tmp_path}\n")
    assert f"1 record of {tmp_path} passed over" in found.err
