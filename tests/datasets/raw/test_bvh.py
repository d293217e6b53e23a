"""BVH: the tree, the order of rotations and units by hand; one skeleton for all files;
labels.csv line by line.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.layouts import KINECT20
from datasets.raw.base import BrokenFile
from datasets.raw.bvh import Bvh
from datasets.raw.bvh_file import read_motion
from datasets.raw.prepare import plan_of
from datasets.splits import make_split
from tests.datasets.raw.made_up_raw import clips_of, person, stored, write_bvh

TREE = """HIERARCHY
ROOT Hips
{
  OFFSET 5 6 7
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Spine
  {
    OFFSET 0 10 0
    CHANNELS 3 Yrotation Xrotation Zrotation
    JOINT Left Hand
    {
      OFFSET 20 0 0
      CHANNELS 0
      End Site
      {
        OFFSET 0 1 0
      }
    }
  }
}
"""


def motion(*frames: str, time: str = "0.04") -> str:
    return f"MOTION\nFrames: {len(frames)}\nFrame Time: {time}\n" + "\n".join(frames) + "\n"


def folder_of(folder: Path, labels: str = "file,label\na.bvh,wave\n", **files: str) -> Path:
    """``labels.csv`` and BVH files by name; ``a.bvh`` of one frame when none are given."""
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text(labels)
    for name, text in (files or {"a": TREE + motion("0 0 0 0 0 0 0 0 0")}).items():
        (folder / f"{name}.bvh").write_text(text)
    return folder


def positions(folder: Path, *frames: str, tree: str = TREE) -> list[list[list[float]]]:
    """Of every frame, the joints in metres."""
    (clip,) = clips_of(Bvh(folder_of(folder, a=tree + motion(*frames))))
    return (clip.joints[:, 0].astype(float).round(6) + 0.0).tolist()


# --- one file ---


def test_positions_stand_in_place_of_the_root_s_offset_and_end_sites_are_no_joints(
    tmp_path: Path,
) -> None:
    assert positions(tmp_path, "100 200 300 0 0 0 0 0 0") == [
        [[1, 2, 3], [1, 2.1, 3], [1.2, 2.1, 3]]
    ]
    assert Bvh(tmp_path).layout.joints == ("Hips", "Spine", "Left Hand")
    assert Bvh(tmp_path).layout.parents == (-1, 0, 1)


def test_an_offset_without_position_channels_stays(tmp_path: Path) -> None:
    tree = TREE.replace("CHANNELS 6 Xposition Yposition Zposition", "CHANNELS 3")
    assert positions(tmp_path, "0 0 0 0 0 0", tree=tree)[0][0] == [0.05, 0.06, 0.07]


def test_a_quarter_turn_of_the_spine_moves_the_hand(tmp_path: Path) -> None:
    # channels of the spine: y, x, z; about y, x goes to -z; about z, x goes to y
    assert positions(tmp_path, "0 0 0 0 0 0 90 0 0")[0][2] == [0, 0.1, -0.2]
    assert positions(tmp_path, "0 0 0 0 0 0 0 0 90")[0][2] == [0, 0.3, 0]


def test_rotations_multiply_in_the_order_of_the_channels(tmp_path: Path) -> None:
    # Ry Rx Rz of x: z takes it to y, x to z, y to x.
    assert positions(tmp_path, "0 0 0 0 0 0 90 90 90")[0][2] == [0.2, 0.1, 0]
    # Rz Rx Ry of x: y takes it to -z, x to y, z to -x.
    tree = TREE.replace("Yrotation Xrotation Zrotation", "Zrotation Xrotation Yrotation")
    assert positions(tmp_path, "0 0 0 0 0 0 90 90 90", tree=tree)[0][2] == [-0.2, 0.1, 0]


def test_turns_of_the_root_turn_everything(tmp_path: Path) -> None:
    # Rz of the root: up goes to -x; the hand, along x of the spine, then points up.
    assert positions(tmp_path, "0 0 0 90 0 0 0 0 0") == [[[0, 0, 0], [-0.1, 0, 0], [-0.1, 0.2, 0]]]


def test_frames_and_their_rate(tmp_path: Path) -> None:
    assert positions(tmp_path, "1 0 0 0 0 0 0 0 0", "2 0 0 0 0 0 0 0 0", "3 0 0 0 0 0 0 0 0")[2][
        0
    ] == [0.03, 0, 0]
    assert Bvh(tmp_path).fps == 25.0
    assert Bvh(folder_of(tmp_path, a=TREE + motion("0 " * 9, time="0.0333333"))).fps == 30.0


def test_words_of_the_hierarchy_may_stand_on_any_lines(tmp_path: Path) -> None:
    tree = " ".join(TREE.split()).replace("{ ", "{").replace(" }", "}") + "\n"
    assert positions(tmp_path, "100 200 300 0 0 0 0 0 0", tree=tree) == [
        [[1, 2, 3], [1, 2.1, 3], [1.2, 2.1, 3]]
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("HIERARCHY", "hello", "line 1: expected HIERARCHY, found 'hello'"),
        (
            "ROOT Hips",
            "JOINT Hips",
            "line 2: expected one ROOT with JOINT, End Site, OFFSET or .* found 'JOINT'",
        ),
        ("JOINT Spine", "ROOT Spine", "line 6: expected one ROOT with JOINT, .*, found 'ROOT'"),
        (
            "JOINT Spine",
            "JOINT Hips",
            "line 7: expected a name of its own for every joint, found 'Hips'",
        ),
        ("OFFSET 0 10 0", "OFFSET 0 ten 0", "line 8: expected a finite number, found 'ten'"),
        ("OFFSET 0 10 0", "OFFSET 0 nan 0", "line 8: expected a finite number, found 'nan'"),
        ("    OFFSET 0 10 0\n", "", "line 18: expected an OFFSET for joint 'Spine', found none"),
        ("CHANNELS 3", "CHANNELS 7", "line 9: expected 0 to 6 channels, found '7'"),
        ("CHANNELS 3", "CHANNELS -1", "line 9: expected 0 to 6 channels, found '-1'"),
        (
            "CHANNELS 3",
            "CHANNELS 4",
            "line 10: expected channels such as Xposition and Zrotation once, found 'joint'",
        ),
        (
            "3 Yrotation Xrotation",
            "3 Yrotation Yrotation",
            "line 9: expected channels .* once, found 'yrotation'",
        ),
        ("}\n}\n", "}\n", "line 19: expected a closing }, found the end of the hierarchy"),
        ("Frames: 1", "Frames: 2", "line 24: expected 2 lines of motion and at least 1, found 1"),
        (
            "Frames: 1",
            "Frames one",
            "line 22: expected Frames: and their number, found 'Frames one'",
        ),
        (
            "Frame Time: 0.04",
            "Frame Time: 0",
            "line 23: expected a frame time from 0.0001 to 10 seconds, found '0'",
        ),
        (
            "Frame Time: 0.04",
            "Frame Time: inf",
            "line 23: expected a frame time from .*, found 'inf'",
        ),
        ("Frame Time: 0.04", "0 0 0", "line 23: expected Frame Time: and seconds, found '0 0 0'"),
        ("MOTION", "MOTIONS", "line 24: expected a line MOTION, found none"),
        ("0 0 0 0 0 0 0 0 0", "0 0 0 0 0 0 0 0", "line 24: expected 9 numbers, found 8"),
        ("0 0 0 0 0 0 0 0 0", "0 0 0 0 x 0 0 0 0", "line 24: expected a finite number, found 'x'"),
        (
            "0 0 0 0 0 0 0 0 0",
            "0 0 0 0 inf 0 0 0 0",
            "line 24: expected a finite number, found 'inf'",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    old: str, new: str, problem: str, tmp_path: Path
) -> None:
    text = TREE + motion("0 0 0 0 0 0 0 0 0")
    assert old in text
    path = tmp_path / "a.bvh"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BrokenFile, match=f"a.bvh, {problem}") as caught:
        read_motion(path).positions()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "HIERARCHY\nMOTION\n", "ROOT\nMOTION", "\x00\x01", "HIERARCHY ROOT\nMOTION\n"]
)
def test_junk_is_a_broken_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text)
    with pytest.raises(BrokenFile, match=r"a\.bvh"):
        read_motion(tmp_path / "a.bvh")


def test_a_tree_of_any_depth_is_read_or_refused(tmp_path: Path) -> None:
    deep = "".join(f"JOINT j{number} {{ OFFSET 0 1 0 CHANNELS 0 " for number in range(100_000))
    tree = "HIERARCHY ROOT r { OFFSET 0 0 0 CHANNELS 1 Xposition " + deep + "}" * 100_001 + "\n"
    (tmp_path / "a.bvh").write_text(tree + motion("0"))
    with pytest.raises(BrokenFile, match="expected at most 500 joints, found more"):
        read_motion(tmp_path / "a.bvh")


# --- several files ---


def test_the_tree_ends_in_a_store_of_the_known_layout(tmp_path: Path) -> None:
    clips = stored(Bvh(write_bvh(tmp_path / "raw")), tmp_path / "store")
    assert clips.layout is KINECT20
    assert (len(clips), clips.fps, clips.class_names) == (16, 30.0, ("lift", "wave"))
    assert clips.columns["names"][:3].tolist() == ["lift/s1_1", "lift/s1_2", "lift/s2_1"]
    assert clips.columns["room"].tolist() == ["hall"] * 16
    # the 13th: wave, subject 3, first take
    assert np.allclose(clips.clip(12)[:, 0], person(KINECT20, 16, 1, 3, 1), atol=2e-6)
    split = make_split(clips, "xsub", validation=0)
    assert set(clips.columns["subject"][split.test]) == {2, 4}


def test_classes_subjects_units_and_further_columns_come_from_the_csv(tmp_path: Path) -> None:
    labels = (
        'file,label,subject,unit_metres,take,note\nb.bvh,wave,7,1,3,"x, y"\n\na.bvh, bow ,,,4,\n'
    )
    text = TREE + motion("100 0 0 0 0 0 0 0 0")
    source = Bvh(folder_of(tmp_path, labels, a=text, b=text))
    assert source.class_names == ["bow", "wave"]
    first, second = clips_of(source)
    assert first.columns == {"label": 1, "subject": 7, "names": "b", "take": 3, "note": "x, y"}
    assert second.columns == {"label": 0, "subject": -1, "names": "a", "take": 4, "note": ""}
    assert (first.joints[0, 0, 0, 0], second.joints[0, 0, 0, 0]) == (100, 1)


def test_offsets_may_differ_between_files_but_not_the_skeleton(tmp_path: Path) -> None:
    labels = "file,label\n" + "".join(f"{name}.bvh,wave\n" for name in "abcde")
    end = motion("0 " * 9)
    source = Bvh(
        folder_of(
            tmp_path,
            labels,
            a=TREE + end,
            b=TREE.replace("OFFSET 0 10 0", "OFFSET 0 12 0") + end,
            c=TREE.replace("Spine", "Chest") + end,
            d=TREE + motion("0 " * 9, time="0.05"),
            e=TREE.replace("    JOINT Left", "  } JOINT Left").replace("  }\n}\n", "}\n") + end,
        )
    )
    units = source.find().units
    assert source.read(units[1]).clips[0].joints[0, 0, 1, 1] == np.float32(0.12)
    for unit, problem in (
        (
            units[2],
            "expected the joints of the first file, found a skeleton without Spine and with Chest",
        ),
        (units[3], "expected the frame time of the first file, 0.04 seconds, found 0.05"),
        (units[4], "expected the joints of the first file, found another order or other parents"),
    ):
        with pytest.raises(BrokenFile) as caught:
            source.read(unit)
        assert str(caught.value) == f"{unit.path}: {problem}"


def test_the_first_file_that_can_be_read_decides(tmp_path: Path) -> None:
    labels = "file,label\na.bvh,wave\nb.bvh,bow\n"
    source = Bvh(folder_of(tmp_path, labels, a="junk", b=TREE + motion("0 " * 9)))
    assert source.layout.joints == ("Hips", "Spine", "Left Hand")
    with pytest.raises(BrokenFile, match=r"a\.bvh, line 1: expected a line MOTION"):
        source.read(source.find().units[0])
    with pytest.raises(
        DataError, match=r"expected a BVH file that can be read, found none \(.*a.bvh, line 1: exp"
    ):
        Bvh(folder_of(tmp_path, labels, a="junk", b="junk"))


def test_files_on_one_side_only_are_counted(tmp_path: Path) -> None:
    source = Bvh(folder_of(tmp_path, "file,label\na.bvh,wave\ngone.bvh,bow\n"))
    (tmp_path / "more.bvh").write_text("")
    found = source.find()
    assert [unit.name for unit in found.units] == ["a"]
    assert found.counts == {
        "files in labels.csv": 2,
        ".bvh files that are not in labels.csv, not read": 1,
        "files in labels.csv that are not there (gone.bvh)": 1,
    }
    assert source.class_names == ["wave"]


def test_a_preparation_begins_anew_when_a_label_has_changed(tmp_path: Path) -> None:
    source = Bvh(folder_of(tmp_path))
    before = plan_of(source, "bvh", source.find())
    assert plan_of(source, "bvh", Bvh(tmp_path).find()) == before
    (tmp_path / "labels.csv").write_text("file,label\na.bvh,bow\n")
    assert plan_of(source, "bvh", Bvh(tmp_path).find()) != before


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ("", "line 1: expected a column file, found none; name it so"),
        (
            "files,label\na.bvh,wave\n",
            "line 1: expected a column file, found files, label; did you mean 'files'",
        ),
        (
            "file,label,names\na.bvh,wave,x\n",
            "line 1: expected columns of .*, found 'names'; name it otherwise",
        ),
        (
            "file,label,hashes\na.bvh,wave,x\n",
            "line 1: expected columns of .*, found 'hashes'; name it otherwise",
        ),
        (
            "file,label,a/b\na.bvh,wave,x\n",
            "line 1: expected columns of .*, found 'a/b'; name it otherwise",
        ),
        (
            "file,label,x,x\na.bvh,wave,1,2\n",
            "line 1: expected columns of .*each once.*, found 'x'; name it otherwise",
        ),
        ("file,label\n", ": expected a line for every file, found none"),
        (
            "file,label\na.bvh\n",
            "line 2: expected as many fields as in line 1, found fewer; correct the line",
        ),
        (
            "file,label\na.bvh,wave,bow\n",
            "line 2: expected as many fields as in line 1, found more",
        ),
        ("file,label\na.bvh,\n", "line 2: expected a label, found none"),
        (
            "file,label\na.bvh,wave\na.bvh,bow\n",
            "line 3: expected every file once, found a.bvh again",
        ),
        (
            "file,label\n/etc/a.bvh,wave\n",
            "line 2: expected the path of a .bvh file below the folder, found '/e.*'",
        ),
        (
            "file,label\n../a.bvh,wave\n",
            r"line 2: expected the path of a .bvh file below the folder, found '\.\..*'",
        ),
        (
            f"file,label\n{'a' * 300}.bvh,wave\n",
            "line 2: expected the path of a .bvh file below the folder, found 'aa",
        ),
        (
            "file,label\na.txt,wave\n",
            "line 2: expected the path of a .bvh file below the folder, found 'a.txt'",
        ),
        (
            "file,label,subject\na.bvh,wave,S1\n",
            "line 2: expected a subject's number, .*, found 'S1'",
        ),
        (
            "file,label,subject\na.bvh,wave,-2\n",
            "line 2: expected a subject's number, .*, found '-2'",
        ),
        (
            "file,label,unit_metres\na.bvh,wave,0\n",
            "line 2: expected unit_metres above 0 and at most 1000, found '0'",
        ),
        (
            "file,label,unit_metres\na.bvh,wave,nan\n",
            "line 2: expected unit_metres above 0 .*, found 'nan'",
        ),
        (
            "file,label\ngone.bvh,wave\n",
            r"expected a BVH file that can be read, found none \(not there are gone.bvh\)",
        ),
    ],
)
def test_a_wrong_labels_file_is_named_with_its_line(
    labels: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        Bvh(folder_of(tmp_path, labels))
    assert "\n" not in str(caught.value)


STILL = "0 0 0 0 0 0 0 0 0"


@pytest.mark.parametrize(
    "labels",
    [
        "file,label,subject\nsub\\a.bvh,wave,3\n",
        "file;label;subject\nsub/a.bvh;wave;3\n",
        "File\tLabel\tSubject\nsub/a.bvh\twave\t3\n",
        "file,label,subject,,\nsub/a.bvh,wave,3.0,,\n,,,,\n,,,,\n",
        " file , label , subject\n sub/a.bvh , wave , 3 \n\n\n",
        "sep=;\nfile;label;subject\nsub/a.bvh;wave;3\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheet_programs_are_read(
    labels: str, encoding: str, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    folder_of(tmp_path, **{"sub/a": TREE + motion(STILL)})
    (tmp_path / "labels.csv").rename(tmp_path / "Labels.CSV")
    (tmp_path / "Labels.CSV").write_text(labels, encoding=encoding, newline="\r\n")
    (row,) = Bvh(tmp_path).rows.values()
    assert (row.file, row.label, row.subject, row.unit_metres, dict(row.other)) == (
        "sub/a.bvh",
        "wave",
        3,
        None,
        {},
    )


def test_a_unit_with_a_decimal_comma_is_that_unit(tmp_path: Path) -> None:
    (row,) = Bvh(folder_of(tmp_path, "file;label;unit_metres\na.bvh;wave;0,0254\n")).rows.values()
    assert row.unit_metres == 0.0254


def test_a_workbook_or_another_table_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "labels.csv").unlink()
    with zipfile.ZipFile(tmp_path / "labels.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "")
    with pytest.raises(
        DataError,
        match=r"No such file or directory.*; there is labels.xlsx: save or name it labels.csv",
    ):
        Bvh(tmp_path)
    (tmp_path / "labels.xlsx").rename(tmp_path / "labels.csv")
    with pytest.raises(
        DataError, match="expected a table as text, found an Excel workbook; save it as CSV UTF-8"
    ):
        Bvh(tmp_path)


def test_what_is_assumed_is_said(tmp_path: Path) -> None:
    labels = "file,label,unit_metres\na.bvh,Wave,\nb.bvh,wave,0.0254\n"
    still = TREE + motion(STILL)
    assert Bvh(folder_of(tmp_path, labels, a=still, b=still)).assumed == (
        "y is up",
        (
            "unit_metres 0.01, centimetres, of 1 files; other units go into labels.csv, column"
            " unit_metres"
        ),
        "'Wave', 'wave' are different classes",
    )


def test_labels_that_are_numbers_stand_in_their_order(tmp_path: Path) -> None:
    labels = "file,label\na.bvh,10\nb.bvh,9\n"
    still = TREE + motion(STILL)
    assert Bvh(folder_of(tmp_path, labels, a=still, b=still)).class_names == ["9", "10"]


@pytest.mark.parametrize(
    "text",
    [
        motion(STILL).replace("MOTION\n", "MOTION\n\n"),
        motion(STILL).replace("Frames: 1\n", "Frames : 1\n \n"),
        motion(STILL).replace("0.04\n", "0.04\n\n\n"),
    ],
)
def test_blank_lines_between_the_parts_are_passed_over(text: str, tmp_path: Path) -> None:
    path = folder_of(tmp_path, a=TREE + text) / "a.bvh"
    assert len(read_motion(path).positions()) == 1
    path.write_text((TREE + text).replace(STILL, "0 0 nan 0 0 0 0 0 0"))
    line = (TREE + text).rstrip().count("\n") + 1
    with pytest.raises(
        BrokenFile, match=rf"a.bvh, line {line}: expected a finite number, found 'nan'"
    ):
        read_motion(path).positions()


def test_joint_names_in_another_encoding_stay_different_names(tmp_path: Path) -> None:
    folder_of(tmp_path)
    text = (TREE + motion(STILL)).replace("Spine", "\u982d").replace("Left Hand", "\u624b")
    (tmp_path / "a.bvh").write_bytes(text.encode("shift-jis"))
    names = Bvh(tmp_path).layout.joints
    assert names == ("Hips", "\\x93\\xaa", "\\x8e\\xe8")


def test_a_folder_without_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"labels.csv: expected a folder of .bvh files and a labels.csv with the"
    ):
        Bvh(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"file,label\n\xff\xfe.bvh,wave\n")
    with pytest.raises(
        DataError, match=r"labels.csv, line 2: expected UTF-8, found another encoding; save"
    ):
        Bvh(tmp_path)


def test_tables_of_more_columns_or_lines_than_anybody_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        DataError, match=r"line 1: expected at most 100 columns, found 152; leave some out"
    ):
        Bvh(folder_of(tmp_path, f"file,label,{','.join(f'c{number}' for number in range(150))}\n"))
    monkeypatch.setattr("datasets.raw.bvh._MOST_ROWS", 3)
    with pytest.raises(
        DataError, match=r"labels.csv: expected at most 3 lines, found more; cut the set up"
    ):
        Bvh(
            folder_of(
                tmp_path, "file,label\n" + "".join(f"a{number}.bvh,wave\n" for number in range(4))
            )
        )
