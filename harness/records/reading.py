"""What stands in a record's place, and why it is none: files read and refused alike,
wherever a record may stand.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from harness.records.schema import SCHEMA
from harness.spec.model import validation_message

MESSAGE = 200
"""Characters of a validation error that are shown: it quotes the value, which may be a whole curve.
"""
RECORD_FILE, SPEED_FILE, SHELF_FILE = "record.json", "speed.json", "records.jsonl"
_NO_SCHEMA = 10**9
"""A larger number is not quoted: it may have thousands of digits."""
ADDRESS = re.compile(r"(?:.+-s\d+|speed)(?:-v\d+)?-[0-9a-f]{12}")
"""Name of the folder of a run, or of a measurement."""
_SHELF_LINE = re.compile(rf"{re.escape(SHELF_FILE)}(?::\d+)?")
"""Name by which a shelf, or a line of it, is refused."""
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}
"""In words; what else there is, is a device."""

Parsed = TypeVar("Parsed", bound=BaseModel)


def is_shelf(folder: Path) -> bool:
    """The folder is a study on its shelf (`harness.records.shelf`), which is only read."""
    return os.path.lexists(folder / SHELF_FILE)


@dataclass(frozen=True)
class Refusal:
    """A record that is not used, or something that stands in the place of another file of a run.

    Attributes:
        path: of its file; of a record on a shelf with the number of its line, ``records.jsonl:12``.
        reason: why, in a few words.
        newer: a newer version of the suite wrote it; nothing is wrong with it.
        weights: the weights beside it are refused with it.
    """

    path: Path
    reason: str
    newer: bool = False
    weights: Path | None = None

    @property
    def of_record(self) -> bool:
        """A record is not used; else only what lies beside it, or beside all of them."""
        return self.path.name in (RECORD_FILE, SPEED_FILE) or self._own_name

    @property
    def address(self) -> str:
        """Of the run; of a record on a shelf, whose own address may be what is wrong, its line."""
        return self.path.name if self._own_name else self.path.parent.name

    @property
    def _own_name(self) -> bool:
        return bool(ADDRESS.fullmatch(self.path.name) or _SHELF_LINE.fullmatch(self.path.name))

    def __str__(self) -> str:
        return f"{'record ' * self.of_record}{self.path}: {self.reason}"


class Refused(Exception):
    """Raised while reading a record that is refused."""

    def __init__(self, reason: str, *, newer: bool = False, weights: Path | None = None) -> None:
        super().__init__(reason)
        self.reason, self.newer, self.weights = reason, newer, weights

    def at(self, path: Path) -> Refusal:
        """The refusal of what stands there."""
        return Refusal(path, self.reason, self.newer, self.weights)


def parsed_record(path: Path, model: type[Parsed]) -> Parsed:
    """What stands in a record's file; `Refused` says why it is no such record."""
    try:
        text = read_file(path)
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror or str(error).splitlines()[0]})") from None
    return validated(content_of(text), model)


def content_of(text: bytes) -> dict[str, Any]:
    """The JSON object of a record of a schema that is known here; `Refused` where it is none."""
    try:
        content = from_json(text)
    except ValueError as error:
        reason = str(error).splitlines()[0] if _is_text(text) else "not UTF-8"
        raise Refused(f"cannot be read ({reason})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise Refused("cannot be read (expected a JSON object with its schema_version)")
    if version > SCHEMA:
        raise Refused(
            f"written by a newer version of the suite (schema {min(version, _NO_SCHEMA)}, this one"
            f" reads up to {SCHEMA}); update",
            newer=True,
        )
    return content


def _is_text(content: bytes) -> bool:
    """Whether these bytes are text."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def validated(content: dict[str, Any], model: type[Parsed]) -> Parsed:
    """The record of such an object; `Refused` says why it is none."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        if all(problem["type"] == "extra_forbidden" for problem in error.errors()):
            names = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
            raise Refused(
                "written by a newer version of the suite (this one does not know"
                f" {names[:MESSAGE]}); update",
                newer=True,
            ) from None
        raise Refused(f"cannot be read ({validation_message(error, model)[:MESSAGE]})") from None


def read_file(path: Path) -> bytes:
    """What a file holds; `Odd` where something else has its name:
    a pipe would keep its reader waiting for ever.
    """
    if problem := odd(path, stat.S_IFREG):
        raise Odd(errno.EINVAL, problem, str(path))
    return path.read_bytes()


class Odd(OSError):
    """Something else stands in the place of a file, or of a folder."""


def odd(path: Path, expected: int) -> str:
    """What is wrong with what lies at a path, in a few words; empty where nothing is, or nothing
    lies.

    Args:
        expected: ``stat.S_IFREG``, a file, or ``stat.S_IFDIR``, a folder.
    """
    if not os.path.lexists(path):
        return ""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        return f"expected {KINDS[expected]}, found a link to nowhere ({error.strerror})"
    if kind == expected:
        return ""
    return f"expected {KINDS[expected]}, found {KINDS.get(kind, 'a device')}"
