"""Files below a raw folder."""

from __future__ import annotations

from pathlib import Path

from datasets.raw.base import files_below


def test_linked_folders_are_looked_into_once(tmp_path: Path) -> None:
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    (raw / "one").mkdir(parents=True)
    elsewhere.mkdir()
    (raw / "one" / "a.txt").touch()
    (elsewhere / "b.txt").touch()
    (raw / "two").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(raw)
    assert sorted(path.relative_to(raw).as_posix() for path in files_below(raw)) == ["one/a.txt", "two/b.txt"]
