"""CTR-GCN-style archives: equal to the raw route on the same clips,
and exact about what is wrong.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.raw.base import RawClip, Reading, Source
from datasets.raw.ntu.ctrgcn import COPIES, MOST_ROWS, Ntu60Npz, Ntu120Npz
from datasets.raw.ntu.facts import NOBODY
from datasets.raw.ntu.tree import Ntu60, Ntu120
from tests.datasets.raw.made_up_ntu import write_tree

LONGEST = 60
TRAINING = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MASKED_SKELETON_CACHE", str(folder))
    return folder


def readings(source: Source) -> list[Reading]:
    return [source.read(unit) for unit in source.find().units]


def clips_of(source: Source) -> list[RawClip]:
    return [clip for reading in readings(source) for clip in reading.clips]


def padded(clips: list[RawClip], classes: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """[N, T, 150] frames and [N, classes] one-hot classes, as CTR-GCN's preparation stores them."""
    frames, labels = (
        np.zeros((len(clips), LONGEST, 150), np.float32),
        np.zeros((len(clips), classes)),
    )
    for row, clip in enumerate(clips):
        frames[row, : len(clip.joints)] = clip.joints.reshape(-1, 150)
        labels[row, clip.columns["label"]] = 1
    return frames, labels


def arrays(classes: int = 60, rows: int = 3, **changes: Any) -> dict[str, NDArray]:
    """A small valid file; ``changes`` replaces arrays, None removes one."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 10, 150)).astype(np.float32)
    y = np.eye(classes)[np.arange(rows) % classes]
    all_arrays = {"x_train": x, "y_train": y, "x_test": x[:2] + 1, "y_test": y[:2]} | changes
    return {name: values for name, values in all_arrays.items() if values is not None}


def npz(folder: Path, name: str = "NTU60_CS.npz", **stored: NDArray) -> Path:
    np.savez(folder / name, **(stored or arrays()))  # type: ignore[arg-type]
    return folder / name


def test_equals_the_raw_route_on_the_same_clips(tmp_path: Path) -> None:
    write_tree(tmp_path / "raw", 16, longest=LONGEST)
    raw = clips_of(Ntu60(tmp_path / "raw"))
    sides = [
        [clip for clip in raw if (clip.columns["subject"] in TRAINING) == training]
        for training in (True, False)
    ]
    assert all(sides)
    (x_train, y_train), (x_test, y_test) = (padded(side, 60) for side in sides)
    np.savez(
        tmp_path / "NTU60_CS.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test
    )
    stored = clips_of(Ntu60Npz(tmp_path / "NTU60_CS.npz"))
    assert len(stored) == 16
    for clip, original in zip(stored, sides[0] + sides[1], strict=True):
        np.testing.assert_array_equal(clip.joints, original.joints)
        assert clip.joints.dtype == original.joints.dtype == np.float32
        assert clip.columns["label"] == original.columns["label"]
    assert [clip.columns["side"] for clip in stored] == ["train"] * len(sides[0]) + ["test"] * len(
        sides[1]
    )


def test_ntu120s_copied_bodies_are_emptied(tmp_path: Path) -> None:
    write_tree(tmp_path / "raw", 8, longest=LONGEST, subjects=106, setups=32, actions=120)
    raw = clips_of(Ntu120(tmp_path / "raw"))
    frames, labels = padded(raw, 120)
    bodies = frames.reshape(len(raw), LONGEST, 2, 75)
    single = ~bodies[:, :, 1].any(axis=(1, 2))
    assert 0 < single.sum() < len(raw)
    bodies[single, :, 1] = bodies[single, :, 0]
    path = npz(
        tmp_path,
        "NTU120_CSub.npz",
        x_train=frames,
        y_train=labels,
        x_test=frames[:1],
        y_test=labels[:1],
    )
    train, test = readings(Ntu120Npz(path))
    assert train.counts == {COPIES: single.sum()}
    for clip, original in zip(train.clips, raw, strict=True):
        np.testing.assert_array_equal(clip.joints, original.joints)
    assert len(test.clips) == 1


def test_columns_units_and_split(tmp_path: Path) -> None:
    source = Ntu60Npz(npz(tmp_path, **arrays(rows=MOST_ROWS + 2)))
    found = source.find()
    names = ["train-00000 to 00063", "train-00064 to 00065", "test-00000 to 00001"]
    assert [unit.name for unit in found.units] == names
    assert found.counts == {"found": MOST_ROWS + 4}
    clip = source.read(found.units[1]).clips[1]
    assert dict(clip.columns) == {
        "label": 5,
        "subject": -1,
        "side": "train",
        "names": "train-00065",
    }
    assert (source.default_split, dict(source.splits)) == ("xsub", {"xsub": "side:train->test"})
    assert source.chunk == 1


@pytest.mark.parametrize(
    ("source", "name", "split", "counts"),
    [
        (Ntu60Npz, "NTU60_CS", "xsub", (40_091, 16_487)),
        (Ntu60Npz, "NTU60_CV", "xview", (37_646, 18_932)),
        (Ntu120Npz, "NTU120_CSub", "xsub", (63_026, 50_919)),
        (Ntu120Npz, "NTU120_CSet", "xset", (54_468, 59_477)),
        (Ntu60Npz, "mine", "as stored", None),
    ],
)
def test_the_file_name_tells_the_split_and_its_published_counts(
    tmp_path: Path, source: type[Source], name: str, split: str, counts: tuple[int, int] | None
) -> None:
    found = source(npz(tmp_path, f"{name}.npz"))
    assert (found.default_split, dict(found.splits)) == (split, {split: "side:train->test"})
    assert found.expected == ({split: counts} if counts else {})


def test_padding_is_cut_off_at_the_end_alone(tmp_path: Path) -> None:
    x = np.zeros((1, 10, 150), np.float32)
    x[0, 2], x[0, 5, 80] = 1, 2
    source = Ntu60Npz(npz(tmp_path, **arrays(x_train=x, y_train=np.eye(60)[:1])))
    clip = source.read(source.find().units[0]).clips[0]
    assert clip.joints.shape == (6, 2, 25, 3)
    np.testing.assert_array_equal(clip.joints.any(axis=(2, 3)).nonzero(), [[2, 2, 5], [0, 1, 1]])
    assert clip.joints[5, 1, 1, 2] == 2


def test_rows_that_are_no_clips_are_problems(tmp_path: Path) -> None:
    stored = arrays(rows=5)
    stored["x_train"][1] = 0
    stored["y_train"][2] = 0
    stored["y_train"][3, :2] = 1
    stored["y_train"][4] *= 0.5
    path = npz(tmp_path, **stored)
    source = Ntu60Npz(path)
    reading = source.read(source.find().units[0])
    assert [clip.columns["names"] for clip in reading.clips] == ["train-00000"]
    assert reading.counts == {NOBODY: 1}
    assert reading.problems == [
        f"{path}: train-00001: no body in any frame",
        f"{path}: train-00002: expected one class, a single 1, found 0 set",
        f"{path}: train-00003: expected one class, a single 1, found 3 set",
        f"{path}: train-00004: expected one class, a single 1, found 1 set",
    ]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f4"])
def test_any_way_of_storing(tmp_path: Path, cache: Path, compressed: bool, dtype: str) -> None:
    stored = arrays(y_train=np.eye(60, dtype=np.int64)[:3])
    stored = {
        name: values.astype(dtype) if name[0] == "x" else values for name, values in stored.items()
    }
    path = tmp_path / "NTU60_CS.npz"
    (np.savez_compressed if compressed else np.savez)(path, **stored)  # type: ignore[arg-type]
    clips = clips_of(Ntu60Npz(path))
    assert [clip.columns["label"] for clip in clips] == [0, 1, 2, 0, 1]
    joints = np.concatenate([clip.joints for clip in clips])
    expected = np.concatenate([stored["x_train"], stored["x_test"]]).astype(np.float32)
    np.testing.assert_array_equal(joints.reshape(-1, 10, 150), expected)


def test_sources_can_be_pickled_and_read_elsewhere(tmp_path: Path) -> None:
    source = Ntu60Npz(npz(tmp_path))
    again, units = pickle.loads(pickle.dumps((source, source.find().units)))
    np.testing.assert_array_equal(again.read(units[1]).clips[0].joints, clips_of(source)[3].joints)
    assert again.expected == source.expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_test": None},
            "x_test: expected an array of this name, found x_train, y_train, y_test; name a .npz",
        ),
        (
            {"x_train": np.zeros((3, 10, 75), "f4")},
            "x_train: expected floating-point .* found float32 of shape",
        ),
        (
            {"x_train": np.zeros((3, 10, 150), "i4")},
            "x_train: expected floating-point .* found int32",
        ),
        ({"x_train": np.zeros((3, 1500), "f4")}, r"found float32 of shape \[3, 1500\]"),
        (
            {"y_train": np.arange(3)},
            r"y_train: expected one-hot .* \[3, 60\], found int64 of shape \[3\]",
        ),
        ({"y_train": np.eye(120)[:3]}, "prepare it as the other edition"),
        ({"y_train": np.eye(60)[:2]}, r"shape \[3, 60\], found float64 of shape \[2, 60\]"),
        ({"y_train": np.array([[b"a"] * 60] * 3)}, "found |S1"),
        ({"y_train": np.array([[None] * 60] * 3)}, "never unpickled"),
        ({name: arrays()[name][:0] for name in arrays()}, "expected at least one clip"),
    ],
)
def test_arrays_of_another_form(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "NTU60_CS.npz"
    np.savez(path, allow_pickle=True, **arrays(**changes))
    with pytest.raises(DataError, match=message) as caught:
        Ntu60Npz(path).find()
    assert "\n" not in str(caught.value)


def test_a_file_cut_short(tmp_path: Path) -> None:
    path = npz(tmp_path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="cut short"):
        Ntu60Npz(path).find()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("NTU60_XSub.npz", "xsub"),
        ("ntu60_cv (1).npz", "xview"),
        ("NTU60_XView.npz", "xview"),
        ("mine.npz", "as stored"),
        ("NTU60_XSet.npz", "as stored"),
    ],
)
def test_the_name_tells_the_split_in_the_words_of_ctr_gcn_and_mamp(
    name: str, split: str, tmp_path: Path
) -> None:
    source = Ntu60Npz(npz(tmp_path, name))
    assert (source.default_split, set(source.splits)) == (split, {split})
    assert set(source.expected) == {split} - {"as stored"}
    assert source.assumed[0].startswith(f"split {split}, ")


def test_arrays_that_are_not_read_are_named(tmp_path: Path) -> None:
    found = Ntu60Npz(
        npz(tmp_path, **arrays(), class_names=np.array(["a"]), fps=np.array(30))
    ).find()
    assert found.counts == {"found": 5, "arrays not read: class_names, fps": 2}
