"""The one table of a run: accuracy of methods and controls beside their speed, with what it takes to believe it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from datasets.wording import counted, printable
from harness.records.differences import pairs
from harness.records.doubts import doubts_of, kinds
from harness.records.ratios import COARSE_FLOOR, COARSE_INTERVAL, disturbed_share, inside_floor, mostly_disturbed
from harness.records.schema import (
    BODIES_PER_CLIP,
    BOUND,
    RANDOM_INIT,
    RAW_FLOOR,
    Accuracy,
    ArmRecord,
    Environment,
    RunRecord,
    SpeedRecord,
)
from harness.report.apart import accuracy_cell, brackets, closing, marks
from harness.report.departures import departures
from harness.report.health import disturbances, rounds_text, second_opinions
from harness.studies.compare import PROBES, best_points, probe_columns

COLUMNS = (
    "method", "linear", "vs random", "kNN-1", "best point", "clips seen", "interleaved s", "wall s", "clips/s",
    "speedup [95 %]", "by FLOPs", "GFLOP/clip", "peak MB", "verdict",
)  # fmt: skip
EMPTY = "-"
UNEXPLAINED = 1.25
"""A measured ratio this factor away from the FLOP ratio asks for an explanation (benchmarks/RULES.md)."""
PROXY = (
    "linear is a proxy for the papers' probe: on UI-PRMD (tiny encoder, three seeds) MAMP's recipe gave the untrained "
    "encoder 10.8 ± 4.5 points less than this one, and trained encoders about half the gain over it"
)
"""To go when a protocol trains the published probe itself."""
FEW_TEST_CLIPS = 30
"""With fewer a single clip moves an accuracy by more than three points."""
CLEAR_GAIN = 0.05
"""A method that is less above the untrained encoder has not clearly learnt what the probe asks for."""


def build_table(records: Sequence[RunRecord], speed: SpeedRecord | None) -> pd.DataFrame:
    """One row per method, then the controls, then the decoder-free bound; every cell a string."""
    random = _mean(_linear(_of(records, RANDOM_INIT)))
    arms = speed.arms if speed else []
    trained = [record.label for record in records if not is_control(record)]
    labels = list(dict.fromkeys(trained or [arm.label for arm in arms if not arm.control]))
    marked = {column.name: marks(column.rows, pairs(column.rows)) for column in probe_columns(records)}
    rows = [_row(label, records, speed, random, marked) for label in labels]
    controls = [label for label in (RANDOM_INIT, RAW_FLOOR) if _of(records, label)]
    rows += [_row(label, records, speed, None, marked) for label in controls]
    rows += [_row(arm.label, records, speed, None, marked) for arm in arms if arm.label not in labels]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def notes(records: Sequence[RunRecord], speed: SpeedRecord | None) -> list[str]:
    """What stands below the table: data, conditions, definitions, warnings.

    Without a speed measurement the conditions are those of the newest of the records, of a trained one if there is any.
    """
    trained = [record for record in records if not is_control(record)]
    shown = speed or max(trained or records, key=lambda record: (record.encoder is not None, record.finished))
    data, environment = shown.data, shown.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    spec = plain_spec(shown)
    return [
        f"data: {data.name} ({data.fingerprint}), split {spec['data']['split']}, {data.classes} classes, clips "
        f"{data.train_clips} train + {data.validation_clips} validation / {data.test_clips} test (n of every accuracy)",
        *(f"data: {note}" for note in data.notes),
        *_conditions(shown, trained),
        *_speed_notes(speed),
        *in_doubt(records, speed),
        *_not_timed(trained, speed),
        *_open_division(records, speed),
        *departures(trained),
        *_accuracy_notes(records),
        *_seconds_notes(records),
        *_no_clear_gain(records),
        *below_untrained(records),
        *_elsewhere(records, environment),
        "peak MB: memory of one training step with weights and optimiser state; GFLOP/clip: forward and backward, "
        "two bodies",
        *_warnings(records),
        *_left_behind(records, speed),
        f"machine: {environment.device}, {environment.processor}, {environment.cores} cores, "
        f"{environment.threads} threads{_tf32(environment)}; {versions}; commit {environment.commit}; "
        f"{shown.finished:%Y-%m-%d %H:%M} UTC",
    ]


def _speed_notes(speed: SpeedRecord | None) -> list[str]:
    """How speed was measured, and what there is to say about the ratios."""
    if speed is None:
        return ["speed: not measured under these settings; the `run` command of these rows measures it"]
    same = speed.same
    return [
        f"speed: batch {speed.batch_size} body sequences, {rounds_text(speed)}, speedup = clips/s "
        f"over {speed.baseline}; same against same {same.value:.3f} [{same.low:.3f}, {same.high:.3f}], "
        f"noise floor {speed.floor:.3f}; {disturbances(speed)}",
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
    return [f"not in this speed measurement: {', '.join(missing)}; one `run` command with all rows measures them all"]


def _tf32(environment: Environment) -> str:
    """Said where it matters, on a GPU, and where it is known."""
    if environment.device == "cpu" or environment.tf32 is None:
        return ""
    return f", TF32 {'on' if environment.tf32 else 'off'}"


def to_markdown(table: pd.DataFrame, lines: Iterable[str], command: str) -> str:
    """The table, its notes and the command that made it, as Markdown."""
    return "\n".join([plain_markdown(table, command), *(f"- {printable(line)}" for line in lines), ""])


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


def plain_markdown(table: pd.DataFrame, command: str) -> str:
    """A table of strings and the command that made it, as Markdown."""
    header = "| " + " | ".join(map(_cell, table.columns)) + " |"
    rule = "|" + "---|" * len(table.columns)
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([f"    {printable(command)}", "", header, rule, *rows, ""])


def _row(
    label: str, everything: Sequence[RunRecord], speed: SpeedRecord | None, random: float | None,
    marked: Mapping[str, Mapping[str, str]],
) -> list[str]:  # fmt: skip
    records, arm = _of(everything, label), speed.arm(label) if speed else None
    ok = [record for record in records if record.status == "ok"]
    own_encoder = _is_open(records, arm)
    linear, untrained = _mean(_linear(ok)), _untrained(ok) if own_encoder else random
    clips = ok[0].data.test_clips if ok else 0
    status = ", ".join(sorted({record.status for record in records if record.status != "ok"}))
    return [
        f"{label} (open)" if own_encoder else label,
        accuracy_cell(_linear(ok), clips) + marked.get("linear", {}).get(label, ""),
        EMPTY if linear is None or untrained is None else f"{100 * (linear - untrained):+.1f}",
        accuracy_cell(_values(ok, PROBES["kNN-1"]), clips) + marked.get("kNN-1", {}).get(label, ""),
        accuracy_cell(best_points(ok, PROBES["linear"]).get(label, []), clips, chosen=True),
        _number([record.training.clips_seen for record in ok if record.training]),
        _number([seconds for record in ok if (seconds := interleaved_seconds(record)) is not None]),
        _number([record.training.seconds for record in ok if record.training]),
        *_speed_cells(arm, speed),
        status or verdict_cell(label, everything, speed),
    ]


def verdict_cell(label: str, records: Sequence[RunRecord], speed: SpeedRecord | None) -> str:
    """The verdict on a row, or what puts it, or the baseline it is over, in doubt."""
    if doubts := doubts_of(label, records, speed):
        return kinds(doubts)
    arm = speed.arm(label) if speed else None
    if arm is None or speed is None or label == speed.baseline or not comparable(arm, speed):
        return EMPTY
    return "in doubt (the baseline)" if doubts_of(speed.baseline, records, speed) else arm.verdict


def interleaved_seconds(record: RunRecord) -> float | None:
    """The run's steps at the interleaved step time; None where it was not kept."""
    training = record.training
    if training is None or training.interleaved_step_seconds is None:
        return None
    return training.steps * training.interleaved_step_seconds


