"""Loads a data set as a `DataSpec` asks: clips, labels, split,
and the body sequences on the device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.batches import Augmentation, Batches, BodySequences, Look, TrainingBatches
from datasets.catalog import open_clips, set_names
from datasets.clips import ClipSet, fingerprint, present_bodies
from datasets.formats.store_check import Advance
from datasets.published_feeder import FeederBatches, PaddedClips, PublishedClips, pad_clips
from datasets.splits import UNKNOWN_SUBJECT, Split, length_notes, make_labels, make_split
from harness.errors import UsageError, usage_errors
from harness.records.schema import DataInfo
from harness.spec.model import DataSpec, RunSpec
from harness.training.build import encoder_size
from harness.training.compilation import compiled_apart
from harness.training.distributed import ALONE, Ranks
from methods.base import View

VERSION = 1


@dataclass(frozen=True)
class LoadedData:
    """A data set, ready to train and probe on.

    Its frames go to the device when somebody first asks for `bodies`. Until then nothing of this
    process is on a GPU, where a process that waits for another's measurement would disturb it.

    Attributes:
        spec: the spec with its fingerprint and split filled in.
        clips: of several data sets what can be said of all: skeleton, labels and people; frames
            stay with the sets.
        device: where frames go.
        packed: packs them there, once.
        ranks: that train on it together; this process's batches are its part of whole ones.
        parts: the data sets, where they are several.
    """

    spec: DataSpec
    clips: ClipSet
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    split: Split
    device: torch.device
    packed: Callable[[], BodySequences]
    notes: tuple[str, ...]
    ranks: Ranks = ALONE
    parts: tuple[LoadedData, ...] = ()

    @property
    def bodies(self) -> BodySequences:
        """All body sequences, on the device."""
        return self.place()

    def place(self) -> BodySequences:
        """Move the frames to the device, once; a `UsageError` where its memory is too small."""
        try:
            return self.packed()
        except torch.OutOfMemoryError:
            raise UsageError(
                f"--dataset {self.spec.name}: expected room for frames of {self.frame_bytes:,}"
                f" bytes on {self.device}, found less; choose a smaller set, or --device cpu"
            ) from None

    @property
    def frame_bytes(self) -> int:
        """What the packed frames take of the device's memory."""
        if self.parts:
            return sum(part.frame_bytes for part in self.parts)
        present = present_bodies(self.clips)
        kept = np.ones_like(present) if self.spec.include_empty_bodies else present
        frames = int(kept.sum(axis=1) @ self.clips.lengths)
        return frames * self.clips.layout.joint_count * 3 * np.dtype(np.float32).itemsize

    @cached_property
    def sequences(self) -> Tensor:
        """Numbers of the body sequences that pre-training sees (training part, without
        validation).
        """
        return self.bodies.of_clips(self.split.train)

    @cached_property
    def sequence_count(self) -> int:
        """How many these are."""
        if self.parts:
            return sum(part.sequence_count for part in self.parts)
        present = present_bodies(self.clips)[self.split.train]
        return present.size if self.spec.include_empty_bodies else int(present.sum())

    @property
    def bodies_per_clip(self) -> float:
        """Mean bodies of a training clip that are batched."""
        return self.sequence_count / len(self.split.train)

    @property
    def info(self) -> DataInfo:
        """What a record keeps of it."""
        sets = tuple(
            part.info.model_copy(
                update={
                    "split": part.spec.split,
                    "training_people": part.people(part.split.train, part.split.validation),
                    "test_people": part.people(part.split.test),
                }
            )
            for part in self.parts
        )
        return DataInfo(
            sets=sets,
            name=self.spec.name,
            fingerprint=self.spec.fingerprint,
            classes=len(self.class_names),
            train_clips=len(self.split.train),
            validation_clips=len(self.split.validation),
            test_clips=len(self.split.test),
            train_sequences=self.sequence_count,
            bodies_per_clip=self.bodies_per_clip,
            notes=self.notes,
        )

    def people(self, *clips: NDArray[np.int64]) -> int:
        """Known subjects in clips."""
        subjects = self.clips.columns["subject"][np.concatenate(clips)]
        return len(np.unique(subjects[subjects != UNKNOWN_SUBJECT]))

    @cached_property
    def groups(self) -> list[Tensor]:
        """Numbers of the training sequences of each data set."""
        ends = np.cumsum([part.sequence_count for part in self.parts])[:-1]
        return list(torch.tensor_split(self.sequences, ends.tolist()))

    def batches(self, spec: RunSpec, frames: int, views: Sequence[View] = (View(),)) -> Batches:
        """The training batches of a spec, as `harness.training.trainer.build_batches` makes
        them.
        """
        if spec.data.loader == "device":
            part = self.ranks.part_of(spec.train.batch_size)
            groups = self.groups if self.parts and spec.data.sampling == "even" else ()
            return build_batches(
                self.bodies, self.sequences, spec, frames, views, part=part, groups=groups
            )
        self._refuse_several("worker processes")
        if tuple(views) != (View(),):
            raise UsageError(
                "worker processes make one view as the run has it; this method wants others"
            )
        clips = PublishedClips if spec.data.loader == "published" else PaddedClips
        dataset = clips(self.padded, frames=frames, augmentation=augmentation(spec.data))
        return FeederBatches(
            dataset,
            size=spec.train.batch_size,
            workers=spec.data.workers,
            device=self.device,
            seed=spec.seed,
        )

    def as_in(self, spec: DataSpec) -> LoadedData:
        """The same clips with or without empty bodies, as ``spec`` has it."""
        return (
            self
            if spec.include_empty_bodies == self.spec.include_empty_bodies
            else self.counterpart
        )

    @cached_property
    def counterpart(self) -> LoadedData:
        """The same clips with empty bodies where this has none, and the other way round."""
        self._refuse_several("steps with and without empty bodies")
        spec = self.spec.model_copy(
            update={"include_empty_bodies": not self.spec.include_empty_bodies, "loader": "device"}
        )
        parts = (self.labels, self.class_names), self.split, self.device, self.notes
        return replace(assemble(spec, self.clips, *parts), ranks=self.ranks)

    def _refuse_several(self, what: str) -> None:
        if self.parts:
            raise UsageError(
                f"--dataset {self.spec.name}: {what} take one data set, found {len(self.parts)}"
            )

    @cached_property
    def padded(self) -> NDArray[np.float32]:
        """The training clips as the papers' feeders hold them."""
        return pad_clips(self.clips, self.split.train, center=self.spec.center)


