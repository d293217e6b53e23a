"""Plans a request: what is finished, what is left of the rest, and what that costs; nothing is trained or written.

Step times come from the folder's interleaved measurement on this machine; else from a few steps; or, for a machine that
is not here, from FLOPs and a rate (`harness.speed.rates`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from datasets.wording import counted
from harness.errors import MethodFault, UsageError, one_line
from harness.evaluation.cost import (
    FASTEST,
    ITERATIONS,
    SLOWEST,
    embedding_seconds,
    fit_count,
    iteration_seconds,
)
from harness.isolation.guard import seeded
from harness.isolation.mistakes import mistake
from harness.machine import device_type, select_device
from harness.progress import Reporter
from harness.records.claims import Claim, Claims
from harness.records.schema import FINISHED, RAW_FLOOR, Environment
from harness.records.store import RecordStore
from harness.runs.cell import BLOCKS_PER_POINT, LONGEST_BLOCK, code_versions, evaluation_steps
from harness.runs.plan import CellPlan, MeasurementPlan, Plan
from harness.runs.resume import usable_state
from harness.spec.budget import StepCost, counts_seconds, parse_budget
from harness.speed.estimate import Estimate, StepEstimate, as_measured, at_rate
from harness.speed.few_steps import few_steps
from harness.speed.flops import encoder_flops, step_flops
from harness.speed.interleave import MINIMUM_ROUNDS, Arm
from harness.speed.measurement import Measurement
from harness.speed.rates import RESULTS, Rate, Way, all_reached, given_rate, rate_of_device
from harness.training.build import Cell, build_encoder, build_method, encoder_size

if TYPE_CHECKING:
    from harness.runs.experiment import Experiment

MEASURING = 12.0
"""Seconds that all methods together may take to be timed for a plan."""
WARM_UP_STEPS = 4
"""Of a method before it is timed, at the least: the first, two that agree, and one whose memory is watched."""
RECORD_BYTES, LOSS_BYTES, POINT_BYTES, ARM_BYTES = 3000, 350, 750, 3000
"""Of a record and `metrics.jsonl`, about: the rest, each block of losses, each evaluation; of a speed record's arm."""
HEADER_BYTES = 8000
"""Of a safetensors file, about: names, shapes and metadata."""


@dataclass(frozen=True)
class Costs:
    """What is known of the costs before any run.

    Attributes:
        steps: by label.
        problems: why a method could not be stepped, by label.
        embedding: seconds of an evaluation in the encoder; `fitting`: in the fits of the linear probe.
    """

    steps: Mapping[str, StepEstimate]
    problems: Mapping[str, str]
    evaluation: Estimate
    fitting: Estimate


def rate_there(settings: Mapping[str, Any], out: Path, rate: str, device_rate: str) -> Rate | None:
    """What ``--rate`` or ``--device-rate`` says of another machine; None without either.

    A device is looked for in the records of this repository and of the folder.
    """
    if rate:
        return given_rate(rate)
    if not device_rate:
        return None
    way = Way.of(settings["encoder"], settings["train"])
    device = device_type(settings["device"]) or select_device("auto").type
    return rate_of_device(device_rate, all_reached([RESULTS, out]), way, "gpu" if device == "cuda" else "cpu")


def plan_ahead(
    experiment: Experiment, report: Reporter, *, measure: bool = True, rate: Rate | None = None,
    price: float | None = None,
) -> Plan:  # fmt: skip
    """The plan of the command `plan`.

    Args:
        measure: a few steps may be run where the folder holds no measurement.
        rate: of the machine that the runs are meant for.

    Raises:
        UsageError: nothing says how long a step takes.
    """
    stored = None if rate else experiment.timing().stored(experiment.store)
    steps: dict[str, StepEstimate] = {}
    problems: dict[str, str] = {}
    if stored:
        steps = {arm.label: as_measured(arm, stored.record) for arm in stored.record.arms}
    elif not (measure or rate):
        raise UsageError(
            f"--no-measure: expected a speed measurement of these methods on this machine in {experiment.store.root}, "
            "found none; leave the flag out, or give --rate or --device-rate"
        )
    else:
        steps, problems = fresh_steps(experiment, report, measure=measure, rate=rate)
    return make_plan(
        experiment, steps, problems, measured=stored is not None and not experiment.request.rerun, measure=measure,
        rate=rate, price=price,
    )  # fmt: skip


