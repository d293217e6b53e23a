"""Synthetic skeleton clips: 24 articulated bodies, 16 actions, 3 cameras; no licence, no download.

Made for runs that must work anywhere, and for probes with known factors (tempo, amplitude, height,
facing). Classes are told apart by dynamics more than by mean pose (`datasets.synthetic.motion`);
what makes that hard is in one place (`datasets.synthetic.performance.Difficulty`). As in NTU RGB+D,
three cameras see every performance at once. It is a test bed, not a substitute for recorded data.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.files import atomic_file, cache_dir
from datasets.layouts import NTU25
from datasets.synthetic.body import Body, make_body
from datasets.synthetic.camera import Camera, tracked
from datasets.synthetic.motion import ACTIONS, EVERY
from datasets.synthetic.performance import DIFFICULTY, FPS, Difficulty, Performance, perform

VERSION = 3  # raise it with every change that moves a number
_HEIGHTS = (1.46, 1.94)  # metres
_VIEW_YAWS = (-45.0, 0.0, 45.0)  # degrees

_Row = dict[str, int | float]

_WHOLE = ("label", "subject", "view", "repetition", "performance", "left_handed")
_REAL = ("tempo", "amplitude", "height", "facing")
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
)


def generate(
    seed: int = 0,
    *,
    subjects: int = 24,
    repetitions: int = 1,
    actions: tuple[str, ...] = tuple(ACTIONS),
    difficulty: Difficulty = DIFFICULTY,
) -> ClipSet:
    """Generate the data set: subjects x repetitions x actions performances, seen from three views
    each.

    Every performance draws from its own stream: another list of actions leaves the others' clips as
    they are.

    Args:
        seed: the same seed and `VERSION` give the same arrays.
        subjects: number of bodies; numbered from 1 in the ``subject`` column.
        repetitions: of every action by every subject.
        actions: class names, from `EVERY`; label = position.
        difficulty: how hard the classes are to tell apart.

    Returns:
        Clips in metres, camera space (`datasets.synthetic.camera`). Body 2 is all zeros in
        single-person actions. Columns beside label and subject, which is body 1 (body 2 is any
        other subject, maybe of the other side of a split): ``view`` (1 to 3), ``repetition``
        (from 1), ``performance`` (shared by its three views), ``left_handed`` (0 or 1), ``tempo``
        and ``amplitude`` (factors), ``height`` (metres), ``facing`` (radians at the start, against
        this clip's camera: 0 faces it, positive is turned to the body's left).

    Raises:
        DataError: a size below 1, or an unknown action.
    """
    if min(subjects, repetitions, len(actions)) < 1:
        raise DataError(
            f"synthetic: expected at least one subject, repetition and action, found {subjects}, "
            f"{repetitions} and {len(actions)}"
        )
    if unknown := sorted(set(actions) - set(EVERY)):
        raise DataError(
            f"synthetic: unknown action {', '.join(unknown)}; there are {', '.join(EVERY)}"
        )
    clips, rows = zip(*_clips(seed, subjects, repetitions, actions, difficulty), strict=True)
    return ClipSet(
        name="synthetic",
        joints=np.concatenate(clips),
        offsets=np.cumsum([0, *(len(clip) for clip in clips)], dtype=np.int64),
        columns={name: np.array([row[name] for row in rows], dtype=np.int64) for name in _WHOLE}
        | {name: np.array([row[name] for row in rows], dtype=np.float32) for name in _REAL},
        class_names=actions,
        layout=NTU25,
        fps=FPS,
    )


def make_bodies(seed: int, count: int) -> list[Body]:
    """The subjects; the first ones are the same for any ``count``.

    Heights are spread evenly (multiples of the root of 2) and a quarter is left-handed; both hold
    among the subjects of odd and of even number too, so that no side of the cross-subject split is
    special.
    """
    rng = _stream(seed, 0)
    start, turn = rng.random(), int(rng.integers(4))
    return [
        make_body(
            _stream(seed, 1, index),
            height=_HEIGHTS[0] + (_HEIGHTS[1] - _HEIGHTS[0]) * ((start + 2**0.5 * index) % 1.0),
            left_handed=(index // 2 + turn) % 4 == 0,
        )
        for index in range(count)
    ]


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _clips(
    seed: int, subjects: int, repetitions: int, actions: tuple[str, ...], difficulty: Difficulty
) -> Iterator[tuple[NDArray[np.float32], _Row]]:
    """Every clip [F, 2, 25, 3] with its row of the index."""
    bodies = make_bodies(seed, max(subjects, 2))
    performance = 0
    for subject in range(subjects):
        for repetition in range(repetitions):
            cameras = _cameras(_stream(seed, 2, subject, repetition), difficulty)
            for label, name in enumerate(actions):
                rng = _stream(seed, 3, crc32(name.encode()), subject, repetition)
                other = bodies[(subject + int(rng.integers(1, len(bodies)))) % len(bodies)]
                done = perform(rng, EVERY[name], bodies[subject], other, difficulty)
                known: _Row = {
                    "label": label,
                    "subject": subject + 1,
                    "repetition": repetition + 1,
                    "performance": performance,
                    "left_handed": bodies[subject].left_handed,
                    "height": bodies[subject].height,
                    "tempo": done.tempo,
                    "amplitude": done.amplitude,
                }
                for view, camera in enumerate(cameras, start=1):
                    facing = (done.facing - camera.yaw + np.pi) % (2.0 * np.pi) - np.pi
                    yield (
                        _recorded(rng, done, camera, difficulty),
                        known | {"view": view, "facing": facing},
                    )
                performance += 1


def _cameras(rng: np.random.Generator, difficulty: Difficulty) -> list[Camera]:
    """The set-up of one subject's repetition, one camera a view."""
    height = rng.uniform(0.9, 1.4)
    return [
        Camera(
            yaw=np.deg2rad(yaw + difficulty.camera_yaw * rng.standard_normal()),
            tilt=np.deg2rad(difficulty.camera_tilt * rng.standard_normal()),
            height=height,
            distance=rng.uniform(2.6, 3.6),
        )
        for yaw in _VIEW_YAWS
    ]


