"""NTU RGB+D's ``.skeleton`` text: a file becomes arrays fast, a broken one is named with its line.

The format is that of the authors' reader (github.com/shahroudy/NTURGB-D,
Matlab/read_skeleton_file.m).

A file of F frames and R body records in all has 1 + F + 27 R lines: the number of frames; for every
frame the number of bodies; for every body a line of 10 fields, the number of joints (25), and 25
lines of 12 fields that begin with x y z. Only numbers of bodies, body IDs and x y z are kept.

There are two readers. `_at_once` takes a file apart with a few array operations over all of its
bytes, and declines whatever it does not understand completely. `_by_line` then reads that file line
by line and says where it is broken. Both turn a number into what `float` makes of it, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from datasets.raw.base import BrokenFile
from datasets.raw.number_text import plain_bytes

JOINTS = 25
MOST_BYTES = 12 * 2**20
"""A file of the longest clip, 300 frames, with six bodies in each has 6 MB."""

_MOST_FRAMES = 100_000
"""The longest clip has 300 frames."""

_BODY_FIELDS, _JOINT_FIELDS = 10, 12
_RECORD_LINES = 2 + JOINTS
_RECORD_TOKENS = _BODY_FIELDS + 1 + JOINTS * _JOINT_FIELDS
# Places of tokens within a body record: x y z of every joint, and the last token of every line.
_COORDINATES = (
    _BODY_FIELDS + 1 + _JOINT_FIELDS * np.arange(JOINTS)[:, None] + np.arange(3)
).ravel()
_LINE_ENDS = np.array([_BODY_FIELDS - 1, *range(_BODY_FIELDS, _RECORD_TOKENS, _JOINT_FIELDS)])


@dataclass(frozen=True, eq=False)
class SkeletonText:
    """What a ``.skeleton`` file says.

    Attributes:
        path: the file.
        bodies: [F] int64, bodies in every frame.
        ids: [R] int64, the body ID of every record, frame after frame.
        joints: [R, 25, 3] float32, metres in the camera's frame, y up; may hold numbers that are
            not finite.
    """

    path: Path
    bodies: NDArray[np.int64]
    ids: NDArray[np.int64]
    joints: NDArray[np.float32]

    def line(self, record: int, joint: int) -> int:
        """The line of a joint, counted from 1;
        two lines above joint 0 is the record's body line.
        """
        frame = int(np.searchsorted(np.cumsum(self.bodies), record, side="right"))
        return 1 + (frame + 1) + _RECORD_LINES * record + 2 + (joint + 1)


def read_skeleton(path: Path) -> SkeletonText:
    """Read a file; line ends may be ``\\n`` or ``\\r\\n``, and a byte-order mark may stand before
    it.

    Raises:
        BrokenFile: the file is empty, cut short or goes on after its last frame; a count is no
            whole number; there are not 25 joints; a line has not its 10 or 12 fields; x, y or z is
            no number. With the line.
        OSError: it cannot be opened.
    """
    _keep_freed_memory()
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise BrokenFile(
            path, f"expected at most {MOST_BYTES:,} bytes for one clip, found {size:,}"
        )
    data = plain_bytes(path.read_bytes())
    return _at_once(path, data) or _by_line(path, data)


@cache
def _keep_freed_memory() -> None:
    """Have glibc keep what arrays leave for the next ones; elsewhere nothing happens.

    A file takes some MB of short-lived arrays. Asking the system for them again and again took a
    third of the time. What glibc keeps follows from the largest piece it was ever given back, up to
    32 MB; the piece is never touched.
    """
    np.empty(31 * 2**20, np.uint8)


# --- all at once ---


def _at_once(path: Path, data: bytes) -> SkeletonText | None:
    """The file's content if it is regular in every respect, otherwise None."""
    tokens = _Tokens(data)
    bodies = _body_counts(tokens) if tokens.regular else None
    if bodies is None:
        return None
    counts, heads = _places(bodies)
    if not _lines_agree(tokens, counts, heads):
        return None
    try:
        ids = np.array([_whole(text) for text in tokens.texts(heads)], np.int64)
        joints = _numbers(tokens, (heads[:, None] + _COORDINATES).ravel())
    except (ValueError, OverflowError):
        return None
    with np.errstate(
        over="ignore"
    ):  # what overflows becomes infinite, and is named if its body is kept
        return SkeletonText(path, bodies, ids, joints.astype(np.float32).reshape(-1, JOINTS, 3))


_WIDTH = 16  # bytes of a token that are looked at in one piece


