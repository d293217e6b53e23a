"""Records: one JSON file per run and per speed measurement, the truth that every table derives from.

A record is written atomically, so a file that exists is complete. Layout of an output folder::

    runs/<address>/record.json              a RunRecord
    runs/<address>/start.json               what a run that is not finished was started with
    runs/<address>/encoder.safetensors      the evaluated encoder's weights
    runs/<address>/speed.json               a SpeedRecord (its own address)

A file that is not a record of its folder, or cannot be true, is refused: whoever reads goes on without it and says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json
from safetensors.torch import save
from torch import nn

from harness.environment import Environment
from harness.errors import UsageError
from harness.health import Health
from harness.part import Count, NotNegative, Part, Positive
from harness.probes import Accuracy
from harness.spec import SECTIONS, RunSpec, digest, validation_message, without_later, without_place
from harness.stats import Ratio, Verdict, paired_ratio

SCHEMA = 2
"""2: addresses by rule 2; versions of the code instead of a hash of its text."""
MESSAGE = 200
"""Characters of a validation error that are shown: it quotes the value, which may be a whole curve."""
RECORD_FILE, SPEED_FILE, START_FILE = "record.json", "speed.json", "start.json"
ENCODER_FILE = "encoder.safetensors"
RANDOM_INIT = "random-init"
RAW_FLOOR = "raw-pca"
BOUND = "encoder-only"
"""Names of the control rows, shared by the run matrix that makes them and the tables that show them."""
STAGE_MARK = " @ "
EVERY_SWITCH = "every switch on"
"""Name of the last of the two stages that claims are measured at."""
BODIES_PER_CLIP = 2
"""FLOPs per clip are quoted for two bodies: so counted, GFP's printed costs (arXiv 2509.03609) come out."""
Status = Literal["ok", "failed", "oom", "diverged", "interrupted"]
FINISHED: tuple[Status, ...] = ("ok", "diverged")


class MethodInfo(Part):
    """What ran: the method's own words about itself, and the versions of the code it is built on.

    Attributes:
        versions: module -> version (`harness.versions`); empty for controls and in records of schema 1.
        source: schema 1 only: a hash of the text of the files, which says nothing any more.
    """

    title: str
    paper: str
    code: str
    epochs: int | None = None
    deviations: tuple[str, ...]
    choices: tuple[str, ...]
    division: Literal["closed", "open"]
    control: bool
    versions: dict[str, str] = Field(default={})
    source: str = ""


class EncoderInfo(Part):
    """The shared encoder."""

    architecture: str
    parameters: Count
    tokens: Count


class DataInfo(Part):
    """The data as used: counts after the split, and what is worth saying about it."""

    name: str
    fingerprint: str
    classes: Count
    train_clips: Count
    validation_clips: Count
    test_clips: Count
    train_sequences: Count
    bodies_per_clip: Positive
    notes: tuple[str, ...]


class Training(Part):
    """What the training loop did.

    Attributes:
        seconds: time on the training clock.
        step_seconds: median step time of this run.
        interleaved_step_seconds: step time of the speed measurement that planned the run.
    """

    steps: Count
    clips_seen: NotNegative
    seconds: NotNegative
    step_seconds: NotNegative
    interleaved_step_seconds: NotNegative | None = None
    flops: NotNegative
    losses: list[dict[str, float]]


class Point(Part):
    """One evaluation during training: how much was spent until then, and what the probes said."""

    step: Count
    clips_seen: NotNegative
    seconds: NotNegative
    accuracy: Accuracy
    diagnosis: dict[str, float] = Field(default={})


class RunRecord(Part):
    """One run: a method, or a control, on one seed.

    Attributes:
        weights: SHA-256 of the weight files beside the record, by name; empty where none were written, and in records
            of before it was kept.
    """

    schema_version: int = SCHEMA
    kind: Literal["run"] = "run"
    address: str
    label: str
    status: Status
    error: str = ""
    traceback: str = ""
    spec: RunSpec
    method: MethodInfo
    encoder: EncoderInfo | None = None
    data: DataInfo
    environment: Environment
    training: Training | None = None
    phases: dict[str, float] = Field(default={})
    wall_seconds: float = 0.0
    untracked: float = Field(default=0.0, le=1)
    curve: list[Point] = Field(default=[])
    accuracy: Accuracy | None = None
    untrained: Accuracy | None = None
    warnings: tuple[str, ...] = ()
    weights: dict[str, str] = Field(default={})
    started: datetime
    finished: datetime


