"""What a study on its shelf says of itself: its page, once for all its records, and the list of all
studies.

The page is `README.md` beside the records. Its title, its first line of text (why the study was
made) and its facts, ``- machine: ...``, are read again for the list.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from datasets.wording import counted, printable
from harness.errors import UsageError
from harness.records.reading import SHELF_FILE, read_file
from harness.records.schema import Environment, RunRecord, SpeedRecord
from harness.records.shelving import Contents
from harness.records.store import TABLE_FILE
from harness.report.folder import folder_frame, folder_page, folder_tables
from harness.report.frame import as_csv
from harness.report.table import plain_markdown

PAGE, _NUMBERS_FILE = "README.md", "table.csv"
_WHY = "why"
_SHOWS = "shows"
"""Fact that is written by hand, and stays where the page is made again."""
_LISTED = ("why", "finished", "machine", "rows", "records")
"""Columns of the list of studies, after their names."""
_PAGES = ("*.md", "*.csv", "*.yaml")
"""What commands leave beside records for a reader, and frozen targets."""
_FIRST_PAGES = ("table.md", "speed.md")


@dataclass(frozen=True)
class Study:
    """What stands on a study's page.

    Attributes:
        why: it was made, in one line.
        commands: that made the records and the pages beside them.
        facts: by their names, in order.
        methods: lines of what the methods of its rows are, and where they depart from their papers.
    """

    name: str
    why: str
    commands: list[str] = field(default_factory=list)
    facts: Mapping[str, str] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)

    @property
    def page(self) -> str:
        """As Markdown."""
        blocks = [[f"# {printable(self.name)}"], [printable(self.why)]]
        blocks.append([f"    {printable(command)}" for command in self.commands])
        blocks.append([f"- {name}: {printable(text)}" for name, text in self.facts.items()])
        if self.methods:
            blocks += [["## Methods"], [printable(line) for line in self.methods]]
        return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def study_of(name: str, why: str, commands: list[str], found: Contents) -> Study:
    """What there is to say of a folder's records."""
    records: list[RunRecord | SpeedRecord] = [*found.records.runs, *found.records.speeds]
    everything = [*records, *found.evaluations]
    rows = {record.label for record in found.records.runs}
    rows |= {label for speed in found.records.speeds for label in speed.rows}
    versions = [
        ", ".join(f"{name} {version}" for name, version in one.environment.versions.items())
        for one in everything
    ]
    days = sorted({f"{one.finished:%Y-%m-%d}" for one in everything})
    facts = {
        "records": counts(found),
        "rows": str(len(rows)),
        "data": _each_once(f"{record.data.name} ({record.data.fingerprint})" for record in records),
        "machine": _each_once(_machine(one.environment) for one in everything),
        "versions": _each_once(versions),
        "commit": _each_once(one.environment.commit for one in everything),
        "finished": " to ".join(dict.fromkeys([days[0], days[-1]])),
    }
    return Study(name, why, commands, facts, [*_method_lines(found.records.runs)])


def counts(found: Contents) -> str:
    """``58 runs, 1 speed measurement``."""
    number = {
        "run": len(found.records.runs),
        "speed measurement": len(found.records.speeds),
        "evaluation": len(found.evaluations),
    }
    return ", ".join(counted(many, kind) for kind, many in number.items() if many)


def _each_once(texts: Iterable[str]) -> str:
    """Different texts, the most frequent first."""
    number: dict[str, int] = {}
    for text in texts:
        number[text] = number.get(text, 0) + 1
    return "; ".join(sorted(number, key=lambda text: (-number[text], text)))


def _machine(environment: Environment) -> str:
    """``cpu, Abacus 3000, 2 cores, 1 thread``."""
    threads = counted(environment.threads, "thread")
    return (
        f"{environment.device}, {environment.processor}, {counted(environment.cores, 'core')},"
        f" {threads}"
    )


