"""How long a step, or an evaluation, will take before it was timed properly: data,
and the arithmetic of its range.
"""

from __future__ import annotations

from harness.records.part import NotNegative, RecordPart
from harness.records.schema import ArmRecord, SpeedRecord
from harness.speed.rates import Rate


class Estimate(RecordPart):
    """Expected seconds.

    Attributes:
        low: seconds at the fast end of what the source leaves open.
        high: seconds at its slow end; infinite where nothing bounds it.
        source: where the number comes from, and how sure it is.
    """

    seconds: NotNegative
    low: NotNegative
    high: float
    source: str


class StepEstimate(Estimate):
    """An optimiser step of one method.

    Attributes:
        flops: model FLOPs, forward and backward.
        peak_bytes: memory at its peak, with weights and optimiser state; None where no step was
            run.
        memory_source: where that number comes from.
    """

    flops: NotNegative
    peak_bytes: int | None = None
    memory_source: str = ""


def as_measured(arm: ArmRecord, record: SpeedRecord) -> StepEstimate:
    """From the interleaved measurement; the range is that of its blocks."""
    return StepEstimate(
        seconds=arm.step_seconds,
        low=min(arm.blocks),
        high=max(arm.blocks),
        flops=arm.step_flops,
        source=(
            f"the folder's interleaved measurement of {record.finished:%Y-%m-%d %H:%M} UTC on this"
            " machine"
        ),
        peak_bytes=arm.peak_bytes,
        memory_source="the same measurement",
    )


def at_rate(flops: float, rate: Rate, label: str = "") -> StepEstimate:
    """FLOPs over FLOP/s: the method's own where the rate has them, and then no less than launching
    its kernels took.
    """
    own = rate.own.get(label)
    if own is None:
        seconds, said = flops / rate.value, ""
    else:
        seconds = max(flops / own.flops, own.launching)
        said = f"; {label} at its own {own.flops:.3g}"
        said += f" and no less than the {1000 * own.launching:.3g} ms of launching kernels" * (
            own.launching > 0
        )
    return StepEstimate(
        seconds=seconds,
        low=min(seconds, flops / rate.high),
        high=max(seconds, flops / rate.low) if rate.low else float("inf"),
        flops=flops,
        source=rate.source + said,
    )
