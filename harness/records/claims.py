"""Who works on what: one process at a time on each run of a folder that many processes share, on
one host or several.

    claims = Claims(folder)
    with claims.hold("gfp-s0-v2-0123456789ab", look) as claim:  # `Held` where a living process has
    it
        work()
        claim.check()                                           # `Lost` where another took it over

A claim is a file in the run's folder, made by its owner, who writes a sign of life into it every
few seconds; it also says how far the work has come, which is all that `harness status` reads. It is
gone when the work is done. An owner of this host is dead when its process is; one of another host
when its file has not changed for minutes by the clock of the file system, or by this process's own
watch, whatever the hosts' clocks say. Only the holder of the folder's lock takes a claim, so that
two processes that find a dead owner do not both follow it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil
from pydantic import AwareDatetime, ConfigDict, Field, ValidationError

from harness.records.part import Count, NotNegative, RecordPart
from harness.records.reading import Odd
from harness.records.store import (
    CLAIM_FILE,
    LOCK_FILE,
    now,
    read_file,
    temporary_name,
    while_it_goes,
    write_atomically,
)

with warnings.catch_warnings(
    action="ignore"
):  # `locked` says what becomes of a system that has none
    from filelock import FileLock, SoftFileLock

_BEAT = 10.0
"""Seconds between two signs of life."""
_SILENT = 120.0
"""Seconds without one after which an owner on another host counts as dead."""

_REUSED = 60.0
"""Seconds by which two readings of a process's start may differ, as where a clock was set; its
number cannot be another process's so soon.
"""


class _Word(RecordPart):
    """What one process tells another, which may be of another version:
    fields that this one does not know are none.
    """

    model_config = ConfigDict(extra="ignore")


class Progress(_Word):
    """How far a run has come.

    Attributes:
        doing: ``training``, ``probing`` ..., in a word or two.
        seconds: on the training clock.
        accuracy: of the linear probe on the test side at the last evaluation.
    """

    doing: str = ""
    step: int = Field(default=0, ge=0, lt=2**63)
    steps: int = Field(default=0, ge=0, lt=2**63)
    clips: NotNegative = 0.0
    seconds: NotNegative = 0.0
    loss: float | None = None
    accuracy: float | None = None


class Claim(_Word):
    """What stands in a claim's file.

    Attributes:
        machine: the host as its processes see each other: the same number there is the same
            process.
        born: start of the process, in seconds by its host's clock: numbers are used again.
        token: of this claim alone.
        label: the row of the run that it is on.
        beat: counts signs of life, so that the file changes with each.
    """

    host: str
    machine: str
    process: int = Field(gt=0, lt=2**31)
    born: float
    token: str
    label: str
    seed: int
    since: AwareDatetime
    beat: Count = 0
    progress: Progress = Field(default=Progress())

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Held(Exception):
    """A living process works on it."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        super().__init__(f"{claim} works on it")


class Lost(Exception):
    """Another process took the claim over: this one was silent for too long,
    and must not write any more.
    """


@dataclass
class Owned:
    """A claim that this process holds.

    Attributes:
        look: how far the work has come; asked from another thread.
        lost: another process took it over.
    """

    path: Path
    claim: Claim
    look: Callable[[], Progress] = Progress
    lost: bool = False

    def check(self) -> None:
        """`Lost` unless the claim is still this process's;
        a file that cannot be read for a while says nothing.
        """
        try:
            found = read_claim(self.path)
        except OSError:
            return
        if found is None or found.token != self.claim.token:
            self.lost = True
            raise Lost(
                f"{found or 'another process'} took this run over; this process was silent for too"
                " long"
            )

    def beat(self) -> None:
        """A sign of life, with what is new."""
        self.check()
        progress = self.claim.progress
        with contextlib.suppress(
            Exception
        ):  # a process that cannot say how far it is lives all the same
            progress = self.look()
        self.claim = self.claim.model_copy(
            update={"beat": self.claim.beat + 1, "progress": progress}
        )
        write_claim(self.path, self.claim)


