"""`import-encoder`: the same outputs from the same weights,
and one line for every file that is not what it says.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from harness.encoders.facts import facts_of, to_metadata
from harness.encoders.importing import flat_patch, import_encoder
from harness.records.store import write_weights
from harness.spec.model import DataSpec, MethodSpec, RunSpec
from methods.parts.encoder import SIZES, SkeletonEncoder
from methods.parts.tokens import patchify
from tests.harness.small_run import ONE_STEP, Outcome, harness, small_clips, small_file

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
    decoder = {
        f"decoder_{name}": value
        for name, value in state.items()
        if name.startswith(("blocks.0.", "norm."))
    }
    return {
        **state,
        **decoder,
        "mask_token": torch.zeros(1, 1, 1, TINY.width),
        "decoder_pred.bias": torch.zeros(12),
    }


def stored(folder: Path, checkpoint: object) -> Path:
    path = folder / "checkpoint.pth"
    torch.save(checkpoint, path)
    return path


def imported(path: Path, out: Path, *more: str | Path) -> Outcome:
    return harness(
        "import-encoder", path, "--out", out, "--encoder", "tiny", "--joints", str(JOINTS), *more
    )


# --- what is read ---

WRAPPINGS: dict[str, Callable[[dict[str, Tensor]], Checkpoint]] = {
    "plain": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 400},
    "state_dict": lambda state: {"state_dict": state},
    "arguments beside it": lambda state: {"model": state, "args": argparse.Namespace(lr=1e-3)},
    "module": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "whole model": lambda state: (
        {f"module.encoder.{name}": value for name, value in state.items()}
        | {
            "module.decoder.blocks.0.norm1.weight": torch.zeros(3),
            "module.head.weight": torch.zeros(2, 2),
        }
    ),
    "another patch embedding": lambda state: {
        name.replace("joints_embed", "stem"): v for name, v in state.items()
    },
    "half precision": lambda state: {name: value.half() for name, value in state.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_imported_encoder_computes_exactly_the_same(wrapping: str, tmp_path: Path) -> None:
    encoder = trained_encoder()
    if wrapping == "half precision":
        encoder.half().float()
    path = stored(tmp_path, WRAPPINGS[wrapping](mamp_state(encoder)))
    found = import_encoder(path, {"size": "tiny"}, JOINTS).encoder.eval()
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
    assumed, first, second = found.out.splitlines()
    assert assumed.startswith(
        "assumed: 2 attention heads, as in --encoder tiny; weights do not tell, --set"
        " encoder.heads="
    )
    assert first == f"wrote {out}: {encoder.parameter_count:,} parameters, 90 tokens"
    assert second.startswith("left out, not part of the encoder: 16 tensors (")
    written = safetensors.torch.load_file(out)
    assert written.keys() == encoder.state_dict().keys()
    assert all(torch.equal(written[name], value) for name, value in encoder.state_dict().items())


def test_with_data_it_is_probed_beside_the_untrained_one(tmp_path: Path) -> None:
    path = stored(tmp_path, mamp_state(trained_encoder()))
    found = imported(
        path, tmp_path / "encoder.safetensors", "--dataset", small_file(tmp_path), "--split", "xsub"
    )
    assert (found.code, found.err) == (0, "")
    rows = [re.split(" {2,}", line) for line in found.out.splitlines()[-3:]]
    assert [row[0] for row in rows] == ["encoder", "imported", "random-init"]
    assert all(re.fullmatch(r"\d+\.\d%", cell) for row in rows[1:] for cell in row[1:])


# --- what weights do not tell ---


def args_with(heads: int) -> argparse.Namespace:
    """As MAMP's scripts store them."""
    return argparse.Namespace(
        lr=1e-3, model_args={"num_heads": heads, "decoder_num_heads": 16, "depth": 4}
    )


