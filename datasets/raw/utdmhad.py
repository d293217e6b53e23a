"""UTD-MHAD (Chen et al., ICIP 2015), skeletons: a ``.mat`` file a clip, ``aA_sS_tT_skeleton.mat``.

The variable ``d_skel`` is [20, 3, T] in metres, y up. The joints stand in the order of an older
Kinect tool; here they get the order of the other Kinect v1 sets, so that one model runs on all of
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.formats.kinds import kind_of
from datasets.layouts import KINECT20
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Source, Unit, Value, files_below
from datasets.raw.number_text import LARGEST
from datasets.wording import listed, one_line

_CLASSES = (
    "right arm swipe to the left", "right arm swipe to the right", "right hand wave",
    "two hand front clap", "right arm throw", "cross arms in the chest", "basketball shoot",
    "right hand draw x", "right hand draw circle (clockwise)",
    "right hand draw circle (counter clockwise)", "draw triangle", "bowling (right hand)",
    "front boxing", "baseball swing from right", "tennis right hand forehand swing",
    "arm curl (two arms)", "tennis serve", "two hand push", "right hand knock on door",
    "right hand catch an object", "right hand pick up and throw", "jogging in place",
    "walking in place", "sit to stand", "stand to sit", "forward lunge (left foot forward)",
    "squat (two arms stretch out)",
)  # fmt: skip
_SOURCE_JOINTS = (
    "head", "shoulder_center", "spine", "hip_center",
    "shoulder_left", "elbow_left", "wrist_left", "hand_left",
    "shoulder_right", "elbow_right", "wrist_right", "hand_right",
    "hip_left", "knee_left", "ankle_left", "foot_left",
    "hip_right", "knee_right", "ankle_right", "foot_right",
)  # fmt: skip
"""The joints of ``d_skel`` in its order, by the names of `KINECT20`."""
_ORDER = [_SOURCE_JOINTS.index(joint) for joint in KINECT20.joints]
_MOST_BYTES = 2**20
"""A clip of 125 frames, the longest, has 60 kB."""
_VARIABLE = "d_skel"
_MOST_FRAMES = 100_000
_NAME = re.compile(r"a(\d{1,3})_s(\d{1,3})_t(\d{1,3})_skeleton")


class UtdMhad(Source):
    """Clips of 27 actions by 8 subjects."""

    version = 2
    title = "UTD-MHAD (Chen et al., ICIP 2015)"
    expects = "files such as a1_s1_t1_skeleton.mat (the folder Skeleton)"
    layout = KINECT20
    fps = 30.0
    bodies = 1
    class_names = _CLASSES
    splits: Mapping[str, str] = {"xsub": "subject:1,3,5,7->2,4,6,8"}
    expected: Mapping[str, tuple[int, int]] = {"xsub": (431, 430)}

    def find(self) -> Found:
        """A unit a file, in the order of their names."""
        files = [path for path in files_below(self.raw, ".mat") if _NAME.fullmatch(path.stem)]
        if not files:
            raise DataError(f"{self.raw}: expected {self.expects}, found none; check the path")
        units = [
            Unit(path.stem.removesuffix("_skeleton"), path)
            for path in sorted(files, key=lambda path: path.stem)
        ]
        for one, other in pairwise(units):
            if one.name == other.name:
                raise self.twice(f"file of {one.name}", one.path, other.path)
        return Found(units, {"skeleton files": len(units)})

    def read(self, unit: Unit) -> Reading:
        """The clip of a file."""
        form = _NAME.fullmatch(unit.path.stem)
        assert form is not None  # only such files are units
        action, subject, repetition = map(int, form.groups())
        if not 1 <= action <= len(_CLASSES):
            raise BrokenFile(
                unit.path,
                f"expected an action from 1 to {len(_CLASSES)} in the name, found {action}",
            )
        columns: dict[str, Value] = {
            "label": action - 1,
            "subject": subject,
            "repetition": repetition,
            "names": unit.name,
        }
        return Reading([RawClip(_joints(unit.path), columns)])


def _joints(path: Path) -> NDArray[np.float32]:
    """``[T, 1, 20, 3]`` in the order of `KINECT20`."""
    joints = _variable(path).transpose(2, 0, 1)[:, None, _ORDER]
    fine = np.abs(joints) <= LARGEST
    if not fine.all():
        frame, _, joint, _ = np.argwhere(~fine)[0]
        found = f"others in frame {frame}, joint {KINECT20.joints[joint]}"
        raise BrokenFile(path, f"expected finite coordinates, found {found}")
    return joints.astype(np.float32)


def _variable(path: Path) -> NDArray[np.floating]:
    """``[20, 3, T]`` floating-point; the header is looked at first,
    so nothing of another kind or size is read.
    """
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise BrokenFile(
            path, f"expected at most {_MOST_BYTES:,} bytes for one clip, found {size:,}"
        )
    if (kind := kind_of(path)) and kind.name != "a MATLAB file":
        raise BrokenFile(path, f"expected a MATLAB file, {kind}")
    with (
        path.open("rb"),
        _explained(path),
    ):  # a file that cannot be opened is not explained as damage
        _check_kind(path, {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)})
        values = np.asarray(scipy.io.loadmat(path, variable_names=[_VARIABLE])[_VARIABLE])
    if values.dtype.kind != "f":
        raise BrokenFile(path, f"expected {_VARIABLE} to be real numbers, found {values.dtype}")
    return values


def _check_kind(path: Path, kinds: Mapping[str, tuple[tuple[int, ...], str]]) -> None:
    if _VARIABLE not in kinds:
        raise BrokenFile(path, f"expected a variable {_VARIABLE}, found {listed(kinds)}")
    shape, kind = kinds[_VARIABLE]
    if kind not in ("double", "single"):
        raise BrokenFile(
            path, f"expected {_VARIABLE} to be an array of floating-point numbers, found {kind}"
        )
    if (
        len(shape) != 3
        or tuple(shape[:2]) != (len(_SOURCE_JOINTS), 3)
        or not 1 <= shape[2] <= _MOST_FRAMES
    ):
        expected = f"{_VARIABLE} of shape [{len(_SOURCE_JOINTS)}, 3, frames]"
        raise BrokenFile(path, f"expected {expected}, found {list(map(int, shape))}")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever damaged content sets off into a `BrokenFile`;
    scipy lets out nearly anything.
    """
    try:
        yield
    except BrokenFile:
        raise
    except Exception as error:  # noqa: BLE001
        reason = one_line(error) or type(error).__name__
        raise BrokenFile(path, f"expected a whole MATLAB file, found damage ({reason})") from None
