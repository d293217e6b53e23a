"""Declared versions and the code that they stand for: moving and documenting change nothing,
a formula does.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from datasets.code_versions import syntax_hash
from tests import versions
from tests.versions import declared, declared_version, forgotten, locked, outdated, problems

LOCKED = {"methods.parts.masks": ("1", "a" * 16), "reader Bvh": ("2", "b" * 16)}


def test_all_code_is_as_it_was_when_its_version_was_locked() -> None:
    assert "\n".join(problems(locked(), declared())) == ""


def test_readers_preparation_writer_and_methods_are_locked() -> None:
    names = locked().keys()
    assert {
        "reader Ntu60",
        "reader PkuMmd2",
        "datasets.prepare",
        "datasets.store_writing",
        "methods.mamp",
    } <= names


def test_code_that_changed_under_its_version_is_named_with_what_to_do() -> None:
    changed = LOCKED | {"methods.parts.masks": ("1", "c" * 16)}
    (line,) = problems(LOCKED, changed)
    assert line.startswith("methods.parts.masks: the code changed under version 1; raise it if")
    assert line.endswith("if it cannot: python -m tests.versions --same-results")


def test_a_raised_version_asks_for_a_new_lock() -> None:
    raised = LOCKED | {"methods.parts.masks": ("2", "c" * 16)}
    assert forgotten(LOCKED, raised) == []
    assert outdated(LOCKED, raised) == [
        "methods.parts.masks: version 2, locked 1; renew the lock: python -m tests.versions"
    ]


def test_what_is_new_and_what_is_gone_asks_for_a_new_lock() -> None:
    other = {"methods.parts.masks": LOCKED["methods.parts.masks"], "methods.new": ("1", "d" * 16)}
    assert outdated(LOCKED, other) == [
        "methods.new: version 1, locked none; renew the lock: python -m tests.versions",
        "reader Bvh: version none, locked 2; renew the lock: python -m tests.versions",
    ]


def test_the_lock_is_not_renewed_over_forgotten_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "LOCK", tmp_path / "lock.json")
    monkeypatch.setattr(versions, "declared", lambda: LOCKED)
    assert versions.main([]) == 0
    assert locked() == LOCKED
    changed = LOCKED | {"reader Bvh": ("2", "e" * 16)}
    monkeypatch.setattr(versions, "declared", lambda: changed)
    assert versions.main([]) == 1
    assert locked() == LOCKED
    assert versions.main(["--same-results"]) == 0
    assert locked() == changed


class Reworded(ast.NodeTransformer):
    """Other docstrings and no annotations of parameters;
    `ast.unparse` then drops comments and format.
    """

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        return (
            ast.Expr(ast.Constant("Other words.")) if isinstance(node.value, ast.Constant) else node
        )

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)


class NextNumber(ast.NodeTransformer):
    """The first number in an expression is another one."""

    changed = False

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if self.changed or isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return node
        self.changed = True
        return ast.Constant(node.value + 1)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        return node


@pytest.mark.parametrize("folder", ["datasets/raw", "methods"])
def test_every_module_keeps_its_hash_in_other_words_and_loses_it_with_another_number(
    folder: str,
) -> None:
    for path in sorted(Path(versions.__file__).parents[1].glob(f"{folder}/**/*.py")):
        text = path.read_text(encoding="utf-8")
        reworded = ast.unparse(ast.fix_missing_locations(Reworded().visit(ast.parse(text))))
        assert syntax_hash(f"# moved\nimport os\n{reworded}") == syntax_hash(text), path
        number = NextNumber()
        changed = ast.unparse(ast.fix_missing_locations(number.visit(ast.parse(text))))
        assert (syntax_hash(changed) != syntax_hash(text)) == number.changed, path


def test_a_version_is_read_without_importing_the_module() -> None:
    assert declared_version("'''Text.'''\nVERSION = 3\n") == "3"
    assert declared_version("VERSION: int = 4\n") == "4"
    assert declared_version("class A:\n    VERSION = 5\n") == ""
