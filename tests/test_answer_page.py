"""The page of `benchmarks/answer` follows from the records, and says what is missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.answer.arrivals import sooner
from benchmarks.answer.longer import from_where
from benchmarks.answer.page import HERE, PAGE, RESULTS, page, read_answer, write
from harness.cli.config import read_config

STUDY = """
study: {question: "Which is better?", wanted_half_width_points: 3, core_hours: {of: 2, in_all: 3}}
parts:
  of-utdmhad:
    methods: gfp,amr,skeletonmae,mamp
    seeds: 0-5
    protocols: linear,semi:ratio=0.1,epochs=30
    out: runs/of-utdmhad
  again:
    methods: gfp
    seeds: 0-6
    out: runs/of-utdmhad
  later:
    methods: gfp
    seeds: 0
    out: runs/later
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, and the committed study of protocols as if it were its own, but for two runs."""
    folder = tmp_path_factory.mktemp("answer")
    (folder / "plan.yaml").write_text(STUDY)
    _, study = read_config(folder / "plan.yaml")
    records = []
    for line in (RESULTS / "utdmhad-protocols" / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "environment" in record:
            other = record.get("address", "").startswith("gfp-s5-")
            record["environment"]["study"] = "plan.yaml 0123456789abcdef" if other else study
        records.append(json.dumps(record))
    (folder / "answer-of-utdmhad").mkdir()
    (folder / "answer-of-utdmhad" / "records.jsonl").write_text("\n".join(records) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(results: Path) -> str:
    write(read_answer(results / "plan.yaml", results), results)
    return (results / PAGE).read_text()


def test_the_committed_page_follows_from_the_committed_records() -> None:
    """`python benchmarks/answer/page.py` writes it again."""
    answer = read_answer()
    assert (HERE / PAGE).read_text() == page(answer)
    titles = [answer.title(one) for one in answer.settings]
    assert len(set(titles)) == len(titles)  # two parts may be of one set and budget
    drawn = set(re.findall(r"\]\(([^)]+\.svg)\)", (HERE / PAGE).read_text()))
    assert drawn == {path.name for path in HERE.glob("*.svg")}


def test_the_page_begins_with_a_sentence_a_table_and_a_picture(made: str, results: Path) -> None:
    top = made.partition("\n## ")[0]
    assert "Which is better?" in top
    assert "- **utdmhad, 60000clips**: " in top
    assert "raw coordinates (77.0 %)" in top
    assert "Above raw coordinates: nobody by any of " in top
    assert "- **To another's accuracy**: on no set can it be said" in top
    assert "| raw-pca | 77.0 [72.8, 80.7 clips] |" in top
    pictures = re.findall(r"\]\(([^)]+)\)", top)
    assert [(results / name).read_bytes()[:5] for name in pictures] == [b"<?xml"]


def test_the_page_says_who_is_above_controls_and_each_other(made: str) -> None:
    assert "- protocol knn: above raw coordinates: nobody; below: gfp, amr and skeletonmae" in made
    assert "- protocol semi:epochs=30: above training from scratch: nobody" in made
    assert "protocol linear, these people: raw-pca is above gfp, amr, skeletonmae and" in made
    assert "protocol linear, new people: not testable (4 of 6 test subjects)" in made


@pytest.mark.parametrize(
    ("holm", "first", "second", "expected"),
    [
        (None, 50.0, 90.0, "cannot be said"),
        (0.2, 50.0, 90.0, "cannot be said, not even whether sooner (p 0.2 after Holm)"),
        (0.01, 50.0, 90.0, "sooner (p 0.01 after Holm), how many times as fast cannot be said"),
        (0.01, 50.0, None, "sooner (p 0.01 after Holm), how many times as fast cannot be said"),
        (0.01, None, 90.0, "later (p 0.01 after Holm), how many times as fast cannot be said"),
    ],
)
def test_times_that_have_no_ratio_may_be_told_apart(
    holm: float | None, first: float | None, second: float | None, expected: str
) -> None:
    row = {"holm": holm, "median_seconds": first}
    assert sooner(row, {"median_seconds": second}) == expected


@pytest.mark.parametrize(
    ("linear", "expected"),
    [
        ([0.70, 0.78, 0.79], "its mean is above raw coordinates' 77.0 % from 200 clips on"),
        (
            [0.78, 0.78, 0.79],
            "its mean is above raw coordinates' 77.0 % at every look, the first at 100 clips",
        ),
        ([0.78, 0.76, 0.79], "its mean is above raw coordinates' 77.0 % from 300 clips on"),
        (
            [0.70, 0.78, 0.77],
            "its mean does not stay above raw coordinates' 77.0 %: 77.0 % at 300 clips",
        ),
    ],
)
def test_a_method_beats_raw_coordinates_from_where_its_mean_stays_above(
    linear: list[float], expected: str
) -> None:
    points = pd.DataFrame(
        {
            "clips_seen": [100, 100, 200, 200, 300, 300],
            "linear": [one + apart for one in linear for apart in (0.01, -0.01)],
        }
    )
    assert from_where(points, 0.77) == expected


def test_the_page_has_trends_times_power_and_the_exchange(made: str) -> None:
    assert "| AMR above GFP | amr | gfp | +" in made
    assert "No two rows under one setting speak of: motion rather than coordinates (MAMP)" in made
    assert re.search(
        r"- amr to the accuracy of gfp \(\d\d\.\d %; untrained \d\d\.\d %\): cannot be said, not"
        r" even whether sooner \(p [\d.]+ after Holm\): \d of 6 seeds",
        made,
    )
    assert "protocol linear, these people: ±3 points for " in made
    assert "| equal 60000clips |" in made


def test_what_is_missing_and_of_another_plan_is_named(made: str) -> None:
    assert (
        "| of-utdmhad | runs | 24 | 17 | 7 | - |" in made
    )  # one names another plan, six are mamp's
    assert "| of-utdmhad | semi:epochs=30 | 24 | 9 | 15 | - |" in made
    assert "| again | runs | 1 | 0 | 1 | - |" in made  # seeds 0-5 were asked for already
    assert "| later | runs | 1 | 0 | 1 | - |" in made
    assert re.search(
        r"- left out of of-utdmhad: \d records? of another plan or none \(gfp-s5", made
    )
    assert "| of | 2.0 | " in made


def test_a_part_that_was_run_apart_is_read_from_its_own_folder(
    results: Path, tmp_path: Path
) -> None:
    for name in ("of-utdmhad", "again"):
        shutil.copytree(results / "answer-of-utdmhad", tmp_path / f"answer-{name}")
    answer = read_answer(results / "plan.yaml", tmp_path)
    titles = [answer.title(one) for one in answer.settings]
    assert [name.rpartition(" ")[2] for name in titles] == ["(of-utdmhad)", "(again)"]
    lines = [(line["part"], line["what"], line["planned"]) for line in answer.missing]
    assert ("again", "runs", "1") in lines  # those that of-utdmhad asks for are planned once


def test_without_a_record_the_page_says_so(results: Path, tmp_path: Path) -> None:
    text = page(read_answer(results / "plan.yaml", tmp_path))
    assert "Nothing is measured yet" in text
    assert "- done: 0 of " in text
