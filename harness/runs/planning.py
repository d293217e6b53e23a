"""Plans a request: what is finished, what is left of the rest, and what that costs; nothing is
trained or written.

Where step times come from: `harness.runs.estimates`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from datasets.wording import counted
from harness.errors import MethodFault, UsageError, one_line
from harness.machine import device_type, select_device
from harness.progress import Reporter
from harness.records.claims import Claim, Claims
from harness.records.schema import FINISHED, RAW_FLOOR, Environment, RunRecord
from harness.runs.cell import BLOCKS_PER_POINT, LONGEST_BLOCK, code_versions, evaluation_steps
from harness.runs.estimates import evaluation_of, fresh_steps, from_measurement
from harness.runs.hopeless import below_untrained, runs_below
from harness.runs.plan import CellPlan, MeasurementPlan, Plan
from harness.runs.resume import usable_state
from harness.spec.budget import StepCost, counts_seconds, parse_budget
from harness.speed.estimate import Estimate, StepEstimate
from harness.speed.interleave import MINIMUM_ROUNDS, RETRIES
from harness.speed.rates import RESULTS, Rate, Way, all_reached, given_rate, rate_of_device
from harness.training.build import Cell, build_method

if TYPE_CHECKING:
    from harness.runs.experiment import Experiment

_WARM_UP_STEPS = 4
"""Of a method before it is timed, at the least: the first, two that agree,
and one whose memory is watched.
"""
_RECORD_BYTES, _LOSS_BYTES, _POINT_BYTES, _ARM_BYTES = 3000, 350, 750, 3000
"""Of a record and `metrics.jsonl`, about: the rest, each block of losses, each evaluation;
of a speed record's arm.
"""
_HEADER_BYTES = 8000
"""Of a safetensors file, about: names, shapes and metadata."""


@dataclass(frozen=True)
class _Costs:
    """What is known of the costs before any run.

    Attributes:
        steps: by label.
        problems: why a method could not be stepped, by label.
        evaluation: of an encoder, whole.
        fitting: its fits of the linear probe alone.
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
    return rate_of_device(
        device_rate, all_reached([RESULTS, out]), way, "gpu" if device == "cuda" else "cpu"
    )


def plan_ahead(
    experiment: Experiment,
    reporter: Reporter,
    *,
    measure: bool = True,
    rate: Rate | None = None,
    price: float | None = None,
) -> Plan:
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
        steps = from_measurement(stored)
    elif not (measure or rate):
        raise UsageError(
            "--no-measure: expected a speed measurement of these methods on this machine in"
            f" {experiment.store.root}, found none; leave the flag out, or give --rate or"
            " --device-rate"
        )
    else:
        steps, problems = fresh_steps(experiment, reporter, measure=measure, rate=rate)
    plan = make_plan(
        experiment,
        steps,
        problems,
        measured=stored is not None and not experiment.request.rerun,
        measure=measure,
        rate=rate,
        price=price,
    )
    specs = {cell.label: cell.spec for cell in experiment.cells() if cell.method}
    planned = {
        cell.label: (specs[cell.label], cell.clips)
        for cell in plan.to_do
        if cell.clips and cell.label in specs
    }
    known = list(runs_below([experiment.store.root, RESULTS])) if planned else []
    return plan.model_copy(update={"warnings": tuple(below_untrained(planned, known))})


def make_plan(
    experiment: Experiment,
    steps: Mapping[str, StepEstimate],
    problems: Mapping[str, str],
    *,
    measured: bool,
    measure: bool = True,
    rate: Rate | None = None,
    price: float | None = None,
) -> Plan:
    """The plan, once step times are known.

    Args:
        measured: the speed measurement is in the folder and is not made again.
        measure: the probes may be timed.
    """
    request = experiment.request
    found = experiment.found()
    to_do = {cell.spec.address for cell in experiment.missing(found)}
    evaluation, fitting = (
        evaluation_of(experiment, measure=measure, rate=rate) if to_do else (None, None)
    )
    costs = _Costs(steps, problems, evaluation, fitting) if evaluation and fitting else None
    cells = [
        (
            _plan_cell(experiment, cell, found[cell.spec.address], costs)
            if costs and cell.spec.address in to_do
            else _closed_cell(cell, found[cell.spec.address])
        )
        for cell in experiment.cells()
    ]
    device, here = experiment.data.device, experiment.environment
    memory = (
        torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    )
    return Plan(
        budget=str(parse_budget(request.train.budget)),
        baseline=experiment.baseline.label,
        batch_size=request.train.batch_size,
        device=rate.device if rate else _named(here),
        cells=cells,
        steps=dict(steps),
        evaluation=evaluation,
        measurement=_measurement_plan(experiment, steps, measured=measured),
        memory_bytes=None if rate else memory or round(here.memory_gib * 2**30),
        price=price,
        sets=experiment.data.info.sets,
    )


