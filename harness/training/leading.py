"""Rank 0 trains, the others follow: whatever it does to a trainer, they do to theirs at the same
time.

Rank 0 alone evaluates, writes and prints, by the code that one process runs (`harness.runs`). Its
trainers are told to the others call by call, with the random numbers that they begin at. A call
that fails on all ranks fails as in one process, and all go on; where it fails on some, or a rank is
gone, all end (`RankLost`).
"""

from __future__ import annotations

import contextlib
import itertools
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from harness.errors import one_line
from harness.isolation.guard import Guard, is_stop, random_state, set_random_state
from harness.isolation.stopping import RankLost, deferred, stop_for, stop_is_asked
from harness.spec.model import RunSpec
from harness.training.build import build_method
from harness.training.clock import StepClock
from harness.training.data import LoadedData, load_data
from harness.training.distributed import ENDED, Ranks, agreed, calls, joined, not_identical
from harness.training.trainer import Trainer, never, undisturbed
from methods.base import Method

Kind = TypeVar("Kind", bound=Trainer)
_BROKEN = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL communicator was aborted",
)
"""What gloo and nccl say where another process ended."""
_TOLD = "told"
"""Counter of the ranks that end because they cannot go on."""
_GRACE = 20.0
"""Seconds that a rank on which a call failed waits for the others to fail as well."""


@dataclass(frozen=True)
class _Call:
    """What rank 0 does to one of its trainers.

    Attributes:
        name: of the trainer's method; ``build`` makes a new one.
        number: of the trainer.
        arguments: of the call.
        kept: numbers of the trainers that rank 0 still has.
        random: where random numbers begin.
    """

    name: str
    number: int
    arguments: tuple[Any, ...]
    kept: tuple[int, ...]
    random: Mapping[str, Tensor]


