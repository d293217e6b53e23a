"""Published trends: paired differences by hand, what counts as shown,
and which runs are compared.
"""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.registry import Registry
from harness.report.trends import PUBLISHED, Trend, paired_difference, trend_frame, trend_table
from harness.runs.experiment import make_entry
from harness.spec.model import parse_methods
from methods.parts.encoder import SIZES
from tests.harness.made_up_records import run_record
from tests.harness.small_run import harness
from tests.methods.made_up import meta_encoder

HIGHER = Trend("gfp above mamp", "gfp", "mamp")


def records(budget: str = "60s", **accuracies: tuple[float, ...]) -> list[RunRecord]:
    """Runs of each method with seeds 0, 1, ... under a budget."""
    made = []
    for name, values in accuracies.items():
        for seed, linear in enumerate(values):
            record = run_record(name, linear, seed=seed)
            train = record.spec.train.model_copy(update={"budget": budget})
            made.append(
                record.model_copy(update={"spec": record.spec.model_copy(update={"train": train})})
            )
    return made


def test_paired_difference_by_hand() -> None:
    found = paired_difference([5.0, 7.0, 9.0], [4.0, 5.0, 6.0])
    assert found.mean == 2.0
    assert found.half == pytest.approx(
        4.302653 * 1.0 / math.sqrt(3), rel=1e-6
    )  # t of two degrees of freedom
    assert found.seeds == 3


@pytest.mark.parametrize(
    ("above", "below", "shows"),
    [
        ((0.90, 0.91, 0.92), (0.80, 0.81, 0.82), "yes"),
        ((0.80, 0.81, 0.82), (0.90, 0.91, 0.92), "reversed"),
        ((0.80, 0.90, 0.70), (0.70, 0.85, 0.80), "not resolved"),
        ((0.90,), (0.10,), "not resolved"),
    ],
)
def test_a_trend_shows_when_its_interval_leaves_zero_out(
    above: tuple[float, ...], below: tuple[float, ...], shows: str
) -> None:
    table = trend_table(trend_frame(records(gfp=above, mamp=below), [HIGHER]), wide=True)
    assert table["shows"].tolist() == [shows]


def test_points_and_interval_as_printed() -> None:
    table = trend_table(
        trend_frame(records(gfp=(0.55, 0.57, 0.59), mamp=(0.54, 0.55, 0.56)), [HIGHER]), wide=True
    )
    assert table.iloc[0].tolist() == [
        "synthetic xsub",
        "tiny",
        "60s",
        "gfp above mamp",
        "gfp",
        "mamp",
        "+2.0 ± 2.5",
        "3",
        "not resolved",
    ]


def test_only_seeds_that_both_have_are_compared() -> None:
    table = trend_table(
        trend_frame(records(gfp=(0.5, 0.6, 0.9), mamp=(0.4, 0.5)), [HIGHER]), wide=True
    )
    assert table["points [95 %]"].tolist() == ["+10.0 ± 0.0"]


def test_budgets_are_never_mixed() -> None:
    both = [
        *records("60s", gfp=(0.5, 0.6), mamp=(0.4, 0.4)),
        *records("9clips", gfp=(0.3, 0.3), mamp=(0.4, 0.5)),
    ]
    table = trend_table(trend_frame(both, [HIGHER]), wide=True)
    assert table[["budget", "points [95 %]"]].to_numpy().tolist() == [
        ["60s", "+15.0 ± 63.5"],
        ["9clips", "-15.0 ± 63.5"],
    ]


def test_runs_on_other_data_are_never_mixed_in() -> None:
    made = records(gfp=(0.5, 0.6), mamp=(0.4, 0.4))
    elsewhere = made[0].spec.data.model_copy(update={"name": "other.npz"})
    moved = [
        record.model_copy(update={"spec": record.spec.model_copy(update={"data": elsewhere})})
        for record in records(gfp=(0.1, 0.1))
    ]
    assert trend_table(trend_frame([*moved, *made], [HIGHER]), wide=True)[
        "points [95 %]"
    ].tolist() == ["+15.0 ± 63.5"]


def test_failed_runs_and_trends_without_runs_are_left_out() -> None:
    made = records(gfp=(0.5,), mamp=(0.4,))
    failed = [made[0].model_copy(update={"status": "failed", "accuracy": None}), made[1]]
    assert trend_table(trend_frame(failed, [HIGHER]), wide=True).empty


def test_every_published_trend_names_rows_that_can_be_run() -> None:
    for label in {label for trend in PUBLISHED for label in (trend.above, trend.below)}:
        (spec,) = parse_methods(label)
        assert (
            make_entry(Registry().method(spec.name), spec, meta_encoder(SIZES["tiny"])).label
            == label
        )


def test_the_command_prints_the_table_and_leaves_it_beside_the_records(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "out")
    for record in records(gfp=(0.5, 0.6), mamp=(0.4, 0.4)):
        store.write_run(record)
    outcome = harness("trends", tmp_path / "out")
    assert outcome.code == 0
    assert "learned features rather than motion (GFP)" in outcome.out
    assert "+15.0 ± 63.5" in (tmp_path / "out" / "trends.md").read_text()


def test_a_terminal_that_lacks_a_sign_shows_a_question_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RecordStore(tmp_path / "out")
    for record in records(gfp=(0.5, 0.6), mamp=(0.4, 0.4)):
        store.write_run(record)
    shown = io.BytesIO()
    monkeypatch.setattr(
        sys, "stdout", io.TextIOWrapper(shown, encoding="ascii", write_through=True)
    )
    monkeypatch.setattr(sys, "argv", ["harness", "trends", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert b"+15.0 ? 63.5" in shown.getvalue()


def test_a_folder_without_comparable_runs_is_one_clear_line(tmp_path: Path) -> None:
    outcome = harness("trends", tmp_path)
    assert outcome.code == 2
    assert "no two finished runs" in outcome.err