def _method_lines(runs: Iterable[RunRecord]) -> Iterator[str]:
    """What the methods of the rows say of themselves: the paper,
    where a method departs from it, what was chosen.
    """
    labels: dict[tuple[str, ...], list[str]] = {}
    for label, method in sorted({record.label: record.method for record in runs}.items()):
        if not method.control:
            said = ("departs from it", method.deviations), ("chosen", method.choices)
            lines = [f"  - {what}: {'; '.join(texts)}" for what, texts in said if texts]
            labels.setdefault((f"{method.title} ({method.paper})", *lines), []).append(label)
    for (title, *lines), found in labels.items():
        yield f"- {', '.join(found)}: {title}"
        yield from lines


def _commands_of(folder: Path) -> list[str]:
    """What left the pages of a folder: each begins with its command. That of the table,
    or of speed, comes first.
    """
    found = dict.fromkeys(
        line.strip()
        for path in sorted(
            folder.glob("*.md"), key=lambda path: (path.name not in _FIRST_PAGES, path.name)
        )
        if path.name != PAGE
        and (line := read_file(path).decode(errors="replace").partition("\n")[0]).startswith("    ")
    )
    return list(found)


def shelf_files(
    folder: Path, target: Path, found: Contents, *, why: str = "", name: str = ""
) -> dict[str, bytes]:
    """The files of a study's shelf, by name.

    Args:
        why: as the page that is there says, where this is empty; so is the name, which else is the
            folder's. What it says that the study shows stays, too.
    """
    known = next(
        (read_study(path) for path in (target / PAGE, folder / PAGE) if path.is_file()), None
    )
    why = " ".join((why or (known.why if known else "")).split()).lstrip("#- ")
    if not why:
        raise UsageError(
            f"--why: expected a line that says why {folder} was made, found none; it stands on the"
            " study's page"
        )
    title = name or (known.name if known else "") or target.resolve().name
    files = {SHELF_FILE: found.text}
    for path in sorted(path for ending in _PAGES for path in folder.glob(ending)):
        if path.name != PAGE and path.is_file():
            files[path.name] = read_file(path)
    commands = _commands_of(folder) or [f"python -m harness table {target}"]
    if tables := folder_tables(found.records):
        files[TABLE_FILE] = folder_page(tables, found.refused, commands[0]).encode()
        files[_NUMBERS_FILE] = as_csv(folder_frame(tables))
    study = study_of(title, why, commands, found)
    if known and _SHOWS in known.facts:
        study = replace(study, facts={_SHOWS: known.facts[_SHOWS], **study.facts})
    files[PAGE] = study.page.encode()
    return files


# --- read again ---


def only_planned(folder: Path) -> bool:
    """The folder has a page that says why the study is made, and nothing more of it."""
    try:
        study = read_study(folder / PAGE)
    except (UsageError, OSError):
        return False
    return (folder / PAGE).read_bytes() == Study(study.name, study.why).page.encode()


def read_study(path: Path) -> Study:
    """The study of a page. A `UsageError` where the page does not say what it was made for."""
    title, _, rest = read_file(path).decode(errors="replace").partition("\n")
    rest, _, _ = rest.partition("\n## ")
    lines = [line for line in rest.splitlines() if line]
    why = lines[0] if lines else ""
    if not title.startswith("# ") or not why or why.startswith(("#", "- ", "    ")):
        raise UsageError(
            f"{path}: expected a title, and below it a line that says why the study was made;"
            " write one"
        )
    facts = dict(
        line.removeprefix("- ").split(": ", 1)
        for line in lines
        if line.startswith("- ") and ": " in line
    )
    return Study(title.removeprefix("# "), why, facts=facts)


def studies_page(root: Path, beside: Path, command: str) -> str:
    """The list of all studies in and below a folder, as Markdown.

    Args:
        beside: the folder that the page lies in; links start there.
    """
    rows = []
    for path in sorted(root.rglob(PAGE)):
        study = read_study(path)
        shown = {_WHY: study.why, **study.facts}
        link = quote(os.path.relpath(path.parent, beside).replace(os.sep, "/"))
        name = re.sub(r"([][\\])", r"\\\1", study.name)
        rows.append([f"[{name}]({link})", *(shown.get(name, "-") for name in _LISTED)])
    return plain_markdown(pd.DataFrame(rows, columns=["study", *_LISTED]), command)
