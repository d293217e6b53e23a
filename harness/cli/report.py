"""The command `report`: output folders as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.flags import Quiet
from harness.cli.output import refuse_targets
from harness.errors import UsageError
from harness.progress import at_work, command_line
from harness.records.reading import is_shelf


def report_command(
    folder: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER", help="Output folders of any command; they are only read."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The page; else report.html in the folder, or beside several. Of a study on its"
            " shelf: NAME.html beside it.",
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Leave its charts in this folder too: PDF, SVG, and what is drawn as CSV.",
        ),
    ] = None,
    latex: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Leave its tables as LaTeX (booktabs) in this file too."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """One page of folders, which opens offline.

    Who trains faster, who represents better, why, and whether to believe it.
    """
    from harness.report.html.page import beside_name, write_report

    if figures and figures.exists() and not figures.is_dir():
        raise UsageError(
            f"--figures {figures}: expected a folder, found a file; choose another name"
        )
    if latex and latex.is_dir():
        raise UsageError(
            f"--latex {latex}: expected a file to write, found a folder; give {latex / 'table.tex'}"
        )
    out = out or _default_page(folder)
    if out.is_dir():
        raise UsageError(
            f"{out}: expected a file to write, found a folder; give --out {out / 'report.html'}"
        )
    beside_out = {"the records beside --out": out.with_name(beside_name(out))}
    refuse_targets(folder, {"--out": out, **beside_out, **({"--latex": latex} if latex else {})})
    if figures and figures.resolve() in (out.resolve(), latex and latex.resolve()):
        raise UsageError(
            f"--figures {figures}: expected a folder, found the name of a file to write; choose"
            " another"
        )
    with at_work(announced=False, quiet=quiet) as reporter:
        beside = write_report(folder, out)
        reporter.line(f"report in {out}" + (f", its records in {beside}" if beside else ""))
        if not (figures or latex):
            return
        from harness.report.html.study import read_studies
        from harness.report.paper import write_figures, write_latex

        studies = read_studies(folder)
        if latex:
            write_latex(studies, latex, command_line())
            reporter.line(
                f"tables in {latex}; \\usepackage{{booktabs,graphicx}} and \\input{{{latex}}} show"
                " them"
            )
        for line in write_figures(studies, figures) if figures else []:
            reporter.line(line)


def _default_page(folders: list[Path]) -> Path:
    """Where a page lies that was given no place: with its records, but nobody writes on a shelf."""
    first = folders[0]
    if len(folders) > 1:
        return first.resolve().with_name("report.html")
    if is_shelf(first):
        return first.resolve().with_name(f"{first.resolve().name}.html")
    return first / "report.html"
