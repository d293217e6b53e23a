"""What a file is that is not what it should be: its first bytes tell, and the next step follows
from that.

    raise DataError(f"{path}: expected a pickle, {found_instead(path)}")
    # ... found a web page; a download that asks first ends so: download the file itself

Nothing is read but the first bytes, and the names in a zip.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.wording import listed

_START = 1024
_UNPACK = "unpack it"
_ITSELF = "download the file itself"


@dataclass(frozen=True)
class FileKind:
    """What a file is, in words, and what to do about it; ``no_data``:
    it stands in the place of the file.
    """

    name: str
    step: str
    no_data: bool = False

    def __str__(self) -> str:
        return f"found {self.name}; {self.step}"


def _starts(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda data: data.startswith(starts)


def _looks(pattern: bytes) -> Callable[[bytes], bool]:
    form = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    return lambda data: form.match(data) is not None


_KINDS: Sequence[tuple[Callable[[bytes], bool], FileKind]] = (
    (lambda data: not data, FileKind("an empty file", "download it again", True)),
    (
        _starts(b"version https://git-lfs"),
        FileKind(
            "a Git LFS pointer, a note of where the file is", f"git lfs pull, or {_ITSELF}", True
        ),
    ),
    (
        _looks(
            rb"(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?(<\?xml[^>]*>\s*)?<(!doctype\s+html|html|head|body|script)\b"
        ),
        FileKind("a web page, as a download leaves that asks first", _ITSELF, True),
    ),
    (
        _looks(rb"(\xef\xbb\xbf)?\s*<\?xml"),
        FileKind("an XML text, as a refused download leaves", _ITSELF, True),
    ),
    (
        _starts(b"MATLAB 7.3 MAT-file"),
        FileKind("a MATLAB 7.3 file, which is not read", "save it with -v7"),
    ),
    (
        _starts(b"MATLAB 5.0 MAT-file"),
        FileKind("a MATLAB file", "name a file of the expected form"),
    ),
    (
        _starts(b"\x89HDF\r\n\x1a\n"),
        FileKind("an HDF5 file, which is not read", "save it in the expected form"),
    ),
    (_starts(b"\x93NUMPY"), FileKind("a NumPy array (.npy)", "name a file of the expected form")),
    (_starts(b"\x1f\x8b"), FileKind("a gzip file", _UNPACK)),
    (_starts(b"BZh"), FileKind("a bzip2 file", _UNPACK)),
    (_starts(b"\xfd7zXZ\x00"), FileKind("an xz file", _UNPACK)),
    (_starts(b"\x28\xb5\x2f\xfd"), FileKind("a Zstandard file", _UNPACK)),
    (_starts(b"7z\xbc\xaf\x27\x1c"), FileKind("a 7-Zip archive", _UNPACK)),
    (_starts(b"Rar!\x1a\x07"), FileKind("a RAR archive", _UNPACK)),
    (lambda data: data[257:262] == b"ustar", FileKind("a tar archive", _UNPACK)),
    (_starts(b"%PDF-"), FileKind("a PDF document", _ITSELF, True)),
    (_starts(b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), FileKind("a picture", _ITSELF, True)),
    (
        _starts(b"PAR1"),
        FileKind("a Parquet file, which is not read", "save it in the expected form"),
    ),
    (_looks(rb"\x80[\x02-\x05]"), FileKind("a pickle", "of these data prepare reads pyskl's")),
    (
        _looks(rb"[^\x00].{0,6}\x00\{\""),
        FileKind("a safetensors file", "name a file of the expected form"),
    ),
    (
        lambda data: not data.strip(b"\x00"),
        FileKind("a file of zeros, as a download leaves that broke off", _ITSELF, True),
    ),
    (
        _looks(rb"\s*(HIERARCHY|ROOT)\b"),
        FileKind("a BVH file", "data prepare bvh reads a folder of them"),
    ),
)
_IN_ZIP: Sequence[tuple[str, FileKind]] = (
    (r"xl/", FileKind("an Excel workbook", "save it as CSV UTF-8")),
    (
        r"(.*/)?constants\.pkl",
        FileKind(
            "a TorchScript archive, which holds code",
            "store it again with torch.save(model.state_dict(), file)",
        ),
    ),
    (r"(.*/)?data\.pkl", FileKind("a PyTorch checkpoint", "name a file of the expected form")),
    (r".*\.npy", FileKind("a .npz file", "name a file of the expected form")),
)
_ZIP = FileKind("a zip archive", _UNPACK)


def kind_of(path: Path) -> FileKind | None:
    """What a file is by its first bytes; None for what nobody knows.
    Raises `OSError` as `open` does.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    if start.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    return next((kind for fits, kind in _KINDS if fits(start)), None)


def found_instead(path: Path, step: str = "download it again") -> str:
    """``found a web page, ...; download the file itself``;
    ``step`` for a file that nobody knows.
    """
    try:
        kind = kind_of(path)
    except OSError as error:
        return f"found one that cannot be opened ({error.strerror}); check the path"
    if kind is not None:
        return str(kind)
    with path.open("rb") as file:
        return f"found a file that starts with {file.read(8)!r}; {step}"


def expected_folder(path: Path) -> str:
    """What to say of a file where a folder is expected."""
    kind = kind_of(path)
    packed = kind is not None and kind.step == _UNPACK
    return (
        f"found {kind.name}; unpack it and name the folder"
        if packed and kind
        else "found a file; name its folder"
    )


def names_of(folder: Path) -> str:
    """The first few names in a folder, for messages."""
    return listed(sorted(entry.name for entry in folder.iterdir()), 4)


def _kind_of_zip(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:10_000]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError, RuntimeError):
        return FileKind("a zip archive that is cut short or damaged", "download it again")
    return next(
        (kind for form, kind in _IN_ZIP if any(re.match(form, name) for name in names)), _ZIP
    )
