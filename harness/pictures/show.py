"""`harness data show NAME|FILE`: a clip as an animated stick figure, as a method sees it where one
is named.

    for line in show("nwucla.npz", Path("clip.gif"), clip=12, method="skeletonmae", train=150):
        print(line)

The method gets the clip as its evaluation does (test crop, resized in time) and masks it as its own
loss does. What a method reconstructs is drawn beside it; predictions of targets that were
normalised are given the true mean and scale of their patch back, as in the pictures of masked
autoencoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from datasets.batches import BodySequences, evaluation_batches, test_crops
from datasets.catalog import open_clips
from datasets.clips import ClipSet
from datasets.splits import make_split
from datasets.wording import one_line
from harness.errors import UsageError, usage_errors
from harness.pictures.drawing import animate, check_ending, row_title
from harness.records.store import ENCODER_FILE, METHOD_FILE, RecordStore
from harness.registry import Registry, method_options
from harness.spec.model import DataSpec, EncoderSpec, RunSpec, TrainSpec, parse_methods
from harness.training.build import build_method
from harness.training.clock import StepClock
from harness.training.data import build_batches
from harness.training.trainer import Diverged, Trainer
from methods.base import Method, OptionError
from methods.parts.masks import Mask

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Setup:
    """A method to look through.

    Attributes:
        method: in training mode, on the CPU.
        label: its name with the options that were chosen.
        spec: what it was built from.
        decodes: its decoder is trained.
    """

    method: Method
    label: str
    spec: RunSpec
    decodes: bool


def show(
    name: str,
    out: Path,
    *,
    clip: int = 0,
    method: str = "",
    run: Path | None = None,
    train: int = 0,
    encoder: str = "tiny",
    seed: int = 0,
    registry: Registry | None = None,
) -> list[str]:
    """Leave an animation of a clip.

    Args:
        name: a registered or prepared data set, a store's folder, or an ``.npz`` file.
        out: the GIF; its name ends in ``.gif``.
        clip: index of the clip.
        method: a method with its options, e.g. ``gfp`` or ``skeletonmae:mask=frames``; none: the
            clip as it is.
        run: a finished run's folder; its method, encoder size and weights are taken.
        train: steps to train the method on the data set's training part before it is shown.
        encoder: size, where no run says.
        seed: of the weights and the mask.

    Returns:
        Lines that say what is to be seen.

    Raises:
        UsageError: there is no such data set, clip, method or run, or the picture cannot be
            written.
    """
    registry = registry or Registry()
    with usage_errors():
        check_ending(out, ".gif")
        clips = open_clips(name)
        if not 0 <= clip < len(clips):
            raise UsageError(
                f"--clip {clip}: expected 0 to {len(clips) - 1}, the clips of {clips.name}"
            )
        title = "\n".join(row_title(clips, clip).rsplit("   ", 1))
        if train and not (method or run):
            raise UsageError(f"--train {train}: trains a method; name one with --method")
        if not (method or run):
            animate(clips.clip(clip), clips.layout, out, clips.fps, title=title)
            return [row_title(clips, clip), f"wrote {out}"]
        setup = _set_up(registry, clips, method, run, encoder, seed)
        if train:
            setup = _trained(setup, clips, train)
        torch.manual_seed(seed)
        return [
            row_title(clips, clip),
            *_through_method(setup, clips, clip, out, title),
            f"wrote {out}",
        ]


def _through_method(setup: _Setup, clips: ClipSet, clip: int, out: Path, title: str) -> list[str]:
    """Animate a clip with its tokens coloured; one line on the tokens,
    one on the reconstruction.
    """
    method, frames = setup.method, setup.method.evaluated_encoder().grid.frames
    x = body_sequences(clips, clip, frames)
    seen = visible_tokens(method, x)
    made = reconstruction(method, x, seen)
    seconds = int(test_crops(torch.as_tensor(clips.lengths[[clip]]))[1]) / clips.fps
    title = f"{title}\n{setup.label}, visible tokens green"
    animate(
        people(x),
        clips.layout,
        out,
        frames / seconds,
        visible=seen.transpose(0, 1).numpy(),
        reconstruction=people(made) if made is not None and setup.decodes else None,
        title=title,
    )
    share = (
        f"{setup.label}: {int(seen.sum()):,} of {seen.numel():,} tokens visible"
        f" ({seen.float().mean():.1%})"
    )
    return [share, _reconstruction_note(setup, made is not None)]


def people(x: Tensor) -> np.ndarray:
    """Body sequences ``[B, T, V, 3]`` of one clip as its frames ``[T, B, V, 3]``."""
    return x.transpose(0, 1).numpy()


def _reconstruction_note(setup: _Setup, reconstructs: bool) -> str:
    """What to know of the reconstruction, or how to get one."""
    if not reconstructs:
        return (
            f"{setup.spec.method.name} predicts no coordinates: there is no reconstruction to draw"
        )
    if setup.decodes:
        return (
            "reconstruction: masked tokens as predicted, with the true mean and scale of the target"
            " given back"
        )
    return (
        "no reconstruction without a trained decoder: add --train 150, or --run with one of `run"
        " --keep-decoder`"
    )


# --- data ---


def body_sequences(clips: ClipSet, clip: int, frames: int) -> Tensor:
    """The present bodies of a clip as evaluation sees them, ``[B, frames, V, 3]``."""
    bodies = BodySequences(_one_clip(clips, clip), _CPU)
    if not len(bodies):
        raise UsageError(
            f"{clips.describe(clip)}: expected a body in some frame, found only zeros; choose"
            " another clip"
        )
    return next(evaluation_batches(bodies, len(bodies), frames))[1]


def _one_clip(clips: ClipSet, clip: int) -> ClipSet:
    """A clip set of one clip."""
    return replace(
        clips,
        joints=clips.clip(clip),
        offsets=np.array([0, clips.lengths[clip]]),
        stored=None,
        columns={name: values[clip : clip + 1] for name, values in clips.columns.items()},
    )


# --- the method ---


def _set_up(
    registry: Registry, clips: ClipSet, method: str, run: Path | None, encoder: str, seed: int
) -> _Setup:
    """The method that was asked for, fresh or with the weights of a run."""
    if run:
        return _of_run(registry, clips, method, run)
    asked = parse_methods(method)
    if len(asked) != 1:
        raise UsageError(f"--method {method!r}: expected one method, found {len(asked)}")
    spec = RunSpec(method=asked[0], encoder=EncoderSpec(size=encoder), seed=seed)
    return _Setup(_built(registry, clips, spec), str(spec.method), spec, decodes=False)


def _of_run(registry: Registry, clips: ClipSet, method: str, run: Path) -> _Setup:
    """The method of a finished run, with as much of its weights as the folder has."""
    store = RecordStore(run.parent)
    record = store.run(run.name)
    for refusal in filter(lambda one: one.of_record, store.refused.values()):
        raise UsageError(f"--run {run}: {refusal}")
    files = [run / name for name in (METHOD_FILE, ENCODER_FILE) if (run / name).is_file()]
    if record is None or not files:
        raise UsageError(
            f"--run {run}: expected a finished run's folder with record.json and {ENCODER_FILE},"
            f" found none; see `ls runs --out {run.parent}`"
        )
    if method and parse_methods(method)[0].name != record.spec.method.name:
        raise UsageError(
            f"--method {method}: the run {run} is of {record.spec.method.name}; leave --method out"
        )
    found = _built(registry, clips, record.spec)
    target = found if files[0].name == METHOD_FILE else found.evaluated_encoder()
    try:
        target.load_state_dict(_weights_in(files[0]))
    except RuntimeError as error:
        raise UsageError(
            f"{files[0]}: expected weights for the {clips.layout.joint_count} joints of"
            f" {clips.name}, found others ({one_line(error)[:100]}); show a data set of the run's"
            " skeleton"
        ) from None
    return _Setup(found, record.label, record.spec, decodes=files[0].name == METHOD_FILE)


def _weights_in(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a safetensors file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(
            f"{path}: not a safetensors file that can be read ({error}); run it again"
        ) from None


def _built(registry: Registry, clips: ClipSet, spec: RunSpec) -> Method:
    """The method on the CPU, in training mode; every mistake in its options is a `UsageError`."""
    method_class = registry.method(spec.method.name)
    method_options(method_class, spec.method)
    try:
        return build_method(method_class, spec, clips.layout, _CPU).train()
    except OptionError as error:
        raise UsageError(f"method {spec.method.name}: {error}") from None


def _trained(setup: _Setup, clips: ClipSet, steps: int) -> _Setup:
    """The method after some steps on the training part of the data set's default split,
    batches of 16.
    """
    data = DataSpec(name=clips.name)
    spec = setup.spec.model_copy(update={"train": TrainSpec(batch_size=16), "data": data})
    bodies = BodySequences(clips, _CPU)
    split = make_split(clips, validation=0)
    frames = setup.method.evaluated_encoder().grid.frames
    batches = build_batches(bodies, bodies.of_clips(split.train), spec, frames, setup.method.views)
    try:
        Trainer(setup.method, batches, spec.train, steps).run_block(steps, StepClock(_CPU))
    except Diverged as error:
        raise UsageError(f"--train {steps}: {error}") from None
    return replace(setup, decodes=True)


# --- what the method sees and makes ---


@torch.no_grad()
def visible_tokens(method: Method, x: Tensor) -> Tensor:
    """``[B, T', V]`` True for the tokens of ``x`` ``[B, T, V, 3]`` that the method sees in a
    training step.

    T' counts its time steps, or its frames where it masks those one by one.
    """
    seen = method.visible(torch.cat([x, x]))  # batch norm wants two
    if seen is None:
        raise UsageError(
            f"{type(method).__name__} hides no tokens from the shared encoder; choose another"
            " method"
        )
    return seen[: len(x)]


@torch.no_grad()
def reconstruction(method: Method, x: Tensor, seen: Tensor) -> Tensor | None:
    """``x`` ``[B, T, V, 3]`` with its masked tokens as the method predicts them; None where it
    predicts other things.

    Args:
        seen: ``[B, T', V]`` of `visible_tokens`.
    """
    made = method.eval().reconstruct(x, mask_of(seen))
    if made is None:
        return None
    visible = seen.repeat_interleave(x.shape[1] // seen.shape[1], dim=1)
    return torch.where(visible.unsqueeze(-1), x, made)


def mask_of(seen: Tensor) -> Mask:
    """The mask whose visible tokens are True in ``[B, T', V]``; every body has as many."""
    flat = seen.flatten(1)
    order, count = torch.argsort((~flat).int(), dim=1, stable=True), int(flat[0].sum())
    return Mask(order[:, :count], order[:, count:])
