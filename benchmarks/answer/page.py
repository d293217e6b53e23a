"""The answer: what the study of `plan.yaml` says so far, as one page in plain words.

    python benchmarks/answer/page.py      # writes README.md and its pictures beside this file

After `run --config plan.yaml`, `evaluate FOLDER --config plan.yaml --part PART`, and `shelve` of
each folder.

The study's records lie in `benchmarks/results/answer-NAME` (`harness shelve`), one folder for each
`out` of the plan, or for a part that was run apart, with its runs made again. Every number,
judgement and sentence on the page is one that a command of the suite gives too; here they stand in
order, with what the plan wanted and what is not there yet. Records that do not name the plan by
its hash are left out, and named.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from benchmarks.answer.arrivals import Arrivals, arrivals_of
from benchmarks.answer.longer import Longer, longer, question, read_longer
from datasets.wording import counted, printable
from harness.cli.config import read_config
from harness.records.differences import Pair
from harness.records.evaluations import SCRATCH, column_of
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, RunRecord, Status
from harness.records.store import write_atomically
from harness.report import charts
from harness.report.apart import NEW, THESE, closing, listed
from harness.report.cells import EMPTY, blocks, figures
from harness.report.compare import Comparison
from harness.report.evaluations import cells_frame, evaluation_table
from harness.report.frame import points_frame
from harness.report.html.study import Setting, Study, read_study
from harness.report.html.vector import alone
from harness.report.latex import data_name
from harness.report.power import power_lines, power_table
from harness.report.ranking import ranking_frame, ranking_table
from harness.report.table import grid
from harness.report.target import ladder_frame, ladder_table, target_table
from harness.report.trends import PUBLISHED, trend_frame, trend_table
from harness.report.tuning import tuning_notes, tuning_table
from harness.runs.protocols import Protocols
from harness.spec.model import parse_methods, parse_seeds
from harness.studies.compare import PROTOCOL
from harness.studies.target import arm_times
from harness.studies.tuning import tuned_methods

HERE = Path(__file__).resolve().parent
PLAN, RESULTS, PAGE = HERE / "plan.yaml", HERE.parent / "results", "README.md"
SHELF = "answer-"
"""What the names of the study's shelves begin with."""
FIRST = (f"{PROTOCOL}linear", "linear")
"""Columns that sentences at the top are of, the first that is there."""
SPEEDS = ("method", "speedup [95 %]", "trains faster", "by FLOPs")
"""Columns of a table of runs that stand above the protocols'."""
Cell = tuple[str, int]
"""Label and seed of a run."""
CONTROLS = {RAW_FLOOR: "raw coordinates", RANDOM_INIT: "the untrained encoder"}


@dataclass(frozen=True)
class Folder:
    """The parts of the plan that share an output folder, and what there is of it.

    Attributes:
        name: of the folder; `parts`: flags of each part, by its name.
        study: its records that name the plan; None where the folder is not there.
    """

    name: str
    parts: Mapping[str, Mapping[str, Any]]
    study: Study | None

    @property
    def letter(self) -> str:
        """By which the plan counts its core-hours."""
        return self.name.partition("-")[0]

    @property
    def tuned(self) -> bool:
        """It holds draws of settings, which are no rows to compare."""
        return any("tuning" in flags for flags in self.parts.values())

    @property
    def runs(self) -> list[RunRecord]:
        """Of methods and controls."""
        return self.study.records.runs if self.study else []

    @cached_property
    def settings(self) -> list[Setting]:
        """Those with rows of methods."""
        return [one for one in (self.study.settings if self.study else []) if one.labels]


@dataclass(frozen=True)
class Answer:
    """A plan and its folders; `longer`: the study that goes on from it (`longer.py`); `drawn`: the
    pictures of the page, by the names of their files.
    """

    plan: Mapping[str, Any]
    study: str
    folders: Sequence[Folder]
    longer: Longer | None = None
    drawn: dict[str, bytes] = field(default_factory=dict)

    @property
    def settings(self) -> list[Setting]:
        """Of all folders but those of tuning."""
        return [one for folder in self.folders if not folder.tuned for one in folder.settings]

    def title(self, setting: Setting) -> str:
        """What it is of; where several folders have the same, the folder's name too."""
        name = title(setting)
        if sum(title(one) == name for one in self.settings) == 1:
            return name
        folder = next(one for one in self.folders if any(own is setting for own in one.settings))
        return f"{name} ({folder.name})"

    @cached_property
    def arrivals(self) -> dict[str, tuple[list[Arrivals], list[str]]]:
        """`arrivals_of` each setting, by its anchor."""
        return {one.anchor: arrivals_of(one) for one in self.settings}

    @cached_property
    def missing(self) -> list[dict[str, str]]:
        """A line a part and what it asks for."""
        asked: dict[str, set[Cell]] = defaultdict(set)
        return [line for folder in self.folders for line in missing_of(folder, asked)]


