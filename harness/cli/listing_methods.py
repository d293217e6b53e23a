"""What `harness ls methods` and `ls encoders` show: the listings that load torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from harness.cli.listing import Rows
from harness.errors import MethodFault
from harness.isolation.guard import Guard, problem_of_about
from harness.isolation.mistakes import mistake
from harness.registry import Registry, versions_of
from harness.training import deviations as shared_parts
from methods.base import About, Method
from methods.parts.encoder import SIZES, SkeletonEncoder

_NTU_JOINTS = 25


def list_methods(plugins: list[Path] | None, out: Path) -> Rows:
    """Methods with their paper, code, deviations, choices and default options,
    and the shared parts' deviations.
    """
    registry = Registry(plugins)
    return [
        _about_method(name, method, registry.guard(name))
        for name, method in sorted(registry.methods.items())
    ]


def _about_method(name: str, method: type[Method], guard: Guard) -> dict[str, Any]:
    """A method's words about itself; why they cannot be had, where its own code is at fault."""
    try:
        if problem := problem_of_about(method):
            raise MethodFault(problem)
        with guard("options"):
            options = method.Options().model_dump(mode="json")
        shared = {"shared_deviations": shared_parts.DEVIATIONS}
        return {
            "method": name,
            **asdict(method.about),
            **shared,
            "options": options,
            "versions": versions_of(method),
        }
    except Exception as problem:  # noqa: BLE001 - the others are listed
        unknown = About(title=name, paper=f"cannot be described: {mistake(problem, method)}")
        return {
            "method": name,
            **asdict(unknown),
            "shared_deviations": (),
            "options": {},
            "versions": {},
        }


def list_encoders(plugins: list[Path] | None, out: Path) -> Rows:
    """Encoder sizes; parameters and tokens at 25 joints."""
    rows = []
    for name, size in SIZES.items():
        with torch.device("meta"):
            encoder = SkeletonEncoder(size, _NTU_JOINTS)
        rows.append(
            {
                "encoder": name,
                **asdict(size),
                "parameters": encoder.parameter_count,
                "tokens": encoder.grid.tokens,
            }
        )
    return rows
