"""In the test run, annotated shapes are checked: jaxtyping's import hook with beartype.

Checked is every function and every dataclass of the modules below that names a shape: types, dtypes
and axes of what goes in and out. Nowhere else is anything checked, and annotations cost nothing.

A check takes as long as a layer does. In one test it is left out for a call like one before it: the
same function of the same object, arguments of the same shapes and dtypes.
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
from torch import Tensor

MODULES = ("methods", "datasets.batches", "datasets.clip_batches", "datasets.published_feeder")
SHAPE = re.compile(r"\b(Bool|Float(32|64)?|Int|Num)\[")
"""The dtypes that our annotations have; a test says that there are no others."""

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float too
jaxtyped = jaxtyping.jaxtyped
checked_calls = set[tuple[object, ...]]()
"""Of the test that runs; `conftest` forgets them after each."""


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
            if torch.compiler.is_compiling():
                return item(*arguments, **named)
            key = (item, *map(likeness, arguments), *named, *map(likeness, named.values()))
            if key in checked_calls:
                return item(*arguments, **named)
            found = checked(*arguments, **named)
            checked_calls.add(key)
            return found

        call.__code__ = call.__code__.replace(co_name=item.__name__)  # its own
        return call

    return decorated


def likeness(argument: Any) -> object:
    """What two arguments have in common if shapes that depend on them are the same."""
    if isinstance(argument, Tensor):
        return argument.shape, argument.dtype
    if isinstance(argument, tuple | list):
        return type(argument), *map(likeness, argument)
    if isinstance(argument, int | str | None):
        return argument
    return type(argument) if isinstance(argument, float) else id(argument)