def _is_open(records: Sequence[RunRecord], arm: ArmRecord | None) -> bool:
    """The row's method brings its own encoder."""
    return any(record.method.division == "open" for record in records) or (arm is not None and arm.division == "open")


def _untrained(records: Sequence[RunRecord]) -> float | None:
    """Mean linear accuracy of open-division encoders before training."""
    return _mean([record.untrained.linear_test for record in records if record.untrained])


def comparable(arm: ArmRecord, speed: SpeedRecord) -> bool:
    """A speedup may be formed: both the arm and the baseline train the shared encoder."""
    baseline = speed.arm(speed.baseline)
    return arm.division == "closed" and (baseline is None or baseline.division == "closed")


def _speed_cells(arm: ArmRecord | None, speed: SpeedRecord | None) -> list[str]:
    if arm is None or speed is None:
        return [EMPTY] * 5
    return [
        f"{arm.clips_per_second:.0f}" if arm.clips_per_second >= 10 else f"{arm.clips_per_second:.2f}",
        speedup_cell(arm, speed),
        flop_cell(arm, speed),
        f"{gflops_per_clip(arm, speed):.3g}",
        EMPTY if arm.peak_bytes is None else f"{arm.peak_bytes / 1e6:.0f}",
    ]


def flop_cell(arm: ArmRecord, speed: SpeedRecord) -> str:
    """The speedup that FLOPs predict, where there is one."""
    return EMPTY if arm.flop_ratio is None or not comparable(arm, speed) else f"{arm.flop_ratio:.2f}x"


