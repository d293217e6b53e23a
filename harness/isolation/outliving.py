"""What a method's code may start that outlives the call: threads, timers, the end of the process,
handlers at exit.

    with overseen() as call:
        method.loss(x)
    call.close()        # what was started and goes on, in words; it is ended where Python can

Only what the method's own files start counts: torch and other libraries keep threads, and clean up
at exit. What is started past Python (a C library's threads, its ``exit``) or in other processes is
not seen.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import sysconfig
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any, NoReturn

from harness import ROOT
from harness.errors import one_line

_GRACE, _PATIENCE = 0.2, 1.0
"""Seconds for a thread to end by itself, and when it is asked to."""
_LIBRARIES = (
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")),
    *(ROOT / name for name in ("harness", "datasets", "methods")),
)
_TIMERS = {
    getattr(signal, timer): (timer, getattr(signal, number))
    for timer, number in (
        ("ITIMER_REAL", "SIGALRM"),
        ("ITIMER_VIRTUAL", "SIGVTALRM"),
        ("ITIMER_PROF", "SIGPROF"),
    )
    if hasattr(signal, timer)
}
"""Timer -> its name and the signal that it sends, which ends a process that handles it not;
none on Windows.
"""

Tell = Callable[[str], None]

_calls: list[Call] = []
"""Open calls, innermost last."""
_started: weakref.WeakSet[Thread] = weakref.WeakSet()
"""Threads of methods' own code."""
_tell: list[Tell] = []
"""Where a line goes that no row can have any more."""


@dataclass(eq=False)
class Call:
    """A call into a method.

    Attributes:
        threads: that the method's own code started meanwhile.
        thrown: what ended some of them.
        process: that the call began in.
        open: it has not come back.
    """

    threads: list[Thread] = field(default_factory=list)
    thrown: list[str] = field(default_factory=list)
    process: int = field(default_factory=os.getpid)
    open: bool = True

    def close(self) -> list[str]:
        """The call is over: end what it started; in words what had not ended by itself.

        A process that the call forked ends here, as one that goes on would do everybody's work a
        second time.
        """
        self.open = False
        if os.getpid() != self.process:
            _exit_of_the_system(1)
        for thread in filter(Thread.is_alive, self.threads):
            thread.join(_GRACE)
        left = [thread for thread in self.threads if thread.is_alive()]
        for thread in left:
            _end(thread)
        return [
            f"left a thread running ({thread.name})" + ", which does not end" * thread.is_alive()
            for thread in left
        ]


@contextmanager
def overseen() -> Iterator[Call]:
    """A call into a method, which cannot end the process, and whose threads are known."""
    call = Call()
    before = (
        [(owner, name, getattr(owner, name)) for owner, name, _ in _REPLACED] if not _calls else []
    )
    if not _calls:
        for owner, name, function in _REPLACED:
            setattr(owner, name, function)
    _calls.append(call)
    try:
        with _timers_throw(), _hooked():
            yield call
    finally:
        call.open = False
        _calls.remove(call)
        for owner, name, function in before:
            setattr(owner, name, function)


@contextmanager
def told(tell: Tell) -> Iterator[None]:
    """Inside, what threads throw after their row, and what comes at exit,
    is told in a line each.
    """
    _tell.append(tell)  # and stays, for what comes at exit
    with _hooked():
        yield


@contextmanager
def _hooked() -> Iterator[None]:
    before = threading.excepthook
    threading.excepthook = lambda thrown: _thread_threw(thrown, before)
    try:
        yield
    finally:
        threading.excepthook = before


def strays() -> list[Thread]:
    """Threads of methods whose call is over, which take time from whatever runs now."""
    inside = [thread for call in _calls if call.open for thread in call.threads]
    return [thread for thread in list(_started) if thread.is_alive() and thread not in inside]


def _end(thread: Thread) -> None:
    """Ask a thread to end: it gets `SystemExit` with its next line of Python,
    which one that waits may not reach.
    """
    assert thread.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    thread.join(_PATIENCE)


# --- in the places of Python's own, while a call is open ---


