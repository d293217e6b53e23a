"""Is what a folder of records says consistent? Every number that follows from others is computed
again.

A record that its reader refuses (damaged, impossible, in another run's folder, beside another run's
weights) is a difference. What older records do not hold, and weights that were not kept, are
counted and are none.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path

from datasets.wording import counted
from harness.errors import UsageError
from harness.records.doubts import above_bound
from harness.records.pictures import differences_of_pictures
from harness.records.ratios import block_ratio, noise_floor, verdict
from harness.records.schema import (
    BOUND,
    STAGE_MARK,
    ArmRecord,
    Point,
    RunRecord,
    SpeedRecord,
    flop_ratio,
    plain_spec,
)
from harness.records.store import (
    ENCODER_FILE,
    WEIGHT_FILES,
    RecordStore,
    Refusal,
    measured_settings,
    speed_address,
)
from harness.spec.budget import StepCost, parse_budget
from harness.spec.model import EncoderSpec, digest, without_later
from harness.studies.verify_evaluations import TOLERANCE, differences_of_evaluations, whole

_VERSIONED = 2
"""First schema whose records hold the versions of the code."""
_SHA = re.compile(r"[0-9a-f]{64}")
_UNCHOSEN = 1.0
"""Regularisation of a probe where no subject is known to be another."""
_NUMBERED = re.compile(r"-v\d+-[0-9a-f]+$")
"""The end of an address that names its rule."""
_HOW_READ = (
    "fingerprint",
    "loader",
    "workers",
    "include_empty_bodies",
    "crop",
    "min_crop",
    "rotation",
    "center",
)
"""Settings of the data section that change neither which clips there are nor on
which side they stand.
"""


@dataclass(frozen=True)
class Check:
    """One kind of check over a folder.

    Attributes:
        of: what it looked at, in words: ``58 runs``.
        differences: one line each, beginning with the record's address.
        note: what could not be looked at, and why.
    """

    name: str
    of: str
    differences: list[str]
    note: str = ""

    @property
    def result(self) -> str:
        """In a few words."""
        found = counted(len(self.differences), "difference") if self.differences else "as recorded"
        return f"{found}; {self.note}" if self.note else found


def verify(folder: Path) -> list[Check]:
    """All checks of a folder; a `UsageError` where it holds no record."""
    store = RecordStore.existing(folder)
    runs, speeds = list(store.runs()), list(store.speeds())
    if not (runs or speeds or store.refused):
        raise UsageError(
            f"{folder}: expected an output folder with records, found none; check the path"
        )
    trained = [record for record in runs if record.training]
    return [
        _readable(store, len(runs) + len(speeds)),
        _each("addresses", [*runs, *speeds], lambda record: _addressed(record, store)),
        _weights(runs, store),
        _data(runs, speeds),
        _versions(runs, speeds),
        _each("accuracies", runs, _accuracies),
        _each(
            "steps, clips, curves",
            trained,
            lambda record: [*_training(record), *_timed_flops(record, speeds)],
        ),
        _each("times", runs, _times),
        _each("ratios, floors, verdicts", speeds, speed),
        *_evaluations(store.root, runs),
        *_pictures(store, runs),
    ]


def _evaluations(folder: Path, runs: Sequence[RunRecord]) -> list[Check]:
    """Of the evaluations beside the runs; no check where there are none."""
    count, lines = differences_of_evaluations(folder, runs)
    return [Check("evaluations", counted(count, "evaluation"), lines)] if count else []


def _pictures(store: RecordStore, runs: Sequence[RunRecord]) -> list[Check]:
    """Of the pictures beside the runs; no check where there are none."""
    count, lines = differences_of_pictures(store, runs)
    return [Check("pictures", counted(count, "run"), lines)] if count else []


def _each(
    name: str, records: Sequence[RunRecord | SpeedRecord], check: Callable[..., Iterable[str]]
) -> Check:
    """A check of every record by itself."""
    found = [
        f"{record.address}: {line}" for record in records for line in _lines_from(check, record)
    ]
    return Check(name, counted(len(records), "record"), found)


def _lines_from(check: Callable[..., Iterable[str]], record: RunRecord | SpeedRecord) -> list[str]:
    """What a check finds; numbers that it cannot even compute with are a difference."""
    try:
        return list(check(record))
    except (ArithmeticError, LookupError, TypeError, ValueError) as problem:
        return [f"cannot be computed from what it holds ({type(problem).__name__}: {problem})"]


def _readable(store: RecordStore, good: int) -> Check:
    """Every file is a record of its folder. Files that a run set aside are counted."""
    refused = [refusal for refusal in store.refused.values() if not refusal.weights]
    aside = len(list(store.root.glob("*/*.refused-*.json")))
    note = f"{counted(aside, 'record')} set aside and made again" if aside else ""
    bad = sum(refusal.of_record for refusal in store.refused.values())
    return Check("records", counted(good + bad, "record"), _lines_of(refused), note)


def _lines_of(refused: Iterable[Refusal]) -> list[str]:
    """Address and reason of each."""
    return [
        f"{one.address}: {one.reason}"
        if one.of_record
        else f"{one.address}/{one.path.name}: {one.reason}"  # of what lies beside a record
        for one in refused
    ]


# --- identity ---


def _addressed(record: RunRecord | SpeedRecord, store: RecordStore) -> Iterator[str]:
    """The address is the hash of the spec, by the rule that the record's own address follows."""
    expected = (
        speed_address(record.spec)
        if isinstance(record, SpeedRecord)
        else _run_address(record, store)
    )
    if expected != record.address:
        yield f"its spec has the address {expected}"


