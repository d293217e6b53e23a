"""The README's example of a method is run as a reader would run it,
and what a page names is there.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.small_run import SMALL, harness, small_file

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
EXAMPLE = ROOT / "harness" / "conformance" / "templates" / "mean_motion.py"


def test_the_example_method_of_the_readme_runs_beside_the_others(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (code,) = (block for block in blocks if "(Method[" in block)
    assert code == EXAMPLE.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 40
    out = tmp_path / "out"
    command = ("run", *SMALL, "--dataset", small_file(tmp_path), "--plugin", EXAMPLE, "--out", out)
    outcome = harness(*command, "--methods", "mean-motion,gfp,skeletonmae")
    assert outcome.code == 0
    rows = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("| ")]
    named = [row.split("|")[1].strip() for row in rows]
    assert named == [
        "method",
        "mean-motion",
        "gfp",
        "skeletonmae",
        "random-init",
        "raw-pca",
        "encoder-only",
    ]


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "benchmarks/RULES.md", "harness/runs/README.md"]
)
def test_a_file_or_folder_that_a_page_names_is_there(page: str) -> None:
    missing = [name for name in named(page) if not (ROOT / name).exists()]
    assert not missing


def test_the_names_of_a_page_are_found() -> None:
    assert {"harness/report/table.py", "datasets/raw/__init__.py", "tests/LONG.md"} <= set(
        named("CONTRIBUTING.md")
    )


def named(page: str) -> list[str]:
    """Paths from the checkout's root and files of Python; no patterns (``<name>``, ``NAME``)."""
    paths = re.findall(
        r"(?<![\w/.<>-])(?:[\w.-]+/)+[\w.-]*(?![\w./<{*-])",
        (ROOT / page).read_text(encoding="utf-8"),
    )
    ours = ("harness", "methods", "datasets", "benchmarks", "tests")
    kept = [path.rstrip(".") for path in paths if path.startswith(ours) or path.endswith(".py")]
    return [path for path in kept if not Path(path).name.isupper()]
