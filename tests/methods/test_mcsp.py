"""MCSP: the cosines by hand, and what the loss is of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.mcsp import MCSP, MCSPOptions, neighbour_cosine
from methods.parts.encoder import SIZES
from methods.parts.masks import random_mask
from methods.parts.tokens import take
from tests.methods.made_up import encoder, meta_encoder, motion


def method(**options: Any) -> MCSP:
    return MCSP(encoder(), MCSPOptions(**options))


def loss_of(built: MCSP, x: Tensor) -> float:
    torch.manual_seed(1)
    return built.loss(x)[0].item()


def answering(answer: Tensor, **options: Any) -> MCSP:
    """A method whose decoder gives this for every token."""
    built = method(**options)
    built.decoder.forward = lambda latent, mask: answer  # type: ignore[method-assign, assignment]
    return built


def test_cosines_of_neighbouring_joints_by_hand() -> None:
    # 60 degrees between joints 0 and 1; 1 and 2 opposite; 3 in the origin; 4 the last
    joints = [
        [2.0, 0.0, 0.0],
        [0.5, 0.75**0.5, 0.0],
        [-1.0, -(3**0.5), 0.0],
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 9.0],
    ]
    found = neighbour_cosine(torch.tensor(joints).expand(2, 3, 5, 3))
    assert found.shape == (2, 3, 5, 1)
    torch.testing.assert_close(found[1, 2, :, 0], torch.tensor([0.5, -1.0, 0.0, 0.0, 0.0]))


def test_a_token_holds_one_standardised_cosine_a_frame() -> None:
    # joint 0 points along x; joint 1 at cosines 0, 0.6, 0.6, 1.0: mean 0.55, variance of n - 1 =
    # 0.17
    x = motion(1)
    x[0, 4:8, 0] = torch.tensor([3.0, 0.0, 0.0])
    x[0, 4:8, 1] = torch.tensor(
        [[0.0, 1.0, 0.0], [0.6, 0.8, 0.0], [3.0, 0.0, 4.0], [2.0, 0.0, 0.0]]
    )
    expected = torch.tensor([-0.55, 0.05, 0.05, 0.45]) / 0.17**0.5
    torch.testing.assert_close(method().targets(x)[0, 5], expected, atol=1e-4, rtol=0)


def test_cosines_of_motion_are_another_arm_and_know_no_place() -> None:
    x = torch.randint(-8, 8, (2, 24, 5, 3), generator=torch.Generator().manual_seed(0)) / 8
    positions, moving = method(), method(of="motion")
    torch.testing.assert_close(moving.targets(x), moving.targets(x + 2))
    assert not torch.allclose(positions.targets(x), positions.targets(x + 2), atol=0.1)


def test_the_last_joints_targets_are_zero() -> None:
    tokens = method().targets(motion(2)).unflatten(1, (6, 5))
    assert not tokens[:, :, 4].any()
    assert tokens[:, :, :4].any(dim=-1).all()


def test_loss_of_a_zero_prediction_is_3_of_4_but_for_the_last_joint() -> None:
    # four numbers of variance 1 (n - 1) have the mean square 3/4; one joint of five has targets of
    # 0
    assert loss_of(answering(torch.zeros(64, 30, 4)), motion(64)) == pytest.approx(
        0.75 * 0.8, abs=0.02
    )


def test_only_masked_tokens_are_compared_under_a_random_mask() -> None:
    built, x = method(), motion(3)
    torch.manual_seed(1)
    mask = random_mask(x, built.encoder.grid, 0.7)
    wrong = built.targets(x).scatter(1, mask.visible.unsqueeze(-1).expand(-1, -1, 4), 9.0)
    assert loss_of(answering(wrong, mask_ratio=0.7), x) == 0
    assert (take(wrong, mask.visible) == 9).all()


@pytest.mark.parametrize(("size", "depth"), [("base", 5), ("small", 4), ("tiny", 3)])
def test_decoder_depth_scales_with_the_encoder(size: str, depth: int) -> None:
    assert MCSPOptions().resolved(meta_encoder(SIZES[size])).decoder_depth == depth
