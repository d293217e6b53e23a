"""`harness import-encoder FILE`: released MAMP-style weights as an encoder of this suite, to be
probed by it.

MAMP's encoder (arXiv 2308.07092, released code) and `methods.parts.encoder.SkeletonEncoder` compute
the same; its blocks carry the same names. Renamed are the patch embedding, a convolution over
(frames, joints) there, and the positions. The suite's own ``encoder.safetensors`` is read too; its
metadata tells what weights do not. How files of others are read without running anything is in
`harness.encoders.checkpoint`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from harness.encoders.checkpoint import Checkpoint, State, plain_tensor, read_checkpoint
from harness.encoders.facts import EncoderFacts, shared_facts, to_metadata
from harness.errors import UsageError, first_few
from harness.evaluation.probes import probe_encoder
from harness.records.schema import RANDOM_INIT, Accuracy
from harness.records.store import ENCODER_FILE, METHOD_FILE, write_weights
from harness.spec.model import DataSpec, EncoderSpec, MethodSpec, RunSpec, build
from harness.training.build import build_encoder, encoder_size
from harness.training.data import LoadedData, load_data
from methods.parts.encoder import EncoderSize, SkeletonEncoder

_FIRST_BLOCK = "blocks.0.norm1.weight"
_POSITIONS = {"pos_embed": "positions.joint", "temp_embed": "positions.time"}
_PATCH = "patch_embed.weight"


@dataclass(frozen=True)
class Imported:
    """An encoder from a file.

    Attributes:
        encoder: with the file's weights.
        ignored: names of what was left in the file.
        facts: what is known of it.
        notes: what was assumed, one line each.
    """

    encoder: SkeletonEncoder
    ignored: tuple[str, ...]
    facts: EncoderFacts
    notes: tuple[str, ...]


def import_encoder(
    path: Path, asked: Mapping[str, str | int] | None = None, joints: int | None = None
) -> Imported:
    """The encoder in a file; every mismatch is a `UsageError` that names the tensor or the entry.

    Args:
        path: a checkpoint, or a safetensors file of this suite.
        asked: fields of `EncoderSpec`; what is not given is as the file says, or as in ``base``.
        joints: V; as the file says, or 25.
    """
    checkpoint = read_checkpoint(path)
    _refuse_other_weights(path, checkpoint.state)
    size, count = _expected(path, checkpoint.facts, dict(asked or {}), joints)
    note = _check_heads(path, checkpoint, size, dict(asked or {}))
    own = _PATCH in checkpoint.state and "positions.time" in checkpoint.state
    state, ignored = (
        (checkpoint.state, ()) if own else converted(_encoder_part(checkpoint.state, path), path)
    )
    with torch.device("meta"):
        encoder = SkeletonEncoder(size, count)
    encoder.load_state_dict(_checked(state, encoder, path), assign=True)
    facts = checkpoint.facts or shared_facts(encoder).model_copy(
        update={"method": f"imported from {path.name}"}
    )
    return Imported(encoder, ignored, facts, (note,) if note else ())


def _refuse_other_weights(path: Path, state: State) -> None:
    """A `UsageError` for the other two kinds of file with weights that a run leaves."""
    if any(name.startswith("method/") for name in state):
        found = "the state of a training that was under way (method, optimiser, batches)"
    elif path.name == METHOD_FILE:
        found = "all weights of a method, its decoder's too"
    else:
        return
    raise UsageError(
        f"{path}: expected an encoder, found {found}; give {ENCODER_FILE}, which the run leaves in"
        " the same folder when it is done"
    )


def _expected(
    path: Path, facts: EncoderFacts | None, asked: dict[str, str | int], joints: int | None
) -> tuple[EncoderSize, int]:
    """Size and joints: as asked, and as the file says of itself;
    a `UsageError` where the two differ.
    """
    if facts is None:
        return encoder_size(build(EncoderSpec, {"size": "base", **asked}, "encoder")), joints or 25
    try:
        size = facts.encoder_size
    except ValueError as error:
        raise UsageError(f"{path}: expected a shared encoder, found {error}") from None
    told_so = {} if "size" in asked else asdict(size)
    wanted = encoder_size(build(EncoderSpec, {**told_so, **asked}, "encoder")) if asked else size
    if wanted != size or (joints or facts.joints) != facts.joints:
        told = ", ".join(
            f"{name} {value}" for name, value in {**asdict(size), "joints": facts.joints}.items()
        )
        raise UsageError(
            f"{path}: expected what the file says of itself ({told}), found another; leave"
            " --encoder, --set and --joints out"
        )
    return size, facts.joints


def _check_heads(
    path: Path, checkpoint: Checkpoint, size: EncoderSize, asked: dict[str, str | int]
) -> str:
    """What was assumed of the heads, which no weight tells;
    a `UsageError` where the file says another number.
    """
    if checkpoint.facts:
        return ""
    for place, heads in checkpoint.heads.items():
        if heads != size.heads:
            raise UsageError(
                f"{path}: heads: expected {heads}, as the file's {place} says, found {size.heads}"
                f" in the encoder asked for; --set encoder.heads={heads}"
            )
    if checkpoint.heads or "heads" in asked:
        return ""
    return (
        f"assumed: {size.heads} attention heads, as in --encoder {asked.get('size', 'base')};"
        " weights do not tell, --set encoder.heads=N takes another number"
    )


# --- names ---


def _encoder_part(state: State, path: Path) -> State:
    """The tensors beside the encoder's first block,
    without the prefix of wrappers such as ``module.``.
    """
    prefixes = [
        name.removesuffix(_FIRST_BLOCK)
        for name in state
        if re.search(rf"(^|\.){_FIRST_BLOCK}$", name)
    ]
    prefixes = [prefix for prefix in prefixes if "decoder" not in prefix]
    if len(prefixes) != 1:
        found = f"several: {', '.join(prefixes)}" if prefixes else f"{first_few(state, 4)}"
        raise UsageError(
            f"{path}: expected one tensor {_FIRST_BLOCK!r}, prefixed or not, found {found}"
        )
    return {
        name.removeprefix(prefixes[0]): value
        for name, value in state.items()
        if name.startswith(prefixes[0])
    }


def converted(state: State, path: Path) -> tuple[State, tuple[str, ...]]:
    """The encoder's own names and shapes, and the names that belong to no encoder (decoder,
    mask token, head).
    """
    stem = _patch_stem(state, path)
    renamed = {f"{stem}.weight": _PATCH, f"{stem}.bias": "patch_embed.bias", **_POSITIONS}
    kept = {
        renamed.get(name, name): value
        for name, value in state.items()
        if name in renamed or _is_shared(name)
    }
    ignored = tuple(name for name in state if name not in renamed and not _is_shared(name))
    kept[_PATCH] = flat_patch(plain_tensor(path, f"{stem}.weight", kept[_PATCH]))
    for name in _POSITIONS.values():
        if name in kept and kept[name].ndim == 4:
            kept[name] = kept[name].squeeze(0)  # [1, 1, V, D] and [1, T, 1, D]
    return kept, ignored


def _is_shared(name: str) -> bool:
    """Blocks and the last norm have the same names in both."""
    return name.startswith(("blocks.", "norm."))


def _patch_stem(state: State, path: Path) -> str:
    """``joints_embed.proj``: the one 4-D weight called ``proj`` outside blocks and decoder."""
    found = [
        name.removesuffix(".weight")
        for name, value in state.items()
        if name.endswith(".proj.weight")
        and value.ndim == 4
        and not _is_shared(name)
        and "decoder" not in name
    ]
    if len(found) != 1:
        told = ", ".join(found) or f"none among {first_few(state, 4)}"
        raise UsageError(
            f"{path}: expected one 4-D tensor '*.proj.weight' (the patch embedding), found {told}"
        )
    return found[0]


def flat_patch(weight: Tensor) -> Tensor:
    """Convolution ``[D, 3, patch, 1]`` to linear ``[D, patch * 3]`` on patches
    that are flattened frame-major.
    """
    return weight.permute(0, 2, 3, 1).flatten(1)


# --- checking ---


def _checked(state: State, encoder: SkeletonEncoder, path: Path) -> State:
    """The tensors as float32: same names, same shapes, finite numbers;
    the first problem is a `UsageError`.
    """
    wanted = {name: list(value.shape) for name, value in encoder.state_dict().items()}
    flags = _flags_that_fit(state, encoder)
    step = f"the file fits {flags}" if flags else "see --encoder, --set and --joints"
    hint = (
        f"for {encoder.size.depth} blocks of width {encoder.width}, {encoder.grid.frames} frames"
        f" and {encoder.grid.joints} joints; {step}"
    )
    for name, shape in wanted.items():
        if name not in state:
            raise UsageError(
                f"{path}: {name}: expected shape {shape}, found no such tensor ({hint})"
            )
        if list(state[name].shape) != shape:
            raise UsageError(
                f"{path}: {name}: expected shape {shape}, found {list(state[name].shape)} ({hint})"
            )
    if more := [name for name in state if name not in wanted]:
        raise UsageError(f"{path}: {more[0]}: expected no such tensor {hint}")
    plain = {name: plain_tensor(path, name, value) for name, value in state.items()}
    for name, value in plain.items():
        if not value.isfinite().all():
            raise UsageError(
                f"{path}: {name}: expected finite numbers, found others; the file is damaged"
            )
    return plain


def _flags_that_fit(state: State, encoder: SkeletonEncoder) -> str:
    """The flags with which a file's tensors would fit; empty where no flags make them."""
    try:
        width, inputs = state[_PATCH].shape
        patch = inputs // 3
        times, joints = state["positions.time"].shape[0], state["positions.joint"].shape[1]
    except (KeyError, ValueError, IndexError):
        return ""
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    size = {"depth": depth, "width": width, "frames": times * patch, "patch": patch}
    if min(size.values()) < 1 or width % encoder.size.heads:
        return ""
    with torch.device("meta"):
        other = SkeletonEncoder(EncoderSize(heads=encoder.size.heads, **size), joints)
    if {name: value.shape for name, value in other.state_dict().items()} != {
        n: v.shape for n, v in state.items()
    }:
        return ""
    flags = [
        f"--set encoder.{name}={value}"
        for name, value in size.items()
        if getattr(encoder.size, name) != value
    ]
    return " ".join(flags + ([f"--joints {joints}"] if joints != encoder.grid.joints else []))


