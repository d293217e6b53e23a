"""`benchmarks/gpu.py`: whatever stops it, what was measured stays,
and the same call goes on with the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Never

import pytest
import torch

from benchmarks.gpu_packages import missing, package_of, unpack
from benchmarks.gpu_report import (
    claims_table,
    expected_table,
    measurement,
    sections,
    training_claims,
)
from datasets.formats.npz import write_npz
from datasets.synthetic.generation import ACTIONS, generate
from harness.cli import main as cli
from harness.records.store import RecordStore
from harness.runs import experiment
from harness.spec.model import DataSpec
from harness.speed.measurement import Timing
from harness.training.data import load_data
from tests.harness.children import needs_fork
from tests.harness.made_up_records import (
    ENVIRONMENT,
    arm,
    ratio,
    speed_record,
    stage_arm,
    stage_record,
)

ROOT = Path(__file__).parents[1]

# Parts that write a file at once, another one where they are told to end, and go on until then.
DRIVER = '''
import sys
sys.path.insert(0, {benchmarks!r})
import gpu

QUICK = "import pathlib, sys; pathlib.Path(sys.argv[-1], 'number.json').write_text('1')"
SLOW = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1])
def told(number, frame):
    (folder / 'rest.json').write_text('2')
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, told)
print('at work', flush=True)
(folder / 'number.json').write_text('1')
while not (folder.parent / 'enough').exists():
    time.sleep(0.05)
"""
gpu.all_parts = lambda scale, mamp: [
    gpu.Part("quick", ("-c", QUICK)), gpu.Part("slow", ("-c", SLOW)),
    gpu.Part("broken", ("-c", "1/0")), gpu.Part("asked", ("-c", QUICK), asked=True),
]
gpu.say_missing = lambda wheels: []
gpu.Call.report = lambda call: gpu.write(call.out / "report.md", b"")
gpu.SHORTEST, gpu.END, gpu.LOOK, gpu.ARCHIVE = 0.0, 0.0, 0.05, 0.1
sys.exit(gpu.main())
'''


class Calls:
    """Calls of the script with made-up parts, one after the other in one folder."""

    def __init__(self, folder: Path) -> None:
        self.out, self.results, self.driver = (
            folder / "out",
            folder / "work" / "results",
            folder / "driver.py",
        )
        self.driver.write_text(DRIVER.format(benchmarks=str(ROOT / "benchmarks")))
        self.words = ["--out", str(self.out), "--work", str(folder / "work")]

    def begin(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.driver), *self.words, *more]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def states(self) -> dict[str, str]:
        noted = json.loads((self.results / "parts.json").read_text())
        return {name: part["state"] for name, part in noted.items()}

    def archived(self) -> dict[str, bytes]:
        with tarfile.open(self.out / "results.tar.gz") as archive:
            return {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]


def wait_for(what: Callable[[], object]) -> None:
    for _ in range(1200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("waited for a minute")


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path)


@needs_fork
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_that_is_told_to_end_leaves_everything(calls: Calls, number: signal.Signals) -> None:
    call = calls.begin()
    wait_for((calls.results / "slow" / "number.json").exists)
    call.send_signal(number)
    printed, _ = call.communicate()
    assert call.returncode == 128 + number
    assert "left for another call: slow, broken" in printed
    assert calls.states() == {"quick": "done", "slow": "stopped by a signal"}
    archived = calls.archived()
    assert {
        "quick/number.json",
        "slow/number.json",
        "slow/rest.json",
        "slow/log.txt",
        "parts.json",
    } <= set(archived)
    assert b"at work\n" in archived["slow/log.txt"]
    assert sorted(path.name for path in calls.out.iterdir()) == ["report.md", "results.tar.gz"]


@needs_fork
def test_a_killed_call_leaves_an_archive_and_no_process(calls: Calls) -> None:
    call = calls.begin()
    wait_for((calls.results / "slow" / "number.json").exists)
    wait_for(lambda: "slow/number.json" in calls.archived())
    call.kill()
    call.communicate()
    if sys.platform == "linux":
        wait_for(
            (calls.results / "slow" / "rest.json").exists
        )  # the part was told, and left what it had
    (calls.results / "enough").touch()
    assert calls.states() == {"quick": "done", "slow": "running"}
    assert "slow/number.json" in calls.archived()


@needs_fork
def test_the_same_call_goes_on_and_keeps_what_was_stopped(calls: Calls) -> None:
    first = calls.begin("--seconds", "3")
    printed, _ = first.communicate()
    assert (first.returncode, calls.states()) == (
        1,
        {"quick": "done", "slow": "stopped, no time left"},
    )
    assert "left for another call: slow, broken" in printed
    (calls.results / "slow" / "number.json").write_text("of the first call")
    (calls.results / "enough").touch()
    second = calls.begin()
    printed, _ = second.communicate()
    assert second.returncode == 1
    assert "quick" not in printed
    assert "every part ended" in printed
    assert calls.states() == {"quick": "done", "slow": "done", "broken": "failed, exit code 1"}
    archived = calls.archived()
    assert (archived["slow/number.json"], archived["slow.1/number.json"]) == (
        b"1",
        b"of the first call",
    )
    assert b"ZeroDivisionError" in archived["broken/log.txt"]


@needs_fork
def test_a_part_that_is_asked_for_again_is_run_afresh(calls: Calls) -> None:
    for _ in range(2):
        calls.begin("--parts", "quick").communicate()
        (calls.results / "quick" / "more.json").write_text("of this call")
    calls.begin("--parts", "asked").communicate()
    found = {
        name for name in calls.archived() if name.startswith("quick") and name.endswith(".json")
    }
    assert found == {
        "quick.1/number.json",
        "quick.1/more.json",
        "quick/number.json",
        "quick/more.json",
    }


@needs_fork
def test_a_part_that_took_longer_than_what_is_left_is_for_another_call(calls: Calls) -> None:
    timed = 'gpu.Part("quick", ("-c", QUICK), took=1e6)'
    calls.driver.write_text(
        calls.driver.read_text().replace('gpu.Part("quick", ("-c", QUICK))', timed)
    )
    calls.results.mkdir(parents=True)
    (calls.results / "enough").touch()
    printed, _ = calls.begin().communicate()
    assert "quick took 1000000 s on" in printed
    assert "left for another call: quick" in printed
    assert set(calls.states()) == {"slow", "broken"}
    calls.begin("--parts", "quick").communicate()
    assert calls.states()["quick"] == "done"


@needs_fork
def test_a_part_that_is_killed_is_for_another_call(calls: Calls) -> None:
    call = calls.begin("--parts", "slow,asked")
    wait_for((calls.results / "slow" / "number.json").exists)
    (child,) = Path(f"/proc/{call.pid}/task/{call.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGKILL)
    printed, _ = call.communicate()
    assert "left for another call: slow" in printed
    assert calls.states() == {"slow": "stopped by SIGKILL", "asked": "done"}
    assert calls.archived()["slow/number.json"] == b"1"


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "gpu.py"),
        "--out",
        str(tmp_path / "out"),
        "--parts",
        "eagre",
    ]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    assert found.returncode == 2
    assert "expected some of smoke, smoke-compiled, eager" in found.stderr
    assert "found eagre" in found.stderr
    assert not (tmp_path / "out").exists()


# --- the commands of its parts ---


class Planned(Exception):
    """A command has come to the point where the long work begins."""


def planned(timing: Timing, *_: object) -> Never:
    labels = [cell.label for cell in timing.cells]
    assert timing.baseline in labels
    assert len(set(labels)) == len(labels)
    raise Planned


def parsed(parser: argparse.ArgumentParser, *_: object) -> Never:
    parser.parse_known_args()
    raise Planned


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/gpu.py`, which imports its neighbours as a script does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("gpu")


def test_every_part_comes_to_its_long_work(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flags, methods, baseline and settings are taken, on a GPU that is made up."""
    write_npz(tmp_path / "few.npz", generate(subjects=4, actions=tuple(ACTIONS)[:2]))
    data = load_data(DataSpec(name=str(tmp_path / "few.npz")), torch.device("cpu"), patch=4)
    monkeypatch.setattr(experiment, "load_data", lambda *_, **__: data)
    monkeypatch.setattr(experiment, "select_device", lambda *_: torch.device("cpu"))
    monkeypatch.setattr(
        experiment.Experiment, "device_type", property(lambda one: one.request.device)
    )
    monkeypatch.setattr(Timing, "warm_up", planned)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.chdir(ROOT)
    rehearsed = [part for part in script.all_parts(script.REHEARSAL) if part.name == "eager"]
    for part in [*script.all_parts(script.FULL, tmp_path), *rehearsed]:
        words = [*part.command, "--out", str(tmp_path / part.name)]
        with pytest.raises(Planned):
            started(words, monkeypatch)


def started(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python does with these words, in this process."""
    name, rest = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    monkeypatch.setattr(sys, "argv", [name, *rest])
    if name == "harness":
        cli.main()
    else:
        runpy.run_path(str(ROOT / name), run_name="__main__")


# --- packages ---


def test_what_is_missing_is_named_and_found_as_a_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert missing(["numpy", "made-up-package", "pooch"]) == ["made-up-package"]
    with zipfile.ZipFile(tmp_path / "made_up_package-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made_up_package.py", "answer = 42")
        about = (
            "Metadata-Version: 2.1\nName: made-up-package\nVersion: 1.0\nRequires-Dist:"
            " made-up-need>=2\n"
        )
        wheel.writestr("made_up_package-1.0.dist-info/METADATA", about)
    with zipfile.ZipFile(tmp_path / "numpy-0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("numpy.py", "")
    unpack(tmp_path, tmp_path / "packages")
    assert missing(["made-up-package"]) == ["made-up-need"]
    assert not (tmp_path / "packages" / "numpy.py").exists()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("typing_extensions>=4.12", "typing-extensions"),
        ("pydantic_core-2.41.5-cp312-cp312-manylinux_2_17_x86_64.whl", "pydantic-core"),
        ("scikit-learn", "scikit-learn"),
        ("nox[uv] (>=3)", "nox"),
    ],
)
def test_the_package_that_a_text_names(text: str, name: str) -> None:
    assert package_of(text) == name


@pytest.mark.long
def test_parts_need_neither_pooch_nor_matplotlib() -> None:
    code = (
        "import sys; sys.modules.update(pooch=None, matplotlib=None); import"
        " harness.runs.experiment, harness.studies.claims, harness.studies.explain,"
        " harness.report.folder, harness.report.explain, datasets.catalog, harness.cli.run,"
        " harness.cli.studies, datasets.synthetic.ntu60_sized"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# --- the report ---


def test_the_measurement_of_a_part_is_the_finished_one_else_the_longest(tmp_path: Path) -> None:
    measured = speed_record(arm("gfp", ratio(2.0, 3.0, 4.0)))
    for folder, rounds in (("eager.1", 7), ("eager", 3)):
        same = measured.same.model_copy(update={"pairs": rounds})
        path = tmp_path / folder / measured.address / "speed.unfinished.json"
        path.parent.mkdir(parents=True)
        path.write_text(measured.model_copy(update={"same": same}).model_dump_json())
    found, said = measurement(tmp_path, "eager") or pytest.fail("nothing found")
    assert (found.same.pairs, said) == (7, ", stopped after 7 rounds")
    RecordStore(tmp_path / "eager").write_speed(measured)
    assert measurement(tmp_path, "eager") == (measured, "")
    assert measurement(tmp_path, "compiled") is None


def test_expected_numbers_stand_beside_measured_ones() -> None:
    gfp = arm("gfp", ratio(3.0, 3.63, 4.0), clips_per_second=6_000.0)
    table = expected_table({"eager": speed_record(gfp)}).set_index("what")
    assert list(table.loc["gfp: clips/s, eager"]) == ["12,000", "6,000", "0.50"]
    assert list(table.loc["gfp: times mamp's clips/s, eager"]) == ["3 to 3.6", "3.63", "1.10"]
    assert list(table.loc["gfp: clips/s as published, eager"]) == ["13,364", "6,000", "0.45"]
    assert list(table.loc["amr: clips/s, eager"]) == ["18,000", "-", "-"]  # it failed there
    assert not [what for what in table.index if "compiled" in what]  # which was not run
    assert expected_table({}).empty


def test_every_claim_card_has_a_verdict_on_its_own_hardware_or_a_reason() -> None:
    seconds = {
        "gfp": 0.09,
        "amr": 0.05,
        "sjepa": 1.0,
        "encoder-only": 0.01,
        "mamp:decoder_depth=5": 0.6,
    }
    stages = ("as published", "every switch on")
    arms = [
        stage_arm(f"{name} @ {stage}", *[each] * 20)
        for name, each in seconds.items()
        for stage in stages
    ]
    measured = stage_record(
        *arms, stages=stages, environment=ENVIRONMENT.model_copy(update={"device": "NVIDIA H100"})
    )
    table = claims_table([measured])
    assert list(table["claim"]) == [name for name in training_claims() for _ in stages]
    assert set(training_claims()) == {
        "gfp-6.2x",
        "gfp-6.1x",
        "amr-8.1x",
        "sjepa-0.2x",
    }  # what the script measures
    assert set(table["about a"]) == {"gpu"}
    assert set(table["verdict"]) == {"supported"}
    assert claims_table([]).empty
    here = claims_table([stage_record(*arms, stages=stages)])
    assert set(here["verdict"]) == {"other hardware: not tested"}


def test_a_claim_whose_methods_nobody_asked_for_has_no_row() -> None:
    stages = ("as published", "every switch on")
    names = ("gfp", "mamp:decoder_depth=5", "encoder-only")
    arms = [stage_arm(f"{name} @ {way}", *[1.0] * 20) for name in names for way in stages]
    assert set(claims_table([stage_record(*arms, stages=stages)])["claim"]) == {
        "gfp-6.1x",
        "gfp-6.2x",
    }


def test_a_claim_whose_method_could_not_be_measured_says_so_unless_another_part_has_it() -> None:
    stages = ("as published", "every switch on")
    names = ("gfp", "mamp:decoder_depth=5", "encoder-only")
    arms = [stage_arm(f"{name} @ {way}", *[1.0] * 20) for name in names for way in stages]
    whole = stage_record(*arms, stages=stages)
    broken = whole.model_copy(update={"arms": whole.arms[1:]})
    reasons = claims_table([broken])["verdict"]
    assert all(reasons.str.startswith("gfp could not be measured as published; "))
    assert set(claims_table([broken, whole])["trained"]) == set(stages)


def test_a_page_needs_no_measurement(tmp_path: Path) -> None:
    states = {
        "smoke": {
            "state": "failed, exit code 2",
            "seconds": "1",
            "at": "",
            "command": "python -m harness",
        }
    }
    (tmp_path / "parts.json").write_text(json.dumps(states))
    page = "\n".join(sections(tmp_path))
    assert "| smoke | failed, exit code 2 | 1 |" in page
    assert "± 30 %" in page
    assert "- not measured: eager (not run), compiled (not run)" in page
    assert "- not measured: claims (not run), claims-sjepa (not run)" in page
    assert page.count("| what |") == page.count("| claim |") == 0  # no tables without rows


def test_every_part_of_the_claims_says_how_far_it_came(tmp_path: Path) -> None:
    stages = ("as published", "every switch on")
    names = ("gfp", "mamp:decoder_depth=5", "encoder-only")
    arms = [stage_arm(f"{name} @ {way}", *[1.0] * 20) for name in names for way in stages]
    record = stage_record(*arms, stages=stages).model_copy(update={"planned_rounds": 40})
    RecordStore(tmp_path / "claims-sjepa").write_speed(record)
    state = {"state": "stopped, no time left", "seconds": "9", "at": "", "command": "python"}
    (tmp_path / "parts.json").write_text(json.dumps({"claims": state, "claims-sjepa": state}))
    claims = "\n".join(sections(tmp_path)).partition("## Claims\n")[2].partition("\n## ")[0]
    assert f"- from claims-sjepa, stopped after {record.same.pairs} rounds" in claims
    assert "- not measured: claims (stopped, no time left)" in claims
