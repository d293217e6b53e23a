"""Writes a store, part by part; what a store is, says `datasets.formats.store`."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from datasets.clips import Fingerprint, clip_hash, clip_origin
from datasets.errors import DataError
from datasets.formats.store import FORMAT, HEADER, INDEX, JOINTS, Header, seal_of
from datasets.formats.store_check import BlockSums, Sums, array_sum, file_sum
from datasets.layouts import layout_from_parents

VERSION = 1
"""Of what is written: raised when the same clips would give other files than before."""


@dataclass(frozen=True)
class StorePart:
    """Some of a store's clips, in order.

    Attributes:
        joints: [f, M, V, 3] float32 or float16.
        lengths: [n] frames of each clip.
        columns: name -> [n] values.
    """

    joints: NDArray[np.floating]
    lengths: NDArray[np.int64]
    columns: Mapping[str, NDArray]


def write_store(
    folder: Path,
    parts: Iterable[StorePart],
    shape: tuple[int, ...],
    dtype: str = "<f4",
    **header: Any,
) -> Header:
    """Write all files of a store into an empty folder and flush them to disk; the caller renames
    it.

    Args:
        parts: all clips, in order; one part is held in memory at a time.
        shape: [F, M, V, 3] of all frames together.
        dtype: of the frames on disk, ``<f4`` or ``<f2``.
        header: the fields of `Header` that do not follow from the clips.

    Raises:
        DataError: a coordinate is no finite number of that type.
        OSError: as writing does.
    """
    center = layout_from_parents(header["joint_names"], header["parents"]).center
    made, blocks, found = Fingerprint(shape), BlockSums(), list[dict[str, NDArray]]()
    with _flushed(folder / JOINTS) as file:

        def put(data: memoryview | bytes) -> None:
            file.write(data)
            blocks.add(data)

        start = BytesIO()
        npy.write_array_header_1_0(start, {"descr": dtype, "fortran_order": False, "shape": shape})
        put(start.getvalue())
        for part in parts:
            joints = np.ascontiguousarray(
                part.joints, dtype
            )  # what is remembered is that of the frames as stored
            if not np.isfinite(joints).all():
                raise DataError(
                    f"{folder}: {JOINTS}: expected finite coordinates in metres, found NaN or"
                    " infinity"
                )
            put(joints.reshape(-1).view(np.uint8).data)
            made.frames(joints)
            found.append(
                {
                    **_remembered(joints, part.lengths, center),
                    "lengths": part.lengths,
                    **part.columns,
                }
            )
    index = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    index["offsets"] = np.concatenate([[0], np.cumsum(index.pop("lengths"))]).astype(np.int64)
    with _flushed(folder / INDEX) as file, zipfile.ZipFile(file, "w") as archive:
        for name, values in index.items():  # a bare ZipInfo carries no time of day
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array(member, values, allow_pickle=False)
    columns = index["offsets"], index["label"], index["subject"]
    fingerprint = made.index(*columns, header["parents"], header["class_names"])
    sizes = {name: (folder / name).stat().st_size for name in (JOINTS, INDEX)}
    arrays = {name: array_sum(values) for name, values in index.items()}
    sums = Sums(arrays=arrays, index=file_sum(folder / INDEX), blocks=blocks.finish())
    written = Header(version=FORMAT, fingerprint=fingerprint, sizes=sizes, sums=sums, **header)
    written = written.model_copy(update={"seal": seal_of(written.model_dump(mode="json"))})
    with _flushed(folder / HEADER) as file:
        file.write(written.model_dump_json(indent=1).encode())
    return written


def _remembered(
    joints: NDArray[np.floating], lengths: NDArray[np.int64], center: int
) -> dict[str, NDArray]:
    """The arrays of `datasets.formats.store.REMEMBERED` for some clips [f, M, V, 3]."""
    clips = [np.asarray(clip, np.float32) for clip in np.split(joints, np.cumsum(lengths)[:-1])]
    return {
        "hashes": np.array([clip_hash(clip) for clip in clips], np.uint64),
        "present": np.array([clip.any(axis=(0, 2, 3)) for clip in clips]),
        "origins": np.array([clip_origin(clip, center) for clip in clips], np.float32),
    }


@contextmanager
def _flushed(path: Path) -> Iterator[BinaryIO]:
    """A new binary file that is on the disk when the block ends."""
    with path.open("xb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
