"""The exchange format: what is read, what is mapped, what is refused and how, what is written."""

from __future__ import annotations

import os
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import clips
from datasets.clips import fingerprint
from datasets.errors import DataError
from datasets.formats import archive
from datasets.formats.npz import REQUIRED, not_kept, read_npz, write_npz
from datasets.raw.npz import ExchangeFile
from tests.datasets.made_up import LENGTHS, clip_set, exchange_arrays, exchange_file, frames


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MASKED_SKELETON_CACHE", str(folder))
    return folder


def refusal(path: Path) -> str:
    """The one-line message with which a file is refused,
    without the path that it must start with.
    """
    with pytest.raises(DataError) as caught:
        read_npz(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


# --- reading what is right ---


def test_clips_come_back_as_stored(tmp_path: Path) -> None:
    stored = exchange_arrays()
    read = read_npz(exchange_file(tmp_path, view=[1, 2, 1, 2, 1, 2]))
    assert (read.name, len(read), read.fps, read.default_split) == ("made_up", 6, 30.0, "xsub")
    assert read.class_names == ("wave", "bow")
    assert read.joints.dtype == np.float32
    np.testing.assert_array_equal(read.clip(2), stored["joints"][5:9])
    np.testing.assert_array_equal(read.lengths, LENGTHS)
    assert list(read.columns) == ["label", "subject", "names", "view"]


def test_float16_is_kept_and_float64_becomes_float32(tmp_path: Path) -> None:
    for stored, expected in (("float16", np.float16), ("float64", np.float32), (">f4", np.float32)):
        joints = frames(sum(LENGTHS)).astype(stored)
        read = read_npz(exchange_file(tmp_path, joints=joints)).joints
        assert read.dtype == expected
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, joints.astype(expected))


def test_integers_of_any_width_become_int64(tmp_path: Path) -> None:
    arrays = exchange_arrays()
    narrow = {name: arrays[name].astype(np.int16) for name in ("label", "subject", "offsets")}
    read = read_npz(exchange_file(tmp_path, **narrow))
    assert {read.offsets.dtype, read.columns["label"].dtype, read.columns["subject"].dtype} == {
        np.dtype("int64")
    }


def test_default_split_is_read(tmp_path: Path) -> None:
    assert read_npz(exchange_file(tmp_path, default_split="view:1->2")).default_split == "view:1->2"


@pytest.mark.parametrize("shape", [(6, 3), (6,), (5, 3)])
def test_an_origin_is_allowed_and_not_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = exchange_file(tmp_path, origin=np.ones(shape))
    read = read_npz(path)
    assert "origin" not in read.columns
    assert not_kept(path) == []
    np.testing.assert_array_equal(read.joints, exchange_arrays()["joints"])


def test_name_tables_and_scalars_are_left_out_but_columns_of_names_kept(tmp_path: Path) -> None:
    extra: dict[str, Any] = {"stream_names": ["a", "b"], "file_names": list("abcdef"), "version": 3}
    columns = read_npz(exchange_file(tmp_path, **extra)).columns
    assert list(columns) == ["label", "subject", "names", "file_names"]


def test_byte_strings_become_text(tmp_path: Path) -> None:
    read = read_npz(exchange_file(tmp_path, class_names=[b"wave", b"bow"], place=[b"hall"] * 6))
    assert read.class_names == ("wave", "bow")
    assert read.columns["place"][0] == "hall"


# --- joints that do not fit the memory ---


def test_uncompressed_joints_are_mapped_in_place(tmp_path: Path, cache: Path) -> None:
    read = read_npz(exchange_file(tmp_path), memory_limit=0)
    assert isinstance(read.joints, np.memmap)
    assert read.joints.filename == tmp_path / "made_up.npz"
    np.testing.assert_array_equal(read.joints, exchange_arrays()["joints"])
    assert not cache.exists()


def test_column_major_joints_are_mapped_in_place(tmp_path: Path) -> None:
    path = exchange_file(tmp_path, joints=np.asfortranarray(frames(sum(LENGTHS))))
    np.testing.assert_array_equal(read_npz(path, memory_limit=0).joints, frames(sum(LENGTHS)))
    assert read_npz(path).joints.flags.c_contiguous


