"""Time to target: training seconds until the probes first reach an accuracy that was frozen beforehand (RULES.md)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field

from harness.errors import UsageError
from harness.records.ratios import paired_ratio
from harness.records.schema import RANDOM_INIT, Ratio, RunRecord, SpeedRecord
from harness.records.store import measured_settings, now, read_file, write_atomically
from harness.spec.budget import parse_budget
from harness.spec.model import Section, build
from harness.spec.yaml_text import read_yaml

VERSION = 2
"""2: what runs share no longer holds the data's name, only what the data is."""
NO_TIMES: Mapping[str, float] = {}


class Target(Section):
    """A frozen accuracy to reach.

    Attributes:
        accuracy: linear test accuracy, a share: the median over the reference's seeds at the end of its budget.
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


class Reach(BaseModel):
    """How a row fared against an accuracy.

    Attributes:
        clips: clips seen at the first evaluation that reached it, by seed; seeds that missed are absent.
        seconds: the same on the training clock, at the interleaved step time.
        before: seconds at the evaluation before that one, 0 where it was the first: the accuracy was reached after it.
        runs: number of runs, failed and diverged ones among them.
    """

    label: str
    clips: dict[int, float]
    seconds: dict[int, float]
    before: dict[int, float]
    runs: int

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
    """The target that a reference row sets: the median over its seeds of the accuracy at its last evaluation."""
    rows = finished(records, reference)
    if not rows:
        labels = ", ".join(sorted({r.label for r in records if r.status == "ok" and r.curve})) or "none"
        raise UsageError(f"no finished run of {reference!r} to set a target (there are: {labels})")
    if rows[0].method.division == "open":
        raise UsageError(f"{reference!r} brings its own encoder (open division): it sets no target for the others")
    rows = [record for record in rows if at_fixed_clips(record)]
    if not rows:
        raise UsageError(
            f"runs of {reference!r} were not evaluated at fixed clips seen; run with --set probe.every=1000clips, say"
        )
    if len({record.spec.held_equal for record in rows}) > 1:
        raise UsageError(f"runs of {reference!r} differ in more than the seed; keep one setting per folder")
    spec = rows[0].spec
    return Target(
        version=VERSION, reference=reference, accuracy=statistics.median(final(record) for record in rows),
        seeds=tuple(sorted(record.spec.seed for record in rows)), budget=spec.train.budget, data=spec.data.name,
        fingerprint=spec.data.fingerprint, split=spec.data.split, encoder=spec.encoder.size,
        held_equal=spec.held_equal, frozen=now().isoformat(),
    )  # fmt: skip


def at_fixed_clips(record: RunRecord) -> bool:
    """The run was evaluated at the same numbers of clips seen as every other run with these settings."""
    every = record.spec.probe.every
    return bool(every) and parse_budget(every).unit == "clips"


def write_target(path: Path, target: Target) -> None:
    """Freeze a target in a file that is not there yet; a `UsageError` keeps anyone from moving a target."""
    if path.exists():
        raise UsageError(f"{path} exists: a frozen target is not moved; choose another name or remove the file")
    text = yaml.safe_dump(target.model_dump(mode="json"), sort_keys=False)
    write_atomically(path, text.encode())


def read_target(path: Path) -> Target:
    """A frozen target; every problem is a one-line `UsageError`."""
    try:
        content: Any = read_yaml(read_file(path).decode())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"target {path} cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise UsageError(f"target {path}: expected a mapping as `harness target --freeze` writes it")
    target = build(Target, content, f"target {path}")
    if not 1 <= target.version <= VERSION:
        raise UsageError(f"target {path} has version {target.version}, expected 1 to {VERSION}; freeze it again")
    return target


def held_equal(record: RunRecord, target: Target) -> bool:
    """The run shares everything with the target's runs but method and seed, by the rule of the target's version."""
    spec = record.spec
    return target.held_equal == (spec.held_equal_by_rule_1 if target.version == 1 else spec.held_equal)


def comparable(records: Iterable[RunRecord], target: Target) -> list[RunRecord]:
    """Runs of closed-division methods that share everything with the reference's runs but method and seed;
    interrupted ones do not count, failed and diverged ones do: as misses."""
    return [
        record
        for record in records
        if held_equal(record, target)
        and record.status != "interrupted"
        and not record.method.control
        and record.method.division == "closed"
    ]


def reach(records: Sequence[RunRecord], label: str, accuracy: float, times: Mapping[str, float] = NO_TIMES) -> Reach:
    """When the seeds of a row first reached an accuracy; `times` as in `step_seconds`."""
    rows = [record for record in records if record.label == label]
    clips, seconds, before = {}, {}, {}
    for record in finished(rows, label):
        seed, step = record.spec.seed, step_seconds(record, times)
        for previous, point in pairwise([None, *record.curve]):
            if point and point.accuracy.linear_test >= accuracy:
                clips[seed], seconds[seed] = point.clips_seen, point.step * step
                before[seed] = previous.step * step if previous else 0.0
                break
    return Reach(label=label, clips=clips, seconds=seconds, before=before, runs=len(rows))


def speedup(one: Reach, reference: Reach) -> Ratio | None:
    """Seconds of the reference over seconds of the row, paired by seed; None unless all of both got there.

    The interval covers the seeds and the time between evaluations: at its lower end the reference had reached the
    accuracy right after the evaluation before, at its upper end the row had.
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


