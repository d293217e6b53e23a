"""A study on its shelf is read as the folder that it was made of;
what is refused in one is refused in the other.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import harness as door
from harness.errors import UsageError
from harness.records import shelf as shelf_module
from harness.records.evaluations import EvaluationRecord, Evaluations, TestClips
from harness.records.schema import RunRecord
from harness.records.shelving import contents
from harness.records.store import (
    RecordStore,
    read_records,
    records_below,
    refusal_lines,
    write_atomically,
)
from harness.runs.hopeless import runs_below
from harness.speed.rates import all_reached
from harness.studies.verify import verify
from tests.harness.made_up_records import curve_record, run_record, stage_arm, stage_record
from tests.harness.small_run import Outcome, harness

READERS = {
    "table": ("table", "FOLDER"),
    "table --json": ("table", "FOLDER", "--json"),
    "status": ("status", "FOLDER"),
    "ls": ("ls", "runs", "--out", "FOLDER"),
    "verify": ("verify", "FOLDER"),
    "trends": ("trends", "FOLDER"),
    "ranking": ("ranking", "FOLDER"),
    "target": ("target", "FOLDER"),
    "compare": ("compare", "FOLDER"),
    "leaderboard": ("leaderboard", "FOLDER"),
    "diff": ("diff", "FOLDER", "FOLDER"),
}
PEOPLE = TestClips(
    fingerprint="f" * 16, labels=[0, 1] * 200, subjects=[1, 2, 3, 4] * 100, class_names=["a", "b"]
)


def evaluation(run: RunRecord, right: int) -> EvaluationRecord:
    """An evaluation with the first ``right`` of 400 test clips classified rightly."""
    predictions = [
        label if number < right else 1 - label for number, label in enumerate(PEOPLE.labels)
    ]
    return EvaluationRecord(
        address=f"linear-v1-{right:012x}",
        run=run.address,
        label=run.label,
        seed=run.spec.seed,
        protocol="linear",
        spec="linear",
        options={},
        encoder="last",
        data=PEOPLE.fingerprint,
        status="ok",
        accuracy=right / 400,
        labelled=1000,
        predictions=predictions,
        environment=run.environment,
        started=run.started,
        finished=run.finished,
    )


def study(root: Path) -> Path:
    """Two methods on three seeds, one run that failed, their speed,
    and an evaluation of each finished run.
    """
    store = RecordStore(root)
    done = Evaluations(store.root)
    for number, label in enumerate(("gfp", "mamp")):
        for seed in range(3):
            run = curve_record(label, 0.4, 0.6 + 0.01 * seed, seed=seed)
            store.write_run(run)
            done.write(evaluation(run, 200 + 10 * number + seed))
    store.write_run(run_record("gfp", seed=7, status="failed", error="no", accuracy=None, curve=[]))
    store.write_speed(
        stage_record(*(stage_arm(label, 0.1, 0.1) for label in ("gfp", "mamp")), stages=[])
    )
    done.write_test_clips(PEOPLE)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return study(tmp_path / "study")


@pytest.fixture
def shelf(folder: Path, tmp_path: Path) -> Path:
    """The same as a shelf, of the same name: its lines are runs, the speed, evaluations,
    test clips.
    """
    root = tmp_path / "shelves" / folder.name
    write_atomically(root / "records.jsonl", contents(folder).text)
    return root


def lines(shelf: Path) -> list[bytes]:
    return (shelf / "records.jsonl").read_bytes().splitlines(keepends=True)


def write(shelf: Path, *new: bytes) -> None:
    (shelf / "records.jsonl").write_bytes(b"".join(new))


def edited(line: bytes, **changes: object) -> bytes:
    return json.dumps({**json.loads(line), **changes}).encode() + b"\n"


def ask(command: str, folder: Path) -> Outcome:
    outcome = harness(*(str(folder) if word == "FOLDER" else word for word in READERS[command]))
    return Outcome(
        outcome.code, outcome.out.replace(str(folder), "F"), outcome.err.replace(str(folder), "F")
    )


# --- the same as the folder ---


def test_every_record_is_read_as_from_the_folder(folder: Path, shelf: Path) -> None:
    assert [path.name for path in shelf.iterdir()] == ["records.jsonl"]
    assert read_records(shelf) == read_records(folder) == door.read_records(shelf)
    assert len(read_records(shelf).runs) == 7
    here, there = Evaluations(shelf), Evaluations(folder)
    assert list(here.all()) == list(there.all())
    assert here.test_clips(PEOPLE.fingerprint) == PEOPLE
    assert here.test_clips("another") is None
    assert here.refused == {}
    run = curve_record("gfp", 0.4, 0.6)
    assert RecordStore(shelf).run(run.address) == run
    assert RecordStore(shelf).run("gfp-s99-v2-0123456789ab") is None
    assert here.one(run.address, evaluation(run, 200).address) == evaluation(run, 200)


@pytest.mark.parametrize("command", READERS)
def test_every_command_says_the_same_and_writes_nothing(
    folder: Path, shelf: Path, command: str
) -> None:
    here, there = ask(command, shelf), ask(command, folder)
    pages = [path.name for path in folder.glob("*.md")]
    not_written = [
        f"F/{name} is not written: F is a study on its shelf, which is only read\n"
        for name in pages
    ]
    without = there.out
    for name in pages:
        without = without.replace(f", table in F/{name}", "")
    assert here == Outcome(there.code, without, there.err + "".join(not_written))
    assert [path.name for path in shelf.iterdir()] == ["records.jsonl"]


@pytest.mark.parametrize(
    ("command", "option"),
    [(("leaderboard",), "--out {}/b.md"), (("report",), "--out {}/r.html"),
     (("report", "--out", "r.html"), "--latex {}/t.tex")],
)  # fmt: skip
def test_a_file_that_is_asked_for_is_not_written_on_a_shelf(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...],
    option: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    option = option.format(shelf)
    outcome = harness(command[0], shelf, *command[1:], *option.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == (
        f"error: {option}: expected a file to leave, found the place of a study on its shelf, which"
        " is only read; choose another folder\n"
    )
    assert [path.name for path in shelf.iterdir()] == ["records.jsonl"]


def test_what_is_searched_for_below_folders_is_found_on_shelves(folder: Path, shelf: Path) -> None:
    def found(root: Path) -> tuple[list[str], list[tuple[str, float]]]:
        reached = [(one.encoder, one.flops) for one in all_reached([root])]
        return sorted(run.address for run in runs_below([root])), reached

    assert found(shelf.parent) == found(folder)
    assert len(found(folder)[0]) == 7
    places = [place for place, _ in records_below([shelf], RunRecord)]
    assert places == [Path(f"{shelf}/records.jsonl:{number}") for number in range(1, 8)]


def test_a_shelf_is_joined_as_its_folder_is(folder: Path, shelf: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    outcomes = [
        harness("merge", source, "--out", out) for source, out in ((folder, one), (shelf, other))
    ]
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert read_records(one) == read_records(other) == read_records(folder)
    assert (
        list(Evaluations(one).all())
        == list(Evaluations(other).all())
        == list(Evaluations(folder).all())
    )
    assert Evaluations(other).test_clips(PEOPLE.fingerprint) == PEOPLE
    names = {str(path.relative_to(root)) for root in (one, other) for path in root.rglob("*")}
    assert names == {str(path.relative_to(one)) for path in one.rglob("*")}
    assert contents(other).text == contents(folder).text == contents(shelf).text


def test_numbers_are_written_as_in_the_file(folder: Path) -> None:
    path = next(folder.glob("gfp-s0-*/record.json"))
    content = json.loads(path.read_text())
    content["wall_seconds"] = 1234.000000000000123
    content["training"]["flops"] = 1.2345678901234567e22
    path.write_text(json.dumps(content, indent=3))
    assert content in map(json.loads, contents(folder).text.splitlines())


def test_records_beside_a_shelf_are_read_too_and_a_folder_counts_first(
    folder: Path, shelf: Path
) -> None:
    again, new = curve_record("gfp", 0.4, 0.9), curve_record("mamp", 0.4, 0.7, seed=9)
    for record in (again, new):
        RecordStore(shelf).write_run(record)
    other = evaluation(again, 200).model_copy(update={"notes": ("again",)})
    Evaluations(shelf).write(other)
    found, done = read_records(shelf), Evaluations(shelf)
    assert {run.address: run for run in found.runs}[again.address] == again
    assert len(found.runs) == 8
    assert other in list(done.all())
    number = 1 + [again.address.encode() in line for line in lines(shelf)].index(True)
    place = f"{shelf / again.address / 'record.json'}"
    assert (
        refusal_lines(shelf, found.refused)[0]
        == f"record {shelf}/records.jsonl:{number}: is the run {again.address} again; {place}"
        " counts"
    )
    (refusal,) = done.refused.values()
    assert "is the evaluation" in refusal.reason


def test_weights_in_the_folder_of_a_run_must_be_those_of_its_record(shelf: Path) -> None:
    sha = hashlib.sha256(b"weights").hexdigest()
    first, *rest = lines(shelf)
    write(shelf, edited(first, weights={"encoder.safetensors": sha}), *rest)
    address = json.loads(first)["address"]
    assert read_records(shelf).refused == []
    write_atomically(shelf / address / "encoder.safetensors", b"weights")
    assert read_records(shelf).refused == []
    write_atomically(shelf / address / "encoder.safetensors", b"others")
    (refusal,) = read_records(shelf).refused
    assert str(refusal).startswith(
        f"record {shelf}/records.jsonl:1: encoder.safetensors beside it is not the one"
    )


def test_records_of_an_earlier_address_rule_keep_theirs(folder: Path, tmp_path: Path) -> None:
    """Their address is a hash of the spec as it was written then, without what came later."""
    record = curve_record("gfp", 0.4, 0.6)
    written = {
        key: value for key, value in record.spec.model_dump(mode="json").items() if key != "device"
    }
    digest = hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:12]
    content = {
        **record.model_dump(mode="json"),
        "spec": written,
        "address": f"gfp-s0-{digest}",
        "schema_version": 1,
    }
    folder, shelf = tmp_path / "old", tmp_path / "old shelf"
    write_atomically(folder / content["address"] / "record.json", json.dumps(content).encode())
    write_atomically(shelf / "records.jsonl", contents(folder).text)
    (run,) = read_records(shelf).runs
    assert RecordStore(shelf).written(run)["spec"] == written
    assert [check.differences for check in verify(shelf)] == [
        check.differences for check in verify(folder)
    ]


# --- what is refused ---


def cut(line: bytes) -> bytes:
    return line[: len(line) // 2]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda line: cut(line) + b"\n", "cannot be read ("),
        (lambda line: line[:-1] + b"x\n", "cannot be read ("),
        (lambda line: line.replace(b"gfp", b"g\xfcp"), "cannot be read (not UTF-8)"),
        (lambda line: b"[1]\n", "cannot be read (expected a JSON object with its schema_version)"),
        (
            lambda line: edited(line, kind="walk"),
            "cannot be read (expected kind run, speed, evaluation, test-clips",
        ),
        (
            lambda line: edited(line, kind=["run"]),
            "cannot be read (expected kind run, speed, evaluation, test-clips",
        ),
        (
            lambda line: edited(line, schema_version=99),
            "written by a newer version of the suite (schema 99",
        ),
        (
            lambda line: line.replace(b'"schema_version":2', b'"schema_version":' + b"9" * 4000),
            "written by a newer version of the suite (schema 1000000000, ",
        ),
        (
            lambda line: edited(line, surprise=1),
            "written by a newer version of the suite (this one does not know surp",
        ),
        (
            lambda line: edited(line, address="../../elsewhere"),
            "cannot be read (expected a name as address, found",
        ),
        (
            lambda line: edited(line, address="a" * 999),
            "cannot be read (expected a name as address, found",
        ),
        (
            lambda line: edited(line, address=None),
            "cannot be read (expected a name as address, found",
        ),
        (lambda line: edited(line, status="fine"), "cannot be read (status: "),
        (lambda line: edited(line, accuracy=None), "cannot be true ("),
        (lambda line: edited(line, wall_seconds=-1), "cannot be read (wall_seconds: "),
    ],
)
def test_a_line_that_is_no_record_is_named_and_the_rest_is_read(
    shelf: Path, spoil: Callable[[bytes], bytes], expected: str
) -> None:
    first, second, *rest = lines(shelf)
    before = read_records(shelf)
    write(shelf, first, spoil(second), *rest)
    found = read_records(shelf)
    (refusal,) = found.refused
    assert str(refusal).startswith(f"record {shelf}/records.jsonl:2: {expected}")
    assert "\n" not in str(refusal)
    assert len(str(refusal)) < 600
    assert found.runs == [before.runs[0], *before.runs[2:]]
    assert found.speeds == before.speeds
    assert len(list(Evaluations(shelf).all())) == 6


def test_the_last_line_may_be_cut_off(shelf: Path) -> None:
    *rest, last = lines(shelf)
    write(shelf, *rest, cut(last))
    assert f"records.jsonl:{1 + len(rest)}: cannot be read (" in str(read_records(shelf).refused[0])
    assert len(read_records(shelf).runs) == 7


def test_of_two_records_of_one_address_the_first_counts(shelf: Path) -> None:
    found = lines(shelf)
    before = read_records(shelf)
    evaluations = [line for line in found if json.loads(line)["kind"] == "evaluation"]
    write(shelf, *found, edited(found[0], wall_seconds=99.0), evaluations[0])
    now, done = read_records(shelf), Evaluations(shelf)
    assert (now.runs, now.speeds, len(list(done.all()))) == (before.runs, before.speeds, 6)
    (run,), (other,) = now.refused, done.refused.values()
    address = json.loads(found[0])["address"]
    assert (
        str(run) == f"record {shelf}/records.jsonl:{len(found) + 1}: is the run {address} again;"
        " records.jsonl:1 counts"
    )
    assert f"records.jsonl:{len(found) + 2}: is the evaluation " in str(other)


def test_a_line_of_any_length_is_passed_over(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = lines(shelf)
    monkeypatch.setattr(shelf_module, "LONGEST", 1 + max(map(len, found)))
    before = read_records(shelf)
    assert before.refused == []
    huge = edited(found[0], address="huge", error="x" * 3 * shelf_module.LONGEST)
    write(shelf, found[0], huge, *found[1:])
    now = read_records(shelf)
    assert (now.runs, now.speeds) == (before.runs, before.speeds)
    (refusal,) = now.refused
    assert "records.jsonl:2: cannot be read (a line of more than " in str(refusal)


def test_a_file_of_something_else_is_not_quoted_line_by_line(shelf: Path) -> None:
    found, before = lines(shelf), read_records(shelf)
    write(shelf, *found, *[b'{"step": 1, "loss": 2.5}\n'] * 2000)
    now = read_records(shelf)
    assert (now.runs, now.speeds) == (before.runs, before.speeds)
    assert len(now.refused) == shelf_module.MOST_NAMED + 1
    more = 2000 - shelf_module.MOST_NAMED
    assert (
        str(now.refused[-1])
        == f"record {shelf}/records.jsonl: {more} more lines are no records that can be used"
    )


def test_empty_lines_are_nothing(shelf: Path) -> None:
    found = lines(shelf)
    before = read_records(shelf)
    write(shelf, b"\n", *(line.replace(b"\n", b"\r\n") for line in found), b"  \n")
    assert read_records(shelf) == before
    write(shelf)
    assert read_records(shelf).runs == read_records(shelf).refused == []


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path.symlink_to("nowhere"), "expected a file, found a link to nowhere"),
        (lambda path: path.symlink_to(path.name), "expected a file, found a link to nowhere"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a file, found a device"),
        (lambda path: path.symlink_to(path.parent), "expected a file, found a folder"),
        (lambda path: path.mkdir(), "expected a file, found a folder"),
        (getattr(os, "mkfifo", None), "expected a file, found a pipe"),
    ],
)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names")
def test_what_is_no_file_is_named_and_folders_beside_it_are_read(
    folder: Path, make: Callable[[Path], None], expected: str
) -> None:
    before = read_records(folder)
    make(folder / "records.jsonl")
    now = read_records(folder)
    assert (now.runs, now.speeds) == (before.runs, before.speeds)
    (refusal,) = now.refused
    assert str(refusal).startswith(f"record {folder}/records.jsonl: cannot be read ({expected}")


@pytest.mark.parametrize(
    "command",
    [name for name in READERS if name not in ("verify", "table --json", "leaderboard", "diff")],
)
def test_a_command_goes_on_without_a_line_and_says_so(
    folder: Path, shelf: Path, command: str
) -> None:
    found = lines(shelf)
    expected = ask(command, shelf)
    write(shelf, *found, b'{"schema_version": 2, "kind": "run"\n')
    outcome = ask(command, shelf)
    assert (outcome.code, outcome.out) == (expected.code, expected.out)
    line, count, *more = outcome.err.splitlines()
    assert more == expected.err.splitlines()
    assert line.startswith(f"record F/records.jsonl:{len(found) + 1}: cannot be read (")
    assert count.startswith("1 record of F passed over")


def test_verify_names_the_line(shelf: Path) -> None:
    found = lines(shelf)
    write(shelf, *found, b"{}\n")
    outcome = harness("verify", shelf)
    assert outcome.code == 1
    assert (
        f"records: records.jsonl:{len(found) + 1}: cannot be read (expected a JSON object"
        in outcome.out
    )


# --- nothing is written there ---


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--methods", "gfp", "--out"),
        ("run", "--methods", "gfp", "--dry-run", "--out"),
        ("plan", "--methods", "gfp", "--out"),
        ("speed", "--methods", "gfp", "--out"),
        ("explain", "gfp", "--out"),
        ("claim", "gfp-6.2x", "--out"),
        ("evaluate",),
    ],
    ids=" ".join,
)
def test_what_would_write_records_refuses(shelf: Path, command: tuple[str, ...]) -> None:
    before = (shelf / "records.jsonl").read_bytes()
    outcome = harness(*command, shelf)
    assert outcome.code == 2
    assert (
        outcome.err
        == f"error: {shelf} is a study on its shelf (records.jsonl), which is only read; choose"
        f" another folder, or `merge {shelf} --out FOLDER` for one to go on in\n"
    )
    assert [path.name for path in shelf.iterdir()] == ["records.jsonl"]
    assert (shelf / "records.jsonl").read_bytes() == before


def test_nothing_is_joined_into_a_shelf(folder: Path, shelf: Path) -> None:
    outcome = harness("merge", folder, "--out", shelf)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {shelf} is a study on its shelf")


def test_python_refuses_as_well(shelf: Path) -> None:
    with pytest.raises(UsageError, match="only read"):
        door.run("gfp", out=shelf)
    with pytest.raises(UsageError, match="only read"):
        door.evaluate(shelf)
