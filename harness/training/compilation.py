"""What ``train.compile`` does: torch's compiler for a whole loss, for its transformer blocks,
and for the batches.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from datasets.batches import Batch
from harness.errors import MethodFault
from harness.spec.model import TrainSpec
from methods.base import Method
from methods.parts.encoder import repeated_blocks

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")
Loss = Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]

_SHARED_LIMIT = 256
"""Compilations of code that all methods of a process share, each with its shapes;
torch's own limit is 8.
"""


def compiled(method: Method, train: TrainSpec) -> Loss:
    """The method's loss, compiled for fixed shapes, or with its transformer blocks compiled.

    Too many compilations of one function are an error: torch would go on uncompiled without a word,
    and that is what would be timed.

    Raises:
        MethodFault: blocks are to be compiled, and there is none.
    """
    quiet_compiler()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    if train.compile_scope == "blocks":
        return _with_compiled_blocks(method)
    return torch.compile(
        method.loss, mode="reduce-overhead" if train.cuda_graphs else None, dynamic=False
    )


def _with_compiled_blocks(method: Method) -> Loss:
    """The method's loss, in which each of its transformer blocks runs compiled.

    Blocks of one shape share one compilation: minutes less than for a whole loss, at most of its
    gain. Outside the loss (probes, diagnoses) they run uncompiled: there every shape is another.
    """
    blocks = repeated_blocks(method)
    if not blocks:
        raise MethodFault(
            "train.compile_scope=blocks: expected transformer blocks in an nn.ModuleList, found"
            " none"
        )
    forwards = [torch.compile(block.forward, dynamic=False) for block in blocks]

    def loss(x: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with replaced(blocks, forwards):
            return method.loss(x)

    return _at_first_unlimited(loss)


@contextmanager
def replaced(blocks: list[nn.Module], forwards: list[Callable[..., object]]) -> Iterator[None]:
    """Inside, every block computes by another function."""
    for block, forward in zip(blocks, forwards, strict=True):
        block.forward = forward
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def compiled_apart(function: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """A function that every trainer calls with its own shapes, compiled for each of them."""
    quiet_compiler()
    return _at_first_unlimited(torch.compile(function, dynamic=False))


def _at_first_unlimited(function: Callable[Inputs, Output]) -> Callable[Inputs, Output]:
    """The same, without torch's limit in the first call:
    what later ones compile again still meets it.
    """
    called = False

    def limited(*inputs: Inputs.args, **named: Inputs.kwargs) -> Output:
        nonlocal called
        if called:
            return function(*inputs, **named)
        with torch._dynamo.config.patch(recompile_limit=_SHARED_LIMIT):
            found = function(*inputs, **named)
        called = True
        return found

    return limited


def quiet_compiler() -> None:
    """Keep the compiler's log to itself: what it cannot compile comes as an exception.
    ``TORCH_LOGS`` turns it on.
    """
    if "TORCH_LOGS" not in os.environ:
        torch._logging.set_logs(all=logging.CRITICAL)
