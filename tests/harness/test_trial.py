"""Trial steps: each specimen gives away its one kind, and nothing of a trial is left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from datasets.layouts import NTU25
from harness.conformance.specimen import Specimen, batch
from harness.isolation.state import state_of
from harness.registry import Registry
from harness.speed.flops import bound_flops, step_flops
from harness.speed.trial import STEPS, Trial, groups, trial_steps, unread_rows
from methods.base import About, Method, MethodOptions, View
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import random_mask


class Options(MethodOptions):
    mask_ratio: float = Field(default=0.8, gt=0, lt=1)


class Good(Method):
    """Nothing is wrong with it."""

    about = About(title="Mean position", paper="none: made up for a test")
    Options = Options

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)
        self.steps = 0

    def errors(self, x: Tensor) -> Tensor:
        """Squared, of each body sequence."""
        mask = random_mask(x, self.encoder.grid, self.options.mask_ratio)
        return (self.head(self.encoder(x, mask.visible).mean(1)) - x.mean((1, 2))).square().mean(1)

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.errors(x).mean(), {}

    def after_step(self, progress: float) -> None:
        self.steps += 1


class One(Good):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return super().loss(x[:1])


class Half(Good):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return super().loss(x[: len(x) // 2])


class ThreeQuartersCutOff(Good):
    """Hides what it reads from gradients."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return super().loss(x.detach()[: 3 * len(x) // 4])


class Touching(Good):
    """Touches the rest so lightly that it does not matter."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return super().loss(x[:1])[0] + 1e-15 * x.sum(), {}


class CutOff(Good):
    """Its input carries no gradient; it reads all of it."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return super().loss(x.detach() - x.detach().mean())


class Hardest(Good):
    """Learns from the worst half of its batch, which it has to read for that."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.errors(x).topk(len(x) // 2).values.mean(), {}


class TwoViews(Good):
    views = (View(), View(frames=12))

    def loss(self, x: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.errors(x[0]) + x[1].mean((1, 2, 3)) * self.head.bias.sum()).mean(), {}


class Unmasked(Good):
    Options = MethodOptions

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean(), {}


class Opened(Good):
    about = About(title="Opened", paper="none: made up for a test", division="open")


class Writing(Good):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x[:, 0] = 0
        return super().loss(x)


class Later(Good):
    """Once it has begun it does more than it did first."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().loss(x)
        return (loss + super().loss(x)[0] if self.steps else loss), parts


class Idle(Good):
    """Three of four steps pass the encoder a gradient of nothing."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().loss(x)
        return loss * float(self.steps % 4 == 0), parts


class StartingAtZero(Good):
    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        nn.init.zeros_(self.head.weight)


def trial(method: type[Method], **options: Any) -> Trial:
    specimen = Specimen(method, options)
    return specimen.trial()


@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        (Good, []),
        (CutOff, []),
        (Hardest, []),
        (StartingAtZero, []),
        (TwoViews, []),
        (One, ["part of the batch"]),
        (Half, ["part of the batch"]),
        (ThreeQuartersCutOff, ["part of the batch"]),
        (Touching, ["part of the batch"]),
        (Writing, ["batch changed"]),
        (Later, ["FLOPs differ"]),
        (Idle, ["steps skipped"]),
    ],
)
def test_a_specimen_gives_its_kind_away(method: type[Method], kinds: list[str]) -> None:
    assert [doubt.kind for doubt in trial(method).doubts()] == kinds


def test_rows_that_do_not_matter_are_counted() -> None:
    size = len(batch())
    assert unread_rows(trial(One)) == list(range(1, size))
    assert unread_rows(trial(Half)) == list(range(size // 2, size))
    (doubt,) = (doubt for doubt in trial(Half).doubts())
    assert (
        doubt.text
        == f"the loss of {size} body sequences stays the same when {size - size // 2} of them are"
        " others"
    )


def test_groups_hold_every_row_at_least_once_and_never_all() -> None:
    assert list(groups(1)) == [[0]]
    for size in (2, 5, 8, 64):
        found = list(groups(size))
        assert {row for rows in found for row in rows} == set(range(size))
        assert all(0 < len(rows) < size for rows in found)


def test_a_trial_takes_its_steps_and_sees_the_end_of_training() -> None:
    class Ending(Good):
        seen: list[float] = []  # noqa: RUF012 - of all builds

        def after_step(self, progress: float) -> None:
            self.seen.append(progress)

    assert len(list(trial_steps(trial(Ending)))) == STEPS
    assert (Ending.seen[0], Ending.seen[-1]) == (1 / STEPS, 1.0)


def test_nothing_of_a_trial_is_left() -> None:
    method, x = Specimen(Good).build(), batch()
    before, random = state_of(method), torch.get_rng_state()
    Trial(Good, Specimen(Good).spec(), NTU25, x).doubts()
    assert before.changed(method) == []
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, batch())


# --- the bound ---


def bound_of(method: type[Method], **options: Any) -> float | None:
    specimen = Specimen(method, options)
    return bound_flops(Registry().method("encoder-only"), method, specimen.spec(), NTU25)


def test_the_bound_is_the_encoder_alone_on_what_a_method_shows_it() -> None:
    alone = bound_of(Good, mask_ratio=0.8)
    assert alone is not None
    assert alone < step_flops(Good, Specimen(Good).spec(), NTU25)
    fewer, half, unknown = bound_of(Good, mask_ratio=0.9), bound_of(TwoViews), bound_of(Unmasked)
    assert fewer is not None
    assert half is not None
    assert fewer < 0.6 * alone
    assert half < 0.6 * alone  # 12 of 24 frames
    assert unknown == fewer  # at the bound's own ratio


def test_there_is_no_bound_on_nothing_and_none_in_the_open_division() -> None:
    assert bound_of(TwoViews, mask_ratio=0.99) is None
    assert bound_of(Opened) is None
