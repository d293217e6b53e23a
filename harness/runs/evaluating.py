"""Evaluation as a stage of its own: protocols read the encoders that runs left, and no encoder is
trained again.

For every run and every protocol one record beside the run's own; only what is missing is done.
Whatever happens in an evaluation ends in its record with a status; the others are unharmed. A
process that is killed costs the evaluation that it was at.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.wording import counted, minutes
from harness.encoders.stored import encoder_of, not_there, weights_file, weights_hash
from harness.errors import MethodFault, UsageError, first_few, one_line
from harness.evaluation.probes import Features
from harness.evaluation.protocol import Protocol, ProtocolResult, Subject, frozen_features
from harness.isolation.guard import Guard, seeded
from harness.isolation.state import state_of
from harness.isolation.stopping import held
from harness.machine import describe_environment, select_device, use_threads
from harness.progress import CHECKING, Reporter, Stopwatch, warn
from harness.records.claims import Lost
from harness.records.evaluations import (
    SCRATCH,
    EpochPoint,
    EvaluationRecord,
    Evaluations,
    TestClips,
    WhichEncoder,
    evaluation_address,
)
from harness.records.schema import (
    FINISHED,
    RANDOM_INIT,
    RAW_FLOOR,
    DataInfo,
    Environment,
    RunRecord,
    Status,
)
from harness.records.store import RecordStore, now, set_aside
from harness.registry import Registry, versions_of_modules
from harness.runs.cell import failure
from harness.runs.protocols import Protocols
from harness.runs.sharing import Share
from harness.spec.model import DataSpec, without_later
from harness.training.build import encoder_size
from harness.training.data import LoadedData, load_data
from methods.parts.encoder import Encoder, SkeletonEncoder

_BUILT_ON = ("datasets.batches", "harness.evaluation.probes", "harness.evaluation.protocol")
"""Modules, beside a protocol's own, whose versions an evaluation keeps."""
_WHERE_IT_COUNTS = ("datasets.", "harness.evaluation.", "methods.")
"""Packages of modules that change what a protocol finds."""


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated, and how; nothing has been loaded yet.

    Attributes:
        protocols: ``linear,semi:ratio=0.1``.
        which: of a run's two encoders.
        dataset: where the data is now, where it is not where the runs found it.
        runs: addresses of the runs; None: all of the folder.
        seeds: of the runs; None: all. Raw coordinates have none, and are always there.
        loaded: their data, where it is here already.
        study: of which study's file, as `harness.records.schema.Environment` has it.
    """

    folder: Path
    protocols: str
    which: WhichEncoder = "last"
    dataset: str = ""
    device: str = ""
    threads: int | None = None
    rerun: bool = False
    claim: bool = False
    no_wait: bool = False
    runs: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    loaded: LoadedData | None = None
    study: str = ""

    def wants(self, run: RunRecord) -> bool:
        """A run is to be evaluated."""
        among = self.seeds is None or run.spec.seed in self.seeds or run.label == RAW_FLOOR
        return among and (self.runs is None or run.address in self.runs)


@dataclass(frozen=True)
class _Piece:
    """One evaluation to do: a protocol on an encoder.

    Attributes:
        of_set: number of the one of the run's data sets that it is on, where they are several.
    """

    run: RunRecord
    spec: str
    protocol: Protocol[Any]
    name: str
    which: WhichEncoder
    weights: str
    control: str
    of_set: int | None = None

    @property
    def data(self) -> DataInfo:
        """What it is on."""
        return self.run.data if self.of_set is None else self.run.data.sets[self.of_set]

    @property
    def address(self) -> str:
        """Of its record."""
        options = without_later(
            type(self.protocol.options), self.protocol.options.model_dump(mode="json")
        )
        own = "" if self.of_set is None else self.data.fingerprint
        return evaluation_address(
            self.run.address, self.name, options, self.which, self.weights, self.control, own
        )

    @property
    def title(self) -> str:
        """``gfp, seed 0: linear``."""
        control = f" ({self.control})" if self.control and self.control != self.run.label else ""
        where = "" if self.of_set is None else f" on {self.data.name}"
        return f"{self.run.label}, seed {self.run.spec.seed}: {self.spec}{where}{control}"


@dataclass
class Evaluated:
    """What came of it.

    Attributes:
        records: of everything asked for, in order.
        skipped: what could not be evaluated, a line each; `missing` of them because a file is not
            there.
    """

    records: list[EvaluationRecord] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: int = 0

    @property
    def whole(self) -> bool:
        """Everything that could be asked for is there and well."""
        return not self.missing and all(record.status == "ok" for record in self.records)


def evaluate(asked: Asked, registry: Registry, reporter: Reporter) -> Evaluated:
    """Do what is missing; the records of all that was asked for.

    Raises:
        UsageError: the request cannot be done. A protocol that fails has a record that says so.
    """
    protocols = Protocols(registry.plugins)
    chosen = protocols.parse(asked.protocols)
    store = RecordStore.existing(asked.folder)
    store.refuse_shelf()
    runs = [record for record in store.runs() if asked.wants(record)]
    warn(*store.passed_over())
    done, result = Evaluations(asked.folder), Evaluated()
    pieces = _all_pieces(runs, chosen, protocols, asked.which, store, result)
    if not pieces:
        why = "; ".join(result.skipped[:3]) or f"see `ls runs --out {asked.folder}`"
        raise UsageError(
            f"{asked.folder}: expected finished runs with their encoders, found none; {why}"
        )
    todo = [
        piece
        for piece in pieces
        if asked.rerun or not _finished(done.one(piece.run.address, piece.address))
    ]
    if not asked.rerun:
        for line in _stale(done, pieces):
            reporter.line(line)
    if todo:
        use_threads(asked.threads)
        store.check_writable()
        _replace_refused(done)
        _work(asked, todo, registry, store, done, reporter, result)
    for line in result.skipped:
        reporter.result(line)
    found = (done.one(piece.run.address, piece.address) for piece in pieces)
    result.records = [record for record in found if record]
    return result


def _all_pieces(
    runs: Sequence[RunRecord],
    chosen: Mapping[str, Protocol[Any]],
    protocols: Protocols,
    which: WhichEncoder,
    store: RecordStore,
    result: Evaluated,
) -> list[_Piece]:
    """What there is to do for these runs, each with its controls; why not, where that is so."""
    pieces = list[_Piece]()
    for record in runs:
        if record.status != "ok":
            result.skipped.append(
                f"{record.label}, seed {record.spec.seed}: its run is {record.status}, not"
                " evaluated"
            )
            continue
        encoders = list[tuple[WhichEncoder, str]]()
        if record.label == RAW_FLOOR:
            encoders.append(("none", ""))
        elif record.label == RANDOM_INIT:
            encoders.append(("untrained", ""))
        else:
            if record.method.division == "open":  # its own encoder is its own control
                encoders.append(("untrained", ""))
            if problem := not_there(record, which, store):
                result.skipped.append(f"{record.label}, seed {record.spec.seed}: {problem}")
                result.missing += 1
            else:
                encoders.append((which, weights_file(record, which, store)[1]))
        for encoder, weights in encoders:
            for spec, protocol in chosen.items():
                if encoder == "none" and not protocol.reads_raw:
                    continue
                if unfit := _plainly_unfit(record, encoder, protocol):
                    result.skipped += [
                        f"{record.label}, seed {record.spec.seed}: {spec} left out: {unfit}"
                    ]
                    continue
                name = protocols.name_of(type(protocol))
                control = _control_of(encoder, protocol)
                pieces += [
                    _Piece(record, spec, protocol, name, encoder, weights, control, number)
                    for number in (range(len(record.data.sets)) if record.data.sets else [None])
                ]
    return pieces


def _plainly_unfit(record: RunRecord, which: WhichEncoder, protocol: Protocol[Any]) -> str:
    """Why a protocol cannot evaluate a shared encoder;
    what a method brings is seen when it is built.
    """
    if which == "none" or record.method.division == "open":
        return ""
    with (
        torch.device("meta"),
        contextlib.suppress(Exception),
    ):  # a plugin's mistake is told when its turn comes
        return protocol.unfit(SkeletonEncoder(encoder_size(record.spec.encoder), joints=1))
    return ""


def _control_of(encoder: WhichEncoder, protocol: Protocol[Any]) -> str:
    """What an evaluation is a control of, where it is one."""
    if encoder == "none":
        return RAW_FLOOR
    if encoder == "untrained":
        return SCRATCH if protocol.trains_encoder else RANDOM_INIT
    return ""


def _finished(record: EvaluationRecord | None) -> bool:
    """There is nothing left to do."""
    return record is not None and record.status in FINISHED


def _stale(done: Evaluations, pieces: Sequence[_Piece]) -> list[str]:
    """A line for every finished evaluation that other versions of the code made."""
    lines = []
    for piece in pieces:
        record = done.one(piece.run.address, piece.address)
        here = _code_versions(type(piece.protocol))
        before = record.versions if _finished(record) and record else here
        changed = [
            f"{name} {was} -> {here[name]}"
            for name, was in before.items()
            if here.get(name, was) != was
        ]
        lines += (
            [f"note: {piece.title}: {', '.join(changed)} since; see --rerun"] if changed else []
        )
    return lines


def _replace_refused(done: Evaluations) -> None:
    """Set evaluations aside that were looked up and are refused: they are made again.
    A newer one is a `UsageError`.
    """
    for refusal in done.refused.values():
        if refusal.newer:
            raise UsageError(str(refusal))
    for path, refusal in done.refused.items():
        warn(f"{refusal}; kept as {set_aside(path).name}, and made again")
    done.refused.clear()


def _work(
    asked: Asked,
    todo: Sequence[_Piece],
    registry: Registry,
    store: RecordStore,
    done: Evaluations,
    reporter: Reporter,
    result: Evaluated,
) -> None:
    """Do every piece that nobody else does, the pieces of one encoder one after the other."""
    watch, share = Stopwatch(), Share(store, reporter, shared=asked.claim, leaves=asked.no_wait)
    before = {piece.address: done.one(piece.run.address, piece.address) for piece in todo}
    bench = _Bench(asked, registry, store, reporter)

    def meanwhile(piece: _Piece) -> bool:
        after = done.one(piece.run.address, piece.address)
        return after is not None and after != before[piece.address]

    turns = share.turns_at(
        todo,
        lambda piece: (
            f"{piece.run.address}/evaluations/{piece.address}",
            piece.run.label,
            piece.run.spec.seed,
        ),
        meanwhile,
    )
    numbers = {piece.address: number for number, piece in enumerate(todo, 1)}
    with closing(turns):
        for piece, claim in turns:
            title = f"[{numbers[piece.address]}/{len(todo)}] {piece.title}"
            try:
                data, subject = bench.data(piece), bench.subject(piece)
                unfit = piece.protocol.unfit(subject.encoder)
            except Exception as problem:  # noqa: BLE001 - the other encoders are read
                reason = str(problem) if isinstance(problem, UsageError) else one_line(problem)
                result.skipped.append(f"{piece.title}: {reason}")
                result.missing += 1
                continue
            if unfit:
                result.skipped.append(f"{piece.title} left out: {unfit}")
                continue
            try:
                with reporter.task(title, "epoch") as subject.tell:
                    record = _one(piece, subject, bench.environment(data))
                with held():  # a stop that comes now waits until the record is there
                    claim.check()
                    done.write_test_clips(_test_clips(data))
                    done.write(record)
            except Lost as problem:
                reporter.result(f"{title}: {problem}")
            else:
                reporter.line(f"{title}: {_outcome(record)} ({minutes(watch.seconds)} so far)")


@dataclass
class _Bench:
    """What evaluations read: data by its spec, and encoders; the last of each is kept.

    Attributes:
        encoder: the last one read, and whose it is; nobody but this class touches it.
        features: its frozen features, once somebody asked for them.
    """

    asked: Asked
    registry: Registry
    store: RecordStore
    reporter: Reporter
    loaded: dict[str, LoadedData] = field(default_factory=dict)
    encoder: tuple[tuple[str, ...], Encoder | None] | None = None
    features: Features | None = None
    machine: dict[torch.device, Environment] = field(default_factory=dict)

    def subject(self, piece: _Piece) -> Subject:
        """A piece's encoder and data."""
        data, run, key = (
            self.data(piece),
            piece.run,
            (piece.run.address, piece.which, piece.data.fingerprint),
        )
        if self.encoder is None or self.encoder[0] != key:
            self.encoder, self.features, found = None, None, None
            if piece.which != "none":
                is_open = run.method.division == "open"
                method = self.registry.method(run.spec.method.name) if is_open else None
                with seeded(run.spec.seed):
                    found = encoder_of(run, piece.which, data, method, self.store)
            self.encoder = key, found
        encoder = self.encoder[1]

        def frozen() -> Features:
            if self.features is None:
                self.features = frozen_features(encoder, data)
                self.features.setflags(write=False)
            return self.features

        return Subject(
            copy.deepcopy(encoder),
            data,
            piece.data.fingerprint,
            piece.data.classes,
            seed=run.spec.seed,
            untrained=piece.which == "untrained",
            frozen=frozen,
        )

    def data(self, piece: _Piece) -> LoadedData:
        """The run's data, or the one of its sets that the piece is on, on the device already: that
        is on no protocol's clock; a `UsageError` where other data is there now.
        """
        spec = piece.run.spec.data
        key = spec.model_dump_json()
        if self.asked.loaded and self.asked.loaded.spec == spec:
            found = self.asked.loaded
        else:
            if key not in self.loaded:
                self.loaded.clear()
                self.loaded[key] = _read(spec, piece.run, self.asked, self.reporter)
            found = self.loaded[key]
        found = found if piece.of_set is None else found.parts[piece.of_set]
        found.place()
        return found

    def environment(self, data: LoadedData) -> Environment:
        """This machine."""
        device = data.device
        if device not in self.machine:
            self.machine[device] = describe_environment(device, study=self.asked.study)
        return self.machine[device]


