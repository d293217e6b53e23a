"""The synthetic data set: bodies are bodies, actions differ in time, the cache can be trusted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.checks import validate
from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.layouts import NTU25
from datasets.synthetic import generation as synthetic
from datasets.synthetic.body import CHANNEL, CHANNELS, forward_kinematics, mirror
from datasets.synthetic.camera import Camera, tracked
from datasets.synthetic.generation import generate, load, make_bodies
from datasets.synthetic.motion import ACTIONS, EVERY, TWINS, Moment, keyframes
from datasets.synthetic.performance import (
    DIFFICULTY,
    FRAMES,
    PARTNER_DISTANCE,
    Difficulty,
    channels,
    perform,
)

JOINT = {name: joint for joint, name in enumerate(NTU25.joints)}
CLEAN = replace(DIFFICULTY, noise=0.0, dropouts=0.0, camera_tilt=0.0, fidget=0.0)
TWO_PERSON = ("handshake", "push")


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    """Four subjects as the data set has them."""
    return generate(seed=3, subjects=4, repetitions=1)


@pytest.fixture(scope="module")
def clean() -> ClipSet:
    """Eight subjects (two of them left-handed), without tracking errors and fidgets."""
    return generate(
        seed=3, subjects=8, repetitions=1, actions=("pick_up", "drink", "push"), difficulty=CLEAN
    )


def clips_of(clips: ClipSet, name: str) -> list[int]:
    return np.flatnonzero(clips.columns["label"] == clips.class_names.index(name)).tolist()


def bone_lengths(joints: np.ndarray) -> np.ndarray:
    """[..., 24] of joints [..., 25, 3]."""
    child, parent = np.array(NTU25.bones).T
    return np.linalg.norm(joints[..., child, :] - joints[..., parent, :], axis=-1)


def forward_of(joints: np.ndarray) -> np.ndarray:
    """Where the hips of joints [..., 25, 3] face: up x right, level, of unit length."""
    right = joints[..., JOINT["right_hip"], :] - joints[..., JOINT["left_hip"], :]
    forward = np.cross([0.0, 1.0, 0.0], right)
    return forward / np.linalg.norm(forward, axis=-1, keepdims=True)


def even_moment(frames: int = 60, turns: float = 2.0) -> Moment:
    progress = np.linspace(0.0, 1.0, frames)
    return Moment(progress=progress, phase=2.0 * np.pi * turns * progress, gate=np.ones(frames))


# --- the set as a whole
# ---------------------------------------------------------------------------------


def test_one_seed_gives_one_data_set_and_another_seed_another():
    size = {"subjects": 2, "repetitions": 1, "actions": ("drink", "push")}
    first, again, other = generate(5, **size), generate(5, **size), generate(6, **size)
    np.testing.assert_array_equal(first.joints, again.joints)
    np.testing.assert_array_equal(first.offsets, again.offsets)
    for name, column in first.columns.items():
        np.testing.assert_array_equal(column, again.columns[name])
    assert not np.array_equal(first.columns["tempo"], other.columns["tempo"])
    assert not np.array_equal(first.clip(0)[:40], other.clip(0)[:40])


def test_another_list_of_actions_leaves_the_clips_of_the_others_as_they_are():
    alone = generate(subjects=2, repetitions=1, actions=("kick",))
    among = generate(subjects=2, repetitions=1, actions=("drink", "kick"))
    kicks = clips_of(among, "kick")
    assert len(kicks) == len(alone) == 6
    for index, kick in enumerate(kicks):
        np.testing.assert_array_equal(alone.clip(index), among.clip(kick))


def test_contract(clips: ClipSet):
    validate(clips)
    assert len(clips) == 4 * 16 * 1 * 3
    assert clips.layout is NTU25
    assert clips.fps == 30.0
    assert clips.joints.dtype == np.float32
    assert clips.joints.shape == (clips.offsets[-1], 2, 25, 3)
    assert clips.offsets.dtype == np.int64
    assert clips.offsets[0] == 0
    assert np.isfinite(clips.joints).all()
    lengths = np.diff(clips.offsets)
    assert FRAMES[0] <= lengths.min() < lengths.max() <= FRAMES[1]
    assert clips.class_names == tuple(ACTIONS)
    for name in ("label", "subject", "view", "repetition", "performance", "left_handed"):
        assert clips.columns[name].dtype == np.int64
    for name in ("tempo", "amplitude", "height", "facing"):
        assert clips.columns[name].dtype == np.float32
    assert {len(column) for column in clips.columns.values()} == {len(clips)}


def test_sizes_and_counts_of_the_columns(clips: ClipSet):
    assert sum(action.partner is not None for action in EVERY.values()) == 2
    assert np.bincount(clips.columns["label"]).tolist() == [12] * 16
    assert np.unique(clips.columns["subject"]).tolist() == [1, 2, 3, 4]
    assert np.unique(clips.columns["view"]).tolist() == [1, 2, 3]
    assert np.bincount(clips.columns["performance"]).tolist() == [3] * 64


def test_repetitions_differ():
    twice = generate(subjects=1, repetitions=2, actions=("kick",))
    assert twice.columns["repetition"].tolist() == [1, 1, 1, 2, 2, 2]
    assert twice.columns["tempo"][0] != twice.columns["tempo"][3]


def test_sizes_below_one_and_unknown_actions_are_refused():
    with pytest.raises(DataError, match="at least one subject"):
        generate(subjects=0)
    with pytest.raises(DataError, match="moonwalk"):
        generate(actions=("moonwalk",))


def test_second_body_is_present_in_two_person_actions_only(clips: ClipSet):
    for index in range(len(clips)):
        clip, name = clips.clip(index), clips.class_names[clips.columns["label"][index]]
        present = np.abs(clip).sum(axis=(2, 3)) > 0.0
        assert present[:, 0].all()
        assert present[:, 1].all() if name in TWO_PERSON else not present[:, 1].any()


# --- bodies
# ---------------------------------------------------------------------------------------------


def test_bones_keep_their_length_without_tracking_errors(clean: ClipSet):
    bodies = make_bodies(3, 8)
    for index in range(len(clean)):
        expected = np.linalg.norm(bodies[clean.columns["subject"][index] - 1].offsets[1:], axis=-1)
        lengths = bone_lengths(clean.clip(index)[:, 0])
        np.testing.assert_allclose(lengths, np.broadcast_to(expected, lengths.shape), atol=1e-5)


def test_partner_is_another_subject(clean: ClipSet):
    for index in clips_of(clean, "push"):
        lengths = bone_lengths(clean.clip(index)[0])
        assert np.abs(lengths[0] - lengths[1]).max() > 0.005


def test_subjects_differ_in_size_and_in_proportions():
    lengths = np.array([np.linalg.norm(body.offsets[1:], axis=-1) for body in make_bodies(0, 24)])
    heights = np.array([body.height for body in make_bodies(0, 24)])
    assert heights.min() < 1.55
    assert heights.max() > 1.85
    proportions = lengths / heights[:, None]
    assert (lengths.std(axis=0) / lengths.mean(axis=0) > 0.035).all()
    assert (proportions.std(axis=0) / proportions.mean(axis=0) > 0.02).all()
    assert np.corrcoef(heights, lengths[:, JOINT["left_knee"] - 1])[0, 1] > 0.7


@pytest.mark.parametrize("parity", [0, 1])
def test_each_half_of_the_cross_subject_split_has_small_tall_and_left_handed_subjects(parity: int):
    half = make_bodies(0, 24)[parity::2]
    heights = [body.height for body in half]
    assert sum(body.left_handed for body in half) == 3
    assert abs(np.mean(heights) - 1.70) < 0.04
    assert min(heights) < 1.55
    assert max(heights) > 1.85


def test_first_bodies_do_not_depend_on_how_many_follow():
    few, many = make_bodies(0, 3), make_bodies(0, 24)
    for body, same in zip(few, many, strict=False):
        np.testing.assert_array_equal(body.offsets, same.offsets)


def test_standing_bodies_are_as_tall_as_they_say():
    for body in make_bodies(0, 24):
        upright = forward_kinematics(np.zeros((1, len(CHANNELS))), body)[0]
        assert 1.45 <= body.height <= 1.95
        assert upright[JOINT["head"], 1] == upright[:, 1].max()
        assert 0.92 < upright[JOINT["head"], 1] / body.height < 0.95
        assert 0.50 < upright[JOINT["spine_base"], 1] / body.height < 0.57
        assert 0.01 < upright[:, 1].min() < 0.04


def test_height_column_is_what_clips_show(clean: ClipSet):
    for index in clips_of(clean, "drink"):
        first = clean.clip(index)[0, 0]
        assert (first[:, 1].max() - first[:, 1].min()) / clean.columns["height"][
            index
        ] == pytest.approx(0.92, abs=0.03)


# --- kinematics
# -----------------------------------------------------------------------------------------


def posed(**angles: float) -> np.ndarray:
    """Joints [25, 3] of a body with some channels (degrees) and all others 0."""
    pose = np.zeros((1, len(CHANNELS)))
    for name, angle in angles.items():
        pose[0, CHANNEL[name]] = angle
    return forward_kinematics(pose, make_bodies(0, 1)[0])[0]


def direction(joints: np.ndarray, start: str, end: str) -> np.ndarray:
    bone = joints[JOINT[end]] - joints[JOINT[start]]
    return bone / np.linalg.norm(bone)


@pytest.mark.parametrize(
    ("angles", "bone", "expected"),
    [
        ({}, ("left_shoulder", "left_elbow"), (0, -1, 0)),
        ({"left_raise": 90}, ("left_shoulder", "left_elbow"), (0, 0, 1)),
        ({"left_raise": 90, "left_plane": 90}, ("left_shoulder", "left_elbow"), (1, 0, 0)),
        ({"right_raise": 90, "right_plane": 90}, ("right_shoulder", "right_elbow"), (-1, 0, 0)),
        ({"right_elbow": 90}, ("right_elbow", "right_wrist"), (0, 0, 1)),
        ({"right_elbow": 90, "right_inward": 90}, ("right_elbow", "right_wrist"), (1, 0, 0)),
        ({"left_hip": 90, "left_knee": 90}, ("left_hip", "left_knee"), (0, 0, 1)),
        ({"left_hip": 90, "left_knee": 90}, ("left_knee", "left_ankle"), (0, -1, 0)),
        ({"right_spread": 90}, ("right_hip", "right_knee"), (-1, 0, 0)),
        ({"pelvis_pitch": 90}, ("spine_base", "spine_mid"), (0, 0, 1)),
        ({"pelvis_lean": 90}, ("spine_base", "spine_mid"), (1, 0, 0)),
        ({"turn": 90}, ("right_shoulder", "left_shoulder"), (0, 0, -1)),
        ({"spine_twist": 90}, ("right_shoulder", "left_shoulder"), (0, 0, -1)),
    ],
)
def test_channels_turn_bones_where_they_say(angles, bone, expected):
    np.testing.assert_allclose(direction(posed(**angles), *bone), expected, atol=1e-9)


def test_mirror_exchanges_left_and_right():
    rng = np.random.default_rng(0)
    pose = rng.uniform(0.0, 40.0, size=(5, len(CHANNELS)))
    body = make_bodies(0, 1)[0]
    swapped = list(range(25))
    for left, right in NTU25.pairs:
        swapped[left], swapped[right] = right, left
    expected = forward_kinematics(pose, body)[:, swapped] * (-1.0, 1.0, 1.0)
    np.testing.assert_allclose(forward_kinematics(mirror(pose), body), expected, atol=1e-9)


def test_toes_point_along_up_cross_right(clips: ClipSet):
    for index in range(len(clips)):
        clip = clips.clip(index)
        bodies = clip[:, : 1 + clip[:, 1].any()].mean(axis=0)
        toes = bodies[:, [15, 19]] - bodies[:, [14, 18]]
        assert (np.einsum("mkc,mc->mk", toes, forward_of(bodies)) > 0.0).all()


@pytest.mark.parametrize("name", list(EVERY))
def test_lowest_foot_is_on_the_floor(name: str):
    bodies = make_bodies(0, 4)
    for seed, body in enumerate(bodies):
        joints = perform(
            np.random.default_rng(seed), EVERY[name], body, bodies[seed - 1], CLEAN
        ).joints
        lowest = joints[:, :, [JOINT["left_foot"], JOINT["right_foot"]], 1].min(axis=2)
        assert (np.abs(lowest) < 0.05).all()
        assert joints[..., 1].min() > -0.05


def test_standing_feet_do_not_slide():
    bodies = make_bodies(0, 2)
    joints = perform(
        np.random.default_rng(0), ACTIONS["pick_up"], *bodies, replace(CLEAN, turning=0.0)
    ).joints
    path = joints[:, 0, [JOINT["left_ankle"], JOINT["right_ankle"]]][..., [0, 2]]
    assert np.abs(path - path[0]).max() < 0.08  # the stance narrows by some cm as the knees bend
    assert np.ptp(joints[:, 0, 0, 1]) > 0.15


def test_partners_face_each_other_at_arms_length():
    bodies = make_bodies(0, 4)
    for name in TWO_PERSON:
        joints = perform(
            np.random.default_rng(1), ACTIONS[name], bodies[0], bodies[3], CLEAN
        ).joints[0]
        between = joints[1, 0] - joints[0, 0]
        assert np.linalg.norm(between[[0, 2]]) == pytest.approx(PARTNER_DISTANCE, abs=1e-6)
        forward = forward_of(joints)
        assert forward[0] @ between > 0.8 * PARTNER_DISTANCE
        assert forward[1] @ between < -0.8 * PARTNER_DISTANCE


# --- actions
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "back"), [("put_on_hat", "take_off_hat"), ("pick_up", "put_down")]
)
def test_reversed_pairs_are_time_reversals(there: str, back: str):
    forwards = channels(ACTIONS[there].program(even_moment()))
    backwards = channels(TWINS[back].program(even_moment()))
    np.testing.assert_allclose(backwards[::-1], forwards, atol=1e-9)
    assert np.abs(backwards - forwards).max() > 20.0


def test_arm_circles_are_time_reversals_with_one_mean_pose():
    forwards = channels(ACTIONS["arm_circle"].program(even_moment()))
    backwards = channels(TWINS["arm_circle_backward"].program(even_moment()))
    np.testing.assert_allclose(backwards[::-1], forwards, atol=1e-9)
    assert np.abs(backwards - forwards).max() > 20.0


def test_forward_arm_circle_moves_the_hand_forward_at_its_top():
    body = make_bodies(0, 1)[0]
    hand = forward_kinematics(channels(ACTIONS["arm_circle"].program(even_moment(61, 1.0))), body)[
        :, JOINT["right_hand"]
    ]
    top = int(hand[10:50, 1].argmax()) + 10 if hand[0, 1] < hand[10:50, 1].max() else 0
    assert hand[top + 1, 2] > hand[top, 2]


def test_arms_swing_in_phase_and_in_antiphase():
    together = channels(ACTIONS["arms_swing"].program(even_moment()))
    alternately = channels(TWINS["arms_swing_alternately"].program(even_moment()))
    left, right = CHANNEL["left_raise"], CHANNEL["right_raise"]
    np.testing.assert_allclose(alternately[:, left], together[:, left])
    assert np.corrcoef(together[:, left], together[:, right])[0, 1] == pytest.approx(1.0)
    assert np.corrcoef(alternately[:, left], alternately[:, right])[0, 1] == pytest.approx(-1.0)


def test_drink_brings_the_dominant_hand_to_the_head(clean: ClipSet):
    assert set(clean.columns["left_handed"].tolist()) == {0, 1}
    for index in clips_of(clean, "drink"):
        body = clean.clip(index)[:, 0]
        left, right = (
            np.linalg.norm(body[:, JOINT[hand]] - body[:, JOINT["head"]], axis=-1).min()
            for hand in ("left_hand", "right_hand")
        )
        dominant, other = (left, right) if clean.columns["left_handed"][index] else (right, left)
        assert dominant < 0.38 < other


def test_picking_up_starts_with_the_hands_down_and_ends_with_them_at_the_waist(clean: ClipSet):
    for index in clips_of(clean, "pick_up"):
        body = clean.clip(index)[:, 0]
        hands = body[:, [JOINT["left_hand"], JOINT["right_hand"]], 1].min(axis=1)
        height = (hands - body[:, :, 1].min(axis=1)) / clean.columns["height"][index]
        assert height.min() < 0.25
        assert 0.48 < height[-1] < 0.65


def test_a_side_kick_takes_one_leg_outward_and_a_hop_bends_the_other():
    body = make_bodies(0, 1)[0]
    kicked = forward_kinematics(channels(TWINS["side_kick"].program(even_moment())), body)
    foot = kicked[:, JOINT["right_ankle"], 0] - kicked[:, JOINT["left_ankle"], 0]
    assert np.abs(foot).max() > np.abs(foot[0]) + 0.3
    hopped = channels(ACTIONS["hop"].program(even_moment()))
    assert np.ptp(hopped[:, CHANNEL["left_knee"]]) > 20.0
    assert np.median(hopped[:, CHANNEL["right_knee"]]) > 40.0


def test_keyframes_pass_their_keys_and_rest_outside():
    curve = keyframes(np.array([0.0, 0.2, 0.5, 0.8, 1.0]), (0.2, 1.0), (0.5, 3.0), (0.8, 2.0))
    np.testing.assert_allclose(curve, [1.0, 1.0, 3.0, 2.0, 2.0], atol=1e-12)


# --- cameras
# --------------------------------------------------------------------------------------------


def test_camera_space_is_the_kinects():
    camera = Camera(yaw=0.0, tilt=0.0, height=1.0, distance=3.0)
    ahead, left_of_body = camera.seen(np.array([[0.0, 1.0, 1.0], [1.0, 1.0, 0.0]]))
    np.testing.assert_allclose(ahead, [0.0, 0.0, 2.0], atol=1e-12)
    np.testing.assert_allclose(left_of_body, [-1.0, 0.0, 3.0], atol=1e-12)


def test_camera_does_not_mirror():
    points = np.eye(3)
    origin = np.zeros((1, 3))
    camera = Camera(yaw=0.7, tilt=0.1, height=1.2, distance=3.0)
    axes = camera.seen(points) - camera.seen(origin)
    assert np.linalg.det(axes) == pytest.approx(1.0)


def test_three_views_see_the_same_performance(clean: ClipSet):
    for first in range(0, len(clean), 3):
        assert clean.columns["view"][first : first + 3].tolist() == [1, 2, 3]
        assert len(set(clean.columns["performance"][first : first + 3].tolist())) == 1
        hands = [
            clean.clip(first + view)[:, 0, [7, 11]] - clean.clip(first + view)[:, 0, [0]]
            for view in range(3)
        ]
        spread = [np.linalg.norm(hand, axis=-1) for hand in hands]
        np.testing.assert_allclose(spread[0], spread[1], atol=1e-5)
        np.testing.assert_allclose(spread[0], spread[2], atol=1e-5)
        assert np.abs(hands[0] - hands[1]).max() > 0.05


def test_facing_column_is_what_clips_show(clean: ClipSet):
    """Without a turn the body's left is at -x, and it faces along -z."""
    for index in range(len(clean)):
        forward = forward_of(clean.clip(index)[0, 0])
        shown = np.arctan2(-forward[0], -forward[2])
        apart = (shown - clean.columns["facing"][index] + np.pi) % (2.0 * np.pi) - np.pi
        assert abs(apart) < np.deg2rad(10.0)


