"""Pictures that a run leaves when it ends: masked clips and their reconstructions, as numbers
beside its record.

They are made when the record is written already: neither a picture that fails nor a stop while it
is made can harm the run, and nothing of it is on any clock. Weights, random numbers and results are
what they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from datasets.catalog import MADE
from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.origins import origin
from harness.errors import UsageError
from harness.pictures.drawing import Sketch, row_title, spread
from harness.pictures.show import body_sequences, people, reconstruction, visible_tokens
from harness.records.pictures import LARGEST, ClipPicture, Pose, RunPictures
from harness.records.schema import RunRecord
from harness.training.data import LoadedData
from methods.base import Method

_CLIPS = 2
_MOMENTS = 6
"""Of each clip, evenly over its time."""
PUBLIC_DOMAIN = "Public Domain"
"""In the words of a licence that lets anybody pass clips on."""
MADE_HERE = "synthetic: made by this suite"


def run_pictures(method: Method, data: LoadedData, record: RunRecord) -> bytes | None:
    """What a finished run leaves as ``pictures.json``; None where the method hides nothing, or no
    clip can be drawn.

    Args:
        method: as training left it, wherever it is. It draws its masks from the random numbers as
            they are.
        data: of the run; clips of its test side are drawn, of several sets those of the first.
    """
    data = data.parts[0] if data.parts else data
    frames = method.evaluated_encoder().grid.frames
    with torch.compiler.set_stance("force_eager"):
        clips = [
            one
            for clip in _chosen(data)
            if (one := _clip_picture(method, data.clips, clip, frames))
        ]
    if not clips:
        return None
    licence = licence_of(data.spec.name)
    sketch = Sketch.of(np.zeros((1, 1, data.clips.layout.joint_count, 3)), data.clips.layout)
    made = RunPictures(
        run=record.address,
        label=record.label,
        seed=record.spec.seed,
        step=record.training.steps if record.training else 0,
        data=record.data.name,
        fingerprint=record.data.fingerprint,
        free=licence == MADE_HERE or PUBLIC_DOMAIN in licence,
        licence=licence,
        bones=[(int(one), int(other)) for one, other in sketch.bones],
        sides=[int(side) for side in sketch.sides],
        clips=clips,
    )
    content = (made.model_dump_json() + "\n").encode()
    return content if len(content) <= LARGEST else None


def licence_of(name: str) -> str:
    """What is known of the licence of a data set by its name;
    empty of a file or a store of one's own.
    """
    if name in MADE:
        return MADE_HERE
    try:
        return origin(name).licence
    except DataError:
        return ""


def _chosen(data: LoadedData) -> list[int]:
    """Test clips of different classes, always the same ones."""
    test = np.sort(data.split.test)
    labels = data.clips.columns["label"][test]
    classes = np.unique(labels)
    picked = classes[np.unique(np.linspace(0, len(classes) - 1, _CLIPS).round().astype(int))]
    members = [test[labels == label] for label in picked]
    return [int(some[len(some) // 2]) for some in members]


def _clip_picture(method: Method, clips: ClipSet, clip: int, frames: int) -> ClipPicture | None:
    """A clip with its tokens and its reconstruction; None where nothing of it is hidden."""
    try:
        x = body_sequences(clips, clip, frames)
    except UsageError:  # a clip without a body
        return None
    x = x.to(next(method.parameters()).device)
    method.train()
    try:
        seen = visible_tokens(method, x)
    except UsageError:
        return None
    made = reconstruction(method, x, seen)
    sketch = Sketch.of(people(x.cpu()), clips.layout)
    times = np.unique(np.linspace(0, frames - 1, _MOMENTS).round().astype(int))
    visible = spread(seen.transpose(0, 1).cpu().numpy(), sketch.present.shape)
    drawn = None
    if made is not None:  # numbers, and none from another world
        finite = np.nan_to_num(people(made.cpu()), posinf=0, neginf=0).clip(-1e3, 1e3)
        drawn = _poses(replace(sketch, frames=finite), times)
    return ClipPicture(
        title=row_title(clips, clip),
        seconds=[round(float(time), 3) for time in times * _seconds(clips, clip, frames)],
        original=_poses(sketch, times),
        visible=visible[times].tolist(),
        reconstruction=drawn,
    )


def _seconds(clips: ClipSet, clip: int, frames: int) -> float:
    """Between two frames of a clip as evaluation resizes it."""
    from datasets.batches import test_crops

    return int(test_crops(torch.as_tensor(clips.lengths[[clip]]))[1]) / clips.fps / frames


def _poses(sketch: Sketch, times: Sequence[int] | np.ndarray) -> list[Pose]:
    """Where joints are on the screen, to the millimetre."""
    return [
        [
            [(round(float(x), 3), round(float(y), 3)) for x, y in body]
            for body in sketch.screen[time]
        ]
        for time in times
    ]
