"""The doctor: examines a clip set and says what is in it, what is wrong with it, and what to do.

    examination = examine(clips, usual_splits(clips))
    examination.findings      # severity and one line each: what was found, and the next step

Nothing is printed or changed; `harness.pictures.doctor` makes text of an examination. What is
looked at in the frames is in `datasets.doctor.frames`, what poses tell in `datasets.doctor.body`,
and when a number becomes a finding in `datasets.doctor.findings`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.checks import not_finite
from datasets.clips import ClipSet, Stored, repeated_clips
from datasets.doctor.body import (
    DIRECTIONS,
    UNITS,
    body_chain,
    front_by,
    tree_over_shortest,
    uneven_bones,
    unit_of,
)
from datasets.doctor.findings import judge
from datasets.doctor.frames import FramePass, look, step_percentile, steps_above
from datasets.doctor.model import (
    CERTAIN,
    CLEAR,
    ENOUGH,
    JUMP_SPEED,
    SHORT,
    BodyFacts,
    Bones,
    Examination,
    Gaps,
    Identity,
    Lengths,
    Motion,
    NamedValue,
    Repeats,
    Sides,
    SplitReport,
)
from datasets.errors import DataError
from datasets.splits import Split, make_split

_MOST_VALUES = 60
"""Columns of more distinct values are not counted."""
_MOST_VIEWS = 6
"""With up to so many views, every one of them is tried as the test side."""
_NAMED = 3
"""Examples and worst cases that are named."""

_ODD_SIZE = 2.0
"""Times the others' stature from which a clip is named."""
_WALKED, _CROUCHED, _STOOD = 0.6, 0.15, 0.05
"""Parts of a body's height: the way of hips and feet across it, of hips along it,
of feet along it meanwhile.
"""
_SOME_FACING, _ALL_WAYS = 0.02, 6
"""Share of frames from which an eighth of a turn counts as faced,
and how many of the eighths are all ways.
"""
_LOOSE = 0.05
"""Variation of a bone's length within a clip from which it is no bone of a rig."""


def usual_splits(clips: ClipSet) -> tuple[str, ...]:
    """The clip set's default split and its official ones;
    without official ones every view as the test side.
    """
    views = np.unique(_few_valued(clips).get("view", np.empty(0))).tolist()
    tried = (
        [f"view:*->{view}" for view in views]
        if not clips.splits and 2 <= len(views) <= _MOST_VIEWS
        else []
    )
    return tuple(dict.fromkeys([clips.default_split, *clips.splits, *tried]))


@np.errstate(over="ignore", invalid="ignore")  # absurd coordinates are judged, not warned of
def examine(clips: ClipSet, splits: Sequence[str] = (), *, deep: bool = False) -> Examination:
    """Examine a clip set; the frames are read once, in blocks, and a few numbers per clip are kept.

    Args:
        clips: structurally sound (`datasets.checks`); NaN, infinite coordinates and clips without a
            body are findings.
        splits: split texts (`datasets.splits.make_split`); one that cannot be made is reported, not
            raised.
        deep: compute afresh what a store remembers of its frames, and compare.
    """
    seen, computed = look(clips, identify=deep or clips.stored is None)
    stored, known = clips.stored, replace(clips, stored=computed or clips.stored)
    identity = _identity_of(stored, computed)
    groups = repeated_clips(known)
    body = _body_of(known, seen)
    classes = np.bincount(clips.columns["label"], minlength=len(clips.class_names)).tolist()
    found = Examination(
        name=clips.name,
        clips=len(clips),
        fps=clips.fps,
        layout=clips.layout.name,
        joints=clips.layout.joint_count,
        identity=identity,
        lengths=_lengths_of(clips),
        bodies=_counted(seen.present.sum(axis=1)),
        classes=dict(zip(clips.class_names, classes, strict=True)),
        subjects=_counted(clips.columns["subject"]),
        columns=_column_counts(clips),
        gaps=_gaps_of(clips, seen),
        motion=_motion_of(clips, seen, body.unit),
        bones=_bones_of(clips, seen),
        body=body,
        repeats=_repeats_of(clips, groups),
        splits=tuple(_split_report(known, text, groups) for text in splits),
    )
    return found.model_copy(update={"findings": judge(found)})


def _identity_of(stored: Stored | None, computed: Stored | None) -> Identity:
    """What a store remembers beside what its frames say."""
    names = ("hashes", "present", "origins") if stored and computed else ()
    return Identity(
        stored=stored.fingerprint if stored else "",
        computed=computed.fingerprint if computed else "",
        differing=tuple(
            name
            for name in names
            if not np.array_equal(getattr(stored, name), getattr(computed, name))
        ),
    )


# --- counts ---


