"""Budgets in seconds: steps fixed at the first start, a command that repeats them,
what seconds mean, busy machines.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.errors import UsageError
from harness.machine import use_threads
from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.report.ranking import seconds_lines
from harness.report.repeat import kept, repeat_lines
from harness.report.table import build_table
from harness.runs import experiment as experiment_module
from harness.spec.model import ProbeSpec, TrainSpec
from harness.speed import disturbance as health
from harness.speed.disturbance import Moment, ProcessorTime, busy_lines, processors
from tests.harness.made_up_records import curve_record, run_record, speed_record
from tests.harness.small_run import PLUGIN, SMALL, Outcome, harness, plugin_file, small_file

IN_SECONDS = ("--budget", "0.2s", "--set", "probe.points=2")


@dataclass(frozen=True)
class Run:
    """A folder of runs and how it was asked for."""

    arguments: tuple[str | Path, ...]
    out: Path
    outcome: Outcome

    def again(self, *more: str | Path) -> Outcome:
        return harness(*self.arguments, *more)

    @property
    def record(self) -> RunRecord:
        """Of the method."""
        (record,) = (record for record in RecordStore(self.out).runs() if not record.method.control)
        return record


def run(folder: Path, methods: str, *more: str | Path) -> Run:
    arguments = (
        "run",
        *SMALL,
        *IN_SECONDS,
        "--dataset",
        small_file(folder),
        "--plugin",
        plugin_file(folder),
        "--methods",
        methods,
        "--out",
        folder / "out",
        *more,
    )
    return Run(arguments, folder / "out", harness(*arguments))


def weights(out: Path, record: RunRecord) -> str:
    """Hash of the evaluated encoder's tensors."""
    tensors = sorted(load_file(out / record.address / "encoder.safetensors").items())
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for _, tensor in tensors)).hexdigest()


# --- the command that repeats a run ---


@pytest.mark.parametrize(
    "every",
    [
        pytest.param((), id="points"),
        pytest.param(("--set", "probe.every=0.07s"), id="every 70 ms", marks=pytest.mark.long),
    ],
)
def test_the_printed_command_gives_the_same_weights(every: tuple[str, ...], tmp_path: Path) -> None:
    first = run(tmp_path, "plain", *every)
    assert first.outcome.code == 0, first.outcome
    (line,) = (
        line for line in first.outcome.lines if line.startswith("the same steps again, bit for bit")
    )
    assert f"- {line}" in (first.out / "table.md").read_text().splitlines()
    python, dash, module, *words = shlex.split(line.partition("): ")[2])
    assert (python, dash, module) == ("python", "-m", "harness")
    assert words[words.index("--budget") + 1].endswith("steps")
    assert words.count("--budget") == words.count("--methods") == 1
    again = tmp_path / "again"
    words[words.index("--out") + 1] = str(again)
    assert harness(*words).code == 0
    (record,) = (record for record in RecordStore(again).runs() if not record.method.control)
    assert record.training is not None
    assert first.record.training is not None
    assert record.training.losses == first.record.training.losses
    assert [point.step for point in record.curve] == [point.step for point in first.record.curve]
    assert weights(again, record) == weights(first.out, first.record)


def in_seconds(
    name: str, steps: int, seed: int = 0, budget: str = "30s", every: str = ""
) -> RunRecord:
    record = run_record(name, seed=seed)
    assert record.training is not None
    spec = record.spec.model_copy(
        update={"train": TrainSpec(budget=budget), "probe": ProbeSpec(every=every)}
    )
    training = record.training.model_copy(update={"steps": steps, "interleaved_step_seconds": 0.25})
    return record.model_copy(update={"spec": spec, "training": training})


TYPED = (
    "run",
    "--methods",
    "gfp,mamp",
    "--budget=30s",
    "--seeds",
    "0-1",
    "--encoder",
    "tiny",
    "--baseline",
    "mamp",
    "--rerun",
    "--set",
    "train.lr=0.01",
)


def test_every_row_has_its_own_number_of_steps() -> None:
    records = [in_seconds("gfp", 120, 0), in_seconds("gfp", 120, 1), in_seconds("mamp", 44)]
    lines = repeat_lines(records, {"gfp": "gfp:tau=1", "mamp": "mamp"}, TYPED)
    common = "python -m harness run --encoder tiny --set train.lr=0.01"
    assert [line.partition("): ")[2] for line in lines] == [
        f"{common} --methods gfp:tau=1 --seeds 0,1 --budget 120steps",
        f"{common} --methods mamp --seeds 0 --budget 44steps",
    ]


