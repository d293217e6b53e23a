"""The page itself: studies in, HTML out, the same bytes whenever the records are the same.

It opens offline and asks nobody for anything: style and script are inside, allowed by their hashes
and nothing else is (a content security policy of ``default-src 'none'``). Every text of a record is
escaped, and shortened where it would break the layout.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from datasets.wording import printable
from harness.records.evaluations import EvaluationRecord, column_of, row_of
from harness.records.schema import RAW_FLOOR, RunRecord, SpeedRecord, plain_spec
from harness.records.store import write_atomically
from harness.report.answer import Answer, explained, held, how_sure
from harness.report.conditions import encoder_text
from harness.report.frame import is_control
from harness.report.html.grid import EMPTY, Cell, Grid, grid, number
from harness.report.html.packing import AnyRecord, Entry, as_line, identity, packed
from harness.report.html.sections import sections
from harness.report.html.study import Setting, Study, read_studies

_TEMPLATES = Path(__file__).parent / "templates"
_POLICY = (
    "default-src 'none'; style-src {style}; script-src {script}; img-src data:; base-uri 'none';"
    " form-action 'none'"
)
_MOST_RUNS, _MOST_BYTES = 200, 1_000_000
"""Of more runs, or of a page that would be larger with them, the records lie beside it."""
_LONGEST = 400
"""Characters of a text that are shown; a record has it whole."""
_LONGEST_CELL = 240


@dataclass(frozen=True)
class _Report:
    """A page, and the records beside it where they are too many to be inside."""

    page: str
    beside: str = ""


def beside_name(out: Path) -> str:
    """Name of the file with the records of a page."""
    return f"{out.stem}.records.jsonl"


def write_report(folders: Sequence[Path], out: Path) -> Path | None:
    """Leave the report of output folders in a file; a `UsageError` where one of them holds nothing.

    Returns the file with the records where they are not inside the page.
    """
    report = make_report(read_studies(folders), out)
    beside = out.with_name(beside_name(out)) if report.beside else None
    if beside:
        write_atomically(beside, report.beside.encode())
    write_atomically(out, report.page.encode())
    return beside


def make_report(studies: Sequence[Study], out: Path) -> _Report:
    """The report of studies.

    Args:
        out: where it will lie; names the file beside it.
    """
    entries, links = _entries(studies)
    style, script = (_text(name) for name in ("style.css", "script.js"))
    found = sections(studies, links)
    template, text = _environment().get_template("page.html"), packed(entries)

    def page(beside: str, inside: str) -> str:
        return template.render(
            title=" + ".join(study.name for study in studies),
            policy=Markup(_POLICY.format(style=_hash(style), script=_hash(script))),
            style=Markup(style),
            script=Markup(script),
            answers=_answers(studies),
            main=_main(studies),
            others=_others(studies),
            conditions=_conditions(studies),
            sections=[section for section in found if section.blocks],
            absent=[section.empty for section in found if not section.blocks],
            waiting=[(study.name, row) for study in studies for row in study.waiting],
            refused=[line for study in studies for line in study.refused],
            records=_record_grids(studies, entries),
            beside=beside,
            packed=Markup(inside),
        )

    if sum(isinstance(entry.record, RunRecord) for entry in entries) <= _MOST_RUNS:
        whole = page("", text)
        if len(whole.encode()) <= _MOST_BYTES:
            return _Report(whole)
    return _Report(
        page(beside_name(out), ""), "".join(as_line(entry.record) + "\n" for entry in entries)
    )


def rendered(template: str, **content: Any) -> str:
    """A page of the suite: a template with the style,
    the script and the policy that all pages have.
    """
    style, script = (_text(name) for name in ("style.css", "script.js"))
    return (
        _environment()
        .get_template(template)
        .render(
            policy=Markup(_POLICY.format(style=_hash(style), script=_hash(script))),
            style=Markup(style),
            script=Markup(script),
            **content,
        )
    )


def _text(name: str) -> str:
    """A file that stands in the page as it is."""
    return (_TEMPLATES / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["cell"] = lambda text: brief(text, _LONGEST_CELL)
    return environment


def _shown(value: Any) -> Any:
    """Whatever the template prints: texts of records in one line, and not too long."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return brief(value, _LONGEST)
    return value


def brief(text: str, longest: int) -> str:
    """A text that breaks no layout: one line, nothing that turns the direction of writing,
    not too long.
    """
    if len(text) <= longest:
        return printable(text)
    return f"{printable(text[:longest])}… ({len(text):,} characters)"


# --- at the top ---


def _settings(studies: Sequence[Study]) -> list[Setting]:
    return [setting for study in studies for setting in study.settings]


def _main(studies: Sequence[Study]) -> Setting | None:
    """The setting that the report begins with: the one with the most runs,
    and a measurement beside them.
    """
    return max(_settings(studies), key=lambda setting: setting.weight, default=None)


def _others(studies: Sequence[Study]) -> list[Setting]:
    main = _main(studies)
    return [setting for setting in _settings(studies) if setting is not main]


def _answers(studies: Sequence[Study]) -> list[tuple[str, Answer]]:
    """What stands on top, each with the section that it leads to."""
    main, cards = _main(studies), [card for study in studies for card in study.cards]
    staged = [record for study in studies for record in study.staged if len(record.stages) > 2]
    found = [("faster", main.faster)] if main and (main.table.speed or not staged) else []
    found += [("better", main.better[0][1])] if main and main.better else []
    found += [("why", explained(record)) for record in staged[:1]]
    found += [("claims", held(cards))] if cards else []
    return [*found, ("believe" if main else "records", _trust(studies))]


