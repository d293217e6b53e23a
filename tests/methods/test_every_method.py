"""Every registered method passes the conformance suite, and what a built-in one owes beyond it."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from harness.conformance.specimen import Specimen, batch, loss_of
from harness.conformance.suite import CHECKS, Check, examine
from harness.registry import Registry

METHODS = Registry().methods
COMPILE = "works under torch.compile"
COMPILED = ("gfp",)
"""Of the others `test_one_graph` and `test_training` compile mamp and amr, `make test-long` all."""
every_method = pytest.mark.parametrize("name", METHODS)


def test_the_three_first_methods_are_registered() -> None:
    assert {"gfp", "skeletonmae", "encoder-only"} <= METHODS.keys()


@pytest.mark.parametrize(
    ("check", "name"),
    [
        pytest.param(
            check,
            name,
            marks=pytest.mark.long if str(check) == COMPILE and name not in COMPILED else (),
        )
        for check in CHECKS
        for name in METHODS
    ],
    ids=str,
)
def test_conforms(name: str, check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "compile", partial(torch.compile, fullgraph=True)
    )  # a plugin may break its graph
    result = examine(check, Specimen(METHODS[name]))
    assert result.passed, result.reason


@every_method
def test_another_mask_another_loss(name: str) -> None:
    method = Specimen(METHODS[name]).build()
    assert not torch.equal(loss_of(method, batch(), seed=3), loss_of(method, batch(), seed=4))


@every_method
def test_a_built_in_method_has_a_paper_or_is_a_control(name: str) -> None:
    about = METHODS[name].about
    assert "arXiv" in about.paper or about.control


@every_method
def test_the_docstring_says_what_it_is(name: str) -> None:
    assert METHODS[name].__doc__