def fresh_steps(
    experiment: Experiment, report: Reporter, *, measure: bool, rate: Rate | None
) -> tuple[dict[str, StepEstimate], dict[str, str]]:  # fmt: skip
    """Step estimates of all methods, from a rate or a few steps, and the reason for each method without one."""
    steps: dict[str, StepEstimate] = {}
    problems: dict[str, str] = {}
    methods = {entry.label for entry in experiment.entries}
    cells = [cell for cell in experiment.timing().cells if cell.label in methods]
    with report.task("timing a few steps", "method") as task:
        for number, cell in enumerate(cells):
            task(number, len(cells), cell.label)
            try:
                with seeded(cell.spec.seed):
                    steps[cell.label] = one_method(experiment, cell, MEASURING / len(cells), measure=measure, rate=rate)
            except Exception as problem:  # noqa: BLE001 - one failing method must not harm the others' plan
                problems[cell.label] = str(mistake(problem, cell.method))
    return steps, problems


def one_method(
    experiment: Experiment, cell: Cell, seconds: float, *, measure: bool, rate: Rate | None
) -> StepEstimate:  # fmt: skip
    """A method's step: at the rate, its memory from steps here where there may be any; else from steps here alone."""
    assert cell.method is not None
    measured = few_steps(cell, experiment.data, seconds=seconds) if measure else None
    if rate is None:
        assert measured is not None
        return measured
    flops = measured.flops if measured else step_flops(cell.method, cell.spec, experiment.data.clips.layout)
    memory = measured.model_dump(include={"peak_bytes", "memory_source"}) if measured else {}
    return at_rate(flops, rate).model_copy(update=memory)


def from_warm_up(arms: Sequence[Arm], flops: Mapping[str, float]) -> dict[str, StepEstimate]:
    """Step estimates from the warm-up of a speed measurement that is about to start."""
    return {
        arm.label: StepEstimate(
            seconds=arm.probe_seconds, low=arm.probe_seconds, high=arm.probe_seconds, flops=flops[arm.label],
            source="a step at the end of the warm-up, just timed on this machine", peak_bytes=arm.peak_bytes,
            memory_source="as allocated on this machine",
        )
        for arm in arms
    }  # fmt: skip


def from_measurement(measurement: Measurement) -> dict[str, StepEstimate]:
    """Step estimates from a finished speed measurement."""
    return {arm.label: as_measured(arm, measurement.record) for arm in measurement.record.arms}


def make_plan(
    experiment: Experiment, steps: Mapping[str, StepEstimate], problems: Mapping[str, str], *, measured: bool,
    measure: bool = True, rate: Rate | None = None, price: float | None = None,
) -> Plan:  # fmt: skip
    """The plan, once step times are known.

    Args:
        measured: the speed measurement is in the folder and is not made again.
        measure: the probes may be timed.
    """
    request = experiment.request
    to_do = {cell.spec.address for cell in experiment.missing()}
    evaluation, fitting = evaluation_of(experiment, measure=measure, rate=rate) if to_do else (None, None)
    costs = Costs(steps, problems, evaluation, fitting) if evaluation and fitting else None
    cells = [
        plan_cell(experiment, cell, costs) if costs and cell.spec.address in to_do else closed_cell(experiment, cell)
        for cell in experiment.cells()
    ]
    device, here = experiment.data.source.device, experiment.environment
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    return Plan(
        budget=str(parse_budget(request.train.budget)), baseline=experiment.baseline.label,
        batch_size=request.train.batch_size,
        device=rate.device if rate else named(here), cells=cells, steps=dict(steps), evaluation=evaluation,
        measurement=measurement_plan(experiment, steps, measured=measured),
        memory_bytes=None if rate else memory or round(here.memory_gib * 2**30), price=price,
    )  # fmt: skip


def named(machine: Environment) -> str:
    """A machine by its GPU, or by its processor and threads."""
    if machine.device_class == "gpu":
        return machine.device
    return f"{machine.processor}, {counted(machine.threads, 'thread')}"


def measurement_plan(
    experiment: Experiment, steps: Mapping[str, StepEstimate], *, measured: bool
) -> MeasurementPlan:  # fmt: skip
    """The interleaved measurement: as long as it was asked to be, or its fewest rounds; and the warm-up before it."""
    if measured:
        return MeasurementPlan(stored=True)
    seconds = [step.seconds for step in steps.values()]
    baseline = steps.get(experiment.baseline.label)
    round_seconds = sum(seconds) + (baseline.seconds if baseline else 0.0)
    rounds = max(experiment.request.speed_seconds, MINIMUM_ROUNDS * round_seconds)
    return MeasurementPlan(
        stored=False, seconds=rounds + WARM_UP_STEPS * sum(seconds), record_bytes=ARM_BYTES * len(seconds)
    )


