"""Finds methods: built-in files, entry points of installed packages, and ``--plugin file.py``.

Names come from file names (``encoder_only.py`` is ``encoder-only``), from entry-point names, or
from a class's own ``name``. Data sets have their own catalog (`datasets.catalog`). A plugin that
cannot be loaded is an error with its reason, or, in a run of several methods, a row that fails with
it; an unknown name lists what exists.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import linecache
import pkgutil
import sys
from collections.abc import Collection
from importlib.machinery import SourceFileLoader
from importlib.metadata import EntryPoint, entry_points
from importlib.util import decode_source
from io import StringIO
from pathlib import Path
from types import CodeType, ModuleType

import methods
from datasets.code_versions import syntax_hash
from harness.errors import UsageError, nearest, one_line
from harness.isolation.guard import Guard, stand_in
from harness.isolation.mistakes import mistake
from harness.spec.model import MethodSpec, build
from methods.base import Method, MethodOptions

METHOD_GROUP = "masked_skeleton.methods"


class Registry:
    """All methods known to this process.

    Args:
        plugins: files of methods.
        rows: methods of a run; one of them that does not load becomes a stand-in, whose row fails.
        besides: classes that a plugin may hold instead of a method.

    Attributes:
        methods: name -> method class.
        failures: what could not be loaded -> one-line reason.
        loaded: guards of the methods' imports.
        plugins: the plugins' modules.
    """

    def __init__(
        self,
        plugins: list[Path] | None = None,
        *,
        rows: Collection[str] = (),
        besides: tuple[type, ...] = (),
    ) -> None:
        self.methods: dict[str, type[Method]] = {}
        self.failures: dict[str, str] = {}
        self.loaded: dict[str, Guard] = {}
        self.rows, self.besides = rows, besides
        self.plugins: list[ModuleType] = []
        for file in sorted(info.name for info in pkgutil.iter_modules(methods.__path__)):
            self._add_built_in(file)
        self._add_entry_points()
        for path in plugins or []:
            self._add_plugin(path)

    def method(self, name: str) -> type[Method]:
        """The method class of that name, or a `UsageError` that lists what exists."""
        if name in self.methods:
            return self.methods[name]
        reasons = "".join(f"; {what} did not load: {why}" for what, why in self.failures.items())
        known = ", ".join(sorted(self.methods))
        if name.endswith(".py"):
            row = method_name(Path(name).stem)
            raise UsageError(
                f"unknown method {name!r}: give the file as --plugin {name}, and its method as"
                f" {row}"
            )
        file = Path(f"{name.replace('-', '_')}.py")
        here = f"; if it is in {file}: --plugin {file}" if file.is_file() else ""
        raise UsageError(
            f"unknown method {name!r}{nearest(name, self.methods)} (known: {known}){here}{reasons}"
        )

    def guard(self, name: str) -> Guard:
        """A guard for a row of a method, with what it was warned of when it was loaded."""
        return Guard(list(self.loaded[name].warnings) if name in self.loaded else [])

    def _add_built_in(self, file: str) -> None:
        guard = Guard()
        try:
            with guard("import"):
                module = importlib.import_module(f"{methods.__name__}.{file}")
        except Exception as error:  # noqa: BLE001 - a file that somebody put there; the others load
            self._did_not_load(method_name(file), f"{methods.__name__}/{file}.py", one_line(error))
        else:
            self._add_methods(module, guard)

    def _did_not_load(self, name: str, what: str, reason: str) -> None:
        self.failures[what] = reason
        if name in self.rows:
            self.methods.setdefault(name, stand_in(name, f"{what} did not load: {reason}"))

    def _add_methods(self, module: ModuleType, guard: Guard) -> int:
        classes = [
            item
            for item in vars(module).values()
            if inspect.isclass(item)
            and issubclass(item, Method)
            and item.__module__ == module.__name__
            and item is not Method
            and hasattr(item, "about")
        ]
        for item in classes:
            self._add_method(
                item.name or method_name(module.__name__.rpartition(".")[2]), item, guard
            )
        return len(classes)

    def _add_method(self, name: str, method: type[Method], guard: Guard) -> None:
        if not isinstance(name, str):
            raise UsageError(
                f"{method.__module__}.{method.__qualname__}.name: expected a string, found {name!r}"
            )
        if name in self.methods:
            other = self.methods[name]
            raise UsageError(
                f"two methods are called {name!r}: {other.__module__}.{other.__qualname__} and "
                f"{method.__module__}.{method.__qualname__}; give one of them another `name`"
            )
        self.methods[name], self.loaded[name] = method, guard

    def _add_entry_points(self) -> None:
        for point in entry_points(group=METHOD_GROUP):
            try:
                self._add_entry_point(point)
            except Exception as error:  # noqa: BLE001 - a foreign package may fail in any way; the reason is kept
                self._did_not_load(point.name, f"entry point {point.name!r}", one_line(error))

    def _add_entry_point(self, point: EntryPoint) -> None:
        guard = Guard()
        with guard("import"):
            loaded = point.load()
        if not (inspect.isclass(loaded) and issubclass(loaded, Method)):
            raise TypeError(f"{point.value} is not a subclass of methods.base.Method")
        self._add_method(point.name, loaded, guard)

    def _add_plugin(self, path: Path) -> None:
        guard, row = Guard(), method_name(path.stem)
        try:
            module = load_plugin(path, guard)
        except _DidNotLoad as error:
            if row not in self.rows or row in self.methods:
                raise
            self._did_not_load(row, f"plugin {path}", error.reason)
            return
        self.plugins.append(module)
        if not self._add_methods(module, guard) and not any(
            self._is_besides(item) for item in vars(module).values()
        ):
            raise UsageError(f"plugin {path}: no method found; {_what_is_missing(module)}")

    def _is_besides(self, item: object) -> bool:
        return inspect.isclass(item) and issubclass(item, self.besides) and item not in self.besides


class _DidNotLoad(UsageError):
    """A plugin's code failed when it was imported."""

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(f"plugin {path} did not load: {reason}")


