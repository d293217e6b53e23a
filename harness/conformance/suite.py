"""The conformance suite: what every method must do, whichever it is, as an ordered list of small
checks.

`harness check-method NAME` prints them as a table; a test parametrises (check x method)::

    result = examine(check, Specimen(method))
    assert result.passed, result.reason

The checks themselves are in `harness.conformance.learning` and `harness.conformance.running`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch

from harness.conformance import learning, running
from harness.conformance.specimen import SKELETONS, NotApplicable, Specimen, Unmet
from harness.errors import UsageError
from harness.isolation.guard import Guard, seeded
from harness.isolation.mistakes import Mistake, mistake
from harness.registry import Registry
from harness.spec.model import build, parse_methods


@dataclass(frozen=True)
class Check:
    """A name and a function that raises when a method fails.

    Attributes:
        steps: it needs a method that can be built and trained a step.
    """

    name: str
    run: Callable[[Specimen], None]
    steps: bool = True

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Result:
    """What one check found; ``reason`` is empty for a plain pass.

    Attributes:
        mistake: what the method's code threw, where it did.
    """

    check: str
    outcome: Literal["pass", "fail", "not applicable", "not tried"]
    reason: str = ""
    mistake: Mistake | None = None

    @property
    def passed(self) -> bool:
        """Nothing wrong."""
        return self.outcome in ("pass", "not applicable")


def examine(check: Check, specimen: Specimen) -> Result:
    """Run one check; whatever the method throws is a failure with its place in one line."""
    try:
        with seeded(torch.initial_seed()), Guard()(check.name):
            check.run(specimen)
    except NotApplicable as reason:
        return Result(check.name, "not applicable", str(reason))
    except Unmet as problem:
        return Result(check.name, "fail", " ".join(str(problem).split()))
    except Exception as error:  # noqa: BLE001 - a method may fail in any way; the reason is shown
        found = mistake(error, specimen.method)
        return Result(check.name, "fail", str(found), found)
    return Result(check.name, "pass")


def examine_all(
    specimen: Specimen, advance: Callable[[int, int, str], None] = lambda done, total, check: None
) -> list[Result]:
    """Every check, in order, until what fails is one that the others follow from; ``advance`` hears
    how far it is.

    The first checks build the method, ask it for a loss and take a step. Where it has none, or its
    code throws there, nothing else that needs a step is tried. Later the same exception from the
    same line is told once.
    """
    results = list[Result]()
    told: dict[tuple[str, str], str] = {}
    for check in CHECKS:
        advance(len(results), len(CHECKS), check.name)
        if check.steps and _takes_no_step(results):
            results.append(Result(check.name, "not tried"))
            continue
        result = examine(check, specimen)
        if result.mistake:
            first = told.setdefault(result.mistake.same, check.name)
            result = result if first == check.name else replace(result, reason=f"as in {first!r}")
        results.append(result)
    return results


def _takes_no_step(results: list[Result]) -> bool:
    """The checks so far have shown that the method gives no finite loss,
    or cannot be trained a step.
    """
    return any(result.outcome == "fail" for result in results[:1]) or any(
        result.mistake for result in results[:_FIRST]
    )


def summary(results: list[Result]) -> str:
    """``23 checks passed, 1 failed, 1 not applicable``;
    and how many the first failure left untried.
    """
    found = Counter(result.outcome for result in results)
    untried = (
        f"; {found['not tried']} not tried, as they all need a step" if found["not tried"] else ""
    )
    return (
        f"{found['pass']} checks passed, {found['fail']} failed, {found['not applicable']} not"
        f" applicable{untried}"
    )


def find_specimen(text: str, registry: Registry) -> Specimen:
    """The method of a spec such as ``gfp`` or ``mamp:decoder=cross``;
    `UsageError` for unknown names and options.
    """
    specs = parse_methods(text)
    if len(specs) != 1:
        raise UsageError(f"check-method {text!r}: expected one method, found {len(specs)}")
    method = registry.method(specs[0].name)
    try:
        with Guard()("options"):
            build(method.Options, specs[0].options, f"method {specs[0].name}")
    except UsageError:  # the user's mistake
        raise
    except Exception as problem:
        raise UsageError(
            f"method {specs[0].name}: its options fail: {mistake(problem, method)}"
        ) from problem
    return Specimen(method, specs[0].options)


_FIRST = 2
"""Checks without which no other that needs a step can pass."""
CHECKS = (
    Check("loss is one finite number", learning.loss_is_one_finite_number),
    Check("loss falls on synthetic data", learning.loss_falls),
    Check("mask ratio honoured", learning.mask_ratio_is_honoured),
    Check("permuting the labels changes nothing", learning.labels_change_nothing),
    Check("same seed, same loss", learning.same_seed_same_loss),
    Check("batch left as it was", learning.batch_is_left_as_it_was),
    Check("loss reads its whole batch", learning.loss_reads_its_whole_batch),
    Check("encoder as the seed made it", learning.encoder_is_as_the_seed_made_it),
    Check("weights travel through safetensors", learning.weights_travel_through_safetensors),
    Check("every trained parameter gets a gradient", learning.every_parameter_learns),
    Check("every step trains the encoder", learning.every_step_trains_the_encoder),
    Check("looking changes nothing", learning.looking_changes_nothing),
    Check("evaluated encoder keeps its hash", learning.evaluated_encoder_keeps_its_hash),
    Check(
        "training changes the evaluated encoder", learning.training_changes_the_evaluated_encoder
    ),
    Check("FLOPs do not depend on the kernel", running.flops_do_not_depend_on_the_kernel),
    Check("FLOPs are the same with values", running.flops_are_the_same_with_values),
    Check("FLOPs not below the encoder alone", running.flops_are_not_below_the_bound),
    Check("loss does not depend on the kernel", running.loss_does_not_depend_on_the_kernel),
    Check("no host synchronisation in the step", running.no_host_synchronisation),
    Check("works under bf16 autocast", running.works_under_bf16_autocast),
    Check("works under torch.compile", running.works_under_compile),
    *(
        Check(f"works with {joints} joints", partial(running.works_with_joints, joints=joints))
        for joints in SKELETONS
    ),
    Check("works with one and two bodies", running.works_with_one_and_two_bodies),
    Check("unknown options are refused", running.unknown_options_are_refused, steps=False),
    Check("resolved options stay", running.resolved_options_stay, steps=False),
    Check("metadata is complete", running.metadata_is_complete, steps=False),
    Check("shared state is left as it was", running.shared_state_is_left_as_it_was),
    Check("diagnosis holds finite numbers", running.diagnosis_holds_finite_numbers),
)
