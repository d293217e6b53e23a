"""pyskl's pickles: equal to the raw route on the same clips;
what is wrong with an annotation is named.
"""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.raw.base import BrokenFile, RawClip, Source
from datasets.raw.ntu.facts import NOBODY
from datasets.raw.ntu.pyskl import TWICE, Ntu60Pyskl, Ntu120Pyskl
from datasets.raw.ntu.tree import Ntu60
from tests.datasets.raw.made_up_ntu import person, write_tree

STEM = "S001C002P003R002A013"


def keypoint(frames: int = 5, bodies: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """[bodies, frames, 25, 3] in the camera's frame."""
    return np.stack([person(frames, seed + body) for body in range(bodies)]).astype(np.float32)


def annotation(name: Any = STEM, **changes: Any) -> dict[str, Any]:
    """A valid annotation; ``changes`` replaces or adds entries."""
    return {"frame_dir": name, "label": 12, "keypoint": keypoint(), "total_frames": 5} | changes


def pkl(folder: Path, *annotations: Any, protocol: int = 4) -> Path:
    path = folder / "ntu60_3danno.pkl"
    content = {"split": {"xsub_train": [], "xsub_val": [STEM]}, "annotations": list(annotations)}
    path.write_bytes(pickle.dumps(content, protocol))
    return path


def clips_of(source: Source) -> list[RawClip]:
    return [clip for unit in source.find().units for clip in source.read(unit).clips]


def problem(folder: Path, *annotations: Any) -> str:
    """What is wrong with the first clip, without the path."""
    path = pkl(folder, *annotations)
    source = Ntu60Pyskl(path)
    reading = source.read(source.find().units[0])
    assert reading.clips == []
    [line] = reading.problems
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_equals_the_raw_route_on_the_same_clips(tmp_path: Path, protocol: int) -> None:
    write_tree(tmp_path / "raw", 8, longest=50)
    raw = clips_of(Ntu60(tmp_path / "raw"))
    annotations = [
        annotation(
            clip.columns["names"],
            label=clip.columns["label"],
            total_frames=len(clip.joints),
            keypoint=clip.joints.transpose(1, 0, 2, 3)[: 1 + int(clip.joints[:, 1].any())],
        )
        for clip in reversed(raw)
    ]
    stored = clips_of(Ntu60Pyskl(pkl(tmp_path, *annotations, protocol=protocol)))
    assert len(stored) == 8
    for clip, original in zip(stored, raw, strict=True):
        assert clip.columns == original.columns
        np.testing.assert_array_equal(clip.joints, original.joints)


def test_clips_are_moved_to_their_first_spine_middle(tmp_path: Path) -> None:
    stored = keypoint(5, bodies=2)
    stored[0, :2] = 0
    stored[1, 4] = 0
    [clip] = clips_of(Ntu60Pyskl(pkl(tmp_path, annotation(keypoint=stored))))
    assert clip.joints.shape == (5, 2, 25, 3)
    origin = stored[0, 2, 1]
    np.testing.assert_array_equal(clip.joints[2:, 0], stored[0, 2:] - origin)
    np.testing.assert_array_equal(clip.joints[:4, 1], stored[1, :4] - origin)
    assert not clip.joints[:2, 0].any()
    assert not clip.joints[4, 1].any()


def test_columns(tmp_path: Path) -> None:
    first, second = clips_of(Ntu60Pyskl(pkl(tmp_path, annotation("take 7"), annotation())))
    known = {"label": 12, "subject": 3, "view": 2, "setup": 1, "replication": 2, "names": STEM}
    unknown = {
        "label": 12,
        "subject": -1,
        "view": -1,
        "setup": -1,
        "replication": -1,
        "names": "take 7",
    }
    assert (dict(first.columns), dict(second.columns)) == (known, unknown)
    assert list(first.columns) == list(second.columns)
    assert Ntu60Pyskl.splits == Ntu60.splits
    assert Ntu60Pyskl.expected == Ntu60.expected


def test_lists_of_official_splits_must_agree_with_them(tmp_path: Path) -> None:
    path = pkl(tmp_path, annotation())
    source = Ntu60Pyskl(path)
    source.find()
    assert source.splits == Ntu60.splits
    content = {"split": {"xsub_train": [STEM], "xsub_val": []}, "annotations": [annotation()]}
    path.write_bytes(pickle.dumps(content, 4))
    with pytest.raises(
        DataError,
        match=rf"split xsub: expected the official one .*, found {STEM} on the file's train",
    ):
        Ntu60Pyskl(path).find()


def test_a_file_s_own_lists_become_splits(tmp_path: Path) -> None:
    path = tmp_path / "own.pkl"
    split = {"xsub_train": ["a", "b"], "xsub_val": ["c"], "train": ["c"], "test": ["a"]}
    taken = [annotation("a", label=0), *(annotation(name) for name in "bcd")]
    path.write_bytes(pickle.dumps({"split": split, "annotations": taken, "notes": 3}, 4))
    source = Ntu60Pyskl(path)
    counts = source.find().counts
    assert counts == {"found": 4, "entries not read: notes": 1}
    assert source.splits == {"xsub": "xsub_side:train->test", "own": "own_side:train->test"}
    assert source.default_split == "xsub"
    columns = [clip.columns for clip in clips_of(source)]
    assert [column["xsub_side"] for column in columns] == ["train", "train", "test", "none"]
    assert [column["own_side"] for column in columns] == ["test", "none", "train", "none"]
    path.write_bytes(pickle.dumps({"split": split | {"xsub_val": ["a"]}, "annotations": taken}, 4))
    with pytest.raises(
        DataError,
        match="split xsub: expected every clip on one side, found a on both; correct the list",
    ):
        Ntu60Pyskl(path).find()


def test_labels_that_count_from_1_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match="labels: expected 0 to 59, found 60 and no 0; they count from 1: subtract 1",
    ):
        Ntu60Pyskl(pkl(tmp_path, annotation("a", label=60), annotation("b", label=1))).find()


