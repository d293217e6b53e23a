"""`benchmarks/gpu.py --rehearse`, all of it: stopped at three random moments, it loses nothing that was measured."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[1]
STOPS = ("the call is told to end", "the call is killed", "its part is killed")
FIRST, LAST = 5.0, 60.0
"""Seconds after the begin of a part in which it is stopped."""

Found = dict[str, tuple[bool, int]]
"""Of every measurement: whether it is finished, and what it counts."""


def counted(name: str, content: bytes) -> tuple[str, tuple[bool, int]] | None:
    """What a file holds of a part: rounds of a measurement, methods whose losses were compared, a run."""
    part, file = name.partition("/")[0].partition(".")[0], Path(name)
    if file.suffix != ".json" or name == "parts.json":
        return None
    record: dict[str, Any] = json.loads(content)
    if file.name.startswith("speed"):
        return f"{part} {record['address']}", (file.name == "speed.json", record["same"]["pairs"])
    if file.name == "losses.json":
        return part, (len(record["methods"]) > 8, len(record["methods"]))
    return (f"{part} {record['address']}", (record["status"] == "ok", 1)) if file.name == "record.json" else None


def measured(files: dict[str, bytes]) -> Found:
    """The most that any file holds, by what it is of."""
    found: Found = {}
    for name, content in files.items():
        if one := counted(name, content):
            found[one[0]] = max(found.get(one[0], one[1]), one[1])
    return found


def in_folder(results: Path) -> Found:
    paths = [path for path in results.rglob("[!.]*.json") if path.is_file()]
    return measured({str(path.relative_to(results)): path.read_bytes() for path in paths})


def in_archive(path: Path) -> Found:
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        return measured({name: archive.extractfile(name).read() for name in archive.getnames()})  # type: ignore[union-attr]


def lost(before: Found, after: Found) -> list[str]:
    """What was measured and is not there any more, or less of it."""
    return [name for name, found in before.items() if after.get(name, (False, -1)) < found]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="a part ends with its call on Linux alone")
def test_stopped_at_three_random_moments_nothing_measured_is_lost(tmp_path: Path) -> None:
    out, results, moments = tmp_path / "out", tmp_path / "work" / "results", random.Random()
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--rehearse", "--seconds", "3600"]
    command += ["--out", str(out), "--work", str(tmp_path / "work")]
    with (tmp_path / "log").open("w") as log:

        def begin() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, stdout=log, stderr=log)

        before: Found = {}
        for stop in moments.sample(STOPS, len(STOPS)):
            call = begin()
            part = moved_on(call, moments)
            before = in_folder(results)
            assert not lost(before, in_folder(results))
            if stop == "its part is killed":
                part.kill()
                part.wait()
                call.send_signal(signal.SIGTERM)  # it is at the next part, or about to be
            else:
                call.send_signal(signal.SIGTERM if stop == "the call is told to end" else signal.SIGKILL)
            call.wait()
            psutil.wait_procs([part], timeout=60)
            assert not part.is_running(), stop
            assert not lost(before, in_folder(results)), stop
            if stop != "the call is killed":  # then the archive is up to a quarter of a minute old
                assert not lost(before, in_archive(out / "results.tar.gz")), stop
                assert (out / "report.md").exists(), stop
        assert begin().wait() == 0, (tmp_path / "log").read_text()[-2000:]
    states = json.loads((results / "parts.json").read_text())
    assert {part["state"] for part in states.values()} == {"done"}
    archived = in_archive(out / "results.tar.gz")
    assert not lost(before, archived)
    assert all(finished for finished, _ in archived.values())
    assert {path.name for path in out.iterdir()} == {"results.tar.gz", "report.md"}


def moved_on(call: subprocess.Popen[bytes], moments: random.Random) -> psutil.Process:
    """A part of the call, a random time after the call was begun."""
    time.sleep(moments.uniform(FIRST, LAST))
    for _ in range(600):
        if parts := psutil.Process(call.pid).children():
            return parts[0]
        time.sleep(0.1)
    raise AssertionError(f"no part runs; the call: {call.poll()}, {os.getpid()}")
