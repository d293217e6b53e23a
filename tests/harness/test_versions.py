"""Versions of the code in records: declared, or a plugin's syntax."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.records.versions import LOOP, TIMING, versions_here
from harness.registry import Registry, versions_of, versions_of_modules
from methods.parts import attention, encoder
from tests.harness.small_run import plugin_file, registry

PLUGIN = """
from methods.base import About, Method
from methods.parts.masks import random_mask

class Mine(Method):
    about = About(title="Mine", paper="none")
    factor = 2
"""


@pytest.fixture(autouse=True)
def _forget_plugins(tmp_path: Path) -> Iterator[None]:
    yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def version_of_plugin(folder: Path, name: str, text: str) -> str:
    return versions_of(Registry([plugin_file(folder, name, text)]).method(name))[name]


def test_a_method_is_built_on_its_file_and_all_shared_parts_under_it() -> None:
    found = versions_of(registry().method("mamp"))
    assert found.keys() == {
        "mamp",
        "base",
        "decoders",
        "encoder",
        "kernels",
        "masks",
        "options",
        "tokens",
    }


def test_what_a_compiler_leaves_in_a_module_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = versions_of(registry().method("mamp"))
    monkeypatch.setattr(
        encoder, "__import_methods_dot_parts_dot_attention", attention, raising=False
    )
    assert versions_of(registry().method("mamp")) == before


def test_every_built_in_module_declares_its_version() -> None:
    found = [versions_of(method) for method in registry().methods.values()]
    found += [versions_of_modules(LOOP), versions_of_modules(TIMING)]
    assert {
        name: version
        for versions in found
        for name, version in versions.items()
        if not version.isdecimal()
    } == {}


def test_a_plugin_is_known_by_its_syntax_unless_it_declares_a_version(tmp_path: Path) -> None:
    plain = version_of_plugin(tmp_path, "one", PLUGIN)
    assert version_of_plugin(tmp_path, "two", f'"""Words."""\n{PLUGIN}# more words\n') == plain
    assert version_of_plugin(tmp_path, "three", PLUGIN.replace("factor = 2", "factor = 3")) != plain
    assert version_of_plugin(tmp_path, "four", f"{PLUGIN}\nVERSION = 7\n") == "7"


def test_the_versions_read_from_text_are_those_that_records_of_built_in_methods_keep() -> None:
    kept = versions_of_modules(LOOP)
    for method in registry().methods.values():
        if method.__module__.startswith("methods."):
            kept |= versions_of(method)
    assert versions_here() | kept == versions_here()
