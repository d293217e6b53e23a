"""The commands `run` and `speed`, and `show-config`, which says what they would do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer
import yaml

from harness.cli.flags import (
    AsJson,
    Baseline,
    BatchSize,
    BudgetText,
    Claim,
    DataName,
    Device,
    Encoder,
    KeepDecoder,
    Label,
    MemoryCap,
    Methods,
    Out,
    Overrides,
    Plugins,
    Precision,
    Preset,
    Rerun,
    Seeds,
    Shard,
    SpeedSeconds,
    Split,
    StateSeconds,
    TensorBoard,
    Threads,
)
from harness.cli.output import leave_table
from harness.progress import at_work, command_line, say_lines, warn
from harness.runs.request import prepare_experiment, resolve_settings
from harness.spec.model import SECTIONS, parse_seeds, parse_shard


def run_command(
    methods: Methods = None, dataset: DataName = None, split: Split = None, label: Label = None,
    encoder: Encoder = None, budget: BudgetText = None, seeds: Seeds = "0", batch_size: BatchSize = None,
    precision: Precision = None, device: Device = None, out: Out = Path("runs"), plugin: Plugins = None,
    preset: Preset = "quick", overrides: Overrides = None, baseline: Baseline = "", rerun: Rerun = False,
    speed_seconds: SpeedSeconds = 30.0, threads: Threads = None, state_seconds: StateSeconds = 300.0,
    claim: Claim = False, shard: Shard = "1/1", tensorboard: TensorBoard = False, keep_decoder: KeepDecoder = False,
) -> None:  # fmt: skip
    """Pre-train the methods under one budget, measure their speed side by side, probe them, print one table."""
    settings = resolve_settings(
        preset, overrides, methods=methods, dataset=dataset, split=split, label=label, encoder=encoder,
        budget=budget, batch_size=batch_size, precision=precision, device=device,
    )  # fmt: skip
    with at_work() as report:
        from harness.records.store import read_records, refusal_lines
        from harness.report.folder import Typed, folder_page, folder_tables
        from harness.report.repeat import repeat_lines
        from harness.report.table import build_table, notes
        from harness.runs.experiment import run

        experiment = prepare_experiment(
            settings, plugin, report, seeds=parse_seeds(seeds), out=out, baseline=baseline, rerun=rerun,
            speed_seconds=speed_seconds, threads=threads, state_seconds=state_seconds, claim=claim,
            shard=parse_shard(shard), tensorboard=tensorboard, keep_decoder=keep_decoder,
        )  # fmt: skip
        records, speed = run(experiment, report)
        repeated = repeat_lines(records, experiment.asked, sys.argv[1:])
        lines = [*notes(records, speed), *repeated, *experiment.stale()]
        typed = Typed(sys.argv[1:], experiment.asked, experiment.held_equal, experiment.versions)
        found = read_records(out)
        page = folder_page(folder_tables(found), found.refused, command_line(), typed)
        leave_table(build_table(records, speed), lines, out / "table.md", report, page=page)
        warn(*refusal_lines(out, [one for one in found.refused if one.path not in experiment.store.refused]))
    if any(record.status != "ok" for record in records):
        raise typer.Exit(1)


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
    say_lines(json.dumps(plain, indent=1) if as_json else yaml.safe_dump(plain, sort_keys=False).rstrip())
