"""A study on its shelf: every record of a folder in one file, a record a line, instead of a folder
for each.

    study/records.jsonl     runs, speed measurements, evaluations, test clips, pictures

Whoever reads a folder reads its shelf as well (`harness.records.store`,
`harness.records.evaluations`), and refuses on one what it refuses in the other. Nobody writes into
a shelf: it is made whole, of a folder.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pydantic_core import to_json

from harness.errors import is_utf8
from harness.records.reading import SHELF_FILE, Odd, Refusal, Refused, content_of, odd

LONGEST = 32 << 20
"""Bytes of the longest line that is read: several times the predictions of a million clips."""
MOST_NAMED = 100
"""Refused lines of a kind that are named one by one;
a file that is no shelf at all may have millions.
"""
_LONGEST_NAME = 255
"""Bytes of a file's name on common file systems."""
_KEYS = {
    "run": ("address",),
    "speed": ("address",),
    "evaluation": ("run", "address"),
    "test-clips": ("fingerprint",),
    "pictures": ("run",),
}
"""What tells the records of each kind apart, on a shelf as by their place in a folder."""


@dataclass(frozen=True)
class Line:
    """A record on a shelf.

    Attributes:
        place: the file with the number of the line, ``study/records.jsonl:12``.
        text: as it stands there.
    """

    place: Path
    text: bytes

    @property
    def content(self) -> dict[str, Any]:
        """The JSON object."""
        return content_of(self.text)

    def as_file(self) -> bytes:
        """What a file of this record alone would hold: every value as on the shelf."""
        return to_json(self.content, indent=1) + b"\n"


class Shelf:
    """The records on a folder's shelf, unchecked but for what tells them apart; none where there is
    no shelf.

    Attributes:
        lines: by kind, then by what tells records of this kind apart (`_KEYS`).
        refused: lines that are none of these, by kind; under an empty one where that is not known.
        unnamed: how many more there are.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / SHELF_FILE
        self.lines: dict[str, dict[tuple[str, ...], Line]] = {kind: {} for kind in _KEYS}
        self.refused: dict[str, list[Refusal]] = {kind: [] for kind in ("", *_KEYS)}
        self.unnamed = 0
        try:
            self._read()
        except (FileNotFoundError, NotADirectoryError):
            # no shelf is there; a file in the place of its folder is named by whoever needs the
            # folder
            pass
        except OSError as error:
            self.refused[""].append(
                Refusal(self.path, f"cannot be read ({error.strerror or error})")
            )

    def _read(self) -> None:
        if problem := odd(self.path, stat.S_IFREG):
            raise Odd(errno.EINVAL, problem, str(self.path))
        with self.path.open("rb") as stream:
            for number, text in enumerate(_lines_of(stream), 1):
                self._take(Path(f"{self.path}:{number}"), text)
        if self.unnamed:
            self.refused[""].append(
                Refusal(self.path, f"{self.unnamed} more lines are no records that can be used")
            )

    def _take(self, place: Path, text: bytes | None) -> None:
        if text is not None and not text.strip():
            return
        kind = ""
        try:
            if text is None:
                raise Refused(f"cannot be read (a line of more than {LONGEST >> 20} MiB)")
            content = content_of(text)
            kind = _kind_of(content)
            key = _key_of(content, kind)
            if first := self.lines[kind].get(key):
                raise Refused(f"is the {kind} {'/'.join(key)} again; {first.place.name} counts")
            self.lines[kind][key] = Line(place, text)
        except Refused as problem:
            if len(self.refused[kind]) < MOST_NAMED:
                self.refused[kind].append(problem.at(place))
            else:
                self.unnamed += 1


def _lines_of(stream: BinaryIO) -> Iterator[bytes | None]:
    """Lines of a file; None for one that is too long, which is never in memory as a whole."""
    while text := stream.readline(LONGEST):
        long = len(text) == LONGEST and not text.endswith(b"\n")
        while long and (rest := stream.readline(LONGEST)) and not rest.endswith(b"\n"):
            pass
        yield None if long else text


def _kind_of(content: dict[str, Any]) -> str:
    """The kind of a record; `Refused` where there is no such kind."""
    kind = content.get("kind")
    if kind not in tuple(_KEYS):
        raise Refused(
            f"cannot be read (expected kind {', '.join(_KEYS)}, found {str(kind)[:40]!r})"
        )
    return str(kind)


def _key_of(content: dict[str, Any], kind: str) -> tuple[str, ...]:
    """What tells a record from the others of its kind;
    `Refused` where it could not name a file or folder.
    """
    found = tuple(content.get(name) for name in _KEYS[kind])
    for name, value in zip(_KEYS[kind], found, strict=True):
        if not isinstance(value, str) or (name != "fingerprint" and not _names_a_file(value)):
            raise Refused(f"cannot be read (expected a name as {name}, found {str(value)[:40]!r})")
    return tuple(map(str, found))


def _names_a_file(text: str) -> bool:
    """Whether it could name a file in a folder:
    weights are looked for in the folder of their run's address.
    """
    apart = any(letter in text for letter in "/\\\0") or text in ("", ".", "..")
    return not apart and is_utf8(text) and len(text.encode()) <= _LONGEST_NAME
