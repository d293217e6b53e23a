"""Finds methods: built-in files, entry points of installed packages, and ``--plugin file.py``.

Names come from file names (``encoder_only.py`` is ``encoder-only``), from entry-point names, or from a class's
own ``name``. Data sets have their own catalog (`datasets.catalog`). A plugin that cannot be loaded is an error
with its reason; an unknown name lists what exists.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

import methods
from harness.errors import UsageError, nearest
from methods.base import Method

METHOD_GROUP = "masked_skeleton.methods"


class Registry:
    """All methods known to this process.

    Attributes:
        methods: name -> method class.
        failures: what could not be loaded -> one-line reason.
    """

    def __init__(self, plugins: list[Path] | None = None) -> None:
        self.methods: dict[str, type[Method]] = {}
        self.failures: dict[str, str] = {}
        for module in _modules_of(methods):
            self._add_methods(module)
        self._add_entry_points()
        for path in plugins or []:
            self._add_plugin(path)

    def method(self, name: str) -> type[Method]:
        """The method class of that name, or a `UsageError` that lists what exists."""
        if name in self.methods:
            return self.methods[name]
        reasons = "".join(f"; {what} did not load: {why}" for what, why in self.failures.items())
        known = ", ".join(sorted(self.methods))
        raise UsageError(f"unknown method {name!r}{nearest(name, self.methods)} (known: {known}){reasons}")

    def _add_methods(self, module: ModuleType) -> int:
        classes = [
            item for item in vars(module).values()
            if inspect.isclass(item) and issubclass(item, Method) and item.__module__ == module.__name__
            and item is not Method and hasattr(item, "about")
        ]  # fmt: skip
        for item in classes:
            self._add_method(item.name or module.__name__.rpartition(".")[2].replace("_", "-"), item)
        return len(classes)

    def _add_method(self, name: str, method: type[Method]) -> None:
        if name in self.methods:
            other = self.methods[name]
            raise UsageError(
                f"two methods are called {name!r}: {other.__module__}.{other.__qualname__} and "
                f"{method.__module__}.{method.__qualname__}; give one of them another `name`"
            )
        self.methods[name] = method

    def _add_entry_points(self) -> None:
        for point in entry_points(group=METHOD_GROUP):
            try:
                self._add_entry_point(point)
            except Exception as error:  # noqa: BLE001 - a foreign package may fail in any way; the reason is kept
                self.failures[f"entry point {point.name!r}"] = one_line(error)

    def _add_entry_point(self, point: EntryPoint) -> None:
        loaded = point.load()
        if not (inspect.isclass(loaded) and issubclass(loaded, Method)):
            raise TypeError(f"{point.value} is not a subclass of methods.base.Method")
        self._add_method(point.name, loaded)

    def _add_plugin(self, path: Path) -> None:
        module = load_plugin(path)
        if not self._add_methods(module):
            raise UsageError(
                f"plugin {path}: no method found; it must define a subclass of methods.base.Method with `about`"
            )


def load_plugin(path: Path) -> ModuleType:
    """Import a plugin file; whatever goes wrong is a one-line `UsageError` with the file and line."""
    if not path.is_file():
        raise UsageError(f"plugin {path}: no such file")
    name = path.stem
    if name in sys.modules and getattr(sys.modules[name], "__file__", None) != str(path.resolve()):
        raise UsageError(f"plugin {path}: a module called {name!r} is already loaded; rename the file")
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"plugin {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"plugin {path} did not load: {one_line(error)}") from error
    return module


def one_line(error: BaseException) -> str:
    """An exception as one line, with the innermost file and line it came from."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})" if trace else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"


def _modules_of(package: ModuleType) -> list[ModuleType]:
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in sorted(names)]
