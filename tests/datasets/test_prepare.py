"""Preparation: what is kept, counted and skipped; going on after a kill; the same store every time."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets import prepare as module
from datasets.clips import fingerprint
from datasets.errors import DataError
from datasets.prepare import Prepared, prepare
from datasets.splits import make_split
from datasets.store import open_store
from tests.datasets.made_up_source import NumberSource, SlowSource, write_numbers


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_numbers(tmp_path / "raw")


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Parts are read here, not in worker processes, unless a test says so."""
    if "workers" in request.keywords:
        return

    def here(
        source: NumberSource, chunks: list, paths: list[Path], workers: int, strict: bool, advance: object
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
        ("", "bad.txt: cannot be read (ValueError: not enough values to unpack (expected at least 1, got 0))"),
    ],
)
def test_what_is_broken_is_named_and_left_out(text: str, problem: str, raw: Path, tmp_path: Path) -> None:
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
    with pytest.raises(DataError, match=r"bad.txt, line 2: expected a number, found 'x'; without --strict such files"):
        prepared(raw, tmp_path / "store", strict=True)
    assert not (tmp_path / "store").exists()


def test_nothing_to_keep_is_an_error(tmp_path: Path) -> None:
    raw = write_numbers(tmp_path / "raw", bad="0 1\nx\n")
    with pytest.raises(DataError, match=r"no clip could be kept; the first problem: .*bad.txt, line 2"):
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
    # 0, 3 and 6 have equal joints, likewise 1 and 4, and 2 and 5: 0, 2, 4 and 6 all have a twin in the test part
    with pytest.raises(DataError, match="expected clips left in train, found none without repeated ones"):
        make_split(clips, "twin-free", validation=0)


def test_the_fingerprint_is_that_of_the_clips(raw: Path, tmp_path: Path) -> None:
    found = prepared(raw, tmp_path / "store")
    clips = open_store(found.folder)
    assert clips.stored is not None
    assert clips.stored.fingerprint == found.header.fingerprint == fingerprint(clips)
    assert len(np.unique(clips.stored.hashes)) == 3


# --- again, and after a kill ---


def test_a_finished_store_is_not_made_again(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(raw, tmp_path / "store")
    monkeypatch.delattr(module, "_assemble")
    again = prepared(raw, tmp_path / "store")
    assert (again.fresh, again.header) == (False, first.header)


def test_a_store_of_other_files_is_not_overwritten(raw: Path, tmp_path: Path) -> None:
    prepared(raw, tmp_path / "store")
    before = content(tmp_path / "store")
    write_numbers(raw, more="0 1\n1\n")
    with pytest.raises(DataError, match="holds a store of other raw files or of another version; remove it or choose"):
        prepared(raw, tmp_path / "store")
    assert content(tmp_path / "store") == before


def test_two_preparations_are_equal_bit_for_bit(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(DataError, match="No space left on device; what was read is kept, the same command goes on"):
        prepared(raw, tmp_path / "store")
    prepared(raw, tmp_path / "store")
    assert read == ["part-000000.npz", "part-000001.npz", "part-000001.npz", "part-000002.npz"]
    assert not (tmp_path / ".store.partial").exists()


def test_parts_of_other_files_are_thrown_away(raw: Path, tmp_path: Path) -> None:
    work = tmp_path / ".store.partial"
    work.mkdir()
    (work / "plan.json").write_text("another plan")
    (work / "part-000000.npz").write_bytes(b"rubbish")
    assert prepared(raw, tmp_path / "store").header.counts["clips kept"] == 7


@pytest.mark.workers
def test_killed_at_random_moments_it_ends_in_the_same_store(tmp_path: Path) -> None:
    numbers = {f"n{number:03}": f"{number % 2} {number % 5}\n{number}\n{number + 1}\n" for number in range(60)}
    raw, folder = write_numbers(tmp_path / "raw", **numbers), tmp_path / "store"
    chance = random.Random(0)
    command = [sys.executable, "-m", "tests.datasets.made_up_source", str(raw), str(folder)]
    for _ in range(3):
        process = subprocess.Popen(command)
        time.sleep(chance.uniform(0.3, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    prepare(SlowSource(raw), "numbers", tmp_path / "undisturbed", workers=2)
    assert content(folder) == content(tmp_path / "undisturbed")
    assert len(open_store(folder)) == 60


@pytest.mark.workers
def test_a_killed_worker_is_one_line(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a reading process was killed"):
        prepare(FatalSource(raw), "numbers", tmp_path / "store", workers=1)


class FatalSource(NumberSource):
    """Kills the process that reads it."""

    def read(self, unit: object) -> object:  # type: ignore[override]
        import os

        os.kill(os.getpid(), signal.SIGKILL)
        return None
