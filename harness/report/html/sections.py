"""The sections of a report, one for each question, as blocks of charts,
tables and lines that a template lays out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from markupsafe import Markup

from harness.records.ratios import rules_version
from harness.records.schema import RunRecord, SpeedRecord
from harness.report import charts
from harness.report.cells import (
    TRAINS_FASTER,
    figures,
    flop_text,
    judgement_text,
    method_text,
    rate_text,
    speedup_text,
)
from harness.report.claims import card_notes, card_table, cards_frame
from harness.report.compare import Comparison, two_encoders
from harness.report.explain import factor_text, waterfall, waterfall_frame, waterfall_notes
from harness.report.frame import arms_frame, blocks_frame, losses_frame, points_frame
from harness.report.html.grid import EMPTY, Cell, Grid, grid, number, of_strings, sort_key
from harness.report.html.packing import identity
from harness.report.html.poses import drawn, whole
from harness.report.html.study import Setting, Study
from harness.report.html.vector import inline
from harness.report.target import (
    ladder_frame,
    ladder_table,
    target_frame,
    target_notes,
    target_table,
)
from harness.studies.target import arm_times, landmarks

Links = Mapping[str, str]
"""Where in the page a record stands, by its address."""


@dataclass(frozen=True)
class Drawing:
    """A chart of a block."""

    title: str
    picture: Markup


@dataclass(frozen=True)
class Detail:
    """A table or lines; folded ones are opened by a click."""

    title: str = ""
    grid: Grid | None = None
    lines: Sequence[str] = ()
    folded: bool = False


@dataclass(frozen=True)
class Block:
    """What one setting, or one measurement, has to say to a question.

    Attributes:
        lead: the answer.
        aside: lines beside the charts.
    """

    heading: str
    lead: str = ""
    drawings: Sequence[Drawing] = ()
    parts: Sequence[Detail] = ()
    aside: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A question of the report.

    Attributes:
        empty: what a folder lacks that has no answer to it.
    """

    anchor: str
    question: str
    about: str
    blocks: Sequence[Block]
    empty: str


@dataclass
class Drawer:
    """Makes charts part of the page, each in a scope of its own, all in the same colours.

    Attributes:
        links: of the study whose charts are made; `every`: of all, by their places.
    """

    links: Links
    styles: Mapping[str, charts.Look]
    drawn: int = field(default=0)
    every: Mapping[int, Links] = field(default_factory=dict)

    def at(self, place: int) -> None:
        """From now on charts and tables are those of a study, by its place."""
        self.links = self.every.get(place, {})

    def __call__(self, make: Callable[[], charts.Chart], title: str = "") -> Drawing:
        """A chart with its title."""
        chart = make()
        self.drawn += 1
        return Drawing(title or chart.title, inline(chart, f"k{self.drawn}", self.links))


def looks_of(studies: Sequence[Study]) -> Mapping[str, charts.Look]:
    """One look for every method of a report."""
    labels = [label for study in studies for setting in study.settings for label in setting.labels]
    labels += [row for study in studies for record in study.staged for row in record.rows]
    return charts.looks(labels)


