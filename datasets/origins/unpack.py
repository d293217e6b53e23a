"""Archives of raw data (.tar.gz) unpacked without trusting them.

`tarfile` unpacks, and its data filter judges what is written. Before it, an archive is refused
whole when a member would land outside the folder, is a link or a device, takes another's place, or
when more comes out than an honest archive of its size holds. Unpacking happens in a hidden folder
beside the target, which takes the target's name at the end: what stands there is whole, and of a
refused archive nothing remains.
"""

from __future__ import annotations

import errno
import gzip
import shutil
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from datasets.errors import DataError
from datasets.wording import one_line

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a disk, or a person's share of it, that is full."""
_RATIO, _FREE = 100, 64 * 2**20
"""Bytes that may come out: times the archive's own, and in any case. Text packs 3- to 20-fold,
a bomb 1,000-fold.
"""
_MOST_MEMBERS = 250_000
_PIECE = 2**20  # tarfile reads contents in smaller pieces, and an honest header is smaller


def unpack(archive: Path, folder: Path, *, keep: str = "*") -> Path:
    """Unpack an archive into a folder that is not there yet.

    Args:
        archive: a .tar.gz file.
        folder: made by this call, whole or not at all; an empty one is taken over.
        keep: which files to write, a pattern over their whole path in which ``*`` stands for ``/``
            too.

    Returns:
        The folder.

    Raises:
        DataError: the archive is none, damaged or refused (the member is named), nothing in it
            matches ``keep``, the folder holds something, or the disk is full. The folder is then as
            it was before.
    """
    work = folder.with_name(f".{folder.name}.unpacking")
    if not hasattr(tarfile, "data_filter"):
        raise DataError(
            f"{archive}: expected Python 3.11.4 or newer to unpack it safely, found an older one;"
            " update it"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: expected nothing there or an empty folder to unpack into; move what is"
            " there"
        )
    try:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        with _Stream(archive) as stream, tarfile.TarFile(fileobj=stream) as tar:
            tar.extractall(work, _judged(tar, archive, keep, stream.allowed), filter="data")
            while piece := stream.read(_PIECE):  # the checksum stands at the end
                if piece.strip(b"\0"):  # tarfile takes a damaged header for the end
                    raise tarfile.ReadError("a member that is none")
        if not any(work.iterdir()):
            raise DataError(
                f"{archive}: expected files that match {keep!r}, found none; it is another archive"
            )
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    except DataError:
        raise
    except Exception as error:  # a hostile archive may set off anything in its readers
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise DataError(
                f"{archive}: expected room to unpack in {work.parent}, found a full disk; make room"
            ) from None
        found = one_line(error) or type(error).__name__
        raise DataError(
            f"{archive}: expected a whole .tar.gz, found damage ({found}); download it again"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _judged(
    tar: tarfile.TarFile, archive: Path, keep: str, allowed: int
) -> Iterator[tarfile.TarInfo]:
    """The files to write; every member is judged before anything behind its header is read."""
    places = set[str]()
    for number, member in enumerate(tar, start=1):
        path, odd = PurePosixPath(member.name), set(member.name) & {"\\", ":"}
        wanted = not member.isdir() and fnmatchcase(str(path), keep)
        place = str(path).casefold()  # some disks take upper and lower case for one
        if number > _MOST_MEMBERS:
            problem = f"expected at most {_MOST_MEMBERS:,} members, found more"
        elif path.is_absolute() or ".." in path.parts or odd or not member.name.isprintable():
            problem = (
                "expected a plain path inside the archive, found one that leaves it or cannot be"
                " read"
            )
        elif not 0 <= member.size <= allowed - member.offset_data:
            problem = (
                f"expected at most {allowed:,} bytes out of an archive of this size, found more (a"
                " bomb?)"
            )
        elif wanted and (not member.isreg() or member.issparse()):
            problem = "expected files and folders alone, found a link, a device or a sparse file"
        elif wanted and place in places:
            problem = "expected every member in a place of its own, found two that share one"
        else:
            if wanted:
                places.add(place)
                yield member
            continue
        raise DataError(f"{archive}: {member.name[:200]!r}: {problem}")


class _Stream(gzip.GzipFile):
    """What a .gz holds: no more than is allowed,
    and nothing in one piece that would fill the memory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.allowed = max(_FREE, _RATIO * path.stat().st_size)

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, which must be few."""
        if size is None or not 0 <= size <= _PIECE:
            raise tarfile.ReadError(f"a header of {size} bytes")
        if self.tell() > self.allowed:
            raise tarfile.ReadError(f"more than {self.allowed:,} bytes, a bomb?")
        return super().read(size)