def _recorded(
    rng: np.random.Generator, done: Performance, camera: Camera, difficulty: Difficulty
) -> NDArray[np.float32]:
    """One camera's clip [F, 2, 25, 3] of a performance."""
    seen = camera.seen(done.joints)
    clip = np.zeros((len(seen), 2, *seen.shape[2:]), dtype=np.float32)
    for body in range(seen.shape[1]):
        clip[:, body] = tracked(
            rng, seen[:, body], difficulty.noise, difficulty.occlusion, difficulty.dropouts
        )
    return clip


def load(
    cache: Path | None = None,
    *,
    seed: int = 0,
    subjects: int = 24,
    repetitions: int = 1,
    actions: tuple[str, ...] = tuple(ACTIONS),
) -> ClipSet:
    """The data set from the cache, or generated and then cached.

    A damaged file, or one of another version, is replaced; a cache that cannot be written is done
    without.

    Args:
        cache: folder; default `datasets.files.cache_dir`.
        seed: see `generate`, as for the other sizes.
        subjects: number of bodies.
        repetitions: of every action by every subject.
        actions: class names.
    """
    sizes = {"seed": seed, "subjects": subjects, "repetitions": repetitions}
    made_as = json.dumps(
        {"version": VERSION, **sizes, "actions": actions, "difficulty": asdict(DIFFICULTY)}
    )
    path = _cache_file(
        cache, f"synthetic-v{VERSION}-seed{seed}-{subjects}x{repetitions}x{len(actions)}.npz"
    )
    clips = None if path is None else _read(path, made_as, actions)
    if clips is None:
        clips = generate(seed, subjects=subjects, repetitions=repetitions, actions=actions)
        if path is not None:
            _write(path, made_as, clips)
    return clips


def _cache_file(cache: Path | None, name: str) -> Path | None:
    """Where the clips are cached; None where no such folder can be made."""
    try:
        folder = cache_dir() if cache is None else cache
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / name


def _read(path: Path, made_as: str, actions: tuple[str, ...]) -> ClipSet | None:
    """The cached clips; None where there is no whole file that was made in this way."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if stored["made_as"].item() != made_as:
                return None
            return ClipSet(
                name="synthetic",
                joints=stored["joints"],
                offsets=stored["offsets"],
                columns={name: stored[name] for name in _WHOLE + _REAL},
                class_names=actions,
                layout=NTU25,
                fps=FPS,
            )
    except _DAMAGE:
        return None


def _write(path: Path, made_as: str, clips: ClipSet) -> None:
    """Cache the clips whole or not at all; without a word where the folder is read-only
    or the disk full.
    """
    with suppress(OSError), atomic_file(path) as file:
        np.savez(
            file,
            allow_pickle=False,
            made_as=np.array(made_as),
            joints=clips.joints,
            offsets=clips.offsets,
            **clips.columns,
        )
