"""Conformance checks of where a method works: kernels, precision, compilation, skeletons, and what
it says of itself.

A check is a function of a `Specimen`, as in `harness.conformance.learning`.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator

import torch
from pydantic import ValidationError
from torch import Tensor

from datasets.batches import Batch
from datasets.layouts import NTU25
from harness.conformance.specimen import (
    ALONE,
    ROUNDING,
    SKELETONS,
    TOGETHER,
    NotApplicable,
    Specimen,
    Unmet,
    batch,
    blank,
    close,
    loss_of,
    must,
    views,
)
from harness.conformance.stalls import no_stalls
from harness.errors import first_few
from harness.isolation.contract import diagnosis, loss_and_parts
from harness.isolation.guard import Guard
from harness.records.doubts import FLOP_ROUNDING
from harness.records.schema import BOUND
from harness.registry import Registry
from harness.speed.flops import bound_flops, flop_counter, step_flops
from harness.speed.trial import unlike_counted
from harness.training.build import build_encoder
from harness.training.compilation import quiet_compiler
from methods.base import About, Method, MethodOptions

_BF16_ROUNDING = 0.05
_LATER_STEPS = 3
_PAPER = re.compile(r"arXiv \d{4}\.\d{4,5}|no arXiv number")
_OWN_WORK = re.compile(r"none\W+\w.+")

# --- numerics ---


def flops_do_not_depend_on_the_kernel(specimen: Specimen) -> None:
    """Above 0, and the forward pass counts the same under fused and plain attention.

    Only forward: a fused kernel's backward recomputes, which is why `step_flops` always counts the
    plain one.
    """
    must(
        step_flops(specimen.method, specimen.spec(), NTU25) > 0,
        "expected FLOPs above 0, found none",
    )
    fused, plain = (_forward_flops(specimen, fused=fused) for fused in (True, False))
    must(
        fused == plain,
        f"expected equal FLOPs with fused and plain attention, found {fused:,} and {plain:,}",
    )


def _forward_flops(specimen: Specimen, *, fused: bool) -> int:
    """FLOPs of one forward pass under an attention kernel."""
    method = specimen.build(device="meta", fused_attention=fused)
    with flop_counter() as counter:
        method.loss(views(method, blank(NTU25, 4)))
    return int(counter.get_total_flops())


def flops_are_the_same_with_values(specimen: Specimen) -> None:
    """Steps with values take the FLOPs that a step takes on the meta device,
    where they are counted.
    """
    for doubt in unlike_counted(specimen.trial()):
        must(
            doubt.kind != "FLOPs differ",
            f"expected the FLOPs that are counted, found that {doubt.text}",
        )


def flops_are_not_below_the_bound(specimen: Specimen) -> None:
    """A step does not take less than the shared encoder alone on as many tokens
    as ``mask_ratio`` leaves.
    """
    bound = bound_flops(Registry().method(BOUND), specimen.method, specimen.spec(), NTU25)
    if bound is None:
        raise NotApplicable("brings its own encoder")
    own = step_flops(specimen.method, specimen.spec(), NTU25)
    must(
        own >= (1 - FLOP_ROUNDING) * bound,
        f"expected at least the {bound / 1e6:.4g} MFLOP of the encoder alone, found"
        f" {own / 1e6:.4g}; give the share of hidden tokens as an option mask_ratio",
    )


def loss_does_not_depend_on_the_kernel(specimen: Specimen) -> None:
    """Fused and plain attention agree to rounding."""
    fused, plain = (
        loss_of(specimen.build(fused_attention=fused), batch()) for fused in (True, False)
    )
    must(
        close(fused, plain, 10 * ROUNDING),
        f"expected the same loss with fused and plain attention, found {fused:.6g} and {plain:.6g}",
    )


def no_host_synchronisation(specimen: Specimen) -> None:
    """Loss, backward and after_step run on the meta device, which has no values to wait for and
    copies none.

    ``.item()``, ``nonzero()``, a boolean index and a branch on a tensor are found there, and so are
    a list or a tensor of the CPU as an index, and what is copied to the device in every step
    (`no_stalls`).
    """
    method = specimen.build(device="meta")
    x = views(method, blank(NTU25, 4))
    with no_stalls("meta"):
        method.loss(x)[0].backward()
        method.after_step(0.5)


def works_under_bf16_autocast(specimen: Specimen) -> None:
    """Nearly the same loss, in float32, and finite gradients.

    With plain attention: whether torch's fused kernel knows bfloat16 depends on the processor, not
    on the method.
    """
    method = specimen.build(fused_attention=False)
    exact = loss_of(method, batch())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss_of(method, batch())
    must(
        rounded.dtype == torch.float32,
        f"expected a float32 loss, found {rounded.dtype}; .float() before the mean",
    )
    must(
        close(rounded, exact, _BF16_ROUNDING),
        f"expected a loss near {exact:.4g}, found {rounded:.4g} under bf16",
    )
    rounded.backward()
    _must_have_finite_gradients(method)


def works_under_compile(specimen: Specimen) -> None:
    """``torch.compile(method.loss)`` gives the eager loss under the same random numbers; graph
    breaks are allowed.

    Nor is it compiled anew in every step, which a run ends with an error. The backend is
    ``aot_eager``, which traces forward and backward as the default one does but generates no code:
    inductor needs a C++ compiler, takes minutes, and draws other random numbers.
    """
    method = specimen.build(depth=1)
    torch._dynamo.reset()
    quiet_compiler()
    loss = torch.compile(method.loss, backend="aot_eager", dynamic=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own deprecations
        compiled, _ = _seeded(method, loss)
        compiled.backward()
        eager, _ = _seeded(method, method.loss)
        counts = list(_compilations(method, loss, _LATER_STEPS))
    torch._dynamo.reset()
    _must_have_finite_gradients(method)
    must(
        close(compiled, eager, 10 * ROUNDING),
        f"expected the eager loss {eager:.6g} under torch.compile, found {compiled:.6g}",
    )
    must(
        not all(counts),
        f"expected the loss to stay compiled, found it compiled again in each of {len(counts)}"
        " later steps; a number that after_step changes is a constant of compiled code: keep it in"
        " a tensor (register_buffer)",
    )


def _compilations(
    method: Method, loss: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]], steps: int
) -> Iterator[int]:
    """Graphs that the compiled loss is compiled to anew in each of a few later steps."""
    stats = torch._dynamo.utils.counters["stats"]
    for step in range(1, steps + 1):
        before = stats["unique_graphs"]
        method.after_step(step / steps)
        _seeded(method, loss)
        yield stats["unique_graphs"] - before


def _seeded(
    method: Method, loss: Callable[[Batch], tuple[Tensor, dict[str, Tensor]]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """A method's loss function, compiled or not, on the batch under seed 0."""
    torch.manual_seed(0)
    return loss_and_parts(method, loss(views(method, batch())))


