"""How far every run of a folder has come: from its records, claims and states, on whatever machine
looks.

A run is *done*, *diverged*, *failed*, *out of memory*, or has a claim: *running* while its owner
gives signs of life, else *stopped* like one that was stopped by a signal; the same `run` command
goes on with it, and with one that is done *without weights*, which could not be written. What waits
for its turn is in no file but the matrix that `run` leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.wording import counted, minutes
from harness.records.claims import Claim, Claims, read_claim, silence
from harness.records.evaluations import SELECTED, Evaluations
from harness.records.schema import RunRecord
from harness.records.store import (
    CLAIM_FILE,
    EVALUATIONS,
    Records,
    RecordStore,
    lost_weights,
    read_matrix,
)

COLUMNS = ("run", "seed", "is", "step", "loss", "linear", "clips/s", "left", "host", "sign of life")
ENDED = ("done", "diverged", "failed", "out of memory")
_WORDS = {"ok": "done", "oom": "out of memory", "interrupted": "stopped"}


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        address: the name of its folder.
        state: in a word or two.
        silent: seconds since the last sign of life; None where none is expected.
    """

    address: str
    label: str
    seed: int
    state: str
    step: int = 0
    steps: int = 0
    loss: float | None = None
    accuracy: float | None = None
    clips_per_second: float | None = None
    left: float | None = None
    host: str = ""
    silent: float | None = None

    @property
    def at_work(self) -> bool:
        """A process works on it."""
        return self.silent is not None and self.state != "stopped"

    @property
    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self)

    def cells(self, name: str) -> list[str]:
        """For a table, in the order of `COLUMNS`."""
        share = f" ({self.step / self.steps:.0%})" if self.steps else ""
        return [
            name,
            str(self.seed),
            self.state,
            (
                f"{self.step:,} of {self.steps:,}{share}"
                if self.steps
                else f"{self.step:,}"
                if self.step
                else ""
            ),
            "" if self.loss is None else f"{self.loss:.4g}",
            "" if self.accuracy is None else f"{self.accuracy:.1%}",
            "" if self.clips_per_second is None else f"{self.clips_per_second:,.0f}",
            "" if self.left is None else minutes(self.left),
            self.host,
            "" if self.silent is None else f"{minutes(max(0.0, self.silent))} ago",
        ]


def read_status(folder: Path, found: Records | None = None) -> list[Row]:
    """A row for every run of a folder: those of the matrix in its order, then the others. Loads no
    torch.

    Args:
        found: the folder's records, where they were just read.
    """
    claims, matrix, store = Claims(folder), read_matrix(folder), RecordStore.existing(folder)
    records = {record.address: record for record in (found.runs if found else store.runs())}
    refused = {
        refusal.address
        for refusal in (found.refused if found else store.refused.values())
        if refusal.of_record
    }
    held = {
        path.parent.name: claim
        for path in sorted(folder.glob(f"*/{CLAIM_FILE}"))
        if (claim := _look_at(path))
    }
    elsewhere = {
        other for record in records.values() for other in record.spec.addresses
    } - records.keys()
    asked = [
        address for address in matrix if address not in elsewhere
    ]  # else done under an earlier rule's address
    rows = []
    for address in dict.fromkeys([*asked, *records, *held]):
        record, claim = records.get(address), held.get(address)
        path = folder / address / CLAIM_FILE
        if claim and not (record and _left_behind(record, claim, path, claims)):
            rows.append(_of_claim(path, claim, claims))
        elif record:
            rows.append(_of_record(record))
        elif address in refused:
            rows.append(Row(address, *matrix[address], "refused"))
        else:
            label, seed = matrix[address]
            rows.append(
                Row(
                    address,
                    label,
                    seed,
                    "stopped" if list((folder / address).glob("state-*.json")) else "waiting",
                )
            )
    return rows


def _look_at(path: Path) -> Claim | None:
    """A claim; None where it cannot be read."""
    try:
        return read_claim(path)
    except OSError:
        return None


