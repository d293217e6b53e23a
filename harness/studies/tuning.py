"""What tuning brings and costs: every method as published, and its best of k draws, chosen on
held-out subjects.

The draws are runs like others (`run --tuning k`); here they are found in a folder again by their
settings.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.records.differences import Row
from harness.records.schema import RunRecord
from harness.spec.model import MethodSpec, digest
from harness.spec.tuning import Draw, Space, draws, read_space

_MOST_DRAWS = 100


@dataclass(frozen=True)
class Tuned:
    """A method under published settings and under each draw, by seed.

    Attributes:
        label: of the published row.
        published: record of each seed.
        drawn: records of each seed in the order of the draws; as many as every seed has.
    """

    label: str
    published: dict[int, RunRecord]
    drawn: dict[int, list[RunRecord]]

    @property
    def count(self) -> int:
        """k."""
        return min(map(len, self.drawn.values()))

    def chosen(self, seed: int, count: int) -> RunRecord | None:
        """The best of the first so many draws on held-out subjects;
        None where none of them ended well.
        """
        ended = [record for record in self.drawn[seed][:count] if _selection(record) is not None]
        return max(ended, key=lambda record: _selection(record) or 0.0, default=None)

    def best_of(self, count: int) -> Row:
        """Test accuracy of the chosen draw of each seed."""
        found = {seed: self.chosen(seed, count) for seed in self.drawn}
        return Row(self.label, {seed: _test(record) for seed, record in found.items() if record})

    @property
    def as_published(self) -> Row:
        """Test accuracy of each seed."""
        return Row(
            self.label,
            {seed: _test(record) for seed, record in self.published.items() if record.accuracy},
        )

    @property
    def spread(self) -> tuple[float, float] | None:
        """Lowest and highest test accuracy of a draw, means over seeds."""
        means = []
        for number in range(self.count):
            records = [each[number] for each in self.drawn.values()]
            if all(record.accuracy for record in records):
                means.append(statistics.fmean(_test(record) for record in records))
        return (min(means), max(means)) if means else None

    def seconds(self, *, tuned: bool) -> float:
        """Wall time of all these runs, evaluation included."""
        records = (
            [one for each in self.drawn.values() for one in each[: self.count]]
            if tuned
            else [*self.published.values()]
        )
        return sum(record.wall_seconds for record in records)


def _selection(record: RunRecord) -> float | None:
    return record.accuracy.selection if record.accuracy else None


def _test(record: RunRecord) -> float:
    assert record.accuracy is not None
    return record.accuracy.linear_test


def tuned_methods(records: Sequence[RunRecord], space: Space | None = None) -> list[list[Tuned]]:
    """The methods of each setting of a folder of which draws are there,
    in the order of the records.
    """
    space = space or read_space()
    every = draws(_MOST_DRAWS, space)
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        if record.spec.method.name in space.methods:
            groups.setdefault((_setting(record, space), _base(record, space)), []).append(record)
    settings: dict[str, list[Tuned]] = {}
    for (setting, _), group in groups.items():
        settings.setdefault(setting, []).extend(_tuned(group, every, space))
    return [found for found in settings.values() if found]


def _tuned(group: Sequence[RunRecord], every: Sequence[Draw], space: Space) -> list[Tuned]:
    """A method's runs told apart: draws by their settings,
    and what has no draw's settings as published.
    """
    drawn: dict[int, dict[int, RunRecord]] = {}
    published: dict[str, dict[int, RunRecord]] = {}
    own = space.methods[group[0].spec.method.name].keys()
    for record in group:
        draw = next((draw for draw in every if _is_of(record, draw)), None)
        if draw:
            drawn.setdefault(record.spec.seed, {})[draw.number] = record
        elif not any(
            option.partition("=")[0] in own for option in record.label.partition(":")[2].split(",")
        ):
            train = digest({name: getattr(record.spec.train, name) for name in space.train})
            published.setdefault(train, {})[record.spec.seed] = record
    found = []
    for records in published.values():
        seeds = {seed: _first(drawn.get(seed, {})) for seed in records}
        if seeds and all(seeds.values()):
            found.append(Tuned(next(iter(records.values())).label, records, seeds))
    return found


def _first(by_number: dict[int, RunRecord]) -> list[RunRecord]:
    """Draws 1, 2, ... as far as none is missing."""
    found: list[RunRecord] = []
    while len(found) + 1 in by_number:
        found.append(by_number[len(found) + 1])
    return found


def _is_of(record: RunRecord, draw: Draw) -> bool:
    train, options = record.spec.train, record.spec.method.options
    return all(getattr(train, name) == value for name, value in draw.train.items()) and all(
        options.get(name) == value for name, value in draw.own(record.spec.method.name).items()
    )


def _setting(record: RunRecord, space: Space) -> str:
    """Everything that runs hold equal but for what is drawn."""
    identity = record.spec.identity
    train = {name: value for name, value in identity["train"].items() if name not in space.train}
    rest = {
        name: value for name, value in identity.items() if name not in ("method", "seed", "train")
    }
    return digest({**rest, "train": train})


def _base(record: RunRecord, space: Space) -> str:
    """A method with the options that are not drawn."""
    method = record.spec.method
    kept = {
        name: value
        for name, value in method.options.items()
        if name not in space.methods[method.name]
    }
    return str(MethodSpec(name=method.name, options=kept))
