"""SkeletonMAE: what the loss is of, and its options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from methods.base import OptionError
from methods.parts.encoder import SIZES
from methods.parts.masks import random_mask
from methods.parts.tokens import patchify, standardise, take
from methods.skeletonmae import SkeletonMAE, SkeletonMAEOptions
from tests.methods.made_up import JOINTS, SMALL, encoder, meta_encoder, motion


def method(**options: Any) -> SkeletonMAE:
    return SkeletonMAE(encoder(), SkeletonMAEOptions(**options))


def predicting(constants: Tensor, **options: Any) -> SkeletonMAE:
    """A method that predicts these 12 numbers for every token."""
    built = method(**options)
    with torch.no_grad():
        built.decoder.predict.weight.zero_()
        built.decoder.predict.bias.copy_(constants)
    return built


def loss_of(built: SkeletonMAE, x: Tensor, seed: int = 0) -> float:
    torch.manual_seed(seed)
    return built.loss(x)[0].item()


# --- the loss ---


def test_predicting_zero_costs_11_twelfths() -> None:
    assert loss_of(predicting(torch.zeros(12)), motion(4)) == pytest.approx(11 / 12, rel=2e-3)


def test_predicting_a_constant_adds_its_square() -> None:
    # targets of a token have mean 0, so mean (c - y)^2 = c^2 + mean y^2
    assert loss_of(predicting(torch.full((12,), 2.0)), motion(4)) == pytest.approx(
        4 + 11 / 12, rel=2e-3
    )


def test_tokens_of_one_value_have_targets_of_zero() -> None:
    assert loss_of(predicting(torch.zeros(12)), torch.zeros(2, SMALL.frames, JOINTS, 3)) == 0


def test_loss_is_the_mean_over_masked_tokens_of_coordinates_standardised_per_token() -> None:
    constants = torch.linspace(-1, 1, 12)
    x = motion(3)
    x[:, :, :3] = 0.5  # three joints' tokens are constant: masked and visible tokens differ in cost
    built = predicting(constants, mask_ratio=0.7)
    found = loss_of(built, x, seed=4)
    torch.manual_seed(4)
    masked = random_mask(x, built.encoder.grid, 0.7).masked
    costs = []
    for sequence, tokens in zip(x, masked.tolist(), strict=True):
        for token in tokens:
            step, joint = divmod(token, JOINTS)
            values = sequence[4 * step : 4 * step + 4, joint].flatten().double()
            target = (values - values.mean()) / torch.sqrt(values.var(correction=1) + 1e-6)
            costs.append((constants - target).square().mean().item())
    assert len(costs) == 3 * 21
    assert found == pytest.approx(sum(costs) / len(costs), rel=1e-5)


def masked_output_and_gradient(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Masked tokens ``[B, k]``, the decoder's output ``[B, L, 12]``
    and the loss's gradient with respect to it.
    """
    built = method(mask_ratio=0.7)
    torch.manual_seed(4)
    masked = random_mask(x, built.encoder.grid, 0.7).masked
    outputs: list[Tensor] = []
    built.decoder.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    torch.manual_seed(4)
    loss, _ = built.loss(x)
    (gradient,) = torch.autograd.grad(loss, outputs[0])
    return masked, outputs[0].detach(), gradient


def test_visible_tokens_take_no_part_in_the_loss() -> None:
    masked, _, gradient = masked_output_and_gradient(motion(2))
    touched = [row.nonzero().squeeze(1).tolist() for row in gradient.abs().sum(-1)]
    assert touched == masked.sort().values.tolist()


def test_each_masked_token_is_drawn_to_its_own_target() -> None:
    x = motion(2)
    masked, output, gradient = masked_output_and_gradient(x)
    # d/dp of mean (p - y)^2 over 2 * 21 tokens of 12 numbers
    expected = 2 * (output - standardise(patchify(x, SMALL.patch))) / (2 * 21 * 12)
    torch.testing.assert_close(take(gradient, masked), take(expected, masked))


