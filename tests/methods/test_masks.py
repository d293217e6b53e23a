"""Masks: how many tokens stay visible, which ones, and with what probability."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from methods.parts.masks import (
    Mask,
    frame_and_joint_mask,
    lowest_visible,
    motion_aware_mask,
    motion_log_odds,
    random_mask,
    token_motion,
    tube_mask,
    tube_motion,
    visible_count,
    visible_joints,
)
from methods.parts.tokens import TokenGrid, unpatchify
from tests.methods.made_up import motion

GRID = TokenGrid(times=6, joints=5, patch=4)
PUBLISHED = TokenGrid(times=30, joints=25, patch=4)
MASKS: dict[str, Callable[[Tensor, TokenGrid, float], Mask]] = {
    "random": random_mask,
    "motion-aware": lambda x, grid, ratio: motion_aware_mask(x, grid, ratio, 0.8),
    "frames": lambda x, grid, ratio: frame_and_joint_mask(x, grid, ratio, 0.5),
}
every_mask = pytest.mark.parametrize("make", MASKS.values(), ids=MASKS.keys())


# --- how many ---


@pytest.mark.parametrize(
    ("tokens", "ratio", "visible"),
    [(750, 0.9, 74), (750, 0.5, 375), (100, 0.75, 25), (7, 0.5, 3), (450, 0.9, 44)],
)
def test_visible_tokens_are_truncated(tokens: int, ratio: float, visible: int) -> None:
    assert visible_count(tokens, ratio) == visible


@every_mask
def test_published_grid_has_74_visible_and_676_masked_tokens(
    make: Callable[[Tensor, TokenGrid, float], Mask],
) -> None:
    mask = make(motion(3, joints=25, frames=120), PUBLISHED, 0.9)
    assert (mask.visible.shape, mask.masked.shape) == ((3, 74), (3, 676))


@every_mask
def test_visible_and_masked_together_hold_every_token_once(
    make: Callable[[Tensor, TokenGrid, float], Mask],
) -> None:
    torch.manual_seed(0)
    mask = make(motion(8), GRID, 0.7)
    together = torch.cat([mask.visible, mask.masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(GRID.tokens).expand(8, -1))


@every_mask
def test_sequences_of_a_batch_have_different_masks(
    make: Callable[[Tensor, TokenGrid, float], Mask],
) -> None:
    torch.manual_seed(0)
    mask = make(motion(1).expand(8, -1, -1, -1), GRID, 0.7)
    assert len({tuple(sorted(row)) for row in mask.visible.tolist()}) == 8


@every_mask
def test_masks_follow_the_seed(make: Callable[[Tensor, TokenGrid, float], Mask]) -> None:
    x, masks = motion(4), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(make(x, GRID, 0.7).visible)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_lowest_scores_are_visible() -> None:
    mask = lowest_visible(torch.tensor([[0.3, -1.0, 2.0, 0.1], [4.0, 3.0, 2.0, 1.0]]), keep=2)
    assert mask.visible.tolist() == [[1, 3], [3, 2]]
    assert mask.masked.tolist() == [[0, 2], [1, 0]]


# --- motion of a token ---


def test_token_motion_by_hand() -> None:
    # Two joints, three steps of two frames; numbers of a token: x y z of its first frame, then of
    # its second.
    still = [[1.0, 2, 3, 1, 2, 3]] * 3
    moving = [[0.0, 0, 0, 0, 0, 0], [3, 0, 0, 3, 0, 0], [3, -1, 2, 6, 0, 0]]
    tokens = torch.tensor([[still[0], moving[0], still[1], moving[1], still[2], moving[2]]])
    x = unpatchify(tokens, patch=2, joints=2)
    # step 1: (3 + 3) / 6 = 1; step 2: (1 + 2 + 3) / 6 = 1; with the last frame at 9 it would be 1.5
    assert token_motion(x, TokenGrid(3, 2, 2)).tolist() == [[0, 1, 0, 1, 0, 1]]


def test_first_step_copies_the_motion_of_the_second() -> None:
    tokens = torch.tensor([[[0.0] * 6, [1.0] * 6, [5.0] * 6]])
    x = unpatchify(tokens, patch=2, joints=1)
    assert token_motion(x, TokenGrid(3, 1, 2)).tolist() == [[1, 1, 4]]


def test_token_motion_ignores_where_the_body_stands() -> None:
    x = torch.randint(
        -8, 8, (2, GRID.frames, GRID.joints, 3), generator=torch.Generator().manual_seed(0)
    )
    assert torch.equal(token_motion(x + 100.0, GRID), token_motion(x + 0.0, GRID))


# --- probabilities ---


def test_log_odds_by_hand() -> None:
    # motions 0, 1, 2 (joints 0 to 2); logits I / (2 * 0.8) = 0, 0.625, 1.25
    tokens = torch.zeros(1, 6, 6)
    tokens[0, 4], tokens[0, 5] = 1, 2
    x = unpatchify(tokens, patch=2, joints=3)
    logits = torch.tensor([0, 0.625, 1.25] * 2)
    torch.testing.assert_close(
        motion_log_odds(x, TokenGrid(2, 3, 2), 0.8)[0], logits - torch.log(torch.exp(logits).sum())
    )


@pytest.mark.parametrize("tau", [0.8, 0.75, 2.0])
def test_log_odds_span_at_most_1_over_tau(tau: float) -> None:
    log_odds = motion_log_odds(motion(16), GRID, tau)
    assert (log_odds.amax(1) - log_odds.amin(1)).max() <= 1 / tau + 1e-5


def test_log_odds_span_exactly_1_over_tau_when_some_joint_is_still() -> None:
    x = motion(4)
    x[:, :, 0] = 1.0
    log_odds = motion_log_odds(x, GRID, 0.8)
    torch.testing.assert_close(log_odds.amax(1) - log_odds.amin(1), torch.full((4,), 1.25))
    assert math.exp(1.25) < 3.5


def test_a_moving_token_stays_visible_with_a_power_of_a_still_ones_probability() -> None:
    # A score below a threshold has probability exp(-e^-threshold)^e^logit: u for a still token,
    # u^3.49 for logit 1.25.
    x = torch.ones(256, 120, 25, 3)
    x[:, :, 13:] += torch.arange(120.0)[
        :, None, None
    ]  # joints 13 to 24 move at one speed, the others stand still
    torch.manual_seed(0)
    visible = motion_aware_mask(x, TokenGrid(30, 25, 4), mask_ratio=0.9, tau=0.8).visible
    moving = (visible % 25 >= 13).float().sum(1).mean().item() / 360
    still = (visible % 25 < 13).float().sum(1).mean().item() / 390
    assert still == pytest.approx(0.187, abs=0.003)  # of 390 u + 360 u^3.49 = 74
    assert moving == pytest.approx(
        still ** math.exp(1.25), rel=0.4
    )  # some 270 tokens: 6 % of chance either way
    assert still / (1 - still) > 40 * moving / (1 - moving)  # odds far above the first draw's 3.5


def test_probabilities_of_a_sequence_add_up_to_1() -> None:
    torch.testing.assert_close(motion_log_odds(motion(4), GRID, 0.8).exp().sum(1), torch.ones(4))


def test_a_sequence_without_motion_is_uniform() -> None:
    log_odds = motion_log_odds(torch.ones(2, GRID.frames, GRID.joints, 3), GRID, 0.8)
    torch.testing.assert_close(log_odds, torch.full((2, GRID.tokens), -math.log(GRID.tokens)))


@pytest.mark.parametrize("tau", [0.0, -1.0])
def test_tau_of_zero_or_less_is_the_random_mask(tau: float) -> None:
    x = motion(4)
    torch.manual_seed(3)
    expected = random_mask(x, GRID, 0.7)
    torch.manual_seed(3)
    found = motion_aware_mask(x, GRID, 0.7, tau)
    assert torch.equal(found.visible, expected.visible)
    assert torch.equal(found.masked, expected.masked)


# --- frequencies: with one token masked, how often each one is it ---


def frequency_of_being_masked(
    make: Callable[[Tensor, TokenGrid, float], Mask], draws: int
) -> Tensor:
    """Six tokens, the joints moving by 0, 1 and 2; one token of six is masked."""
    tokens = torch.zeros(1, 6, 6)
    tokens[0, 4], tokens[0, 5] = 1, 2
    x = unpatchify(tokens, patch=2, joints=3).expand(draws, -1, -1, -1)
    torch.manual_seed(0)
    masked = make(x, TokenGrid(2, 3, 2), 1 / 6).masked
    assert masked.shape == (draws, 1)
    return torch.bincount(masked[:, 0], minlength=6) / draws


def test_motion_aware_masking_draws_with_the_softmax_probabilities() -> None:
    weights = torch.tensor([0, 0.625, 1.25] * 2).exp()
    expected, draws = weights / weights.sum(), 20000
    found = frequency_of_being_masked(MASKS["motion-aware"], draws)
    deviation = torch.sqrt(expected * (1 - expected) / draws)
    assert ((found - expected).abs() < 4 * deviation).all()


def test_random_masking_draws_every_token_alike() -> None:
    found = frequency_of_being_masked(MASKS["random"], 20000)
    assert ((found - 1 / 6).abs() < 4 * math.sqrt(1 / 6 * 5 / 6 / 20000)).all()


def mean_motion_of_masked_over_visible(tau: float) -> float:
    x = motion(400)
    x[:, :, :2] = x[:, :1, :2]  # two joints stand still
    moved = token_motion(x, GRID)
    torch.manual_seed(0)
    mask = motion_aware_mask(x, GRID, 0.9, tau)
    return float(moved.gather(1, mask.masked).mean() / moved.gather(1, mask.visible).mean())


def test_masked_tokens_move_more_than_visible_ones() -> None:
    assert mean_motion_of_masked_over_visible(tau=0.8) > 1.3


def test_masked_and_visible_tokens_move_alike_under_the_random_mask() -> None:
    assert mean_motion_of_masked_over_visible(tau=0.0) == pytest.approx(1, abs=0.06)


# --- whole time steps ---


def test_half_of_the_time_steps_are_masked_whole() -> None:
    mask = frame_and_joint_mask(motion(16, joints=25, frames=120), PUBLISHED, 0.9, 0.5)
    steps = [set((row // 25).tolist()) for row in mask.visible]
    assert all(len(seen) <= 15 for seen in steps)
    assert (
        max(len(seen) for seen in steps) >= 13
    )  # 74 tokens on 15 time steps leave hardly one of them out


def test_time_steps_are_kept_in_excess_where_the_share_could_not_hold_the_visible_tokens() -> None:
    mask = frame_and_joint_mask(motion(4), GRID, 0.3, 0.9)
    assert mask.visible.shape == (4, visible_count(30, 0.3))
    assert len({int(step) for step in mask.visible[0] // 5}) >= 4


# --- tubes ---


def test_tubes_at_the_published_setting_leave_60_of_750_tokens_visible() -> None:
    mask = tube_mask(motion(3, joints=25, frames=120), PUBLISHED, 0.9, 5, 0.1)
    assert (mask.visible.shape, mask.masked.shape) == ((3, 60), (3, 690))
    together = torch.cat([mask.visible, mask.masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(750).expand(3, -1))


def test_the_same_joints_are_visible_throughout_a_tube_and_tubes_differ() -> None:
    mask = tube_mask(motion(8, joints=25, frames=120), PUBLISHED, 0.9, 5, 0.1)
    shown = (
        torch.zeros(8, 750, dtype=torch.bool).scatter(1, mask.visible, True).reshape(8, 6, 5, 25)
    )
    assert torch.equal(shown, shown[:, :, :1].expand(-1, -1, 5, -1))
    assert (shown[:, :, 0].sum(-1) == 2).all()
    assert not torch.equal(shown[:, 0], shown[:, 1])


def test_tube_motion_by_hand() -> None:
    # Two joints, patches of two frames, tubes of one step: joint 0 moves by 1 then 1 (the next
    # patch's start), then stands; joint 1 moves by 2 and back in the second tube only.
    x = torch.zeros(1, 4, 2, 3)
    x[0, :, 0] = torch.tensor([0.0, 1, 2, 2]).unsqueeze(-1)
    x[0, :, 1] = torch.tensor([0.0, 0, 0, 4]).unsqueeze(-1)
    found = tube_motion(x, TokenGrid(times=2, joints=2, patch=2), tube=1)
    torch.testing.assert_close(found, torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), atol=1e-4, rtol=0)


def test_with_a_large_beta_the_stillest_joints_of_a_tube_stay_visible() -> None:
    x, grid = motion(8, joints=25, frames=120), PUBLISHED
    mask = tube_mask(x, grid, 0.9, 5, beta=1000.0)
    stillest = tube_motion(x, grid, 5).argsort(dim=2)[..., :2].sort(dim=2).values
    shown = mask.visible.reshape(8, 6, 5, 2)[:, :, 0] % 25
    assert torch.equal(shown.sort(dim=2).values, stillest)


def test_without_beta_motion_has_no_say() -> None:
    still, moving = torch.zeros(64, 24, 5, 3), motion(64)
    torch.manual_seed(0)
    one = tube_mask(still, GRID, 0.7, 2, beta=0.0)
    torch.manual_seed(0)
    assert torch.equal(one.visible, tube_mask(moving, GRID, 0.7, 2, beta=0.0).visible)


@pytest.mark.parametrize(("joints", "visible"), [(25, 2), (22, 2), (20, 2), (15, 1), (9, 0)])
def test_visible_joints_of_a_tube(joints: int, visible: int) -> None:
    assert visible_joints(joints, 0.9) == visible
