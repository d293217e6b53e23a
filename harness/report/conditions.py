"""What records were made under, by name, as plain values: settings, methods' options, code, data,
machine.

Two records, two folders or two laboratories are held against each other by these, and what differs
is said in their names (`harness.report.diff`, `harness.report.leaderboard`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets.wording import listed
from harness.records.evaluations import EvaluationRecord, column_of
from harness.records.schema import Environment, RunRecord, SpeedRecord, plain_spec
from harness.spec.model import SECTIONS, EncoderSpec

Facts = Mapping[str, Any]
"""Plain JSON values by name."""
Values = Mapping[str, Sequence[Any]]
"""Every value that a name has in a group of records, each once."""
_DRAWN = "draw"
"""The option of a protocol that says which labelled clips it draws: seeds of one column,
not conditions.
"""
_NOT_RECORDED = "not recorded"
DATA = "data"
"""The name of the data's fingerprint among conditions."""
MACHINE = "machine."
"""Begins the names of what makes a machine, where it counts."""
_MOST_REASONS = 4
"""Of more conditions that differ the others are counted."""


def settings(record: RunRecord | SpeedRecord) -> Facts:
    """What was asked for, ``train.lr`` and so on, the method and the name of the data left out."""
    plain = plain_spec(record)
    found: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        if name in plain:
            values = section.model_validate(plain[name]).model_dump(mode="json")
            found |= {f"{name}.{key}": value for key, value in values.items()}
    found["device"] = plain["device"]
    for name in ("data.name", "data.fingerprint"):
        found.pop(name, None)
    return {**found, **_measured(record)} if isinstance(record, SpeedRecord) else found


def _measured(record: SpeedRecord) -> Facts:
    """Of a measurement alone; it has no budget."""
    return {
        "train.budget": None,
        "speed.baseline": record.baseline,
        "speed.memory_cap": record.spec.get("memory_cap"),
        "speed.processes": max(len(record.rounds), 1),
        "speed.seconds": record.spec.get("seconds"),
    }


def encoder_text(spec: Facts) -> str:
    """The encoder of a plain spec: its size, and the numbers that were given beside it."""
    return EncoderSpec.model_validate(spec["encoder"]).text


def method_options(record: RunRecord) -> Facts:
    """``gfp.tau`` and so on."""
    return {
        f"{record.spec.method.name}.{key}": value
        for key, value in record.spec.method.options.items()
    }


def protocol_options(record: EvaluationRecord) -> Facts:
    """``finetune.epochs`` and so on, as the protocol worked with them."""
    options = {key: value for key, value in record.options.items() if key != _DRAWN}
    return {f"{column_of(record)}.{key}": value for key, value in options.items()}


def code(record: RunRecord | SpeedRecord | EvaluationRecord) -> Facts:
    """Versions of modules, of the rules, of the record, and the commit."""
    found: dict[str, Any] = {"commit": record.environment.commit, "schema": record.schema_version}
    if isinstance(record, SpeedRecord):
        return {**found, "rules": record.rules, **record.spec.get("versions", {})}
    return {
        **found,
        **(record.method.versions if isinstance(record, RunRecord) else record.versions),
    }


def data(record: RunRecord | SpeedRecord) -> Facts:
    """The data as used."""
    return record.data.model_dump(mode="json", exclude={"notes"})


def machine(environment: Environment) -> Facts:
    """Hardware, system and versions of packages."""
    plain = environment.model_dump(mode="json", exclude={"commit", "versions"})
    return {**plain, **environment.versions}


# --- held against each other ---


def gathered(facts: Iterable[Facts]) -> Values:
    """All values of each name, in the order of their text."""
    found: dict[str, dict[str, Any]] = {}
    for one in facts:
        for name, value in one.items():
            found.setdefault(name, {})[json.dumps(value, sort_keys=True)] = value
    return {name: [values[key] for key in sorted(values)] for name, values in found.items()}


def apart(one: Values, other: Values) -> dict[str, tuple[Sequence[Any], Sequence[Any]]]:
    """Names whose values differ, in their order, with the values of both;
    of a name that one lacks, none.
    """
    names = dict.fromkeys([*one, *other])
    both = {name: (one.get(name, ()), other.get(name, ())) for name in names}
    return {
        name: (own, others) for name, (own, others) in both.items() if list(own) != list(others)
    }


def values_text(values: Sequence[Any]) -> str:
    """``30s, 60s``."""
    return listed(map(value_text, values)) if values else "-"


def value_text(value: Any) -> str:
    """A value as a setting is written: ``0.5/1``, ``unset``."""
    if isinstance(value, list | tuple):
        return "/".join(map(value_text, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "unset" if value is None or value == "" else str(value)


def differing(here: Facts, there: Facts) -> dict[str, tuple[Any, Any]]:
    """Names whose values differ, with both; `_NOT_RECORDED` where one has none,
    of a machine nothing: it may be any.
    """
    names = [
        name
        for name in dict.fromkeys([*here, *there])
        if not name.startswith(MACHINE) or (name in here and name in there)
    ]
    both = {name: (here.get(name, _NOT_RECORDED), there.get(name, _NOT_RECORDED)) for name in names}
    return {name: (one, other) for name, (one, other) in both.items() if one != other}


def same_clips(here: Any, there: Any) -> bool:
    """Two fingerprints of data are of the same clips, whatever else differs.

    A fingerprint is that of the clips and, since it has a suffix, eight digits for classes, who is
    on which side, and the joints' names (`harness.training.data.parts_hash`).
    """
    clips = [[one.partition("-")[0] for one in str(text).split("+")] for text in (here, there)]
    return clips[0] == clips[1]


def _about(here: Any, there: Any) -> str:
    """What of the same clips may differ."""
    if "-" in str(here) and "-" in str(there):
        return "the same clips, with other classes, sides or joints' names"
    return "the same clips; of the one without a suffix, classes and sides were not recorded"


def differing_text(differ: Mapping[str, tuple[Any, Any]]) -> str:
    """``train.budget 30s here, 60s there``, and of many how many more there are."""
    said = [
        f"{name} {value_text(here)} here, {value_text(there)} there"
        + (f" ({_about(here, there)})" if name == DATA and same_clips(here, there) else "")
        for name, (here, there) in differ.items()
    ]
    more = f"; and {len(said) - _MOST_REASONS} more" if len(said) > _MOST_REASONS else ""
    return f"{'; '.join(said[:_MOST_REASONS])}{more}"
