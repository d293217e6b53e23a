"""The tables of a whole output folder: one for every setting under which runs were held equal, from
records alone.

Whoever makes them, the command that ran or one that only reads, makes the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from datasets.wording import counted, printable
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, RunRecord, SpeedRecord, plain_spec
from harness.records.store import Records, measured_settings
from harness.records.versions import stale_lines
from harness.report.cells import speedup_text
from harness.report.frame import (
    SUMMARY_COLUMNS,
    TEXT,
    comparable,
    is_control,
    speed_figures,
    summary_frame,
    typed,
)
from harness.report.repeat import repeat_lines
from harness.report.table import notes, table_text, to_markdown
from harness.spec.model import MethodSpec

Own = Mapping[str, Mapping[str, str]]
"""Module -> version, by method, of methods that the process has loaded."""


@dataclass(frozen=True)
class Typed:
    """The command whose rows are among those of a folder.

    Attributes:
        words: as typed.
        asked: how each row was asked for, by its label.
        held_equal: of the setting that it ran.
        own: what its process knows of the methods' versions.
    """

    words: Sequence[str] = ()
    asked: Mapping[str, str] = field(default_factory=dict)
    held_equal: str = ""
    own: Own = field(default_factory=dict)


_NOBODY = Typed()
_SHARED = {
    "runs": ("encoder", "data", "train", "probe"),
    "controls alone": ("encoder", "data", "probe"),
    "speed alone": ("encoder", "data", "train"),
}
"""Sections of the spec that a table's rows share, by its kind."""
_UNSAID = ("data.name", "data.fingerprint")
"""Said together, as `data`."""


@dataclass(frozen=True)
class FolderTable:
    """What was held equal: runs of methods with the controls that fit them, and the speed beside
    them.

    Attributes:
        kind: what it holds: ``runs``, ``controls alone`` or ``speed alone``.
        of_set: the one data set that it is about, where the runs are on several.
        others: further measurements under the same settings.
        differs: the settings in which it differs from the other tables of the folder, by dotted
            name.
    """

    runs: list[RunRecord]
    speed: SpeedRecord | None
    kind: str
    others: tuple[SpeedRecord, ...] = ()
    differs: dict[str, Any] = field(default_factory=dict)
    of_set: str = ""

    @property
    def heading(self) -> str:
        """What tells it from the other tables of the folder."""
        kind = [] if self.kind == "runs" and (self.differs or self.of_set) else [self.kind]
        kind += [f"on {self.of_set}"] if self.of_set else []
        return ", ".join(
            [*kind, *(f"{name} {_plain(value)}" for name, value in self.differs.items())]
        )

    @property
    def frame(self) -> pd.DataFrame:
        """Its rows as numbers."""
        return summary_frame(self)

    @property
    def table(self) -> pd.DataFrame:
        """Its rows as text: what matters first."""
        return table_text(self.frame)

    @property
    def wide(self) -> pd.DataFrame:
        """Every column."""
        return table_text(self.frame, wide=True)

    def lines(self, typed: Typed = _NOBODY, *, wide: bool = True) -> list[str]:
        """What stands below it; ``wide``: below that with every column."""
        trained = [record for record in self.runs if not is_control(record)]
        own_rows = bool(trained) and trained[0].spec.held_equal == typed.held_equal
        repeated = (
            repeat_lines(trained, typed.asked, typed.words) if own_rows else repeat_lines(trained)
        )
        return [
            *notes(self.runs, self.speed, wide=wide),
            *self._apart(),
            *repeated,
            *stale_lines(self.runs, typed.own),
        ]

    def _apart(self) -> list[str]:
        """What other measurements say of rows that the one beside them has not;
        ratios hold inside one alone.
        """
        found = {}
        for record in self.runs:
            newest = max(
                (speed for speed in self.others if speed.arm(record.label)),
                key=lambda speed: speed.finished,
                default=None,
            )
            arm = newest.arm(record.label) if newest else None
            if newest and arm and self.speed and not self.speed.arm(record.label):
                found[record.label] = (
                    f"{speedup_text(speed_figures(arm, newest))} over {newest.baseline}"
                    f" ({newest.address})"
                )
        texts = [f"{label} {text}" for label, text in found.items()]
        return [f"measured apart from these rows: {'; '.join(texts)}"] if texts else []


