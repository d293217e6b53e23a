"""One performance of an action by one or two synthetic bodies, before any camera; and all
difficulty knobs.

A performance is the body's idle stance, idle movement and fidgets, with the action's joint angles
on top, stretched in time and size as the subject and the repetition have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.synthetic.body import (
    ARM,
    AVERAGE_STANCE,
    CHANNEL,
    CHANNELS,
    Body,
    Floats,
    forward_kinematics,
    mirror,
)
from datasets.synthetic.motion import Action, Deltas, Moment, Program

FPS = 30.0
FRAMES = (40, 120)
PARTNER_DISTANCE = 0.9  # metres between the pelves of two bodies


@dataclass(frozen=True)
class Difficulty:
    """All that makes the classes hard to tell apart; the defaults are the data set.

    Attributes:
        facing: start heading, degrees either side of camera 2.
        turning: slow change of heading during the clip, degrees.
        position: start position, metres either side of the centre.
        idle: seconds of standing idle before and after the action, from 0 to this.
        tempo: spread of the log tempo over repetitions, beside the subject's own.
        amplitude: spread of the amplitude over repetitions, beside the subject's own.
        hesitation: spread of how a movement's time is distributed over it.
        limb_lag: spread of each limb's own delay, seconds.
        fidget: probability that an arm moves for no reason.
        posture: spread of the arms' idle posture over repetitions, degrees.
        sway: idle movement of the trunk, degrees; arms move more, legs less.
        noise: tracking error of an average joint, metres.
        occlusion: by how much a hidden limb is tracked worse.
        dropouts: lost limbs per clip and body.
        camera_yaw: spread of the cameras' directions over set-ups, degrees.
        camera_tilt: spread of the cameras' tilts over set-ups, degrees.
    """

    facing: float = 180.0
    turning: float = 12.0
    position: float = 0.3
    idle: float = 1.3
    tempo: float = 0.2
    amplitude: float = 0.15
    hesitation: float = 0.3
    limb_lag: float = 0.07
    fidget: float = 0.0
    posture: float = 15.0
    sway: float = 1.8
    noise: float = 0.004
    occlusion: float = 1.0
    dropouts: float = 0.5
    camera_yaw: float = 5.0
    camera_tilt: float = 3.0


DIFFICULTY = Difficulty()


@dataclass(frozen=True)
class Performance:
    """One performance in the world, before any camera.

    Attributes:
        joints: [F, M, 25, 3] metres, y = 0 is the floor.
        tempo: factor on speed, the subject's own included.
        amplitude: factor on size, the subject's own included.
        facing: start heading, radians from the world's +z axis towards +x.
    """

    joints: Floats
    tempo: float
    amplitude: float
    facing: float


def _is_arm(channel: str) -> bool:
    return channel.rpartition("_")[2] in ARM


def _limb(channel: str) -> int:
    """Which of left arm, right arm, legs and trunk a channel belongs to;
    each moves with its own delay.
    """
    if _is_arm(channel):
        return int(channel.startswith("right"))
    return 2 if channel.startswith(("left", "right")) else 3


# How much idle movement there is in a channel, relative to the trunk; little in the legs: they
# carry the body.
_SWAY_OF = {
    "raise": 2.0, "plane": 3.0, "inward": 3.0, "elbow": 3.0, "wrist": 3.0, "head_turn": 4.0,
    "turn": 0.0, "hip": 0.3, "spread": 0.3, "knee": 0.3, "turnout": 0.0, "foot_pitch": 0.0,
}  # fmt: skip
_SWAY = np.array(
    [_SWAY_OF.get(name, _SWAY_OF.get(name.split("_", 1)[-1], 1.0)) for name in CHANNELS]
)
_IS_ARM = np.array([float(_is_arm(name)) for name in CHANNELS])
_LIMB = tuple(_limb(name) for name in CHANNELS)
_FIDGETS = {
    "raise": (-10.0, 60.0),
    "plane": (-70.0, 10.0),
    "inward": (-30.0, 40.0),
    "elbow": (0.0, 110.0),
}


def channels(deltas: Deltas) -> Floats:
    """What a program tells, as poses [F, D]; 0 in the channels that it does not name."""
    pose = np.zeros((len(next(iter(deltas.values()))), len(CHANNELS)))
    for name, values in deltas.items():
        pose[:, CHANNEL[name]] = values
    return pose


def _wander(rng: np.random.Generator, seconds: Floats, count: int) -> Floats:
    """Smooth random curves [F, count] of unit variance and 0.1 to 0.6 Hz."""
    hertz = rng.uniform(0.1, 0.6, size=(2, count))
    phase = rng.uniform(0.0, 2.0 * np.pi, size=(2, count))
    return np.sin(2.0 * np.pi * hertz * seconds[:, None, None] + phase).sum(axis=1)


def _moment(
    rng: np.random.Generator, action: Action, body: Body, tempo: float, difficulty: Difficulty
) -> Moment:
    """When the action happens in a clip of random length."""
    duration = action.seconds / tempo
    before, after = rng.uniform(0.1, max(difficulty.idle, 0.1), size=2)
    spare = max(FRAMES[1] / FPS - duration, 0.0)
    onset = before * min(1.0, spare / (before + after))
    frames = int(np.clip(round((before + duration + after) * FPS), *FRAMES))
    seconds = np.arange(frames) / FPS
    late = difficulty.hesitation * rng.standard_normal(2)
    progress = np.clip((seconds - onset) / duration, 0.0, 1.0) ** np.exp(
        0.5 * late[0] + 0.25 * body.hesitance
    )
    progress = progress + np.clip(late[1], -0.6, 0.6) * np.sin(2.0 * np.pi * progress) / (
        2.0 * np.pi
    )
    irregular = 0.5 * difficulty.hesitation * _wander(rng, seconds, 1)[:, 0]
    phase = rng.uniform(0.0, 2.0 * np.pi) + 2.0 * np.pi * action.hertz * tempo * seconds + irregular
    ramp = np.clip(np.minimum(seconds - onset, onset + duration - seconds) / 0.3, 0.0, 1.0)
    return Moment(progress=progress, phase=phase, gate=ramp * ramp * (3.0 - 2.0 * ramp))


def _fidget(rng: np.random.Generator, seconds: Floats) -> Floats:
    """Channels [F, D] of one arm going somewhere and back within a second or so, as to scratch."""
    middle, width = rng.uniform(0.0, seconds[-1]), rng.uniform(0.2, 0.5)
    side = ("left", "right")[rng.integers(2)]
    aim = {f"{side}_{name}": rng.uniform(*limits) for name, limits in _FIDGETS.items()}
    weight = np.exp(-0.5 * ((seconds - middle) / width) ** 2)
    return np.outer(weight, [aim.get(name, 0.0) for name in CHANNELS])


def _idle(rng: np.random.Generator, seconds: Floats, body: Body, difficulty: Difficulty) -> Floats:
    """Channels [F, D] of what a body does while it does nothing, beside its stance."""
    posture = difficulty.posture * _IS_ARM * rng.standard_normal(len(CHANNELS))
    sway = body.sway * difficulty.sway * _SWAY * _wander(rng, seconds, len(CHANNELS))
    return posture + sway + float(rng.random() < difficulty.fidget) * _fidget(rng, seconds)


def _lagging(rng: np.random.Generator, deltas: Deltas, difficulty: Difficulty) -> Floats:
    """Channels [F, D] of an action, each limb a little late or early."""
    moved = channels(deltas)
    seconds = np.arange(len(moved)) / FPS
    lags = difficulty.limb_lag * rng.standard_normal(4)
    for column, limb in enumerate(_LIMB):
        moved[:, column] = np.interp(seconds - lags[limb], seconds, moved[:, column])
    return moved


def _pose(rng: np.random.Generator, moved: Floats, body: Body, difficulty: Difficulty) -> Floats:
    """Channels [F, D] of one body: its stance and idle movement, and the action on top."""
    seconds = np.arange(len(moved)) / FPS
    habits = body.neutral - AVERAGE_STANCE + _idle(rng, seconds, body, difficulty)
    free = 1.0 - 0.8 * np.clip(
        np.abs(moved) / 30.0, 0.0, 1.0
    )  # a hand with an aim forgets its habits
    return AVERAGE_STANCE + free * habits + moved


def perform(
    rng: np.random.Generator,
    action: Action,
    body: Body,
    partner: Body,
    difficulty: Difficulty = DIFFICULTY,
) -> Performance:
    """One performance of an action; ``partner`` stands opposite, in two-person actions only."""
    tempo = float(body.tempo * np.exp(difficulty.tempo * np.clip(rng.standard_normal(), -1.5, 1.5)))
    amplitude = float(
        body.amplitude * np.clip(1.0 + difficulty.amplitude * rng.standard_normal(), 0.7, 1.3)
    )
    moment = _moment(rng, action, body, tempo, difficulty)
    facing = float(np.deg2rad(rng.uniform(-difficulty.facing, difficulty.facing)))
    centre = rng.uniform(-difficulty.position, difficulty.position, size=3) * (1.0, 0.0, 1.0)
    ahead = np.array([np.sin(facing), 0.0, np.cos(facing)])

    def performed(program: Program, actor: Body, size: float, turn: float, place: Floats) -> Floats:
        exact = 0.25 if action.aimed else 1.0
        moved = (
            (1.0 + exact * (size - 1.0)) * actor.manner * _lagging(rng, program(moment), difficulty)
        )
        moved = mirror(moved) if action.handed and actor.left_handed else moved
        pose = _pose(rng, moved, actor, difficulty)
        turning = difficulty.turning * _wander(rng, np.arange(len(pose)) / FPS, 1)[:, 0]
        pose[:, CHANNEL["turn"]] += np.rad2deg(facing) + turn + turning - turning[0]
        return forward_kinematics(pose, actor) + place

    if action.partner is None:
        bodies = [performed(action.program, body, amplitude, 0.0, centre)]
    else:
        apart = 0.5 * PARTNER_DISTANCE * ahead
        bodies = [
            performed(action.program, body, amplitude, 0.0, centre - apart),
            performed(action.partner, partner, partner.amplitude, 180.0, centre + apart),
        ]
    return Performance(np.stack(bodies, axis=1), tempo, amplitude, facing)