def _named(machine: Environment) -> str:
    """A machine by its GPU, or by its processor and threads."""
    ranks = f", {machine.ranks} ranks" if machine.ranks > 1 else ""
    if machine.device_class == "gpu":
        return machine.device + ranks
    return f"{machine.processor}, {counted(machine.threads, 'thread')}{ranks}"


def _measurement_plan(
    experiment: Experiment, steps: Mapping[str, StepEstimate], *, measured: bool
) -> MeasurementPlan:
    """The interleaved measurement: as long as it was asked to be, or its fewest rounds;
    and the warm-up before it.
    """
    if measured:
        return MeasurementPlan(stored=True)
    seconds = [step.seconds for step in steps.values()]
    baseline = steps.get(experiment.baseline.label)
    round_seconds = sum(seconds) + (baseline.seconds if baseline else 0.0)
    fewest, warm_up = MINIMUM_ROUNDS * round_seconds, _WARM_UP_STEPS * sum(seconds)
    asked = experiment.request.speed_seconds
    return MeasurementPlan(
        stored=False,
        seconds=max(asked, fewest) + warm_up,
        high=max(asked, (1 + RETRIES) * fewest) + warm_up,
        record_bytes=_ARM_BYTES * len(seconds),
    )


# --- a run of the matrix ---


def _closed_cell(cell: Cell, record: RunRecord | None) -> CellPlan:
    """A run that has its record, or that another shard has: for nothing."""
    finished = record is not None and record.status in FINISHED
    training = record.training if record and finished else None
    return CellPlan(
        label=cell.label,
        seed=cell.spec.seed,
        address=cell.spec.address,
        state="finished" if finished else "of another shard",
        steps=training.steps if training else 0,
        steps_done=training.steps if training else 0,
        clips=training.clips_seen if training else 0.0,
    )


def _plan_cell(
    experiment: Experiment, cell: Cell, record: RunRecord | None, costs: _Costs
) -> CellPlan:
    """A run that is to do, or to be gone on with; ``record`` is that of an earlier try."""
    holder = Claims(experiment.store.root).holder(cell.spec.address)
    blank = CellPlan(
        label=cell.label,
        seed=cell.spec.seed,
        address=cell.spec.address,
        state="running" if holder else "to do",
        before=record.status if record and record.status not in FINISHED else "",
        record_bytes=_RECORD_BYTES,
        holder=str(holder or ""),
    )
    if cell.method is None:
        one = costs.fitting if cell.label == RAW_FLOOR else costs.evaluation
        return blank.model_copy(
            update={"evaluations": 1, "evaluating": one.seconds, "low": one.low, "high": one.high}
        )
    step = costs.steps.get(cell.label)
    if step is None:
        return blank.model_copy(update={"problem": costs.problems.get(cell.label, "no step time")})
    try:
        return blank.model_copy(
            update=_training_of(experiment, cell, step, costs.evaluation, holder)
        )
    except MethodFault as problem:  # the budget cannot be turned into steps
        return blank.model_copy(update={"problem": one_line(problem)})


