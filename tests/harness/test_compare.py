"""Which rows are better, in words: cells, marks, closing sentences, and the command."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from benchmarks.nulls import all_columns, spread_of
from harness.records.differences import Row, pairs
from harness.records.evaluations import EpochPoint, EvaluationRecord, Evaluations, TestClips
from harness.records.schema import RunRecord
from harness.records.store import RecordStore, read_records
from harness.report.apart import closing, marks
from harness.report.cells import accuracy_text, p_text
from harness.report.compare import Comparison, comparisons
from harness.report.evaluations import cells_frame, evaluation_notes, evaluation_table
from harness.report.folder import folder_tables
from harness.report.frame import accuracy_figures
from harness.report.table import build_table, notes
from tests.harness.made_up_records import run_record
from tests.harness.small_run import SMALL, harness, small_file

ACCURACIES = {
    "gfp": (0.80, 0.815, 0.8275),
    "skeletonmae": (0.79, 0.81, 0.8325),
    "random-init": (0.5, 0.51, 0.5275),
    "raw-pca": (0.6,),
}


def records(**accuracies: tuple[float, ...]) -> list[RunRecord]:
    return [
        run_record(name.replace("_", "-"), linear, seed=seed, knn=linear)
        for name, values in (accuracies or ACCURACIES).items()
        for seed, linear in enumerate(values)
    ]


def rows(**values: tuple[float, ...]) -> list[Row]:
    return [
        Row(name, dict(enumerate(found)), control=name == "control")
        for name, found in values.items()
    ]


# --- cells ---


def cell(values: list[float], clips: int, *, chosen: bool = False) -> str:
    """An accuracy as tables have it."""
    return accuracy_text(accuracy_figures("accuracy", values, clips, chosen=chosen), "accuracy")


def test_a_cell_has_the_interval_over_seeds_or_names_that_over_clips() -> None:
    assert cell([0.6, 0.7, 0.8], 400) == "70.0 ± 10.0 [45.2, 94.8]"
    assert cell([0.8], 10) == "80.0 [49.0, 94.3 clips]"
    assert cell([0.8], 10, chosen=True) == "80.0"
    assert cell([], 10) == "-"


def test_bounds_stay_within_what_an_accuracy_can_be() -> None:
    assert cell([0.5, 0.9], 400) == "70.0 ± 28.3 [0.0, 100.0]"


def test_p_is_never_printed_as_zero() -> None:
    assert [p_text(p) for p in (0.03125, 0.25, 1e-9, None)] == ["0.031", "0.25", "<0.0001", "-"]


# --- sentences ---


def test_the_closing_sentence_says_who_is_above_whom() -> None:
    found = pairs(rows(good=(0.9, 0.91, 0.921), fair=(0.89, 0.92, 0.9), control=(0.5, 0.51, 0.5)))
    assert closing("linear", found) == [
        "linear, these people: good is above control; fair is above control; no other of 3 pairs is"
        " told apart (t test over 3 seeds, Holm over 3 pairs at 0.05; the smallest p that sign"
        " flips can give: 0.25 (> 0.05: it rests on normal differences))"
    ]


def test_with_six_seeds_nothing_rests_on_normal_differences_alone() -> None:
    one, other = (0.9, 0.91, 0.92, 0.9, 0.91, 0.9), (0.8, 0.82, 0.81, 0.8, 0.81, 0.82)
    (line,) = closing("linear", pairs(rows(good=one, bad=other)))
    assert line.startswith("linear, these people: good is above bad (t test over 6 seeds, ")
    assert line.endswith("sign flips can give: 0.031)")


def test_of_sign_flips_that_nobody_made_nothing_is_said() -> None:
    one = tuple(0.9 + 0.001 * (seed % 5) for seed in range(17))  # more than are gone through
    (line,) = closing(
        "linear", pairs(rows(good=one, bad=tuple(value - 0.1 * value for value in one)))
    )
    assert (
        line
        == "linear, these people: good is above bad (t test over 17 seeds, Holm over 1 pairs at"
        " 0.05)"
    )


def test_nobody_is_above_anybody_in_noise_or_with_one_seed() -> None:
    noise = closing("linear", pairs(rows(one=(0.5, 0.6, 0.7), other=(0.6, 0.5, 0.65))))
    assert noise[0].startswith("linear, these people: nobody is above anybody (t test")
    assert closing("linear", pairs(rows(one=(0.5,), other=(0.9,)))) == [
        "linear, these people: not testable (1 of 3 seeds); nobody is said to be above anybody"
    ]
    assert closing("linear", pairs(rows(one=(0.5,)))) == []


def test_rows_that_cannot_be_told_from_the_best_are_marked() -> None:
    table = rows(
        good=(0.9, 0.91, 0.921),
        fair=(0.89, 0.92, 0.9),
        bad=(0.5, 0.51, 0.5),
        control=(0.95, 0.96, 0.95),
    )
    assert marks(table, pairs(table)) == {"good": " best", "fair": " ~best"}
    assert marks(rows(one=(0.5,), other=(0.9,)), pairs(rows(one=(0.5,), other=(0.9,)))) == {}


# --- the table of a run ---


def test_the_table_marks_its_rows_and_closes_with_a_sentence_for_each_probe() -> None:
    table = build_table(records(), None, wide=True).set_index("method")
    assert table.loc["gfp", "linear"] == "81.4 ± 1.4 [78.0, 84.8] best"
    assert str(table.loc["skeletonmae", "kNN-1"]).endswith("] ~best")
    assert table.loc["raw-pca", "linear"] == "60.0 [55.1, 64.7 clips]"
    lines = notes(records(), None)
    assert sum("is above random-init" in line for line in lines) == 2
    assert any("best: the method with the highest mean" in line for line in lines)


def test_a_table_of_one_seed_says_that_nobody_is_above_anybody() -> None:
    lines = notes([run_record("gfp", 0.9), run_record("skeletonmae", 0.1)], None)
    assert (
        "linear, these people: not testable (1 of 3 seeds); nobody is said to be above anybody"
        in lines
    )
    assert any(line.startswith("[95 % clips]: one seed, the binomial interval") for line in lines)


# --- the command ---


def compared(folder: Path) -> list[Comparison]:
    return comparisons(folder_tables(read_records(folder)), Evaluations(folder))


def folder_of(path: Path, made: list[RunRecord]) -> Path:
    store = RecordStore(path)
    for record in made:
        store.write_run(record)
    return path


def test_compare_gives_every_pair_of_every_column(tmp_path: Path) -> None:
    found = compared(folder_of(tmp_path, records()))
    assert [comparison.heading for comparison in found] == ["linear", "kNN-1"]
    assert len(found[0].pairs) == 6
    first = found[0].pair_table(wide=True).set_index(["above", "below"]).loc[("gfp", "random-init")]
    assert first["these people"] == "told apart"
    assert first["sign flips p (smallest)"] == "0.25 (0.25)"
    assert (
        "linear, new people: not testable (no prediction for each test clip; `evaluate` keeps them)"
        in found[0].lines
    )


def test_the_command_leaves_a_page_and_plain_values(tmp_path: Path) -> None:
    folder_of(tmp_path, records())
    outcome = harness("compare", tmp_path)
    assert outcome.code == 0
    assert "gfp is above random-init" in " ".join(outcome.out.split())
    page = (tmp_path / "compare.md").read_text()
    assert "| above | below | these people: points | told apart |" in page
    assert harness("compare", tmp_path, "--wide").code == 0
    assert "these people: Holm" in (tmp_path / "compare.md").read_text()
    assert page.count("## ") == 2
    assert "| gfp | random-init |" in page
    plain = json.loads(harness("compare", tmp_path, "--json").out)
    assert plain[0]["column"] == "linear"
    assert {pair["above"] for pair in plain[0]["these_people"] if pair["apart"]} == {
        "gfp",
        "skeletonmae",
        "raw-pca",
    }


def test_a_folder_without_two_rows_has_nothing_to_compare(tmp_path: Path) -> None:
    outcome = harness("compare", folder_of(tmp_path, [run_record("gfp")]))
    assert outcome.code == 2
    assert "expected two finished rows or more" in outcome.err


# --- protocols ---

PEOPLE = TestClips(
    fingerprint="f" * 16,
    labels=[0] * 240,
    subjects=[clip % 8 for clip in range(240)],
    class_names=["a"],
)


def evaluation(
    run: RunRecord, right: int, *, spec: str = "linear", **changes: Any
) -> EvaluationRecord:
    """An evaluation with the first ``right`` of 240 test clips classified rightly."""
    options = {"draw": int(spec[-1])} if "draw=" in spec else {}
    values: dict[str, Any] = {
        "address": f"{spec.replace(':', '-')}-{right}",
        "run": run.address,
        "label": run.label,
        "seed": run.spec.seed,
        "protocol": spec.partition(":")[0],
        "spec": spec,
        "options": options,
        "encoder": "last",
        "data": "f" * 16,
        "status": "ok",
        "accuracy": right / 240,
        "predictions": [0] * right + [1] * (240 - right),
        "environment": run.environment,
        "started": run.started,
        "finished": run.finished,
    }
    return EvaluationRecord(**values | changes)


def evaluated(path: Path, *, people: TestClips | None = PEOPLE) -> Path:
    """Three seeds of two methods and of the untrained encoder, by one protocol."""
    made = [run for run in records() if run.label != "raw-pca"]
    done = Evaluations(folder_of(path, made))
    for run in made:
        right = {"gfp": 200, "skeletonmae": 198, "random-init": 120}[run.label] + 4 * run.spec.seed
        control = run.label if run.label == "random-init" else ""
        done.write(
            evaluation(run, right, control=control, encoder="untrained" if control else "last")
        )
    if people:
        done.write_test_clips(people)
    return path


def protocol(folder: Path, name: str = "protocol linear") -> Comparison:
    (found,) = (one for one in compared(folder) if one.heading == name)
    return found


def test_a_protocol_is_a_column_and_its_predictions_answer_for_new_people(tmp_path: Path) -> None:
    found = protocol(evaluated(tmp_path))
    pair = found.pair_table(wide=True).set_index(["above", "below"]).loc[("gfp", "random-init")]
    assert pair["these people: points [95 %]"] == "+33.3 [+33.3, +33.3]"
    assert pair["new people"] == "told apart"
    assert any(
        "new people: gfp is above random-init" in line and "3 seeds x 8 people" in line
        for line in found.lines
    )
    assert found.row_table().set_index("row").loc["gfp", "new people [95 %]"].startswith("85.0 [")


def test_where_a_runs_own_probe_stands_beside_a_protocol_a_line_says_of_which_encoder(
    tmp_path: Path,
) -> None:
    said = (
        "two accuracies of a row may differ: linear, kNN-1 are of the run's own evaluation that"
        " counts, which held-out subjects select where there are any; protocol linear of the last"
        " encoder"
    )
    folder = evaluated(tmp_path)
    outcome = harness("compare", folder)
    assert outcome.code == 0
    assert " ".join(outcome.out.split()).endswith(said)
    assert (folder / "compare.md").read_text().endswith(f"\n- {said}")
    store = RecordStore(tmp_path / "without")
    for run in records():
        store.write_run(run)
    assert "two accuracies" not in harness("compare", store.root).out


def test_without_the_people_of_the_test_clips_nobody_answers_for_new_ones(tmp_path: Path) -> None:
    unknown = PEOPLE.model_copy(update={"subjects": [-1] * 240})
    for number, people in enumerate((None, unknown)):
        lines = protocol(evaluated(tmp_path / str(number), people=people)).lines
        assert any("new people: not testable" in line for line in lines)


def test_draws_of_a_seed_count_as_their_mean(tmp_path: Path) -> None:
    folder, done = evaluated(tmp_path), Evaluations(tmp_path)
    runs = [run for run in records() if run.label in ("gfp", "skeletonmae")]
    for run in runs:
        for draw, right in enumerate((120, 180)):
            done.write(evaluation(run, right, spec=f"semi:draw={draw}"))
    row, _ = protocol(folder, "protocol semi").column.rows
    assert row.by_seed == {0: 0.625, 1: 0.625, 2: 0.625}
    assert row.right is not None
    assert row.right[0][[0, 150, 239]].tolist() == [1.0, 0.5, 0.0]


def test_rows_are_compared_on_the_draws_that_both_have(tmp_path: Path) -> None:
    folder, done = evaluated(tmp_path), Evaluations(tmp_path)
    for run in (run for run in records() if run.label in ("gfp", "skeletonmae")):
        done.write(evaluation(run, 120, spec="semi:draw=0"))
        if run.label == "gfp":  # the other one was stopped before it
            done.write(evaluation(run, 180, spec="semi:draw=1"))
    found = protocol(folder, "protocol semi")
    assert [row.by_seed for row in found.column.rows] == [{0: 0.5, 1: 0.5, 2: 0.5}] * 2
    assert any(
        line.startswith("protocol semi, not counted: gfp, seed 0: draw 1, which not every row")
        for line in found.lines
    )
    lines = evaluation_notes(Evaluations(folder).of(records()))
    assert any(line.startswith("semi, these people: nobody is above anybody") for line in lines)


def test_a_folder_with_many_tables_is_read_once(tmp_path: Path) -> None:
    done = Evaluations(evaluated(tmp_path))
    one, other = done.of(records()), done.of(records())
    assert one
    assert all(first is second for first, second in zip(one, other, strict=True))


def test_of_one_spec_with_two_meanings_the_newest_counts(tmp_path: Path) -> None:
    folder, done = evaluated(tmp_path), Evaluations(tmp_path)
    for run in (run for run in records() if run.label == "gfp"):
        later = {
            "address": "later",
            "options": {"looks": 100},
            "finished": run.finished + timedelta(hours=1),
        }
        done.write(evaluation(run, 120, **later))
    assert protocol(folder).column.rows[0].by_seed == {0: 0.5, 1: 0.5, 2: 0.5}


def test_seeds_that_failed_are_named(tmp_path: Path) -> None:
    lost = run_record("gfp", seed=3).model_copy(
        update={"status": "diverged", "accuracy": None, "curve": []}
    )
    found = compared(folder_of(tmp_path, [*records(), lost]))
    assert "linear, not counted: gfp, seed 3: its run is diverged" in found[0].lines
    folder, done = evaluated(tmp_path / "evaluated"), Evaluations(tmp_path / "evaluated")
    (run,) = (run for run in records() if run.label == "gfp" and run.spec.seed == 2)
    failed = {"address": "linear-208", "status": "failed", "accuracy": None, "predictions": []}
    done.write(evaluation(run, 0, **failed))  # in the place of the one that went well
    lines = protocol(folder).lines
    assert "protocol linear, not counted: gfp, seed 2: failed" in lines


def test_the_selected_encoder_is_a_column_of_its_own_with_the_same_controls(tmp_path: Path) -> None:
    folder, done = evaluated(tmp_path), Evaluations(tmp_path)
    for run in records(gfp=(0.8, 0.8, 0.8)):
        done.write(evaluation(run, 190, encoder="selected", address="selected"))
    found = protocol(folder, "protocol linear (selected)")
    assert [row.label for row in found.column.rows] == ["gfp", "random-init"]


def test_the_table_of_evaluations_has_intervals_marks_and_sentences(tmp_path: Path) -> None:
    store = RecordStore(evaluated(tmp_path))
    done = Evaluations(tmp_path).of(list(store.runs()))
    table = evaluation_table(cells_frame(done), wide=True).set_index("method")
    assert table.loc["gfp", "linear"] == "85.0 ± 1.7 [80.9, 89.1] best"  # 200, 204, 208 of 240
    assert (
        evaluation_table(cells_frame(done)).set_index("method").loc["gfp", "linear"]
        == "85.0 [80.9, 89.1] best"
    )
    numbers = cells_frame(done).set_index("row").loc["gfp"]
    assert numbers[["accuracy", "accuracy_sd"]].tolist() == pytest.approx([0.85, 4 / 240])
    assert (numbers["seeds"], numbers["accuracy_mark"], numbers["test_clips"]) == (3, "best", 240)
    lines = evaluation_notes(done)
    assert any(line.startswith("linear, these people: ") for line in lines)
    assert not any("looks" in line for line in lines)
    seen = [EpochPoint(epoch=epoch, accuracy=0.5) for epoch in (3, 6)]
    trained = [one.model_copy(update={"curve": seen}) for one in done]
    assert any(
        line.startswith("best epoch: best test figure of 2 looks")
        for line in evaluation_notes(trained)
    )
    twice = [*done, *(one.model_copy(update={"address": "again"}) for one in done)]
    assert (
        "runs of several settings: `compare` says who is above whom under each"
        in evaluation_notes(twice)
    )


def test_a_row_is_below_its_control_on_the_seeds_that_both_have(tmp_path: Path) -> None:
    """The control's seeds differ widely: of the only seed that a row has, it is above it."""
    made = {(run.label, run.spec.seed): run for run in records()}
    done = [
        evaluation(made["random-init", seed], right, control="random-init", encoder="untrained")
        for seed, right in enumerate((100, 160, 190))
    ]
    above, under = evaluation(made["gfp", 0], 120), evaluation(made["skeletonmae", 1], 148)
    (line,) = (line for line in evaluation_notes([*done, above, under]) if "below" in line)
    assert (
        line == "warning: linear: below its control: skeletonmae (-5.0); a budget that leaves a row"
        " there ranks nothing"
    )