def gflops_per_clip(arm: ArmRecord, speed: SpeedRecord) -> float:
    """Model GFLOPs of a training step per clip of two bodies."""
    return arm.step_flops / (arm.batch_size or speed.batch_size) * BODIES_PER_CLIP / 1e9


def speedup_cell(arm: ArmRecord, speed: SpeedRecord) -> str:
    """The measured speedup with its interval, or why there is none."""
    if arm.division == "open":
        return "open division"
    if not comparable(arm, speed):
        return EMPTY
    if arm.label == speed.baseline:
        return "1 (baseline)"
    if inside_floor(arm.ratio, speed.floor):
        return "within noise"
    return ratio_words(arm, speed)


def ratio_words(arm: ArmRecord, speed: SpeedRecord) -> str:
    """A measured ratio with its interval; marked where the interval promises more than the blocks hold."""
    mark = " (disturbed)" if mostly_disturbed(speed) else ""
    return f"{arm.ratio.value:.2f}x [{arm.ratio.low:.2f}, {arm.ratio.high:.2f}]{mark}"


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
    judged = [arm for arm in speed.arms if comparable(arm, speed) and arm.label != speed.baseline]
    labels = [arm.label for arm in judged if arm.verdict == "not measurable here"]
    if not labels:
        return []
    reasons = []
    if mostly_disturbed(speed):
        reasons.append(f"{disturbed_share(speed):.0%} of the blocks stayed disturbed")
    if speed.floor > COARSE_FLOOR:
        reasons.append(f"the noise floor is above {COARSE_FLOOR}")
    why = " and ".join(reasons) or f"the interval is wider than a factor of {COARSE_INTERVAL}"
    return [f"not measurable here ({', '.join(labels)}): {why}; measure again on a quiet machine or for longer"]


def _bound(speed: SpeedRecord) -> list[str]:
    arm = speed.arm(BOUND)
    if arm is None or not comparable(arm, speed):
        return []
    return [
        f"decoder-free bound: encoder alone {flop_cell(arm, speed)} by FLOPs, {ratio_words(arm, speed)} measured; no "
        "method with this encoder and mask can beat it"
    ]


def _off_flops(speed: SpeedRecord) -> list[str]:
    """What asks for an explanation; nothing of a ratio that was not measurable, whose distance may be anything's."""
    if mostly_disturbed(speed):
        return []
    compared = [
        arm for arm in speed.arms
        if comparable(arm, speed) and not arm.control and arm.verdict != "not measurable here"
    ]  # fmt: skip
    above = [arm for arm in compared if arm.flop_ratio and arm.ratio.low > UNEXPLAINED * arm.flop_ratio]
    below = [arm for arm in compared if arm.flop_ratio and arm.ratio.high * UNEXPLAINED < arm.flop_ratio]
    baseline = speed.arm(speed.baseline)
    return [
        f"explain: {arm.label} measures {arm.ratio.value:.2f}x where FLOPs predict {arm.flop_ratio:.2f}x; its steps: "
        f"{_phases(arm)}" + (f"; {baseline.label}: {_phases(baseline)}" if baseline else "")
        for arm in [*above, *below]
    ]


