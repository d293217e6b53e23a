"""What a report knows of its folders: tables, columns of accuracy with their pairs,
stages, targets, who still runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from harness.errors import UsageError
from harness.records.differences import pairs
from harness.records.doubts import doubts_of, kinds
from harness.records.evaluations import EvaluationRecord, Evaluations, column_of, row_of
from harness.records.pictures import RunPictures, read_pictures
from harness.records.schema import EVERY_SWITCH, INFERENCE, RunRecord, SpeedRecord
from harness.records.store import Records, RecordStore, Refused, read_records, refusal_lines
from harness.report.answer import Answer, better, faster
from harness.report.compare import Comparison, columns_of
from harness.report.folder import FolderTable, folder_tables
from harness.report.frame import summary_frame
from harness.report.status import ENDED, Row, read_status
from harness.studies.claims import Card, make_card, read_claims
from harness.studies.compare import PROTOCOL, Column, evaluations_on
from harness.studies.target import Target, eligible_runs, freeze, read_target, timing


@dataclass(frozen=True)
class Race:
    """Time to target under one setting: the target,
    the runs that it judges and the measurement of their steps.
    """

    target: Target
    frozen: bool
    runs: list[RunRecord]
    speed: SpeedRecord


@dataclass(frozen=True)
class Setting:
    """One table of a folder: what was held equal, and everything that was found under it.

    Attributes:
        place: of its study among those of the report.
        heading: what tells it from the others of the report.
        evaluations: of its runs on its data, under their labels.
        targets: frozen ones that lie beside the records.
    """

    place: int
    heading: str
    anchor: str
    table: FolderTable
    columns: list[Comparison]
    evaluations: list[EvaluationRecord]
    targets: list[Target]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """The rows of the table as numbers."""
        return summary_frame(self.table)

    @cached_property
    def faster(self) -> Answer:
        """Who trains faster."""
        return faster(self.summary, self.table.speed)

    @cached_property
    def better(self) -> list[tuple[str, Answer]]:
        """Who represents better, by column: the papers' linear protocol first,
        where it was evaluated.
        """
        doubts = {
            label: kinds(own)
            for label in dict.fromkeys(run.label for run in self.table.runs)
            if (own := doubts_of(label, self.table.runs, self.table.speed))
        }
        found = [
            (one.column.name, better(one.column.name, one.column.rows, one.these, doubts))
            for one in self.columns
        ]
        return sorted(found, key=lambda pair: not pair[0].startswith(f"{PROTOCOL}linear"))

    @property
    def labels(self) -> list[str]:
        """Rows of methods."""
        return list(self.summary[self.summary["kind"] == "method"]["label"])

    @property
    def weight(self) -> tuple[bool, bool, int, int]:
        """What makes a setting the one that a report begins with: runs that ended well,
        and speed beside them.
        """
        done = sum(run.status == "ok" for run in self.table.runs)
        return bool(done and self.table.speed), bool(done), done, len(self.table.runs)

    def addresses(self, column: Column) -> dict[str, str]:
        """Address of the record that stands for each row of a column: its first seed's."""
        found: dict[str, str] = {}
        for one in self.evaluations:
            if f"{PROTOCOL}{column_of(one)}" == column.name:
                found.setdefault(row_of(one), one.address)
        for run in self.table.runs:
            found.setdefault(run.label, run.address)
        return found

    @property
    def race(self) -> Race | None:
        """Time to target, where its runs were evaluated at fixed places and timed side by side.

        Without a frozen target that fits, MAMP's or the baseline's own runs set one for this look.
        """
        runs, speed = self.table.runs, self.table.speed
        if not runs or speed is None:
            return None
        own = [
            target
            for target in self.targets
            if any(run.status == "ok" for run in eligible_runs(runs, target))
        ]
        try:
            target = (
                own[0] if own else freeze(runs, "mamp" if "mamp" in self.labels else speed.baseline)
            )
        except UsageError:
            return None
        compared = eligible_runs(runs, target)
        done = [run for run in compared if run.status == "ok"]
        measured = timing([speed, *self.table.others], done) if done else None
        if measured is None:
            return None
        return Race(target, bool(own), compared, measured)