def _run_address(record: RunRecord, store: RecordStore) -> str:
    """The address of a run's spec, by the rule in the record's own address.

    Rule 1, which put no number there, hashed the spec as it was written, without the fields that
    came later.
    """
    if _NUMBERED.search(record.address):
        return record.spec.address
    return f"{record.spec.method.name}-s{record.spec.seed}-{digest(store.written(record)['spec'])}"


def _weights(runs: Sequence[RunRecord], store: RecordStore) -> Check:
    """Weights that are there are those of their record; those that are not,
    and records of before, are counted.
    """
    others = [refusal for refusal in store.refused.values() if refusal.weights]
    trained = [record for record in runs if record.training and record.status == "ok"]
    differences = [
        f"{record.address}: {line}" for record in runs for line in _named_weights(record)
    ]
    named = [
        store.folder(record.address) / name
        for record in trained
        for name in record.weights
        if name in WEIGHT_FILES
    ]
    missing, silent = (
        sum(not path.is_file() for path in named),
        sum(not record.weights for record in trained),
    )
    notes = [f"{missing} not kept here"] * bool(missing) + [
        f"SHA-256 of {silent} not recorded"
    ] * bool(silent)
    of = counted(len(named) - missing + len(others), "file")
    return Check("weights", of, [*_lines_of(others), *differences], ", ".join(notes))


def _named_weights(record: RunRecord) -> Iterator[str]:
    """A run that went well names its encoder's weights, or says that they could not be written; not
    so records of before they were named, which lack the field.
    """
    if unknown := [
        name
        for name, sha in record.weights.items()
        if name not in WEIGHT_FILES or not _SHA.fullmatch(sha)
    ]:
        yield f"weights called {', '.join(unknown)[:80]}, or without a SHA-256"
    names_them = (
        "weights" in record.model_fields_set
        and record.status == "ok"
        and record.training is not None
    )
    if names_them and not any(ENCODER_FILE in text for text in (*record.weights, *record.warnings)):
        yield f"neither {ENCODER_FILE} nor a word on why it is missing"


def _data(runs: Sequence[RunRecord], speeds: Sequence[SpeedRecord]) -> Check:
    """What was asked for under one name, split and label is the same data in every record, and
    counted alike; and so is the shared encoder that was built for it.
    """
    differences: list[str] = []
    seen: dict[str, tuple[str, str]] = {}

    def same(record: RunRecord | SpeedRecord, asked: object, what: str) -> None:
        first, of_first = seen.setdefault(digest(asked), (what, record.address))
        if what != first:
            differences.append(f"{record.address}: {what}; in {of_first} {first}")

    records: list[RunRecord | SpeedRecord] = [*runs, *speeds]
    for record in records:
        spec, found = plain_spec(record), record.data
        asked, bodies = dict(spec["data"]), spec["data"].get("include_empty_bodies")
        if asked["fingerprint"] != found.fingerprint:
            differences.append(
                f"{record.address}: data {found.fingerprint}, its spec says {asked['fingerprint']}"
            )
        named = {key: value for key, value in asked.items() if key not in _HOW_READ}
        same(
            record,
            named,
            f"data {found.fingerprint}, {found.classes} classes, {found.train_clips} +"
            f" {found.validation_clips} / {found.test_clips} clips",
        )
        same(
            record,
            [named, bodies],
            f"{found.train_sequences} body sequences, {found.bodies_per_clip:.6g} a clip",
        )
        if (encoder := record.encoder) and _shared(record):
            said = (
                f"encoder {encoder.architecture}, {encoder.parameters:,} parameters,"
                f" {encoder.tokens} tokens"
            )
            same(record, [without_later(EncoderSpec, spec["encoder"]), found.fingerprint], said)
    return Check("data", counted(len(records), "record"), differences)


