"""The output folder: records and weights, written atomically, read again, refused where they cannot
be true.

A file that exists is complete. Layout::

    runs/<address>/record.json              a RunRecord
    runs/<address>/start.json               what a run that is not finished was started with
    runs/<address>/encoder.safetensors      the evaluated encoder's weights
    runs/<address>/last.safetensors         those at the end of training, where others were selected
    runs/<address>/method.safetensors       all of the method's, with `run --keep-decoder`
    runs/<address>/speed.json               a SpeedRecord (its own address)
    runs/<address>/speed.unfinished.json    a measurement that is not finished: its rounds so far
    runs/<address>/claim.json               who works on it (`harness.records.claims`)
    runs/<address>/state-*                  what an unfinished run goes on from
    runs/<address>/metrics.jsonl            its numbers as they came (`harness.runs.metrics`)
    runs/<address>/pictures.json            clips as its method saw and made them
    runs/<address>/evaluations/             what protocols found out about its encoder
    runs/matrix.json                        every run that was asked for, for `harness status`
    runs/records.jsonl                     instead: a study on its shelf, which is only read

A file that is not a record of its folder, or cannot be true, is refused: whoever reads goes on
without it and says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
from pydantic import BaseModel, ValidationError

from harness.errors import UsageError
from harness.records.contradictions import contradictions
from harness.records.reading import (
    ADDRESS,
    KINDS,
    MESSAGE,
    RECORD_FILE,
    SHELF_FILE,
    SPEED_FILE,
    Refusal,
    Refused,
    content_of,
    is_shelf,
    odd,
    parsed_record,
    read_file,
    validated,
)
from harness.records.schema import FINISHED, RunRecord, SpeedRecord, Start
from harness.records.shelf import Line, Shelf
from harness.spec.model import SECTIONS, RunSpec, digest, without_later, without_place

if TYPE_CHECKING:
    from torch import Tensor, nn

STATE_NAME = re.compile(r"state-(\d+)(?:\.(\d+))?")
"""Name of a state's two files without the ending (`harness.runs.resume`): its step,
and which one there it is.
"""
START_FILE = "start.json"
UNFINISHED_SPEED_FILE = "speed.unfinished.json"
CLAIM_FILE, METRICS_FILE, PICTURES_FILE = "claim.json", "metrics.jsonl", "pictures.json"
ENCODER_FILE, LAST_FILE, METHOD_FILE = (
    "encoder.safetensors",
    "last.safetensors",
    "method.safetensors",
)
MATRIX_FILE, LOCK_FILE, TABLE_FILE = "matrix.json", "claims.lock", "table.md"
WEIGHT_FILES = (ENCODER_FILE, LAST_FILE, METHOD_FILE)
NOT_WRITTEN = "could not be written"
"""What a row's warning says of a weight file that is lost, after its name."""
EVALUATIONS = "evaluations"
BESIDE_A_RECORD = (START_FILE, CLAIM_FILE, METRICS_FILE, PICTURES_FILE, *WEIGHT_FILES)
_OF_A_FOLDER = (MATRIX_FILE, LOCK_FILE, TABLE_FILE)
_AGAIN = 20
"""Times that something is tried again."""
_SETTLED = 5.0
"""Seconds after which a file that changes shows it in its times, whatever their grain."""


T = TypeVar("T")
Record = TypeVar("Record", RunRecord, SpeedRecord)
_PLACES: dict[type[BaseModel], tuple[str, str]] = {
    RunRecord: (RECORD_FILE, "run"),
    SpeedRecord: (SPEED_FILE, "speed"),
}
"""File of a record in its folder, and its kind on a shelf."""


def now() -> datetime:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


