"""Forward kinematics: from joints in their parents' frames to positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Floats = NDArray[np.float64]


def euler_matrices(axes: str, degrees: Floats) -> Floats:
    """Rotation matrices ``[..., 3, 3]`` of angles ``[..., len(axes)]`` in degrees.

    ``axes`` are one to three of X, Y and Z in the order in which the matrices stand in the product:
    ``"ZXY"`` is Rz Rx Ry, which turns a point about y first.
    """
    flat = degrees.reshape(-1, len(axes))
    return (
        Rotation.from_euler(axes, flat, degrees=True).as_matrix().reshape(*degrees.shape[:-1], 3, 3)
    )


def joint_positions(offsets: Floats, rotations: Floats, parents: Sequence[int]) -> Floats:
    """Positions ``[T, V, 3]`` in the frame of the root's parent, in the unit of ``offsets``.

    Args:
        offsets: [T, V, 3] every joint in its parent's frame.
        rotations: [T, V, 3, 3] every joint's frame in its parent's: it turns the joint's children,
            not the joint.
        parents: V indices, -1 at the root; a parent stands before its children.
    """
    positions, frames = offsets.copy(), rotations.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            turned = frames[:, parent] @ offsets[:, joint, :, None]
            positions[:, joint] = positions[:, parent] + turned[..., 0]
            frames[:, joint] = frames[:, parent] @ rotations[:, joint]
    return positions


def settled(positions: Floats) -> NDArray[np.float32]:
    """Metres to the micrometre, so that processors that differ
    in a last bit still give the same fingerprint.
    """
    return np.round(positions, 6).astype(np.float32)
