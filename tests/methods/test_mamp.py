"""MAMP: the motion target by hand, the mask it asks for, its decoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.mamp import MAMP, MAMPOptions
from methods.parts.decoders import QueryDecoder, TokenDecoder
from methods.parts.encoder import SIZES
from methods.parts.masks import motion_aware_mask
from methods.parts.tokens import frame_motion, patchify, standardise, take
from tests.methods.made_up import encoder, meta_encoder, motion


def method(**options: Any) -> MAMP:
    return MAMP(encoder(), MAMPOptions(**options))


def loss_of(built: MAMP, x: Tensor) -> Tensor:
    torch.manual_seed(1)
    return built.loss(x)[0]


@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_loss_of_a_zero_prediction_is_11_of_12(decoder: str) -> None:
    built = method(decoder=decoder)
    torch.nn.init.zeros_(built.decoder.predict.weight)
    assert loss_of(built, motion(8)).item() == pytest.approx(11 / 12, abs=2e-3)


def test_a_perfect_prediction_of_the_masked_motion_costs_nothing() -> None:
    built, x = method(), motion(4)
    target = standardise(patchify(frame_motion(x), 4))
    built.decoder.forward = lambda latent, mask: target  # type: ignore[method-assign, assignment]
    assert loss_of(built, x).item() == 0.0


def test_visible_tokens_take_no_part_in_the_loss() -> None:
    built, x = method(mask_ratio=0.7), motion(4)
    torch.manual_seed(1)
    visible = motion_aware_mask(x, built.encoder.grid, 0.7, 0.8).visible
    wrong = standardise(patchify(frame_motion(x), 4)).scatter(
        1, visible.unsqueeze(-1).expand(-1, -1, 12), 9.0
    )
    built.decoder.forward = lambda latent, mask: wrong  # type: ignore[method-assign, assignment]
    assert loss_of(built, x).item() == 0.0
    assert (take(wrong, visible) == 9).all()


def test_where_the_body_stands_changes_nothing_in_the_target() -> None:
    built, x = (
        method(),
        torch.randint(-8, 8, (4, 24, 5, 3), generator=torch.Generator().manual_seed(0)) / 8,
    )
    torch.nn.init.zeros_(built.decoder.predict.weight)
    assert torch.equal(loss_of(built, x), loss_of(built, x + 2.0))


@pytest.mark.parametrize(("size", "depth"), [("base", 5), ("small", 4), ("tiny", 3)])
def test_decoder_depth_scales_with_the_encoder(size: str, depth: int) -> None:
    assert MAMPOptions().resolved(meta_encoder(SIZES[size])).decoder_depth == depth


def test_released_decoders_have_the_published_parameter_counts() -> None:
    for depth, parameters in ((3, 2_453_004), (5, 4_032_524)):
        with torch.device("meta"):
            built = MAMP(meta_encoder(SIZES["base"]), MAMPOptions(decoder_depth=depth))
        assert sum(parameter.numel() for parameter in built.decoder.parameters()) == parameters


def test_the_cross_attention_control_asks_for_every_token_and_changes_only_the_decoder() -> None:
    both = method(), method(decoder="cross")
    assert [type(built.decoder) for built in both] == [TokenDecoder, QueryDecoder]
    x = motion(2)
    mask = motion_aware_mask(x, both[1].encoder.grid, 0.9, 0.8)
    assert both[1].predict(both[1].encoder(x, mask.visible), mask).shape == (2, 30, 12)
