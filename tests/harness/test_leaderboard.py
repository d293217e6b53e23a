"""One leaderboard over laboratories: what shares a board, what does not and why,
and whose a row is.
"""

from __future__ import annotations

import errno
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.errors import UsageError
from harness.records import shelving
from harness.records.evaluations import EvaluationRecord, Evaluations
from harness.records.schema import RunRecord, SpeedRecord
from harness.report.boards import board_tables, leaderboard_frame
from harness.report.leaderboard import Board, laboratories, leaderboard
from tests.harness.made_up_records import (
    ENVIRONMENT,
    TIME,
    arm,
    folder_of,
    ratio,
    run_record,
    speed_record,
    with_encoder,
)
from tests.harness.small_run import harness
from tests.harness.test_merge import content

LOOP = {"trainer": "1", "probes": "1", "encoder": "1"}


def in_steps(
    name: str, linear: float, *, seed: int = 0, budget: str = "100steps", **changes: Any
) -> RunRecord:
    """A run whose budget means the same on every machine."""
    record = run_record(name, linear, seed=seed, **changes)
    spec = record.spec if record.method.control else record.spec.with_train(budget=budget)
    return record.model_copy(update={"spec": spec, "address": spec.address})


def of_code(record: RunRecord, **versions: str) -> RunRecord:
    method = record.method.model_copy(update={"versions": {**LOOP, **versions}})
    return record.model_copy(update={"method": method})


def boards_of(*folders: Path) -> list[Board]:
    return leaderboard(laboratories([str(folder) for folder in folders]))


def rows(board: Board) -> list[list[str]]:
    return [row for _, rows in board_tables(board) for row in rows]


SLIDE_RULE = ENVIRONMENT.model_copy(update={"processor": "Slide rule"})


