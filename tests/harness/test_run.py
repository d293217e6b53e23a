"""Whole runs from the command line on made-up data: the table, the records,
and what is done a second time.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import nn

from harness.errors import UsageError
from harness.progress import Reporter, make_console
from harness.records import store as records
from harness.records.ratios import noise_floor, paired_ratio
from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.runs import experiment
from harness.runs.experiment import Entry, choose_baseline, make_entry
from harness.runs.request import prepare_experiment, resolve_settings
from harness.spec.model import MethodSpec
from harness.training.data import LoadedData
from methods.parts.encoder import SIZES
from tests.harness.made_up_records import accuracy
from tests.harness.small_run import (
    SMALL,
    Outcome,
    harness,
    plugin_file,
    records_in,
    registry,
    row_of,
    run_small_cell,
    small_cell,
    small_data,
    small_file,
)
from tests.methods.made_up import meta_encoder

ROOT = Path(__file__).parents[2]
CELLS = ("gfp-s0", "plain-s0", "random-init-s0", "raw-pca-s0", "skeletonmae-s0")
CLIPS, TEST_CLIPS = 18, 9


@dataclass(frozen=True)
class Finished:
    """A run that ended."""

    arguments: tuple[str | Path, ...]
    out: Path
    outcome: Outcome

    def again(self, out: Path, *more: str | Path) -> Outcome:
        """The same command, on a folder of its own."""
        return harness(*self.arguments, "--out", out, *more)

    def records(self) -> dict[str, RunRecord]:
        return {row_of(record.address): record for record in RecordStore(self.out).runs()}


def finished(folder: Path, *more: str) -> Finished:
    arguments = (
        "run",
        *SMALL,
        "--dataset",
        small_file(folder),
        "--plugin",
        plugin_file(folder),
        *more,
    )
    return Finished(arguments, folder / "out", harness(*arguments, "--out", folder / "out"))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two methods of the suite and a plugin."""
    return finished(tmp_path_factory.mktemp("good"), "--methods", "gfp,skeletonmae,plain")


@pytest.fixture
def copied(good: Finished, tmp_path: Path) -> Path:
    """The folder of `good`, to be changed."""
    return shutil.copytree(good.out, tmp_path / "out")


def rows(out: Path, name: str = "table.md") -> dict[str, list[str]]:
    """The table on disk: cells by the first one."""
    lines = [line for line in (out / name).read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


def times(out: Path) -> dict[str, int]:
    """When every record was last written."""
    records = [*out.rglob("record*.json"), *out.rglob("speed*.json")]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in sorted(records)}


LOCK = "claims.lock"
"""What processes that share a folder lock; some versions of filelock remove it."""

# --- what a run leaves and says ---


def test_a_good_run_ends_with_code_0(good: Finished) -> None:
    assert (good.outcome.code, good.outcome.err) == (0, ""), good.outcome


NAMES = ["gfp", "skeletonmae", "plain", "random-init", "raw-pca", "encoder-only"]


def test_the_table_has_a_row_for_every_method_control_and_the_bound(good: Finished) -> None:
    assert list(rows(good.out)) == ["method", *NAMES]


def test_the_table_on_screen_is_not_cut(good: Finished) -> None:
    firsts = [line.split()[0] for line in good.outcome.out.splitlines() if line]
    start = firsts.index("method")
    assert firsts[start + 1 : start + 1 + len(NAMES)] == NAMES
    assert "…" not in good.outcome.out


def test_the_plan_comes_before_the_work_and_one_line_per_run_follows(good: Finished) -> None:
    lines = [
        line for line in good.outcome.lines if not line.startswith("warming up: ")
    ]  # on a busy machine
    assert lines[0] == "plan: 5 of 5 runs to do, budget 6steps each, speedups over skeletonmae"
    done = [line for line in lines if re.match(r"\[\d/5\] ", line)]
    assert [line[:5] for line in done] == [f"[{number}/5]" for number in range(1, 6)]
    assert lines.index(done[0]) > next(
        index for index, line in enumerate(lines) if "in all" in line
    )


