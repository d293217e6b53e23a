"""The doctor on a made-up person of known lengths, spoilt in one way at a time;
and on the recorded sets.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.doctor_false_alarms import LAYOUTS as RIGHT_LAYOUTS
from benchmarks.doctor_false_alarms import posed
from datasets.clips import ClipSet, Stored, clip_hash, clip_origins, fingerprint, present_bodies
from datasets.doctor import frames as doctor_frames
from datasets.doctor.body import body_vectors, head_joint, tree_over_shortest, unit_of
from datasets.doctor.examination import examine, usual_splits
from datasets.doctor.frames import run_lengths, step_percentile, steps_above
from datasets.doctor.model import Examination
from datasets.layouts import KINECT20, LAYOUTS, layout_from_parents
from tests.datasets.made_up import clip_set, needs_recordings, recorded
from tests.datasets.made_up_person import HEIGHT, STATURE, four, people, pose, walk


def texts(found: Examination, severity: str) -> list[str]:
    return [finding.text for finding in found.findings if finding.severity == severity]


def only(found: Examination, severity: str) -> str:
    """The one finding of a severity."""
    (text,) = texts(found, severity)
    return text


def moved(matrix: Any) -> ClipSet:
    """The four clips with every joint multiplied by a matrix."""
    clips = four()
    return replace(
        clips, joints=np.ascontiguousarray(clips.joints @ np.array(matrix, np.float32).T)
    )


def changed(index: Any, value: Any, clips: ClipSet | None = None) -> ClipSet:
    """The four clips with some coordinates set."""
    clips = clips or four()
    joints = clips.joints.copy()
    joints[index] = value
    return replace(clips, joints=joints)


# --- the body ---


def test_a_sound_person_has_no_findings_but_few_clips() -> None:
    found = examine(four())
    assert [finding.text for finding in found.findings] == [
        "2 of 2 classes have fewer than 10 clips: walk 2, stroll 2"
    ]
    body = found.body
    assert body.stature == pytest.approx(STATURE, abs=1e-5)
    assert body.height == pytest.approx(HEIGHT, abs=1e-5)
    assert (body.unit, body.up, body.up_share) == ("metres", "+y", 1.0)
    assert (body.sides, body.sides_share) == ("right-handed, not mirrored", 1.0)
    assert body.order is not None
    assert 1 <= body.order < 1.3


@pytest.mark.parametrize(
    ("scale", "unit", "factor"),
    [(100, "centimetres", "0.01"), (1000, "millimetres", "0.001"), (39.37, "inches", "0.0254")],
)
def test_other_units_are_named_with_the_factor(scale: float, unit: str, factor: str) -> None:
    found = examine(moved(scale * np.eye(3)))
    assert only(found, "error").endswith(f"which looks like {unit}; multiply by {factor}")
    assert found.motion.jumps == 0  # 1.2 m/s, whatever the unit


def test_a_size_of_no_unit_is_an_error() -> None:
    assert "found 5.55 from head to foot along the bones, which is no person" in only(
        examine(moved(3 * np.eye(3))), "error"
    )
    assert (unit_of(0.99), unit_of(1.0), unit_of(2.3), unit_of(2.31)) == (
        "",
        "metres",
        "metres",
        "",
    )


Z_UP = np.float32([[1, 0, 0], [0, 0, -1], [0, 1, 0]])


def test_z_up_is_found_and_is_not_called_mirrored() -> None:
    clips = people(
        walk(40, 0.05), walk(30, 0.05)
    )  # 1.95 and 1.45 m on foot, which nobody goes who lies
    found = examine(replace(clips, joints=clips.joints @ Z_UP.T))
    assert (
        only(found, "error")
        == "up axis: expected +y, +z is up in 100% of frames; turn the data so that +z becomes +y"
    )
    assert found.body.sides == "right-handed, not mirrored"


def test_a_crouch_is_evidence_of_standing_too() -> None:
    frames = walk(20, 0)
    trunk = [
        joint
        for joint, name in enumerate(KINECT20.joints)
        if not name.startswith(("ankle", "foot"))
    ]
    frames[5:15, :, trunk, 1] -= 0.3
    clips = people(frames, frames)
    assert examine(replace(clips, joints=clips.joints @ Z_UP.T)).body.upright


def test_people_who_face_all_ways_about_an_axis_stand_on_it() -> None:
    def turned(angle: float) -> NDArray[np.float32]:
        sine, cosine = np.sin(angle), np.cos(angle)
        return walk(9, 0) @ np.float32([[cosine, 0, -sine], [0, 1, 0], [sine, 0, cosine]])

    clips = people(*(turned(angle) for angle in np.arange(8) * np.pi / 4))
    assert examine(replace(clips, joints=clips.joints @ Z_UP.T)).body.upright


def test_people_who_may_lie_are_no_error() -> None:
    found = examine(moved(Z_UP))
    assert texts(found, "error") == []
    assert [
        text
        for text in texts(found, "warning")
        if "if these people stand, turn the data so that +z becomes" in text
    ]


def test_y_down_is_found_and_is_not_called_mirrored() -> None:
    found = examine(moved([[-1, 0, 0], [0, -1, 0], [0, 0, 1]]))
    assert found.body.up == "-y"
    assert found.body.sides == "right-handed, not mirrored"


def test_people_in_all_positions_have_no_clear_up() -> None:
    lying = walk(12)[..., [1, 0, 2]]
    found = examine(people(walk(12), lying, walk(12)[..., [0, 2, 1]]))
    assert (found.body.up, round(found.body.up_share, 3)) == ("", 0.333)
    assert any(
        text.startswith("up axis: expected +y, at most 33% agree")
        for text in texts(found, "warning")
    )


def test_a_mirrored_person_is_found() -> None:
    found = examine(moved(np.diag([-1, 1, 1])))
    assert (found.body.sides, found.body.sides_share) == ("mirrored", 0.0)
    assert only(found, "error").startswith(
        "left and right: mirrored, toes point along up x right in 0% of frames only"
    )


def test_exchanged_left_and_right_joints_are_mirrored_too() -> None:
    order = np.arange(20)
    for left, right in KINECT20.pairs:
        order[left], order[right] = right, left
    clips = four()
    assert examine(replace(clips, joints=clips.joints[:, :, order])).body.sides == "mirrored"


def test_without_toes_knees_tell_the_front() -> None:
    kept = [joint for joint, name in enumerate(KINECT20.joints) if not name.startswith("foot")]
    parents = [
        kept.index(parent) if parent >= 0 else -1
        for parent in (KINECT20.parents[joint] for joint in kept)
    ]
    frames = walk(10)
    frames[:, :, [13, 17], 2] += 0.1  # both knees to the front
    clips = replace(
        people(frames[:, :, kept]),
        layout=layout_from_parents([KINECT20.joints[joint] for joint in kept], parents),
    )
    assert examine(clips).body.sides == "right-handed, not mirrored"
    assert (
        examine(replace(clips, joints=clips.joints * np.float32([-1, 1, 1]))).body.sides
        == "mirrored"
    )


def without_feet(knees: float) -> ClipSet:
    """The four clips in a layout that ends in ankles;
    both knees stand ``knees`` metres before hip and ankle.
    """
    kept = [joint for joint, name in enumerate(KINECT20.joints) if not name.startswith("foot")]
    parents = [
        kept.index(parent) if parent >= 0 else -1
        for parent in (KINECT20.parents[joint] for joint in kept)
    ]
    clips = changed(np.s_[:, :, [13, 17], 2], four().joints[:, :, [13, 17], 2] + knees)
    layout = layout_from_parents([KINECT20.joints[joint] for joint in kept], parents)
    return replace(clips, joints=clips.joints[:, :, kept], layout=layout)


@pytest.mark.parametrize("knees", [0.0, 0.01, -0.01, -0.05])
def test_locked_knees_tell_nothing(knees: float) -> None:
    found = examine(without_feet(knees))
    assert texts(found, "error") == []
    (text,) = (text for text in texts(found, "note") if text.startswith("left and right"))
    assert (
        text == "left and right: cannot tell (knees stand out in 0% of frames); look with data show"
    )


def test_a_set_with_some_mirrored_clips_is_doubtful() -> None:
    clips = four()
    found = examine(
        changed(
            np.s_[: clips.offsets[1]], clips.joints[: clips.offsets[1]] * np.float32([-1, 1, 1])
        )
    )
    (text,) = (text for text in texts(found, "warning") if text.startswith("left and right: only "))
    assert text.endswith("some clips may be mirrored, look with data show")


def test_a_clip_in_another_unit_is_named() -> None:
    clips = four()
    found = examine(changed(np.s_[: clips.offsets[1]], 100 * clips.joints[: clips.offsets[1]]))
    assert found.body.odd_size_clips == 1
    (text,) = (text for text in texts(found, "error") if "twice as tall" in text)
    assert f"clip 0 ({100 * STATURE:.2f}) where the median is {STATURE:.2f}" in text


@pytest.mark.parametrize(
    ("scale", "found", "metres"),
    [
        (1 / 2.54, "0.728: small children, or inches read as centimetres", "0.0254"),
        (1 / 3, "0.617, which looks like inches read as centimetres", "0.0254"),
        (0.01, "0.0185, which looks like metres read as centimetres", "1"),
        (10, "18.5, which looks like millimetres read as centimetres", "0.001"),
        (0.177, "0.327, which looks like CMU's unit read as centimetres", "0.056444"),
    ],
)
def test_the_unit_of_a_motion_file_that_was_taken_for_another_is_named(
    scale: float, found: str, metres: str
) -> None:
    told = examine(moved(scale * np.eye(3)))
    (text,) = (
        text for text in texts(told, "error") + texts(told, "warning") if text.startswith("unit")
    )
    assert text.startswith(
        f"unit: expected metres, found {found.partition(':')[0].partition(',')[0]} from head to"
        " foot"
    )
    assert found.partition(" ")[2] in text
    assert f"give BVH files unit_metres {metres} in labels.csv" in text


def test_children_are_small_people_and_no_error() -> None:
    found = examine(moved(0.5 * np.eye(3)))
    assert texts(found, "error") == []
    assert "found 0.925 from head to foot along the bones: small children" in only(found, "warning")


def test_a_child_among_adults_is_no_error() -> None:
    clips = four()
    found = examine(changed(np.s_[: clips.offsets[1]], 0.4 * clips.joints[: clips.offsets[1]]))
    assert texts(found, "error") == []
    assert any(
        "people over twice as tall as the others, or under half: 1" in text
        for text in texts(found, "warning")
    )


def test_names_that_tell_nothing_give_cannot_tell() -> None:
    clips = four()
    layout = layout_from_parents([f"joint {number}" for number in range(20)], KINECT20.parents)
    found = examine(replace(clips, layout=layout))
    assert (found.body.stature, found.body.height, found.body.unit, found.body.up) == (
        None,
        None,
        "",
        "",
    )
    assert found.body.sides == "cannot tell"
    assert [text.partition(":")[0] for text in texts(found, "note")[:2]] == [
        "unit",
        "left and right",
    ]


@pytest.mark.parametrize(
    ("order", "what"),
    [
        (np.random.default_rng(0).permutation(20), "shuffled"),
        (np.r_[3, 2, 1, 0, 4:20], "the spine in reverse, as UTD-MHAD has it"),
        (np.roll(np.arange(20), 1), "shifted by one"),
    ],
)
def test_joints_in_another_order_are_found(order: NDArray[np.int64], what: str) -> None:
    clips = four()
    found = examine(replace(clips, joints=clips.joints[:, :, order]))
    assert any(
        text.startswith("joint order does not fit the layout kinect20")
        for text in texts(found, "error")
    ), what


def renamed(**parents: str) -> ClipSet:
    """The four clips under names that are no layout of ours, with more joints about the head,
    under ``parents``.
    """
    names, clips = [f"my_{name}" for name in KINECT20.joints], four()
    tree = [*KINECT20.parents, *(names.index(parent) for parent in parents.values())]
    more = np.random.default_rng(0).normal(scale=0.05, size=(len(parents), 3)).astype(np.float32)
    joints = np.concatenate([clips.joints, clips.joints[:, :, [3]] + more], axis=2)
    return replace(clips, joints=joints, layout=layout_from_parents([*names, *parents], tree))


def test_helper_joints_of_a_rig_are_no_joints_in_another_order() -> None:
    clips = renamed(
        **{f"face_{number}": "my_spine" for number in range(12)}
    )  # near the head, under the spine
    found = examine(clips)
    assert found.body.order is not None
    assert found.body.order > 2
    assert texts(found, "error") == []
    (text,) = (text for text in texts(found, "note") if text.startswith("joint order"))
    assert "helper joints and roots on the floor do that" in text


def test_shuffled_joints_of_any_layout_are_found_by_their_uneven_sides() -> None:
    clips = renamed()
    assert examine(clips).body.uneven_share == 0
    found = examine(
        replace(clips, joints=clips.joints[:, :, np.random.default_rng(0).permutation(20)])
    )
    (text,) = (text for text in texts(found, "error") if text.startswith("joint order"))
    assert "of the bones with a name on both sides are over 1.3 times as long on one" in text


def test_two_exchanged_neighbours_of_one_side_are_found_by_their_uneven_bones() -> None:
    clips = four()
    order = np.arange(20)
    order[[5, 6]] = 6, 5  # elbow and wrist of the left arm
    found = examine(replace(clips, joints=clips.joints[:, :, order]))
    assert "hand_left (3.30), elbow_left (1.80)" in only(found, "error")


@pytest.mark.parametrize("layout", RIGHT_LAYOUTS)
@pytest.mark.parametrize("who", ["sitting", "lying", "knees locked"])
def test_right_data_has_no_errors(layout: str, who: str) -> None:
    poses: dict[str, Any] = {
        "sitting": {"hip": 85.0, "knee": 90.0},
        "lying": {"lying": True},
        "knees locked": {"knee_back": 0.01},
    }
    assert texts(examine(RIGHT_LAYOUTS[layout](posed(0, **poses[who]))), "error") == []


def test_a_chain_in_order_is_its_own_shortest_tree() -> None:
    layout = layout_from_parents(("a", "b", "c", "d"), (-1, 0, 1, 2))
    line = np.float32([[[0, 0, 0], [1, 0, 0], [3, 0, 0], [6, 0, 0]]])
    assert tree_over_shortest(line, layout) == pytest.approx(1, abs=1e-5)
    # 0-2, 2-1, 1-3 are 3 + 2 + 5 long, the shortest tree 1 + 2 + 3
    assert tree_over_shortest(line[:, [0, 2, 1, 3]], layout) == pytest.approx(10 / 6, abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_named_layouts_have_a_head_feet_and_toes(layout: Any) -> None:
    weights = body_vectors(layout)
    np.testing.assert_allclose(weights.sum(axis=1), 0, atol=1e-6)
    assert (weights != 0).any(axis=1).all()
    top = head_joint(layout)
    assert top is not None
    assert layout.joints[top] in ("head", "head_tip")


def test_vectors_of_the_person_are_as_placed() -> None:
    tall, right, forward = body_vectors(KINECT20) @ pose()
    np.testing.assert_allclose(tall, (0, HEIGHT, -0.15), atol=1e-6)
    assert right[0] < 0 == pytest.approx(right[1], abs=1e-6)
    np.testing.assert_allclose(forward, (0, 0, 0.15), atol=1e-6)


# --- frames ---


def test_coordinates_that_are_no_numbers_are_counted_and_placed() -> None:
    clips = changed(
        (13, 0, 3), np.nan, changed((14, 0, 4, 1), np.inf)
    )  # 3 + 1 coordinates of clip 1
    found = examine(
        replace(clips, columns={**clips.columns, "names": np.array(["a", "b", "c", "d"])})
    )
    assert (found.gaps.not_finite, found.gaps.not_finite_clips) == (4, 1)
    assert only(found, "error").startswith(
        "NaN or infinite coordinates: 4, in 1 of 4 clips, first nan at clip 1 (b), frame 1 of the"
        " clip, body 0, joint 'head';"
    )


def test_frames_and_clips_without_a_body_are_told_apart() -> None:
    found = examine(
        changed(slice(12, 22), 0, changed(slice(0, 2), 0))
    )  # two frames of clip 0, all of clip 1
    assert (found.gaps.empty_frames, found.gaps.empty_frame_clips, found.gaps.empty_clips) == (
        12,
        2,
        1,
    )
    assert found.bodies == {0: 1, 1: 3}
    assert only(found, "error").startswith("clips without a body in any frame: 1;")


def test_missing_joints_are_named() -> None:
    found = examine(
        changed((0, 0, 5), 0, changed(([2, 3], 0, 6), 0))
    )  # an elbow once, a wrist twice
    gaps = found.gaps
    assert (gaps.missing_frames, gaps.missing_clips) == (3, 1)
    assert [(place.name, place.value) for place in gaps.missing_joints] == [
        ("wrist_left", 2),
        ("elbow_left", 1),
    ]
    assert found.motion.largest_step < 0.05  # a joint that is missing does not jump


def test_clips_that_are_centred_on_a_joint_do_not_lack_it() -> None:
    clips = four()
    for centre in (0, 1):
        assert (
            examine(
                replace(clips, joints=clips.joints - clips.joints[:, :, [centre]])
            ).gaps.missing_frames
            == 0
        )


def test_frozen_frames_are_counted_within_clips() -> None:
    clips = four()
    joints = clips.joints.copy()
    joints[3:6] = joints[2]  # three in a row in clip 0
    joints[12] = joints[11]  # the last frame of clip 0 and the first of clip 1
    joints[20] = joints[19]  # one in clip 1
    found = examine(replace(clips, joints=joints)).motion
    assert (found.frozen, found.longest_frozen) == (4, 3)
    assert found.frozen_share == pytest.approx(4 / (11 + 9 + 8 + 7))
    assert [(place.name, place.value) for place in found.frozen_clips] == [
        ("clip 0", 3),
        ("clip 1", 1),
    ]


def test_an_absent_body_is_not_frozen() -> None:
    assert examine(changed(slice(0, 3), 0)).motion.frozen == 0


def test_jumps_of_a_joint_and_of_a_body_are_told_apart() -> None:
    clips = four()
    joints = clips.joints.copy()
    joints[5, 0, 7, 0] += 2  # a hand goes and comes back: two jumps
    joints[25:, 0] += np.float32(
        [0, 0, 3]
    )  # everybody of clip 2 (from its frame 3) and clip 3 is elsewhere
    found = examine(replace(clips, joints=joints))
    motion = found.motion
    assert (motion.jumps, motion.jump_clips, motion.shift_clips) == (2 + 20, 2, 1)
    assert motion.largest_step == pytest.approx(3.03, abs=1e-4)
    assert [place.name for place in motion.worst_jumps] == ["clip 2", "clip 0"]
    assert only(found, "warning").startswith(
        "joint steps faster than 20 m/s: 22 (3.143%), in 2 of 4 clips (in 1 the whole body), the"
        " longest from one frame to the next in clip 2 (3.03 metres), clip 0 (2.00 metres);"
    )


def test_a_jump_is_told_in_the_unit_of_the_data() -> None:
    joints = four().joints.copy()
    joints[5, 0, 7, 0] += 2
    names = layout_from_parents([f"joint {number}" for number in range(20)], KINECT20.parents)
    for scale, layout, length in (
        (100, KINECT20, "200.00 centimetres"),
        (1, names, "2.00 in the unit of the data"),
    ):
        told = examine(replace(four(), joints=joints * np.float32(scale), layout=layout))
        (text,) = (finding.text for finding in told.findings if "m/s" in finding.text)
        assert f"clip 0 ({length});" in text


def test_a_fast_hand_is_no_jump() -> None:
    clips = four()
    joints = clips.joints.copy()
    joints[5, 0, 7, 0] += 0.6  # 18 m/s at 30 frames per second, 9 at 15
    assert examine(replace(clips, joints=joints)).motion.jumps == 0
    joints[5, 0, 7, 0] += 0.1
    assert examine(replace(clips, joints=joints)).motion.jumps == 2
    assert examine(replace(clips, joints=joints, fps=15.0)).motion.jumps == 0


def test_bones_that_breathe_vary_as_much_as_they_do() -> None:
    frames = walk(10, step=0)
    frames[::2] *= 1.1
    frames[1::2] *= 0.9  # mean 1, standard deviation 0.1
    found = examine(people(frames, walk(10)))
    # each bone varies by 10 % in one clip and by nothing in the other; the median of two is their
    # mean
    assert found.bones.variation == pytest.approx(0.05, abs=1e-4)
    assert found.bones.worst_clips[0].name == "clip 0"
    assert found.bones.worst_clips[0].value == pytest.approx(0.1, abs=1e-4)
    assert found.bones.longest[0].value == pytest.approx(0.45, abs=1e-4)
    assert found.bones.longest[0].name in (
        "hip_left-knee_left",
        "knee_left-ankle_left",
        "hip_right-knee_right",
    )


def test_clips_too_short_say_nothing_of_bones() -> None:
    found = examine(people(walk(7), walk(1)))
    assert found.bones.variation is None
    assert (found.lengths.short, found.lengths.single) == (2, 1)


def test_a_body_that_stands_there_twice_is_found() -> None:
    alone, together = walk(9), walk(9)
    clips = people(
        np.concatenate([alone, 0 * alone], axis=1),
        np.concatenate([together, together], axis=1),
        np.concatenate([together, together + 1], axis=1),
    )
    found = examine(clips)
    assert found.bodies == {1: 1, 2: 2}
    assert found.gaps.copied_bodies == 1
    assert any(
        text.startswith("the same body twice, in 1 of 3 clips") for text in texts(found, "warning")
    )


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = changed((5, 0, 7), 2.0, changed(([2, 14], 0, 6), 0))
    whole = examine(clips, ["subject:1,2->3,4"])
    monkeypatch.setattr(doctor_frames, "_BLOCK_BYTES", 1)
    assert examine(clips, ["subject:1,2->3,4"]) == whole


def test_half_precision_is_examined_as_its_values() -> None:
    clips = four()
    half = clips.joints.astype(np.float16)
    one, other = (
        examine(replace(clips, joints=half)),
        examine(replace(clips, joints=half.astype(np.float32))),
    )
    assert one == other


def test_absurd_coordinates_do_not_stop_the_doctor() -> None:
    found = examine(changed((3, 0, 9), 1e30))
    assert found.motion.jump_clips == 1
    json.dumps(found.model_dump(mode="json"))


def test_run_lengths_count_up_and_start_again() -> None:
    flags = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], dtype=bool)
    assert run_lengths(flags).tolist() == [1, 2, 0, 1, 0, 0, 1, 2, 3]
    assert run_lengths(flags[:0]).tolist() == []


def test_steps_are_counted_to_within_one_percent() -> None:
    sizes = np.linspace(0.001, 1, 1000, dtype=np.float32)
    steps = np.bincount(sizes.view(np.uint32) >> 16, minlength=1 << 15)
    assert step_percentile(steps, 50) == pytest.approx(0.5, rel=0.01)
    assert step_percentile(steps, 99.9) == pytest.approx(0.999, rel=0.01)
    assert steps_above(steps, 0.9) == pytest.approx(100, abs=9)
    assert step_percentile(0 * steps, 50) == 0


# --- counts and splits ---


def test_clips_are_counted_by_class_subject_and_columns_of_few_values() -> None:
    found = examine(
        four(
            label=[0, 0, 1, 0],
            view=[1, 2, 2, 2],
            place=["hall", "yard", "hall", "hall"],
            size=[0.1] * 4,
        )
    )
    assert found.classes == {"walk": 3, "stroll": 1}
    assert found.subjects == {1: 1, 2: 1, 3: 1, 4: 1}
    assert found.columns == {"view": {"1": 1, "2": 3}, "place": {"hall": 3, "yard": 1}}
    many = clip_set((1,) * 61, take=range(61), half=np.arange(61) // 2)
    assert list(examine(many).columns) == ["half"]


def test_a_class_without_clips_and_unknown_subjects_are_said() -> None:
    found = examine(four(label=[0] * 4, subject=[-1, -1, 2, 3]))
    assert "1 of 2 classes have no clip: stroll" in texts(found, "warning")
    assert any(
        text.startswith("clips of unknown subject (-1): 2;") for text in texts(found, "note")
    )


def test_usual_splits_are_the_official_ones_or_every_view() -> None:
    assert usual_splits(four()) == ("xsub",)
    assert usual_splits(four(view=[1, 2, 2, 3])) == ("xsub", "view:*->1", "view:*->2", "view:*->3")
    official = replace(
        four(view=[1, 2, 2, 3]), splits={"xsub": "subject:1-2->3-4", "xview": "view:2,3->1"}
    )
    assert usual_splits(official) == ("xsub", "xview")


def leaky() -> ClipSet:
    """Clips 0 to 5; 0 = 2 = 5 and 1 = 3, over views and labels."""
    one, other = walk(8, 0.01), walk(9, 0.02)
    return people(
        one,
        other,
        one,
        other,
        walk(8, 0.03),
        one,
        label=[0, 1, 0, 1, 0, 1],
        subject=[1, 1, 2, 2, 3, 3],
        view=[1, 1, 2, 2, 1, 1],
        names=[f"take_{index}" for index in range(6)],
    )


def test_leaks_are_counted_by_class_and_view_without_being_told() -> None:
    found = examine(leaky(), usual_splits(leaky()))
    split = next(split for split in found.splits if split.name == "view:*->2")
    assert (split.train + split.validation, split.test) == (4, 2)
    assert (split.leaked_test, split.leaked_train) == (2, 3)
    assert split.leaked_classes == {"walk": 1, "stroll": 1}
    assert split.leaked_views == {"1 -> 2": 3}
    assert split.examples[0] == "clip 0 (take_0) = clip 2 (take_2)"
    assert (split.repeated_train, split.repeated_test) == (2, 0)
    assert [
        text
        for text in texts(found, "error")
        if text.startswith("split view:*->2: 2 of 2 test clips (100.0%)")
    ]


def test_groups_are_described_by_what_they_cross() -> None:
    repeats = examine(leaky()).repeats
    assert (repeats.groups, repeats.clips, repeats.relabelled) == (2, 5, 1)
    assert repeats.crossing["view"] == {"1 and 2": 2}
    assert repeats.crossing["subject"] == {"1 and 2": 2, "1 and 3": 1, "2 and 3": 1}
    assert repeats.examples[1] == "clip 1 (take_1) = clip 3 (take_3)"
    assert repeats.relabelled_examples == (
        "clip 0 (take_0) 'walk' = clip 2 (take_2) 'walk' = clip 5 (take_5) 'stroll'",
    )


def test_a_split_without_repeats_leaks_nothing() -> None:
    found = examine(leaky(), ["view:1->2 without repeats"])
    assert (found.splits[0].leaked_test, found.splits[0].train + found.splits[0].validation) == (
        0,
        1,
    )


def test_a_split_that_cannot_be_made_is_a_finding() -> None:
    found = examine(four(subject=[1, 1, 3, 3]), ["xsub"])
    assert found.splits[0].problem.startswith(
        "people: split 'xsub': expected clips on the test side"
    )
    assert any(
        text.startswith("split xsub cannot be made: people") for text in texts(found, "warning")
    )


def test_too_few_subjects_for_validation_leave_it_out() -> None:
    split = examine(four(subject=[1, 1, 2, 2]), ["xsub"]).splits[0]
    assert (split.train, split.validation, split.test) == (2, 0, 2)


# --- identity ---


def as_stored(clips: ClipSet) -> ClipSet:
    """The clips with what a store would remember of them."""
    present = present_bodies(clips)
    hashes = np.array([clip_hash(clips.clip(index)) for index in range(len(clips))], np.uint64)
    return replace(
        clips, stored=Stored(fingerprint(clips), hashes, present, clip_origins(clips, present))
    )


def test_the_fingerprint_is_that_of_the_clips() -> None:
    identity = examine(four()).identity
    assert (identity.stored, identity.computed) == ("", fingerprint(four()))


def test_a_store_is_believed_unless_deep() -> None:
    spoilt = changed((0, 0, 0, 0), 0.25, as_stored(four()))
    shallow, deep = examine(spoilt), examine(spoilt, deep=True)
    assert (shallow.identity.fingerprint, shallow.identity.computed) == (fingerprint(four()), "")
    assert texts(shallow, "error") == []
    assert only(deep, "error").startswith(
        f"fingerprint: the store says {fingerprint(four())[:16]}, its frames have"
    )


@pytest.mark.parametrize("name", ["hashes", "present", "origins"])
def test_what_a_store_remembers_of_its_frames_is_compared_too(name: str) -> None:
    clips = as_stored(four())
    assert clips.stored is not None
    values = getattr(clips.stored, name)
    stored = replace(clips.stored, **{name: ~values if name == "present" else values + 1})
    found = examine(replace(clips, stored=stored), deep=True)
    assert f"{name}: not those of the frames; prepare the store again" in texts(found, "error")


def test_a_sound_store_has_its_own_fingerprint() -> None:
    identity = examine(as_stored(four()), deep=True).identity
    assert identity.stored == identity.computed


def test_clips_of_a_store_are_compared_by_its_hashes() -> None:
    assert (
        examine(as_stored(leaky()), ["view:1->2"]).splits == examine(leaky(), ["view:1->2"]).splits
    )


def test_an_examination_is_json() -> None:
    found = examine(leaky(), usual_splits(leaky()))
    text = json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert Examination.model_validate_json(text) == found


def test_a_clip_set_of_single_frames_is_examined() -> None:
    found = examine(clip_set((1, 1, 1)))
    assert (found.motion.frozen, found.motion.largest_step, found.bones.variation) == (0, 0, None)


# --- recorded data ---


@needs_recordings
@pytest.mark.parametrize("name", ["nwucla", "utdmhad", "uiprmd"])
def test_recorded_bodies_are_upright_in_metres_and_not_mirrored(name: str) -> None:
    body = examine(recorded(name)).body
    assert (body.unit, body.up, body.sides) == ("metres", "+y", "right-handed, not mirrored")
    assert body.order is not None
    assert body.order < 1.25


@needs_recordings
def test_nwucla_has_95_leaked_clips_and_unsteady_bones() -> None:
    clips = recorded("nwucla")
    clips = replace(
        clips, columns={name: values for name, values in clips.columns.items() if name != "twin"}
    )
    found = examine(clips, usual_splits(clips))
    split = next(split for split in found.splits if split.name == "view:*->3")
    assert (split.train + split.validation, split.test, split.leaked_test) == (1020, 464, 95)
    assert split.leaked_classes == {"pick up with two hands": 50, "drop trash": 45}
    assert split.leaked_views == {"2 -> 3": 95}
    assert found.repeats.crossing == {"view": {"2 and 3": 95}}
    assert (found.lengths.single, found.lengths.short) == (2, 4)
    assert found.bones.variation is not None
    assert 0.08 < found.bones.variation < 0.21
    assert found.motion.step_999 == pytest.approx(1.55, abs=0.05)
    assert 4 < found.motion.largest_step < 4.5


@needs_recordings
def test_utdmhad_as_it_is_distributed_does_not_fit_the_layout() -> None:
    clips = recorded("utdmhad")
    turned = clips.joints[:, :, np.r_[3, 2, 1, 0, 4:20]]
    assert any(
        text.startswith("joint order")
        for text in texts(examine(replace(clips, joints=turned)), "error")
    )
