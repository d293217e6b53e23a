"""What a job does: a command of the suite in a child process, which is stopped before the scheduler
takes the job away.

submitit calls a `Job` on the node. A signal that announces the end of the job (submitit's own, USR2
unless ``SUBMITIT_PREEMPT_SIGNAL`` says otherwise, or SIGTERM where a cluster sends no other)
becomes one SIGUSR1 to the child, which writes its state and ends. Then the job goes back into the
queue, unless it was cancelled or somebody else does that, and continues from the state when it
starts again.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from harness.progress import say

_ASK = getattr(signal, "SIGUSR1", signal.SIGTERM)
"""What a child hears of it; a system without the one has the other."""
_HEIR = """
setpriv --pdeathsig USR1 true 2> /dev/null && exec setpriv --pdeathsig USR1 "$@"
exec "$@"
"""
"""The shell's words before a command: where the process that started it is killed, Linux tells the
command in its place, which would else go on beside whoever gets the node next.
"""
_DEAF = "trap '' TERM USR2"
"""It ignores what the scheduler may send to all processes of a job, and hears the process that
started it alone, for a second signal would break off what it does after the first.
"""
_LOOK = 0.2
"""Seconds between two looks at the child."""
STARTS = 3
"""Of a child that something kills, memory that runs out for instance."""


@dataclass(frozen=True)
class Job:
    """A command of the suite.

    Attributes:
        words: after ``python -m harness``.
        ranks: processes that do it together, started by torchrun.
    """

    words: Sequence[str]
    ranks: int = 1

    @property
    def command(self) -> list[str]:
        """Of the child, which starts the ranks where there are several."""
        if self.ranks > 1:
            return [sys.executable, "-m", "harness.runs.ranks", str(self.ranks), *self.words]
        return [sys.executable, "-m", "harness", *self.words]

    @property
    def typed(self) -> str:
        """The command as one would type it."""
        start = ["python", "-m", "harness"]
        if self.ranks > 1:
            start = ["torchrun", "--standalone", "--nproc-per-node", str(self.ranks), *start[1:]]
        return shlex.join([*start, *self.words])

    def __call__(self) -> int:
        """Run the command to its end: 0 or 1, as ``run`` ends.
        Any other end is this process's too.
        """
        with _listening() as (asked, requeue):
            for start in range(STARTS):
                code = _run_child(self.command, asked)
                if asked:
                    _give_way(asked, requeue)
                if code >= 0:
                    break
                name, command = signal.Signals(-code).name, shlex.join(self.words)
                say(f"{name} ended `harness {command}` (start {start + 1} of {STARTS})")
        if code not in (0, 1):
            sys.exit(code if code > 0 else 128 - code)
        return code

    def checkpoint(self) -> Any:
        """What submitit is to start after a requeue: the same;
        the folder says how far it has come.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@contextmanager
def _listening() -> Iterator[tuple[list[int], Any]]:
    """The signals that came to this process inside,
    and what submitit would have done on its own.
    """
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, _preemption_signal())}
    for number in before:
        signal.signal(number, lambda number, frame: asked.append(number))
    try:
        yield asked, before[_preemption_signal()]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def heir(command: Sequence[str], before: str = "") -> list[str]:
    """The same command, told where the process that starts it is killed; the shell does what is
    ``before`` first.
    """
    return ["sh", "-c", before + _HEIR, "sh", *command]


def _run_child(command: Sequence[str], asked: Sequence[int]) -> int:
    """The exit code of a command, which is told once, by SIGUSR1,
    that something was asked of this process.
    """
    told = False
    with subprocess.Popen(heir(command, _DEAF)) as child:
        while child.poll() is None:
            if asked and not told:
                child.send_signal(_ASK)
                told = True
            time.sleep(_LOOK)
    return child.returncode


def _give_way(asked: Sequence[int], requeue: Any) -> NoReturn:
    """End the process without a result, so that nobody takes the job for done, and requeue it where
    that is its task.

    Args:
        requeue: submitit's handler: writes the job anew, puts it back into the queue, and exits.
    """
    stopped = f"stopped by {signal.Signals(asked[0]).name}"
    if not callable(requeue) or not (_preemption_signal() in asked or _is_preempted()):
        say(
            f"{stopped}; the job does not requeue itself: the scheduler, or `submit` again,"
            " continues"
        )
    elif _on_slurm() and not shutil.which("scontrol"):
        say(
            f"{stopped}; there is no scontrol on this node to requeue the job: `submit` again"
            " continues"
        )
    else:
        try:
            requeue(_preemption_signal(), None)
        except subprocess.SubprocessError as error:
            say(f"{stopped}; the job could not be requeued ({error}): `submit` again continues")
    sys.exit(128 + asked[0])


def _preemption_signal() -> signal.Signals:
    """The signal that submitit asks the scheduler for."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def _on_slurm() -> bool:
    """Whether Slurm started this job."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def _is_preempted() -> bool:
    """Whether Slurm sent SIGTERM because it wants the node for others: then nobody but the job may
    requeue it.

    The job's state is then still RUNNING, in its time of grace, or PREEMPTED. One that its user
    cancelled is CANCELLED, and one that was requeued by hand is on its way to PENDING.
    """
    if not _on_slurm():
        return False
    try:
        shown = subprocess.run(
            ["scontrol", "--oneliner", "show", "job", _own_id()],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(re.search(r"\bJobState=(RUNNING|PREEMPTED)\b", shown))


def _own_id() -> str:
    """This job's; one of an array is ``12_3``,
    for by its own number some commands mean the whole array.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID", "")
