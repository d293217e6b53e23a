"""`harness import-encoder FILE`: released MAMP-style weights as an encoder of this suite, to be probed by it.

MAMP's encoder (arXiv 2308.07092, released code) and `methods.parts.encoder.SkeletonEncoder` compute the same; its
blocks carry the same names. Renamed are the patch embedding, a convolution over (frames, joints) there, and the
positions. Files are read with ``torch.load(weights_only=True)``, which runs no code of theirs.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.cell import probe_encoder
from harness.data import LoadedData, load_data
from harness.errors import UsageError, first_few
from harness.probes import Accuracy
from harness.records import RANDOM_INIT, write_weights
from harness.spec import DataSpec, EncoderSpec, MethodSpec, RunSpec
from harness.training import build_encoder, encoder_size
from methods.parts.encoder import EncoderSize, SkeletonEncoder

State = dict[str, Tensor]

FIRST_BLOCK = "blocks.0.norm1.weight"
STORE = "torch.save(model.state_dict(), file)"
POSITIONS = {"pos_embed": "positions.joint", "temp_embed": "positions.time"}


@dataclass(frozen=True)
class Imported:
    """An encoder from a file, and the names of what was left there."""

    encoder: SkeletonEncoder
    ignored: tuple[str, ...]


def import_encoder(path: Path, size: EncoderSize, joints: int) -> Imported:
    """The encoder of that size with the file's weights; every mismatch is a `UsageError` with the tensor's name."""
    state, ignored = converted(encoder_part(read_checkpoint(path), path), path)
    with torch.device("meta"):
        encoder = SkeletonEncoder(size, joints)
    check_state(state, encoder, path)
    encoder.load_state_dict(state, assign=True)
    return Imported(encoder, ignored)


# --- reading ---


def read_checkpoint(path: Path) -> State:
    """All tensors of a checkpoint by name: a plain state dict, or one under ``model`` or ``state_dict``."""
    content = unpickled(path)
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    state = {name: value for name, value in content.items() if isinstance(value, Tensor)} if is_named(content) else {}
    if not state:
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise UsageError(f"{path}: expected a state dict, plain or under 'model' or 'state_dict', found {found}")
    return state


def is_named(content: object) -> bool:
    """A dict whose keys are names."""
    return isinstance(content, dict) and all(isinstance(name, str) for name in content)


def unpickled(path: Path) -> Any:
    """The file's content; code in it is refused, never run."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        # MAE's scripts, MAMP's among them, store their arguments beside the weights; a Namespace holds values only.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the file's format
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(f"{path}: {refusal(str(error))}; store it again with {STORE}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise UsageError(f"{path}: not a checkpoint that torch can read ({first_line(error)})") from None


def refusal(message: str) -> str:
    """Why a pickle was not read, from torch's long message: it names something to call, or is no such pickle."""
    if wanted := re.search(r"GLOBAL ([\w.]+)", message):
        return f"refused: reading it would run code ({wanted[1]}), and only tensors are read"
    detail = re.search(r"WeightsUnpickler error:\s*(.+)", message)
    return f"not a checkpoint of tensors only ({detail[1] if detail else 'damaged'})"


def first_line(error: Exception) -> str:
    """An error's first line, or its type."""
    return next(iter(str(error).splitlines()), type(error).__name__)


# --- names ---


def encoder_part(state: State, path: Path) -> State:
    """The tensors beside the encoder's first block, without the prefix of wrappers such as ``module.``."""
    prefixes = [name.removesuffix(FIRST_BLOCK) for name in state if re.search(rf"(^|\.){FIRST_BLOCK}$", name)]
    prefixes = [prefix for prefix in prefixes if "decoder" not in prefix]
    if len(prefixes) != 1:
        found = f"several: {', '.join(prefixes)}" if prefixes else f"{first_few(state, 4)}"
        raise UsageError(f"{path}: expected one tensor {FIRST_BLOCK!r}, prefixed or not, found {found}")
    return {name.removeprefix(prefixes[0]): value for name, value in state.items() if name.startswith(prefixes[0])}


def converted(state: State, path: Path) -> tuple[State, tuple[str, ...]]:
    """The encoder's own names and shapes, and the names that belong to no encoder (decoder, mask token, head)."""
    stem = patch_stem(state, path)
    renamed = {f"{stem}.weight": "patch_embed.weight", f"{stem}.bias": "patch_embed.bias", **POSITIONS}
    kept = {renamed.get(name, name): value for name, value in state.items() if name in renamed or is_shared(name)}
    ignored = tuple(name for name in state if name not in renamed and not is_shared(name))
    kept["patch_embed.weight"] = flat_patch(kept["patch_embed.weight"])
    for name in POSITIONS.values():
        if name in kept and kept[name].ndim == 4:
            kept[name] = kept[name].squeeze(0)  # [1, 1, V, D] and [1, T, 1, D]
    return {name: value.float().contiguous() for name, value in kept.items()}, ignored


def is_shared(name: str) -> bool:
    """Blocks and the last norm have the same names in both."""
    return name.startswith(("blocks.", "norm."))


def patch_stem(state: State, path: Path) -> str:
    """``joints_embed.proj``: the one 4-D weight called ``proj`` outside blocks and decoder."""
    found = [
        name.removesuffix(".weight") for name, value in state.items()
        if name.endswith(".proj.weight") and value.ndim == 4 and not is_shared(name) and "decoder" not in name
    ]  # fmt: skip
    if len(found) != 1:
        told = ", ".join(found) or f"none among {first_few(state, 4)}"
        raise UsageError(f"{path}: expected one 4-D tensor '*.proj.weight' (the patch embedding), found {told}")
    return found[0]


def flat_patch(weight: Tensor) -> Tensor:
    """Convolution ``[D, 3, patch, 1]`` to linear ``[D, patch * 3]`` on patches that are flattened frame-major."""
    return weight.permute(0, 2, 3, 1).flatten(1)


# --- checking ---


def check_state(state: State, encoder: SkeletonEncoder, path: Path) -> None:
    """Same names, same shapes, finite numbers; the first problem is a `UsageError`."""
    wanted = {name: list(value.shape) for name, value in encoder.state_dict().items()}
    hint = f"for {encoder.size.depth} blocks of width {encoder.width}, {encoder.grid.frames} frames and " \
           f"{encoder.grid.joints} joints; see --encoder and --joints"  # fmt: skip
    for name, shape in wanted.items():
        if name not in state:
            raise UsageError(f"{path}: {name}: expected shape {shape}, found no such tensor ({hint})")
        if list(state[name].shape) != shape:
            raise UsageError(f"{path}: {name}: expected shape {shape}, found {list(state[name].shape)} ({hint})")
        if not state[name].isfinite().all():
            raise UsageError(f"{path}: {name}: expected finite numbers, found others; the file is damaged")
    if more := [name for name in state if name not in wanted]:
        raise UsageError(f"{path}: {more[0]}: expected no such tensor {hint}")


# --- probing ---


def load_for(encoder: SkeletonEncoder, data: DataSpec, device: torch.device) -> LoadedData:
    """The data set, if its skeleton fits the encoder."""
    loaded = load_data(data, device, encoder.grid.patch)
    found = loaded.clips.layout.joint_count
    if found != encoder.grid.joints:
        raise UsageError(f"--dataset {data.name}: expected {encoder.grid.joints} joints as the encoder, found {found}")
    return loaded


def probe_beside_random(encoder: SkeletonEncoder, size: EncoderSpec, data: LoadedData) -> dict[str, Accuracy]:
    """Accuracies of the imported encoder and of the same one untrained (seed 0), under the same probes."""
    spec = RunSpec(method=MethodSpec(name=RANDOM_INIT), encoder=size, data=data.spec)
    device = data.source.device
    untrained = build_encoder(spec, data.clips.layout, device)
    return {
        "imported": probe_encoder(encoder.to(device), data, spec.probe),
        RANDOM_INIT: probe_encoder(untrained, data, spec.probe),
    }


def import_and_probe(
    path: Path, out: Path, size: EncoderSpec, joints: int, data: DataSpec | None, device: torch.device
) -> tuple[Imported, dict[str, Accuracy]]:
    """Everything the command does; nothing is written unless the file and the data are good."""
    if path.resolve() == out.resolve():
        raise UsageError(f"--out {out}: expected another file than the one that is read")
    imported = import_encoder(path, encoder_size(size), joints)
    loaded = load_for(imported.encoder, data, device) if data else None
    write_weights(out, imported.encoder)
    return imported, probe_beside_random(imported.encoder, size, loaded) if loaded else {}