def test_the_folder_holds_records_weights_and_table_and_nothing_else(good: Finished) -> None:
    assert tuple(records_in(good.out)) == CELLS
    names = {path.name for path in good.out.rglob("*") if path.is_file()}
    expected = {
        "record.json",
        "speed.json",
        "encoder.safetensors",
        "metrics.jsonl",
        "pictures.json",
        "table.md",
        "table.csv",
        "matrix.json",
    }
    assert names - {LOCK} == expected
    assert len(list(good.out.glob("*/speed.json"))) == 1
    weights = {row_of(path.parent.name) for path in good.out.glob("*/encoder.safetensors")}
    assert weights == {"gfp-s0", "skeletonmae-s0", "plain-s0"}


def test_the_table_on_disk_has_its_command_and_the_notes_on_screen(good: Finished) -> None:
    text = (good.out / "table.md").read_text()
    assert text.startswith("    python -m harness run ")
    notes = [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")]
    assert len(notes) >= 6
    explained = [line for line in notes if line not in good.outcome.out]
    assert len(explained) < len(notes) / 2  # of columns that only the table on disk has
    wide = harness("table", good.out, "--wide").out
    assert all(line in wide for line in notes)


def test_the_table_on_disk_holds_the_whole_folder_and_the_screen_what_was_asked(
    good: Finished, copied: Path
) -> None:
    record = good.records()["plain-s0"]
    spec = record.spec.model_copy(
        update={"train": record.spec.train.model_copy(update={"budget": "5steps"})}
    )
    RecordStore(copied).write_run(record.model_copy(update={"spec": spec, "address": spec.address}))
    outcome = good.again(copied)
    text = (copied / "table.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## train.budget 5steps",
        "## train.budget 6steps",
    ]
    assert "train.budget" not in outcome.out
    assert outcome.out.count("\ngfp ") == 1
    assert text.endswith((good.out / "table.md").read_text().partition("\n\n")[2])


def test_every_record_is_ok_complete_and_at_its_address(good: Finished) -> None:
    for name, record in good.records().items():
        assert record.status == "ok", name
        assert record.accuracy is not None
        assert record.accuracy.test_clips == TEST_CLIPS
        assert record.spec.address == record.address
        assert (good.out / record.address / "record.json").exists()
        assert record.data.fingerprint == record.spec.data.fingerprint != ""
        assert record.spec.data.split == "xsub"


@pytest.mark.parametrize("name", ["gfp-s0", "skeletonmae-s0", "plain-s0"])
def test_a_training_record_tells_what_was_done(good: Finished, name: str) -> None:
    record = good.records()[name]
    assert record.training is not None
    assert record.training.steps == 6
    assert record.training.clips_seen == pytest.approx(
        24
    )  # 6 steps of 4 body sequences, one body per clip
    assert record.training.losses[-1]["step"] == 6
    assert [point.step for point in record.curve] == [3, 6]
    assert record.curve[-1].accuracy == record.accuracy
    assert {"encoder": "1", "trainer": "1", "probes": "1"}.items() <= record.method.versions.items()
    assert record.method.source == ""


def test_all_runs_share_encoder_data_and_machine(good: Finished) -> None:
    records = good.records()
    encoders = {record.encoder.architecture for record in records.values() if record.encoder}
    assert len(encoders) == 1
    assert len({record.data.fingerprint for record in records.values()}) == 1
    assert len({record.environment.fingerprint for record in records.values()}) == 1
    assert (
        len({records[name].spec.held_equal for name in ("gfp-s0", "skeletonmae-s0", "plain-s0")})
        == 1
    )


def test_options_are_resolved_in_the_record(good: Finished) -> None:
    record = good.records()["gfp-s0"]
    assert record.spec.method.options["local_width"] == 16  # twice the encoder's width
    assert record.spec.method.options["windows"] == [6, 3, 1]


def test_weights_on_disk_are_an_encoder(good: Finished) -> None:
    record = good.records()["gfp-s0"]
    weights = load_file(good.out / record.address / "encoder.safetensors")
    assert record.encoder is not None
    assert sum(tensor.numel() for tensor in weights.values()) == record.encoder.parameters
    assert "blocks.0.attn.qkv.weight" in weights


def test_the_speed_record_holds_what_its_ratios_are_made_of(good: Finished) -> None:
    (path,) = good.out.glob("*/speed.json")
    speed = RecordStore(good.out).speed(path.parent.name)
    assert speed is not None
    assert [arm.label for arm in speed.arms] == ["gfp", "skeletonmae", "plain", "encoder-only"]
    assert speed.baseline == "skeletonmae"
    baseline = speed.arm("skeletonmae")
    assert baseline is not None
    for arm in speed.arms:
        assert arm.ratio == paired_ratio(baseline.blocks, arm.blocks)
        assert arm.clips_per_second == pytest.approx(4 / arm.step_seconds)
        assert arm.flop_ratio == pytest.approx(baseline.step_flops / arm.step_flops)
        assert arm.peak_bytes
        assert arm.peak_bytes > 0
        assert sum(arm.forward_shares.values()) == pytest.approx(1)
    assert speed.floor == noise_floor(speed.same) >= 1
    assert len(baseline.blocks) == speed.same.pairs >= 5


def test_the_bound_needs_the_fewest_flops(good: Finished) -> None:
    (path,) = good.out.glob("*/speed.json")
    arms = json.loads(path.read_text())["arms"]
    assert min(arms, key=lambda arm: arm["step_flops"])["label"] == "encoder-only"


# --- a second time ---


def test_the_same_command_again_does_nothing(good: Finished, copied: Path) -> None:
    before = times(copied)
    outcome = good.again(copied)
    assert outcome.code == 0
    assert "plan: 0 of 5 runs to do" in outcome.out
    assert times(copied) == before


def test_the_same_command_again_prints_the_same_table(good: Finished, copied: Path) -> None:
    good.again(copied)
    assert rows(copied) == rows(good.out)


def test_only_a_missing_record_is_made_again(good: Finished, copied: Path) -> None:
    before, removed = times(copied), records_in(copied)["gfp-s0"]
    removed.unlink()
    outcome = good.again(copied)
    assert outcome.code == 0
    assert "plan: 1 of 5 runs to do" in outcome.out
    changed = {name for name, written in times(copied).items() if written != before[name]}
    assert changed == {str(removed.relative_to(copied))}


def test_a_run_made_again_has_the_same_accuracy_and_losses(good: Finished, copied: Path) -> None:
    records_in(copied)["gfp-s0"].unlink()
    good.again(copied)
    (again,) = (record for record in RecordStore(copied).runs() if record.label == "gfp")
    first = good.records()["gfp-s0"]
    assert again.training is not None
    assert first.training is not None
    assert again.accuracy == first.accuracy
    assert again.training.losses == first.training.losses


def test_another_seed_adds_runs_and_keeps_the_others(good: Finished, copied: Path) -> None:
    before = times(copied)
    outcome = good.again(copied, "--seeds", "0-1")
    assert outcome.code == 0
    assert "plan: 4 of 9 runs to do" in outcome.out
    after = times(copied)
    assert {name: after[name] for name in before} == before
    added = records_in(copied).keys() - records_in(good.out).keys()
    assert added == {"gfp-s1", "plain-s1", "random-init-s1", "skeletonmae-s1"}


def test_rerun_makes_everything_again(tmp_path: Path) -> None:
    run = finished(tmp_path, "--methods", "encoder-only")
    before = times(run.out)
    assert run.again(run.out, "--rerun").code == 0
    after = times(run.out)
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in before)


