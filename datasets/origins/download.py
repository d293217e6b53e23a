"""Downloads of raw data, where the licence allows it (`datasets.origins`).

A download is resumed where it broke off, today or next week, and checked by its SHA-256. Where nobody publishes a
checksum, the one found first is noted beside the file and checked from then on (trust on first use).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
import urllib3

from datasets.errors import DataError
from datasets.files import atomic_file
from datasets.origins import ORIGINS, RemoteFile, origin
from datasets.origins.unpack import FULL_DISK, unpack
from datasets.wording import listed, one_line

RAW = "raw"
"""Where, in a download's folder, the unpacked files stand."""

Advance = Callable[[int, int], None]
Say = Callable[[str], None]

_PIECE = 2**16
_TIMEOUT = (10.0, 60.0)
_LONGEST_PAUSE = 30.0
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


# --- getting it ---


def fetch(
    name: str, folder: Path, *, advance: Advance = lambda done, total: None, say: Say = lambda line: None
) -> Path:  # fmt: skip
    """Download a data set's raw files and unpack them; what is there already is left alone.

    Args:
        name: of the data set.
        folder: for the archive, its checksum and the folder `RAW` with what was in it; made when needed.
        advance: told of bytes so far and bytes in all, the latter 0 where the server does not tell.
        say: told of what was decided, one line each.

    Returns:
        The raw folder, for ``harness data prepare``.

    Raises:
        DataError: no program may download this data set, or the download or the unpacking failed.
    """
    source = origin(name)
    if source.download is None:
        able = listed(key for key, other in ORIGINS.items() if other.download is not None)
        raise DataError(
            f"{name} is given out by its authors alone ({source.licence}); ask at {source.address}; "
            f"to be had by download: {able}"
        )
    raw = Path(folder) / RAW
    if not raw.is_dir():
        unpack(download(source.download, Path(folder), advance=advance, say=say), raw, keep=source.download.keep)
    return raw / source.download.inside


def download(
    file: RemoteFile, folder: Path, *, advance: Advance = lambda done, total: None, say: Say = lambda line: None,
    tries: int = 5, pause: float = 1.0,
) -> Path:  # fmt: skip
    """Download one file; one that is there with the right checksum is not downloaded again.

    Args:
        folder: where it goes; made when needed. A half that broke off stays there, hidden, for the next call.
        advance, say: as `fetch` takes them.
        tries: how often in a row to try without getting any further.
        pause: seconds before the second try, doubled before each further one.

    Returns:
        The file's path.

    Raises:
        DataError: no way to the server, an answer that is not the file, another checksum (the file is removed), or a
            full disk.
    """
    target, record = folder / file.name, folder / f"{file.name}.sha256"
    getter = ResumingDownloader(folder / f".{file.name}.part", advance, tries, pause)
    with _disk_explained(target), _quiet_pooch():
        folder.mkdir(parents=True, exist_ok=True)
        expected = file.sha256 or _recorded(record)
        try:
            known = None if expected is None else f"sha256:{expected}"
            pooch.retrieve(file.url, known, file.name, folder, downloader=getter)
        except DataError:
            raise
        except ValueError as error:  # the checksum differs, and pooch has removed the file
            raise DataError(_other_checksum(file, record, expected, getter.sha256)) from error
        if expected is None:
            _trust(target, record, say)
    return target


def _recorded(record: Path) -> str | None:
    """The checksum noted by an earlier download, if any."""
    if not record.exists():
        return None
    noted = record.read_text(encoding="utf-8", errors="replace").split()[:1]
    if len("".join(noted)) != 64 or set("".join(noted)) - set("0123456789abcdef"):
        raise DataError(f"{record}: expected a SHA-256 of 64 digits, found {noted}; delete this file to note it anew")
    return noted[0]


def _trust(target: Path, record: Path, say: Say) -> None:
    """Note the checksum of a file for which none is published, in the form that ``sha256sum --check`` reads."""
    found = pooch.file_hash(str(target), alg="sha256")
    with atomic_file(record) as file:
        file.write(f"{found}  {target.name}\n".encode())
    say(
        f"{target.name}: no checksum is published, so this first download is trusted: SHA-256 {found}, noted in "
        f"{record} and checked from now on"
    )


def _other_checksum(file: RemoteFile, record: Path, expected: str | None, found: str) -> str:
    noted = "" if file.sha256 else f" (noted in {record.name} at the first download)"
    step = "try again, and report it if it stays" if file.sha256 else f"delete {record} if the change was announced"
    return f"{file.url}: expected SHA-256 {expected}{noted}, found {found}; the file was removed: {step}"


