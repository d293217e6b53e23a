"""The training loop: schedule, weight decay, seeds, divergence, precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from datasets.batches import Batches, BodySequences
from harness.errors import MethodFault, UsageError
from harness.records.store import RecordStore
from harness.runs.cell import Attempt, RunContext, diagnose
from harness.spec.model import EncoderSpec, TrainSpec
from harness.training import trainer as training
from harness.training.build import build_schedule, encoder_size
from harness.training.clock import StepClock
from harness.training.compilation import compiled
from harness.training.data import LoadedData
from harness.training.trainer import Diverged, Trainer
from methods.base import About, Method, MethodOptions
from methods.gfp import GFP, GFPOptions
from methods.mamp import MAMP, MAMPOptions
from methods.parts.attention import SelfAttention
from methods.parts.decoders import TokenFiller
from methods.parts.encoder import SkeletonEncoder, set_attention_kernel
from tests.harness.made_up_records import ENVIRONMENT
from tests.harness.small_run import CPU, small_cell, small_data, small_trainer
from tests.methods.made_up import averaged, encoder, motion, sorted_back

METHODS = ("skeletonmae", "gfp", "encoder-only")
ROUNDING = 5e-4
"""How far each loss of 50 steps may drift, as a share, when only the kernels differ;
no weight decay is over 1e-3.
"""
BF16 = 0.04
"""How far the mean loss of each 10 of 50 steps may drift, as a share, in bfloat16 (8 bits)."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LoadedData:
    return small_data(tmp_path_factory.mktemp("training"))


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


class SlowlyBroken(Method):
    """Its loss is not a number from the third step on."""

    about = About(title="Slowly broken", paper="none")

    def __init__(self, encoder: SkeletonEncoder, options: MethodOptions) -> None:
        super().__init__(encoder, options)
        self.calls = 0

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        loss = self.encoder(x).square().mean()
        return (loss * math.nan if self.calls >= 3 else loss), {}


class NoBlocks(Method):
    """Reads the encoder's input alone."""

    about = About(title="No blocks", paper="none")

    def own_encoder(self, shared: SkeletonEncoder) -> Any:
        return nn.Linear(3, 1)


class Progress(Method):
    """Remembers what it was told after each step."""

    about = About(title="Progress", paper="none")

    def __init__(self, encoder: SkeletonEncoder, options: MethodOptions) -> None:
        super().__init__(encoder, options)
        self.seen: list[float] = []

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.encoder(x).square().mean(), {"constant": torch.tensor(3.0)}

    def after_step(self, progress: float) -> None:
        self.seen.append(progress)


# --- schedule ---


def rates(train: TrainSpec, steps: int) -> list[float]:
    """Learning rate of every optimiser step, and the one after the last."""
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=train.lr)
    schedule, found = build_schedule(optimizer, train, steps), []
    for step in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        schedule.step_update(step + 1)
    return found


