"""Preparation: what is kept, counted and skipped; going on after a kill;
the same store every time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets.clips import fingerprint
from datasets.errors import DataError
from datasets.formats import store_writing
from datasets.formats.store import open_store, read_header
from datasets.raw import open_source
from datasets.raw import prepare as module
from datasets.raw.bvh import Bvh
from datasets.raw.prepare import Prepared, plan_of, prepare
from datasets.splits import make_split
from tests.datasets.made_up import exchange_file
from tests.datasets.made_up_source import FatalSource, NumberSource, SlowSource, write_numbers

FORMAT_1 = Path(__file__).with_name("store_format_1")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_numbers(tmp_path / "raw")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Parts are read here, not in worker processes, unless a test says so."""
    if "workers" in request.keywords:
        return

    def here(
        source: NumberSource,
        chunks: list,
        paths: list[Path],
        workers: int,
        strict: bool,
        advance: object,
    ) -> None:
        for chunk, path in zip(chunks, paths, strict=True):
            if not path.exists():
                module.read_part(source, chunk, path, strict)

    monkeypatch.setattr(module, "_read_missing", here)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def prepared(raw: Path, folder: Path, **options: bool) -> Prepared:
    return prepare(NumberSource(raw), "numbers", folder, **options)


# --- what is kept ---


def test_clips_stand_in_the_order_of_their_files(raw: Path, tmp_path: Path) -> None:
    clips = open_store(prepared(raw, tmp_path / "store").folder)
    assert clips.columns["names"].tolist() == ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]
    assert clips.columns["label"].tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert clips.lengths.tolist() == [2] * 7
    assert clips.joints.shape == (14, 2, 20, 3)
    assert clips.joints[:, 0, 5, 0].tolist() == [1, 2, 1, 3, 1, 4, 1, 2, 1, 3, 1, 4, 1, 2]
    assert not clips.joints[:, 1].any()
    assert (clips.name, clips.fps, clips.class_names) == ("numbers", 10.0, ("up", "down"))


def test_counts_follow_the_stages(raw: Path, tmp_path: Path) -> None:
    found = prepared(raw, tmp_path / "store")
    assert found.fresh
    assert found.header.counts == {"found": 7, "frames": 14, "clips kept": 7}
    assert found.header.problems == ()
    assert found.header.expected == {"halves": (4, 3)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 1\n1\nx\n", "bad.txt, line 3: expected a number, found 'x'"),
        ("0 1\n1\nnan\n", "bad.txt: bad: coordinates that are no finite numbers"),
        ("0 1\n0\n0\n", "bad.txt: bad: no body in any frame"),
        (
            "",
            (
                "bad.txt: cannot be read (ValueError: not enough values to unpack (expected at"
                " least 1, got 0)); it is an empty file: download it again"
            ),
        ),
    ],
)
def test_what_is_broken_is_named_and_left_out(
    text: str, problem: str, raw: Path, tmp_path: Path
) -> None:
    write_numbers(raw, bad=text)
    found = prepared(raw, tmp_path / "store").header
    assert [line.removeprefix(f"{raw}/") for line in found.problems] == [problem]
    assert found.counts["clips kept"] == 7


def test_broken_files_are_counted(raw: Path, tmp_path: Path) -> None:
    write_numbers(raw, bad="0 1\nx\n", bug="0 1\n1\n", zero="0 1\n0\n")
    found = prepared(raw, tmp_path / "store").header
    assert found.counts["broken files, skipped"] == 2
    assert any("ZeroDivisionError: nobody thought of this" in line for line in found.problems)


def test_strict_stops_at_a_broken_file_and_leaves_no_store(raw: Path, tmp_path: Path) -> None:
    write_numbers(raw, bad="0 1\nx\n")
    with pytest.raises(
        DataError,
        match=r"bad.txt, line 2: expected a number, found 'x'; without --strict such files",
    ):
        prepared(raw, tmp_path / "store", strict=True)
    assert not (tmp_path / "store").exists()


def test_nothing_to_keep_is_an_error(tmp_path: Path) -> None:
    raw = write_numbers(tmp_path / "raw", bad="0 1\nx\n")
    with pytest.raises(
        DataError, match=r"no clip could be kept; the first problem: .*bad.txt, line 2"
    ):
        prepared(raw, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_folder_with_nothing_in_it_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"expected a folder of \.txt files, found none"):
        prepared(tmp_path / "raw", tmp_path / "store")
    with pytest.raises(DataError, match="found nothing there; check the path"):
        prepared(tmp_path / "nowhere", tmp_path / "store")


