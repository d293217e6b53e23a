"""What it takes to beat raw coordinates: the study of `small.yaml` along its runs.

The first half of a section of the page that `page.py` writes; the last encoders are the other. Runs
that were stopped count as far as they came.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from datasets.wording import printable
from harness.cli.config import read_config
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, RunRecord
from harness.report.frame import points_frame
from harness.report.html.study import Study, read_study
from harness.report.table import grid

PLAN, FOLDER = Path(__file__).with_name("small.yaml"), "longer-utdmhad"
MEASURES = {"linear": "linear", "knn": "kNN-1"}
"""Columns of evaluations, and what tables call them."""


@dataclass(frozen=True)
class Longer:
    """The plan's question, and the records that name the plan."""

    question: str
    study: Study


def read_longer(results: Path, plan: Path = PLAN) -> Longer | None:
    """The study of a plan; None where nothing was measured."""
    folder, (content, study) = results / FOLDER, read_config(plan)
    if not folder.is_dir():
        return None
    return Longer(question(content), read_study(folder, 0, alone=True, study=study))


def longer(found: Longer) -> Iterator[str]:
    """Markdown lines: the question, accuracies by clips beside the controls, from where on a mean
    stays above raw coordinates, and what that does not say.
    """
    runs = found.study.records.runs
    trained = [run for run in runs if run.curve and run.training]
    points = points_frame(trained)
    yield found.question + "\n"
    yield grid(by_clips(points, runs))
    yield "Accuracy in % of test clips, mean ± standard deviation over seeds, at clips seen.\n"
    raw = control(runs, RAW_FLOOR, "linear")[0]
    for label, own in points.groupby("label", sort=False):
        yield f"- {label}, linear: {from_where(own, raw)}"
    yield from (f"- {line}" for line in stopped(trained))
    yield ""


def question(plan: Mapping[str, Any]) -> str:
    """What a plan asks, in one line."""
    return printable(" ".join(str(plan["study"]["question"]).split()))


def by_clips(points: pd.DataFrame, runs: list[RunRecord]) -> pd.DataFrame:
    """A row per number of clips, a column per measure and method, then the controls' rows."""
    rows = [
        {
            "clips": f"{clips:,.0f}",
            **{
                f"{label}, {name}": spread(100 * own[measure])
                for measure, name in MEASURES.items()
                for label, own in at.groupby("label", sort=False)
            },
        }
        for clips, at in points.groupby("clips_seen")
    ]
    labels = list(points["label"].unique())
    for kind, words in ((RANDOM_INIT, "untrained"), (RAW_FLOOR, "raw coordinates")):
        row = {"clips": words}
        for measure, name in MEASURES.items():  # the same beside every method
            own = spread(100 * pd.Series(control(runs, kind, measure)))
            row |= {f"{label}, {name}": own for label in labels}
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def control(runs: list[RunRecord], label: str, measure: str) -> list[float]:
    """Accuracies of a control, a seed each."""
    found = [run.accuracy for run in runs if run.label == label and run.accuracy]
    return [getattr(one, f"{measure}_test") for one in found]


def spread(values: pd.Series[float]) -> str:
    """``78.6 ± 2.3``; of one value no deviation."""
    return f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")


def from_where(points: pd.DataFrame, raw: float) -> str:
    """Whether and from which clips on a method's mean stays above raw coordinates."""
    means = points.groupby("clips_seen")["linear"].mean().sort_index()
    below = means[means <= raw]
    above = means if below.empty else means[means.index > below.index[-1]]
    shown = f"raw coordinates' {100 * raw:.1f} %"
    if above.empty:
        last = f"{100 * means.iloc[-1]:.1f} % at {means.index[-1]:,.0f} clips"
        return f"its mean does not stay above {shown}: {last}"
    if below.empty:
        return f"its mean is above {shown} at every look, the first at {above.index[0]:,.0f} clips"
    return f"its mean is above {shown} from {above.index[0]:,.0f} clips on"


def stopped(trained: list[RunRecord]) -> Iterator[str]:
    """What runs that did not end leave open."""
    if ended := sum(run.status == "ok" for run in trained):
        yield f"{ended} of {len(trained)} runs ended"
    if ended < len(trained):
        yield (
            f"{len(trained) - ended} of {len(trained)} runs were stopped on the way, with the "
            "learning rate still high: no last encoder was evaluated, which is what the plan tests,"
            " so nobody is said to be above anybody, and a later mean may stand elsewhere"
        )
