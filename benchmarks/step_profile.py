"""Where the time of MAMP's training step goes: its released code and this suite's stages, by
operator.

    git clone https://github.com/maoyunyao/MAMP ../MAMP
    python benchmarks/step_profile.py --mamp ../MAMP --out runs/step-profile

The same model at `base`, decoder 5, on the same clips: the released loop beside this suite's
trainer with more and more switches on (`harness.studies.explain`). All are timed in turns in one
process, on a CPU; then a few steps of each run once more under `torch.profiler`.

Exit codes: 0 done; 2 there is no released code.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from benchmarks.as_published import (
    Released,
    ReleasedTrainer,
    TimedArm,
    absent,
    arm_of,
    command_of,
    commit_of,
    interval,
    leave,
    machine_line,
    stage_spec,
    write_released,
)
from harness.machine import describe_environment, select_device
from harness.records.ratios import paired_ratio
from harness.report.table import to_markdown
from harness.spec.model import RunSpec
from harness.speed.interleave import measure
from harness.speed.measurement import timed_trainer
from harness.studies.explain import staged, stages_on
from harness.training.data import LoadedData, load_data
from methods.mamp import MAMP

DEPTH, WORKERS, LEAD, STEPS = 5, 1, 1, 2
"""Blocks of the decoder; the released loop's loader processes and untimed steps; profiled steps."""
GROUPS = {
    "compiled kernels": ("cpp_fused", "compiled", "call_"),
    "matrix products": ("mm", "linear", "matmul"),
    "fused attention": ("attention",),
    "softmax": ("softmax",),
    "layer norm": ("layer_norm", "layernorm"),
    "GELU": ("gelu",),
    "copies and casts": ("copy", "clone", "aten::cat", "stack"),
    "gathers and scatters": ("gather", "scatter", "index", "embedding", "sort"),
    "optimiser": ("adam", "foreach", "optimizer"),
    "sums": ("aten::sum", "mean", "var", "norm"),
}
"""Words in an operator's name, by the group that it is counted in: the first that fits, or `OTHER`.
"""
OTHER = "pointwise and other operators"


def group_of(operator: str) -> str:
    """The group that an operator's time is counted in."""
    name = operator.lower()
    return next(
        (group for group, words in GROUPS.items() if any(word in name for word in words)), OTHER
    )


def shown(spec: RunSpec) -> dict[str, RunSpec]:
    """The runs beside the released loop, by name: three stages,
    and what bf16 and attention bring uncompiled.
    """
    stages = {stage.name: found for stage, found in staged(spec, stages_on("cpu"))}
    bf16 = stages["fused AdamW"]
    return {
        "present bodies only": stages["present bodies only"],
        "every switch but bf16, uncompiled": bf16.with_train(precision="fp32"),
        "every switch, uncompiled": bf16,
        "and attention in fp32": bf16.with_train(attention_precision="fp32"),
        "every switch, compiled": stages["compiled"],
        "compiled and attention in fp32": stages["attention in fp32"],
    }


def arms_of(released: Released, data: LoadedData, folder: Path, batch_size: int) -> list[TimedArm]:
    """The released loop, then this suite's trainers: as many body sequences in a batch,
    so other numbers of clips.
    """
    device, clips = data.device, batch_size // data.clips.joints.shape[1]
    write_released(data, folder / "clips.npz")
    options = {**released.config(DEPTH).train_feeder_args, "data_path": str(folder / "clips.npz")}
    theirs = ReleasedTrainer(released, released.feeder(**options), DEPTH, clips, WORKERS, device)
    theirs.lead = LEAD
    arms = [arm_of("released", theirs, clips)]
    for name, spec in shown(stage_spec(DEPTH, clips, WORKERS, device, data)).items():
        arms.append(
            TimedArm(
                name,
                timed_trainer(MAMP, spec, data),
                batch_size / data.as_in(spec.data).bodies_per_clip,
            )
        )
    return arms


