"""Tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


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
