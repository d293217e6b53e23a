"""`new-method` writes a method that works and a test that tests it, or nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.conformance import suite
from harness.conformance.scaffold import TEMPLATES, render, write_method
from harness.conformance.suite import CHECKS
from tests.harness.small_run import SMALL, Outcome, harness, small_file
from tests.harness.test_conformance import LESS_SLOW, SLOW

ROOT = Path(__file__).parents[2]


def new_method(name: str, out: Path) -> Outcome:
    return harness("new-method", name, "--out", out)


def test_it_writes_two_files_and_says_what_to_type_next(tmp_path: Path) -> None:
    found = new_method("my-method", tmp_path / "deeper")
    method, test = tmp_path / "deeper" / "my_method.py", tmp_path / "deeper" / "test_my_method.py"
    assert (found.code, found.err) == (0, "")
    assert sorted((tmp_path / "deeper").iterdir()) == [method, test]
    assert found.out.splitlines() == [
        f"wrote {method} and {test}; next:",
        f"    python -m harness check-method my-method --plugin {method}",
        f"    python -m harness run --methods my-method,gfp,skeletonmae --plugin {method}",
    ]


def test_the_commands_that_it_prints_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_conformance` has the same method pass the slow checks too."""
    quick = tuple(check for check in CHECKS if check.name not in SLOW | LESS_SLOW)
    monkeypatch.setattr(suite, "CHECKS", quick)
    printed = new_method("first-steps", tmp_path).out
    check, run = re.findall(r"python -m harness (.*)", printed)
    checked = harness(*check.split())
    assert (checked.code, checked.err) == (0, "")
    assert f"first-steps: {len(quick)} checks passed, 0 failed" in checked.out
    out = tmp_path / "out"
    ran = harness(*run.split(), *SMALL, "--dataset", small_file(tmp_path), "--out", out)
    assert ran.code == 0
    assert "first-steps" in (out / "table.md").read_text()


@pytest.mark.long
def test_the_test_that_it_writes_passes_and_can_fail(tmp_path: Path) -> None:
    method, test = write_method("tried-out", tmp_path)
    some = "loss or seed"  # of the checks; the others pass when the printed command runs them
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(test),
        "-k",
        some,
    ]
    method.write_text(method.read_text().replace("loss.detach()", "loss"))
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "expected part 'coordinates' without a gradient" in found.stdout
    assert re.search("[1-9] failed, [1-9] passed", found.stdout)


def test_both_files_keep_the_repositorys_rules(tmp_path: Path) -> None:
    paths = [str(path) for path in write_method("my-method", tmp_path)]
    for command in (["check"], ["format", "--check"]):
        ruff = [
            sys.executable,
            "-m",
            "ruff",
            *command,
            "--no-cache",
            "--config",
            str(ROOT / "pyproject.toml"),
        ]
        found = subprocess.run([*ruff, *paths], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout


def test_the_templates_are_what_it_writes_under_their_own_name(tmp_path: Path) -> None:
    for path in write_method("my-method", tmp_path):
        assert path.read_text(encoding="utf-8") == (TEMPLATES / path.name).read_text(
            encoding="utf-8"
        )


@pytest.mark.parametrize("module", ["walk", "not_my_method", "my_method_2"])
def test_another_name_takes_the_place_of_the_template_s_and_of_nothing_else(module: str) -> None:
    title, cls = module.replace("_", " ").capitalize(), module.title().replace("_", "")
    method, test = render(module)
    assert method.startswith(f'"""{title}: predict')
    assert f"class {cls}(Method[{cls}Options]):" in method
    assert f'Path(__file__).with_name("{module}.py")]).method("{module.replace("_", "-")}")' in test
    assert f"def test_{module}(" in test
    texts = zip((method, test), render("my_method"), strict=True)
    assert all(len(ours.splitlines()) == len(theirs.splitlines()) for ours, theirs in texts)


def test_the_method_is_a_page() -> None:
    method, _ = render("my_method")
    assert len(method.splitlines()) <= 60
    assert "class MyMethod(Method[MyMethodOptions]):" in method


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "expected lower-case words"),
        ("My-Method", "expected lower-case words"),
        ("1st", "expected lower-case words"),
        ("a/b", "expected lower-case words"),
        ("../up", "expected lower-case words"),
        ("my--method", "expected lower-case words"),
        ("class", "expected lower-case words"),
        ("gfp", "a method called 'gfp' exists already"),
        ("encoder_only", "a method called 'encoder-only' exists already"),
        ("json", "a Python module called 'json' exists already"),
    ],
)
def test_a_bad_name_is_one_line_and_writes_nothing(
    name: str, expected: str, tmp_path: Path
) -> None:
    found = new_method(name, tmp_path / "out")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert expected in found.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["my_method.py", "test_my_method.py"])
def test_a_file_that_exists_is_kept_and_nothing_is_written_beside_it(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    found = new_method("my-method", tmp_path)
    assert (found.code, found.out) == (2, "")
    assert (
        found.err
        == f"error: new-method: {tmp_path / name} exists already; choose another name or --out\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_disk_that_fills_up_half_way_leaves_neither_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(path: Path, content: bytes) -> None:
        if written:
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(content)
        written.append(path)

    monkeypatch.setattr("harness.conformance.scaffold.write_atomically", write)
    found = new_method("my-method", tmp_path)
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "No space left on device" in found.err
    assert list(tmp_path.iterdir()) == []
