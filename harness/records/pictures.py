"""What a run lets be seen: a few clips, which tokens its method saw of them, and what it made of
the others.

    runs/<run>/pictures.json        on a shelf a line of it, where anybody may pass the clips on

The file holds what is drawn as numbers: a page draws it in its own size and colours, and nobody
unpacks an image. Whether somebody may pass it on is a matter of the data, so it says of what data
it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.records.part import Count, NotNegative, RecordPart
from harness.records.reading import Refused, content_of, read_file, validated
from harness.records.schema import SCHEMA, RunRecord
from harness.records.store import PICTURES_FILE, RecordStore

Joint = Annotated[int, Field(ge=0, le=10_000)]
Metres = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Position = tuple[Metres, Metres]
"""To the right and up, as the viewer sees it."""
Pose = list[list[Position]]
"""[bodies][joints]"""
LARGEST = 100_000
"""Bytes of a file."""


class ClipPicture(RecordPart):
    """One clip as a method sees it, at a few moments.

    Attributes:
        title: class, length and subject.
        seconds: of each moment, from the clip's beginning.
        original: [moments][bodies][joints] where joints are; likewise `reconstruction`, in the same
            view, with the joints that the method saw where they were. None where it predicts other
            things than coordinates.
        visible: [moments][bodies][joints] the method saw the token that the joint is part of.
    """

    title: str
    seconds: list[NotNegative]
    original: list[Pose]
    visible: list[list[list[bool]]]
    reconstruction: list[Pose] | None = None


class RunPictures(RecordPart):
    """Pictures of one run.

    Attributes:
        run: address of the run, whose folder holds this file.
        step: of training, at whose end they were made.
        free: anybody may pass the clips on: they were made here, or are in the public domain
            (`licence` in words).
        bones: joints at the ends of each.
        sides: of each joint: 0 left, 1 right, 2 middle.
    """

    schema_version: int = Field(default=SCHEMA, ge=1)
    kind: Literal["pictures"] = "pictures"
    run: str
    label: str
    seed: int = Field(ge=0, lt=2**63)
    step: Count
    data: str
    fingerprint: str
    free: bool
    licence: str
    bones: list[tuple[Joint, Joint]]
    sides: list[Annotated[int, Field(ge=0, le=2)]]
    clips: list[ClipPicture]


def read_pictures(store: RecordStore, address: str) -> RunPictures | None:
    """The pictures of a run in a folder, or on its shelf; None where it has none.

    `Refused` where they cannot be drawn, or are another run's.
    """
    file = pictures_file(store, address)
    if file is None:
        return None
    try:
        text = file if isinstance(file, bytes) else read_file(file)
    except OSError as error:
        raise Refused(f"cannot be read ({error.strerror or error})") from None
    if len(text) > LARGEST:
        raise Refused(f"expected at most {LARGEST:,} bytes, found {len(text):,}")
    found = validated(content_of(text), RunPictures)
    if found.run != address:
        raise Refused(f"is of {found.run}; each belongs beside its run's record")
    _refuse_what_cannot_be_drawn(found)
    return found


def pictures_file(store: RecordStore, address: str) -> Path | bytes | None:
    """The file of a run's pictures; of those on a shelf, what it would hold."""
    path, line = (
        store.folder(address) / PICTURES_FILE,
        store.shelf.lines["pictures"].get((address,)),
    )
    return path if path.exists() else line.text if line else None


def _refuse_what_cannot_be_drawn(found: RunPictures) -> None:
    """`Refused` where poses, joints or bones do not fit each other."""
    joints = len(found.sides)
    for clip in found.clips:
        poses: list[Pose | list[list[bool]]] = [
            *clip.original,
            *clip.visible,
            *(clip.reconstruction or []),
        ]
        if any(len(body) != joints for pose in poses for body in pose) or any(
            len(part) != len(clip.seconds)
            for part in (clip.original, clip.visible, clip.reconstruction or clip.visible)
        ):
            raise Refused(
                f"{clip.title}: expected {joints} joints at {len(clip.seconds)} moments, found"
                " others"
            )
    if any(joint >= joints for bone in found.bones for joint in bone):
        raise Refused(f"expected bones between {joints} joints, found others")


def differences_of_pictures(store: RecordStore, runs: Sequence[RunRecord]) -> tuple[int, list[str]]:
    """Of how many runs of a folder there are pictures,
    and a line for each that is not of the run beside it.
    """
    drawn = [run for run in runs if pictures_file(store, run.address) is not None]
    return len(drawn), [
        f"{run.address}: {PICTURES_FILE}: {line}" for run in drawn for line in _unlike(run, store)
    ]


def _unlike(run: RunRecord, store: RecordStore) -> Iterator[str]:
    try:
        made = read_pictures(store, run.address)
    except Refused as problem:
        yield problem.reason
        return
    assert made is not None
    steps = run.training.steps if run.training else 0
    said = {"seed": made.seed, "step": made.step, "fingerprint of the data": made.fingerprint}
    held = {"seed": run.spec.seed, "step": steps, "fingerprint of the data": run.data.fingerprint}
    yield from (
        f"{name} {said[name]}, its record says {held[name]}"
        for name in said
        if said[name] != held[name]
    )
