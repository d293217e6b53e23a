"""Two ranks train what one process trains: the same batches and masks,
losses and weights to rounding; torchrun itself starts them in the long tests.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.batches import BodySequences
from harness.cli import main as cli
from harness.errors import UsageError
from harness.isolation import launched
from harness.isolation.guard import random_state
from harness.isolation.stopping import RankLost, Stopped, stoppable
from harness.machine import select_device
from harness.records.schema import RunRecord
from harness.training import distributed, leading
from harness.training.distributed import Ranks
from harness.training.leading import _together, settled
from harness.training.trainer import Trainer
from tests.harness import two_ranks
from tests.harness.children import start_method
from tests.harness.small_run import (
    SMALL,
    Outcome,
    harness,
    plugin_file,
    registry,
    small_cell,
    small_data,
    small_file,
    small_spec,
)
from tests.harness.two_ranks import MADE_UP, POOL

ROOT = Path(__file__).parents[2]
METHODS = [*sorted(set(registry().methods) - {"skeleton2vec"}), "skeleton2vec:mask_ratio=0.6"]
FAST = ["gfp"]
"""The one with batch norm and covariances over a batch; the long tests train all."""
VARIANTS = [
    "skeletonmae:mask=frames",
    "skeletonmae:mask=motion",
    "mamp:decoder=cross",
    "gfp:covariance=bf16",
]
TOKENS = {"skeletonmae-graph": 0.1, "encoder-only": 0.01}
"""How far apart encoders may end where 20 steps carry rounding further than elsewhere."""
LONG = pytest.mark.long
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="torch is built without gloo"
)


def torchrun(
    *arguments: str | Path | int, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Two ranks of ``python -m ARGUMENTS``, a thread each."""
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=timeout,
        check=False,
    )


