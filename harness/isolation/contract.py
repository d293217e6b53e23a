"""What a method hands over is what its contract says: looked at once, off the clock, before it is
timed or trained.

Python would go on for a while with most of what is wrong here, and then fail far from the method,
or never.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, NoReturn

import torch
from torch import Tensor

from harness.errors import MethodFault
from harness.isolation.mistakes import at, source_of
from methods.base import Diagnosis, Method


def loss_and_parts(method: Method, returned: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """What ``method.loss`` returned, where it is a scalar with a gradient and named, detached
    scalars.

    Raises:
        MethodFault: it is something else.
    """
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        _refuse(method, "loss", "(loss, parts)", _described(returned), "write return loss, {}")
    loss, parts = returned
    if not _is_one_number(loss):
        _refuse(
            method, "loss", "a loss that is one number in a tensor", _described(loss), _repair(loss)
        )
    if torch.is_grad_enabled() and not loss.requires_grad:
        _refuse(
            method,
            "loss",
            "a loss with a gradient",
            "none",
            "does it come from the encoder, without .detach(), .item(), .data or torch.no_grad()?",
        )
    if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts):
        _refuse(
            method,
            "loss",
            "parts as a dict of names and numbers",
            _described(parts),
            "write return loss, {}",
        )
    for name, part in parts.items():
        if not _is_one_number(part):
            _refuse(
                method,
                "loss",
                f"part {name!r} to be one number in a tensor",
                _described(part),
                _repair(part),
            )
        if part.requires_grad:
            _refuse(
                method,
                "loss",
                f"part {name!r} without a gradient",
                "one",
                "write .detach(): what is only shown must not hold a step's memory",
            )
    return loss, parts


def diagnosis(method: Method, returned: Any) -> Diagnosis:
    """What ``method.diagnose`` returned, a `Diagnosis`;
    `MethodFault` where it is something else.
    """
    if not isinstance(returned, Diagnosis):
        _refuse(
            method,
            "diagnose",
            "a Diagnosis",
            _described(returned),
            "write return Diagnosis({name: number})",
        )
    return returned


def _is_one_number(found: Any) -> bool:
    """A tensor without dimensions."""
    return isinstance(found, Tensor) and found.shape == ()


def _repair(found: Any) -> str:
    """How something becomes one number in a tensor."""
    return (
        "take its .mean()"
        if isinstance(found, Tensor)
        else "a tensor stays on the device: no float() or .item()"
    )


def _described(found: Any) -> str:
    """``a Tensor of shape [4, 3]``, ``a tuple of 3``, ``None``."""
    if found is None:
        return "None"
    kind = type(found).__name__
    if isinstance(found, Tensor):
        return f"a {kind} of shape {list(found.shape)}" if found.shape else f"a {kind} alone"
    return f"a {kind} of {len(found)}" if isinstance(found, tuple | list) else f"a {kind}"


def _refuse(method: Method, function: str, expected: str, found: str, step: str) -> NoReturn:
    place = return_of(type(method), function)
    raise MethodFault(
        f"{function}: expected {expected}, found {found}{f' ({place})' * bool(place)}; {step}"
    )


def return_of(method: type[Method], name: str) -> str:
    """Where a method's function ends: ``mine.py, line 14``,
    of its last ``return`` or of the ``def`` without any.
    """
    function = inspect.unwrap(getattr(method, name))
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return ""
    returns = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Return)]
    return at(source_of(function), first - 1 + max(returns, default=1))
