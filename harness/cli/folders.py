"""The commands that take output folders as a whole: `table`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.flags import AsJson
from harness.errors import UsageError
from harness.progress import make_console, print_table, warn


def table_command(
    folder: Annotated[Path, typer.Argument(help="An output folder of `run`.")], as_json: AsJson = False
) -> None:
    """Print the table of a folder, one for every setting under which its runs were held equal."""
    from harness.records.store import read_records, refusal_lines
    from harness.report.folder import folder_json, folder_tables

    found = read_records(folder)
    tables = folder_tables(found)
    warn(*refusal_lines(folder, found.refused))
    if not tables:
        raise UsageError(f"{folder}: expected records of `run` or `speed`, found none that can be used")
    if as_json:
        typer.echo(json.dumps(folder_json(tables, found.refused), indent=1))
        return
    console = make_console()
    for number, table in enumerate(tables):
        if len(tables) > 1:
            console.print(f"{chr(10) * bool(number)}{table.heading}", markup=False)
        print_table(console, table.table.columns, table.table.itertuples(index=False), table.lines())
