"""What a table says, in the words of one who has ten seconds: who trains faster, who represents better, how sure.

Every answer is made of numbers and judgements that the tables have too; where they say nothing, so does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from datasets.wording import counted
from harness.records.differences import FEWEST_SEEDS, Pair, Row, as_good_as, best
from harness.records.ratios import inside_floor, mostly_disturbed, speedup
from harness.records.schema import RANDOM_INIT, RunRecord, SpeedRecord
from harness.report.apart import how, listed, reasons
from harness.report.cells import figures, known
from harness.report.charts import LONGEST_SAID, said, short
from harness.report.claims import card_frame
from harness.report.explain import factor_text, ratio_story, waterfall_frame
from harness.report.health import disturbances, rounds_text
from harness.studies.claims import Card

Tone = Literal["clear", "level", "open", "doubt"]
"""Something was found; the rows are level; nothing can be said; something is wrong."""
FEW = 4
"""Names in a headline."""


@dataclass(frozen=True)
class Answer:
    """One question, answered.

    Attributes:
        headline: the answer in a sentence.
        sure: what it rests on.
        rows: labels whose records it comes from.
    """

    question: str
    headline: str
    tone: Tone
    sure: str = ""
    more: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()


FASTER, BETTER = "Who trains faster?", "Who represents better?"


def names(labels: Sequence[str]) -> str:
    """``a, b and c``; of more than a few the first ones and how many there are besides."""
    shown = [short(label, 2 * LONGEST_SAID) for label in labels]
    if len(shown) <= FEW:
        return listed(shown)
    return f"{', '.join(shown[: FEW - 1])} and {len(shown) - FEW + 1} more"


# --- who trains faster ---


def faster(summary: pd.DataFrame, speed: SpeedRecord | None) -> Answer:
    """From the rows of a table (`harness.report.frame.summary_frame`) and the measurement beside them."""
    if speed is None:
        return Answer(FASTER, "Not measured under these settings.", "open")
    sure = f"95 % intervals; {rounds_text(speed)}; noise floor {speed.floor:.3f}; {disturbances(speed)}"
    rows = summary[(summary["kind"] == "method") & summary["speedup"].notna()]
    rivals = rows[rows["label"] != speed.baseline].sort_values("speedup", ascending=False, kind="stable")
    judged = dict(zip(rivals["label"], rivals["judgement"].fillna(""), strict=True))
    supported = [label for label, verdict in judged.items() if verdict == "supported"]
    doubted = [f"{said(label)}: {verdict}" for label, verdict in judged.items() if verdict.startswith("in doubt")]
    coarse = [label for label, verdict in judged.items() if verdict == "not measurable here"]
    slower = _slower(rivals, speed)
    more = (*slower, *doubted, *([f"not measurable here: {names(coarse)}"] if coarse else []))
    if supported and not mostly_disturbed(speed):
        first = rivals[rivals["label"] == supported[0]].iloc[0]
        interval = f"[{first['speedup_low']:.2f}, {first['speedup_high']:.2f}]"
        headline = (
            f"{said(first['label'])} trains {first['speedup']:.2f} times as fast as {said(speed.baseline)} {interval}."
        )
        return Answer(FASTER, headline, "clear", sure, (*_next(supported, rivals, speed), *more), tuple(supported))
    headline, tone = _nobody(rivals, speed, doubted=bool(doubted), coarse=bool(coarse), slower=bool(slower))
    return Answer(FASTER, headline, tone, sure, more)


def _nobody(rivals: pd.DataFrame, speed: SpeedRecord, *, doubted: bool, coarse: bool, slower: bool) -> tuple[str, Tone]:
    """What is said where no row is shown to train faster than the baseline."""
    if mostly_disturbed(speed):
        return "Cannot be said: other processes disturbed most blocks.", "doubt"
    if rivals.empty:
        return f"Nothing to compare: {said(speed.baseline)} was measured alone.", "open"
    if doubted:
        return "In doubt: what was measured is not what it seems.", "doubt"
    if coarse:
        return f"Not measurable here: no row is told from {said(speed.baseline)}.", "open"
    if slower:
        return f"{said(speed.baseline)}: no other row trains faster.", "clear"
    return f"{names([speed.baseline, *rivals['label']])} cannot be told apart.", "level"


def _next(supported: Sequence[str], rivals: pd.DataFrame, speed: SpeedRecord) -> list[str]:
    """The second fastest, and whether the first is told from it."""
    if len(supported) < 2:
        return []
    first, second = supported[:2]
    found = speedup(speed, first, second)
    value = float(rivals[rivals["label"] == second]["speedup"].iloc[0])
    if found is None:
        return [f"next: {said(second)}, {value:.2f} times"]
    apart = (
        "not told apart from it"
        if inside_floor(found, speed.floor)
        else f"{said(first)} over {said(second)}: {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
    )
    return [f"next: {said(second)}, {value:.2f} times ({apart})"]


def _slower(rivals: pd.DataFrame, speed: SpeedRecord) -> list[str]:
    """Rows that are slower than the baseline, outside the noise floor."""
    rows = rivals[rivals["speedup_high"] < 1 / speed.floor]
    texts = [f"{said(label)} ({value:.2f} times)" for label, value in zip(rows["label"], rows["speedup"], strict=True)]
    return [f"slower than {said(speed.baseline)}: {names(texts)}"] if texts else []


# --- who represents better ---


def better(name: str, rows: Sequence[Row], found: Sequence[Pair]) -> Answer:
    """From the rows of a column and their pairs, judged.

    Args:
        name: of the column.
    """
    methods = sorted((row for row in rows if not row.control), key=lambda row: -row.mean)
    top = best(rows)
    if top is None:
        return Answer(BETTER, "No method has a finished run yet.", "open")
    means = {row.label: f"{said(row.label)} {100 * row.mean:.1f} %" for row in rows}
    if len(methods) == 1:
        sure = _judged_by(found)
        return Answer(
            BETTER, f"{means[top]} ({name}): the only method.", "open", sure, _over_untrained(top, found), (top,)
        )
    own = [pair for pair in found if {pair.above, pair.below} <= {row.label for row in methods}]
    if not any(pair.holm is not None for pair in own):
        shown = names([means[row.label] for row in methods])
        return Answer(BETTER, f"Cannot be said yet: {reasons(own)}.", "open", f"{name}: {shown}", rows=(top,))
    return _ranked(name, top, methods, found)


def _ranked(name: str, top: str, methods: Sequence[Row], found: Sequence[Pair]) -> Answer:
    """The answer where pairs of methods, the best first, could be judged."""
    means = {row.label: f"{said(row.label)} {100 * row.mean:.1f} %" for row in methods}
    equal = as_good_as(top, methods, found)
    below = [row.label for row in methods if row.label != top and row.label not in equal]
    sure, more = f"{name}; {_judged_by(found)}", _over_untrained(top, found)
    if not below:
        ends = f"{100 * methods[-1].mean:.1f} to {100 * methods[0].mean:.1f} %"
        headline = f"Cannot be told apart: {names([row.label for row in methods])} ({ends})."
        return Answer(BETTER, headline, "level", sure, more, tuple(row.label for row in methods))
    if not equal:
        others = "all others" if len(below) > 1 else means[below[0]]
        return Answer(BETTER, f"{means[top]}, above {others}.", "clear", sure, more, (top,))
    headline = f"{names([top, *equal])} are best and cannot be told apart; {said(top)} is above {names(below)}."
    shown = names([means[row.label] for row in methods])
    return Answer(BETTER, headline, "clear", sure, (shown, *more), (top, *equal))


def _judged_by(found: Sequence[Pair]) -> str:
    tested = [pair for pair in found if pair.holm is not None]
    return how(tested) if tested else ""


def _over_untrained(top: str, found: Sequence[Pair]) -> tuple[str, ...]:
    """Whether the best row is told from the untrained encoder, without which its rank means little."""
    pair = next((pair for pair in found if {pair.above, pair.below} == {top, RANDOM_INIT}), None)
    if pair is None or pair.holm is None:
        return ()
    if pair.apart and pair.above == top:
        return (f"{said(top)} is {100 * pair.difference.interval.mean:.1f} points above the untrained encoder",)
    if pair.apart:
        return (f"{said(top)} is below the untrained encoder: this budget ranks nothing",)
    return (f"{said(top)} is not told apart from the untrained encoder: this budget ranks little",)


# --- other measurements ---


def explained(record: SpeedRecord) -> Answer:
    """What a waterfall says of its two methods, or of the only one."""
    question, sure = "What makes it fast?", f"95 % intervals; {rounds_text(record)}; {disturbances(record)}"
    if mostly_disturbed(record):
        return Answer(question, "Cannot be said: other processes disturbed most blocks.", "doubt", sure)
    steps = waterfall_frame(record)
    both = figures(steps[steps["over"].notna()])
    if both:
        first, second = record.rows
        headline = (
            f"{first} trains {both[0]['over']:.2f} times as fast as {second} {both[0]['stage']}, "
            f"{both[-1]['over']:.2f} times with every switch on."
        )
        intervals = f"95 %: {factor_text(both[0], 'over')} and {factor_text(both[-1], 'over')}"
        return Answer(question, headline, "clear", sure, (intervals, *ratio_story(record)[:1]))
    so_far = steps[steps["so_far"].notna()].drop_duplicates("method", keep="last")
    ends = [f"{row['method']} {row['so_far']:.2f} times" for row in figures(so_far)]
    headline = f"Every switch together: {names(ends)}." if ends else "Nothing to compare: stages are missing."
    return Answer(question, headline, "clear" if ends else "open", sure)


def held(cards: Sequence[tuple[str, Card]]) -> Answer:
    """Which published claims hold here, trained the fastest way."""
    own = {name: row for name, card in cards for row in figures(card_frame(card)) if known(row["verdict"])}
    verdicts = Counter(row["verdict"] for row in own.values())
    counts = ", ".join(f"{verdict} ({number})" for verdict, number in verdicts.items())
    lines = tuple(
        f"{name}: measured {factor_text(row, 'measured')}, {row['verdict']}"
        for name, row in own.items()
        if known(row["measured"])
    )
    tone: Tone = "clear" if verdicts.keys() & {"supported", "not supported"} else "open"
    return Answer("Do published claims hold?", f"Of {counted(len(own), 'claim')}: {counts}.", tone, "", lines)


# --- how sure ---


def how_sure(
    runs: Sequence[RunRecord],
    summaries: Sequence[pd.DataFrame],
    speeds: Sequence[SpeedRecord],
    waiting: int,
    refused: int,
) -> Answer:
    """Over everything that a report shows.

    Args:
        summaries: the rows of its tables.
        waiting: runs that are not done; `refused`: records that cannot be used.
    """
    methods = [rows[rows["kind"] == "method"] for rows in summaries]
    doubts = dict.fromkeys(
        f"{said(row['label'])}: {row['judgement']}"
        for rows in methods
        for row in rows.to_dict("records")
        if str(row["judgement"]).startswith("in doubt")
    )
    seeds = [int(count) for rows in methods for count in rows["seeds"] if count]
    below = [label for rows in methods for label in rows["label"][rows["vs_random"] < 0]]
    broken = Counter(run.status for run in runs if run.status != "ok")
    disturbed = sum(speed.health.disturbed for speed in speeds if speed.health)
    alone = [speed for speed in speeds if not speed.rounds]
    found = [
        *doubts,
        *([f"{counted(waiting, 'run')} not done yet: this is how things stand"] if waiting else []),
        *(f"{counted(number, 'run')} {status}" for status, number in broken.items()),
        *([f"{counted(refused, 'record')} left out"] if refused else []),
        *([f"too few seeds to tell accuracies apart ({min(seeds)} of {FEWEST_SEEDS})"] if _few(seeds) else []),
        *([f"below the untrained encoder: {names(list(dict.fromkeys(below)))}"] if below else []),
        *([f"{counted(disturbed, 'block')} of the measurement stayed disturbed"] if disturbed else []),
        *(["speed of one process: a few more would tell how far another start moves it"] if alone else []),
    ]
    amount = f"{counted(len(runs), 'run')}, {counted(len(speeds), 'speed measurement')}"
    headline: tuple[str, Tone] = ("No check found anything wrong.", "clear")
    if doubts:
        headline = ("Something is in doubt.", "doubt")
    elif waiting:
        headline = ("Not finished yet.", "open")
    elif found:
        headline = (f"Nothing is in doubt; {counted(len(found), 'reservation')}.", "open" if _few(seeds) else "clear")
    return Answer("How sure is it?", headline[0], headline[1], amount, tuple(found))


def _few(seeds: Sequence[int]) -> bool:
    return bool(seeds) and min(seeds) < FEWEST_SEEDS