# --- probing ---


def _load_for(imported: Imported, data: DataSpec, device: torch.device) -> LoadedData:
    """The data set, centred as the encoder's was, if its skeleton fits the encoder."""
    grid, facts = imported.encoder.grid, imported.facts
    if facts.center is not None:
        data = data.model_copy(update={"center": facts.center})
    loaded = load_data(data, device, grid.patch)
    layout = loaded.clips.layout
    if layout.joint_count != grid.joints:
        raise UsageError(
            f"--dataset {data.name}: expected {grid.joints} joints as the encoder, found"
            f" {layout.joint_count}"
        )
    if facts.joint_names and facts.joint_names != layout.joints:
        differing = next(
            pair
            for pair in zip(facts.joint_names, layout.joints, strict=True)
            if pair[0] != pair[1]
        )
        raise UsageError(
            f"--dataset {data.name}: expected the joints of {facts.layout}, which the encoder was"
            f" trained on, found {differing[1]!r} where that has {differing[0]!r}; choose data of"
            " that skeleton"
        )
    return loaded


def _probe_beside_random(imported: Imported, data: LoadedData) -> dict[str, Accuracy]:
    """Accuracies of the imported encoder and of the same one untrained (seed 0),
    under the same probes.
    """
    size = EncoderSpec(**asdict(imported.encoder.size))
    spec = RunSpec(method=MethodSpec(name=RANDOM_INIT), encoder=size, data=data.spec)
    device = data.device
    untrained = build_encoder(spec, data.clips.layout, device)
    return {
        "imported": probe_encoder(imported.encoder.to(device), data, spec.probe),
        RANDOM_INIT: probe_encoder(untrained, data, spec.probe),
    }


def import_and_probe(
    path: Path,
    out: Path,
    asked: Mapping[str, str | int],
    joints: int | None,
    data: DataSpec | None,
    device: torch.device,
) -> tuple[Imported, dict[str, Accuracy]]:
    """Everything the command does; nothing is written unless the file and the data are good."""
    if path.resolve() == out.resolve():
        raise UsageError(f"--out {out}: expected another file than the one that is read")
    imported = import_encoder(path, asked, joints)
    loaded = _load_for(imported, data, device) if data else None
    write_weights(out, imported.encoder, to_metadata(imported.facts))
    return imported, _probe_beside_random(imported, loaded) if loaded else {}
