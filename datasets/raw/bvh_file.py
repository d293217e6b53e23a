"""One BVH file: a tree of joints, each with an offset from its parent and channels of motion, then
a line a frame.

Rotations are in degrees and are multiplied in the order of the channels. A position channel stands
in place of the offset's coordinate, as animation programs take it. End Sites are no joints and are
left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.formats.kinds import kind_of
from datasets.raw.base import BrokenFile
from datasets.raw.kinematics import euler_matrices, joint_positions
from datasets.raw.number_text import number_of, numbers_of, read_lines

_MOST_JOINTS = 500
_MOST_POSITIONS = 2_000_000
"""Of one file; they take some 300 bytes each on the way.
Ten minutes of 60 joints at 50 frames a second.
"""
_POSITIONS = ("xposition", "yposition", "zposition")
_ROTATIONS = ("xrotation", "yrotation", "zrotation")
_END_SITE = -1


@dataclass
class Joint:
    """A joint: index of its parent (-1 at the root), offset x y z in the file's unit,
    channels in lower case.
    """

    name: str
    parent: int
    offset: Sequence[float] = ()
    channels: Sequence[str] = ()


@dataclass(frozen=True)
class Motion:
    """A BVH file, its numbers not yet read.

    Attributes:
        path: the file.
        joints: parents before their children.
        frame_time: seconds.
        frames: lines of numbers.
        first: number of the first of these lines in the file.
    """

    path: Path
    joints: Sequence[Joint]
    frame_time: float
    frames: Sequence[str]
    first: int

    @property
    def names(self) -> tuple[str, ...]:
        """V joint names."""
        return tuple(joint.name for joint in self.joints)

    @property
    def parents(self) -> tuple[int, ...]:
        """V parent indices, -1 at the root."""
        return tuple(joint.parent for joint in self.joints)

    def positions(self) -> NDArray[np.float64]:
        """``[T, V, 3]`` in the file's unit.
        Raises `BrokenFile` naming the line where the numbers are broken.
        """
        columns = sum(len(joint.channels) for joint in self.joints)
        if len(self.frames) * len(self.joints) > _MOST_POSITIONS:
            found = f"{len(self.frames):,} frames of {len(self.joints):,} joints"
            raise BrokenFile(
                self.path,
                f"expected at most {_MOST_POSITIONS:,} joint positions, found {found}; cut it up",
            )
        numbers = numbers_of(self.path, self.frames, columns, first=self.first)
        offsets = np.tile(np.array([joint.offset for joint in self.joints]), (len(numbers), 1, 1))
        rotations = np.tile(np.eye(3), (*offsets.shape[:2], 1, 1))
        start = 0
        for index, joint in enumerate(self.joints):
            columns_of = {
                channel: numbers[:, start + place] for place, channel in enumerate(joint.channels)
            }
            start += len(joint.channels)
            for axis, channel in enumerate(_POSITIONS):
                if channel in columns_of:
                    offsets[:, index, axis] = columns_of[channel]
            turns = [channel for channel in joint.channels if channel in _ROTATIONS]
            if turns:
                axes = "".join(channel[0].upper() for channel in turns)
                rotations[:, index] = euler_matrices(
                    axes, np.stack([columns_of[turn] for turn in turns], axis=-1)
                )
        return joint_positions(offsets, rotations, self.parents)


def read_motion(path: Path) -> Motion:
    """Read the tree, the frame time and the lines of a file.

    Raises:
        BrokenFile: naming the line and what was expected there.
        OSError: as `open` does.
    """
    lines = read_lines(path)
    start = next(
        (number for number, line in enumerate(lines, 1) if line.strip().upper() == "MOTION"), 0
    )
    if not start:
        kind, instead = kind_of(path), ""
        if kind and not kind.name.endswith("BVH file"):
            instead = f", but {kind.name}; {kind.step}"
        raise BrokenFile(path, f"expected a line MOTION, found none{instead}", len(lines))
    joints = _Hierarchy(path, lines[: start - 1]).read()
    frames_at, count = _header(
        path, lines, start + 1, r"Frames\s*:\s*(\d{1,9})", "Frames: and their number"
    )
    time_at, time = _header(
        path, lines, frames_at + 1, r"Frame\s+Time\s*:\s*(\S+)", "Frame Time: and seconds"
    )
    frame_time, first = number_of(time), _next(lines, time_at + 1)
    frames = lines[first - 1 :]
    if not 1e-4 <= frame_time <= 10:
        raise BrokenFile(
            path, f"expected a frame time from 0.0001 to 10 seconds, found {time[:20]!r}", time_at
        )
    if not 0 < int(count) == len(frames):
        raise BrokenFile(
            path,
            f"expected {int(count)} lines of motion and at least 1, found {len(frames)}",
            len(lines),
        )
    return Motion(path, joints, frame_time, frames, first)


def _header(
    path: Path, lines: Sequence[str], number: int, pattern: str, expected: str
) -> tuple[int, str]:
    """The number of the first line from ``number`` on that is not blank,
    and what ``pattern`` finds in it.
    """
    number = _next(lines, number)
    text = lines[number - 1].strip() if number <= len(lines) else ""
    form = re.fullmatch(pattern, text, re.IGNORECASE)
    if form is None:
        raise BrokenFile(path, f"expected {expected}, found {text[:40]!r}", number)
    return number, form[1]


def _next(lines: Sequence[str], number: int) -> int:
    """The number of the first line from ``number`` on that is not blank;
    one more than there are where all are.
    """
    return next(
        (place for place in range(number, len(lines) + 1) if lines[place - 1].strip()),
        len(lines) + 1,
    )


class _Hierarchy:
    """Reads the part before MOTION, word by word; `line` is where the last word stands."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self.path, self.lines, self.line = path, lines, 1
        self.words = self._all_words()
        self.joints: list[Joint] = []
        self.open: list[int] = []

    def read(self) -> list[Joint]:
        """The joints, parents before children."""
        if (word := self._word("HIERARCHY")).upper() != "HIERARCHY":
            raise self._broken(f"expected HIERARCHY, found {word[:20]!r}")
        for word in self.words:
            self._element(word)
        if self.open or not self.joints:
            raise self._broken(
                f"expected {'a closing }' if self.open else 'a ROOT'}, found the end of the"
                " hierarchy"
            )
        return self.joints

    def _element(self, word: str) -> None:
        here = self.joints[self.open[-1]] if self.open and self.open[-1] != _END_SITE else None
        match word.upper():
            case "ROOT" if not self.joints:
                self._joint(-1)
            case "JOINT" if here:
                self._joint(self.open[-1])
            case "END" if here:
                self._name()
                self.open.append(_END_SITE)
            case "OFFSET" if self.open:
                offset = [self._number() for _ in range(3)]
                if here:
                    here.offset = offset
            case "CHANNELS" if here:
                here.channels = self._channels()
            case "}" if self.open:
                self._close(here)
            case _:
                raise self._broken(
                    "expected one ROOT with JOINT, End Site, OFFSET or CHANNELS, found"
                    f" {word[:20]!r}"
                )

    def _joint(self, parent: int) -> None:
        name = self._name()
        if not name or name in (joint.name for joint in self.joints):
            raise self._broken(f"expected a name of its own for every joint, found {name[:40]!r}")
        if len(self.joints) == _MOST_JOINTS:
            raise self._broken(f"expected at most {_MOST_JOINTS} joints, found more")
        self.open.append(len(self.joints))
        self.joints.append(Joint(name, parent))

    def _close(self, here: Joint | None) -> None:
        if here and not here.offset:
            raise self._broken(f"expected an OFFSET for joint {here.name[:40]!r}, found none")
        self.open.pop()

    def _channels(self) -> list[str]:
        count = self._word("a number of channels")
        if count not in ("0", "1", "2", "3", "4", "5", "6"):
            raise self._broken(f"expected 0 to 6 channels, found {count[:20]!r}")
        channels = [self._word("a channel").lower() for _ in range(int(count))]
        for place, channel in enumerate(channels):
            if channel not in (*_POSITIONS, *_ROTATIONS) or channel in channels[:place]:
                raise self._broken(
                    "expected channels such as Xposition and Zrotation once, found"
                    f" {channel[:20]!r}"
                )
        return channels

    def _number(self) -> float:
        value = number_of(word := self._word("a number"))
        if np.isnan(value):
            raise self._broken(f"expected a finite number, found {word[:20]!r}")
        return value

    def _name(self) -> str:
        """The words up to the opening brace."""
        words = []
        while (word := self._word("{")) != "{":
            words.append(word)
        return " ".join(words)

    def _word(self, expected: str) -> str:
        word = next(self.words, None)
        if word is None:
            raise self._broken(f"expected {expected}, found the end of the hierarchy")
        return word

    def _all_words(self) -> Iterator[str]:
        for number, line in enumerate(self.lines, 1):
            self.line = number
            yield from line.replace("{", " { ").replace("}", " } ").split()

    def _broken(self, reason: str) -> BrokenFile:
        return BrokenFile(self.path, reason, self.line)
