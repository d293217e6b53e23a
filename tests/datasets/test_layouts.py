"""Layouts: the named ones are complete and right, others are told from their joint names."""

from __future__ import annotations

import pytest

from datasets.errors import DataError
from datasets.layouts import (
    KINECT20,
    LAYOUTS,
    NTU25,
    UIPRMD22,
    SkeletonLayout,
    check_tree,
    layout_from_parents,
)
from tests.datasets.made_up import needs_recordings, recorded

named = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


@named
def test_parents_are_one_tree(layout: SkeletonLayout) -> None:
    check_tree(layout.parents)
    assert len(layout.parents) == layout.joint_count


@named
def test_parts_cover_every_joint_once(layout: SkeletonLayout) -> None:
    assert list(layout.parts) == ["head", "torso", "left_arm", "right_arm", "left_leg", "right_leg"]
    assert sorted(joint for part in layout.parts.values() for joint in part) == list(
        range(layout.joint_count)
    )


@named
def test_pairs_are_mirror_images(layout: SkeletonLayout) -> None:
    mirror = dict(layout.pairs) | {right: left for left, right in layout.pairs}
    for left, right in layout.pairs:
        assert layout.joints[left].replace("left", "right") == layout.joints[right]
        parents = layout.parents[left], layout.parents[right]
        assert mirror.get(parents[0], parents[0]) == parents[1]
    unpaired = set(range(layout.joint_count)) - set(mirror)
    assert not [layout.joints[joint] for joint in unpaired if "left" in layout.joints[joint]]


@named
def test_naming_rules_find_the_written_pairs_parts_and_center(layout: SkeletonLayout) -> None:
    # One name is changed, so that the layout is not recognised but built from its names.
    joints = tuple("skull" if joint == "head" else joint for joint in layout.joints)
    built = layout_from_parents(joints, layout.parents)
    assert (built.name, built.center, built.pairs) == ("custom", layout.center, layout.pairs)
    assert built.parts == layout.parts


@named
def test_named_layout_is_recognised(layout: SkeletonLayout) -> None:
    assert layout_from_parents(list(layout.joints), list(layout.parents), name="mine") is layout


def test_centers_are_the_middle_of_the_spine() -> None:
    centers = {layout.name: layout.joints[layout.center] for layout in LAYOUTS.values()}
    assert centers == {"ntu25": "spine_mid", "kinect20": "spine", "uiprmd22": "spine"}


def test_other_parents_are_not_the_named_layout() -> None:
    parents = (*KINECT20.parents[:3], 1, *KINECT20.parents[4:])
    built = layout_from_parents(KINECT20.joints, parents, name="bent")
    assert (built.name, built.parents) == ("bent", parents)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_hand", "right_hand"),
        ("HandLeft", "HandRight"),
        ("l_hand", "r_hand"),
        ("hand.L", "hand.R"),
    ],
)
def test_pairs_from_names(left: str, right: str) -> None:
    built = layout_from_parents(("spine", right, left), (-1, 0, 0))
    assert built.pairs == ((2, 1),)
    assert built.parts == {"left_arm": (2,), "right_arm": (1,), "torso": (0,)}


def test_a_left_joint_without_a_right_one_has_no_pair() -> None:
    assert layout_from_parents(("spine", "left_hand"), (-1, 0)).pairs == ()


def test_parts_are_empty_when_one_name_tells_nothing() -> None:
    assert layout_from_parents(("spine", "head", "marker7"), (-1, 0, 0)).parts == {}


def test_center_is_the_root_without_a_spine() -> None:
    assert layout_from_parents(("nose", "pelvis"), (1, -1)).center == 1


def test_bones_leave_out_the_root() -> None:
    assert layout_from_parents(("a", "b", "c"), (1, -1, 0)).bones == ((0, 1), (2, 0))


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ((0, 0), "exactly one root (-1), found 0"),
        ((-1, -1), "exactly one root (-1), found 2"),
        ((-1, 2, 1), "joint 1 is its own ancestor"),
        ((1, 7, -1), "joint 1 has parent 7, allowed are -1 to 2"),
        ((-1, -2), "joint 1 has parent -2"),
    ],
)
def test_what_is_not_a_tree_is_refused(parents: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError) as caught:
        check_tree(parents)
    assert message in str(caught.value)


def test_names_and_parents_must_agree_in_number() -> None:
    with pytest.raises(DataError, match="expected 2 names, one per parent, found 3"):
        layout_from_parents(("a", "b", "c"), (-1, 0))


def test_a_name_may_stand_once() -> None:
    with pytest.raises(DataError, match="'hand' stands twice"):
        layout_from_parents(("spine", "hand", "hand"), (-1, 0, 0))


def test_ntu_bones_are_those_of_the_usual_graph() -> None:
    one_based = """(1,2) (2,21) (3,21) (4,3) (5,21) (6,5) (7,6) (8,7) (9,21) (10,9) (11,10) (12,11)
        (13,1) (14,13) (15,14) (16,15) (17,1) (18,17) (19,18) (20,19) (22,23) (23,8)
        (24,25) (25,12)"""
    graph = {
        frozenset(int(joint) - 1 for joint in bone.strip("()").split(","))
        for bone in one_based.split()
    }
    ours = {frozenset(bone) for bone in NTU25.bones}
    # The graph hangs each hand tip on its thumb; the tree hangs both on the hand.
    assert ours - graph == {frozenset((21, 7)), frozenset((23, 11))}


@needs_recordings
@pytest.mark.parametrize(
    ("name", "layout"),
    [("msrc12", KINECT20), ("nwucla", KINECT20), ("utdmhad", KINECT20), ("uiprmd", UIPRMD22)],
)
def test_recorded_files_have_the_named_layouts(name: str, layout: SkeletonLayout) -> None:
    assert recorded(name).layout is layout
