"""Records that another version of the code made,
found without importing what they were made with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import harness
from datasets.wording import counted
from harness.records.schema import SCHEMA, RunRecord

LOOP = (
    "datasets.batches",
    "harness.evaluation.probes",
    "harness.training.build",
    "harness.training.clock",
    "harness.training.data",
    "harness.training.trainer",
)
"""Modules, beside a method's own, whose versions a run's record keeps:
what trains and evaluates every method.
"""
TIMING = (*LOOP, "datasets.published_feeder", "harness.speed.interleave")
"""The same for a speed measurement: what times every method."""
_DECLARED = re.compile(r"^VERSION = [\"']?([^\"'\s]+)", re.MULTILINE)


def versions_here() -> dict[str, str]:
    """Module -> declared version, of the loop and of every file of `methods`, from their text."""
    return dict(_declared())


def _declared() -> Iterator[tuple[str, str]]:
    loop = [(harness.ROOT / name.replace(".", "/")).with_suffix(".py") for name in LOOP]
    for path in [*loop, *sorted((harness.ROOT / "methods").rglob("*.py"))]:
        if path.is_file() and (found := _DECLARED.search(path.read_text(encoding="utf-8"))):
            yield path.stem, found[1]


def stale_lines(
    records: Sequence[RunRecord], own: Mapping[str, Mapping[str, str]] | None = None
) -> list[str]:
    """A line for every record that other versions of the code made, and one for those of before
    they were kept.

    Args:
        own: module -> version by method, where this process has loaded the method (a plugin's are
            known no other way).
    """
    here = versions_here()
    notes = []
    for record in records:
        if changed := _changed_versions(
            record, {**here, **(own or {}).get(record.spec.method.name, {})}
        ):
            notes.append(
                f"note: {record.label}, seed {record.spec.seed}: {', '.join(changed)} since; see"
                " --rerun"
            )
    if before := sum(record.schema_version < SCHEMA for record in records):
        notes.append(
            f"note: {counted(before, 'record')} of schema 1 (before versions of the code were"
            " recorded), kept as they are"
        )
    return notes


def _changed_versions(record: RunRecord, current: Mapping[str, str]) -> list[str]:
    """``gfp 1 -> 2`` for every module whose version is not the one
    that the record was made with.
    """
    return [
        f"{module} {before} -> {current[module]}"
        for module, before in record.method.versions.items()
        if current.get(module, before) != before
    ]