def _is_own(frame: FrameType) -> bool:
    """The code of a frame is a method's, not a library's."""
    return not _of_a_library(frame.f_code.co_filename)


@cache
def _of_a_library(file: str) -> bool:
    path = Path(file)
    packages = {"site-packages", "dist-packages"} & {*path.parts}
    return (
        file.startswith("<frozen")
        or bool(packages)
        or any(path.is_relative_to(place) for place in _LIBRARIES)
    )


def _start(thread: Thread) -> None:
    if _calls and _is_own(sys._getframe(1)):
        _calls[-1].threads.append(thread)
        _started.add(thread)
    _start_of_threading(thread)


def _exit(status: int) -> NoReturn:
    """`os._exit` ends a process without a word, with any exit code: here a row."""
    if not _calls or os.getpid() != _calls[-1].process:  # a child's, as it should
        _exit_of_the_system(status)
    if threading.current_thread() is threading.main_thread() and _calls[-1].open:
        raise SystemExit(f"os._exit({status})")
    _say(
        f"error: a method's thread ended the process: os._exit({status}); the same command goes on"
        " with what is left"
    )
    _exit_of_the_system(status or 1)


def _register(function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Callable[..., Any]:
    kept = AtExit(function) if _is_own(sys._getframe(1)) else function
    _register_of_atexit(kept, *arguments, **named)
    return function


@dataclass(frozen=True)
class AtExit:
    """A method's handler at exit: whatever it does, the command ends as it would have."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any, **named: Any) -> None:
        """Run it, and say what it threw."""
        try:
            with overseen():
                self.function(*arguments, **named)
        except BaseException as error:  # noqa: BLE001 - the exit code is settled
            _say(f"warning: a method's handler at exit ended in {one_line(error)}")


def _thread_threw(
    thrown: threading.ExceptHookArgs, others: Callable[[threading.ExceptHookArgs], Any]
) -> None:
    """What ended a thread belongs to its row, or, when that is over, into a line."""
    if thrown.thread not in _started or thrown.exc_value is None:
        others(thrown)
        return
    if isinstance(thrown.exc_value, SystemExit):  # as `_end` asked it to
        return
    text = f"a thread ended in {one_line(thrown.exc_value)}"
    calls = [call for call in _calls if call.open and thrown.thread in call.threads]
    if calls:
        calls[-1].thrown.append(text)
    else:
        _say(f"warning: {text}, after the call of a method that had started it")


def _say(text: str) -> None:
    for tell in _tell[-1:]:
        tell(text)


_start_of_threading, _register_of_atexit, _exit_of_the_system = (
    Thread.start,
    atexit.register,
    os._exit,
)
_REPLACED: tuple[tuple[Any, str, Any], ...] = (
    (Thread, "start", _start),
    (atexit, "register", _register),
    (os, "_exit", _exit),
    *((module, "_exit", _exit) for name in ("posix", "nt") if (module := sys.modules.get(name))),
)


# --- timers ---


def timers() -> tuple[str, ...]:
    """Names of the timers that are set."""
    return tuple(name for timer, (name, _) in _TIMERS.items() if any(signal.getitimer(timer)))


def stop_timers(kept: tuple[str, ...]) -> None:
    """Stop all timers but these."""
    if hasattr(signal, "setitimer"):
        for timer, (name, _) in _TIMERS.items():
            if name not in kept:
                signal.setitimer(timer, 0)


@contextmanager
def _timers_throw() -> Iterator[None]:
    """Inside, the signals of timers throw in the method's call, instead of ending the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    there = {number for _, number in _TIMERS.values()} & signal.valid_signals()
    numbers = [number for number in there if signal.getsignal(number) == signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, _rang)
    try:
        yield
    finally:
        for number in numbers:
            if signal.getsignal(number) is _rang:
                signal.signal(number, signal.SIG_DFL)


def _rang(number: int, frame: FrameType | None) -> None:
    if _calls and _calls[-1].open:
        raise SystemExit(f"{signal.Signals(number).name}, of a timer that the method has set")
