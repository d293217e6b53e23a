"""What no run writes: a record whose parts exclude each other, however it came about.

Limits of a single number are in its type (`harness.records.schema`); numbers that follow from
others are computed again by `harness.studies.verify`. Here is what every reader of a record counts
on, so a record that breaks it is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.records.schema import RANDOM_INIT, RAW_FLOOR, RunRecord, SpeedRecord


def contradictions(record: RunRecord | SpeedRecord) -> Iterator[str]:
    """What a record says that cannot be true at once, a few words each."""
    if isinstance(record, RunRecord):
        yield from _of_row(record)
        yield from _of_status(record)
    else:
        yield from _of_measurement(record)


def _of_row(record: RunRecord) -> Iterator[str]:
    """The label is that of the method that ran, and a control trains nothing."""
    name, options = record.label.partition(":")[::2]
    unknown = (
        set(options.split(",")) - set(str(record.spec.method).partition(":")[2].split(",")) - {""}
    )
    if name != record.spec.method.name or unknown:
        yield f"the label {record.label} on a run of {record.spec.method}"
    if record.spec.method.name not in (RANDOM_INIT, RAW_FLOOR):
        return
    trained = [
        part
        for part in ("training", "curve", "untrained", "weights", "doubts")
        if getattr(record, part)
    ]
    if trained or not record.method.control:
        yield f"a control with {', '.join(trained) or 'a method'}"


def _of_status(record: RunRecord) -> Iterator[str]:
    """A run that went well, and no other, has an accuracy, and what it comes from."""
    if (record.accuracy is not None) != (record.status == "ok"):
        yield f"status {record.status} {'with' if record.accuracy else 'without'} an accuracy"
    if record.status != "ok":
        return
    if record.error or record.traceback:
        yield "status ok with an error"
    needed = {RAW_FLOOR: (), RANDOM_INIT: ("encoder",)}.get(
        record.spec.method.name, ("encoder", "training", "curve")
    )
    if missing := [part for part in needed if not getattr(record, part)]:
        yield f"status ok without {', '.join(missing)}"


def _of_measurement(record: SpeedRecord) -> Iterator[str]:
    """Every row was timed once, a block in each round, and no more blocks were disturbed than there
    are.
    """
    twice = [
        label for label, times in Counter(arm.label for arm in record.arms).items() if times > 1
    ]
    if twice:
        yield f"two rows called {', '.join(twice)}"
    blocks = {arm.label: len(arm.blocks) for arm in record.arms}
    first, rounds = next(iter(blocks), ""), sum(record.rounds)
    other = next((label for label in blocks if blocks[label] != blocks[first]), "")
    if other:  # ratios pair them by round
        yield f"{blocks[first]} blocks of {first}, {blocks[other]} of {other}"
    elif blocks and rounds and rounds != blocks[first]:
        yield f"{blocks[first]} blocks of each row in {rounds} rounds"
    if record.health and record.health.disturbed > record.health.blocks:
        yield f"{record.health.disturbed} of {record.health.blocks} blocks disturbed"