class Start(Part):
    """What a run under a budget in seconds was first started with; it goes when the run's record is finished.

    Attributes:
        step_seconds: interleaved step time, from which the number of steps follows.
    """

    step_seconds: Positive


class ArmRecord(Part):
    """One method's side of a speed measurement.

    Attributes:
        blocks: mean seconds per step of every block.
        clips: clips per step, by which all ratios are formed; 0 in records of before it was kept.
        ratio: clips/s over the baseline's, above 1 is faster.
        flop_ratio: the same as the methods' FLOPs per clip predict; None where one of them has none that are counted.
        warnings: what the method left behind while it was timed.
        forward_shares: shares of a step's forward FLOPs by the method's modules (`harness.flops.forward_shares`).
        epochs: length of the method's published schedule.
    """

    label: str
    step_seconds: Positive
    clips: NotNegative = 0.0
    batch_size: Count = 0
    clips_per_second: Positive
    blocks: list[Positive]
    steps_per_block: Count
    phases: dict[str, float]
    warmup_seconds: NotNegative
    step_flops: NotNegative
    flop_ratio: NotNegative | None
    forward_shares: dict[str, float] = Field(default={})
    peak_bytes: Count | None
    epochs: Count | None = None
    division: Literal["closed", "open"]
    control: bool
    ratio: Ratio
    verdict: Verdict
    warnings: tuple[str, ...] = ()

    @property
    def clip_seconds(self) -> list[float]:
        """Seconds per clip of every block."""
        return [seconds / self.clips for seconds in self.blocks]

    @property
    def clip_flops(self) -> float:
        """Model FLOPs per clip of a training step."""
        return self.step_flops / self.clips


class SpeedRecord(Part):
    """An interleaved speed measurement of several methods.

    Attributes:
        same: the baseline against itself; `floor` is the factor inside which no ratio means anything.
        health: what disturbed the blocks.
        matmul_flops: FLOP/s of a large matrix product on the same device in the same precision.
        rules: version of benchmarks/RULES.md that it follows.
    """

    schema_version: int = SCHEMA
    kind: Literal["speed"] = "speed"
    address: str
    spec: dict[str, Any]
    baseline: str
    batch_size: Count
    bodies_per_clip: Positive
    arms: list[ArmRecord]
    same: Ratio
    floor: float = Field(ge=1, allow_inf_nan=False)
    health: Health | None = None
    matmul_flops: float | None = None
    rules: str = ""
    encoder: EncoderInfo
    data: DataInfo
    environment: Environment
    started: datetime
    finished: datetime

    @property
    def stages(self) -> list[str]:
        """Names of the stages that its rows went through (`harness.explain`); empty for a plain measurement."""
        return list(self.spec.get("stages", ()))

    @property
    def rows(self) -> list[str]:
        """Methods that went through them; the first records of stages name them in their arms only."""
        return list(self.spec.get("rows") or dict.fromkeys(arm.label.partition(STAGE_MARK)[0] for arm in self.arms))

    def arm(self, label: str) -> ArmRecord | None:
        """The arm with that label, if it was measured."""
        return next((arm for arm in self.arms if arm.label == label), None)

    def speedup(self, one: str, other: str) -> Ratio | None:
        """Clips/s of one arm over another's, paired by round; None where one was not measured."""
        arms = self.arm(one), self.arm(other)
        return paired_ratio(arms[1].clip_seconds, arms[0].clip_seconds) if arms[0] and arms[1] else None

    def flop_speedup(self, one: str, other: str) -> float | None:
        """The same as FLOPs per clip predict it."""
        arms = self.arm(one), self.arm(other)
        return flop_ratio(arms[0].clip_flops, arms[1].clip_flops) if arms[0] and arms[1] else None


Record = TypeVar("Record", RunRecord, SpeedRecord)