def _counted(values: NDArray) -> dict[int, int]:
    """How often each value occurs, ascending."""
    kinds, counts = np.unique(values, return_counts=True)
    return dict(zip(kinds.tolist(), counts.tolist(), strict=True))


def _column_counts(clips: ClipSet) -> dict[str, dict[str, int]]:
    """Clips per value of every other column of at most `_MOST_VALUES` integers or strings."""
    return {
        name: {str(value): count for value, count in _counted(values).items()}
        for name, values in _few_valued(clips).items()
        if name not in ("label", "subject")
    }


def _few_valued(clips: ClipSet) -> dict[str, NDArray]:
    """Columns of at most `_MOST_VALUES` distinct integers or strings,
    and fewer than there are clips.
    """
    columns = {
        name: values for name, values in clips.columns.items() if values.dtype.kind in "biuU"
    }
    limit = min(_MOST_VALUES, len(clips) - 1)
    return {name: values for name, values in columns.items() if len(np.unique(values)) <= limit}


def _lengths_of(clips: ClipSet) -> Lengths:
    """Frames per clip."""
    lengths = clips.lengths
    return Lengths(
        frames=int(lengths.sum()),
        shortest=int(lengths.min()),
        median=float(np.median(lengths)),
        longest=int(lengths.max()),
        single=int((lengths == 1).sum()),
        short=int((lengths < SHORT).sum()),
    )


# --- frames ---


def _gaps_of(clips: ClipSet, seen: FramePass) -> Gaps:
    """Coordinates, frames and joints that are not there."""
    joints = [
        NamedValue(name=name, value=count)
        for count, name in sorted(
            zip(seen.missing.tolist(), clips.layout.joints, strict=True), reverse=True
        )
        if count
    ]
    first = int(np.argmax(seen.not_finite > 0))
    start, end = clips.offsets[first : first + 2].tolist()
    return Gaps(
        not_finite=int(seen.not_finite.sum()),
        not_finite_clips=int((seen.not_finite > 0).sum()),
        not_finite_example=not_finite(clips, start, end) if seen.not_finite.any() else "",
        empty_frames=int(seen.empty.sum()),
        empty_frame_clips=int((seen.empty > 0).sum()),
        empty_clips=int((seen.empty == clips.lengths).sum()),
        missing_frames=int(seen.gaps.sum()),
        missing_clips=int((seen.gaps > 0).sum()),
        missing_joints=tuple(joints[:_NAMED]),
        copied_bodies=int((seen.copied & (seen.present.sum(axis=1) > 1)).sum()),
    )


def _motion_of(clips: ClipSet, seen: FramePass, unit: str) -> Motion:
    """Frozen frames and steps; jumps are those faster than `JUMP_SPEED`,
    in ``unit`` (metres when not known).
    """
    jump = JUMP_SPEED / clips.fps / UNITS[unit or "metres"]
    jumps, steps = steps_above(seen.steps, jump), int(seen.steps.sum())
    followers = int((clips.lengths - 1).sum())
    return Motion(
        frozen=int(seen.frozen.sum()),
        frozen_share=int(seen.frozen.sum()) / max(1, followers),
        longest_frozen=int(seen.longest_frozen.max()),
        frozen_clips=_worst(clips, seen.longest_frozen),
        step_median=step_percentile(seen.steps, 50),
        step_999=step_percentile(seen.steps, 99.9),
        largest_step=float(seen.largest_step.max()),
        jumps=jumps,
        jump_share=jumps / max(1, steps),
        jump_clips=int((seen.largest_step > jump).sum()),
        shift_clips=int((seen.largest_shift > jump).sum()),
        worst_jumps=_worst(clips, np.where(seen.largest_step > jump, seen.largest_step, 0)),
    )


def _worst(clips: ClipSet, values: NDArray) -> tuple[NamedValue, ...]:
    """The clips with the largest values [N] above 0, largest first."""
    order = np.argsort(-values, kind="stable")[:_NAMED]
    return tuple(
        NamedValue(name=clips.describe(int(i)), value=float(values[i]))
        for i in order
        if values[i] > 0
    )


def _bones_of(clips: ClipSet, seen: FramePass) -> Bones:
    """How steady the bones are, and which are longest."""
    variation, rows = np.concatenate(seen.variations), np.concatenate(seen.rows)
    by_bone, by_row = _median_of(variation, axis=0), _median_of(variation, axis=1)
    by_clip = np.zeros(len(clips))
    np.maximum.at(by_clip, rows, np.nan_to_num(by_row))
    steady = by_bone[~np.isnan(by_bone)]
    return Bones(
        variation=float(np.median(steady)) if len(steady) else None,
        worst=_bones_by(clips, by_bone),
        worst_clips=_worst(clips, by_clip),
        longest=_bones_by(clips, _median_of(np.concatenate(seen.lengths), axis=0)),
    )