@pytest.mark.parametrize("steps", [20, 100, 1000])
def test_the_schedule_is_refitted_to_the_budget(steps: int) -> None:
    train = TrainSpec(lr=0.004, final_lr=0.25, warmup=0.1)
    found, warmup = rates(train, steps), steps // 10
    assert found[0] == 0
    assert found[warmup // 2] == pytest.approx(0.002)  # half-way up
    assert found[warmup] == pytest.approx(0.004)  # the top
    assert found[(warmup + steps) // 2] == pytest.approx(
        0.0025
    )  # half-way down from 0.004 to 0.001
    assert found[steps] == pytest.approx(0.001)  # lr * final_lr


def test_the_rate_rises_and_then_falls() -> None:
    found = rates(TrainSpec(warmup=0.2), 50)
    assert found[:11] == sorted(found[:11])
    assert found[10:] == sorted(found[10:], reverse=True)


def test_without_warm_up_the_schedule_begins_at_the_top() -> None:
    assert rates(TrainSpec(lr=0.004, warmup=0.0), 10)[0] == pytest.approx(0.004)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_schedules_are_finite(steps: int) -> None:
    assert all(0 <= rate <= 1e-3 for rate in rates(TrainSpec(lr=1e-3, warmup=0.5), steps))


def test_training_follows_the_schedule(data: LoadedData) -> None:
    trainer = small_trainer(data, steps=10, lr=0.01, warmup=0.2, final_lr=0.5)
    found = []
    for _ in range(10):
        found.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.run_block(1, StepClock(CPU))
    assert found == pytest.approx(rates(TrainSpec(lr=0.01, warmup=0.2, final_lr=0.5), 10)[:10])
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


# --- optimiser ---


def decays(data: LoadedData) -> dict[str, float]:
    """Weight decay of every parameter of GFP, by name."""
    trainer = small_trainer(data, "gfp", weight_decay=0.05)
    decay = {
        id(parameter): group["weight_decay"]
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }
    return {name: decay[id(parameter)] for name, parameter in trainer.method.named_parameters()}


def test_biases_and_norms_are_not_decayed(data: LoadedData) -> None:
    found, trainer = decays(data), small_trainer(data, "gfp")
    flat = {name for name, parameter in trainer.method.named_parameters() if parameter.ndim == 1}
    assert {"encoder.norm.weight", "encoder.patch_embed.bias"} <= flat
    assert {found[name] for name in flat} == {0.0}


def test_matrices_and_positions_are_decayed(data: LoadedData) -> None:
    found, trainer = decays(data), small_trainer(data, "gfp")
    large = {name for name, parameter in trainer.method.named_parameters() if parameter.ndim > 1}
    assert {
        "encoder.positions.time",
        "encoder.positions.joint",
        "encoder.patch_embed.weight",
    } <= large
    assert {found[name] for name in large} == {0.05}


def test_every_parameter_is_in_the_optimiser_once(data: LoadedData) -> None:
    trainer = small_trainer(data, "gfp")
    held = [
        id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]
    ]
    assert sorted(held) == sorted(id(parameter) for parameter in trainer.method.parameters())


def test_a_clipped_gradient_is_no_longer_than_the_limit(
    data: LoadedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, norms = small_trainer(data, clip_gradient=1e-3), []
    step = trainer.optimizer.step

    def spy() -> object:
        gradients = [p.grad.flatten() for p in trainer.method.parameters() if p.grad is not None]
        norms.append(float(torch.cat(gradients).norm()))
        return step()

    monkeypatch.setattr(trainer.optimizer, "step", spy)
    trainer.run_block(2, StepClock(CPU))
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-2)


# --- seeds ---


def test_methods_of_one_seed_start_from_the_same_encoder(data: LoadedData) -> None:
    first, *others = (weights(small_trainer(data, name, seed=3).method.encoder) for name in METHODS)
    assert all(equal(first, other) for other in others)


def test_another_seed_is_another_encoder(data: LoadedData) -> None:
    one, two = (weights(small_trainer(data, seed=seed).method.encoder) for seed in (0, 1))
    assert not torch.equal(one["patch_embed.weight"], two["patch_embed.weight"])


def test_methods_of_one_seed_see_the_same_batches(data: LoadedData) -> None:
    first, *others = (small_trainer(data, name, seed=3) for name in METHODS)
    for trainer in (first, *others):
        trainer.run_block(
            2, StepClock(CPU)
        )  # a method's own random numbers must not shift the batches
    batches = [
        torch.stack([trainer.batches.next() for _ in range(5)]) for trainer in (first, *others)
    ]
    assert all(torch.equal(batches[0], other) for other in batches[1:])


def test_another_seed_sees_other_batches(data: LoadedData) -> None:
    one, two = (small_trainer(data, seed=seed).batches.next() for seed in (0, 1))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("method", METHODS)
def test_two_trainings_from_one_seed_end_in_identical_weights(
    data: LoadedData, method: str
) -> None:
    ends = []
    for _ in range(2):
        trainer = small_trainer(data, method, seed=1, steps=4)
        before = weights(trainer.method)
        trainer.run_block(4, StepClock(CPU))
        ends.append(weights(trainer.method))
        assert not equal(before, ends[-1])
    assert equal(*ends)


def test_blocks_do_not_change_the_result(data: LoadedData) -> None:
    whole, parts = small_trainer(data, steps=6), small_trainer(data, steps=6)
    torch.manual_seed(0)
    whole.run_block(6, StepClock(CPU))
    torch.manual_seed(0)
    for steps in (1, 3, 2):
        parts.run_block(steps, StepClock(CPU))
    assert whole.done == parts.done == 6
    assert equal(weights(whole.method), weights(parts.method))


