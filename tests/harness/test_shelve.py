"""`harness shelve`: a folder becomes a study on its shelf, whole or not at all,
the same bytes when made twice.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.errors import UsageError
from harness.records import store as store_module
from harness.records.claims import Claims
from harness.records.evaluations import Evaluations
from harness.records.store import RecordStore, read_records
from harness.report.shelf import Study, read_study, studies_page
from tests.harness.made_up_records import curve_record, edit, run_record
from tests.harness.small_run import Outcome, harness
from tests.harness.test_merge import content
from tests.harness.test_shelf import study

WHY = "Whether motion is a better target."


class Place:
    """A folder, the place of its shelf, and `harness shelve FOLDER --to SHELF`,
    after which the folder is as it was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.shelf = folder, folder.parent / "shelves" / "trends"

    def shelve(self, *more: str, why: str = WHY) -> Outcome:
        before = content(self.folder)
        outcome = harness(
            "shelve", self.folder, "--to", self.shelf, *(["--why", why] if why else []), *more
        )
        assert content(self.folder) == before
        return outcome

    def grow(self) -> None:
        RecordStore(self.folder).write_run(curve_record("gfp", 0.4, 0.7, seed=8))


@pytest.fixture
def at(tmp_path: Path) -> Place:
    return Place(study(tmp_path / "study"))


def test_a_shelf_has_all_records_the_table_and_a_page(at: Place) -> None:
    harness("table", at.folder)
    outcome = at.shelve()
    assert (outcome.code, outcome.err) == (0, "")
    assert (
        outcome.out
        == f"7 runs, 1 speed measurement, 6 evaluations in {at.shelf}: records.jsonl, table.md,"
        f" table.csv, README.md; weights, states and logs stay in {at.folder}\n"
    )
    assert sorted(content(at.shelf)) == ["README.md", "records.jsonl", "table.csv", "table.md"]
    assert read_records(at.shelf) == read_records(at.folder)
    assert list(Evaluations(at.shelf).all()) == list(Evaluations(at.folder).all())
    assert f"\n\n{WHY}\n\n" in (at.shelf / "README.md").read_text()
    assert (
        (at.shelf / "table.md").read_text().startswith(f"    python -m harness table {at.shelf}\n")
    )


def test_its_page_says_once_what_all_records_share(at: Place) -> None:
    at.shelve()
    page = (at.shelf / "README.md").read_text()
    assert page.startswith(f"# trends\n\n{WHY}\n")
    for line in (
        "- records: 7 runs, 1 speed measurement, 6 evaluations",
        "- rows: 2",
        "- data: synthetic (ffffffffffffffff)",
        "- machine: cpu, Abacus 3000, 2 cores, 1 thread",
        "- versions: python 3.11.7, torch 2.11.0",
        "- commit: 0123456789ab",
        "- finished: 2026-01-02",
    ):
        assert page.count(f"{line}\n") == 1


def test_its_page_quotes_every_method_once(at: Place) -> None:
    for path in at.folder.glob("gfp-*/record.json"):
        edit(
            path,
            lambda found: found["method"].update(deviations=["no EMA"], choices=["lr", "warm-up"]),
        )
    at.shelve()
    page = (at.shelf / "README.md").read_text()
    assert page.endswith(
        "\n\n## Methods\n\n- gfp: gfp (none)\n  - departs from it: no EMA\n  - chosen: lr;"
        " warm-up\n- mamp: mamp (none)\n"
    )


def test_pages_of_other_commands_come_along_with_their_commands(at: Place) -> None:
    for page, command in (
        ("trends.md", "trends F"),
        ("table.md", "run --methods gfp"),
        ("notes.md", ""),
    ):
        (at.folder / page).write_text(
            f"    python -m harness {command}\n" if command else "by hand\n"
        )
    (at.folder / "mamp.yaml").write_text("frozen: 1\n")
    at.shelve("--name", "Trends")
    found = content(at.shelf)
    assert {"mamp.yaml", "notes.md", "trends.md"} <= found.keys()
    assert found["table.md"].startswith(b"    python -m harness run --methods gfp\n\n")
    assert (
        f"# Trends\n\n{WHY}\n\n    python -m harness run --methods gfp\n    python -m harness"
        " trends F\n\n- records" in found["README.md"].decode()
    )


