"""Charts of frames, as matplotlib figures: a page takes their SVG, a paper saves them as PDF.

    chart = speedup_chart(arms_frame([speed]))
    chart.figure, chart.data          # what is drawn, and the numbers that are drawn
    as_svg(chart), as_pdf(chart)      # the same bytes whenever the numbers are the same

A method has one colour in all charts, its variants have other markers and dashes; colours differ in
lightness too, so that they are told apart by every eye and in grey. Names are text, never formulas,
and are shortened.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.wording import printable
from harness.records.ratios import MOSTLY_DISTURBED

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from harness.records.differences import Pair
    from harness.report.compare import Comparison

_WIDTH = 5.0
"""Inches across: one point is a pixel of a telephone."""
PALETTE = (
    *("#0072b2", "#d55e00", "#34996b", "#620c2e", "#c06eff", "#4e4a02"),  # of most pictures
    *("#480784", "#fc4a89", "#8c23e4", "#a22c78", "#8b5d4c", "#9e8ab9"),
)
"""Colours of methods, any two of them apart to every eye; `INK`, `MUTED`, `FAINT`: of text and
axes, of secondary marks, of bands and grids.
"""
INK, MUTED, FAINT = "#1d2329", "#68717a", "#e3e6ea"
PHASES = ("#27496d", "#5b8db8", "#9dbfd9", "#c9a24b", "#8a6d3b", "#d9cdb4", "#5f5f5f", "#b5b5b5")
_MARKERS = "osD^vPX<>ph*"
_DASHES = ((), (4, 1.5), (1.2, 1.2), (5, 1.5, 1.2, 1.5))
_KNOWN = (
    *("gfp", "mamp", "skeletonmae", "amr", "sjepa", "skeleton2vec"),
    *("nat", "strl", "mcsp", "skeletonmae-graph", "skeletonmae-region"),
)
"""Methods in the order of their colours, which are the same in every report, whoever else is in it.
"""
_LONGEST, LONGEST_SAID = 22, 60
"""Characters of a name in a chart, and in what a mark says."""
_MOST_SEED_LINES = 60
"""Lines of single seeds in one chart; of more only means are drawn."""
_MOST_POINTS = 40
"""Points of a drawn line of losses."""
_MOST_PANELS = 12
_FARTHEST = 100.0
"""A factor: so far from its middle an interval that nothing bounds is drawn."""
_LINEAR = "% of test clips, linear probe"
"""Name of an axis."""
_SMALL, _SMALLER = 8.5, 7.5
"""Points of text."""
_NAME_HEIGHT = 0.13
"""Inches that the name of a line across takes."""


@dataclass(frozen=True)
class Look:
    """How a row is drawn in every chart."""

    colour: str
    marker: str
    dashes: tuple[float, ...]


@dataclass(frozen=True)
class Tip:
    """What a mark says when one points at it, and the record that it comes from."""

    text: str
    record: str = ""


@dataclass
class Chart:
    """A figure, its numbers and what its marks say.

    Attributes:
        name: for a file.
        data: a row for each mark.
        tips: by the ``gid`` of the mark.
    """

    name: str
    title: str
    figure: Figure
    data: pd.DataFrame
    tips: dict[str, Tip] = field(default_factory=dict)

    def tell(self, artists: Artist | Iterable[Artist], text: str, record: str = "") -> None:
        """Give marks a tip; of several, each."""
        for artist in [artists] if hasattr(artists, "set_gid") else artists:
            name = f"tip-{len(self.tips)}"
            artist.set_gid(name)
            self.tips[name] = Tip(text, record)


# --- looks ---


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each row. A method of the suite always has the same colour;
    others take what is left, by name.
    """
    ordered = sorted(dict.fromkeys(labels))
    methods = list(dict.fromkeys(label.partition(":")[0] for label in ordered))
    places = {name: place for place, name in enumerate(_KNOWN)}
    free = [
        place
        for place in range(len(PALETTE))
        if place not in {places[name] for name in methods if name in places}
    ]
    free = free or list(range(len(PALETTE)))
    for number, name in enumerate(name for name in methods if name not in places):
        places[name] = free[number % len(free)] + len(PALETTE) * (number // len(free))
    found: dict[str, Look] = {}
    for name in methods:
        place = places[name]
        for variant, label in enumerate(
            label for label in ordered if label.partition(":")[0] == name
        ):
            marker = _MARKERS[(place + variant) % len(_MARKERS)]
            dashes = _DASHES[(place // len(PALETTE) + variant) % len(_DASHES)]
            found[label] = Look(PALETTE[place % len(PALETTE)], marker, dashes)
    return found


def short(label: object, longest: int = _LONGEST) -> str:
    """A name as a chart shows it: one line, nothing that turns the direction of writing,
    not too long.
    """
    text = printable(str(label)[: 4 * longest])
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def said(label: object) -> str:
    """A name as a tip says it."""
    return short(label, LONGEST_SAID)


@contextmanager
def _style() -> Iterator[None]:
    """Names are text, not formulas; a letter that the font lacks is no warning;
    nothing depends on the user's files.
    """
    import matplotlib

    own: dict[Any, Any] = {
        "text.parse_math": False,
        "font.family": ["DejaVu Sans"],
        "font.size": _SMALL,
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
        "pdf.fonttype": 42,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "axes.unicode_minus": False,
        "axes.axisbelow": True,
    }
    with matplotlib.rc_context(rc=matplotlib.rcParamsDefault), warnings.catch_warnings():
        matplotlib.rcParams.update(own)
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def as_svg(chart: Chart, *, text_as_paths: bool = False) -> bytes:
    """The chart as SVG, without a date; text stays text unless a paper wants it as paths."""
    import matplotlib

    stream = io.BytesIO()
    with _style():
        matplotlib.rcParams["svg.fonttype"] = "path" if text_as_paths else "none"
        chart.figure.savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True
        )
    return stream.getvalue()


def as_pdf(chart: Chart) -> bytes:
    """The chart as PDF with embedded fonts, without a date."""
    stream = io.BytesIO()
    with _style():
        metadata = {"CreationDate": None, "Creator": None, "Producer": None}
        chart.figure.savefig(stream, format="pdf", metadata=metadata, transparent=True)
    return stream.getvalue()


def _figure(
    height: float, left: float, right: float, bottom: float, top: float
) -> tuple[Figure, Axes]:
    """A figure with one axes; all in inches, `left` to `top` its margins."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes(
        (
            left / _WIDTH,
            bottom / height,
            (_WIDTH - left - right) / _WIDTH,
            (height - bottom - top) / height,
        )
    )
    return figure, axes


def _name_column(labels: Sequence[str], longest: int = _LONGEST) -> float:
    """Inches that names take on the left."""
    return 0.14 + 0.073 * max((len(short(label, longest)) for label in labels), default=0)


def _rows(axes: Axes, labels: Sequence[str], longest: int = _LONGEST) -> None:
    """One row a label, the first on top, without an axis line."""
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), [short(label, longest) for label in labels])
    axes.tick_params(axis="y", length=0, pad=3)
    axes.spines["left"].set_visible(False)


def _beside(axes: Axes, row: float, text: str, **more: Any) -> None:
    """Text in the column to the right of a row."""
    axes.text(
        1.03,
        row,
        text,
        transform=axes.get_yaxis_transform(),
        va="center",
        fontsize=_SMALLER,
        clip_on=False,
        **more,
    )


def _key(axes: Axes, handles: Sequence[Any], below: float, columns: int = 2) -> None:
    """A legend `below` so many inches under the axes."""
    height = axes.get_figure(root=True).get_figheight() * axes.get_position().height  # type: ignore[union-attr]
    axes.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=(0, -below / height),
        ncols=columns,
        frameon=False,
        fontsize=_SMALLER,
        handlelength=1.8,
        columnspacing=1.2,
        borderaxespad=0,
        borderpad=0,
    )


def _factor(value: float) -> str:
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x"


def _with_interval(value: float, low: float, high: float) -> str:
    return f"{_factor(value)} [{low:.2f}, {high:.2f}]"


def _steps(low: float, high: float) -> list[float]:
    """Round ticks of a log axis that leave room for their names."""
    dense = (1, 1.1, 1.2, 1.3, 1.5, 1.7, 2, 2.5, 3, 4, 5, 7)
    for steps in (dense, (1, 1.2, 1.5, 2, 3, 5, 7), (1, 1.5, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [
            step * 10.0**power
            for power in range(-6, 7)
            for step in steps
            if low <= step * 10.0**power <= high
        ]
        if all(
            math.log(after / before) > 0.13 * math.log(high / low)
            for before, after in pairwise(ticks)
        ):
            return ticks
    return ticks[:: -(-len(ticks) // 6)]


def _log_factors(axes: Axes, values: Iterable[float]) -> None:
    """A log axis across that holds these factors and 1."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    known = [value for value in values if value and math.isfinite(value) and value > 0] + [1.0]
    low, high = min(known), max(known)
    room = (high / low) ** 0.06 * 1.02
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    ticks = _steps(low / room, high * room)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{tick:g}x" for tick in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", labelsize=_SMALLER)


def each(frame: pd.DataFrame) -> Iterable[Any]:
    """Rows of a frame, whose columns are attributes."""
    return frame.itertuples(index=False)


def _known(value: Any) -> bool:
    return not pd.isna(value)


# --- who trains faster ---


def speedup_chart(arms: pd.DataFrame, *, styles: Mapping[str, Look] | None = None) -> Chart:
    """Intervals of the speedups of one measurement on a log axis, with the noise floor, what FLOPs
    predict, the bound.

    Args:
        arms: of `harness.report.frame.arms_frame`, of one measurement; rows of the open division
            are left out.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    judged = arms[(arms["division"] == "closed") & arms["speedup"].notna()]
    shown = judged[~judged["control"].fillna(False).astype(bool)]
    shown = shown.sort_values("speedup", ascending=False, kind="stable")
    bounds = judged[judged["bound"].fillna(False).astype(bool)]
    labels = list(shown["label"])
    styles = styles or looks(labels)
    floor, baseline = float(arms["floor"].iloc[0]), arms["baseline"].iloc[0]
    with _style():
        figure, axes = _figure(0.95 + 0.3 * len(labels), _name_column(labels), 1.28, 0.72, 0.24)
        chart = Chart(
            "speedup", f"Speedup over {short(baseline)}", figure, shown.reset_index(drop=True)
        )
        axes.axvspan(1 / floor, floor, color=FAINT, lw=0, zorder=0)
        axes.axvline(1, color=MUTED, lw=0.8, zorder=1)
        values = [floor, 1 / floor]
        for row, arm in enumerate(each(shown)):
            values += _speedup_row(
                chart, axes, row, arm, styles[arm.label], first=arm.label == baseline
            )
        for bound in each(bounds):
            line = axes.axvline(bound.speedup, color=INK, lw=1, dashes=(2, 1.5), zorder=1)
            chart.tell(
                line,
                "decoder-free bound: the encoder alone trains "
                f"{_with_interval(bound.speedup, bound.speedup_low, bound.speedup_high)}"
                f" as fast as {said(baseline)}",
                bound.measurement,
            )
            values += [bound.speedup]
        _rows(axes, labels)
        _log_factors(axes, values)
        axes.set_xlabel(
            f"clips/s over {short(baseline)}, log scale", fontsize=_SMALLER, loc="left", labelpad=2
        )
        handles = [
            Line2D([], [], color=INK, marker="o", ms=4, lw=1.4, label="measured, 95 % interval"),
            Line2D([], [], color=INK, marker="|", ms=9, mew=2, lw=0, label="FLOPs predict"),
            Patch(color=FAINT, label=f"noise floor {floor:.3f}"),
        ]
        if len(bounds):
            handles.append(
                Line2D([], [], color=INK, lw=1, dashes=(2, 1.5), label="encoder alone (bound)")
            )
        _key(axes, handles, 0.42)
    return chart


def _speedup_row(
    chart: Chart, axes: Axes, row: int, arm: Any, look: Look, *, first: bool
) -> list[float]:
    """One method of the speedup chart; the values that its axis must hold."""
    doubted = bool(_known(arm.doubts) and arm.doubts)
    rate = f"{arm.clips_per_second:,.3g} clips/s"
    if _known(arm.flop_ratio) and not first:
        tick = axes.plot(
            [arm.flop_ratio] * 2, [row - 0.27, row + 0.27], color=INK, lw=1.8, zorder=3
        )
        chart.tell(
            tick, f"{said(arm.label)}: FLOPs predict {_factor(arm.flop_ratio)}", arm.measurement
        )
    if first:
        mark = axes.plot([1], [row], marker=look.marker, ms=5.5, color=look.colour, lw=0, zorder=4)
        chart.tell(mark, f"{said(arm.label)}: the baseline, {rate}", arm.measurement)
        _beside(axes, row, "baseline", color=MUTED)
        return [1.0]
    disturbed = arm.disturbed_share > MOSTLY_DISTURBED
    faint = disturbed or (bool(arm.within_noise) if _known(arm.within_noise) else False)
    low, high = (
        max(arm.speedup_low, arm.speedup / _FARTHEST),
        min(arm.speedup_high, arm.speedup * _FARTHEST),
    )
    line = axes.plot([low, high], [row, row], color=look.colour, lw=2.2, zorder=4)
    inside = "white" if faint else look.colour
    mark = axes.plot(
        [arm.speedup],
        [row],
        marker=look.marker,
        ms=5.5,
        color=look.colour,
        mfc=inside,
        lw=0,
        zorder=4,
    )
    interval = _with_interval(arm.speedup, arm.speedup_low, arm.speedup_high)
    told = f"{said(arm.label)}: {interval}, {rate}"
    words = (
        "in doubt"
        if doubted
        else "blocks disturbed"
        if disturbed
        else "within noise"
        if faint
        else ""
    )
    chart.tell([*line, *mark], f"{told}; {words}" if words else told, arm.measurement)
    _beside(axes, row, words or interval)
    return [low, high, arm.flop_ratio if _known(arm.flop_ratio) else 1.0]


def claims_chart(cards: pd.DataFrame, *, styles: Mapping[str, Look] | None = None) -> Chart:
    """Claimed factors beside what one measurement found of them, each way of training a mark, and
    what FLOPs predict.

    Args:
        cards: of `harness.report.claims.cards_frame`, of one measurement.
    """
    from matplotlib.lines import Line2D

    names, ways = list(dict.fromkeys(cards["claim"])), list(dict.fromkeys(cards["trained"]))
    styles = {**looks(cards["method"]), **(styles or {})}
    with _style():
        size = 0.95 + 0.4 * len(names)
        figure, axes = _figure(size, _name_column(names), 1.62, 0.72, 0.1)
        chart = Chart("claims", "Claimed and measured", figure, cards.reset_index(drop=True))
        axes.axvline(1, color=MUTED, lw=0.8, zorder=1)
        values = list[float]()
        for row, name in enumerate(names):
            found = cards[cards["claim"] == name]
            values += _claim_row(chart, axes, row, found, ways, styles)
        _rows(axes, names)
        _log_factors(axes, values)
        untested = "" if cards["tested"].any() else ", which tests none"
        where = f"measured on {short(cards['device'].iloc[0])}{untested}"
        over = " or ".join(dict.fromkeys(cards["baseline"]))
        label = f"times as fast as {short(over)}, log scale; {where}"
        axes.set_xlabel(label, fontsize=_SMALLER, loc="left", labelpad=2)
        handles = [
            Line2D([], [], color=INK, marker="D", mfc="white", ms=5, lw=0, label="claimed"),
            Line2D([], [], color=INK, marker="|", ms=9, mew=2, lw=0, label="FLOPs predict"),
            *(
                Line2D([], [], color=INK, marker=shape, ms=4, lw=1.4, label=way)
                for way, shape in zip(ways, _MARKERS, strict=False)
            ),
        ]
        _key(axes, handles, 0.42)
    return chart


def _claim_row(
    chart: Chart,
    axes: Axes,
    row: int,
    found: pd.DataFrame,
    ways: Sequence[str],
    styles: Mapping[str, Look],
) -> list[float]:
    """One claim of the chart of claims; the values that its axis must hold."""
    values, about = list[float](), next(iter(each(found)))
    claimed = axes.plot([about.claimed], [row], marker="D", ms=5.5, color=INK, mfc="white", lw=0)
    told = f"{said(about.claim)}: {about.statement}; {about.hardware}"
    chart.tell(claimed, told, about.measurement)
    if _known(about.flop_ratio):
        tick = axes.plot([about.flop_ratio] * 2, [row - 0.34, row + 0.34], color=INK, lw=1.8)
        told = f"{said(about.method)}: FLOPs predict {_factor(about.flop_ratio)}"
        chart.tell(tick, told, about.measurement)
        values.append(about.flop_ratio)
    for one in each(found[found["measured"].notna()]):
        place, colour = ways.index(one.trained), styles[one.method].colour
        at, ends = row + 0.4 * place - 0.2, (one.measured_low, one.measured_high)
        line = axes.plot(ends, [at, at], color=colour, lw=2.2)
        inside = "white" if one.measured_noise else colour
        mark = axes.plot(
            [one.measured], [at], marker=_MARKERS[place], ms=5, color=colour, mfc=inside, lw=0
        )
        interval = _with_interval(one.measured, *ends)
        told = f"{said(one.claim)}, {one.trained}: {interval}; {one.verdict}"
        chart.tell([*line, *mark], told, one.measurement)
        _beside(axes, at, one.verdict if one.verdict in _NO_NUMBER else interval)
        values += ends
    return [*values, about.claimed]


_NO_NUMBER = ("in doubt", "not measurable here")
"""Verdicts that stand in a chart where the number would."""


# --- who represents better ---


def accuracy_chart(
    comparison: Comparison,
    *,
    styles: Mapping[str, Look] | None = None,
    addresses: Mapping[str, str] | None = None,
) -> Chart:
    """Accuracy of every row of a column with its interval and its seeds; controls as lines; rows
    that are not told apart joined by a bar at the side.

    Args:
        addresses: address of a record that stands for a row.
    """
    rows, found, column = comparison.rows, comparison.these, comparison.column
    control = rows["control"].astype(bool)
    methods = rows[~control].sort_values("accuracy", ascending=False, kind="stable")
    controls, labels = rows[control], list(methods["label"])
    seeds_of = {row.label: [100 * value for value in row.by_seed.values()] for row in column.rows}
    styles, addresses = styles or looks(labels), addresses or {}
    groups = _joined(labels, found)
    with _style():
        right = 0.98 + 0.1 * len(groups)
        figure, axes = _figure(
            0.8 + 0.3 * max(len(labels), 1), _name_column(labels), right, 0.46, 0.34
        )
        name = "-".join(re.findall("[A-Za-z0-9]+", column.name[: 4 * _LONGEST])).lower()
        title = f"{short(column.name, 40)}, {column.clips} test clips"
        chart = Chart(f"accuracy-{name}", title, figure, rows)
        values: list[float] = []
        for row, one in enumerate(each(methods)):
            look = styles[one.label]
            seeds = seeds_of[one.label]
            low, high = 100 * one.accuracy_low, 100 * one.accuracy_high
            line = axes.plot([low, high], [row, row], color=look.colour, lw=2.2, alpha=0.75)
            dots = axes.plot(
                seeds, [row + 0.24] * len(seeds), marker="o", ms=2.2, color=look.colour, lw=0
            )
            mark = axes.plot(
                [100 * one.accuracy], [row], marker=look.marker, ms=5.5, color=look.colour, lw=0
            )
            over = (
                f"mean of {len(seeds)} seeds"
                if len(seeds) > 1
                else "one seed" + "; the interval is that of its clips" * bool(column.clips)
            )
            interval = f" [{low:.1f}, {high:.1f}]" if math.isfinite(low) else ""
            told = f"{said(one.label)}: {100 * one.accuracy:.1f} %{interval}, {over}"
            chart.tell([*line, *dots, *mark], told, addresses.get(one.label, ""))
            _beside(axes, row, f"{100 * one.accuracy:.1f}{interval}")
            values += [*filter(math.isfinite, (low, high)), *seeds]
        for number, one in enumerate(each(controls)):
            value = 100 * one.accuracy
            upright = axes.axvline(
                value, color=MUTED, lw=1, dashes=_DASHES[1 + number % 3], zorder=1
            )
            chart.tell(
                upright, f"{said(one.label)} (control): {value:.1f} %", addresses.get(one.label, "")
            )
            values.append(value)
        for place, (first, last) in enumerate(groups):
            across = 1.0 + (0.99 + 0.1 * place) / (axes.get_position().width * _WIDTH)
            bar = axes.plot(
                [across, across],
                [first - 0.22, last + 0.22],
                transform=axes.get_yaxis_transform(),
                color=INK,
                lw=1.6,
                clip_on=False,
                solid_capstyle="butt",
            )
            chart.tell(
                bar,
                f"not told apart: {', '.join(short(label) for label in labels[first : last + 1])}",
            )
        _rows(axes, labels)
        low, high = min(values, default=0), max(values, default=100)
        room = max(0.06 * (high - low), 0.5)
        axes.set_xlim(max(low - room, -1), min(high + room, 101))
        _control_names(axes, controls)
        axes.tick_params(axis="x", labelsize=_SMALLER)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="x", color=FAINT, lw=0.6)
        axes.set_xlabel("% of test clips", fontsize=_SMALLER, loc="left", labelpad=2)
    return chart


def _control_names(axes: Axes, controls: pd.DataFrame) -> None:
    """Above the lines of controls, apart from each other."""
    low, high = axes.get_xlim()
    places, spread = list[float](), (high - low) / 2.6
    for one in each(controls.sort_values("accuracy")):
        value = 100 * one.accuracy
        at = min(max(value, places[-1] + spread if places else value), high)
        places.append(at)
        axes.annotate(
            f"{short(one.label, 14)} {value:.1f}",
            (value, 1),
            xytext=(at, 1.05),
            xycoords=("data", "axes fraction"),
            textcoords=("data", "axes fraction"),
            fontsize=7,
            color=MUTED,
            ha="center",
            va="bottom",
            annotation_clip=False,
        )


def _joined(labels: Sequence[str], found: Sequence[Pair]) -> list[tuple[int, int]]:
    """First and last place of every longest run of neighbours none of which is told apart from
    another; of those that are tested at all.
    """
    tested = {frozenset((pair.above, pair.below)): pair for pair in found if pair.holm is not None}

    def together(first: int, last: int) -> bool:
        some = [tested.get(frozenset(pair)) for pair in combinations(labels[first : last + 1], 2)]
        return all(pair is not None and not pair.apart for pair in some)

    runs: list[tuple[int, int]] = []
    for first in range(len(labels)):
        last = first
        while last + 1 < len(labels) and together(first, last + 1):
            last += 1
        if last > first and not any(before <= first and last <= after for before, after in runs):
            runs.append((first, last))
    return runs


# --- what is the trade ---

_SPENT = {
    "clips_seen": "clips seen",
    "interleaved_seconds": "training seconds (interleaved step time)",
    "seconds": "training seconds",
}


def trade_chart(
    points: pd.DataFrame,
    x: str = "interleaved_seconds",
    *,
    controls: Mapping[str, float] | None = None,
    styles: Mapping[str, Look] | None = None,
) -> Chart:
    """Accuracy against what was spent: thin lines for seeds, a marked one for their mean.

    Args:
        points: of `harness.report.frame.points_frame`.
        x: a column of `_SPENT`.
        controls: mean accuracy of each control.
    """
    points = points[points[x].notna() & points["linear"].notna()]
    shown = _styled(points, styles)
    runs: Any = points.groupby("address", sort=False)
    means = _mean_points(points, x)
    names = (_SPENT[x], _LINEAR)
    with _curves(shown, names, 2.9, across=controls) as (figure, axes):
        chart = Chart(
            f"linear-against-{x.replace('_', '-')}", f"Accuracy against {_SPENT[x]}", figure, points
        )
        if runs.ngroups <= _MOST_SEED_LINES:
            for address, run in runs:
                look, first = shown[run["label"].iloc[0]], run.iloc[0]
                line = axes.plot(
                    run[x], 100 * run["linear"], color=look.colour, lw=0.7, alpha=0.45, zorder=2
                )
                last = run.iloc[-1]
                told = (
                    f"{said(first['label'])}, seed {first['seed']}: {100 * last['linear']:.1f} % at"
                    " the end"
                )
                chart.tell(line, told, str(address))
        for label, look in shown.items():
            mean = means[means["label"] == label]
            _curve(axes, mean[x], 100 * mean["linear"], look)
            for one in each(mean):
                at, value = getattr(one, x), 100 * one.linear
                mark = _point(axes, at, value, look)
                unit = "clips" if x == "clips_seen" else "s"
                over = f" (mean of {one.seeds} seeds)" if one.seeds > 1 else ""
                chart.tell(mark, f"{said(label)}: {value:.1f} % after {at:,.4g} {unit}{over}")
        axes.margins(x=0.02)
        axes.grid(color=FAINT, lw=0.6)
        axes.xaxis.set_major_formatter(_thousands)
    return chart


def _styled(frame: pd.DataFrame, styles: Mapping[str, Look] | None) -> dict[str, Look]:
    """The look of every row of a frame, in their order."""
    labels = list(dict.fromkeys(frame["label"]))
    styles = styles or looks(labels)
    return {label: styles.get(label, Look(MUTED, "o", ())) for label in labels}


@contextmanager
def _curves(
    shown: Mapping[str, Look],
    names: tuple[str, str],
    height: float,
    *,
    left: float = 0.42,
    bottom: float = 0.62,
    top: float = 0.1,
    key: float = 0.45,
    across: Mapping[str, float] | None = None,
) -> Iterator[tuple[Figure, Axes]]:
    """A figure for curves, with the names of both axes, and the key of all rows below.

    Args:
        height: inches without the key; left, bottom, top: of the margins; key: where it begins.
        across: accuracies that are lines across, with what they are of: controls, a target.
    """
    below = 0.17 * -(-len(shown) // 2)
    longest = max(
        (len(_name_of(label, value)) for label, value in (across or {}).items()), default=0
    )
    with _style():
        figure, axes = _figure(height + below, left, 0.12 + 0.054 * longest, bottom + below, top)
        yield figure, axes
        _across(axes, across or {})
        axes.tick_params(labelsize=_SMALLER)
        axes.set_xlabel(names[0], fontsize=_SMALLER, loc="left", labelpad=2)
        axes.set_ylabel(names[1], fontsize=_SMALLER, labelpad=2)
        _key(axes, [_handle(label, look) for label, look in shown.items()], key)


def _thousands(value: float, _: Any = None) -> str:
    return (
        f"{value / 1e6:g}M"
        if abs(value) >= 1e6
        else f"{value / 1e3:g}k"
        if abs(value) >= 1e4
        else f"{value:g}"
    )


def _curve(axes: Axes, x: pd.Series[float], y: pd.Series[float], look: Look) -> None:
    dashes = look.dashes or (None, None)
    axes.plot(x, y, color=look.colour, lw=1.7, dashes=dashes, zorder=3)


def _point(axes: Axes, x: float, y: float, look: Look) -> list[Any]:
    return axes.plot([x], [y], marker=look.marker, ms=4.5, color=look.colour, lw=0, zorder=4)


def _handle(label: str, look: Look) -> Any:
    from matplotlib.lines import Line2D

    dashes = look.dashes or (None, None)
    return Line2D(
        [],
        [],
        color=look.colour,
        marker=look.marker,
        ms=4.5,
        lw=1.7,
        dashes=dashes,
        label=short(label, 30),
    )


def _name_of(label: str, accuracy: float) -> str:
    """``raw-pca 77.0``."""
    return f"{short(label, 16)} {100 * accuracy:.1f}"


def _across(axes: Axes, accuracies: Mapping[str, float]) -> None:
    """Lines across, each named beside its end, where no curve is; names that would lie on each
    other are moved apart.
    """
    for number, value in enumerate(accuracies.values()):
        axes.axhline(100 * value, color=MUTED, lw=0.9, dashes=_DASHES[1 + number % 3], zorder=1)
    low, high = axes.get_ylim()
    inches = axes.get_figure(root=True).get_figheight() * axes.get_position().height  # type: ignore[union-attr]
    line, at = _NAME_HEIGHT / inches * (high - low), -math.inf
    for label, value in sorted(accuracies.items(), key=lambda share: share[1]):
        at = max(100 * value, at + line)
        axes.text(
            1.01,
            at,
            _name_of(label, value),
            transform=axes.get_yaxis_transform(),
            fontsize=7,
            color=MUTED,
            ha="left",
            va="center",
        )


def _mean_points(points: pd.DataFrame, x: str) -> pd.DataFrame:
    """Mean over seeds at every evaluation that all runs of a row have; `seeds` of each."""
    runs: pd.Series = points.groupby("label")["address"].nunique()
    grouped = points.groupby(["label", "step"], sort=False)
    means = grouped.agg(
        **{x: (x, "mean"), "linear": ("linear", "mean"), "seeds": ("address", "nunique")}
    ).reset_index()
    means = means[means["seeds"] == means["label"].map(runs)]
    return means.sort_values(["label", "step"], kind="stable")


def ladder_chart(
    rungs: pd.DataFrame,
    across: Mapping[str, float] | None = None,
    *,
    styles: Mapping[str, Look] | None = None,
) -> Chart:
    """Seconds until each accuracy of a ladder is reached, where all seeds of a row got there.

    Args:
        rungs: of `harness.report.target.ladder_frame`: accuracy, label, seconds, reached, runs.
        across: accuracies that are lines, by what they are of: the target, the untrained encoder.
    """
    shown = _styled(rungs, styles)
    names = ("training seconds until all seeds got there; a line ends where one did not", _LINEAR)
    with _curves(shown, names, 2.7, across=across) as (figure, axes):
        chart = Chart("ladder", "Time to accuracy", figure, rungs)
        for label, look in shown.items():
            own = rungs[(rungs["label"] == label) & rungs["seconds"].notna()]
            _curve(axes, own["seconds"], 100 * own["accuracy"], look)
            for one in each(own):
                mark = _point(axes, one.seconds, 100 * one.accuracy, look)
                told = (
                    f"{said(label)}: {100 * one.accuracy:.1f} % after {one.seconds:,.4g} s, all"
                    f" {one.runs} seeds"
                )
                chart.tell(mark, told)
        axes.grid(color=FAINT, lw=0.6)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(_thousands)
    return chart


# --- why ---


def phases_chart(arms: pd.DataFrame) -> Chart:
    """Milliseconds per clip of every arm of one measurement, by phase of a step.

    Args:
        arms: of `harness.report.frame.arms_frame`; its columns ``phase_*`` are seconds over all
            blocks.
    """
    from matplotlib.patches import Patch

    names = [
        name
        for name in arms.columns
        if name.startswith("phase_") and arms[name].fillna(0).sum() > 0
    ]
    labels = list(arms["label"])
    with _style():
        lines = -(-len(names) // 3)
        figure, axes = _figure(
            0.62 + 0.28 * len(labels) + 0.17 * lines,
            _name_column(labels),
            0.8,
            0.5 + 0.17 * lines,
            0.06,
        )
        shares = arms[names].fillna(0)
        totals = shares.sum(axis=1)
        milliseconds = shares.div(totals.where(totals > 0, 1), axis=0).mul(
            1000 / arms["clips_per_second"], axis=0
        )
        data = pd.concat([arms[["measurement", "label"]], milliseconds], axis=1).reset_index(
            drop=True
        )
        chart = Chart("phases", "Time per clip, by phase", figure, data)
        for row, arm in enumerate(data.to_dict("records")):
            start, total = 0.0, sum(arm[name] for name in names)
            for place, name in enumerate(names):
                if arm[name] > 0.001 * total:
                    colour = PHASES[place % len(PHASES)]
                    bar = axes.barh(row, arm[name], left=start, height=0.62, color=colour, lw=0)
                    told = f"{arm[name]:.3g} ms per clip, {arm[name] / total:.0%} of a step"
                    chart.tell(
                        bar.patches,
                        f"{said(arm['label'])}, {said(name[6:])}: {told}",
                        arm["measurement"],
                    )
                start += arm[name]
            _beside(axes, row, f"{total:.3g} ms")
        _rows(axes, labels)
        axes.tick_params(axis="x", labelsize=_SMALLER)
        axes.set_xlabel("ms per clip", fontsize=_SMALLER, loc="left", labelpad=2)
        handles = [
            Patch(color=PHASES[place % len(PHASES)], label=short(name[6:]))
            for place, name in enumerate(names)
        ]
        _key(axes, handles, 0.4, columns=3)
    return chart


def waterfall_chart(
    arms: pd.DataFrame,
    ratios: Mapping[str, str] | None = None,
    *,
    styles: Mapping[str, Look] | None = None,
) -> Chart:
    """Milliseconds per clip of every method, from the published way of training down to every
    switch.

    Args:
        arms: of `harness.report.frame.arms_frame`, of one measurement of stages.
        ratios: what stands beside each stage.
    """
    from matplotlib.ticker import NullFormatter, NullLocator

    arms = arms[arms["stage"].notna() & (arms["stage"] != "")]
    stages, methods = list(dict.fromkeys(arms["stage"])), list(dict.fromkeys(arms["method"]))
    rows = {stage: row for row, stage in enumerate(stages)}
    styles = styles or looks(methods)
    with _style():
        figure, axes = _figure(
            0.85 + 0.24 * len(stages), _name_column(stages, 28), 1.2 if ratios else 0.15, 0.66, 0.06
        )
        data = arms[["measurement", "method", "stage", "clips_per_second"]].assign(
            ms_per_clip=1000 / arms["clips_per_second"]
        )
        chart = Chart("waterfall", "What each switch brings", figure, data.reset_index(drop=True))
        for method in methods:
            own, look = data[data["method"] == method], styles[method]
            axes.plot(
                own["ms_per_clip"],
                own["stage"].map(rows),
                color=look.colour,
                lw=1.2,
                dashes=look.dashes or (None, None),
            )
            for one in each(own):
                mark = axes.plot(
                    [one.ms_per_clip],
                    [rows[one.stage]],
                    marker=look.marker,
                    ms=5,
                    color=look.colour,
                    lw=0,
                )
                told = f"{said(method)}, {said(one.stage)}: {one.ms_per_clip:.3g} ms per clip"
                chart.tell(mark, told, one.measurement)
        for stage, text in (ratios or {}).items():
            if stage in rows:
                _beside(axes, rows[stage], text)
        _rows(axes, stages, 28)
        axes.set_xscale("log")
        low, high = data["ms_per_clip"].min(), data["ms_per_clip"].max()
        axes.set_xlim(low / 1.15, high * 1.15)
        ticks = _steps(low / 1.1, high * 1.1)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="x", color=FAINT, lw=0.6)
        axes.tick_params(axis="x", labelsize=_SMALLER)
        axes.set_xlabel("ms per clip, log scale", fontsize=_SMALLER, loc="left", labelpad=2)
        _key(axes, [_handle(method, styles[method]) for method in methods], 0.42)
    return chart


# --- can I believe it ---


def blocks_chart(blocks: pd.DataFrame, *, styles: Mapping[str, Look] | None = None) -> Chart:
    """Every block of a measurement in the order of rounds, over the median of its method.

    Args:
        blocks: of `harness.report.frame.blocks_frame`, of one measurement.
    """
    from matplotlib.ticker import MaxNLocator

    shown, names = _styled(blocks, styles), ("round", "% of median clips/s")
    with _curves(shown, names, 1.9, left=0.5, bottom=0.6, top=0.08, key=0.43) as drawn:
        figure, axes = drawn
        chart = Chart("blocks", "Blocks of the measurement", figure, blocks)
        for label, look in shown.items():
            own = blocks[blocks["label"] == label]
            share = 100 * own["clips_per_second"] / own["clips_per_second"].median()
            line = axes.plot(
                own["block"],
                share,
                color=look.colour,
                marker=look.marker,
                ms=2.6,
                lw=0.7,
                alpha=0.9,
            )
            told = (
                f"{said(label)}: slowest block {share.min():.0f} %, fastest {share.max():.0f} % of"
                " its median"
            )
            chart.tell(line, told, own["measurement"].iloc[0])
        axes.axhline(100, color=MUTED, lw=0.7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return chart


def curves_chart(
    frame: pd.DataFrame,
    columns: Sequence[tuple[str, str, str]],
    *,
    name: str,
    title: str,
    styles: Mapping[str, Look],
) -> Chart:
    """Small panels of curves over steps: every run of a row in the row's colour.

    Args:
        frame: with label, seed, address, step and the columns that are drawn.
        columns: of each panel: its heading, a column of the frame, and the label whose runs it
            holds, all where empty.
    """
    from matplotlib.figure import Figure

    columns = columns[:_MOST_PANELS]
    across = 3
    down = -(-len(columns) // across)
    with _style():
        height = 1.12 * down + 0.12
        figure = Figure(figsize=(_WIDTH, height))
        chart = Chart(name, title, figure, frame)
        for place, (heading, column, label) in enumerate(columns):
            left, low = (place % across) / across, 1 - (place // across + 1) * 1.12 / height
            axes = figure.add_axes(
                (
                    left + 0.42 / _WIDTH,
                    low + 0.24 / height,
                    1 / across - 0.5 / _WIDTH,
                    0.66 / height,
                )
            )
            own = frame[frame[column].notna()]
            own = own[own["label"] == label] if label else own
            for drawn, runs in own.groupby("label", sort=False):
                look = styles.get(str(drawn), Look(MUTED, "o", ()))
                steps, values = _one_line(runs, column)
                dot = "o" if len(runs) == runs["address"].nunique() else ""
                line = axes.plot(steps, values, color=look.colour, lw=0.8, marker=dot, ms=2)
                chart.tell(line, f"{said(drawn)}: {said(heading)} {_ends_of(runs, column)}")
            axes.set_title(short(heading, 20), fontsize=7.5, loc="left", pad=2)
            axes.tick_params(labelsize=6, length=2, pad=1.5)
            axes.locator_params(nbins=3)
            axes.xaxis.set_major_formatter(_thousands)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    return chart


def _one_line(runs: pd.DataFrame, column: str) -> tuple[list[float], list[float]]:
    """The curves of several runs behind each other, with a gap between,
    thinned to `_MOST_POINTS` each.
    """
    steps, values = list[float](), list[float]()
    for _, run in list(runs.groupby("address", sort=False))[:_MOST_SEED_LINES]:
        some = run.iloc[:: -(-len(run) // _MOST_POINTS)]
        steps += [*some["step"].astype(float), math.nan]
        values += [*some[column].astype(float), math.nan]
    return steps, values


def _ends_of(runs: pd.DataFrame, column: str) -> str:
    """``0.42 to 0.51 at the end of 3 runs``."""
    ends = runs.groupby("address", sort=False)[column].last()
    low, high = f"{ends.min():.4g}", f"{ends.max():.4g}"
    over = f" of {len(ends)} runs" if len(ends) > 1 else ""
    return f"{low if low == high else f'{low} to {high}'} at the end{over}"
