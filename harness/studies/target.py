"""Time to target: training seconds until the probes first reach an accuracy
that was frozen beforehand (RULES.md).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, Field
from scipy.special import stdtrit

from harness.errors import UsageError
from harness.records.ratios import block_ratio, paired_ratio
from harness.records.schema import RANDOM_INIT, Ratio, RunRecord, SpeedRecord
from harness.records.store import measured_settings, now, read_file, write_atomically
from harness.spec.budget import parse_budget
from harness.spec.model import Section, build, row_named
from harness.spec.yaml_text import read_yaml

VERSION = 3
"""2: what runs share no longer holds the data's name, only what the data is. 3: rules 5
(benchmarks/RULES.md), by which the next evaluation confirms a crossing; targets of before are
judged by the rules that they were frozen under.
"""
_CONFIRMED = 3
"""First version that asks for it."""
_RUNGS = 8
"""Of the ladder of accuracies, the target apart."""
_MOST_DIVISIONS = 9_999
"""Divisions of runs into two groups that a test goes through, or draws."""
NO_TIMES: Mapping[str, float] = {}


class Target(Section):
    """A frozen accuracy to reach.

    Attributes:
        accuracy: linear test accuracy, a share: the median over the reference's seeds at the end of
            its budget; since version 3 of the lower one of each seed's last two evaluations.
        held_equal: hash of everything that runs must share with the reference's to be judged by it.
    """

    version: int
    reference: str
    accuracy: float = Field(ge=0, le=1, allow_inf_nan=False)
    seeds: tuple[int, ...]
    budget: str
    data: str
    fingerprint: str
    split: str
    encoder: str
    held_equal: str
    frozen: str

    @property
    def confirmed(self) -> bool:
        """A crossing counts when the next evaluation confirms it."""
        return self.version >= _CONFIRMED


class Reach(BaseModel):
    """How a row fared against an accuracy.

    Attributes:
        clips: clips seen at the first evaluation that reached it, by seed; seeds that missed are
            absent.
        seconds: the same on the training clock, at the interleaved step time.
        before: seconds at the evaluation before that one, 0 where it was the first: the accuracy
            was reached after it.
        runs: number of runs, failed and diverged ones among them.
        end: seconds at the last evaluation of a finished run, up to which a miss is known to be
            one; 0 without any.
    """

    label: str
    clips: dict[int, float]
    seconds: dict[int, float]
    before: dict[int, float]
    runs: int
    end: float = 0.0

    @property
    def all_reached(self) -> bool:
        """Every seed got there; only then is there a mean time."""
        return self.runs > 0 and len(self.seconds) == self.runs

    @property
    def median_seconds(self) -> float | None:
        """Median over seeds, a miss counting as never; None when that is half of them or more."""
        times = sorted([*self.seconds.values(), *[math.inf] * (self.runs - len(self.seconds))])
        middle = statistics.median(times) if times else math.inf
        return middle if math.isfinite(middle) else None

    @property
    def mean_seconds(self) -> float | None:
        """Geometric mean over seeds; None when a seed missed."""
        return statistics.geometric_mean(self.seconds.values()) if self.all_reached else None


def freeze(records: Sequence[RunRecord], reference: str) -> Target:
    """The target that a reference row sets, however its options are written:
    the median over its seeds of the accuracy at its last evaluation.
    """
    methods = ((record.label, record.spec.method) for record in records)
    reference = row_named(reference, methods) or reference
    rows = finished(records, reference)
    if not rows:
        labels = (
            ", ".join(sorted({r.label for r in records if r.status == "ok" and r.curve})) or "none"
        )
        raise UsageError(
            f"no finished run of {reference!r} to set a target (there are: {labels}); see"
            " --reference"
        )
    if rows[0].method.division == "open":
        raise UsageError(
            f"{reference!r} brings its own encoder (open division): it sets no target for the"
            " others"
        )
    places = {unit: [row for row in rows if _places(row) == unit] for unit in ("clips", "s")}
    rows = places["clips"] or places["s"]  # a folder may hold runs under both kinds of budget
    if not rows:
        raise UsageError(
            f"runs of {reference!r} were not evaluated at fixed clips seen, or seconds; run with"
            " --set probe.every=1000clips, say"
        )
    if len({record.spec.held_equal for record in rows}) > 1:
        raise UsageError(
            f"runs of {reference!r} differ in more than the seed; keep one setting per folder"
        )
    spec = rows[0].spec
    if short := [record for record in rows if len(record.curve) < 2]:
        raise UsageError(
            f"{short[0].address} has one evaluation: nothing confirms what it reaches; run with a"
            " smaller probe.every"
        )
    # what a run holds at its end: the lower one of its last two evaluations
    held = [min(point.accuracy.linear_test for point in record.curve[-2:]) for record in rows]
    return Target(
        version=VERSION,
        reference=reference,
        accuracy=statistics.median(held),
        seeds=tuple(sorted(record.spec.seed for record in rows)),
        budget=spec.train.budget,
        data=spec.data.name,
        fingerprint=spec.data.fingerprint,
        split=spec.data.split,
        encoder=spec.encoder.size,
        held_equal=spec.held_equal,
        frozen=now().isoformat(),
    )


def _places(record: RunRecord) -> str:
    """The unit in which the run's evaluations stand at fixed places: ``clips`` seen and training
    seconds (``s``, at the interleaved step time) are the same for every run with these settings.
    """
    return parse_budget(record.spec.probe.every or record.spec.train.budget).unit


def write_target(path: Path, target: Target) -> None:
    """Freeze a target in a file that is not there yet;
    a `UsageError` keeps anyone from moving a target.
    """
    if path.exists():
        raise UsageError(
            f"{path} exists: a frozen target is not moved; choose another name or remove the file"
        )
    text = yaml.safe_dump(target.model_dump(mode="json"), sort_keys=False)
    write_atomically(path, text.encode())


def _reason(error: Exception) -> str:
    """An exception's first line, without the path that the message names already."""
    return (isinstance(error, OSError) and error.strerror) or str(error).splitlines()[0]