# --- what a block says ---


def test_a_block_returns_the_mean_loss_and_the_named_parts(data: LoadedData) -> None:
    means = small_trainer(data, "gfp", warmup=0.5).run_block(3, StepClock(CPU))
    assert means.keys() == {"loss", "prediction", "variance", "covariance"}
    assert means["loss"] == pytest.approx(
        5 * means["prediction"] + 5 * means["variance"] + means["covariance"]
    )


def test_a_part_is_averaged_over_the_block(data: LoadedData) -> None:
    assert small_trainer(data, Progress).run_block(4, StepClock(CPU))["constant"] == 3.0


def test_after_each_step_the_method_hears_the_share_that_is_done(data: LoadedData) -> None:
    trainer = small_trainer(data, Progress, steps=4)
    trainer.run_block(4, StepClock(CPU))
    assert isinstance(trainer.method, Progress)
    assert trainer.method.seen == [0.25, 0.5, 0.75, 1.0]


def test_a_loss_that_is_no_number_stops_the_training(data: LoadedData) -> None:
    trainer = small_trainer(data, SlowlyBroken)
    assert math.isfinite(trainer.run_block(2, StepClock(CPU))["loss"])
    with pytest.raises(Diverged, match=r"loss is nan after 3 steps"):
        trainer.run_block(1, StepClock(CPU))


def test_one_bad_step_in_a_block_is_seen(data: LoadedData) -> None:
    with pytest.raises(Diverged):
        small_trainer(data, SlowlyBroken).run_block(3, StepClock(CPU))


# --- warm-up off the clock ---


@pytest.mark.parametrize(
    "method", [*METHODS, "sjepa", "skeletonmae-graph"]
)  # the last two keep running means
def test_warming_up_leaves_no_trace(data: LoadedData, method: str) -> None:
    cold, warm = (small_trainer(data, method, steps=4) for _ in range(2))
    state = torch.get_rng_state()
    warm.warm_up()
    assert torch.equal(torch.get_rng_state(), state)
    assert warm.done == 0
    assert equal(weights(warm.method), weights(cold.method))
    assert all(parameter.grad is None for parameter in warm.method.parameters())
    assert torch.equal(warm.batches.next(), cold.batches.next())


