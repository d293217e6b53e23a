"""What a step and an evaluation will take, for a plan.

Step times come from the folder's interleaved measurement on this machine; else from a few steps;
or, for a machine that is not here, from FLOPs and a rate (`harness.speed.rates`). An evaluation
takes what it took in finished runs of the folder; else the encoder on every clip and the fits of
the linear probe (`harness.evaluation.cost`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from datasets.wording import counted
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
from harness.progress import Reporter
from harness.records.schema import RAW_FLOOR
from harness.records.store import RecordStore
from harness.speed.estimate import Estimate, StepEstimate, as_measured, at_rate
from harness.speed.few_steps import few_steps
from harness.speed.flops import encoder_flops, step_flops
from harness.speed.interleave import Arm
from harness.speed.measurement import Measurement
from harness.speed.rates import Rate
from harness.training.build import Cell, build_encoder, encoder_size

if TYPE_CHECKING:
    from harness.runs.experiment import Experiment

_MEASURING = 12.0
"""Seconds that all methods together may take to be timed for a plan."""


def fresh_steps(
    experiment: Experiment, reporter: Reporter, *, measure: bool, rate: Rate | None
) -> tuple[dict[str, StepEstimate], dict[str, str]]:
    """Step estimates of all methods, from a rate or a few steps,
    and the reason for each method without one.
    """
    steps: dict[str, StepEstimate] = {}
    problems: dict[str, str] = {}
    methods = {entry.label for entry in experiment.entries}
    cells = [cell for cell in experiment.timing().cells if cell.label in methods]
    with reporter.task("timing a few steps", "method") as task:
        for number, cell in enumerate(cells):
            task(number, len(cells), cell.label)
            try:
                with seeded(cell.spec.seed):
                    steps[cell.label] = _one_method(
                        experiment, cell, _MEASURING / len(cells), measure=measure, rate=rate
                    )
            except Exception as problem:  # noqa: BLE001 - one failing method must not harm the others' plan
                problems[cell.label] = str(mistake(problem, cell.method))
    return steps, problems


def _one_method(
    experiment: Experiment, cell: Cell, seconds: float, *, measure: bool, rate: Rate | None
) -> StepEstimate:
    """A method's step: at the rate, its memory from steps here where there may be any;
    else from steps here alone.
    """
    assert cell.method is not None
    measured = few_steps(cell, experiment.data, seconds=seconds) if measure else None
    if rate is None:
        assert measured is not None
        return measured
    flops = (
        measured.flops
        if measured
        else step_flops(cell.method, cell.spec, experiment.data.clips.layout)
    )
    memory = measured.model_dump(include={"peak_bytes", "memory_source"}) if measured else {}
    return at_rate(flops, rate, cell.label).model_copy(update=memory)


def from_warm_up(arms: Sequence[Arm], flops: Mapping[str, float]) -> dict[str, StepEstimate]:
    """Step estimates from the warm-up of a speed measurement that is about to start."""
    return {
        arm.label: StepEstimate(
            seconds=arm.probe_seconds,
            low=arm.probe_seconds,
            high=arm.probe_seconds,
            flops=flops[arm.label],
            source="a step at the end of the warm-up, just timed on this machine",
            peak_bytes=arm.peak_bytes,
            memory_source="as allocated on this machine",
        )
        for arm in arms
    }


def from_measurement(measurement: Measurement) -> dict[str, StepEstimate]:
    """Step estimates from a finished speed measurement."""
    return {arm.label: as_measured(arm, measurement.record) for arm in measurement.record.arms}


# --- an evaluation ---


def evaluation_of(
    experiment: Experiment, *, measure: bool, rate: Rate | None
) -> tuple[Estimate, Estimate]:
    """One evaluation of an encoder, and the fits of the linear probe alone,
    which the raw coordinates pay as well.
    """
    data, probe = experiment.data, experiment.request.probe
    iteration, fits = 0.0, fit_count(data, probe)
    if measure:
        iteration = iteration_seconds(encoder_size(experiment.request.encoder).width, data)
    low, middle, high = (iteration * fits * count for count in (FASTEST, ITERATIONS, SLOWEST))
    fitting = Estimate(seconds=middle, low=low, high=high, source="")
    before = [] if rate else _evaluations_before(experiment)
    if before:
        return (
            Estimate(
                seconds=statistics.mean(before),
                low=min(before),
                high=max(before),
                source=(
                    f"as in {counted(len(before), 'finished run')} of this folder on this machine"
                ),
            ),
            fitting,
        )
    spec = experiment.run_spec(experiment.baseline.spec, experiment.request.seeds[0])
    if rate:
        flops = encoder_flops(spec, data.clips.layout) * len(data.bodies)
        slowest = flops / rate.low if rate.low else float("inf")
        encoding = Estimate(
            seconds=flops / rate.value, low=flops / rate.high, high=slowest, source=""
        )
        source = "the encoder's FLOPs on every clip at the same rate"
    elif not measure:
        return (
            Estimate(seconds=0.0, low=0.0, high=0.0, source="not counted, as nothing may be timed"),
            fitting,
        )
    else:
        with seeded(spec.seed):
            encoder = build_encoder(spec, data.clips.layout, data.device).eval()
        seconds = embedding_seconds(encoder, data)
        encoding = Estimate(seconds=seconds, low=seconds, high=seconds, source="")
        source = "the encoder on a few clips, just timed on this machine"
    fitted = (
        f"{fits:.1f} fits of the linear probe, each of {ITERATIONS} iterations ({FASTEST} to"
        f" {SLOWEST}), a few timed"
        if measure
        else "fits of the linear probe are not counted"
    )
    return (
        Estimate(
            seconds=encoding.seconds + middle,
            low=encoding.low + low,
            high=encoding.high + high,
            source=f"{source}; {fitted}",
        ),
        fitting,
    )


def _evaluations_before(experiment: Experiment) -> list[float]:
    """Seconds of an evaluation in each finished run of this folder with the same data,
    encoder, probe and machine.
    """
    request, found = experiment.request, []
    for record in RecordStore(
        experiment.store.root
    ).runs():  # what it refuses is no matter of this run
        spec = record.spec
        alike = (
            record.status == "ok"
            and record.label != RAW_FLOOR
            and record.method.division == "closed"
            and spec.encoder == request.encoder
            and spec.data.fingerprint == experiment.data.spec.fingerprint
            and spec.probe.regularisation == request.probe.regularisation
            and record.environment.fingerprint == experiment.environment.fingerprint
        )
        if alike and "evaluate" in record.phases:
            found.append(record.phases["evaluate"] / max(1, len(record.curve)))
    return found