def read_target(path: Path) -> Target:
    """A frozen target; every problem is a one-line `UsageError`."""
    try:
        content: Any = read_yaml(read_file(path).decode())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"target {path} cannot be read ({_reason(error)}); `target --freeze` writes one"
        ) from None
    if not isinstance(content, dict):
        raise UsageError(
            f"target {path}: expected a mapping as `harness target --freeze` writes it"
        )
    target = build(Target, content, f"target {path}")
    if not 1 <= target.version <= VERSION:
        raise UsageError(
            f"target {path} has version {target.version}, expected 1 to {VERSION}; freeze it again"
        )
    return target


def _held_equal(record: RunRecord, target: Target) -> bool:
    """The run shares everything with the target's runs but method and seed,
    by the rule of the target's version.
    """
    spec = record.spec
    return target.held_equal == (
        spec.held_equal_by_rule_1 if target.version == 1 else spec.held_equal
    )


def eligible_runs(records: Iterable[RunRecord], target: Target) -> list[RunRecord]:
    """Runs of closed-division methods that share everything with the reference's runs but method
    and seed; interrupted ones do not count, failed and diverged ones do: as misses.
    """
    return [
        record
        for record in records
        if _held_equal(record, target)
        and record.status != "interrupted"
        and not record.method.control
        and record.method.division == "closed"
    ]


def reach(
    records: Sequence[RunRecord],
    label: str,
    accuracy: float,
    times: Mapping[str, float] = NO_TIMES,
    *,
    confirmed: bool = False,
) -> Reach:
    """When the seeds of a row first reached an accuracy.

    Args:
        times: as in `step_seconds`.
        confirmed: an evaluation counts when the next one is at or above the accuracy too.
    """
    rows = [record for record in records if record.label == label]
    clips, seconds, before, end = {}, {}, {}, 0.0
    for record in finished(rows, label):
        seed, step = record.spec.seed, step_seconds(record, times)
        end = max(end, record.curve[-1].step * step)
        if (
            first := crossing(
                [point.accuracy.linear_test for point in record.curve], accuracy, confirmed
            )
        ) is not None:
            point = record.curve[first]
            clips[seed], seconds[seed] = point.clips_seen, point.step * step
            before[seed] = record.curve[first - 1].step * step if first else 0.0
    return Reach(label=label, clips=clips, seconds=seconds, before=before, runs=len(rows), end=end)


def crossing(curve: Sequence[float], accuracy: float, confirmed: bool) -> int | None:
    """Index of the first evaluation at or above an accuracy,
    and where asked for the next one too; None without one.
    """
    above = [value >= accuracy for value in curve]
    counts = [now and then for now, then in pairwise(above)] if confirmed else above
    return counts.index(True) if True in counts else None


