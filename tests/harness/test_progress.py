"""Progress in a log: the first line at once, then one at least every half minute,
whatever the work is busy with.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from harness.progress import QUIET_SECONDS, Reporter, Task
from tests.harness.small_run import SMALL, harness, plugin_file, small_file

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _lines_as_users_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.progress.QUIET_SECONDS", QUIET_SECONDS)


class Log:
    """A reporter that writes into a string, on a clock that stands until it is set."""

    def __init__(self) -> None:
        self.now, self.file = 0.0, io.StringIO()
        self.reporter = Reporter(Console(file=self.file, soft_wrap=True), clock=lambda: self.now)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture
def log() -> Log:
    return Log()


# --- what a line says ---


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            (50, 200, "loss 0.31"),
            "gfp: step 50 of 200 (25%), loss 0.31, 30 s so far, about 1.5 min left",
        ),
        ((200, 200, "probing"), "gfp: step 200 of 200 (100%), probing, 30 s so far"),
        ((0, 200, "warming up"), "gfp: step 0 of 200 (0%), warming up, 30 s so far"),
        ((1234567, 0, ""), "gfp: step 1,234,567, 30 s so far"),
        ((0, 0, ""), "gfp: 30 s so far"),
    ],
)
def test_a_line_has_step_share_loss_and_time_left(said: tuple[int, int, str], line: str) -> None:
    task = Task("gfp", "step", began=100.0)
    task(*said)
    assert task.text(130.0) == line


def test_methods_are_counted_from_the_first() -> None:
    task = Task("warming up", "method")
    task(0, 3, "gfp")
    assert task.text(5.0) == "warming up: method 1 of 3 (0%), gfp, 5 s so far"
    task(2, 3, "mamp")
    assert task.text(6.0).startswith("warming up: method 3 of 3 (67%), mamp, ")
    task(3, 3)
    assert task.text(6.0) == "warming up: method 3 of 3 (100%), 6 s so far"


def test_without_a_unit_numbers_stand_alone() -> None:
    task = Task("checking")
    task(3, 4)
    assert task.text(30.0) == "checking: 3 of 4 (75%), 30 s so far, about 10 s left"


def test_a_task_may_be_asked_instead_of_telling() -> None:
    task, done = Task("training", "step"), [1]
    task.follow(lambda: (done[0], 10, ""))
    done[0] = 7
    assert task.text(7.0) == "training: step 7 of 10 (70%), 7 s so far, about 3 s left"


# --- when ---


def test_quick_work_says_nothing(log: Log) -> None:
    with log.reporter.task("training", "step") as task:
        for done in range(29):
            log.now = float(done)
            task(done, 100)
    assert log.lines == []


def test_half_a_minute_after_the_last_line_there_is_another(log: Log) -> None:
    assert QUIET_SECONDS <= 30
    with log.reporter.task("training", "step") as task:
        for log.now in range(0, 101, 10):
            task(int(log.now), 100)
    assert [line.split(",")[0] for line in log.lines] == [
        "training: step 30 of 100 (30%)",
        "training: step 60 of 100 (60%)",
        "training: step 90 of 100 (90%)",
    ]


def test_any_line_counts(log: Log) -> None:
    with log.reporter.task("training", "step") as task:
        log.now = 20.0
        log.reporter.line("[1/4] raw-pca, seed 0: done")
        log.now = 40.0
        task(1, 2)
        assert log.lines == ["[1/4] raw-pca, seed 0: done"]
        log.now = 50.0
        task(1, 2)
    assert log.lines[1:] == ["training: step 1 of 2 (50%), 50 s so far, about 50 s left"]


def test_the_innermost_task_is_shown(log: Log) -> None:
    with log.reporter.task("working"):
        with log.reporter.task("training"):
            log.now = 30.0
            log.reporter.remind()
        log.now = 60.0
        log.reporter.remind()
    log.now = 90.0
    log.reporter.remind()
    assert log.lines == ["training: 30 s so far", "working: 1.0 min so far"]


def until(true: Callable[[], bool]) -> None:
    """Wait for another thread, for long if need be."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_work_that_says_nothing_is_reported_by_a_thread_of_its_own() -> None:
    file = io.StringIO()
    reporter = Reporter(Console(file=file, soft_wrap=True), every=0.01)
    with reporter.log():
        until(lambda: "working: 0 s so far" in file.getvalue())
        with reporter.task("probing", "clip") as task:
            task(3, 4)
            until(lambda: "probing: clip 3 of 4 (75%)" in file.getvalue())
    ended = file.getvalue()
    time.sleep(0.05)
    assert file.getvalue() == ended


