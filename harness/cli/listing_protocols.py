"""What `harness ls protocols` shows: it loads what they are made of."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from harness.cli.listing import Rows
from harness.records.evaluations import SCRATCH
from harness.records.schema import RANDOM_INIT
from harness.runs.protocols import Protocols, registry_with_protocols


def list_protocols(plugins: list[Path] | None, out: Path) -> Rows:
    """Protocols with their source, deviations, choices, default options and control."""
    found = Protocols(registry_with_protocols(plugins).plugins)
    return [
        {
            "protocol": name,
            **asdict(protocol.about),
            "options": protocol.Options().model_dump(mode="json"),
            "control": SCRATCH if protocol.trains_encoder else RANDOM_INIT,
            "reads_raw": protocol.reads_raw,
        }
        for name, protocol in sorted(found.protocols.items())
    ]
