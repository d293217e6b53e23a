"""Tokens: order of patches, motion, standardisation, picking."""

from __future__ import annotations

import math

import pytest
import torch

from methods.parts.tokens import (
    TokenGrid,
    frame_motion,
    nearest_divisor,
    patchify,
    standardise,
    standardise_clip,
    take,
    unpatchify,
)

BATCH, TIMES, PATCH, JOINTS = 2, 3, 4, 5


def indexed() -> torch.Tensor:
    """``[B, T, V, 3]`` whose value is 10000 b + 100 t + 10 v + c:
    every number tells where it stands.
    """
    b, t, v, c = torch.meshgrid(
        *map(torch.arange, (BATCH, TIMES * PATCH, JOINTS, 3)), indexing="ij"
    )
    return (10000 * b + 100 * t + 10 * v + c).float()


def test_patchify_orders_tokens_by_time_then_joint_and_numbers_by_frame_then_xyz() -> None:
    tokens = patchify(indexed(), PATCH)
    assert tokens.shape == (BATCH, TIMES * JOINTS, PATCH * 3)
    for batch in range(BATCH):
        for step in range(TIMES):
            for joint in range(JOINTS):
                expected = [
                    10000 * batch + 100 * (step * PATCH + frame) + 10 * joint + channel
                    for frame in range(PATCH)
                    for channel in range(3)
                ]
                assert tokens[batch, step * JOINTS + joint].tolist() == expected


def test_one_token_written_out() -> None:
    # batch 1, step 2 (frames 8 to 11), joint 3: token 2 * 5 + 3
    expected = [10830, 10831, 10832, 10930, 10931, 10932, 11030, 11031, 11032, 11130, 11131, 11132]
    assert patchify(indexed(), PATCH)[1, 13].tolist() == expected


def test_unpatchify_is_the_inverse_of_patchify() -> None:
    assert torch.equal(unpatchify(patchify(indexed(), PATCH), PATCH, JOINTS), indexed())


def test_patchify_is_the_inverse_of_unpatchify() -> None:
    tokens = torch.arange(float(BATCH * TIMES * JOINTS * PATCH * 3)).reshape(
        BATCH, TIMES * JOINTS, PATCH * 3
    )
    assert torch.equal(patchify(unpatchify(tokens, PATCH, JOINTS), PATCH), tokens)


def test_patchify_refuses_frames_that_are_no_multiple_of_the_patch() -> None:
    with pytest.raises(RuntimeError, match="shape"):
        patchify(torch.zeros(1, 10, JOINTS, 3), PATCH)


def test_grid_numbers_at_the_published_size() -> None:
    grid = TokenGrid(times=30, joints=25, patch=4)
    assert (grid.tokens, grid.frames, grid.patch_width) == (750, 120, 12)


def test_frame_motion_by_hand() -> None:
    x = torch.tensor([[1.0, 10, 100], [2, 10, 90], [5, 11, 90]]).reshape(1, 3, 1, 3)
    expected = torch.tensor([[1.0, 0, -10], [3, 1, 0], [0, 0, 0]]).reshape(1, 3, 1, 3)
    assert torch.equal(frame_motion(x), expected)


def test_standardise_by_hand_divides_by_the_n_minus_1_deviation() -> None:
    # mean 3, squares 4 + 1 + 0 + 9 = 14, variance 14 / 3 (not 14 / 4)
    tokens = torch.tensor([[[1.0, 2, 3, 6]]])
    deviation = math.sqrt(14 / 3)
    expected = torch.tensor([[[-2 / deviation, -1 / deviation, 0, 3 / deviation]]])
    torch.testing.assert_close(standardise(tokens), expected)


def test_standardise_takes_each_token_on_its_own() -> None:
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 7, 12, generator=random)
    apart = torch.stack([standardise(token[None, None])[0, 0] for token in tokens.flatten(0, 1)])
    torch.testing.assert_close(standardise(tokens).flatten(0, 1), apart)


def test_standardise_turns_a_constant_token_into_zeros() -> None:
    assert torch.equal(standardise(torch.full((1, 1, 12), 2.5)), torch.zeros(1, 1, 12))


def test_standardise_adds_epsilon_to_the_variance() -> None:
    # values +-0.001: variance 2e-6, so the result is +-0.001 / sqrt(3e-6)
    scaled = standardise(torch.tensor([[[-0.001, 0.001]]]))
    torch.testing.assert_close(scaled, torch.tensor([[[-1.0, 1.0]]]) * 0.001 / math.sqrt(3e-6))


def test_a_prediction_of_zero_costs_11_twelfths_on_standardised_tokens_of_12_numbers() -> None:
    tokens = torch.randn(4, 50, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        standardise(tokens).square().mean(), torch.tensor(11 / 12), rtol=1e-4, atol=0
    )


def test_take_by_hand() -> None:
    tokens = torch.tensor([[[1.0, 10], [2, 20], [3, 30]], [[4, 40], [5, 50], [6, 60]]])
    index = torch.tensor([[2, 0], [1, 1]])
    expected = torch.tensor([[[3.0, 30], [1, 10]], [[5, 50], [5, 50]]])
    assert torch.equal(take(tokens, index), expected)


def test_standardising_the_clip_keeps_what_a_patch_moves_beside_the_others() -> None:
    x = torch.zeros(1, 4, 1, 3)
    x[0, :, 0, 0] = torch.tensor([0.0, 0.0, 2.0, 2.0])  # mean 1, variance 4 / 3
    found = standardise_clip(x, epsilon=0.0).nan_to_num()
    assert found[0, :, 0, 0].tolist() == pytest.approx([-(0.75**0.5)] * 2 + [0.75**0.5] * 2)


@pytest.mark.parametrize(
    ("number", "wanted", "nearest"),
    [(30, 6.0, 6), (18, 3.6, 3), (7, 1.4, 1), (6, 1.2, 1), (20, 3.4, 4)],
)
def test_nearest_divisor_by_ratio(number: int, wanted: float, nearest: int) -> None:
    assert nearest_divisor(number, wanted) == nearest
