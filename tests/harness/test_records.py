"""Records: what is written is what is read, whole or not at all."""

from __future__ import annotations

import builtins
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import psutil
import pytest
import torch
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from harness.errors import UsageError
from harness.records import store as records
from harness.records.schema import (
    FINISHED,
    Accuracy,
    Environment,
    Health,
    Point,
    Ratio,
    RunRecord,
    SpeedRecord,
)
from harness.records.store import (
    RecordStore,
    file_hash,
    host,
    remove_leftovers,
    speed_address,
    temporary_name,
    write_atomically,
    write_weights,
)
from harness.spec.model import Section, TrainSpec
from harness.training.build import encoder_size
from methods.parts.encoder import SkeletonEncoder
from tests.harness.made_up_records import accuracy, arm, ratio, run_record, speed_record
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


def left_by(process: int, name: str = "record.json") -> str:
    """The temporary file of a process of this host."""
    return f".{name}.{host()}.{process}.tmp"


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- round trips ---


def test_a_run_record_is_read_as_it_was_written(store: RecordStore) -> None:
    written = run_record("gfp", 0.8, warnings=("w",), error="", phases={"forward": 1.5})
    store.write_run(written)
    assert store.run(written.address) == written


def test_a_speed_record_is_read_as_it_was_written(store: RecordStore) -> None:
    written = speed_record(
        arm("gfp", ratio(2.0, 2.2, 2.4)), arm("skeletonmae", ratio(1.0, 1.0, 1.0))
    )
    store.write_speed(written)
    assert store.speed(written.address) == written


def test_a_record_lies_in_the_folder_of_its_address_as_readable_json(store: RecordStore) -> None:
    written = run_record()
    store.write_run(written)
    text = (store.root / written.address / "record.json").read_text()
    assert text.endswith("}\n")
    content = json.loads(text)
    assert (content["kind"], content["address"], content["spec"]["train"]["budget"]) == (
        "run",
        written.address,
        "60s",
    )


def test_encoder_weights_are_read_as_they_were_written(store: RecordStore) -> None:
    encoder = SkeletonEncoder(encoder_size(ENCODER), len(JOINTS))
    store.write_encoder("here", encoder)
    found = load_file(store.root / "here" / "encoder.safetensors")
    assert found.keys() == encoder.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in encoder.state_dict().items())


def test_the_same_weights_give_the_same_file_with_the_metadata_they_were_given(
    tmp_path: Path,
) -> None:
    """safetensors writes metadata in the order of a hash map, another one each time."""
    encoder = SkeletonEncoder(encoder_size(ENCODER), len(JOINTS))
    metadata = {
        name: f'"{name} ± 1"'
        for name in ("z", "a", "size", "layout", "joints", "crop", "method", "data")
    }
    write_weights(tmp_path / "once", encoder, metadata)
    for _ in range(5):
        write_weights(tmp_path / "again", encoder, dict(reversed(metadata.items())))
        assert (tmp_path / "again").read_bytes() == (tmp_path / "once").read_bytes()
    with safe_open(tmp_path / "once", "pt") as found:
        assert found.metadata() == metadata
        assert all(
            torch.equal(found.get_tensor(name), tensor)
            for name, tensor in encoder.state_dict().items()
        )


def test_what_is_not_there_is_none(store: RecordStore) -> None:
    assert store.run("gfp-s0-000000000000") is None
    assert store.speed("speed-000000000000") is None
    assert list(store.runs()) == []


def test_runs_are_listed_by_address_and_speed_is_no_run(store: RecordStore) -> None:
    written = [run_record(name, seed=seed) for name in ("skeletonmae", "gfp") for seed in (1, 0)]
    for record in written:
        store.write_run(record)
    store.write_speed(speed_record())
    assert [record.address for record in store.runs()] == sorted(
        record.address for record in written
    )


def test_a_record_written_again_replaces_the_first(store: RecordStore) -> None:
    first = run_record(status="interrupted", accuracy=None)
    store.write_run(first)
    store.write_run(run_record())
    found = store.run(first.address)
    assert found is not None
    assert found.status == "ok"


