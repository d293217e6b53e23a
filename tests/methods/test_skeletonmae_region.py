"""The graph SkeletonMAE's pretext on the shared encoder: mask, target, loss;
positions stay, nothing else leaks.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from datasets.layouts import LAYOUTS
from methods.base import OptionError
from methods.parts.encoder import Skeleton, SkeletonEncoder
from methods.parts.graph import cosine_error
from methods.parts.tokens import patchify
from methods.skeletonmae_region import SkeletonMAERegion, SkeletonMAERegionOptions
from tests.methods.made_up import JOINTS, SMALL, encoder, motion

TIMES = SMALL.frames // SMALL.patch


def method(**options: Any) -> SkeletonMAERegion:
    return SkeletonMAERegion(encoder(), SkeletonMAERegionOptions(**options))


def predicted(built: SkeletonMAERegion, x: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    with torch.no_grad():
        return built.predict(x)


def seen_by_blocks(built: SkeletonMAERegion, x: Tensor) -> Tensor:
    """What enters the encoder's first block."""
    entered: list[Tensor] = []
    hook = built.encoder.blocks[0].register_forward_pre_hook(
        lambda _block, inputs: entered.append(inputs[0])
    )
    predicted(built, x)
    hook.remove()
    return entered[0]


def test_a_sequence_masks_one_whole_part_in_all_its_time_steps() -> None:
    mask = predicted(method(), motion(16))[2]
    upper = torch.tensor([True, True, False, False, False])
    assert mask.shape == (16, TIMES, JOINTS)
    assert torch.equal(mask, mask[:, :1].expand_as(mask))
    assert all(torch.equal(body, upper) or torch.equal(body, ~upper) for body in mask[:, 0])
    assert len(mask[:, 0].unique(dim=0)) == 2


def test_target_is_the_patch_embedding_without_positions() -> None:
    built, x = method(), motion(4)
    expected = (
        built.encoder.patch_embed(patchify(x, SMALL.patch)).detach().unflatten(1, (TIMES, JOINTS))
    )
    torch.testing.assert_close(predicted(built, x)[1], expected)


def test_no_gradient_flows_through_the_target() -> None:
    assert not method().predict(motion(4))[1].requires_grad


def test_the_encoder_reads_all_tokens_and_the_mask_token_with_its_position_where_masked() -> None:
    built, x = method(), motion(4)
    entered, mask = seen_by_blocks(built, x), predicted(built, x)[2].flatten(1)
    with torch.no_grad():
        visible, hidden = built.encoder.embed(x), built.mask_token + built.encoder.positions()
    torch.testing.assert_close(entered, torch.where(mask.unsqueeze(-1), hidden, visible))


def test_loss_is_the_cosine_error_on_masked_tokens() -> None:
    built, x = method(beta=3), motion(8)
    torch.manual_seed(5)
    loss, parts = built.loss(x)
    expected = cosine_error(*predicted(built, x, seed=5), beta=3)
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(parts["cosine_error"], expected)


def test_loss_reads_no_target_of_a_visible_token() -> None:
    prediction, target, mask = predicted(method(), motion(4))
    elsewhere = torch.where(mask.unsqueeze(-1), target, torch.randn_like(target))
    assert torch.equal(
        cosine_error(prediction, elsewhere, mask, 2), cosine_error(prediction, target, mask, 2)
    )


def test_predictions_do_not_see_the_masked_joints() -> None:
    built, x = method().eval(), motion(4)
    before, _, mask = predicted(built, x)
    after, _, again = predicted(built, x + torch.randn(x.shape) * mask[:, :1].unsqueeze(-1))
    assert torch.equal(mask, again)
    assert torch.equal(before, after)


def test_predictions_see_the_visible_joints() -> None:
    built, x = method().eval(), motion(4)
    before, _, mask = predicted(built, x)
    after, _, _ = predicted(built, x + ~mask[:, :1].unsqueeze(-1))
    assert not torch.allclose(before, after)


def test_loss_falls() -> None:
    built, x = method(), motion(16)
    optimiser = torch.optim.AdamW(built.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss, _ = built.loss(x)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_works_for_every_layout(name: str) -> None:
    layout = LAYOUTS[name]
    torch.manual_seed(0)
    shared = SkeletonEncoder(SMALL, layout.joint_count, Skeleton(layout.parents, layout.parts))
    loss, _ = SkeletonMAERegion(shared, SkeletonMAERegionOptions(regions=2)).loss(
        motion(2, layout.joint_count)
    )
    loss.backward()
    assert loss.isfinite()


def test_diagnosis_sets_the_error_beside_that_of_the_mean_target() -> None:
    with torch.no_grad():
        values = method().diagnose(motion(8)).values
    assert values.keys() == {"error/prediction", "error/mean-target"}
    assert values["error/prediction"] > values["error/mean-target"] > 0  # nothing is learnt yet


def test_too_many_regions_are_refused() -> None:
    with pytest.raises(OptionError, match="regions=2: the layout has 2 body parts"):
        method(regions=2)


def test_an_encoder_without_a_skeleton_is_refused() -> None:
    with pytest.raises(OptionError, match="needs body parts"):
        SkeletonMAERegionOptions().resolved(SkeletonEncoder(SMALL, JOINTS))


@pytest.mark.parametrize("option", [{"regions": 0}, {"beta": 0.5}])
def test_impossible_options_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SkeletonMAERegionOptions.model_validate(option)
