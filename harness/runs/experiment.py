"""The run matrix: resolve what was asked, plan it, measure speed, run what is missing,
hand over the records.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from datasets.layouts import NTU25, SkeletonLayout
from datasets.wording import counted, minutes
from harness.errors import MethodFault, UsageError, nearest
from harness.isolation import launched
from harness.isolation.guard import Guard, StandIn, problem_of_about, seeded, stand_in
from harness.isolation.mistakes import mistake
from harness.machine import (
    describe_environment,
    device_type,
    processors,
    select_device,
    use_threads,
)
from harness.progress import Advance, Reporter, Stopwatch, warn
from harness.records.claims import Lost, Owned
from harness.records.doubts import kinds
from harness.records.schema import (
    BOUND,
    FINISHED,
    RANDOM_INIT,
    RAW_FLOOR,
    Environment,
    RunRecord,
    SpeedRecord,
    Start,
)
from harness.records.store import METHOD_FILE, NOT_WRITTEN, RecordStore, lost_weights, speed_address
from harness.records.versions import stale_lines
from harness.registry import Registry, method_options, versions_of
from harness.runs.cell import (
    STATE_SECONDS,
    Attempt,
    Draw,
    RunContext,
    code_versions,
    evaluation_steps,
    failure,
    required,
    run_cell,
)
from harness.runs.estimates import from_measurement, from_warm_up
from harness.runs.plan import Plan
from harness.runs.planning import make_plan
from harness.runs.processes import measure_in_processes
from harness.runs.protocols import Protocols
from harness.runs.resume import (
    Interval,
    Saved,
    Unusable,
    find_state,
    refuse_state,
    remove_states,
    usable_state,
)
from harness.runs.sharing import Share
from harness.spec.budget import StepCost, counts_seconds, parse_budget
from harness.spec.model import (
    DataSpec,
    EncoderSpec,
    MethodSpec,
    ProbeSpec,
    RunSpec,
    TrainSpec,
    check_seeds,
    is_later,
    row_named,
)
from harness.speed.disturbance import Moment, busy_lines
from harness.speed.measurement import Measurement, Timing
from harness.training.build import Cell, encoder_size, skeleton_of
from harness.training.data import LoadedData, load_data
from harness.training.distributed import Ranks, join
from harness.training.leading import follow, settled
from methods.base import Method, OptionError, resolve
from methods.parts.encoder import EncoderSize, SkeletonEncoder
from methods.parts.kernels import TORCHS_OWN


@dataclass(frozen=True)
class Request:
    """What the user asked for, typed; nothing has been loaded yet.

    Attributes:
        protocols: of evaluation, after training, as `harness.runs.evaluating.Asked` has them.
        elsewhere: only a plan is wanted, for another machine: its device need not be here.
        ranks: that jobs elsewhere will have.
        no_wait: end where others work on all that is left, and take the speed that was measured as
            it is.
        since: a run that failed later is not tried again: else each of many workers that start one
            after the other would.
        one_process: of several ranks, rank 0 times every method alone too, which says what the
            others are worth.
        processes: fresh ones that measure speed; `first_slot`: where one of them starts
            (benchmarks/RULES.md).
        draw: makes pictures of each finished run.
        study: of which study's file, as `harness.records.schema.Environment` has it.
    """

    methods: list[MethodSpec]
    seeds: list[int]
    encoder: EncoderSpec
    data: DataSpec
    train: TrainSpec
    probe: ProbeSpec
    device: str
    out: Path
    baseline: str = ""
    rerun: bool = False
    keep_decoder: bool = False
    speed_seconds: float = 30.0
    memory_cap: float | None = None
    threads: int | None = None
    state_seconds: float = STATE_SECONDS
    claim: bool = False
    no_wait: bool = False
    since: datetime | None = None
    shard: tuple[int, int] = (1, 1)
    tensorboard: bool = False
    protocols: str = ""
    elsewhere: bool = False
    ranks: int = 1
    processes: int = 1
    first_slot: int = 0
    draw: Draw | None = None
    one_process: bool = False
    study: str = ""


@dataclass(frozen=True)
class Entry:
    """A method as a row: its label, its class, its completely resolved spec,
    and what guards its row.
    """

    label: str
    method: type[Method]
    spec: MethodSpec
    guard: Guard = field(default_factory=Guard, compare=False)


@dataclass(frozen=True)
class Experiment:
    """A resolved request: data in place, options complete, baseline known.

    Attributes:
        entries: the methods asked for, in order, each once however it was written.
        bound: the decoder-free bound, timed beside them.
        labels: label of every method by its spec as it was asked for.
        began: when its preparation began.
        registry: of methods, with plugins.
    """

    request: Request
    store: RecordStore
    environment: Environment
    data: LoadedData
    entries: list[Entry]
    bound: Entry
    baseline: Entry
    labels: Mapping[str, str]
    began: Moment
    registry: Registry

    @property
    def asked(self) -> dict[str, str]:
        """How every row was asked for, by its label."""
        return {label: text for text, label in reversed([*self.labels.items()])}

    @property
    def twins(self) -> list[str]:
        """What was asked for under two names and is one row."""
        names: dict[str, list[str]] = {}
        for asked, label in self.labels.items():
            names.setdefault(label, []).append(asked)
        return [
            f"one row: {' and '.join(asked)} are the same method with the same options"
            for asked in names.values()
            if len(asked) > 1
        ]

    def run_spec(self, method: MethodSpec, seed: int) -> RunSpec:
        """The run spec of a method and a seed."""
        request = self.request
        return RunSpec(
            method=method,
            encoder=request.encoder,
            data=self.data.spec,
            train=request.train,
            probe=request.probe,
            seed=seed,
            device=self.device_type,
        )

    @property
    def device_type(self) -> str:
        """``cpu`` or ``cuda``: where the runs happen; here,
        unless they are planned for another machine.
        """
        here = self.data.device.type
        return device_type(self.request.device) or here if self.request.elsewhere else here

    def cost(self, seconds: float, flops: float) -> StepCost:
        """A step's cost from its time and FLOPs;
        clips and epochs follow from the batch and the data.
        """
        batch, data = self.request.train.batch_size, self.data
        return StepCost(
            epochs=batch / data.sequence_count,
            clips=batch / data.bodies_per_clip,
            seconds=seconds,
            flops=flops,
        )

    def cells(self) -> list[Cell]:
        """Controls (under settings that do not depend on the budget),
        then every method and seed.
        """
        request, data = self.request, self.data
        timeless = request.probe.model_copy(update={"points": 1, "every": ""})
        cells = [
            Cell(
                RAW_FLOOR,
                RunSpec(method=MethodSpec(name=RAW_FLOOR), data=data.spec, probe=timeless),
            )
        ]
        for seed in request.seeds:
            control = self.run_spec(MethodSpec(name=RANDOM_INIT), seed)
            cells.append(
                Cell(
                    RANDOM_INIT,
                    control.model_copy(update={"train": TrainSpec(), "probe": timeless}),
                )
            )
        for entry in self.entries:
            cells += [
                Cell(entry.label, self.run_spec(entry.spec, seed), entry.method, entry.guard)
                for seed in request.seeds
            ]
        return cells

    @property
    def held_equal(self) -> str:
        """What the runs of all methods share (`RunSpec.held_equal`)."""
        return self.run_spec(self.bound.spec, self.request.seeds[0]).held_equal

    def found(self) -> dict[str, RunRecord | None]:
        """The record of every cell by its address, in cell order; None where it has none."""
        return {cell.spec.address: self.store.run_of(cell.spec) for cell in self.cells()}

    def missing(self, found: Mapping[str, RunRecord | None]) -> list[Cell]:
        """Cells of this process's shard without a finished record among those found;
        all of them with ``--rerun``.
        """
        first, of = self.request.shard
        finished = {address for address, record in found.items() if record and self.done(record)}
        cells = self.cells()[first - 1 :: of]
        return [cell for cell in cells if cell.spec.address not in finished or self.request.rerun]

    def done(self, record: RunRecord) -> bool:
        """A run that this experiment does not try again, unless ``--rerun`` asks for it:
        one that has ended, and its weights are written.
        """
        lately = (
            self.request.since
            and record.status != "interrupted"
            and record.finished >= self.request.since
        )
        return bool(lately) or (record.status in FINISHED and not lost_weights(record))

    def begins_anew(self, cell: Cell) -> bool:
        """With ``--rerun``, unless that was asked for before and cut off: a state then has a later
        start than the finished record beside it, which stays until the run has ended again.
        """
        if not self.request.rerun or cell.method is None:
            return self.request.rerun
        record, address = self.store.run_of(cell.spec), cell.spec.address
        state = usable_state(self.store.folder(address), address, code_versions(cell.method))
        return not (
            record and state and record.status in FINISHED and state.started > record.started
        )

    @property
    def versions(self) -> dict[str, dict[str, str]]:
        """Module -> version, by method, as this process has loaded them."""
        return {entry.spec.name: versions_of(entry.method) for entry in self.entries}

    def stale(self) -> list[str]:
        """Notes on finished records that other versions of the code made."""
        return stale_lines([] if self.request.rerun else self.records(), self.versions)

    def without_decoder(self) -> list[str]:
        """A note on finished runs that were to keep their decoder and did not."""
        kept = [] if self.request.rerun or not self.request.keep_decoder else self.records()
        names = [
            f"{record.label}, seed {record.spec.seed}"
            for record in kept
            if record.status == "ok" and record.training and METHOD_FILE not in record.weights
        ]
        return (
            [f"note: finished without --keep-decoder: {'; '.join(names)}; see --rerun"]
            if names
            else []
        )

    def records(self) -> list[RunRecord]:
        """Records of all cells that have one, in cell order."""
        return [record for record in self.found().values() if record is not None]

    def timing(self) -> Timing:
        """The speed measurement of this experiment's methods and the bound."""
        rows = [
            *self.entries,
            *(
                ()
                if any(entry.spec == self.bound.spec for entry in self.entries)
                else (self.bound,)
            ),
        ]
        seed = self.request.seeds[0]
        return Timing(
            cells=[
                Cell(entry.label, self.run_spec(entry.spec, seed), entry.method, entry.guard)
                for entry in rows
            ],
            baseline=self.baseline.label,
            data=self.data,
            environment=self.environment,
            seconds=self.request.speed_seconds,
            memory_cap=self.request.memory_cap,
            processes=self.request.processes,
            first_slot=self.request.first_slot,
            one_process=self.request.one_process and self.environment.ranks > 1,
        )


