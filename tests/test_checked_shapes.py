"""Shapes in annotations: checked in the test run and nowhere else, in words of one vocabulary."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from jaxtyping import Float, TypeCheckError

import methods.base
from datasets.batches import rotate
from datasets.clip_batches import ClipBatch
from methods.parts.tokens import frame_motion, patchify, take
from tests import checked_shapes
from tests.checked_shapes import MODULES, SHAPE, typechecker

ROOT = Path(__file__).parents[1]
DTYPES = {
    name
    for name, item in vars(jaxtyping).items()
    if isinstance(item, type) and issubclass(item, jaxtyping.AbstractDtype)
}
FILES = sorted(
    path
    for module in MODULES
    for path in [*ROOT.glob(f"{module.replace('.', '/')}.py"), *(ROOT / module).rglob("*.py")]
)
TEMPLATES = sorted((ROOT / "harness/conformance/templates").glob("m*.py"))


def test_a_wrong_shape_is_an_error() -> None:
    with pytest.raises(TypeCheckError, match="patchify"):
        patchify(torch.zeros(2, 4, 3), 2)


def test_axes_of_one_name_have_one_size() -> None:
    tokens, index = torch.zeros(2, 6, 3), torch.zeros(3, 1, dtype=torch.long)
    with pytest.raises(TypeCheckError, match="take"):
        take(tokens, index)


def test_another_dtype_is_an_error() -> None:
    with pytest.raises(TypeCheckError, match="frame_motion"):
        frame_motion(torch.zeros(1, 2, 3, 3, dtype=torch.long))


def test_batches_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="rotate"):
        rotate(torch.zeros(2, 4, 5, 3), torch.zeros(3, 3), 0.3)


def test_fields_of_a_data_class_are_checked() -> None:
    clips, x, row = torch.arange(1), torch.zeros(2, 4, 5, 3), torch.arange(3)
    with pytest.raises(TypeCheckError, match="row"):
        ClipBatch(clips, x, row, row)


def test_a_call_like_one_before_is_not_checked_again() -> None:
    answers = [torch.zeros(2), torch.zeros(3), torch.zeros(3), torch.zeros(3)]

    def function(x: Float[torch.Tensor, " B"], size: int) -> Float[torch.Tensor, " B"]:
        del x, size
        return answers.pop(0)

    decorate = checked_shapes.unless_compiled(checked_shapes.jaxtyped, typechecker=typechecker)
    call, x = decorate(function), torch.zeros(2)
    for _ in range(2):
        call(x, 1)  # the second answer is wrong, and nobody looks
    for others in ((x, 2), (x.double(), 1)):
        with pytest.raises(TypeCheckError):
            call(*others)
    assert answers == []


def test_nothing_is_checked_elsewhere() -> None:
    code = (
        "import sys, torch; from methods.parts.tokens import frame_motion;"
        "print(tuple(frame_motion(torch.zeros(2, 3)).shape), 'beartype' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "(2, 3) False"


def annotations(path: Path) -> Iterator[ast.expr]:
    """Of every argument, result and field in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found = node.annotation
        else:
            found = node.returns if isinstance(node, ast.FunctionDef) else None
        if found is not None:
            yield found


def test_a_name_that_is_not_there_is_an_error() -> None:
    def function(x: Float[Missing, "B T"]) -> None:  # noqa: F821
        del x

    decorate = checked_shapes.unless_compiled(jaxtyping.jaxtyped, typechecker=typechecker)
    with pytest.raises(NameError, match="Missing"):
        decorate(function)


def shapes(path: Path) -> Iterator[tuple[str, str]]:
    """Dtype and axes of every shape in a file."""
    for annotation in annotations(path):
        for node in ast.walk(annotation):
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) in DTYPES:
                assert isinstance(node.slice, ast.Tuple)
                yield ast.unparse(node.value), ast.literal_eval(node.slice.elts[1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_dtype_that_a_shape_has_is_checked(path: Path) -> None:
    assert {dtype for dtype, _ in shapes(path) if not SHAPE.search(f"{dtype}[")} == set()


@pytest.mark.parametrize("path", [*FILES, *TEMPLATES], ids=lambda path: path.name)
def test_the_letters_of_shapes_are_those_that_the_contract_explains(path: Path) -> None:
    explained = set(re.findall(r"^    (\w{1,3})  ", methods.base.__doc__ or "", flags=re.MULTILINE))
    assert {"B", "T", "V", "L", "K", "D", "_"} <= explained
    # what stands in braces is an expression of arguments
    used = (re.findall(r"[A-Za-z_]\w*", re.sub(r"\{.*?\}", "", axes)) for _, axes in shapes(path))
    assert {letter for found in used for letter in found} <= explained


@pytest.mark.parametrize("path", [*FILES, *TEMPLATES], ids=lambda path: path.name)
def test_no_tensor_is_without_a_shape(path: Path) -> None:
    """But a state, which is whatever somebody keeps, and what a hook is handed."""
    allowed = ("dict[str, Tensor]", "tuple[Tensor, ...]", "Dataset[Tensor]", "Iterator[Tensor]")
    bare = [
        text
        for node in annotations(path)
        for text in [ast.unparse(node)]
        if re.search(r"\bTensor\b(?!, ')", text) and not text.startswith(allowed)
    ]
    assert bare == []
