"""Flags that several commands have, each declared once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.completion import (
    datasets,
    devices,
    encoders,
    methods,
    parts,
    precisions,
    presets,
    protocols,
    settings,
)
from harness.spec.model import SECTIONS
from harness.spec.presets import PRESETS

RUNS_VARIABLE = "MASKED_SKELETON_RUNS"
"""Environment variable with the default of ``--out``."""

_WHAT, _EVALUATION = "What to train", "How to evaluate"
_WHERE, _TIMING, _SHARED = "Machine and folder", "Speed measurement", "Several processes"
"""Headings of a long help page (`harness.cli.help`)."""


def finite(value: float | None) -> float | None:
    """A number that a record can hold; the bounds of some versions of typer let NaN through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, found {value}")
    return value


def given(ctx: typer.Context, *sources: str) -> Iterator[tuple[Any, Any]]:
    """The options, each with its value, whose values come from there: ``COMMANDLINE``, a file's
    words among them, or ``ENVIRONMENT``.
    """
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(str(parameter.name))
        if source is not None and source.name in sources:
            yield parameter, ctx.params[str(parameter.name)]


def as_utc(moment: datetime | None) -> datetime | None:
    """A moment that was typed without a zone."""
    return moment and moment.replace(tzinfo=UTC)


def _at_home(path: Path) -> Path:
    """A path whose ``~`` no shell has replaced: in a file, a variable, or behind ``--out=``."""
    return path.expanduser()


def _by_preset(section: str, key: str = "") -> str:
    """What a setting is without its flag: ``30s; published: 400ep``."""
    values = {}
    for name, preset in PRESETS.items():
        own = preset.get(section, "")
        values[name] = own.get(key) if key and own else own
        if key and values[name] in (None, ""):
            values[name] = SECTIONS[section].model_fields[key].default
    first, *others = values.items()
    texts = [str(first[1]), *(f"{name}: {value}" for name, value in others if value != first[1])]
    return "; ".join(texts)


