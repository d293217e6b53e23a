"""Errors that end a command with one line and exit code 2, and those that end one method's row."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets.errors import DataError


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line: expected, found,
    next step.
    """


class MethodFault(RuntimeError):
    """What a method did wrong, as seen from outside it; the message is one line and complete."""


def one_line(error: BaseException) -> str:
    """An exception as one line, with the innermost file and line it came from."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - a message may be broken as well
        text = "a message that cannot be read"
    if isinstance(error, MethodFault):
        return text
    text = f": {text}" if text else ""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = (
        f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
        if trace
        else ""
    )
    return f"{type(error).__name__}{text}{where}"


@contextmanager
def usage_errors() -> Iterator[None]:
    """Problems with data are problems of the request."""
    try:
        yield
    except DataError as error:
        raise UsageError(str(error)) from None


def nearest(name: str, existing: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` for the nearest existing name, or nothing."""
    names = {one.casefold(): one for one in existing}
    close = difflib.get_close_matches(name.casefold(), list(names), n=1)
    return f", did you mean {names[close[0]]!r}?" if close else ""


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8; paths and arguments may hold bytes that are none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def shortened(text: str, most: int = 80) -> str:
    """A text of at most so many characters: what a user typed is quoted, but not pages of it."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def first_few(names: Iterable[str], most: int = 3) -> str:
    """``a, b, c and 2 more``."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
