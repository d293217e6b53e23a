"""A run that is stopped continues where it stood, and ends as if it had never stopped:
the same to the last bit.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from harness.records.schema import RunRecord
from harness.records.store import RecordStore, write_weights
from harness.runs import cell, resume
from harness.runs.metrics import METRICS_FILE
from harness.training.clock import StepClock
from harness.training.trainer import Trainer
from tests.harness.small_run import (
    CPU,
    PLUGIN,
    SMALL,
    Outcome,
    harness,
    plugin_file,
    registry,
    small_data,
    small_file,
    small_trainer,
)

METHODS = sorted(set(registry().methods) - {"encoder-only", "skeleton2vec"})
"""Skeleton2vec's masks leave none of five joints visible at its own ratio:
it is among the whole runs.
"""
SKELETON2VEC = "skeleton2vec:mask_ratio=0.6"
STEPS = 9
LONG = pytest.mark.long


@pytest.mark.parametrize("method", METHODS)
def test_a_trainer_goes_on_from_its_state(method: str, tmp_path: Path) -> None:
    data = small_data(tmp_path)
    whole = small_trainer(data, method)
    left = small_trainer(data, method)
    torch.manual_seed(1)
    expected = [whole.run_block(steps, StepClock(CPU)) for steps in (3, 4)]
    torch.manual_seed(1)
    clock = StepClock(CPU)
    first = left.run_block(3, clock)
    assert left.go_on(4, clock, leave=lambda: left.begun == 2) is None
    state, numbers = left.state(), torch.random.get_rng_state()
    other = small_trainer(data, method, seed=5)  # nothing of it may show
    other.restore(state)
    torch.random.set_rng_state(numbers)
    assert [first, other.go_on(4, clock)] == expected
    assert all(
        torch.equal(one, two)
        for one, two in zip(whole.state().values(), other.state().values(), strict=True)
    )
    assert whole.state().keys() == other.state().keys()


@pytest.mark.parametrize("changed", ["steps", "method"])
def test_a_state_of_another_trainer_is_refused(changed: str, tmp_path: Path) -> None:
    data = small_data(tmp_path)
    state = small_trainer(data, "gfp").state()
    other = small_trainer(
        data, "mamp" if changed == "method" else "gfp", steps=11 if changed == "steps" else 10
    )
    with pytest.raises(
        ValueError, match="a schedule of 10 steps" if changed == "steps" else "other weights"
    ):
        other.restore(state)


# --- whole runs ---


class Machine:
    """Runs a command in folders of its own, stopped where a test wants."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, method: str) -> None:
        self.folder, self.patch, self.method = folder, patch, method
        self.data = small_file(folder)

    def run(self, out: str, *more: str) -> Outcome:
        """The command, on one folder."""
        words = (
            "run",
            "--methods",
            self.method,
            *SMALL,
            "--budget",
            f"{STEPS}steps",
            "--dataset",
            self.data,
        )
        return harness(*words, "--out", self.folder / out, *more)

    def stop_at(self, step: int, number: int = signal.SIGTERM) -> None:
        """From now on a signal comes in this training step, counted from the start of a process."""
        update, taken = Trainer._update, []

        def stopping(trainer: Trainer) -> dict[str, torch.Tensor]:
            taken.extend([1] * (trainer.steps == STEPS))
            if len(taken) == step:
                signal.raise_signal(number)
            return update(trainer)

        self.patch.setattr(Trainer, "_update", stopping)

    def go_on(self) -> None:
        """No more signals."""
        self.patch.undo()

    def record(self, out: str) -> RunRecord:
        """Of the method's one run."""
        (record,) = (r for r in RecordStore(self.folder / out).runs() if not r.method.control)
        return record

    def states(self, out: str) -> list[Path]:
        """All files of states."""
        return sorted((self.folder / out).glob("*/state-*"))


Whole = Callable[[str], RunRecord]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The run of a method that nothing stops, made once."""

    @cache
    def run(method: str) -> RunRecord:
        with pytest.MonkeyPatch.context() as patch:
            machine = Machine(tmp_path_factory.mktemp("whole"), patch, method)
        assert machine.run("whole").code == 0
        assert machine.states("whole") == []
        return machine.record("whole")

    return run


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With its own patches: undoing them must not undo a test's."""
    with pytest.MonkeyPatch.context() as patch:
        yield Machine(tmp_path, patch, "skeletonmae")


