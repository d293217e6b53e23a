"""From the source to the batch: nothing is lost on the way through a store,
and both routes of NTU RGB+D agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.clips import ClipSet, fingerprint
from datasets.formats.npz import read_npz
from datasets.formats.store import open_store
from datasets.raw import open_source
from datasets.raw.prepare import prepare
from datasets.splits import make_split
from harness.errors import UsageError
from harness.spec.model import DataSpec
from harness.training.data import load_data
from tests.datasets.raw.made_up_ntu import write_tree
from tests.harness.small_run import CPU, small_file, small_spec


def store(name: str, raw: Path, folder: Path) -> Path:
    return prepare(open_source(name, raw), name, folder, workers=1).folder


def batches(path: Path, split: str, count: int = 3) -> list[Tensor]:
    """The first training batches of a store or a file."""
    data = load_data(DataSpec(name=str(path), split=split, validation=0, min_crop=8), CPU, patch=4)
    made = data.batches(small_spec(data, seed=5), 16)
    return [made.next() for _ in range(count)]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_exchange_file_comes_out_of_a_store_as_it_went_in(tmp_path: Path, dtype: type) -> None:
    source = read_npz(small_file(tmp_path))
    path = tmp_path / "source.npz"
    arrays = dict(np.load(small_file(tmp_path)))
    np.savez(path, allow_pickle=False, **arrays | {"joints": arrays["joints"].astype(dtype)})
    clips = open_store(store("npz", path, tmp_path / "store"))
    assert np.array_equal(clips.joints, arrays["joints"].astype(dtype).astype(np.float32))
    assert np.array_equal(clips.offsets, source.offsets)
    assert clips.stored is not None
    assert clips.stored.fingerprint == fingerprint(read_npz(path))
    for one, other in zip(batches(path, "xsub"), batches(tmp_path / "store", "xsub"), strict=True):
        assert torch.equal(one, other)


def ctr_gcn_file(clips: ClipSet, path: Path) -> None:
    """The clips as CTR-GCN's preparation writes them: sides in the order of the names,
    padded to 300 frames.
    """
    split = make_split(clips, "xsub", validation=0)
    arrays = {}
    for side, numbers in (("train", split.train), ("test", split.test)):
        x = np.zeros((len(numbers), 300, 150), np.float32)
        for row, number in enumerate(numbers):
            clip = clips.clip(number)
            x[row, : len(clip)] = clip.reshape(len(clip), 150)
        arrays |= {f"x_{side}": x, f"y_{side}": np.eye(60)[clips.columns["label"][numbers]]}
    np.savez(path, allow_pickle=False, **arrays)


def test_the_raw_and_the_npz_route_of_ntu_end_in_equal_batches(tmp_path: Path) -> None:
    write_tree(tmp_path / "raw", 24, seed=0, subjects=4, actions=3)
    raw = store("ntu60", tmp_path / "raw", tmp_path / "of-raw")
    ctr_gcn_file(open_store(raw), tmp_path / "NTU60_CS.npz")
    npz = store("ntu60", tmp_path / "NTU60_CS.npz", tmp_path / "of-npz")
    pairs = list(zip(batches(raw, "xsub"), batches(npz, "xsub"), strict=True))
    assert all(torch.equal(one, other) for one, other in pairs)
    assert pairs[0][0].any()
    assert not torch.equal(*(pair[0] for pair in pairs[:2]))


def test_who_is_on_which_side_is_part_of_a_runs_address(tmp_path: Path) -> None:
    path = small_file(tmp_path)
    found = [
        load_data(
            DataSpec(name=str(path), split=split, validation=share), CPU, patch=4
        ).spec.fingerprint
        for split, share in (("xsub", 0.2), ("subject:1,3->*", 0.2), ("xsub", 0.5), ("xsub", 0.2))
    ]
    assert len({text.partition("-")[0] for text in found}) == 1
    assert len(set(found)) == 3
    assert found[0] == found[3]


def test_a_training_part_of_one_class_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    arrays = dict(np.load(small_file(tmp_path)))
    np.savez(path, allow_pickle=False, **arrays | {"label": np.zeros_like(arrays["label"])})
    with pytest.raises(UsageError, match="expected training clips of two or more classes, found"):
        load_data(DataSpec(name=str(path), validation=0), CPU, patch=4)