def _bones_by(clips: ClipSet, values: NDArray) -> tuple[NamedValue, ...]:
    """The bones with the largest values [V - 1], largest first; NaN is none."""
    names = [
        f"{clips.layout.joints[parent]}-{clips.layout.joints[joint]}"
        for joint, parent in clips.layout.bones
    ]
    order = np.argsort(-np.nan_to_num(values), kind="stable")[:_NAMED]
    return tuple(NamedValue(name=names[i], value=float(values[i])) for i in order if values[i] > 0)


def _median_of(values: NDArray, axis: int) -> NDArray[np.float64]:
    """Median along an axis without the NaN among them; NaN where there is nothing else."""
    known = ~np.isnan(values).all(axis=axis)
    medians = np.full(known.shape, np.nan)
    medians[known] = np.nanmedian(values.compress(known, axis=1 - axis), axis=axis)
    return medians


# --- poses ---


def _body_of(clips: ClipSet, seen: FramePass) -> BodyFacts:
    """Unit, up axis, sides and joint order."""
    joints, lengths = [joint for joint, _ in clips.layout.bones], np.concatenate(seen.lengths)
    chain = [joints.index(joint) for joint in body_chain(clips.layout, seen.vectors)]
    usual = _median_of(lengths, axis=0)
    stature = float(usual[chain].sum()) if chain and np.isfinite(usual[chain]).all() else None
    odd = (
        _odd_sizes(lengths[:, chain].sum(axis=1), np.concatenate(seen.rows), stature)
        if stature
        else {}
    )
    named = tuple(
        NamedValue(name=clips.describe(clip), value=odd[clip]) for clip in list(odd)[:_NAMED]
    )
    votes = seen.up_votes
    up_share = float(votes.max() / votes.sum()) if votes.any() else 0.0
    tallest = np.concatenate(seen.tallest)[:, int(votes.argmax())]
    sides, sides_share, sides_told = _sides_of(seen)
    return BodyFacts(
        stature=stature,
        odd_sizes=named,
        odd_size_clips=len(odd),
        height=float(np.median(tallest)) if votes.any() else None,
        unit=unit_of(stature) if stature else "",
        up=DIRECTIONS[int(votes.argmax())] if up_share >= CLEAR else "",
        up_share=up_share,
        upright=_stand(seen),
        sides=sides,
        sides_share=sides_share,
        sides_told=sides_told,
        sides_by=front_by(clips.layout),
        **_order_of(clips, seen, usual),
    )


def _order_of(clips: ClipSet, seen: FramePass, usual: NDArray) -> dict[str, Any]:
    """What tells of joints in another order: the fields ``order``, ``uneven``,
    ``uneven_share`` and ``loose``.
    """
    poses = np.array(seen.poses).reshape(-1, clips.layout.joint_count, 3)
    uneven, variation = (
        uneven_bones(usual, clips.layout),
        _median_of(np.concatenate(seen.variations), axis=0),
    )
    steady = variation[~np.isnan(variation)]
    worst = sorted((uneven or {}).items(), key=lambda item: -item[1])[:_NAMED]
    return {
        "order": tree_over_shortest(poses, clips.layout),
        "uneven": tuple(NamedValue(name=name, value=factor) for name, factor in worst),
        "uneven_share": len(uneven) / len(clips.layout.pairs) if uneven is not None else None,
        "loose": float((steady > _LOOSE).mean()) if len(steady) else None,
    }


def _stand(seen: FramePass) -> bool:
    """Whether people stand along the usual up axis, rather than lie: what they do that nobody does
    who lies.

    They face all ways about it; or they walk, which takes hips and feet across the body's length;
    or they crouch, which takes the hips along it above feet that stay.
    """
    up = int(seen.up_votes.argmax())
    along, across = up // 2, [axis for axis in range(3) if axis != up // 2]
    if (seen.facing[along] > _SOME_FACING * seen.facing[along].sum()).sum() >= _ALL_WAYS:
        return True
    tallest, spans = np.concatenate(seen.tallest), np.concatenate(seen.spans)
    those = (tallest.argmax(axis=1) == up) & (tallest[:, up] > 0)
    height, (hips, feet) = tallest[those, up], np.moveaxis(spans[those], 1, 0)
    walks = (
        (hips[:, across] > _WALKED * height[:, None])
        & (feet[:, across] > _WALKED * height[:, None])
    ).any(axis=1)
    crouches = (hips[:, along] > _CROUCHED * height) & (feet[:, along] < _STOOD * height)
    return bool(those.any() and (walks | crouches).mean() >= ENOUGH)


