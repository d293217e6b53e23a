"""How fast is an encoder once it is trained? Forward passes of several,
timed by the rules of training speed.
"""

from __future__ import annotations

from harness.errors import UsageError, nearest
from harness.progress import Reporter
from harness.records.schema import INFERENCE, at_stage
from harness.runs.experiment import Experiment, make_entry
from harness.spec.model import EncoderSpec, MethodSpec, build, parse_specs
from harness.speed.forward import ForwardTiming
from harness.speed.measurement import Measurement
from harness.studies.explain import measure_stages
from harness.training.build import Cell, build_encoder, encoder_size
from methods.parts.encoder import SIZES


def _encoder_cells(experiment: Experiment, text: str) -> list[Cell]:
    """``base,base:frames=64,patch=8,skeletonmae-graph`` to one cell each: a size,
    or a method that brings its own.
    """
    return [
        _cell(experiment, spec)
        for spec in parse_specs(text, "--encoders", "tiny,base:frames=64,patch=8")
    ]


def _cell(experiment: Experiment, asked: MethodSpec) -> Cell:
    spec, label = (
        experiment.run_spec(asked, experiment.request.seeds[0]),
        at_stage(str(asked), INFERENCE),
    )
    if asked.name in SIZES:
        encoder = build(EncoderSpec, {"size": asked.name, **asked.options}, f"--encoders {asked}")
        encoder_size(encoder)  # impossible numbers are an error here
        return Cell(label, spec.model_copy(update={"encoder": encoder}))
    own = [
        name
        for name, method in experiment.registry.methods.items()
        if method.about.division == "open"
    ]
    if asked.name not in own:
        raise UsageError(
            f"--encoders: unknown encoder {asked.name!r}{nearest(asked.name, [*SIZES, *own])}"
            f" (sizes: {', '.join(SIZES)}; methods that bring their own: {', '.join(own)})"
        )
    method = experiment.registry.method(asked.name)
    entry = make_entry(method, asked, build_encoder(spec, experiment.data.clips.layout, "meta"))
    return Cell(label, spec.model_copy(update={"method": entry.spec}), method, entry.guard)


def measure_inference(
    experiment: Experiment, encoders: str, baseline: str, reporter: Reporter
) -> Measurement:
    """Time the forward passes of encoders side by side; the record lies with the others.

    Args:
        encoders: as `_encoder_cells` reads them.
        baseline: one of them; else the first.
    """
    request, cells = experiment.request, _encoder_cells(experiment, encoders)
    if request.train.compile:
        raise UsageError(
            "--set train.compile=true: forward passes are timed uncompiled; leave it out"
        )
    rows = [cell.label.rpartition(at_stage("", INFERENCE))[0] for cell in cells]
    baseline = baseline or rows[0]
    if baseline not in rows:
        raise UsageError(
            f"--baseline {baseline!r}: expected one of the encoders ({', '.join(rows)})"
        )
    timing = ForwardTiming(
        cells=cells,
        baseline=at_stage(baseline, INFERENCE),
        data=experiment.data,
        environment=experiment.environment,
        seconds=request.speed_seconds,
        stages=[INFERENCE],
        rows=rows,
        processes=request.processes,
        first_slot=request.first_slot,
    )
    return measure_stages(experiment, timing, reporter, f"forward passes of {len(cells)} encoders")
