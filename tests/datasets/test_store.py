"""The store: opened without reading frames,
refused when it is not whole or not what was written.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.clips import (
    ClipSet,
    clip_hash,
    clip_origins,
    fingerprint,
    present_bodies,
    repeated_clips,
)
from datasets.errors import DataError
from datasets.files import CACHE_VARIABLE
from datasets.formats import store_check
from datasets.formats.store import (
    HEADER,
    INDEX,
    JOINTS,
    Header,
    is_store,
    open_prepared,
    open_store,
    seal_of,
)
from datasets.formats.store_writing import StorePart, write_store
from tests.datasets.made_up import clip_set

FORMAT_1 = Path(__file__).with_name("store_format_1")
"""A store that the last writer of format 1 made, and its raw files."""


def written(folder: Path, clips: ClipSet, parts: int = 2, dtype: str = "<f4") -> Header:
    """The clips as a store of several parts."""
    folder.mkdir()
    pieces = []
    for numbers in np.array_split(np.arange(len(clips)), parts):
        frames = np.concatenate([clips.clip(number) for number in numbers])
        pieces.append(
            StorePart(
                frames, clips.lengths[numbers], {k: v[numbers] for k, v in clips.columns.items()}
            )
        )
    return write_store(
        folder,
        pieces,
        clips.joints.shape,
        dtype,
        name=clips.name,
        title="Made up",
        plan="p",
        joint_names=clips.layout.joints,
        parents=clips.layout.parents,
        class_names=clips.class_names,
        fps=clips.fps,
        default_split=clips.default_split,
        splits={"xview": "view:2->1"},
        expected={},
        counts={},
        problems=(),
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was checked is remembered here, however young the files are."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(store_check, "RECENT", 0)


@pytest.fixture
def clips() -> ClipSet:
    return clip_set(
        names=np.array(["a", "bb", "ccc", "d", "e", "f"]), view=np.array([1, 2, 1, 2, 1, 2])
    )


@pytest.fixture
def folder(tmp_path: Path, clips: ClipSet) -> Path:
    written(tmp_path / "store", clips)
    return tmp_path / "store"


@pytest.fixture(params=[1, 2])
def either(request: pytest.FixtureRequest, tmp_path: Path, folder: Path) -> Path:
    """A store of either format."""
    if request.param == 2:
        return folder
    return Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store of format 1"))


@contextmanager
def nothing_is_hashed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_block_sums", "array_sum", "_computed"):
            patch.delattr(store_check, name)
        yield


# --- what is in it ---


def test_a_store_holds_the_clips_to_the_last_bit(folder: Path, clips: ClipSet) -> None:
    found = open_store(folder)
    assert np.array_equal(found.joints, clips.joints.astype(np.float32))
    assert np.array_equal(found.offsets, clips.offsets)
    assert found.columns.keys() == clips.columns.keys()
    for name, values in clips.columns.items():
        assert np.array_equal(found.columns[name], values)
    assert (found.layout, found.class_names, found.fps) == (
        clips.layout,
        clips.class_names,
        clips.fps,
    )
    assert found.splits == {"xview": "view:2->1"}
    assert found.stored is not None
    assert found.stored.fingerprint == fingerprint(clips)
    present = present_bodies(clips)
    assert np.array_equal(found.stored.present, present)
    assert np.array_equal(found.stored.origins, clip_origins(clips, present))
    assert found.stored.hashes.tolist() == [
        clip_hash(clips.clip(index)) for index in range(len(clips))
    ]


def test_what_is_remembered_of_half_precision_is_that_of_the_stored_frames(
    clips: ClipSet, tmp_path: Path
) -> None:
    written(tmp_path / "half", clips, dtype="<f2")
    found = open_store(tmp_path / "half")
    assert found.joints.dtype == np.float16
    assert found.stored is not None
    assert found.stored.fingerprint == fingerprint(found)
    assert found.stored.hashes.tolist() == [
        clip_hash(found.clip(index)) for index in range(len(found))
    ]


def test_the_number_of_parts_does_not_matter(folder: Path, clips: ClipSet, tmp_path: Path) -> None:
    written(tmp_path / "other", clips, parts=3)
    for name in (HEADER, JOINTS, INDEX):
        assert (tmp_path / "other" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_no_store_is_written_of_what_is_no_number(
    value: float, clips: ClipSet, tmp_path: Path
) -> None:
    clips.joints[3, 0, 2, 1] = value
    with pytest.raises(
        DataError, match="expected finite coordinates in metres, found NaN or infinity"
    ):
        written(tmp_path / "store", clips)


def test_repeated_clips_are_found_by_their_hashes(folder: Path) -> None:
    found = open_store(folder)
    assert found.stored is not None
    found.stored.hashes[2] = found.stored.hashes[0]
    assert [group.tolist() for group in repeated_clips(found)] == [[0, 2]]


def test_a_prepared_data_set_is_found_by_its_name(
    folder: Path, clips: ClipSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKED_SKELETON_DATA", str(tmp_path))
    assert len(open_prepared("store")) == len(clips)
    with pytest.raises(
        DataError,
        match=r"ntu60 is not prepared here .*python -m harness data prepare ntu60 --raw FOLDER",
    ):
        open_prepared("ntu60")


# --- each version of a file is hashed once ---


def test_a_store_is_hashed_when_it_is_opened_first_and_never_again(either: Path) -> None:
    told = list[tuple[int, int]]()
    open_store(either, advance=lambda done, total: told.append((done, total)))
    size = (either / JOINTS).stat().st_size
    assert told[-1] == (size, size)
    with nothing_is_hashed():
        assert isinstance(open_store(either).joints, np.memmap)


def test_a_store_is_hashed_again_when_asked_or_when_the_cache_is_gone(
    either: Path, tmp_path: Path
) -> None:
    open_store(either)
    with nothing_is_hashed(), pytest.raises(NameError):
        open_store(either, afresh=True)
    shutil.rmtree(tmp_path / "cache")
    with nothing_is_hashed(), pytest.raises(NameError):
        open_store(either)


def test_what_was_just_written_is_not_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_check, "RECENT", 3600)
    open_store(folder)
    with nothing_is_hashed(), pytest.raises(NameError):
        open_store(folder)


@pytest.mark.parametrize("text", ["", "{}", "[" * 9999, '{"store": 1}'])
def test_a_damaged_note_in_the_cache_costs_time_only(
    text: str, either: Path, tmp_path: Path
) -> None:
    open_store(either)
    (note,) = (tmp_path / "cache" / "stores").iterdir()
    note.write_text(text)
    open_store(either)
    with nothing_is_hashed():
        open_store(either)


def test_a_cache_that_cannot_be_written_costs_time_only(
    either: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert len(open_store(either)) == len(open_store(either))


def test_blocks_are_hashed_alike_when_written_and_when_read(
    clips: ClipSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_check, "_BLOCK_BYTES", 300)
    monkeypatch.setattr(store_check, "_PIECE_BYTES", 60)
    header = written(tmp_path / "store", clips)
    assert header.sums is not None
    assert len(header.sums.blocks) == -(-(tmp_path / "store" / JOINTS).stat().st_size // 300) > 2
    open_store(tmp_path / "store")
    flip(tmp_path / "store" / JOINTS, 2 * 300 + 40)
    first = (2 * 300 - 128) // clips.joints[0].nbytes
    at_fault = clips.describe(int(np.searchsorted(clips.offsets, first, side="right")) - 1)
    with pytest.raises(DataError) as caught:
        open_store(tmp_path / "store")
    assert (
        f"{JOINTS}: expected the frames that were written, found others in {at_fault} to clip"
        in str(caught.value)
    )


# --- what is not whole ---


@pytest.mark.parametrize("name", [HEADER, JOINTS, INDEX])
def test_a_store_without_one_of_its_files_is_refused(name: str, either: Path) -> None:
    (either / name).unlink()
    assert is_store(either)
    with pytest.raises(DataError, match=r"prepare (it|the store) again"):
        open_store(either)


@pytest.mark.parametrize("name", [JOINTS, INDEX])
def test_a_store_with_a_short_file_is_refused(name: str, either: Path) -> None:
    data = (either / name).read_bytes()
    (either / name).write_bytes(data[:-1])
    with pytest.raises(
        DataError, match=rf"{name}: expected ({len(data):,} bytes, found {len(data) - 1:,}|a whole)"
    ):
        open_store(either)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "device"])
@pytest.mark.parametrize("name", [HEADER, JOINTS, INDEX])
def test_what_is_no_file_is_named_and_never_waited_for(
    name: str, kind: str, either: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (either / name).unlink()
    if kind == "pipe":
        os.mkfifo(either / name)
    elif kind == "socket":
        monkeypatch.chdir(either)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(name)
    elif kind == "folder":
        (either / name).mkdir()
    else:
        (either / name).symlink_to("/dev/zero")
    with pytest.raises(
        DataError, match=rf"{name}: expected a file, found a {kind}; prepare the store again"
    ):
        open_store(either)


def test_a_folder_without_a_store_is_none(tmp_path: Path) -> None:
    assert not is_store(tmp_path)
    with pytest.raises(DataError, match="expected a prepared store"):
        open_store(tmp_path)


# --- what was changed ---


def flip(path: Path, place: int) -> None:
    """Change one byte of a file and put its time back."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_index(folder: Path, **arrays: Any) -> None:
    """Write an index with other arrays, and in the header what the index then is as a file."""
    with np.load(folder / INDEX) as archive:
        content = dict(archive) | arrays
    np.savez(
        folder / INDEX, **{name: values for name, values in content.items() if values is not None}
    )
    change_header(
        folder,
        sizes={JOINTS: (folder / JOINTS).stat().st_size, INDEX: (folder / INDEX).stat().st_size},
    )


