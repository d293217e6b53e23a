"""What the blocks of a speed measurement went through, in words."""

from __future__ import annotations

from harness.records.schema import SpeedRecord


def disturbances(record: SpeedRecord) -> str:
    """Disturbed and repeated blocks with the reasons; GPU clock and heat where they were read."""
    health = record.health
    if health is None:
        return "disturbances not watched"
    text = f"{health.disturbed} of {health.blocks} blocks disturbed, {health.repeated} timed again"
    reasons = f" ({'; '.join(health.reasons)})" if health.reasons else ""
    clocks = f"; GPU clock {' to '.join(map(str, health.clock_mhz))} MHz" if health.clock_mhz else ""
    heat = f", at most {health.temperature_c} C" if health.temperature_c is not None else ""
    blind = "; GPU not watched (nvidia-ml-py is missing or refused)" if health.gpu_watched is False else ""
    return f"{text}{reasons}{clocks}{heat}{blind}"