def resolve_request(
    request: Request, registry: Registry, *, advance: Advance = lambda done, total: None
) -> Experiment:
    """Resolve a request completely; every mistake in it is a `UsageError` here, before any work.

    ``advance`` is told of bytes done and bytes in all while a store is hashed. Of several ranks
    only rank 0 comes back from here: the others follow it until it ends, and end too.
    """
    began = Moment.now()
    RecordStore(request.out).refuse_shelf()
    check_seeds(request.seeds)
    if request.claim and request.rerun:
        raise UsageError(
            "--claim and --rerun: expected one of them, found both: what one process has run again,"
            " the next would too; choose another --out to share the work of a new start"
        )
    if request.protocols:
        Protocols(registry.plugins).parse(request.protocols)
    use_threads(request.threads)
    if request.elsewhere:
        device_type(request.device)
    device = (
        torch.device("cpu")
        if request.elsewhere
        else select_device(request.device, launched.local_rank())
    )
    _refuse_on_ranks(request)
    ranks = join(device)
    _refuse_kernels_of_a_gpu(request.train, device_type(request.device) or device.type)
    size = encoder_size(request.encoder)
    methods = [_described(registry, spec) for spec in request.methods]
    _refuse_baseline(request, methods)  # reading data may take a while
    with settled(ranks):
        data = load_data(request.data, device, size.patch, ranks=ranks, advance=advance)
    encoder = _meta_encoder(size, data.clips.layout)
    asked = {
        str(spec): make_entry(method, spec, encoder, registry.guard(spec.name))
        for spec, method in zip(request.methods, methods, strict=True)
    }
    entries = list({entry.label: entry for entry in asked.values()}.values())
    labels = {text: entry.label for text, entry in asked.items()}
    bound = make_entry(registry.method(BOUND), MethodSpec(name=BOUND), encoder)
    baseline = choose_baseline(request.baseline, entries)
    experiment = Experiment(
        request,
        RecordStore(request.out),
        describe_environment(device, ranks.size, request.study),
        data,
        entries,
        bound,
        baseline,
        labels,
        began,
        registry,
    )
    _refuse_crowded_probes(experiment)
    if ranks.rank:
        follow(data, registry.method)
        raise SystemExit
    return experiment