# --- a run of the matrix ---


def closed_cell(experiment: Experiment, cell: Cell) -> CellPlan:
    """A run that has its record, or that another shard has: for nothing."""
    record = experiment.store.run_of(cell.spec)
    finished = record is not None and record.status in FINISHED
    training = record.training if record and finished else None
    return CellPlan(
        label=cell.label, seed=cell.spec.seed, address=cell.spec.address,
        state="finished" if finished else "of another shard",
        steps=training.steps if training else 0, steps_done=training.steps if training else 0,
        clips=training.clips_seen if training else 0.0,
    )  # fmt: skip


def plan_cell(experiment: Experiment, cell: Cell, costs: Costs) -> CellPlan:
    """A run that is to do, or to be gone on with."""
    record = experiment.store.run_of(cell.spec)
    holder = Claims(experiment.store.root).holder(cell.spec.address)
    blank = CellPlan(
        label=cell.label, seed=cell.spec.seed, address=cell.spec.address, state="running" if holder else "to do",
        before=record.status if record and record.status not in FINISHED else "", record_bytes=RECORD_BYTES,
        holder=str(holder or ""),
    )  # fmt: skip
    if cell.method is None:
        one = costs.fitting if cell.label == RAW_FLOOR else costs.evaluation
        return blank.model_copy(update={"evaluations": 1, "evaluating": one.seconds, "low": one.low, "high": one.high})
    step = costs.steps.get(cell.label)
    if step is None:
        return blank.model_copy(update={"problem": costs.problems.get(cell.label, "no step time")})
    try:
        return blank.model_copy(update=training_of(experiment, cell, step, costs.evaluation, holder))
    except MethodFault as problem:  # the budget cannot be turned into steps
        return blank.model_copy(update={"problem": one_line(problem)})


def training_of(
    experiment: Experiment, cell: Cell, step: StepEstimate, evaluation: Estimate, holder: Claim | None
) -> dict[str, object]:  # fmt: skip
    """What a plan says of a method's run beside its name."""
    assert cell.method is not None
    steps, cost = whole_steps(experiment, cell, step, step.seconds)
    begun = begun_at(experiment, cell, holder)
    if begun:
        steps = begun.steps
    goals = [0, *evaluation_steps(steps, cell.spec.probe, cost)]
    left, evaluations = steps, len(goals) - 1 + (cell.method.about.division == "open")
    if begun:
        left, evaluations = steps - begun.step, len(goals) - 1 - begun.evaluations
    ends = {}
    for end, seconds, each in (("low", step.low, evaluation.low), ("high", step.high, evaluation.high)):
        if counts_seconds(cell.spec) and math.isfinite(seconds) and not begun:  # faster steps are then more steps
            left_then = whole_steps(experiment, cell, step, seconds)[0]
        else:
            left_then = left
        ends[end] = left_then * seconds + evaluations * each
    blocks = sum(math.ceil(gap / min(LONGEST_BLOCK, math.ceil(gap / BLOCKS_PER_POINT))) for gap in gaps(goals))
    weights, state = sizes(experiment, cell)
    return {
        **({"state": "begun"} if begun and not holder else {}), "steps_done": steps - left,
        "steps": steps, "clips": steps * cost.clips, "evaluations": evaluations, "training": left * step.seconds,
        "evaluating": evaluations * evaluation.seconds, **ends,
        "weights_bytes": weights, "state_bytes": state + 8 * steps,
        "record_bytes": RECORD_BYTES + LOSS_BYTES * blocks + POINT_BYTES * (len(goals) - 1),
    }  # fmt: skip


@dataclass(frozen=True)
class Begun:
    """How far a run has come that is not finished."""

    step: int
    steps: int
    evaluations: int


def begun_at(experiment: Experiment, cell: Cell, holder: Claim | None) -> Begun | None:
    """Where a run would go on, or where the process is that works on it; None where it starts anew."""
    if experiment.request.rerun:
        return None
    assert cell.method is not None
    folder, versions = experiment.store.folder(cell.spec.address), code_versions(cell.method)
    state = usable_state(folder, cell.spec.address, versions)
    begun = Begun(state.step, state.steps, len(state.curve)) if state else None
    there = holder.progress if holder else None
    if there and there.steps and (begun is None or there.step > begun.step):
        return Begun(there.step, there.steps, begun.evaluations if begun else 0)
    return begun


