"""The arrays of a ``.npz`` file, read without trusting it.

Nothing is unpickled, sizes are checked against the headers before anything is read, what no honest
array of its packed size holds is refused before it is unpacked, and an array that is too big for
the memory is mapped from disk.
"""

from __future__ import annotations

import hashlib
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.files import CACHE_VARIABLE, atomic_file, cache_dir, file_version
from datasets.formats.kinds import found_instead
from datasets.wording import listed, nearest, one_line

_COPY_BYTES = 16 * 2**20
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_MOST_ARRAYS = 1_000
"""Arrays of a file."""
_MOST_COLUMN_BYTES = 256 * 2**20
"""Bytes of an array other than of frames; the names of NTU RGB+D 120's clips take 9 MB."""
_MOST_RATIO, _FREE_BYTES = 100, 64 * 2**20
"""Times its packed size that an array may have, from so many bytes on;
a bomb has a thousand times and more.
"""
_LAST_LETTER, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)


@dataclass(frozen=True)
class Member:
    """One array of an archive, as its header describes it;
    ``start`` is the header's length in bytes.
    """

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    start: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array itself."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Archive:
    """An open ``.npz`` file: its path, the zip, and the arrays in it by name."""

    path: Path
    zip: zipfile.ZipFile
    members: dict[str, Member]

    def read(self, name: str, most: int = _MOST_COLUMN_BYTES) -> NDArray:
        """The whole array, in C order, of at most so many bytes.
        Raises `DataError` when its bytes are damaged.
        """
        member = self.members[name]
        if member.nbytes > most:
            raise DataError(
                f"{self.path}: {name}: expected at most {most:,} bytes, found {member.nbytes:,},"
                f" {member.dtype} of shape {list(member.shape)}; shorten the texts or leave the"
                " array out"
            )
        with _explained(self.path, name), self.zip.open(member.info) as file:
            values = np.ascontiguousarray(npy.read_array(file, allow_pickle=False)).reshape(
                member.shape
            )
        _check_letters(self.path, name, values)
        return values

    def map(self, name: str) -> NDArray:
        """The floating-point array as a read-only memory map; float64 becomes float32.

        Mapped in place when it is stored uncompressed, otherwise from a copy that is made once, in
        pieces, in the cache folder. Raises `DataError` when it is damaged or the copy cannot be
        written.
        """
        member = self.members[name]
        in_place = member.info.compress_type == zipfile.ZIP_STORED and member.dtype == _mapped(
            member.dtype
        )
        with _explained(self.path, name):
            if in_place:
                order = "F" if member.fortran_order else "C"
                start = _data_start(self.path, member)
                return np.memmap(self.path, member.dtype, "r", start, member.shape, order)  # type: ignore[call-overload]
            return np.load(self._copy(name, member), mmap_mode="r", allow_pickle=False)

    def _copy(self, name: str, member: Member) -> Path:
        """The array as a ``.npy`` file in the cache, named after the archive's path and version."""
        version = f"{self.path.resolve()} {file_version(self.path)}"
        place = hashlib.sha256(version.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        try:
            target = cache_dir() / f"{name}-{place}.npy"
            if not target.exists():
                with atomic_file(target) as out, self.zip.open(member.info) as file:
                    _stream(file, member, out)
        except OSError as error:
            raise DataError(
                f"{self.path}: {name}: expected room for a copy of {member.nbytes:,} bytes in the"
                f" cache, found {one_line(error)}; set {CACHE_VARIABLE} to a folder on a larger"
                " disk"
            ) from error
        return target


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open a ``.npz`` file and read the headers of all its arrays, not their contents.

    Raises:
        DataError: the file is missing, not a zip, cut short, damaged, or holds pickled objects.
    """
    _check_is_zip(path)
    with _explained(path):
        opened = zipfile.ZipFile(path)
    with opened:
        infos = {
            i.filename.removesuffix(".npy"): i
            for i in opened.infolist()
            if i.filename.endswith(".npy")
        }
        if not infos:
            raise DataError(
                f"{path}: expected a .npz file (a zip of arrays), {found_instead(path)}"
            )
        if len(infos) > _MOST_ARRAYS:
            raise DataError(
                f"{path}: expected at most {_MOST_ARRAYS:,} arrays, found {len(infos):,}; leave"
                " some out"
            )
        yield Archive(
            path, opened, {name: _header(path, opened, name, info) for name, info in infos.items()}
        )


def _check_is_zip(path: Path) -> None:
    if not path.is_file():
        if path.exists() and not path.is_dir():
            file_version(path, "name an .npz file")  # a pipe, say
        raise DataError(_missing(path))
    with _explained(path), path.open("rb") as file:
        start = file.read(4)
    if start not in _ZIP_STARTS:
        step = "write it with datasets.formats.npz.write_npz or numpy.savez"
        raise DataError(
            f"{path}: expected a .npz file (a zip of arrays), {found_instead(path, step)}"
        )
    if not zipfile.is_zipfile(path):
        raise DataError(
            f"{path}: expected a whole .npz file, found one that is cut short (no zip directory at"
            " its end); copy or download it again"
        )


def _missing(path: Path) -> str:
    if path.is_dir():
        return (
            f"{path}: expected a .npz file, found a folder; name one of its files:"
            f" {_npz_names(path)}"
        )
    if not path.parent.is_dir():
        return f"{path}: expected a .npz file, found no folder {str(path.parent)!r}; check the path"
    names = [entry.name for entry in path.parent.glob("*.npz")]
    hint = (
        nearest(path.name, names) or f"that folder has these .npz files: {_npz_names(path.parent)}"
    )
    return f"{path}: expected a .npz file, found no such file; {hint}".strip()


def _npz_names(folder: Path) -> str:
    return listed(sorted(entry.name for entry in folder.glob("*.npz")))


@contextmanager
def _explained(path: Path, name: str = "") -> Iterator[None]:
    """Turn what zip and array readers raise on damaged input into one `DataError`."""
    try:
        yield
    except DataError:
        raise
    except MemoryError:
        raise DataError(
            f"{path}: {name or 'file'}: not enough memory to read it; leave it out or cut it up"
        ) from None
    except Exception as error:  # zip and array readers let out nearly anything on a hostile file
        what = f"{path}: {name}" if name else str(path)
        found = one_line(error) or type(error).__name__
        raise DataError(
            f"{what}: expected a readable array, found damage ({found}); copy it again or write it"
            " anew"
        ) from error


def _header(path: Path, opened: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Member:
    with _explained(path, name), opened.open(info) as file:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = read(file)
        member = Member(info, shape, fortran_order, dtype, file.tell())
    if dtype.hasobject:
        raise DataError(
            f"{path}: {name}: expected numbers or strings, found pickled Python objects, which are"
            " never unpickled; save it with a plain dtype such as int64, float32 or str"
        )
    if min(shape, default=0) < 0 or member.start + member.nbytes != info.file_size:
        raise DataError(
            f"{path}: {name}: expected {member.nbytes:,} bytes for shape {list(shape)}, "
            f"found {info.file_size - member.start:,}; write the file anew"
        )
    if prod(shape) > max(
        member.nbytes, _FREE_BYTES // 64
    ):  # of values that take no bytes there may be any number
        raise DataError(
            f"{path}: {name}: expected values, found {prod(shape):,} empty ones; write the file"
            " anew"
        )
    if member.nbytes > max(_FREE_BYTES, _MOST_RATIO * info.compress_size):
        raise DataError(
            f"{path}: {name}: expected at most {_MOST_RATIO} times its packed size, found"
            f" {member.nbytes:,} bytes in {info.compress_size:,} (a decompression bomb?); if it is"
            " honest, store it uncompressed (numpy.savez)"
        )
    return member


def _check_letters(path: Path, name: str, values: NDArray) -> None:
    """Refuse text with numbers that stand for no letter;
    Python stops at them whenever the text is looked at.
    """
    if values.dtype.kind != "U" or not values.size or not values.dtype.itemsize:
        return
    letters = np.ascontiguousarray(values).reshape(-1).view(values.dtype.str[0] + "u4")
    first, last = _SURROGATES
    wrong = (letters > _LAST_LETTER) | ((letters >= first) & (letters <= last))
    if wrong.any():
        found = int(letters[wrong.argmax()])
        raise DataError(
            f"{path}: {name}: expected text, found the number {found:#x}, which is no letter; the"
            " file is damaged, copy it again or write it anew"
        )


def _mapped(dtype: np.dtype) -> np.dtype:
    """The native floating-point type that an array of ``dtype`` is mapped as."""
    return np.dtype(np.float16 if dtype.itemsize == 2 else np.float32)


def _data_start(path: Path, member: Member) -> int:
    """Where a stored array's first value stands in the file,
    in bytes (zip's local header is 30 + n + m).
    """
    with path.open("rb") as file:
        file.seek(member.info.header_offset)
        name_length, extra_length = struct.unpack("<26x2H", file.read(30))
    return member.info.header_offset + 30 + name_length + extra_length + member.start


def _stream(file: IO[bytes], member: Member, out: IO[bytes]) -> None:
    dtype = _mapped(member.dtype)
    header = {
        "descr": npy.dtype_to_descr(dtype),
        "fortran_order": member.fortran_order,
        "shape": member.shape,
    }
    npy.write_array_header_1_0(out, header)
    file.read(member.start)
    while piece := file.read(_COPY_BYTES // member.dtype.itemsize * member.dtype.itemsize):
        with np.errstate(over="ignore"):  # what overflows becomes infinite, and the checks name it
            out.write(np.frombuffer(piece, member.dtype).astype(dtype).tobytes())
