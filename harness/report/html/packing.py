"""Records inside a page: whole, small, and nothing that a browser would take for markup."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass

from harness.records.evaluations import EvaluationRecord
from harness.records.schema import RunRecord, SpeedRecord

AnyRecord = RunRecord | SpeedRecord | EvaluationRecord


@dataclass(frozen=True)
class Entry:
    """A record and its place in the page.

    Attributes:
        number: of the record in the page, from 0; its line, from 1, in the file beside it.
    """

    number: int
    record: AnyRecord

    @property
    def anchor(self) -> str:
        """Where in the page it stands."""
        return f"r{self.number}"


def identity(record: AnyRecord) -> tuple[object, ...]:
    """What tells a record from all others: folders may hold other measurements under the same
    address.
    """
    run = record.run if isinstance(record, EvaluationRecord) else ""
    return type(record), run, record.address, record.started, record.finished


def as_line(record: AnyRecord) -> str:
    """The record as JSON on one line; of an evaluation without its predictions,
    a number for each test clip.
    """
    if not isinstance(record, EvaluationRecord):
        return record.model_dump_json()
    plain = record.model_dump(mode="json")
    plain["predictions"] = f"{len(record.predictions)} classes, in the record of the folder"
    return json.dumps(plain, separators=(",", ":"))


def packed(entries: Sequence[Entry]) -> str:
    """All records, zipped, as letters and digits."""
    lines = "\n".join(as_line(entry.record) for entry in entries)
    return base64.b64encode(gzip.compress(lines.encode(), mtime=0)).decode()
