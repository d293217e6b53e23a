"""Downloads from a server on loopback: whole, broken off, changed, refused, first seen;
and where data comes from.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import socket
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pooch
import pytest

from datasets import origins
from datasets.errors import DataError
from datasets.origins import ORIGINS, RemoteFile, how_to_get
from datasets.origins.download import _Getter, download, fetch
from datasets.raw import SOURCES

OLD = bytes(range(251)) * 4000  # 1,004,000 bytes, some pieces
NEW = OLD[::-1]
HALF = 400_000


def sha256(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()


@dataclass
class Shelf:
    """What the server has and how it behaves; ``asked`` holds the headers of every request.

    Attributes:
        cut: after how many bytes to hang up; None: not at all.
        status: of the answers.
        onward: where to send whoever asks.
        tell_length: the length stands in the answer.
    """

    address: str
    contents: bytes = OLD
    cut: int | None = None
    status: int = 200
    onward: str = ""
    tell_length: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        shelf: Shelf = self.server.shelf
        shelf.asked.append({name.lower(): value for name, value in self.headers.items()})
        if shelf.status >= 400:
            self.send_error(shelf.status)
            return
        self.send_response(shelf.status)
        if shelf.onward:
            self.send_header("Location", shelf.onward)
        if shelf.tell_length:
            self.send_header("Content-Length", str(len(shelf.contents)))
        self.end_headers()
        self.wfile.write(shelf.contents[: shelf.cut])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.shelf = Shelf(f"http://127.0.0.1:{server.server_port}/data.bin")  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.shelf  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach the outside, and no proxy may be asked."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def remote(shelf: Shelf, contents: bytes | None = OLD) -> RemoteFile:
    return RemoteFile("data.bin", shelf.address, None if contents is None else sha256(contents))


def get(file: RemoteFile, folder: Path, **more: Any) -> bytes:
    return download(file, folder, **more).read_bytes()


def refusal(file: RemoteFile, folder: Path, **more: Any) -> str:
    """The one line with which a download ends; nothing of it may be there afterwards."""
    before = names(folder) - {file.name}
    with pytest.raises(DataError) as caught:
        get(file, folder, **more)
    assert names(folder) - {file.name} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


# --- a whole file ---


def test_a_whole_file(shelf: Shelf, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    said: list[str] = []
    out = tmp_path / "made"
    assert get(remote(shelf), out, advance=lambda *seen: told.append(seen), say=said.append) == OLD
    assert names(out) == {"data.bin"}
    assert told == sorted(told)
    assert (len(told) > 3, told[-1]) == (True, (len(OLD), len(OLD)))
    assert said == []
    assert shelf.asked[0]["accept-encoding"] == "identity"


def test_pooch_says_nothing_of_its_own(shelf: Shelf, tmp_path: Path) -> None:
    heard, logger = io.StringIO(), pooch.get_logger()
    listener = logging.StreamHandler(heard)
    logger.addHandler(listener)
    get(remote(shelf), tmp_path)
    assert heard.getvalue() == ""
    logger.removeHandler(listener)


def test_a_file_that_is_there_is_not_asked_for_again(shelf: Shelf, tmp_path: Path) -> None:
    get(remote(shelf), tmp_path)
    get(remote(shelf), tmp_path)
    assert len(shelf.asked) == 1


def test_another_file_in_its_place_is_replaced(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(NEW)
    assert get(remote(shelf), tmp_path) == OLD


def test_a_server_that_does_not_tell_the_length(shelf: Shelf, tmp_path: Path) -> None:
    shelf.tell_length = False
    told: list[tuple[int, int]] = []
    assert get(remote(shelf), tmp_path, advance=lambda *seen: told.append(seen)) == OLD
    assert told == sorted(told)
    assert {total for _, total in told} == {0}


# --- what does not work ---


def test_a_file_that_breaks_off_leaves_nothing_and_begins_anew(
    shelf: Shelf, tmp_path: Path
) -> None:
    shelf.cut = HALF
    message = refusal(remote(shelf, None), tmp_path)
    assert message.startswith(
        f"{shelf.address}: expected to save it as {tmp_path / 'data.bin'}, found "
    )
    assert message.endswith("; check the network, the address and the folder")
    assert names(tmp_path) == set()
    shelf.cut = None
    assert get(remote(shelf, None), tmp_path) == OLD


def test_another_checksum_names_both_and_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    message = refusal(remote(shelf, NEW), tmp_path)
    assert message.startswith(f"{shelf.address}: ")
    assert sha256(NEW) in message
    assert sha256(OLD) in message
    assert names(tmp_path) == set()


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_refusal_is_told_with_its_number(shelf: Shelf, tmp_path: Path, status: int) -> None:
    shelf.status = status
    assert f"found {status} " in refusal(remote(shelf, None), tmp_path)
    assert (len(shelf.asked), names(tmp_path)) == (1, set())


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        port = taken.getsockname()[1]
        message = refusal(RemoteFile("data.bin", f"http://127.0.0.1:{port}/"), tmp_path)
    assert "check the network" in message


@pytest.mark.parametrize(
    "page", [b"<!DOCTYPE html><html>quota exceeded", b"\n<html><body>log in", b""]
)
def test_a_web_page_instead_of_the_file_is_neither_kept_nor_trusted(
    shelf: Shelf, tmp_path: Path, page: bytes
) -> None:
    shelf.contents = page
    found = "a web page" if page else "an empty file"
    assert f"{shelf.address}: expected the file, found {found}" in refusal(
        remote(shelf, None), tmp_path
    )
    assert names(tmp_path) == set()


def test_https_that_is_sent_on_to_http_is_not_followed() -> None:
    answer = SimpleNamespace(headers={"Location": "http://elsewhere/data.bin"})
    _Getter("http://here/data.bin", lambda done, total: None)._judge(answer)
    with pytest.raises(DataError, match="over https, found it sent on to http://elsewhere/"):
        _Getter("https://here/data.bin", lambda done, total: None)._judge(answer)


def test_every_answer_on_the_way_is_judged(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.status, shelf.onward = 302, shelf.address
    judged: list[str] = []
    monkeypatch.setattr(
        _Getter, "_judge", lambda self, answer, **_: judged.append(answer.headers["Location"])
    )
    refusal(remote(shelf), tmp_path)
    assert set(judged) == {shelf.address}
    assert len(judged) == len(shelf.asked)


def test_a_full_disk_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    def fill(done: int, _: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert refusal(remote(shelf), tmp_path, advance=fill).endswith(
        "No space left on device; make room"
    )
    assert names(tmp_path) == set()


def test_a_folder_that_cannot_be_made(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "expected to save it as" in refusal(remote(shelf), tmp_path / "file")


# --- trust on first use ---


def test_a_file_without_a_checksum_is_trusted_once_and_checked_from_then_on(
    shelf: Shelf, tmp_path: Path
) -> None:
    said: list[str] = []
    assert get(remote(shelf, None), tmp_path, say=said.append) == OLD
    assert said == [
        "data.bin: no checksum is published, so this first download is trusted: SHA-256"
        f" {sha256(OLD)}, noted in {tmp_path / 'data.bin.sha256'} and checked from now on"
    ]
    assert (tmp_path / "data.bin.sha256").read_text() == f"{sha256(OLD)}  data.bin\n"

    (tmp_path / "data.bin").unlink()
    assert get(remote(shelf, None), tmp_path, say=said.append) == OLD
    assert len(said) == 1

    (tmp_path / "data.bin").unlink()
    shelf.contents = NEW
    message = refusal(remote(shelf, None), tmp_path)
    assert sha256(OLD) in message
    assert sha256(NEW) in message
    assert (
        f"delete {tmp_path / 'data.bin.sha256'}, where the first one was noted, if the change was "
        in message
    )
    assert names(tmp_path) == {"data.bin.sha256"}

    (tmp_path / "data.bin.sha256").unlink()
    assert get(remote(shelf, None), tmp_path) == NEW


@pytest.mark.parametrize("noted", ["", "abc  data.bin", "g" * 64])
def test_a_damaged_note_of_the_checksum(shelf: Shelf, tmp_path: Path, noted: str) -> None:
    (tmp_path / "data.bin.sha256").write_text(noted)
    assert f"delete {tmp_path / 'data.bin.sha256'}" in refusal(remote(shelf, None), tmp_path)
    assert names(tmp_path) == {"data.bin.sha256"}


# --- data sets ---


@pytest.fixture
def copy(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shelf has what GitHub makes of the copy of UI-PRMD; the name of its top folder."""
    file = ORIGINS["uiprmd"].download
    assert file is not None
    commit = file.url.rpartition("/")[2].removesuffix(".tar.gz")
    top, packed = f"UI-PRMD-Analysis-{commit}", io.BytesIO()
    with tarfile.open(
        fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": commit}
    ) as archive:
        for name in (
            "README.md",
            "data/Segmented Movements/Kinect/Positions/m01_s01_e01_positions.txt.gz",
            "data/Segmented Movements/Vicon/Positions/m01_s01_e01_positions.txt.gz",
            "data/Incorrect Segmented Movements/Kinect/Angles/m01_s01_e01_angles_inc.txt.gz",
        ):
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = 6
            archive.addfile(info, io.BytesIO(b"1 2 3\n"))
    shelf.contents = packed.getvalue()
    origin = replace(ORIGINS["uiprmd"], download=replace(file, url=shelf.address))
    monkeypatch.setattr(origins, "ORIGINS", ORIGINS | {"uiprmd": origin})
    return top


