"""Several processes train one method: each has a part of every batch, and all have the same weights
(torchrun, DDP).

The batch stays the whole one: the sequences, crops and masks that one process draws, split over the
ranks in order (`datasets.batches`, `methods.parts.ranks`). Gradients are averaged by torch's
DistributedDataParallel; batch norm is over the rows of all ranks, which torch's own does on GPUs
only. So a method that draws by `methods.parts.masks` trains to the weights of one process, to
rounding. One that draws random numbers of its own gets a stream of its own on every rank.

What rank 0 does and the others follow: `harness.training.leading`.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from datasets.batches import Batch
from harness.errors import UsageError, one_line
from harness.isolation import launched
from harness.isolation.guard import random_state, seeded
from harness.isolation.stopping import ask_to_stop, asked_signal
from harness.training.clock import StepClock
from harness.training.compilation import Loss, replaced
from methods.base import Method
from methods.parts.ranks import WHOLE, Split, split_batch, total

_TRIED = 2
"""Body sequences of every rank that a method is tried on."""
_LIKE_MEAN = 1e-4
"""Relative difference of two losses that is rounding."""
ENDED = "ended"
"""Counter of rank 0's orderly ends."""
_PATIENCE = timedelta(days=7)
"""Longest that ranks wait for rank 0, which evaluates and writes alone.
A rank that is gone is noticed at once.
"""


_MEETING = timedelta(minutes=15)
"""Longest that they wait for each other at the beginning: torchrun starts all at once."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, as one of them sees it.

    Attributes:
        processes: of the others on this host, whose time is the run's own.
        store: what all of them can read and write at any time; only `join` has one to give.
    """

    rank: int = 0
    size: int = 1
    processes: tuple[int, ...] = ()
    store: dist.Store | None = field(default=None, compare=False)

    @property
    def split(self) -> Split:
        """Its part of every batch."""
        return Split(self.rank, self.size)

    def part_of(self, size: int) -> slice:
        """Its rows of a batch of ``size``; `UsageError` where not every rank has as many."""
        if size % self.size:
            fits = max(1, round(size / self.size)) * self.size
            raise UsageError(
                f"a batch of {size} body sequences on {self.size} ranks: expected a multiple of"
                f" {self.size}; choose --batch-size {fits}"
            )
        own = size // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def everyones(self, value: Any) -> list[Any]:
        """What every rank has of something."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def mean(self, means: dict[str, float]) -> dict[str, float]:
        """Mean over ranks of means over a block; no number where one of them is none."""
        everyones = self.everyones(means)
        return {
            name: sum(one.get(name, math.nan) for one in everyones) / self.size for name in means
        }

    def finite(self, loss: Tensor) -> float:
        """The loss of one step, the mean over ranks: if it is no number on one of them,
        it is none on any.
        """
        return self.mean({"loss": loss.item()})["loss"]

    def slowest(self, clock: StepClock) -> None:
        """Every step of the block that has just ended takes as long as on the slowest rank."""
        if self.size > 1:
            steps = zip(*self.everyones(clock.steps[clock.block :]), strict=True)
            clock.steps[clock.block :] = map(max, steps)

    def count(self, name: str, more: int = 0) -> int:
        """A counter that all ranks share, after so many more."""
        assert self.store
        return self.store.add(name, more)

    def tell(self, said: object) -> None:
        """Rank 0 says something to the others, who `listen`."""
        dist.broadcast_object_list([said])

    def listen(self) -> Any:
        """What rank 0 says next; waits for it."""
        heard: list[Any] = [None]
        dist.broadcast_object_list(heard)
        return heard[0]


@dataclass
class Calls:
    """What the ranks do together, call after call.

    Attributes:
        made: so many until now, on every rank.
        open: one is under way, or was broken off: nobody listens.
    """

    made: int = 0
    open: bool = False

    def begin(self) -> int:
        """The number of one that begins."""
        self.made, self.open = self.made + 1, True
        return self.made

    def end(self) -> None:
        """It is over on every rank, well or not."""
        self.open = False


calls = Calls()
ALONE = Ranks()
_joined: list[Ranks] = []


def joined() -> Ranks:
    """The ranks that this process belongs to; itself alone before `join`."""
    return _joined[-1] if _joined else ALONE


def join(device: torch.device) -> Ranks:
    """The ranks that torchrun started this process with; itself alone without. `UsageError` where
    they do not meet.
    """
    if launched.world_size() == 1 or _joined:
        return joined()
    store, rank, size = _meet()
    # Objects and flags go through gloo on the CPU also where tensors go through nccl: no GPU is
    # waited for.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )
    places = Ranks(rank, size).everyones((socket.gethostname(), os.getpid()))
    others = (
        process
        for host, process in places
        if host == socket.gethostname() and process != os.getpid()
    )
    _joined.append(Ranks(rank, size, tuple(others), dist.PrefixStore("ranks", store)))
    atexit.register(part)
    return joined()


def _meet() -> tuple[dist.Store, int, int]:
    """What all ranks can read and write, once all are there; this one's number, and how many."""
    until = time.monotonic() + _MEETING.total_seconds()
    try:
        store, rank, size = next(dist.rendezvous("env://", timeout=_MEETING))
        there = store.add("here", 1)
    except (dist.DistError, ValueError) as problem:
        raise _not_met(one_line(problem)) from None
    while there < size:
        if time.monotonic() > until:
            raise _not_met(f"{there} there")
        time.sleep(0.1)  # and not in torch, where no signal is heard
        there = store.add("here", 0)
    store.set_timeout(_PATIENCE)
    return store, rank, size


