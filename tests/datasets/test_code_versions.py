"""The hash of what code computes: equal for what only its readers see,
different for what changes a result.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from datasets.code_versions import syntax_hash
from tests.versions import built_on, code_hash

PLAIN = '''
"""A module."""

from dataclasses import dataclass
import numpy as np

SCALE = 0.5


@dataclass
class Options:
    size: int = 3
    depth: int


def loss(x, *, weight, floor=0.0):
    """The loss."""
    scaled = x * SCALE
    if scaled < floor:
        return None
    return f"{weight} times {scaled:.2f}"
'''

SAME_IN_OTHER_WORDS = '''
"""Another text,
of two lines."""
from __future__ import annotations
from dataclasses import dataclass as dataclass
from typing import TYPE_CHECKING
import numpy as np; import os
if TYPE_CHECKING:
    from pathlib import Path
__all__ = ["loss"]
SCALE: float = .50      # why
"""A constant's text."""
@dataclass
class Options:
    """Options."""
    size: "int | None" = 3
    depth: float
def loss(x: np.ndarray, *,
         weight: int,
         floor: float = 0.):
    unused: int
    scaled: float = (x
                     * SCALE)
    if (scaled < floor):
        pass
        return (None)
    return f'{weight} ' f'times {scaled:.2f}'
'''

FORMULAS = {
    "x * SCALE": "x / SCALE",
    "SCALE = 0.5": "SCALE = 0.25",
    "SCALE = 0.5\n": "",
    "scaled < floor": "scaled <= floor",
    "return None": "return 0",
    ":.2f": ":.3f",
    "{weight} times": "{weight}  times",
    "{weight}": "{weight!r}",
    "*, weight, floor=0.0": "*, weight=0.0, floor",
    "size: int = 3": "size: int = 4",
    "    depth: int\n": "",
    "@dataclass\n": "",
}


def test_documenting_annotating_formatting_and_importing_change_nothing() -> None:
    assert syntax_hash(SAME_IN_OTHER_WORDS) == syntax_hash(PLAIN)


@pytest.mark.parametrize("old", FORMULAS)
def test_a_changed_formula_changes_the_hash(old: str) -> None:
    assert old in PLAIN
    assert syntax_hash(PLAIN.replace(old, FORMULAS[old])) != syntax_hash(PLAIN)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a = None", "a = ()"),
        ("a = 1", "a = 1.0"),
        ("a = 1", "a = True"),
        ("a = 'b'", "a = b'b'"),
        ("a = 'é'", "a = 'e'"),
        ("f(*a)", "f(a)"),
        ("a = {**b, 1: 2}", "a = {1: 2, **b}"),
        ("a = b[1:]", "a = b[:1]"),
        ("def f(a, /): return a", "def f(a): return a"),
        ("async def f(): return 1", "def f(): return 1"),
        ("class A:\n    x: int = 3", "class A:\n    x = 3"),  # a field of a dataclass, or none
    ],
)
def test_what_differs_in_meaning_differs(one: str, other: str) -> None:
    assert syntax_hash(one) != syntax_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("class A:\n    x: ClassVar[int] = 3", "class A:\n    x = 3"),
        ("a = f'b'", "a = 'b'"),
        ("def f(): 'text'", "def f(): pass"),
        ("if a:\n    b()\nelse:\n    pass", "if a:\n    b()"),
    ],
)
def test_what_means_the_same_is_the_same(one: str, other: str) -> None:
    assert syntax_hash(one) == syntax_hash(other)


def test_every_python_gives_the_same_hash() -> None:
    """Fixed values, made with 3.11, 3.12 and 3.13 alike:
    a version that parses otherwise fails here.
    """
    assert syntax_hash(PLAIN) == "c231149fa3803e17"
    assert (
        syntax_hash("a = 'é\\u200b\\U0001fae8', f'{b!r:>{c}} {{ {d=} }}' 'e' f'{g:}'")
        == "6b300a41f546e946"
    )
    assert syntax_hash("match a:\n    case [1, *_] | B(c=2) if d: e(**f)") == "26014d73b94c896c"


def test_code_is_its_module_and_what_it_imports_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_package(
        tmp_path,
        "made_up_before",
        {"reader": "from {p}.parts import f\na = f(1)", "other": "a = 1"},
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert built_on("made_up_before.reader", "made_up_before") == [
        "made_up_before.parts",
        "made_up_before.reader",
    ]
    before = code_hash("made_up_before.reader", "made_up_before")

    write_package(
        tmp_path,
        "made_up_moved",
        {"rooms": "'Moved.'\nimport {p}.parts\nfrom {p}.parts import f\na = f(1)"},
    )
    assert code_hash("made_up_moved.rooms", "made_up_moved") == before

    (package / "parts.py").write_text("def f(x): return x + 3")
    assert code_hash("made_up_before.reader", "made_up_before") != before


def write_package(folder: Path, name: str, modules: dict[str, str]) -> Path:
    """A package with a module ``parts`` and others, in whose texts ``{p}`` is its name."""
    package = folder / name
    package.mkdir()
    for module, text in {
        "__init__": "",
        "parts": "import os\ndef f(x): return x + 2",
        **modules,
    }.items():
        (package / f"{module}.py").write_text(text.replace("{p}", name))
    assert name not in sys.modules
    return package
