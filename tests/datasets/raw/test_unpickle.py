"""The restricted unpickler: plain data comes through, arrays stay in the file,
and nothing is ever run.
"""

from __future__ import annotations

import builtins
import functools
import os
import pickle
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.errors import DataError
from datasets.raw import unpickle
from datasets.raw.unpickle import MOST_BYTES, StoredArray, load_plain

PROTOCOLS = (2, 3, 4, 5)


def pickled(folder: Path, content: Any, protocol: int = 4) -> Path:
    return written(folder, pickle.dumps(content, protocol))


def written(folder: Path, data: bytes) -> Path:
    path = folder / "made_up.pkl"
    path.write_bytes(data)
    return path


def refusal(path: Path) -> str:
    """The one-line message with which a file is refused, without its path."""
    with pytest.raises(DataError) as caught:
        load_plain(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def read(path: Path, array: StoredArray) -> np.ndarray:
    with path.open("rb") as file:
        return array.read(file)


# --- what comes through ---


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data(tmp_path: Path, protocol: int) -> None:
    content = {
        "none": None,
        "yes": True,
        "numbers": [0, -1, 255, 70_000, 2**40, -(2**100), 0.5],
        "text": "Ä" * 300,
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "sets": {1, 2},
        "frozen": frozenset({3}),
        "ordered": OrderedDict(a=1),
        "many": list(range(3000)),
        "again": ["x" * 10] * 3,
    }
    assert load_plain(pickled(tmp_path, content, protocol)) == content


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "i8", "u2", "?"])
def test_arrays(tmp_path: Path, protocol: int, dtype: str) -> None:
    array = (np.random.default_rng(0).normal(size=(2, 7, 25, 3)) * 50).astype(dtype)
    path = pickled(tmp_path, [array, "after"], protocol)
    stored, after = load_plain(path)
    assert (stored.shape, after) == ((2, 7, 25, 3), "after")
    found = read(path, stored)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_in_other_orders(tmp_path: Path, protocol: int) -> None:
    array = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    variants = [
        array,
        np.asfortranarray(array),
        array.transpose(1, 0, 2),
        array[:, ::2],
        array[:0],
        array[0, 0, 0:1],
        np.full((), 3.0),
        np.broadcast_to(array[:1], (4, 3, 5)),
        np.repeat(array, 5000, axis=0),
    ]
    path = pickled(tmp_path, variants, protocol)
    for stored, variant in zip(load_plain(path), variants, strict=True):
        np.testing.assert_array_equal(read(path, stored), variant)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_both_spellings_of_numpy(tmp_path: Path, protocol: int) -> None:
    array = np.arange(6.0).reshape(2, 3)
    data = pickle.dumps([array, np.int64(7)], protocol)
    assert b"numpy._core" in data
    for module in (b"multiarray", b"numeric"):  # a length stands before the name from protocol 4 on
        new, old = b"numpy._core." + module, b"numpy.core." + module
        data = data.replace(bytes([len(new)]) + new, bytes([len(old)]) + old).replace(new, old)
    assert b"numpy._core" not in data
    path = written(tmp_path, data)
    stored, scalar = load_plain(path)
    np.testing.assert_array_equal(read(path, stored), array)
    assert scalar == 7


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_scalars_become_numbers(tmp_path: Path, protocol: int) -> None:
    scalars = [np.int64(-3), np.float32(0.5), np.float16(2), np.bool_(True), np.uint8(200)]
    found = load_plain(pickled(tmp_path, scalars, protocol))
    assert found == [-3, 0.5, 2, True, 200]
    assert [type(value) for value in found] == [int, float, float, bool, int]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_take_no_memory(tmp_path: Path, protocol: int) -> None:
    content = [
        {"name": f"clip {number}", "keypoint": np.full((1, 500, 25, 3), number, "f4")}
        for number in range(100)
    ]
    path = pickled(tmp_path, content, protocol)
    assert path.stat().st_size > 15e6
    del content
    tracemalloc.start()
    loaded = load_plain(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    np.testing.assert_array_equal(
        read(path, loaded[99]["keypoint"]), np.full((1, 500, 25, 3), 99, "f4")
    )


# --- what is refused ---


@pytest.mark.parametrize(
    "content", [{(1, 2): 3}, {frozenset([(1,)])}, frozenset([(1,)]), [{"a": 1, (2,): 3}]]
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_only_strings_and_numbers_are_hashed(tmp_path: Path, content: Any, protocol: int) -> None:
    message = refusal(pickled(tmp_path, content, protocol))
    assert message.startswith(
        "refused: the file wants to hash something else than a string or a number; only "
    )


class Runs:
    """Pickled as a call of a function, which an ordinary unpickler would make."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


class Plain:
    def __init__(self) -> None:
        self.a = 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "posix.system"),
        (builtins.eval, "builtins.eval"),
        (builtins.getattr, "builtins.getattr"),
        (builtins.bytearray, "builtins.bytearray"),
        (functools.partial, "functools.partial"),
        (np.load, "numpy.load"),
        (np.fromfile, "numpy.fromfile"),
        (np.zeros, "numpy.zeros"),
    ],
)
def test_calls_of_anything_else(
    tmp_path: Path, function: Callable[..., Any], name: str, protocol: int
) -> None:
    canary = tmp_path / "ran"
    data = pickle.dumps(
        {"annotations": Runs(function, f"touch {canary}")}, protocol, fix_imports=False
    )
    message = refusal(written(tmp_path, data))
    module, _, function_name = name.partition(".")
    assert message.startswith("refused: the file wants to import ")
    assert f".{function_name}; only plain containers" in message
    assert module in message or module == "numpy"
    assert not canary.exists()


def test_the_payload_of_these_tests_does_run_elsewhere(tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    path = pickled(tmp_path, Runs(os.system, f"touch {canary}"))
    with path.open("rb") as file:
        pickle.load(file)
    assert canary.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_of_a_class(tmp_path: Path, protocol: int) -> None:
    assert "the file wants to import " in refusal(pickled(tmp_path, [Plain()], protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_of_objects_and_of_text(tmp_path: Path, protocol: int) -> None:
    for array, code in ((np.array([Runs(os.system, "true")]), "O8"), (np.array(["ab"]), "U2")):
        message = refusal(pickled(tmp_path, [array], protocol))
        assert message.startswith(f"refused: the file wants to make arrays of type '{code}'; only ")


@pytest.mark.parametrize(
    ("data", "wish"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "import os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "import os.system"),
        (b"(S'true'\nios\nsystem\n.", "import os.system"),
        (b"(cos\nsystem\no.", "import os.system"),
        (b"\x80\x02cos\nsystem\n)\x81.", "import os.system"),
        (b"\x80\x04cos\nsystem\n)}\x92.", "import os.system"),
        (b"\x80\x02\x82\x01.", "use the registered extension 1"),
        (b"\x80\x02]}b.", "set the inside of a list"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "set the inside of a function"),
        (b"\x80\x02c__builtin__\nset\n)}\x86b.", "set the inside of a partial"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
            "encode text as 'rot13'",
        ),
        (
            b"\x80\x02cnumpy\ndtype\nX\x0b\x00\x00\x00os.system()\x85R.",
            "make arrays of type 'os.system()'",
        ),
        (b"\x80\x02cnumpy.core.multiarray\nfromfile\n.", "import numpy._core.multiarray.fromfile"),
        (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.", "import numpy.ndarray.__init__"),
    ],
)
def test_operations(tmp_path: Path, data: bytes, wish: str) -> None:
    assert refusal(written(tmp_path, data)).startswith(f"refused: the file wants to {wish}")


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]\x81.",  # a class that is a list
        b"\x80\x02(]o.",
        b"\x80\x02])R.",
        b"\x80\x02cnumpy\nndarray\n)\x81.",  # a class that is a function
        b"P1\n.",  # persistent objects
        b"\x80\x02K\x01Q.",
        b"\x80\x05\x97.",  # buffers from elsewhere
    ],
)
def test_what_nothing_can_be_made_of(tmp_path: Path, data: bytes) -> None:
    assert "found damage (" in refusal(written(tmp_path, data))


# --- what is damaged ---


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cuts_are_noticed(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps(
        {"split": {"a": ["b"]}, "annotations": [{"k": np.ones((1, 2, 3), "f4"), "n": 5}]}, protocol
    )
    for kept in range(0, len(data), 2):
        message = refusal(written(tmp_path, data[:kept]))
        assert message.startswith(("expected a whole pickle of plain data, found ", "refused: "))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_changed_bytes_give_plain_data_or_one_line(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps(
        [{"k": np.ones((1, 2, 3), "f4"), "n": np.int64(5), "t": ("x", 2.5)}], protocol
    )
    random = np.random.default_rng(0)
    for place in range(0, len(data), 2):
        changed = bytearray(data)
        changed[place] = random.integers(256)
        try:
            load_plain(written(tmp_path, bytes(changed)))
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017 - most changes are refused, some do no harm


def test_no_pickle_at_all(tmp_path: Path) -> None:
    for data in (b"", b"PK\x03\x04", b"hello world", np.random.default_rng(0).bytes(1000)):
        assert refusal(written(tmp_path, data))
    with pytest.raises(DataError, match=r"missing\.pkl: expected a whole pickle"):
        load_plain(tmp_path / "missing.pkl")


@pytest.mark.parametrize(
    "operation",
    [
        *(code + b"\xff\xff\xff\x7f" for code in (b"B", b"X", b"\x8b", b"T")),
        *(code + b"\xff" * 7 + b"\x7f" for code in (b"\x8e", b"\x96", b"\x8d")),
    ],
)
def test_lengths_that_lie_take_no_memory(tmp_path: Path, operation: bytes) -> None:
    tracemalloc.start()
    message = refusal(written(tmp_path, b"\x80\x04" + operation + b"abc."))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6 < MOST_BYTES
    assert "found damage (a piece of " in message


@pytest.mark.parametrize("put", [b"r\xff\xff\xff\x7f", b"p2147483647\n"])
def test_an_index_of_the_memo_takes_no_memory(tmp_path: Path, put: bytes) -> None:
    """The unpickler in C reserves as many places as the index says."""
    path = written(tmp_path, b"\x80\x02]" + put + b".")
    tracemalloc.start()
    assert load_plain(path) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_an_array_whose_bytes_do_not_fit_its_shape(tmp_path: Path) -> None:
    data = pickle.dumps(np.ones((3, 5), np.int8), 4)
    assert data.count(b"K\x03K\x05\x86") == 1
    message = refusal(written(tmp_path, data.replace(b"K\x03K\x05\x86", b"K\x03K\x06\x86")))
    assert "found damage (15 bytes for an array of <i1, shape [3, 6])" in message


@pytest.mark.parametrize(
    ("limit", "found"),
    [("_MOST_OBJECTS", "more than 50 objects"), ("_MOST_OPERATIONS", "more than 50 operations")],
)
def test_a_pickle_that_makes_more_than_any_data_set_needs_is_refused(
    limit: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpickle, limit, 50)
    path = tmp_path / "many.pkl"
    path.write_bytes(b"\x80\x04](" + 60 * b"}" + b"e.")
    with pytest.raises(DataError, match=rf"found damage \({found}\); copy or download it again"):
        load_plain(path)


def test_marks_are_counted_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte each in the file, and a list each in memory."""
    monkeypatch.setattr(unpickle, "_MOST_OBJECTS", 50)
    with pytest.raises(DataError, match="more than 50 objects"):
        load_plain(written(tmp_path, b"\x80\x04" + 60 * b"(" + b"."))


def test_the_order_of_an_array_means_what_numpy_takes_it_for(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5).transpose(1, 0, 2)
    data = pickle.dumps(array, 5)
    if data.count(b"\x8c\x01K") != 1:
        pytest.skip("this numpy writes no order K")
    for order in (b"C", b"F"):  # the order of the axes counts in order K alone
        changed = data.replace(b"\x8c\x01K", b"\x8c\x01" + order)
        path = written(tmp_path, changed)
        np.testing.assert_array_equal(read(path, load_plain(path)), pickle.loads(changed))
    assert "an array in order 'Q'" in refusal(
        written(tmp_path, data.replace(b"\x8c\x01K", b"\x8c\x01Q"))
    )
