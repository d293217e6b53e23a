"""The shared encoder: size, MAMP's names and values, what it reads, its hash,
its attention kernels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from methods.parts.encoder import SIZES, SkeletonEncoder, set_attention_kernel
from methods.parts.tokens import patchify, take, unpatchify
from tests.methods.made_up import JOINTS, SMALL, encoder, meta_encoder, motion

BASE = SIZES["base"]


# --- size ---


def test_base_has_the_published_number_of_parameters_and_tokens() -> None:
    base = meta_encoder(BASE)
    assert base.parameter_count == 6_336_000
    assert base.grid.tokens == 750


def test_base_has_the_published_parameters_in_each_part() -> None:
    base = meta_encoder(BASE)
    counts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in base.named_children()
    }
    assert counts == {
        "patch_embed": 12 * 256 + 256,
        "positions": 30 * 256 + 25 * 256,
        "blocks": 8 * 789_760,
        "norm": 512,
    }


@pytest.mark.parametrize("name", SIZES)
def test_named_sizes_can_be_built(name: str) -> None:
    size = SIZES[name]
    assert (size.frames % size.patch, size.width % size.heads) == (0, 0)
    assert len(meta_encoder(size).blocks) == size.depth


# --- MAMP's published weights ---

BLOCK_NAMES = (
    "norm1.weight",
    "norm1.bias",
    "attn.qkv.weight",
    "attn.qkv.bias",
    "attn.proj.weight",
    "attn.proj.bias",
    "norm2.weight",
    "norm2.bias",
    "mlp.fc1.weight",
    "mlp.fc1.bias",
    "mlp.fc2.weight",
    "mlp.fc2.bias",
)
SHARED_NAMES = [f"blocks.{i}.{name}" for i in range(8) for name in BLOCK_NAMES] + [
    "norm.weight",
    "norm.bias",
]
OWN_NAMES = ["patch_embed.weight", "patch_embed.bias", "positions.time", "positions.joint"]


def published_state() -> dict[str, Tensor]:
    """Made-up weights under the names and shapes of MAMP's released encoder."""
    block = {
        "norm1.weight": [256],
        "norm1.bias": [256],
        "attn.qkv.weight": [768, 256],
        "attn.qkv.bias": [768],
        "attn.proj.weight": [256, 256],
        "attn.proj.bias": [256],
        "norm2.weight": [256],
        "norm2.bias": [256],
        "mlp.fc1.weight": [1024, 256],
        "mlp.fc1.bias": [1024],
        "mlp.fc2.weight": [256, 1024],
        "mlp.fc2.bias": [256],
    }
    shapes = {
        "joints_embed.proj.weight": [256, 3, 4, 1],
        "joints_embed.proj.bias": [256],
        "temp_embed": [1, 30, 1, 256],
        "pos_embed": [1, 1, 25, 256],
        **{f"blocks.{i}.{name}": shape for i in range(8) for name, shape in block.items()},
        "norm.weight": [256],
        "norm.bias": [256],
    }
    random = torch.Generator().manual_seed(0)
    return {name: 0.1 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """MAMP's patch embedding and positions under our names;
    the convolution's weight becomes frame-major.
    """
    state = dict(state)
    kernel = state.pop("joints_embed.proj.weight")
    return {
        "patch_embed.weight": kernel.squeeze(-1).transpose(1, 2).flatten(1),
        "patch_embed.bias": state.pop("joints_embed.proj.bias"),
        "positions.time": state.pop("temp_embed").squeeze(0),
        "positions.joint": state.pop("pos_embed").squeeze(0),
        **state,
    }


def with_published_state() -> SkeletonEncoder:
    base = meta_encoder(BASE)
    base.load_state_dict(renamed(published_state()), assign=True)
    return base


def test_parameter_names_are_those_of_the_published_encoder() -> None:
    names = set(meta_encoder(BASE).state_dict())
    assert names == {*SHARED_NAMES, *OWN_NAMES}


def test_published_weights_load_after_renaming_patch_embedding_and_positions() -> None:
    state, loaded = published_state(), with_published_state().state_dict()
    for name in SHARED_NAMES:
        assert torch.equal(loaded[name], state[name]), name


def test_embedding_equals_the_published_convolution_plus_positions() -> None:
    state, x = published_state(), motion(2, joints=25, frames=120)
    kernel, bias = state["joints_embed.proj.weight"], state["joints_embed.proj.bias"]
    convolved = nn.functional.conv2d(
        x.permute(0, 3, 1, 2), kernel, bias, stride=(4, 1)
    )  # [B, D, 30, 25]
    grid = convolved.permute(0, 2, 3, 1) + state["pos_embed"] + state["temp_embed"]
    with torch.no_grad():
        torch.testing.assert_close(with_published_state().embed(x), grid.reshape(2, 750, 256))


# --- construction ---


def test_same_seed_same_weights() -> None:
    first, second = encoder(seed=5).state_dict(), encoder(seed=5).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_has_other_weights() -> None:
    first, second = encoder(seed=5).state_dict(), encoder(seed=6).state_dict()
    weights = [
        name for name, value in first.items() if name.endswith("weight") and "norm" not in name
    ]
    assert [name for name in weights if torch.equal(first[name], second[name])] == []


def test_layer_norms_use_the_frameworks_epsilon() -> None:
    norms = [module for module in encoder().modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 2 * SMALL.depth + 1
    assert {norm.eps for norm in norms} == {1e-5}


def test_linear_layers_of_the_blocks_are_xavier_uniform_with_zero_bias() -> None:
    layers = [module for module in encoder().blocks.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 4 * SMALL.depth
    for layer in layers:
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert not layer.bias.any()


def test_patch_embedding_keeps_the_frameworks_default_initialisation() -> None:
    layer = encoder().patch_embed
    bound = layer.in_features**-0.5
    assert 0.9 * bound < layer.weight.abs().max() <= bound
    assert 0.5 * bound < layer.bias.abs().max() <= bound


def test_positions_start_with_a_deviation_of_0_02() -> None:
    positions = encoder(replace(SMALL, width=64, frames=240)).positions
    assert positions.time.std().item() == pytest.approx(0.02, rel=0.1)
    assert positions.joint.std().item() == pytest.approx(0.02, rel=0.2)


def test_positions_are_the_sum_of_time_and_joint_in_token_order() -> None:
    positions = encoder().positions
    with torch.no_grad():
        table = positions()
    assert table.shape == (6 * JOINTS, 16)
    assert torch.equal(
        table[2 * JOINTS + 3], (positions.time[2, 0] + positions.joint[0, 3]).detach()
    )


# --- what it computes ---


def test_a_permutation_of_all_tokens_permutes_the_encoding() -> None:
    model, x = encoder(), motion(3)
    random = torch.Generator().manual_seed(1)
    order = torch.stack([torch.randperm(model.grid.tokens, generator=random) for _ in range(3)])
    with torch.no_grad():
        torch.testing.assert_close(model(x, order), take(model(x), order))


def test_embedding_of_visible_tokens_is_that_of_the_same_tokens() -> None:
    model, x = encoder(), motion(2)
    visible = torch.tensor([[3, 29, 0], [7, 8, 9]])
    with torch.no_grad():
        torch.testing.assert_close(model.embed(x, visible), take(model.embed(x), visible))


def test_content_of_masked_tokens_does_not_reach_the_encoding() -> None:
    model, x = encoder(), motion(2)
    visible = torch.tensor([[3, 29, 0, 11], [7, 8, 9, 10]])
    tokens = patchify(x, SMALL.patch)
    changed = torch.full_like(tokens, 100.0).scatter(
        1, visible[..., None].expand(-1, -1, 12), take(tokens, visible)
    )
    other = unpatchify(changed, SMALL.patch, JOINTS)
    assert not torch.equal(other, x)
    with torch.no_grad():
        assert torch.equal(model(other, visible), model(x, visible))


def test_content_of_every_visible_token_reaches_every_token_of_the_encoding() -> None:
    model, x = encoder(), motion(1)
    x = x.requires_grad_()
    visible = torch.tensor([[3, 29, 0, 11]])
    (gradient,) = torch.autograd.grad(model(x, visible)[0, 0, 0], x)
    reached = patchify(gradient, SMALL.patch)[0].abs().sum(1).nonzero().squeeze(1)
    assert reached.tolist() == [0, 3, 11, 29]


def test_sequences_of_a_batch_do_not_see_each_other() -> None:
    model, x = encoder(), motion(3)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[1:2], model(x[1:2]))


def test_norm_of_the_last_layer_is_the_encoding() -> None:
    model, x = encoder(), motion(2)
    with torch.no_grad():
        layers = model.layers(x)
        assert len(layers) == SMALL.depth
        assert torch.equal(model.norm(layers[-1]), model(x))


def test_a_layer_is_its_block_of_the_layer_before() -> None:
    model, x = encoder(), motion(2)
    with torch.no_grad():
        first, second = model.layers(x)
        assert torch.equal(model.blocks[0](model.embed(x)), first)
        assert torch.equal(model.blocks[1](first), second)


# --- hash ---


def test_equal_encoders_have_equal_hashes_whatever_their_weights() -> None:
    assert encoder(seed=1).architecture == encoder(seed=2).architecture


def test_hash_has_16_hex_digits() -> None:
    assert len(bytes.fromhex(encoder().architecture)) == 8


@pytest.mark.parametrize(
    "change", [{"depth": 3}, {"width": 32}, {"heads": 4}, {"frames": 48}, {"patch": 8}]
)
def test_hash_tells_sizes_apart(change: dict[str, Any]) -> None:
    assert encoder(replace(SMALL, **change)).architecture != encoder().architecture


def test_hash_tells_joint_counts_apart() -> None:
    assert encoder(joints=6).architecture != encoder(joints=5).architecture


def test_hash_tells_added_parameters_apart() -> None:
    changed = encoder()
    changed.class_token = nn.Parameter(torch.zeros(1))
    assert changed.architecture != encoder().architecture


# --- attention kernels ---


class Operators(TorchDispatchMode):
    """Names of all operators that run inside, and the shapes of products by element."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.multiplied: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        result = func(*args, **(kwargs or {}))
        if "aten.mul." in str(func):
            self.multiplied.append(tuple(result.shape))
        return result

    def count(self, part: str) -> int:
        return sum(part in name for name in self.names)


@pytest.mark.parametrize(("fused", "fused_calls", "softmax_calls"), [(True, 2, 0), (False, 0, 2)])
def test_kernel_switch_reaches_every_attention_layer(
    fused: bool, fused_calls: int, softmax_calls: int
) -> None:
    model = encoder()
    set_attention_kernel(model, fused=fused)
    with torch.no_grad(), Operators() as operators:
        model(motion(1))
    assert (operators.count("scaled_dot_product"), operators.count("softmax")) == (
        fused_calls,
        softmax_calls,
    )


def test_every_kernel_gives_the_same_encoding() -> None:
    model, x = encoder(), motion(2)
    encodings = []
    for fused, scale_scores in ((True, False), (False, False), (False, True)):
        set_attention_kernel(model, fused=fused, scale_scores=scale_scores)
        with torch.no_grad():
            encodings.append(model(x))
    torch.testing.assert_close(encodings[0], encodings[1])
    torch.testing.assert_close(encodings[0], encodings[2])


@pytest.mark.parametrize("scale_scores", [True, False])
def test_plain_attention_scales_the_scores_or_the_queries(scale_scores: bool) -> None:
    model = encoder()
    set_attention_kernel(model, fused=False, scale_scores=scale_scores)
    x, heads, tokens = motion(3), SMALL.heads, model.grid.tokens
    with torch.no_grad(), Operators() as operators:
        model(x)
    scaled = (
        (3, heads, tokens, tokens) if scale_scores else (3, heads, tokens, SMALL.width // heads)
    )
    assert operators.multiplied.count(scaled) == SMALL.depth
    assert len(operators.multiplied) == SMALL.depth