def _odd_sizes(sizes: NDArray, rows: NDArray[np.int64], stature: float) -> dict[int, float]:
    """Of the clips ``rows`` [n], those whose size [n] is over `_ODD_SIZE` times the stature or
    under its inverse.

    The oddest come first.
    """
    odd = (sizes > _ODD_SIZE * stature) | (sizes < stature / _ODD_SIZE)
    found = dict(zip(rows[odd].tolist(), sizes[odd].tolist(), strict=True))
    return dict(
        sorted(
            found.items(), key=lambda item: -max(item[1] / stature, stature / max(item[1], 1e-9))
        )
    )


def _sides_of(seen: FramePass) -> tuple[Sides, float | None, float]:
    """Left and right, the share of frames that agree with "not mirrored",
    and the share of frames that tell.
    """
    if not (seen.side_total and seen.up_votes.any()):
        return "cannot tell", None, 0.0
    axis, down = divmod(int(seen.up_votes.argmax()), 2)
    agree, disagree = seen.side_votes[:: -1 if down else 1, axis].tolist()
    told = (agree + disagree) / seen.side_total
    share = agree / (agree + disagree) if agree + disagree else None
    if share is None or told < ENOUGH or 1 - CERTAIN < share < CERTAIN:
        return "cannot tell", share, told
    return ("mirrored" if share < CERTAIN else "right-handed, not mirrored"), share, told


# --- repeated clips ---


def _repeats_of(clips: ClipSet, groups: Sequence[NDArray[np.int64]]) -> Repeats:
    """What the groups of equal clips have in common, and what not."""
    labels = clips.columns["label"]
    relabelled = [group for group in groups if len(np.unique(labels[group])) > 1]
    crossing = {
        name: _crossings(values, groups)
        for name, values in _few_valued(clips).items()
        if name != "label"
    }
    return Repeats(
        groups=len(groups),
        clips=sum(map(len, groups)),
        relabelled=len(relabelled),
        relabelled_examples=tuple(
            " = ".join(
                f"{clips.describe(int(i))} {clips.class_names[labels[i]]!r}" for i in group[:_NAMED]
            )
            for group in relabelled[:_NAMED]
        ),
        crossing={name: pairs for name, pairs in crossing.items() if pairs},
        examples=tuple(_equation(clips, group) for group in groups[:_NAMED]),
    )


def _crossings(values: NDArray, groups: Sequence[NDArray[np.int64]]) -> dict[str, int]:
    """Two values of a column -> groups that stand in both."""
    pairs = Counter(
        pair for group in groups for pair in combinations(np.unique(values[group]).tolist(), 2)
    )
    return {f"{one} and {other}": count for (one, other), count in pairs.most_common()}


def _equation(clips: ClipSet, group: Iterable[int]) -> str:
    """``clip 3 (walk_1) = clip 8 (walk_2)``."""
    return " = ".join(clips.describe(int(index)) for index in list(group)[:_NAMED])


def _split_report(clips: ClipSet, text: str, groups: Sequence[NDArray[np.int64]]) -> SplitReport:
    """Sizes of a split's parts, and the clips that stand twice in it."""
    try:
        split = _split_of(clips, text)
    except DataError as error:
        return SplitReport(name=text or clips.default_split, problem=str(error))
    trained, tested = split.leaked.T
    side = np.zeros(len(clips), np.int64)
    side[split.train], side[split.validation], side[split.test] = 1, 1, 2
    leaked = np.unique(tested)
    return SplitReport(
        name=split.name,
        train=len(split.train),
        validation=len(split.validation),
        test=len(split.test),
        notes=split.notes,
        leaked_test=len(leaked),
        leaked_train=len(np.unique(trained)),
        leaked_classes=_named_counts(
            clips.class_names[label] for label in clips.columns["label"][leaked]
        ),
        leaked_views=_leaked_views(clips, split),
        examples=tuple(_equation(clips, pair) for pair in split.leaked[:_NAMED]),
        repeated_train=_repeated_within(side, groups, 1),
        repeated_test=_repeated_within(side, groups, 2),
    )


def _split_of(clips: ClipSet, text: str) -> Split:
    """The split with a validation part, or without where too few subjects are known."""
    try:
        return make_split(clips, text)
    except DataError:
        return make_split(clips, text, validation=0)


def _leaked_views(clips: ClipSet, split: Split) -> dict[str, int]:
    """Leaked pairs by the views of their two clips."""
    if "view" not in clips.columns:
        return {}
    return _named_counts(
        f"{one} -> {other}" for one, other in clips.columns["view"][split.leaked].tolist()
    )


def _named_counts(names: Iterable[str]) -> dict[str, int]:
    """How often each name occurs, most frequent first."""
    return dict(Counter(names).most_common())


def _repeated_within(
    side: NDArray[np.int64], groups: Sequence[NDArray[np.int64]], which: int
) -> int:
    """Clips of one side of a split that equal another clip of the same side."""
    counts = [int((side[group] == which).sum()) for group in groups]
    return sum(count for count in counts if count > 1)