def _trust(studies: Sequence[Study]) -> Answer:
    """How sure one may be of the answers beside it,
    which are of the main setting and of the first waterfall.
    """
    main, staged = _main(studies), [record for study in studies for record in study.staged]
    speeds = [*([main.table.speed] if main and main.table.speed else []), *staged]
    return how_sure(
        main.table.runs if main else [],
        [main.summary] if main else [],
        speeds,
        sum(len(study.waiting) for study in studies),
        sum(len(study.records.refused) for study in studies),
        [setting.summary for setting in _others(studies)],
    )


def _conditions(studies: Sequence[Study]) -> list[str]:
    """Data, encoder and machine, each once."""
    shown: list[RunRecord | SpeedRecord] = [run for study in studies for run in study.records.runs]
    shown = shown or [speed for study in studies for speed in study.records.speeds]
    data = dict.fromkeys(record.data.name for record in shown)
    encoders = dict.fromkeys(
        encoder_text(plain_spec(one))
        for one in shown
        if not (isinstance(one, RunRecord) and one.label == RAW_FLOOR)  # it needs none
    )
    machines = dict.fromkeys(
        f"{one.environment.device}, {one.environment.processor}, {one.environment.threads} threads"
        for one in shown
    )
    return [
        f"data: {', '.join(data)}",
        *([f"encoder: {', '.join(encoders)}"] if encoders else []),
        f"machine: {'; '.join(machines)}",
    ]


# --- records ---


def _entries(studies: Sequence[Study]) -> tuple[list[Entry], dict[int, dict[str, str]]]:
    """Every record once, in the order of the tables that it stands in,
    and where those of each study stand.
    """
    found: dict[tuple[object, ...], Entry] = {}
    links: dict[int, dict[str, str]] = {}
    for study in studies:
        shown = [run for setting in study.settings for run in setting.table.runs]
        every: list[AnyRecord] = [
            *shown,
            *study.records.runs,
            *study.records.speeds,
            *study.evaluations,
        ]
        for record in every:
            entry = found.setdefault(identity(record), Entry(len(found), record))
            links.setdefault(study.place, {}).setdefault(record.address, entry.anchor)
    return list(found.values()), links


def _record_grids(studies: Sequence[Study], entries: Sequence[Entry]) -> list[tuple[str, Grid]]:
    """All records as tables, whose rows are where numbers lead to."""
    kinds: dict[type, list[Entry]] = {}
    for entry in entries:
        kinds.setdefault(type(entry.record), []).append(entry)
    made: dict[type, tuple[str, Mapping[str, bool], Callable[[Any], list[Cell]]]] = {
        RunRecord: ("Runs", _RUN_COLUMNS, _run_cells),
        SpeedRecord: ("Measurements", _SPEED_COLUMNS, _speed_cells),
        EvaluationRecord: ("Evaluations", _EVALUATION_COLUMNS, _evaluation_cells),
    }
    return [
        (
            title,
            grid(
                columns,
                [cells(entry.record) for entry in kinds[kind]],
                [entry.anchor for entry in kinds[kind]],
            ),
        )
        for kind, (title, columns, cells) in made.items()
        if kind in kinds
    ]


_RUN_COLUMNS = {
    "run": False,
    "seed": True,
    "budget": False,
    "status": False,
    "linear": True,
    "kNN-1": True,
    "clips seen": True,
    "seconds": True,
    "finished (UTC)": False,
    "commit": False,
}
_SPEED_COLUMNS = {
    "measurement": False,
    "baseline": False,
    "rows": True,
    "rounds": True,
    "noise floor": True,
    "finished (UTC)": False,
    "commit": False,
}
_EVALUATION_COLUMNS = {
    "row": False,
    "seed": True,
    "protocol": False,
    "encoder": False,
    "status": False,
    "accuracy": True,
    "seconds": True,
    "finished (UTC)": False,
}


def _run_cells(record: RunRecord) -> list[Cell]:
    accuracy, training = record.accuracy, record.training
    return [
        Cell(record.label),
        Cell(str(record.spec.seed), record.spec.seed),
        Cell(EMPTY if is_control(record) else record.spec.train.budget),
        Cell(record.status, tone="" if record.status == "ok" else "bad"),
        number(accuracy and accuracy.linear_test, ".1f", scale=100),
        number(accuracy and accuracy.knn_test, ".1f", scale=100),
        number(training and training.clips_seen, ",.0f"),
        number(training and training.seconds, ",.1f"),
        Cell(f"{record.finished:%Y-%m-%d %H:%M}"),
        Cell(record.environment.commit[:12]),
    ]


def _speed_cells(record: SpeedRecord) -> list[Cell]:
    return [
        Cell(record.address),
        Cell(record.baseline),
        Cell(str(len(record.arms)), len(record.arms)),
        Cell(str(record.done_rounds), record.done_rounds),
        number(record.floor, ".3f"),
        Cell(f"{record.finished:%Y-%m-%d %H:%M}"),
        Cell(record.environment.commit[:12]),
    ]


def _evaluation_cells(record: EvaluationRecord) -> list[Cell]:
    return [
        Cell(row_of(record)),
        Cell(str(record.seed), record.seed),
        Cell(column_of(record)),
        Cell(record.encoder),
        Cell(record.status, tone="" if record.status == "ok" else "bad"),
        number(record.accuracy, ".1f", scale=100),
        number(record.seconds, ",.1f"),
        Cell(f"{record.finished:%Y-%m-%d %H:%M}"),
    ]
