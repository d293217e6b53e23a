"""What a table says, in the words of one who has ten seconds: who trains faster, who represents
better, how sure.

Every answer is made of numbers and judgements that the tables have too; where they say nothing, so
does it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from datasets.wording import counted
from harness.records.differences import FEWEST_SEEDS, Pair, Row, best
from harness.records.doubts import kinds
from harness.records.ratios import inside_floor, mostly_disturbed, speedup
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, STAGE_MARK, RunRecord, SpeedRecord
from harness.report.apart import how, listed, reasons, untested
from harness.report.cells import Figures, figures, known
from harness.report.charts import LONGEST_SAID, said, short
from harness.report.claims import card_frame
from harness.report.explain import factor_text, left_out, ratio_story, waterfall_frame
from harness.report.health import disturbances, rounds_text
from harness.studies.claims import Card

Tone = Literal["clear", "level", "open", "doubt"]
"""Something was found; the rows are level; nothing can be said; something is wrong."""
_FEW = 4
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


_FASTER, _BETTER = "Who trains faster?", "Who represents better?"


def _names(labels: Sequence[str]) -> str:
    """``a, b and c``; of more than a few the first ones and how many there are besides."""
    shown = [short(label, 2 * LONGEST_SAID) for label in labels]
    if len(shown) <= _FEW:
        return listed(shown)
    return f"{', '.join(shown[: _FEW - 1])} and {len(shown) - _FEW + 1} more"


# --- who trains faster ---


def faster(summary: pd.DataFrame, speed: SpeedRecord | None) -> Answer:
    """From the rows of a table (`harness.report.frame.summary_frame`)
    and the measurement beside them.
    """
    if speed is None:
        return Answer(_FASTER, "Not measured under these settings.", "open")
    sure = (
        f"95 % intervals; {rounds_text(speed)}; noise floor {speed.floor:.3f};"
        f" {disturbances(speed)}"
    )
    rows = summary[(summary["kind"] == "method") & summary["speedup"].notna()]
    rivals = rows[rows["label"] != speed.baseline].sort_values(
        "speedup", ascending=False, kind="stable"
    )
    judged = dict(zip(rivals["label"], rivals["judgement"].fillna(""), strict=True))
    supported = [label for label, verdict in judged.items() if verdict == "supported"]
    doubted = [
        f"{said(label)}: {verdict}"
        for label, verdict in judged.items()
        if verdict.startswith("in doubt")
    ]
    coarse = [label for label, verdict in judged.items() if verdict == "not measurable here"]
    slower = _slower(rivals, speed)
    more = (*slower, *doubted, *([f"not measurable here: {_names(coarse)}"] if coarse else []))
    if supported and not mostly_disturbed(speed):
        first = rivals[rivals["label"] == supported[0]].iloc[0]
        interval = f"[{first['speedup_low']:.2f}, {first['speedup_high']:.2f}]"
        headline = (
            f"{said(first['label'])} trains {first['speedup']:.2f} times as fast as"
            f" {said(speed.baseline)} {interval}{'' if speed.rounds else ' (one process)'}."
        )
        return Answer(
            _FASTER,
            headline,
            "clear",
            sure,
            (*_next(supported, rivals, speed), *more),
            tuple(supported),
        )
    headline, tone = _nobody(rivals, speed, doubted=bool(doubted), coarse=bool(coarse))
    return Answer(_FASTER, headline, tone, sure, more)


def _nobody(
    rivals: pd.DataFrame, speed: SpeedRecord, *, doubted: bool, coarse: bool
) -> tuple[str, Tone]:
    """What is said where no row is shown to train faster than the baseline."""
    baseline = said(speed.baseline)
    if mostly_disturbed(speed):
        return "Cannot be said: other processes disturbed most blocks.", "doubt"
    if rivals.empty:
        return _nothing_beside(speed), "open"
    if doubted:
        return "In doubt: what was measured is not what it seems.", "doubt"
    if coarse:
        return f"Not measurable here: no row is shown to train faster than {baseline}.", "open"
    return _level(rivals, speed)


def _level(rivals: pd.DataFrame, speed: SpeedRecord) -> tuple[str, Tone]:
    """Whether every row is slower than the baseline, or some are not told apart from it."""
    baseline, level = (
        said(speed.baseline),
        list(rivals["label"][rivals["speedup_high"] >= 1 / speed.floor]),
    )
    if not level:
        return f"{baseline}: no other row trains faster.", "clear"
    if len(level) == len(rivals):
        return f"No row is told apart from {baseline}: {_names(level)}.", "level"
    return (
        f"No row is shown to train faster than {baseline}; not told apart from it:"
        f" {_names(level)}.",
        "level",
    )


def _nothing_beside(speed: SpeedRecord) -> str:
    """Why no row may be compared with the baseline."""
    baseline = speed.arm(speed.baseline)
    others = [arm.label for arm in speed.arms if not arm.control and arm.label != speed.baseline]
    if baseline is None:
        return f"Nothing to compare: {said(speed.baseline)}, the baseline, was not measured."
    if not others:
        return f"Nothing to compare: {said(speed.baseline)} was measured alone."
    if baseline.division == "open":
        return (
            f"Nothing to compare: {said(speed.baseline)}, the baseline, brings an encoder of its"
            " own."
        )
    return (
        f"Nothing to compare with {said(speed.baseline)}: with encoders of their own only"
        f" {_names(others)}."
    )


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
        else (
            f"{said(first)} over {said(second)}: {found.value:.2f} [{found.low:.2f},"
            f" {found.high:.2f}]"
        )
    )
    return [f"next: {said(second)}, {value:.2f} times ({apart})"]


def _slower(rivals: pd.DataFrame, speed: SpeedRecord) -> list[str]:
    """Rows that are slower than the baseline, outside the noise floor,
    where nothing speaks against the measurement.
    """
    if mostly_disturbed(speed):
        return []
    rows = rivals[
        (rivals["speedup_high"] < 1 / speed.floor) & (rivals["judgement"] == "not supported")
    ]
    texts = [
        f"{said(label)} ({value:.2f} times)"
        for label, value in zip(rows["label"], rows["speedup"], strict=True)
    ]
    return [f"slower than {said(speed.baseline)}: {_names(texts)}"] if texts else []


# --- who represents better ---


def better(
    name: str, rows: Sequence[Row], found: Sequence[Pair], doubts: Mapping[str, str] | None = None
) -> Answer:
    """From the rows of a column and their pairs, judged.

    Args:
        name: of the column.
        doubts: what puts rows in doubt, by their labels.
    """
    top = best(rows)
    if top is None:
        return Answer(_BETTER, "No method has a finished run yet.", "open")
    answer = _over_controls(_better(name, top, rows, found), top, rows, found)
    about = {row.label: doubts[row.label] for row in rows if doubts and row.label in doubts}
    lines = tuple(f"{said(label)}: {doubt}" for label, doubt in about.items())
    answer = replace(answer, more=(*lines, *answer.more))
    if not about.keys() & set(answer.rows):
        return answer
    return replace(answer, headline=f"In doubt: {answer.headline}", tone="doubt")


def _better(name: str, top: str, rows: Sequence[Row], found: Sequence[Pair]) -> Answer:
    """The answer among methods."""
    methods = sorted((row for row in rows if not row.control), key=lambda row: -row.mean)
    means = _means(methods)
    if len(methods) == 1:
        headline = f"{means[top]} ({name}): the only method with a finished run."
        return Answer(
            _BETTER, headline, "open", _judged_by(found), _over_untrained(top, found), (top,)
        )
    own = [pair for pair in found if {pair.above, pair.below} <= means.keys()]
    if not any(pair.holm is not None for pair in own):
        shown = _names(list(means.values()))
        return Answer(
            _BETTER, f"Cannot be said yet: {reasons(own)}.", "open", f"{name}: {shown}", rows=(top,)
        )
    return _ranked(name, top, methods, own, found)


def _means(rows: Sequence[Row]) -> dict[str, str]:
    return {row.label: f"{said(row.label)} {100 * row.mean:.1f} %" for row in rows}


def _ranked(
    name: str, top: str, methods: Sequence[Row], own: Sequence[Pair], found: Sequence[Pair]
) -> Answer:
    """The answer where pairs of methods, the best first, could be judged.

    That two rows are not told apart from a third says nothing of the two: every pair speaks for
    itself alone.
    """
    means, sure, more = _means(methods), f"{name}; {_judged_by(found)}", _over_untrained(top, found)
    if all(pair.holm is not None and not pair.apart for pair in own):
        ends = f"{100 * methods[-1].mean:.1f} to {100 * methods[0].mean:.1f} %"
        headline = f"Cannot be told apart: {_names(list(means))} ({ends})."
        return Answer(_BETTER, headline, "level", sure, more, tuple(means))
    of_top = {
        pair.below if pair.above == top else pair.above: pair
        for pair in own
        if top in (pair.above, pair.below)
    }
    beside = [row.label for row in methods if row.label in of_top]
    below = [label for label in beside if of_top[label].apart and of_top[label].above == top]
    level = [
        label for label in beside if of_top[label].holm is not None and not of_top[label].apart
    ]
    above = [label for label in beside if of_top[label].apart and of_top[label].below == top]
    if len(below) == len(beside):
        others = "all others" if len(below) > 1 else means[below[0]]
        return Answer(_BETTER, f"{means[top]}, above {others}.", "clear", sure, more, (top,))
    without = [of_top[label] for label in beside if of_top[label].holm is None]
    untestable = [label for label in beside if of_top[label].holm is None]
    parts = [
        *([f"above {_names(below)}"] if below else []),
        *([f"not told apart from {_names(level)}"] if level else []),
        *([f"on the seeds of both below {_names(above)}"] if above else []),
        *([f"over {_names(untestable)} it cannot be said ({reasons(without)})"] if without else []),
    ]
    tone: Tone = "open" if without or above else "clear" if below else "level"
    lines = (_names(list(means.values())), *_told_apart(top, own), *more)
    headline = f"{means[top]}, the highest mean: {'; '.join(parts)}."
    return Answer(_BETTER, headline, tone, sure + untested(own), lines, (top, *level))


def _told_apart(top: str, own: Sequence[Pair]) -> list[str]:
    """Which of the other methods are told apart."""
    above: dict[str, list[str]] = {}
    for pair in own:
        if pair.apart and top not in (pair.above, pair.below):
            above.setdefault(pair.above, []).append(pair.below)
    return [f"{said(label)} is above {_names(others)}" for label, others in above.items()]


def _over_controls(answer: Answer, top: str, rows: Sequence[Row], found: Sequence[Pair]) -> Answer:
    """The same with the controls that got more than the best method,
    which no ranking of methods tells.
    """
    highest = max(row.mean for row in rows if row.label == top)
    words = {RAW_FLOOR: "raw coordinates", RANDOM_INIT: "the untrained encoder"}
    stand: dict[str, list[str]] = {}
    for row in sorted(rows, key=lambda row: -row.mean):
        if row.control and row.mean > highest:
            own = {top, row.label}
            pair = next((one for one in found if {one.above, one.below} == own), None)
            level = (
                "not tested"
                if pair is None or pair.holm is None
                else ""
                if pair.apart
                else "not told apart"
            )
            name = words.get(row.label, said(row.label))
            stand.setdefault(level, []).append(f"{name} ({100 * row.mean:.1f} %)")
    texts = [listed(names) + (f", {level}" if level else "") for level, names in stand.items()]
    if not texts:
        return answer
    headline = f"{answer.headline} Higher than the best method: {'; '.join(texts)}."
    return replace(answer, headline=headline)


def _judged_by(found: Sequence[Pair]) -> str:
    tested = [pair for pair in found if pair.holm is not None]
    return how(tested) if tested else ""


def _over_untrained(top: str, found: Sequence[Pair]) -> tuple[str, ...]:
    """Whether the best row is told from the untrained encoder,
    without which its rank means little.
    """
    pair = next((pair for pair in found if {pair.above, pair.below} == {top, RANDOM_INIT}), None)
    if pair is None or pair.holm is None:
        return ()
    if pair.apart and pair.above == top:
        return (
            (
                f"{said(top)} is {100 * pair.difference.interval.mean:.1f} points above the"
                " untrained encoder"
            ),
        )
    if pair.apart:
        return (f"{said(top)} is below the untrained encoder: this budget ranks nothing",)
    return (f"{said(top)} is not told apart from the untrained encoder: this budget ranks little",)


# --- other measurements ---


def explained(record: SpeedRecord) -> Answer:
    """What a waterfall says of its two methods, or of the only one."""
    question, sure = (
        "What makes it fast?",
        f"95 % intervals; {rounds_text(record)}; {disturbances(record)}",
    )
    if mostly_disturbed(record):
        return Answer(
            question, "Cannot be said: other processes disturbed most blocks.", "doubt", sure
        )
    if doubts := _doubts_of_arms(record):
        return Answer(
            question,
            "In doubt: what was measured is not what it seems.",
            "doubt",
            sure,
            tuple(doubts),
        )
    steps = waterfall_frame(record)
    both = figures(steps[steps["over"].notna()])
    missing = tuple(left_out(record))
    if both:
        ends = [both[0], both[-1]] if len(both) > 1 else both
        noise = [bool(row["over_noise"]) for row in ends]
        intervals = f"95 %: {' and '.join(factor_text(row, 'over') for row in ends)}"
        story = [] if any(noise) else ratio_story(record)[:1]
        tone: Tone = "level" if all(noise) else "clear"
        return Answer(question, _over(record, ends), tone, sure, (intervals, *story, *missing))
    so_far = figures(steps[steps["so_far"].notna()].drop_duplicates("method", keep="last"))
    texts = [
        f"{row['method']} {row['so_far']:.2f}"
        f" times{_until(record, row)}{' (noise)' * bool(row['so_far_noise'])}"
        for row in so_far
    ]
    headline = (
        f"Every switch together: {_names(texts)}."
        if texts
        else "Nothing to compare: stages are missing."
    )
    shown = any(not row["so_far_noise"] for row in so_far)
    return Answer(
        question, headline, "clear" if shown else "level" if texts else "open", sure, missing
    )


def _over(record: SpeedRecord, ends: Sequence[Figures]) -> str:
    """How the first method stands to the second at the first and the last stage
    that both went through.
    """
    first, second = record.rows
    places = [_place(record, row["stage"]) for row in ends]
    if all(row["over_noise"] for row in ends):
        return f"{first} and {second} are not told apart {listed(places)}."
    texts = [
        (
            f"is not told apart from {second} {place}"
            if row["over_noise"]
            else f"trains {row['over']:.2f} times as fast as {second} {place}"
        )
        for row, place in zip(ends, places, strict=True)
    ]
    if len(texts) == 2 and not any(row["over_noise"] for row in ends):
        texts[1] = f"{ends[1]['over']:.2f} times {places[1]}"
        return f"{first} {', '.join(texts)}."
    return f"{first} {listed(texts)}."


def _place(record: SpeedRecord, stage: str) -> str:
    """A stage as a sentence names it; the last one has every switch on, and no other has."""
    if stage == record.stages[-1]:
        return "with every switch on"
    return stage if stage == "as published" else f"at '{stage}'"


def _until(record: SpeedRecord, row: Figures) -> str:
    return "" if row["stage"] == record.stages[-1] else f" (only until '{row['stage']}')"


def _doubts_of_arms(speed: SpeedRecord) -> list[str]:
    """What puts methods of a measurement in doubt, each once whatever the number of its stages."""
    lines = [
        f"{said(arm.label.partition(STAGE_MARK)[0])}:"
        f" {kinds(arm.doubts) if arm.doubts else 'in doubt'}"
        for arm in speed.arms
        if not arm.control and (arm.doubts or arm.verdict == "in doubt")
    ]
    return list(dict.fromkeys(lines))


def held(cards: Sequence[tuple[str, Card]]) -> Answer:
    """Which published claims hold here, by each way of training."""
    judged = [
        (name, [row for row in figures(card_frame(card)) if known(row["verdict"])])
        for name, card in cards
    ]
    own = [name for name, rows in judged if rows]
    ways: dict[str, Counter[str]] = defaultdict(Counter)
    for row in (row for _, rows in judged for row in rows):
        ways[row["trained"]][row["verdict"]] += 1
    verdicts = {verdict for way in ways.values() for verdict in way}
    counts = {
        way: ", ".join(f"{verdict} ({number})" for verdict, number in found.items())
        for way, found in ways.items()
    }
    if len(set(counts.values())) > 1:
        counts = {way: f"{found} {way}" for way, found in counts.items()}
    lines = tuple(
        _held_line(name, measured)
        for name, rows in judged
        if (measured := [row for row in rows if known(row["measured"])])
    )
    different = len(set(own))
    claims = counted(different, "claim")
    times = f", measured {len(own)} times in all" if different < len(own) else ""
    tone: Tone = "clear" if verdicts & {"supported", "not supported"} else "open"
    if "in doubt" in verdicts:
        tone = "doubt"
    headline = f"Of {claims}{times}: {'; '.join(dict.fromkeys(counts.values()))}."
    return Answer("Do published claims hold?", headline, tone, "", lines)


def _held_line(name: str, rows: Sequence[Figures]) -> str:
    """``gfp-6.2x: 4.13x [3.92, 4.35] as published, 1.40x [1.17, 1.67] every switch on; not
    supported``.
    """
    factors = ", ".join(f"{factor_text(row, 'measured')} {row['trained']}" for row in rows)
    return f"{name}: {factors}; {', then '.join(dict.fromkeys(row['verdict'] for row in rows))}"


# --- how sure ---


def how_sure(
    runs: Sequence[RunRecord],
    summaries: Sequence[pd.DataFrame],
    speeds: Sequence[SpeedRecord],
    waiting: int,
    refused: int,
    elsewhere: Sequence[pd.DataFrame] = (),
) -> Answer:
    """Over what the other answers are made of, and doubts of the rest of a report.

    Args:
        summaries: the rows of its tables; `elsewhere`: those of other settings.
        waiting: runs that are not done; `refused`: records that cannot be used.
    """
    methods = [rows[rows["kind"] == "method"] for rows in summaries]
    doubts = _doubts(summaries, speeds)
    others = [line for line in _doubts(elsewhere, ()) if line not in doubts]
    seeds = [int(count) for rows in methods for count in rows["seeds"] if count]
    below = [label for rows in methods for label in rows["label"][rows["vs_random"] < 0]]
    broken = Counter(run.status for run in runs if run.status != "ok")
    unwell = sum(int((rows["status"] != "").sum()) for rows in elsewhere)
    found = [
        *doubts,
        *(f"under other settings: {line}" for line in others),
        *([f"{counted(waiting, 'run')} not done yet: this is how things stand"] if waiting else []),
        *(f"{counted(number, 'run')} {status}" for status, number in broken.items()),
        *(
            [f"under other settings: {counted(unwell, 'row')} with runs that did not end well"]
            if unwell
            else []
        ),
        *([f"{counted(refused, 'record')} left out"] if refused else []),
        *(
            [f"too few seeds to tell accuracies apart ({min(seeds)} of {FEWEST_SEEDS})"]
            if _few(seeds)
            else []
        ),
        *([f"below the untrained encoder: {_names(list(dict.fromkeys(below)))}"] if below else []),
        *_of_speeds(runs, speeds),
    ]
    amount = f"{counted(len(runs), 'run')}, {counted(len(speeds), 'speed measurement')}"
    headline: tuple[str, Tone] = ("No check found anything wrong.", "clear")
    trained = [run for run in runs if not run.method.control]
    if doubts or others:
        headline = ("Something is in doubt.", "doubt")
    elif waiting:
        headline = ("Not finished yet.", "open")
    elif trained and not any(run.status == "ok" for run in trained):
        headline = ("Not at all for accuracies: no run of a method ended well.", "doubt")
    elif any(map(mostly_disturbed, speeds)):
        headline = ("Not at all for speed: other processes disturbed most blocks.", "doubt")
    elif runs and not trained:
        headline = ("Only controls were run: nothing to be sure of.", "open")
    elif found:
        headline = (
            f"Nothing is in doubt; {counted(len(found), 'reservation')}.",
            "open" if _few(seeds) else "clear",
        )
    return Answer("How sure is it?", headline[0], headline[1], amount, tuple(found))


def _doubts(summaries: Sequence[pd.DataFrame], speeds: Sequence[SpeedRecord]) -> list[str]:
    """Rows in doubt, each once: of tables, and of measurements that no table shows."""
    of_tables = {
        said(row["label"]): f"{said(row['label'])}: {row['judgement']}"
        for rows in summaries
        for row in rows[rows["kind"] == "method"].to_dict("records")
        if str(row["judgement"]).startswith("in doubt")
    }
    of_arms = [
        line
        for speed in speeds
        for line in _doubts_of_arms(speed)
        if line.rpartition(": ")[0] not in of_tables
    ]
    return list(dict.fromkeys([*of_tables.values(), *of_arms]))


def _of_speeds(runs: Sequence[RunRecord], speeds: Sequence[SpeedRecord]) -> list[str]:
    """What is to be kept in mind about the measurements."""
    disturbed = sum(speed.health.disturbed for speed in speeds if speed.health)
    failed = list(dict.fromkeys(label for speed in speeds for label in speed.failures))
    without = [
        speed.baseline for speed in speeds if not speed.stages and speed.arm(speed.baseline) is None
    ]
    machines = {(run.environment.device, run.environment.processor) for run in runs}
    moved = [
        one for one in speeds if (one.environment.device, one.environment.processor) not in machines
    ]
    return [
        *([f"could not be timed: {_names(failed)}"] if failed else []),
        *(
            f"the baseline {said(label)} is not among the rows that were timed"
            for label in dict.fromkeys(without)
        ),
        *(["speed was measured on another machine than the runs"] if runs and moved else []),
        *(
            [f"{counted(disturbed, 'block')} of the measurement stayed disturbed"]
            if disturbed
            else []
        ),
        *(
            ["speed of one process: a few more would tell how far another start moves it"]
            if any(not speed.rounds for speed in speeds)
            else []
        ),
    ]


def _few(seeds: Sequence[int]) -> bool:
    return bool(seeds) and min(seeds) < FEWEST_SEEDS
