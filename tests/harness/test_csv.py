"""Beside each page that a command writes lie its numbers: typed, unrounded,
under the names of the frames.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.records.store import RecordStore
from harness.report.claims import CARD_COLUMNS
from harness.report.compare import PAIR_COLUMNS, ROW_COLUMNS
from harness.report.frame import SUMMARY_COLUMNS, as_csv, runs_frame
from harness.report.ranking import RANKING_COLUMNS
from harness.report.target import LADDER_COLUMNS, TARGET_COLUMNS
from harness.report.trends import TREND_COLUMNS
from tests.harness.made_up_records import curve_record, run_record, stage_arm, stage_record
from tests.harness.small_run import harness

THIRD = 1 / 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of two methods, and their speed."""
    store = RecordStore(tmp_path_factory.mktemp("folder") / "out")
    for seed in range(3):
        store.write_run(curve_record("mamp", 0.4, 0.5 + 0.01 * seed, 0.5, seed=seed))
        store.write_run(curve_record("gfp", 0.5, 0.6, THIRD + 0.01 * seed, seed=seed))
    arms = [stage_arm(label, 0.5, 0.5, 0.5, step_seconds=0.5) for label in ("gfp", "mamp")]
    spec = curve_record("gfp", 0.5).spec.model_dump(
        mode="json", exclude={"method", "probe", "seed"}
    )
    spec["train"].pop("budget")
    store.write_speed(
        stage_record(*arms, stages=[]).model_copy(update={"spec": spec, "baseline": "mamp"})
    )
    return store.root


PAGES = {
    ("compare",): {"compare": ROW_COLUMNS, "compare-pairs": PAIR_COLUMNS},
    ("trends",): {"trends": TREND_COLUMNS},
    ("ranking",): {"ranking": RANKING_COLUMNS},
    ("target", "--reference", "mamp"): {"target": TARGET_COLUMNS, "target-ladder": LADDER_COLUMNS},
}


@pytest.mark.parametrize("words", PAGES, ids=lambda words: words[0])
def test_a_command_leaves_the_numbers_of_its_page(words: tuple[str, ...], folder: Path) -> None:
    outcome = harness(words[0], folder, *words[1:])
    assert (outcome.code, outcome.err) == (0, "")
    assert (folder / f"{words[0]}.md").exists()
    for name, columns in PAGES[words].items():
        found = pd.read_csv(folder / f"{name}.csv")
        assert list(found.columns) == list(columns)
        assert len(found) > 0


def test_the_numbers_are_not_rounded(folder: Path) -> None:
    assert harness("compare", folder).code == 0
    found = pd.read_csv(folder / "compare.csv").set_index(["column", "label"])
    mean = np.mean([THIRD + 0.01 * seed for seed in range(3)])
    assert found.loc[("linear", "gfp"), "accuracy"] == pytest.approx(mean, rel=1e-15)


def test_merging_leaves_the_numbers_of_the_joined_table(folder: Path, tmp_path: Path) -> None:
    assert harness("merge", folder, "--out", tmp_path / "joined").code == 0
    found = pd.read_csv(tmp_path / "joined" / "table.csv")
    assert list(found.columns) == ["table", *SUMMARY_COLUMNS]
    assert found["label"].tolist() == ["gfp", "mamp"]


def test_a_page_that_cannot_be_written_leaves_no_numbers_either(folder: Path) -> None:
    (folder / "trends.csv").unlink(missing_ok=True)
    (folder / "trends.md").unlink(missing_ok=True)
    (folder / "trends.md").mkdir()
    outcome = harness("trends", folder)
    assert outcome.err.count("\n") == 1
    assert not (folder / "trends.csv").exists()
    (folder / "trends.md").rmdir()


def test_what_is_missing_is_empty_and_texts_stay_cells() -> None:
    odd = 'a,"b"\nc\udcff'
    record = run_record("gfp", label=odd, accuracy=None)
    lines = as_csv(runs_frame([record, run_record(seed=1)]))
    found = pd.read_csv(io.BytesIO(lines))
    assert found["label"].tolist() == ['a,"b"\nc\\udcff', "gfp"]
    assert found["linear"].isna().tolist() == [True, False]
    assert found["finished"].tolist() == ["2026-01-02T03:04:05Z"] * 2
    assert found["control"].tolist() == [False, False]


def test_claim_cards_have_names_that_say_what_is_a_ratio() -> None:
    assert {
        "claimed",
        "measured",
        "measured_low",
        "measured_high",
        "verdict",
    } <= CARD_COLUMNS.keys()
