"""`harness data doctor NAME|FILE`: an examination as text for people or JSON for scripts, and its
picture.

examination = doctor("path/to/file.npz", splits=("view:1,2->3",), plot=Path("clips.png"))
print("\\n".join(doctor_lines(examination)))
print(examination.model_dump_json())
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from datasets.catalog import open_clips
from datasets.doctor.examination import examine, usual_splits
from datasets.doctor.model import SHORT, BodyFacts, Examination, SplitReport
from datasets.formats.store_check import Advance
from datasets.wording import listed
from harness.errors import UsageError, usage_errors
from harness.pictures.drawing import check_ending, sample_clips, strip
from harness.registry import Registry

_WIDTH = 100
_LABEL = 12
_FEW = 12
"""With up to so many values, counts are listed one by one."""


def doctor(
    name: str,
    *,
    splits: Sequence[str] = (),
    deep: bool = False,
    plot: Path | None = None,
    registry: Registry | None = None,
    advance: Advance = lambda done, total: None,
) -> Examination:
    """Examine a data set.

    Args:
        name: a registered or prepared data set, a store's folder, or an ``.npz`` file.
        splits: split texts to look at beside the data set's own.
        deep: compute afresh what a store remembers, whatever was checked before.
        plot: leave a picture of sample clips and clip lengths there (PNG).
        advance: told of bytes done and bytes in all while a store is hashed.

    Raises:
        UsageError: there is no such data set, it cannot be read, a given split cannot be made, or
            the picture cannot be written.
    """
    with usage_errors():
        if plot:
            check_ending(plot, ".png")
        clips = open_clips(name, check_frames=False, afresh=deep, advance=advance)
        found = examine(clips, tuple(dict.fromkeys([*splits, *usual_splits(clips)])), deep=deep)
        if plot:
            strip(clips, sample_clips(clips), plot)
    for split in found.splits:
        if split.problem and split.name in splits:
            raise UsageError(split.problem)
    return found


def doctor_lines(found: Examination) -> list[str]:
    """The examination in lines of at most `_WIDTH` columns: a heading, the findings,
    then what was counted.
    """
    return [line for label, text in _sections(found) for line in _entry(label, text)]


def _entry(label: str, text: str) -> list[str]:
    """A label and its text, wrapped beside it."""
    room = " " * (_LABEL + 2)
    lines = wrap(
        text, _WIDTH, initial_indent=room, subsequent_indent=room, break_on_hyphens=False
    ) or [room]
    return (
        [f"  {label:{_LABEL}}{lines[0][len(room) :]}".rstrip(), *lines[1:]]
        if label
        else wrap(text, _WIDTH)
    )


def _sections(found: Examination) -> Iterator[tuple[str, str]]:
    """Labels and texts, findings first; what has no label is a heading."""
    yield "", _heading(found)
    kinds = found.severities()
    yield (
        "",
        "findings: "
        + listed(f"{count} {kind}{'s' * (count > 1)}" for kind, count in kinds.items()),
    )
    for finding in found.findings:
        yield finding.severity, finding.text
    yield "", "counts"
    yield from _count_sections(found)
    yield "", "frames"
    yield from _frame_sections(found)
    yield "", "body"
    yield from _body_sections(found.body)
    yield "", "splits: train + validation / test"
    for split in found.splits:
        yield "split", f"{split.name}: {_split_text(split)}"


def _heading(found: Examination) -> str:
    """What it is, how much, and its fingerprint."""
    size = f"{found.clips:,} clips, {found.lengths.frames:,} frames at {found.fps:g} fps"
    stored, computed = found.identity.stored, found.identity.computed
    origin = {(True, False): " (as the store says)", (True, True): " (computed afresh)"}.get(
        (bool(stored), bool(computed))
    )
    fingerprint = f"fingerprint {found.identity.fingerprint[:16]}{origin or ''}"
    return f"{found.name}: {size}, {found.joints} joints ({found.layout}), {fingerprint}"


def _count_sections(found: Examination) -> Iterator[tuple[str, str]]:
    """Classes, subjects, other columns, bodies and lengths."""
    lengths, fps = found.lengths, found.fps
    yield "classes", tally(found.classes)
    yield "subjects", tally(found.subjects)
    for name, values in found.columns.items():
        yield name[: _LABEL - 1], tally(values)
    yield (
        "bodies",
        ", ".join(f"{bodies} in {clips:,} clips" for bodies, clips in found.bodies.items()),
    )
    seconds = f"{lengths.shortest / fps:.2g} to {lengths.longest / fps:.2g} s"
    short = f"{lengths.short:,} clips under {SHORT} frames, {lengths.single:,} of one"
    yield (
        "lengths",
        (
            f"{lengths.shortest} to {lengths.longest} frames, median {lengths.median:g}"
            f" ({seconds}); {short}"
        ),
    )


def tally(counts: Mapping[Any, int]) -> str:
    """``3: 1 516, 2 504, 3 464``; of many values the least and the most frequent."""
    if len(counts) <= _FEW:
        return f"{len(counts)}: " + ", ".join(
            f"{value} {count:,}" for value, count in counts.items()
        )
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[least] == counts[most]:
        return f"{len(counts)}, of {counts[most]:,} clips each"
    return f"{len(counts)}, of {counts[least]:,} ({least}) to {counts[most]:,} ({most}) clips"


def _frame_sections(found: Examination) -> Iterator[tuple[str, str]]:
    """Gaps, motion and bones; distances in the data's own unit."""
    gaps, moved, variation = found.gaps, found.motion, found.bones.variation
    absent = (
        f"{gaps.empty_frames:,} frames without a body, {gaps.missing_frames:,} with joints missing"
    )
    yield "gaps", f"{gaps.not_finite:,} NaN or infinite coordinates, {absent}"
    equal = f"{moved.frozen:,} of {found.lengths.frames:,} frames equal the one before"
    yield "frozen", f"{equal}, at most {moved.longest_frozen} in a row"
    steps = (
        f"median {moved.step_median:.3g}, 99.9 % under {moved.step_999:.3g}, largest"
        f" {moved.largest_step:.3g}"
    )
    yield "steps", f"{steps}; jumps: {moved.jumps:,}, clips with jumps: {moved.jump_clips:,}"
    steady = (
        f"lengths vary by {variation:.1%} (median)"
        if variation is not None
        else "clips too short to tell"
    )
    yield (
        "bones",
        steady
        + "".join(f", longest {bone.name} {bone.value:.3g}" for bone in found.bones.longest[:1]),
    )


def _body_sections(body: BodyFacts) -> Iterator[tuple[str, str]]:
    """Unit, axes, sides and joint order."""
    along, upright = (
        f"{size:.3g}" if size is not None else "unknown" for size in (body.stature, body.height)
    )
    yield (
        "unit",
        f"{body.unit or 'cannot tell'} (head to foot: {along} along the bones, {upright} upright)",
    )
    yield "up", f"{body.up or 'cannot tell'} ({body.up_share:.0%} of frames)"
    agree = f" ({body.sides_share:.0%} of frames agree)" if body.sides_share is not None else ""
    yield "sides", body.sides + agree
    if body.order is not None:
        yield (
            "order",
            f"bones {body.order:.2f} times as long as the shortest tree through the joints",
        )


def _split_text(split: SplitReport) -> str:
    """Sizes, and what is repeated in it."""
    if split.problem:
        return "cannot be made, see above"
    text = (
        f"{split.train:,} + {split.validation:,} / {split.test:,}, {split.leaked_test:,} test clips"
        " leaked"
    )
    if not (split.repeated_train or split.repeated_test):
        return text
    return (
        f"{text}, repeated within training {split.repeated_train:,}, within test"
        f" {split.repeated_test:,}"
    )
