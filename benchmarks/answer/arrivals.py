"""How fast each row gets to the accuracy that another holds at its end: "trains k times faster to
the accuracy of", or why that cannot be said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from harness.errors import UsageError
from harness.records.differences import LEVEL
from harness.records.schema import RunRecord, SpeedRecord
from harness.report.cells import Figures, figures, known, p_text
from harness.report.html.study import Setting
from harness.report.target import target_frame
from harness.studies.target import Target, arm_times, eligible_runs, freeze, landmarks, timing


@dataclass(frozen=True)
class Arrivals:
    """Those of all rows of a setting at one row's accuracy.

    Attributes:
        frame: `target_frame`.
        levels: `landmarks`, accuracies to see it against.
    """

    target: Target
    runs: list[RunRecord]
    speed: SpeedRecord
    frame: pd.DataFrame
    levels: dict[str, float]

    @property
    def name(self) -> str:
        """``the accuracy of gfp (58.1 %; untrained 53.8 %)``."""
        chance = self.levels.get("untrained")
        beside = "" if chance is None else f"; untrained {100 * chance:.1f} %"
        return (
            f"the accuracy of {self.target.reference} ({100 * self.target.accuracy:.1f} %{beside})"
        )

    @property
    def factors(self) -> list[str]:
        """Sentences with a factor that is told from 1."""
        return [text for text, sure in self._said() if sure]

    @property
    def lines(self) -> list[str]:
        """A sentence for each row but the reference."""
        return [text for text, _ in self._said()]

    def _said(self) -> Iterator[tuple[str, bool]]:
        rows = {row["label"]: row for row in figures(self.frame)}
        own = rows.pop(self.target.reference)
        if self.target.accuracy <= self.levels.get("untrained", 0):
            yield f"to {self.name}: means nothing, no higher than the untrained encoder's", False
            return
        for label, row in rows.items():
            start = f"{label} to {self.name}: "
            if known(row["speedup"]):
                low, high = row["speedup_low"], row["speedup_high"]
                sure = low > 1 or high < 1
                text = f"{row['speedup']:.2f} times as fast [{low:.2f}, {high:.2f}]"
                yield f"{start}{text}{'' if sure else '; not told from equal'}", sure
            else:
                bound = row["speedup_at_most"]
                most = f", so less than {bound:.2f} times as fast" if known(bound) else ""
                yield (
                    f"{start}{sooner(row, own)}: {row['reached']} of {row['runs']} seeds got"
                    f" there and stayed, {own['reached']} of {own['runs']} of"
                    f" {own['label']} itself{most}",
                    False,
                )


def arrivals_of(setting: Setting) -> tuple[list[Arrivals], list[str]]:
    """At the accuracy of each row that has finished runs; and why there are none at some."""
    found, without = list[Arrivals](), list[str]()
    table = setting.table
    speeds = [one for one in (table.speed, *table.others) if one]
    done = {run.label for run in table.runs if run.status == "ok" and run.curve}
    for reference in (label for label in setting.labels if label in done):
        try:
            target = freeze(table.runs, reference)
            runs = eligible_runs(table.runs, target)
            speed = timing(speeds, [run for run in runs if run.status == "ok"])
            if speed is None:
                raise UsageError("no speed measurement has all rows")
        except UsageError as why:
            without.append(f"to the accuracy of {reference}: cannot be said: {why}")
            continue
        frame = target_frame(runs, target, arm_times(speed), speed)
        found.append(Arrivals(target, runs, speed, frame, landmarks(table.runs, target)))
    return found, without


def sooner(row: Figures, own: Figures) -> str:
    """Whether the times of a row without a factor are told from the reference's at all."""
    if not known(row["holm"]):
        return "cannot be said"
    test = f"p {p_text(row['holm'])} after Holm"
    if row["holm"] > LEVEL:
        return f"cannot be said, not even whether sooner ({test})"
    first, second = (one["median_seconds"] for one in (row, own))
    earlier = not known(second) or (known(first) and first < second)
    return f"{'sooner' if earlier else 'later'} ({test}), how many times as fast cannot be said"
