"""What leaves for a paper: every chart of a report as PDF, SVG and CSV, and its tables as LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from harness.errors import UsageError
from harness.records.store import write_atomically
from harness.report.charts import Chart, as_pdf
from harness.report.frame import as_csv
from harness.report.html.sections import Drawer, Drawing, looks_of, sections
from harness.report.html.study import Study
from harness.report.html.vector import alone
from harness.report.latex import Paper, latex_page
from harness.studies.compare import PROTOCOL


@dataclass
class _Collector(Drawer):
    """Keeps the charts of a report instead of making them part of a page.

    Attributes:
        charts: each with the drawing that it would be.
    """

    charts: list[tuple[Drawing, Chart]] = field(default_factory=list)

    def __call__(self, make: Callable[[], Chart], title: str = "") -> Drawing:
        """A place for the chart, which is kept."""
        chart = make()
        drawing = Drawing(title or chart.title, Markup())
        self.charts.append((drawing, chart))
        return drawing


@dataclass(frozen=True)
class PaperFigure:
    """A chart with the name of its files.

    Attributes:
        about: what it shows, and of which setting.
    """

    name: str
    about: str
    chart: Chart


def paper_figures(studies: Sequence[Study]) -> Iterator[PaperFigure]:
    """Every chart of a report of these studies, in its order;
    of several of a kind the later ones are numbered.
    """
    collector = _Collector({}, looks_of(studies))
    counts: dict[str, int] = {}
    for section in sections(studies, {}, collector):
        for block in section.blocks:
            for drawing in block.drawings:
                chart = next((chart for place, chart in collector.charts if place is drawing), None)
                if chart is None:  # stick figures, which are no chart
                    continue
                counts[chart.name] = number = counts.get(chart.name, 0) + 1
                name = chart.name if number == 1 else f"{chart.name}-{number}"
                yield PaperFigure(name, f"{drawing.title} ({block.heading})", chart)


def write_figures(studies: Sequence[Study], folder: Path) -> list[str]:
    """Leave ``NAME.pdf``, ``NAME.svg`` and the numbers that are drawn, ``NAME.csv``, of every
    chart; a line for each.

    The same records give the same bytes. A `UsageError` where nothing can be drawn.
    """
    lines = []
    for figure in paper_figures(studies):
        content = {
            "pdf": as_pdf(figure.chart),
            "svg": alone(figure.chart),
            "csv": as_csv(figure.chart.data),
        }
        for ending, found in content.items():
            write_atomically(folder / f"{figure.name}.{ending}", found)
        lines.append(f"{folder / figure.name}.pdf: {figure.about}")
    if not lines:
        raise UsageError(f"--figures {folder}: nothing of these folders can be drawn yet")
    return lines


def write_latex(studies: Sequence[Study], path: Path, command: str) -> None:
    """Leave every table of the studies in a file for ``\\input``.
    A `UsageError` where there is none to leave.
    """
    papers = [
        Paper(
            study.name if len(studies) > 1 else "",
            setting.table,
            [one for one in setting.columns if one.column.name.startswith(PROTOCOL)],
        )
        for study in studies
        for setting in study.settings
    ]
    if not papers:
        raise UsageError(
            f"--latex {path}: no finished run or measurement of these folders makes a table"
        )
    write_atomically(path, latex_page(papers, command).encode())
