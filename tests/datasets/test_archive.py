"""`.npz` files made to harm: headers that are cut or lie, text that is none, and bombs;
each is one line, soon.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.formats.archive import open_archive
from datasets.formats.npz import read_npz
from tests.datasets.made_up import exchange_arrays


def npy_bytes(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """A ``.npy`` of this header text, whatever it says."""
    text = header.encode("latin-1") + b"\n"
    length = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + text + data


def header(descr: str, shape: str) -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def whole(values: NDArray) -> bytes:
    stream = io.BytesIO()
    npy.write_array(stream, values)
    return stream.getvalue()


def npz(folder: Path, **members: bytes) -> Path:
    """A valid file of the exchange format, some of its members replaced by these bytes,
    all packed.
    """
    path = folder / "own.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, values in exchange_arrays().items():
            if name not in members:
                file.writestr(f"{name}.npy", whole(values))
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_npz(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), } '''",
        "(" * 900,
        "{'descr': '<f4'}",
        "{'descr': [('a', '<f4', (2,",
        "[]",
        "",
        "\x00",
        "{" + "'a': 1, " * 1000,
        header("'<f4'", "(3.5,)"),
        header("'<f4'", "(-1, -4)"),
        header("'<x9'", "(3,)"),
        header("'<f4'", "3"),
        header("[('a', '<f4'), ('a', '<f4')]", "(3,)"),
        header("'<f4'", "(99999999999999999999,)"),
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_a_header_that_is_cut_or_lies_is_one_line(
    text: str, version: tuple[int, int], tmp_path: Path
) -> None:
    assert refusal(npz(tmp_path, label=npy_bytes(text, b"\x00" * 12, version))).startswith(
        "label: "
    )


@pytest.mark.parametrize("number", [0x110000, 0xFFFFFFFF, 0xD800])
@pytest.mark.parametrize("order", ["<", ">"])
def test_text_of_numbers_that_are_no_letters_is_refused(
    number: int, order: str, tmp_path: Path
) -> None:
    letters = np.array([[119, 97], [98, number]], np.dtype(np.uint32).newbyteorder(order))
    path = npz(tmp_path, class_names=npy_bytes(header(f"'{order}U2'", "(2,)"), letters.tobytes()))
    assert (
        refusal(path)
        == f"class_names: expected text, found the number {number:#x}, which is no letter; the file"
        " is damaged, copy it again or write it anew"
    )


def test_a_packed_column_that_unpacks_to_a_thousand_times_its_size_is_refused_unread(
    tmp_path: Path,
) -> None:
    path = npz(tmp_path, names=npy_bytes(header("'<U4000000'", "(6,)"), bytes(96_000_000)))
    assert path.stat().st_size < 200_000
    found = refusal(path)
    assert found.startswith(
        "names: expected at most 100 times its packed size, found 96,000,000 bytes in "
    )
    assert found.endswith(
        "(a decompression bomb?); if it is honest, store it uncompressed (numpy.savez)"
    )


def test_a_column_of_endless_texts_is_refused_unread(tmp_path: Path) -> None:
    path = npz(tmp_path, names=npy_bytes(header("'<U1000000'", "(6,)"), bytes(24_000_000)))
    with open_archive(path) as opened, pytest.raises(DataError) as caught:
        opened.read("names", most=2_000_000)
    assert (
        str(caught.value)
        == f"{path}: names: expected at most 2,000,000 bytes, found 24,000,000, <U1000000 of shape"
        " [6]; shorten the texts or leave the array out"
    )


def test_values_that_take_no_bytes_are_refused_in_any_number(tmp_path: Path) -> None:
    path = npz(tmp_path, names=npy_bytes(header("'<U0'", "(1000000000000,)")))
    assert (
        refusal(path)
        == "names: expected values, found 1,000,000,000,000 empty ones; write the file anew"
    )


def test_more_arrays_than_a_data_set_has_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as file:
        for number in range(1_001):
            file.writestr(f"a{number}.npy", b"")
    assert (
        refusal(tmp_path / "own.npz")
        == "expected at most 1,000 arrays, found 1,001; leave some out"
    )


def test_more_joints_than_a_body_has_are_refused(tmp_path: Path) -> None:
    path = npz(tmp_path, joints=whole(np.zeros((15, 1, 1_001, 3), np.float32)))
    assert refusal(path).startswith(
        "joints: expected at most 1,000 joints, found 1,001 in shape [15, 1, 1001, 3]; leave"
    )


def test_too_little_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(npy, "read_array", fail)
    with (
        open_archive(npz(tmp_path)) as opened,
        pytest.raises(DataError, match="label: not enough memory to read it"),
    ):
        opened.read("label")