def flop_ratio(own: float, others: float) -> float | None:
    """Speedup over another method that FLOPs predict; None where either has none that are counted (`harness.flops`)."""
    return others / own if own and others else None


def at_stage(method: str, stage: str) -> str:
    """Label of a method's arm at a stage of a waterfall."""
    return f"{method}{STAGE_MARK}{stage}"


def now() -> datetime:
    """The time, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Refusal:
    """A record that is not used.

    Attributes:
        reason: why, in a few words.
        newer: a newer version of the suite wrote it; nothing is wrong with it.
        weights: the weights beside it are refused with it.
    """

    path: Path
    reason: str
    newer: bool = False
    weights: Path | None = None

    def __str__(self) -> str:
        return f"record {self.path}: {self.reason}"


class Refused(Exception):
    """Raised while reading a record that is refused."""

    def __init__(self, reason: str, *, newer: bool = False, weights: Path | None = None) -> None:
        super().__init__(reason)
        self.reason, self.newer, self.weights = reason, newer, weights


class RecordStore:
    """The output folder.

    Args:
        root: created when missing; a `UsageError` says when it cannot be written.

    Attributes:
        refused: records that were looked at and are not used.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refused: dict[Path, Refusal] = {}

    def prepare(self) -> None:
        """Create the folder, prove that it can be written, and clear what killed processes left behind."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / temporary_name("probe")
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"output folder {self.root} cannot be written ({error.strerror}); choose another with --out"
            ) from None
        remove_leftovers(self.root)

    def folder(self, address: str) -> Path:
        """Where everything of one address lies."""
        return self.root / address

    def run_of(self, spec: RunSpec) -> RunRecord | None:
        """The record of a run under any of the addresses it may have; None when absent."""
        return next((record for address in spec.addresses if (record := self.run(address))), None)

    def run(self, address: str) -> RunRecord | None:
        """The run record of an address; None when absent, or refused."""
        return self._read(self.folder(address) / RECORD_FILE, RunRecord)

    def speed(self, address: str) -> SpeedRecord | None:
        """The speed record of an address; None when absent, or refused."""
        return self._read(self.folder(address) / SPEED_FILE, SpeedRecord)

    def runs(self) -> Iterator[RunRecord]:
        """All run records that are not refused, sorted by address."""
        for path in sorted(self.root.glob(f"*/{RECORD_FILE}")):
            record = self._read(path, RunRecord)
            if record:
                yield record

    def speeds(self) -> Iterator[SpeedRecord]:
        """All speed records that are not refused, sorted by address."""
        for path in sorted(self.root.glob(f"*/{SPEED_FILE}")):
            record = self._read(path, SpeedRecord)
            if record:
                yield record

    def write_run(self, record: RunRecord) -> None:
        """Write a run record atomically; one of the same run under an earlier address rule gives way to it."""
        write_atomically(self.folder(record.address) / RECORD_FILE, _json(record))
        if record.status in FINISHED:
            (self.folder(record.address) / START_FILE).unlink(missing_ok=True)
        for folder in map(self.folder, record.spec.addresses[1:]):
            for name in (RECORD_FILE, ENCODER_FILE):
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()  # unless something was set aside in it

    def start(self, address: str) -> Start | None:
        """What a run that is not finished was first started with; None when it never was. Damage is a `UsageError`."""
        path = self.folder(address) / START_FILE
        if not path.exists():
            return None
        try:
            return Start.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{path}: cannot be read ({reason}); remove it to fix the number of steps anew") from None

    def write_start(self, address: str, start: Start) -> None:
        """Note what a run is started with, atomically."""
        write_atomically(self.folder(address) / START_FILE, _json(start))

    def write_speed(self, record: SpeedRecord) -> None:
        """Write a speed record atomically."""
        write_atomically(self.folder(record.address) / SPEED_FILE, _json(record))

    def write_encoder(
        self, address: str, encoder: nn.Module, metadata: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Write encoder weights as safetensors, atomically, with what they do not tell (`harness.encoder_facts`).

        Returns the file's name and its SHA-256, for the record.
        """
        path = self.folder(address) / ENCODER_FILE
        write_weights(path, encoder, metadata)
        return {path.name: file_hash(path)}

    def set_aside(self) -> list[str]:
        """Rename what was refused, so that it can be made again; a line each. A newer record is a `UsageError`."""
        for refusal in self.refused.values():
            if refusal.newer:
                raise UsageError(f"{refusal} or choose another folder with --out")
        lines = []
        for refusal in self.refused.values():
            files = [refusal.path, *([refusal.weights] if refusal.weights else [])]
            names = [set_aside(path).name for path in files]
            lines.append(f"{refusal}; kept as {' and '.join(names)}, and made again")
        self.refused.clear()
        return lines

    def _read(self, path: Path, model: type[Record]) -> Record | None:
        self.refused.pop(path, None)
        if not path.exists():
            return None
        try:
            return read_record(path, model)
        except Refused as problem:
            self.refused[path] = Refusal(path, problem.reason, problem.newer, problem.weights)
            return None


