"""The answer: what the study of `plan.yaml` says so far, as one page in plain words.

    python benchmarks/answer/page.py      # writes README.md and its pictures beside this file

The study's records lie in `benchmarks/results/answer-PART` (`harness shelve`), one folder for each
`out` of the plan. Every number, judgement and sentence on it is one that a command of the suite
gives too; here they are put in order, with what the plan wanted and what is not there yet. Records
that do not name the plan by its hash are left out, and named.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.wording import counted, printable
from harness.cli.config import read_config
from harness.errors import UsageError
from harness.records.differences import Pair
from harness.records.evaluations import SCRATCH, EvaluationRecord, Evaluations, column_of
from harness.records.schema import RANDOM_INIT, RAW_FLOOR, RunRecord, SpeedRecord
from harness.records.store import read_records
from harness.report import charts
from harness.report.apart import NEW, THESE, closing, listed
from harness.report.cells import EMPTY, blocks, figures
from harness.report.compare import Comparison
from harness.report.evaluations import cells_frame, evaluation_table
from harness.report.frame import points_frame
from harness.report.html.study import Setting, Study, read_study
from harness.report.power import power_lines
from harness.report.ranking import exchange_frame, exchange_table, settings
from harness.report.table import grid
from harness.report.target import ladder_frame, target_frame, target_table
from harness.report.trends import PUBLISHED, trend_frame, trend_table
from harness.report.tuning import tuning_notes, tuning_table
from harness.runs.protocols import ProtocolRegistry
from harness.spec.model import parse_methods, parse_seeds
from harness.studies.target import arm_times, comparable, freeze, step_times, timing
from harness.studies.tuning import tuned_methods

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLAN, RESULTS, PAGE = HERE / "plan.yaml", HERE.parent / "results", "README.md"
SHELF = "answer-"
"""What the names of the study's shelves begin with."""
PRIMARY = ("protocol linear", "protocol knn", "protocol linear-mamp")
"""Columns that the plan names first, by what their names begin with."""
CORE_HOURS = {"evaluations": "evaluations by protocols"}


@dataclass(frozen=True)
class Part:
    """One part of the plan and what there is of it.

    Attributes:
        name: of the part; `folder`: what its records' folder is called.
        study: the folder's records that name the plan; None where there are none.
        others: addresses of records in the folder that name another plan, or none.
    """

    name: str
    folder: str
    flags: Mapping[str, Any]
    study: Study | None
    others: tuple[str, ...] = ()
