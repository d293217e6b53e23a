"""What `harness.run` returns: the records of a run, and its table when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.records.schema import RunRecord, SpeedRecord
from harness.report.table import build_table


@dataclass(frozen=True)
class RunResult:
    """What a run found.

    Attributes:
        records: one per method, control and seed.
        speed: the interleaved measurement that belongs to them.
    """

    records: list[RunRecord]
    speed: SpeedRecord

    @property
    def table(self) -> pd.DataFrame:
        """The table that the command line prints; every cell a string."""
        return build_table(self.records, self.speed)

    def __str__(self) -> str:
        """The table, whole: pandas leaves columns out of what it prints."""
        return self.table.to_string(index=False)
