"""What a method's code would leave running beyond its call: threads, timers, forks,
handlers at exit, its own exit.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.errors import MethodFault
from harness.isolation import outliving
from harness.isolation.guard import Guard
from harness.isolation.outliving import AtExit, overseen, strays, told
from harness.records.store import RecordStore
from harness.report.status import read_status
from harness.speed.disturbance import Moment, Watch
from tests.harness.small_run import SMALL, harness, plugin_file, small_file

ROOT = Path(__file__).parents[2]


def started(work: Callable[[], object], *, daemon: bool = True) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=daemon, name="mine")
    thread.start()
    return thread


def guarded(call: Callable[[], object]) -> None:
    with Guard()("training"):
        call()


def go_on() -> None:
    while True:
        time.sleep(0.001)


# --- threads ---


def test_a_thread_that_goes_on_is_ended_and_its_methods_fault() -> None:
    threads = list[threading.Thread]()
    with pytest.raises(
        MethodFault, match=r"^left a thread running \(mine\) \(training\); leave the process"
    ):
        guarded(lambda: threads.append(started(go_on)))
    assert not threads[0].is_alive()
    assert strays() == []


def test_a_thread_that_ends_with_its_call_is_nobodys_fault() -> None:
    with Guard()("training"):
        started(lambda: time.sleep(0.01))


def test_a_thread_that_waits_cannot_be_ended_and_disturbs_whatever_is_timed_then() -> None:
    release, watch = threading.Event(), Watch(torch.device("cpu"))
    try:
        with pytest.raises(
            MethodFault, match=r"left a thread running \(mine\), which does not end"
        ):
            guarded(lambda: started(release.wait))
        (thread,) = strays()
        assert watch.since(Moment.now()) == "a thread that a method left running"
    finally:
        with told(print):  # in silence: it was asked to end
            release.set()
            thread.join()
    assert strays() == []


def test_a_thread_of_an_open_call_disturbs_nobody() -> None:
    release = threading.Event()
    with Guard()("training"):
        thread = started(release.wait)
        assert strays() == []
        release.set()
        thread.join()


def test_threads_that_a_library_keeps_are_nobodys_fault() -> None:
    with ThreadPoolExecutor(1) as pool, Guard()("training"):
        pool.submit(int).result()


def test_the_inner_of_two_calls_answers_for_a_thread() -> None:
    with Guard()("being timed"), pytest.raises(MethodFault, match="left a thread running"):
        guarded(lambda: started(go_on))


def test_what_a_thread_throws_is_a_warning_of_its_row_or_a_line() -> None:
    def throw() -> None:
        raise ValueError("in a thread")

    def throw_late() -> None:
        time.sleep(0.1)
        throw()

    lines, guard = list[str](), Guard()
    with told(lines.append):
        with guard("training"):
            started(throw).join()
        with overseen():
            thread = started(throw_late)
        thread.join()
    where = "a thread ended in ValueError: in a thread (test_outliving.py, line "
    assert [text.startswith(where) for text in guard.warnings] == [True]
    assert [line.startswith(f"warning: {where}") for line in lines] == [True]


def test_a_command_does_not_wait_for_a_thread_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ended(BaseException):
        pass

    def end(code: int) -> None:
        raise Ended(code)

    release = threading.Event()
    try:
        with overseen():
            thread = started(release.wait, daemon=False)
        monkeypatch.setattr(os, "_exit", end)
        with pytest.raises(Ended, match="1"):
            main.leave(1)
        assert (
            capsys.readouterr().err == "warning: not waited for what a method left running: mine\n"
        )
    finally:
        release.set()
        thread.join()


# --- the end of the process ---


def test_a_method_cannot_end_the_process_without_a_word() -> None:
    with pytest.raises(MethodFault, match=r"^SystemExit: os\._exit\(0\) "), Guard()("training"):
        os._exit(0)


def test_a_thread_ends_the_process_with_an_exit_code_that_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    codes, lines = list[int](), list[str]()
    monkeypatch.setattr(outliving, "_exit_of_the_system", codes.append)
    with told(lines.append), overseen():
        started(lambda: os._exit(0)).join()
    assert codes == [1]
    assert lines == [
        "error: a method's thread ended the process: os._exit(0); the same command goes on with"
        " what is left"
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_that_a_call_forked_does_not_go_on() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the many threads that torch has
        with Guard()("training"):
            child = os.fork()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_what_a_method_does_at_exit_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, lines = list[Callable[[], object]](), list[str]()
    monkeypatch.setattr(outliving, "_register_of_atexit", kept.append)
    with told(lines.append):
        with Guard()("import"):
            assert atexit.register(lambda: os._exit(0))
        (handler,) = kept
        assert isinstance(handler, AtExit)
        handler()
    assert len(lines) == 1
    assert lines[0].startswith(
        "warning: a method's handler at exit ended in SystemExit: os._exit(0) "
    )


def test_python_has_its_own_functions_again_after_a_call() -> None:
    before = (os._exit, atexit.register, threading.Thread.start, threading.excepthook)
    with told(lambda line: None), Guard()("training"), Guard()("warm-up"):
        assert os._exit is not before[0]
    assert before == (os._exit, atexit.register, threading.Thread.start, threading.excepthook)


# --- timers ---


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_a_timer_that_rings_in_its_call_ends_it_and_one_that_is_set_is_stopped() -> None:
    def ring() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(5)

    with pytest.raises(
        MethodFault, match=r"^SystemExit: SIGALRM, of a timer that the method has set "
    ):
        guarded(ring)
    with pytest.raises(MethodFault, match=r"^changed timers: ITIMER_REAL "):
        guarded(lambda: signal.alarm(100))
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL


# --- what is not seen ---

GONE = '''"""Ends the process as C code may, once."""

import ctypes
from pathlib import Path

from torch import nn

from methods.base import About, Method

ENDED = Path(__file__).with_name("ended")


class Gone(Method):
    about = About(title="Gone", paper="none")

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)

    def after_step(self, progress):
        self.late = progress > 0.4

    def loss(self, x):
        if getattr(self, "late", False) and len(x) > 2 and not ENDED.exists():
            ENDED.touch()
            ctypes.CDLL(None)._exit(0)
        return (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean(), {}
'''


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="asks the C library of this process")
def test_where_c_code_ends_the_process_records_stay_whole_and_the_next_run_goes_on(
    tmp_path: Path,
) -> None:
    words = [
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin_file(tmp_path, "gone", GONE),
        "--methods",
        "gone,encoder-only",
        "--baseline",
        "encoder-only",
        "--out",
        tmp_path / "out",
    ]
    command = [sys.executable, "-m", "harness", *map(str, words)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (tmp_path / "ended").exists(), ended.stderr
    assert (
        "speedup [95 %]" not in ended.stdout
    )  # no table that looks complete, whatever the exit code says
    assert not (tmp_path / "out" / "table.md").exists()
    store = RecordStore(tmp_path / "out")
    assert sorted(record.label for record in store.runs()) == ["random-init", "raw-pca"]
    assert not store.refused
    assert {
        row.state for row in read_status(tmp_path / "out") if row.label in ("gone", "encoder-only")
    } <= {"stopped", "waiting"}
    again = harness(*words)
    assert (again.code, again.err) == (0, "")
    assert {record.status for record in RecordStore(tmp_path / "out").runs()} == {"ok"}
