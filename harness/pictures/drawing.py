"""Pictures of clips without a display: strips of stick figures, and animations that colour visible
and masked tokens.

Figures are seen from the front, three quarters, in parallel projection, y up. Left limbs are blue,
right ones orange, the middle grey; a second body is paler.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from datasets.clips import ClipSet
from datasets.doctor.body import FORWARD, RIGHT, body_vectors, head_joint
from datasets.errors import DataError
from datasets.files import atomic_file
from datasets.layouts import SkeletonLayout
from datasets.wording import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from PIL.Image import Image

_FIGURES = 8
"""Stick figures in a row."""
MOST_FRAMES = 100
"""Frames of an animation; of longer clips every second or third one is drawn."""
_AZIMUTH, _ELEVATION = math.radians(30), math.radians(8)
"""Where the viewer stands: turned to the person's left from straight ahead, and raised."""
_SIDES = (("#0072b2", "#d55e00", "#555555"), ("#86bbd8", "#efb58a", "#b0b0b0"))
"""Colours of left, right and middle, for the first body and for the others."""
_GREEN, _MASKED, _PALE = "#009e73", "#aaaaaa", "#c8c8c8"
_GREY = "#777777"
_DPI, _WIDTH, _ROW = 100, 11.0, 1.9
"""Dots per inch; inches of a strip across, and of one row down."""

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Sketch:
    """A clip as it is drawn.

    Attributes:
        frames: [T, M, V, 3]; an absent body is all zeros.
        layout: the skeleton.
        view: [2, 3] turns coordinates into what the viewer sees to the right and up.
    """

    frames: Floats
    layout: SkeletonLayout
    view: Floats

    @classmethod
    def of(cls, frames: Floats, layout: SkeletonLayout) -> Sketch:
        """A clip seen from its own front; what is no finite number counts as 0."""
        finite = np.nan_to_num(np.asarray(frames, np.float32), posinf=0, neginf=0)
        return cls(finite, layout, viewpoint(finite[finite.any(axis=(2, 3))], layout))

    @cached_property
    def present(self) -> Bools:
        """[T, M] the body is there."""
        return np.asarray(self.frames.any(axis=(2, 3)))

    @cached_property
    def bones(self) -> NDArray[np.int64]:
        """[B, 2] joints at the ends of each bone."""
        return np.array(self.layout.bones, np.int64).reshape(-1, 2)

    @cached_property
    def sides(self) -> NDArray[np.int64]:
        """[V] 0 left, 1 right, 2 middle."""
        sides = np.full(self.layout.joint_count, 2)
        for left, right in self.layout.pairs:
            sides[left], sides[right] = 0, 1
        return sides

    @cached_property
    def screen(self) -> Floats:
        """[T, M, V, 2] to the right and up, as the viewer sees the clip."""
        return self.frames @ self.view.T

    @cached_property
    def size(self) -> float:
        """What a frame usually takes: median over frames of the larger of width and height."""
        extents = [
            np.ptp(frame[there].reshape(-1, 2), axis=0).max() for frame, there in self.inhabited
        ]
        return float(np.median(extents)) if extents and np.median(extents) > 0 else 1.0

    @cached_property
    def inhabited(self) -> list[tuple[Floats, Bools]]:
        """Screen positions and presence of the frames with a body."""
        return [
            (frame, there)
            for frame, there in zip(self.screen, self.present, strict=True)
            if there.any()
        ]

    def colours(self, body: int) -> list[str]:
        """Of each bone, by the side of the joint at its lower end."""
        return [_SIDES[min(body, 1)][self.sides[joint]] for joint, _ in self.bones]

    @cached_property
    def head(self) -> tuple[list[int], float] | None:
        """The joints between which a head is drawn, and its radius."""
        top = head_joint(self.layout)
        if top is None or self.layout.parents[top] < 0 or not self.present.any():
            return None
        below = self.layout.parents[top]
        ends = self.frames[self.present][:, [top, below]]
        length = float(np.median(np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1)))
        joints = [top, below] if "head" in self.layout.joints[below].lower() else [top]
        return joints, min(0.6 * length, 0.06 * self.size)


