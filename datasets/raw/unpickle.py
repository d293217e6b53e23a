"""Pickles of plain data, read without running anything in them and without holding their arrays in memory.

What a pickle may hold: None, truth values, numbers, strings, lists, tuples, dicts, sets, and numpy arrays and scalars
of numbers, written by Python 3 with protocol 2 to 5. An array is not read but becomes a `StoredArray` that says where
in the file its bytes lie: protocols 3 and later write them as they are, protocol 2 as UTF-8 of Latin-1. So a file of
many arrays takes the memory of their places.

The walking is left to Python's own unpickler written in Python (that in C keeps all bytes it ever read until the end).
Of its operations only those that plain data needs are there, and names stand for nothing but the few makers below.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.formats.kinds import FileKind, kind_of
from datasets.wording import one_line

MOST_BYTES = 64 * 2**20
"""Bytes of one array, string or number; no recorded clip comes near."""
MOST_OBJECTS, MOST_OPERATIONS = 3_000_000, 30_000_000
"""What NTU RGB+D 120 needs is a third of it; a pickle of a few MB can ask for any number."""
LONGEST_TEXT = 4096
"""Longer strings are taken for bytes that protocol 2 wrote as text, and left in the file."""
PLAIN_KEYS = (str, int, float, bool, type(None))
"""What may be a key of a dict or a member of a set."""
_NUMBERS = re.compile(r"[<>|=]?(f[248]|[iu][1248]|b1)")
_OPERATIONS = (
    "PROTO", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2",
    "LONG1", "LONG4", "BINFLOAT", "SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "EMPTY_SET",
    "GLOBAL", "STACK_GLOBAL", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "MEMOIZE",
)  # fmt: skip
"""What protocols 2 to 5 build plain data with, and is left to Python's own reader."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes left in the file; ``text``: they are UTF-8 of Latin-1 text that stands for the bytes."""

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
        axes: the array is its bytes in C order with the axes put in this order; empty for C order itself.
    """

    data: Stretch = Stretch(0, 0)
    dtype: str = "<f4"
    shape: tuple[int, ...] = (0,)
    axes: tuple[int, ...] = ()

    def read(self, file: BinaryIO) -> NDArray:
        """The array, from the open pickle. Raises `ValueError` when the bytes are not those of the array."""
        values = np.frombuffer(self.data.read(file), self.dtype)
        if not self.axes:
            return values.reshape(self.shape)
        stored = [0] * len(self.shape)
        for axis, size in zip(self.axes, self.shape, strict=True):
            stored[axis] = size
        return values.reshape(stored).transpose(self.axes)


def load_plain(path: Path) -> Any:
    """The content of a pickle, arrays as `StoredArray`.

    Raises:
        DataError: the file wants to import or do something else than plain data needs (nothing of it is run), or it is
            cut short or damaged.
    """
    try:
        with path.open("rb") as file:
            return _PlainUnpickler(path, _Source(file, path.stat().st_size)).load()
    except DataError:
        raise
    except Exception as error:  # a hostile file may set off anything, and none of it is of interest
        found, kind = one_line(error) or type(error).__name__, _other_kind(path)
        raise DataError(
            f"{path}: expected a whole pickle of plain data, "
            + (str(kind) if kind else f"found damage ({found}); copy or download it again")
        ) from error


def _other_kind(path: Path) -> FileKind | None:
    """What a file is that is no pickle, if anybody knows."""
    try:
        kind = kind_of(path)
    except OSError:
        return None
    return None if kind and kind.name == "a pickle" else kind


# --- what the makers that a pickle may name make ---


@dataclass(frozen=True, slots=True)
class _Maker:
    """What stands for an importable name; calling it is the unpickler's business alone."""

    make: Callable[..., Any]


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


def _empty_array(*_: object) -> StoredArray:
    return StoredArray()


def _dtype(code: str, *_: object) -> _Type:
    if not _NUMBERS.fullmatch(code):
        raise _Refused(f"make arrays of type {code!r}")
    return _Type(code.lstrip("<>|="), ">" if code.startswith(">") else "<")


def _array_of_buffer(
    data: Stretch, dtype: _Type, shape: Sequence[int], order: str, axes: Sequence[int] | None = None
) -> StoredArray:
    """Protocol 5's array; with order K, ``shape`` is that before its axes were put in the order ``axes``."""
    if order == "K" and axes is not None:
        return _filled(StoredArray(), data, dtype, [shape[axis] for axis in axes], tuple(axes))
    return _filled(StoredArray(), data, dtype, shape, _fortran_axes(shape) if order == "F" else ())


