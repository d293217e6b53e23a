"""Protocols against hand computation: rates at named steps, layer scales, head parameters,
subsets, batches.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from datasets.batches import BodySequences
from datasets.clip_batches import ClipBatch, ClipBatches, batch_sizes, evaluation_view
from harness.evaluation import protocol
from harness.evaluation.epochs import Schedule, published_augmentation
from harness.evaluation.probes import clip_features
from harness.evaluation.protocol import Subject
from harness.evaluation.protocols.finetune import (
    Classifier,
    Finetune,
    FinetuneHead,
    FinetuneOptions,
    drop_paths,
    layer_scale,
    parameter_groups,
)
from harness.evaluation.protocols.linear_mamp import (
    Coordinates,
    LightHead,
    LinearMamp,
    LinearMampOptions,
    features,
)
from harness.evaluation.protocols.semi import Semi, SemiOptions, balanced_subset, drawn_by_processes
from methods.parts.encoder import SIZES, EncoderSize, SkeletonEncoder
from methods.parts.graph import GraphEncoder
from tests.harness.small_run import CLASSES, CPU, FRAMES, small_clips, small_data

SMALL_SIZE = EncoderSize(depth=2, width=8, heads=2, frames=FRAMES, patch=4)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def side_of(clips: int) -> Any:
    """What `resolved` asks of a subject: so many training clips."""
    return SimpleNamespace(training_side=np.arange(clips), untrained=False)


def subject_on(folder: Path, *, untrained: bool = False, seed: int = 0) -> Subject:
    torch.manual_seed(seed)
    data = small_data(folder)
    encoder = SkeletonEncoder(SMALL_SIZE, data.clips.layout.joint_count).eval()
    return Subject(
        encoder, data, data.spec.fingerprint, len(CLASSES), seed=seed, untrained=untrained
    )


# --- rates ---


def test_the_rate_of_fine_tuning_at_named_epochs() -> None:
    schedule = Schedule(lr=3e-4, epochs=100, warmup=5, final=1e-5)
    assert schedule.rate(0) == 0
    assert schedule.rate(2.5) == pytest.approx(1.5e-4)
    assert schedule.rate(5) == pytest.approx(3e-4)
    assert schedule.rate(52.5) == pytest.approx((3e-4 + 1e-5) / 2)
    assert schedule.rate(100) == pytest.approx(1e-5)


def test_the_rate_of_linear_evaluation_at_named_epochs() -> None:
    schedule = Schedule(lr=0.1, epochs=100)
    assert schedule.rate(0) == pytest.approx(0.1)
    assert schedule.rate(100 / 3) == pytest.approx(0.075)  # cos 60 degrees is 1/2
    assert schedule.rate(50) == pytest.approx(0.05)


def test_layer_scales_of_eight_blocks() -> None:
    scales = {
        "encoder.patch_embed.weight": 0.8**9,
        "encoder.positions.time": 0.8**9,
        "encoder.blocks.0.attn.qkv.weight": 0.8**8,
        "encoder.blocks.7.norm2.bias": 0.8,
        "encoder.norm.weight": 1.0,
        "head.layers.0.weight": 1.0,
    }
    for name, scale in scales.items():
        assert layer_scale(name, depth=8, decay=0.8) == pytest.approx(scale), name
    assert {layer_scale(name, depth=8, decay=1.0) for name in scales} == {1.0}


def test_what_has_one_dimension_is_not_decayed() -> None:
    model = Classifier(SkeletonEncoder(SMALL_SIZE, 5), FinetuneHead(5, 8, 3, hidden=4, dropout=0.3))
    groups = parameter_groups(model, depth=2, decay=0.8, weight_decay=0.05)
    by_id = {id(parameter): group for group in groups for parameter in group["params"]}
    assert len(by_id) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = by_id[id(parameter)]
        assert group["weight_decay"] == (0 if parameter.ndim == 1 else 0.05), name
    assert sorted({group["lr_scale"] for group in groups}) == pytest.approx(
        [0.8**3, 0.8**2, 0.8, 1.0]
    )


# --- heads and encoders ---


def test_heads_have_the_published_numbers_of_parameters() -> None:
    assert parameters(LightHead(256, 60)) == 256 * 60 + 60
    head = FinetuneHead(25, 256, 60, hidden=2048, dropout=0.3)
    assert parameters(head) == (6400 * 2048 + 2048) + 2 * 2048 + (2048 * 60 + 60) == 13_236_284


def test_drop_path_rises_from_nothing_to_its_last_rate() -> None:
    encoder = SkeletonEncoder(SIZES["tiny"], 5)
    drop_paths(encoder, 0.3)
    assert [
        getattr(block.drop_path1, "drop_prob", 0.0) for block in encoder.blocks
    ] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [
        getattr(block.drop_path2, "drop_prob", 0.0) for block in encoder.blocks
    ] == pytest.approx([0, 0.1, 0.2, 0.3])


def test_the_shortest_crop_is_a_share_of_the_encoders_frames() -> None:
    assert published_augmentation(SkeletonEncoder(SIZES["base"], 2)).min_crop == 64
    assert (
        published_augmentation(SkeletonEncoder(SIZES["tiny"], 2)).min_crop == 38
    )  # 64 / 120 of 72


# --- recipes by size ---


@pytest.mark.parametrize(
    ("clips", "batch", "lr"),
    [
        (40_091, 256, 0.1),
        (30_000, 256, 0.1),
        (18_841, 128, 0.1),
        (6000, 128, 0.1),
        (5_999, 32, 0.01),
        (431, 32, 0.01),
    ],
)
def test_linear_evaluation_goes_by_the_number_of_clips(clips: int, batch: int, lr: float) -> None:
    options = LinearMamp(LinearMampOptions()).resolved(side_of(clips)).options
    assert (options.batch_size, options.lr) == (batch, lr)


@pytest.mark.parametrize(("clips", "batch"), [(40_091, 48), (384, 48), (383, 47), (43, 8), (5, 8)])
def test_fine_tuning_takes_smaller_batches_of_few_clips(clips: int, batch: int) -> None:
    options = Finetune(FinetuneOptions()).resolved(side_of(clips)).options
    assert options.batch_size == batch
    assert (options.epochs, options.lr, options.min_lr, options.warmup) == (100, 3e-4, 1e-5, 5)
    assert (options.layer_decay, options.weight_decay) == (0.8, 0.05)


@pytest.mark.parametrize("asked", [None, 0.65])
def test_from_scratch_has_no_layer_decay_whatever_the_row_has(asked: float | None) -> None:
    subject, fitting = side_of(1000), Finetune(FinetuneOptions(layer_decay=asked))
    assert fitting.resolved(subject).options.layer_decay == (asked or 0.8)
    subject.untrained = True
    assert fitting.resolved(subject).options.layer_decay == 1.0


@pytest.mark.parametrize(
    ("options", "warmup"), [({}, 5), ({"epochs": 4}, 2), ({"epochs": 4, "warmup": 3}, 3)]
)
def test_a_short_training_warms_up_for_half_of_it_unless_it_is_told(
    options: dict[str, float], warmup: float
) -> None:
    fitting = Finetune(FinetuneOptions.model_validate(options))
    assert fitting.resolved(side_of(1000)).options.warmup == warmup


def test_strl_has_its_own_recipe() -> None:
    options = Finetune(FinetuneOptions(head="strl")).resolved(side_of(512)).options
    assert (options.epochs, options.batch_size, options.layer_decay) == (110, 64, 1.0)
    assert options.lr == pytest.approx(0.05)  # half the batch, half the rate
    fitting, graph = Finetune(FinetuneOptions(head="strl")), GraphEncoder.__new__(GraphEncoder)
    assert fitting.unfit(SkeletonEncoder(SMALL_SIZE, 5))
    assert not fitting.unfit(graph)
    assert Finetune(FinetuneOptions()).unfit(graph)


# --- subsets ---


def test_a_balanced_subset_has_the_rounded_share_of_every_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [4, 14, 16, 25])
    side = np.arange(len(labels))
    chosen = balanced_subset(labels, side, 0.1, "abc", 0)
    assert np.bincount(labels[chosen]).tolist() == [
        1,
        1,
        2,
        2,
    ]  # 0.4 is at least one, 1.4, 1.6, 2.5 to even
    assert chosen.tolist() == balanced_subset(labels, side, 0.1, "abc", 0).tolist()
    others = [
        balanced_subset(labels, side, 0.1, "abc", 1),
        balanced_subset(labels, side, 0.1, "abd", 0),
    ]
    assert all(other.tolist() != chosen.tolist() for other in others)


@pytest.mark.parametrize(("ratio", "distinct"), [(0.01, 794), (0.1, 7584)])
def test_two_unbalanced_draws_label_almost_twice_the_ratio_of_ntu_60(
    ratio: float, distinct: int
) -> None:
    """NTU-60 x-sub has 40,091 training clips; the published 1 % are 794 of them."""
    clips = drawn_by_processes(np.arange(40_091), ratio, 0)
    assert len(clips) == 2 * int(40_091 * ratio)
    assert len(np.unique(clips)) == distinct


def test_few_labels_are_said_and_hashed(tmp_path: Path) -> None:
    subject = subject_on(tmp_path)
    found = Semi(SemiOptions(ratio=0.5, epochs=1, hidden=4)).resolved(subject).evaluate(subject)
    assert found.labelled is not None
    assert np.bincount(subject.labels[found.labelled]).tolist() == [
        2,
        2,
        2,
    ]  # round(1.5) of three clips a class
    assert "66.67% of the training side" in found.notes[0]


# --- batches of clips ---


def test_the_rest_of_an_epoch_is_a_batch_unless_it_is_one_clip() -> None:
    assert batch_sizes(431, 32, drop_last=False) == [32] * 13 + [15]
    assert batch_sizes(431, 32, drop_last=True) == [32] * 13
    assert batch_sizes(65, 32, drop_last=False) == [32, 33]
    assert batch_sizes(33, 32, drop_last=False) == [33]
    assert batch_sizes(5, 32, drop_last=True) == batch_sizes(5, 32, drop_last=False) == [5]


def test_bodies_are_averaged_and_put_in_slots_by_clip() -> None:
    x = torch.tensor([1.0, 3.0, 5.0]).view(3, 1, 1, 1).expand(3, 2, 1, 3)
    batch = ClipBatch(
        torch.tensor([7, 9]), x, row=torch.tensor([0, 0, 1]), slot=torch.tensor([0, 1, 0])
    )
    assert batch.mean(x)[:, 0, 0, 0].tolist() == [2.0, 5.0]
    assert batch.in_slots(2)[:, 0, :, 0, 0].tolist() == [[1.0, 3.0], [5.0, 0.0]]


def test_the_bodies_of_a_clip_are_cropped_and_turned_alike() -> None:
    """Two bodies that move alike do so after augmentation."""
    clips = small_clips(bodies=2)
    clips.joints[:, 1] = clips.joints[:, 0]
    source = BodySequences(clips, CPU)
    augmentation = published_augmentation(SkeletonEncoder(SMALL_SIZE, 5))
    batches = ClipBatches(
        source,
        clips.lengths,
        np.arange(6),
        size=3,
        frames=FRAMES,
        augmentation=augmentation,
        seed=0,
        drop_last=False,
    )
    seen = list(batches.epoch())
    assert sorted(torch.cat([batch.clips for batch in seen]).tolist()) == list(range(6))
    for batch in seen:
        assert torch.equal(batch.x[batch.slot == 0], batch.x[batch.slot == 1])
        assert batch.x.shape == (6, FRAMES, 5, 3)


def test_an_absent_body_is_zeros_where_every_slot_is_wanted() -> None:
    clips = small_clips(bodies=2)  # every other subject has no second body
    source = BodySequences(clips, CPU)
    batch = next(
        evaluation_view(source, clips.lengths, np.array([0, 3]), size=2, frames=FRAMES, slots=2)
    )
    assert batch.row.tolist() == [0, 1, 1, 0]
    assert batch.slot.tolist() == [0, 0, 1, 1]
    assert not batch.x[3].any()
    assert batch.x[2].any()


def test_the_frozen_features_are_those_of_the_probes() -> None:
    clips = small_clips(bodies=2)
    source, encoder = BodySequences(clips, CPU), SkeletonEncoder(SMALL_SIZE, 5).eval()
    view = evaluation_view(source, clips.lengths, np.arange(len(clips)), size=4, frames=FRAMES)
    with torch.no_grad():
        means = torch.cat([batch.mean(encoder(batch.x).mean(dim=1)) for batch in view])
    np.testing.assert_allclose(means, clip_features(encoder, source), rtol=1e-4, atol=1e-5)


# --- whole protocols ---


def test_linear_evaluation_trains_the_head_alone_and_repeats_itself(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        subject = subject_on(tmp_path)
        assert subject.encoder is not None
        before = {name: value.clone() for name, value in subject.encoder.state_dict().items()}
        torch.manual_seed(0)
        found.append(
            LinearMamp(LinearMampOptions(epochs=4, looks=2)).resolved(subject).evaluate(subject)
        )
        assert all(
            torch.equal(value, before[name]) for name, value in subject.encoder.state_dict().items()
        )
    assert [point.epoch for point in found[0].curve] == [2, 4]
    assert found[0].curve == found[1].curve
    assert found[0].predictions.tolist() == found[1].predictions.tolist()


def test_linear_evaluation_looks_at_the_test_clips_after_every_epoch(tmp_path: Path) -> None:
    subject = subject_on(tmp_path)
    found = LinearMamp(LinearMampOptions(epochs=3)).resolved(subject).evaluate(subject)
    assert [point.epoch for point in found.curve] == [1, 2, 3]


def test_raw_coordinates_go_through_the_recipe_of_linear_evaluation(tmp_path: Path) -> None:
    """Clips that stand off along an axis by class are told apart;
    two bodies of a clip count as their mean.
    """
    subject = subject_on(tmp_path)
    subject.encoder = None
    x = torch.arange(2 * 32 * 5 * 3.0).view(2, 32, 5, 3)
    batch = ClipBatch(torch.tensor([0]), x, row=torch.tensor([0, 0]), slot=torch.tensor([0, 1]))
    assert torch.equal(features(Coordinates(5), batch)[0], x.mean(dim=0).flatten())
    source = subject.data.bodies
    for sequence, clip in enumerate(source.clip.tolist()):
        first, last = (
            int(source.start[sequence]),
            int(source.start[sequence] + source.length[sequence]),
        )
        source.rows[first:last, :, subject.labels[clip]] += 10.0
    found = LinearMamp(LinearMampOptions(epochs=30, lr=0.1)).resolved(subject).evaluate(subject)
    assert found.predictions.tolist() == subject.labels[subject.test].tolist()
    assert len(found.curve) == 30


def test_frozen_features_have_seconds_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, ticks = subject_on(tmp_path), iter([10.0, 15.0])
    monkeypatch.setattr(protocol, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    assert subject.features_seconds == 0
    assert subject.features is subject.features
    assert subject.features_seconds == 5


def test_linear_evaluation_learns_what_its_features_tell(tmp_path: Path) -> None:
    subject = subject_on(tmp_path)
    subject.labels[:] = (subject.features[:, 0] > np.median(subject.features[:, 0])).astype(
        np.int64
    )
    found = LinearMamp(LinearMampOptions(epochs=60, lr=0.1)).resolved(subject).evaluate(subject)
    assert np.mean(found.predictions == subject.labels[subject.test]) > 0.7


def test_fine_tuning_trains_the_encoder_and_looks_at_the_test_clips_as_asked(
    tmp_path: Path,
) -> None:
    subject = subject_on(tmp_path)
    assert subject.encoder is not None
    before = {name: value.clone() for name, value in subject.encoder.state_dict().items()}
    protocol = Finetune(FinetuneOptions(epochs=4, looks=2, hidden=8)).resolved(subject)
    found = protocol.evaluate(subject)
    assert [point.epoch for point in found.curve] == [2, 4]
    assert found.labelled is None
    changed = [
        name
        for name, value in subject.encoder.state_dict().items()
        if not torch.equal(value, before[name])
    ]
    assert len(changed) == len(before)


def test_strl_is_trained_on_a_graph_encoder(tmp_path: Path) -> None:
    from harness.training.build import skeleton_of

    data = small_data(tmp_path)
    encoder = GraphEncoder(FRAMES, skeleton_of(data.clips.layout), width=8, depth=1)
    subject = Subject(encoder, data, data.spec.fingerprint, len(CLASSES))
    found = (
        Finetune(FinetuneOptions(head="strl", epochs=2, looks=1))
        .resolved(subject)
        .evaluate(subject)
    )
    assert found.predictions.shape == subject.test.shape