def viewpoint(poses: Floats, layout: SkeletonLayout) -> Floats:
    """``[2, 3]`` matrix that turns coordinates into what a viewer sees to the right and up.

    Poses [P, V, 3] tell where the front is: up x right, turned round where the toes point the other
    way.
    """
    ahead = np.array([0.0, 0.0, 1.0])
    if len(poses):
        vectors = np.einsum("kv,pvc->kpc", body_vectors(layout), poses)
        right, toes = vectors[RIGHT].mean(axis=0), vectors[FORWARD].mean(axis=0)
        ahead = np.array([right[2], 0.0, -right[0]])
        if ahead @ toes < 0:
            ahead = -ahead
    length = np.linalg.norm(ahead)
    ahead = ahead / length if length > 0 else np.array([0.0, 0.0, 1.0])
    up = np.array([0.0, 1.0, 0.0])
    viewer = math.cos(_AZIMUTH) * ahead + math.sin(_AZIMUTH) * np.cross(up, ahead)
    raised = math.cos(_ELEVATION) * viewer + math.sin(_ELEVATION) * up
    to_right = np.cross(up, viewer)
    return np.stack([to_right, np.cross(raised, to_right)])


# --- strips ---


def sample_clips(clips: ClipSet) -> list[int]:
    """Up to six clips of different classes, spread evenly over classes and over the clips of each;
    always the same ones.
    """
    labels = np.unique(clips.columns["label"])
    chosen = labels[np.unique(np.linspace(0, len(labels) - 1, 6).round().astype(int))]
    members = [np.flatnonzero(clips.columns["label"] == label) for label in chosen]
    return [
        int(some[(2 * place + 1) * len(some) // (2 * len(members))])
        for place, some in enumerate(members)
    ]


@contextmanager
def _plain_text() -> Iterator[None]:
    """Names are text, not formulas, and a letter that the font lacks is a box,
    not a warning of a library.
    """
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def check_ending(path: Path, ending: str) -> None:
    """A `DataError` where a picture's file is not named as its kind is (``.gif``)."""
    if path.suffix.lower() != ending:
        raise DataError(
            f"{path}: expected a picture's name that ends in {ending}, found"
            f" {path.suffix or 'no ending'}; write {path.with_suffix(ending)}"
        )


@_plain_text()
def strip(clips: ClipSet, indices: Sequence[int], path: Path) -> None:
    """Leave a PNG: per clip a row of stick figures at even distances in time, and the histogram of
    clip lengths.

    Raises:
        DataError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    heights = [_ROW] * len(indices) + [1.6]
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=_DPI, layout="constrained")
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, index in zip(axes, indices, strict=False):
        _draw_row(ax, clips, index)
    _draw_lengths(axes[-1], clips)
    _write(path, lambda file: figure.savefig(file, format="png"))


def _draw_row(ax: Axes, clips: ClipSet, index: int) -> None:
    """Stick figures of one clip, all in one scale, each in the middle of its cell."""
    frames = clips.clip(index)
    times = np.unique(np.linspace(0, len(frames) - 1, _FIGURES).round().astype(int))
    sketch = Sketch.of(frames, clips.layout)
    cell, low, high = _cell_of(sketch, times)
    for place, time in enumerate(times):
        there = sketch.present[time]
        middle = sketch.screen[time, there].reshape(-1, 2)[:, 0].mean() if there.any() else 0.0
        shift = np.array([(place + 0.5) * cell - middle, 0.0])
        for body in reversed(np.flatnonzero(there)):
            _draw_figure(ax, sketch, sketch.screen[time, body] + shift, int(body))
        ax.text(
            (place + 0.5) * cell,
            low,
            f"{time / clips.fps:.1f} s",
            ha="center",
            va="top",
            fontsize=7,
            color=_GREY,
            parse_math=False,
        )
    ax.set(xlim=(0, _FIGURES * cell), ylim=(low, high), aspect="equal")
    ax.axis("off")
    ax.set_title(row_title(clips, index), fontsize=9, loc="left", parse_math=False)


def _cell_of(sketch: Sketch, times: NDArray[np.int64]) -> tuple[float, float, float]:
    """Width of a figure's cell, and the lowest and highest point;
    single absurd joints do not widen it.
    """
    shown = [
        sketch.screen[time, sketch.present[time]].reshape(-1, 2)
        for time in times
        if sketch.present[time].any()
    ]
    if not shown:
        return 1.0, 0.0, 1.0
    half = max(np.abs(points[:, 0] - points[:, 0].mean()).max() for points in shown)
    floor, top = (
        np.median([points[:, 1].min() for points in shown]),
        np.median([p[:, 1].max() for p in shown]),
    )
    low = max(min(points[:, 1].min() for points in shown), floor - sketch.size / 2)
    high = min(max(points[:, 1].max() for points in shown), top + sketch.size / 2)
    margin = 0.08 * sketch.size
    fill = (
        (high - low + 2 * margin) * _WIDTH / (_ROW - 0.3) / _FIGURES
    )  # a row without its title, shared evenly
    return max(2 * (min(half, sketch.size) + margin), fill), low - margin, high + margin


def _draw_figure(ax: Axes, sketch: Sketch, points: Floats, body: int) -> None:
    """One stick figure [V, 2]."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Circle

    ax.add_collection(
        LineCollection(list(points[sketch.bones]), colors=sketch.colours(body), linewidths=1.6)
    )
    if sketch.head:
        joints, radius = sketch.head
        x, y = points[joints].mean(axis=0)
        colour = _SIDES[min(body, 1)][2]
        ax.add_patch(
            Circle((x, y), radius, edgecolor=colour, facecolor="white", linewidth=1.2, zorder=3)
        )


def row_title(clips: ClipSet, index: int) -> str:
    """Class, length, subject and view of a clip."""
    length, columns = int(clips.lengths[index]), clips.columns
    parts = [
        clips.class_names[columns["label"][index]],
        f"{length} frames, {length / clips.fps:.1f} s",
        f"subject {columns['subject'][index]}",
    ]
    if "view" in columns:
        parts.append(f"view {columns['view'][index]}")
    return "   ".join([*parts, clips.describe(index)])


def _draw_lengths(ax: Axes, clips: ClipSet) -> None:
    """Histogram of clip lengths with the median."""
    lengths, median = clips.lengths, float(np.median(clips.lengths))
    bins = np.arange(lengths.min(), lengths.max() + 2, max(1, round(np.ptp(lengths) / 60))) - 0.5
    ax.hist(lengths, bins=list(bins), color=_SIDES[1][0])
    ax.axvline(median, color=_SIDES[0][1], linewidth=1)
    ax.set_title(
        f"{clips.name}: lengths of {len(clips):,} clips, median {median:g} frames",
        fontsize=9,
        loc="left",
        parse_math=False,
    )
    ax.set_xlabel("frames", fontsize=8)
    ax.set_ylabel("clips", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.spines[["top", "right"]].set_visible(False)


# --- animations ---


@_plain_text()
def animate(
    frames: Floats,
    layout: SkeletonLayout,
    path: Path,
    fps: float,
    *,
    visible: Bools | None = None,
    reconstruction: Floats | None = None,
    title: str = "",
) -> None:
    """Leave a GIF of a clip.

    Args:
        frames: [T, M, V, 3]; an absent body is all zeros.
        layout: the skeleton.
        path: of the GIF.
        fps: frames per second of the clip; of more than `MOST_FRAMES` frames some are left out, at
            the same pace.
        visible: [T', V], or [T', M, V] for each body, True for a visible token, T' dividing T;
            visible joints are filled, masked ones hollow.
        reconstruction: [T, M, V, 3] drawn beside the original, with the original in grey behind it.
        title: stands above.

    Raises:
        DataError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 1 if reconstruction is None else 2
    figure = Figure(figsize=(3.4 * panels, 3.9), dpi=_DPI)
    canvas = FigureCanvasAgg(figure)
    sketch = Sketch.of(frames, layout)
    seen = None if visible is None else spread(visible, sketch.present.shape)
    actors = [
        _Actor(
            _panel(figure, 0, panels, sketch, "original" if panels == 2 else ""),
            sketch,
            sketch,
            seen,
        )
    ]
    if reconstruction is not None:
        made = replace(sketch, frames=np.where(sketch.present[..., None, None], reconstruction, 0))
        actors.append(
            _Actor(_panel(figure, 1, panels, sketch, "reconstruction"), made, sketch, seen)
        )
    figure.text(0.02, 0.975, title, fontsize=8, va="top", parse_math=False)
    clock = figure.text(0.02, 0.02, "", fontsize=8, color=_GREY)
    step = -(-len(frames) // MOST_FRAMES)
    images: list[Image] = []
    for time in range(0, len(frames), step):
        for actor in actors:
            actor.move(time)
        clock.set_text(f"{time / fps:.2f} s")
        images.append(_snapshot(canvas))
    delays = gif_delays(len(images), step / fps)
    _write(
        path,
        lambda file: images[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=delays,
            loop=0,
            optimize=False,
        ),
    )


def gif_delays(count: int, seconds: float) -> list[int]:
    """Milliseconds of each image, so that all together last as long as they should.

    A GIF counts hundredths of a second, and viewers take less than two for a mistake.
    """
    ends = [round(100 * seconds * number) for number in range(count + 1)]
    return [10 * max(2, end - start) for start, end in pairwise(ends)]


def spread(visible: Bools, shape: tuple[int, ...]) -> Bools:
    """``[T, M, V]`` from the tokens [T', V] or [T', M, V], for frames and bodies [T, M]."""
    tokens = visible[:, None] if visible.ndim == 2 else visible
    frames = np.repeat(tokens, shape[0] // len(tokens), axis=0)
    return np.broadcast_to(frames, (*shape, visible.shape[-1]))


class _Actor:
    """The stick figures of one panel, moved from frame to frame.

    Args:
        ax: the panel.
        sketch: what is drawn.
        original: drawn in grey behind it where it is another one.
        seen: [T, M, V] visible joints, or None.
    """

    def __init__(self, ax: Axes, sketch: Sketch, original: Sketch, seen: Bools | None) -> None:
        self.sketch, self.original, self.seen = sketch, original, seen
        bodies = range(sketch.frames.shape[1])
        self.shadows = [_limbs(ax, _PALE) for _ in bodies if sketch is not original]
        self.lines = [
            _limbs(ax, sketch.colours(body), alpha=1 if seen is None else 0.55) for body in bodies
        ]
        self.dots = [
            ax.scatter([], [], s=8 if seen is None else 22, linewidths=1, zorder=3) for _ in bodies
        ]
        self.heads = [
            ax.scatter([], [], s=130, facecolors="none", linewidths=1.2, zorder=2) for _ in bodies
        ]

    def move(self, time: int) -> None:
        """Show one frame."""
        bones = self.sketch.bones
        for body, there in enumerate(self.original.present[time]):
            points, behind = self.sketch.screen[time, body], self.original.screen[time, body]
            self.lines[body].set_segments(list(points[bones]) if there else [])
            if self.shadows:
                self.shadows[body].set_segments(list(behind[bones]) if there else [])
            self._dots(time, body, points if there else points[:0])

    def _dots(self, time: int, body: int, points: Floats) -> None:
        dots, head, sides = self.dots[body], self.heads[body], _SIDES[min(body, 1)]
        dots.set_offsets(points)
        if self.seen is not None:
            dots.set_facecolor([_GREEN if seen else "white" for seen in self.seen[time, body]])
            dots.set_edgecolor([_GREEN if seen else _MASKED for seen in self.seen[time, body]])
        else:
            dots.set_facecolor([sides[side] for side in self.sketch.sides])
        if self.sketch.head:
            head.set_offsets(points[self.sketch.head[0]].mean(axis=0) if len(points) else points)
            head.set_edgecolor(sides[2])


def _limbs(ax: Axes, colours: Any, alpha: float = 1.0) -> LineCollection:
    """Lines for bones, none yet."""
    from matplotlib.collections import LineCollection

    lines = LineCollection([], colors=colours, linewidths=2, alpha=alpha)
    ax.add_collection(lines)
    return lines


def _panel(figure: Figure, place: int, count: int, sketch: Sketch, name: str) -> Axes:
    """An empty panel that holds the whole clip in one scale."""
    ax = figure.add_axes((place / count, 0.05, 1 / count, 0.79))
    points = np.concatenate(
        [frame[there].reshape(-1, 2) for frame, there in sketch.inhabited] or [np.zeros((1, 2))]
    )
    low, high = np.percentile(points, 0.1, axis=0), np.percentile(points, 99.9, axis=0)
    middle, reach = (low + high) / 2, 0.56 * max(*(high - low), sketch.size)
    ax.set(
        xlim=(middle[0] - reach, middle[0] + reach),
        ylim=(middle[1] - reach, middle[1] + reach),
        aspect="equal",
    )
    ax.axis("off")
    ax.text(0.5, -0.03, name, fontsize=8, color=_GREY, ha="center", transform=ax.transAxes)
    return ax


def _snapshot(canvas: Any) -> Image:
    """What the canvas shows, in 64 colours."""
    from PIL import Image

    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(
        64, dither=Image.Dither.NONE
    )


def _write(path: Path, save: Any) -> None:
    """Write a picture whole or not at all."""
    try:
        with atomic_file(path) as file:
            save(file)
    except OSError as error:
        reason = one_line(error.strerror or error)
        raise DataError(
            f"{path}: expected a place to write the picture, found: {reason}; choose another"
        ) from None
