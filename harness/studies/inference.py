"""How fast is an encoder once it is trained? Forward passes of several,
timed by the rules of training speed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

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


def _row(cell: Cell) -> str:
    """How an encoder was asked for."""
    return cell.label.rpartition(at_stage("", INFERENCE))[0]


def _row_of(experiment: Experiment, cells: Sequence[Cell], asked: str) -> str:
    """The encoder that a baseline names, however its options are written: ``tiny:patch=4`` is
    ``tiny`` where 4 is the size's own.
    """
    rows = [_row(cell) for cell in cells]
    if asked in rows:
        return asked
    with contextlib.suppress(UsageError):  # said below, with what is expected
        wanted, *more = _encoder_cells(experiment, asked)
        for cell, row in zip(cells, rows, strict=True):
            if _same_encoder(cell, wanted) and not more:
                return row
    raise UsageError(f"--baseline {asked!r}: expected one of the encoders ({', '.join(rows)})")


def _same_encoder(one: Cell, other: Cell) -> bool:
    if one.method or other.method:
        return one.spec.method == other.spec.method
    return encoder_size(one.spec.encoder) == encoder_size(other.spec.encoder)


def measure_inference(
    experiment: Experiment, encoders: str, baseline: str, reporter: Reporter
) -> Measurement:
    """Time the forward passes of encoders side by side; the record lies with the others.

    Args:
        encoders: as `_encoder_cells` reads them.
        baseline: one of them, however its options are written; else the first.
    """
    request, cells = experiment.request, _encoder_cells(experiment, encoders)
    if request.train.compile:
        raise UsageError(
            "--set train.compile=true: forward passes are timed uncompiled; leave it out"
        )
    rows = [_row(cell) for cell in cells]
    baseline = _row_of(experiment, cells, baseline) if baseline else rows[0]
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