def speedup(one: Reach, reference: Reach) -> Ratio | None:
    """Seconds of the reference over seconds of the row, paired by seed; None unless all of both got
    there.

    The interval covers the seeds and the time between evaluations: at its lower end the reference
    had reached the accuracy right after the evaluation before, at its upper end the row had.
    """
    seeds = sorted(one.seconds.keys() & reference.seconds.keys())
    if not (one.all_reached and reference.all_reached and len(seeds) >= 2):
        return None
    own, other = ([row.seconds[seed] for seed in seeds] for row in (one, reference))
    own_before, other_before = ([row.before[seed] for seed in seeds] for row in (one, reference))
    found = paired_ratio(other, own)
    low = paired_ratio(other_before, own).low if all(other_before) else 0.0
    high = paired_ratio(other, own_before).high if all(own_before) else math.inf
    return Ratio(value=found.value, low=low, high=high, pairs=found.pairs)


def combined_speedup(one: Reach, reference: Reach, per_step: Ratio) -> Ratio | None:
    """Seconds of the reference over seconds of the row: of steps, over seeds, and of seconds per
    step, measured.

    The variances of the logs are added, with Welch-Satterthwaite degrees of freedom; the interval
    holds the time between evaluations as `speedup` does. None unless all of both got there, two
    seeds of each at least.

    Args:
        per_step: seconds per step of the reference over those of the row, from the interleaved
            measurement.
    """
    if not (one.all_reached and reference.all_reached) or min(one.runs, reference.runs) < 2:
        return None
    own, other = (
        np.log(list(row.clips.values())) for row in (one, reference)
    )  # as many a step on either side
    value = math.exp(float(other.mean() - own.mean())) * per_step.value
    parts = [(float(logs.var(ddof=1)) / len(logs), len(logs) - 1) for logs in (own, other)]
    parts.append((_log_error(per_step) ** 2, per_step.pairs - 1))
    total = sum(variance for variance, _ in parts)
    freedom = total**2 / sum(variance**2 / count for variance, count in parts) if total else 1.0
    wide = math.exp(float(stdtrit(freedom, 0.975)) * math.sqrt(total))
    late = _geometric(reference.before) / _geometric(reference.seconds)
    early = _geometric(one.before) / _geometric(one.seconds)
    return Ratio(
        value=value,
        low=value * late / wide,
        high=value * wide / early if early else math.inf,
        pairs=one.runs,
    )


def _log_error(ratio: Ratio) -> float:
    """Standard error of a ratio's logarithm, from its t interval."""
    return math.log(ratio.high / ratio.low) / (2 * float(stdtrit(ratio.pairs - 1, 0.975)))


def _geometric(seconds: Mapping[int, float]) -> float:
    """Geometric mean over seeds; 0 where one is 0."""
    return statistics.geometric_mean(seconds.values()) if all(seconds.values()) else 0.0


def at_most(one: Reach, reference: Reach) -> float | None:
    """Upper bound of the speedup of a row with misses: with each of them at the end of its run.

    None where the reference missed too, or no run of the row was finished.
    """
    if one.all_reached or not reference.all_reached or not one.end:
        return None
    missed = [one.end] * (one.runs - len(one.seconds))
    mean = statistics.geometric_mean([*one.seconds.values(), *missed])
    return _geometric(reference.seconds) / mean


@dataclass(frozen=True)
class Test:
    """Do two rows differ in when they get there?

    Attributes:
        p: two-sided, over divisions of their runs into two groups; `smallest`: the smallest that
            there can be.
    """

    __test__ = False  # nothing for pytest

    p: float
    smallest: float


def permutation_test(one: Reach, other: Reach) -> Test | None:
    """Log-rank statistic of two rows' times, misses right-censored at their end; None with fewer
    than two runs each.

    Over all divisions of the runs into groups of these sizes, or `_MOST_DIVISIONS` drawn ones where
    there are more.
    """
    if min(one.runs, other.runs) < 2 or not (one.end and other.end):
        return None
    scores = np.array(log_rank_scores(one, other))
    divisions = math.comb(len(scores), one.runs)
    if divisions <= _MOST_DIVISIONS:
        groups = np.array(
            list(combinations(range(len(scores)), one.runs))
        )  # that of the rows themselves first
    else:
        generator = np.random.default_rng(0)
        drawn = [generator.permutation(len(scores))[: one.runs] for _ in range(_MOST_DIVISIONS)]
        groups = np.array([range(one.runs), *drawn])
    found = np.abs(scores[groups].sum(1))
    smallest = (2 if 2 * one.runs == len(scores) else 1) / divisions
    return Test(float(np.mean(found >= found[0] - 1e-9)), max(smallest, 1 / len(groups)))


