"""What poses tell of a skeleton: unit of length, up axis, left and right, and whether the joints
are in their order.

Head, feet, toes and knees are found by the joints' names; a layout whose names tell of none gives
"cannot tell".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datasets.layouts import SkeletonLayout

UNITS: Mapping[str, float] = {
    "metres": 1.0,
    "centimetres": 0.01,
    "millimetres": 0.001,
    "inches": 0.0254,
}
"""Units that a skeleton may be in, in metres each."""
STANDING = (1.0, 2.3)
"""Metres from head to foot along the bones: children to tall adults;
the bend at hip and foot adds 0.1 to 0.2.
"""
_USUAL = 1.75
"""Metres from head to foot along the bones of an adult."""
FILE_UNITS: Mapping[str, float] = {
    **UNITS,
    "CMU's unit": 0.0254 / 0.45,
    "decimetres": 0.1,
    "feet": 0.3048,
}
"""Units that motion files are in, in metres each;
the CMU motion capture database counts 1 / 0.45 inch.
"""
READ_AS = "centimetres"
"""What BVH files are taken for where nothing says otherwise."""
DIRECTIONS = ("+x", "-x", "+y", "-y", "+z", "-z")
_UNEVEN = 1.3
"""Times the length of the same bone on the other side that no bone of a person has."""
_LEAST_PAIRS = 3
TALL, RIGHT, FORWARD = range(3)
"""Rows of `body_vectors`."""

_HEADS, _FEET, _TOES, _HEELS = (
    ("head", "neck"),
    ("foot", "ankle", "toe"),
    ("toe", "foot"),
    ("ankle", "foot", "heel"),
)
_KNEES = ("knee", "lowerleg", "shin", "calf")


def body_vectors(layout: SkeletonLayout) -> NDArray[np.float32]:
    """``[3, V]`` weights that make three vectors of a pose [V, 3]: feet to head, left to right,
    heels to toes.

    Where there are no toes, knees in front of the line from hip to ankle stand in for them. A row
    is zero where the joints' names do not tell.
    """
    weights = np.zeros((3, layout.joint_count), np.float32)
    head, feet = head_joint(layout), _foot_joints(layout)
    if head is not None and feet:
        _add(weights[TALL], [head], feet)
    if layout.pairs:
        left, right = zip(*layout.pairs, strict=True)
        _add(weights[RIGHT], right, left)
    if toes := _toes(layout):
        _add(weights[FORWARD], *zip(*toes, strict=True))
    elif knees := list(_knees(layout)):
        middle, hips, ankles = zip(*knees, strict=True)
        _add(weights[FORWARD], middle, hips + ankles)
    return weights


def front_by(layout: SkeletonLayout) -> Literal["toes", "knees", ""]:
    """What tells where the front is in `body_vectors`; empty when nothing does."""
    return "toes" if _toes(layout) else "knees" if any(_knees(layout)) else ""


def least_forward(layout: SkeletonLayout) -> float:
    """By how much of a body's height toes, or knees where there are none, stand out before they
    tell the front.

    A foot is that long at least. A locked knee stands 2 to 5 cm behind the line from hip to ankle,
    and a Kinect's knees are no better: so little says nothing.
    """
    return 0.02 if front_by(layout) == "toes" else 0.04


def head_joint(layout: SkeletonLayout) -> int | None:
    """The top of the head, or what is nearest to it; None when no joint's name tells."""
    heads = _called(_bare(layout), _HEADS)
    return max(heads, key=lambda joint: len(_path_to_root(layout, joint))) if heads else None


def _foot_joints(layout: SkeletonLayout) -> list[int]:
    """The joints that are called feet, or ankles, or toes, at the ends of legs.

    A rig's helpers for feet hang from its root: only the joints that are as deep in the tree as the
    deepest count.
    """
    feet = _called(_bare(layout), _FEET)
    depths = [len(_path_to_root(layout, joint)) for joint in feet]
    return [joint for joint, depth in zip(feet, depths, strict=True) if depth == max(depths)]


def hip_joint(layout: SkeletonLayout) -> int | None:
    """Where the way from the head to the root meets that from the first foot;
    None when names do not tell.
    """
    head, feet = head_joint(layout), _foot_joints(layout)
    if head is None or not feet:
        return None
    above = _path_to_root(layout, head)
    return next(joint for joint in _path_to_root(layout, feet[0]) if joint in above)


def _path_to_root(layout: SkeletonLayout, joint: int) -> list[int]:
    """A joint, its parent, and so on up to the root."""
    path = [joint]
    while layout.parents[path[-1]] >= 0:
        path.append(layout.parents[path[-1]])
    return path


