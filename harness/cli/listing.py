"""What `harness ls` shows, as plain rows: methods, data sets, encoders, runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from datasets.catalog import about
from datasets.raw import DEVIATIONS
from harness.errors import MethodFault, one_line
from harness.isolation.guard import Guard, problem_of_about
from harness.progress import warn
from harness.records.store import RecordStore
from harness.registry import Registry, versions_of
from harness.studies.claims import read_claims
from harness.training import deviations as shared_parts
from methods.base import About, Method
from methods.parts.encoder import SIZES, SkeletonEncoder

NTU_JOINTS = 25

Rows = list[dict[str, Any]]


def list_methods(plugins: list[Path] | None, out: Path) -> Rows:
    """Methods with their paper, code, deviations, choices and default options, and the shared parts' deviations."""
    registry = Registry(plugins)
    return [about_method(name, method, registry.guard(name)) for name, method in sorted(registry.methods.items())]


def about_method(name: str, method: type[Method], guard: Guard) -> dict[str, Any]:
    """A method's words about itself; why they cannot be had, where its own code is at fault."""
    try:
        if problem := problem_of_about(method):
            raise MethodFault(problem)
        with guard("options"):
            options = method.Options().model_dump(mode="json")
        shared = {"shared_deviations": shared_parts.DEVIATIONS}
        return {"method": name, **asdict(method.about), **shared, "options": options, "versions": versions_of(method)}
    except Exception as problem:  # noqa: BLE001 - the others are listed
        unknown = About(title=name, paper=f"cannot be described: {one_line(problem)}")
        return {"method": name, **asdict(unknown), "shared_deviations": (), "options": {}, "versions": {}}


def list_datasets(plugins: list[Path] | None, out: Path) -> Rows:
    """Data sets by name, and how they differ from others' preparation; a store or exchange file is given by path."""
    return [{"dataset": name, "about": text, "deviations": DEVIATIONS.get(name, ())} for name, text in about().items()]


def list_encoders(plugins: list[Path] | None, out: Path) -> Rows:
    """Encoder sizes; parameters and tokens at 25 joints."""
    rows = []
    for name, size in SIZES.items():
        with torch.device("meta"):
            encoder = SkeletonEncoder(size, NTU_JOINTS)
        rows.append(
            {"encoder": name, **asdict(size), "parameters": encoder.parameter_count, "tokens": encoder.grid.tokens}
        )
    return rows


def list_runs(plugins: list[Path] | None, out: Path) -> Rows:
    """Records of an output folder; those that are passed over are named on stderr."""
    store = RecordStore(out)
    rows = [
        {
            "run": record.address,
            "method": record.label,
            "seed": record.spec.seed,
            "data": record.data.name,
            "status": record.status,
            "linear": record.accuracy and record.accuracy.linear_test,
            "knn": record.accuracy and record.accuracy.knn_test,
            "finished": record.finished.isoformat(),
        }
        for record in store.runs()
    ]
    warn(*store.passed_over())
    return rows


def list_claims(plugins: list[Path] | None, out: Path) -> Rows:
    """Published speed claims, for `harness claim`."""
    return [
        {"claim": name, **claim.model_dump(include={"statement", "hardware", "source"})}
        for name, claim in read_claims().items()
    ]


LISTINGS: dict[str, Callable[[list[Path] | None, Path], Rows]] = {
    "methods": list_methods,
    "datasets": list_datasets,
    "encoders": list_encoders,
    "runs": list_runs,
    "claims": list_claims,
}

BRIEF = {
    "methods": ["method", "division", "options", "paper"],
    "datasets": ["dataset", "about"],
    "claims": ["claim", "statement"],
}
"""Columns of the printed tables that show less than ``--json`` has."""


def plain(value: object) -> str:
    """A value in a table's cell."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else str(value)
