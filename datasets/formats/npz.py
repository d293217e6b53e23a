"""The exchange format: one ``.npz`` file per data set, so that anyone can bring their own data.

==================  ==================
=============================================================
array               shape               meaning
==================  ==================
=============================================================
``joints``          [F, M, V, 3] float  packed frames, metres, y up; an absent body is all zeros
``offsets``         [N + 1] integer     clip i is ``joints[offsets[i]:offsets[i + 1]]``
``label``           [N] integer         index into ``class_names``; or strings, each one of them
``subject``         [N] integer         the person's number, -1 where it is not known
``class_names``     [K] string
``joint_names``     [V] string
``parents``         [V] integer         kinematic tree, -1 at its root
``fps``             number              frames per second
``default_split``   string, optional    the split used when none is asked for
``origin``          [N, 3], optional    what to add for the recording's coordinates: not read
``*_names``         optional            names that a column's numbers stand for: not read
any other           [N]                 a column: numbers or strings, e.g. ``view``, ``correct``
==================  ==================
=============================================================

Extra scalars and extra arrays of two or more dimensions are left out (`not_kept` names them). An
extra one-dimensional array of another length is an error: a column that is lost without a word
would be missed only much later.
"""

from __future__ import annotations

import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from datasets.checks import check_integers, check_joints, refuse, validate
from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.files import atomic_file
from datasets.formats.archive import Archive, open_archive
from datasets.layouts import SkeletonLayout, layout_from_parents
from datasets.wording import listed, nearest, one_line

REQUIRED = ("joints", "offsets", "label", "subject", "class_names", "joint_names", "parents", "fps")
_SPECIAL = (*REQUIRED, "default_split")
_NOT_READ = "origin"
_DEFAULT_SPLIT = np.array(ClipSet.default_split)


def read_npz(path: Path, *, memory_limit: int = 2 * 2**30, check_frames: bool = True) -> ClipSet:
    """Read and check a file in the exchange format.

    Args:
        path: the ``.npz`` file.
        memory_limit: bytes; joints that take more are memory-mapped instead of read: in place when
            the file is not compressed, otherwise from a copy in `datasets.files.cache_dir`.
        check_frames: False lets coordinates pass that are no finite numbers, for the doctor to
            count.

    Returns:
        The clips, named after the file. Joints are float32 or float16 as stored; float64 becomes
        float32.

    Raises:
        DataError: the file or an array in it is not as described above; one line with the next
            step.
    """
    path = Path(path)
    with open_archive(path) as archive:
        _check_present(archive)
        joints = _read_joints(archive, memory_limit)
        arrays = {name: archive.read(name) for name in archive.members if _kept(archive, name)}
    clips = _assemble(path, joints, arrays)
    validate(clips, str(path), frames=check_frames)
    return clips


def write_npz(path: Path, clips: ClipSet) -> None:
    """Write checked clips in the exchange format, uncompressed, so that the frames can be mapped in
    place.

    The file appears whole or not at all; what stood there before stays until then.

    Raises:
        DataError: the clips fail `datasets.checks.validate`, or the file cannot be written.
    """
    path = Path(path)
    validate(clips, f"{clips.name} (to be written to {path})")
    arrays = _arrays(path, clips)
    try:
        with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, values in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    npy.write_array(member, np.asanyarray(values), allow_pickle=False)
    except OSError as error:
        refuse(
            str(path),
            "file",
            "a place to write",
            one_line(error),
            "check the folder and the room in it",
        )


def not_kept(path: Path) -> list[str]:
    """Names of the arrays of a file that `read_npz` leaves out and the format does not know."""
    with open_archive(path) as archive:
        return [
            name
            for name in archive.members
            if name not in ("joints", _NOT_READ) and not _kept(archive, name)
        ]


def _check_present(archive: Archive) -> None:
    if {"x_train", "y_train"} <= archive.members.keys() and "joints" not in archive.members:
        edition = "ntu120" if archive.members["y_train"].shape[-1:] == (120,) else "ntu60"
        raise DataError(
            f"{archive.path}: expected the exchange format, found NTU RGB+D in CTR-GCN's form;"
            f" next: python -m harness data prepare {edition} --raw {archive.path}"
        )
    for name in REQUIRED:
        if name not in archive.members:
            hint = nearest(name, set(archive.members) - set(REQUIRED))
            step = f"{hint}the format is described in datasets/README.md, 'Your own data'"
            refuse(str(archive.path), name, "an array of this name", listed(archive.members), step)