def test_compressed_joints_are_mapped_from_one_copy_in_the_cache(
    tmp_path: Path, cache: Path
) -> None:
    path = tmp_path / "packed.npz"
    np.savez_compressed(path, **exchange_arrays())  # type: ignore[arg-type]
    copies = set()
    for _ in range(2):
        read = read_npz(path, memory_limit=0)
        assert isinstance(read.joints, np.memmap)
        np.testing.assert_array_equal(read.joints, exchange_arrays()["joints"])
        copies |= {(copy.name, copy.stat().st_ino) for copy in cache.iterdir()}
    assert len(copies) == 1


def test_a_changed_file_is_copied_anew(tmp_path: Path) -> None:
    path = tmp_path / "packed.npz"
    for seed in (0, 1):
        np.savez_compressed(path, **exchange_arrays(joints=frames(15, seed=seed)))  # type: ignore[arg-type]
        os.utime(path, (seed, seed))
        np.testing.assert_array_equal(read_npz(path, memory_limit=0).joints, frames(15, seed=seed))


def test_mapped_float64_becomes_float32(tmp_path: Path) -> None:
    joints = frames(sum(LENGTHS)).astype(np.float64)
    read = read_npz(exchange_file(tmp_path, joints=joints), memory_limit=0)
    assert isinstance(read.joints, np.memmap)
    assert read.joints.dtype == np.float32
    np.testing.assert_array_equal(read.joints, joints)


def test_mapped_joints_are_never_whole_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_COPY_BYTES", 2**16)
    monkeypatch.setattr(clips, "BLOCK_BYTES", 2**16)
    joints = np.ones((40_000, 1, 5, 3), dtype=np.float32)
    path = tmp_path / "packed.npz"
    arrays = exchange_arrays(joints=joints, offsets=np.arange(7) * 40_000 // 6)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        fingerprint(read_npz(path, memory_limit=2**16))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < joints.nbytes / 3


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MASKED_SKELETON_CACHE", str(tmp_path / "file" / "cache"))
    path = tmp_path / "packed.npz"
    np.savez_compressed(path, **exchange_arrays())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="set MASKED_SKELETON_CACHE to a folder on a larger disk"):
        read_npz(path, memory_limit=0)


# --- files that are refused ---


def test_missing_file_suggests_a_near_name(tmp_path: Path) -> None:
    exchange_file(tmp_path)
    assert "no such file; did you mean 'made_up.npz'?" in refusal(tmp_path / "madeup.npz")


def test_missing_file_suggests_data_alone(tmp_path: Path) -> None:
    exchange_file(tmp_path)
    (tmp_path / "clips.py").touch()
    assert "did you mean" not in refusal(tmp_path / "clips.npz")


def test_missing_file_lists_what_is_there(tmp_path: Path) -> None:
    exchange_file(tmp_path)
    assert "has these .npz files: made_up.npz" in refusal(tmp_path / "walking")


def test_missing_folder_is_named(tmp_path: Path) -> None:
    assert f"found no folder '{tmp_path / 'nowhere'}'" in refusal(tmp_path / "nowhere" / "x.npz")


def test_a_folder_is_not_a_file(tmp_path: Path) -> None:
    exchange_file(tmp_path)
    assert "found a folder; name one of its files: made_up.npz" in refusal(tmp_path)


def test_other_files_are_not_npz(tmp_path: Path) -> None:
    path = tmp_path / "notes.npz"
    path.write_text("hello")
    assert "found a file that starts with b'hello'" in refusal(path)


def test_empty_file_is_not_npz(tmp_path: Path) -> None:
    path = tmp_path / "empty.npz"
    path.touch()
    assert "found an empty file; download it again" in refusal(path)


def test_cut_short_file_is_told(tmp_path: Path) -> None:
    path = exchange_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-400])
    assert "cut short" in refusal(path)


def test_damaged_bytes_are_told_with_their_array(tmp_path: Path) -> None:
    path = exchange_file(tmp_path)
    data = path.read_bytes()
    values = exchange_arrays()["joints"].tobytes()
    path.write_bytes(data.replace(values, values[:-1] + b"\x00"))
    assert "joints: expected a readable array, found damage (Bad CRC-32" in refusal(path)


