"""Whether a store's files still hold what was written: hashed once per version of a file,
remembered in the cache.

A store of format 2 carries the SHA-256 of every array of its index and of its frames in blocks
(`Sums`). One of format 1 carries a fingerprint only: what follows from its frames is computed again
when it is first opened here, and its sums are remembered from then on.
`datasets.files.file_version` says what a version of a file is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from datasets.checks import not_finite, refuse, validate
from datasets.clips import ClipSet, Fingerprint, Stored, clip_hash, clip_origin
from datasets.files import FileVersion, atomic_file, cache_dir

HEADER, JOINTS, INDEX = "store.json", "joints.npy", "index.npz"
_BLOCK_BYTES = 32 * 2**20
"""Of `JOINTS`, hashed on their own; part of format 2."""
REPAIR = "copy the store again, or prepare it again"
RECENT = 2.0
"""Seconds. A file that was written to so shortly before may be written to again within one tick of
the file system's clock, and look the same: what was found in it is not remembered.
"""

_PIECE_BYTES = 2**20
_THREADS = 4
"""Together they hash more than most disks read."""
_TOLD_CLIPS = 200

Advance = Callable[[int, int], None]


class Sums(BaseModel):
    """SHA-256, in hex, of what lies in a store's two large files.

    Attributes:
        arrays: of each array of the index (`array_sum`); ``index`` of its file.
        blocks: of each `_BLOCK_BYTES` of the frames' file, its own header included.
    """

    model_config = ConfigDict(extra="forbid")

    arrays: dict[str, str]
    index: str
    blocks: tuple[str, ...]


class _Checked(BaseModel):
    """What the cache remembers of a store that held what it should.

    Attributes:
        store: its path.
        day: of the check.
        header: SHA-256 of `HEADER`.
        versions: of the other two files when they were looked at.
        sums: of their content.
    """

    model_config = ConfigDict(extra="forbid")

    store: str
    day: date
    header: str
    versions: dict[str, FileVersion]
    sums: Sums


def check_content(
    folder: Path,
    header: bytes,
    sums: Sums | None,
    versions: Mapping[str, FileVersion],
    arrays: Mapping[str, NDArray],
    clips: ClipSet,
    *,
    afresh: bool,
    advance: Advance,
) -> None:
    """What must hold for the clips, and the hashes of a store's content, unless its files were
    hashed before.

    Args:
        header: the bytes of `HEADER`.
        sums: what the header says; None in format 1.
        versions: of `JOINTS` and `INDEX`, taken before they were read.
        arrays: all of the index.
        clips: the store's, with mapped frames.
        afresh: whatever is remembered.
        advance: told of bytes done and bytes in all.

    Raises:
        DataError: naming the array, and of the frames which clips.
    """
    now, digest, known = time.time(), hashlib.sha256(header).hexdigest(), _recall(folder)
    same_header, same_files = (
        bool(known and known.header == digest),
        bool(known and known.versions == versions),
    )
    if sums is None and known and same_header:
        sums = known.sums
    checked = same_header and same_files and not afresh
    if sums and not checked:
        _compare_arrays(folder, sums, arrays)
    validate(clips, str(folder), frames=False)
    if checked:
        return
    if sums:
        _compare_blocks(folder, sums, clips, advance)
    elif known and same_files:
        refuse(
            str(folder),
            HEADER,
            f"the text that it had on {known.day}",
            "another beside the same frames",
            REPAIR,
        )
    else:
        _compare_stored(folder, clips, advance)
        found = {name: array_sum(values) for name, values in arrays.items()}
        blocks = tuple(_block_sums(folder / JOINTS, advance))
        sums = Sums(arrays=found, index=file_sum(folder / INDEX), blocks=blocks)
    written = max(
        time_ns for _, changed, entered, _ in versions.values() for time_ns in (changed, entered)
    )
    if now - written / 1e9 >= RECENT:
        place = str(folder.resolve())
        _remember(
            folder,
            _Checked(
                store=place, day=date.today(), header=digest, versions=dict(versions), sums=sums
            ),
        )


# --- hashes ---


def array_sum(values: NDArray) -> str:
    """SHA-256 of an array's type, shape and values."""
    head = f"{values.dtype.str} {list(values.shape)}\n".encode()
    return hashlib.sha256(head + values.tobytes()).hexdigest()


def file_sum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class BlockSums:
    """The `Sums.blocks` of a file in the making."""

    def __init__(self) -> None:
        self._done = list[str]()
        self._digest, self._room = hashlib.sha256(), _BLOCK_BYTES

    def add(self, data: memoryview | bytes) -> None:
        """The next bytes."""
        rest = memoryview(data)
        while rest:
            piece, rest = rest[: self._room], rest[self._room :]
            self._digest.update(piece)
            self._room -= len(piece)
            if not self._room:
                self._close()

    def finish(self) -> tuple[str, ...]:
        """All blocks."""
        if self._room < _BLOCK_BYTES:
            self._close()
        return tuple(self._done)

    def _close(self) -> None:
        self._done.append(self._digest.hexdigest())
        self._digest, self._room = hashlib.sha256(), _BLOCK_BYTES


def _block_sums(path: Path, advance: Advance) -> Iterator[str]:
    size = path.stat().st_size
    with ThreadPoolExecutor(_THREADS) as pool:
        starts = range(0, size, _BLOCK_BYTES)
        for start, found in zip(starts, pool.map(partial(_block_sum, path), starts), strict=True):
            advance(min(start + _BLOCK_BYTES, size), size)
            yield found