def _read_joints(archive: Archive, memory_limit: int) -> NDArray[np.floating]:
    member = archive.members["joints"]
    stored = member.dtype.newbyteorder("=")
    dtype = np.dtype(np.float32) if stored == np.float64 else stored
    check_joints(str(archive.path), member.shape, dtype)
    if member.nbytes > memory_limit:
        return archive.map("joints")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and the checks name it
        return archive.read("joints", memory_limit).astype(dtype, copy=False)


def _kept(archive: Archive, name: str) -> bool:
    if name in ("joints", _NOT_READ):
        return False
    if name in _SPECIAL:
        return True
    shape = archive.members[name].shape
    per_clip = (prod(archive.members["offsets"].shape) - 1,)
    return len(shape) == 1 and (shape == per_clip or not name.endswith("_names"))


def _assemble(path: Path, joints: NDArray[np.floating], arrays: dict[str, NDArray]) -> ClipSet:
    where = str(path)
    columns = {name: _column(values) for name, values in arrays.items() if name not in _SPECIAL}
    columns = {name: _column(arrays[name]) for name in ("label", "subject")} | columns
    class_names = _strings(where, "class_names", arrays)
    columns["label"] = _indices(where, columns["label"], class_names)
    check_integers(where, "offsets", arrays["offsets"])
    return ClipSet(
        name=path.stem,
        joints=joints,
        offsets=arrays["offsets"].astype(np.int64),
        columns=columns,
        class_names=class_names,
        layout=_layout(where, arrays, joints.shape[2]),
        fps=float(_scalar(where, "fps", arrays["fps"], "iuf")),
        default_split=str(
            _scalar(where, "default_split", arrays.get("default_split", _DEFAULT_SPLIT), "U")
        ),
    )


def _column(values: NDArray) -> NDArray:
    """Integers as int64 and byte strings as text; anything else as it is,
    for the checks to judge.
    """
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    return (
        np.char.decode(values, "utf-8", "backslashreplace") if values.dtype.kind == "S" else values
    )


def _indices(where: str, labels: NDArray, class_names: tuple[str, ...]) -> NDArray:
    """Labels that are names as indices; others as they are, for the checks to judge."""
    if labels.dtype.kind != "U" or labels.ndim != 1:
        return labels
    places = {name: place for place, name in enumerate(class_names)}
    if unknown := sorted(set(labels.tolist()) - places.keys()):
        step = "add it to class_names, or write indices"
        refuse(where, "label", "names that stand in class_names", repr(unknown[0][:40]), step)
    return np.array([places[name] for name in labels.tolist()], np.int64)


def _strings(where: str, name: str, arrays: dict[str, NDArray]) -> tuple[str, ...]:
    values = _column(arrays[name])
    if values.ndim == 1 and values.dtype.kind in "iu":
        values = values.astype(str)  # classes and joints that are called 0, 1, 2
    if values.ndim != 1 or values.dtype.kind != "U":
        found = f"{values.dtype} of shape {list(values.shape)}"
        refuse(
            where,
            name,
            "a one-dimensional array of strings",
            found,
            "write numpy.array(list_of_names)",
        )
    return tuple(values.tolist())


def _scalar(where: str, name: str, values: NDArray, kinds: str) -> Any:
    if values.ndim != 0 or values.dtype.kind not in kinds:
        found = f"{values.dtype} of shape {list(values.shape)}"
        refuse(
            where,
            name,
            "one string" if kinds == "U" else "one number",
            found,
            "write it as a scalar",
        )
    return values.item()


def _layout(where: str, arrays: dict[str, NDArray], joint_count: int) -> SkeletonLayout:
    names = _strings(where, "joint_names", arrays)
    if len(names) != joint_count:
        refuse(
            where,
            "joint_names",
            f"shape [{joint_count}], one per joint",
            [len(names)],
            "name every joint",
        )
    check_integers(where, "parents", arrays["parents"], joint_count)
    try:
        return layout_from_parents(names, arrays["parents"].tolist())
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _arrays(path: Path, clips: ClipSet) -> dict[str, NDArray]:
    taken = sorted((set(_SPECIAL) - {"label", "subject"}) & set(clips.columns))
    if taken:
        refuse(
            str(path),
            taken[0],
            "another name for a column",
            "a name that the format uses",
            "rename it",
        )
    arrays = {
        "joints": clips.joints,
        "offsets": clips.offsets,
        "class_names": np.array(clips.class_names),
        "joint_names": np.array(clips.layout.joints),
        "parents": np.array(clips.layout.parents, dtype=np.int64),
        "fps": np.array(clips.fps, dtype=np.float32),
        "default_split": np.array(clips.default_split),
    }
    return arrays | dict(clips.columns)
