"""When the doctor's numbers become findings: one line each, with a number and the next step.

The thresholds were set by looking at four recorded sets (Kinect v1 and v2), the synthetic one, and at spoilt copies of
them: joints in another order, mirrored, in centimetres, z up.
"""

from __future__ import annotations

from collections.abc import Iterator

from datasets.doctor_body import UNITS
from datasets.doctor_model import (
    CLEAR,
    JUMP_SPEED,
    SHORT,
    Body,
    Examination,
    Finding,
    Gaps,
    Place,
    Repeats,
    Severity,
    SplitReport,
)
from datasets.wording import listed

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
SOME = 0.01
"""Share of frames from which gaps and frozen frames are a warning; a note below."""
UNSTEADY, SHAKY = 0.05, 0.10
"""Median variation of the bones from which there is a note, and a warning; 3 to 12 % in the recorded sets."""
DOUBTFUL_FIT, MISFIT = 1.27, 1.35
"""Bones over the shortest tree: 1.01 to 1.24 in the recorded sets, 2.5 to 4.7 with their joints shuffled, and from
1.47 with the spine of a Kinect v1 in reverse; of single exchanges of two joints about half lie above."""
MIXED_SIDES = 0.85
"""Share of frames that agree with "not mirrored" below which a set may hold mirrored clips."""
LONG_BONE = 0.8
"""Metres that no bone of a person reaches; thighs have 0.5."""
MANY_JUMPS = 1e-4
"""Share of joint steps above `datasets.doctor_model.JUMP_SPEED` that makes them a warning."""
FEW_CLIPS = 10
"""Clips of a class below which an accuracy says little about it."""


def judge(found: Examination) -> tuple[Finding, ...]:
    """All findings about an examination, errors first."""
    findings = [
        *identity(found),
        *gaps(found.gaps, found),
        *body(found.body),
        *order(found.body, found),
        *repeats(found.repeats),
        *(finding for split in found.splits for finding in leaks(split)),
        *motion(found),
        *bones(found),
        *counts(found),
        *(finding for split in found.splits for finding in sizes(split)),
    ]
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def say(severity: Severity, text: str) -> Finding:
    """A finding."""
    return Finding(severity=severity, text=text)


def named(places: tuple[Place, ...], form: str = "{:.2f}") -> str:
    """``clip 3 (1.25), clip 8 (1.10)``."""
    return listed(f"{place.name} ({form.format(place.value)})" for place in places)


def identity(found: Examination) -> Iterator[Finding]:
    """What a store remembers of its frames must be what they have."""
    stored, computed = found.identity.stored, found.identity.computed
    if stored and computed and stored != computed:
        yield say(
            "error",
            f"fingerprint: the store says {stored[:16]}, its frames have {computed[:16]}; the files were "
            "changed, prepare it again",
        )
    elif found.identity.differing:
        yield say("error", f"{listed(found.identity.differing)}: not those of the frames; prepare the store again")


# --- frames ---


def gaps(gaps: Gaps, found: Examination) -> Iterator[Finding]:
    """Coordinates, bodies and joints that are not there."""
    if gaps.not_finite:
        yield say(
            "error",
            f"NaN or infinite coordinates: {gaps.not_finite:,}, {within(gaps.not_finite_clips, found)}, first in "
            f"{gaps.not_finite_example}; interpolate them, or write zeros for an absent body",
        )
    if gaps.empty_clips:
        yield say("error", f"clips without a body in any frame: {gaps.empty_clips:,}; leave them out")
    if gaps.empty_frames:
        share = gaps.empty_frames / found.lengths.frames
        yield say(
            by_share(share),
            f"frames without a body: {gaps.empty_frames:,} ({share:.2%}), {within(gaps.empty_frame_clips, found)}; "
            "drop them, as the usual preparation of NTU RGB+D does",
        )
    if gaps.missing_frames:
        share = gaps.missing_frames / found.lengths.frames
        yield say(
            by_share(share),
            f"frames in which a present body lacks joints (at the origin): {gaps.missing_frames:,} ({share:.2%}), "
            f"{within(gaps.missing_clips, found)}: {named(gaps.missing_joints, '{:.0f}')}; interpolate them",
        )
    if gaps.copied_bodies:
        yield say(
            "warning",
            f"the same body twice, {within(gaps.copied_bodies, found)}; write zeros for the second, it costs time and "
            "counts double",
        )


