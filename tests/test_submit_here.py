"""A study as jobs of this machine, in processes of their own: stopped in the middle,
submitted again, the same end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

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
