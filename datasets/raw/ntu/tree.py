"""NTU RGB+D 60 and 120 from the ``.skeleton`` files, and which route a raw path takes."""

from __future__ import annotations

from abc import ABC
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from datasets.errors import DataError
from datasets.raw.base import Found, RawClip, Reading, Source, Unit, files_below
from datasets.raw.ntu.chain import standard_chain
from datasets.raw.ntu.ctrgcn import Ntu60Npz, Ntu120Npz
from datasets.raw.ntu.facts import (
    NAME_FORM,
    NOBODY,
    ST_GCN,
    NtuSource,
    OfNtu60,
    OfNtu120,
    name_columns,
)
from datasets.raw.ntu.pyskl import Ntu60Pyskl, Ntu120Pyskl
from datasets.raw.ntu.skeleton_text import read_skeleton
from datasets.raw.number_text import text_of
from datasets.wording import listed

_MOST_LIST_BYTES = 2**20  # the longest official list has 11 kB
_MISSING = "missing"
"""What the name of a list of missing skeletons holds:
NTU_RGBD_samples_with_missing_skeletons.txt and forks of it.
"""


def open_ntu60(raw: Path) -> Source:
    """The route for a folder of ``.skeleton`` files, a CTR-GCN-style ``.npz`` or a pyskl ``.pkl``.

    Raises `DataError` when there is none of these.
    """
    return _by_suffix(raw, Ntu60, Ntu60Npz, Ntu60Pyskl)


def open_ntu120(raw: Path) -> Source:
    """As `open_ntu60`, for NTU RGB+D 120."""
    return _by_suffix(raw, Ntu120, Ntu120Npz, Ntu120Pyskl)


def _by_suffix(raw: Path, tree: type[Source], npz: type[Source], pickled: type[Source]) -> Source:
    if raw.suffix.lower() == ".npy" or raw.name.lower().endswith("_label.pkl"):
        raise DataError(f"{raw}: found {ST_GCN}")
    return {".npz": npz, ".pkl": pickled}.get(raw.suffix.lower(), tree)(raw)


class _NtuTree(NtuSource, ABC):
    """A folder with ``.skeleton`` files at any depth, taken through the standard chain
    (`datasets.raw.ntu.chain`).

    Clips have the columns ``label`` (action - 1), ``subject`` (performer), ``view`` (camera),
    ``setup``, ``replication`` and ``names`` (file stem). Clips on the authors' lists of missing
    skeletons are left out when such a list, a .txt with "missing" in its name, lies in the folder,
    at any depth, or beside it.

    Deviation: where a clip has one body, the usual preparation of NTU RGB+D 120 (not of 60) copies
    it into the second place. That place stays empty here, as in NTU RGB+D 60: means over bodies are
    the same, half of the work is not done.
    """

    version = 2
    expects = (
        f"a folder with files {NAME_FORM}.skeleton at any depth, or the path of a .npz (CTR-GCN) or"
        " .pkl (pyskl)"
    )

    def find(self) -> Found:
        """The files of this edition that are not on a missing list, by stem.
        Raises `DataError` when there is none.
        """
        paths = sorted(files_below(self.raw, ".skeleton"), key=lambda path: (path.stem, path))
        lists = self._missing_lists()
        counts, missing = {"found": len(paths)}, set[str]().union(*lists.values())
        chosen, odd, foreign, twice, listed_missing = dict[str, Path](), [], [], [], []
        for path in paths:
            columns = name_columns(path.stem)
            if columns is None:
                odd.append(path.name)
            elif not self.belongs(columns):
                foreign.append(path.name)
            elif path.stem in missing:
                listed_missing.append(path.name)
            elif chosen.setdefault(path.stem, path) != path:
                twice.append(str(path.relative_to(self.raw)))
        names = listed((path.name for path, stems in lists.items() if stems), 2)
        counts[f"on the missing list ({names if missing else 'none is there'})"] = len(
            listed_missing
        )
        counts |= _set_aside(
            "missing lists that name no clip",
            (path.name for path, stems in lists.items() if not stems),
        )
        counts |= _set_aside(f"not named {NAME_FORM}", odd)
        counts |= _set_aside("of a setup or action that this edition has not", foreign)
        counts |= _set_aside("found again in another folder", twice)
        if not chosen:
            raise DataError(f"{self.raw}: expected {self.expects}, found {self._instead(counts)}")
        return Found([Unit(stem, path) for stem, path in chosen.items()], counts)

    def read(self, unit: Unit) -> Reading:
        """The clip of a file; one without a body is a problem. Raises `BrokenFile`."""
        text = read_skeleton(unit.path)
        joints, counts = standard_chain(text)
        if not len(joints):
            reason = (
                f"no body left of {len(set(text.ids.tolist()))}"
                if len(text.ids)
                else "no body in any frame"
            )
            return Reading(
                counts=counts + Counter({NOBODY: 1}), problems=[f"{unit.path}: {reason}"]
            )
        columns = name_columns(unit.name) or {}
        return Reading([RawClip(joints, {**columns, "names": unit.name})], counts)

    def _missing_lists(self) -> dict[Path, set[str]]:
        """The missing lists and the stems on each; headings and anything else is passed over."""
        home = self.raw.resolve()
        texts = [
            *files_below(home, ".txt"),
            *(path for path in home.parent.glob("*") if path.suffix.lower() == ".txt"),
        ]
        lists = [path for path in texts if _MISSING in path.name.lower() and path.is_file()]
        small = sorted(path for path in lists if path.stat().st_size <= _MOST_LIST_BYTES)
        words = {path: text_of(path.read_bytes()).split() for path in small}
        stems = {path: [word.removesuffix(".skeleton") for word in words[path]] for path in small}
        return {path: {stem for stem in stems[path] if name_columns(stem)} for path in small}

    def _instead(self, counts: dict[str, int]) -> str:
        if counts["found"]:
            return f"{counts['found']} .skeleton files, none to use ({'; '.join(counts)})"
        if any(self.raw.rglob("*_label.pkl")):
            return ST_GCN
        prepared = [
            path.name
            for suffix in ("npz", "pkl", "zip")
            for path in sorted(self.raw.glob(f"*.{suffix}"))
        ]
        return (
            "no .skeleton"
            f" file{f', but {listed(prepared, 4)}: unpack or name it' if prepared else ''}"
        )


class Ntu60(_NtuTree, OfNtu60):
    """NTU RGB+D 60 from ``.skeleton`` files;
    files of NTU RGB+D 120 that lie among them are left out.
    """


class Ntu120(_NtuTree, OfNtu120):
    """NTU RGB+D 120 from ``.skeleton`` files."""


def _set_aside(reason: str, names: Iterable[str]) -> dict[str, int]:
    """The count of files that are left out, with the first names in its wording;
    nothing when there are none.
    """
    names = list(names)
    return {f"{reason}: {listed(names, 3)}": len(names)} if names else {}
