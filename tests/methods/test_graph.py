"""Graph parts: adjacency, region masks, GIN aggregation and cosine error by hand, batch norm,
the graph encoder.
"""

from __future__ import annotations

import math

import pytest
import safetensors.torch
import torch

from datasets.layouts import LAYOUTS, NTU25
from methods.base import OptionError
from methods.parts.encoder import Skeleton
from methods.parts.graph import (
    COSINE_EPSILON,
    GINLayer,
    GraphDecoder,
    GraphEncoder,
    GraphNetwork,
    adjacency,
    check_regions,
    cosine_error,
    cosine_health,
    part_membership,
    region_mask,
)
from tests.methods.made_up import JOINTS, motion, skeleton

CHAIN = (-1, 0, 1)  # 0 - 1 - 2
NTU = Skeleton(NTU25.parents, NTU25.parts)
EVERYWHERE = torch.ones(1, dtype=torch.bool)


def graph_encoder(seed: int = 0) -> GraphEncoder:
    torch.manual_seed(seed)
    return GraphEncoder(frames=24, skeleton=skeleton(JOINTS), width=8, depth=2)


# --- the joint graph ---


def test_adjacency_of_a_chain_by_hand() -> None:
    assert adjacency(CHAIN).tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("name", LAYOUTS)
def test_adjacency_of_a_layout_has_each_bone_twice_and_no_loop(name: str) -> None:
    found = adjacency(LAYOUTS[name].parents)
    assert torch.equal(found, found.T)
    assert found.sum() == 2 * len(LAYOUTS[name].bones)
    assert not found.diagonal().any()


# --- region masks ---


def test_part_membership_by_hand() -> None:
    found = part_membership(Skeleton(CHAIN, {"upper": (2, 0), "lower": (1,)}))
    assert found.tolist() == [[True, False, True], [False, True, False]]


@pytest.mark.parametrize("regions", [1, 2, 5])
def test_a_mask_is_a_union_of_whole_parts_and_nothing_else(regions: int) -> None:
    mask = region_mask((50,), part_membership(NTU), regions)
    parts = [torch.tensor(part) for part in NTU.parts.values()]
    masked = torch.stack([mask[:, part].all(1) for part in parts], dim=1)
    touched = torch.stack([mask[:, part].any(1) for part in parts], dim=1)
    assert torch.equal(masked, touched)
    assert torch.equal(masked.sum(1), torch.full((50,), regions))


def test_every_part_is_masked_about_equally_often() -> None:
    torch.manual_seed(0)
    mask = region_mask((100, 60), part_membership(NTU), 1)
    shares = torch.stack([mask[..., part[0]].float().mean() for part in NTU.parts.values()])
    torch.testing.assert_close(
        shares, torch.full((6,), 1 / 6), atol=0.02, rtol=0
    )  # deviation 0.005


def test_elements_of_a_batch_draw_for_themselves() -> None:
    mask = region_mask((20, 30), part_membership(NTU), 1)
    assert mask.shape == (20, 30, 25)
    assert len(mask.flatten(0, 1).unique(dim=0)) == 6
    assert not torch.equal(mask[0], mask[1])


def test_a_skeleton_with_enough_parts_is_handed_back() -> None:
    assert check_regions(5, NTU) is NTU


@pytest.mark.parametrize("regions", [0, 6, 7])
def test_impossible_regions_name_the_parts_and_what_is_allowed(regions: int) -> None:
    with pytest.raises(
        OptionError, match=rf"regions={regions}: .*6 body parts \(head, torso.*allowed are 1 to 5"
    ):
        check_regions(regions, NTU)


@pytest.mark.parametrize("without", [None, Skeleton(CHAIN)], ids=["no skeleton", "no parts"])
def test_a_layout_without_parts_is_an_error_that_says_so(without: Skeleton | None) -> None:
    with pytest.raises(OptionError, match="needs body parts"):
        check_regions(1, without)


# --- GIN ---


def test_aggregation_on_a_chain_by_hand() -> None:
    layer, joints = GINLayer(adjacency(CHAIN), 2), torch.tensor([[1.0, 10], [2, 20], [4, 40]])
    assert layer.aggregate(joints).tolist() == [[3, 30], [7, 70], [6, 60]]