def _left_behind(record: RunRecord, claim: Claim, path: Path, claims: Claims) -> bool:
    """Whether the owner of a claim finished its run and died before it took the claim away.

    One that was at a rerun has an older record beside its claim.
    """
    return (
        record.status != "interrupted"
        and record.finished >= claim.since
        and not claims.alive(path, claim)
    )


def _of_claim(path: Path, claim: Claim, claims: Claims) -> Row:
    """A run that a process has, or had when it died."""
    alive, at = claims.alive(path, claim), claim.progress
    rate = at.clips / at.seconds if at.seconds else None
    left = at.seconds / at.step * (at.steps - at.step) if at.step and at.steps else None
    return Row(
        path.parent.name,
        claim.label,
        claim.seed,
        (at.doing or "running") if alive else "stopped",
        at.step,
        at.steps,
        at.loss,
        at.accuracy,
        rate,
        left if alive else None,
        claim.host,
        silence(path),
    )


def _of_record(record: RunRecord) -> Row:
    """A run that left a record."""
    training, accuracy = (
        record.training,
        record.accuracy or (record.curve[-1].accuracy if record.curve else None),
    )
    rate = training.clips_seen / training.seconds if training and training.seconds else None
    losses = training.losses if training else []
    return Row(
        record.address,
        record.label,
        record.spec.seed,
        "without weights" if lost_weights(record) else _WORDS.get(record.status, record.status),
        training.steps if training else 0,
        loss=losses[-1]["loss"] if losses else None,
        accuracy=accuracy.linear_test if accuracy else None,
        clips_per_second=rate,
    )


def table_cells(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as a table's; where one method and seed has several runs, by their folders."""
    shared = Counter((row.label, row.seed) for row in rows)
    return [
        row.cells(row.label if shared[row.label, row.seed] == 1 else row.address) for row in rows
    ]


def not_done(folder: Path, found: Records) -> list[str]:
    """A line where runs of a folder are not done, below its table,
    which has no rows of those without a record.
    """
    rows = [row for row in read_status(folder, found) if row.state not in ENDED]
    return [f"runs of this folder not done: {summary(rows)}; `status {folder}`"] if rows else []


def summary(rows: list[Row]) -> str:
    """``12 runs: 9 done, 2 at work, 1 waiting; about 3.4 h left of the longest``."""
    states = Counter("at work" if row.at_work else row.state for row in rows)
    left = [row.left for row in rows if row.left is not None]
    tail = f"; about {minutes(max(left))} left of the longest at work" if left else ""
    return (
        f"{counted(len(rows), 'run')}:"
        f" {', '.join(f'{number} {state}' for state, number in states.items())}{tail}"
    )


def evaluation_lines(folder: Path, runs: Sequence[RunRecord]) -> list[str]:
    """A line for each protocol of the folder's evaluations: how they ended,
    and how many trained runs have none.
    """
    states: dict[str, Counter[str]] = {}
    evaluated: dict[str, set[str]] = {}
    for record in Evaluations(folder).of(runs):
        name = f"{record.spec}{SELECTED if record.encoder == 'selected' else ''}"
        states.setdefault(name, Counter())[_WORDS.get(record.status, record.status)] += 1
        evaluated.setdefault(name, set()).update([record.run] * (not record.control))
    trained = {run.address for run in runs if run.status == "ok" and run.training}
    lines = []
    for name, ended in states.items():
        without = len(trained - evaluated[name])
        said = [f"{count} {state}" for state, count in ended.most_common()]
        said += [f"{counted(without, 'run')} without"] * bool(without)
        lines.append(f"{name}: {', '.join(said)}")
    claims, at_work = Claims(folder), []
    for path in sorted(folder.glob(f"*/{EVALUATIONS}/*/{CLAIM_FILE}")):
        if (claim := _look_at(path)) and claims.alive(path, claim):
            at_work.append(
                f"{claim.label}, seed {claim.seed}: {path.parent.name.partition('-v')[0]}"
            )
    return [*lines, *([f"evaluations at work: {'; '.join(at_work)}"] if at_work else [])]
