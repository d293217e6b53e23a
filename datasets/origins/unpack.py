"""Archives of raw data unpacked without trusting them: zip, tar, tar.gz and tar.xz.

An archive is refused whole when a member would land outside the folder, is a link or a device, takes another
member's place, or when more bytes come out than an honest archive of its size holds. Unpacking happens in a hidden
folder beside the target, which takes the target's name at the end: what stands there is whole, and of a refused
archive nothing remains.
"""

from __future__ import annotations

import errno
import gzip
import lzma
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Protocol

from datasets.errors import DataError
from datasets.wording import one_line

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Error numbers of a disk, or a person's share of it, that is full."""

_PIECE = 2**20
_LARGEST_READ = 4 * _PIECE  # besides such pieces tarfile reads headers, and an honest header is small
_END_OF_TAR = bytes(tarfile.BLOCKSIZE)
_FILE, _FOLDER = "a file", "a folder"
_ZIP_KINDS = {
    stat.S_IFLNK: "a symbolic link", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip
_TAR_KINDS = {
    tarfile.REGTYPE: _FILE, tarfile.AREGTYPE: _FILE, tarfile.CONTTYPE: _FILE, tarfile.DIRTYPE: _FOLDER,
    tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe", tarfile.GNUTYPE_SPARSE: "a sparse file",
}  # fmt: skip
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error, EOFError,
    ValueError, LookupError, OverflowError, RuntimeError,
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """How much may come out of an archive.

    Attributes:
        ratio: times the archive's own size; text and numbers shrink 3- to 20-fold, bombs a thousandfold and more.
        free: bytes that may come out whatever the ratio, so that a small archive of zeros passes.
        most: bytes that may come out at most.
        members: entries, folders included.
    """

    ratio: float = 100.0
    free: int = 64 * 2**20
    most: int = 64 * 2**30
    members: int = 250_000

    def allowed(self, packed: int) -> int:
        """Bytes that may come out of an archive of ``packed`` bytes."""
        return min(self.most, max(self.free, int(self.ratio * packed)))


def unpack(archive: Path, folder: Path, *, keep: str = "*", limits: Limits | None = None) -> Path:
    """Unpack an archive into a folder that is not there yet.

    Args:
        archive: a zip, tar, tar.gz or tar.xz file, whatever its name ends in.
        folder: made by this call, whole or not at all; an empty one is taken over.
        keep: which members to write, a pattern over their whole path in which ``*`` stands for ``/`` too.
        limits: by default `Limits()`.

    Returns:
        The folder.

    Raises:
        DataError: the archive is none, damaged or refused (the member is named), nothing in it matches ``keep``, the
            folder holds something, or the disk is full. The folder is then as it was before.
    """
    archive, folder = Path(archive), Path(folder)
    work = folder.with_name(f".{folder.name}.unpacking")
    unpacking = _Unpacking(archive, work, keep, limits or Limits())
    with unpacking.explained():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: expected nothing there or an empty folder to unpack into; move what is there")
        try:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            unpacking.run()
            if folder.exists():
                folder.rmdir()
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return folder


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class _Member:
    """An entry of an archive: its name as written there, its size in bytes, what it is, and how to read it."""

    name: str
    size: int
    kind: str
    open: Callable[[], AbstractContextManager[_Readable]]


@dataclass
class _Unpacking:
    """One archive on its way into a folder; ``at`` is the member that it has come to."""

    archive: Path
    work: Path
    keep: str
    limits: Limits
    at: str = ""
    places: dict[str, str] = field(default_factory=dict)
    budget: _Budget = field(init=False)

    def run(self) -> None:
        """Judge all members and write those that are kept."""
        self.budget = _Budget(self.limits.allowed(self.archive.stat().st_size), self.refused)
        kept = 0
        with self._members() as members:
            for number, member in enumerate(members, start=1):
                self.at = member.name
                if number > self.limits.members:
                    raise self.refused(f"expected at most {self.limits.members:,} members, found more")
                kept += self._take(member)
        if not kept:
            self.at = ""
            raise self.refused(f"expected files that match {self.keep!r}, found none; it is another archive")

    def refused(self, reason: str) -> DataError:
        """The error that names archive and member."""
        member = f"{self.at[:200]!r}: " if self.at else ""
        return DataError(f"{self.archive}: {member}{reason}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what readers and disks raise into one `DataError`."""
        try:
            yield
        except DataError:
            raise
        except _DAMAGE as error:
            found = one_line(error) or type(error).__name__
            raise self.refused(f"expected a whole archive, found damage ({found}); download it again") from error
        except OSError as error:
            if error.errno in FULL_DISK:
                reason = f"expected room to unpack in {self.work.parent}, found a full disk; make room and try again"
            else:
                reason = f"expected to read and unpack it, found {one_line(error)}; check the path and the disk"
            raise self.refused(reason) from error

    # --- reading ---

    @contextmanager
    def _members(self) -> Iterator[Iterator[_Member]]:
        with self.archive.open("rb") as file:
            start = file.read(tarfile.BLOCKSIZE)
            file.seek(0)
            if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
                with zipfile.ZipFile(file) as opened:
                    yield (_zip_member(opened, info, self.budget) for info in opened.infolist())
            else:
                with self._tar_stream(file, start) as stream:
                    yield self._tar_members(_Metered(stream, self.budget))

    @contextmanager
    def _tar_stream(self, file: IO[bytes], start: bytes) -> Iterator[_Stream]:
        if start.startswith(b"\x1f\x8b"):
            with gzip.open(file) as gzipped:
                yield gzipped
        elif start.startswith(b"\xfd7zXZ\x00"):
            with lzma.open(file) as xzipped:
                yield xzipped
        elif start[257:262] == b"ustar":
            yield file
        else:
            step = "unpack it with 7-Zip" if start.startswith(b"7z\xbc\xaf\x27\x1c") else "download it again"
            raise self.refused(
                f"expected a zip, tar, tar.gz or tar.xz file, found one that starts {start[:8]!r}; {step}"
            )

    def _tar_members(self, stream: _Metered) -> Iterator[_Member]:
        with tarfile.TarFile(fileobj=stream) as tar:  # type: ignore[arg-type]
            for info in tar:
                self.at = info.name
                self._filter(info)
                yield _tar_member(tar, info)
        if stream.last != _END_OF_TAR:  # tarfile takes a damaged header for the end of the archive
            raise tarfile.ReadError(f"no end mark after {stream.position:,} bytes")
        while stream.read(_PIECE):  # the checksum of a packed stream stands at its end
            pass

    def _filter(self, info: tarfile.TarInfo) -> None:
        """Ask Python's own judgement too, where there is one (from 3.11.4 on)."""
        if hasattr(tarfile, "data_filter"):
            try:
                tarfile.data_filter(info, str(self.work))
            except tarfile.FilterError as error:
                raise self.refused(f"expected a member that stays in the folder, found {one_line(error)}") from error

    # --- writing ---

    def _take(self, member: _Member) -> bool:
        """Judge a member and write it when it is kept; whether a file was written."""
        parts = self._parts(member)
        if not fnmatchcase("/".join(parts), self.keep):
            return False
        if member.kind not in (_FILE, _FOLDER):
            raise self.refused(f"expected files and folders alone, found {member.kind}")
        self._claim(parts, member.kind)
        target = self.work.joinpath(*parts)
        if member.kind == _FOLDER:
            target.mkdir(parents=True, exist_ok=True)
            return False
        self.budget.check(member.size)
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, target.open("xb") as file:
            shutil.copyfileobj(source, file, _PIECE)
        return True

    def _parts(self, member: _Member) -> list[str]:
        name = member.name.replace("\\", "/")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or re.match("[A-Za-z]:", name):
            raise self.refused("expected a path inside the archive, found an absolute one")
        if ".." in parts:
            raise self.refused("expected a path inside the archive, found one that leaves it by '..'")
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name) or not (
            parts or member.kind == _FOLDER
        ):
            raise self.refused("expected a readable name, found an empty one, control characters or undecodable bytes")
        return parts

    def _claim(self, parts: list[str], kind: str) -> None:
        """Note whose place a path is; some disks take upper and lower case, or two spellings of an accent, for one."""
        place = unicodedata.normalize("NFC", "/".join(parts)).casefold()
        above = (place[:end] for end, letter in enumerate(place) if letter == "/")
        taken = (kind == _FILE and place in self.places) or self.places.setdefault(place, kind) != kind
        if taken or any(self.places.setdefault(folder, _FOLDER) != _FOLDER for folder in above):
            raise self.refused("expected every member in a place of its own, found two that share one")


def _zip_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, budget: _Budget) -> _Member:
    name = info.orig_filename
    kind = _ZIP_KINDS.get(stat.S_IFMT(info.external_attr >> 16))
    if kind is None and info.flag_bits & 1:
        kind = "an encrypted file"
    if kind is None and info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        kind = f"a file packed by method {info.compress_type}"
    return _Member(
        name, info.file_size, kind or (_FOLDER if name.endswith(("/", "\\")) else _FILE),
        lambda: _Metered(opened.open(info), budget),
    )  # fmt: skip


