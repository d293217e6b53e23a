"""UI-PRMD: kinematics by hand, pairs of files, and what is broken in them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.layouts import UIPRMD22
from datasets.raw.base import BrokenFile, RawClip
from datasets.raw.kinematics import euler_matrices, joint_positions
from datasets.raw.prepare import plan_of
from datasets.raw.uiprmd import UiPrmd
from datasets.splits import make_split
from tests.datasets.raw.made_up_raw import clips_of, person, stored, write_table, write_uiprmd

JOINT = {name: place for place, name in enumerate(UIPRMD22.joints)}


def straight() -> NDArray[np.float64]:
    """[1, 22, 3] centimetres: every joint 10 cm above its parent,
    the waist 100 cm high at (30, -200).
    """
    positions = np.zeros((1, 22, 3))
    positions[:, :, 1] = 10
    positions[:, 0] = 30, 100, -200
    return positions


def angles(**degrees: tuple[float, float, float]) -> NDArray[np.float64]:
    """[1, 22, 3] with the joints named turned about x, y and z."""
    values = np.zeros((1, 22, 3))
    for joint, about in degrees.items():
        values[0, JOINT[joint]] = about
    return values


def pair(
    folder: Path, positions: NDArray, turned: NDArray, name: str = "m03_s02_e10", end: str = ".txt"
) -> Path:
    write_table(folder / f"{name}_positions{end}", positions)
    write_table(folder / f"{name}_angles{end}", turned)
    return folder


def clip(folder: Path) -> RawClip:
    return clips_of(UiPrmd(folder))[0]


def places(folder: Path, *joints: str) -> list[list[float]]:
    found = clip(folder).joints[0, 0]
    return [[round(float(value), 6) + 0.0 for value in found[JOINT[joint]]] for joint in joints]


# --- kinematics ---


def test_a_straight_chain_stands_over_the_waist(tmp_path: Path) -> None:
    pair(tmp_path, straight(), angles())
    assert clip(tmp_path).joints.shape == (1, 1, 22, 3)
    assert places(tmp_path, "waist", "spine", "chest", "left_hand") == [
        [0, 1, 0],
        [0, 1.1, 0],
        [0, 1.2, 0],
        [0, 1.6, 0],
    ]


def test_a_joint_turns_what_hangs_on_it_and_not_itself(tmp_path: Path) -> None:
    # A quarter turn about z takes up (y) to -x.
    pair(tmp_path, straight(), angles(chest=(0, 0, 90)))
    assert places(tmp_path, "chest", "neck", "head", "right_collar", "right_hand", "left_toes") == [
        [0, 1.2, 0],
        [-0.1, 1.2, 0],
        [-0.2, 1.2, 0],
        [-0.1, 1.2, 0],
        [-0.4, 1.2, 0],
        [0, 1.4, 0],
    ]


def test_turns_add_up_along_the_chain(tmp_path: Path) -> None:
    pair(tmp_path, straight(), angles(waist=(90, 0, 0), neck=(0, 90, 0)))
    # About x, up goes to z for all; then, in the turned frame, about the bone itself: nothing more
    # to see.
    assert places(tmp_path, "spine", "neck", "head_tip") == [[0, 1, 0.1], [0, 1, 0.3], [0, 1, 0.5]]
    pair(tmp_path, straight(), angles(waist=(90, 0, 0), neck=(0, 0, 90)))
    assert places(tmp_path, "neck", "head", "head_tip") == [
        [0, 1, 0.3],
        [-0.1, 1, 0.3],
        [-0.2, 1, 0.3],
    ]


def test_the_rotation_is_z_times_x_times_y(tmp_path: Path) -> None:
    # y first: (1, 0, 0) -> (0, 0, -1); then x: -> (0, 1, 0); then z: -> (-1, 0, 0). No other order
    # gives this.
    positions = straight()
    positions[0, JOINT["spine"]] = 10, 0, 0
    pair(tmp_path, positions, angles(waist=(90, 90, 90)))
    assert places(tmp_path, "spine") == [[-0.1, 1, 0]]
    assert np.allclose(euler_matrices("ZXY", np.array([90.0, 90, 90])) @ [1, 0, 0], [-1, 0, 0])


def test_positions_of_a_chain_by_hand() -> None:
    offsets = np.array([[[1.0, 0, 0], [0, 2, 0], [0, 3, 0]]])
    turns = euler_matrices("Z", np.array([[[0.0], [-90], [45]]]))
    # root at x = 1; the next two above it; the last turned by -90 degrees to the right of the
    # second
    assert np.allclose(
        joint_positions(offsets, turns, (-1, 0, 1)), [[[1, 0, 0], [1, 2, 0], [4, 2, 0]]]
    )


def test_the_waist_has_its_mean_over_the_origin_and_keeps_its_height(tmp_path: Path) -> None:
    positions = np.concatenate([straight(), straight() + 0])
    positions[1, 0] = 50, 80, -260
    pair(tmp_path, positions, np.concatenate([angles(), angles()]))
    waist = clip(tmp_path).joints[:, 0, 0]
    assert np.allclose(waist, [[-0.1, 1, 0.3], [0.1, 0.8, -0.3]])


# --- the tree ---


def test_the_tree_ends_in_a_store(tmp_path: Path) -> None:
    clips = stored(UiPrmd(write_uiprmd(tmp_path / "raw")), tmp_path / "store")
    assert clips.columns["names"].tolist() == [
        f"m{exercise:02}_s{subject:02}_e01{end}"
        for end in ("", "_inc")
        for exercise in (1, 2)
        for subject in (1, 2, 3, 4)
    ]
    assert clips.columns["correct"].tolist() == [1] * 8 + [0] * 8
    assert clips.columns["label"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1] * 2
    assert clips.layout is UIPRMD22
    # the 14th: exercise 2, subject 2, done wrongly; angles and lengths were written with six
    # decimals
    assert np.allclose(
        clips.clip(13)[:, 0], person(UIPRMD22, 14, 1, 2, 1, place=(0, 0, 0)), atol=2e-6
    )
    split = make_split(clips, "xsub", validation=0)
    assert set(clips.columns["subject"][split.train]) == {1, 3}


def test_columns_come_from_the_name(tmp_path: Path) -> None:
    pair(tmp_path, straight(), angles(), end="_inc.txt.gz")
    assert clip(tmp_path).columns == {
        "label": 2,
        "subject": 2,
        "correct": 0,
        "repetition": 10,
        "names": "m03_s02_e10_inc",
    }


def test_vicon_files_of_the_same_names_are_not_read(tmp_path: Path) -> None:
    pair(tmp_path / "Kinect", straight(), angles())
    (tmp_path / "Vicon").mkdir()
    (tmp_path / "Vicon" / "m03_s02_e10_positions.txt").write_text("1,2\n")
    found = UiPrmd(tmp_path).find()
    assert found.counts == {"positions files": 1, "angles files": 1, "Vicon files, not read": 1}
    assert len(found.units) == 1


def test_half_a_pair_is_counted_and_named(tmp_path: Path) -> None:
    for name in ("m03_s02_e01", "m03_s02_e02", "m03_s02_e03"):
        pair(tmp_path, straight(), angles(), name)
    (tmp_path / "m03_s02_e01_angles.txt").unlink()
    (tmp_path / "m03_s02_e03_positions.txt").unlink()
    source = UiPrmd(tmp_path)
    first, second, third = (source.read(unit) for unit in source.find().units)
    assert first.problems == [
        f"{tmp_path}/m03_s02_e01_positions.txt: expected an angles file of m03_s02_e01 beside it,"
        " found none; left out"
    ]
    assert (first.counts, first.clips) == ({"files without an angles file, left out": 1}, [])
    assert len(second.clips) == 1
    assert third.counts == {"files without a positions file, left out": 1}


def test_a_preparation_begins_anew_when_an_angles_file_has_changed(tmp_path: Path) -> None:
    source = UiPrmd(pair(tmp_path, straight(), angles()))
    before = plan_of(source, "uiprmd", source.find())
    write_table(tmp_path / "m03_s02_e10_angles.txt", angles(waist=(123, 0, 0)))
    assert plan_of(source, "uiprmd", source.find()) != before


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("angles", "1,2,3\n", "angles.txt, line 1: expected 66 numbers, found 3"),
        (
            "positions",
            "1," * 65 + "x\n",
            "positions.txt, line 1: expected a finite number, found 'x'",
        ),
        ("positions", "1," * 66 + "\n", "positions.txt, line 1: expected 66 numbers, found 67"),
        (
            "positions",
            "1," * 65 + "\n",
            "positions.txt, line 1: expected a finite number, found ''",
        ),
        (
            "angles",
            ("0," * 65 + "0\n") * 2,
            "angles.txt: expected 1 lines as in m03_s02_e10_positions.txt, found 2",
        ),
        ("angles", "", "angles.txt, line 1: expected lines of 66 numbers, found none"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    file: str, text: str, problem: str, tmp_path: Path
) -> None:
    (pair(tmp_path, straight(), angles()) / f"m03_s02_e10_{file}.txt").write_text(text)
    with pytest.raises(BrokenFile) as caught:
        clip(tmp_path)
    assert str(caught.value) == f"{tmp_path}/m03_s02_e10_{problem}"


def test_a_damaged_packed_file_is_named(tmp_path: Path) -> None:
    path = pair(tmp_path, straight(), angles(), end=".txt.gz") / "m03_s02_e10_angles.txt.gz"
    for damage in (path.read_bytes()[:-12], b"no gzip at all", b""):
        path.write_bytes(damage)
        with pytest.raises(
            BrokenFile, match=r"angles.txt.gz(: expected a whole .gz|, line 1: expected lines)"
        ):
            clip(tmp_path)


def test_a_packed_file_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pair(tmp_path, straight(), angles(), end=".txt.gz") / "m03_s02_e10_positions.txt.gz"
    monkeypatch.setattr("datasets.raw.number_text._MOST_BYTES", 10_000)
    path.write_bytes(gzip.compress(b"0" * 10_001))
    with pytest.raises(BrokenFile, match="expected at most 10,000 bytes, found more"):
        clip(tmp_path)


def test_names_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="found 0 positions files and 0 angles files, no pair; check the path"
    ):
        UiPrmd(tmp_path).find()
    with pytest.raises(BrokenFile, match="expected an exercise from 1 to 10 in the name, found 11"):
        clip(pair(tmp_path / "a", straight(), angles(), "m11_s01_e01"))
    pair(tmp_path / "b", straight(), angles())
    pair(tmp_path / "b", straight(), angles(), end=".txt.gz")
    with pytest.raises(
        DataError,
        match=r"expected one angles file of m03_s02_e10, found .*txt and .*gz; keep one of",
    ):
        UiPrmd(tmp_path / "b")
