"""The command line: ``run`` and everything around it (``--help`` lists the commands).

Exit codes: 0 everything ran; 1 a run failed, diverged or ran out of memory, a method failed a check, or a folder does
not hold together; 2 the request cannot be done (one line says why); 130 stopped by the user, 143 by SIGTERM, 129 by
SIGHUP.
"""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.markup import escape

from harness.cli.data import data_app
from harness.errors import UsageError, nearest
from harness.isolation.stopping import Stopped, stoppable
from harness.progress import Reporter, at_work, command_line, make_console, print_table, warn
from harness.runs.request import parse_override, prepare_experiment, resolve_settings
from harness.spec.model import SECTIONS, DataSpec, build, parse_seeds
from harness.spec.presets import PRESETS

if TYPE_CHECKING:
    import pandas as pd


INTERRUPTED = 130
"""What some versions of typer return for Ctrl-C, which they swallow."""

# typer brings its own copy of click in some versions; its exception for a bad command line is found by name.
COMMAND_LINE_ERROR: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, pretty_exceptions_enable=False,
    help="Masked skeleton pre-training methods side by side: one encoder, one budget, one clock.",
)  # fmt: skip

app.add_typer(data_app, name="data")


def finite(value: float | None) -> float | None:
    """A number that a record can hold; the bounds of some versions of typer let NaN through."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"expected a finite number, found {value}")
    return value


Methods = Annotated[str | None, typer.Option(help="Methods, e.g. gfp,skeletonmae or gfp:lambda_pred=5,mamp.")]
DataName = Annotated[str | None, typer.Option("--dataset", help="A data set's name or path/to/file.npz.")]
Split = Annotated[str | None, typer.Option(help="xsub, xview or a column such as view:1,2->3.")]
Label = Annotated[str | None, typer.Option(help="Label column, or several combined: label,correct.")]
Encoder = Annotated[str | None, typer.Option(help="Encoder size: tiny, small or base.")]
BudgetText = Annotated[str | None, typer.Option("--budget", help="30ep, 2000steps, 50000clips, 300s or 2e15flops.")]
Seeds = Annotated[str, typer.Option(help="Seeds, e.g. 0 or 0-2.")]
BatchSize = Annotated[int | None, typer.Option(help="Body sequences per batch.")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Out = Annotated[Path, typer.Option(help="Folder for records, weights and the table.")]
Plugins = Annotated[list[Path] | None, typer.Option("--plugin", help="Python file with a method; repeatable.")]
Preset = Annotated[str, typer.Option(help=f"Starting point: {', '.join(PRESETS)}.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="Any setting, e.g. train.lr=1e-3; repeatable.")]
Baseline = Annotated[str, typer.Option(help="Method that speedups are measured against [skeletonmae].")]
Threads = Annotated[int | None, typer.Option(help="Threads to compute with [one per core].", min=1)]
Rerun = Annotated[bool, typer.Option("--rerun", help="Run again what is already finished.")]
SpeedSeconds = Annotated[
    float, typer.Option(help="Length of the interleaved speed measurement.", min=1.0, callback=finite)
]
MemoryCap = Annotated[
    float | None, typer.Option(help="GB: each method at the largest batch that fits.", min=0.01, callback=finite)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("run")
def run_command(
    methods: Methods = None, dataset: DataName = None, split: Split = None, label: Label = None,
    encoder: Encoder = None, budget: BudgetText = None, seeds: Seeds = "0", batch_size: BatchSize = None,
    precision: Precision = None, device: Device = None, out: Out = Path("runs"), plugin: Plugins = None,
    preset: Preset = "quick", overrides: Overrides = None, baseline: Baseline = "", rerun: Rerun = False,
    speed_seconds: SpeedSeconds = 30.0, threads: Threads = None,
) -> None:  # fmt: skip
    """Pre-train the methods under one budget, measure their speed side by side, probe them, print one table."""
    settings = resolve_settings(
        preset, overrides, methods=methods, dataset=dataset, split=split, label=label, encoder=encoder,
        budget=budget, batch_size=batch_size, precision=precision, device=device,
    )  # fmt: skip
    with at_work() as report:
        from harness.report.repeat import repeat_lines
        from harness.report.table import build_table, notes
        from harness.runs.experiment import run

        experiment = prepare_experiment(
            settings, plugin, report, seeds=parse_seeds(seeds), out=out, baseline=baseline, rerun=rerun,
            speed_seconds=speed_seconds, threads=threads,
        )  # fmt: skip
        records, speed = run(experiment, report)
        repeated = repeat_lines(records, experiment.asked, sys.argv[1:])
        lines = [*notes(records, speed), *repeated, *experiment.stale()]
        leave_table(build_table(records, speed), lines, out / "table.md", report)
    if any(record.status != "ok" for record in records):
        raise typer.Exit(1)


@app.command("speed")
def speed_command(
    methods: Methods = None, dataset: DataName = None, encoder: Encoder = None, batch_size: BatchSize = None,
    precision: Precision = None, device: Device = None, out: Out = Path("runs"), plugin: Plugins = None,
    preset: Preset = "quick", overrides: Overrides = None, baseline: Baseline = "", rerun: Rerun = False,
    speed_seconds: SpeedSeconds = 30.0, memory_cap: MemoryCap = None, threads: Threads = None,
) -> None:  # fmt: skip
    """Only the interleaved speed measurement of `run`, without training or probes."""
    settings = resolve_settings(
        preset, overrides, methods=methods, dataset=dataset, split=None, label=None, encoder=encoder,
        budget=None, batch_size=batch_size, precision=precision, device=device,
    )  # fmt: skip
    with at_work() as report:
        from harness.report.speed import speed_notes, speed_table
        from harness.runs.experiment import speed_of

        experiment = prepare_experiment(
            settings, plugin, report, seeds=[0], out=out, baseline=baseline, rerun=rerun, speed_seconds=speed_seconds,
            memory_cap=memory_cap and memory_cap * 1e9, threads=threads,
        )  # fmt: skip
        measurement = speed_of(experiment, [], report)
        leave_table(speed_table(measurement.record), speed_notes(measurement.record), out / "speed.md", report)
    if measurement.failures:
        raise typer.Exit(1)


@app.command("explain")
def explain_command(
    one: Annotated[str, typer.Argument(help="The faster method, with options if wanted.")],
    other: Annotated[str, typer.Argument(help="The method it is compared with.")] = "mamp",
    dataset: DataName = None, encoder: Encoder = None, batch_size: BatchSize = None, device: Device = None,
    out: Out = Path("runs"), plugin: Plugins = None, preset: Preset = "quick", overrides: Overrides = None,
    rerun: Rerun = False, speed_seconds: SpeedSeconds = 120.0, threads: Threads = None,
) -> None:  # fmt: skip
    """The waterfall from the published way of training to this suite's, one switch at a time, for two methods."""
    with at_work() as report:
        from harness.report.explain import waterfall, waterfall_notes
        from harness.studies.explain import explain, refuse_switched

        refuse_switched(overrides or [])
        settings = resolve_settings(
            preset, overrides, methods=f"{one},{other}", dataset=dataset, split=None, label=None, encoder=encoder,
            budget=None, batch_size=batch_size, precision=None, device=device,
        )  # fmt: skip
        experiment = prepare_experiment(
            settings, plugin, report, seeds=[0], out=out, baseline="", rerun=rerun, speed_seconds=speed_seconds,
            threads=threads,
        )  # fmt: skip
        measurement = explain(experiment, report)
        leave_table(waterfall(measurement.record), waterfall_notes(measurement.record), out / "explain.md", report)
    if measurement.failures:
        raise typer.Exit(1)


