"""The command `report`: output folders as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import UsageError
from harness.progress import at_work


def report_command(
    folder: Annotated[list[Path], typer.Argument(help="Output folders of any command; they are only read.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
) -> None:
    """One page that opens offline: who trains faster, who represents better, why, and whether to believe it."""
    from harness.report.html.page import write_report

    if out.is_dir():
        raise UsageError(f"{out}: expected a file to write, found a folder; give --out {out / 'report.html'}")
    with at_work(announced=False) as report:
        beside = write_report(folder, out)
        report.line(f"report in {out}" + (f", its records in {beside}" if beside else ""))
