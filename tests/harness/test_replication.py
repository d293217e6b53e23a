"""Several fresh processes as one measurement: intervals over processes by hand, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from harness.records.ratios import block_ratio, replicated, signed_ranks
from harness.records.replication import joined
from harness.records.schema import Health, SpeedRecord
from harness.records.store import UNFINISHED_SPEED_FILE, parsed_record
from harness.report.health import rounds_text, second_opinions
from harness.runs import processes
from harness.studies.verify import speed as verified
from tests.harness.made_up_records import arm, ratio, speed_record
from tests.harness.small_run import SMALL, harness, small_file

SPREAD = 5.594985
"""exp(4.302653 ln 2 / sqrt(3)): half the interval, as a factor, of three ratios x,
2x and 4x (t of two degrees).
"""


def test_a_ratio_of_three_processes_is_an_interval_over_their_means() -> None:
    # Means 2, 4 and 8, however many rounds each had and whatever they say.
    found = replicated([ratio(1.9, 2.0, 2.1), ratio(1.0, 4.0, 16.0), ratio(7.0, 8.0, 9.0)])
    assert (found.value, found.low, found.high) == pytest.approx(
        (4.0, 4.0 / SPREAD, 4.0 * SPREAD), rel=1e-5
    )
    assert found.pairs == 3
    one = ratio(1.9, 2.0, 2.1)
    assert replicated([one]) == one


def test_rounds_of_one_process_count_as_one() -> None:
    numerator, denominator = [1.0, 4.0, 4.0, 4.0, 8.0, 8.0, 8.0], [1.0] * 7
    found = block_ratio(numerator, denominator, (2, 2, 3))  # geometric means 2, 4, 8
    assert (found.value, found.low, found.high) == pytest.approx(
        (4.0, 4.0 / SPREAD, 4.0 * SPREAD), rel=1e-5
    )
    assert block_ratio(numerator, denominator).pairs == 7


@pytest.mark.parametrize(
    ("ratios", "p"),
    [
        ([1.1, 1.2, 1.3, 1.4, 1.5], 2 / 2**5),  # all above 1: two of 32 sign patterns
        (
            [1.1, 1.2, 1.3, 1.4, 1 / 1.5],
            20 / 32,
        ),  # below 1 the rank 5; ten sets of ranks sum to 5 or less, both ways
        ([1.0, 1.0, 1.0, 1.0, 1.0], 1.0),
    ],
)
def test_signed_ranks_by_hand(ratios: list[float], p: float) -> None:
    assert signed_ranks(ratios, [1.0] * 5) == pytest.approx(p)


def process(*seconds: float, same: float) -> SpeedRecord:
    """A measurement of two rounds: the baseline at 0.4 s, gfp at these."""
    sides = {"skeletonmae": [0.4, 0.4], "gfp": list(seconds)}
    arms = [
        arm(
            label,
            block_ratio([0.4, 0.4], blocks),
            blocks=blocks,
            clips=10.0,
            batch_size=11,
            step_seconds=blocks[0],
            bound_flops=None,
            clips_per_second=10.0 / blocks[0],
        )
        for label, blocks in sides.items()
    ]
    health = Health(blocks=6, disturbed=1, foreign_share=0.1, reasons=("others took 12 %",))
    return speed_record(*arms).model_copy(update={"same": ratio(0.9, same, 1.1), "health": health})


PROCESSES = [
    process(0.2, 0.2, same=1.0),
    process(0.1, 0.1, same=1.01),
    process(0.05, 0.05, same=0.99),
]


def test_processes_are_joined_into_one_measurement_that_verifies() -> None:
    record = joined(PROCESSES)
    own = record.arm("gfp")
    assert own is not None
    assert own.blocks == [0.2, 0.2, 0.1, 0.1, 0.05, 0.05]
    assert (own.step_seconds, own.clips_per_second) == (pytest.approx(0.1), pytest.approx(100.0))
    assert (own.ratio.value, own.ratio.high, own.ratio.pairs) == (
        pytest.approx(4.0),
        pytest.approx(4 * SPREAD, rel=1e-5),
        3,
    )
    assert record.rounds == (2, 2, 2)
    # Logs of 1, 1.01 and .99: deviation .01, half width 4.302653 * .01 / sqrt(3) = .02484.
    assert record.floor == pytest.approx(math.exp(0.02484), rel=1e-3)
    assert record.health == Health(
        blocks=18, disturbed=3, foreign_share=0.1, reasons=("others took 12 %",)
    )
    assert record.spec["processes"] == 3
    assert record.address != PROCESSES[0].address
    differences = [line for line in verified(record) if "FLOP ratio" not in line]
    assert differences == []
    assert any("ratio" in line for line in verified(record.model_copy(update={"rounds": (2, 4)})))


def test_a_method_that_one_process_lacks_is_left_out() -> None:
    without = PROCESSES[0].model_copy(update={"arms": PROCESSES[0].arms[:1]})
    assert [arm.label for arm in joined([without, *PROCESSES[1:]]).arms] == ["skeletonmae"]


def test_a_table_says_how_often_it_was_measured() -> None:
    assert rounds_text(PROCESSES[0]) == "20 interleaved rounds in one process"
    several = PROCESSES[0].environment.model_copy(update={"ranks": 2})
    on_ranks = PROCESSES[0].model_copy(update={"environment": several})
    assert rounds_text(on_ranks) == "20 interleaved rounds on 2 ranks"
    assert rounds_text(joined(PROCESSES)).startswith(
        "2 + 2 + 2 interleaved rounds in 3 fresh processes"
    )


def test_signed_ranks_that_say_otherwise_are_named() -> None:
    # Eleven small gains and one large loss: the t interval holds 1, the ranks do not see how large
    # it is. Of 4096 sets of ranks 70 sum to 12 or less: p = 140 / 4096.
    blocks = [*(0.39 - 0.001 * number for number in range(11)), 0.8]
    own = block_ratio([0.4] * 12, blocks)
    record = speed_record(
        arm("skeletonmae", ratio(1, 1, 1), blocks=[0.4] * 12, clips=2.0),
        arm("gfp", own, blocks=blocks, clips=2.0),
    )
    assert own.low < 1 < own.high
    (line,) = second_opinions(record)
    assert line.endswith("gfp (p 0.034, interval with 1)")
    assert second_opinions(PROCESSES[0]) == []


def test_the_command_measures_in_fresh_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    left: list[SpeedRecord] = []

    def in_this_process(command: list[str], **_: object) -> object:
        started.append(command)
        left.extend(
            parsed_record(path, SpeedRecord) for path in out.glob(f"*/{UNFINISHED_SPEED_FILE}")
        )
        return harness(*command[3:])

    monkeypatch.setattr(processes, "run", in_this_process)
    small = [word for word in SMALL if word not in ("--budget", "6steps")]
    out = tmp_path / "out"
    flags = ("--dataset", small_file(tmp_path), "--methods", "gfp,skeletonmae", "--out", out)
    outcome = harness("speed", *small, *flags, "--processes", "2")
    assert outcome.code == 0, outcome.err
    assert [command[command.index("--first-slot") + 1] for command in started] == ["0", "1"]
    (path,) = out.glob("*/speed.json")
    record = json.loads(path.read_text())
    assert len(record["rounds"]) == 2
    assert record["arms"][0]["ratio"]["pairs"] == 2
    assert "in 2 fresh processes" in (out / "speed.md").read_text()
    assert [one.name for one in out.iterdir() if one.name.startswith(".processes")] == []
    assert harness("verify", out).code == 0
    again = harness("speed", *small, *flags, "--processes", "2")
    assert (again.code, len(started)) == (0, 2)
    (stopped,) = left  # what a stop in the second process would leave
    assert (stopped.address, stopped.spec) == (record["address"], record["spec"])
    assert (stopped.done_rounds, stopped.planned_rounds) == (
        record["rounds"][0],
        2 * record["rounds"][0],
    )
    assert list(out.glob(f"*/{UNFINISHED_SPEED_FILE}")) == []


def test_a_process_that_leaves_no_measurement_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[str], **_: object) -> object:
        return type("Ended", (), {"returncode": 2, "stderr": "error: no such device", "stdout": ""})

    monkeypatch.setattr(processes, "run", fails)
    small = [word for word in SMALL if word not in ("--budget", "6steps")]
    flags = (
        "--dataset",
        small_file(tmp_path),
        "--methods",
        "gfp,skeletonmae",
        "--out",
        tmp_path / "out",
    )
    outcome = harness("speed", *small, *flags, "--processes", "3")
    assert outcome.code == 2
    assert "process 1 left no measurement (no such device)" in outcome.err
