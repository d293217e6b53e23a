"""The environment of a record: what makes two machines comparable, and what fp32 means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from harness.machine import describe_environment, select_device
from tests.harness.made_up_records import ENVIRONMENT
from tests.harness.small_run import SMALL, harness, small_file


@pytest.fixture(params=["every backend", "cuda"])
def rounding(request: pytest.FixtureRequest) -> Iterator[None]:
    """Matrix products in TF32, as some containers have it by default,
    or asked for by torch's newer switch.
    """
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
    assert (
        known.fingerprint == ENVIRONMENT.fingerprint
    )  # records of before say nothing of it: torch's default was off
    assert rounded.fingerprint != known.fingerprint


def test_a_gpus_record_says_how_attention_and_memory_are_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    found = describe_environment(torch.device("cuda"))
    assert found.allocator == "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    assert {"flash_attention", "math"} <= set(found.attention or ())
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION], set_priority=True):
        other = describe_environment(torch.device("cuda"))
    assert other.attention == ("math", "efficient_attention")
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    plain = describe_environment(torch.device("cuda"))
    assert plain.allocator == ""
    assert len({found.fingerprint, other.fingerprint, plain.fingerprint}) == 3


class Driver:
    """A driver of two GPUs."""

    def __init__(self, failed: int = 0) -> None:
        self.failed = failed

    def cuInit(self, flags: int) -> int:
        return self.failed

    def cuDeviceGet(self, found: Any, index: int) -> int:
        found._obj.value = 10 + index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, number: Any) -> int:
        name.value = f"GPU {number.value}, {size}".encode()
        return 0


def test_a_gpus_name_is_asked_of_its_driver_and_else_of_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"torch's {device}")
    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver())
    assert describe_environment(torch.device("cuda")).device == "GPU 10, 256"
    assert describe_environment(torch.device("cuda", 1)).device == "GPU 11, 256"
    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver(failed=100))
    assert describe_environment(torch.device("cuda", 1)).device == "torch's cuda:1"


def test_a_cpus_record_says_nothing_of_a_gpus_settings() -> None:
    found = describe_environment(torch.device("cpu"))
    assert (found.attention, found.allocator) == (None, None)
    assert "attention" not in ENVIRONMENT.model_dump(exclude_none=True)


def test_tf32_is_asked_of_a_gpu_only(tmp_path: Path) -> None:
    found = harness(
        "plan",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
        "--methods",
        "encoder-only",
        "--precision",
        "tf32",
    )
    assert found.code == 2
    assert (
        "train.precision=tf32: expected a GPU, whose tensor cores it is for, found a CPU; use fp32"
        in found.err
    )