def _filled(
    array: StoredArray, data: Stretch, dtype: _Type, shape: Sequence[int], axes: tuple[int, ...]
) -> StoredArray:
    if not isinstance(data, Stretch) or not isinstance(dtype, _Type):
        raise ValueError("an array without its bytes")
    array.data, array.dtype, array.shape, array.axes = data, dtype.name, tuple(map(int, shape)), axes
    if not data.text and prod(array.shape) * np.dtype(array.dtype).itemsize != data.length:
        raise ValueError(f"{data.length:,} bytes for an array of {array.dtype}, shape {list(array.shape)}")
    return array


def _fortran_axes(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(range(len(shape)))[::-1]


def _bytes_of_text(text: _Text | Stretch, encoding: str) -> Stretch:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"encode text as {encoding!r}")
    return text if isinstance(text, Stretch) else text.stretch


def _plain_set(kind: Callable[..., Any]) -> Callable[..., Any]:
    """`set` or `frozenset` of plain members: hashing anything deeper may take for ever."""

    def make(members: Sequence[object] = ()) -> Any:
        if not all(isinstance(member, PLAIN_KEYS) for member in members):
            raise _Refused("hash something else than a string or a number")
        return kind(members)

    return make


def _ordered() -> OrderedDict[Any, Any]:
    return OrderedDict()


def _no_bytes() -> Stretch:
    return Stretch(0, 0)


_NUMPY: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "multiarray": {"_reconstruct": _empty_array},
    "numeric": {"_frombuffer": _array_of_buffer},
}
_MAKERS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _empty_array,
    ("numpy", "dtype"): _dtype,
    **{
        (f"numpy.{core}.{module}", name): maker
        for core in ("core", "_core")
        for module, makers in _NUMPY.items()
        for name, maker in makers.items()
    },
    ("_codecs", "encode"): _bytes_of_text,
    ("collections", "OrderedDict"): _ordered,
    **{(builtins, "bytes"): _no_bytes for builtins in ("builtins", "__builtin__")},
    **{(builtins, "set"): _plain_set(set) for builtins in ("builtins", "__builtin__")},
    **{(builtins, "frozenset"): _plain_set(frozenset) for builtins in ("builtins", "__builtin__")},
}
_CODES = {operation.name: ord(operation.code) for operation in pickletools.opcodes}
_SCALARS = {("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar")}


# --- the walk through the file ---


class _Refused(Exception):
    """What the file wants to do, in words."""


class _Source:
    """An open file that never hands out more than it has: a length that lies takes no memory."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.reads = file, size, 0

    def read(self, count: int) -> bytes:
        self.reads += 1
        if self.reads > MOST_OPERATIONS:
            raise ValueError(f"more than {MOST_OPERATIONS:,} operations")
        if count > MOST_BYTES:
            raise ValueError(f"a piece of {count:,} bytes")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline(LONGEST_TEXT)

    def skip(self, count: int) -> int:
        """Pass over ``count`` bytes; where they begin."""
        start = self.file.tell()
        if count > MOST_BYTES or start + count > self.size:
            raise ValueError(f"a piece of {count:,} bytes, {self.size - start:,} bytes before the end")
        self.file.seek(start + count)
        return start


class _PlainUnpickler(pickle._Unpickler):
    """The reader: frames are walked through, bytes passed over, everything but plain data refused."""

    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]

    def __init__(self, path: Path, source: _Source) -> None:
        super().__init__(source, fix_imports=False)
        self.path, self.source, self.made = path, source, 0

    def find_class(self, module: str, name: str) -> _Maker:
        """What stands for an importable name; nothing is imported."""
        if (module, name) in _SCALARS:
            return _Maker(self.scalar)
        if (module, name) not in _MAKERS:
            self.refuse(f"import {module}.{name}")
        return _Maker(_MAKERS[module, name])

    def scalar(self, dtype: _Type, data: Stretch) -> int | float | bool:
        """A numpy scalar, as the Python number."""
        place = self.source.file.tell()
        value = np.frombuffer(data.read(self.source.file), dtype.name)[0].item()
        self.source.file.seek(place)
        return value

    def refuse(self, wish: str) -> NoReturn:
        """Raise the error that says what the file wants to do."""
        raise DataError(
            f"{self.path}: refused: the file wants to {one_line(wish)[:200]}; only plain containers, strings, numbers "
            "and numpy arrays of numbers are read, and nothing in the file is run"
        )


def _frame(unpickler: _PlainUnpickler) -> None:
    """Pass over a frame's length; what is in it is read like anything else, so that places in the file are known."""
    unpickler.read(8)


