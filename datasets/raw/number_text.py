"""Text files of numbers, one record a line, read fast;
only a file that is broken is gone through line by line.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets.raw.base import BrokenFile
from datasets.wording import one_line

_MOST_BYTES = 64 * 2**20
"""More is no recording: a file, or what a small .gz file unpacks to, must not fill the memory."""
_MOST_LINES = 1_000_000
_SOME = 1_000  # lines that are looked at together
LARGEST = float(np.finfo(np.float32).max)
"""What single precision can hold."""


def read_lines(path: Path) -> list[str]:
    """The lines of a text file (packed if it ends in .gz), without the blank ones at its end.

    Raises:
        BrokenFile: damaged, or too long to be a recording.
        OSError: as `open` does.
    """
    try:
        packed = path.suffix.lower() == ".gz"
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenFile(
            path, f"expected a whole .gz file, found damage ({one_line(error)})"
        ) from None
    if len(data) > _MOST_BYTES:
        raise BrokenFile(path, f"expected at most {_MOST_BYTES:,} bytes, found more")
    if data.count(b"\n") > _MOST_LINES:
        raise BrokenFile(path, f"expected at most {_MOST_LINES:,} lines, found more")
    text = text_of(data)
    if "\r" in text:
        text = re.sub(r"\r+\n|\r", "\n", text)  # some programs write two of them
    return text.rstrip().split("\n") if text.strip() else []


def text_of(data: bytes) -> str:
    """Bytes as text: UTF-8, or UTF-16 with a byte-order mark, as Windows programs save it.

    Bytes that are no UTF-8, of names in an older encoding, are written as ``\\x83``: other bytes
    stay other text.
    """
    return plain_bytes(data).decode("utf-8", "backslashreplace")


def plain_bytes(data: bytes) -> bytes:
    """Text without a byte-order mark; UTF-16 that has one becomes UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "backslashreplace").encode("utf-8", "backslashreplace")
    return data.removeprefix(codecs.BOM_UTF8)


def read_numbers(path: Path, columns: int, separator: str | None = None) -> NDArray[np.float64]:
    """``[lines, columns]`` of a text file that has ``columns`` numbers in every line.

    Args:
        path: the file, packed if it ends in .gz.
        columns: how many numbers stand in a line.
        separator: what stands between them; None: blanks.

    Raises:
        BrokenFile: empty, another number of fields, a field that is no number or none that single
            precision can hold.
        OSError: as `open` does.
    """
    return numbers_of(path, read_lines(path), columns, separator)


def numbers_of(
    path: Path, lines: Sequence[str], columns: int, separator: str | None = None, first: int = 1
) -> NDArray[np.float64]:
    """As `read_numbers`, of lines that were read;
    ``first`` is the number of the first of them in the file.
    """
    if not lines:
        raise BrokenFile(path, f"expected lines of {columns} numbers, found none", first)
    try:
        numbers = np.loadtxt(lines, delimiter=separator, comments=None, ndmin=2)
    except ValueError:
        raise _first_broken(path, lines, columns, separator, first) from None
    whole = numbers.shape == (
        len(lines),
        columns,
    )  # blank lines are passed over without a word, here they are frames
    if not whole or not (np.abs(numbers) <= LARGEST).all():
        raise _first_broken(path, lines, columns, separator, first)
    return numbers


def _fine(lines: Sequence[str], columns: int, separator: str | None) -> bool:
    """Whether all of these lines hold ``columns`` numbers."""
    try:
        numbers = np.loadtxt(lines, delimiter=separator, comments=None, ndmin=2)
    except ValueError:
        return False
    return numbers.shape == (len(lines), columns) and bool((np.abs(numbers) <= LARGEST).all())


def number_of(field: str) -> float:
    """A field as a number that single precision can hold; NaN when it is none."""
    try:
        value = float(field)
    except ValueError:
        return float("nan")
    return value if abs(value) <= LARGEST else float("nan")


def stamp(path: Path) -> str:
    """Size and time of a file that is read beside a unit's own: in `Unit.part`,
    a change of it makes a new plan.
    """
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _first_broken(
    path: Path, lines: Sequence[str], columns: int, separator: str | None, first: int
) -> BrokenFile:
    starts = range(0, len(lines), _SOME)
    start = next(
        (start for start in starts if not _fine(lines[start : start + _SOME], columns, separator)),
        0,
    )
    for number, line in enumerate(lines[start : start + _SOME], first + start):
        fields = line.split(separator) if line.strip() else []
        if len(fields) != columns:
            return BrokenFile(path, f"expected {columns} numbers, found {len(fields)}", number)
        for field in fields:
            if np.isnan(number_of(field)):
                return BrokenFile(path, f"expected a finite number, found {field[:20]!r}", number)
    return BrokenFile(path, f"expected {columns} plain numbers in every line")