def _meta_encoder(size: EncoderSize, layout: SkeletonLayout) -> SkeletonEncoder:
    """An encoder without weights, to resolve options for."""
    with torch.device("meta"):
        return SkeletonEncoder(size, layout.joint_count, skeleton_of(layout))


def _refuse_baseline(request: Request, methods: Sequence[type[Method]]) -> None:
    """A `UsageError` where the baseline is none of the methods.

    The data's skeleton is not known yet, and NTU's stands in for it: options that do not suit that
    one may suit the other.
    """
    encoder = _meta_encoder(encoder_size(request.encoder), NTU25)
    try:
        entries = [
            make_entry(method, spec, encoder)
            for spec, method in zip(request.methods, methods, strict=True)
        ]
    except UsageError:
        return
    choose_baseline(request.baseline, entries)


def _refuse_on_ranks(request: Request) -> None:
    """A `UsageError` for what one process alone can do."""
    train, here = request.train, launched.world_size()
    ranks = max(here, request.ranks)
    alone = {
        "--processes": request.processes > 1,
        "--memory-cap": bool(request.memory_cap),
        "data.loader": request.data.loader != "device",
        "train.cuda_graphs": train.cuda_graphs,
        "--rate and --device-rate": request.elsewhere and here > 1,
    }
    if ranks > 1 and (names := [name for name, asked in alone.items() if asked]):
        raise UsageError(
            f"{', '.join(names)}: expected one process, found {ranks} ranks; leave it out, or"
            " torchrun"
        )
    Ranks(size=ranks).part_of(train.batch_size)


