"""The command `evaluate`, and what `run --protocols` does after training:
protocols on the encoders of a folder.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.completion import devices, one_dataset, protocols
from harness.cli.flags import Claim, Config, ConfigPart, Plugins, Quiet, Rerun, Study, Threads, Wide
from harness.cli.output import leave_table, one_writes
from harness.progress import Reporter, at_work
from harness.spec.model import parse_seeds

if TYPE_CHECKING:
    from harness.registry import Registry
    from harness.runs.evaluating import Asked

_TABLE_FILE = "evaluations.md"


class Weights(StrEnum):
    """Which of a run's encoders (typer's oldest version knows no `Literal`)."""

    LAST = "last"
    SELECTED = "selected"


def evaluate_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An output folder of `run`.")],
    protocols: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            autocompletion=protocols,
            help="Protocols, e.g. linear,knn or semi:ratio=0.1,draw=1; `ls protocols` lists them.",
        ),
    ] = "linear,knn",
    weights: Annotated[
        Weights,
        typer.Option(
            help="The encoder at the end of training, or the one selected on held-out subjects."
        ),
    ] = Weights.LAST,
    seeds: Annotated[
        str, typer.Option(metavar="LIST", show_default="all", help="Of the runs, e.g. 0-2.")
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=one_dataset,
            help="Where the data is now, where it is not where the runs had it.",
        ),
    ] = "",
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="auto, cpu, cuda or cuda:N.",
            show_default="that of each run",
            autocompletion=devices,
        ),
    ] = None,
    threads: Threads = None,
    rerun: Rerun = False,
    claim: Claim = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    wide: Wide = False,
    config: Config = None,
    part: ConfigPart = None,
    study: Study = "",
) -> None:
    """Evaluate the encoders that runs left, by protocols.

    One table of all the folder's evaluations; no encoder is trained again.
    """
    with at_work(quiet=quiet) as reporter:
        from harness.runs.evaluating import Asked
        from harness.runs.protocols import registry_with_protocols

        asked = Asked(
            folder,
            protocols,
            which=weights.value,
            dataset=dataset,
            device=device or "",
            threads=threads,
            rerun=rerun,
            claim=claim,
            seeds=tuple(parse_seeds(seeds)) if seeds else None,
            study=study,
        )
        if not evaluate_folder(asked, registry_with_protocols(plugin), reporter, wide=wide):
            raise typer.Exit(1)


def evaluate_folder(
    asked: Asked, registry: Registry, reporter: Reporter, *, wide: bool = False
) -> bool:
    """Do what is missing and leave the table of all the folder's evaluations;
    whether everything is there and well.
    """
    from harness.records.evaluations import Evaluations
    from harness.records.store import RecordStore, refusal_lines
    from harness.report.cells import blocks
    from harness.report.evaluations import cells_frame, evaluation_notes, evaluation_table
    from harness.runs.evaluating import evaluate

    result = evaluate(asked, registry, reporter)
    with one_writes(asked.folder):
        done = Evaluations(asked.folder)
        records = done.of(list(RecordStore(asked.folder).runs()))
        frame, lines = cells_frame(records), evaluation_notes(records)
        lines += refusal_lines(asked.folder, list(done.refused.values()))
        tables = blocks(evaluation_table(frame, wide=wide))
        leave_table(
            tables[0],
            lines,
            asked.folder / _TABLE_FILE,
            reporter,
            numbers={"": frame},
            more=tables[1:],
        )
    return result.whole