def test_heads_that_the_file_names_are_taken_or_refused(tmp_path: Path) -> None:
    path = stored(tmp_path, {"model": mamp_state(trained_encoder()), "args": args_with(4)})
    found = imported(path, tmp_path / "encoder.safetensors")
    assert found.code == 2
    assert (
        found.err
        == f"error: {path}: heads: expected 4, as the file's args.model_args.num_heads says, found"
        " 2 in the encoder asked for; --set encoder.heads=4\n"
    )
    assert not (tmp_path / "encoder.safetensors").exists()
    found = imported(path, tmp_path / "encoder.safetensors", "--set", "encoder.heads=4")
    assert (found.code, found.err) == (0, "")
    assert "assumed" not in found.out
    assert import_encoder(tmp_path / "encoder.safetensors").encoder.size == replace(TINY, heads=4)


def test_another_size_is_refused_with_the_flags_that_fit(tmp_path: Path) -> None:
    size = replace(TINY, frames=36, patch=3, depth=2)
    state = SkeletonEncoder(size, 7).state_dict()
    state["joints_embed.proj.weight"] = (
        state.pop("patch_embed.weight").unflatten(1, (3, 3)).permute(0, 2, 1)[..., None]
    )
    state["joints_embed.proj.bias"] = state.pop("patch_embed.bias")
    state["pos_embed"], state["temp_embed"] = (
        state.pop("positions.joint"),
        state.pop("positions.time"),
    )
    path = stored(tmp_path, state)
    found = imported(path, tmp_path / "encoder.safetensors")
    flags = "--set encoder.depth=2 --set encoder.frames=36 --set encoder.patch=3 --joints 7"
    assert f"the file fits {flags})" in found.err
    harness_flags = flags.replace(" --joints 7", "").split()
    fitting = harness(
        "import-encoder",
        path,
        "--out",
        tmp_path / "e.safetensors",
        "--encoder",
        "tiny",
        "--joints",
        "7",
        *harness_flags,
    )
    assert (fitting.code, fitting.err) == (0, "")


def own_file(folder: Path, **changes: object) -> Path:
    """An encoder as a run leaves it."""
    clips = small_clips()
    encoder = SkeletonEncoder(TINY, clips.layout.joint_count)
    spec = RunSpec(method=MethodSpec(name="gfp"), data=DataSpec(center=False))
    facts = facts_of(encoder, clips.layout, spec).model_copy(update=changes)
    write_weights(folder / "own.safetensors", encoder, to_metadata(facts))
    return folder / "own.safetensors"


def test_the_suite_s_own_file_needs_no_flags(tmp_path: Path) -> None:
    path = own_file(tmp_path)
    found = import_encoder(path)
    assert (found.encoder.size, found.notes, found.ignored) == (TINY, (), ())
    assert (found.facts.method, found.facts.center, found.facts.crop) == ("gfp", False, (0.5, 1.0))
    assert found.facts.joint_names == small_clips().layout.joints
    own = safetensors.torch.load_file(path)
    assert all(torch.equal(own[name], value) for name, value in found.encoder.state_dict().items())
    again = harness(
        "import-encoder",
        path,
        "--out",
        tmp_path / "again.safetensors",
        "--dataset",
        small_file(tmp_path),
    )
    assert (again.code, again.err) == (0, "")
    assert import_encoder(tmp_path / "again.safetensors").facts == found.facts


def test_a_run_s_encoder_is_imported_as_it_is(tmp_path: Path) -> None:
    data = small_file(tmp_path)
    ran = harness(*ONE_STEP, "--dataset", data, "--out", tmp_path / "runs")
    assert (ran.code, ran.err) == (0, "")
    (path,) = (tmp_path / "runs").glob("*/encoder.safetensors")
    found = harness("import-encoder", path, "--out", tmp_path / "e.safetensors", "--dataset", data)
    assert (found.code, found.err) == (0, "")
    assert import_encoder(path).encoder.size.heads == 1


