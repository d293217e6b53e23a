"""Output folders joined: every run once, the better one kept, conflicts named,
nothing half-written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.records import merge as merge_module
from harness.records.claims import Claims
from harness.records.schema import RunRecord, SpeedRecord
from harness.records.store import (
    RecordStore,
    read_matrix,
    read_records,
    write_atomically,
    write_matrix,
)
from tests.harness.made_up_records import (
    ENVIRONMENT,
    TIME,
    accuracy,
    arm,
    ratio,
    run_record,
    speed_record,
)
from tests.harness.small_run import Outcome, harness


def leave(folder: Path, *records: RunRecord | SpeedRecord, weights: bytes = b"") -> Path:
    """A folder with these records; trained ones with a file of weights where one is given."""
    for record in records:
        place = folder / record.address
        if weights and isinstance(record, RunRecord):
            write_atomically(place / "encoder.safetensors", weights)
            sha = hashlib.sha256(weights).hexdigest()
            record = record.model_copy(update={"weights": {"encoder.safetensors": sha}})  # noqa: PLW2901
        name = "record.json" if isinstance(record, RunRecord) else "speed.json"
        write_atomically(place / name, record.model_dump_json().encode())
    return folder


def unfinished(name: str = "gfp", status: str = "interrupted", **changes: Any) -> RunRecord:
    return run_record(name, status=status, error="why", accuracy=None, **changes)


def state(folder: Path, step: int, address: str = run_record().address, text: str = "") -> Path:
    """What a process that was killed leaves of a run."""
    place = folder / address
    write_atomically(place / "start.json", b'{"step_seconds": 0.5}')
    for ending in ("safetensors", "json"):
        write_atomically(place / f"state-{step:09d}.{ending}", (text or f"{step}").encode())
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class Folders:
    """Three places, and `harness merge a b --out c`, after which a and b are what they were."""

    def __init__(self, root: Path) -> None:
        self.a, self.b, self.c = (root / name for name in "abc")

    def merge(self) -> Outcome:
        for folder in (self.a, self.b):
            folder.mkdir(exist_ok=True)
        before = content(self.a), content(self.b)
        outcome = harness("merge", self.a, self.b, "--out", self.c)
        assert (content(self.a), content(self.b)) == before
        assert {path.name for path in self.c.parent.iterdir()} <= {"a", "b", "c"}
        return outcome

    def joined(self) -> dict[str, RunRecord]:
        return {record.address: record for record in read_records(self.c).runs}


@pytest.fixture
def at(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


# --- what is joined ---


def test_runs_weights_and_speed_of_both_folders_are_in_the_third_with_their_table(
    at: Folders,
) -> None:
    leave(at.a, run_record("gfp"), weights=b"gfp's")
    leave(at.a, run_record("random-init"), speed_record(arm("gfp", ratio(1, 1, 1)), baseline="gfp"))
    leave(at.b, run_record("mamp"), weights=b"mamp's")
    outcome = at.merge()
    assert (outcome.code, outcome.err) == (0, "")
    joined = content(at.c)
    assert {**content(at.a), **content(at.b)}.items() <= joined.items()
    assert joined.keys() - content(at.a).keys() - content(at.b).keys() == {"table.md", "table.csv"}
    assert "| mamp | - | - | - | 80.0 [" in joined["table.md"].decode()
    assert outcome.lines[0].startswith(
        "3 runs and 1 speed measurement of 2 folders; 0 more said the same"
    )


def test_the_table_is_the_one_that_the_folder_gives(at: Folders) -> None:
    leave(at.a, run_record("gfp"))
    leave(at.b, run_record("mamp"))
    at.merge()
    first, _, rest = (at.c / "table.md").read_text().partition("\n")
    assert first.startswith("    python -m harness merge ")
    printed = harness("table", at.c, "--wide").out
    notes = [line.removeprefix("- ") for line in rest.splitlines() if line.startswith("- ")]
    assert notes
    assert printed.endswith("\n".join(notes) + "\n")


def test_a_run_that_is_in_both_is_there_once(at: Folders) -> None:
    for folder in (at.a, at.b):
        leave(folder, run_record("gfp"), weights=b"the same")
    outcome = at.merge()
    assert outcome.code == 0
    assert list(at.joined()) == [run_record("gfp").address]
    assert "1 more said the same" in outcome.out


def test_the_same_run_made_again_with_the_same_result_is_no_conflict(at: Folders) -> None:
    leave(at.a, run_record("gfp", wall_seconds=70.0))
    leave(at.b, run_record("gfp", wall_seconds=90.0, finished=TIME + timedelta(days=1)))
    assert at.merge().code == 0
    (record,) = at.joined().values()
    assert record.wall_seconds == 70.0


def test_weights_that_only_the_other_folder_kept_come_with_the_record(at: Folders) -> None:
    leave(at.a, run_record("gfp"), weights=b"kept in b")
    leave(at.b, run_record("gfp"), weights=b"kept in b")
    (at.a / run_record("gfp").address / "encoder.safetensors").unlink()
    at.merge()
    assert content(at.c)[f"{run_record('gfp').address}/encoder.safetensors"] == b"kept in b"


def test_a_folder_that_exists_is_joined_too_and_comes_first(at: Folders) -> None:
    leave(at.c, run_record("gfp", wall_seconds=1.0), run_record("mamp"))
    leave(at.a, run_record("gfp", wall_seconds=2.0))
    leave(at.b, run_record("amr"))
    assert at.merge().code == 0
    assert {record.label for record in at.joined().values()} == {"gfp", "mamp", "amr"}
    assert at.joined()[run_record("gfp").address].wall_seconds == 1.0


def test_joining_again_changes_nothing(at: Folders) -> None:
    leave(at.a, run_record("gfp"), weights=b"weights")
    leave(at.b, unfinished("mamp"))
    at.merge()
    before = content(at.c)
    assert at.merge().code == 0
    assert content(at.c) == before


def test_a_run_under_the_address_of_an_earlier_rule_is_the_same_run(at: Folders) -> None:
    record = run_record("gfp")
    leave(at.a, record.model_copy(update={"address": record.spec.addresses[1]}))
    leave(at.b, record)
    assert at.merge().code == 0
    assert list(at.joined()) == [record.spec.addresses[1]]


def test_a_measurement_made_twice_is_there_once_and_named(at: Folders) -> None:
    speed = speed_record(arm("gfp", ratio(1, 1, 1)), baseline="gfp")
    leave(at.a, speed)
    leave(at.b, speed.model_copy(update={"finished": TIME + timedelta(days=1)}))
    outcome = at.merge()
    assert outcome.code == 0
    assert read_records(at.c).speeds == [speed]
    assert outcome.lines[0].startswith("speed-0 was measured twice: 2026-01-02 03:04:05 UTC in ")


def test_logs_of_a_run_come_with_its_record(at: Folders) -> None:
    leave(at.a, unfinished())
    write_atomically(at.a / run_record().address / "metrics.jsonl", b"a's")
    leave(at.b, run_record())
    write_atomically(at.b / run_record().address / "metrics.jsonl", b"b's")
    at.merge()
    assert content(at.c)[f"{run_record().address}/metrics.jsonl"] == b"b's"


# --- which record counts ---


@pytest.mark.parametrize("status", ["interrupted", "failed", "oom"])
def test_a_finished_record_beats_an_unfinished_one(status: str, at: Folders) -> None:
    leave(at.a, unfinished(status=status))
    leave(at.b, run_record(), weights=b"finished")
    outcome = at.merge()
    assert outcome.code == 0
    assert [record.status for record in at.joined().values()] == ["ok"]
    assert "1 unfinished were finished elsewhere" in outcome.out


def test_a_finished_record_takes_the_place_of_an_unfinished_one_and_of_its_state(
    at: Folders,
) -> None:
    state(leave(at.c, unfinished()), 50)
    leave(at.a, run_record(), weights=b"finished")
    assert at.merge().code == 0
    place = run_record().address
    assert content(at.c).keys() == {
        f"{place}/record.json",
        f"{place}/encoder.safetensors",
        "table.md",
        "table.csv",
    }
    assert at.joined()[place].status == "ok"


def test_an_unfinished_record_under_an_earlier_address_gives_way(at: Folders) -> None:
    record = unfinished()
    leave(at.c, record.model_copy(update={"address": record.spec.addresses[1]}))
    leave(at.a, run_record())
    assert at.merge().code == 0
    assert list(at.joined()) == [record.address]
    assert not (at.c / record.spec.addresses[1]).exists()


def test_a_run_finished_in_no_folder_comes_with_its_furthest_state(at: Folders) -> None:
    state(leave(at.a, unfinished()), 50)
    state(leave(at.b, unfinished()), 120)
    assert at.merge().code == 0
    states = {Path(name).name for name in content(at.c) if "state-" in name}
    assert states == {"state-000000120.json", "state-000000120.safetensors"}


def test_the_state_of_a_run_without_a_record_is_joined(at: Folders) -> None:
    leave(at.a, run_record("mamp"))
    state(at.b, 120)
    assert at.merge().code == 0
    assert f"{run_record().address}/state-000000120.json" in content(at.c)


def test_the_state_of_a_run_that_is_finished_elsewhere_is_not_joined(at: Folders) -> None:
    leave(at.a, run_record())
    state(at.b, 120)
    at.merge()
    assert not [name for name in content(at.c) if "state-" in name or "start" in name]


def test_a_further_state_takes_the_place_of_the_joined_folders(at: Folders) -> None:
    state(leave(at.c, unfinished()), 50)
    state(at.a, 120)
    at.merge()
    assert {Path(name).name for name in content(at.c) if name.endswith(".safetensors")} == {
        "state-000000120.safetensors"
    }


def test_no_claim_on_a_run_is_joined(at: Folders) -> None:
    state(at.a, 50)
    write_atomically(at.a / run_record().address / "claim.json", b"{}")
    at.merge()
    assert not [name for name in content(at.c) if "claim" in name]


def test_what_was_asked_of_any_folder_is_asked_of_the_joined_one(at: Folders) -> None:
    leave(at.a, run_record("gfp"))
    for folder, cells in (
        (at.a, {"one": ("gfp", 0), "two": ("gfp", 1)}),
        (at.b, {"two": ("gfp", 1), "six": ("amr", 0)}),
    ):
        write_matrix(folder, cells)
    at.merge()
    assert read_matrix(at.c) == {"one": ("gfp", 0), "two": ("gfp", 1), "six": ("amr", 0)}


# --- conflicts ---


def test_two_finished_records_with_other_accuracies_are_a_conflict_and_the_first_is_kept(
    at: Folders,
) -> None:
    leave(at.a, run_record("gfp", 0.8, knn=0.5), run_record("mamp"))
    leave(at.b, run_record("gfp", 0.7, knn=0.5), run_record("mamp"))
    outcome = at.merge()
    assert outcome.code == 1
    (line,) = (line for line in outcome.lines if line.startswith("conflict: "))
    assert line.startswith(
        f"conflict: {run_record('gfp').address}: linear 80.00% in {at.a}, 70.00% in {at.b}; "
    )
    assert "kNN" not in line
    assert line.endswith(f"kept as in {at.a}")
    kept = at.joined()[run_record("gfp").address].accuracy
    assert kept == accuracy(0.8, 0.5)


def test_other_weights_are_a_conflict(at: Folders) -> None:
    leave(at.a, run_record("gfp"), weights=b"one")
    leave(at.b, run_record("gfp"), weights=b"other")
    outcome = at.merge()
    assert outcome.code == 1
    one, other = (hashlib.sha256(text).hexdigest()[:16] for text in (b"one", b"other"))
    assert f"encoder.safetensors SHA-256 {one} in {at.a}, SHA-256 {other} in {at.b}" in outcome.out
    assert content(at.c)[f"{run_record('gfp').address}/encoder.safetensors"] == b"one"


def test_a_run_that_diverged_in_one_folder_and_not_in_the_other_is_a_conflict(at: Folders) -> None:
    leave(at.a, run_record("gfp"))
    leave(at.b, unfinished("gfp", status="diverged"))
    outcome = at.merge()
    assert outcome.code == 1
    assert (
        f"status ok in {at.a}, diverged in {at.b}; linear 80.00% in {at.a}, none in {at.b}"
        in outcome.out
    )


def test_a_conflict_says_when_the_machines_differ(at: Folders) -> None:
    leave(at.a, run_record("gfp", 0.8))
    leave(
        at.b,
        run_record(
            "gfp", 0.7, environment=ENVIRONMENT.model_copy(update={"processor": "Abacus 4000"})
        ),
    )
    assert "(another machine or other versions); kept as in" in at.merge().out


def test_records_of_before_weights_were_hashed_agree_by_their_accuracies(at: Folders) -> None:
    leave(at.a, run_record("gfp"))
    leave(at.b, run_record("gfp"), weights=b"hashed")
    assert at.merge().code == 0


# --- what is refused ---


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def record_file(folder: Path, name: str) -> Path:
    return folder / run_record(name).address / "record.json"


SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "impossible": (
        lambda found: found["accuracy"].update(linear_test=7.5),
        "cannot be read (accuracy.linear_test: ",
    ),
    "newer": (
        lambda found: found.update(schema_version=99),
        "written by a newer version of the suite (schema 99",
    ),
    "other weights": (
        lambda found: found.update(weights={"encoder.safetensors": "0" * 64}),
        "is not the one it was",
    ),
    "other spec": (
        lambda found: found["spec"].update(seed=7),
        "its spec has the address gfp-s7-v2-",
    ),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_record_that_its_reader_refuses_is_named_and_left_out(spoilt: str, at: Folders) -> None:
    change, reason = SPOILT[spoilt]
    edit(
        record_file(leave(at.a, run_record("gfp"), run_record("mamp"), weights=b"w"), "gfp"), change
    )
    leave(at.b, run_record("gfp", 0.6))
    outcome = at.merge()
    assert outcome.code == 0
    assert reason in outcome.err
    found = at.joined()[run_record("gfp").address].accuracy
    assert found == accuracy(0.6)
    assert len(at.joined()) == 2


def test_a_refused_record_of_the_joined_folder_is_kept_aside(at: Folders) -> None:
    edit(record_file(leave(at.c, run_record("gfp")), "gfp"), SPOILT["impossible"][0])
    leave(at.a, run_record("gfp"))
    outcome = at.merge()
    assert outcome.code == 0
    assert "kept as record.refused-1.json" in outcome.out
    assert at.joined().keys() == {run_record("gfp").address}


def test_a_newer_record_of_the_joined_folder_stays(at: Folders) -> None:
    edit(record_file(leave(at.c, run_record("gfp"), run_record("mamp")), "gfp"), SPOILT["newer"][0])
    before = record_file(at.c, "gfp").read_bytes()
    leave(at.a, run_record("gfp"))
    assert at.merge().code == 0
    assert record_file(at.c, "gfp").read_bytes() == before


def test_what_a_record_calls_its_weights_is_no_path(at: Folders, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    leave(at.a, run_record("gfp", weights={"../../b/stolen": "0" * 64}))
    leave(at.b, run_record("mamp"))
    (at.b / "stolen").write_text("not weights")
    at.merge()
    assert content(at.c).keys() == {
        f"{run_record(name).address}/record.json" for name in ("gfp", "mamp")
    } | {"table.md", "table.csv"}


# --- what cannot be done ---


def refusal(outcome: Outcome) -> str:
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1), outcome
    return outcome.err


def test_a_folder_that_would_be_changed_is_an_error(at: Folders) -> None:
    leave(at.a, run_record("gfp"))
    assert "is one of the folders to join" in refusal(harness("merge", at.a, "--out", at.a))
    assert "which is only read" in refusal(harness("merge", at.a, "--out", at.a / "inside"))
    assert "expected an output folder of `run`" in refusal(
        harness("merge", at.a, at.b, "--out", at.c)
    )
    at.c.write_text("a file")
    assert "expected a folder, found a file" in refusal(harness("merge", at.a, "--out", at.c))


def test_a_folder_that_somebody_works_in_is_not_joined_into(at: Folders) -> None:
    leave(at.a, run_record("gfp"))
    leave(at.c, run_record("mamp"))
    before = content(at.c)
    with Claims(at.c).hold(run_record("mamp").address, "mamp", 0):
        assert "works in it; wait until it is done" in refusal(
            harness("merge", at.a, "--out", at.c)
        )
    assert before.items() <= content(at.c).items()
    assert at.merge().code == 0


def test_a_state_that_its_process_removed_meanwhile_is_an_error_that_says_what_to_do(
    at: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(state(at.a, 50), run_record("mamp"))
    plan = merge_module.plan_merge([at.a], at.c)
    (at.a / run_record("gfp").address / "state-000000050.json").unlink()
    with pytest.raises(UsageError, match=r"state-000000050.json; the same command again"):
        merge_module.write_merge(plan, "")
    assert not at.c.exists()


def test_folders_without_a_record_are_an_error(at: Folders) -> None:
    at.a.mkdir()
    assert "found none" in refusal(harness("merge", at.a, "--out", at.c))
    assert not at.c.exists()


@pytest.mark.parametrize("exists", [False, True], ids=["new", "joined into"])
@pytest.mark.parametrize("full_after", [0, 1, 3])
def test_a_disk_that_is_full_leaves_the_folder_as_it_was(
    full_after: int, exists: bool, at: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(at.a, run_record("gfp"), run_record("amr"), weights=b"weights")
    leave(at.b, run_record("mamp"))
    if exists:
        leave(at.c, unfinished("gfp"))
    before = content(at.c)
    calls = []

    def fsync(number: int) -> None:
        calls.append(number)
        if len(calls) > full_after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(merge_module.os, "fsync", fsync)
    message = refusal(at.merge())
    assert "No space left on device; free space or choose another" in message
    assert content(at.c) == before
    assert at.c.exists() == exists
    assert not exists or {path.name for path in at.c.iterdir()} == {run_record("gfp").address}


def test_a_stop_while_files_are_copied_leaves_the_folder_as_it_was(
    at: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(at.a, run_record("gfp"), weights=b"weights")

    def stop(number: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(merge_module.os, "fsync", stop)
    assert at.merge().code == 130
    assert not at.c.exists()


def test_a_merged_folder_is_continued_by_a_run(at: Folders) -> None:
    leave(at.a, run_record("gfp"))
    leave(at.b, run_record("mamp"))
    at.merge()
    RecordStore(at.c).check_writable()
    assert len(read_records(at.c).runs) == 2
