"""`benchmarks/gpu_losses.py`: what it draws, what it compares, and what it calls a disagreement."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_losses
from benchmarks.gpu_losses import TOLERANCE, DrawnOnTheHost, disagreements
from harness.registry import Registry
from methods.base import Method

AGREEING = {
    "CPU loss": 2.0,
    "CPU gradient norm": 5.0,
    "loss": 2.0,
    "gradient norm": 5.0,
    "bf16 loss": 2.0,
    "bf16 gradient norm": 7.0,
}


def test_random_numbers_of_another_device_are_the_hosts() -> None:
    torch.manual_seed(0)
    expected = [torch.rand(3, 4), torch.rand_like(torch.zeros(5)), torch.rand(2)]
    torch.manual_seed(0)
    with DrawnOnTheHost():
        there = torch.rand(3, 4, device="meta"), torch.rand_like(torch.zeros(5, device="meta"))
        here = torch.rand(2)
    assert [tuple(drawn.shape) for drawn in there] == [(3, 4), (5,)]
    assert all(drawn.device.type == "meta" for drawn in there)
    assert torch.equal(here, expected[2])  # as many were drawn before


def test_what_is_further_apart_than_rounding_is_named() -> None:
    assert disagreements(AGREEING) == {}
    assert disagreements(AGREEING | {"loss": 2.001}) == {}
    assert disagreements(AGREEING | {"loss": 2.01, "bf16 loss": 2.1}) == pytest.approx(
        {"loss": 5e-3, "bf16 loss": 5e-2}
    )
    assert set(disagreements(AGREEING | {"gradient norm": math.nan})) == {"gradient norm"}


class Two:
    """Two methods in the place of the suite's: one that is right,
    and one that is not under bf16.
    """

    def __init__(self) -> None:
        right = Registry().method("mamp")

        class Wrong(right):  # type: ignore[misc,valid-type]
            """What a broken kernel could do."""

            def loss(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
                """Twice the right one."""
                loss, parts = super().loss(x)
                return (2 * loss if torch.is_autocast_enabled("cpu") else loss), parts

        self.methods: dict[str, type[Method]] = {"right": right, "wrong": Wrong}


def test_a_method_that_gives_another_loss_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_losses, "Registry", Two)
    monkeypatch.setattr(
        sys, "argv", ["", "--encoder", "tiny", "--device", "cpu", "--out", str(tmp_path)]
    )
    assert gpu_losses.main() == 1
    assert "wrong: bf16 loss differs by 1" in capsys.readouterr().out
    methods = json.loads((tmp_path / "losses.json").read_text())["methods"]
    assert methods["right"]["said"] == "agrees"
    assert methods["right"]["loss"] == methods["right"]["CPU loss"]
    assert (
        abs(methods["right"]["bf16 loss"] / methods["right"]["CPU loss"] - 1)
        < TOLERANCE["bf16 loss"]
    )
    assert methods["wrong"]["bf16 loss"] == pytest.approx(2 * methods["right"]["bf16 loss"])
