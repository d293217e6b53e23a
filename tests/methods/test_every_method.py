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
SHARED = (
    "FLOPs are the same with values",
    "FLOPs do not depend on the kernel",
    "FLOPs not below the encoder alone",
    "every step trains the encoder",
    "weights travel through safetensors",
)
"""Slow checks of what the harness and the parts do alike for all methods."""
QUICK = {COMPILE: ("skeletonmae",), **dict.fromkeys(SHARED, ("gfp", "skeleton2vec"))}
"""Check -> the methods that it looks at here; `make test-long` has all. `test_one_graph` and
`test_training` trace gfp, mamp and amr.
"""
every_method = pytest.mark.parametrize("name", METHODS)


def test_the_three_first_methods_are_registered() -> None:
    assert {"gfp", "skeletonmae", "encoder-only"} <= METHODS.keys()


@pytest.mark.parametrize(
    ("check", "name"),
    [
        pytest.param(
            check, name, marks=() if name in QUICK.get(str(check), METHODS) else pytest.mark.long
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


def test_every_quick_check_is_one() -> None:
    assert QUICK.keys() <= {str(check) for check in CHECKS}


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