def body_chain(layout: SkeletonLayout, weights: NDArray[np.float32]) -> tuple[int, ...]:
    """Joints whose bones to their parents lead from the head to the first foot;
    empty when there is none.
    """
    head, feet = np.flatnonzero(weights[TALL] > 0), np.flatnonzero(weights[TALL] < 0)
    if not len(head):
        return ()
    one, other = set(_path_to_root(layout, int(head[0]))), set(_path_to_root(layout, int(feet[0])))
    return tuple(sorted(one ^ other))


def unit_of(length: float) -> str:
    """The unit in which a person is ``length`` long from head to foot;
    empty when none of `UNITS` fits.
    """
    fitting = (
        unit for unit, metres in UNITS.items() if STANDING[0] <= length * metres <= STANDING[1]
    )
    return next(fitting, "")


def misread_unit(length: float) -> str:
    """The unit of `FILE_UNITS` that, read as `READ_AS`,
    makes a person ``length`` metres long; empty when none does.
    """
    true = {
        unit: length * metres / FILE_UNITS[READ_AS]
        for unit, metres in FILE_UNITS.items()
        if unit != READ_AS
    }
    fitting = [unit for unit, metres in true.items() if STANDING[0] <= metres <= STANDING[1]]
    return min(fitting, key=lambda unit: abs(log(true[unit] / _USUAL)), default="")


def tree_over_shortest(poses: NDArray[np.floating], layout: SkeletonLayout) -> float | None:
    """Length of the layout's bones over that of the shortest tree through the same joints; None
    without poses.

    Distances between joints are those that nine in ten of ``poses`` [P, V, 3] stay below: bones are
    as long then as ever, and what only comes close in some poses, such as two hands, is apart. Near
    1 when the joints are in the layout's order; every exchanged joint adds to it, and so do joints
    that are no part of a body.
    """
    if not len(poses) or layout.joint_count < 3:
        return None
    from scipy.sparse.csgraph import minimum_spanning_tree

    distance = _usual_distances(poses)
    shortest = minimum_spanning_tree(distance + 1e-6).sum()  # zero would count as no edge
    return (
        float(sum(distance[bone] for bone in layout.bones) / shortest) if distance.any() else None
    )


def _usual_distances(poses: NDArray[np.floating]) -> NDArray[np.float64]:
    """``[V, V]`` 90th percentile over poses [P, V, 3] of the distance between two joints."""
    rows = [
        np.linalg.norm(poses - poses[:, joint, None], axis=-1) for joint in range(poses.shape[1])
    ]
    return np.array([np.percentile(row, 90, axis=0) for row in rows], dtype=np.float64)


def uneven_bones(lengths: NDArray[np.floating], layout: SkeletonLayout) -> dict[str, float] | None:
    """Left joints whose bone is over `_UNEVEN` times as long as that of the same joint on the
    right, or the reverse.

    Args:
        lengths: [V - 1] of the layout's bones.
        layout: the skeleton.

    Returns:
        Joint -> factor; None when fewer than `_LEAST_PAIRS` bones have a name on both sides.
    """
    length = dict(zip((joint for joint, _ in layout.bones), lengths.tolist(), strict=True))
    pairs = [(left, right) for left, right in layout.pairs if left in length and right in length]
    if len(pairs) < _LEAST_PAIRS:
        return None
    slack = 0.002 * float(np.nansum(lengths))  # next to nothing is not twice as long as nothing
    factors = {left: (length[left] + slack) / (length[right] + slack) for left, right in pairs}
    return {
        layout.joints[left]: max(f, 1 / f) for left, f in factors.items() if max(f, 1 / f) > _UNEVEN
    }


def _called(bare: Sequence[str], words: Sequence[str]) -> list[int]:
    """Joints with the first of ``words`` that stands in any name."""
    found = ([joint for joint, name in enumerate(bare) if word in name] for word in words)
    return next(filter(None, found), [])


def _any(name: str, words: Sequence[str]) -> bool:
    return any(word in name for word in words)


def _bare(layout: SkeletonLayout) -> list[str]:
    """The joints' names, letters alone in lower case."""
    return ["".join(filter(str.isalpha, joint.lower())) for joint in layout.joints]


def _toes(layout: SkeletonLayout) -> list[tuple[int, int]]:
    """(toes, heel) of every foot."""
    bare = _bare(layout)
    return [
        (j, parent)
        for j, parent in layout.bones
        if _any(bare[j], _TOES) and _any(bare[parent], _HEELS)
    ]


def _knees(layout: SkeletonLayout) -> Iterator[tuple[int, int, int]]:
    """(knee, hip, ankle) of every leg."""
    bare = _bare(layout)
    for ankle, knee in layout.bones:
        hip = layout.parents[knee]
        if _any(bare[knee], _KNEES) and hip >= 0:
            yield knee, hip, ankle


def _add(row: NDArray[np.float32], to: Sequence[int], start: Sequence[int]) -> None:
    """Write the vector from the mean of the joints ``start`` to the mean of the joints ``to``."""
    np.add.at(row, list(to), 1 / len(to))
    np.add.at(row, list(start), -1 / len(start))
