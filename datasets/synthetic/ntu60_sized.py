"""Made-up clips in the size of NTU RGB+D 60: for speed and memory at full scale,
never for accuracy.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.files import CACHE_VARIABLE, cache_dir
from datasets.formats.store import is_store, open_store
from datasets.formats.store_writing import StorePart, write_store
from datasets.raw.ntu.facts import OfNtu60
from datasets.synthetic import generation as synthetic
from datasets.wording import one_line

VERSION = 1

TRAIN, TEST = OfNtu60.published["xsub"]
"""Clips of the cross-subject split; here that is odd and even subjects."""
TWO_BODIES = 0.18
"""Share of clips with a second body."""
SHORTEST, MEDIAN, LONGEST, _SPREAD = 32, 75, 300, 0.4
"""Frames: log-normal around the median with that sigma, cut to NTU RGB+D's range."""
_SUBJECTS = 40
_BLOCK = 2_000


def load() -> ClipSet:
    """Poses of `synthetic` stretched to 56,578 clips (40,091 to train on) of NTU-like lengths;
    for speed only.
    """
    folder = cache_dir() / f"ntu60-sized-v{VERSION}"
    if not is_store(folder):
        try:
            keep(generate(TRAIN, TEST), folder)
        except OSError as error:
            raise DataError(
                f"{folder}: {one_line(error)}; set {CACHE_VARIABLE} to a folder with 2 GB to spare"
            ) from None
    return open_store(folder)


def keep(clips: ClipSet, folder: Path) -> None:
    """Write the clips as a store, whole or not at all."""
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    try:
        write_store(
            temporary,
            _pieces(clips),
            clips.joints.shape,
            "<f2",
            name=clips.name,
            title="Made up, in the size of NTU",
            plan=f"version {VERSION}",
            joint_names=clips.layout.joints,
            parents=clips.layout.parents,
            class_names=clips.class_names,
            fps=clips.fps,
            default_split=clips.default_split,
            splits={},
            expected={},
            counts={},
            problems=(),
        )
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _pieces(clips: ClipSet) -> Iterator[StorePart]:
    """The clips, some thousand at a time."""
    for first in range(0, len(clips), _BLOCK):
        last = min(len(clips), first + _BLOCK)
        frames = clips.joints[clips.offsets[first] : clips.offsets[last]]
        yield StorePart(
            frames,
            clips.lengths[first:last],
            {key: v[first:last] for key, v in clips.columns.items()},
        )


def generate(train: int, test: int) -> ClipSet:
    """Clips for odd subjects (``train`` of them) and even ones, in seconds and with float16 frames.

    A clip is a synthetic clip of one or two bodies, resampled to another length and moved a little,
    so that no two are alike. They are the same ones every time.
    """
    rng = np.random.default_rng(0)
    count = train + test
    made = synthetic.load()
    pairs = np.isin(
        made.columns["label"], [made.class_names.index(name) for name in ("handshake", "push")]
    )
    double = rng.random(count) < TWO_BODIES
    base = np.where(
        double, rng.choice(np.nonzero(pairs)[0], count), rng.choice(np.nonzero(~pairs)[0], count)
    )
    lengths = (
        np.exp(np.log(MEDIAN) + _SPREAD * rng.standard_normal(count))
        .clip(SHORTEST, LONGEST)
        .astype(np.int64)
    )
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    joints = np.zeros((offsets[-1], *made.joints.shape[1:]), np.float16)
    shift = rng.uniform(-0.5, 0.5, (count, 3)).astype(np.float32)
    for first in range(0, count, _BLOCK):
        chosen = np.arange(first, min(count, first + _BLOCK))
        rows, clip = _resampled(made, base[chosen], lengths[chosen])
        frames = made.joints[rows] + shift[chosen[clip]][:, None, None] * (made.joints[rows] != 0)
        joints[offsets[first] : offsets[chosen[-1] + 1]] = frames
    side = np.arange(count) < train
    subject = 2 * rng.integers(0, _SUBJECTS // 2, count) + np.where(side, 1, 2)
    return ClipSet(
        name="ntu60-sized",
        joints=joints,
        offsets=offsets,
        columns={"label": made.columns["label"][base], "subject": subject},
        class_names=made.class_names,
        layout=made.layout,
        fps=made.fps,
    )


def _resampled(
    made: ClipSet, base: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Frames of clips stretched to ``lengths`` frames,
    and which of the clips each frame belongs to.
    """
    clip = np.repeat(np.arange(len(base)), lengths)
    step = np.arange(len(clip)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    position = step * made.lengths[base][clip] // lengths[clip]
    return made.offsets[base][clip] + position, clip
