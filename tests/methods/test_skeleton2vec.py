"""Skeleton2vec: targets by hand, the teacher's part, options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from methods.base import OptionError
from methods.encoder import SIZES
from methods.skeleton2vec import Skeleton2vec, Skeleton2vecOptions, instance_norm
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
    expected = torch.nn.functional.layer_norm(instance_norm(built.teacher.encoder.layers(x)[-1]), (16,))
    torch.testing.assert_close(built.targets(x), expected)


def test_layer_normalised_targets_are_another_arm() -> None:
    x = motion(2, joints=10)
    assert not torch.allclose(method().targets(x), method(instance_norm=False).targets(x))


def test_the_teacher_sees_the_unmasked_input() -> None:
    built, x, seen = method(), motion(2, joints=10), []
    built.teacher.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    built.encoder.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
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


def test_base_resolves_to_the_published_setting() -> None:
    options = Skeleton2vecOptions().resolved(meta_encoder(SIZES["base"]))
    assert (options.tube, options.layers, options.decoder_depth, options.beta) == (5, 8, 3, 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tube": 4}, "tube=4 must divide the 6 time steps: 1, 2, 3, 6"),
        ({"layers": 3}, "the encoder has 2; allowed are 0"),
        ({"mask_ratio": 0.95}, "leaves none of 10 joints visible in a tube; allowed is up to 0.900"),
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
