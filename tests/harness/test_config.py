"""A study as a file: what stands in it is what would have been typed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from harness.cli.config import Kind, expanded
from harness.cli.main import app, file_options
from harness.errors import UsageError
from harness.records.store import read_records

OPTIONS: dict[str, dict[str, Kind]] = {
    "run": {
        "methods": "value",
        "seeds": "value",
        "threads": "value",
        "claim": "switch",
        "set": "repeatable",
        "study": "value",
    },
    "show-config": {"methods": "value", "set": "repeatable"},
}


def written(folder: Path, text: str) -> Path:
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_stands_for_its_flags_and_what_is_typed_comes_last(tmp_path: Path) -> None:
    text = "methods: [gfp, amr]\nseeds: 0-2\nclaim: true\ntrain: {lr: 3.0e-4, betas: [0.9, 0.95]}\n"
    path = written(tmp_path, text)
    study = f"plan.yaml {hashlib.sha256(text.encode()).hexdigest()[:16]}"
    file = ["--methods", "gfp,amr", "--seeds", "0-2", "--claim", "--set", "train.lr=0.0003"]
    file += ["--set", "train.betas=[0.9, 0.95]", "--study", study]
    [words] = expanded(["run", "--config", str(path), "--seeds", "7"], lambda: OPTIONS)
    assert words == ["run", *file, "--seeds", "7"]


def test_each_part_is_a_command_of_its_own_with_what_all_share(tmp_path: Path) -> None:
    path = written(tmp_path, "threads: 1\nparts:\n  a: {seeds: 0}\n  b: {seeds: 1, claim: false}\n")
    commands = expanded(["run", f"--config={path}"], lambda: OPTIONS)
    assert [words[:5] for words in commands] == [
        ["run", "--threads", "1", "--seeds", "0"],
        ["run", "--threads", "1", "--seeds", "1"],
    ]
    assert expanded(["run", "--config", str(path), "--part", "b"], lambda: OPTIONS) == commands[1:]


def test_another_command_takes_the_flags_that_it_has(tmp_path: Path) -> None:
    path = written(tmp_path, "methods: gfp\nseeds: 0\nstudy: {question: which}\n")
    words = expanded(["show-config", "--config", str(path)], lambda: OPTIONS)
    assert words == [["show-config", "--methods", "gfp"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method: gfp", "unknown key 'method', did you mean 'methods'?"),
        ("methods: {gfp: 1}", "methods: expected a value, found a mapping"),
        ("claim: 3", "claim: expected true or false, found 3"),
        ("- gfp", "expected flags by name"),
        ("parts: [a]", "parts: expected the flags of each part by its name"),
        ("study: {a: &x 1, b: *x}", "found an alias"),
        ("a: [", "expected YAML"),
    ],
)
def test_a_file_that_is_none_is_refused_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        expanded(["run", "--config", str(path)], lambda: OPTIONS)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--config", "nowhere.yaml"], "--config nowhere.yaml: No such file"),
        (["run", "--config"], "--config: expected a value"),
        (["run", "--part", "a"], "--part: expected with run, show-config, beside --config"),
        (["table", "--config", "plan.yaml"], "--config: expected with run, show-config"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        expanded(words, lambda: OPTIONS)
    assert said in str(refused.value)


def test_an_unknown_part_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = written(tmp_path, "parts: {speeds: {seeds: 0}, cells: {seeds: 1}}")
    with pytest.raises(UsageError, match=r"no part 'cell'.*cells.*\(parts: speeds, cells\)"):
        expanded(["run", "--config", str(path), "--part", "cell"], lambda: OPTIONS)


def test_what_show_config_prints_is_a_file_that_says_the_same(tmp_path: Path) -> None:
    flags = ["--methods", "gfp,amr:k=0.01", "--budget", "20steps", "--set", "train.lr=3e-4"]
    first = CliRunner().invoke(app, ["show-config", *flags]).output
    path = written(tmp_path, first)
    [words] = expanded(["show-config", "--config", str(path)], file_options)
    again = CliRunner().invoke(app, words).output
    assert yaml.safe_load(again) == yaml.safe_load(first)


def test_every_record_names_the_file_that_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "methods: gfp\nbudget: 2steps\nencoder: tiny\nbatch_size: 4\n"
    path = written(tmp_path, text.replace("batch_size", "batch-size"))
    out = tmp_path / "runs"
    words = [
        "run",
        "--config",
        str(path),
        "--out",
        str(out),
        "--speed-seconds",
        "1",
        "--threads",
        "1",
    ]
    words += ["--set", "probe.points=1", "--set", "probe.regularisation=[1.0]"]
    [command] = expanded(words, file_options)
    monkeypatch.setattr("sys.argv", ["harness", *command])
    assert CliRunner().invoke(app, command).exit_code == 0
    found = read_records(out)
    study = f"plan.yaml {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    assert {one.environment.study for one in (*found.runs, *found.speeds)} == {study}
