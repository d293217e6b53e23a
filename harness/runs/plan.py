"""What a request will cost before anything is trained: data, from which text
(`harness.report.plan`) and JSON derive.

`harness.runs.planning` fills it in. Nothing here loads torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import computed_field

from harness.records.part import Count, NotNegative, RecordPart
from harness.records.schema import DataInfo
from harness.speed.estimate import Estimate, StepEstimate

CellState = Literal["finished", "running", "begun", "to do", "of another shard"]
_KEPT_STATES = 2
"""States of a run that lie beside it while it lasts (`harness.runs.resume`)."""


class CellPlan(RecordPart):
    """A run of the matrix. A finished one costs nothing more, nor does one of another shard, of
    which nothing is said.

    Attributes:
        before: status of an earlier attempt that did not finish; empty without one.
        holder: the process that works on it now.
        steps: optimiser steps of the whole run; 0 for a control.
        steps_done: those of them that a state on disk holds, or that the running process says it
            has done.
        clips: that the whole run sees.
        evaluations: still to come.
        training: seconds still to come on the training clock.
        evaluating: seconds still to come in evaluations.
        low: seconds of both at the fast end; `high` at the slow end, infinite where nothing bounds
            it.
        weights_bytes: of the weights that the run leaves.
        record_bytes: of its record, about.
        state_bytes: of one state while it lasts; a machine holds two of the run that is under way.
        problem: why nothing can be said; the run will fail.
    """

    label: str
    seed: Count
    address: str
    state: CellState
    before: str = ""
    holder: str = ""
    steps: Count = 0
    steps_done: Count = 0
    clips: NotNegative = 0.0
    evaluations: Count = 0
    training: NotNegative = 0.0
    evaluating: NotNegative = 0.0
    low: NotNegative = 0.0
    high: float = 0.0
    weights_bytes: Count = 0
    record_bytes: Count = 0
    state_bytes: Count = 0
    problem: str = ""

    @property
    def open(self) -> bool:
        """Something of it is still to do."""
        return self.state not in ("finished", "of another shard")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seconds(self) -> float:
        """Still to come."""
        return self.training + self.evaluating


class MeasurementPlan(RecordPart):
    """The interleaved speed measurement before the runs.

    Attributes:
        stored: it lies in the folder and is not made again.
        seconds: that it will take, warming up included; `high` where every block is disturbed and
            timed again.
    """

    stored: bool
    seconds: NotNegative = 0.0
    high: NotNegative = 0.0
    record_bytes: Count = 0


class Plan(RecordPart):
    """The matrix, and what it will cost one process that does it all.

    Attributes:
        budget: of each method's run.
        device: where the runs are to happen, as the user named it or as the machine calls it.
        steps: by label, for the methods that have a run to do.
        evaluation: one evaluation of a method's encoder; None where no run is to do.
        memory_bytes: of this machine's device; None where the runs are to happen elsewhere.
        price: of an hour of the device, in the user's currency.
        warnings: what records say against the budget.
        sets: the data sets, where the runs are on several.
    """

    budget: str
    baseline: str
    batch_size: Count
    device: str
    cells: list[CellPlan]
    steps: dict[str, StepEstimate]
    evaluation: Estimate | None
    measurement: MeasurementPlan
    memory_bytes: int | None = None
    price: NotNegative | None = None
    warnings: tuple[str, ...] = ()
    sets: tuple[DataInfo, ...] = ()

    @property
    def to_do(self) -> list[CellPlan]:
        """Runs that are not finished, of this shard."""
        return [cell for cell in self.cells if cell.open]

    @property
    def done(self) -> bool:
        """Nothing is left to do."""
        return self.measurement.stored and not self.to_do

    def row(self, label: str) -> list[CellPlan]:
        """The runs of a row of the table, in order of seeds."""
        return [cell for cell in self.cells if cell.label == label]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def seconds(self) -> float:
        """Still to come in all."""
        return self.measurement.seconds + sum(cell.seconds for cell in self.cells)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def low(self) -> float:
        """The same at the fast end of every estimate."""
        return self.measurement.seconds + sum(cell.low for cell in self.cells)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def high(self) -> float:
        """The same at the slow end; infinite where nothing bounds it."""
        return self.measurement.high + sum(cell.high for cell in self.cells)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def peak_bytes(self) -> int | None:
        """Memory at the peak of the largest step; None where it is not known for every method."""
        known = [step.peak_bytes for step in self.steps.values() if step.peak_bytes is not None]
        return max(known) if known and len(known) == len(self.steps) else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def disk_bytes(self) -> int:
        """Weights and records that are going to be written and stay."""
        return self.measurement.record_bytes + sum(
            cell.weights_bytes + cell.record_bytes for cell in self.cells
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def states_bytes(self) -> int:
        """States beside the run under way, of the largest one; they go when it is done."""
        return _KEPT_STATES * max((cell.state_bytes for cell in self.cells), default=0)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def cost(self) -> float | None:
        """Price of all hours."""
        return None if self.price is None else self.price * self.seconds / 3600
