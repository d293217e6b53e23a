"""Output folders joined into one: every run and every measurement once, conflicts named, nothing
half-written.

Each record is read as any reader of its folder reads it; what is refused there is left out here. Of
several records of one run a finished one counts before an unfinished one, then the first: that of
the folder that is joined into, where it exists already, then those of the folders in their order.
The folders are only read.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from glob import escape
from pathlib import Path

from datasets.formats.store_check import Advance
from harness.errors import UsageError
from harness.isolation.stopping import held
from harness.records.claims import Claims
from harness.records.evaluations import EvaluationRecord, Evaluations, belongs
from harness.records.pictures import pictures_file
from harness.records.schema import FINISHED, Accuracy, RunRecord, SpeedRecord
from harness.records.store import (
    CLAIM_FILE,
    ENCODER_FILE,
    EVALUATIONS,
    MATRIX_FILE,
    METRICS_FILE,
    PICTURES_FILE,
    RECORD_FILE,
    SPEED_FILE,
    START_FILE,
    STATE_NAME,
    TABLE_FILE,
    WEIGHT_FILES,
    Records,
    RecordStore,
    Refusal,
    odd,
    read_matrix,
    remove_dead,
    set_aside,
    speed_address,
    temporary_name,
    write_atomically,
)
from harness.spec.model import ADDRESS_RULE

_LOGS = (METRICS_FILE, PICTURES_FILE, "events.out.tfevents.*")
"""What a run wrote down on its way, and of what it saw: it goes with the record."""
_OF_A_RUN = (RECORD_FILE, *WEIGHT_FILES)
_STATES = (START_FILE, "state-*.safetensors", "state-*.json")
"""What a run that is not finished goes on from;
a state's JSON makes its tensors count and comes last.
"""


class _JoinedFolder:
    """A folder that is joined."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store, self.done = folder, RecordStore(folder), Evaluations(folder)

    @cached_property
    def evaluations(self) -> dict[str, list[str]]:
        """Addresses of evaluations by their runs."""
        found: dict[str, list[str]] = {}
        for run, address in self.done.addresses():
            found.setdefault(run, []).append(address)
        return found


@dataclass(frozen=True)
class _Found:
    """A run in one of the folders: its record,
    or what a process left that was killed before it wrote one.
    """

    joined: _JoinedFolder
    address: str
    record: RunRecord | None

    @property
    def folder(self) -> Path:
        """The one of the folders."""
        return self.joined.folder

    @property
    def place(self) -> Path:
        """Where its files are."""
        return self.folder / self.address

    @property
    def finished(self) -> bool:
        """There is nothing left to run."""
        return self.record is not None and self.record.status in FINISHED

    @property
    def steps(self) -> int:
        """How far its last state has come; 0 where it was only started,
        -1 where there is nothing to go on from.
        """
        names = [STATE_NAME.fullmatch(path.stem) for path in self.place.glob("state-*.json")]
        states = [int(name[1]) for name in names if name]
        return max([*states, *([0] if (self.place / START_FILE).exists() else [])], default=-1)


