"""Pickles of plain data, read without running anything in them and without holding their arrays in
memory.

Python's unpickler in Python reads; the names in a file stand for the makers in `_MAKERS` alone:
numpy arrays and scalars of numbers, dicts, sets and bytes. (That in C can be made to reserve
gigabytes by an index of its memo.)

Bytes, and long texts, in which protocol 2 keeps bytes, are passed over, and an array becomes a
`StoredArray` that says where in the file they lie: a file of many arrays takes the memory of their
places.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.formats.kinds import kind_of
from datasets.wording import one_line

MOST_BYTES = 64 * 2**20
"""Bytes of one array; no recorded clip comes near."""
_LONGEST_TEXT = 4096
"""Longer strings are taken for bytes that protocol 2 wrote as text, and left in the file."""
_LARGEST_READ = 2**20
_MOST_OBJECTS, _MOST_OPERATIONS = 4_000_000, 30_000_000
"""Some twice what NTU RGB+D 120 needs; a pickle of a few MB can ask for any number."""
_NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes left in the file; ``text``: they are UTF-8 of Latin-1 text that stands
    for the bytes.
    """

    offset: int
    length: int
    text: bool = False

    def read(self, file: BinaryIO) -> bytes:
        """The bytes themselves; fewer when the file has changed."""
        file.seek(self.offset)
        raw = file.read(self.length)
        return raw.decode("utf-8").encode("latin-1") if self.text else raw


@dataclass(slots=True, eq=False)
class StoredArray:
    """A numpy array left in the file.

    Attributes:
        data: where its bytes are.
        dtype: e.g. ``"<f4"``.
        shape: of the array.
        axes: the array is its bytes in C order with the axes put in this order; empty for C order
            itself.
    """

    data: Stretch = Stretch(0, 0)
    dtype: str = "<f4"
    shape: tuple[int, ...] = (0,)
    axes: tuple[int, ...] = ()

    def read(self, file: BinaryIO) -> NDArray:
        """The array, from the open pickle. Raises `ValueError` when the bytes are not those
        of the array.
        """
        values = np.frombuffer(self.data.read(file), self.dtype)
        axes = self.axes or range(len(self.shape))
        stored = [self.shape[axis] for axis in np.argsort(axes)]
        return values.reshape(stored).transpose(axes)


def load_plain(path: Path) -> Any:
    """The content of a pickle, arrays as `StoredArray`.

    Raises:
        DataError: the file wants to import or do something else than plain data needs (nothing of
            it is run), or it is cut short or damaged.
    """
    try:
        with _File(io.FileIO(path)) as file:
            return _PlainUnpickler(file).load()
    except _Refused as wish:
        raise DataError(
            f"{path}: refused: the file wants to {one_line(wish)[:200]}; only plain containers,"
            " strings, numbers and numpy arrays of numbers are read, and nothing in the file"
            " is run"
        ) from None
    except Exception as error:  # a hostile file may set off anything, and none of it is of interest
        kind = kind_of(path) if path.is_file() else None
        damage = (
            f"found damage ({one_line(error) or type(error).__name__}); copy or download it again"
        )
        found = kind if kind and kind.name != "a pickle" else damage
        raise DataError(f"{path}: expected a whole pickle of plain data, {found}") from error


class _Refused(Exception):
    """What the file wants to do, in words."""


class _File(io.BufferedReader):
    """A file that never hands out much at once, for a length that lies takes memory,
    and not without end.
    """

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MOST_OPERATIONS:
            raise ValueError(f"more than {_MOST_OPERATIONS:,} operations")
        if size is None or size > _LARGEST_READ:
            raise ValueError(f"a piece of {size:,} bytes")
        return super().read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        return super().readline(_LONGEST_TEXT)


