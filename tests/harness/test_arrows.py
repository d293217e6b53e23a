"""Imports point one way, held by reading the source."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from benchmarks.structure import floors, rooms

ROOT = Path(__file__).parents[2]
PACKAGES = ("harness", "methods", "datasets")


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """``harness/report/table.py`` to ``harness.report.table``; a package to its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in files(package)}


def nodes(tree: ast.AST, *, deferred: bool) -> Iterator[ast.AST]:
    """All nodes; unless ``deferred`` without those in functions and those
    for type checkers only.
    """
    for child in ast.iter_child_nodes(tree):
        if deferred or not waits(child):
            yield child
            yield from nodes(child, deferred=deferred)


def waits(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


@cache
def imports(path: Path, *, deferred: bool = True) -> frozenset[str]:
    """Modules that a file imports; ``from a import b`` gives ``a.b`` where that is one
    of our modules.
    """
    found = set()
    for node in nodes(ast.parse(path.read_text()), deferred=deferred):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).parts[: -node.level]
                base = ".".join([*package, *([node.module] if node.module else [])])
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
    return frozenset(found)


def reachable(name: str) -> set[str]:
    """Our modules that are loaded when ``name`` is, its packages included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        parts = current.split(".")
        for module in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if module in MODULES and module not in found:
                found.add(module)
                waiting += imports(MODULES[module], deferred=False)
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def method_files() -> list[Path]:
    """Files of ``methods`` that define a method, and so belong to nobody else."""
    return [
        path for path in files("methods") if any(map(is_method, ast.parse(path.read_text()).body))
    ]


def is_method(node: ast.stmt) -> bool:
    if not isinstance(node, ast.ClassDef):
        return False
    bases = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
    return any(isinstance(base, ast.Name) and base.id == "Method" for base in bases)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def offenders(
    paths: Iterable[Path], wrong: Callable[[Path], Iterable[str]]
) -> dict[str, list[str]]:
    """File -> what is wrong in it; nothing of the others."""
    return {name_of(path): found for path in paths if (found := sorted(wrong(path)))}


def importing(path: Path, *packages: str) -> list[str]:
    """What a file imports of these packages."""
    return [name for name in imports(path) if any(inside(name, package) for package in packages)]


def test_datasets_import_nothing_of_methods_or_harness() -> None:
    assert offenders(files("datasets"), lambda path: importing(path, "methods", "harness")) == {}


def test_methods_import_nothing_of_harness_or_datasets() -> None:
    assert offenders(files("methods"), lambda path: importing(path, "harness", "datasets")) == {}


def test_nothing_in_methods_imports_a_method_file() -> None:
    methods = {module_name(path) for path in method_files()}
    found = offenders(files("methods"), lambda path: imports(path) & methods - {module_name(path)})
    assert found == {}


def test_no_package_imports_tests_or_benchmarks() -> None:
    assert offenders(MODULES.values(), lambda path: importing(path, "tests", "benchmarks")) == {}


LOOP = "harness.training.trainer"


def test_reports_never_load_the_training_loop() -> None:
    found = offenders(files("harness/report"), lambda path: reachable(module_name(path)) & {LOOP})
    assert found == {}


def test_reports_do_not_import_the_training_loop_later_either() -> None:
    assert offenders(files("harness/report"), lambda path: imports(path) & {LOOP}) == {}


# --- rooms of the harness ---

FLOORS = (
    ("errors", "progress", "foreign_packages"),
    ("spec", "isolation"),
    ("records",),
    ("registry",),
    ("machine", "training"),
    ("evaluation", "speed"),
    ("encoders",),
    ("runs", "conformance", "pictures"),
    ("studies",),
    ("report",),
    ("cli",),
)
"""A room may import rooms of lower floors, and `encoders`, which `runs` saves with,
stands below it.
"""
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}


def room_of(name: str) -> str:
    """``records`` of ``harness.records.store``."""
    return name.split(".")[1] if "." in name else ""


def not_below(path: Path) -> set[str]:
    """Rooms that a file of `harness` imports and that stand no lower than its own."""
    room = room_of(module_name(path))
    if room in ("", "__main__"):  # the door and the entry open any room, inside functions
        return set()
    others = {room_of(name) for name in imports(path) if inside(name, "harness")} - {"", room}
    return {other for other in others if LEVEL[other] >= LEVEL[room]}


def test_rooms_import_only_rooms_below_them() -> None:
    assert offenders(files("harness"), not_below) == {}


def test_the_harness_can_be_drawn() -> None:
    """A new arrow takes the place of another: say,
    what a room needs of `progress` for its messages is wording.
    """
    arrows = rooms(ROOT, "harness")
    assert len(list((ROOT / "harness").glob("*.py"))) <= 12
    assert floors(arrows) <= 10
    assert sum(map(len, arrows.values())) <= 80


def test_nothing_outside_methods_imports_a_method() -> None:
    methods = {module_name(path) for path in method_files()}
    paths = [*files("harness"), *files("datasets")]
    assert offenders(paths, lambda path: imports(path) & methods) == {}


# --- the reading itself ---


def test_the_methods_are_found() -> None:
    assert {"skeletonmae.py", "gfp.py", "encoder_only.py"} <= {path.name for path in method_files()}
    assert not {"base.py", "encoder.py", "masks.py", "decoders.py", "tokens.py"} & {
        p.name for p in method_files()
    }


def test_the_loop_is_found_where_it_is_loaded() -> None:
    assert "harness.training.trainer" in reachable("harness.runs.experiment")
    assert {
        "harness",
        "harness.report",
        "harness.records.schema",
        "harness.records.ratios",
    } <= reachable("harness.report.table")


def test_what_is_wrong_is_told_by_file() -> None:
    path = ROOT / "harness" / "report" / "table.py"
    assert offenders([path], lambda path: ["b", "a"]) == {"harness/report/table.py": ["a", "b"]}
    assert offenders([path], lambda path: []) == {}
    assert "harness.records.schema" in importing(path, "harness", "methods")
    assert importing(path, "tests") == []


def test_deferred_imports_are_told_from_others() -> None:
    cli = ROOT / "harness" / "cli" / "run.py"
    assert "harness.runs.experiment" in imports(cli)
    assert "harness.runs.experiment" not in imports(cli, deferred=False)
    assert "harness.spec.model" in imports(cli, deferred=False)
