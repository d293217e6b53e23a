"""The clips in the size of NTU RGB+D 60, a few of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.checks import validate
from datasets.clips import ClipSet, fingerprint, present_bodies
from datasets.errors import DataError
from datasets.splits import make_split
from datasets.synthetic import ntu60_sized


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    return ntu60_sized.generate(300, 100)


def test_sizes_lengths_and_bodies_are_like_ntus(clips: ClipSet) -> None:
    validate(clips)
    split = make_split(clips, "xsub", validation=0)
    assert (len(split.train), len(split.test)) == (300, 100)
    assert clips.lengths.min() >= ntu60_sized.SHORTEST
    assert clips.lengths.max() <= ntu60_sized.LONGEST
    assert np.median(clips.lengths) == pytest.approx(ntu60_sized.MEDIAN, rel=0.15)
    assert present_bodies(clips)[:, 1].mean() == pytest.approx(ntu60_sized.TWO_BODIES, abs=0.06)


def test_the_same_clips_every_time_and_no_two_alike(clips: ClipSet) -> None:
    again = ntu60_sized.generate(300, 100)
    assert fingerprint(again) == fingerprint(clips)
    assert not len(make_split(clips, "xsub", validation=0).leaked)


def test_they_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKED_SKELETON_CACHE", str(tmp_path))
    monkeypatch.setattr(ntu60_sized, "TRAIN", 6)
    monkeypatch.setattr(ntu60_sized, "TEST", 4)
    monkeypatch.setattr(ntu60_sized, "_BLOCK", 3)
    first = ntu60_sized.load()
    monkeypatch.delattr(ntu60_sized, "generate")
    again = ntu60_sized.load()
    assert np.array_equal(first.joints, again.joints)
    assert first.stored is not None
    assert again.joints.dtype == np.float16
    assert first.stored.fingerprint == fingerprint(again)


def test_a_cache_that_is_full_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("MASKED_SKELETON_CACHE", str(tmp_path))
    monkeypatch.setattr(ntu60_sized, "generate", lambda train, test: None)
    monkeypatch.setattr(ntu60_sized, "keep", full)
    with pytest.raises(
        DataError, match=r"No space left on device; set MASKED_SKELETON_CACHE to a folder with 2 GB"
    ):
        ntu60_sized.load()
