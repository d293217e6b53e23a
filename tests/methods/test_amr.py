"""AMR: ordering of the coarse patches, energy and weights by hand, targets, options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from methods.amr import AMR, AMROptions, energy_weight, window_energy
from methods.base import OptionError
from methods.parts.encoder import SIZES, EncoderSize
from methods.parts.tokens import frame_motion, standardise, unpatchify
from tests.methods.made_up import encoder, meta_encoder, motion


def method(**options: Any) -> AMR:
    return AMR(encoder(), AMROptions(**{"windows": (2, 4), **options}))


def base_method(**options: Any) -> AMR:
    """At ``base``, without storage."""
    with torch.device("meta"):
        return AMR(meta_encoder(SIZES["base"]), AMROptions(**options))


def loss_of(built: AMR, x: Tensor) -> Tensor:
    torch.manual_seed(1)
    return built.loss(x)[0]


# --- queries ---


def test_base_has_125_queries_of_72_numbers() -> None:
    built = base_method()
    assert built.decoder(torch.empty(2, 74, 256, device="meta")).shape == (2, 125, 72)
    assert (built.options.r, built.options.decoder_depth) == (6, 5)


@pytest.mark.parametrize(
    ("r", "queries"), [(1, 750), (2, 375), (3, 250), (5, 150), (10, 75), (15, 50), (30, 25)]
)
def test_queries_by_r(r: int, queries: int) -> None:
    assert base_method(r=r).decoder(torch.empty(1, 74, 256, device="meta")).shape == (
        1,
        queries,
        12 * r,
    )


def test_coarse_patches_put_back_in_place_are_the_clip() -> None:
    built, x = method(r=3), motion(2)
    patches = built.coarse_patches(x)
    assert patches.shape == (2, 10, 36)
    assert torch.equal(unpatchify(patches, patch=12, joints=5), x)


def test_queries_are_told_apart_by_window_and_joint() -> None:
    built = method(r=3)
    prediction = built.decoder(torch.randn(1, 3, 16))
    assert len(torch.unique(prediction[0].round(decimals=6), dim=0)) == 10


def test_queries_do_not_see_each_other_unless_asked_to() -> None:
    apart, together = method(r=3), method(r=3, self_attention=True)
    for built, same in ((apart, True), (together, False)):
        latent = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0))
        before = built.decoder(latent)
        with torch.no_grad():
            built.decoder.positions.joint[0, -1, :8] += 3.0
        assert torch.allclose(built.decoder(latent)[0, 0], before[0, 0], atol=1e-4) == same


# --- motion energy ---


def test_window_energy_by_hand() -> None:
    x = torch.zeros(1, 4, 2, 3)
    x[0, :, 0, 0] = torch.tensor([0.0, 2, 5, 5])  # two windows: mean 1, distance 1 each; then none
    x[0, :, 1, 1] = torch.tensor([0.0, 0, 1, 4])  # none; then mean 2.5, distance 1.5 each
    assert window_energy(x, 2).tolist() == [[[1.0, 0.0], [0.0, 2.25]]]


def test_energy_weight_by_hand() -> None:
    x = torch.zeros(1, 4, 2, 3)
    x[0, :, 0, 0] = torch.tensor(
        [0.0, 2, 0, 2]
    )  # energy 1 in both windows, joint 1 has none: the average is 0.5
    weight = energy_weight(x, (2,), k=0.1)
    assert weight[0, :, 0].tolist() == pytest.approx([1 / 1.05] * 4, abs=1e-5)
    assert weight[0, :, 1].tolist() == pytest.approx([1 / (1 + 0.05 / 1e-6)] * 4, rel=1e-3)


def test_published_weights_at_the_average_and_far_below() -> None:
    # e_s = a hundredth of the average is weighted one half, at k = 0.01: by hand from the formula
    # of arXiv 2606.11450
    x = torch.zeros(1, 2, 2, 3)
    x[0, 1, 0, 0], x[0, 1, 1, 0] = 20.0, 20.0 * (1 / 199) ** 0.5
    weight = energy_weight(x, (1,), k=0.01)
    assert weight[0, 0, 1].item() == pytest.approx(0.5, abs=1e-3)
    assert weight[0, 0, 0].item() == pytest.approx(1 / (1 + 0.01 * 100 / 199), abs=1e-4)


def test_scales_are_averaged_and_each_holds_for_its_own_frames() -> None:
    x = motion(2)
    both = (energy_weight(x, (2,), 0.01) + energy_weight(x, (4,), 0.01)) / 2
    torch.testing.assert_close(energy_weight(x, (2, 4), 0.01), both)


def test_turning_the_body_changes_no_weight() -> None:
    x, turn = (
        motion(2),
        torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0],
    )
    torch.testing.assert_close(
        energy_weight(x @ turn, (2, 4), 0.01), energy_weight(x, (2, 4), 0.01)
    )


# --- loss ---


def test_loss_of_a_zero_prediction_without_weights_is_n_minus_1_of_n() -> None:
    built = method(r=3, weighting=False)
    torch.nn.init.zeros_(built.decoder.predict.weight)
    assert loss_of(built, motion(8)).item() == pytest.approx(35 / 36, abs=1e-3)


def test_weights_scale_each_squared_error() -> None:
    built, x = method(r=3), motion(4)
    torch.nn.init.zeros_(built.decoder.predict.weight)
    weight = built.weights(x)
    assert weight is not None
    assert loss_of(built, x).item() == pytest.approx(
        (weight * built.targets(x).square()).mean().item(), rel=1e-5
    )


def test_all_patches_count_visible_or_not() -> None:
    built, x = method(r=1, weighting=False), motion(1)
    target = built.targets(x)
    for token in (0, 17):
        off = target.clone()
        off[0, token] += 1.0
        built.decoder.forward = lambda latent, off=off: off  # type: ignore[method-assign]
        assert loss_of(built, x).item() == pytest.approx(1 / 30, rel=1e-5)


def test_targets_are_coordinates_or_motion() -> None:
    x = motion(2)
    coordinates, moved = method(r=3), method(r=3, target="motion")
    torch.testing.assert_close(coordinates.targets(x), standardise(coordinates.coarse_patches(x)))
    torch.testing.assert_close(moved.targets(x), standardise(moved.coarse_patches(frame_motion(x))))


def test_the_down_sampled_arm_has_as_many_targets_from_every_rth_frame() -> None:
    built, x = method(r=3, down_sampled=True), motion(2)
    assert built.targets(x).shape == (2, 10, 12)
    frames = unpatchify(built.coarse_patches(x), patch=4, joints=5)
    assert torch.equal(frames, torch.cat([x[:, 0:12:3], x[:, 12:24:3]], dim=1))
    assert loss_of(built, x).isfinite()


# --- options ---


@pytest.mark.parametrize(("size", "r"), [("base", 6), ("small", 6), ("tiny", 3)])
def test_r_is_a_fifth_of_the_time_steps_as_near_as_it_divides(size: str, r: int) -> None:
    assert AMROptions().resolved(meta_encoder(SIZES[size])).r == r


@pytest.mark.parametrize(
    ("frames", "windows"), [(120, (4, 8, 12)), (72, (4, 8, 12)), (80, (4, 8, 10)), (20, (4, 10))]
)
def test_default_windows_are_as_near_to_the_published_ones_as_divides(
    frames: int, windows: tuple[int, ...]
) -> None:
    size = EncoderSize(depth=2, width=16, heads=2, frames=frames, patch=4)
    assert AMROptions().resolved(meta_encoder(size)).windows == windows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 4}, "r=4 must divide the 6 time steps: 1, 2, 3, 6"),
        (
            {"windows": (4, 5)},
            "windows=4/5: 5 does not divide the 24 frames: 1, 2, 3, 4, 6, 8, 12, 24",
        ),
    ],
)
def test_impossible_options_name_the_allowed_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        method(**options)


def test_windows_can_be_written_with_slashes() -> None:
    assert AMROptions.model_validate({"windows": "4/8"}).windows == (4, 8)
