"""Static pages of several folders: their leaderboard, and the report of each;
any web server hands them out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.records.reading import is_shelf
from harness.records.shelving import write_together
from harness.report.boards import RULE, board_figures, board_lines
from harness.report.html.grid import Cell, Grid
from harness.report.html.page import beside_name, make_report, rendered
from harness.report.html.sections import Detail
from harness.report.html.study import read_studies
from harness.report.leaderboard import Board, Laboratory

_INDEX = "index.html"


def write_site(
    labs: Sequence[Laboratory], boards: Sequence[Board], out: Path, command: str
) -> list[Path]:
    """Leave ``index.html`` with the leaderboard and a report of every folder that has a table; the
    files written.

    All of them or none: until the last one is made, what stood there stays. The same records give
    the same bytes. A `UsageError` where the place is no folder.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--site {out}: expected a folder, found a file; choose another name")
    if is_shelf(out):
        raise UsageError(
            f"--site {out}: expected a folder for pages, found a study on its shelf, which is only"
            " read; choose another folder"
        )
    pages, reports = dict[str, bytes](), list[tuple[str, str]]()
    for lab, name in zip(labs, _page_names(labs), strict=True):
        try:
            report = make_report(read_studies([lab.folder]), out / name)
        except UsageError:  # nothing of it can be used, which the leaderboard says
            continue
        pages[name] = report.page.encode()
        if report.beside:
            pages[beside_name(out / name)] = report.beside.encode()
        reports.append((lab.name, name))
    shown = [(board, Detail(grid=_board_grid(board), lines=board_lines(board))) for board in boards]
    page = rendered("leaderboard.html", boards=shown, reports=reports, rule=RULE, command=command)
    files = {_INDEX: page.encode(), **pages}
    write_together(out, files, "--site", "site")
    return [out / name for name in files]


def _page_names(labs: Sequence[Laboratory]) -> list[str]:
    """A file's name for the report of each laboratory; none twice, whatever they are called."""
    names = list[str]()
    for lab in labs:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", lab.name).strip("-.")[:80] or "folder"
        taken = {name.lower() for name in [*names, _INDEX]}
        tries = [f"{stem}.html", *(f"{stem}-{number}.html" for number in range(2, len(labs) + 3))]
        names.append(next(name for name in tries if name.lower() not in taken))
    return names


def _board_grid(board: Board) -> Grid:
    """A board as a table that is sorted by its numbers."""
    columns, rows = board_figures(board)
    cells = [
        [Cell(text, None if number is None else float(number)) for text, number in row]
        for row in rows
    ]
    return Grid(columns, cells, numbers=frozenset(range(2, len(columns))))