def read_answer(plan: Path = PLAN, results: Path = RESULTS, shelf: str = SHELF) -> Answer:
    """The plan with what there is of it in ``results/SHELF*``."""
    content, study = read_config(plan)
    common = {name: value for name, value in content.items() if name not in ("study", "parts")}
    parts: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, flags in content["parts"].items():
        own = (results / f"{shelf}{name}").is_dir()
        folder = name if own else Path(flags["out"]).name
        parts.setdefault(folder, {})[name] = {**common, **flags}
    for path in sorted(results.glob(f"{shelf}*/")):  # speeds that were measured apart, say
        parts.setdefault(path.name.removeprefix(shelf), {})
    folders = []
    for place, (name, asked) in enumerate(parts.items()):
        path = results / f"{shelf}{name}"
        found = read_study(path, place, alone=True, study=study) if path.is_dir() else None
        folders.append(Folder(name, asked, found))
    return Answer(content, study, folders, read_longer(results))


# --- the page ---


def page(answer: Answer) -> str:
    """All of it as Markdown; its pictures in ``answer.drawn``."""
    sections = [
        ("The answer", [*top(answer)]),
        *((answer.title(one), [*of_setting(one, answer)]) for one in answer.settings),
        ("What it takes to beat raw coordinates", [*of_longer(answer.longer)]),
        ("Published trends", [*trends(answer)]),
        ("The price of tuning", [*tuning(answer)]),
        ("What is there, and what it cost", [*state(answer)]),
    ]
    texts = [
        f"{'##' if number else '#'} {name}\n\n" + "\n".join(lines)
        for number, (name, lines) in enumerate(sections)
        if lines
    ]
    return "\n".join(texts).rstrip() + "\n"


def top(answer: Answer) -> Iterator[str]:
    """The sentence, the table and the picture: what stands in other pages too."""
    yield question(answer.plan) + "\n"
    if not answer.settings:
        yield "Nothing is measured yet: this page is made again as records come.\n"
        yield from paragraphs(progress(answer))
        return
    for setting in answer.settings:
        yield f"- **{answer.title(setting)}**: {printable(sentence(setting))}"
    yield f"- **To another's accuracy**: {printable(to_accuracies(answer))}"
    yield ""
    if not any(map(first, answer.settings)):
        yield from paragraphs(progress(answer))
        return
    yield table(first_columns(answer))
    yield "Accuracy in % of test clips by the linear probe, [95 %] over seeds; best: the highest"
    yield "mean of a method, ~best: not told apart from it. Raw coordinates take no training.\n"
    for setting in [one for one in answer.settings if first(one)][:1]:
        yield from picture(answer, setting, "trade", partial(draw_trade, setting))
    yield from paragraphs(progress(answer))


def title(setting: Setting) -> str:
    """``utdmhad, 300s``; of a measurement alone ``utdmhad, speed alone``."""
    table = setting.table
    if table.runs:
        spec = table.runs[0].spec
        return f"{data_name(table.of_set or spec.data.name)}, {spec.train.budget}"
    assert table.speed is not None
    return f"{data_name(table.speed.data.name)}, speed alone"


def held_equal(setting: Setting) -> str:
    """What its title leaves out."""
    table = setting.table
    if table.runs:
        run, where = table.runs[0], [run.environment for run in table.runs]
        found = run.data.split or run.spec.data.split, run.spec.encoder.size
    else:
        assert table.speed is not None
        spec, where = table.speed.spec, [table.speed.environment]
        found = spec["data"]["split"], spec["encoder"]["size"]
    split, size = found
    machines = dict.fromkeys(f"{one.processor}, {counted(one.threads, 'thread')}" for one in where)
    return f"Split {split}, encoder {size}; {listed(list(machines))}."


def sentence(setting: Setting) -> str:
    """Who represents better, who is above the controls, and who trains faster per clip."""
    found = dict(setting.better)
    name = next((one for one in FIRST if one in found), None)
    said = [found[name].headline, *over_controls(setting)] if name else []
    if not setting.table.of_set:  # trained together with the other sets, whose speed is one
        said.append(f"Per clip: {setting.faster.headline}")
    return " ".join(said)


