"""Budgets: every unit becomes optimiser steps."""

from __future__ import annotations

import re

import pytest

from harness.errors import UsageError
from harness.spec.budget import UNITS, Budget, StepCost, parse_budget

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


@pytest.mark.parametrize("text", ["0ep", "0.0s", "1e400s", "1e-400steps", "1e30s", "1e28flops"])
def test_an_amount_that_is_zero_or_beyond_reason_is_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_budget(text)
    message = str(error.value)
    assert repr(text) in message
    assert "expected an amount above 0 and up to " in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["30ep", "0.5s", "2e+15flops"])
def test_a_budget_prints_as_it_is_typed(text: str) -> None:
    assert str(parse_budget(text)) == text


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("20step", "20steps"),
        ("2000", "2000steps"),
        ("30epochs", "30ep"),
        ("5 min", "300s"),
        ("1.5h", "5400s"),
        ("90sec", "90s"),
        ("2e15flop", "2e+15flops"),
        ("64clip", "64clips"),
        ("10x", "30ep, 2000steps or 300s"),
    ],
)
def test_a_unit_in_other_words_is_told_in_ours(text: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f", e.g. {re.escape(meant)}$"):
        parse_budget(text)
    for one in re.findall(r"\S+(?:ep|steps|s|clips|flops)\b", meant):
        parse_budget(one)
