"""Probes: features of present bodies, honest selection, the raw-coordinate floor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets.batches import BodySequences, test_crops
from datasets.clips import ClipSet
from datasets.layouts import layout_from_parents
from datasets.splits import Split, make_split
from harness.evaluation.probes import (
    clip_features,
    evaluate,
    evaluate_raw,
    raw_features,
    selection_folds,
)
from harness.records.schema import Accuracy
from harness.runs.cell import better
from harness.spec.model import ProbeSpec
from harness.training.build import encoder_size
from methods.parts.encoder import SkeletonEncoder
from tests.harness.small_run import CPU, ENCODER, FRAMES, JOINTS, small_clips

test_crops.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test
PROBE = ProbeSpec(regularisation=(0.01, 1.0))
Array = NDArray[Any]


@pytest.fixture(scope="module")
def encoder() -> SkeletonEncoder:
    torch.manual_seed(0)
    return SkeletonEncoder(encoder_size(ENCODER), len(JOINTS))


# --- features ---


def body_features(encoder: SkeletonEncoder, source: BodySequences) -> Array:
    """Mean final token of every body sequence, one at a time."""
    found = []
    with torch.no_grad():
        for number in range(len(source)):
            chosen = torch.tensor([number])
            x = source.window(chosen, *test_crops(source.length[chosen]), FRAMES)
            found.append(encoder(x).mean(dim=(0, 1)).numpy())
    return np.stack(found)


def test_a_clips_feature_is_the_mean_over_its_present_bodies(encoder: SkeletonEncoder) -> None:
    source = BodySequences(small_clips(bodies=2), CPU)
    bodies, found = body_features(encoder, source), clip_features(encoder, source)
    counts = [int((source.clip == clip).sum()) for clip in range(18)]
    assert sorted(set(counts)) == [1, 2]  # the second body is in half of the clips
    for clip in range(18):
        np.testing.assert_allclose(
            found[clip], bodies[source.clip.numpy() == clip].mean(axis=0), atol=1e-5
        )


def test_an_absent_body_changes_nothing(encoder: SkeletonEncoder) -> None:
    alone = small_clips()
    beside = replace(
        alone, joints=np.concatenate([alone.joints, np.zeros_like(alone.joints)], axis=1)
    )
    one, two = (clip_features(encoder, BodySequences(clips, CPU)) for clips in (alone, beside))
    np.testing.assert_array_equal(one, two)


def test_batching_empty_bodies_for_cost_parity_does_not_change_features(
    encoder: SkeletonEncoder,
) -> None:
    clips = small_clips(bodies=2)
    one, two = (
        clip_features(encoder, BodySequences(clips, CPU, include_empty=empty))
        for empty in (False, True)
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_features_do_not_depend_on_the_batch_size(encoder: SkeletonEncoder, size: int) -> None:
    source = BodySequences(small_clips(bodies=2), CPU)
    np.testing.assert_allclose(
        clip_features(encoder, source, size), clip_features(encoder, source, 4), atol=1e-5
    )


@pytest.mark.parametrize("training", [True, False])
def test_reading_features_leaves_the_encoder_as_it_was(
    encoder: SkeletonEncoder, training: bool
) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.train(training)
    clip_features(encoder, BodySequences(small_clips(), CPU))
    assert encoder.training is training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in encoder.parameters()
    )


def test_features_are_one_row_per_clip(encoder: SkeletonEncoder) -> None:
    found = clip_features(encoder, BodySequences(small_clips(bodies=2), CPU))
    assert found.shape == (18, 8)
    assert found.dtype == np.float32


# --- evaluation ---

SUBJECT_COUNT, CLASS_COUNT, TAKES = 24, 3, 5
LABELS = np.tile(np.repeat(np.arange(CLASS_COUNT), TAKES), SUBJECT_COUNT)
SUBJECTS = np.repeat(np.arange(SUBJECT_COUNT), CLASS_COUNT * TAKES)


def parts(train: int = 8, validation: int = 4) -> Split:
    """The first subjects train, the next are validation, the last 12 test."""
    ranges = (range(train), range(train, train + validation), range(12, SUBJECT_COUNT))
    indices = (np.flatnonzero(np.isin(SUBJECTS, list(subjects))) for subjects in ranges)
    return Split("made up", *indices, notes=(), leaked=np.zeros((0, 2), np.int64))


def blurred(spread: float, labels: Array = LABELS, width: int = 6) -> Array:
    """Features: a corner per class, and noise."""
    noise = np.random.default_rng(0).normal(size=(len(labels), width))
    return (np.eye(width)[labels] + spread * noise).astype(np.float32)


def measured(
    features: Array, labels: Array = LABELS, split: Split | None = None, probe: ProbeSpec = PROBE
) -> Accuracy:
    return evaluate(features, labels, SUBJECTS, split or parts(), probe)


def test_separable_features_are_read_without_error() -> None:
    found = measured(blurred(0.05))
    assert (found.linear_validation, found.linear_test, found.knn_validation, found.knn_test) == (
        1,
        1,
        1,
        1,
    )


def test_labels_without_relation_to_the_features_are_at_chance() -> None:
    shuffled = np.random.default_rng(1).permutation(LABELS)
    found = measured(blurred(0.05), shuffled)
    assert found.linear_test == pytest.approx(
        1 / 3, abs=0.12
    )  # 180 test clips: three standard errors are 0.105
    assert found.knn_test == pytest.approx(1 / 3, abs=0.12)


def test_the_number_of_test_clips_is_told() -> None:
    assert measured(blurred(0.05)).test_clips == 12 * CLASS_COUNT * TAKES


def test_validation_figures_come_from_probes_on_the_training_part_alone() -> None:
    features, split = blurred(0.6), parts()
    scores = {}
    for strength in PROBE.regularisation:
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        probe.fit(features[split.train], LABELS[split.train])
        scores[strength] = probe.score(features[split.validation], LABELS[split.validation])
    found = measured(features)
    assert found.linear_validation == pytest.approx(max(scores.values()))
    assert scores[found.regularisation] == max(scores.values())


def test_test_figures_come_from_probes_on_training_and_validation_clips() -> None:
    features, split = blurred(0.6), parts()
    both = np.concatenate([split.train, split.validation])
    found = measured(features)
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=found.regularisation, max_iter=300)
    )
    expected = probe.fit(features[both], LABELS[both]).score(
        features[split.test], LABELS[split.test]
    )
    assert found.linear_test == pytest.approx(expected, abs=1 / 180)


@pytest.mark.parametrize("validation", [4, 2])
def test_test_labels_are_never_looked_at_before_the_end(validation: int) -> None:
    features, split, spoilt = blurred(0.8), parts(validation=validation), LABELS.copy()
    spoilt[split.test] = np.random.default_rng(2).permutation(spoilt[split.test])
    one, two = measured(features, split=split), measured(features, spoilt, split)
    assert two.linear_test < one.linear_test - 0.1
    assert (one.regularisation, one.linear_validation, one.knn_validation) == (
        two.regularisation,
        two.linear_validation,
        two.knn_validation,
    )


def test_test_features_are_never_looked_at_before_the_end() -> None:
    features, split = blurred(0.8), parts()
    spoilt = features.copy()
    spoilt[split.test] = 1e3
    one, two = measured(features), measured(spoilt)
    assert two.linear_test == pytest.approx(1 / 3)  # all test clips look the same
    assert (one.regularisation, one.linear_validation, one.knn_validation) == (
        two.regularisation,
        two.linear_validation,
        two.knn_validation,
    )


def test_names_of_classes_do_not_matter() -> None:
    features = blurred(0.5)
    one, two = measured(features), measured(features, np.array([2, 0, 1])[LABELS])
    assert one.model_dump(exclude={"sets"}) == pytest.approx(
        two.model_dump(exclude={"sets"}), abs=1 / 60
    )


def test_clips_of_one_class_and_part_are_interchangeable() -> None:
    features, split, order = blurred(0.5), parts(), np.arange(len(LABELS))
    for part in (split.train, split.validation, split.test):
        for label in range(CLASS_COUNT):
            chosen = part[LABELS[part] == label]
            order[chosen] = np.roll(chosen, 1)
    one, two = measured(features), measured(features[order])
    assert one.model_dump(exclude={"sets"}) == pytest.approx(
        two.model_dump(exclude={"sets"}), abs=1 / 60
    )


def test_scale_and_offset_of_a_feature_do_not_matter_to_the_linear_probe() -> None:
    features = blurred(0.5)
    changed = features * np.array([1, 10, 0.1, 5, 1, 2], np.float32) + 3
    assert measured(features).linear_test == pytest.approx(
        measured(changed).linear_test, abs=1 / 180
    )


def test_neighbours_are_near_by_angle() -> None:
    # By distance the test clip (3, 0.3) is nearest to (2, 2), by angle to (1, 0).
    features = np.array([[1, 0], [2, 2], [3, 0.3]], np.float32)
    split = Split(
        "one clip",
        np.array([0, 1]),
        np.array([], int),
        np.array([2]),
        (),
        np.zeros((0, 2), np.int64),
    )
    found = evaluate(features, np.array([0, 1, 0]), np.zeros(3, int), split, PROBE)
    assert found.knn_test == 1.0


def test_more_neighbours_vote() -> None:
    # Angles of the training clips: 0 (class 0), 20, 25 and 80 degrees (class 1); the test clip of
    # class 1 is at 5.
    angles = np.deg2rad([0, 20, 25, 80, 5])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    split = Split(
        "one", np.arange(4), np.array([], int), np.array([4]), (), np.zeros((0, 2), np.int64)
    )
    subjects, labels = np.zeros(5, int), np.array([0, 1, 1, 1, 1])
    probes = (ProbeSpec(neighbours=count) for count in (1, 3))
    assert [evaluate(features, labels, subjects, split, probe).knn_test for probe in probes] == [
        0.0,
        1.0,
    ]


def test_no_validation_part_gives_no_validation_figures() -> None:
    found = measured(blurred(0.05), split=parts(train=12, validation=0))
    assert (found.linear_validation, found.knn_validation) == (None, None)
    assert found.linear_test == 1.0
    assert found.regularisation in PROBE.regularisation


# --- what the regularisation is chosen on ---


def test_four_validation_subjects_are_enough_to_choose_on() -> None:
    split = parts(validation=4)
    ((fit, held_out),) = selection_folds(LABELS, SUBJECTS, split)
    np.testing.assert_array_equal(fit, split.train)
    np.testing.assert_array_equal(held_out, split.validation)


@pytest.mark.parametrize("validation", [0, 1, 3])
def test_with_fewer_the_whole_training_side_takes_turns(validation: int) -> None:
    split = parts(train=8, validation=validation)
    side = np.concatenate([split.train, split.validation])
    folds = selection_folds(LABELS, SUBJECTS, split)
    assert len(folds) == 4
    np.testing.assert_array_equal(
        np.sort(np.concatenate([held_out for _, held_out in folds])), side
    )
    for fit, held_out in folds:
        assert not set(SUBJECTS[fit]) & set(SUBJECTS[held_out])
        np.testing.assert_array_equal(np.sort(np.concatenate([fit, held_out])), side)


def test_clips_of_unknown_subjects_take_no_turn() -> None:
    split, subjects = parts(train=3, validation=1), SUBJECTS.copy()
    subjects[:5] = -1
    used = np.concatenate([held_out for _, held_out in selection_folds(LABELS, subjects, split)])
    assert subjects[used].min() == 0
    assert len(used) == 4 * CLASS_COUNT * TAKES - 5


def test_one_known_subject_leaves_nothing_to_choose_on() -> None:
    split = parts(train=1, validation=0)
    assert selection_folds(LABELS, SUBJECTS, split) == []
    assert (
        measured(blurred(0.05), split=split, probe=ProbeSpec(regularisation=(0.01,))).regularisation
        == 1.0
    )


def test_a_class_that_one_training_subject_alone_shows_can_be_probed() -> None:
    split, labels = (
        parts(train=2, validation=0),
        (SUBJECTS % 2).copy(),
    )  # as patients against healthy people are
    assert measured(blurred(0.05, labels), labels, split).linear_test == 1.0


# --- the raw-coordinate floor ---


def raw_clips(joints: Array, offsets: list[int]) -> ClipSet:
    names = tuple(f"joint_{index}" for index in range(joints.shape[2]))
    columns = {
        "label": np.zeros(len(offsets) - 1, np.int64),
        "subject": np.arange(len(offsets) - 1),
    }
    layout = layout_from_parents(names, (-1, *range(len(names) - 1)))
    return ClipSet(
        "raw", joints.astype(np.float32), np.array(offsets), columns, ("only",), layout, 30.0
    )


def test_raw_features_of_a_moving_stick() -> None:
    # Three frames, resized to five: the root goes 0, 1, 2, 3, 4 along x; the other joint stays 1 m
    # above it.
    joints = np.array(
        [[[[0, 0, 0], [0, 1, 0]]], [[[2, 0, 0], [2, 1, 0]]], [[[4, 0, 0], [4, 1, 0]]]], float
    )
    found = raw_features(raw_clips(joints, [0, 3]), frames=5).reshape(5, 3, 3)
    for frame in range(5):
        np.testing.assert_allclose(found[frame], [[0, 0, 0], [0, 1, 0], [frame, 0, 0]], atol=1e-6)


def test_the_place_of_a_body_does_not_matter_but_its_path_does() -> None:
    random = np.random.default_rng(0)
    joints = random.normal(size=(6, 1, 4, 3))
    moved = raw_features(raw_clips(joints + np.array([5.0, 0.0, -3.0]), [0, 6]))
    np.testing.assert_allclose(raw_features(raw_clips(joints, [0, 6])), moved, atol=1e-5)
    walked = raw_features(raw_clips(joints + np.arange(6).reshape(6, 1, 1, 1), [0, 6]))
    assert np.abs(walked - moved).max() > 4


def test_raw_features_have_every_body_and_one_path() -> None:
    joints = np.random.default_rng(0).normal(size=(9, 2, 4, 3))
    assert raw_features(raw_clips(joints, [0, 4, 9])).shape == (2, 32 * (2 * 4 + 1) * 3)


def test_an_absent_second_body_is_zeros() -> None:
    joints = np.random.default_rng(0).normal(size=(4, 2, 3, 3))
    joints[:, 1] = 0
    found = raw_features(raw_clips(joints, [0, 4]), frames=4).reshape(4, 2 * 3 + 1, 3)
    assert not found[:, 3:6].any()
    assert found[:, 1:3].all()


def test_a_single_frame_is_repeated() -> None:
    found = raw_features(raw_clips(np.ones((1, 1, 2, 3)), [0, 1]), frames=3).reshape(3, -1)
    assert (found == found[0]).all()


def test_the_floor_learns_from_the_training_side_only() -> None:
    clips = small_clips()
    split = make_split(clips)
    spoilt = clips.joints.copy()
    for index in split.test:
        spoilt[clips.offsets[index] : clips.offsets[index + 1]] *= 100
    labels = clips.columns["label"]
    one, two = (
        evaluate_raw(c, labels, split, PROBE) for c in (clips, replace(clips, joints=spoilt))
    )
    assert (one.regularisation, one.linear_validation, one.knn_validation) == (
        two.regularisation,
        two.linear_validation,
        two.knn_validation,
    )


# --- which evaluation of a run counts ---


def scored(selection: float | None) -> Accuracy:
    return Accuracy(
        linear_validation=None,
        linear_test=0.5,
        knn_validation=None,
        knn_test=0.5,
        regularisation=1.0,
        selection=selection,
        test_clips=9,
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (0.6, 0.5, True),
        (0.5, 0.6, False),
        (0.5, 0.5, False),
        (None, 0.5, False),
        (0.5, None, False),
    ],
)
def test_an_evaluation_is_better_by_its_selection_alone(
    one: float | None, other: float | None, expected: bool
) -> None:
    assert better(scored(one), scored(other)) == expected