def change_header(folder: Path, **fields: Any) -> None:
    header = json.loads((folder / HEADER).read_text()) | fields
    if "seal" in header and "seal" not in fields:
        header["seal"] = seal_of(header)
    (folder / HEADER).write_text(json.dumps(header))


def change_frames(folder: Path, change: Callable[[np.ndarray], np.ndarray | None]) -> None:
    joints = np.load(folder / JOINTS)
    changed = change(joints)
    np.save(folder / JOINTS, joints if changed is None else changed)


def both_times(folder: Path, change: Callable[[Path], None], match: str) -> None:
    """A store is refused after a change, whether it was opened before or not."""
    pristine = Path(shutil.copytree(folder, folder.with_name("pristine")))
    open_store(pristine)
    for place in (folder, pristine):
        change(place)
        for _ in range(2):
            with pytest.raises(DataError, match=match) as caught:
                open_store(place)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [128, 300, 700, -1])
def test_a_flipped_byte_of_the_frames_is_found(place: int, either: Path) -> None:
    match = (
        rf"{JOINTS}: expected the frames that were written, found others in clip \d .*; copy the"
        r" store again"
    )
    both_times(either, lambda folder: flip(folder / JOINTS, place), match)


def test_any_flipped_byte_of_the_index_is_found(either: Path) -> None:
    open_store(either)
    for place in range(0, (either / INDEX).stat().st_size, 97):
        flip(either / INDEX, place)
        with pytest.raises(DataError, match=INDEX):
            open_store(either)
        flip(either / INDEX, place)


