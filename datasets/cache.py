"""Where derived files live, and how files are written so that a half-written one is never seen."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

CACHE_VARIABLE = "MASKED_SKELETON_CACHE"


def cache_dir() -> Path:
    """The folder for derived files, created when needed; everything in it can be deleted and is made again.

    ``$MASKED_SKELETON_CACHE``, else ``$XDG_CACHE_HOME/masked-skeleton``, else ``~/.cache/masked-skeleton``.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(chosen).expanduser() if chosen else Path(base) / "masked-skeleton"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write that becomes ``path`` when the block ends well, and disappears when it does not.

    The temporary file stands in the same folder and is flushed to disk before it is renamed, so a reader
    sees the old file or the whole new one. Raises `OSError` as `open` and `os.replace` do.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
