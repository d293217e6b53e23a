"""NTU RGB+D from ``.skeleton`` files: what is found and set aside, what a clip becomes,
and the three routes.
"""

from __future__ import annotations

import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.raw.base import BrokenFile, RawClip, Source
from datasets.raw.ntu import chain as ntu_chain
from datasets.raw.ntu.ctrgcn import Ntu60Npz, Ntu120Npz
from datasets.raw.ntu.facts import ACTIONS_60, ACTIONS_120, NOBODY, name_columns
from datasets.raw.ntu.pyskl import Ntu60Pyskl, Ntu120Pyskl
from datasets.raw.ntu.tree import Ntu60, Ntu120, open_ntu60, open_ntu120
from tests.datasets.raw.made_up_ntu import (
    BODY_ID,
    Recorded,
    clip_name,
    person,
    read_line_by_line,
    write_skeleton,
    write_tree,
)

STEM = "S001C002P003R002A013"


def one(path: Path, frames: int = 2) -> Path:
    """A file of one person."""
    return write_skeleton(path, Recorded(BODY_ID, 0, person(frames)))


def clips_of(source: Source) -> list[RawClip]:
    return [clip for unit in source.find().units for clip in source.read(unit).clips]


# --- facts ---


def test_classes_splits_and_counts() -> None:
    assert (len(ACTIONS_60), len(set(ACTIONS_60))) == (60, 60)
    assert (len(ACTIONS_120), len(set(ACTIONS_120))) == (120, 120)
    assert [ACTIONS_120[action - 1] for action in (1, 13, 43, 50, 60, 61, 99, 106, 112, 120)] == [
        "drink water",
        "tear up paper",
        "falling",
        "punching/slapping other person",
        "walking apart from each other",
        "put on headphone",
        "running on the spot",
        "hit other person with something",
        "high-five",
        "finger-guessing game (playing rock-paper-scissors)",
    ]
    for edition, total in ((Ntu60, 56_578), (Ntu120, 113_945)):
        assert set(edition.splits) == set(edition.expected)
        assert {sum(counts) for counts in edition.expected.values()} == {total}
    training = [
        edition.splits["xsub"].removeprefix("subject:").removesuffix("->*")
        for edition in (Ntu60, Ntu120)
    ]
    assert [len(text.split(",")) for text in training] == [20, 53]
    assert training[1].startswith(training[0])
    assert Ntu120.splits["xset"] == "setup:2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32->*"


def test_columns_of_a_name() -> None:
    assert name_columns(STEM) == {
        "label": 12,
        "subject": 3,
        "view": 2,
        "setup": 1,
        "replication": 2,
    }
    for wrong in (
        "S001C002P003R002A000",
        "S001C002P003R002A13",
        STEM + "x",
        "._" + STEM,
        STEM.lower(),
    ):
        assert name_columns(wrong) is None


def test_made_up_names_are_all_different() -> None:
    assert len({clip_name(number) for number in range(10_000)}) == 10_000


# --- finding ---


def test_files_at_any_depth_by_stem(tmp_path: Path) -> None:
    one(tmp_path / "z" / "S001C001P001R001A001.skeleton")
    one(tmp_path / "a" / "b" / "S002C001P001R001A001.skeleton")
    one(tmp_path / "S001C001P001R001A002.skeleton")
    found = Ntu60(tmp_path).find()
    assert [unit.name for unit in found.units] == [
        f"S00{s}C001P001R001A00{a}" for s, a in ((1, 1), (1, 2), (2, 1))
    ]
    assert dict(found.counts) == {"found": 3, "on the missing list (none is there)": 0}


