"""Records: what is written is what is read, whole or not at all."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness import records
from harness.errors import UsageError
from harness.records import FINISHED, RecordStore, remove_leftovers, speed_address, temporary_name, write_atomically
from harness.training import encoder_size
from methods.parts.encoder import SkeletonEncoder
from tests.harness.made_up_records import arm, ratio, run_record, speed_record
from tests.harness.small_run import ENCODER, JOINTS


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path)


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- round trips ---


def test_a_run_record_is_read_as_it_was_written(store: RecordStore) -> None:
    written = run_record("gfp", 0.8, warnings=("w",), error="", phases={"forward": 1.5})
    store.write_run(written)
    assert store.run(written.address) == written


def test_a_speed_record_is_read_as_it_was_written(store: RecordStore) -> None:
    written = speed_record(arm("gfp", ratio(2.0, 2.2, 2.4)), arm("skeletonmae", ratio(1.0, 1.0, 1.0)))
    store.write_speed(written)
    assert store.speed(written.address) == written


def test_a_record_lies_in_the_folder_of_its_address_as_readable_json(store: RecordStore) -> None:
    written = run_record()
    store.write_run(written)
    text = (store.root / written.address / "record.json").read_text()
    assert text.endswith("}\n")
    content = json.loads(text)
    assert (content["kind"], content["address"], content["spec"]["train"]["budget"]) == ("run", written.address, "60s")


def test_encoder_weights_are_read_as_they_were_written(store: RecordStore) -> None:
    encoder = SkeletonEncoder(encoder_size(ENCODER), len(JOINTS))
    store.write_encoder("here", encoder)
    found = load_file(store.root / "here" / "encoder.safetensors")
    assert found.keys() == encoder.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in encoder.state_dict().items())


def test_what_is_not_there_is_none(store: RecordStore) -> None:
    assert store.run("gfp-s0-000000000000") is None
    assert store.speed("speed-000000000000") is None
    assert list(store.runs()) == []


def test_runs_are_listed_by_address_and_speed_is_no_run(store: RecordStore) -> None:
    written = [run_record(name, seed=seed) for name in ("skeletonmae", "gfp") for seed in (1, 0)]
    for record in written:
        store.write_run(record)
    store.write_speed(speed_record())
    assert [record.address for record in store.runs()] == sorted(record.address for record in written)


def test_a_record_written_again_replaces_the_first(store: RecordStore) -> None:
    first = run_record(status="interrupted", accuracy=None)
    store.write_run(first)
    store.write_run(run_record())
    found = store.run(first.address)
    assert found is not None
    assert found.status == "ok"


def test_ok_and_diverged_are_finished_and_nothing_else() -> None:
    assert set(FINISHED) == {"ok", "diverged"}


def test_the_address_of_a_speed_measurement_follows_its_spec() -> None:
    spec = {"methods": ["gfp"], "machine": "m", "seconds": 30.0}
    assert speed_address(spec) == speed_address(dict(reversed(spec.items())))
    assert speed_address({**spec, "machine": "n"}) != speed_address(spec)
    assert speed_address({**spec, "methods": ["gfp", "mamp"]}) != speed_address(spec)


# --- damaged records ---


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"kind": "run"}', b'{"surprise": 1}'], ids=repr)
def test_a_damaged_record_is_one_line_with_its_path_and_the_next_step(store: RecordStore, content: bytes) -> None:
    path = store.root / "gfp-s0-0" / "record.json"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        store.run("gfp-s0-0")
    message = str(error.value)
    assert str(path) in message
    assert "remove it to run again" in message
    assert "\n" not in message
    assert path.read_bytes() == content


def test_a_record_with_an_unknown_field_is_damaged(store: RecordStore) -> None:
    written = run_record()
    store.write_run(written)
    path = store.root / written.address / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "surprise": 1}))
    with pytest.raises(UsageError, match="cannot be read"):
        store.run(written.address)


# --- whole or not at all ---


def fail(*arguments: Any, **options: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "new" / "record.json", b"content")
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failure_leaves_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, b"first")
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"second")
    assert everything_in(tmp_path) == ["record.json"]
    assert path.read_bytes() == b"first"


def test_a_disk_that_fills_up_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A stream that takes half of what it is given."""

        def __init__(self, stream: Any) -> None:
            self.stream = stream

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *problem: object) -> None:
            self.stream.close()

        def write(self, content: bytes) -> None:
            self.stream.write(content[: len(content) // 2])
            fail()

    original = builtins.open
    monkeypatch.setattr(records, "open", lambda *arguments: Full(original(*arguments)), raising=False)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "new" / "record.json", b"content")
    assert everything_in(tmp_path) == []


def test_a_stop_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "new" / "record.json", b"content")
    assert everything_in(tmp_path) == []


def test_a_failure_keeps_what_else_is_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "encoder.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "record.json", b"content")
    assert everything_in(tmp_path) == ["encoder.safetensors"]


# --- what killed processes left behind ---


def test_a_temporary_file_says_who_writes_it() -> None:
    assert temporary_name("record.json") == f".record.json.{os.getpid()}.tmp"


def test_files_of_dead_processes_are_removed(tmp_path: Path, dead: int) -> None:
    (tmp_path / "gfp-s0-0").mkdir()
    for folder in (tmp_path, tmp_path / "gfp-s0-0"):
        (folder / f".record.json.{dead}.tmp").touch()
    remove_leftovers(tmp_path)
    assert everything_in(tmp_path) == ["gfp-s0-0"]


def test_files_of_living_processes_are_kept(tmp_path: Path) -> None:
    for process in (os.getpid(), os.getppid(), 1):
        (tmp_path / f".record.json.{process}.tmp").touch()
    remove_leftovers(tmp_path)
    assert len(everything_in(tmp_path)) == 3


def test_files_of_others_are_not_touched(tmp_path: Path, dead: int) -> None:
    names = {
        f"record.json.{dead}.tmp", ".hidden.tmp", ".notes.old.tmp", f".record.json.{dead}", f".record.json.{dead}.tmp~",
        "record.json", "table.md", f".{dead}.tmp",
    }  # fmt: skip
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    deep = tmp_path / "a" / "b" / f".record.json.{dead}.tmp"
    deep.touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == names
    assert deep.exists()


def test_preparing_clears_leftovers_and_keeps_records(store: RecordStore, dead: int) -> None:
    written = run_record()
    store.write_run(written)
    (store.root / written.address / f".record.json.{dead}.tmp").touch()
    store.prepare()
    assert everything_in(store.root) == [written.address, f"{written.address}/record.json"]


# --- the output folder ---


def test_preparing_makes_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    RecordStore(tmp_path / "a" / "b").prepare()
    assert everything_in(tmp_path) == ["a", "a/b"]


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    path.write_text("mine")
    for root in (path, path / "deeper"):
        with pytest.raises(UsageError, match=rf"^output folder {root} cannot be written \(.+\); choose another"):
            RecordStore(root).prepare()
    assert path.read_text() == "mine"


def test_a_read_only_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, content: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "write_bytes", read_only)  # permissions do not stop the tests when root runs them
    with pytest.raises(UsageError, match=r"cannot be written \(Read-only file system\); choose another with --out"):
        RecordStore(tmp_path / "runs").prepare()
