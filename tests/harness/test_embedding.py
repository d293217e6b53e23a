"""`load_encoder`: the features that a run's probes saw, from clips of any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from datasets.batches import BodySequences
from harness.encoders.embedding import PretrainedEncoder, load_encoder
from harness.encoders.facts import facts_of, to_metadata
from harness.errors import UsageError
from harness.evaluation.probes import clip_features
from harness.records.store import RecordStore, write_weights
from harness.spec.model import DataSpec, EncoderSpec, MethodSpec, RunSpec
from harness.training.build import build_encoder
from tests.harness.small_run import small_clips, small_data, small_trainer

CPU = torch.device("cpu")


def written(folder: Path, *, center: bool = True) -> Path:
    clips = small_clips()
    spec = RunSpec(
        method=MethodSpec(name="gfp"),
        encoder=EncoderSpec(size="tiny", depth=1, width=16, heads=2, frames=24),
        data=DataSpec(center=center),
    )
    encoder = build_encoder(spec, clips.layout, CPU)
    path = folder / "encoder.safetensors"
    write_weights(path, encoder, to_metadata(facts_of(encoder, clips.layout, spec)))
    return path


def loaded(folder: Path, *, center: bool = True) -> PretrainedEncoder:
    return load_encoder(written(folder, center=center))


@pytest.mark.parametrize("center", [True, False])
def test_features_are_those_of_the_runs_probes(tmp_path: Path, center: bool) -> None:
    found, clips = loaded(tmp_path, center=center), small_clips()
    expected = clip_features(found.encoder, BodySequences(clips, CPU, center=center))
    embedded = found.embed([clips.clip(index) for index in range(len(clips))])
    np.testing.assert_allclose(embedded, expected, rtol=1e-5, atol=1e-6)


def test_clips_may_have_any_length_and_one_body_without_its_axis(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    clip = small_clips().clip(0)
    one, two = found.embed([clip, clip[:, 0]])
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    assert found.embed([clip[:1], np.repeat(clip, 9, axis=0)]).shape == (2, 16)
    assert found.embed([]).shape == (0, 16)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (
            np.ones((4, 1, 3, 3)),
            r"clip 1: expected \[T, M, \d+, 3\] or \[T, \d+, 3\], found \[4, 1, 3, 3\]",
        ),
        (np.ones((0, 20, 3)), "clip 1: expected"),
        (np.full((4, 20, 3), np.nan), "clip 1: expected finite coordinates"),
    ],
)
def test_what_cannot_be_embedded_is_one_line(
    tmp_path: Path, clip: np.ndarray, message: str
) -> None:
    good = small_clips().clip(0)
    if np.isnan(clip).any():
        clip = np.full_like(good, np.nan)
    with pytest.raises(UsageError, match=message):
        loaded(tmp_path).embed([good, clip])


def test_a_layout_that_nobody_knows_is_centred_on_its_first_joint(tmp_path: Path) -> None:
    found = loaded(tmp_path)
    unnamed = PretrainedEncoder(
        found.encoder, found.facts.model_copy(update={"layout": "", "joint_names": ()})
    )
    assert unnamed.embed([small_clips().clip(0)]).shape == (1, 16)


def test_other_weights_of_a_run_are_told_from_its_encoder(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    trainer, store = small_trainer(data), RecordStore(tmp_path / "runs")
    store.write_method("run", trainer.method.state_dict())
    state = tmp_path / "runs" / "run" / "state-000000004.safetensors"
    state.write_bytes(save(trainer.state()))
    for path, found in (
        (state, "the state of a training that was under way"),
        (state.with_name("method.safetensors"), "all weights of a method"),
    ):
        with pytest.raises(UsageError, match=f"found {found}.*; give encoder.safetensors"):
            load_encoder(path)
