"""The one table of a run: accuracy of methods and controls beside their speed,
with what it takes to believe it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from datasets.wording import counted, printable
from harness.records.differences import pairs
from harness.records.doubts import doubts_of
from harness.records.ratios import COARSE_FLOOR, COARSE_INTERVAL, disturbed_share, mostly_disturbed
from harness.records.schema import (
    BOUND,
    ArmRecord,
    DataInfo,
    Environment,
    RunRecord,
    SpeedRecord,
    plain_spec,
)
from harness.report.apart import brackets, closing, marks
from harness.report.cells import (
    TRAINS_FASTER,
    Cells,
    accuracy_text,
    flop_text,
    formatted,
    judgement_text,
    mean_text,
    method_text,
    rate_text,
    ratio_text,
    speedup_text,
    texts,
)
from harness.report.conditions import encoder_text
from harness.report.departures import departures
from harness.report.frame import comparable, gains_of, is_control, speed_figures, summary
from harness.report.health import disturbances, rounds_text, second_opinions
from harness.studies.compare import PROBES, probe_columns

CELLS: Cells = {
    "method": method_text,
    "speedup [95 %]": speedup_text,
    TRAINS_FASTER: judgement_text,
    "by FLOPs": flop_text,
    "linear [95 %]": lambda row: accuracy_text(row, "linear", spread=False),
    "kNN-1": lambda row: mean_text(row, "knn"),
}
"""What matters first, within 100 columns."""
WIDE: Cells = {
    "method": method_text,
    "linear": lambda row: accuracy_text(row, "linear"),
    "vs random": formatted("vs_random", "+.1f", 100),
    "kNN-1": lambda row: accuracy_text(row, "knn"),
    "best point": lambda row: accuracy_text(row, "best_point"),
    "clips seen": formatted("clips_seen", ",.0f"),
    "interleaved s": formatted("interleaved_seconds", ",.0f"),
    "wall s": formatted("wall_seconds", ",.0f"),
    "clips/s": rate_text,
    "speedup [95 %]": speedup_text,
    "by FLOPs": flop_text,
    "GFLOP/clip": formatted("gflops_per_clip", ".3g"),
    "peak MB": formatted("peak_mb", ".0f"),
    TRAINS_FASTER: judgement_text,
}
_UNEXPLAINED = 1.25
"""A measured ratio this factor away from the FLOP ratio asks
for an explanation (benchmarks/RULES.md).
"""
_PROXY = (
    "linear is a proxy for the papers' probe, MAMP's recipe (`linear-mamp`): of 24 tiny encoders on"
    " UTD-MHAD some that stood up to 7.2 points apart by it were in the other order by"
    " linear-mamp:epochs=30 (benchmarks/results/proxy)"
)
"""What `benchmarks/proxy.py` found; nearer rows are told apart by `run --protocols` alone."""
_FEW_TEST_CLIPS = 30
"""With fewer a single clip moves an accuracy by more than three points."""
_CLEAR_GAIN = 0.05
"""A method that is less above the untrained encoder has not clearly learnt what the probe asks for.
"""


def build_table(
    records: Sequence[RunRecord], speed: SpeedRecord | None, *, wide: bool = False
) -> pd.DataFrame:
    """One row per method, then the controls, then the decoder-free bound; every cell a string.

    Args:
        wide: every column, not only those that matter first.
    """
    return table_text(summary(records, speed), wide=wide)


def table_text(frame: pd.DataFrame, *, wide: bool = False) -> pd.DataFrame:
    """The rows of `harness.report.frame.summary` as text."""
    return texts(frame, WIDE if wide else CELLS)


def notes(
    records: Sequence[RunRecord], speed: SpeedRecord | None, *, wide: bool = True
) -> list[str]:
    """What stands below the table: warnings, data, conditions, definitions of what it shows.

    Without a speed measurement the conditions are those of the newest of the records, of a trained
    one if there is any.

    Args:
        wide: of the table with every column.
    """
    trained = [record for record in records if not is_control(record)]
    shown = speed or max(
        trained or records, key=lambda record: (record.encoder is not None, record.finished)
    )
    data, environment = shown.data, shown.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    each = f" each on {environment.ranks} ranks" if environment.ranks > 1 else ""
    spec = plain_spec(shown)
    return [
        *in_doubt(records, speed),
        *_warnings(records),
        *_left_behind(records, speed),
        *_few_test_clips(records),
        *_below_untrained(records),
        *_no_clear_gain(records),
        *_not_timed(trained, speed),
        *_elsewhere(records, environment),
        (
            f"data: {data.name} ({data.fingerprint}), split {data.split or spec['data']['split']},"
            f" {data.classes} classes, clips {data.train_clips} train + {data.validation_clips}"
            f" validation / {data.test_clips} test (n of every accuracy)"
        ),
        *_on_sets(data, spec["data"], records),
        *(f"data: {note}" for note in data.notes),
        *_conditions(shown, trained),
        *_speed_notes(speed),
        *_open_division(records, speed, wide),
        *(
            [] if data.split else departures(trained)
        ),  # of one of several sets: its table's own lines say it
        *_accuracy_notes(records, wide),
        *(_seconds_notes(records) if wide else []),
        _columns_note(wide),
        *_untracked(records),
        (
            f"machine: {environment.device}, {environment.processor}, {environment.cores} cores, "
            f"{environment.threads} threads{each}"
            f"{_tf32(environment, spec['train'].get('precision', ''))}; {versions}; "
            f"commit {environment.commit}; {shown.finished:%Y-%m-%d %H:%M} UTC"
        ),
    ]


def _columns_note(wide: bool) -> str:
    """What the columns are that no other line explains, and where more is."""
    more = "`--wide` shows every column, the .csv beside a page every number"
    if not wide:
        return more
    return (
        f"{more}; peak MB: memory of one training step with weights and optimiser state;"
        " GFLOP/clip: forward and backward, two bodies"
    )


def set_lines(sets: Sequence[DataInfo]) -> list[str]:
    """Each of several data sets: what it is, how it is divided, and between how many people."""
    return [
        f"set {one.name} ({one.fingerprint}): split {one.split}, {one.classes} classes, clips"
        f" {one.train_clips} train + {one.validation_clips} validation / {one.test_clips} test,"
        f" people {one.training_people} / {one.test_people}"
        for one in sets
    ]


def _on_sets(data: DataInfo, spec: Mapping[str, Any], records: Sequence[RunRecord]) -> list[str]:
    """The sets of a run on several, and what each row got on each;
    the table's figures are of all together.
    """
    if not data.sets:
        return []
    drawn = {"size": "each clip as often as any", "even": "each set as often as any"}[
        spec.get("sampling", "size")
    ]
    labels = dict.fromkeys(record.label for record in records)
    lines = [
        *set_lines(data.sets),
        f"pre-training: the training sides of {len(data.sets)} sets together, {drawn}",
    ]
    for number, one in enumerate(data.sets):
        own = [
            record.on(number) for record in records if record.status == "ok" and record.data.sets
        ]
        found = {
            label: [one.accuracy.linear_test for one in own if one.label == label and one.accuracy]
            for label in labels
        }
        if shown := [
            f"{label} {100 * statistics.mean(each):.1f}" for label, each in found.items() if each
        ]:
            lines.append(f"linear on {one.name}, probed apart: {', '.join(shown)}")
    return lines


def _speed_notes(speed: SpeedRecord | None) -> list[str]:
    """How speed was measured, and what there is to say about the ratios."""
    if speed is None:
        return [
            "speed: not measured under these settings; the `run` command of these rows measures it"
        ]
    same = speed.same
    return [
        (
            f"speed: batch {speed.batch_size} body sequences, {rounds_text(speed)}, speedup ="
            f" clips/s over {speed.baseline}; same against same {same.value:.3f} [{same.low:.3f},"
            f" {same.high:.3f}], noise floor {speed.floor:.3f}; {disturbances(speed)}"
        ),
        *_not_measurable(speed),
        *_bound(speed),
        *_off_flops(speed),
        *second_opinions(speed),
    ]


def _not_timed(trained: Sequence[RunRecord], speed: SpeedRecord | None) -> list[str]:
    """Rows that were trained and are not in the measurement beside them."""
    done = dict.fromkeys(record.label for record in trained if record.status == "ok")
    missing = [label for label in done if speed and not speed.arm(label)]
    if not missing:
        return []
    return [
        f"not in this speed measurement: {', '.join(missing)}; one `run` command with all rows"
        " measures them all"
    ]


def _tf32(environment: Environment, precision: str) -> str:
    """Said where it matters, on a GPU, and where it is known.

    The environment has the setting between steps; those of ``precision=tf32`` have their own.
    """
    if environment.device == "cpu" or environment.tf32 is None:
        return ""
    if precision == "tf32" and not environment.tf32:
        return ", TF32 on in training steps, off elsewhere"
    return f", TF32 {'on' if environment.tf32 else 'off'}"


def to_markdown(
    table: pd.DataFrame, lines: Iterable[str], command: str, *more: pd.DataFrame
) -> str:
    """The table, ``more`` that follow it, its notes and the command that made it, as Markdown."""
    tables = [plain_markdown(table, command), *(grid(one) for one in more)]
    return "\n".join([*tables, *(f"- {printable(line)}" for line in lines), ""])


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


def plain_markdown(table: pd.DataFrame, command: str) -> str:
    """A table of strings and the command that made it, as Markdown."""
    return "\n".join([f"    {printable(command)}", "", grid(table)])


def grid(table: pd.DataFrame) -> str:
    """A table of strings as Markdown."""
    header = "| " + " | ".join(map(_cell, table.columns)) + " |"
    rule = "|" + "---|" * len(table.columns)
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([header, rule, *rows, ""])


def in_doubt(records: Sequence[RunRecord], speed: SpeedRecord | None) -> list[str]:
    """What each doubt rests on; benchmarks/RULES.md has the rules."""
    arms = [arm.label for arm in speed.arms] if speed else []
    labels = dict.fromkeys([*arms, *(record.label for record in records)])
    return [
        f"in doubt ({doubt.kind}): {label}: {doubt.text}"
        for label in labels
        for doubt in doubts_of(label, records, speed)
    ]


def _not_measurable(speed: SpeedRecord) -> list[str]:
    """Why rows say so: what the whole measurement suffers from, or else their own interval."""
    unjudged = (speed.baseline, BOUND)
    judged = [arm for arm in speed.arms if comparable(arm, speed) and arm.label not in unjudged]
    labels = [arm.label for arm in judged if arm.verdict == "not measurable here"]
    if not labels:
        return []
    reasons = []
    if mostly_disturbed(speed):
        reasons.append(f"{disturbed_share(speed):.0%} of the blocks stayed disturbed")
    if speed.floor > COARSE_FLOOR:
        reasons.append(f"the noise floor is above {COARSE_FLOOR}")
    why = " and ".join(reasons) or f"the interval is wider than a factor of {COARSE_INTERVAL}"
    return [
        f"not measurable here ({', '.join(labels)}): {why}; measure again on a quiet machine or for"
        " longer"
    ]


def _bound(speed: SpeedRecord) -> list[str]:
    arm = speed.arm(BOUND)
    if arm is None or not comparable(arm, speed):
        return []
    row = speed_figures(arm, speed)
    return [
        f"decoder-free bound: encoder alone {flop_text(row)} by FLOPs, {ratio_text(row)} measured;"
        " no method with this encoder and mask can beat it"
    ]


def _off_flops(speed: SpeedRecord) -> list[str]:
    """What asks for an explanation; nothing of a ratio that was not measurable,
    whose distance may be anything's.
    """
    if mostly_disturbed(speed):
        return []
    compared = [
        arm
        for arm in speed.arms
        if comparable(arm, speed) and not arm.control and arm.verdict != "not measurable here"
    ]
    above = [
        arm for arm in compared if arm.flop_ratio and arm.ratio.low > _UNEXPLAINED * arm.flop_ratio
    ]
    below = [
        arm for arm in compared if arm.flop_ratio and arm.ratio.high * _UNEXPLAINED < arm.flop_ratio
    ]
    baseline = speed.arm(speed.baseline)
    return [
        f"explain: {arm.label} measures {arm.ratio.value:.2f}x where FLOPs predict"
        f" {arm.flop_ratio:.2f}x; its steps: {_phases(arm)}"
        + (f"; {baseline.label}: {_phases(baseline)}" if baseline else "")
        for arm in [*above, *below]
    ]


def _phases(arm: ArmRecord) -> str:
    """Share of each phase in the measured time."""
    total = sum(arm.phases.values())
    return ", ".join(
        f"{name} {seconds / total:.0%}"
        for name, seconds in arm.phases.items()
        if seconds > 0.005 * total
    )


def _open_division(
    records: Sequence[RunRecord], speed: SpeedRecord | None, wide: bool
) -> list[str]:
    labels = [arm.label for arm in speed.arms if arm.division == "open"] if speed else []
    labels += [record.label for record in records if record.method.division == "open"]
    if not labels:
        return []
    names = ", ".join(dict.fromkeys(labels))
    random = ", and their 'vs random' is against that encoder before training" if wide else ""
    return [
        f"open division: {names} bring their own encoder; no speedup is formed against them{random}"
    ]


def _accuracy_notes(records: Sequence[RunRecord], wide: bool) -> list[str]:
    if not records:
        return []
    best = "; best point: best test figure over evaluations (the papers' habit, never used to"
    several = len({record.spec.seed for record in records}) > 1
    return [
        (
            f"linear, kNN-1: % of test clips on frozen features; {_chosen(records)}"
            + (f"{best} select)" if wide else "")
            + ("; ±: standard deviation over seeds" if wide and several else "")
        ),
        *_interval_notes(records),
        _PROXY,
    ]


def _interval_notes(records: Sequence[RunRecord]) -> list[str]:
    """What the brackets are, and who is above whom."""
    found = {column.name: (column.rows, pairs(column.rows)) for column in probe_columns(records)}
    seeds = [len(row.by_seed) for rows, _ in found.values() for row in rows]
    lines = brackets(seeds, any(marks(rows, judged) for rows, judged in found.values()))
    return [
        *lines,
        *(line for name, (_, judged) in found.items() for line in closing(name, judged)),
    ]


def _few_test_clips(records: Sequence[RunRecord]) -> list[str]:
    clips = records[0].data.test_clips if records else 0
    if not 0 < clips < _FEW_TEST_CLIPS:
        return []
    return [
        f"warning: {counted(clips, 'test clip')}, {100 / clips:.1f} points each: too few to tell"
        " rows apart"
    ]


def _chosen(records: Sequence[RunRecord]) -> str:
    """Which of a run's evaluations counts, and what chose it and the probe's regularisation."""
    validated, strengths = (
        records[0].data.validation_clips > 0,
        records[0].spec.probe.regularisation,
    )
    subjects = (
        "held-out training-side subjects"
        if validated
        else "training-side subjects that the probe was not fitted on"
    )
    known = validated or not any(
        record.accuracy and record.accuracy.selection is None for record in records
    )
    several = any(len(record.curve) > 1 for record in records)
    chosen = ["evaluation"] * (validated and several) + ["regularisation"] * (
        known and len(strengths) > 1
    )
    words = [] if validated else ["no validation subjects: the last evaluation counts"]
    if chosen:
        words.append(f"{' and '.join(chosen)} chosen on {subjects}")
    if "regularisation" not in chosen:
        words.append(
            f"regularisation {strengths[0]:g}, as set"
            if known
            else "regularisation 1: no subjects are known"
        )
    return ", ".join(words)


def _seconds_notes(records: Sequence[RunRecord]) -> list[str]:
    if not any(record.training for record in records):
        return []
    return [
        "interleaved s: a run's steps at the interleaved step time, which a budget in seconds holds"
        " equal; wall s: what they took in this run, neighbours and all, evaluation left out"
    ]


def _no_clear_gain(records: Sequence[RunRecord]) -> list[str]:
    """Rows whose mean linear accuracy is not `_CLEAR_GAIN` above the same encoder's before
    training.
    """
    gains = gains_of(records, PROBES["linear"])
    weak = [f"{label} ({100 * gain:+.1f})" for label, gain in gains.items() if gain < _CLEAR_GAIN]
    points = f"{100 * _CLEAR_GAIN:.0f} points"
    return (
        [f"under this budget not {points} above the untrained encoder: {', '.join(weak)}"]
        if weak
        else []
    )


def _below_untrained(records: Sequence[RunRecord]) -> list[str]:
    """Rows whose mean is below that of the encoder that they started from:
    their budget cannot rank them.
    """
    lines = []
    for name, value in PROBES.items():
        gains = {label: gain for label, gain in gains_of(records, value).items() if gain < 0}
        if gains:
            rows = ", ".join(f"{label} ({100 * gain:+.1f})" for label, gain in gains.items())
            lines.append(
                f"warning: {name}: below the untrained encoder on this data: {rows}; a budget that"
                " leaves them there ranks nothing"
            )
    return lines


def _elsewhere(records: Sequence[RunRecord], environment: Environment) -> list[str]:
    """Runs of another machine or other versions than the last line describes."""
    labels = [
        f"{r.label}, seed {r.spec.seed}"
        for r in records
        if r.environment.fingerprint != environment.fingerprint
    ]
    return (
        [f"trained on another machine or with other versions: {'; '.join(labels)}"]
        if labels
        else []
    )


def _warnings(records: Sequence[RunRecord]) -> list[str]:
    """What methods were warned of, and why runs did not end:
    once for all seeds that say the same.
    """
    said = [
        (f"warning: {record.label}", text, record) for record in records for text in record.warnings
    ]
    said += [
        (f"{record.status}: {record.label}", record.error, record)
        for record in records
        if record.status != "ok"
    ]
    seeds: dict[tuple[str, str], list[int]] = {}
    for what, text, record in said:
        seeds.setdefault((what, text), []).append(record.spec.seed)
    return [
        f"{what}, seed{'s' * (len(found) > 1)} {', '.join(map(str, found))}: {text}"
        for (what, text), found in seeds.items()
    ]


def _untracked(records: Sequence[RunRecord]) -> list[str]:
    """Time of the runs that no part of them accounts for."""
    shares = [record.untracked for record in records if record.training]
    return [f"untracked wall time: at most {max(shares):.1%} of a run"] if shares else []


def _left_behind(records: Sequence[RunRecord], speed: SpeedRecord | None) -> list[str]:
    """What methods were warned of when they were timed, and no run says."""
    if speed is None:
        return []
    said = {(record.label, text) for record in records for text in record.warnings}
    found = [(arm.label, text) for arm in speed.arms for text in arm.warnings]
    return [f"warning: {label}: {text}" for label, text in found if (label, text) not in said]


def _conditions(shown: RunRecord | SpeedRecord, trained: Sequence[RunRecord]) -> list[str]:
    """The encoder, and how it was trained; nothing of raw coordinates, which need neither."""
    encoder, spec = shown.encoder, plain_spec(shown)
    if encoder is None:
        return []
    size = f"{encoder_text(spec)}, {encoder.parameters:,} parameters, {encoder.tokens} tokens"
    training = (
        _training(trained, spec["train"])
        if trained or isinstance(shown, SpeedRecord)
        else "not trained"
    )
    return [f"encoder: {size} ({encoder.architecture}); {training}"]


def _training(trained: Sequence[RunRecord], train: Mapping[str, Any]) -> str:
    settings = f"lr {train['lr']:g}, {train['precision']}"
    if not trained:
        return settings
    seeds = sorted({record.spec.seed for record in trained})
    return f"seeds {', '.join(map(str, seeds))}; budget {trained[0].spec.train.budget}, {settings}"
