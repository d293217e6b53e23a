"""A person in the Kinect v1 layout whose every length is known,
so that a test can spoil exactly one thing in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.clips import ClipSet
from datasets.layouts import KINECT20

# Metres, y up, facing +z, so the left side is at positive x. Head to foot along the bones:
# 0.2 + 0.3 + 0.2 + 0.1 + 0.45 + 0.45 + 0.15 = 1.85; upright 1.7 - 0.1 = 1.6.
STANDING = {
    "hip_center": (0, 1.0, 0),
    "spine": (0, 1.2, 0),
    "shoulder_center": (0, 1.5, 0),
    "head": (0, 1.7, 0),
    "shoulder": (0.2, 1.45, 0.0),
    "elbow": (0.25, 1.15, 0.0),
    "wrist": (0.25, 0.9, 0.05),
    "hand": (0.25, 0.8, 0.05),
    "hip": (0.1, 1.0, 0.0),
    "knee": (0.1, 0.55, 0.0),
    "ankle": (0.1, 0.1, 0.0),
    "foot": (0.1, 0.1, 0.15),
}
STATURE, HEIGHT = 1.85, 1.6


def pose() -> NDArray[np.float32]:
    """[20, 3] standing, not at the origin."""
    joints = []
    for name in KINECT20.joints:
        x, y, z = STANDING.get(name) or STANDING[name.partition("_")[0]]
        joints.append((-x if name.endswith("_right") else x, y, z))
    return np.array(joints, np.float32) + np.float32([0.5, 0, 3])


def walk(frames: int, step: float = 0.02) -> NDArray[np.float32]:
    """[frames, 1, 20, 3] the person, gliding forward by ``step`` metres a frame."""
    ahead = np.zeros((frames, 1, 1, 3), np.float32)
    ahead[:, 0, 0, 2] = step * np.arange(frames)
    return pose() + ahead


def people(*clips: NDArray[np.float32], **columns: Any) -> ClipSet:
    """A clip set of clips [T, M, 20, 3] at 30 fps; labels alternate, subjects count from 1."""
    count = len(clips)
    standard = {"label": np.arange(count) % 2, "subject": np.arange(count) + 1}
    return ClipSet(
        name="people",
        joints=np.concatenate(clips),
        offsets=np.cumsum([0, *map(len, clips)]),
        columns=standard | {name: np.asarray(values) for name, values in columns.items()},
        class_names=("walk", "stroll"),
        layout=KINECT20,
        fps=30.0,
    )


def four(**columns: Any) -> ClipSet:
    """Four clips of 12, 10, 9 and 8 frames, each at its own speed."""
    return people(walk(12, 0.01), walk(10, 0.02), walk(9, 0.03), walk(8, 0.04), **columns)