def _training_of(
    experiment: Experiment,
    cell: Cell,
    step: StepEstimate,
    evaluation: Estimate,
    holder: Claim | None,
) -> dict[str, object]:
    """What a plan says of a method's run beside its name."""
    assert cell.method is not None
    steps, cost = _whole_steps(experiment, cell, step, step.seconds)
    begun = _begun_at(experiment, cell, holder)
    if begun:
        steps = begun.steps
    goals = [0, *evaluation_steps(steps, cell.spec.probe, cost)]
    left, evaluations = steps, len(goals) - 1 + (cell.method.about.division == "open")
    if begun:
        left, evaluations = steps - begun.step, len(goals) - 1 - begun.evaluations
    ends = {}
    for end, seconds, each in (
        ("low", step.low, evaluation.low),
        ("high", step.high, evaluation.high),
    ):
        if (
            counts_seconds(cell.spec) and math.isfinite(seconds) and not begun
        ):  # faster steps are then more steps
            left_then = _whole_steps(experiment, cell, step, seconds)[0]
        else:
            left_then = left
        ends[end] = left_then * seconds + evaluations * each
    # steps between one evaluation and the next
    gaps = [after - before for before, after in pairwise(goals)]
    blocks = sum(
        math.ceil(gap / min(LONGEST_BLOCK, math.ceil(gap / BLOCKS_PER_POINT))) for gap in gaps
    )
    weights, state = _sizes(experiment, cell, several=len(goals) > 2)
    return {
        **({"state": "begun"} if begun and not holder else {}),
        "steps_done": steps - left,
        "steps": steps,
        "clips": steps * cost.clips,
        "evaluations": evaluations,
        "training": left * step.seconds,
        "evaluating": evaluations * evaluation.seconds,
        **ends,
        "weights_bytes": weights,
        "state_bytes": state + 8 * steps,
        "record_bytes": _RECORD_BYTES + _LOSS_BYTES * blocks + _POINT_BYTES * (len(goals) - 1),
    }


@dataclass(frozen=True)
class _Begun:
    """How far a run has come that is not finished."""

    step: int
    steps: int
    evaluations: int


def _begun_at(experiment: Experiment, cell: Cell, holder: Claim | None) -> _Begun | None:
    """Where a run would go on, or where the process is that works on it;
    None where it starts anew.
    """
    if experiment.begins_anew(cell):
        return None
    assert cell.method is not None
    folder, versions = experiment.store.folder(cell.spec.address), code_versions(cell.method)
    state = usable_state(folder, cell.spec.address, versions)
    begun = _Begun(state.step, state.steps, len(state.curve)) if state else None
    there = holder.progress if holder else None
    if there and there.steps and (begun is None or there.step > begun.step):
        return _Begun(there.step, there.steps, begun.evaluations if begun else 0)
    return begun


def _whole_steps(
    experiment: Experiment, cell: Cell, step: StepEstimate, seconds: float
) -> tuple[int, StepCost]:
    """Steps of the whole run, and what each consumes, at a step time.

    A budget in seconds keeps the step time that the run was first started with.
    """
    cost = experiment.cost(seconds, step.flops)
    start = None
    if counts_seconds(cell.spec) and not experiment.begins_anew(cell):
        start = experiment.store.start(cell.spec.address)
    if start:
        cost = replace(cost, seconds=start.step_seconds)
    return parse_budget(cell.spec.train.budget).steps(cost), cost


def _sizes(experiment: Experiment, cell: Cell, *, several: bool) -> tuple[int, int]:
    """Bytes of the weights that a run leaves, and of a state: method, AdamW's two moments, best
    encoder, queue.

    Args:
        several: of several evaluations, where one is chosen, the last encoder may be left beside
            the selected one.
    """
    assert cell.method is not None
    built = build_method(cell.method, cell.spec, experiment.data.clips.layout, "meta")
    encoder = _bytes_of(list(built.evaluated_encoder().state_dict().values()))
    method = _bytes_of(list(built.state_dict().values()))
    trained = _bytes_of([parameter for parameter in built.parameters() if parameter.requires_grad])
    queue = 8 * experiment.data.sequence_count
    state = method + 2 * trained + encoder + queue
    whole = method if experiment.request.keep_decoder else 0
    left = 2 if several and len(experiment.data.split.validation) else 1
    return left * (encoder + _HEADER_BYTES) + whole, state + whole + 3 * _HEADER_BYTES


def _bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    """Of all of them; what a module keeps beside tensors (`get_extra_state`) has none."""
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in tensors
        if isinstance(tensor, torch.Tensor)
    )
