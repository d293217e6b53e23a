"""From the methods of an experiment to a `SpeedRecord`: build, warm up, interleave, compare."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from datasets.batches import Batches
from harness.errors import MethodFault, UsageError
from harness.isolation.guard import seeded
from harness.isolation.mistakes import forget_frames, mistake
from harness.progress import Reporter, Task
from harness.records.doubts import in_doubt
from harness.records.ratios import noise_floor, paired_ratio, rules_version, verdict
from harness.records.schema import (
    BOUND,
    ArmRecord,
    Doubt,
    EncoderInfo,
    Environment,
    Health,
    Ratio,
    SpeedRecord,
    flop_ratio,
)
from harness.records.store import RecordStore, now, speed_address
from harness.records.versions import TIMING
from harness.registry import versions_of, versions_of_modules
from harness.spec.model import ADDRESS_RULE, MethodSpec, RunSpec
from harness.speed.disturbance import Watch
from harness.speed.flops import bound_flops, forward_shares, step_flops
from harness.speed.interleave import Arm, measure, warm_up
from harness.speed.memory import largest_batch, peak_step_bytes
from harness.speed.peak import matmul_flops
from harness.speed.trial import Trial
from harness.training.build import Cell, encoder_info
from harness.training.clock import StepClock
from harness.training.data import LoadedData
from harness.training.distributed import ALONE
from harness.training.leading import build_trainer
from harness.training.trainer import Trainer
from methods.base import Method

_SCHEDULE_STEPS = 100_000
"""Schedule length of trainers that are only timed:
their learning rate stays near the start of the warm-up.
"""
_BLOCKS = 60
"""A measurement is cut into about so many blocks: short enough to alternate often,
long enough to time.
"""


@dataclass(frozen=True)
class Measurement:
    """A speed record, and the methods that could not be timed."""

    record: SpeedRecord
    failures: dict[str, Exception]


@dataclass
class Timing:
    """A speed measurement in the making.

    Attributes:
        cells: one per method, the decoder-free bound included.
        baseline: label of the method that ratios are formed against.
        stages: names of the stages that the cells run through (`harness.studies.explain`), empty
            otherwise.
        rows: labels of the methods that run through them.
        memory_cap: bytes; each method then runs at the largest batch that fits, not at the spec's.
        processes: fresh ones that measure; this one then does not.
        first_slot: that the first round starts at.
        one_process: where several ranks train, rank 0 times every method alone too.
        arms: warm trainers, filled by `warm_up`.
        flops: model FLOPs per step by label.
        bounds: FLOPs per step of the encoder alone on the same tokens, by label.
        doubts: what trial steps gave away, by label.
        failures: what could not be built or stepped, by label.
        batches: of everything built, whose worker processes rest between blocks.
    """

    cells: Sequence[Cell]
    baseline: str
    data: LoadedData
    environment: Environment
    seconds: float
    stages: Sequence[str] = ()
    rows: Sequence[str] = ()
    memory_cap: float | None = None
    processes: int = 1
    first_slot: int = 0
    one_process: bool = False
    arms: list[Arm] = field(default_factory=list)
    flops: dict[str, float] = field(default_factory=dict)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    bounds: dict[str, float | None] = field(default_factory=dict)
    doubts: dict[str, list[Doubt]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    batches: list[Batches] = field(default_factory=list)
    alone: dict[str, Arm] = field(default_factory=dict)
    """Arms of one process, by the label of the method."""

    @property
    def spec(self) -> dict[str, Any]:
        """What the measurement depends on; its hash is the record's address."""
        spec = self.cells[0].spec.model_dump(mode="json", exclude={"method", "probe", "seed"})
        spec["train"].pop("budget")
        return {
            "address_rule": ADDRESS_RULE,
            **spec,
            **(
                {"stages": list(self.stages), "rows": list(self.rows), "ways": self._ways()}
                if self.stages
                else {}
            ),
            **({"memory_cap": self.memory_cap} if self.memory_cap else {}),
            **({"processes": self.processes} if self.processes > 1 else {}),
            **({"one_process": True} if self.one_process else {}),
            "methods": [str(MethodSpec(**cell.spec.method.identity)) for cell in self.cells],
            "versions": dict(sorted(self._versions())),
            "baseline": self.baseline,
            "seconds": self.seconds,
            "machine": self.environment.fingerprint,
            "rules": rules_version(),
        }

    def _ways(self) -> list[dict[str, Any]]:
        """How each cell trains, where cells differ in that."""
        return [
            {part: cell.spec.identity[part] for part in ("data", "train")} for cell in self.cells
        ]

    def _versions(self) -> Iterator[tuple[str, str]]:
        """Of everything that is timed."""
        yield from versions_of_modules(TIMING).items()
        for cell in self.cells:
            if cell.method:
                yield from versions_of(cell.method).items()

    def stored(self, store: RecordStore, *, failed: bool = False) -> Measurement | None:
        """The finished measurement of the same methods on this machine, if there is one and it has
        all of them.

        Args:
            failed: one of which some could not be timed will do.
        """
        record = store.speed(speed_address(self.spec))
        missing = [cell.label for cell in self.cells if record and not record.arm(cell.label)]
        if record is None or (missing and not (failed and record.failures.keys() >= set(missing))):
            return None
        return Measurement(
            record, {label: MethodFault(record.failures[label]) for label in missing}
        )

    def tell_of_stopped(self, store: RecordStore, reporter: Reporter) -> None:
        """Say so where this measurement was stopped before: it begins again.

        Its rounds are not gone on with: they are of another process, warm in another way, and most
        of the time goes into building and compiling, which is to be done again anyway.
        """
        if stopped := store.unfinished_speed(speed_address(self.spec)):
            reporter.line(
                f"the speed measurement of {stopped.finished:%Y-%m-%d %H:%M} UTC was stopped after "
                f"{stopped.done_rounds} of {stopped.planned_rounds} rounds: it begins again"
            )

    def warm_up(self, reporter: Reporter) -> None:
        """Build every method and step it until it is warm;
        a method that throws is left out and remembered.

        The data are placed before: that they do not fit is no method's fault, and a `UsageError`.
        """
        for cell in self.cells:
            self.data.as_in(cell.spec.data).place()
        with (
            contextlib.ExitStack() as broken_off,
            reporter.task("warming up", "method") as task,
            seeded(self.cells[0].spec.seed),
        ):
            broken_off.callback(self._end_workers)
            for number, cell in enumerate(self.cells):
                self._warm_up(cell, reporter, partial(self._at, task, number, cell.label))
                if cell.label in self.failures:
                    self._end_workers()  # also those of others, which start again when needed
                    forget_frames(self.failures[cell.label])
            broken_off.pop_all()  # the workers rest until they are measured
        if self.baseline in self.failures:
            raise self._without_baseline(self.failures[self.baseline])

    def _at(self, task: Task, number: int, label: str, doing: str) -> None:
        task(number, len(self.cells), f"{label}, {doing}")

    def _warm_up(self, asked: Cell, reporter: Reporter, doing: Callable[[str], None]) -> None:
        try:
            doing("counting FLOPs")
            with asked.guard("warming up"):
                arm = self._built(asked, doing)
                doing("first steps")
                warm_up(arm, self.seconds / _BLOCKS)
                if self.one_process:
                    self._warm_up_alone(asked, arm)
            self.arms.append(arm)
            if self.stages:  # compiling takes its time: show that something happens
                reporter.line(
                    f"warm after {arm.warmup_seconds:.0f} s: {arm.label},"
                    f" {1000 * arm.probe_seconds:.0f} ms a step"
                )
        except Exception as problem:  # noqa: BLE001 - one failing method must not harm the others
            self.failures[asked.label] = problem
            reporter.line(f"{asked.label} failed before timing: {mistake(problem, asked.method)}")

    def _built(self, asked: Cell, doing: Callable[[str], None]) -> Arm:
        """A method ready to step, its FLOPs counted, and what trial steps give away."""
        cell = self._fitted(asked, self.memory_cap) if self.memory_cap else asked
        assert cell.method is not None
        self.flops[cell.label] = step_flops(cell.method, cell.spec, self.data.clips.layout)
        self.shares[cell.label] = forward_shares(cell.method, cell.spec, self.data.clips.layout)
        doing("building")
        arm = self._arm(cell, cell.method)
        self.bounds[cell.label] = self._bound(cell, cell.method)
        doing("trial steps")
        self.doubts[cell.label] = self._tried(cell, cell.method, arm)
        return arm

    def _warm_up_alone(self, cell: Cell, together: Arm) -> None:
        """The method in one process, with the whole batch; without it,
        where that is too large for one.
        """
        arm = self._arm(cell, type(together.trainer.method), replace(self.data, ranks=ALONE))
        arm.label = f"{cell.label}, one process"
        with contextlib.suppress(torch.OutOfMemoryError):
            warm_up(arm, self.seconds / _BLOCKS)
            self.alone[cell.label] = arm

    def _bound(self, cell: Cell, method: type[Method]) -> float | None:
        """FLOPs of the bound on what the method's encoder sees, where the bound is timed too."""
        bound = next(
            (other.method for other in self.cells if other.spec.method.name == BOUND), None
        )
        return bound_flops(bound, method, cell.spec, self.data.clips.layout) if bound else None

    def _tried(self, cell: Cell, method: type[Method], arm: Arm) -> list[Doubt]:
        """What trial steps of a method give away; all its stages share them."""
        for other in self.cells:
            if other.spec.method == cell.spec.method and other.label in self.doubts:
                return self.doubts[other.label]
        try:
            return Trial(
                method, cell.spec, self.data.clips.layout, arm.trainer.batches.sample()
            ).doubts()
        except Exception as problem:  # noqa: BLE001 - a few body sequences may be too few for what is timed with many
            cell.guard.warn(f"trial steps fail, and say nothing: {mistake(problem, method)}")
            return []

    def measure(self, reporter: Reporter, store: RecordStore) -> Measurement:
        """Interleave all warm arms, compare each with the baseline, and write the record.

        What was measured until then is written after every round as well, as a record that is not
        finished.
        """
        started, baseline = now(), self._baseline_arm()
        device, precision = baseline.trainer.device, baseline.trainer.train.precision
        peak, watch = matmul_flops(device, precision), Watch(device)
        with self._baseline_called("evaluate"):
            encoder = encoder_info(baseline.trainer.method.evaluated_encoder())

        def so_far(
            again: list[float], peaks: Sequence[float | None], planned: int | None = None
        ) -> SpeedRecord:
            same = paired_ratio(again, baseline.clip_seconds)
            floor, arms = (
                noise_floor(same),
                [arm for arm in self.arms if arm.label not in self.failures],
            )
            return in_doubt(
                SpeedRecord(
                    address=speed_address(self.spec),
                    spec=self.spec,
                    baseline=self.baseline,
                    batch_size=baseline.trainer.train.batch_size,
                    bodies_per_clip=self.data.bodies_per_clip,
                    arms=[self._record(arm, baseline, floor, watch.health) for arm in arms],
                    same=same,
                    floor=floor,
                    health=watch.health,
                    rules=rules_version(),
                    matmul_flops=max((peak for peak in peaks if peak), default=None),
                    encoder=encoder,
                    data=self.data.info,
                    environment=self.environment,
                    failures=self._reasons(),
                    started=started,
                    finished=now(),
                    planned_rounds=planned,
                )
            )

        def leave(again: list[float], planned: int) -> None:
            with contextlib.suppress(
                OSError
            ):  # a full disk: the finished record is what must not be lost
                store.write_speed(so_far(again, [peak], planned))

        title = "measuring speed, methods interleaved"
        with (
            contextlib.ExitStack() as end,
            reporter.task(title, "round") as task,
            seeded(self.cells[0].spec.seed),
            self._baseline_called("being timed"),
        ):
            end.callback(self._end_workers)
            again = measure(
                [*self.arms, *self.alone.values()],
                baseline,
                seconds=self.seconds,
                failures=self.failures,
                watch=watch,
                first=self.first_slot,
                progress=task,
                leave=leave,
            )
        for arm in self.alone.values():
            self.failures.pop(arm.label, None)
        record = so_far(again, [peak, matmul_flops(device, precision)])
        store.write_speed(record)
        return Measurement(record, self.failures)

    def _end_workers(self) -> None:
        for batches in self.batches:
            batches.end_workers()

    def _reasons(self) -> dict[str, str]:
        """Why methods were not timed, by label."""
        methods = {cell.label: cell.method for cell in self.cells}
        return {
            label: str(mistake(problem, methods[label])) for label, problem in self.failures.items()
        }

    @contextmanager
    def _baseline_called(self, doing: str) -> Iterator[None]:
        """What the baseline throws inside ends the measurement."""
        try:
            with self._baseline_arm().guard(doing):
                yield
        except Exception as problem:
            raise self._without_baseline(problem) from problem

    def _without_baseline(self, problem: Exception) -> UsageError:
        method = next(cell.method for cell in self.cells if cell.label == self.baseline)
        reason = mistake(problem, method)
        return UsageError(
            f"the baseline {self.baseline} fails: {reason}; nothing can be compared without it"
        )

    def _baseline_arm(self) -> Arm:
        return next(arm for arm in self.arms if arm.label == self.baseline)

    def _arm(self, cell: Cell, method: type[Method], data: LoadedData | None = None) -> Arm:
        data = (data or self.data).as_in(cell.spec.data)
        trainer = timed_trainer(method, cell.spec, data)
        trainer.batches.keep_workers()
        self.batches.append(trainer.batches)
        return Arm(
            cell.label, trainer, clips=trainer.batches.size / data.bodies_per_clip, guard=cell.guard
        )

    def _fitted(self, cell: Cell, cap: float) -> Cell:
        """The cell at the largest batch whose training step stays under the cap.

        The search trains uncompiled: compiling for every size would take minutes, and compiled
        steps need less.
        """

        def peak(batch_size: int) -> int:
            assert cell.method is not None
            spec = cell.spec.with_train(batch_size=batch_size, compile=False, cuda_graphs=False)
            trainer = timed_trainer(cell.method, spec, self.data)
            trainer.run_block(
                1, StepClock(trainer.device)
            )  # the optimiser's state is there from the second step on
            found = peak_step_bytes(trainer)
            assert found is not None
            return found

        return replace(cell, spec=cell.spec.with_train(batch_size=largest_batch(peak, cap)))

    def _record(self, arm: Arm, baseline: Arm, floor: float, health: Health) -> ArmRecord:
        ratio = paired_ratio(baseline.clip_seconds, arm.clip_seconds)
        about, size = arm.trainer.method.about, arm.trainer.batches.size
        per_clip, per_baseline = (
            self.flops[arm.label] / arm.clips,
            self.flops[baseline.label] / baseline.clips,
        )
        return ArmRecord(
            label=arm.label,
            step_seconds=arm.step_seconds,
            clips=arm.clips,
            batch_size=size,
            clips_per_second=arm.clips / arm.step_seconds,
            blocks=arm.blocks,
            steps_per_block=arm.block,
            phases=arm.phases,
            warmup_seconds=arm.warmup_seconds,
            step_flops=self.flops[arm.label],
            flop_ratio=flop_ratio(per_clip, per_baseline),
            forward_shares=self.shares[arm.label],
            peak_bytes=arm.peak_bytes,
            epochs=about.epochs,
            division=about.division,
            control=about.control,
            ratio=ratio,
            verdict=verdict(ratio, floor, health.disturbed_share),
            warnings=tuple(arm.guard.warnings),
            own_step_seconds=arm.effort.step_seconds,
            bound_flops=self.bounds[arm.label],
            doubts=tuple(self.doubts[arm.label]),
            host_step_seconds=host_step_seconds(arm),
            encoder=self._encoder(arm),
            over_one_process=self._over_one_process(arm),
        )

    def _encoder(self, arm: Arm) -> EncoderInfo | None:
        """What a row keeps of its encoder, where rows differ in it."""
        return None

    def _over_one_process(self, arm: Arm) -> Ratio | None:
        alone = self.alone.get(arm.label)
        if alone is None or len(alone.blocks) != len(arm.blocks):
            return None
        return paired_ratio(alone.clip_seconds, arm.clip_seconds)


def host_step_seconds(arm: Arm) -> float | None:
    """Median over blocks; None where there is none,
    or where the host waits for the device in every step.
    """
    train = arm.trainer.train
    return (
        None
        if not arm.host or train.synchronise or train.gradient_scaler
        else statistics.median(arm.host)
    )


def timed_trainer(method: type[Method], spec: RunSpec, data: LoadedData) -> Trainer:
    """A method on the run's batches, to be timed and not to be trained to an end."""
    return build_trainer(method, spec, data.as_in(spec.data), _SCHEDULE_STEPS)
