"""NTU RGB+D as pyskl distributes it: ``ntu60_3danno.pkl`` and ``ntu120_3danno.pkl``."""

from __future__ import annotations

import json
import re
from abc import ABC
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.errors import DataError
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Unit
from datasets.raw.ntu.chain import ACTORS, Joints, translated
from datasets.raw.ntu.facts import NOBODY, ST_GCN, NtuSource, OfNtu60, OfNtu120, name_columns
from datasets.raw.unpickle import StoredArray, Stretch, load_plain
from datasets.wording import listed, one_line

_UNKNOWN = {"subject": -1, "view": -1, "setup": -1, "replication": -1}
_LIST_NAME = re.compile(r"([A-Za-z]\w{0,30}_)?(train|val|test)")
TWICE = "names found again, left out"


class _NtuPyskl(NtuSource, ABC):
    """A pickle of a dict whose ``annotations`` are a list of dicts, one per clip.

    Each has ``frame_dir`` (the clip's name), ``label`` (from 0), ``total_frames`` T and
    ``keypoint`` [M, T, 25, 3], metres in the camera's frame. Bodies are chosen already; the
    translation of the standard chain is left to do.

    Columns: ``label``, ``names``, and ``subject``, ``view``, ``setup`` and ``replication`` as names
    of NTU's form tell them, -1 elsewhere. The official splits follow from them as with the
    ``.skeleton`` files, and the file's own lists (``split``: ``xsub_train``, ``xsub_val``, ...)
    must agree with them; lists of other splits, and all lists where names are not NTU's, become
    splits by a column such as ``xsub_side``. The file's own class names (``class_names``) are used.
    Clips stand in the order of their names.

    The file is never unpickled (`datasets.raw.unpickle`): only the places of its arrays are
    gathered, and a clip's numbers are read when it is its turn.
    """

    version = 2
    expects = "a .pkl file of pyskl's form, a dict with a list 'annotations'"
    is_file = True

    def find(self) -> Found:
        """The annotations, by name. Raises `DataError` when the file holds something else
        or wants to run code.
        """
        content = load_plain(self.raw)
        annotations = self._annotations(content)
        others = content if isinstance(content, dict) else {}
        self._take_class_names(others.get("class_names"))
        self._check_labels(annotations)
        sides = self._take_splits(others.get("split"), annotations)
        units, twice = dict[str, Unit](), 0
        for number, annotation in enumerate(annotations):
            unit = self._unit(number, annotation, sides)
            twice += unit.name in units
            units.setdefault(unit.name, unit)
        counts = {"found": len(annotations)} | ({TWICE: twice} if twice else {})
        if unread := sorted(
            {key for key in others if isinstance(key, str)}
            - {"annotations", "split", "class_names"}
        ):
            counts[f"entries not read: {one_line(listed(unread, 4))[:200]}"] = len(unread)
        return Found([units[name] for name in sorted(units)], counts)

    def read(self, unit: Unit) -> Reading:
        """The clip of an annotation; one of another form, or without a body, is a problem."""
        note = json.loads(str(unit.part))
        if "problem" in note:
            return Reading(problems=[f"{self.raw}: {unit.name}: {note['problem']}"])
        joints = translated(self._joints(unit, note))
        if not joints.any():
            return Reading(
                counts=Counter({NOBODY: 1}),
                problems=[f"{self.raw}: {unit.name}: no body in any frame"],
            )
        columns = {
            "label": note["label"],
            **_UNKNOWN,
            **(name_columns(unit.name) or {}),
            "names": unit.name,
        }
        return Reading([RawClip(joints, {**columns, **note["sides"]})])

    def _annotations(self, content: Any) -> list[Any]:
        if isinstance(content, tuple) and len(content) == 2:
            raise DataError(f"{self.raw}: found {ST_GCN}")
        annotations = content.get("annotations") if isinstance(content, dict) else content
        if not isinstance(annotations, list) or not annotations:
            found = type(content).__name__
            if isinstance(content, dict):
                found = f"a dict of {listed((key for key in content if isinstance(key, str)), 5)}"
            raise DataError(
                f"{self.raw}: expected {self.expects}, found {one_line(found)[:200]}; download it"
                " again"
            )
        return annotations

    def _take_class_names(self, names: Any) -> None:
        """Use the file's own class names, if it has any."""
        if names is None:
            return
        plain = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not plain or len(names) != len(self.class_names):
            found = f"{len(names)} entries" if isinstance(names, list) else type(names).__name__
            raise DataError(
                f"{self.raw}: class_names: expected {len(self.class_names)} strings, found {found};"
                " prepare it as the edition of NTU RGB+D that has so many classes"
            )
        self.class_names = tuple(one_line(name) for name in names)

    def _check_labels(self, annotations: list[Any]) -> None:
        """Labels that count from 1 would shift every class, where no name of NTU's form tells."""
        labels = [
            one.get("label") for one in annotations if isinstance(one, dict) and not _ntu_name(one)
        ]
        whole = {label for label in labels if _small(label)}
        if len(self.class_names) in whole and 0 not in whole:
            raise DataError(
                f"{self.raw}: labels: expected 0 to {len(self.class_names) - 1}, found"
                f" {len(self.class_names)} and no 0; they count from 1: subtract 1 from every one"
            )

    def _take_splits(self, split: Any, annotations: list[Any]) -> dict[str, dict[str, str]]:
        """The file's own lists that become columns, by the name of the split;
        those of official splits are compared.
        """
        own = self._own_splits(split)
        ours = all(_ntu_name(one) for one in annotations if isinstance(one, dict))
        if ours:
            for name in own.keys() & type(self).splits.keys():
                self._compare(name, own.pop(name))
        own = {
            name: sides for name, sides in own.items() if {"train", "test"} <= set(sides.values())
        }
        official = type(self).splits if ours or not own else {}
        self.splits = {**official, **{name: f"{name}_side:train->test" for name in own}}
        self.default_split = next(iter(self.splits))
        return own

    def _own_splits(self, split: Any) -> dict[str, dict[str, str]]:
        """Split name -> clip name -> ``train`` or ``test``,
        of lists such as ``xsub_train`` and ``xsub_val``.
        """
        found: dict[str, dict[str, str]] = {}
        for key, clips in split.items() if isinstance(split, dict) else ():
            form = _LIST_NAME.fullmatch(key) if isinstance(key, str) else None
            if form is None or not isinstance(clips, list | tuple | set):
                continue
            name, side = (form[1] or "own").rstrip("_"), "train" if form[2] == "train" else "test"
            sides = found.setdefault(name, {})
            for clip in filter(lambda clip: isinstance(clip, str), clips):
                if sides.setdefault(clip, side) != side:
                    raise DataError(
                        f"{self.raw}: split {name}: expected every clip on one side, found"
                        f" {one_line(clip)[:80]} on both; correct the lists"
                    )
        return found

    def _compare(self, name: str, sides: Mapping[str, str]) -> None:
        """The file's lists of an official split must be the official ones."""
        text = type(self).splits[name]
        column, _, values = text.partition("->")[0].partition(":")
        train = set(map(int, values.split(",")))
        for clip, side in sides.items():
            known = name_columns(clip)
            if known and (known[column] in train) != (side == "train"):
                raise DataError(
                    f"{self.raw}: split {name}: expected the official one ({column} {values[:40]}),"
                    f" found {one_line(clip)} on the file's {side} side; download it again, or name"
                    " the file's lists otherwise"
                )

    def _unit(self, number: int, annotation: Any, splits: Mapping[str, Mapping[str, str]]) -> Unit:
        """An annotation as a unit, whose part says where its numbers are
        or what is wrong with it.
        """
        name = annotation.get("frame_dir") if isinstance(annotation, dict) else None
        if not isinstance(name, str):
            return Unit(
                f"annotation {number}",
                self.raw,
                _part(problem="expected a dict with a name, 'frame_dir'"),
            )
        name = one_line(name)
        if problem := self._problem(annotation):
            return Unit(name, self.raw, _part(problem=problem))
        array: StoredArray = annotation["keypoint"]
        data = [array.data.offset, array.data.length, array.data.text]
        place = {"data": data, "dtype": array.dtype, "shape": array.shape, "axes": array.axes}
        sides = {
            f"{split}_side": of.get(annotation["frame_dir"], "none") for split, of in splits.items()
        }
        return Unit(
            name, self.raw, _part(label=int(annotation["label"]), keypoint=place, sides=sides)
        )

    def _problem(self, annotation: Mapping[str, Any]) -> str:
        """What is wrong with an annotation, or nothing."""
        label, named = annotation.get("label"), name_columns(annotation["frame_dir"])
        if not _small(label) or label not in range(len(self.class_names)):
            return f"expected a label from 0 to {len(self.class_names) - 1}, found {_shown(label)}"
        if named and named["label"] != label:
            return f"expected label {named['label']}, as the name has it, found {label}"
        return _array_problem(annotation.get("keypoint"), annotation.get("total_frames"))

    def _joints(self, unit: Unit, note: Mapping[str, Any]) -> Joints:
        """[T, 2, 25, 3] as they stand in the file."""
        place = note["keypoint"]
        array = StoredArray(
            Stretch(*place["data"]), place["dtype"], tuple(place["shape"]), tuple(place["axes"])
        )
        with self.raw.open("rb") as file, np.errstate(over="ignore"):
            try:
                keypoint = array.read(file).astype(np.float32)
            except ValueError as error:
                raise BrokenFile(
                    self.raw, f"{unit.name}: the array cannot be read ({one_line(error)})"
                ) from None
        joints = np.zeros((keypoint.shape[1], ACTORS, *keypoint.shape[2:]), np.float32)
        joints[:, : len(keypoint)] = keypoint.transpose(1, 0, 2, 3)
        return joints