def over_controls(setting: Setting) -> Iterator[str]:
    """Which methods are above each control, and by how many protocols."""
    found: dict[str, list[list[str]]] = defaultdict(list)
    for comparison in protocols(setting):
        for control, words in controls(comparison, setting).items():
            found[words].append(sides(comparison.these, control)["above"])
    for words, columns in found.items():
        of = counted(len(columns), "protocol")
        above = Counter(label for column in columns for label in column).most_common()
        texts = [f"{label} by {count}" for label, count in above]
        yield f"Above {words}: {f'{listed(texts)} of {of}' if texts else f'nobody by any of {of}'}."


def to_accuracies(answer: Answer) -> str:
    """Whether any row gets to another's accuracy so many times as fast."""
    factors = [
        f"{answer.title(setting)}: {text}"
        for setting in answer.settings
        for one in answer.arrivals[setting.anchor][0]
        for text in one.factors
    ]
    return "; ".join(factors) or (
        "on no set can it be said how many times as fast a method gets there (why: below)."
    )


def first_columns(answer: Answer) -> pd.DataFrame:
    """A row per label, a column per setting: accuracy by the linear probe."""
    columns: dict[str, dict[str, str]] = {}
    for setting in answer.settings:
        if comparison := first(setting):
            shown = comparison.row_table()
            columns[answer.title(setting)] = dict(zip(shown["row"], shown.iloc[:, 2], strict=True))
    labels = list(dict.fromkeys(label for column in columns.values() for label in column))
    labels.sort(key=lambda label: label in CONTROLS)
    rows = [[label, *(column.get(label, EMPTY) for column in columns.values())] for label in labels]
    return pd.DataFrame(rows, columns=["row", *columns], dtype=object)


def first(setting: Setting) -> Comparison | None:
    """The column that the sentences at the top are of."""
    found = {one.column.name: one for one in setting.columns}
    return next((found[name] for name in FIRST if name in found), None)


# --- one set ---


def of_setting(setting: Setting, answer: Answer) -> Iterator[str]:
    """Accuracies by every protocol, who is above whom, power, time to accuracies, exchange."""
    yield f"{held_equal(setting)}\n"
    yield from accuracies(setting)
    if runs := [run for run in setting.table.runs if run.curve and run.status == "ok"]:
        yield "### How fast to an accuracy\n"
        yield from times(setting, answer)
        yield "### Equal clips, seconds, FLOPs\n"
        yield table(ranking_table(ranking_frame(runs)))
    yield from power(setting, answer)


def of_longer(found: Longer | None) -> Iterator[str]:
    """Along the runs, then the last encoders by every protocol."""
    if found:
        yield from longer(found)
        for setting in found.study.settings:
            yield from accuracies(setting)


def accuracies(setting: Setting) -> Iterator[str]:
    """Of the last encoders by every protocol, and who is above whom."""
    shown = [setting.table.table]
    if setting.evaluations:
        shown = blocks(evaluation_table(cells_frame(setting.evaluations)))
        if setting.table.speed:
            shown.insert(0, setting.table.table.loc[:, lambda cells: cells.columns.isin(SPEEDS)])
    for one in shown:
        yield table(one)
    yield from paragraphs([line for one in protocols(setting) for line in judged(one, setting)])


def protocols(setting: Setting) -> list[Comparison]:
    """Columns of protocols; the run's own probes where none was evaluated."""
    found = [one for one in setting.columns if one.column.name.startswith(PROTOCOL)]
    return found or setting.columns


def judged(comparison: Comparison, setting: Setting) -> Iterator[str]:
    """What methods are to the controls, and who is above whom, for both questions."""
    name = comparison.column.name
    for control, words in controls(comparison, setting).items():
        yield f"{name}: {beside(comparison.these, control, words)}"
    yield from closing(name, comparison.these, THESE)
    yield from closing(name, comparison.new, NEW)


def controls(comparison: Comparison, setting: Setting) -> dict[str, str]:
    """Rows of a column that are controls, in words: an untrained encoder that a protocol trains is
    training from scratch.
    """
    name, labels = comparison.column.name, {row.label for row in comparison.column.rows}
    scratch = {
        f"{PROTOCOL}{column_of(one)}" for one in setting.evaluations if one.control == SCRATCH
    }
    words = {**CONTROLS, **({RANDOM_INIT: "training from scratch"} if name in scratch else {})}
    return {label: text for label, text in words.items() if label in labels}


