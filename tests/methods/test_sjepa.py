"""S-JEPA: the cross-entropy by hand, its centre, its target encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.parts.encoder import SIZES
from methods.parts.masks import motion_aware_mask
from methods.parts.tokens import take
from methods.sjepa import SJEPA, SJEPAOptions
from tests.methods.made_up import encoder, meta_encoder, motion


def method(**options: Any) -> SJEPA:
    return SJEPA(encoder(), SJEPAOptions(**options))


def loss_of(built: SJEPA, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(1)
    return built.loss(x)


def test_cross_entropy_by_hand() -> None:
    built, x = method(mask_ratio=0.7), motion(2)
    built.center.copy_(torch.linspace(-1, 1, 16))
    torch.manual_seed(1)
    mask = motion_aware_mask(x, built.encoder.grid, 0.7, 0.8)
    with torch.no_grad():
        target = take(built.teacher.encoder(x), mask.masked)
        prediction = take(built.decoder(built.encoder(x, mask.visible), mask), mask.masked)
    wanted = torch.softmax((target - built.center) / 0.06, -1)
    expected = -(wanted * torch.softmax(prediction / 0.1, -1).log()).sum(-1).mean()
    assert loss_of(built, x)[0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_targets_are_after_the_final_layer_norm_with_its_learnt_scale_and_shift() -> None:
    built, x = method(), motion(2)
    before = built.features(x)
    with torch.no_grad():
        built.teacher.encoder.norm.weight.mul_(2)
        built.teacher.encoder.norm.bias.add_(1)
    torch.testing.assert_close(built.features(x), 2 * before + 1)


def test_loss_is_at_least_the_entropy_of_the_targets() -> None:
    built, x = method(), motion(8)
    assert loss_of(built, x)[0].item() >= built.diagnose(x).values["entropy/target"]


def test_an_uninformative_prediction_costs_the_log_of_the_width() -> None:
    built = method()
    torch.nn.init.zeros_(built.decoder.predict.weight)
    assert loss_of(built, motion(4))[0].item() == pytest.approx(
        torch.log(torch.tensor(16.0)).item(), rel=1e-5
    )


def test_the_centre_moves_after_the_step_by_a_tenth_of_the_way() -> None:
    built, x = method(), motion(4)
    loss_of(built, x)
    assert not built.center.any()
    built.after_step(0.1)
    with torch.no_grad():
        mean = encoder()(x).mean((0, 1))
    torch.testing.assert_close(built.center, 0.1 * mean)


def test_the_target_encoder_sees_everything_follows_and_is_evaluated() -> None:
    built, seen = method(), []
    built.teacher.encoder.blocks[0].register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[1])
    )
    loss_of(built, motion(2))
    assert seen == [30]
    before = built.evaluated_encoder().patch_embed.weight.clone()
    with torch.no_grad():
        built.encoder.patch_embed.weight.add_(1.0)
    built.after_step(0.5)
    assert (built.evaluated_encoder().patch_embed.weight > before).all()


def test_gradients_reach_the_student_only() -> None:
    built = method()
    loss_of(built, motion(2))[0].backward()
    assert built.encoder.patch_embed.weight.grad is not None
    assert all(parameter.grad is None for parameter in built.teacher.parameters())


def test_predictor_has_five_blocks_at_base() -> None:
    assert SJEPAOptions().resolved(meta_encoder(SIZES["base"])).decoder_depth == 5
