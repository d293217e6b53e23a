"""Bodies of the synthetic data set: proportions, habits, and forward kinematics in the NTU 25-joint
layout.

A pose is a row of D channels (`CHANNELS`), joint angles in degrees. The body's own frame is
right-handed with y up, z forward and x to the body's left. Arms turn with the chest; legs are given
against the vertical, so that leaning the trunk leaves the feet where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets.layouts import NTU25

Floats = NDArray[np.float64]

# Signs: `turn`, `lean` and `twist` are positive to the body's left, `pitch` forward (of a foot:
# toes up). An arm hangs at `raise` 0, is level at 90; `plane` says where to: 0 forward, 90 outward,
# negative across the chest. `inward` turns the upper arm about itself, so that the forearm bends
# across the belly.
_MIDLINE = (
    "turn",
    "pelvis_pitch",
    "pelvis_lean",
    "spine_pitch",
    "spine_lean",
    "spine_twist",
    "head_pitch",
    "head_turn",
)
ARM = ("raise", "plane", "inward", "elbow", "wrist")
_LEG = ("hip", "spread", "knee", "turnout", "foot_pitch")
CHANNELS: tuple[str, ...] = _MIDLINE + tuple(
    f"{side}_{name}" for side in ("left", "right") for name in ARM + _LEG
)
CHANNEL: Mapping[str, int] = {name: column for column, name in enumerate(CHANNELS)}

# How people stand idle, degrees: ranges over subjects. `knee` is beyond what keeps the shank
# upright.
HABITS: Mapping[str, tuple[float, float]] = {
    "lean": (-3.0, 6.0), "head_pitch": (-6.0, 8.0), "raise": (7.0, 18.0), "plane": (55.0, 90.0),
    "inward": (5.0, 45.0), "elbow": (8.0, 35.0), "wrist": (-5.0, 15.0), "hip": (2.0, 5.0),
    "spread": (1.0, 6.0), "knee": (0.0, 4.0), "turnout": (4.0, 18.0),
}  # fmt: skip

_FLIPPED = ("turn", "pelvis_lean", "spine_lean", "spine_twist", "head_turn")
_SPINE = (("twist", 1.0), ("pitch", 1.0), ("lean", -1.0))
_SWAP = {"left": "right", "right": "left"}
_LIMITS = {"elbow": (0.0, 150.0), "knee": (0.0, 150.0)}
_JOINT = {name: joint for joint, name in enumerate(NTU25.joints)}

# Bones of a person of height 1, in the rest pose with hanging arms: (left, up, forward). The left
# side; the right mirrors it. Proportions are those of usual anthropometric tables, at the joints
# that a Kinect reports.
_REST = {
    "spine_mid": (0.0, 0.170, 0.0),
    "spine_shoulder": (0.0, 0.130, 0.0),
    "neck": (0.0, 0.040, 0.0),
    "head": (0.0, 0.075, 0.008),
    "left_shoulder": (0.100, -0.022, 0.0),
    "left_elbow": (0.0, -0.168, 0.0),
    "left_wrist": (0.0, -0.145, 0.0),
    "left_hand": (0.0, -0.045, 0.0),
    "left_hand_tip": (0.0, -0.048, 0.0),
    "left_thumb": (-0.006, -0.020, 0.026),
    "left_hip": (0.047, -0.020, 0.0),
    "left_knee": (0.0, -0.235, 0.0),
    "left_ankle": (0.0, -0.235, 0.0),
    "left_foot": (0.0, -0.035, 0.070),
}
_HEAD_TOP = 0.060  # from the head joint to the crown
_SOLE = 0.015  # from the foot joint to the floor
_VARIED = (
    ("spine_mid", "spine_shoulder"),
    ("neck",),
    ("head",),
    ("shoulder",),
    ("elbow",),
    ("wrist",),
    ("hand", "hand_tip", "thumb"),
    ("hip",),
    ("knee",),
    ("ankle",),
    ("foot",),
)


@dataclass(frozen=True)
class Body:
    """One subject: bones and habits.

    Attributes:
        height: standing height, metres.
        offsets: [25, 3] bone from the parent joint in the rest pose, metres.
        sole: height of the foot joint over the floor, metres.
        left_handed: one-armed actions are done with the left.
        tempo: factor on speed.
        amplitude: factor on the size of movements.
        hesitance: -1 to 1; how much slower than it ends a movement begins.
        sway: factor on idle movement.
        neutral: [D] the channels when standing idle.
        manner: [D] factor on each channel's part in a movement.
    """

    height: float
    offsets: Floats
    sole: float
    left_handed: bool
    tempo: float
    amplitude: float
    hesitance: float
    sway: float
    neutral: Floats
    manner: Floats


def make_body(rng: np.random.Generator, height: float, left_handed: bool) -> Body:
    """Draw the bones and habits of one subject of the given standing height (metres)."""
    offsets, crown, sole = _bones(rng, height)
    scale = height / crown
    return Body(
        height=height,
        offsets=offsets * scale,
        sole=sole * scale,
        left_handed=left_handed,
        tempo=float(np.exp(rng.uniform(-0.18, 0.18))),
        amplitude=float(rng.uniform(0.88, 1.12)),
        hesitance=float(rng.uniform(-0.6, 0.6)),
        sway=float(rng.uniform(0.6, 1.4)),
        neutral=_stance({name: rng.uniform(*limits) for name, limits in HABITS.items()}),
        manner=_manner(rng),
    )


def _bones(rng: np.random.Generator, height: float) -> tuple[Floats, float, float]:
    """Offsets [25, 3], height of the crown and of the foot joint,
    for a person of height about 1.
    """
    factor = {name: float(np.exp(rng.normal(0.0, 0.04))) for group in _VARIED for name in group[:1]}
    small = (1.70 - height) / 0.25  # the small have larger heads and shorter legs for their height
    factor["head"] *= 1.0 + 0.08 * small
    factor["knee"] *= 1.0 - 0.03 * small
    factor["ankle"] *= 1.0 - 0.03 * small
    offsets = np.zeros((NTU25.joint_count, 3))
    for group in _VARIED:
        for name in group:
            if name in _REST:
                offsets[_JOINT[name]] = np.multiply(_REST[name], factor[group[0]])
            else:
                bone = np.multiply(_REST[f"left_{name}"], factor[group[0]])
                offsets[_JOINT[f"left_{name}"]] = bone
                offsets[_JOINT[f"right_{name}"]] = bone * (-1.0, 1.0, 1.0)
    leg = -sum(offsets[_JOINT[f"left_{name}"], 1] for name in ("hip", "knee", "ankle", "foot"))
    trunk = sum(
        offsets[_JOINT[name], 1] for name in ("spine_mid", "spine_shoulder", "neck", "head")
    )
    return offsets, float(leg + trunk + _SOLE + _HEAD_TOP * factor["head"]), _SOLE


def _stance(habit: Mapping[str, float]) -> Floats:
    """The [D] channels of one subject's idle stance; both sides alike."""
    stance = {"pelvis_pitch": 0.2 * habit["lean"], "spine_pitch": habit["lean"], **habit}
    stance["knee"] += habit["hip"]
    return np.array(
        [stance.get(name, stance.get(name.split("_", 1)[-1], 0.0)) for name in CHANNELS]
    )