def test_a_file_s_own_class_names_are_used_or_refused(tmp_path: Path) -> None:
    path, names = tmp_path / "own.pkl", [f"class {number}" for number in range(60)]
    path.write_bytes(pickle.dumps({"annotations": [annotation()], "class_names": names}, 4))
    source = Ntu60Pyskl(path)
    source.find()
    assert source.class_names == tuple(names)
    with pytest.raises(
        DataError,
        match="class_names: expected 120 strings, found 60 entries; prepare it as the edition",
    ):
        Ntu120Pyskl(path).find()


def test_half_precision_and_numpy_labels(tmp_path: Path) -> None:
    half = keypoint().astype(np.float16)
    [clip] = clips_of(Ntu60Pyskl(pkl(tmp_path, annotation(label=np.int64(12), keypoint=half))))
    single = half[0].astype(np.float32)
    np.testing.assert_array_equal(clip.joints[:, 0], single - single[0, 1])


def test_a_list_alone_and_names_found_twice(tmp_path: Path) -> None:
    path = tmp_path / "ntu60_3danno.pkl"
    path.write_bytes(
        pickle.dumps([annotation(), annotation(keypoint=keypoint(seed=9)), annotation("b")])
    )
    source = Ntu60Pyskl(path)
    assert source.find().counts == {"found": 3, TWICE: 1}
    np.testing.assert_array_equal(
        clips_of(source)[0].joints[:, 0], keypoint()[0] - keypoint()[0, 0, 1]
    )


def test_memory_is_flat(tmp_path: Path) -> None:
    path = pkl(
        tmp_path,
        *(annotation(f"clip {n}", keypoint=keypoint(500), total_frames=500) for n in range(60)),
    )
    assert path.stat().st_size > 9e6
    source = Ntu60Pyskl(path)
    tracemalloc.start()
    for unit in source.find().units:
        source.read(unit)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6