@dataclass(frozen=True)
class Study:
    """One folder.

    Attributes:
        others: addresses of records that were left out, as they name another study, or none.
    """

    place: int
    name: str
    records: Records
    evaluations: list[EvaluationRecord]
    settings: list[Setting]
    staged: list[SpeedRecord]
    waiting: list[Row]
    refused: list[str]
    pictures: list[RunPictures]
    others: list[str]

    @cached_property
    def cards(self) -> list[tuple[str, Card]]:
        """Claims that a measurement of this folder says something about."""
        found = []
        for record in self.staged:
            for name, claim in read_claims().items():
                stage = INFERENCE if claim.what == "inference" else EVERY_SWITCH
                if not claim.method or stage not in record.stages:
                    continue
                try:
                    found.append((name, make_card(claim, record)))
                except UsageError:  # its methods are not among the rows
                    continue
        return found


def read_studies(folders: Sequence[Path]) -> list[Study]:
    """Everything of several folders. A `UsageError` where one of them holds no record."""
    found = [
        read_study(folder, place, alone=len(folders) == 1) for place, folder in enumerate(folders)
    ]
    for folder, study in zip(folders, found, strict=True):
        if not study.settings and not study.staged:
            raise UsageError(
                f"{folder}: expected records of `run` or `speed`, found none that can be used;"
                " check the path"
            )
    return found


def read_study(folder: Path, place: int, *, alone: bool, study: str = "") -> Study:
    """Everything of a folder. A `UsageError` where there is none.

    Args:
        place: of the folder among those of the report.
        alone: it is the only one, whose name need not stand in every heading.
        study: where it is given, records that name this study's file (`Environment.study`) alone.
    """
    records, store = read_records(folder), Evaluations(folder, study)
    others = list[str]()
    if study:
        read: list[RunRecord | SpeedRecord] = [*records.runs, *records.speeds]
        others = [one.address for one in read if one.environment.study != study]
        records = replace(
            records,
            runs=[run for run in records.runs if run.environment.study == study],
            speeds=[speed for speed in records.speeds if speed.environment.study == study],
        )
    tables, found = folder_tables(records), store.of(records.runs)
    staged = [speed for speed in records.speeds if speed.stages and INFERENCE not in speed.stages]
    settings, targets = [], _targets(folder)
    for number, table in enumerate(tables):
        heading = ", ".join(
            filter(None, ["" if alone else folder.name, table.heading if len(tables) > 1 else ""])
        )
        columns = columns_of(table, store)
        own = evaluations_on(table.runs, found)
        heading = heading or folder.name
        compared = [
            Comparison(
                "",
                one,
                pairs(one.rows),
                [] if one.subjects is None else pairs(one.rows, one.subjects),
            )
            for one in columns
        ]
        settings.append(
            Setting(place, heading, f"s{place}-{number}", table, compared, own, targets)
        )
    return Study(
        place,
        folder.name,
        records,
        found,
        settings,
        staged,
        [row for row in read_status(folder, records) if row.state not in ENDED],
        refusal_lines(folder, [*records.refused, *store.refused.values()]),
        _pictures(folder, settings),
        [*others, *store.others],
    )


def _targets(folder: Path) -> list[Target]:
    """Frozen targets that lie beside the records."""
    found = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            found.append(read_target(path))
        except UsageError:  # another file
            continue
    return found


def _pictures(folder: Path, settings: Sequence[Setting]) -> list[RunPictures]:
    """Those of the first run of each row that has any."""
    found, store = dict[str, RunPictures](), RecordStore(folder)
    for run in (run for setting in settings for run in setting.table.runs):
        if run.label not in found:
            try:
                made = read_pictures(store, run.address)
            except Refused:  # `verify` names them
                continue
            if made is not None:
                found[run.label] = made.model_copy(update={"label": run.label})
    return list(found.values())
