"""Synthetic skeleton clips: 24 articulated bodies, 16 actions, 3 cameras; no licence, no download.

Made for runs that must work anywhere, and for probes with known factors (tempo, amplitude, height, facing). Classes
are told apart by dynamics more than by mean pose (see `datasets.synthetic_motion`). Every performance is seen by
three cameras at once, as in NTU RGB+D. It is a test bed, not a substitute for recorded data.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from datasets.clips import ClipSet
from datasets.layouts import NTU25
from datasets.synthetic_body import AVERAGE_STANCE, CHANNEL, CHANNELS, Body, Floats, forward_kinematics, make_body, mirror
from datasets.synthetic_camera import Camera, tracked
from datasets.synthetic_motion import ACTIONS, Action, Deltas, Moment, Program

VERSION = 1  # raise it with every change that moves a number
FPS = 30.0
FRAMES = (40, 120)
HEIGHTS = (1.46, 1.94)
VIEW_YAWS = (-45.0, 0.0, 45.0)
PARTNER_DISTANCE = 0.9


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

    facing: float = 45.0
    turning: float = 8.0
    position: float = 0.3
    idle: float = 0.9
    tempo: float = 0.15
    amplitude: float = 0.10
    hesitation: float = 0.25
    limb_lag: float = 0.04
    fidget: float = 0.5
    posture: float = 10.0
    sway: float = 1.2
    noise: float = 0.010
    occlusion: float = 1.0
    dropouts: float = 0.8
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


def _rng(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def make_bodies(seed: int, count: int) -> list[Body]:
    """The subjects; the first ones are the same for any ``count``.

    Heights are spread evenly over `HEIGHTS` (multiples of the root of 2), a quarter is left-handed; both hold among subjects of
    odd and of even number too.
    """
    start, turn = _rng(seed, 0).random(), int(_rng(seed, 0, 0).integers(4))
    low, high = HEIGHTS
    return [
        make_body(
            _rng(seed, 1, index),
            height=low + (high - low) * ((start + 0.414214 * index) % 1.0),
            left_handed=(index // 2 + turn) % 4 == 0,
        )
        for index in range(count)
    ]


def _wander(rng: np.random.Generator, seconds: Floats, count: int) -> Floats:
    """Smooth random curves [F, count] of about unit variance and 0.1 to 0.6 Hz."""
    hertz = rng.uniform(0.1, 0.6, size=(2, count))
    phase = rng.uniform(0.0, 2.0 * np.pi, size=(2, count))
    return np.sin(2.0 * np.pi * hertz * seconds[:, None, None] + phase).sum(axis=1)


def _sway_scale() -> Floats:
    scale = {"raise": 2.0, "plane": 3.0, "inward": 3.0, "elbow": 3.0, "wrist": 3.0, "turnout": 0.0, "foot_pitch": 0.0,
             "hip": 0.3, "knee": 0.3, "spread": 0.3, "head_turn": 4.0, "turn": 0.0}  # fmt: skip
    return np.array([scale.get(name, scale.get(name.split("_", 1)[-1], 1.0)) for name in CHANNELS])


_SWAY = _sway_scale()
_POSTURE = np.array([float(name.endswith(("raise", "plane", "inward", "elbow", "wrist"))) for name in CHANNELS])
_GROUPS = ("left_arm", "right_arm", "legs", "trunk")


def _group(channel: str) -> int:
    if channel.endswith(("raise", "plane", "inward", "elbow", "wrist")):
        return 0 if channel.startswith("left") else 1
    return 2 if channel.startswith(("left", "right")) else 3


def _moment(rng: np.random.Generator, action: Action, body: Body, tempo: float, knobs: Difficulty) -> Moment:
    """When in a clip of random length the action happens."""
    duration = action.seconds / tempo
    before, after = rng.uniform(0.1, max(knobs.idle, 0.1), size=2)
    onset = before * min(1.0, max(FRAMES[1] / FPS - duration, 0.0) / (before + after))
    frames = int(np.clip(round((before + duration + after) * FPS), *FRAMES))
    seconds = np.arange(frames) / FPS
    progress = np.clip((seconds - onset) / duration, 0.0, 1.0)
    progress = progress ** np.exp(0.5 * knobs.hesitation * rng.standard_normal() + 0.25 * body.hesitance)
    progress = progress + np.clip(knobs.hesitation * rng.standard_normal(), -0.6, 0.6) * np.sin(
        2.0 * np.pi * progress
    ) / (2.0 * np.pi)
    drift = 0.5 * knobs.hesitation * _wander(rng, seconds, 1)[:, 0]
    phase = rng.uniform(0.0, 2.0 * np.pi) + 2.0 * np.pi * action.hertz * tempo * seconds + drift
    ramp = np.clip(np.minimum(seconds - onset, onset + duration - seconds) / 0.3, 0.0, 1.0)
    return Moment(progress=progress, phase=phase, gate=ramp * ramp * (3.0 - 2.0 * ramp))


def _pose(
    rng: np.random.Generator, program: Program, moment: Moment, body: Body, size: float, knobs: Difficulty,
    mirrored: bool,
) -> Floats:  # fmt: skip
    """Channels [F, D] of one body: its stance, idle movement, and the action on top."""
    frames = len(moment.progress)
    seconds = np.arange(frames) / FPS
    action = _columns(program(moment), frames)
    lags = rng.normal(0.0, knobs.limb_lag, size=len(_GROUPS))
    for column, name in enumerate(CHANNELS):
        action[:, column] = np.interp(seconds - lags[_group(name)], seconds, action[:, column])
    if mirrored:
        action = mirror(action)
    idle = knobs.posture * _POSTURE * rng.standard_normal(len(CHANNELS))
    idle = idle + body.sway * knobs.sway * _SWAY * _wander(rng, seconds, len(CHANNELS))
    idle += (rng.random() < knobs.fidget) * _fidget(rng, seconds)
    free = 1.0 - 0.8 * np.clip(np.abs(action) / 30.0, 0.0, 1.0)  # a hand with an aim forgets its habits
    return AVERAGE_STANCE + free * (body.neutral - AVERAGE_STANCE + idle) + size * action


def _fidget(rng: np.random.Generator, seconds: Floats) -> Floats:
    """Channels [F, D] of one arm going somewhere and back, for a second or so: a scratch, a sleeve, a pocket."""
    middle = rng.uniform(0.0, seconds[-1])
    weight = np.exp(-0.5 * ((seconds - middle) / rng.uniform(0.2, 0.5)) ** 2)
    side = ("left", "right")[rng.integers(2)]
    ranges = {"raise": (-10, 60), "plane": (-70, 10), "inward": (-30, 40), "elbow": (0, 110)}
    aim = {f"{side}_{name}": rng.uniform(*limits) for name, limits in ranges.items()}
    return np.outer(weight, [aim.get(name, 0.0) for name in CHANNELS])


def _columns(deltas: Deltas, frames: int) -> Floats:
    pose = np.zeros((frames, len(CHANNELS)))
    for name, values in deltas.items():
        pose[:, CHANNEL[name]] = values
    return pose


def perform(
    rng: np.random.Generator, action: Action, body: Body, partner: Body, knobs: Difficulty = DIFFICULTY
) -> Performance:
    """One performance of an action; ``partner`` stands opposite in two-person actions only."""
    tempo = float(body.tempo * np.exp(knobs.tempo * np.clip(rng.standard_normal(), -1.5, 1.5)))
    amplitude = float(body.amplitude * np.clip(1.0 + rng.normal(0.0, knobs.amplitude), 0.7, 1.3))
    moment = _moment(rng, action, body, tempo, knobs)
    facing = np.deg2rad(rng.uniform(-knobs.facing, knobs.facing))
    centre = rng.uniform(-knobs.position, knobs.position, size=3) * (1.0, 0.0, 1.0)
    exact = 0.25 if action.aimed else 1.0
    roles = [(action.program, body, amplitude)]
    if action.partner is not None:
        roles.append((action.partner, partner, partner.amplitude))
    apart = 0.0 if action.partner is None else 0.5 * PARTNER_DISTANCE
    ahead = np.array([np.sin(facing), 0.0, np.cos(facing)])
    bodies = []
    for role, (program, actor, size) in enumerate(roles):
        pose = _pose(rng, program, moment, actor, 1.0 + exact * (size - 1.0), knobs, action.handed and actor.left_handed)
        wander = knobs.turning * _wander(rng, np.arange(len(pose)) / FPS, 1)[:, 0]
        pose[:, CHANNEL["turn"]] += np.rad2deg(facing) + 180.0 * role + wander - wander[0]
        bodies.append(forward_kinematics(pose, actor) + centre + ahead * apart * (2 * role - 1))
    return Performance(np.stack(bodies, axis=1), tempo, amplitude, float(facing))


def _cameras(rng: np.random.Generator, knobs: Difficulty) -> list[Camera]:
    height = rng.uniform(0.9, 1.4)
    return [
        Camera(
            yaw=np.deg2rad(yaw + rng.normal(0.0, knobs.camera_yaw)),
            tilt=np.deg2rad(rng.normal(0.0, knobs.camera_tilt)),
            height=height,
            distance=rng.uniform(2.6, 3.6),
        )
        for yaw in VIEW_YAWS
    ]


def _clips(
    seed: int, subjects: int, repetitions: int, names: tuple[str, ...], knobs: Difficulty
) -> Iterator[tuple[NDArray[np.float32], dict[str, float]]]:
    """Every clip, [F, 2, 25, 3], with its row of the index."""
    bodies = make_bodies(seed, max(subjects, 2))
    index = 0
    for subject in range(subjects):
        for repetition in range(repetitions):
            cameras = _cameras(_rng(seed, 2, subject, repetition), knobs)
            for label, name in enumerate(names):
                rng = _rng(seed, 3, crc32(name.encode()), subject, repetition)
                other = (subject + int(rng.integers(1, len(bodies)))) % len(bodies)
                done = perform(rng, ACTIONS[name], bodies[subject], bodies[other], knobs)
                for view, camera in enumerate(cameras):
                    seen = camera.seen(done.joints)
                    clip = np.zeros((len(seen), 2, NTU25.joint_count, 3), dtype=np.float32)
                    for body in range(seen.shape[1]):
                        clip[:, body] = tracked(rng, seen[:, body], knobs.noise, knobs.occlusion, knobs.dropouts)
                    yield clip, {
                        "label": label,
                        "subject": subject + 1,
                        "view": view + 1,
                        "repetition": repetition + 1,
                        "performance": index,
                        "tempo": done.tempo,
                        "amplitude": done.amplitude,
                        "height": bodies[subject].height,
                        "left_handed": bodies[subject].left_handed,
                        "facing": (done.facing - camera.yaw + np.pi) % (2.0 * np.pi) - np.pi,
                    }
                index += 1


def generate(
    seed: int = 0, *, subjects: int = 24, repetitions: int = 2, actions: tuple[str, ...] = tuple(ACTIONS),
    knobs: Difficulty = DIFFICULTY,
) -> ClipSet:  # fmt: skip
    """x"""
    rows, clips = [], []
    for clip, row in _clips(seed, subjects, repetitions, actions, knobs):
        clips.append(clip)
        rows.append(row)
    columns = {k: np.array([r[k] for r in rows]) for k in rows[0]}
    return ClipSet("synthetic", np.concatenate(clips), np.concatenate([[0], np.cumsum([len(c) for c in clips])]),
        columns, tuple(actions), NTU25, FPS)
