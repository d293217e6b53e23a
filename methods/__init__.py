"""Masked pre-training methods: one file each, built from the shared parts in `methods.parts`, under
`methods.base`.

Nothing here imports `harness` or `datasets`. The harness finds every file of this folder that holds
a `Method`. Plugins of the first release import the shared parts from here
(``from methods.masks import random_mask``): one finder keeps those names for a release, with a
deprecation warning.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = ("tokens", "masks", "encoder", "decoders", "teachers", "graph")
"""Modules that stood here in the first release and are in `methods.parts`."""


class EarlierNames(MetaPathFinder, Loader):
    """Finds ``methods.masks`` where `methods.parts.masks` is:
    the same module under its earlier name.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for an earlier name, None for any other."""
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, self) if package == __name__ and name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its present name."""
        present = f"{__name__}.parts.{spec.name.rpartition('.')[2]}"
        warnings.warn(f"{spec.name} is now {present}", DeprecationWarning, stacklevel=2)
        module = import_module(present)
        self.own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run; the import system has just put the earlier name into the module,
        its own goes back.
        """
        module.__spec__ = self.own_spec


if not any(type(finder).__name__ == EarlierNames.__name__ for finder in sys.meta_path):
    sys.meta_path.append(EarlierNames())
