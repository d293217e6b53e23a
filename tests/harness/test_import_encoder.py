"""`import-encoder`: the same outputs from the same weights, and one line for every file that is not what it says."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from harness.import_encoder import flat_patch, import_encoder
from methods.parts.encoder import SIZES, SkeletonEncoder
from methods.parts.tokens import patchify
from tests.harness.small_run import Outcome, harness, small_file

TINY = SIZES["tiny"]
JOINTS = 5
Checkpoint = dict[str, Any]


def trained_encoder() -> SkeletonEncoder:
    """Every parameter random, norms and biases too."""
    encoder = SkeletonEncoder(TINY, JOINTS)
    random = torch.Generator().manual_seed(0)
    for parameter in encoder.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=random)
    return encoder.eval()


def mamp_state(encoder: SkeletonEncoder) -> dict[str, Tensor]:
    """Its weights under MAMP's names and in MAMP's shapes, a decoder beside them."""
    state = dict(encoder.state_dict())
    patch = state.pop("patch_embed.weight").unflatten(1, (TINY.patch, 3))
    state["joints_embed.proj.weight"] = patch.permute(0, 2, 1).unsqueeze(-1).contiguous()
    state["joints_embed.proj.bias"] = state.pop("patch_embed.bias")
    state["pos_embed"] = state.pop("positions.joint")[None]
    state["temp_embed"] = state.pop("positions.time")[None]
    decoder = {f"decoder_{name}": value for name, value in state.items() if name.startswith(("blocks.0.", "norm."))}
    return {**state, **decoder, "mask_token": torch.zeros(1, 1, 1, TINY.width), "decoder_pred.bias": torch.zeros(12)}


def stored(folder: Path, checkpoint: object) -> Path:
    path = folder / "checkpoint.pth"
    torch.save(checkpoint, path)
    return path


def imported(path: Path, out: Path, *more: str | Path) -> Outcome:
    return harness("import-encoder", path, "--out", out, "--encoder", "tiny", "--joints", str(JOINTS), *more)


# --- what is read ---

WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Checkpoint]] = {
    "plain": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 400},
    "state_dict": lambda state: {"state_dict": state},
    "arguments beside it": lambda state: {"model": state, "args": argparse.Namespace(lr=1e-3)},
    "module": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "whole model": lambda state: {f"module.encoder.{name}": value for name, value in state.items()}
    | {"module.decoder.blocks.0.norm1.weight": torch.zeros(3), "module.head.weight": torch.zeros(2, 2)},
    "another patch embedding": lambda state: {name.replace("joints_embed", "stem"): v for name, v in state.items()},
    "half precision": lambda state: {name: value.half() for name, value in state.items()},
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_imported_encoder_computes_exactly_the_same(wrapping: str, tmp_path: Path) -> None:
    encoder = trained_encoder()
    if wrapping == "half precision":
        encoder.half().float()
    path = stored(tmp_path, WRAPPINGS[wrapping](mamp_state(encoder)))
    found = import_encoder(path, TINY, JOINTS).encoder.eval()
    x = torch.randn(2, TINY.frames, JOINTS, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(found(x), encoder(x))


def test_a_convolutions_weight_becomes_the_same_linear_layer() -> None:
    convolution = nn.Conv2d(3, 8, kernel_size=(4, 1), stride=(4, 1), bias=False)
    x = torch.randn(2, 12, JOINTS, 3)
    expected = convolution(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
    found = patchify(x, 4) @ flat_patch(convolution.weight).T
    torch.testing.assert_close(found, expected)


def test_the_command_writes_the_weights_and_says_what_they_are(tmp_path: Path) -> None:
    encoder = trained_encoder()
    out = tmp_path / "weights" / "encoder.safetensors"
    found = imported(stored(tmp_path, mamp_state(encoder)), out)
    assert (found.code, found.err) == (0, "")
    first, second = found.out.splitlines()
    assert first == f"wrote {out}: {encoder.parameter_count:,} parameters, 90 tokens"
    assert second.startswith("left out, not part of the encoder: 16 tensors (")
    written = safetensors.torch.load_file(out)
    assert written.keys() == encoder.state_dict().keys()
    assert all(torch.equal(written[name], value) for name, value in encoder.state_dict().items())


def test_with_data_it_is_probed_beside_the_untrained_one(tmp_path: Path) -> None:
    path = stored(tmp_path, mamp_state(trained_encoder()))
    found = imported(path, tmp_path / "encoder.safetensors", "--dataset", small_file(tmp_path), "--split", "xsub")
    assert (found.code, found.err) == (0, "")
    rows = [re.split(" {2,}", line) for line in found.out.splitlines()[-3:]]
    assert [row[0] for row in rows] == ["encoder", "imported", "random-init"]
    assert all(re.fullmatch(r"\d+\.\d%", cell) for row in rows[1:] for cell in row[1:])


# --- what is refused ---


class Malicious:
    """Would write a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def plain_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize(
    ("save", "expected"),
    [(torch.save, "refused: reading it would run code ("), (plain_pickle, "not a checkpoint of tensors only (")],
)
def test_a_pickle_that_runs_code_is_refused_and_runs_none(
    save: Callable[[object, Path], None], expected: str, tmp_path: Path
) -> None:
    path, trap = tmp_path / "checkpoint.pth", tmp_path / "sprung"
    save({"model": mamp_state(trained_encoder()), "trap": Malicious(trap)}, path)
    found = imported(path, tmp_path / "encoder.safetensors")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert found.err.startswith(f"error: {path}: {expected}")
    assert "torch.save(model.state_dict(), file)" in found.err
    assert not trap.exists()
    assert not (tmp_path / "encoder.safetensors").exists()


