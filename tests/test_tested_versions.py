"""CONTRIBUTING.md's range of tested versions is what the rows of `LONG.md` were made with."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
NAMED = ("torch", "torchvision", "timm", "numpy", "scipy", "pandas", "scikit-learn")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Python :: 3." in text]


def rows() -> dict[str, dict[str, str]]:
    """The cells of every session's last run."""
    lines = [
        line
        for line in (ROOT / "tests/LONG.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    head, _, *found = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {cells[0]: dict(zip(head, cells, strict=True)) for cells in found}


def range_sentence() -> str:
    """The sentence for CONTRIBUTING.md."""
    found = {name: sorted({Version(row[name]) for row in rows().values()}) for name in NAMED}
    versions = ", ".join(f"{name} {some[0]} to {some[-1]}" for name, some in found.items())
    return f"Tested with Python {', '.join(PYTHONS)}; {versions}"


def test_contributing_names_the_range_sentence() -> None:
    assert range_sentence() in " ".join(
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split()
    )


def test_no_session_failed() -> None:
    assert {name: row["failed"] for name, row in rows().items() if row["failed"] != "0"} == {}


def test_every_python_the_oldest_versions_every_set_of_kernels_and_the_long_tests_were_run() -> (
    None
):
    found = rows()
    assert {*(f"newest-{python}" for python in PYTHONS), "oldest", "long"} <= found.keys()
    assert {"default", "avx2"} <= {row["kernels"] for row in found.values()}


@pytest.mark.parametrize(
    "text", [text for text in PROJECT["dependencies"] if text.startswith(NAMED)]
)
def test_the_oldest_row_was_run_with_the_minimums(text: str) -> None:
    needed, row = Requirement(text), rows()["oldest"]
    (minimum,) = (part.version for part in needed.specifier if part.operator == ">=")
    assert Version(row[needed.name]) == Version(minimum)