@contextmanager
def _disk_explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise DataError(
                f"{target}: expected room for the download, found a full disk; make room, then the same command "
                "continues where it stopped"
            ) from error
        raise DataError(f"{target}: expected a place to write, found {one_line(error)}; check the folder") from error


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Pooch tells of every download on the error stream; what is to be told is told by `say`."""
    logger = pooch.get_logger()
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


# --- one file over HTTP ---


class _Broken(Exception):
    """A try that failed in a way that another one may not; the message says how."""


@dataclass
class ResumingDownloader:
    """What pooch calls to download a file: continues a half that broke off, here or in an earlier process.

    The half stands beside a note of its address and version (ETag, or else the date of change), which goes out as
    ``If-Range``: a file that has changed since is started over, and so is one whose server gives no version.

    Attributes:
        part: where the half stands; the note stands beside it.
        advance: told of bytes so far and bytes in all, the latter 0 where the server does not tell.
        tries: how often in a row to try without getting any further.
        pause: seconds before the second try, doubled before each further one.
        sleep: waits.
        sha256: of the file handed over last.
    """

    part: Path
    advance: Advance = lambda done, total: None
    tries: int = 5
    pause: float = 1.0
    sleep: Callable[[float], None] = time.sleep
    sha256: str = ""

    def __call__(self, url: str, output_file: str | os.PathLike[str], _pooch: object = None) -> None:
        """Leave the whole file at ``output_file``, or raise a `DataError` or an `OSError`."""
        furthest, failures = self._size(), 0
        with requests.Session() as session:
            while True:
                try:
                    self._continue(session, url)
                    break
                except _Broken as error:
                    furthest, further = max(furthest, self._size()), self._size() > furthest
                    failures = 1 if further else failures + 1
                    if failures >= self.tries:
                        raise DataError(self._gave_up(url, error)) from error
                    self.sleep(min(_LONGEST_PAUSE, self.pause * 2 ** (failures - 1)))
        self.sha256 = pooch.file_hash(str(self.part), alg="sha256")
        os.replace(self.part, output_file)
        self._note.unlink(missing_ok=True)

    def _continue(self, session: requests.Session, url: str) -> None:
        """One try: the file from where the half ends, or from its start."""
        note, have = self._recall(url), self._size()
        if note and note["total"] == have > 0:
            return
        headers = {"Accept-Encoding": "identity"}
        if note and have:
            headers |= {"Range": f"bytes={have}-", "If-Range": note["version"]}
        with _broken_explained(url), session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            self._check(response, url)
            continued = response.status_code == requests.codes.partial_content
            if continued:
                self._check_continues(response, note, have)
            else:
                self._start_over()
                note = self._remember(response, url)
            self._write(response, have if continued else 0, note["total"] if note else _length(response))

    def _check(self, response: requests.Response, url: str) -> None:
        status = response.status_code
        found = f"status {status} {response.reason or ''}".strip()
        if status in _LATER:
            raise _Broken(found)
        if status == requests.codes.requested_range_not_satisfiable:
            self._start_over()
            raise _Broken("a file shorter than the half that is here, which was removed")
        if status not in (requests.codes.ok, requests.codes.partial_content):
            raise DataError(f"{url}: expected the file, found {found}; it may have moved: look at the official address")
        if urlsplit(url).scheme == "https" != urlsplit(response.url).scheme:
            raise DataError(f"{url}: expected the file over https, found it sent on to {response.url}; not followed")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DataError(f"{url}: expected the file, found a web page (a login or a notice?); open it in a browser")

    def _check_continues(self, response: requests.Response, note: dict | None, have: int) -> None:
        """The piece must begin where the half ends and be of the same version, whatever the server was asked for."""
        piece = response.headers.get("Content-Range", "")
        version = _version(response)
        same = note is not None and (version is None or version == note["version"])
        if not same or not piece.startswith(f"bytes {have}-"):
            self._start_over()
            raise _Broken(f"a piece ({piece!r}) that does not continue the half that is here, which was removed")

    def _write(self, response: requests.Response, have: int, total: int) -> None:
        with self.part.open("ab") as file:
            self._check_room(total - have)
            self.advance(have, total)
            for piece in response.raw.stream(_PIECE, decode_content=False):
                file.write(piece)
                have += len(piece)
                self.advance(have, total)
        if total and have != total:
            if have > total:
                self._start_over()
            raise _Broken(f"{have:,} of {total:,} bytes")

    def _check_room(self, wanted: int) -> None:
        free = shutil.disk_usage(self.part.parent).free
        if wanted > free:
            raise DataError(
                f"{self.part.parent}: expected room for {wanted:,} more bytes, found {free:,}; make room and try again"
            )

    def _gave_up(self, url: str, error: Exception) -> str:
        step = f"the same command continues after {self._size():,} bytes" if self._recall(url) else "try again later"
        return (
            f"{url}: expected the whole file, found {error} (tries: {self.tries}); check the network and whether the "
            f"server is up; {step}"
        )

    # --- the half and its note ---

    @property
    def _note(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _start_over(self) -> None:
        self.part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def _remember(self, response: requests.Response, url: str) -> dict | None:
        """Note address, version and length (0: not told) of what is coming; None when there is no version to note."""
        version = _version(response)
        if version is None:
            return None
        note = {"url": url, "version": version, "total": _length(response)}
        with atomic_file(self._note) as file:
            file.write(json.dumps(note).encode())
        return note

    def _recall(self, url: str) -> dict | None:
        """The note, if it is whole and about this address."""
        with suppress(OSError, ValueError):
            note = json.loads(self._note.read_text(encoding="utf-8"))
            whole = (
                isinstance(note, dict) and isinstance(note.get("version"), str) and isinstance(note.get("total"), int)
            )
            return note if whole and note.get("url") == url else None
        return None


def _version(response: requests.Response) -> str | None:
    """What tells this version of a file from others, as ``If-Range`` takes it: a strong ETag, or the date of change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _length(response: requests.Response) -> int:
    """Bytes of the whole file in an answer that has all of it; 0 where the server does not tell."""
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


@contextmanager
def _broken_explained(url: str) -> Iterator[None]:
    """Tell failures that may pass, as `_Broken`, from those that will not, as `DataError`."""
    host = urlsplit(url).netloc
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise DataError(f"{url}: expected a valid certificate of {host}, found none ({one_line(error)})") from error
    except (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError) as error:
        raise _Broken(f"no answer from {host} in time") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise _Broken(f"a connection to {host} that broke off") from error
    except requests.ConnectionError as error:
        raise _Broken(f"no connection to {host}") from error
    except requests.RequestException as error:
        raise DataError(f"{url}: expected the file, found {one_line(error)}; check the address") from error
    except (urllib3.exceptions.HTTPError, ConnectionError) as error:
        raise _Broken(f"a connection to {host} that broke off") from error
