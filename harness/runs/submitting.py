"""A study as jobs of a scheduler: one that measures speed alone on a node, then workers that share
its folder.

The jobs are `harness.runs.job.Job`; submitit hands them to Slurm, or starts them here. Every worker
is the same command (``run --claim --no-wait``): which of them does what follows from the claims in
the folder, so that their number says only how many places are asked for, and one that is lost costs
nothing that others cannot do.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import torch
from submitit import Job as Submitted
from submitit import LocalExecutor, SlurmExecutor
from submitit.core.utils import FailedJobError

from datasets.wording import counted
from harness.errors import UsageError
from harness.runs.job import Job

_JOBS = "jobs"
"""Folder of the jobs' files and logs, beside the records."""
REQUEUES = 100
"""How often a job that its time limit stops may come back; submitit counts by the clock, every
preemption that comes late in a job or in a short one too, so that its own 3 would end long runs.
"""
_NOTICE = 120
"""Seconds before its time limit that a job is told."""
_NO_LIMIT = 365 * 24 * 60
"""Minutes: here nobody takes a job's place away."""


@dataclass(frozen=True)
class Resources:
    """What each job is to have.

    Attributes:
        minutes: until it is stopped, and comes back.
        cpus: cores, and threads to compute with.
        gpus: per job.
        ranks: processes in a job, which share its cores and GPUs.
        memory: GB; None: the cluster's default.
        parallel: workers at once; None: all.
        sbatch: further options of ``sbatch``, by name.
    """

    cpus: int = 4
    gpus: int = 0
    minutes: int = 240
    memory: float | None = None
    partition: str | None = None
    parallel: int | None = None
    sbatch: Mapping[str, str] = field(default_factory=dict)
    ranks: int = 1

    def job(self, words: Sequence[str]) -> Job:
        """One that carries out ``words``."""
        return Job(words, self.ranks)

    def for_slurm(self, words: Sequence[str], **more: Any) -> dict[str, Any]:
        """Parameters of submitit's Slurm executor for a job of ``words``; ``more`` are those of
        this job alone.

        ``srun`` does not take the number of cores from ``sbatch`` in every version, and gets it
        too. In a job that has a node to itself it would start one task per core.
        """
        further = {"requeue": True, **more.pop("additional_parameters", {}), **self.sbatch}
        return {
            "job_name": "harness",
            "time": self.minutes,
            "signal_delay_s": min(_NOTICE, 15 * self.minutes),
            "cpus_per_task": self.cpus,
            "ntasks_per_node": 1,
            "srun_args": [f"--cpus-per-task={self.cpus}"],
            "gpus_per_node": self.gpus or None,
            "mem": self.memory and f"{round(self.memory * 1024)}MB",
            "partition": self.partition,
            "wckey": None,
            "stderr_to_stdout": True,
            "additional_parameters": further,
            "setup": [f"# the job: {self.job(words).typed}"],
            **more,
        }


@dataclass(frozen=True)
class Work:
    """What is to be submitted.

    Attributes:
        words: of ``run``, as the user gave them.
        workers: jobs after the measurement.
        asked: when; what fails from then on is tried once.
    """

    words: Sequence[str]
    out: Path
    workers: int
    asked: datetime

    @property
    def measuring(self) -> list[str]:
        """The command of the job that measures speed."""
        return ["run", *self.words, "--claim", "--measure-only"]

    @property
    def working(self) -> list[str]:
        """The command of a worker."""
        return [
            "run",
            *self.words,
            "--claim",
            "--no-wait",
            "--since",
            f"{self.asked:%Y-%m-%dT%H:%M:%S}",
        ]

    @property
    def folder(self) -> Path:
        """Of the jobs' files."""
        return self.out / _JOBS


class _Scripts(SlurmExecutor):
    """Makes scripts on machines without Slurm too; submits nothing."""

    @classmethod
    def affinity(cls) -> int:
        """What the constructor asks whether this machine has Slurm."""
        return 2

    def script(self, workers: int = 0, **parameters: Any) -> str:
        """What ``sbatch`` would get, for an array where there are workers."""
        self.update_parameters(**parameters)
        if workers > 1:
            self.parameters["map_count"] = workers
        return self._make_submission_file_text(self._submitit_command_str, "")


def _measuring_job(work: Work, resources: Resources) -> dict[str, Any]:
    """Speed is measured where nobody else works."""
    return resources.for_slurm(work.measuring, exclusive=True)


def _worker_jobs(work: Work, resources: Resources, measurement: str) -> dict[str, Any]:
    """Workers begin when the job ``measurement`` has ended well;
    else Slurm takes them out of its queue.
    """
    return resources.for_slurm(
        work.working,
        dependency=f"afterok:{measurement}",
        array_parallelism=resources.parallel or work.workers,
        additional_parameters={"kill-on-invalid-dep": "yes"},
    )


def scripts(work: Work, resources: Resources) -> list[str]:
    """The two scripts that `submit_to_slurm` would hand to ``sbatch``."""
    return [
        _Scripts(work.folder).script(**_measuring_job(work, resources)),
        _Scripts(work.folder).script(work.workers, **_worker_jobs(work, resources, "MEASUREMENT")),
    ]


