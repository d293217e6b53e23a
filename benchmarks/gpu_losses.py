"""Losses of every method on the CPU and on another device: same weights, batch and random numbers.

    python benchmarks/gpu_losses.py --device cuda --out runs/losses

In fp32 the other device must give the CPU's loss and gradient norm, in bf16 its loss; how far each
may be apart is said below. A method that samples its mask by weights may, by rounding, mask another
token: that moves a loss by less.

Exit codes: 0 every method agrees; 1 one does not.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from harness.isolation.contract import loss_and_parts
from harness.machine import describe_environment, select_device
from harness.records.store import now, write_atomically
from harness.registry import Registry
from harness.spec.model import DataSpec, EncoderSpec, MethodSpec, RunSpec, TrainSpec
from harness.training.build import build_method
from harness.training.data import LoadedData, load_data
from harness.training.trainer import gradient_norm, whole
from methods.base import Method

TOLERANCE = {"loss": 1e-3, "gradient norm": 1e-2, "bf16 loss": 3e-2}
"""Relative. Rounding of fp32 sums is far below; a wrong kernel, index or mask is far above."""
DRAWN = {
    torch.ops.aten.rand,
    torch.ops.aten.rand_like,
    torch.ops.aten.randn,
    torch.ops.aten.randn_like,
    torch.ops.aten.randint,
    torch.ops.aten.randperm,
}
BATCH = 16
"""Body sequences."""


class DrawnOnTheHost(TorchDispatchMode):
    """Random numbers come from the CPU's generator on every device:
    the same seed gives the same ones.
    """

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; one that draws, on the CPU."""
        kwargs = kwargs or {}
        if func.overloadpacket not in DRAWN:
            return func(*args, **kwargs)
        like = next((value for value in args if isinstance(value, Tensor)), None)
        device = kwargs.get("device") or (like.device if like is not None else torch.device("cpu"))
        host = [
            torch.empty_like(v, device="cpu") if isinstance(v, Tensor) else v for v in args
        ]  # of the same shape
        return func(*host, **{**kwargs, "device": torch.device("cpu")}).to(device)


def loss_and_gradient(
    method: Method, views: tuple[Tensor, ...], precision: str
) -> tuple[float, float]:
    """Loss of a batch ``[B, T, V, 3]``, several where the method wants several views,
    and norm of all gradients.
    """
    device = next(method.parameters()).device
    there = [view.to(device) for view in views]
    torch.manual_seed(0)
    with DrawnOnTheHost(), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        loss, _ = loss_and_parts(method, method.loss(tuple(there) if len(there) > 1 else there[0]))
    loss.backward()
    return loss.item(), gradient_norm(method.parameters()).item()


def compare(
    name: str, method: type[Method], size: str, data: LoadedData, device: torch.device
) -> dict[str, float]:
    """What a method gives on the CPU and on the device."""
    spec = RunSpec(
        method=MethodSpec(name=name),
        encoder=EncoderSpec(size=size),
        data=data.spec,
        train=TrainSpec(batch_size=BATCH),
    )
    here, found = build_method(method, spec, data.clips.layout, "cpu").train(), {}
    batch = data.batches(spec, here.evaluated_encoder().grid.frames, here.views).sample()
    views = batch if isinstance(batch, tuple) else (batch,)
    found["CPU loss"], found["CPU gradient norm"] = loss_and_gradient(here, views, "fp32")
    for precision, prefix in (("fp32", ""), ("bf16", "bf16 ")):
        there = build_method(method, spec, data.clips.layout, device).train()
        with torch.no_grad():
            for (_, to), (_, value) in zip(whole(there).items(), whole(here).items(), strict=True):
                to.copy_(value)
        found[f"{prefix}loss"], found[f"{prefix}gradient norm"] = loss_and_gradient(
            there, views, precision
        )
    return found


def disagreements(found: dict[str, float]) -> dict[str, float]:
    """Relative difference from the CPU of what is further apart than it may be."""
    apart = {
        name: abs(found[name] / found[f"CPU {name.removeprefix('bf16 ')}"] - 1)
        for name in TOLERANCE
    }
    return {
        name: value for name, value in apart.items() if not value <= TOLERANCE[name]
    }  # NaN is none


def main() -> int:
    """Compare every method of the suite, and leave the numbers after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--encoder", default="base")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    device = select_device(arguments.device)
    data = load_data(DataSpec(), torch.device("cpu"), patch=4)
    environment, methods, wrong = describe_environment(device).model_dump(), {}, 0
    print(
        f"{device} against cpu, encoder {arguments.encoder}, {BATCH} body sequences; relative"
        f" tolerances {TOLERANCE}"
    )
    for name, method in sorted(Registry().methods.items()):
        try:
            found: dict[str, Any] = dict(compare(name, method, arguments.encoder, data, device))
            apart = disagreements(found)
            said = (
                ", ".join(f"{what} differs by {value:.2g}" for what, value in apart.items())
                or "agrees"
            )
        except Exception as error:  # noqa: BLE001 - one failing method must not harm the others
            found, said = (
                {"error": f"{type(error).__name__}: {error}"},
                f"fails: {type(error).__name__}: {error}",
            )
        wrong += said != "agrees"
        methods[name] = {
            **{key: value if _finite(value) else str(value) for key, value in found.items()},
            "said": said,
        }
        numbers = ", ".join(
            f"{key} {value:.6g}" for key, value in found.items() if isinstance(value, float)
        )
        print(f"{name}: {said}; {numbers}", flush=True)
        record = {
            "device": str(device),
            "encoder": arguments.encoder,
            "batch": BATCH,
            "tolerance": TOLERANCE,
            "at": f"{now():%Y-%m-%d %H:%M} UTC",
            "environment": environment,
            "methods": methods,
        }
        write_atomically(
            arguments.out / "losses.json", (json.dumps(record, indent=1) + "\n").encode()
        )
    return 1 if wrong else 0


def _finite(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


if __name__ == "__main__":
    sys.exit(main())
