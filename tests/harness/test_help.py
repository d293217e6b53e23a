"""Help pages, versions and completion: what people type before they know the command line."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from harness import ROOT
from harness.cli import completion
from harness.cli.flags import RUNS_VARIABLE
from harness.cli.help import example_of
from harness.cli.main import app
from harness.registry import Registry
from harness.runs.protocols import Protocols
from methods.parts.encoder import SIZES
from tests.harness.small_run import harness


def every_command(group: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Commands with the names that lead to them, hidden ones left out."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, *names, name)
        elif not command.hidden:
            yield (*names, name), command


COMMANDS = dict(every_command(typer.main.get_command(app)))
IDS = [" ".join(names) for names in COMMANDS]


# --- help ---


@pytest.mark.parametrize("names", COMMANDS, ids=IDS)
def test_a_help_page_says_all_in_lines_that_fit(names: tuple[str, ...]) -> None:
    found = harness(*names, "-h")
    assert (found.code, found.err) == (0, "")
    assert max(map(len, found.out.splitlines())) <= 80
    assert "\\[" not in found.out


@pytest.mark.parametrize("names", COMMANDS, ids=IDS)
def test_a_help_page_ends_with_an_example_that_parses(names: tuple[str, ...]) -> None:
    command = COMMANDS[names]
    example = example_of(command)
    assert harness(*names, "-h").out.endswith(f"\nExample:\n  {example}\n")
    words = shlex.split(example.partition(" > ")[0])
    assert words[: 3 + len(names)] == ["python", "-m", "harness", *names]
    words = [word for word in words if word not in ("--config", "study.yaml")]  # read before
    command.make_context(names[-1], words[3 + len(names) :]).close()


@pytest.mark.parametrize("group", [(), ("data",)])
def test_a_list_of_commands_shows_every_line_whole(group: tuple[str, ...]) -> None:
    found = harness(*group, "-h").out
    assert "..." not in found.replace("[ARGS]...", "")
    for names in COMMANDS:
        if names[:-1] == group:
            assert f"\n  {names[-1]} " in found


NOTHING = {
    "--config",
    "--protocols",
    "plan --rate",
    "plan --device-rate",
    "plan --price",
    "submit --partition",
    "speed --memory-cap",
    "evaluate --dataset",
    "claim --from",
    "compare --half-width",
    "report --out",
    "report --figures",
    "report --latex",
    "leaderboard --out",
    "leaderboard --site",
    "target --target",
    "target --freeze",
    "import-encoder --dataset",
    "data doctor --plot",
    "data show --method",
    "data show --run",
}
"""Options that stand for no value as long as nobody gives one."""


@pytest.mark.parametrize("names", COMMANDS, ids=IDS)
def test_every_option_that_has_a_default_says_it(names: tuple[str, ...]) -> None:
    command, silent = COMMANDS[names], []
    context = command.make_context(names[-1], [], resilient_parsing=True)
    for option in command.params:
        if option.param_type_name == "option" and not (option.is_flag or option.multiple):
            _, text = option.get_help_record(context) or ("", "default: hidden")
            if "default: " not in text and "required]" not in text:
                silent.append(option.opts[0])
    assert [one for one in silent if not {one, " ".join([*names, one])} & NOTHING] == []


# --- versions ---


@pytest.mark.parametrize("words", [("-V",), ("run", "--version"), ("data", "prepare", "-V")])
def test_the_version_is_told_wherever_it_is_asked_for(words: tuple[str, ...]) -> None:
    assert harness(*words) == harness("--version")


@pytest.mark.parametrize(("words", "code"), [((), 0), (("data",), 2)])
def test_a_command_alone_is_answered_with_its_help(words: tuple[str, ...], code: int) -> None:
    found = harness(*words)
    assert (found.code, found.err) == (code, "")
    assert found.out.strip() == harness(*words, "--help").out.strip()


# --- completion ---


def completed(line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What bash is offered for the last word of a line."""
    monkeypatch.setenv("_HARNESS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    return harness().out.split()


@pytest.mark.parametrize(
    ("shell", "hook"), [("bash", "complete -o"), ("zsh", "compdef"), ("fish", "complete --command")]
)
def test_a_shell_that_is_named_gets_its_script_and_its_names(
    shell: str, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = harness("--show-completion", shell)
    assert (found.code, found.err) == (0, "")
    assert f"\n{hook} " in f"\n{found.out}"
    assert f"_HARNESS_COMPLETE=complete_{shell}" in found.out
    line = "harness run --methods amr,gf"
    for variable, value in {
        "_HARNESS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }.items():
        monkeypatch.setenv(variable, value)
    assert "amr,gfp" in harness().out


def test_completion_is_installed_for_the_shell_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = harness("--install-completion", "fish")
    assert (found.code, found.err) == (0, "")
    (script,) = tmp_path.rglob("*.fish")
    assert str(script) in found.out
    assert "complete_fish" in script.read_text(encoding="utf-8")
    refused = harness("--install-completion", "csh")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "expected one of bash, zsh, fish" in refused.err


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("harness ru", ["run"]),
        ("harness run --bud", ["--budget"]),
        ("harness run --methods gf", ["gfp"]),
        ("harness run --methods amr,gf", ["amr,gfp"]),
        ("harness run --dataset synthetic+ntu1", ["synthetic+ntu120"]),
        ("harness run --encoder s", ["small"]),
        ("harness run --set train.l", ["train.lr="]),
        ("harness evaluate out --protocols linear,fi", ["linear,finetune"]),
        ("harness claim gfp-6.2", ["gfp-6.2x"]),
        ("harness ls pro", ["protocols"]),
        ("harness data doctor ntu1", ["ntu120"]),
    ],
)
def test_names_are_completed(
    line: str, offered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert completed(line, monkeypatch) == offered


def test_parts_of_the_file_that_was_typed_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("parts: {cells: {seeds: 0}, speeds: {seeds: 1}}", encoding="utf-8")
    line = f"harness run --config {path} --part "
    assert completed(line, monkeypatch) == ["cells", "speeds"]
    assert completed("harness run --part ", monkeypatch) == []


def test_what_is_completed_is_what_is_there() -> None:
    registry = Registry()
    assert completion.method_names() == set(registry.methods)
    assert completion.protocol_names() == set(Protocols().protocols)
    assert completion.encoders("") == sorted(SIZES)


def test_help_and_completion_load_no_torch() -> None:
    code = (
        "import sys\n"
        "from harness.cli import completion, main\n"
        "names = completion.methods(''), completion.datasets(''), completion.claims('')\n"
        "assert all(names) and completion.protocols('')\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- folders ---


def test_the_folder_of_records_is_named_by_a_variable_and_by_a_flag_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(RUNS_VARIABLE, "~/records")
    (tmp_path / "records").mkdir()
    (tmp_path / "other").mkdir()
    assert harness("ls", "runs").out == f"no runs in {tmp_path / 'records'}\n"
    assert harness("ls", "runs", "--out=~/other").out == f"no runs in {tmp_path / 'other'}\n"
    assert f"env var: {RUNS_VARIABLE}" in " ".join(harness("run", "-h").out.split())
