"""Skeleton2vec: targets by hand, the teacher's part, options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods.base import OptionError
from methods.parts.encoder import SIZES
from methods.parts.masks import Mask, tube_mask
from methods.parts.tokens import TokenGrid, take
from methods.skeleton2vec import Skeleton2vec, Skeleton2vecOptions, instance_norm, released_places
from tests.methods.made_up import encoder, meta_encoder, motion


def method(joints: int = 10, **options: Any) -> Skeleton2vec:
    return Skeleton2vec(encoder(joints=joints), Skeleton2vecOptions(**options))


def test_instance_norm_by_hand() -> None:
    tokens = torch.tensor([[[1.0, 5.0], [3.0, 5.0]], [[0.0, 2.0], [8.0, 4.0]]])
    expected = torch.tensor([[[-1.0, 0.0], [1.0, 0.0]], [[-1.0, -1.0], [1.0, 1.0]]])
    torch.testing.assert_close(instance_norm(tokens), expected, atol=1e-4, rtol=0)


def test_targets_average_the_normalised_outputs_of_all_blocks() -> None:
    built, x = method(), motion(2, joints=10)
    first, second = (instance_norm(tokens) for tokens in built.teacher.encoder.layers(x))
    expected = torch.nn.functional.layer_norm((first + second) / 2, (16,))
    torch.testing.assert_close(built.targets(x), expected)


def test_targets_of_one_layer_are_the_last_blocks() -> None:
    built, x = method(layers=1), motion(2, joints=10)
    expected = torch.nn.functional.layer_norm(
        instance_norm(built.teacher.encoder.layers(x)[-1]), (16,)
    )
    torch.testing.assert_close(built.targets(x), expected)


def test_layer_normalised_targets_are_another_arm() -> None:
    x = motion(2, joints=10)
    assert not torch.allclose(method().targets(x), method(instance_norm=False).targets(x))


def test_the_teacher_sees_the_unmasked_input() -> None:
    built, x, seen = method(), motion(2, joints=10), []
    built.teacher.encoder.blocks[0].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[1])
    )
    built.encoder.blocks[0].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[1])
    )
    built.loss(x)
    assert seen == [6 * 1, 60]  # one of ten joints in each of six tubes; then all tokens


def test_gradients_reach_the_student_only() -> None:
    built = method()
    built.loss(motion(2, joints=10))[0].backward()
    assert built.encoder.patch_embed.weight.grad is not None
    assert all(parameter.grad is None for parameter in built.teacher.parameters())


def test_the_teacher_is_evaluated_and_follows() -> None:
    built = method()
    before = built.evaluated_encoder().patch_embed.weight.clone()
    with torch.no_grad():
        built.encoder.patch_embed.weight.add_(1.0)
    assert torch.equal(built.evaluated_encoder().patch_embed.weight, before)
    built.after_step(0.5)
    assert (built.evaluated_encoder().patch_embed.weight > before).all()


def test_the_released_decoder_puts_the_latents_of_all_steps_into_the_first_steps_by_hand() -> None:
    # 4 steps of 3 joints; joint 2 is visible in steps 0 and 1, joint 0 in steps 2 and 3: tokens 2,
    # 5, 6, 9.
    mask = Mask(torch.tensor([[2, 5, 6, 9]]), torch.tensor([[0, 1, 3, 4, 8, 7, 11, 10]]))
    places = released_places(mask, TokenGrid(times=4, joints=3, patch=1))
    # Step 0 receives the first three latents, in its own order of joints 2, 0, 1; step 1 the
    # fourth, at its joint 2.
    assert places.visible.tolist() == [[2, 0, 1, 5]]
    assert places.masked.tolist() == [[3, 4, 6, 8, 7, 9, 11, 10]]


def test_at_30_by_25_tokens_the_released_decoder_keeps_2_of_60_latents_at_their_own_token() -> None:
    grid = TokenGrid(times=30, joints=25, patch=4)
    mask = tube_mask(motion(3, joints=25, frames=120), grid, mask_ratio=0.9, tube=5, beta=0.1)
    places = released_places(mask, grid)
    assert places.visible.shape == (3, 60)
    assert (places.visible // 25).unique().tolist() == [0, 1, 2]
    assert (places.visible == mask.visible).sum(1).tolist() == [2, 2, 2]
    assert torch.equal(torch.cat(places, dim=1).sort(dim=1).values, torch.arange(750).expand(3, -1))


def test_as_released_the_decoder_gets_the_released_places_and_the_loss_stays_on_masked_tokens() -> (
    None
):
    built, x = method(decoder="as-released"), motion(2, joints=10)
    with torch.no_grad():
        torch.manual_seed(1)
        found = built.loss(x)[0]
        torch.manual_seed(1)
        mask = tube_mask(x, built.encoder.grid, 0.9, 1, 0.1)
        prediction = built.decoder(
            built.encoder(x, mask.visible), released_places(mask, built.encoder.grid)
        )
        expected = take((prediction - built.targets(x)).square(), mask.masked).mean()
    torch.testing.assert_close(found, expected)


def test_the_decoder_is_repaired_unless_asked_otherwise() -> None:
    x = motion(2, joints=10)

    def loss(**options: Any) -> float:
        built = method(**options)
        torch.manual_seed(1)
        return built.loss(x)[0].item()

    assert loss() == loss(decoder="repaired")
    assert loss() != loss(decoder="as-released")


def test_base_resolves_to_the_published_setting() -> None:
    options = Skeleton2vecOptions().resolved(meta_encoder(SIZES["base"]))
    assert (options.tube, options.layers, options.decoder_depth, options.beta) == (5, 8, 3, 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tube": 4}, "tube=4 must divide the 6 time steps: 1, 2, 3, 6"),
        ({"layers": 3}, "the encoder has 2; allowed are 1 to 2"),
        (
            {"mask_ratio": 0.95},
            "leaves none of 10 joints visible in a tube; allowed is up to 0.900",
        ),
    ],
)
def test_impossible_options_name_the_allowed_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        method(**options)


def test_a_teacher_that_says_the_same_of_everything_is_reported() -> None:
    built, x = method(), motion(2, joints=10)
    assert built.diagnose(x).warnings == ()
    torch.nn.init.zeros_(built.teacher.encoder.patch_embed.weight)
    for parameter in built.teacher.encoder.positions.parameters():
        torch.nn.init.zeros_(parameter)
    assert "collapsed" in built.diagnose(x).warnings[0]
