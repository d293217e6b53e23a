"""Which version of the code ran: what records keep and compare, instead of a hash of text.

Every module that a result follows from declares a ``VERSION``; it changes when the same settings give other numbers, or
another step, and with nothing else: files may move, words may be mended. A test holds declared versions against the
syntax of their modules (tests/versions). A plugin declares a ``VERSION`` or is known by its syntax.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

import methods
from datasets import batches
from datasets import published_feeder as feeder
from datasets.code_versions import syntax_hash
from harness.evaluation import probes
from harness.speed import interleave as speed
from harness.training import clock
from harness.training import trainer as training
from methods.base import Method

LOOP = (training, clock, batches, probes)
"""What trains and evaluates every method."""
TIMING = (training, clock, batches, feeder, speed)
"""What times every method."""


def versions_of(method: type[Method]) -> dict[str, str]:
    """Module -> version, of the file that defines a method and of all shared parts that it is built on."""
    return {_short(module): version_of(module) for module in _built_on(method.__module__, {})}


def versions_of_modules(modules: tuple[ModuleType, ...]) -> dict[str, str]:
    """Module -> version."""
    return {_short(module): version_of(module) for module in modules}


def version_of(module: ModuleType) -> str:
    """A module's declared ``VERSION``; without one, the hash of its syntax; empty where there is no source."""
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
    """A module and, through what it imports, every module of `methods` that it is built on; by name."""
    if name in found or name not in sys.modules:
        return []
    found[name] = module = sys.modules[name]
    for item in vars(module).values():
        home = item.__name__ if inspect.ismodule(item) else getattr(item, "__module__", None)
        if isinstance(home, str) and home.startswith(f"{methods.__name__}."):
            _built_on(home, found)
    return [found[name] for name in sorted(found)]
