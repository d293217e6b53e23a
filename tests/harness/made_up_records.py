"""Records written by hand, with numbers that are easy to follow into a table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.records.schema import (
    Accuracy,
    ArmRecord,
    DataInfo,
    EncoderInfo,
    Environment,
    MethodInfo,
    Point,
    Ratio,
    RunRecord,
    SpeedRecord,
    Training,
)
from harness.records.store import RecordStore
from harness.spec.model import DataSpec, EncoderSpec, MethodSpec, ProbeSpec, RunSpec, TrainSpec

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ENVIRONMENT = Environment(
    device="cpu",
    processor="Abacus 3000",
    cores=2,
    threads=1,
    memory_gib=8.0,
    system="Linux x86_64",
    versions={"python": "3.11.7", "torch": "2.11.0"},
    commit="0123456789ab",
)
ENCODER = EncoderInfo(architecture="a" * 16, parameters=1234567, tokens=450)
DATA = DataInfo(
    name="synthetic",
    fingerprint="f" * 16,
    classes=12,
    train_clips=800,
    validation_clips=200,
    test_clips=400,
    train_sequences=880,
    bodies_per_clip=1.1,
    notes=("two clips have a single frame",),
)


def accuracy(linear: float, knn: float = 0.5) -> Accuracy:
    return Accuracy(
        linear_validation=None,
        linear_test=linear,
        knn_validation=None,
        knn_test=knn,
        regularisation=1.0,
        test_clips=400,
    )


def run_record(
    name: str = "gfp", linear: float = 0.8, *, seed: int = 0, knn: float = 0.5, **changes: Any
) -> RunRecord:
    """A record of an ok run that was evaluated twice,
    better by 5 points at the first evaluation.
    """
    spec = RunSpec(
        method=MethodSpec(name=name),
        encoder=EncoderSpec(size="tiny"),
        data=DataSpec(split="xsub"),
        train=TrainSpec(budget="60s", lr=0.002),
        seed=seed,
    )
    control = name in ("random-init", "raw-pca")
    training = Training(
        steps=100, clips_seen=6400, seconds=59.7, step_seconds=0.6, flops=1e12, losses=[]
    )
    points = [
        Point(step=step, clips_seen=64 * step, seconds=0.6 * step, accuracy=accuracy(value, knn))
        for step, value in ((50, min(1.0, linear + 0.05)), (100, linear))
    ]
    about = MethodInfo(
        title=name,
        paper="none",
        code="none",
        deviations=(),
        choices=(),
        division="closed",
        control=control,
    )
    values: dict[str, Any] = {
        "address": spec.address,
        "label": name,
        "status": "ok",
        "spec": spec,
        "method": about,
        "encoder": ENCODER,
        "data": DATA,
        "environment": ENVIRONMENT,
        "training": None if control else training,
        "wall_seconds": 70.0,
        "phases": {} if control else {"forward": 59.7},
        "untracked": 0.004,
        "curve": [] if control else points,
        "accuracy": accuracy(linear, knn),
        "started": TIME,
        "finished": TIME,
    }
    return RunRecord(**values | changes)


def with_encoder(record: RunRecord, **numbers: int) -> RunRecord:
    """The record of a run whose encoder has other numbers than its size."""
    encoder = record.spec.encoder.model_copy(update=numbers)
    spec = record.spec.model_copy(update={"encoder": encoder})
    return record.model_copy(update={"spec": spec, "address": spec.address})


def curve_record(
    name: str,
    *linear: float,
    seed: int = 0,
    budget: str = "60s",
    step_seconds: float = 0.5,
    step_flops: float = 1e9,
    **changes: Any,
) -> RunRecord:
    """A run with these accuracies after every 10 steps of 10 clips; `step_seconds` interleaved,
    a noisy 0.9 alone.
    """
    spec = run_record(name, seed=seed).spec
    train, probe = spec.train.model_copy(update={"budget": budget}), ProbeSpec(every="100clips")
    spec = spec.model_copy(update={"train": train, "probe": probe})
    steps = 10 * len(linear)
    training = Training(
        steps=steps,
        clips_seen=10 * steps,
        seconds=0.9 * steps,
        step_seconds=0.9,
        interleaved_step_seconds=step_seconds,
        flops=steps * step_flops,
        losses=[],
    )
    curve = [
        Point(
            step=10 * number,
            clips_seen=100 * number,
            seconds=9.0 * number,
            accuracy=accuracy(value),
        )
        for number, value in enumerate(linear, 1)
    ]
    made = {"address": spec.address, "spec": spec, "training": training, "curve": curve}
    return run_record(name, linear[-1], seed=seed, **made | changes)


def ratio(low: float, value: float, high: float) -> Ratio:
    return Ratio(value=value, low=low, high=high, pairs=20)


def arm(label: str, speedup: Ratio, **changes: Any) -> ArmRecord:
    """An arm of 3.2 GFLOPs per step of 64 body sequences, so 0.1 GFLOP per clip of two bodies."""
    values: dict[str, Any] = {
        "label": label,
        "step_seconds": 0.1,
        "clips_per_second": 123.4,
        "blocks": [0.1] * 20,
        "steps_per_block": 5,
        "phases": {"forward": 1.0},
        "warmup_seconds": 1.0,
        "step_flops": 3.2e9,
        "flop_ratio": 3.0,
        "peak_bytes": 456_000_000,
        "division": "closed",
        "control": False,
        "ratio": speedup,
        "verdict": "supported",
    }
    return ArmRecord(**values | changes)


def speed_record(
    *arms: ArmRecord, floor: float = 1.05, baseline: str = "skeletonmae"
) -> SpeedRecord:
    spec = run_record().spec.model_dump(mode="json", exclude={"method", "probe", "seed"})
    spec["train"].pop("budget")
    return SpeedRecord(
        address="speed-0",
        spec=spec,
        baseline=baseline,
        batch_size=64,
        bodies_per_clip=1.1,
        arms=list(arms),
        same=ratio(0.97, 1.01, 1.05),
        floor=floor,
        encoder=ENCODER,
        data=DATA,
        environment=ENVIRONMENT,
        started=TIME,
        finished=TIME,
    )


def stage_arm(label: str, *blocks: float, **changes: Any) -> ArmRecord:
    """An arm ``method @ stage`` of 2 clips per step with these seconds per step."""
    clips = changes.pop("clips", 2.0)
    speed = clips / statistics.median(blocks)
    return arm(
        label,
        ratio(1.0, 1.0, 1.0),
        blocks=list(blocks),
        clips=clips,
        clips_per_second=speed,
        **changes,
    )


def stage_record(*arms: ArmRecord, stages: Sequence[str], **changes: Any) -> SpeedRecord:
    """A measurement in stages."""
    record = speed_record(*arms)
    rows = list(dict.fromkeys(arm.label.partition(" @ ")[0] for arm in arms))
    return record.model_copy(
        update={"spec": {**record.spec, "stages": list(stages), "rows": rows}, **changes}
    )


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change what stands in a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def folder_of(path: Path, *records: RunRecord | SpeedRecord) -> Path:
    """An output folder of these records; a test may write anything into it afterwards."""
    store = RecordStore(path)
    for record in records:
        if isinstance(record, RunRecord):
            store.write_run(record)
        else:
            store.write_speed(record)
    return path
