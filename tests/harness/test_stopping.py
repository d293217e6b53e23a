"""Ctrl-C, SIGTERM and SIGHUP: an exception in the main thread, a record, a line,
the exit code of the signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from datasets.formats.store import open_store
from harness.isolation.stopping import (
    SIGNALS,
    Stopped,
    deferred,
    held,
    stop_if_asked,
    stop_is_asked,
    stoppable,
)
from harness.records.store import RecordStore
from tests.datasets.made_up_source import write_numbers
from tests.harness.small_run import SMALL, harness, plugin_file, small_file

ROOT = Path(__file__).parents[2]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138}
REASONS = {
    signal.SIGINT: "stopped by the user",
    signal.SIGTERM: "stopped by SIGTERM",
    signal.SIGHUP: "stopped by SIGHUP",
    signal.SIGUSR1: "stopped by SIGUSR1",
}
LINES = {
    signal.SIGINT: "error: stopped; the same command continues with what is missing\n",
    signal.SIGTERM: "error: stopped by SIGTERM; the same command continues with what is missing\n",
    signal.SIGHUP: "error: stopped by SIGHUP; the same command continues with what is missing\n",
    signal.SIGUSR1: "error: stopped by SIGUSR1; the same command continues with what is missing\n",
}

HIT = '''
import signal
from torch import nn
from methods.base import About, Method, MethodOptions

class Options(MethodOptions):
    signal: int = 0
    swallow: bool = False

class Hit(Method):
    """Is hit by a signal when a run is half-way."""
    about = About("Hit", "none")
    Options = Options

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)
        self.progress = 0.0

    def after_step(self, progress):
        self.progress = progress

    def loss(self, x):
        if self.options.signal and self.progress > 0.4 and len(x) > 2:  # trial steps have two
            try:
                signal.raise_signal(self.options.signal)
            except BaseException:
                if not self.options.swallow:
                    raise
        return (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean(), {}
'''


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_an_exception_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stop, stoppable():
        signal.raise_signal(number)
    assert isinstance(stop.value, KeyboardInterrupt)
    assert (stop.value.exit_code, stop.value.reason) == (CODES[number], REASONS[number])
    assert signal.getsignal(number) is before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable() as stops:
            signal.raise_signal(signal.SIGHUP)
        assert stops.asked is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_held_signal_is_raised_after_the_block() -> None:
    done = []

    def write() -> None:
        with held():
            signal.raise_signal(signal.SIGTERM)
            done.append("written")
        done.append("not reached")

    with pytest.raises(Stopped), stoppable():
        write()
    assert done == ["written"]


def test_a_deferred_signal_is_raised_after_the_block_a_second_one_at_once() -> None:
    done = []

    def work(signals: int) -> None:
        with deferred():
            for _ in range(signals):
                signal.raise_signal(signal.SIGTERM)
                done.append("on")
            assert stop_is_asked()
            stop_if_asked()  # not yet
        done.append("not reached")

    with pytest.raises(Stopped), stoppable():
        work(1)
    assert done == ["on"]
    with pytest.raises(Stopped), stoppable():
        work(2)
    assert done == ["on", "on"]
    assert not stop_is_asked()


def test_holding_costs_nothing_when_no_signal_comes() -> None:
    with held():
        pass
    with stoppable() as stops, held(), held():
        pass
    assert stops.asked is None


def test_a_swallowed_stop_is_raised_when_asked_for() -> None:
    with stoppable():
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped):
            stop_if_asked()
    stop_if_asked()  # nothing is left of it


def test_the_first_signal_decides_the_exit_code() -> None:
    with stoppable() as stops:
        for number in (signal.SIGHUP, signal.SIGTERM):
            with pytest.raises(Stopped):
                signal.raise_signal(number)
    assert stops.asked is not None
    assert stops.asked.exit_code == 129


def test_outside_the_main_thread_nothing_is_installed() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def look() -> None:
        with stoppable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


# --- whole commands ---


QUICK = ((signal.SIGINT, "false"), (signal.SIGTERM, "false"), (signal.SIGTERM, "true"))


@pytest.mark.parametrize(
    ("number", "swallow"),
    [
        pytest.param(number, swallow, marks=() if (number, swallow) in QUICK else pytest.mark.long)
        for number in SIGNALS
        for swallow in ("false", "true")
    ],
)
def test_a_run_that_is_stopped_leaves_the_record_of_the_running_cell(
    number: signal.Signals, swallow: str, tmp_path: Path
) -> None:
    out, before = tmp_path / "out", signal.getsignal(number)
    found = harness(
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin_file(tmp_path, "hit", HIT),
        "--out",
        out,
        "--methods",
        f"hit:signal={int(number)},swallow={swallow},encoder-only",
    )
    assert (found.code, found.err) == (CODES[number], LINES[number])
    records = {record.spec.method.name: record for record in RecordStore(out).runs()}
    assert set(records) == {"raw-pca", "random-init", "hit"}
    assert (records["hit"].status, records["hit"].error) == ("interrupted", REASONS[number])
    assert not [path.name for path in out.rglob("*") if path.name.startswith(".")]
    assert signal.getsignal(number) is before


def test_a_signal_while_a_record_is_written_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, out = RecordStore.write_run, tmp_path / "out"

    def write_slowly(store: RecordStore, record: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        write(store, record)  # type: ignore[arg-type]

    monkeypatch.setattr(RecordStore, "write_run", write_slowly)
    found = harness(
        "run", *SMALL, "--dataset", small_file(tmp_path), "--out", out, "--methods", "encoder-only"
    )
    assert found.code == 143
    assert [(record.label, record.status) for record in RecordStore(out).runs()] == [
        ("raw-pca", "ok")
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_is_signalled_before_torch_is_loaded_ends_with_the_line(
    number: signal.Signals, tmp_path: Path
) -> None:
    """The real thing: a process, a signal from outside, an exit code."""
    script = tmp_path / "waits.py"
    script.write_text(
        "import sys, time\n"
        "from harness.cli import main as cli\n"
        "cli.app = lambda **_: (print('ready', flush=True), time.sleep(60))\n"
        "cli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script), "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (CODES[number], LINES[number])


PREPARE = """
import datasets.raw
from harness.cli import main as cli
from tests.datasets.made_up_source import SlowSource

if __name__ == "__main__":  # reading processes import this file too
    datasets.raw.open_source = lambda name, raw: SlowSource(raw)
    cli.main()
"""


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)]
)
def test_a_preparation_that_is_stopped_goes_on_where_it_was(
    number: signal.Signals, tmp_path: Path
) -> None:
    """The signal goes to the whole group, reading processes too,
    as a terminal and a scheduler send it.
    """
    numbers = {
        f"n{number:03}": f"{number % 2} {number % 5}\n{number}\n{number + 1}\n"
        for number in range(60)
    }
    raw, store, script = (
        write_numbers(tmp_path / "raw", **numbers),
        tmp_path / "store",
        tmp_path / "prepare.py",
    )
    script.write_text(PREPARE)
    command = [
        sys.executable,
        str(script),
        "data",
        "prepare",
        "numbers",
        "--raw",
        str(raw),
        "--out",
        str(store),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    while len(list(tmp_path.glob(".store.partial/part-*.npz"))) < 2:
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (CODES[number], LINES[number])
    assert not store.exists()
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert len(open_store(store)) == 60
