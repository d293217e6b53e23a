"""The lock on declared versions: each beside the hash of the code that it stands for, in
`versions.json`.

    python -m tests.versions                  # a VERSION was raised, or a module with one added
    python -m tests.versions --same-results   # after a change of code that changes no result

Locked are all modules that declare a ``VERSION`` and, with what they are built on, the readers of
raw formats. Moving, documenting, formatting and annotating change no hash
(`datasets.code_versions`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import datasets
import datasets.raw
import harness
import methods
from datasets.code_versions import syntax_hash
from datasets.raw.base import Source

LOCK = Path(__file__).with_suffix(".json")
RENEW = "python -m tests.versions"

LOADED_LATE = {"methods.encoder": ("methods.parts.attention",)}
"""A module -> others that its VERSION stands for, as no import at its top, and so no record,
names them.
"""

Locked = Mapping[str, tuple[str, str]]
"""Name -> version and hash."""


def declared() -> Locked:
    """What the code declares and is today."""
    found = dict[str, tuple[str, str]]()
    for package in (datasets, harness, methods):
        for name, text in module_texts(package):
            if version := declared_version(text):
                # The folder is left out: a module may move within its package.
                short = f"{package.__name__}.{name.rpartition('.')[2]}"
                assert short not in found, (
                    f"two modules {short} declare a VERSION; give one of them another name"
                )
                late = "".join(source_text(module) for module in LOADED_LATE.get(short, ()))
                found[short] = version, syntax_hash(text + late)
    for reader in readers():
        found[f"reader {reader.__qualname__}"] = (
            str(reader.version),
            code_hash(reader.__module__, "datasets.raw"),
        )
    return dict(sorted(found.items()))


def module_texts(package: ModuleType) -> Iterator[tuple[str, str]]:
    """Dotted name and text of every module of a package."""
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        spec = info.module_finder.find_spec(info.name, None)
        if spec and spec.origin:
            yield info.name, Path(spec.origin).read_text(encoding="utf-8")


def code_hash(module: str, within: str) -> str:
    """Hash (16 hex digits) of a module and of those it is built on: their syntax hashes, whatever
    their names.

    Args:
        module: its dotted name.
        within: the package, dotted, whose modules count; what else is imported does not.
    """
    hashes = sorted(syntax_hash(source_text(name)) for name in built_on(module, within))
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def built_on(module: str, within: str) -> list[str]:
    """Dotted names of a module and of every module of the package ``within``
    that it imports, directly or not.
    """
    found, todo = set[str](), [module]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [
                other
                for other in imported(ast.parse(source_text(name)))
                if is_module(other, within)
            ]
    return sorted(found)


def source_text(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {module!r}", name=module)
    return Path(spec.origin).read_text(encoding="utf-8")


def is_module(name: str, within: str) -> bool:
    if name != within and not name.startswith(f"{within}."):
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # something within a module that is no package: a function, say
        return False


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names that may be modules, of absolute imports (this project has no others)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def declared_version(text: str) -> str:
    """The value of ``VERSION = ...`` at a module's top level, as text;
    empty where there is none.
    """
    for item in ast.parse(text).body:
        targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "VERSION" for target in targets):
            return str(ast.literal_eval(item.value))  # type: ignore[attr-defined]
    return ""


def readers() -> list[type[Source]]:
    """All classes that read a raw format, by name."""
    for info in pkgutil.walk_packages(datasets.raw.__path__, "datasets.raw."):
        import_module(info.name)
    todo, found = [Source], set[type[Source]]()
    while todo:
        below = todo.pop().__subclasses__()
        todo += below
        found |= {item for item in below if item.__module__.startswith("datasets.raw.")}
    return sorted(
        (item for item in found if not item.__abstractmethods__ and hasattr(item, "title")), key=str
    )


def locked() -> Locked:
    """What `LOCK` says."""
    return {name: (version, code) for name, (version, code) in json.loads(LOCK.read_text()).items()}


def problems(lock: Locked, now: Locked) -> list[str]:
    """One line for everything that the lock does not hold, with what to do about it."""
    return [*forgotten(lock, now), *outdated(lock, now)]


def forgotten(lock: Locked, now: Locked) -> list[str]:
    """Code that changed under its old version."""
    return [
        f"{name}: the code changed under version {version}; raise it if the same input can now give"
        f" another result, then {RENEW}; if it cannot: {RENEW} --same-results"
        for name, (version, code) in now.items()
        if name in lock and lock[name][0] == version and lock[name][1] != code
    ]


def outdated(lock: Locked, now: Locked) -> list[str]:
    """Versions that the lock has not, or has no more."""
    names = sorted(lock.keys() | now.keys())
    versions = {name: [some.get(name, ("none", ""))[0] for some in (now, lock)] for name in names}
    return [
        f"{name}: version {here}, locked {there}; renew the lock: {RENEW}"
        for name, (here, there) in versions.items()
        if here != there
    ]


def main(arguments: list[str]) -> int:
    """Write the lock anew; 1 when code changed under its old version and nothing says
    that results are the same.
    """
    now = declared()
    wrong = forgotten(locked(), now) if LOCK.exists() and arguments != ["--same-results"] else []
    if wrong:
        print("\n".join(wrong))
        return 1
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in now.items())
    LOCK.write_text(f"{{\n{lines}\n}}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
