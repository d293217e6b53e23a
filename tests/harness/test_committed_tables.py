"""Every table under benchmarks/results is rendered again from the records beside it, without a
changed number.

Words, notes and columns may be added or reworded; what was measured may not move.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from harness.cli.output import leave_numbers
from harness.records.evaluations import Evaluations
from harness.records.ratios import rules_version
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, RunRecord, SpeedRecord
from harness.records.store import RecordStore, read_records
from harness.report.cells import TRAINS_FASTER, blocks
from harness.report.claims import card_frame, card_notes, card_table
from harness.report.compare import compare_frames, comparisons, two_encoders
from harness.report.evaluations import cells_frame, evaluation_notes, evaluation_table
from harness.report.explain import waterfall, waterfall_frame, waterfall_notes
from harness.report.folder import folder_frame, folder_tables
from harness.report.frame import as_csv
from harness.report.inference import inference_frame, inference_notes, inference_table
from harness.report.ranking import ranking_frame, ranking_table, settings
from harness.report.speed import speed_frame, speed_notes, speed_table
from harness.report.table import build_table, notes
from harness.report.target import (
    ladder_frame,
    ladder_table,
    target_frame,
    target_notes,
    target_table,
)
from harness.report.trends import trend_frame, trend_table
from harness.report.tuning import tuning_frame, tuning_notes, tuning_table
from harness.studies.claims import find_claim, make_card
from harness.studies.target import eligible_runs, read_target, step_times
from harness.studies.tuning import tuned_methods

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
OTHERS = ("README.md", "plan.md")
"""Words, and numbers of which no record is made: what a study was meant to cost."""
TABLES = sorted(
    path
    for path in RESULTS.rglob("*.md")
    if path.name not in OTHERS and (path.parent / "records.jsonl").exists()
)
"""Those of commands that leave records; others, as of benchmarks/*.py,
hold what they printed and nothing more.
"""
KEYS = {
    "compare.md": ("row", "above", "below"),
    "trends.md": ("data", "encoder", "budget", "trend"),
    "claim": ("trained", "definition"),
}
"""Columns that tell a table's rows apart, where the first alone does not,
as far as a page shows them.
"""
RENAMED: dict[str, str] = {"train s": "wall s", "verdict": TRAINS_FASTER}
"""Columns of committed tables by today's name, where the same number has got another heading."""
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?|\binf\b|\bnan\b")
INTERVALS = ("linear", "kNN-1", "best point")
"""Columns whose cells got an interval behind what they held (rules 5)."""
OF_TODAY = ("the same steps again", "judged by rules version")
"""Notes that say what the rules are now, or how to repeat it, not what was measured."""

Rows = dict[tuple[str, ...], dict[str, str]]


@dataclass(frozen=True)
class Page:
    """A Markdown file of tables: each by row and column, the notes below them,
    the frames of the `.csv` beside it.
    """

    tables: list[Rows]
    notes: list[str]
    numbers: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]


def key_of(path: Path, row: Mapping[str, str]) -> tuple[str, ...]:
    """What tells a row apart from the others of its table."""
    named = next((names for start, names in KEYS.items() if path.name.startswith(start)), ())
    return tuple(row[name] for name in named if name in row) or (next(iter(row.values())),)


def read_page(path: Path) -> Page:
    """A committed file."""
    tables: list[Rows] = []
    columns: list[str] = []
    text = path.read_text().splitlines()
    for line in text:
        cells = (
            [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        )
        if not cells:
            columns = []
        elif not columns:
            columns = cells
            tables.append({})
        elif set("".join(cells)) != {"-"} or line.startswith("| "):
            row = dict(zip(columns, cells, strict=True))
            tables[-1][key_of(path, row)] = row
    return Page(tables, [line.removeprefix("- ") for line in text if line.startswith("- ")])


def page_of(
    path: Path,
    *tables: pd.DataFrame,
    lines: Sequence[str],
    numbers: Mapping[str, pd.DataFrame] | None = None,
) -> Page:
    """The same of tables that were just made."""
    rows = [
        [{str(name): str(cell) for name, cell in row.items()} for row in table.to_dict("records")]
        for table in tables
    ]
    return Page(
        [{key_of(path, row): row for row in found} for found in rows], list(lines), numbers or {}
    )


def every_column(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Those of both ways to print a table: a committed page may have either."""
    return one.join(other[[name for name in other if name not in one]])


# --- one renderer per kind of table: what its command does after the records are there ---


@cache
def stored(folder: Path) -> tuple[list[RunRecord], list[SpeedRecord]]:
    store = RecordStore(folder)
    found = list(store.runs()), list(store.speeds())
    assert store.refused == {}
    return found


def only_speed(folder: Path) -> SpeedRecord:
    (speed,) = stored(folder)[1]
    return speed


def render_table(path: Path, committed: Page) -> Page:
    """The runs of the budget that the table's own notes name, in its order of rows,
    and the controls; of a page with a table for each setting, the whole folder.
    """
    if len(committed.tables) > 1:
        every = folder_tables(read_records(path.parent))
        return page_of(
            path,
            *(every_column(table.wide, table.table) for table in every),
            lines=[line for table in every for line in table.lines()],
            numbers={"": folder_frame(every)},
        )
    budgets = {
        found[1] for line in committed.notes if (found := re.search(r"; budget (\S+),", line))
    }
    order = [key[0].removesuffix(" (open)") for key in committed.tables[0]]
    records = [
        record
        for record in stored(path.parent)[0]
        if record.label in (RANDOM_INIT, RAW_FLOOR) or record.spec.train.budget in budgets
    ]
    records.sort(key=lambda record: (order.index(record.label), record.spec.seed))
    speed = folder_tables(read_records(path.parent))[0].speed
    table = every_column(build_table(records, speed, wide=True), build_table(records, speed))
    numbers = {"": folder_frame(folder_tables(read_records(path.parent)))}
    return page_of(path, table, lines=notes(records, speed), numbers=numbers)


def render_speed(path: Path, committed: Page) -> Page:
    speed = only_speed(path.parent)
    table = every_column(speed_table(speed, wide=True), speed_table(speed))
    return page_of(path, table, lines=speed_notes(speed), numbers={"": speed_frame(speed)})


def render_inference(path: Path, committed: Page) -> Page:
    speed = only_speed(path.parent)
    table = every_column(inference_table(speed, wide=True), inference_table(speed))
    return page_of(path, table, lines=inference_notes(speed), numbers={"": inference_frame(speed)})


def render_explain(path: Path, committed: Page) -> Page:
    speed = only_speed(path.parent)
    numbers = {"": waterfall_frame(speed)}
    return page_of(path, waterfall(speed, wide=True), lines=waterfall_notes(speed), numbers=numbers)


def render_claim(path: Path, committed: Page) -> Page:
    card = make_card(find_claim(path.stem.removeprefix("claim-")), only_speed(path.parent))
    return page_of(
        path,
        card_table(card),
        lines=card_notes(card, rules_version()),
        numbers={"": card_frame(card)},
    )


def render_tuning(path: Path, committed: Page) -> Page:
    found = tuned_methods(stored(path.parent)[0])
    return page_of(
        path, tuning_table(found), lines=tuning_notes(found), numbers={"": tuning_frame(found)}
    )


def render_trends(path: Path, committed: Page) -> Page:
    frame = trend_frame(stored(path.parent)[0])
    return page_of(path, trend_table(frame, wide=True), lines=[], numbers={"": frame})


def render_exchange(path: Path, committed: Page) -> Page:
    records, speeds = stored(path.parent)
    (group,) = settings(records)
    frame = ranking_frame(group, step_times(speeds, group))
    return page_of(path, ranking_table(frame), lines=[], numbers={"": frame})


def render_target(path: Path, committed: Page) -> Page:
    records, speeds = stored(path.parent)
    (frozen,) = path.parent.glob("*.yaml")
    goal = read_target(frozen)
    compared = eligible_runs(records, goal)
    times = step_times(speeds, [record for record in compared if record.status == "ok"])
    frame, curve = target_frame(compared, goal, times), ladder_frame(compared, goal, times)
    tables = target_table(frame, goal, wide=True), ladder_table(curve)
    return page_of(
        path, *tables, lines=target_notes(records, goal), numbers={"": frame, "ladder": curve}
    )


def render_evaluations(path: Path, committed: Page) -> Page:
    """As narrow as the committed page, whose table may be cut into several."""
    records = Evaluations(path.parent).of(stored(path.parent)[0])
    frame = cells_frame(records)
    table = evaluation_table(frame)
    tables = blocks(table) if len(committed.tables) > 1 else [table]
    return page_of(path, *tables, lines=evaluation_notes(records), numbers={"": frame})


def render_compare(path: Path, committed: Page) -> Page:
    found = comparisons(folder_tables(read_records(path.parent)), Evaluations(path.parent))
    tables = [
        every_column(narrow, wide)
        for comparison in found
        for wide, narrow in zip(
            (comparison.row_table(wide=True), comparison.pair_table(wide=True)),
            (comparison.row_table(), comparison.pair_table()),
            strict=True,
        )
    ]
    lines = [line for comparison in found for line in comparison.lines]
    return page_of(
        path, *tables, lines=[*lines, *two_encoders(found)], numbers=compare_frames(found)
    )


RENDERERS: dict[str, Callable[[Path, Page], Page]] = {
    "table.md": render_table,
    "speed.md": render_speed,
    "inference.md": render_inference,
    "explain.md": render_explain,
    "claim": render_claim,
    "tuning.md": render_tuning,
    "trends.md": render_trends,
    "exchange.md": render_exchange,
    "target.md": render_target,
    "evaluations.md": render_evaluations,
    "compare.md": render_compare,
}


def name_of(path: Path) -> str:
    return str(path.relative_to(RESULTS))


@cache
def both(path: Path) -> tuple[Page, Page]:
    """The committed page and the one of today."""
    committed = read_page(path)
    render = next(render for start, render in RENDERERS.items() if path.name.startswith(start))
    return committed, render(path, committed)


@pytest.mark.parametrize("path", TABLES, ids=name_of)
def test_a_committed_table_is_rendered_again_without_a_changed_number(path: Path) -> None:
    committed, today = both(path)
    assert len(committed.tables) == len(today.tables) > 0
    for before, now in zip(committed.tables, today.tables, strict=True):
        assert before.keys() == now.keys() != set()
        for row, cells in before.items():
            for column, cell in cells.items():
                found = numbers(now[row][RENAMED.get(column, column)])
                if column in INTERVALS and numbers(cell) and "[" not in cell:
                    found = found[: len(numbers(cell))]
                assert numbers(cell) == found, (row, column)
                if RENAMED.get(column, column) == TRAINS_FASTER:
                    assert cell == now[row][TRAINS_FASTER], row


@pytest.mark.parametrize("path", TABLES, ids=name_of)
def test_the_notes_of_a_committed_table_hold_the_same_numbers(path: Path) -> None:
    committed, today = both(path)
    for line in committed.notes:
        if not line.startswith(OF_TODAY) and path.name not in ("exchange.md", "trends.md"):
            wanted = Counter(numbers(line))
            assert any(wanted <= Counter(numbers(found)) for found in today.notes), line


@pytest.mark.parametrize("path", [path for path in TABLES if path.name == "table.md"], ids=name_of)
def test_the_table_of_the_whole_folder_is_the_one_that_the_command_left(path: Path) -> None:
    committed, today = both(path)
    if len(committed.tables) > 1:
        assert [list(rows) for rows in committed.tables] == [list(rows) for rows in today.tables]
        return
    pages = [
        page_of(path, every_column(table.wide, table.table), lines=table.lines())
        for table in folder_tables(read_records(path.parent))
    ]
    (same,) = (page for page in pages if page.tables == today.tables)
    assert list(same.tables[0]) == list(committed.tables[0])
    assert [line for line in same.notes if line in today.notes] == today.notes


@pytest.mark.parametrize("path", TABLES, ids=name_of)
def test_the_numbers_beside_a_committed_table_are_those_of_its_records(path: Path) -> None:
    """`python -m tests.harness.test_committed_tables` writes them again."""
    for name, frame in both(path)[1].numbers.items():
        committed = pd.read_csv(numbers_file(path, name))
        today = pd.read_csv(io.BytesIO(as_csv(frame)))
        pd.testing.assert_frame_equal(
            committed, today[list(committed.columns)], check_dtype=False, rtol=1e-9
        )


def numbers_file(path: Path, name: str) -> Path:
    """That of a frame, as `harness.cli.output.leave_numbers` names it."""
    return path.with_name(f"{path.stem}{'-' * bool(name)}{name}.csv")


def test_every_kind_of_table_is_committed() -> None:
    assert {
        start for start in RENDERERS if any(path.name.startswith(start) for path in TABLES)
    } == RENDERERS.keys()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("4.15e+03", [4150.0]),
        ("2.65x [2.49, 2.83]", [2.65, 2.49, 2.83]),
        ("45.1 ± 2.1", [45.1, 2.1]),
        ("-1.6 ± 10.0", [-1.6, 10.0]),
        ("1,362.7", [1362.7]),
        ("0.70x [0.00, inf]", [0.7, 0.0, float("inf")]),
        ("within noise", []),
        ("48.9 (1)", [48.9, 1.0]),
        ("-", []),
    ],
)
def test_numbers_are_found_in_cells(text: str, found: list[float]) -> None:
    assert numbers(text) == found


if __name__ == "__main__":
    for page in TABLES:
        leave_numbers(page, both(page)[1].numbers)