def _read(spec: DataSpec, run: RunRecord, asked: Asked, reporter: Reporter) -> LoadedData:
    """The data of a run, from where it was or is now; a `UsageError` where it is another."""
    device = select_device(asked.device or run.spec.device)
    named = spec.model_copy(
        update={"name": asked.dataset or spec.name, "fingerprint": "", "loader": "device"}
    )
    with reporter.long_task(CHECKING) as advance:
        data = load_data(named, device, encoder_size(run.spec.encoder).patch, advance=advance)
    if data.spec.fingerprint != run.data.fingerprint:
        raise UsageError(
            f"data {named.name}: expected fingerprint {run.data.fingerprint}, that of"
            f" {run.address}, found {data.spec.fingerprint}; --dataset names the place of the data"
        )
    return data


def _test_clips(data: LoadedData) -> TestClips:
    """Labels and people of the test clips."""
    test = data.split.test
    return TestClips(
        fingerprint=data.spec.fingerprint,
        labels=data.labels[test].tolist(),
        subjects=data.clips.columns["subject"][test].tolist(),
        class_names=list(data.class_names),
    )


def _one(piece: _Piece, subject: Subject, environment: Environment) -> EvaluationRecord:
    """The record of an evaluation, whatever happened in it; only a stop passes."""
    started, began, run = now(), time.perf_counter(), piece.run
    guard, protocol, outcome = Guard(), piece.protocol, ProtocolResult(np.zeros(0, np.int64))
    status: Status = "ok"
    error = trace = ""
    encoder = subject.encoder
    weights = piece.weights or (weights_hash(encoder) if encoder else "")
    before = state_of(encoder) if encoder else None
    try:
        with seeded(run.spec.seed), guard("evaluation"):
            protocol = protocol.resolved(subject)
            found = _checked(protocol.evaluate(subject), subject)
        if (
            encoder
            and before
            and not protocol.trains_encoder
            and (changed := before.changed(encoder))
        ):
            raise MethodFault(
                f"evaluate changed {first_few(changed)} of the encoder: write trains_encoder = True"
            )
        outcome = found
    except KeyboardInterrupt:
        raise
    except Exception as problem:  # noqa: BLE001 - a protocol may throw anything; the others go on
        code, size = Path(inspect.getfile(type(protocol))), "the protocol's batch size"
        status, error, trace = failure(problem, code, FloatingPointError, size)
    truth = subject.labels[subject.test]
    labelled = subject.training_side if outcome.labelled is None else np.unique(outcome.labelled)
    return EvaluationRecord(
        address=piece.address,
        run=run.address,
        label=run.label,
        seed=run.spec.seed,
        protocol=piece.name,
        spec=piece.spec,
        options=protocol.options.model_dump(mode="json"),
        encoder=piece.which,
        weights=weights,
        data=piece.data.fingerprint,
        of_set="" if piece.of_set is None else piece.data.name,
        subset="" if outcome.labelled is None else _subset_hash(labelled),
        labelled=len(labelled) if status == "ok" else 0,
        control=piece.control,
        status=status,
        error=error,
        traceback=trace,
        accuracy=float(np.mean(outcome.predictions == truth)) if status == "ok" else None,
        figures=outcome.figures,
        curve=list(outcome.curve),
        predictions=outcome.predictions.tolist(),
        seconds=max(0.0, time.perf_counter() - began - subject.features_seconds),
        features_seconds=subject.features_seconds,
        versions=_code_versions(type(protocol)),
        notes=(*outcome.notes, *guard.warnings),
        environment=environment,
        started=started,
        finished=now(),
    )