AVERAGE_STANCE = _stance({name: 0.5 * (low + high) for name, (low, high) in HABITS.items()})


def _manner(rng: np.random.Generator) -> Floats:
    """[D] factors; both sides alike, and 1 for the legs, which would leave the floor otherwise."""
    factor = {name: float(np.exp(rng.uniform(-0.15, 0.15))) for name in _MIDLINE + ARM}
    return np.array(
        [factor.get(name, factor.get(name.split("_", 1)[-1], 1.0)) for name in CHANNELS]
    )


def mirror(pose: Floats) -> Floats:
    """The same poses [F, D] with left and right exchanged."""
    mirrored = np.empty_like(pose)
    for name, column in CHANNEL.items():
        side, _, rest = name.partition("_")
        other = CHANNEL.get(f"{_SWAP.get(side, side)}_{rest}", column)
        mirrored[:, column] = -pose[:, other] if name in _FLIPPED else pose[:, other]
    return mirrored


def _limited(pose: Floats) -> Floats:
    """Poses [F, D] with elbows and knees kept from bending the wrong way."""
    pose = pose.copy()
    for name, column in CHANNEL.items():
        if bounds := _LIMITS.get(name.split("_")[-1]):
            np.clip(pose[:, column], *bounds, out=pose[:, column])
    return pose