def folder_tables(records: Records) -> list[FolderTable]:
    """All tables of a folder: of runs in the order of what tells them apart,
    then of controls and speed alone.
    """
    runs = _each_once(records.runs)
    speeds = [speed for speed in records.speeds if not speed.spec.get("stages")]
    found = [_table_of(_told_apart(group), speeds) for group in _held_equal(runs)]
    rest = [speed for speed in speeds if not any(_fits(speed, table.runs) for table in found)]
    found += [FolderTable([], speed, "speed alone") for speed in rest]
    return [one for table in _in_order(_headed(found)) for one in (table, *_on_each_set(table))]


def _on_each_set(table: FolderTable) -> list[FolderTable]:
    """The tables of a table's runs on each of their data sets, where they are on several."""
    sets = table.runs[0].data.sets if table.runs else ()
    return [
        replace(
            table,
            runs=[record.on(number) for record in table.runs],
            of_set=one.name,
            speed=table.speed and table.speed.model_copy(update={"data": one}),
        )
        for number, one in enumerate(sets)
    ]


def folder_page(
    tables: Sequence[FolderTable], refused: Sequence[object], command: str, typed: Typed = _NOBODY
) -> str:
    """The tables of a folder as one page; a heading over each where there are several.

    Args:
        refused: what was left out.
    """
    if not tables:
        return f"    {command}\n\nno run has a record yet\n"
    left_out = [
        f"left out: {counted(len(refused), 'record')} that cannot be used; `verify` names them"
    ]
    pages = []
    for number, table in enumerate(tables, 1):
        lines = [*table.lines(typed), *(left_out if refused and number == len(tables) else [])]
        page = to_markdown(table.table, lines, command)
        if len(tables) > 1:
            first, _, rest = page.partition("\n")
            page = (
                f"{first}\n\n" if number == 1 else ""
            ) + f"## {printable(table.heading)}\n{rest}"
        pages.append(page)
    return "\n".join(pages)


# --- which runs share a table ---


