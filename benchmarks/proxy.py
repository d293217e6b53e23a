"""How far a cheap protocol may be trusted for a dear one: both on the same encoders.

    python benchmarks/proxy.py FOLDER... --pair linear/linear-mamp \\
        --pair linear-mamp:epochs=30/linear-mamp --out benchmarks/results/proxy

Of every trained and untrained encoder that both columns of a pair evaluated: rank correlation,
offset, and which pairs of encoders change their order, for each data set alone (between data sets
an order means nothing). The sentence below the table is made of the numbers by one rule: the
largest distance in the cheap column at which two encoders changed their order is how far apart two
of them must stand there to be told from it.
"""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, spearmanr

from harness.machine import describe_environment, select_device
from harness.records.evaluations import EvaluationRecord, Evaluations, column_of
from harness.records.store import read_records
from harness.report.table import to_markdown

Accuracies = Mapping[str, Mapping[str, float]]
"""Column -> encoder -> accuracy."""
COLUMNS = (
    "data",
    "cheap",
    "dear",
    "encoders",
    "Spearman [95 %]",
    "Kendall",
    "cheap - dear, points ± sd",
    "pairs",
    "change order",
    "largest distance of those, cheap / dear",
)
FEWEST = 4
"""Of fewer encoders no interval of the correlation is known."""


def accuracies(records: Sequence[EvaluationRecord]) -> dict[str, dict[str, float]]:
    """Of every encoder, trained or not, by column; draws of a column are averaged."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in records:
        if record.accuracy is not None and record.weights and record.control != "scratch":
            encoders = found.setdefault(column_of(record), {})
            encoders.setdefault(f"{record.label}, seed {record.seed}", []).append(record.accuracy)
    return {
        name: {key: statistics.mean(one) for key, one in rows.items()}
        for name, rows in found.items()
    }


def swapped_pairs(cheap: Sequence[float], dear: Sequence[float]) -> list[tuple[float, float]]:
    """Distances in both columns of the pairs of encoders whose order they disagree on;
    a tie agrees with any order.
    """
    distances = [
        (cheap[i] - cheap[j], dear[i] - dear[j]) for i, j in combinations(range(len(cheap)), 2)
    ]
    return [(abs(one), abs(other)) for one, other in distances if one * other < 0]


def compared(
    name: str, pair: tuple[str, str], found: Accuracies
) -> tuple[dict[str, str], float] | None:
    """A row of the table, and the largest distance in the cheap column at
    which the order changed, in points.
    """
    cheap, dear = (found.get(column, {}) for column in pair)
    encoders = [encoder for encoder in cheap if encoder in dear]
    if len(encoders) < FEWEST:
        return None
    one, other = ([100 * column[encoder] for encoder in encoders] for column in (cheap, dear))
    changed = swapped_pairs(one, other)
    furthest = max(changed, default=(0.0, 0.0))
    offsets = np.subtract(one, other)
    row = (
        name,
        *pair,
        str(len(encoders)),
        _correlation(one, other),
        f"{kendalltau(one, other).statistic:.2f}",
        f"{offsets.mean():+.1f} ± {offsets.std(ddof=1):.1f}",
        str(len(encoders) * (len(encoders) - 1) // 2),
        str(len(changed)),
        f"{furthest[0]:.1f} / {furthest[1]:.1f}" if changed else "-",
    )
    return dict(zip(COLUMNS, row, strict=True)), furthest[0]


def _correlation(one: Sequence[float], other: Sequence[float]) -> str:
    """Spearman's, with the interval of Bonett and Wright (Psychometrika 65, 2000, eq. 4)
    on Fisher's scale.
    """
    value = float(spearmanr(one, other).statistic)
    if abs(value) == 1:  # Fisher's scale has no such point
        return f"{value:.2f}"
    half = 1.96 * math.sqrt((1 + value**2 / 2) / (len(one) - 3))
    low, high = (math.tanh(math.atanh(value) + side) for side in (-half, half))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def sentence(cheap: str, dear: str, furthest: Mapping[str, float]) -> str:
    """How far the cheap column may be trusted."""
    where = "; ".join(f"{name} {distance:.1f}" for name, distance in furthest.items())
    return (
        f"{cheap} for {dear}: encoders that stood further apart in {cheap} than this many points"
        f" were in the same order in {dear}, nearer ones not always: {where}"
    )


def main() -> int:
    """Compare the columns and leave a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--pair", action="append", required=True, metavar="CHEAP/DEAR")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    chosen = [tuple(text.split("/")) for text in arguments.pair]
    if any(len(pair) != 2 for pair in chosen):
        parser.error("expected --pair CHEAP/DEAR, two columns such as linear/linear-mamp")
    by_data: dict[str, list[EvaluationRecord]] = {}
    for folder in arguments.folders:
        records = read_records(folder)
        names = {run.address: f"{run.data.name} ({run.data.fingerprint})" for run in records.runs}
        for record in Evaluations(folder).of(records.runs):
            by_data.setdefault(names[record.run], []).append(record)
    found = {name: accuracies(records) for name, records in sorted(by_data.items())}
    rows, sentences = [], []
    for pair in chosen:
        furthest = {}
        for name, columns in found.items():
            if answer := compared(name, (pair[0], pair[1]), columns):
                rows.append(answer[0])
                furthest[name] = answer[1]
        sentences += [sentence(pair[0], pair[1], furthest)] if furthest else []
    if not rows:
        known = sorted({column for columns in found.values() for column in columns})
        print(
            f"expected {FEWEST} encoders that both columns of a pair evaluated; columns: {known}",
            file=sys.stderr,
        )
        return 2
    environment = describe_environment(select_device("cpu"))
    notes = [
        *sentences,
        (
            "Spearman's interval: Bonett and Wright, 2000; seeds of one method are not independent"
            " encoders, which makes it narrower than it should be"
        ),
        (
            f"{environment.processor}; commit {environment.commit};"
            f" {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        ),
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    text = to_markdown(frame, notes, f"python benchmarks/proxy.py {shlex.join(sys.argv[1:])}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "table.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
