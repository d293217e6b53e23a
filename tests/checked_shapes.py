"""In the test run, annotated shapes are checked: jaxtyping's import hook with beartype.

Checked is every function and every dataclass of the modules below that names a shape: types, dtypes
and axes of what goes in and out. Nowhere else is anything checked, and annotations cost nothing.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any, get_type_hints

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

MODULES = ("methods", "datasets.batches", "datasets.clip_batches", "datasets.published_feeder")
SHAPE = re.compile(r"\b(Bool|Float(32|64)?|Int|Num)\[")
"""The dtypes that our annotations have; a test says that there are no others."""

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float too
jaxtyped = jaxtyping.jaxtyped


def install() -> None:
    """From here on, modules that are imported are checked.

    Raises:
        RuntimeError: one of them is already loaded, without its checks.
    """
    if loaded := [name for name in MODULES if name in sys.modules]:
        raise RuntimeError(f"expected to come before any import of {', '.join(loaded)}")
    jaxtyping.jaxtyped = functools.partial(unless_compiled, jaxtyped)  # what the hook decorates by
    jaxtyping.install_import_hook(MODULES, f"{__name__}.typechecker")


def unless_compiled(decorate: Callable[..., Any], *, typechecker: Callable[..., Any]) -> Any:
    """A decorator that checks a function or a data class, except inside what torch compiles.

    The compiler would follow the checks, break the graph at them, and take the wrappers of
    different functions for one, as they share their code (jaxtyping's issue 384).

    Raises:
        NameError: an annotation has a name that is not there yet.
    """

    def decorated(item: Any) -> Any:
        if not SHAPE.search(str(inspect.get_annotations(item))):
            return item
        get_type_hints(item)  # jaxtyping checks nothing where a name is missing
        checked = decorate(item, typechecker=typechecker)
        if inspect.isclass(item):
            return checked

        @functools.wraps(item)
        def call(*arguments: Any, **named: Any) -> Any:
            function = item if torch.compiler.is_compiling() else checked
            return function(*arguments, **named)

        call.__code__ = call.__code__.replace(co_name=item.__name__)  # its own
        return call

    return decorated