def _refuse_kernels_of_a_gpu(train: TrainSpec, device: str) -> None:
    """A `UsageError` where a CPU is to have what only a GPU has: tensor cores,
    several fused attention kernels.
    """
    if device == "cpu" and train.precision == "tf32":
        raise UsageError(
            "train.precision=tf32: expected a GPU, whose tensor cores it is for, found a CPU; use"
            " fp32"
        )
    if device == "cpu" and train.sdpa != TORCHS_OWN:
        raise UsageError(
            f"train.sdpa={train.sdpa}: expected a GPU, which has several attention kernels, found"
            " --device cpu, which has one; leave train.sdpa out"
        )


def _refuse_crowded_probes(experiment: Experiment) -> None:
    """A `UsageError` where the probes are to run more often than steps are made, or than a run can
    hold.

    Of units that a step must be timed for, `evaluation_steps` says so when the plan is made.
    """
    probe, budget = experiment.request.probe, parse_budget(experiment.request.train.budget)
    if not probe.every:
        return
    every, cost = parse_budget(probe.every), experiment.cost(seconds=math.nan, flops=math.nan)
    if every.share(cost) > every.amount:  # not of NaN
        raise UsageError(
            f"probe.every={every}: expected a step or more, which is"
            f" {every.share(cost):g}{every.unit} here"
        )
    if not math.isnan(every.share(cost) + budget.share(cost)):
        evaluation_steps(budget.steps(cost), probe, cost)


