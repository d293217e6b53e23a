"""Which rows are better, in words: cells, marks, closing sentences, and the command."""

from __future__ import annotations

import json
from pathlib import Path

from harness.records.differences import Row, pairs
from harness.records.schema import RunRecord
from harness.records.store import RecordStore, read_records
from harness.report.apart import accuracy_cell, closing, marks, p_text
from harness.report.compare import comparisons
from harness.report.folder import folder_tables
from harness.report.table import build_table, notes
from tests.harness.made_up_records import run_record
from tests.harness.small_run import harness

ACCURACIES = {
    "gfp": (0.80, 0.815, 0.8275), "skeletonmae": (0.79, 0.81, 0.8325), "random-init": (0.5, 0.51, 0.5275),
    "raw-pca": (0.6,),
}  # fmt: skip


def records(**accuracies: tuple[float, ...]) -> list[RunRecord]:
    return [
        run_record(name.replace("_", "-"), linear, seed=seed, knn=linear)
        for name, values in (accuracies or ACCURACIES).items()
        for seed, linear in enumerate(values)
    ]


def rows(**values: tuple[float, ...]) -> list[Row]:
    return [Row(name, dict(enumerate(found)), control=name == "control") for name, found in values.items()]


# --- cells ---


def test_a_cell_has_the_interval_over_seeds_or_names_that_over_clips() -> None:
    assert accuracy_cell([0.6, 0.7, 0.8], 400) == "70.0 ± 10.0 [45.2, 94.8]"
    assert accuracy_cell([0.8], 10) == "80.0 [49.0, 94.3 clips]"
    assert accuracy_cell([0.8], 10, chosen=True) == "80.0"
    assert accuracy_cell([], 10) == "-"


def test_bounds_stay_within_what_an_accuracy_can_be() -> None:
    assert accuracy_cell([0.5, 0.9], 400) == "70.0 ± 28.3 [0.0, 100.0]"


def test_p_is_never_printed_as_zero() -> None:
    assert [p_text(p) for p in (0.03125, 0.25, 1e-9, None)] == ["0.031", "0.25", "<0.0001", "-"]


# --- sentences ---


def test_the_closing_sentence_says_who_is_above_whom() -> None:
    found = pairs(rows(good=(0.9, 0.91, 0.921), fair=(0.89, 0.92, 0.9), control=(0.5, 0.51, 0.5)))
    assert closing("linear", found) == [
        "linear, these people: good is above control; fair is above control; no other of 3 pairs is told apart "
        "(t test over 3 seeds, Holm over 3 pairs at 0.05; the smallest p that sign flips can give: 0.25 (> 0.05: it "
        "rests on normal differences))"
    ]


def test_with_six_seeds_nothing_rests_on_normal_differences_alone() -> None:
    one, other = (0.9, 0.91, 0.92, 0.9, 0.91, 0.9), (0.8, 0.82, 0.81, 0.8, 0.81, 0.82)
    (line,) = closing("linear", pairs(rows(good=one, bad=other)))
    assert line.startswith("linear, these people: good is above bad (t test over 6 seeds, ")
    assert line.endswith("sign flips can give: 0.031)")


def test_nobody_is_above_anybody_in_noise_or_with_one_seed() -> None:
    noise = closing("linear", pairs(rows(one=(0.5, 0.6, 0.7), other=(0.6, 0.5, 0.65))))
    assert noise[0].startswith("linear, these people: nobody is above anybody (t test")
    assert closing("linear", pairs(rows(one=(0.5,), other=(0.9,)))) == [
        "linear, these people: not testable (1 of 3 seeds); nobody is said to be above anybody"
    ]
    assert closing("linear", pairs(rows(one=(0.5,)))) == []


def test_rows_that_cannot_be_told_from_the_best_are_marked() -> None:
    table = rows(good=(0.9, 0.91, 0.921), fair=(0.89, 0.92, 0.9), bad=(0.5, 0.51, 0.5), control=(0.95, 0.96, 0.95))
    assert marks(table, pairs(table)) == {"good": " best", "fair": " ~best"}
    assert marks(rows(one=(0.5,), other=(0.9,)), pairs(rows(one=(0.5,), other=(0.9,)))) == {}


# --- the table of a run ---


def test_the_table_marks_its_rows_and_closes_with_a_sentence_for_each_probe() -> None:
    table = build_table(records(), None).set_index("method")
    assert table.loc["gfp", "linear"] == "81.4 ± 1.4 [78.0, 84.8] best"
    assert str(table.loc["skeletonmae", "kNN-1"]).endswith("] ~best")
    assert table.loc["raw-pca", "linear"] == "60.0 [55.1, 64.7 clips]"
    lines = notes(records(), None)
    assert sum("is above random-init" in line for line in lines) == 2
    assert any("best: the method with the highest mean" in line for line in lines)


def test_a_table_of_one_seed_says_that_nobody_is_above_anybody() -> None:
    lines = notes([run_record("gfp", 0.9), run_record("skeletonmae", 0.1)], None)
    assert "linear, these people: not testable (1 of 3 seeds); nobody is said to be above anybody" in lines
    assert any(line.startswith("[95 % clips]: one seed, the binomial interval") for line in lines)


# --- the command ---


def folder_of(path: Path, made: list[RunRecord]) -> Path:
    store = RecordStore(path)
    for record in made:
        store.write_run(record)
    return path


def test_compare_gives_every_pair_of_every_column(tmp_path: Path) -> None:
    found = comparisons(folder_tables(read_records(folder_of(tmp_path, records()))))
    assert [comparison.heading for comparison in found] == ["linear", "kNN-1"]
    assert len(found[0].pairs) == 6
    first = found[0].pairs.set_index(["above", "below"]).loc[("gfp", "random-init")]
    assert first["these people"] == "told apart"
    assert first["sign flips p (smallest)"] == "0.25 (0.25)"
    assert "linear, new people: not testable (no prediction for each test clip)" in found[0].lines


def test_the_command_leaves_a_page_and_plain_values(tmp_path: Path) -> None:
    folder_of(tmp_path, records())
    outcome = harness("compare", tmp_path)
    assert outcome.code == 0
    assert "gfp is above random-init" in " ".join(outcome.out.split())
    page = (tmp_path / "compare.md").read_text()
    assert page.count("## ") == 2
    assert "| gfp | random-init |" in page
    plain = json.loads(harness("compare", tmp_path, "--json").out)
    assert plain[0]["column"] == "linear"
    assert {pair["above"] for pair in plain[0]["these_people"] if pair["apart"]} == {"gfp", "skeletonmae", "raw-pca"}


def test_a_folder_without_two_rows_has_nothing_to_compare(tmp_path: Path) -> None:
    outcome = harness("compare", folder_of(tmp_path, [run_record("gfp")]))
    assert outcome.code == 2
    assert "expected two finished rows or more" in outcome.err
