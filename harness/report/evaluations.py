"""The table of evaluations: accuracy of every row under every protocol,
each with its control under the same recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from datasets.wording import counted
from harness.records.differences import Pair, Row, pairs
from harness.records.evaluations import SCRATCH, EvaluationRecord, column_of, row_of
from harness.records.schema import RANDOM_INIT, RAW_FLOOR
from harness.report.apart import brackets, closing, marks
from harness.report.cells import EMPTY, Figures, accuracy_text, figures
from harness.report.frame import NUMBER, TEXT, WHOLE, Columns, accuracy_figures, standing, typed
from harness.studies.compare import by_seed, draw_of, rows_of_evaluations, same_draws

_BEST = " best epoch"
"""Ending of a column with the papers' habit."""
_CELL_COLUMNS: Columns = {
    "row": TEXT,
    "column": TEXT,
    "control": TEXT,
    "seeds": WHOLE,
    "test_clips": WHOLE,
    "accuracy": NUMBER,
    "accuracy_sd": NUMBER,
    "accuracy_low": NUMBER,
    "accuracy_high": NUMBER,
    "accuracy_mark": TEXT,
    "best_epoch": NUMBER,
    "best_epoch_sd": NUMBER,
    "best_epoch_low": NUMBER,
    "best_epoch_high": NUMBER,
    "status": TEXT,
}


def cells_frame(records: Sequence[EvaluationRecord]) -> pd.DataFrame:
    """A row per row and column of the table that evaluations make, as numbers; `_CELL_COLUMNS`.

    ``accuracy``, as `harness.report.frame.summary` has accuracies, and ``best_epoch``, the papers'
    habit, are means over ``seeds``, draws of a seed by their mean; ``status`` names how evaluations
    ended that did not end well.
    """
    marked = {column: standing(rows, found) for column, (rows, found) in _compared(records).items()}
    columns = list(dict.fromkeys(map(column_of, records)))
    cells = [(row, column) for row in _rows_of(records) for column in columns]
    return typed((_cell(records, row, column, marked) for row, column in cells), _CELL_COLUMNS)


def _cell(
    records: Sequence[EvaluationRecord],
    row: str,
    column: str,
    marked: Mapping[str, Mapping[str, str]],
) -> Figures:
    asked = [record for record in records if row_of(record) == row and column_of(record) == column]
    clips = max((len(record.predictions) for record in asked), default=0)
    ends = list(by_seed(asked, lambda record: _figure(record, best=False)).values())
    looks = list(by_seed(asked, lambda record: _figure(record, best=True)).values())
    return {
        "row": row,
        "column": column,
        "control": asked[0].control if asked else None,
        "seeds": len(ends),
        "test_clips": clips or None,
        **accuracy_figures("accuracy", ends, clips),
        "accuracy_mark": marked.get(column, {}).get(row, ""),
        **accuracy_figures("best_epoch", looks, clips, chosen=True),
        "status": ", ".join(sorted({record.status for record in asked if record.status != "ok"})),
    }


def evaluation_table(frame: pd.DataFrame, *, wide: bool = False) -> pd.DataFrame:
    """A row per method, then the controls; a column per protocol; every cell a string: percent and
    its interval.

    Args:
        frame: `cells_frame`.
        wide: with standard deviations and, behind a protocol that trains, its best epoch.
    """
    columns = list(dict.fromkeys(frame["column"]))
    trained = set(frame["column"][frame["best_epoch"].notna()]) if wide else set()
    lines = []
    for row, cells in frame.groupby("row", sort=False):
        line = {"method": str(row)}
        for cell in figures(cells):
            line[cell["column"]] = _text(cell, "accuracy", wide=wide)
            if cell["column"] in trained:
                line[cell["column"] + _BEST] = _text(cell, "best_epoch", wide=wide)
        lines.append(line)
    shown = [
        name
        for column in columns
        for name in ([column, column + _BEST] if column in trained else [column])
    ]
    return pd.DataFrame(lines, columns=["method", *shown])


def _text(cell: Figures, name: str, *, wide: bool) -> str:
    value = accuracy_text(cell, name, spread=wide)
    if not cell["status"]:
        return value
    return cell["status"] if value == EMPTY else f"{value}, {cell['status']}"


def _rows_of(records: Sequence[EvaluationRecord]) -> list[str]:
    """Rows in their order: methods, what is untrained, raw coordinates."""
    labels = {
        row_of(record): (record.label == RAW_FLOOR, bool(record.control)) for record in records
    }
    return sorted(labels, key=lambda row: (*labels[row], row))


def _compared(records: Sequence[EvaluationRecord]) -> dict[str, tuple[list[Row], list[Pair]]]:
    """Rows and their pairs by column, for *these people*;
    none where evaluations of several settings are shown.
    """
    cells = [(row_of(one), column_of(one), one.seed, draw_of(one), one.data) for one in records]
    if len(set(cells)) < len(cells) or len({one.data for one in records if not one.of_set}) > 1:
        return {}
    found = {}
    for column in dict.fromkeys(map(column_of, records)):
        done = [
            record for record in records if column_of(record) == column and record.status == "ok"
        ]
        rows = rows_of_evaluations(same_draws(done)[0])
        found[column] = rows, pairs(rows)
    return found


