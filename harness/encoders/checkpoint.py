"""Weights that others give out, read without running anything: PyTorch checkpoints and safetensors.

PyTorch's files are read with ``torch.load(weights_only=True)``, which calls nothing but what makes
tensors. NumPy's scalars and arrays, which training scripts leave beside them (a best accuracy), are
read as numbers or passed over.
"""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from datasets.formats.kinds import FileKind, kind_of
from harness.encoders.facts import EncoderFacts, from_metadata
from harness.errors import UsageError

State = dict[str, Tensor]

_STORE = "torch.save(model.state_dict(), file)"
_HEADS = frozenset({"heads", "num_heads", "n_heads", "nhead", "n_head", "num_attention_heads"})
_DEEPEST = 8
_UNREADABLE = (
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    TypeError,
    OverflowError,
    NotImplementedError,
    AssertionError,
    RecursionError,
    struct.error,
)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        state: all tensors by name.
        facts: what a file of this suite says of them.
        heads: number of attention heads by the place that says so, as ``args.num_heads``; weights
            do not tell it.
    """

    state: State
    facts: EncoderFacts | None
    heads: Mapping[str, int]


def read_checkpoint(path: Path) -> Checkpoint:
    """All tensors of a file by name: a plain state dict, one under ``model`` or ``state_dict``, or
    safetensors.

    Raises:
        UsageError: there is none, or it is something else, which is named; code in it is refused,
            never run.
    """
    if path.is_dir():
        raise UsageError(f"{path}: expected a checkpoint, found a folder; name the file in it")
    if not path.is_file():
        raise UsageError(f"{path}: no such file; check the path")
    kind = kind_of(path)
    if (kind and kind.name == "a safetensors file") or (
        kind is None and path.suffix == ".safetensors"
    ):
        return _safetensors(path)
    if kind and kind.name not in ("a PyTorch checkpoint", "a pickle"):
        raise UsageError(f"{path}: not a checkpoint: {kind}")
    content = _unpickled(path, kind)
    inner = content
    for key in ("model", "state_dict"):
        if isinstance(inner, dict) and isinstance(inner.get(key), dict):
            inner = inner[key]
    named = isinstance(inner, dict) and all(isinstance(name, str) for name in inner)
    state = (
        {name: value for name, value in inner.items() if isinstance(value, Tensor)} if named else {}
    )
    if not state:
        found = ", ".join(map(str, inner)) if isinstance(inner, dict) else type(inner).__name__
        raise UsageError(
            f"{path}: expected a state dict, plain or under 'model' or 'state_dict', found"
            f" {found[:200]}"
        )
    return Checkpoint(state, None, dict(_stated_heads(content)))


def plain_tensor(path: Path, name: str, value: Tensor) -> Tensor:
    """A tensor of plain numbers in memory; a `UsageError` for any other kind,
    which would be read as something else.
    """
    kinds = {
        "a sparse one": value.layout != torch.strided,
        "one without its numbers (meta)": value.device.type == "meta",
        "a quantised one": value.is_quantized,
        "complex numbers": value.is_complex(),
        "a nested one": value.is_nested,
        f"{value.dtype}".removeprefix("torch."): not (
            value.is_complex() or value.is_floating_point()
        ),
    }
    if found := next((kind for kind, holds in kinds.items() if holds), ""):
        raise UsageError(
            f"{path}: {name}: expected a dense tensor of real numbers, found {found}; store it as"
            " float32"
        )
    return value.detach().resolve_neg().float().contiguous()


# --- reading ---


def _safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            facts = from_metadata(file.metadata())
    except (SafetensorError, OSError, *_UNREADABLE) as error:
        raise UsageError(
            f"{path}: not a safetensors file that can be read ({_first_line(error)}); copy or"
            " download it again"
        ) from None
    return Checkpoint(state, facts, {})


def _unpickled(path: Path, kind: FileKind | None) -> Any:
    """The file's content; code in it is refused, never run."""
    try:
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the file's format
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{path}: {_refusal(str(error))}; store it again with {_STORE}") from None
    except MemoryError:
        raise UsageError(f"{path}: not enough memory for what it says it holds") from None
    except (SafetensorError, *_UNREADABLE) as error:
        whole = "; copy or download it again" if kind else ""
        raise UsageError(
            f"{path}: not a checkpoint that torch can read ({_first_line(error)[:200]}){whole}"
        ) from None


def _refusal(message: str) -> str:
    """Why a pickle was not read, from torch's long message: it names something to call,
    or is no such pickle.
    """
    if wanted := re.search(r"GLOBAL ([\w.]+)", message):
        return f"refused: reading it would run code ({wanted[1]}), and only tensors are read"
    detail = re.search(r"WeightsUnpickler error:\s*(.+)", message)
    return f"not a checkpoint of tensors only ({detail[1][:200] if detail else 'damaged'})"


def _first_line(error: Exception) -> str:
    """An error's first line, or its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)


# --- what stands beside tensors ---


class _PassedOver:
    """Stands for a NumPy dtype or array that is not needed: takes whatever belongs to one,
    keeps nothing.
    """

    def __init__(self, *given: object) -> None:
        self.code = given[0] if given and isinstance(given[0], str) else ""

    def __setstate__(self, state: object) -> None:
        """A dtype's byte order, or an array's shape and bytes."""


def _scalar(dtype: object, data: object = b"") -> float | _PassedOver:
    """NumPy's scalar as a number, where it is a common one."""
    form = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i", "b1": "<?"}.get(
        getattr(dtype, "code", "")
    )
    if form is None or not isinstance(data, bytes) or len(data) != struct.calcsize(form):
        return _PassedOver()
    number: float = struct.unpack(form, data)[0]
    return number


def _passed_over(*_: object) -> _PassedOver:
    return _PassedOver()


# MAE's scripts, MAMP's among them, store their arguments beside the weights; a Namespace holds
# values only.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_passed_over, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (_PassedOver, "numpy.dtype"),
    (_PassedOver, "numpy.ndarray"),
]


def _stated_heads(content: object, place: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """Places in the arguments beside the weights that name the encoder's number of heads."""
    values = vars(content) if isinstance(content, argparse.Namespace) else content
    if not isinstance(values, dict) or depth > _DEEPEST:
        return
    for name, value in values.items():
        if not isinstance(name, str) or "decoder" in name or "predictor" in name:
            continue
        here = f"{place}.{name}" if place else name
        if name in _HEADS and isinstance(value, int) and not isinstance(value, bool):
            yield here, value
        yield from _stated_heads(value, here, depth + 1)
