"""How the code reads, in figures: lengths of lines, comments, functions and who uses them.

    python benchmarks/readability.py            # this checkout
    python benchmarks/readability.py --of PATH  # another one, an earlier commit's, say

A code line holds code: a blank one, a comment's own and a docstring's are none; its characters are
counted with its indentation. Comments are those of code lines and of lines of their own. All
functions count among those per 1,000 lines; the others are functions at the top of a module.

A name is used where a module reads it: imported, through its module, or in a text by its dotted
path, as tests and entries name it. To import or to pass it on is no use.
"""

from __future__ import annotations

import argparse
import ast
import io
import platform
import re
import statistics
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("harness", "datasets", "methods")
READERS = (*PACKAGES, "benchmarks", "tests")
"""Folders whose modules count as users of a name."""
FOUND_BY = {"Method", "Protocol", "Source"}
"""Classes whose subclasses a registry finds without their names."""
FRONT_PAGE = "README.md"
TO_TOOLS = ("# fmt:", "# noqa", "# type:")
"""Comments that no reader is told anything by."""


PATH = re.compile(r"\b(?:harness|datasets|methods)(?:\.\w+)*[.:]\w+")
IMPORT = re.compile(r"from ([\w.]+) import ([\w, ]+)")


@dataclass
class Module:
    """A module's text and tree, what it defines at its top, and what it uses.

    ``nodes``: all of the tree, which takes long to walk.
    ``uses``: dotted name -> how often this module reads it, names of its own included.
    """

    name: str
    text: str
    tree: ast.Module
    nodes: list[ast.AST]
    defined: dict[str, ast.AST] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)


def read(root: Path, folders: tuple[str, ...] = READERS) -> dict[str, Module]:
    """Dotted name -> module, of all folders, with what each uses."""
    found = {}
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text)
            found[name] = Module(name, text, tree, list(ast.walk(tree)))
    for module in found.values():
        module.defined, module.imported = dict(defined(module.tree)), imported(module.nodes)
    for module in found.values():
        module.uses = uses(module, found)
    return found


def defined(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Functions, classes and constants at the top of a module, in its ``if`` and ``try`` too."""
    for node in tree.body:
        yield from defined_by(node)


def defined_by(node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    """What one statement defines; an import defines nothing."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name, node
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            for part in ast.walk(target):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id, node
    elif isinstance(node, ast.If | ast.Try):
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.stmt):
                yield from defined_by(inner)


def uses(module: Module, modules: dict[str, Module]) -> Counter[str]:
    """Dotted name -> how often a module reads it."""
    known = module.imported
    remarks = {id(node.value) for node in module.nodes if isinstance(node, ast.Expr)}
    found: Counter[str] = Counter()
    for node in module.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found[origin(known.get(node.id, f"{module.name}.{node.id}"), modules)] += 1
        elif isinstance(node, ast.Attribute) and (path := dotted(node)):
            first, _, rest = path.partition(".")
            if first in known:
                found[origin(f"{known[first]}.{rest}", modules)] += 1
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in remarks
        ):
            found.update(named_in_text(node.value, module, modules))
        elif isinstance(node, ast.Call):
            found.update(patched(node, known, modules))
    return found


def imported(nodes: list[ast.AST]) -> dict[str, str]:
    """Name in a module -> dotted name that it was imported from, wherever the import stands."""
    known = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return known


def origin(name: str, modules: dict[str, Module]) -> str:
    """Where a name is defined that another module only passes on."""
    for _ in range(4):
        module, _, last = name.rpartition(".")
        if module not in modules or last in modules[module].defined:
            break
        passed_on = modules[module].imported.get(last)
        if passed_on is None:
            break
        name = passed_on
    return name


def dotted(node: ast.AST) -> str:
    """``a.b.c`` for nested attributes of a name, empty for others."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""


def named_in_text(text: str, module: Module, modules: dict[str, Module]) -> list[str]:
    """Names of ours in a text: this module's alone, others by dotted path or in lines of code."""
    if text in module.defined:
        return [f"{module.name}.{text}"]
    found = [match.replace(":", ".") for match in PATH.findall(text)]
    found += [
        f"{line[1]}.{name}"
        for line in IMPORT.finditer(text)
        for name in re.findall(r"\w+", line[2])
    ]
    return [origin(name, modules) for name in found if name.rpartition(".")[0] in modules]


def patched(call: ast.Call, known: dict[str, str], modules: dict[str, Module]) -> list[str]:
    """``setattr(module, "name", ...)`` and its like."""
    if (
        len(call.args) < 2
        or not isinstance(text := call.args[1], ast.Constant)
        or not isinstance(text.value, str)
    ):
        return []
    first, _, rest = dotted(call.args[0]).partition(".")
    name = f"{known.get(first, '')}{'.' if rest else ''}{rest}.{text.value}"
    return [origin(name, modules)] if name.rpartition(".")[0] in modules else []


def users(modules: dict[str, Module]) -> dict[str, set[str]]:
    """Dotted name -> modules that read it, its own included."""
    found = defaultdict[str, set[str]](set)
    for module in modules.values():
        for name in module.uses:
            found[name].add(module.name)
    return found


def unused(modules: dict[str, Module], package: str) -> list[str]:
    """Dotted public names of a package that no other module needs.

    What stands in the signature or the fields of a public name is public with it; so is a command,
    a VERSION, which the lock of versions reads, and a class that a registry finds.
    """
    readers, found = users(modules), []
    for module in modules.values():
        if module.name.partition(".")[0] != package or ".templates." in module.name:
            continue
        own = {name: node for name, node in module.defined.items() if not name.startswith("_")}
        public = {
            name
            for name, node in own.items()
            if readers[f"{module.name}.{name}"] - {module.name} or reached(name, node)
        }
        waiting = list(public)
        while waiting:
            named = annotated(own[waiting.pop()]) & own.keys() - public
            public |= named
            waiting += named
        found += [f"{module.name}.{name}" for name in own if name not in public]
    return found