def _checked(outcome: Any, subject: Subject) -> ProtocolResult:
    """What a protocol found out, where it is what the contract says; a `MethodFault` otherwise."""
    if not isinstance(outcome, ProtocolResult):
        raise MethodFault(f"evaluate: expected ProtocolResult, found {type(outcome).__name__}")
    predictions = np.asarray(outcome.predictions)
    if predictions.shape != subject.test.shape or predictions.dtype.kind not in "iu":
        raise MethodFault(
            f"evaluate: expected the class of each of {len(subject.test)} test clips, found "
            f"{predictions.dtype} {list(predictions.shape)}"
        )
    if len(predictions) and not 0 <= predictions.min() <= predictions.max() < subject.classes:
        raise MethodFault(
            f"evaluate: expected classes below {subject.classes}, found {predictions.max()}"
        )
    if not all(isinstance(point, EpochPoint) for point in outcome.curve):
        raise MethodFault("evaluate: expected a curve of EpochPoints")
    share = float(np.mean(predictions == subject.labels[subject.test]))
    if outcome.curve and not math.isclose(outcome.curve[-1].accuracy, share, abs_tol=1e-9):
        raise MethodFault(
            f"evaluate: the curve ends at {outcome.curve[-1].accuracy:.4f}, its predictions give"
            f" {share:.4f}"
        )
    if outcome.labelled is not None and not set(np.asarray(outcome.labelled).tolist()) <= set(
        subject.training_side.tolist()
    ):
        raise MethodFault("evaluate: labels of clips were used that are not of the training side")
    return ProtocolResult(
        predictions.astype(np.int64),
        outcome.curve,
        dict(outcome.figures),
        outcome.labelled,
        outcome.notes,
    )


def _subset_hash(clips: Iterable[int] | np.ndarray) -> str:
    """Hash (16 hex digits) of clips by their numbers, in ascending order."""
    numbers = np.unique(np.asarray(clips, np.int64))
    return hashlib.sha256(np.ascontiguousarray(numbers, "<i8").tobytes()).hexdigest()[:16]


def _code_versions(protocol: type[Protocol[Any]]) -> dict[str, str]:
    """Module -> version, of a protocol, of what its file names,
    and of what every evaluation is built on.
    """
    own = [
        one.__module__
        for one in protocol.__mro__
        if issubclass(one, Protocol) and one is not Protocol
    ]
    named = {
        getattr(item, "__module__", "") for name in own for item in vars(sys.modules[name]).values()
    }
    built = sorted(
        name for name in named if isinstance(name, str) and name.startswith(_WHERE_IT_COUNTS)
    )
    return versions_of_modules((*dict.fromkeys([*own, *built, *_BUILT_ON]),))


def _outcome(record: EvaluationRecord) -> str:
    """One line about an evaluation."""
    if record.accuracy is None:
        return f"{record.status}: {record.error}"
    return f"{record.accuracy:.1%} of {counted(len(record.predictions), 'test clip')}"
