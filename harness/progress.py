"""What the user sees while work goes on: live bars on a terminal; in a log, a line at least every
half minute.

    with at_work() as reporter:           # in a log the first line, before anything slow is loaded
        with reporter.task("training", "step") as task:
            task(10, 200, "loss 0.31")             # so far, in all, and what else there is to say

In a log nothing is printed for work that is quick. After half a minute without a line a thread of
its own says how far the task has come, whatever the work itself is busy with.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from datasets.wording import minutes, printable

CHECKING = "checking the store, once"

_WIDTH = 100
"""Columns of a wrapped table where no terminal says how many."""
_GAP, _NARROWEST = 2, 12
"""Signs between columns of a table, and those of its first column where it is folded."""
QUIET_SECONDS = 30.0
"""A log gets a line at least so often."""

State = tuple[int, int, str]
"""Done so far; in all, 0 while that is not known; anything else worth saying."""
Advance = Callable[[int, int], None]


# --- text on its way out: whatever a command prints goes through one of these ---


def say(text: str, *, stderr: bool = False) -> None:
    """Print one line."""
    print(printable(text), file=sys.stderr if stderr else sys.stdout, flush=True)


def say_lines(text: str) -> None:
    """Print JSON or YAML, whose own line ends stay."""
    for line in text.split("\n"):
        say(line)


def warn(*lines: str) -> None:
    """Print lines on stderr: what a reader of the answer must know although it is no part of it."""
    for line in lines:
        say(line, stderr=True)


class PlainConsole(Console):
    """Text is text: no markup in it, no names of emoji, nothing that a terminal would obey."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every string on its way out, a table's cell too."""
        return super().render_str(printable(text), **options)


def make_console(*, stderr: bool = False) -> Console:
    """A console that leaves long lines to the terminal; pipes and files get every line whole."""
    return PlainConsole(soft_wrap=True, stderr=stderr)


def command_line() -> str:
    """The command as typed, in one line."""
    start = "python"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        start = f"torchrun --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']}"
    return printable(f"{start} -m harness {shlex.join(sys.argv[1:])}")


_ONE_BY_ONE = ("method", "process", "check")
"""Units of which the one at work is named, from 1; of others so many are done."""


class Task:
    """How far a piece of work has come; the one who works says so by calling it.

    Args:
        name: of the work.
        unit: what is counted, e.g. ``step``.
        began: reading of the clock.
        told: called whenever something was said.
    """

    def __init__(
        self,
        name: str = "",
        unit: str = "",
        began: float = 0.0,
        told: Callable[[State], None] = lambda state: None,
    ) -> None:
        self.name, self.unit, self.began, self.told = name, unit, began, told
        self.look: Callable[[], State] = lambda: (0, 0, "")

    def __call__(self, done: int, total: int, detail: str = "") -> None:
        """So much is done."""
        state = (done, total, detail)
        self.look = lambda: state
        self.told(state)

    def follow(self, look: Callable[[], State]) -> None:
        """From now on ``look`` knows; it is asked when a line is due, from another thread."""
        self.look = look

    def text(self, now: float) -> str:
        """``training: step 10 of 200 (5%), loss 0.31, 12 s so far, about 3.8 min left``."""
        done, total, detail = self.look()
        seconds, words = now - self.began, []
        if total:
            number = min(done + 1, total) if self.unit in _ONE_BY_ONE else done
            words.append(f"{self.unit} {number:,} of {total:,} ({done / total:.0%})".strip())
        elif done:
            words.append(f"{self.unit} {done:,}".strip())
        words += [detail] if detail else []
        words.append(f"{minutes(seconds)} so far")
        if 0 < done < total:
            words.append(f"about {minutes(seconds * (total - done) / done)} left")
        return f"{self.name}: {', '.join(words)}"


