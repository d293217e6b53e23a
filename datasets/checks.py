"""What must hold for a `ClipSet`; every failure is one line: the array, the clip, the next step."""

from __future__ import annotations

from collections import Counter
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from datasets.clips import ClipSet, frame_blocks
from datasets.errors import DataError
from datasets.layouts import check_tree
from datasets.wording import listed

_JOINT_TYPES = (np.dtype(np.float32), np.dtype(np.float16))
_COLUMN_KINDS = "biufU"
_MOST_JOINTS = 1_000
"""Joints of a body; rigs with faces and fingers have 165 to 500."""


def validate(clips: ClipSet, where: str = "", *, frames: bool = True) -> None:
    """Check everything that the rest of the suite relies on; the frames are read once, in blocks.

    Args:
        clips: the clip set to check.
        where: what messages call it, e.g. the file's path; the clip set's name when empty.
        frames: look at the coordinates too.

    Raises:
        DataError: naming ``where``, the array, what was expected, what was found and what to do.
    """
    where = where or clips.name
    check_joints(where, clips.joints.shape, clips.joints.dtype)
    _check_offsets(where, clips)
    _check_labels(where, clips)
    _check_subjects(where, clips)
    _check_columns(where, clips)
    _check_skeleton(where, clips)
    if frames:
        _check_frames(where, clips)


def refuse(where: str, array: str, expected: str, found: object, step: str) -> NoReturn:
    """Raise the `DataError` in the one form that all checks share."""
    raise DataError(f"{where}: {array}: expected {expected}, found {found}; {step}")


