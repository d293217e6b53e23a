"""`benchmarks/gpu.py --rehearse`, all of it: stopped at three random moments, it loses nothing that
was measured.

    mkdir -p runs && python -m pytest -m long tests/test_gpu_rehearsal.py --basetemp runs/rehearsal

What the calls print and what there was at every stop is left in ``log.txt`` of the test's folder.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[1]
TOLD, KILLED, PART_KILLED = (
    "the call is sent SIGTERM",
    "the call is killed",
    "its part is killed, then it is sent SIGTERM",
)
LONGEST = 20.0
"""Seconds, at most, between something new that was measured and the stop."""

Found = dict[str, tuple[bool, int]]
"""Of everything measured: whether it is finished, and how much of it there is."""


def counted(name: str, content: bytes) -> tuple[str, tuple[bool, int]] | None:
    """What a file holds of a part: rounds of a measurement, methods whose losses were compared,
    a run.
    """
    part, file = name.partition("/")[0].partition(".")[0], Path(name).name
    record: dict[str, Any] = json.loads(content)
    if file.startswith("speed"):
        return f"{part}, rounds of {record['address']}", (
            file == "speed.json",
            record["same"]["pairs"],
        )
    if file == "losses.json":
        return f"{part}, methods", (len(record["methods"]) > 8, len(record["methods"]))
    if file == "record.json":
        return f"{part}, {record['address']}", (record["status"] == "ok", 1)
    return None


def measured(files: Mapping[str, bytes]) -> Found:
    """The most that any file holds, by what it is of."""
    found: Found = {}
    for name, content in files.items():
        if one := counted(name, content):
            found[one[0]] = max(found.get(one[0], one[1]), one[1])
    return found


def in_folder(results: Path) -> Found:
    files = {}
    for path in results.rglob("[!.]*.json"):
        with contextlib.suppress(FileNotFoundError):  # a measurement that has just been finished
            files[str(path.relative_to(results))] = path.read_bytes()
    return measured(files)


def in_archive(path: Path) -> Found:
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        names = [name for name in archive.getnames() if name.endswith(".json")]
        return measured({name: archive.extractfile(name).read() for name in names})  # type: ignore[union-attr]


def lost(before: Found, after: Found) -> list[str]:
    """What was measured and is not there any more, or less of it."""
    return [name for name, found in before.items() if after.get(name, (False, -1)) < found]


def in_words(found: Found) -> str:
    said = [f"{count} {name}" + " (stopped)" * (not done) for name, (done, count) in found.items()]
    return "; ".join(said) or "nothing yet"


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="a part ends with its call on Linux alone")
def test_stopped_at_three_random_moments_nothing_measured_is_lost(tmp_path: Path) -> None:
    out, results, moments = tmp_path / "out", tmp_path / "work" / "results", random.Random()
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "gpu.py"),
        "--rehearse",
        "--seconds",
        "3600",
    ]
    command += ["--out", str(out), "--work", str(tmp_path / "work")]
    ever: Found = {}
    with (tmp_path / "log.txt").open("w") as log:

        def say(text: str) -> None:
            log.write(f"-- {time.strftime('%H:%M:%S', time.gmtime())} {text}\n")
            log.flush()

        for stop in moments.sample([TOLD, KILLED, PART_KILLED], 3):
            began, call = time.monotonic(), subprocess.Popen(command, stdout=log, stderr=log)
            while call.poll() is None and not lost(in_folder(results), ever):
                time.sleep(0.2)
            time.sleep(moments.uniform(0, LONGEST))
            part, ever = part_of(call), ever | in_folder(results)
            seconds = time.monotonic() - began
            say(f"{seconds:.1f} s after its begin {stop}; measured by then: {in_words(ever)}")
            if stop == PART_KILLED:
                part.kill()
            call.send_signal(signal.SIGKILL if stop == KILLED else signal.SIGTERM)
            call.wait()
            psutil.wait_procs([part], timeout=60)
            assert not part.is_running()
            say(f"left in the folder: {in_words(in_folder(results))}")
            say(f"left in the archive: {in_words(in_archive(out / 'results.tar.gz'))}")
            assert not lost(ever, in_folder(results)), stop
            if stop != KILLED:  # else its archive is up to a quarter of a minute old
                assert not lost(ever, in_archive(out / "results.tar.gz")), stop
                assert (out / "report.md").exists(), stop
        ended = subprocess.run(command, check=False, stdout=log, stderr=log)
        archived = in_archive(out / "results.tar.gz")
        say(f"in the archive at the end: {in_words(archived)}")
    assert ended.returncode == 0, (tmp_path / "log.txt").read_text()[-2000:]
    assert {
        part["state"] for part in json.loads((results / "parts.json").read_text()).values()
    } == {"done"}
    assert not lost(ever, archived)
    assert all(finished for finished, _ in archived.values())
    assert {path.name for path in out.iterdir()} == {"results.tar.gz", "report.md"}


def part_of(call: subprocess.Popen[bytes]) -> psutil.Process:
    """The part that a call is at; between two there is none for a moment."""
    for _ in range(600):
        with contextlib.suppress(psutil.NoSuchProcess):
            if parts := psutil.Process(call.pid).children():
                return parts[0]
        time.sleep(0.05)
    raise AssertionError(f"no part runs; exit code of the call: {call.poll()}")
