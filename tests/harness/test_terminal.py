"""What reaches a terminal is text: names in files, paths, records may hold markup,
escape sequences, stray bytes.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets.wording import printable
from harness.cli.output import leave_table
from harness.progress import PlainConsole, Reporter, make_console, print_table, say, say_lines, warn
from harness.records.store import RecordStore
from tests.harness.made_up_records import run_record
from tests.harness.small_run import harness, small_arrays, small_file

ROOT = Path(__file__).parents[2]
ODD = "[bold]b[/] :smile: \x1b[31mred\x9b5m\r\nnew\tline \u202egnp.exe\u2069 \udcff \u97a0\u8eac"
SHOWN = (
    "[bold]b[/] :smile: \\u001b[31mred\\u009b5m\\r\\nnew\\tline \\u202egnp.exe\\u2069 \\udcff"
    " \u97a0\u8eac"
)
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def test_what_a_terminal_would_obey_is_shown_as_json_writes_it() -> None:
    assert printable(ODD) == SHOWN
    assert printable("\x00\x7f\u061c\u200e\u2028") == r"\u0000\u007f\u061c\u200e\u2028"


@pytest.mark.parametrize(
    "text", ["gfp:tau=0.5", "± 0.3 % → é", "鞠躬", "\u05e9\u05dc\u05d5\u05dd", "\U0001f483"]
)
def test_text_of_any_language_stays(text: str) -> None:
    assert printable(text) == text


def test_every_way_out_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    console = make_console()
    Reporter(console).line(ODD)
    print_table(console, ["name", ODD], [[ODD, "1"]], [ODD])
    say(ODD)
    say_lines(f"{ODD}\n{ODD}".replace("\r\n", ""))
    warn(ODD)
    out, err = capsys.readouterr()
    assert (out.count(SHOWN), err) == (5, f"{SHOWN}\n")
    assert out.count(SHOWN.replace("\\r\\n", "")) == 2
    assert not OBEYED.search(out)
    assert len(out.splitlines()) == 1 + 3 + 1 + 2


def test_on_a_terminal_only_its_own_signs_are_obeyed() -> None:
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, width=200, soft_wrap=True)
    report = Reporter(console)
    report.line(ODD)
    print_table(console, ["name"], [[ODD]], [ODD])
    with report.task(ODD) as task:
        task(1, 2)
    shown = file.getvalue()
    assert shown.count(SHOWN) >= 4
    for sign in ("\x1b[31m", "\x9b", "\u202e", "\udcff"):
        assert sign not in shown


def test_there_is_no_other_way_out() -> None:
    direct = re.compile(
        r"(?<![\w.])print\(|typer\.echo|(?<!Plain)Console\(|sys\.std(out|err)\.write"
    )
    for path in (ROOT / "harness").rglob("*.py"):
        if path.name not in (
            "progress.py",
            "__main__.py",
        ):  # the latter speaks before the suite's own code is found
            code = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            assert not direct.search(code), path


def test_a_table_on_disk_is_text_whatever_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["harness", "run", "--out", ODD])
    table = pd.DataFrame({"method": [f"a|{ODD}"], "linear": ["1"]})
    report = Reporter(PlainConsole(file=io.StringIO()))
    leave_table(table, [ODD], tmp_path / "table.md", report, numbers={"": table})
    command, _, header, _, row, _, note = (
        (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    )
    assert command == f"    python -m harness run --out '{SHOWN}'"
    assert header == "| method | linear |"
    assert row == f"| a\\|{SHOWN} | 1 |"
    assert note == f"- {SHOWN}"


def test_class_names_of_a_file_are_shown_as_text(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    names = ("[bold]wave[/bold]\x1b[31m", "鞠躬", "\u202egnp.exe")
    np.savez(path, **small_arrays(class_names=np.array(names)))
    found = harness("data", "doctor", path)
    assert found.code == 0
    assert not OBEYED.search(found.out)
    for name in names:
        assert printable(name) in found.out
    found = harness("data", "doctor", path, "--json")
    assert not OBEYED.search(found.out)


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]
)
@pytest.mark.skipif(sys.platform == "win32", reason="paths are bytes on Unix")
def test_a_terminal_of_another_encoding_and_a_path_of_none(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    folder = os.fsencode(tmp_path) + b"/o\xff[/red]"
    record = run_record(data=run_record().data.model_copy(update={"name": "鞠躬\x1b[31m.npz"}))
    RecordStore(Path(os.fsdecode(folder))).write_run(record)
    command = [sys.executable, "-m", "harness", "ls", "runs", "--out", folder]
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONUTF8"
    } | variables
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"??\\u001b[31m.npz" in found.stdout
    command[-1] = folder + b"-none"
    found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith(b"error: ")
    assert (
        b"o\\udcff[/red]-none: expected an output folder of `run`, found no such folder"
        in found.stderr
    )


@pytest.mark.skipif(sys.platform == "win32", reason="paths are bytes on Unix")
@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--dataset", "data: name: expected text in UTF-8; rename the file, or set PYTHONUTF8=1"),
        ("--methods", "--methods '\\udcff.npz': expected text in UTF-8"),
        ("--split", "data: split: expected text in UTF-8"),
        ("--device", "device '\\udcff.npz': expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_bytes_that_no_record_can_hold_are_one_line(
    tmp_path: Path, flag: str, expected: str
) -> None:
    found = harness(
        "run", "--out", tmp_path / "out", "--dataset", small_file(tmp_path), flag, "\udcff.npz"
    )
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert expected in found.err
    assert not (tmp_path / "out").exists()
