"""The study's commands on other data: `plan.yaml` on an exchange file of another skeleton, and
`gpu.yaml`, all its parts, both on a CPU at tiny size.

    python -m pytest -m long tests/test_answer_elsewhere.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.answer.page import HERE, page, read_answer
from datasets.clips import ClipSet
from datasets.formats.npz import write_npz
from datasets.layouts import NTU25, SkeletonLayout, layout_from_parents
from harness.cli.config import read_config
from harness.records.evaluations import Evaluations
from harness.records.store import read_records
from tests.harness.small_run import SMALL_ENCODER

ROOT = HERE.parents[1]
SMALL = [
    "--encoder",
    "tiny",
    *SMALL_ENCODER,
    "--set",
    "data.min_crop=8",
    "--set",
    "probe.regularisation=[0.1]",
    "--batch-size",
    "4",
    "--speed-seconds",
    "1",
    "--threads",
    "1",
    "--device",
    "cpu",
]
PROTOCOLS = "linear,knn,linear-mamp:epochs=1"


def commands(*lines: str | list[str]) -> str:
    """Commands of the suite in processes of their own, as a user has them; what they print."""
    said = ""
    for line in lines:
        words = line.split() if isinstance(line, str) else line
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr, done.stdout[-2000:])
        said += done.stdout
    return said


CHAIN = layout_from_parents([f"joint {number}" for number in range(15)], [-1, *range(14)])


def people(path: Path, layout: SkeletonLayout) -> Path:
    """Twelve people, three classes of different tempo, three views of each."""
    random = np.random.default_rng(0)
    clips, columns = [], {"label": [], "subject": [], "view": []}
    for subject in range(1, 13):
        for label in range(3):
            for view in (1, 2, 3):
                count = int(random.integers(20, 30))
                time = np.arange(count)[:, None, None, None]
                pose = 0.3 * random.normal(size=(1, 1, layout.joint_count, 3))
                clips.append(pose + 0.3 * np.sin(0.3 * (label + 1) * time + view))
                for name, value in zip(columns, (label, subject, view), strict=True):
                    columns[name].append(value)
    made = ClipSet(
        name="people",
        joints=np.concatenate(clips).astype(np.float32),
        offsets=np.cumsum([0, *map(len, clips)]),
        columns={name: np.array(values) for name, values in columns.items()},
        class_names=("wave", "bow", "jump"),
        layout=layout,
        fps=30.0,
    )
    write_npz(path, made)
    return path


@pytest.mark.long
def test_the_study_runs_unchanged_on_an_exchange_file_of_another_skeleton(tmp_path: Path) -> None:
    data, out = people(tmp_path / "my.npz", CHAIN), tmp_path / "a-utdmhad"
    plan = ["--config", "benchmarks/answer/plan.yaml", "--part", "a-utdmhad"]
    mine = ["--dataset", str(data), "--label", "label", "--out", str(out), "--seeds", "0-1"]
    mine += ["--budget", "96clips", "--protocols", PROTOCOLS, *SMALL]
    commands(
        ["run", *plan, *mine],
        f"compare {out} --half-width 3",
        f"target {out} --reference mamp",
        f"trends {out}",
        f"ranking {out}",
        ["shelve", str(out), "--to", str(tmp_path / "results/answer-a-utdmhad"), "--why", "Test."],
    )
    _, study = read_config(HERE / "plan.yaml")
    found, done = read_records(out), list(Evaluations(out).all())
    assert {one.environment.study for one in [*found.runs, *found.speeds, *done]} == {study}
    assert len([run for run in found.runs if run.training]) == 8
    assert (out / "compare-power.csv").is_file()
    text = page(read_answer(results=tmp_path / "results"))
    assert "- **my (xsub), 96clips, tiny**: " in text
    assert "| a-utdmhad | runs | 24 | 8 | 16 | - |" in text
    assert "| AMR above GFP | amr | gfp | " in text
    assert "| a-utdmhad | linear | 24 | 8 | 16 | - |" in text
    assert "to the accuracy of mamp" in text


@pytest.mark.long
def test_the_study_for_a_gpu_plans_and_does_all_its_parts(tmp_path: Path) -> None:
    data, out = people(tmp_path / "ntu60.npz", NTU25), tmp_path / "runs"
    plan = (HERE / "gpu.yaml").read_text().replace("runs/gpu-answer", str(out))
    plan = re.sub(r"protocols: linear,.*", f"protocols: {PROTOCOLS}", plan)
    plan = plan.replace("finetune,semi:ratio=0.1", "finetune:epochs=1,semi:ratio=0.5,epochs=1")
    plan = plan.replace("2000000clips", "24clips")
    (tmp_path / "gpu.yaml").write_text(plan)
    mine = ["--config", str(tmp_path / "gpu.yaml"), "--dataset", str(data), "--seeds", "0"]
    mine += ["--budget", "48clips", *SMALL]
    said = commands(["plan", *mine, "--device-rate", "imagined=1e12", "--price", "2"])
    # Two of the five parts share a folder, and with it runs: 4 + 4 + 7 + 3, and the controls.
    assert re.search(r"5 plans together: \d+ of \d+ runs to do, .* at 2 an hour", said)
    commands(["run", *mine])
    done = {part.name: read_records(part).runs for part in sorted(out.iterdir())}
    trained = {name: sum(bool(run.training) for run in runs) for name, runs in done.items()}
    assert trained == {"a-xsub": 4, "a-xview": 4, "b-xsub": 7, "c-longer": 3}
    assert all(run.status == "ok" for runs in done.values() for run in runs)
    columns = {one.spec for one in Evaluations(out / "a-xsub").all()}
    assert {"linear", "knn", "linear-mamp:epochs=1", "finetune:epochs=1"} <= columns
    commands(["run", *mine])  # nothing is left to do
    text = page(read_answer(tmp_path / "gpu.yaml", out, shelf=""))
    assert "ntu60 (xview), 48clips, tiny" in text
    assert "every record on this page names it" in text
