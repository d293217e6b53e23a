"""From a raw download to a store: units read in worker processes, part by part, so that a killed
run goes on.

Parts lie in a hidden folder beside the store until all are there. Each is written whole or not at
all, and the same units give the same part, so a preparation that was killed at any moment and
started again ends in the very store that an undisturbed one makes. One part per worker is in memory
at a time, whatever the size of the data set.
"""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.files import atomic_file
from datasets.formats import store_writing
from datasets.formats.archive import Archive, open_archive
from datasets.formats.kinds import kind_of
from datasets.formats.store import FIRST_FORMAT, Header, is_store, open_store, read_header
from datasets.formats.store_writing import StorePart, write_store
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Source, Unit
from datasets.wording import listed, one_line

VERSION = 1
"""Of the preparation: raised when the same readings would give other clips,
counts or problems than before.
"""
_PLAN = "plan.txt"
_MOST_WORKERS = 16
"""A worker takes some 80 MB: so many stay well under 2 GB."""
_LISTED_PROBLEMS = 1_000
"""Problems that a store keeps in words; all are counted."""
_BROKEN, _LEFT_OUT = "broken files, skipped", "left out, see the problems"
_UNREADABLE = frozenset({errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.ELOOP})
"""What makes a file itself unreadable; other errors of the system end the preparation,
which goes on later.
"""
_KEPT = "clips kept"

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """A store.

    Attributes:
        fresh: this call made it, otherwise it found it made.
        note: what to know of a store that was found; empty when there is nothing.
    """

    folder: Path
    header: Header
    fresh: bool
    note: str = ""


def prepare(
    source: Source,
    name: str,
    folder: Path,
    *,
    workers: int | None = None,
    strict: bool = False,
    advance: Advance = lambda done, total: None,
) -> Prepared:
    """Read all units of a source and leave a store.

    Args:
        name: of the data set.
        folder: the store's place; nothing else may stand there.
        workers: processes; by default one per processor, at most `_MOST_WORKERS`.
        strict: a broken file is an error; otherwise it is named, counted and skipped.
        advance: told of parts done and parts in all.

    Raises:
        DataError: there is nothing to read, another store stands there, a file is broken (strict),
            nothing could be kept, a worker was killed, or the disk is full. What was read is kept
            for the next call.
    """
    folder = folder.resolve()
    with _alone(folder):
        return _prepare(source, name, folder, workers or default_workers(), strict, advance)


