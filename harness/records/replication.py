"""One measurement from those of several fresh processes (benchmarks/RULES.md, "Replication")."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from harness.records.doubts import in_doubt
from harness.records.ratios import noise_floor, replicated, verdict
from harness.records.schema import ArmRecord, Doubt, Health, SpeedRecord
from harness.records.store import speed_address


def joined(records: Sequence[SpeedRecord]) -> SpeedRecord:
    """The measurement of all processes: blocks one process after the other, intervals over the
    processes' means.

    Args:
        records: of the same request, one of each process; arms that one of them lacks are left out.
    """
    first, spec = records[0], {**records[0].spec, "processes": len(records)}
    same, health = replicated([record.same for record in records]), _all_health(records)
    floor = max(1.0, noise_floor(same))
    sides = [
        [arm for record in records if (arm := record.arm(label))]
        for label in (arm.label for arm in first.arms)
    ]
    whole = first.model_copy(
        update={
            "address": speed_address(spec),
            "spec": spec,
            "same": same,
            "floor": floor,
            "health": health,
            "rounds": tuple(len(record.arms[0].blocks) for record in records),
            "matmul_flops": max(
                (peak for record in records if (peak := record.matmul_flops)), default=None
            ),
            "arms": [
                _joined_arm(arms, floor, health) for arms in sides if len(arms) == len(records)
            ],
            "started": min(record.started for record in records),
            "finished": max(record.finished for record in records),
            "failures": {
                label: why for record in records for label, why in record.failures.items()
            },
        }
    )
    return in_doubt(whole)


def _joined_arm(arms: Sequence[ArmRecord], floor: float, health: Health) -> ArmRecord:
    """One arm of all processes."""
    first, ratio = arms[0], replicated([arm.ratio for arm in arms])
    blocks = [seconds for arm in arms for seconds in arm.blocks]
    own = [arm.own_step_seconds for arm in arms if arm.own_step_seconds is not None]
    host = [arm.host_step_seconds for arm in arms if arm.host_step_seconds is not None]
    peaks = [arm.peak_bytes for arm in arms if arm.peak_bytes is not None]
    names = dict.fromkeys(name for arm in arms for name in arm.phases)
    return first.model_copy(
        update={
            "blocks": blocks,
            "step_seconds": statistics.median(blocks),
            "clips_per_second": first.clips / statistics.median(blocks),
            "ratio": ratio,
            "verdict": verdict(ratio, floor, health.disturbed_share),
            "phases": {name: sum(arm.phases.get(name, 0.0) for arm in arms) for name in names},
            "warmup_seconds": sum(arm.warmup_seconds for arm in arms),
            "own_step_seconds": statistics.fmean(own) if own else None,
            "peak_bytes": max(peaks, default=None),
            "host_step_seconds": statistics.median(host) if host else None,
            "warnings": tuple(dict.fromkeys(text for arm in arms for text in arm.warnings)),
            "doubts": _of_trial_steps(arms),
        }
    )


def _of_trial_steps(arms: Sequence[ArmRecord]) -> tuple[Doubt, ...]:
    """What trial steps gave away, each kind once;
    what ratios give away follows from those of all processes.
    """
    found: dict[str, Doubt] = {}
    for arm in arms:
        for doubt in arm.doubts:
            if doubt.kind != "above the bound":
                found.setdefault(doubt.kind, doubt)
    return tuple(found.values())


def _all_health(records: Sequence[SpeedRecord]) -> Health:
    """What happened around the blocks of all processes."""
    found = [record.health for record in records if record.health]
    clocks = [clock for health in found for clock in health.clock_mhz]
    return Health(
        blocks=sum(health.blocks for health in found),
        repeated=sum(health.repeated for health in found),
        disturbed=sum(health.disturbed for health in found),
        foreign_share=max((health.foreign_share for health in found), default=0.0),
        clock_mhz=(min(clocks), max(clocks)) if clocks else (),
        temperature_c=max(
            (t for health in found if (t := health.temperature_c) is not None), default=None
        ),
        reasons=tuple(dict.fromkeys(reason for health in found for reason in health.reasons)),
        gpu_watched=next(
            (health.gpu_watched for health in found if health.gpu_watched is not None), None
        ),
    )