def sections(
    studies: Sequence[Study], links: Mapping[int, Links], drawer: Drawer | None = None
) -> list[Section]:
    """All sections, in their order.

    Args:
        links: where in the page the records of each study stand, by its place.
        drawer: makes the charts.
    """
    settings = [setting for study in studies for setting in study.settings]
    draw = drawer or Drawer({}, looks_of(studies))
    draw.every = links
    return [
        Section(
            "faster",
            "Who trains faster?",
            "Clips per second over the baseline's, from one interleaved measurement; inside the"
            " noise floor nothing is told apart.",
            [_faster(setting, speed, draw) for setting, speed in _measurements(settings, draw)],
            "speed beside runs",
        ),
        Section(
            "better",
            "Who represents better?",
            "Accuracy on test clips with its 95 % interval; small dots are seeds, dashed lines"
            " controls. A bar at the side joins rows that are not told apart.",
            [_better(setting, draw) for setting in settings if setting.columns],
            "finished runs",
        ),
        Section(
            "trade",
            "What is the trade?",
            "Accuracy against what it cost: thin lines are seeds, thick ones means.",
            [block for setting in settings if (block := _trade(setting, draw))],
            "evaluations while training",
        ),
        Section(
            "why",
            "Why?",
            "Where the time goes: what each switch brings, the phases of a step, FLOPs.",
            [*_waterfalls(studies, draw), *_phases(settings, draw)],
            "where the time goes",
        ),
        Section(
            "believe",
            "Can I believe it?",
            "What disturbed the measurement, how losses and features behaved, what departs from the"
            " papers, on what machine, by which commands.",
            [*_believe(settings, draw)],
            "tables to believe or not",
        ),
        Section(
            "claims",
            "Published claims",
            "A claim, what was measured of it, and what arithmetic says.",
            [*_cards(studies, draw)],
            "published claims (`harness claim`)",
        ),
        Section(
            "pictures",
            "What do they see?",
            "Masks, and what methods make of what they hide, on test clips.",
            [*_pictures(studies)],
            "pictures of clips that anybody may pass on",
        ),
    ]


# --- who trains faster ---


def _measurements(
    settings: Sequence[Setting], draw: Drawer
) -> Iterator[tuple[Setting, SpeedRecord]]:
    """Each measurement once, where ``draw`` then stands;
    several settings may lie beside the same one.
    """
    seen = set()
    for setting in settings:
        speed = setting.table.speed
        if speed and identity(speed) not in seen:
            draw.at(setting.place)
            seen.add(identity(speed))
            yield setting, speed


def _faster(setting: Setting, speed: SpeedRecord, draw: Drawer) -> Block:
    arms = arms_frame([speed])
    link = draw.links.get(speed.address, "")
    rows = figures(setting.summary[setting.summary["clips_per_second"].notna()])
    columns = {
        "method": False,
        "speedup [95 %]": True,
        "by FLOPs": True,
        "clips/s": True,
        "GFLOP/clip": True,
        "peak MB": True,
        TRAINS_FASTER: False,
    }
    cells = [
        [
            Cell(method_text(row)),
            Cell(
                speedup_text(row),
                sort_key(row["speedup"]),
                link,
                "faint" if row["within_noise"] else "",
            ),
            Cell(flop_text(row), sort_key(row["flop_ratio"]), link),
            Cell(rate_text(row), sort_key(row["clips_per_second"]), link),
            number(row["gflops_per_clip"], ".3g", link=link),
            number(row["peak_mb"], ",.0f", link=link),
            _judgement(row) if row["kind"] == "method" else Cell(EMPTY),
        ]
        for row in rows
    ]
    answer = setting.faster
    judged = arms[(arms["division"] == "closed") & arms["speedup"].notna()]
    drawings = [draw(lambda: charts.speedup_chart(arms, styles=draw.styles))] if len(judged) else []
    return Block(
        setting.heading,
        answer.headline,
        drawings,
        [Detail(grid=grid(columns, cells))],
        [*answer.more, answer.sure],
    )


_TONES = {"supported": "good", "not supported": "faint", "not measurable here": "faint", EMPTY: ""}


def _judgement(row: Mapping[str, Any]) -> Cell:
    text = judgement_text(row)
    return Cell(text, tone=_TONES.get(text, "bad"))


# --- who represents better ---


def _better(setting: Setting, draw: Drawer) -> Block:
    draw.at(setting.place)
    drawings, parts = [], list[Detail]()
    for place, comparison in enumerate(setting.columns):
        name, addresses = comparison.column.name, setting.addresses(comparison.column)
        drawings.append(
            draw(lambda: charts.accuracy_chart(comparison, styles=draw.styles, addresses=addresses))  # noqa: B023
        )
        links = {label: draw.links.get(address, "") for label, address in addresses.items()}
        parts.append(
            Detail(name, _accuracies(comparison, links), comparison.lines, folded=place > 0)
        )
        if len(comparison.column.rows) > 1:
            pairs = of_strings(comparison.pair_table(), texts=2)
            parts.append(Detail(f"{name}: every pair of rows", pairs, folded=True))
    if note := two_encoders(setting.columns):
        parts.append(Detail(lines=note))
    return Block(setting.heading, setting.better[0][1].headline, drawings, parts)


