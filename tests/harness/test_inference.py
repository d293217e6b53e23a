"""Inference speed: forward passes of encoders by the rules of training speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.layouts import NTU25
from harness.records.schema import SpeedRecord
from harness.records.store import RecordStore, read_records
from harness.report.folder import folder_tables
from harness.spec.model import EncoderSpec, MethodSpec, RunSpec, TrainSpec
from harness.speed.flops import forward_flops
from harness.speed.forward import ForwardPass, encoder_of
from harness.training.build import Cell
from harness.training.clock import StepClock
from tests.harness.small_run import CPU, harness, small_data, small_file
from tests.methods.made_up import encoder

ENCODERS = "tiny,tiny:depth=1,skeletonmae-graph"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a measurement of three encoders."""
    folder = tmp_path_factory.mktemp("inference")
    outcome = inference(folder, "--encoders", ENCODERS, "--baseline", "tiny:depth=1")
    assert outcome.code == 0, outcome.err
    return folder / "out"


def inference(folder: Path, *words: Any) -> Any:
    data = (
        "--dataset",
        small_file(folder),
        "--out",
        folder / "out",
        "--speed-seconds",
        "1",
        "--batch-size",
        "4",
    )
    return harness("speed", "--what", "inference", *data, *words)


def record(out: Path) -> SpeedRecord:
    (found,) = RecordStore(out).speeds()
    return found


def test_forward_passes_of_all_encoders_are_interleaved(out: Path) -> None:
    found = record(out)
    assert found.rows == ["tiny", "tiny:depth=1", "skeletonmae-graph"]
    assert found.baseline == "tiny:depth=1 @ inference"
    assert {len(arm.blocks) for arm in found.arms} == {found.same.pairs}
    assert [list(arm.phases) for arm in found.arms] == [["forward"]] * 3
    assert found.floor >= 1


def test_every_row_says_which_encoder_it_is(out: Path) -> None:
    deep, shallow, graph = (arm.encoder for arm in record(out).arms)
    assert deep
    assert shallow
    assert graph
    assert deep.tokens == shallow.tokens
    assert len({deep.architecture, shallow.architecture, graph.architecture}) == 3
    assert deep.parameters - shallow.parameters == 3 * (
        12 * 64**2 + 13 * 64
    )  # three blocks of width 64


def test_the_table_has_a_row_each_and_no_training_columns(out: Path) -> None:
    written = (out / "inference.md").read_text()
    for row in ("| tiny |", "| tiny:depth=1 |", "| skeletonmae-graph |", "| 1 (baseline) |"):
        assert row in written
    assert "schedule h" not in written
    assert "GFLOP/clip: forward, two bodies" in written


def test_no_table_of_runs_shows_it_and_it_is_verified(out: Path) -> None:
    assert folder_tables(read_records(out)) == []
    assert harness("verify", out).code == 0


def test_asked_again_nothing_is_measured(out: Path) -> None:
    before = record(out)
    assert inference(out.parent, "--encoders", ENCODERS, "--baseline", "tiny:depth=1").code == 0
    assert record(out) == before


def test_the_baseline_may_be_spelt_in_any_way(out: Path) -> None:
    before, spelt = record(out), "tiny:patch=4,depth=1"  # whose patches are of 4 anyway
    again = inference(out.parent, "--encoders", ENCODERS, "--baseline", spelt)
    assert again.code == 0, again.err
    assert record(out) == before


def test_forward_flops_are_the_closed_form() -> None:
    # 8 blocks on 200 tokens of width 256, and their patches of 8 frames: 12 N d^2 + 2 N^2 d
    # multiply-adds a block
    macs = 8 * (12 * 200 * 256**2 + 2 * 200**2 * 256) + 200 * 8 * 3 * 256
    spec = RunSpec(
        method=MethodSpec(name="base"), encoder=EncoderSpec(size="base", frames=64, patch=8)
    )
    assert forward_flops(encoder_of(Cell("base", spec), NTU25, "meta"), NTU25) == pytest.approx(
        2 * macs, rel=1e-6
    )


def test_a_pass_sees_every_token_in_evaluation_mode_without_gradients(tmp_path: Path) -> None:
    data = small_data(tmp_path)
    seen: list[tuple[bool, bool, tuple[int, ...]]] = []
    built = encoder(joints=data.clips.layout.joint_count)
    spec = RunSpec(method=MethodSpec(name="tiny"), data=data.spec, train=TrainSpec(batch_size=4))
    forward = ForwardPass(built, data.batches(spec, built.grid.frames), spec.train)

    def note(module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        seen.append((module.training, output.requires_grad, tuple(output.shape)))

    built.register_forward_hook(note)
    clock = StepClock(CPU)
    forward.run_block(3, clock)
    assert seen == [(False, False, (4, built.grid.tokens, built.width))] * 3
    assert len(clock.steps) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--encoders", "tinny"),
            "unknown encoder 'tinny', did you mean 'tiny'? (sizes: base, small, tiny;",
        ),
        (
            ("--encoders", "tiny:dept=1"),
            "--encoders tiny:dept=1: unknown option 'dept', did you mean 'depth'?",
        ),
        (
            ("--encoders", "tiny:patch=7"),
            "encoder: 72 frames are not a multiple of the patch of 7 frames",
        ),
        (("--encoders", "gfp"), "unknown encoder 'gfp'"),
        (
            ("--encoders", "tiny", "--baseline", "base"),
            "--baseline 'base': expected one of the encoders (tiny)",
        ),
        (
            ("--encoders", "tiny", "--baseline", "tiny,small"),
            "--baseline 'tiny,small': expected one of the encoders (tiny)",
        ),
        (
            ("--methods", "gfp"),
            "--what inference times encoders: expected --encoders, found --methods",
        ),
        (
            ("--what", "infernce"),
            "--what 'infernce': expected one of training, inference, did you mean 'inference'?",
        ),
        (("--set", "train.compile=true"), "forward passes are timed uncompiled"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    outcome = inference(tmp_path, *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


def test_encoders_of_training_are_a_mistake(tmp_path: Path) -> None:
    outcome = harness("speed", "--encoders", "tiny", "--out", tmp_path / "out")
    assert (outcome.code, "--encoders: expected with --what inference" in outcome.err) == (2, True)
