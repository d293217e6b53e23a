"""A job whose child is a few lines of Python;
a job's own process finds it under this module's name.
"""

from __future__ import annotations

import sys

from harness.runs.job import Job

CHILD = """
import pathlib, signal, sys, time
told = []
signal.signal(signal.SIGUSR1, lambda *a: told.append(1))
place = pathlib.Path(sys.argv[1])
(place / "ready").touch()
while not (place / "go").exists() and not told: time.sleep(0.01)
time.sleep(0.2 * bool(told))
(place / "told").write_text(str(len(told)))
sys.exit(138 * bool(told))
"""
"""Says that it is there, goes on until it is told to stop, and notes how often it was told."""


class Made(Job):
    """A job whose words are a program and what it is given."""

    @property
    def command(self) -> list[str]:
        """Of the child."""
        return [sys.executable, "-c", *self.words]
