"""One method never harms another, nor the exit code:
what it throws or leaves behind ends in its own row.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from harness.errors import MethodFault, one_line
from harness.isolation.guard import SETTINGS, Guard, problem_of_about, seeded
from harness.isolation.stopping import Stopped, stoppable
from harness.machine import select_device
from harness.records.schema import RunRecord
from harness.records.store import RecordStore
from harness.spec.budget import Budget, StepCost
from harness.spec.model import MethodSpec, RunSpec
from harness.speed import measurement
from methods.base import About, Method
from tests.harness.children import needs_fork, start_method
from tests.harness.small_run import SMALL, Outcome, harness, plugin_file, small_file

RUDE = '''"""Does `what` at `where`, on purpose."""

import os
import random
import signal
import sys
import threading
import time
import warnings

import numpy as np
import torch
from torch import nn

from methods.base import About, Diagnosis, Method, MethodOptions


class Base(BaseException):
    pass


def throw(error):
    raise error


def go_on():
    while True:
        time.sleep(0.001)


def throw_in_a_thread():
    thread = threading.Thread(target=throw, args=(ValueError("unseen"),))
    thread.start()
    thread.join()


DEEDS = {
    "": lambda: None,
    "exit": lambda: sys.exit(0),
    "base": lambda: throw(Base("unusual")),
    "keyboard": lambda: throw(KeyboardInterrupt()),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "grad": lambda: torch.set_grad_enabled(False),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "folder": lambda: os.chdir(os.path.dirname(os.getcwd())),
    "handler": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "environment": lambda: os.environ.update(RUDE="1"),
    "warnings": lambda: warnings.simplefilter("ignore"),
    "path": lambda: sys.path.append("/nowhere"),
    "seed": lambda: torch.manual_seed(42),
    "numbers": lambda: (random.seed(1), np.random.seed(1)),
    "os-exit": lambda: os._exit(0),
    "posix-exit": lambda: sys.modules[os.name]._exit(0),
    "thread": lambda: threading.Thread(target=go_on, daemon=True).start(),
    "thread-throws": throw_in_a_thread,
    "timer": lambda: signal.setitimer(signal.ITIMER_REAL, 100),
    "alarm": lambda: (signal.setitimer(signal.ITIMER_REAL, 0.01), time.sleep(5)),
    "mask": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
}


class RudeOptions(MethodOptions):
    where: str = ""
    what: str = ""


class Rude(Method):
    about = About(title="Rude", paper="none")
    Options = RudeOptions

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.head = nn.Linear(encoder.width, 3)
        self.do("init")

    def do(self, where):
        if self.options.where == where and not self.head.weight.is_meta:
            DEEDS[self.options.what]()

    def after_step(self, progress):
        self.do("after")
        self.late = progress > 0.4  # never while only speed is measured

    def loss(self, x):
        self.do("loss")
        if getattr(self, "late", False) and len(x) > 2:  # trial steps have two body sequences
            self.do("late")
        loss = (self.head(self.encoder(x).mean(1)) - x.mean((1, 2))).square().mean()
        return loss, {}

    def evaluated_encoder(self):
        self.do("encoder")
        return self.encoder

    def diagnose(self, x):
        self.do("diagnose")
        return Diagnosis({})
'''

THROWN = {
    "exit": r"SystemExit: 0 \(rude\.py, line \d+\)",
    "base": r"Base: unusual \(rude\.py, line \d+\)",
    "keyboard": r"KeyboardInterrupt \(rude\.py, line \d+\)",
    "os-exit": r"SystemExit: os\._exit\(0\) \(rude\.py, line \d+\)",
    "posix-exit": r"SystemExit: os\._exit\(0\) \(rude\.py, line \d+\)",
    "alarm": r"SystemExit: SIGALRM, of a timer that the method has set \(rude\.py, line \d+\)",
}
LEFT_BEHIND = {
    "dtype": "changed torch's default dtype: torch.float32 to torch.float64",
    "grad": "changed torch's gradients: True to False",
    "threads": "changed torch's threads: ",
    "deterministic": "changed torch's deterministic mode: 0 to 2",
    "folder": "changed the working directory: ",
    "handler": "changed handlers of signals: SIGTERM",
    "thread": "left a thread running (Thread-",
    "timer": "changed timers: ITIMER_REAL",
    "mask": "changed blocked signals: SIGTERM",
}
WARNED = {
    "environment": "changed environment variables: RUDE",
    "warnings": "changed filters of warnings: all of them silenced",
    "path": "changed Python's path: /nowhere",
    "seed": "changed torch's seed: 0 to 42",
    "thread-throws": "a thread ended in ValueError: unseen (rude.py, line ",
}
FAILING = [
    ("init", "exit"),
    ("late", "exit"),
    ("diagnose", "exit"),
    ("loss", "base"),
    ("late", "keyboard"),
    ("late", "dtype"),
    ("after", "grad"),
    ("late", "threads"),
    ("after", "deterministic"),
    ("encoder", "folder"),
    ("late", "handler"),
    ("late", "os-exit"),
    ("late", "thread"),
    ("late", "timer"),
    ("late", "alarm"),
    ("diagnose", "mask"),
]
RARER = [
    ("loss", "exit"),
    ("after", "exit"),
    ("encoder", "exit"),
    ("diagnose", "keyboard"),
    ("diagnose", "dtype"),
    ("loss", "threads"),
    ("late", "folder"),
    ("loss", "os-exit"),
    ("late", "posix-exit"),
]
WARNING = [
    ("init", "environment"),
    ("late", "warnings"),
    ("diagnose", "path"),
    ("late", "seed"),
    ("late", "thread-throws"),
]


def label(where: str, what: str) -> str:
    return f"rude:where={where},what={what}"


@dataclass(frozen=True)
class Finished:
    """A run of the plugin's variants; weights are hashed."""

    outcome: Outcome
    records: dict[str, RunRecord]
    weights: dict[str, str]


