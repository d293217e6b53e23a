"""The waterfall: what each switch changes, where a stage's batches come from,
and a whole small measurement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from datasets.batches import TrainingBatches
from datasets.formats.npz import write_npz
from datasets.published_feeder import FeederBatches, PaddedClips, PublishedClips
from harness.errors import UsageError
from harness.progress import Reporter, make_console
from harness.runs.experiment import Experiment, Request, resolve_request
from harness.spec.model import DataSpec, MethodSpec, ProbeSpec, RunSpec, TrainSpec
from harness.speed import measurement
from harness.speed.measurement import Measurement, Timing, timed_trainer
from harness.studies.explain import (
    STAGES,
    Stage,
    ends,
    explain,
    loader_workers,
    staged,
    staged_cells,
    stages_on,
)
from harness.training.data import LoadedData, load_data
from harness.training.trainer import Trainer
from tests.harness.made_up_records import ENVIRONMENT
from tests.harness.small_run import CPU, ENCODER, FRAMES, registry, small_clips, small_spec

# From Python 3.12 on a fork after torch has started threads is a warning; the workers touch none of
# them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

PLAIN = RunSpec(method=MethodSpec(name="gfp"))


def flat(spec: RunSpec) -> dict[str, Any]:
    plain = spec.model_dump()
    return {
        f"{part}.{key}": value for part in ("data", "train") for key, value in plain[part].items()
    }


def changes(before: RunSpec, after: RunSpec) -> dict[str, Any]:
    """What is different after; methods, encoder, probes, seed and device must not be."""
    sections: Any = {"data", "train"}
    assert before.model_dump(exclude=sections) == after.model_dump(exclude=sections)
    one, two = flat(before), flat(after)
    return {key: value for key, value in two.items() if value != one[key]}


# --- stages ---


def test_every_stage_changes_exactly_what_it_says() -> None:
    specs = [PLAIN, *(spec for _, spec in staged(PLAIN))]
    found = {
        stage.name: changes(*pair) for stage, pair in zip(STAGES, pairwise(specs), strict=True)
    }
    assert found == {
        "as published": {
            "data.include_empty_bodies": True,
            "data.loader": "published",
            "train.fused_attention": False,
            "train.fused_optimizer": False,
            "train.scale_scores": True,
            "train.gradient_norm": True,
            "train.gradient_scaler": True,
            "train.synchronise": True,
        },
        "feeder without detours": {"data.loader": "workers"},
        "batches made on the device": {"data.loader": "device"},
        "present bodies only": {"data.include_empty_bodies": False},
        "no gradient norm": {"train.gradient_norm": False},
        "no gradient scaler": {"train.gradient_scaler": False},
        "no synchronisation in a step": {"train.synchronise": False},
        "queries scaled, not scores": {"train.scale_scores": False},
        "fused attention": {"train.fused_attention": True},
        "bf16": {"train.precision": "bf16"},
        "fused AdamW": {"train.fused_optimizer": True},
        "compiled": {"train.compile": True},
    }


@pytest.mark.parametrize(
    ("device", "change"),
    [("cpu", {"train.attention_precision": "fp32"}), ("cuda", {"train.sdpa": "cudnn-first"})],
)
def test_the_last_stage_is_the_devices_own(device: str, change: dict[str, str]) -> None:
    stages = stages_on(device)
    before, after = (spec for _, spec in staged(PLAIN, stages)[-2:])
    assert (stages[:-1], changes(before, after)) == (STAGES, change)


def test_as_published_switches_everything_off_that_was_on() -> None:
    train = TrainSpec(precision="bf16", compile=True, cuda_graphs=True)
    everything = PLAIN.model_copy(update={"train": train})
    assert STAGES[0].applied(everything) == STAGES[0].applied(PLAIN)


def test_what_no_stage_names_is_left_as_it_was() -> None:
    train = TrainSpec(lr=0.1, batch_size=6, budget="3ep")
    spec = PLAIN.model_copy(update={"train": train, "data": DataSpec(crop=(0.7, 0.8), workers=5)})
    last = staged(spec)[-1][1]
    assert changes(spec, last) == {"train.precision": "bf16", "train.compile": True}


@pytest.mark.parametrize(
    "stages", [STAGES[:2], STAGES[:4], STAGES[:8], stages_on("cpu"), stages_on("cuda")]
)
def test_the_two_ends_equal_all_stages_one_after_the_other(stages: Sequence[Stage]) -> None:
    every, two = staged(PLAIN, stages), staged(PLAIN, ends(stages))
    assert [stage.name for stage, _ in two] == ["as published", "every switch on"]
    assert [spec for _, spec in two] == [every[0][1], every[-1][1]]


def test_an_impossible_combination_is_an_error() -> None:
    with pytest.raises(ValidationError, match="include_empty_bodies=true"):
        Stage("workers alone", {"loader": "workers"}).applied(PLAIN)


# --- the data of a stage ---


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two body slots, the second empty in every training clip (odd subjects)."""
    file = tmp_path_factory.mktemp("explain") / "two.npz"
    write_npz(file, small_clips(bodies=2))
    return file