def _reduce(unpickler: _PlainUnpickler) -> None:
    """Make an object, if what makes it came from `_PlainUnpickler.find_class`."""
    arguments, maker = unpickler.stack.pop(), unpickler.stack.pop()
    if not isinstance(maker, _Maker) or not isinstance(arguments, tuple):
        unpickler.refuse(f"call a {_kind(maker)}")
    try:
        unpickler.append(maker.make(*arguments))
    except _Refused as wish:
        unpickler.refuse(str(wish))


def _build(unpickler: _PlainUnpickler) -> None:
    """Fill in an array or a dtype."""
    state, target = unpickler.stack.pop(), unpickler.stack[-1]
    if isinstance(target, _Type):
        target.order = ">" if state[1] == ">" else "<"
    elif isinstance(target, StoredArray):
        _, shape, dtype, fortran_order, data = state
        _filled(target, data, dtype, shape, _fortran_axes(shape) if fortran_order else ())
    else:
        unpickler.refuse(f"set the inside of a {_kind(target)}")


def _kind(thing: object) -> str:
    return type(thing).__name__.strip("_").lower()


def _with_plain_keys(name: str, keys: Callable[[list[Any]], Sequence[object]]) -> Callable[[Any], None]:
    """Python's own operation, after a look at what it is going to hash."""
    operation: Callable[[Any], None] = pickle._Unpickler.dispatch[_CODES[name]]

    def load(unpickler: _PlainUnpickler) -> None:
        if not all(isinstance(key, PLAIN_KEYS) for key in keys(unpickler.stack)):
            unpickler.refuse("hash something else than a string or a number")
        operation(unpickler)

    return load


def _bytes_at(form: str) -> Callable[[Any], None]:
    """Pass over bytes whose length is written as ``form`` (of `struct`)."""

    def load(unpickler: _PlainUnpickler) -> None:
        (length,) = struct.unpack(form, unpickler.read(struct.calcsize(form)))
        unpickler.append(Stretch(unpickler.source.skip(length), length))

    return load


def _text_at(form: str) -> Callable[[Any], None]:
    """Read text likewise, or pass over it when it is long."""

    def load(unpickler: _PlainUnpickler) -> None:
        (length,) = struct.unpack(form, unpickler.read(struct.calcsize(form)))
        if length > LONGEST_TEXT:
            unpickler.append(Stretch(unpickler.source.skip(length), length, text=True))
            return
        stretch = Stretch(unpickler.source.file.tell(), length, text=True)
        text = _Text(unpickler.read(length).decode("utf-8", "surrogatepass"))
        text.stretch = stretch
        unpickler.append(text)

    return load


def _refused(name: str) -> Callable[[Any], None]:
    return lambda unpickler: unpickler.refuse(f"do {name}, which plain data does not need")


_DISPATCH: dict[int, Callable[[Any], None]] = {
    **{code: _refused(name) for name, code in _CODES.items()},
    **{_CODES[name]: pickle._Unpickler.dispatch[_CODES[name]] for name in _OPERATIONS},
    _CODES["SETITEM"]: _with_plain_keys("SETITEM", lambda stack: stack[-2:-1]),
    _CODES["SETITEMS"]: _with_plain_keys("SETITEMS", lambda stack: stack[::2]),
    _CODES["ADDITEMS"]: _with_plain_keys("ADDITEMS", lambda stack: stack),
    _CODES["FROZENSET"]: _with_plain_keys("FROZENSET", lambda stack: stack),
    _CODES["FRAME"]: _frame,
    _CODES["REDUCE"]: _reduce,
    _CODES["BUILD"]: _build,
    _CODES["SHORT_BINBYTES"]: _bytes_at("<B"),
    _CODES["BINBYTES"]: _bytes_at("<I"),
    _CODES["BINBYTES8"]: _bytes_at("<Q"),
    _CODES["BYTEARRAY8"]: _bytes_at("<Q"),
    _CODES["BINUNICODE"]: _text_at("<I"),
    _CODES["BINUNICODE8"]: _text_at("<Q"),
}


def _counted(operation: Callable[[Any], None]) -> Callable[[Any], None]:
    """The operation, one object more."""

    def load(unpickler: _PlainUnpickler) -> None:
        unpickler.made += 1
        if unpickler.made > MOST_OBJECTS:
            raise ValueError(f"more than {MOST_OBJECTS:,} objects")
        operation(unpickler)

    return load


_MAKING = (
    "EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET", "FROZENSET", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "REDUCE", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
    "LONG1", "LONG4", "BINFLOAT",
)  # fmt: skip
"""Operations that make an object."""
_PlainUnpickler.dispatch = _DISPATCH | {_CODES[name]: _counted(_DISPATCH[_CODES[name]]) for name in _MAKING}
