"""Several data sets at once: one skeleton, their training sides together, each probed apart."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.batches import BodySequences, Look, TrainingBatches, pooled
from datasets.clips import ClipSet
from datasets.formats.npz import write_npz
from datasets.layouts import layout_from_parents
from harness.errors import UsageError
from harness.evaluation.probes import over_sets
from harness.records.evaluations import Evaluations
from harness.records.schema import RunRecord
from harness.records.store import RecordStore, read_records
from harness.report.folder import folder_tables
from harness.spec.model import DataSpec
from harness.training.data import LoadedData, load_data
from harness.training.distributed import Ranks
from tests.harness.made_up_records import accuracy
from tests.harness.small_run import CPU, JOINTS, PARENTS, SMALL, harness, small_clips, small_spec


def other_clips() -> ClipSet:
    """Other people than those of `small_clips`, two classes and two bodies of the same skeleton."""
    clips = small_clips(bodies=2)
    kept = np.flatnonzero(clips.columns["label"] < 2)
    frames = [clips.clip(index) * np.float32(1.1) for index in kept]
    return replace(
        clips,
        name="other",
        joints=np.concatenate(frames),
        offsets=np.cumsum([0, *map(len, frames)]),
        columns={name: values[kept] for name, values in clips.columns.items()},
        class_names=clips.class_names[:2],
    )


def files(folder: Path) -> tuple[Path, Path]:
    """Both sets as files."""
    paths = folder / "small.npz", folder / "other.npz"
    for path, clips in zip(paths, (small_clips(), other_clips()), strict=True):
        write_npz(path, clips)
    return paths


def both(folder: Path) -> str:
    return "+".join(map(str, files(folder)))


def loaded(name: str | Path, **data: Any) -> LoadedData:
    return load_data(DataSpec(name=str(name), min_crop=8, **data), CPU, patch=4)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on both sets at once, evaluated by a protocol,
    and one set by itself beside them.
    """
    folder = tmp_path_factory.mktemp("pool")
    ran = run(folder, both(folder), "--protocols", "knn", out="both")
    assert ran.code == 0, ran.err
    assert run(folder, str(folder / "other.npz"), out="alone").code == 0
    return folder


def run(folder: Path, name: str, *words: str, out: str) -> Any:
    return harness(
        "run",
        "--methods",
        "gfp,skeletonmae",
        "--dataset",
        name,
        *SMALL,
        *words,
        "--out",
        folder / out,
    )


def record(out: Path, label: str) -> RunRecord:
    return next(record for record in RecordStore(out).runs() if record.label == label)


# --- the data ---


def test_training_sides_come_together_and_each_set_keeps_its_own(tmp_path: Path) -> None:
    paths = files(tmp_path)
    alone, pool = [loaded(path) for path in paths], loaded("+".join(map(str, paths)))
    assert [part.spec.fingerprint for part in pool.parts] == [one.spec.fingerprint for one in alone]
    assert pool.spec.fingerprint == "+".join(one.spec.fingerprint for one in alone)
    assert len(pool.sequences) == sum(len(one.sequences) for one in alone)
    assert pool.split.test.tolist() == [
        *alone[0].split.test.tolist(),
        *(alone[1].split.test + len(alone[0].clips)).tolist(),
    ]
    assert set(pool.labels[: len(alone[0].clips)]) == {0, 1, 2}
    assert set(pool.labels[len(alone[0].clips) :]) == {3, 4}
    assert pool.class_names[3] == "other: wave"


@pytest.mark.parametrize("mapped", [False, True])
def test_a_sequence_has_the_frames_of_its_set(tmp_path: Path, mapped: bool) -> None:
    sets = [small_clips(), other_clips()]
    if mapped:  # all frames, with those of absent bodies between
        np.save(tmp_path / "joints.npy", sets[1].joints)
        sets[1] = replace(sets[1], joints=np.load(tmp_path / "joints.npy", mmap_mode="r"))
    alone, parts = ([BodySequences(clips, CPU) for clips in sets] for _ in range(2))
    assert alone[1].stride == (2 if mapped else 1)
    pool, first = pooled(parts), 0
    for one, part in zip(alone, parts, strict=True):
        numbers = torch.arange(len(one))
        start = torch.zeros_like(one.length)
        expected = one.window(numbers, start, one.length, 12)
        assert torch.equal(pool.window(numbers + first, start, one.length, 12), expected)
        assert torch.equal(part.window(numbers, start, one.length, 12), expected)
        assert part.rows.untyped_storage().data_ptr() == pool.rows.untyped_storage().data_ptr()
        first += len(one)


