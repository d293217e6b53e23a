"""Which clips train, which select and which test, and what a clip's class is.

A split is named by a short text (see `make_split`). The validation part has no subject in common
with the rest of the training side, and nothing is selected on the test clips. Clips that stand
on both sides with the very same joints are looked for in every split: NW-UCLA's usual preparation
has 95.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets.checks import refuse
from datasets.clips import ClipSet, repeated_clips
from datasets.wording import listed, nearest

Labels = tuple[NDArray[np.int64], tuple[str, ...]]
"""[N] class of every clip, and the class names."""
_Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]

UNKNOWN_SUBJECT = -1
_VALIDATION_SEED = 0
_XVIEW = "view:2,3->1"
_REST = "*"
_WITHOUT_REPEATS = " without repeats"
_SWAPPED = "swapped"
_GRAMMAR = "COLUMN:VALUES->VALUES"
_MOST_VALUES = 60
"""Columns of more distinct values are no example of a split."""
_PLAIN = re.compile(r"[\w.-]+")
"""Names of columns and values that can be typed as they are."""


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint parts of a clip set.

    Attributes:
        name: the text that the split was made from.
        train: clip indices, ascending; likewise `validation` and `test`.
        validation: clips to select models on, of subjects that `train` does not have; may be empty.
        test: clips that are looked at once, at the end.
        notes: facts to print beside any result on this split, one line each.
        leaked: [K, 2] (training-side clip, test clip) with identical joints that are in the split.
    """

    name: str
    train: Indices
    validation: Indices
    test: Indices
    notes: tuple[str, ...]
    leaked: Indices


def make_split(
    clips: ClipSet,
    spec: str = "",
    *,
    validation: float = 0.2,
    drop_leaks: bool = False,
    labels: Labels | None = None,
) -> Split:
    """Divide the clips.

    Args:
        clips: the clips to divide.
        spec: empty (the clip set's own default), a split that the clip set names
            (`ClipSet.splits`), ``xsub`` (otherwise: odd subjects train, even ones test), ``xview``
            (NTU: views 2 and 3 train, view 1 tests), or ``COLUMN:VALUES->VALUES`` with training
            values left and test values right, e.g. ``view:1,2->3``. Values are separated by commas;
            of an integer column, ``1-4`` takes those of its values that lie from 1 to 4; ``*``
            takes what the other side leaves. `` without repeats`` at the end is `drop_leaks`;
            ``swapped``, alone or at the very end, exchanges the two sides.
        validation: share of the known training subjects that is held out, rounded, at least one of
            them and never all. Which ones follows from a fixed permutation of the sorted subject
            numbers, the same on every machine and with or without ``drop_leaks``. 0: no validation
            part.
        drop_leaks: take clips whose joints are also in the test part out of the training side.
        labels: what `make_labels` returned, for the notes on classes; the column ``label`` when not
            given.

    Raises:
        DataError: bad grammar, an unknown column or value, a value on both sides, an empty part, or
            too few known subjects to hold some out.
    """
    own, swap = unswapped(spec.strip())
    own = own or clips.default_split
    text, drop = _meaning(clips, own)
    drop_leaks |= drop
    column, training_side, test = _sides(clips, own, text)
    spec = swapped(own) if swap else own
    if swap:
        training_side, test = test, training_side
    held_out = _held_out(clips, spec, training_side, validation)
    leaked = _leaks(clips, training_side, test)
    notes = _side_notes(clips, column, training_side, test) + _leak_notes(leaked, test, drop_leaks)
    if drop_leaks:
        training_side[leaked[:, 0]] = False
        leaked = leaked[:0]
    train, held_out = training_side & ~held_out, training_side & held_out
    _check_parts(clips, spec, train, held_out, validation)
    notes += _validation_notes(clips, train, held_out)
    notes += _class_notes(labels or make_labels(clips), train, held_out)
    train_index, validation_index, test_index = (
        np.flatnonzero(part) for part in (train, held_out, test)
    )
    return Split(spec, train_index, validation_index, test_index, notes, leaked)


def swapped(spec: str) -> str:
    """The split with its sides exchanged; of a swapped one the split that it was."""
    own, swap = unswapped(spec.strip())
    return own if swap else f"{own} {_SWAPPED}".strip()


