"""Skeleton layouts as data: joint names, kinematic tree, body parts, left/right pairs.

Three layouts are named; any other comes from a file's own ``joint_names`` and ``parents``
(`layout_from_parents`). Sources: NTU RGB+D joint list and bone list (Shahroudy et al., CVPR 2016, and the
CTR-GCN graph); Kinect SDK v1 (20 joints); UI-PRMD data descriptor (Vakanski et al., Data 2018, 3(1), 2).
"""

from __future__ import annotations

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
        center: joint that clips are centred on (NTU convention: middle of the spine, dossier 10.3).
        parts: body-part name -> joint indices; together they cover every joint exactly once, or are empty when
            the joint names do not tell.
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
    """Raise `DataError` unless ``parents`` is one tree: a single root (-1), no cycle, indices in range."""
    roots = [joint for joint, parent in enumerate(parents) if parent == -1]
    if len(roots) != 1:
        raise DataError(f"parents: expected exactly one root (-1), found {len(roots)}")
    for joint, parent in enumerate(parents):
        if not -1 <= parent < len(parents):
            raise DataError(f"parents: joint {joint} has parent {parent}, allowed are -1 to {len(parents) - 1}")
        seen = set()
        while joint != -1:
            if joint in seen:
                raise DataError(f"parents: joint {joint} is its own ancestor; a kinematic tree has no cycle")
            seen.add(joint)
            joint = parents[joint]  # noqa: PLW2901 - walking up is the point


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
    parents=(-1, 0, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 1, 7, 7, 11, 11),
    center=1,
    parts={
        "head": (2, 3, 20), "torso": (0, 1),
        "left_arm": (4, 5, 6, 7, 21, 22), "right_arm": (8, 9, 10, 11, 23, 24),
        "left_leg": (12, 13, 14, 15), "right_leg": (16, 17, 18, 19),
    },
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19), (21, 23), (22, 24)),
)  # fmt: skip