def _described(registry: Registry, spec: MethodSpec) -> type[Method]:
    """The class of a method, its options checked;
    a stand-in where its own code cannot even say what it is.
    """
    method = registry.method(spec.name)
    if problem := problem_of_about(method):
        return stand_in(spec.name, problem)
    try:
        with registry.guard(spec.name)("options"):
            method_options(method, spec)
    except UsageError:  # the user's mistake
        raise
    except Exception as error:  # noqa: BLE001 - the method's own
        return stand_in(spec.name, f"options: {mistake(error, method)}")
    return method


def make_entry(
    method: type[Method], spec: MethodSpec, encoder: SkeletonEncoder, guard: Guard | None = None
) -> Entry:
    """Resolve options for the encoder; the label shows those that differ from the defaults.

    A method that cannot do that is a row that fails.
    """
    guard = guard or Guard()
    if issubclass(method, StandIn):
        return Entry(str(spec), method, spec, guard)
    try:
        with guard("options"):
            resolved = resolve(method_options(method, spec), encoder).model_dump(mode="json")
            default = _defaults_of(method, encoder)
            changed = {key: value for key, value in resolved.items() if value != default[key]}
            label = str(MethodSpec(name=spec.name, options=changed))
    except OptionError as error:
        raise UsageError(f"method {spec.name}: {error}") from None
    except UsageError:
        raise
    except Exception as problem:  # noqa: BLE001 - the method's own code may fail in any way
        return Entry(
            str(spec), stand_in(spec.name, f"options: {mistake(problem, method)}"), spec, guard
        )
    came_later = (key for key, field_ in method.Options.model_fields.items() if is_later(field_))
    implied = tuple(key for key in came_later if key not in changed)
    return Entry(
        label, method, MethodSpec(name=spec.name, options=resolved, implied=implied), guard
    )


def _defaults_of(method: type[Method], encoder: SkeletonEncoder) -> dict[str, Any]:
    """A method's default options, as far as they can be resolved for an encoder
    that they may not suit.
    """
    options = method.Options()
    with contextlib.suppress(OptionError):
        options = options.resolved(encoder)
    return options.model_dump(mode="json")


def choose_baseline(asked: str, entries: Sequence[Entry]) -> Entry:
    """The method that speedups are measured against: the one asked for, else skeletonmae,
    else the first.

    However its options are written: ``mamp:decoder_depth=5`` is ``mamp`` where 5 is the default.
    """
    wanted = asked or "skeletonmae"
    label = row_named(wanted, ((entry.label, entry.spec) for entry in entries))
    for entry in sorted(entries, key=lambda entry: entry.label != label):
        if wanted == entry.spec.name or label == entry.label:
            return entry
    if asked:
        names = ", ".join(entry.label for entry in entries)
        close = nearest(asked, (entry.label for entry in entries))
        raise UsageError(
            f"--baseline {asked!r} is not among the methods of this run ({names}){close}"
        )
    return entries[0]


