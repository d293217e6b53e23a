"""What poses tell of a skeleton: unit of length, up axis, left and right, and whether the joints are in their order.

Head, feet and toes are found by the joints' names; a layout whose names tell of none gives "cannot tell".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets.layouts import SkeletonLayout

UNITS: Mapping[str, float] = {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254}
"""Units that a skeleton may be in, in metres each."""
STANDING = (1.0, 2.3)
"""Metres from head to foot along the bones: children to tall adults; the bend at hip and foot adds 0.1 to 0.2."""
DIRECTIONS = ("+x", "-x", "+y", "-y", "+z", "-z")
TALL, RIGHT, FORWARD = range(3)
"""Rows of `body_vectors`."""

_HEADS, _FEET, _TOES, _HEELS = ("head", "neck"), ("foot", "ankle", "toe"), ("toe", "foot"), ("ankle", "foot", "heel")
_KNEES = ("knee", "lowerleg", "shin", "calf")


def body_vectors(layout: SkeletonLayout) -> NDArray[np.float32]:
    """``[3, V]`` weights that make three vectors of a pose [V, 3]: feet to head, left to right, heels to toes.

    Where there are no toes, knees in front of the line from hip to ankle stand in for them. A row is zero where the
    joints' names do not tell.
    """
    bare = ["".join(filter(str.isalpha, joint.lower())) for joint in layout.joints]
    weights = np.zeros((3, layout.joint_count), np.float32)
    head, feet = head_joint(layout), _called(bare, _FEET)
    if head is not None and feet:
        _add(weights[TALL], [head], feet)
    if layout.pairs:
        left, right = zip(*layout.pairs, strict=True)
        _add(weights[RIGHT], right, left)
    toes = [(j, parent) for j, parent in layout.bones if _any(bare[j], _TOES) and _any(bare[parent], _HEELS)]
    knees = list(_knees(layout, bare))
    if toes:
        _add(weights[FORWARD], *zip(*toes, strict=True))
    elif knees:
        middle, hips, ankles = zip(*knees, strict=True)
        _add(weights[FORWARD], middle, hips + ankles)
    return weights


def head_joint(layout: SkeletonLayout) -> int | None:
    """The top of the head, or what is nearest to it; None when no joint's name tells."""
    bare = ["".join(filter(str.isalpha, joint.lower())) for joint in layout.joints]
    heads = _called(bare, _HEADS)
    return max(heads, key=lambda joint: len(path_to_root(layout, joint))) if heads else None


def path_to_root(layout: SkeletonLayout, joint: int) -> list[int]:
    """A joint, its parent, and so on up to the root."""
    path = [joint]
    while layout.parents[path[-1]] >= 0:
        path.append(layout.parents[path[-1]])
    return path


def body_chain(layout: SkeletonLayout, weights: NDArray[np.float32]) -> tuple[int, ...]:
    """Joints whose bones to their parents lead from the head to the first foot; empty when there is none."""
    head, feet = np.flatnonzero(weights[TALL] > 0), np.flatnonzero(weights[TALL] < 0)
    if not len(head):
        return ()
    one, other = set(path_to_root(layout, int(head[0]))), set(path_to_root(layout, int(feet[0])))
    return tuple(sorted(one ^ other))


def unit_of(length: float) -> str:
    """The unit in which a person is ``length`` long from head to foot; empty when none of `UNITS` fits."""
    fitting = (unit for unit, metres in UNITS.items() if STANDING[0] <= length * metres <= STANDING[1])
    return next(fitting, "")


def tree_over_shortest(poses: NDArray[np.floating], layout: SkeletonLayout) -> float | None:
    """Length of the layout's bones over that of the shortest tree through the same joints; None without poses.

    Distances between joints are medians over ``poses`` [P, V, 3]. Near 1 when the joints are in the layout's order;
    every exchanged joint adds to it.
    """
    if not len(poses) or layout.joint_count < 3:
        return None
    from scipy.sparse.csgraph import minimum_spanning_tree

    distance = median_distances(poses)
    shortest = minimum_spanning_tree(distance + 1e-6).sum()  # zero would count as no edge
    return float(sum(distance[bone] for bone in layout.bones) / shortest) if distance.any() else None


def median_distances(poses: NDArray[np.floating]) -> NDArray[np.float64]:
    """``[V, V]`` median over poses [P, V, 3] of the distance between two joints."""
    rows = [np.linalg.norm(poses - poses[:, joint, None], axis=-1) for joint in range(poses.shape[1])]
    return np.array([np.median(row, axis=0) for row in rows], dtype=np.float64)


def _called(bare: Sequence[str], words: Sequence[str]) -> list[int]:
    """Joints with the first of ``words`` that stands in any name."""
    found = ([joint for joint, name in enumerate(bare) if word in name] for word in words)
    return next(filter(None, found), [])


def _any(name: str, words: Sequence[str]) -> bool:
    return any(word in name for word in words)


def _knees(layout: SkeletonLayout, bare: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """(knee, hip, ankle) of every leg."""
    for ankle, knee in layout.bones:
        hip = layout.parents[knee]
        if _any(bare[knee], _KNEES) and hip >= 0:
            yield knee, hip, ankle


def _add(row: NDArray[np.float32], to: Sequence[int], start: Sequence[int]) -> None:
    """Write the vector from the mean of the joints ``start`` to the mean of the joints ``to``."""
    np.add.at(row, list(to), 1 / len(to))
    np.add.at(row, list(start), -1 / len(start))
