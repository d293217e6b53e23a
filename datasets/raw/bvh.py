"""Any folder of BVH files with a ``labels.csv``: motion capture of one's own.

``labels.csv`` has the columns ``file`` (a path below the folder) and ``label`` (a name), optionally
``subject`` (a whole number) and ``unit_metres`` (metres in a unit of that file; 0.01 when not
given, because BVH is usually in centimetres). Any other column becomes one of the clips: of whole
numbers if all its entries are, otherwise of strings. y is taken to be up. Classes are the distinct
labels in alphabetical order, or in that of numbers where all are numbers.

Tables as spreadsheet programs write them are read: separated by commas, semicolons or tabs, in
UTF-8 or UTF-16 with a byte-order mark, with backslashes in paths, with empty rows and columns at
the end.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath

from datasets.errors import DataError
from datasets.formats.kinds import kind_of
from datasets.formats.store import REMEMBERED
from datasets.layouts import layout_from_parents
from datasets.raw.base import BrokenFile, Found, RawClip, Reading, Source, Unit, Value, files_below
from datasets.raw.bvh_file import Motion, read_motion
from datasets.raw.kinematics import settled
from datasets.raw.number_text import number_of, plain_bytes
from datasets.wording import listed, nearest, one_line

_LABELS = "labels.csv"
_UNIT_METRES = 0.01
_LONGEST_PATH = 250
_KNOWN = ("file", "label", "subject", "unit_metres")
_TAKEN = (*REMEMBERED, "offsets", "lengths", "names")
_WHOLE = re.compile(r"-?\d{1,9}")
_SEPARATORS = ",;\t"
_MOST_BYTES, _MOST_ROWS, _MOST_COLUMNS = 32 * 2**20, 250_000, 100


@dataclass(frozen=True)
class _Row:
    """A line of ``labels.csv``.

    Attributes:
        line: where it stands, from 1.
        file: path below the folder.
        label: name of the class.
        subject: its number, -1 where none is given.
        unit_metres: metres in a unit of the file, None where none is given.
        other: further columns as text.
    """

    line: int
    file: str
    label: str
    subject: int
    unit_metres: float | None
    other: Mapping[str, str]


class Bvh(Source):
    """Clips of one skeleton: the first file that can be read decides it, and the frame rate.

    Attributes:
        rows: of ``labels.csv`` by the name of the clip, of the files that are there.
        missing: files of ``labels.csv`` that are not there.
        whole: columns of whole numbers.
    """

    version = 2
    title = "BVH files with labels"
    expects = f"a folder of .bvh files and a {_LABELS} with the columns file and label"
    bodies = 1
    chunk = 16

    def __init__(self, raw: Path) -> None:
        super().__init__(raw)
        rows = _read_rows(_labels_in(raw))
        self.rows = {_clip_name(row): row for row in rows if (raw / row.file).is_file()}
        self.missing = [row.file for row in rows if _clip_name(row) not in self.rows]
        first = self._first_motion()
        labels = sorted({row.label for row in self.rows.values()})
        self.class_names = sorted(labels, key=int) if all(map(_is_whole, labels)) else labels
        self.whole = [
            name for name in rows[0].other if all(_is_whole(row.other[name]) for row in rows)
        ]
        self.layout = layout_from_parents(first.names, first.parents)
        self.frame_time = first.frame_time
        self.fps = round(
            1 / first.frame_time, 3
        )  # frame times are written rounded: 0.0333333 is 30
        self.assumed = tuple(self._assumptions())

    def find(self) -> Found:
        """A unit a file, in the order of ``labels.csv``."""
        # The whole row stands in the unit: a preparation begins anew when labels.csv has changed.
        units = [Unit(name, self.raw / row.file, part=repr(row)) for name, row in self.rows.items()]
        there = {path.relative_to(self.raw).as_posix() for path in files_below(self.raw, ".bvh")}
        counts = {
            f"files in {_LABELS}": len(self.rows) + len(self.missing),
            f".bvh files that are not in {_LABELS}, not read": len(
                there - {row.file for row in self.rows.values()}
            ),
        }
        if self.missing:
            counts[f"files in {_LABELS} that are not there ({listed(self.missing)})"] = len(
                self.missing
            )
        return Found(units, counts)

    def _assumptions(self) -> Iterator[str]:
        yield "y is up"
        if silent := sum(row.unit_metres is None for row in self.rows.values()):
            yield (
                f"unit_metres {_UNIT_METRES:g}, centimetres, of {silent} files; other units go into"
                f" {_LABELS}, column unit_metres"
            )
        folded: dict[str, list[str]] = {}
        for name in self.class_names:
            folded.setdefault(" ".join(name.casefold().split()), []).append(name)
        for names in folded.values():
            if len(names) > 1:
                yield f"{listed(map(repr, names))} are different classes"

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
        metres = _UNIT_METRES if row.unit_metres is None else row.unit_metres
        return Reading([RawClip(settled(motion.positions() * metres)[:, None], columns)])

    def _first_motion(self) -> Motion:
        problems = []
        for row in self.rows.values():
            try:
                return read_motion(self.raw / row.file)
            except (BrokenFile, OSError) as error:
                problems.append(one_line(error))
        problem = problems[0] if problems else f"not there are {listed(self.missing)}"
        raise DataError(
            f"{self.raw}: expected a BVH file that can be read, found none ({problem}); check"
            f" {_LABELS}"
        )

    def _check_same(self, motion: Motion) -> None:
        names, joints = motion.names, self.layout.joints
        if set(names) != set(joints):
            found = (
                f"without {listed(set(joints) - set(names))} and with"
                f" {listed(set(names) - set(joints))}"
            )
            raise BrokenFile(
                motion.path, f"expected the joints of the first file, found a skeleton {found}"
            )
        if (names, motion.parents) != (joints, self.layout.parents):
            raise BrokenFile(
                motion.path,
                "expected the joints of the first file, found another order or other parents",
            )
        if abs(motion.frame_time / self.frame_time - 1) > 1e-3:
            expected = f"expected the frame time of the first file, {self.frame_time:g} seconds"
            raise BrokenFile(motion.path, f"{expected}, found {motion.frame_time:g}")


def _labels_in(folder: Path) -> Path:
    """``labels.csv``, in upper or lower case."""
    return next(
        (path for path in sorted(folder.glob("*")) if path.name.lower() == _LABELS),
        folder / _LABELS,
    )


def _read_rows(path: Path) -> list[_Row]:
    """The lines of a ``labels.csv``, checked. Raises `DataError` naming the line."""
    table = _table(path)
    _, head = next((row for row in table if any(row[1])), (1, []))
    columns = _columns(path, head)
    rows = [
        _row(path, line, columns, fields)
        for line, fields in islice(table, _MOST_ROWS)
        if any(fields)
    ]
    if next(table, None):
        raise DataError(
            f"{path}: expected at most {_MOST_ROWS:,} lines, found more; cut the set up"
        )
    if not rows:
        raise DataError(
            f"{path}: expected a line for every file, found none; name file and label of every clip"
        )
    seen: set[str] = set()
    for row in rows:
        if _clip_name(row) in seen:
            raise _wrong(path, row.line, "every file once", f"{row.file} again")
        seen.add(_clip_name(row))
    return rows


def _table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and stripped fields of a table."""
    text = _text(path)
    if named := re.match(
        r"sep=([,;\t])\r?\n", text
    ):  # Excel's own first line, which says what separates
        text = "\n".join(["", text[named.end() :]])
    first = text.lstrip("\n").partition("\n")[0]
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    try:
        for fields in reader:
            yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num}: expected a table, found: {one_line(error)}"
        ) from None


