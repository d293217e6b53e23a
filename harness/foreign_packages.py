"""Other packages that have the names of the suite's own, `datasets` and `methods`.

Python takes what comes first on its path: a module of the working directory, of PYTHONPATH, or an
installed package such as Hugging Face's ``datasets``. The check comes before anything imports
either, and so imports nothing of ours.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

_NAMES = ("datasets", "methods")


def check_packages() -> None:
    """`ImportError` with one line unless ``import`` gives the suite's own packages,
    those beside this one.
    """
    root = Path(__file__).parents[1]
    for name in _NAMES:
        own, found = root / name / "__init__.py", _where(name)
        if not own.exists():
            raise ImportError(f"the suite's folder {root} has no {name}/__init__.py; restore it")
        if not (found and found.exists() and found.samefile(own)):
            raise ImportError(
                f"another package called {name!r} ({found}) shadows the suite's own; "
                f"run `python -m harness` from {root}, or in an environment without that package"
            )


def _where(name: str) -> Path | None:
    """What ``import name`` gives, not imported for that: a file,
    the folder of a namespace package, None without.
    """
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
    elif spec := find_spec(name):
        file = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    else:
        file = None
    return Path(file) if file else None