def finished(folder: Path, methods: str, *more: str | Path) -> Finished:
    arguments = (
        "--dataset",
        small_file(folder),
        "--plugin",
        plugin_file(folder, "rude", RUDE),
        "--methods",
        methods,
    )
    outcome = harness("run", *SMALL, *arguments, "--out", folder / "out", *more)
    records = {record.label: record for record in RecordStore(folder / "out").runs()}
    paths = {
        name: folder / "out" / record.address / "encoder.safetensors"
        for name, record in records.items()
    }
    weights = {name: hash_of(path) for name, path in paths.items() if path.exists()}
    return Finished(outcome, records, weights)


def hash_of(path: Path) -> str:
    """Of the tensors: the file says where the data lay."""
    tensors = sorted(load_file(path).items())
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for _, tensor in tensors)).hexdigest()


def state() -> list[Any]:
    return [setting.get() for setting in SETTINGS]


@pytest.fixture(scope="module")
def rude(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Well-behaved rows first and last, every kind of rude one between them."""
    return all_in_one(tmp_path_factory.mktemp("rude"), [*FAILING, *WARNING, ("late", "numbers")])


@pytest.fixture(scope="module")
def rarer(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The same deeds at other places."""
    return all_in_one(tmp_path_factory.mktemp("rarer"), RARER)


def all_in_one(folder: Path, deeds: list[tuple[str, str]]) -> Finished:
    select_device("cpu")  # sets the precision of products once and for all
    torch.manual_seed(12345)  # no command's own
    before, methods = state(), ["rude", *(label(*deed) for deed in deeds), "encoder-only"]
    with pytest.MonkeyPatch.context() as patch:
        count_once(patch)
        found = finished(folder, ",".join(methods))
    assert state() == before
    return found


LATER = {"late", "encoder", "diagnose"}
"""Where nothing is done before a training."""


def count_once(patch: pytest.MonkeyPatch) -> None:
    """What steps cost and give away is that of the well-behaved row, where deeds come later."""

    def polite(spec: RunSpec) -> RunSpec:
        later = spec.method.options.get("where") in LATER
        return spec.model_copy(update={"method": MethodSpec(name="rude")}) if later else spec

    def counted(count: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *methods_spec_layout: count(
            *(polite(one) if isinstance(one, RunSpec) else one for one in methods_spec_layout)
        )

    class Trial(measurement.Trial):
        def doubts(self) -> Any:
            return super(Trial, replace(self, spec=polite(self.spec))).doubts()

    for name in ("step_flops", "forward_shares", "bound_flops"):
        patch.setattr(measurement, name, counted(getattr(measurement, name)))
    patch.setattr(measurement, "Trial", Trial)


@pytest.fixture(scope="module")
def polite(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The well-behaved rows alone."""
    return finished(tmp_path_factory.mktemp("polite"), "rude,encoder-only")


def test_every_row_has_a_record_and_a_failure_is_exit_code_1(rude: Finished) -> None:
    assert (rude.outcome.code, rude.outcome.err) == (1, "")
    assert len(rude.records) == 2 + 2 + len(FAILING) + len(WARNING) + 1


@pytest.mark.parametrize("name", ["rude", "encoder-only", "random-init", "raw-pca"])
def test_the_others_are_unharmed(rude: Finished, polite: Finished, name: str) -> None:
    one, other = rude.records[name], polite.records[name]
    assert (one.status, one.accuracy, one.warnings) == ("ok", other.accuracy, ())
    assert rude.weights.get(name) == polite.weights.get(name)


@pytest.mark.parametrize(("where", "what"), FAILING)
def test_a_fault_ends_in_its_own_row(rude: Finished, where: str, what: str) -> None:
    ends_in_its_own_row(rude, where, what)


@pytest.mark.long
@pytest.mark.parametrize(("where", "what"), RARER)
def test_a_fault_at_another_place_ends_in_its_own_row(
    rarer: Finished, where: str, what: str
) -> None:
    ends_in_its_own_row(rarer, where, what)


def ends_in_its_own_row(rude: Finished, where: str, what: str) -> None:
    record = rude.records[label(where, what)]
    assert (record.status, record.accuracy) == ("failed", None)
    if what in THROWN:
        assert re.fullmatch(THROWN[what], record.error)
    else:
        said = [
            record.error,
            *record.warnings,
        ]  # it may have thrown something because of what it changed
        assert any(text.startswith(LEFT_BEHIND[what]) for text in said)
    assert f"failed: {record.label}, seed 0: {record.error}" in rude.outcome.out


@pytest.mark.parametrize(("where", "what"), WARNING)
def test_what_harms_nobody_is_a_warning_in_its_row(rude: Finished, where: str, what: str) -> None:
    record = rude.records[label(where, what)]
    assert record.status == "ok"
    assert any(text.startswith(WARNED[what]) for text in record.warnings)
    assert f"warning: {record.label}, seed 0: {WARNED[what]}" in rude.outcome.out


def test_random_numbers_of_python_and_numpy_are_the_rows_own(rude: Finished) -> None:
    assert rude.records[label("late", "numbers")].status == "ok"


# --- while it is loaded ---


BROKEN_IMPORTS = {
    "exit": ("raise SystemExit(0)\n", r"SystemExit: 0 \(badexit\.py, line 1\)"),
    "keyboard": ("raise KeyboardInterrupt\n", r"KeyboardInterrupt \(badkeyboard\.py, line 1\)"),
    "syntax": ("def broken(:\n", "SyntaxError"),
    "dtype": (
        "import torch\ntorch.set_default_dtype(torch.float64)\n",
        "changed torch's default dtype",
    ),
    "about": (
        (
            "from methods.base import About, Method\n\nclass Bad(Method):\n    about = About('Bad',"
            " paper=5)\n"
        ),
        r"about\.paper: Input should be a valid string, found 5",
    ),
    "division": (
        (
            "from methods.base import About, Method\n\nclass B(Method):\n    about = About('B',"
            " 'none', division='odd')\n"
        ),
        r"about\.division: Input should be 'closed' or 'open', found 'odd'",
    ),
    "no about": (
        "from methods.base import Method\n\nclass Bad(Method):\n    about = 'nothing'\n",
        r"about: expected an About\(title=\.\.\., paper=\.\.\.\), found 'nothing'",
    ),
    "options": (
        (
            "import sys\nfrom methods.base import About, Method, MethodOptions\n\nclass"
            " Options(MethodOptions):\n    def resolved(self, encoder):\n       "
            " sys.exit(0)\n\nclass Bad(Method):\n    about = About('Bad', 'none')\n    Options ="
            " Options\n"
        ),
        r"options: SystemExit: 0 \(badoptions\.py, line 6\)",
    ),
    "required option": (
        (
            "from methods.base import About, Method, MethodOptions\n\nclass"
            " Options(MethodOptions):\n    size: int\n\nclass Bad(Method):\n    about ="
            " About('Bad', 'none')\n    Options = Options\n"
        ),
        "options: ",
    ),
}


IN_A_RUN = [name for name in BROKEN_IMPORTS if name != "required option"]


def module_of(name: str) -> str:
    return f"bad{name}".replace(" ", "")


@pytest.fixture(scope="module")
def unusable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunRecord]:
    """A run of all of them and one method that is well."""
    folder = tmp_path_factory.mktemp("unusable")
    files = [plugin_file(folder, module_of(name), BROKEN_IMPORTS[name][0]) for name in IN_A_RUN]
    found = harness(
        "run",
        *SMALL,
        "--dataset",
        small_file(folder),
        *(word for file in files for word in ("--plugin", file)),
        "--methods",
        ",".join([*map(module_of, IN_A_RUN), "encoder-only"]),
        "--baseline",
        "encoder-only",
        "--out",
        folder / "out",
    )
    assert (found.code, found.err) == (1, "")
    assert torch.get_default_dtype() == torch.float32
    return {record.label: record for record in RecordStore(folder / "out").runs()}


@pytest.mark.parametrize("name", IN_A_RUN)
def test_a_plugin_that_cannot_be_used_is_a_row_that_failed(
    unusable: dict[str, RunRecord], name: str
) -> None:
    record, reason = unusable[module_of(name)], BROKEN_IMPORTS[name][1]
    assert record.status == "failed"
    assert re.search(reason, record.error), record.error


def test_plugins_that_cannot_be_used_leave_the_others_alone(unusable: dict[str, RunRecord]) -> None:
    assert unusable["encoder-only"].status == "ok"


@pytest.mark.parametrize(
    "command", [("check-method", "bad"), ("ls", "methods"), ("run", "--methods", "gfp")]
)
@pytest.mark.parametrize("name", ["exit", "keyboard", "dtype"])
def test_elsewhere_a_plugin_that_does_not_load_is_one_line(
    name: str, command: tuple[str, ...], tmp_path: Path
) -> None:
    found = harness(*command, "--plugin", plugin_file(tmp_path, "bad", BROKEN_IMPORTS[name][0]))
    assert (found.code, found.err.count("\n")) == (2, 1)
    assert f"plugin {tmp_path / 'bad.py'} did not load: " in found.err
    assert "bad" not in sys.modules


@pytest.mark.parametrize("name", ["about", "no about", "required option"])
def test_methods_are_listed_beside_one_that_cannot_be_described(name: str, tmp_path: Path) -> None:
    plugin = plugin_file(tmp_path, "bad", BROKEN_IMPORTS[name][0])
    found = harness("ls", "methods", "--plugin", plugin)
    assert (found.code, found.err) == (0, "")
    assert "cannot be described" in found.out
    assert "skeletonmae" in found.out


EXITS_IN_OPTIONS = """
import sys
from pydantic import Field
from methods.base import About, Method, MethodOptions

class Options(MethodOptions):
    size: int = Field(default_factory=lambda: sys.exit(0))

class Bad(Method):
    about = About('Bad', 'none')
    Options = Options
"""


def test_a_method_whose_options_end_the_process_is_one_line_when_it_is_checked(
    tmp_path: Path,
) -> None:
    found = harness(
        "check-method", "bad", "--plugin", plugin_file(tmp_path, "bad", EXITS_IN_OPTIONS)
    )
    assert (found.code, found.out) == (2, "")
    assert found.err == "error: method bad: its options fail: SystemExit: 0 (bad.py, line 7)\n"


# --- losses without a matrix product ---


ODD = """
import torch
from torch import nn
from methods.base import About, Method, MethodOptions

class Options(MethodOptions):
    constant: bool = False

class Odd(Method):
    about = About("Odd", "none")
    Options = Options

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.scale = nn.Parameter(torch.ones(3))

    def loss(self, x):
        if self.options.constant:
            return torch.zeros((), requires_grad=True), {}
        return (self.scale * x).square().mean(), {}
"""


def test_a_loss_without_a_matrix_product_stands_without_a_flop_ratio(tmp_path: Path) -> None:
    methods = "odd,odd:constant=true,encoder-only"
    found = harness(
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin_file(tmp_path, "odd", ODD),
        "--methods",
        methods,
        "--baseline",
        "encoder-only",
        "--out",
        tmp_path / "out",
    )
    assert (found.code, found.err) == (1, "")
    records = {record.label: record for record in RecordStore(tmp_path / "out").runs()}
    assert {name: record.status for name, record in records.items() if "odd" in name} == {
        "odd": "ok",
        "odd:constant=true": "failed",
    }
    assert "the loss reaches no parameter" in records["odd:constant=true"].error
    (speed,) = RecordStore(tmp_path / "out").speeds()
    arm, bound = speed.arm("odd"), speed.arm("encoder-only")
    assert arm is not None
    assert bound is not None
    assert (arm.step_flops, arm.flop_ratio, bound.flop_ratio) == (0, None, 1)


def test_a_baseline_without_a_matrix_product_leaves_every_ratio_of_flops_out(
    tmp_path: Path,
) -> None:
    arguments = (
        "--dataset",
        small_file(tmp_path),
        "--plugin",
        plugin_file(tmp_path, "odd", ODD),
        "--methods",
        "odd,encoder-only",
        "--out",
        tmp_path / "out",
    )
    found = harness("run", *SMALL, *arguments, "--budget", "1e6flops")
    assert (found.code, found.err) == (1, "")
    assert (
        "failed: odd, seed 0: budget 1e+06flops: a step of this method takes no FLOPs" in found.out
    )
    (speed,) = RecordStore(tmp_path / "out").speeds()
    assert [arm.flop_ratio for arm in speed.arms] == [None, None]


def test_a_budget_that_a_step_takes_nothing_of_buys_no_steps() -> None:
    with pytest.raises(MethodFault, match="budget 10flops: a step of this method takes no FLOPs"):
        Budget(10, "flops").steps(StepCost(epochs=0.1, clips=1, seconds=1, flops=0))


# --- the guard itself ---


def test_a_guard_passes_what_is_an_exception(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), Guard()("training"):
        raise ValueError("mine")


def test_a_guard_puts_back_what_was_changed_before_an_exception() -> None:
    guard = Guard()

    def fail() -> None:
        torch.set_default_dtype(torch.float64)
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), guard("training"):
        fail()
    assert torch.get_default_dtype() == torch.float32
    assert guard.warnings == [
        "changed torch's default dtype: torch.float32 to torch.float64 (training)"
    ]


def test_without_a_handler_of_signals_a_keyboard_interrupt_is_the_users() -> None:
    with pytest.raises(KeyboardInterrupt), Guard()("training"):
        raise KeyboardInterrupt
    with stoppable(), pytest.raises(MethodFault), Guard()("training"):
        raise KeyboardInterrupt


def test_a_stop_that_a_method_swallows_is_raised_after_its_call() -> None:
    with (
        stoppable(),
        pytest.raises(Stopped),
        Guard()("training"),
        contextlib.suppress(BaseException),
    ):
        signal.raise_signal(signal.SIGTERM)


def test_a_guard_warns_once() -> None:
    guard = Guard()
    for _ in range(2):
        with guard("training"):
            os.environ["RUDE"] = "1"
    assert guard.warnings == ["changed environment variables: RUDE (training)"]


def test_a_library_may_add_filters_for_its_own_warnings() -> None:
    guard, before = Guard(), list(warnings.filters)
    with guard("import"):
        warnings.filterwarnings("ignore", message="a library's own")
    assert guard.warnings == []
    assert list(warnings.filters) == before


def test_variables_that_torch_sets_by_itself_are_nobodys_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = Guard()
    names = ("TORCHINDUCTOR_CACHE_DIR", "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    with guard("warm-up"):
        for name in names:
            os.environ[name] = "/somewhere"
    assert guard.warnings == []
    for name in names:
        monkeypatch.delenv(name)


def test_a_path_that_a_library_adds_for_itself_is_nobodys_fault() -> None:
    guard = Guard()
    with guard("warm-up"):
        sys.path.append("/nowhere/site-packages/setuptools/_vendor")
    assert guard.warnings == []
    with guard("warm-up"):
        sys.path.append("/nowhere/mine")
    assert guard.warnings == ["changed Python's path: /nowhere/mine (warm-up)"]


def test_a_guard_works_outside_the_main_thread() -> None:
    found: list[str] = []

    def call() -> None:
        guard = Guard()
        with guard("training"):
            os.environ["RUDE"] = "1"
        found.extend(guard.warnings)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert found == ["changed environment variables: RUDE (training)"]


def drawn() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002


def test_random_numbers_begin_at_the_seed_and_go_on_outside_as_they_were() -> None:
    with seeded(3):
        drawn()
        expected = drawn()
        with seeded(3):
            first = drawn()
        assert drawn() != expected
    with seeded(3):
        assert drawn() == first
        with seeded(7):
            drawn()
        assert drawn() == expected


def test_gpus_that_are_set_up_inside_begin_outside_at_the_callers_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there, seeds = [False], list[int]()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: there[0])
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        with seeded(3):
            there[0] = True
        assert (seeds[-2:], torch.initial_seed()) == ([3, 7], 7)


def test_a_message_that_cannot_be_read_is_still_one_line() -> None:
    class Unreadable(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert one_line(Unreadable()) == "Unreadable: a message that cannot be read"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, ""),
        ({"deviations": ["a list will do"]}, ""),
        ({"paper": 5}, "about.paper: Input should be a valid string, found 5"),
        ({"epochs": "many"}, "about.epochs: "),
        ({"choices": "one"}, "about.choices: "),
    ],
)
def test_words_about_a_method_are_checked(changes: dict[str, Any], problem: str) -> None:
    class Described(Method):
        about = About(**{"title": "Described", "paper": "none", **changes})

    found = problem_of_about(Described)
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


entered = contextlib.ExitStack()
"""Keeps contexts open, as a method that holds on to one does."""

SETTERS: dict[str, Callable[[], Any]] = {
    "torch's inference mode": lambda: entered.enter_context(torch.inference_mode()),
    "flushing of denormal numbers": lambda: torch.set_flush_denormal(True),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "torch's anomaly detection": lambda: torch.autograd.set_detect_anomaly(True),
    "autocast (cpu)": lambda: torch.autocast("cpu", torch.bfloat16).__enter__(),
    "torch's matmul precision": lambda: torch.set_float32_matmul_precision("high"),
    "cuDNN's benchmark mode": lambda: setattr(torch.backends.cudnn, "benchmark", True),
    "flash attention": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "garbage collection": gc.disable,
}


@pytest.mark.parametrize("name", SETTERS)
def test_what_others_depend_on_is_put_back_and_a_fault(name: str) -> None:
    if name == "flushing of denormal numbers" and not torch.set_flush_denormal(False):
        pytest.skip("this processor cannot flush denormal numbers")
    before = state()
    with pytest.raises(MethodFault, match=re.escape(f"changed {name}: ")), Guard()("training"):
        SETTERS[name]()
    assert state() == before
    weights = torch.ones(2, 2, requires_grad=True)
    for expected in (2.0, 4.0):  # autocast keeps no weights of before
        with torch.autocast("cpu", torch.bfloat16):
            assert (torch.ones(1, 2) @ weights)[0, 0].item() == expected
        with torch.no_grad():
            weights.mul_(2)


def load_with_a_worker() -> None:
    """As a method does while it is warmed up."""
    with Guard()("warming up"):
        assert len(list(DataLoader(range(4), num_workers=1, multiprocessing_context="fork"))) == 4


@needs_fork
def test_a_first_loader_with_workers_is_no_fault_of_the_method() -> None:
    """torch then sets a handler of its own, once in a process: a fresh one,
    as other tests have had loaders.
    """
    process = multiprocessing.get_context(start_method()).Process(target=load_with_a_worker)
    process.start()
    process.join()
    assert process.exitcode == 0