def test_another_budget_keeps_the_controls_and_the_speed(good: Finished, copied: Path) -> None:
    before = times(copied)
    outcome = good.again(copied, "--budget", "3steps")
    assert "plan: 3 of 5 runs to do" in outcome.out
    after = times(copied)
    assert len(after) == len(before) + 3
    assert {name: after[name] for name in before} == before


def test_a_budget_in_flops_goes_on_from_a_stored_speed_record(good: Finished, copied: Path) -> None:
    assert good.again(copied, "--budget", "1e7flops").code == 0


@pytest.mark.parametrize(
    ("value", "reason"), [(None, "cannot be read ("), (7.5, "cannot be read (accuracy.linear_test")]
)
def test_a_record_that_cannot_be_true_is_kept_aside_and_made_again(
    good: Finished, copied: Path, value: float | None, reason: str
) -> None:
    before, path = times(copied), records_in(copied)["gfp-s0"]
    content = json.loads(path.read_text())
    content["accuracy"]["linear_test"] = value
    path.write_text(json.dumps(content) if value else "{")
    spoilt = path.read_text()
    outcome = good.again(copied)
    assert outcome.code == 0
    assert "plan: 1 of 5 runs to do" in outcome.out
    line, count = outcome.err.splitlines()
    assert line.startswith(f"record {path}: {reason}")
    assert line.endswith("; kept as record.refused-1.json, and made again")
    assert count == f"1 record of {copied} set aside"
    assert path.with_name("record.refused-1.json").read_text() == spoilt
    assert rows(copied)["gfp"][0] == rows(good.out)["gfp"][0]
    after = times(copied)
    assert {name for name in after if after[name] != before.get(name)} == {
        str(path.relative_to(copied)),
        str(path.with_name("record.refused-1.json").relative_to(copied)),
    }
    assert good.again(copied).err == ""