def reached(name: str, node: ast.AST) -> bool:
    """Used without its name: a VERSION, a command, a class that its registry finds."""
    if isinstance(node, ast.ClassDef):
        return any(
            dotted(base.value if isinstance(base, ast.Subscript) else base) in FOUND_BY
            for base in node.bases
        )
    if isinstance(node, ast.FunctionDef):
        return any(
            dotted(getattr(mark, "func", mark)).endswith((".command", ".callback"))
            for mark in node.decorator_list
        )
    return name == "VERSION"


def annotated(node: ast.AST) -> set[str]:
    """Names in a function's signature, in a class's fields and public methods, in another name
    of a type.
    """
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = node.args
        every = [
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            arguments.vararg,
            arguments.kwarg,
        ]
        return named(node.returns, *(one.annotation for one in every if one))
    if isinstance(node, ast.ClassDef):
        inside = [
            one
            for one in node.body
            if (name := getattr(one, "name", "")) == "__init__" or not name.startswith("_")
        ]
        fields = named(*(one.annotation for one in inside if isinstance(one, ast.AnnAssign)))
        return fields.union(*(annotated(one) for one in inside if isinstance(one, ast.FunctionDef)))
    if isinstance(node, ast.AnnAssign):
        return named(node.annotation)
    return named(node.value) if isinstance(node, ast.Assign) else set()


def named(*annotations: ast.AST | None) -> set[str]:
    """Names that stand in annotations."""
    walked = (node for one in annotations if one for node in ast.walk(one))
    return {node.id for node in walked if isinstance(node, ast.Name)}


@dataclass(frozen=True)
class Figures:
    """How some modules read.

    Attributes:
        characters: of a code line, the mean.
        long_line: characters of a code line that a tenth of them exceed.
        comments: share of code lines and comment lines that have a comment.
        functions: per 1,000 lines of files.
        public: functions at the top of a module without an underscore.
        unused: those of them that no other module uses.
        used_once: functions at the top of a module that stand in one place, as a share of them.
        skips: lines that the formatter leaves alone.
    """

    characters: float
    long_line: float
    comments: float
    functions: float
    public: int
    unused: int
    used_once: float
    skips: int


def figures(modules: dict[str, Module], packages: tuple[str, ...]) -> Figures:
    """Figures of packages; every module that is given counts as a user of their names."""
    ours = [one for name, one in modules.items() if name.partition(".")[0] in packages]
    lengths, commented = [], 0
    for module in ours:
        own_lengths, comments = read_lines(module)
        lengths += own_lengths
        commented += comments
    spread = sorted(lengths)
    every = [node for one in ours for node in one.nodes if is_function(node)]
    top = [
        f"{one.name}.{name}"
        for one in ours
        for name, node in one.defined.items()
        if is_function(node)
    ]
    public = [name for name in top if not name.rpartition(".")[2].startswith("_")]
    readers, times = users(modules), Counter[str]()
    for module in modules.values():
        times.update(module.uses)
    return Figures(
        characters=statistics.mean(lengths),
        long_line=spread[int(0.9 * (len(spread) - 1))],
        comments=commented / len(lengths),
        functions=1000 * len(every) / sum(len(one.text.splitlines()) for one in ours),
        public=len(public),
        unused=sum(not readers[name] - {name.rpartition(".")[0]} for name in public),
        used_once=sum(times[name] == 1 for name in top) / len(top),
        skips=sum(one.text.count("# fmt: skip") for one in ours),
    )


def is_function(node: ast.AST) -> bool:
    """A function or a method."""
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def read_lines(module: Module) -> tuple[list[int], int]:
    """Characters of every code line, and how many comments a reader has."""
    remarks = {
        line
        for node in module.nodes
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = list(tokenize.generate_tokens(io.StringIO(module.text).readline))
    silent = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    held = {
        line
        for token in tokens
        if token.type not in silent
        for line in range(token.start[0], token.end[0] + 1)
    }
    lines = module.text.splitlines()
    lengths = [len(lines[line - 1].rstrip()) for line in sorted(held - remarks)]
    said = (token.string for token in tokens if token.type == tokenize.COMMENT)
    return lengths, sum(not text.startswith(TO_TOOLS) for text in said)


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = Path(__file__).resolve().parent.parent
    parser.add_argument("--of", type=Path, default=here, help="another checkout")
    root = parser.parse_args().of.resolve()
    modules = read(root)
    for packages in (*((package,) for package in PACKAGES), PACKAGES):
        found = figures(modules, packages)
        print("whole" if len(packages) > 1 else packages[0])
        print(f"    characters per code line      {found.characters:6.1f}")
        print(f"    p90 line length               {found.long_line:6.0f}")
        print(f"    comment share                 {found.comments:6.1%}")
        print(f"    functions per 1,000 lines     {found.functions:6.1f}")
        print(f"    public functions              {found.public:6}")
        print(f"    of these used by nobody else  {found.unused:6}")
        print(f"    functions used once           {found.used_once:6.1%}")
        print(f"    fmt: skip                     {found.skips:6}")
    page = (root / FRONT_PAGE).read_text(encoding="utf-8")
    pictures = len(re.findall(r"!\[|<img ", page))
    links = len(re.findall(r"(?<!!)\[[^\]]*\]\(|<a ", page))
    print(f"{FRONT_PAGE}: {len(page.splitlines())} lines, {pictures} pictures, {links} links")
    print(f"python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}")


if __name__ == "__main__":
    main()