@dataclass
class Merge:
    """What the joined folder is going to hold.

    Attributes:
        copies: files to copy, by where they go, or what comes there; of a run, the record comes
            last.
        matrix: what was asked of any of them, for `harness status`.
        gone: files of the folder joined into that are superseded.
        refused: what was left out, by folder.
        conflicts: a line for every record that says something else than the one that is kept.
        notes: what else there is to say, a line each.
        same: how many finished records say what a kept one says.
        overtaken: how many unfinished runs are finished in another folder.
    """

    out: Path
    copies: dict[Path, Path | bytes] = field(default_factory=dict)
    matrix: dict[str, tuple[str, int]] = field(default_factory=dict)
    gone: list[Path] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)
    speeds: list[SpeedRecord] = field(default_factory=list)
    refused: dict[Path, list[Refusal]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    same: int = 0
    overtaken: int = 0

    @property
    def records(self) -> Records:
        """As a reader of the joined folder will find them."""
        refused = [
            refusal for refusal in self.refused.get(self.out, []) if refusal.path not in self.copies
        ]
        runs = sorted(self.runs, key=lambda record: record.address)
        return Records(runs, sorted(self.speeds, key=lambda record: record.address), refused)


def plan_merge(folders: Sequence[Path], out: Path) -> Merge:
    """Read all folders and decide what comes into ``out``; nothing is written.
    A `UsageError` where that cannot be.
    """
    _check_folders(folders, out)
    every = [_JoinedFolder(folder) for folder in [*([out] if out.exists() else []), *folders]]
    merge = Merge(out)
    for joined in reversed(every):
        merge.matrix |= read_matrix(joined.folder)
    runs: dict[str, list[_Found]] = {}
    speeds: dict[str, list[tuple[RecordStore, SpeedRecord]]] = {}
    for joined in every:
        store = joined.store
        for record in list(store.runs()):
            if _consistent(record, store):
                runs.setdefault(record.spec.address, []).append(
                    _Found(joined, record.address, record)
                )
        for measurement in list(store.speeds()):
            if _consistent(measurement, store):
                speeds.setdefault(measurement.address, []).append((store, measurement))
        for found in _begun(joined):
            runs.setdefault(found.address, []).append(found)
        merge.refused[store.root] = list(store.refused.values())
    if not (runs or speeds):
        names = ", ".join(str(joined.folder) for joined in every)
        raise UsageError(f"{names}: expected records that can be used, found none; check the paths")
    newer = {refusal.path.parent.name for refusal in merge.refused.get(out, []) if refusal.newer}
    for address, one_run in sorted(runs.items()):
        if address not in newer:
            _take_run(one_run, merge)
    for address, measurements in sorted(speeds.items()):
        if address not in newer:
            _take_speed(measurements, merge)
    _take_test_clips([joined for joined in every if joined.folder != out], merge)
    return merge


def _take_test_clips(every: Sequence[_JoinedFolder], merge: Merge) -> None:
    """Labels and people of the test clips into the plan, once per data set."""
    for joined in every:
        for name, clips in joined.done.clips_files().items():
            if not (merge.out / name).exists():
                merge.copies.setdefault(merge.out / name, clips)


def _check_folders(folders: Sequence[Path], out: Path) -> None:
    """A `UsageError` where a folder is none, or would be changed."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: expected a folder, found a file; choose another name")
    RecordStore(out).refuse_shelf()
    for folder in folders:
        RecordStore.existing(folder)
        if folder.resolve() == out.resolve():
            raise UsageError(
                f"--out {out} is one of the folders to join; leave it out of them: others join it"
                " as it is"
            )
        if folder.resolve() in out.resolve().parents:
            raise UsageError(
                f"--out {out} lies in {folder}, which is only read; choose a folder beside it"
            )
    for path in out.glob(f"*/{CLAIM_FILE}"):
        if holder := Claims(out).holder(path.parent.name):
            raise UsageError(
                f"--out {out}: {holder} works in it; wait until it is done, or choose another"
            )


def _consistent(record: RunRecord | SpeedRecord, store: RecordStore) -> bool:
    """The address is that of the record's spec; where it is not, the record is refused."""
    expected = record.spec.address if isinstance(record, RunRecord) else speed_address(record.spec)
    if f"-v{ADDRESS_RULE}-" not in record.address or record.address == expected:
        return True
    name = RECORD_FILE if isinstance(record, RunRecord) else SPEED_FILE
    path = store.folder(record.address) / name
    store.refused[path] = Refusal(path, f"its spec has the address {expected}")
    return False


def _begun(joined: _JoinedFolder) -> Iterator[_Found]:
    """Runs that somebody may go on with, and that have no record that can be read."""
    store = joined.store
    places = {path.parent for pattern in _STATES for path in store.root.glob(f"*/{pattern}")}
    for place in sorted(places):
        refusal = store.refused.get(place / RECORD_FILE)
        if (refusal and not refusal.newer) or not (place / RECORD_FILE).exists():
            yield _Found(joined, place.name, None)


# --- one run ---


def _take_run(found: Sequence[_Found], merge: Merge) -> None:
    """One run into the plan: the record that counts with its weights and, of an unfinished run,
    its furthest state.
    """
    if closed := _closed_to({one.address for one in found}, {one.folder for one in found}, merge):
        merge.conflicts += closed
        found = [one for one in found if one.folder == merge.out]
        merge.runs += [one.record for one in found if one.record][:1]
        return
    finished = [one for one in found if one.finished]
    furthest = max(found, key=lambda one: one.steps)
    kept = finished[0] if finished else next((one for one in found if one.record), furthest)
    if kept.record:
        merge.runs.append(kept.record)
        _take_files(kept, finished or found, merge)
        _take_evaluations(kept, kept.record, finished or found, merge)
    own = [one for one in found if one.folder == merge.out and one is not kept and not one.finished]
    if finished:
        _compare(finished, merge)
        merge.overtaken += len(found) - len(finished)
        superseded = [
            path
            for one in own
            if one.address != kept.address
            for path in _files_of(one.place, _OF_A_RUN)
        ]
        superseded += [path for one in own for path in _files_of(one.place, (*_LOGS, *_STATES))]
        merge.gone += [path for path in superseded if path not in merge.copies]
    elif furthest.steps >= 0 and furthest.folder != merge.out:
        target = merge.out / furthest.address
        merge.copies |= {
            target / path.name: path for path in _files_of(furthest.place, (*_LOGS, *_STATES))
        }
        merge.gone += [path for path in _files_of(target, _STATES) if path not in merge.copies]


def _closed_to(addresses: Iterable[str], folders: Iterable[Path], merge: Merge) -> list[str]:
    """A line for each place of the joined folder that a run of these folders cannot come to: what
    lies beyond a link is not the folder's own to change, and in the place of a folder nothing can
    be written.
    """
    lines, others = [], ", ".join(sorted(str(folder) for folder in folders if folder != merge.out))
    for place in (merge.out / address for address in sorted(addresses)):
        found = (
            "expected a folder, found a link" if place.is_symlink() else odd(place, stat.S_IFDIR)
        )
        if found and others:
            lines.append(
                f"left out: {place}: {found}; move it away to join what {others} says of this run"
            )
    return lines


def _files_of(place: Path, patterns: Sequence[str]) -> list[Path]:
    """Files by patterns, in their order."""
    return [path for pattern in patterns for path in sorted(place.glob(pattern)) if path.is_file()]


def _take_files(kept: _Found, found: Sequence[_Found], merge: Merge) -> None:
    """A record into the plan, after the weights that it names, wherever they were kept,
    and its logs.
    """
    assert kept.record is not None
    target = merge.out / kept.address
    for name, sha in (kept.record.weights or {ENCODER_FILE: ""}).items():
        others = [
            one.place for one in found if one.record and sha and one.record.weights.get(name) == sha
        ]
        file = Path(name).name  # what stands in a record is not trusted to be a name
        origin = next(
            (place / file for place in [kept.place, *others] if (place / file).is_file()), None
        )
        if origin and origin.parent != target:
            merge.copies[target / file] = origin
    if kept.folder != merge.out:
        merge.copies |= {target / path.name: path for path in _files_of(kept.place, _LOGS)}
        if (drawn := pictures_file(kept.joined.store, kept.address)) is not None:
            merge.copies[target / PICTURES_FILE] = drawn
        merge.copies[target / RECORD_FILE] = kept.joined.store.file_of(kept.record)


def _take_evaluations(kept: _Found, run: RunRecord, found: Sequence[_Found], merge: Merge) -> None:
    """What protocols found out about the kept encoder, wherever that was;
    the first finished one of each.
    """
    taken: dict[str, tuple[_Found, EvaluationRecord]] = {}
    for one in found:
        for address in (
            one.joined.evaluations.get(one.address, []) if one.address == kept.address else []
        ):
            record = one.joined.done.one(one.address, address)
            if record is None or not belongs(record, run):
                continue
            first, other = taken.get(address, (one, record))
            if address not in taken or (other.status not in FINISHED and record.status in FINISHED):
                taken[address] = one, record
            elif other.status == record.status and other.predictions != record.predictions:
                merge.conflicts.append(
                    f"conflict: {record.run}/{EVALUATIONS}/{record.address}: other predictions in"
                    f" {one.folder} than in {first.folder}; kept as there"
                )
    for address, (one, _) in taken.items():
        if one.folder != merge.out:
            target = merge.out / kept.address / EVALUATIONS / f"{address}.json"
            merge.copies[target] = one.joined.done.file_of(one.address, address)


def _compare(finished: Sequence[_Found], merge: Merge) -> None:
    """Name every finished record that says something else than the first."""
    first = finished[0]
    for other in finished[1:]:
        assert first.record is not None
        assert other.record is not None
        said, says = _results(first.record), _results(other.record)
        apart = [name for name in said if name in says and said[name] != says[name]]
        if not apart:
            merge.same += 1
            continue
        figures = "; ".join(
            f"{name} {said[name]} in {first.folder}, {says[name]} in {other.folder}"
            for name in apart
        )
        elsewhere = first.record.environment.fingerprint != other.record.environment.fingerprint
        machines = " (another machine or other versions)" if elsewhere else ""
        merge.conflicts.append(
            f"conflict: {first.address}: {figures}{machines}; kept as in {first.folder}"
        )


def _results(record: RunRecord) -> dict[str, str]:
    """What two records of one run must agree in, as it is shown."""
    curve = ", ".join(
        f"{100 * point.accuracy.linear_test:.2f}% at step {point.step}" for point in record.curve
    )
    return {
        "status": record.status,
        **_accuracies(record.accuracy, ""),
        **_accuracies(record.untrained, "untrained "),
        "evaluations": curve or "none",
        **{name: f"SHA-256 {sha[:16]}" for name, sha in record.weights.items()},
    }


def _accuracies(found: Accuracy | None, of: str) -> dict[str, str]:
    """Test accuracies in %."""
    linear, knn = (
        (f"{100 * found.linear_test:.2f}%", f"{100 * found.knn_test:.2f}%")
        if found
        else ("none", "none")
    )
    return {f"{of}linear": linear, f"{of}kNN": knn}


# --- one measurement ---


def _take_speed(found: Sequence[tuple[RecordStore, SpeedRecord]], merge: Merge) -> None:
    """The first of the measurements under one address."""
    store, kept = found[0]
    folder = store.root
    if closed := _closed_to({kept.address}, {one.root for one, _ in found}, merge):
        merge.conflicts += closed
        merge.speeds += [kept] if folder == merge.out else []
        return
    merge.speeds.append(kept)
    if folder != merge.out:
        merge.copies[merge.out / kept.address / SPEED_FILE] = store.file_of(kept)
    merge.notes += [
        f"{kept.address} was measured twice: {kept.finished:%Y-%m-%d %H:%M:%S} UTC in {folder}, "
        f"{again.finished:%Y-%m-%d %H:%M:%S} UTC in {other.root}; kept as in {folder}"
        for other, again in found[1:]
        if again != kept
    ]


# --- writing it ---


def write_merge(merge: Merge, page: str, advance: Advance = lambda done, total: None) -> None:
    """Copy what was planned, and leave ``page`` as the folder's table.

    Everything is copied into a folder of its own first, on the same disk, and moved from there: a
    disk that is full, or a stop, leaves the joined folder as it was. A `UsageError` says what went
    wrong.

    Args:
        advance: told of files done and files in all.
    """
    merge.notes += _remove_stages(merge.out)
    new = not merge.out.exists()
    stage = (
        merge.out.parent / temporary_name(f"{merge.out.name}.merge")
        if new
        else merge.out / temporary_name("merge")
    )
    try:
        for number, (target, origin) in enumerate(merge.copies.items()):
            advance(number, len(merge.copies))
            _copy(origin, stage / target.relative_to(merge.out))
        texts = {
            TABLE_FILE: page,
            **({MATRIX_FILE: json.dumps(merge.matrix, indent=1) + "\n"} if merge.matrix else {}),
        }
        for name, text in texts.items():
            write_atomically(stage / name, text.encode())
        with held():
            if new:
                stage.rename(merge.out)
            else:
                _move(merge, stage, texts)
    except OSError as error:
        gone = isinstance(
            error, FileNotFoundError
        )  # a process at work in one of the folders removes its states
        step = (
            "the same command again reads what is there now"
            if gone
            else "free space or choose another"
        )
        raise UsageError(f"--out {merge.out} is as it was: {_reason(error)}; {step}") from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _remove_stages(out: Path) -> list[str]:
    """Remove what merges left that were killed;
    a line for each of which this host cannot tell that it is over.
    """
    paths = [*out.glob(".merge*"), *out.parent.glob(f".{escape(out.name)}.merge*")]
    left = remove_dead(path for path in paths if path.is_dir())
    return [f"{path} is of another merge; remove it when that is over" for path in left]


def _reason(error: OSError) -> str:
    """What went wrong, and with which file."""
    text = error.strerror or str(error)
    return f"{text}: {error.filename}" if error.filename else text


def _copy(origin: Path | bytes, target: Path) -> None:
    """Copy a file, or what it is to hold, onto the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        io.BytesIO(origin) if isinstance(origin, bytes) else origin.open("rb") as one,
        target.open("wb") as other,
    ):
        shutil.copyfileobj(one, other)
        other.flush()
        os.fsync(other.fileno())


def _move(merge: Merge, stage: Path, names: Iterable[str]) -> None:
    """From the stage into a folder that exists; what was refused there is kept aside."""
    made = [
        path
        for path in dict.fromkeys(target.parent for target in merge.copies)
        if not path.exists()
    ]
    try:
        for path in made:
            path.mkdir()
    except OSError:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
    try:
        for refusal in merge.refused[merge.out]:
            if refusal.path in merge.copies:
                kept = [set_aside(path).name for path in (refusal.path, refusal.weights) if path]
                merge.notes.append(f"{refusal}; kept as {' and '.join(kept)}")
        for target in [*merge.copies, *(merge.out / name for name in names)]:
            if problem := odd(target, stat.S_IFREG):
                merge.notes.append(f"{target}: {problem}; kept as {set_aside(target).name}")
            (stage / target.relative_to(merge.out)).replace(target)
        for path in merge.gone:
            if path.parent.is_symlink():
                continue
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                path.parent.rmdir()
    except OSError as error:
        raise UsageError(
            f"{_reason(error)}; each record of {merge.out} is whole: the same command goes on"
        ) from None