@app.command("claim")
def claim_command(
    names: Annotated[list[str], typer.Argument(help="Published claims; `ls claims` lists them.")],
    dataset: DataName = None, encoder: Encoder = None, batch_size: BatchSize = None, device: Device = None,
    out: Out = Path("runs"), preset: Preset = "quick", overrides: Overrides = None, rerun: Rerun = False,
    speed_seconds: SpeedSeconds = 120.0, threads: Threads = None,
    measured: Annotated[
        Path | None, typer.Option("--from", help="Judge the measurement in this folder again; nothing is measured.")
    ] = None,
) -> None:  # fmt: skip
    """Claim cards: measure published speedups in one go, trained as published and with every switch on."""
    with at_work(announced=not measured) as report:
        from harness.records.ratios import rules_version
        from harness.report.claims import card_notes, card_table
        from harness.speed.measurement import Measurement
        from harness.studies.claims import find_claim, make_card, measured_claims, rows_of
        from harness.studies.explain import ends, explain, refuse_switched

        refuse_switched(overrides or [])
        claims = {name: find_claim(name) for name in names}
        if measured:
            measurement, out = Measurement(measured_claims(measured), {}), measured
        else:
            settings = resolve_settings(
                preset, overrides, methods=rows_of(claims.values()), dataset=dataset, split=None, label=None,
                encoder=encoder, budget=None, batch_size=batch_size, precision=None, device=device,
            )  # fmt: skip
            experiment = prepare_experiment(
                settings, None, report, seeds=[0], out=out, baseline="", rerun=rerun, speed_seconds=speed_seconds,
                threads=threads,
            )  # fmt: skip
            measurement = explain(experiment, report, ends())
        for name, claim in claims.items():
            card = make_card(claim, measurement.record)
            lines = card_notes(card, rules_version())
            leave_table(card_table(card), lines, out / f"claim-{name}.md", report, same_measurement=bool(measured))
    if measurement.failures:
        raise typer.Exit(1)


