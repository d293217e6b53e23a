"""What one evaluation will take, from a batch of clips and a few iterations
of the linear probe: for a plan.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from datasets.batches import evaluation_batches
from harness.evaluation.probes import LabelledClips, selection_folds
from harness.spec.model import ProbeSpec
from methods.parts.encoder import Encoder

_BATCH = {"cpu": 8, "cuda": 128}
"""Body sequences that the encoder is timed on."""
_SAMPLE = 1024
"""Clips that the linear probe is timed on: its time grows with them."""
ITERATIONS = 200
"""Of one fit: 163 on average for the untrained `tiny` encoder on `synthetic`, 300 at most."""
FASTEST, SLOWEST = 50, 300
_TIMED = 10
"""Iterations that are timed."""


def embedding_seconds(encoder: Encoder, data: LabelledClips) -> float:
    """Seconds for the features of all clips:
    the encoder on every token of every body sequence, from one batch.
    """
    bodies, device = data.bodies, data.device
    with torch.inference_mode():
        for number, (chosen, x) in enumerate(
            evaluation_batches(bodies, _BATCH[device.type], encoder.grid.frames)
        ):
            began = time.perf_counter()
            encoder(x).sum().item()
            seconds, count = time.perf_counter() - began, len(chosen)
            if number == 1:  # the first one warms up
                break
    return seconds * len(bodies) / count


def iteration_seconds(width: int, data: LabelledClips) -> float:
    """Seconds of one iteration of the linear probe on the training side's clips,
    from random features of a sample.
    """
    side = np.concatenate([data.split.train, data.split.validation])
    random = np.random.default_rng(0)
    sample = random.permutation(side)[:_SAMPLE]
    if len(np.unique(data.labels[sample])) < 2:
        return 0.0
    features = random.normal(size=(len(sample), width)).astype(np.float32)
    classifier = LogisticRegression(max_iter=_TIMED, tol=1e-12)
    with warnings.catch_warnings(), threadpool_limits(1):  # as the probe itself
        warnings.simplefilter("ignore", ConvergenceWarning)
        began = time.perf_counter()
        classifier.fit(features, data.labels[sample])
    seconds = (time.perf_counter() - began) / max(1, int(classifier.n_iter_[0]))
    return seconds * len(side) / len(sample)


def fit_count(data: LabelledClips, probe: ProbeSpec) -> float:
    """Fits of the linear probe on the whole training side that one evaluation amounts to.

    Every regularisation on every fold that it is chosen on, and the one that was chosen on the
    training side twice, with validation subjects and without.
    """
    side = len(data.split.train) + len(data.split.validation)
    folds = selection_folds(data.labels, data.clips.columns["subject"], data.split)
    return (
        1.0
        + len(data.split.train) / side
        + len(probe.regularisation) * sum(len(fit) for fit, _ in folds) / side
    )
