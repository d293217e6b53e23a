"""The command that repeats a run under a budget in seconds: with its number of steps instead of seconds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from harness.records.schema import RunRecord
from harness.spec.budget import counts_seconds, parse_budget

REPLACED = frozenset({"--methods", "--seeds", "--budget", "--baseline"})


def repeat_lines(records: Sequence[RunRecord], asked: Mapping[str, str], words: Sequence[str]) -> list[str]:
    """One line per method and number of steps; nothing where no number of steps follows from seconds.

    Args:
        asked: how each row was asked for, by its label.
        words: the command's, as typed.
    """
    seeds: dict[tuple[str, ...], list[int]] = {}
    for record in records:
        if record.status == "ok" and record.training and counts_seconds(record.spec):
            seeds.setdefault((asked[record.label], *counted_in_steps(record)), []).append(record.spec.seed)
    return [
        f"the same steps again{', bit for bit' * exact(records)} (same machine, versions and threads): "
        + shlex.join(["python", "-m", "harness", *kept(words), "--methods", method, "--seeds", numbers(found), *steps])
        for (method, *steps), found in seeds.items()
    ]


def exact(records: Sequence[RunRecord]) -> bool:
    """On a CPU training is deterministic."""
    return all(record.spec.device == "cpu" for record in records)


def counted_in_steps(record: RunRecord) -> list[str]:
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
        if not skip and name not in REPLACED and word != "--rerun":
            found.append(word)
        skip = not skip and name in REPLACED and not equals
    return found


def numbers(seeds: Sequence[int]) -> str:
    """``0,1,2`` as ``--seeds`` takes them."""
    return ",".join(map(str, sorted(seeds)))