def test_bodies_stand_two_to_four_metres_away(clips: ClipSet):
    depth = clips.joints[:, 0, 0, 2]
    assert 1.5 < depth.min() < depth.max() < 4.6


def test_tracking_error_is_as_large_as_asked_and_larger_at_extremities():
    truth = np.zeros((4000, 25, 3))
    error = tracked(np.random.default_rng(0), truth, noise=0.01, occlusion=0.0, dropouts=0.0)
    spread = error.std(axis=(0, 2))
    assert spread[JOINT["left_elbow"]] == pytest.approx(0.01, rel=0.1)
    assert (
        spread[JOINT["left_hand_tip"]]
        > 1.5 * spread[JOINT["left_elbow"]]
        > 1.5 * spread[JOINT["spine_mid"]]
    )
    steps = np.diff(error[:, JOINT["left_elbow"]], axis=0).std()
    assert (
        0.5 < steps / spread[JOINT["left_elbow"]] < 1.2
    )  # white would be 1.41, a slow drift about 0


def test_hidden_limbs_are_tracked_worse():
    truth = np.zeros((2000, 25, 3))
    truth[:, list(NTU25.parts["left_arm"]), 2] = 0.3
    error = (
        tracked(np.random.default_rng(0), truth, noise=0.01, occlusion=1.0, dropouts=0.0) - truth
    )
    assert error[:, JOINT["left_elbow"]].std() == pytest.approx(
        2.0 * error[:, JOINT["right_elbow"]].std(), rel=0.15
    )


