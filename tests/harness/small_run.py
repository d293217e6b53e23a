"""The smallest real run: a made-up data set, an encoder of width 8,
and the command line called in this process.
"""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.clips import ClipSet
from datasets.formats.npz import write_npz
from datasets.layouts import layout_from_parents
from harness.cli import main as cli
from harness.machine import describe_environment
from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.registry import Registry
from harness.runs.cell import Attempt, RunContext, run_cell
from harness.spec.budget import StepCost
from harness.spec.model import DataSpec, EncoderSpec, MethodSpec, ProbeSpec, RunSpec, TrainSpec
from harness.training.build import Cell, build_method
from harness.training.data import LoadedData, build_batches, load_data
from harness.training.trainer import Trainer
from methods.base import Method

CPU = torch.device("cpu")
JOINTS = ("root", "spine", "head", "left_hand", "right_hand")
PARENTS = (-1, 0, 1, 1, 1)
CLASSES = ("wave", "bow", "jump")
SUBJECTS = 6
FRAMES = 24
ENCODER = EncoderSpec(size="tiny", depth=1, width=8, heads=2, frames=FRAMES)
SMALL_ENCODER = (
    "--set",
    "encoder.depth=1",
    "--set",
    "encoder.width=8",
    "--set",
    "encoder.heads=2",
    "--set",
    "encoder.frames=24",
)
SMALL = (
    *SMALL_ENCODER,
    "--set",
    "probe.points=2",
    "--set",
    "probe.regularisation=[0.1]",
    "--batch-size",
    "4",
    "--budget",
    "6steps",
    "--speed-seconds",
    "1",
)
ONE_STEP = (
    "run",
    "--methods",
    "skeletonmae",
    "--budget",
    "1steps",
    "--speed-seconds",
    "1",
    "--batch-size",
    "2",
    "--set",
    "encoder.depth=1",
    "--set",
    "encoder.width=8",
    "--set",
    "encoder.heads=1",
    "--set",
    "encoder.frames=16",
    "--set",
    "probe.points=1",
    "--set",
    "data.validation=0",
)
"""`run` with the smallest encoder for one step; data and folder are to come."""

