"""Inference speed by the rules of training speed: encoders' forward passes as arms of one
interleaved measurement.

On the clock: the forward pass on every token, without gradients. Off it: the batch, which lies
ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.batches import Batch, Batches
from datasets.layouts import SkeletonLayout
from harness.records.schema import EncoderInfo
from harness.registry import versions_of_modules
from harness.spec.model import TrainSpec
from harness.speed.flops import forward_flops
from harness.speed.interleave import Arm
from harness.speed.measurement import Timing
from harness.training.build import Cell, build_encoder, build_method, encoder_info, set_kernel
from harness.training.clock import StepClock
from harness.training.trainer import matrix_products
from methods.base import About, Method, MethodOptions
from methods.parts.encoder import Encoder

VERSION = 1

_PHASE = "forward"


class Alone(Method[MethodOptions]):
    """An encoder as a row."""

    about = About(title="An encoder's forward pass", paper="none: nothing is trained")


class ForwardPass:
    """An encoder's forward pass on one batch, as `harness.speed.interleave` times it.

    Args:
        encoder: on its device.
        batches: of the encoder's frames; one is drawn, and is the input of every pass.
        train: precision and attention's kernel.
    """

    lead, first_steps = 0, 1

    def __init__(self, encoder: Encoder, batches: Batches, train: TrainSpec) -> None:
        self.method = Alone(encoder, MethodOptions()).eval()  # type: ignore[arg-type]  # one of the open division too
        self.batches, self.train, self.device = batches, train, batches.device
        self.x: Batch = batches.sample()

    def run_block(self, steps: int, clock: StepClock) -> dict[str, float]:
        """A block of passes on the clock."""
        encoder = self.method.evaluated_encoder()
        cast = torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.train.precision == "bf16"
        )
        with torch.inference_mode(), matrix_products(self.train.precision), cast:
            clock.start()
            for _ in range(steps):
                encoder(self.x)
                clock.mark(_PHASE)
            clock.stop(_PHASE)
        return {}

    def resident(self) -> list[Tensor]:
        """Weights and buffers."""
        return [*self.method.parameters(), *self.method.buffers()]


@dataclass
class ForwardTiming(Timing):
    """A measurement whose cells are encoders: their ``spec.encoder``,
    or a method that brings its own.
    """

    def _versions(self) -> Iterator[tuple[str, str]]:
        yield from super()._versions()
        yield from versions_of_modules((__name__, "methods.parts.encoder")).items()

    def _built(self, asked: Cell, doing: Callable[[str], None]) -> Arm:
        layout, size = self.data.clips.layout, asked.spec.train.batch_size
        self.flops[asked.label] = size * forward_flops(encoder_of(asked, layout, "meta"), layout)
        self.shares[asked.label], self.bounds[asked.label], self.doubts[asked.label] = {}, None, []
        doing("building")
        encoder = encoder_of(asked, layout, self.data.device)
        batches = self.data.batches(asked.spec, encoder.grid.frames)
        trainer = ForwardPass(encoder, batches, asked.spec.train)
        return Arm(asked.label, trainer, clips=size / self.data.bodies_per_clip, guard=asked.guard)

    def _encoder(self, arm: Arm) -> EncoderInfo:
        return encoder_info(arm.trainer.method.evaluated_encoder())


def encoder_of(cell: Cell, layout: SkeletonLayout, device: torch.device | str) -> Encoder:
    """The encoder of a cell, untrained."""
    if cell.method:
        return build_method(cell.method, cell.spec, layout, device).evaluated_encoder()
    encoder = build_encoder(cell.spec, layout, device)
    set_kernel(encoder, cell.spec.train)
    return encoder
