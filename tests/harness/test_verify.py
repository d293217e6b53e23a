"""`harness verify`: a folder as it was left holds together;
whatever is changed in it by hand is found and named.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.records.store import RecordStore
from harness.studies.verify import budgeted, selected, verify
from tests.harness.made_up_records import run_record
from tests.harness.small_run import SMALL, Outcome, harness, records_in, small_file
from tests.harness.test_committed_tables import RESULTS

COMMITTED = sorted(path.parent for path in RESULTS.rglob("records.jsonl"))
CHECKS = (
    "records",
    "addresses",
    "weights",
    "data",
    "versions",
    "accuracies",
    "steps, clips, curves",
    "times",
    "ratios, floors, verdicts",
)
OF_RUNS = (*CHECKS, "pictures")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods and the controls."""
    folder = tmp_path_factory.mktemp("finished")
    data = ("--dataset", small_file(folder), "--out", folder / "out")
    assert harness("run", *SMALL, *data, "--methods", "encoder-only,skeletonmae").code == 0
    return folder / "out"


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(finished, tmp_path / "out")


def run_file(folder: Path) -> Path:
    return records_in(folder)["skeletonmae-s0"]


def speed_file(folder: Path) -> Path:
    (found,) = folder.glob("*/speed.json")
    return found


def differences(outcome: Outcome) -> list[str]:
    """The lines below the table."""
    lines = outcome.out.splitlines()
    return lines[1 + len(OF_RUNS) :]


def test_a_folder_as_it_was_left_holds_together(finished: Path) -> None:
    outcome = harness("verify", finished)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert len(lines) == 1 + len(OF_RUNS)
    assert all(
        line.startswith(name) and line.endswith("as recorded")
        for name, line in zip(OF_RUNS, lines[1:], strict=True)
    )
    assert "2 files" in lines[1 + CHECKS.index("weights")]
    assert "5 records" in lines[1]


def test_without_validation_clips_the_last_evaluation_counts() -> None:
    record = run_record("gfp")
    first, last = (
        point.model_copy(
            update={"accuracy": point.accuracy.model_copy(update={"selection": selection})}
        )
        for point, selection in zip(record.curve, (0.9, 0.1), strict=True)
    )
    data = {clips: record.data.model_copy(update={"validation_clips": clips}) for clips in (0, 200)}
    assert selected(record.model_copy(update={"curve": [first, last], "data": data[200]})) == first
    assert selected(record.model_copy(update={"curve": [first, last], "data": data[0]})) == last


def test_weights_that_were_not_kept_are_counted_and_no_difference(folder: Path) -> None:
    for path in folder.glob("*/encoder.safetensors"):
        path.unlink()
    outcome = harness("verify", folder)
    assert outcome.code == 0
    assert "2 not kept here" in outcome.out


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def arm(content: dict[str, Any]) -> dict[str, Any]:
    """The arm that is not the baseline."""
    found: dict[str, Any] = next(
        arm for arm in content["arms"] if arm["label"] != content["baseline"]
    )
    return found


def swap_curve(content: dict[str, Any]) -> None:
    content["curve"].reverse()