def _text(path: Path) -> str:
    """The text of a table; a file that is no text, or in another encoding, is a `DataError`."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(
                f"{path}: expected at most {_MOST_BYTES:,} bytes, found {path.stat().st_size:,};"
                " cut it up"
            )
        data = path.read_bytes()
        kind = kind_of(path) if data else None
    except OSError as error:
        others = [
            entry.name
            for entry in path.parent.glob("*")
            if entry.suffix.lower() in (".csv", ".xlsx", ".xls")
        ]
        found = f"; there is {listed(others, 3)}: save or name it {_LABELS}" if others else ""
        raise DataError(
            f"{path}: expected {Bvh.expects}, found: {one_line(error)}{found}"
        ) from None
    if kind is not None:
        raise DataError(f"{path}: expected a table as text, {kind}")
    try:
        return plain_bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: expected UTF-8, found another encoding; save the table as UTF-8"
            " (Excel: CSV UTF-8)"
        ) from None


def _columns(path: Path, head: Sequence[str]) -> list[str]:
    """The columns' names, known ones in lower case, without the empty ones at the end."""
    columns = [name.lower() if name.lower() in _KNOWN else name for name in head]
    while columns and not columns[-1]:
        columns.pop()
    for name in ("file", "label"):
        if name not in columns:
            hint = nearest(name, columns)
            raise DataError(
                f"{path}, line 1: expected a column {name}, found {listed(columns)}; {hint}name"
                " it so"
            )
    if len(columns) > _MOST_COLUMNS:
        raise DataError(
            f"{path}, line 1: expected at most {_MOST_COLUMNS} columns, found {len(columns):,};"
            " leave some out"
        )
    for name in columns:
        if name in _TAKEN or not re.fullmatch(r"[A-Za-z_]\w*", name) or columns.count(name) > 1:
            expected = f"columns of letters and digits, each once and none of {listed(_TAKEN)}"
            raise DataError(
                f"{path}, line 1: expected {expected}, found {name!r}; name it otherwise"
            )
    return columns


