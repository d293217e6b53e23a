"""What a method may ask of the harness: views, an encoder of its own,
and pictures of what it sees and makes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from datasets.layouts import NTU25
from harness.conformance.specimen import Specimen
from harness.conformance.suite import examine_all, find_specimen
from harness.errors import UsageError
from harness.pictures.show import show
from harness.registry import Registry
from harness.spec.model import DataSpec
from harness.speed.flops import step_flops
from harness.training.data import look_at
from methods.base import Method, View
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import Mask, visible_count
from tests.harness.small_run import SMALL, harness, plugin_file, records_in, registry, small_file

TWO_VIEWS = '''
"""A global and a shorter local view of each body sequence agree."""

from methods.base import About, Method, View


class Agree(Method):
    about = About(title="Agreement of two views", paper="none: a test's method")
    views = (View(), View(crop=(0.2, 0.5), frames=8, rotation=0.8))

    def loss(self, x):
        whole, local = x
        assert whole.shape[1] > local.shape[1] == 8
        one, other = self.encoder(whole).mean(dim=1), self.encoder(local).mean(dim=1)
        loss = (one - other).square().mean() + (1 - one.std(dim=0)).relu().mean()
        return loss, {"agreement": loss.detach()}
'''

PAINTER = '''
"""Sees the left half of time and paints every joint where the true one is, 1 m higher."""

import torch

from methods.base import About, Method


class Painter(Method):
    about = About(title="Painter", paper="none: a test's method")

    def loss(self, x):
        loss = self.encoder(x).square().mean()
        return loss, {"size": loss.detach()}

    def visible(self, x):
        grid = self.encoder.grid
        seen = torch.zeros(len(x), grid.times, grid.joints, dtype=torch.bool)
        seen[:, : grid.times // 2] = True
        return seen

    def reconstruct(self, x, mask):
        return x + torch.tensor([0.0, 1.0, 0.0])
'''


@pytest.fixture(autouse=True)
def _forget_plugins(tmp_path: Path) -> Iterator[None]:
    """Every test meets plugins as a new process does."""
    yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def plugin(folder: Path, name: str, text: str) -> Registry:
    return Registry([plugin_file(folder, name, text)])


# --- views ---


def test_a_view_takes_from_the_run_what_it_leaves_open() -> None:
    data = DataSpec(crop=(0.4, 0.9), min_crop=16, rotation=0.1)
    look = look_at(View(frames=36, rotation=0.7), data, frames=72, patch=4)
    assert (look.frames, look.augmentation.crop, look.augmentation.min_crop) == (36, (0.4, 0.9), 16)
    assert look.augmentation.rotation == 0.7
    assert look_at(View(), data, frames=72, patch=4).frames == 72


@pytest.mark.parametrize("frames", [7, 76])
def test_a_view_that_does_not_fit_the_encoder_is_one_line(frames: int) -> None:
    with pytest.raises(
        UsageError, match=f"a view of {frames} frames: expected a multiple of 4, at most 72"
    ):
        look_at(View(frames=frames), DataSpec(), frames=72, patch=4)


def test_a_two_view_method_passes_every_check(tmp_path: Path) -> None:
    results = examine_all(find_specimen("agree", plugin(tmp_path, "agree", TWO_VIEWS)))
    assert [f"{result.check}: {result.reason}" for result in results if not result.passed] == []


def test_a_two_view_method_runs_and_its_flops_count_both_views(tmp_path: Path) -> None:
    path = plugin_file(tmp_path, "agree", TWO_VIEWS)
    out, words = (
        tmp_path / "out",
        ("--methods", "agree,encoder-only:mask_ratio=0.01", "--plugin", path),
    )
    outcome = harness("run", *SMALL, *words, "--dataset", small_file(tmp_path), "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert "agree-s0" in records_in(out)
    specimen = Specimen(Registry([path]).method("agree"))
    whole = Specimen(registry().method("encoder-only"), {"mask_ratio": 0.001})
    ratio = step_flops(specimen.method, specimen.spec(), NTU25) / step_flops(
        whole.method, whole.spec(), NTU25
    )
    assert 1.2 < ratio < 1.4  # a third of the frames more, cheaper in attention


# --- an encoder of its own ---


def test_an_open_method_never_holds_the_shared_encoder() -> None:
    built = Specimen(registry().method("skeletonmae-graph")).build()
    assert not [module for module in built.modules() if isinstance(module, SkeletonEncoder)]
    assert built.evaluated_encoder() is built.encoder


# --- pictures ---


def test_a_plugins_mask_and_reconstruction_are_drawn(tmp_path: Path) -> None:
    lines = show(
        str(small_file(tmp_path)),
        tmp_path / "clip.gif",
        method="painter",
        train=1,
        registry=plugin(tmp_path, "painter", PAINTER),
    )
    assert "tokens visible (50.0%)" in lines[1]
    assert lines[2].startswith("reconstruction: masked tokens as predicted")
    assert (tmp_path / "clip.gif").stat().st_size > 1000


def test_a_method_that_says_nothing_is_seen_through_its_loss() -> None:
    built: Method = Specimen(registry().method("mamp")).build()
    x = torch.randn(2, 24, 25, 3)
    seen = built.visible(x)
    assert seen is not None
    assert seen.shape == (2, 6, 25)
    assert (seen.flatten(1).sum(1) == visible_count(150, 0.9)).all()
    tokens = torch.arange(150).expand(2, -1)
    assert built.reconstruct(x, Mask(tokens[:, :15], tokens[:, 15:])) is None
