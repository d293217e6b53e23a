"""Counted FLOPs of a training step at ``base`` against the published model and its closed form.

The figures of whole steps are our derivation; the forward costs of GFP's parts are those that it
prints (arXiv 2509.03609).
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch.utils import flop_counter as torch_counter

from datasets.layouts import NTU25
from harness.registry import Registry
from harness.spec.model import EncoderSpec, MethodSpec, RunSpec, TrainSpec
from harness.speed.flops import flop_counter, forward_shares, step_flops
from methods.parts.encoder import SIZES, EncoderSize, set_attention_kernel, transformer_blocks
from tests.methods.made_up import meta_encoder

BASE = SIZES["base"]
BATCH = 128  # body sequences, i.e. 64 clips
VISIBLE, WIDTH, LOCAL, WHOLE = 74, 256, 512, 2048
LEVELS = (150, 75, 25)  # tokens of GFP's local levels; the global one has 1
MOTION = 9000  # numbers of a sequence's flattened motion


def counted(name: str, options: dict[str, int]) -> float:
    """Counted GFLOPs of a training step at ``base`` per clip of two bodies."""
    spec = RunSpec(
        method=MethodSpec(name=name, options=options),
        encoder=EncoderSpec(size="base"),
        train=TrainSpec(batch_size=BATCH),
    )
    return step_flops(Registry().method(name), spec, NTU25) / (BATCH / 2) / 1e9


@cache
def gflops_per_clip(name: str, depth: int | None) -> float:
    """`counted`, once for all tests."""
    return counted(name, {} if depth is None else {"decoder_depth": depth})


# --- closed forms ---


def block_macs(tokens: int, width: int) -> int:
    """Multiply-adds of one transformer block: ``12 N d^2 + 2 N^2 d``."""
    return 12 * tokens * width**2 + 2 * tokens**2 * width


def encoder_macs(size: EncoderSize, tokens: int) -> int:
    """Multiply-adds of the encoder on ``tokens`` visible tokens, patch embedding included."""
    return size.depth * block_macs(tokens, size.width) + tokens * size.patch * 3 * size.width


def training_gflops(macs: float) -> float:
    """GFLOPs per clip of a training step (forward and twice that backward, two bodies)
    from forward MACs.
    """
    return macs * 2 * 3 * 2 / 1e9


# --- published numbers ---


@pytest.mark.parametrize(
    ("name", "depth", "published", "tolerance"),
    [
        ("skeletonmae", 5, 58.6, 0.03),
        ("skeletonmae", 3, 37.6, 0.03),
        ("encoder-only", None, 5.88, 0.03),
        ("gfp", None, 12.5, 0.10),
    ],
)
def test_counted_gflops_are_the_published_ones(
    name: str, depth: int | None, published: float, tolerance: float
) -> None:
    assert gflops_per_clip(name, depth) == pytest.approx(published, rel=tolerance)


# --- GFP item by item ---


def first_layer_gflops(macs: int) -> float:
    """The gradient with respect to a network's input, which no step computes:
    one product of the layer's size.
    """
    return macs * 2 * 2 / 1e9


def gfp_decoder_macs() -> int:
    """One block a level and three-layer heads."""
    heads = sum(LEVELS) * (WIDTH * LOCAL + 2 * LOCAL**2) + WIDTH * WHOLE + 2 * WHOLE**2
    return heads + sum(block_macs(tokens, WIDTH) for tokens in (*LEVELS, 1))


def gfp_target_macs() -> int:
    """The target network: three layers at every target."""
    return sum(LEVELS) * (12 * LOCAL + 2 * LOCAL**2) + MOTION * WHOLE + 2 * WHOLE**2


def gfp_model_gflops() -> float:
    """Encoder, decoder and target network: forward and twice that backward."""
    return training_gflops(encoder_macs(BASE, VISIBLE) + gfp_decoder_macs() + gfp_target_macs())


def covariance_gflops() -> float:
    """``Z^T Z`` of each local level, ``Z Z^T`` of the global one (128 rows of 2048),
    and twice that backward.
    """
    local = sum(BATCH * tokens * LOCAL**2 for tokens in LEVELS)
    return 3 * 2 * (local + BATCH**2 * WHOLE) / (BATCH / 2) / 1e9


def input_gradient_gflops() -> float:
    """Patch embedding and the target network's first layers get their input from the data."""
    return first_layer_gflops(VISIBLE * 12 * WIDTH + sum(LEVELS) * 12 * LOCAL + MOTION * WHOLE)


