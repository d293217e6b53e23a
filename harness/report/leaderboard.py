"""One leaderboard over studies and laboratories: only what may be compared shares a column.

    boards = leaderboard(laboratories(["runs", "theirs=benchmarks/results/synthetic-quick"]))

A board holds rows that were made under the same conditions. Accuracy: the data by what they hold,
split, encoder, training with its budget, probes, the code that trains and evaluates; under a budget
in seconds the machine too, which turns them into steps. Each protocol is a column, by its options
and its code. Speed: data, encoder, training, machine with the versions of its packages, rules,
baseline, the code that times. The two never share a board. A row is a method of a laboratory; where
two have other versions of a method's own code, its label says which. Each board says what keeps it
from the one that is most like it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from harness.errors import UsageError
from harness.records.differences import Row, pairs
from harness.records.evaluations import EvaluationRecord, Evaluations, column_of
from harness.records.schema import RunRecord, SpeedRecord
from harness.records.store import Records, Refusal, read_records
from harness.records.versions import LOOP, TIMING
from harness.report.apart import closing
from harness.report.conditions import (
    DATA,
    MACHINE,
    Facts,
    Values,
    differing,
    differing_text,
    gathered,
    machine,
    protocol_options,
    same_clips,
    settings,
    values_text,
)
from harness.report.folder import FolderTable, folder_tables
from harness.report.frame import (
    Figures,
    accuracy_figures,
    comparable,
    is_control,
    judgement,
    speed_figures,
    standing,
)
from harness.spec.budget import parse_budget
from harness.spec.model import EncoderSpec
from harness.studies.compare import (
    PROTOCOL,
    Column,
    evaluations_on,
    newest,
    probe_columns,
    protocol_columns,
)

Kind = Literal["accuracy", "speed"]
SPEEDUP = "speedup"
_ENCODER_CODE = ("attention", "base", "encoder", "kernels", "tokens")
"""Modules that the shared encoder is built on."""
_LOOP_CODE = (*(name.rpartition(".")[2] for name in LOOP), *_ENCODER_CODE)
_TIMING_CODE = (*(name.rpartition(".")[2] for name in TIMING), *_ENCODER_CODE)
"""Modules whose version must be the same in a board; a method's other ones are its own."""
_NO_PART_OF_A_MACHINE = ("memory_gib", "system")
"""As in `Environment.fingerprint`."""


@dataclass(frozen=True)
class Laboratory:
    """A folder of records, under the name that its rows have."""

    name: str
    folder: Path
    records: Records
    evaluations: Evaluations

    @property
    def refused(self) -> list[Refusal]:
        """What cannot be used."""
        return [*self.records.refused, *self.evaluations.refused.values()]


