"""The studies in `benchmarks/results`: each says why it was made,
and its page says what its records and tables say.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studies import HERE, page
from harness.records.shelving import contents
from harness.report.shelf import PAGE, read_study, study_of

RESULTS = HERE / "results"
STUDIES = sorted({path.parent for path in RESULTS.rglob("*/*") if path.is_file()})
SHELVES = [folder for folder in STUDIES if (folder / "records.jsonl").exists()]


def name_of(folder: Path) -> str:
    return str(folder.relative_to(RESULTS))


def test_the_list_of_studies_is_the_one_that_its_script_writes() -> None:
    """`python benchmarks/studies.py` writes it again."""
    assert (HERE / "README.md").read_text() == page()
    assert page().count("\n| [") == len(STUDIES)


@pytest.mark.parametrize("folder", STUDIES, ids=name_of)
def test_a_study_says_in_a_line_why_it_was_made(folder: Path) -> None:
    study = read_study(folder / PAGE)
    assert study.name == name_of(folder)
    assert study.why.endswith(".")
    assert len(study.why) < 160


@pytest.mark.parametrize("folder", SHELVES, ids=name_of)
def test_the_page_of_a_shelf_says_what_its_records_say(folder: Path) -> None:
    """`harness shelve FOLDER --to FOLDER` makes it again."""
    found, study = contents(folder), read_study(folder / PAGE)
    assert found.refused == []
    made = study_of(study.name, study.why, [], found)
    assert {name: study.facts[name] for name in made.facts} == made.facts
    assert (folder / PAGE).read_text().partition("## Methods")[2] == made.page.partition(
        "## Methods"
    )[2]


@pytest.mark.parametrize(
    "folder", [folder for folder in STUDIES if folder not in SHELVES], ids=name_of
)
def test_the_page_of_another_study_says_what_its_tables_say(folder: Path) -> None:
    texts = [path.read_text() for path in folder.iterdir() if path.name != PAGE]
    for fact in read_study(folder / PAGE).facts.values():
        assert [part for part in fact.split(", ") if not any(part in text for text in texts)] == []


def test_a_shelf_holds_no_record_in_a_folder_of_its_own() -> None:
    assert not [*RESULTS.rglob("record.json"), *RESULTS.rglob("speed.json")]
