"""How often equal rows are told apart: the rules for accuracies (benchmarks/RULES.md), tried where
nothing is to find.

    python benchmarks/nulls.py FOLDER --out benchmarks/results/nulls

*Simulated nulls*: tables of equal rows, with the variances that FOLDER's rows have over seeds, over
people, between rows and people, and over clips; each goes through the whole procedure, Holm over
all its pairs included. For *these people* rows share the people they meet; for *new people* each
row has people of its own liking. A table counts as false when any pair of it is told apart; what
the rules allow is 5 % of tables.

*Halves of one method*: FOLDER holds one method with many seeds. Every pair of disjoint groups of
its seeds, in ascending order against each other, compares two equal rows. The interval of the rate
is a jackknife's over seeds, which pairs share.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit
from scipy.stats import binomtest

from harness.machine import describe_environment, select_device
from harness.records.differences import (
    LEVEL,
    SPREADLESS,
    Row,
    pairs,
    person_shares,
    variance_components,
)
from harness.records.evaluations import Evaluations
from harness.records.store import read_records
from harness.report.compare import columns_of
from harness.report.folder import folder_tables
from harness.report.table import to_markdown
from harness.studies.compare import Column

Floats = NDArray[np.float64]
MANY_SEEDS = 12
"""Rows of so many seeds are halved."""


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the share of right clips.

    Attributes:
        seed: between seeds of a row, for all people alike.
        person: between people, for all rows and seeds alike.
        liking: between people, of one row against another.
        clip: of one clip, around what its seed and person make likely.
    """

    accuracy: float
    seed: float
    person: float
    liking: float
    clip: float


def measured(one: NDArray[np.bool_], other: NDArray[np.bool_], subjects: NDArray) -> Spread:
    """From whether the clips of two rows were classified rightly: [seeds, clips] each;
    components as in RULES.md.
    """
    of_one, of_both = (
        variance_components(person_shares(one, subjects)),
        variance_components(person_shares(one, subjects) - person_shares(other, subjects)),
    )
    clips = len(subjects) / len(np.unique(subjects))
    return Spread(
        float(one.mean()),
        *(math.sqrt(value) for value in (of_one[0], of_one[1], of_both[1] / 2, of_one[2] * clips)),
    )


def simulated(
    spread: Spread,
    generator: np.random.Generator,
    *,
    rows: int,
    seeds: int,
    people: int,
    clips: int,
    new: bool,
) -> tuple[list[Row], NDArray]:
    """A table of equal rows, and who is in each clip; with ``new`` people have their likings."""
    shares = spread.accuracy + generator.normal(0, spread.person, people)
    found = []
    for number in range(rows):
        liked = generator.normal(0, spread.liking, people) if new else 0.0
        of_seeds = generator.normal(0, spread.seed, (seeds, 1))
        noise = generator.normal(0, spread.clip / math.sqrt(clips), (seeds, people))
        right = np.clip(
            np.rint((shares + liked + of_seeds + noise) * clips), 0, clips
        )  # [seeds, people] clips
        marked = np.arange(clips) < right[..., None]  # [seeds, people, clips]
        by_seed = dict(enumerate(marked.reshape(seeds, -1)))
        found.append(
            Row(
                f"row {number}",
                {seed: float(one.mean()) for seed, one in by_seed.items()},
                right=by_seed,
            )
        )
    return found, np.repeat(np.arange(people), clips)


def simulate(spread: Spread, tables: int, clips: int) -> Iterator[dict[str, str]]:
    """A line for each size of table and question."""
    for new, rows, seeds, people in (
        (False, 2, 3, 8),
        (False, 5, 3, 8),
        (False, 5, 6, 8),
        (True, 2, 3, 8),
        (True, 5, 3, 8),
        (True, 5, 6, 8),
        (True, 5, 6, 20),
    ):
        generator, false, single, judged = np.random.default_rng(0), 0, 0, 0
        for _ in range(tables):
            table, subjects = simulated(
                spread, generator, rows=rows, seeds=seeds, people=people, clips=clips, new=new
            )
            found = pairs(table, subjects if new else None)
            false += any(pair.apart for pair in found)
            single += sum(
                pair.difference.p is not None and pair.difference.p < LEVEL for pair in found
            )
            judged += len(found)
        interval = binomtest(false, tables).proportion_ci(method="exact")
        yield {
            "nulls": f"{tables:,} simulated tables",
            "question": "new people" if new else "these people",
            "rows": str(rows),
            "seeds": str(seeds),
            "people": str(people) if new else "-",
            "tables with a false difference [95 %]": rate(
                false / tables, interval.low, interval.high
            ),
            "single pairs below 0.05, without Holm": f"{100 * single / judged:.2f} %",
        }


