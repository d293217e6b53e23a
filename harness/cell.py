"""One cell of the run matrix: pre-train a method (or evaluate a control), probe it, and write its record.

Whatever happens in a cell ends in a record with a status; other cells are unharmed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from harness.budget import StepCost, parse_budget
from harness.clock import Ledger, StepClock
from harness.data import LoadedData
from harness.environment import Environment
from harness.probes import Accuracy, clip_features, evaluate, evaluate_raw
from harness.progress import Advance
from harness.records import EncoderInfo, MethodInfo, Point, RecordStore, RunRecord, Status, Training, now
from harness.registry import one_line, source_hash
from harness.spec import ProbeSpec, RunSpec
from harness.training import Diverged, Trainer, build_batches, build_method, encoder_size
from methods.base import Diagnosis, Method
from methods.encoder import SkeletonEncoder

RANDOM_INIT = "random-init"
RAW_FLOOR = "raw-pca"
BLOCKS_PER_POINT = 5


@dataclass(frozen=True)
class Cell:
    """A run to do: its row's label, its spec and, unless it is a control, the method class."""

    label: str
    spec: RunSpec
    method: type[Method] | None = None


@dataclass
class Draft:
    """What a running cell has found out so far; becomes the record whatever happens."""

    encoder: EncoderInfo | None = None
    training: Training | None = None
    curve: list[Point] = field(default_factory=list)
    accuracy: Accuracy | None = None
    warnings: list[str] = field(default_factory=list)


Work = Callable[[Draft, Ledger], None]


def run_cell(
    cell: Cell, data: LoadedData, store: RecordStore, environment: Environment, cost: StepCost | None, advance: Advance
) -> RunRecord:
    """Run a cell and write its record; re-raises only `KeyboardInterrupt`, after the record is written."""
    started, draft, ledger = now(), Draft(), Ledger()
    status: Status = "ok"
    error = trace = ""
    interrupted = None
    try:
        _work(cell, data, store, cost, advance)(draft, ledger)
    except KeyboardInterrupt as stop:
        status, error, interrupted = "interrupted", "stopped by the user", stop
    except Diverged as problem:
        status, error = "diverged", str(problem)
    except Exception as problem:  # noqa: BLE001 - a method may throw anything; it is recorded, the others go on
        status, error, trace = failure(problem)
    ledger.close()
    record = RunRecord(
        address=cell.spec.address, label=cell.label, status=status, error=error, traceback=trace, spec=cell.spec,
        method=method_info(cell), encoder=draft.encoder, data=data.info, environment=environment, training=draft.training,
        phases=dict(ledger.phases), wall_seconds=ledger.wall, untracked=ledger.untracked, curve=draft.curve,
        accuracy=draft.accuracy if status == "ok" else None, warnings=tuple(draft.warnings), started=started,
        finished=now(),
    )  # fmt: skip
    store.write_run(record)
    if interrupted:
        raise interrupted
    return record


def failed_record(cell: Cell, data: LoadedData, environment: Environment, problem: Exception) -> RunRecord:
    """The record of a cell that failed before it could start (in the speed measurement)."""
    status, error, trace = failure(problem)
    return RunRecord(
        address=cell.spec.address, label=cell.label, status=status, error=error, traceback=trace, spec=cell.spec,
        method=method_info(cell), data=data.info, environment=environment, started=now(), finished=now(),
    )  # fmt: skip


def failure(problem: Exception) -> tuple[Status, str, str]:
    """Status, one-line reason and traceback of an exception."""
    trace = "".join(traceback.format_exception(problem))
    exhausted = isinstance(problem, MemoryError | torch.cuda.OutOfMemoryError)
    if exhausted or "can't allocate memory" in str(problem):
        return "oom", f"{one_line(problem)}; lower --batch-size", trace
    return "failed", one_line(problem), trace


def _work(
    cell: Cell, data: LoadedData, store: RecordStore, cost: StepCost | None, advance: Advance
) -> Work:
    if cell.spec.method.name == RAW_FLOOR:
        return lambda draft, ledger: _raw_floor(cell, data, draft, ledger)
    if cell.method is None:
        return lambda draft, ledger: _random_init(cell, data, draft, ledger)
    if cost is None:
        raise ValueError("a method's cell needs the cost of a step")
    method, known = cell.method, cost
    return lambda draft, ledger: _pretrain(method, cell.spec, data, store, known, advance, draft, ledger)


def _raw_floor(cell: Cell, data: LoadedData, draft: Draft, ledger: Ledger) -> None:
    with ledger.phase("evaluate"):
        draft.accuracy = evaluate_raw(data.clips, data.labels, data.split, cell.spec.probe)


def _random_init(cell: Cell, data: LoadedData, draft: Draft, ledger: Ledger) -> None:
    with ledger.phase("build"):
        torch.manual_seed(cell.spec.seed)
        encoder = SkeletonEncoder(encoder_size(cell.spec.encoder), data.clips.layout.joint_count)
        encoder.to(data.source.device)
        draft.encoder = encoder_info(encoder)
    with ledger.phase("evaluate"):
        draft.accuracy = probe_encoder(encoder, data, cell.spec.probe)


