"""Signals that end a command: Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 become one exception in the main
thread.

    with stoppable() as stops:
        work()           # raises `Stopped` wherever it is when a signal comes
    with held():
        write_record()   # a signal that comes here is raised after the block
    with deferred():
        step()           # the same for the first signal; a second one is raised at once

`Stopped` is a `KeyboardInterrupt`: whatever cleans up after Ctrl-C cleans up after the others too.
Other code may swallow it (a bare ``except:``); `stop_if_asked` raises it again at the next place
where stopping is safe.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from harness.isolation import launched

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if hasattr(signal, name)
)


class Stopped(KeyboardInterrupt):
    """A signal asked this process to stop."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.reason)

    @property
    def reason(self) -> str:
        """``stopped by the user`` or ``stopped by SIGTERM``."""
        return (
            "stopped by the user"
            if self.signal == signal.SIGINT
            else f"stopped by {self.signal.name}"
        )

    @property
    def exit_code(self) -> int:
        """As a shell reports a process that the signal ended: 130, 143, 129, 138."""
        return 128 + self.signal


class RankLost(Stopped):
    """Another of the processes that train together is gone, or something failed on this one alone.

    Attributes:
        told: another one has said so to the user.
    """

    def __init__(self, problem: str, *, told: bool) -> None:
        self.problem, self.told = problem, told
        super().__init__(signal.SIGTERM)

    @property
    def reason(self) -> str:
        """What happened."""
        return self.problem

    @property
    def exit_code(self) -> int:
        """A failure."""
        return 1


@dataclass
class Stops:
    """What was asked of this process.

    Attributes:
        asked: the first signal that came.
        holding: signals wait while it is above 0.
        waiting: one came meanwhile.
        deferring: the first one waits for the end of a block.
    """

    asked: Stopped | None = None
    holding: int = 0
    waiting: bool = False
    deferring: bool = False

    def take(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler."""
        first, self.asked = self.asked is None, self.asked or Stopped(number)
        if self.holding:
            self.waiting = True
        # Torchrun sends on a signal that the ranks may have got already, and ends itself what hangs
        # for half a minute.
        elif not (self.deferring and (first or launched.world_size() > 1)):
            raise Stopped(number)


_active: list[Stops] = []
"""Of the `stoppable` block that this process is in; signal handlers belong to the whole process."""


@contextmanager
def stoppable() -> Iterator[Stops]:
    """Inside, the signals raise `Stopped`; afterwards they do what they did before.

    What is ignored stays ignored: ``nohup`` means that a hang-up is none of the command's business.
    Outside the main thread, which alone may handle signals, nothing changes.
    """
    stops = Stops()
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = {
        number: handler
        for number, handler in before.items()
        if handler not in (signal.SIG_IGN, None)
    }
    _active.append(stops)
    try:
        for number in handled:
            signal.signal(number, stops.take)
        yield stops
    finally:
        _active.remove(stops)
        for number, handler in handled.items():
            signal.signal(number, handler)


def stops_are_told() -> bool:
    """Whether a stop by the user is a `Stopped` here,
    so that any other `KeyboardInterrupt` is somebody's own.
    """
    return bool(_active)


@contextmanager
def held() -> Iterator[None]:
    """A signal that comes inside is raised at the end of the block:
    for writing what must not be lost.
    """
    if not _active:
        yield
        return
    stops = _active[-1]
    stops.holding += 1
    try:
        yield
    finally:
        stops.holding -= 1
        if stops.waiting and not stops.holding:
            stops.waiting = False
            assert stops.asked is not None
            raise stops.asked


@contextmanager
def deferred() -> Iterator[None]:
    """The first signal that comes inside is raised at the end of the block,
    a second one at once: for foreign code.
    """
    if not _active:
        yield
        return
    stops = _active[-1]
    before, stops.deferring = stops.deferring, True
    try:
        yield
    finally:
        stops.deferring = before
    if not before:
        stop_if_asked()


def stop_is_asked() -> bool:
    """A signal asked this process to stop and has not been raised where it is now."""
    return bool(_active and _active[-1].asked)


def asked_signal() -> int:
    """The signal that asked this process to stop; 0 where none did."""
    asked = _active[-1].asked if _active else None
    return int(asked.signal) if asked else 0


def ask_to_stop(number: int) -> None:
    """As if the signal had come to this process: it came to another that works with it."""
    if _active:
        _active[-1].asked = _active[-1].asked or Stopped(number)


def stop_for(lost: RankLost) -> RankLost:
    """The stop that this process ends with, whatever signals came before."""
    if _active:
        _active[-1].asked = lost
    return lost


def stop_if_asked() -> None:
    """Raise a stop that was asked for and swallowed on its way."""
    if _active and _active[-1].asked and not (_active[-1].holding or _active[-1].deferring):
        raise _active[-1].asked
