"""The standard chain from NTU RGB+D's tracked bodies to two actors, after CTR-GCN's released
data/ntu.

1. Frames without a body are skipped. The records of one body ID are one body, which begins where
   the ID is first seen.
2. Of several bodies, those seen in 11 frames or fewer are dropped, then those that are wider than
   high in most frames (furniture, reflections), except the last one left. The others are ordered by
   motion: the variance of x, y and z over all frames and joints together, summed; over the frames
   that are not too wide if that is less.
3. The body with the most motion begins actor 1. Each further one, in order, goes to the first actor
   whose span it does not overlap (the span reaches from the actor's first frame to the last; a
   single shared frame is no overlap) and is dropped if there is none. Frames in which neither actor
   is left are removed.
4. The middle of actor 1's spine in the first frame that it is in becomes the origin.

What the published code does without saying so is done here as well, because the standard data sets
are its outcome: an ID that is lost and found again counts as uninterrupted, and the span of actor 2
begins at frame 0. Two things differ: variances are taken in double precision, and bodies of equal
motion are ordered by ID.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.layouts import NTU25
from datasets.raw.base import BrokenFile
from datasets.raw.ntu.skeleton_text import JOINTS, SkeletonText

Joints = NDArray[np.float32]

_SHORTEST = 12
"""Frames that a body must be seen in, where there are several."""
_WIDEST = 0.8
"""A frame is too wide when the body's extent in x is more than this times its extent in y."""
_WIDE_SHARE = 0.69754
"""A body is dropped when at least this share of its frames is too wide."""
ACTORS = 2

SKIPPED = "frames without a body, skipped"
UNINTERRUPTED = "bodies lost and found again, taken as uninterrupted"
SHORT = "bodies dropped, seen in 11 frames or fewer"
WIDE = "bodies dropped, wider than high"
OVERLAPPING = "bodies dropped, overlapping both actors"
REMOVED = "frames without an actor, removed"


@dataclass(frozen=True, eq=False)
class _Body:
    """The records of one body ID.

    Attributes:
        id: the body ID.
        first: its first frame, counted without the frames that have no body.
        records: [n] places in the file's records.
        joints: [n, 25, 3] metres.
    """

    id: int
    first: int
    records: NDArray[np.int64]
    joints: Joints

    @property
    def last(self) -> int:
        """The last frame, were it uninterrupted."""
        return self.first + len(self.joints) - 1


def standard_chain(text: SkeletonText) -> tuple[Joints, Counter[str]]:
    """The actors of a file, and what was left out on the way.

    Returns:
        [T, 2, 25, 3] float32, metres about the origin, an absent actor all zeros; T is 0 when
        nobody is left. And stages in words to counts.

    Raises:
        BrokenFile: a body ID stands twice in a frame, or a coordinate of a body that was not
            dropped in step 2 is no finite number; with the line.
    """
    counts: Counter[str] = Counter()
    seen = text.bodies > 0
    counts[SKIPPED] = int((~seen).sum())
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # numbers that are not finite are named below
        bodies = _bodies(text, text.bodies[seen], counts)
        if len(bodies) > 1:
            bodies = _denoised(bodies, counts)
    _check_finite(text, bodies)
    actors = _actors(bodies, int(seen.sum()), counts)
    present = actors.any(axis=(1, 2, 3))
    counts[REMOVED] = int((~present).sum())
    return translated(actors[present]), +counts


def translated(joints: Joints) -> Joints:
    """Step 4: [T, M, 25, 3] about the middle of body 1's spine in its first real frame;
    absent bodies stay zeros.
    """
    present = np.asarray(joints.any(axis=(2, 3)))
    if not present[:, 0].any():
        return joints
    first = int(np.argmax(present[:, 0]))
    return np.where(
        present[:, :, None, None], joints - joints[first, 0, NTU25.center], np.float32(0)
    )


def _bodies(text: SkeletonText, bodies: NDArray[np.int64], counts: Counter[str]) -> list[_Body]:
    """The bodies in the order in which they are first seen."""
    frames = np.repeat(np.arange(len(bodies)), bodies)
    ids, first_records = np.unique(text.ids, return_index=True)
    found = []
    for body_id in ids[np.argsort(first_records)].tolist():
        records = np.flatnonzero(text.ids == body_id)
        steps = np.diff(frames[records])
        for twice in records[1:][steps == 0].tolist():
            reason = f"expected different bodies in a frame, found ID {body_id} twice"
            raise BrokenFile(text.path, reason, text.line(twice, 0) - 2)
        counts[UNINTERRUPTED] += bool((steps > 1).any())
        found.append(_Body(body_id, int(frames[records[0]]), records, text.joints[records]))
    return found


# --- step 2 ---


def _denoised(bodies: Sequence[_Body], counts: Counter[str]) -> list[_Body]:
    """The bodies that are people, most motion first."""
    lasting = [body for body in bodies if len(body.joints) >= _SHORTEST]
    counts[SHORT] += len(bodies) - len(lasting)
    motions = _motions_of_people(lasting)
    counts[WIDE] += len(lasting) - len(motions)
    people = [body for body in lasting if body.id in motions]
    return sorted(people, key=lambda body: (-motions[body.id], body.id))


def _motions_of_people(bodies: Sequence[_Body]) -> dict[int, float]:
    """Motion by ID of the bodies that are not too wide, in square metres;
    the last one left is not looked at.
    """
    motions: dict[int, float] = {}
    for place, body in enumerate(bodies):
        if not motions and place == len(bodies) - 1:
            return {body.id: 0.0}
        wide = _too_wide(body.joints)
        if wide.sum() / len(wide) < _WIDE_SHARE:
            motions[body.id] = _motion(body.joints)
            if wide.any():
                motions[body.id] = min(motions[body.id], _motion(body.joints[~wide]))
    return motions


def _motion(joints: Joints) -> float:
    """The variances of x, y and z over frames and joints together, summed."""
    return float(np.ascontiguousarray(joints.reshape(-1, 3).T, np.float64).var(axis=1).sum())


def _too_wide(joints: Joints) -> NDArray[np.bool_]:
    """[n] frames whose extent in x is too large for that in y."""
    width, height = np.ptp(joints[:, :, 0], axis=1), np.ptp(joints[:, :, 1], axis=1)
    return ~(width <= _WIDEST * height.astype(np.float64))


def _check_finite(text: SkeletonText, bodies: Sequence[_Body]) -> None:
    for body in bodies:
        if not np.isfinite(body.joints).all():
            place, joint, axis = np.argwhere(~np.isfinite(body.joints))[0].tolist()
            found = f"{body.joints[place, joint, axis]} as {'xyz'[axis]} of joint {joint + 1}"
            line = text.line(int(body.records[place]), joint)
            raise BrokenFile(
                text.path, f"expected finite coordinates in metres, found {found}", line
            )


# --- step 3 ---


def _actors(bodies: Sequence[_Body], frames: int, counts: Counter[str]) -> Joints:
    """[frames, 2, 25, 3] the bodies in their actors' places."""
    actors = np.zeros((frames, ACTORS, JOINTS, 3), np.float32)
    spans: list[tuple[int, int] | None] = [None, (0, 0)]
    for body in bodies:
        free = [
            actor
            for actor, span in enumerate(spans)
            if span is None or min(span[1], body.last) <= max(span[0], body.first)
        ]
        if not free:
            counts[OVERLAPPING] += 1
            continue
        first, last = spans[free[0]] or (body.first, body.last)
        spans[free[0]] = min(first, body.first), max(last, body.last)
        actors[body.first : body.last + 1, free[0]] = body.joints
    return actors
