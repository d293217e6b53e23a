"""Skeleton layouts as data: joint names, kinematic tree, body parts, left/right pairs.

Three layouts are named; any other comes from a file's own ``joint_names`` and ``parents``
(`layout_from_parents`). Sources: NTU RGB+D joint list and bone list (Shahroudy et al., CVPR 2016,
and the CTR-GCN graph, but for the hand tips: `datasets.raw.DEVIATIONS`); Kinect SDK v1 (20 joints);
UI-PRMD data descriptor (Vakanski et al., Data 2018, 3(1), 2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from datasets.errors import DataError


@dataclass(frozen=True)
class SkeletonLayout:
    """Names and topology of the V joints of one skeleton.

    Attributes:
        name: short name, e.g. ``"ntu25"``.
        joints: V joint names in array order.
        parents: V parent indices, -1 at the single root.
        center: joint that clips are centred on (NTU convention: middle of the spine, as in
            CTR-GCN's released code, data/ntu/seq_transformation.py).
        parts: body-part name -> joint indices; together they cover every joint exactly once, or are
            empty when the joint names do not tell.
        pairs: (left, right) joint index pairs.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    center: int
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def joint_count(self) -> int:
        """V."""
        return len(self.joints)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(joint, parent) for every joint but the root."""
        return tuple((joint, parent) for joint, parent in enumerate(self.parents) if parent >= 0)


def check_tree(parents: Sequence[int]) -> None:
    """Raise `DataError` unless ``parents`` is one tree: a single root (-1), no cycle,
    indices in range.
    """
    roots = [joint for joint, parent in enumerate(parents) if parent == -1]
    if len(roots) != 1:
        raise DataError(f"parents: expected exactly one root (-1), found {len(roots)}")
    for joint, parent in enumerate(parents):
        if not -1 <= parent < len(parents):
            allowed = f"-1 to {len(parents) - 1}"
            raise DataError(f"parents: joint {joint} has parent {parent}, allowed are {allowed}")
    for joint in range(len(parents)):
        seen, above = set(), joint
        while above != -1:
            if above in seen:
                raise DataError(
                    f"parents: joint {above} is its own ancestor; a kinematic tree has no cycle"
                )
            seen.add(above)
            above = parents[above]


NTU25 = SkeletonLayout(
    name="ntu25",
    joints=(
        "spine_base", "spine_mid", "neck", "head",
        "left_shoulder", "left_elbow", "left_wrist", "left_hand",
        "right_shoulder", "right_elbow", "right_wrist", "right_hand",
        "left_hip", "left_knee", "left_ankle", "left_foot",
        "right_hip", "right_knee", "right_ankle", "right_foot",
        "spine_shoulder", "left_hand_tip", "left_thumb", "right_hand_tip", "right_thumb",
    ),
    parents=(
        -1, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11,
    ),
    center=1,
    parts={
        "head": (2, 3, 20), "torso": (0, 1),
        "left_arm": (4, 5, 6, 7, 21, 22), "right_arm": (8, 9, 10, 11, 23, 24),
        "left_leg": (12, 13, 14, 15), "right_leg": (16, 17, 18, 19),
    },
    pairs=(
        (4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18),
        (15, 19), (21, 23), (22, 24),
    ),
)  # fmt: skip

KINECT20 = SkeletonLayout(
    name="kinect20",
    joints=(
        "hip_center", "spine", "shoulder_center", "head",
        "shoulder_left", "elbow_left", "wrist_left", "hand_left",
        "shoulder_right", "elbow_right", "wrist_right", "hand_right",
        "hip_left", "knee_left", "ankle_left", "foot_left",
        "hip_right", "knee_right", "ankle_right", "foot_right",
    ),
    parents=(-1, 0, 1, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    center=1,
    parts={
        "head": (2, 3), "torso": (0, 1),
        "left_arm": (4, 5, 6, 7), "right_arm": (8, 9, 10, 11),
        "left_leg": (12, 13, 14, 15), "right_leg": (16, 17, 18, 19),
    },
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19)),
)  # fmt: skip

UIPRMD22 = SkeletonLayout(
    name="uiprmd22",
    joints=(
        "waist", "spine", "chest", "neck", "head", "head_tip",
        "left_collar", "left_upper_arm", "left_forearm", "left_hand",
        "right_collar", "right_upper_arm", "right_forearm", "right_hand",
        "left_upper_leg", "left_lower_leg", "left_foot", "left_toes",
        "right_upper_leg", "right_lower_leg", "right_foot", "right_toes",
    ),
    parents=(-1, 0, 1, 2, 3, 4, 2, 6, 7, 8, 2, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20),
    center=1,
    parts={
        "head": (3, 4, 5), "torso": (0, 1, 2),
        "left_arm": (6, 7, 8, 9), "right_arm": (10, 11, 12, 13),
        "left_leg": (14, 15, 16, 17), "right_leg": (18, 19, 20, 21),
    },
    pairs=((6, 10), (7, 11), (8, 12), (9, 13), (14, 18), (15, 19), (16, 20), (17, 21)),
)  # fmt: skip

LAYOUTS: Mapping[str, SkeletonLayout] = {
    layout.name: layout for layout in (NTU25, KINECT20, UIPRMD22)
}

_CENTER_NAMES = ("spinemid", "midspine", "spinemiddle", "middlespine", "middleofspine", "spine")
_LEFT = re.compile(r"left|^l(?=[_. -])|(?<=[_. -])l$")
# Looked for in this order within a joint's name; "ear" comes after "forearm" has been taken by an
# arm.
_SIDED_WORDS = {
    "arm": (
        "shoulder",
        "collar",
        "clavicle",
        "arm",
        "elbow",
        "wrist",
        "hand",
        "palm",
        "thumb",
        "finger",
    ),
    "leg": ("hip", "leg", "thigh", "knee", "shin", "calf", "ankle", "foot", "heel", "toe"),
    "head": ("head", "eye", "ear", "cheek"),
}
# An unsided "shoulder" is the top of the spine, which NTU's parts count with the head.
_MIDDLE_WORDS = {
    "head": ("head", "neck", "shoulder", "nose", "jaw", "skull"),
    "torso": (
        "spine",
        "hip",
        "pelvis",
        "waist",
        "chest",
        "torso",
        "trunk",
        "thorax",
        "back",
        "root",
    ),
}


def layout_from_parents(
    joint_names: Sequence[str], parents: Sequence[int], name: str = "custom"
) -> SkeletonLayout:
    """The named layout with exactly these joints and parents, or else one built from them.

    Pairs come from names that differ only in left/right, or in a leading or trailing ``l``/``r``
    set off by ``_``, ``.``, ``-`` or a space. Parts are empty unless the names place every joint in
    head, torso, an arm or a leg. The centre is the joint called ``spine_mid``, ``mid_spine`` or
    ``spine``, otherwise the root.

    Raises:
        DataError: names and parents differ in number, a name stands twice, or ``parents`` is not
            one tree.
    """
    joints, tree = (
        tuple(str(joint) for joint in joint_names),
        tuple(int(parent) for parent in parents),
    )
    for layout in LAYOUTS.values():
        if (layout.joints, layout.parents) == (joints, tree):
            return layout
    _check_joints(joints, tree)
    pairs = _pairs(joints)
    bare = [re.sub("[^a-z]", "", joint.lower()) for joint in joints]
    center = next((bare.index(name) for name in _CENTER_NAMES if name in bare), tree.index(-1))
    return SkeletonLayout(name, joints, tree, center, _parts(joints, pairs), pairs)


def _check_joints(joints: Sequence[str], parents: Sequence[int]) -> None:
    if len(joints) != len(parents):
        raise DataError(
            f"joint_names: expected {len(parents)} names, one per parent, found {len(joints)}"
        )
    twice = [joint for place, joint in enumerate(joints) if joint in joints[:place]]
    if twice:
        raise DataError(f"joint_names: {twice[0]!r} stands twice; give every joint its own name")
    check_tree(parents)


def _pairs(joints: Sequence[str]) -> tuple[tuple[int, int], ...]:
    places = {joint.lower(): place for place, joint in enumerate(joints)}
    mirrored = {
        place: _LEFT.sub(lambda left: "right" if left.group() == "left" else "r", joint)
        for joint, place in places.items()
        if _LEFT.search(joint)
    }
    return tuple(
        (left, places[right]) for left, right in sorted(mirrored.items()) if right in places
    )


def _parts(joints: Sequence[str], pairs: Sequence[tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    sides = {left: "left" for left, _ in pairs} | {right: "right" for _, right in pairs}
    found = [_part(joint.lower(), sides.get(place)) for place, joint in enumerate(joints)]
    if "" in found:
        return {}
    return {
        name: tuple(i for i, part in enumerate(found) if part == name)
        for name in sorted(set(found))
    }


def _part(joint: str, side: str | None) -> str:
    """The body part that a lower-case joint name tells of, or ``""``."""
    words = _SIDED_WORDS if side else _MIDDLE_WORDS
    part = next((part for part, clues in words.items() if any(clue in joint for clue in clues)), "")
    return f"{side}_{part}" if part in ("arm", "leg") else part
