"""The attribution waterfall: what each switch between the published training
and this suite's brings, per method.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pandas as pd

from harness.records.ratios import (
    disturbed_share,
    inside_floor,
    mostly_disturbed,
    paired_ratio,
    speedup,
)
from harness.records.schema import Ratio, SpeedRecord, at_stage
from harness.report.cells import EMPTY, Figures, figures, interval_text, known, number
from harness.report.conditions import encoder_text
from harness.report.frame import NUMBER, TEXT, TRUTH, Columns, typed
from harness.report.health import disturbances, rounds_text
from harness.report.table import in_doubt

_WATERFALL_COLUMNS: Columns = {
    "stage": TEXT,
    "method": TEXT,
    "milliseconds": NUMBER,
    "floor": NUMBER,
    **{
        f"{name}{part}": TRUTH if part == "_noise" else NUMBER
        for name in ("switch", "so_far", "over")
        for part in ("", "_low", "_high", "_noise")
    },
}


def waterfall_frame(record: SpeedRecord) -> pd.DataFrame:
    """A row per stage and method, as numbers; `_WATERFALL_COLUMNS`.

    ``milliseconds`` per clip, and how many times faster the method is than at the stage before
    (``switch``), than at the first one (``so_far``) and, the first of two methods, than the other
    at that stage (``over``); ``*_noise``: the interval touches the noise ``floor``.
    """
    methods, stages = record.rows, record.stages
    rows = []
    for previous, stage in zip([None, *stages[:-1]], stages, strict=True):
        for method in methods:
            here = at_stage(method, stage)
            arm = record.arm(here)
            row: dict[str, Any] = {"stage": stage, "method": method, "floor": record.floor}
            row["milliseconds"] = 1000 / arm.clips_per_second if arm else None
            if previous:
                row |= ratio_figures(
                    "switch", speedup(record, here, at_stage(method, previous)), record.floor
                )
                row |= ratio_figures(
                    "so_far", speedup(record, here, at_stage(method, stages[0])), record.floor
                )
            if len(methods) == 2 and method == methods[0]:
                row |= ratio_figures(
                    "over", speedup(record, here, at_stage(methods[1], stage)), record.floor
                )
            rows.append(row)
    return typed(rows, _WATERFALL_COLUMNS)


def ratio_figures(name: str, ratio: Ratio | None, floor: float) -> Figures:
    """A ratio, its interval, and whether it touches the noise floor."""
    if ratio is None:
        return {}
    found = {
        "": ratio.value,
        "_low": ratio.low,
        "_high": ratio.high,
        "_noise": inside_floor(ratio, floor),
    }
    return {f"{name}{part}": value for part, value in found.items()}


def waterfall(record: SpeedRecord, *, wide: bool = False) -> pd.DataFrame:
    """One row per stage: with two methods how much faster the first is than the second at that
    stage, and for every method the factor that the stage's switch brings and, `wide`, its time per
    clip. Every cell a string.

    Args:
        wide: every column, not only those that matter first.
    """
    methods, lines = record.rows, []
    for stage, cells in waterfall_frame(record).groupby("stage", sort=False):
        rows = figures(cells)
        over = {" over ".join(methods): factor_text(rows[0], "over")} if len(methods) == 2 else {}
        line = {"stage": str(stage), **({} if wide else over)}
        for row in rows:
            line |= _of_method(row, wide=wide)
        lines.append(line | over)
    return pd.DataFrame(lines)


def _of_method(row: Figures, *, wide: bool) -> dict[str, str]:
    method = row["method"]
    switch = {f"{method}: this switch": factor_text(row, "switch")}
    if not wide:
        return switch
    speed = {f"{method}: ms/clip": number(row["milliseconds"], ".3g")}
    return speed | switch | {f"{method}: all so far": factor_text(row, "so_far")}


def factor_text(row: Figures, name: str) -> str:
    """A ratio with its interval, marked where it touches the noise floor;
    what was counted has neither.
    """
    if not known(row[name]):
        return EMPTY
    if not known(row[f"{name}_low"]):
        return f"{row[name]:.2f}x"
    return interval_text(row, name) + " (noise)" * bool(row[f"{name}_noise"])


def factor(ratio: Ratio, floor: float) -> str:
    """The same of a ratio by itself."""
    return factor_text(ratio_figures("ratio", ratio, floor), "ratio")


def waterfall_notes(record: SpeedRecord) -> list[str]:
    """What the waterfall says in sentences, and the conditions."""
    return [*(disturbed(record) or ratio_story(record)), *left_out(record), *conditions(record)]


def disturbed(record: SpeedRecord) -> list[str]:
    """Why nothing is said of a measurement whose blocks were mostly disturbed."""
    if not mostly_disturbed(record):
        return []
    return [
        f"not measurable here: {disturbed_share(record):.0%} of the blocks stayed disturbed, which"
        " the intervals above do not tell; measure again on a quiet machine"
    ]


def conditions(record: SpeedRecord) -> list[str]:
    """Data, batch, noise, machine and versions behind a staged measurement."""
    environment, same = record.environment, record.same
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return [
        (
            f"{rounds_text(record)}; {record.baseline} against itself {same.value:.3f}"
            f" [{same.low:.3f}, {same.high:.3f}], (noise) marks what touches the noise floor"
            f" {record.floor:.3f}; {disturbances(record)}"
        ),
        (
            f"data: {record.data.name}, {record.data.bodies_per_clip:.2f} present bodies per clip,"
            f" every body slot computed as published; encoder {encoder_text(record.spec)},"
            f" batch {record.batch_size} body sequences; loader workers:"
            f" {record.spec['data']['workers']}, alive only during their own blocks"
        ),
        *in_doubt([], record),
        *_before_rules_3(record),
        (
            f"machine: {environment.device}, {environment.processor}, {environment.cores} cores,"
            f" {environment.threads} threads; {versions}; commit {environment.commit}; rules"
            f" {record.rules}; {record.finished:%Y-%m-%d %H:%M} UTC"
        ),
    ]


def _before_rules_3(record: SpeedRecord) -> list[str]:
    """What the stage "as published" of older records is not; benchmarks/RULES.md has the whole."""
    if record.rules not in ("1", "2"):
        return []
    return [
        "measured before rules 3: 'as published' lacks the feeder, the attention and the reads of"
        " every step of MAMP's released code, and on a CPU a first step pays for memory shared with"
        " loader workers, most for large methods"
    ]


def ratio_story(record: SpeedRecord) -> list[str]:
    """How the ratio of two methods moves, and which switch moves it most."""
    methods, stages = record.rows, record.stages
    if len(methods) != 2:
        return []
    ratios = {
        stage: found
        for stage in stages
        if (found := speedup(record, *(at_stage(method, stage) for method in methods)))
    }
    moves = {
        later: found
        for earlier, later in pairwise(stages)
        if (found := move(record, earlier, later))
    }
    if not moves:
        return []
    largest = max(moves, key=lambda stage: max(moves[stage].value, 1 / moves[stage].value))
    first, last = next(iter(ratios)), list(ratios)[-1]
    predicted = record.flop_speedup(*(at_stage(method, last) for method in methods))
    by_flops = f"by FLOPs {predicted:.2f}x; " if predicted else ""
    lines = [
        f"{' over '.join(methods)}: {ratios[first].value:.2f}x at '{first}',"
        f" {ratios[last].value:.2f}x at '{last}'; {by_flops}the switch that moves it most is"
        f" '{largest}': {times(moves[largest])}"
    ]
    if "fused attention" in moves:
        lines.append(
            f"the attention kernel alone: {times(moves['fused attention'])} on the methods' ratio"
        )
    return lines


def move(record: SpeedRecord, earlier: str, later: str) -> Ratio | None:
    """What the switch between two stages does to the ratio of the two methods, by round;
    None where an arm failed.
    """
    arms = [
        record.arm(at_stage(method, stage)) for stage in (earlier, later) for method in record.rows
    ]
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
