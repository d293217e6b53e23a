"""NW-UCLA (Wang et al., CVPR 2014) in the preparation ``all_sqe`` that CTR-GCN and later papers
read.

A JSON file a clip, ``aAA_sSS_eEE_vVV.json`` (action, subject, repetition, view), with ``skeletons``
[T][20][3] in metres and ``label`` from 1. The published split has 95 clips of view 2 on its
training side whose joints stand in view 3, on its test side, too: ``twin-free`` leaves them out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.layouts import KINECT20
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Source, Unit, Value, files_below
from datasets.raw.number_text import LARGEST
from datasets.wording import one_line

_ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
"""Action numbers of the file names in the order of the labels."""
_CLASSES = (
    "pick up with one hand",
    "pick up with two hands",
    "drop trash",
    "walk around",
    "sit down",
    "stand up",
    "donning",
    "doffing",
    "throw",
    "carry",
)
_MOST_BYTES = 16 * 2**20
_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")


class NwUcla(Source):
    """Clips of 10 actions by 10 subjects in 3 views."""

    version = 2
    title = "Northwestern-UCLA Multiview Action 3D (Wang et al., CVPR 2014)"
    expects = "JSON files such as a01_s01_e00_v01.json (the folder all_sqe)"
    layout = KINECT20
    fps = 13.0  # an estimate from the gait cycle in "walk around"; the rate is not documented
    bodies = 1
    class_names = _CLASSES
    assumed = ("13 frames a second, estimated from the gait: the rate is not documented",)
    default_split = "standard"
    splits: Mapping[str, str] = {
        "standard": "view:1,2->3",
        "twin-free": "view:1,2->3 without repeats",
    }
    expected: Mapping[str, tuple[int, int]] = {"standard": (1020, 464), "twin-free": (925, 464)}

    def find(self) -> Found:
        """A unit a file, by action, subject, repetition and view."""
        files = sorted(files_below(self.raw, ".json"), key=lambda path: path.stem)
        named = [path for path in files if _NAME.fullmatch(path.stem)]
        if not named:
            raise DataError(
                f"{self.raw}: expected {self.expects}, found {len(files)} others; check the path"
            )
        for one, other in pairwise(named):
            if one.stem == other.stem:
                raise self.twice(one.name, one, other)
        counts = {
            "JSON files": len(named),
            "JSON files of other names, not read": len(files) - len(named),
        }
        return Found([Unit(path.stem, path) for path in named], counts)

    def read(self, unit: Unit) -> Reading:
        """The clip of a file."""
        form = _NAME.fullmatch(unit.name)
        assert form is not None  # only such files are units
        action, subject, repetition, view = (int(number) for number in form.groups())
        content = _content(unit.path)
        label = _label(unit.path, action, content.get("label"))
        joints = _joints(unit.path, content.get("skeletons"))
        columns: dict[str, Value] = {
            "label": label,
            "subject": subject,
            "view": view,
            "repetition": repetition,
            "names": unit.name,
        }
        reading = Reading([RawClip(joints, columns)])
        if content.get("file_name", unit.name) != unit.name:
            reading.counts["files that call themselves otherwise (file_name), kept"] += 1
        return reading


def _content(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MOST_BYTES:
        raise BrokenFile(
            path, f"expected at most {_MOST_BYTES:,} bytes, found {path.stat().st_size:,}"
        )
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise BrokenFile(
            path, f"expected JSON, found damage ({one_line(error.msg)})", error.lineno
        ) from None
    except (ValueError, RecursionError) as error:
        raise BrokenFile(path, f"expected JSON, found damage ({one_line(error)})") from None
    if not isinstance(content, dict):
        raise BrokenFile(
            path, f"expected an object with skeletons and label, found {type(content).__name__}"
        )
    return content


def _label(path: Path, action: int, label: object) -> int:
    """The class from 0, the same by the file's name and by its content."""
    if action not in _ACTIONS:
        raise BrokenFile(
            path,
            f"expected an action of {', '.join(map(str, _ACTIONS))} in the name, found {action}",
        )
    expected = _ACTIONS.index(action) + 1
    if type(label) is not int or label != expected:
        raise BrokenFile(
            path,
            f"expected label {expected} for action {action} of the name, found {_shown(label)}",
        )
    return expected - 1


def _joints(path: Path, skeletons: object) -> NDArray[np.float32]:
    """``[T, 1, 20, 3]`` of a nested list."""
    if not isinstance(skeletons, list) or not skeletons:
        raise BrokenFile(path, f"expected skeletons, a list of frames, found {_shown(skeletons)}")
    try:
        joints = np.array(skeletons, np.float64)
    except (ValueError, TypeError, OverflowError):
        joints = np.empty(0)
    if joints.shape[1:] != (KINECT20.joint_count, 3) or not (np.abs(joints) <= LARGEST).all():
        raise BrokenFile(path, _broken_frame(skeletons))
    return joints[:, None].astype(np.float32)


def _broken_frame(skeletons: list[object]) -> str:
    expected = f"expected {KINECT20.joint_count} joints of 3 finite numbers in every frame"
    for number, frame in enumerate(skeletons):
        try:
            joints = np.array(frame, np.float64)
        except (ValueError, TypeError, OverflowError):
            return f"{expected}, found something else in frame {number}"
        if joints.shape != (KINECT20.joint_count, 3):
            return f"{expected}, found shape {list(joints.shape)} in frame {number}"
        if wrong := [value for value in joints.ravel() if not abs(value) <= LARGEST]:
            return f"{expected}, found {wrong[0]:g} in frame {number}"
    return expected


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, int | float | None) else type(value).__name__
