"""torchrun for a job: the ranks of one command, which are told of a signal that comes to this
process, and whose end is this process's end.

    python -m harness.runs.ranks 2 run --methods gfp

torchrun itself ends with 1 whatever became of its ranks; a job goes on from a rank that something
killed, and not from a request that cannot be done.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from harness.runs.job import heir


def words_of(ranks: int, command: Sequence[str]) -> list[str]:
    """What torchrun is given for ranks on one machine, beside others that may run there; they end
    where it is killed.
    """
    return ["--standalone", "--nproc-per-node", str(ranks), "--no-python", *heir(command)]


def main(ranks: str, *words: str) -> int:
    """The exit code of the rank that ended worst; one that a signal ended ends this process so."""
    try:
        command = [sys.executable, "-u", "-m", "harness", *words]
        torchrun(["--signals-to-handle", "SIGUSR1", *words_of(int(ranks), command)])
    except SignalException as stop:
        return 128 + stop.sigval
    except ChildFailedError as failed:
        codes = [failure.exitcode for failure in failed.failures.values()]
        if min(codes) < 0:
            signal.raise_signal(-min(codes))
        return max(codes)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
