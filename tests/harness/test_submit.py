"""`submit`: what Slurm would get, what a job does with the signals it gets,
and a study as jobs on this machine.
"""

from __future__ import annotations

import inspect
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from submitit.core.utils import DelayedSubmission
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from harness.cli.run import run_command
from harness.cli.submit import OWN, submit_command
from harness.records.claims import Claims
from harness.records.store import RecordStore, now, read_matrix
from harness.runs import job as jobs
from harness.runs import ranks, submitting
from harness.runs.job import Job
from harness.runs.submitting import REQUEUES, Resources, Work
from tests.harness.made_up_job import CHILD, Made
from tests.harness.small_run import SMALL, Outcome, harness, plugin_file, small_file
from tests.harness.test_claims_of_runs import write_claim

EMPTY_BODIES = ("--set", "data.include_empty_bodies=true")
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGUSR2"), reason="Slurm and its signals are of Unix"
)


def stand_in(folder: Path, name: str, script: str) -> Path:
    """A program of Slurm's name that writes down its arguments,
    and then does what the script says.
    """
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "$@" >> "{folder}/{name}.log"\n{script}\n')
    path.chmod(0o755)
    return path


def asked_of(folder: Path, name: str) -> list[str]:
    """The arguments of each call of a stand-in."""
    path = folder / f"{name}.log"
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of stand-ins for Slurm's programs, first on the path;
    `sbatch` numbers its jobs from 71 on.
    """
    folder = tmp_path / "slurm"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    stand_in(folder, "srun", "")
    stand_in(
        folder, "sbatch", f'echo "Submitted batch job $((70 + $(wc -l < "{folder}/sbatch.log")))"'
    )
    return folder


def submit(folder: Path, *words: str | Path, methods: str = "gfp,skeletonmae") -> Outcome:
    """``submit``, of a small study."""
    asked = ("--dataset", small_file(folder), "--methods", methods, "--out", folder / "out")
    return harness("submit", *SMALL, *asked, *words)


def options(script: str) -> dict[str, str]:
    """What a script asks ``sbatch`` for."""
    lines = [
        line.removeprefix("#SBATCH --")
        for line in script.splitlines()
        if line.startswith("#SBATCH")
    ]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


# --- what Slurm gets ---


def test_a_local_dry_run_prints_the_commands_that_it_would_start(tmp_path: Path) -> None:
    found = submit(
        tmp_path, "--dry-run", "--executor", "local", "--parallel", "2", "--seeds", "0-1"
    )
    commands = [
        line for line in found.out.splitlines() if line.startswith("python -m harness run ")
    ]
    assert ["--measure-only" in line for line in commands] == [True, False, False]
    assert "SBATCH" not in found.out
    assert "executor: local, which runs no script" in found.err


def test_a_dry_run_prints_the_two_scripts(tmp_path: Path) -> None:
    found = submit(
        tmp_path,
        "--dry-run",
        "--seeds",
        "0-1",
        "--parallel",
        "2",
        "--cpus",
        "3",
        "--gpus",
        "1",
        "--memory",
        "7.5",
        "--time",
        "90",
        "--partition",
        "long",
        "--sbatch",
        "account=lab",
    )
    assert found.code == 0
    assert "executor: slurm" in found.err
    measurement, workers = (f"#!/bin/bash{script}" for script in found.out.split("#!/bin/bash")[1:])
    same = {
        "account": "lab",
        "partition": "long",
        "time": "90",
        "mem": "7680MB",
        "cpus-per-task": "3",
        "gpus-per-node": "1",
        "nodes": "1",
        "ntasks-per-node": "1",
        "requeue": "",
        "signal": "USR2@120",
    }
    alone, array = options(measurement), options(workers)
    assert {name: alone[name] for name in same} == {name: array[name] for name in same} == same
    assert "exclusive" in alone
    assert "exclusive" not in array
    assert "array" not in alone
    assert (array["array"], array["dependency"]) == ("0-3%2", "afterok:MEASUREMENT")
    assert (
        array["kill-on-invalid-dep"] == "yes"
    )  # else workers wait for ever for a measurement that failed
    (measuring,) = (line for line in measurement.splitlines() if line.startswith("# the job: "))
    (working,) = (line for line in workers.splitlines() if line.startswith("# the job: "))
    assert measuring.endswith("--device cuda --threads 3 --claim --measure-only")
    assert "--device cuda --threads 3 --claim --no-wait --since 20" in working
    assert all(
        "srun " in script and "--cpus-per-task=3" in script for script in (measurement, workers)
    )
    assert not (tmp_path / "out").exists()


def test_a_dry_run_shows_the_ranks_of_a_job(tmp_path: Path) -> None:
    words = ("--dry-run", "--ranks", "2", "--gpus", "2", "--cpus", "5")
    script = submit(tmp_path, *words, methods="encoder-only").out
    begins = "# the job: torchrun --standalone --nproc-per-node 2 -m harness run "
    jobs = [line for line in script.splitlines() if line.startswith(begins)]
    assert len(jobs) == 2
    assert all("--device cuda --threads 2 " in line for line in jobs)
    assert all("--ranks" not in line for line in jobs)
    wanted = {"cpus-per-task": "5", "gpus-per-node": "2", "ntasks-per-node": "1", "nodes": "1"}
    assert {name: options(script)[name] for name in wanted} == wanted
    here = submit(tmp_path, *words, "--executor", "local", methods="encoder-only").out
    assert here.count("torchrun --standalone --nproc-per-node 2 -m harness run ") == 2


def test_draws_of_settings_are_runs_to_submit(tmp_path: Path) -> None:
    script = submit(tmp_path, "--dry-run", "--tuning", "2", "--seeds", "0-1").out
    assert options(script.rpartition("#!/bin/bash")[2])["array"] == "0-11%12"  # 2 of 3 x 2 seeds
    assert script.count(" --tuning 2 ") == 2


def test_a_job_is_told_before_the_end_of_a_short_time(tmp_path: Path) -> None:
    found = submit(tmp_path, "--dry-run", "--time", "1", methods="encoder-only")
    assert found.out.count("#SBATCH --signal=USR2@15\n") == 2


def test_submit_has_every_option_of_run() -> None:
    """But those with which it starts `run` itself, and ``--tuning``,
    whose draws come one after the other.
    """
    of_run, of_submit = (
        inspect.signature(command).parameters for command in (run_command, submit_command)
    )
    set_by_it = {"claim", "shard", "no_wait", "measure_only", "since"}
    assert of_submit.keys() - {"ctx"} - set(OWN) == of_run.keys() - set_by_it - {"dry_run", "quiet"}


def test_what_was_typed_reaches_the_jobs(tmp_path: Path) -> None:
    plugin = tmp_path / "my method.py"
    plugin.write_text((ROOT / "harness/conformance/templates/mean_motion.py").read_text())
    plugin = plugin.rename(tmp_path / "mean_motion.py")
    typed = [
        "--plugin",
        str(plugin),
        "--keep-decoder",
        "--seeds",
        "3-4",
        "--threads",
        "1",
        "--state-seconds",
        "7.5",
    ]
    found = submit(tmp_path, "--dry-run", *typed, methods="mean-motion")
    line = next(line for line in found.out.splitlines() if line.startswith("# the job: "))
    for words in (
        f"--plugin {plugin} ",
        "--keep-decoder ",
        "--seeds 3-4 ",
        "--threads 1 ",
        "--state-seconds 7.5 ",
    ):
        assert words in line
    assert line.count("--threads") == 1
    for value in SMALL[1::2]:
        assert value in line


def test_jobs_go_to_sbatch_and_the_line_says_so(slurm: Path, tmp_path: Path) -> None:
    found = submit(tmp_path, "--seeds", "0-1", "--workers", "3")
    assert found.code == 0
    out = " ".join(found.out.split())
    assert f"executor: slurm ({slurm / 'sbatch'})" in out
    assert "job 71 measures speed alone; then 3 workers: array 72" in out
    folder = tmp_path / "out" / "jobs"
    assert options((folder / "72_submission.sh").read_text())["dependency"] == "afterok:71"
    submitted = {
        path.name: pickle.loads(path.read_bytes()) for path in folder.glob("*_submitted.pkl")
    }
    assert submitted.keys() == {
        "71_submitted.pkl",
        *(f"72_{number}_submitted.pkl" for number in range(3)),
    }
    assert submitted["71_submitted.pkl"].function.words[-1] == "--measure-only"
    assert all(one._timeout_countdown == REQUEUES > 50 for one in submitted.values())


def test_a_refusal_of_sbatch_is_one_line_and_leaves_nothing(slurm: Path, tmp_path: Path) -> None:
    stand_in(slurm, "sbatch", 'echo "sbatch: error: invalid partition specified: x" >&2; exit 1')
    found = submit(tmp_path, "--partition", "x", methods="encoder-only")
    assert found.code == 2
    assert (
        found.err
        == "error: sbatch refused a job (sbatch: error: invalid partition specified: x); --dry-run"
        " prints its script\n"
    )
    assert not (tmp_path / "out").exists()


def test_the_reason_of_a_refusal_is_not_where_help_is(slurm: Path, tmp_path: Path) -> None:
    stand_in(
        slurm,
        "sbatch",
        """{ echo "sbatch: unrecognized option '--x=1'"
echo 'Try "sbatch --help" for more information'; } >&2; exit 1""",
    )
    found = submit(tmp_path, "--sbatch", "x=1", methods="encoder-only")
    assert "refused a job (sbatch: unrecognized option '--x=1'); --dry-run" in found.err


def test_a_measurement_whose_workers_are_refused_is_cancelled(slurm: Path, tmp_path: Path) -> None:
    refuse = f'[ $(wc -l < "{slurm}/sbatch.log") = 1 ] && echo "Submitted batch job 71" || exit 1'
    stand_in(slurm, "sbatch", refuse)
    stand_in(slurm, "scancel", "")
    assert submit(tmp_path, "--seeds", "0-1", methods="encoder-only").code == 2
    assert asked_of(slurm, "scancel") == ["71"]


def test_without_slurm_nothing_is_run_here_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = submit(tmp_path)
    assert found.code == 2
    assert (
        found.err
        == "error: no sbatch here: expected a machine that submits to Slurm; add --executor local"
        " to run the jobs on this one\n"
    )


def test_without_submitit_the_line_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.cli.submit.find_spec", lambda name: None)
    found = submit(tmp_path)
    assert found.code == 2
    assert (
        "submitit is not installed: expected the extra `cluster`; `pip install -e '.[cluster]'`"
        in found.err
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("--executor", "slrum"),
            "--executor 'slrum': expected slurm or local, did you mean 'slurm'?",
        ),
        (("--sbatch", "account"), "--sbatch 'account': expected name=value, e.g. account=lab"),
        (("--rerun",), "--claim and --rerun: expected one of them, found both"),
        (("--set", "train.lr=-1"), "train: lr: Input should be greater than 0"),
        (("--ranks", "3", "--cpus", "2"), "--cpus 2: expected one for each of 3 ranks or more"),
        (("--ranks", "2", "--gpus", "1"), "--gpus 1: expected one for each of 2 ranks or more"),
        (
            ("--ranks", "2", "--batch-size", "5"),
            "a batch of 5 body sequences on 2 ranks: expected a multiple of 2",
        ),
        (
            ("--ranks", "2", "--set", "data.loader=published", *EMPTY_BODIES),
            "data.loader: expected one process",
        ),
        (("--partition", "a\n#SBATCH --wait"), "expected words of one line"),
        (("--out", "two\nlines"), "expected words of one line"),
        (("--out", "of%j"), "--out of%j: expected a folder without % in its path"),
        (("--out", "%j", "--executor", "local"), "--out %j: expected a folder without %"),
        (("--sbatch", "nodes=2"), "--sbatch nodes=2: expected one task on one node"),
    ],
)
def test_a_mistake_is_a_line_before_any_job(
    words: tuple[str, ...], line: str, slurm: Path, tmp_path: Path
) -> None:
    found = submit(tmp_path, *words)
    assert found.code == 2
    assert line in found.err
    assert not asked_of(slurm, "sbatch")


@pytest.mark.parametrize(
    ("said", "code", "there"),
    [
        ("72_1", 0, True),
        ("", 0, False),
        ("slurm_load_jobs error: Invalid job id specified", 1, False),
    ],
)
def test_the_queue_is_asked_as_slurm_without_accounting_can_be(
    said: str, code: int, there: bool, slurm: Path
) -> None:
    stand_in(slurm, "squeue", f'echo "{said}" >&{1 + code}; exit {code}')
    assert submitting.in_queue(["71", "72"]) is there
    stand_in(slurm, "squeue", 'echo "Unable to contact slurm controller" >&2; exit 1')
    assert submitting.in_queue(["71", "72"])


# --- the GPUs of jobs on this machine ---


@pytest.mark.parametrize(
    ("visible", "seen"), [("2,GPU-3a", ["2", "2", "GPU-3a"]), (None, ["0", "0", "1"])]
)
def test_jobs_here_share_the_gpus_that_are_left_to_the_command(
    visible: str | None, seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The measurement, then two workers."""
    started: list[str] = []

    def start(cuda_devices: str, **options: Any) -> subprocess.Popen[bytes]:
        started.append(cuda_devices)
        return subprocess.Popen(["true"])

    monkeypatch.setattr("submitit.local.local.start_controller", start)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    here = submitting.Here(Work(["--help"], tmp_path, 5, now()), Resources(gpus=1, parallel=2))
    here.refuse_missing_gpus()
    here.measure()
    here.start_workers()
    assert started == seen


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("--gpus", "1", "--parallel", "2"),
            "--gpus 1: expected 2 here, for 2 workers at once, found 1; choose a smaller --gpus or"
            " --parallel",
        ),
        (("--device", "cuda"), "--device cuda: expected --gpus too"),
    ],
)
def test_gpus_that_jobs_here_cannot_have_are_refused(
    words: tuple[str, ...], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    found = submit(tmp_path, "--executor", "local", *words)
    assert found.code == 2
    assert line in found.err
    assert not (tmp_path / "out").exists()


# --- what a job does ---


class Requeued(BaseException):
    """Instead of submitit's exit."""


@pytest.fixture
def handler() -> Iterator[list[int]]:
    """In the place of submitit's own: the signals it was called with."""
    called: list[int] = []

    def handle(number: int, frame: Any) -> None:
        called.append(number)
        raise Requeued

    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    signal.signal(signal.SIGUSR2, handle)
    yield called
    for number, old in before.items():
        signal.signal(number, old)


def when_ready(place: Path, *numbers: int) -> None:
    """Signals to this process once the child has begun, as a scheduler sends them."""

    def send() -> None:
        while not (place / "ready").exists():
            time.sleep(0.01)
        for number in numbers:
            os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_that_ends_is_a_result(code: int) -> None:
    assert Made([f"raise SystemExit({code})"])() == code


def test_a_request_that_cannot_be_done_ends_the_job() -> None:
    with pytest.raises(SystemExit) as end:
        Made(["raise SystemExit(2)"])()
    assert end.value.code == 2


@pytest.mark.parametrize(("kills", "code"), [(1, 0), (5, 137)])
def test_a_child_that_is_killed_is_started_again(
    kills: int, code: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import os, pathlib, sys; log = pathlib.Path(sys.argv[1])\nwith log.open('a') as stream:"
        f" stream.write('x')\nif log.stat().st_size <= {kills}: os.kill(os.getpid(), 9)"
    )
    log, job = tmp_path / "log", Made([script, str(tmp_path / "log")])
    if code:
        with pytest.raises(SystemExit) as end:
            job()
        assert end.value.code == code
    else:
        assert job() == 0
    assert log.stat().st_size == min(kills + 1, jobs.STARTS)
    assert "SIGKILL ended `harness " in capfd.readouterr().out


@pytest.mark.parametrize(
    ("ends", "code"),
    [((0, 0), 0), ((0, 1), 1), ((2, 2), 2), ((1, 2), 2), ((1, -signal.SIGUSR1), None)],
)
def test_ranks_end_as_the_worst_of_them(
    ends: tuple[int, int], code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a signal did to one of them is done to the process that started them."""

    def torchrun(words: list[str]) -> None:
        assert words[-3:] == ["harness", "run", "--claim"]
        failed = {rank: ProcessFailure(rank, 1, end, "") for rank, end in enumerate(ends) if end}
        if failed:
            raise ChildFailedError("harness", failed)

    killed: list[int] = []
    monkeypatch.setattr(ranks, "torchrun", torchrun)
    monkeypatch.setattr(ranks.signal, "raise_signal", killed.append)
    found = ranks.main("2", "run", "--claim")
    assert found == code or killed == [signal.SIGUSR1]
    assert not killed or code is None


def test_a_preempted_job_stops_its_child_and_then_requeues(
    tmp_path: Path, handler: list[int]
) -> None:
    """The child is told once, however many signals come,
    and has ended before the job gives its place away.
    """
    when_ready(tmp_path, signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR2)
    with pytest.raises(Requeued):
        Made([CHILD, str(tmp_path)])()
    assert (tmp_path / "told").read_text() == "1"
    assert handler == [signal.SIGUSR2]


def test_a_child_does_not_hear_what_is_sent_to_all_processes(tmp_path: Path) -> None:
    script = (
        "import os, signal; [os.kill(os.getpid(), number) for number in (signal.SIGTERM,"
        " signal.SIGUSR2)]"
    )
    assert Made([script])() == 0


@pytest.mark.skipif(not shutil.which("setpriv"), reason="nothing tells the child")
def test_the_child_of_a_job_that_is_killed_stops(tmp_path: Path) -> None:
    script = (
        f"from tests.harness.made_up_job import CHILD, Made; Made([CHILD, {str(tmp_path)!r}])()"
    )
    is_told_of_the_end_of(script, tmp_path)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="nothing tells the ranks")
def test_ranks_whose_torchrun_is_killed_stop(tmp_path: Path) -> None:
    """Else they go on with the run beside those that the job starts next."""
    script = (
        "import sys; from harness.runs.ranks import torchrun, words_of\n"
        "from tests.harness.made_up_job import CHILD\n"
        f"torchrun(words_of(1, [sys.executable, '-c', CHILD, {str(tmp_path)!r}]))"
    )
    is_told_of_the_end_of(script, tmp_path)


def is_told_of_the_end_of(script: str, tmp_path: Path) -> None:
    """A child whose parent, a script, is killed."""
    job = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    while job.poll() is None and not (tmp_path / "ready").exists():
        time.sleep(0.01)
    job.kill()
    job.wait()
    end = time.monotonic() + 60
    while not (tmp_path / "told").exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert (tmp_path / "told").exists()


@pytest.mark.parametrize(
    ("state", "requeues"),
    [
        ("RUNNING", True),
        pytest.param("PREEMPTED", True, marks=pytest.mark.long),
        ("CANCELLED", False),
        pytest.param("PENDING", False, marks=pytest.mark.long),
    ],
)
def test_where_only_sigterm_comes_the_job_asks_why(
    state: str,
    requeues: bool,
    slurm: Path,
    tmp_path: Path,
    handler: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clusters without ``preempt_send_user_signal``; what its user cancelled,
    or somebody requeued, stays as it is.
    """
    stand_in(slurm, "scontrol", f'echo "JobId=9 ArrayJobId=12 JobState={state} Reason=None"')
    for name, value in {
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_ARRAY_JOB_ID": "12",
        "SLURM_ARRAY_TASK_ID": "3",
    }.items():
        monkeypatch.setenv(name, value)
    when_ready(tmp_path, signal.SIGTERM)
    with pytest.raises(Requeued if requeues else SystemExit):
        Made([CHILD, str(tmp_path)])()
    assert (tmp_path / "told").read_text() == "1"
    assert asked_of(slurm, "scontrol") == ["--oneliner show job 12_3"]
    assert handler == [signal.SIGUSR2] * requeues


def test_a_node_without_scontrol_says_what_to_do(
    tmp_path: Path,
    handler: list[int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    monkeypatch.setattr(jobs.shutil, "which", lambda name: None)
    when_ready(tmp_path, signal.SIGUSR2)
    with pytest.raises(SystemExit) as end:
        Made([CHILD, str(tmp_path)])()
    assert end.value.code == 128 + signal.SIGUSR2
    assert not handler
    assert (
        "there is no scontrol on this node to requeue the job: `submit` again continues"
        in capfd.readouterr().out
    )


def test_submitit_requeues_this_job_and_starts_it_again(slurm: Path, tmp_path: Path) -> None:
    """Of an array by the array's number and its own:
    ``scontrol requeue`` with the job's would mean all of them.
    """
    stand_in(slurm, "scontrol", "")
    folder, place = tmp_path / "jobs", tmp_path
    folder.mkdir()
    submission = DelayedSubmission(Made([CHILD, str(place)]))
    submission.set_timeout(1, REQUEUES)  # every stop of so short a job counts as a time-out
    submission.dump(folder / "12_3_submitted.pkl")
    own = {"SLURM_JOB_ID": "15", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3"}
    own |= {"SUBMITIT_EXECUTOR": "slurm", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "submitit.core._submit", str(folder)]
    process = subprocess.Popen(command, env={**os.environ, **own}, cwd=ROOT)
    while process.poll() is None and not (place / "ready").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR2)
    assert process.wait() not in (0, 1)
    assert asked_of(slurm, "scontrol") == ["requeue 12_3"]
    assert not list(folder.glob("*_result.pkl"))  # who waits for the job waits on
    assert DelayedSubmission.load(folder / "12_3_submitted.pkl")._timeout_countdown == REQUEUES - 1
    (place / "go").touch()
    subprocess.run(command, env={**os.environ, **own}, cwd=ROOT, check=True)
    assert pickle.loads((folder / "12_3_0_result.pkl").read_bytes()) == ("success", 0)


# --- the command that jobs run ---


def test_a_worker_leaves_what_others_have(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--methods",
        "encoder-only",
        "--out",
        out,
        "--claim",
    )
    assert harness(*words, "--measure-only").code == 0
    assert not list(out.glob("*/record.json"))
    (speed,) = out.glob("*/speed.json")
    measured = speed.read_bytes()
    assert harness(*words, "--shard", "1/3").code == 0  # leaves the matrix
    address = next(
        address for address, (label, _) in read_matrix(out).items() if label == "encoder-only"
    )
    with Claims(out).hold(address, "encoder-only", 0) as owned:
        write_claim(
            owned.path, owned.claim.model_copy(update={"machine": "elsewhere", "host": "node7"})
        )
        found = harness(*words, "--no-wait")
        assert found.code == 0
        assert f"left to others: 1 run (process {os.getpid()} on node7)" in found.out
        owned.path.unlink()
    assert len(list(RecordStore(out).runs())) == 2
    assert harness(*words, "--no-wait").code == 0
    assert len(list(RecordStore(out).runs())) == 3
    assert speed.read_bytes() == measured


def test_what_failed_is_tried_once_by_the_workers_of_a_study(tmp_path: Path) -> None:
    out, plugin = tmp_path / "out", plugin_file(tmp_path)
    words = (
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin,
        "--out",
        out,
        "--claim",
        "--no-wait",
    )
    words += ("--methods", "encoder-only,plain:fault=raise-late", "--since")
    asked = now()

    def worker(since: datetime) -> int:
        """When the failed run's record was written, in nanoseconds."""
        assert harness(*words, f"{since:%Y-%m-%dT%H:%M:%S}").code == 1
        (failed,) = (
            record.address for record in RecordStore(out).runs() if record.status == "failed"
        )
        return (out / failed / "record.json").stat().st_mtime_ns

    first = worker(asked)
    assert worker(asked) == first
    assert worker(asked + timedelta(days=1)) > first  # another study, asked for later


class HereAtOnce:
    """Runs a job where it is submitted, as its process would."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.parameters = folder, dict[str, Any]()

    def update_parameters(self, **options: Any) -> None:
        self.parameters.update(options)

    def submit(self, job: Job) -> HereAtOnce:
        self.outcome = harness(*job.words)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.result_pickle, self.stdout = (
            self.folder / "1_0_result.pkl",
            self.folder / "1_0_log.out",
        )
        self.stdout.write_text(self.outcome.out + self.outcome.err)
        if self.outcome.code in (0, 1):
            self.result_pickle.touch()
        else:
            self.result_pickle.unlink(missing_ok=True)
        return self

    @property
    def paths(self) -> HereAtOnce:
        return self

    def done(self) -> bool:
        return True


def test_a_study_as_jobs_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitting, "LocalExecutor", HereAtOnce)
    words = ("--executor", "local", "--cpus", "1")
    found = submit(tmp_path, *words, methods="encoder-only,skeletonmae")
    assert found.code == 0
    out = tmp_path / "out"
    assert f"executor: local, 1 worker at once on this machine; logs in {out / 'jobs'}" in found.out
    assert f"4 runs: 4 done; table in {out / 'table.md'}" in found.out
    assert len(list(out.glob("*/speed.json"))) == 1
    again = submit(tmp_path, *words, methods="encoder-only,skeletonmae")
    assert again.code == 0
    assert f"nothing to submit: all runs are done; `table {out}`" in again.out


def test_the_last_words_of_a_job_that_failed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(HereAtOnce):
        def submit(self, job: Job) -> HereAtOnce:
            return super().submit(Job(["run", "--methods", "no-such-method"]))

    monkeypatch.setattr(submitting, "LocalExecutor", Fails)
    found = submit(tmp_path, "--executor", "local", methods="encoder-only")
    assert found.code == 2
    assert found.err.startswith(
        "error: a job failed, its last words: unknown method 'no-such-method'"
    )
    assert found.err.endswith("then the same command continues\n")
