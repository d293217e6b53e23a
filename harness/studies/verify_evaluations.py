"""Is what evaluations say consistent: with their runs, with their predictions, with each other?"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.records.evaluations import EvaluationRecord, Evaluations, TestClips
from harness.records.schema import RunRecord

TOLERANCE = 1e-6
"""Relative; numbers are recorded in full, but libraries may round the last digits
of a logarithm differently.
"""


def differences_of_evaluations(folder: Path, runs: Sequence[RunRecord]) -> tuple[int, list[str]]:
    """How many evaluations a folder has, and a line for each difference,
    beginning with the record's place.
    """
    done, of = Evaluations(folder), {run.address: run for run in runs}
    records = list(done.all())
    lines = [
        f"{one.address}: {one.reason}"
        if one.of_record
        else f"{one.path.parents[1].name}/{one.path.stem}: {one.reason}"  # run and address
        for one in done.refused.values()
    ]
    subsets: dict[object, str] = {}
    for record in records:
        found, clips, run = list[str](), done.test_clips(record.data), of.get(record.run)
        found += ["the record of its run is not here"] if run is None else _of_its_run(record, run)
        if clips is None:
            found.append(f"the labels of its test clips ({record.data}) are not there")
        if record.status == "ok":
            found += [*(_predicted(record, clips) if clips else ()), *_looked(record)]
            if record.subset != (other := subsets.setdefault(_trained_on(record), record.subset)):
                found.append(
                    f"labelled subset {record.subset or 'none'}, another row has {other or 'none'}"
                )
        lines += [f"{record.run}/{record.address}: {line}" for line in found]
    return len(records) + len(done.refused), lines


def _of_its_run(record: EvaluationRecord, run: RunRecord) -> Iterator[str]:
    """What an evaluation says otherwise than the run whose encoder it read."""
    data = next((one for one in run.data.sets if one.name == record.of_set), run.data)
    for what, own, expected in (
        ("row", record.label, run.label),
        ("seed", record.seed, run.spec.seed),
        ("data", record.data, data.fingerprint),
    ):
        if own != expected:
            yield f"{what} {own}, its run has {expected}"
    side = data.train_clips + data.validation_clips
    if record.status == "ok" and not (
        record.labelled <= side if record.subset else record.labelled == side
    ):
        yield f"{record.labelled} labelled clips, the training side has {side}"


def _predicted(record: EvaluationRecord, clips: TestClips) -> Iterator[str]:
    """What does not follow from the predictions."""
    if len(record.predictions) != len(clips.labels):
        yield f"{len(record.predictions)} predictions of {len(clips.labels)} test clips"
        return
    if (most := max(record.predictions, default=0)) >= len(clips.class_names):
        yield f"class {most} is predicted, of {len(clips.class_names)} classes"
    right = sum(map(operator.eq, record.predictions, clips.labels)) / max(1, len(clips.labels))
    if record.accuracy is None or abs(right - record.accuracy) > TOLERANCE:
        yield f"accuracy {record.accuracy}, its predictions give {right}"


def _looked(record: EvaluationRecord) -> Iterator[str]:
    """What is wrong with the curve: each accuracy is a number of clips,
    the last one that which counts.
    """
    clips, epochs = len(record.predictions), [point.epoch for point in record.curve]
    for point in record.curve:
        if not whole(point.accuracy * clips):
            yield (
                f"epoch {point.epoch}: accuracy {point.accuracy:g} is no number of {clips} test"
                " clips"
            )
    if not record.curve:
        return
    if record.accuracy is None or abs(record.curve[-1].accuracy - record.accuracy) > TOLERANCE:
        yield f"accuracy {record.accuracy}, its curve ends at {record.curve[-1].accuracy}"
    last = record.options.get("epochs", epochs[-1])
    if epochs != sorted(set(epochs)) or epochs[-1] != last:
        yield f"a curve over epochs {', '.join(map(str, epochs))}, expected them to rise to {last}"


def _trained_on(record: EvaluationRecord) -> object:
    """Rows that are alike in this have the same labelled clips: a draw that is an option is
    everybody's, else a seed's.

    A control of its own has its own options, and the spec that was asked for is one.
    """
    drawn = record.options.get("draw")
    return record.data, record.spec, record.seed if drawn is None else ""


def whole(number: float) -> bool:
    """A number of clips, to rounding."""
    return math.isclose(number, round(number), rel_tol=0, abs_tol=TOLERANCE * max(1.0, number))
