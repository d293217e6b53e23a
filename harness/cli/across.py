"""The commands that hold folders against each other: `diff` and `leaderboard`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.flags import AsJson
from harness.cli.output import leave_text, refuse_targets
from harness.errors import UsageError
from harness.progress import (
    command_line,
    make_console,
    print_table,
    print_texts,
    say,
    say_lines,
    warn,
)


def diff_command(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="A folder of records, one run's folder in it, or a record's file.",
        ),
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="What it is held against.")],
    as_json: AsJson = False,
) -> None:
    """What tells two runs, folders or records apart.

    Settings, code, data, machine, and results with intervals.
    """
    from harness.records.store import refusal_lines
    from harness.report.diff import (
        diff,
        diff_json,
        result_lines,
        result_rows,
        section_line,
        section_rows,
        side_line,
        side_of,
    )

    found = diff(side_of(a), side_of(b))
    for path, side in ((a, found.a), (b, found.b)):
        warn(*refusal_lines(path, side.refused))
    if as_json:
        say_lines(json.dumps(diff_json(found), indent=1))
        return
    say(f"A: {side_line(found.a)}")
    say(f"B: {side_line(found.b)}")
    for name, (alike, differ) in found.sections.items():
        say("")
        say(f"{name}: {section_line(alike, differ)}")
        if differ:
            print_texts(["", "A", "B"], section_rows(differ))
    say("")
    if not found.results:
        say("results: neither has any")
        return
    print_table(make_console(), ["results", "", "A", "B", "B - A"], result_rows(found.results), [])
    for line in result_lines(found.results):
        say(line)


def leaderboard_command(
    folders: Annotated[
        list[str],
        typer.Argument(metavar="FOLDER", help="Folders of records, as FOLDER or NAME=FOLDER."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Leave it there too (.md), its numbers beside it (.csv)."
        ),
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Leave it in this folder as web pages, with the reports."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One table over studies and laboratories.

    Only what may be compared shares a column; of the rest it says why not.
    """
    from harness.records.store import refusal_lines
    from harness.report.boards import (
        board_lines,
        board_tables,
        leaderboard_frame,
        leaderboard_json,
        leaderboard_page,
    )
    from harness.report.leaderboard import laboratories, leaderboard

    if out and out.suffix != ".md":
        raise UsageError(
            f"--out {out}: expected a name that ends in .md, beside which its .csv is written"
        )
    labs = laboratories(folders)
    if out:
        refuse_targets(
            [lab.folder for lab in labs], {"--out": out, "its numbers": out.with_suffix(".csv")}
        )
    boards = leaderboard(labs)
    for lab in labs:
        warn(*refusal_lines(lab.folder, lab.refused))
    if not boards:
        raise UsageError(
            f"{', '.join(folders)}: expected finished runs or measurements, found none that can be"
            " ranked"
        )
    if as_json:
        say_lines(json.dumps(leaderboard_json(boards, labs), indent=1))
    else:
        console = make_console()
        for board in boards:
            console.print(board.heading)
            for columns, rows in board_tables(board):
                print_table(console, columns, rows, [])
            for line in board_lines(board):
                console.print(line)
            console.print()
    if site:
        from harness.report.html.site import write_site

        for path in write_site(labs, boards, site, command_line()):
            say(f"page in {path}", stderr=as_json)
    if out:
        leave_text(
            leaderboard_page(boards, labs, command_line()), out, {"": leaderboard_frame(boards)}
        )