RUN_CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "accuracy above 1": ("records", lambda c: c["accuracy"].update(linear_test=7.5)),
    "another address": ("records", lambda c: c.update(address="skeletonmae-s0-v2-000000000000")),
    "a newer schema": ("records", lambda c: c.update(schema_version=99)),
    "another learning rate": ("addresses", lambda c: c["spec"]["train"].update(lr=0.5)),
    "another seed": ("addresses", lambda c: c["spec"].update(seed=7)),
    "another option": (
        "addresses",
        lambda c: c["spec"]["method"]["options"].update(mask_ratio=0.5),
    ),
    "other data": ("data", lambda c: c["data"].update(fingerprint="f00")),
    "other clips": ("data", lambda c: c["data"].update(train_clips=1)),
    "no software": ("versions", lambda c: c["environment"].update(versions={})),
    "no versions of the code": ("versions", lambda c: c["method"].update(versions={})),
    "no number of clips": (
        "accuracies",
        lambda c: c["curve"][0]["accuracy"].update(knn_test=0.123),
    ),
    "other test clips": ("accuracies", lambda c: c["accuracy"].update(test_clips=10)),
    "an accuracy that no evaluation had": (
        "accuracies",
        lambda c: c["accuracy"].update(linear_test=1.0, knn_test=0.0),
    ),
    "the best evaluation without a validation part": (
        "accuracies",
        lambda c: (
            c["data"].update(validation_clips=0),
            [
                point["accuracy"].update(linear_validation=None, knn_validation=None)
                for point in c["curve"]
            ],
            c["curve"][0]["accuracy"].update(selection=1.0),
            c["curve"][1]["accuracy"].update(selection=0.0),
            c.update(accuracy=c["curve"][0]["accuracy"]),
        ),
    ),
    "failed with an accuracy": ("records", lambda c: c.update(status="failed")),
    "a control's label": ("records", lambda c: c.update(label="random-init")),
    "another method's label": ("records", lambda c: c.update(label="gfp")),
    "another option in its label": (
        "records",
        lambda c: c.update(label="skeletonmae:mask_ratio=0.123"),
    ),
    "ok without evaluations": ("records", lambda c: c.update(curve=[])),
    "ok with an error": ("records", lambda c: c.update(error="why")),
    "less than one thread": ("records", lambda c: c["environment"].update(threads=-1)),
    "ok without losses": ("steps, clips, curves", lambda c: c["training"].update(losses=[])),
    "a loss that is no number": (
        "steps, clips, curves",
        lambda c: c["training"]["losses"][0].update(loss="NaN"),
    ),
    "no FLOPs": ("steps, clips, curves", lambda c: c["training"].update(flops=0)),
    "other FLOPs": (
        "steps, clips, curves",
        lambda c: c["training"].update(flops=2 * c["training"]["flops"]),
    ),
    "losses from before the start": (
        "steps, clips, curves",
        lambda c: c["training"]["losses"][0].update(step=0),
    ),
    "a first evaluation that took no time": (
        "steps, clips, curves",
        lambda c: c["curve"][0].update(seconds=0),
    ),
    "half a step": ("records", lambda c: c["training"]["losses"][0].update(step=1.5)),
    "a regularisation that was not asked for": (
        "accuracies",
        lambda c: c["curve"][0]["accuracy"].update(regularisation=77.0),
    ),
    "another encoder": ("data", lambda c: c["encoder"].update(parameters=0)),
    "other body sequences": (
        "data",
        lambda c: c["data"].update(train_sequences=c["data"]["train_sequences"] + 1),
    ),
    "no weights": ("weights", lambda c: c.update(weights={})),
    "weights of another name": ("weights", lambda c: c["weights"].update(odd="0" * 64)),
    "weights without a SHA-256": (
        "weights",
        lambda c: c["weights"].update({"method.safetensors": "0"}),
    ),
    "more training than time": ("times", lambda c: c["training"].update(seconds=1e6)),
    "a curve in disorder": ("steps, clips, curves", swap_curve),
    "a curve cut short": ("steps, clips, curves", lambda c: c["curve"].pop()),
    "other steps": ("steps, clips, curves", lambda c: c["training"].update(steps=7)),
    "other clips seen": ("steps, clips, curves", lambda c: c["training"].update(clips_seen=1e6)),
    "losses in disorder": ("steps, clips, curves", lambda c: c["training"]["losses"].reverse()),
    "another wall time": ("times", lambda c: c.update(wall_seconds=2 * c["wall_seconds"])),
    "finished before it started": ("times", lambda c: c.update(finished="2001-01-01T00:00:00Z")),
}
SPEED_CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "another method": ("addresses", lambda c: c["spec"].update(baseline="gfp")),
    "a better ratio": (
        "ratios, floors, verdicts",
        lambda c: arm(c)["ratio"].update(
            {name: arm(c)["ratio"][name] * 1.1 for name in ("value", "low", "high")}
        ),
    ),
    "a wider interval": (
        "ratios, floors, verdicts",
        lambda c: arm(c)["ratio"].update(low=arm(c)["ratio"]["low"] / 2),
    ),
    "a faster block": ("ratios, floors, verdicts", lambda c: arm(c)["blocks"].__setitem__(0, 1e-6)),
    "a block less": ("records", lambda c: arm(c)["blocks"].pop()),
    "a round more": ("records", lambda c: c.update(rounds=[len(arm(c)["blocks"]), 1])),
    "a ratio above its interval": (
        "records",
        lambda c: arm(c)["ratio"].update(value=2 * arm(c)["ratio"]["high"]),
    ),
    "an interval upside down": (
        "records",
        lambda c: arm(c)["ratio"].update(low=2 * arm(c)["ratio"]["high"]),
    ),
    "another step time": ("ratios, floors, verdicts", lambda c: arm(c).update(step_seconds=1e-6)),
    "other clips/s": ("ratios, floors, verdicts", lambda c: arm(c).update(clips_per_second=1e6)),
    "another FLOP ratio": ("ratios, floors, verdicts", lambda c: arm(c).update(flop_ratio=99.0)),
    "other FLOPs": (
        "ratios, floors, verdicts",
        lambda c: arm(c).update(step_flops=arm(c)["step_flops"] * 2),
    ),
    "a lower floor": ("ratios, floors, verdicts", lambda c: c.update(floor=c["floor"] + 1)),
    "another verdict": (
        "ratios, floors, verdicts",
        lambda c: arm(c).update(
            verdict="not supported" if arm(c)["verdict"] == "supported" else "supported"
        ),
    ),
    "no baseline": ("ratios, floors, verdicts", lambda c: c.update(baseline="gfp")),
    "two rows of one name": ("records", lambda c: arm(c).update(label=c["baseline"])),
    "no clips": ("ratios, floors, verdicts", lambda c: arm(c).update(clips=0)),
    "no batch": ("ratios, floors, verdicts", lambda c: arm(c).update(batch_size=0)),
    "a row that was not asked for": (
        "ratios, floors, verdicts",
        lambda c: arm(c).update(label="mamp"),
    ),
    "a bound that is no control": (
        "ratios, floors, verdicts",
        lambda c: [
            one.update(control=False) for one in c["arms"] if one["label"] == "encoder-only"
        ],
    ),
    "no FLOPs": (
        "ratios, floors, verdicts",
        lambda c: arm(c).update(step_flops=0, flop_ratio=None),
    ),
    "another batch": (
        "ratios, floors, verdicts",
        lambda c: c.update(batch_size=c["batch_size"] + 1),
    ),
    "other clips a step": (
        "ratios, floors, verdicts",
        lambda c: arm(c).update(batch_size=arm(c)["batch_size"] + 1),
    ),
    "other bodies per clip": ("ratios, floors, verdicts", lambda c: c.update(bodies_per_clip=7.0)),
    "another ratio of the same": (
        "ratios, floors, verdicts",
        lambda c: c["same"].update(low=1.0, value=1.5, high=9.0),
    ),
    "other pairs": ("ratios, floors, verdicts", lambda c: arm(c)["ratio"].update(pairs=99)),
    "blocks that nobody watched": (
        "ratios, floors, verdicts",
        lambda c: c["health"].update(blocks=1),
    ),
    "no data": ("records", lambda c: c["spec"].update(data={})),
    "measured before it began": (
        "ratios, floors, verdicts",
        lambda c: c.update(finished="2001-01-01T00:00:00Z"),
    ),
}