@pytest.mark.parametrize(
    ("changes", "flags", "expected"),
    [
        (
            {},
            ["--encoder", "small"],
            "expected what the file says of itself (depth 4, width 64, heads 2, frames 72, patch",
        ),
        ({}, ["--joints", "9"], "found another; leave --encoder, --set and --joints out"),
        (
            {"encoder": "GraphEncoder"},
            [],
            "expected a shared encoder, found an encoder of class GraphEncoder, not the",
        ),
        ({"size": {"depth": 4}}, [], "expected a shared encoder, found a size of {'depth': 4}"),
        (
            {"version": 7},
            [],
            "not a safetensors file that can be read (version: Input should be 1)",
        ),
        ({"joint_names": tuple("abcde")}, ["--dataset"], "expected the joints of "),
    ],
)
def test_what_contradicts_the_file_s_metadata_is_refused(
    changes: dict[str, object], flags: list[str], expected: str, tmp_path: Path
) -> None:
    path = own_file(tmp_path, **changes)
    words = [*flags, str(small_file(tmp_path))] if flags == ["--dataset"] else flags
    found = harness("import-encoder", path, "--out", tmp_path / "e.safetensors", *words)
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert expected in found.err
    assert not (tmp_path / "e.safetensors").exists()


def test_numbers_of_numpy_beside_the_weights_are_read(tmp_path: Path) -> None:
    encoder = trained_encoder()
    beside = {
        "best": np.float64(0.8),
        "epoch": np.int64(3),
        "single": np.float32(1),
        "flag": np.bool_(True),
        "curve": np.linspace(0, 1, 5),
        "names": np.array(["a"]),
    }
    path = stored(tmp_path, {"model": mamp_state(encoder), **beside})
    x = torch.randn(1, TINY.frames, JOINTS, 3)
    assert torch.equal(import_encoder(path, {"size": "tiny"}, JOINTS).encoder.eval()(x), encoder(x))


# --- what is refused ---


ODD_TENSORS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sparse": (lambda value: value.to_sparse(), "a sparse one"),
    "meta": (lambda value: value.to("meta"), "one without its numbers (meta)"),
    "quantised": (
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        "a quantised one",
    ),
    "complex": (lambda value: value.to(torch.complex64), "complex numbers"),
    "whole numbers": (lambda value: value.to(torch.int32), "int32"),
}


@pytest.mark.parametrize("kind", ODD_TENSORS)
@pytest.mark.filterwarnings("ignore:.*quantize.*")
@pytest.mark.filterwarnings("ignore:.*TypedStorage.*")
def test_tensors_that_are_no_plain_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    change, told = ODD_TENSORS[kind]
    state = mamp_state(trained_encoder())
    for name in ("norm.weight", "joints_embed.proj.weight"):
        path = stored(tmp_path, {**state, name: change(state[name])})
        found = imported(path, tmp_path / "encoder.safetensors")
        assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
        assert (
            f"{name}: expected a dense tensor of real numbers, found {told}; store it as float32"
            in found.err
        )


def test_a_tensor_that_stands_for_its_negative_is_read_as_what_it_is(tmp_path: Path) -> None:
    encoder = trained_encoder()
    state = mamp_state(encoder)
    state["norm.weight"] = torch._neg_view(-state["norm.weight"])
    found = import_encoder(stored(tmp_path, state), {"size": "tiny"}, JOINTS).encoder
    assert torch.equal(found.norm.weight, encoder.norm.weight)


def test_a_tensor_of_few_bytes_that_says_it_is_huge_takes_no_memory(tmp_path: Path) -> None:
    state = mamp_state(trained_encoder()) | {"norm.weight": torch.zeros(1).expand(10**12)}
    found = imported(stored(tmp_path, state), tmp_path / "encoder.safetensors")
    assert "norm.weight: expected shape [64], found [1000000000000]" in found.err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"<!DOCTYPE html><html><body>Quota exceeded</body></html>",
            "a web page, as a download leaves that asks first",
        ),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x00" * 5000, "a file of zeros"),
    ],
)
def test_a_download_that_is_not_the_thing_is_named(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(content)
    found = imported(path, tmp_path / "encoder.safetensors")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert found.err.startswith(f"error: {path}: not a checkpoint: found {told}")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_torchscript_is_named_and_no_advice_of_a_library_given(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    found = imported(path, tmp_path / "encoder.safetensors")
    assert (
        found.err
        == f"error: {path}: not a checkpoint: found a TorchScript archive, which holds code; store"
        " it again with torch.save(model.state_dict(), file)\n"
    )


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    found = imported(tmp_path, tmp_path / "encoder.safetensors")
    assert (
        found.err
        == f"error: {tmp_path}: expected a checkpoint, found a folder; name the file in it\n"
    )


@pytest.mark.parametrize("damage", [8, 40, -10])
def test_a_damaged_safetensors_file_is_one_line(damage: int, tmp_path: Path) -> None:
    path = own_file(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:damage] if damage < 0 else data[:damage] + b"\xff" + data[damage + 1 :])
    found = harness("import-encoder", path, "--out", tmp_path / "e.safetensors")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)


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
    [
        (torch.save, "refused: reading it would run code ("),
        (plain_pickle, "not a checkpoint of tensors only ("),
    ],
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
    """The state with these tensors in it, or without those that are None;
    ``__`` stands for a dot.
    """
    named = {name.replace("__", "."): value for name, value in tensors.items()}

    def change(state: dict[str, Tensor]) -> object:
        return {name: value for name, value in {**state, **named}.items() if value is not None}

    return change


