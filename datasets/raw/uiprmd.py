"""UI-PRMD (Vakanski et al., Data 2018, 3(1), 2), Kinect v2: rehabilitation exercises, done well and
done wrongly.

Two text files a clip, ``m01_s01_e01_positions.txt`` and ``m01_s01_e01_angles.txt`` (exercise,
subject, repetition; with ``_inc`` at the end when done wrongly; packed ones end in .gz), of 66
numbers separated by commas a line: 22 joints. Positions are in the parent joint's frame, the
waist's in the room's, in centimetres; angles are degrees about x, y and z. The rotation is Rz Rx
Ry: of the six orders the one that agrees best with the Vicon recording of the same repetitions.
Every clip is moved so that the waist's mean lies over the origin of the floor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.layouts import UIPRMD22
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Source, Unit, Value, files_below
from datasets.raw.kinematics import euler_matrices, joint_positions, settled
from datasets.raw.number_text import read_numbers, stamp

_CLASSES = (
    "deep squat",
    "hurdle step",
    "inline lunge",
    "side lunge",
    "sit to stand",
    "standing active straight leg raise",
    "standing shoulder abduction",
    "standing shoulder extension",
    "standing shoulder internal-external rotation",
    "standing shoulder scaption",
)
_COLUMNS = 3 * UIPRMD22.joint_count
_METRES = 0.01
_ZXY = [2, 0, 1]
_NAME = re.compile(r"(m(\d\d)_s(\d\d)_e(\d\d))_(positions|angles)(_inc)?\.txt(\.gz)?")


class UiPrmd(Source):
    """Clips of 10 exercises by 10 subjects, 10 times each, correct and incorrect.

    Attributes:
        positions, angles: files by the name of the clip.
    """

    version = 2
    title = "UI-PRMD (Vakanski et al., 2018), Kinect"
    expects = (
        "pairs such as m01_s01_e01_positions.txt and m01_s01_e01_angles.txt (the folders Kinect of"
        " Segmented Movements and Incorrect Segmented Movements), .txt or .txt.gz"
    )
    layout = UIPRMD22
    fps = 30.0
    bodies = 1
    class_names = _CLASSES
    assumed = (
        (
            "angles turn as Rz Rx Ry, of the six orders the one that agrees best with the Vicon"
            " recording"
        ),
    )
    splits: Mapping[str, str] = {"xsub": "subject:1,3,5,7,9->2,4,6,8,10"}
    expected: Mapping[str, tuple[int, int]] = {"xsub": (1000, 1000)}

    def __init__(self, raw: Path) -> None:
        super().__init__(raw)
        self.positions: dict[str, Path] = {}
        self.angles: dict[str, Path] = {}
        self.vicon = 0
        for path in sorted(files_below(raw)):
            if form := _NAME.fullmatch(path.name.lower()):
                self._note(path, form)

    def _note(self, path: Path, form: re.Match[str]) -> None:
        if "vicon" in (folder.lower() for folder in path.relative_to(self.raw).parts[:-1]):
            self.vicon += 1
            return
        files, name = getattr(self, form[5]), f"{form[1]}{form[6] or ''}"
        if name in files:
            raise self.twice(f"{form[5]} file of {name}", files[name], path)
        files[name] = path

    def find(self) -> Found:
        """A unit a pair, by exercise, subject and repetition, those done wrongly last.
        Half a pair is one, too.
        """
        names = sorted(
            self.positions.keys() | self.angles.keys(),
            key=lambda name: (name.endswith("_inc"), name),
        )
        if not self.positions.keys() & self.angles.keys():
            found = (
                f"{len(self.positions)} positions files and {len(self.angles)} angles files, no"
                " pair"
            )
            raise DataError(f"{self.raw}: expected {self.expects}, found {found}; check the path")
        counts = {
            "positions files": len(self.positions),
            "angles files": len(self.angles),
            "Vicon files, not read": self.vicon,
        }
        return Found([self._unit(name) for name in names], counts)

    def _unit(self, name: str) -> Unit:
        if name in self.positions and name in self.angles:
            # The second file stands in the unit, too: a preparation begins anew when it has
            # changed.
            return Unit(name, self.positions[name], part=stamp(self.angles[name]))
        return Unit(name, self.positions.get(name) or self.angles[name], part="alone")

    def read(self, unit: Unit) -> Reading:
        """The clip of a pair; of half a pair, what is missing."""
        if unit.part == "alone":
            return self._half(unit)
        form = _NAME.fullmatch(unit.path.name.lower())
        assert form is not None  # only such files are units
        exercise, subject, repetition = (int(form[group]) for group in (2, 3, 4))
        if not 1 <= exercise <= len(_CLASSES):
            raise BrokenFile(
                unit.path,
                f"expected an exercise from 1 to {len(_CLASSES)} in the name, found {exercise}",
            )
        columns: dict[str, Value] = {
            "label": exercise - 1,
            "subject": subject,
            "correct": int(form[6] is None),
            "repetition": repetition,
            "names": unit.name,
        }
        return Reading([RawClip(_joints(unit.path, self.angles[unit.name]), columns)])

    def _half(self, unit: Unit) -> Reading:
        missing = "an angles file" if unit.name in self.positions else "a positions file"
        reading = Reading(
            problems=[
                f"{unit.path}: expected {missing} of {unit.name} beside it, found none; left out"
            ]
        )
        reading.counts[f"files without {missing}, left out"] += 1
        return reading


def _joints(positions: Path, angles: Path) -> NDArray[np.float32]:
    """``[T, 1, 22, 3]`` metres, the waist's mean over the floor's origin."""
    offsets, degrees = (
        read_numbers(path, _COLUMNS, ",").reshape(-1, UIPRMD22.joint_count, 3)
        for path in (positions, angles)
    )
    if len(offsets) != len(degrees):
        raise BrokenFile(
            angles, f"expected {len(offsets)} lines as in {positions.name}, found {len(degrees)}"
        )
    joints = _METRES * joint_positions(
        offsets, euler_matrices("ZXY", degrees[..., _ZXY]), UIPRMD22.parents
    )
    joints[..., [0, 2]] -= joints[:, 0, [0, 2]].mean(axis=0)
    return settled(joints)[:, None]