def _each_once(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Without those that lie there again under the address of an earlier rule."""
    present = {record.address for record in runs}
    return [
        record
        for record in runs
        if record.address == record.spec.address or record.spec.address not in present
    ]


def _held_equal(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Runs that share everything but method and seed, with the controls that fit;
    then controls that fit none.
    """
    groups: dict[str, list[RunRecord]] = {}
    controls = []
    for record in runs:
        if is_control(record):
            controls.append(record)
        else:
            groups.setdefault(record.spec.held_equal, []).append(record)
    found = list(groups.values())
    for label in (
        RANDOM_INIT,
        RAW_FLOOR,
    ):  # raw coordinates may go with an untrained encoder that is left alone
        rows = [record for record in controls if record.label == label]
        left = [record for record in rows if not any(_goes_with(record, group) for group in found)]
        for group in list(found):
            group.extend(
                _of_its_seeds(
                    [record for record in rows if _goes_with(record, group)], group, found
                )
            )
        for record in left:
            groups.setdefault(record.spec.held_equal, []).append(record)
        found = list(groups.values())
    return found


def _goes_with(control: RunRecord, group: Sequence[RunRecord]) -> bool:
    """The control is that of the runs: the same data and probe and, for an encoder,
    the same encoder and device.
    """
    one, other = control.spec.identity, group[0].spec.identity
    parts = ("data",) if control.label == RAW_FLOOR else ("data", "encoder", "device")
    probes = [{**spec["probe"], "points": 1, "every": ""} for spec in (one, other)]
    return all(one[part] == other[part] for part in parts) and probes[0] == probes[1]


def _of_its_seeds(
    controls: Sequence[RunRecord], group: Sequence[RunRecord], groups: Sequence[Sequence[RunRecord]]
) -> list[RunRecord]:
    """Untrained encoders with the seeds of a group's runs,
    and with seeds that wait for a run in any group.
    """
    own = _seeds(group)
    taken = set().union(
        *(
            _seeds(other)
            for other in groups
            if other and controls and _goes_with(controls[0], other)
        )
    )
    return [
        record
        for record in controls
        if record.label == RAW_FLOOR or record.spec.seed in own or record.spec.seed not in taken
    ]


def _seeds(runs: Sequence[RunRecord]) -> set[int]:
    return {record.spec.seed for record in runs if not is_control(record)}


def _told_apart(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs; of two methods under one label the later one keeps it.

    A label names the options that are not at their default. Where a default changed, an earlier run
    of that label has other options, and gets the label that it would have today.
    """
    keepers: dict[str, RunRecord] = {}
    for record in sorted(runs, key=lambda record: record.finished):
        keepers[record.label] = record
    return [_labelled(record, keepers[record.label]) for record in runs]


def _labelled(record: RunRecord, keeper: RunRecord) -> RunRecord:
    own, others = record.spec.method.identity["options"], keeper.spec.method.identity["options"]
    changed = {key: value for key, value in own.items() if others.get(key) != value}
    if own == others or not changed:
        return record
    more = str(MethodSpec(name=record.spec.method.name, options=changed)).partition(":")[2]
    return record.model_copy(
        update={"label": f"{record.label}{',' if ':' in record.label else ':'}{more}"}
    )


def _in_asked_order(runs: Sequence[RunRecord], speed: SpeedRecord | None) -> list[RunRecord]:
    """Rows as they were asked for, which a measurement remembers; others after them,
    by label; controls last.
    """
    places: dict[str, int] = {}
    for name in (
        [*(speed.spec.get("methods") or ()), *(arm.label for arm in speed.arms)] if speed else []
    ):
        places.setdefault(name, len(places))

    def key(record: RunRecord) -> tuple[bool, int, str, int]:
        place = places.get(_method(record), places.get(record.label, len(places)))
        return is_control(record), place, record.label, record.spec.seed

    return sorted(runs, key=key)


def _method(record: RunRecord) -> str:
    """The method with its options, as measurements name it."""
    return str(MethodSpec(**record.spec.method.identity))


# --- the speed beside them ---


def _table_of(runs: Sequence[RunRecord], speeds: Sequence[SpeedRecord]) -> FolderTable:
    """Runs with the measurement of their settings: on their machine, with as many of their rows as
    there are, and as few others; of equal ones the newest.
    """
    trained = [record for record in runs if not is_control(record)]
    labels = {record.label for record in trained}

    def fit(speed: SpeedRecord) -> tuple[bool, int, int, Any]:
        here = any(
            record.environment.fingerprint == speed.environment.fingerprint
            for record in trained or runs
        )
        rows = {arm.label for arm in speed.arms if not arm.control}
        return here, len(labels & rows), -len(rows - labels), speed.finished

    fitting = [
        speed for speed in speeds if _fits(speed, runs) and not _of_other_options(speed, trained)
    ]
    speed = max(fitting, key=fit, default=None)
    others = tuple(other for other in fitting if other is not speed)
    return FolderTable(
        _in_asked_order(runs, speed), speed, "runs" if trained else "controls alone", others
    )


def _fits(speed: SpeedRecord, runs: Sequence[RunRecord]) -> bool:
    """The measurement trained as the runs did; beside controls alone,
    the same encoder on the same data will do.
    """
    if not runs or speed.spec.get("memory_cap"):
        return False
    own, measured = measured_settings(runs[0]), measured_settings(speed)
    if not is_control(runs[0]):
        return own == measured
    return runs[0].label == RANDOM_INIT and all(
        own[part] == measured[part] for part in ("data", "encoder", "device")
    )


def _of_other_options(speed: SpeedRecord, trained: Sequence[RunRecord]) -> bool:
    """An arm has the label of one of the runs and other options; where methods were not kept,
    the label counts.
    """
    named = speed.spec.get("methods", ())
    return bool(named) and any(
        speed.arm(record.label) and _method(record) not in named for record in trained
    )


# --- what tells them apart ---


def _headed(tables: Sequence[FolderTable]) -> list[FolderTable]:
    """The tables with the settings in which they differ."""
    data_names: dict[str, str] = {}
    flat = [dict(_settings(table, data_names)) for table in tables]
    names = dict.fromkeys(name for settings in flat for name in settings)
    apart = [
        name for name in names if len({_plain(found[name]) for found in flat if name in found}) > 1
    ]
    return [
        replace(table, differs={name: settings[name] for name in apart if name in settings})
        for table, settings in zip(tables, flat, strict=True)
    ]


def _settings(table: FolderTable, data_names: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """Settings by dotted name; data by what it holds, under the first name that it had."""
    shown = table.runs[0] if table.runs else table.speed
    assert shown is not None
    spec, fingerprint = plain_spec(shown), shown.data.fingerprint
    yield "data", f"{data_names.setdefault(fingerprint, shown.data.name)} ({fingerprint})"
    for section in _SHARED[table.kind]:
        for key, value in spec[section].items():
            if f"{section}.{key}" not in _UNSAID and (
                table.kind == "runs" or key not in ("points", "every")
            ):
                yield f"{section}.{key}", value
    yield "device", spec["device"]
    if table.kind == "speed alone" and isinstance(shown, SpeedRecord):
        if shown.spec.get("memory_cap"):
            yield "memory cap", f"{shown.spec['memory_cap'] / 1e9:g} GB"
        yield "measured", f"{shown.finished:%Y-%m-%d %H:%M:%S} UTC ({shown.address})"


def _in_order(tables: Sequence[FolderTable]) -> list[FolderTable]:
    """Runs first; by heading, the numbers in it by size."""

    def key(table: FolderTable) -> tuple[int, list[tuple[float, str]]]:
        pieces = re.findall(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?|\D+", table.heading)
        numbers = [(float(piece), "") if piece[0].isdigit() else (-1.0, piece) for piece in pieces]
        return list(_SHARED).index(table.kind), numbers

    return sorted(tables, key=key)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return "/".join(map(_plain, value))
    return (
        "unset" if value in (None, "") else f"{value:g}" if isinstance(value, float) else str(value)
    )


# --- as numbers ---


def folder_frame(tables: Sequence[FolderTable]) -> pd.DataFrame:
    """The rows of all tables as numbers, behind the heading of their own."""
    frames = [table.frame for table in tables]
    for table, frame in zip(tables, frames, strict=True):
        frame.insert(0, "table", pd.Series([table.heading] * len(frame), dtype=TEXT))
    return (
        pd.concat(frames, ignore_index=True)
        if frames
        else typed([], {"table": TEXT, **SUMMARY_COLUMNS})
    )


def folder_json(tables: Sequence[FolderTable], refused: Sequence[object]) -> dict[str, Any]:
    """The tables of a folder as plain values: each row's cells,
    and the numbers that they are made of.
    """
    return {
        "tables": [_plain_table(table) for table in tables],
        "left_out": [str(refusal) for refusal in refused],
    }


def _plain_table(table: FolderTable) -> dict[str, Any]:
    shown = zip(table.frame["label"], table.wide.to_dict("records"), strict=True)
    return {
        "heading": table.heading,
        "differs": table.differs,
        "speed": table.speed and table.speed.address,
        "rows": [{"cells": cells, **_numbers(label, table)} for label, cells in shown],
        "notes": table.lines(),
    }


def _numbers(label: str, table: FolderTable) -> dict[str, Any]:
    """Accuracies of every run of a row, and its side of the speed measurement."""
    arm = table.speed.arm(label) if table.speed else None
    judged = table.speed and arm and comparable(arm, table.speed)
    return {
        "runs": [
            {
                "address": record.address,
                "seed": record.spec.seed,
                "status": record.status,
                "linear": record.accuracy and record.accuracy.linear_test,
                "knn": record.accuracy and record.accuracy.knn_test,
                "steps": record.training and record.training.steps,
                "seconds": record.training and record.training.seconds,
            }
            for record in table.runs
            if record.label == label
        ],
        "clips_per_second": arm and arm.clips_per_second,
        "speedup": arm.ratio.model_dump(mode="json") if arm and judged else None,
        "flop_ratio": arm.flop_ratio if arm and judged else None,
        "verdict": arm.verdict if arm and judged else None,
    }