def _tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def opened() -> IO[bytes]:
        source = tar.extractfile(info)
        if source is None:
            raise tarfile.ReadError(f"{info.name!r} has no contents")
        return source

    kind = "a sparse file" if info.issparse() else _TAR_KINDS.get(info.type, f"an entry of type {info.type!r}")
    return _Member(info.name, info.size, kind, opened)


# --- counting what comes out ---


@dataclass
class _Budget:
    """Bytes that may still come out."""

    allowed: int
    refused: Callable[[str], DataError]
    spent: int = 0

    def check(self, wanted: int) -> None:
        """Refuse what would take more than is left."""
        if self.spent + wanted > self.allowed:
            raise self.refused(
                f"expected at most {self.allowed:,} bytes out of an archive of this size, found more (a decompression "
                "bomb?); if it is honest, raise the limits of datasets.unpack"
            )

    def spend(self, count: int) -> None:
        """Count bytes that came out."""
        self.check(count)
        self.spent += count


class _Stream(_Readable, Protocol):
    def close(self) -> None: ...


class _Metered:
    """A stream read forwards in small pieces, whose bytes are counted as they come out."""

    def __init__(self, stream: _Stream, budget: _Budget) -> None:
        self.stream, self.budget = stream, budget
        self.position, self.last = 0, b""

    def __enter__(self) -> _Metered:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; more than a piece is refused, since it would be held in memory."""
        if not 0 <= size <= _LARGEST_READ:
            raise self.budget.refused(f"expected a header of a few hundred bytes, found one of {size:,}")
        self.last = self.stream.read(size)
        self.position += len(self.last)
        self.budget.spend(len(self.last))
        return self.last

    def tell(self) -> int:
        """Bytes read so far."""
        return self.position

    def seek(self, position: int, /) -> int:
        """Read on to a position; there is no way back."""
        if position < self.position:
            raise self.budget.refused("expected members one after the other, found one that points back")
        while self.position < position and self.read(min(_PIECE, position - self.position)):
            pass
        return self.position