def _must_have_finite_gradients(method: Method) -> None:
    """No gradient that exists is infinite or no number."""
    bad = [
        name
        for name, p in method.named_parameters()
        if p.grad is not None and not p.grad.isfinite().all()
    ]
    must(not bad, f"expected finite gradients, found others at {first_few(bad)}")


# --- bodies ---


def works_with_joints(specimen: Specimen, joints: int) -> None:
    """A finite loss and finite gradients on a skeleton of that many joints."""
    _must_work_on(specimen.build(SKELETONS[joints]), batch(joints), f"{joints} joints")


def works_with_one_and_two_bodies(specimen: Specimen) -> None:
    """One-person and two-person actions, and absent bodies (zeros), which
    ``data.include_empty_bodies`` batches.
    """
    for what, x in {
        "one-person actions": batch(actions=ALONE),
        "two-person actions": batch(actions=TOGETHER),
        "empty second bodies": batch(actions=ALONE, empty=True),
    }.items():
        _must_work_on(specimen.build(), x, what)


def _must_work_on(method: Method, x: Tensor, what: str) -> None:
    """Finite loss and gradients."""
    loss = loss_of(method, x)
    must(
        bool(loss.isfinite()),
        f"{what}: expected a finite loss, found {loss:.4g}; is something divided by zero?",
    )
    loss.backward()
    _must_have_finite_gradients(method)


# --- options and words ---


def unknown_options_are_refused(specimen: Specimen) -> None:
    """Options are typed; a misspelt one is an error, never silently the default."""
    options = specimen.method.Options
    must(
        issubclass(options, MethodOptions),
        "Options: expected a subclass of methods.base.MethodOptions",
    )
    try:
        options.model_validate({"no_such_option": 1})
    except ValidationError:
        return
    raise Unmet(
        "expected an unknown option to be refused, found it taken; keep MethodOptions'"
        " extra='forbid'"
    )


def resolved_options_stay(specimen: Specimen) -> None:
    """Resolving twice is resolving once, also after a way through a record's JSON."""
    encoder = build_encoder(specimen.spec(), NTU25, "meta")
    options = specimen.typed_options().resolved(encoder)
    stored = type(options).model_validate(options.model_dump(mode="json"))
    must(stored == options, f"expected the options back from JSON, found {stored} for {options}")
    again = options.resolved(encoder)
    must(again == options, f"expected resolved options to stay, found {again} for {options}")


def metadata_is_complete(specimen: Specimen) -> None:
    """Title, paper with its arXiv number (or ``none: why``; a control ``none``), code;
    whole sentences.
    """
    about = getattr(specimen.method, "about", None)
    must(
        isinstance(about, About), f"about: expected an About(title=..., paper=...), found {about!r}"
    )
    assert isinstance(about, About)  # for the type checker
    must(
        bool(about.title and about.code),
        "about: expected a title and where the code is ('none' if nowhere)",
    )
    must(
        bool(
            _PAPER.search(about.paper)
            or _OWN_WORK.fullmatch(about.paper)
            or (about.control and about.paper == "none")
        ),
        "about.paper: expected a citation with 'arXiv 2308.07092', or 'none: why', found"
        f" {about.paper!r}",
    )
    short = [text for text in (*about.deviations, *about.choices) if len(text) <= 10]
    must(
        not short,
        "about: expected deviations and choices as sentences, found"
        f" {first_few([repr(t) for t in short])}",
    )


def shared_state_is_left_as_it_was(specimen: Specimen) -> None:
    """What all methods of a process share (default dtype, threads, seed, working directory, ...)
    stays as it is.

    A run puts it back and says so in the method's row, which fails where others depend on it.
    """
    method, guard = specimen.build(), Guard()
    with guard("a step and its evaluation"):
        loss, _ = method.loss(views(method, batch()))
        loss.backward()
        method.after_step(0.5)
        method.evaluated_encoder()
        with torch.no_grad():
            method.diagnose(views(method, batch()))
    must(
        not guard.warnings,
        f"expected the process as it was, found that it {'; '.join(guard.warnings)}",
    )


def diagnosis_holds_finite_numbers(specimen: Specimen) -> None:
    """``diagnose`` returns plain numbers, which go into the record."""
    with torch.no_grad():
        method = specimen.build()
        values = diagnosis(method, method.diagnose(views(method, batch()))).values
    bad = [
        f"{name}={value!r}"
        for name, value in values.items()
        if not isinstance(value, int | float) or not math.isfinite(value)
    ]
    must(not bad, f"diagnose: expected finite numbers, found {first_few(bad)}; use .item()")
