"""The interleaved measurement in several fresh processes,
one after the other (benchmarks/RULES.md, "Replication").
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from subprocess import run

from harness.errors import UsageError
from harness.progress import Reporter
from harness.records.replication import joined
from harness.records.schema import SpeedRecord
from harness.records.store import RecordStore, speed_address
from harness.speed.measurement import Measurement, Timing


def measure_in_processes(
    timing: Timing, store: RecordStore, processes: int, reporter: Reporter
) -> Measurement:
    """This process' own command in fresh ones, each from another slot on; the joined measurement
    lies in the folder.

    A method that fails in one of them is left out, and remembered.
    """
    found = []
    store.root.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".processes-", dir=store.root) as scratch,
        reporter.task("measuring speed, a fresh process each", "process") as task,
    ):
        for number in range(processes):
            task(number, processes, "")
            found.append(_in_process(sys.argv[1:], number, Path(scratch) / str(number)))
            if len(found) < processes:
                _leave(found, timing, store)
    record = joined(found)
    failures: dict[str, Exception] = {
        cell.label: UsageError("failed in one of the processes")
        for cell in timing.cells
        if not record.arm(cell.label)
    }
    store.write_speed(record)
    return Measurement(record, failures)


def _leave(found: Sequence[SpeedRecord], timing: Timing, store: RecordStore) -> None:
    """Write what the processes so far have measured as a record that is not finished."""
    record = joined(found) if len(found) > 1 else found[0]
    planned = round(record.done_rounds * timing.processes / len(found))
    changes = {
        "address": speed_address(timing.spec),
        "spec": timing.spec,
        "planned_rounds": planned,
    }
    with contextlib.suppress(OSError):  # a full disk: the finished record is what must not be lost
        store.write_speed(record.model_copy(update=changes))


def _in_process(arguments: Sequence[str], number: int, out: Path) -> SpeedRecord:
    """The measurement that a command leaves in a process of its own,
    whose first round starts at slot ``number``.
    """
    own = [
        "--processes",
        "1",
        "--first-slot",
        str(number),
        "--out",
        str(out),
    ]  # of two, the later one counts
    ended = run(
        [sys.executable, "-m", "harness", *arguments, *own],
        check=False,
        capture_output=True,
        text=True,
    )
    speeds = list(RecordStore(out).speeds()) if out.is_dir() else []
    if len(speeds) != 1:
        said = (ended.stderr or ended.stdout).strip().splitlines()
        reason = said[-1].removeprefix("error: ") if said else f"exit code {ended.returncode}"
        raise UsageError(f"process {number + 1} left no measurement ({reason})")
    return speeds[0]
