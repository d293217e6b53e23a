"""One cell of the run matrix: pre-train a method (or evaluate a control), probe it, and write its
record.

Whatever happens in a cell ends in a record with a status; other cells are unharmed.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count, pairwise, takewhile
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from datasets.batches import Batch
from harness.encoders.facts import facts_of, to_metadata
from harness.errors import UsageError, first_few
from harness.evaluation.probes import probe_encoder, probe_raw
from harness.isolation.contract import diagnosis
from harness.isolation.guard import random_state, seeded, set_random_state
from harness.isolation.mistakes import forget_frames, mistake
from harness.isolation.state import state_of
from harness.isolation.stopping import Stopped, deferred, held, stop_is_asked
from harness.progress import State, Task, warn
from harness.records.claims import Lost, Owned, Progress
from harness.records.schema import (
    FINISHED,
    RANDOM_INIT,
    RAW_FLOOR,
    Accuracy,
    Continuation,
    Doubt,
    EncoderInfo,
    Environment,
    MethodInfo,
    Point,
    RunRecord,
    Status,
    Training,
)
from harness.records.store import (
    ENCODER_FILE,
    LAST_FILE,
    METHOD_FILE,
    NOT_WRITTEN,
    RecordStore,
    host_copies,
    lost_weights,
    now,
)
from harness.records.versions import LOOP
from harness.registry import versions_of, versions_of_modules
from harness.runs.metrics import Metrics, of_block, of_evaluation
from harness.runs.resume import Interval, RunState, Saved, Unusable, remove_states, write_state
from harness.spec.budget import StepCost, parse_budget
from harness.spec.model import MOST_EVALUATIONS, ProbeSpec
from harness.speed.disturbance import Effort, Watch
from harness.training.build import Cell, build_encoder, encoder_info
from harness.training.clock import Ledger, StepClock
from harness.training.data import LoadedData
from harness.training.leading import build_trainer
from harness.training.trainer import Diverged, Trainer, by_first_name, undisturbed
from methods.base import Diagnosis, Method
from methods.parts.encoder import Encoder, SkeletonEncoder

T = TypeVar("T")
Draw = Callable[[Method, LoadedData, RunRecord], bytes | None]
"""Pictures of a finished run (`harness.pictures.kept`); None where there is nothing to be seen."""

BLOCKS_PER_POINT = 5
STATE_SECONDS = 300.0
"""Between two states of a run, unless the user says otherwise."""
LONGEST_BLOCK = 200
"""Steps. Losses are looked at after each block,
so that a run of days which diverges on its first ends there.
"""


@dataclass(frozen=True)
class RunContext:
    """What all cells of a run share: the data, where records go, and the machine.

    Attributes:
        keep_decoder: all of a method's weights are left, beside the encoder's.
        draw: makes what a finished run leaves as pictures.
    """

    data: LoadedData
    store: RecordStore
    environment: Environment
    keep_decoder: bool = False
    draw: Draw | None = None


@dataclass
class Attempt:
    """One try at a cell: its clock, and everything found out so far, which becomes the record
    whatever happens.

    Attributes:
        cost: what a step consumes; controls have none.
        accuracy: at the evaluation that is best for selection; at the last without a validation
            part.
        selected: the encoder of that evaluation.
        whole: all of the method's weights then, where they are to be kept.
        weights: SHA-256 of the weight files that were written, by name.
        untrained: accuracy of an open-division method's own encoder before training.
        doubts: what the method gave away, in its speed measurement and here.
        effort: what this process itself took for the undisturbed blocks of training, the first left
            out.
        task: shows progress.
        saved: the state that an earlier process left, from which this one goes on.
        interval: when the next state is due.
        continued: where it was taken up, this time included.
        claim: what keeps other processes from this cell.
        earlier: what the method changed that harms nobody in processes before this one.
        unwritten: why states are missing.
        unlike: why ranks that trained together did not train to the weights of one process.
        tensorboard: write event files as well.
        trained: the method as training left it, where it is to be drawn.
    """

    cell: Cell
    context: RunContext
    cost: StepCost | None = None
    task: Task = field(default_factory=Task)
    started: datetime = field(default_factory=now)
    ledger: Ledger = field(default_factory=Ledger)
    encoder: EncoderInfo | None = None
    training: Training | None = None
    curve: list[Point] = field(default_factory=list)
    accuracy: Accuracy | None = None
    untrained: Accuracy | None = None
    selected: Encoder | None = None
    whole: Mapping[str, Tensor] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)
    saved: Saved | None = None
    interval: Interval = field(default_factory=lambda: Interval(STATE_SECONDS))
    continued: tuple[Continuation, ...] = ()
    claim: Owned | None = None
    earlier: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    tensorboard: bool = False
    trained: Method | None = None
    clock: StepClock = field(init=False)
    metrics: Metrics | None = None
    unwritten: list[str] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)
    effort: Effort = field(default_factory=lambda: Effort(leave_out=1))
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.clock = StepClock(self.context.data.device)
        self.watch = Watch(self.context.data.device)
        if self.saved:
            self.take_up(self.saved.state)
        if self.claim:
            self.claim.look = self.progress

    def take_up(self, state: RunState) -> None:
        """Everything that an earlier process found out, but for what is trained."""
        same = state.environment.fingerprint == self.context.environment.fingerprint
        self.continued = (
            *state.continued,
            Continuation(step=state.step, at=now(), same_machine=same),
        )
        self.started, self.ledger = state.started, Ledger(state.phases, state.wall_seconds)
        self.training, self.curve = state.training, list(state.curve)
        self.accuracy, self.untrained, self.warnings = (
            state.accuracy,
            state.untrained,
            state.warnings,
        )
        self.doubts = list(state.doubts)
        self.earlier = state.guarded
        self.clock.phases.update(state.clock)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase on the ledger in which the method's own code runs."""
        with self.ledger.phase(name), self.cell.guard(name):
            yield

    def raw_floor(self) -> None:
        """Control: raw coordinates under the same probes."""
        self.task(0, 0, "fitting PCA and probes")
        with self.ledger.phase("evaluate"):
            self.accuracy = probe_raw(self.context.data, self.cell.spec.probe)

    def random_init(self) -> None:
        """Control: the encoder as every method of this seed finds it, never trained."""
        spec, data = self.cell.spec, self.context.data
        with self.ledger.phase("build"):
            encoder = build_encoder(spec, data.clips.layout, data.device)
            self.encoder = encoder_info(encoder)
        self.task(0, 0, "fitting probes")
        with self.ledger.phase("evaluate"):
            self.accuracy = probe_encoder(encoder, data, spec.probe)

    def pretrain(self, method_class: type[Method]) -> None:
        """Pre-train under the budget, probing on the way and at the end;
        keep the evaluated encoder's weights.
        """
        spec, cost = self.cell.spec, required(self.cost)
        total = parse_budget(spec.train.budget).steps(cost)
        with self.ledger.phase("log"):
            folder, done = (
                self.context.store.folder(spec.address),
                self.saved.state.step if self.saved else 0,
            )
            self.metrics = Metrics(folder, done, len(self.curve), tensorboard=self.tensorboard)
        self.task(0, total, "building")
        with self.phase("build"):
            trainer = self.build(method_class, total)
            method, sample = trainer.method, trainer.batches.sample()
        self.task(0, total, "warming up")
        with self.phase("warm-up"):
            trainer.warm_up()
        goals = [0, *evaluation_steps(total, spec.probe, cost)]
        if self.saved:
            self.go_on_from(self.saved, trainer, goals)
        elif method_class.about.division == "open":  # its own encoder is its own control
            with self.phase("evaluate"):
                self.untrained = probe_encoder(
                    method.evaluated_encoder(), self.context.data, spec.probe
                )
        for before, goal in list(pairwise(goals))[len(self.curve) :]:
            longest = min(LONGEST_BLOCK, math.ceil((goal - before) / BLOCKS_PER_POINT))
            self.task.follow(partial(self.seen, trainer))
            while trainer.done < goal:
                block = min(longest, goal - (trainer.done - trainer.begun))
                # A signal that asks to stop is raised after the step that it came in, and after its
                # state was written.
                with deferred():
                    with self.watched(), self.ledger.block(self.clock), self.cell.guard("training"):
                        leave = self.to_leave if trainer.batches.divisible else stop_is_asked
                        means = trainer.go_on(block, self.clock, leave)
                    self.end_block(trainer, means)
            self.task(trainer.done, total, "probing")
            numbers, evaluated = random_state(), len(self.curve)
            try:
                with self.phase("evaluate"):
                    self.evaluate_point(method, sample)
            except KeyboardInterrupt:
                self.leave_state(trainer, numbers if len(self.curve) == evaluated else None)
                raise
            if self.interval.may:
                self.leave_state(trainer)
        with self.phase("save"):
            self.doubts += _steps_skipped(trainer)
            self.save(method)
        self.trained = method if self.context.draw else None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A training block; what the process itself took for its steps is booked
        unless something disturbed it.
        """
        with self.ledger.phase("log"):
            moment, steps, began = self.watch.begin(), len(self.clock.steps), self.clock.own_seconds
        yield
        with self.ledger.phase("log"):
            if not self.watch.since(moment):
                self.effort.add(len(self.clock.steps) - steps, self.clock.own_seconds - began)

    def end_block(self, trainer: Trainer, means: dict[str, float] | None) -> None:
        """Book a block, whose losses have these means, None where it was left early;
        leave a state when it is due.
        """
        if means is not None:
            with self.ledger.phase("log"):
                self.log(trainer.done, self.clock, required(self.cost), means)
        if self.to_leave() and (means is not None or trainer.batches.divisible):
            self.leave_state(trainer)

    def to_leave(self) -> bool:
        """A state is due, or a signal asked to stop."""
        return self.interval.due or stop_is_asked()

    def leave_state(self, trainer: Trainer, numbers: Mapping[str, Tensor] | None = None) -> None:
        """Write all that a later process needs to go on from here;
        ``numbers`` are the random state, else as it is.
        """
        began, spec, method = time.perf_counter(), self.cell.spec, required(self.cell.method)
        self.still_owned()
        with self.phase("state"), held():
            state = RunState(
                address=spec.address,
                step=trainer.done,
                steps=trainer.steps,
                versions=code_versions(method),
                environment=self.context.environment,
                clock=dict(self.clock.phases),
                phases=dict(self.ledger.phases),
                wall_seconds=self.ledger.wall,
                training=self.training,
                curve=self.curve,
                accuracy=self.accuracy,
                untrained=self.untrained,
                warnings=self.warnings,
                guarded=self.guarded,
                unlike=self.unlike,
                doubts=tuple(self.doubts),
                continued=self.continued,
                started=self.started,
                written=now(),
            )
            try:
                write_state(
                    self.context.store.folder(spec.address), state, self.tensors(trainer, numbers)
                )
            except OSError as problem:  # a full disk costs the state, not the run
                self.not_left(problem.strerror or str(problem))
            except TypeError as problem:
                self.not_left(str(problem))
        self.interval.wrote(time.perf_counter() - began)

    def tensors(self, trainer: Trainer, numbers: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Those of a state; `TypeError` where the method keeps something else."""
        found = {f"trainer/{name}": value for name, value in trainer.state().items()}
        found |= {f"random/{name}": value for name, value in (numbers or random_state()).items()}
        found["clock/steps"] = torch.tensor(self.clock.steps, dtype=torch.float64)
        if self.selected:
            weights = host_copies(self.selected.state_dict())
            found |= {f"selected/{name}": value for name, value in weights.items()}
        return found | {f"whole/{name}": value for name, value in self.whole.items()}

    def not_left(self, reason: str) -> None:
        """A state is missing, which the row says once."""
        text = f"a state could not be written ({reason}): a stop costs what was done since"
        if text not in self.unwritten:
            self.unwritten.append(text)

    @property
    def guarded(self) -> tuple[str, ...]:
        """What the method changed that harms nobody, each once,
        in this process and those before.
        """
        return tuple(dict.fromkeys([*self.earlier, *self.cell.guard.warnings]))

    def go_on_from(self, saved: Saved, trainer: Trainer, goals: list[int]) -> None:
        """Restore a state; `Unusable` where it turns out that none can be restored from it.

        Args:
            goals: steps at which the run is evaluated, after a 0.
        """
        try:
            with self.phase("state"):
                self.restore(trainer, saved.tensors)
            evaluated = [point.step for point in self.curve]
            if trainer.done != saved.state.step or evaluated != goals[1 : len(evaluated) + 1]:
                raise ValueError("its tensors are not of its step, or its curve is not this run's")
            if trainer.done > goals[min(len(evaluated) + 1, len(goals) - 1)]:
                raise ValueError("an evaluation is missing")
            before, ranks = saved.state.environment.ranks, trainer.ranks.size
            if before != ranks and (saved.state.unlike or self.unlike):
                raise ValueError(
                    f"of {before} ranks, which are {ranks} now, and it is not identical on others"
                )
        except (MemoryError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as problem:
            raise Unusable(
                f"cannot be restored ({mistake(problem, self.cell.method)})"
            ) from problem

    def restore(self, trainer: Trainer, tensors: Mapping[str, Tensor]) -> None:
        """What is trained, and the random numbers, as an earlier process left them."""
        parts = by_first_name(tensors)
        trainer.restore(parts["trainer"])
        self.clock.steps = parts["clock"]["steps"].tolist()
        if "selected" in parts:
            self.selected = copy.deepcopy(trainer.method.evaluated_encoder())
            self.selected.load_state_dict(parts["selected"])
        if self.context.keep_decoder:
            self.whole = parts.get("whole", {})
        set_random_state(parts["random"])

    def build(self, method_class: type[Method], steps: int) -> Trainer:
        """The method on its encoder, ready to train ``steps`` steps on the run's batches."""
        spec, data = self.cell.spec, self.context.data
        trainer = build_trainer(method_class, spec, data, steps)
        self.encoder = encoder_info(trainer.method.evaluated_encoder())
        if trainer.not_identical:
            self.unlike = (
                (
                    f"not identical to one process on {trainer.ranks.size} ranks:"
                    f" {trainer.not_identical}"
                ),
            )
        return trainer

    def log(self, done: int, clock: StepClock, cost: StepCost, means: dict[str, float]) -> None:
        """Book the time and the losses of a block that ended after ``done`` steps."""
        losses = self.training.losses if self.training else []
        losses.append({"step": done, **means})
        self.training = Training(
            steps=done,
            clips_seen=done * cost.clips,
            seconds=clock.seconds,
            step_seconds=statistics.median(clock.steps),
            interleaved_step_seconds=cost.seconds,
            own_step_seconds=self.effort.step_seconds,
            interleaved_own_step_seconds=cost.own_seconds,
            flops=done * cost.flops,
            losses=losses,
        )
        required(self.metrics)(of_block(self.training))
        self.still_owned()

    def still_owned(self) -> None:
        """`Lost` where another process took this cell over."""
        if self.claim:
            self.claim.check()

    def progress(self) -> Progress:
        """How far it has come, for whoever looks at the folder."""
        done, steps, doing = self.task.look()
        training, last = self.training, self.curve[-1] if self.curve else None
        loss = training.losses[-1]["loss"] if training else None
        return Progress(
            doing="training" if doing.startswith("loss") else doing,
            step=done,
            steps=steps,
            clips=done * self.cost.clips if self.cost else 0.0,
            seconds=self.clock.seconds,
            loss=loss if loss is not None and math.isfinite(loss) else None,
            accuracy=last.accuracy.linear_test if last else None,
        )

    def save(self, method: Method) -> None:
        """Leave the selected encoder and the last one,
        once it is sure that they are the shared one.
        """
        spec, layout = self.cell.spec, self.context.data.clips.layout
        _check_encoder(method, required(self.encoder), build_encoder(spec, layout, "meta"))
        encoders = {ENCODER_FILE: required(self.selected)}
        if self.accuracy != self.curve[-1].accuracy:  # else the last evaluation is the selected one
            encoders[LAST_FILE] = method.evaluated_encoder()
        try:
            for name, encoder in encoders.items():
                facts = to_metadata(facts_of(encoder, layout, spec))
                self.weights |= self.context.store.write_encoder(spec.address, encoder, facts, name)
            if self.whole:
                self.weights |= self.context.store.write_method(spec.address, self.whole)
        except OSError as error:  # a full disk: what training found out is kept all the same
            lost = next(name for name in (*encoders, METHOD_FILE) if name not in self.weights)
            self.warnings = (*self.warnings, _not_written(lost, error))

    def seen(self, trainer: Trainer) -> State:
        """How far training has come. A GPU's latest loss is that of the last block:
        asking for it would be to wait.
        """
        latest = trainer.latest if trainer.device.type == "cpu" else None
        losses = self.training.losses if self.training else []
        loss = float(latest) if latest is not None else losses[-1]["loss"] if losses else None
        return trainer.done, trainer.steps, "" if loss is None else f"loss {loss:.4g}"

    def evaluate_point(self, method: Method, sample: Batch) -> None:
        """Probe the evaluated encoder, keep it if it is the best so far,
        and ask the method for its health.
        """
        before, training = state_of(method), required(self.training)
        encoder = method.evaluated_encoder()
        self.doubt_changes("evaluated_encoder", before.changed(method))
        accuracy = probe_encoder(encoder, self.context.data, self.cell.spec.probe)
        # Without validation subjects pre-training has seen every subject of the training side: the
        # last one counts.
        selecting = len(self.context.data.split.validation) > 0
        if self.accuracy is None or not (selecting and better(self.accuracy, accuracy)):
            self.accuracy, self.selected = accuracy, copy.deepcopy(encoder)
            if self.context.keep_decoder:
                self.whole = host_copies(method.state_dict())
        before = state_of(method)
        diagnosis = diagnose(method, sample)
        self.doubt_changes("diagnose", before.changed(method))
        self.warnings = tuple(map(str, diagnosis.warnings))
        self.curve.append(
            Point(
                step=training.steps,
                clips_seen=training.clips_seen,
                seconds=training.seconds,
                accuracy=accuracy,
                diagnosis=diagnosis.values,
            )
        )
        required(self.metrics)(of_evaluation(self.curve[-1]))
        self.still_owned()

    def doubt_changes(self, call: str, changed: list[str]) -> None:
        """A doubt, once, where a call that should only look has left other parameters
        or buffers behind.
        """
        if changed and not any(doubt.text.startswith(f"{call} ") for doubt in self.doubts):
            self.doubts.append(
                Doubt(kind="trained off the clock", text=f"{call} changed {first_few(changed)}")
            )

    def record(self, status: Status, error: str = "", trace: str = "") -> RunRecord:
        """The record of this attempt as it stands."""
        self.ledger.close()
        return RunRecord(
            address=self.cell.spec.address,
            label=self.cell.label,
            status=status,
            error=error,
            traceback=trace,
            spec=self.cell.spec,
            method=_method_info(self.cell),
            encoder=self.encoder,
            data=self.context.data.info,
            environment=self.context.environment,
            training=self.training,
            phases=dict(self.ledger.phases),
            wall_seconds=self.ledger.wall,
            untracked=self.ledger.untracked,
            curve=self.curve,
            accuracy=self.accuracy if status == "ok" else None,
            untrained=self.untrained,
            warnings=(
                *self.guarded,
                *self.unlike,
                *self.unwritten,
                *self.warnings,
                *_not_finite(self.training, self.curve),
            ),
            weights=self.weights,
            doubts=tuple(self.doubts),
            continued=self.continued,
            started=self.started,
            finished=now(),
        )

    def leave_pictures(self, record: RunRecord) -> None:
        """Draw what the finished run saw, beside its record;
        what goes wrong with that is said and harms nothing.
        """
        if self.context.draw is None or self.trained is None:
            return
        try:
            with deferred(), seeded(record.spec.seed), self.cell.guard("pictures"):
                made = self.context.draw(self.trained, self.context.data, record)
            if made:
                self.context.store.write_pictures(record.address, made)
        except Exception as problem:  # noqa: BLE001 - the method's own code is asked for it, and the disk may be full
            warn(
                f"{record.label}, seed {record.spec.seed}: no pictures"
                f" ({mistake(problem, self.cell.method)})"
            )
        self.trained = None


def run_cell(attempt: Attempt) -> RunRecord:
    """Work on a cell and write its record.

    Raises:
        KeyboardInterrupt: a stop by the user, after the record was written.
        Lost: another process took the cell over; nothing is written.
        Unusable: its state cannot be restored; nothing is written.
    """
    cell = attempt.cell
    try:
        with seeded(cell.spec.seed):
            if cell.method:
                attempt.pretrain(cell.method)
            elif cell.label == RAW_FLOOR:
                attempt.raw_floor()
            else:
                attempt.random_init()
        ended: BaseException | None = None
    except (Lost, Unusable):
        raise
    except (Exception, KeyboardInterrupt) as problem:  # noqa: BLE001 - a method may throw anything; the others go on
        ended = problem
    with held():  # a stop that comes now waits until the record is there
        attempt.still_owned()
        record = attempt.record(*_status_of(ended, cell.method))
        attempt.context.store.write_run(record)
        if record.status in FINISHED and not lost_weights(record):
            remove_states(attempt.context.store.folder(record.address))
    if record.status == "ok":
        attempt.leave_pictures(record)
    if isinstance(ended, KeyboardInterrupt):
        raise ended
    if ended:
        forget_frames(ended)  # the next cell needs the memory
    return record


def _status_of(ended: BaseException | None, method: type[Method] | None) -> tuple[Status, str, str]:
    """Status, one-line reason and traceback of a cell that ended this way."""
    if ended is None:
        return "ok", "", ""
    if isinstance(ended, KeyboardInterrupt):
        return (
            "interrupted",
            ended.reason if isinstance(ended, Stopped) else "stopped by the user",
            "",
        )
    return failure(ended, method)


def failure(
    problem: BaseException,
    code: type[Method] | Path | None,
    diverged: type[Exception] = Diverged,
    size: str = "--batch-size",
) -> tuple[Status, str, str]:
    """Status, one-line reason and traceback of an exception that came while a method, a control or
    a protocol ran.

    Args:
        code: as in `mistake`.
        diverged: what is thrown where a loss is no finite number.
        size: what takes less memory when it is lower.
    """
    trace = "".join(traceback.format_exception(problem))
    reason = str(mistake(problem, code))
    if isinstance(problem, diverged):
        return "diverged", reason, trace
    if (
        isinstance(problem, MemoryError | torch.cuda.OutOfMemoryError)
        or "can't allocate memory" in reason
    ):
        return "oom", f"{reason}; lower {size}", trace
    return "failed", reason, trace


def _not_finite(training: Training | None, curve: list[Point]) -> list[str]:
    """A warning for each loss part and each figure of a diagnosis that was NaN or infinite.

    Such numbers are kept as they are, and mean that something in the method is broken.
    """
    blocks = training.losses if training else []
    losses = [
        (f"loss part {name}", means["step"], value)
        for means in blocks
        for name, value in means.items()
    ]
    figures = [
        (f"diagnosis {name}", point.step, value)
        for point in curve
        for name, value in point.diagnosis.items()
    ]
    first: dict[str, float] = {}
    for name, step, value in [*losses, *figures]:
        if not math.isfinite(value):
            first.setdefault(name, step)
    return [
        f"{name} is no finite number, first seen at step {step:g}" for name, step in first.items()
    ]


def better(one: Accuracy, other: Accuracy) -> bool:
    """The first is strictly better on subjects that choose; without those the later one counts."""
    return (
        one.selection is not None
        and other.selection is not None
        and one.selection > other.selection
    )


def evaluation_steps(total: int, probe: ProbeSpec, cost: StepCost) -> list[int]:
    """Steps after which the probes run, the last at the end: evenly spaced,
    or at every so many clips, say.
    """
    if not probe.every:
        return sorted(
            {max(1, round(total * (index + 1) / probe.points)) for index in range(probe.points)}
        )
    every = parse_budget(probe.every)
    apart = max(1.0, every.amount / every.share(cost)) if every.share(cost) else float(total)
    if total / apart > MOST_EVALUATIONS:
        raise UsageError(
            f"probe.every={every}: expected at most {MOST_EVALUATIONS:,} evaluations of a run,"
            f" found {total / apart:,.0f} in its {total:,} steps; evaluate less often"
        )
    marks = (round(apart * index) for index in count(1))
    return sorted({max(1, step) for step in takewhile(lambda step: step < total, marks)} | {total})


def diagnose(method: Method, x: Batch) -> Diagnosis:
    """The method's health, without gradients and without a trace in the training."""
    device = (x if isinstance(x, torch.Tensor) else x[0]).device
    with torch.no_grad(), undisturbed(method, device):
        return diagnosis(method, method.diagnose(x))


def _not_written(name: str, error: OSError) -> str:
    """What a row says whose weights could not be written."""
    return (
        f"{name} {NOT_WRITTEN} ({error.strerror or error}), so this row is without it; free space,"
        " and the same command makes it again"
    )


def _steps_skipped(trainer: Trainer) -> list[Doubt]:
    """A doubt where no parameter of the encoder that learns was in the optimiser's hands
    in most of the steps.
    """
    states = [
        trainer.optimizer.state.get(parameter, {})
        for parameter in trainer.method.encoder.parameters()
    ]
    taken = max((int(state["step"]) for state in states if "step" in state), default=0)
    if taken >= trainer.done / 2:
        return []
    return [
        Doubt(
            kind="steps skipped",
            text=f"the encoder had a gradient in {taken} of {trainer.done} steps",
        )
    ]


def _check_encoder(method: Method, built: EncoderInfo, shared: SkeletonEncoder) -> None:
    """Training has not changed the encoder's architecture,
    which in the closed division is the shared one.
    """
    expected = built.architecture if method.about.division == "open" else shared.architecture
    if method.evaluated_encoder().architecture != expected:
        raise RuntimeError(
            "the evaluated encoder is not the shared one (its architecture hash differs)"
        )


def _method_info(cell: Cell) -> MethodInfo:
    """The method's metadata, or the control's."""
    if cell.method is None:
        titles = {
            RANDOM_INIT: "Randomly initialised encoder under the same probe",
            RAW_FLOOR: "Raw coordinates: 32 frames, PCA, same probe",
        }
        return MethodInfo(
            title=titles[cell.spec.method.name],
            paper="none",
            code="none",
            deviations=(),
            choices=(),
            division="closed",
            control=True,
            versions=versions_of_modules(LOOP),
        )
    about = cell.method.about
    return MethodInfo(**vars(about), versions=code_versions(cell.method))


def code_versions(method: type[Method]) -> dict[str, str]:
    """Module -> version, of a method and of what trains and evaluates it."""
    return versions_of(method) | versions_of_modules(LOOP)


def required(value: T | None) -> T:
    """The value, which the caller's order of work guarantees."""
    assert value is not None
    return value