BAD: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "qkv of another width": (
        changed(blocks__1__attn__qkv__weight=torch.zeros(9, 3)),
        (
            "blocks.1.attn.qkv.weight: expected shape [192, 64], found [9, 3] (for 4 blocks of"
            " width 64, 72 frames and 5 joints; see --encoder, --set and --joints)"
        ),
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
    "a block too many": (
        changed(blocks__4__norm1__weight=torch.zeros(64)),
        "blocks.4.norm1.weight: expected no such",
    ),
    "a norm missing": (
        changed(norm__bias=None),
        "norm.bias: expected shape [64], found no such tensor",
    ),
    "no patch embedding": (
        changed(joints_embed__proj__weight=None),
        "expected one 4-D tensor '*.proj.weight'",
    ),
    "two patch embeddings": (
        changed(bones_embed__proj__weight=torch.zeros(64, 3, 4, 1)),
        "(the patch embedding), found joints_embed.proj, bones_embed.proj",
    ),
    "numbers that are none": (
        changed(norm__weight=torch.full((64,), torch.nan)),
        "norm.weight: expected finite",
    ),
    "no blocks": (
        lambda state: {"fc.weight": torch.zeros(2)},
        "'blocks.0.norm1.weight', prefixed or not, found fc.we",
    ),
    "two encoders": (
        lambda state: {
            f"{who}.{name}": value
            for name, value in state.items()
            for who in ("student", "teacher")
        },
        "found several: student., teacher.",
    ),
    "no tensors": (
        lambda state: {"epoch": 3},
        "expected a state dict, plain or under 'model' or 'state_dict', found",
    ),
    "a tensor alone": (lambda state: torch.zeros(2), "found Tensor"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_does_not_fit_is_one_line_and_writes_nothing(name: str, tmp_path: Path) -> None:
    change, expected = BAD[name]
    path = stored(tmp_path, change(mamp_state(trained_encoder())))
    found = imported(path, tmp_path / "out" / "encoder.safetensors")
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert found.err.startswith(f"error: {path}: ")
    assert expected in found.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", b"PK\x03\x04 torn", b"\x80\x02}q\x00."[:4]]
)
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
        (
            ("--dataset", "synthetic"),
            "--dataset synthetic: expected 5 joints as the encoder, found 25",
        ),
    ],
)
def test_a_request_that_cannot_be_done_is_one_line_and_writes_nothing(
    words: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    found = imported(
        stored(tmp_path, mamp_state(trained_encoder())), tmp_path / "encoder.safetensors", *words
    )
    assert (found.code, found.out, found.err.count("\n")) == (2, "", 1)
    assert expected in found.err
    assert not (tmp_path / "encoder.safetensors").exists()


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    found = imported(tmp_path / "nowhere.pth", tmp_path / "encoder.safetensors")
    assert found.err == f"error: {tmp_path / 'nowhere.pth'}: no such file; check the path\n"


def test_the_file_that_is_read_is_never_written_over(tmp_path: Path) -> None:
    path = stored(tmp_path, mamp_state(trained_encoder()))
    before = path.read_bytes()
    assert imported(path, path).code == 2
    assert path.read_bytes() == before