def drawn(pool: LoadedData, groups: Any) -> torch.Tensor:
    """How often an epoch draws each training sequence."""
    batches = TrainingBatches(
        pool.bodies, pool.sequences, size=4, looks=[Look(8)], seed=0, groups=groups
    )
    return torch.bincount(batches.epoch(), minlength=len(pool.bodies))


def test_by_size_each_clip_comes_as_often_as_any_and_evenly_each_set(tmp_path: Path) -> None:
    pool = loaded(both(tmp_path))
    large, small = pool.groups
    assert len(large) > len(small)
    by_size, even = drawn(pool, ()), drawn(pool, pool.groups)
    assert (by_size[pool.sequences] == 1).all()
    assert even[large].sum() == even[small].sum() == len(large)
    assert (even[large] == 1).all()
    assert even[small].max() - even[small].min() <= 1


@pytest.mark.parametrize("sampling", ["size", "even"])
def test_ranks_have_the_batches_of_one_process_in_parts(sampling: str, tmp_path: Path) -> None:
    pool = loaded(both(tmp_path), sampling=sampling)
    whole, *parts = (
        replace(pool, ranks=Ranks(rank, size)).batches(small_spec(pool), 24)
        for rank, size in ((0, 1), (0, 2), (1, 2))
    )
    for _ in range(2 * len(pool.sequences) // whole.size):  # into the next epochs
        assert torch.equal(whole.next(), torch.cat([part.next() for part in parts]))


def test_a_clip_that_one_set_trains_on_and_another_tests_on_is_found(tmp_path: Path) -> None:
    clips = small_clips()
    swapped = replace(clips, columns={**clips.columns, "subject": clips.columns["subject"] % 6 + 1})
    for path, one in zip((tmp_path / "a.npz", tmp_path / "b.npz"), (clips, swapped), strict=True):
        write_npz(path, one)
    name = f"{tmp_path / 'a.npz'}+{tmp_path / 'b.npz'}"
    side = len(loaded(tmp_path / "a.npz").split.train) + len(
        loaded(tmp_path / "a.npz").split.validation
    )
    expected = f"{side} training-side clips of a have exactly the joints of test clips of b"
    assert any(expected in note for note in loaded(name).notes)


def test_drop_leaks_takes_them_out(tmp_path: Path) -> None:
    clips = small_clips()
    odd = clips.columns["subject"] % 2 == 1
    subject = np.where(
        odd & (clips.columns["label"] == 0), 2, clips.columns["subject"]
    )  # tested on there
    for path, one in (
        (tmp_path / "a.npz", clips),
        (tmp_path / "b.npz", replace(clips, columns={**clips.columns, "subject": subject})),
    ):
        write_npz(path, one)
    pool = loaded(f"{tmp_path / 'a.npz'}+{tmp_path / 'b.npz'}", drop_leaks=True)
    assert not (pool.parts[0].labels[pool.parts[0].split.train] == 0).any()
    assert not any("exactly the joints" in note for note in pool.notes)
    assert any("another of the sets tests on are dropped" in note for note in pool.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"split": "xsub+xsub+xsub"},
            "--split xsub+xsub+xsub: expected one for all data sets or one for each of",
        ),
        (
            {"label": "label+label+label"},
            "--label label+label+label: expected one for all data sets",
        ),
    ],
)
def test_what_cannot_be_pooled_is_one_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as error:
        loaded(both(tmp_path), **change)
    assert "\n" not in str(error.value)


def test_another_skeleton_is_one_line(tmp_path: Path) -> None:
    first, _ = files(tmp_path)
    clips = small_clips()
    fewer = replace(
        clips, joints=clips.joints[:, :, :4], layout=layout_from_parents(JOINTS[:4], PARENTS[:4])
    )
    write_npz(tmp_path / "four.npz", fewer)
    with pytest.raises(
        UsageError,
        match=r"expected one skeleton, found 5 joints \(custom\) in small and 4 \(custom\)",
    ):
        loaded(f"{first}+{tmp_path / 'four.npz'}")


def test_mistakes_in_the_names_are_one_line(tmp_path: Path) -> None:
    first, _ = files(tmp_path)
    for name, message in (
        (f"{first}+", "on both sides of every"),
        (f"{first}+{first}", "more than once"),
    ):
        with pytest.raises(UsageError, match=message):
            loaded(name)