class _PlainUnpickler(pickle._Unpickler):
    """Python's reader with other makers, and with bytes passed over."""

    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]

    def __init__(self, file: _File) -> None:
        super().__init__(file)
        self.file, self.made = file, 0

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """What stands for an importable name; nothing is imported."""
        module = module.replace("numpy.core", "numpy._core").replace("__builtin__", "builtins")
        if (module, name) == ("numpy._core.multiarray", "scalar"):
            return self._scalar
        if (module, name) not in _MAKERS:
            raise _Refused(f"import {module}.{name}")
        return _MAKERS[module, name]

    def get_extension(self, code: int) -> None:
        """No object of this process's own registry of extensions."""
        raise _Refused(f"use the registered extension {code}")

    def _scalar(self, dtype: _Type, data: Stretch) -> int | float | bool:
        """A numpy scalar, as the Python number."""
        place = self.file.tell()
        value = np.frombuffer(data.read(self.file), dtype.name)[0].item()
        self.file.seek(place)
        return value

    def _skip(self, length: int, text: bool = False) -> Stretch:
        if length > MOST_BYTES:
            raise ValueError(f"a piece of {length:,} bytes")
        return Stretch(self.file.seek(length, os.SEEK_CUR) - length, length, text)

    def _bytes(self, form: str) -> None:
        """Pass over bytes whose length is written as ``form`` (of `struct`)."""
        self.append(self._skip(*struct.unpack(form, self.read(struct.calcsize(form)))))

    def _text(self, form: str) -> None:
        """Read text likewise, or pass over it when it is long."""
        (length,) = struct.unpack(form, self.read(struct.calcsize(form)))
        stretch = self._skip(length, text=True)
        if length > _LONGEST_TEXT:
            self.append(stretch)
            return
        self.file.seek(stretch.offset)
        text = _Text(self.read(length), "utf-8", "surrogatepass")
        text.stretch = stretch
        self.append(text)

    def _build(self) -> None:
        """Fill in an array or a dtype, and nothing else: a file must not set attributes."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, _Type):
            target.order = ">" if state[1] == ">" else "<"
        elif isinstance(target, StoredArray):
            _, shape, dtype, fortran_order, data = state
            _fill(target, data, dtype, shape, "F" if fortran_order else "C")
        else:
            raise _Refused(f"set the inside of a {type(target).__name__}")


# --- what a pickle may make ---


@dataclass(slots=True, eq=False)
class _Type:
    """A numpy dtype in the making."""

    code: str
    order: str = "<"

    @property
    def name(self) -> str:
        return self.order + self.code


class _Text(str):
    """A string that remembers where in the file it stands, for protocol 2 writes bytes as text."""

    __slots__ = ("stretch",)
    stretch: Stretch


def _fill(
    array: StoredArray,
    data: Stretch,
    dtype: _Type,
    shape: Sequence[int],
    order: str,
    axes: Sequence[int] = (),
) -> StoredArray:
    """Say where an array's bytes are; in order K,
    ``shape`` is that before the axes were put in their order.
    """
    if order not in ("C", "F", "K"):
        raise ValueError(f"an array in order {order!r}")
    if order == "F":
        axes, shape = range(len(shape))[::-1], shape[::-1]
    elif order == "C":
        axes = ()
    array.data, array.dtype, array.axes = data, dtype.name, tuple(map(int, axes or ()))
    array.shape = tuple(int(shape[axis]) for axis in array.axes or range(len(shape)))
    if array.axes and sorted(array.axes) != list(range(len(shape))):
        raise ValueError(f"axes {list(array.axes)} of an array")
    if not data.text and prod(array.shape) * np.dtype(array.dtype).itemsize != data.length:
        raise ValueError(
            f"{data.length:,} bytes for an array of {array.dtype}, shape {list(array.shape)}"
        )
    return array


def _dtype(code: str, *_: object) -> _Type:
    if not _NUMBERS.fullmatch(code):
        raise _Refused(f"make arrays of type {code!r}")
    return _Type(code.lstrip("<>|="), ">" if code.startswith(">") else "<")


def _bytes_of_text(text: _Text | Stretch, encoding: str) -> Stretch:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"encode text as {encoding!r}")
    return text if isinstance(text, Stretch) else text.stretch


def _hashable(keys: Iterable[object]) -> None:
    """Refuse to hash anything deeper than strings and numbers: it may take for ever."""
    if not all(isinstance(key, str | int | float | None) for key in keys):
        raise _Refused("hash something else than a string or a number")


def _set(kind: Callable[..., Any], members: Sequence[object] = ()) -> Any:
    _hashable(members)
    return kind(members)


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): lambda *_: StoredArray(),  # an argument of the next one
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: StoredArray(),
    ("numpy._core.numeric", "_frombuffer"): lambda *arguments: _fill(
        StoredArray(), *arguments
    ),  # protocol 5's
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _bytes_of_text,
    ("builtins", "bytes"): lambda: Stretch(0, 0),
    ("builtins", "set"): partial(_set, set),
    ("builtins", "frozenset"): partial(_set, frozenset),
    ("collections", "OrderedDict"): lambda: OrderedDict(),  # noqa: PLW0108 - without arguments: keys come by SETITEMS
}


# --- operations that are done otherwise ---


def _after_a_look(
    operation: bytes, keys: Callable[[list[Any]], Iterable[object]]
) -> Callable[[Any], None]:
    """Python's own operation, after a look at what it is going to hash."""
    plain: Callable[[Any], None] = pickle._Unpickler.dispatch[operation[0]]

    def load(unpickler: _PlainUnpickler) -> None:
        _hashable(keys(unpickler.stack))
        plain(unpickler)

    return load