def fingerprint_of(clips: ClipSet) -> str:
    """The fingerprint, from the store that computed it or afresh."""
    return clips.stored.fingerprint if clips.stored else fingerprint(clips)


def parts_hash(
    clips: ClipSet, labels: NDArray[np.int64], class_names: Sequence[str], split: Split
) -> str:
    """Eight digits for what a fingerprint leaves open: classes, who is on which side,
    and the joints' names.
    """
    digest = hashlib.sha256(repr((tuple(class_names), clips.layout.joints)).encode())
    for values in (labels, split.train, split.validation, split.test):
        digest.update(f"\n{len(values)}\n".encode() + np.ascontiguousarray(values, "<i8").tobytes())
    return digest.hexdigest()[:8]


def load_data(
    spec: DataSpec,
    device: torch.device,
    patch: int,
    *,
    ranks: Ranks = ALONE,
    advance: Advance = lambda done, total: None,
) -> LoadedData:
    """Read, label and split, to be moved to the device; every problem with the data is a one-line
    `UsageError`.

    ``advance`` is told of bytes done and bytes in all while a store is hashed.
    """
    with usage_errors():
        names = set_names(spec.name)
    if len(names) > 1:
        from harness.training.pool import apart, pool  # built on this module

        sets = [load_data(one, device, patch, advance=advance) for one in apart(spec, names)]
        return replace(pool(spec, sets), ranks=ranks)
    with usage_errors():
        clips = open_clips(spec.name, advance=advance)
        labels, class_names = make_labels(clips, spec.label)
        split = make_split(
            clips,
            spec.split,
            validation=spec.validation,
            drop_leaks=spec.drop_leaks,
            labels=(labels, class_names),
        )
        if len(np.unique(labels[split.train])) < 2:
            raise UsageError(
                f"{clips.name}: expected training clips of two or more classes, found"
                f" {len(split.train)} of one; choose another split or label"
            )
        parts = parts_hash(clips, labels, class_names, split)
        spec = spec.model_copy(
            update={"fingerprint": f"{fingerprint_of(clips)[:16]}-{parts}", "split": split.name}
        )
    notes = (*split.notes, *length_notes(clips, patch))
    return replace(assemble(spec, clips, (labels, class_names), split, device, notes), ranks=ranks)


def assemble(
    spec: DataSpec,
    clips: ClipSet,
    labels: tuple[NDArray[np.int64], tuple[str, ...]],
    split: Split,
    device: torch.device,
    notes: tuple[str, ...],
) -> LoadedData:
    """Body sequences for the device, empty bodies among them or not."""
    return LoadedData(
        spec, clips, *labels, split, device, cache(partial(_placed, spec, clips, device)), notes
    )


def _placed(spec: DataSpec, clips: ClipSet, device: torch.device) -> BodySequences:
    """The body sequences on their device, which is the current one from then on: that of events
    and synchronisation.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    return BodySequences(clips, device, center=spec.center, include_empty=spec.include_empty_bodies)


def build_batches(
    bodies: BodySequences,
    sequences: Tensor,
    spec: RunSpec,
    frames: int,
    views: Sequence[View] = (View(),),
    part: slice = slice(None),
    groups: Sequence[Tensor] = (),
) -> TrainingBatches:
    """The training batches of a spec; every method of one seed that takes the run's one view sees
    the same ones.

    Args:
        frames: T of a view that does not say otherwise.
        views: what the method wants to see of each body sequence.
        part: see `TrainingBatches`.
        groups: sequences of which none is to come up more often than another, whatever their size.
    """
    looks = [
        look_at(view, spec.data, frames, patch=encoder_size(spec.encoder).patch) for view in views
    ]
    batches = TrainingBatches(
        bodies,
        sequences,
        size=spec.train.batch_size,
        looks=looks,
        seed=spec.seed,
        part=part,
        groups=groups,
    )
    if spec.train.compile:
        batches.augment = compiled_apart(batches.augment)
    return batches


def look_at(view: View, data: DataSpec, frames: int, patch: int) -> Look:
    """A method's view with the run's settings where it leaves them open."""
    kept = view.frames or frames
    if kept > frames or kept % patch:
        raise UsageError(
            f"a view of {kept} frames: expected a multiple of {patch}, at most {frames}"
        )
    changes = {
        name: value
        for name in ("crop", "min_crop", "rotation")
        if (value := getattr(view, name)) is not None
    }
    return Look(kept, replace(augmentation(data), **changes))


def augmentation(data: DataSpec) -> Augmentation:
    """The spec's crop and rotation."""
    return Augmentation(crop=data.crop, min_crop=data.min_crop, rotation=data.rotation)
