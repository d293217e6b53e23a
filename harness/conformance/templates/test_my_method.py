"""The conformance suite on `my-method`, one test per check."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.conformance.specimen import Specimen
from harness.conformance.suite import CHECKS, Check, examine
from harness.registry import Registry

METHOD = Registry([Path(__file__).with_name("my_method.py")]).method("my-method")


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_my_method(check: Check) -> None:
    """Passes, or has no meaning for this method."""
    result = examine(check, Specimen(METHOD))
    assert result.passed, result.reason
