"""When the doctor's numbers become findings: one line each, with a number and the next step.

An error needs what no correct recording gives, because who follows its advice changes the data;
what a rig's helper joints, locked knees, people who lie, or small children give as well is a
warning or a note. The thresholds were set by looking at four recorded sets (Kinect v1 and v2),
motion files of six exporters, the synthetic set, and spoilt copies of them; how often they are
wrong is measured by ``benchmarks/doctor_false_alarms.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from datasets.doctor.body import FILE_UNITS, READ_AS, STANDING, UNITS, misread_unit
from datasets.doctor.model import (
    CERTAIN,
    ENOUGH,
    JUMP_SPEED,
    SHORT,
    BodyFacts,
    Examination,
    Finding,
    Gaps,
    NamedValue,
    Repeats,
    Severity,
    SplitReport,
)
from datasets.layouts import LAYOUTS
from datasets.wording import listed

_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_SOME = 0.01
"""Share of frames from which gaps and frozen frames are a warning; a note below."""
_UNSTEADY, _SHAKY = 0.05, 0.10
"""Median variation of the bones from which there is a note, and a warning;
3 to 12 % in the recorded sets.
"""
_MISFIT = 1.3
"""Bones over the shortest tree: 1.00 to 1.11 in the recorded sets, 1.26 where people stand with
hanging arms alone, and from 1.34 with the spine of a Kinect v1 in reverse; in motion files 1.0 to
2.1, because helper joints and roots on the floor are no part of a body.
"""
_UNEVEN_SHARE, _SOME_UNEVEN = 0.2, 0.1
"""Share of bones that are longer on one side: none in the recorded sets and in motion files, 0.3
and more where joints are shuffled; a limb that is hidden from the one camera may make some.
"""
_LOOSE_SHARE = 0.25
"""Share of bones that change their length from which a rig is no rig."""
_SMALLEST, _LARGEST = 0.7, 2.6
"""Metres from head to foot along the bones of children who just walk, and of the tallest people."""
_OTHER_UNIT = 5.0
"""Times the others' stature that only another unit explains;
a child is 2.5 times as small as an adult.
"""
_LONG_BONE = 0.8
"""Metres that no bone of a person reaches; thighs have 0.5."""
_MANY_JUMPS = 1e-4
"""Share of joint steps above `datasets.doctor.model.JUMP_SPEED` that makes them a warning."""
_FEW_CLIPS = 10
"""Clips of a class below which an accuracy says little about it."""


def judge(found: Examination) -> tuple[Finding, ...]:
    """All findings about an examination, errors first."""
    findings = [
        *_identity(found),
        *_gaps(found.gaps, found),
        *_body(found.body),
        *_order(found.body, found),
        *_repeats(found.repeats),
        *(finding for split in found.splits for finding in _leaks(split)),
        *_motion(found),
        *_bones(found),
        *_counts(found),
        *(finding for split in found.splits for finding in _sizes(split)),
    ]
    return tuple(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity)))


def _say(severity: Severity, text: str) -> Finding:
    """A finding."""
    return Finding(severity=severity, text=text)


def _named(places: tuple[NamedValue, ...], form: str = "{:.2f}") -> str:
    """``clip 3 (1.25), clip 8 (1.10)``."""
    return listed(f"{place.name} ({form.format(place.value)})" for place in places)


def _identity(found: Examination) -> Iterator[Finding]:
    """What a store remembers of its frames must be what they have."""
    stored, computed = found.identity.stored, found.identity.computed
    if stored and computed and stored != computed:
        yield _say(
            "error",
            f"fingerprint: the store says {stored[:16]}, its frames have {computed[:16]}; the files"
            " were changed, prepare it again",
        )
    elif found.identity.differing:
        yield _say(
            "error",
            f"{listed(found.identity.differing)}: not those of the frames; prepare the store again",
        )


# --- frames ---


def _gaps(gaps: Gaps, found: Examination) -> Iterator[Finding]:
    """Coordinates, bodies and joints that are not there."""
    if gaps.not_finite:
        yield _say(
            "error",
            f"NaN or infinite coordinates: {gaps.not_finite:,},"
            f" {_within(gaps.not_finite_clips, found)}, first {gaps.not_finite_example};"
            " interpolate them, or write zeros for an absent body",
        )
    if gaps.empty_clips:
        yield _say(
            "error", f"clips without a body in any frame: {gaps.empty_clips:,}; leave them out"
        )
    if gaps.empty_frames:
        share = gaps.empty_frames / found.lengths.frames
        yield _say(
            _by_share(share),
            f"frames without a body: {gaps.empty_frames:,} ({share:.2%}),"
            f" {_within(gaps.empty_frame_clips, found)}; drop them, as the usual preparation of NTU"
            " RGB+D does",
        )
    if gaps.missing_frames:
        share = gaps.missing_frames / found.lengths.frames
        yield _say(
            _by_share(share),
            f"frames in which a present body lacks joints (at the origin): {gaps.missing_frames:,}"
            f" ({share:.2%}), {_within(gaps.missing_clips, found)}:"
            f" {_named(gaps.missing_joints, '{:.0f}')}; interpolate them",
        )
    if gaps.copied_bodies:
        yield _say(
            "warning",
            f"the same body twice, {_within(gaps.copied_bodies, found)}; write zeros for the"
            " second, it costs time and counts double",
        )


def _within(clips: int, found: Examination) -> str:
    """``in 3 of 1,484 clips``."""
    return f"in {clips:,} of {found.clips:,} clips"


def _by_share(share: float) -> Severity:
    """A warning from `_SOME` on."""
    return "warning" if share >= _SOME else "note"


def _motion(found: Examination) -> Iterator[Finding]:
    """Frozen frames and jumps."""
    moved = found.motion
    if moved.frozen:
        yield _say(
            _by_share(moved.frozen_share),
            f"frozen frames, equal to the one before: {moved.frozen:,} ({moved.frozen_share:.2%}),"
            f" up to {moved.longest_frozen} in a row, most in"
            f" {_named(moved.frozen_clips, '{:.0f}')}; motion targets are zero there, look at them"
            " with data show",
        )
    if moved.jumps:
        lengths = f"{{:.2f}} {found.body.unit or 'in the unit of the data'}"
        shifts = f" (in {moved.shift_clips} the whole body)" if moved.shift_clips else ""
        yield _say(
            "warning" if moved.jump_share > _MANY_JUMPS or moved.shift_clips else "note",
            f"joint steps faster than {JUMP_SPEED:.0f} m/s: {moved.jumps:,}"
            f" ({moved.jump_share:.3%}), {_within(moved.jump_clips, found)}{shifts}, the longest"
            f" from one frame to the next in {_named(moved.worst_jumps, lengths)}; smooth them or"
            " leave the clips out, they dominate a squared error",
        )


def _bones(found: Examination) -> Iterator[Finding]:
    """Bones that change their length."""
    variation = found.bones.variation
    if variation is not None and variation > _UNSTEADY:
        yield _say(
            "warning" if variation > _SHAKY else "note",
            f"bone lengths vary by {variation:.1%} within a clip (median over bones), most in"
            f" {_named(found.bones.worst, '{:.0%}')} and in"
            f" {_named(found.bones.worst_clips, '{:.0%}')}; expect tracking noise, look at the"
            " worst with data show",
        )


# --- the body ---


def _body(body: BodyFacts) -> Iterator[Finding]:
    """Unit, up axis, left and right."""
    yield from _unit(body)
    yield from _sizes_of_people(body)
    yield from _up(body)
    yield from _sides(body)


def _up(body: BodyFacts) -> Iterator[Finding]:
    """Another axis than y; who lies along an axis is no evidence that it is up."""
    if body.up == "+y" or not body.up_share:
        return
    step = f"turn the data so that {body.up} becomes +y"
    if not body.up:
        yield _say(
            "warning",
            f"up axis: expected +y, at most {body.up_share:.0%} agree; look at clips with data"
            " show",
        )
    elif body.up == "-y" or body.upright:
        yield _say(
            "error",
            f"up axis: expected +y, {body.up} is up in {body.up_share:.0%} of frames; {step}",
        )
    else:
        yield _say(
            "warning",
            f"up axis: expected +y, from feet to head is {body.up} in {body.up_share:.0%} of"
            f" frames, and nobody walks, crouches or turns about it: if these people stand, {step};"
            " if they lie, leave it",
        )


def _sides(body: BodyFacts) -> Iterator[Finding]:
    """Left and right exchanged, in all clips or in some."""
    share, told = body.sides_share, body.sides_told
    if body.sides == "mirrored":
        yield _say(
            "error",
            f"left and right: mirrored, {body.sides_by} point along up x right in {share:.0%} of"
            " frames only; negate one horizontal axis, or exchange the left and right joints",
        )
    elif (
        body.sides == "cannot tell"
        and body.sides_by == "toes"
        and share is not None
        and told >= ENOUGH
    ):
        yield _say(
            "warning",
            f"left and right: only {share:.0%} of frames agree with not mirrored (92 % and more in"
            " recorded sets); some clips may be mirrored, look with data show",
        )
    elif body.sides == "cannot tell":
        reason = "no toes or knees known"
        if body.sides_by:
            reason = f"{body.sides_by} stand out in {told:.0%} of frames"
            reason += (
                f", of which {share:.0%} agree and {CERTAIN:.0%} are needed"
                if share is not None
                else ""
            )
        yield _say("note", f"left and right: cannot tell ({reason}); look with data show")


def _unit(body: BodyFacts) -> Iterator[Finding]:
    """Metres, or what else it looks like."""
    if body.stature is None:
        yield _say(
            "note", "unit: cannot tell, no joint is called head and none foot; look with data show"
        )
        return
    found = f"unit: expected metres, found {body.stature:.3g} from head to foot along the bones"
    misread = misread_unit(body.stature)
    if body.unit and body.unit != "metres":
        yield _say(
            "error", f"{found}, which looks like {body.unit}; multiply by {UNITS[body.unit]:g}"
        )
    elif body.unit:
        return
    elif _SMALLEST <= body.stature <= _LARGEST:
        who = "small children" if body.stature < STANDING[0] else "people of two metres and a half"
        other = f", or {misread} read as {READ_AS} ({_mend(misread)})" if misread else ""
        yield _say("warning", f"{found}: {who}{other}; look with data show")
    elif misread:
        yield _say(
            "error", f"{found}, which looks like {misread} read as {READ_AS}; {_mend(misread)}"
        )
    else:
        yield _say("error", f"{found}, which is no person in {listed(FILE_UNITS)}; scale the data")


def _mend(unit: str) -> str:
    """How to bring data in a unit that was taken for `READ_AS` to metres."""
    metres = FILE_UNITS[unit]
    return (
        f"multiply by {metres / FILE_UNITS[READ_AS]:.5g}, or give BVH files unit_metres"
        f" {metres:.5g} in labels.csv"
    )


def _sizes_of_people(body: BodyFacts) -> Iterator[Finding]:
    """Clips in another unit than the rest, or of other people."""
    if not (body.odd_size_clips and body.stature):
        return
    oddest = max(body.odd_sizes[0].value, 1e-9) / body.stature
    clear = max(oddest, 1 / oddest) > _OTHER_UNIT
    step = (
        "bring all clips to one unit" if clear else "children, or another unit: look with data show"
    )
    yield _say(
        "error" if clear else "warning",
        "clips with people over twice as tall as the others, or under half:"
        f" {body.odd_size_clips:,}, e.g. {_named(body.odd_sizes)} where the median is"
        f" {body.stature:.2f}; {step}",
    )


def _order(body: BodyFacts, found: Examination) -> Iterator[Finding]:
    """Joints in another order than the layout's."""
    scale = UNITS[body.unit or "metres"]
    long = [bone for bone in found.bones.longest if bone.value * scale > _LONG_BONE]
    fit, uneven = body.order or 1.0, body.uneven_share or 0.0
    bones = f"its bones are {fit:.2f} times as long as the shortest tree through the joints"
    sided = (
        f"{uneven:.0%} of the bones with a name on both sides are over 1.3 times as long on one:"
        f" {_named(body.uneven)}"
    )
    step = "reorder the joints, or name them and their parents as they are"
    if fit > _MISFIT and uneven >= _UNEVEN_SHARE:
        yield _say(
            "error",
            f"joint order does not fit the layout {found.layout}: {bones}, and {sided}; {step}",
        )
    elif fit > _MISFIT and found.layout in LAYOUTS:
        yield _say(
            "error",
            f"joint order does not fit the layout {found.layout}: {bones} (1.0 to 1.15 in recorded"
            f" sets), longest {_named(found.bones.longest)}; {step}",
        )
    elif uneven >= _SOME_UNEVEN:
        yield _say(
            "warning",
            f"left and right differ: {sided}; joints exchanged, or a side hidden: look with data"
            " show",
        )
    elif fit > _MISFIT and (body.loose or 0.0) >= _LOOSE_SHARE:
        yield _say(
            "warning",
            f"joint order may not fit the layout {found.layout}: {bones}, and {body.loose:.0%} of"
            " them change their length; look with data show",
        )
    elif fit > _MISFIT:
        yield _say(
            "note",
            f"joint order: {bones}; helper joints and roots on the floor do that, joints in another"
            " order too; look with data show",
        )
    elif long and body.unit:
        severity: Severity = (
            "warning" if found.layout in LAYOUTS else "note"
        )  # a root at the world's origin, a sword
        yield _say(
            severity,
            f"bones longer than {_LONG_BONE} m: {_named(tuple(long))}; look with data show",
        )


