"""Nearest neighbours of frozen features: the gallery is the training side, cosine similarity,
no augmentation.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from harness.evaluation.protocol import (
    AboutProtocol,
    Protocol,
    ProtocolOptions,
    ProtocolResult,
    Subject,
)

VERSION = 1

_ALWAYS = (1, 2, 5, 10)
"""Numbers of neighbours that STARS reports."""


class _NeighbourOptions(ProtocolOptions):
    """Options; ``k`` neighbours vote, each with one vote."""

    k: int = Field(default=1, ge=1, le=10_000)


class Neighbours(Protocol[_NeighbourOptions]):
    """Most frequent class among the k nearest; the accuracies at k = 1, 2, 5 and 10 come along."""

    name = "knn"
    about = AboutProtocol(
        title="k nearest neighbours",
        source=(
            "STARS, knn_eval.py (TaatiTeam/STARS, arXiv 2407.10935): k 1, 2, 5 and 10, cosine,"
            " unweighted"
        ),
        choices=("a tie goes to the class that comes first, as in scikit-learn",),
    )
    Options = _NeighbourOptions
    reads_raw = True

    def evaluate(self, subject: Subject) -> ProtocolResult:
        """Predict with k neighbours; k is at most the number of labelled clips."""
        side, labels = subject.training_side, subject.labels
        predictions = {}
        with threadpool_limits(1):
            for k in sorted({self.options.k, *_ALWAYS}):
                classifier = KNeighborsClassifier(min(k, len(side)), metric="cosine")
                classifier.fit(subject.features[side], labels[side])
                predictions[k] = classifier.predict(subject.features[subject.test])
        truth = labels[subject.test]
        figures = {f"k={k}": float(np.mean(found == truth)) for k, found in predictions.items()}
        return ProtocolResult(predictions[self.options.k], figures=figures)
