"""A Slurm of one node, this machine, for a test: munge, controller and node daemon, all of whose
files lie in a folder.

Debian's packages ``slurmctld``, ``slurmd``, ``slurm-client`` and ``munge`` are enough; there is no
accounting, so that ``sacct`` knows nothing. By hand: ``python -m tests.one_node_slurm FOLDER``
starts it, says what to set, and Ctrl-C ends it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmctldParameters=preempt_send_user_signal
SchedulerParameters=sched_interval=2,batch_sched_delay=1
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """What this machine lacks: programs, or the right to start daemons."""
    programs = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    return programs + ["root"] * (not hasattr(os, "geteuid") or os.geteuid() != 0)


@contextmanager
def one_node_slurm(folder: Path, cpus: int) -> Iterator[dict[str, str]]:
    """Inside it runs; the environment in which the commands of Slurm know it."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # munge wants nobody else to write here
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            folder=folder,
            cpus=cpus,
            controller_port=free_port(),
            node_port=free_port(),
            memory=psutil.virtual_memory().total * 9 // 10 // 2**20,
        )
    )
    environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    with ExitStack() as daemons:
        options = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "log", "pid", "seed")]
        for command in (
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *options],
            ["slurmctld", "-D", "-c"],
            ["slurmd", "-D"],
        ):
            daemons.enter_context(daemon(command, folder, environment))
        wait_for_idle(environment)
        yield environment


@contextmanager
def daemon(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A process that works inside, its words in a log; at the end it gets SIGTERM,
    and SIGKILL where it stays.
    """
    with (folder / f"{command[0]}.log").open("wb") as log:
        program = shutil.which(command[0], path=PATH)
        process = subprocess.Popen(
            [str(program), *command[1:]], env=environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_idle(environment: dict[str, str], seconds: float = 60.0) -> None:
    """Until the node takes jobs."""
    end, shown = time.monotonic() + seconds, ""
    while time.monotonic() < end:
        command = ["sinfo", "--noheader", "--format=%t"]
        shown = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        ).stdout.strip()
        if shown == "idle":
            return
        time.sleep(0.5)
    raise TimeoutError(f"the node is {shown or 'unknown'} after {seconds:.0f} s")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with (
        suppress(KeyboardInterrupt),
        one_node_slurm(Path(sys.argv[1]).absolute(), os.cpu_count() or 1) as found,
    ):
        print(f"export SLURM_CONF={found['SLURM_CONF']}", flush=True)
        signal.pause()
