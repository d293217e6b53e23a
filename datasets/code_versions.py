"""What code computes, as a hash: the syntax tree without what only readers of the code see.

Records and stores name the versions that code declares (``VERSION = 2`` beside it), never a hash of
its text. A lock file in the tests holds each version beside the hash of its code, so that code that
changed under its old version fails there, while moving a file or mending a docstring changes
nothing. The hash is the same on every supported Python.
"""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache

_UNSEEN_FIELDS = frozenset(
    {"ctx", "kind", "type_comment", "annotation", "returns", "type_params", "simple"}
)
_UNSEEN_STATEMENTS = frozenset({"Import", "ImportFrom", "Pass", "TypeAlias"})


@lru_cache(maxsize=256)
def syntax_hash(text: str) -> str:
    """Hash (16 hex digits) of a module's syntax tree without docstrings, comments, imports,
    annotations and format.

    Left out are imports, ``__all__``, constants that stand alone, ``pass``, ``if TYPE_CHECKING``
    and annotations. A field of a class body (``size: int = 3``) keeps its name and value, because
    dataclasses and models are made of them; elsewhere ``size: int = 3`` counts as ``size = 3``.

    Args:
        text: the module's text.

    Raises:
        SyntaxError: the text is no Python.
    """
    return hashlib.sha256(_text(ast.parse(text)).encode()).hexdigest()[:16]


# --- the tree as text: written here because `ast.dump` and `ast.unparse` differ between versions of
# Python ---


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        # ascii: what repr escapes depends on the version
        return f"{type(node.value).__name__} {node.value!a}"
    if isinstance(node, ast.JoinedStr):
        return _joined_text(node)
    fields = list[str]()
    for name, value in ast.iter_fields(node):
        text = (
            ""
            if name in _UNSEEN_FIELDS
            else _value_text(value, in_class=isinstance(node, ast.ClassDef))
        )
        fields += [f"{name}={text}"] * bool(text)
    return f"{type(node).__name__}({','.join(fields)})"


def _joined_text(node: ast.JoinedStr) -> str:
    """An f-string; its constant parts are joined,
    because versions of Python split them differently.
    """
    parts = [""]
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts[-1] += str(value.value)
        else:
            parts += [_text(value), ""]
    return f"f-string {parts!a}" if len(parts) > 1 else f"str {parts[0]!a}"


def _value_text(value: object, *, in_class: bool) -> str:
    """A field's value; empty for what need not be written: none, an empty list,
    a block that does nothing.
    """
    if isinstance(value, ast.AST):
        return _text(value)
    if isinstance(value, list):
        kept = [
            _item_text(item, in_class=in_class)
            for item in value
            if not _is_unseen(item, in_class=in_class)
        ]
        return f"[{','.join(kept)}]" if kept else ""
    return "" if value is None else ascii(value)


def _item_text(item: object, *, in_class: bool) -> str:
    if not isinstance(
        item, ast.AST
    ):  # a name; or None, the default of a keyword-only parameter that has none
        return ascii(item)
    if isinstance(item, ast.AnnAssign) and item.value and not (in_class and _is_field(item)):
        return _text(ast.Assign(targets=[item.target], value=item.value))
    return _text(item)


def _is_unseen(item: object, *, in_class: bool) -> bool:
    """Statements that compute nothing."""
    if isinstance(item, ast.Expr):  # a docstring, or the text below a constant
        return isinstance(item.value, ast.Constant)
    if isinstance(item, ast.AnnAssign):
        return item.value is None and not (in_class and _is_field(item))
    if isinstance(item, ast.Assign):
        return [_last_name(target) for target in item.targets] == ["__all__"]
    if isinstance(item, ast.If):
        return _last_name(item.test) == "TYPE_CHECKING" and not item.orelse
    return type(item).__name__ in _UNSEEN_STATEMENTS


def _is_field(item: ast.AnnAssign) -> bool:
    """Whether an annotated name of a class body is one that each instance has."""
    annotation = (
        item.annotation.value if isinstance(item.annotation, ast.Subscript) else item.annotation
    )
    return _last_name(annotation) != "ClassVar"


def _last_name(node: ast.AST) -> str:
    """``c`` of ``c`` and of ``a.b.c``; empty for anything else."""
    return (
        node.id
        if isinstance(node, ast.Name)
        else node.attr
        if isinstance(node, ast.Attribute)
        else ""
    )
