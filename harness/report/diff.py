"""Two runs, folders or records held against each other: what they were made under, and what came
out.

    difference = diff(side_of(Path("runs")), side_of(Path("benchmarks/results/synthetic-quick")))

Rows go together by method and, where a side holds runs of several settings, by the settings in
which that side's own runs differ. A difference of accuracies is formed over the seeds that both
have, on the same test clips. Speedups hold inside one measurement: both are shown, and nothing is
formed of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets.wording import counted, listed
from harness.errors import UsageError
from harness.records.differences import Difference, these_people
from harness.records.doubts import doubts_of
from harness.records.evaluations import (
    EVALUATIONS,
    EvaluationRecord,
    Evaluations,
    column_of,
    read_evaluation,
)
from harness.records.ratios import inside_floor, mostly_disturbed
from harness.records.schema import RAW_FLOOR, ArmRecord, RunRecord, SpeedRecord
from harness.records.store import (
    RECORD_FILE,
    SPEED_FILE,
    Records,
    RecordStore,
    Refusal,
    Refused,
    read_records,
    refusal_lines,
)
from harness.report.apart import points
from harness.report.conditions import (
    Facts,
    apart,
    code,
    data,
    gathered,
    machine,
    method_options,
    protocol_options,
    settings,
    values_text,
)
from harness.report.folder import folder_tables
from harness.report.frame import accuracy_figures, comparable, is_control, judgement
from harness.studies.compare import PROBES, PROTOCOL, newest, rows_of, rows_of_evaluations

_Key = tuple[str, str, str]
"""A row of results: its label, the settings that tell it from others of its side,
and what was measured.
"""


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        evaluations: of its runs as they are now.
        refused: what cannot be used.
    """

    name: str
    runs: Sequence[RunRecord] = ()
    speeds: Sequence[SpeedRecord] = ()
    evaluations: Sequence[EvaluationRecord] = ()
    refused: Sequence[Refusal] = ()

    @property
    def records(self) -> list[RunRecord | SpeedRecord]:
        """Runs and measurements."""
        return [*self.runs, *self.speeds]


@dataclass(frozen=True)
class Figure:
    """What came out of one row on one side.

    Attributes:
        of: what the interval is over: ``seeds``, ``clips`` or ``rounds``; empty where there is
            none.
        by_seed: the accuracies that it is the mean of.
        data: what they were tested on.
        noise: a ratio inside the noise floor, which is not printed as a speedup.
        mark: what a speedup is not to be trusted for: doubts, or other processes.
    """

    value: float
    low: float | None = None
    high: float | None = None
    of: str = ""
    by_seed: Mapping[int, float] = field(default_factory=dict)
    data: str = ""
    noise: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Result:
    """One row: both sides, and what lies between them where that may be said.

    Attributes:
        difference: of accuracies, B minus A, as shares.
        why: why there is none, or no interval.
    """

    row: str
    measure: str
    a: Figure | None
    b: Figure | None
    difference: Difference | None = None
    why: str = ""


@dataclass(frozen=True)
class Diff:
    """All that tells two sides apart.

    Attributes:
        sections: of each, how many names both have alike, and the values of both by the names that
            differ.
    """

    a: Side
    b: Side
    sections: Mapping[str, tuple[int, Mapping[str, tuple[Sequence[Any], Sequence[Any]]]]]
    results: Sequence[Result]


# --- what is compared ---


def side_of(path: Path) -> Side:
    """The records at a path: a folder of `run` or a shelf, one run's folder in it, or one record's
    file.

    Raises:
        UsageError: nothing there can be used.
    """
    if path.is_file() and path.suffix == ".json":
        side = _of_file(path)
    elif any((path / name).is_file() for name in (RECORD_FILE, SPEED_FILE)):
        store = RecordStore(path.parent)
        found = [record for record in (store.run(path.name), store.speed(path.name)) if record]
        runs = [record for record in found if isinstance(record, RunRecord)]
        speeds = [record for record in found if isinstance(record, SpeedRecord)]
        side = _with_evaluations(
            path, path.parent, Records(runs, speeds, list(store.refused.values()))
        )
    elif not path.exists() and path.parent.is_dir():
        all_of_it = read_records(path.parent)
        runs = [record for record in all_of_it.runs if record.address == path.name]
        speeds = [record for record in all_of_it.speeds if record.address == path.name]
        side = _with_evaluations(path, path.parent, Records(runs, speeds, []))
    else:
        folder = path.parent if path.is_file() else path  # a shelf's own file
        side = _with_evaluations(path, folder, read_records(folder))
    if not side.records and not side.evaluations:
        refused = refusal_lines(path, side.refused)
        found_text = (
            refused[0] if refused else "none" if path.exists() else "no such folder or record"
        )
        raise UsageError(
            f"{path}: expected a folder of records, or one of them, found {found_text}; see `ls"
            " runs --out FOLDER`"
        )
    return side


