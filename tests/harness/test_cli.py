"""The command line: what it lists and shows,
and one clear line for everything that cannot be done.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness import ROOT, __version__
from harness.errors import UsageError
from harness.records.store import RecordStore
from harness.runs.request import parse_override, resolve_settings
from harness.spec.model import SECTIONS
from harness.spec.presets import PRESETS
from tests.harness.made_up_records import run_record
from tests.harness.small_run import SMALL, Outcome, harness, plugin_file, small_arrays, small_file

# --- help ---


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), ("run", "ls", "show-config")),
        (
            ("run",),
            (
                "--methods",
                "--dataset",
                "--split",
                "--label",
                "--encoder",
                "--budget",
                "--seeds",
                "--batch-size",
                "--precision",
                "--device",
                "--out",
                "--plugin",
                "--preset",
                "--set",
                "--baseline",
                "--rerun",
            ),
        ),
        (("ls",), ("--json", "--plugin", "--out")),
        (("show-config",), ("--methods", "--json")),
    ],
)
def test_help_names_commands_and_flags(command: tuple[str, ...], words: tuple[str, ...]) -> None:
    found = harness(*command, "--help")
    assert (found.code, found.err) == (0, "")
    assert all(word in found.out for word in words)


@pytest.mark.parametrize("command", [(), ("run",), ("data", "prepare"), ("check-method",)])
def test_h_is_help(command: tuple[str, ...]) -> None:
    assert harness(*command, "-h") == harness(*command, "--help")


def test_the_version_is_that_of_the_checkout_with_torchs() -> None:
    found = harness("--version")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    assert (found.code, found.err) == (0, "")
    assert found.out.startswith(
        f"masked-skeleton-benchmark {version}, torch {importlib.metadata.version('torch')}, "
    )
    assert __version__ == version


# --- ls ---


def listed(*arguments: str | Path) -> list[dict[str, Any]]:
    found = harness("ls", *arguments, "--json")
    assert (found.code, found.err) == (0, "")
    rows = json.loads(found.out)
    assert isinstance(rows, list)
    return rows


def test_methods_are_listed_with_what_a_reader_must_know() -> None:
    rows = {row["method"]: row for row in listed("methods")}
    assert {"gfp", "skeletonmae", "encoder-only"} <= rows.keys()
    for row in rows.values():
        assert {
            "title",
            "paper",
            "code",
            "deviations",
            "choices",
            "division",
            "options",
            "versions",
        } <= row.keys()
        assert row["versions"]["base"] == "1"
    assert rows["gfp"]["choices"]
    assert rows["skeletonmae"]["deviations"]
    assert any("TF32" in sentence for sentence in rows["gfp"]["shared_deviations"])
    assert "arXiv 2509.03609" in rows["gfp"]["paper"]
    assert rows["gfp"]["options"]["lambda_pred"] == 5.0
    assert rows["encoder-only"]["control"] is True


def test_a_plugin_is_listed(tmp_path: Path) -> None:
    rows = {row["method"]: row for row in listed("methods", "--plugin", plugin_file(tmp_path))}
    assert rows["plain"]["title"] == "Mean position"


def test_encoders_are_listed_with_parameters_and_tokens() -> None:
    rows = {row["encoder"]: row for row in listed("encoders")}
    assert set(rows) == {"base", "small", "tiny"}
    assert (rows["base"]["parameters"], rows["base"]["tokens"]) == (6_336_000, 750)


def test_data_sets_are_listed_with_a_line_about_them_and_how_others_prepare_them() -> None:
    rows = {row["dataset"]: row for row in listed("datasets")}
    assert rows["synthetic"]["about"]
    assert "\n" not in rows["synthetic"]["about"]
    assert rows["synthetic"]["deviations"] == []
    assert any("300" in sentence for sentence in rows["pkummd2"]["deviations"])


def test_runs_are_listed_from_their_records(tmp_path: Path) -> None:
    record = run_record("gfp", 0.8, knn=0.7)
    failed = run_record("skeletonmae", status="failed", accuracy=None)
    for one in (record, failed):
        RecordStore(tmp_path).write_run(one)
    rows = {row["run"]: row for row in listed("runs", "--out", tmp_path)}
    assert rows.keys() == {record.address, failed.address}
    row = rows[record.address]
    assert (row["method"], row["seed"], row["status"], row["linear"], row["knn"]) == (
        "gfp",
        0,
        "ok",
        0.8,
        0.7,
    )
    assert rows[failed.address]["linear"] is None


def test_a_folder_without_runs_is_an_empty_list(tmp_path: Path) -> None:
    assert listed("runs", "--out", tmp_path) == []
    found = harness("ls", "runs", "--out", tmp_path)
    assert (found.code, found.out, found.err) == (0, f"no runs in {tmp_path}\n", "")


@pytest.mark.parametrize(
    "command",
    [
        ("ls", "runs", "--out"),
        ("verify",),
        ("trends",),
        ("ranking",),
        ("target",),
        ("table",),
        ("status",),
        ("merge", "--out", "joined"),
        ("claim", "gfp-6.2x", "--from"),
    ],
)
def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    found = harness(*command, tmp_path / "nosuch")
    expected = (
        f"error: {tmp_path / 'nosuch'}: expected an output folder of `run`, found no such folder;"
        " check the path"
    )
    assert (found.code, found.out, found.err) == (2, "", f"{expected}\n")


@pytest.mark.parametrize(
    ("what", "shown", "hidden"),
    [
        ("methods", ["method", "division", "epochs", "options", "paper"], "deviations"),
        ("datasets", ["dataset", "about"], "deviations"),
        ("claims", ["claim", "statement"], "hardware"),
    ],
)
def test_printed_lists_are_brief_and_json_is_complete(
    what: str, shown: list[str], hidden: str
) -> None:
    heading = next(line for line in harness("ls", what).out.splitlines() if line.strip())
    assert heading.split() == shown
    for row in listed(what):
        assert row.keys() >= {*shown, hidden}


@pytest.mark.parametrize(("columns", "most"), [("", 100), ("72", 72)])
@pytest.mark.parametrize("what", ["methods", "datasets", "claims"])
def test_lists_of_texts_fit_the_terminal(
    what: str, columns: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.__stdout__", None)  # no terminal says how wide it is
    lines = harness("ls", what).out.splitlines()
    assert max(map(len, lines)) <= most
    names = [line.split()[0] for line in lines if not line.startswith(" ")][1:]
    assert names == [
        next(iter(row.values())) for row in listed(what)
    ]  # each whole, each in a line of its own


@pytest.mark.parametrize(
    ("what", "word"),
    [("methods", "skeletonmae"), ("encoders", "6336000"), ("datasets", "synthetic")],
)
def test_lists_are_readable_without_json(what: str, word: str) -> None:
    found = harness("ls", what)
    assert found.code == 0
    assert word in found.out


# --- show-config ---


def test_the_configuration_without_flags_is_the_quick_preset() -> None:
    found = yaml.safe_load(harness("show-config").out)
    assert set(found) == {"methods", "device", "encoder", "data", "train", "probe"}
    assert found["methods"] == PRESETS["quick"]["methods"] == "gfp,skeletonmae"
    assert found["data"]["name"] == "synthetic"
    assert found["train"]["budget"] == PRESETS["quick"]["train"]["budget"]


def test_yaml_and_json_hold_the_same() -> None:
    assert yaml.safe_load(harness("show-config").out) == json.loads(
        harness("show-config", "--json").out
    )


def test_a_configuration_is_complete() -> None:
    found = json.loads(harness("show-config", "--json").out)
    assert {"lr", "warmup", "weight_decay", "betas", "precision", "compile", "batch_size"} <= found[
        "train"
    ].keys()
    assert {"split", "label", "validation", "crop", "rotation"} <= found["data"].keys()


def test_published_trains_on_every_subject_with_the_present_bodies_of_128_clips() -> None:
    found = json.loads(harness("show-config", "--json", "--preset", "published").out)
    assert (found["encoder"]["size"], found["train"]["budget"], found["train"]["precision"]) == (
        "base",
        "400ep",
        "fp32",
    )
    assert found["data"]["validation"] == 0
    # 59 % of NTU RGB+D 60's 256 body slots in 128 clips hold a body (methods' papers: 41 % are
    # empty)
    assert found["train"]["batch_size"] == round(256 * 0.59) == 151
    assert found["data"]["include_empty_bodies"] is False


def test_flags_stand_above_set_and_set_above_the_preset() -> None:
    found = json.loads(
        harness(
            "show-config",
            "--json",
            "--preset",
            "published",
            "--batch-size",
            "16",
            "--set",
            "train.batch_size=32",
            "--set",
            "train.lr=0.5",
        ).out
    )
    assert (found["train"]["batch_size"], found["train"]["lr"]) == (16, 0.5)
    assert (found["encoder"]["size"], found["train"]["budget"]) == ("base", "400ep")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "train.lr=1e-3",
            ("train", "lr", "1e-3"),
        ),  # YAML wants 1.0e-3 for a number; pydantic reads the text
        ("train.lr=0.5", ("train", "lr", 0.5)),
        ("data.drop_leaks=true", ("data", "drop_leaks", True)),
        ("data.crop=[0.5, 1]", ("data", "crop", [0.5, 1])),
        ("train.clip_gradient=null", ("train", "clip_gradient", None)),
        (" data.split =view:1->2", ("data", "split", "view:1->2")),
    ],
)
def test_a_setting_is_section_key_and_yaml_value(text: str, expected: tuple[str, str, Any]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["", "train", "train.lr", "lr=1", "=1"])
def test_a_setting_that_is_not_section_key_and_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected section"):
        parse_override(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lr=3", "train.lr=3"),
        ("points=5", "probe.points=5"),
        ("train.lr", "train.lr=..."),
        ("lrr=3", "train.lr=3"),
        ("wieght_decay=0", "train.weight_decay=0"),
        ("depth=3", "encoder.depth=3"),
    ],
)
def test_a_setting_without_its_section_is_named_with_it(text: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"expected section.key=value, e.g. {re.escape(meant)}$"):
        parse_override(text)


# --- what cannot be done ---


def spoilt(**changes: Any) -> Callable[[Path], list[str | Path]]:
    """Arguments that run on a file with these arrays in it."""

    def arguments(folder: Path) -> list[str | Path]:
        path = folder / "spoilt.npz"
        np.savez(path, **small_arrays(**changes))
        return ["--dataset", path]

    return arguments


def with_nan() -> Any:
    joints = small_arrays()["joints"].copy()
    joints[30, 0, 2, 1] = np.nan  # clip 0 has 20 to 29 frames
    return joints


def flags(*words: str) -> Callable[[Path], list[str | Path]]:
    """These arguments, on a good file."""
    return lambda folder: ["--dataset", small_file(folder), *words]


def broken_plugin(text: str) -> Callable[[Path], list[str | Path]]:
    return lambda folder: [
        "--dataset",
        small_file(folder),
        "--plugin",
        plugin_file(folder, "broken", text),
    ]


LABELS, OFFSETS = small_arrays()["label"], small_arrays()["offsets"]

BAD_INPUT: dict[str, tuple[Callable[[Path], list[str | Path]], str]] = {
    "unknown method": (flags("--methods", "gpf"), "unknown method 'gpf', did you mean 'gfp'?"),
    "misspelt option": (
        flags("--methods", "gfp:windws=6/3/1"),
        "unknown option 'windws', did you mean 'windows'?",
    ),
    "impossible option": (
        flags("--methods", "gfp:windows=4"),
        "the first must divide the 6 time steps: 1, 2, 3, 6",
    ),
    "option of a wrong type": (flags("--methods", "gfp:tau=hot"), "method gfp: tau: "),
    "no method": (flags("--methods", ","), "expected at least one method"),
    "plugin that does not parse": (broken_plugin("def broken(:\n"), "did not load: SyntaxError"),
    "plugin that does not import": (
        broken_plugin("import no_such_package\n"),
        "No module named 'no_such_package'",
    ),
    "plugin without a method": (broken_plugin("x = 1\n"), "no method found"),
    "plugin that is not there": (
        flags("--plugin", "nowhere.py"),
        "plugin nowhere.py: no such file",
    ),
    "NaN": (
        spoilt(joints=with_nan()),
        "joints: expected finite coordinates in metres, found nan at clip 1",
    ),
    "joints of a wrong shape": (
        spoilt(joints=np.zeros((9, 5, 3), np.float32)),
        "joints: expected shape [F, M, V, 3]",
    ),
    "labels of a wrong shape": (
        spoilt(label=LABELS[:-1]),
        "label: expected integers of shape [18]",
    ),
    "empty clip": (
        spoilt(
            offsets=np.insert(OFFSETS, 1, 0),
            label=np.append(LABELS, 0),
            subject=np.append(small_arrays()["subject"], 1),
        ),
        "found an empty clip 0",
    ),
    "negative offsets": (
        spoilt(offsets=np.concatenate([[-1], OFFSETS[1:]])),
        "offsets: expected 0 or more, found -1",
    ),
    "label out of range": (
        spoilt(label=np.where(LABELS == 2, 3, LABELS)),
        "label: expected 0 to 2, found 3 at clip 2",
    ),
    "no such file": (lambda folder: ["--dataset", folder / "nowhere.npz"], "no such file"),
    "unknown data set": (
        lambda folder: ["--dataset", "synthetics"],
        "unknown data set 'synthetics'; did you mean",
    ),
    "budget 10x": (
        flags("--budget", "10x"),
        "train: budget: expected a number and one of ep, steps, clips, s, flops",
    ),
    "unknown preset": (flags("--preset", "quik"), "unknown preset 'quik', did you mean 'quick'?"),
    "data set in capitals": (
        lambda folder: ["--dataset", "NTU60"],
        "unknown data set 'NTU60'; did you mean 'ntu60'?",
    ),
    "method in capitals": (flags("--methods", "GFP"), "unknown method 'GFP', did you mean 'gfp'?"),
    "unknown encoder": (
        flags("--encoder", "tinny"),
        "unknown encoder 'tinny', did you mean 'tiny'?",
    ),
    "impossible encoder": (
        flags("--set", "encoder.heads=3"),
        "width 8 is not a multiple of 3 heads",
    ),
    "unknown section": (
        flags("--set", "trian.lr=1"),
        "unknown section 'trian', did you mean 'train'?",
    ),
    "unknown key": (flags("--set", "train.lrr=1"), "unknown option 'lrr', did you mean 'lr'?"),
    "setting without a value": (flags("--set", "train.lr"), "expected section.key=value"),
    "setting of a wrong type": (flags("--set", "train.lr=fast"), "train: lr: "),
    "setting that is not YAML": (flags("--set", "train.lr=[1"), "is not a YAML value"),
    "bad split": (flags("--split", "xsubject"), "split 'xsubject': expected xsub or COLUMN"),
    "split by a column that is not there": (flags("--split", "view:1->2"), "split 'view:1->2'"),
    "unknown label": (flags("--label", "lable"), "did you mean 'label'?"),
    "unknown device": (
        flags("--device", "abacus"),
        "device 'abacus': expected auto, cpu, cuda or cuda:N",
    ),
    "missing device": (flags("--device", "cuda:99"), "use --device cpu"),
    "kernels of a GPU": (
        flags("--device", "cpu", "--set", "train.sdpa=cudnn-first"),
        (
            "train.sdpa=cudnn-first: expected a GPU, which has several attention kernels, found"
            " --device cpu"
        ),
    ),
    "unknown precision": (flags("--precision", "fp16"), "train: precision: "),
    "batch of one": (flags("--batch-size", "1"), "train: batch_size: "),
    "bad seeds": (flags("--seeds", "one"), "--seeds 'one': expected numbers and ranges"),
    "seeds backwards": (
        flags("--seeds", "2-0"),
        "expected the lower end of a range first, found 2-0; write 0-2",
    ),
    "no commas": (
        flags("--methods", "gfp mamp"),
        "expected commas between methods, found 'gfp mamp'",
    ),
    "a file for a method": (
        flags("--methods", "own.py"),
        "give the file as --plugin own.py, and its method as own",
    ),
    "a folder for a plugin": (
        lambda folder: ["--plugin", folder],
        "a folder; give the Python file of a method",
    ),
    "unknown baseline": (flags("--baseline", "mamp"), "--baseline 'mamp' is not among the methods"),
    "unknown flag": (flags("--metods", "gfp"), "--metods"),
    "too short a measurement": (flags("--speed-seconds", "0"), "--speed-seconds"),
    # What nobody means: refused before any work, by the name of the setting.
    "endless budget": (
        flags("--budget", "1e30s"),
        "budget: expected an amount above 0 and up to 1e+08s, found",
    ),
    "endless batch": (
        flags("--batch-size", "1000000000"),
        "train: batch_size: Input should be less than or equal to",
    ),
    "endless seeds": (
        flags("--seeds", "0-999999999"),
        "expected at most 1,000 seeds, found 1,000,000,000",
    ),
    "too many lists of seeds": (flags("--seeds", "0-800,1000-1800"), "at most 1000 items"),
    "seed of too many bits": (
        flags("--seeds", str(2**63)),
        "seeds.0: Input should be less than 9223372036854775808",
    ),
    "seed of too many digits": (flags("--seeds", "9" * 5000), "expected numbers and ranges"),
    "probes in every step": (
        flags("--set", "probe.every=1e-9clips"),
        "probe.every=1e-09clips: expected a step",
    ),
    "probes without end": (
        flags("--set", "probe.every=1steps", "--budget", "1e9steps"),
        "at most 10,000 evaluations",
    ),
    "malformed probe.every": (
        flags("--set", "probe.every=often"),
        "probe: every: expected a number and one of ep,",
    ),
    "too many evaluations": (flags("--set", "probe.points=1000000000"), "probe: points: "),
    "betas": (
        flags("--set", "train.betas=[2,2]"),
        "train: betas.0: Input should be less than 1, found 2",
    ),
    "three betas": (flags("--set", "train.betas=[0.9,0.9,0.9]"), "train: betas: "),
    "infinite learning rate": (
        flags("--set", "train.lr=.inf"),
        "train: lr: Input should be a finite number",
    ),
    "learning rate of an infinite loss": (flags("--set", "train.lr=1e300"), "train: lr: "),
    "negative size": (flags("--set", "encoder.depth=-1"), "encoder: depth: "),
    "endless encoder": (flags("--set", "encoder.depth=1000000000"), "encoder: depth: "),
    "encoder of too many parameters": (
        flags("--set", "encoder.depth=256", "--set", "encoder.width=16384"),
        "encoder: 256 blocks of width 16384 have 824,633,720,832 parameters",
    ),
    "negative decoder": (
        flags("--methods", "mamp:decoder_depth=-1"),
        "method mamp: decoder_depth: ",
    ),
    "endless decoder": (
        flags("--methods", "mamp:decoder_depth=1000000"),
        "method mamp: decoder_depth: ",
    ),
    "endless target network": (
        flags("--methods", "gfp:global_width=1000000000"),
        "method gfp: global_width: ",
    ),
    "weight of an infinite loss": (
        flags("--methods", "gfp:lambda_pred=1e300"),
        "method gfp: lambda_pred: ",
    ),
    "no regularisation": (
        flags("--set", "probe.regularisation=[]"),
        "probe: regularisation: Tuple should have",
    ),
    "deep brackets": (flags("--set", "train.lr=" + "[" * 5000), "is not a YAML value"),
    "deep brackets that close": (
        flags("--set", "train.lr=" + "[" * 5000 + "]" * 5000),
        "is not a YAML value",
    ),
    "a page for a name": (
        flags("--set", "data.split=" + "x" * 5000),
        "data: split: String should have at most",
    ),
    "endless measurement": (flags("--speed-seconds", "1e30"), "--speed-seconds"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    arguments, expected = BAD_INPUT[name]
    out = tmp_path / "out"
    found = harness("run", *SMALL, "--out", out, *arguments(tmp_path))
    assert found.code == 2
    assert found.err.startswith("error: ")
    assert expected in found.err
    assert found.err.count("\n") == 1
    assert found.err.endswith("\n")
    assert len(found.err) < 400
    assert found.lines == []
    assert not out.exists()


@pytest.mark.parametrize("below", ["", "deeper", "deeper/still"])
def test_an_output_folder_that_is_a_file_is_one_line(tmp_path: Path, below: str) -> None:
    (tmp_path / "out").write_text("mine")
    found = harness(
        "run", *SMALL, "--dataset", small_file(tmp_path), "--out", tmp_path / "out" / below
    )
    assert found.code == 2
    assert found.err.startswith(
        f"error: output folder {tmp_path / 'out' / below} cannot be written"
        f" ({tmp_path / 'out'} is a file); choose another with --out\n"
    )
    assert found.err.count("\n") == 1
    assert (tmp_path / "out").read_text() == "mine"


def test_what_needs_no_torch_to_be_refused_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    script = (
        "import sys\n"
        "from harness.cli.main import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    assert 'torch' not in sys.modules\n"
    )
    for arguments, said in (
        (("--out", tmp_path / "out"), "is a file"),
        (("--out", tmp_path / "new", "--dataset", "synthetics"), "unknown data set 'synthetics'"),
        (("--out", tmp_path / "new", "--dataset", "ntu60"), "ntu60 is not prepared here"),
    ):
        ended = subprocess.run(
            [sys.executable, "-c", script, "run", *map(str, arguments)],
            env={**os.environ, "MASKED_SKELETON_DATA": str(tmp_path)},
            capture_output=True,
            check=False,
            text=True,
        )
        assert ended.returncode == 2, ended.stderr
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_read_only_output_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, *arguments: Any, **options: Any) -> None:
        raise OSError(30, "Read-only file system", str(path))

    data = small_file(tmp_path)
    monkeypatch.setattr(
        Path, "mkdir", read_only
    )  # permissions do not stop the tests when root runs them
    found = harness("run", *SMALL, "--dataset", data, "--out", tmp_path / "out")
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert "cannot be written (Read-only file system); choose another with --out" in found.err


@pytest.mark.parametrize(
    ("flag", "value", "where"),
    [
        (
            "--set",
            "probe.regularisation=[1e400]",
            "probe: regularisation.0: Input should be a finite number",
        ),
        ("--set", "train.lr=.nan", "train: lr: "),
        (
            "--set",
            "train.weight_decay=.inf",
            "train: weight_decay: Input should be a finite number",
        ),
        ("--methods", "gfp:lambda_pred=nan", "method gfp: lambda_pred: "),
        ("--speed-seconds", "nan", "'--speed-seconds'"),
        ("--speed-seconds", "inf", "'--speed-seconds'"),
    ],
)
def test_a_number_that_is_not_finite_is_refused_before_any_work(
    tmp_path: Path, flag: str, value: str, where: str
) -> None:
    found = harness(
        "run", "--out", tmp_path / "out", "--dataset", small_file(tmp_path), flag, value
    )
    assert (found.code, found.lines, found.err.count("\n")) == (2, [], 1)
    assert where in found.err
    assert not (tmp_path / "out").exists()


def test_settings_are_listed_with_their_limits() -> None:
    rows = {row["setting"]: row for row in json.loads(harness("ls", "settings", "--json").out)}
    assert rows["train.lr"] == {
        "setting": "train.lr",
        "default": 1e-3,
        "allowed": "number > 0, <= 100",
    }
    assert rows["encoder.depth"]["allowed"] == "integer >= 1, <= 256 or null"
    assert rows["train.precision"]["allowed"] == "fp32 or tf32 or bf16"
    assert rows["train.betas"]["allowed"] == "2 of number >= 0, < 1"
    assert rows["probe.regularisation"]["allowed"] == "1 to 100 of number > 0, <= 1e+09"
    assert (
        rows["train.budget"]["allowed"]
        == "a number and ep or steps or clips or s or flops or min or h"
    )
    assert {name.partition(".")[0] for name in rows} == {"encoder", "data", "train", "probe"}


def test_the_defaults_that_are_listed_are_those_of_a_run_and_can_be_set() -> None:
    used = resolve_settings("quick", [])
    values = {
        f"{section}.{name}": value
        for section in SECTIONS
        for name, value in used[section].model_dump(mode="json").items()
    }
    rows = json.loads(harness("ls", "settings", "--json").out)
    assert {row["setting"]: row["default"] for row in rows} == values
    assert (values["train.budget"], values["probe.points"]) == ("30s", 2)
    shown = dict(line.split()[:2] for line in harness("ls", "settings").lines[1:])
    assert (shown["data.center"], shown["data.crop"]) == ("true", "[0.5,1]")
    given = [f"{name}={text}" for name, text in shown.items() if text != "-"]
    assert resolve_settings("quick", given) == used


def test_an_unknown_listing_is_one_line() -> None:
    found = harness("ls", "method")
    assert found.code == 2
    assert (
        found.err
        == "error: ls 'method', did you mean 'methods'? (expected one of methods, protocols,"
        " datasets, encoders, runs, claims, settings)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "help_"),
    [
        (("rnu",), "-h"),
        (("ls",), "ls -h"),
        (("show-config", "--jsno"), "show-config -h"),
        (("merge", "x"), "merge -h"),
        (("run", "--batch-size", "ten"), "run -h"),
        (("data", "prepare", "ntu60"), "data prepare -h"),
    ],
)
def test_a_command_line_that_does_not_parse_is_one_line_with_the_help_to_read(
    arguments: tuple[str, ...], help_: str
) -> None:
    found = harness(*arguments)
    assert found.code == 2
    assert found.err.startswith("error: ")
    assert found.err.endswith(f"; see `python -m harness {help_}`\n")
    assert found.err.count("\n") == 1


def test_a_group_of_commands_alone_lists_them() -> None:
    assert harness("data") == Outcome(2, harness("data", "--help").out, "")


def test_a_folder_that_is_no_store_is_told_by_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "raw").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("raw", "./raw"):
        assert "found a folder that is no store" in harness("data", "doctor", name).err


def test_a_folder_without_runs_has_no_status(tmp_path: Path) -> None:
    assert harness("status", tmp_path).out == f"no runs in {tmp_path}\n"


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("harness.cli.listing.LISTINGS", {"encoders": fail})
    found = harness("ls", "encoders")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert found.err.startswith("error: not enough memory; ")