def halves(name: str, row: Row, size: int = 3) -> dict[str, str]:
    """A line for all pairs of disjoint groups of a row's seeds."""
    values = np.array([row.by_seed[seed] for seed in sorted(row.by_seed)])
    seeds, chosen = range(len(values)), np.array(list(combinations(range(len(values)), 2 * size)))
    told, judged = np.zeros(len(values)), np.zeros(len(values))
    for half in combinations(
        range(1, 2 * size), size - 1
    ):  # each pair once: the first seed is in the first group
        rest = [place for place in range(1, 2 * size) if place not in half]
        apart = told_apart(values[chosen[:, [0, *half]]] - values[chosen[:, rest]])
        np.add.at(judged, chosen, 1)
        np.add.at(told, chosen[apart], 1)
    total, false = round(judged.sum()) // (2 * size), round(told.sum()) // (2 * size)
    without = (false - told) / (total - judged)  # the rate of pairs that each seed is not in
    error = math.sqrt((len(seeds) - 1) * float(np.mean((without - without.mean()) ** 2)))
    margin = float(stdtrit(len(seeds) - 1, 0.975)) * error
    return {
        "nulls": f"{total:,} pairs of {size} : {size} of {len(seeds)} seeds of {row.label}, {name}",
        "question": "these people",
        "rows": "2",
        "seeds": str(size),
        "people": "-",
        "tables with a false difference [95 %]": rate(
            false / total, max(false / total - margin, 0), false / total + margin
        ),
        "single pairs below 0.05, without Holm": f"{100 * false / total:.2f} %",
    }


def told_apart(differences: Floats) -> NDArray[np.bool_]:
    """[pairs, seeds] differences: whether `these_people` tells the two rows of each pair apart."""
    seeds = differences.shape[1]
    means, errors = differences.mean(1), differences.std(1, ddof=1) / math.sqrt(seeds)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(seeds - 1, -np.abs(means / errors))
    return np.where(errors > SPREADLESS, p, 2.0 ** (1 - seeds)) < LEVEL


def rate(value: float, low: float, high: float) -> str:
    """``4.9 % [4.5, 5.3]``."""
    return f"{100 * value:.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def spread_of(columns: Sequence[Column]) -> tuple[Spread, int, str]:
    """Measured on the first column that has the predictions of two rows with two seeds
    or more; clips of a person.
    """
    for column in columns:
        rows = [row for row in column.rows if row.right and len(row.right) > 1 and not row.constant]
        if len(rows) < 2 or column.subjects is None:
            continue
        shared = sorted((rows[0].right or {}).keys() & (rows[1].right or {}).keys())
        if len(shared) > 1:
            both = [np.stack([(row.right or {})[seed] for seed in shared]) for row in rows[:2]]
            clips = round(column.clips / len(np.unique(column.subjects)))
            of = (
                f"{rows[0].label} and {rows[1].label}, {column.name}, seeds"
                f" {', '.join(map(str, shared))}"
            )
            return measured(both[0], both[1], column.subjects), clips, of
    raise SystemExit(
        "expected two rows with the predictions of two seeds in common, found none; `harness"
        " evaluate` keeps them"
    )


def all_columns(folder: Path) -> list[Column]:
    """Every column of every table of a folder: the probes of its runs,
    and the protocols that evaluated them.
    """
    evaluations = Evaluations(folder)
    return [
        column
        for table in folder_tables(read_records(folder))
        for column in columns_of(table, evaluations)
    ]


def main() -> int:
    """Try the rules and leave a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", type=int, default=10_000)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    began = time.process_time()
    columns = all_columns(arguments.folder)
    spread, clips, of = spread_of(columns)
    lines = [
        halves(column.name, row)
        for column in columns
        for row in column.rows
        if len(row.by_seed) >= MANY_SEEDS
    ]
    lines += simulate(spread, arguments.tables, clips)
    environment = describe_environment(select_device("cpu"))
    notes = [
        (
            f"measured variances ({of}), standard deviations in points: seed"
            f" {100 * spread.seed:.2f}, person {100 * spread.person:.2f}, row by person"
            f" {100 * spread.liking:.2f}, one clip {100 * spread.clip:.1f}; mean"
            f" {100 * spread.accuracy:.1f} %, {clips} clips a person"
        ),
        (
            "allowed: 5 % of tables; intervals: exact binomial over simulated tables, jackknife"
            " over seeds for their pairs"
        ),
        (
            f"{time.process_time() - began:.0f} s of processor time; {environment.processor};"
            f" commit {environment.commit}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        ),
    ]
    text = to_markdown(
        pd.DataFrame(lines), notes, f"python benchmarks/nulls.py {shlex.join(sys.argv[1:])}"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
