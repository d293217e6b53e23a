"""Tables for a paper: LaTeX with booktabs, from the frames that every other table is made of.

    latex_page([Paper("", table) for table in folder_tables(read_records(folder))], command)

A document that uses one needs ``\\usepackage{booktabs,graphicx}``. What a name holds is escaped, so
that a table compiles whatever was written into a record; a letter that TeX's own fonts lack stands
there as its number.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import pandas as pd

from datasets.wording import counted, printable
from harness.errors import shortened
from harness.records.differences import FEWEST_SEEDS, LEVEL
from harness.records.ratios import mostly_disturbed
from harness.records.schema import plain_spec
from harness.report.cells import Figures, figures, known
from harness.report.compare import Comparison
from harness.report.conditions import encoder_text, value_text
from harness.report.folder import FolderTable
from harness.report.frame import (
    AS_GOOD,
    BEST,
    accuracy_figures,
    is_control,
    standing,
    summary_frame,
)
from harness.spec.budget import parse_budget
from harness.spec.model import EncoderSpec
from harness.studies.compare import PROTOCOL

_NO_OPTIONS: Mapping[str, str] = {}
_LONGEST = 60
"""Characters of a name in a table."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\rightarrow$",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
    "°": r"$^\circ$",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "\u00a0": "~",
}
"""Characters that TeX obeys, turns into others or joins,
and those that its fonts have under another name.
"""
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
"""Combining accents, by the macro that sets them."""


def tex(text: object) -> str:
    """Text as TeX prints it, in one line."""
    letters = (
        unicodedata.normalize("NFC", printable(str(text)))
        .replace("--", "-\0-")
        .replace("--", "-\0-")
    )
    return "".join(
        "{}" if letter == "\0" else _letter(letter) for letter in letters
    )  # "--" would become a dash


def _letter(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter.isascii():
        return letter
    base, *accents = list(unicodedata.normalize("NFD", letter))
    if (
        base.isascii()
        and base.isalpha()
        and accents
        and all(accent in _ACCENTS for accent in accents)
    ):
        for accent in accents:
            base = f"\\{_ACCENTS[accent]}{{{base}}}"
        return base
    return rf"\texttt{{U+{ord(letter):04X}}}"


# --- tables ---


@dataclass(frozen=True)
class Paper:
    """What one table of a paper shows.

    Attributes:
        name: of its study; empty where there is one alone.
        protocols: columns of evaluation protocols, beside the run's own probes.
    """

    name: str
    table: FolderTable
    protocols: Sequence[Comparison] = ()


_Column = tuple[str, Callable[[Figures], str]]
"""The column of the frame without which there is nothing to show, and how a cell is written."""


def latex_page(papers: Sequence[Paper], command: str) -> str:
    """The tables as floats, each with a caption that says what it holds.

    Args:
        command: that writes it, for whoever wants it again.
    """
    head = (
        r"% needs \usepackage{booktabs,graphicx} in the preamble; a table* spans both columns",
        f"% {printable(command)}",
    )
    return "\n".join(
        [*head, "", *(_latex_table(paper, number) for number, paper in enumerate(papers, 1))]
    )


def _latex_table(paper: Paper, number: int) -> str:
    """Methods, then what they are held against; columns that nothing is in are left out.

    As wide as one column of a page of two, where that holds it; else as both, and in several tables
    where one would be wider than that.
    """
    frame = summary_frame(paper.table)
    rows = [dict(row) for row in figures(frame)]
    protocols = _with_protocols(rows, paper.protocols)
    columns = {**_COLUMNS, **{name: _of_protocol(name) for name in protocols}}
    shown = {
        name: found
        for name, found in columns.items()
        if any(known(row.get(found[0])) for row in rows)
    }
    parts = _parts(rows, shown)
    said = _caption(paper, frame, rows, protocols)
    texts = [" ".join(said), *["The same rows, further columns."] * (len(parts) - 1)]
    letters = [chr(ord("a") + place) for place in range(len(parts))] if len(parts) > 1 else [""]
    return "".join(
        _float(rows, part, text, f"tab:runs-{number}{letter}")
        for part, text, letter in zip(parts, texts, letters, strict=True)
    )


def _parts(
    rows: Sequence[Figures], columns: Mapping[str, _Column]
) -> list[tuple[str, Mapping[str, _Column]]]:
    """The columns in as many tables as it takes, each with its float: ``table`` or ``table*``."""
    names = max((len(str(row["label"])) for row in rows), default=0)
    widths = {
        name: max(_letters_of(text) for text in [name, *map(cell, rows)]) + _GAP
        for name, (_, cell) in columns.items()
    }
    if (whole := names + sum(widths.values())) <= _BOTH_COLUMNS:
        return [("table" if whole <= _ONE_COLUMN else "table*", columns)]
    parts: list[dict[str, _Column]] = [{}]
    for name, column in columns.items():
        taken = sum(widths[other] for other in parts[-1])
        begins = _is_protocol(column) and not any(map(_is_protocol, parts[-1].values()))
        if parts[-1] and (begins or names + taken + widths[name] > _BOTH_COLUMNS):
            parts.append({})
        parts[-1][name] = column
    return [("table*", part) for part in parts]


def _is_protocol(column: _Column) -> bool:
    """It is one of `_of_protocol`."""
    return column[0].startswith(PROTOCOL)


def _letters_of(text: str) -> int:
    """About as many letters as TeX prints of a cell."""
    return len(re.sub(r"\\[A-Za-z]+|[{}$^\\]", "", text))


def _float(
    rows: Sequence[Figures], part: tuple[str, Mapping[str, _Column]], text: str, label: str
) -> str:
    name, columns = part
    rows = [row for row in rows if any(known(row.get(needs)) for needs, _ in columns.values())]
    methods = [row for row in rows if row["kind"] == "method"]
    others = [row for row in rows if row["kind"] != "method"]
    body = [
        [
            r"\midrule",
            *(_line([_method(row), *(cell(row) for _, cell in columns.values())]) for row in group),
        ]
        for group in (methods, others)
        if group
    ]
    lines = [
        rf"\begin{{{name}}}[t]",
        r"\centering",
        r"\setlength{\belowcaptionskip}{6pt}",
        rf"\caption{{{text}}}",
        rf"\label{{{label}}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{4pt}",
        _FIT,
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(columns)}@{{}}}}",
        r"\toprule",
        _line(["Method", *columns]),
        *(line for group in body for line in group),
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\end{{{name}}}",
    ]
    return "\n".join([*lines, "", ""])


