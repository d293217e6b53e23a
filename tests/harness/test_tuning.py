"""The price of tuning: the published space, its draws, and what is made of their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli.run import leave_tuning
from harness.errors import UsageError
from harness.progress import Reporter, make_console
from harness.records.schema import Accuracy, RunRecord
from harness.records.store import RecordStore
from harness.registry import Registry
from harness.report.tuning import order, tuning_frame, tuning_table
from harness.spec.model import MethodSpec, TrainSpec, build
from harness.spec.tuning import Range, Space, draws, read_space
from harness.studies.tuning import Tuned, tuned_methods
from tests.harness.made_up_records import run_record
from tests.harness.small_run import SMALL, harness, small_file

SPACE = Space(
    version=1,
    train={"lr": Range(log=(1e-4, 1e-2)), "weight_decay": Range(linear=(0.0, 0.1))},
    methods={
        "gfp": {"tau": Range(linear=(0.0, 1.0)), "lambda_pred": Range(choice=(1, 5))},
        "amr": {"k": Range(log=(0.01, 1.0)), "mask_ratio": Range(linear=(0.5, 0.9))},
    },
)


# --- the space ---


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ({"log": (1e-4, 1e-2)}, 0.5, 1e-3),
        ({"linear": (0.7, 0.95)}, 0.5, 0.825),
        ({"choice": (1, 2, 3, 5)}, 0.5, 3),
        ({"choice": (1, 2, 3, 5)}, 1.0, 5),
        ({"log": (3e-4, 3e-3)}, 0.123456, 0.000399),  # three digits: what is printed is what is run
    ],
)
def test_a_uniform_number_becomes_a_value(
    values: dict[str, Any], share: float, expected: float
) -> None:
    assert Range(**values).at(share) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("values", [{}, {"log": (1, 2), "choice": (1, 2)}])
def test_a_range_is_of_one_kind(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected one of log, linear and choice"):
        build(Range, values, "a range")


def test_fewer_draws_are_the_first_of_more() -> None:
    few, many = draws(2, SPACE), draws(5, SPACE)
    assert [(draw.number, draw.train, draw.own("gfp")) for draw in few] == [
        (draw.number, draw.train, draw.own("gfp")) for draw in many[:2]
    ]
    assert len({draw.train["lr"] for draw in many}) == 5


def test_all_methods_get_the_same_draws() -> None:
    (draw,) = draws(1, SPACE)
    gfp, amr = draw.own("gfp"), draw.own("amr")
    assert gfp["tau"] == pytest.approx(draw.shares[0], rel=1e-2)
    assert amr["k"] == pytest.approx(0.01 * 100 ** draw.shares[0], rel=1e-2)


def test_the_published_space_fits_every_method_and_holds_published_values() -> None:
    space, methods = read_space(), Registry().methods
    assert space.methods.keys() == {
        name for name, method in methods.items() if not method.about.control
    }
    published = TrainSpec().model_dump()
    assert {
        name: one.at(0) <= published[name] <= one.at(1) for name, one in space.train.items()
    } == dict.fromkeys(space.train, True)
    for draw in draws(20, space):
        build(TrainSpec, dict(draw.train), "draw")
        for name in space.methods:
            own = draw.own(name)
            assert len(own) == 2
            methods[name].Options.model_validate(own)


def test_draws_go_into_the_settings_of_a_run() -> None:
    (draw,) = draws(1, SPACE)
    settings = {"methods": "gfp:tau2=1,amr", "train": TrainSpec(budget="7steps"), "data": "kept"}
    asked = [MethodSpec(name="gfp", options={"cov_weight": "5"}), MethodSpec(name="amr")]
    found = draw.applied(settings, asked)
    assert (found["train"].budget, found["train"].lr, found["data"]) == (
        "7steps",
        draw.train["lr"],
        "kept",
    )
    assert found["methods"].startswith("gfp:cov_weight=5,tau=")
    with pytest.raises(UsageError, match="--tuning draws tau of gfp: leave it out of --methods"):
        draw.applied(settings, [MethodSpec(name="gfp", options={"tau": "1"})])
    with pytest.raises(
        UsageError, match=r"expected two options of sjepa in tuning\.yaml, found none"
    ):
        draw.own("sjepa")


# --- what is made of the runs ---


def accuracy(test: float, selection: float | None) -> Accuracy:
    return Accuracy(
        linear_validation=None,
        linear_test=test,
        knn_validation=None,
        knn_test=0.5,
        regularisation=1.0,
        selection=selection,
        test_clips=400,
    )


def record(
    name: str,
    seed: int,
    test: float | None,
    selection: float = 0.5,
    draw: int = 0,
    wall: float = 10.0,
) -> Any:
    """A run under published settings, or under a draw; one without an accuracy failed."""
    options: dict[str, Any] = {
        "gfp": {"tau": 0.8, "lambda_pred": 5},
        "amr": {"k": 0.01, "mask_ratio": 0.9},
    }[name]
    found: RunRecord = run_record(name, seed=seed)
    spec = found.spec
    if draw:
        drawn = draws(draw, SPACE)[-1]
        spec, options = spec.with_train(**drawn.train), drawn.own(name)
    spec = spec.model_copy(update={"method": MethodSpec(name=name, options=options)})
    return found.model_copy(
        update={
            "spec": spec,
            "address": spec.address,
            "wall_seconds": wall,
            "status": "failed" if test is None else "ok",
            "accuracy": None if test is None else accuracy(test, selection),
        }
    )


def of_gfp() -> list[RunRecord]:
    """Two seeds, three draws: held-out subjects choose the second draw of seed 0
    and the third of seed 1.
    """
    return [
        record("gfp", 0, 0.60),
        record("gfp", 1, 0.62),
        record("gfp", 0, 0.50, 0.3, draw=1),
        record("gfp", 0, 0.64, 0.7, draw=2),
        record("gfp", 0, 0.70, 0.6, draw=3),
        record("gfp", 1, 0.58, 0.4, draw=1),
        record("gfp", 1, None, draw=2),
        record("gfp", 1, 0.66, 0.6, draw=3),
    ]


def tuned(records: list[RunRecord]) -> list[Tuned]:
    (methods,) = tuned_methods(records, SPACE)
    return methods


def test_the_best_draw_is_chosen_on_held_out_subjects_and_never_on_test_clips() -> None:
    (gfp,) = tuned(of_gfp())
    assert gfp.count == 3
    assert gfp.as_published.by_seed == {0: 0.60, 1: 0.62}
    assert gfp.best_of(1).by_seed == {0: 0.50, 1: 0.58}
    assert gfp.best_of(3).by_seed == {0: 0.64, 1: 0.66}  # 0.70 was the best test figure of seed 0
    assert gfp.spread == pytest.approx((0.54, 0.68))  # draws that ended well under every seed


def test_seconds_count_every_draw_that_was_tried() -> None:
    (gfp,) = tuned(of_gfp())
    assert (gfp.seconds(tuned=False), gfp.seconds(tuned=True)) == (20.0, 60.0)


def test_only_draws_that_every_seed_has_count() -> None:
    (gfp,) = tuned(of_gfp()[:-1])
    assert gfp.count == 2
    assert tuned_methods(of_gfp()[:2], SPACE) == []
    assert tuned_methods(of_gfp()[2:], SPACE) == []


def test_whether_the_order_moves_is_said() -> None:
    amr = [
        record("amr", 0, 0.61),
        record("amr", 1, 0.63),
        *(record("amr", seed, 0.55, 0.5, draw=number) for seed in (0, 1) for number in (1, 2, 3)),
    ]
    lines = order(tuned([*of_gfp(), *amr]))
    assert lines[0].endswith(
        "order of the means amr > gfp as published, gfp > amr by the best of 3"
    )
    same = [
        *of_gfp(),
        *(one for one in amr[:2]),
        *(record("amr", s, 0.68, 0.5, draw=n) for s in (0, 1) for n in (1, 2, 3)),
    ]
    assert "as published, the same by the best of 3" in order(tuned(same))[0]


def test_the_table_shows_published_settings_and_the_best_of_k() -> None:
    found = tuned_methods(of_gfp(), SPACE)
    (row,) = tuning_frame(found).to_dict("records")
    assert (row["published"], row["first"], row["best"]) == pytest.approx((0.61, 0.54, 0.65))
    assert row["gain"] == pytest.approx(4.0)
    assert (row["chosen"], row["tuning_seconds"]) == ("2/3", 60.0)
    assert list(tuning_table(found)["k"]) == ["3"]


# --- the command ---


@pytest.mark.long
def test_runs_under_draws_are_runs_like_others(tmp_path: Path) -> None:
    out, data = tmp_path / "out", small_file(tmp_path)
    arguments = (
        "run",
        "--methods",
        "gfp,amr",
        "--dataset",
        data,
        *SMALL,
        "--tuning",
        "2",
        "--out",
        out,
    )
    outcome = harness(*arguments)
    assert outcome.code == 0, outcome.err
    trained = [record for record in RecordStore(out).runs() if record.training]
    assert len(trained) == 2 * (1 + 2)
    (methods,) = tuned_methods(trained)
    assert [(one.label, one.count) for one in methods] == [("amr", 2), ("gfp", 2)] or [
        (one.label, one.count) for one in methods
    ] == [("gfp", 2), ("amr", 2)]
    page = (out / "tuning.md").read_text()
    assert "| gfp | 1 |" in page
    assert "- draw 2: lr " in page
    assert "order of the means " in page
    again = harness("tuning", out)
    assert again.code == 0
    assert harness("verify", out).code == 0


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    data = small_file(tmp_path)
    for words, message in (
        (
            ("--methods", "encoder-only", "--tuning", "1"),
            "expected two options of encoder-only in tuning.yaml",
        ),
        (
            ("--methods", "gfp", "--tuning", "1", "--set", "data.validation=0"),
            "expected held-out subjects",
        ),
    ):
        outcome = harness("run", *words, "--dataset", data, *SMALL, "--out", tmp_path / "out")
        assert (outcome.code, outcome.err.count("\n")) == (2, 1)
        assert message in outcome.err
    (tmp_path / "empty").mkdir()
    assert harness("tuning", tmp_path / "empty").code == 2


def test_a_worker_that_ends_before_the_first_draw_leaves_no_table(tmp_path: Path) -> None:
    RecordStore(tmp_path).write_run(record("gfp", 0, 0.60))
    leave_tuning(tmp_path, Reporter(make_console()), begun=True)
    assert not (tmp_path / "tuning.md").exists()