def check_joints(where: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuse joints that are not [F, M, V, 3] of float32 or float16, or hold nothing."""
    if len(shape) != 4 or shape[-1] != 3:
        refuse(
            where,
            "joints",
            "shape [F, M, V, 3]",
            list(shape),
            "reshape to frames, bodies, joints, x y z",
        )
    if dtype not in _JOINT_TYPES:
        refuse(
            where,
            "joints",
            "float32 or float16",
            dtype,
            "convert with .astype('float32'), in metres",
        )
    if shape[2] > _MOST_JOINTS:
        step = "leave out points that are no joints"
        refuse(
            where,
            "joints",
            f"at most {_MOST_JOINTS:,} joints",
            f"{shape[2]:,} in shape {list(shape)}",
            step,
        )
    if 0 in shape:
        refuse(
            where,
            "joints",
            "at least one frame, body and joint",
            list(shape),
            "write the frames anew",
        )


def check_integers(where: str, name: str, values: NDArray, count: int | None = None) -> None:
    """Refuse an array that is not one-dimensional integers, ``count`` of them when given."""
    expected = "one-dimensional integers" if count is None else f"integers of shape [{count}]"
    if values.ndim != 1 or (count is not None and len(values) != count):
        refuse(where, name, expected, f"shape {list(values.shape)}", "write it anew")
    if values.dtype.kind not in "iu":
        refuse(where, name, expected, values.dtype, "convert with .astype('int64')")


def _check_offsets(where: str, clips: ClipSet) -> None:
    offsets, frames = clips.offsets, len(clips.joints)
    check_integers(where, "offsets", offsets)
    if len(offsets) < 2:
        refuse(
            where,
            "offsets",
            "shape [N + 1] with N at least 1",
            list(offsets.shape),
            "add the clips' ends",
        )
    if (offsets < 0).any():
        index = int(np.argmax(offsets < 0))
        refuse(
            where,
            "offsets",
            "0 or more",
            f"{offsets[index]} at index {index}",
            "count frames from 0",
        )
    if offsets[0] != 0:
        refuse(where, "offsets", "0 at the start", offsets[0], "clip 0 starts at frame 0")
    if (clips.lengths <= 0).any():
        _refuse_length(where, clips, int(np.argmax(clips.lengths <= 0)))
    if offsets[-1] != frames:
        step = "the last offset is the number of frames in joints"
        refuse(where, "offsets", f"{frames} at the end", offsets[-1], step)


def _refuse_length(where: str, clips: ClipSet, index: int) -> NoReturn:
    start, end = clips.offsets[index : index + 2]
    if start == end:
        found = f"an empty {clips.describe(index)}, frames {start} to {end}"
        refuse(where, "offsets", "at least one frame in every clip", found, "leave the clip out")
    found = f"{clips.describe(index)} from {start} to {end}"
    refuse(where, "offsets", "offsets that increase", found, "sort the clips as their frames are")


def _check_labels(where: str, clips: ClipSet) -> None:
    labels, count = _required(where, clips, "label"), len(clips.class_names)
    if count == 0:
        refuse(where, "class_names", "at least one name", "none", "name the class of every label")
    if twice := [name for name, times in Counter(clips.class_names).items() if times > 1]:
        refuse(
            where,
            "class_names",
            "a name of its own for every class",
            f"{twice[0]!r} twice",
            "rename one of them",
        )
    wrong = (labels < 0) | (labels >= count)
    if wrong.any():
        index = int(np.argmax(wrong))
        step = "labels count from 0 and index class_names"
        refuse(
            where, "label", f"0 to {count - 1}", f"{labels[index]} at {clips.describe(index)}", step
        )


def _check_subjects(where: str, clips: ClipSet) -> None:
    subjects = _required(where, clips, "subject")
    if (subjects < -1).any():
        index = int(np.argmax(subjects < -1))
        found = f"{subjects[index]} at {clips.describe(index)}"
        refuse(
            where,
            "subject",
            "-1 (not known) or more",
            found,
            "write -1 where the subject is not known",
        )


def _required(where: str, clips: ClipSet, name: str) -> NDArray:
    if name not in clips.columns:
        refuse(
            where, name, "a column of this name", listed(clips.columns), f"add one {name} per clip"
        )
    check_integers(where, name, clips.columns[name], len(clips))
    return clips.columns[name]


def _check_columns(where: str, clips: ClipSet) -> None:
    for name, values in clips.columns.items():
        if values.shape != (len(clips),):
            step = "give one value per clip, or remove the array"
            refuse(
                where, name, f"shape [{len(clips)}], one value per clip", list(values.shape), step
            )
        if values.dtype.kind not in _COLUMN_KINDS:
            refuse(
                where, name, "numbers or strings", values.dtype, "convert it, or remove the array"
            )


def _check_skeleton(where: str, clips: ClipSet) -> None:
    count = clips.joints.shape[2]
    for name, values in (("joint_names", clips.layout.joints), ("parents", clips.layout.parents)):
        if len(values) != count:
            refuse(
                where,
                name,
                f"shape [{count}], one per joint",
                [len(values)],
                "fit it to joints [F, M, V, 3]",
            )
    try:
        check_tree(clips.layout.parents)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    if not (np.isfinite(clips.fps) and clips.fps > 0):
        refuse(
            where, "fps", "frames per second above 0", clips.fps, "write the recording's frame rate"
        )


def _check_frames(where: str, clips: ClipSet) -> None:
    present = np.empty(len(clips.joints), dtype=bool)
    for first, block in frame_blocks(clips.joints):
        if found := _not_finite_in(clips, first, block):
            step = "interpolate it, or write zeros for an absent body"
            refuse(where, "joints", "finite coordinates in metres", found, step)
        present[first : first + len(block)] = block.any(axis=(1, 2, 3))
    empty = ~np.logical_or.reduceat(present, clips.offsets[:-1])
    if empty.any():
        found = f"{clips.describe(int(np.argmax(empty)))} with only zeros"
        refuse(
            where, "joints", "a body in every clip", found, f"leave out {empty.sum()} such clips"
        )


def not_finite(clips: ClipSet, first: int = 0, end: int | None = None) -> str:
    """The first coordinate that is NaN or infinite, and where it stands; empty when there is none.

    Args:
        first, end: frames to look at, of all clips together.
    """
    blocks = frame_blocks(clips.joints[first:end])
    return next(
        (
            found
            for start, block in blocks
            if (found := _not_finite_in(clips, first + start, block))
        ),
        "",
    )


def _not_finite_in(clips: ClipSet, first: int, block: NDArray[np.floating]) -> str:
    finite = np.isfinite(block)
    if finite.all():
        return ""
    frame, body, joint, axis = np.argwhere(~finite)[0]
    index = int(np.searchsorted(clips.offsets, first + frame, side="right")) - 1
    place = f"frame {first + frame - clips.offsets[index]} of the clip, body {body}"
    value = block[frame, body, joint, axis]
    return f"{value} at {clips.describe(index)}, {place}, joint {clips.layout.joints[joint]!r}"
