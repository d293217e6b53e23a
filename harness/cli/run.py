"""The commands `run` and `speed`, and those that say what they would do:
`plan` and `show-config`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import yaml

from harness.cli.evaluation import evaluate_folder
from harness.cli.flags import (
    AsJson,
    Baseline,
    BatchSize,
    BudgetText,
    Claim,
    Config,
    ConfigPart,
    DataName,
    Device,
    DeviceRate,
    DryRun,
    Encoder,
    Encoders,
    FirstSlot,
    Folds,
    KeepDecoder,
    Label,
    MeasureOnly,
    MemoryCap,
    Methods,
    NoMeasure,
    NoPictures,
    NoWait,
    Out,
    Overrides,
    Plugins,
    Precision,
    Preset,
    Price,
    Processes,
    Protocols,
    Quiet,
    RateText,
    Rerun,
    Seeds,
    Shard,
    Since,
    SpeedSeconds,
    Split,
    StateSeconds,
    Study,
    TensorBoard,
    Threads,
    Tuning,
    What,
    Wide,
    given,
)
from harness.cli.output import leave_table, one_writes
from harness.errors import UsageError, nearest
from harness.isolation import launched
from harness.progress import Reporter, at_work, command_line, print_table, say, say_lines, warn
from harness.runs.request import check_early, prepare_experiment, resolve_settings
from harness.spec.model import SECTIONS, parse_seeds, parse_shard

if TYPE_CHECKING:
    from harness.runs.experiment import Experiment
    from harness.runs.plan import Plan


_SETTINGS = (
    "methods",
    "dataset",
    "split",
    "label",
    "encoder",
    "budget",
    "batch_size",
    "precision",
    "device",
)
"""Flags that set something of the spec."""
_AS_TYPED = (
    "out",
    "baseline",
    "rerun",
    "speed_seconds",
    "threads",
    "state_seconds",
    "claim",
    "tensorboard",
    "keep_decoder",
    "protocols",
    "study",
)
"""Flags of `run` that are no settings, and need no parsing."""


def _settings_of(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a command's flags ask for; ``flags`` are its arguments by name,
    its `locals` at the start.
    """
    asked = {name: flags[name] for name in _SETTINGS if name in flags}
    return resolve_settings(flags["preset"], flags["overrides"], **asked)


