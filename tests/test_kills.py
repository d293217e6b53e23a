"""Runs that are killed at random moments, in training, probing and saving, and continued:
they end the same.
"""

from __future__ import annotations

import random
import shutil
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from tests.harness.children import begin, killed, needs_fork
from tests.harness.small_run import SMALL, registry, small_file
from tests.harness.test_resume import same_end

pytestmark = pytest.mark.long

METHODS = [
    *sorted(set(registry().methods) - {"encoder-only", "skeleton2vec"}),
    "skeleton2vec:mask_ratio=0.6",
]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)
KILLS = 10


def child(method: str, data: Path, out: Path) -> BaseProcess:
    """The command, begun."""
    words = [
        "run",
        "--methods",
        method,
        *SMALL,
        "--budget",
        "60steps",
        "--set",
        "probe.points=4",
        "--threads",
        "1",
    ]
    more = ["--dataset", str(data), "--out", str(out), "--state-seconds", "0.1"]
    return begin([*words, *more], out.with_suffix(".log"))


def run_of(out: Path) -> RunRecord:
    """The record of the method's run."""
    (record,) = (record for record in RecordStore(out).runs() if not record.method.control)
    return record


@needs_fork
@pytest.mark.parametrize("method", METHODS)
def test_ten_kills_change_nothing(method: str, tmp_path: Path) -> None:
    data, out, moments = small_file(tmp_path), tmp_path / "out", random.Random(method)
    whole = child(method, data, out)
    whole.join()
    assert whole.exitcode == 0
    undisturbed = run_of(out)
    shutil.rmtree(
        out / undisturbed.address
    )  # the controls and the speed stay: what is killed is the run
    kills, continued, ended = 0, 0, 0
    while kills < KILLS or not ended:
        process = child(method, data, out)
        if kills < KILLS - 1:
            process.join(timeout=moments.uniform(0.1, 0.5 + undisturbed.wall_seconds))
        elif (
            kills < KILLS
        ):  # on a busy machine all others may come before there is anything to go on with
            while process.is_alive() and not list(out.glob("*/state-*.json")):
                process.join(timeout=0.01)
        else:
            process.join()
        if process.exitcode is None:
            killed(process, moments.choice(SIGNALS))
            kills += 1
        if process.exitcode == 0:  # it was faster than the signal, or all have come
            record = run_of(out)
            assert same_end(record, undisturbed)
            assert not list((out / record.address).glob("state-*"))
            continued, ended = continued + len(record.continued), ended + 1
            shutil.rmtree(out / record.address)
    assert continued