def test_another_runs_weights_are_kept_aside_and_the_run_made_again(
    good: Finished, copied: Path
) -> None:
    weights, others = (
        records_in(copied)[name].with_name("encoder.safetensors") for name in ("gfp-s0", "plain-s0")
    )
    shutil.copy(others, weights)
    outcome = good.again(copied)
    assert outcome.code == 0
    assert "plan: 1 of 5 runs to do" in outcome.out
    assert "encoder.safetensors beside it is not the one it was written with" in outcome.err
    assert weights.with_name("encoder.refused-1.safetensors").read_bytes() == others.read_bytes()
    assert (
        weights.read_bytes()
        == records_in(good.out)["gfp-s0"].with_name("encoder.safetensors").read_bytes()
    )


def test_weights_that_were_not_kept_are_not_missed(good: Finished, copied: Path) -> None:
    for weights in copied.glob("*/encoder.safetensors"):
        weights.unlink()
    outcome = good.again(copied)
    assert (outcome.code, outcome.err) == (0, "")
    assert "plan: 0 of 5 runs to do" in outcome.out


def test_a_record_of_a_newer_version_stops_the_run_before_any_work(
    good: Finished, copied: Path
) -> None:
    path = records_in(copied)["gfp-s0"]
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    before = times(copied)
    for more in ((), ("--rerun",)):
        outcome = good.again(copied, *more)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert f"record {path}: written by a newer version of the suite (schema 99" in outcome.err
        assert times(copied) == before


def test_a_damaged_speed_record_is_kept_aside_and_measured_again(
    good: Finished, copied: Path
) -> None:
    (path,) = copied.glob("*/speed.json")
    path.write_text("{")
    outcome = good.again(copied)
    assert outcome.code == 0
    assert f"record {path}: cannot be read (" in outcome.err
    assert path.with_name("speed.refused-1.json").read_text() == "{"
    assert RecordStore(copied).speed(path.parent.name) is not None


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_table_ends_with_the_rows_that_another_version_of_the_code_made(
    good: Finished, copied: Path
) -> None:
    rewritten(
        records_in(copied)["gfp-s0"],
        lambda content: content["method"]["versions"].update(gfp="0", masks="0"),
    )
    assert "note:" not in (copied / "table.md").read_text()
    assert good.again(copied).code == 0
    last = (copied / "table.md").read_text().splitlines()[-1]
    assert last == "- note: gfp, seed 0: gfp 0 -> 1, masks 0 -> 1 since; see --rerun"


