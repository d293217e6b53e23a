"""Why is it faster? One switch at a time from the published way of training to the fastest here,
for two methods.

Every stage of both methods is an arm of one interleaved measurement, so each bar of the waterfall,
and what each switch does to the methods' ratio, is a paired ratio with an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets.wording import minutes
from harness.errors import UsageError
from harness.progress import Reporter
from harness.records.schema import EVERY_SWITCH, Environment, at_stage
from harness.runs.experiment import Entry, Experiment, replace_refused, tell_if_busy
from harness.runs.processes import measure_in_processes
from harness.spec.model import DataSpec, RunSpec
from harness.spec.presets import PUBLISHED_CLIPS
from harness.speed.interleave import MINIMUM_ROUNDS
from harness.speed.measurement import Measurement, Timing
from harness.training.build import Cell

_MOST_WORKERS = 8
"""Of the loader, unless more are asked for."""


@dataclass(frozen=True)
class Stage:
    """A switch: what it sets in the data and training sections, on top of the stages before it."""

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)

    def applied(self, spec: RunSpec) -> RunSpec:
        """The spec with this switch set; checked again,
        so that an impossible combination is an error.
        """
        plain = spec.model_dump()
        plain["data"] |= self.data
        plain["train"] |= self.train
        return RunSpec.model_validate(plain)


STAGES = (
    # MAMP's released training (maoyunyao/MAMP: main_pretrain.py, engine_pretrain.py, util/,
    # feeder/, model_mamp/), timed beside this stage by benchmarks/as_published.py. CUDA graphs stay
    # off at every stage.
    Stage(
        "as published",
        {"include_empty_bodies": True, "loader": "published"},
        {
            "precision": "fp32",
            "fused_attention": False,
            "scale_scores": True,
            "gradient_norm": True,
            "gradient_scaler": True,
            "synchronise": True,
            "fused_optimizer": False,
            "compile": False,
            "cuda_graphs": False,
        },
    ),
    Stage("feeder without detours", {"loader": "workers"}),
    Stage("batches made on the device", {"loader": "device"}),
    Stage("present bodies only", {"include_empty_bodies": False}),
    Stage("no gradient norm", train={"gradient_norm": False}),
    Stage("no gradient scaler", train={"gradient_scaler": False}),
    Stage("no synchronisation in a step", train={"synchronise": False}),
    Stage("queries scaled, not scores", train={"scale_scores": False}),
    Stage("fused attention", train={"fused_attention": True}),
    Stage("bf16", train={"precision": "bf16"}),
    Stage("fused AdamW", train={"fused_optimizer": True}),
    Stage("compiled", train={"compile": True}),
)
_LAST_STAGES = {
    "cpu": (Stage("attention in fp32", train={"attention_precision": "fp32"}),),
    "cuda": (Stage("cuDNN attention first", train={"sdpa": "cudnn-first"}),),
}
"""After `STAGES`, what is faster on that kind of device alone,
and mostly for methods that attend to many tokens.
"""


def stages_on(device_type: str) -> tuple[Stage, ...]:
    """All stages on ``cpu`` or ``cuda``."""
    return (*STAGES, *_LAST_STAGES[device_type])


def staged(spec: RunSpec, stages: Sequence[Stage] = STAGES) -> list[tuple[Stage, RunSpec]]:
    """The spec of every stage, each with all switches before it."""
    found = []
    for stage in stages:
        spec = stage.applied(spec)
        found.append((stage, spec))
    return found


def ends(stages: Sequence[Stage] = STAGES) -> tuple[Stage, Stage]:
    """Only the first and the last stage, "as published" and with all switches in one."""
    last = Stage(
        EVERY_SWITCH,
        {key: value for stage in stages[1:] for key, value in stage.data.items()},
        {key: value for stage in stages[1:] for key, value in stage.train.items()},
    )
    return stages[0], last


def staged_cells(experiment: Experiment, entry: Entry, stages: Sequence[Stage]) -> list[Cell]:
    """One cell per stage of a method, labelled ``method @ stage``."""
    base = experiment.run_spec(entry.spec, experiment.request.seeds[0])
    workers = loader_workers(base.data, experiment.environment)
    base = base.model_copy(update={"data": base.data.model_copy(update={"workers": workers})})
    return [
        Cell(at_stage(entry.label, stage.name), spec, entry.method, entry.guard)
        for stage, spec in staged(base, stages)
    ]


def loader_workers(data: DataSpec, environment: Environment) -> int:
    """Processes of the published feeder: as asked for; else 2, and with a GPU up to 8 where there
    are processors.

    A GPU's step is short, and would wait for two of them on a slow host; on a CPU the step itself
    needs the processors.
    """
    if "workers" in data.model_fields_set or environment.device_class == "cpu":
        return data.workers
    return max(data.workers, min(_MOST_WORKERS, environment.cores // 2))


def refuse_switched(overrides: Sequence[str]) -> None:
    """A `UsageError` for an override of what the stages set themselves."""
    every = (*STAGES, *(stage for stages in _LAST_STAGES.values() for stage in stages))
    switched = {
        f"{part}.{key}"
        for stage in every
        for part in ("data", "train")
        for key in getattr(stage, part)
    }
    for text in overrides:
        if (key := text.partition("=")[0].strip()) in switched:
            raise UsageError(
                f"--set {text}: {key} is one of the switches that are set stage by stage; leave"
                " it out"
            )


def explain(
    experiment: Experiment, reporter: Reporter, stages: Sequence[Stage] = STAGES
) -> Measurement:
    """Time every stage of the experiment's methods side by side;
    the record lies with the others.
    """
    for entry in experiment.entries:
        if entry.method.about.division == "open":
            raise UsageError(
                f"{entry.label} brings its own encoder (open division): no speedup is formed"
                " with it"
            )
    bodies, batch = experiment.data.clips.joints.shape[1], experiment.request.train.batch_size
    if batch % bodies:
        raise UsageError(
            f"batch size {batch}: the published feeder batches whole clips, {bodies} body slots"
            f" each; give --batch-size {bodies * PUBLISHED_CLIPS}, say"
        )
    cells = [
        cell for entry in experiment.entries for cell in staged_cells(experiment, entry, stages)
    ]
    timing = Timing(
        cells=cells,
        baseline=at_stage(experiment.entries[-1].label, stages[0].name),
        data=experiment.data,
        environment=experiment.environment,
        seconds=experiment.request.speed_seconds,
        stages=[stage.name for stage in stages],
        rows=[entry.label for entry in experiment.entries],
        processes=experiment.request.processes,
        first_slot=experiment.request.first_slot,
    )
    arms = f"{len(cells)} arms ({len(stages)} stages of {len(experiment.entries)} methods)"
    return measure_stages(experiment, timing, reporter, f"{arms} to build, warm up and compile")


def measure_stages(
    experiment: Experiment, timing: Timing, reporter: Reporter, arms: str
) -> Measurement:
    """The stored measurement, or a fresh one, which is announced: ``arms`` says of what."""
    stored = timing.stored(experiment.store)
    replace_refused(experiment.store)
    if stored and not experiment.request.rerun:
        return stored
    experiment.store.check_writable()
    reporter.line(
        f"{arms}, then about {minutes(timing.seconds)} of measurement, at least {MINIMUM_ROUNDS}"
        " rounds"
    )
    timing.tell_of_stopped(experiment.store, reporter)
    if timing.processes > 1:
        return measure_in_processes(timing, experiment.store, timing.processes, reporter)
    timing.warm_up(reporter)
    tell_if_busy(experiment, reporter)
    return timing.measure(reporter, experiment.store)