def _shared(record: RunRecord | SpeedRecord) -> bool:
    """Its encoder is the one that all methods of the closed division train."""
    arm = record.method if isinstance(record, RunRecord) else record.arm(record.baseline)
    return arm is not None and arm.division == "closed"


def _versions(runs: Sequence[RunRecord], speeds: Sequence[SpeedRecord]) -> Check:
    """Every record names the software it was made with,
    and since schema 2 the versions of the code.
    """
    records: list[RunRecord | SpeedRecord] = [*runs, *speeds]
    differences = []
    for record in records:
        missing = [
            name
            for name in ("python", "torch", "numpy")
            if not record.environment.versions.get(name)
        ]
        if (
            isinstance(record, RunRecord)
            and record.schema_version >= _VERSIONED
            and not record.method.versions
        ):
            missing.append("the method's code")
        if missing:
            differences.append(f"{record.address}: no version of {', '.join(missing)}")
    old = sum(record.schema_version < _VERSIONED for record in records)
    note = (
        f"{counted(old, 'record')} of schema 1, from before versions of the code were recorded"
        if old
        else ""
    )
    return Check("versions", counted(len(records), "record"), differences, note)


# --- runs ---


def _accuracies(record: RunRecord) -> Iterator[str]:
    """Every accuracy is a number of clips out of those that there are,
    and the one that counts is in the curve.
    """
    yield from _shares(record)
    for number, one in enumerate(record.data.sets):
        yield from (f"{one.name}: {line}" for line in _shares(record.on(number)))
    if record.accuracy and record.curve and record.accuracy != selected(record).accuracy:
        best = (
            "best for selection"
            if record.data.validation_clips
            else "the last, as there are no validation clips"
        )
        yield f"the accuracy is not the one of the evaluation that is {best}"


def _shares(record: RunRecord) -> Iterator[str]:
    """Every accuracy is a number of clips out of those that there are."""
    sides = {"test": record.data.test_clips, "validation": record.data.validation_clips}
    named = {"accuracy": record.accuracy, "untrained": record.untrained}
    named |= {f"step {point.step}": point.accuracy for point in record.curve}
    for where, accuracy in named.items():
        if accuracy is None:
            continue
        if accuracy.test_clips != record.data.test_clips:
            yield (
                f"{where}: {accuracy.test_clips} test clips, the data has {record.data.test_clips}"
            )
        if accuracy.regularisation not in (*record.spec.probe.regularisation, _UNCHOSEN):
            yield (
                f"{where}: regularisation {accuracy.regularisation:g}, which was not to choose from"
            )
        for side, clips in sides.items():
            for probe in ("linear", "knn"):
                share = getattr(accuracy, f"{probe}_{side}")
                if share is not None and not whole(share * clips):
                    yield (
                        f"{where}: {probe} {side} accuracy {share:g} is no number of {clips} clips"
                    )


def selected(record: RunRecord) -> Point:
    """The evaluation that counts: the best for selection,
    of equals or without validation clips the last.
    """

    def better(one: Point, other: Point) -> Point:
        first, second = one.accuracy.selection, other.accuracy.selection
        return one if first is not None and second is not None and first > second else other

    return reduce(better, record.curve) if record.data.validation_clips else record.curve[-1]