class Ntu60Pyskl(_NtuPyskl, OfNtu60):
    """NTU RGB+D 60: ``ntu60_3danno.pkl``."""


class Ntu120Pyskl(_NtuPyskl, OfNtu120):
    """NTU RGB+D 120: ``ntu120_3danno.pkl``."""


def _ntu_name(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation's name is of NTU's form."""
    name = annotation.get("frame_dir")
    return isinstance(name, str) and name_columns(name) is not None


def _array_problem(array: Any, frames: Any) -> str:
    """What is wrong with the numbers of an annotation, or nothing."""
    wanted = f"a keypoint array [1 or 2, {frames if _small(frames) else 'T'}, 25, 3]"
    if not isinstance(array, StoredArray):
        return f"expected {wanted}, found {_shown(array)}"
    if not array.dtype[1:].startswith("f"):
        return f"expected {wanted} of floating-point numbers, found {array.dtype}"
    if (
        len(array.shape) != 4
        or array.shape[0] not in range(1, ACTORS + 1)
        or array.shape[2:] != (25, 3)
    ):
        return f"expected {wanted}, found shape {list(array.shape)}"
    if frames is not None and frames != array.shape[1]:
        return f"expected {wanted}, found {array.shape[1]} frames"
    return ""


def _part(**note: Any) -> str:
    return json.dumps(note, separators=(",", ":"))


def _small(value: Any) -> bool:
    """Whether it is a whole number that can be printed."""
    return isinstance(value, int) and abs(value) < 2**31


def _shown(value: Any) -> str:
    return str(value) if _small(value) else type(value).__name__