def _of_file(path: Path) -> Side:
    """The record of a JSON file."""
    if path.name in (RECORD_FILE, SPEED_FILE):
        side = side_of(path.parent)
        if path.name == RECORD_FILE:
            return replace(side, name=str(path), speeds=())
        return replace(side, name=str(path), runs=(), evaluations=())
    if path.parent.name != EVALUATIONS:
        raise UsageError(
            f"{path}: expected {RECORD_FILE}, {SPEED_FILE} or a file of {EVALUATIONS}/, found"
            " another; name a record"
        )
    try:
        record = read_evaluation(path)
    except Refused as problem:
        raise UsageError(f"{path}: {problem.reason}") from None
    run = RecordStore(path.parents[2]).run(record.run)
    return Side(str(path), [run] if run else [], (), [record])


def _with_evaluations(path: Path, folder: Path, records: Records) -> Side:
    """Records with what protocols found out,
    under the labels that the folder's tables give their runs.
    """
    runs = list(
        {run.address: run for table in folder_tables(records) for run in table.runs}.values()
    )
    labels = {run.address: run.label for run in runs}
    evaluations = Evaluations(folder)
    found = [
        one.model_copy(update={"label": labels[one.run]}) for one in newest(evaluations.of(runs))
    ]
    return Side(
        str(path), runs, records.speeds, found, [*records.refused, *evaluations.refused.values()]
    )


# --- the difference ---


def diff(a: Side, b: Side) -> Diff:
    """Everything in which two sides differ."""
    shared = {run.spec.method.name for run in a.runs} & {run.spec.method.name for run in b.runs}
    sections = {}
    kinds: dict[str, Callable[[Side], Iterator[Facts]]] = {
        "settings": _settings,
        "methods' options": lambda side: (
            method_options(run) for run in side.runs if run.spec.method.name in shared
        ),
        "code": lambda side: map(code, [*side.records, *side.evaluations]),
        "data": lambda side: map(data, side.records),
        "machine": lambda side: (
            machine(one.environment) for one in [*side.records, *side.evaluations]
        ),
    }
    for name, facts in kinds.items():
        one, other = gathered(facts(a)), gathered(facts(b))
        differs = apart(one, other)
        sections[name] = len({*one, *other}) - len(differs), differs
    names = {*_varying(a), *_varying(b)}
    # accuracies, then speed, of every row of either side; rows in the order of the first side
    ours, theirs = dict(_figures(a, names)), dict(_figures(b, names))
    results = [
        _result(key, ours.get(key), theirs.get(key)) for key in dict.fromkeys([*ours, *theirs])
    ]
    return Diff(a, b, sections, results)


def _settings(side: Side) -> Iterator[Facts]:
    """Of methods' runs and measurements; of controls, whose training is nobody's,
    where there is nothing else.
    """
    trained = [
        record
        for record in side.records
        if not (isinstance(record, RunRecord) and is_control(record))
    ]
    yield from map(settings, trained or side.records)
    yield from map(protocol_options, side.evaluations)


# --- results ---


def _varying(side: Side) -> list[str]:
    """Settings in which runs of one side differ, or its measurements."""
    trained = [record for record in side.runs if not is_control(record)]
    groups: list[Iterable[Facts]] = [map(_told_by, trained), map(_told_by, side.speeds)]
    return [name for group in groups for name, values in gathered(group).items() if len(values) > 1]


def _told_by(record: RunRecord | SpeedRecord) -> Facts:
    """What tells runs of a method apart; data by what it holds."""
    return {"data": record.data.fingerprint, **settings(record)}