def unswapped(spec: str) -> tuple[str, bool]:
    """A split without ``swapped``, and whether that stood there."""
    own = spec.removesuffix(_SWAPPED)
    if own == spec or (own and not own.endswith(" ")):
        return spec, False
    return own.strip(), True


def make_labels(clips: ClipSet, spec: str = "label") -> Labels:
    """The class of every clip, from one column or from a combination of them.

    Args:
        clips: the clips.
        spec: column names separated by commas, e.g. ``label,correct``. A column other than
            ``label`` has one class per value that occurs, in ascending order; a combination one per
            combination that occurs.

    Returns:
        [N] int64 classes and their names, e.g. ``"deep squat / correct=0"``.

    Raises:
        DataError: an unknown column, or one of floating-point numbers.
    """
    columns = [_column_classes(clips, name.strip(), spec) for name in spec.split(",")]
    if len(columns) == 1:
        return columns[0]
    codes = np.stack([values for values, _ in columns], axis=1)
    combinations, values = np.unique(codes, axis=0, return_inverse=True)
    names = [
        " / ".join(names[code] for (_, names), code in zip(columns, combination, strict=True))
        for combination in combinations
    ]
    return values.reshape(-1).astype(np.int64), tuple(names)


def length_notes(clips: ClipSet, patch: int) -> tuple[str, ...]:
    """One line on clips shorter than a temporal patch of ``patch`` frames,
    and one on single-frame clips.
    """
    short, single = int((clips.lengths < patch).sum()), int((clips.lengths == 1).sum())
    notes = []
    if short:
        notes.append(f"{short} of {len(clips)} clips are shorter than one patch of {patch} frames")
    if single:
        notes.append(f"{single} of {len(clips)} clips have a single frame, and so no motion")
    return tuple(notes)


def _column_classes(clips: ClipSet, name: str, spec: str) -> Labels:
    values = _values(clips, name, f"labels {spec!r}")
    if name == "label":
        return values, clips.class_names
    kinds, classes = np.unique(values, return_inverse=True)
    return classes.astype(np.int64), tuple(f"{name}={kind}" for kind in kinds)


def _values(clips: ClipSet, name: str, what: str) -> NDArray:
    """A column of integers or strings; truth values count as 0 and 1."""
    if name not in clips.columns:
        step = f"{nearest(name, clips.columns)}the columns are {listed(clips.columns)}"
        refuse(clips.name, what, "a column of the clips", repr(name), step)
    values = clips.columns[name]
    if values.dtype.kind == "f":
        step = "use a column of integers or strings"
        refuse(clips.name, what, f"distinct values in {name!r}", f"{values.dtype} numbers", step)
    return values.astype(np.int64) if values.dtype.kind == "b" else values


def _meaning(clips: ClipSet, spec: str) -> tuple[str, bool]:
    """The text that a split's name stands for, and whether repeated clips are dropped."""
    usual = (
        _XVIEW if spec == "xview" and not clips.splits else spec
    )  # NTU's views say nothing of another set's
    text = clips.splits.get(spec, usual)
    return text.removesuffix(_WITHOUT_REPEATS), text.endswith(_WITHOUT_REPEATS)


def _sides(clips: ClipSet, spec: str, text: str) -> tuple[str, _Mask, _Mask]:
    """The column that a split divides by, and the clips on its training and on its test side."""
    if text == "xsub":
        return "subject", *_odd_and_even(clips)
    what = f"split {spec!r}"
    column, left, right = _parse(clips, text, what)
    if spec == "xview" and column not in clips.columns:
        found = f"the columns {listed(clips.columns)}"
        refuse(clips.name, what, f"a column 'view' ({text})", found, f"name one, {_example(clips)}")
    values = _values(clips, column, what)
    official = (
        spec in clips.splits
    )  # of a part of the data set, not all of an official split's values need be there
    train, test = (
        set() if side.strip() == _REST else _chosen(clips, column, side, what, official)
        for side in (left, right)
    )
    train, test = (
        side or _rest(clips, column, other, what) for side, other in ((train, test), (test, train))
    )
    if train & test:
        found = f"{listed(train & test)} on both"
        refuse(
            clips.name,
            what,
            "different values on the two sides",
            found,
            "give every value to one side",
        )
    return column, np.isin(values, list(train)), np.isin(values, list(test))


