"""The scripts in `benchmarks` start by their file names, from anywhere,
as their own first lines say.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))
SCRIPTS = [path for path in FILES if '__name__ == "__main__"' in path.read_text()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_harness_is_imported_first(script: Path) -> None:
    """It makes `datasets` and `methods` importable where the checkout is not on Python's path."""
    imports = [
        node
        for node in ast.parse(script.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = [
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in imports
    ]
    own = [
        name.partition(".")[0]
        for name in names
        if name.partition(".")[0] in ("harness", "datasets", "methods")
    ]
    assert own[:1] in ([], ["harness"])


@pytest.mark.long
def test_a_script_starts_by_its_file_name(tmp_path: Path) -> None:
    (script,) = (path for path in SCRIPTS if path.stem == "as_published")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(script), "--help"]
    found = subprocess.run(
        command, check=False, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
    )
    assert found.returncode == 0, found.stderr
    assert "usage:" in found.stdout