def within(clips: int, found: Examination) -> str:
    """``in 3 of 1,484 clips``."""
    return f"in {clips:,} of {found.clips:,} clips"


def by_share(share: float) -> Severity:
    """A warning from `SOME` on."""
    return "warning" if share >= SOME else "note"


def motion(found: Examination) -> Iterator[Finding]:
    """Frozen frames and jumps."""
    moved = found.motion
    if moved.frozen:
        yield say(
            by_share(moved.frozen_share),
            f"frozen frames, equal to the one before: {moved.frozen:,} ({moved.frozen_share:.2%}), up to "
            f"{moved.longest_frozen} in a row, most in {named(moved.frozen_clips, '{:.0f}')}; motion targets are zero "
            "there, look at them with data show",
        )
    if moved.jumps:
        shifts = f" (in {moved.shift_clips} the whole body)" if moved.shift_clips else ""
        yield say(
            "warning" if moved.jump_share > MANY_JUMPS or moved.shift_clips else "note",
            f"joint steps faster than {JUMP_SPEED:.0f} m/s: {moved.jumps:,} ({moved.jump_share:.3%}), "
            f"{within(moved.jump_clips, found)}{shifts}, the longest in {named(moved.worst_jumps)}; smooth them or "
            "leave the clips out, squared errors are ruled by them",
        )


def bones(found: Examination) -> Iterator[Finding]:
    """Bones that change their length."""
    variation = found.bones.variation
    if variation is not None and variation > UNSTEADY:
        yield say(
            "warning" if variation > SHAKY else "note",
            f"bone lengths vary by {variation:.1%} within a clip (median over bones), most in "
            f"{named(found.bones.worst, '{:.0%}')} and in {named(found.bones.worst_clips, '{:.0%}')}; expect tracking "
            "noise, look at the worst with data show",
        )


# --- the body ---


def body(body: Body) -> Iterator[Finding]:
    """Unit, up axis, left and right."""
    yield from unit(body)
    yield from sizes_of_people(body)
    if body.up_share and body.up != "+y":
        told = f"{body.up} is up in {body.up_share:.0%} of frames" if body.up else f"at most {body.up_share:.0%} agree"
        step = f"turn the data so that {body.up} becomes +y" if body.up else "look at clips with data show"
        severity: Severity = "error" if body.up else "warning"
        yield say(severity, f"up axis: expected +y, {told}; {step}")
    if body.sides == "mirrored":
        yield say(
            "error",
            f"left and right: mirrored, toes point along up x right in {body.sides_share:.0%} of frames only; "
            "negate one horizontal axis, or exchange the left and right joints",
        )
    elif body.sides != "cannot tell" and body.sides_share is not None and body.sides_share < MIXED_SIDES:
        yield say(
            "warning",
            f"left and right: only {body.sides_share:.0%} of frames agree with not mirrored (92 % and more in recorded "
            "sets); some clips may be mirrored, look with data show",
        )
    if body.sides == "cannot tell":
        reason = f"{body.sides_share:.0%} of frames agree" if body.sides_share is not None else "no toes or knees known"
        yield say("note", f"left and right: cannot tell ({reason}, {CLEAR:.0%} needed); look with data show")


def unit(body: Body) -> Iterator[Finding]:
    """Metres, or what else it looks like."""
    if body.stature is None:
        yield say("note", "unit: cannot tell, no joint is called head and none foot; look with data show")
    elif not body.unit:
        yield say(
            "error",
            f"unit: expected metres, found {body.stature:.3g} from head to foot along the bones, which is no "
            "person in metres, centimetres, millimetres or inches; scale the data",
        )
    elif body.unit != "metres":
        yield say(
            "error",
            f"unit: expected metres, found {body.stature:.3g} from head to foot along the bones, which looks "
            f"like {body.unit}; multiply by {UNITS[body.unit]:g}",
        )