def _accuracies(comparison: Comparison, links: Links) -> Grid:
    """The rows as they are printed, sorted by their numbers."""
    found, means = of_strings(comparison.row_table(wide=True), links), comparison.rows["accuracy"]
    cells = [
        [
            replace(cell, sort=mean if column.startswith("accuracy") else cell.sort)
            for column, cell in zip(found.columns, row, strict=True)
        ]
        for row, mean in zip(found.rows, means, strict=True)
    ]
    return replace(found, rows=cells)


# --- what is the trade ---

_SPREAD = 1.05
"""Budgets that differ by less than this factor make no axis."""


def _trade(setting: Setting, draw: Drawer) -> Block | None:
    trained = [
        run
        for run in setting.table.runs
        if run.training and run.curve and run.label in setting.labels
    ]
    if not trained:
        return None
    draw.at(setting.place)
    points = points_frame(trained)
    known = setting.summary[
        (setting.summary["kind"] == "control") & setting.summary["linear"].notna()
    ]
    controls = {row["label"]: row["linear"] for row in figures(known)}
    drawings = [
        draw(lambda: charts.trade_chart(points, x, controls=controls, styles=draw.styles))  # noqa: B023
        for x in ("interleaved_seconds", "clips_seen")
        if points[x].max() > _SPREAD * points[x].min()
    ]
    if not drawings:
        return None
    race = setting.race
    if race is None:
        return Block(setting.heading, "", drawings)
    times = arm_times(race.speed)
    rungs = ladder_frame(race.runs, race.target, times)
    across = landmarks(setting.table.runs, race.target)
    drawings.append(draw(lambda: charts.ladder_chart(rungs, across, styles=draw.styles)))
    numbers = target_frame(race.runs, race.target, times, race.speed)
    links = {run.label: draw.links.get(run.address, "") for run in reversed(race.runs)}
    return Block(
        setting.heading,
        "",
        drawings,
        [
            Detail(
                "Time to target", of_strings(target_table(numbers, race.target, wide=True), links)
            ),
            Detail("Every accuracy", of_strings(ladder_table(rungs)), folded=True),
            Detail(lines=target_notes(setting.table.runs, race.target, frozen=race.frozen)),
        ],
    )


# --- why ---


def _waterfalls(studies: Sequence[Study], draw: Drawer) -> Iterator[Block]:
    for study in studies:
        for record in study.staged:
            if len(record.stages) > 2:
                steps = waterfall_frame(record)
                ratios = {
                    row["stage"]: factor_text(row, "over")
                    for row in figures(steps[steps["over"].notna()])
                }
                arms = arms_frame([record])
                draw.at(study.place)
                drawing = draw(lambda: charts.waterfall_chart(arms, ratios, styles=draw.styles))  # noqa: B023
                parts = [
                    Detail(grid=of_strings(waterfall(record, wide=True))),
                    Detail(lines=waterfall_notes(record)),
                ]
                yield Block(
                    f"{study.name}: from the published way of training to every switch",
                    "",
                    [drawing],
                    parts,
                )


def _phases(settings: Sequence[Setting], draw: Drawer) -> Iterator[Block]:
    for setting, speed in _measurements(settings, draw):
        arms = arms_frame([speed])
        drawings = [draw(lambda: charts.phases_chart(arms))] if len(arms) else []  # noqa: B023
        yield Block(setting.heading, "", drawings, _flops(speed, arms, draw.links))