def test_every_line_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as file:
        reporter = Reporter(Console(file=file, soft_wrap=True))
        reporter.line("first")
        assert path.read_text() == "first\n"


def test_a_terminal_has_bars_instead() -> None:
    file = io.StringIO()
    reporter = Reporter(Console(file=file, force_terminal=True), every=0.0)
    with reporter.log(), reporter.task("training") as task:
        task(1, 2)
        reporter.remind()
    assert "so far" not in file.getvalue()


def test_bars_of_tasks_within_tasks_say_what_each_is_busy_with() -> None:
    file = io.StringIO()
    reporter = Reporter(Console(file=file, force_terminal=True, width=120), every=0.0)
    with reporter.task("warming up", "method") as outer:
        outer(1, 4, "gfp, counting FLOPs")
        until(lambda: "warming up: gfp, counting FLOPs" in file.getvalue())
        with reporter.task("reading data") as inner:
            inner.follow(lambda: (3, 4, "half"))
            until(lambda: "reading data: half" in file.getvalue())
    with reporter.task("training"):
        until(lambda: "training" in file.getvalue())


# --- whole commands ---


def test_the_first_line_comes_before_torch_is_loaded(tmp_path: Path) -> None:
    """Here loading torch ends the process."""
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was loaded')\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "harness", "run", "--methods", "gfp"]
    environment = {**os.environ, "PYTHONPATH": path}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.stdout == "started: python -m harness run --methods gfp\n"
    assert "torch was loaded" in ended.stderr


SLOW = '''
import time
from torch import nn
from methods.base import About, Diagnosis, Method

class Slow(Method):
    """Waits for a line: when it is built, late in training, and when asked for its health."""
    about = About("Slow", "none")

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)
        self.progress = 0.0
        time.sleep(0.1)

    def after_step(self, progress):
        self.progress = progress

    def loss(self, x):
        if self.progress > 0.2 and len(x) > 2:  # trial steps have two
            time.sleep(0.1)
        return (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean(), {}

    def diagnose(self, x):
        time.sleep(0.1)
        return Diagnosis({})
'''


def test_a_run_in_a_log_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.progress.QUIET_SECONDS", 0.02)
    found = harness(
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin_file(tmp_path, "slow", SLOW),
        "--methods",
        "slow",
        "--out",
        tmp_path / "out",
    )
    assert (found.code, found.err) == (0, "")
    lines = found.out.splitlines()
    assert lines[0].startswith("started: python -m harness run ")
    told = [line for line in lines if line.startswith("[3/3] slow, seed 0: step ")]
    assert any("loss 0." in line and "so far, about" in line for line in told)
    assert any("(50%), probing" in line for line in told)
    assert any(line.startswith("measuring speed, methods interleaved: round ") for line in lines)
    assert any(line.startswith("warming up: ") and "slow, counting FLOPs" in line for line in lines)


# --- quiet ---


def test_a_quiet_reporter_prints_results_alone() -> None:
    file = io.StringIO()
    reporter = Reporter(Console(file=file), every=0.0, quiet=True)
    with reporter.log(), reporter.task("training", "step") as task:
        task(1, 2)
        reporter.line("half-way")
        reporter.remind()
        reporter.result("the result")
    assert file.getvalue() == "the result\n"


def test_a_quiet_run_prints_its_table_alone(tmp_path: Path) -> None:
    command = ["run", *SMALL, "--dataset", small_file(tmp_path), "--out", tmp_path / "out"]
    command += ["--methods", "encoder-only", "--no-pictures"]
    quiet = harness(*command, "-q")
    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.out.startswith("method ")
    loud = harness(*command).out
    assert loud.startswith("started: ")
    assert quiet.out.replace(" -q", "") in loud
    assert ("records in" in loud, "records in" in quiet.out) == (True, False)
