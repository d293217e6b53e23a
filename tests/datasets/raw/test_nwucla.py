"""NW-UCLA: file names and labels agree, both splits, and JSON that is not what it should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datasets.clips import fingerprint
from datasets.errors import DataError
from datasets.raw.base import BrokenFile, RawClip
from datasets.raw.nwucla import NwUcla
from datasets.splits import make_split
from tests.datasets.raw.made_up_raw import clips_of, stored, write_nwucla

FRAME = [[0.5, 1.0, 2.0]] * 20


def write(folder: Path, content: object, name: str = "a08_s03_e04_v02") -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / f"{name}.json").write_text(text)
    return folder


def clip(folder: Path) -> RawClip:
    return clips_of(NwUcla(folder))[0]


def test_a_file_is_a_clip(tmp_path: Path) -> None:
    frames = np.arange(2 * 20 * 3).reshape(2, 20, 3) / 10
    write(tmp_path, {"file_name": "a08_s03_e04_v02", "skeletons": frames.tolist(), "label": 7})
    found = clip(tmp_path)
    assert found.joints.shape == (2, 1, 20, 3)
    assert found.joints.dtype == np.float32
    assert np.array_equal(found.joints[:, 0], frames.astype(np.float32))
    assert found.columns == {
        "label": 6,
        "subject": 3,
        "view": 2,
        "repetition": 4,
        "names": "a08_s03_e04_v02",
    }


def test_labels_follow_the_action_numbers_which_have_gaps(tmp_path: Path) -> None:
    for label, action in enumerate((1, 2, 3, 4, 5, 6, 8, 9, 11, 12), 1):
        write(tmp_path, {"skeletons": [FRAME], "label": label}, f"a{action:02}_s01_e00_v01")
    columns = [one.columns for one in clips_of(NwUcla(tmp_path))]
    assert {
        int(str(one["names"])[1:3]): NwUcla.class_names[int(one["label"])] for one in columns
    } == {
        1: "pick up with one hand",
        2: "pick up with two hands",
        3: "drop trash",
        4: "walk around",
        5: "sit down",
        6: "stand up",
        8: "donning",
        9: "doffing",
        11: "throw",
        12: "carry",
    }


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            '{"label": 7,\n "skeletons": [[',
            ", line 2: expected JSON, found damage (Expecting value)",
        ),
        ("", ", line 1: expected JSON, found damage (Expecting value)"),
        ("[" * 100_000, ": expected JSON, found damage"),
        ("[1]", ": expected an object with skeletons and label, found list"),
        (
            {"skeletons": [FRAME], "label": 8},
            ": expected label 7 for action 8 of the name, found 8",
        ),
        (
            {"skeletons": [FRAME], "label": True},
            ": expected label 7 for action 8 of the name, found True",
        ),
        (
            {"skeletons": [FRAME], "label": "7"},
            ": expected label 7 for action 8 of the name, found str",
        ),
        ({"skeletons": [FRAME]}, ": expected label 7 for action 8 of the name, found None"),
        ({"label": 7}, ": expected skeletons, a list of frames, found None"),
        ({"skeletons": [], "label": 7}, ": expected skeletons, a list of frames, found list"),
        ({"skeletons": [FRAME, FRAME[:19]], "label": 7}, ", found shape [19, 3] in frame 1"),
        ({"skeletons": [FRAME, [[0, 1]] * 20], "label": 7}, ", found shape [20, 2] in frame 1"),
        ({"skeletons": [FRAME, [[0, 1, None]] * 20], "label": 7}, ", found nan in frame 1"),
        (
            {"skeletons": [FRAME, [[0, 1, "x"]] * 20], "label": 7},
            ", found something else in frame 1",
        ),
        ({"skeletons": [FRAME, [[0, 1, 1e39]] * 20], "label": 7}, ", found 1e+39 in frame 1"),
        ({"skeletons": [FRAME, [[0, 1, float("nan")]] * 20], "label": 7}, ", found nan in frame 1"),
        (
            {"skeletons": [FRAME, [[0, 1, 10**400]] * 20], "label": 7},
            ", found something else in frame 1",
        ),
        ({"skeletons": [FRAME, 3], "label": 7}, ", found shape [] in frame 1"),
    ],
)
def test_a_broken_file_is_named_with_the_reason(
    content: object, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(BrokenFile) as caught:
        clip(write(tmp_path, content))
    assert str(caught.value).startswith(f"{tmp_path}/a08_s03_e04_v02.json")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_action_number_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        BrokenFile,
        match="expected an action of 1, 2, 3, 4, 5, 6, 8, 9, 11, 12 in the name, found 7",
    ):
        clip(write(tmp_path, {"skeletons": [FRAME], "label": 7}, "a07_s01_e00_v01"))


def test_a_file_that_calls_itself_otherwise_is_counted(tmp_path: Path) -> None:
    source = NwUcla(
        write(tmp_path, {"file_name": "a08_s03_e04_v01", "skeletons": [FRAME], "label": 7})
    )
    found = source.read(source.find().units[0])
    assert found.counts == {"files that call themselves otherwise (file_name), kept": 1}


def test_the_tree_ends_in_a_store_with_both_splits(tmp_path: Path) -> None:
    clips = stored(NwUcla(write_nwucla(tmp_path / "raw")), tmp_path / "store")
    assert (len(clips), clips.default_split, clips.fps) == (36, "standard", 13.0)
    standard = make_split(clips, "standard", validation=0)
    assert (len(standard.train), len(standard.test), len(standard.leaked)) == (24, 12, 4)
    clean = make_split(clips, "twin-free", validation=0)
    assert (len(clean.train), len(clean.test), len(clean.leaked)) == (20, 12, 0)
    assert clips.stored is not None
    assert clips.stored.fingerprint == fingerprint(clips)


def test_other_json_files_are_counted_and_not_read(tmp_path: Path) -> None:
    write(write(tmp_path, {"skeletons": [FRAME], "label": 7}), "{}", "notes")
    found = NwUcla(tmp_path).find()
    assert [unit.name for unit in found.units] == ["a08_s03_e04_v02"]
    assert found.counts == {"JSON files": 1, "JSON files of other names, not read": 1}


def test_a_folder_without_clips_or_with_two_of_a_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"expected JSON files such as a01_s01_e00_v01.json .*, found 1 others; check",
    ):
        NwUcla(write(tmp_path, "{}", "notes")).find()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "{}")
    with pytest.raises(
        DataError,
        match=r"expected one a08_s03_e04_v02.json, found .*one.* and .*two.*; keep one of",
    ):
        NwUcla(tmp_path).find()
