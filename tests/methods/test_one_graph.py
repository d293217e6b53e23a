"""A compiled loss is one graph, compiled once: no break, nothing compiled again in later steps or
for other seeds.

A break puts the host between two parts of a step; what is compiled again in a later step stands on
a run's clock. Graphs are counted where the compiler hands them over, so that no code is generated.
That no method's loss has a break in fp32, `test_every_method` shows too, where it has them compiled
anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from datasets.batches import BodySequences
from harness.conformance.specimen import CPU, FRAMES, Specimen, clips
from harness.registry import Registry
from harness.training.clock import StepClock
from harness.training.data import build_batches
from harness.training.trainer import Trainer

METHODS = Registry().methods
STEPS, SEEDS = 3, 2
QUICK = ("gfp", "mamp")
"""What the claims are about; the others take `make test-long`."""


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """What is compiled from here on; a break is an error."""
    found: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, inputs: list[Any]) -> torch.fx.GraphModule:
        found.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep, fullgraph=True))
    torch._dynamo.reset()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        yield found
    torch._dynamo.reset()


def train(name: str, precision: str, seed: int) -> None:
    """A few steps as a run takes them."""
    specimen = Specimen(METHODS[name])
    spec = specimen.spec(depth=1, seed=seed, compile=True, precision=precision)
    source, method = (
        BodySequences(clips(), CPU),
        specimen.build(depth=1, seed=seed, fused_attention=False),
    )
    batches = build_batches(source, torch.arange(len(source)), spec, FRAMES, method.views)
    Trainer(method, batches, spec.train, STEPS).run_block(STEPS, StepClock(CPU))


CASES = [
    pytest.param(
        name, precision, marks=() if name in QUICK and precision == "bf16" else pytest.mark.long
    )
    for name in METHODS
    for precision in ("bf16", "fp32")
]


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_method_is_one_graph_for_all_steps_and_seeds(
    name: str, precision: str, graphs: list[torch.fx.GraphModule]
) -> None:
    for seed in range(SEEDS):
        train(name, precision, seed)
    assert len(graphs) == 2  # the batches' and the method's
