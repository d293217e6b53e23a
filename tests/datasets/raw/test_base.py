"""Files below a raw folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasets.raw.base import files_below


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    (raw / "one").mkdir(parents=True)
    elsewhere.mkdir()
    (raw / "one" / "a.txt").touch()
    (elsewhere / "b.txt").touch()
    (raw / "two").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(raw)
    assert sorted(path.relative_to(raw).as_posix() for path in files_below(raw)) == [
        "one/a.txt",
        "two/b.txt",
    ]


def test_files_come_in_the_order_of_their_names_whatever_the_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/1", "a/2", "b/1", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    walk = os.walk

    def backwards(folder: Path, followlinks: bool) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, names in walk(folder, followlinks=followlinks):
            folders.sort(reverse=True)
            yield place, folders, sorted(names, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    found = [path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path)]
    assert found == ["c", "a/1", "a/2", "b/1"]
