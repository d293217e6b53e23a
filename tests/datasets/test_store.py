"""The store: opened without reading frames, refused when it is not whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datasets import store as module
from datasets.clips import ClipSet, clip_hash, clip_origins, fingerprint, present_bodies, repeated_clips
from datasets.errors import DataError
from datasets.store import HEADER, INDEX, JOINTS, Header, Part, is_store, open_prepared, open_store, write_store
from tests.datasets.made_up import clip_set


def written(folder: Path, clips: ClipSet, parts: int = 2) -> Header:
    """The clips as a store of several parts."""
    folder.mkdir()
    pieces = []
    for numbers in np.array_split(np.arange(len(clips)), parts):
        frames = np.concatenate([clips.clip(number) for number in numbers])
        pieces.append(Part(frames, clips.lengths[numbers], {k: v[numbers] for k, v in clips.columns.items()}))
    return write_store(
        folder, pieces, clips.joints.shape, name=clips.name, title="Made up", plan="p",
        joint_names=clips.layout.joints, parents=clips.layout.parents, class_names=clips.class_names, fps=clips.fps,
        default_split=clips.default_split, splits={"xview": "view:2->1"}, expected={}, counts={}, problems=(),
    )  # fmt: skip


@pytest.fixture
def clips() -> ClipSet:
    return clip_set(names=np.array(["a", "bb", "ccc", "d", "e", "f"]), view=np.array([1, 2, 1, 2, 1, 2]))


@pytest.fixture
def folder(tmp_path: Path, clips: ClipSet) -> Path:
    written(tmp_path / "store", clips)
    return tmp_path / "store"


def test_a_store_holds_the_clips_to_the_last_bit(folder: Path, clips: ClipSet) -> None:
    found = open_store(folder)
    assert np.array_equal(found.joints, clips.joints.astype(np.float32))
    assert np.array_equal(found.offsets, clips.offsets)
    assert found.columns.keys() == clips.columns.keys()
    for name, values in clips.columns.items():
        assert np.array_equal(found.columns[name], values)
    assert (found.layout, found.class_names, found.fps) == (clips.layout, clips.class_names, clips.fps)
    assert found.splits == {"xview": "view:2->1"}
    assert found.stored is not None
    assert found.stored.fingerprint == fingerprint(clips)
    present = present_bodies(clips)
    assert np.array_equal(found.stored.present, present)
    assert np.array_equal(found.stored.origins, clip_origins(clips, present))
    assert found.stored.hashes.tolist() == [clip_hash(clips.clip(index)) for index in range(len(clips))]


def test_the_number_of_parts_does_not_matter(folder: Path, clips: ClipSet, tmp_path: Path) -> None:
    written(tmp_path / "other", clips, parts=3)
    for name in (HEADER, JOINTS, INDEX):
        assert (tmp_path / "other" / name).read_bytes() == (folder / name).read_bytes()


def test_opening_reads_no_frame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(module, "clip_hash")
    monkeypatch.delattr(module, "Fingerprint")
    assert isinstance(open_store(folder).joints, np.memmap)


def test_repeated_clips_are_found_by_their_hashes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = open_store(folder)
    assert found.stored is not None
    found.stored.hashes[2] = found.stored.hashes[0]
    assert [group.tolist() for group in repeated_clips(found)] == [[0, 2]]


@pytest.mark.parametrize("name", [HEADER, JOINTS, INDEX])
def test_a_store_without_one_of_its_files_is_refused(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert is_store(folder)
    with pytest.raises(DataError, match="prepare it again"):
        open_store(folder)


@pytest.mark.parametrize("name", [JOINTS, INDEX])
def test_a_store_with_a_short_file_is_refused(name: str, folder: Path) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[:-1])
    with pytest.raises(DataError, match=rf"{name}: expected {len(data):,} bytes, found {len(data) - 1:,}"):
        open_store(folder)


@pytest.mark.parametrize("change", [{"version": 99}, {"fps": "fast"}, {"more": 1}])
def test_a_header_of_another_kind_is_refused(change: dict[str, object], folder: Path) -> None:
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps(header | change))
    with pytest.raises(DataError, match="prepare it again"):
        open_store(folder)


def test_a_folder_without_a_store_is_none(tmp_path: Path) -> None:
    assert not is_store(tmp_path)
    with pytest.raises(DataError, match="expected a prepared store"):
        open_store(tmp_path)


def test_a_prepared_data_set_is_found_by_its_name(
    folder: Path, clips: ClipSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKED_SKELETON_DATA", str(tmp_path))
    assert len(open_prepared("store")) == len(clips)
    with pytest.raises(
        DataError, match=r"ntu60 is not prepared here .*python -m harness data prepare ntu60 --raw FOLDER"
    ):
        open_prepared("ntu60")