def test_official_splits_come_with_the_store(raw: Path, tmp_path: Path) -> None:
    clips = open_store(prepared(raw, tmp_path / "store").folder)
    halves = make_split(clips, "halves", validation=0)
    assert (halves.train.tolist(), halves.test.tolist()) == ([0, 2, 4, 6], [1, 3, 5])
    # 0, 3 and 6 have equal joints, likewise 1 and 4, and 2 and 5: 0, 2, 4 and 6 all have a twin in
    # the test part
    with pytest.raises(
        DataError, match="expected clips left in train, found none without repeated ones"
    ):
        make_split(clips, "twin-free", validation=0)


def test_the_fingerprint_is_that_of_the_clips(raw: Path, tmp_path: Path) -> None:
    found = prepared(raw, tmp_path / "store")
    clips = open_store(found.folder)
    assert clips.stored is not None
    assert clips.stored.fingerprint == found.header.fingerprint == fingerprint(clips)
    assert len(np.unique(clips.stored.hashes)) == 3


# --- again, and after a kill ---


def test_a_finished_store_is_not_made_again(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepared(raw, tmp_path / "store")
    monkeypatch.delattr(module, "_assemble")
    again = prepared(raw, tmp_path / "store")
    assert (again.fresh, again.header) == (False, first.header)


def test_a_store_of_other_files_is_not_overwritten(raw: Path, tmp_path: Path) -> None:
    prepared(raw, tmp_path / "store")
    before = content(tmp_path / "store")
    write_numbers(raw, more="0 1\n1\n")
    with pytest.raises(
        DataError, match="holds a store of other raw files; remove it or choose another --out"
    ):
        prepared(raw, tmp_path / "store")
    assert content(tmp_path / "store") == before


def test_a_plan_follows_from_versions_not_from_the_text_or_the_place_of_code(raw: Path) -> None:
    def plan(**changes: object) -> str:
        source = type("NumberSource", (NumberSource,), changes)(raw)
        return plan_of(source, "numbers", source.find())

    same = plan(__module__="datasets.raw.moved", __doc__="Other words.", title="Another title")
    assert same == plan() == plan_of(NumberSource(raw), "numbers", NumberSource(raw).find())
    others = [
        plan(version=2),
        plan(chunk=4),
        plan(fps=5.0),
        plan(bodies=1),
        plan(class_names=("up", "left")),
        plan(splits={"halves": "subject:2->*"}),
        plan_of(NumberSource(raw), "others", NumberSource(raw).find()),
    ]
    assert len({same, *others}) == 8


@pytest.mark.parametrize(("target", "name"), [(NumberSource, "version"), (module, "VERSION")])
def test_a_store_of_another_version_is_named_as_such(
    target: object, name: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = prepared(raw, tmp_path / "store").header
    assert header.made_by == {"NumberSource": 1, "preparation": 1, "store": store_writing.VERSION}
    monkeypatch.setattr(target, name, 2)
    with pytest.raises(
        DataError,
        match=r"other versions made: expected .* 2, .*found .* 1, .*; remove it or choose",
    ):
        prepared(raw, tmp_path / "store")


def test_a_store_of_format_1_is_recognised_and_kept(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store"))
    before = content(folder)
    found = prepare(Bvh(FORMAT_1 / "raw"), "bvh", folder)
    assert not found.fresh
    assert found.note.startswith(
        "made by an earlier version of this suite and kept: data set, joints, classes and"
    )
    assert content(folder) == before


def test_a_store_of_format_1_of_other_files_is_refused(tmp_path: Path) -> None:
    raw = Path(shutil.copytree(FORMAT_1 / "raw", tmp_path / "raw"))
    labels = (raw / "labels.csv").read_text().splitlines()
    (raw / "labels.csv").write_text("\n".join(labels[:-1]) + "\n")
    folder = Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store"))
    with pytest.raises(
        DataError, match="holds a store of other raw files; remove it or choose another --out"
    ):
        prepare(Bvh(raw), "bvh", folder)


def test_the_raw_files_of_format_1_give_the_same_clips_today(tmp_path: Path) -> None:
    today = prepare(Bvh(FORMAT_1 / "raw"), "bvh", tmp_path / "store")
    assert today.header.version == 2
    assert today.header.fingerprint == read_header(FORMAT_1 / "store").fingerprint


def test_two_preparations_are_equal_bit_for_bit(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(raw, tmp_path / "one")
    later = time.time() + 100
    monkeypatch.setattr(time, "time", lambda: later)
    prepared(raw, tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_parts_of_a_stopped_run_are_used_unless_the_raw_files_changed(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = module.read_part

    def noted(source: NumberSource, units: list, path: Path, strict: bool) -> None:
        read.append(path.name)
        if len(read) == 2:
            raise OSError(28, "No space left on device")
        original(source, units, path, strict)

    monkeypatch.setattr(module, "read_part", noted)
    with pytest.raises(
        DataError, match="No space left on device; what was read is kept, the same command goes on"
    ):
        prepared(raw, tmp_path / "store")
    prepared(raw, tmp_path / "store")
    assert [name[-10:] for name in read] == ["000000.npz", "000001.npz", "000001.npz", "000002.npz"]
    assert not (tmp_path / ".store.partial").exists()


def test_parts_of_other_files_are_thrown_away(raw: Path, tmp_path: Path) -> None:
    work = tmp_path / ".store.partial"
    work.mkdir()
    (work / "plan.txt").write_text("another plan")
    (work / "part-another plan-000000.npz").write_bytes(b"rubbish")
    assert prepared(raw, tmp_path / "store").header.counts["clips kept"] == 7


def test_a_damaged_part_is_removed_and_read_again(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "_assemble", stop)
        with pytest.raises(DataError, match="stopped here"):
            prepared(raw, tmp_path / "store")
    part = sorted((tmp_path / ".store.partial").glob("part-*.npz"))[1]
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(DataError, match="removed, the same command reads it again"):
        prepared(raw, tmp_path / "store")
    assert prepared(raw, tmp_path / "store").header.counts["clips kept"] == 7


def stop(*arguments: object) -> None:
    raise DataError("stopped here")


def test_a_second_preparation_of_the_same_store_is_kept_out(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*arguments: object) -> None:
        with pytest.raises(
            DataError, match="another preparation of this store is running; wait for it"
        ):
            prepared(write_numbers(tmp_path / "other", a="0 1\n1\n"), tmp_path / "store")
        stop()

    with monkeypatch.context() as patch:
        patch.setattr(module, "_assemble", meanwhile)
        with pytest.raises(DataError, match="stopped here"):
            prepared(raw, tmp_path / "store")
    assert prepared(raw, tmp_path / "store").header.counts["clips kept"] == 7
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {".store.lock"} == {
        "other",
        "raw",
        "store",
    }  # some versions of filelock remove the lock's file


@pytest.mark.parametrize("what", ["a file", "a folder with something in it"])
def test_a_place_that_is_taken_is_refused_before_any_work(
    what: str, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(module, "_open_work")
    place = tmp_path / "taken"
    if what == "a file":
        place.write_text("mine")
    else:
        write_numbers(place)
    with pytest.raises(
        DataError, match="expected a place for the store, found something else there"
    ):
        prepared(raw, place)


def test_a_damaged_store_says_what_to_remove(raw: Path, tmp_path: Path) -> None:
    prepared(raw, tmp_path / "store")
    (tmp_path / "store" / "joints.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"remove .*store, then the same command makes it anew"):
        prepared(raw, tmp_path / "store")


# --- what is whose fault ---


def test_strict_does_not_take_a_store_that_was_made_without(raw: Path, tmp_path: Path) -> None:
    write_numbers(raw, bad="0 1\nx\n")
    prepared(raw, tmp_path / "store")
    with pytest.raises(
        DataError, match=r"bad\.txt, line 2: .*was made without --strict; remove it"
    ):
        prepared(raw, tmp_path / "store", strict=True)


@pytest.mark.parametrize("text", ["0 1\nnan\n", "0 1\n0\n"])
def test_clips_that_are_left_out_are_counted_and_strict_refuses_them(
    text: str, raw: Path, tmp_path: Path
) -> None:
    write_numbers(raw, bad=text)
    assert prepared(raw, tmp_path / "store").header.counts["left out, see the problems"] == 1
    with pytest.raises(
        DataError, match=r"bad\.txt: bad: .*; without --strict such clips are left out and counted"
    ):
        prepared(raw, tmp_path / "other", strict=True)


def test_a_dead_link_is_a_broken_file(raw: Path, tmp_path: Path) -> None:
    (raw / "dead.txt").symlink_to(tmp_path / "nowhere")
    found = prepared(raw, tmp_path / "store").header
    assert found.counts["broken files, skipped"] == 1
    assert found.problems == (f"{raw}/dead.txt: cannot be read (No such file or directory)",)


@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files")])
def test_what_is_not_the_files_fault_ends_the_preparation(
    error: Exception, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: NumberSource, unit: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(NumberSource, "read", fail)
        with pytest.raises(DataError, match=r"not enough memory|Too many open files"):
            prepared(raw, tmp_path / "store")
    assert prepared(raw, tmp_path / "store").header.problems == ()


def test_names_that_no_file_can_hold_are_written_readably(raw: Path, tmp_path: Path) -> None:
    (raw / "de\nad\udcff.txt").symlink_to(tmp_path / "nowhere")
    [problem] = prepared(raw, tmp_path / "store").header.problems
    assert problem == f"{raw}/de ad\\udcff.txt: cannot be read (No such file or directory)"


@pytest.mark.long
@pytest.mark.workers
def test_killed_at_random_moments_it_ends_in_the_same_store(tmp_path: Path) -> None:
    numbers = {
        f"n{number:03}": f"{number % 2} {number % 5}\n{number}\n{number + 1}\n"
        for number in range(60)
    }
    raw, folder = write_numbers(tmp_path / "raw", **numbers), tmp_path / "store"
    command = [sys.executable, "-m", "tests.datasets.made_up_source", str(raw), str(folder)]
    for parts in (1, 4, 9, 15):
        process = subprocess.Popen(command)
        while len(list(tmp_path.glob(".store.partial/part-*.npz"))) < parts:
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not folder.exists()
    subprocess.run(command, check=True)
    prepare(SlowSource(raw), "numbers", tmp_path / "undisturbed", workers=2)
    assert content(folder) == content(tmp_path / "undisturbed")
    assert len(open_store(folder)) == 60


@pytest.mark.workers
def test_a_killed_worker_is_one_line(raw: Path, tmp_path: Path) -> None:
    write_numbers(raw, killed="0 1\n1\n")
    with pytest.raises(
        DataError, match=r"killed\.txt: a reading process was killed over it \(out of memory\?\)"
    ):
        prepare(FatalSource(raw), "numbers", tmp_path / "store", workers=1)
    assert not (tmp_path / "store").exists()


@pytest.mark.workers
@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_file_that_crashes_its_reader_costs_itself_alone(
    workers: int, raw: Path, tmp_path: Path
) -> None:
    undisturbed = prepare(NumberSource(raw), "numbers", tmp_path / "undisturbed", workers=1).header
    write_numbers(
        raw,
        crash_1="0 1\n1\n",
        crash_2="0 1\n1\n",
        **{f"more_{n}": f"0 {n}\n1\n" for n in range(9)},
    )
    found = prepare(FatalSource(raw), "numbers", tmp_path / "store", workers=workers).header
    assert found.counts["clips kept"] == undisturbed.counts["clips kept"] + 9
    assert found.counts["broken files, skipped"] == 2
    assert found.problems == tuple(
        f"{raw}/crash_{number}.txt: cannot be read (a reading process died of it, SIGBUS)"
        for number in (1, 2)
    )
    with pytest.raises(
        DataError, match=r"crash_1\.txt: cannot be read .*; without --strict such files are skipped"
    ):
        prepare(FatalSource(raw), "numbers", tmp_path / "strict", workers=workers, strict=True)


def test_a_web_page_in_the_place_of_a_file_is_named(raw: Path, tmp_path: Path) -> None:
    write_numbers(raw, page="<!DOCTYPE html><html>\nquota exceeded\n")
    (problem,) = prepared(raw, tmp_path / "store").header.problems
    assert problem.endswith(
        "; it is a web page, as a download leaves that asks first: download the file itself"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="paths are bytes on Unix")
def test_a_file_whose_name_is_no_utf_8_is_prepared(tmp_path: Path) -> None:
    raw = exchange_file(tmp_path)
    odd = raw.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.npz")))
    made = prepare(open_source("npz", odd), "npz", tmp_path / "store")
    assert made.header.title == r"a\udcff"
