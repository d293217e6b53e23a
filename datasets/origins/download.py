"""Downloads of raw data, where the licence allows it (`datasets.origins`).

pooch downloads and checks the SHA-256. Where nobody publishes a checksum, the one found first is
noted beside the file and checked from then on (trust on first use). A download that breaks off
leaves nothing and begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch

from datasets.errors import DataError
from datasets.files import atomic_file
from datasets.formats.kinds import kind_of
from datasets.origins import ORIGINS, RemoteFile, origin
from datasets.origins.unpack import FULL_DISK, unpack
from datasets.wording import listed, one_line

_RAW = "raw"
"""Where, in a download's folder, the unpacked files stand."""

Advance = Callable[[int, int], None]
Say = Callable[[str], None]

_PIECE = 2**18


def fetch(
    name: str,
    folder: Path,
    *,
    advance: Advance = lambda done, total: None,
    say: Say = lambda line: None,
) -> Path:
    """Download a data set's raw files and unpack them; what is there already is left alone.

    Args:
        name: of the data set.
        folder: for the archive, its checksum and the folder `_RAW` with what was in it; made when
            needed.
        advance: told of bytes so far and bytes in all, the latter 0 where the server does not tell.
        say: told of what was decided, one line each.

    Returns:
        The raw folder, for ``harness data prepare``.

    Raises:
        DataError: no program may download this data set, or the download or the unpacking failed.
    """
    found = origin(name)
    if found.download is None:
        able = listed(key for key, other in ORIGINS.items() if other.download is not None)
        raise DataError(
            f"{name} is given out by its authors alone ({found.licence}); ask at {found.address};"
            f" to be had by download: {able}"
        )
    raw = Path(folder) / _RAW
    if not raw.is_dir():
        unpack(
            download(found.download, Path(folder), advance=advance, say=say),
            raw,
            keep=found.download.keep,
        )
    return raw / found.download.inside


def download(
    file: RemoteFile,
    folder: Path,
    *,
    advance: Advance = lambda done, total: None,
    say: Say = lambda line: None,
) -> Path:
    """Download one file; one that is there with the right checksum is not downloaded again.

    Args:
        file: what to get.
        folder: where it goes; made when needed.
        advance, say: as `fetch` takes them.

    Returns:
        The file's path.

    Raises:
        DataError: no way to the server, an answer that is not the file, another checksum, or a full
            disk. Nothing of the download is left.
    """
    target, record = folder / file.name, folder / f"{file.name}.sha256"
    pooch.get_logger().setLevel(
        "WARNING"
    )  # it tells of every download; what is to be told is told by `say`
    try:
        noted = record.read_text(encoding="utf-8").partition(" ")[0] if record.exists() else None
        expected = file.sha256 or noted
        known = None if expected is None else f"sha256:{expected}"
        pooch.retrieve(file.url, known, file.name, folder, downloader=_Getter(file.url, advance))
        if known is None:
            _trust(target, record, say)
    except DataError:
        raise
    except OSError as error:  # requests' errors too
        step = (
            "make room"
            if error.errno in FULL_DISK
            else "check the network, the address and the folder"
        )
        raise DataError(
            f"{file.url}: expected to save it as {target}, found {one_line(error)}; {step}"
        ) from error
    except ValueError as error:  # another checksum
        step = (
            ""
            if file.sha256
            else f"; delete {record}, where the first one was noted, if the change was announced"
        )
        raise DataError(f"{file.url}: {one_line(error)}{step}") from error
    return target


class _Getter(pooch.HTTPDownloader):
    """pooch's downloader, which here takes no web page for a file,
    and nothing that https sends on to http.
    """

    def __init__(self, url: str, advance: Advance) -> None:
        super().__init__(
            progressbar=_Progress(advance),
            chunk_size=_PIECE,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": self._judge},
        )
        self.url = url

    def __call__(self, url: str, output_file: Any, pooch: object, check_only: bool = False) -> Any:
        """Leave the file at ``output_file``."""
        result = super().__call__(url, output_file, pooch, check_only)
        kind = kind_of(Path(output_file))
        if kind and kind.no_data:
            raise DataError(f"{url}: expected the file, {kind}")
        return result

    def _judge(self, response: Any, **_: object) -> None:
        onward = response.headers.get("Location", "")
        if urlsplit(self.url).scheme == "https" and urlsplit(onward).scheme == "http":
            raise DataError(
                f"{self.url}: expected the file over https, found it sent on to {onward}; not"
                " followed"
            )


class _Progress:
    """What pooch takes for a progress bar: tells `advance` of bytes so far and in all."""

    def __init__(self, advance: Advance) -> None:
        self.advance, self.total, self.done = advance, 0, 0

    def update(self, count: int) -> None:
        """So many bytes more; of the last piece, and of all once more at the end,
        at most so many.
        """
        self.done += count
        self.advance(min(self.done, self.total or self.done), self.total)

    def reset(self) -> None:
        """Part of a bar's interface; nothing to do."""

    close = reset


def _trust(target: Path, record: Path, say: Say) -> None:
    """Note the checksum of a file for which none is published, in the form that
    ``sha256sum --check`` reads.
    """
    found = pooch.file_hash(str(target), alg="sha256")
    with atomic_file(record) as file:
        file.write(f"{found}  {target.name}\n".encode())
    say(
        f"{target.name}: no checksum is published, so this first download is trusted: SHA-256"
        f" {found}, noted in {record} and checked from now on"
    )
