"""A trained encoder as a function from clips to features: what `harness.load_encoder` returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.batches import BodySequences
from datasets.clips import ClipSet
from datasets.layouts import LAYOUTS, SkeletonLayout, layout_from_parents
from harness.encoders.facts import EncoderFacts
from harness.encoders.importing import import_encoder
from harness.errors import UsageError, usage_errors
from harness.evaluation.probes import clip_features
from methods.parts.encoder import SkeletonEncoder

_FRAME_RATE = 30.0
"""Of clips that say none; features do not depend on it."""


@dataclass(frozen=True)
class PretrainedEncoder:
    """A shared encoder from a file, ready to embed clips as the probes of its run saw them.

    Attributes:
        encoder: on its device, in evaluation mode.
        facts: what the file says of itself: size, joints, layout, crop, centring, method.
    """

    encoder: SkeletonEncoder
    facts: EncoderFacts

    def embed(
        self, clips: Sequence[NDArray[np.floating]], *, batch_size: int = 128
    ) -> NDArray[np.float32]:
        """Features of clips of any length.

        Each clip is centred as in the run, cropped as in evaluation (2.5 % dropped at each end) and
        resized in time; its features are the mean over tokens and over present bodies.

        Args:
            clips: [T, M, V, 3] each, metres, y up; an absent body is zeros. A single body may come
                as [T, V, 3].
            batch_size: body sequences at a time.

        Returns:
            ``[N, D]`` float32, zeros for a clip without a body.

        Raises:
            UsageError: a clip of another shape or with numbers that are not finite.
        """
        if not len(clips):
            return np.zeros((0, self.encoder.width), np.float32)
        packed = _packed([np.asarray(clip, np.float32) for clip in clips], self.facts.joints)
        layout = _layout(self.facts)
        with usage_errors():
            made = ClipSet(
                name="clips",
                joints=np.concatenate(packed),
                offsets=np.cumsum([0, *map(len, packed)]),
                columns={
                    "label": np.zeros(len(packed), np.int64),
                    "subject": np.full(len(packed), -1),
                },
                class_names=("unknown",),
                layout=layout,
                fps=_FRAME_RATE,
            )
            device = next(self.encoder.parameters()).device
            bodies = BodySequences(made, device, center=self.facts.center is not False)
            return clip_features(self.encoder, bodies, batch_size)


def load_encoder(path: Path | str, device: str = "cpu") -> PretrainedEncoder:
    """The encoder in a file: ``encoder.safetensors`` of a run, or released weights that
    `import-encoder` can read.

    Raises:
        UsageError: the file is none of these, or holds an encoder of the open division.
    """
    imported = import_encoder(Path(path))
    return PretrainedEncoder(imported.encoder.to(torch.device(device)).eval(), imported.facts)


def _packed(clips: list[NDArray[np.float32]], joints: int) -> list[NDArray[np.float32]]:
    """All clips as [T, M, V, 3] with the same M."""
    four = [clip[:, None] if clip.ndim == 3 else clip for clip in clips]
    for number, clip in enumerate(four):
        if clip.ndim != 4 or clip.shape[2:] != (joints, 3) or not len(clip):
            raise UsageError(
                f"clip {number}: expected [T, M, {joints}, 3] or [T, {joints}, 3], found"
                f" {list(clips[number].shape)}"
            )
        if not np.isfinite(clip).all():
            raise UsageError(
                f"clip {number}: expected finite coordinates, found others; leave such frames out"
            )
    bodies = max(clip.shape[1] for clip in four)
    return [np.pad(clip, ((0, 0), (0, bodies - clip.shape[1]), (0, 0), (0, 0))) for clip in four]


def _layout(facts: EncoderFacts) -> SkeletonLayout:
    """The layout of the encoder's joints; one that is not known
    by name counts its first joint as the root.
    """
    known = LAYOUTS.get(facts.layout) or next(
        (one for one in LAYOUTS.values() if one.joint_count == facts.joints), None
    )
    if known and (not facts.joint_names or known.joints == tuple(facts.joint_names)):
        return known
    names = facts.joint_names or [f"joint {number}" for number in range(facts.joints)]
    return layout_from_parents(names, [-1, *[0] * (facts.joints - 1)])
