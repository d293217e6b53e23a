"""A table for the reader at the screen and for the one who comes later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.progress import Reporter, command_line, print_table

if TYPE_CHECKING:
    import pandas as pd


def leave_table(
    table: pd.DataFrame,
    lines: list[str],
    path: Path,
    report: Reporter,
    *,
    page: str = "",
    same_measurement: bool = False,
) -> None:
    """Print a table with its notes and leave it as Markdown.

    Args:
        page: what is left, where that is more than what is printed.
        same_measurement: the numbers are those of the table that stands there, whose first line, the command that
            measured them, stays.
    """
    from harness.records.store import write_atomically
    from harness.report.table import to_markdown

    command = command_line()
    if same_measurement and path.exists():
        command = path.read_text(encoding="utf-8").partition("\n")[0].strip() or command
    print_table(report.console, table.columns, table.itertuples(index=False), lines)
    write_atomically(path, (page or to_markdown(table, lines, command)).encode())
    report.line(f"records in {path.parent}, table in {path}")
