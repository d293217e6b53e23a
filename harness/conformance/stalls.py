"""Finds what in a step would make a GPU and its host wait for each other, where there is no GPU.

A step runs on a device without values: the meta device, or fake tensors that say they are on CUDA.
There an operation is a line of a trace, and one that a GPU would wait for can be told by its name
and its arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten

_COPIES = {_aten._to_copy.default, _aten.copy_.default}
_INDEXING = {
    _aten.index.Tensor,
    _aten._unsafe_index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
}
_ACCESS = {Tensor.__getitem__, Tensor.__setitem__}
_MAKERS = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}
_COPY = "a copy between host and device"
_VALUE = "a value is asked for"


class Stall(RuntimeError):
    """A GPU and its host would wait for each other; the message names the operation."""


@contextmanager
def no_stalls(device: str) -> Iterator[None]:
    """Raises `Stall` at the line that would make a GPU and its host wait for each other.

    - A value is asked for: ``.item()``, ``.nonzero()``, a boolean index, ``torch.multinomial``
      without replacement.
    - A copy goes from one to the other: ``.cpu()``, ``torch.as_tensor(numbers, device=x.device)``,
      a list as an index.
    - A tensor with dimensions lies on the CPU beside others on the device: an index is copied in
      every step, anything else a real GPU refuses. One without dimensions is a number, which costs
      nothing.

    Args:
        device: type of the device that stands for the GPU: ``meta``, or ``cuda`` for fake tensors.
    """
    with _Calls(device), _Operations(device):
        yield


class _Calls(TorchFunctionMode):
    """Watches calls that copy what Python or NumPy holds:
    on the meta device no operation tells of them.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in _ACCESS and args[0].device.type == self.device and _holds_numbers(args[1]):
            raise Stall(f"{_COPY} of a list that is an index")
        result = func(*args, **(kwargs or {}))
        if func in _MAKERS and result.device.type == self.device:
            given = args[1:] if func is Tensor.new_tensor else args
            if not any(isinstance(item, Tensor) for item in (*given, *(kwargs or {}).values())):
                raise Stall(f"{_COPY} of numbers ({func.__name__})")
        return result


class _Operations(TorchDispatchMode):
    """Watches the operations that torch runs, backward pass included."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if problem := self.problem(func, args, kwargs):
            raise Stall(f"{problem} ({func})")
        return func(*args, **kwargs)

    def problem(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """What is wrong with an operation; empty for most."""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = [tensor for tensor in tensors if tensor.device.type == self.device]
        host = [tensor for tensor in tensors if tensor.device.type == "cpu"]
        if func in _COPIES:
            target = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else ""
            crossing = (host and (here or target == self.device)) or (here and target == "cpu")
            return _COPY if crossing else ""
        if not here:
            return ""
        if _asks(func, args):
            return _VALUE
        if large := [tensor for tensor in host if tensor.dim()]:
            return f"a tensor {list(large[0].shape)} on the CPU beside others on the device"
        return ""


def _holds_numbers(index: Any) -> bool:
    """Whether a list or an array is part of an index."""
    return any(
        isinstance(item, list | np.ndarray)
        for item in (index if isinstance(index, tuple) else (index,))
    )


def _asks(func: Any, args: Sequence[Any]) -> bool:
    """Whether an operation needs a value of its arguments,
    if only for the size of what comes out.
    """
    if func in _INDEXING:
        return _asks_how_many(args[1], args[2:])
    if (
        func is _aten.multinomial.default
    ):  # its kernel looks at the weights where it draws without replacement
        return not any(args[2:])
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
    return func is _aten._linalg_check_errors.default or not tags.isdisjoint(func.tags)


def _asks_how_many(indices: Sequence[Tensor | None], values: Sequence[Any]) -> bool:
    """Whether an index is boolean, and not one mask under which a number is written:
    with that torch fills.
    """
    given = [index for index in indices if index is not None]
    filled = len(given) == 1 and bool(values) and values[0].dim() == 0
    return not filled and any(index.dtype in (torch.bool, torch.uint8) for index in given)
