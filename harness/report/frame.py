"""What records hold as tidy frames: numbers, before any of them becomes text.

A row per run, evaluation, arm or block; names and types of columns are the same whatever the
records hold. What is missing is NaN in columns of floats and ``pd.NA`` in others. Accuracies are
shares of 1, times UTC, seconds those of the training clock unless a name says otherwise. Tables,
figures, pages and ``.csv`` files are made from these frames; no reader of one takes a number out of
a string. Nothing is computed here that another module computes: frames lay out.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.records.differences import (
    Pair,
    Row,
    as_good_as,
    best,
    clips_interval,
    pairs,
    seeds_interval,
)
from harness.records.doubts import doubts_of, kinds
from harness.records.evaluations import EvaluationRecord, Evaluations, column_of, row_of
from harness.records.ratios import disturbed_share, inside_floor
from harness.records.schema import (
    BODIES_PER_CLIP,
    BOUND,
    RANDOM_INIT,
    RAW_FLOOR,
    STAGE_MARK,
    Accuracy,
    ArmRecord,
    Doubt,
    RunRecord,
    SpeedRecord,
)
from harness.report.cells import Figures
from harness.studies.compare import PROBES, best_points, draw_of, probe_columns

if TYPE_CHECKING:
    from harness.report.folder import FolderTable

TEXT, WHOLE, NUMBER, TRUTH, _TIME = "string", "Int64", "float64", "boolean", "datetime64[us, UTC]"
"""Types of columns."""

_LARGEST = 2**63 - 1
"""No whole number of a frame is larger; a record may claim one that is."""
BEST, AS_GOOD = "best", "~best"
"""Marks of the method with the highest mean, and of those that are not told apart from it."""

Columns = Mapping[str, str]
"""Type of every column, by its name, in their order."""

RUN_COLUMNS: Columns = {
    "address": TEXT,
    "label": TEXT,
    "method": TEXT,
    "seed": WHOLE,
    "division": TEXT,
    "control": TRUTH,
    "dataset": TEXT,
    "data_fingerprint": TEXT,
    "split": TEXT,
    "encoder": TEXT,
    "budget": TEXT,
    "batch_size": WHOLE,
    "lr": NUMBER,
    "precision": TEXT,
    "held_equal": TEXT,
    "status": TEXT,
    "error": TEXT,
    "in_doubt": TEXT,
    "device": TEXT,
    "machine": TEXT,
    "commit": TEXT,
    "started": _TIME,
    "finished": _TIME,
    "steps": WHOLE,
    "clips_seen": NUMBER,
    "seconds": NUMBER,
    "interleaved_seconds": NUMBER,
    "wall_seconds": NUMBER,
    "flops": NUMBER,
    "linear": NUMBER,
    "knn": NUMBER,
    "linear_validation": NUMBER,
    "knn_validation": NUMBER,
    "selection": NUMBER,
    "regularisation": NUMBER,
    "best_linear": NUMBER,
    "best_knn": NUMBER,
    "untrained_linear": NUMBER,
    "untrained_knn": NUMBER,
    "test_clips": WHOLE,
    "untracked": NUMBER,
}
POINT_COLUMNS: Columns = {
    "address": TEXT,
    "label": TEXT,
    "seed": WHOLE,
    "step": WHOLE,
    "clips_seen": NUMBER,
    "seconds": NUMBER,
    "interleaved_seconds": NUMBER,
    "linear": NUMBER,
    "knn": NUMBER,
    "selection": NUMBER,
}
LOSS_COLUMNS: Columns = {
    "address": TEXT,
    "label": TEXT,
    "seed": WHOLE,
    "step": WHOLE,
    "loss": NUMBER,
}
EVALUATION_COLUMNS: Columns = {
    "run": TEXT,
    "address": TEXT,
    "label": TEXT,
    "seed": WHOLE,
    "protocol": TEXT,
    "spec": TEXT,
    "column": TEXT,
    "row": TEXT,
    "draw": WHOLE,
    "encoder": TEXT,
    "control": TEXT,
    "data_fingerprint": TEXT,
    "status": TEXT,
    "error": TEXT,
    "accuracy": NUMBER,
    "best": NUMBER,
    "test_clips": WHOLE,
    "labelled": WHOLE,
    "subset": TEXT,
    "seconds": NUMBER,
    "device": TEXT,
    "machine": TEXT,
    "commit": TEXT,
    "started": _TIME,
    "finished": _TIME,
}
ARM_COLUMNS: Columns = {
    "measurement": TEXT,
    "label": TEXT,
    "method": TEXT,
    "stage": TEXT,
    "baseline": TEXT,
    "division": TEXT,
    "open": TRUTH,
    "control": TRUTH,
    "bound": TRUTH,
    "batch_size": WHOLE,
    "step_seconds": NUMBER,
    "clips_per_second": NUMBER,
    "speedup": NUMBER,
    "speedup_low": NUMBER,
    "speedup_high": NUMBER,
    "within_noise": TRUTH,
    "flop_ratio": NUMBER,
    "gflops_per_clip": NUMBER,
    "step_flops": NUMBER,
    "matmul_flops": NUMBER,
    "peak_bytes": WHOLE,
    "verdict": TEXT,
    "doubts": TEXT,
    "same": NUMBER,
    "same_low": NUMBER,
    "same_high": NUMBER,
    "floor": NUMBER,
    "rounds": WHOLE,
    "disturbed_share": NUMBER,
    "warmup_seconds": NUMBER,
    "host_step_seconds": NUMBER,
    "launch_bound": TRUTH,
    "epochs": WHOLE,
    "dataset": TEXT,
    "data_fingerprint": TEXT,
    "split": TEXT,
    "encoder": TEXT,
    "precision": TEXT,
    "device": TEXT,
    "machine": TEXT,
    "commit": TEXT,
    "rules": TEXT,
    "finished": _TIME,
}
BLOCK_COLUMNS: Columns = {
    "measurement": TEXT,
    "label": TEXT,
    "block": WHOLE,
    "process": WHOLE,
    "seconds_per_step": NUMBER,
    "clips_per_second": NUMBER,
}
SUMMARY_COLUMNS: Columns = {
    "label": TEXT,
    "kind": TEXT,
    "open": TRUTH,
    "seeds": WHOLE,
    "test_clips": WHOLE,
    **{
        f"{name}{part}": TEXT if part == "_mark" else NUMBER
        for name in ("linear", "knn")
        for part in ("", "_sd", "_low", "_high", "_mark")
    },
    "best_point": NUMBER,
    "best_point_sd": NUMBER,
    "best_point_low": NUMBER,
    "best_point_high": NUMBER,
    "vs_random": NUMBER,
    "clips_seen": NUMBER,
    "interleaved_seconds": NUMBER,
    "wall_seconds": NUMBER,
    "clips_per_second": NUMBER,
    "speedup": NUMBER,
    "speedup_low": NUMBER,
    "speedup_high": NUMBER,
    "within_noise": TRUTH,
    "flop_ratio": NUMBER,
    "gflops_per_clip": NUMBER,
    "peak_mb": NUMBER,
    "judgement": TEXT,
    "status": TEXT,
    "baseline": TEXT,
    "floor": NUMBER,
    "disturbed_share": NUMBER,
}


def typed(rows: Iterable[Figures], columns: Columns) -> pd.DataFrame:
    """Rows as a frame of these columns; what rows have besides stands behind them, as floats."""
    rows = list(rows)
    more = dict.fromkeys(name for row in rows for name in row if name not in columns)
    kinds_of = {**columns, **dict.fromkeys(more, NUMBER)}
    return pd.DataFrame(
        {name: _column([row.get(name) for row in rows], kind) for name, kind in kinds_of.items()}
    )


def _column(values: Sequence[Any], kind: str) -> pd.Series:
    if kind == _TIME:
        return pd.Series([value and value.astimezone(UTC) for value in values], dtype=kind)
    if kind == NUMBER:
        return pd.Series([np.nan if value is None else value for value in values], dtype=kind)
    if kind == WHOLE:
        values = [None if value is None else min(int(value), _LARGEST) for value in values]
    return pd.Series(list(values), dtype=kind)


# --- runs ---


def runs_frame(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """A row per run, controls among them; `RUN_COLUMNS`.

    A control has no budget, batch, learning rate or precision: it was not trained.
    ``in_doubt`` has the kinds of doubt that the record itself holds; what runs give away beside
    each other stands in `summary_frame`.
    """
    return typed(map(_run, runs), RUN_COLUMNS)


def _run(record: RunRecord) -> Figures:
    spec, training, environment = record.spec, record.training, record.environment
    train = None if is_control(record) else spec.train
    return {
        **_of_run(record),
        "method": spec.method.name,
        "division": record.method.division,
        "control": is_control(record),
        "dataset": record.data.name,
        "data_fingerprint": record.data.fingerprint,
        "split": spec.data.split,
        "encoder": spec.encoder.size,
        "budget": train and train.budget,
        "batch_size": train and train.batch_size,
        "lr": train and train.lr,
        "precision": train and train.precision,
        "held_equal": spec.held_equal,
        "status": record.status,
        "error": record.error,
        "in_doubt": _kinds(record.doubts),
        "device": environment.device,
        "machine": environment.fingerprint,
        "commit": environment.commit,
        "started": record.started,
        "finished": record.finished,
        "steps": training and training.steps,
        "clips_seen": training and training.clips_seen,
        "seconds": training and training.seconds,
        "interleaved_seconds": interleaved_seconds(record),
        "wall_seconds": record.wall_seconds,
        "flops": training and training.flops,
        **_accuracies("", record.accuracy),
        "linear_validation": record.accuracy and record.accuracy.linear_validation,
        "knn_validation": record.accuracy and record.accuracy.knn_validation,
        "regularisation": record.accuracy and record.accuracy.regularisation,
        "best_linear": max((point.accuracy.linear_test for point in record.curve), default=None),
        "best_knn": max((point.accuracy.knn_test for point in record.curve), default=None),
        "untrained_linear": record.untrained and record.untrained.linear_test,
        "untrained_knn": record.untrained and record.untrained.knn_test,
        "test_clips": record.data.test_clips,
        "untracked": record.untracked,
    }


def _of_run(record: RunRecord) -> Figures:
    return {"address": record.address, "label": record.label, "seed": record.spec.seed}


def _accuracies(prefix: str, accuracy: Accuracy | None) -> Figures:
    return {
        f"{prefix}linear": accuracy and accuracy.linear_test,
        f"{prefix}knn": accuracy and accuracy.knn_test,
        f"{prefix}selection": accuracy and accuracy.selection,
    }


def is_control(record: RunRecord) -> bool:
    """The untrained encoder, or raw coordinates."""
    return record.label in (RANDOM_INIT, RAW_FLOOR)


def interleaved_seconds(record: RunRecord) -> float | None:
    """The run's steps at the interleaved step time; None where it was not kept."""
    training = record.training
    if training is None or training.interleaved_step_seconds is None:
        return None
    return training.steps * training.interleaved_step_seconds