def interval(found: Reach) -> tuple[float, float]:
    """95 % t interval of the geometric mean of the seconds, with the time between evaluations in it."""
    ones = [1.0] * len(found.seconds)
    if len(ones) < 2:
        return 0.0, math.inf
    low = paired_ratio(list(found.before.values()), ones).low if all(found.before.values()) else 0.0
    return low, paired_ratio(list(found.seconds.values()), ones).high


def ladder(records: Sequence[RunRecord], target: Target, rungs: int = 8) -> list[float]:
    """Accuracies from just above the lowest evaluation to the best one, the target among them."""
    points = [point.accuracy.linear_test for record in records if record.status == "ok" for point in record.curve]
    low, high = min(points), max(points)
    steps = [low + (high - low) * (index + 1) / rungs for index in range(rungs - 1)]
    apart = [step for step in (*steps, high) if not math.isclose(step, target.accuracy)]
    return sorted([*apart, target.accuracy])


def finished(records: Iterable[RunRecord], label: str) -> list[RunRecord]:
    """Finished runs of a row that were evaluated."""
    return [record for record in records if record.label == label and record.status == "ok" and record.curve]


def final(record: RunRecord) -> float:
    """Linear test accuracy at the last evaluation."""
    return record.curve[-1].accuracy.linear_test


def step_seconds(record: RunRecord, times: Mapping[str, float] = NO_TIMES) -> float:
    """Step time of a run's row: from the interleaved measurement in ``times`` (`step_times`), or the one that the run
    was planned with."""
    assert record.training is not None
    planned = record.training.interleaved_step_seconds or record.training.step_seconds
    return times.get(record.label, planned)


def step_times(speeds: Iterable[SpeedRecord], records: Sequence[RunRecord]) -> dict[str, float]:
    """Interleaved step time by row: of the newest measurement that has every row of these runs, made with their
    settings on their machine. Empty where there is none.
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
    newest = max(fitting, key=lambda speed: speed.finished, default=None)
    return {arm.label: arm.step_seconds for arm in newest.arms} if newest else {}


def untrained(records: Iterable[RunRecord], target: Target) -> float | None:
    """Mean accuracy of the untrained encoder on the target's data, for scale."""
    found = [
        record.accuracy.linear_test
        for record in records
        if record.label == RANDOM_INIT and record.accuracy
        and record.spec.data.fingerprint == target.fingerprint and record.spec.encoder.size == target.encoder
    ]  # fmt: skip
    return statistics.mean(found) if found else None
