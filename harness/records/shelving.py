"""A folder of records put on its shelf (`harness.records.shelf`): nothing lost, nothing
half-written, twice the same.

The folder is only read. What is refused in it stays there; so do weights, states and logs.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from pydantic_core import to_json

from harness.errors import UsageError
from harness.isolation.stopping import held
from harness.records.claims import Claims
from harness.records.evaluations import EvaluationRecord, Evaluations, TestClips
from harness.records.pictures import pictures_file, read_pictures
from harness.records.reading import (
    SHELF_FILE,
    Refusal,
    Refused,
    content_of,
    odd,
    read_file,
    validated,
)
from harness.records.schema import RunRecord
from harness.records.shelf import LONGEST
from harness.records.store import (
    CLAIM_FILE,
    EVALUATIONS,
    PICTURES_FILE,
    Records,
    RecordStore,
    remove_dead,
    temporary_name,
    write_atomically,
)


@dataclass(frozen=True)
class Contents:
    """All that a folder's readers can use of it.

    Attributes:
        text: the same as a shelf, records of each kind in the order of their addresses.
        refused: what is left out.
    """

    records: Records
    evaluations: list[EvaluationRecord]
    text: bytes
    refused: list[Refusal]


def contents(folder: Path) -> Contents:
    """Read a folder, or a shelf. A `UsageError` where there is nothing, or somebody works in it."""
    store, done = RecordStore.existing(folder), Evaluations(folder)
    for path in (
        path
        for claims in (CLAIM_FILE, f"{EVALUATIONS}/*/{CLAIM_FILE}")
        for path in folder.glob(f"*/{claims}")
    ):
        if holder := Claims(folder).holder(str(path.parent.relative_to(folder))):
            raise UsageError(f"{folder}: {holder} works in it; wait until it is done")
    runs, speeds, evaluations = list(store.runs()), list(store.speeds()), list(done.all())
    if not (runs or speeds):
        raise UsageError(f"{folder}: expected records that can be used, found none; check the path")
    files = [store.file_of(record) for record in runs] + [
        store.file_of(record) for record in speeds
    ]
    files += [done.file_of(record.run, record.address) for record in evaluations]
    lines = [_one_line(file) for file in [*files, *_free_pictures(store, runs)]]
    for name, clips in done.clips_files().items():
        try:
            line = _one_line(clips)
            validated(content_of(line), TestClips)
            lines.append(line)
        except Refused as problem:
            done.refused[folder / name] = problem.at(folder / name)
    if max(map(len, lines)) > LONGEST:
        raise UsageError(
            f"{folder}: a record of more than {LONGEST >> 20} MiB, which no shelf holds; leave"
            " it out"
        )
    refused = [*store.refused.values(), *done.refused.values()]
    return Contents(Records(runs, speeds, refused), evaluations, b"".join(lines), refused)


def _free_pictures(store: RecordStore, runs: Sequence[RunRecord]) -> Iterator[Path | bytes]:
    """Pictures of clips that anybody may pass on: a shelf is what others get.
    What cannot be drawn is refused.
    """
    for run in runs:
        try:
            made = read_pictures(store, run.address)
        except Refused as problem:
            path = store.folder(run.address) / PICTURES_FILE
            store.refused[path] = problem.at(path)
            continue
        file = pictures_file(store, run.address)
        if file is not None and made and made.free:
            yield file


def _one_line(file: Path | bytes) -> bytes:
    """A record as a line of a shelf: every value as in its file."""
    return to_json(content_of(read_file(file) if isinstance(file, Path) else file)) + b"\n"


def refuse_target(folder: Path, target: Path, text: bytes, *, planned: bool = False) -> None:
    """A `UsageError` where a shelf cannot come, or would take the place of something else.

    A shelf may be made again, also when its study has grown: where all that it holds is in ``text``
    too.

    Args:
        planned: the place of a study that has no records yet.
    """
    inside = folder.resolve() in target.resolve().parents
    if inside or (folder.resolve() == target.resolve() and not (folder / SHELF_FILE).exists()):
        raise UsageError(
            f"--to {target} is in {folder}, which is only read; choose a folder beside it"
        )
    problem = (
        "expected a folder, found a link" if target.is_symlink() else odd(target, stat.S_IFDIR)
    )
    if problem:
        raise UsageError(f"--to {target}: {problem}; choose another name")
    if (
        not target.exists()
        or not any(target.iterdir())
        or (planned and not (target / SHELF_FILE).exists())
    ):
        return
    try:
        there = read_file(target / SHELF_FILE).splitlines(keepends=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"--to {target}: expected a new folder or this study's shelf, found neither"
            f" ({SHELF_FILE}: {reason}); choose another name"
        ) from None
    if lost := set(there) - set(text.splitlines(keepends=True)):
        raise UsageError(
            f"--to {target}: holds {len(lost)} of {len(there)} records that {folder} has not, so it"
            " is another study's; choose another --to, or `merge` both first"
        )


def write_shelf(target: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a shelf: all into a folder beside their places first, which are then taken
    at once.

    A disk that is full, or a stop, leaves what was there. A `UsageError` says what went wrong.
    """
    write_together(target, files, "--to", "shelf")


def write_together(target: Path, files: Mapping[str, bytes], option: str, kind: str) -> None:
    """Write files into a folder as `write_shelf` does; others that are there stay.

    Args:
        option: that named the folder, for a `UsageError`.
        kind: what is written, in a word; folders that a process left half-written have it in their
            name, and go with the next one.
    """
    new = not target.exists()
    stage = (
        target.parent / temporary_name(f"{target.name}.{kind}")
        if new
        else target / temporary_name(kind)
    )
    remove_dead(
        [
            *target.glob(f".{kind}.*.tmp"),
            *target.parent.glob(f".{escape(target.name)}.{kind}.*.tmp"),
        ]
    )
    try:
        for name, content in files.items():
            write_atomically(stage / name, content)
        with held():
            if new:
                stage.rename(target)
            else:
                for name in files:
                    os.replace(stage / name, target / name)
    except OSError as error:
        reason = f"{error.strerror or error}: {error.filename or target}"
        raise UsageError(
            f"{option} {target} is as it was: {reason}; free space or choose another"
        ) from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)
