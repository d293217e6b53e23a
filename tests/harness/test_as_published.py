"""The comparison with MAMP's released step: without the released code it says so; with it, models
and feeders agree.

The latter need a copy of maoyunyao/MAMP, named by the environment variable MASKED_SKELETON_MAMP.
Nothing is timed here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from datasets.batches import Augmentation
from datasets.published_feeder import PublishedClips
from harness.machine import ROOT
from harness.training.clock import StepClock
from methods.mamp import MAMP, MAMPOptions
from methods.parts.encoder import SIZES, SkeletonEncoder

SCRIPT = ROOT / "benchmarks" / "as_published.py"
FOLDER = os.environ.get("MASKED_SKELETON_MAMP", "")
with_released_code = pytest.mark.skipif(
    not FOLDER, reason="MASKED_SKELETON_MAMP names no copy of maoyunyao/MAMP"
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("as_published", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["as_published"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", [None, "empty"])
def test_without_the_released_code_one_line_says_what_is_needed(
    folder: str | None,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [] if folder is None else ["--mamp", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    assert script.main() == 2
    out, err = capsys.readouterr()
    assert out.startswith(
        "as_published: expected --mamp FOLDER with a copy of maoyunyao/MAMP, found no "
    )
    assert out.endswith("; nothing was timed\n")
    assert (out.count("\n"), err) == (1, "")


def test_a_stream_times_the_steps_after_the_lead(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, now = StepClock(torch.device("cpu")), 0.0
    monkeypatch.setattr(clock, "_now", lambda: now)
    stream = script.Stream(loader=iter(range(9)), lead=2, steps=3, clock=clock)
    assert len(stream) == 5
    for batch in stream:
        now += 10.0**-batch  # 1 and 0.1 s before the clock starts
    assert clock.steps == pytest.approx([0.01, 0.001, 0.0001])


def test_an_arm_keeps_the_processor_time_of_every_counted_block(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Sleeper:
        device = torch.device("cpu")

        def run_block(self, steps: int, clock: StepClock) -> None:
            clock.start()
            for _ in range(steps):
                clock.mark("after_step")
            clock.stop("after_step")

    now = iter([10.0, 13.0, 20.0, 26.0])
    monkeypatch.setattr(script.time, "process_time", lambda: next(now))
    arm = script.TimedArm("sleeper", Sleeper(), 1.0, 3)
    again = replace(arm, blocks=[], phases={})
    arm.count(arm.run())
    again.count(again.run())
    assert (arm.processor, again.processor) == ((1.0,), (2.0,))


def test_a_ratio_that_is_not_close_is_wrong(script: ModuleType) -> None:
    found = script.Comparison()
    found.add("near", [1.03, 1.03, 1.031], [1.0, 1.0, 1.0], "s")
    assert (found.rows[0]["within 5 %"], found.wrong) == ("yes", [])
    found.add("far", [1.2, 1.2, 1.2], [1.0, 1.0, 1.0], "s")
    assert (found.rows[1]["within 5 %"], found.wrong) == ("no", ["far no: 1.200 [1.200, 1.200]"])
    found.add("noisy", [0.9, 1.0, 1.1], [1.0, 1.0, 1.0], "s")
    assert found.rows[2]["within 5 %"] == "not resolved"


# --- beside the released code ---


@pytest.fixture(scope="module")
def released(script: ModuleType) -> Any:
    return script.Released(Path(FOLDER).resolve())


@with_released_code
@pytest.mark.parametrize("depth", [3, 5])
def test_the_released_model_and_ours_have_the_same_loss(
    script: ModuleType, released: Any, depth: int
) -> None:
    config = released.config(depth)
    with script.quietly():
        model = released.model(**config.model_args)
    ours = MAMP(
        SkeletonEncoder(SIZES["base"], 25),
        MAMPOptions(decoder_depth=depth, tau=config.motion_aware_tau),
    )
    samples = torch.randn(2, 3, 120, 25, 2, generator=torch.Generator().manual_seed(0))
    samples[0, ..., 1] = 0  # an empty body
    one, two = script.losses(model, ours, samples, config)
    assert two == pytest.approx(one, rel=script.ROUNDING)


@with_released_code
def test_the_released_feeder_and_ours_make_the_same_samples_but_for_the_rotation(
    script: ModuleType, released: Any, tmp_path: Path
) -> None:
    padded = np.zeros((3, 300, 2, 25, 3), np.float32)
    for row, length in enumerate((60, 100, 300)):
        padded[row, :length] = np.random.default_rng(row).normal(size=(length, 2, 25, 3))
    np.savez(tmp_path / "clips.npz", x_train=padded.reshape(3, 300, 150), y_train=np.eye(3))
    feeder = released.feeder(str(tmp_path / "clips.npz"), p_interval=[0.5, 1], window_size=120)
    clips = PublishedClips(
        padded.transpose(0, 4, 1, 3, 2), frames=120, augmentation=Augmentation(rotation=0.0)
    )
    for row in range(3):
        np.random.seed(row)  # noqa: NPY002
        theirs = torch.as_tensor(feeder[row][0])
        np.random.seed(row)  # noqa: NPY002
        torch.testing.assert_close(clips[row], theirs)