def _figures(side: Side, names: Iterable[str]) -> Iterator[tuple[_Key, Figure]]:
    """Of every row, by what it is and what was measured."""
    groups: dict[str, list[RunRecord]] = {}
    for run in side.runs:
        groups.setdefault(_setting(run, names), []).append(run)
    for setting, runs in groups.items():
        for name, figure in _accuracies(runs, side.evaluations):
            yield (name[0], setting, name[1]), figure
    for speed in sorted(side.speeds, key=lambda speed: speed.finished):
        setting = _setting(speed, names)
        for arm in speed.arms:
            if comparable(arm, speed) and arm.label != speed.baseline:
                yield (
                    (arm.label, setting, f"speedup over {speed.baseline}"),
                    _speedup(arm, speed, side.runs),
                )
        for arm in speed.arms:
            yield (arm.label, setting, "clips/s"), Figure(arm.clips_per_second)


def _setting(record: RunRecord | SpeedRecord, names: Iterable[str]) -> str:
    """``train.budget 30s``: the settings that count for a record, in words;
    a control has not those of training.
    """
    told = _told_by(record)
    parts: tuple[str, ...] = ("",)
    if isinstance(record, RunRecord) and is_control(record):
        parts = ("data",) if record.label == RAW_FLOOR else ("data", "encoder.", "device")
    kept = [name for name in sorted(names) if name in told and name.startswith(parts)]
    return ", ".join(f"{name} {values_text([told[name]])}" for name in kept)


def _accuracies(
    runs: Sequence[RunRecord], evaluations: Sequence[EvaluationRecord]
) -> Iterator[tuple[tuple[str, str], Figure]]:
    """By row and measure: runs' own probes, then protocols."""
    done = [run for run in runs if run.status == "ok" and run.accuracy]
    for measure, value in PROBES.items():
        for row in rows_of(done, value):
            yield (
                (row.label, measure),
                _accuracy(row.by_seed, done[0].data.test_clips, _tested_on(done[0])),
            )
    addresses = {run.address for run in runs}
    ours = [one for one in evaluations if one.run in addresses and one.status == "ok"]
    for column in dict.fromkeys(map(column_of, ours)):
        of_column = [one for one in ours if column_of(one) == column]
        for row in rows_of_evaluations(of_column):
            clips = len(of_column[0].predictions)
            yield (
                (row.label, f"{PROTOCOL}{column}"),
                _accuracy(row.by_seed, clips, _tested_on(runs[0])),
            )


def _tested_on(run: RunRecord) -> str:
    """Which test clips: earlier fingerprints are of the data alone."""
    return f"{run.data.fingerprint} {run.spec.data.split}"


def _accuracy(by_seed: Mapping[int, float], clips: int, tested: str) -> Figure:
    found = accuracy_figures("", list(by_seed.values()), clips)
    of = "seeds" if len(by_seed) > 1 else "clips" * bool(clips)
    return Figure(found[""], found["_low"], found["_high"], of, by_seed, tested)


def _speedup(arm: ArmRecord, speed: SpeedRecord, runs: Sequence[RunRecord]) -> Figure:
    ratio = arm.ratio
    judged = "disturbed" if mostly_disturbed(speed) else ""
    if doubts_of(arm.label, runs, speed) or doubts_of(speed.baseline, runs, speed):
        judged = judgement(arm.label, runs, speed) or ""
    noise, mark = inside_floor(ratio, speed.floor), f" ({judged})" if judged else ""
    return Figure(ratio.value, ratio.low, ratio.high, "rounds", noise=noise, mark=mark)


def _result(key: _Key, a: Figure | None, b: Figure | None) -> Result:
    label, setting, measure = key
    row = f"{label} ({setting})" if setting else label
    if a is None or b is None:
        return Result(row, measure, a, b, why=f"only in {'B' if a is None else 'A'}")
    if not a.by_seed:
        return Result(row, measure, a, b, why="measured apart")
    if a.data != b.data:
        return Result(row, measure, a, b, why="another data fingerprint")
    seeds = sorted(a.by_seed.keys() & b.by_seed.keys())
    if not seeds:
        return Result(row, measure, a, b, why="no seed in common")
    found = these_people([b.by_seed[seed] for seed in seeds], [a.by_seed[seed] for seed in seeds])
    return Result(row, measure, a, b, found, found.why)


# --- in words ---


def side_line(side: Side) -> str:
    """What a side holds, in a line."""
    rows = listed(dict.fromkeys(run.label for run in side.runs))
    counts = [
        (len(side.runs), "run"),
        (len(side.speeds), "speed measurement"),
        (len(side.evaluations), "evaluation"),
    ]
    times = sorted(record.finished for record in [*side.records, *side.evaluations])
    when = f"{times[0]:%Y-%m-%d}" + (
        f" to {times[-1]:%Y-%m-%d}" if times[0].date() != times[-1].date() else ""
    )
    words = ", ".join(counted(number, noun) for number, noun in counts if number)
    return f"{side.name}: {words}{f' ({rows})' if side.runs else ''}, {when}"