def same_end(one: RunRecord, other: RunRecord) -> bool:
    """Weights, losses, accuracies and diagnoses are the same; times are not looked at."""

    def found(record: RunRecord) -> dict[str, object]:
        training = record.training
        assert training
        curve = [point.model_dump(exclude={"seconds"}) for point in record.curve]
        return {
            "weights": record.weights,
            "losses": training.losses,
            "curve": curve,
            "accuracy": record.accuracy,
            "steps": training.steps,
            "status": record.status,
            "untrained": record.untrained,
        }

    return found(one) == found(other)


@pytest.mark.long
def test_a_stopped_run_keeps_the_decoder_of_the_evaluation_that_counts(machine: Machine) -> None:
    words = ("--keep-decoder", "--set", "data.validation=0.5")
    machine.run("whole", *words)
    machine.stop_at(7)
    machine.run("out", *words)
    machine.go_on()
    assert machine.run("out", *words).code == 0
    assert "method.safetensors" in machine.record("out").weights
    assert same_end(machine.record("out"), machine.record("whole"))


@pytest.mark.parametrize("method", ["gfp", SKELETON2VEC])
@pytest.mark.parametrize("step", [pytest.param(2, marks=LONG), 5, pytest.param(9, marks=LONG)])
def test_a_stopped_run_ends_as_if_it_had_never_stopped(
    machine: Machine, whole: Whole, method: str, step: int
) -> None:
    machine.method = method
    machine.stop_at(step)
    assert machine.run("stopped").code == 143
    machine.go_on()
    record = machine.record("stopped")
    assert (record.status, record.error) == ("interrupted", "stopped by SIGTERM")
    continued = machine.run("stopped")
    assert continued.code == 0
    assert re.search(rf", seed 0: continues at step {step} of {STEPS} \(state of ", continued.out)
    record = machine.record("stopped")
    assert same_end(record, whole(machine.method))
    assert [taken.step for taken in record.continued] == [step]
    assert record.continued[0].same_machine
    assert len(record.training.losses) == len(whole(machine.method).training.losses)  # type: ignore[union-attr]
    assert machine.states("stopped") == []
    assert record.phases["state"] > 0
    assert 0 <= record.untracked < 1


def test_a_run_may_stop_as_often_as_it_likes(machine: Machine, whole: Whole) -> None:
    machine.stop_at(2, signal.SIGUSR1)
    for _ in range(4):
        assert machine.run("stopped").code == 138
        machine.go_on()
        machine.stop_at(2, signal.SIGUSR1)
    machine.go_on()
    assert machine.run("stopped").code == 0
    record = machine.record("stopped")
    assert [taken.step for taken in record.continued] == [2, 4, 6, 8]
    assert same_end(record, whole(machine.method))