def _pretrain(
    method_class: type[Method], spec: RunSpec, data: LoadedData, store: RecordStore, cost: StepCost,
    advance: Advance, draft: Draft, ledger: Ledger,
) -> None:  # fmt: skip
    total = parse_budget(spec.train.budget).steps(cost)
    with ledger.phase("build"):
        method = build_method(method_class, spec, data.clips.layout.joint_count, data.source.device)
        draft.encoder = encoder_info(method.encoder)
        batches = build_batches(data.source, data.sequences, spec, method.encoder.grid.frames)
        trainer = Trainer(method, batches, spec.train, total)
        health = batches_for_diagnosis(data, spec, method)
    with ledger.phase("warm-up"):
        trainer.warm_up()
    clock = StepClock(data.source.device)
    draft.training = Training(steps=0, clips_seen=0, seconds=0, step_seconds=0, flops=0, losses=[])
    for goal in evaluation_steps(total, spec.probe.points):
        _train_to(goal, trainer, clock, draft.training, cost, ledger, advance)
        with ledger.phase("evaluate"):
            accuracy = probe_encoder(method.evaluated_encoder(), data, spec.probe)
            diagnosis = diagnose(method, health)
        draft.accuracy = accuracy
        draft.curve.append(_point(draft.training, accuracy, diagnosis))
    draft.warnings.extend(diagnosis.warnings)
    check_encoder(method.evaluated_encoder(), draft.encoder)
    with ledger.phase("save"):
        store.write_encoder(spec.address, method.evaluated_encoder())


def _train_to(
    goal: int, trainer: Trainer, clock: StepClock, training: Training, cost: StepCost, ledger: Ledger,
    advance: Advance,
) -> None:  # fmt: skip
    block = max(1, -(-(goal - trainer.done) // BLOCKS_PER_POINT))
    while trainer.done < goal:
        before = dict(clock.phases)
        means = trainer.run_block(min(block, goal - trainer.done), clock)
        ledger.add({name: seconds - before.get(name, 0.0) for name, seconds in clock.phases.items()})
        with ledger.phase("log"):
            training.steps = trainer.done
            training.clips_seen = trainer.done * cost.clips
            training.seconds = clock.seconds
            training.step_seconds = float(torch.tensor(clock.steps).median())
            training.flops = trainer.done * cost.flops
            training.losses.append({"step": trainer.done, **means})
            advance(trainer.done, trainer.steps)


def evaluation_steps(total: int, points: int) -> list[int]:
    """Steps after which the probes run: evenly spaced, the last at the end."""
    return sorted({max(1, round(total * (index + 1) / points)) for index in range(points)})


def probe_encoder(encoder: SkeletonEncoder, data: LoadedData, probe: ProbeSpec) -> Accuracy:
    """Frozen features of every clip, then the probes."""
    return evaluate(clip_features(encoder, data.source), data.labels, data.split, probe)


def batches_for_diagnosis(data: LoadedData, spec: RunSpec, method: Method) -> torch.Tensor:
    """One fixed training batch for `Method.diagnose`."""
    return build_batches(data.source, data.sequences, spec, method.encoder.grid.frames).next()


def diagnose(method: Method, x: torch.Tensor) -> Diagnosis:
    """The method's health, without gradients and without touching the random state of training."""
    with torch.no_grad(), torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        return method.diagnose(x)


def check_encoder(encoder: SkeletonEncoder, built: EncoderInfo) -> None:
    """Closed division: the encoder that is probed is the one that the harness built."""
    if encoder.architecture != built.architecture:
        raise RuntimeError("the evaluated encoder is not the shared one (its architecture hash differs)")


def encoder_info(encoder: SkeletonEncoder) -> EncoderInfo:
    """What a record keeps of an encoder."""
    return EncoderInfo(
        architecture=encoder.architecture, parameters=encoder.parameter_count, tokens=encoder.grid.tokens
    )


def method_info(cell: Cell) -> MethodInfo:
    """The method's metadata, or the control's."""
    if cell.method is None:
        titles = {
            RANDOM_INIT: "Randomly initialised encoder under the same probe",
            RAW_FLOOR: "Raw coordinates: 32 frames, PCA, same probe",
        }
        return MethodInfo(
            title=titles[cell.spec.method.name], paper="none", code="none", deviations=(), choices=(),
            division="closed", control=True, source="",
        )  # fmt: skip
    about = cell.method.about
    return MethodInfo(**vars(about), source=source_hash(cell.method))


def _point(training: Training, accuracy: Accuracy, diagnosis: Diagnosis) -> Point:
    return Point(
        step=training.steps, clips_seen=training.clips_seen, seconds=training.seconds, accuracy=accuracy,
        diagnosis=diagnosis.values,
    )  # fmt: skip