def _figure(record: EvaluationRecord, *, best: bool) -> float | None:
    """Accuracy at the end, or at the epoch that is best on the test clips."""
    if record.status != "ok":
        return None
    return record.best if best else record.accuracy


def evaluation_notes(records: Sequence[EvaluationRecord]) -> list[str]:
    """What stands below the table: what was evaluated on what, controls, how long it took,
    what failed.
    """
    ok = [record for record in records if record.status == "ok"]
    counts = sorted({len(record.predictions) for record in ok})
    hours = (
        sum((one.seconds + one.features_seconds) * one.environment.threads for one in records)
        / 3600
    )
    return [
        f"% of {' or '.join(map(str, counts))} test clips, ± standard deviation over seeds"
        + (
            ", draws of a seed by their mean"
            if any("draw" in record.options for record in ok)
            else ""
        )
        + f"; {_encoders(records)}",
        *_who_is_above(records),
        *_controls(records),
        *_best_epoch(ok),
        *_labelled(ok),
        *_below(ok),
        f"evaluation took {hours:.2f} core-hours",
        *dict.fromkeys(
            f"{record.status}: {record.label}, seed {record.seed}, {record.spec}: {record.error}"
            for record in records
            if record.status != "ok"
        ),
    ]


def _best_epoch(records: Sequence[EvaluationRecord]) -> list[str]:
    """Of how many looks the best is: more looks, higher figures."""
    looks = sorted({len(record.curve) for record in records if record.curve})
    counts = " or ".join(map(str, looks))
    habit = "the papers' habit, who look after every epoch; never used to select"
    return [f"{_BEST.strip()}: best test figure of {counts} looks ({habit})"] if looks else []


def _who_is_above(records: Sequence[EvaluationRecord]) -> list[str]:
    """What the brackets are, and a closing sentence for each column."""
    found = _compared(records)
    seeds = [len(by_seed(own, lambda record: record.accuracy)) for own in _cells_of(records)]
    lines = brackets(seeds, any(marks(rows, judged) for rows, judged in found.values()))
    lines += [line for column, (_, judged) in found.items() for line in closing(column, judged)]
    if found:
        return [*lines, "`compare` has every pair, and the question of new people"]
    return (
        [*lines, "runs of several settings: `compare` says who is above whom under each"]
        if records
        else []
    )


def _cells_of(records: Sequence[EvaluationRecord]) -> list[list[EvaluationRecord]]:
    """Finished evaluations by row and column."""
    found: dict[tuple[str, str], list[EvaluationRecord]] = {}
    for record in records:
        if record.status == "ok":
            found.setdefault((row_of(record), column_of(record)), []).append(record)
    return list(found.values())


def _encoders(records: Sequence[EvaluationRecord]) -> str:
    """Which of a run's encoders were read."""
    kinds = {record.encoder for record in records}
    words = {
        "last": "the last encoder of pre-training",
        "selected": "the encoder selected on held-out subjects",
    }
    return (
        " and ".join(words[kind] for kind in ("last", "selected") if kind in kinds)
        or "controls alone"
    )


def _controls(records: Sequence[EvaluationRecord]) -> list[str]:
    """What the control rows are, by column."""
    kinds: dict[str, list[str]] = {}
    for record in records:
        if record.control and column_of(record) not in kinds.setdefault(record.control, []):
            kinds[record.control].append(column_of(record))
    words = {
        RANDOM_INIT: "untrained encoder, frozen",
        SCRATCH: "from scratch: an untrained encoder, trained by the same recipe",
        RAW_FLOOR: "raw coordinates",
    }
    return [
        f"control ({', '.join(columns)}): {words.get(kind, kind)}"
        for kind, columns in kinds.items()
    ]


def _labelled(records: Sequence[EvaluationRecord]) -> list[str]:
    """How many labels were used where not all were."""
    lines = []
    for column in dict.fromkeys(column_of(record) for record in records if record.subset):
        some = [record for record in records if column_of(record) == column]
        counts, subsets = (
            sorted({record.labelled for record in some}),
            {record.subset for record in some},
        )
        what = dict.fromkeys(note for record in some for note in record.notes)
        lines.append(
            f"{column}: {' or '.join(map(str, counts))} labelled clips,"
            f" {counted(len(subsets), 'subset')}" + "".join(f"; {note}" for note in what)
        )
    return lines


def _below(records: Sequence[EvaluationRecord]) -> list[str]:
    """Rows whose mean is below that of their control, of the same seeds and draws:
    their budget cannot rank them.
    """
    lines = []
    for column, (rows, judged) in _compared(records).items():
        labels = [row.label for row in rows if row.control]
        controls = {
            row.label: own if (own := f"{row.label} (untrained)") in labels else RANDOM_INIT
            for row in rows
        }
        under = {
            pair.below: pair.difference.interval.mean
            for pair in judged
            if pair.difference.seeds
            and pair.below not in labels
            and controls[pair.below] == pair.above
        }
        if under:
            named = ", ".join(f"{label} ({-100 * gain:+.1f})" for label, gain in under.items())
            lines.append(
                f"warning: {column}: below its control: {named}; a budget that leaves a row there"
                " ranks nothing"
            )
    return lines
