"""The state of a run that is under way: written while it trains, found again by the command that continues it.

Beside the record that the run will have, two files a state, of which the second makes the first one count::

    runs/<address>/state-000001200.safetensors     weights, optimiser, batches, random numbers, losses begun
    runs/<address>/state-000001200.json            a RunState: clock, curve, accuracies, and the first file's SHA-256

The last two are kept, so that one which was cut off costs an interval and not the run. A run that continues ends bit
for bit as if it had never stopped, on the same machine with the same versions and threads.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from harness.records.part import Count, NotNegative, Part
from harness.records.schema import Accuracy, Continuation, Doubt, Environment, Point, Training
from harness.records.store import file_hash, set_aside, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
DEAREST = 0.01
"""Share of a run's time that its states may cost."""


class RunState(Part):
    """What a run had found out when its state was written, beside the tensors.

    Attributes:
        versions: of the code that made it, as in a record's `MethodInfo`.
        clock: seconds per phase on the training clock.
        wall_seconds: since the run began, all its processes added.
        sha256: of the tensors' file.
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
    doubts: tuple[Doubt, ...] = ()
    continued: tuple[Continuation, ...] = ()
    started: datetime
    written: datetime
    sha256: str = Field(default="")


@dataclass(frozen=True)
class Saved:
    """A state that was found: what stands in its two files."""

    state: RunState
    tensors: dict[str, Tensor]


def write_state(folder: Path, state: RunState, tensors: Mapping[str, Tensor]) -> None:
    """Write a state into a run's folder, and remove all but the last two."""
    from safetensors.torch import save

    path = folder / f"state-{state.step:09d}.safetensors"
    write_atomically(path, save(dict(tensors)))
    whole = state.model_copy(update={"sha256": file_hash(path)})
    write_atomically(path.with_suffix(".json"), (whole.model_dump_json() + "\n").encode())
    for old in state_files(folder)[:-KEPT]:
        remove(old)


def find_state(folder: Path, address: str, versions: Mapping[str, str]) -> tuple[Saved | None, list[str]]:
    """The newest state of a run that can be continued, and a line for each that cannot, which is set aside."""
    lines: list[str] = []
    for path in reversed(state_files(folder)):
        try:
            return read_state(path, address, versions), lines
        except Unusable as problem:
            kept = [set_aside(file).name for file in (path, path.with_suffix(".safetensors")) if file.exists()]
            lines.append(f"state {path}: {problem}; kept as {' and '.join(kept)}, not continued")
    return None, lines


def usable_state(folder: Path, address: str, versions: Mapping[str, str]) -> RunState | None:
    """The state that `find_state` would find; nothing is set aside."""
    for path in reversed(state_files(folder)):
        with suppress(Unusable):
            return read_state(path, address, versions).state
    return None


class Unusable(Exception):
    """A state that no run can be continued from, and why."""


def read_state(path: Path, address: str, versions: Mapping[str, str]) -> Saved:
    """What stands in a state's files; `Unusable` where they are damaged, of another run or of other code."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        state = RunState.model_validate_json(path.read_bytes())
        content = path.with_suffix(".safetensors").read_bytes()
    except ValidationError:
        raise Unusable("damaged") from None
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from None
    if state.address != address:
        raise Unusable(f"is one of {state.address}")
    if state.versions != dict(versions):
        names = [name for name in {**state.versions, **versions} if state.versions.get(name) != versions.get(name)]
        raise Unusable(f"{', '.join(sorted(names))} changed since")
    if file_hash(path.with_suffix(".safetensors")) != state.sha256:
        raise Unusable("damaged (SHA-256)")
    try:
        return Saved(state, load(content))
    except SafetensorError:
        raise Unusable("damaged") from None


def state_files(folder: Path) -> list[Path]:
    """The JSON files of all states of a run, the oldest first."""
    return sorted(folder.glob("state-[0-9]*[0-9].json"))


def remove_states(folder: Path) -> None:
    """Remove every state of a run: it is done, or begins anew."""
    for path in [*state_files(folder), *folder.glob("state-[0-9]*[0-9].safetensors")]:
        remove(path)


def remove(path: Path) -> None:
    """Remove a state's two files, first the one that makes it count."""
    path.with_suffix(".json").unlink(missing_ok=True)
    path.with_suffix(".safetensors").unlink(missing_ok=True)


@dataclass
class Interval:
    """When the next state is due.

    Args:
        seconds: between two.

    Attributes:
        cost: seconds that the last one took. Where states are slow the interval stretches, so that they never cost more
            than a hundredth of the time.
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
        return self.cost / DEAREST

    @property
    def may(self) -> bool:
        """One more would not cost too much."""
        return time.monotonic() - self.last >= self.affordable

    def wrote(self, seconds: float) -> None:
        """One was written, which took so long."""
        self.cost, self.last = seconds, time.monotonic()
