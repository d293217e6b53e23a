"""What the harness costs: clips/s of its training loop over those of a bare loop on the same step,
interleaved.

    python benchmarks/overhead.py --methods gfp,skeletonmae --seconds 60

The bare loop does what a training script does (next batch, loss, backward, optimiser, schedule,
what follows a step) and nothing else: no phases, no sums of losses. Both are timed by the wall,
whole blocks of them. Prints one line per method; exit code 1 when a whole interval lies below 0.98.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from harness.machine import describe_environment, select_device
from harness.records.ratios import paired_ratio
from harness.registry import Registry
from harness.runs.experiment import make_entry
from harness.spec.model import DataSpec, EncoderSpec, RunSpec, TrainSpec, parse_methods
from harness.speed.disturbance import Watch
from harness.speed.interleave import Arm, measure, warm_up
from harness.training.build import build_encoder, build_method
from harness.training.clock import StepClock
from harness.training.data import load_data
from harness.training.trainer import Trainer

LOWEST = 0.98


class BareTrainer(Trainer):
    """The same parts in a loop without a harness around it."""

    def run_block(self, steps: int, clock: StepClock) -> dict[str, float]:
        """Train ``steps`` steps."""
        for _ in range(steps):
            loss, _ = self.loss(self.batches.next())
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.done += 1
            self.schedule.step_update(self.done)
            self.method.after_step(self.done / self.steps)
        return {}


class WallArm(Arm):
    """An arm on the wall clock: everything between asking for a block and its end counts,
    for both loops alike.
    """

    def run(self) -> StepClock:
        """Run one block; a clock that holds its wall time alone."""
        clock = StepClock(self.trainer.device)
        self.synchronise()
        began = time.perf_counter()
        self.trainer.run_block(self.block, StepClock(self.trainer.device))
        self.synchronise()
        clock.steps = [(time.perf_counter() - began) / self.block] * self.block
        return clock

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.trainer.device.type == "cuda":
            torch.cuda.synchronize(self.trainer.device)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default="gfp,skeletonmae")
    parser.add_argument("--encoder", default="tiny")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    device, registry = select_device(arguments.device), Registry()
    data, below = load_data(DataSpec(), device, patch=4), False
    for asked in parse_methods(arguments.methods):
        spec = RunSpec(
            method=asked,
            encoder=EncoderSpec(size=arguments.encoder),
            data=data.spec,
            train=TrainSpec(batch_size=arguments.batch_size),
            device=device.type,
        )
        method = registry.method(asked.name)
        entry = make_entry(method, asked, build_encoder(spec, data.clips.layout, "meta"))
        arms = []
        for kind in (BareTrainer, Trainer):
            built = build_method(
                method, spec.model_copy(update={"method": entry.spec}), data.clips.layout, device
            )
            frames = built.evaluated_encoder().grid.frames
            arms.append(
                WallArm(
                    kind.__name__,
                    kind(built, data.batches(spec, frames), spec.train, steps=100_000),
                )
            )
            warm_up(arms[-1], arguments.seconds / 60)
        bare, harness = arms
        watch, failures = Watch(device), dict[str, Exception]()
        again = measure([harness], bare, seconds=arguments.seconds, failures=failures, watch=watch)
        if failures:
            raise next(iter(failures.values()))
        ratio, same = (
            paired_ratio(bare.clip_seconds, harness.clip_seconds),
            paired_ratio(again, bare.clip_seconds),
        )
        below |= ratio.high < LOWEST
        print(
            f"{entry.label}: harness over bare loop {ratio.value:.3f} [{ratio.low:.3f},"
            f" {ratio.high:.3f}] in clips/s, bare against itself {same.value:.3f} [{same.low:.3f},"
            f" {same.high:.3f}], {ratio.pairs} rounds; {watch.health.disturbed} of"
            f" {watch.health.blocks} blocks disturbed"
        )
    environment = describe_environment(device)
    print(
        f"{arguments.encoder}, batch {arguments.batch_size}; {environment.device},"
        f" {environment.processor}, torch {environment.versions['torch']}, commit"
        f" {environment.commit}"
    )
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())