def _row(path: Path, line: int, columns: Sequence[str], fields: Sequence[str]) -> _Row:
    if len(fields) < len(columns) or any(fields[len(columns) :]):
        raise _wrong(
            path,
            line,
            "as many fields as in line 1",
            "fewer" if len(fields) < len(columns) else "more",
        )
    texts = dict(zip(columns, fields, strict=False))
    subject, unit = (
        _whole(texts.get("subject") or "-1"),
        texts.get("unit_metres", "").replace(",", "."),
    )
    if not texts["label"]:
        raise _wrong(path, line, "a label", "none")
    if not _is_whole(subject) or int(subject) < -1:
        raise _wrong(
            path, line, "a subject's number, -1 or nothing when it is not known", repr(subject)
        )
    if unit and not 0 < number_of(unit) <= 1000:
        raise _wrong(path, line, "unit_metres above 0 and at most 1000", repr(unit))
    other = {name: _whole(text) for name, text in texts.items() if name not in _KNOWN}
    label = unicodedata.normalize("NFC", texts["label"])
    return _Row(
        line,
        _place(path, line, texts["file"]),
        label,
        int(subject),
        number_of(unit) if unit else None,
        other,
    )


def _place(path: Path, line: int, file: str) -> str:
    """A file's path below the folder, with slashes."""
    if "\\" in file and not (path.parent / file).is_file():
        file = file.replace("\\", "/")  # as Windows writes it
    place = PurePosixPath(file)
    outside = place.is_absolute() or PureWindowsPath(file).drive or ".." in place.parts
    if place.suffix.lower() != ".bvh" or outside or len(file) > _LONGEST_PATH:
        raise _wrong(path, line, "the path of a .bvh file below the folder", repr(file[:40]))
    return place.as_posix()


def _wrong(path: Path, line: int, expected: str, found: str) -> DataError:
    return DataError(f"{path}, line {line}: expected {expected}, found {found}; correct the line")


def _clip_name(row: _Row) -> str:
    return row.file[: -len(".bvh")]


def _is_whole(text: str) -> bool:
    return bool(_WHOLE.fullmatch(text))


def _whole(text: str) -> str:
    """``3`` for the ``3.0`` that programs write where a column has gaps."""
    whole = text.removesuffix(".0")
    return whole if _is_whole(whole) else text
