"""PKU-MMD: intervals become clips; what is left out, cut or doubtful is named and counted;
split files decide.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.raw import open_source
from datasets.raw.base import BrokenFile, Reading
from datasets.raw.pkummd import PkuMmd1, PkuMmd2, read_labels
from datasets.raw.prepare import plan_of
from datasets.splits import make_split
from tests.datasets.raw.made_up_raw import (
    clips_of,
    stored,
    write_frames,
    write_pku,
    write_pku2,
    write_split,
)


def video(folder: Path, labels: str, frames: int = 10, stem: str = "0002-L") -> Path:
    """One video whose frame t has x = t + 1 in all joints of the first body;
    nothing of the second.
    """
    joints = np.zeros((frames, 2, 25, 3))
    joints[:, 0, :, 0] = np.arange(1, frames + 1)[:, None]
    write_frames(folder / "skeleton" / f"{stem}.txt", joints)
    (folder / "label").mkdir(exist_ok=True)
    (folder / "label" / f"{stem}.txt").write_text(labels)
    return folder


def reading(folder: Path) -> Reading:
    source = PkuMmd1(folder)
    return source.read(source.find().units[0])


def broken(folder: Path) -> str:
    with pytest.raises(BrokenFile) as caught:
        reading(folder)
    return str(caught.value).removeprefix(f"{folder}/")


# --- clips ---


def test_a_clip_is_the_frames_from_start_to_before_end(tmp_path: Path) -> None:
    clip, other = reading(video(tmp_path, "51,2,5,2\n1,0,10,1\n")).clips
    assert clip.joints.shape == (3, 2, 25, 3)
    assert clip.joints.dtype == np.float32
    assert clip.joints[:, 0, 7, 0].tolist() == [3, 4, 5]
    assert not clip.joints[:, 1].any()
    assert len(other.joints) == 10


def test_a_line_holds_two_bodies_of_25_joints(tmp_path: Path) -> None:
    video(tmp_path, "1,0,1,1\n")
    (tmp_path / "skeleton" / "0002-L.txt").write_text(
        " ".join(str(number) for number in range(150)) + " \r\n"
    )
    joints = reading(tmp_path).clips[0].joints
    assert joints[0, 0, 0].tolist() == [0, 1, 2]
    assert joints[0, 0, 24].tolist() == [72, 73, 74]
    assert joints[0, 1, 2].tolist() == [81, 82, 83]


def test_columns_come_from_the_label_line_and_the_stem(tmp_path: Path) -> None:
    clips = reading(video(tmp_path, "13,2,5,2\n\n1,0,10,1\n")).clips
    assert clips[1].columns == {
        "label": 0,
        "subject": -1,
        "view": "L",
        "video": 2,
        "confidence": 1,
        "names": "0002-L-002",
        "xsub_side": "none",
        "xview_side": "none",
    }
    assert (clips[0].columns["label"], clips[0].columns["confidence"]) == (12, 2)


def test_overlaps_and_ends_past_the_file_are_kept_cut_and_counted(tmp_path: Path) -> None:
    found = reading(video(tmp_path, "1,0,6,1\n2,5,8,1\n3,7,13,1\n4,8,9,1\n5,-2,2,1\n"))
    assert [len(clip.joints) for clip in found.clips] == [6, 3, 3, 1, 2]
    assert found.clips[2].joints[:, 0, 0, 0].tolist() == [8, 9, 10]
    assert found.counts == {
        "labels": 5,
        "starts before the file, cut": 1,
        "ends past the file, cut": 1,
        # in order of their starts: -2-2, 0-6 (inside), 5-8 (inside 0-6), 7-13 (inside 5-8), 8-9
        # (inside 7-13)
        "clips that overlap an earlier one of their video": 4,
    }
    assert not found.problems


def test_clips_that_touch_do_not_overlap(tmp_path: Path) -> None:
    assert reading(video(tmp_path, "1,5,8,1\n2,0,5,1\n")).counts == {"labels": 2}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("52,0,5,1", "expected a label from 1 to 51, found 52"),
        ("1,5,5,1", "expected an interval of one frame or more, found frames 5 to 5"),
        ("1,7,5,1", "expected an interval of one frame or more, found frames 7 to 5"),
        (
            "1,10,15,1",
            "expected an interval within the 10 frames of the skeleton file, found frames 10 to 15",
        ),
        (
            "1,-9,-5,1",
            "expected an interval within the 10 frames of the skeleton file, found frames -9 to -5",
        ),
    ],
)
def test_an_instance_that_is_no_clip_is_named_with_its_line(
    line: str, problem: str, tmp_path: Path
) -> None:
    found = reading(video(tmp_path, f"1,0,5,1\n{line}\n2,0,5,1\n"))
    assert found.problems == [f"{tmp_path}/label/0002-L.txt, line 2: {problem}"]
    assert [clip.columns["names"] for clip in found.clips] == ["0002-L-001", "0002-L-003"]
    assert (found.counts["labels"], found.counts["labels left out, see the problems"]) == (3, 1)


def test_an_interval_without_a_body_is_left_out(tmp_path: Path) -> None:
    joints = np.zeros((6, 2, 25, 3))
    joints[4, 1, 3, 2] = 1.0
    write_frames(video(tmp_path, "1,0,4,1\n1,0,5,1\n") / "skeleton" / "0002-L.txt", joints)
    found = reading(tmp_path)
    assert found.problems == [
        f"{tmp_path}/label/0002-L.txt, line 1: expected a body, found none in frames 0 to 4"
    ]
    assert len(found.clips) == 1


def test_videos_with_labels_reported_wrong_are_counted_and_kept(tmp_path: Path) -> None:
    found = reading(video(tmp_path, "1,0,5,1\n2,5,9,1\n", stem="0119-R"))
    assert found.counts["clips of videos 0099, 0119, labels reported wrong, kept"] == 2
    assert len(found.clips) == 2


# --- broken files ---


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "3.000000 0.000000 0.000000 3.0",
            "3.000000 0.000000 3.0",
            "line 3: expected 150 numbers, found 149",
        ),
        ("3.000000 0.000000", "3.000000 0.000000 1", "line 3: expected 150 numbers, found 151"),
        ("3.000000", "3.0oo", "line 3: expected a finite number, found '3.0oo'"),
        ("3.000000", "nan", "line 3: expected a finite number, found 'nan'"),
        ("3.000000", "-inf", "line 3: expected a finite number, found '-inf'"),
        ("1.000000", "1e39", "line 1: expected a finite number, found '1e39'"),
        ("\n6.0", "\n\n6.0", "line 6: expected 150 numbers, found 0"),
        ("\n6.0", "\n\x00\x01 \x02\n6.0", "line 6: expected 150 numbers, found 2"),
        ("10.000000 0.000000 0.000000 10.", "10.", "line 10: expected 150 numbers, found 147"),
    ],
)
def test_a_broken_skeleton_file_is_named_with_its_line(
    old: str, new: str, problem: str, tmp_path: Path
) -> None:
    path = video(tmp_path, "1,0,5,1\n") / "skeleton" / "0002-L.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert broken(tmp_path) == f"skeleton/0002-L.txt, {problem}"


def test_an_empty_skeleton_file_is_broken(tmp_path: Path) -> None:
    (video(tmp_path, "1,0,5,1\n") / "skeleton" / "0002-L.txt").write_text("\n \n")
    assert (
        broken(tmp_path) == "skeleton/0002-L.txt, line 1: expected lines of 150 numbers, found none"
    )


def test_bytes_that_are_no_text_are_a_broken_file(tmp_path: Path) -> None:
    (video(tmp_path, "1,0,5,1\n") / "skeleton" / "0002-L.txt").write_bytes(bytes(range(128, 256)))
    assert broken(tmp_path).startswith("skeleton/0002-L.txt, line 1: expected 150 numbers, found 1")


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("1,0,5,1\n1,0,5\n", "line 2: expected label,start,end,confidence, found 3 fields"),
        ("1,0,5,1\n1,0,5,1,1\n", "line 2: expected label,start,end,confidence, found 5 fields"),
        ("1,0,5.5,1\n", "line 1: expected whole numbers, found '5.5'"),
        ("1,0,,1\n", "line 1: expected whole numbers, found ''"),
        (f"1,0,5,{10**12}\n", "line 1: expected whole numbers, found '1000000000000'"),
    ],
)
def test_a_broken_label_file_is_named_with_its_line(
    labels: str, problem: str, tmp_path: Path
) -> None:
    assert broken(video(tmp_path, labels)) == f"label/0002-L.txt, {problem}"


def test_blanks_around_label_numbers_are_fine(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\ufeff 1, 20 ,30,2\r\n\r\n", encoding="utf-8")
    (found,) = read_labels(tmp_path / "labels.txt")
    assert (found.line, found.label, found.start, found.end, found.confidence) == (1, 1, 20, 30, 2)


# --- files ---


def test_files_are_found_by_pattern_anywhere_and_told_apart_by_their_folder(tmp_path: Path) -> None:
    video(tmp_path, "1,0,5,1\n")
    (tmp_path / "skeleton").rename(tmp_path / "some_frames")
    (tmp_path / "label").rename(tmp_path / "my Labels")
    assert len(reading(tmp_path).clips) == 1


def test_files_may_be_named_as_in_the_authors_readme(tmp_path: Path) -> None:
    video(tmp_path, "1,0,5,1\n")
    (tmp_path / "skeleton" / "0002-L.txt").rename(tmp_path / "0002-L.skeleton")
    (tmp_path / "label" / "0002-L.txt").rename(tmp_path / "0002-L.label")
    assert len(reading(tmp_path).clips) == 1


def test_the_official_folder_wins_over_an_older_copy(tmp_path: Path) -> None:
    write_pku(tmp_path)
    write_frames(tmp_path / "Data" / "PKU_Skeleton" / "0001-L.txt", np.ones((3, 2, 25, 3)))
    assert len(clips_of(PkuMmd1(tmp_path))) == 36


def test_two_files_of_one_video_are_an_error(tmp_path: Path) -> None:
    video(tmp_path, "1,0,5,1\n")
    write_frames(tmp_path / "copy" / "0002-L.txt", np.ones((3, 2, 25, 3)))
    with pytest.raises(
        DataError, match=r"expected one skeleton file of 0002-L, found .*copy.* and .*; keep one of"
    ):
        PkuMmd1(tmp_path)


def test_files_without_a_partner_are_counted(tmp_path: Path) -> None:
    video(tmp_path, "1,0,5,1\n")
    video(tmp_path, "1,0,5,1\n", stem="0003-L")
    video(tmp_path, "1,0,5,1\n", stem="0004-L")
    (tmp_path / "label" / "0003-L.txt").unlink()
    (tmp_path / "label" / "0005-R.txt").write_text("1,0,5,1\n")
    found = PkuMmd1(tmp_path).find()
    assert [unit.name for unit in found.units] == ["0002-L", "0004-L"]
    assert found.counts == {
        "skeleton files": 3,
        "label files": 3,
        "skeleton files without a label file": 1,
        "label files without a skeleton file": 1,
        "split files not found: cross-subject": 1,
        "split files not found: cross-view": 1,
    }


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "0002-L.txt").write_text("")
    with pytest.raises(
        DataError,
        match="found 1 skeleton files and 0 label files, none with the same stem; check the",
    ):
        PkuMmd1(tmp_path).find()
    with pytest.raises(DataError, match="found nothing there; check the path"):
        PkuMmd1(tmp_path / "nowhere")


def test_a_preparation_begins_anew_when_a_label_file_has_changed(tmp_path: Path) -> None:
    video(tmp_path, "1,0,5,1\n")
    source = PkuMmd1(tmp_path)
    before = plan_of(source, "pku", source.find())
    assert plan_of(source, "pku", PkuMmd1(tmp_path).find()) == before
    (tmp_path / "label" / "0002-L.txt").write_text("1,0,51,1\n")
    assert plan_of(source, "pku", PkuMmd1(tmp_path).find()) != before


def test_a_preparation_begins_anew_when_a_video_has_changed_sides(tmp_path: Path) -> None:
    write_split(video(tmp_path, "1,0,5,1\n") / "cross-view.txt", ["0002-L"], ["0002-R"])
    before = plan_of(PkuMmd1(tmp_path), "pku", PkuMmd1(tmp_path).find())
    write_split(tmp_path / "cross-view.txt", ["0002-R"], ["0002-L"])
    assert plan_of(PkuMmd1(tmp_path), "pku", PkuMmd1(tmp_path).find()) != before


def test_a_source_can_be_sent_to_another_process(tmp_path: Path) -> None:
    source = PkuMmd1(write_pku(tmp_path))
    unit = source.find().units[3]
    one, other = source.read(unit), pickle.loads(pickle.dumps(source)).read(unit)
    assert all(
        np.array_equal(a.joints, b.joints) for a, b in zip(one.clips, other.clips, strict=True)
    )
    assert [clip.columns for clip in one.clips] == [clip.columns for clip in other.clips]


def test_labels_that_count_from_0_are_refused_whole(tmp_path: Path) -> None:
    source = PkuMmd1(video(video(tmp_path, "50,0,5,1\n"), "7,0,5,1\n0,5,9,1\n", stem="0003-L"))
    with pytest.raises(
        DataError,
        match=r"0003-L.txt, line 2: expected labels from 1 to 51, found 0; they count from 1",
    ):
        source.find()


# --- splits ---


@pytest.mark.parametrize(
    "name", ["pku_cross_subject_v1.txt", "PKU-Cross Subject.TXT", "cross-subject.txt"]
)
def test_a_split_list_is_found_under_the_names_of_forks(name: str, tmp_path: Path) -> None:
    write_split(video(tmp_path, "1,0,5,1\n") / "Split" / name, ["0002-L"], ["0003-L"])
    source = PkuMmd1(tmp_path)
    assert source.splits == {"xsub": "xsub_side:train->test"}
    assert source.assumed == (f"split xsub by {name}",)


def test_the_official_name_of_a_split_list_goes_before_those_of_forks(tmp_path: Path) -> None:
    write_split(video(tmp_path, "1,0,5,1\n") / "cross-view.txt", ["0002-L"], ["0002-R"])
    write_split(tmp_path / "pku_cross_view_old.txt", ["0002-R"], ["0002-L"])
    assert PkuMmd1(tmp_path).sides["xview"] == {"0002-L": "train", "0002-R": "test"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_that_windows_saved_again_are_read(encoding: str, tmp_path: Path) -> None:
    folder = write_split(
        video(tmp_path, "7,0,5,1\n") / "cross-view.txt", ["0002-L"], ["0002-R"]
    ).parent
    for path in [*folder.rglob("*.txt")]:
        path.write_text(path.read_text(), encoding=encoding, newline="\r\n")
    assert reading(folder).clips[0].columns["label"] == 6


def test_the_tree_ends_in_a_store_with_both_splits(tmp_path: Path) -> None:
    clips = stored(PkuMmd1(write_pku(tmp_path / "raw")), tmp_path / "store")
    assert len(clips) == 36
    assert clips.lengths[:3].tolist() == [20, 25, 25]
    assert clips.columns["names"][:4].tolist() == [
        "0001-L-001",
        "0001-L-002",
        "0001-L-003",
        "0001-M-001",
    ]
    assert np.unique(clips.columns["label"]).tolist() == [0, 13, 32]
    assert [clips.class_names[label] for label in (0, 13, 32)] == [
        "bow",
        "handshaking",
        "sitting down",
    ]
    assert clips.splits == {"xsub": "xsub_side:train->test", "xview": "xview_side:train->test"}
    subject, view = make_split(clips, "", validation=0), make_split(clips, "xview", validation=0)
    assert set(clips.columns["video"][subject.train]) == {1, 2}
    assert set(clips.columns["video"][subject.test]) == {3, 4}
    assert set(clips.columns["view"][view.train]) == {"M", "R"}
    assert set(clips.columns["view"][view.test]) == {"L"}


def test_only_split_files_that_are_there_are_offered(tmp_path: Path) -> None:
    write_split(video(tmp_path, "1,0,5,1\n") / "cross-view.txt", ["0002-M"], ["0002-R"])
    source = PkuMmd1(tmp_path)
    assert (source.splits, source.default_split) == ({"xview": "xview_side:train->test"}, "xview")
    assert source.find().counts["videos on neither list of cross-view"] == 1
    assert clips_of(source)[0].columns["xview_side"] == "none"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "line 2: expected the names of the training videos, found ''; copy the file again"),
        (
            "Training\n0002-L, \nValidation\n",
            "line 4: expected the names of the validation videos, found ''",
        ),
        (
            "Training\n0002-L\nValidation\nsomething else\n",
            "line 4: expected .* found 'something else'",
        ),
        (
            "Training\n0002-L, 0003-L\nValidation\n0003-L, ",
            "line 4: expected other names than in line 2, found 0003-L",
        ),
    ],
)
def test_a_file_that_is_no_split_file_is_an_error(text: str, problem: str, tmp_path: Path) -> None:
    (video(tmp_path, "1,0,5,1\n") / "cross-subject.txt").write_text(text)
    with pytest.raises(DataError, match=f"cross-subject.txt, {problem}"):
        PkuMmd1(tmp_path)


def test_two_split_files_for_one_split_are_an_error(tmp_path: Path) -> None:
    write_pku(tmp_path)
    write_split(tmp_path / "old" / "cross_subject.txt", ["0001-L"], ["0002-L"])
    with pytest.raises(
        DataError,
        match=r"expected one cross-subject split file, found .*; keep one of them below this",
    ):
        PkuMmd1(tmp_path)


# --- phase 2 ---


def test_phase_2_has_videos_by_name_and_the_same_classes(tmp_path: Path) -> None:
    source = open_source("pkummd2", write_pku2(tmp_path))
    clips = clips_of(source)
    assert isinstance(source, PkuMmd2)
    assert len(clips) == 36
    assert clips[0].columns == {
        "label": 0,
        "subject": -1,
        "view": "L",
        "video": "A01N01",
        "confidence": 2,
        "names": "A01N01-L-001",
        "xsub_side": "train",
        "xview_side": "test",
    }
    names = PkuMmd1.class_names
    assert (len(names), names[0], names[50]) == (51, "bow", "writing")


def test_both_phases_in_one_folder_do_not_mix(tmp_path: Path) -> None:
    write_pku(tmp_path / "v1")
    write_pku2(tmp_path / "v2")
    first, second = open_source("pkummd1", tmp_path), open_source("pkummd2", tmp_path)
    assert {clip.columns["video"] for clip in clips_of(first)} == {1, 2, 3, 4}
    assert {clip.columns["video"] for clip in clips_of(second)} == {
        "A01N01",
        "A02N01",
        "A03N01",
        "A04N01",
    }
    assert (
        clips_of(first)[0].columns["xsub_side"]
        == clips_of(second)[0].columns["xsub_side"]
        == "train"
    )