def test_seeds_that_were_started_with_other_steps_have_a_command_of_their_own() -> None:
    lines = repeat_lines(
        [in_seconds("gfp", 120, 0), in_seconds("gfp", 119, 1)], {"gfp": "gfp"}, TYPED
    )
    assert [line.rpartition("--seeds ")[2] for line in lines] == [
        "0 --budget 120steps",
        "1 --budget 119steps",
    ]


def test_evaluations_in_seconds_are_repeated_in_steps() -> None:
    (line,) = repeat_lines(
        [in_seconds("gfp", 120, budget="120steps", every="10s")], {"gfp": "gfp"}, ["run"]
    )
    assert line.endswith(
        "python -m harness run --methods gfp --seeds 0 --set probe.every=40.0steps"
    )


def test_a_budget_in_steps_needs_no_other_command() -> None:
    assert repeat_lines([in_seconds("gfp", 120, budget="120steps")], {"gfp": "gfp"}, TYPED) == []


def test_a_run_that_failed_is_not_repeated() -> None:
    record = in_seconds("gfp", 12).model_copy(update={"status": "failed"})
    assert repeat_lines([record], {"gfp": "gfp"}, TYPED) == []


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        (["run", "--methods", "--rerun"], ["run"]),  # what follows an option is its value
        (["run", "--methods=gfp", "--seeds=1", "--rerun", "--out", "x"], ["run", "--out", "x"]),
        (["run", "--budget", "30s", "--methods", "a,b"], ["run"]),
    ],
)
def test_only_what_is_replaced_is_left_out(typed: list[str], left: list[str]) -> None:
    assert kept(typed) == left


# --- the first start ---

STOPPED = PLUGIN.replace(
    '"interrupt" and half_way',
    '"interrupt" and half_way and not Path(__file__).with_name("go on").exists()',
)


@pytest.fixture
def stopped(tmp_path: Path) -> Run:
    """A run that Ctrl-C ended half-way; it does not happen again once the file ``go on`` is
    beside the plugin.
    """
    plugin = plugin_file(tmp_path, "stopped", STOPPED)
    arguments = (
        "run",
        *SMALL,
        *IN_SECONDS,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin,
        "--methods",
        "stopped:fault=interrupt",
        "--out",
        tmp_path / "out",
    )
    found = Run(arguments, tmp_path / "out", harness(*arguments))
    assert found.outcome.code == 130
    return found


def slower(out: Path, factor: float) -> None:
    """Steps of the stored measurement take longer by a factor."""
    (path,) = out.glob("*/speed.json")
    content = json.loads(path.read_text())
    for arm in content["arms"]:
        arm["step_seconds"] *= factor
        arm["clips_per_second"] /= factor
        arm["blocks"] = [factor * block for block in arm["blocks"]]
    path.write_text(json.dumps(content))


def starts(out: Path) -> list[Path]:
    return list(out.glob("*/start.json"))


def test_a_run_that_was_stopped_goes_on_with_the_steps_of_its_first_start(
    stopped: Run, tmp_path: Path
) -> None:
    (start,) = starts(stopped.out)
    seconds = json.loads(start.read_text())["step_seconds"]
    slower(stopped.out, 2.0)
    (tmp_path / "go on").touch()
    assert stopped.again().code == 0
    training = stopped.record.training
    assert training is not None
    assert training.interleaved_step_seconds == seconds
    assert training.steps == max(1, round(0.2 / seconds))
    assert starts(stopped.out) == []  # the record says it from now on


def test_rerun_starts_over(stopped: Run, tmp_path: Path) -> None:
    (start,) = starts(stopped.out)
    start.write_text('{"step_seconds": 0.001}')
    (tmp_path / "go on").touch()
    assert stopped.again("--rerun").code == 0
    training = stopped.record.training
    assert training is not None
    assert training.interleaved_step_seconds != 0.001


def test_a_start_that_cannot_be_read_is_one_line(stopped: Run) -> None:
    (start,) = starts(stopped.out)
    start.write_text("{")
    outcome = stopped.again()
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert f"{start}: cannot be read" in outcome.err


def test_a_budget_in_steps_has_nothing_to_fix(tmp_path: Path) -> None:
    found = run(tmp_path, "plain:fault=raise-late", "--budget", "6steps")
    assert found.outcome.code == 1
    assert starts(found.out) == []


# --- seconds in tables ---


