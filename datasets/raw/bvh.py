"""Any folder of BVH files with a ``labels.csv``: motion capture of one's own.

``labels.csv`` has the columns ``file`` (a path below the folder) and ``label`` (a name), optionally ``subject`` (a
whole number) and ``unit_metres`` (metres in a unit of that file; 0.01 when not given, because BVH is usually in
centimetres). Any other column becomes one of the clips: of whole numbers if all its entries are, otherwise of strings.
y is taken to be up. Classes are the distinct labels in alphabetical order.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datasets.errors import DataError
from datasets.layouts import layout_from_parents
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Source, Unit, Value, files_below
from datasets.raw.bvh_file import Motion, read_motion
from datasets.raw.kinematics import settled
from datasets.raw.number_text import number_of
from datasets.store import REMEMBERED
from datasets.wording import listed, nearest, one_line

LABELS = "labels.csv"
UNIT_METRES = 0.01
LONGEST_PATH = 250
_KNOWN = ("file", "label", "subject", "unit_metres")
_TAKEN = (*REMEMBERED, "offsets", "lengths", "names")
_WHOLE = re.compile(r"-?\d{1,9}")


@dataclass(frozen=True)
class Row:
    """A line of ``labels.csv``.

    Attributes:
        line: where it stands, from 1.
        file: path below the folder.
        label: name of the class.
        subject: its number, -1 where none is given.
        unit_metres: metres in a unit of the file.
        other: further columns as text.
    """

    line: int
    file: str
    label: str
    subject: int
    unit_metres: float
    other: Mapping[str, str]


class Bvh(Source):
    """Clips of one skeleton: the first file that can be read decides it, and the frame rate.

    Attributes:
        rows: of ``labels.csv`` by the name of the clip, of the files that are there.
        missing: files of ``labels.csv`` that are not there.
        whole: columns of whole numbers.
    """

    version = 1
    title = "BVH files with labels"
    expects = f"a folder of .bvh files and a {LABELS} with the columns file and label"
    bodies = 1
    chunk = 16

    def __init__(self, raw: Path) -> None:
        super().__init__(raw)
        rows = read_rows(raw / LABELS)
        self.rows = {_clip_name(row): row for row in rows if (raw / row.file).is_file()}
        self.missing = [row.file for row in rows if _clip_name(row) not in self.rows]
        first = self._first_motion()
        self.class_names = sorted({row.label for row in self.rows.values()})
        self.whole = [name for name in rows[0].other if all(_is_whole(row.other[name]) for row in rows)]
        self.layout = layout_from_parents(first.names, first.parents)
        self.frame_time = first.frame_time
        self.fps = round(1 / first.frame_time, 3)  # frame times are written rounded: 0.0333333 is 30

    def find(self) -> Found:
        """A unit a file, in the order of ``labels.csv``."""
        # The whole row stands in the unit: a preparation begins anew when labels.csv has changed.
        units = [Unit(name, self.raw / row.file, part=repr(row)) for name, row in self.rows.items()]
        there = {path.relative_to(self.raw).as_posix() for path in files_below(self.raw, ".bvh")}
        counts = {
            f"files in {LABELS}": len(self.rows) + len(self.missing),
            f".bvh files that are not in {LABELS}, not read": len(there - {row.file for row in self.rows.values()}),
        }
        if self.missing:
            counts[f"files in {LABELS} that are not there ({listed(self.missing)})"] = len(self.missing)
        return Found(units, counts)

    def read(self, unit: Unit) -> Reading:
        """The clip of a file."""
        row, motion = self.rows[unit.name], read_motion(unit.path)
        self._check_same(motion)
        columns: dict[str, Value] = {
            "label": self.class_names.index(row.label),
            "subject": row.subject,
            "names": unit.name,
            **{name: int(text) if name in self.whole else text for name, text in row.other.items()},
        }
        return Reading([RawClip(settled(motion.positions() * row.unit_metres)[:, None], columns)])

    def _first_motion(self) -> Motion:
        problems = []
        for row in self.rows.values():
            try:
                return read_motion(self.raw / row.file)
            except (BrokenFile, OSError) as error:
                problems.append(one_line(error))
        problem = problems[0] if problems else f"not there are {listed(self.missing)}"
        raise DataError(f"{self.raw}: expected a BVH file that can be read, found none ({problem}); check {LABELS}")

    def _check_same(self, motion: Motion) -> None:
        names, joints = motion.names, self.layout.joints
        if set(names) != set(joints):
            found = f"without {listed(set(joints) - set(names))} and with {listed(set(names) - set(joints))}"
            raise BrokenFile(motion.path, f"expected the joints of the first file, found a skeleton {found}")
        if (names, motion.parents) != (joints, self.layout.parents):
            raise BrokenFile(motion.path, "expected the joints of the first file, found another order or other parents")
        if abs(motion.frame_time / self.frame_time - 1) > 1e-3:
            expected = f"expected the frame time of the first file, {self.frame_time:g} seconds"
            raise BrokenFile(motion.path, f"{expected}, found {motion.frame_time:g}")


def read_rows(path: Path) -> list[Row]:
    """The lines of a ``labels.csv``, checked. Raises `DataError` naming the line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            _check_columns(path, reader.fieldnames or [])
            rows = [_row(path, reader.line_num, fields) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected {Bvh.expects}, found: {one_line(error)}") from None
    if not rows:
        raise DataError(f"{path}: expected a line for every file, found none; name file and label of every clip")
    seen: set[str] = set()
    for row in rows:
        if _clip_name(row) in seen:
            raise _wrong(path, row.line, "every file once", f"{row.file} again")
        seen.add(_clip_name(row))
    return rows


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    for name in ("file", "label"):
        if name not in columns:
            hint = nearest(name, columns)
            raise DataError(f"{path}, line 1: expected a column {name}, found {listed(columns)}; {hint}name it so")
    for name in columns:
        if name in _TAKEN or not re.fullmatch(r"[A-Za-z_]\w*", name) or columns.count(name) > 1:
            expected = f"columns of letters and digits, each once and none of {listed(_TAKEN)}"
            raise DataError(f"{path}, line 1: expected {expected}, found {name!r}; name it otherwise")


def _row(path: Path, line: int, fields: dict[str, str]) -> Row:
    # DictReader puts fields too many under the key None, and None for fields too few.
    if None in fields or None in fields.values():
        raise _wrong(path, line, "as many fields as in line 1", "more" if None in fields else "fewer")
    texts = {name: text.strip() for name, text in fields.items()}
    file, subject, unit = texts["file"], texts.get("subject") or "-1", texts.get("unit_metres") or str(UNIT_METRES)
    place = PurePosixPath(file)
    if place.suffix.lower() != ".bvh" or place.is_absolute() or ".." in place.parts or len(file) > LONGEST_PATH:
        raise _wrong(path, line, "the path of a .bvh file below the folder", repr(file[:40]))
    if not texts["label"]:
        raise _wrong(path, line, "a label", "none")
    if not _is_whole(subject) or int(subject) < -1:
        raise _wrong(path, line, "a subject's number, -1 or nothing when it is not known", repr(subject))
    if not 0 < number_of(unit) <= 1000:
        raise _wrong(path, line, "unit_metres above 0 and at most 1000", repr(unit))
    other = {name: text for name, text in texts.items() if name not in _KNOWN}
    return Row(line, place.as_posix(), texts["label"], int(subject), number_of(unit), other)


def _wrong(path: Path, line: int, expected: str, found: str) -> DataError:
    return DataError(f"{path}, line {line}: expected {expected}, found {found}; correct the line")


def _clip_name(row: Row) -> str:
    return row.file[: -len(".bvh")]


def _is_whole(text: str) -> bool:
    return bool(_WHOLE.fullmatch(text))
