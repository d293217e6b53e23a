"""The command `status`: how far every run of a folder has come, from files alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live

from harness.cli.flags import AsJson
from harness.progress import make_console, make_table, print_table, say, say_lines, warn
from harness.records.store import read_records, refusal_lines
from harness.report.status import COLUMNS, Row, evaluation_lines, read_status, summary, table_cells

_EVERY = 5.0
"""Seconds between two looks with ``--watch``."""


def status_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="An output folder of `run`, on this machine or another."
        ),
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every few seconds, until all runs are done.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """How far every run of a folder has come.

    Step, loss, accuracy, clips/s, time left and host of each; evaluations by protocol.
    """
    found = read_records(folder)
    rows = read_status(folder, found)
    warn(*refusal_lines(folder, found.refused))
    if not (rows or as_json):
        say(f"no runs in {folder}")
    elif as_json:
        say_lines(json.dumps([row.plain for row in rows], indent=1))
    elif not watch:
        lines = [summary(rows), *evaluation_lines(folder, found.runs)]
        print_table(make_console(), COLUMNS, table_cells(rows), lines)
    else:
        _keep_watching(folder, rows)


def _keep_watching(folder: Path, rows: list[Row]) -> None:
    """On a terminal one table that changes; elsewhere a line whenever something has."""
    console = make_console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for now in _looks(folder, rows):
                live.update(
                    make_table(console, COLUMNS, table_cells(now), summary(now)), refresh=True
                )
        return
    last = ""
    for now in _looks(folder, rows):
        if (text := summary(now)) != last:
            say(text)
            last = text


def _looks(folder: Path, rows: list[Row]) -> Iterator[list[Row]]:
    """The rows, and what they have become every few seconds, as long as a process works on one."""
    yield rows
    while any(row.at_work for row in rows):
        time.sleep(_EVERY)
        rows = read_status(folder)
        yield rows
