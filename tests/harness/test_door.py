"""`import harness`: runs, measurements, records and encoders from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import harness
from harness.errors import UsageError
from harness.report.result import RunResult
from tests.harness.small_run import plugin_file, small_clips, small_file

ROOT = Path(__file__).parents[2]
SMALL = {
    "encoder.depth": 1,
    "encoder.width": 8,
    "encoder.heads": 2,
    "encoder.frames": 24,
    "data.min_crop": 8,
    "probe.points": 1,
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, Path]:
    folder = tmp_path_factory.mktemp("door")
    found = harness.run(
        ["plain", "skeletonmae"],
        dataset=str(small_file(folder)),
        budget="2steps",
        batch_size=4,
        device="cpu",
        out=folder / "out",
        overrides=SMALL,
        plugins=[plugin_file(folder)],
        speed_seconds=1.0,
    )
    sys.modules.pop("plain")  # other tests load another file of that name
    return found, folder / "out"


def test_a_run_returns_its_records_and_its_table(result: tuple[RunResult, Path]) -> None:
    found, _ = result
    assert {record.label for record in found.records} == {
        "plain",
        "skeletonmae",
        "random-init",
        "raw-pca",
    }
    assert {record.status for record in found.records} == {"ok"}
    assert list(found.table["method"])[:2] == ["plain", "skeletonmae"]
    assert str(found).split("\n")[0].split() == " ".join(found.table.columns).split()


def test_records_are_read_again(result: tuple[RunResult, Path]) -> None:
    found, out = result
    read = harness.read_records(out)
    assert {record.address for record in read.runs} == {record.address for record in found.records}
    assert [speed.address for speed in read.speeds] == [found.speed.address]
    assert read.refused == []


def test_a_runs_encoder_embeds_clips(result: tuple[RunResult, Path]) -> None:
    _, out = result
    path = next(out.glob("skeletonmae-*/encoder.safetensors"))
    assert harness.load_encoder(path).embed([np.asarray(small_clips().clip(0))]).shape == (1, 8)


def test_speed_alone_is_measured_once(result: tuple[RunResult, Path], tmp_path: Path) -> None:
    speed = harness.measure_speed(
        "encoder-only",
        dataset=str(small_file(tmp_path)),
        batch_size=4,
        device="cpu",
        out=tmp_path / "out",
        overrides=SMALL,
        speed_seconds=1.0,
    )
    assert [arm.label for arm in speed.arms] == ["encoder-only"]


def test_a_misspelt_keyword_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown setting 'bugdet', did you mean 'budget'"):
        harness.run("gfp", bugdet="3steps")


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="expected an output folder of `run`, found no such folder"
    ):
        harness.read_records(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "code",
    [
        f"harness.read_records('{ROOT / 'benchmarks/results/uiprmd-trends'}')",
        (
            "import harness.report.table, harness.report.trends, harness.report.ranking,"
            " harness.report.claims"
        ),
        (
            "import harness.studies.target, harness.studies.claims, harness.studies.verify,"
            " harness.cli.main"
        ),
    ],
)
def test_records_and_reports_load_neither_torch_nor_scikit_learn(code: str) -> None:
    assert loaded_by(code, "torch", "sklearn", "timm", "jaxtyping") == "[]"


def test_a_list_of_the_methods_loads_torch_and_builds_nothing() -> None:
    code = "from harness.cli.listing import list_methods\nlist_methods(None, None)"
    assert (
        loaded_by(code, "torch", "torchvision", "timm", "sklearn", "pandas", "methods.gfp")
        == "['methods.gfp', 'torch']"
    )


def loaded_by(code: str, *names: str) -> str:
    """Those of the modules that a fresh Python has loaded after ``code``."""
    check = f"import sys, harness; {code}; print(sorted({set(names)} & sys.modules.keys()))"
    found = subprocess.run(
        [sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return found.stdout.strip()
