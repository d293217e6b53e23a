"""What Tab offers behind options and commands: names that exist, found without loading torch.

`harness --install-completion` writes the script for bash, zsh or fish; it asks `harness` itself.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path

import typer

from harness import ROOT
from harness.errors import UsageError
from harness.spec.model import SECTIONS
from harness.spec.presets import PRESETS

_Complete = Callable[[str], list[str]]


def _among(names: Callable[[], Iterable[str]], between: str = "") -> _Complete:
    """Completes one of several names, or with ``between`` the last of a list."""

    def complete(incomplete: str) -> list[str]:
        before, sign, begun = incomplete.rpartition(between) if between else ("", "", incomplete)
        return [f"{before}{sign}{name}" for name in sorted(names()) if name.startswith(begun)]

    return complete


def method_names() -> set[str]:
    """Methods of this checkout and of installed packages, by what `harness.registry` goes by."""
    folder = ROOT / "methods"
    files = {module.name for module in pkgutil.iter_modules([str(folder)]) if not module.ispkg}
    own = {file for file in files if "(Method[" in (folder / f"{file}.py").read_text("utf-8")}
    return {file.replace("_", "-") for file in own} | _points("methods")


def protocol_names() -> set[str]:
    """Protocols, as `harness.runs.protocols` finds them."""
    folder = ROOT / "harness" / "evaluation" / "protocols"
    files = {module.name for module in pkgutil.iter_modules([str(folder)])}
    return {file.replace("_", "-") for file in files} | _points("protocols")


def _points(kind: str) -> set[str]:
    """Names that installed packages add."""
    return {point.name for point in entry_points(group=f"masked_skeleton.{kind}")}


def _dataset_names() -> Iterable[str]:
    """Data sets by name."""
    from datasets.catalog import known_names

    return known_names()


def _claim_names() -> Iterable[str]:
    """Published claims."""
    from harness.studies.claims import read_claims

    return read_claims()


def _listing_names() -> Iterable[str]:
    """What ``ls`` takes."""
    from harness.cli.listing import LISTINGS

    return LISTINGS


def parts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Parts of the file that ``--config`` names."""
    from harness.cli.config import parts_of

    try:
        names = parts_of(Path(ctx.params.get("config") or ""))
    except UsageError:
        return []
    return [name for name in names if name.startswith(incomplete)]


one_method, methods = _among(method_names), _among(method_names, ",")
one_dataset, datasets = _among(_dataset_names), _among(_dataset_names, "+")
protocols = _among(protocol_names, ",")
claims = _among(_claim_names)
listings = _among(_listing_names)
settings = _among(
    lambda: (f"{section}.{key}=" for section, one in SECTIONS.items() for key in one.model_fields)
)
presets = _among(lambda: PRESETS)
encoders = _among(lambda: ("tiny", "small", "base"))
precisions = _among(lambda: ("fp32", "tf32", "bf16"))
devices = _among(lambda: ("auto", "cpu", "cuda"))
