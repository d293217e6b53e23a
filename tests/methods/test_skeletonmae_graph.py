"""SkeletonMAE (graph): what is masked, predicted and compared; nothing leaks;
its encoder is its own.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from datasets.layouts import LAYOUTS
from methods.base import OptionError
from methods.parts.encoder import EncoderSize, Skeleton, SkeletonEncoder
from methods.parts.graph import GraphEncoder, cosine_error
from methods.skeletonmae_graph import SkeletonMAEGraph, SkeletonMAEGraphOptions
from tests.methods.made_up import JOINTS, SMALL, encoder, motion


def method(**options: Any) -> SkeletonMAEGraph:
    return SkeletonMAEGraph(encoder(), SkeletonMAEGraphOptions(**options))


def predicted(built: SkeletonMAEGraph, x: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    with torch.no_grad():
        return built.predict(x)


def test_its_encoder_is_a_graph_encoder_of_the_published_size() -> None:
    built = method()
    found = built.evaluated_encoder()
    assert isinstance(found, GraphEncoder)
    assert (found.width, len(found.network.layers), found.grid.frames) == (64, 3, SMALL.frames)


def test_it_owns_no_shared_encoder() -> None:
    built = method()
    assert isinstance(built.encoder, GraphEncoder)
    assert not [part for part in built.modules() if isinstance(part, SkeletonEncoder)]


def test_every_frame_masks_one_whole_part() -> None:
    built = method()
    mask = predicted(built, motion(8))[2]
    upper = torch.tensor([True, True, False, False, False])
    assert mask.shape == (8, SMALL.frames, JOINTS)
    assert all(
        torch.equal(frame, upper) or torch.equal(frame, ~upper) for frame in mask.flatten(0, 1)
    )
    assert len(mask[0].unique(dim=0)) == 2


def test_target_is_the_projection_of_the_unmasked_joints() -> None:
    built, x = method(), motion(4)
    torch.testing.assert_close(predicted(built, x)[1], built.encoder.project(x).detach())


def test_no_gradient_flows_through_the_target() -> None:
    assert not method().predict(motion(4))[1].requires_grad


def test_loss_is_the_cosine_error_on_masked_joints() -> None:
    built, x = method(beta=3), motion(8)
    torch.manual_seed(5)
    loss, parts = built.loss(x)
    expected = cosine_error(*predicted(built, x, seed=5), beta=3)
    torch.testing.assert_close(loss.detach(), expected)
    torch.testing.assert_close(parts["cosine_error"], expected)


def test_loss_reads_no_target_of_a_visible_joint() -> None:
    prediction, target, mask = predicted(method(), motion(4))
    elsewhere = torch.where(mask.unsqueeze(-1), target, torch.randn_like(target))
    assert torch.equal(
        cosine_error(prediction, elsewhere, mask, 2), cosine_error(prediction, target, mask, 2)
    )


def test_predictions_do_not_see_the_masked_joints() -> None:
    built, x = method().eval(), motion(4)
    before, _, mask = predicted(built, x)
    after, _, again = predicted(built, x + torch.randn(x.shape) * mask.unsqueeze(-1))
    assert torch.equal(mask, again)
    assert torch.equal(before, after)


def test_predictions_see_the_visible_joints() -> None:
    built, x = method().eval(), motion(4)
    before, _, mask = predicted(built, x)
    after, _, _ = predicted(built, x + ~mask.unsqueeze(-1))
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
    loss, _ = SkeletonMAEGraph(shared, SkeletonMAEGraphOptions(regions=2)).loss(
        motion(2, layout.joint_count)
    )
    loss.backward()
    assert loss.isfinite()


def test_diagnosis_sets_the_error_beside_that_of_the_mean_target() -> None:
    with torch.no_grad():
        values = method().diagnose(motion(8)).values
    assert values.keys() == {"error/prediction", "error/mean-target"}
    assert values["error/prediction"] > values["error/mean-target"] > 0  # nothing is learnt yet


# --- options ---


def test_too_many_regions_are_refused_before_anything_is_built() -> None:
    with pytest.raises(OptionError, match="regions=2: the layout has 2 body parts"):
        method(regions=2)


def test_a_layout_without_parts_is_refused() -> None:
    without = SkeletonEncoder(EncoderSize(1, 8, 1, 8, 4), 3, Skeleton((-1, 0, 1)))
    with pytest.raises(OptionError, match="needs body parts"):
        SkeletonMAEGraphOptions().resolved(without)


@pytest.mark.parametrize("option", [{"regions": 0}, {"beta": 0.5}, {"width": 0}, {"depth": 0}])
def test_impossible_options_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SkeletonMAEGraphOptions.model_validate(option)


def test_width_and_depth_shape_the_encoder() -> None:
    found = method(width=16, depth=2).encoder
    assert (found.width, len(found.network.layers)) == (16, 2)