def _block_sum(path: Path, start: int) -> str:
    """Read, not mapped: a file that is cut short meanwhile ends early instead
    of killing the process.
    """
    digest, piece = hashlib.sha256(), bytearray(_PIECE_BYTES)
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        for _ in range(0, _BLOCK_BYTES, _PIECE_BYTES):
            digest.update(memoryview(piece)[: file.readinto(piece)])
    return digest.hexdigest()


# --- comparisons ---


def _compare_arrays(folder: Path, sums: Sums, arrays: Mapping[str, NDArray]) -> None:
    for name, expected in sums.arrays.items():
        if name not in arrays:
            refuse(f"{folder}: {INDEX}", name, "an array of this name", "none", REPAIR)
        if array_sum(arrays[name]) != expected:
            refuse(f"{folder}: {INDEX}", name, "the values that were written", "others", REPAIR)
    for name in sorted(arrays.keys() - sums.arrays.keys()):
        refuse(f"{folder}: {INDEX}", name, "no array of this name", "one", REPAIR)
    if file_sum(folder / INDEX) != sums.index:  # what holds the arrays, which are right
        refuse(str(folder), INDEX, "the file that was written", "another", REPAIR)


def _compare_blocks(folder: Path, sums: Sums, clips: ClipSet, advance: Advance) -> None:
    found = list[str]()
    for number, block in enumerate(_block_sums(folder / JOINTS, advance)):
        found.append(block)
        if sums.blocks[number : number + 1] != (block,):
            refuse(
                str(folder), JOINTS, "the frames that were written", _changed(clips, number), REPAIR
            )
    if len(found) != len(sums.blocks):
        refuse(str(folder), JOINTS, f"{len(sums.blocks)} blocks of frames", len(found), REPAIR)


def _changed(clips: ClipSet, number: int) -> str:
    """What is wrong with the frames of a block, and which they are."""
    frame_bytes, start = clips.joints[0].nbytes, clips.joints.offset  # type: ignore[attr-defined] # a memory map's
    first = max(0, (number * _BLOCK_BYTES - start) // frame_bytes)
    end = min(len(clips.joints), -(-((number + 1) * _BLOCK_BYTES - start) // frame_bytes))
    if problem := not_finite(clips, first, end):
        return problem
    one, other = (
        int(np.searchsorted(clips.offsets, frame, side="right")) - 1 for frame in (first, end - 1)
    )
    return f"others in {clips.describe(one)} to {clips.describe(other)}"


def _compare_stored(folder: Path, clips: ClipSet, advance: Advance) -> None:
    """Compute again what a store remembers of its frames;
    the one check that a store of format 1 allows.
    """
    stored, computed = clips.stored, _computed(clips, advance)
    assert stored is not None
    other = np.flatnonzero(stored.hashes != computed.hashes)
    if stored.fingerprint != computed.fingerprint:
        if len(other):
            found = (
                not_finite(clips)
                or f"others in {clips.describe(int(other[0]))} ({len(other)} clips differ)"
            )
            refuse(str(folder), JOINTS, "the frames that were written", found, REPAIR)
        expected = (
            "offsets, labels, subjects, parents and classes of fingerprint"
            f" {stored.fingerprint[:16]}"
        )
        refuse(
            str(folder),
            f"{INDEX} and {HEADER}",
            expected,
            f"those of {computed.fingerprint[:16]}",
            REPAIR,
        )
    for name in ("hashes", "present", "origins"):
        if not np.array_equal(getattr(stored, name), getattr(computed, name)):
            refuse(
                f"{folder}: {INDEX}", name, "what follows from the frames", "something else", REPAIR
            )


def _computed(clips: ClipSet, advance: Advance) -> Stored:
    made, count = Fingerprint(clips.joints.shape), len(clips)
    hashes, origins = np.empty(count, np.uint64), np.empty((count, 3), np.float32)
    present = np.empty((count, clips.joints.shape[1]), bool)
    for index in range(count):
        frames = clips.clip(index)
        made.frames(frames)
        hashes[index], origins[index] = clip_hash(frames), clip_origin(frames, clips.layout.center)
        present[index] = frames.any(axis=(0, 2, 3))
        if index % _TOLD_CLIPS == 0:
            advance(int(clips.offsets[index + 1]), len(clips.joints))
    columns = clips.columns["label"], clips.columns["subject"]
    fingerprint = made.index(clips.offsets, *columns, clips.layout.parents, clips.class_names)
    return Stored(fingerprint, hashes, present, origins)


# --- what is remembered ---


def _place(folder: Path) -> Path:
    return (
        cache_dir() / "stores" / f"{hashlib.sha256(bytes(folder.resolve())).hexdigest()[:16]}.json"
    )


def _recall(folder: Path) -> _Checked | None:
    try:
        return _Checked.model_validate_json(_place(folder).read_bytes())
    except (
        OSError,
        ValidationError,
    ):  # nothing there, or nothing that can be relied on: the files are hashed again
        return None


def _remember(folder: Path, checked: _Checked) -> None:
    try:
        place = _place(folder)
        place.parent.mkdir(exist_ok=True)
        with atomic_file(place) as file:
            file.write(checked.model_dump_json().encode())
    except OSError:  # a cache that cannot be written to costs time, nothing else
        return