def refuse_percent(work: Work) -> None:
    """A `UsageError` for a folder whose name submitit and ``sbatch`` would change."""
    if "%" in str(work.folder.absolute()):
        raise UsageError(
            f"--out {work.out}: expected a folder without % in its path, where the number of a job"
            " is put; choose another --out"
        )


def refuse_lines(work: Work, resources: Resources) -> None:
    """A `UsageError` for what a script cannot hold: ``sbatch`` reads options line by line."""
    words = [*work.words, str(work.folder.absolute()), resources.partition or ""]
    for word in (*words, *(text for pair in resources.sbatch.items() for text in pair)):
        if not word.isprintable():
            raise UsageError(
                f"{word!r}: expected words of one line, which a script of sbatch can hold; choose"
                " another name"
            )


def find_sbatch() -> str:
    """Where ``sbatch`` is; a `UsageError` without:
    nothing is run on this machine unless that is what was asked for.
    """
    if found := shutil.which("sbatch"):
        return found
    raise UsageError(
        "no sbatch here: expected a machine that submits to Slurm; add --executor local to run the"
        " jobs on this one"
    )


def submit_to_slurm(work: Work, resources: Resources) -> list[str]:
    """Submit both; the ids of the measurement's job and of the array.
    `UsageError` where Slurm refuses one.
    """
    first: Submitted[int] | None = None
    missing = [folder for folder in (work.folder, work.out) if not folder.exists()]
    try:
        with redirect_stderr(io.StringIO()):  # sbatch's own words are in the error
            executor = SlurmExecutor(work.folder, max_num_timeout=REQUEUES)
            executor.update_parameters(**_measuring_job(work, resources))
            first = executor.submit(resources.job(work.measuring))
            executor = SlurmExecutor(work.folder, max_num_timeout=REQUEUES)
            executor.update_parameters(**_worker_jobs(work, resources, first.job_id))
            workers = executor.submit_array([resources.job(work.working)] * work.workers)
    except (FailedJobError, OSError) as error:
        if first:
            first.cancel(check=False)
        elif missing:
            shutil.rmtree(missing[-1], ignore_errors=True)
        raise UsageError(
            f"sbatch refused a job ({_words_of_sbatch(str(error))}); --dry-run prints its script"
        ) from None
    return [first.job_id, workers[0].job_id.partition("_")[0]]


def _words_of_sbatch(said: str) -> str:
    """The line that says why: the last, but for where to look for help."""
    lines = [line for line in said.splitlines() if line.strip() and "--help" not in line]
    return lines[-1].strip() if lines else "without a word"


def in_queue(jobs: Sequence[str]) -> bool:
    """Whether one of the jobs waits or runs; Slurm's own queue knows it without accounting, too."""
    command = ["squeue", "--noheader", "--format=%i", "--jobs=" + ",".join(jobs)]
    shown = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if (
        shown.returncode and "Invalid job id" not in shown.stderr
    ):  # the controller is away for a moment
        return True
    return bool(shown.stdout.strip())


def gpus_here() -> list[str]:
    """This machine's GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [*map(str, range(count))])[:count]


@dataclass
class Here:
    """Jobs on this machine, one after the other or several at once.

    Attributes:
        running: those that were started.
    """

    work: Work
    resources: Resources
    running: list[Submitted[int]] = field(default_factory=list)

    @property
    def at_once(self) -> int:
        """Workers."""
        return min(self.work.workers, self.resources.parallel or 1)

    def refuse_missing_gpus(self) -> None:
        """A `UsageError` where there are fewer GPUs than workers take."""
        gpus, found = self.resources.gpus, len(gpus_here())
        if found < gpus * self.at_once:
            raise UsageError(
                f"--gpus {gpus}: expected {gpus * self.at_once} here, for"
                f" {counted(self.at_once, 'worker')} at once, found {found}; choose a smaller"
                " --gpus or --parallel"
            )

    def measure(self) -> None:
        """Start the measurement."""
        self._start(self.work.measuring, 0)

    def start_workers(self) -> None:
        """Start as many workers as may be at once; each goes on until nothing is left,
        so that more are no use.
        """
        for number in range(self.at_once):
            self._start(self.work.working, number)

    def _start(self, words: Sequence[str], place: int) -> None:
        gpus = self.resources.gpus
        executor = LocalExecutor(self.work.folder, max_num_timeout=REQUEUES)
        executor.update_parameters(
            timeout_min=_NO_LIMIT, signal_delay_s=_NOTICE, stderr_to_stdout=True, gpus_per_node=gpus
        )
        # Here, where submitit's own check knows numbers alone, and a GPU may have another name.
        executor.parameters["visible_gpus"] = gpus_here()[place * gpus :][:gpus]
        self.running.append(executor.submit(self.resources.job(words)))

    @property
    def over(self) -> bool:
        """All have ended."""
        return all(job.done() for job in self.running)

    @property
    def failed(self) -> list[Path]:
        """Logs of those that ended without doing what they were for."""
        return [
            job.paths.stdout
            for job in self.running
            if job.done() and not job.paths.result_pickle.exists()
        ]

    def stop(self) -> None:
        """Tell those that run to write their states and end;
        submitit's process of a job passes SIGTERM on.
        """
        for job in self.running:
            if not job.done():
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(int(job.job_id)).terminate()