@app.command("ls")
def ls_command(
    what: Annotated[str, typer.Argument(help="methods, datasets, encoders, runs or claims.")],
    as_json: AsJson = False, plugin: Plugins = None, out: Out = Path("runs"),
) -> None:  # fmt: skip
    """List what exists."""
    from harness.cli import listing

    if what not in listing.LISTINGS:
        names = ", ".join(listing.LISTINGS)
        raise UsageError(f"ls {what!r}{nearest(what, listing.LISTINGS)} (expected one of {names})")
    rows = listing.LISTINGS[what](plugin, out)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        typer.echo(f"no {what} in {out}" if what == "runs" else f"no {what}")
        return
    columns = listing.BRIEF.get(what) or list(rows[0])
    print_table(make_console(), columns, [[listing.plain(row[column]) for column in columns] for row in rows], [])


@app.command("verify")
def verify_command(
    folder: Annotated[Path, typer.Argument(help="An output folder of any command.")],
    as_json: AsJson = False,
) -> None:
    """Compute again what follows from something else in a folder's records; exit code 1 at a difference."""
    from harness.studies.verify import verify

    checks = verify(folder)
    if as_json:
        typer.echo(json.dumps([{**vars(check), "result": check.result} for check in checks], indent=1))
    else:
        lines = [f"{check.name}: {line}" for check in checks for line in check.differences]
        rows = [(check.name, check.of, check.result) for check in checks]
        print_table(make_console(), ["check", "of", "result"], rows, lines)
    if any(check.differences for check in checks):
        raise typer.Exit(1)


