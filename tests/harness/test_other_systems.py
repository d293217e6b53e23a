"""Windows and macOS, as far as they can be made up on Linux:
what is missing there is not needed.
"""

from __future__ import annotations

import ast
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datasets.catalog import open_clips
from datasets.errors import DataError
from harness import isolation
from harness.machine import describe_environment, processors
from tests.harness.small_run import SMALL, small_file

ROOT = Path(__file__).parents[2]

NOT_ON_WINDOWS = {
    "os": {
        "sysconf",
        "sched_getaffinity",
        "sched_setaffinity",
        "fork",
        "forkpty",
        "killpg",
        "getpgid",
        "setsid",
        "mkfifo",
        "mknod",
        "getuid",
        "geteuid",
        "getgid",
        "uname",
        "statvfs",
        "getloadavg",
        "nice",
        "pread",
        "pwrite",
        "chown",
    },
    "signal": {
        "SIGHUP",
        "SIGKILL",
        "SIGALRM",
        "SIGUSR1",
        "SIGUSR2",
        "SIGCHLD",
        "SIGPIPE",
        "alarm",
        "setitimer",
        "pause",
        "pthread_sigmask",
        "pthread_kill",
        "sigwait",
        "siginterrupt",
    },
    "time": {"tzset"},
}
DIFFERENT_ON_WINDOWS = {"os": {"kill"}}
"""It ends the process, whatever the signal."""

HANDLED = {
    signal.SIGABRT,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGINT,
    signal.SIGSEGV,
    signal.SIGTERM,
}

# Libraries know their system: they are loaded before what only Unix has is taken away.
RUN = """
import sys
import pandas, psutil, pytest, sklearn.linear_model, timm, torch.profiler
from tests.harness.test_other_systems import take_away

take_away(pytest.MonkeyPatch())
ours = ("harness", "datasets", "methods")
for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
    del sys.modules[name]
from harness.__main__ import main
main()
"""


def take_away(patch: pytest.MonkeyPatch) -> None:
    """What Windows has of ``os`` and ``signal`` is left."""
    ask = signal.getsignal

    def getsignal(number: int) -> object:
        if number not in HANDLED:
            raise ValueError("signal number out of range")
        return ask(number)

    patch.setattr(signal, "getsignal", getsignal)
    patch.setattr(signal, "valid_signals", lambda: set(HANDLED))
    patch.setitem(sys.modules, "fcntl", None)
    for owner, name in (
        (os, "sysconf"),
        (os, "sched_getaffinity"),
        (os, "sched_setaffinity"),
        (signal, "SIGHUP"),
        (signal, "SIGUSR1"),
        (signal, "pthread_sigmask"),
    ):
        patch.delattr(owner, name, raising=False)


@pytest.mark.parametrize("name", ["guard", "stopping"])
def test_signals_are_those_of_the_system(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch)
    monkeypatch.setattr(
        isolation, name, getattr(isolation, name)
    )  # so that the one which others have comes back
    monkeypatch.delitem(sys.modules, f"harness.isolation.{name}")
    module = importlib.import_module(f"harness.isolation.{name}")  # as on that system
    guarded = module.Guard()("step") if hasattr(module, "Guard") else module.stoppable()
    with guarded:
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))


@pytest.mark.long
def test_a_run_needs_nothing_that_only_unix_has(tmp_path: Path) -> None:
    words = [*SMALL, "--dataset", str(small_file(tmp_path)), "--out", str(tmp_path / "out")]
    found = subprocess.run(
        [sys.executable, "-c", RUN, "run", "--methods", "encoder-only", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "out" / "table.md").exists()


LOCKED = """
import sys
from pathlib import Path
import psutil
sys.modules["fcntl"] = None
from harness.records.claims import locked
with locked(Path(sys.argv[1])):
    print("inside")
"""


def test_a_system_without_locks_of_files_warns_nobody_and_leaves_no_lock(tmp_path: Path) -> None:
    """A file that filelock would leave in their place stops every process
    when its own is killed.
    """
    command = [sys.executable, "-W", "error::UserWarning", "-c", LOCKED, str(tmp_path / "lock")]
    found = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.stderr) == ("inside\n", "")
    assert os.name == "nt" or not (tmp_path / "lock").exists()


@pytest.mark.parametrize("package", ["harness", "datasets", "methods"])
def test_what_only_unix_has_is_asked_for_first(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in unasked(path)
    ]
    assert not found


def unasked(path: Path) -> list[str]:
    """Uses of what Windows lacks in statements, functions say, that look at nothing before."""
    text, found = path.read_text(encoding="utf-8"), []
    lines = text.splitlines()
    for statement in ast.parse(text).body:
        source = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        asks = "hasattr(" in source or "os.name ==" in source
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner, name = node.value.id, node.attr
                missing = name in NOT_ON_WINDOWS.get(owner, ()) and not asks
                if missing or name in DIFFERENT_ON_WINDOWS.get(owner, ()):
                    found.append(f"{owner}.{name}")
    return found


def test_uses_are_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import os, signal\n"
        "def one(): os.kill(1, 0)\n"
        "def two(): return os.sysconf('SC_PHYS_PAGES')\n"
        "def three(): return os.getuid() if hasattr(os, 'getuid') else 0\n"
    )
    assert unasked(path) == ["os.kill", "os.sysconf"]


def test_memory_and_processors_are_known_without_sysconf(monkeypatch: pytest.MonkeyPatch) -> None:
    take_away(monkeypatch)
    assert processors() == os.cpu_count()
    assert describe_environment(torch.device("cpu")).memory_gib > 0


def test_a_path_of_windows_is_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sep", "\\")
    with pytest.raises(DataError, match=r"expected a \.npz file, found no such file"):
        open_clips("C:\\data\\ntu60")