def sides(found: Sequence[Pair], control: str) -> dict[str, list[str]]:
    """Methods by where they stand to a control."""
    stand: dict[str, list[str]] = {"above": [], "below": [], "not told apart": [], "not tested": []}
    for pair in found:
        if control in (pair.above, pair.below) and not {pair.above, pair.below} <= set(CONTROLS):
            other = pair.below if pair.above == control else pair.above
            side = "above" if pair.above == other else "below"
            level = "not tested" if pair.holm is None else "not told apart"
            stand[side if pair.apart else level].append(other)
    return stand


def beside(found: Sequence[Pair], control: str, words: str) -> str:
    """``above raw coordinates: nobody; below: amr; not told apart: gfp``."""
    stand = sides(found, control)
    above = listed(stand.pop("above")) if stand["above"] else "nobody"
    rest = "".join(f"; {side}: {listed(labels)}" for side, labels in stand.items() if labels)
    return f"above {words}: {above}{rest}"


def times(setting: Setting, answer: Answer) -> Iterator[str]:
    """Who gets to whose accuracy how fast; the first row's in full."""
    found, without = answer.arrivals[setting.anchor]
    for one in found[:1]:
        rungs = ladder_frame(one.runs, one.target, arm_times(one.speed))
        draw = partial(charts.ladder_chart, rungs, one.levels)
        yield from picture(answer, setting, "ladder", draw)
        yield table(target_table(one.frame, one.target))
        yield f"Seconds of {one.target.reference} over each row's, at other accuracies; where"
        yield "not all seeds of both rows got there, how many did:\n"
        yield table(ladder_table(rungs))
    yield from paragraphs([*(line for one in found for line in one.lines), *without])


def power(setting: Setting, answer: Answer) -> Iterator[str]:
    """What the plan's half-width would take."""
    wanted = answer.plan["study"].get("wanted_half_width_points")
    if wanted is None or not setting.columns:
        return
    yield f"### What ±{wanted:g} points take\n"
    if shown := first(setting):
        frame = replace(shown, wanted=wanted / 100).power
        methods = frame[~frame["above"].isin(CONTROLS) & ~frame["below"].isin(CONTROLS)]
        if len(methods):
            yield f"{shown.column.name}:\n"
            yield table(power_table(methods))
    lines = list[str]()
    for comparison in protocols(setting):
        first_line, *rest = power_lines(replace(comparison, wanted=wanted / 100).power)
        lines += [*([] if lines else [first_line]), *rest]
    yield from paragraphs(lines)


# --- all sets ---


def trends(answer: Answer) -> Iterator[str]:
    """Every published trend: shows, reversed, not resolved; or that no two rows speak of it."""
    frames = [trend_frame(folder.runs) for folder in answer.folders if not folder.tuned]
    frames = [frame for frame in frames if not frame.empty]
    if frames:
        frame = pd.concat(frames, ignore_index=True)
        yield table(trend_table(frame, wide=True))
        yield "Mean difference over seeds that both rows have, 95 % t interval. Each trend stands"
        yield "by itself, without the correction by which the sections above tell rows apart, and"
        yield "is of a run's own probe: the encoder that held-out subjects select, not the last.\n"
        left = [one.name for one in PUBLISHED if one.name not in set(frame["trend"])]
        if left:
            yield f"No two rows under one setting speak of: {'; '.join(left)}.\n"


def tuning(answer: Answer) -> Iterator[str]:
    """Published settings beside the best of k draws."""
    for folder in answer.folders:
        if found := tuned_methods(folder.runs):
            yield table(tuning_table(found))
            yield from paragraphs(tuning_notes(found))


def state(answer: Answer) -> Iterator[str]:
    """Hash, what is missing of each part, core-hours spent against planned."""
    yield from paragraphs([*progress(answer), *hashes(answer)])
    yield table(pd.DataFrame(answer.missing, dtype=object))
    planned = answer.plan["study"].get("core_hours", {})
    spent: dict[str, float] = defaultdict(float)
    for folder in answer.folders:
        for name, hours in core_hours(folder).items():
            spent[name] += hours
    if planned:
        spent["in_all"] = sum(spent.values())
        rows = [
            {"core-hours": name, "planned": f"{hours:.1f}", "spent": f"{spent[name]:.1f}"}
            for name, hours in planned.items()
        ]
        yield table(pd.DataFrame(rows, dtype=object))
        yield "Spent: wall time by threads, of cells that ran beside other work too; speed"
        yield "measurements are in all alone.\n"


def progress(answer: Answer) -> list[str]:
    """How much of the plan is done, in a line."""
    done, wanted = (sum(int(row[name]) for row in answer.missing) for name in ("done", "planned"))
    return [
        f"done: {done} of {wanted} runs and evaluations that the plan asks for"
        + ("" if done < wanted else "; the study is whole")
    ]