Config = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="YAML file of these flags, as `show-config` prints one; what is typed counts first.",
        rich_help_panel=_WHAT,
    ),
]
ConfigPart = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of a file that has parts: this one alone.",
        show_default="each in turn",
        autocompletion=parts,
        rich_help_panel=_WHAT,
    ),
]
Study = Annotated[str, typer.Option(hidden=True, help="Of which study: what --config names.")]
Methods = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Methods, e.g. gfp,skeletonmae or gfp:lambda_pred=5,mamp.",
        show_default=_by_preset("methods"),
        autocompletion=methods,
        rich_help_panel=_WHAT,
    ),
]
DataName = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        help="A data set's name or path/to/file.npz.",
        show_default=_by_preset("data", "name"),
        autocompletion=datasets,
        rich_help_panel=_WHAT,
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="xsub, xview or a column such as view:1,2->3.",
        show_default="the data set's own",
        rich_help_panel=_WHAT,
    ),
]
Tuning = Annotated[
    int,
    typer.Option(
        metavar="K",
        help="Each method under K draws of its settings too; chosen on held-out subjects.",
        min=0,
        max=100,
        rich_help_panel=_EVALUATION,
    ),
]
Folds = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="2: the swapped split too, so that every subject tests.",
        min=1,
        max=2,
        rich_help_panel=_EVALUATION,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Label column, or several combined: label,correct.",
        show_default=_by_preset("data", "label"),
        rich_help_panel=_WHAT,
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Encoder size: tiny, small or base.",
        show_default=_by_preset("encoder", "size"),
        autocompletion=encoders,
        rich_help_panel=_WHAT,
    ),
]
BudgetText = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="AMOUNT",
        help="30ep, 2000steps, 50000clips, 300s, 1h30min or 2e15flops.",
        show_default=_by_preset("train", "budget"),
        rich_help_panel=_WHAT,
    ),
]
Seeds = Annotated[
    str, typer.Option(metavar="LIST", help="Seeds, e.g. 0 or 0-2,7.", rich_help_panel=_WHAT)
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Body sequences per batch.",
        show_default=_by_preset("train", "batch_size"),
        rich_help_panel=_WHAT,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="fp32, bf16, or on a GPU tf32.",
        show_default=_by_preset("train", "precision"),
        autocompletion=precisions,
        rich_help_panel=_WHERE,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="auto, cpu, cuda or cuda:N.",
        show_default=_by_preset("device"),
        autocompletion=devices,
        rich_help_panel=_WHERE,
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER",
        help="Folder for records, weights and the table.",
        envvar=RUNS_VARIABLE,
        callback=_at_home,
        rich_help_panel=_WHERE,
    ),
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="Python file with a method; repeatable.",
        rich_help_panel=_WHAT,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help=f"Where settings start from: {' or '.join(PRESETS)}.",
        autocompletion=presets,
        rich_help_panel=_WHAT,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, e.g. train.lr=1e-3; repeatable; `ls settings` lists all.",
        autocompletion=settings,
        rich_help_panel=_WHAT,
    ),
]
Baseline = Annotated[
    str,
    typer.Option(
        metavar="METHOD",
        help="Method that speedups are measured against.",
        show_default="skeletonmae",
        autocompletion=methods,
        rich_help_panel=_TIMING,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Threads to compute with.",
        show_default="one per core",
        min=1,
        rich_help_panel=_WHERE,
    ),
]
Rerun = Annotated[
    bool,
    typer.Option("--rerun", help="Run again what is already finished.", rich_help_panel=_WHERE),
]
KeepDecoder = Annotated[
    bool,
    typer.Option(
        "--keep-decoder",
        help="Leave the decoder too, for `data show --run`.",
        rich_help_panel=_WHERE,
    ),
]
NoPictures = Annotated[
    bool,
    typer.Option(
        "--no-pictures",
        help="Leave no pictures of masks beside the records.",
        rich_help_panel=_WHERE,
    ),
]
SpeedSeconds = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Length of the interleaved speed measurement.",
        min=1.0,
        max=1e6,
        callback=finite,
        rich_help_panel=_TIMING,
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Measure in so many fresh processes; 3 or more for what is to be kept.",
        min=1,
        max=100,
        rich_help_panel=_TIMING,
    ),
]
FirstSlot = Annotated[
    int, typer.Option(help="Slot that the first round starts at.", min=0, hidden=True)
]
What = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="training, or inference: encoders' forward passes.",
        rich_help_panel=_TIMING,
    ),
]
Encoders = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Of inference: sizes, with numbers if wanted, or methods with their own encoder.",
        show_default="tiny,small,base",
        rich_help_panel=_TIMING,
    ),
]
MemoryCap = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        help="Each method at the largest batch that fits.",
        min=0.01,
        max=1e5,
        callback=finite,
        rich_help_panel=_TIMING,
    ),
]
StateSeconds = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Between two states that a stopped run goes on from.",
        min=0.0,
        callback=finite,
        rich_help_panel=_WHERE,
    ),
]
Claim = Annotated[
    bool,
    typer.Option(
        "--claim",
        help="Share the folder's work with other processes that do the same.",
        rich_help_panel=_SHARED,
    ),
]
NoWait = Annotated[
    bool,
    typer.Option(
        "--no-wait",
        help="With --claim: end where others work on all that is left.",
        rich_help_panel=_SHARED,
    ),
]
Since = Annotated[
    datetime | None,
    typer.Option(help="UTC; what failed later is not tried again.", hidden=True, callback=as_utc),
]
MeasureOnly = Annotated[
    bool,
    typer.Option(
        "--measure-only",
        help="Measure speed, and leave the runs to others.",
        rich_help_panel=_SHARED,
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        metavar="I/N", help="Every N-th run only, from the I-th.", rich_help_panel=_SHARED
    ),
]
TensorBoard = Annotated[
    bool,
    typer.Option(
        "--tensorboard", help="Also write TensorBoard's event files.", rich_help_panel=_WHERE
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and do nothing, as `plan` does.")
]
NoMeasure = Annotated[
    bool, typer.Option("--no-measure", help="Run no step: the folder or a rate says its time.")
]
RateText = Annotated[
    str,
    typer.Option(
        "--rate", metavar="FLOPS", help="For another machine: FLOP/s that training reaches there."
    ),
]
DeviceRate = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="For another machine: a device in the records, or NAME=FLOPS of a matrix product.",
    ),
]
Protocols = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help=(
            "Evaluate by these after training, e.g. linear-mamp,finetune;"
            " `ls protocols` lists them."
        ),
        autocompletion=protocols,
        rich_help_panel=_EVALUATION,
    ),
]
Price = Annotated[
    float | None,
    typer.Option(metavar="AMOUNT", help="Of an hour of the device.", min=0, callback=finite),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print the result and errors alone, no progress.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Every column, not only those that matter first.")
]
