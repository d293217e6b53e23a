"""Plugins of the first release import shared parts by the names that they had then."""

from __future__ import annotations

import importlib
import sys

import pytest

import methods
from methods.parts import masks


@pytest.mark.parametrize("name", methods.MOVED)
def test_a_part_is_found_under_its_earlier_name_with_a_warning(name: str) -> None:
    sys.modules.pop(f"methods.{name}", None)
    with pytest.warns(
        DeprecationWarning, match=rf"^methods\.{name} is now methods\.parts\.{name}$"
    ):
        found = importlib.import_module(f"methods.{name}")
    assert found is importlib.import_module(f"methods.parts.{name}")
    assert found.__name__ == found.__spec__.name == f"methods.parts.{name}"  # type: ignore[union-attr]


def test_names_can_be_imported_from_it() -> None:
    sys.modules.pop("methods.masks", None)
    with pytest.warns(DeprecationWarning, match=r"methods\.masks is now"):
        from methods.masks import random_mask  # type: ignore[import-not-found]
    assert random_mask is masks.random_mask


def test_other_names_are_not_there() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("methods.nothing")
