"""Shared decoders: depth in proportion, filling the grid, MAMP's decoder."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from methods.parts.decoders import TokenDecoder, TokenFiller, scaled_depth
from methods.parts.encoder import SIZES
from methods.parts.masks import Mask, random_mask
from tests.methods.made_up import (
    JOINTS,
    SMALL,
    averaged,
    encoder,
    meta_encoder,
    motion,
    sorted_back,
)


@pytest.mark.parametrize(
    ("published", "blocks", "expected"),
    [(5, 8, 5), (5, 4, 3), (5, 6, 4), (3, 8, 3), (5, 1, 1), (1, 1, 1)],
)
def test_decoder_depth_in_proportion_to_the_encoder(
    published: int, blocks: int, expected: int
) -> None:
    assert scaled_depth(published, encoder(replace(SMALL, depth=blocks))) == expected


def filler() -> TokenFiller:
    """A filler with all positions zero and a mask token of all ones."""
    fill = TokenFiller(encoder())
    with torch.no_grad():
        fill.positions.time.zero_()
        fill.positions.joint.zero_()
        fill.mask_token.fill_(1)
    return fill


def test_visible_latents_stand_at_their_own_positions_and_mask_tokens_elsewhere() -> None:
    tokens, width = 6 * JOINTS, SMALL.width
    visible = torch.tensor([[4, 0, 29], [17, 2, 3]])
    masked = torch.tensor([[i for i in range(tokens) if i not in row] for row in visible.tolist()])
    latent = torch.arange(2.0, 8.0).reshape(2, 3, 1).expand(-1, -1, width)
    expected = torch.ones(2, tokens)
    expected[0, [4, 0, 29]] = torch.tensor([2.0, 3, 4])
    expected[1, [17, 2, 3]] = torch.tensor([5.0, 6, 7])
    with torch.no_grad():
        filled = filler()(latent, Mask(visible, masked))
    assert torch.equal(filled, expected[..., None].expand(-1, -1, width))


@pytest.mark.parametrize("windows", [None, 6, 3, 2, 1])
@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_filling_from_visible_tokens_alone_changes_neither_values_nor_gradients(
    windows: int | None, ratio: float
) -> None:
    fill, mask = TokenFiller(encoder()).double(), random_mask(motion(3), encoder().grid, ratio)
    latent = torch.randn(
        3, mask.visible.shape[1], SMALL.width, generator=torch.Generator().manual_seed(0)
    ).double()
    weight = torch.randn(
        (windows or 6) * JOINTS, SMALL.width, generator=torch.Generator().manual_seed(1)
    ).double()
    found, gradients = [], []
    for written_out in (False, True):
        tokens = latent.clone().requires_grad_()
        if windows is None:
            filled = sorted_back(fill, tokens, mask) if written_out else fill(tokens, mask)
        else:
            filled = (
                averaged(fill, tokens, mask, windows)
                if written_out
                else fill.pooled(tokens, mask, windows)
            )
        found.append(filled.detach())
        gradients.append(
            torch.autograd.grad((filled * weight).square().sum(), [tokens, *fill.parameters()])
        )
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("windows", [None, 3])
def test_bf16_tokens_between_float32_positions_give_float32(windows: int | None) -> None:
    fill, mask = TokenFiller(encoder()), random_mask(motion(3), encoder().grid, 0.9)
    latent = torch.randn(3, 3, SMALL.width).bfloat16()
    with torch.no_grad():
        filled = fill(latent, mask) if windows is None else fill.pooled(latent, mask, windows)
    assert filled.dtype == torch.float32


def test_order_of_the_masked_indices_does_not_matter() -> None:
    latent = torch.randn(1, 2, SMALL.width, generator=torch.Generator().manual_seed(0))
    visible, masked = (
        torch.tensor([[4, 0]]),
        torch.tensor([[i for i in range(30) if i not in (0, 4)]]),
    )
    fill = TokenFiller(encoder())
    with torch.no_grad():
        assert torch.equal(
            fill(latent, Mask(visible, masked)), fill(latent, Mask(visible, masked.flip(1)))
        )


def test_the_fillers_own_positions_are_added_to_every_token() -> None:
    fill = filler()
    with torch.no_grad():
        fill.positions.time.copy_(
            10 * torch.arange(6.0).reshape(6, 1, 1).expand(-1, -1, SMALL.width)
        )
        fill.positions.joint.copy_(torch.arange(5.0).reshape(1, 5, 1).expand(-1, -1, SMALL.width))
        mask = random_mask(motion(1), encoder().grid, 0.9)
        filled = fill(torch.ones(1, 3, SMALL.width), mask)
    expected = [1 + 10 * time + joint for time in range(6) for joint in range(5)]
    assert filled[0, :, 0].tolist() == expected


@pytest.mark.parametrize(("depth", "parameters"), [(3, 2_453_004), (5, 4_032_524)])
def test_decoder_has_the_published_number_of_parameters(depth: int, parameters: int) -> None:
    base = meta_encoder(SIZES["base"])
    with torch.device("meta"):
        decoder = TokenDecoder(base, depth, outputs=12)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == parameters


def test_decoder_predicts_all_tokens() -> None:
    model = encoder()
    mask = random_mask(motion(2), model.grid, 0.8)
    prediction = TokenDecoder(model, 1, outputs=7)(
        torch.zeros(2, mask.visible.shape[1], SMALL.width), mask
    )
    assert prediction.shape == (2, 30, 7)


def test_order_of_the_visible_tokens_does_not_matter_to_the_decoder() -> None:
    model = encoder()
    mask = random_mask(motion(2), model.grid, 0.8)
    decoder = TokenDecoder(model, 2, outputs=12)
    latent = torch.randn(
        2, mask.visible.shape[1], SMALL.width, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        ahead = decoder(latent, mask)
        backwards = decoder(latent.flip(1), Mask(mask.visible.flip(1), mask.masked))
    # A matrix product may sum a row in another order where it stands elsewhere: rounding of outputs
    # of order 1.
    torch.testing.assert_close(ahead, backwards)


def test_decoder_uses_the_frameworks_norm_epsilon_and_zero_biases() -> None:
    modules = list(TokenDecoder(encoder(), 2, outputs=12).modules())
    norms = [module for module in modules if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}
    assert not any(module.bias.any() for module in modules if isinstance(module, nn.Linear))


def test_mask_token_starts_with_a_deviation_of_0_02() -> None:
    torch.manual_seed(0)
    token = TokenFiller(meta_encoder(replace(SMALL, width=1024))).mask_token
    assert token.std().item() == pytest.approx(0.02, rel=0.15)