def test_a_data_set_is_downloaded_and_unpacked_once(
    shelf: Shelf, tmp_path: Path, copy: str
) -> None:
    said: list[str] = []
    raw = fetch("uiprmd", tmp_path, say=said.append)
    assert raw == tmp_path / "raw" / copy / "data"
    assert {str(path.relative_to(raw)) for path in raw.rglob("*.gz")} == {
        "Segmented Movements/Kinect/Positions/m01_s01_e01_positions.txt.gz",
        "Incorrect Segmented Movements/Kinect/Angles/m01_s01_e01_angles_inc.txt.gz",
    }
    assert names(tmp_path) == {"uiprmd.tar.gz", "uiprmd.tar.gz.sha256", "raw"}
    (tmp_path / "uiprmd.tar.gz").unlink()
    assert fetch("uiprmd", tmp_path, say=said.append) == raw
    assert (len(shelf.asked), len(said)) == (1, 1)


def test_what_only_its_authors_give_out_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"ntu60 is given out by its authors alone .* ask at https://rose1\.ntu\.edu\.sg",
    ):
        fetch("ntu60", tmp_path)
    with pytest.raises(DataError, match="unknown data set 'ntu61'; did you mean 'ntu60'"):
        fetch("ntu61", tmp_path)
    assert names(tmp_path) == set()


