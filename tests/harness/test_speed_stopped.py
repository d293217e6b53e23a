"""A speed measurement that is stopped leaves what it measured,
which never passes for a finished one.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from harness.records.ratios import noise_floor, paired_ratio
from harness.records.schema import SpeedRecord
from harness.records.store import SPEED_FILE, UNFINISHED_SPEED_FILE, RecordStore
from harness.report.speed import speed_notes, speed_table
from harness.speed.interleave import MINIMUM_ROUNDS
from tests.harness.children import begin, killed, needs_fork
from tests.harness.small_run import SMALL, Outcome, harness, small_file

WORDS = (*SMALL[: SMALL.index("--budget")], "--methods", "encoder-only,skeletonmae")


def measured(folder: Path) -> Outcome:
    """The command, in this process."""
    return harness(
        "speed",
        *WORDS,
        "--speed-seconds",
        "1",
        "--dataset",
        small_file(folder),
        "--out",
        folder / "out",
    )


@pytest.fixture
def stopped(tmp_path: Path) -> RecordStore:
    """A folder as a measurement leaves it that was stopped before the last of its nine rounds."""
    assert measured(tmp_path).code == 0
    store = RecordStore(tmp_path / "out")
    (record,) = store.speeds()
    (store.folder(record.address) / SPEED_FILE).unlink()
    store.write_speed(record.model_copy(update={"planned_rounds": 9}))
    return store


@needs_fork
@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_measured_is_there_when_the_process_is_killed(
    number: signal.Signals, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["speed", *WORDS, "--speed-seconds", "60", "--threads", "1"]
    process = begin(
        [*words, "--dataset", str(small_file(tmp_path)), "--out", str(out)], tmp_path / "log"
    )
    while not (found := list(out.glob(f"*/{UNFINISHED_SPEED_FILE}"))):
        assert process.is_alive()
        time.sleep(0.01)
    killed(process, number)
    store = RecordStore(out)
    assert list(store.speeds()) == []
    assert not store.refused
    record = store.unfinished_speed(found[0].parent.name)
    assert record is not None
    assert record.planned_rounds is not None
    assert 1 <= record.done_rounds < record.planned_rounds
    assert {arm.label for arm in record.arms} == {"encoder-only", "skeletonmae"}
    assert {len(arm.blocks) for arm in record.arms} == {record.done_rounds}


def test_the_same_command_begins_again_says_so_and_leaves_nothing_of_it(
    stopped: RecordStore, tmp_path: Path
) -> None:
    found = measured(tmp_path)
    assert found.code == 0
    assert f"was stopped after {MINIMUM_ROUNDS} of 9 rounds: it begins again" in found.out
    (record,) = stopped.speeds()
    assert record.planned_rounds is None
    assert stopped.unfinished_speed(record.address) is None
    assert not list(stopped.root.glob(f"*/{UNFINISHED_SPEED_FILE}"))
    assert "begins again" not in measured(tmp_path).out


def test_under_the_name_of_a_finished_record_it_is_refused(stopped: RecordStore) -> None:
    (path,) = stopped.root.glob(f"*/{UNFINISHED_SPEED_FILE}")
    path.rename(path.with_name(SPEED_FILE))
    assert list(stopped.speeds()) == []
    assert [refusal.reason for refusal in stopped.refused.values()] == [
        "is of a measurement that was not finished"
    ]


def test_its_table_says_that_it_is_not_finished(stopped: RecordStore) -> None:
    (path,) = stopped.root.glob(f"*/{UNFINISHED_SPEED_FILE}")
    record = stopped.unfinished_speed(path.parent.name)
    assert record is not None
    assert f"UNFINISHED: stopped after {MINIMUM_ROUNDS} of 9 rounds" in speed_notes(record)
    finished = SpeedRecord.model_validate({**record.model_dump(), "planned_rounds": None})
    assert not [line for line in speed_notes(finished) if "UNFINISHED" in line]


def test_a_single_round_is_left_and_read_and_shown(stopped: RecordStore) -> None:
    (path,) = stopped.root.glob(f"*/{UNFINISHED_SPEED_FILE}")
    record = stopped.unfinished_speed(path.parent.name)
    assert record is not None
    arms = [
        arm.model_copy(update={"blocks": arm.blocks[:1], "ratio": paired_ratio([2.0], [1.0])})
        for arm in record.arms
    ]
    same = paired_ratio([1.0], [1.0])
    single = record.model_copy(update={"arms": arms, "same": same, "floor": noise_floor(same)})
    stopped.write_speed(single)
    assert stopped.unfinished_speed(record.address) == single
    assert "UNFINISHED: stopped after 1 of 9 rounds" in speed_notes(single)
    assert "within noise" in set(speed_table(single)["speedup [95 %]"])


def test_what_cannot_be_read_does_not_keep_it_from_beginning_again(
    stopped: RecordStore, tmp_path: Path
) -> None:
    (path,) = stopped.root.glob(f"*/{UNFINISHED_SPEED_FILE}")
    path.write_text("{")
    found = measured(tmp_path)
    assert (found.code, "begins again" in found.out) == (0, False)
    assert [record.planned_rounds for record in stopped.speeds()] == [None]
    assert not path.exists()
