"""Flags that several commands have, each declared once."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from harness.spec.presets import PRESETS


def finite(value: float | None) -> float | None:
    """A number that a record can hold; the bounds of some versions of typer let NaN through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, found {value}")
    return value


def as_utc(moment: datetime | None) -> datetime | None:
    """A moment that was typed without a zone."""
    return moment and moment.replace(tzinfo=UTC)


Config = Annotated[
    str | None,
    typer.Option(
        help="YAML file of these flags, as `show-config` prints one; what is typed counts first."
    ),
]
Part = Annotated[
    str | None, typer.Option(help="Of a file that has parts: this one alone [each in turn].")
]
Study = Annotated[str, typer.Option(hidden=True, help="Of which study: what --config names.")]
Methods = Annotated[
    str | None, typer.Option(help="Methods, e.g. gfp,skeletonmae or gfp:lambda_pred=5,mamp.")
]
DataName = Annotated[
    str | None, typer.Option("--dataset", help="A data set's name or path/to/file.npz.")
]
Split = Annotated[str | None, typer.Option(help="xsub, xview or a column such as view:1,2->3.")]
Tuning = Annotated[
    int,
    typer.Option(
        help="k: each method under k draws of its settings too; chosen on held-out subjects.",
        min=0,
        max=100,
    ),
]
Folds = Annotated[
    int, typer.Option(help="2: the swapped split too, so that every subject tests.", min=1, max=2)
]
Label = Annotated[
    str | None, typer.Option(help="Label column, or several combined: label,correct.")
]
Encoder = Annotated[str | None, typer.Option(help="Encoder size: tiny, small or base.")]
BudgetText = Annotated[
    str | None,
    typer.Option("--budget", help="30ep, 2000steps, 50000clips, 300s, 1h30min or 2e15flops."),
]
Seeds = Annotated[str, typer.Option(help="Seeds, e.g. 0 or 0-2.")]
BatchSize = Annotated[int | None, typer.Option(help="Body sequences per batch.")]
Precision = Annotated[str | None, typer.Option(help="fp32, bf16, or on a GPU tf32.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Out = Annotated[Path, typer.Option(help="Folder for records, weights and the table.")]
Plugins = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file with a method; repeatable.")
]
Preset = Annotated[str, typer.Option(help=f"Starting point: {', '.join(PRESETS)}.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Any setting, e.g. train.lr=1e-3; repeatable.")
]
Baseline = Annotated[
    str, typer.Option(help="Method that speedups are measured against [skeletonmae].")
]
Threads = Annotated[int | None, typer.Option(help="Threads to compute with [one per core].", min=1)]
Rerun = Annotated[bool, typer.Option("--rerun", help="Run again what is already finished.")]
KeepDecoder = Annotated[
    bool, typer.Option("--keep-decoder", help="Leave the decoder too, for `data show --run`.")
]
NoPictures = Annotated[
    bool, typer.Option("--no-pictures", help="Leave no pictures of masks beside the records.")
]
SpeedSeconds = Annotated[
    float,
    typer.Option(
        help="Length of the interleaved speed measurement.", min=1.0, max=1e6, callback=finite
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        help="Measure in so many fresh processes; 3 or more for what is to be kept.", min=1, max=100
    ),
]
FirstSlot = Annotated[
    int, typer.Option(help="Slot that the first round starts at.", min=0, hidden=True)
]
What = Annotated[str, typer.Option(help="training, or inference: encoders' forward passes.")]
Encoders = Annotated[
    str,
    typer.Option(
        help="Of inference: sizes, with numbers if wanted, or methods that bring their own encoder."
    ),
]
MemoryCap = Annotated[
    float | None,
    typer.Option(
        help="GB: each method at the largest batch that fits.", min=0.01, max=1e5, callback=finite
    ),
]
StateSeconds = Annotated[
    float,
    typer.Option(
        help="Between two states that a stopped run goes on from.", min=0.0, callback=finite
    ),
]
Claim = Annotated[
    bool,
    typer.Option("--claim", help="Share the folder's work with other processes that do the same."),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="With --claim: end where others work on all that is left.")
]
Since = Annotated[
    datetime | None,
    typer.Option(help="UTC; what failed later is not tried again.", hidden=True, callback=as_utc),
]
MeasureOnly = Annotated[
    bool, typer.Option("--measure-only", help="Measure speed, and leave the runs to others.")
]
Shard = Annotated[str, typer.Option(help="i/n: every n-th run only, from the i-th.")]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Also write TensorBoard's event files.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and do nothing, as `plan` does.")
]
NoMeasure = Annotated[
    bool, typer.Option("--no-measure", help="Run no step: the folder or a rate says its time.")
]
RateText = Annotated[
    str, typer.Option("--rate", help="For another machine: FLOP/s that training reaches there.")
]
DeviceRate = Annotated[
    str,
    typer.Option(
        help="For another machine: a device in the records, or NAME=FLOPS of a matrix product."
    ),
]
Protocols = Annotated[
    str,
    typer.Option(
        help=(
            "Evaluate by these after training, e.g. linear-mamp,finetune; `ls protocols` lists"
            " them."
        )
    ),
]
Price = Annotated[
    float | None, typer.Option(help="Of an hour of the device.", min=0, callback=finite)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Every column, not only those that matter first.")
]
