"""Processes that share a folder: one at a time on each run, the dead followed,
nobody's work done twice.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock, Timeout

from harness.cli.output import one_writes
from harness.progress import Reporter, make_console
from harness.records import claims
from harness.records.claims import Claim, Claims, Held, Lost, read_claim, write_claim
from harness.records.store import RecordStore, read_matrix, speed_address, while_it_goes
from harness.report.status import read_status, summary, table_cells
from harness.runs import sharing
from harness.runs.experiment import Request, resolve_request, speed_of
from harness.runs.sharing import Share
from harness.spec.model import DataSpec, MethodSpec, ProbeSpec, RunSpec, TrainSpec
from harness.training.build import Cell
from tests.harness.children import begin, killed, needs_fork
from tests.harness.made_up_records import arm, ratio, run_record, speed_record
from tests.harness.small_run import (
    ENCODER,
    SMALL,
    harness,
    plugin_file,
    registry,
    run_small_cell,
    small_cell,
    small_data,
    small_file,
)
from tests.harness.test_environment import Driver
from tests.harness.test_resume import same_end

RUN = "gfp-s0-v2-0123456789ab"


def claim_of(path: Path) -> Claim:
    """What stands in a claim's file."""
    found = read_claim(path)
    assert found
    return found


def foreign(folder: Path, **changes: Any) -> Path:
    """A claim that somebody else left."""
    path = folder / RUN / claims.CLAIM_FILE
    with Claims(folder).hold(RUN, "gfp", 0):
        mine = claim_of(path)
    write_claim(path, mine.model_copy(update={"token": "another", **changes}))
    return path


def test_a_claim_keeps_others_out_and_goes_with_its_work(tmp_path: Path) -> None:
    mine, others = Claims(tmp_path), Claims(tmp_path)
    with mine.hold(RUN, "gfp", 0) as owned:
        owned.check()
        with pytest.raises(Held, match=f"process {os.getpid()} on "), others.hold(RUN, "gfp", 0):
            pass
        assert others.holder(RUN) == owned.claim
    assert others.holder(RUN) is None
    assert not (tmp_path / RUN).exists()


def test_a_dead_process_of_this_host_is_followed_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    foreign(tmp_path, process=gone.pid)
    with Claims(tmp_path).hold(RUN, "gfp", 0) as owned:
        assert owned.claim.process == os.getpid()


def test_a_number_that_was_used_again_is_another_process(tmp_path: Path) -> None:
    foreign(tmp_path, born=claims.born(os.getpid()) - 1000)
    assert Claims(tmp_path).holder(RUN) is None


def test_a_process_of_another_host_lives_while_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign(tmp_path, machine="elsewhere", host="elsewhere", process=1)
    looks = Claims(tmp_path)
    assert str(looks.holder(RUN)) == "process 1 on elsewhere"
    monkeypatch.setattr(claims, "_SILENT", 0.0)
    assert looks.holder(RUN) is None
    write_claim(path, claim_of(path).model_copy(update={"beat": 1}))
    assert looks.holder(RUN) is not None  # it gave a sign of life between the two looks