# --- both folds of a split ---


def side(run: RunRecord, split: str, fingerprint: str) -> RunRecord:
    """The run, on one side of a split."""
    data = run.spec.data.model_copy(update={"split": split, "fingerprint": fingerprint})
    spec = run.spec.model_copy(update={"data": data})
    named = run.data.model_copy(update={"fingerprint": fingerprint})
    return run.model_copy(update={"spec": spec, "address": spec.address, "data": named})


def test_the_people_of_both_folds_count_together(tmp_path: Path) -> None:
    store, done = RecordStore(tmp_path), Evaluations(tmp_path)
    for number, (split, clips) in enumerate((("xsub", 240), ("xsub swapped", 120))):
        fingerprint = f"{'f' * 16}-{number}"
        people = [
            4 * number + clip % 4 for clip in range(clips)
        ]  # four people: too few by themselves
        done.write_test_clips(
            TestClips(
                fingerprint=fingerprint, labels=[0] * clips, subjects=people, class_names=["a"]
            )
        )
        for run in records(gfp=(0.8, 0.8, 0.8), skeletonmae=(0.5, 0.5, 0.5)):
            own = side(run, split, fingerprint)
            store.write_run(own)
            right = clips // (2 if run.label == "gfp" else 4) + 4 * run.spec.seed
            predictions = [0] * right + [1] * (clips - right)
            done.write(
                evaluation(
                    own, right, data=fingerprint, predictions=predictions, accuracy=right / clips
                )
            )
    found = {one.heading: one for one in compared(tmp_path)}
    alone = next(
        one
        for heading, one in found.items()
        if heading.endswith("data.split xsub") and "protocol" in heading
    )
    assert any("new people: not testable (4 of 6 test subjects)" in line for line in alone.lines)
    (both,) = (
        one
        for heading, one in found.items()
        if heading.startswith("protocol linear, both folds of: ")
    )
    assert (both.column.clips, len(both.column.rows)) == (360, 2)
    assert both.column.rows[0].by_seed[0] == pytest.approx(180 / 360)
    assert any(
        "new people: gfp is above skeletonmae" in line and "3 seeds x 8 people" in line
        for line in both.lines
    )