def test_a_file_with_a_plus_in_its_name_is_one_set(tmp_path: Path) -> None:
    path = tmp_path / "a+b.npz"
    write_npz(path, small_clips())
    assert loaded(path).parts == ()


def test_a_swapped_split_swaps_every_set(tmp_path: Path) -> None:
    plain, turned = (
        loaded(both(tmp_path), split=split, validation=0) for split in ("xsub", "xsub swapped")
    )
    assert turned.spec.split == "xsub+xsub swapped"
    for one, other in zip(plain.parts, turned.parts, strict=True):
        assert one.split.test.tolist() == other.split.train.tolist()
    again = loaded(both(tmp_path), split=turned.spec.split, validation=0)
    assert again.spec.fingerprint == turned.spec.fingerprint


# --- the probes ---


def test_figures_of_all_sets_count_every_clip_alike(tmp_path: Path) -> None:
    pool = loaded(both(tmp_path))
    tests = [len(part.split.test) for part in pool.parts]
    found = [
        accuracy(share).model_copy(
            update={"selection": share, "test_clips": clips, "linear_validation": share}
        )
        for share, clips in zip((0.5, 1.0), tests, strict=True)
    ]
    together = over_sets(found, pool)
    assert together.linear_test == pytest.approx((0.5 * tests[0] + tests[1]) / sum(tests))
    assert together.selection == pytest.approx(0.75)
    assert together.test_clips == sum(tests)
    assert together.linear_validation
    assert together.sets == tuple(found)


@pytest.mark.parametrize("label", ["random-init", "raw-pca"])
def test_a_control_on_one_of_the_sets_is_that_of_the_set_alone(out: Path, label: str) -> None:
    together, alone = record(out / "both", label).on(1), record(out / "alone", label)
    assert together.accuracy == alone.accuracy
    assert (together.data.fingerprint, together.data.test_clips) == (
        alone.data.fingerprint,
        alone.data.test_clips,
    )
    assert (together.data.training_people, together.data.test_people) == (3, 3)


def test_every_evaluation_of_a_run_is_of_each_set(out: Path) -> None:
    found = record(out / "both", "gfp")
    assert [len(point.accuracy.sets) for point in found.curve] == [2, 2]
    assert found.accuracy
    assert [one.test_clips for one in found.accuracy.sets] == [
        one.test_clips for one in found.data.sets
    ]


def test_a_folder_has_a_table_of_all_and_one_of_each_set(out: Path) -> None:
    headings = [table.heading for table in folder_tables(read_records(out / "both"))]
    assert headings == ["runs", f"on {out / 'small.npz'}", f"on {out / 'other.npz'}"]
    page = (out / "both" / "table.md").read_text()
    assert f"- set {out / 'other.npz'} (" in page
    assert "people 3 / 3" in page
    assert f"- linear on {out / 'other.npz'}, probed apart: gfp " in page


def test_a_protocol_evaluates_on_each_set(out: Path) -> None:
    found = [one for one in Evaluations(out / "both").all() if one.label == "gfp"]
    sets = record(out / "both", "gfp").data.sets
    assert sorted((one.of_set, one.data, len(one.predictions)) for one in found) == sorted(
        (one.name, one.fingerprint, one.test_clips) for one in sets
    )
    assert all(Evaluations(out / "both").test_clips(one.fingerprint) for one in sets)
    table = (out / "both" / "evaluations.md").read_text()
    assert f"knn on {out / 'other.npz'}" in table


def test_comparisons_are_of_each_set(out: Path) -> None:
    compared = harness("compare", out / "both")
    assert compared.code == 0
    page = (out / "both" / "compare.md").read_text()
    for name in ("small", "other"):
        assert f"## linear, on {out / f'{name}.npz'}" in page
        assert f"## protocol knn, on {out / f'{name}.npz'}" in page
    assert page.count("## protocol") == 2


def test_records_of_several_sets_are_verified(out: Path) -> None:
    outcome = harness("verify", out / "both")
    assert outcome.code == 0, outcome.out


def test_the_plan_shows_the_sets(tmp_path: Path) -> None:
    outcome = harness(
        "plan",
        "--methods",
        "gfp",
        "--dataset",
        both(tmp_path),
        *SMALL,
        "--rate",
        "1e9",
        "--out",
        tmp_path / "new",
    )
    assert outcome.code == 0, outcome.err
    assert sum(line.startswith(f"set {tmp_path}") for line in outcome.lines) == 2
