"""The command `import-encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli.completion import devices, encoders, one_dataset
from harness.cli.flags import Label, Quiet, Split, Threads
from harness.errors import UsageError
from harness.progress import at_work, print_table
from harness.runs.request import parse_override
from harness.spec.model import DataSpec, build


def import_encoder_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A MAMP-style .pth (code in it is never run) or encoder.safetensors.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the weights go.")] = Path(
        "encoder.safetensors"
    ),
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            show_default="as the file says, or base",
            autocompletion=encoders,
            help="Size: tiny, small or base.",
        ),
    ] = None,
    joints: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            show_default="as the file says, or 25",
            help="Its joints.",
            min=1,
            max=10_000,
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of the size, e.g. encoder.heads=4."),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Probe it on these.", autocompletion=one_dataset),
    ] = None,
    split: Split = None,
    label: Label = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="auto, cpu, cuda or cuda:N.",
            show_default="auto",
            autocompletion=devices,
        ),
    ] = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Turn a released encoder into one of this suite.

    With --dataset it is probed too, random-init beside it.
    """
    asked: dict[str, Any] = {"size": encoder} if encoder else {}
    for text in overrides or []:
        section, key, value = parse_override(text)
        if section != "encoder":
            raise UsageError(
                f"--set {text!r}: expected a number of the encoder, e.g. encoder.heads=4"
            )
        asked[key] = value
    chosen = {"name": dataset, "split": split, "label": label}
    data = {key: value for key, value in chosen.items() if value is not None}
    if data and dataset is None:
        raise UsageError("--split and --label: expected a --dataset to probe on, found none")
    spec = build(DataSpec, data, "data") if data else None
    with at_work(announced=False, quiet=quiet) as reporter:
        from harness.encoders.importing import import_and_probe
        from harness.machine import select_device, use_threads

        use_threads(threads)
        imported, accuracies = import_and_probe(
            file, out, asked, joints, spec, select_device(device or "auto")
        )
    for note in imported.notes:
        reporter.line(note)
    reporter.line(
        f"wrote {out}: {imported.encoder.parameter_count:,} parameters,"
        f" {imported.encoder.grid.tokens} tokens"
    )
    if imported.ignored:
        reporter.line(
            f"left out, not part of the encoder: {len(imported.ignored)} tensors"
            f" ({imported.ignored[0]}, ...)"
        )
    rows = [
        (row, f"{found.linear_test:.1%}", f"{found.knn_test:.1%}")
        for row, found in accuracies.items()
    ]
    if rows:
        print_table(reporter.console, ["encoder", "linear", "kNN"], rows, [])