def test_dropouts_lose_single_limbs_for_some_frames():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(60, 25, 3))
    lost = np.array(
        [np.abs(tracked(rng, truth, 0.0, 0.0, 1.0) - truth).max(axis=-1) > 1e-6 for _ in range(100)]
    )  # [clips, F, V]
    assert not lost[..., [0, 1, 2, 3, 20]].any()
    assert 0.4 < lost.any(axis=(1, 2)).mean() < 0.9
    assert 0.01 < lost.any(axis=2).mean() < 0.4


def test_difficulty_is_what_makes_clips_noisy():
    size = {"subjects": 1, "repetitions": 1, "actions": ("kick",)}
    noisy, still = (
        generate(**size),
        generate(**size, difficulty=Difficulty(noise=0.0, dropouts=0.0)),
    )
    assert bone_lengths(noisy.clip(0)[:, 0]).std(axis=0).min() > 0.002
    assert bone_lengths(still.clip(0)[:, 0]).std(axis=0).max() < 1e-5


# --- cache
# ----------------------------------------------------------------------------------------------


SMALL = {"subjects": 1, "repetitions": 1}


def assert_same(clips: ClipSet, others: ClipSet) -> None:
    np.testing.assert_array_equal(clips.joints, others.joints)
    np.testing.assert_array_equal(clips.offsets, others.offsets)
    assert list(clips.columns) == list(others.columns)
    for name, column in clips.columns.items():
        np.testing.assert_array_equal(column, others.columns[name])
        assert column.dtype == others.columns[name].dtype
    assert (clips.name, clips.class_names, clips.fps) == (
        others.name,
        others.class_names,
        others.fps,
    )


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipSet, Path]:
    """A small data set and its cache file; to be left as it is."""
    folder = tmp_path_factory.mktemp("cache")
    return load(folder, **SMALL), only_file(folder)