def test_interleaved_and_wall_seconds_stand_apart() -> None:
    record = curve_record("gfp", 0.5, 0.6, step_seconds=0.5)  # 20 steps, 0.9 s each in this run
    row = build_table([record, run_record("mamp")], speed_record(), wide=True).set_index("method")
    assert (row.loc["gfp", "interleaved s"], row.loc["gfp", "wall s"]) == ("10", "18")
    assert (row.loc["mamp", "interleaved s"], row.loc["mamp", "wall s"]) == ("-", "60")


def test_equal_seconds_are_told_apart_in_the_ranking_too() -> None:
    records = [
        curve_record("gfp", 0.5, budget="30s", step_seconds=3.0),
        curve_record("mamp", 0.5, budget="30s"),
        run_record("amr").model_copy(update={"spec": curve_record("amr", 0.5, budget="30s").spec}),
        curve_record("gfp", 0.5, budget="300clips"),
    ]
    assert seconds_lines(records) == [
        "equal 30s: seconds at the interleaved step time / on the wall: gfp 30 / 9, mamp 5 / 9, amr"
        " - / 60"
    ]


# --- a busy machine ---


@pytest.fixture
def _others_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """As outside of tests, which run beside each other."""
    monkeypatch.setattr(health, "FOREIGN_SHARE", 0.1)


LONGER = "everything takes longer; wait for them"
JUDGED = f"speed verdicts are likely to read 'not measurable here' and {LONGER}"


@pytest.mark.usefixtures("_others_count")
@pytest.mark.parametrize(
    ("share", "count", "judged", "line"),
    [
        (0.1, 2, True, None),
        (0.7, 2, True, f"1.4 of 2 processors: {JUDGED}, or leave them room with --threads 1"),
        (0.25, 16, False, f"4.0 of 16 processors: {LONGER}, or leave them room with --threads 12"),
        (0.2, 1, True, f"0.2 of 1 processors: {JUDGED}"),
    ],
)
def test_a_busy_machine_is_named_with_what_it_does(
    share: float, count: int, judged: bool, line: str | None
) -> None:
    found = busy_lines(share, count, judged=judged)
    assert found == ([] if line is None else [f"busy: other processes take {line}"])
    if line:
        assert "--threads" not in busy_lines(share, count, judged=judged, threads=1)[0]


def test_what_others_took_is_counted_from_a_moment_on(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Moment(clock=0.0, processor=ProcessorTime(machine=100.0, own=10.0))
    monkeypatch.setattr("harness.speed.disturbance.time.perf_counter", lambda: 10.0)
    monkeypatch.setattr("harness.speed.disturbance.processors", lambda: 2)
    monkeypatch.setattr(ProcessorTime, "now", classmethod(lambda cls: cls(machine=118.0, own=14.0)))
    assert before.foreign_share() == pytest.approx((18 - 4) / 20)


@pytest.mark.usefixtures("_others_count")
def test_a_run_on_a_busy_machine_says_so_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Moment, "foreign_share", lambda self: 0.5)
    monkeypatch.setattr(experiment_module, "processors", lambda: 2)
    found = run(tmp_path, "encoder-only", "--budget", "3steps")
    said = [
        number
        for number, line in enumerate(found.outcome.out.splitlines())
        if line.startswith("busy: other")
    ]
    first = next(
        number
        for number, line in enumerate(found.outcome.out.splitlines())
        if line.startswith("[1/")
    )
    assert len(said) == 1
    assert said[0] < first
    again = found.again("--seeds", "0-1")  # stored: nothing is judged, and it still takes longer
    assert "busy: other processes take 1.0 of 2 processors: everything takes longer" in again.out


# --- threads ---


@pytest.fixture
def _own_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_own_threads")
def test_threads_are_those_that_were_asked_for() -> None:
    use_threads(1)
    assert torch.get_num_threads() == 1
    use_threads(processors())
    use_threads(None)
    assert torch.get_num_threads() == processors()


def test_more_threads_than_processors_are_refused() -> None:
    with pytest.raises(
        UsageError, match=rf"--threads 4096: expected 1 to {processors()}, the processors"
    ):
        use_threads(4096)


@pytest.mark.usefixtures("_own_threads")
def test_the_record_says_how_many_threads(tmp_path: Path) -> None:
    found = run(tmp_path, "encoder-only", "--budget", "3steps", "--threads", "1")
    assert found.outcome.code == 0
    assert {record.environment.threads for record in RecordStore(found.out).runs()} == {1}
    refused = found.again("--threads", "4096")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
