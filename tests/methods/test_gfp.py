"""GFP: targets, pyramid, losses by hand, collapse with and without the regulariser, options."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from harness.speed.flops import flop_counter
from methods.base import Diagnosis, OptionError
from methods.gfp import (
    COLLAPSED_STD,
    GFP,
    GFPOptions,
    TargetNetwork,
    covariance_loss,
    default_windows,
    mean_correlation,
    patch_motion,
    pool_time,
    rounded_product,
    variance_loss,
)
from methods.parts.encoder import SIZES, EncoderSize
from methods.parts.masks import Mask, motion_aware_mask
from methods.parts.tokens import TokenGrid, patchify, take, unpatchify
from tests.fake_gpu import CUDA, fake_tensors
from tests.methods.made_up import JOINTS, encoder, meta_encoder, motion


def method(**options: Any) -> GFP:
    return GFP(encoder(), GFPOptions(**options))


def parts_of(built: GFP, x: Tensor, seed: int = 0) -> dict[str, float]:
    """Loss and parts as numbers."""
    torch.manual_seed(seed)
    loss, parts = built.loss(x)
    return {"loss": loss.item(), **{name: part.item() for name, part in parts.items()}}


# --- targets and predictions ---


def test_base_predicts_251_targets_at_the_published_widths() -> None:
    with torch.device("meta"):
        built = GFP(meta_encoder(SIZES["base"]), GFPOptions())
    predictions, targets = built.predictions_and_targets(torch.empty(2, 120, 25, 3, device="meta"))
    shapes = [(2, 150, 512), (2, 75, 512), (2, 25, 512), (2, 1, 2048)]
    assert [tuple(target.shape) for target in targets] == shapes
    assert [tuple(prediction.shape) for prediction in predictions] == shapes
    assert sum(target.shape[1] for target in targets) == 251


def test_base_has_the_expected_parameters_in_each_part() -> None:
    with torch.device("meta"):
        built = GFP(meta_encoder(SIZES["base"]), GFPOptions())
    local_head = 256 * 512 + 512 + 2 * (512 * 512 + 512)
    whole_head = 256 * 2048 + 2048 + 2 * (2048 * 2048 + 2048)
    local_target = (
        12 * 512 + 512 + 2 * (512 * 512 + 512) + 2 * 2 * 512
    )  # batch norm: scale and shift, twice
    whole_target = 9000 * 2048 + 2048 + 2 * (2048 * 2048 + 2048) + 2 * 2 * 2048
    counts = {
        "project": 0,
        "blocks": 4 * 789_760,
        "heads": 3 * local_head,
        "whole_head": whole_head,
        "positions": (6 + 3 + 1 + 3 * 25) * 256,
        "fill": 256 + (30 + 25) * 256,
    }
    decoder = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in built.decoder.named_children()
    }
    assert decoder == counts
    target = sum(parameter.numel() for parameter in built.target_network.parameters())
    assert target == 3 * local_target + whole_target


def test_pool_time_by_hand() -> None:
    # four steps of two joints; windows of two steps
    tokens = torch.tensor([[1.0, 10, 3, 30, 5, 50, 9, 90]]).unsqueeze(-1)
    assert pool_time(tokens, times=4, windows=2).squeeze(-1).tolist() == [[2, 20, 7, 70]]
    assert pool_time(tokens, times=4, windows=1).squeeze(-1).tolist() == [[4.5, 45]]
    assert torch.equal(pool_time(tokens, times=4, windows=4), tokens)


def small_target_network(times: int = 3, joints: int = 2) -> TargetNetwork:
    torch.manual_seed(0)
    return TargetNetwork(TokenGrid(times, joints, patch=2), (1,), local_width=4, global_width=4)


def targets_of(network: TargetNetwork, x: Tensor) -> list[Tensor]:
    return network(patch_motion(x, network.grid))


def test_patch_motion_by_hand() -> None:
    tokens = torch.tensor(
        [[[0.0] * 6, [7.0] * 6, [1.0] * 6, [7.0] * 6, [5.0] * 6, [4.0, 4, 4, 8, 8, 8]]]
    )
    found = patch_motion(unpatchify(tokens, patch=2, joints=2), TokenGrid(3, 2, patch=2))
    zero = [0.0] * 6
    assert found.tolist() == [[zero, zero, [1.0] * 6, zero, [4.0] * 6, [-3.0, -3, -3, 1, 1, 1]]]


def test_targets_do_not_know_where_the_body_stands() -> None:
    x = torch.randint(-8, 8, (4, 6, 2, 3), generator=torch.Generator().manual_seed(0)) / 8
    network = small_target_network()
    with torch.no_grad():
        for target, shifted in zip(
            targets_of(network, x), targets_of(network, x + torch.tensor([1.0, -2, 4])), strict=True
        ):
            assert torch.equal(target, shifted)


def test_local_targets_know_the_net_displacement_of_the_window_and_nothing_else() -> None:
    # One window over all three steps: the same start and end by another way gives the same local
    # target.
    tokens = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0))
    detour = tokens.clone()
    detour[:, 2:4] = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(1))
    network = small_target_network()
    with torch.no_grad():
        straight, around = (
            targets_of(network, unpatchify(way, patch=2, joints=2)) for way in (tokens, detour)
        )
    torch.testing.assert_close(straight[0], around[0])
    assert not torch.allclose(straight[1], around[1])


def test_target_statistics_are_always_those_of_the_batch() -> None:
    network, x = small_target_network(), motion(4, joints=2, frames=6)
    with torch.no_grad():
        training = targets_of(network, x)
        evaluating = targets_of(network.eval(), x)
    assert all(torch.equal(*pair) for pair in zip(training, evaluating, strict=True))


def test_local_targets_follow_their_joints() -> None:
    x, network = motion(4, joints=2, frames=6), small_target_network()
    with torch.no_grad():
        torch.testing.assert_close(
            targets_of(network, x.flip(2))[0], targets_of(network, x)[0].flip(1)
        )


def test_targets_learn_too() -> None:
    built = method(var_weight=0, cov_weight=0)
    built.loss(motion(8))[0].backward()
    weights = [parameter for parameter in built.target_network.parameters() if parameter.ndim == 2]
    assert len(weights) == 12
    assert all(weight.grad is not None and weight.grad.any() for weight in weights)


def test_predictions_do_not_see_masked_tokens() -> None:
    built, x = method(tau=0), motion(4)
    with torch.no_grad():
        torch.manual_seed(1)
        latents: list[Tensor] = []
        hook = built.encoder.register_forward_hook(lambda _m, inputs, _o: latents.append(inputs[1]))
        before, _ = built.predictions_and_targets(x)
        hook.remove()
        visible = latents[0]
        keep = torch.zeros(4, 30, dtype=torch.bool).scatter(1, visible, value=True)
        noise = (
            torch.randn(4, 30, 12, generator=torch.Generator().manual_seed(0)) * ~keep[..., None]
        )
        torch.manual_seed(1)
        after, _ = built.predictions_and_targets(x + unpatchify(noise, 4, JOINTS))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# --- variance and covariance ---


def test_variance_loss_by_hand() -> None:
    # column 0: values 0 and 1, variance 1/2; column 1: values 0 and 4, variance 8, above the floor
    expected = (1 - (0.5 + 1e-4) ** 0.5 + 0) / 2
    assert variance_loss(torch.tensor([[0.0, 0], [1, 4]])).item() == pytest.approx(
        expected, rel=1e-6
    )


def test_variance_loss_of_constant_columns_is_nearly_1() -> None:
    assert variance_loss(torch.full((5, 3), 7.0)).item() == pytest.approx(1 - 0.01)


def test_variance_loss_moves_the_floor() -> None:
    found = variance_loss(torch.tensor([[0.0], [4.0]]), floor=5.0).item()
    assert found == pytest.approx(5 - (8 + 1e-4) ** 0.5, rel=1e-6)


def test_covariance_loss_by_hand_with_more_rows_than_columns() -> None:
    # centred (-1, -1), (0, 1), (1, 0): covariance (1 + 0 + 0) / 2 = 1/2; twice its square, over 2
    # columns
    rows = torch.tensor([[0.0, 0], [1, 2], [2, 1]])
    assert covariance_loss(rows).item() == pytest.approx(2 * 0.25 / 2)


def test_covariance_loss_by_hand_with_fewer_rows_than_columns() -> None:
    # centred -+(1, 2, -1): covariances 2 * (2, -1, -2) = 4, -2, -4; 2 * (16 + 4 + 16) over 3
    # columns
    rows = torch.tensor([[0.0, 0, 0], [2, 4, -2]])
    assert covariance_loss(rows).item() == pytest.approx(24)


@pytest.mark.parametrize("shape", [(9, 4), (5, 5), (4, 9), (2, 3), (200, 12), (12, 200)])
def test_covariance_loss_equals_the_formula(shape: tuple[int, int]) -> None:
    rows = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 10
    covariance = torch.cov(rows.double().T)
    covariance.fill_diagonal_(0)
    expected = covariance.square().sum() / shape[1]
    assert covariance_loss(rows).item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_covariance_gradient_equals_that_of_the_formula(shape: tuple[int, int]) -> None:
    rows = torch.randn(
        shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    covariance = torch.cov(rows.T)
    expected = (covariance - torch.diag(covariance.diagonal())).square().sum() / shape[1]
    torch.testing.assert_close(
        torch.autograd.grad(covariance_loss(rows), rows), torch.autograd.grad(expected, rows)
    )


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_covariance_forms_the_smaller_of_the_two_products(shape: tuple[int, int]) -> None:
    with flop_counter() as counter:
        covariance_loss(torch.ones(shape))
    assert counter.get_total_flops() == 2 * 9 * 4 * 4


@pytest.mark.parametrize("shape", [(200, 40), (40, 200)])
@pytest.mark.parametrize("correlated", [0.0, 1.0])
def test_the_rounded_covariance_is_within_a_thousandth_of_float32(
    shape: tuple[int, int], correlated: float
) -> None:
    random = torch.Generator().manual_seed(0)
    common = torch.randn(shape[0], 1, generator=random)
    rows = (torch.randn(shape, generator=random) + correlated * common + 3).requires_grad_()
    full, rounded = covariance_loss(rows), covariance_loss(rows, rounded=True)
    assert rounded.dtype == torch.float32
    assert rounded.item() != full.item()
    assert rounded.item() == pytest.approx(full.item(), rel=1e-3)
    one, other = torch.autograd.grad(full, rows)[0], torch.autograd.grad(rounded, rows)[0]
    assert ((other - one).norm() / one.norm()).item() < 0.01  # 8 significant bits


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_the_rounded_covariance_saves_a_product_of_the_gradient(shape: tuple[int, int]) -> None:
    product = 2 * 9 * 4 * 4
    for rounded, products in ((False, 3), (True, 2)):  # X^T X, then G X and G^T X, or (G + G^T) X
        rows = torch.ones(shape, requires_grad=True)
        with flop_counter() as counter:
            covariance_loss(rows, rounded=rounded).backward()
        assert counter.get_total_flops() == products * product


def test_on_a_gpu_the_rounded_covariance_is_one_product_of_bfloat16_with_a_float32_result() -> None:
    with fake_tensors(), flop_counter() as counter:
        found = rounded_product(torch.empty(4, 9, device=CUDA), torch.empty(9, 5, device=CUDA))
    assert (found.shape, found.dtype, found.device.type) == ((4, 5), torch.float32, "cuda")
    assert counter.get_flop_counts()["Global"] == {torch.ops.aten.bmm: 2 * 4 * 9 * 5}


def test_the_covariance_of_rounded_rows_is_the_covariance_of_those_rows() -> None:
    rows = torch.tensor([[-1.0, 1], [1.0, -2], [0, 1]])  # centred, and bfloat16 has room for each
    assert covariance_loss(rows, rounded=True).item() == covariance_loss(rows).item()


def test_uncorrelated_columns_have_no_covariance_loss() -> None:
    rows = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert covariance_loss(rows).item() == 0


# --- the loss ---


def test_loss_is_the_weighted_sum_of_its_parts() -> None:
    parts = parts_of(method(lambda_pred=3, var_weight=0.5, cov_weight=7), motion(8))
    expected = 3 * parts["prediction"] + 0.5 * parts["variance"] + 7 * parts["covariance"]
    assert parts["loss"] == pytest.approx(expected, rel=1e-6)


def test_default_weights_are_5_5_and_1() -> None:
    parts = parts_of(method(), motion(8))
    expected = 5 * parts["prediction"] + 5 * parts["variance"] + parts["covariance"]
    assert parts["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("weight", "part"),
    [("lambda_pred", "prediction"), ("var_weight", "variance"), ("cov_weight", "covariance")],
)
def test_a_weight_scales_its_own_part(weight: str, part: str) -> None:
    alone = {"lambda_pred": 0.0, "var_weight": 0.0, "cov_weight": 0.0, weight: 2.0}
    parts = parts_of(method(**alone), motion(8))
    assert parts["loss"] == pytest.approx(2 * parts[part], rel=1e-6)
    assert parts["loss"] > 0


def test_parts_are_sums_over_levels_of_the_target_and_prediction_statistics() -> None:
    built, x = method(), motion(8)
    parts = parts_of(built, x, seed=6)
    torch.manual_seed(6)
    with torch.no_grad():
        predictions, targets = built.predictions_and_targets(x)
    pairs = zip(predictions, targets, strict=True)
    prediction = sum(((p - z).square().sum() / z.numel()).item() for p, z in pairs)
    rows = [target.reshape(-1, target.shape[-1]) for target in targets]
    assert [len(level) for level in rows] == [8 * 6 * JOINTS, 8 * 3 * JOINTS, 8 * JOINTS, 8]
    assert parts["prediction"] == pytest.approx(prediction, rel=1e-5)
    assert parts["variance"] == pytest.approx(
        sum(variance_loss(level).item() for level in rows), rel=1e-5
    )
    assert parts["covariance"] == pytest.approx(
        sum(covariance_loss(level).item() for level in rows), rel=1e-5
    )


def test_reported_parts_carry_no_gradient() -> None:
    _, parts = method().loss(motion(8))
    assert parts.keys() == {"prediction", "variance", "covariance"}
    assert not any(part.requires_grad for part in parts.values())


def test_regulariser_is_computed_in_full_precision_under_autocast() -> None:
    built, x = method(), motion(8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        parts = parts_of(built, x, seed=6)
        torch.manual_seed(6)
        _, targets = built.predictions_and_targets(x)
    rows = [target.flatten(0, 1).double() for target in targets]
    assert targets[0].dtype == torch.bfloat16
    assert parts["variance"] == pytest.approx(
        sum(variance_loss(level).item() for level in rows), rel=1e-5
    )
    assert parts["covariance"] == pytest.approx(
        sum(covariance_loss(level).item() for level in rows), rel=1e-5
    )


def test_the_covariance_is_rounded_to_the_runs_precision_when_asked_to() -> None:
    x = motion(8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        full, rounded = parts_of(method(), x), parts_of(method(covariance="autocast"), x)
    assert rounded["covariance"] != full["covariance"]
    assert rounded["covariance"] == pytest.approx(
        full["covariance"], rel=0.03
    )  # products of 8 significant bits
    assert (rounded["variance"], rounded["prediction"]) == (full["variance"], full["prediction"])


def test_the_covariance_is_rounded_alone_when_asked_to() -> None:
    x = motion(8)
    full, rounded = parts_of(method(), x), parts_of(method(covariance="bf16"), x)
    assert rounded["covariance"] != full["covariance"]
    assert rounded["covariance"] == pytest.approx(full["covariance"], rel=3e-3)
    assert (rounded["variance"], rounded["prediction"]) == (full["variance"], full["prediction"])


def test_the_precision_of_the_covariance_changes_nothing_at_full_precision() -> None:
    x = motion(8)
    assert parts_of(method(covariance="autocast"), x) == parts_of(method(), x)


# --- collapse ---

NARROW = EncoderSize(depth=1, width=16, heads=2, frames=24, patch=4)


@cache
def trained(
    lambda_pred: float, var_weight: float, cov_weight: float
) -> tuple[Diagnosis, Diagnosis]:
    """Health before and after 40 steps on random walks, whose masked motion nobody can predict."""
    torch.manual_seed(0)
    weights = {"lambda_pred": lambda_pred, "var_weight": var_weight, "cov_weight": cov_weight}
    options = GFPOptions(windows=(2,), local_width=8, global_width=8, **weights)
    built = GFP(encoder(NARROW, joints=3), options)
    optimiser = torch.optim.AdamW(built.parameters(), lr=1e-2)
    batches = [motion(32, joints=3, seed=seed) for seed in range(4)]
    before = diagnosed(built, batches[0])
    for step in range(40):
        optimiser.zero_grad()
        built.loss(batches[step % 4])[0].backward()
        optimiser.step()
    return before, diagnosed(built, batches[0])


def diagnosed(built: GFP, x: Tensor) -> Diagnosis:
    with torch.no_grad():
        return built.diagnose(x)


def stds(diagnosis: Diagnosis) -> list[float]:
    return [value for name, value in diagnosis.values.items() if name.startswith("std/")]


def test_targets_collapse_without_the_regulariser() -> None:
    before, after = trained(lambda_pred=5, var_weight=0, cov_weight=0)
    assert min(stds(before)) > 0.4
    assert max(stds(after)) < COLLAPSED_STD


def test_collapse_is_warned_of_by_level() -> None:
    _, after = trained(lambda_pred=5, var_weight=0, cov_weight=0)
    assert after.warnings == ("targets collapsed (channel std below 0.1) at level 2x, global",)


def test_the_regulariser_alone_brings_the_deviation_to_1() -> None:
    before, after = trained(lambda_pred=0, var_weight=5, cov_weight=1)
    assert max(stds(before)) < 0.7
    assert stds(after) == pytest.approx([1, 1], abs=0.12)


def test_the_default_weights_settle_unpredictable_targets_at_a_deviation_of_one_half() -> None:
    # With P at the mean of Z, lambda * s^2 + var_weight * (1 - s) is least at s = var_weight / (2 *
    # lambda).
    _, after = trained(lambda_pred=5, var_weight=5, cov_weight=1)
    assert stds(after) == pytest.approx([0.5, 0.5], abs=0.08)
    assert after.warnings == ()


# --- the statistics of a batch ---


def test_a_sequences_targets_depend_on_the_others_of_its_batch() -> None:
    network, x = method().target_network, motion(8)
    with torch.no_grad():
        alone, among = targets_of(network, x[:4]), targets_of(network, x)
    assert all(
        not torch.allclose(one, other[:4], rtol=1e-2)
        for one, other in zip(alone, among, strict=True)
    )


def test_empty_bodies_are_in_the_statistics_of_a_batch_that_has_them() -> None:
    network, x = method().target_network, motion(8)
    filled = torch.cat([x, torch.zeros_like(x)])
    with torch.no_grad():
        present, among = targets_of(network, x), targets_of(network, filled)
    for one, other in zip(present, among, strict=True):
        assert not torch.allclose(one, other[:8], rtol=1e-2)
        torch.testing.assert_close(other[8:], other[8:9].expand_as(other[8:]))  # all one point


# --- diagnosis ---


def test_empty_bodies_in_the_statistics_are_warned_of() -> None:
    x = motion(8)
    assert diagnosed(method(), x).warnings == ()
    x[5:] = 0
    warning = "3 of 8 bodies are empty, and all one point in batch norm and statistics"
    assert diagnosed(method(), x).warnings == (warning,)


def test_diagnosis_names_three_numbers_of_every_level() -> None:
    names = {
        f"{number}/{level}"
        for number in ("std", "correlation", "cosine")
        for level in ("6x", "3x", "1x", "global")
    }
    assert diagnosed(method(), motion(8)).values.keys() == names


def test_diagnosed_deviation_is_the_mean_over_channels_of_the_targets() -> None:
    built, x = method(), motion(8)
    with torch.no_grad():
        level = targets_of(built.target_network, x)[1]
    expected = level.reshape(-1, level.shape[-1]).std(dim=0).mean().item()
    assert diagnosed(built, x).values["std/3x"] == pytest.approx(expected, rel=1e-5)


def test_mean_correlation_by_hand() -> None:
    # columns 0 and 2 are opposite (|r| = 1), column 1 is uncorrelated with both: 2 of 6 ordered
    # pairs
    rows = torch.tensor([[1.0, 1, -1], [-1, 1, 1], [1, -1, -1], [-1, -1, 1]])
    assert mean_correlation(rows) == pytest.approx(1 / 3)


def test_mean_correlation_counts_a_constant_column_as_uncorrelated() -> None:
    assert mean_correlation(torch.tensor([[1.0, 5], [2, 5], [3, 5]])) == 0


# --- options ---


def test_default_windows_are_the_published_ones() -> None:
    for size in SIZES.values():
        assert GFPOptions().resolved(meta_encoder(size)).windows == (6, 3, 1)


@pytest.mark.parametrize(
    ("times", "windows"),
    [(6, (6, 3, 1)), (8, (8, 4, 1)), (20, (5, 1)), (25, (5, 1)), (7, (7, 1)), (1, (1,))],
)
def test_on_other_grids_the_default_windows_are_as_near_as_divides(
    times: int, windows: tuple[int, ...]
) -> None:
    assert default_windows(times) == windows


def test_windows_are_read_from_a_string() -> None:
    assert GFPOptions.model_validate({"windows": "15/5/1"}).windows == (15, 5, 1)


def test_widths_are_relative_to_the_encoder() -> None:
    built = method()
    assert (built.options.local_width, built.options.global_width) == (32, 128)


def test_chosen_widths_are_kept() -> None:
    built = method(local_width=7, global_width=9)
    _, targets = built.predictions_and_targets(motion(4))
    assert [target.shape[-1] for target in targets] == [7, 7, 7, 9]


@pytest.mark.parametrize("windows", [(6,), (3, 1), (2, 1), (6, 3, 1), (6, 2)])
def test_windows_that_tile_the_steps_give_their_number_of_targets(windows: tuple[int, ...]) -> None:
    _, targets = method(windows=windows).predictions_and_targets(motion(2))
    assert [target.shape[1] for target in targets] == [*(count * JOINTS for count in windows), 1]


def test_a_count_that_does_not_divide_the_steps_names_the_allowed_ones() -> None:
    with pytest.raises(OptionError, match=r"windows=4/2: .* 6 time steps: 1, 2, 3, 6$"):
        method(windows=(4, 2))


@pytest.mark.parametrize("windows", [(1, 3, 6), (3, 2), (6, 0), (6, -1), (6, 6)])
def test_windows_in_a_wrong_order_are_refused(windows: tuple[int, ...]) -> None:
    assert not all(
        0 < coarser < finer and finer % coarser == 0 for finer, coarser in pairwise(windows)
    )
    with pytest.raises(
        OptionError, match="each count must be smaller than the one before it and divide it"
    ):
        method(windows=windows)


@pytest.mark.parametrize(
    "options", [{"lambda": 5}, {"windows": "6/x"}, {"tau": "warm"}, {"var_weight": -1}]
)
def test_unknown_options_and_impossible_values_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        GFPOptions.model_validate(options)


def test_the_decoder_may_begin_with_a_linear_layer() -> None:
    plain, projected = method(), method(decoder_projection=True)
    extra = set(projected.state_dict()) - set(plain.state_dict())
    assert extra == {"decoder.project.weight", "decoder.project.bias"}
    assert projected.decoder.project.weight.shape == (16, 16)
    before = parts_of(projected, motion(8))
    torch.nn.init.zeros_(projected.decoder.project.weight)
    assert parts_of(projected, motion(8))["prediction"] != before["prediction"]


# --- what the target network reads ---


def patches_read(target_input: str) -> tuple[Tensor, Tensor, Mask]:
    """The patches that the target network gets, those of the batch, and the mask."""
    built, x = method(target_input=target_input), motion(8)
    torch.manual_seed(0)
    mask = motion_aware_mask(x, built.encoder.grid, 0.7, 0.8)
    return built.target_patches(x, mask), patchify(x, built.encoder.grid.patch), mask


def test_target_network_reads_motion_unless_told_otherwise() -> None:
    built, x = method(), motion(8)
    mask = motion_aware_mask(x, built.encoder.grid, 0.7, 0.8)
    assert torch.equal(built.target_patches(x, mask), patch_motion(x, built.encoder.grid))


def test_target_network_may_read_all_coordinates() -> None:
    read, patches, _ = patches_read("joints")
    assert torch.equal(read, patches)


def test_target_network_may_read_the_coordinates_of_masked_tokens_only() -> None:
    read, patches, mask = patches_read("masked-joints")
    assert torch.equal(take(read, mask.masked), take(patches, mask.masked))
    assert not take(read, mask.visible).any()
