"""The commands that take output folders as a whole: `table`, `compare`, `merge` and `shelve`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from datasets.wording import counted
from harness.cli.flags import AsJson, Quiet, Wide, finite
from harness.cli.output import leave_numbers, leave_text
from harness.errors import UsageError
from harness.progress import at_work, command_line, make_console, print_table, say, say_lines, warn


def table_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An output folder of `run`.")],
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """Print the table of a folder.

    One for every setting under which its runs were held equal.
    """
    from harness.records.store import read_records, refusal_lines
    from harness.report.folder import folder_json, folder_tables

    found = read_records(folder)
    tables = folder_tables(found)
    warn(*refusal_lines(folder, found.refused))
    if not tables:
        raise UsageError(
            f"{folder}: expected records of `run` or `speed`, found none that can be used; check"
            " the path"
        )
    if as_json:
        say_lines(json.dumps(folder_json(tables, found.refused), indent=1))
        return
    console = make_console()
    for number, table in enumerate(tables):
        if len(tables) > 1:
            console.print(*([""] if number else []), table.heading, sep="\n")
        text = table.wide if wide else table.table
        print_table(console, text.columns, text.itertuples(index=False), table.lines(wide=wide))


def merge_command(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER", help="Output folders of `run`; they are only read."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER",
            help="Folder for all their records; what it holds already is joined too.",
        ),
    ],
    quiet: Quiet = False,
) -> None:
    """Join output folders: records, weights, speed.

    Exit code 1 where two finished records of a run differ.
    """
    from harness.records.merge import plan_merge, write_merge
    from harness.records.store import TABLE_FILE, refusal_lines
    from harness.report.folder import folder_frame, folder_page, folder_tables

    with at_work(announced=False, quiet=quiet) as reporter:
        merge = plan_merge(folders, out)
        tables = folder_tables(merge.records)
        page = folder_page(tables, merge.records.refused, command_line())
        with reporter.long_task("copying") as advance:
            write_merge(merge, page, advance)
        leave_numbers(out / TABLE_FILE, {"": folder_frame(tables)})
        for folder, refused in merge.refused.items():
            warn(*refusal_lines(folder, refused))
        for line in [*merge.notes, *merge.conflicts]:
            reporter.result(line)
        reporter.result(
            f"{counted(len(merge.runs), 'run')} and"
            f" {counted(len(merge.speeds), 'speed measurement')} of"
            f" {counted(len(merge.refused), 'folder')}; {merge.same} more said the same,"
            f" {merge.overtaken} unfinished were finished elsewhere,"
            f" {counted(len(merge.conflicts), 'conflict')}"
        )
        reporter.line(f"records in {out}, table in {out / 'table.md'}")
    if merge.conflicts:
        raise typer.Exit(1)


def compare_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="An output folder of `run`, best with three seeds or more."
        ),
    ],
    half_width: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Also say how many seeds and people it takes to know each difference so well.",
            min=0.01,
            max=100,
            callback=finite,
        ),
    ] = None,
    as_json: AsJson = False,
    wide: Wide = False,
) -> None:
    """Which rows are better, and by how much.

    Intervals, all pairs of rows, who is above whom; written to compare.md.
    """
    from harness.records.evaluations import Evaluations
    from harness.records.store import read_records, refusal_lines
    from harness.report.compare import (
        compare_frames,
        compare_page,
        comparisons,
        left_out,
        two_encoders,
    )
    from harness.report.folder import folder_tables

    records = read_records(folder)
    evaluations = Evaluations(folder)
    wanted = None if half_width is None else half_width / 100
    found = comparisons(folder_tables(records), evaluations, wanted)
    refused = [*records.refused, *evaluations.refused.values()]
    warn(*refusal_lines(folder, refused))
    if not found:
        raise UsageError(
            f"{folder}: expected two finished rows or more under one setting; see `ls runs --out"
            f" {folder}`"
        )
    if as_json:
        say_lines(json.dumps([comparison.plain for comparison in found], indent=1))
        return
    console = make_console()
    for comparison in found:
        console.print(comparison.heading)
        for table, lines in comparison.tables(wide=wide):
            print_table(console, table.columns, table.itertuples(index=False), lines)
        console.print()
    for line in two_encoders(found):
        console.print(line)
    page = compare_page(found, command_line(), left_out(refused), wide=wide)
    leave_text(page, folder / "compare.md", compare_frames(found))


def shelve_command(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="An output folder of any command; it is only read."),
    ],
    to: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Folder of the study; one that is there is made again."
        ),
    ],
    why: Annotated[
        str,
        typer.Option(
            metavar="LINE",
            show_default="as its page says already",
            help="Why the study was made, in a line.",
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Option(metavar="NAME", show_default="the folder's name", help="Title of its page."),
    ] = "",
) -> None:
    """Put a study on its shelf.

    All records in one file, the tables, and a page that says why, with what and when.
    """
    from harness.records.shelving import contents, refuse_target, write_shelf
    from harness.records.store import refusal_lines
    from harness.report.shelf import counts, only_planned, shelf_files

    found = contents(folder)
    refuse_target(folder, to, found.text, planned=only_planned(to))
    files = shelf_files(folder, to, found, why=why, name=name)
    write_shelf(to, files)
    warn(*refusal_lines(folder, found.refused))
    say(f"{counts(found)} in {to}: {', '.join(files)}; weights, states and logs stay in {folder}")