def test_two_folds_run_the_swapped_split_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = (
        "--dataset",
        small_file(tmp_path),
        "--methods",
        "skeletonmae",
        "--out",
        out,
        "--folds",
        "2",
    )
    outcome = harness("run", *SMALL, *flags)
    assert outcome.code == 0, outcome.err
    runs = [run for run in read_records(out).runs if run.label == "skeletonmae"]
    assert sorted(run.spec.data.split for run in runs) == ["xsub", "xsub swapped"]
    assert any(one.heading.startswith("linear, both folds of: ") for one in compared(out))


# --- what is tried where nothing is to find ---


def test_nulls_find_the_predictions_that_evaluations_keep(tmp_path: Path) -> None:
    folder, done = evaluated(tmp_path), Evaluations(tmp_path)
    for run in (
        run for run in records() if run.label == "skeletonmae"
    ):  # others than those that gfp has right
        wrong = {"predictions": [1] * 60 + [0] * 180, "accuracy": 0.75, "address": "linear-180"}
        done.write(evaluation(run, 180, finished=run.finished + timedelta(hours=1), **wrong))
    spread, clips, of = spread_of(all_columns(folder))
    assert clips == 30
    assert of == "gfp and skeletonmae, protocol linear, seeds 0, 1, 2"
    assert 0 < spread.clip < 1
