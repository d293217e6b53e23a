"""UTD-MHAD: joints re-ordered by name, and .mat files that are not what they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from datasets.errors import DataError
from datasets.layouts import KINECT20
from datasets.raw.base import BrokenFile, RawClip
from datasets.raw.prepare import prepare
from datasets.raw.utdmhad import UtdMhad
from datasets.splits import make_split
from tests.datasets.raw.made_up_raw import clips_of, person, stored, write_utdmhad


def write(folder: Path, name: str = "a27_s8_t4_skeleton", **variables: Any) -> Path:
    scipy.io.savemat(folder / f"{name}.mat", variables)
    return folder


def clip(folder: Path) -> RawClip:
    return clips_of(UtdMhad(folder))[0]


def test_joints_get_the_order_of_the_other_kinect_v1_sets(tmp_path: Path) -> None:
    numbers = np.zeros((20, 3, 4))
    numbers[:, 0] = np.arange(20)[:, None]  # x: the joint's place in the source
    numbers[:, 1] = np.arange(4)  # y: the frame
    found = clip(write(tmp_path, d_skel=numbers))
    assert found.joints.shape == (4, 1, 20, 3)
    assert found.joints.dtype == np.float32
    assert found.joints[2, 0, :, 1].tolist() == [2.0] * 20
    # In the source: head 0, shoulder centre 1, spine 2, hip centre 3, left arm 4-7, right arm 8-11,
    # legs 12-19.
    place = dict(zip(KINECT20.joints, found.joints[0, 0, :, 0].tolist(), strict=True))
    assert [place[joint] for joint in ("head", "shoulder_center", "spine", "hip_center")] == [
        0,
        1,
        2,
        3,
    ]
    assert [
        place[joint] for joint in ("shoulder_left", "elbow_left", "wrist_left", "hand_left")
    ] == [4, 5, 6, 7]
    assert [
        place[joint] for joint in ("shoulder_right", "elbow_right", "wrist_right", "hand_right")
    ] == [8, 9, 10, 11]
    assert [place[joint] for joint in ("hip_left", "knee_left", "ankle_left", "foot_left")] == [
        12,
        13,
        14,
        15,
    ]
    assert [place[joint] for joint in ("hip_right", "knee_right", "ankle_right", "foot_right")] == [
        16,
        17,
        18,
        19,
    ]


def test_columns_come_from_the_name(tmp_path: Path) -> None:
    found = clip(write(tmp_path, d_skel=np.ones((20, 3, 2))))
    assert found.columns == {"label": 26, "subject": 8, "repetition": 4, "names": "a27_s8_t4"}
    names = UtdMhad.class_names
    assert (len(names), names[0], names[26]) == (
        27,
        "right arm swipe to the left",
        "squat (two arms stretch out)",
    )


def test_the_tree_ends_in_a_store_with_its_split(tmp_path: Path) -> None:
    clips = stored(UtdMhad(write_utdmhad(tmp_path / "raw")), tmp_path / "store")
    # by name, so action 10 comes before action 1: "0" stands before "_"
    assert clips.columns["names"][:2].tolist() == ["a10_s1_t1", "a10_s1_t2"]
    assert clips.columns["names"][8] == "a1_s1_t1"
    assert np.allclose(clips.clip(9)[:, 0], person(KINECT20, 15, 0, 1, 2), atol=1e-6)
    split = make_split(clips, "xsub", validation=0)
    assert set(clips.columns["subject"][split.train]) == {1, 3}
    assert set(clips.columns["subject"][split.test]) == {2, 4}


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"other": np.ones((20, 3, 2))}, "expected a variable d_skel, found other"),
        (
            {"d_skel": np.ones((19, 3, 2))},
            r"expected d_skel of shape \[20, 3, frames\], found \[19, 3, 2\]",
        ),
        (
            {"d_skel": np.ones((20, 3))},
            r"expected d_skel of shape \[20, 3, frames\], found \[20, 3\]",
        ),
        (
            {"d_skel": np.ones((20, 3, 0))},
            r"expected d_skel of shape \[20, 3, frames\], found \[20, 3, 0\]",
        ),
        (
            {"d_skel": np.ones((20, 3, 2), int)},
            "expected d_skel to be an array of floating-point numbers, found int64",
        ),
        (
            {"d_skel": np.ones((20, 3, 2), complex)},
            "expected d_skel to be real numbers, found complex128",
        ),
        (
            {"d_skel": np.full((20, 3, 2), {"a": 1}, object)},
            "expected d_skel to be an array of .*, found cell",
        ),
        (
            {"d_skel": {"a": 1}},
            "expected d_skel to be an array of floating-point numbers, found struct",
        ),
        (
            {"d_skel": "text"},
            "expected d_skel to be an array of floating-point numbers, found char",
        ),
    ],
)
def test_another_variable_is_named(variables: dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match=f"a27_s8_t4_skeleton.mat: {problem}"):
        clip(write(tmp_path, **variables))


def test_coordinates_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    numbers = np.ones((20, 3, 5))
    numbers[0, 1, 3] = np.nan  # the source's joint 0 is the head
    with pytest.raises(
        BrokenFile, match="expected finite coordinates, found others in frame 3, joint head"
    ):
        clip(write(tmp_path, d_skel=numbers))


def test_junk_is_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "a1_s1_t1_skeleton.mat"
    write(tmp_path, path.stem, d_skel=np.ones((20, 3, 50)))
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for junk in (
        b"",
        b"junk",
        whole[:100],
        whole[:200],
        whole[:-4000],
        whole[:128] + random.bytes(5000),
        random.bytes(3000),
        whole[:140] + random.bytes(20) + whole[160:],
        b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(600),
    ):
        path.write_bytes(junk)
        with pytest.raises(BrokenFile) as caught:
            clip(tmp_path)
        assert str(caught.value).startswith(f"{path}: expected ")
        assert "\n" not in str(caught.value)


def test_an_action_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="expected an action from 1 to 27 in the name, found 28"):
        clip(write(tmp_path, "a28_s1_t1_skeleton", d_skel=np.ones((20, 3, 2))))


def test_a_folder_without_clips_or_with_two_of_a_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"expected files such as a1_s1_t1_skeleton.mat .*, found none; check the path",
    ):
        UtdMhad(write(tmp_path, "a1_s1_t1_inertial", d_iner=np.ones(3))).find()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, d_skel=np.ones((20, 3, 2)))
    with pytest.raises(
        DataError, match=r"expected one file of a27_s8_t4, found .*one.* and .*two.*; keep one of"
    ):
        UtdMhad(tmp_path).find()


@pytest.mark.workers
def test_a_file_that_scipy_may_die_of_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    raw = write(tmp_path / "raw", d_skel=np.ones((20, 3, 2)))
    data = bytearray((raw / "a27_s8_t4_skeleton.mat").read_bytes())
    tag = data.index(b"\x09\x00\x00\x00", 136)  # "the numbers are doubles"
    data[tag : tag + 2] = b"\x09\x76"  # a kind of number that there is not
    (raw / "a1_s1_t1_skeleton.mat").write_bytes(data)
    found = prepare(UtdMhad(raw), "utdmhad", tmp_path / "store", workers=1).header
    assert (found.counts["clips kept"], found.counts["broken files, skipped"]) == (1, 1)
    assert found.problems[0].startswith(f"{raw}/a1_s1_t1_skeleton.mat: ")


def test_a_matlab_7_3_file_and_a_web_page_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a1_s1_t1_skeleton.MAT"
    for content, found in (
        (
            b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n",
            "a MATLAB 7.3 file, which is not read; save it with -v7",
        ),
        (b"<!DOCTYPE html><html>quota</html>", "a web page, .*; download the file itself"),
    ):
        path.write_bytes(content)
        with pytest.raises(
            BrokenFile, match=rf"skeleton.MAT: expected a MATLAB file, found {found}"
        ):
            clip(tmp_path)
