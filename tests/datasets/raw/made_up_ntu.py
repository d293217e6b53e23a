"""Made-up NTU RGB+D ``.skeleton`` files: people who move,
and what else a depth camera takes for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BODY_ID = 72_057_594_037_931_101
"""Over 2**53, as Kinect's are; `BODY_ID + 1` is lost in a double."""

_RIGHT_ARM = [(0.18, 0.52, 0), (0.24, 0.27, 0), (0.26, 0.03, -0.03), (0.27, -0.05, -0.04)]
_RIGHT_LEG = [(0.08, -0.02, 0), (0.1, -0.42, -0.02), (0.11, -0.8, 0), (0.12, -0.85, -0.1)]
_RIGHT_FINGERS = [(0.275, -0.12, -0.05), (0.24, -0.07, -0.07)]
_MIDDLE = [(0, 0, 0), (0, 0.3, 0), (0, 0.6, 0), (0, 0.75, 0)]


def _left(points: list[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    return [(-x, y, z) for x, y, z in points]


STANDING = np.array(
    [
        *_MIDDLE,
        *_left(_RIGHT_ARM),
        *_RIGHT_ARM,
        *_left(_RIGHT_LEG),
        *_RIGHT_LEG,
        (0, 0.52, 0),
        *_left(_RIGHT_FINGERS),
        *_RIGHT_FINGERS,
    ]
)
"""[25, 3] metres about the base of the spine; faces the camera,
so the right side is at +x and the toes point to -z.
"""
_LIMBS = ((4, (5, 6, 7, 21, 22)), (8, (9, 10, 11, 23, 24)), (12, (13, 14, 15)), (16, (17, 18, 19)))


@dataclass(frozen=True)
class Recorded:
    """A body as the camera tracks it: under one ID, from frame ``first`` of the file on;
    joints [n, 25, 3].
    """

    id: int
    first: int
    joints: NDArray[np.float64]

    @property
    def last(self) -> int:
        return self.first + len(self.joints) - 1


def person(
    frames: int,
    seed: int = 0,
    *,
    action: int = 0,
    place: tuple[float, float, float] = (0.0, 0.0, 3.0),
) -> NDArray[np.float64]:
    """[frames, 25, 3] metres in the camera's frame:
    someone who sways and swings the limbs that the action has.
    """
    random = np.random.default_rng(seed)
    time = np.arange(frames) / 30
    size = random.uniform(0.9, 1.1)
    joints = np.repeat(STANDING[None], frames, axis=0)
    for limb, (root, moved) in enumerate(_LIMBS):
        reach = 0.15 + 0.3 * ((action + limb) % 4) if limb < 2 else 0.1
        angle = reach * np.sin(2 * np.pi * (0.5 + 0.1 * (action % 7)) * time + random.uniform(0, 6))
        joints[:, moved] = STANDING[root] + _turned(STANDING[list(moved)] - STANDING[root], angle)
    sway = 0.05 * np.sin(2 * np.pi * 0.4 * time + random.uniform(0, 6))[:, None]
    where = np.array(place) + random.uniform(-0.2, 0.2, 3) + sway * random.normal(size=3)
    return size * joints + where[:, None] + random.normal(scale=0.002, size=joints.shape)


def furniture(frames: int, seed: int = 0) -> NDArray[np.float64]:
    """[frames, 25, 3]: something that is wider than high in every frame and hardly moves."""
    random = np.random.default_rng(seed)
    return (
        STANDING * (4, 0.3, 1) + (-1, -0.5, 3.5) + random.normal(scale=0.002, size=(frames, 25, 3))
    )


def _turned(points: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """[frames, n, 3]: points [n, 3] turned about the x axis."""
    (x, y, z), (cos, sin) = points.T, (np.cos(angle)[:, None], np.sin(angle)[:, None])
    return np.stack(
        [np.broadcast_to(x, (len(angle), len(x))), cos * y - sin * z, sin * y + cos * z], axis=-1
    )


# --- writing ---


def skeleton_lines(*bodies: Recorded, frames: int | None = None, seed: int = 0) -> list[str]:
    """The lines of a file of ``frames`` frames (by default as many as the bodies need), without
    line ends.

    Bodies of a frame stand in the order given. Pixel and orientation fields are made up, some of
    them nan, inf or with exponents. Line 0 is the number of frames; the first body of a file begins
    at line 2, its first joint at 4.
    """
    count = max((body.last + 1 for body in bodies), default=0) if frames is None else frames
    random = np.random.default_rng(seed)
    lines = [str(count)]
    for frame in range(count):
        present = [body for body in bodies if body.first <= frame <= body.last]
        lines.append(str(len(present)))
        for body in present:
            lines.append(f"{body.id} 0 1 0 1 1 0 {random.uniform(-1, 1):.7g} -9.313226E-05 2")
            lines.append("25")
            lines += _joint_lines(body.joints[frame - body.first], random)
    return lines


def write_skeleton(
    path: Path, *bodies: Recorded, frames: int | None = None, newline: str = "\n", seed: int = 0
) -> Path:
    """Write `skeleton_lines`, folders included; the file's path."""
    return write_lines(path, skeleton_lines(*bodies, frames=frames, seed=seed), newline)


def write_lines(path: Path, lines: Sequence[str], newline: str = "\n") -> Path:
    """Write lines with an end each; the file's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + newline for line in lines).encode())
    return path


_LINES = "\n".join(["%.7g " * 11 + "%d"] * 25)
_ODD = (np.nan, np.inf, -np.inf, 1.2e-12, -3.4e20)


def _joint_lines(joints: NDArray[np.float64], random: np.random.Generator) -> list[str]:
    fields = np.empty((25, 12))
    fields[:, :3] = joints
    fields[:, 3:7] = random.uniform(0, 1900, (25, 4))
    fields[:, 7:11] = random.uniform(-1, 1, (25, 4))
    fields[:, 11] = 2
    fields[random.integers(25), random.integers(3, 11)] = random.choice(_ODD)
    return (_LINES % tuple(fields.ravel())).split("\n")


def write_tree(
    folder: Path,
    clips: int,
    seed: int = 0,
    *,
    subjects: int = 40,
    setups: int = 17,
    actions: int = 60,
    shortest: int = 40,
    longest: int = 120,
) -> list[Path]:
    """Write ``clips`` files under names of their own, in a folder per setup; the paths.

    Subjects and cameras change from file to file, so that few clips are enough for every split. Of
    eight clips three have one person, the others a second person, a change of ID behind a frame
    without anybody, a short ghost beside the person, furniture, or three bodies.
    """
    paths = []
    for number in range(clips):
        random = np.random.default_rng([seed, number])
        name = clip_name(number, subjects, setups, actions)
        bodies = _scene(
            number % 8, int(random.integers(shortest, longest + 1)), number, int(name[-3:])
        )
        path = folder / "skeletons" / name[:4].lower() / f"{name}.skeleton"
        paths.append(
            write_skeleton(path, *bodies, seed=number, newline="\r\n" if number % 5 == 4 else "\n")
        )
    return paths


def clip_name(number: int, subjects: int = 40, setups: int = 17, actions: int = 60) -> str:
    """The name of the clip of that number, different
    for each below subjects x setups x actions x 6.
    """
    rest, subject = divmod(number, subjects)
    rest, camera = divmod(rest, 3)
    rest, action = divmod(rest, actions)
    setup, replication = divmod(rest, 2)
    camera, action, setup = (
        (camera + subject) % 3,
        (action + subject) % actions,
        (setup + subject) % setups,
    )
    return f"S{setup + 1:03}C{camera + 1:03}P{subject + 1:03}R{replication + 1:03}A{action + 1:03}"


def _scene(kind: int, frames: int, seed: int, action: int) -> list[Recorded]:
    """The bodies of one of the eight kinds of clip."""
    first, second = BODY_ID + 3 * seed, BODY_ID + 3 * seed + 1
    joints = person(frames, seed, action=action)
    alone = Recorded(first, 0, joints)
    other = Recorded(second, 0, person(frames, seed + 1, action=action + 1, place=(0.9, 0.0, 3.2)))
    ghost = Recorded(second + 1, frames // 3, furniture(min(11, frames // 3), seed))
    half = frames // 2
    return {
        3: [alone, other],
        4: [Recorded(first, 0, joints[:half]), Recorded(second, half + 1, joints[half:])],
        5: [alone, ghost],
        6: [Recorded(second, 0, furniture(frames, seed)), alone],
        7: [alone, other, ghost],
    }.get(kind, [alone])


# --- reading, the plain way ---


def read_line_by_line(path: Path) -> list[list[dict[str, Any]]]:
    """What a file says, read the way it is described: the bodies of every frame, every field of
    them as a number.

    A body has ``id`` and ``joints`` [25, 3] float32. The yardstick for
    `datasets.raw.ntu.skeleton_text`.
    """
    frames = []
    with path.open() as file:
        for _ in range(int(file.readline())):
            bodies = []
            for _ in range(int(file.readline())):
                body_id, *_state = file.readline().split()
                joints = []
                for _ in range(int(file.readline())):
                    joints.append([float(field) for field in file.readline().split()])
                bodies.append({"id": int(body_id), "joints": np.array(joints, np.float32)[:, :3]})
            frames.append(bodies)
    return frames
