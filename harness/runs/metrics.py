"""`metrics.jsonl`: a line for every block of training and every evaluation of a run, while it goes
on.

    {"step": 200, "clips": 9143.0, "seconds": 31.2, "loss": 0.41, "coordinates": 0.41}
    {"step": 1000, "clips": 45714.0, "seconds": 156.1, "linear": 0.71, "knn": 0.58}

With ``--tensorboard`` the same numbers go into event files beside it, for TensorBoard.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.records.schema import Point, Training
from harness.records.store import METRICS_FILE, read_file


class Metrics:
    """Writes a run's numbers as they come.

    Args:
        folder: of the run.
        done, evaluations: how far it has come. What an earlier process wrote beyond is done again,
            and goes.
        tensorboard: write event files too.
    """

    def __init__(
        self, folder: Path, done: int = 0, evaluations: int = 0, *, tensorboard: bool = False
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / METRICS_FILE
        kept = list(_lines_until(self.path, done, evaluations))
        with contextlib.suppress(OSError):
            self.path.write_text("".join(map(_line, kept)), encoding="utf-8")
        self.events = _event_writer(folder) if tensorboard else None

    def __call__(self, values: Mapping[str, float]) -> None:
        """Add a line; a disk that is full costs the line, whose numbers the record has as well."""
        with contextlib.suppress(OSError), self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line(values))
        if self.events:
            for name, value in values.items():
                if name not in ("step", "clips"):
                    self.events.add_scalar(name, value, int(values["step"]))
            self.events.flush()


def _lines_until(path: Path, done: int, evaluations: int) -> Iterator[dict[str, float]]:
    """The lines of a file up to a step and a number of evaluations;
    what is cut off or damaged ends it.
    """
    if not path.exists():
        return
    for text in read_file(path).decode("utf-8", errors="replace").splitlines():
        try:
            values = {name: float(value) for name, value in json.loads(text).items()}
        except (ValueError, AttributeError, TypeError):
            return
        evaluations -= "linear" in values
        if values.get("step", math.inf) > done or evaluations < 0:
            return
        yield {**values, "step": int(values["step"])}


def _line(values: Mapping[str, float]) -> str:
    """A line of JSON; numbers that are not finite, which JSON does not know, as strings."""
    return (
        json.dumps(
            {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
        )
        + "\n"
    )


def of_block(training: Training) -> dict[str, float]:
    """What a training block adds."""
    means = training.losses[-1]
    return {
        **means,
        "step": training.steps,
        "clips": training.clips_seen,
        "seconds": training.seconds,
    }


def of_evaluation(point: Point) -> dict[str, float]:
    """What an evaluation adds."""
    found = point.accuracy
    selection = {} if found.selection is None else {"selection": found.selection}
    return {
        "step": point.step,
        "clips": point.clips_seen,
        "seconds": point.seconds,
        "linear": found.linear_test,
        "knn": found.knn_test,
        **selection,
        **point.diagnosis,
    }


def _event_writer(folder: Path) -> Any:
    """Torch's writer of event files; a `UsageError` without the package that it needs."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "--tensorboard: the package tensorboard is not installed; pip install tensorboard"
        ) from None
    return SummaryWriter(str(folder))