def test_rows_of_two_laboratories_share_a_board_and_say_whose_they_are(tmp_path: Path) -> None:
    ours = folder_of(tmp_path / "ours", in_steps("gfp", 0.8), in_steps("random-init", 0.5))
    theirs = folder_of(tmp_path / "theirs", in_steps("mamp", 0.9, environment=SLIDE_RULE))
    (board,) = boards_of(ours, theirs)
    assert [(entry.label, entry.laboratory) for entry in board.entries] == [
        ("mamp", "theirs"),
        ("gfp", "ours"),
        ("random-init", "ours"),
    ]
    assert rows(board)[0] == [
        "mamp",
        "theirs",
        "90.0 [86.7, 92.6 clips]",
        "50.0 [45.1, 54.9 clips]",
    ]
    assert board.reason == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"budget": "50steps"}, "train.budget"),
        ({"data": run_record().data.model_copy(update={"fingerprint": "e" * 16})}, "data"),
        ({"versions": {"trainer": "2"}}, "code.trainer"),
        ({"versions": {"encoder": "2"}}, "code.encoder"),
    ],
)
def test_what_was_made_otherwise_is_in_a_board_of_its_own_that_says_why(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    versions = change.pop("versions", {})
    ours = folder_of(tmp_path / "ours", of_code(in_steps("gfp", 0.8)))
    theirs = folder_of(tmp_path / "theirs", of_code(in_steps("mamp", 0.9, **change), **versions))
    found = boards_of(ours, theirs)
    assert [len(board.entries) for board in found] == [1, 1]
    assert list(found[1].apart[1] if found[1].apart else {}) == [reason]
    assert found[1].reason.startswith(f"not in accuracy 1: {reason} ")


def test_an_encoder_that_is_not_its_size_is_named_by_its_numbers(tmp_path: Path) -> None:
    one, other = in_steps("gfp", 0.8), with_encoder(in_steps("gfp", 0.9), depth=1, frames=24)
    ours, theirs = folder_of(tmp_path / "ours", one), folder_of(tmp_path / "theirs", other)
    found = [board.heading.split(", encoder ")[1] for board in boards_of(ours, theirs)]
    assert sorted(found) == ["tiny (depth=1, frames=24), budget 100steps", "tiny, budget 100steps"]


def test_seconds_are_steps_on_one_machine_alone(tmp_path: Path) -> None:
    ours = folder_of(tmp_path / "ours", run_record("gfp", 0.8))
    theirs = folder_of(tmp_path / "theirs", run_record("mamp", 0.9, environment=SLIDE_RULE))
    assert len(boards_of(ours, ours)) == 1
    found = boards_of(ours, theirs)
    assert "machine.processor Slide rule" in found[0].reason + found[1].reason


def test_another_version_of_a_methods_own_code_is_another_row(tmp_path: Path) -> None:
    ours = folder_of(tmp_path / "ours", of_code(in_steps("gfp", 0.8), gfp="1"))
    theirs = folder_of(tmp_path / "theirs", of_code(in_steps("gfp", 0.9), gfp="2"))
    (board,) = boards_of(ours, theirs)
    assert [entry.label for entry in board.entries] == ["gfp [gfp 2]", "gfp [gfp 1]"]


def test_the_same_records_in_two_folders_are_one_row(tmp_path: Path) -> None:
    runs = [in_steps("gfp", value, seed=seed) for seed, value in enumerate((0.8, 0.82))]
    (board,) = boards_of(folder_of(tmp_path / "a", *runs), folder_of(tmp_path / "b", *runs))
    assert [(entry.label, entry.laboratory) for entry in board.entries] == [("gfp", "a, b")]


def test_the_best_of_all_laboratories_is_marked_and_who_is_not_told_apart_from_it(
    tmp_path: Path,
) -> None:
    values = {"gfp": (0.80, 0.81, 0.82), "mamp": (0.795, 0.815, 0.82), "amr": (0.5, 0.515, 0.52)}
    folders = [
        folder_of(
            tmp_path / name, *(in_steps(name, value, seed=seed) for seed, value in enumerate(found))
        )
        for name, found in values.items()
    ]
    (board,) = boards_of(*folders)
    assert [
        (entry.label, entry.cells["linear"].figures.get("value_mark")) for entry in board.entries
    ] == [("gfp", "best"), ("mamp", "~best"), ("amr", None)]
    assert any(
        note.startswith("linear, these people: gfp (gfp) is above amr (amr)")
        for note in board.notes
    )


def evaluation(run: RunRecord, right: int, **changes: Any) -> EvaluationRecord:
    values: dict[str, Any] = {
        "address": f"finetune-{right}",
        "run": run.address,
        "label": run.label,
        "seed": run.spec.seed,
        "protocol": "finetune",
        "spec": "finetune",
        "options": {"epochs": 20},
        "encoder": "last",
        "data": "f" * 16,
        "status": "ok",
        "accuracy": right / 240,
        "predictions": [0] * right + [1] * (240 - right),
        "versions": {"finetune": "1"},
        "environment": run.environment,
        "started": TIME,
        "finished": TIME,
    }
    return EvaluationRecord(**values | changes)


def test_a_protocol_with_other_options_is_another_column(tmp_path: Path) -> None:
    folders = []
    for name, epochs in (("gfp", 20), ("mamp", 10)):
        run = in_steps(name, 0.8)
        folders.append(folder_of(tmp_path / name, run))
        Evaluations(folders[-1]).write(evaluation(run, 120, options={"epochs": epochs}))
    (board,) = boards_of(*folders)
    assert list(board.columns) == ["linear", "kNN-1", "finetune", "finetune (2)"]
    result = harness("leaderboard", *folders)
    assert "finetune (2) is not finetune: finetune.epochs 10 here, 20 there" in result.out


def measured(speedup: float, **changes: Any) -> SpeedRecord:
    record = speed_record(
        arm("gfp", ratio(speedup - 0.1, speedup, speedup + 0.1)),
        arm("skeletonmae", ratio(1.0, 1.0, 1.0)),
    )
    return record.model_copy(update={"rules": "5", **changes})


def test_speed_has_boards_of_its_own_by_machine_and_rules(tmp_path: Path) -> None:
    ours = folder_of(tmp_path / "ours", measured(2.0), in_steps("gfp", 0.8))
    theirs = folder_of(tmp_path / "theirs", measured(3.0))
    other_rules = folder_of(tmp_path / "other", measured(3.0, rules="4"))
    elsewhere = folder_of(tmp_path / "elsewhere", measured(3.0, environment=SLIDE_RULE))
    accuracy, shared, *alone = boards_of(ours, theirs, other_rules, elsewhere)
    assert (accuracy.kind, shared.kind) == ("accuracy", "speed")
    assert rows(shared)[:2] == [
        ["gfp", "theirs", "3.00x [2.90, 3.10]", "3.00x", "123", "supported"],
        ["gfp", "ours", "2.00x [1.90, 2.10]", "3.00x", "123", "supported"],
    ]
    assert {board.reason for board in alone} == {
        "not in speed 1: machine.processor Slide rule here, Abacus 3000 there",
        "not in speed 1: rules 4 here, 5 there",
    }


def test_of_two_measurements_of_a_row_the_later_counts(tmp_path: Path) -> None:
    later = measured(3.0, address="speed-1", finished=TIME + timedelta(days=1))
    (board,) = boards_of(folder_of(tmp_path / "a", later, measured(2.0)))
    assert [entry.cells["speedup"].value for entry in board.entries if entry.label == "gfp"] == [
        3.0
    ]


def test_the_frame_has_numbers_and_whose_they_are(tmp_path: Path) -> None:
    frame = leaderboard_frame(
        boards_of(folder_of(tmp_path / "a", in_steps("gfp", 0.8), measured(2.0)))
    )
    linear = frame[frame.column == "linear"].iloc[0]
    assert (linear["method"], linear["from"], linear["value"], linear["seeds"]) == (
        "gfp",
        "a",
        0.8,
        1,
    )
    speed = frame[(frame.kind == "speed") & (frame.method == "gfp")].iloc[0]
    assert (speed["value"], speed["value_low"], speed["flop_ratio"], speed["judgement"]) == (
        2.0,
        1.9,
        3.0,
        "supported",
    )


def test_the_command_prints_writes_and_ends_alike_every_time(tmp_path: Path) -> None:
    folders = [
        folder_of(tmp_path / "x" / "runs", in_steps("gfp", 0.8)),
        folder_of(tmp_path / "y" / "runs", measured(2.0)),
    ]
    page = tmp_path / "board.md"
    first = harness("leaderboard", *folders, "--out", page)
    assert first.code == 0
    assert "x/runs" in first.out
    left = page.read_bytes(), page.with_suffix(".csv").read_bytes()
    assert harness("leaderboard", *folders, "--out", page).out == first.out
    assert (page.read_bytes(), page.with_suffix(".csv").read_bytes()) == left
    assert len(pd.read_csv(page.with_suffix(".csv"))) == 4
    found = json.loads(harness("leaderboard", f"we={folders[0]}", folders[1], "--json").out)
    assert [board["name"] for board in found["boards"]] == ["accuracy 1", "speed 1"]
    assert found["boards"][0]["rows"][0]["from"] == "we"


def test_of_data_whose_sides_were_not_recorded_the_reason_says_so(tmp_path: Path) -> None:
    """Earlier fingerprints are of the clips alone: who is on which side, nobody knows."""

    def on(fingerprint: str, linear: float) -> RunRecord:
        record = in_steps("gfp", linear)
        data = record.data.model_copy(update={"fingerprint": fingerprint})
        own = record.spec.data.model_copy(update={"fingerprint": fingerprint})
        spec = record.spec.model_copy(update={"data": own})
        update = {"spec": spec, "address": spec.address, "data": data}
        return record.model_copy(update=update)

    places = {"e" * 16: "old", "e" * 16 + "-12345678": "new", "d" * 16 + "-12345678": "other"}
    for fingerprint, name in places.items():
        folder_of(tmp_path / name, on(fingerprint, 0.8))
    boards = leaderboard(laboratories([str(tmp_path / name) for name in places.values()]))
    reasons = {board.conditions["data"]: board.reason for board in boards}
    assert len(boards) == 3
    assert reasons["e" * 16].endswith(
        f"data {'e' * 16} here, {'e' * 16}-12345678 there (the same clips; of the one without a"
        " suffix, classes and sides were not recorded)"
    )
    assert "the same clips" in reasons["e" * 16 + "-12345678"]
    assert "the same clips" not in reasons["d" * 16 + "-12345678"]


def test_a_site_has_the_leaderboard_and_a_report_of_every_folder_and_asks_nobody_for_anything(
    tmp_path: Path,
) -> None:
    folders = [
        folder_of(tmp_path / name, in_steps("gfp", 0.8), measured(2.0)) for name in ("x", "index")
    ]
    site = tmp_path / "site"
    result = harness("leaderboard", f"<b>lab=={folders[0]}", folders[1], "--site", site)
    assert result.code == 0, result.err
    assert sorted(path.name for path in site.iterdir()) == [
        "b-lab.html",
        "index-2.html",
        "index.html",
    ]
    page = (site / "index.html").read_text()
    assert 'href="b-lab.html">&lt;b&gt;lab=</a>' in page
    assert "default-src" in page
    assert "80.0 [75.8, 83.6 clips]" in page
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//|@import|url\(", page)
    before = {path.name: path.read_bytes() for path in site.iterdir()}
    harness("leaderboard", f"<b>lab=={folders[0]}", folders[1], "--site", site)
    assert {path.name: path.read_bytes() for path in site.iterdir()} == before


@pytest.mark.parametrize("there", [True, False])
def test_a_site_that_is_stopped_half_way_is_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    folders = [folder_of(tmp_path / name, in_steps("gfp", 0.8)) for name in ("x", "y")]
    site = tmp_path / "site"
    if there:
        assert harness("leaderboard", folders[0], "--site", site).code == 0
    before = content(tmp_path)
    write, written = shelving.write_atomically, list[Path]()

    def full(path: Path, text: bytes) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        write(path, text)

    monkeypatch.setattr(shelving, "write_atomically", full)
    stopped = harness("leaderboard", *folders, "--site", site)
    assert (stopped.code, len(written)) == (2, 1)
    assert f"error: --site {site} is as it was: No space left on device" in stopped.err
    assert content(tmp_path) == before
    assert site.exists() == there


def test_names_that_cannot_be_told_apart_and_folders_without_records_are_one_line(
    tmp_path: Path,
) -> None:
    folder, empty = folder_of(tmp_path / "a", in_steps("gfp", 0.8)), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match="two folders are called 'we'"):
        laboratories([f"we={folder}", f"we={empty}"])
    result = harness("leaderboard", empty)
    assert (result.code, result.out) == (2, "")
    assert result.err.count("\n") == 1