def test_aggregation_weighs_the_joint_itself_by_1_plus_eps() -> None:
    layer, joints = GINLayer(adjacency(CHAIN), 1), torch.tensor([[1.0], [2], [4]])
    layer.eps.data.fill_(0.5)
    assert layer.aggregate(joints).tolist() == [[3.5], [8], [8]]


def test_eps_starts_at_0_and_learns() -> None:
    layer = GINLayer(adjacency(CHAIN), 4)
    assert layer.eps.item() == 0
    layer(torch.randn(5, 3, 4)).square().sum().backward()
    assert layer.eps.grad is not None
    assert layer.eps.grad != 0


def test_a_layer_is_its_mlp_on_the_aggregated_rows() -> None:
    torch.manual_seed(0)
    layer, joints = GINLayer(adjacency(CHAIN), 4).eval(), torch.randn(5, 2, 3, 4)
    by_row = torch.stack([layer.mlp(row) for row in layer.aggregate(joints).reshape(-1, 1, 4)])
    torch.testing.assert_close(layer(joints), by_row.reshape(5, 2, 3, 4))


def test_a_joint_hears_from_as_many_bones_away_as_there_are_layers() -> None:
    torch.manual_seed(0)
    network = GraphNetwork(skeleton(6), width=8, depth=2).eval()
    joints = torch.randn(1, 6, 8)
    moved = joints.clone()
    moved[:, 0] += 1
    changed = (network(joints) != network(moved)).any(-1).squeeze(0)
    assert changed.tolist() == [True, True, True, False, False, False]


def test_the_joint_embedding_tells_equal_joints_apart() -> None:
    torch.manual_seed(0)
    network = GraphNetwork(
        skeleton(4), width=8, depth=1
    ).eval()  # the ends of a chain, alike but for their names
    found = network(torch.zeros(1, 4, 8))
    assert not torch.allclose(found[:, 0], found[:, 3])


def test_the_decoder_is_one_layer_deep() -> None:
    torch.manual_seed(0)
    decoder, joints = GraphDecoder(skeleton(4), width=8, outputs=3).eval(), torch.randn(1, 4, 8)
    moved = joints.clone()
    moved[:, 0] += 1
    assert decoder(joints).shape == (1, 4, 3)
    changed = (decoder(joints) != decoder(moved)).any(-1).squeeze(0)
    assert changed.tolist() == [True, True, False, False]


# --- batch norm ---


def test_features_in_eval_mode_do_not_depend_on_the_rest_of_the_batch() -> None:
    built, x = graph_encoder(), motion(4)
    built(x)  # one training step's statistics
    built.eval()
    with torch.no_grad():
        torch.testing.assert_close(built(x)[:1], built(x[:1]))


def test_evaluation_leaves_the_encoder_as_it_was() -> None:
    built = graph_encoder().eval()
    before = {key: value.clone() for key, value in built.state_dict().items()}
    built(motion(4))
    assert all(torch.equal(before[key], value) for key, value in built.state_dict().items())


def test_running_statistics_travel_through_safetensors() -> None:
    built, other, x = graph_encoder(), graph_encoder(seed=1), motion(4)
    built(x)
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(built.state_dict())))
    assert torch.equal(built.eval()(x), other.eval()(x))


# --- the encoder ---


def test_the_encoder_gives_one_token_per_frame_and_joint() -> None:
    built = graph_encoder()
    assert (built.grid.times, built.grid.joints, built.grid.patch, built.grid.frames) == (
        24,
        JOINTS,
        1,
        24,
    )
    assert built(motion(3)).shape == (3, built.grid.tokens, built.width)


def test_tokens_are_time_major_and_frames_independent() -> None:
    built, x = graph_encoder().eval(), motion(1)
    moved = x.clone()
    moved[:, 7] += 1
    changed = (built(x) != built(moved)).any(-1).reshape(24, JOINTS)
    assert changed.all(1).nonzero().flatten().tolist() == [7]
    assert not changed[torch.arange(24) != 7].any()


