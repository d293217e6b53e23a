"""The attribution waterfall: what each switch between the published training and this suite's brings, per method."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from harness.records.ratios import disturbed_share, inside_floor, mostly_disturbed, paired_ratio, speedup
from harness.records.schema import Ratio, SpeedRecord, at_stage
from harness.report.health import disturbances, rounds_text
from harness.report.table import in_doubt


def waterfall(record: SpeedRecord) -> pd.DataFrame:
    """One row per stage: for every method its time per clip and the factor that the stage's switch brings; with two
    methods, how much faster the first is than the second at that stage. Every cell a string.
    """
    methods, stages = record.rows, record.stages
    rows = []
    for previous, stage in zip([None, *stages[:-1]], stages, strict=True):
        row = {"stage": stage}
        for method in methods:
            here = at_stage(method, stage)
            row[f"{method}: ms/clip"] = milliseconds(record, here)
            row[f"{method}: this switch"] = faster(record, here, at_stage(method, previous)) if previous else "-"
            row[f"{method}: all so far"] = faster(record, here, at_stage(method, stages[0])) if previous else "-"
        if len(methods) == 2:
            row[" over ".join(methods)] = faster(record, *(at_stage(method, stage) for method in methods))
        rows.append(row)
    return pd.DataFrame(rows)


def waterfall_notes(record: SpeedRecord) -> list[str]:
    """What the waterfall says in sentences, and the conditions."""
    return [*(disturbed(record) or ratio_story(record)), *left_out(record), *conditions(record)]


def disturbed(record: SpeedRecord) -> list[str]:
    """Why nothing is said of a measurement whose blocks were mostly disturbed."""
    if not mostly_disturbed(record):
        return []
    return [
        f"not measurable here: {disturbed_share(record):.0%} of the blocks stayed disturbed, which the intervals above "
        "do not tell; measure again on a quiet machine"
    ]


def conditions(record: SpeedRecord) -> list[str]:
    """Data, batch, noise, machine and versions behind a staged measurement."""
    environment, same = record.environment, record.same
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return [
        f"{rounds_text(record)}; {record.baseline} against itself {same.value:.3f} [{same.low:.3f}, "
        f"{same.high:.3f}], (noise) marks what touches the noise floor {record.floor:.3f}; {disturbances(record)}",
        f"data: {record.data.name}, {record.data.bodies_per_clip:.2f} present bodies per clip, every body slot "
        f"computed as published; encoder {record.spec['encoder']['size']}, batch {record.batch_size} body sequences; "
        f"loader workers: {record.spec['data']['workers']}, alive only during their own blocks",
        *in_doubt([], record),
        *_before_rules_3(record),
        f"machine: {environment.device}, {environment.processor}, {environment.cores} cores, {environment.threads} "
        f"threads; {versions}; commit {environment.commit}; rules {record.rules}; {record.finished:%Y-%m-%d %H:%M} UTC",
    ]


def _before_rules_3(record: SpeedRecord) -> list[str]:
    """What the stage "as published" of older records is not; benchmarks/RULES.md has the whole."""
    if record.rules not in ("1", "2"):
        return []
    return [
        "measured before rules 3: 'as published' lacks the feeder, the attention and the reads of every step of MAMP's "
        "released code, and on a CPU a first step pays for memory shared with loader workers, most for large methods"
    ]


def milliseconds(record: SpeedRecord, label: str) -> str:
    """Median time per clip of an arm."""
    arm = record.arm(label)
    return f"{1000 / arm.clips_per_second:.3g}" if arm else "-"


def faster(record: SpeedRecord, one: str, other: str) -> str:
    """How many times faster per clip one arm is than the other, or a dash where one is missing."""
    found = speedup(record, one, other)
    return factor(found, record.floor) if found else "-"


def factor(ratio: Ratio, floor: float) -> str:
    """A ratio with its interval, marked where it touches the noise floor."""
    noise = " (noise)" if inside_floor(ratio, floor) else ""
    return f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]{noise}"


def ratio_story(record: SpeedRecord) -> list[str]:
    """How the ratio of two methods moves, and which switch moves it most."""
    methods, stages = record.rows, record.stages
    if len(methods) != 2:
        return []
    ratios = {
        stage: found for stage in stages if (found := speedup(record, *(at_stage(method, stage) for method in methods)))
    }
    moves = {later: found for earlier, later in pairwise(stages) if (found := move(record, earlier, later))}
    if not moves:
        return []
    largest = max(moves, key=lambda stage: max(moves[stage].value, 1 / moves[stage].value))
    first, last = next(iter(ratios)), list(ratios)[-1]
    predicted = record.flop_speedup(*(at_stage(method, last) for method in methods))
    by_flops = f"by FLOPs {predicted:.2f}x; " if predicted else ""
    lines = [
        f"{' over '.join(methods)}: {ratios[first].value:.2f}x at '{first}', {ratios[last].value:.2f}x at "
        f"'{last}'; {by_flops}the switch that moves it most is '{largest}': {times(moves[largest])}"
    ]
    if "fused attention" in moves:
        lines.append(f"the attention kernel alone: {times(moves['fused attention'])} on the methods' ratio")
    return lines


def move(record: SpeedRecord, earlier: str, later: str) -> Ratio | None:
    """What the switch between two stages does to the ratio of the two methods, by round; None where an arm failed."""
    arms = [record.arm(at_stage(method, stage)) for stage in (earlier, later) for method in record.rows]
    if not all(arms):
        return None
    one, other, one_later, other_later = (arm.clip_seconds for arm in arms if arm)
    before = [b / a for a, b in zip(one, other, strict=True)]
    after = [b / a for a, b in zip(one_later, other_later, strict=True)]
    return paired_ratio(after, before)


def times(ratio: Ratio) -> str:
    """``times 1.20 [1.10, 1.31]``."""
    return f"times {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def left_out(record: SpeedRecord) -> list[str]:
    """Stages that a method did not get through."""
    missing = [
        f"{method} at '{stage}'"
        for method in record.rows
        for stage in record.stages
        if record.arm(at_stage(method, stage)) is None
    ]
    return [f"failed, left out: {', '.join(missing)}"] if missing else []
