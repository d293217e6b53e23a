"""Folders of the cache and of prepared data, systems without Unix's modules,
files that appear whole or not at all.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.files import atomic_file, cache_dir
from datasets.formats.store import stores_dir

ROOT = Path(__file__).parents[2]
UNIX_ONLY = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep them elsewhere")
@pytest.mark.parametrize(
    ("folder", "own", "base", "below_home"),
    [
        (cache_dir, "MASKED_SKELETON_CACHE", "XDG_CACHE_HOME", ".cache"),
        (stores_dir, "MASKED_SKELETON_DATA", "XDG_DATA_HOME", ".local/share"),
    ],
)
def test_folders_follow_the_environment(
    folder: Callable[[], Path],
    own: str,
    base: str,
    below_home: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(base, str(tmp_path / "xdg"))
    monkeypatch.setenv(own, str(tmp_path / "own"))
    assert folder() == tmp_path / "own"
    monkeypatch.setenv(own, "~/own")
    assert folder() == tmp_path / "home" / "own"
    monkeypatch.delenv(own)
    assert folder() == tmp_path / "xdg" / "masked-skeleton"
    monkeypatch.setenv(base, "")
    assert folder() == tmp_path / "home" / below_home / "masked-skeleton"


def test_no_module_imports_what_only_unix_has() -> None:
    for package in ("datasets", "harness", "methods"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not UNIX_ONLY.intersection(names), path


def test_data_are_prepared_where_fcntl_is_missing(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['fcntl'] = None  # as on Windows\n"
    )
    raw = ROOT / "tests" / "datasets" / "store_format_1" / "raw"
    command = [
        sys.executable,
        "-m",
        "harness",
        "data",
        "prepare",
        "bvh",
        "--workers",
        "1",
        "--raw",
        str(raw),
    ]
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    found = subprocess.run(
        [*command, "--out", str(tmp_path / "store")],
        env=os.environ | {"PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, "clips kept" in found.stderr + found.stdout) == (0, True), (
        found.stderr
    )


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
