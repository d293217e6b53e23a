"""A study as a file: what stands in it is what would have been typed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from harness.cli.config import Kind, expanded
from harness.cli.main import app, file_options
from harness.errors import UsageError
from harness.records.evaluations import Evaluations
from harness.records.store import read_records
from tests.harness.small_run import SMALL, harness, small_file

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


def test_evaluate_takes_protocols_and_seeds_of_a_part(tmp_path: Path) -> None:
    text = (
        "methods: gfp\nprobe: {points: 6}\nparts: {a: {protocols: knn, seeds: 0-2, out: runs/a}}\n"
    )
    path = written(tmp_path, text)
    [words] = expanded(["evaluate", "runs/a", "--config", str(path), "--part", "a"], file_options)
    assert words[:6] == ["evaluate", "--protocols", "knn", "--seeds", "0-2", "--study"]
    assert words[7:] == ["runs/a"]


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
    flags += ["--seeds", "0-2", "--threads", "1", "--protocols", "linear,knn", "--claim"]
    flags += ["--plugin", "a.py", "--plugin", "b.py", "--out", "somewhere", "--folds", "2"]
    first = CliRunner().invoke(app, ["show-config", *flags]).output
    path = written(tmp_path, first)
    [words] = expanded(["show-config", "--config", str(path)], file_options)
    again = CliRunner().invoke(app, words).output
    assert yaml.safe_load(again) == yaml.safe_load(first)
    typed = {"seeds": "0-2", "threads": 1, "protocols": "linear,knn", "claim": True, "folds": 2}
    typed |= {"plugin": ["a.py", "b.py"], "out": "somewhere"}
    assert typed.items() <= yaml.safe_load(first).items()


def test_show_config_takes_every_flag_of_run() -> None:
    taken = file_options()
    no_part_of_a_study = {"dry-run", "quiet", "since", "study"}
    assert taken["run"].keys() - taken["show-config"].keys() == no_part_of_a_study


def test_a_file_of_several_parts_is_shown_part_by_part(tmp_path: Path) -> None:
    path = written(tmp_path, "parts: {a: {seeds: 0}, b: {seeds: 1}}")
    with pytest.raises(UsageError, match="expected --part and one of a, b, found none"):
        expanded(["show-config", "--config", str(path)], file_options)


def shown(path: Path, *words: str) -> dict[str, Any]:
    """What `show-config` prints of a file."""
    found = harness("show-config", "--config", path, *words)
    assert (found.code, found.err) == (0, "")
    plain = yaml.safe_load(found.out)
    assert isinstance(plain, dict)
    return plain


@pytest.mark.parametrize("text", ["batch-size: 8", "batch_size: 8", "train: {batch_size: 8}"])
def test_a_setting_may_be_written_in_several_ways(tmp_path: Path, text: str) -> None:
    assert shown(written(tmp_path, text))["train"]["batch_size"] == 8


@pytest.mark.parametrize("words", [("--budget", "7s"), ("--set", "train.budget=7s")])
@pytest.mark.parametrize("text", ["budget: 3h", "train: {budget: 3h}"])
def test_what_is_typed_counts_before_what_is_written_either_way(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    assert shown(written(tmp_path, text), *words)["train"]["budget"] == "7s"


@pytest.mark.parametrize(
    ("common", "own"),
    [("budget: 3h", "train: {budget: 5h}"), ("train: {budget: 3h}", "budget: 5h")],
)
def test_what_a_part_says_counts_before_what_goes_for_all(
    tmp_path: Path, common: str, own: str
) -> None:
    path = written(tmp_path, f"{common}\nparts: {{a: {{{own}}}}}")
    assert shown(path, "--part", "a")["train"]["budget"] == "18000s"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seeds: 0-x", "seeds '0-x': expected numbers"),
        ("threads: 0", "threads: Invalid value for '--threads'"),
        ("batch_size: many", "batch-size: Invalid value for '--batch-size'"),
        ("budget: 10x", "train: budget: expected a number and one of"),
        ("train: {lrr: 1}", "train.lrr: train: unknown option 'lrr', did you mean 'lr'?"),
        ("train: {lr: -1}", "train: lr: "),
        ("preset: quik", "preset: unknown preset 'quik'"),
        ("claim: perhaps", "claim: expected true or false, found 'perhaps'"),
        ("budget: 3h\ntrain: {budget: 3s}", "train: budget: expected once, found a second"),
    ],
)
def test_a_wrong_value_is_told_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    found = harness("show-config", "--config", path)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith(f"error: {path}: {said}")
    assert found.err.count("\n") == 1


def test_a_wrong_value_that_was_typed_is_told_without_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "seeds: 0-2")
    found = harness("show-config", "--config", path, "--batch-size", "1")
    assert found.err.startswith("error: train: batch_size: ")


def test_every_record_names_the_file_that_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, f"methods: gfp\ndataset: {small_file(tmp_path)}\n")
    out = tmp_path / "runs"
    words = ["run", "--config", str(path), "--out", str(out), *SMALL]
    [command] = expanded(words, file_options)
    monkeypatch.setattr("sys.argv", ["harness", *command])
    assert CliRunner().invoke(app, command).exit_code == 0
    found = read_records(out)
    study = f"plan.yaml {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    assert {one.environment.study for one in (*found.runs, *found.speeds)} == {study}
    words = ["evaluate", str(out), "--config", str(path), "--protocols", "knn"]
    [command] = expanded(words, file_options)
    monkeypatch.setattr("sys.argv", ["harness", *command])
    assert CliRunner().invoke(app, command).exit_code == 0
    assert {one.environment.study for one in Evaluations(out).all()} == {study}
