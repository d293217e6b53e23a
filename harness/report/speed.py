"""The table of `harness speed`: where each method's step time goes,
and how much of the device it uses.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from harness.records.schema import SpeedRecord
from harness.report.cells import (
    EMPTY,
    TRAINS_FASTER,
    Cells,
    Figures,
    flop_text,
    formatted,
    known,
    method_text,
    number,
    p_text,
    rate_text,
    speedup_text,
    texts,
)
from harness.report.frame import NUMBER, TEXT, arms_frame, judgement
from harness.report.health import signed_ranks_of
from harness.report.table import comparable, notes

NTU60_CLIPS = 40_091
"""Training clips of NTU RGB+D 60's cross-subject split: what published schedules count epochs of.

Counted from the lists in MAMP's released code, data/ntu/statistics.
"""
_PHASES = {
    "data": "data",
    "forward": "forward",
    "backward": "backward",
    "optimiser": "optimizer",
    "after": "after_step",
}
"""Column headings of the phases on the training clock."""


def speed_frame(speed: SpeedRecord) -> pd.DataFrame:
    """The arms of a measurement as numbers (`harness.report.frame.arms_frame`) with what `harness
    speed` says of them.

    ``signed_ranks``: p; ``of_peak``: achieved FLOP/s over the matmul peak; ``schedule_hours``:
    hours of the published epochs; ``over_one_process``: clips/s of several ranks over those of one;
    ``judgement`` on "trains faster".
    """
    frame = arms_frame([speed])
    ranks = [signed_ranks_of(arm, speed) if comparable(arm, speed) else None for arm in speed.arms]
    hours = frame["epochs"].astype("float64") * NTU60_CLIPS / frame["clips_per_second"] / 3600
    achieved = frame["step_flops"] / frame["step_seconds"]
    return frame.assign(
        signed_ranks=pd.Series(ranks, dtype=NUMBER),
        gflops_per_second=achieved / 1e9,
        of_peak=achieved / (frame["matmul_flops"] * speed.environment.ranks),
        **{
            name: pd.Series(values, dtype=NUMBER)
            for name, values in _ratios_of_ranks(speed).items()
        },
        schedule_hours=hours,
        peak_mb=frame["peak_bytes"].astype("float64") / 1e6,
        judgement=pd.Series([judgement(arm.label, [], speed) for arm in speed.arms], dtype=TEXT),
    )


def _ratios_of_ranks(speed: SpeedRecord) -> dict[str, list[float | None]]:
    """What several ranks are worth, by column; None where one process was not timed."""
    ratios = [arm.over_one_process for arm in speed.arms]
    return {
        "over_one_process": [ratio.value if ratio else None for ratio in ratios],
        "over_one_process_low": [ratio.low if ratio else None for ratio in ratios],
        "over_one_process_high": [ratio.high if ratio else None for ratio in ratios],
        "efficiency": [
            ratio.value / speed.environment.ranks if ratio else None for ratio in ratios
        ],
    }


def _over_one_process(row: Figures) -> str:
    value, low, high = (row[f"over_one_process{end}"] for end in ("", "_low", "_high"))
    return f"{value:.2f}x [{low:.2f}, {high:.2f}]" if known(value) else EMPTY


def _share(phase: str) -> Callable[[Figures], str]:
    def write(row: Figures) -> str:
        total = sum(
            value for name, value in row.items() if name.startswith("phase_") and known(value)
        )
        value = row.get(f"phase_{phase}")
        return number(value / total, ".1%") if total and known(value) else EMPTY

    return write


_CELLS: Cells = {
    "method": method_text,
    "speedup [95 %]": speedup_text,
    TRAINS_FASTER: lambda row: row["judgement"] if known(row["judgement"]) else EMPTY,
    "by FLOPs": flop_text,
    "clips/s": rate_text,
    "ms/step": formatted("step_seconds", ".3g", 1000),
    "of peak": formatted("of_peak", ".0%"),
    "peak MB": formatted("peak_mb", ",.0f"),
}
"""What matters first, within 100 columns."""
_WIDE: Cells = {
    "method": method_text,
    "batch": formatted("batch_size", "d"),
    "ms/step": _CELLS["ms/step"],
    "clips/s": rate_text,
    "speedup [95 %]": speedup_text,
    "signed ranks p": lambda row: p_text(row["signed_ranks"]),
    "by FLOPs": flop_text,
    "GFLOP/clip": formatted("gflops_per_clip", ".3g"),
    **{name: _share(phase) for name, phase in _PHASES.items()},
    "GFLOP/s": formatted("gflops_per_second", ",.0f"),
    "of peak": _CELLS["of peak"],
    "peak MB": _CELLS["peak MB"],
    "warm-up s": formatted("warmup_seconds", ".1f"),
    "schedule h": formatted("schedule_hours", ",.1f"),
    TRAINS_FASTER: _CELLS[TRAINS_FASTER],
}


_RANKS: Cells = {
    "over 1 rank [95 %]": _over_one_process,
    "efficiency": formatted("efficiency", ".0%"),
}
"""On several ranks."""


def speed_table(speed: SpeedRecord, *, wide: bool = False) -> pd.DataFrame:
    """One row per method; every cell a string.

    Args:
        wide: every column, not only those that matter first.
    """
    ranks = _RANKS if speed.environment.ranks > 1 else {}
    return texts(speed_frame(speed), {**(_WIDE if wide else _CELLS), **ranks})


def speed_notes(speed: SpeedRecord) -> list[str]:
    """The conditions, and what the columns mean."""
    peak, cap = speed.matmul_flops, speed.spec.get("memory_cap")
    return [
        *(
            [f"UNFINISHED: stopped after {speed.done_rounds} of {speed.planned_rounds} rounds"]
            if speed.planned_rounds is not None
            else []
        ),
        *notes([], speed),
        *(
            [f"matmul peak: {peak / 1e9:,.0f} GFLOP/s, measured on this device in this precision"]
            if peak
            else []
        ),
        (
            "of peak: model FLOPs of a step over its time, as a share of the matmul peak (MFU);"
            " data, forward, backward, optimiser, after: shares of the step time"
        ),
        *_ranks(speed.environment.ranks),
        "signed ranks p: exact Wilcoxon test of the rounds' log ratios; it decides nothing",
        *([f"memory-fair: each method at its largest batch under {cap / 1e9:g} GB"] if cap else []),
        *_host(speed),
        *_shares(speed),
        (
            f"schedule h: hours of the method's published epochs over {NTU60_CLIPS:,} clips at this"
            " speed, training alone"
        ),
        f"measurement rules version {speed.rules or 'unknown'}",
    ]


def _ranks(ranks: int) -> list[str]:
    return (
        [
            f"over 1 rank: clips/s of all {ranks} ranks over those of rank 0 alone with the same"
            " batch, interleaved; a step takes as long as on the slowest rank; efficiency: that"
            f" over {ranks}; matmul peak, peak MB: of one rank"
        ]
        if ranks > 1
        else []
    )


def _host(speed: SpeedRecord) -> list[str]:
    times = [
        f"{arm.label} {1000 * arm.host_step_seconds:.3g} ms" + " (launch-bound)" * arm.launch_bound
        for arm in speed.arms
        if arm.host_step_seconds is not None
    ]
    meaning = (
        "launch-bound: the GPU waits for the host, and its idle time lies in the phases whose"
        " kernels came late; a full queue holds the host up, whose time is then near the step's"
    )
    return (
        [f"host time per step, until the GPU is waited for: {', '.join(times)}; {meaning}"]
        if times
        else []
    )


def _shares(speed: SpeedRecord) -> list[str]:
    shares = [
        f"{arm.label} "
        + ", ".join(f"{part} {share:.1%}" for part, share in arm.forward_shares.items())
        for arm in speed.arms
        if arm.forward_shares
    ]
    return [f"forward FLOPs by part: {'; '.join(shares)}"] if shares else []