def _what_is_missing(module: ModuleType) -> str:
    """What makes a method of a module without any, as far as its classes tell."""
    own = [
        item
        for item in vars(module).values()
        if inspect.isclass(item) and item.__module__ == module.__name__
    ]
    for item in own:
        if issubclass(item, Method):
            return (
                f'class {item.__name__}: write about = About(title="...", paper="none: why")'
                " into it"
            )
    for item in own:
        if callable(getattr(item, "loss", None)):
            return f"class {item.__name__}: write class {item.__name__}(Method), of methods.base"
    return "it must define a subclass of methods.base.Method with `about`"


def method_name(file: str) -> str:
    """``my_method`` to ``my-method``."""
    return file.replace("_", "-")


class _FromText(SourceFileLoader):
    """Compiles a plugin's text itself.

    Python takes what it compiled before for any text of the same size and second: also for that of
    a file put in another's place, and a record would then hash what did not run.
    """

    def get_code(self, fullname: str) -> CodeType:
        """The code of the text as it is now, which is also what `inspect` then shows."""
        text = self.get_data(self.path)
        code = self.source_to_code(text, self.path)
        lines = StringIO(decode_source(text)).readlines()
        linecache.cache[self.path] = len(text), None, lines, self.path  # None: not read again
        return code


def load_plugin(path: Path, guard: Guard) -> ModuleType:
    """Import a plugin file; whatever goes wrong is a one-line `UsageError`
    with the file and line.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise UsageError(f"plugin {path}: {found}; give the Python file of a method")
    if path.suffix != ".py":
        raise UsageError(f"plugin {path}: not a Python file; its name must end in .py")
    name, file = path.stem, str(path.resolve())
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) != file:
        raise UsageError(
            f"plugin {path}: a module called {name!r} is already loaded; rename the file"
        )
    loader = _FromText(name, file)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with guard("import"):
            loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, Exception):
            raise _DidNotLoad(path, str(mistake(error, path))) from error
        raise
    return module


def method_options(method: type[Method], spec: MethodSpec) -> MethodOptions:
    """Typed options of a spec; a `UsageError` names a misspelt one and the nearest."""
    return build(method.Options, spec.options, f"method {spec.name}")


def versions_of(method: type[Method]) -> dict[str, str]:
    """Module -> version, of the file that defines a method and of all shared parts that it is built
    on.

    Version 0 is that of a part that changes no number in one process, and came after records that
    do not name it.
    """
    found = {_short(module): _version_of(module) for module in _built_on(method.__module__, {})}
    return {name: version for name, version in found.items() if version != "0"}


def versions_of_modules(names: tuple[str, ...]) -> dict[str, str]:
    """Module -> version, of modules by their dotted names."""
    return {_short(module): _version_of(module) for module in map(importlib.import_module, names)}


def _version_of(module: ModuleType) -> str:
    """A module's declared ``VERSION``; without one, the hash of its syntax;
    empty where there is no source.
    """
    declared = getattr(module, "VERSION", None)
    if declared is not None:
        return str(declared)
    try:
        return syntax_hash(inspect.getsource(module))
    except (OSError, TypeError):
        return ""


def _short(module: ModuleType) -> str:
    """A module's own name: it may move from folder to folder."""
    return module.__name__.rpartition(".")[2]


def _built_on(name: str, found: dict[str, ModuleType]) -> list[ModuleType]:
    """A module and, through what it imports, every module of `methods` that it is built on;
    by name.
    """
    if name in found or name not in sys.modules:
        return []
    found[name] = module = sys.modules[name]
    for own, item in vars(module).items():
        if own.startswith(
            "__"
        ):  # torch's compiler leaves modules that a function uses in it, under such names
            continue
        home = item.__name__ if inspect.ismodule(item) else getattr(item, "__module__", None)
        if isinstance(home, str) and home.startswith(f"{methods.__name__}."):
            _built_on(home, found)
    return [found[name] for name in sorted(found)]
