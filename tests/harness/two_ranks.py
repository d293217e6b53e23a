"""What every rank of `test_distributed` runs: built-in methods, and some made up for a test.

Rank 0 trains each method alone on whole batches and again with the others, and leaves what it saw
in FOLDER.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.batches import TrainingBatches
from harness.isolation import launched
from harness.isolation.guard import Guard, seeded
from harness.records.store import host_copies
from harness.spec.model import DataSpec, MethodSpec, RunSpec, parse_methods
from harness.training import leading
from harness.training.clock import StepClock
from harness.training.data import LoadedData, load_data
from harness.training.distributed import ALONE, join, part
from harness.training.leading import build_trainer, follow
from harness.training.trainer import Trainer, whole
from methods import skeletonmae_graph, skeletonmae_region
from methods.base import About, Method, MethodOptions
from methods.parts import masks
from tests.harness.small_run import CPU, FRAMES, JOINTS, registry, small_data, small_spec
from tests.harness.test_pool import files

STEPS = 20
POOL = "gfp, two sets evenly"
MADE_UP = ("draws", "contrastive", "nan", "exits", "doubles", "raises")
Seen = dict[str, list[Tensor]]


class MadeUpOptions(MethodOptions):
    """Which of them."""

    kind: str = ""


class MadeUp(Method[MadeUpOptions]):
    """Mean position; ``kind`` says what is the matter with it."""

    about = About(title="Made up", paper="none")
    Options = MadeUpOptions

    def __init__(self, encoder: Any, options: MadeUpOptions) -> None:
        super().__init__(encoder, options)
        self.head, self.calls = nn.Linear(encoder.width, 3), 0

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Wrong from the 10th call on, where it goes wrong."""
        self.calls += 1
        kind, late = self.options.kind, self.calls > 10
        guess, target = self.head(self.encoder(x).mean(1)), x.mean((1, 2))
        if kind == "contrastive":
            return nn.functional.cross_entropy(guess @ target.T, torch.arange(len(x))), {}
        if kind == "draws":
            guess = guess * (torch.rand(len(x), 1) < 0.5)
        if kind == "raises" and late:
            raise RuntimeError("on every rank")
        if kind == "exits" and late:
            raise SystemExit(0)
        if kind == "doubles" and late:
            torch.set_default_dtype(torch.float64)
        loss = (guess - target).square().mean()
        return loss * (float("nan") if kind == "nan" and late and launched.rank() == 1 else 1), {}


def method_named(name: str) -> type[Method]:
    """A built-in method, or the one made up."""
    return MadeUp if name == "made-up" else registry().method(name)


# --- what a training sees ---

seen: Seen = {"batches": [], "masks": []}
of_trainers: list[tuple[Trainer, Seen]] = []
"""This rank's that train with others, and what each saw after it was built."""


def nothing_seen() -> Seen:
    """From now on, what is seen stands here."""
    seen.update(batches=[], masks=[])
    return dict(seen)


