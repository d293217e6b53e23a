"""The store: a prepared data set as one folder, opened without reading a frame.

==============
==================================================================================================
``joints.npy``  [F, M, V, 3] packed frames of all clips, memory-mapped; float32, or float16 where
asked for
``index.npz``   ``offsets``, what `datasets.clips.Stored` holds, and one array per column
``store.json``  everything else: layout, classes, splits, counts by stage, fingerprint, sizes and
sums of the others ==============
==================================================================================================

A store is written (`datasets.formats.store_writing`) beside its place and renamed at the end, so it
is there whole or not at all. The same raw files in the same place give the same store, bit for bit;
elsewhere the same frames and index. Its fingerprint is that of `datasets.clips.fingerprint`; two
laboratories can compare theirs without sharing the data.

Whatever was changed since is found when a store is opened: the header carries its own hash and
those of all arrays, and each version of a file is hashed once (`datasets.formats.store_check`).
Format 1 had no hashes; such stores open as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datasets.checks import check_integers, check_joints, refuse
from datasets.clips import ClipSet, Stored
from datasets.errors import DataError
from datasets.files import APPLICATION, STORES_VARIABLE, file_version
from datasets.formats.archive import open_archive
from datasets.formats.store_check import HEADER, INDEX, JOINTS, REPAIR, Advance, Sums, check_content
from datasets.layouts import layout_from_parents
from datasets.wording import one_line

FORMAT: Literal[2] = 2
FIRST_FORMAT = 1
REMEMBERED = ("hashes", "present", "origins")
"""Arrays of the index that are no columns, in the order of `Stored`."""


class Header(BaseModel):
    """What `store.json` says.

    Attributes:
        version: of the format; 1 had no ``made_by``, ``sums`` and ``seal``.
        plan: hash of what the store was made from (`datasets.raw.prepare.plan_of`).
        made_by: versions of the reader, the preparation and the writer.
        counts: stages of the preparation, in order, to counts.
        problems: what was left out and why, one line each.
        expected: published numbers of training and test clips by split.
        sizes: bytes of the other files.
        sums: of their content.
        seal: hash of all of the above.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1, 2]
    name: str
    title: str
    plan: str
    made_by: dict[str, int] = Field(default_factory=dict)
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
    sums: Sums | None = None
    seal: str = ""


def stores_dir() -> Path:
    """Where prepared data sets lie.

    ``$MASKED_SKELETON_DATA``, else where the system keeps a user's data: on Linux
    ``$XDG_DATA_HOME/masked-skeleton`` or ``~/.local/share/masked-skeleton``.
    """
    chosen = os.environ.get(STORES_VARIABLE)
    return Path(chosen).expanduser() if chosen else user_data_path(APPLICATION, appauthor=False)


def is_store(folder: Path) -> bool:
    """True for a folder that a store was written to, or half-written to."""
    return any(os.path.exists(folder / name) for name in (HEADER, JOINTS, INDEX))


def open_store(
    folder: Path, *, afresh: bool = False, advance: Advance = lambda done, total: None
) -> ClipSet:
    """The clips of a store, frames memory-mapped.

    The first time that a version of its files is opened here, all of it is hashed; after that,
    nothing is.

    Args:
        afresh: hash it again.
        advance: told of bytes done and bytes in all while that is done.

    Raises:
        DataError: there is no store, it is half-written, damaged or changed, or it was made by a
            later version.
    """
    header, text = _read_header(folder)
    versions = {
        name: file_version(folder / name, "prepare the store again") for name in (JOINTS, INDEX)
    }
    with open_archive(folder / INDEX) as archive:
        arrays = {
            name: archive.read(name, member.nbytes) for name, member in archive.members.items()
        }
    joints = _map_joints(folder, header)
    _check_shapes(folder, joints, arrays)
    _check_size(folder, header, INDEX)
    try:
        layout = layout_from_parents(header.joint_names, header.parents)
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None
    clips = ClipSet(
        name=header.name,
        joints=joints,
        offsets=arrays["offsets"],
        stored=Stored(header.fingerprint, *(arrays[name] for name in REMEMBERED)),
        columns={
            name: values for name, values in arrays.items() if name not in ("offsets", *REMEMBERED)
        },
        class_names=header.class_names,
        layout=layout,
        fps=header.fps,
        default_split=header.default_split,
        splits=header.splits,
    )
    check_content(
        folder, text, header.sums, versions, arrays, clips, afresh=afresh, advance=advance
    )
    return clips


