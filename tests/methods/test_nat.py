"""NAT: the target by hand, and how it differs from SkeletonMAE's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.nat import NAT, NATOptions
from methods.parts.encoder import SIZES
from methods.parts.masks import random_mask
from methods.parts.tokens import take
from methods.skeletonmae import SkeletonMAE, SkeletonMAEOptions
from tests.methods.made_up import encoder, meta_encoder, motion


def method(**options: Any) -> NAT:
    return NAT(encoder(), NATOptions(**options))


def loss_of(built: NAT | SkeletonMAE, x: Tensor) -> float:
    torch.manual_seed(1)
    return built.loss(x)[0].item()


def test_a_joints_axis_is_normalised_over_the_whole_clip_by_hand() -> None:
    # one joint's y climbs 0, 1, ..., 23: mean 11.5, variance of n - 1 = 24 * 25 / 12 = 50
    x = torch.zeros(1, 24, 5, 3)
    x[0, :, 3, 1] = torch.arange(24.0)
    tokens = method().targets(x).reshape(6, 5, 4, 3)  # time, joint, frame, axis
    torch.testing.assert_close(tokens[2, 3, :, 1], (torch.arange(8.0, 12.0) - 11.5) / 50**0.5)
    assert tokens[:, 3, :, 1].any()
    tokens[:, 3, :, 1] = 0
    assert not tokens.any()


def test_how_much_a_patch_moves_survives_and_is_lost_by_skeletonmae() -> None:
    x = torch.zeros(1, 24, 5, 3)
    x[0, :, 0, 0] = torch.tensor([0.0, 1.0]).repeat(12)
    x[0, 12:, 0, 0] *= 5  # the second half swings five times as far
    ours = method().targets(x).reshape(6, 5, 12)[:, 0].std(dim=-1)
    theirs = (
        SkeletonMAE(encoder(), SkeletonMAEOptions()).targets(x).reshape(6, 5, 12)[:, 0].std(dim=-1)
    )
    assert (ours[4] / ours[1]).item() > 2
    torch.testing.assert_close(theirs[4], theirs[1])


def test_the_row_is_skeletonmae_with_that_target_alone() -> None:
    x = motion(3)
    assert loss_of(method(), x) == loss_of(
        SkeletonMAE(encoder(), SkeletonMAEOptions(normalise="clip")), x
    )


def test_only_masked_tokens_are_compared_under_a_random_mask() -> None:
    built, x = method(mask_ratio=0.7), motion(3)
    torch.manual_seed(1)
    mask = random_mask(x, built.encoder.grid, 0.7)
    wrong = built.targets(x).scatter(1, mask.visible.unsqueeze(-1).expand(-1, -1, 12), 9.0)
    built.decoder.forward = lambda latent, mask: wrong  # type: ignore[method-assign, assignment]
    assert loss_of(built, x) == 0
    assert (take(wrong, mask.visible) == 9).all()


def test_the_target_itself_gives_the_clip_back() -> None:
    built, x = method(), motion(2)
    target = built.targets(x)
    built.decoder.forward = lambda latent, mask: target  # type: ignore[method-assign, assignment]
    mask = random_mask(x, built.encoder.grid, 0.9)
    torch.testing.assert_close(built.reconstruct(x, mask), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "depth"), [("base", 5), ("small", 4), ("tiny", 3)])
def test_decoder_depth_scales_with_the_encoder(size: str, depth: int) -> None:
    assert NATOptions().resolved(meta_encoder(SIZES[size])).decoder_depth == depth