def _training(record: RunRecord) -> Iterator[str]:
    """Steps, clips and time rise together along the curve and the losses,
    and end where the training did.
    """
    done = record.training
    assert done is not None
    spent = [(point.step, point.clips_seen, point.seconds) for point in record.curve]
    if any(
        a >= b
        for earlier, later in pairwise([(0, 0.0, 0.0), *spent])
        for a, b in zip(earlier, later, strict=True)
    ):
        yield "the evaluations of the curve are not in order"
    blocks = [means["step"] for means in done.losses]
    if not all(math.isfinite(means["loss"]) for means in done.losses):
        yield "a loss that is no finite number, with which training ends"
    if any(earlier >= later for earlier, later in pairwise([0.0, *blocks])):
        yield "the losses are not in order"
    if record.status != "ok":
        return
    if spent and spent[-1] != (done.steps, done.clips_seen, done.seconds):
        yield f"the curve ends after {spent[-1][0]} steps, the training after {done.steps}"
    if not blocks or blocks[-1] != done.steps:
        yield (
            f"the losses end after {blocks[-1] if blocks else 0:g} steps, the training after"
            f" {done.steps}"
        )
    per_step = record.spec.train.batch_size / record.data.bodies_per_clip
    seen = [(done.steps, done.clips_seen), *((step, clips) for step, clips, _ in spent)]
    if not all(_close(clips, step * per_step) for step, clips in seen):
        yield f"clips seen are not steps times {per_step:g} clips"
    if (steps := budgeted(record)) not in (None, done.steps):
        yield f"{done.steps} steps, the budget {record.spec.train.budget} gives {steps}"


def budgeted(record: RunRecord) -> int | None:
    """Steps that the budget gives; None for one in seconds where the step time
    that it was divided by was not kept.
    """
    done, budget, batch = (
        record.training,
        parse_budget(record.spec.train.budget),
        record.spec.train.batch_size,
    )
    if done is None or (budget.unit == "s" and not done.interleaved_step_seconds):
        return None
    return budget.steps(
        StepCost(
            epochs=batch / record.data.train_sequences,
            clips=batch / record.data.bodies_per_clip,
            seconds=done.interleaved_step_seconds or math.nan,
            flops=done.flops / done.steps,
        )
    )


def _timed_flops(record: RunRecord, speeds: Sequence[SpeedRecord]) -> Iterator[str]:
    """A step has the FLOPs that a measurement of this row counted,
    where there is one of its settings and code.
    """
    done, settings, code = record.training, measured_settings(record), record.method.versions
    assert done is not None
    counts = [
        arm.step_flops
        for speed in speeds
        if (arm := speed.arm(record.label))
        and not (speed.stages or speed.spec.get("memory_cap"))
        and measured_settings(speed) == settings
        and all(
            code.get(module, version) == version
            for module, version in speed.spec.get("versions", {}).items()
        )
    ]
    if counts and not any(_close(done.flops, done.steps * flops) for flops in counts):
        yield (
            f"{done.flops / done.steps:.6g} FLOPs a step, counted when it was timed {counts[0]:.6g}"
        )


def _times(record: RunRecord) -> Iterator[str]:
    """The phases fit into the wall time, and what no phase claims is the rest."""
    if record.finished < record.started:
        yield "finished before it started"
    if record.training and record.training.seconds > record.wall_seconds * (1 + TOLERANCE):
        yield f"{record.training.seconds:.1f} s of training in {record.wall_seconds:.1f} s"
    elif not record.wall_seconds and any(record.phases.values()):
        yield "phases that took no time"
    if record.wall_seconds and not math.isclose(
        record.untracked, 1 - sum(record.phases.values()) / record.wall_seconds, abs_tol=TOLERANCE
    ):
        yield f"untracked {record.untracked:.3f} is not what the phases leave of the wall time"


# --- speed ---