def test_weights_of_an_earlier_try_do_not_outlive_its_record(store: RecordStore) -> None:
    first = run_record()
    weights = store.folder(first.address) / "encoder.safetensors"
    store.write_run(
        first.model_copy(update={"weights": store.write_encoder(first.address, nn.Linear(2, 2))})
    )
    assert weights.exists()
    store.write_run(run_record(status="failed", accuracy=None))
    assert not weights.exists()


def test_ok_and_diverged_are_finished_and_nothing_else() -> None:
    assert set(FINISHED) == {"ok", "diverged"}


def test_the_address_of_a_speed_measurement_follows_its_spec() -> None:
    spec = {"methods": ["gfp"], "machine": "m", "seconds": 30.0}
    assert speed_address(spec) == speed_address(dict(reversed(spec.items())))
    assert speed_address({**spec, "machine": "n"}) != speed_address(spec)
    assert speed_address({**spec, "methods": ["gfp", "mamp"]}) != speed_address(spec)


# --- numbers that JSON does not know ---


def parts_of(
    model: type[BaseModel], seen: set[type[BaseModel]] | None = None
) -> set[type[BaseModel]]:
    """A model and all models in its fields, however deep."""
    seen = set() if seen is None else seen
    if model not in seen:
        seen.add(model)
        for field in model.model_fields.values():
            waiting = [field.annotation]
            while waiting:
                current = waiting.pop()
                waiting += get_args(current)
                if isinstance(current, type) and issubclass(current, BaseModel):
                    parts_of(current, seen)
    return seen


def test_every_part_of_a_record_writes_what_can_be_read() -> None:
    """A part with pydantic's default would write NaN as null, which its own reader refuses."""
    found = parts_of(RunRecord) | parts_of(SpeedRecord)
    assert {Point, Accuracy, Ratio, Health, Environment, TrainSpec} <= found
    for model in found:
        if issubclass(model, Section):
            assert model.model_config.get("allow_inf_nan") is False, (
                model
            )  # there are none to write
        else:
            assert model.model_config.get("ser_json_inf_nan") == "strings", model


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_comes_back_as_it_was(store: RecordStore, value: float) -> None:
    first = run_record()
    assert first.training is not None
    training = first.training.model_copy(
        update={"losses": [{"step": 5, "loss": 1.0, "part": value}]}
    )
    curve = [first.curve[0].model_copy(update={"diagnosis": {"spread": value}}), first.curve[1]]
    store.write_run(run_record(training=training, curve=curve, phases={"forward": value}))
    found = store.run(first.address)
    assert found is not None
    assert found.training is not None
    kept = [
        found.training.losses[0]["part"],
        found.curve[0].diagnosis["spread"],
        found.phases["forward"],
    ]
    assert kept == pytest.approx([value] * 3, nan_ok=True)
    assert [record.address for record in store.runs()] == [first.address]


def test_a_number_that_is_not_finite_is_still_json(store: RecordStore) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    written = run_record(phases={"forward": math.nan, "backward": math.inf})
    store.write_run(written)
    text = (store.root / written.address / "record.json").read_text()
    assert json.loads(text, parse_constant=refuse)["phases"] == {
        "forward": "NaN",
        "backward": "Infinity",
    }


# --- records that are refused ---


def changed(store: RecordStore, record: RunRecord, **changes: Any) -> Path:
    """A record on disk with other values; dotted names reach into parts."""
    store.write_run(record)
    path = store.root / record.address / "record.json"
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *parts, last = name.split("__")
        part = content
        for key in parts:
            part = part[int(key) if isinstance(part, list) else key]
        part[last] = value
    path.write_text(json.dumps(content))
    return path