def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; what it returns is seen."""

    def noted(*arguments: Any, **named: Any) -> Any:
        found = function(*arguments, **named)
        seen[name] += [one.clone() for one in (found if isinstance(found, tuple) else (found,))]
        return found

    return noted


def note_all() -> None:
    """From now on batches, masks and trainers are seen."""
    nothing_seen()
    vars(masks)["Mask"] = noting("masks", masks.Mask)
    setattr(TrainingBatches, "next", noting("batches", TrainingBatches.next))  # noqa: B010
    for module in (skeletonmae_graph, skeletonmae_region):
        vars(module)["region_mask"] = noting("masks", module.region_mask)
    build = leading.built

    def built(kind: type[Trainer], *arguments: Any) -> Trainer:
        nothing_seen()  # of the trial at its beginning
        trainer = build(kind, *arguments)
        if trainer.ranks.size > 1:
            of_trainers.append((trainer, nothing_seen()))
        return trainer

    vars(leading)["built"] = built


# --- the two trainings ---


def train(trainer: Trainer, block: int) -> dict[str, Any]:
    """Train it, on all ranks or alone; ``block`` steps have one loss."""
    with seeded(1):
        losses = [trainer.run_block(block, StepClock(CPU))["loss"] for _ in range(STEPS // block)]
    x = torch.sin(torch.arange(2.0 * FRAMES * len(JOINTS) * 3)).reshape(2, FRAMES, len(JOINTS), 3)
    with torch.no_grad():
        tokens = trainer.method.evaluated_encoder().eval()(x)
    return {"losses": losses, "tokens": tokens, "weights": host_copies(whole(trainer.method))}


def both(spec: RunSpec, data: LoadedData, block: int) -> dict[str, Any]:
    """A method alone and on all ranks: how far apart they end."""
    method = method_named(spec.method.name)
    alone = train(build_trainer(method, spec, replace(data, ranks=ALONE), STEPS), block)
    before = {name: list(values) for name, values in seen.items()}
    trainer = build_trainer(method, spec, data, STEPS)
    together = train(trainer, block)
    apart = {
        name: float((value.double() - together["weights"][name].double()).abs().max())
        for name, value in alone["weights"].items()
    }
    return {
        "unlike": trainer.not_identical,
        "losses": max(
            abs(a / b - 1) for a, b in zip(alone["losses"], together["losses"], strict=True)
        ),
        "tokens": float((alone["tokens"] - together["tokens"]).abs().max()),
        "weights": max(apart.values()),
        "furthest": max(apart, key=apart.__getitem__),
        "alone": before,
    }


def broken(spec: RunSpec, data: LoadedData) -> str:
    """How the training of a method ends on all ranks."""
    try:
        with Guard()("training"):
            trainer = build_trainer(MadeUp, spec, data, STEPS)
            train(trainer, STEPS)
        return trainer.not_identical
    except Exception as problem:  # noqa: BLE001 - it is what is looked for
        return f"{type(problem).__name__}: {problem}"


def same_rows(alone: Seen, ranks: tuple[Seen, ...]) -> dict[str, bool]:
    """Whether the parts of all ranks, one below the other, are the whole batches and masks,
    bit for bit.
    """
    return {
        name: len(wholes) > 0
        and all(
            torch.equal(one, torch.cat(parts))
            for one, *parts in zip(wholes, *(seen[name] for seen in ranks), strict=True)
        )
        for name, wholes in alone.items()
    }


def digest(trainer: Trainer) -> str:
    """Of all its weights and buffers."""
    values = host_copies(whole(trainer.method)).values()
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in values)).hexdigest()


def main(rank: int, port: int, folder: Path, methods: str, block: int) -> None:
    """Everything, in one start, in an environment as torchrun makes it; the store is there."""
    os.environ.update(
        TORCHELASTIC_RUN_ID="none",
        TORCHELASTIC_USE_AGENT_STORE="True",
        MASTER_ADDR="localhost",
        MASTER_PORT=str(port),
        WORLD_SIZE="2",
        LOCAL_WORLD_SIZE="2",
        RANK=str(rank),
        LOCAL_RANK=str(rank),
    )
    torch.set_num_threads(1)
    began = time.perf_counter()
    ranks = join(CPU)
    atexit.unregister(part)
    note_all()
    here = folder / str(ranks.rank)
    here.mkdir()
    data = replace(small_data(here), ranks=ranks)
    results: dict[str, Any] = {}
    if ranks.rank:
        follow(data, method_named)
    else:
        for method in parse_methods(methods):
            results[str(method)] = both(
                small_spec(data).model_copy(update={"method": method}), data, block
            )
        for kind in MADE_UP:
            method = MethodSpec(name="made-up", options={"kind": kind})
            results[kind] = broken(small_spec(data).model_copy(update={"method": method}), data)
        sets = DataSpec(name="+".join(map(str, files(folder))), min_crop=8, sampling="even")
        pool = load_data(sets, CPU, patch=4, ranks=ranks)
        results[POOL] = both(small_spec(pool, "gfp"), pool, block)
        ranks.tell(None)
    of_ranks = ranks.everyones([(digest(trainer), seen) for trainer, seen in of_trainers])
    if not ranks.rank:
        for result, *trainers in zip(results.values(), *of_ranks, strict=False):
            if isinstance(result, dict):
                result["same weights"] = len({digest for digest, _ in trainers}) == 1
                result.update(same_rows(result.pop("alone"), tuple(seen for _, seen in trainers)))
        results["seconds"] = time.perf_counter() - began
        (folder / "results.json").write_text(json.dumps(results, indent=1))