@pytest.mark.parametrize(
    ("macs", "published", "tolerance"),
    [
        (encoder_macs(BASE, VISIBLE), 1.97, 0.01),
        (gfp_decoder_macs(), 1.57, 0.025),
        (gfp_target_macs(), 0.64, 0.005),
    ],
    ids=["encoder", "decoder", "target-network"],
)
def test_closed_forms_of_gfps_parts_are_the_published_forward_costs(
    macs: int, published: float, tolerance: float
) -> None:
    assert training_gflops(macs) / 3 == pytest.approx(published, rel=tolerance)


def test_the_covariance_costs_a_few_percent_of_gfp() -> None:
    # 32,000 rows of 512 columns and 128 of 2048: 50.5 GFLOP a step, 0.79 a clip
    assert covariance_gflops() == pytest.approx(0.790, abs=0.001)


def test_a_linear_layer_before_gfps_decoder_brings_it_to_the_published_cost() -> None:
    projection = VISIBLE * WIDTH**2
    assert training_gflops(gfp_decoder_macs()) / 3 == pytest.approx(1.539, abs=5e-4)
    assert training_gflops(gfp_decoder_macs() + projection) / 3 == pytest.approx(
        1.559, abs=5e-4
    )  # published: 1.57
    added = counted("gfp", {"decoder_projection": True}) - gflops_per_clip("gfp", None)
    assert added == pytest.approx(training_gflops(projection), rel=1e-3)


def test_gfps_count_is_model_plus_covariance_minus_input_gradients() -> None:
    expected = gfp_model_gflops() + covariance_gflops() - input_gradient_gflops()
    assert gflops_per_clip("gfp", None) == pytest.approx(expected, rel=0.002)


def test_gfps_count_is_the_published_cost_plus_covariance_minus_input_gradients() -> None:
    expected = 12.5 + covariance_gflops() - input_gradient_gflops()
    assert gflops_per_clip("gfp", None) == pytest.approx(expected, rel=0.02)


# --- the other methods item by item ---


@pytest.mark.parametrize(
    ("name", "outputs", "depth"),
    [
        ("skeletonmae", 12, 3),
        ("skeletonmae", 12, 5),
        pytest.param("nat", 12, 3, marks=pytest.mark.long),
        ("nat", 12, 5),
        pytest.param("mcsp", 4, 3, marks=pytest.mark.long),
        ("mcsp", 4, 5),
    ],
)
def test_a_token_decoders_count_is_its_closed_form(name: str, outputs: int, depth: int) -> None:
    decoder = VISIBLE * WIDTH**2 + depth * block_macs(750, WIDTH) + 750 * WIDTH * outputs
    expected = training_gflops(encoder_macs(BASE, VISIBLE) + decoder) - first_layer_gflops(
        VISIBLE * 12 * WIDTH
    )
    assert gflops_per_clip(name, depth) == pytest.approx(expected, rel=1e-4)


def test_four_cosines_a_token_save_what_the_last_layer_is_narrower_by() -> None:
    saved = gflops_per_clip("nat", 5) - gflops_per_clip("mcsp", 5)
    assert saved == pytest.approx(training_gflops(750 * WIDTH * 8), rel=1e-6)