class _Tokens:
    """The tokens of a file in which exactly one blank or line feed stands between any two.

    A carriage return belongs to the token before it, the last of a line.

    Attributes:
        data: the file's bytes behind `_WIDTH` blanks, so that the 16 bytes before any token's end
            exist.
        blanks: [N + 1] places in `data`: token i stands between blank i and blank i + 1.
    """

    def __init__(self, data: bytes) -> None:
        self.data = b" " * _WIDTH + data.rstrip() + b"\n"
        self.bytes = np.frombuffer(self.data, np.uint8)
        self.blanks = np.flatnonzero((self.bytes == ord(" ")) | (self.bytes == ord("\n")))[
            _WIDTH - 1 :
        ]

    def __len__(self) -> int:
        return len(self.blanks) - 1

    @property
    def regular(self) -> bool:
        """Whether there is something between any two blanks."""
        return bool((self.blanks[1:] - self.blanks[:-1] > 1).all())

    def texts(self, places: NDArray[np.int64]) -> list[bytes]:
        before, after = self.blanks[places].tolist(), self.blanks[places + 1].tolist()
        return [self.data[start + 1 : end] for start, end in zip(before, after, strict=True)]

    def last_bytes(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """[n, 16]: the 16 bytes up to the end of each token,
        whatever stands before the token included.
        """
        shape = len(self.data) - _WIDTH + 1
        windows: NDArray[np.void] = np.ndarray(shape, f"V{_WIDTH}", self.data, strides=(1,))
        return windows[self.blanks[places + 1] - _WIDTH].view(np.uint8).reshape(-1, _WIDTH)


def _body_counts(tokens: _Tokens) -> NDArray[np.int64] | None:
    """[F] bodies of every frame; None when the counts and the number of tokens disagree."""
    data, blanks, size = tokens.data, tokens.blanks, len(tokens)
    counts, place = list[int](), 0
    while place < size and len(counts) <= _MOST_FRAMES:
        count = data[blanks[place] + 1 : blanks[place + 1]].removesuffix(b"\r")
        if not count.isdigit() or len(count) > 9:
            return None
        place += 1 + (int(count) * _RECORD_TOKENS if counts else 0)
        counts.append(int(count))
    frames, *bodies = counts
    return np.array(bodies, np.int64) if place == size and len(bodies) == frames else None


def _places(bodies: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[F] the token with each frame's number of bodies,
    and [R] the first token of every body record.
    """
    records_before = np.cumsum(bodies) - bodies
    counts = 1 + np.arange(len(bodies)) + records_before * _RECORD_TOKENS
    frames = np.repeat(np.arange(len(bodies)), bodies)
    return counts, 2 + frames + np.arange(len(frames)) * _RECORD_TOKENS


def _lines_agree(tokens: _Tokens, counts: NDArray[np.int64], heads: NDArray[np.int64]) -> bool:
    """Whether the lines end where the format has it, and every record has 25 joints."""
    ends = np.concatenate([[0], counts, (heads[:, None] + _LINE_ENDS).ravel()])
    line_feeds = np.count_nonzero(tokens.bytes == ord("\n"))
    if line_feeds != len(ends) or (tokens.bytes[tokens.blanks[ends + 1]] != ord("\n")).any():
        return False
    return set(tokens.texts(heads + _BODY_FIELDS)) <= {b"25", b"25\r"}


_POWERS = 10 ** np.arange(_WIDTH + 1, dtype=np.int64)
_POINT = ord(".") - ord("0") & 0xFF
_OWN = np.where(np.arange(_WIDTH) >= _WIDTH - np.arange(_WIDTH + 1)[:, None], 0xFF, 0).astype(
    np.uint8
)
"""[17, 16]: the last n of 16 bytes, for n from 0 to 16."""
_EXACT = 2**53


def _numbers(tokens: _Tokens, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """[n] the tokens as numbers; a `ValueError` when one is none.

    A token such as ``-0.2181153`` is a whole number over a power of ten. Below 2**53 and 10**22
    both are exact in double precision, so one division rounds once, as `float` does. The others go
    through `float` one by one.
    """
    before = tokens.blanks[places]
    negative = tokens.bytes[before + 1] == ord("-")
    length = tokens.blanks[places + 1] - before - 1 - negative
    digits = (tokens.last_bytes(places) - np.uint8(ord("0"))) & _OWN.take(
        np.minimum(length, _WIDTH), axis=0
    )
    points = digits == _POINT
    row, column = np.divmod(np.flatnonzero(points), _WIDTH)
    tail = np.zeros(len(places), np.int64)  # bytes from the point on
    tail[row] = _WIDTH - column
    digits *= ~points
    power = _POWERS.take(tail)
    scale = np.maximum(power // 10, 1)
    shifted = _joined(digits)  # the point counts as a digit 0
    numerator = shifted - shifted // power * (power - scale)
    values = np.copysign(numerator / scale, 0.5 - negative)
    plain = (length <= _WIDTH) & (length > (tail > 0)) & (numerator < _EXACT)
    plain[row[1:][row[1:] == row[:-1]]] = False  # two points
    if digits.max(initial=0) > 9:
        plain &= (digits <= 9).all(axis=1)
    odd = np.flatnonzero(~plain)
    values[odd] = [float(text) for text in tokens.texts(places[odd])]
    return values


def _joined(digits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[n] the numbers with these 16 digits [n, 16]."""
    words = digits.view("<u8")  # eight digits each, the first one lowest
    for bits, base in (
        (8, 10),
        (16, 100),
        (32, 10_000),
    ):  # neighbours to pairs, pairs to fours, fours to eights
        left = np.uint64(sum(2**place for place in range(64) if place % (2 * bits) < bits))
        words = (words & left) * np.uint64(base) + (words >> np.uint64(bits) & left)
    return (words[:, 0] * np.uint64(10**8) + words[:, 1]).view(np.int64)


# --- line by line ---


def _by_line(path: Path, data: bytes) -> SkeletonText:
    """The file's content; a `BrokenFile` with the line where it is not as it should be."""
    lines = _Lines(path, data)
    bodies, ids, joints = list[int](), list[int](), list[list[float]]()
    frames = lines.count("the number of frames")
    if frames > _MOST_FRAMES:
        raise BrokenFile(path, f"expected at most {_MOST_FRAMES:,} frames, found {frames:,}", 1)
    for frame in range(frames):
        bodies.append(lines.count(f"the number of bodies in frame {frame + 1} of {frames}"))
        for _ in range(bodies[-1]):
            ids.append(lines.body_id())
            lines.joint_count()
            joints += [lines.coordinates(joint) for joint in range(JOINTS)]
    lines.end()
    with np.errstate(over="ignore"):
        coordinates = np.array(joints, np.float64).astype(np.float32).reshape(-1, JOINTS, 3)
    return SkeletonText(path, np.array(bodies, np.int64), np.array(ids, np.int64), coordinates)


class _Lines:
    """The lines of a file, read one after the other, each for what it should hold."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.lines, self.number = path, data.rstrip().splitlines(), 0
        if not self.lines:
            raise BrokenFile(path, "expected the number of frames, found an empty file", 1)

    def count(self, what: str) -> int:
        """A line of one whole number."""
        text = self._next(what).strip()
        if not text.isdigit() or len(text) > 9:
            self._broken(what, text)
        return int(text)

    def body_id(self) -> int:
        """The body ID of a body line."""
        identity = self._fields(_BODY_FIELDS, "a body")[0]
        try:
            return int(np.int64(_whole(identity)))
        except (ValueError, OverflowError):
            self._broken("a whole number of 64 bits as body ID", identity)

    def joint_count(self) -> None:
        """A line that says 25."""
        if (count := self.count("the number of joints")) != JOINTS:
            self._broken(f"{JOINTS} joints", str(count).encode())

    def coordinates(self, joint: int) -> list[float]:
        """x, y and z of a joint's line."""
        fields = self._fields(_JOINT_FIELDS, f"joint {joint + 1}")
        try:
            return [float(field) for field in fields[:3]]
        except ValueError:
            self._broken(f"x y z of joint {joint + 1} as numbers", b" ".join(fields[:3]))

    def end(self) -> None:
        """Nothing may be left."""
        if self.number < len(self.lines):
            self._broken("the end of the file after the last frame", self._next("nothing"))

    def _fields(self, count: int, what: str) -> list[bytes]:
        fields = self._next(f"the line of {what}").split()
        if len(fields) != count:
            raise BrokenFile(
                self.path, f"expected {count} fields for {what}, found {len(fields)}", self.number
            )
        return fields

    def _next(self, what: str) -> bytes:
        if self.number == len(self.lines):
            raise BrokenFile(
                self.path,
                f"expected {what}, found the end of the file; it is cut short",
                self.number,
            )
        self.number += 1
        return self.lines[self.number - 1]

    def _broken(self, expected: str, found: bytes) -> NoReturn:
        shown = repr(found[:40].decode("ascii", "replace")) if found.strip() else "an empty line"
        raise BrokenFile(self.path, f"expected {expected}, found {shown}", self.number)


def _whole(text: bytes) -> int:
    if not text.isdigit():
        raise ValueError(text)
    return int(text)
