"""Something else in the place of a file or a folder of a run: it is named and passed over,
and harms nothing else.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.records.claims import Claims
from harness.records.store import (
    RecordStore,
    read_records,
    refusal_lines,
    temporary_name,
    write_matrix,
)
from tests.harness.made_up_records import curve_record, edit, run_record, stage_arm, stage_record
from tests.harness.small_run import SMALL, Outcome, harness, small_file

READERS = {
    "table": ("table", "FOLDER"),
    "status": ("status", "FOLDER"),
    "ls": ("ls", "runs", "--out", "FOLDER"),
    "verify": ("verify", "FOLDER"),
    "trends": ("trends", "FOLDER"),
    "ranking": ("ranking", "FOLDER"),
    "target": ("target", "FOLDER"),
    "exchange": ("exchange", "FOLDER"),
    "merge": ("merge", "FOLDER", "--out", "OTHER"),
}
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two methods on two seeds with their speed, and one more run, of seed 9,
    for a test to spoil.
    """
    store = RecordStore(tmp_path / "out")
    records = [
        curve_record(label, 0.4, 0.6, seed=seed) for label in ("gfp", "mamp") for seed in (0, 1)
    ]
    for record in [*records, curve_record("gfp", 0.9, 0.9, seed=9)]:
        store.write_run(record)
        write_matrix(store.root, {record.address: (record.label, record.spec.seed)})
    store.write_speed(
        stage_record(*(stage_arm(label, 0.1) for label in ("gfp", "mamp")), stages=[])
    )
    return store.root


def ask(command: str, folder: Path) -> Outcome:
    """One of the commands that read a folder."""
    places = {"FOLDER": str(folder), "OTHER": str(folder.parent / "joined")}
    return harness(*(places.get(word, word) for word in READERS[command]))


def of_seed_9(folder: Path) -> Path:
    (found,) = folder.glob("gfp-s9-*")
    return found


# --- what only looks like a record ---


