"""The table of `harness speed --what inference`: how fast encoders run on every token,
nothing trained.
"""

from __future__ import annotations

import pandas as pd

from harness.records.schema import INFERENCE, SpeedRecord, at_stage
from harness.report.cells import (
    EMPTY,
    Cells,
    flop_text,
    formatted,
    known,
    p_text,
    rate_text,
    speedup_text,
    texts,
)
from harness.report.frame import TEXT, WHOLE
from harness.report.health import disturbances, rounds_text, second_opinions
from harness.report.speed import speed_frame

_MARK = at_stage("", INFERENCE)


def inference_frame(speed: SpeedRecord) -> pd.DataFrame:
    """`harness.report.speed.speed_frame` with the ``parameters`` and ``tokens``
    of each ``encoder``.
    """
    encoders = [arm.encoder for arm in speed.arms]
    return speed_frame(speed).assign(
        encoder=pd.Series([_name(arm.label) for arm in speed.arms], dtype=TEXT),
        parameters=pd.Series([encoder and encoder.parameters for encoder in encoders], dtype=WHOLE),
        tokens=pd.Series([encoder and encoder.tokens for encoder in encoders], dtype=WHOLE),
    )


_CELLS: Cells = {
    "encoder": lambda row: row["encoder"],
    "speedup [95 %]": speedup_text,
    "runs faster": lambda row: row["verdict"] if known(row["verdict"]) else EMPTY,
    "by FLOPs": flop_text,
    "clips/s": rate_text,
    "of peak": formatted("of_peak", ".0%"),
    "peak MB": formatted("peak_mb", ",.0f"),
}
"""What matters first, within 100 columns."""
_WIDE: Cells = {
    "encoder": _CELLS["encoder"],
    "parameters": formatted("parameters", ",d"),
    "tokens": formatted("tokens", ",d"),
    "ms/batch": formatted("step_seconds", ".3g", 1000),
    "clips/s": rate_text,
    "speedup [95 %]": speedup_text,
    "signed ranks p": lambda row: p_text(row["signed_ranks"]),
    "by FLOPs": flop_text,
    "GFLOP/clip": formatted("gflops_per_clip", ".3g"),
    "of peak": _CELLS["of peak"],
    "peak MB": _CELLS["peak MB"],
    "runs faster": _CELLS["runs faster"],
}


def inference_table(speed: SpeedRecord, *, wide: bool = False) -> pd.DataFrame:
    """One row per encoder; every cell a string.

    Args:
        wide: every column, not only those that matter first.
    """
    return texts(inference_frame(speed), _WIDE if wide else _CELLS)


def inference_notes(speed: SpeedRecord) -> list[str]:
    """What was timed, and the conditions."""
    same, environment, peak = speed.same, speed.environment, speed.matmul_flops
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return [
        (
            "inference: the forward pass on every token, without gradients, in"
            f" {speed.spec['train']['precision']}; the batch of {speed.batch_size} body sequences"
            " lies ready; weights are untrained, which changes no time"
        ),
        (
            f"speedup = clips/s over {_name(speed.baseline)}, {rounds_text(speed)}; same against"
            f" same {same.value:.3f} [{same.low:.3f}, {same.high:.3f}], noise floor"
            f" {speed.floor:.3f}; {disturbances(speed)}"
        ),
        *second_opinions(speed),
        (
            "GFLOP/clip: forward, two bodies; one GFLOP is a thousand million additions and"
            " multiplications"
        ),
        *(
            [f"matmul peak: {peak / 1e9:,.0f} GFLOP/s, measured on this device in this precision"]
            if peak
            else []
        ),
        (
            f"data: {speed.data.name} ({speed.data.fingerprint}), {speed.data.bodies_per_clip:.2f}"
            " present bodies per clip"
        ),
        (
            f"machine: {environment.device}, {environment.processor}, {environment.cores} cores,"
            f" {environment.threads} threads; {versions}; commit {environment.commit}; rules"
            f" {speed.rules}; {speed.finished:%Y-%m-%d %H:%M} UTC"
        ),
    ]


def _name(label: str) -> str:
    return label.removesuffix(_MARK)