def reason(store: RecordStore, path: Path) -> str:
    """Why a record is refused, by its address and in a listing."""
    assert store.run(path.parent.name) is None
    assert list(store.runs()) == []
    (refusal,) = store.refused.values()
    assert refusal.path == path
    assert "\n" not in str(refusal)
    assert len(str(refusal)) < 400
    return refusal.reason


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"kind": "run"}', b'{"surprise": 1}', b"[" * 100_000],
    ids=lambda b: b[:9],
)
def test_a_damaged_record_is_refused_and_left_alone(store: RecordStore, content: bytes) -> None:
    path = store.root / "gfp-s0-0" / "record.json"
    path.parent.mkdir()
    path.write_bytes(content)
    assert reason(store, path).startswith("cannot be read (")
    assert path.read_bytes() == content


def test_a_folder_in_the_place_of_a_record_is_refused(store: RecordStore) -> None:
    path = store.root / "gfp-s0-0" / "record.json"
    path.mkdir(parents=True)
    assert reason(store, path).startswith("cannot be read (")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"accuracy__linear_test": 7.5},
            "cannot be read (accuracy.linear_test: Input should be less than or equal to 1",
        ),
        ({"accuracy__linear_test": "NaN"}, "cannot be read (accuracy.linear_test"),
        (
            {"accuracy__knn_test": -0.1},
            "cannot be read (accuracy.knn_test: Input should be greater than or equal to 0",
        ),
        ({"curve__0__accuracy__linear_test": 1.01}, "cannot be read (curve.0.accuracy.linear_test"),
        ({"training__steps": -1}, "cannot be read (training.steps"),
        ({"training__seconds": "Infinity"}, "cannot be read (training.seconds"),
        ({"data__test_clips": -1}, "cannot be read (data.test_clips"),
        ({"curve": [{}] * 100}, "cannot be read (curve.0."),
        (
            {"schema_version": None},
            "cannot be read (expected a JSON object with its schema_version",
        ),
        ({"address": "gfp-s9-0"}, "is the record of gfp-s9-0; "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_true_is_refused(
    store: RecordStore, changes: dict[str, Any], expected: str
) -> None:
    assert reason(store, changed(store, run_record(), **changes)).startswith(expected)


def test_a_newer_record_is_told_from_a_damaged_one(store: RecordStore) -> None:
    path = changed(store, run_record(), schema_version=99, new_field={"of": "tomorrow"})
    assert "written by a newer version of the suite (schema 99" in reason(store, path)
    with pytest.raises(UsageError, match=r"schema 99.*update or choose another folder"):
        store.set_aside()
    assert path.exists()


def test_a_record_with_a_field_that_came_later_is_a_newer_one(store: RecordStore) -> None:
    path = changed(store, run_record(), training__watts=7, surprise=1)
    assert (
        reason(store, path)
        == "written by a newer version of the suite (this one does not know training.watts,"
        " surprise); update"
    )
    with pytest.raises(UsageError, match=r"update or choose another folder"):
        store.set_aside()


def test_another_runs_record_is_refused(store: RecordStore) -> None:
    one, other = run_record(seed=0), run_record(seed=1)
    store.write_run(one)
    path = store.root / other.address / "record.json"
    path.parent.mkdir()
    shutil.copy(store.root / one.address / "record.json", path)
    assert [record.address for record in store.runs()] == [one.address]
    assert store.refused[path].reason.startswith(f"is the record of {one.address}; ")


def with_weights(store: RecordStore, seed: int) -> tuple[RunRecord, Path]:
    """A record with its encoder beside it."""
    torch.manual_seed(seed)
    record = run_record(seed=seed)
    weights = store.write_encoder(
        record.address, SkeletonEncoder(encoder_size(ENCODER), len(JOINTS))
    )
    record = run_record(seed=seed, weights=weights)
    store.write_run(record)
    return record, store.root / record.address / "encoder.safetensors"


def test_a_record_names_the_sha_256_of_its_weights(store: RecordStore) -> None:
    record, path = with_weights(store, seed=0)
    assert record.weights == {"encoder.safetensors": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert store.run(record.address) == record


def test_another_runs_weights_are_refused(store: RecordStore) -> None:
    (one, of_one), (other, of_other) = with_weights(store, seed=0), with_weights(store, seed=1)
    shutil.copy(of_one, of_other)
    assert store.run(other.address) is None
    assert [record.address for record in store.runs()] == [one.address]
    (refusal,) = store.refused.values()
    assert "encoder.safetensors beside it is not the one" in refusal.reason


def test_a_record_without_its_weights_is_a_record(store: RecordStore) -> None:
    record, path = with_weights(store, seed=0)
    path.unlink()
    assert store.run(record.address) == record
    assert store.refused == {}


def test_a_file_that_has_settled_is_hashed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, path = [], tmp_path / "weights"

    def counted(path: Path) -> str:
        read.append(path)
        return path.read_text()

    monkeypatch.setattr(records, "_hash", counted)
    path.write_text("fresh")  # it may change once more within the grain of its times
    assert [file_hash(path) for _ in range(2)] == ["fresh"] * 2
    assert len(read) == 2
    for text in ("one", "two"):
        path.write_text(text)
        os.utime(path, (1000 + len(read), 1000 + len(read)))
        assert [file_hash(path) for _ in range(3)] == [text] * 3
    assert len(read) == 4


def test_what_is_refused_is_set_aside_under_the_next_free_name(store: RecordStore) -> None:
    for number in (1, 2):
        record, weights = with_weights(store, seed=0)
        weights.write_bytes(b"others")
        assert store.run(record.address) is None
        (line,) = store.set_aside()
        assert line.endswith(
            f"; kept as record.refused-{number}.json and encoder.refused-{number}.safetensors, and"
            " made again"
        )
        assert store.refused == {}
        assert store.run(record.address) is None
        assert list(store.runs()) == []
    assert len(everything_in(store.root / record.address)) == 4


def test_what_was_set_aside_stays_when_a_record_of_a_later_address_rule_replaces_it(
    store: RecordStore,
) -> None:
    earlier = store.root / run_record().spec.addresses[1]
    earlier.mkdir()
    (earlier / "record.json").write_text("{")
    assert store.run_of(run_record().spec) is None
    store.set_aside()
    (earlier / "encoder.safetensors").write_text("of the earlier rule")
    store.write_run(run_record())
    assert everything_in(earlier) == ["record.refused-1.json"]


def test_a_record_that_was_mended_is_refused_no_longer(store: RecordStore) -> None:
    path = changed(store, run_record(), accuracy__linear_test=7.5)
    reason(store, path)
    store.write_run(run_record())
    assert store.run(path.parent.name) == run_record()
    assert store.refused == {}


def test_a_damaged_speed_record_is_refused(store: RecordStore) -> None:
    good = speed_record()
    store.write_speed(good)
    path = store.root / "speed-1" / "speed.json"
    path.parent.mkdir()
    path.write_text("{")
    assert list(store.speeds()) == [good]
    assert store.speed("speed-1") is None
    assert list(store.refused) == [path]


# --- whole or not at all ---


def fail(*arguments: Any, **options: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_that_cannot_be_put_in_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "new" / "record.json", b"content")
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failure_leaves_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, b"first")
    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"second")
    assert everything_in(tmp_path) == ["record.json"]
    assert path.read_bytes() == b"first"


