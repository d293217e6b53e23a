"""Evaluation as a stage of its own: records beside runs, only what is missing,
failures that harm nobody.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness as harness_package
from harness.encoders.stored import not_there, pack
from harness.machine import ROOT
from harness.records.claims import Claims
from harness.records.evaluations import EvaluationRecord, Evaluations
from harness.records.store import RecordStore, file_hash
from harness.studies.verify_evaluations import differences_of_evaluations
from tests.harness.made_up_records import run_record
from tests.harness.small_run import SMALL, Outcome, harness, small_arrays, small_file

PROTOCOL = '''"""Nearest class mean of frozen features; the option `fault` breaks it on purpose."""

import numpy as np

from harness.evaluation.protocol import AboutProtocol, ProtocolResult, Protocol, ProtocolOptions
from harness.records.evaluations import EpochPoint


class MeanOptions(ProtocolOptions):
    fault: str = ""


class NearestMean(Protocol[MeanOptions]):
    about = AboutProtocol(title="Nearest class mean", source="none: an example")
    Options = MeanOptions
    reads_raw = True

    def evaluate(self, subject):
        if self.options.fault == "raise":
            raise RuntimeError("broken\\non purpose")
        if self.options.fault == "short":
            return ProtocolResult(np.zeros(1, np.int64))
        if self.options.fault == "curve":
            guesses = np.zeros(len(subject.test), np.int64)
            return ProtocolResult(guesses, [EpochPoint(epoch=1, accuracy=0.99)])
        if self.options.fault == "train" and subject.encoder is not None:
            next(subject.encoder.parameters()).data.zero_()
        side, labels = subject.training_side, subject.labels
        means = np.stack(
            [
                subject.features[side[labels[side] == label]].mean(axis=0)
                for label in range(subject.classes)
            ]
        )
        apart = np.linalg.norm(subject.features[subject.test][:, None] - means, axis=2)
        return ProtocolResult(apart.argmin(axis=1))
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two methods with its controls."""
    place = tmp_path_factory.mktemp("runs")
    data = small_file(place)
    outcome = harness(
        "run", "--dataset", data, "--methods", "skeletonmae,mamp", "--out", place / "runs", *SMALL
    )
    assert outcome.code == 0, outcome.err
    return place / "runs"


@pytest.fixture(scope="module")
def evaluated(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With an evaluation of each encoder and control, to read from."""
    place = shutil.copytree(folder, tmp_path_factory.mktemp("evaluated") / "runs")
    assert evaluate(place, "knn").code == 0
    return place


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The same folder, to write into."""
    for path in folder.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def evaluate(folder: Path, protocols: str, *flags: str | Path) -> Outcome:
    return harness("evaluate", folder, "--protocols", protocols, "--threads", "1", *flags)


def records(folder: Path) -> list[EvaluationRecord]:
    return list(Evaluations(folder).all())


def weights(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): file_hash(path) for path in folder.rglob("*.safetensors")
    }


