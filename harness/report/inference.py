"""The table of `harness speed --what inference`: how fast encoders run on every token, nothing trained."""

from __future__ import annotations

import pandas as pd

from harness.records.schema import INFERENCE, ArmRecord, SpeedRecord, at_stage
from harness.report.apart import p_text
from harness.report.health import disturbances, rounds_text, second_opinions, signed_ranks_of
from harness.report.table import EMPTY, flop_cell, gflops_per_clip, speedup_cell

MARK = at_stage("", INFERENCE)


def inference_table(speed: SpeedRecord) -> pd.DataFrame:
    """One row per encoder; every cell a string."""
    return pd.DataFrame([_row(arm, speed) for arm in speed.arms])


def inference_notes(speed: SpeedRecord) -> list[str]:
    """What was timed, and the conditions."""
    same, environment, peak = speed.same, speed.environment, speed.matmul_flops
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return [
        f"inference: the forward pass on every token, without gradients, in {speed.spec['train']['precision']}; the "
        f"batch of {speed.batch_size} body sequences lies ready; weights are untrained, which changes no time",
        f"speedup = clips/s over {_name(speed.baseline)}, {rounds_text(speed)}; same against same {same.value:.3f} "
        f"[{same.low:.3f}, {same.high:.3f}], noise floor {speed.floor:.3f}; {disturbances(speed)}",
        *second_opinions(speed),
        "GFLOP/clip: forward, two bodies; one GFLOP is a thousand million additions and multiplications",
        *([f"matmul peak: {peak / 1e9:,.0f} GFLOP/s, measured on this device in this precision"] if peak else []),
        f"data: {speed.data.name} ({speed.data.fingerprint}), {speed.data.bodies_per_clip:.2f} present bodies per clip",
        f"machine: {environment.device}, {environment.processor}, {environment.cores} cores, {environment.threads} "
        f"threads; {versions}; commit {environment.commit}; rules {speed.rules}; {speed.finished:%Y-%m-%d %H:%M} UTC",
    ]


def _name(label: str) -> str:
    return label.removesuffix(MARK)


def _row(arm: ArmRecord, speed: SpeedRecord) -> dict[str, str]:
    encoder, achieved = arm.encoder, arm.step_flops / arm.step_seconds
    return {
        "encoder": _name(arm.label),
        "parameters": f"{encoder.parameters:,}" if encoder else EMPTY,
        "tokens": f"{encoder.tokens:,}" if encoder else EMPTY,
        "ms/batch": f"{1000 * arm.step_seconds:.3g}",
        "clips/s": f"{arm.clips_per_second:,.0f}" if arm.clips_per_second >= 10 else f"{arm.clips_per_second:.2f}",
        "speedup [95 %]": speedup_cell(arm, speed),
        "signed ranks p": p_text(signed_ranks_of(arm, speed)),
        "by FLOPs": flop_cell(arm, speed),
        "GFLOP/clip": f"{gflops_per_clip(arm, speed):.3g}",
        "of peak": f"{achieved / speed.matmul_flops:.0%}" if speed.matmul_flops else EMPTY,
        "peak MB": EMPTY if arm.peak_bytes is None else f"{arm.peak_bytes / 1e6:,.0f}",
        "runs faster": EMPTY if arm.label == speed.baseline else arm.verdict,
    }