def _phases(arm: ArmRecord) -> str:
    """Share of each phase in the measured time."""
    total = sum(arm.phases.values())
    return ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in arm.phases.items() if seconds > 0.005 * total)


def _open_division(records: Sequence[RunRecord], speed: SpeedRecord | None) -> list[str]:
    labels = [arm.label for arm in speed.arms if arm.division == "open"] if speed else []
    labels += [record.label for record in records if record.method.division == "open"]
    if not labels:
        return []
    names = ", ".join(dict.fromkeys(labels))
    return [
        f"open division: {names} bring their own encoder; no speedup is formed against them, and their 'vs random' is "
        "against that encoder before training"
    ]


def _accuracy_notes(records: Sequence[RunRecord]) -> list[str]:
    if not records:
        return []
    return [
        *_few_test_clips(records[0].data.test_clips),
        f"linear, kNN-1: % of test clips on frozen features; {_chosen(records)}; best point: "
        "best test figure over evaluations (the papers' habit, never used to select); ±: standard deviation over seeds",
        *_interval_notes(records),
        PROXY,
    ]


def _interval_notes(records: Sequence[RunRecord]) -> list[str]:
    """What the brackets are, and who is above whom."""
    found = {column.name: (column.rows, pairs(column.rows)) for column in probe_columns(records)}
    seeds = [len(row.by_seed) for rows, _ in found.values() for row in rows]
    lines = brackets(seeds, any(marks(rows, judged) for rows, judged in found.values()))
    return [*lines, *(line for name, (_, judged) in found.items() for line in closing(name, judged))]


def _few_test_clips(clips: int) -> list[str]:
    if not 0 < clips < FEW_TEST_CLIPS:
        return []
    return [f"warning: {counted(clips, 'test clip')}, {100 / clips:.1f} points each: too few to tell rows apart"]


def _chosen(records: Sequence[RunRecord]) -> str:
    """Which of a run's evaluations counts, and what chose it and the probe's regularisation."""
    validated, strengths = records[0].data.validation_clips > 0, records[0].spec.probe.regularisation
    subjects = (
        "held-out training-side subjects" if validated else "training-side subjects that the probe was not fitted on"
    )
    known = validated or not any(record.accuracy and record.accuracy.selection is None for record in records)
    several = any(len(record.curve) > 1 for record in records)
    chosen = ["evaluation"] * (validated and several) + ["regularisation"] * (known and len(strengths) > 1)
    words = [] if validated else ["no validation subjects: the last evaluation counts"]
    if chosen:
        words.append(f"{' and '.join(chosen)} chosen on {subjects}")
    if "regularisation" not in chosen:
        words.append(f"regularisation {strengths[0]:g}, as set" if known else "regularisation 1: no subjects are known")
    return ", ".join(words)


def _seconds_notes(records: Sequence[RunRecord]) -> list[str]:
    if not any(record.training for record in records):
        return []
    return [
        "interleaved s: a run's steps at the interleaved step time, which a budget in seconds holds equal; wall s: "
        "what they took in this run, neighbours and all, evaluation left out"
    ]


def gains_of(records: Sequence[RunRecord], value: Callable[[Accuracy], float]) -> dict[str, float]:
    """Mean of each method's row above that of its encoder before training; rows of which both are known."""
    random = _mean(_values(_of(records, RANDOM_INIT), value))
    gains = {}
    for label in dict.fromkeys(record.label for record in records if not is_control(record)):
        rows = [record for record in _of(records, label) if record.status == "ok"]
        own = _mean([value(record.untrained) for record in rows if record.untrained])
        trained, untrained = _mean(_values(rows, value)), own if _is_open(rows, None) else random
        if trained is not None and untrained is not None:
            gains[label] = trained - untrained
    return gains


def _no_clear_gain(records: Sequence[RunRecord]) -> list[str]:
    """Rows whose mean linear accuracy is not `CLEAR_GAIN` above the same encoder's before training."""
    gains = gains_of(records, PROBES["linear"])
    weak = [f"{label} ({100 * gain:+.1f})" for label, gain in gains.items() if gain < CLEAR_GAIN]
    points = f"{100 * CLEAR_GAIN:.0f} points"
    return [f"under this budget not {points} above the untrained encoder: {', '.join(weak)}"] if weak else []