@pytest.mark.parametrize("change", RUN_CHANGES)
def test_what_was_changed_in_a_run_is_found(folder: Path, change: str) -> None:
    check, edit = RUN_CHANGES[change]
    edited(run_file(folder), edit)
    found(folder, check, run_file(folder).parent.name)


@pytest.mark.parametrize("change", SPEED_CHANGES)
def test_what_was_changed_in_a_measurement_is_found(folder: Path, change: str) -> None:
    check, edit = SPEED_CHANGES[change]
    edited(speed_file(folder), edit)
    found(folder, check, speed_file(folder).parent.name)


def found(folder: Path, check: str, address: str) -> None:
    """Exit code 1, and a line that names check and record."""
    outcome = harness("verify", folder)
    assert (outcome.code, outcome.err) == (1, "")
    lines = differences(outcome)
    assert any(line.startswith(f"{check}: {address}: ") for line in lines), outcome.out
    assert all(len(line) < 300 for line in lines)


def test_the_label_of_a_method_on_a_control_is_found(folder: Path) -> None:
    path = records_in(folder)["random-init-s0"]
    edited(path, lambda content: content.update(label="skeletonmae"))
    found(folder, "records", path.parent.name)


def test_steps_under_a_budget_in_seconds_follow_from_the_step_time(tmp_path: Path) -> None:
    record = run_record("gfp")
    assert record.training
    steps = record.training.model_copy(
        update={"interleaved_step_seconds": 60 / record.training.steps}
    )
    assert budgeted(record.model_copy(update={"training": steps})) == record.training.steps
    assert budgeted(record) is None  # of before it was kept