def _flops(speed: SpeedRecord, arms: pd.DataFrame, links: Links) -> list[Detail]:
    """What arithmetic says beside what was measured, and where a forward pass has its FLOPs."""
    link = links.get(speed.address, "")
    columns = {
        "method": False,
        "GFLOP/clip": True,
        "FLOPs predict": True,
        "measured": True,
        "measured / predicted": True,
        "ms/clip": True,
        "share of a large product's FLOP/s": True,
        "forward FLOPs by module": False,
    }
    rows = []
    for arm, row in zip(speed.arms, charts.each(arms), strict=True):
        shares = ", ".join(
            f"{name} {share:.0%}" for name, share in arm.forward_shares.items() if share >= 0.005
        )
        reached = (
            row.step_flops / row.step_seconds / row.matmul_flops
            if row.matmul_flops
            else float("nan")
        )
        rows.append(
            [
                Cell(arm.label),
                number(row.gflops_per_clip, ".3g", link=link),
                number(row.flop_ratio, ".2f", unit="x", link=link),
                number(row.speedup, ".2f", unit="x", link=link),
                number(
                    row.speedup / row.flop_ratio if row.flop_ratio else float("nan"),
                    ".2f",
                    link=link,
                ),
                number(1000 / row.clips_per_second, ".3g", link=link),
                number(reached, ".0%", link=link),
                Cell(shares or EMPTY),
            ]
        )
    return [Detail(grid=grid(columns, rows))]


# --- can I believe it ---


_MOST_DRAWN = 4
"""Settings whose losses and features are drawn."""


def _believe(settings: Sequence[Setting], draw: Drawer) -> Iterator[Block]:
    """A block for each setting, then what methods say of themselves, each thing once."""
    seen, about = set(), dict[tuple[str, ...], str]()
    heaviest = sorted(settings, key=lambda setting: setting.weight, reverse=True)[:_MOST_DRAWN]
    drawn_of = {setting.anchor for setting in heaviest}
    for setting in settings:
        table, drawings = setting.table, list[Drawing]()
        trained = [run for run in table.runs if run.label in setting.labels]
        draw.at(setting.place)
        if table.speed and identity(table.speed) not in seen:
            seen.add(identity(table.speed))
            drawings += _blocks(table.speed, draw)
        if setting.anchor in drawn_of:
            drawings += [*_losses(trained, draw), *_diagnosis(trained, draw)]
        for run in trained:
            about.setdefault(_of_method(run), run.label)
        records: list[RunRecord | SpeedRecord] = [*table.runs, *filter(None, [table.speed])]
        yield Block(
            setting.heading,
            "",
            drawings,
            [
                Detail("Machine and versions", _machines(records, draw.links)),
                Detail(
                    "Conditions, warnings, commands: what stands below the table",
                    lines=table.lines(),
                    folded=True,
                ),
            ],
        )
    if about:
        parts = [Detail(label, lines=lines, folded=True) for lines, label in about.items()]
        if len(settings) > _MOST_DRAWN:
            parts.append(
                Detail(
                    lines=[
                        f"losses and features are drawn of the {_MOST_DRAWN} settings with the most"
                        " runs"
                    ]
                )
            )
        yield Block("Methods: what departs from their papers, and what was chosen", "", (), parts)


def _of_method(run: RunRecord) -> tuple[str, ...]:
    """What a method says of itself."""
    about = run.method
    return (
        *(text for text in (about.title, about.paper, about.code) if text),
        *(f"deviation: {text}" for text in about.deviations),
        *(f"choice: {text}" for text in about.choices),
    )


def _blocks(speed: SpeedRecord, draw: Drawer) -> list[Drawing]:
    blocks = blocks_frame([speed])
    blocks = blocks[blocks["clips_per_second"].notna()]
    return [draw(lambda: charts.blocks_chart(blocks, styles=draw.styles))] if len(blocks) else []