# --- clips ---


def _repeats(repeats: Repeats) -> Iterator[Finding]:
    """Equal clips under different labels, and across the values of a column."""
    if repeats.relabelled:
        yield _say(
            "error",
            f"identical clips with different labels, {repeats.relabelled} of {repeats.groups}"
            f" groups: {listed(repeats.relabelled_examples)}; keep the right one",
        )
    if not repeats.groups:
        return
    columns = repeats.crossing.items()
    crossing = [
        f"{count} across {column} {pair}"
        for column, pairs in columns
        for pair, count in pairs.items()
    ]
    where = f", {listed(crossing, 4)}: a split between these leaks" if crossing else ""
    yield _say(
        "warning",
        f"identical clips: {repeats.clips} (groups: {repeats.groups}){where}; e.g."
        f" {repeats.examples[0]}; leave copies out, or count them once",
    )


def _leaks(split: SplitReport) -> Iterator[Finding]:
    """Test clips that stand on the training side too."""
    if split.leaked_test:
        classes = listed(f"{name} {count}" for name, count in split.leaked_classes.items())
        views = (
            f", views {listed(f'{pair}: {count}' for pair, count in split.leaked_views.items())}"
        )
        yield _say(
            "error",
            f"split {split.name}: {split.leaked_test} of {split.test} test clips"
            f" ({split.leaked_test / split.test:.1%}) have exactly the joints of a training-side"
            f" clip: {classes}{views if split.leaked_views else ''}, e.g. {split.examples[0]};"
            " report it beside --set data.drop_leaks=true",
        )