@app.command("show-config")
def show_config_command(
    methods: Methods = None, dataset: DataName = None, split: Split = None, label: Label = None,
    encoder: Encoder = None, budget: BudgetText = None, batch_size: BatchSize = None, precision: Precision = None,
    device: Device = None, preset: Preset = "quick", overrides: Overrides = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Print the complete configuration that `run` would use with the same flags."""
    settings = resolve_settings(
        preset, overrides, methods=methods, dataset=dataset, split=split, label=label, encoder=encoder,
        budget=budget, batch_size=batch_size, precision=precision, device=device,
    )  # fmt: skip
    plain = {
        "methods": settings["methods"],
        "device": settings["device"],
        **{name: settings[name].model_dump(mode="json") for name in SECTIONS},
    }
    typer.echo(json.dumps(plain, indent=1) if as_json else yaml.safe_dump(plain, sort_keys=False).rstrip())


@app.command("check-method")
def check_method_command(
    name: Annotated[str, typer.Argument(help="A method, with options if wanted: mamp or mamp:decoder=cross.")],
    plugin: Plugins = None, threads: Threads = None,
) -> None:  # fmt: skip
    """Run the conformance suite on a method and print what passes and what fails."""
    with at_work(announced=False) as report:
        from harness.conformance.suite import examine_all, find_specimen, summary
        from harness.machine import use_threads
        from harness.registry import Registry

        use_threads(threads)
        specimen = find_specimen(name, Registry(plugin))
        with report.task(f"checking {name}", "check") as task:
            results = examine_all(specimen, task)
        rows = [(result.check, result.outcome, escape(result.reason)) for result in results]
        print_table(report.console, ["check", "result", "reason"], rows, [f"{name}: {summary(results)}"])
    if not all(result.passed for result in results):
        raise typer.Exit(1)


@app.command("new-method")
def new_method_command(
    name: Annotated[str, typer.Argument(help="Name of the method, e.g. my-method.")],
    out: Annotated[Path, typer.Option(help="Folder for the two files.")] = Path(),
) -> None:
    """Write a small method that works, as a plugin file to start from, and its test."""
    from harness.conformance.scaffold import next_commands, write_method

    method, test = write_method(name, out)
    typer.echo(f"wrote {method} and {test}; next:")
    for command in next_commands(method):
        typer.echo(f"    {command}")


@app.command("import-encoder")
def import_encoder_command(
    file: Annotated[Path, typer.Argument(help="A MAMP-style .pth (code in it is never run) or encoder.safetensors.")],
    out: Annotated[Path, typer.Option(help="Where the weights go.")] = Path("encoder.safetensors"),
    encoder: Annotated[str | None, typer.Option(help="Size: tiny, small or base [as the file says, or base].")] = None,
    joints: Annotated[int | None, typer.Option(help="Joints of its skeleton [as the file says, or 25].", min=1)] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Of the size, e.g. encoder.heads=4.")] = None,
    dataset: DataName = None, split: Split = None, label: Label = None, device: Device = None,
    threads: Threads = None,
) -> None:  # fmt: skip
    """Turn a released encoder into one of this suite; with --dataset also probe it, random-init beside it."""
    asked: dict[str, Any] = {"size": encoder} if encoder else {}
    for text in overrides or []:
        section, key, value = parse_override(text)
        if section != "encoder":
            raise UsageError(f"--set {text!r}: expected a number of the encoder, e.g. encoder.heads=4")
        asked[key] = value
    chosen = {"name": dataset, "split": split, "label": label}
    data = {key: value for key, value in chosen.items() if value is not None}
    if data and dataset is None:
        raise UsageError("--split and --label: expected a --dataset to probe on, found none")
    spec = build(DataSpec, data, "data") if data else None
    with at_work(announced=False):
        from harness.encoders.importing import import_and_probe
        from harness.machine import select_device, use_threads

        use_threads(threads)
        imported, accuracies = import_and_probe(file, out, asked, joints, spec, select_device(device or "auto"))
    for note in imported.notes:
        typer.echo(note)
    typer.echo(f"wrote {out}: {imported.encoder.parameter_count:,} parameters, {imported.encoder.grid.tokens} tokens")
    if imported.ignored:
        typer.echo(f"left out, not part of the encoder: {len(imported.ignored)} tensors ({imported.ignored[0]}, ...)")
    rows = [(row, f"{found.linear_test:.1%}", f"{found.knn_test:.1%}") for row, found in accuracies.items()]
    if rows:
        print_table(make_console(), ["encoder", "linear", "kNN"], rows, [])


@app.command("trends")
def trends_command(
    folder: Annotated[Path, typer.Argument(help="An output folder of `run`, best with three seeds or more.")],
) -> None:
    """Which published trends show in a folder's records: paired differences over seeds; written to trends.md."""
    from harness.records.store import RecordStore, write_atomically
    from harness.report.table import plain_markdown
    from harness.report.trends import trend_table

    store = RecordStore(folder)
    table = trend_table(list(store.runs()))
    warn(*store.passed_over())
    if table.empty:
        raise UsageError(
            f"{folder}: no two finished runs that a published trend compares; see `ls runs --out {folder}`"
        )
    print_table(make_console(), table.columns, table.itertuples(index=False), [])
    write_atomically(folder / "trends.md", plain_markdown(table, command_line()).encode())


@app.command("exchange", hidden=True, deprecated=True)
@app.command("ranking")
def ranking_command(
    folder: Annotated[Path, typer.Argument(help="An output folder of `run`, best with runs under several budgets.")],
) -> None:
    """How the ranking moves between equal clips, equal seconds and equal FLOPs; written to ranking.md."""
    from harness.records.store import RecordStore
    from harness.report.ranking import exchange_table, seconds_lines, settings
    from harness.studies.target import step_times

    store = RecordStore(folder)
    groups = settings(list(store.runs()))
    times = step_times(store.speeds(), groups[0]) if groups else {}
    warn(*store.passed_over())
    if not groups:
        raise UsageError(f"{folder}: no run of a method; see `ls runs --out {folder}`")
    if len(groups) > 1:
        raise UsageError(f"{folder}: runs of {len(groups)} different settings; keep one data set and encoder a folder")
    lines = [
        "linear accuracy in %, mean over seeds, at the last evaluation of each budget; (rank)",
        *seconds_lines(groups[0]),
    ]
    leave_table(exchange_table(groups[0], times), lines, folder / "ranking.md", Reporter(make_console()))


@app.command("target")
def target_command(
    folder: Annotated[Path, typer.Argument(help="An output folder of `run` with `--set probe.every=...`.")],
    target: Annotated[
        Path | None, typer.Option(help="A frozen target; else --reference sets one for this look.")
    ] = None,
    reference: Annotated[str, typer.Option(help="The row whose final accuracy is the target.")] = "mamp",
    freeze_as: Annotated[
        Path | None, typer.Option("--freeze", help="Freeze the reference's target in this file.")
    ] = None,
) -> None:
    """Time to target: training seconds until each method first reaches a frozen accuracy; misses are misses."""
    from harness.records.store import RecordStore, write_atomically
    from harness.report.table import to_markdown
    from harness.report.target import ladder_table, target_notes, target_table
    from harness.studies.target import comparable, freeze, read_target, step_times, write_target

    store, report = RecordStore(folder), Reporter(make_console())
    records, speeds = list(store.runs()), list(store.speeds())
    warn(*store.passed_over())
    goal = read_target(target) if target else freeze(records, reference)
    compared = comparable(records, goal)
    if not any(record.status == "ok" for record in compared):
        raise UsageError(f"{folder}: no finished run was held equal to the target's {goal.reference} runs")
    times = step_times(speeds, [record for record in compared if record.status == "ok"])
    if not times:
        raise UsageError(
            f"{folder}: no speed measurement has all the rows; the same `run` command again makes one, or --rerun"
        )
    if freeze_as:
        write_target(freeze_as, goal)
    lines = target_notes(records, goal, frozen=bool(target or freeze_as))
    table, curve = target_table(compared, goal, times), ladder_table(compared, goal, times)
    for shown in (table, curve):
        print_table(report.console, shown.columns, shown.itertuples(index=False), [""])
    for line in lines:
        report.line(line)
    text = to_markdown(table, [], command_line()) + "\n" + to_markdown(curve, lines, command_line())
    write_atomically(folder / "target.md", text.encode())


def leave_table(
    table: pd.DataFrame, lines: list[str], path: Path, report: Reporter, *, same_measurement: bool = False
) -> None:
    """Print a table with its notes and leave it as Markdown.

    Args:
        same_measurement: the numbers are those of the table that stands there, whose first line, the command that
            measured them, stays.
    """
    from harness.records.store import write_atomically
    from harness.report.table import to_markdown

    command = command_line()
    if same_measurement and path.exists():
        command = path.read_text(encoding="utf-8").partition("\n")[0].strip() or command
    print_table(report.console, table.columns, table.itertuples(index=False), lines)
    write_atomically(path, to_markdown(table, lines, command).encode())
    report.line(f"records in {path.parent}, table in {path}")


def main() -> None:
    """Entry point: every expected failure is one line on stderr and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # no table is lost to an encoding without the sign of a deviation
    with stoppable() as stops:
        try:
            code = app(standalone_mode=False)
            if code == INTERRUPTED:
                raise KeyboardInterrupt
        except UsageError as error:
            code = _fail(str(error), 2)
        except COMMAND_LINE_ERROR as error:
            code = _fail(error.format_message(), 2)  # type: ignore[attr-defined]
        except (KeyboardInterrupt, typer.Abort):
            code = _stopped(stops.asked)
        except MemoryError:
            code = _fail("not enough memory; choose smaller data or a smaller batch, or close other programs", 2)
        except OSError as error:
            place = error.filename or "output"
            code = _fail(f"{error.strerror or error}: {place}; free space or choose another --out", 2)
    sys.exit(code or 0)


def _stopped(asked: Stopped | None) -> int:
    by = f" by {asked.signal.name}" if asked and asked.exit_code != INTERRUPTED else ""
    return _fail(
        f"stopped{by}; the same command continues with what is missing", asked.exit_code if asked else INTERRUPTED
    )


def _fail(message: str, code: int) -> int:
    typer.echo(f"error: {message}", err=True)
    return code
