"""Evaluation as a stage of its own: records beside runs, only what is missing, failures that harm nobody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from harness.records.evaluations import EvaluationRecord, Evaluations
from harness.records.store import RecordStore, file_hash
from tests.harness.small_run import SMALL, Outcome, harness, small_file

PROTOCOL = '''"""Nearest class mean of frozen features; the option `fault` breaks it on purpose."""

import numpy as np

from harness.evaluation.protocol import AboutProtocol, Findings, Protocol, ProtocolOptions


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
            return Findings(np.zeros(1, np.int64))
        if self.options.fault == "train" and subject.encoder is not None:
            next(subject.encoder.parameters()).data.zero_()
        side, labels = subject.training_side, subject.labels
        means = np.stack(
            [subject.features[side[labels[side] == label]].mean(axis=0) for label in range(subject.classes)]
        )
        apart = np.linalg.norm(subject.features[subject.test][:, None] - means, axis=2)
        return Findings(apart.argmin(axis=1))
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two methods with its controls."""
    place = tmp_path_factory.mktemp("runs")
    data = small_file(place)
    outcome = harness("run", "--dataset", data, "--methods", "skeletonmae,mamp", "--out", place / "runs", *SMALL)
    assert outcome.code == 0, outcome.err
    return place / "runs"


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
    return {str(path.relative_to(folder)): file_hash(path) for path in folder.rglob("*.safetensors")}


def test_every_encoder_and_control_is_evaluated_and_no_encoder_is_trained(copy: Path) -> None:
    before = weights(copy)
    runs = {record.address: record for record in RecordStore(copy).runs()}
    outcome = evaluate(copy, "linear:regularisation=0.1,knn")
    assert outcome.code == 0, outcome.err
    assert weights(copy) == before
    found = records(copy)
    assert {(record.label, record.protocol, record.control, record.encoder) for record in found} == {
        (label, protocol, control, encoder)
        for protocol in ("linear", "knn")
        for label, control, encoder in (
            ("skeletonmae", "", "last"), ("mamp", "", "last"), ("random-init", "random-init", "untrained"),
            ("raw-pca", "raw-pca", "none"),
        )
    }  # fmt: skip
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
        assert record.accuracy == pytest.approx(np.mean(np.array(clips.labels) == record.predictions))
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


def test_a_protocol_of_a_plugin_stands_in_the_same_table_and_its_failure_harms_nobody(copy: Path) -> None:
    plugin = copy / "nearest_mean.py"
    plugin.write_text(PROTOCOL)
    outcome = evaluate(copy, "nearest-mean:fault=raise,knn,nearest-mean", "--plugin", plugin)
    assert outcome.code == 1
    assert "RuntimeError: broken on purpose (nearest_mean.py, line " in outcome.out
    statuses = {(record.spec, record.label): record.status for record in records(copy)}
    assert {status for (spec, _), status in statuses.items() if "fault" in spec} == {"failed"}
    assert {status for (spec, _), status in statuses.items() if "fault" not in spec} == {"ok"}
    table = (copy / "evaluations.md").read_text()
    assert "| method | nearest-mean:fault=raise | knn | nearest-mean |" in table or "nearest-mean |" in table
    assert "| mamp |" in table
    assert "| raw-pca |" in table


@pytest.mark.parametrize(
    ("fault", "words"),
    [("short", "expected the class of each of"), ("train", "write trains_encoder = True")],
)
def test_findings_that_break_the_contract_are_a_failed_row(copy: Path, fault: str, words: str) -> None:
    plugin = copy / "nearest_mean.py"
    plugin.write_text(PROTOCOL)
    outcome = evaluate(copy, f"nearest-mean:fault={fault}", "--plugin", plugin)
    assert outcome.code == 1
    assert words in outcome.out


def test_the_last_encoder_is_read_unless_the_selected_one_is_asked_for(copy: Path) -> None:
    """A run whose selected encoder is an earlier one keeps both."""
    path = next(copy.glob("mamp-*/record.json"))
    record = json.loads(path.read_text())
    record["curve"][-1]["accuracy"]["linear_test"] = 0.0 if record["accuracy"]["linear_test"] else 1.0
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


def test_other_data_is_refused(copy: Path, tmp_path: Path) -> None:
    outcome = evaluate(copy, "knn", "--dataset", "synthetic")
    assert outcome.code == 2
    assert "expected fingerprint" in outcome.err


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    assert "expected finished runs with their encoders, found none" in evaluate(tmp_path, "knn").err


def test_protocols_are_listed_with_source_choices_and_deviations() -> None:
    rows = {row["protocol"]: row for row in json.loads(harness("ls", "protocols", "--json").out)}
    assert {"linear", "knn", "linear-mamp", "finetune", "semi"} <= rows.keys()
    assert rows["finetune"]["control"] == "scratch"
    assert rows["linear-mamp"]["options"]["epochs"] == 100
    assert all(row["source"] and row["title"] for row in rows.values())
