"""A step of no method launches, moves or keeps more than `step_counts.json` says;
the counting itself, by hand.
"""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from harness.registry import Registry
from methods.base import About, Method
from tests.step_counts import RENEW, TABLE, Counts, Launches, kept_for_backward, step_counts

COUNTED = (2, 15)
"""The table is the same under torch 2.11.0, 2.14.1 and 2.15.0;
a later one may cut its work otherwise.
"""
METHODS = Registry().methods
CLAIMED = ("gfp", "mamp", "amr")
"""What the claims are about; the others take `make test-long`."""
KEPT = json.loads(TABLE.read_text(encoding="utf-8"))["methods"]
SLACK = 0.0 if tuple(map(int, torch.__version__.split(".")[:2])) <= COUNTED else 0.05


def grown(kept: Counts, now: Counts) -> list[str]:
    """What is more than it was, by more than a later torch may differ."""
    return [
        f"{what}: {kept[what]} to {count}"
        for what, count in now.items()
        if count > (1 + SLACK) * kept[what]
    ]


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        pytest.param(
            name,
            precision,
            marks=() if name in CLAIMED and precision == "bf16" else pytest.mark.long,
        )
        for name in METHODS
        for precision in ("bf16", "fp32")
    ],
)
def test_a_step_costs_the_device_no_more_than_it_did(name: str, precision: str) -> None:
    more = grown(KEPT[name][precision], step_counts(METHODS[name], precision))
    assert not more, f"{name} in {precision}: {'; '.join(more)}. If it has to be: {RENEW}"


def test_every_method_has_counts() -> None:
    assert METHODS.keys() <= KEPT.keys(), f"a new method has no counts yet: {RENEW}"


class Plain(Method):
    about = About(title="Plain", paper="none")

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.encoder(x).square().mean(), {}


class Wasteful(Plain):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().loss(x)
        return loss + 0 * (x.double() - 1).square().mean().float(), parts


def test_what_is_computed_beside_is_noticed() -> None:
    plain, wasteful = (step_counts(method, "bf16", encoder="tiny") for method in (Plain, Wasteful))
    assert (
        wasteful["forward launches"] == plain["forward launches"] + 7
    )  # to, -, **, mean, to, *, +
    assert [line.partition(":")[0] for line in grown(plain, wasteful)] == [
        "forward launches",
        "forward MB",
    ]
    assert grown(wasteful, plain) == grown(plain, plain) == []


def test_launches_and_bytes_by_hand() -> None:
    layer, x = nn.Linear(3, 4, device="meta"), torch.empty(2, 3, device="meta")
    with Launches() as counted, torch.no_grad():
        y = layer(x)
        y.relu().reshape(8)[None].expand(5, 8)
    product = 2 * 3 + 3 * 4 + 4 + 2 * 4  # input, weight, bias, output
    assert counted.launches == 2
    assert counted.bytes == 4 * (product + 8 + 8)


def test_what_is_expanded_is_read_once() -> None:
    x = torch.empty(1, 8, device="meta").expand(100, 8)
    with Launches() as counted:
        x.sum()
    assert counted.bytes == 4 * (8 + 1)


def test_kept_activations_by_hand() -> None:
    weight, x = torch.ones(3, 4, requires_grad=True), torch.ones(2, 3)
    with kept_for_backward([weight, x]) as kept:
        y = (x @ weight).exp()  # keeps x, which is there anyhow, and what it returns
        y[0].square().sum() + y.square().sum()  # keep y once more
    assert sum(storage.nbytes() for storage in kept.values()) == 4 * 2 * 4
