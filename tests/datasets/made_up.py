"""A tiny valid data set, so that a test can spoil exactly one thing in it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.clips import ClipSet
from datasets.formats.npz import read_npz
from datasets.layouts import layout_from_parents

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_recordings = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
LENGTHS = (3, 2, 4, 1, 3, 2)
JOINT_NAMES = ("root", "spine", "head", "left_hand", "right_hand")
PARENTS = (-1, 0, 1, 1, 1)


def frames(count: int, bodies: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """[count, bodies, 5, 3] random coordinates, no two frames alike."""
    random = np.random.default_rng(seed)
    return random.normal(size=(count, bodies, len(JOINT_NAMES), 3)).astype(np.float32)


def resize_rounding(length: int, step: float = 10.0) -> float:
    """How far two float32 resizes of ``length`` frames may be apart, where neighbouring frames are
    within ``step``.

    A position ``(i + 1/2) length / count - 1/2`` is rounded three times at up to ``length``, by
    half a unit in the last place each, in either resize: 3 eps ``length`` frames. The weighted sum
    adds 2 eps of a coordinate, which is smaller than ``step`` (normally distributed frames stay
    below 5, their steps below 10).
    """
    return float(np.finfo(np.float32).eps) * (3 * length + 2) * step


def exchange_arrays(**changes: Any) -> dict[str, NDArray]:
    """The arrays of a valid file of 6 clips and 15 frames; ``changes`` replaces some,
    None removes one.
    """
    arrays: dict[str, Any] = {
        "joints": frames(sum(LENGTHS)),
        "offsets": np.cumsum((0, *LENGTHS)),
        "label": np.array([0, 1, 0, 1, 0, 1]),
        "subject": np.array([1, 1, 2, 2, 3, -1]),
        "class_names": np.array(["wave", "bow"]),
        "joint_names": np.array(JOINT_NAMES),
        "parents": np.array(PARENTS),
        "fps": np.float32(30),
        "names": np.array([f"take_{index}" for index in range(len(LENGTHS))]),
    }
    arrays |= {name: np.asarray(value) for name, value in changes.items() if value is not None}
    return {
        name: value
        for name, value in arrays.items()
        if name not in changes or changes[name] is not None
    }


def exchange_file(folder: Path, **changes: Any) -> Path:
    """`exchange_arrays` as an uncompressed file, pickles allowed."""
    path = folder / "made_up.npz"
    np.savez(path, **exchange_arrays(**changes))  # type: ignore[arg-type]
    return path


def clip_set(lengths: tuple[int, ...] = LENGTHS, **columns: Any) -> ClipSet:
    """A valid clip set; ``columns`` replaces or adds columns. Labels alternate,
    subjects count from 1.
    """
    count = len(lengths)
    standard = {"label": np.arange(count) % 2, "subject": np.arange(count) + 1}
    return ClipSet(
        name="made_up",
        joints=frames(sum(lengths)),
        offsets=np.cumsum((0, *lengths)),
        columns=standard | {name: np.asarray(values) for name, values in columns.items()},
        class_names=("wave", "bow"),
        layout=layout_from_parents(JOINT_NAMES, PARENTS),
        fps=30.0,
    )


@cache
def recorded(name: str) -> ClipSet:
    """A recorded data set, read once for all tests."""
    return read_npz(DATA / name / f"{name}.npz")