def asked_of_run(flags: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings that the flags of `run` ask for, and the flags that are no settings, by name."""
    settings, parsed = (
        _settings_of(flags),
        {"seeds": parse_seeds(flags["seeds"]), "shard": parse_shard(flags["shard"])},
    )
    return settings, parsed | {name: flags[name] for name in _AS_TYPED}


def run_command(
    methods: Methods = None,
    dataset: DataName = None,
    budget: BudgetText = None,
    seeds: Seeds = "0",
    encoder: Encoder = None,
    split: Split = None,
    label: Label = None,
    batch_size: BatchSize = None,
    preset: Preset = "quick",
    overrides: Overrides = None,
    plugin: Plugins = None,
    config: Config = None,
    part: ConfigPart = None,
    protocols: Protocols = "",
    folds: Folds = 1,
    tuning: Tuning = 0,
    out: Out = Path("runs"),
    device: Device = None,
    precision: Precision = None,
    threads: Threads = None,
    rerun: Rerun = False,
    state_seconds: StateSeconds = 300.0,
    tensorboard: TensorBoard = False,
    keep_decoder: KeepDecoder = False,
    no_pictures: NoPictures = False,
    baseline: Baseline = "",
    speed_seconds: SpeedSeconds = 30.0,
    claim: Claim = False,
    no_wait: NoWait = False,
    shard: Shard = "1/1",
    measure_only: MeasureOnly = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    since: Since = None,
    study: Study = "",
) -> None:
    """Pre-train methods under one budget, print one table.

    Their speed is measured first, interleaved; then each trains and is evaluated. What the
    folder has finished is not done again: the same command goes on.
    """
    settings, chosen = asked_of_run(locals())
    chosen |= {"no_wait": no_wait, "since": since}
    each = every_setting(settings, folds, tuning)
    if dry_run:
        _show_plans(each, plugin, chosen, quiet=quiet)
        return
    with at_work(quiet=quiet) as reporter:
        check_early(settings, out)
        if not no_pictures:
            from harness.pictures.kept import run_pictures

            chosen["draw"] = run_pictures
        do = _measure_fold if measure_only else _run_fold
        well = [do(one, plugin, chosen, reporter) for one in each]
        if tuning and not measure_only:
            leave_tuning(out, reporter, begun=no_wait)
    if not all(well):
        raise typer.Exit(1)


def _folds_of(settings: dict[str, Any], folds: int) -> list[dict[str, Any]]:
    """The settings, and those with the sides of the split exchanged where two folds are wanted."""
    from datasets.splits import swapped

    data = settings["data"]
    other = {**settings, "data": data.model_copy(update={"split": swapped(data.split)})}
    return [settings, other][:folds]


def every_setting(settings: dict[str, Any], folds: int, tuning: int) -> list[dict[str, Any]]:
    """The settings of every fold, as asked for and under each draw."""
    return [one for fold in _folds_of(settings, folds) for one in _with_draws(fold, tuning)]


def _measure_fold(
    settings: dict[str, Any], plugin: list[Path] | None, chosen: dict[str, Any], reporter: Reporter
) -> bool:
    """The speed measurement of a run, for others who do the rest;
    whether every method could be timed.
    """
    from harness.runs.experiment import speed_of
    from harness.runs.sharing import Share

    experiment = prepare_experiment(settings, plugin, reporter, **chosen)
    share = Share(experiment.store, reporter, shared=chosen["claim"])
    measurement = speed_of(experiment, reporter, share, partial(_tell_plan, reporter))
    reporter.line(f"speed measured, in {chosen['out'] / measurement.record.address}")
    return not measurement.failures


def _with_draws(settings: dict[str, Any], tuning: int) -> list[dict[str, Any]]:
    """The settings, and those of so many draws from the published space."""
    if not tuning:
        return [settings]
    from harness.spec.model import parse_methods
    from harness.spec.tuning import draws

    if not settings["data"].validation:
        raise UsageError(
            "--tuning: expected held-out subjects, on which draws are chosen, found"
            " data.validation=0; leave it out"
        )
    methods = parse_methods(settings["methods"])
    return [settings, *(draw.applied(settings, methods) for draw in draws(tuning))]


def leave_tuning(folder: Path, reporter: Reporter, *, begun: bool = False) -> None:
    """The table of what tuning brought and cost; a `UsageError` where a folder has no draw.

    Args:
        begun: others may be at work on the first one: then there is no table yet.
    """
    from harness.records.store import RecordStore
    from harness.report.tuning import tuning_frame, tuning_notes, tuning_table
    from harness.studies.tuning import tuned_methods

    with one_writes(folder):
        found = tuned_methods(list(RecordStore.existing(folder).runs()))
        if found:
            leave_table(
                tuning_table(found),
                tuning_notes(found),
                folder / "tuning.md",
                reporter,
                numbers={"": tuning_frame(found)},
            )
        elif not begun:
            raise UsageError(
                f"{folder}: expected runs of `run --tuning k` with those under published"
                " settings, found none"
            )


def _run_fold(
    settings: dict[str, Any], plugin: list[Path] | None, chosen: dict[str, Any], reporter: Reporter
) -> bool:
    """A run with its tables; whether everything is there and well."""
    from harness.records.store import lost_weights, read_records, refusal_lines
    from harness.report.folder import Typed, folder_frame, folder_page, folder_tables
    from harness.report.repeat import repeat_lines
    from harness.report.status import not_done
    from harness.report.table import build_table, notes
    from harness.runs.experiment import run

    out = chosen["out"]
    experiment = prepare_experiment(settings, plugin, reporter, **chosen)
    records, speed = run(experiment, reporter, partial(_tell_plan, reporter))
    repeated = repeat_lines(records, experiment.asked, sys.argv[1:])
    lines = [*notes(records, speed, wide=False), *repeated, *experiment.stale()]
    typed = Typed(sys.argv[1:], experiment.asked, experiment.held_equal, experiment.versions)
    with one_writes(out):
        found = read_records(out)
        unfinished = not_done(out, found)
        tables = folder_tables(found)
        page = folder_page(tables, found.refused, command_line(), typed)
        page += "".join(f"- {line}\n" for line in unfinished)
        leave_table(
            build_table(records, speed),
            [*lines, *unfinished],
            out / "table.md",
            reporter,
            page=page,
            numbers={"": folder_frame(tables)},
        )
    warn(
        *refusal_lines(
            out, [one for one in found.refused if one.path not in experiment.store.refused]
        )
    )
    whole = not chosen["protocols"] or _evaluate_runs(
        experiment, [record.address for record in records], reporter
    )
    well = (
        ("ok", "interrupted") if chosen["no_wait"] else ("ok",)
    )  # others go on with what was interrupted
    return whole and all(record.status in well and not lost_weights(record) for record in records)


def _evaluate_runs(experiment: Experiment, addresses: list[str], reporter: Reporter) -> bool:
    """The protocols that `run` was asked for, on the encoders of its rows;
    whether everything is there and well.
    """
    from harness.runs.evaluating import Asked

    request = experiment.request
    asked = Asked(
        request.out,
        request.protocols,
        device=request.device,
        rerun=request.rerun,
        claim=request.claim,
        no_wait=request.no_wait,
        runs=tuple(addresses),
        loaded=experiment.data,
        study=request.study,
    )
    return evaluate_folder(asked, experiment.registry, reporter)


def plan_command(
    methods: Methods = None,
    dataset: DataName = None,
    budget: BudgetText = None,
    seeds: Seeds = "0",
    encoder: Encoder = None,
    split: Split = None,
    label: Label = None,
    batch_size: BatchSize = None,
    preset: Preset = "quick",
    overrides: Overrides = None,
    plugin: Plugins = None,
    config: Config = None,
    part: ConfigPart = None,
    protocols: Protocols = "",
    folds: Folds = 1,
    tuning: Tuning = 0,
    out: Out = Path("runs"),
    device: Device = None,
    precision: Precision = None,
    threads: Threads = None,
    rerun: Rerun = False,
    state_seconds: StateSeconds = 300.0,
    tensorboard: TensorBoard = False,
    keep_decoder: KeepDecoder = False,
    no_pictures: NoPictures = False,
    baseline: Baseline = "",
    speed_seconds: SpeedSeconds = 30.0,
    claim: Claim = False,
    shard: Shard = "1/1",
    no_measure: NoMeasure = False,
    rate: RateText = "",
    device_rate: DeviceRate = "",
    price: Price = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
    study: Study = "",
) -> list[tuple[Path, Any]]:  # typer evaluates it; `Plan` is loaded with the command
    """Say what `run` would do and cost; write nothing.

    Steps, hours, memory and disk of `run` with the same flags.
    """
    settings, chosen = asked_of_run(locals())
    if rate and device_rate:
        raise UsageError("--rate and --device-rate: expected one of them, found both")
    plans = _show_plans(
        every_setting(settings, folds, tuning),
        plugin,
        chosen,
        measure=not no_measure,
        rate=rate,
        device_rate=device_rate,
        price=price,
        as_json=as_json,
        quiet=quiet,
    )
    if as_json:  # of several settings a list
        texts = [plan.model_dump_json(indent=1) for plan in plans]
        say_lines(f"[{', '.join(texts)}]" if len(plans) > 1 else texts[0])
        return []
    return [(out, plan) for plan in plans]


def _show_plans(
    each: list[dict[str, Any]],
    plugins: list[Path] | None,
    chosen: dict[str, Any],
    *,
    as_json: bool = False,
    **others: Any,
) -> list[Plan]:
    """Make and print the plan of every setting, as `_show_plan` does, and what they come to."""
    from harness.report.plan import together

    plans = [_show_plan(one, plugins, chosen, as_json=as_json, **others) for one in each]
    if len(plans) > 1 and not as_json:
        say(together([(chosen["out"], plan) for plan in plans]))
    return plans


def _show_plan(
    settings: dict[str, Any],
    plugins: list[Path] | None,
    chosen: dict[str, Any],
    *,
    measure: bool = True,
    rate: str = "",
    device_rate: str = "",
    price: float | None = None,
    as_json: bool = False,
    quiet: bool = False,
) -> Plan:
    """Make a plan and print it.

    Args:
        chosen: flags that are no settings.
        as_json: whoever calls prints it.
    """
    with at_work(stderr=as_json, quiet=quiet) as reporter:
        from harness.runs.experiment import tell_if_busy
        from harness.runs.planning import plan_ahead, rate_there

        there = rate_there(settings, chosen["out"], rate, device_rate)
        experiment = prepare_experiment(
            settings, plugins, reporter, **chosen, elsewhere=bool(there)
        )
        if not there:
            tell_if_busy(experiment, reporter, judged=False)
        plan = plan_ahead(experiment, reporter, measure=measure, rate=there, price=price)
        if not as_json:
            _print_plan(reporter, plan)
            if chosen["protocols"]:
                reporter.result(
                    f"then evaluates by {chosen['protocols']}; that is not in this plan's time"
                )
        warn(*experiment.store.passed_over())
    return plan


def _tell_plan(reporter: Reporter, plan: Plan) -> None:
    """The plan of a run, before its long work."""
    if not reporter.quiet:
        _print_plan(reporter, plan)


def _print_plan(reporter: Reporter, plan: Plan) -> None:
    """A plan as text."""
    from harness.report.plan import plan_heading, plan_lines, plan_table

    reporter.result(plan_heading(plan))
    if not plan.done:
        table = plan_table(plan)
        print_table(
            reporter.console, table.columns, table.itertuples(index=False), plan_lines(plan)
        )


def speed_command(
    methods: Methods = None,
    dataset: DataName = None,
    encoder: Encoder = None,
    batch_size: BatchSize = None,
    preset: Preset = "quick",
    overrides: Overrides = None,
    plugin: Plugins = None,
    config: Config = None,
    part: ConfigPart = None,
    out: Out = Path("runs"),
    device: Device = None,
    precision: Precision = None,
    threads: Threads = None,
    rerun: Rerun = False,
    baseline: Baseline = "",
    speed_seconds: SpeedSeconds = 30.0,
    processes: Processes = 1,
    what: What = "training",
    encoders: Encoders = "",
    memory_cap: MemoryCap = None,
    quiet: Quiet = False,
    wide: Wide = False,
    first_slot: FirstSlot = 0,
    study: Study = "",
) -> None:
    """Measure speed alone, or encoders' forward passes.

    Only the interleaved speed measurement of `run`, without training or probes.
    """
    inference = _asks_inference(what, encoders, methods, memory_cap)
    if inference and launched.world_size() > 1:
        raise UsageError(
            "--what inference: expected one process, found several ranks; start it without torchrun"
        )
    settings = _settings_of(locals())
    with at_work(quiet=quiet) as reporter:
        from harness.report.inference import inference_frame, inference_notes, inference_table
        from harness.report.speed import speed_frame, speed_notes, speed_table
        from harness.runs.experiment import speed_of
        from harness.studies.inference import measure_inference

        experiment = prepare_experiment(
            settings,
            plugin,
            reporter,
            seeds=[0],
            out=out,
            baseline="" if inference else baseline,
            rerun=rerun,
            speed_seconds=speed_seconds,
            memory_cap=memory_cap and memory_cap * 1e9,
            threads=threads,
            processes=processes,
            first_slot=first_slot,
            one_process=not inference,
            study=study,
        )
        if inference:
            measurement = measure_inference(
                experiment, encoders or "tiny,small,base", baseline, reporter
            )
            record = measurement.record
            table, lines, numbers = (
                inference_table(record, wide=wide),
                inference_notes(record),
                inference_frame(record),
            )
        else:
            measurement = speed_of(experiment, reporter)
            record = measurement.record
            table, lines, numbers = (
                speed_table(record, wide=wide),
                speed_notes(record),
                speed_frame(record),
            )
        page = out / ("inference.md" if inference else "speed.md")
        leave_table(table, lines, page, reporter, numbers={"": numbers})
    if measurement.failures:
        raise typer.Exit(1)


def _asks_inference(
    what: str, encoders: str, methods: str | None, memory_cap: float | None
) -> bool:
    """Whether `speed` is asked for forward passes;
    a `UsageError` for flags of the other measurement.
    """
    kinds = ("training", "inference")
    if what not in kinds:
        raise UsageError(
            f"--what {what!r}: expected one of {', '.join(kinds)}{nearest(what, kinds)}"
        )
    inference = what == "inference"
    if encoders and not inference:
        raise UsageError(
            "--encoders: expected with --what inference; training takes one --encoder for all"
            " methods"
        )
    if inference and (methods or memory_cap):
        raise UsageError(
            "--what inference times encoders: expected --encoders, found --methods or --memory-cap"
        )
    return inference


def show_config_command(
    ctx: typer.Context,
    methods: Methods = None,
    dataset: DataName = None,
    budget: BudgetText = None,
    seeds: Seeds = "0",
    encoder: Encoder = None,
    split: Split = None,
    label: Label = None,
    batch_size: BatchSize = None,
    preset: Preset = "quick",
    overrides: Overrides = None,
    plugin: Plugins = None,
    config: Config = None,
    part: ConfigPart = None,
    protocols: Protocols = "",
    folds: Folds = 1,
    tuning: Tuning = 0,
    out: Out = Path("runs"),
    device: Device = None,
    precision: Precision = None,
    threads: Threads = None,
    rerun: Rerun = False,
    state_seconds: StateSeconds = 300.0,
    tensorboard: TensorBoard = False,
    keep_decoder: KeepDecoder = False,
    no_pictures: NoPictures = False,
    baseline: Baseline = "",
    speed_seconds: SpeedSeconds = 30.0,
    claim: Claim = False,
    shard: Shard = "1/1",
    no_wait: NoWait = False,
    measure_only: MeasureOnly = False,
    as_json: AsJson = False,
) -> None:
    """Print the configuration that `run` would use.

    Every setting, and the other flags that were given: a file for --config.
    """
    settings, _ = asked_of_run({**locals(), "study": ""})
    every_setting(settings, folds, tuning)
    plain = {
        "methods": settings["methods"],
        "device": settings["device"],
        **_given(ctx),
        **{name: settings[name].model_dump(mode="json") for name in SECTIONS},
    }
    say_lines(
        json.dumps(plain, indent=1) if as_json else yaml.safe_dump(plain, sort_keys=False).rstrip()
    )


def _given(ctx: typer.Context) -> dict[str, Any]:
    """The flags of `run` that were typed or stood in a file, and that are no settings."""
    others = {*_SETTINGS, "overrides", "preset", "config", "part", "as_json"}
    found = {}
    for parameter, value in given(ctx, "COMMANDLINE"):
        if parameter.name not in others:
            texts = [str(one) for one in value] if isinstance(value, list | tuple) else value
            key = parameter.opts[0].removeprefix("--")
            found[key] = str(value) if isinstance(value, Path) else texts
    return found