def test_other_weights_are_found(folder: Path) -> None:
    path = run_file(folder).with_name("encoder.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found(folder, "weights", path.parent.name)


def test_a_damaged_record_is_found(folder: Path) -> None:
    run_file(folder).write_text("{")
    found(folder, "records", run_file(folder).parent.name)


def test_what_a_run_set_aside_is_counted_and_no_difference(folder: Path) -> None:
    (run_file(folder).parent / "record.refused-1.json").write_text("{")
    outcome = harness("verify", folder)
    assert outcome.code == 0
    assert "1 record set aside and made again" in outcome.out


def test_the_checks_as_json(folder: Path) -> None:
    edited(run_file(folder), lambda content: content["accuracy"].update(linear_test=7.5))
    outcome = harness("verify", folder, "--json")
    assert outcome.code == 1
    checks = {check["name"]: check for check in json.loads(outcome.out)}
    assert tuple(checks) == OF_RUNS
    (line,) = checks["records"]["differences"]
    assert line.startswith(f"{run_file(folder).parent.name}: cannot be read (accuracy.linear_test")
    assert checks["weights"]["differences"] == []


def test_a_folder_without_records_is_one_line(tmp_path: Path) -> None:
    outcome = harness("verify", tmp_path)
    assert (outcome.code, outcome.out) == (2, "")
    assert (
        outcome.err
        == f"error: {tmp_path}: expected an output folder with records, found none; check the"
        " path\n"
    )


def test_the_same_data_under_one_name_must_be_the_same(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for name, fingerprint in (("random-init", "a"), ("raw-pca", "b")):
        record = run_record(name)
        spec = record.spec.model_copy(
            update={"data": record.spec.data.model_copy(update={"fingerprint": fingerprint})}
        )
        data = record.data.model_copy(update={"fingerprint": fingerprint})
        store.write_run(
            record.model_copy(update={"spec": spec, "address": spec.address, "data": data})
        )
    (check,) = (check for check in verify(tmp_path) if check.name == "data")
    (line,) = check.differences
    assert line.startswith("raw-pca-s0-")
    assert ": data b, 12 classes, 800 + 200 / 400 clips; in random-init-s0-" in line
    assert line.endswith(" a, 12 classes, 800 + 200 / 400 clips")


@pytest.mark.parametrize("committed", COMMITTED, ids=lambda path: str(path.relative_to(RESULTS)))
def test_every_committed_study_holds_together(committed: Path) -> None:
    found = {check.name: check.differences for check in verify(committed)}
    assert found.keys() - {"evaluations", "pictures"} == set(CHECKS)
    assert not any(found.values()), found