def speed(record: SpeedRecord) -> Iterator[str]:
    """Ratios follow from the blocks, the floor from the same-against-same ratio,
    verdicts from both.
    """
    if record.finished < record.started:
        yield "finished before it started"
    baseline = record.arm(record.baseline)
    if baseline is None:
        yield f"the baseline {record.baseline} was not measured"
        return
    if not _close(record.floor, max(1.0, noise_floor(record.same))):
        yield (
            f"noise floor {record.floor:.3f}, same against same gives"
            f" {noise_floor(record.same):.3f}"
        )
    if not _close(record.same.value**2, record.same.low * record.same.high):
        yield f"same against same {record.same.value:.3f} is not the middle of its interval"
    if record.batch_size != record.spec["train"]["batch_size"] and not record.spec.get(
        "memory_cap"
    ):
        yield f"batch {record.batch_size}, its spec says {record.spec['train']['batch_size']}"
    if record.bodies_per_clip != record.data.bodies_per_clip:
        yield (
            f"{record.bodies_per_clip:.3f} bodies per clip, the data has"
            f" {record.data.bodies_per_clip:.3f}"
        )
    timed, all_there = _blocks_of(record), len(record.arms) == len(record.spec.get("methods", ()))
    if record.health and (
        record.health.blocks < timed or (all_there and record.health.blocks > timed)
    ):
        yield f"{record.health.blocks} blocks were watched, {timed} are there"
    if record.same.pairs != (len(record.rounds) or len(baseline.blocks)):
        yield (
            f"{record.same.pairs} rounds of the baseline against itself, {len(baseline.blocks)} of"
            " its blocks"
        )
    for arm in record.arms:
        yield from (f"{arm.label}: {line}" for line in _arm(arm, baseline, record))


def _blocks_of(record: SpeedRecord) -> int:
    """How many count: those of all rows, of rows in one process beside several ranks, and of the
    baseline against itself.
    """
    again = sum(record.rounds) or record.same.pairs
    alone = [arm.over_one_process.pairs for arm in record.arms if arm.over_one_process]
    return sum(len(arm.blocks) for arm in record.arms) + sum(alone) + again


def _row(arm: ArmRecord, record: SpeedRecord) -> Iterator[str]:
    """A row is one that was asked for, timed on clips, with FLOPs where its modules have some."""
    method = arm.label.partition(STAGE_MARK)[0]
    asked = {name.partition(":")[0] for name in record.spec.get("methods", ())}
    if asked and method.partition(":")[0] not in asked:
        yield "no method that its spec names"
    if method == BOUND and not arm.control:
        yield "the decoder-free bound as a method"
    if "clips" in arm.model_fields_set and not (arm.clips and arm.batch_size):
        yield f"{arm.clips:g} clips a step of {arm.batch_size} body sequences"
    elif (
        arm.clips
        and not record.stages
        and not _close(arm.clips * record.bodies_per_clip, arm.batch_size)
    ):
        yield (
            f"{arm.clips:g} clips a step, not {arm.batch_size / record.bodies_per_clip:g} of as"
            " many body sequences"
        )
    if arm.forward_shares and not arm.step_flops:
        yield "no FLOPs, but shares of them"


def _arm(arm: ArmRecord, baseline: ArmRecord, record: SpeedRecord) -> Iterator[str]:
    yield from _row(arm, record)
    # Records of before clips were kept hold one batch for all arms.
    clips, others = (
        one.clips or record.batch_size / record.bodies_per_clip for one in (arm, baseline)
    )
    expected = block_ratio(
        [s / others for s in baseline.blocks], [s / clips for s in arm.blocks], record.rounds
    )
    for name in ("value", "low", "high", "pairs"):
        found, computed = getattr(arm.ratio, name), getattr(expected, name)
        if not _close(found, computed):
            yield f"ratio {found:.4g} ({name}), its blocks give {computed:.4g}"
    middle = statistics.median(arm.blocks)
    if not _close(arm.step_seconds, middle):
        yield f"step time {arm.step_seconds:.4g} s, its blocks give {middle:.4g} s"
    if not _close(arm.clips_per_second, clips / middle):
        yield f"{arm.clips_per_second:.4g} clips/s, its blocks give {clips / middle:.4g}"
    predicted = flop_ratio(arm.step_flops / clips, baseline.step_flops / others)
    if (arm.flop_ratio is None) != (predicted is None) or not _close(
        arm.flop_ratio or 0, predicted or 0
    ):
        yield f"FLOP ratio {arm.flop_ratio}, its FLOPs give {predicted}"
    for doubt in above_bound(arm, record):
        if doubt not in arm.doubts:
            yield f"no doubt ({doubt.kind}), its numbers give one: {doubt.text}"
    disturbed, doubted = (
        record.health.disturbed_share if record.health else 0.0,
        bool(arm.doubts or baseline.doubts),
    )
    judged = verdict(arm.ratio, record.floor, disturbed, doubted=doubted)
    if arm.verdict != judged:
        yield f"verdict {arm.verdict}, its ratio and the floor give {judged}"


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE)
