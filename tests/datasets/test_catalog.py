"""The one door to data: names, paths, and what it says when there is nothing behind them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datasets import catalog
from datasets.catalog import MADE, about, check_known, open_clips
from datasets.errors import DataError
from datasets.formats.npz import write_npz
from datasets.raw import FILES, SOURCES
from datasets.synthetic import generation
from datasets.synthetic.motion import ACTIONS, EVERY
from datasets.synthetic.ntu60_sized import TEST, TRAIN
from tests.datasets.made_up import clip_set


def packages(monkeypatch: pytest.MonkeyPatch, **points: Callable[[], Any]) -> None:
    """Pretend that installed packages offer these."""
    offered = [
        SimpleNamespace(name=name.replace("_", "-"), value=f"outside.{name}:load", load=load)
        for name, load in points.items()
    ]
    monkeypatch.setattr(catalog, "entry_points", lambda group: offered)


def broken() -> None:
    raise ImportError("libgreat.so is missing")


def test_a_file_is_opened_by_its_path(tmp_path: Path) -> None:
    write_npz(tmp_path / "clips.npz", clip_set())
    assert len(open_clips(str(tmp_path / "clips.npz"))) == len(clip_set())


def test_a_data_set_of_an_installed_package_is_opened_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips = clip_set()
    packages(monkeypatch, from_outside=lambda: lambda: clips)
    assert open_clips("from-outside") is clips
    assert about()["from-outside"] == "of the package outside"


def test_made_data_sets_are_told_of_in_whole_sentences_that_are_true() -> None:
    bodies = inspect.signature(generation.load).parameters["subjects"].default
    clips = bodies * len(ACTIONS) * len(generation._VIEW_YAWS)
    assert about()["synthetic"].startswith(
        f"{bodies} made-up bodies, {len(ACTIONS)} actions, {len(generation._VIEW_YAWS)} cameras:"
        f" {clips:,} clips;"
    )
    twins = about()["synthetic-twins"]
    assert f"{len(EVERY)} classes" in twins
    assert ("six" in twins) == (len(EVERY) - len(ACTIONS) == 6)
    assert f"({TRAIN + TEST:,}, of them {TRAIN:,} to train on)" in about()["ntu60-sized"]
    assert [name for name in MADE if about()[name].endswith((";", ":", ",", "."))] == []


def test_a_source_of_a_file_is_not_said_to_take_a_folder() -> None:
    for name, place in SOURCES.items():
        module, _, opener = place.partition(":")
        source = getattr(import_module(f"datasets.raw.{module}"), opener)
        assert getattr(source, "is_file", False) == (name in FILES)


def test_a_package_cannot_take_the_name_of_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    packages(monkeypatch, synthetic=broken)
    assert "package" not in about()["synthetic"]


def test_a_package_that_fails_is_one_line_and_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packages(monkeypatch, great=broken)
    with pytest.raises(
        DataError, match=r"^data set 'great' \(outside\.great:load\) did not load: libgreat"
    ):
        open_clips("great")
    assert "great" in about()


def test_a_package_that_offers_no_function_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    packages(monkeypatch, great=lambda: 3)
    with pytest.raises(DataError, match=r"expected a function at outside\.great:load, found int"):
        open_clips("great")


def test_an_unknown_name_lists_the_nearest_and_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "datasets.catalog.MADE", MADE | {f"made-{number}": "" for number in range(20)}
    )
    with pytest.raises(DataError) as error:
        open_clips("synthetics")
    assert str(error.value).startswith(
        "unknown data set 'synthetics'; did you mean 'synthetic'? known: "
    )
    assert all(name in str(error.value) for name in (*MADE, *SOURCES, "made-19"))


def test_what_is_not_prepared_says_how_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MASKED_SKELETON_DATA", str(tmp_path))
    assert about()["ntu60"] == "not prepared: harness data prepare ntu60 --raw FOLDER"
    with pytest.raises(DataError, match="ntu60 is not prepared here"):
        open_clips("ntu60")
    assert about()["npz"] == "not prepared: harness data prepare npz --raw FILE"
    with pytest.raises(DataError, match=r"data prepare npz --raw FILE$"):
        open_clips("npz")


def test_names_are_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MASKED_SKELETON_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    packages(monkeypatch, great=broken)
    for name in ("synthetic", "great", "a/b.npz", "raw", "synthetic+great"):
        check_known(name)
    with pytest.raises(DataError, match="unknown data set 'ntu61'; did you mean 'ntu60'"):
        check_known("synthetic+ntu61")
    with pytest.raises(DataError, match="ntu60 is not prepared here"):
        check_known("synthetic+ntu60")
