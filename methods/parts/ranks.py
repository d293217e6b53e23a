"""A batch whose rows are split over ranks: what a loss draws and averages belongs to the whole
batch, not to its part.

Processes that train together (`harness.training.distributed`) each have as many rows of every
batch, in order. Inside `split_batch` a draw is that of the whole batch, of which a rank keeps its
rows, and a statistic is that of all rows, with gradients through all of them. Outside, and in one
process, everything here is what it would be without ranks.

A rank minimises a loss of its own, and gradients are averaged over ranks. So a mean over rows is
taken over a rank's rows; what is one number for the whole batch counts on every rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Num
from torch import Tensor

VERSION = 0
"""In one process nothing here changes a number, so records do not name it; they do from 1 on."""


@dataclass(frozen=True)
class Split:
    """Which part of every batch is this process's.

    Attributes:
        generator: of the draws; None is torch's own, which all ranks must have in one state.
    """

    rank: int
    size: int
    generator: torch.Generator | None = None


WHOLE = Split(0, 1)
_splits = [WHOLE]
"""The last one counts."""


@contextmanager
def split_batch(split: Split) -> Iterator[None]:
    """Inside, batches are this part of whole ones."""
    _splits.append(split)
    try:
        yield
    finally:
        _splits.pop()


def ranks() -> int:
    """How many share a batch."""
    return _splits[-1].size


def uniform(
    rows: int, *columns: int, device: torch.device | None = None, dtype: torch.dtype | None = None
) -> Float[Tensor, "{rows} ..."]:
    """Uniform random numbers for this part's ``rows``, ``[rows, *columns]``, as the whole batch has
    them there.
    """
    split = _splits[-1]
    if split.size == 1:
        return torch.rand(rows, *columns, generator=split.generator, device=device, dtype=dtype)
    whole = torch.rand(
        split.size * rows, *columns, generator=split.generator, device=device, dtype=dtype
    )
    return whole[split.rank * rows :][:rows]


class Total(torch.autograd.Function):
    """Sum over ranks; every rank's loss may depend on it, so that gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Num[Tensor, "*n"]) -> Num[Tensor, "*n"]:
        """The sum, on every rank."""
        found = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """The sum of all ranks' gradients."""
        found = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found)
        return found


@torch.compiler.disable
def _total(x: Num[Tensor, "*n"]) -> Num[Tensor, "*n"]:
    return Total.apply(x)


def total(x: Num[Tensor, "*n"]) -> Num[Tensor, "*n"]:
    """Sum of every rank's ``x``, which all have in one shape."""
    return x if ranks() == 1 else _total(x)


def average(x: Num[Tensor, "*n"]) -> Num[Tensor, "*n"]:
    """Mean of every rank's ``x``: of a mean over a rank's rows, the mean over all rows."""
    return x if ranks() == 1 else _total(x) / ranks()


def all_rows(x: Float[Tensor, "n C"]) -> Float[Tensor, "_ C"]:
    """The rows of every rank, in order."""
    if ranks() == 1:
        return x
    split = _splits[-1]
    before, after = split.rank * len(x), (split.size - split.rank - 1) * len(x)
    return _total(torch.nn.functional.pad(x, (0, 0, before, after)))


def row_variance(x: Float[Tensor, "n C"]) -> Float[Tensor, "C"]:
    """Variance over all ranks' rows, with n - 1 of them all."""
    if ranks() == 1:
        return x.var(dim=0)
    return total((x - average(x.mean(dim=0))).square().sum(dim=0)) / (ranks() * len(x) - 1)
