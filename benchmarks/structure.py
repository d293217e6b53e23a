"""How the code is laid out, in figures: rooms, arrows and floors of each package, lines that stand
beside a library's work, and what its commands cost to start.

    python benchmarks/structure.py            # this checkout
    python benchmarks/structure.py --of PATH  # another one, an earlier commit's, say

A room is a file, or a folder, directly inside a package; the package's own ``__init__``, its door,
is none. An arrow goes from a room to another one that it imports; a room stands one floor above the
highest that it imports. "Calls to a loss" are the functions of ours on the stack from the command
``run`` (counted) to a method's ``loss`` (counted). It runs on Unix, which alone counts a child's
processor seconds.
"""

from __future__ import annotations

import argparse
import ast
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

PACKAGES = ("harness", "datasets", "methods")
COMMANDS = {
    "--help": ["--help"],
    "ls claims": ["ls", "claims"],
    "ls runs": ["ls", "runs", "--out", "{folder}"],
    "ls methods": ["ls", "methods"],
    "trends": ["trends", "{folder}"],
    "target": ["target", "{folder}", "--reference", "mamp"],
    "ranking": ["ranking", "{folder}"],
}
GIVEN_BACK = {
    "downloads: pooch": [("datasets/origins/download.py", "")],
    "archives: tarfile's filter": [("datasets/origins/unpack.py", "")],
    "tests of these two": [
        (f"tests/datasets/origins/test_{name}.py", "") for name in ("download", "unpack")
    ],
    "folders: platformdirs": [
        ("datasets/cache.py", "cache_dir"),
        ("datasets/files.py", "cache_dir"),
        ("datasets/store.py", "stores_dir"),
        ("datasets/formats/store.py", "stores_dir"),
    ],
    "locks: filelock": [("datasets/prepare.py", "_alone"), ("datasets/raw/prepare.py", "_alone")],
    "processes, memory: psutil": [
        ("harness/records.py", "_alive"),
        ("harness/records/store.py", "_alive"),
        ("harness/environment.py", "_memory_bytes"),
        ("harness/machine.py", "_memory_bytes"),
    ],
}
"""Work that a library does -> where our part of it is: a module, or a function of one;
earlier and present places.
"""
KEPT = {
    "pickles (on pickle._Unpickler)": [("datasets/raw/unpickle.py", "")],
    ".skeleton text": [
        ("datasets/raw/skeleton_text.py", ""),
        ("datasets/raw/ntu/skeleton_text.py", ""),
    ],
    "pictures (on matplotlib, Pillow)": [
        ("harness/drawing.py", ""),
        ("harness/pictures/drawing.py", ""),
    ],
}
"""The same for what was looked at and is still ours."""
EARLIER_NAMES = {"ranking": "exchange"}
TRIES = 3

SPY = """
import traceback
import torch
from methods.base import About, Method

class Spy(Method):
    about = About(title="Spy", paper="none", control=True)

    def loss(self, x):
        frames = [frame for frame in traceback.extract_stack() if "/harness/" in frame.filename]
        start = [frame.name for frame in frames].index("run_command")
        print("STACK", " -> ".join(frame.name for frame in frames[start:]), "-> loss")
        loss = self.encoder(x).square().mean()
        return loss, {"spied": loss.detach()}
"""


def rooms(root: Path, package: str) -> dict[str, set[str]]:
    """Room -> rooms of the same package that it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted((root / package).rglob("*.py")):
        room = room_of(package, path.relative_to(root).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found.setdefault(room, set()).update(imported(root, package, tree) - {room})
    found.pop(package, None)
    return {room: others & found.keys() for room, others in found.items()}


def room_of(package: str, parts: tuple[str, ...]) -> str:
    """``records`` for ``harness/records/store.py``; the package's own name for its ``__init__``."""
    inside = parts[len(package.split(".")) :]
    return package if inside == ("__init__",) or not inside else inside[0]


