"""Phrases that messages share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches


def listed(items: Iterable[object], limit: int = 12) -> str:
    """``items`` joined by commas, at most ``limit`` of them;
    ``"none"`` when there is nothing to list.
    """
    texts = [str(item) for item in items]
    hidden = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {hidden} more" if hidden > 0 else "") or "none"


def nearest(name: str, options: Iterable[str]) -> str:
    """``"did you mean 'x'? "`` for the option spelt most like ``name``,
    or nothing when none is close.
    """
    close = get_close_matches(name, list(options), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def one_line(text: object) -> str:
    """``text`` with every run of white space, line ends included, turned into one space."""
    return " ".join(str(text).split())


def counted(number: int, noun: str) -> str:
    """``1 probe``, ``3 probes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def minutes(seconds: float) -> str:
    """``95`` seconds as ``1.6 min``, hours from two on."""
    if seconds >= 7200:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


_OBEYED = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, line ends, marks that turn the direction of writing,
and bytes of a path that are no UTF-8.
"""


def printable(text: str) -> str:
    """One line: what a terminal would obey, a name in a file say,
    is shown as JSON writes it (``\\u001b``).
    """
    return _OBEYED.sub(lambda found: json.dumps(found[0])[1:-1], text)
