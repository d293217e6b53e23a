"""The registry: built-in files, plugins, entry points, and what it says when something is wrong."""

from __future__ import annotations

import inspect
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import registry as registry_module
from harness.errors import UsageError
from harness.isolation.guard import Guard
from harness.registry import METHOD_GROUP, Registry, load_plugin, one_line, versions_of
from tests.harness.small_run import plugin_file, registry, small_clips

MINIMAL = """
from methods.base import About, Method

class {cls}(Method):
    about = About(title="{cls}", paper="none")
"""


@pytest.fixture(autouse=True)
def _forget_plugins(tmp_path: Path) -> Iterator[None]:
    """Every test meets plugins as a new process does."""
    yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def plugin(folder: Path, name: str, text: str) -> Registry:
    return Registry([plugin_file(folder, name, text)])


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(UsageError) as error:
        act()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_plugin_put_in_anothers_place_is_what_runs_and_what_is_hashed(tmp_path: Path) -> None:
    """Of the same size and time, as `cp -p` and quick edits leave it."""
    seen = []
    for number in (1, 2):
        text = f"{MINIMAL.format(cls='Mine')}    number = {number}\n"
        file = plugin_file(tmp_path, "twice", text)
        os.utime(file, (1e9, 1e9))
        module = load_plugin(file, Guard())
        seen.append((module.Mine.number, inspect.getsource(module.Mine), versions_of(module.Mine)))
        assert pickle.loads(pickle.dumps(module.Mine)) is module.Mine
    (one, source, before), (two, replaced, after) = seen
    assert (one, two) == (1, 2)
    assert "number = 1" in source
    assert "number = 2" in replaced
    assert before["twice"] != after["twice"]
    assert not (tmp_path / "__pycache__").exists()


# --- built in ---


@pytest.mark.parametrize(
    ("name", "file"),
    [("skeletonmae", "skeletonmae.py"), ("gfp", "gfp.py"), ("encoder-only", "encoder_only.py")],
)
def test_a_file_of_methods_is_a_method_of_that_name(name: str, file: str) -> None:
    method = registry().method(name)
    assert Path(sys.modules[method.__module__].__file__ or "").name == file


def test_shared_parts_are_no_methods() -> None:
    assert (
        not {"base", "encoder", "masks", "tokens", "decoders", "method"} & registry().methods.keys()
    )


def test_an_unknown_method_names_the_nearest_and_all() -> None:
    message = refusal(lambda: registry().method("skeltonmae"))
    assert message.startswith("unknown method 'skeltonmae', did you mean 'skeletonmae'?")
    assert all(name in message for name in registry().methods)


def test_an_unknown_method_whose_file_lies_here_names_the_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_method.py").touch()
    message = refusal(lambda: registry().method("my-method"))
    assert "; if it is in my_method.py: --plugin my_method.py" in message


def test_a_name_like_no_other_has_no_nearest() -> None:
    assert "did you mean" not in refusal(lambda: registry().method("zzzzzz"))


# --- plugins ---


def test_a_plugin_is_a_method_of_its_files_name(tmp_path: Path) -> None:
    found = plugin(tmp_path, "my_own", MINIMAL.format(cls="Mine"))
    assert found.method("my-own").__name__ == "Mine"
    assert found.methods.keys() - registry().methods.keys() == {"my-own"}


def test_a_class_may_have_a_name_of_its_own(tmp_path: Path) -> None:
    found = plugin(tmp_path, "my_own", MINIMAL.format(cls="Mine") + '    name = "better"\n')
    assert found.methods.keys() - registry().methods.keys() == {"better"}


def test_an_imported_method_is_not_the_plugins(tmp_path: Path) -> None:
    found = plugin(tmp_path, "my_own", "from methods.gfp import GFP\n" + MINIMAL.format(cls="Mine"))
    assert found.methods.keys() - registry().methods.keys() == {"my-own"}


