"""Probes on frozen features: linear and nearest neighbour, and the raw-coordinate floor. Always off the clock.

Protocol (dossier 1.7 and 7.2, adapted to cached features): the encoder reads all tokens of the test-cropped clip;
a clip's feature is the mean of the final tokens over time, joints and present bodies; features are standardised
(MAMP's batch norm without affine); a multinomial logistic regression is fitted on the training side with the
regularisation that is best on the subject-disjoint validation part. Nothing is selected on the test side.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets.batches import BodySequences, evaluation_batches
from datasets.clips import ClipSet
from datasets.splits import Split
from harness.spec import ProbeSpec
from methods.encoder import SkeletonEncoder

Features = NDArray[np.float32]

RAW_FRAMES = 32
RAW_COMPONENTS = 128


class Accuracy(BaseModel):
    """Shares of correctly classified clips; validation figures are absent when there is no validation part.

    `linear_test` belongs to the `regularisation` chosen on validation; probes for the test side are fitted on
    training and validation clips together.
    """

    linear_validation: float | None
    linear_test: float
    knn_validation: float | None
    knn_test: float
    regularisation: float
    test_clips: int


def clip_features(encoder: SkeletonEncoder, source: BodySequences, batch_size: int = 128) -> Features:
    """Mean final token of every clip's present bodies, ``[N, D]``; the encoder is frozen and sees every token."""
    was_training = encoder.training
    encoder.eval()
    total = torch.zeros(source.clip_count, encoder.width, device=source.device)
    with torch.inference_mode():
        for numbers, x in evaluation_batches(source, batch_size, encoder.grid.frames):
            total.index_add_(0, source.clip[numbers], encoder(x).float().mean(dim=1))
    bodies = torch.bincount(source.clip, minlength=source.clip_count).clamp(min=1)
    encoder.train(was_training)
    return (total / bodies[:, None]).cpu().numpy()


def raw_features(clips: ClipSet, frames: int = RAW_FRAMES) -> Features:
    """Root-centred joints of every body and the first body's root path, ``[N, frames * (M * V + 1) * 3]``.

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
    return np.concatenate([joints.reshape(frames, -1), path.reshape(frames, -1)], axis=1).ravel().astype(np.float32)


def evaluate(features: Features, labels: NDArray[np.int64], split: Split, probe: ProbeSpec) -> Accuracy:
    """Linear and nearest-neighbour accuracy of cached features."""
    train, validation, test = split.train, split.validation, split.test
    both = np.sort(np.concatenate([train, validation]))

    def linear(fit: NDArray[np.int64], score: NDArray[np.int64], strength: float) -> float:
        return _score(_linear_probe(strength), features, labels, fit, score)

    def neighbours(fit: NDArray[np.int64], score: NDArray[np.int64]) -> float:
        classifier = KNeighborsClassifier(min(probe.neighbours, len(fit)), metric="cosine")
        return _score(classifier, features, labels, fit, score)

    chosen, best = 1.0, None
    if len(validation):
        scores = {strength: linear(train, validation, strength) for strength in probe.regularisation}
        chosen = max(scores, key=lambda strength: scores[strength])
        best = scores[chosen]
    return Accuracy(
        linear_validation=best,
        linear_test=linear(both, test, chosen),
        knn_validation=neighbours(train, validation) if len(validation) else None,
        knn_test=neighbours(both, test),
        regularisation=chosen,
        test_clips=len(test),
    )


def evaluate_raw(clips: ClipSet, labels: NDArray[np.int64], split: Split, probe: ProbeSpec) -> Accuracy:
    """The raw-coordinate floor: standardise, PCA, then the same probes. PCA sees training clips only."""
    both = np.concatenate([split.train, split.validation])
    raw = raw_features(clips)
    components = min(RAW_COMPONENTS, len(both), raw.shape[1])
    reduce = make_pipeline(StandardScaler(), PCA(components, random_state=0)).fit(raw[both])
    return evaluate(reduce.transform(raw).astype(np.float32), labels, split, probe)


def _linear_probe(strength: float) -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _score(
    classifier: object, features: Features, labels: NDArray[np.int64], fit: NDArray[np.int64],
    score: NDArray[np.int64],
) -> float:  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1000 iterations are ample; weak C may go on forever
        classifier.fit(features[fit], labels[fit])  # type: ignore[attr-defined]
    return float(classifier.score(features[score], labels[score]))  # type: ignore[attr-defined]
