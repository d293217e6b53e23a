"""Tables on the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from harness.records.store import RecordStore


def print_table(console: Console, columns: Any, rows: Any, lines: list[str]) -> None:
    """A table and the lines below it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=not console.is_terminal)
    for row in rows:
        table.add_row(*row)
    target = console
    if not console.is_terminal:  # a file gets every row whole, however long
        target = Console(highlight=False, width=Console(width=10_000).measure(table).maximum)
    target.print(table)
    for line in lines:
        console.print(line, markup=False)


def warn(line: str) -> None:
    """Print a line on stderr: what a reader of the answer must know although it is no part of it."""
    print(line, file=sys.stderr)


def warn_refused(store: RecordStore) -> None:
    """Name every record that was passed over, and count them."""
    refused = store.refused.values()
    for refusal in refused:
        warn(str(refusal))
    if refused:
        records = "1 record" if len(refused) == 1 else f"{len(refused)} records"
        warn(f"{records} of {store.root} passed over; `harness verify {store.root}` checks the folder")
