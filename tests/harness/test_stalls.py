"""What makes a GPU and its host wait for each other is found without a GPU,
and no method's step has any of it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.batches import BodySequences
from datasets.layouts import NTU25
from harness.conformance.specimen import FRAMES, Specimen, clips
from harness.conformance.stalls import Stall, no_stalls
from harness.registry import Registry
from harness.training.build import build_method
from harness.training.clock import StepClock
from harness.training.data import build_batches
from harness.training.trainer import Trainer
from tests.fake_gpu import CUDA, Driver, fake_tensors

METHODS = Registry().methods
QUICK = ("gfp", "mamp", "skeletonmae-graph")
"""Of the others the conformance suite looks at the loss alone, `make test-long` at whole steps."""
HOST = torch.tensor([0, 2])
MASK = torch.tensor([True, False, True, False])

STALLS: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "item": (lambda x: x.sum().item(), "a value is asked for"),
    "branch": (lambda x: 1 if x.sum() > 0 else 0, "a value is asked for"),
    "nonzero": (lambda x: x.nonzero(), "a value is asked for"),
    "boolean index": (lambda x: x[x > 0], "a value is asked for"),
    "written under a mask": (
        lambda x: x.index_put_((x > 0,), x.new_ones(1).expand(3)),
        "a value is asked for",
    ),
    "equal": (lambda x: torch.equal(x, x), "a value is asked for"),
    "unique": (lambda x: x.unique(), "a value is asked for"),
    "repeats": (lambda x: x.repeat_interleave(x.long(), dim=0), "a value is asked for"),
    "drawn without replacement": (lambda x: torch.multinomial(x, 2), "a value is asked for"),
    "index of the host": (lambda x: x[HOST], "a tensor [2] on the CPU beside others on the device"),
    "list as an index": (lambda x: x[[0, 2]], "a copy between host and device"),
    "array as an index": (lambda x: x[np.array([0, 2])], "a copy between host and device"),
    "mask of the host": (lambda x: torch.where(MASK, x, 0), "a tensor [4] on the CPU"),
    "list": (
        lambda x: x * torch.as_tensor([1.0, 2.0, 3.0, 4.0], device=x.device),
        "a copy between host and device",
    ),
    "number": (lambda x: x * torch.tensor(2.0, device=x.device), "a copy between host and device"),
    "like another": (
        lambda x: x * x.new_tensor([1.0, 2.0, 3.0, 4.0]),
        "a copy between host and device",
    ),
    "moved": (lambda x: x[HOST.to(x.device)], "a copy between host and device"),
    "written": (lambda x: x.clone().copy_(torch.ones(4)), "a copy between host and device"),
    "to the host": (lambda x: x.cpu(), "a copy between host and device"),
}
HARMLESS: dict[str, Callable[[Tensor], object]] = {
    "number": lambda x: x * 2.0 + torch.tensor(1.0),
    "made there": lambda x: (
        x + torch.arange(4, device=x.device) + torch.full((4,), 0.5, device=x.device)
    ),
    "random": lambda x: x + torch.rand(4, device=x.device) + torch.randn_like(x),
    "filled under a mask": lambda x: x.masked_fill(x > 0, 0.0),
    "chosen": lambda x: torch.where(x > 0, x, 0.0).clamp(min=0.1),
    "sorted": lambda x: x[x.argsort()].topk(2).values,
    "drawn with replacement": lambda x: torch.multinomial(x, 2, replacement=True),
    "rounded": lambda x: x.to(torch.bfloat16).float().double(),
    "on the host": lambda x: (x, HOST + 1, torch.ones(2).sum()),
    "repeated": lambda x: x.repeat_interleave(2),
    "slices": lambda x: x[1:].flip(0)[..., None] @ x[None, :3],
}


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_is_found_on_the_meta_device(name: str) -> None:
    step, words = STALLS[name]
    x = torch.ones(4, device="meta")
    with no_stalls("meta"), pytest.raises(Stall) as found:
        step(x)
    assert words in str(found.value)


@pytest.mark.parametrize("name", STALLS)
def test_a_stall_is_found_on_fake_cuda_tensors(name: str) -> None:
    step, words = STALLS[name]
    with fake_tensors():
        x = torch.ones(4, device=CUDA)
        with no_stalls("cuda"), pytest.raises(Stall) as found:
            step(x)
    assert words in str(found.value)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_waits_for_nobody_is_left_alone(name: str) -> None:
    with no_stalls("meta"):
        HARMLESS[name](torch.ones(4, device="meta"))
    with fake_tensors():
        x = torch.ones(4, device=CUDA)
        with no_stalls("cuda"):
            HARMLESS[name](x)


def test_a_mask_with_a_number_fills_on_cuda() -> None:
    def fill(x: Tensor) -> None:
        x[x > 0] = 0.5  # a number of the host beside CUDA tensors, which torch fills with

    with fake_tensors():
        x = torch.ones(4, device=CUDA)
        with no_stalls("cuda"):
            fill(x)


def test_the_backward_pass_is_watched_too() -> None:
    class Asking(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):  # type: ignore[no-untyped-def]
            return gradient * gradient.sum().item()

    x = torch.ones(4, device="meta", requires_grad=True)
    with no_stalls("meta"):
        loss = Asking.apply(x).sum()
        with pytest.raises(Stall, match="a value is asked for"):
            loss.backward()


# --- the timed step of every method ---


def fake_trainer(name: str) -> Trainer:
    """A method and its batches on CUDA, with the settings that a run has."""
    specimen = Specimen(METHODS[name])
    spec = specimen.spec(depth=1, precision="bf16")
    source = BodySequences(clips(), CUDA)
    method = build_method(METHODS[name], spec, NTU25, CUDA)
    batches = build_batches(
        source, torch.arange(len(source), device=CUDA), spec, FRAMES, method.views
    )
    return Trainer(method, batches, spec.train, steps=10)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """No GPU: its random generator is none, and its backward pass, which needs a real device,
    gives gradients.
    """
    monkeypatch.setattr(
        torch, "Generator", lambda device: SimpleNamespace(manual_seed=lambda seed: None)
    )
    return Driver(monkeypatch)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in METHODS],
)
def test_a_timed_step_asks_for_nothing_and_copies_nothing(
    name: str, gpu: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_tensors():
        trainer = fake_trainer(name)
        trained = [
            parameter for parameter in trainer.method.parameters() if parameter.requires_grad
        ]

        def backward(loss: Tensor) -> None:
            assert loss.dtype == torch.float32
            assert loss.device.type == "cuda"
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter)

        monkeypatch.setattr(Tensor, "backward", backward)
        with no_stalls("cuda"):
            means = trainer.go_on(3, StepClock(CUDA), leave=lambda: trainer.begun == 2)
    assert means is None  # left before the block's end, where the loss is read
    assert trainer.done == 2
    assert gpu.calls.count("synchronize") == 2
