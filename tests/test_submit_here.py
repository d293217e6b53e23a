"""A study as jobs of this machine, in processes of their own: stopped in the middle,
submitted again, the same end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.records.store import RecordStore
from tests.harness.test_resume import same_end
from tests.test_slurm import ROOT, at_work, python, records, study, until

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="jobs are told by signals of Unix"),
]


def test_jobs_here_that_are_stopped_and_submitted_again_end_as_one_process_does(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    whole, out, log = tmp_path / "whole", tmp_path / "out", tmp_path / "submit.log"
    python(["run", *study(tmp_path, whole)], environment)
    words = [
        "submit",
        *study(tmp_path, out),
        "--executor",
        "local",
        "--parallel",
        "2",
        "--cpus",
        "1",
    ]
    with log.open("w") as stream:
        submit = subprocess.Popen(
            [sys.executable, "-m", "harness", *words],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
        )
    until(lambda: len(at_work(out)) == 2, "two trainings")
    submit.send_signal(signal.SIGTERM)
    assert submit.wait() == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; the same command continues with what is missing" in log.read_text()
    assert not at_work(out)  # nobody is left behind
    stopped = [record for record in RecordStore(out).runs() if record.status == "interrupted"]
    assert {record.error for record in stopped} == {"stopped by SIGUSR1"}
    assert f"7 runs: 7 done; table in {out / 'table.md'}" in python(words, environment)
    expected, found = records(whole), records(out)
    assert found.keys() == expected.keys()
    assert all(
        same_end(found[name], expected[name]) for name in found if not found[name].method.control
    )
    assert sum(len(record.continued) for record in found.values()) == len(stopped)


def test_ranks_of_a_job_here_train_one_run_and_go_on_where_one_was_killed(tmp_path: Path) -> None:
    """Its job starts both again, and they end as one process does, to rounding."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    whole, out, log = tmp_path / "whole", tmp_path / "out", tmp_path / "submit.log"
    one = ["--methods", "skeletonmae", "--seeds", "0", "--budget", "400steps"]
    python(["run", *study(tmp_path, whole), *one], environment)
    words = [*study(tmp_path, out), *one, "--executor", "local", "--ranks", "2", "--cpus", "2"]
    with log.open("w") as stream:
        submit = subprocess.Popen(
            [sys.executable, "-m", "harness", "submit", *words],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
        )
    until(lambda: at_work(out), "the training")
    (first,) = at_work(out).values()
    siblings = psutil.Process(psutil.Process(first).ppid()).children()
    (second,) = (process for process in siblings if process.environ().get("RANK") == "1")
    second.kill()
    assert submit.wait() == 0, log.read_text()
    logs = "".join(path.read_text() for path in (out / "jobs").glob("*.out"))
    assert "SIGKILL ended `harness run" in logs
    (expected,), (found,) = (
        [one for one in records(of).values() if one.training] for of in (whole, out)
    )
    assert found.environment.ranks == 2
    assert len(found.continued) == 1
    assert expected.training
    assert found.training
    assert [loss["loss"] for loss in found.training.losses] == pytest.approx(
        [loss["loss"] for loss in expected.training.losses], rel=1e-3
    )
