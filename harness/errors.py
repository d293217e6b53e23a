"""Errors that end a command with one line and exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from datasets.errors import DataError


class UsageError(Exception):
    """What the user asked for cannot be done; the message is one line: expected, found, next step."""


@contextmanager
def usage_errors() -> Iterator[None]:
    """Problems with data are problems of the request."""
    try:
        yield
    except DataError as error:
        raise UsageError(str(error)) from None


def nearest(name: str, existing: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` for the nearest existing name, or nothing."""
    close = difflib.get_close_matches(name, list(existing), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def first_few(names: Iterable[str], most: int = 3) -> str:
    """``a, b, c and 2 more``."""
    found = list(names)
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")