def _prepare(
    source: Source, name: str, folder: Path, workers: int, strict: bool, advance: Advance
) -> Prepared:
    work = folder.parent / f".{folder.name}.partial"
    try:
        found = source.find()
        plan = plan_of(source, name, found)
    except OSError as error:
        raise DataError(
            f"{error.filename or source.raw}: {one_line(error.strerror or error)}; check the path"
        ) from None
    if is_store(folder):
        header, note = _same_store(folder, source, name, found, plan, strict)
        shutil.rmtree(work, ignore_errors=True)
        return Prepared(folder, header, fresh=False, note=note)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: expected a place for the store, found something else there; choose another"
            " --out"
        )
    try:
        _open_work(work, f"{plan}{' strict' * strict}")
        chunks = [
            found.units[first : first + source.chunk]
            for first in range(0, len(found.units), source.chunk)
        ]
        paths = [work / f"part-{plan}-{number:06}.npz" for number in range(len(chunks))]
        _read_missing(source, chunks, paths, workers, strict, advance)
        header = _assemble(source, name, plan, found, paths, work / "store")
        os.rename(work / "store", folder)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: {one_line(error.strerror or error)}; what was read is"
            " kept, the same command goes on from there"
        ) from error
    shutil.rmtree(work, ignore_errors=True)
    return Prepared(folder, header, fresh=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second preparation of the same store out until the block ends;
    a killed one lets go by itself.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(
            f"{folder}: another preparation of this store is running; wait for it"
        ) from None
    try:
        yield
    finally:
        lock.release()


def default_workers() -> int:
    """One per processor that this process may use, within `_MOST_WORKERS`."""
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return min(usable, _MOST_WORKERS)


def _made_by(source: Source) -> dict[str, int]:
    """The versions of the code that makes the store."""
    return {
        type(source).__qualname__: source.version,
        "preparation": VERSION,
        "store": store_writing.VERSION,
    }


def plan_of(source: Source, name: str, found: Found) -> str:
    """Hash of what the store follows from: units with size and time,
    facts of the data set, versions of the code.
    """
    facts = {
        "name": name,
        "made_by": _made_by(source),
        "chunk": source.chunk,
        "bodies": source.bodies,
        "fps": source.fps,
        "joints": source.layout.joints,
        "parents": source.layout.parents,
        "classes": list(source.class_names),
        "splits": dict(source.splits),
        "default_split": source.default_split,
        "counts": list(found.counts.values()),
    }
    digest = hashlib.sha256(json.dumps(facts).encode())
    stamps = {path: _stamp(path) for path in {unit.path for unit in found.units}}
    for unit in found.units:
        digest.update(
            f"\n{unit.name} {unit.part} {stamps[unit.path]}".encode("utf-8", "backslashreplace")
        )
    return digest.hexdigest()[:16]


def _stamp(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:  # a dead link, say: reading it will name it
        return "unreadable"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _same_store(
    folder: Path, source: Source, name: str, found: Found, plan: str, strict: bool
) -> tuple[Header, str]:
    """The header of a store that this preparation would make again, and what to know of it."""
    try:
        header = read_header(folder)
        open_store(folder)
    except DataError as error:
        raise DataError(f"{error}: remove {folder}, then the same command makes it anew") from None
    note = ""
    if header.version == FIRST_FORMAT:
        note = _first_format(folder, header, source, name, found)
    elif header.made_by != _made_by(source):
        ours = listed(f"{part} {version}" for part, version in _made_by(source).items())
        theirs = listed(f"{part} {version}" for part, version in header.made_by.items())
        raise DataError(
            f"{folder} holds a store that other versions made: expected {ours}, found {theirs};"
            " remove it or choose another --out"
        )
    elif header.plan != plan:
        raise DataError(
            f"{folder} holds a store of other raw files; remove it or choose another --out"
        )
    if strict and header.problems:
        raise DataError(
            f"{header.problems[0]}; the store in {folder} was made without --strict; remove it"
        )
    return header, note


def _first_format(folder: Path, header: Header, source: Source, name: str, found: Found) -> str:
    """What to know of a store of format 1, whose plan was a hash of code that is no longer there.

    What can be compared is: the data set, its joints and classes, and how many files were found,
    the first count.
    """
    here = [name, source.layout.joints, tuple(source.class_names), *list(found.counts.values())[:1]]
    there = [header.name, header.joint_names, header.class_names, *list(header.counts.values())[:1]]
    if here != there:
        raise DataError(
            f"{folder} holds a store of other raw files; remove it or choose another --out"
        )
    return (
        "made by an earlier version of this suite and kept: data set, joints, classes and number"
        f" of files are the same, whether files changed since cannot be told; remove {folder} to"
        " prepare it again"
    )


def _open_work(work: Path, plan: str) -> None:
    """The folder of parts: what a killed run left there is used
    when it had the same plan, otherwise cleared.
    """
    noted = work / _PLAN
    if work.exists() and not (noted.exists() and noted.read_text(encoding="utf-8") == plan):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work / "store", ignore_errors=True)
    for temporary in work.glob(".*.tmp"):
        temporary.unlink(missing_ok=True)
    with atomic_file(noted) as file:
        file.write(plan.encode())


# --- reading ---


def _read_missing(
    source: Source,
    chunks: Sequence[Sequence[Unit]],
    paths: Sequence[Path],
    workers: int,
    strict: bool,
    advance: Advance,
) -> None:
    todo = [(chunk, path) for chunk, path in zip(chunks, paths, strict=True) if not path.exists()]
    done = len(paths) - len(todo)
    advance(done, len(paths))
    while todo:
        spawn = multiprocessing.get_context("spawn")
        with _stops_wait():
            pool = ProcessPoolExecutor(
                min(workers, len(todo)), spawn, _start_worker, (os.getpid(), source)
            )
        with _stops_wait():  # starting a process lets signals through again
            futures = [pool.submit(_read_in_worker, chunk, path, strict) for chunk, path in todo]
        try:
            for future in as_completed(futures):
                future.result()
                done += 1
                advance(done, len(paths))
        except BrokenProcessPool:
            pool.shutdown(wait=True, cancel_futures=True)
            _read_suspects(source, todo, strict)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        todo = [(chunk, path) for chunk, path in todo if not path.exists()]
        done = len(paths) - len(todo)
        advance(done, len(paths))


@contextmanager
def _stops_wait() -> Iterator[None]:
    """Ctrl-C and a closed terminal, which come to all its processes, come after the block and never
    to those it starts.

    These would complain, one of Python's own that keeps track of the others too; the parent waits
    for them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_SOURCE: list[Source] = []
"""In a worker: what it reads from, handed over once."""


def _read_in_worker(units: Sequence[Unit], path: Path, strict: bool) -> None:
    with _marked(path) as at:
        read_part(_SOURCE[0], units, path, strict, at=at)


# --- a reading process that died ---

_FROM_OUTSIDE = (
    frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT})
    if os.name == "posix"
    else frozenset[int]()
)
"""Signals of a system that ran out of memory, or of a person; a file sets off others."""


@contextmanager
def _marked(path: Path) -> Iterator[Callable[[int], None]]:
    """While a part is read, a file beside it says which unit the reader is at;
    it stays when the process dies.
    """
    marker = _marker(path)
    with marker.open("wb", buffering=0) as file:

        def at(place: int) -> None:
            file.seek(0)
            file.write(place.to_bytes(8, "little"))

        at(0)
        yield at
    marker.unlink(missing_ok=True)


def _marker(path: Path) -> Path:
    return path.with_name(f".{path.name}.at.tmp")


def _read_suspects(
    source: Source, todo: Sequence[tuple[Sequence[Unit], Path]], strict: bool
) -> None:
    """Read the parts that were being read when a process died, one by one,
    so that a file costs only itself.
    """
    suspects = [(units, path) for units, path in todo if _marker(path).exists()]
    if not suspects:
        raise DataError(
            "a reading process could not start, or was killed; the same command goes on from here"
        )
    for units, path in suspects:
        killers: dict[str, str] = {}
        while not path.exists():
            if code := _read_alone(source, units, path, strict, killers):
                unit = units[int.from_bytes(_marker(path).read_bytes(), "little")]
                if -code in _FROM_OUTSIDE or unit.name in killers:
                    raise DataError(
                        f"{unit.path}: a reading process was killed over it (out of memory?); the"
                        " same command goes on, or leave the file out"
                    )
                killers[unit.name] = f"a reading process died of it, {_death(code)}"
        _marker(path).unlink(missing_ok=True)


def _read_alone(
    source: Source, units: Sequence[Unit], path: Path, strict: bool, killers: Mapping[str, str]
) -> int:
    """Read a part in a process of its own; 0 when it is there, otherwise the exit code,
    negative for a signal.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    arguments = (os.getpid(), source, units, path, strict, killers, sender)
    process = spawn.Process(target=_read_and_tell, args=arguments, daemon=True)
    process.start()
    sender.close()
    process.join()
    if process.exitcode == 0 and not path.exists():
        raise receiver.recv()
    return process.exitcode or 0


def _read_and_tell(
    parent: int,
    source: Source,
    units: Sequence[Unit],
    path: Path,
    strict: bool,
    killers: Mapping[str, str],
    sender: Connection,
) -> None:
    """In a process of its own: read a part; what it raises is sent."""
    _start_worker(parent, source)
    try:
        with _marked(path) as at:
            read_part(source, units, path, strict, at=at, killers=killers)
    except (DataError, OSError) as error:
        sender.send(error)


def _death(code: int) -> str:
    """What an exit code says."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def _start_worker(parent: int, source: Source) -> None:
    """Take the source, and end when the parent is gone, which a killed one cannot see to."""
    _SOURCE[:] = [source]

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def read_part(
    source: Source,
    units: Sequence[Unit],
    path: Path,
    strict: bool,
    *,
    at: Callable[[int], None] = lambda place: None,
    killers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Read some units and write their clips as one part file. Raises `DataError` for a broken one
    when strict.

    Args:
        at: told of the place of every unit before it is read.
        killers: units that are not to be read, because a process died of them, and how.
    """
    reading = Reading()
    for place, unit in enumerate(units):
        if unit.name in killers:
            _broken(reading, f"{unit.path}: cannot be read ({killers[unit.name]})", strict)
            continue
        at(place)
        try:
            with np.errstate(
                over="ignore", invalid="ignore"
            ):  # absurd numbers are judged below, not warned of
                found = source.read(unit)
        except BrokenFile as problem:
            _broken(reading, f"{problem}{_told(unit.path)}", strict)
            continue
        except OSError as problem:
            if (
                problem.errno not in _UNREADABLE
            ):  # a full table of files, a network that is gone: not the file's fault
                raise
            _broken(reading, f"{unit.path}: cannot be read ({one_line(problem.strerror)})", strict)
            continue
        except MemoryError:
            raise DataError(
                f"{unit.path}: not enough memory to read it; try --workers 1, or leave it out"
            ) from None
        except Exception as problem:  # noqa: BLE001 - whatever a hostile file sets off, the others are read
            what = f"{type(problem).__name__}: {one_line(problem)}"
            _broken(reading, f"{unit.path}: cannot be read ({what}){_told(unit.path)}", strict)
            continue
        reading.counts.update(found.counts)
        for problem_found in found.problems:
            _left_out(reading, problem_found, strict)
        for clip in found.clips:
            _keep(reading, source, clip, unit, strict)
    try:
        _write_part(path, source, reading)
    except MemoryError:
        raise DataError(
            f"{units[0].path}: not enough memory for its clips and the next {len(units) - 1}"
        ) from None


def _told(path: Path) -> str:
    """What a broken file really is, where its first bytes tell that it is no data at all."""
    try:
        kind = kind_of(path)
    except OSError:
        return ""
    return f"; it is {kind.name}: {kind.step}" if kind and kind.no_data else ""


def _broken(reading: Reading, problem: str, strict: bool) -> None:
    if strict:
        raise DataError(f"{problem}; without --strict such files are skipped and counted")
    reading.problems.append(_writable(problem))
    reading.counts[_BROKEN] += 1


def _left_out(reading: Reading, problem: str, strict: bool) -> None:
    if strict:
        raise DataError(f"{problem}; without --strict such clips are left out and counted")
    reading.problems.append(_writable(problem))
    reading.counts[_LEFT_OUT] += 1


def _writable(text: str) -> str:
    """One line without what a file name may hold and no file can be written with."""
    return one_line(text).encode("utf-8", "backslashreplace").decode()


def _keep(reading: Reading, source: Source, clip: RawClip, unit: Unit, strict: bool) -> None:
    """Add a clip if it is fit for a store; otherwise it is a problem in words."""
    joints, problem = clip.joints, ""
    joints_match = joints.ndim == 4 and joints.shape[2:] == (source.layout.joint_count, 3)
    if not (joints_match and joints.shape[1] <= source.bodies):
        wanted = f"[T, up to {source.bodies}, {source.layout.joint_count}, 3]"
        problem = f"expected joints {wanted}, found {list(joints.shape)}"
    elif not np.isfinite(joints).all():
        problem = "coordinates that are no finite numbers"
    elif not joints.any():
        problem = "no body in any frame"
    if problem:
        _left_out(reading, f"{unit.path}: {clip.columns['names']}: {problem}", strict)
    else:
        reading.clips.append(clip)
        reading.counts[_KEPT] += 1


def _write_part(path: Path, source: Source, reading: Reading) -> None:
    """Write the clips, counts and problems of some units, whole or not at all."""
    clips = reading.clips
    arrays: dict[str, NDArray] = {
        "lengths": np.array([len(clip.joints) for clip in clips], np.int64),
        "joints": np.zeros(
            (sum(len(clip.joints) for clip in clips), *_frame_shape(source)), np.float32
        ),
    }
    first = 0
    for clip in clips:
        frames, bodies = clip.joints.shape[:2]
        arrays["joints"][first : first + frames, :bodies] = clip.joints
        first += frames
    for column in clips[0].columns if clips else ():
        arrays[f"column {column}"] = np.array([clip.columns[column] for clip in clips])
    report = json.dumps({"counts": dict(reading.counts), "problems": reading.problems})
    arrays["report"] = np.frombuffer(report.encode(), np.uint8)
    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _frame_shape(source: Source) -> tuple[int, int, int]:
    """[M, V, 3] of a frame."""
    return source.bodies, source.layout.joint_count, 3


# --- assembling ---


def _assemble(
    source: Source, name: str, plan: str, found: Found, paths: Sequence[Path], folder: Path
) -> Header:
    counts, problems, frames = Counter[str](), list[str](), 0
    for path in paths:
        with _part(path) as archive:
            report = json.loads(archive.read("report").tobytes())
            frames += archive.members["joints"].shape[0]
        counts.update(report["counts"])
        problems += report["problems"]
    if not counts[_KEPT]:
        raise DataError(
            f"{source.raw}: no clip could be kept; the first problem: {(problems or ['none'])[0]}"
        )
    kept = counts.pop(_KEPT)
    found_counts = {_writable(stage): count for stage, count in found.counts.items()}
    folder.mkdir()
    return write_store(
        folder,
        _parts(paths),
        (frames, *_frame_shape(source)),
        name=name,
        title=_writable(source.title),
        plan=plan,
        made_by=_made_by(source),
        joint_names=source.layout.joints,
        parents=source.layout.parents,
        class_names=tuple(source.class_names),
        fps=source.fps,
        default_split=source.default_split,
        splits=dict(source.splits),
        expected=dict(source.expected),
        counts={**found_counts, **dict(sorted(counts.items())), _KEPT: kept},
        problems=tuple(problems[:_LISTED_PROBLEMS]),
    )


@contextmanager
def _part(path: Path) -> Iterator[Archive]:
    """A part, opened; a damaged one is removed, so that the next call reads its units again."""
    try:
        with open_archive(path) as archive:
            yield archive
    except DataError as error:
        path.unlink(missing_ok=True)
        raise DataError(f"{error}; removed, the same command reads it again") from None


def _parts(paths: Sequence[Path]) -> Iterator[StorePart]:
    for path in paths:
        with _part(path) as archive:
            lengths = archive.read("lengths")
            if not len(lengths):
                continue
            columns: Mapping[str, Any] = {
                key.removeprefix("column "): archive.read(key)
                for key in archive.members
                if key.startswith("column ")
            }
            yield StorePart(
                archive.read("joints", archive.members["joints"].nbytes), lengths, columns
            )