def _odd_and_even(clips: ClipSet) -> tuple[_Mask, _Mask]:
    subjects = clips.columns["subject"]
    told = subjects != UNKNOWN_SUBJECT
    odd, even = told & (subjects % 2 == 1), told & (subjects % 2 == 0)
    for side, name in ((odd, "training side (odd subjects)"), (even, "test side (even subjects)")):
        if not side.any():
            known = _known_subjects(clips)
            who = f"the known subjects are {listed(known)}" if known else "no subject is known"
            apart = "" if len(known) > 1 else ", without validation (`--set data.validation=0`)"
            step = f"{who}; use another split, {_example(clips)}{apart}"
            refuse(clips.name, "split 'xsub'", f"clips on the {name}", "none", step)
    return odd, even


def _parse(clips: ClipSet, spec: str, what: str) -> tuple[str, str, str]:
    form = re.fullmatch(r"\s*([^:]+?)\s*:(.+)->(.+)", spec)
    if form is None:
        usual = ["xsub", *(["xview"] if "view" in clips.columns else [])]
        named = list(dict.fromkeys([*clips.splits, "xsub"])) if clips.splits else usual
        refuse(
            clips.name,
            what,
            f"{', '.join(named)} or {_GRAMMAR}",
            repr(spec),
            f"{nearest(spec, named)}{_example(clips)}",
        )
    column, left, right = form.groups()
    return column, left, right


def _example(clips: ClipSet) -> str:
    """``for example view:1,2->3 or subject:1-8->9-12``, of columns that divide these clips."""
    first = ("view", "subject")
    names = [*first, *(name for name in clips.columns if name not in ("label", *first))]
    found = [text for name in names if (text := _halves(clips, name))]
    return f"for example {' or '.join(found[:2]) or 'view:1,2->3 of a column view to be added'}"


def _halves(clips: ClipSet, column: str) -> str:
    """The split of a column's lower values from its upper ones; empty where it does not divide."""
    if column not in clips.columns or clips.columns[column].dtype.kind not in "biuU":
        return ""
    values = _occurring(clips, column, "an example")
    few = 2 <= len(values) <= min(_MOST_VALUES, len(clips) - 1)
    if not few or not all(_PLAIN.fullmatch(str(text)) for text in (column, *values)):
        return ""
    middle = (len(values) + 1) // 2
    sides = values[:middle], values[middle:]
    if isinstance(values[0], str) and len(values) > 4:
        return f"{column}:*->{values[0]}"
    left, right = (
        ",".join(map(str, side)) if len(side) <= 2 else f"{side[0]}-{side[-1]}" for side in sides
    )
    return f"{column}:{left}->{right}"


def _occurring(clips: ClipSet, column: str, what: str) -> list[int | str]:
    values = _values(clips, column, what)
    return np.unique(values[values != UNKNOWN_SUBJECT] if column == "subject" else values).tolist()


def _rest(clips: ClipSet, column: str, other: set[int | str], what: str) -> set[int | str]:
    """The values of a column that the other side of a split leaves."""
    rest = set(_occurring(clips, column, what)) - other
    if not rest or not other:
        found = f"{listed(sorted(other, key=str))} on one side and none on the other"
        refuse(clips.name, what, f"values of {column!r} for both sides", found, "use another split")
    return rest


def _chosen(clips: ClipSet, column: str, side: str, what: str, lenient: bool) -> set[int | str]:
    """The values of a column that one side of a split names; `lenient`: of those that occur,
    if any does.
    """
    values, occurring = _values(clips, column, what), _occurring(clips, column, what)
    chosen: set[int | str] = set()
    for item in (item.strip() for item in side.split(",")):
        matching = (
            _matching(occurring, item) if values.dtype.kind in "iu" else {item} & set(occurring)
        )
        if matching is None:
            step = f"values are separated by commas, {_example(clips)}"
            refuse(
                clips.name,
                what,
                f"a whole number or a range such as 1-4 for {column!r}",
                repr(item),
                step,
            )
        if not matching and not lenient:
            step = f"these occur: {listed(occurring, 40)}"
            refuse(clips.name, what, f"values that occur in {column!r}", repr(item), step)
        chosen |= matching
    return chosen


def _matching(occurring: list[Any], item: str) -> set[int | str] | None:
    """The occurring integers in ``item``, a number or an inclusive range;
    None when it is neither.
    """
    form = re.fullmatch(r"(-?\d+)(?:\s*-\s*(-?\d+))?", item)
    if form is None:
        return None
    low, high = int(form[1]), int(form[2] or form[1])
    return {value for value in occurring if low <= value <= high} if low <= high else None