def test_target_is_of_coordinates_and_unmoved_by_where_the_body_stands() -> None:
    # Multiples of 1/8 shifted by whole metres: exact in float32 but for the mean's rounding.
    x = torch.randint(-8, 8, (2, 24, JOINTS, 3), generator=torch.Generator().manual_seed(0)) / 8
    built = predicting(torch.linspace(-1, 1, 12))
    assert loss_of(built, x + 3) == pytest.approx(loss_of(built, x), rel=1e-5)


def test_reported_part_is_the_loss() -> None:
    loss, parts = method().loss(motion(2))
    assert parts.keys() == {"reconstruction"}
    assert parts["reconstruction"].item() == loss.item()


def test_gradient_reaches_encoder_and_decoder() -> None:
    built = method()
    built.loss(motion(4))[0].backward()
    for part in (
        built.encoder.patch_embed,
        built.encoder.blocks,
        built.decoder.project,
        built.decoder.predict,
    ):
        assert all(
            parameter.grad is not None and parameter.grad.any() for parameter in part.parameters()
        )
    assert built.decoder.fill.mask_token.grad is not None
    assert built.decoder.fill.mask_token.grad.any()


# --- options ---


@pytest.mark.parametrize(("size", "depth"), [("base", 5), ("small", 4), ("tiny", 3)])
def test_decoder_depth_defaults_to_5_of_8(size: str, depth: int) -> None:
    with torch.device("meta"):
        built = SkeletonMAE(meta_encoder(SIZES[size]), SkeletonMAEOptions())
    assert len(built.decoder.blocks) == depth


def test_decoder_depth_can_be_chosen() -> None:
    assert len(method(decoder_depth=1).decoder.blocks) == 1


def test_resolved_options_hold_the_depth_that_is_used() -> None:
    assert method().options == SkeletonMAEOptions(decoder_depth=1)


@pytest.mark.parametrize(
    "options", [{"depth": 3}, {"mask_ratio": 1}, {"mask_ratio": 0}, {"decoder_depth": -1}]
)
def test_unknown_options_and_impossible_values_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        SkeletonMAEOptions(**options)


def test_options_are_read_from_strings() -> None:
    options = SkeletonMAEOptions.model_validate({"decoder_depth": "3", "mask_ratio": "0.8"})
    assert options == SkeletonMAEOptions(decoder_depth=3, mask_ratio=0.8)


# --- other masks and targets ---


def test_loss_of_a_zero_prediction_against_clip_normalised_coordinates_is_near_1() -> None:
    built = SkeletonMAE(encoder(), SkeletonMAEOptions(normalise="clip"))
    torch.nn.init.zeros_(built.decoder.predict.weight)
    torch.manual_seed(0)
    assert built.loss(motion(32))[0].item() == pytest.approx(23 / 24, abs=0.02)


def test_clip_normalised_targets_are_patches_of_the_standardised_clip() -> None:
    built, x = SkeletonMAE(encoder(), SkeletonMAEOptions(normalise="clip")), motion(2)
    joint = x[0, :, 2, 1]
    expected = (joint - joint.mean()) / joint.std()
    found = built.targets(x).reshape(2, 6, 5, 4, 3)[0, :, 2, :, 1].flatten()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("mask", ["random", "motion", "frames"])
def test_every_mask_leaves_the_same_number_of_tokens_visible(mask: str) -> None:
    built = SkeletonMAE(
        encoder(), SkeletonMAEOptions.model_validate({"mask": mask, "mask_ratio": 0.7})
    )
    assert built.mask(motion(3)).visible.shape == (3, 9)


def test_a_mask_ratio_that_leaves_nothing_visible_is_refused() -> None:
    with pytest.raises(
        OptionError, match=r"mask_ratio=0.99 leaves none of 30 tokens visible; allowed is to 0.967"
    ):
        SkeletonMAE(encoder(), SkeletonMAEOptions(mask_ratio=0.99))