def section_line(alike: int, found: Mapping[str, tuple[Sequence[Any], Sequence[Any]]]) -> str:
    """How many names differ, of those that both sides have, and how many one has not recorded."""
    differ = sum(bool(one and other) for one, other in found.values())
    both = alike + differ
    words = [f"{differ} of {both} differ" if differ else f"all {both} alike"]
    missing = {"A": [one for one, _ in found.values()], "B": [other for _, other in found.values()]}
    lacking = {side: sum(not values for values in each) for side, each in missing.items()}
    lines = [f"{number} not recorded in {side}" for side, number in lacking.items() if number]
    return ", ".join([*(words if both or not lines else []), *lines])


def section_rows(
    found: Mapping[str, tuple[Sequence[Any], Sequence[Any]]],
) -> list[tuple[str, str, str]]:
    """Name, values of A, values of B."""
    return [(name, values_text(one), values_text(other)) for name, (one, other) in found.items()]


def result_rows(found: Sequence[Result]) -> list[tuple[str, ...]]:
    """Row, measure, A, B, and the difference of accuracies in points."""
    return [
        (one.row, one.measure, _cell(one, one.a), _cell(one, one.b), _difference_cell(one))
        for one in found
    ]


def _cell(result: Result, figure: Figure | None) -> str:
    if figure is None:
        return "-"
    if not figure.of:
        return f"{100 * figure.value:.1f}" if figure.by_seed else f"{figure.value:.4g}"
    if figure.noise:
        return "within noise"
    low, high = figure.low, figure.high
    assert low is not None
    assert high is not None
    if figure.of == "rounds":
        return f"{figure.value:.2f}x [{low:.2f}, {high:.2f}]{figure.mark}"
    clips = " clips" if figure.of == "clips" else ""
    return f"{100 * figure.value:.1f} [{100 * low:.1f}, {100 * high:.1f}{clips}]"


def _difference_cell(result: Result) -> str:
    if result.difference is None:
        return result.why if result.why != "measured apart" else "-"
    text = points(result.difference.interval)
    return f"{text} ({result.why})" if result.why else text


def result_lines(found: Sequence[Result]) -> list[str]:
    """What the cells are."""
    kinds = {figure.of for one in found for figure in (one.a, one.b) if figure}
    lines = []
    if kinds & {"seeds", "clips"}:
        lines.append(
            "accuracies in %: mean [95 % t interval over seeds], of one seed [binomial over clips];"
            " B - A in points over the seeds that both have"
        )
    if "rounds" in kinds:
        lines.append("speedups [95 %] each inside its own measurement: nothing is formed of two")
    return lines


def diff_json(found: Diff) -> dict[str, Any]:
    """As values for a program."""
    return {
        **{side: _plain_side(one) for side, one in (("a", found.a), ("b", found.b))},
        **{
            name.replace("' ", "_"): {
                "alike": alike,
                "differ": {key: {"a": list(a), "b": list(b)} for key, (a, b) in differs.items()},
            }
            for name, (alike, differs) in found.sections.items()
        },
        "results": [_plain_result(one) for one in found.results],
    }


def _plain_side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "runs": [run.address for run in side.runs],
        "speeds": [speed.address for speed in side.speeds],
        "evaluations": [f"{one.run}/{one.address}" for one in side.evaluations],
        "left_out": [str(refusal) for refusal in side.refused],
    }


def _plain_result(one: Result) -> dict[str, Any]:
    figures = {
        name: figure and _plain_figure(figure) for name, figure in (("a", one.a), ("b", one.b))
    }
    return {
        "row": one.row,
        "measure": one.measure,
        **figures,
        "difference": _plain_difference(one),
        "why": one.why,
    }


def _plain_figure(figure: Figure) -> dict[str, Any]:
    """JSON knows no infinity."""
    return {name: None if value == math.inf else value for name, value in asdict(figure).items()}


def _plain_difference(one: Result) -> dict[str, Any] | None:
    if one.difference is None:
        return None
    interval = one.difference.interval
    bounds = (interval.low, interval.high) if math.isfinite(interval.low) else (None, None)
    return {
        "value": interval.mean,
        "low": bounds[0],
        "high": bounds[1],
        "seeds": one.difference.seeds,
        "p": one.difference.p,
    }