@pytest.mark.long
def test_what_a_process_did_after_its_last_state_is_done_again(
    machine: Machine, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut: the record says running, or is not there,
    and the state is older than the run was.
    """
    machine.stop_at(4)
    machine.run("stopped")
    machine.go_on()
    kept = {path: path.read_bytes() for path in machine.states("stopped")}
    machine.stop_at(3)
    machine.run("stopped")
    machine.go_on()
    for path in machine.states("stopped"):
        path.unlink()
    for path, content in kept.items():
        path.write_bytes(content)
    assert machine.run("stopped").code == 0
    assert same_end(machine.record("stopped"), whole(machine.method))


@pytest.mark.long
def test_two_states_are_kept_and_a_damaged_one_gives_way_to_the_one_before(
    machine: Machine, whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "_DEAREST", float("inf"))  # one at every evaluation
    machine.stop_at(7)
    assert machine.run("stopped").code == 143
    machine.go_on()
    names = [path.name for path in machine.states("stopped")]
    assert names == [
        f"state-{step:09d}.{ending}" for step in (4, 7) for ending in ("json", "safetensors")
    ]
    machine.states("stopped")[-1].write_bytes(b"")
    assert "continues at step 4 of 9" in machine.run("stopped").out
    assert same_end(machine.record("stopped"), whole(machine.method))


def test_states_are_written_when_they_are_due(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "_DEAREST", float("inf"))
    seen = []
    monkeypatch.setattr(cell, "write_state", lambda folder, state, tensors: seen.append(state.step))
    assert machine.run("often", "--set", "probe.points=1", "--state-seconds", "0").code == 0
    assert seen == [*range(1, STEPS + 1), STEPS]


def test_states_cost_no_more_than_a_hundredth() -> None:
    interval = resume.Interval(seconds=0.0)
    interval.wrote(0.0)
    assert interval.due
    interval.wrote(1000.0)
    assert not interval.due
    assert not interval.may


@pytest.mark.parametrize(
    "harm",
    [
        "another run",
        *(
            pytest.param(harm, marks=LONG)
            for harm in (
                "a digit",
                "cut",
                "flipped",
                "no tensors",
                "not JSON",
                "another version",
                "another schedule",
            )
        ),
    ],
)
def test_a_state_that_cannot_be_used_is_said_and_set_aside(
    machine: Machine, whole: Whole, harm: str
) -> None:
    machine.stop_at(5)
    machine.run("stopped")
    machine.go_on()
    text, tensors = machine.states("stopped")[-2:]
    assert (text.suffix, tensors.suffix) == (".json", ".safetensors")
    content = bytearray(tensors.read_bytes())
    facts = json.loads(text.read_bytes())
    if harm == "cut":
        tensors.write_bytes(content[: len(content) // 2])
    elif harm == "flipped":
        content[-1] ^= 1
        tensors.write_bytes(content)
    elif harm == "no tensors":
        tensors.unlink()
    elif harm == "not JSON":
        text.write_bytes(text.read_bytes()[:-10])
    else:
        other = {
            "another version": {"versions": {**facts["versions"], machine.method: "0"}},
            "another run": {"address": "gfp-s1-v2-0"},
            "another schedule": {"steps": 11},
            "a digit": {"wall_seconds": facts["wall_seconds"] + 1},
        }[harm]
        changed = resume.RunState.model_validate({**facts, **other})
        text.write_text((changed if harm == "a digit" else changed.sealed).model_dump_json())
    found = machine.run("stopped")
    assert found.code == 0
    (line,) = [line for line in found.err.splitlines() if line.startswith("state ")]
    reasons = {
        "cut": "damaged (SHA-256)",
        "flipped": "damaged (SHA-256)",
        "no tensors": "cannot be read",
        "not JSON": "damaged",
        "another version": f"{machine.method} changed since",
        "another run": "is one of gfp-s1-v2-0",
        "another schedule": "is one of 11 steps, which are 9 now",
        "a digit": "damaged (its digest)",
    }
    assert reasons[harm] in line
    assert "not continued" in line
    assert same_end(machine.record("stopped"), whole(machine.method))


def damaged_as_if_written_so(text: Path, harm: str) -> None:
    """A state whose contents are wrong and whose hashes are right."""
    path, facts = text.with_suffix(".safetensors"), json.loads(text.read_bytes())
    tensors = load_file(path)
    if harm == "a tensor less":
        del tensors["clock/steps"]
    elif harm == "another shape":
        name = next(
            name
            for name, tensor in tensors.items()
            if name.startswith("trainer/method/") and tensor.dim()
        )
        tensors[name] = tensors[name][:0]
    elif harm == "another step":
        tensors["trainer/counts"][0] -= 1
    elif harm == "an evaluation less":
        facts["curve"] = []
    content = save(tensors)
    path.write_bytes(content)
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    text.write_text(resume.RunState.model_validate(facts).sealed.model_dump_json())


@pytest.mark.parametrize(
    "harm",
    [
        "a tensor less",
        *(
            pytest.param(harm, marks=LONG)
            for harm in ("another shape", "another step", "an evaluation less")
        ),
    ],
)
def test_a_state_that_cannot_be_restored_gives_way_to_the_one_before(
    machine: Machine, whole: Whole, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    monkeypatch.setattr(resume, "_DEAREST", float("inf"))  # one at every evaluation
    machine.stop_at(7)
    machine.run("stopped")
    machine.go_on()
    text = machine.states("stopped")[-2]
    assert text.name == "state-000000007.json"
    damaged_as_if_written_so(text, harm)
    found = machine.run("stopped")
    assert found.code == 0
    (line,) = [line for line in found.err.splitlines() if line.startswith("state ")]
    assert f"{text}: cannot be restored (" in line
    assert (
        "kept as state-000000007.refused-1.json and state-000000007.refused-1.safetensors" in line
    )
    assert "continues at step 4 of 9" in found.out
    assert same_end(machine.record("stopped"), whole(machine.method))


@pytest.mark.long
def test_a_failed_run_may_go_on_when_its_fault_is_gone(machine: Machine, whole: Whole) -> None:
    """An exception after a state leaves it there: a disk that was full, say."""
    machine.stop_at(4)
    machine.run("stopped")
    machine.go_on()
    machine.patch.setattr(cell.Attempt, "save", lambda attempt, method: 1 / 0)
    assert machine.run("stopped").code == 1
    machine.go_on()
    assert "continues at step" in machine.run("stopped").out
    assert same_end(machine.record("stopped"), whole(machine.method))


def test_a_full_disk_costs_the_state_and_not_the_run(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(resume, "write_atomically", full)
    assert machine.run("whole").code == 0
    assert machine.states("whole") == []
    (warning,) = machine.record("whole").warnings
    assert warning.startswith("a state could not be written (No space left on device)")


@pytest.mark.long
def test_metrics_are_a_line_a_block_and_a_line_an_evaluation_however_often_it_stops(
    machine: Machine,
) -> None:
    assert machine.run("whole").code == 0
    for step in (3, 4):
        machine.stop_at(step)
        machine.run("stopped")
        machine.go_on()
    assert machine.run("stopped").code == 0

    def lines(out: str) -> list[dict[str, float]]:
        (path,) = (machine.folder / out).glob(f"{machine.method}*/{METRICS_FILE}")
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [
            {name: value for name, value in values.items() if name != "seconds"} for values in found
        ]

    assert lines("stopped") == lines("whole")
    assert [line["step"] for line in lines("whole") if "linear" in line] == [4, 9]
    assert all({"clips", "loss"} <= line.keys() for line in lines("whole") if "linear" not in line)


@pytest.mark.long
def test_rerun_begins_anew(machine: Machine) -> None:
    machine.stop_at(5)
    machine.run("stopped")
    machine.go_on()
    found = machine.run("stopped", "--rerun")
    assert "continues at" not in found.out
    assert machine.record("stopped").continued == ()


@pytest.mark.long
def test_a_rerun_that_was_cut_off_goes_on(machine: Machine) -> None:
    """A kill leaves the finished record of before beside the state."""
    assert machine.run("out").code == 0
    (path,) = (machine.folder / "out").glob(f"{machine.method}*/record.json")
    whole = machine.record("out")
    finished = whole.model_copy(
        update={"started": whole.started - timedelta(hours=1)}
    ).model_dump_json()
    machine.stop_at(5)
    machine.run("out", "--rerun")
    machine.go_on()
    path.write_text(finished)
    found = machine.run("out", "--rerun")
    assert "continues at step 5 of 9" in found.out
    assert same_end(machine.record("out"), whole)
    assert machine.states("out") == []


@pytest.mark.long
def test_a_rerun_does_not_go_on_from_what_the_finished_run_left(machine: Machine) -> None:
    """As of a process that was killed after its record and before its states were removed."""
    machine.stop_at(5)
    machine.run("out")
    machine.go_on()
    kept = {path: path.read_bytes() for path in machine.states("out")}
    assert machine.run("out").code == 0
    for path, content in kept.items():
        path.write_bytes(content)
    assert "continues at" not in machine.run("out", "--rerun").out
    assert machine.states("out") == []


@pytest.mark.long
def test_a_state_that_was_set_aside_is_never_taken_up_and_never_removed(machine: Machine) -> None:
    once = ("--set", "probe.points=1")
    machine.stop_at(5)
    machine.run("stopped", *once)
    machine.go_on()
    text = machine.states("stopped")[-2]
    facts = json.loads(text.read_bytes())
    changed = resume.RunState.model_validate(
        {**facts, "versions": {**facts["versions"], machine.method: "another"}}
    )
    text.write_text(changed.sealed.model_dump_json())
    machine.stop_at(2)
    assert f"{machine.method} changed since" in machine.run("stopped", *once).err
    machine.go_on()
    found = machine.run("stopped", *once)
    assert "continues at step 2 of 9" in found.out
    assert "state " not in found.err
    assert [path.name for path in machine.states("stopped")] == [
        f"state-000000005.refused-1.{ending}" for ending in ("json", "safetensors")
    ]


def test_a_second_state_at_a_step_is_not_written_over_the_first(tmp_path: Path) -> None:
    """Killed between its two files it would leave none."""
    assert resume.free_name(tmp_path, 4).name == "state-000000004.safetensors"
    for name in (
        "state-000000004",
        "state-000000004.1",
        "state-000000003",
        "state-000000004.10",
        "state-000000012",
    ):
        (tmp_path / f"{name}.json").touch()
    assert resume.free_name(tmp_path, 4).name == "state-000000004.11.safetensors"
    assert [path.stem.removeprefix("state-0000000") for path in resume.state_files(tmp_path)] == [
        "03",
        "04",
        "04.1",
        "04.10",
        "12",
    ]


def test_tensors_that_no_state_counts_go_with_the_next_one(machine: Machine) -> None:
    once = ("--set", "probe.points=1")
    machine.stop_at(3)
    machine.run("stopped", *once)
    machine.go_on()
    alone = machine.states("stopped")[0].with_name("state-000000002.safetensors")
    alone.touch()
    machine.stop_at(2)
    machine.run("stopped", *once)
    machine.go_on()
    assert not alone.exists()
    assert len(machine.states("stopped")) == 4


@pytest.mark.long
def test_a_stop_while_the_probes_run_costs_no_training(machine: Machine, whole: Whole) -> None:
    probe, calls = cell.probe_encoder, []

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        found = probe(*arguments)
        if len(calls) == 3:  # the control, two evaluations
            torch.rand(1)
            signal.raise_signal(signal.SIGTERM)
        return found

    machine.patch.setattr(cell, "probe_encoder", stopping)
    assert machine.run("stopped", "--state-seconds", "1e6").code == 143
    machine.go_on()
    assert f"continues at step {STEPS} of {STEPS}" in machine.run("stopped").out
    assert same_end(machine.record("stopped"), whole(machine.method))


def changed(old: str, new: str) -> str:
    """The plugin with a change."""
    assert old in PLUGIN
    return PLUGIN.replace(old, new)


@pytest.mark.long
def test_warnings_of_earlier_processes_stay_each_once(machine: Machine) -> None:
    init = "super().__init__(encoder, options)\n"
    text = changed(init, f"{init}        os.environ['CHANGED_BY_A_TEST'] = str(time.time())\n")
    words = ("--plugin", str(plugin_file(machine.folder, "changes", text)))
    machine.method = "changes"
    machine.run("whole", *words)
    for step in (5, 2):
        machine.stop_at(step)
        machine.run("stopped", *words)
        machine.go_on()
        assert set(machine.record("stopped").warnings) == set(machine.record("whole").warnings)
    machine.run("stopped", *words)
    found = machine.record("stopped").warnings
    assert sorted(found) == sorted(machine.record("whole").warnings)
    assert len(found) == 2


def test_a_method_that_keeps_more_than_tensors_runs_without_states(machine: Machine) -> None:
    text = changed(
        "    def after_step",
        "    def get_extra_state(self):\n        return {'n': 3}\n\n    def set_extra_state(self,"
        " state):\n        pass\n\n    def after_step",
    )
    machine.method = "keeps"
    words = ("--plugin", str(plugin_file(machine.folder, "keeps", text)), "--state-seconds", "0")
    assert machine.run("out", *words).code == 0
    (warning,) = machine.record("out").warnings
    assert (
        "a state could not be written (get_extra_state of the method: expected a tensor, found"
        " {'n': 3})" in warning
    )


def test_weights_that_parts_share_can_be_written(tmp_path: Path) -> None:
    tied = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    write_weights(tmp_path / "tied.safetensors", tied)
    assert load_file(tmp_path / "tied.safetensors").keys() == tied.state_dict().keys()