@seeded(
    0
    # cells have seeds of their own; what is drawn between them leaves the caller's random numbers
    # alone
)
def run(
    experiment: Experiment, reporter: Reporter, show: Callable[[Plan], None] = lambda plan: None
) -> tuple[list[RunRecord], SpeedRecord]:
    """Measure speed, run what is missing; the records of all cells and the speed record.

    ``show`` gets the plan before the long work.
    """
    request = experiment.request
    before = experiment.found()  # what is there later, another process did
    shared = request.claim or request.shard != (1, 1)
    share = Share(experiment.store, reporter, shared=shared, leaves=request.no_wait, before=before)
    todo = experiment.missing(before)
    share.refuse_taken(todo)
    replace_refused(experiment.store)
    if todo:  # a finished folder may be one that only can be read
        experiment.store.check_writable()
        share.note(experiment.cells())
    for line in [*experiment.twins, *experiment.stale(), *experiment.without_decoder()]:
        reporter.line(line)
    measurement = speed_of(experiment, reporter, share, show)
    if todo:
        experiment.data.place()  # off every run's clock
    watch = Stopwatch()
    context = RunContext(
        experiment.data,
        experiment.store,
        experiment.environment,
        request.keep_decoder,
        request.draw,
    )
    work = _Work(experiment, measurement, context, reporter)
    turns = share.turns(todo)
    with closing(turns):  # the claim of a cell that is broken off goes at once
        for cell, claim in turns:
            title = f"[{todo.index(cell) + 1}/{len(todo)}] {cell.label}, seed {cell.spec.seed}"
            try:
                record = work.on(cell, claim, title)
            except Lost as problem:
                reporter.line(f"{title}: {problem}")
            else:
                early = cell.label in measurement.failures
                said = (
                    f"{record.status} before timing, as said above" if early else _outcome(record)
                )
                reporter.line(f"{title}: {said} ({minutes(watch.seconds)} so far)")
    records = experiment.records()
    warn(*experiment.store.passed_over())
    return records, measurement.record


@dataclass(frozen=True)
class _Work:
    """On the cells of an experiment, one after the other, once their speed is measured."""

    experiment: Experiment
    speed: Measurement
    context: RunContext
    reporter: Reporter

    def on(self, cell: Cell, claim: Owned, title: str) -> RunRecord:
        """Work on a cell, from the newest of its states that can be restored; one that failed
        before timing gets its record without another try.
        """
        if problem := self.speed.failures.get(cell.label):
            record = Attempt(cell, self.context).record(*failure(problem, cell.method))
            self.experiment.store.write_run(record)
            return record
        while True:
            attempt = self.attempt(cell, claim, title)
            try:
                with self.reporter.task(title, "step") as attempt.task:
                    return run_cell(attempt)
            except Unusable as problem:
                warn(refuse_state(required(attempt.saved).path, problem))

    def attempt(self, cell: Cell, claim: Owned, title: str) -> Attempt:
        """A try at a cell, from where it was left."""
        request, arm = self.experiment.request, self.speed.record.arm(cell.label)
        cost = self.cost(cell) if cell.method else None
        steps = 0
        with contextlib.suppress(MethodFault):  # a budget that it cannot be held to: its run says
            steps = parse_budget(cell.spec.train.budget).steps(cost) if cost else 0
        return Attempt(
            cell,
            self.context,
            cost,
            saved=self.state(cell, steps, title) if cost else None,
            claim=claim,
            interval=Interval(request.state_seconds),
            tensorboard=request.tensorboard,
            doubts=list(arm.doubts) if arm else [],
        )

    def state(self, cell: Cell, steps: int, title: str) -> Saved | None:
        """The state that a run of ``steps`` goes on from, which is said;
        a start before a ``--rerun`` leaves none.
        """
        folder = self.experiment.store.folder(cell.spec.address)
        if self.experiment.begins_anew(cell):
            remove_states(folder)
        saved, lines = find_state(
            folder, cell.spec.address, code_versions(required(cell.method)), steps
        )
        for line in lines:
            warn(line)
        if saved:
            state = saved.state
            other = (
                ""
                if state.environment.fingerprint == self.experiment.environment.fingerprint
                else ", of another machine"
            )
            self.reporter.line(
                f"{title}: continues at step {state.step:,} of {state.steps:,} (state of"
                f" {state.written:%Y-%m-%d %H:%M} UTC{other})"
            )
        return saved

    def cost(self, cell: Cell) -> StepCost:
        """What a step costs; where steps are counted in seconds, with the step time of the run's
        first start.

        A run that was killed is so started again with the same number of steps, whatever was
        measured since.
        """
        arm = self.speed.record.arm(cell.label)
        if arm is None:
            raise UsageError(
                f"the stored speed record has no {cell.label}; measure again with --rerun"
            )
        cost = replace(
            self.experiment.cost(arm.step_seconds, arm.step_flops), own_seconds=arm.own_step_seconds
        )
        if not counts_seconds(cell.spec):
            return cost
        store, address = self.experiment.store, cell.spec.address
        start = None if self.experiment.begins_anew(cell) else store.start(address)
        if start is None:
            start = Start(step_seconds=cost.seconds)
            store.write_start(address, start)
        return replace(cost, seconds=start.step_seconds)