def below_untrained(records: Sequence[RunRecord]) -> list[str]:
    """Rows whose mean is below that of the encoder that they started from: their budget cannot rank them."""
    lines = []
    for name, value in PROBES.items():
        gains = {label: gain for label, gain in gains_of(records, value).items() if gain < 0}
        if gains:
            rows = ", ".join(f"{label} ({100 * gain:+.1f})" for label, gain in gains.items())
            lines.append(
                f"warning: {name}: below the untrained encoder on this data: {rows}; a budget that leaves them there "
                "ranks nothing"
            )
    return lines


def _elsewhere(records: Sequence[RunRecord], environment: Environment) -> list[str]:
    """Runs of another machine or other versions than the last line describes."""
    labels = [f"{r.label}, seed {r.spec.seed}" for r in records if r.environment.fingerprint != environment.fingerprint]
    return [f"trained on another machine or with other versions: {'; '.join(labels)}"] if labels else []


def _warnings(records: Sequence[RunRecord]) -> list[str]:
    """What methods were warned of, and why runs did not end: once for all seeds that say the same."""
    said = [(f"warning: {record.label}", text, record) for record in records for text in record.warnings]
    said += [(f"{record.status}: {record.label}", record.error, record) for record in records if record.status != "ok"]
    seeds: dict[tuple[str, str], list[int]] = {}
    for what, text, record in said:
        seeds.setdefault((what, text), []).append(record.spec.seed)
    lines = [f"{what}, {_seeds(found)}: {text}" for (what, text), found in seeds.items()]
    untracked = [record.untracked for record in records if record.training]
    return [*lines, *([f"untracked wall time: at most {max(untracked):.1%} of a run"] if untracked else [])]


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _left_behind(records: Sequence[RunRecord], speed: SpeedRecord | None) -> list[str]:
    """What methods were warned of when they were timed, and no run says."""
    if speed is None:
        return []
    said = {(record.label, text) for record in records for text in record.warnings}
    found = [(arm.label, text) for arm in speed.arms for text in arm.warnings]
    return [f"warning: {label}: {text}" for label, text in found if (label, text) not in said]


def plain_spec(record: RunRecord | SpeedRecord) -> dict[str, Any]:
    """Sections and device of what was asked, as plain values."""
    return record.spec if isinstance(record, SpeedRecord) else record.spec.model_dump(mode="json")


def _conditions(shown: RunRecord | SpeedRecord, trained: Sequence[RunRecord]) -> list[str]:
    """The encoder, and how it was trained; nothing of raw coordinates, which need neither."""
    encoder, spec = shown.encoder, plain_spec(shown)
    if encoder is None:
        return []
    size = f"{spec['encoder']['size']}, {encoder.parameters:,} parameters, {encoder.tokens} tokens"
    training = _training(trained, spec["train"]) if trained or isinstance(shown, SpeedRecord) else "not trained"
    return [f"encoder: {size} ({encoder.architecture}); {training}"]


def _training(trained: Sequence[RunRecord], train: Mapping[str, Any]) -> str:
    settings = f"lr {train['lr']:g}, {train['precision']}"
    if not trained:
        return settings
    seeds = sorted({record.spec.seed for record in trained})
    return f"seeds {', '.join(map(str, seeds))}; budget {trained[0].spec.train.budget}, {settings}"


def _of(records: Sequence[RunRecord], label: str) -> list[RunRecord]:
    return [record for record in records if record.label == label]


def is_control(record: RunRecord) -> bool:
    """The untrained encoder, or raw coordinates."""
    return record.label in (RANDOM_INIT, RAW_FLOOR)


def _values(records: Iterable[RunRecord], value: Callable[[Accuracy], float]) -> list[float]:
    return [value(record.accuracy) for record in records if record.accuracy]


def _linear(records: Iterable[RunRecord]) -> list[float]:
    return _values(records, PROBES["linear"])


def _mean(values: Sequence[float]) -> float | None:
    return statistics.mean(values) if values else None


def _number(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):,.0f}" if values else EMPTY