def _not_met(found: str) -> UsageError:
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    return UsageError(
        f"expected {launched.world_size()} ranks to meet at {place} within {_MEETING}, found"
        f" {found}; look whether every host reaches it, then start all again"
    )


def part() -> None:
    """The end of this process. Rank 0 tells the others,
    who wait for its next word unless they are at work.
    """
    with contextlib.suppress(Exception):
        if joined().rank == 0:
            joined().count(ENDED, 1)
            if not calls.open:
                joined().tell(None)
        dist.destroy_process_group()


# --- the loss ---


class _Differentiated(nn.Module):
    """A method's loss as the forward pass of a module: what DistributedDataParallel can wrap."""

    def __init__(self, method: Method, loss: Loss) -> None:
        super().__init__()
        self.method, self.loss = method, loss

    def forward(self, x: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its named parts."""
        return self.loss(x)


def split_loss(method: Method, loss: Loss, ranks: Ranks, *, own_draws: bool) -> Loss:
    """A method's loss of this rank's part of a batch, whose gradients will be averaged over ranks.

    Args:
        own_draws: the method draws random numbers of its own (`draws_itself`).
    """
    device = next(method.parameters()).device
    wrapped = DistributedDataParallel(
        _Differentiated(method, loss),
        device_ids=[device] if device.type == "cuda" else None,
        find_unused_parameters=True,
        gradient_as_bucket_view=True,  # saves a copy of all gradients a step, in time and memory
    )

    def of_part(x: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with _part_of_batch(method, ranks.split):
            return wrapped(x)

    def with_a_stream(x: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        seed = int(torch.randint(2**62, ()))  # all ranks have the same numbers here
        with seeded(seed + ranks.rank):
            return of_part(x)

    return with_a_stream if own_draws else of_part


@contextmanager
def _part_of_batch(method: Method, part: Split) -> Iterator[None]:
    """Inside, what the method draws and averages, its batch norm too,
    belongs to the whole batch.
    """
    layers = (
        [layer for layer in method.modules() if isinstance(layer, _BatchNorm)]
        if part.size > 1
        else []
    )
    with (
        split_batch(part),
        replaced([*layers], [partial(_batch_norm_over_ranks, layer) for layer in layers]),
    ):
        yield


def _batch_norm_over_ranks(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What a layer of batch norm makes of ``x`` ``[n, C, ...]``,
    by the mean and variance of all ranks' rows.
    """
    if not (layer.training or layer.running_mean is None):
        return type(layer).forward(layer, x)
    rows = x.float().movedim(1, -1).flatten(0, -2)  # [n, C]
    ones = rows.new_full((1,), len(rows))
    sums = total(torch.cat([rows.sum(dim=0), ones]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    variance = total((rows - mean).square().sum(dim=0)) / count
    if layer.training and layer.running_mean is not None and layer.running_var is not None:
        with torch.no_grad():
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked += 1
            share = 1 / layer.num_batches_tracked if layer.momentum is None else layer.momentum
            layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), share)
            layer.running_var.lerp_(
                (variance * count / (count - 1)).to(layer.running_var.dtype), share
            )
    normal = (rows - mean) * torch.rsqrt(variance + layer.eps)
    if layer.affine:
        normal = normal * layer.weight + layer.bias
    shape = x.movedim(1, -1).shape
    return normal.reshape(shape).movedim(-1, 1).to(x.dtype)


DRAWS = "it draws random numbers of its own"
_UNLIKE_MEAN = "the loss of a whole batch is not the mean of its parts' losses"


def not_identical(method: Method, x: Batch, ranks: Ranks) -> str:
    """Why a method cannot train to the weights of one process; nothing where a trial says that it
    does.

    A few rows of every rank's batch ``x``, whole and split, have the same loss, and no random
    number is drawn otherwise than by `methods.parts.ranks`, which draws from another generator
    here.
    """
    device = next(method.parameters()).device
    views = [view[:_TRIED] for view in (x if isinstance(x, tuple) else (x,))]
    wholes = [
        torch.cat(parts).to(device)
        for parts in zip(*ranks.everyones([v.cpu() for v in views]), strict=True)
    ]
    losses, before = [], random_state()
    for rows, part in ((wholes, WHOLE), (views, ranks.split)):
        drawn = replace(part, generator=torch.Generator(device).manual_seed(0))
        with torch.no_grad(), _part_of_batch(method, drawn):
            losses.append(method.loss(tuple(rows) if isinstance(x, tuple) else rows[0])[0])
    after = random_state()
    if any(not torch.equal(before[name], after[name]) for name in before):
        return DRAWS
    whole, mean = (ranks.finite(loss) for loss in losses)
    return "" if math.isclose(whole, mean, rel_tol=_LIKE_MEAN) else _UNLIKE_MEAN


# --- leaving a block together ---

_DUE = 1
"""What a rank sends that wants to leave; one that a signal came to sends its number besides."""


@dataclass
class _Agreement:
    """After every step: does any rank want to leave the block? All hear of it after the same step,
    one step later.

    Attributes:
        due: this rank wants to, for a reason of its own.
        asked: what was sent and not yet looked at.
    """

    due: Callable[[], bool]
    asked: tuple[dist.Work, Tensor] | None = None

    def __call__(self) -> bool:
        """Ask, without waiting; whether all leave now."""
        signal = asked_signal()
        wanted = torch.tensor([signal + _DUE if signal else _DUE * self.due()])
        work = dist.all_reduce(wanted, dist.ReduceOp.MAX, async_op=True)
        before, self.asked = self.asked, (work, wanted)
        return before is not None and self.read(*before)

    def read(self, work: dist.Work, wanted: Tensor) -> bool:
        """An answer; a signal that came to another rank has come to this one too."""
        work.wait()
        found = int(wanted)
        if found > _DUE:
            ask_to_stop(found - _DUE)
        return found > 0

    def close(self) -> None:
        """Take the last answer."""
        if self.asked:
            self.read(*self.asked)
            self.asked = None


@contextmanager
def agreed(ranks: Ranks, due: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """When to leave a block: when it is ``due`` on one rank."""
    if ranks.size == 1:
        yield due
        return
    agreement = _Agreement(due)
    yield agreement
    agreement.close()
