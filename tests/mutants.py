"""Mutants of files, and what a reader says to each: in a process of its own, watched for time and
memory.

A mutant is a valid file with a few bytes changed, also inside what is packed in it: the bytes are
unpacked, changed and packed again, so that no checksum stops the reader before it gets to them.
"""

from __future__ import annotations

import datetime
import gzip
import importlib.metadata
import io
import multiprocessing
import platform
import random
import re
import resource
import subprocess
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from datasets.errors import DataError
from datasets.raw.base import BrokenFile
from harness.errors import UsageError

NAMED = (DataError, BrokenFile, UsageError)
UNFORESEEN = "cannot be read ("
"""How a preparation names a file whose reader raised what nobody thought of."""
LIMIT_SECONDS, LIMIT_BYTES = 10.0, 10**9
_STUBBORN = 6 * 10**9  # what a reader may ask the system for before it is told no
_NUMBERS = re.compile(rb"-?\d+(\.\d+)?(e-?\d+)?")
_ODD_NUMBERS = (
    b"-1",
    b"0",
    b"1e999",
    b"nan",
    b"99999999999999999999",
    b"1e-320",
    b"-0",
    b"inf",
    b"0x1f",
    b"",
)

Read = Callable[[Path], str | None]
"""Reads a folder; what it says of problems that it went on after,
empty or None when there were none.
"""


# --- changing bytes ---


def mutants(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """``count`` changed versions of a file, half of them changed inside what is packed in it,
    if anything is.
    """
    rng = random.Random(seed)
    for number in range(count):
        yield inside(data, rng) if number % 2 else changed(data, rng)


def changed(data: bytes, rng: random.Random) -> bytes:
    """One to four changes of some bytes."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(made)) if made else 0
        match rng.randrange(8):
            case 0:
                made[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                made[place : place + 1] = bytes(
                    [(made[place] if made else 0) ^ (1 << rng.randrange(8))]
                )
            case 2:
                del made[place:]
            case 3:
                del made[place : place + rng.randint(1, 64)]
            case 4:
                made[place:place] = rng.randbytes(rng.randint(1, 64))
            case 5:
                made[place : place + 4] = rng.choice(
                    (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f")
                )
            case 6:
                start = rng.randrange(len(made)) if made else 0
                made[place:place] = made[start : start + rng.randint(1, 256)]
            case 7:
                found = list(_NUMBERS.finditer(made, 0, min(len(made), 100_000)))
                if found:
                    one = rng.choice(found)
                    made[one.start() : one.end()] = rng.choice(_ODD_NUMBERS)
    return bytes(made)


def inside(data: bytes, rng: random.Random) -> bytes:
    """Changed inside: a member of a zip, a packed part of a ``.mat``, a stream of gzip;
    outside where nothing is.
    """
    if data.startswith(b"PK\x03\x04"):
        return _inside_zip(data, rng)
    if data.startswith(b"\x1f\x8b"):
        return gzip.compress(changed(gzip.decompress(data), rng))
    if data.startswith(b"MATLAB 5.0"):
        with suppress(zlib.error):
            packed = zlib.compress(changed(zlib.decompress(data[136:]), rng))
            return data[:132] + len(packed).to_bytes(4, "little") + packed
    return changed(data, rng)


def _inside_zip(data: bytes, rng: random.Random) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        chosen = rng.randrange(len(source.infolist()))
        for place, info in enumerate(source.infolist()):
            content = source.read(info)
            target.writestr(
                info, changed(content, rng) if place == chosen else content, info.compress_type
            )
    return made.getvalue()


# --- what is kept of it ---

HEAD = """# What readers make of damaged files

    MUTANTS_TABLE=benchmarks/results/mutants/table.md python -m pytest tests/test_mutants.py -m long

Each row is written by the test of its reader: valid files with a few bytes changed, every other one inside what is
packed in it. *read*: as valid content, *named*: refused in a line that names the file; the others should be 0 (a
*crash* of SciPy's reader costs a reading process and one file). A reading is a hang from {limit:g} s on; *MB* is what
the reading process took on top of what it began with, and too much from {most:,.0f} MB in all.

"""  # noqa: E501
KINDS = ("read", "named", "unforeseen", "traceback", "crash", "hang", "memory")


def write_row(table: Path, reader: str, found: Outcomes) -> None:
    """Put a reader's counts in place of its last ones."""
    versions = {
        name: importlib.metadata.version(name) for name in ("numpy", "scipy", "pandas", "torch")
    }
    describe = ["git", "describe", "--always", "--dirty=+", "--abbrev=12"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False)
    cells = {
        "reader": reader,
        "mutants": str(sum(found.counts[kind] for kind in KINDS if kind != "memory")),
        **{kind: str(found.counts[kind]) for kind in KINDS},
        "longest s": f"{found.seconds:.2f}",
        "MB": f"{found.megabytes:,.0f}",
        "date": str(datetime.date.today()),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        **versions,
        "system": f"{platform.system()} {platform.machine()}",
    }
    lines = table.read_text(encoding="utf-8").splitlines() if table.exists() else []
    kept = [
        line
        for line in lines
        if line.startswith("| ") and line.split("|")[1].strip() not in ("reader", reader)
    ]
    rows = sorted([*kept, f"| {' | '.join(cells.values())} |"])
    head = HEAD.format(limit=LIMIT_SECONDS, most=LIMIT_BYTES / 1e6)
    table.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join([f"| {' | '.join(cells)} |", "|" + "---|" * len(cells), *rows])
    table.write_text(f"{head}{text}\n", encoding="utf-8")


# --- watching a reader ---


@dataclass
class Outcomes:
    """What a reader made of its mutants.

    Attributes:
        counts: read, named, unforeseen, traceback, crash, hang or memory -> mutants.
        worst: the same without the first two -> the first mutant's number and what happened.
        seconds, megabytes: the longest reading, and the most memory that the process took for it.
    """

    counts: Counter[str] = field(default_factory=Counter)
    worst: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    megabytes: float = 0.0

    def note(self, kind: str, number: int, text: str) -> None:
        """Count a mutant."""
        self.counts[kind] += 1
        if kind not in ("read", "named"):
            self.worst.setdefault(kind, f"mutant {number}: {text}")

    def __str__(self) -> str:
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))
        return f"{counts}; at most {self.seconds:.1f} s, {self.megabytes:,.0f} MB"


