"""The conformance suite finds what is wrong: one made-up fault at a time,
and no other check complains.
"""

from __future__ import annotations

import copy
import itertools
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from datasets.clips import ClipSet
from harness.conformance import suite
from harness.conformance.scaffold import TEMPLATES
from harness.conformance.specimen import MADE_UP15, Specimen
from harness.conformance.suite import CHECKS, Check, NotApplicable, examine, examine_all, summary
from harness.isolation.stopping import stoppable
from methods.base import About, Diagnosis, Method, MethodOptions
from methods.parts.encoder import Encoder, SkeletonEncoder
from methods.parts.masks import random_mask
from tests.harness.small_run import harness, plugin_file

COMPILE = "works under torch.compile"
STALLS = "no host synchronisation in the step"
ABOUT = About(title="Mean step", paper="none: made up for a test")


class GoodOptions(MethodOptions):
    mask_ratio: float = Field(default=0.8, gt=0, lt=1)


class Good(Method[GoodOptions]):
    """Predict each joint's mean position and step; nothing is wrong with it."""

    about = ABOUT
    Options: type[MethodOptions] = GoodOptions

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, encoder.grid.joints * 3)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x, random_mask(x, self.encoder.grid, self.options.mask_ratio).visible)

    def predict(self, x: Tensor) -> Tensor:
        return self.head(self.encode(x).mean(1))

    def target(self, x: Tensor) -> Tensor:
        return (x - x.mean((1, 2), keepdim=True)).mean(1).flatten(1)

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.predict(x) - self.target(x)).square().mean()
        return loss, {"position": loss.detach()}


class InfinitePart(Good):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().loss(x)
        return loss, {**parts, "share": loss.detach() * torch.inf}


class Ascending(Good):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().loss(x)
        return 2 * loss.detach() - loss, parts


class Unmasked(Good):
    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x) + 0 * torch.rand((), device=x.device)


class TooFewVisible(Good):
    """As many FLOPs as with all that should be visible: looks at other tokens five times."""

    def encode(self, x: Tensor) -> Tensor:
        visible = (random_mask(x, self.encoder.grid, 0.95).visible for _ in range(5))
        return torch.stack([self.encoder(x, tokens) for tokens in visible]).mean(0)