def _kinds(doubts: Iterable[Doubt]) -> str:
    return ", ".join(dict.fromkeys(doubt.kind for doubt in doubts))


def points_frame(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """A row per evaluation during training; `POINT_COLUMNS` and the diagnosis of features,
    ``diag_*``.

    ``interleaved_seconds``: the steps until then at the interleaved step time.
    """
    return typed(
        (
            {
                **_of_run(record),
                "step": point.step,
                "clips_seen": point.clips_seen,
                "seconds": point.seconds,
                "interleaved_seconds": _at_interleaved(record, point.step),
                **_accuracies("", point.accuracy),
                **{f"diag_{name}": value for name, value in point.diagnosis.items()},
            }
            for record in runs
            for point in record.curve
        ),
        POINT_COLUMNS,
    )


def _at_interleaved(record: RunRecord, step: int) -> float | None:
    seconds = record.training.interleaved_step_seconds if record.training else None
    return None if seconds is None else step * seconds


def losses_frame(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """A row per block of training steps; `LOSS_COLUMNS` and the means
    of the loss's named parts, ``part_*``.
    """
    return typed(
        (
            {
                **_of_run(record),
                "step": int(means["step"]),
                "loss": means["loss"],
                **{
                    f"part_{name}": value
                    for name, value in means.items()
                    if name not in ("step", "loss")
                },
            }
            for record in runs
            if record.training
            for means in record.training.losses
        ),
        LOSS_COLUMNS,
    )


# --- evaluations ---


def evaluations_frame(runs: Sequence[RunRecord], evaluations: Evaluations) -> pd.DataFrame:
    """A row per evaluation of these runs as they are now, under the labels that they have here."""
    labels = {record.address: record.label for record in runs}
    return of_evaluations(
        record.model_copy(update={"label": labels[record.run]}) for record in evaluations.of(runs)
    )


def of_evaluations(records: Iterable[EvaluationRecord]) -> pd.DataFrame:
    """A row per evaluation; `EVALUATION_COLUMNS` and further accuracies
    that came along, ``figure_*``.
    """
    return typed(map(_evaluation, records), EVALUATION_COLUMNS)


def _evaluation(record: EvaluationRecord) -> Figures:
    draw = draw_of(record)
    return {
        "run": record.run,
        "address": record.address,
        "label": record.label,
        "seed": record.seed,
        "protocol": record.protocol,
        "spec": record.spec,
        "column": column_of(record),
        "row": row_of(record),
        "draw": draw if isinstance(draw, int) else None,
        "encoder": record.encoder,
        "control": record.control,
        "data_fingerprint": record.data,
        "status": record.status,
        "error": record.error,
        "accuracy": record.accuracy,
        "best": record.best,
        "test_clips": len(record.predictions),
        "labelled": record.labelled,
        "subset": record.subset,
        "seconds": record.seconds,
        "device": record.environment.device,
        "machine": record.environment.fingerprint,
        "commit": record.environment.commit,
        "started": record.started,
        "finished": record.finished,
        **{f"figure_{name}": value for name, value in record.figures.items()},
    }


# --- speed ---


def arms_frame(speeds: Iterable[SpeedRecord]) -> pd.DataFrame:
    """A row per arm of each measurement; `ARM_COLUMNS` and seconds of each phase of its steps,
    ``phase_*``.

    ``speedup`` and ``flop_ratio`` are missing where none may be formed (`comparable`), and
    ``verdict`` with them; the baseline's own is 1. ``verdict`` is the one that the measurement
    kept; ``within_noise``: no speedup is printed.
    """
    return typed((_arm(arm, speed) for speed in speeds for arm in speed.arms), ARM_COLUMNS)


def _arm(arm: ArmRecord, speed: SpeedRecord) -> Figures:
    method, _, stage = arm.label.partition(STAGE_MARK)
    spec, environment = speed.spec, speed.environment
    return {
        "measurement": speed.address,
        "method": method,
        "stage": stage,
        "division": arm.division,
        "control": arm.control,
        "bound": method == BOUND,
        "batch_size": arm.batch_size or speed.batch_size,
        "step_seconds": arm.step_seconds,
        "step_flops": arm.step_flops,
        "matmul_flops": speed.matmul_flops,
        "peak_bytes": arm.peak_bytes,
        "verdict": arm.verdict if comparable(arm, speed) and arm.label != speed.baseline else None,
        "doubts": _kinds(arm.doubts),
        "same": speed.same.value,
        "same_low": speed.same.low,
        "same_high": speed.same.high,
        "rounds": len(arm.blocks),
        "warmup_seconds": arm.warmup_seconds,
        "host_step_seconds": arm.host_step_seconds,
        "launch_bound": arm.launch_bound,
        "epochs": arm.epochs,
        "dataset": speed.data.name,
        "data_fingerprint": speed.data.fingerprint,
        "split": spec["data"]["split"],
        "encoder": spec["encoder"]["size"],
        "precision": spec["train"]["precision"],
        "device": environment.device,
        "machine": environment.fingerprint,
        "commit": environment.commit,
        "rules": speed.rules,
        "finished": speed.finished,
        **speed_figures(arm, speed),
        **{f"phase_{name}": seconds for name, seconds in arm.phases.items()},
    }


def speed_figures(arm: ArmRecord, speed: SpeedRecord) -> Figures:
    """What tables of speed and of accuracy have in common of an arm."""
    judged, batch_size = comparable(arm, speed), arm.batch_size or speed.batch_size
    return {
        "label": arm.label,
        "open": arm.division == "open",
        "clips_per_second": arm.clips_per_second,
        "speedup": arm.ratio.value if judged else None,
        "speedup_low": arm.ratio.low if judged else None,
        "speedup_high": arm.ratio.high if judged else None,
        "within_noise": judged
        and arm.label != speed.baseline
        and inside_floor(arm.ratio, speed.floor),
        "flop_ratio": arm.flop_ratio if judged else None,
        "gflops_per_clip": arm.step_flops / batch_size * BODIES_PER_CLIP / 1e9,
        "baseline": speed.baseline,
        "floor": speed.floor,
        "disturbed_share": disturbed_share(speed),
    }


def comparable(arm: ArmRecord, speed: SpeedRecord) -> bool:
    """A speedup may be formed: both the arm and the baseline train the shared encoder."""
    baseline = speed.arm(speed.baseline)
    return arm.division == "closed" and (baseline is None or baseline.division == "closed")


def blocks_frame(speeds: Iterable[SpeedRecord]) -> pd.DataFrame:
    """A row per block of each arm, in the order of the rounds; `BLOCK_COLUMNS`.

    ``block`` and ``process`` count from 1; ``clips_per_second`` is missing where clips per step
    were not kept.
    """
    return typed(
        (
            {
                "measurement": speed.address,
                "label": arm.label,
                "block": number,
                "process": 1 + int(np.searchsorted(np.cumsum(speed.rounds), number))
                if speed.rounds
                else 1,
                "seconds_per_step": seconds,
                "clips_per_second": arm.clips / seconds if arm.clips else None,
            }
            for speed in speeds
            for arm in speed.arms
            for number, seconds in enumerate(arm.blocks, 1)
        ),
        BLOCK_COLUMNS,
    )


# --- rows of a folder's table ---


def summary_frame(table: FolderTable) -> pd.DataFrame:
    """A row per row of a folder's table; `SUMMARY_COLUMNS`."""
    return summary(table.runs, table.speed)


def summary(records: Sequence[RunRecord], speed: SpeedRecord | None) -> pd.DataFrame:
    """A row per method, then the controls, then what was measured in speed alone, as the
    decoder-free bound.

    ``kind`` is ``method``, ``control`` or ``bound``. Accuracies are means over the ``seeds`` that
    ended, with standard deviation and 95 % interval: over seeds or, of one seed, over test clips.
    ``*_mark``: ``best``, ``~best`` (not told apart from it) or empty. ``judgement`` is on "trains
    faster than the baseline"; ``status`` names how runs ended that did not end well.
    """
    random = _mean(_values(_of(records, RANDOM_INIT), PROBES["linear"]))
    arms = speed.arms if speed else []
    trained = [record.label for record in records if not is_control(record)]
    labels = list(dict.fromkeys(trained or [arm.label for arm in arms if not arm.control]))
    marked = {
        column.name: standing(column.rows, pairs(column.rows)) for column in probe_columns(records)
    }
    controls = [label for label in (RANDOM_INIT, RAW_FLOOR) if _of(records, label)]
    alone = [arm.label for arm in arms if arm.label not in labels]
    shown = [
        *((label, random) for label in labels),
        *((label, None) for label in [*controls, *alone]),
    ]
    return typed(
        (_summary(label, records, speed, floor, marked) for label, floor in shown), SUMMARY_COLUMNS
    )


def _summary(
    label: str,
    everything: Sequence[RunRecord],
    speed: SpeedRecord | None,
    random: float | None,
    marked: Mapping[str, Mapping[str, str]],
) -> Figures:
    records, arm = _of(everything, label), speed.arm(label) if speed else None
    ok = [record for record in records if record.status == "ok"]
    own_encoder = _is_open(records, arm)
    linear, untrained = (
        _mean(_values(ok, PROBES["linear"])),
        _mean([record.untrained.linear_test for record in ok if record.untrained])
        if own_encoder
        else random,
    )
    clips = ok[0].data.test_clips if ok else 0
    trained = [record.training for record in ok if record.training]
    interleaved = [seconds for record in ok if (seconds := interleaved_seconds(record)) is not None]
    control = label in (RANDOM_INIT, RAW_FLOOR) or (arm is not None and arm.control)
    return {
        **(speed_figures(arm, speed) if arm and speed else {}),
        "label": label,
        "kind": "bound" if label == BOUND else "control" if control else "method",
        "open": own_encoder,
        "seeds": len(ok),
        "test_clips": clips or None,
        **accuracy_figures("linear", _values(ok, PROBES["linear"]), clips),
        "linear_mark": marked.get("linear", {}).get(label, ""),
        **accuracy_figures("knn", _values(ok, PROBES["kNN-1"]), clips),
        "knn_mark": marked.get("kNN-1", {}).get(label, ""),
        **accuracy_figures(
            "best_point", best_points(ok, PROBES["linear"]).get(label, []), clips, chosen=True
        ),
        "vs_random": None if linear is None or untrained is None else linear - untrained,
        "clips_seen": _mean([training.clips_seen for training in trained]),
        "interleaved_seconds": _mean(interleaved),
        "wall_seconds": _mean([training.seconds for training in trained]),
        "peak_mb": arm.peak_bytes / 1e6 if arm and arm.peak_bytes is not None else None,
        "judgement": judgement(label, everything, speed),
        "status": ", ".join(sorted({record.status for record in records if record.status != "ok"})),
    }


def gains_of(records: Sequence[RunRecord], value: Callable[[Accuracy], float]) -> dict[str, float]:
    """Mean of each method's row above that of its encoder before training;
    rows of which both are known.
    """
    random = _mean(_values(_of(records, RANDOM_INIT), value))
    gains = {}
    for label in dict.fromkeys(record.label for record in records if not is_control(record)):
        rows = [record for record in _of(records, label) if record.status == "ok"]
        own = _mean([value(record.untrained) for record in rows if record.untrained])
        trained, untrained = _mean(_values(rows, value)), own if _is_open(rows, None) else random
        if trained is not None and untrained is not None:
            gains[label] = trained - untrained
    return gains


def accuracy_figures(
    name: str, values: Sequence[float], clips: int, *, chosen: bool = False
) -> Figures:
    """Mean, standard deviation and 95 % interval of accuracies, inside what an accuracy can be.

    Args:
        values: shares of right test clips, one for each seed; of a single one the interval is over
            test clips.
        clips: number of test clips; over none there is no interval.
        chosen: the best of several on the same clips, of which a single one has no interval.
    """
    several = len(values) > 1
    interval = seeds_interval(values) if several else None
    if len(values) == 1 and not chosen and clips:
        interval = clips_interval(values[0], clips)
    return {
        name: _mean(values),
        f"{name}_sd": statistics.stdev(values) if several else None,
        f"{name}_low": interval and max(interval.low, 0.0),
        f"{name}_high": interval and min(interval.high, 1.0),
    }


def standing(rows: Sequence[Row], found: Sequence[Pair]) -> dict[str, str]:
    """``best`` or ``~best`` by row: the best method, and those not told apart from it;
    empty where none is testable.
    """
    top = best(rows)
    if top is None or not any(pair.holm is not None for pair in found):
        return {}
    return {top: BEST} | dict.fromkeys(as_good_as(top, rows, found), AS_GOOD)


def judgement(label: str, records: Sequence[RunRecord], speed: SpeedRecord | None) -> str | None:
    """The verdict on "trains faster" of a row, or what puts it, or the baseline it is over,
    in doubt. None of the decoder-free bound, which is no claim: nobody trains with it.
    """
    if doubts := doubts_of(label, records, speed):
        return kinds(doubts)
    arm = speed.arm(label) if speed else None
    if arm is None or speed is None or not comparable(arm, speed):
        return None
    if label in (speed.baseline, BOUND):
        return None
    return "in doubt (the baseline)" if doubts_of(speed.baseline, records, speed) else arm.verdict


def _is_open(records: Sequence[RunRecord], arm: ArmRecord | None) -> bool:
    """The row's method brings its own encoder."""
    return any(record.method.division == "open" for record in records) or (
        arm is not None and arm.division == "open"
    )


def _mean(values: Sequence[float]) -> float | None:
    """None of nothing."""
    return statistics.mean(values) if values else None


def _of(records: Sequence[RunRecord], label: str) -> list[RunRecord]:
    return [record for record in records if record.label == label]


def _values(records: Iterable[RunRecord], value: Callable[[Accuracy], float]) -> list[float]:
    return [value(record.accuracy) for record in records if record.accuracy]


# --- files ---


def as_csv(frame: pd.DataFrame) -> bytes:
    """A frame as the content of a ``.csv`` file: one header, numbers as they are,
    nothing where one is missing.
    """
    text = frame.to_csv(index=False, lineterminator="\n", date_format="%Y-%m-%dT%H:%M:%SZ")
    return text.encode(errors="backslashreplace")
