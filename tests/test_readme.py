"""The README's example of a method is run as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.harness.small_run import SMALL, harness, small_file

README = Path(__file__).parents[1] / "README.md"
EXAMPLE = README.parent / "harness" / "conformance" / "templates" / "mean_motion.py"


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
    assert named == ["method", "mean-motion", "gfp", "skeletonmae", "random-init", "raw-pca", "encoder-only"]
