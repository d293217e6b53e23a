"""Probes on frozen features: linear and nearest neighbour, and the raw-coordinate floor. Always off
the clock.

Protocol, adapted to cached features from MAMP's (maoyunyao/MAMP, main_linprobe.py) and STARS'
(arXiv 2407.10935, TaatiTeam/STARS, knn_eval.py): the encoder reads all tokens of the test-cropped
clip; a clip's feature is the mean of the final tokens over time, joints and present bodies;
features are standardised (MAMP's batch norm without affine); a multinomial logistic regression is
fitted on the training side with the regularisation that is best on subjects it was not fitted on.
Nothing is selected on the test side: among the evaluations of a run the one with the best such
accuracy counts, or the last where no subjects were held out of pre-training.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from datasets.batches import BodySequences, evaluation_batches
from datasets.clips import ClipSet
from datasets.splits import Split
from harness.records.schema import Accuracy
from harness.spec.model import ProbeSpec
from methods.parts.encoder import Encoder

VERSION = 1

Features = NDArray[np.float32]
Labels = NDArray[np.int64]

RAW_FRAMES = 32
_RAW_COMPONENTS = 128
_ENOUGH_SUBJECTS = 4


class LabelledClips(Protocol):
    """What the probes need of a data set (`harness.training.data.LoadedData`)."""

    @property
    def clips(self) -> ClipSet:
        """All clips."""

    @property
    def bodies(self) -> BodySequences:
        """Their frames on the device."""

    @property
    def device(self) -> torch.device:
        """Where the frames go."""

    @property
    def labels(self) -> Labels:
        """[N] class of each clip."""

    @property
    def split(self) -> Split:
        """Which clips train, validate and test."""

    @property
    def parts(self) -> Sequence[LabelledClips]:
        """The data sets, in the order of the clips, where they are several;
        each is probed apart.
        """


def clip_features(encoder: Encoder, bodies: BodySequences, batch_size: int = 128) -> Features:
    """Mean final token of every clip's present bodies, ``[N, D]``;
    the encoder is frozen and sees every token.
    """
    was_training = encoder.training
    encoder.eval()
    total = torch.zeros(bodies.clip_count, encoder.width, device=bodies.device)
    with torch.inference_mode():
        for numbers, x in evaluation_batches(bodies, batch_size, encoder.grid.frames):
            seen = bodies.present[
                numbers, None
            ]  # a run may batch empty bodies; features never hold them
            total.index_add_(0, bodies.clip[numbers], encoder(x).float().mean(dim=1) * seen)
    counts = torch.bincount(bodies.clip[bodies.present], minlength=bodies.clip_count).clamp(min=1)
    encoder.train(was_training)
    return (total / counts[:, None]).cpu().numpy()


def raw_features(clips: ClipSet, frames: int = RAW_FRAMES) -> Features:
    """Root-centred joints of every body and the first body's root path,
    ``[N, frames * (M * V + 1) * 3]``.

    The floor of the data's own README: no learning, linear time resize to 32 frames.
    """
    return np.stack([_raw_clip(clips.clip(index), frames) for index in range(len(clips))])


def _raw_clip(clip: NDArray[np.float32], frames: int) -> Features:
    position = np.linspace(0, len(clip) - 1, frames)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, len(clip) - 1)
    weight = (position - low)[:, None, None, None]
    resized = (1 - weight) * clip[low] + weight * clip[high]
    root = resized[:, :1, :1]
    absent = (resized == 0).all(axis=(2, 3), keepdims=True)
    joints = np.where(absent, 0, resized - root)
    path = root - root[:1]
    return (
        np.concatenate([joints.reshape(frames, -1), path.reshape(frames, -1)], axis=1)
        .ravel()
        .astype(np.float32)
    )


def evaluate(
    features: Features, labels: Labels, subjects: Labels, split: Split, probe: ProbeSpec
) -> Accuracy:
    """Linear and nearest-neighbour accuracy of cached features;
    `subjects` keeps selection subject-disjoint.
    """
    train, validation, test = split.train, split.validation, split.test
    both = np.sort(np.concatenate([train, validation]))
    neighbours = KNeighborsClassifier(min(probe.neighbours, len(train)), metric="cosine")
    with threadpool_limits(
        1
    ):  # small fits: threads cost more than they bring, most of all on a busy machine
        strength, selection = choose_regularisation(features, labels, subjects, split, probe)
        linear = _linear_probe(strength)
        validated = len(validation) > 0
        return Accuracy(
            linear_validation=(
                _score(linear, features, labels, train, validation) if validated else None
            ),
            linear_test=_score(linear, features, labels, both, test),
            knn_validation=(
                _score(neighbours, features, labels, train, validation) if validated else None
            ),
            knn_test=_score(neighbours, features, labels, both, test),
            regularisation=strength,
            selection=selection,
            test_clips=len(test),
        )


def choose_regularisation(
    features: Features, labels: Labels, subjects: Labels, split: Split, probe: ProbeSpec
) -> tuple[float, float | None]:
    """The inverse regularisation strength C with the best accuracy on subjects not fitted on, and
    that accuracy.

    With at least `_ENOUGH_SUBJECTS` validation subjects that is the validation part. With fewer,
    one unusual person would decide (a left-hander among right-handers), so the mean over
    subject-disjoint folds of the whole training side decides. With a single known subject there is
    nothing to choose on: C = 1, and no accuracy.
    """
    folds = selection_folds(labels, subjects, split)
    if not folds:
        return 1.0, None
    paths = [_regularisation_path(features, labels, *fold, probe.regularisation) for fold in folds]
    scores = {
        strength: statistics.mean(path[strength] for path in paths)
        for strength in probe.regularisation
    }
    best = max(scores, key=lambda strength: scores[strength])
    return best, scores[best]


def _regularisation_path(
    features: Features, labels: Labels, fit: Labels, held_out: Labels, strengths: Sequence[float]
) -> dict[float, float]:
    """Accuracy on `held_out` for each C, weakest first,
    every fit starting from the one before: much cheaper.
    """
    scaler = StandardScaler().fit(features[fit])
    seen, unseen = scaler.transform(features[fit]), scaler.transform(features[held_out])
    classifier, scores = LogisticRegression(max_iter=300, warm_start=True), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in sorted(strengths):
            classifier.set_params(C=strength).fit(seen, labels[fit])
            scores[strength] = float(classifier.score(unseen, labels[held_out]))
    return scores


def selection_folds(labels: Labels, subjects: Labels, split: Split) -> list[tuple[Labels, Labels]]:
    """(fit, held out) clip indices for choosing the regularisation; subjects never stand on both
    sides.

    A fold whose fitting side has a single class is left out: nothing can be fitted there.
    """
    if len(np.unique(subjects[split.validation])) >= _ENOUGH_SUBJECTS:
        return [(split.train, split.validation)]
    side = np.sort(np.concatenate([split.train, split.validation]))
    side = side[subjects[side] >= 0]
    count = len(np.unique(subjects[side]))
    if count < 2:
        return []
    folds = GroupKFold(min(_ENOUGH_SUBJECTS, count)).split(side, groups=subjects[side])
    return [
        (side[fit], side[held_out])
        for fit, held_out in folds
        if len(np.unique(labels[side[fit]])) > 1
    ]


def evaluate_raw(clips: ClipSet, labels: Labels, split: Split, probe: ProbeSpec) -> Accuracy:
    """The raw-coordinate floor: the same probes on `reduced_raw`."""
    return evaluate(reduced_raw(clips, split), labels, clips.columns["subject"], split, probe)


def reduced_raw(clips: ClipSet, split: Split) -> Features:
    """Raw coordinates, standardised, their first principal components ``[N, <= 128]``;
    fitted to the training side.
    """
    both = np.concatenate([split.train, split.validation])
    raw = raw_features(clips)
    components = min(_RAW_COMPONENTS, len(both), raw.shape[1])
    reduce = make_pipeline(StandardScaler(), PCA(components, random_state=0)).fit(raw[both])
    reduced: Features = reduce.transform(raw).astype(np.float32)
    return reduced


def predicted_linearly(
    strength: float, features: Features, labels: Labels, fit: Labels, unseen: Labels
) -> Labels:
    """Classes of the clips `unseen` by the linear probe fitted on the clips `fit`,
    as in `evaluate`.
    """
    with threadpool_limits(1):
        probe = _fitted(_linear_probe(strength), features, labels, fit)
    predictions: Labels = probe.predict(features[unseen])
    return predictions


def _linear_probe(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))


def _score(
    classifier: Pipeline | KNeighborsClassifier,
    features: Features,
    labels: Labels,
    fit: Labels,
    score: Labels,
) -> float:
    """Accuracy on the clips `score` after fitting on the clips `fit`."""
    return float(_fitted(classifier, features, labels, fit).score(features[score], labels[score]))


def _fitted(
    classifier: Pipeline | KNeighborsClassifier, features: Features, labels: Labels, fit: Labels
) -> Pipeline | KNeighborsClassifier:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ConvergenceWarning
        )  # a weak C may creep on long after accuracy has settled
        return classifier.fit(features[fit], labels[fit])


def probe_encoder(encoder: Encoder, data: LabelledClips, probe: ProbeSpec) -> Accuracy:
    """Frozen features of every clip, then the probes, of each data set its own."""
    features, sets = clip_features(encoder, data.bodies), data.parts or (data,)
    ends = np.cumsum([len(part.labels) for part in sets])[:-1]
    return over_sets(
        [
            evaluate(own, part.labels, part.clips.columns["subject"], part.split, probe)
            for own, part in zip(np.split(features, ends), sets, strict=True)
        ],
        data,
    )


def probe_raw(data: LabelledClips, probe: ProbeSpec) -> Accuracy:
    """The raw-coordinate floor of each data set."""
    sets = data.parts or (data,)
    return over_sets(
        [evaluate_raw(part.clips, part.labels, part.split, probe) for part in sets], data
    )


def over_sets(found: Sequence[Accuracy], data: LabelledClips) -> Accuracy:
    """The accuracy of all test clips together, with those of each data set in it;
    of one set its own.
    """
    if not data.parts:
        return found[0]
    tests, held_out = (
        [len(getattr(part.split, side)) for part in data.parts] for side in ("test", "validation")
    )

    def share(name: str, clips: Sequence[int]) -> float | None:
        known = [
            (getattr(one, name), count) for one, count in zip(found, clips, strict=True) if count
        ]
        there = known and all(value is not None for value, _ in known)
        return sum(value * count for value, count in known) / sum(clips) if there else None

    selections = [one.selection for one in found if one.selection is not None]
    return Accuracy.model_validate(
        {
            **{f"{probe}_test": share(f"{probe}_test", tests) for probe in ("linear", "knn")},
            **{
                f"{probe}_validation": share(f"{probe}_validation", held_out)
                for probe in ("linear", "knn")
            },
            "regularisation": found[0].regularisation,
            "selection": statistics.fmean(selections) if len(selections) == len(found) else None,
            "test_clips": sum(tests),
            "sets": tuple(found),
        }
    )