PLUGIN = '''"""Predict the mean position of a body sequence; option `fault` breaks it."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

from methods.base import About, Diagnosis, Method, MethodOptions


class PlainOptions(MethodOptions):
    fault: str = ""


class Plain(Method):
    about = About(title="Mean position", paper="none")
    Options = PlainOptions

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)
        self.progress, self.calls, self.warm = 0.0, 0, False

    def after_step(self, progress):
        self.progress = progress  # stays near 0 while only speed is measured

    def loss(self, x):
        # Trial steps go to the end of a training too, with two body sequences.
        fault, half_way = self.options.fault, self.progress > 0.4 and len(x) > 2
        self.calls += 1
        profiled = torch.autograd._profiler_enabled()  # in the last step before it is timed
        timed, self.warm = self.warm and not profiled, self.warm or profiled
        late, in_time = fault == "raise-late" and half_way, fault == "raise-timed" and timed
        if fault == "raise" or late or in_time:
            raise RuntimeError("broken\\non purpose")
        if fault == "interrupt" and half_way:
            signal.raise_signal(signal.SIGINT)
        loss = (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean()
        if fault == "nan" or (fault == "nan-late" and half_way):
            loss = loss * float("nan")
        part = loss.detach() * float("nan") if fault == "nan-part" and half_way else loss.detach()
        return loss, {"position": part}

    def diagnose(self, x):
        """Called while a run is half-way: says so in a file and waits to be killed."""
        if "PLAIN_WAITS" in os.environ:
            Path(os.environ["PLAIN_WAITS"]).touch()
            time.sleep(60)
        broken = self.options.fault == "inf-diagnosis"
        return Diagnosis({"calls": float("inf") if broken else float(self.calls)})
'''


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What was printed after the line that says what was started."""
        return [
            line
            for line in self.out.splitlines()
            if not line.startswith("started: python -m harness ")
        ]


def harness(*arguments: str | Path) -> Outcome:
    """``python -m harness ARGUMENTS`` in this process."""
    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["harness", *words])
        try:
            with pytest.raises(SystemExit) as stop:
                cli.main()
        finally:
            for flag, value in pairwise(words):
                if flag == "--plugin":  # the next command is a new process to its plugins
                    sys.modules.pop(Path(value).stem, None)
    assert isinstance(stop.value.code, int)
    return Outcome(stop.value.code, out.getvalue(), err.getvalue())


def small_clips(bodies: int = 1) -> ClipSet:
    """Six subjects, three classes of different tempo, one clip each;
    every other subject has no second body.
    """
    random = np.random.default_rng(0)
    clips, labels, subjects = [], [], []
    for subject in range(1, SUBJECTS + 1):
        for label in range(len(CLASSES)):
            count = int(random.integers(20, 30))
            time = np.arange(count)[:, None, None, None]
            pose = 0.3 * random.normal(size=(1, bodies, len(JOINTS), 3))
            noise = 0.02 * random.normal(size=(count, bodies, len(JOINTS), 3))
            clip = pose + 0.3 * np.sin(0.3 * (label + 1) * time) + noise
            if subject % 2:
                clip[:, 1:] = 0
            clips.append(clip.astype(np.float32))
            labels.append(label)
            subjects.append(subject)
    return ClipSet(
        name="small",
        joints=np.concatenate(clips),
        offsets=np.cumsum([0, *map(len, clips)]),
        columns={"label": np.array(labels), "subject": np.array(subjects)},
        class_names=CLASSES,
        layout=layout_from_parents(JOINTS, PARENTS),
        fps=30.0,
    )


def small_file(folder: Path) -> Path:
    """`small_clips` as an exchange file."""
    path = folder / "small.npz"
    write_npz(path, small_clips())
    return path


def small_arrays(**changes: Any) -> dict[str, Any]:
    """The arrays of that file; ``changes`` replaces some."""
    clips = small_clips()
    arrays = {
        "joints": clips.joints,
        "offsets": clips.offsets,
        "label": clips.columns["label"],
        "fps": np.float32(30),
        "subject": clips.columns["subject"],
        "class_names": np.array(CLASSES),
        "joint_names": np.array(JOINTS),
        "parents": np.array(PARENTS),
    }
    return arrays | changes


def plugin_file(folder: Path, name: str = "plain", text: str = PLUGIN) -> Path:
    """A plugin on disk."""
    path = folder / f"{name}.py"
    path.write_text(text)
    return path


@cache
def registry() -> Registry:
    """The built-in methods and data sets."""
    return Registry()


def small_data(folder: Path, **data: Any) -> LoadedData:
    """`small_clips`, split and ready to train on."""
    spec = DataSpec(name=str(small_file(folder)), min_crop=8, **data)
    return load_data(spec, CPU, patch=4)


def small_spec(
    data: LoadedData, method: str = "skeletonmae", seed: int = 0, **train: Any
) -> RunSpec:
    """A run of the width-8 encoder, batch 4."""
    return RunSpec(
        method=MethodSpec(name=method),
        encoder=ENCODER,
        data=data.spec,
        probe=ProbeSpec(points=2),
        seed=seed,
        train=TrainSpec(**{"budget": "6steps", "batch_size": 4, **train}),
    )


def small_cell(data: LoadedData, method: str | type[Method] = "skeletonmae", **train: Any) -> Cell:
    """The cell of a method that exists, or of a class made up for a test."""
    name = method if isinstance(method, str) else "made-up"
    found = registry().method(method) if isinstance(method, str) else method
    return Cell(name, small_spec(data, name, **train), found)


def run_small_cell(
    cell: Cell, data: LoadedData, out: Path, *, keep_decoder: bool = False
) -> RunRecord:
    """Run one cell; a step costs 4 clips, half an epoch, 10 ms and 1 MFLOP."""
    context = RunContext(data, RecordStore(out), describe_environment(CPU), keep_decoder)
    return run_cell(
        Attempt(cell, context, StepCost(epochs=0.5, clips=4.0, seconds=0.01, flops=1e6))
    )


def small_trainer(
    data: LoadedData,
    method: str | type[Method] = "skeletonmae",
    seed: int = 0,
    steps: int = 10,
    **train: Any,
) -> Trainer:
    """A method, ready to step."""
    cell = small_cell(data, method, seed=seed, **train)
    assert cell.method is not None
    built = build_method(cell.method, cell.spec, data.clips.layout, CPU)
    batches = build_batches(data.bodies, data.sequences, cell.spec, FRAMES)
    return Trainer(built, batches, cell.spec.train, steps)


def row_of(address: str) -> str:
    """``gfp-s0`` of ``gfp-s0-v2-0123456789ab``."""
    return address.rpartition("-v")[0]


def records_in(folder: Path) -> dict[str, Path]:
    """Record files by the start of their folder's name, ``<method>-s<seed>``."""
    return {row_of(path.parent.name): path for path in sorted(folder.glob("*/record.json"))}