def test_the_published_encoder_is_small() -> None:
    built = GraphEncoder(frames=64, skeleton=NTU, width=64, depth=3)
    layer = 2 * 64 * 64 + 2 * 2 * 64 + 1  # two linear layers without bias, two batch norms, eps
    head = 2 * (64 * 64 + 64)
    assert built.parameter_count == (3 * 64 + 64) + 25 * 64 + 3 * layer + head


def test_other_bones_are_another_architecture() -> None:
    chain, star = (GraphEncoder(8, Skeleton(parents), 8, 1) for parents in ((-1, 0, 1), (-1, 0, 0)))
    assert chain.architecture != star.architecture
    assert chain.architecture == GraphEncoder(8, Skeleton((-1, 0, 1)), 8, 1).architecture


# --- the cosine error ---


def error(prediction: list[float], target: list[float], beta: float = 2) -> float:
    return cosine_error(torch.tensor([prediction]), torch.tensor([target]), EVERYWHERE, beta).item()


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        ([6.0, 8], 0),
        ([-3.0, -4], 4),
        ([-4.0, 3], 1),
        ([1.0, 0], (1 - 0.6) ** 2),
        ([0.0, 0.1], (1 - 0.8) ** 2),
    ],
)
def test_error_of_one_joint_by_hand(prediction: list[float], expected: float) -> None:
    assert error(prediction, [3.0, 4.0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("beta", [1, 1.5, 3])
def test_beta_is_the_exponent(beta: float) -> None:
    assert error([1.0, 0], [3.0, 4.0], beta) == pytest.approx(0.4**beta, rel=1e-5)


def test_error_is_the_mean_over_masked_joints_only() -> None:
    target = torch.tensor([[[1.0, 0], [1, 0], [1, 0]], [[1, 0], [1, 0], [1, 0]]])
    prediction = torch.tensor([[[0.0, 1], [-1, 0], [3, 0]], [[-1, 0], [-1, 0], [0, -1]]])
    mask = torch.tensor([[True, True, True], [False, False, True]])
    assert cosine_error(prediction, target, mask, beta=2).item() == pytest.approx(
        (1 + 4 + 0 + 1) / 4
    )


@pytest.mark.parametrize(
    ("prediction", "target"), [([0.0, 0], [3.0, 4]), ([3.0, 4], [0.0, 0]), ([0.0, 0], [0.0, 0])]
)
def test_zero_vectors_have_error_1_and_a_bounded_gradient(
    prediction: list[float], target: list[float]
) -> None:
    found = torch.tensor([prediction], requires_grad=True)
    value = cosine_error(found, torch.tensor([target]), EVERYWHERE, beta=2)
    value.backward()
    assert value.item() == 1
    assert found.grad is not None
    assert found.grad.norm() <= 2.001 / COSINE_EPSILON


@pytest.mark.parametrize("beta", [1, 1.5, 2])
def test_rounding_above_cosine_1_gives_no_nan(beta: float) -> None:
    vectors = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    found = vectors.clone().requires_grad_()
    value = cosine_error(found, 3 * vectors, torch.ones(500, dtype=torch.bool), beta)
    value.backward()
    assert 0 <= value.item() < 1e-5
    assert found.grad is not None
    assert found.grad.isfinite().all()


def test_error_is_computed_in_full_precision_under_autocast() -> None:
    prediction, target = torch.randn(
        2, 50, 8, generator=torch.Generator().manual_seed(0)
    ).bfloat16()
    mask = torch.ones(50, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        found = cosine_error(prediction, target, mask, beta=2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), cosine_error(prediction.double(), target.double(), mask, 2).double()
    )


def test_health_compares_with_the_mean_target_of_each_joint() -> None:
    # one joint, targets at right angles: their mean is at 45 degrees to both; predictions are right
    target = torch.tensor([[[[2.0, 0]], [[0, 3]]]])
    found = cosine_health(target, target, torch.ones(1, 2, 1, dtype=torch.bool), beta=2)
    assert found["error/prediction"] == pytest.approx(0, abs=1e-6)
    assert found["error/mean-target"] == pytest.approx((1 - math.sqrt(0.5)) ** 2, rel=1e-5)