def test_a_disk_that_fills_up_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(
        records, "open", lambda *arguments: Full(original(*arguments)), raising=False
    )
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "new" / "record.json", b"content")
    assert everything_in(tmp_path) == []


def test_a_stop_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "new" / "record.json", b"content")
    assert everything_in(tmp_path) == []


def test_a_failure_keeps_what_else_is_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "encoder.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "record.json", b"content")
    assert everything_in(tmp_path) == ["encoder.safetensors"]


# --- what killed processes left behind ---


def test_a_temporary_file_says_who_writes_it() -> None:
    assert temporary_name("record.json") == f".record.json.{host()}.{os.getpid()}.tmp"
    assert re.fullmatch("[A-Za-z0-9-]+", host())


def test_files_of_other_hosts_are_kept_whoever_has_their_number_here(
    tmp_path: Path, dead: int
) -> None:
    for name in (f".record.json.other-{host()}.{dead}.tmp", f".record.json.elsewhere.{dead}.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert len(everything_in(tmp_path)) == 2


def test_files_of_dead_processes_are_removed(tmp_path: Path, dead: int) -> None:
    (tmp_path / "gfp-s0-0").mkdir()
    for folder in (tmp_path, tmp_path / "gfp-s0-0"):
        (folder / left_by(dead)).touch()
    remove_leftovers(tmp_path)
    assert everything_in(tmp_path) == ["gfp-s0-0"]


def test_files_of_living_processes_are_kept(tmp_path: Path) -> None:
    for process in (os.getpid(), os.getppid(), 1):
        (tmp_path / left_by(process)).touch()
    remove_leftovers(tmp_path)
    assert len(everything_in(tmp_path)) == 3


def test_whether_a_process_lives_is_not_asked_with_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows ``os.kill`` ends the process, whatever the signal."""
    monkeypatch.setattr(psutil, "pid_exists", {7: True, 8: False}.__getitem__)
    monkeypatch.setattr(os, "kill", fail)
    for process in (7, 8):
        (tmp_path / left_by(process)).touch()
    remove_leftovers(tmp_path)
    assert everything_in(tmp_path) == [left_by(7)]


def test_a_number_that_no_process_has_is_a_dead_one(tmp_path: Path) -> None:
    (tmp_path / left_by(10**30)).touch()
    remove_leftovers(tmp_path)
    assert everything_in(tmp_path) == []


def test_files_of_others_are_not_touched(tmp_path: Path, dead: int) -> None:
    names = {
        left_by(dead)[1:],
        ".hidden.tmp",
        ".notes.old.tmp",
        left_by(dead)[:-4],
        f"{left_by(dead)}~",
        "record.json",
        "table.md",
        f".{dead}.tmp",
        f".{host()}.{dead}.tmp",
    }
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "a" / "b").mkdir(parents=True)
    deep = tmp_path / "a" / "b" / left_by(dead)
    deep.touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == names
    assert deep.exists()


def test_preparing_clears_leftovers_and_keeps_records(store: RecordStore, dead: int) -> None:
    written = run_record()
    store.write_run(written)
    (store.root / written.address / left_by(dead)).touch()
    store.check_writable()
    assert everything_in(store.root) == [written.address, f"{written.address}/record.json"]


def test_what_chose_in_a_record_of_before_is_read_under_todays_name() -> None:
    before = accuracy(0.5).model_dump()
    before["held_out"] = 0.25 + (before.pop("selection") or 0.0)
    assert Accuracy.model_validate(before).selection == 0.25
    assert "held_out" not in Accuracy.model_validate(before).model_dump()


# --- the output folder ---


def test_preparing_leaves_no_folder_that_was_not_there(tmp_path: Path) -> None:
    RecordStore(tmp_path / "a" / "b").check_writable()
    assert everything_in(tmp_path) == []
    (tmp_path / "a").mkdir()
    RecordStore(tmp_path / "a" / "b").check_writable()
    assert everything_in(tmp_path) == ["a"]


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    path.write_text("mine")
    for root in (path, path / "deeper"):
        with pytest.raises(
            UsageError, match=rf"^output folder {root} cannot be written \(.+\); choose another"
        ):
            RecordStore(root).check_writable()
    assert path.read_text() == "mine"


def test_a_read_only_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, content: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(
        Path, "write_bytes", read_only
    )  # permissions do not stop the tests when root runs them
    with pytest.raises(
        UsageError, match=r"cannot be written \(Read-only file system\); choose another with --out"
    ):
        RecordStore(tmp_path / "runs").check_writable()


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with a name")
def test_what_is_no_file_is_never_replaced_and_a_link_is_written_through(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    for place, found in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path / "folder", "a folder"),
        (Path(os.devnull), "a dev"),
    ):
        with pytest.raises(UsageError, match=f"{place}: expected a file to write, found {found}"):
            write_atomically(place, b"new")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert everything_in(tmp_path) == ["file", "folder", "link", "pipe"]