class Peeking(Good):
    """Finds the clips, and with them their labels, in the functions that called it."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().loss(x)
        frame = sys._getframe()
        while frame.f_back:
            frame = frame.f_back
            for value in frame.f_locals.values():
                if isinstance(value, ClipSet):
                    return loss * (1 + 0.01 * float(value.columns["label"][0:3].sum())), parts
        return loss, parts


class Unseeded(Good):
    calls = itertools.count()

    def target(self, x: Tensor) -> Tensor:
        return super().target(x) * (1 + 1e-6 * (next(self.calls) % 2))


class Writing(Good):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        x -= x.mean((1, 2), keepdim=True)
        return super().loss(x)


class HalfRead(Good):
    """Encodes all of its batch, learns from the first half."""

    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        half = len(x) // 2
        loss = (self.predict(x) - self.target(x))[:half].square().mean()
        return loss, {"position": loss.detach()}


class Skipping(Good):
    """Learns in the first three steps, and in every fourth one after that."""

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.steps = 0

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps = int(state)

    def after_step(self, progress: float) -> None:
        self.steps += 1

    def encode(self, x: Tensor) -> Tensor:
        latent = super().encode(x)
        return latent if self.steps < 3 or self.steps % 4 == 0 else latent.detach() + 0 * latent


class LearningAtRest(Good):
    def diagnose(self, x: Tensor) -> Diagnosis:
        self.head.bias.add_(1)
        return Diagnosis({})


class HiddenOnMeta(Good):
    """Its costly layer runs where FLOPs are not counted."""

    def target(self, x: Tensor) -> Tensor:
        target = super().target(x)
        frames = x.flatten(1)
        return target if x.is_meta else target + 0 * (frames.T @ frames).sum()


class BelowTheBound(Good):
    """Shows the encoder as few tokens as are taken for rounding."""

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x, random_mask(x, self.encoder.grid, 0.89).visible)


class Reinitialising(Good):
    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        nn.init.xavier_uniform_(encoder.patch_embed.weight)


class Swapping(Good):
    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(copy.deepcopy(encoder), options)


class Forgetful(Good):
    """Its scale is random and in no state dict."""

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.scale = torch.rand(1).item() if encoder.norm.weight.device.type == "cpu" else 1.0

    def target(self, x: Tensor) -> Tensor:
        return super().target(x) * (1 + self.scale)


class Counting(Good):
    """Counts its steps where no state tells of them."""

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.count = 0
        self.register_buffer("counted", torch.zeros(()))

    def after_step(self, progress: float) -> None:
        self.count += 1
        self.counted.fill_(self.count)


class Unused(Good):
    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.forgotten = nn.Linear(2, 2)


class Cut(Good):
    """A weight whose gradient is all zeros."""

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.gate = nn.Linear(encoder.width, 1)

    def predict(self, x: Tensor) -> Tensor:
        latent = self.encode(x).mean(1)
        return self.head(latent) + 0 * self.gate(latent)


class Reshaping(Good):
    def after_step(self, progress: float) -> None:
        self.encoder.size = replace(self.encoder.size, heads=1)


class StillTeacher(Good):
    """Its teacher never follows."""

    def __init__(self, encoder: SkeletonEncoder, options: Any) -> None:
        super().__init__(encoder, options)
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)

    def evaluated_encoder(self) -> Encoder:
        return self.teacher


class CostlierWhenFused(Good):
    def target(self, x: Tensor) -> Tensor:
        target = super().target(x)
        fused = self.encoder.blocks[0].attn.fused_attn
        return target + 0 * (target @ target.T @ target) if fused else target


class OtherWhenFused(Good):
    def target(self, x: Tensor) -> Tensor:
        return super().target(x) + 0.1 * float(self.encoder.blocks[0].attn.fused_attn)


class Waiting(Good):
    def after_step(self, progress: float) -> None:
        if self.head.weight.norm() > 100:
            self.head.weight.data.zero_()


class HalfLoss(Good):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = super().loss(x)
        return loss.to(self.encode(x).new_zeros(1).to(self.predict(x).dtype).dtype), parts


class Overflowing(Good):
    """Fine in float32; in bfloat16 the small difference of large numbers is gone."""

    def predict(self, x: Tensor) -> Tensor:
        prediction = super().predict(x)
        return (prediction + 1000) - 1000


class OtherWhenCompiled(Good):
    def target(self, x: Tensor) -> Tensor:
        return super().target(x) * (2 if torch.compiler.is_compiling() else 1)


class Particular(Good):
    def target(self, x: Tensor) -> Tensor:
        if x.shape[2] == MADE_UP15.joint_count:
            raise ValueError("no hand tips to weigh")
        return super().target(x)


class Dividing(Good):
    def target(self, x: Tensor) -> Tensor:
        return super().target(x) / x.std((1, 2, 3), keepdim=True).flatten(1)


class Lenient(GoodOptions):
    model_config = ConfigDict(extra="ignore")


class LenientOptions(Good):
    Options = Lenient


class Growing(GoodOptions):
    rate: float = 1.0

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        return self.model_copy(update={"rate": 2 * self.rate})


class GrowingOptions(Good):
    Options = Growing


class Nameless(Good):
    about = replace(ABOUT, paper="")


class Curt(Good):
    about = replace(ABOUT, choices=("tau 0.8",))


class NoDiagnosis(Good):
    def diagnose(self, x: Tensor) -> Diagnosis:
        return Diagnosis({"std": float("nan")})


class Reseeding(Good):
    def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        torch.manual_seed(7)
        return super().loss(x)


FAULTS: dict[type[Good], tuple[str, str]] = {
    InfinitePart: (
        "loss is one finite number",
        "part 'share': expected one finite number, found inf",
    ),
    Ascending: ("loss falls on synthetic data", "expected the loss to fall by 5 % in 15 steps"),
    Unmasked: ("mask ratio honoured", "expected 15 to 30 of 150 tokens in the encoder, found 150"),
    TooFewVisible: (
        "mask ratio honoured",
        "expected 15 to 30 of 150 tokens in the encoder, found 7",
    ),
    Peeking: ("permuting the labels changes nothing", "labels leak into training"),
    Unseeded: ("same seed, same loss", "expected the same loss twice"),
    Writing: ("batch left as it was", "expected the batch unchanged"),
    HalfRead: (
        "loss reads its whole batch",
        "the loss of 18 body sequences stays the same when 9 of them are others",
    ),
    Skipping: (
        "every step trains the encoder",
        "the encoder had no gradient in 4 of 6 trial steps",
    ),
    LearningAtRest: (
        "looking changes nothing",
        "diagnose: expected everything as it was, found head.bias changed",
    ),
    HiddenOnMeta: ("FLOPs are the same with values", "on the meta device"),
    BelowTheBound: ("FLOPs not below the encoder alone", "MFLOP of the encoder alone, found"),
    Reinitialising: (
        "encoder as the seed made it",
        "found patch_embed.weight changed by building the method",
    ),
    Swapping: (
        "encoder as the seed made it",
        "expected self.encoder to be the encoder that was given",
    ),
    Forgetful: (
        "weights travel through safetensors",
        "some state is neither a parameter nor a buffer",
    ),
    Counting: (
        "weights travel through safetensors",
        "go on as if it had not stopped, found another method/counted",
    ),
    Unused: (
        "every trained parameter gets a gradient",
        "found none for forgotten.weight, forgotten.bias",
    ),
    Cut: ("every trained parameter gets a gradient", "found none for gate.weight"),
    Reshaping: ("evaluated encoder keeps its hash", "after training, found"),
    StillTeacher: (
        "training changes the evaluated encoder",
        "found patch_embed.weight, positions.time, ",
    ),
    CostlierWhenFused: (
        "FLOPs do not depend on the kernel",
        "expected equal FLOPs with fused and plain attention",
    ),
    OtherWhenFused: (
        "loss does not depend on the kernel",
        "expected the same loss with fused and plain attention",
    ),
    Waiting: (STALLS, "a step must not ask for a tensor's value"),
    HalfLoss: ("works under bf16 autocast", "expected a float32 loss, found torch.bfloat16"),
    Overflowing: ("works under bf16 autocast", "expected a loss near"),
    OtherWhenCompiled: (COMPILE, "expected the eager loss"),
    Particular: (
        "works with 15 joints",
        "ValueError: no hand tips to weigh (test_conformance.py, line ",
    ),
    Dividing: (
        "works with one and two bodies",
        "empty second bodies: expected a finite loss, found nan",
    ),
    LenientOptions: ("unknown options are refused", "expected an unknown option to be refused"),
    GrowingOptions: ("resolved options stay", "expected resolved options to stay"),
    Nameless: ("metadata is complete", "about.paper: expected a citation"),
    Curt: ("metadata is complete", "found 'tau 0.8'"),
    Reseeding: ("shared state is left as it was", "changed torch's seed: 0 to 7"),
    NoDiagnosis: ("diagnosis holds finite numbers", "found std=nan"),
}
# One function with the check of 15 joints, and some that take long: these only look at faults meant
# for them.
SAME = {f"works with {joints} joints" for joints in (20, 22, 25)}
SLOW = {
    COMPILE,
    "FLOPs do not depend on the kernel",
    "FLOPs are the same with values",
    "every step trains the encoder",
    "FLOPs not below the encoder alone",
}
LESS_SLOW = {
    "loss falls on synthetic data",
    "weights travel through safetensors",
    "permuting the labels changes nothing",
}


@cache
def check_named(name: str) -> Check:
    return next(check for check in CHECKS if check.name == name)


def test_a_good_method_passes_every_check() -> None:
    assert [result for result in examine_all(Specimen(Good)) if result.outcome != "pass"] == []


@pytest.mark.parametrize("method", FAULTS)
def test_a_fault_fails_the_check_that_is_meant_for_it(method: type[Good]) -> None:
    name, reason = FAULTS[method]
    result = examine(check_named(name), Specimen(method))
    assert not result.passed
    assert reason in result.reason
    assert "\n" not in result.reason


@pytest.mark.parametrize(
    "left_out",
    [
        pytest.param(SAME | SLOW | LESS_SLOW, id="quick"),
        pytest.param(SAME | SLOW, id="thorough", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=() if number % 5 == 0 else pytest.mark.long)
        for number, method in enumerate(FAULTS)
    ],
)
def test_a_fault_fails_no_other_check(method: type[Good], left_out: set[str]) -> None:
    checks = [check for check in CHECKS if check.name not in {FAULTS[method][0], *left_out}]
    assert [
        result
        for result in (examine(check, Specimen(method)) for check in checks)
        if not result.passed
    ] == []


def test_every_check_has_a_fault_that_it_finds() -> None:
    assert {name for name, _ in FAULTS.values()} | SAME == {check.name for check in CHECKS}


def test_a_value_asked_for_in_the_loss_is_a_host_synchronisation() -> None:
    class Asking(Good):
        def target(self, x: Tensor) -> Tensor:
            return super().target(x) / (1 + x.abs().max().item())

    result = examine(check_named(STALLS), Specimen(Asking))
    assert not result.passed
    assert "item()" in result.reason


def test_a_tensor_of_the_cpu_as_an_index_is_found_with_its_line() -> None:
    class Indexing(Good):
        ends = torch.tensor([3, 7])  # made at import, on no device of a run

        def target(self, x: Tensor) -> Tensor:
            return super().target(x) + x[:, :, self.ends].mean()

    result = examine(check_named(STALLS), Specimen(Indexing))
    assert result.outcome == "fail"
    expected = (
        "Stall: a tensor [2] on the CPU beside others on the device (aten.index.Tensor)"
        " (test_conformance.py, line "
    )
    assert result.reason.startswith(expected)
    assert "self.register_buffer(name, torch.as_tensor(numbers))" in result.reason


def test_a_loss_that_is_compiled_in_every_step_is_found() -> None:
    class CompiledAnew(Good):
        weight = 1.0  # its schedule is a Python number, and a constant of what is compiled

        def after_step(self, progress: float) -> None:
            self.weight = 1 - progress / 2

        def target(self, x: Tensor) -> Tensor:
            return super().target(x) * self.weight

    result = examine(check_named(COMPILE), Specimen(CompiledAnew))
    assert (
        "expected the loss to stay compiled, found it compiled again in each of 3 later steps"
        in result.reason
    )


def test_a_constant_that_every_step_copies_is_found() -> None:
    class Copying(Good):
        def target(self, x: Tensor) -> Tensor:
            return super().target(x) * torch.as_tensor([0.5, 0.5], device=x.device).sum()

    result = examine(check_named(STALLS), Specimen(Copying))
    assert result.outcome == "fail"
    assert result.reason.startswith(
        "Stall: a copy between host and device of numbers (as_tensor) (test_conformance.py, "
    )


@pytest.mark.parametrize("thrown", [SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_whatever_a_method_throws_fails_its_check(thrown: BaseException) -> None:
    class Throwing(Good):
        def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            raise thrown

    with stoppable():  # as the command is: Ctrl-C is told from what a method throws
        result = examine(check_named("same seed, same loss"), Specimen(Throwing))
    assert result.outcome == "fail"
    assert result.reason.startswith(type(thrown).__name__)


# --- what does not apply ---


def test_a_method_without_a_mask_ratio_is_not_judged_by_it() -> None:
    class Whole(Unmasked):
        Options = MethodOptions

    result = examine(check_named("mask ratio honoured"), Specimen(Whole))
    assert (result.outcome, result.reason, result.passed) == (
        "not applicable",
        "no option mask_ratio",
        True,
    )


def test_an_open_method_may_bring_another_encoder() -> None:
    class Open(Swapping):
        about = replace(ABOUT, division="open")

    assert examine(check_named("encoder as the seed made it"), Specimen(Open)).outcome == "pass"
    assert (
        examine(check_named("evaluated encoder keeps its hash"), Specimen(Open)).outcome == "pass"
    )
    assert examine(check_named("mask ratio honoured"), Specimen(Open)).outcome == "not applicable"


def test_a_summary_counts_all_three_outcomes() -> None:
    def fail(specimen: Specimen) -> None:
        raise AssertionError("expected this")

    def pass_over(specimen: Specimen) -> None:
        raise NotApplicable("for a reason")

    checks = [Check("a", fail), Check("b", pass_over), Check("c", lambda specimen: None)]
    results = [examine(check, Specimen(Good)) for check in checks]
    assert summary(results) == "1 checks passed, 1 failed, 1 not applicable"


def test_options_are_given_as_in_a_spec() -> None:
    assert Specimen(Good, {"mask_ratio": "0.5"}).build().options.mask_ratio == 0.5
    assert (
        examine(check_named("mask ratio honoured"), Specimen(Good, {"mask_ratio": "0.5"})).outcome
        == "pass"
    )


# --- the command ---

UNTRAINED = """
from torch import nn
from methods.base import About, Method


