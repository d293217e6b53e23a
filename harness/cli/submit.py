"""The command `submit`: what `run` would do, as jobs of a scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasets.wording import counted
from harness.cli.flags import (
    Baseline,
    BatchSize,
    BudgetText,
    Config,
    ConfigPart,
    DataName,
    Device,
    Encoder,
    Folds,
    KeepDecoder,
    Label,
    Methods,
    NoPictures,
    Out,
    Overrides,
    Plugins,
    Precision,
    Preset,
    Protocols,
    Quiet,
    Rerun,
    Seeds,
    SpeedSeconds,
    Split,
    StateSeconds,
    Study,
    TensorBoard,
    Threads,
    Tuning,
    finite,
    given,
)
from harness.cli.run import asked_of_run, every_setting
from harness.errors import UsageError, nearest
from harness.progress import Reporter, at_work, say_lines
from harness.runs.request import prepare_experiment

if TYPE_CHECKING:
    from harness.runs.submitting import Here, Resources, Work

_EXECUTORS = ("slurm", "local")
_LOOK_AGAIN = 2.0
"""Seconds between two looks at jobs and folder."""

_JOBS = "Jobs"
Executor = Annotated[
    str,
    typer.Option(
        metavar="NAME", rich_help_panel=_JOBS, help="slurm, or local: jobs on this machine."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        show_default="one per run that is left",
        rich_help_panel=_JOBS,
        help="Jobs in the array.",
        min=1,
        max=100_000,
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        show_default="all; --executor local: 1",
        rich_help_panel=_JOBS,
        help="Of these, so many at once.",
        min=1,
        max=100_000,
    ),
]
Partition = Annotated[
    str | None, typer.Option(metavar="NAME", rich_help_panel=_JOBS, help="Slurm's partition.")
]
Minutes = Annotated[
    int,
    typer.Option(
        "--time",
        metavar="MINUTES",
        rich_help_panel=_JOBS,
        help="Minutes until a job is stopped; it comes back and goes on.",
        min=1,
        max=10**6,
    ),
]
Memory = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        show_default="the cluster's default",
        rich_help_panel=_JOBS,
        help="GB per job.",
        min=0.1,
        max=1e5,
        callback=finite,
    ),
]
Cpus = Annotated[
    int,
    typer.Option(
        metavar="N",
        rich_help_panel=_JOBS,
        help="Cores per job, and threads unless --threads says otherwise.",
        min=1,
        max=4096,
    ),
]
Gpus = Annotated[
    int,
    typer.Option(
        metavar="N",
        rich_help_panel=_JOBS,
        help="GPUs per job; from 1 on --device is cuda.",
        min=0,
        max=64,
    ),
]
JobRanks = Annotated[
    int,
    typer.Option(
        "--ranks",
        metavar="N",
        rich_help_panel=_JOBS,
        help="Processes that train each run together, by torchrun on the job's node; they share its"
        " cores, and take a GPU each.",
        min=1,
        max=64,
    ),
]
Sbatch = Annotated[
    list[str] | None,
    typer.Option(
        "--sbatch",
        metavar="KEY=VALUE",
        rich_help_panel=_JOBS,
        help="Any option of sbatch, e.g. account=lab; repeatable.",
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        rich_help_panel=_JOBS,
        help="Until all jobs have ended; --executor local always does.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the scripts, or commands of local, and do nothing.")
]
OWN = (
    "executor",
    "workers",
    "parallel",
    "partition",
    "minutes",
    "memory",
    "cpus",
    "gpus",
    "ranks",
    "sbatch",
    "wait",
    "dry_run",
    "quiet",
)
"""Options of `submit` that `run` does not have."""
_TASKS = ("nodes", "ntasks", "ntasks-per-node", "ntasks_per_node")
"""Options of ``sbatch`` with which every task would do the same work."""


def submit_command(
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
    executor: Executor = "slurm",
    workers: Workers = None,
    parallel: Parallel = None,
    partition: Partition = None,
    minutes: Minutes = 240,
    memory: Memory = None,
    cpus: Cpus = 4,
    gpus: Gpus = 0,
    ranks: JobRanks = 1,
    sbatch: Sbatch = None,
    wait: Wait = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    study: Study = "",
) -> None:
    """Do what `run` does as jobs of a scheduler.

    One job measures speed alone on a node, then workers share the folder.
    """
    asked = {**locals(), "claim": True, "shard": "1/1"}
    if executor not in _EXECUTORS:
        raise UsageError(
            f"--executor {executor!r}: expected"
            f" {' or '.join(_EXECUTORS)}{nearest(executor, _EXECUTORS)}"
        )
    _need_submitit()
    _refuse_shares(ranks, cpus, gpus)
    _refuse_unseen(executor, device, gpus)
    from harness.runs.submitting import (
        Here,
        Resources,
        Work,
        find_sbatch,
        refuse_lines,
        refuse_percent,
        scripts,
        submit_to_slurm,
    )

    words, resources = (
        _words_of_run(ctx),
        Resources(cpus, gpus, minutes, memory, partition, parallel, _pairs(sbatch), ranks),
    )
    if gpus and not device:
        asked["device"], words = "cuda", [*words, "--device", "cuda"]
    if threads is None:
        words = [*words, "--threads", str(cpus // ranks)]
    with at_work(stderr=dry_run, quiet=quiet) as reporter:
        if executor == "slurm" and not dry_run:
            reporter.line(f"executor: slurm ({find_sbatch()})")
        left = _left_to_do(asked, plugin, reporter)
        if not (left or protocols):
            reporter.line(f"nothing to submit: all runs are done; `table {out}`")
            return
        work = Work(words, out, workers or max(1, left), datetime.now(UTC))
        refuse_percent(work)
        if executor == "slurm":
            refuse_lines(work, resources)
        if dry_run and executor == "local":
            at_once = Here(work, resources).at_once
            reporter.line(
                "executor: local, which runs no script: a measurement, then"
                f" {counted(at_once, 'worker')}"
            )
            for command in [work.measuring, *[work.working] * at_once]:
                say_lines(resources.job(command).typed)
        elif dry_run:
            reporter.line("executor: slurm, of which this is what sbatch would get")
            for script in scripts(work, resources):
                say_lines(script)
        elif executor == "local":
            _do_here(work, resources, reporter)
        else:
            _submitted(submit_to_slurm(work, resources), work, reporter, wait=wait)


def _need_submitit() -> None:
    """A `UsageError` that names the extra where submitit is missing."""
    if find_spec("submitit") is None:
        raise UsageError(
            "submitit is not installed: expected the extra `cluster`; `pip install -e '.[cluster]'`"
        )


def _refuse_shares(ranks: int, cpus: int, gpus: int) -> None:
    """A `UsageError` where the ranks of a job cannot have a core, and a GPU, each."""
    for flag, there in (("--cpus", cpus), ("--gpus", gpus or ranks)):
        if there < ranks:
            raise UsageError(
                f"{flag} {there}: expected one for each of {ranks} ranks or more; choose"
                f" {flag} {ranks}, or fewer --ranks"
            )


def _refuse_unseen(executor: str, device: str | None, gpus: int) -> None:
    """A `UsageError` where jobs on this machine are to use a GPU that they cannot see."""
    from harness.machine import device_type  # loads torch

    if executor == "local" and not gpus and device_type(device or "auto") == "cuda":
        raise UsageError(
            f"--device {device}: expected --gpus too, since a job here sees no other GPU than its"
            " own; add --gpus 1"
        )


def _words_of_run(ctx: typer.Context) -> list[str]:
    """The options of `run` that were typed or come from a variable, as words."""
    words: list[str] = []
    for parameter, value in given(ctx, "COMMANDLINE", "ENVIRONMENT"):
        if parameter.name in OWN:
            continue
        if isinstance(value, bool):
            words += [parameter.opts[0]] * value
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                words += [parameter.opts[0], str(one)]
    return words


def _pairs(options: Sequence[str] | None) -> dict[str, str]:
    """``account=lab`` by name; `UsageError` for what is none."""
    found = {}
    for option in options or ():
        name, equals, value = option.lstrip("-").partition("=")
        if not (name and equals and value):
            raise UsageError(f"--sbatch {option!r}: expected name=value, e.g. account=lab")
        if name in _TASKS and value != "1":
            raise UsageError(
                f"--sbatch {option}: expected one task on one node, which starts what a job needs;"
                " several processes for each run are --ranks"
            )
        found[name] = value
    return found


def _left_to_do(asked: dict[str, Any], plugins: list[Path] | None, reporter: Reporter) -> int:
    """How many trainings are left; every mistake in what was asked for is a `UsageError` here,
    before any job.

    The device need not be here, and what another kind of device has done is not seen.
    """
    settings, chosen = asked_of_run(asked)
    left = 0
    for one in every_setting(settings, asked["folds"], asked["tuning"]):
        experiment = prepare_experiment(
            one, plugins, reporter, **chosen, elsewhere=True, ranks=asked["ranks"]
        )
        left += sum(cell.method is not None for cell in experiment.missing(experiment.found()))
    return left


def _submitted(jobs: Sequence[str], work: Work, reporter: Reporter, *, wait: bool) -> None:
    """Say what was submitted, and with ``wait`` watch it to its end."""
    from harness.runs.submitting import in_queue

    measurement, workers = jobs
    reporter.result(
        f"job {measurement} measures speed alone; then {counted(work.workers, 'worker')}: array"
        f" {workers}"
    )
    reporter.line(
        f"logs in {work.folder}; `status {work.out} --watch`; `scancel {' '.join(jobs)}` ends them"
    )
    if wait:
        _watch(lambda: in_queue(jobs), "jobs in the queue", work, reporter)
        _conclude(work, reporter)


def _do_here(work: Work, resources: Resources, reporter: Reporter) -> None:
    """Measurement and workers on this machine, watched to their end."""
    from harness.runs.submitting import Here, gpus_here

    here = Here(work, resources)
    here.refuse_missing_gpus()
    reporter.line(
        f"executor: local, {counted(here.at_once, 'worker')} at once on this machine; logs in"
        f" {work.folder}"
    )
    if "--device" not in work.words and gpus_here():
        reporter.line("jobs see no GPU: --gpus says how many each has")
    try:
        here.measure()
        _watch(lambda: not here.over, "measuring speed", work, reporter)
        _refuse_failed(here)
        here.start_workers()
        _watch(lambda: not here.over, "workers", work, reporter)
    except BaseException:
        here.stop()
        while not here.over:  # they write their states
            time.sleep(0.1)
        raise
    _refuse_failed(here)
    _conclude(work, reporter)


def _watch(going_on: Callable[[], bool], name: str, work: Work, reporter: Reporter) -> None:
    """Show how far the folder has come while jobs go on."""
    from harness.report.status import ENDED, read_status, summary

    with reporter.task(name, "run") as task:
        while going_on():
            rows = read_status(work.out) if work.out.is_dir() else []
            task(sum(row.state in ENDED for row in rows), len(rows), summary(rows) if rows else "")
            time.sleep(_LOOK_AGAIN)


def _refuse_failed(here: Here) -> None:
    """A `UsageError` with the last line of a job that ended without a result."""
    for log in here.failed:
        lines = (
            log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        )
        said = [line.strip() for line in lines if line.strip()]
        reason = (said[-1] if said else "nothing").removeprefix("error: ")
        raise UsageError(
            f"a job failed, its last words: {reason}; see {log}, then the same command continues"
        )


def _conclude(work: Work, reporter: Reporter) -> None:
    """The folder's summary; exit code 1 unless all is done and well."""
    from harness.report.status import read_status, summary

    rows = read_status(work.out) if work.out.is_dir() else []
    reporter.result(f"{summary(rows)}; table in {work.out / 'table.md'}")
    if not rows or any(row.state != "done" for row in rows):
        reporter.line(f"logs in {work.folder}; the same command continues with what is missing")
        raise typer.Exit(1)
