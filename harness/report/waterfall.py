"""The attribution waterfall: what each switch between the published training and this suite's brings, per method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pandas as pd

from harness.records import STAGE_SEPARATOR, ArmRecord, SpeedRecord
from harness.report.health import disturbances
from harness.stats import Ratio, paired_ratio


def waterfall(record: SpeedRecord) -> pd.DataFrame:
    """One row per stage: for every method its time per clip and the factor that the stage's switch brings; with two
    methods, how much faster the first is than the second at that stage. Every cell a string.
    """
    methods, stages = methods_of(record), record.spec["stages"]
    rows = []
    for previous, stage in pairwise([None, *stages]):
        row = {"stage": stage}
        for method in methods:
            arm = stage_arm(record, method, stage)
            before = stage_arm(record, method, previous) if previous else None
            row[f"{method}: ms/clip"] = milliseconds(arm)
            row[f"{method}: this switch"] = faster(arm, before)
            row[f"{method}: all so far"] = faster(arm, stage_arm(record, method, stages[0])) if previous else "-"
        if len(methods) == 2:
            one, other = (stage_arm(record, method, stage) for method in methods)
            row[f"{methods[0]} over {methods[1]}"] = faster(one, other)
        rows.append(row)
    return pd.DataFrame(rows)


def waterfall_notes(record: SpeedRecord) -> list[str]:
    """What the waterfall says in sentences, and the conditions."""
    return [*ratio_story(record), *left_out(record), *conditions(record)]


def conditions(record: SpeedRecord) -> list[str]:
    """Data, batch, noise, machine and versions behind a staged measurement."""
    environment, same = record.environment, record.same
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return [
        f"{same.pairs} interleaved rounds; {record.baseline} against itself {same.value:.3f} [{same.low:.3f}, "
        f"{same.high:.3f}], noise floor {record.floor:.3f}; {disturbances(record)}",
        f"data: {record.data.name}, {record.data.bodies_per_clip:.2f} present bodies per clip, every body slot "
        f"computed as published; encoder {record.spec['encoder']['size']}, batch {record.batch_size} body sequences; "
        f"loader workers: {record.spec['data']['workers']}, alive only during their own blocks",
        f"machine: {environment.device}, {environment.processor}, {environment.cores} cores, {environment.threads} "
        f"threads; {versions}; commit {environment.commit}; rules {record.rules}; {record.finished:%Y-%m-%d %H:%M} UTC",
    ]


def methods_of(record: SpeedRecord) -> list[str]:
    """Labels of the methods, in order."""
    return list(dict.fromkeys(arm.label.partition(STAGE_SEPARATOR)[0] for arm in record.arms))


def stage_arm(record: SpeedRecord, method: str, stage: str) -> ArmRecord | None:
    """The arm of a method at a stage; None where it failed."""
    return record.arm(f"{method}{STAGE_SEPARATOR}{stage}")


def stage_ratio(one: ArmRecord | None, other: ArmRecord | None) -> Ratio | None:
    """How many times faster per clip the first arm is than the second; None where one is missing."""
    return paired_ratio(other.clip_seconds, one.clip_seconds) if one and other else None


def milliseconds(arm: ArmRecord | None) -> str:
    """Median time per clip."""
    return f"{1000 / arm.clips_per_second:.3g}" if arm else "-"


def faster(one: ArmRecord | None, other: ArmRecord | None) -> str:
    """The ratio with its interval, or a dash."""
    found = stage_ratio(one, other)
    return f"{found.value:.2f}x [{found.low:.2f}, {found.high:.2f}]" if found else "-"


def ratio_story(record: SpeedRecord) -> list[str]:
    """How the ratio of two methods moves, and which switch moves it most."""
    methods, stages = methods_of(record), record.spec["stages"]
    if len(methods) != 2:
        return []
    ratios = {
        stage: found
        for stage in stages
        if (found := stage_ratio(*(stage_arm(record, method, stage) for method in methods)))
    }
    moves = {later: found for earlier, later in pairwise(stages) if (found := move(record, methods, earlier, later))}
    if not moves:
        return []
    largest = max(moves, key=lambda stage: max(moves[stage].value, 1 / moves[stage].value))
    first, last = next(iter(ratios)), list(ratios)[-1]
    predicted = flop_ratio(record, methods, last)
    lines = [
        f"{methods[0]} over {methods[1]}: {ratios[first].value:.2f}x at '{first}', {ratios[last].value:.2f}x at "
        f"'{last}'; by FLOPs {predicted:.2f}x; the switch that moves it most is '{largest}': {times(moves[largest])}"
    ]
    if "fused attention" in moves:
        lines.append(f"the attention kernel alone: {times(moves['fused attention'])} on the methods' ratio")
    return lines


def move(record: SpeedRecord, methods: Sequence[str], earlier: str, later: str) -> Ratio | None:
    """What the switch between two stages does to the ratio of two methods, by round; None where an arm failed."""
    arms = [stage_arm(record, method, stage) for stage in (earlier, later) for method in methods]
    if not all(arms):
        return None
    one, other, one_later, other_later = (arm.clip_seconds for arm in arms if arm)
    before = [b / a for a, b in zip(one, other, strict=True)]
    after = [b / a for a, b in zip(one_later, other_later, strict=True)]
    return paired_ratio(after, before)


def times(ratio: Ratio) -> str:
    """``times 1.20 [1.10, 1.31]``."""
    return f"times {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def flop_ratio(record: SpeedRecord, methods: Sequence[str], stage: str) -> float:
    """The ratio that FLOPs per clip predict."""
    one, other = (stage_arm(record, method, stage) for method in methods)
    assert one is not None
    assert other is not None
    return (other.step_flops / other.clips) / (one.step_flops / one.clips)


def left_out(record: SpeedRecord) -> list[str]:
    """Stages that a method did not get through."""
    missing = [
        f"{method} at '{stage}'"
        for method in methods_of(record)
        for stage in record.spec["stages"]
        if stage_arm(record, method, stage) is None
    ]
    return [f"failed, left out: {', '.join(missing)}"] if missing else []