class Untrained(Method):
    about = About(title="Untrained", paper="none: made up for a test")

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.forgotten = nn.Linear(2, 2)

    def loss(self, x):
        return (self.encoder(x) - 1).square().mean(), {}
"""


def test_the_command_prints_a_table_and_fails_with_a_failed_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = tuple(check for check in CHECKS if check.name not in SLOW | LESS_SLOW)
    monkeypatch.setattr(suite, "CHECKS", quick)
    found = harness(
        "check-method", "untrained", "--plugin", plugin_file(tmp_path, "untrained", UNTRAINED)
    )
    assert (found.code, found.err) == (1, "")
    rows = {
        check: rest
        for check, *rest in (re.split(" {2,}", line.strip()) for line in found.out.splitlines())
    }
    assert list(rows)[:-1] == ["check", *(check.name for check in quick)]
    result, reason = rows["every trained parameter gets a gradient"]
    assert result == "fail"
    assert "forgotten.weight, forgotten.bias" in reason
    assert rows["mask ratio honoured"] == ["not applicable", "no option mask_ratio"]
    assert rows["same seed, same loss"] == ["pass"]
    assert found.out.endswith(
        f"untrained: {len(quick) - 2} checks passed, 1 failed, 1 not applicable\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("gpf",), "unknown method 'gpf', did you mean 'gfp'?"),
        (("gfp:windws=3",), "unknown option 'windws', did you mean 'windows'?"),
        (("gfp,skeletonmae",), "expected one method, found 2"),
        (("gfp", "--plugin", "nowhere.py"), "plugin nowhere.py: no such file"),
        ((), "Missing argument"),
    ],
)
def test_what_cannot_be_checked_is_one_line(words: tuple[str, ...], expected: str) -> None:
    found = harness("check-method", *words)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert expected in found.err


def test_the_readmes_method_passes() -> None:
    """`tests/test_readme.py` holds `methods/README.md` to this file."""
    found = harness("check-method", "mean-motion", "--plugin", TEMPLATES / "mean_motion.py")
    assert found.code == 0, found.out