@pytest.mark.parametrize("beside", [False, True])
def test_clips_on_a_missing_list_are_left_out(tmp_path: Path, beside: bool) -> None:
    raw = tmp_path / "raw"
    for action in (1, 2, 3):
        one(raw / "deep" / f"S001C001P001R001A00{action}.skeleton")
    place = tmp_path if beside else raw
    (place / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text(
        "302 samples, see A004"
        " etc.\nS001C001P001R001A002\r\nS001C001P001R001A003.skeleton\nS009C009P009R009A009\n"
    )
    found = Ntu60(raw).find()
    assert [unit.name for unit in found.units] == ["S001C001P001R001A001"]
    assert dict(found.counts) == {
        "found": 3,
        "on the missing list (NTU_RGBD_samples_with_missing_skeletons.txt)": 2,
    }


@pytest.mark.parametrize("name", ["ntu_rgb120_missings.txt", "statistics/Missing skeletons.TXT"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_missing_lists_of_forks_are_used(name: str, encoding: str, tmp_path: Path) -> None:
    one(tmp_path / "S001C001P001R001A001.skeleton")
    one(tmp_path / "S001C001P001R001A002.skeleton")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("S001C001P001R001A002\n", encoding=encoding)
    found = Ntu60(tmp_path).find()
    assert [unit.name for unit in found.units] == ["S001C001P001R001A001"]
    assert found.counts[f"on the missing list ({Path(name).name})"] == 1


def test_a_missing_list_that_names_no_clip_is_said(tmp_path: Path) -> None:
    one(tmp_path / f"{STEM}.skeleton")
    (tmp_path / "missing.txt").write_text("S1C1P1R1A2\n")
    counts = Ntu60(tmp_path).find().counts
    assert counts["on the missing list (none is there)"] == 0
    assert counts["missing lists that name no clip: missing.txt"] == 1


def test_suffixes_of_any_case_and_byte_order_marks_are_read(tmp_path: Path) -> None:
    path = one(tmp_path / f"{STEM}.SKELETON")
    (plain,) = clips_of(Ntu60(tmp_path))
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_text(
            path.read_text("utf-8-sig" if encoding == "utf-16" else "utf-8"), encoding=encoding
        )
        (clip,) = clips_of(Ntu60(tmp_path))
        np.testing.assert_array_equal(clip.joints, plain.joints)


def test_the_data_of_the_st_gcn_family_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "train_data_joint.npy", np.zeros((1, 3, 4, 25, 2), np.float32))
    (tmp_path / "train_label.pkl").write_bytes(pickle.dumps((["S001C001P001R001A001"], [0])))
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps((["S001C001P001R001A001"], [0])))
    for raw in (
        tmp_path,
        *(tmp_path / name for name in ("train_data_joint.npy", "train_label.pkl", "labels.pkl")),
    ):
        with pytest.raises(
            DataError,
            match=r"found the form of ST-GCN, 2s-AGCN .*, which is not read: name a folder of",
        ):
            open_ntu60(raw).find()


def test_a_file_where_a_folder_is_expected_and_the_reverse(tmp_path: Path) -> None:
    path = one(tmp_path / f"{STEM}.skeleton")
    with pytest.raises(DataError, match="found a file; name its folder"):
        open_ntu60(path)
    with zipfile.ZipFile(tmp_path / "nturgbd.zip", "w") as archive:
        archive.write(path, path.name)
    with pytest.raises(DataError, match="found a zip archive; unpack it and name the folder"):
        open_ntu60(tmp_path / "nturgbd.zip")
    (tmp_path / "NTU60_CS.npz").mkdir()
    np.savez(tmp_path / "NTU60_CS.npz" / "inside.npz", x=np.zeros(1))
    with pytest.raises(
        DataError, match=r"found a folder; name the file in it \(there are inside.npz\)"
    ):
        open_ntu60(tmp_path / "NTU60_CS.npz")


def test_odd_names_and_files_found_twice_are_named_and_counted(tmp_path: Path) -> None:
    first = one(tmp_path / "a" / f"{STEM}.skeleton", 3)
    one(tmp_path / "b" / f"{STEM}.skeleton", 5)
    one(tmp_path / f"._{STEM}.skeleton")
    one(tmp_path / "copy of it.skeleton")
    found = Ntu60(tmp_path).find()
    assert [unit.path for unit in found.units] == [first]
    assert dict(found.counts) == {
        "found": 4,
        "on the missing list (none is there)": 0,
        f"not named SsssCcccPpppRrrrAaaa: ._{STEM}.skeleton, copy of it.skeleton": 2,
        f"found again in another folder: b/{STEM}.skeleton": 1,
    }


def test_files_of_the_other_edition_are_left_out(tmp_path: Path) -> None:
    for stem in (STEM, "S018C001P001R001A001", "S001C001P001R001A061", "S033C001P001R001A001"):
        one(tmp_path / f"{stem}.skeleton")
    assert [unit.name for unit in Ntu60(tmp_path).find().units] == [STEM]
    found = Ntu120(tmp_path).find()
    assert [unit.name for unit in found.units] == [
        "S001C001P001R001A061",
        STEM,
        "S018C001P001R001A001",
    ]
    assert (
        found.counts[
            "of a setup or action that this edition has not: S033C001P001R001A001.skeleton"
        ]
        == 1
    )


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"expected a folder with files SsssCcccPpppRrrrAaaa.skeleton .* no .skeleton",
    ):
        Ntu60(tmp_path).find()
    (tmp_path / "NTU60_CS.npz").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"no \.skeleton file, but NTU60_CS\.npz: unpack or name it"
    ):
        Ntu60(tmp_path).find()
    one(tmp_path / "odd.skeleton")
    with pytest.raises(
        DataError, match=r"found 1 \.skeleton files, none to use \(found; .*: odd\.skeleton\)"
    ):
        Ntu60(tmp_path).find()
    with pytest.raises(DataError, match="found nothing there; check the path"):
        Ntu60(tmp_path / "missing")