@pytest.mark.parametrize("name", ["hashes", "present", "origins", "offsets"])
def test_arrays_of_another_length_are_named(name: str, either: Path) -> None:
    def shorten(folder: Path) -> None:
        with np.load(folder / INDEX) as archive:
            change_index(folder, **{name: archive[name][:-1]})

    both_times(
        either, shorten, rf"{INDEX}: ({'hashes' if name == 'offsets' else name}): expected \w+ \[\d"
    )


@pytest.mark.parametrize("name", ["label", "subject", "names"])
def test_columns_of_another_length_are_named(name: str, either: Path) -> None:
    def shorten(folder: Path) -> None:
        with np.load(folder / INDEX) as archive:
            change_index(folder, **{name: archive[name][:-1]})

    both_times(either, shorten, rf"{name}: expected ")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("hashes", "int64"), ("present", "uint8"), ("origins", "float64"), ("offsets", "float64")],
)
def test_arrays_of_another_type_are_named(name: str, dtype: str, either: Path) -> None:
    def retype(folder: Path) -> None:
        with np.load(folder / INDEX) as archive:
            change_index(folder, **{name: archive[name].astype(dtype)})

    both_times(either, retype, rf"{INDEX}: {name}: expected ")


@pytest.mark.parametrize("name", ["hashes", "present", "origins", "label", "subject"])
def test_arrays_of_other_values_are_named(name: str, either: Path) -> None:
    def roll(folder: Path) -> None:
        with np.load(folder / INDEX) as archive:
            values = archive[name].copy()
        values[0] = not values[0].any() if name == "present" else values[0] + 1
        change_index(folder, **{name: values})

    both_times(
        either,
        roll,
        rf"{INDEX}(: {name}: expected| and {HEADER}: expected .*subjects)|label: expected 0 to",
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda joints: np.roll(joints, 1, axis=0),
        lambda joints: joints[..., ::-1].copy(),
        lambda joints: joints.__setitem__((0, 0, 0, 0), joints[0, 0, 0, 0] + 1),
    ],
    ids=["rolled", "other axes", "one coordinate"],
)
def test_other_frames_are_refused(
    change: Callable[[np.ndarray], np.ndarray | None], either: Path
) -> None:
    match = rf"{JOINTS}: expected the frames that were written, found others"
    both_times(either, lambda folder: change_frames(folder, change), match)