def sizes_of_people(body: Body) -> Iterator[Finding]:
    """Clips in another unit than the rest."""
    if body.odd_size_clips:
        yield say(
            "error",
            f"clips with people over twice as tall as the others, or under half: {body.odd_size_clips:,}, e.g. "
            f"{named(body.odd_sizes)} where the median is {body.stature:.2f}; bring all clips to one unit",
        )


def order(body: Body, found: Examination) -> Iterator[Finding]:
    """Joints in another order than the layout's."""
    scale = UNITS[body.unit or "metres"]
    long = [bone for bone in found.bones.longest if bone.value * scale > LONG_BONE]
    if body.order is not None and body.order > MISFIT:
        yield say(
            "error",
            f"joint order does not fit the layout {found.layout}: its bones are {body.order:.2f} times as "
            "long as the shortest tree through the joints (1.0 to 1.25 in recorded sets), longest "
            f"{named(found.bones.longest)}; reorder the joints, or name them and their parents as they are",
        )
    elif body.order is not None and body.order > DOUBTFUL_FIT:
        yield say(
            "warning",
            f"joint order may not fit the layout {found.layout}: its bones are {body.order:.2f} times as long as the "
            "shortest tree through the joints (1.0 to 1.25 in recorded sets); look with data show",
        )
    elif long and body.unit:
        yield say("warning", f"bones longer than {LONG_BONE} m: {named(tuple(long))}; look with data show")


# --- clips ---


def repeats(repeats: Repeats) -> Iterator[Finding]:
    """Equal clips under different labels, and across the values of a column."""
    if repeats.relabelled:
        yield say(
            "error",
            f"identical clips with different labels, {repeats.relabelled} of {repeats.groups} groups: "
            f"{listed(repeats.relabelled_examples)}; keep the right one",
        )
    if not repeats.groups:
        return
    columns = repeats.crossing.items()
    crossing = [f"{count} across {column} {pair}" for column, pairs in columns for pair, count in pairs.items()]
    where = f", {listed(crossing, 4)}: a split between these leaks" if crossing else ""
    yield say(
        "warning",
        f"identical clips: {repeats.clips} (groups: {repeats.groups}){where}; e.g. {repeats.examples[0]}; "
        "leave copies out, or count them once",
    )


def leaks(split: SplitReport) -> Iterator[Finding]:
    """Test clips that stand on the training side too."""
    if split.leaked_test:
        classes = listed(f"{name} {count}" for name, count in split.leaked_classes.items())
        views = f", views {listed(f'{pair}: {count}' for pair, count in split.leaked_views.items())}"
        yield say(
            "error",
            f"split {split.name}: {split.leaked_test} of {split.test} test clips "
            f"({split.leaked_test / split.test:.1%}) have exactly the joints of a training-side clip: {classes}"
            f"{views if split.leaked_views else ''}, e.g. {split.examples[0]}; report it beside --set "
            "data.drop_leaks=true",
        )


def counts(found: Examination) -> Iterator[Finding]:
    """Classes of few clips, unknown subjects, short clips."""
    if none := [name for name, count in found.classes.items() if not count]:
        yield say("warning", f"{len(none)} of {len(found.classes)} classes have no clip: {listed(none, 4)}")
    if few := [f"{name} {count}" for name, count in found.classes.items() if 0 < count < FEW_CLIPS]:
        yield say(
            "note", f"{len(few)} of {len(found.classes)} classes have fewer than {FEW_CLIPS} clips: {listed(few, 4)}"
        )
    if unknown := found.subjects.get(-1, 0):
        yield say("note", f"clips of unknown subject (-1): {unknown:,}; no subject split can place them")
    if found.lengths.short:
        yield say(
            "note",
            f"clips under {SHORT} frames: {found.lengths.short:,}, of a single frame and so without motion: "
            f"{found.lengths.single:,}; they are stretched to the encoder's length",
        )


def sizes(split: SplitReport) -> Iterator[Finding]:
    """Splits that cannot be made, and classes that a part lacks."""
    if split.problem:
        yield say("warning", f"split {split.name} cannot be made: {split.problem}")
    for note in split.notes:
        if "classes have no training clip" in note:
            yield say("warning", f"split {split.name}: {note}")