class _Bars(Progress):
    """On a terminal: a bar for every running task,
    which asks it how far it has come whenever it is drawn.
    """

    def __init__(self, console: Console) -> None:
        self._shown: dict[TaskID, Task] = {}
        description = TextColumn("{task.description}", markup=False)
        columns = (description, BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        super().__init__(*columns, console=console, transient=True)

    @contextmanager
    def bar(self, name: str) -> Iterator[Task]:
        """A task with its bar."""
        bar, task = self.add_task(printable(name), total=None), Task(name)
        self._shown[bar] = task
        try:
            yield task
        finally:
            del self._shown[bar]
            self.remove_task(bar)

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is drawn, at any moment and from another thread."""
        for bar, task in tuple(self._shown.items()):
            done, total, detail = task.look()
            text = printable(f"{task.name}: {detail}" if detail else task.name)
            self.update(bar, completed=done, total=total or None, description=text)
        yield from super().get_renderables()


class Reporter:
    """Prints lines and shows progress.

    Args:
        console: where to.
        clock: seconds, from any beginning.
        every: seconds without a line after which a log gets one.
        quiet: print results alone, and no progress.
    """

    def __init__(
        self,
        console: Console,
        *,
        clock: Callable[[], float] = time.monotonic,
        every: float | None = None,
        quiet: bool = False,
    ) -> None:
        self.console, self.quiet, self._clock = console, quiet, clock
        self._every = QUIET_SECONDS if every is None else every
        self._lock = threading.RLock()
        self._last, self._tasks = clock(), list[Task]()
        self._bars: _Bars | None = None

    def line(self, text: str) -> None:
        """Print one line about the work, at once also into a file."""
        if not self.quiet:
            self.result(text)

    def result(self, text: str) -> None:
        """Print one line of what was asked for, in a quiet run too."""
        with self._lock:
            self.console.print(text)
            self.console.file.flush()
            self._last = self._clock()

    @contextmanager
    def task(self, name: str, unit: str = "") -> Iterator[Task]:
        """A running task; inner ones are shown instead of the one they belong to."""
        if self.quiet:
            yield Task(name, unit)
            return
        if self.console.is_terminal:
            with self._bar(name) as task:
                yield task
            return
        task = Task(name, unit, self._clock(), lambda state: self.remind())
        with self._lock:
            self._tasks.append(task)
        try:
            yield task
        finally:
            with self._lock:
                self._tasks.remove(task)

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

    @contextmanager
    def _bar(self, name: str) -> Iterator[Task]:
        with ExitStack() as shown:
            if self._bars is None:
                self._bars = shown.enter_context(_Bars(self.console))
                shown.callback(setattr, self, "_bars", None)
            with self._bars.bar(name) as task:
                yield task

    def remind(self) -> None:
        """Print how far the task has come, if no line was printed for long."""
        with self._lock:
            if self._tasks and self._clock() - self._last >= self._every:
                self.line(self._tasks[-1].text(self._clock()))

    @contextmanager
    def log(self) -> Iterator[None]:
        """In a log: inside, a thread of its own reminds, whatever the work is busy with."""
        if self.quiet or self.console.is_terminal:
            yield
            return
        done = threading.Event()

        def remind() -> None:
            while not done.wait(max(0.01, self._last + self._every - self._clock())):
                self.remind()

        thread = threading.Thread(target=remind, name="progress", daemon=True)
        thread.start()
        try:
            with self.task("working"):
                yield
        finally:
            done.set()
            thread.join(timeout=1)


@contextmanager
def at_work(
    *, announced: bool = True, stderr: bool = False, quiet: bool = False
) -> Iterator[Reporter]:
    """The reporter of a command that may take long; what is slow to import is imported inside.

    Args:
        announced: in a log, the first line says what was started.
        stderr: print there: the output is somebody's input.
        quiet: print results alone, and no progress.
    """
    reporter = Reporter(make_console(stderr=stderr), quiet=quiet)
    if announced and not reporter.console.is_terminal:
        reporter.line(f"started: {command_line()}")
    with reporter.log():
        yield reporter


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Elapsed seconds."""
        return time.perf_counter() - self._began


def print_table(console: Console, columns: Any, rows: Any, lines: list[str]) -> None:
    """A table and the lines below it."""
    table = make_table(console, columns, rows)
    target = console
    if not console.is_terminal:  # a file gets every row whole, however long
        target = PlainConsole(
            file=console.file, width=PlainConsole(width=10_000).measure(table).maximum
        )
    target.print(table)
    for line in lines:
        console.print(line)


def print_texts(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of texts, wrapped to the terminal's width, `_WIDTH` where there is none;
    the first column stays whole.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, no_wrap=index == 0)
    for row in rows:
        table.add_row(*row)
    PlainConsole(width=shutil.get_terminal_size((_WIDTH, 0)).columns).print(table)


def make_table(console: Console, columns: Any, rows: Any, caption: str | None = None) -> Table:
    """A table for a console, with a line below it.

    On a terminal that is too narrow the first column is folded; where that is not enough, all are.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    room = console.width - _width(columns[1:], [row[1:] for row in rows]) - _GAP
    folds = console.is_terminal and room >= _NARROWEST
    whole = not console.is_terminal or folds
    table = Table(
        box=None, pad_edge=False, header_style="bold", caption=caption, caption_justify="left"
    )
    for index, column in enumerate(columns):
        table.add_column(
            column,
            justify="left" if index == 0 else "right",
            no_wrap=whole and not (folds and index == 0),
            overflow="fold",
            max_width=room if folds and index == 0 else None,
        )
    for row in rows:
        table.add_row(*row)
    return table


def _width(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of these columns, each with the gap before it, as they are printed."""
    widths = [
        max(cell_len(printable(cell)) for cell in column)
        for column in zip(columns, *rows, strict=True)
    ]
    return sum(widths) + _GAP * (len(widths) - 1)