# --- reading ---


def test_a_clip(tmp_path: Path) -> None:
    path = one(tmp_path / f"{STEM}.skeleton", 7)
    source = Ntu60(tmp_path)
    [unit] = source.find().units
    [clip] = source.read(unit).clips
    assert dict(clip.columns) == {
        "label": 12,
        "subject": 3,
        "view": 2,
        "setup": 1,
        "replication": 2,
        "names": STEM,
    }
    stored = np.array([frame[0]["joints"] for frame in read_line_by_line(path)])
    np.testing.assert_array_equal(clip.joints[:, 0], stored - stored[0, 1])
    assert clip.joints.shape == (7, 2, 25, 3)
    assert not clip.joints[:, 1].any()


def test_a_broken_file_and_clips_without_a_body(tmp_path: Path) -> None:
    broken = one(tmp_path / "S001C001P001R001A001.skeleton")
    broken.write_bytes(broken.read_bytes()[:-200])
    write_skeleton(tmp_path / "S001C001P001R001A002.skeleton", frames=3)
    short = [Recorded(BODY_ID + number, 0, person(5, number)) for number in range(2)]
    write_skeleton(tmp_path / "S001C001P001R001A003.skeleton", *short)
    source = Ntu60(tmp_path)
    first, second, third = source.find().units
    with pytest.raises(BrokenFile, match=r"A001\.skeleton, line \d+: expected"):
        source.read(first)
    empty, dropped = source.read(second), source.read(third)
    assert (empty.clips, dropped.clips) == ([], [])
    assert empty.problems == [f"{second.path}: no body in any frame"]
    assert empty.counts == {ntu_chain.SKIPPED: 3, NOBODY: 1}
    assert dropped.problems == [f"{third.path}: no body left of 2"]
    assert dropped.counts == {ntu_chain.SHORT: 2, ntu_chain.REMOVED: 5, NOBODY: 1}


def test_a_single_body_is_not_copied_in_either_edition(tmp_path: Path) -> None:
    one(tmp_path / f"{STEM}.skeleton")
    for edition in (Ntu60, Ntu120):
        [clip] = clips_of(edition(tmp_path))
        assert clip.joints[:, 0].any()
        assert not clip.joints[:, 1].any()


def test_made_up_scenes_take_every_stage(tmp_path: Path) -> None:
    write_tree(tmp_path, 16)
    source = Ntu60(tmp_path)
    readings = [source.read(unit) for unit in source.find().units]
    assert [len(reading.clips) for reading in readings] == [1] * 16
    assert not any(reading.problems for reading in readings)
    total = sum((reading.counts for reading in readings), readings[0].counts - readings[0].counts)
    assert total == {ntu_chain.SKIPPED: 2, ntu_chain.SHORT: 4, ntu_chain.WIDE: 2}
    assert sum(bool(reading.clips[0].joints[:, 1].any()) for reading in readings) == 4


def test_the_same_tree_gives_the_same_clips_wherever_it_lies(tmp_path: Path) -> None:
    write_tree(tmp_path / "a", 8)
    shutil.copytree(tmp_path / "a", tmp_path / "b" / "c")
    for first, second in zip(
        clips_of(Ntu60(tmp_path / "a")), clips_of(Ntu60(tmp_path / "b")), strict=True
    ):
        assert first.columns == second.columns
        np.testing.assert_array_equal(first.joints, second.joints)


# --- routes ---


def test_the_path_chooses_the_route(tmp_path: Path) -> None:
    for name in ("NTU60_CS.npz", "ntu60_3danno.pkl"):
        (tmp_path / name).write_bytes(b"")
    assert type(open_ntu60(tmp_path)) is Ntu60
    assert type(open_ntu60(tmp_path / "NTU60_CS.npz")) is Ntu60Npz
    assert type(open_ntu60(tmp_path / "ntu60_3danno.pkl")) is Ntu60Pyskl
    assert type(open_ntu120(tmp_path)) is Ntu120
    assert type(open_ntu120(tmp_path / "NTU60_CS.npz")) is Ntu120Npz
    assert type(open_ntu120(tmp_path / "ntu60_3danno.pkl")) is Ntu120Pyskl
    with pytest.raises(DataError, match="found nothing there"):
        open_ntu60(tmp_path / "missing.npz")


def test_sources_and_units_can_be_pickled(tmp_path: Path) -> None:
    one(tmp_path / f"{STEM}.skeleton")
    source = Ntu60(tmp_path)
    again, [unit] = pickle.loads(pickle.dumps((source, source.find().units)))
    np.testing.assert_array_equal(again.read(unit).clips[0].joints, clips_of(source)[0].joints)