def _losses(trained: Sequence[RunRecord], draw: Drawer) -> list[Drawing]:
    losses = losses_frame(trained)
    panels = [(label, "loss", label) for label in dict.fromkeys(losses["label"])]
    if not panels:
        return []
    return [
        draw(
            lambda: charts.curves_chart(
                losses, panels, name="loss", title="Losses", styles=draw.styles
            )
        )
    ]


def _diagnosis(trained: Sequence[RunRecord], draw: Drawer) -> list[Drawing]:
    points = points_frame(trained)
    found = [
        name for name in points.columns if name.startswith("diag_") and points[name].notna().any()
    ]
    panels = [(name[5:].replace("_", " "), name, "") for name in found]
    if not panels:
        return []
    title = "Features while they train: a collapse shows here"
    return [
        draw(
            lambda: charts.curves_chart(
                points, panels, name="diagnosis", title=title, styles=draw.styles
            )
        )
    ]


def _machines(records: Sequence[RunRecord | SpeedRecord], links: Links) -> Grid:
    """Where and with what records were made, each once."""
    found: dict[tuple[str, str], list[RunRecord | SpeedRecord]] = {}
    for record in records:
        found.setdefault((record.environment.fingerprint, record.environment.commit), []).append(
            record
        )
    columns = {
        "records": True,
        "device": False,
        "processor": False,
        "cores": True,
        "threads": True,
        "versions": False,
        "commit": False,
        "rules": False,
    }
    rows = []
    for same in found.values():
        one = same[0].environment
        rules = dict.fromkeys(record.rules for record in same if isinstance(record, SpeedRecord))
        rows.append(
            [
                Cell(str(len(same)), len(same), links.get(same[0].address, "")),
                Cell(one.device),
                Cell(one.processor),
                Cell(str(one.cores), one.cores),
                Cell(str(one.threads), one.threads),
                Cell(", ".join(f"{name} {version}" for name, version in one.versions.items())),
                Cell(one.commit[:12]),
                Cell(", ".join(rules) or EMPTY),
            ]
        )
    return grid(columns, rows)


# --- pictures ---

_MOST_PICTURES = 12
"""Methods whose pictures are drawn."""


def _pictures(studies: Sequence[Study]) -> Iterator[Block]:
    """One clip of each method; of data that anybody may pass on, for a page is passed on."""
    for study in studies:
        free = [
            one for one in study.pictures if one.free and one.clips and whole(one, one.clips[0])
        ]
        kept = [one for one in study.pictures if not one.free]
        drawings = [
            Drawing(f"{one.label}, seed {one.seed}: {one.clips[0].title}", drawn(one, one.clips[0]))
            for one in free[:_MOST_PICTURES]
        ]
        lines = list(
            dict.fromkeys(f"clips of {one.data} ({one.licence})" for one in free[:_MOST_PICTURES])
        )
        if kept:
            data = ", ".join(dict.fromkeys(one.data for one in kept))
            lines.append(
                f"pictures of {data} stay beside their records: nothing says that anybody may pass"
                " its clips on"
            )
        if lines:
            yield Block(study.name, "", drawings, [Detail(lines=lines)])


# --- claims ---

_SHOWN_NOTES = 5
"""Of a card: the claim, what was measured of it, what arithmetic says."""


def _cards(studies: Sequence[Study], draw: Drawer) -> Iterator[Block]:
    for study in studies:
        frame = cards_frame(study.cards)
        for _, own in frame.groupby("measurement", sort=False) if len(frame) else ():
            draw.at(study.place)
            drawing = draw(lambda: charts.claims_chart(own, styles=draw.styles))  # noqa: B023
            yield Block(f"{study.name}: claimed and measured", "", [drawing])
        for name, card in study.cards:
            notes = card_notes(card, rules_version())
            parts = [
                Detail(grid=of_strings(card_table(card), texts=2), lines=notes[:_SHOWN_NOTES]),
                Detail("Rules, data, machine", lines=notes[_SHOWN_NOTES:], folded=True),
            ]
            yield Block(f"{study.name}: {name}", card.claim.statement, (), parts)