def _known_subjects(clips: ClipSet, part: _Mask | None = None) -> list[int]:
    subjects = clips.columns["subject"] if part is None else clips.columns["subject"][part]
    return np.unique(subjects[subjects != UNKNOWN_SUBJECT]).tolist()


def _held_out(clips: ClipSet, spec: str, training_side: _Mask, share: float) -> _Mask:
    """The clips of the training subjects that are held out for validation."""
    what = f"split {spec!r}"
    if not 0 <= share < 1:
        refuse(
            clips.name, what, "a validation share from 0 to below 1", share, "0.2 holds out a fifth"
        )
    if share == 0:
        return np.zeros(len(clips), dtype=bool)
    known = _known_subjects(clips, training_side)
    if len(known) < 2:
        found = f"{len(known)} ({listed(known)})"
        step = "train without a validation part: validation 0 (`--set data.validation=0`)"
        refuse(
            clips.name, what, "two or more known training subjects to hold some out", found, step
        )
    count = min(max(1, round(share * len(known))), len(known) - 1)
    # RandomState's stream is frozen for good, a Generator's may change between releases of numpy.
    order = np.random.RandomState(_VALIDATION_SEED).permutation(known)
    return training_side & np.isin(clips.columns["subject"], order[:count])


def _leaks(clips: ClipSet, training_side: _Mask, test: _Mask) -> Indices:
    pairs = [
        (trained, tested)
        for group in repeated_clips(clips)
        for trained in group[training_side[group]]
        for tested in group[test[group]]
    ]
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


def _check_parts(clips: ClipSet, spec: str, train: _Mask, held_out: _Mask, share: float) -> None:
    for part, name, wanted in ((train, "train", True), (held_out, "validation", share > 0)):
        if wanted and not part.any():
            step = "keep the repeated clips (drop_leaks off) or use another split"
            refuse(
                clips.name,
                f"split {spec!r}",
                f"clips left in {name}",
                "none without repeated ones",
                step,
            )


def _side_notes(clips: ClipSet, column: str, training_side: _Mask, test: _Mask) -> tuple[str, ...]:
    notes = []
    unknown = clips.columns["subject"] == UNKNOWN_SUBJECT
    outside = ~(training_side | test)
    if column == "subject" and unknown.any():
        notes.append(f"{unknown.sum()} clips of unknown subject (-1) are left out of both sides")
        outside &= ~unknown
    elif unknown.any():
        counts = f"{(unknown & training_side).sum()} train, {(unknown & test).sum()} test"
        notes.append(
            f"{unknown.sum()} clips of unknown subject (-1), never in validation: {counts}"
        )
    if outside.any():
        values = listed(np.unique(clips.columns[column][outside]))
        notes.append(f"{outside.sum()} clips are on neither side ({column} {values})")
    return tuple(notes)


def _validation_notes(clips: ClipSet, train: _Mask, held_out: _Mask) -> tuple[str, ...]:
    if not held_out.any():
        return (
            "no validation part (validation 0): every subject of the training side is trained on",
        )
    subjects = listed(_known_subjects(clips, held_out), 40)
    clip_count = f"{held_out.sum()} of {(train | held_out).sum()} training-side clips"
    return (f"validation holds out {clip_count}, subjects: {subjects}",)


def _leak_notes(leaked: Indices, test: _Mask, dropped: bool) -> tuple[str, ...]:
    if not len(leaked):
        return ()
    trained, tested = (len(np.unique(side)) for side in leaked.T)
    twins = (
        f"{tested} of {test.sum()} test clips have exactly the joints of a clip on the training"
        " side"
    )
    return (
        f"{twins}; "
        + (
            f"the {trained} on the training side are dropped"
            if dropped
            else "drop_leaks takes those out"
        ),
    )


def _class_notes(labels: Labels, train: _Mask, held_out: _Mask) -> tuple[str, ...]:
    classes, names = labels
    notes = []
    for part, name in ((train, "training"), (held_out, "validation")):
        counts = np.bincount(classes[part], minlength=len(names))
        missing = [names[index] for index in np.flatnonzero(counts == 0)]
        if missing and part.any():
            notes.append(
                f"{len(missing)} of {len(names)} classes have no {name} clip: {listed(missing)}"
            )
    return tuple(notes)