def test_sources_and_units_can_be_pickled(tmp_path: Path) -> None:
    source = Ntu60Pyskl(pkl(tmp_path, annotation()))
    again, [unit] = pickle.loads(pickle.dumps((source, source.find().units)))
    np.testing.assert_array_equal(again.read(unit).clips[0].joints, clips_of(source)[0].joints)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": 60}, "expected a label from 0 to 59, found 60"),
        ({"label": -1}, "expected a label from 0 to 59, found -1"),
        ({"label": 10**5000}, "expected a label from 0 to 59, found int"),
        ({"label": "12"}, "expected a label from 0 to 59, found str"),
        ({"label": 11}, "expected label 12, as the name has it, found 11"),
        ({"keypoint": [[1.0]]}, "expected a keypoint array [1 or 2, 5, 25, 3], found list"),
        (
            {"keypoint": keypoint().astype(int)},
            "[1 or 2, 5, 25, 3] of floating-point numbers, found <i8",
        ),
        (
            {"keypoint": keypoint(bodies=3)},
            "expected a keypoint array [1 or 2, 5, 25, 3], found shape [3, 5, 25, 3]",
        ),
        ({"keypoint": keypoint()[:, :, :17]}, "found shape [1, 5, 17, 3]"),
        ({"keypoint": keypoint()[0]}, "found shape [5, 25, 3]"),
        ({"total_frames": 6}, "expected a keypoint array [1 or 2, 6, 25, 3], found 5 frames"),
        ({"keypoint": keypoint() * 0}, "no body in any frame"),
    ],
)
def test_annotations_that_are_no_clips(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    found = problem(tmp_path, annotation(**changes))
    assert found.startswith(f"{STEM}: ")
    assert found.endswith(message)


def test_annotations_without_a_name(tmp_path: Path) -> None:
    assert problem(tmp_path, annotation("a\nb", label=61)).startswith("a b: ")
    expected = "annotation 0: expected a dict with a name, 'frame_dir'"
    for wrong in (7, {"label": 1}, annotation(5), annotation(None)):
        assert problem(tmp_path, wrong) == expected


def test_a_clip_without_a_body_is_counted(tmp_path: Path) -> None:
    source = Ntu60Pyskl(pkl(tmp_path, annotation(keypoint=keypoint(0), total_frames=0)))
    assert source.read(source.find().units[0]).counts == {NOBODY: 1}


def test_the_other_edition_has_more_classes(tmp_path: Path) -> None:
    path = pkl(tmp_path, annotation("S018C001P001R001A077", label=76))
    assert [clip.columns["label"] for clip in clips_of(Ntu120Pyskl(path))] == [76]
    assert clips_of(Ntu60Pyskl(path)) == []


@pytest.mark.parametrize(
    "content", [{}, {"annotations": []}, {"annotations": {}}, {10**5000: 1}, 5, "text", None, []]
)
def test_files_of_another_form(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "ntu60_3danno.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(
        DataError,
        match=r"expected a \.pkl file of pyskl's form, a dict with a list 'annotations', ",
    ):
        Ntu60Pyskl(path).find()


class Attack:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def test_a_file_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    path = pkl(tmp_path, annotation(keypoint=Attack(tmp_path / "ran")))
    with pytest.raises(
        DataError, match=r"refused: the file wants to import posix\.system; only plain containers"
    ):
        Ntu60Pyskl(path).find()
    assert not (tmp_path / "ran").exists()


def test_a_file_that_changed_after_it_was_looked_through(tmp_path: Path) -> None:
    path = pkl(tmp_path, annotation())
    source = Ntu60Pyskl(path)
    [unit] = source.find().units
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BrokenFile, match=f"{STEM}: the array cannot be read"):
        source.read(unit)
