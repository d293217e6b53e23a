"""Several data sets of one skeleton as one: their training sides together for pre-training,
each probed apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from datasets.batches import BodySequences, pooled
from datasets.clips import ClipSet, clip_hashes
from datasets.splits import Split, swapped, unswapped
from harness.errors import UsageError
from harness.spec.model import DataSpec
from harness.training.data import LoadedData, assemble, fingerprint_of, parts_hash


def apart(spec: DataSpec, names: Sequence[str]) -> list[DataSpec]:
    """The spec of each of several data sets: its own split and label,
    or those that are given for all.
    """
    own, swap = unswapped(spec.split)
    splits, labels = _each(own, "split", names), _each(spec.label, "label", names)
    return [
        spec.model_copy(
            update={
                "name": name,
                "split": swapped(split) if swap else split,
                "label": label,
                "fingerprint": "",
                "sampling": "size",
            }
        )
        for name, split, label in zip(names, splits, labels, strict=True)
    ]


def _each(text: str, flag: str, names: Sequence[str]) -> list[str]:
    pieces = [piece.strip() for piece in text.split("+")]
    if len(pieces) not in (1, len(names)):
        raise UsageError(
            f"--{flag} {text}: expected one for all data sets or one for each of"
            f" {' + '.join(names)}, found {len(pieces)}"
        )
    return pieces if len(pieces) > 1 else pieces * len(names)


def pool(spec: DataSpec, parts: Sequence[LoadedData]) -> LoadedData:
    """Several data sets of one skeleton as one: pre-training sees their training sides together.

    Raises:
        UsageError: their skeletons differ.
    """
    first = parts[0].clips.layout
    for part in parts:
        layout = part.clips.layout
        if (layout.joints, layout.parents) != (first.joints, first.parents):
            raise UsageError(
                f"--dataset {spec.name}: expected one skeleton, found {first.joint_count} joints"
                f" ({first.name}) in {parts[0].clips.name} and {layout.joint_count} ({layout.name})"
                f" in {part.clips.name}; pool sets whose joints and bones are the same"
            )
    parts = _without_leaks(parts) if spec.drop_leaks else tuple(parts)
    firsts = _firsts([len(part.labels) for part in parts])
    classes = _firsts([len(part.class_names) for part in parts])
    labels = np.concatenate([part.labels + base for part, base in zip(parts, classes, strict=True)])
    split = _joined([part.split for part in parts], firsts)
    clips = ClipSet(
        name=spec.name,
        joints=np.empty((0, *parts[0].clips.joints.shape[1:]), np.float32),
        offsets=np.cumsum([0, *(length for part in parts for length in part.clips.lengths)]),
        columns={
            "label": labels,
            "subject": np.concatenate([part.clips.columns["subject"] for part in parts]),
        },
        class_names=tuple(
            f"{part.clips.name}: {name}" for part in parts for name in part.class_names
        ),
        layout=first,
        fps=parts[0].clips.fps,
    )
    spec = spec.model_copy(
        update={
            "fingerprint": "+".join(part.spec.fingerprint for part in parts),
            "split": split.name,
        }
    )
    notes = tuple(
        f"{part.clips.name}: {note}" for part in parts for note in part.notes
    ) + _leak_notes(parts)

    @cache
    def packed() -> BodySequences:
        return pooled([part.bodies for part in parts])

    return LoadedData(
        spec,
        clips,
        labels,
        clips.class_names,
        split,
        parts[0].device,
        packed,
        notes,
        parts=tuple(parts),
    )


def _firsts(counts: Sequence[int]) -> list[int]:
    """Where each of several stretches of so many begins."""
    return np.cumsum([0, *counts])[:-1].tolist()


def _joined(splits: Sequence[Split], firsts: Sequence[int]) -> Split:
    """The parts of several splits as one, by the clips' numbers in the pool."""
    sides = {
        side: np.concatenate(
            [getattr(split, side) + first for split, first in zip(splits, firsts, strict=True)]
        )
        for side in ("train", "validation", "test")
    }
    names = [unswapped(split.name) for split in splits]
    name = "+".join(own for own, _ in names)
    return Split(
        swapped(name) if names[0][1] else name, **sides, notes=(), leaked=np.zeros((0, 2), np.int64)
    )


def _leaks_between(parts: Sequence[LoadedData]) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Clips on the training side of one set that have exactly the joints of a test clip
    of another, by both numbers.
    """
    hashes = [np.array(clip_hashes(part.clips), np.uint64) for part in parts]
    found = {}
    for (one, trained), (other, tested) in permutations(enumerate(parts), 2):
        side = np.concatenate([trained.split.train, trained.split.validation])
        twins = side[np.isin(hashes[one][side], hashes[other][tested.split.test])]
        if len(twins):
            found[one, other] = twins
    return found


def _leak_notes(parts: Sequence[LoadedData]) -> tuple[str, ...]:
    """What is to be said of clips that one set trains on and another tests on."""
    return tuple(
        f"{len(twins)} training-side clips of {parts[one].clips.name} have exactly the joints of"
        f" test clips of {parts[other].clips.name}; drop_leaks takes those out"
        for (one, other), twins in _leaks_between(parts).items()
    )


def _without_leaks(parts: Sequence[LoadedData]) -> tuple[LoadedData, ...]:
    """The sets without the training-side clips that another one tests on."""
    dropped: dict[int, list[NDArray[np.int64]]] = {}
    for (one, _), twins in _leaks_between(parts).items():
        dropped.setdefault(one, []).append(twins)
    return tuple(
        _without(part, np.concatenate(dropped[number])) if number in dropped else part
        for number, part in enumerate(parts)
    )


def _without(part: LoadedData, twins: NDArray[np.int64]) -> LoadedData:
    split = part.split
    train, validation = (side[~np.isin(side, twins)] for side in (split.train, split.validation))
    split = replace(split, train=train, validation=validation)
    split_hash = parts_hash(part.clips, part.labels, part.class_names, split)
    whose = f"{fingerprint_of(part.clips)[:16]}-{split_hash}"
    note = (
        f"{len(np.unique(twins))} training-side clips that another of the sets tests on are dropped"
    )
    return assemble(
        part.spec.model_copy(update={"fingerprint": whose}),
        part.clips,
        (part.labels, part.class_names),
        split,
        part.device,
        (*part.notes, note),
    )
