"""What one module of `harness` or `datasets` uses alone has a name with an underscore."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.readability import Module, figures, read, unused

ROOT = Path(__file__).parents[1]
KEPT = {
    "COMMANDS of harness.cli.main": "CONTRIBUTING.md says to add a line there",
    "load of datasets.synthetic.twins": "the catalog calls what a module of this name has",
}
"""A public name that nobody imports -> why it is public; as a path, it would be used here."""


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    """This checkout's: what every one uses takes seconds to find."""
    return read(ROOT)


@pytest.mark.parametrize("package", ["harness", "datasets"])
def test_a_public_name_is_used_by_another_module(modules: dict[str, Module], package: str) -> None:
    """Give it an underscore, or use it; an exception that is used is none."""
    kept = {name for name in KEPT if f" of {package}." in name}
    parts = (name.rpartition(".") for name in unused(modules, package))
    assert {f"{name} of {module}" for module, _, name in parts} == kept


MADE_UP = {
    "harness/a.py": """
        LIMIT = 3
        VERSION = 1

        class Answer:
            size: Size

        Size = int

        def answered() -> Answer:
            return _once(LIMIT)

        def _once(size):  # why
            "What it does."

            return size

        def patched(): ...
        def quoted(): ...
        def alone(): ...

        @app.command("show")
        def show_command(): ...
        """,
    "harness/b.py": """
        from harness import a as other
        from harness.a import alone

        def _use():
            return other.answered()
        """,
    "tests/test_a.py": """
        from harness import a

        def test(monkeypatch):
            monkeypatch.setattr(a, "patched", None)
            monkeypatch.setattr("harness.a.quoted", None)
        """,
}


@pytest.fixture
def made_up(tmp_path: Path) -> Path:
    for name, text in MADE_UP.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(line[8:] for line in text.splitlines()))
    return tmp_path


def test_use_is_seen_through_modules_signatures_and_texts(made_up: Path) -> None:
    """What is imported and never read is not used."""
    assert unused(read(made_up), "harness") == ["harness.a.LIMIT", "harness.a.alone"]


def test_figures_of_a_made_up_package(made_up: Path) -> None:
    found = figures(read(made_up), ("harness",))
    assert (found.public, found.unused, found.skips) == (5, 2, 0)
    assert found.used_once == pytest.approx(4 / 7)  # answered, _once, patched, quoted
    assert found.comments == pytest.approx(1 / 18)
