"""PKU-MMD (Liu et al., 2017, arXiv 1703.07475): long videos with labelled intervals, each of which
becomes a clip.

As published (MAMP's preparation): clips are ``frames[start:end]`` in the camera's metres, neither
centred nor denoised, those without a body are left out. Formats: a skeleton file has 150 numbers a
line, a frame of two bodies of 25 joints; a label file has ``label,start,end,confidence`` lines; a
split file has the names of the training videos in its second line and those of the validation
videos in its fourth.

Subjects are not in the files, so every ``subject`` is -1 and no validation part can be cut by
subject.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from datasets.errors import DataError
from datasets.layouts import NTU25
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Source, Unit, Value, files_below
from datasets.raw.number_text import read_lines, read_numbers, stamp
from datasets.wording import listed

_CLASSES = (
    "bow", "brushing hair", "brushing teeth", "check time (from watch)", "cheer up", "clapping",
    "cross hands in front (say stop)", "drink water", "drop", "eat meal/snack", "falling",
    "giving something to other person", "hand waving", "handshaking", "hopping (one foot jumping)",
    "hugging other person", "jump up", "kicking other person", "kicking something",
    "make a phone call/answer phone", "pat on back of other person", "pickup",
    "playing with phone/tablet", "point finger at the other person",
    "pointing to something with finger", "punching/slapping other person", "pushing other person",
    "put on a hat/cap", "put something inside pocket", "reading", "rub two hands together",
    "salute", "sitting down", "standing up", "take off a hat/cap", "take off glasses",
    "take off jacket", "take out something from pocket", "taking a selfie", "tear up paper",
    "throw", "touch back (backache)", "touch chest (stomachache/heart pain)",
    "touch head (headache)", "touch neck (neckache)", "typing on a keyboard",
    "use a fan (with hand or paper)/feeling warm", "wear jacket", "wear on glasses", "wipe face",
    "writing",
)  # fmt: skip
"""The 51 actions of ``Split/Actions.xlsx``; label 1 is the first."""

_MOST_OVERLAP = 10
"""Times its frames that the labels of a video may cover; actions hardly overlap."""
_SPLITS = {"xsub": "subject", "xview": "view"}
"""Split names to the word in the name of the split file."""
_SUFFIXES = (".txt", ".skeleton", ".label")
_NUMBERS_A_FRAME = 150
_WHOLE = re.compile(r"\s*-?\d{1,9}\s*")


@dataclass(frozen=True)
class Instance:
    """A line of a label file: frames ``start`` to before ``end`` show ``label`` (from 1);
    ``line`` counts from 1.
    """

    line: int
    label: int
    start: int
    end: int
    confidence: int


class PkuMmd(Source):
    """What both phases have in common: a unit is a video, its skeleton and label files found by
    their stem.

    Attributes:
        stems: what the stem of a video's files looks like, video first, view second.
        homes: official folders; where one is missing, files are looked for everywhere below `raw`.
        reported: videos whose labels are reported wrong; they are counted and kept.
        skeletons, labels: files by stem.
        lists: split name -> its file, of those that are there.
        sides: split name -> stem -> ``train`` or ``test``, by these.
    """

    version = 2
    chunk = 4
    layout = NTU25
    fps = 30.0
    bodies = 2
    class_names = _CLASSES
    stems: ClassVar[re.Pattern[str]]
    homes: ClassVar[Mapping[str, str]] = {}
    reported: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, raw: Path) -> None:
        super().__init__(raw)
        files = sorted(
            path for path in files_below(raw) if path.suffix.lower() in _SUFFIXES and path.is_file()
        )
        videos = [path for path in files if self.stems.fullmatch(path.stem)]
        self.labels = self._by_stem("label", (path for path in videos if self._is_label(path)))
        self.skeletons = self._by_stem(
            "skeleton", (path for path in videos if not self._is_label(path))
        )
        chosen = {name: self._split_file(files, word) for name, word in _SPLITS.items()}
        self.lists = {name: path for name, path in chosen.items() if path}
        self.assumed = tuple(f"split {name} by {path.name}" for name, path in self.lists.items())
        self.sides = {name: _read_split(path, self.stems) for name, path in self.lists.items()}
        self.splits = {name: f"{name}_side:train->test" for name in self.sides}
        self.default_split = next(iter(self.sides), "xsub")

    def find(self) -> Found:
        """The videos that have both files, in the order of their stems."""
        both = sorted(self.skeletons.keys() & self.labels.keys())
        if not both:
            found = (
                f"{len(self.skeletons)} skeleton files and {len(self.labels)} label files, none"
                " with the same stem"
            )
            raise DataError(f"{self.raw}: expected {self.expects}, found {found}; check the path")
        for stem in both:
            self._refuse_labels_from_0(self.labels[stem])
        # Label file and sides stand in the unit: a preparation begins anew when they have changed.
        parts = {
            stem: f"{stamp(self.labels[stem])} {' '.join(self._sides(stem).values())}"
            for stem in both
        }
        return Found(
            [Unit(stem, self.skeletons[stem], parts[stem]) for stem in both], self._counts(both)
        )

    def read(self, unit: Unit) -> Reading:
        """The labelled intervals of a video."""
        path = self.labels[unit.name]
        frames = read_numbers(unit.path, _NUMBERS_A_FRAME).astype(np.float32).reshape(-1, 2, 25, 3)
        instances = read_labels(path)
        if (
            labelled := sum(max(0, one.end - one.start) for one in instances)
        ) > _MOST_OVERLAP * max(len(frames), 1000):
            raise BrokenFile(
                path, f"expected labels of {len(frames):,} frames, found {labelled:,} labelled ones"
            )
        reading, kept = Reading(), list[Instance]()
        reading.counts["labels"] += len(instances)
        for number, instance in enumerate(instances, 1):
            clip = frames[max(instance.start, 0) : max(instance.end, 0)]
            if problem := _problem(instance, clip, len(frames)):
                reading.problems.append(f"{path}, line {instance.line}: {problem}")
                reading.counts["labels left out, see the problems"] += 1
                continue
            kept.append(instance)
            reading.clips.append(RawClip(clip, self._columns(unit.name, number, instance)))
        reading.counts.update(self._remarks(unit.name, kept, len(frames)))
        return reading

    def _refuse_labels_from_0(self, path: Path) -> None:
        """Labels that count from 0 are every one another class's;
        a file that cannot be read is named later.
        """
        with suppress(BrokenFile, OSError):
            for instance in read_labels(path):
                if instance.label == 0:
                    raise DataError(
                        f"{path}, line {instance.line}: expected labels from 1 to {len(_CLASSES)},"
                        " found 0; they count from 1: if all count from 0 add 1 to every one,"
                        " otherwise leave the line out"
                    )

    def _is_label(self, path: Path) -> bool:
        return (
            path.suffix.lower() == ".label"
            or "label" in str(path.parent.relative_to(self.raw)).lower()
        )

    def _by_stem(self, kind: str, paths: Iterable[Path]) -> dict[str, Path]:
        home = self.raw / self.homes[kind] if kind in self.homes else self.raw
        found: dict[str, Path] = {}
        for path in paths:
            if home.is_dir() and not path.is_relative_to(home):
                continue
            if path.stem in found:
                raise self.twice(f"{kind} file of {path.stem}", found[path.stem], path)
            found[path.stem] = path
        return found

    def _split_file(self, files: Sequence[Path], word: str) -> Path | None:
        """The list of a split: cross-subject.txt, or another name that holds this,
        as forks have it.
        """
        form = re.compile(rf"cross[-_ ]?{word}.*\.txt", re.IGNORECASE)
        found = self._of_phase([path for path in files if form.fullmatch(path.name)])
        found = found or self._of_phase([path for path in files if form.search(path.name)])
        if len(found) > 1:
            step = "keep one of them below this folder"
            raise DataError(
                f"{self.raw}: expected one cross-{word} split file, found {listed(found)}; {step}"
            )
        return found[0] if found else None

    @abstractmethod
    def _of_phase(self, named: Sequence[Path]) -> Sequence[Path]:
        """The split files of this phase: those of phase 2 have ``v2`` in their names."""

    def _counts(self, both: Sequence[str]) -> dict[str, int]:
        counts = {
            "skeleton files": len(self.skeletons),
            "label files": len(self.labels),
            "skeleton files without a label file": len(self.skeletons) - len(both),
            "label files without a skeleton file": len(self.labels) - len(both),
        }
        for name, word in _SPLITS.items():
            if name not in self.sides:
                counts[f"split files not found: cross-{word}"] = 1
            elif left := len(set(both) - self.sides[name].keys()):
                counts[f"videos on neither list of cross-{word}"] = left
        return counts

    def _columns(self, stem: str, number: int, instance: Instance) -> dict[str, Value]:
        video, view = self._video_and_view(stem)
        return {
            "label": instance.label - 1,
            "subject": -1,
            "view": view,
            "video": self._video(video),
            "confidence": instance.confidence,
            "names": f"{stem}-{number:03}",
            **self._sides(stem),
        }

    def _sides(self, stem: str) -> dict[str, str]:
        """The columns that tell on which list of every split file a video stands."""
        return {f"{name}_side": self.sides.get(name, {}).get(stem, "none") for name in _SPLITS}

    def _video_and_view(self, stem: str) -> tuple[str, str]:
        form = self.stems.fullmatch(stem)
        assert form is not None  # only such files are units
        return form[1], form[2]

    def _video(self, text: str) -> Value:
        return text

    def _remarks(self, stem: str, kept: Sequence[Instance], frames: int) -> dict[str, int]:
        video, _ = self._video_and_view(stem)
        counts = {
            "starts before the file, cut": sum(instance.start < 0 for instance in kept),
            "ends past the file, cut": sum(instance.end > frames for instance in kept),
            "clips that overlap an earlier one of their video": _overlapping(kept),
            f"clips of videos {listed(sorted(self.reported))}, labels reported wrong, kept": (
                len(kept) if video in self.reported else 0
            ),
        }
        return {stage: count for stage, count in counts.items() if count}


class PkuMmd1(PkuMmd):
    """Phase 1: 1,076 videos of four digits and a view, 51 classes."""

    title = "PKU-MMD phase 1 (Liu et al., 2017)"
    expects = (
        "skeleton files such as 0002-L.txt (Data/PKU_Skeleton_Renew) and label files of the same"
        " names in a folder with 'label' in its name (Label/Train_Label_PKU_final)"
    )
    stems = re.compile(r"(\d{4})-([LMR])")
    # Counted in the published label files, as MAMP and others quote them; some intervals hold no
    # body.
    expected: Mapping[str, tuple[int, int]] = {"xsub": (18_841, 2_704), "xview": (14_357, 7_188)}
    homes: ClassVar[Mapping[str, str]] = {
        "skeleton": "Data/PKU_Skeleton_Renew",
        "label": "Label/Train_Label_PKU_final",
    }
    reported = frozenset({"0099", "0119"})

    def _of_phase(self, named: Sequence[Path]) -> Sequence[Path]:
        return [path for path in named if "v2" not in path.stem.lower()]

    def _video(self, text: str) -> Value:
        return int(text)


class PkuMmd2(PkuMmd):
    """Phase 2: 1,009 shorter videos named like A01N01. Labels keep phase 1's numbers,
    of which 41 occur.
    """

    # Commonly quoted are 5,339 / 1,613 and 5,332 / 1,613 clips cross-subject; neither was counted
    # here.
    title = "PKU-MMD phase 2 (Liu et al., 2017)"
    expects = (
        "skeleton files such as A01N01-L.txt and label files of the same names in a folder with"
        " 'label' in its name"
    )
    stems = re.compile(r"(A\d+N\d+)-([LMR])")

    def _of_phase(self, named: Sequence[Path]) -> Sequence[Path]:
        return [path for path in named if "v2" in path.stem.lower()] or named


def read_labels(path: Path) -> list[Instance]:
    """The instances of a label file, in its order.
    Raises `BrokenFile` for a line that is not four whole numbers.
    """
    instances = []
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split(",")
        if not line.strip():
            continue
        if len(fields) != 4:
            raise BrokenFile(
                path, f"expected label,start,end,confidence, found {len(fields)} fields", number
            )
        wrong = [field for field in fields if not _WHOLE.fullmatch(field)]
        if wrong:
            raise BrokenFile(path, f"expected whole numbers, found {wrong[0][:20]!r}", number)
        instances.append(Instance(number, *(int(field) for field in fields)))
    return instances


def _read_split(path: Path, stems: re.Pattern[str]) -> dict[str, str]:
    """Stem -> ``train`` or ``test`` of a split file; a `DataError` when it is not one."""
    try:
        lines = read_lines(path)
    except (BrokenFile, OSError) as error:
        raise DataError(f"{error}; copy the split file again") from None
    sides: dict[str, str] = {}
    for side, number in (("train", 2), ("test", 4)):
        text = lines[number - 1] if number <= len(lines) else ""
        names = [name for name in re.split(r"[,\s]+", text) if stems.fullmatch(name)]
        if not names:
            expected = f"the names of the {'training' if side == 'train' else 'validation'} videos"
            raise DataError(
                f"{path}, line {number}: expected {expected}, found {text[:40]!r}; copy the file"
                " again"
            )
        if twice := sorted(set(names) & sides.keys()):
            expected = "other names than in line 2"
            raise DataError(
                f"{path}, line {number}: expected {expected}, found {listed(twice)}; copy the file"
                " again"
            )
        sides |= dict.fromkeys(names, side)
    return sides


def _problem(instance: Instance, clip: NDArray[np.float32], frames: int) -> str:
    """Why an instance is left out; empty when it is not."""
    if not 1 <= instance.label <= len(_CLASSES):
        return f"expected a label from 1 to {len(_CLASSES)}, found {instance.label}"
    interval = f"frames {instance.start} to {instance.end}"
    if instance.start >= instance.end:
        return f"expected an interval of one frame or more, found {interval}"
    if not len(clip):
        return (
            f"expected an interval within the {frames} frames of the skeleton file, found"
            f" {interval}"
        )
    return "" if clip.any() else f"expected a body, found none in {interval}"


def _overlapping(instances: Sequence[Instance]) -> int:
    """How many instances begin before an earlier one has ended."""
    ordered = sorted(instances, key=lambda instance: instance.start)
    ends = accumulate((instance.end for instance in ordered), max)
    return sum(
        instance.start < reached for instance, reached in zip(ordered[1:], ends, strict=False)
    )