def hashes(answer: Answer) -> list[str]:
    """Whether every record names the plan."""
    lines = [f"plan: {answer.study}; every record on this page names it"]
    for folder in answer.folders:
        if others := folder.study.others if folder.study else []:
            some = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            many = counted(len(others), "record")
            lines.append(f"left out of {folder.name}: {many} of another plan or none ({some})")
    return lines


def missing_of(folder: Folder, asked: dict[str, set[Cell]]) -> Iterator[dict[str, str]]:
    """A line a part and what it asks for: runs that no part before ``asked`` for with the same
    `out`, then protocols.
    """
    registry = Protocols()
    trained = [run for run in folder.runs if run.training or run.status != "ok"]
    evaluations = folder.study.evaluations if folder.study else []
    for name, flags in folder.parts.items():
        labels = [str(one) for one in parse_methods(flags["methods"])]
        cells = {(label, seed) for label in labels for seed in parse_seeds(str(flags["seeds"]))}
        if new := cells - asked[flags["out"]]:
            draws = int(flags.get("tuning", 0))  # whose options stand in their rows' labels
            found = Counter(
                run.status
                for run in trained
                if (run.spec.method.name if draws else run.label, run.spec.seed) in new
            )
            yield line_of(name, "runs", len(new) * (1 + draws), found)
        asked[flags["out"]] |= cells
        for protocol in registry.parse(str(flags["protocols"])) if "protocols" in flags else ():
            ended = {
                (one.label, one.seed): one.status
                for one in evaluations
                if one.spec == protocol and not one.control and (one.label, one.seed) in cells
            }
            yield line_of(name, protocol, len(cells), Counter(ended.values()))


def line_of(part: str, what: str, planned: int, done: Counter[Status]) -> dict[str, str]:
    """One line of what is missing."""
    bad = ", ".join(f"{count} {status}" for status, count in done.items() if status != "ok")
    return {
        "part": part,
        "what": what,
        "planned": str(planned),
        "done": str(done["ok"]),
        "missing": str(planned - done.total()),
        "not well": bad or EMPTY,
    }


def core_hours(folder: Folder) -> dict[str, float]:
    """By the plan's names."""
    if folder.study is None:
        return {}
    found = {
        folder.letter: sum(run.wall_seconds * run.environment.threads for run in folder.runs),
        "evaluations": sum(
            (one.seconds + one.features_seconds) * one.environment.threads
            for one in folder.study.evaluations
        ),
        "speed": sum(
            (one.finished - one.started).total_seconds() * one.environment.threads
            for one in folder.study.records.speeds
        ),
    }
    return {name: seconds / 3600 for name, seconds in found.items()}


# --- Markdown ---


def table(frame: pd.DataFrame) -> str:
    """A table of strings."""
    return grid(frame) if len(frame) else ""


def paragraphs(lines: Sequence[str]) -> Iterator[str]:
    """A list."""
    yield from (f"- {printable(line)}" for line in lines)
    if lines:
        yield ""


def draw_trade(setting: Setting) -> charts.Chart:
    """Accuracy against seconds."""
    runs = [run for run in setting.table.runs if run.training and run.curve]
    known = setting.summary[setting.summary["kind"] == "control"].dropna(subset=["linear"])
    controls = {row["label"]: row["linear"] for row in figures(known)}
    return charts.trade_chart(points_frame(runs), controls=controls)


def picture(
    answer: Answer, setting: Setting, name: str, draw: Callable[[], charts.Chart]
) -> Iterator[str]:
    """A picture beside the page, where there is anything to draw."""
    if any(len(run.curve) > 1 for run in setting.table.runs):
        chart = draw()
        file = f"{re.sub('[^a-z0-9]+', '-', answer.title(setting).lower()).strip('-')}-{name}.svg"
        answer.drawn[file] = alone(chart)
        yield f"![{chart.title}, {answer.title(setting)}]({file})\n"


def write(answer: Answer, out: Path) -> None:
    """The page and its pictures; pictures of an earlier one go."""
    text = page(answer)
    for path in out.glob("*.svg"):
        path.unlink()
    for name, content in {PAGE: text.encode(), **answer.drawn}.items():
        write_atomically(out / name, content)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--plan", type=Path, default=PLAN, help="The study's file.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Where its folders lie.")
    parser.add_argument("--shelf", default=SHELF, help="What their names begin with.")
    parser.add_argument("--out", type=Path, default=HERE, help="Folder of the page.")
    asked = parser.parse_args()
    write(read_answer(asked.plan, asked.results, asked.shelf), asked.out)


if __name__ == "__main__":
    main()
