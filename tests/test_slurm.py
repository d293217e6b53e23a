"""A study on a real Slurm of one node: a job requeued in the middle,
another one's process killed, and what is left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.records.claims import read_claim
from harness.records.schema import RunRecord
from harness.records.store import CLAIM_FILE, RecordStore
from tests.harness.small_run import SMALL, small_file
from tests.harness.test_resume import same_end
from tests.one_node_slurm import missing, one_node_slurm

ROOT = Path(__file__).parents[1]
LACKS = missing()
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(LACKS), reason=f"no Slurm here: lacks {', '.join(LACKS)}"),
]
SECONDS = 300.0
"""Until what is waited for must have come."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of commands while a Slurm with two cores runs."""
    with one_node_slurm(tmp_path_factory.mktemp("slurm"), cpus=2) as environment:
        yield {**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def study(folder: Path, out: Path) -> list[str]:
    """The words of a study of two methods and two seeds."""
    words = [
        *SMALL,
        "--methods",
        "skeletonmae,mamp",
        "--seeds",
        "0-1",
        "--budget",
        "600steps",
        "--threads",
        "1",
    ]
    return [
        *words,
        "--state-seconds",
        "0.1",
        "--dataset",
        str(small_file(folder)),
        "--out",
        str(out),
    ]


def python(words: list[str], environment: dict[str, str]) -> list[str]:
    """The lines that a command of the suite prints."""
    command = [sys.executable, "-m", "harness", *words]
    found = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    return found.stdout.splitlines()


def ask(environment: dict[str, str], *words: str) -> str:
    """What a program of Slurm says."""
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


def until(come: Callable[[], object], what: str) -> None:
    """Wait for something."""
    end = time.monotonic() + SECONDS
    while not come():
        assert time.monotonic() < end, f"waited {SECONDS:.0f} s for {what}"
        time.sleep(0.02)


def at_work(out: Path) -> dict[str, int]:
    """The process of every training that has left a state, by the run's address."""
    states = {path.parent.name for path in out.glob("*/state-*.json")}
    claims = {address: read_claim(out / address / CLAIM_FILE) for address in states}
    return {address: claim.process for address, claim in claims.items() if claim}


def job_of(process: int) -> str:
    """``12_3``: the job of an array that a process belongs to."""
    environment = psutil.Process(process).environ()
    return f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"


def records(out: Path) -> dict[str, RunRecord]:
    """The records of a folder by address."""
    return {record.address: record for record in RecordStore(out).runs()}


def test_a_study_in_which_one_job_is_requeued_and_one_killed_ends_as_a_local_run(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    """A killed child is started again by its job; a killed job fails,
    and what it was at is done by another one.
    """
    local, out = tmp_path / "local", tmp_path / "out"
    python(["run", *study(tmp_path, local)], slurm)
    said = python(
        ["submit", *study(tmp_path, out), "--cpus", "1", "--parallel", "2", "--time", "30"], slurm
    )
    array = said[-2].rpartition("array ")[2]
    until(lambda: len(at_work(out)) == 2, "two trainings")
    first, second = at_work(out).values()
    child_of, requeued = psutil.Process(second), job_of(first)
    job = child_of.parent()
    assert job
    assert "submitit.core._submit" in job.cmdline()
    ask(slurm, "scontrol", "requeue", requeued)
    child_of.kill()
    until(
        lambda: any(process not in (first, second) for process in at_work(out).values()),
        "the next ones",
    )
    lost = next(process for process in at_work(out).values() if process not in (first, second))
    os.kill(psutil.Process(lost).ppid(), signal.SIGKILL)
    until(lambda: not ask(slurm, "squeue", "--noheader").strip(), "the end of all jobs")
    if {record.status for record in records(out).values()} != {
        "ok"
    }:  # the last job was the one that was lost
        python(["submit", *study(tmp_path, out), "--cpus", "1", "--wait"], slurm)
    expected, found = records(local), records(out)
    assert found.keys() == expected.keys()
    assert len([record for record in found.values() if not record.method.control]) == 4
    assert all(
        same_end(found[name], expected[name]) for name in found if not found[name].method.control
    )
    assert all(found[name].accuracy == expected[name].accuracy for name in found)
    assert sum(len(record.continued) for record in found.values()) >= 2
    assert not [*out.glob("*/state-*"), *out.glob(f"*/{CLAIM_FILE}")]
    assert (
        len(list(out.glob("*/speed.json"))) == 1
    )  # by the exclusive job; the workers took its step times
    logs = {path.name: path.read_text() for path in (out / "jobs").glob("*.out")}
    (log,) = (text for name, text in logs.items() if name.startswith(f"{requeued}_"))
    assert "DUE TO JOB REQUEUE" in log
    assert log.count("Starting with JobEnvironment") == 2
    assert any("SIGKILL ended `harness run" in text for text in logs.values())
    assert array in requeued


def test_a_preempted_job_comes_back_by_itself_and_a_cancelled_one_does_not(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = [*study(tmp_path, out), "--methods", "mamp", "--seeds", "0", "--budget", "3000steps"]
    said = python(["submit", *words, "--cpus", "1", "--time", "30"], slurm)
    workers = said[-2].rpartition("array ")[2]

    def restarts() -> int:
        shown = ask(slurm, "scontrol", "--oneliner", "show", "job", workers)
        return int(shown.partition("Restarts=")[2].partition(" ")[0])

    for times, number in enumerate(("USR2", "TERM"), 1):
        until(lambda: at_work(out), "the training")
        ask(slurm, "scancel", f"--signal={number}", workers)
        until(lambda times=times: restarts() == times, f"the requeue after SIG{number}")
        until(
            lambda: (
                "JobState=RUNNING" in ask(slurm, "scontrol", "--oneliner", "show", "job", workers)
            ),
            "its start",
        )
    until(lambda: at_work(out), "the training")
    ask(slurm, "scancel", workers)
    until(lambda: not ask(slurm, "squeue", "--noheader").strip(), "the end of the job")
    assert restarts() == 2
    (record,) = (record for record in records(out).values() if not record.method.control)
    assert record.status == "interrupted"
    assert len(record.continued) == 2
    left = json.loads("\n".join(python(["status", str(out), "--json"], slurm)))
    assert {row["state"] for row in left} == {"done", "stopped"}