def watch(
    make: Callable[[Path], object], read: Read, folder: Path, count: int, seed: int = 0
) -> Outcomes:
    """Read mutants of every file that ``make`` leaves in a folder, ``count`` in all, one file
    changed at a time.

    Args:
        make, read: functions of a module, which a new process can import.
        folder: empty.
    """
    make(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    whole = {path: path.read_bytes() for path in files}
    shares = [count // len(files) + (place < count % len(files)) for place in range(len(files))]
    outcomes, reader = Outcomes(), _Reader(read, folder)
    number = 0
    for path, share in zip(files, shares, strict=True):
        for mutant in mutants(whole[path], share, seed + number):
            path.write_bytes(mutant)
            reader.judge(number, outcomes)
            number += 1
        path.write_bytes(whole[path])
    reader.end()
    return outcomes


class _Reader:
    """A process that reads when told to; a new one after each that died or hung."""

    def __init__(self, read: Read, folder: Path) -> None:
        self.read, self.folder = read, folder
        self.process: multiprocessing.process.BaseProcess | None = None

    def judge(self, number: int, outcomes: Outcomes) -> None:
        """Have the folder read as it is now, and note what came of it."""
        connection = self._connection()
        connection.send(None)
        began = time.perf_counter()
        try:
            if not connection.poll(LIMIT_SECONDS):
                self.end()
                outcomes.note("hang", number, f"over {LIMIT_SECONDS} s")
                return
            kind, text, memory, before = connection.recv()
        except (EOFError, ConnectionError):
            assert self.process is not None
            self.process.join()
            outcomes.note("crash", number, f"exit code {self.process.exitcode}")
            self.end()
            return
        outcomes.seconds = max(outcomes.seconds, time.perf_counter() - began)
        outcomes.megabytes = max(outcomes.megabytes, (memory - before) / 1e6)
        outcomes.note(kind, number, text)
        if memory > LIMIT_BYTES:
            outcomes.note("memory", number, f"{memory:,} bytes ({text})")
            self.end()

    def _connection(self) -> Connection:
        if self.process is None:
            spawn = multiprocessing.get_context("spawn")
            self.connection, theirs = spawn.Pipe()
            self.process = spawn.Process(
                target=_serve, args=(theirs, self.read, self.folder), daemon=True
            )
            self.process.start()
            theirs.close()
            self.connection.recv()  # it has imported everything
        return self.connection

    def end(self) -> None:
        """Stop the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None


def _serve(connection: Connection, read: Read, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_STUBBORN, _STUBBORN))
    warnings.simplefilter("error", RuntimeWarning)  # a line of a library is no answer either
    before = _peak()
    connection.send("ready")
    while True:
        connection.recv()
        kind, text = "read", ""
        try:
            if text := read(folder) or "":
                kind = "unforeseen" if UNFORESEEN in text else "named"
        except NAMED as error:
            kind, text = "named", str(error)
            if "\n" in text or not text:
                kind = "traceback"  # not one line
        except BaseException:  # noqa: BLE001 - that there is none is what is tried
            kind, text = "traceback", traceback.format_exc()
        connection.send((kind, text, _peak(), before))


def _peak() -> int:
    """Bytes of memory that this process had at most."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells is the parent's, where that was more
        peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if peak:
            return 1024 * int(peak[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
