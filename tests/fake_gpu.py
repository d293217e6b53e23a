"""A GPU that is not there, and what can be proved on it: how the code behaves on a device, never
how fast it is.

| what holds | how it is shown | test |
|---|---|---|
| a timed step asks for no value, copies nothing | fake tensors | `test_stalls.py` |
| so does a plugin's, its backward pass too | `check-method` | `test_conformance.py` |
| the clock waits at a block's ends; memory is a step's | `Driver` | `test_gpu_clock.py` |
| a compiled loss is one graph, and so are its batches | counted graphs | `test_one_graph.py` |
| launches, bytes, saved activations do not grow | fake tensors, counted | `test_step_counts.py` |

What stays unproved without a GPU: the backward pass on CUDA tensors (torch's engine asks for a real
device; it runs on the meta device and the CPU), which kernels torch chooses, Inductor's code, CUDA
graphs, all times.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda")


def leave(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    """An initialisation that looks at no value,
    which torch's truncated normal does to reject some.
    """
    return tensor


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Every tensor that is made inside, on whatever device, has a shape, a type and a device,
    and no values.
    """
    with (
        warnings.catch_warnings(),
        pytest.MonkeyPatch.context() as patch,
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        warnings.filterwarnings(
            "ignore", message="Accessing the data pointer of FakeTensor"
        )  # of torch, in deepcopy
        patch.setattr(nn.init, "trunc_normal_", leave)
        yield


class Driver:
    """Stands for `torch.cuda`: writes down in order what is asked of it, and keeps a clock that the
    test sets.

    Attributes:
        calls: names of the functions that were called.
        milliseconds: what an event that is recorded now will say.
        allocated, peak: bytes.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.milliseconds = 0.0
        self.allocated = self.peak = 0
        patch.setattr(torch.cuda, "Event", lambda enable_timing=False: Event(self, enable_timing))
        for name in (
            "synchronize",
            "memory_allocated",
            "max_memory_allocated",
            "reset_peak_memory_stats",
        ):
            patch.setattr(torch.cuda, name, getattr(self, name))
        # torch.autocast asks whether there is a GPU, and whether it knows bfloat16
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)

    def allocate(self, size: int) -> None:
        """So many bytes more, or fewer."""
        self.allocated += size
        self.peak = max(self.peak, self.allocated)

    def synchronize(self, device: object = None) -> None:
        self.calls.append("synchronize")

    def reset_peak_memory_stats(self, device: object = None) -> None:
        self.calls.append("reset_peak_memory_stats")
        self.peak = self.allocated

    def memory_allocated(self, device: object = None) -> int:
        self.calls.append("memory_allocated")
        return self.allocated

    def max_memory_allocated(self, device: object = None) -> int:
        self.calls.append("max_memory_allocated")
        return self.peak


class Event:
    """A CUDA event: it has a time once the device was waited for after it."""

    def __init__(self, driver: Driver, timing: bool) -> None:
        self.driver, self.timing = driver, timing
        self.at, self.recorded = 0.0, -1

    def record(self) -> None:
        self.at, self.recorded = self.driver.milliseconds, len(self.driver.calls)
        self.driver.calls.append("record")

    def elapsed_time(self, later: Event) -> float:
        """Milliseconds from this event to a later one."""
        assert self.timing, "an event without timing has no time"
        assert later.timing, "an event without timing has no time"
        for event in (self, later):
            assert event.recorded >= 0, "the event was never recorded"
            assert "synchronize" in self.driver.calls[event.recorded :], (
                "the device was not waited for"
            )
        self.driver.calls.append("elapsed_time")
        return later.at - self.at
