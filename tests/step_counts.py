"""What a training step of every method hands to the device, counted without one: a ratchet, kept in
`step_counts.json`.

    python -m tests.step_counts     # anew: after a change that saves something, or has to cost more

Counted are operations that launch a kernel (neither views nor bare allocations), the bytes of what
they read and write, and the activations that the forward pass keeps for the backward pass, of one
step of the methods' defaults on the `base` encoder with torch's fused attention. Tensors have no
values (`tests.fake_gpu.fake_tensors`) and are the CPU's, as the backward pass on CUDA ones needs a
GPU: a kernel there may be another, the number of them is nearly the same. Compiled code launches
fewer. No time follows from these figures; what grows here grows on every device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datasets.layouts import NTU25
from harness.registry import Registry
from harness.spec.model import EncoderSpec, MethodSpec, RunSpec, TrainSpec
from harness.training.build import build_method
from methods.base import Method
from tests.fake_gpu import fake_tensors

TABLE = Path(__file__).with_suffix(".json")
RENEW = "python -m tests.step_counts"
ENCODER, BODIES = "base", 64
PRECISIONS = ("fp32", "bf16")
ALLOCATIONS = ("aten::empty", "aten::new_empty", "aten::lift_fresh", "aten::_unsafe_view")

Counts = Mapping[str, int]
"""What is counted -> how much."""


class Launches(TorchDispatchMode):
    """Counts the operations that launch a kernel, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count one operation and do it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if (
            func.namespace == "aten"
            and not func.is_view
            and not func.name().startswith(ALLOCATIONS)
        ):
            self.launches += 1
            self.bytes += sum(
                size(leaf)
                for leaf in tree_leaves((args, kwargs, result))
                if isinstance(leaf, Tensor)
            )
        return result


def size(tensor: Tensor) -> int:
    """Bytes of a tensor; what is expanded is there once."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


@contextmanager
def kept_for_backward(apart_from: Sequence[Tensor]) -> Iterator[dict[int, torch.UntypedStorage]]:
    """The memory, each once, that the operations inside keep for their backward pass."""
    kept: dict[int, torch.UntypedStorage] = {}
    known = {tensor.untyped_storage()._cdata for tensor in apart_from}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = storage  # held, so that no other can have its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def step_counts(
    method: type[Method], precision: str, *, encoder: str = ENCODER, bodies: int = BODIES
) -> Counts:
    """The counts of one step: loss, backward pass and after_step."""
    spec = RunSpec(
        method=MethodSpec(name="counted"),
        encoder=EncoderSpec(size=encoder),
        train=TrainSpec(batch_size=bodies),
    )
    with fake_tensors():
        built = build_method(method, spec, NTU25, "cpu").train()
        frames = built.evaluated_encoder().grid.frames
        looks = tuple(
            torch.empty(bodies, view.frames or frames, NTU25.joint_count, 3) for view in built.views
        )
        held = [*built.parameters(), *built.buffers(), *looks]
        forward, backward, after = Launches(), Launches(), Launches()
        with (
            forward,
            kept_for_backward(held) as saved,
            torch.autocast("cpu", torch.bfloat16, precision == "bf16"),
        ):
            loss, _ = built.loss(looks if len(looks) > 1 else looks[0])
        with backward:
            loss.backward()
        with after:
            built.after_step(0.5)
    return {
        "forward launches": forward.launches,
        "backward launches": backward.launches,
        "after_step launches": after.launches,
        "forward MB": round(forward.bytes / 1e6),
        "backward MB": round(backward.bytes / 1e6),
        "after_step MB": round(after.bytes / 1e6),
        "saved MB": round(sum(storage.nbytes() for storage in saved.values()) / 1e6),
    }


def table() -> dict[str, dict[str, Counts]]:
    """Counts of every method, by precision."""
    methods = Registry().methods
    return {
        name: {kind: step_counts(methods[name], kind) for kind in PRECISIONS} for name in methods
    }


def main() -> None:
    """Write the table."""
    kept = {
        "torch": torch.__version__.partition("+")[0],
        "encoder": ENCODER,
        "bodies": BODIES,
        "methods": table(),
    }
    TABLE.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