def test_made_twice_it_is_the_same(at: Place) -> None:
    at.shelve()
    before = content(at.shelf)
    assert at.shelve().code == 0
    assert content(at.shelf) == before


def test_made_again_of_itself_it_is_the_same(at: Place) -> None:
    at.shelve("--name", "Trends")
    before = content(at.shelf)
    assert harness("shelve", at.shelf, "--to", at.shelf).code == 0
    assert content(at.shelf) == before


def test_a_study_that_has_grown_is_made_again_and_keeps_its_reason_and_other_pages(
    at: Place,
) -> None:
    at.shelve()
    (at.shelf / "notes.md").write_text("by hand")
    page = at.shelf / "README.md"
    page.write_text(page.read_text().replace("- records:", "- shows: that it is\n- records:"))
    at.grow()
    assert at.shelve(why="").code == 0
    assert read_records(at.shelf) == read_records(at.folder)
    assert (at.shelf / "notes.md").read_text() == "by hand"
    study = read_study(page)
    assert (study.why, study.facts["shows"]) == (WHY, "that it is")


def test_another_study_is_not_overwritten(at: Place, tmp_path: Path) -> None:
    at.shelve()
    before = content(at.shelf)
    RecordStore(tmp_path / "other").write_run(run_record("mamp", seed=5))
    outcome = harness("shelve", tmp_path / "other", "--to", at.shelf, "--why", "why")
    assert outcome.code == 2
    assert (
        outcome.err
        == f"error: --to {at.shelf}: holds 15 of 15 records that {tmp_path / 'other'} has not, so"
        " it is another study's; choose another --to, or `merge` both first\n"
    )
    assert content(at.shelf) == before


def test_a_folder_that_is_no_shelf_is_not_written_into(at: Place) -> None:
    at.shelf.mkdir(parents=True)
    (at.shelf / "thesis.md").write_text("mine")
    outcome = at.shelve()
    assert outcome.code == 2
    assert outcome.err.startswith(
        f"error: --to {at.shelf}: expected a new folder or this study's shelf, found neither ("
    )
    assert content(at.shelf) == {"thesis.md": b"mine"}


@pytest.mark.parametrize("below", [".", "shelf", "gfp/x"])
def test_no_shelf_comes_into_the_folder(at: Place, below: str) -> None:
    at.shelf = at.folder / below
    outcome = at.shelve()
    assert outcome.code == 2
    assert "which is only read; choose a folder beside it" in outcome.err


def test_a_study_that_was_only_planned_gets_its_records(at: Place) -> None:
    at.shelf.mkdir(parents=True)
    (at.shelf / "plan.md").write_text("the plan")
    (at.shelf / "README.md").write_text(Study("Planned", "For this.").page)
    assert at.shelve(why="").code == 0
    study = read_study(at.shelf / "README.md")
    assert (study.name, study.why, study.facts["rows"]) == ("Planned", "For this.", "2")
    assert content(at.shelf)["plan.md"] == b"the plan"


@pytest.mark.parametrize("text", ["# Project\n\nA tool.\n\nMore of it.\n", "no page", ""])
def test_another_readme_is_not_overwritten(at: Place, text: str) -> None:
    at.shelf.mkdir(parents=True)
    (at.shelf / "README.md").write_text(text)
    assert at.shelve().code == 2
    assert content(at.shelf) == {"README.md": text.encode()}


def test_a_link_or_a_file_is_no_place_for_a_shelf(at: Place, tmp_path: Path) -> None:
    at.shelf.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    at.shelf.symlink_to(tmp_path / "elsewhere")
    assert "expected a folder, found a link" in at.shelve().err
    at.shelf.unlink()
    at.shelf.write_text("")
    assert "expected a folder, found a file" in at.shelve().err


def test_it_must_be_said_why(at: Place) -> None:
    outcome = at.shelve(why="")
    assert outcome.code == 2
    assert outcome.err.startswith(
        f"error: --why: expected a line that says why {at.folder} was made, found none"
    )
    assert not at.shelf.exists()


