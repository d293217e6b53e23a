"""The environment of a record: what makes two machines comparable, and what fp32 means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from harness.machine import describe_environment, select_device
from tests.harness.made_up_records import ENVIRONMENT


@pytest.fixture(params=["every backend", "cuda"])
def rounding(request: pytest.FixtureRequest) -> Iterator[None]:
    """Matrix products in TF32, as some containers have it by default, or asked for by torch's newer switch."""
    before = torch.get_float32_matmul_precision()
    if request.param == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    else:
        torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("rounding")
def test_fp32_means_fp32_once_a_device_is_chosen() -> None:
    assert describe_environment(torch.device("cpu")).tf32 is True
    device = select_device("cpu")
    assert torch.get_float32_matmul_precision() == "highest"
    assert describe_environment(device).tf32 is False


def test_records_with_tf32_are_not_comparable_to_others() -> None:
    known, rounded = (ENVIRONMENT.model_copy(update={"tf32": tf32}) for tf32 in (False, True))
    assert known.fingerprint == ENVIRONMENT.fingerprint  # records of before say nothing of it: torch's default was off
    assert rounded.fingerprint != known.fingerprint
