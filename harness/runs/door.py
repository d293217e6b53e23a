"""The Python door to runs and speed measurements: keywords instead of flags,
results instead of printed tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from harness.progress import Reporter, make_console
from harness.records.evaluations import EvaluationRecord, WhichEncoder
from harness.records.schema import RunRecord, SpeedRecord
from harness.runs.cell import STATE_SECONDS, Draw
from harness.runs.evaluating import Asked
from harness.runs.evaluating import evaluate as evaluate_folder
from harness.runs.experiment import Experiment, speed_of
from harness.runs.experiment import run as run_experiment
from harness.runs.protocols import registry_with_protocols
from harness.runs.request import prepare_experiment, resolve_settings
from harness.spec.model import MOST_SEEDS


def run(
    methods: Iterable[str] | str, *, seeds: Iterable[int] = (0,), **settings: Any
) -> tuple[list[RunRecord], SpeedRecord]:
    """Pre-train, measure and probe, as the command ``run`` does; what is finished in ``out`` is not
    run again.

    Args:
        methods: specs such as ``"gfp"`` or ``"gfp:lambda_pred=5"``.
        seeds: each method runs once per seed.
        settings: see `prepared`.

    Raises:
        UsageError: the request cannot be done. A method that fails has a record that says so.
    """
    experiment = prepared(methods, seeds=list(islice(seeds, MOST_SEEDS + 1)), **settings)
    return run_experiment(experiment, _quiet())


def measure_speed(methods: Iterable[str] | str, **settings: Any) -> SpeedRecord:
    """Only the interleaved speed measurement; arguments and errors as in `run`."""
    return speed_of(prepared(methods, seeds=[0], **settings), _quiet()).record


def evaluate(
    folder: Path | str,
    protocols: str = "linear,knn",
    *,
    weights: WhichEncoder = "last",
    dataset: str = "",
    device: str = "",
    threads: int | None = None,
    rerun: bool = False,
    plugins: Iterable[Path | str] = (),
) -> list[EvaluationRecord]:
    """Evaluate the encoders that runs left in a folder, as the command ``evaluate`` does; the
    records of it all.

    Args:
        weights: ``last`` or ``selected``.
        dataset: where the data is now, where it is not where the runs had it.

    Raises:
        UsageError: the request cannot be done. A protocol that fails has a record that says so.
    """
    asked = Asked(
        Path(folder),
        protocols,
        which=weights,
        dataset=dataset,
        device=device,
        threads=threads,
        rerun=rerun,
    )
    return evaluate_folder(
        asked, registry_with_protocols([Path(plugin) for plugin in plugins]), _quiet()
    ).records


def prepared(
    methods: Iterable[str] | str,
    *,
    seeds: list[int],
    out: Path | str = "runs",
    preset: str = "quick",
    plugins: Iterable[Path | str] = (),
    overrides: Mapping[str, Any] | None = None,
    baseline: str = "",
    rerun: bool = False,
    speed_seconds: float = 30.0,
    memory_cap: float | None = None,
    threads: int | None = None,
    state_seconds: float = STATE_SECONDS,
    keep_decoder: bool = False,
    draw: Draw | None = None,
    **flags: Any,
) -> Experiment:
    """A resolved experiment.

    Args:
        overrides: any setting by its dotted name, ``{"train.lr": 3e-4}``.
        flags: ``dataset``, ``split``, ``label``, ``encoder``, ``budget``, ``batch_size``,
            ``precision``, ``device``, each as the flag of that name.
        memory_cap: bytes.
        state_seconds: between two states that a stopped run goes on from (`harness.runs.resume`).
        keep_decoder: leave all weights of every method, not those of its encoder alone.
        draw: makes pictures of each finished run (`harness.pictures.kept`).
    """
    names = methods if isinstance(methods, str) else ",".join(methods)
    texts = [f"{name}={value}" for name, value in (overrides or {}).items()]
    resolved = resolve_settings(preset, texts, methods=names, **flags)
    return prepare_experiment(
        resolved,
        [Path(plugin) for plugin in plugins],
        _quiet(),
        seeds=seeds,
        out=Path(out),
        baseline=baseline,
        rerun=rerun,
        speed_seconds=speed_seconds,
        memory_cap=memory_cap,
        threads=threads,
        state_seconds=state_seconds,
        keep_decoder=keep_decoder,
        draw=draw,
    )


def _quiet() -> Reporter:
    """A reporter that prints nothing."""
    console = make_console()
    console.quiet = True
    return Reporter(console)