@pytest.mark.parametrize(
    "why", ["# a\n\n- b: c\n", "<script>alert(1)</script> | x", "\x1b[31mred \u202e"]
)
def test_any_reason_is_a_line_of_its_own(at: Place, why: str) -> None:
    assert at.shelve(why=why).code == 0
    lines = (at.shelf / "README.md").read_text().splitlines()
    found = read_study(at.shelf / "README.md")
    assert lines[2] == found.why
    assert "\x1b" not in found.why
    assert found.facts["rows"] == "2"
    page = studies_page(at.shelf.parent, at.shelf.parent, "command")
    assert len(page.splitlines()) == 5


def test_what_cannot_be_used_is_named_and_stays_behind(at: Place) -> None:
    path = next(at.folder.glob("gfp-s0-*/record.json"))
    path.write_bytes(path.read_bytes()[:100])
    outcome = at.shelve()
    assert outcome.code == 0
    assert outcome.err.startswith(f"record {path}: cannot be read (")
    assert outcome.out.startswith("6 runs, ")
    assert len(read_records(at.shelf).runs) == 6


def test_an_empty_folder_is_no_study(tmp_path: Path) -> None:
    outcome = harness("shelve", tmp_path, "--to", tmp_path.parent / "shelf", "--why", "why")
    assert (outcome.code, outcome.err) == (
        2,
        f"error: {tmp_path}: expected records that can be used, found none; check the path\n",
    )


@pytest.mark.parametrize("work", ["", "evaluations/linear-v1-000000000001"])
def test_a_folder_somebody_works_in_waits(at: Place, work: str) -> None:
    address = f"{run_record('mamp', seed=11).address}/{work}".rstrip("/")
    with Claims(at.folder).hold(address, "mamp", 11):
        outcome = harness("shelve", at.folder, "--to", at.shelf, "--why", WHY)
    assert outcome.code == 2
    assert "works in it; wait until it is done" in outcome.err
    assert not at.shelf.exists()


@pytest.mark.parametrize("new", [True, False])
def test_a_full_disk_leaves_what_was_there(
    at: Place, new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not new:
        at.shelve()
    before = content(at.shelf) if at.shelf.exists() else {}
    at.grow()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store_module.os, "fsync", full)
    outcome = at.shelve()
    assert outcome.code == 2
    assert f"error: --to {at.shelf} is as it was: No space left on device" in outcome.err
    assert (content(at.shelf) if at.shelf.exists() else {}) == before
    assert [path.name for path in at.shelf.parent.iterdir()] == ([] if new else ["trends"])


# --- the list of studies ---


def test_studies_are_listed_with_what_their_pages_say(at: Place) -> None:
    at.shelve()
    other = at.shelf.parent / "doctor"
    other.mkdir()
    (other / "README.md").write_text(
        "# doctor\n\nHow often a | is wrong.\n\n- finished: 2026-02-03\n"
    )
    (at.shelf.parent / "README.txt").write_text("no study")
    page = studies_page(at.shelf.parent, at.shelf.parent.parent, "python benchmarks/studies.py")
    assert page.splitlines() == [
        "    python benchmarks/studies.py",
        "",
        "| study | why | finished | machine | rows | records |",
        "|---|---|---|---|---|---|",
        "| [doctor](shelves/doctor) | How often a \\| is wrong. | 2026-02-03 | - | - | - |",
        (
            f"| [trends](shelves/trends) | {WHY} | 2026-01-02 | cpu, Abacus 3000, 2 cores, 1 thread"
            " | 2 | 7 runs, 1 speed measurement, 6 evaluations |"
        ),
    ]


@pytest.mark.parametrize(
    "text", ["", "# title\n", "# title\n\n- rows: 2\n", "# title\n\n    command\n", "no title\n"]
)
def test_a_page_without_a_reason_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(
        UsageError, match=r"README\.md: expected a title, and below it a line that says why"
    ):
        read_study(tmp_path / "README.md")


def test_a_page_is_read_as_it_was_written(tmp_path: Path) -> None:
    study = Study("n", "why", ["python x"], {"rows": "2", "data": "a: b"}, ["m: M"])
    (tmp_path / "README.md").write_text(study.page)
    found = read_study(tmp_path / "README.md")
    assert (found.name, found.why) == ("n", "why")
    assert dict(found.facts).items() >= study.facts.items()
