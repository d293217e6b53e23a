"""What the user sees while work goes on: live bars on a terminal, one line per run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Advance = Callable[[int, int], None]
CHECKING = "checking the store, once"


def make_console() -> Console:
    """A console that leaves long lines to the terminal; pipes and files get every line whole."""
    return Console(highlight=False, soft_wrap=True)


class Reporter:
    """Prints lines and shows progress of one task at a time."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def line(self, text: str) -> None:
        """Print one line."""
        self.console.print(text, markup=False)

    @contextmanager
    def task(self, name: str) -> Iterator[Advance]:
        """A running task; call the yielded function with (done, total), total 0 while it is not known."""
        if not self.console.is_terminal:
            yield lambda done, total: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.console, transient=True) as progress:
            bar = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(bar, completed=done, total=total or None)

    @contextmanager
    def long_task(self, name: str) -> Iterator[Advance]:
        """A task that is shown from the first call on: most often there is none."""
        with ExitStack() as shown:
            tasks = list[Advance]()

            def advance(done: int, total: int) -> None:
                if not tasks:
                    tasks.append(shown.enter_context(self.task(name)))
                tasks[0](done, total)

            yield advance


def minutes(seconds: float) -> str:
    """``95`` seconds as ``1.6 min``."""
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def counted(number: int, noun: str) -> str:
    """``1 probe``, ``3 probes``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Elapsed seconds."""
        return time.perf_counter() - self._began
