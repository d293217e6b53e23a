"""Pictures that a run leaves beside its record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.pictures import kept
from harness.records.pictures import LARGEST, RunPictures, read_pictures
from harness.records.store import PICTURES_FILE, RecordStore, Refused, read_records
from harness.studies.verify import verify
from tests.harness.made_up_records import edit
from tests.harness.small_run import SMALL, harness, small_file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a method that reconstructs coordinates and of one that does not."""
    path = tmp_path_factory.mktemp("pictured")
    data = small_file(path)
    result = harness(
        "run", "--methods", "skeletonmae,gfp", "--dataset", data, "--out", path / "runs", *SMALL
    )
    assert result.code == 0, result.err
    return path / "runs"


def pictures_of(folder: Path) -> dict[str, RunPictures]:
    found = {
        run.label: read_pictures(RecordStore(folder), run.address)
        for run in read_records(folder).runs
    }
    return {label.partition(":")[0]: made for label, made in found.items() if made}


def test_every_trained_run_leaves_clips_as_its_method_saw_them(folder: Path) -> None:
    found = pictures_of(folder)
    assert set(found) == {"skeletonmae", "gfp"}
    for made in found.values():
        assert len(made.clips) == 2
        for clip in made.clips:
            assert len(clip.original) == len(clip.visible) == len(clip.seconds) == 6
            seen = [joint for moment in clip.visible for body in moment for joint in body]
            assert 0 < sum(seen) < len(seen)
    assert found["gfp"].clips[0].reconstruction is None


def test_joints_that_were_seen_are_where_they_were_and_the_others_are_as_predicted(
    folder: Path,
) -> None:
    clip = pictures_of(folder)["skeletonmae"].clips[0]
    assert clip.reconstruction is not None
    moved = 0
    for moment, seen in enumerate(clip.visible):
        for joint, visible in enumerate(seen[0]):
            same = clip.original[moment][0][joint] == clip.reconstruction[moment][0][joint]
            assert same or not visible
            moved += not same
    assert moved > 0


def test_the_file_says_whose_data_it_shows_and_is_small(folder: Path) -> None:
    made = pictures_of(folder)["gfp"]
    assert not made.free  # nobody knows the licence of a file of one's own
    assert (made.licence, made.data.endswith("small.npz")) == ("", True)
    assert all(path.stat().st_size < LARGEST for path in folder.glob(f"*/{PICTURES_FILE}"))


@pytest.mark.parametrize(
    ("name", "free"), [("synthetic", True), ("uiprmd", True), ("ntu60", False), ("x.npz", False)]
)
def test_only_what_is_made_here_or_public_domain_may_be_passed_on(name: str, free: bool) -> None:
    licence = kept.licence_of(name)
    assert (licence == kept.MADE_HERE or kept.PUBLIC_DOMAIN in licence) == free


def test_results_are_the_same_with_and_without(folder: Path, tmp_path: Path) -> None:
    data = folder.parent / "small.npz"
    without = tmp_path / "runs"
    arguments = ("--methods", "skeletonmae,gfp", "--dataset", data, "--out", without, *SMALL)
    assert harness("run", *arguments, "--no-pictures").code == 0
    assert not list(without.glob(f"*/{PICTURES_FILE}"))
    one, other = (
        {run.address: (run.accuracy, run.weights, run.status) for run in read_records(path).runs}
        for path in (folder, without)
    )
    assert one == other


def test_a_picture_that_fails_is_said_and_harms_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise ValueError("out of ink")

    monkeypatch.setattr(kept, "run_pictures", broken)
    arguments = (
        "--methods",
        "gfp",
        "--dataset",
        folder.parent / "small.npz",
        "--out",
        tmp_path / "runs",
        *SMALL,
    )
    result = harness("run", *arguments)
    assert result.code == 0
    assert "gfp, seed 0: no pictures (ValueError: out of ink" in result.err
    assert [run.status for run in read_records(tmp_path / "runs").runs] == ["ok"] * 3


def test_verify_knows_the_file_and_merge_takes_it_along(folder: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined"
    assert harness("merge", folder, "--out", joined).code == 0
    assert pictures_of(joined) == pictures_of(folder)
    (check,) = (one for one in verify(joined) if one.name == "pictures")
    assert (check.of, check.differences) == ("2 runs", [])
    path = next(joined.glob(f"*/{PICTURES_FILE}"))
    edit(path, lambda content: content.update(seed=7))
    (check,) = (one for one in verify(joined) if one.name == "pictures")
    assert check.differences == [f"{path.parent.name}: {PICTURES_FILE}: seed 7, its record says 0"]


def test_only_pictures_that_may_be_passed_on_come_onto_a_shelf(
    folder: Path, tmp_path: Path
) -> None:
    runs, shelf = tmp_path / "runs", tmp_path / "shelf"
    shutil.copytree(folder, runs)
    edit(next(runs.glob(f"gfp-*/{PICTURES_FILE}")), lambda content: content.update(free=True))
    assert harness("shelve", runs, "--to", shelf, "--why", "a test").code == 0
    assert set(pictures_of(shelf)) == {"gfp"}
    assert pictures_of(shelf)["gfp"] == pictures_of(runs)["gfp"]
    assert next(check.of for check in verify(shelf) if check.name == "pictures") == "1 run"
    assert harness("merge", shelf, "--out", tmp_path / "joined").code == 0
    assert set(pictures_of(tmp_path / "joined")) == {"gfp"}


def test_what_cannot_be_drawn_is_refused(folder: Path, tmp_path: Path) -> None:
    source = next(folder.glob(f"*/{PICTURES_FILE}"))
    place = tmp_path / source.parent.name
    place.mkdir()
    for change, reason in (
        (lambda content: content["clips"][0]["original"].pop(), "at 6 moments"),
        (lambda content: content["bones"].append([0, 99]), "expected bones between"),
        (lambda content: content.update(run="another"), "is of another"),
    ):
        content = json.loads(source.read_text())
        change(content)
        (place / PICTURES_FILE).write_text(json.dumps(content))
        with pytest.raises(Refused, match=reason):
            read_pictures(RecordStore(tmp_path), place.name)