def read_record(path: Path, model: type[Record]) -> Record:
    """The record of a file; `Refused` says why it is none, or not the one of its folder."""
    try:
        content = from_json(path.read_bytes()) if path.is_file() else "no file"
    except (ValueError, OSError) as error:
        raise Refused(f"cannot be read ({str(error).splitlines()[0]})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise Refused("cannot be read (expected a JSON object with its schema_version)")
    if version > SCHEMA:
        raise Refused(
            f"written by a newer version of the suite (schema {version}, this one reads up to {SCHEMA}); update",
            newer=True,
        )
    try:
        record = model.model_validate(content)
    except ValidationError as error:
        raise Refused(f"cannot be read ({validation_message(error, model)[:MESSAGE]})") from None
    if record.address != path.parent.name:
        raise Refused(f"is the record of {record.address}; each belongs in the folder of its address")
    if isinstance(record, RunRecord):
        refuse_other_weights(record, path.parent)
    return record


def refuse_other_weights(record: RunRecord, folder: Path) -> None:
    """`Refused` where weights lie beside a record that are not those it was written with; none need to be there."""
    for name, expected in record.weights.items():
        path = folder / Path(name).name
        if path.is_file() and file_hash(path) != expected:
            raise Refused(f"{name} beside it is not the one it was written with (SHA-256)", weights=path)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a file to ``record.refused-1.json``, say, with the first number that is free; its new path."""
    names = (path.with_name(f"{path.stem}.refused-{number}{path.suffix}") for number in count(1))
    free = next(name for name in names if not name.exists())
    return path.rename(free)


def write_weights(path: Path, module: nn.Module, metadata: Mapping[str, str] | None = None) -> None:
    """Write a module's weights as safetensors, atomically; the same weights and metadata give the same bytes."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_atomically(path, in_order(save(weights, dict(metadata) if metadata else None)))


def in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata in alphabetical order, where the library leaves it to a hash map.

    The file is 8 bytes with the header's length, the header as JSON padded with spaces, and the tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either complete or absent, even through a crash or a full disk."""
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


def temporary_name(name: str) -> str:
    """A hidden name that tells which process is writing."""
    return f".{name}.{os.getpid()}.tmp"


def remove_leftovers(root: Path) -> None:
    """Remove temporary files of processes that are gone; nothing else is touched."""
    for path in [*root.glob(".*.tmp"), *root.glob("*/.*.tmp")]:
        owner = re.fullmatch(r"\..*\.(\d+)\.tmp", path.name)
        if owner and not _alive(int(owner[1])):
            path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _json(record: BaseModel) -> bytes:
    return (record.model_dump_json(indent=1) + "\n").encode()


def speed_address(spec: dict[str, Any]) -> str:
    """Address of a speed measurement, by the rule that its spec names."""
    if "address_rule" not in spec:
        return f"speed-{digest(spec)}"
    return f"speed-v{spec['address_rule']}-{digest({**spec, **settings_of(spec)})}"


def settings_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections of a plain spec as they count (address rule 2): equal for the same training, whenever written.

    That is without fields that came later and stand at their default, and without the data's name.
    """
    known = {name: without_later(section, spec[name]) for name, section in SECTIONS.items() if name in spec}
    return {**known, "data": without_place(known["data"])}