def _check_size(folder: Path, header: Header, name: str) -> None:
    expected, found = header.sizes.get(name, 0), (folder / name).stat().st_size
    if found != expected:
        refuse(str(folder), name, f"{expected:,} bytes", f"{found:,}", REPAIR)


def _map_joints(folder: Path, header: Header) -> NDArray[np.floating]:
    _check_size(folder, header, JOINTS)
    try:
        joints = npy.open_memmap(folder / JOINTS, mode="r")
    except (OSError, ValueError) as error:
        refuse(str(folder), JOINTS, "an array that can be mapped", one_line(error), REPAIR)
    check_joints(f"{folder}: {JOINTS}", joints.shape, joints.dtype)
    return joints


def _check_shapes(
    folder: Path, joints: NDArray[np.floating], arrays: Mapping[str, NDArray]
) -> None:
    """The arrays of the index that are no columns, which `validate` knows."""
    where = f"{folder}: {INDEX}"
    for name in ("offsets", *REMEMBERED):
        if name not in arrays:
            refuse(where, name, "an array of this name", "none", REPAIR)
    check_integers(where, "offsets", arrays["offsets"])
    count, bodies = len(arrays["offsets"]) - 1, joints.shape[1]
    expected = {
        "hashes": ("uint64", [count]),
        "present": ("bool", [count, bodies]),
        "origins": ("float32", [count, 3]),
    }
    for name, (dtype, shape) in expected.items():
        found = arrays[name]
        if found.dtype != np.dtype(dtype) or list(found.shape) != shape:
            refuse(where, name, f"{dtype} {shape}", f"{found.dtype} {list(found.shape)}", REPAIR)


def read_header(folder: Path) -> Header:
    """What a store says of itself; a `DataError` when it is not a whole store of this format
    or an earlier one.
    """
    return _read_header(folder)[0]


def _read_header(folder: Path) -> tuple[Header, bytes]:
    path = folder / HEADER
    if not os.path.exists(path):
        found = "a half-written one" if is_store(folder) else "none"
        raise DataError(
            f"{folder}: expected a prepared store ({HEADER}), found {found}; prepare it again"
        )
    file_version(path, "prepare the store again")
    try:
        text = path.read_bytes()
        content = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: expected a store's header, found damage ({one_line(error)}); {REPAIR}"
        ) from None
    version = content.get("version") if isinstance(content, dict) else None
    if version not in range(FIRST_FORMAT, FORMAT + 1):
        step = "open it with the version of the suite that made it, or prepare it again"
        raise DataError(
            f"{path}: expected format {FIRST_FORMAT} to {FORMAT}, found {version!r}; {step}"
        )
    try:
        header = Header.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        what = ".".join(map(str, problem["loc"]))
        raise DataError(f"{path}: {what}: {one_line(problem['msg'])}; {REPAIR}") from None
    if header.version > FIRST_FORMAT and seal_of(content) != header.seal:
        raise DataError(f"{path}: expected the text that was written, found another; {REPAIR}")
    return header, text


def seal_of(content: Mapping[str, object]) -> str:
    """SHA-256 of what a header says, however it is laid out."""
    sealed = {key: value for key, value in content.items() if key != "seal"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def open_prepared(
    name: str,
    *,
    raw: str = "FOLDER",
    afresh: bool = False,
    advance: Advance = lambda done, total: None,
) -> ClipSet:
    """The store of a data set that was prepared under its own name; as `open_store`.

    ``raw``: what its raw path is, for the message.
    """
    return open_store(check_prepared(name, raw=raw), afresh=afresh, advance=advance)


def check_prepared(name: str, *, raw: str = "FOLDER") -> Path:
    """The folder of a data set that was prepared under its own name; a `DataError` where there is
    none. ``raw``: as in `open_prepared`.
    """
    folder = stores_dir() / name
    if not is_store(folder):
        raise DataError(
            f"{name} is not prepared here ({folder}); with its files at hand: "
            f"python -m harness data prepare {name} --raw {raw}"
        )
    return folder