def test_encoder_onlys_count_is_its_closed_form() -> None:
    expected = training_gflops(encoder_macs(BASE, VISIBLE)) - first_layer_gflops(
        VISIBLE * 12 * WIDTH
    )
    assert gflops_per_clip("encoder-only", None) == pytest.approx(expected, rel=0.002)


# --- shares of the forward pass ---


def shares(name: str, **options: int) -> dict[str, float]:
    """`forward_shares` at ``base``."""
    spec = RunSpec(
        method=MethodSpec(name=name, options=options),
        encoder=EncoderSpec(size="base"),
        train=TrainSpec(batch_size=BATCH),
    )
    return forward_shares(Registry().method(name), spec, NTU25)


def test_gfps_forward_flops_by_part() -> None:
    macs = {
        "encoder": encoder_macs(BASE, VISIBLE),
        "decoder": gfp_decoder_macs(),
        "target_network": gfp_target_macs(),
        "regulariser": covariance_gflops()
        * 1e9
        / 12,  # of 12 FLOPs a multiply-add, as in `training_gflops`
    }
    assert macs["regulariser"] / sum(macs.values()) == pytest.approx(0.060, abs=0.0005)
    expected = {part: count / sum(macs.values()) for part, count in macs.items()}
    assert shares("gfp") == pytest.approx(expected, rel=0.002)


def test_a_teacher_counts_with_all_that_is_called_inside_it() -> None:
    encoder, teacher = encoder_macs(BASE, VISIBLE), encoder_macs(BASE, 750)
    decoder = VISIBLE * WIDTH**2 + 5 * block_macs(750, WIDTH) + 750 * WIDTH**2
    total = encoder + teacher + decoder
    expected = {"encoder": encoder / total, "decoder": decoder / total, "teacher": teacher / total}
    assert shares("sjepa") == pytest.approx(expected, rel=0.002)


# --- the closed forms, checked ---


def test_block_macs_by_hand() -> None:
    # 10 tokens of width 4: 12 * 10 * 16 = 1920 in linear layers, 2 * 100 * 4 = 800 in attention
    assert block_macs(10, 4) == 2720


@pytest.mark.parametrize("tokens", [74, 750])
def test_block_macs_agree_with_the_counter(tokens: int) -> None:
    with torch.device("meta"):
        block = transformer_blocks(1, WIDTH, 8)[0]
    set_attention_kernel(block, fused=False)
    with flop_counter() as counter:
        block(torch.empty(2, tokens, WIDTH, device="meta"))
    assert counter.get_total_flops() == pytest.approx(2 * 2 * block_macs(tokens, WIDTH), rel=0.01)


@pytest.mark.parametrize("tokens", [74, 750])
def test_encoder_macs_agree_with_the_counter(tokens: int) -> None:
    base = meta_encoder(BASE)
    set_attention_kernel(base, fused=False)
    x = torch.empty(1, 120, 25, 3, device="meta")
    visible = torch.empty(1, tokens, dtype=torch.long, device="meta")
    with flop_counter() as counter:
        base(x, visible)
    assert counter.get_total_flops() == pytest.approx(2 * encoder_macs(BASE, tokens), rel=0.01)


def test_products_that_name_their_results_dtype_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    aten, refused = torch.ops.aten, torch_counter.shape_wrapper(_formula_of_torch_2_11)
    for product in (aten.bmm, aten.addmm, aten.baddbmm):
        monkeypatch.setitem(torch_counter.flop_registry, product, refused)
    one, other, added = (
        torch.empty(3, *shape, dtype=torch.bfloat16, device="meta")
        for shape in ((4, 9), (9, 5), (4, 5))
    )
    single = 2 * 4 * 9 * 5
    with flop_counter() as counter:
        aten.mm.dtype(one[0], other[0], torch.float32)
        aten.bmm.dtype(one, other, torch.float32)
        aten.addmm(added[0], one[0], other[0], beta=0.5)
        aten.baddbmm(added, one, other)
    assert counter.get_flop_counts()["Global"] == {
        aten.mm: single,
        aten.bmm: 3 * single,
        aten.addmm: single,
        aten.baddbmm: 3 * single,
    }
    formula = counter.flop_registry[aten.baddbmm]  # with a dtype it only runs on CUDA
    assert formula(added, one, other, torch.float32, beta=2, out_val=added) == 3 * single


