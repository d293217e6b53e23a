"""The commands that ask something of many stages (`explain`, `claim`)
or of a folder's records (the others).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.completion import claims, one_method
from harness.cli.flags import (
    AsJson,
    BatchSize,
    DataName,
    Device,
    Encoder,
    FirstSlot,
    Out,
    Overrides,
    Plugins,
    Preset,
    Processes,
    Quiet,
    Rerun,
    SpeedSeconds,
    Threads,
    Wide,
)
from harness.cli.output import leave_table, leave_text
from harness.errors import UsageError
from harness.progress import (
    Reporter,
    at_work,
    command_line,
    make_console,
    print_table,
    say_lines,
    warn,
)
from harness.records.schema import EVERY_SWITCH, INFERENCE
from harness.runs.request import prepare_experiment, resolve_settings


def explain_command(
    one: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            autocompletion=one_method,
            help="The faster method, with options if wanted.",
        ),
    ],
    other: Annotated[
        str,
        typer.Argument(
            metavar="OTHER", autocompletion=one_method, help="The method it is compared with."
        ),
    ] = "mamp",
    dataset: DataName = None,
    encoder: Encoder = None,
    batch_size: BatchSize = None,
    preset: Preset = "quick",
    overrides: Overrides = None,
    plugin: Plugins = None,
    out: Out = Path("runs"),
    device: Device = None,
    threads: Threads = None,
    rerun: Rerun = False,
    speed_seconds: SpeedSeconds = 120.0,
    processes: Processes = 1,
    quiet: Quiet = False,
    wide: Wide = False,
    first_slot: FirstSlot = 0,
) -> None:
    """Where a speedup comes from, one switch at a time.

    The waterfall from the published way of training to this suite's, for two methods.
    """
    with at_work(quiet=quiet) as reporter:
        from harness.report.explain import waterfall, waterfall_frame, waterfall_notes
        from harness.studies.explain import explain, refuse_switched, stages_on

        refuse_switched(overrides or [])
        settings = resolve_settings(
            preset,
            overrides,
            methods=f"{one},{other}",
            dataset=dataset,
            encoder=encoder,
            batch_size=batch_size,
            device=device,
        )
        experiment = prepare_experiment(
            settings,
            plugin,
            reporter,
            seeds=[0],
            out=out,
            baseline="",
            rerun=rerun,
            speed_seconds=speed_seconds,
            threads=threads,
            processes=processes,
            first_slot=first_slot,
        )
        measurement = explain(experiment, reporter, stages_on(experiment.device_type))
        record = measurement.record
        leave_table(
            waterfall(record, wide=wide),
            waterfall_notes(record),
            out / "explain.md",
            reporter,
            numbers={"": waterfall_frame(record)},
        )
    if measurement.failures:
        raise typer.Exit(1)


def claim_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME", autocompletion=claims, help="Published claims; `ls claims` lists them."
        ),
    ],
    dataset: DataName = None,
    encoder: Encoder = None,
    batch_size: BatchSize = None,
    preset: Preset = "quick",
    overrides: Overrides = None,
    out: Out = Path("runs"),
    device: Device = None,
    threads: Threads = None,
    rerun: Rerun = False,
    speed_seconds: SpeedSeconds = 120.0,
    processes: Processes = 1,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Judge the measurement in this folder again; nothing is measured.",
        ),
    ] = None,
    quiet: Quiet = False,
    first_slot: FirstSlot = 0,
) -> None:
    """Measure published speedups: a card for each.

    All in one go, trained as published and with every switch on, or forward alone.
    """
    with at_work(announced=not measured, quiet=quiet) as reporter:
        from harness.records.ratios import rules_version
        from harness.report.claims import card_frame, card_notes, card_table
        from harness.studies.claims import find_claim, kind_of, make_card, measured_claims, rows_of

        claims = {name: find_claim(name) for name in names}
        kind, rows = kind_of(claims.values()), rows_of(claims.values())
        record, failed = None, False
        if kind and measured:
            record, out = (
                measured_claims(measured, INFERENCE if kind == "inference" else EVERY_SWITCH),
                measured,
            )
        elif kind:
            from harness.studies.explain import ends, explain, refuse_switched, stages_on
            from harness.studies.inference import measure_inference

            refuse_switched(overrides or [])
            settings = resolve_settings(
                preset,
                overrides,
                methods=rows if kind == "training" else None,
                dataset=dataset,
                encoder=encoder,
                batch_size=batch_size,
                device=device,
            )
            experiment = prepare_experiment(
                settings,
                None,
                reporter,
                seeds=[0],
                out=out,
                baseline="",
                rerun=rerun,
                speed_seconds=speed_seconds,
                threads=threads,
                processes=processes,
                first_slot=first_slot,
            )
            if kind == "inference":
                measurement = measure_inference(experiment, rows, "", reporter)
            else:
                measurement = explain(experiment, reporter, ends(stages_on(experiment.device_type)))
            record, failed = measurement.record, bool(measurement.failures)
        for name, claim in claims.items():
            card = make_card(claim, record)
            lines = card_notes(card, rules_version())
            leave_table(
                card_table(card),
                lines,
                out / f"claim-{name}.md",
                reporter,
                same_measurement=bool(measured),
                numbers={"": card_frame(card)},
            )
    if failed:
        raise typer.Exit(1)


def trends_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="An output folder of `run`, best with three seeds or more."
        ),
    ],
    wide: Wide = False,
) -> None:
    """Which published trends show in a folder's records.

    Paired differences over seeds; written to trends.md.
    """
    from harness.records.store import RecordStore
    from harness.report.table import plain_markdown
    from harness.report.trends import trend_frame, trend_table

    store = RecordStore.existing(folder)
    frame = trend_frame(list(store.runs()))
    warn(*store.passed_over())
    if frame.empty:
        raise UsageError(
            f"{folder}: no two finished runs that a published trend compares; see `ls runs --out"
            f" {folder}`"
        )
    table = trend_table(frame, wide=wide)
    print_table(make_console(), table.columns, table.itertuples(index=False), [])
    leave_text(plain_markdown(table, command_line()), folder / "trends.md", {"": frame})


def tuning_command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="An output folder of `run --tuning k`.")
    ],
) -> None:
    """What tuning brings and what it costs.

    Published settings beside the best of k draws; written to tuning.md.
    """
    from harness.cli.run import leave_tuning

    leave_tuning(folder, Reporter(make_console()))


def ranking_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="An output folder of `run`, best with runs under several budgets.",
        ),
    ],
) -> None:
    """How the ranking moves between kinds of budget.

    Equal clips, equal seconds and equal FLOPs; written to ranking.md.
    """
    from harness.records.store import RecordStore
    from harness.report.ranking import ranking_frame, ranking_table, seconds_lines, settings
    from harness.studies.target import step_times

    store = RecordStore.existing(folder)
    groups = settings(list(store.runs()))
    times = step_times(store.speeds(), groups[0]) if groups else {}
    warn(*store.passed_over())
    if not groups:
        raise UsageError(f"{folder}: no run of a method; see `ls runs --out {folder}`")
    if len(groups) > 1:
        raise UsageError(
            f"{folder}: runs of {len(groups)} different settings; keep one data set and encoder a"
            " folder"
        )
    lines = [
        "linear accuracy in %, mean over seeds, at the last evaluation of each budget; (rank)",
        *seconds_lines(groups[0]),
    ]
    frame = ranking_frame(groups[0], times)
    leave_table(
        ranking_table(frame),
        lines,
        folder / "ranking.md",
        Reporter(make_console()),
        numbers={"": frame},
    )


def target_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="An output folder of `run` with `--set probe.every=...`."
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A frozen target; else --reference sets one for this look."
        ),
    ] = None,
    reference: Annotated[
        str, typer.Option(metavar="METHOD", help="The row whose final accuracy is the target.")
    ] = "mamp",
    freeze_as: Annotated[
        Path | None,
        typer.Option(
            "--freeze", metavar="FILE", help="Freeze the reference's target in this file."
        ),
    ] = None,
    wide: Wide = False,
) -> None:
    """Time to target: seconds to a frozen accuracy.

    Training seconds until each method first reaches it; misses are misses.
    """
    from harness.records.store import RecordStore
    from harness.report.table import to_markdown
    from harness.report.target import (
        ladder_frame,
        ladder_table,
        target_frame,
        target_notes,
        target_table,
    )
    from harness.studies.target import (
        arm_times,
        eligible_runs,
        freeze,
        read_target,
        timing,
        write_target,
    )

    store, reporter = RecordStore.existing(folder), Reporter(make_console())
    records, speeds = list(store.runs()), list(store.speeds())
    warn(*store.passed_over())
    goal = read_target(target) if target else freeze(records, reference)
    compared = eligible_runs(records, goal)
    if not any(record.status == "ok" for record in compared):
        raise UsageError(
            f"{folder}: no finished run was held equal to the target's {goal.reference} runs"
        )
    measured = timing(speeds, [record for record in compared if record.status == "ok"])
    if not measured:
        raise UsageError(
            f"{folder}: no speed measurement has all the rows; the same `run` command again makes"
            " one, or --rerun"
        )
    if freeze_as:
        write_target(freeze_as, goal)
    lines = target_notes(records, goal, frozen=bool(target or freeze_as))
    times = arm_times(measured)
    numbers = {
        "": target_frame(compared, goal, times, measured),
        "ladder": ladder_frame(compared, goal, times),
    }
    table, curve = target_table(numbers[""], goal, wide=wide), ladder_table(numbers["ladder"])
    for shown in (table, curve):
        print_table(reporter.console, shown.columns, shown.itertuples(index=False), [""])
    for line in lines:
        reporter.line(line)
    text = to_markdown(table, lines, command_line(), curve)
    leave_text(text, folder / "target.md", numbers)


def verify_command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="An output folder of any command.")
    ],
    as_json: AsJson = False,
) -> None:
    """Compute again what follows from a folder's records.

    Exit code 1 at a difference.
    """
    from harness.studies.verify import verify

    checks = verify(folder)
    if as_json:
        say_lines(
            json.dumps([{**vars(check), "result": check.result} for check in checks], indent=1)
        )
    else:
        lines = [f"{check.name}: {line}" for check in checks for line in check.differences]
        rows = [(check.name, check.of, check.result) for check in checks]
        print_table(make_console(), ["check", "of", "result"], rows, lines)
    if any(check.differences for check in checks):
        raise typer.Exit(1)