def operator_seconds(arm: TimedArm) -> dict[str, float]:
    """Seconds per clip by group of operators, each without those that it calls."""
    steps = STEPS + (LEAD if isinstance(arm.trainer, ReleasedTrainer) else 0)
    arm.block = STEPS
    with profile(activities=[ProfilerActivity.CPU]) as found:
        arm.run()
    spent: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        spent[group_of(event.key)] += event.self_cpu_time_total / 1e6 / (steps * arm.clips)
    return dict(spent)


def speed_table(arms: Sequence[TimedArm]) -> pd.DataFrame:
    """Seconds per clip, and how many times as fast as the released step: by the clock,
    and in processor time.
    """
    rows, released = [], arms[0]
    for arm in arms:
        wall = paired_ratio(released.clip_seconds, arm.clip_seconds)
        processor = paired_ratio(processor_seconds(released), processor_seconds(arm))
        rows.append(
            {
                "step": arm.label,
                "s per clip": f"{arm.step_seconds / arm.clips:.3f}",
                "times as fast [95 %]": "-" if arm is released else interval(wall),
                "in processor time [95 %]": "-" if arm is released else interval(processor),
            }
        )
    return pd.DataFrame(rows)


def processor_seconds(arm: TimedArm) -> list[float]:
    """Processor seconds per clip of each counted block."""
    return [seconds / arm.clips for seconds in arm.processor]


def operator_table(spent: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Milliseconds per clip by group of operators."""
    groups = sorted(
        {group for found in spent.values() for group in found},
        key=lambda group: -spent["released"].get(group, 0),
    )
    return pd.DataFrame(
        {
            "ms per clip": group,
            **{label: f"{1000 * found.get(group, 0.0):.0f}" for label, found in spent.items()},
        }
        for group in groups
    )


def main() -> int:
    """Measure and print; leave tables and numbers where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mamp", type=Path, help="folder of the released code (maoyunyao/MAMP)")
    parser.add_argument("--batch-size", type=int, default=4, help="body sequences")
    parser.add_argument("--seconds", type=float, default=180, help="of the measurement")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--out", type=Path, help="folder for the tables and the numbers")
    arguments = parser.parse_args()
    if found := absent(arguments.mamp):
        print(
            f"step_profile: expected --mamp FOLDER with a copy of maoyunyao/MAMP, found {found};"
            " nothing was timed"
        )
        return 2
    torch.set_num_threads(arguments.threads)
    device = select_device("cpu")
    released = Released(arguments.mamp.resolve())
    data = load_data(
        stage_spec(DEPTH, arguments.batch_size // 2, WORKERS, device).data, device, patch=4
    )
    with tempfile.TemporaryDirectory() as folder:
        arms = arms_of(released, data, Path(folder), arguments.batch_size)
        for arm in arms:
            arm.run()  # the compiler's time
        failures: dict[str, Exception] = {}
        measure(arms[1:], arms[0], seconds=arguments.seconds, failures=failures)
        for problem in failures.values():
            raise problem
        spent = {arm.label: operator_seconds(arm) for arm in arms}
    report(arms, spent, arguments, data, device)
    return 0


def report(
    arms: Sequence[TimedArm],
    spent: dict[str, dict[str, float]],
    arguments: argparse.Namespace,
    data: LoadedData,
    device: torch.device,
) -> None:
    """Both tables with what they were measured on."""
    environment = describe_environment(device)
    present = data.counterpart if data.spec.include_empty_bodies else data
    lines = [
        (
            f"batch {arguments.batch_size} body sequences; {present.bodies_per_clip:.2f} bodies a"
            f" clip, two for the released step; decoder depth {DEPTH}; {data.clips.name}; released"
            f" code: {commit_of(arguments.mamp)}"
        ),
        machine_line(environment),
    ]
    command = command_of("step_profile", arguments.mamp)
    page = to_markdown(operator_table(spent), lines, command)
    text = f"{to_markdown(speed_table(arms), [], command)}\n{page}"
    print(text)
    if arguments.out:
        record: dict[str, Any] = {
            "command": command,
            "environment": environment.model_dump(),
            "operators": spent,
            "clip_seconds": {arm.label: arm.clip_seconds for arm in arms},
            "processor_clip_seconds": {arm.label: processor_seconds(arm) for arm in arms},
        }
        leave(arguments.out, "step-profile", text, record)


if __name__ == "__main__":
    sys.exit(main())
