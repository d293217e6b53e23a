"""STRL: shapes, fusion by hand, shared weights, body order, absent bodies,
and gradients to the pre-trained parts.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from methods.parts.graph import GraphEncoder
from methods.strl import STRL, STRLLayer, pool_bodies, pool_time_scales
from tests.methods.made_up import JOINTS, motion, skeleton

FRAMES, CLASSES, WIDTH = 8, 7, 6


def graph_encoder() -> GraphEncoder:
    torch.manual_seed(0)
    return GraphEncoder(FRAMES, skeleton(JOINTS), width=WIDTH, depth=1)


def model(**options: int) -> STRL:
    return STRL(graph_encoder(), CLASSES, **options)


def clips(count: int = 4, bodies: int = 2, seed: int = 0) -> Tensor:
    """``[count, T, bodies, V, 3]``."""
    sequences = motion(count * bodies, frames=FRAMES, seed=seed)
    return sequences.unflatten(0, (count, bodies)).transpose(1, 2).contiguous()


# --- pooling ---


def test_bodies_are_pooled_by_the_sum_of_their_joint_means() -> None:
    joints = torch.tensor(
        [[[[1.0], [3]]], [[[10.0], [30]]], [[[100.0], [300]]]]
    )  # 3 bodies, 1 frame, 2 joints
    found = pool_bodies(joints, torch.tensor([0, 0, 2]), clips=3)
    assert found.tolist() == [[[22]], [[0]], [[200]]]


def test_time_is_pooled_over_whole_halves_and_quarters() -> None:
    steps = torch.tensor([[[0.0], [2], [4], [6]]])
    assert pool_time_scales(steps, (1, 2, 4)).tolist() == [[3, 1, 5, 0, 2, 4, 6]]


def test_a_layer_adds_the_network_and_the_repeated_fusion_to_its_input() -> None:
    layer = STRLLayer(graph_encoder().network).eval()
    bodies, clip = torch.randn(3, FRAMES, JOINTS, WIDTH), torch.tensor([0, 0, 1])
    with torch.no_grad():
        joints = layer.network(bodies)
        means = joints.mean(2, keepdim=True)
        fused = torch.stack([means[0] + means[1], means[0] + means[1], means[2]])
        torch.testing.assert_close(layer(bodies, clip, 2), bodies + joints + fused)


# --- the model ---


@pytest.mark.parametrize("bodies", [1, 2, 3])
def test_logits_have_one_row_per_clip(bodies: int) -> None:
    assert model()(clips(4, bodies)).shape == (4, CLASSES)


def test_there_are_three_layers_that_all_start_pre_trained() -> None:
    encoder = graph_encoder()
    built = STRL(encoder, CLASSES)
    expected = encoder.network.state_dict()
    assert len(built.layers) == 3
    for layer in built.layers:
        assert isinstance(layer, STRLLayer)
        assert all(
            torch.equal(value, expected[key]) for key, value in layer.network.state_dict().items()
        )
    assert torch.equal(built.project.weight, encoder.project.weight)


def test_the_given_encoder_is_left_alone() -> None:
    encoder = graph_encoder()
    owned = {id(parameter) for parameter in STRL(encoder, CLASSES).parameters()}
    assert not owned & {id(parameter) for parameter in encoder.parameters()}


def test_persons_share_the_weights_of_a_layer() -> None:
    # One person, whether in the first or in the second place, is the same clip.
    x = clips(4, bodies=1)
    padded = torch.zeros_like(x)
    built = model().eval()
    with torch.no_grad():
        first, second = built(torch.cat([x, padded], dim=2)), built(torch.cat([padded, x], dim=2))
    assert torch.equal(first, second)


def test_the_number_of_parameters_does_not_depend_on_the_bodies_but_on_the_layers() -> None:
    one, three = (sum(p.numel() for p in model(depth=depth).parameters()) for depth in (1, 3))
    network = sum(p.numel() for p in graph_encoder().network.parameters())
    assert three - one == 2 * network


@pytest.mark.parametrize("training", [True, False])
def test_the_order_of_the_bodies_does_not_matter(training: bool) -> None:
    x, built = clips(), model().train(training)
    with torch.no_grad():
        torch.testing.assert_close(built(x), built(x.flip(2)))


def test_the_second_person_matters() -> None:
    x, built = clips(), model().eval()
    with torch.no_grad():
        assert not torch.allclose(built(x), built(x[:, :, :1]))


def test_persons_hear_of_each_other_between_layers() -> None:
    # With the fused features of the last layer only, a clip would be the sum of its persons.
    built, x = model().eval(), clips()
    moved = x.clone()
    moved[:, :, 1] += 0.5
    seen: list[Tensor] = []
    hook = built.layers[1].register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        built(x)
        built(moved)
    hook.remove()
    first_persons = [entered[::2] for entered in seen]
    assert not torch.allclose(*first_persons)


@pytest.mark.parametrize("training", [True, False])
def test_an_absent_body_changes_nothing_not_even_batch_statistics(training: bool) -> None:
    x = clips(4, bodies=1)
    with torch.no_grad():
        alone = model().train(training)(x)
        padded = model().train(training)(torch.cat([x, torch.zeros_like(x)], dim=2))
    torch.testing.assert_close(alone, padded)


def test_clips_with_and_without_a_second_body_go_together() -> None:
    x, built = clips(), model().eval()
    x[1, :, 1] = 0
    with torch.no_grad():
        torch.testing.assert_close(built(x)[1:2], built(x[1:2, :, :1]))
        torch.testing.assert_close(built(x)[:1], built(x[:1]))


def test_a_clip_without_any_body_has_finite_logits() -> None:
    x = clips()
    x[2] = 0
    with torch.no_grad():
        assert model()(x).isfinite().all()


def test_time_matters() -> None:
    x, built = clips(), model().eval()
    with torch.no_grad():
        assert not torch.allclose(built(x), built(x.flip(1)))


def test_a_gradient_reaches_every_pre_trained_part() -> None:
    built = model()
    built(clips())[:, 0].sum().backward()
    gradients = {name: parameter.grad for name, parameter in built.named_parameters()}
    assert [
        name
        for name, gradient in gradients.items()
        if gradient is None or not gradient.isfinite().all()
    ] == []
    weights = {
        name: gradient
        for name, gradient in gradients.items()
        if gradient is not None and gradient.ndim > 1
    }
    assert [
        name
        for name, gradient in weights.items()
        if not gradient.any() and not name.startswith("class")
    ] == []


def test_it_learns_to_tell_clips_apart() -> None:
    built, x, labels = model(), clips(7), torch.arange(7)
    optimiser = torch.optim.AdamW(built.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(built(x), labels).backward()
        optimiser.step()
    assert torch.equal(built(x).argmax(1), labels)
