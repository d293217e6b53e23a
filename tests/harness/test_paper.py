"""What leaves for a paper: figures and tables, the same bytes every time;
a document of them compiles.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.report.charts import FAINT, INK
from tests.harness.made_up_records import run_record
from tests.harness.small_run import harness
from tests.harness.test_latex import HOSTILE, SEEDS, SPEED

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\input{table}
\begin{figure}\centering\includegraphics[width=\linewidth]{figures/speedup}\caption{Speedups.}\end{figure}
\end{document}
"""


def folder_of(path: Path, *more: RunRecord) -> Path:
    store = RecordStore(path)
    for record in [*SEEDS, *more]:
        store.write_run(record)
    store.write_speed(SPEED)
    return path


def leave(folder: Path, out: Path) -> list[str]:
    arguments = (
        "--out",
        out / "report.html",
        "--figures",
        out / "figures",
        "--latex",
        out / "table.tex",
    )
    result = harness("report", folder, *arguments)
    assert result.code == 0, result.err
    return result.lines


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Left:
    """What leaves of a study, and what was said."""

    study: Path
    out: Path
    lines: list[str]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """Made once: every figure is drawn."""
    place = tmp_path_factory.mktemp("paper")
    study, out = folder_of(place / "study"), place / "out"
    return Left(study, out, leave(study, out))


def test_figures_and_tables_are_left_and_are_the_same_bytes_every_time(left: Left) -> None:
    first = contents(left.out)
    for name in ("speedup", "accuracy-linear", "phases"):
        assert {f"figures/{name}.{ending}" for ending in ("pdf", "svg", "csv")} <= set(first)
        assert any(line.startswith(f"{left.out / 'figures' / name}.pdf: ") for line in left.lines)
    shutil.rmtree(left.out)  # the table names the command, and with it the place
    leave(left.study, left.out)
    assert contents(left.out) == first
    assert not [
        name
        for name, content in first.items()
        if b"CreationDate" in content or b"<dc:date>" in content
    ]


def test_the_numbers_that_are_drawn_lie_beside_each_figure(left: Left) -> None:
    drawn = pd.read_csv(left.out / "figures" / "speedup.csv").set_index("label")
    assert drawn.loc["gfp", ["speedup_low", "speedup", "speedup_high"]].tolist() == [1.9, 2.0, 2.1]


def test_without_a_name_the_page_lies_with_its_records_but_not_on_a_shelf(tmp_path: Path) -> None:
    one, other = folder_of(tmp_path / "runs"), folder_of(tmp_path / "again")
    assert (
        harness("shelve", one, "--to", tmp_path / "shelf" / "study", "--why", "A test.").code == 0
    )
    shelf = tmp_path / "shelf" / "study"
    for named, page in (
        ((one,), one / "report.html"),
        ((shelf,), tmp_path / "shelf" / "study.html"),
        ((one, other), tmp_path / "report.html"),
    ):
        kept = contents(shelf)
        result = harness("report", *named)
        assert result.code == 0, result.err
        assert str(page) in result.lines[-1]
        assert page.is_file()
        assert contents(shelf) == kept


def test_what_is_in_the_way_is_one_line_and_nothing_is_written_into_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study")
    (tmp_path / "taken").write_text("mine")
    for flag, place in (("--figures", tmp_path / "taken"), ("--latex", folder)):
        result = harness("report", folder, "--out", tmp_path / "report.html", flag, place)
        assert result.code == 2
        assert result.err.count("\n") == 1
    assert (tmp_path / "taken").read_text() == "mine"
    assert not (tmp_path / "report.html").exists()


def test_no_output_replaces_a_record_or_another_output(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "study")
    before, page = contents(tmp_path), tmp_path / "report.html"
    record = next(folder.glob("*/record.json"))
    for arguments in (
        ("report", folder, "--out", folder / "records.jsonl"),
        ("report", folder, "--out", record),
        ("report", folder, "--out", page, "--latex", record),
        ("report", folder, "--out", page, "--latex", page),
        ("report", folder, "--out", page, "--latex", tmp_path / "report.records.jsonl"),
        ("report", folder, "--out", page, "--figures", page),
    ):
        result = harness(*arguments)
        assert (result.code, result.err.count("\n")) == (2, 1), arguments
        assert contents(tmp_path) == before


def test_over_no_test_clips_there_is_no_interval_and_everything_is_shown(tmp_path: Path) -> None:
    one = run_record()
    empty = one.model_copy(update={"data": one.data.model_copy(update={"test_clips": 0})})
    folder = tmp_path / "study"
    RecordStore(folder).write_run(empty)
    for arguments in (
        ("table", folder),
        ("report", folder, "--out", tmp_path / "report.html"),
        ("diff", folder, folder),
        ("leaderboard", folder),
    ):
        result = harness(*arguments)
        assert result.code == 0, result.err
        assert "nan" not in result.out.split(), arguments


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no TeX here")
def test_a_document_with_a_table_and_a_figure_compiles_whatever_names_hold(tmp_path: Path) -> None:
    hostile = run_record(
        "gfp", label=HOSTILE, data=run_record().data.model_copy(update={"name": HOSTILE}), seed=9
    )
    leave(folder_of(tmp_path / "study", hostile), tmp_path)
    (tmp_path / "paper.tex").write_text(DOCUMENT)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_a_figure_as_svg_turns_dark_with_the_screen(left: Left) -> None:
    drawing = (left.out / "figures" / "speedup.svg").read_text()
    ElementTree.fromstring(drawing)
    drawn = set(re.findall(r"(fill: #\w+|stroke: #\w+)[;\"]", drawing))
    (turned,) = re.findall(r"@media screen and \(prefers-color-scheme: dark\)\{(.*)\}<", drawing)
    assert {f"fill: {INK}", f"stroke: {INK}", f"fill: {FAINT}"} <= drawn
    assert set(re.findall(r'\[style\*="([^"]*)"\]', turned)) == drawn