@pytest.mark.parametrize("ahead", [-1e6, 1e6])
def test_a_clock_that_is_wrong_kills_nobody(
    ahead: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's age is told by the file system's clock; where that jumped,
    by how long it was watched.
    """
    path = foreign(tmp_path, machine="elsewhere")
    looks = Claims(tmp_path)
    monkeypatch.setattr(time, "time", lambda: ahead)
    assert looks.holder(RUN) is not None
    future = path.stat().st_mtime + 1e6
    os.utime(path, (future, future))
    assert looks.holder(RUN) is not None
    monkeypatch.setattr(claims, "_SILENT", 0.0)
    assert looks.holder(RUN) is None


def test_who_was_silent_for_too_long_finds_out(tmp_path: Path) -> None:
    with Claims(tmp_path).hold(RUN, "gfp", 0) as owned:
        taken = owned.claim.model_copy(update={"token": "another", "host": "elsewhere"})
        write_claim(owned.path, taken)
        with pytest.raises(Lost, match="on elsewhere took this run over"):
            owned.check()
        with pytest.raises(Lost):
            owned.beat()  # no sign of life over it
    assert claim_of(owned.path) == taken


def test_signs_of_life_say_how_far_the_work_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "_BEAT", 0.01)
    with Claims(tmp_path).hold(RUN, "gfp", 0) as owned:
        owned.look = lambda: claims.Progress(
            doing="training", step=5, steps=10, clips=50, seconds=2.0, loss=0.5
        )
        end = time.monotonic() + 10
        while claim_of(owned.path).progress.step != 5 and time.monotonic() < end:
            time.sleep(0.01)
        (row,) = read_status(tmp_path)
    assert table_cells([row])[0][:8] == [
        "gfp",
        "0",
        "training",
        "5 of 10 (50%)",
        "0.5",
        "",
        "25",
        "2 s",
    ]
    assert row.at_work
    assert summary([row]) == "1 run: 1 at work; about 2 s left of the longest at work"


def test_no_two_of_many_get_the_claim_of_a_dead_one(tmp_path: Path) -> None:
    foreign(tmp_path, born=0.0)
    owners, start = [], threading.Barrier(8)

    def take() -> None:
        start.wait()
        try:
            with Claims(tmp_path).hold(RUN, "gfp", 0) as owned:
                owners.append(owned.claim.token)
                time.sleep(0.3)
        except Held:
            pass

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(owners) == 1


@pytest.mark.parametrize("content", [b"", b"{", b'{"host": 3}', b"\xff\xfe"])
def test_a_damaged_claim_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / RUN / claims.CLAIM_FILE
    path.parent.mkdir()
    path.write_bytes(content)
    with Claims(tmp_path).hold(RUN, "gfp", 0) as owned:
        owned.check()


def test_a_claim_of_another_version_counts(tmp_path: Path) -> None:
    path = foreign(tmp_path, machine="elsewhere")
    facts = json.loads(path.read_bytes())
    path.write_text(
        json.dumps({**facts, "later": 1, "progress": {**facts["progress"], "later": 1}})
    )
    with pytest.raises(Held), Claims(tmp_path).hold(RUN, "gfp", 0):
        pass


def test_a_process_knows_its_own_claims_from_those_of_one_that_had_its_number(
    tmp_path: Path,
) -> None:
    """A container that starts again within the minute: the same names, the same number,
    nearly the same start.
    """
    foreign(tmp_path)
    assert Claims(tmp_path).holder(RUN) is None


def test_who_cannot_say_how_far_it_is_lives_all_the_same(tmp_path: Path) -> None:
    with Claims(tmp_path).hold(RUN, "gfp", 0) as owned:
        owned.look = lambda: claims.Progress(step=-1)
        owned.beat()
        assert claim_of(owned.path).beat == 1


def test_a_file_that_cannot_be_read_for_a_while_is_nobodys_claim_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stale(path: Path) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    with Claims(tmp_path).hold(RUN, "gfp", 0) as owned:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", stale)
            owned.check()
            with pytest.raises(OSError, match="Stale"), Claims(tmp_path).hold(RUN, "gfp", 0):
                pass
        owned.check()


def test_a_full_disk_takes_no_claim_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = foreign(tmp_path, born=0.0, process=1)
    before = path.read_bytes()

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(claims, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"), Claims(tmp_path).hold(RUN, "gfp", 0):
        pass
    assert path.read_bytes() == before


@pytest.mark.parametrize(("ago", "expected"), [(500.0, True), (0.0, False)])
def test_a_folder_that_can_only_be_read_tells_who_is_silent(
    ago: float, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign(tmp_path, machine="elsewhere")
    then = path.stat().st_mtime - ago
    os.utime(path, (then, then))

    def refused(path: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "touch", refused)
    (row,) = read_status(tmp_path)
    assert (row.state == "stopped") == expected
    assert row.silent == pytest.approx(ago, abs=60)


@pytest.mark.parametrize(("after", "state"), [(0, "done"), (5, "done"), (-5, "stopped")])
def test_who_died_after_its_record_left_a_finished_run(
    after: int, state: str, tmp_path: Path
) -> None:
    record = run_record()
    path = tmp_path / record.address / claims.CLAIM_FILE
    with Claims(tmp_path).hold(record.address, "gfp", 0):
        mine = claim_of(path)
        RecordStore(tmp_path).write_run(record)
    since = record.finished - timedelta(
        seconds=after
    )  # a claim that is younger than the record is one of a rerun
    write_claim(path, mine.model_copy(update={"token": "of another", "since": since}))
    (row,) = read_status(tmp_path)
    assert row.state == state


def test_runs_of_one_method_and_seed_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    one, other = run_record(), run_record("mamp")
    train = one.spec.train.model_copy(update={"batch_size": 3})
    spec = RunSpec(**{**dict(one.spec), "train": train})
    again = run_record(spec=spec, address=spec.address)
    for record in (one, other, again):
        RecordStore(tmp_path).write_run(record)
    names = {cells[0] for cells in table_cells(read_status(tmp_path))}
    assert names == {one.address, again.address, "mamp"}


def test_a_folder_that_others_make_and_remove_is_made_again(tmp_path: Path) -> None:
    tries = []

    def write() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise FileNotFoundError
        return 5

    assert while_it_goes(write) == 5
    with pytest.raises(FileNotFoundError):
        while_it_goes((tmp_path / "missing").read_bytes)


def test_a_table_is_written_while_no_other_process_reads_for_its_own(tmp_path: Path) -> None:
    with one_writes(tmp_path):
        assert not list(tmp_path.iterdir())  # nobody shared this folder
    (tmp_path / claims.LOCK_FILE).touch()
    with one_writes(tmp_path), pytest.raises(Timeout):
        FileLock(tmp_path / claims.LOCK_FILE).acquire(timeout=0)


# --- a folder's cells ---


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Share:
    """This process's part, which looks again at once."""
    monkeypatch.setattr(sharing, "_LOOK_AGAIN", 0.01)
    store = RecordStore(tmp_path / "out")
    store.check_writable()
    console = make_console()
    console.quiet = True
    return Share(store, Reporter(console), shared=True)


def test_a_cell_that_another_process_does_meanwhile_is_not_done_again(
    share: Share, tmp_path: Path
) -> None:
    data = small_data(tmp_path)
    cells = [small_cell(data, seed=seed) for seed in (0, 1)]
    done = []
    for cell, claim in share.turns(cells):
        claim.check()
        done.append(cell.spec.seed)
        other = cells[1 - cell.spec.seed]
        if len(done) == 1:  # another process is quicker with the second
            run_small_cell(other, data, share.store.root)
    assert done == [0]


def test_what_was_done_while_this_process_waited_is_not_done_again(
    share: Share, tmp_path: Path
) -> None:
    """For the speed measurement, say, of which the quicker process has all it needs."""
    data = small_data(tmp_path)
    cells = [small_cell(data, seed=seed) for seed in (0, 1)]
    share.before = {cell.spec.address: share.store.run_of(cell.spec) for cell in cells}
    run_small_cell(cells[0], data, share.store.root)
    assert [cell.spec.seed for cell, _ in share.turns(cells)] == [1]


def test_a_cell_that_was_lost_is_waited_for(
    share: Share, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small_data(tmp_path)
    cell, waits = small_cell(data), []

    def others_end(share: Share, name: str, detail: str) -> None:
        waits.append(detail)
        run_small_cell(cell, data, share.store.root)
        (share.store.folder(cell.spec.address) / claims.CLAIM_FILE).unlink()

    monkeypatch.setattr(Share, "wait", others_end)
    turns = 0
    for _, claim in share.turns([cell]):
        turns += 1
        write_claim(
            claim.path, claim.claim.model_copy(update={"token": "another", "machine": "elsewhere"})
        )
        with pytest.raises(Lost):
            claim.check()
    assert turns == 1
    assert len(waits) == 1
    assert share.store.run_of(cell.spec) is not None


@pytest.mark.parametrize(
    ("words", "shared"), [((), False), (("--claim",), True), (("--shard", "1/2"), True)]
)
def test_shards_wait_for_each_other_as_claims_do(
    words: tuple[str, ...], shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of an array's tasks begin at once, and one of them measures speed."""

    class Seen(Exception):
        pass

    def look(share: Share, cells: Sequence[Cell]) -> None:
        raise Seen(share.shared)

    monkeypatch.setattr(Share, "refuse_taken", look)
    with pytest.raises(Seen, match=str(shared)):
        harness(
            "run",
            *SMALL,
            "--dataset",
            small_file(tmp_path),
            "--methods",
            "gfp",
            "--out",
            tmp_path / "o",
            *words,
        )


def test_others_are_at_work_while_they_hold_something_of_it(share: Share) -> None:
    with share.claims.hold(RUN, "gfp", 0):
        assert share.at_work([RUN])
        assert not share.at_work(["gfp-s1-v2-0123456789ab"])
        share.shared = False
        assert not share.at_work([RUN])
    share.shared = True
    assert not share.at_work([RUN])


def test_what_failed_while_it_was_timed_is_not_timed_by_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin_file(tmp_path),
        "--claim",
    ]
    words += ["--methods", "encoder-only,plain:fault=raise", "--out", tmp_path / "out"]
    assert harness(*words).code == 1
    (path,) = (tmp_path / "out").glob("*/speed.json")
    first = path.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Share, "at_work", lambda share, addresses: True)
        found = harness(*words)
    assert found.code == 1
    assert path.read_text() == first
    assert "plain:fault=raise failed before timing: RuntimeError: broken on purpose" in " ".join(
        found.out.split()
    )
    assert harness("verify", tmp_path / "out").code == 0
    assert harness(*words).code == 1  # a new start, when nobody is at work, tries again
    assert path.read_text() != first


def test_to_share_a_rerun_is_refused(tmp_path: Path) -> None:
    found = harness(
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--claim",
        "--rerun",
        "--out",
        tmp_path / "out",
    )
    assert found.code == 2
    assert "--claim and --rerun: expected one of them, found both" in found.err
    assert not (tmp_path / "out").exists()


def test_without_a_word_a_cell_at_work_is_an_error(share: Share, tmp_path: Path) -> None:
    cell = small_cell(small_data(tmp_path))
    share.shared = False
    with Claims(share.store.root).hold(cell.spec.address, cell.label, 0):
        with pytest.raises(
            Exception, match=r"works on skeletonmae, seed 0 in this folder; add --claim"
        ):
            share.refuse_taken([cell])
        with pytest.raises(Exception, match="add --claim"):
            next(share.turns([cell]))


def test_shards_are_parts_of_the_matrix(tmp_path: Path) -> None:
    data, out = small_file(tmp_path), tmp_path / "out"
    words = (
        "run",
        *SMALL,
        "--dataset",
        data,
        "--out",
        out,
        "--methods",
        "encoder-only",
        "--seeds",
        "0-1",
    )
    first = harness(*words, "--shard", "1/2")
    assert first.code == 0
    line = f"runs of this folder not done: 2 runs: 2 waiting; `status {out}`"
    assert line in " ".join(first.out.split())
    assert line in (out / "table.md").read_text()
    assert len(list(RecordStore(out).runs())) == 3
    assert len(read_matrix(out)) == 5
    states = sorted((row.label, row.seed, row.state) for row in read_status(out))
    assert [state for *_, state in states].count("waiting") == 2
    assert harness(*words, "--shard", "2/2").code == 0
    assert "not done" not in (out / "table.md").read_text()
    assert {row.state for row in read_status(out)} == {"done"}
    found = harness("status", out)
    assert found.out.endswith("5 runs: 5 done\n")
    min(out.glob("*/record.json")).write_text("{")
    assert "refused" in {row.state for row in read_status(out)}


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    found = harness("run", f"--shard={text}")
    assert found.code == 2
    assert f"--shard '{text}': expected i/n" in found.err


# --- several processes ---


@needs_fork
@pytest.mark.long
def test_of_four_processes_two_are_killed_and_every_run_is_done_once(tmp_path: Path) -> None:
    words = ["run", *SMALL, "--dataset", small_file(tmp_path), "--threads", "1"]
    words += [
        "--methods",
        "gfp,skeletonmae,mamp",
        "--seeds",
        "0-1",
        "--budget",
        "40steps",
        "--state-seconds",
        "0.05",
    ]
    alone = begin([*map(str, words), "--out", str(tmp_path / "alone")], tmp_path / "alone.log")
    alone.join()
    assert alone.exitcode == 0
    out = tmp_path / "out"
    shared = [*map(str, words), "--out", str(out), "--claim"]
    processes = [begin(shared, tmp_path / f"{number}.log") for number in range(4)]
    end = time.monotonic() + 60
    while len(list(out.glob("*/state-*.json"))) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    for process in processes[:2]:
        killed(process, signal.SIGKILL)
    for process in processes[2:]:
        process.join()
    assert [process.exitcode for process in processes[2:]] == [0, 0]
    expected = {record.address: record for record in RecordStore(tmp_path / "alone").runs()}
    found = {record.address: record for record in RecordStore(out).runs()}
    assert found.keys() == expected.keys()
    assert all(same_end(found[a], expected[a]) for a in found if not found[a].method.control)
    done = [log.read_text().count(", 40 steps in ") for log in tmp_path.glob("[0-3].log")]
    assert sum(done) <= 6  # what the dead had finished is in no log
    assert {row.state for row in read_status(out)} == {"done"}
    assert not list(out.glob("*/state-*"))


# --- a GPU ---


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU that is there, and that nothing may open."""

    def opened(*_: object) -> None:
        raise AssertionError("the GPU was opened")

    for name, value in {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "_lazy_init": opened,
        "set_device": opened,
        "get_device_name": opened,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr("ctypes.CDLL", lambda name: Driver())
    monkeypatch.setattr("harness.training.data.BodySequences", opened)


@pytest.mark.usefixtures("unopened")
def test_a_process_that_waits_for_anothers_speed_measurement_has_not_opened_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = resolve_request(
        Request(
            methods=[MethodSpec(name="skeletonmae")],
            seeds=[0],
            encoder=ENCODER,
            data=DataSpec(name=str(small_file(tmp_path)), min_crop=8),
            train=TrainSpec(batch_size=4),
            probe=ProbeSpec(every="4clips"),
            device="cuda",
            out=tmp_path / "out",
            claim=True,
        ),
        registry(),
    )
    assert experiment.environment.device == "GPU 10, 256"  # its driver said so
    timing, store = experiment.timing(), experiment.store
    address = speed_address(timing.spec)
    theirs = Claims(store.root).hold(address, "the speed measurement", 0)
    waited = []

    def wait(*_: object) -> None:
        waited.append(address)
        arms = [arm(cell.label, ratio(1.0, 1.0, 1.0)) for cell in timing.cells]
        record = speed_record(*arms)
        store.write_speed(record.model_copy(update={"address": address, "spec": timing.spec}))
        theirs.__exit__(None, None, None)

    monkeypatch.setattr(Share, "wait", wait)
    theirs.__enter__()
    console = make_console()
    console.quiet = True
    share = Share(store, Reporter(console), shared=True)
    measured = speed_of(experiment, share.reporter, share)
    assert waited == [address] == [measured.record.address]
    with pytest.raises(AssertionError, match="the GPU was opened"):
        experiment.data.place()