def replace_refused(store: RecordStore) -> None:
    """Set aside what was looked up and is refused: records are made again, and this says so."""
    records = sum(refusal.of_record for refusal in store.refused.values())
    for line in store.set_aside():
        warn(line)
    if records:
        warn(f"{counted(records, 'record')} of {store.root} set aside")


@seeded(0)
def speed_of(
    experiment: Experiment,
    reporter: Reporter,
    share: Share | None = None,
    show: Callable[[Plan], None] | None = None,
) -> Measurement:
    """The speed measurement of this experiment, stored or fresh; ``show`` gets the plan before that
    work.

    Of the processes that share a folder at a time, one measures and the others wait; what failed
    there fails for all.
    """
    timing, store, rerun = experiment.timing(), experiment.store, experiment.request.rerun
    stored = timing.stored(store)
    replace_refused(store)
    if not stored or rerun:
        store.check_writable()
        share = share or Share(store, reporter)
        address = speed_address(timing.spec)
        others = not rerun and share.at_work(
            [address, *(cell.spec.address for cell in experiment.cells())]
        )
        before = None if others or experiment.request.no_wait else store.speed(address)

        def made() -> Measurement | None:
            found = timing.stored(store, failed=True)
            return (
                found
                if found and (found.record != before or not (found.failures or rerun))
                else None
            )

        with share.alone(address, "the speed measurement", lambda: made() is not None) as mine:
            if mine:
                return _measure_speed(experiment, timing, reporter, show)
        stored = made()
        assert stored is not None
        for label, problem in stored.failures.items():
            reporter.line(f"{label} failed before timing: {problem}")
    if show:
        problems = dict.fromkeys(stored.failures, "see above")
        show(make_plan(experiment, from_measurement(stored), problems, measured=True))
    tell_if_busy(experiment, reporter, judged=False)
    return stored


def _measure_speed(
    experiment: Experiment, timing: Timing, reporter: Reporter, show: Callable[[Plan], None] | None
) -> Measurement:
    """A fresh speed measurement, written into the folder."""
    timing.tell_of_stopped(experiment.store, reporter)
    if timing.processes > 1:
        tell_if_busy(experiment, reporter)
        return measure_in_processes(timing, experiment.store, timing.processes, reporter)
    timing.warm_up(reporter)
    if show:
        problems = dict.fromkeys(timing.failures, "see above")
        show(
            make_plan(experiment, from_warm_up(timing.arms, timing.flops), problems, measured=False)
        )
    tell_if_busy(experiment, reporter)
    return timing.measure(reporter, experiment.store)


def tell_if_busy(experiment: Experiment, reporter: Reporter, *, judged: bool = True) -> None:
    """Say in a line what other processes do to the time,
    and to the verdicts where a measurement is about to start.
    """
    share = experiment.began.foreign_share()
    for line in busy_lines(
        share,
        processors(),
        judged=judged and experiment.data.device.type == "cpu",
        threads=experiment.environment.threads,
    ):
        reporter.line(line)


def _outcome(record: RunRecord) -> str:
    """One line about a finished cell."""
    if record.status != "ok" or record.accuracy is None:
        return f"{record.status}: {record.error}"
    trained = (
        f", {record.training.steps} steps in {minutes(record.training.seconds)}"
        if record.training
        else ""
    )
    doubted = f"; {kinds(record.doubts)}" if record.doubts else ""
    lost = "".join(f"; {name} {NOT_WRITTEN}" for name in lost_weights(record))
    return (
        f"linear {record.accuracy.linear_test:.1%}, kNN"
        f" {record.accuracy.knn_test:.1%}{trained}{doubted}{lost}"
    )