RUNS: dict[str, Callable[[dict], object]] = {
    "no steps": lambda c: c["training"].update(steps=0),
    "nothing of a block": lambda c: c["training"].update(losses=[{}]),
    "no time zone": lambda c: c.update(started="2026-01-02T03:04:05"),
    "ended without a time zone": lambda c: c.update(finished="2026-01-02T03:04:05"),
    "ok without evaluations": lambda c: c.update(curve=[]),
    "ok without training": lambda c: c.update(training=None),
    "ok without an accuracy": lambda c: c.update(accuracy=None),
    "a control's label": lambda c: c.update(label="random-init"),
    "another option": lambda c: c.update(label="gfp:mask_ratio=0.1"),
    "less than one thread": lambda c: c["environment"].update(threads=-1),
}
SPEEDS: dict[str, Callable[[dict], object]] = {
    "no data": lambda c: c["spec"].update(data={}),
    "no training": lambda c: c["spec"].update(train={}),
    "no encoder": lambda c: c["spec"].pop("encoder"),
    "methods as a number": lambda c: c["spec"].update(methods=7),
    "two rows of one name": lambda c: c["arms"].append(c["arms"][0]),
    "more disturbed blocks than blocks": lambda c: c.update(health={"blocks": 1, "disturbed": 2}),
    "no time zone": lambda c: c.update(started="2026-01-02T03:04:05"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_no_command_wrote_is_refused(folder: Path, name: str) -> None:
    edit(of_seed_9(folder) / "record.json", RUNS[name])
    line, _ = refusal_lines(folder, read_records(folder).refused)
    assert line.startswith(f"record {of_seed_9(folder) / 'record.json'}: cannot be ")


def odd_speed(folder: Path, change: Callable[[dict], object]) -> Path:
    """A second measurement, spoilt."""
    (good,) = folder.glob("*/speed.json")
    path = folder / "speed-v2-0123456789ab" / "speed.json"
    path.parent.mkdir()
    shutil.copy(good, path)
    edit(path, lambda content: content.update(address=path.parent.name))
    edit(path, change)
    return path


@pytest.mark.parametrize("name", SPEEDS)
def test_a_measurement_that_no_command_wrote_is_refused(folder: Path, name: str) -> None:
    path = odd_speed(folder, SPEEDS[name])
    line, _ = refusal_lines(folder, read_records(folder).refused)
    assert line.startswith(f"record {path}: cannot be ")
    assert "\n" not in line


@pytest.mark.parametrize("command", READERS)
def test_every_command_names_and_counts_it(folder: Path, command: str) -> None:
    path = of_seed_9(folder) / "record.json"
    edit(path, RUNS["no time zone"])
    named_and_counted(ask(command, folder), command, folder, path)


@pytest.mark.parametrize("command", [name for name in READERS if name not in ("ls", "trends")])
def test_every_command_that_reads_measurements_names_and_counts_one(
    folder: Path, command: str
) -> None:
    path = odd_speed(folder, SPEEDS["no data"])
    named_and_counted(ask(command, folder), command, folder, path)


def named_and_counted(found: Outcome, command: str, folder: Path, path: Path) -> None:
    """The others are used; `verify` says the same in its table, with exit code 1."""
    if command == "verify":
        assert (found.code, found.err) == (1, "")
        assert f"records: {path.parent.name}: cannot be " in found.out
        return
    assert found.code == 0, found.err
    line, count = (line for line in found.err.splitlines() if "deprecated" not in line.lower())
    assert line.startswith(f"record {path}: cannot be ")
    assert count.startswith(f"1 record of {folder} passed over")


# --- what is no file, or no folder ---


def file_for_a_folder(folder: Path) -> Path:
    place = of_seed_9(folder)
    shutil.rmtree(place)
    place.write_text("notes")
    return place


def folder_for(name: str) -> Callable[[Path], Path]:
    def change(folder: Path) -> Path:
        path = of_seed_9(folder) / name
        path.unlink(missing_ok=True)
        path.mkdir()
        return path

    change.__name__ = f"folder for {name}"
    return change


def pipe_for(name: str) -> Callable[[Path], Path]:
    def change(folder: Path) -> Path:
        path = folder / name if name == "matrix.json" else of_seed_9(folder) / name
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return path

    change.__name__ = f"pipe for {name}"
    return change


ODD = [
    file_for_a_folder,
    *map(folder_for, ("record.json", "claim.json", "encoder.safetensors", "start.json")),
]
PIPES = [
    pipe_for(name) for name in ("matrix.json", "record.json", "claim.json", "encoder.safetensors")
]


@pytest.mark.parametrize("command", ["table", "status", "verify", "merge"])
@pytest.mark.parametrize("change", ODD, ids=lambda change: change.__name__)
def test_what_is_no_file_is_named_and_the_others_are_read(
    folder: Path, command: str, change: Callable[[Path], Path]
) -> None:
    one_is_named(folder, command, change)


@needs_pipes
@pytest.mark.parametrize("command", ["table", "status", "merge"])
@pytest.mark.parametrize("change", PIPES, ids=lambda change: change.__name__)
def test_nobody_waits_for_a_pipe(
    folder: Path, command: str, change: Callable[[Path], Path]
) -> None:
    one_is_named(folder, command, change)


@pytest.mark.parametrize("command", READERS)
def test_every_command_names_what_is_no_folder(folder: Path, command: str) -> None:
    one_is_named(folder, command, file_for_a_folder)


def one_is_named(folder: Path, command: str, change: Callable[[Path], Path]) -> None:
    path = change(folder)
    found = ask(command, folder)
    assert found.code == (command == "verify"), found.err
    said = found.out if command == "verify" else found.err
    assert (path.parent.name if path.name == "record.json" else path.name) in said
    assert "expected a file, found" in said or "expected a folder, found a file" in said
    if command == "merge":
        assert "mamp" in (folder.parent / "joined" / "table.md").read_text()
    elif command not in ("verify", "trends"):
        assert "mamp" in found.out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A folder with one run of a method, of seed 9, and the command that made it."""
    folder = tmp_path_factory.mktemp("finished")
    words = (
        "run",
        *SMALL,
        "--dataset",
        str(small_file(folder)),
        "--methods",
        "gfp",
        "--seeds",
        "9",
    )
    assert harness(*words, "--out", folder / "out").code == 0
    return folder / "out", words


@pytest.mark.parametrize(
    "change", [*ODD, folder_for("metrics.jsonl")], ids=lambda change: change.__name__
)
def test_a_run_sets_it_aside_and_ends_well(
    finished: tuple[Path, tuple[str, ...]], change: Callable[[Path], Path], tmp_path: Path
) -> None:
    out, words = shutil.copytree(finished[0], tmp_path / "out"), finished[1]
    path = change(out)
    (out / "table.md").unlink()
    (out / "table.md").mkdir()
    found = harness(*words, "--out", out)
    assert found.code == 0, found.err
    assert f"{path}: " in found.err
    assert path.with_name(f"{path.stem}.refused-1{path.suffix}").exists()
    assert (out / "table.refused-1.md").is_dir()
    assert (out / "table.md").is_file()
    assert harness("verify", out).code == 0


# --- merge ---


def test_merge_writes_nothing_through_a_link(folder: Path, tmp_path: Path) -> None:
    elsewhere, joined = tmp_path / "elsewhere", tmp_path / "joined"
    elsewhere.mkdir()
    joined.mkdir()
    place = joined / of_seed_9(folder).name
    place.symlink_to(elsewhere)
    found = ask("merge", folder)
    assert found.code == 1
    assert (
        f"left out: {place}: expected a folder, found a link; move it away to join what {folder}"
        " says" in found.out
    )
    assert list(elsewhere.iterdir()) == []
    assert len(list(RecordStore(joined).runs())) == 4
    assert place.is_symlink()


def test_merge_removes_nothing_through_a_link(tmp_path: Path) -> None:
    elsewhere, joined, other = (tmp_path / name for name in ("elsewhere", "joined", "other"))
    record = run_record("gfp")
    RecordStore(elsewhere).write_run(run_record("gfp", status="interrupted", accuracy=None))
    RecordStore(other).write_run(record)
    joined.mkdir()
    (joined / record.address).symlink_to(elsewhere / record.address)
    before = (elsewhere / record.address / "record.json").read_bytes()
    assert harness("merge", other, "--out", joined).code == 1
    assert (elsewhere / record.address / "record.json").read_bytes() == before


def test_merge_leaves_a_file_in_the_place_of_a_run_alone(folder: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined"
    joined.mkdir()
    place = joined / of_seed_9(folder).name
    place.write_text("notes")
    (joined / "table.md").mkdir()
    found = ask("merge", folder)
    assert found.code == 1
    assert f"left out: {place}: expected a folder, found a file" in found.out
    assert place.read_text() == "notes"
    assert len(list(RecordStore(joined).runs())) == 4
    assert "table.refused-1.md" in found.out
    assert (joined / "table.md").is_file()


@pytest.mark.parametrize("new", [True, False])
def test_merge_clears_what_one_that_was_killed_left(
    folder: Path, tmp_path: Path, new: bool
) -> None:
    joined = tmp_path / "joined"
    name = temporary_name("joined.merge" if new else "merge")
    mine, theirs = (
        name.replace(f".{os.getpid()}.", f".{number}.") for number in (2**31 - 2, os.getppid())
    )
    if not new:
        joined.mkdir()
    left = [
        (tmp_path if new else joined) / one
        for one in (mine, theirs, ".joined.merge-1" if new else ".merge-1")
    ]
    for path in left:
        (path / "gfp-s0").mkdir(parents=True)
    found = ask("merge", folder)
    assert found.code == 0, found.err
    assert [path.exists() for path in left] == [False, True, True]
    assert [
        f"{path} is of another merge; remove it when that is over" in found.out for path in left
    ] == [False, True, True]


def test_a_claim_that_is_a_folder_keeps_nobody_out(folder: Path) -> None:
    path = folder_for("claim.json")(folder)
    assert Claims(folder).holder(path.parent.name) is None