@pytest.mark.parametrize("method", ["sjepa", "skeletonmae-graph", "gfp"])
def test_asking_for_a_diagnosis_leaves_no_trace(data: LoadedData, method: str) -> None:
    trainer = small_trainer(data, method)
    before, state = weights(trainer.method), torch.get_rng_state()
    diagnose(trainer.method, trainer.batches.next())
    assert equal(weights(trainer.method), before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_warm_trainer_trains_as_a_cold_one(data: LoadedData) -> None:
    ends = []
    for warm in (False, True):
        trainer = small_trainer(data, seed=2, steps=3)
        if warm:
            trainer.warm_up()
        trainer.run_block(3, StepClock(CPU))
        ends.append(weights(trainer.method))
    assert equal(*ends)


@pytest.mark.parametrize(("graphs", "steps"), [(False, 1), (True, 3)])
def test_warming_up_goes_on_until_cuda_graphs_are_replayed(
    data: LoadedData, graphs: bool, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call compiles, the second captures, which takes as long,
    and only the third runs as all others.
    """
    calls, backwards = list[str | None](), list[Tensor]()

    def compile(
        function: Callable[[Tensor], object], dynamic: bool, mode: str | None = "batches"
    ) -> object:
        return function if mode == "batches" else lambda x: (calls.append(mode), function(x))[1]

    monkeypatch.setattr(torch, "compile", compile)
    trainer = small_trainer(data, compile=True, cuda_graphs=graphs)
    next(trainer.method.parameters()).register_hook(backwards.append)
    trainer.warm_up()
    assert len(calls) == len(backwards) == trainer.first_steps == steps
    assert trainer.done == 0


# --- precision and compilation ---


@pytest.mark.parametrize(
    ("precision", "products"), [("fp32", "highest"), ("bf16", "highest"), ("tf32", "high")]
)
def test_only_training_in_tf32_rounds_fp32_products_to_it(
    data: LoadedData, precision: str, products: str
) -> None:
    seen: list[str] = []
    trainer = small_trainer(data, precision=precision)
    weight = trainer.method.encoder.patch_embed.weight
    weight.register_hook(lambda gradient: seen.append(torch.get_float32_matmul_precision()))
    trainer.method.encoder.register_forward_pre_hook(
        lambda module, inputs: seen.append(torch.get_float32_matmul_precision())
    )
    torch.set_float32_matmul_precision("highest")
    trainer.warm_up()
    trainer.run_block(1, StepClock(CPU))
    assert seen == [products] * 4
    assert torch.get_float32_matmul_precision() == "highest"


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(
    data: LoadedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    trainer = small_trainer(data, precision="bf16")
    trainer.method.encoder.patch_embed.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    means = trainer.run_block(2, StepClock(CPU))
    assert seen == [torch.bfloat16, torch.bfloat16]
    assert math.isfinite(means["loss"])
    assert {parameter.dtype for parameter in trainer.method.parameters()} == {torch.float32}


def test_bf16_stays_near_fp32(data: LoadedData) -> None:
    full, half = (
        small_trainer(data, precision=name).run_block(1, StepClock(CPU))
        for name in ("fp32", "bf16")
    )
    assert half["loss"] != full["loss"]
    assert half["loss"] == pytest.approx(full["loss"], rel=0.05)


def test_without_compile_the_methods_own_loss_runs(data: LoadedData) -> None:
    trainer = small_trainer(data)
    assert trainer.loss == trainer.method.loss


@pytest.mark.parametrize("fused", [True, False])
def test_the_attention_kernel_is_the_one_asked_for(data: LoadedData, fused: bool) -> None:
    trainer = small_trainer(data, "gfp", fused_attention=fused)
    kernels = [
        layer.fused_attn for layer in trainer.method.modules() if hasattr(layer, "fused_attn")
    ]
    assert len(kernels) == 1 + 4  # the encoder's block, and one per level of the decoder
    assert set(kernels) == {fused}


def test_scaled_scores_are_a_choice_of_plain_attention(data: LoadedData) -> None:
    trainer = small_trainer(data, fused_attention=False, scale_scores=True)
    layers = [layer for layer in trainer.method.modules() if isinstance(layer, SelfAttention)]
    assert layers
    assert all(layer.scale_scores for layer in layers)
    assert not any(
        layer.scale_scores
        for layer in small_trainer(data).method.modules()
        if isinstance(layer, SelfAttention)
    )
    with pytest.raises(ValidationError, match=r"set train\.fused_attention=false"):
        TrainSpec(scale_scores=True)


@pytest.mark.parametrize("method", ["mamp", "amr"])
@pytest.mark.parametrize(
    ("precision", "types"), [("run", {torch.bfloat16}), ("fp32", {torch.float32})]
)
def test_all_attention_of_a_run_in_bf16_computes_as_asked(
    data: LoadedData,
    method: str,
    precision: str,
    types: set[torch.dtype],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[torch.dtype] = []
    kernel = nn.functional.scaled_dot_product_attention

    def noted(query: Tensor, *others: Any, **named: Any) -> Tensor:
        read = kernel(query, *others, **named)
        found.append(read.dtype)
        return read

    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", noted)
    trainer = small_trainer(data, method, precision="bf16", attention_precision=precision)
    trainer.run_block(1, StepClock(CPU))
    layers = [layer for layer in trainer.method.modules() if hasattr(layer, "fused_attn")]
    assert (len(found), set(found)) == (len(layers), types)


@pytest.mark.parametrize("method", ["mamp", "amr"])
def test_attention_in_float32_is_the_same_attention(data: LoadedData, method: str) -> None:
    plain, other = small_trainer(data, method), small_trainer(data, method)
    set_attention_kernel(other.method, fused=True, full_precision=True)
    assert losses_of(other) == pytest.approx(losses_of(plain), rel=ROUNDING)


@pytest.mark.parametrize("setting", [{"order": "cudnn-first"}, {"full_precision": True}])
def test_attention_that_cannot_be_told_is_not_passed_over(setting: dict[str, Any]) -> None:
    layer = nn.Module()
    layer.fused_attn = True
    with pytest.raises(ValueError, match="expected attention that can be told, found Module"):
        set_attention_kernel(layer, fused=True, **setting)


def test_both_attention_kernels_compute_the_same_loss(data: LoadedData) -> None:
    one, two = (
        small_trainer(data, fused_attention=fused).run_block(1, StepClock(CPU))
        for fused in (True, False)
    )
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("switches", "compiled"),
    [
        ({}, []),
        ({"compile": True}, [("_augmented", None), ("loss", None)]),
        (
            {"compile": True, "cuda_graphs": True},
            [("_augmented", None), ("loss", "reduce-overhead")],
        ),
    ],
)
def test_batches_and_loss_are_compiled_as_asked(
    data: LoadedData,
    switches: dict[str, bool],
    compiled: list[tuple[str, str | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    modes: list[tuple[str, str | None]] = []

    def compile(function: Callable[..., object], dynamic: bool, mode: str | None = None) -> object:
        modes.append((function.__name__, mode))
        return function

    monkeypatch.setattr(torch, "compile", compile)
    assert math.isfinite(small_trainer(data, **switches).run_block(1, StepClock(CPU))["loss"])
    assert modes == compiled


@pytest.mark.parametrize("fused", [True, False])
def test_the_optimiser_is_the_one_asked_for(data: LoadedData, fused: bool) -> None:
    optimizer = small_trainer(data, fused_optimizer=fused).optimizer
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {bool(group["fused"]) for group in optimizer.param_groups} == {fused}


def losses(
    data: LoadedData, method: str | type[Method], steps: int = 50, **train: object
) -> list[float]:
    """The loss of every step of a training at a rate high enough to learn something."""
    return losses_of(small_trainer(data, method, steps=steps, lr=0.01, **train))


def losses_of(trainer: Trainer) -> list[float]:
    """The loss of every step of its schedule."""
    torch.manual_seed(0)
    return [trainer.run_block(1, StepClock(CPU))["loss"] for _ in range(trainer.steps)]


@pytest.fixture(scope="module")
def plain(data: LoadedData) -> Callable[[str], list[float]]:
    """`losses` of a method with every setting as it is by default, made once."""
    return cache(partial(losses, data))


@pytest.mark.parametrize("method", ["skeletonmae", "gfp", "sjepa"])
def test_the_fast_kernels_train_as_the_plain_ones(data: LoadedData, method: str) -> None:
    fast = losses(data, method, fused_attention=True, fused_optimizer=True)
    plain = losses(data, method, fused_attention=False, fused_optimizer=False)
    assert fast == pytest.approx(plain, rel=ROUNDING)
    assert sum(fast[-10:]) < 0.9 * sum(fast[:10])  # and it was a training


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """`torch.compile` as far as the tracer goes, which needs no C++ compiler;
    names of what it was asked to compile.
    """
    asked: list[str] = []
    compile = torch.compile

    def trace(
        function: Callable[..., object], mode: str | None = None, dynamic: bool | None = None
    ) -> object:
        asked.append(function.__name__)
        return compile(function, backend="aot_eager", dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", trace)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield asked
    torch._dynamo.reset()


LOSS, BLOCKS, ORDER = (
    {"compile": True},
    {"compile": True, "compile_scope": "blocks"},
    {"sdpa": "cudnn-first"},
)


@pytest.mark.parametrize(
    ("method", "switch", "names"),
    [
        ("mamp", LOSS, ["_augmented", "loss"]),
        pytest.param("gfp", LOSS, ["_augmented", "loss"], marks=pytest.mark.long),
        pytest.param("amr", LOSS, ["_augmented", "loss"], marks=pytest.mark.long),
        pytest.param("mamp", BLOCKS, ["_augmented", "forward"], marks=pytest.mark.long),
        pytest.param("gfp", BLOCKS, ["_augmented", "forward"], marks=pytest.mark.long),
        ("amr", BLOCKS, ["_augmented", "forward"]),
        ("mamp", ORDER, []),
        ("gfp", ORDER, []),
        ("amr", ORDER, []),
    ],
)
def test_a_training_is_the_same_with_a_switch_on(
    data: LoadedData,
    plain: Callable[[str], list[float]],
    method: str,
    switch: dict[str, Any],
    names: list[str],
    traced: list[str],
) -> None:
    off = plain(method)
    assert losses(data, method, **switch) == pytest.approx(off, rel=ROUNDING)
    assert list(dict.fromkeys(traced)) == names
    assert sum(off[-10:]) < 0.9 * sum(off[:10])  # and it was a training


@pytest.mark.parametrize("method", ["mamp", "gfp"])
def test_filling_the_grid_from_visible_tokens_trains_as_sorting_it(
    data: LoadedData,
    plain: Callable[[str], list[float]],
    method: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = plain(method)
    monkeypatch.setattr(TokenFiller, "forward", sorted_back)
    monkeypatch.setattr(TokenFiller, "pooled", averaged)
    assert losses(data, method) == pytest.approx(found, rel=ROUNDING)


class RoundedOptions(GFPOptions):
    """Those of GFP with the products of the covariance in bfloat16."""

    covariance: Literal["float32", "autocast", "bf16"] = "bf16"


class RoundedGFP(GFP):
    """GFP with them."""

    Options = RoundedOptions


def test_a_rounded_covariance_begins_as_float32_and_ends_near_it(
    data: LoadedData, plain: Callable[[str], list[float]]
) -> None:
    full, rounded = plain("gfp"), losses(data, RoundedGFP)
    assert rounded != full
    assert rounded[0] == pytest.approx(full[0], rel=1e-3)
    assert sum(rounded[-10:]) == pytest.approx(
        sum(full[-10:]), rel=0.05
    )  # rounding grows from step to step


def test_blocks_are_compiled_in_the_loss_and_nowhere_else(
    data: LoadedData, traced: list[str]
) -> None:
    trainer = small_trainer(data, "mamp", compile=True, compile_scope="blocks")
    trainer.run_block(1, StepClock(CPU))
    assert traced.count("forward") == 1 + 1  # one of the encoder, one of the decoder
    assert (
        torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1 + 2
    )  # of the batches, and of both shapes
    assert not any("forward" in vars(module) for module in trainer.method.modules())


def test_blocks_of_one_shape_share_a_compilation(data: LoadedData, traced: list[str]) -> None:
    method = MAMP(encoder(), MAMPOptions(decoder_depth=3))
    loss = compiled(method, TrainSpec(compile=True, compile_scope="blocks"))
    for _ in range(3):
        loss(motion(4))[0].backward()
    assert traced == ["forward"] * (2 + 3)
    assert (
        torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    )  # visible tokens, and the whole grid


def test_another_order_of_kernels_is_another_compilation(
    data: LoadedData, traced: list[str]
) -> None:
    for order, graphs in (("default", 1), ("cudnn-first", 2), ("default", 2)):
        small_trainer(data, "encoder-only", compile=True, sdpa=order).run_block(1, StepClock(CPU))
        assert (
            torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1 + graphs
        )  # of the batches, and of losses


def test_without_a_block_there_is_none_to_compile(data: LoadedData) -> None:
    with pytest.raises(MethodFault, match="compile_scope=blocks: expected transformer blocks"):
        small_trainer(data, NoBlocks, compile=True, compile_scope="blocks")


@pytest.mark.parametrize("attention", ["run", pytest.param("fp32", marks=pytest.mark.long)])
@pytest.mark.parametrize("method", ["skeletonmae", "gfp", "sjepa"])
def test_bf16_trains_within_a_few_percent_of_fp32(
    data: LoadedData, plain: Callable[[str], list[float]], method: str, attention: str
) -> None:
    full = torch.tensor(plain(method))
    half = torch.tensor(losses(data, method, precision="bf16", attention_precision=attention))
    assert half.reshape(5, 10).mean(1).tolist() == pytest.approx(
        full.reshape(5, 10).mean(1).tolist(), rel=BF16
    )
    assert half.tolist() != pytest.approx(full.tolist(), rel=ROUNDING)


# --- where batches come from ---


class Journal:
    """Batches that note when they start to flow, when they are taken, and when they stop."""

    def __init__(self, batches: Batches, lead: int = 0) -> None:
        self.batches, self.size, self.device, self.lead = (
            batches,
            batches.size,
            batches.device,
            lead,
        )
        self.entries: list[str] = []

    def next(self) -> Tensor:
        self.entries.append("next")
        return self.batches.next()

    def sample(self) -> Tensor:
        self.entries.append("sample")
        return self.batches.sample()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        self.entries.append("on")
        try:
            yield
        finally:
            self.entries.append("off")


@pytest.mark.parametrize("lead", [0, 3])
def test_batches_flow_only_during_a_block_and_the_lead_is_off_its_clock(
    data: LoadedData, lead: int
) -> None:
    trainer, clock = small_trainer(data), StepClock(CPU)
    trainer.batches = journal = Journal(trainer.batches, lead)
    start, stop = clock.start, clock.stop
    clock.start = lambda: (journal.entries.append("start"), start())[1]  # type: ignore[method-assign]
    clock.stop = lambda phase: (journal.entries.append("stop"), stop(phase))[1]  # type: ignore[method-assign]
    trainer.warm_up()
    trainer.run_block(2, clock)
    assert journal.entries == [
        "sample",
        "on",
        *["next"] * lead,
        "start",
        "next",
        "next",
        "stop",
        "off",
    ]
    assert len(clock.steps) == 2
    assert trainer.done == 2


def test_batches_made_on_the_device_need_no_lead(data: LoadedData) -> None:
    assert small_trainer(data).batches.lead == 0


def test_the_lead_trains_nothing(data: LoadedData) -> None:
    trainer = small_trainer(data)
    trainer.batches = Journal(trainer.batches, lead=4)
    rate, before, seen = trainer.optimizer.param_groups[0]["lr"], weights(trainer.method), []

    class Noting(StepClock):
        def start(self) -> None:
            note()
            super().start()

    def note() -> None:
        gradients = [
            parameter.grad
            for parameter in trainer.method.parameters()
            if parameter.grad is not None
        ]
        optimizer = trainer.optimizer
        seen.append(
            (trainer.done, optimizer.param_groups[0]["lr"], len(optimizer.state), len(gradients))
        )
        assert equal(weights(trainer.method), before)

    trainer.run_block(1, Noting(CPU))
    assert seen == [
        (0, rate, 0, 0)
    ]  # no step, no rate, no moments, no gradient left when the clock starts
    assert trainer.done == 1


def test_the_lead_writes_every_weight_and_moment_once_and_changes_none(data: LoadedData) -> None:
    """Right after a fork of workers the first write copies a page:
    a timed step must not be the one that pays.
    """
    trainer = small_trainer(data, "gfp")
    trainer.run_block(1, StepClock(CPU))  # from here on the optimiser has its moments
    trainer.batches = Journal(trainer.batches, lead=1)
    kept = [tensor for tensor in trainer.resident() if tensor.is_floating_point()]
    assert len(kept) >= 3 * len(list(trainer.method.parameters()))
    before = [(tensor.detach().clone(), tensor._version) for tensor in kept]
    trainer._lead()
    for tensor, (value, version) in zip(kept, before, strict=True):
        assert torch.equal(tensor, value)
        assert tensor._version > version


# --- what MAMP's released step does beside the step ---


def test_the_gradient_norm_is_that_of_all_gradients_and_is_logged(data: LoadedData) -> None:
    trainer = small_trainer(data, gradient_norm=True)
    whole: list[float] = []
    step = trainer.optimizer.step

    def noted(*arguments: Any) -> Any:
        gradients = [p.grad.flatten() for p in trainer.method.parameters() if p.grad is not None]
        whole.append(torch.cat(gradients).norm().item())
        return step(*arguments)

    trainer.optimizer.step = noted  # type: ignore[method-assign]
    means = trainer.run_block(2, StepClock(CPU))
    assert means["gradient_norm"] == pytest.approx(sum(whole) / 2, rel=1e-5)
    assert "gradient_norm" not in small_trainer(data).run_block(1, StepClock(CPU))


class Scaler:
    """Notes what a gradient scaler is asked to do."""

    def __init__(self, entries: list[str]) -> None:
        self.entries = entries

    def is_enabled(self) -> bool:
        return True

    def scale(self, loss: Tensor) -> Tensor:
        self.entries.append("scale")
        return loss

    def unscale_(self, optimizer: torch.optim.Optimizer) -> None:
        assert all(p.grad is not None for group in optimizer.param_groups for p in group["params"])
        self.entries.append("unscale")

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.entries.append("step")
        optimizer.step()

    def update(self) -> None:
        self.entries.append("update")


def test_the_order_of_a_published_step(data: LoadedData, monkeypatch: pytest.MonkeyPatch) -> None:
    entries: list[str] = []
    trainer = small_trainer(data, synchronise=True, gradient_norm=True, gradient_scaler=True)
    assert not trainer.scaler.is_enabled()  # on a CPU, as MAMP's
    trainer.scaler = Scaler(entries)  # type: ignore[assignment]
    norm = training.gradient_norm
    monkeypatch.setattr(
        training, "gradient_norm", lambda parameters: (entries.append("norm"), norm(parameters))[1]
    )
    clock = StepClock(CPU)
    monkeypatch.setattr(clock, "synchronise", lambda: entries.append("wait"))
    trainer.run_block(1, clock)
    assert entries == [
        "wait",
        "scale",
        "unscale",
        "norm",
        "step",
        "update",
        "wait",
        "wait",
    ]  # first and last: the block's
    entries.clear()
    trainer = small_trainer(data)
    clock = StepClock(CPU)
    monkeypatch.setattr(clock, "synchronise", lambda: entries.append("wait"))
    trainer.run_block(3, clock)
    assert entries == ["wait", "wait"]


def test_a_loss_that_is_read_every_step_stops_the_training_at_once(data: LoadedData) -> None:
    trainer = small_trainer(data, SlowlyBroken, synchronise=True)
    with pytest.raises(Diverged, match="after 2 steps"):
        trainer.run_block(6, StepClock(CPU))


def test_the_switches_of_the_published_step_change_no_result_on_a_cpu(data: LoadedData) -> None:
    ends = []
    for on in (False, True):
        trainer = small_trainer(data, synchronise=on, gradient_norm=on, gradient_scaler=on)
        trainer.run_block(3, StepClock(CPU))
        ends.append(weights(trainer.method))
    assert equal(*ends)


def test_the_lead_of_every_block_leaves_done_to_the_timed_steps(data: LoadedData) -> None:
    trainer = small_trainer(data, Progress)
    trainer.batches = journal = Journal(trainer.batches, lead=2)
    for _ in range(2):
        assert trainer.run_block(3, StepClock(CPU))["constant"] == 3.0
    assert trainer.done == 6
    assert isinstance(trainer.method, Progress)
    assert trainer.method.seen == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert journal.entries.count("next") == 2 * (2 + 3)


def test_batches_stop_flowing_when_a_step_throws(
    data: LoadedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = small_trainer(data)
    trainer.batches = journal = Journal(trainer.batches)
    monkeypatch.setattr(trainer, "loss", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.run_block(2, StepClock(CPU))
    assert journal.entries == ["on", "next", "off"]


# --- encoder sizes ---


def test_each_number_of_an_encoder_can_be_overridden() -> None:
    size = encoder_size(EncoderSpec(size="base", depth=2, frames=60))
    assert (size.depth, size.width, size.heads, size.frames, size.patch) == (2, 256, 8, 60, 4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            EncoderSpec(size="bse"),
            r"unknown encoder 'bse', did you mean 'base'\? \(known: base, small, tiny\)",
        ),
        (EncoderSpec(frames=70), "70 frames are not a multiple of the patch of 4 frames"),
        (EncoderSpec(heads=5), "width 64 is not a multiple of 5 heads"),
    ],
)
def test_an_impossible_encoder_is_one_line(spec: EncoderSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        encoder_size(spec)


def test_the_folder_of_the_data_is_not_needed_after_loading(tmp_path: Path) -> None:
    loaded = small_data(tmp_path)
    (tmp_path / "small.npz").unlink()
    assert math.isfinite(small_trainer(loaded).run_block(1, StepClock(CPU))["loss"])


def test_a_runs_device_is_asked_without_its_data(tmp_path: Path) -> None:
    def packed() -> BodySequences:
        raise AssertionError("the data were moved")

    data = replace(small_data(tmp_path), packed=packed)
    attempt = Attempt(small_cell(data), RunContext(data, RecordStore(tmp_path), ENVIRONMENT))
    assert attempt.clock.device == attempt.watch.device == CPU