def test_a_variant_of_a_method_can_be_a_plugin(tmp_path: Path) -> None:
    found = plugin(
        tmp_path, "variant", "from methods.gfp import GFP\n\nclass Variant(GFP):\n    pass\n"
    )
    assert issubclass(found.method("variant"), registry().method("gfp"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:\n", "SyntaxError"),
        (
            "import no_such_package\n",
            "ModuleNotFoundError: No module named 'no_such_package' (bad.py, line 1)",
        ),
        ("x = 1\n\nprint(1 / 0)\n", "ZeroDivisionError: division by zero (bad.py, line 3)"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines (bad.py, line 1)"),
        ("x = 1\n", "no method found"),
        (
            "from methods.base import Method\nclass Bare(Method):\n    pass\n",
            (
                'no method found; class Bare: write about = About(title="...", paper="none: why")'
                " into it"
            ),
        ),
        (
            "class Loose:\n    def loss(self, x):\n        pass\n",
            "no method found; class Loose: write class Loose(Method), of methods.base",
        ),
    ],
)
def test_a_broken_plugin_is_one_line_with_file_and_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    message = refusal(lambda: plugin(tmp_path, "bad", text))
    assert message.startswith(f"plugin {tmp_path / 'bad.py'}")
    assert reason in message


def test_a_broken_plugin_leaves_no_half_loaded_module(tmp_path: Path) -> None:
    refusal(lambda: plugin(tmp_path, "bad_plugin", "raise ValueError"))
    assert "bad_plugin" not in sys.modules


@pytest.mark.parametrize(("name", "found"), [("missing.py", "no such file"), (".", "a folder")])
def test_a_plugin_that_is_no_file_is_one_line(tmp_path: Path, name: str, found: str) -> None:
    path = tmp_path / name
    assert (
        refusal(lambda: Registry([path]))
        == f"plugin {path}: {found}; give the Python file of a method"
    )


def test_a_plugin_that_is_not_python_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "plugin.txt"
    path.write_text("x = 1\n")
    assert (
        refusal(lambda: Registry([path]))
        == f"plugin {path}: not a Python file; its name must end in .py"
    )


def test_a_plugin_cannot_take_the_name_of_a_loaded_module(tmp_path: Path) -> None:
    message = refusal(lambda: plugin(tmp_path, "json", MINIMAL.format(cls="Mine")))
    assert "a module called 'json' is already loaded; rename the file" in message


def test_a_plugin_cannot_take_the_name_of_a_method(tmp_path: Path) -> None:
    message = refusal(lambda: plugin(tmp_path, "gfp", MINIMAL.format(cls="Mine")))
    assert (
        message
        == "two methods are called 'gfp': methods.gfp.GFP and gfp.Mine; give one of them another"
        " `name`"
    )


def test_two_methods_in_a_file_need_names(tmp_path: Path) -> None:
    text = MINIMAL.format(cls="One") + MINIMAL.format(cls="Two")
    assert "two methods are called 'pair'" in refusal(lambda: plugin(tmp_path, "pair", text))


def test_an_exception_is_one_line_with_the_innermost_place() -> None:
    def inner() -> None:
        raise KeyError("a\n  b")

    with pytest.raises(KeyError) as error:
        inner()
    line = inner.__code__.co_firstlineno + 1
    assert one_line(error.value) == f"KeyError: 'a\\n b' (test_registry.py, line {line})"


# --- entry points ---


def entry_points(monkeypatch: pytest.MonkeyPatch, group: str, **points: Callable[[], Any]) -> None:
    """Pretend that installed packages offer these."""
    offered = [
        SimpleNamespace(
            name=name.replace("_", "-"), group=group, value=f"outside:{name}", load=load
        )
        for name, load in points.items()
    ]
    monkeypatch.setattr(
        registry_module, "entry_points", lambda group: offered if group == wanted else []
    )
    wanted = group


def broken() -> None:
    raise ImportError("libgreat.so is missing")


def test_an_entry_point_is_a_method_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    method = registry().method("gfp")
    entry_points(monkeypatch, METHOD_GROUP, from_outside=lambda: method)
    found = Registry()
    assert found.method("from-outside") is method
    assert found.failures == {}


def test_an_entry_point_that_fails_harms_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, METHOD_GROUP, great=broken)
    found = Registry()
    assert found.methods.keys() == registry().methods.keys()


def test_an_unknown_name_tells_which_entry_point_failed_and_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry_points(monkeypatch, METHOD_GROUP, great=broken)
    message = refusal(lambda: Registry().method("great"))
    assert "unknown method 'great'" in message
    assert "entry point 'great' did not load: ImportError: libgreat.so is missing" in message


def test_an_entry_point_cannot_take_the_name_of_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, METHOD_GROUP, gfp=lambda: registry().method("skeletonmae"))
    found = Registry()
    assert found.method("gfp") is registry().method("gfp")
    assert "two methods are called 'gfp'" in found.failures["entry point 'gfp'"]


def test_an_entry_point_that_is_no_method_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_points(monkeypatch, METHOD_GROUP, great=lambda: small_clips)
    message = refusal(lambda: Registry().method("great"))
    assert "entry point 'great' did not load" in message
