"""The README's example of a method is run as a reader would run it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.harness.small_run import SMALL, harness, small_file

README = Path(__file__).parents[1] / "README.md"


def test_the_example_method_of_the_readme_runs_beside_the_others(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    (code,) = (block for block in blocks if "(Method[" in block)
    assert len(code.splitlines()) <= 40
    plugin = tmp_path / "mean_motion.py"
    plugin.write_text(code)
    out = tmp_path / "out"
    command = ("run", *SMALL, "--dataset", small_file(tmp_path), "--plugin", plugin, "--out", out)
    outcome = harness(*command, "--methods", "mean-motion,gfp,skeletonmae")
    assert outcome.code == 0
    rows = [line for line in (out / "table.md").read_text().splitlines() if line.startswith("| ")]
    named = [row.split("|")[1].strip() for row in rows]
    assert named == ["method", "mean-motion", "gfp", "skeletonmae", "random-init", "raw-pca", "encoder-only"]
