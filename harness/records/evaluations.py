"""What one protocol found out about one encoder, as a record, and the folder of such records.

    runs/<run>/evaluations/<address>.json       an EvaluationRecord
    runs/test-clips-<fingerprint>.json          labels and people of the test clips that all predict
    runs/records.jsonl                         instead: both, of a study on its shelf

Like `harness.records.schema` this knows nobody but the spec: reading it loads no torch. What cannot
be true is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field

from harness.records.part import Count, NotNegative, RecordPart, Share
from harness.records.reading import Refusal, Refused, parsed_record, validated
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, SCHEMA, Environment, RunRecord, Status
from harness.records.shelf import Shelf
from harness.records.store import EVALUATIONS, as_json, write_atomically
from harness.spec.model import digest

_CLIPS_FILES = "test-clips-*.json"
_ADDRESS_RULE = 1
"""How addresses of evaluations are made; it stands in each."""
SCRATCH = "scratch"
"""The control of a protocol that trains the encoder: the same recipe from an untrained one."""

Class = Annotated[int, Field(ge=0, lt=2**31)]
Person = Annotated[int, Field(ge=-1, lt=2**63)]
WhichEncoder = Literal["last", "selected", "untrained", "none"]


class EpochPoint(RecordPart):
    """One look at the test clips while a protocol trains.

    Attributes:
        epoch: passes over the training clips so far.
        accuracy: of the test clips. It chooses nothing.
        loss: mean over the epoch; None where there is none.
    """

    epoch: Count
    accuracy: Share
    loss: float | None = None


class EvaluationRecord(RecordPart):
    """One protocol, with its options, on one encoder.

    Attributes:
        run: address of the run whose encoder it is; its folder holds this record.
        label: the run's row; `seed` is its seed too, and that of everything the protocol draws.
        spec: the protocol as asked for, with the options that differ from its defaults; one column
            of a table.
        options: every option with its value, as the protocol worked with it.
        encoder: the *last* one of pre-training, as papers have it, or the one *selected* on
            held-out subjects; of controls an *untrained* one, or *none*: raw coordinates.
        weights: SHA-256 of the encoder's weights file; of an untrained one, of what such a file
            would be.
        data: fingerprint of the data.
        of_set: the one of the run's data sets that it is on, where they are several; `data` is then
            that set's.
        subset: hash of the labelled clips where not all of the training side are used, else empty.
        labelled: distinct clips whose label was used.
        control: empty, ``random-init``, ``raw-pca`` or ``scratch``.
        accuracy: share of the test clips that are predicted right, at the end; nothing was selected
            on them.
        figures: other accuracies that came along, by name.
        predictions: class of every test clip, in the order of the data set's test part
            (`TestClips`).
        seconds: that it took, frozen features apart: `features_seconds` stand with the first
            protocol that read them; the others of an encoder have them for nothing.
        versions: module -> version, of what evaluated.
        notes: what must be said beside the number.
    """

    schema_version: int = SCHEMA
    kind: Literal["evaluation"] = "evaluation"
    address: str
    run: str
    label: str
    seed: int = Field(ge=0, lt=2**63)
    protocol: str
    spec: str
    options: dict[str, Any]
    encoder: WhichEncoder
    weights: str = ""
    data: str
    of_set: str = ""
    subset: str = ""
    labelled: Count = 0
    control: str = ""
    status: Status
    error: str = ""
    traceback: str = ""
    accuracy: Share | None = None
    figures: dict[str, Share] = Field(default={})
    curve: list[EpochPoint] = Field(default=[])
    predictions: list[Class] = Field(default=[])
    seconds: NotNegative = 0.0
    features_seconds: NotNegative = 0.0
    versions: dict[str, str] = Field(default={})
    notes: tuple[str, ...] = ()
    environment: Environment
    started: AwareDatetime
    finished: AwareDatetime

    @property
    def best(self) -> float | None:
        """Accuracy at the epoch that is best on the test clips: the papers' habit,
        never used to select.
        """
        return max((point.accuracy for point in self.curve), default=None)


class TestClips(RecordPart):
    """The test clips of a data set under a split, in its order: what tables and comparisons need of
    the data.

    Attributes:
        labels: class of each; likewise `subjects`, -1 unknown.
        class_names: by class.
    """

    __test__ = False  # nothing for pytest

    schema_version: int = SCHEMA
    kind: Literal["test-clips"] = "test-clips"
    fingerprint: str
    labels: list[Class]
    subjects: list[Person]
    class_names: list[str]


def evaluation_address(
    run: str,
    protocol: str,
    options: Mapping[str, Any],
    which: WhichEncoder,
    weights: str,
    control: str,
    data: str = "",
) -> str:
    """Stable name of an evaluation, unique in its run's folder.

    Args:
        options: as they count: without those that came later and stand at their default.
        weights: SHA-256 of the encoder's file; empty for an untrained one, which the run's spec
            tells.
        data: fingerprint of one of the run's data sets, where they are several.
    """
    identity = {
        "run": run,
        "options": dict(options),
        "encoder": which,
        "weights": weights,
        "control": control,
    }
    identity |= {"data": data} if data else {}
    return f"{protocol}-v{_ADDRESS_RULE}-{digest({'protocol': protocol, **identity})}"


class Evaluations:
    """The evaluations of an output folder.

    Attributes:
        study: where it is given, none but those that name this study's file.
        others: addresses of those that `all` left out as they name another, or none.
        refused: records that were looked at and are not used.
    """

    def __init__(self, root: Path, study: str = "") -> None:
        self.root, self.study = root, study
        self.others: list[str] = []
        self.refused: dict[Path, Refusal] = {}

    def path(self, run: str, address: str) -> Path:
        """Where an evaluation lies."""
        return self.root / run / EVALUATIONS / f"{address}.json"

    def one(self, run: str, address: str) -> EvaluationRecord | None:
        """The record of an address; None when absent, or refused."""
        path, line = self.path(run, address), self.shelf.lines["evaluation"].get((run, address))
        self.refused.pop(path, None)
        place = path
        try:
            if path.exists():
                if line:
                    again = f"is the evaluation {run}/{address} again; {path} counts"
                    self.refused[line.place] = Refusal(line.place, again)
                return read_evaluation(path)
            if line:
                place = line.place
                return _consistent(validated(line.content, EvaluationRecord))
        except Refused as problem:
            self.refused[place] = problem.at(place)
        return None

    def addresses(self) -> list[tuple[str, str]]:
        """Run and address of all that are there, refused or not, in order."""
        paths = (
            path
            for path in self.root.glob(f"*/{EVALUATIONS}/*.json")
            if ".refused-" not in path.name
        )
        here = {(path.parents[1].name, path.stem) for path in paths}
        return sorted(
            (run, address)
            for run, address in [*here, *self.shelf.lines["evaluation"].keys() - here]
        )

    def all(self) -> Iterator[EvaluationRecord]:
        """All records that are not refused, sorted by run and address."""
        self.others.clear()
        for run, address in self.addresses():
            record = self.one(run, address)
            if record and self.study in ("", record.environment.study):
                yield record
            elif record:
                self.others.append(address)

    def clips_files(self) -> dict[str, Path | bytes]:
        """All test clips that are there, by the name of their file: the file,
        or what it would hold.
        """
        shelved = {
            self.test_clips_path(key[0]).name: line
            for key, line in self.shelf.lines["test-clips"].items()
        }
        here = {path.name: path for path in self.root.glob(_CLIPS_FILES)}
        found = {name: line.as_file() for name, line in shelved.items()} | here
        return dict(sorted(found.items()))

    def file_of(self, run: str, address: str) -> Path | bytes:
        """The file of an evaluation that was read; of one on the shelf,
        what its file would hold.
        """
        path, line = self.path(run, address), self.shelf.lines["evaluation"].get((run, address))
        return line.text if line and not path.exists() else path

    @cached_property
    def shelf(self) -> Shelf:
        """The records of the folder that lie in one file."""
        found = Shelf(self.root)
        for kind in ("evaluation", "test-clips"):
            self.refused |= {refusal.path: refusal for refusal in found.refused[kind]}
        return found

    @cached_property
    def _found(self) -> list[EvaluationRecord]:
        return list(self.all())

    def of(self, runs: Sequence[RunRecord]) -> list[EvaluationRecord]:
        """Evaluations of these runs as they are now: none of weights that a run had before it was
        run again. The folder is read once, however many tables of runs ask.
        """
        known = {record.address: record for record in runs}
        return [
            record
            for record in self._found
            if (run := known.get(record.run)) and belongs(record, run)
        ]

    def write(self, record: EvaluationRecord) -> None:
        """Write a record atomically."""
        content = (
            record.model_dump_json() + "\n"
        ).encode()  # one line: nobody reads a number a line
        write_atomically(self.path(record.run, record.address), content)

    def write_test_clips(self, clips: TestClips) -> None:
        """Leave labels and people of the test clips, once per data set."""
        if self.test_clips(clips.fingerprint) != clips:
            write_atomically(self.test_clips_path(clips.fingerprint), as_json(clips))

    def test_clips(self, fingerprint: str) -> TestClips | None:
        """Those of a data set by its fingerprint; None where nobody left them,
        or they cannot be read.
        """
        path, line = (
            self.test_clips_path(fingerprint),
            self.shelf.lines["test-clips"].get((fingerprint,)),
        )
        place = line.place if line and not path.exists() else path
        clips = None
        try:
            if path.exists():
                clips = parsed_record(path, TestClips)
            elif line:
                clips = validated(line.content, TestClips)
        except Refused as problem:
            self.refused[place] = problem.at(place)
        return clips if clips and clips.fingerprint == fingerprint else None

    def test_clips_path(self, fingerprint: str) -> Path:
        """Where the test clips of a data set lie."""
        return self.root / f"test-clips-{re.sub(r'[^A-Za-z0-9-]', '-', fingerprint)}.json"


def belongs(record: EvaluationRecord, run: RunRecord) -> bool:
    """An evaluation is of the run's encoder as it is now;
    records of before weights were kept name none.
    """
    own = set(run.weights.values())
    return bool(record.control) or not own or record.weights in own


def read_evaluation(path: Path) -> EvaluationRecord:
    """The evaluation of a file; `Refused` says why it is none, or not the one of its place."""
    record = parsed_record(path, EvaluationRecord)
    if record.address != path.stem or record.run != path.parent.parent.name:
        raise Refused(
            f"is the record of {record.run}/{EVALUATIONS}/{record.address}; each belongs at its"
            " address"
        )
    return _consistent(record)


def _consistent(record: EvaluationRecord) -> EvaluationRecord:
    """The record; `Refused` where it contradicts itself."""
    if (record.status == "ok") != (record.accuracy is not None):
        raise Refused(f"cannot be read (status {record.status} with accuracy {record.accuracy})")
    return record


# --- which cell of a table it belongs in ---

_CONTROLS = (RANDOM_INIT, RAW_FLOOR)
SELECTED = " (selected)"


def column_of(record: EvaluationRecord) -> str:
    """The protocol as asked for, all its draws together; which of several data sets; ``(selected)``
    where it is not the last encoder.
    """
    name, _, options = record.spec.partition(":")
    kept = [option for option in options.split(",") if option and not option.startswith("draw=")]
    where = f" on {record.of_set}" if record.of_set else ""
    selected = where + (SELECTED if record.encoder == "selected" else "")
    return f"{name}:{','.join(kept)}{selected}" if kept else f"{name}{selected}"


def row_of(record: EvaluationRecord) -> str:
    """The run's row; an untrained encoder of the open division is a row beside its method's."""
    return (
        f"{record.label} (untrained)"
        if record.control and record.label not in _CONTROLS
        else record.label
    )
