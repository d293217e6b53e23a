"""A table for the reader at the screen and for the one who comes later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UsageError
from harness.progress import Reporter, command_line, print_table, warn

if TYPE_CHECKING:
    import pandas as pd

_OF_RECORDS = (".json", ".jsonl", ".safetensors", ".npz", ".pt", ".lock")
"""Endings of the files that commands keep in an output folder;
what they leave for a reader has others.
"""


def leave_table(
    table: pd.DataFrame,
    lines: list[str],
    path: Path,
    reporter: Reporter,
    *,
    numbers: Mapping[str, pd.DataFrame],
    more: Sequence[pd.DataFrame] = (),
    page: str = "",
    same_measurement: bool = False,
) -> None:
    """Print a table with its notes and leave it as Markdown, its numbers beside it.

    Args:
        numbers: as `leave_text` takes them.
        more: tables that stand between it and the notes.
        page: what is left, where that is more than what is printed.
        same_measurement: the numbers are those of the table that stands there, whose first line,
            the command that measured them, stays.
    """
    from harness.report.table import to_markdown

    command = command_line()
    if same_measurement and path.is_file():
        command = path.read_text(encoding="utf-8").partition("\n")[0].strip() or command
    tables = [table, *more]
    for number, shown in enumerate(tables, 1):
        below = lines if number == len(tables) else [""]
        print_table(reporter.console, shown.columns, shown.itertuples(index=False), below)
    written = leave_text(page or to_markdown(table, lines, command, *more), path, numbers)
    reporter.line(f"records in {path.parent}" + (f", table in {path}" if written else ""))


@contextmanager
def one_writes(folder: Path) -> Iterator[None]:
    """Of the processes that share a folder and end at once,
    the last to write its table has read what all left.
    """
    from harness.records.claims import locked
    from harness.records.store import LOCK_FILE

    with ExitStack() as stack:
        if (folder / LOCK_FILE).exists():  # else nobody has worked here
            with suppress(OSError):  # a folder that can only be read
                stack.enter_context(locked(folder / LOCK_FILE))
        yield


def leave_text(text: str, path: Path, numbers: Mapping[str, pd.DataFrame]) -> bool:
    """Leave a page beside the records, and the numbers of its tables beside it; whether the page
    could be written.

    Nothing is written on a study's shelf: `shelve` makes its pages, with its records.

    Args:
        numbers: frames of its tables by what tells them apart: that of ``""`` becomes ``table.csv``
            beside ``table.md``, that of ``"pairs"`` ``table-pairs.csv``.
    """
    from harness.records.reading import is_shelf

    if is_shelf(path.parent):
        warn(f"{path} is not written: {path.parent} is a study on its shelf, which is only read")
        return False
    written = _leave(text.encode(), path, "what it would hold is printed above")
    if written:
        leave_numbers(path, numbers)
    return written


def leave_numbers(path: Path, numbers: Mapping[str, pd.DataFrame]) -> None:
    """Leave frames as ``.csv`` beside a page, as `leave_text` does."""
    from harness.report.frame import as_csv

    for name, frame in numbers.items():
        _leave(
            as_csv(frame),
            path.with_name(f"{path.stem}{'-' * bool(name)}{name}.csv"),
            "the page has its numbers",
        )


def _leave(content: bytes, path: Path, instead: str) -> bool:
    """Leave a file beside the records; where that cannot be, this says so,
    and where its content is ``instead``.
    """
    from harness.records.store import write_atomically

    try:
        write_atomically(path, content)
    except (OSError, UsageError) as error:
        warn(
            f"{path} could not be written ({getattr(error, 'strerror', None) or error}); {instead}"
        )
        return False
    return True


def refuse_targets(folders: Iterable[Path], targets: Mapping[str, Path]) -> None:
    """A `UsageError` where a file to leave would replace records, another of these files, or what
    is no file, or would stand on a study's shelf.

    Called before anything is written.

    Args:
        folders: those that are read.
        targets: files by the option that names them.
    """
    from harness.records.reading import RECORD_FILE, SHELF_FILE, SPEED_FILE, is_shelf
    from harness.records.store import (
        BESIDE_A_RECORD,
        LOCK_FILE,
        MATRIX_FILE,
        UNFINISHED_SPEED_FILE,
        file_to_write,
    )

    names = {
        RECORD_FILE,
        SPEED_FILE,
        SHELF_FILE,
        UNFINISHED_SPEED_FILE,
        MATRIX_FILE,
        LOCK_FILE,
        *BESIDE_A_RECORD,
    }
    inputs, seen = [folder.resolve() for folder in folders], dict[Path, str]()
    for option, path in targets.items():
        place = file_to_write(path).resolve()
        read = (
            place.exists()
            and place.suffix in _OF_RECORDS
            and any(one in (place, *place.parents) for one in inputs)
        )
        if read or {path.name.lower(), place.name.lower()} & names:
            raise UsageError(
                f"{option} {path}: expected a file to leave, found the name of one with records;"
                " choose another name"
            )
        if is_shelf(place.parent):
            raise UsageError(
                f"{option} {path}: expected a file to leave, found the place of a study on its"
                " shelf, which is only read; choose another folder"
            )
        if place in seen:
            raise UsageError(
                f"{option} {path}: expected a file of its own, found that of {seen[place]}; choose"
                " another"
            )
        seen[place] = option