_OTHERWISE: dict[bytes, Callable[[Any], None]] = {
    pickle.FRAME: lambda unpickler: unpickler.read(
        8
    ),  # read on from the file, so that places in it are known
    pickle.BUILD: _PlainUnpickler._build,
    pickle.SETITEM: _after_a_look(pickle.SETITEM, lambda stack: stack[-2:-1]),
    pickle.SETITEMS: _after_a_look(pickle.SETITEMS, lambda stack: stack[::2]),
    pickle.ADDITEMS: _after_a_look(pickle.ADDITEMS, lambda stack: stack),
    pickle.FROZENSET: _after_a_look(pickle.FROZENSET, lambda stack: stack),
    pickle.SHORT_BINBYTES: lambda unpickler: unpickler._bytes("<B"),
    pickle.BINBYTES: lambda unpickler: unpickler._bytes("<I"),
    pickle.BINBYTES8: lambda unpickler: unpickler._bytes("<Q"),
    pickle.BYTEARRAY8: lambda unpickler: unpickler._bytes("<Q"),
    pickle.BINUNICODE: lambda unpickler: unpickler._text("<I"),
    pickle.BINUNICODE8: lambda unpickler: unpickler._text("<Q"),
}
_FREE = (
    pickle.PROTO,
    pickle.FRAME,
    pickle.STOP,
    pickle.POP,
    pickle.POP_MARK,
    pickle.GET,
    pickle.BINGET,
    pickle.LONG_BINGET,
    pickle.GLOBAL,
    pickle.STACK_GLOBAL,
    pickle.NONE,
    pickle.NEWTRUE,
    pickle.NEWFALSE,
    pickle.BININT1,
    pickle.APPEND,
    pickle.APPENDS,
    pickle.SETITEM,
    pickle.SETITEMS,
    pickle.ADDITEMS,
    pickle.BUILD,
)
"""All others make an object, a stack or an entry in the memo."""


def _counted(operation: Callable[[Any], None]) -> Callable[[Any], None]:
    def load(unpickler: _PlainUnpickler) -> None:
        unpickler.made += 1
        if unpickler.made > _MOST_OBJECTS:
            raise ValueError(f"more than {_MOST_OBJECTS:,} objects")
        operation(unpickler)

    return load


_DISPATCH = pickle._Unpickler.dispatch | {code[0]: load for code, load in _OTHERWISE.items()}
_PlainUnpickler.dispatch = {
    code: load if bytes([code]) in _FREE else _counted(load) for code, load in _DISPATCH.items()
}
