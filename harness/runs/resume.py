"""The state of a run that is under way: written while it trains, found again by the command that
continues it.

Beside the record that the run will have, two files a state, of which the second makes the first one
count::

    runs/<address>/state-000001200.safetensors     weights, optimiser, batches, random numbers
    runs/<address>/state-000001200.json            a RunState: clock, curve, the other's SHA-256

The last two are kept, so that one which was cut off costs an interval and not the run. A run that
continues ends bit for bit as if it had never stopped, on the same machine with the same versions
and threads.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, Field, ValidationError

from harness.records.part import Count, NotNegative, RecordPart
from harness.records.schema import Accuracy, Continuation, Doubt, Environment, Point, Training
from harness.records.store import STATE_NAME, read_file, set_aside, write_atomically
from harness.spec.model import digest

if TYPE_CHECKING:
    from torch import Tensor

_KEPT = 2
_DEAREST = 0.01
"""Share of a run's time that its states may cost."""


class RunState(RecordPart):
    """What a run had found out when its state was written, beside the tensors.

    Attributes:
        versions: of the code that made it, as in a record's `MethodInfo`.
        clock: seconds per phase on the training clock.
        wall_seconds: since the run began, all its processes added.
        sha256: of the tensors' file.
        seal: digest of the rest.
        warnings: of the last diagnosis.
        guarded: what the method changed that harms nobody.
        unlike: why the ranks that trained it do not train to the weights of one process.
        continued: where processes before this one took the run up.
    """

    address: str
    step: Count
    steps: Count
    versions: dict[str, str]
    environment: Environment
    clock: dict[str, NotNegative]
    phases: dict[str, float]
    wall_seconds: NotNegative
    training: Training | None
    curve: list[Point]
    accuracy: Accuracy | None
    untrained: Accuracy | None
    warnings: tuple[str, ...]
    guarded: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    continued: tuple[Continuation, ...] = ()
    started: AwareDatetime
    written: AwareDatetime
    sha256: str = Field(default="")
    seal: str = Field(default="")

    @property
    def sealed(self) -> RunState:
        """With the digest of all the rest, by which damage shows."""
        return self.model_copy(update={"seal": digest(self.model_dump_json(exclude={"seal"}))})


@dataclass(frozen=True)
class Saved:
    """A state that was found: what stands in its two files, of which `path` is the JSON."""

    path: Path
    state: RunState
    tensors: dict[str, Tensor]


def write_state(folder: Path, state: RunState, tensors: Mapping[str, Tensor]) -> None:
    """Write a state into a run's folder, and remove all but the last two."""
    from safetensors.torch import save

    path, content = free_name(folder, state.step), save(dict(tensors))
    write_atomically(path, content)
    whole = state.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()}).sealed
    write_atomically(path.with_suffix(".json"), (whole.model_dump_json() + "\n").encode())
    files = state_files(folder)
    for old in files[:-_KEPT]:
        _remove(old)
    for tensors_alone in set(_tensor_files(folder)) - {
        file.with_suffix(".safetensors") for file in files
    }:
        tensors_alone.unlink(missing_ok=True)  # of a process that was killed between the two files


def free_name(folder: Path, step: int) -> Path:
    """The tensors' file of the next state at a step. None is written over:
    a kill between the two files damages it.
    """
    numbers = [
        int(found[2] or 0)
        for found in map(_parts_of_name, state_files(folder))
        if int(found[1]) == step
    ]
    again = f".{max(numbers) + 1}" if numbers else ""
    return folder / f"state-{step:09d}{again}.safetensors"


def find_state(
    folder: Path, address: str, versions: Mapping[str, str], steps: int
) -> tuple[Saved | None, list[str]]:
    """The newest state of a run that can be continued, and a line for each that cannot,
    which is set aside.
    """
    lines: list[str] = []
    for path in reversed(state_files(folder)):
        try:
            return _read_state(path, address, versions, steps), lines
        except Unusable as problem:
            lines.append(refuse_state(path, problem))
    return None, lines


def refuse_state(path: Path, problem: Unusable) -> str:
    """Set a state aside; a line that says so."""
    kept = [
        set_aside(file).name for file in (path, path.with_suffix(".safetensors")) if file.exists()
    ]
    return f"state {path}: {problem}; kept as {' and '.join(kept)}, not continued"


def usable_state(folder: Path, address: str, versions: Mapping[str, str]) -> RunState | None:
    """The state that `find_state` would find; nothing is set aside."""
    for path in reversed(state_files(folder)):
        with suppress(Unusable):
            return _read_state(path, address, versions).state
    return None


class Unusable(Exception):
    """A state that no run can be continued from, and why."""


def _read_state(
    path: Path, address: str, versions: Mapping[str, str], steps: int | None = None
) -> Saved:
    """What stands in a state's files; `Unusable` where they are damaged, of another run or other
    code.

    Args:
        steps: of the schedule that is to go on, where that is known.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = RunState.model_validate_json(read_file(path))
        content = read_file(path.with_suffix(".safetensors"))
    except ValidationError:
        raise Unusable("damaged") from None
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None
    if state.seal != state.sealed.seal:
        raise Unusable("damaged (its digest)")
    if state.address != address:
        raise Unusable(f"is one of {state.address}")
    if state.versions != dict(versions):
        names = [
            name
            for name in {**state.versions, **versions}
            if state.versions.get(name) != versions.get(name)
        ]
        raise Unusable(f"{', '.join(sorted(names))} changed since")
    if steps not in (None, state.steps):
        raise Unusable(f"is one of {state.steps:,} steps, which are {steps:,} now")
    if hashlib.sha256(content).hexdigest() != state.sha256:
        raise Unusable("damaged (SHA-256)")
    try:
        return Saved(path, state, load(content))
    except SafetensorError:
        raise Unusable("damaged") from None


def state_files(folder: Path) -> list[Path]:
    """The JSON files of all states of a run, the oldest first."""
    found = [path for path in folder.glob("state-*.json") if STATE_NAME.fullmatch(path.stem)]
    return sorted(
        found, key=lambda path: (int(_parts_of_name(path)[1]), int(_parts_of_name(path)[2] or 0))
    )


def _tensor_files(folder: Path) -> list[Path]:
    """The tensors' files of all states of a run; what was set aside is none of them."""
    return [path for path in folder.glob("state-*.safetensors") if STATE_NAME.fullmatch(path.stem)]


def _parts_of_name(path: Path) -> re.Match[str]:
    """A state's step, and how many there were before at that step."""
    found = STATE_NAME.fullmatch(path.stem)
    assert found
    return found


def remove_states(folder: Path) -> None:
    """Remove every state of a run: it is done, or begins anew."""
    for path in [*state_files(folder), *_tensor_files(folder)]:
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a state's two files, first the one that makes it count."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.with_suffix(".safetensors").unlink(missing_ok=True)


@dataclass
class Interval:
    """When the next state is due.

    Args:
        seconds: between two.

    Attributes:
        cost: seconds that the last one took. Where states are slow the interval stretches, so that
            they never cost more than a hundredth of the time.
    """

    seconds: float
    cost: float = 0.0
    last: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """So long has passed since the last one."""
        return time.monotonic() - self.last >= max(self.seconds, self.affordable)

    @property
    def affordable(self) -> float:
        """Seconds between two that keep their cost low."""
        return self.cost / _DEAREST

    @property
    def may(self) -> bool:
        """One more would not cost too much."""
        return time.monotonic() - self.last >= self.affordable

    def wrote(self, seconds: float) -> None:
        """One was written, which took so long."""
        self.cost, self.last = seconds, time.monotonic()