class RecordStore:
    """The output folder.

    Args:
        root: made with the first record.

    Attributes:
        refused: records that were looked at and are not used.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: dict[Path, Refusal] = {}

    @classmethod
    def existing(cls, root: Path) -> RecordStore:
        """The store of a folder to read from; a `UsageError` when there is no such folder."""
        if not root.is_dir():
            found = "a file" if root.exists() else "no such folder"
            raise UsageError(
                f"{root}: expected an output folder of `run`, found {found}; check the path"
            )
        return cls(root)

    def check_writable(self) -> None:
        """Prove that the folder can be written, and clear what killed processes left behind.

        A folder that was not there is not there afterwards: the first record makes it. Processes
        that begin at once make and remove it under each other's hands.
        """
        self.refuse_file()
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        try:
            while_it_goes(self._probe)
        except OSError as error:
            raise UsageError(
                f"output folder {self.root} cannot be written ({error.strerror}); choose another"
                " with --out"
            ) from None
        finally:
            for folder in missing:
                with contextlib.suppress(OSError):  # somebody else's by now, or never made
                    folder.rmdir()
        remove_leftovers(self.root)

    def refuse_file(self) -> None:
        """A `UsageError` where the folder, or one above it, is a file; nothing is touched."""
        for folder in (self.root, *self.root.parents):
            if folder.is_file():
                raise UsageError(
                    f"output folder {self.root} cannot be written ({folder} is a file); choose"
                    " another with --out"
                )

    def refuse_shelf(self) -> None:
        """A `UsageError` where the folder is a study on its shelf: nothing is written there."""
        if is_shelf(self.root):
            raise UsageError(
                f"{self.root} is a study on its shelf ({SHELF_FILE}), which is only read; choose"
                f" another folder, or `merge {self.root} --out FOLDER` for one to go on in"
            )

    def _probe(self) -> None:
        with contextlib.suppress(FileExistsError):  # removed while this was found to be there
            self.root.mkdir(parents=True, exist_ok=True)
        probe = self.root / temporary_name("probe")
        probe.write_bytes(b"")
        probe.unlink()

    def folder(self, address: str) -> Path:
        """Where everything of one address lies."""
        return self.root / address

    def run_of(self, spec: RunSpec) -> RunRecord | None:
        """The record of a run under any of the addresses it may have; None when absent."""
        return next((record for address in spec.addresses if (record := self.run(address))), None)

    def run(self, address: str) -> RunRecord | None:
        """The run record of an address; None when absent, or refused."""
        return self._read(address, RunRecord)

    def speed(self, address: str) -> SpeedRecord | None:
        """The speed record of an address; None when absent, or refused."""
        return self._read(address, SpeedRecord)

    def unfinished_speed(self, address: str) -> SpeedRecord | None:
        """What a measurement that was stopped had measured until then; None without,
        or where it cannot be read.
        """
        try:
            return read_record(self.folder(address) / UNFINISHED_SPEED_FILE, SpeedRecord)
        except Refused:
            return None

    def runs(self) -> Iterator[RunRecord]:
        """All run records that are not refused, sorted by address."""
        for address in self._addresses("run"):
            if record := self.run(address):
                yield record

    def speeds(self) -> Iterator[SpeedRecord]:
        """All speed records that are not refused, sorted by address."""
        for address in self._addresses("speed"):
            if record := self.speed(address):
                yield record

    @cached_property
    def shelf(self) -> Shelf:
        """The records of the folder that lie in one file;
        lines that are none of any kind are refused here.
        """
        found = Shelf(self.root)
        for kind in ("", "run", "speed", "pictures"):
            self.refused |= {refusal.path: refusal for refusal in found.refused[kind]}
        return found

    def _addresses(self, kind: str) -> list[str]:
        """Names of whatever may be the folder of a run, or stands in the place of one;
        addresses on the shelf.
        """
        found = self.root.iterdir() if self.root.is_dir() else ()
        places = {path.name for path in found if path.is_dir() or ADDRESS.fullmatch(path.name)} - {
            SHELF_FILE
        }
        return sorted(places | {address for (address,) in self.shelf.lines[kind]})

    def write_run(self, record: RunRecord) -> None:
        """Write a run record atomically; one of the same run under an earlier address rule gives
        way to it.

        So do weights that are not this record's: those of an earlier try, when this one failed; and
        its pictures.
        """
        for name in WEIGHT_FILES:
            if name not in record.weights:
                (self.folder(record.address) / name).unlink(missing_ok=True)
        (self.folder(record.address) / PICTURES_FILE).unlink(missing_ok=True)
        write_atomically(self.folder(record.address) / RECORD_FILE, as_json(record))
        if record.status in FINISHED and not lost_weights(record):
            (self.folder(record.address) / START_FILE).unlink(missing_ok=True)
        for folder in map(self.folder, record.spec.addresses[1:]):
            for name in (RECORD_FILE, PICTURES_FILE, *WEIGHT_FILES):
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()  # unless something was set aside in it

    def write_pictures(self, address: str, content: bytes) -> None:
        """Leave a run's pictures (`harness.records.pictures`) beside its record, atomically."""
        write_atomically(self.folder(address) / PICTURES_FILE, content)

    def start(self, address: str) -> Start | None:
        """What a run that is not finished was first started with; None when it never was.
        Damage is a `UsageError`.
        """
        path = self.folder(address) / START_FILE
        if not path.exists():
            return None
        try:
            return Start.model_validate_json(read_file(path))
        except (ValidationError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(
                f"{path}: cannot be read ({reason}); remove it to fix the number of steps anew"
            ) from None

    def write_start(self, address: str, start: Start) -> None:
        """Note what a run is started with, atomically."""
        write_atomically(self.folder(address) / START_FILE, as_json(start))

    def write_speed(self, record: SpeedRecord) -> None:
        """Write a speed record atomically; a finished one removes one that was not,
        which has a file of its own.
        """
        folder, finished = self.folder(record.address), record.planned_rounds is None
        write_atomically(
            folder / (SPEED_FILE if finished else UNFINISHED_SPEED_FILE), as_json(record)
        )
        if finished:
            (folder / UNFINISHED_SPEED_FILE).unlink(missing_ok=True)

    def write_encoder(
        self,
        address: str,
        encoder: nn.Module,
        metadata: Mapping[str, str] | None = None,
        name: str = ENCODER_FILE,
    ) -> dict[str, str]:
        """Write encoder weights as safetensors, atomically, with what they do not tell
        (`harness.encoders.facts`).

        Returns the file's name and its SHA-256, for the record.
        """
        path = self.folder(address) / name
        write_weights(path, encoder, metadata)
        return {path.name: file_hash(path)}

    def write_method(self, address: str, weights: Mapping[str, Tensor]) -> dict[str, str]:
        """Write all weights of a method, with which `data show` draws what it reconstructs;
        as `write_encoder`.
        """
        path = self.folder(address) / METHOD_FILE
        _write_tensors(path, weights)
        return {path.name: file_hash(path)}

    def set_aside(self) -> list[str]:
        """Rename what was refused, so that it can be made again; a line each.
        A newer record is a `UsageError`.
        """
        for refusal in self.refused.values():
            if refusal.newer:
                raise UsageError(f"{refusal} or choose another folder with --out")
        lines = []
        for refusal in self.refused.values():
            files = [refusal.path, *([refusal.weights] if refusal.weights else [])]
            names = [set_aside(path).name for path in files]
            lines.append(
                f"{refusal}; kept as {' and '.join(names)}{', and made again' * refusal.of_record}"
            )
        self.refused.clear()
        return lines

    def passed_over(self) -> list[str]:
        """A line for every record that was looked at and refused, and one with their number."""
        return refusal_lines(self.root, list(self.refused.values()))

    def written(self, record: RunRecord | SpeedRecord) -> dict[str, Any]:
        """A record that was read, as it was written:
        without what later versions of the suite added.
        """
        file = self.file_of(record)
        return content_of(file if isinstance(file, bytes) else read_file(file))

    def file_of(self, record: RunRecord | SpeedRecord) -> Path | bytes:
        """The file of a record that was read; of one on the shelf, what its file would hold."""
        name, kind = _PLACES[type(record)]
        path, line = (
            self.folder(record.address) / name,
            self.shelf.lines[kind].get((record.address,)),
        )
        return line.as_file() if line and not path.exists() else path

    def _read(self, address: str, model: type[Record]) -> Record | None:
        name, kind = _PLACES[model]
        path, line = self.folder(address) / name, self.shelf.lines[kind].get((address,))
        self.refused.pop(path, None)
        self._look_at(path.parent)
        if path.parent in self.refused:
            return None
        place = path
        try:
            if path.exists():
                if line:
                    self.refused[line.place] = Refusal(
                        line.place, f"is the {kind} {address} again; {path} counts"
                    )
                return read_record(path, model)
            if line:
                place = line.place
                return _shelved_record(line, model, self.root)
        except Refused as problem:
            self.refused[place] = problem.at(place)
        return None

    def _look_at(self, place: Path) -> None:
        """Refuse what is odd in the folder of a run and beside it;
        records are refused as they are read.
        """
        expected = {place / name: stat.S_IFREG for name in BESIDE_A_RECORD}
        expected |= {self.root / name: stat.S_IFREG for name in _OF_A_FOLDER}
        expected |= {place: stat.S_IFDIR, place / EVALUATIONS: stat.S_IFDIR}
        for path, kind in expected.items():
            self.refused.pop(path, None)
            if problem := odd(path, kind):
                self.refused[path] = Refusal(path, problem)


def write_matrix(folder: Path, cells: Mapping[str, tuple[str, int]]) -> None:
    """Note label and seed of the runs of a command by their addresses,
    beside those that are noted already.
    """
    known = read_matrix(folder)
    if not cells.keys() <= known.keys():
        write_atomically(
            folder / MATRIX_FILE, (json.dumps({**known, **cells}, indent=1) + "\n").encode()
        )


def read_matrix(folder: Path) -> dict[str, tuple[str, int]]:
    """Label and seed of every run that was asked of a folder, by its address;
    empty where none is noted.
    """
    try:
        found = json.loads(read_file(folder / MATRIX_FILE))
        return {str(address): (str(label), int(seed)) for address, (label, seed) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}


@dataclass(frozen=True)
class Records:
    """What an output folder holds: its records, sorted by address, and what was refused."""

    runs: list[RunRecord]
    speeds: list[SpeedRecord]
    refused: list[Refusal]


def refusal_lines(root: Path, refused: Sequence[Refusal]) -> list[str]:
    """A line for every record of a folder that is refused, one for all of a newer suite,
    and one with their number.
    """
    newer = [refusal for refusal in refused if refusal.newer]
    number = sum(refusal.of_record for refusal in refused)
    lines = [str(refusal) for refusal in refused if not refusal.newer]
    if newer:
        more = f" and {len(newer) - 1} more" if len(newer) > 1 else ""
        lines.append(f"record {newer[0].path}{more}: {newer[0].reason}")
    if lines and number:
        records = "1 record" if number == 1 else f"{number} records"
        lines.append(f"{records} of {root} passed over; `harness verify {root}` checks the folder")
    return lines


def read_records(folder: Path) -> Records:
    """All records of an output folder. A `UsageError` when there is no such folder."""
    store = RecordStore.existing(folder)
    return Records(list(store.runs()), list(store.speeds()), list(store.refused.values()))


def read_record(path: Path, model: type[Record]) -> Record:
    """The record of a file; `Refused` says why it is none, or not the one of its folder."""
    record = parsed_record(path, model)
    if record.address != path.parent.name:
        raise Refused(
            f"is the record of {record.address}; each belongs in the folder of its address"
        )
    _refuse_untrue(record, path.parent, finished=path.name == SPEED_FILE)
    return record


def _shelved_record(line: Line, model: type[Record], root: Path) -> Record:
    """The record of a line of the shelf of a folder; `Refused` says why it is none."""
    record = validated(line.content, model)
    _refuse_untrue(record, root / record.address, finished=True)
    return record


def records_below(folders: Iterable[Path], model: type[Record]) -> Iterator[tuple[Path, Record]]:
    """Every record in and below some folders, on shelves or not, with its place;
    refused ones are left out.
    """
    name, kind = _PLACES[model]
    for folder in folders:
        for path in sorted(
            path for path in folder.rglob("*.json*") if path.name in (name, SHELF_FILE)
        ):
            shelved = path.name == SHELF_FILE
            lines = list(Shelf(path.parent).lines[kind].values()) if shelved else []
            for line in lines:
                with contextlib.suppress(Refused):
                    yield line.place, _shelved_record(line, model, path.parent)
            if not shelved:
                with contextlib.suppress(Refused):
                    yield path, read_record(path, model)


def _refuse_untrue(record: RunRecord | SpeedRecord, folder: Path, *, finished: bool) -> None:
    """`Refused` where a record contradicts itself, or the weights in its folder.

    Args:
        finished: the place is one of finished measurements.
    """
    for line in contradictions(record):
        raise Refused(f"cannot be true ({line[:MESSAGE]})")
    if isinstance(record, RunRecord):
        _refuse_other_weights(record, folder)
    elif finished and record.planned_rounds is not None:
        raise Refused("is of a measurement that was not finished")


def _refuse_other_weights(record: RunRecord, folder: Path) -> None:
    """`Refused` where weights lie beside a record that are not those it was written with;
    none need to be there.
    """
    for name, expected in record.weights.items():
        path = folder / Path(name).name
        if path.is_file() and file_hash(path) != expected:
            raise Refused(
                f"{name} beside it is not the one it was written with (SHA-256)", weights=path
            )


def lost_weights(record: RunRecord) -> list[str]:
    """Names of the weight files of a run that could not be written, as its row says."""
    return [
        name
        for name in WEIGHT_FILES
        if name not in record.weights
        and any(text.startswith(f"{name} {NOT_WRITTEN}") for text in record.warnings)
    ]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it;
    one that has not changed for a while is read once by a process.
    """
    found = path.stat()
    if time.time() - found.st_mtime < _SETTLED:
        return _hash(path)
    return _hash_of_settled(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@cache
def _hash_of_settled(path: Path, *_version: int) -> str:
    return _hash(path)


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a file to ``record.refused-1.json``, say, with the first number that is free;
    its new path.
    """
    names = (path.with_name(f"{path.stem}.refused-{number}{path.suffix}") for number in count(1))
    free = next(name for name in names if not name.exists())
    return path.rename(free)


def write_weights(path: Path, module: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write a module's weights as safetensors, atomically;
    the same weights and metadata give the same bytes.
    """
    _write_tensors(path, module.state_dict(), metadata)


def _write_tensors(
    path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a state dict as safetensors, as `write_weights` does."""
    from safetensors.torch import save  # reading records needs no torch

    write_atomically(path, in_order(save(host_copies(state), dict(metadata) if metadata else None)))


def host_copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the host, each in memory of its own:
    safetensors refuses parts that share their weights.
    """
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }


def in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata in alphabetical order, where the library leaves it to a
    hash map.

    The file is 8 bytes with the header's length, the header as JSON padded with spaces, and the
    tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either complete or absent, even through a crash or a full disk.

    Through a link to a file that file is written. A `UsageError` where something stands that is no
    file.
    """
    path = file_to_write(path)
    temporary = path.parent / temporary_name(path.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(temporary, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # only when this left it empty
        raise


def file_to_write(path: Path) -> Path:
    """Where a file is written: the path, or the file it links to.
    A `UsageError` where a folder, pipe, ... stands.
    """
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing stands there, or writing says why it cannot be
        return path
    if not stat.S_ISREG(mode):
        found = KINDS.get(stat.S_IFMT(mode), "a device")
        raise UsageError(f"{path}: expected a file to write, found {found}; choose another name")
    return path.resolve() if path.is_symlink() else path


def while_it_goes(write: Callable[[], T]) -> T:
    """Make and write something again where its folder, still empty,
    was removed meanwhile (`RecordStore.prepare`).
    """
    for _ in range(_AGAIN):
        with contextlib.suppress(FileNotFoundError):
            return write()
    return write()


def temporary_name(name: str) -> str:
    """A hidden name that tells which process of which host is writing: a folder may be shared."""
    return f".{name}.{host()}.{os.getpid()}.tmp"


def host() -> str:
    """This machine's name, with letters, digits and hyphens alone."""
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "-"


def remove_leftovers(root: Path) -> None:
    """Remove temporary files of processes of this host that are gone; nothing else is touched."""
    places = ("", "*/", f"*/{EVALUATIONS}/")
    remove_dead([path for place in places for path in root.glob(f"{place}.*.tmp")])


def remove_dead(paths: Iterable[Path]) -> list[Path]:
    """Remove files and folders with the `temporary_name` of a process of this host
    that is gone; the others.
    """
    left = []
    for path in paths:
        owner = re.fullmatch(rf"\..+\.{host()}\.(\d+)\.tmp", path.name)
        if owner is None or _alive(int(owner[1])):
            left.append(path)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return left


def _alive(process: int) -> bool:
    """Not by ``os.kill(process, 0)``: on Windows that ends the process."""
    try:
        return psutil.pid_exists(process)
    except OverflowError:  # no process has such a number
        return False


def as_json(record: BaseModel) -> bytes:
    """A record as it stands in its file."""
    return (record.model_dump_json(indent=1) + "\n").encode()


def speed_address(spec: dict[str, Any]) -> str:
    """Address of a speed measurement, by the rule that its spec names."""
    if "address_rule" not in spec:
        return f"speed-{digest(spec)}"
    return f"speed-v{spec['address_rule']}-{digest({**spec, **_settings_of(spec)})}"


def measured_settings(record: RunRecord | SpeedRecord) -> dict[str, Any]:
    """What runs and the measurement of their speed share: the spec but for method, seed, budget and
    probe.

    Fields that a record was written without have their default, as when it is read.
    """
    if isinstance(record, RunRecord):
        plain = record.spec.model_dump(mode="json", exclude={"probe"})
    else:
        known = {name: model for name, model in SECTIONS.items() if name in record.spec}
        plain = {
            name: model.model_validate(record.spec[name]).model_dump(mode="json")
            for name, model in known.items()
        }
    found = _settings_of(plain)
    found["train"].pop("budget")
    return {
        **found,
        "device": str(
            record.spec.device if isinstance(record, RunRecord) else record.spec["device"]
        ),
    }


def _settings_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections of a plain spec as they count (address rule 2): equal for the same training,
    whenever written.

    That is without fields that came later and stand at their default, and without the data's name.
    """
    known = {
        name: without_later(section, spec[name])
        for name, section in SECTIONS.items()
        if name in spec
    }
    return {**known, "data": without_place(known["data"])}
