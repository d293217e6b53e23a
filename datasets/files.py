"""Where derived files live, which version of a file is there, and how files are written:
whole or not at all.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from datasets.errors import DataError
from datasets.wording import one_line

APPLICATION = "masked-skeleton"
CACHE_VARIABLE, STORES_VARIABLE = "MASKED_SKELETON_CACHE", "MASKED_SKELETON_DATA"
"""Environment variables that name the folders of derived files and of prepared data sets."""
FileVersion = tuple[int, int, int, int]
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def cache_dir() -> Path:
    """The folder for derived files, created when needed; everything in it can be deleted and is
    made again.

    ``$MASKED_SKELETON_CACHE``, else where the system keeps such files: on Linux
    ``$XDG_CACHE_HOME/masked-skeleton`` or ``~/.cache/masked-skeleton``.
    """
    from platformdirs import user_cache_path  # names of variables, for help, need none of it

    chosen = os.environ.get(CACHE_VARIABLE)
    folder = Path(chosen).expanduser() if chosen else user_cache_path(APPLICATION, appauthor=False)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def file_version(path: Path, step: str = "check the path") -> FileVersion:
    """Size, time of the content, time of the entry and inode: a file with the same four was not
    written to since.

    The time of the entry cannot be set by a program, so a file whose time was put back is another
    version too.

    Args:
        path: the file.
        step: what to do when it is none, for the message.

    Raises:
        DataError: there is no file, or something that is none and may never end, such as a pipe.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(
            f"{path}: expected a file, found {one_line(error.strerror or error)}; {step}"
        ) from None
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise DataError(f"{path}: expected a file, found {_KINDS.get(kind, 'none')}; {step}")
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write that becomes ``path`` when the block ends well, and disappears when it
    does not.

    The temporary file stands in the same folder and is flushed to disk before it is renamed, so a
    reader sees the old file or the whole new one. Raises `OSError` as `open` and `os.replace` do.
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
