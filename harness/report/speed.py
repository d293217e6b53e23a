"""The table of `harness speed`: where each method's step time goes, and how much of the device it uses."""

from __future__ import annotations

import pandas as pd

from harness.records.schema import ArmRecord, SpeedRecord
from harness.report.apart import p_text
from harness.report.health import signed_ranks_of
from harness.report.table import EMPTY, comparable, flop_cell, gflops_per_clip, notes, speedup_cell, verdict_cell

NTU60_CLIPS = 40_091
"""Training clips of NTU RGB+D 60's cross-subject split: what published schedules count epochs of.

Counted from the lists in MAMP's released code, data/ntu/statistics.
"""


def speed_table(speed: SpeedRecord) -> pd.DataFrame:
    """One row per method; every cell a string."""
    return pd.DataFrame([_row(arm, speed) for arm in speed.arms])


def speed_notes(speed: SpeedRecord) -> list[str]:
    """The conditions, and what the columns mean."""
    peak, cap = speed.matmul_flops, speed.spec.get("memory_cap")
    return [
        *_unfinished(speed),
        *notes([], speed),
        *([f"matmul peak: {peak / 1e9:,.0f} GFLOP/s, measured on this device in this precision"] if peak else []),
        "of peak: model FLOPs of a step over its time, as a share of the matmul peak (MFU); data, forward, backward, "
        "optimiser, after: shares of the step time",
        "signed ranks p: exact Wilcoxon test of the rounds' log ratios; it decides nothing",
        *([f"memory-fair: each method at its largest batch under {cap / 1e9:g} GB"] if cap else []),
        *_host(speed),
        *_shares(speed),
        f"schedule h: hours of the method's published epochs over {NTU60_CLIPS:,} clips at this speed, training alone",
        f"measurement rules version {speed.rules or 'unknown'}",
    ]


def _unfinished(speed: SpeedRecord) -> list[str]:
    if speed.planned_rounds is None:
        return []
    return [f"UNFINISHED: stopped after {speed.done_rounds} of {speed.planned_rounds} rounds"]


def _host(speed: SpeedRecord) -> list[str]:
    times = [
        f"{arm.label} {1000 * arm.host_step_seconds:.3g} ms" + " (launch-bound)" * arm.launch_bound
        for arm in speed.arms
        if arm.host_step_seconds is not None
    ]
    meaning = (
        "launch-bound: the GPU waits for the host, and its idle time lies in the phases whose kernels came late; a "
        "full queue holds the host up, whose time is then near the step's"
    )
    return [f"host time per step, until the GPU is waited for: {', '.join(times)}; {meaning}"] if times else []


def _shares(speed: SpeedRecord) -> list[str]:
    shares = [
        f"{arm.label} " + ", ".join(f"{part} {share:.1%}" for part, share in arm.forward_shares.items())
        for arm in speed.arms
        if arm.forward_shares
    ]
    return [f"forward FLOPs by part: {'; '.join(shares)}"] if shares else []


def _row(arm: ArmRecord, speed: SpeedRecord) -> dict[str, str]:
    total = sum(arm.phases.values())
    share = {name: f"{seconds / total:.1%}" for name, seconds in arm.phases.items()}
    hours = arm.epochs * NTU60_CLIPS / arm.clips_per_second / 3600 if arm.epochs else None
    achieved = arm.step_flops / arm.step_seconds
    return {
        "method": f"{arm.label} (open)" if arm.division == "open" else arm.label,
        "batch": str(arm.batch_size or speed.batch_size),
        "ms/step": f"{1000 * arm.step_seconds:.3g}",
        "clips/s": f"{arm.clips_per_second:,.0f}" if arm.clips_per_second >= 10 else f"{arm.clips_per_second:.2f}",
        "speedup [95 %]": speedup_cell(arm, speed),
        "signed ranks p": p_text(signed_ranks_of(arm, speed)) if comparable(arm, speed) else EMPTY,
        "by FLOPs": flop_cell(arm, speed),
        "GFLOP/clip": f"{gflops_per_clip(arm, speed):.3g}",
        **{name: share.get(phase, EMPTY) for name, phase in PHASES.items()},
        "GFLOP/s": f"{achieved / 1e9:,.0f}",
        "of peak": f"{achieved / speed.matmul_flops:.0%}" if speed.matmul_flops else EMPTY,
        "peak MB": EMPTY if arm.peak_bytes is None else f"{arm.peak_bytes / 1e6:,.0f}",
        "warm-up s": f"{arm.warmup_seconds:.1f}",
        "schedule h": f"{hours:,.1f}" if hours else EMPTY,
        "verdict": verdict_cell(arm.label, [], speed),
    }


PHASES = {"data": "data", "forward": "forward", "backward": "backward", "optimiser": "optimizer", "after": "after_step"}
"""Column headings of the phases on the training clock."""
