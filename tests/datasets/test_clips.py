"""Clip sets in memory: the checks, fingerprints and repeated clips; and the recorded files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets import clips
from datasets.checks import validate
from datasets.clips import fingerprint, frame_blocks, repeated_clips
from datasets.errors import DataError
from datasets.formats.npz import read_npz, write_npz
from tests.datasets.made_up import clip_set, frames, needs_recordings, recorded


def test_clip_sets_in_memory_are_called_by_their_name() -> None:
    with pytest.raises(DataError, match=r"^made_up: label: expected integers of shape"):
        validate(clip_set(label=[0, 1]))


def test_a_clip_set_needs_a_subject_column() -> None:
    whole = clip_set()
    with pytest.raises(DataError, match="subject: expected a column of this name, found label"):
        validate(replace(whole, columns={"label": whole.columns["label"]}))


def test_layout_must_fit_the_joints() -> None:
    whole = clip_set()
    with pytest.raises(
        DataError, match=r"joint_names: expected shape \[4\], one per joint, found \[5\]"
    ):
        validate(replace(whole, joints=whole.joints[:, :, :4]))


# --- fingerprints and repeated clips ---


def test_fingerprint_is_of_the_values_not_of_their_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = frames(15).astype(np.float16)
    stored = replace(clip_set(), joints=half)
    expected = fingerprint(replace(stored, joints=half.astype(np.float32)))
    assert len(expected) == 64
    assert fingerprint(stored) == expected
    monkeypatch.setattr(clips, "BLOCK_BYTES", 1)
    assert fingerprint(replace(stored, joints=np.asfortranarray(half))) == expected
    write_npz(tmp_path / "half.npz", stored)
    assert fingerprint(read_npz(tmp_path / "half.npz", memory_limit=0)) == expected


def test_fingerprint_tells_every_part_apart() -> None:
    whole = clip_set()
    moved = whole.joints.copy()
    moved[0, 0, 0, 0] += 1
    layout = replace(whole.layout, parents=(-1, 0, 1, 2, 2))
    others = [
        replace(whole, joints=moved),
        replace(whole, offsets=np.array([0, 2, 5, 9, 10, 13, 15])),
        clip_set(label=[1, 1, 0, 1, 0, 1]),
        clip_set(subject=[2, 2, 3, 4, 5, 6]),
        replace(whole, class_names=("wave", "jump")),
        replace(whole, layout=layout),
    ]
    assert len({fingerprint(other) for other in (whole, *others)}) == 7


def test_fingerprint_leaves_name_and_extra_columns_out() -> None:
    assert fingerprint(replace(clip_set(view=range(6)), name="other")) == fingerprint(clip_set())


def test_repeated_clips_are_grouped() -> None:
    whole = clip_set((2, 3, 2, 2, 3, 1))
    parts = [whole.clip(index) for index in range(6)]
    parts[3] = parts[0]
    parts[4] = parts[1]
    parts[2] = parts[0]
    groups = repeated_clips(replace(whole, joints=np.concatenate(parts)))
    assert [group.tolist() for group in groups] == [[0, 2, 3], [1, 4]]


def test_a_clip_that_begins_like_another_is_not_repeated() -> None:
    whole = clip_set((2, 3))
    joints = np.concatenate([whole.clip(0), whole.clip(0), whole.clip(1)[:1]])
    assert repeated_clips(replace(whole, joints=joints)) == ()


def test_negative_zero_repeats_zero() -> None:
    whole = clip_set((1, 1))
    joints = np.repeat(whole.joints[:1], 2, axis=0)
    joints[:, 0, 0] = [[0.0], [-0.0]]
    assert len(repeated_clips(replace(whole, joints=joints))) == 1


def test_frame_blocks_cover_all_frames_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    joints = frames(7)
    monkeypatch.setattr(clips, "BLOCK_BYTES", 3 * joints[0].nbytes)
    blocks = list(frame_blocks(joints))
    assert [first for first, _ in blocks] == [0, 3, 6]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), joints)


# --- recorded data ---


@needs_recordings
@pytest.mark.parametrize(
    ("name", "clip_count", "shape", "class_count", "subject_count"),
    [
        ("msrc12", 6226, (515_632, 1, 20, 3), 12, 30),
        ("nwucla", 1484, (58_534, 1, 20, 3), 10, 10),
        ("uiprmd", 2000, (151_158, 1, 22, 3), 10, 10),
        ("utdmhad", 861, (58_299, 1, 20, 3), 27, 8),
    ],
)
def test_recorded_files_are_read_as_their_readme_says(
    name: str, clip_count: int, shape: tuple[int, ...], class_count: int, subject_count: int
) -> None:
    read = recorded(name)
    assert (len(read), read.joints.shape, len(read.class_names)) == (clip_count, shape, class_count)
    assert len(np.unique(read.columns["subject"])) == subject_count


@needs_recordings
def test_nwucla_repeats_exactly_its_95_twins() -> None:
    read = recorded("nwucla")
    expected = {
        (clip, twin) for clip, twin in enumerate(read.columns["twin"].tolist()) if clip < twin
    }
    assert {tuple(group.tolist()) for group in repeated_clips(read)} == expected
    assert len(expected) == 95
