"""Conformance checks of what a method learns: its loss, its mask, its seed, its weights.

A check is a function of a `Specimen` that raises `Unmet` with one line (expected, found, next
step), or `NotApplicable` with the reason. `harness.conformance.suite` lists and runs them.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from datasets.batches import BodySequences
from datasets.clips import ClipSet
from datasets.layouts import NTU25
from harness.conformance.specimen import (
    CPU,
    ROUNDING,
    NotApplicable,
    Specimen,
    batch,
    clips,
    close,
    loss_of,
    must,
    relabelled,
    views,
    weights,
)
from harness.errors import first_few
from harness.isolation.contract import loss_and_parts, return_of
from harness.isolation.state import state_of
from harness.speed.trial import part_of_the_batch, unlike_counted
from harness.training.build import build_encoder
from harness.training.clock import StepClock
from harness.training.data import build_batches
from harness.training.trainer import Trainer, undisturbed
from methods.base import Method

_FALLING_STEPS = 15


def loss_is_one_finite_number(specimen: Specimen) -> None:
    """A scalar with a gradient, and named parts: finite scalars without one."""
    method = specimen.build()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "error", "Using a target size"
        )  # of torch's losses: one side is spread over the other
        loss, parts = loss_and_parts(method, method.loss(views(method, batch())))
    place = return_of(type(method), "loss")
    must(
        bool(loss.isfinite()),
        f"loss: expected one finite number, found {loss:g} ({place}); is something divided by"
        " zero?",
    )
    for name, part in parts.items():
        must(bool(part.isfinite()), f"part {name!r}: expected one finite number, found {part}")


def loss_falls(specimen: Specimen) -> None:
    """Within a few steps on one synthetic batch of one- and two-person actions."""
    losses = specimen.train(specimen.build(), _FALLING_STEPS)
    first, last = losses[0], sum(losses[-3:]) / 3
    must(
        last < first - 0.05 * abs(first),
        f"expected the loss to fall by 5 % in {_FALLING_STEPS} steps, found {first:.4g} then"
        f" {last:.4g}; does the target depend on what is learnt, or the sign point the wrong way?",
    )


def mask_ratio_is_honoured(specimen: Specimen) -> None:
    """The encoder, where it learns, sees at most the visible share of the tokens
    and at least half of that.
    """
    method = specimen.build()
    ratio = getattr(method.options, "mask_ratio", None)
    if specimen.open_division or ratio is None:
        raise NotApplicable(
            "brings its own encoder" if specimen.open_division else "no option mask_ratio"
        )
    seen, limit = _tokens_seen(method), int(method.encoder.grid.tokens * (1 - ratio) + 1e-6)
    must(bool(seen), "expected the shared encoder to run, found that its first block never did")
    must(
        all(limit / 2 <= count <= limit for count in seen),
        f"mask_ratio={ratio:g}: expected {math.ceil(limit / 2)} to {limit} of"
        f" {method.encoder.grid.tokens} tokens in the encoder, found"
        f" {first_few([str(count) for count in seen])}; pass it mask.visible",
    )


def _tokens_seen(method: Method) -> list[int]:
    """Tokens in every pass through the shared encoder's first block
    that has gradients (a teacher's has none).
    """
    seen: list[int] = []

    def count(block: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            seen.append(inputs[0].shape[1])

    handle = method.encoder.blocks[0].register_forward_pre_hook(count)
    method.loss(views(method, batch()))
    handle.remove()
    return seen


def labels_change_nothing(specimen: Specimen) -> None:
    """Training on the same clips with permuted labels gives the same losses:
    pre-training is blind to them.
    """
    known, other = _trained_loss(specimen, clips()), _trained_loss(specimen, relabelled(clips()))
    must(
        math.isclose(known, other, rel_tol=ROUNDING),
        f"expected the same loss with permuted labels, found {known:.6g} and {other:.6g}; labels"
        " leak into training",
    )


def _trained_loss(specimen: Specimen, clip_set: ClipSet) -> float:
    """Mean loss of the first two steps of a run on these clips."""
    return _trainer_of(specimen, clip_set, steps=2).run_block(2, StepClock(CPU))["loss"]


def _trainer_of(specimen: Specimen, clip_set: ClipSet, *, steps: int, seed: int = 0) -> Trainer:
    """A run of the method on these clips, about to begin."""
    spec = specimen.spec()
    sequences = BodySequences(clip_set, CPU)
    method, numbers = specimen.build(seed=seed), sequences.of_clips(np.arange(len(clip_set)))
    batches = build_batches(sequences, numbers, spec, batch().shape[1], method.views)
    return Trainer(method, batches, spec.train, steps)


def same_seed_same_loss(specimen: Specimen) -> None:
    """All randomness comes from torch's seeded generator."""
    one, two = (loss_of(specimen.build(), batch()) for _ in range(2))
    must(
        torch.equal(one, two),
        f"expected the same loss twice, found {one:.8g} and {two:.8g}; draw from torch only",
    )


def batch_is_left_as_it_was(specimen: Specimen) -> None:
    """The loss does not write into its input, which others still read."""
    x, method = batch(), specimen.build()
    method.loss(views(method, x))[0].backward()
    must(
        torch.equal(x, batch()), "expected the batch unchanged, found it written to; work on a copy"
    )


def loss_reads_its_whole_batch(specimen: Specimen) -> None:
    """Every body sequence of a batch matters to its loss."""
    doubts = part_of_the_batch(specimen.trial())
    must(
        not doubts,
        "expected every body sequence to count, found that"
        f" {''.join(doubt.text for doubt in doubts)}",
    )


# --- weights ---


def encoder_is_as_the_seed_made_it(specimen: Specimen) -> None:
    """Building a method changes no weight of the encoder it is given,
    and a closed method trains that very encoder.
    """
    given, untouched = (build_encoder(specimen.spec(), NTU25, CPU) for _ in range(2))
    method = specimen.method(given, specimen.typed_options())
    before, after = weights(untouched), weights(given)
    changed = [name for name, value in before.items() if not torch.equal(after[name], value)]
    must(
        not changed,
        f"expected the encoder as it was given, found {first_few(changed)} changed by building the"
        " method",
    )
    must(
        specimen.open_division or method.encoder is given,
        "expected self.encoder to be the encoder that was given, found another;"
        " about.division='open' allows that",
    )


def weights_travel_through_safetensors(specimen: Specimen) -> None:
    """What is saved after a step and loaded into another build gives the same loss."""
    method, other = specimen.build(), specimen.build(seed=1)
    specimen.train(method, steps=1)
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(method.state_dict())))
    one, two = loss_of(method, batch()), loss_of(other, batch())
    must(
        close(one, two),
        f"expected the same loss after loading, found {one:.6g} and {two:.6g}; some state is"
        " neither a parameter nor a buffer; modules in a list belong into an nn.ModuleList,"
        " tensors into register_buffer",
    )
    whole, stopped, later = (
        _trainer_of(specimen, clips(), steps=4, seed=seed) for seed in (0, 0, 1)
    )
    for trainer in (whole, stopped):
        torch.manual_seed(0)
        trainer.run_block(2, StepClock(CPU))
    later.restore(stopped.state())
    for trainer in (whole, later):
        torch.manual_seed(1)
        trainer.run_block(2, StepClock(CPU))
    end = later.state()
    other_end = [name for name, value in whole.state().items() if not torch.equal(value, end[name])]
    must(
        not other_end,
        "expected a stopped run to go on as if it had not stopped, found another"
        f" {first_few(other_end)}; keep what a step depends on in a parameter, a buffer, or"
        " get_extra_state and set_extra_state (a tensor)",
    )