def test_a_folder_of_schema_1_is_continued_under_its_own_addresses(
    good: Finished, copied: Path
) -> None:
    def as_schema_1(content: dict[str, Any]) -> None:
        content["schema_version"] = 1
        content["method"].pop("versions")
        content["method"]["source"] = "0123456789ab"

    for path in records_in(copied).values():
        rewritten(path, as_schema_1)
        record = RecordStore(copied).run(path.parent.name)
        assert record is not None
        content = json.loads(path.read_text())
        content["address"] = record.spec.addresses[1]
        path.write_text(json.dumps(content))
        path.parent.rename(copied / record.spec.addresses[1])
    before = times(copied)
    assert good.again(copied).code == 0
    assert times(copied) == before
    last = (copied / "table.md").read_text().splitlines()[-1]
    assert (
        last == "- note: 5 records of schema 1 (before versions of the code were recorded), kept as"
        " they are"
    )


# --- rows ---


def test_one_method_written_twice_is_one_row(tmp_path: Path) -> None:
    words = ("--methods", "skeletonmae:mask_ratio=0.9,skeletonmae,skeletonmae:mask_ratio=0.90")
    outcome = harness(
        "run", *SMALL, *words, "--dataset", small_file(tmp_path), "--out", tmp_path / "out"
    )
    assert outcome.code == 0
    assert (
        "skeletonmae:mask_ratio=0.9 and skeletonmae and skeletonmae:mask_ratio=0.90 are the same"
        in outcome.out
    )
    assert [name for name in records_in(tmp_path / "out") if name.startswith("skeletonmae")] == [
        "skeletonmae-s0"
    ]
    assert "±" not in rows(tmp_path / "out")["skeletonmae"][1]


def test_the_same_file_elsewhere_is_the_same_data(
    good: Finished, copied: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere.npz").write_bytes(
        Path(good.arguments[good.arguments.index("--dataset") + 1]).read_bytes()
    )
    before = times(copied)
    assert good.again(copied, "--dataset", tmp_path / "elsewhere.npz").code == 0
    assert times(copied) == before


# --- speed alone ---


def test_speed_can_be_measured_alone_and_serves_a_later_run(tmp_path: Path) -> None:
    out, methods = tmp_path / "out", ("--methods", "encoder-only")
    words = [word for word in SMALL if word not in ("--budget", "6steps")]
    data = ("--dataset", small_file(tmp_path), "--out", out)
    outcome = harness("speed", *words, *data, *methods)
    assert (outcome.code, outcome.err) == (0, "")
    measured = times(out)
    assert [Path(name).name for name in measured] == ["speed.json"]
    found = rows(out, "speed.md")
    assert found["encoder-only"][found["method"].index("speedup [95 %]")] == "1 (baseline)"
    assert harness("run", *SMALL, *data, *methods).code == 0
    after = times(out)
    assert {name: after[name] for name in measured} == measured
    assert len(after) == len(measured) + 3


def test_the_evaluation_that_is_best_for_selection_counts(good: Finished) -> None:
    trained = [record for record in good.records().values() if record.curve]
    assert trained
    for record in trained:
        assert all(point.accuracy.selection is not None for point in record.curve)
        best = max(reversed(record.curve), key=lambda point: point.accuracy.selection or 0.0)
        assert record.accuracy == best.accuracy