def command(*arguments: str | Path | int) -> list[str]:
    words = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
    ]
    return [*words, *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests.harness.two_ranks` found, in one start."""
    folder = tmp_path_factory.mktemp("ranks")
    return trained(folder, FAST, block=5)


def trained(folder: Path, methods: list[str], block: int) -> dict[str, Any]:
    """What both ranks and one process made of methods."""
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    torch.multiprocessing.start_processes(
        two_ranks.main,
        (store.port, folder, ",".join(methods), block),
        nprocs=2,
        start_method=start_method(),
    )
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


@pytest.mark.parametrize("label", FAST)
def test_two_ranks_train_as_one_process(results: dict[str, Any], label: str) -> None:
    as_one_process(label, results[label])


def test_two_ranks_train_on_several_sets_as_one_process(results: dict[str, Any]) -> None:
    as_one_process(POOL, results[POOL])


@LONG
def test_variants_and_every_single_step_too(tmp_path: Path) -> None:
    for label, found in trained(tmp_path, [*METHODS, *VARIANTS], block=1).items():
        if isinstance(found, dict):
            as_one_process(label, found)


def as_one_process(label: str, found: dict[str, Any]) -> None:
    assert found["batches"]
    assert found["masks"]
    assert found["same weights"]
    assert found["unlike"] == ""
    assert found["losses"] < 0.1 * TOKENS.get(label, 1e-3)
    assert found["tokens"] < TOKENS.get(label, 1e-3)


def test_a_method_that_is_not_identical_says_why(results: dict[str, Any]) -> None:
    assert results["draws"] == "it draws random numbers of its own"
    assert (
        results["contrastive"] == "the loss of a whole batch is not the mean of its parts' losses"
    )


def test_no_number_on_one_rank_ends_the_training_on_all(results: dict[str, Any]) -> None:
    assert results["nan"].startswith("Diverged: loss is nan after ")


def test_what_fails_on_all_ranks_fails_as_in_one_process(results: dict[str, Any]) -> None:
    assert results["raises"] == "RuntimeError: on every rank"


def test_what_a_method_does_to_a_process_ends_with_its_row_on_every_rank(
    results: dict[str, Any],
) -> None:
    """Else another rank would be gone, or compute otherwise, when the next row's turn comes."""
    assert results["exits"].startswith("MethodFault: SystemExit: 0")
    assert "must have the same dtype" in results["doubles"]
    assert results[POOL]["unlike"] == ""


def test_each_row_is_trained_once(results: dict[str, Any]) -> None:
    assert results.keys() == {*FAST, *MADE_UP, POOL, "seconds"}


# --- one rank alone fails ---

BROKEN = "[pair.cc:561] Connection closed by peer [127.0.0.1]:1733"


class RankOneLeft(Ranks):
    """Two ranks, the second of which failed, said so, and left."""

    def count(self, name: str, more: int = 0) -> int:
        return more + 1

    def tell(self, said: object) -> None:
        raise RuntimeError(BROKEN)


def test_a_call_that_none_hears_of_is_no_fault_of_the_method() -> None:
    with pytest.raises(RankLost) as lost, _together(RankOneLeft(size=2), "warm_up", 0):
        pass
    assert lost.value.reason == "rank 0 of 2 cannot go on: another rank is gone; all ranks end"
    assert lost.value.told


def test_what_fails_because_another_rank_left_does_not_fail_on_all() -> None:
    with pytest.raises(RankLost) as lost, settled(RankOneLeft(size=2)):
        raise RuntimeError(BROKEN)
    assert lost.value.told


def test_a_method_that_exits_on_one_rank_ends_all() -> None:
    with pytest.raises(RankLost), settled(RankOneLeft(size=2)):
        raise SystemExit(0)


def test_a_stop_is_passed_on_as_it_is() -> None:
    with pytest.raises(Stopped, match="stopped by SIGTERM"), settled(RankOneLeft(size=2)):
        raise Stopped(signal.SIGTERM)


def test_a_trial_that_fails_on_one_rank_ends_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on to another call than the rank that is at the trial still."""
    data = replace(small_data(tmp_path), ranks=RankOneLeft(size=2))
    monkeypatch.setattr(leading, "not_identical", lambda *_: 1 / 0)
    cell = small_cell(data)
    assert cell.method
    with pytest.raises(RankLost):
        leading.built(Trainer, cell.method, cell.spec, data, 10)


def test_data_that_do_not_fit_on_one_rank_are_a_request_that_cannot_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit code says that the same command would not go on."""

    def full() -> BodySequences:
        raise torch.OutOfMemoryError("CUDA out of memory")

    data = replace(small_data(tmp_path), packed=full)
    call = leading._Call("build", 0, (small_spec(data), 10), (0,), random_state())
    monkeypatch.setattr(leading, "joined", lambda: RankOneLeft(size=2))
    monkeypatch.setattr(RankOneLeft, "listen", lambda ranks: call)
    with pytest.raises(UsageError, match="expected room for frames"):
        leading.follow(data, registry().method)


# --- what torchrun set ---

SET = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29400",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def as_a_rank(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """This process is the second of two ranks, as its environment has it; "" unsets a variable."""
    for name, value in (SET | changes).items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"RANK": ""},
        {"WORLD_SIZE": "two"},
        {"RANK": "2"},
        {"LOCAL_RANK": "-1"},
        {"LOCAL_WORLD_SIZE": ""},
        {"MASTER_ADDR": ""},
        {"MASTER_PORT": "http"},
    ],
)
def test_a_half_set_environment_is_a_line(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> None:
    as_a_rank(monkeypatch, **changes)
    found = harness("ls", "methods")
    assert found.code == 2
    assert found.err.count("\n") == 1
    (name,) = changes
    assert f"found RANK={os.environ.get('RANK', '')}, LOCAL_RANK=" in found.err
    assert f"{name}={changes[name]}" in found.err


def test_ranks_that_do_not_meet_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens there; torch would try for as long as ranks may wait for a training."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        as_a_rank(monkeypatch, MASTER_PORT=str(taken.getsockname()[1]))
        monkeypatch.setattr(distributed, "_MEETING", timedelta(seconds=1))
        with pytest.raises(UsageError, match="expected 2 ranks to meet at 127"):
            distributed.join(torch.device("cpu"))


def test_a_rank_that_waits_for_the_others_hears_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torchrun sends one where another rank has failed, and ends after half a minute who stays."""
    as_a_rank(monkeypatch)
    store = torch.distributed.HashStore()
    monkeypatch.setattr(distributed.dist, "rendezvous", lambda *_, **__: iter([(store, 1, 2)]))
    monkeypatch.setattr(distributed.time, "sleep", lambda _: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped), stoppable():
        distributed.join(torch.device("cpu"))
    monkeypatch.setattr(distributed, "_MEETING", timedelta(0))
    store.add("here", -1)
    with pytest.raises(UsageError, match="within 0:00:00, found 1 there"):
        distributed.join(torch.device("cpu"))


def test_other_launchers_variables_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    as_a_rank(monkeypatch, TORCHELASTIC_RUN_ID="", RANK="", WORLD_SIZE="many")
    assert (launched.rank(), launched.world_size()) == (0, 1)


def test_a_rank_that_alone_cannot_begin_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A GPU that only this one lacks, say: torchrun would end the others without a reason."""
    as_a_rank(monkeypatch)
    monkeypatch.setattr(cli, "_ALONE", 0.0)
    assert harness("run", "--nonsense").code == 2
    assert capfd.readouterr().err.startswith("error: rank 1 of 2: No such option: --nonsense")


def test_a_rank_that_fails_as_the_first_did_is_silent(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    as_a_rank(monkeypatch)
    monkeypatch.setattr(cli.time, "sleep", lambda _: signal.raise_signal(signal.SIGTERM))
    assert harness("run", "--nonsense").code == 2
    assert not capfd.readouterr().err


def test_fewer_gpus_than_ranks_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="expected a GPU for each rank, found 1; start fewer"):
        select_device("auto", 1)


# --- whole runs ---

MORTAL = '''"""SkeletonMAE, and a signal to one process half-way, where the environment says so."""

import os
import time

from methods.skeletonmae import SkeletonMAE


class Mortal(SkeletonMAE):
    struck = False

    def after_step(self, progress):
        who, number = os.environ.get("STRIKE", ":").split(":")
        if progress > 0.5 and os.environ.get("RANK") == who:
            if self.struck:
                return time.sleep(0.3)
            self.struck = True
            os.kill(os.getppid() if number == "15" else os.getpid(), int(number))
'''


class Folder:
    """Runs on two ranks, or on one process, into folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.flags = [
            "--methods",
            "mortal",
            "--dataset",
            small_file(folder),
            "--plugin",
            plugin_file(folder, "mortal", MORTAL),
            "--device",
            "cpu",
            "--threads",
            "1",
            "--state-seconds",
            "0",
            *SMALL,
            "--budget",
            "24steps",
        ]

    def run(self, name: str, strike: str = ":") -> subprocess.CompletedProcess[str]:
        """``run`` on two ranks, one of which strikes half-way: ``1:9`` is a kill of rank 1."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STRIKE", strike)
            return torchrun("harness", "run", *self.flags, "--out", self.folder / name)

    def in_one_process(self, name: str) -> Outcome:
        """``run`` without torchrun."""
        return harness("run", *self.flags, "--out", self.folder / name)

    def record(self, name: str) -> RunRecord:
        """The trained run's."""
        (path,) = (self.folder / name).glob("mortal-s0-*/record.json")
        return RunRecord.model_validate_json(path.read_text())


@LONG
def test_two_ranks_killed_and_continued_end_as_if_undisturbed(tmp_path: Path) -> None:
    """Half-way one rank is killed, then torchrun is asked to stop;
    each time the same command goes on.
    """
    folder = Folder(tmp_path)
    assert folder.run("undisturbed").returncode == 0
    killed = folder.run("killed", strike="1:9")
    assert killed.returncode != 0
    assert [line for line in killed.stderr.splitlines() if line.startswith("error: ")] == [
        "error: rank 0 of 2 cannot go on: another rank is gone; all ranks end; the same command"
        " continues with what is missing"
    ]
    assert folder.record("killed").status == "interrupted"
    stopped = folder.run("killed", strike="0:15")
    assert stopped.returncode != 0
    assert (
        "error: stopped by SIGTERM; the same command continues with what is missing"
        in stopped.stderr
    )
    shutil.copytree(tmp_path / "killed", tmp_path / "elsewhere")
    continued = folder.run("killed")
    assert continued.returncode == 0
    assert "mortal, seed 0: continues at step " in continued.stdout
    one, other = folder.record("undisturbed"), folder.record("killed")
    assert one.training
    assert other.training
    assert other.training.losses == one.training.losses
    assert other.weights == one.weights
    assert other.environment.ranks == 2
    assert len(other.continued) == 2

    # One process takes over what two ranks began.
    assert folder.in_one_process("elsewhere").code == 0
    alone = folder.record("elsewhere")
    assert alone.training
    assert alone.environment.ranks == 1
    assert [loss["loss"] for loss in alone.training.losses] == pytest.approx(
        [loss["loss"] for loss in one.training.losses], rel=1e-4
    )


@LONG
def test_speed_on_two_ranks_says_what_the_second_is_worth(tmp_path: Path) -> None:
    flags = [
        "--methods",
        "skeletonmae",
        "--dataset",
        small_file(tmp_path),
        "--device",
        "cpu",
        *(word for word in SMALL if word not in ("--budget", "6steps")),
    ]
    ended = torchrun("harness", "speed", *flags, "--out", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    header = next(line for line in ended.stdout.splitlines() if line.startswith("method "))
    assert "over 1 rank [95 %]" in header
    assert "efficiency" in header
    assert "1 threads each on 2 ranks" in ended.stdout
    page = (tmp_path / "out" / "speed.md").read_text()
    assert page.startswith(
        "    torchrun --nproc-per-node 2 -m harness speed --methods skeletonmae "
    )


@LONG
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            ["ls", "methods"],
            "torchrun: expected one of run, plan, speed, found ls; start it with python -m harness",
        ),
        (
            ["run", "--batch-size", "5"],
            "a batch of 5 body sequences on 2 ranks: expected a multiple of 2",
        ),
    ],
)
def test_what_ranks_cannot_do_is_refused_in_a_line(
    arguments: list[str], error: str, tmp_path: Path
) -> None:
    ended = torchrun("harness", *arguments)
    assert ended.returncode != 0
    lines = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert error in lines[0]
