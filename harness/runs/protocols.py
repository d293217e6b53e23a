"""Finds protocols: built-in files, entry points of installed packages, and ``--plugin file.py``, as
methods are found.

Names come from file names (``linear_mamp.py`` is ``linear-mamp``), from entry-point names, or from
a class's own ``name``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Collection, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import UsageError, nearest, one_line
from harness.evaluation import protocols
from harness.evaluation.protocol import Protocol, ProtocolOptions
from harness.registry import Registry
from harness.spec.model import MethodSpec, build, parse_specs

_GROUP = "masked_skeleton.protocols"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
"""What a protocol may be called: its records are files of that name."""


class Protocols:
    """All protocols known to this process.

    Args:
        plugins: modules of plugins (`harness.registry.Registry.plugins`).

    Attributes:
        protocols: name -> class.
        failures: what could not be loaded -> one-line reason.
    """

    def __init__(self, plugins: Iterable[ModuleType] = ()) -> None:
        self.protocols: dict[str, type[Protocol[Any]]] = {}
        self.failures: dict[str, str] = {}
        for file in sorted(info.name for info in pkgutil.iter_modules(protocols.__path__)):
            self._add_all(importlib.import_module(f"{protocols.__name__}.{file}"))
        for point in entry_points(group=_GROUP):
            try:
                loaded = point.load()
                if not (inspect.isclass(loaded) and issubclass(loaded, Protocol)):
                    raise TypeError(
                        f"{point.value} is not a subclass of {Protocol.__module__}.Protocol"
                    )
                self._add(point.name, loaded)
            except Exception as error:  # noqa: BLE001 - a foreign package may fail in any way; the reason is kept
                self.failures[f"entry point {point.name!r}"] = one_line(error)
        for module in plugins:
            self._add_all(module)

    def protocol(self, spec: MethodSpec) -> Protocol[Any]:
        """The protocol that a spec asks for; a `UsageError` lists what exists,
        or names the misspelt option.
        """
        if spec.name not in self.protocols:
            reasons = "".join(
                f"; {what} did not load: {why}" for what, why in self.failures.items()
            )
            known = ", ".join(sorted(self.protocols))
            raise UsageError(
                f"unknown protocol {spec.name!r}{nearest(spec.name, self.protocols)} (known:"
                f" {known}){reasons}"
            )
        found = self.protocols[spec.name]
        return found(build(found.Options, spec.options, f"protocol {spec.name}"))

    def parse(self, text: str) -> dict[str, Protocol[Any]]:
        """``linear,semi:ratio=0.1`` as protocols by their spec, in order,
        each once however it was written.
        """
        asked = [self.protocol(spec) for spec in parse_specs(text, "--protocols", "linear,knn")]
        return {self.spec_of(protocol): protocol for protocol in asked}

    def name_of(self, protocol: type[Protocol[Any]]) -> str:
        """The name of a class."""
        return next(name for name, one in self.protocols.items() if one is protocol)

    def spec_of(self, protocol: Protocol[Any]) -> str:
        """Name and the options that differ from the default, ``semi:ratio=0.1``."""
        default = type(protocol).Options().model_dump(mode="json")
        plain = protocol.options.model_dump(mode="json")
        changed = {key: value for key, value in plain.items() if value != default[key]}
        return str(MethodSpec(name=self.name_of(type(protocol)), options=changed))

    def _add_all(self, module: ModuleType) -> None:
        for item in vars(module).values():
            if _is_protocol(item) and item.__module__ == module.__name__:
                self._add(item.name or module.__name__.rpartition(".")[2].replace("_", "-"), item)

    def _add(self, name: str, protocol: type[Protocol[Any]]) -> None:
        where = f"{protocol.__module__}.{protocol.__qualname__}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UsageError(
                f"protocol {where}: expected a name of small letters, digits and hyphens, found"
                f" {name!r}"
            )
        if name in self.protocols:
            other = self.protocols[name]
            raise UsageError(
                f"two protocols are called {name!r}: {other.__module__}.{other.__qualname__} and"
                f" {where}; give one of them another `name`"
            )
        if not issubclass(protocol.Options, ProtocolOptions):
            raise UsageError(
                f"protocol {where}: expected Options on ProtocolOptions, found {protocol.Options!r}"
            )
        self.protocols[name] = protocol


def registry_with_protocols(plugins: list[Path] | None, *, rows: Collection[str] = ()) -> Registry:
    """A registry of methods whose plugins may hold protocols instead."""
    return Registry(plugins, rows=rows, besides=(Protocol,))


def _is_protocol(item: object) -> bool:
    """A class that says what it is, on `Protocol`."""
    return (
        inspect.isclass(item)
        and issubclass(item, Protocol)
        and item is not Protocol
        and hasattr(item, "about")
    )
