"""Every reader on hundreds of mutants of its files: no traceback, crash, hang or gigabyte;
counts are printed.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from tests.mutants import Outcomes, changed, inside, mutants, watch, write_row

MUTANTS = 300
CRASHING = "utd-mhad .mat"
"""What scipy's reader dies of costs a reading process and one file (`datasets.raw.prepare`),
and no more.
"""


def test_mutants_differ_from_the_file_and_come_again_from_the_same_seed() -> None:
    data = bytes(range(256)) * 4
    made = list(mutants(data, 20, seed=1))
    assert sum(one != data for one in made) > 15
    assert made == list(mutants(data, 20, seed=1))
    assert changed(b"", random.Random(0)) is not None


def test_a_packed_member_is_changed_inside(tmp_path: Path) -> None:
    import numpy as np

    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1000))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(inside(data, random.Random(0)))
    with np.load(tmp_path / "a.npz") as file:
        assert file.files == ["x"]


def test_a_row_takes_the_place_of_the_last_one_of_its_reader(tmp_path: Path) -> None:
    table = tmp_path / "new" / "table.md"
    for reader, kinds in (("b", "read named"), ("a", "crash"), ("b", "named named hang")):
        found = Outcomes(seconds=1.5)
        for number, kind in enumerate(kinds.split()):
            found.note(kind, number, "")
        write_row(table, reader, found)
    head, _, *rows = [line for line in table.read_text().splitlines() if line.startswith("|")]
    cells = [dict(zip(head.split(" | "), row.split(" | "), strict=True)) for row in rows]
    assert [(row["| reader"], row["mutants"], row["named"], row["hang"]) for row in cells] == [
        ("| a", "1", "0", "0"),
        ("| b", "3", "2", "1"),
    ]
    assert cells[0]["longest s"] == "1.50"


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="limits a process as Unix does")
@pytest.mark.parametrize(
    "name",
    [
        "ntu .skeleton",
        "ntu .npz",
        "pyskl .pkl",
        "pku-mmd",
        "nw-ucla",
        "ui-prmd",
        "bvh",
        "exchange .npz",
        "store",
        "archives",
        "checkpoints",
        "safetensors",
        "claims and targets",
        "utd-mhad .mat",
    ],
)
def test_no_mutant_harms_its_reader(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.mutated_readers import READERS  # loads torch

    folder = tmp_path / "raw files"
    folder.mkdir()
    found = watch(*READERS[name], folder, MUTANTS)
    if "MUTANTS_TABLE" in os.environ:
        write_row(Path(os.environ["MUTANTS_TABLE"]), name, found)
    with capsys.disabled():
        print(f"\n{name}: {sum(found.counts.values())} mutants: {found}")
    allowed = {"read", "named"} | ({"crash"} if name == CRASHING else set())
    assert found.counts.keys() <= allowed, found.worst
    assert found.counts["named"] + found.counts["read"] > MUTANTS * 0.8