@pytest.fixture(scope="module")
def data(path: Path) -> LoadedData:
    return load_data(DataSpec(name=str(path), min_crop=8, workers=1), CPU, patch=4)


def test_the_counterpart_has_the_empty_bodies_too(data: LoadedData) -> None:
    clips = len(data.split.train)
    assert clips == 6  # 3 of each of 2 subjects; the third is held out
    other = data.counterpart
    assert (len(data.sequences), len(other.sequences)) == (6, 12)
    assert (data.bodies_per_clip, other.bodies_per_clip) == (1, 2)
    assert int(other.bodies.present[other.sequences].sum()) == 6
    assert other.clips is data.clips
    assert np.array_equal(other.split.train, data.split.train)


def test_data_turns_into_its_counterpart_only_where_asked(data: LoadedData) -> None:
    same, other = (
        data.spec.model_copy(update={"include_empty_bodies": empty}) for empty in (False, True)
    )
    assert data.as_in(same) is data
    assert data.as_in(other) is data.as_in(other) is data.counterpart
    assert data.counterpart.as_in(other) is data.counterpart
    assert len(data.counterpart.as_in(same).sequences) == len(data.sequences)


def test_padded_clips_are_the_training_clips(data: LoadedData) -> None:
    assert data.padded.shape == (6, 3, 300, 5, 2)
    lengths = np.diff(data.clips.offsets)[data.split.train]
    assert [int(clip.any(axis=(0, 2, 3)).sum()) for clip in data.padded] == lengths.tolist()


def test_the_loader_decides_where_batches_come_from(data: LoadedData) -> None:
    specs = [spec for _, spec in staged(small_spec(data, seed=3), STAGES[:3])]
    *fed, last = (data.as_in(spec.data).batches(spec, FRAMES) for spec in specs)
    for batches, clips in zip(fed, (PublishedClips, PaddedClips), strict=True):
        assert isinstance(batches, FeederBatches)
        assert type(batches.dataset) is clips
        assert (batches.loader.num_workers, batches.loader.batch_size) == (
            1,
            2,
        )  # 4 body sequences are 2 clips
    assert isinstance(last, TrainingBatches)
    for batches in (*fed, last):
        assert batches.size == 4
        assert batches.sample().shape == (4, FRAMES, 5, 3)


def test_every_loader_makes_the_same_sequences_of_whole_clips(data: LoadedData) -> None:
    whole = data.spec.model_copy(update={"crop": (1.0, 1.0), "rotation": 0.0})
    spec = small_spec(data, batch_size=12).model_copy(update={"data": whole})
    found = []
    for _, stage in staged(spec, STAGES[:3]):  # 12 sequences: every training clip
        batch = data.as_in(stage.data).batches(stage, FRAMES).sample()
        found.append(batch[batch.flatten(1).norm(dim=1).sort().indices])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], found[2], rtol=0, atol=1e-5)
    assert int(found[0].flatten(1).any(dim=1).sum()) == 6


# --- a whole measurement ---

QUICK = (*STAGES[:4], *STAGES[7:9])  # the last ones need bf16 kernels and a compiler
METHODS = ("encoder-only", "skeletonmae")


def experiment(path: Path, out: Path, **changes: Any) -> Experiment:
    request = Request(
        methods=[MethodSpec(name=name) for name in METHODS],
        seeds=[0],
        encoder=ENCODER,
        data=DataSpec(name=str(path), min_crop=8, workers=1),
        train=TrainSpec(batch_size=4),
        probe=ProbeSpec(),
        device="cpu",
        out=out,
        speed_seconds=0.05,
        **changes,
    )
    return resolve_request(request, registry())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("waterfall")


@pytest.fixture(scope="module")
def trainers() -> list[Trainer]:
    return []


@pytest.fixture(scope="module")
def measured(path: Path, out: Path, trainers: list[Trainer]) -> Iterator[Measurement]:
    def noted(*arguments: Any) -> Trainer:
        trainers.append(timed_trainer(*arguments))
        return trainers[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "timed_trainer", noted)
        yield explain(experiment(path, out), Reporter(make_console()), QUICK)


