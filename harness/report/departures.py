"""Where a run departs from the published training, in one line:
its spec against the preset ``published``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from harness.records.schema import RunRecord
from harness.spec.model import DataSpec, EncoderSpec, Section, TrainSpec
from harness.spec.presets import PRESETS, PUBLISHED_CLIPS

SECTIONS: dict[str, type[Section]] = {"encoder": EncoderSpec, "data": DataSpec, "train": TrainSpec}
_NOT_COMPARED = frozenset(
    {
        # which data, said in a line of its own
        "data.name",
        "data.split",
        "data.label",
        "data.fingerprint",
        # compared as clips a batch and as epochs
        "data.include_empty_bodies",
        "train.batch_size",
        "train.budget",
        # how fast it is computed, not what
        "data.loader",
        "data.workers",
        "train.fused_attention",
        "train.fused_optimizer",
        "train.compile",
        "train.attention_precision",
        "train.compile_scope",
        "train.cuda_graphs",
        "train.sdpa",
        "train.scale_scores",
        "train.gradient_norm",
        "train.gradient_scaler",
        "train.synchronise",
    }
)
_NEAR = 0.01
"""Clips a batch and epochs this share apart are equal:
whole sequences and whole steps do not come out exactly.
"""


def departures(trained: Sequence[RunRecord]) -> list[str]:
    """One line for the runs of a table, which were held equal; none where nothing departs.

    Args:
        trained: records of methods, without controls.
    """
    if not trained:
        return []
    found = [*_settings(trained[0]), *_batch(trained), *_epochs(trained)]
    return [f"departs from --preset published: {', '.join(found)}"] if found else []


def _settings(record: RunRecord) -> list[str]:
    found = []
    for section, model in SECTIONS.items():
        published = model.model_validate(PRESETS["published"].get(section, {})).model_dump()
        for key, here in getattr(record.spec, section).model_dump().items():
            if f"{section}.{key}" not in _NOT_COMPARED and here != published[key]:
                found.append(f"{section}.{key} {_plain(here)} ({_plain(published[key])})")
    return found


def _batch(trained: Sequence[RunRecord]) -> list[str]:
    clips = [
        record.training.clips_seen / record.training.steps for record in trained if record.training
    ]
    if not clips or _near(clips[0], PUBLISHED_CLIPS):
        return []
    return [f"{clips[0]:.0f} clips a batch ({PUBLISHED_CLIPS})"]


def _epochs(trained: Sequence[RunRecord]) -> list[str]:
    """Epochs of every row beside those of its own paper."""
    found = []
    for label in dict.fromkeys(record.label for record in trained):
        rows = [record for record in trained if record.label == label and record.training]
        published = next((record.method.epochs for record in rows), None)
        seen = [
            record.training.clips_seen / record.data.train_clips
            for record in rows
            if record.training
        ]
        if published and not all(_near(epochs, published) for epochs in seen):
            found.append(f"{label} {statistics.mean(seen):.3g} epochs ({published})")
    return found


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= _NEAR * other


def _plain(value: object) -> str:
    return "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
