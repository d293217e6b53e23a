"""Everything that compares methods, from Python; the command line is a thin layer over the same
functions.

    import harness

    result = harness.run(["gfp", "skeletonmae"], dataset="synthetic", budget="100steps", out="runs")
    print(result)                               # the table; result.table: as a DataFrame
    harness.evaluate("runs", protocols="linear-mamp,finetune")
    harness.measure_speed(["gfp", "mamp"], encoder="small")
    records = harness.read_records("runs")      # loads no torch
    features = harness.load_encoder("runs/.../encoder.safetensors").embed(clips)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.encoders.embedding import PretrainedEncoder
    from harness.records.evaluations import EvaluationRecord
    from harness.records.schema import SpeedRecord
    from harness.records.store import Records
    from harness.report.result import RunResult

__version__ = "0.1.0"

# An installed suite gives the environment this one name, no `datasets` and no `methods`. They lie
# beside it and are found from here on, after all else on the path: no other package of these names
# gives way in silence.
ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

# The profiler that counts CPU memory logs to stderr as it starts, works and stops; no reader of a
# table wants that.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def run(methods: list[str] | str, *, pictures: bool = True, **settings: Any) -> RunResult:
    """Pre-train methods under one budget, measure their speed side by side, probe them
    (`harness.runs.door.run`).

    ``pictures``: leave clips as methods saw and made them beside the records.
    """
    from harness.foreign_packages import check_packages

    check_packages()
    from harness.pictures.kept import run_pictures
    from harness.report.result import RunResult
    from harness.runs import door

    return RunResult(*door.run(methods, draw=run_pictures if pictures else None, **settings))


def measure_speed(methods: list[str] | str, **settings: Any) -> SpeedRecord:
    """The interleaved speed measurement alone (`harness.runs.door.measure_speed`)."""
    from harness.foreign_packages import check_packages

    check_packages()
    from harness.runs import door

    return door.measure_speed(methods, **settings)


def evaluate(
    folder: Path | str, protocols: str = "linear,knn", **settings: Any
) -> list[EvaluationRecord]:
    """Evaluate the encoders of an output folder by protocols (`harness.runs.door.evaluate`)."""
    from harness.foreign_packages import check_packages

    check_packages()
    from harness.runs import door

    return door.evaluate(folder, protocols, **settings)


def read_records(folder: Path | str) -> Records:
    """All records of an output folder (`harness.records.store.read_records`); loads no torch."""
    from harness.foreign_packages import check_packages

    check_packages()
    from harness.records import store

    return store.read_records(Path(folder))


def load_encoder(path: Path | str, device: str = "cpu") -> PretrainedEncoder:
    """A trained encoder that embeds clips of any length
    (`harness.encoders.embedding.load_encoder`).
    """
    from harness.foreign_packages import check_packages

    check_packages()
    from harness.encoders import embedding

    return embedding.load_encoder(path, device)