def test_an_array_with_too_few_bytes_is_told(tmp_path: Path) -> None:
    path = exchange_file(tmp_path)
    with zipfile.ZipFile(path) as whole:
        contents = {name: whole.read(name) for name in whole.namelist()}
    with zipfile.ZipFile(path, "w") as short:
        for name, content in contents.items():
            short.writestr(name, content[:-8] if name == "label.npy" else content)
    assert "label: expected 48 bytes for shape [6], found 40" in refusal(path)


def test_an_array_without_a_header_is_told(tmp_path: Path) -> None:
    path = exchange_file(tmp_path, label=None)
    with zipfile.ZipFile(path, "a") as spoilt:
        spoilt.writestr("label.npy", b"not an array")
    assert "label: expected a readable array, found damage" in refusal(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    for name in ("class_names", "extra"):
        objects = np.array([Trap(), Trap()], dtype=object)
        assert f"{name}: expected numbers or strings, found pickled" in refusal(
            exchange_file(tmp_path, **{name: objects})
        )
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_array_is_named(tmp_path: Path, name: str) -> None:
    said = refusal(exchange_file(tmp_path, **{name: None}))
    assert said.startswith(f"{name}: expected an array of this name")
    assert said.endswith("the format is described in datasets/README.md, 'Your own data'")


def test_missing_array_suggests_a_near_name(tmp_path: Path) -> None:
    path = exchange_file(tmp_path, label=None, labels=[0, 1, 0, 1, 0, 1])
    assert "did you mean 'labels'?" in refusal(path)


CHANGED: list[tuple[dict[str, Any], str]] = [
    ({"joints": frames(15)[:, 0]}, "joints: expected shape [F, M, V, 3], found [15, 5, 3]"),
    ({"joints": frames(15)[..., :2]}, "joints: expected shape [F, M, V, 3], found [15, 1, 5, 2]"),
    ({"joints": np.ones((15, 1, 5, 3), int)}, "joints: expected float32 or float16, found int64"),
    (
        {"joints": np.ones((15, 0, 5, 3), np.float32)},
        "joints: expected at least one frame, body and joint",
    ),
    (
        {"joints": np.zeros((15, 1, 5, 3), np.float32)},
        "joints: expected a body in every clip, found clip 0",
    ),
    ({"offsets": [1, 3, 5, 9, 10, 13, 15]}, "offsets: expected 0 at the start, found 1"),
    ({"offsets": [0, 3, 5, 9, 10, 13, 14]}, "offsets: expected 15 at the end, found 14"),
    (
        {"offsets": [0, 3, 5, 4, 10, 13, 15]},
        "offsets: expected offsets that increase, found clip 2 (take_2)",
    ),
    ({"offsets": [0, 3, -5, 9, 10, 13, 15]}, "offsets: expected 0 or more, found -5 at index 2"),
    (
        {"offsets": [0, 3, 3, 9, 10, 13, 15]},
        "offsets: expected at least one frame in every clip, found an",
    ),
    (
        {"offsets": [0.0, 3, 5, 9, 10, 13, 15]},
        "offsets: expected one-dimensional integers, found float64",
    ),
    ({"offsets": [0]}, "offsets: expected shape [N + 1] with N at least 1, found [1]"),
    ({"label": [0, 1, 0, 1, 0]}, "label: expected integers of shape [6], found shape [5]"),
    ({"label": [0, 1, 0, 2, 0, 1]}, "label: expected 0 to 1, found 2 at clip 3 (take_3)"),
    ({"label": [0, 1, 0, -1, 0, 1]}, "label: expected 0 to 1, found -1 at clip 3 (take_3)"),
    ({"label": [0.0, 1, 0, 1, 0, 1]}, "label: expected integers of shape [6], found float64"),
    ({"subject": [1, 1]}, "subject: expected integers of shape [6], found shape [2]"),
    (
        {"subject": [1, 1, -2, 2, 3, 3]},
        "subject: expected -1 (not known) or more, found -2 at clip 2",
    ),
    (
        {"class_names": [1.5, 2]},
        "class_names: expected a one-dimensional array of strings, found float64",
    ),
    ({"class_names": np.array([], "U4")}, "class_names: expected at least one name"),
    ({"parents": [-1, 0, 1]}, "parents: expected integers of shape [5], found shape [3]"),
    ({"parents": [-1, 0, 1, 4, 3]}, "parents: joint 3 is its own ancestor"),
    ({"parents": [-1, 0, 1, -1, 1]}, "parents: expected exactly one root (-1), found 2"),
    ({"joint_names": ["a", "b"]}, "joint_names: expected shape [5], one per joint, found [2]"),
    ({"fps": [30.0, 30.0]}, "fps: expected one number, found float64 of shape [2]"),
    ({"fps": 0.0}, "fps: expected frames per second above 0, found 0.0"),
    ({"default_split": 3}, "default_split: expected one string, found int64"),
    ({"view": [1, 2, 3]}, "view: expected shape [6], one value per clip, found [3]"),
    ({"when": np.zeros(6, "M8[s]")}, "when: expected numbers or strings, found datetime64[s]"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGED, ids=[message for _, message in CHANGED])
def test_a_spoilt_array_is_named_with_what_was_expected_and_found(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    said = refusal(exchange_file(tmp_path, **changes))
    assert said.startswith(message)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("memory_limit", [0, 2**20])
def test_a_coordinate_that_is_not_finite_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, memory_limit: int
) -> None:
    monkeypatch.setattr(clips, "BLOCK_BYTES", 1)  # a frame at a time
    joints = frames(15)
    joints[7, 0, 3, 1] = value
    with pytest.raises(DataError) as caught:
        read_npz(exchange_file(tmp_path, joints=joints), memory_limit=memory_limit)
    assert (
        f"found {value} at clip 2 (take_2), frame 2 of the clip, body 0, joint 'left_hand'"
        in str(caught.value)
    )


def test_a_float64_too_large_for_float32_is_not_finite(tmp_path: Path) -> None:
    joints = frames(15).astype(np.float64)
    joints[0, 0, 0, 0] = 1e300
    assert "found inf at clip 0 (take_0), frame 0" in refusal(
        exchange_file(tmp_path, joints=joints)
    )


def test_one_clip_without_a_body_is_found(tmp_path: Path) -> None:
    joints = frames(15)
    joints[9:10] = 0
    assert "found clip 3 (take_3) with only zeros; leave out 1 such clips" in refusal(
        exchange_file(tmp_path, joints=joints)
    )


def test_a_body_may_be_absent_from_some_frames(tmp_path: Path) -> None:
    joints = frames(15, bodies=2)
    joints[:, 1] = 0
    joints[0] = 0
    assert len(read_npz(exchange_file(tmp_path, joints=joints))) == 6


def test_clips_without_names_are_called_by_their_index(tmp_path: Path) -> None:
    said = refusal(exchange_file(tmp_path, names=None, label=[0, 1, 0, 2, 0, 1]))
    assert "found 2 at clip 3;" in said


# --- writing ---


def test_written_clips_read_back(tmp_path: Path) -> None:
    whole = replace(clip_set(place=list("abcabc")), default_split="place:a->b")
    write_npz(tmp_path / "out.npz", whole)
    read = read_npz(tmp_path / "out.npz")
    assert fingerprint(read) == fingerprint(whole)
    assert (read.default_split, read.layout, read.fps) == (
        whole.default_split,
        whole.layout,
        whole.fps,
    )
    for name, values in whole.columns.items():
        np.testing.assert_array_equal(read.columns[name], values)


def test_written_float16_and_mapped_joints_read_back(tmp_path: Path) -> None:
    half = replace(clip_set(), joints=frames(15).astype(np.float16))
    write_npz(tmp_path / "half.npz", half)
    mapped = read_npz(tmp_path / "half.npz", memory_limit=0)
    write_npz(tmp_path / "half.npz", mapped)
    assert read_npz(tmp_path / "half.npz").joints.dtype == np.float16
    assert fingerprint(read_npz(tmp_path / "half.npz")) == fingerprint(half)


def test_a_column_may_be_called_file(tmp_path: Path) -> None:
    write_npz(tmp_path / "out.npz", clip_set(file=list("abcdef")))
    assert "file" in read_npz(tmp_path / "out.npz").columns


def test_clips_that_are_wrong_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"made_up \(to be written to .*out.npz\): label"):
        write_npz(tmp_path / "out.npz", clip_set(label=[7] * 6))
    assert list(tmp_path.iterdir()) == []


def test_a_column_named_like_an_array_of_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fps: expected another name for a column"):
        write_npz(tmp_path / "out.npz", clip_set(fps=np.arange(6)))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/out\.npz: file: expected a place to write"):
        write_npz(tmp_path / "nowhere" / "out.npz", clip_set())


def test_a_pipe_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clips.npz")
    with pytest.raises(
        DataError, match=r"clips\.npz: expected a file, found a pipe; name an \.npz file"
    ):
        read_npz(tmp_path / "clips.npz")


# --- what people bring ---


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    path = exchange_file(tmp_path, class_names=np.array(["wave", "wave"]))
    assert (
        refusal(path)
        == "class_names: expected a name of its own for every class, found 'wave' twice; rename one"
        " of them"
    )


def test_labels_may_be_names_and_names_may_be_numbers(tmp_path: Path) -> None:
    named = read_npz(
        exchange_file(tmp_path, label=np.array(["bow", "wave", "bow", "bow", "wave", "bow"]))
    )
    assert named.columns["label"].tolist() == [1, 0, 1, 1, 0, 1]
    numbered = read_npz(exchange_file(tmp_path, class_names=np.array([7, 9])))
    assert numbered.class_names == ("7", "9")
    path = exchange_file(tmp_path, label=np.array(["bow", "wave", "bow", "bow", "wave", "bend"]))
    assert refusal(path).startswith(
        "label: expected names that stand in class_names, found 'bend'; add it to class_names"
    )


def test_names_in_another_encoding_stay_different_names(tmp_path: Path) -> None:
    path = exchange_file(tmp_path, class_names=np.array([b"\x93\xaa", b"\x8e\xe8"]))
    assert read_npz(path).class_names == ("\\x93\\xaa", "\\x8e\\xe8")


def test_ctr_gcn_s_form_is_named_with_the_command(tmp_path: Path) -> None:
    path = tmp_path / "NTU120_CSub.npz"
    np.savez(path, x_train=np.zeros((1, 2, 150), np.float32), y_train=np.eye(120)[:1])
    assert (
        refusal(path)
        == "expected the exchange format, found NTU RGB+D in CTR-GCN's form; next: python -m"
        f" harness data prepare ntu120 --raw {path}"
    )


def test_what_is_not_kept_is_named(tmp_path: Path) -> None:
    path = exchange_file(
        tmp_path, licence=np.array("mine"), table=np.zeros((2, 2)), view=[1, 2, 1, 2, 1, 2]
    )
    assert not_kept(path) == ["licence", "table"]
    assert list(ExchangeFile(path).find().counts) == [
        "found",
        "arrays that are no columns, left out: licence, table",
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            b"<!DOCTYPE html><html><body>Quota exceeded</body></html>",
            "found a web page, as a download leaves that asks",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
            "found a Git LFS pointer, a note of where",
        ),
        (b"", "found an empty file; download it again"),
        (b"\x93NUMPY\x01\x00", "found a NumPy array (.npy); name a file of the expected form"),
        (b"\x80\x04N.", "found a pickle; of these data prepare reads pyskl's"),
        (
            b"\x00" * 100,
            "found a file of zeros, as a download leaves that broke off; download the file itself",
        ),
        (b"7z\xbc\xaf\x27\x1c", "found a 7-Zip archive; unpack it"),
    ],
)
def test_a_file_that_is_something_else_is_named(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    path.write_bytes(content)
    assert refusal(path).startswith(f"expected a .npz file (a zip of arrays), {found}")


def test_a_zip_without_arrays_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    for name, found in (
        ("xl/workbook.xml", "an Excel workbook; save it as CSV UTF-8"),
        ("a.txt", "a zip archive; unpack it"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "")
        assert refusal(path) == f"expected a .npz file (a zip of arrays), found {found}"
