"""The store: a prepared data set as one folder, opened without reading a frame.

==============  ==================================================================================================
``joints.npy``  [F, M, V, 3] packed frames of all clips, memory-mapped; float32, or float16 where asked for
``index.npz``   ``offsets``, what `datasets.clips.Stored` holds, and one array per column
``store.json``  everything else: layout, classes, splits, counts by stage, fingerprint, sizes of the other two files
==============  ==================================================================================================

A store is written beside its place and renamed at the end, so it is there whole or not at all. The same raw files in
the same place give the same store, bit for bit; elsewhere the same frames and index. Its fingerprint is that of
`datasets.clips.fingerprint`, and two laboratories can compare theirs without sharing the data.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.archive import open_archive
from datasets.checks import validate
from datasets.clips import ClipSet, Fingerprint, Stored, clip_hash, clip_origin
from datasets.errors import DataError
from datasets.layouts import layout_from_parents
from datasets.wording import one_line

VERSION = 1
HEADER, JOINTS, INDEX = "store.json", "joints.npy", "index.npz"
REMEMBERED = ("hashes", "present", "origins")
"""Arrays of the index that are no columns, in the order of `Stored`."""
STORES_VARIABLE = "MASKED_SKELETON_DATA"


class Header(BaseModel):
    """What `store.json` says.

    Attributes:
        plan: hash of what the store was made from: raw files, readers, versions.
        counts: stages of the preparation, in order, to counts.
        problems: what was left out and why, one line each.
        expected: published numbers of training and test clips by split.
        sizes: bytes of the other files.
    """

    model_config = ConfigDict(extra="forbid")

    version: int
    name: str
    title: str
    plan: str
    fingerprint: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]
    class_names: tuple[str, ...]
    fps: float
    default_split: str
    splits: dict[str, str]
    expected: dict[str, tuple[int, int]]
    counts: dict[str, int]
    problems: tuple[str, ...]
    sizes: dict[str, int]


@dataclass(frozen=True)
class Part:
    """Some of a store's clips, in order.

    Attributes:
        joints: [f, M, V, 3] float32 or float16.
        lengths: [n] frames of each clip.
        columns: name -> [n] values.
    """

    joints: NDArray[np.floating]
    lengths: NDArray[np.int64]
    columns: Mapping[str, NDArray]


def stores_dir() -> Path:
    """Where prepared data sets lie.

    ``$MASKED_SKELETON_DATA``, else ``$XDG_DATA_HOME/masked-skeleton``, else ``~/.local/share/masked-skeleton``.
    """
    chosen = os.environ.get(STORES_VARIABLE)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(chosen).expanduser() if chosen else Path(base) / "masked-skeleton"


def is_store(folder: Path) -> bool:
    """True for a folder that a store was written to, or half-written to."""
    return any((folder / name).exists() for name in (HEADER, JOINTS, INDEX))


def open_store(folder: Path) -> ClipSet:
    """The clips of a store, frames memory-mapped.

    Raises:
        DataError: there is no store, it is half-written or damaged, or it was made by another version.
    """
    header = read_header(folder)
    for name, size in header.sizes.items():
        found = (folder / name).stat().st_size if (folder / name).exists() else 0
        if found != size:
            raise DataError(
                f"{folder}: {name}: expected {size:,} bytes, found {found:,}; the store is damaged, prepare it again"
            )
    with open_archive(folder / INDEX) as archive:
        columns = {name: archive.read(name) for name in archive.members}
    missing = [name for name in ("offsets", *REMEMBERED) if name not in columns]
    if missing:
        raise DataError(
            f"{folder}: {INDEX}: expected {missing[0]!r} in it, found none; the store is damaged, prepare it again"
        )
    try:
        joints = np.load(folder / JOINTS, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: {JOINTS}: {one_line(error)}; the store is damaged, prepare it again") from None
    clips = ClipSet(
        name=header.name, joints=joints, offsets=columns.pop("offsets"),
        stored=Stored(header.fingerprint, *(columns.pop(name) for name in REMEMBERED)), columns=columns,
        class_names=header.class_names,
        layout=layout_from_parents(header.joint_names, header.parents), fps=header.fps,
        default_split=header.default_split, splits=header.splits,
    )  # fmt: skip
    validate(clips, str(folder), frames=False)
    return clips


def read_header(folder: Path) -> Header:
    """What a store says of itself; a `DataError` when it is not a whole store of this version."""
    path = folder / HEADER
    if not path.exists():
        found = "a half-written one" if is_store(folder) else "none"
        raise DataError(f"{folder}: expected a prepared store ({HEADER}), found {found}; prepare it again")
    try:
        header = Header.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = one_line(error.errors()[0]["msg"] if isinstance(error, ValidationError) else error)
        raise DataError(f"{path}: {reason}; the store is damaged or of another version, prepare it again") from None
    if header.version != VERSION:
        raise DataError(f"{path}: expected version {VERSION}, found {header.version}; prepare it again")
    return header


def write_store(
    folder: Path, parts: Iterable[Part], shape: tuple[int, ...], dtype: str = "<f4", **header: Any
) -> Header:
    """Write all files of a store into an empty folder and flush them to disk; the caller renames it.

    Args:
        parts: all clips, in order; one part is held in memory at a time.
        shape: [F, M, V, 3] of all frames together.
        dtype: of the frames on disk, ``<f4`` or ``<f2``.
        header: the fields of `Header` that do not follow from the clips.
    """
    center = layout_from_parents(header["joint_names"], header["parents"]).center
    made, found = Fingerprint(shape), list[dict[str, NDArray]]()
    with flushed(folder / JOINTS) as file:
        npy.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        for part in parts:
            file.write(np.ascontiguousarray(part.joints, dtype).data)
            made.frames(part.joints)
            found.append({**remembered(part, center), "lengths": part.lengths, **part.columns})
    index = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    index["offsets"] = np.concatenate([[0], np.cumsum(index.pop("lengths"))]).astype(np.int64)
    with flushed(folder / INDEX) as file, zipfile.ZipFile(file, "w") as archive:
        for name, values in index.items():  # a bare ZipInfo carries no time of day
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array(member, values, allow_pickle=False)
    columns = index["offsets"], index["label"], index["subject"]
    fingerprint = made.index(*columns, header["parents"], header["class_names"])
    sizes = {name: (folder / name).stat().st_size for name in (JOINTS, INDEX)}
    written = Header(version=VERSION, fingerprint=fingerprint, sizes=sizes, **header)
    with flushed(folder / HEADER) as file:
        file.write(written.model_dump_json(indent=1).encode())
    return written


def remembered(part: Part, center: int) -> dict[str, NDArray]:
    """The arrays of `REMEMBERED` for some clips."""
    clips = [np.asarray(clip, np.float32) for clip in np.split(part.joints, np.cumsum(part.lengths)[:-1])]
    return {
        "hashes": np.array([clip_hash(clip) for clip in clips], np.uint64),
        "present": np.array([clip.any(axis=(0, 2, 3)) for clip in clips]),
        "origins": np.array([clip_origin(clip, center) for clip in clips], np.float32),
    }


@contextmanager
def flushed(path: Path) -> Iterator[BinaryIO]:
    """A new binary file that is on the disk when the block ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def open_prepared(name: str) -> ClipSet:
    """The store of a data set that was prepared under its own name."""
    folder = stores_dir() / name
    if not is_store(folder):
        raise DataError(
            f"{name} is not prepared here ({folder}); with its files at hand: "
            f"python -m harness data prepare {name} --raw FOLDER"
        )
    return open_store(folder)
