"""The command that repeats a run under a budget in seconds: with its number of steps instead of
seconds.

It is the command that was typed, where that is at hand, or else one that follows from the record.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from harness.records.schema import RunRecord
from harness.spec.budget import counts_seconds, parse_budget
from harness.spec.model import SECTIONS, RunSpec
from harness.spec.presets import PRESETS

_REPLACED = frozenset({"--methods", "--seeds", "--budget", "--baseline"})
_NOT_ASKED = frozenset({"train.budget", "data.fingerprint"})
"""Settings that the command says otherwise, or not at all."""
_FLAGS = {
    "data.name": "--dataset",
    "data.split": "--split",
    "data.label": "--label",
    "encoder.size": "--encoder",
    "train.batch_size": "--batch-size",
    "train.precision": "--precision",
}
_NO_WORDS: tuple[str, ...] = ()
_UNKNOWN: Mapping[str, str] = {}


def repeat_lines(
    records: Sequence[RunRecord],
    asked: Mapping[str, str] = _UNKNOWN,
    words: Sequence[str] = _NO_WORDS,
) -> list[str]:
    """One line per method and number of steps; nothing where no number of steps follows from
    seconds.

    Args:
        asked: how each row was asked for, by its label.
        words: those of the command that asked for these rows, as typed; others follow from their
            records.
    """
    seeds: dict[tuple[tuple[str, ...], str, tuple[str, ...]], list[int]] = {}
    for record in records:
        if record.status == "ok" and record.training and counts_seconds(record.spec):
            typed = kept(words) if record.label in asked else words_of(record.spec)
            row = (
                tuple(typed),
                asked.get(record.label, record.label),
                tuple(_counted_in_steps(record)),
            )
            seeds.setdefault(row, []).append(record.spec.seed)
    # on a CPU training is deterministic
    exact = all(record.spec.device == "cpu" for record in records)
    return [
        f"the same steps again{', bit for bit' * exact} (same machine, versions and"
        " threads): "
        + shlex.join(
            [
                "python",
                "-m",
                "harness",
                *typed,
                "--methods",
                method,
                "--seeds",
                ",".join(map(str, sorted(found))),
                *steps,
            ]
        )
        for (typed, method, steps), found in seeds.items()
    ]


def words_of(spec: RunSpec) -> list[str]:
    """``run`` with every setting in which a run differs from the preset that is there without one.

    A method's plugin and the folder for the records are not among them.
    """
    found, preset = ["run"], PRESETS["quick"]
    for section, model in SECTIONS.items():
        usual = model.model_validate(preset.get(section, {})).model_dump(mode="json")
        for key, value in getattr(spec, section).model_dump(mode="json").items():
            name = f"{section}.{key}"
            if value == usual[key] or name in _NOT_ASKED:
                continue
            found += (
                [_FLAGS[name], str(value)]
                if name in _FLAGS
                else ["--set", f"{name}={json.dumps(value)}"]
            )
    return [*found, *(["--device", spec.device] if spec.device != preset["device"] else [])]


def _counted_in_steps(record: RunRecord) -> list[str]:
    """The options that say in steps what was said in seconds."""
    assert record.training is not None
    words, train, probe = [], record.spec.train, record.spec.probe
    if parse_budget(train.budget).unit == "s":
        words += ["--budget", f"{record.training.steps}steps"]
    if probe.every and parse_budget(probe.every).unit == "s":
        seconds = record.training.interleaved_step_seconds or record.training.step_seconds
        words += ["--set", f"probe.every={parse_budget(probe.every).amount / seconds!r}steps"]
    return words


def kept(words: Sequence[str]) -> list[str]:
    """The command without the options that are replaced, and without ``--rerun``."""
    found, skip = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        if not skip and name not in _REPLACED and word != "--rerun":
            found.append(word)
        skip = not skip and name in _REPLACED and not equals
    return found
