"""Downloads from a server on loopback: whole, broken off, changed, refused, first seen; and where data comes from."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import socket
import tarfile
import threading
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pooch
import pytest
import requests

from datasets import origins
from datasets.errors import DataError
from datasets.origins import ORIGINS, RemoteFile, how_to_get
from datasets.origins import download as module
from datasets.origins.download import RAW, ResumingDownloader, download, fetch
from datasets.raw import SOURCES

OLD = bytes(range(251)) * 40  # 10,040 bytes
NEW = OLD[::-1]
HALF = 4000
CHANGED = "Sat, 21 Nov 2026 12:00:00 GMT"


def sha256(contents: bytes) -> str:
    return hashlib.sha256(contents).hexdigest()


@dataclass
class Shelf:
    """What the server has and how it behaves; ``asked`` holds the headers of every request.

    Attributes:
        cuts: for the next answers, after how many bytes to hang up; None: not at all.
        ranges: "kept", "ignored" (always all of it), "blind" (a piece whatever If-Range says) or "shifted" (once, a
            piece that begins elsewhere).
    """

    address: str
    contents: bytes = OLD
    version: dict[str, str] = field(default_factory=lambda: {"ETag": '"old"'})
    cuts: list[int | None] = field(default_factory=list)
    status: int = 200
    ranges: str = "kept"
    kind: str = "application/octet-stream"
    tell_length: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)

    def change(self) -> None:
        self.contents, self.version = NEW, {"ETag": '"new"'}

    @property
    def starts(self) -> list[str]:
        """The ranges asked for, in order; "" where none was."""
        return [headers.get("range", "") for headers in self.asked]


class Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        shelf: Shelf = self.server.shelf
        shelf.asked.append({name.lower(): value for name, value in self.headers.items()})
        if shelf.status != 200:
            self.send_error(shelf.status)
            return
        start = self.start(shelf)
        if start is not None and shelf.ranges == "shifted":
            start, shelf.ranges = start + 10, "kept"
        if start is not None and start >= len(shelf.contents):
            self.send_error(416)
            return
        self.send_response(200 if start is None else 206)
        body = shelf.contents[start or 0 :]
        self.send_header("Content-Type", shelf.kind)
        if shelf.tell_length:
            self.send_header("Content-Length", str(len(body)))
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(shelf.contents) - 1}/{len(shelf.contents)}")
        for name, value in shelf.version.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: shelf.cuts.pop(0) if shelf.cuts else None])

    def start(self, shelf: Shelf) -> int | None:
        wanted = self.headers.get("Range")
        fresh = shelf.ranges == "blind" or self.headers.get("If-Range") in shelf.version.values()
        return int(wanted[6:-1]) if wanted and fresh and shelf.ranges != "ignored" else None

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
    return download(file, folder, **({"pause": 0.0} | more)).read_bytes()


def refusal(file: RemoteFile, folder: Path, **more: Any) -> str:
    with pytest.raises(DataError) as caught:
        get(file, folder, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- a whole file ---


def test_a_whole_file(shelf: Shelf, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    said: list[str] = []
    out = tmp_path / "made"
    assert get(remote(shelf), out, advance=lambda *seen: told.append(seen), say=said.append) == OLD
    assert names(out) == {"data.bin"}
    assert (told[0], told[-1]) == ((0, len(OLD)), (len(OLD), len(OLD)))
    assert said == []
    assert shelf.asked[0]["accept-encoding"] == "identity"


def test_pooch_says_nothing_of_its_own(shelf: Shelf, tmp_path: Path) -> None:
    heard, logger = io.StringIO(), pooch.get_logger()
    listener = logging.StreamHandler(heard)
    logger.addHandler(listener)
    get(remote(shelf), tmp_path)
    assert (heard.getvalue(), logger.disabled) == ("", False)
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
    assert told[-1] == (len(OLD), 0)


# --- a file that breaks off ---


def test_a_server_that_hangs_up_half_way_is_asked_for_the_rest(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cuts = [HALF]
    assert get(remote(shelf), tmp_path) == OLD
    assert shelf.starts == ["", f"bytes={HALF}-"]
    assert shelf.asked[1]["if-range"] == '"old"'
    assert names(tmp_path) == {"data.bin"}


def test_a_later_call_continues(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cuts = [HALF]
    message = refusal(remote(shelf), tmp_path, tries=1)
    assert message.startswith(f"{shelf.address}: expected the whole file, found a connection to 127.0.0.1")
    assert message.endswith("(tries: 1); check the network and whether the server is up; the same command continues "
                            "after 4,000 bytes")  # fmt: skip
    assert names(tmp_path) == {".data.bin.part", ".data.bin.part.json"}
    told: list[tuple[int, int]] = []
    assert get(remote(shelf), tmp_path, advance=lambda *seen: told.append(seen)) == OLD
    assert (shelf.starts, told[0]) == (["", f"bytes={HALF}-"], (HALF, len(OLD)))
    assert names(tmp_path) == {"data.bin"}


def test_as_many_hang_ups_as_it_takes_while_there_is_progress(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cuts = [1000] * 10
    assert get(remote(shelf), tmp_path, tries=2) == OLD
    assert len(shelf.asked) == 11


def test_a_server_without_ranges_is_asked_for_all_again(shelf: Shelf, tmp_path: Path) -> None:
    shelf.ranges, shelf.cuts = "ignored", [HALF]
    assert get(remote(shelf), tmp_path) == OLD
    assert shelf.starts == ["", f"bytes={HALF}-"]


def test_a_server_without_ranges_that_always_hangs_up_is_left(shelf: Shelf, tmp_path: Path) -> None:
    shelf.ranges, shelf.cuts = "ignored", [HALF] * 10
    refusal(remote(shelf), tmp_path, tries=3)
    assert len(shelf.asked) == 3


def test_a_piece_that_begins_elsewhere_is_not_appended(shelf: Shelf, tmp_path: Path) -> None:
    shelf.ranges, shelf.cuts = "shifted", [HALF]
    assert get(remote(shelf), tmp_path) == OLD
    assert shelf.starts == ["", f"bytes={HALF}-", ""]


def test_a_file_that_grew_under_one_version_is_started_over(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / ".data.bin.part").write_bytes(NEW[:HALF])
    note = {"url": shelf.address, "version": '"old"', "total": 5000}
    (tmp_path / ".data.bin.part.json").write_text(json.dumps(note))
    assert get(remote(shelf), tmp_path) == OLD
    assert shelf.starts == [f"bytes={HALF}-", ""]


@pytest.mark.parametrize("ranges", ["kept", "blind", "ignored"])
def test_a_file_that_changed_between_the_halves_is_started_over(shelf: Shelf, tmp_path: Path, ranges: str) -> None:
    shelf.cuts = [HALF]
    refusal(remote(shelf, NEW), tmp_path, tries=1)
    shelf.change()
    shelf.ranges = ranges
    assert get(remote(shelf, NEW), tmp_path) == NEW
    assert shelf.starts[:2] == ["", f"bytes={HALF}-"]


def test_a_file_that_became_shorter_than_the_half(shelf: Shelf, tmp_path: Path) -> None:
    shelf.cuts = [HALF]
    refusal(remote(shelf, b"short"), tmp_path, tries=1)
    shelf.contents, shelf.ranges = b"short", "blind"
    assert get(remote(shelf, b"short"), tmp_path) == b"short"
    assert shelf.starts == ["", f"bytes={HALF}-", ""]


@pytest.mark.parametrize(
    ("version", "second", "if_range"),
    [
        ({}, "", None),
        ({"ETag": 'W/"weak"'}, "", None),
        ({"ETag": 'W/"weak"', "Last-Modified": CHANGED}, "bytes=4000-", CHANGED),
    ],
)  # fmt: skip
def test_only_a_version_that_is_known_is_continued(
    shelf: Shelf, tmp_path: Path, version: dict[str, str], second: str, if_range: str | None
) -> None:
    shelf.version, shelf.cuts = version, [HALF]
    assert get(remote(shelf), tmp_path) == OLD
    assert shelf.starts == ["", second]
    assert shelf.asked[1].get("if-range") == if_range


@pytest.mark.parametrize("note", ["", "[]", '{"url": 1}', '{"url": "http://elsewhere", "version": "1", "total": 9}'])
def test_a_half_with_a_damaged_note_is_started_over(shelf: Shelf, tmp_path: Path, note: str) -> None:
    (tmp_path / ".data.bin.part").write_bytes(b"junk")
    (tmp_path / ".data.bin.part.json").write_text(note)
    assert get(remote(shelf), tmp_path) == OLD
    assert shelf.starts == [""]


def test_a_half_that_was_whole_needs_no_server(shelf: Shelf, tmp_path: Path) -> None:
    """Killed between the last byte and the renaming."""
    (tmp_path / ".data.bin.part").write_bytes(OLD)
    note = {"url": shelf.address, "version": '"old"', "total": len(OLD)}
    (tmp_path / ".data.bin.part.json").write_text(json.dumps(note))
    assert get(remote(shelf), tmp_path) == OLD
    assert shelf.asked == []


# --- what does not work ---


def test_another_checksum_names_both_and_leaves_nothing(shelf: Shelf, tmp_path: Path) -> None:
    message = refusal(remote(shelf, NEW), tmp_path)
    assert message.startswith(
        f"{shelf.address}: expected SHA-256 {sha256(NEW)}, found {sha256(OLD)}; the file was removed"
    )
    assert names(tmp_path) == set()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_answer_that_will_not_change_is_not_asked_for_twice(shelf: Shelf, tmp_path: Path, status: int) -> None:
    shelf.status = status
    message = refusal(remote(shelf), tmp_path)
    assert f"expected the file, found status {status} " in message
    assert (len(shelf.asked), names(tmp_path)) == (1, set())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_tries_are_counted_and_pauses_grow(shelf: Shelf, tmp_path: Path, status: int) -> None:
    shelf.status = status
    pauses: list[float] = []
    getter = ResumingDownloader(tmp_path / "part", tries=8, pause=1.5, sleep=pauses.append)
    with pytest.raises(DataError, match=rf"found status {status} .*\(tries: 8\).*try again later"):
        getter(shelf.address, tmp_path / "out")
    assert len(shelf.asked) == 8
    assert pauses == [1.5, 3.0, 6.0, 12.0, 24.0, 30.0, 30.0]


def test_no_network(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers
        port = taken.getsockname()[1]
        message = refusal(RemoteFile("data.bin", f"http://127.0.0.1:{port}/"), tmp_path, tries=2)
    assert f"found no connection to 127.0.0.1:{port} (tries: 2); check the network" in message


@pytest.mark.parametrize("url", ["no address", "http://", "gopher://127.0.0.1/x"])
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    assert "check the address" in refusal(RemoteFile("data.bin", url), tmp_path)


def test_a_web_page_instead_of_the_file_is_neither_kept_nor_trusted(shelf: Shelf, tmp_path: Path) -> None:
    shelf.kind = "text/html; charset=utf-8"
    assert "found a web page" in refusal(remote(shelf, None), tmp_path)
    assert names(tmp_path) == set()


def test_https_that_is_sent_on_to_http_is_not_followed(tmp_path: Path) -> None:
    answer = requests.Response()
    answer.status_code, answer.url = 200, "http://elsewhere/data.bin"
    with pytest.raises(DataError, match="over https, found it sent on to http://elsewhere"):
        ResumingDownloader(tmp_path / "part")._check(answer, "https://here/data.bin")


def test_a_full_disk_keeps_the_half(shelf: Shelf, tmp_path: Path) -> None:
    def fill(done: int, _: int) -> None:
        if done:
            raise OSError(errno.ENOSPC, "No space left on device")

    shelf.cuts = [HALF]
    assert "found a full disk; make room" in refusal(remote(shelf), tmp_path, advance=fill)
    assert get(remote(shelf), tmp_path) == OLD
    assert shelf.starts == ["", f"bytes={HALF}-"]


def test_too_little_room_is_noticed_before_the_first_byte(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(20_000, 15_000, 5_000))
    assert "expected room for 10,040 more bytes, found 5,000" in refusal(remote(shelf), tmp_path)
    shelf.cuts = [HALF]
    monkeypatch.undo()
    refusal(remote(shelf), tmp_path, tries=1)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(20_000, 13_960, 6_040))
    assert get(remote(shelf), tmp_path) == OLD


def test_a_folder_that_cannot_be_made(shelf: Shelf, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "expected a place to write" in refusal(remote(shelf), tmp_path / "file")


# --- trust on first use ---


def test_a_file_without_a_checksum_is_trusted_once_and_checked_from_then_on(shelf: Shelf, tmp_path: Path) -> None:
    said: list[str] = []
    assert get(remote(shelf, None), tmp_path, say=said.append) == OLD
    assert said == [
        f"data.bin: no checksum is published, so this first download is trusted: SHA-256 {sha256(OLD)}, noted in "
        f"{tmp_path / 'data.bin.sha256'} and checked from now on"
    ]
    assert (tmp_path / "data.bin.sha256").read_text() == f"{sha256(OLD)}  data.bin\n"

    (tmp_path / "data.bin").unlink()
    assert get(remote(shelf, None), tmp_path, say=said.append) == OLD
    assert len(said) == 1

    (tmp_path / "data.bin").unlink()
    shelf.change()
    message = refusal(remote(shelf, None), tmp_path)
    assert (
        f"expected SHA-256 {sha256(OLD)} (noted in data.bin.sha256 at the first download), found {sha256(NEW)}"
        in message
    )
    assert f"delete {tmp_path / 'data.bin.sha256'}" in message
    assert names(tmp_path) == {"data.bin.sha256"}

    (tmp_path / "data.bin.sha256").unlink()
    assert get(remote(shelf, None), tmp_path) == NEW


@pytest.mark.parametrize("noted", ["", "abc  data.bin", "g" * 64, "A" * 64])
def test_a_damaged_note_of_the_checksum(shelf: Shelf, tmp_path: Path, noted: str) -> None:
    (tmp_path / "data.bin.sha256").write_text(noted)
    assert "expected a SHA-256 of 64 digits" in refusal(remote(shelf, None), tmp_path)
    assert shelf.asked == []


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
            "README.md", "data/Segmented Movements/Kinect/Positions/m01_s01_e01_positions.txt.gz",
            "data/Segmented Movements/Vicon/Positions/m01_s01_e01_positions.txt.gz",
            "data/Incorrect Segmented Movements/Kinect/Angles/m01_s01_e01_angles_inc.txt.gz",
        ):  # fmt: skip
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = 6
            archive.addfile(info, io.BytesIO(b"1 2 3\n"))
    shelf.contents = packed.getvalue()
    origin = replace(ORIGINS["uiprmd"], download=replace(file, url=shelf.address))
    monkeypatch.setattr(origins, "ORIGINS", ORIGINS | {"uiprmd": origin})
    return top


def test_a_data_set_is_downloaded_and_unpacked_once(shelf: Shelf, tmp_path: Path, copy: str) -> None:
    said: list[str] = []
    raw = fetch("uiprmd", tmp_path, say=said.append)
    assert raw == tmp_path / RAW / copy / "data"
    assert {str(path.relative_to(raw)) for path in raw.rglob("*.gz")} == {
        "Segmented Movements/Kinect/Positions/m01_s01_e01_positions.txt.gz",
        "Incorrect Segmented Movements/Kinect/Angles/m01_s01_e01_angles_inc.txt.gz",
    }
    assert names(tmp_path) == {"uiprmd.tar.gz", "uiprmd.tar.gz.sha256", RAW}
    (tmp_path / "uiprmd.tar.gz").unlink()
    assert fetch("uiprmd", tmp_path, say=said.append) == raw
    assert (len(shelf.asked), len(said)) == (1, 1)


def test_what_only_its_authors_give_out_is_not_downloaded(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"ntu60 is given out by its authors alone .* ask at https://rose1\.ntu\.edu\.sg"
    ):
        fetch("ntu60", tmp_path)
    with pytest.raises(DataError, match="unknown data set 'ntu61'; did you mean 'ntu60'"):
        fetch("ntu61", tmp_path)
    assert names(tmp_path) == set()


def test_every_data_set_that_can_be_prepared_has_an_origin() -> None:
    assert set(ORIGINS) == set(SOURCES) - {"bvh", "npz"}


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