def changed(**tensors: Tensor | None) -> Callable[[dict[str, Tensor]], object]:
    """The state with these tensors in it, or without those that are None; ``__`` stands for a dot."""
    named = {name.replace("__", "."): value for name, value in tensors.items()}

    def change(state: dict[str, Tensor]) -> object:
        return {name: value for name, value in {**state, **named}.items() if value is not None}

    return change


BAD: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "qkv of another width": (
        changed(blocks__1__attn__qkv__weight=torch.zeros(9, 3)),
        "blocks.1.attn.qkv.weight: expected shape [192, 64], found [9, 3] (for 4 blocks of width 64, 72 frames and "
        "5 joints; see --encoder and --joints)",
    ),
    "positions of other joints": (
        changed(pos_embed=torch.zeros(1, 1, 25, 64)),
        "positions.joint: expected shape [1, 5, 64], found [1, 25, 64]",
    ),
    "positions of other frames": (
        changed(temp_embed=torch.zeros(1, 30, 1, 64)),
        "positions.time: expected shape [18, 1, 64], found [30, 1, 64]",
    ),
    "another patch": (
        changed(joints_embed__proj__weight=torch.zeros(64, 3, 2, 1)),
        "patch_embed.weight: expected shape [64, 12], found [64, 6]",
    ),
    "a block too many": (changed(blocks__4__norm1__weight=torch.zeros(64)), "blocks.4.norm1.weight: expected no such"),
    "a norm missing": (changed(norm__bias=None), "norm.bias: expected shape [64], found no such tensor"),
    "no patch embedding": (changed(joints_embed__proj__weight=None), "expected one 4-D tensor '*.proj.weight'"),
    "two patch embeddings": (
        changed(bones_embed__proj__weight=torch.zeros(64, 3, 4, 1)),
        "(the patch embedding), found joints_embed.proj, bones_embed.proj",
    ),
    "numbers that are none": (changed(norm__weight=torch.full((64,), torch.nan)), "norm.weight: expected finite"),
    "no blocks": (lambda state: {"fc.weight": torch.zeros(2)}, "'blocks.0.norm1.weight', prefixed or not, found fc.we"),
    "two encoders": (
        lambda state: {f"{who}.{name}": value for name, value in state.items() for who in ("student", "teacher")},
        "found several: student., teacher.",
    ),
    "no tensors": (lambda state: {"epoch": 3}, "expected a state dict, plain or under 'model' or 'state_dict', found"),
    "a tensor alone": (lambda state: torch.zeros(2), "found Tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_does_not_fit_is_one_line_and_writes_nothing(name: str, tmp_path: Path) -> None:
    change, expected = BAD[name]
    path = stored(tmp_path, change(mamp_state(trained_encoder())))
    found = imported(path, tmp_path / "out" / "encoder.safetensors")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert found.err.startswith(f"error: {path}: ")
    assert expected in found.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn", b"\x80\x02}q\x00."[:4]])
def test_a_file_that_is_no_checkpoint_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    found = imported(path, tmp_path / "encoder.safetensors")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert "not a checkpoint" in found.err


def test_a_torn_checkpoint_is_one_line(tmp_path: Path) -> None:
    path = stored(tmp_path, mamp_state(trained_encoder()))
    path.write_bytes(path.read_bytes()[:-5000])
    found = imported(path, tmp_path / "encoder.safetensors")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--encoder", "tinny"), "unknown encoder 'tinny', did you mean 'tiny'?"),
        (("--split", "xsub"), "expected a --dataset to probe on"),
        (("--dataset", "synthetics"), "unknown data set 'synthetics'"),
        (("--dataset", "synthetic"), "--dataset synthetic: expected 5 joints as the encoder, found 25"),
    ],
)
def test_a_request_that_cannot_be_done_is_one_line_and_writes_nothing(
    words: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    found = imported(stored(tmp_path, mamp_state(trained_encoder())), tmp_path / "encoder.safetensors", *words)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert expected in found.err
    assert not (tmp_path / "encoder.safetensors").exists()


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    found = imported(tmp_path / "nowhere.pth", tmp_path / "encoder.safetensors")
    assert found.err == f"error: {tmp_path / 'nowhere.pth'}: no such file\n"


def test_the_file_that_is_read_is_never_written_over(tmp_path: Path) -> None:
    path = stored(tmp_path, mamp_state(trained_encoder()))
    before = path.read_bytes()
    assert imported(path, path).code == 2
    assert path.read_bytes() == before
