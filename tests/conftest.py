"""What every test can rely on: one thread, Ctrl-C, no disturbance by neighbours,
nothing of the user's own data.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from tests import checked_shapes

checked_shapes.install()  # before anything of ours is imported

from harness import progress  # noqa: E402
from harness.records.schema import Doubt  # noqa: E402
from harness.runs import estimates  # noqa: E402
from harness.speed import disturbance as health  # noqa: E402
from harness.speed import few_steps, measurement, peak  # noqa: E402
from harness.speed import interleave as speed  # noqa: E402


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Number bytes and long texts: one that holds the time would be another test
    in every process that collects it.
    """
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 60) else None


@pytest.fixture(autouse=True)
def _shapes_are_checked_again() -> Iterator[None]:
    """What one test called with the right shapes is checked in the next one too."""
    yield
    checked_shapes.checked_calls.clear()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Tensors of tests are tiny, and timings then depend on nothing else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _signals_arrive() -> Iterator[None]:
    """A shell starts what runs in its background with SIGINT ignored, ``nohup`` with SIGHUP,
    and so are children.
    """
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler)}
    if hasattr(signal, "SIGHUP"):
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's prepared data sets and cached files are neither seen nor written."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MASKED_SKELETON_DATA", str(folder / "data"))
        patch.setenv("MASKED_SKELETON_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(autouse=True, scope="session")
def _no_line_because_of_a_slow_machine() -> Iterator[None]:
    """What a command prints does not depend on how long this machine takes;
    tests of progress choose their own interval.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "QUIET_SECONDS", 1e9)
        yield


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_made_for_each_command() -> Iterator[None]:
    """The command line is built once. Files need not outlive a power cut. For every seed, torch
    would note the stack of calls for each kind of device that is not there.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        patch.setattr(os, "fsync", lambda _: None)
        for device in (torch.cuda, torch.xpu, torch.mtia):
            if not device.is_available():
                patch.setattr(device, "manual_seed_all", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _quick_and_undisturbed_speed() -> Iterator[None]:
    """The fewest rounds, a small matrix product;
    no block is timed again because of tests that run beside.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "FOREIGN_SHARE", 2.0)
        patch.setattr(speed, "MAXIMUM_ROUNDS", speed.MINIMUM_ROUNDS)
        patch.setitem(peak.SIZE, "cpu", 64)
        yield


@pytest.fixture(autouse=True, scope="session")
def _methods_are_counted_once() -> Iterator[None]:
    """What a step of a method costs and gives away is the same in every run:
    most of a small run's time. Trial steps of a plugin are made in every one, for their warnings.
    """
    known = once(measurement.Trial.doubts, lambda trial: (trial.method, trial.spec, trial.layout))

    class Trial(measurement.Trial):
        def doubts(self) -> list[Doubt]:
            own = self.method.__module__.startswith("methods.")
            return known(self) if own else super().doubts()

    with pytest.MonkeyPatch.context() as patch:
        for name in ("step_flops", "forward_shares", "bound_flops"):
            counted = once(getattr(measurement, name), lambda *arguments: arguments)
            for module in (measurement, few_steps, estimates):
                if hasattr(module, name):
                    patch.setattr(module, name, counted)
        patch.setattr(measurement, "Trial", Trial)
        yield


def once(
    function: Callable[..., Any], told_by: Callable[..., tuple[Any, ...]]
) -> Callable[..., Any]:
    """The function, called once for each method, spec (whatever its data and budget)
    and layout of `told_by`.
    """
    known: dict[tuple[object, ...], Any] = {}

    def remembered(*arguments: Any) -> Any:
        *methods, spec, layout = told_by(*arguments)
        texts = [text_of(method) for method in methods]
        if not all(texts):
            return function(*arguments)
        train = spec.train.model_dump_json(exclude={"budget"})
        key = (
            *texts,
            spec.method.model_dump_json(),
            spec.encoder.model_dump_json(),
            train,
            repr(layout),
        )
        if key not in known:
            known[key] = function(*arguments)
        return known[key]

    return remembered


def text_of(method: type) -> str:
    """What a method of the suite or of a plugin computes by: its name, and its module's text, as
    every command loads a plugin anew. Empty for a test's own class.
    """
    module = method.__module__
    if module.startswith("methods."):
        return f"{module}.{method.__qualname__}"
    file = getattr(sys.modules.get(module), "__file__", None)
    if module.startswith("tests.") or file is None:
        return ""
    return f"{module}.{method.__qualname__}\n{Path(file).read_text(encoding='utf-8')}"
