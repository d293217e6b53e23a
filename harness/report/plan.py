"""A plan as text: the matrix with its hours, and below it where every number comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from datasets.wording import counted, minutes
from harness.report.cells import EMPTY
from harness.report.table import set_lines
from harness.runs.plan import CellPlan, Plan


def plan_heading(plan: Plan) -> str:
    """The first line."""
    return (
        f"plan: {len(plan.to_do)} of {len(plan.cells)} runs to do, budget {plan.budget} each,"
        f" speedups over {plan.baseline}"
    )


def plan_table(plan: Plan) -> pd.DataFrame:
    """One row per row of the table to come, controls included; every cell a string."""
    return pd.DataFrame(
        [_row(plan, label) for label in dict.fromkeys(cell.label for cell in plan.cells)]
    )


def plan_lines(plan: Plan) -> list[str]:
    """Runs that are no fresh start, sources of the times, memory, disk and the sum;
    nothing where nothing is to do.
    """
    if plan.done:
        return []
    about = "about " if math.isfinite(plan.high) else ""
    return [
        *set_lines(plan.sets),
        *plan.warnings,
        *(line for cell in plan.to_do for line in _not_fresh(cell)),
        *(
            f"step time: {line}"
            for line in _grouped((step.source, label) for label, step in plan.steps.items())
        ),
        *(
            [
                "evaluations:"
                f" {_range(plan.evaluation.seconds, plan.evaluation.low, plan.evaluation.high)}"
                f" each: {plan.evaluation.source}"
            ]
            if plan.evaluation
            else []
        ),
        _measurement(plan),
        *_memory(plan),
        f"disk: {size(plan.disk_bytes)} to come for weights and records{_states(plan)}",
        *([f"price: {plan.cost:,.2f} at {plan.price:g} an hour"] if plan.cost is not None else []),
        (
            f"{about}{_range(plan.seconds, plan.low, plan.high)} in all by these sources, on"
            f" {plan.device}, one run after the other"
        ),
    ]


def together(plans: Sequence[tuple[Path, Plan]]) -> str:
    """What several plans come to, each with its output folder: for folds, draws or the parts of a
    file. A run that several of them have in one folder, an untrained encoder's, is done once.
    """
    cells = dict[tuple[Path, str], CellPlan]()
    seconds = low = high = 0.0
    for out, plan in plans:
        more = {(out, cell.address): cell for cell in plan.cells} | cells
        if len(more) > len(cells):  # else its rows are timed with those of a plan before
            seconds += plan.measurement.seconds
            low += plan.measurement.seconds
            high += plan.measurement.high
        cells = more
    seconds += sum(cell.seconds for cell in cells.values())
    low += sum(cell.low for cell in cells.values())
    high += sum(cell.high for cell in cells.values())
    about = "about " if math.isfinite(high) else ""
    to_do, price = sum(cell.open for cell in cells.values()), plans[0][1].price
    cost = "" if price is None else f", {price * seconds / 3600:,.2f} at {price:g} an hour"
    return (
        f"{len(plans)} plans together: {to_do} of {len(cells)} runs to do,"
        f" {about}{_range(seconds, low, high)} in all{cost}"
    )


def size(count: float) -> str:
    """``2_500_000`` bytes as ``2.5 MB``."""
    for unit, power in (("GB", 9), ("MB", 6)):
        if count >= 10**power:
            return f"{count / 10**power:,.1f} {unit}"
    return f"{count / 1000:,.0f} kB"


def _row(plan: Plan, label: str) -> dict[str, str]:
    cells, step = plan.row(label), plan.steps.get(label)
    to_do = [cell for cell in cells if cell.open]
    first = next((cell for cell in to_do if not cell.steps_done), (to_do or cells)[0])
    timed = step is not None and bool(to_do) and not first.problem
    return {
        "run": label,
        "to do": f"{len(to_do)} of {len(cells)}",
        "steps": f"{first.steps:,}" if first.steps else EMPTY,
        "clips": f"{first.clips:,.0f}" if first.clips else EMPTY,
        "ms/step": _milliseconds(step.seconds) if step and timed else EMPTY,
        "training": minutes(first.training) if timed else EMPTY,
        "evaluations": (
            f"{first.evaluations} = {minutes(first.evaluating)}" if first.evaluations else EMPTY
        ),
        "a run": minutes(first.seconds) if to_do and not first.problem else EMPTY,
        "all": (
            minutes(sum(cell.seconds for cell in to_do)) if to_do and not first.problem else EMPTY
        ),
        "peak": size(step.peak_bytes) if step and step.peak_bytes else EMPTY,
        "weights": size(first.weights_bytes) if first.weights_bytes else EMPTY,
    }


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"


def _not_fresh(cell: CellPlan) -> list[str]:
    name = f"{cell.label}, seed {cell.seed}"
    if cell.problem:
        return [f"{name}: will fail: {cell.problem}"]
    if cell.steps_done or cell.holder:
        doing = f"{cell.holder} is at" if cell.holder else "goes on at"
        return [
            f"{name}: {doing} step {cell.steps_done:,} of {cell.steps:,}: {minutes(cell.training)}"
            f" of training and {counted(cell.evaluations, 'evaluation')} left"
        ]
    return [f"{name}: {cell.before} before, starts anew"] if cell.before else []


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Labels that share a source on one line."""
    labels: dict[str, list[str]] = {}
    for source, label in pairs:
        labels.setdefault(source, []).append(label)
    if len(labels) == 1:
        return list(labels)
    return [f"{', '.join(names)}: {source}" for source, names in labels.items()]


def _range(middle: float, low: float, high: float) -> str:
    """``3.2 h (2.9 h to 4.0 h)``; ``at least 3.2 h`` where nothing bounds it."""
    if minutes(low) == minutes(high):
        return minutes(middle)
    if math.isinf(high):
        return f"at least {minutes(low)}"
    return f"{minutes(middle)} ({minutes(low)} to {minutes(high)})"


def _measurement(plan: Plan) -> str:
    if plan.measurement.stored:
        return "speed measurement: in the folder, not made again"
    seconds = _range(plan.measurement.seconds, plan.measurement.seconds, plan.measurement.high)
    return f"speed measurement: {seconds}, all methods interleaved, warming up included"


def _memory(plan: Plan) -> list[str]:
    if plan.peak_bytes is None:
        return ["memory: not known, as no step was run"] if plan.steps else []
    there = f" of {size(plan.memory_bytes)} there" if plan.memory_bytes else ""
    short = (
        ", too much: lower --batch-size"
        if plan.memory_bytes and plan.peak_bytes > plan.memory_bytes
        else ""
    )
    known = ((step.memory_source, label) for label, step in plan.steps.items() if step.peak_bytes)
    sources = "; ".join(_grouped(known))
    return [
        f"memory: {size(plan.peak_bytes)}{there} at the peak of the largest step{short}: {sources}"
    ]


def _states(plan: Plan) -> str:
    if not plan.states_bytes:
        return ""
    return f", and {size(plan.states_bytes)} for two states of a run while it lasts"
