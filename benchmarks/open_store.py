"""How long a store takes to open: the first time, when all of it is hashed, and after that.

    python benchmarks/open_store.py --clips 113945

Made-up clips of one body with NTU's 25 joints are written to a temporary folder (300 bytes a frame,
60 to 103 frames a clip) and opened. The same store as one of format 1, which had no hashes, is
opened as well. The files were just written, so what is timed is hashing, not a disk.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import harness  # noqa: F401 - makes its neighbours importable
from datasets.files import CACHE_VARIABLE
from datasets.formats import store_check
from datasets.formats.store import HEADER, JOINTS, open_store
from datasets.formats.store_writing import StorePart, write_store
from datasets.layouts import NTU25
from harness.machine import describe_environment, select_device

PART = 2000
ROUNDS = 15


def main() -> int:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=113_945)
    arguments = parser.parse_args()
    store_check.RECENT = 0  # nobody writes to these files
    with tempfile.TemporaryDirectory() as place:
        os.environ[CACHE_VARIABLE] = f"{place}/cache"
        folder = Path(place) / "store"
        frames = write(folder, arguments.clips)
        size = (folder / JOINTS).stat().st_size / 1e9
        print(f"{arguments.clips:,} clips, {frames:,} frames, {size:.2f} GB")
        report("format 2", folder)
        as_format_1(folder)
        report("format 1", folder)
    environment = describe_environment(select_device("cpu"))
    print(
        f"{environment.processor}, {environment.cores} cores; python"
        f" {environment.versions['python']}, numpy {environment.versions['numpy']}; commit"
        f" {environment.commit}"
    )
    return 0


def write(folder: Path, count: int) -> int:
    """A store of so many clips; its frames."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(60, 104, count)
    poses = rng.standard_normal((104 * PART, 1, NTU25.joint_count, 3)).astype(np.float32)
    folder.mkdir()
    write_store(
        folder,
        parts(lengths, poses),
        (int(lengths.sum()), *poses.shape[1:]),
        name="made-up",
        title="Made up",
        plan="none",
        joint_names=NTU25.joints,
        parents=NTU25.parents,
        class_names=[str(label) for label in range(120)],
        fps=30.0,
        default_split="xsub",
        splits={},
        expected={},
        counts={},
        problems=(),
    )
    return int(lengths.sum())


def parts(lengths: NDArray[np.int64], poses: NDArray[np.float32]) -> Iterator[StorePart]:
    """Some clips at a time, moved a little, so that no two are equal."""
    for first in range(0, len(lengths), PART):
        some, numbers = (
            lengths[first : first + PART],
            np.arange(first, min(first + PART, len(lengths))),
        )
        names = np.array([f"clip{number:07}" for number in numbers])
        columns = {
            "label": numbers % 120,
            "subject": numbers % 106,
            "view": numbers % 3,
            "names": names,
        }
        yield StorePart(poses[: some.sum()] + np.float32(1e-6 * first), some, columns)


def as_format_1(folder: Path) -> None:
    """Leave out what format 1 had not."""
    header = json.loads((folder / HEADER).read_text())
    old = {key: value for key, value in header.items() if key not in ("made_by", "sums", "seal")}
    (folder / HEADER).write_text(json.dumps(old | {"version": 1}))
    for note in Path(os.environ[CACHE_VARIABLE]).rglob("*.json"):
        note.unlink()


def report(name: str, folder: Path) -> None:
    """Seconds of the first opening, and milliseconds of the best later one."""
    first, later = seconds(folder), min(seconds(folder) for _ in range(ROUNDS))
    print(f"{name}: first {first:.1f} s, then {1000 * later:.0f} ms (best of {ROUNDS})")


def seconds(folder: Path) -> float:
    """Of one opening."""
    began = time.perf_counter()
    open_store(folder)
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
