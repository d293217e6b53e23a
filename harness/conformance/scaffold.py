"""`harness new-method NAME`: a small method that works, to be changed into another, and its test.

The two are real files, `templates/my_method.py` and `templates/test_my_method.py`; only their names
are changed.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
from pathlib import Path

from harness.errors import UsageError
from harness.records.store import write_atomically
from harness.registry import Registry, method_name

TEMPLATES = Path(__file__).with_name("templates")


def write_method(name: str, folder: Path) -> tuple[Path, Path]:
    """Write ``<name>.py`` and ``test_<name>.py``, both or none;
    `UsageError` for a bad name or a file that exists.
    """
    module = name.replace("-", "_")
    _check_name(module)
    texts = render(module)
    for path in (paths := (folder / f"{module}.py", folder / f"test_{module}.py")):
        if path.exists():
            raise UsageError(f"new-method: {path} exists already; choose another name or --out")
    try:
        for path, text in zip(paths, texts, strict=True):
            write_atomically(path, text.encode())
    except BaseException:
        paths[0].unlink(missing_ok=True)  # half of it would be in the way of the next try
        raise
    return paths


def render(module: str) -> tuple[str, str]:
    """The text of the method and of its test: the template's, under another name."""
    words = {
        "my_method": module,
        "my-method": method_name(module),
        "MyMethod": "".join(word.capitalize() for word in module.split("_")),
        "My method": module.replace("_", " ").capitalize(),
    }
    named = re.compile("|".join(words))
    method, test = (
        named.sub(lambda found: words[found[0]], (TEMPLATES / file).read_text(encoding="utf-8"))
        for file in ("my_method.py", "test_my_method.py")
    )
    return method, test


def _check_name(module: str) -> None:
    """`UsageError` unless a new plugin file can have that name."""
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", module) or keyword.iskeyword(module):
        raise UsageError(
            f"new-method {module!r}: expected lower-case words joined by '-', starting with a"
            " letter, e.g. my-method"
        )
    if method_name(module) in Registry().methods:
        raise UsageError(
            f"new-method: a method called {method_name(module)!r} exists already; choose another"
            " name"
        )
    if importlib.util.find_spec(module):
        raise UsageError(
            f"new-method: a Python module called {module!r} exists already; choose another name"
        )


def next_commands(method: Path) -> tuple[str, str]:
    """What to type next."""
    name, plugin = method_name(method.stem), shlex.quote(str(method))
    return (
        f"python -m harness check-method {name} --plugin {plugin}",
        f"python -m harness run --methods {name},gfp,skeletonmae --plugin {plugin}",
    )