def test_data_are_placed_before_a_protocol_has_them(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off its clock, and what does not fit is not its fault."""

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("harness.training.data.BodySequences", full)
    outcome = evaluate(copy, "knn")
    assert outcome.code != 0
    said = " ".join(f"{outcome.out} {outcome.err}".split())
    assert "mamp, seed 0: knn: --dataset " in said
    assert "choose a smaller set, or --device cpu" in said
    assert not records(copy)


def test_every_encoder_and_control_is_evaluated_and_no_encoder_is_trained(copy: Path) -> None:
    before = weights(copy)
    runs = {record.address: record for record in RecordStore(copy).runs()}
    outcome = evaluate(copy, "linear:regularisation=0.1,knn")
    assert outcome.code == 0, outcome.err
    assert weights(copy) == before
    found = records(copy)
    assert {
        (record.label, record.protocol, record.control, record.encoder) for record in found
    } == {
        (label, protocol, control, encoder)
        for protocol in ("linear", "knn")
        for label, control, encoder in (
            ("skeletonmae", "", "last"),
            ("mamp", "", "last"),
            ("random-init", "random-init", "untrained"),
            ("raw-pca", "raw-pca", "none"),
        )
    }
    for record in found:
        run = runs[record.run]
        accuracy = run.curve[-1].accuracy if run.curve else run.accuracy
        assert accuracy is not None
        expected = accuracy.linear_test if record.protocol == "linear" else accuracy.knn_test
        assert record.accuracy == pytest.approx(expected), record.label
        if not record.control:
            assert record.weights in run.weights.values()


def test_predictions_give_the_accuracy_without_the_data(copy: Path) -> None:
    assert evaluate(copy, "knn").code == 0
    for record in records(copy):
        clips = Evaluations(copy).test_clips(record.data)
        assert clips is not None
        assert len(clips.labels) == len(clips.subjects) == len(record.predictions)
        assert record.accuracy == pytest.approx(
            np.mean(np.array(clips.labels) == record.predictions)
        )
        assert record.figures["k=1"] == record.accuracy


def test_only_what_is_missing_is_done_and_a_second_time_gives_the_same(copy: Path) -> None:
    assert evaluate(copy, "knn").code == 0
    first = {record.address: record for record in records(copy)}
    gone = next(path for path in copy.glob("mamp-*/evaluations/knn-*.json"))
    gone.unlink()
    outcome = evaluate(copy, "knn,linear:regularisation=0.1")
    assert outcome.code == 0
    assert "[1/5]" in outcome.out  # one knn, four linear
    again = {record.address: record for record in records(copy)}
    assert len(again) == 8
    for address, record in first.items():
        assert again[address].predictions == record.predictions
        if address != gone.stem:
            assert again[address] == record


def test_a_protocol_of_a_plugin_stands_in_the_same_table_and_its_failure_harms_nobody(
    copy: Path,
) -> None:
    plugin = copy / "nearest_mean.py"
    plugin.write_text(PROTOCOL)
    outcome = evaluate(copy, "nearest-mean:fault=raise,knn,nearest-mean", "--plugin", plugin)
    assert outcome.code == 1
    assert "RuntimeError: broken on purpose (nearest_mean.py, line " in outcome.out
    statuses = {(record.spec, record.label): record.status for record in records(copy)}
    assert {status for (spec, _), status in statuses.items() if "fault" in spec} == {"failed"}
    assert {status for (spec, _), status in statuses.items() if "fault" not in spec} == {"ok"}
    table = (copy / "evaluations.md").read_text()
    assert (
        "| method | nearest-mean:fault=raise | knn | nearest-mean |" in table
        or "nearest-mean |" in table
    )
    assert "| mamp |" in table
    assert "| raw-pca |" in table


def test_a_protocol_that_cannot_say_what_it_fits_harms_nobody(copy: Path) -> None:
    plugin = copy / "nearest_mean.py"
    plugin.write_text(
        PROTOCOL.replace(
            "    def evaluate(",
            "    def unfit(self, encoder):\n        return 1 / 0\n\n    def evaluate(",
        )
    )
    outcome = evaluate(copy, "nearest-mean,knn", "--plugin", plugin)
    assert outcome.code == 1
    assert "division by zero" in outcome.out
    assert {record.status for record in records(copy)} == {"ok"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("short", "expected the class of each of"),
        ("train", "write trains_encoder = True"),
        ("curve", "the curve ends at 0.9900, its predictions give 0."),
    ],
)
def test_findings_that_break_the_contract_are_a_failed_row(
    copy: Path, fault: str, words: str
) -> None:
    plugin = copy / "nearest_mean.py"
    plugin.write_text(PROTOCOL)
    outcome = evaluate(copy, f"nearest-mean:fault={fault}", "--plugin", plugin)
    assert outcome.code == 1
    assert words in outcome.out


def test_the_last_encoder_is_read_unless_the_selected_one_is_asked_for(copy: Path) -> None:
    """A run whose selected encoder is an earlier one keeps both."""
    path = next(copy.glob("mamp-*/record.json"))
    record = json.loads(path.read_text())
    record["curve"][-1]["accuracy"]["linear_test"] = (
        0.0 if record["accuracy"]["linear_test"] else 1.0
    )
    path.write_text(json.dumps(record))
    outcome = evaluate(copy, "knn")
    assert outcome.code == 1
    assert "its last encoder was not kept" in outcome.out
    assert evaluate(copy, "knn", "--weights", "selected").code == 0
    last = path.parent / "last.safetensors"
    last.write_bytes((path.parent / "encoder.safetensors").read_bytes())
    record["weights"]["last.safetensors"] = file_hash(last)
    path.write_text(json.dumps(record))
    assert evaluate(copy, "knn").code == 0
    assert {one.encoder for one in records(copy) if one.label == "mamp"} == {"last", "selected"}


@pytest.mark.parametrize(
    ("protocols", "words"),
    [
        ("linaer", "unknown protocol 'linaer', did you mean 'linear'?"),
        ("knn:n=3", "protocol knn: unknown option 'n'"),
        ("knn:k=0", "protocol knn: k: Input should be greater than or equal to 1"),
        (",", "--protocols: expected at least one protocol"),
        ("semi:ratio=nan", "protocol semi: ratio"),
    ],
)
def test_mistakes_in_the_request_are_one_line(folder: Path, protocols: str, words: str) -> None:
    outcome = evaluate(folder, protocols)
    assert outcome.code == 2
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_other_data_is_refused(copy: Path) -> None:
    arrays = small_arrays()
    np.savez(copy / "other.npz", allow_pickle=False, **{**arrays, "joints": 2 * arrays["joints"]})
    outcome = evaluate(copy, "knn", "--dataset", copy / "other.npz")
    assert outcome.code == 1
    assert "expected fingerprint" in outcome.out
    assert not records(copy)


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    assert "expected finished runs with their encoders, found none" in evaluate(tmp_path, "knn").err


def test_run_evaluates_after_training_and_keeps_the_last_encoder_beside_the_selected_one(
    tmp_path: Path,
) -> None:
    """By the graph encoder of the open division, which is its own control,
    trained by its own downstream model.
    """
    out, data = tmp_path / "runs", small_file(tmp_path)
    strl = "finetune:head=strl,epochs=2,looks=1"
    flags = [
        "--dataset",
        data,
        "--methods",
        "skeletonmae-graph",
        "--out",
        out,
        *SMALL,
        "--set",
        "probe.points=3",
    ]
    outcome = harness("run", *flags, "--protocols", f"knn,{strl}")
    assert outcome.code == 0, outcome.err
    found = {(one.label, one.protocol, one.control): one for one in records(out)}
    assert {key for key in found if key[0] == "skeletonmae-graph"} == {
        ("skeletonmae-graph", "knn", ""),
        ("skeletonmae-graph", "knn", "random-init"),
        ("skeletonmae-graph", "finetune", ""),
        ("skeletonmae-graph", "finetune", "scratch"),
    }
    assert (
        "random-init",
        "finetune",
        "scratch",
    ) not in found  # the shared encoder has no joints of one frame
    assert (
        f"random-init, seed 0: {strl} left out: head=strl is for the graph encoder" in outcome.out
    )
    run = next(record for record in RecordStore(out).runs() if record.training)
    last = "encoder.safetensors" if run.accuracy == run.curve[-1].accuracy else "last.safetensors"
    assert found["skeletonmae-graph", "knn", ""].weights == run.weights[last]
    assert found["skeletonmae-graph", "knn", ""].accuracy == pytest.approx(
        run.curve[-1].accuracy.knn_test
    )
    assert run.untrained is not None
    assert found["skeletonmae-graph", "knn", "random-init"].accuracy == pytest.approx(
        run.untrained.knn_test
    )
    assert "| skeletonmae-graph (untrained) |" in (out / "evaluations.md").read_text()
    before = records(out)
    assert harness("run", *flags, "--protocols", f"knn,{strl}").code == 0
    assert records(out) == before


@pytest.mark.long
def test_a_process_that_is_killed_costs_the_evaluation_that_it_was_at(copy: Path) -> None:
    """Another process takes its claim over and does the rest."""
    plugin = copy / "nearest_mean.py"
    killing = "import os, signal\n        os.kill(os.getpid(), signal.SIGKILL)"
    plugin.write_text(PROTOCOL.replace('raise RuntimeError("broken\\non purpose")', killing))
    command = [
        sys.executable,
        "-m",
        "harness",
        "evaluate",
        str(copy),
        "--protocols",
        "knn,nearest-mean:fault=raise",
        "--plugin",
        str(plugin),
        "--threads",
        "1",
    ]
    killed = subprocess.run(command, check=False, capture_output=True, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert len(records(copy)) == 1
    assert list(copy.glob("*/evaluations/*/claim.json"))
    outcome = evaluate(copy, "knn", "--claim")
    assert outcome.code == 0
    assert "[1/3]" in outcome.out
    assert len(records(copy)) == 4


def test_a_living_claim_is_respected(copy: Path) -> None:
    assert evaluate(copy, "knn").code == 0
    gone = next(copy.glob("mamp-*/evaluations/knn-*.json"))
    gone.unlink()
    place = f"{gone.parents[1].name}/evaluations/{gone.stem}"
    with Claims(copy).hold(place, "mamp", 0):
        outcome = evaluate(copy, "knn")
    assert outcome.code == 2
    assert "works on mamp, seed 0 in this folder; add --claim" in outcome.err


def test_an_evaluation_of_other_code_is_named_and_kept(copy: Path) -> None:
    assert evaluate(copy, "knn").code == 0
    path = next(copy.glob("mamp-*/evaluations/knn-*.json"))
    content = json.loads(path.read_text())
    assert content["versions"].keys() == {"knn", "batches", "probes", "protocol"}
    path.write_text(json.dumps(content | {"versions": content["versions"] | {"knn": "0"}}))
    outcome = evaluate(copy, "knn")
    assert (
        f"note: mamp, seed 0: knn: knn 0 -> {content['versions']['knn']} since; see --rerun"
        in outcome.out
    )
    assert "[1/" not in outcome.out
    assert "since" not in evaluate(copy, "knn", "--rerun").out


def test_encoders_are_read_from_the_archive_of_a_study(copy: Path) -> None:
    assert evaluate(copy, "knn").code == 0
    expected = {record.address: record.predictions for record in records(copy)}
    archive = pack(copy)
    content = archive.read_bytes()
    for path in [*copy.glob("*/*.safetensors"), *copy.glob("*/evaluations/*.json")]:
        path.unlink()
    assert evaluate(copy, "knn").code == 0
    assert {record.address: record.predictions for record in records(copy)} == expected
    for path in copy.glob("*/evaluations/*.json"):
        path.unlink()
    archive.write_bytes(content[: len(content) // 2])
    damaged = evaluate(copy, "knn")
    assert (damaged.code, len(damaged.err.splitlines())) == (2, 1)
    assert "not an archive that can be read" in damaged.err
    archive.unlink()
    assert "nor in encoders.zip" in evaluate(copy, "knn").out


def test_whether_an_encoder_is_there_is_seen_without_reading_it(tmp_path: Path) -> None:
    run, store = run_record("gfp"), RecordStore(tmp_path)
    path = store.folder(run.address) / "encoder.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"weights" * 100)
    archive = pack(tmp_path)
    path.unlink()
    archive.write_bytes(archive.read_bytes().replace(b"weightsweights", b"weightsWEIGHTS", 1))
    with zipfile.ZipFile(archive) as found:
        assert found.testzip() == f"{run.address}/encoder.safetensors"  # cannot be read
    assert not_there(run, "selected", store) == ""
    archive.unlink()
    assert "is not beside its record, nor in encoders.zip" in not_there(run, "selected", store)


def test_seeds_narrow_the_runs_down(copy: Path) -> None:
    assert evaluate(copy, "knn", "--seeds", "1-2").code == 0
    assert [record.label for record in records(copy)] == ["raw-pca"]
    assert "expected numbers and ranges" in evaluate(copy, "knn", "--seeds", "all").err


def test_the_python_door_returns_the_records(copy: Path) -> None:
    found = harness_package.evaluate(copy, "knn:k=5", threads=1)
    assert [record.spec for record in found] == ["knn:k=5"] * 4
    assert {record.address for record in found} == {record.address for record in records(copy)}


def test_damaged_evaluations_are_refused_and_made_again(copy: Path) -> None:
    assert evaluate(copy, "knn").code == 0
    path = next(copy.glob("mamp-*/evaluations/knn-*.json"))
    content = json.loads(path.read_text())
    for text in (
        "{",
        json.dumps(content | {"accuracy": 7}),
        json.dumps(content | {"run": "another"}),
    ):
        path.write_text(text)
        done = Evaluations(copy)
        assert len(list(done.all())) == 3
        assert set(done.refused) == {path}
    assert evaluate(copy, "knn").code == 0
    assert len(records(copy)) == 4
    assert len(list(path.parent.glob("knn-*.refused-*.json"))) == 1


def test_verify_computes_accuracies_again_from_the_predictions(copy: Path) -> None:
    assert evaluate(copy, "knn").code == 0
    assert harness("verify", copy).code == 0
    path = next(copy.glob("mamp-*/evaluations/knn-*.json"))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"accuracy": 1 - content["accuracy"]}))
    outcome = harness("verify", copy)
    assert outcome.code == 1
    assert "its predictions give" in outcome.out


HARMS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "row gfp, its run has skeletonmae": lambda one: {"label": "gfp"},
    "seed 5, its run has 0": lambda one: {"seed": 5},
    "3 labelled clips, the training side has ": lambda one: {"labelled": 3},
    "labelled subset 0123456789abcdef, another row has none": lambda one: {
        "subset": "0123456789abcdef"
    },
    "1 predictions of ": lambda one: {"predictions": [0]},
    "class 7 is predicted, of 3 classes": lambda one: {"predictions": [7, *one["predictions"][1:]]},
    "its predictions give ": lambda one: {"accuracy": 1 - one["accuracy"] / 2},
    "epoch 1: accuracy 0.123 is no number of ": lambda one: {
        "curve": [{"epoch": 1, "accuracy": 0.123}]
    },
    ", its curve ends at ": lambda one: {
        "curve": [{"epoch": 1, "accuracy": 1 - one["accuracy"] / 2}]
    },
    "a curve over epochs 2, expected them to rise to 9": lambda one: {
        "options": {"epochs": 9},
        "curve": [{"epoch": 2, "accuracy": one["accuracy"]}],
    },
    "the labels of its test clips (another) are not there": lambda one: {"data": "another"},
}


@pytest.mark.parametrize("words", HARMS)
def test_verify_names_what_does_not_follow(evaluated: Path, tmp_path: Path, words: str) -> None:
    folder = shutil.copytree(evaluated, tmp_path / "copy")
    runs = list(RecordStore(folder).runs())
    assert differences_of_evaluations(folder, runs) == (4, [])
    path = next(folder.glob("skeletonmae-*/evaluations/knn-*.json"))
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | HARMS[words](content)))
    count, lines = differences_of_evaluations(folder, runs)
    assert count == 4
    assert any(
        line.startswith(f"{path.parents[1].name}/{path.stem}: ") and words in line for line in lines
    ), lines


def test_status_counts_evaluations_by_protocol(evaluated: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(evaluated, tmp_path / "copy")
    gone = next(folder.glob("mamp-*/evaluations/knn-*.json"))
    gone.unlink()
    place = f"{gone.parents[1].name}/evaluations/{gone.stem}"
    with Claims(folder).hold(place, "mamp", 0):
        said = harness("status", folder).out
    assert "knn: 3 done, 1 run without" in said
    assert "evaluations at work: mamp, seed 0: knn" in said
    path = next(folder.glob("random-init-*/evaluations/knn-*.json"))
    content = json.loads(path.read_text()) | {
        "status": "failed",
        "accuracy": None,
        "predictions": [],
    }
    path.write_text(json.dumps(content))
    assert "knn: 2 done, 1 failed, 1 run without" in harness("status", folder).out


def test_merge_takes_evaluations_along(
    copy: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert evaluate(copy, "knn").code == 0
    out = tmp_path_factory.mktemp("merged") / "all"
    assert harness("merge", copy, "--out", out).code == 0
    assert [one.model_dump() for one in records(out)] == [one.model_dump() for one in records(copy)]
    assert Evaluations(out).test_clips(records(out)[0].data) is not None


def test_protocols_are_listed_with_source_choices_and_deviations() -> None:
    rows = {row["protocol"]: row for row in json.loads(harness("ls", "protocols", "--json").out)}
    assert {"linear", "knn", "linear-mamp", "finetune", "semi"} <= rows.keys()
    assert rows["finetune"]["control"] == "scratch"
    assert rows["linear-mamp"]["options"]["epochs"] == 100
    assert all(row["source"] and row["title"] for row in rows.values())