def _with_protocols(
    rows: Sequence[dict[str, Any]], protocols: Sequence[Comparison]
) -> dict[str, str]:
    """Give rows what protocols found, under the headings of their columns, which are returned with
    the options that the caption names instead.
    """
    asked = [comparison.column.name.removeprefix(PROTOCOL) for comparison in protocols]
    short = [name.partition(":")[0] for name in asked]
    headings: dict[str, str] = {}
    for comparison, name, start in zip(protocols, asked, short, strict=True):
        alone = short.count(start) == 1
        heading = tex(shortened(start if alone else name, _LONGEST))
        headings[heading] = name.partition(":")[2] if alone else ""
        column, marked = comparison.column, standing(comparison.column.rows, comparison.these)
        found = {row.label: list(row.by_seed.values()) for row in column.rows}
        key, _ = _of_protocol(heading)
        for row in rows:
            if row["label"] in found:
                row.update(accuracy_figures(key, found[row["label"]], column.clips))
                row[f"{key}_mark"] = marked.get(row["label"], "")
    return headings


def _of_protocol(heading: str) -> _Column:
    """The column of a protocol; the run's own probes have a name like it."""
    return f"{PROTOCOL}{heading}", _accuracy(f"{PROTOCOL}{heading}")


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _method(row: Figures) -> str:
    own_encoder = " (open)" if known(row["open"]) and row["open"] else ""
    ended = f" ({tex(row['status'])})" if row["status"] else ""
    return f"{tex(shortened(row['label'], _LONGEST))}{own_encoder}{ended}"


def _speedup(row: Figures) -> str:
    if not known(row["speedup"]):
        return _EMPTY
    if row["label"] == row["baseline"]:
        return "1 (baseline)"
    if row["within_noise"]:
        return "within noise"
    interval = f"[{row['speedup_low']:.2f}, {_high(row['speedup_high'])}]"
    return rf"${row['speedup']:.2f}\times$ {interval}{_mark(row)}"


def _mark(row: Figures) -> str:
    """What is judged of "trains faster"; of the bound nothing is."""
    if (
        row["kind"] != "method"
        or not known(row["judgement"])
        or row["judgement"] == "not supported"
    ):
        return ""
    return _SUPPORTED if row["judgement"] == "supported" else f" ({tex(row['judgement'])})"


