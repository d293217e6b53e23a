"""The depth camera of the synthetic data set: viewpoint, tracking noise and drop-outs.

Camera space is the Kinect's: metres, right-handed, y up, z away from the sensor, x to the sensor's
left. Someone who faces the sensor therefore faces along -z and has the right hand at positive x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from datasets.layouts import NTU25

Floats = NDArray[np.float64]

_LIMBS = tuple(NTU25.parts[name] for name in ("left_arm", "right_arm", "left_leg", "right_leg"))

# Relative tracking error of joints, by the last part of their name; a Kinect loses extremities
# first.
_UNSTEADY = {
    "base": 0.6, "mid": 0.6, "spine_shoulder": 0.6, "neck": 0.7, "head": 0.8, "shoulder": 0.8,
    "elbow": 1.0, "wrist": 1.3, "hand": 1.6, "tip": 2.1, "thumb": 2.2, "hip": 0.7, "knee": 1.0,
    "ankle": 1.3, "foot": 1.8,
}  # fmt: skip
_WEIGHT = np.array(
    [_UNSTEADY.get(name, _UNSTEADY.get(name.split("_")[-1], 1.0)) for name in NTU25.joints]
)
_IN_LIMB = np.array(
    [[float(joint in limb) for joint in range(NTU25.joint_count)] for limb in _LIMBS]
)
_LIMB_MEAN = _IN_LIMB / _IN_LIMB.sum(axis=1, keepdims=True)

_MEMORY = 0.88  # per frame, of the error's slow part
_JITTER = -0.5  # towards -_MEMORY, the error becomes white
_ERROR_POLE = np.array([1.0, -_MEMORY], np.float32)
_ERROR_GAIN = np.float32(np.sqrt((1.0 - _MEMORY**2) / (1.0 + 2.0 * _MEMORY * _JITTER + _JITTER**2)))


@dataclass(frozen=True)
class Camera:
    """Where one sensor stands.

    Attributes:
        yaw: radians about the vertical, from the world's +z axis towards +x.
        tilt: radians, upwards.
        height: metres over the floor.
        distance: metres from the world's origin, level.
    """

    yaw: float
    tilt: float
    height: float
    distance: float

    def seen(self, world: Floats) -> Floats:
        """World points [..., 3] (y = 0 is the floor) in this camera's space."""
        sine, cosine = np.sin(self.yaw), np.cos(self.yaw)
        axes = np.array(
            [[-cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, -cosine]]
        )  # left, up, away
        sine, cosine = np.sin(self.tilt), np.cos(self.tilt)
        tilt = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
        stand = np.array([0.0, -self.height, self.distance])
        return (world.reshape(-1, 3) @ (tilt @ axes).T + tilt @ stand).reshape(world.shape)


def tracked(
    rng: np.random.Generator, joints: Floats, noise: float, occlusion: float, dropouts: float
) -> Floats:
    """What a sensor reports of one body's joints [F, 25, 3] in camera space.

    Args:
        rng: draws the errors.
        joints: true positions, metres.
        noise: standard deviation of the error of an average joint, metres.
        occlusion: by how much a limb hidden behind the trunk is worse.
        dropouts: expected number of lost limbs per clip; hidden limbs are lost more often.
    """
    hidden = _hidden(joints)
    reported = joints + noise * (_WEIGHT * (1.0 + occlusion * hidden))[:, None] * _errors(
        rng, joints.shape
    )
    weight = np.array([0.3 + hidden[limb[0]] for limb in _LIMBS])
    for _ in range(rng.poisson(dropouts)):
        limb = _LIMBS[rng.choice(len(_LIMBS), p=weight / weight.sum())]
        _lose(rng, reported, limb)
    return reported


def _hidden(joints: Floats) -> Floats:
    """[25] 0 for joints of limbs in front of the trunk, up to 1 for those well behind it."""
    depth = joints[..., 2].mean(axis=0)
    behind = np.clip((_LIMB_MEAN @ depth - depth[NTU25.center]) / 0.2, 0.0, 1.0)
    return behind @ _IN_LIMB


def _errors(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Errors of unit variance [F, V, 3], ARMA(1, 1) in time: a slow drift plus white jitter."""
    start = 30  # frames until it is stationary
    driven = rng.standard_normal((shape[0] + start, *shape[1:]), dtype=np.float32)
    return lfilter(_ERROR_GAIN * np.array([1.0, _JITTER], np.float32), _ERROR_POLE, driven, axis=0)[
        start:
    ]


def _lose(rng: np.random.Generator, reported: Floats, limb: tuple[int, ...]) -> None:
    """Let one limb freeze or jump away for some frames, in place."""
    frames = len(reported)
    first = int(rng.integers(0, frames - 4))
    lost = slice(first, min(first + int(rng.integers(4, 16)), frames))
    joints = list(limb)
    if rng.random() < 0.5:
        reported[lost, joints] = reported[first, joints]
        return
    reach = np.linspace(0.3, 1.0, len(joints))[:, None]  # from the joint at the trunk to the tip
    reported[lost, joints] += reach * rng.normal(0.0, 0.12, size=3)