def test_cells_carry_method_and_stage(path: Path, tmp_path: Path) -> None:
    made = experiment(path, tmp_path)
    cells = staged_cells(made, made.entries[1], QUICK)
    assert [cell.label for cell in cells] == [f"skeletonmae @ {stage.name}" for stage in QUICK]
    assert [cell.spec for cell in cells] == [
        spec for _, spec in staged(made.run_spec(made.entries[1].spec, 0), QUICK)
    ]


@pytest.mark.parametrize(
    ("device", "cores", "asked", "workers"),
    [
        ("cpu", 16, {}, 2),
        ("GPU", 16, {}, 8),
        ("GPU", 64, {}, 8),
        ("GPU", 6, {}, 3),
        ("GPU", 2, {}, 2),
        ("GPU", 16, {"workers": 2}, 2),
        ("GPU", 16, {"workers": 12}, 12),
    ],
)
def test_a_gpus_loader_has_more_workers_where_there_are_processors(
    device: str, cores: int, asked: dict[str, int], workers: int
) -> None:
    environment = ENVIRONMENT.model_copy(update={"device": device, "cores": cores})
    assert loader_workers(DataSpec(**asked), environment) == workers


def test_every_stage_of_both_methods_is_an_arm(measured: Measurement) -> None:
    assert measured.failures == {}
    labels = [f"{method} @ {stage.name}" for method in METHODS for stage in QUICK]
    assert [arm.label for arm in measured.record.arms] == labels
    assert measured.record.baseline == "skeletonmae @ as published"
    assert {len(arm.blocks) for arm in measured.record.arms} == {measured.record.same.pairs}
    own = measured.record.arm("skeletonmae @ as published")
    assert own is not None
    assert own.ratio.value == 1


def test_a_method_with_its_own_encoder_is_refused_before_any_work(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Timing, "warm_up")
    made = experiment(path, tmp_path)
    entry = made.entries[0]
    opened = type(
        "Opened", (entry.method,), {"about": replace(entry.method.about, division="open")}
    )
    for entries in (
        [replace(entry, method=opened), made.entries[1]],
        [made.entries[1], replace(entry, method=opened)],
    ):
        made.entries[:] = entries
        with pytest.raises(
            UsageError, match=r"encoder-only brings its own encoder \(open division\): no speedup"
        ):
            explain(made, Reporter(make_console()), QUICK)


def test_a_batch_of_half_clips_is_one_line_before_any_work(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Timing, "warm_up")
    made = experiment(path, tmp_path)
    odd = made.request.train.model_copy(update={"batch_size": 151})
    with pytest.raises(
        UsageError, match=r"batch size 151: .* 2 body slots each; give --batch-size 256, say$"
    ):
        explain(
            replace(made, request=replace(made.request, train=odd)), Reporter(make_console()), QUICK
        )


def test_an_arm_counts_the_clips_of_its_own_batches(measured: Measurement) -> None:
    # 4 body sequences: 2 clips while empty bodies are batched, 4 of the one body that is there
    # afterwards
    assert [arm.clips for arm in measured.record.arms] == [2, 2, 2, 4, 4, 4] * 2
    for arm in measured.record.arms:
        assert arm.clips_per_second == pytest.approx(arm.clips / arm.step_seconds)


def test_an_arm_trains_as_its_stage_says(measured: Measurement, trainers: list[Trainer]) -> None:
    assert [isinstance(trainer.batches, FeederBatches) for trainer in trainers] == [True] * 2 + [
        False
    ] * 4 + [True] * 2 + [False] * 4
    assert [trainer.train.scale_scores for trainer in trainers] == [*[True] * 4, False, False] * 2
    assert [trainer.train.fused_attention for trainer in trainers] == [*[False] * 5, True] * 2
    assert {trainer.train.fused_optimizer for trainer in trainers} == {False}


def test_every_counted_block_is_in_the_records_health(measured: Measurement) -> None:
    found = measured.record.health
    assert found is not None
    assert found.blocks == 13 * measured.record.same.pairs  # 12 arms and the baseline once more
    assert (found.repeated, found.disturbed) == (0, 0)


def test_the_record_lies_with_the_others_and_is_not_measured_twice(
    path: Path, out: Path, measured: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Timing, "warm_up")
    again = explain(experiment(path, out), Reporter(make_console()), QUICK)
    assert again.record == measured.record
    assert again.failures == {}
    with pytest.raises(AttributeError, match="warm_up"):
        explain(experiment(path, out, rerun=True), Reporter(make_console()), QUICK)
    with pytest.raises(AttributeError, match="warm_up"):
        explain(experiment(path, out), Reporter(make_console()), ends(QUICK))