def _high(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else r"$\infty$"


def _accuracy(name: str) -> Callable[[Figures], str]:
    def cell(row: Figures) -> str:
        if not known(row.get(name)):
            return _EMPTY
        mean = f"{100 * row[name]:.1f}"
        marked = {BEST: rf"\textbf{{{mean}}}", AS_GOOD: rf"\underline{{{mean}}}"}.get(
            row[f"{name}_mark"], mean
        )
        return f"{marked} [{100 * row[f'{name}_low']:.1f}, {100 * row[f'{name}_high']:.1f}]"

    return cell


def _points(row: Figures) -> str:
    return f"${100 * row['vs_random']:+.1f}$" if known(row["vs_random"]) else _EMPTY


def _flops(row: Figures) -> str:
    return rf"${row['flop_ratio']:.2f}\times$" if known(row["flop_ratio"]) else _EMPTY


_EMPTY, _SUPPORTED = "--", "$^{*}$"
_FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""A table that is wider than its column is made as wide as that."""
_COLUMNS: Mapping[str, _Column] = {
    "Speedup": ("speedup", _speedup),
    "by FLOPs": ("flop_ratio", _flops),
    "Linear": ("linear", _accuracy("linear")),
    r"$k$NN-1": ("knn", _accuracy("knn")),
    "vs.\\ random": ("vs_random", _points),
}
"""By heading."""
_ONE_COLUMN, _BOTH_COLUMNS, _GAP = 55, 115, 2
"""Letters of ``footnotesize`` that a column of a page of two, and both, are wide, and that columns
stand apart.
"""


# --- captions ---


_SPLITS = {"xsub": "cross-subject", "xview": "cross-view", "xset": "cross-setup"}
_UNITS = {"s": "seconds", "flops": "FLOPs"}
"""Of budgets whose unit is no word."""
_SAID = (
    "train.budget",
    "data.split",
    "data.name",
    *(f"encoder.{name}" for name in EncoderSpec.model_fields),
)
"""Settings that every caption says."""
_WORDS = {
    "train.lr": "learning rate",
    "train.batch_size": "batches of body sequences:",
    "train.precision": "precision",
    "probe.points": "evaluations while training:",
    "probe.every": "evaluated every",
}


def _caption(
    paper: Paper,
    frame: pd.DataFrame,
    rows: Sequence[Figures],
    protocols: Mapping[str, str] = _NO_OPTIONS,
) -> list[str]:
    """What a reader of the paper must know of the table, in sentences: data, budget, seeds,
    n, intervals, marks.
    """
    study = [f"{tex(shortened(paper.name, 3 * _LONGEST))}."] if paper.name else []
    return [
        *study,
        *_of_data(paper.table),
        *_of_setting(paper.table),
        *_of_accuracy(frame, rows),
        *_of_protocols(protocols, probed=bool(frame["linear"].notna().any())),
        *_of_speed(paper.table, frame),
    ]


def _of_data(table: FolderTable) -> list[str]:
    trained = [run for run in table.runs if not is_control(run)]
    shown = table.speed or max(
        trained or table.runs, key=lambda run: (run.encoder is not None, run.finished)
    )
    data, spec = shown.data, plain_spec(shown)
    split = spec["data"]["split"]
    split_text = f"{_SPLITS[split]} split" if split in _SPLITS else f"split {tex(split)}"
    sentences = [
        f"Data: {tex(shortened(data_name(data.name), _LONGEST))},"
        f" {split_text}, {data.classes} classes; clips: {data.train_clips:,}"
        f" training, {data.validation_clips:,} validation, {data.test_clips:,} test."
    ]
    words = []
    if shown.encoder:
        words.append(f"Encoder {tex(encoder_text(spec))}, {shown.encoder.parameters:,} parameters")
    if trained:
        seeds = sorted({run.spec.seed for run in trained})
        words.append(f"trained for {_budget(trained[0].spec.train.budget)}")
        words.append(
            f"{counted(len(seeds), 'seed')}" + (f" ({tex(seeds[0])})" if len(seeds) == 1 else "")
        )
    return [*sentences, *([f"{'; '.join(words)}."] if words else [])]


def data_name(name: str) -> str:
    """``utdmhad`` of ``data/utdmhad/utdmhad.npz``; of several sets each."""
    return "+".join(PurePath(one).stem if "/" in one else one for one in name.split("+"))


def _budget(text: str) -> str:
    """``60,000 clips`` of ``60000clips``."""
    budget = parse_budget(text)
    number = f"{budget.amount:,g}" if budget.amount < 1e7 else f"{budget.amount:.3g}"
    return f"{tex(number)} {_UNITS.get(budget.unit, budget.unit)}"


def _of_setting(table: FolderTable) -> list[str]:
    """What tells it from the other tables of its folder, but for what every caption says."""
    words = [f"on {tex(data_name(table.of_set))}"] if table.of_set else []
    words += [] if table.kind == "runs" else [table.kind]
    words += [
        f"{_WORDS.get(name, name.rpartition('.')[2].replace('_', ' '))} "
        + (_budget(value) if name == "probe.every" else tex(value_text(value)))
        for name, value in table.differs.items()
        if name not in _SAID and value is not None and value != ""
    ]
    text = "; ".join(words)
    return [f"{text[:1].upper()}{text[1:]}."] if text else []


def _of_protocols(protocols: Mapping[str, str], *, probed: bool) -> list[str]:
    """The options that a heading leaves out, and of which encoder the figures are."""
    options = [
        f"{heading}: {tex(text.replace(',', ', ').replace('=', ' '))}"
        for heading, text in protocols.items()
        if text
    ]
    sentences = [f"Protocols: {'; '.join(options)}."] if options else []
    if protocols and probed:
        names = ", ".join(protocols)
        sentences.append(
            "Linear and $k$NN-1 are of the run's own evaluation that counts, which held-out"
            f" subjects select where there are any; {names} of the last encoder: both may differ."
        )
    return sentences


def _of_accuracy(frame: pd.DataFrame, rows: Sequence[Figures]) -> list[str]:
    done = frame[frame["linear"].notna()]
    if done.empty:
        return []
    several, one = bool((done["seeds"] > 1).any()), bool((done["seeds"] == 1).any())
    intervals = [r"95\,\% t interval over seeds"] * several + [
        r"of one seed the 95\,\% binomial interval over test clips, in which neither seeds nor"
        r" people vary"
    ] * one
    clips = int(done["test_clips"].max())
    sentences = [
        f"Accuracy in \\% of {clips:,} test clips, linear probe and nearest neighbour on frozen"
        f" features, mean [{'; '.join(intervals)}]; vs.\\ random: points above the untrained"
        " encoder."
    ]
    marks = {
        value
        for row in rows
        for name, value in row.items()
        if str(name).endswith("_mark") and known(value)
    }
    if {BEST, AS_GOOD} & marks:
        return [
            *sentences,
            (
                "Bold: the method with the highest mean; underlined: not told apart from it (t"
                f" test over the seeds of two rows, Holm over all pairs of rows, level {LEVEL:g})."
            ),
        ]
    if (done["kind"] == "method").sum() > 1:
        return [
            *sentences,
            f"Nothing is marked: fewer than {FEWEST_SEEDS} seeds tell no two rows apart.",
        ]
    return sentences


def _of_speed(table: FolderTable, frame: pd.DataFrame) -> list[str]:
    speed = table.speed
    if speed is None or frame["speedup"].notna().sum() == 0:
        return []
    environment = speed.environment
    processes = f" in {len(speed.rounds)} fresh processes" if len(speed.rounds) > 1 else ""
    versions = [f"torch {environment.versions['torch']}"] if "torch" in environment.versions else []
    machine = ", ".join([environment.processor, counted(environment.threads, "thread"), *versions])
    disturbed = " Most blocks of the measurement were disturbed." if mostly_disturbed(speed) else ""
    supported = (frame["judgement"] == "supported") & (frame["kind"] == "method")
    starred = (
        f" {_SUPPORTED}: ``trains faster'' is supported, the whole interval lies above the floor."
        if supported.any()
        else ""
    )
    return [
        f"Speedup: clips per second over {tex(shortened(speed.baseline, _LONGEST))},"
        f" {speed.done_rounds} interleaved "
        rf"rounds{processes}, 95\,\% interval; noise floor {speed.floor:.3f}; on {tex(machine)}. By"
        r" FLOPs: what the "
        f"arithmetic predicts.{starred}{disturbed}"
    ]
