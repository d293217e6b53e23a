"""Budgets: every unit becomes optimiser steps."""

from __future__ import annotations

import re

import pytest

from harness.errors import UsageError
from harness.spec.budget import UNITS, Budget, StepCost, check_budget, parse_budget
from harness.spec.model import MethodSpec, ProbeSpec, RunSpec, TrainSpec

# One step: 1/40 of the training set, 25 clips, a tenth of a second, 4 GFLOPs.
COST = StepCost(epochs=0.025, clips=25.0, seconds=0.1, flops=4e9)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("30ep", 30, "ep"),
        ("2000steps", 2000, "steps"),
        ("50000clips", 50000, "clips"),
        ("300s", 300, "s"),
        ("2e15flops", 2e15, "flops"),
        ("1.5e+3s", 1500, "s"),
        ("5e-1ep", 0.5, "ep"),
        (" 0.5 EP ", 0.5, "ep"),
        ("2h", 7200, "s"),
        ("30min", 1800, "s"),
        ("90s", 90, "s"),
        ("1h30min", 5400, "s"),
        ("1H 30 min 15s", 5415, "s"),
        ("0h5min", 300, "s"),
        ("1.1h", 3960, "s"),
    ],
)
def test_a_budget_is_a_number_and_a_unit(text: str, amount: float, unit: str) -> None:
    assert parse_budget(text) == Budget(amount, unit)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("30ep", 1200),
        ("2000steps", 2000),
        ("50000clips", 2000),
        ("300s", 3000),
        ("2e13flops", 5000),
    ],
)
def test_every_unit_divides_by_its_own_cost(text: str, steps: int) -> None:
    assert parse_budget(text).steps(COST) == steps


@pytest.mark.parametrize(
    ("text", "steps"), [("1.24s", 12), ("1.26s", 13), ("260clips", 10), ("265clips", 11)]
)
def test_steps_are_rounded_to_the_nearest(text: str, steps: int) -> None:
    assert parse_budget(text).steps(COST) == steps


@pytest.mark.parametrize("text", ["0.001s", "1clips", "1flops", "0.01steps", "1e-9ep"])
def test_the_smallest_budget_buys_one_step(text: str) -> None:
    assert parse_budget(text).steps(COST) == 1


@pytest.mark.parametrize(
    "text",
    [
        "10x",
        "",
        "   ",
        "-3s",
        "nan s",
        "nans",
        "inf s",
        "s",
        "10",
        "1.2.3s",
        "1,5s",
        "10 s 5 s",
        "0x10s",
        "30min1h",
        "1h1h",
        "1h30",
        "1h30ep",
        "-1h",
        "nanh",
        "1.2.3min",
        "1e9999999h",
        ".",
    ],
)
def test_a_malformed_budget_is_one_line_that_lists_the_units(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_budget(text)
    message = str(error.value)
    assert repr(text) in message
    assert ", ".join(UNITS) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "text", ["0ep", "0.0s", "1e400s", "1e-400steps", "1e30s", "1e28flops", "0h0min", "1e5h"]
)
def test_an_amount_that_is_zero_or_beyond_reason_is_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_budget(text)
    message = str(error.value)
    assert repr(text) in message
    assert "expected an amount above 0 and up to " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", "7200s"),
        ("30 min", "1800s"),
        ("1h30min", "5400s"),
        ("0.01min", "0.6s"),
        ("1000000.5min", "60000030s"),
        ("1.1h", "3960s"),
    ],
)
def test_hours_and_minutes_are_kept_as_the_seconds_that_they_are(text: str, seconds: str) -> None:
    assert check_budget(text) == seconds
    assert parse_budget(seconds) == parse_budget(text)


@pytest.mark.parametrize("text", ["300s", "300 S", "3e2s", "30ep"])
def test_a_budget_in_no_hours_or_minutes_is_kept_as_it_was_typed(text: str) -> None:
    assert check_budget(text) == text


def test_runs_of_two_hours_and_of_as_many_seconds_have_one_address() -> None:
    specs = [
        RunSpec(method=MethodSpec(name="gfp"), train=TrainSpec(budget=budget))
        for budget in ("2h", "7200s", "120min")
    ]
    assert len({spec.address for spec in specs}) == 1
    assert ProbeSpec(every="5min") == ProbeSpec(every="300s")


@pytest.mark.parametrize("text", ["30ep", "0.5s", "2e+15flops"])
def test_a_budget_prints_as_it_is_typed(text: str) -> None:
    assert str(parse_budget(text)) == text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("20step", "20steps"),
        ("2000", "2000steps"),
        ("30epochs", "30ep"),
        ("5 m", "5min"),
        ("1.5hours", "1.5h"),
        ("90sec", "90s"),
        ("2e15flop", "2e+15flops"),
        ("64clip", "64clips"),
        ("10x", "30ep, 2000steps, 300s or 1h30min"),
    ],
)
def test_a_unit_in_other_words_is_told_in_ours(text: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f", e.g. {re.escape(meant)}$"):
        parse_budget(text)
    for one in re.findall(r"\S+(?:ep|steps|s|clips|flops|min|h)\b", meant):
        parse_budget(one)
