"""Commands in processes of their own, which come from a server that has imported everything: they
begin at once.

The server is a clean process: one that was forked from a test's would have what other tests left in
that, threads too.
"""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from tests.harness.small_run import harness

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


def start_method() -> str:
    """``forkserver``, whose server imports everything as it starts; ``spawn`` without forks."""
    if not hasattr(os, "fork"):
        return "spawn"
    multiprocessing.set_forkserver_preload(
        ["tests.harness.children", "harness.runs.experiment", "harness.report.table"]
    )
    return "forkserver"


def begin(words: list[str], log: Path) -> BaseProcess:
    """``python -m harness WORDS``, begun; its output goes into ``log`` when it ends by itself."""
    process = multiprocessing.get_context(start_method()).Process(target=work, args=(words, log))
    process.start()
    return process


def work(words: list[str], log: Path) -> None:
    """What a child does."""
    found = harness(*words)
    log.write_text(f"{found.out}\n{found.err}")
    os._exit(found.code)


def killed(process: BaseProcess, number: int) -> None:
    """Send a child a signal and wait for its end."""
    assert process.pid
    os.kill(process.pid, number)
    process.join()