def gaps(goals: Sequence[int]) -> list[int]:
    """Steps between one evaluation and the next."""
    return [after - before for before, after in pairwise(goals)]


def whole_steps(experiment: Experiment, cell: Cell, step: StepEstimate, seconds: float) -> tuple[int, StepCost]:
    """Steps of the whole run, and what each consumes, at a step time.

    A budget in seconds keeps the step time that the run was first started with.
    """
    cost = experiment.cost(seconds, step.flops)
    start = None
    if counts_seconds(cell.spec) and not experiment.request.rerun:
        start = experiment.store.start(cell.spec.address)
    if start:
        cost = replace(cost, seconds=start.step_seconds)
    return parse_budget(cell.spec.train.budget).steps(cost), cost


def sizes(experiment: Experiment, cell: Cell) -> tuple[int, int]:
    """Bytes of the weights that a run leaves, and of a state: method, AdamW's two moments, best encoder, queue."""
    assert cell.method is not None
    built = build_method(cell.method, cell.spec, experiment.data.clips.layout, "meta")
    encoder = bytes_of(list(built.evaluated_encoder().state_dict().values()))
    method = bytes_of(list(built.state_dict().values()))
    trained = bytes_of([parameter for parameter in built.parameters() if parameter.requires_grad])
    queue = 8 * len(experiment.data.sequences)
    state = method + 2 * trained + encoder + queue
    whole = method if experiment.request.keep_decoder else 0
    return encoder + whole + HEADER_BYTES, state + whole + 3 * HEADER_BYTES


def bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    """Of all of them."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


# --- an evaluation ---


def evaluation_of(experiment: Experiment, *, measure: bool, rate: Rate | None) -> tuple[Estimate, Estimate]:
    """One evaluation of an encoder, and the fits of the linear probe alone, which the raw coordinates pay as well."""
    data, probe = experiment.data, experiment.request.probe
    iteration, fits = 0.0, fit_count(data, probe)
    if measure:
        iteration = iteration_seconds(encoder_size(experiment.request.encoder).width, data)
    low, middle, high = (iteration * fits * count for count in (FASTEST, ITERATIONS, SLOWEST))
    fitting = Estimate(seconds=middle, low=low, high=high, source="")
    before = [] if rate else evaluations_before(experiment)
    if before:
        return Estimate(
            seconds=statistics.mean(before), low=min(before), high=max(before),
            source=f"as in {counted(len(before), 'finished run')} of this folder on this machine",
        ), fitting  # fmt: skip
    spec = experiment.run_spec(experiment.baseline.spec, experiment.request.seeds[0])
    if rate:
        flops = encoder_flops(spec, data.clips.layout) * len(data.source)
        slowest = flops / rate.low if rate.low else float("inf")
        encoding = Estimate(seconds=flops / rate.value, low=flops / rate.high, high=slowest, source="")
        source = "the encoder's FLOPs on every clip at the same rate"
    else:
        with seeded(spec.seed):
            encoder = build_encoder(spec, data.clips.layout, data.source.device).eval()
        seconds = embedding_seconds(encoder, data) if measure else 0.0
        encoding = Estimate(seconds=seconds, low=seconds, high=seconds, source="")
        source = "the encoder on a few clips, just timed on this machine"
    fitted = (
        f"{fits:.1f} fits of the linear probe, each of {ITERATIONS} iterations ({FASTEST} to {SLOWEST}), a few timed"
        if measure
        else "fits of the linear probe are not counted"
    )
    return Estimate(
        seconds=encoding.seconds + middle, low=encoding.low + low, high=encoding.high + high,
        source=f"{source}; {fitted}",
    ), fitting  # fmt: skip


def evaluations_before(experiment: Experiment) -> list[float]:
    """Seconds of an evaluation in each finished run of this folder with the same data, encoder, probe and machine."""
    request, found = experiment.request, []
    for record in RecordStore(experiment.store.root).runs():  # what it refuses is no matter of this run
        spec = record.spec
        alike = (
            record.status == "ok" and record.label != RAW_FLOOR
            and record.method.division == "closed"
            and spec.encoder == request.encoder
            and spec.data.fingerprint == experiment.data.spec.fingerprint
            and spec.probe.regularisation == request.probe.regularisation
            and record.environment.fingerprint == experiment.environment.fingerprint
        )  # fmt: skip
        if alike and "evaluate" in record.phases:
            found.append(record.phases["evaluate"] / max(1, len(record.curve)))
    return found