def laboratories(arguments: Sequence[str]) -> list[Laboratory]:
    """Folders as the command line names them: ``FOLDER`` or ``NAME=FOLDER``.

    Raises:
        UsageError: one is no folder, or two have one name.
    """
    named = [_named(argument) for argument in dict.fromkeys(arguments)]
    folders = [folder for _, folder in named]
    found = [
        Laboratory(
            name or _short(folder, folders), folder, read_records(folder), Evaluations(folder)
        )
        for name, folder in named
    ]
    names = [one.name for one in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two folders are called {twice[0]!r}; name them apart as NAME=FOLDER")
    return found


def _named(argument: str) -> tuple[str, Path]:
    name, _, folder = argument.rpartition("=")
    return (
        (name, Path(folder))
        if name and folder and not Path(argument).exists()
        else ("", Path(argument))
    )


def _short(folder: Path, folders: Sequence[Path]) -> str:
    """The shortest end of its path that no other folder's has."""
    parts, others = (
        folder.resolve().parts,
        [other.resolve().parts for other in folders if other is not folder],
    )
    lengths = (
        length
        for length in range(1, len(parts))
        if all(one[-length:] != parts[-length:] for one in others)
    )
    return "/".join(parts[-next(lengths, len(parts)) :])


# --- a board ---


@dataclass(frozen=True)
class Cell:
    """One number of one row.

    Attributes:
        figures: ``value``, ``value_low``, ``value_high``: an accuracy as
            `harness.report.frame.accuracy_figures` has it with its ``value_mark``, or a speedup
            beside the other `speed_figures` and its ``judgement``.
        row: the accuracies; None of a speedup.
    """

    figures: Figures
    row: Row | None = None

    @property
    def value(self) -> float:
        """The number."""
        return float(self.figures["value"])


@dataclass(frozen=True)
class Entry:
    """A row: a method of a laboratory.

    Attributes:
        label: with the versions of its own code where rows of one label have different ones.
        code: versions of its own code.
        device: that it was trained on.
        addresses: of its runs, or of the measurement.
    """

    label: str
    laboratory: str
    code: Values
    device: str
    control: bool
    open: bool
    addresses: tuple[str, ...]
    finished: datetime
    cells: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Board:
    """Rows that may be compared.

    Attributes:
        data: name of the data.
        conditions: what all rows were made under.
        columns: of each column, what its numbers were made under beside that.
        apart: the number of the board that is most like it, and both values of what keeps them
            apart.
        notes: who is above whom.
    """

    kind: Kind
    number: int
    data: str
    conditions: Facts
    columns: Mapping[str, Facts]
    entries: Sequence[Entry]
    apart: tuple[int, Mapping[str, tuple[Any, Any]]] | None = None
    notes: Sequence[str] = ()

    @property
    def heading(self) -> str:
        """What it is, in a line."""
        told = self.conditions
        encoder = {name: told.get(f"encoder.{name}") for name in EncoderSpec.model_fields}
        words = [
            f"{self.data} ({told['data']})",
            f"split {told['data.split']}",
            f"encoder {EncoderSpec.model_validate(encoder).text}",
        ]
        if self.kind == "accuracy":
            words.append(f"budget {told['train.budget']}")
        else:
            words += [
                f"over {told['speed.baseline']}",
                f"batch {told['train.batch_size']}",
                told["machine.processor"],
            ]
        return f"{self.kind} {self.number}: {', '.join(words)}"

    @property
    def reason(self) -> str:
        """Why its rows are not in the board that is most like it; empty where there is no other."""
        if self.apart is None:
            return ""
        other, differ = self.apart
        return f"not in {self.kind} {other}: {differing_text(differ)}"


@dataclass(frozen=True)
class _Piece:
    """One number of one row of one laboratory, with all that decides where it stands.

    Attributes:
        entry: its row, still without cells.
        of_column: what it was made under beside the conditions of its board.
    """

    kind: Kind
    data: str
    conditions: Facts
    column: str
    of_column: Facts
    entry: Entry
    cell: Cell


def leaderboard(labs: Sequence[Laboratory]) -> list[Board]:
    """Boards of accuracy, then of speed; those with most laboratories and rows first."""
    groups: dict[tuple[Kind, str], list[_Piece]] = {}
    for lab in labs:
        for piece in [*_accuracies(lab), *_speeds(lab)]:
            groups.setdefault((piece.kind, _key_of(piece.conditions)), []).append(piece)
    ranked = [board for pieces in groups.values() if (board := _board_of(pieces)).entries]
    ranked.sort(
        key=lambda board: (
            -len({entry.laboratory for entry in board.entries}),
            -len(board.entries),
            board.heading,
        )
    )
    found: list[Board] = []
    for kind in ("accuracy", "speed"):
        own = [
            replace(board, number=number)
            for number, board in enumerate((b for b in ranked if b.kind == kind), 1)
        ]
        found += [replace(board, apart=_nearest(board, own)) for board in own]
    return found


def _key_of(facts: Facts) -> str:
    """The same for the same values."""
    return json.dumps(dict(facts), sort_keys=True)


def _board_of(pieces: Sequence[_Piece]) -> Board:
    """The pieces that share their conditions as one board, its rows best first."""
    names = _column_names(pieces)
    entries: dict[str, Entry] = {}
    for piece in pieces:
        identity = _key_of(
            {
                "label": piece.entry.label,
                "from": piece.entry.laboratory,
                "code": dict(piece.entry.code),
                "device": piece.entry.device,
            }
        )
        before = entries.get(identity, piece.entry)
        name = names[piece.column, _key_of(piece.of_column)]
        addresses = tuple(dict.fromkeys([*before.addresses, *piece.entry.addresses]))
        entries[identity] = replace(
            before, addresses=addresses, cells={**before.cells, name: piece.cell}
        )
    columns = {names[piece.column, _key_of(piece.of_column)]: piece.of_column for piece in pieces}
    rows = _in_order(_told_apart(_once(entries.values())), columns)
    if all(entry.control for entry in rows):
        rows = []  # yardsticks alone rank nothing
    first = pieces[0]
    board = Board(first.kind, 0, first.data, first.conditions, columns, rows)
    return _marked(board) if first.kind == "accuracy" else board


def _column_names(pieces: Sequence[_Piece]) -> dict[tuple[str, str], str]:
    """A name for each column; one that was made in several ways is several columns."""
    ways: dict[str, dict[str, str]] = {}
    for piece in pieces:
        own = ways.setdefault(piece.column, {})
        key = _key_of(piece.of_column)
        own.setdefault(key, f"{piece.column} ({len(own) + 1})" if own else piece.column)
    return {(column, key): name for column, own in ways.items() for key, name in own.items()}


def _once(entries: Iterable[Entry]) -> list[Entry]:
    """Rows that are the same records in several folders, as one that names all of them."""
    found: dict[str, Entry] = {}
    for entry in entries:
        values = {name: cell.value for name, cell in entry.cells.items()}
        key = _key_of(
            {"addresses": sorted(entry.addresses), "values": values, "label": entry.label}
        )
        before = found.get(key)
        found[key] = (
            replace(before, laboratory=f"{before.laboratory}, {entry.laboratory}")
            if before
            else entry
        )
    return list(found.values())


def _told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """Labels with the versions, or the device, in which rows of one label differ."""
    codes: dict[str, list[Values]] = {}
    for entry in entries:
        codes.setdefault(entry.label, []).append(entry.code)
    devices = {entry.device for entry in entries if not entry.control}
    found = []
    for entry in entries:
        names = dict.fromkeys(name for code in codes[entry.label] for name in code)
        differ = [
            name
            for name in names
            if len({_key_of({"": code.get(name)}) for code in codes[entry.label]}) > 1
        ]
        words = [f"{name} {values_text(entry.code.get(name, ()))}" for name in differ]
        words += [entry.device] if len(devices) > 1 and not entry.control else []
        found.append(
            replace(entry, label=f"{entry.label} [{', '.join(words)}]") if words else entry
        )
    return found


def _in_order(entries: Sequence[Entry], columns: Iterable[str]) -> list[Entry]:
    """Best first, by the first column that a row has; controls among them;
    rows of the same value by name.
    """
    places = list(columns)

    def key(entry: Entry) -> tuple[int, float, str, str]:
        place = next(number for number, name in enumerate(places) if name in entry.cells)
        return place, -entry.cells[places[place]].value, entry.label, entry.laboratory

    return sorted(entries, key=key)


def _marked(board: Board) -> Board:
    """The board with the best method of each column marked, and with who is above whom."""
    entries, notes = list(board.entries), list[str]()
    alone = len({entry.laboratory for entry in entries}) == 1
    names = [entry.label if alone else f"{entry.label} ({entry.laboratory})" for entry in entries]
    for column in board.columns:
        cells = {
            name: entry.cells[column]
            for name, entry in zip(names, entries, strict=True)
            if column in entry.cells
        }
        rows = [replace(cell.row, label=name) for name, cell in cells.items() if cell.row]
        found = pairs(rows)
        marked = standing(rows, found)
        notes += closing(column, found)
        for number, (name, entry) in enumerate(zip(names, entries, strict=True)):
            if name in marked:
                cell = replace(
                    cells[name], figures={**cells[name].figures, "value_mark": marked[name]}
                )
                entries[number] = replace(entry, cells={**entry.cells, column: cell})
    return replace(board, entries=entries, notes=notes)


def _nearest(
    board: Board, boards: Sequence[Board]
) -> tuple[int, Mapping[str, tuple[Any, Any]]] | None:
    """The board with the fewest other conditions, and what they are here and there;
    the first of several.
    """
    others = [
        (other.number, differing(board.conditions, other.conditions))
        for other in boards
        if other is not board
    ]
    return min(others, key=lambda found: (len(found[1]), _other_clips(found[1])), default=None)


def _other_clips(differ: Mapping[str, tuple[Any, Any]]) -> bool:
    """The clips differ too: of two boards, one of the same clips is nearer."""
    return DATA in differ and not same_clips(*differ[DATA])


# --- accuracy ---


def _accuracies(lab: Laboratory) -> Iterator[_Piece]:
    """Every accuracy of a folder: runs' own probes, then protocols."""
    for table in folder_tables(lab.records):
        for runs in _of_one_code(table):
            conditions = _conditions_of_runs(runs)
            for column in probe_columns(runs):
                yield from _pieces(lab, runs, conditions, column, {}, column.name)
            evaluated = newest(evaluations_on(runs, lab.evaluations.of(runs)))
            for column in protocol_columns(runs, lab.evaluations):
                name = column.name.removeprefix(PROTOCOL)
                of_column = _conditions_of_protocol(
                    [one for one in evaluated if column_of(one) == name]
                )
                yield from _pieces(lab, runs, conditions, column, of_column, name)


def _of_one_code(table: FolderTable) -> list[list[RunRecord]]:
    """The runs of a table by what may not differ in a board and is no setting,
    each with all controls.
    """
    controls = [run for run in table.runs if is_control(run)]
    trained = [run for run in table.runs if not is_control(run)]
    known: dict[str, str] = {}
    for run in trained:
        known = {**run.method.versions, **known}
    groups: dict[str, list[RunRecord]] = {}
    for run in trained:
        groups.setdefault(_key_of({**_common_code(run, known), **_steps_by(run)}), []).append(run)
    return [[*runs, *controls] for runs in groups.values()]


def _common_code(run: RunRecord, known: Mapping[str, str]) -> Facts:
    """Versions of what all methods share; an own encoder stands on what the others `known` stand
    on.
    """
    versions = run.method.versions
    return {
        f"code.{name}": versions.get(name, known.get(name))
        for name in _LOOP_CODE
        if versions and name in known
    }


def _steps_by(run: RunRecord) -> Facts:
    """The machine, where it is what turns the budget into steps."""
    return _machine_facts(run) if parse_budget(run.spec.train.budget).unit == "s" else {}


def _machine_facts(record: RunRecord | SpeedRecord) -> Facts:
    """What makes two machines the same."""
    found = machine(record.environment)
    return {
        f"{MACHINE}{name}": value
        for name, value in found.items()
        if value and name not in _NO_PART_OF_A_MACHINE
    }


def _conditions_of_runs(runs: Sequence[RunRecord]) -> Facts:
    """What accuracies of runs that were held equal depend on, the method,
    its seed and their own code left out.
    """
    first = runs[0]
    known = {
        name: version for run in reversed(runs) for name, version in run.method.versions.items()
    }
    asked = {name: value for name, value in settings(first).items() if name != "device"}
    return {
        "data": first.data.fingerprint,
        **asked,
        **_common_code(first, known),
        **_steps_by(first),
    }


def _conditions_of_protocol(records: Sequence[EvaluationRecord]) -> Facts:
    """Options and code of a column; of one that was made in several ways all of them."""
    found = gathered(
        {**protocol_options(one), **{f"code.{key}": value for key, value in one.versions.items()}}
        for one in records
        if not one.control
    )
    return {name: values[0] if len(values) == 1 else list(values) for name, values in found.items()}


def _pieces(
    lab: Laboratory,
    runs: Sequence[RunRecord],
    conditions: Facts,
    column: Column,
    of_column: Facts,
    name: str,
) -> Iterator[_Piece]:
    for row in column.rows:
        trained, label = (
            not row.control,
            row.label.removesuffix(" (untrained)"),
        )  # of an encoder of the open division
        own = [run for run in runs if run.label == label]
        code = gathered(_own_versions(run) for run in own) if trained else {}
        yield _Piece(
            "accuracy",
            runs[0].data.name,
            conditions,
            name,
            of_column,
            Entry(
                row.label,
                lab.name,
                code,
                own[0].environment.device_class if trained else "",
                row.control,
                trained and own[0].method.division == "open",
                tuple(run.address for run in own if run.spec.seed in row.by_seed),
                max(run.finished for run in own),
            ),
            Cell(accuracy_figures("value", list(row.by_seed.values()), column.clips), row),
        )


def _own_versions(run: RunRecord) -> Facts:
    """Versions of a method's own code."""
    return {
        name: version for name, version in run.method.versions.items() if name not in _LOOP_CODE
    }


# --- speed ---


def _speeds(lab: Laboratory) -> Iterator[_Piece]:
    """Every speedup of a folder; of a row that was measured twice under the same conditions the
    last.
    """
    beside = {
        table.speed.address: table.runs for table in folder_tables(lab.records) if table.speed
    }
    for record in sorted(lab.records.speeds, key=lambda one: (one.finished, one.address)):
        if record.stages:
            continue
        conditions, runs = _conditions_of_speed(record), beside.get(record.address, [])
        for arm in record.arms:
            if not comparable(arm, record):
                continue
            figures = {
                **speed_figures(arm, record),
                "judgement": judgement(arm.label, runs, record),
                "value": arm.ratio.value,
                "value_low": arm.ratio.low,
                "value_high": arm.ratio.high,
            }
            entry = Entry(
                arm.label,
                lab.name,
                _own_code(arm.label, record),
                "",
                arm.control,
                False,
                (record.address,),
                record.finished,
            )
            yield _Piece("speed", record.data.name, conditions, SPEEDUP, {}, entry, Cell(figures))


def _own_code(label: str, record: SpeedRecord) -> Values:
    """Version of the method's own module, where the measurement kept it."""
    module = label.partition(":")[0].replace("-", "_")
    versions = record.spec.get("versions", {})
    return {module: [versions[module]]} if module in versions else {}


def _conditions_of_speed(record: SpeedRecord) -> Facts:
    """What speedups depend on beside the method."""
    asked = settings(record)
    left_out = ("train.budget", "speed.seconds", "speed.processes")
    versions = record.spec.get("versions", {})
    return {
        "data": record.data.fingerprint,
        **{name: value for name, value in asked.items() if name not in left_out},
        "rules": record.rules or None,
        **{f"code.{name}": versions[name] for name in _TIMING_CODE if name in versions},
        **_machine_facts(record),
    }