def log_rank_scores(*rows: Reach) -> list[float]:
    """Of every run, row by row: 1 if it got there, less what was to be expected until its time.

    Their sum over a group is the log-rank statistic's numerator: who got there less who was
    expected to.
    """
    times, there = list[float](), list[bool]()
    for row in rows:
        misses = row.runs - len(row.seconds)
        times += [*row.seconds.values(), *[row.end] * misses]
        there += [*[True] * len(row.seconds), *[False] * misses]
    rates = {
        now: (
            sum(got and time == now for time, got in zip(times, there, strict=True))
            / sum(time >= now for time in times)
        )
        for now in set(times)
    }
    return [
        float(got) - sum(rate for now, rate in rates.items() if now <= time)
        for time, got in zip(times, there, strict=True)
    ]


def interval(found: Reach) -> tuple[float, float]:
    """95 % t interval of the geometric mean of the seconds,
    with the time between evaluations in it.
    """
    ones = [1.0] * len(found.seconds)
    if len(ones) < 2:
        return 0.0, math.inf
    low = paired_ratio(list(found.before.values()), ones).low if all(found.before.values()) else 0.0
    return low, paired_ratio(list(found.seconds.values()), ones).high


def ladder(records: Sequence[RunRecord], target: Target) -> list[float]:
    """Accuracies from just above the lowest evaluation to the best one, the target among them."""
    points = [
        point.accuracy.linear_test
        for record in records
        if record.status == "ok"
        for point in record.curve
    ]
    low, high = min(points), max(points)
    steps = [low + (high - low) * (index + 1) / _RUNGS for index in range(_RUNGS - 1)]
    apart = [step for step in (*steps, high) if not math.isclose(step, target.accuracy)]
    return sorted([*apart, target.accuracy])


def finished(records: Iterable[RunRecord], label: str) -> list[RunRecord]:
    """Finished runs of a row that were evaluated."""
    return [
        record
        for record in records
        if record.label == label and record.status == "ok" and record.curve
    ]


def final(record: RunRecord) -> float:
    """Linear test accuracy at the last evaluation."""
    return record.curve[-1].accuracy.linear_test


def step_seconds(record: RunRecord, times: Mapping[str, float] = NO_TIMES) -> float:
    """Step time of a run's row: from the interleaved measurement in ``times`` (`step_times`), or
    the one that the run was planned with.
    """
    assert record.training is not None
    planned = record.training.interleaved_step_seconds or record.training.step_seconds
    return times.get(record.label, planned)


def timing(speeds: Iterable[SpeedRecord], records: Sequence[RunRecord]) -> SpeedRecord | None:
    """The newest measurement that has every row of these runs,
    made with their settings on their machine.
    """
    first = records[0]
    settings = measured_settings(first)
    fitting = [
        speed
        for speed in speeds
        if measured_settings(speed) == settings
        and not speed.spec.get("memory_cap")
        and not speed.spec.get("stages")
        and speed.environment.fingerprint == first.environment.fingerprint
        and all(speed.arm(record.label) for record in records)
    ]
    return max(fitting, key=lambda speed: speed.finished, default=None)


def step_times(speeds: Iterable[SpeedRecord], records: Sequence[RunRecord]) -> dict[str, float]:
    """Interleaved step time by row, of the measurement that is `timing`;
    empty where there is none.
    """
    newest = timing(speeds, records)
    return arm_times(newest) if newest else {}


def arm_times(speed: SpeedRecord) -> dict[str, float]:
    """Interleaved step time by row."""
    return {arm.label: arm.step_seconds for arm in speed.arms}


def steps_ratio(speed: SpeedRecord, one: str, reference: str) -> Ratio | None:
    """Seconds per step of the reference's arm over those of another one; None where one was not,
    or only once.
    """
    arms = speed.arm(one), speed.arm(reference)
    if not (arms[0] and arms[1]) or len(arms[0].blocks) < 2:
        return None
    return block_ratio(arms[1].blocks, arms[0].blocks, speed.rounds)


def untrained(records: Iterable[RunRecord], target: Target) -> float | None:
    """Mean accuracy of the untrained encoder on the target's data, for scale."""
    found = [
        record.accuracy.linear_test
        for record in records
        if record.label == RANDOM_INIT
        and record.accuracy
        and record.spec.data.fingerprint == target.fingerprint
        and record.spec.encoder.size == target.encoder
    ]
    return statistics.mean(found) if found else None


def landmarks(records: Iterable[RunRecord], target: Target) -> dict[str, float]:
    """Accuracies that times are seen against: the target, and the untrained encoder's if known."""
    chance = untrained(records, target)
    return {"target": target.accuracy} | ({} if chance is None else {"untrained": chance})