def _formula_of_torch_2_11(*shapes: torch.Size, out_shape: torch.Size) -> int:
    """A dtype is one argument too many."""
    raise TypeError("multiple values for argument 'out_shape'")


def test_training_gflops_by_hand() -> None:
    # 2 FLOPs a multiply-add, forward and twice that backward, two bodies
    assert training_gflops(1e9) == 12


# --- the other methods, per clip at base: our derivation ---


@pytest.mark.parametrize(
    ("name", "options", "published"),
    [
        ("mamp", {}, 58.6),
        pytest.param("mamp", {"decoder_depth": 3}, 37.6, marks=pytest.mark.long),
        ("skeleton2vec", {}, 65.1),
        ("sjepa", {}, 87.3),
        ("amr", {}, 11.75),
    ],
)
def test_training_gflops_per_clip_are_the_published_ones(
    name: str, options: dict[str, int], published: float
) -> None:
    assert counted(name, options) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(
    ("r", "decoder"),
    [
        (1, 10.62),
        (30, 0.57),
        *(
            pytest.param(*between, marks=pytest.mark.long)
            for between in [(2, 5.42), (3, 3.69), (5, 2.30), (6, 1.96), (10, 1.26), (15, 0.92)]
        ),
    ],
)
def test_amr_costs_by_r(r: int, decoder: float) -> None:
    assert counted("amr", {"r": r}) == pytest.approx(3 * (1.961 + decoder), rel=0.005)


# --- published schedules, by arithmetic ---


def forward_gflops(tokens: int) -> float:
    """GFLOPs of 8 blocks of width 256 on one body sequence."""
    return 2 * 8 * block_macs(tokens, WIDTH) / 1e9


def test_slims_encoder_on_205_tokens_is_not_the_printed_cost() -> None:
    # a class token, four registers, 8 x 25 patches; its gated MLP is as wide as makes 12 N d^2
    # again
    assert forward_gflops(205) == pytest.approx(2.92, abs=0.005)
    assert 28.32 / (2 * forward_gflops(205)) == pytest.approx(4.8, abs=0.05)
    assert 28.32 / forward_gflops(205) == pytest.approx(9.7, abs=0.05)


def test_slims_schedule_costs_ten_of_mamps() -> None:
    local = (
        forward_gflops(105) + 2 * forward_gflops(55) + forward_gflops(30)
    )  # of 32, 16, 16 and 8 frames
    student, teacher = 2 * (forward_gflops(205) + local), 2 * forward_gflops(205)
    head = (
        2 * (256 * 2048 + 2048**2 + 2048 * 256 + 256 * 65_536) / 1e9
    )  # one vector to all prototypes
    masked = 2 * 0.5 * 0.7 * 200  # tokens of a sample: half of the global views, at 0.5 to 0.9
    encoders = 3 * student + teacher
    heads = head * (
        3 * (10 + masked) + 2 + masked
    )  # class tokens of 2 + 8 views, and masked tokens
    assert encoders == pytest.approx(42.8, abs=0.1)
    assert heads == pytest.approx(26.1, abs=0.1)
    schedule = (encoders + heads) * 150 * 1250 * 768 / 1e9  # EFLOP
    mamp = 58.6 * 400 * 40_091 / 1e9
    assert (schedule, mamp) == (pytest.approx(9.9, abs=0.05), pytest.approx(0.94, abs=0.005))
    assert schedule / mamp == pytest.approx(10.5, abs=0.1)