def _counts(found: Examination) -> Iterator[Finding]:
    """Classes of few clips, unknown subjects, short clips."""
    if none := [name for name, count in found.classes.items() if not count]:
        shifted = (
            "; do the labels count from 1? they index class_names from 0"
            if none == [next(iter(found.classes))]
            else ""
        )
        yield _say(
            "warning",
            f"{len(none)} of {len(found.classes)} classes have no clip: {listed(none, 4)}{shifted}",
        )
    if few := [
        f"{name} {count}" for name, count in found.classes.items() if 0 < count < _FEW_CLIPS
    ]:
        yield _say(
            "note",
            f"{len(few)} of {len(found.classes)} classes have fewer than {_FEW_CLIPS} clips:"
            f" {listed(few, 4)}",
        )
    if unknown := found.subjects.get(-1, 0):
        yield _say(
            "note", f"clips of unknown subject (-1): {unknown:,}; no subject split can place them"
        )
    if found.lengths.short:
        yield _say(
            "note",
            f"clips under {SHORT} frames: {found.lengths.short:,}, of a single frame and so without"
            f" motion: {found.lengths.single:,}; they are stretched to the encoder's length",
        )


def _sizes(split: SplitReport) -> Iterator[Finding]:
    """Splits that cannot be made, and classes that a part lacks."""
    if split.problem:
        yield _say("warning", f"split {split.name} cannot be made: {split.problem}")
    for note in split.notes:
        if "classes have no training clip" in note:
            yield _say("warning", f"split {split.name}: {note}")
