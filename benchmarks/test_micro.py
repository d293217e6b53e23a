"""Micro-benchmarks of the parts a training step and an evaluation are made of: ``make bench``.

Absolute times of one part on one machine, for finding what to make faster; speedups between methods
come from `harness speed`, interleaved. On a GPU each round ends with a synchronisation, and warm-up
rounds come first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from datasets.batches import BodySequences
from datasets.published_feeder import PaddedClips
from harness.evaluation.probes import clip_features, evaluate
from harness.registry import Registry
from harness.runs.experiment import make_entry
from harness.spec.model import DataSpec, EncoderSpec, MethodSpec, ProbeSpec, RunSpec, TrainSpec
from harness.training.build import build_encoder, build_method
from harness.training.clock import StepClock
from harness.training.data import LoadedData, augmentation, load_data
from harness.training.trainer import Trainer
from methods.parts.masks import motion_aware_mask, random_mask

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SPEC = RunSpec(
    method=MethodSpec(name="encoder-only"),
    encoder=EncoderSpec(size="tiny"),
    train=TrainSpec(batch_size=32),
    device=DEVICE.type,
)
METHODS = sorted(Registry().methods)
FEATURED = 100
"""Clips whose features are taken."""


@pytest.fixture(scope="module")
def data() -> LoadedData:
    return load_data(DataSpec(), DEVICE, patch=4)


@pytest.fixture(scope="module")
def batch(data: LoadedData) -> torch.Tensor:
    frames = build_encoder(SPEC, data.clips.layout, "meta").grid.frames
    made = data.batches(SPEC, frames).next()
    assert isinstance(made, torch.Tensor)  # of one view
    return made


def timed(benchmark: BenchmarkFixture, work: Callable[[], Any]) -> None:
    """Time a function; on a GPU until the device has finished it."""

    def finished() -> Any:
        result = work()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return result

    benchmark.pedantic(finished, rounds=10, warmup_rounds=2)


def test_batch_on_the_device(benchmark: BenchmarkFixture, data: LoadedData) -> None:
    timed(benchmark, data.batches(SPEC, 72).next)


def test_one_clip_of_the_published_feeder(benchmark: BenchmarkFixture, data: LoadedData) -> None:
    clips = PaddedClips(data.padded, frames=72, augmentation=augmentation(SPEC.data))
    timed(benchmark, lambda: clips[0])


@pytest.mark.parametrize("tau", [0.0, 0.8], ids=["random", "motion-aware"])
def test_mask(
    benchmark: BenchmarkFixture, data: LoadedData, batch: torch.Tensor, tau: float
) -> None:
    grid = build_encoder(SPEC, data.clips.layout, "meta").grid
    timed(benchmark, lambda: motion_aware_mask(batch, grid, 0.9, tau))


@pytest.mark.parametrize("share", [0.1, 1.0], ids=["visible tokens", "all tokens"])
def test_encoder(
    benchmark: BenchmarkFixture, data: LoadedData, batch: torch.Tensor, share: float
) -> None:
    encoder = build_encoder(SPEC, data.clips.layout, DEVICE)
    visible = random_mask(batch, encoder.grid, 1 - share).visible if share < 1 else None
    with torch.inference_mode():
        timed(benchmark, lambda: encoder(batch, visible))


@pytest.mark.parametrize("name", METHODS)
def test_training_step(benchmark: BenchmarkFixture, data: LoadedData, name: str) -> None:
    method = Registry().method(name)
    entry = make_entry(
        method, MethodSpec(name=name), build_encoder(SPEC, data.clips.layout, "meta")
    )
    spec = SPEC.model_copy(update={"method": entry.spec})
    built = build_method(method, spec, data.clips.layout, DEVICE)
    trainer = Trainer(
        built, data.batches(spec, built.evaluated_encoder().grid.frames), spec.train, steps=1000
    )
    timed(benchmark, lambda: trainer.run_block(1, StepClock(DEVICE)))


def test_features_of_clips(benchmark: BenchmarkFixture, data: LoadedData) -> None:
    encoder, clips = build_encoder(SPEC, data.clips.layout, DEVICE), data.clips
    frames = slice(0, clips.offsets[FEATURED])
    some = replace(clips, joints=clips.joints[frames], offsets=clips.offsets[: FEATURED + 1])
    benchmark.pedantic(partial(clip_features, encoder, BodySequences(some, DEVICE)), rounds=2)


def test_probes_on_cached_features(benchmark: BenchmarkFixture, data: LoadedData) -> None:
    features = np.random.default_rng(0).standard_normal((len(data.labels), 64)).astype(np.float32)
    subjects, probe = data.clips.columns["subject"], ProbeSpec(regularisation=(0.1,))
    benchmark.pedantic(
        lambda: evaluate(features, data.labels, subjects, data.split, probe), rounds=2
    )