@pytest.mark.parametrize(("value", "name"), [(np.nan, "nan"), (np.inf, "inf")])
def test_what_is_no_number_is_named_with_its_place(value: float, name: str, either: Path) -> None:
    def spoil(joints: np.ndarray) -> None:
        joints[5, 0, 1, 2] = value

    match = (
        rf"{JOINTS}: expected the frames that were written, found {name} at clip \d .*frame \d of"
        r" the clip, body 0"
    )
    both_times(either, lambda folder: change_frames(folder, spoil), match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda joints: joints[:, :, :-1], f"{JOINTS}: expected [0-9,]* bytes"),
        (
            lambda joints: joints.astype(np.int32),
            f"{JOINTS}: joints: expected float32 or float16, found int32",
        ),
        (
            lambda joints: joints.reshape(-1, *joints.shape[2:]),
            r"joints: expected shape \[F, M, V, 3\]",
        ),
        (
            lambda joints: joints.transpose(0, 2, 1, 3).copy(),
            "present: expected bool|joint_names: expected",
        ),
    ],
)
def test_frames_of_another_form_are_refused(
    change: Callable[[np.ndarray], np.ndarray], match: str, either: Path
) -> None:
    change_frames(either, change)
    with pytest.raises(DataError, match=match):
        open_store(either)


def test_frames_that_are_no_array_are_refused(either: Path) -> None:
    for data in (b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff"):
        size = (either / JOINTS).stat().st_size
        (either / JOINTS).write_bytes(data.ljust(size, b"\0"))
        with pytest.raises(
            DataError, match=rf"{JOINTS}: expected an array that can be mapped, found"
        ):
            open_store(either)


@pytest.mark.parametrize(
    "fields",
    [
        {"fps": 25.0},
        {"splits": {"xview": "view:1->2"}},
        {"class_names": ["kick", "bow"]},
        {"title": "Other"},
    ],
)
def test_another_header_is_refused_although_it_could_be_read(
    fields: dict[str, Any], folder: Path
) -> None:
    text = json.loads((folder / HEADER).read_text())
    both_times(
        folder,
        lambda place: change_header(place, **fields, seal=text["seal"]),
        f"{HEADER}: expected the text that was written, found another; copy the store again",
    )


def test_a_header_of_format_1_is_held_against_what_was_there_before(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store"))
    open_store(folder)
    change_header(folder, fps=25.0)
    with pytest.raises(
        DataError, match=rf"{HEADER}: expected the text that it had on 20\S+, found another"
    ):
        open_store(folder)


def test_classes_and_fingerprint_of_format_1_are_held_against_the_frames(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store"))
    for fields in ({"class_names": ["kick", "bow"]}, {"fingerprint": "0" * 64}):
        shutil.copy(FORMAT_1 / "store" / HEADER, folder)
        change_header(folder, **fields)
        with pytest.raises(
            DataError, match=rf"{INDEX} and {HEADER}: expected offsets, labels, .* of fingerprint"
        ):
            open_store(folder)


def test_a_header_laid_out_otherwise_is_the_same(folder: Path) -> None:
    header = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps(dict(reversed(header.items()))))
    open_store(folder)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            '{"version": 99}',
            "expected format 1 to 2, found 99; open it with the version of the suite that made it",
        ),
        ("[]", "expected format 1 to 2, found None"),
        ("not JSON", "expected a store's header, found damage"),
        ("[" * 99_999, "expected a store's header, found damage"),
        ('{"version": 2}', "name: Field required"),
        ("\udcff", "expected a store's header, found damage"),
    ],
)
def test_a_header_of_another_kind_is_refused(text: str, match: str, folder: Path) -> None:
    (folder / HEADER).write_text(text, errors="surrogateescape")
    with pytest.raises(DataError, match=match):
        open_store(folder)


@pytest.mark.parametrize("change", [{"fps": "fast"}, {"more": 1}, {"parents": [5, 5]}])
def test_a_header_with_odd_fields_is_refused(change: dict[str, object], either: Path) -> None:
    change_header(either, **change)
    with pytest.raises(DataError, match=r"fps|more|joint_names"):
        open_store(either)


# --- format 1 ---


def test_a_store_of_format_1_opens(tmp_path: Path) -> None:
    found = open_store(FORMAT_1 / "store")
    assert found.stored is not None
    assert found.stored.fingerprint == fingerprint(found)
    assert (
        found.stored.fingerprint
        == "947cca137a007a9e11d688aeabd5376258e90c8df8c3ebd7f9183c69fc9f68ac"
    )
    assert found.columns["names"].tolist() == ["bow_1", "bow_2", "kick_1", "kick_2"]
    assert found.columns["session"].tolist() == ["pm", "am", "pm", "am"]
    assert found.lengths.tolist() == [3, 4, 2, 5]


def test_a_column_of_format_1_is_held_against_what_was_there_before(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FORMAT_1 / "store", tmp_path / "store"))
    open_store(folder)
    with np.load(folder / INDEX) as archive:
        session = archive["session"]
    change_index(folder, session=session[::-1])
    (folder / HEADER).write_bytes((FORMAT_1 / "store" / HEADER).read_bytes())
    with pytest.raises(
        DataError, match=rf"{INDEX}: session: expected the values that were written, found others"
    ):
        open_store(folder)