FORMATS = {"bvh", "npz"}
"""What is read, of whoever made it; a new one is added here."""


def test_every_data_set_that_can_be_prepared_has_an_origin() -> None:
    assert set(ORIGINS) == set(SOURCES) - FORMATS


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_is_nothing_to_download(name: str) -> None:
    with pytest.raises(
        DataError, match=rf"^{name} is a format of files of your own, nothing to download; next: "
    ):
        how_to_get(name)


@pytest.mark.parametrize("name", ORIGINS)
def test_the_way_to_a_data_set_is_told_in_full(name: str) -> None:
    told, source = how_to_get(name), ORIGINS[name]
    for part in (source.title, source.licence, source.address, *source.steps):
        assert part in told
    assert f"python -m harness data prepare {name} --raw FOLDER" in told
    assert source.address.startswith("https://")
    assert ("data download" in told) == (source.download is not None)


def test_only_public_domain_data_is_downloaded_from_a_place_that_cannot_change() -> None:
    able = {name: source for name, source in ORIGINS.items() if source.download is not None}
    assert list(able) == ["uiprmd"]
    assert "Public Domain" in able["uiprmd"].licence
    file = able["uiprmd"].download
    assert file is not None
    assert "2c5bf130697b4dd7c6aafc1e75f5cb4b60f651c3" in file.url