@dataclass
class Claims:
    """The claims of a folder.

    Attributes:
        seen: when this process first saw each claim as it is.
    """

    root: Path
    seen: dict[Path, tuple[str, float]] = field(default_factory=dict)

    def holder(self, address: str) -> Claim | None:
        """The living process that works on a run; None where none does."""
        path = self.root / address / CLAIM_FILE
        claim = read_claim(path)
        return claim if claim and self.alive(path, claim) else None

    def alive(self, path: Path, claim: Claim) -> bool:
        """Whether the owner of a claim still works."""
        if claim.machine == _this_machine():
            if (
                claim.process == os.getpid()
            ):  # a container that starts again counts its processes from 1 again
                return claim.token in _own
            return _lives(claim.process, claim.born)
        version, first = self.seen.setdefault(path, (claim.model_dump_json(), time.monotonic()))
        if version != claim.model_dump_json():
            self.seen[path] = claim.model_dump_json(), time.monotonic()
            return True
        return time.monotonic() - first < _SILENT and silence(path) < _SILENT

    @contextmanager
    def hold(self, address: str, label: str, seed: int) -> Iterator[Owned]:
        """Take a claim and keep it inside, with signs of life;
        `Held` where a living process has it.
        """
        owned = self._take(address, label, seed)
        stop = threading.Event()
        thread = threading.Thread(target=_keep_alive, args=(owned, stop), name="claim", daemon=True)
        thread.start()
        try:
            yield owned
        finally:
            stop.set()
            thread.join()
            with contextlib.suppress(Lost):
                owned.check()
                owned.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                owned.path.parent.rmdir()  # nothing was left in it

    def _take(self, address: str, label: str, seed: int) -> Owned:
        path = self.root / address / CLAIM_FILE
        with locked(self.root / LOCK_FILE):
            found = self.holder(address)
            if found:
                raise Held(found)
            claim = Claim(
                host=socket.gethostname(),
                machine=_this_machine(),
                process=os.getpid(),
                born=born(os.getpid()),
                token=uuid.uuid4().hex,
                label=label,
                seed=seed,
                since=now(),
            )
            # One that is dead is written over: where the disk is full it stays, and its owner may
            # yet wake up.
            write_claim(path, claim, new=not path.exists())
            _own.add(claim.token)
        return Owned(path, claim)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; where system or file system know no locks, a new claim's file must not
    be there already. A lock of filelock's own making, a file, is none: one that a dead process left
    would stop all others.
    """
    if FileLock is SoftFileLock:
        yield
        return
    lock = FileLock(path)

    def acquire() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()

    try:
        while_it_goes(acquire)
    except (NotImplementedError, OSError) as problem:
        if isinstance(problem, OSError) and problem.errno != errno.ENOLCK:
            raise
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _keep_alive(owned: Owned, stop: threading.Event) -> None:
    """Signs of life until ``stop``; a claim that was lost gets none,
    and its owner finds out when it looks.
    """
    while not stop.wait(_BEAT):
        with contextlib.suppress(OSError):  # a disk that is full for a while
            try:
                owned.beat()
            except Lost:
                return


_own: set[str] = set()
"""Tokens of the claims that this process has, or had."""


def read_claim(path: Path) -> Claim | None:
    """The claim of a file; None where there is none, or it is damaged.
    `OSError` where that cannot be known.
    """
    try:
        return Claim.model_validate_json(read_file(path))
    except (FileNotFoundError, NotADirectoryError, Odd, ValidationError):
        return None


def write_claim(path: Path, claim: Claim, *, new: bool = False) -> None:
    """Write a claim; a new one must not be there already."""
    content = (claim.model_dump_json() + "\n").encode()
    if not new:
        write_atomically(path, content)
        return

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as stream:
            stream.write(content)

    while_it_goes(write)


@cache
def _this_machine() -> str:
    """This host as its processes see each other: its name, this boot of it,
    and the processes' own numbering.
    """
    words = [socket.gethostname()]
    try:
        words.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        words.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        words.append(f"{uuid.getnode():x}")  # two hosts may have one name
    return " ".join(words)


def born(process: int) -> float:
    """When a process of this host began."""
    return float(psutil.Process(process).create_time())


def _lives(process: int, since: float) -> bool:
    """A process of this host is there, and is the one that began then."""
    try:
        found = psutil.Process(process)
        return found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - since) < _REUSED
    except psutil.NoSuchProcess:
        return False


def silence(path: Path) -> float:
    """Seconds since a file changed, both ends by the clock of the file system that holds it; where
    that cannot be written, which none who takes a claim finds, by this host's.
    """
    probe = path.parent / temporary_name("clock")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except OSError as problem:
        if problem.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            return 0.0
        with contextlib.suppress(OSError):
            return max(0.0, time.time() - path.stat().st_mtime)
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