class _LeadingTrainer(Trainer):
    """Rank 0's: its calls are those of all ranks. Errors are those of `Trainer`, and `RankLost`."""

    number: int
    everyones_totals: Mapping[str, Tensor] = {}

    def warm_up(self) -> None:
        """As in one process, on all ranks."""
        with _together(self.ranks, "warm_up", self.number):
            super().warm_up()

    def go_on(
        self, steps: int, clock: StepClock, leave: Callable[[], bool] = never
    ) -> dict[str, float] | None:
        """As in one process, on all ranks; all leave where one wants to."""
        ranks, may = self.ranks, leave is not never
        with (
            _together(ranks, "go_on", self.number, steps, may, not self.begun),
            agreed(ranks, leave) as asked,
        ):
            means = super().go_on(steps, clock, asked if may else never)
            self.everyones_totals = _totals_of_all(self)
            return means

    def state(self) -> dict[str, Tensor]:
        """As in one process; of a block that is not full, the sums of losses of every rank."""
        return {
            **super().state(),
            **{f"totals/{name}": total for name, total in self.everyones_totals.items()},
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """As in one process, on all ranks."""
        with _together(self.ranks, "restore", self.number, dict(state)):
            super().restore(_own_part(state, self.ranks))


_trainers: weakref.WeakValueDictionary[int, _LeadingTrainer] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def build_trainer(
    method_class: type[Method], spec: RunSpec, data: LoadedData, steps: int
) -> Trainer:
    """A method on its encoder, ready to train ``steps`` steps on the run's batches; on all ranks,
    if there are more.

    Raises:
        RankLost: another rank cannot do so.
    """
    if data.ranks.size == 1:
        return built(Trainer, method_class, spec, data, steps)
    number = next(_numbers)
    with _together(data.ranks, "build", number, spec, steps):
        trainer = built(_LeadingTrainer, method_class, spec, data, steps)
    trainer.number = number
    _trainers[number] = trainer
    return trainer


def built(
    kind: type[Kind], method_class: type[Method], spec: RunSpec, data: LoadedData, steps: int
) -> Kind:
    """The same on this rank."""
    method = build_method(method_class, spec, data.clips.layout, data.device)
    batches = data.batches(spec, method.evaluated_encoder().grid.frames, method.views)
    if data.ranks.size == 1:
        return kind(method, batches, spec.train, steps)
    method.train()
    unlike = ""
    with (
        undisturbed(method, batches.device),
        contextlib.suppress(Exception),  # one that fails everywhere will say so itself
        _failing_together(data.ranks, f"trial of {calls.made}"),
    ):
        unlike = not_identical(method, batches.sample(), data.ranks)
    return kind(method, batches, spec.train, steps, data.ranks, not_identical=unlike)


@contextmanager
def _together(ranks: Ranks, name: str, number: int, *arguments: Any) -> Iterator[None]:
    """A call of rank 0's, inside which the others make the same; `RankLost` where one is gone."""
    try:
        ranks.tell(_Call(name, number, arguments, tuple(_trainers), random_state()))
    except Exception as problem:  # no fault of the method whose call it is
        raise _lost(ranks, _reason_of(problem)) from problem
    with settled(ranks):
        yield


@contextmanager
def settled(ranks: Ranks) -> Iterator[None]:
    """What all ranks do at once. Whatever is thrown is passed on where it was thrown on all of
    them, and else all ranks end; a stop is passed on.
    """
    if ranks.size == 1:
        yield
        return
    call = calls.begin()
    try:
        with _failing_together(ranks, str(call)):
            yield
    except BaseException as problem:
        if not is_stop(problem):
            calls.end()
        raise
    calls.end()


@contextmanager
def _failing_together(ranks: Ranks, call: str) -> Iterator[None]:
    """Whatever is thrown is passed on where this call fails on every rank, or it is a stop;
    else this rank is lost.
    """
    try:
        yield
    except BaseException as problem:
        if not is_stop(problem) and not _failed_everywhere(ranks, call):
            raise _lost(ranks, _reason_of(problem)) from problem
        raise


def _failed_everywhere(ranks: Ranks, call: str) -> bool:
    """Whether this call, which failed here, fails on every rank; waits for them.

    What fails because another rank has failed and left is no failure of its own.
    """
    until = time.monotonic() + _GRACE
    count = ranks.count(f"failed/{call}", 1)
    while count < ranks.size and time.monotonic() < until and not stop_is_asked():
        time.sleep(0.05)
        count = ranks.count(f"failed/{call}")
    return count == ranks.size and not ranks.count(_TOLD)


def _reason_of(problem: BaseException) -> str:
    """What is wrong; of a broken connection no more than that."""
    text = one_line(problem)
    return "another rank is gone" if any(word in text for word in _BROKEN) else text


def _lost(ranks: Ranks, problem: str) -> RankLost:
    """The end of this rank, which cannot go on with the others; the first one says why."""
    told = ranks.count(ENDED) > 0 or ranks.count(_TOLD, 1) > 1
    return stop_for(
        RankLost(
            f"rank {ranks.rank} of {ranks.size} cannot go on: {problem}; all ranks end", told=told
        )
    )


def follow(data: LoadedData, method_named: Callable[[str], type[Method]]) -> None:
    """Do what rank 0 does to its trainers, until it ends.

    Args:
        data: as this rank was asked for it; another split is loaded when rank 0 goes on to it.

    Raises:
        RankLost: something failed here alone, or rank 0 is gone.
        UsageError: the data do not fit on this rank's device.
        Stopped: a signal came, and rank 0 has ended.
    """
    trainers: dict[int, Trainer] = {}
    ranks = joined()
    with deferred():
        while call := _heard(ranks):
            for number in trainers.keys() - set(call.kept):
                del trainers[number]
            if call.name == "build":  # as on rank 0, no part of the call: they may not fit
                data = _placed(data, call.arguments[0])
            with (
                contextlib.suppress(Exception),  # what fails everywhere is told by rank 0
                Guard()(call.name),  # as around rank 0's: the next method finds what this one found
                settled(ranks),
            ):
                set_random_state(dict(call.random))
                if call.name == "build":
                    spec, steps = call.arguments
                    trainers[call.number] = built(
                        Trainer, method_named(spec.method.name), spec, data, steps
                    )
                elif call.name == "go_on":
                    steps, may, anew = call.arguments
                    _follow_steps(trainers[call.number], steps, may=may, anew=anew)
                elif call.name == "restore":
                    (state,) = call.arguments
                    trainers[call.number].restore(_own_part(state, ranks))
                else:
                    trainers[call.number].warm_up()


def _heard(ranks: Ranks) -> _Call | None:
    """The next call of rank 0; None at its end."""
    try:
        return ranks.listen()
    except Exception as problem:  # it ended without a word
        raise _lost(ranks, "rank 0 is gone") from problem


def _placed(data: LoadedData, spec: RunSpec) -> LoadedData:
    """The data of a spec, on the device; a `UsageError` where its memory is too small."""
    if spec.data.split != data.spec.split:
        patch = spec.encoder.patch or 1
        data = load_data(spec.data, data.device, patch, ranks=data.ranks)
    data = data.as_in(spec.data)
    data.place()
    return data


def _follow_steps(trainer: Trainer, steps: int, *, may: bool, anew: bool) -> None:
    """A block, or the rest of one, as rank 0 trains it."""
    if anew:
        trainer.begun, trainer.totals = 0, {}
    with agreed(trainer.ranks, never) as asked:
        trainer.go_on(steps, StepClock(trainer.device), asked if may else never)
        _totals_of_all(trainer)


def _totals_of_all(trainer: Trainer) -> dict[str, Tensor]:
    """The sums of losses of a block that is not full, ``[ranks]`` each."""
    everyones = trainer.ranks.everyones(
        {name: torch.as_tensor(total).cpu() for name, total in trainer.totals.items()}
    )
    return {name: torch.stack([one[name] for one in everyones]) for name in everyones[0]}


def _own_part(state: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """A state with this rank's sums of losses, where as many ranks left it."""
    return {
        name: value[ranks.rank]
        if name.startswith("totals/") and value.shape == (ranks.size,)
        else value
        for name, value in state.items()
    }