def every_parameter_learns(specimen: Specimen) -> None:
    """A finite gradient for each parameter with ``requires_grad``, and not all zeros for a weight
    matrix.

    Looked at in the third step: behind a layer that starts at zero the first gradient is zero.
    """
    method = specimen.build()
    specimen.train(method, steps=2)
    method.zero_grad()
    loss_of(method, batch()).backward()
    trained = [
        (name, parameter)
        for name, parameter in method.named_parameters()
        if parameter.requires_grad
    ]
    idle = [name for name, parameter in trained if _is_idle(parameter)]
    must(
        not idle,
        f"expected a finite gradient for every trained parameter, found none for {first_few(idle)};"
        " remove them or set requires_grad_(False)",
    )


def _is_idle(parameter: torch.nn.Parameter) -> bool:
    """No finite gradient, or a weight's that is all zeros."""
    gradient = parameter.grad
    if gradient is None or not gradient.isfinite().all():
        return True
    return gradient.ndim > 1 and not gradient.any()


def every_step_trains_the_encoder(specimen: Specimen) -> None:
    """Most steps give the encoder a gradient; `every_parameter_learns` looks at one step."""
    for doubt in unlike_counted(specimen.trial()):
        must(
            doubt.kind != "steps skipped",
            f"expected a gradient in every step, found that {doubt.text}",
        )


def looking_changes_nothing(specimen: Specimen) -> None:
    """``evaluated_encoder`` and ``diagnose`` leave parameters, gradients and buffers as they are.

    A run puts back what a forward pass does to buffers (running means), and so does this check.
    """
    method = specimen.build()
    x, before = views(method, batch()), state_of(method)
    method.evaluated_encoder()
    changed = before.changed(method)
    must(
        not changed,
        f"evaluated_encoder: expected everything as it was, found {first_few(changed)} changed",
    )
    with torch.no_grad(), undisturbed(method, CPU):
        method.diagnose(x)
    changed = before.changed(method)
    must(
        not changed, f"diagnose: expected everything as it was, found {first_few(changed)} changed"
    )


def evaluated_encoder_keeps_its_hash(specimen: Specimen) -> None:
    """Before and after training; in the closed division it is the shared encoder's."""
    method = specimen.build()
    before = method.evaluated_encoder().architecture
    specimen.train(method, steps=1)
    after = method.evaluated_encoder().architecture
    must(before == after, f"expected the encoder's hash {before} after training, found {after}")
    shared = build_encoder(specimen.spec(), NTU25, "meta").architecture
    must(
        specimen.open_division or before == shared,
        f"expected the shared encoder's hash {shared}, found {before}; about.division='open' allows"
        " another encoder",
    )


def training_changes_the_evaluated_encoder(specimen: Specimen) -> None:
    """Two steps move every weight matrix of what the probes will read."""
    method = specimen.build()
    before = weights(method.evaluated_encoder())
    specimen.train(method, steps=2)
    after = weights(method.evaluated_encoder())
    still = [
        name for name, value in before.items() if value.ndim > 1 and torch.equal(after[name], value)
    ]
    must(
        not still,
        f"expected training to change the evaluated encoder, found {first_few(still)} as before;"
        " does the loss reach it, or after_step(progress) update it?",
    )