def forward_kinematics(pose: Floats, body: Body) -> Floats:
    """Joints [F, 25, 3] in metres for poses [F, D].

    The lowest foot is on the floor (y = 0), and a planted foot does not slide. The first frame's
    pelvis is above the origin.
    """
    joints = np.zeros((len(pose), NTU25.joint_count, 3))
    turns = _segment_turns(_limited(pose))
    for joint in _ORDER:
        parent = NTU25.parents[joint]
        turned = turns[NTU25.joints[joint]].reshape(-1, 3)  # one product instead of F small ones
        joints[:, joint] = joints[:, parent] + (turned @ body.offsets[joint]).reshape(-1, 3)
    return joints + _planted(joints, body)[:, None]


def _turned(axes: str, *angles: Floats) -> Floats:
    """[F, 3, 3] product of rotations about x, y or z by ``angles`` in degrees, in reading order.

    By hand, since scipy's Rotation takes four times as long on the hundred frames of one clip.
    """
    product: Floats | None = None
    for axis, angle in zip(axes, angles, strict=True):
        first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
        matrix = np.zeros((len(angle), 3, 3))
        matrix[:, "xyz".index(axis), "xyz".index(axis)] = 1.0
        radians = np.deg2rad(angle)
        matrix[:, first, first] = matrix[:, second, second] = np.cos(radians)
        matrix[:, second, first] = np.sin(radians)
        matrix[:, first, second] = -matrix[:, second, first]
        product = matrix if product is None else product @ matrix
    assert product is not None
    return product


def _segment_turns(pose: Floats) -> dict[str, Floats]:
    """Joint name -> the F rotation matrices [F, 3, 3] of the bone that ends in it."""
    channel = dict(zip(CHANNELS, pose.T, strict=True))
    heading = _turned("y", channel["turn"])
    pelvis = heading @ _turned("xz", channel["pelvis_pitch"], -channel["pelvis_lean"])
    half = _turned("yxz", *(0.5 * sign * channel[f"spine_{a}"] for a, sign in _SPINE))
    loin = pelvis @ half
    chest = loin @ half
    face = chest @ _turned("yx", channel["head_turn"], channel["head_pitch"])
    turns = {"spine_mid": loin, "spine_shoulder": chest, "neck": chest, "head": face}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        raised, plane, inward, elbow, wrist = (channel[f"{side}_{name}"] for name in ARM)
        upper = chest @ _turned("yxy", sign * plane, -raised, -sign * (plane + inward))
        fore = upper @ _turned("x", -elbow)
        palm = fore @ _turned("x", -wrist)
        hip, spread, knee, turnout, foot_pitch = (channel[f"{side}_{name}"] for name in _LEG)
        thigh = heading @ _turned("zx", sign * spread, -hip)
        shank = thigh @ _turned("x", knee)
        foot = heading @ _turned("yx", sign * turnout, -foot_pitch)
        arm = {
            "shoulder": chest,
            "elbow": upper,
            "wrist": fore,
            "hand": palm,
            "hand_tip": palm,
            "thumb": palm,
        }
        leg = {"hip": pelvis, "knee": thigh, "ankle": shank, "foot": foot}
        turns |= {f"{side}_{name}": turn for name, turn in (arm | leg).items()}
    return turns


def _depth(joint: int) -> int:
    parent = NTU25.parents[joint]
    return 0 if parent < 0 else 1 + _depth(parent)


_ORDER = sorted((joint for joint, _ in NTU25.bones), key=_depth)
_ANKLES = [_JOINT["left_ankle"], _JOINT["right_ankle"]]
_TOES = [_JOINT["left_foot"], _JOINT["right_foot"]]


def _planted(joints: Floats, body: Body) -> Floats:
    """The pelvis' way [F, 3] that puts the lowest foot on the floor and keeps it
    where it stands.
    """
    rise = -body.offsets[_TOES[0], 1]  # of the ankle over the foot joint when the foot is flat
    height = np.minimum(joints[:, _TOES, 1], joints[:, _ANKLES, 1] - rise)
    carries = np.exp(-(height - height.min(axis=1, keepdims=True)) / 0.012)
    carries /= carries.sum(axis=1, keepdims=True)
    step = np.diff(joints[:, _ANKLES], axis=0) * (0.5 * (carries[1:] + carries[:-1]))[..., None]
    way = np.concatenate([np.zeros((1, 3)), -step.sum(axis=1).cumsum(axis=0)])
    way[:, 1] = body.sole - height.min(axis=1)
    return way