@pytest.mark.parametrize(("validation", "counts"), [(0.2, 0), (0.0, -1)])
def test_without_validation_subjects_the_last_evaluation_counts(
    validation: float, counts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter([0.9, 0.6])
    monkeypatch.setattr(
        "harness.runs.cell.probe_encoder",
        lambda *_: accuracy(0.5).model_copy(
            update={"selection": (value := next(falling)), "linear_test": value}
        ),
    )
    data = small_data(tmp_path, validation=validation)
    record = run_small_cell(small_cell(data), data, tmp_path / "out")
    assert [point.accuracy.linear_test for point in record.curve] == [0.9, 0.6]
    assert record.accuracy == record.curve[counts].accuracy


# --- when methods fail ---


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A method that works among four that do not."""
    faults = ("raise", "raise-late", "nan", "nan-late")
    methods = ",".join(f"plain:fault={fault}" for fault in faults)
    return finished(tmp_path_factory.mktemp("faulty"), "--methods", f"plain,{methods}")


def labelled(run: Finished) -> dict[str, RunRecord]:
    return {record.label: record for record in RecordStore(run.out).runs()}


def test_a_failure_ends_with_code_1_and_a_record_for_every_cell(faulty: Finished) -> None:
    assert faulty.outcome.code == 1
    assert len(labelled(faulty)) == 7


@pytest.mark.parametrize("label", ["plain", "random-init", "raw-pca"])
def test_the_others_are_unharmed(faulty: Finished, label: str) -> None:
    assert labelled(faulty)[label].status == "ok"


@pytest.mark.parametrize("fault", ["raise", "raise-late"])
def test_a_method_that_throws_has_failed_with_reason_and_traceback(
    faulty: Finished, fault: str
) -> None:
    record = labelled(faulty)[f"plain:fault={fault}"]
    assert record.status == "failed"
    assert re.fullmatch(r"RuntimeError: broken on purpose \(plain\.py, line \d+\)", record.error)
    assert "raise RuntimeError" in record.traceback
    assert record.accuracy is None


@pytest.mark.parametrize("fault", ["nan", "nan-late"])
def test_a_loss_that_is_no_number_has_diverged(faulty: Finished, fault: str) -> None:
    record = labelled(faulty)[f"plain:fault={fault}"]
    assert record.status == "diverged"
    assert record.error.startswith("loss is nan after ")
    assert record.accuracy is None


def test_the_table_shows_what_failed(faulty: Finished) -> None:
    found = rows(faulty.out)
    place = found["method"].index("trains faster")
    verdicts = {label: cells[place] for label, cells in found.items()}
    assert (verdicts["plain:fault=raise"], verdicts["plain:fault=raise-late"]) == (
        "failed",
        "failed",
    )
    assert (verdicts["plain:fault=nan"], verdicts["plain:fault=nan-late"]) == (
        "diverged",
        "diverged",
    )
    assert (
        "failed: plain:fault=raise, seed 0: RuntimeError: broken on purpose" in faulty.outcome.out
    )


def test_a_failed_run_leaves_a_record_and_no_weights(faulty: Finished) -> None:
    for label, record in labelled(faulty).items():
        names = {
            path.name
            for path in (faulty.out / record.address).iterdir()
            if not path.stem.startswith("state-")
        }
        weights = {"encoder.safetensors"} if label == "plain" else set()
        assert names - {"metrics.jsonl"} == {"record.json"} | weights


def test_only_a_run_that_may_go_on_leaves_a_state(faulty: Finished) -> None:
    folders = {label: faulty.out / record.address for label, record in labelled(faulty).items()}
    left = {label for label, folder in folders.items() if list(folder.glob("state-*"))}
    assert left == {"plain:fault=raise-late"}  # half-way, and not diverged


def test_a_disk_too_full_for_weights_costs_the_weights_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, module: nn.Module, metadata: object = None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(records, "write_weights", full)
    run = finished(tmp_path, "--methods", "plain")
    assert run.outcome.code == 1
    record = run.records()["plain-s0"]
    assert (record.status, record.weights) == ("ok", {})
    assert record.accuracy is not None
    line = next(
        line for line in run.outcome.out.splitlines() if line.startswith("warning: plain, seed 0: ")
    )
    assert "encoder.safetensors could not be written (No space left on device)" in line
    assert line.endswith("free space, and the same command makes it again")
    (ended,) = [line for line in run.outcome.out.splitlines() if "] plain, seed 0: linear" in line]
    assert "; encoder.safetensors could not be written (" in ended
    assert "runs of this folder not done: 1 run: 1 without weights; `status " in run.outcome.out
    left = {path.name for path in (run.out / record.address).iterdir()}
    assert {name for name in left if not name.startswith("state-")} == {
        "record.json",
        "metrics.jsonl",
    }
    monkeypatch.undo()
    again = run.again(run.out)
    assert again.code == 0
    assert "plain, seed 0: continues at step" in again.out
    after = run.records()["plain-s0"]
    assert after.accuracy == record.accuracy
    assert (list(after.weights), after.warnings) == (["encoder.safetensors"], ())
    assert not list((run.out / record.address).glob("state-*"))


def test_a_finished_folder_that_can_only_be_read_is_shown(
    good: Finished, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, content: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(
        Path, "write_bytes", read_only
    )  # permissions do not stop the tests when root runs them
    monkeypatch.setattr(records, "write_atomically", read_only)
    again = good.again(copied)
    assert again.code == 0
    assert (
        again.err
        == f"{copied / 'table.md'} could not be written (Read-only file system); what it would hold"
        " is printed above\n"
    )
    assert again.lines[-1] == f"records in {copied}"
    shown = rows(good.out)
    assert all(any(line.startswith(label) for line in again.lines) for label in shown)


def test_failed_runs_are_tried_again_and_the_rest_is_kept(faulty: Finished, tmp_path: Path) -> None:
    out = shutil.copytree(faulty.out, tmp_path / "out")
    before = times(out)
    outcome = faulty.again(out)
    assert outcome.code == 1
    changed = {
        name.partition("-s0")[0]
        for name, written in times(out).items()
        if before.get(name) != written
    }
    assert "plain" in changed
    assert not {"random-init", "raw-pca"} & changed


def test_numbers_that_are_not_finite_leave_a_folder_that_can_be_read(tmp_path: Path) -> None:
    run = finished(tmp_path, "--methods", "plain,plain:fault=nan-part,plain:fault=inf-diagnosis")
    assert run.outcome.code == 0
    warnings = [line for line in run.outcome.out.splitlines() if line.startswith("warning: plain")]
    assert [line.rpartition(": ")[2] for line in warnings] == [
        "loss part position is no finite number, first seen at step 4",
        "diagnosis calls is no finite number, first seen at step 3",
    ]
    records = labelled(run)
    part = records["plain:fault=nan-part"].training
    assert part is not None
    assert math.isnan(part.losses[-1]["position"])
    assert records["plain:fault=inf-diagnosis"].curve[0].diagnosis == {"calls": math.inf}
    listed = harness("ls", "runs", "--out", run.out)
    assert (listed.code, listed.err) == (0, "")
    assert len(listed.out.splitlines()) == 6
    assert run.again(run.out).err == ""


def test_a_method_that_throws_while_it_is_timed_harms_no_other(tmp_path: Path) -> None:
    run = finished(tmp_path, "--methods", "plain,plain:fault=raise-timed")
    assert run.outcome.code == 1
    assert labelled(run)["plain"].status == "ok"
    assert labelled(run)["plain:fault=raise-timed"].status == "failed"


def test_a_baseline_that_fails_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    run = finished(tmp_path, "--methods", "plain:fault=raise,plain")
    assert (run.outcome.code, run.outcome.err.count("\n")) == (2, 1)
    assert "the baseline plain:fault=raise fails" in run.outcome.err
    assert "nothing can be compared without it" in run.outcome.err


def rows_at_base(*specs: MethodSpec) -> list[Entry]:
    method = registry().method
    return [make_entry(method(spec.name), spec, meta_encoder(SIZES["base"])) for spec in specs]


def test_the_baseline_is_the_row_that_is_called_so() -> None:
    variant, plain = rows_at_base(
        MethodSpec(name="gfp", options={"tau": 1}), MethodSpec(name="gfp")
    )
    assert choose_baseline("gfp:tau=1", [plain, variant]) is variant
    assert choose_baseline("gfp", [variant, plain]) is plain
    assert choose_baseline("gfp", [variant]) is variant


def test_the_baseline_is_a_row_however_its_options_are_written() -> None:
    plain, shallow = rows_at_base(
        MethodSpec(name="mamp"), MethodSpec(name="mamp", options={"decoder_depth": 3})
    )
    assert choose_baseline("mamp:decoder_depth=5", [shallow, plain]) is plain
    assert choose_baseline("mamp:decoder_depth=3,tau=0.8", [plain, shallow]) is shallow
    with pytest.raises(UsageError, match="'mamp:decoder_depth=5' is not among"):
        choose_baseline("mamp:decoder_depth=5", [shallow])


def test_a_baseline_is_refused_before_data_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> LoadedData:
        raise AssertionError("data was read")

    monkeypatch.setattr(experiment, "load_data", read)
    settings = resolve_settings("quick", [], methods="mamp,gfp", encoder="base", device="cpu")
    common: dict[str, Any] = {"seeds": [0], "out": tmp_path}
    reporter = Reporter(make_console(), quiet=True)
    with pytest.raises(UsageError, match="'mamp:decoder_depth=3' is not among"):
        prepare_experiment(settings, None, reporter, baseline="mamp:decoder_depth=3", **common)
    with pytest.raises(AssertionError, match="data was read"):
        prepare_experiment(settings, None, reporter, baseline="mamp:decoder_depth=5", **common)


# --- when a run is stopped ---


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Ctrl-C in the middle of the second of three methods."""
    folder = tmp_path_factory.mktemp("stopped")
    return finished(folder, "--methods", "plain,plain:fault=interrupt,encoder-only")


def test_a_stopped_run_ends_with_code_130(stopped: Finished) -> None:
    assert stopped.outcome.code == 130


def test_a_stopped_run_says_in_one_line_how_to_go_on(stopped: Finished) -> None:
    assert (
        stopped.outcome.err == "error: stopped; the same command continues with what is missing\n"
    )


def test_a_stopped_run_leaves_an_interrupted_record(stopped: Finished) -> None:
    record = labelled(stopped)["plain:fault=interrupt"]
    assert (record.status, record.error, record.accuracy) == (
        "interrupted",
        "stopped by the user",
        None,
    )
    assert record.training is not None
    assert 0 < record.training.steps < 6


def test_a_stopped_run_keeps_what_was_done_and_begins_nothing_more(stopped: Finished) -> None:
    statuses = {label: record.status for label, record in labelled(stopped).items()}
    assert statuses == {
        "raw-pca": "ok",
        "random-init": "ok",
        "plain": "ok",
        "plain:fault=interrupt": "interrupted",
    }


def test_a_stopped_run_leaves_a_clean_folder(stopped: Finished) -> None:
    names = {path.name for path in stopped.out.rglob("*") if path.is_file()}
    states = {f"state-{step:09d}.{ending}" for step in (3, 4) for ending in ("json", "safetensors")}
    expected = {
        "record.json",
        "speed.json",
        "encoder.safetensors",
        "metrics.jsonl",
        "matrix.json",
        *states,
    }
    assert names - {LOCK} == expected


def test_an_interrupted_run_is_not_finished(stopped: Finished, tmp_path: Path) -> None:
    out = shutil.copytree(stopped.out, tmp_path / "out")
    assert "plan: 2 of 5 runs to do" in stopped.again(out).out


@pytest.mark.long
def test_a_killed_run_is_completed_by_the_same_command(tmp_path: Path) -> None:
    """``kill -9`` while the second cell that trains is being evaluated;
    only what is missing is run afterwards.
    """
    waiting, out = tmp_path / "waiting", tmp_path / "out"
    data, plugin = str(small_file(tmp_path)), str(plugin_file(tmp_path))
    command = [
        "run",
        *SMALL,
        "--dataset",
        data,
        "--plugin",
        plugin,
        "--out",
        str(out),
        "--methods",
        "encoder-only,plain",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PLAIN_WAITS": str(waiting)}
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness", *command],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            end = time.monotonic() + 120
            while not waiting.exists() and process.poll() is None and time.monotonic() < end:
                time.sleep(0.02)
        finally:
            process.kill()
            process.wait()
    assert waiting.exists(), (tmp_path / "log").read_text()
    assert process.returncode == -signal.SIGKILL
    assert set(records_in(out)) == {"raw-pca-s0", "random-init-s0", "encoder-only-s0"}
    leftover = (
        out / next(out.glob("encoder-only*")) / f".record.json.{records.host()}.{process.pid}.tmp"
    )
    leftover.write_text('{"half": ')
    before = times(out)

    outcome = harness(*command)
    assert outcome.code == 0, outcome
    assert "plan: 1 of 4 runs to do" in outcome.out
    assert {record.status for record in RecordStore(out).runs()} == {"ok"}
    assert set(records_in(out)) == {"raw-pca-s0", "random-init-s0", "encoder-only-s0", "plain-s0"}
    after = times(out)
    assert {name: after[name] for name in before} == before
    assert not leftover.exists()
