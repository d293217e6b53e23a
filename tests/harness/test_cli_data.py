"""``harness data``: from made-up raw downloads over stores to a run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.formats.store import open_store
from datasets.origins import origin
from tests.datasets.raw import made_up_raw
from tests.datasets.raw.made_up_ntu import write_tree
from tests.harness.small_run import (
    ONE_STEP,
    harness,
    records_in,
    small_arrays,
    small_clips,
    small_file,
)

FORMAT_1 = Path(__file__).parents[1] / "datasets" / "store_format_1"
TREES: dict[str, Callable[[Path], object]] = {
    "ntu60": lambda folder: write_tree(folder, 24, seed=0, subjects=4, actions=3),
    "pkummd1": made_up_raw.write_pku,
    "pkummd2": made_up_raw.write_pku2,
    "nwucla": made_up_raw.write_nwucla,
    "utdmhad": made_up_raw.write_utdmhad,
    "uiprmd": made_up_raw.write_uiprmd,
    "bvh": made_up_raw.write_bvh,
}


@pytest.fixture(autouse=True)
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where prepared data sets of this test lie."""
    monkeypatch.setenv("MASKED_SKELETON_DATA", str(tmp_path / "stores"))
    monkeypatch.setenv("MASKED_SKELETON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "stores"


QUICK = ("bvh", "ntu60")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in TREES]
)
def test_a_raw_download_is_prepared_examined_and_run(
    name: str, tmp_path: Path, stores: Path
) -> None:
    raw = tmp_path / "raw"
    TREES[name](raw)
    prepared = harness("data", "prepare", name, "--raw", raw, "--workers", "1")
    assert (prepared.code, prepared.err) == (0, "")
    assert "clips kept" in prepared.out
    assert f"store in {stores / name}" in prepared.out
    clips = open_store(stores / name)
    assert np.isfinite(clips.joints).all()
    assert harness("data", "doctor", name).code == (
        name == "nwucla"
    )  # its twins leak, and that is an error
    ran = harness(*ONE_STEP, "--dataset", name, "--out", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    assert len(records_in(tmp_path / "out")) == 3


def test_a_store_of_format_1_is_prepared_examined_and_kept(stores: Path) -> None:
    shutil.copytree(FORMAT_1 / "store", stores / "bvh")
    found = harness("data", "prepare", "bvh", "--raw", FORMAT_1 / "raw")
    assert (found.code, found.err) == (0, "")
    assert (
        "BVH files with labels: was prepared already\nnote: made by an earlier version of this"
        " suite" in found.out
    )
    examined = harness("data", "doctor", "bvh", "--deep", "--json")
    identity = json.loads(examined.out)["identity"]
    assert identity["stored"] == identity["computed"]
    assert identity["differing"] == []


@pytest.mark.parametrize("command", [("data", "doctor"), (*ONE_STEP, "--dataset")])
def test_a_store_that_changed_is_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store"))
    joints = np.load(folder / "joints.npy")
    np.save(folder / "joints.npy", np.roll(joints, 1, axis=0))
    found = harness(*command, folder, *(["--out", tmp_path / "out"] if command[0] == "run" else []))
    assert found.code == 2
    assert (
        f"{folder}: joints.npy: expected the frames that were written, found others in" in found.err
    )
    assert found.err.count("\n") == 1


def test_the_doctor_counts_what_a_run_refuses(tmp_path: Path) -> None:
    joints = small_clips().joints.copy()
    joints[3, 0, 1, 2] = np.nan
    path = tmp_path / "spoilt.npz"
    np.savez(path, allow_pickle=False, **small_arrays(joints=joints))
    examined = harness("data", "doctor", path)
    assert (examined.code, examined.err) == (1, "")
    assert "NaN" in examined.out
    assert json.loads(harness("data", "doctor", path, "--json").out)["gaps"]["not_finite"] == 1
    assert harness(*ONE_STEP, "--dataset", path, "--out", tmp_path / "out").code == 2


def test_pictures_are_left_where_asked(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    assert "picture in" in harness("data", "doctor", path, "--plot", tmp_path / "clips.png").out
    shown = harness("data", "show", path, "--method", "gfp", "--out", tmp_path / "clip.gif")
    assert (shown.code, shown.err) == (0, "")
    assert (tmp_path / "clips.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "clip.gif").read_bytes().startswith(b"GIF8")


@pytest.mark.parametrize(
    ("command", "flag", "name", "said"),
    [
        ("show", "--out", "clip.foo", "ends in .gif, found .foo; write "),
        ("show", "--out", "clip", "ends in .gif, found no ending; write "),
        ("doctor", "--plot", "clips.gif", "ends in .png, found .gif; write "),
    ],
)
def test_a_picture_of_another_ending_is_refused(
    command: str, flag: str, name: str, said: str, tmp_path: Path
) -> None:
    ended = harness("data", command, small_file(tmp_path), flag, tmp_path / name)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert said in ended.err
    assert not (tmp_path / name).exists()


def test_the_example_of_a_download_is_a_set_that_can_be_downloaded() -> None:
    name = re.search(r"harness data download (\w+)", harness("data", "download", "-h").out)
    assert name is not None
    assert origin(name[1]).download is not None


def test_counts_splits_and_published_numbers_stand_in_the_report(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    paths = write_tree(raw, 24, seed=0, subjects=4, actions=3)
    paths[0].write_text("3\n1\nbroken\n")
    outcome = harness("data", "prepare", "ntu60", "--raw", raw, "--workers", "1")
    lines = outcome.lines
    assert lines[0].endswith(": prepared")
    counts = {
        line.rpartition("  ")[0].strip(): line.split()[-1]
        for line in lines
        if line.startswith("  ")
    }
    assert counts["found"] == "24"
    assert counts["broken files, skipped"] == "1"
    assert any(line.startswith("xsub") and line.endswith("40,091 / 16,487") for line in lines)
    assert any(line.startswith(f"problem: {paths[0]}, line ") for line in lines)
    again = harness("data", "prepare", "ntu60", "--raw", raw)
    assert again.lines[0].endswith(": was prepared already")
    assert again.lines[1:] == lines[1:]


def test_strict_refuses_a_broken_file(tmp_path: Path, stores: Path) -> None:
    raw = tmp_path / "raw"
    write_tree(raw, 6, seed=0)[3].write_text("")
    outcome = harness("data", "prepare", "ntu60", "--raw", raw, "--strict", "--workers", "1")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {raw}")
    assert not (stores / "ntu60").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "ntu61", "--raw", "."), "unknown data set 'ntu61'; did you mean 'ntu60'?"),
        (("prepare", "ntu60", "--raw", "nowhere"), "found nothing there; check the path"),
        (("doctor", "ntu60"), "ntu60 is not prepared here"),
        (("download", "ntu60"), "ntu60 may not be downloaded by a program; the steps are above"),
        (("download", "ntu61"), "unknown data set 'ntu61'; did you mean 'ntu60'?"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    outcome = harness("data", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_data_set_that_is_not_prepared_says_how(tmp_path: Path) -> None:
    outcome = harness(*ONE_STEP, "--dataset", "ntu60", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "python -m harness data prepare ntu60 --raw FOLDER" in outcome.err
    assert "not prepared: harness data prepare ntu60 --raw FOLDER" in harness("ls", "datasets").out