def imported(root: Path, package: str, tree: ast.AST) -> set[str]:
    """Rooms of the package that a module imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    ours = (name.split(".") for name in names if name.startswith(f"{package}."))
    return {room for parts in ours if exists(root, package, room := parts[1])}


@cache
def exists(root: Path, package: str, room: str) -> bool:
    """A file or folder of that name lies in the package."""
    return (root / package / f"{room}.py").exists() or (root / package / room).is_dir()


def floors(arrows: dict[str, set[str]]) -> int:
    """Length of the longest way down; a circle is an error."""

    @cache
    def floor(room: str) -> int:
        return 1 + max((floor(other) for other in arrows[room]), default=0)

    return max(map(floor, arrows))


def lines_of(root: Path, places: list[tuple[str, str]]) -> int:
    """Lines of those modules and functions that this checkout has, docstrings and all."""
    return sum(
        lines(root / module, function) for module, function in places if (root / module).exists()
    )


def lines(path: Path, function: str) -> int:
    """Lines of a module, or of one function at its top; 0 where it has none of that name."""
    text = path.read_text(encoding="utf-8")
    if not function:
        return len(text.splitlines())
    found = (node for node in ast.parse(text).body if getattr(node, "name", "") == function)
    return sum((node.end_lineno or 0) - node.lineno + 1 for node in found)


def cpu_seconds(root: Path, words: list[str]) -> tuple[float, int]:
    """The least user and system seconds of a few tries of a command, and its exit code."""
    seconds, code = [], 0
    for _ in range(TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = subprocess.run(
            [sys.executable, "-m", "harness", *words],
            cwd=root,
            env=environment(root),
            capture_output=True,
            check=False,
        ).returncode
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds), code


def environment(root: Path) -> dict[str, str]:
    """This process's environment, with that checkout first on the path."""
    return {**os.environ, "PYTHONPATH": str(root)}


def way_to_a_loss(root: Path) -> str:
    """Names of our functions from the command ``run`` to a method's ``loss`` in training,
    which comes last.
    """
    with tempfile.TemporaryDirectory() as folder:
        plugin = Path(folder) / "spy.py"
        plugin.write_text(SPY)
        words = [
            "run",
            "--methods",
            "encoder-only,spy",
            "--plugin",
            str(plugin),
            "--out",
            folder,
            "--budget",
            "1steps",
        ]
        found = subprocess.run(
            [sys.executable, "-m", "harness", *words, "--speed-seconds", "1"],
            cwd=root,
            env=environment(root),
            capture_output=True,
            text=True,
            check=False,
        )
    ways = [
        line.removeprefix("STACK ")
        for line in found.stdout.splitlines()
        if line.startswith("STACK")
    ]
    return ways[-1] if ways else f"not seen: {found.stderr.strip()[-200:]}"


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--of", type=Path, default=here, help="another checkout")
    parser.add_argument(
        "--folder", default="benchmarks/results/uiprmd-trends", help="records to list and rank"
    )
    root, folder = (arguments := parser.parse_args()).of.resolve(), arguments.folder
    print(f"{'package':10} {'files at its top':>16} {'rooms':>6} {'arrows':>7} {'floors':>7}")
    for package in PACKAGES:
        found = rooms(root, package)
        top = len(list((root / package).glob("*.py")))
        arrows = sum(map(len, found.values()))
        print(f"{package:10} {top:16} {len(found):6} {arrows:7} {floors(found):7}")
    way = way_to_a_loss(root)
    print(f"calls to a loss: {way.count('->') + 1} ({way})")
    for title, work in (("done by a library", GIVEN_BACK), ("done by hand", KEPT)):
        print(f"{title}: lines of ours")
        for name, places in work.items():
            print(f"    {name:32} {lines_of(root, places):4}")
    copy = Path(tempfile.mkdtemp()) / "records"  # studies leave their table beside the records
    shutil.copytree(root / folder, copy)
    for name, command in COMMANDS.items():
        words = [word.format(folder=copy) for word in command]
        seconds, code = cpu_seconds(root, words)
        if code and name in EARLIER_NAMES:
            seconds, code = cpu_seconds(root, [EARLIER_NAMES[name], *words[1:]])
        print(f"{name:12} {seconds:5.2f} CPU s{'' if not code else f' (exit code {code})'}")
    print(f"python {platform.python_version()}, {platform.machine()}, {datetime.now(UTC):%Y-%m-%d}")


if __name__ == "__main__":
    main()