def test_load_caches_what_generate_gives(cached: tuple[ClipSet, Path]):
    made, file = cached
    written = file.stat()
    again = load(file.parent, **SMALL)
    assert_same(made, generate(**SMALL))
    assert_same(again, made)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert f"v{synthetic.VERSION}-seed0" in file.name
    assert only_file(file.parent) == file


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"not a zip file at all",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[: len(whole) // 2] + b"\xff" * 64 + whole[len(whole) // 2 + 64 :],
    ],
    ids=["empty", "foreign", "truncated", "overwritten"],
)
def test_damaged_cache_is_made_again(tmp_path: Path, cached: tuple[ClipSet, Path], damage):
    made, file = cached
    (tmp_path / file.name).write_bytes(damage(file.read_bytes()))
    assert_same(load(tmp_path, **SMALL), made)
    assert only_file(tmp_path).stat().st_size == file.stat().st_size


def test_cache_made_in_another_way_is_made_again(tmp_path: Path, cached: tuple[ClipSet, Path]):
    """A file whose name fits but whose contents were made with another seed,
    say by an older version.
    """
    made, file = cached
    load(tmp_path, seed=1, **SMALL)
    only_file(tmp_path).rename(tmp_path / file.name)
    assert_same(load(tmp_path, **SMALL), made)


def test_unwritable_cache_is_done_without(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    assert_same(load(tmp_path / "file" / "cache", **SMALL), generate(**SMALL))
    assert only_file(tmp_path).read_text() == "in the way"


def test_read_only_cache_is_done_without(tmp_path: Path, cached: tuple[ClipSet, Path]):
    """A folder stands where the file should be, so that nothing can be renamed to it,
    even by root.
    """
    made, file = cached
    (tmp_path / file.name / "full").mkdir(parents=True)
    assert_same(load(tmp_path, **SMALL), made)
    assert only_file(tmp_path).is_dir()


def test_default_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MASKED_SKELETON_CACHE", str(tmp_path / "mine"))
    load(**SMALL)
    assert only_file(tmp_path / "mine").suffix == ".npz"
    monkeypatch.setenv("MASKED_SKELETON_CACHE", str(only_file(tmp_path / "mine") / "in the way"))
    load(**SMALL)
