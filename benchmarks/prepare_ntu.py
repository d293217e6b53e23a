"""How fast NTU RGB+D files are prepared, and in how much memory, against a plain line-by-line
reader.

    python benchmarks/prepare_ntu.py --files 4000

Made-up `.skeleton` files are written to a temporary folder. In every round the plain reader, which
turns every field into a number, and this suite's parser read the same files in this process. Then
the whole preparation (all processes, denoising, store) runs over a growing number of files while
the memory of all its processes is watched. The time for NTU RGB+D 60 is a projection from these.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

import harness  # noqa: F401 - makes its neighbours importable
from datasets.raw import open_source
from datasets.raw.ntu.skeleton_text import read_skeleton
from datasets.raw.prepare import default_workers, prepare
from tests.datasets.raw.made_up_ntu import read_line_by_line, write_tree

NTU60_FILES = 56_880
ROUNDS = 8


def main() -> int:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=4000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        raw = Path(place) / "raw"
        write_tree(raw, arguments.files, seed=0)
        paths = sorted(raw.rglob("*.skeleton"))
        megabytes = sum(path.stat().st_size for path in paths) / 1e6
        print(f"{len(paths):,} files, {megabytes:,.0f} MB")
        plain = parsers(paths)
        preparations(raw, paths, Path(place), plain)
    from harness.machine import (
        describe_environment,
        select_device,
    )  # torch; not for the worker processes

    environment = describe_environment(select_device("cpu"))
    print(
        f"{environment.processor}, {environment.cores} cores; python"
        f" {environment.versions['python']}, numpy {environment.versions['numpy']}; commit"
        f" {environment.commit}"
    )
    return 0


def parsers(paths: list[Path]) -> float:
    """Parser against plain reader in one process, in alternating rounds;
    files/s of the plain reader.
    """
    from harness.records.ratios import paired_ratio  # scipy; not for the worker processes

    size = min(len(paths), 50 * ROUNDS) // ROUNDS
    ours, theirs = list[float](), list[float]()
    for number in range(ROUNDS):
        chosen = paths[number * size : (number + 1) * size]
        readers = [(read_skeleton, ours), (read_line_by_line, theirs)]
        for read, seconds in readers if number % 2 else reversed(readers):
            began = time.perf_counter()
            for path in chosen:
                read(path)
            seconds.append(time.perf_counter() - began)
    ratio = paired_ratio(theirs, ours)
    print(
        f"parsing, one process: {size * ROUNDS / sum(ours):,.0f} files/s, plain reader"
        f" {size * ROUNDS / sum(theirs):,.0f} files/s: {ratio.value:.1f}x [{ratio.low:.1f},"
        f" {ratio.high:.1f}]"
    )
    return size * ROUNDS / sum(theirs)


def preparations(raw: Path, paths: list[Path], place: Path, plain: float) -> None:
    """The whole preparation over a quarter, a half and all of the files."""
    for share in (4, 2, 1):
        folder = place / f"raw-{share}"
        folder.mkdir()
        for path in paths[: len(paths) // share]:
            (folder / path.name).hardlink_to(path)
        began = time.perf_counter()
        with watched_memory() as peak:
            prepared = prepare(open_source("ntu60", folder), "ntu60", place / f"store-{share}")
        seconds = time.perf_counter() - began
        files = len(paths) // share
        print(
            f"preparation, {default_workers()} processes, {files:,} files: {files / seconds:,.0f}"
            f" files/s ({files / seconds / plain:.1f}x the plain reader alone), peak"
            f" {max(peak):,.0f} MB in all processes, {prepared.header.counts['clips kept']:,}"
            f" clips; NTU RGB+D 60 would take {NTU60_FILES / files * seconds / 60:.1f} min"
        )


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """Megabytes of this process and its children, sampled while the block runs;
    shared pages count once each.
    """
    found, over = [0.0], threading.Event()

    def sample() -> None:
        this = psutil.Process()
        while not over.wait(0.1):
            total = 0.0
            for process in (this, *this.children(recursive=True)):
                try:
                    memory = process.memory_full_info()
                    total += getattr(memory, "pss", memory.uss) / 1e6
                except psutil.Error:
                    continue
            found.append(total)

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()


if __name__ == "__main__":
    sys.exit(main())
