"""Archives: what is unpacked and how, every way out of the folder that is refused, and that nothing remains."""

from __future__ import annotations

import errno
import io
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.errors import DataError
from datasets.origins.unpack import Limits, unpack

FILES = {"data/one.txt": b"1 2 3\n" * 50, "data/deep/two.txt": b"4 5 6\n", "readme.txt": b""}
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tar.xz")
SMALL = Limits(ratio=10, free=100_000)


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def zip_of(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return path


def zip_kind(path: Path, name: str, mode: int, contents: bytes = b"target") -> Path:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, contents)
    return path


def tar_of(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    """A tar of files, then entries without contents; packed as the path's last suffix says."""
    mode = {".gz": "w:gz", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, contents in files.items():
            archive.addfile(entry(name, size=len(contents)), io.BytesIO(contents))
        for info in more:
            archive.addfile(info)
    return path


def archive_of(path: Path, files: dict[str, bytes]) -> Path:
    return (zip_of if path.suffix == ".zip" else tar_of)(path, files)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(archive: Path, *, keep: str = "*", limits: Limits | None = None) -> str:
    """The one line with which an archive is refused; neither the folder nor anything else may be there afterwards."""
    around = set(archive.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        unpack(archive, archive.parent / "out", keep=keep, limits=limits)
    assert set(archive.parent.rglob("*")) == around
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{archive}: ")
    return str(caught.value).removeprefix(f"{archive}: ")


# --- unpacking what is right ---


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_come_out_as_they_went_in(tmp_path: Path, suffix: str) -> None:
    archive = archive_of(tmp_path / f"a{suffix}", FILES)
    assert unpack(archive, tmp_path / "made" / "out") == tmp_path / "made" / "out"
    assert contents(tmp_path / "made" / "out") == FILES
    assert {path.name for path in tmp_path.iterdir()} == {archive.name, "made"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_files_that_match_are_kept(tmp_path: Path, suffix: str) -> None:
    out = unpack(archive_of(tmp_path / f"a{suffix}", FILES), tmp_path / "out", keep="data/*")
    assert contents(out) == {name: FILES[name] for name in ("data/one.txt", "data/deep/two.txt")}


def test_folders_dots_and_backslashes_in_names(tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "a.tar", {"./data//one.txt": b"1"}, entry("./", tarfile.DIRTYPE), entry("empty", b"5"))
    out = unpack(tar, tmp_path / "tar")
    assert (contents(out), (out / "empty").is_dir()) == ({"data/one.txt": b"1"}, True)
    out = unpack(zip_of(tmp_path / "a.zip", {"data\\": b"", "data\\one.txt": b"1"}), tmp_path / "zip")
    assert contents(out) == {"data/one.txt": b"1"}


def test_rights_in_the_archive_are_not_taken_over(tmp_path: Path) -> None:
    info = entry("tool")
    info.mode = 0o6777
    out = unpack(tar_of(tmp_path / "a.tar", {}, info), tmp_path / "out")
    assert (out / "tool").stat().st_mode & 0o6111 == 0


def test_an_empty_folder_is_taken_over_and_a_full_one_left_alone(tmp_path: Path) -> None:
    archive, out = zip_of(tmp_path / "a.zip", FILES), tmp_path / "out"
    out.mkdir()
    unpack(archive, out)
    (out / "mine").write_text("mine")
    with pytest.raises(DataError, match="expected nothing there or an empty folder"):
        unpack(archive, out)
    assert contents(out) == FILES | {"mine": b"mine"}


def test_what_a_killed_call_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".out.unpacking").mkdir()
    (tmp_path / ".out.unpacking" / "half").write_text("half")
    unpack(zip_of(tmp_path / "a.zip", FILES), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert not (tmp_path / ".out.unpacking").exists()


# --- ways out of the folder ---


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.txt", "leaves it|stays in the folder"),
        ("data/../../evil.txt", "leaves it|stays in the folder"),
        ("data/..", "leaves it|stays in the folder"),
        ("..\\evil.txt", "leaves it"),
        ("/tmp/evil.txt", "absolute"),
        ("\\\\server\\evil.txt", "absolute"),
        ("C:\\evil.txt", "absolute"),
        ("c:evil.txt", "absolute"),
        ("evil\x1b[2J.txt", "control characters"),
    ],
)
def test_names_that_leave_the_folder(tmp_path: Path, suffix: str, name: str, reason: str) -> None:
    """Also when the member would not have been kept."""
    archive = archive_of(tmp_path / f"a{suffix}", {"data/one.txt": b"1", name: b"evil"})
    for keep in ("*", "data/one.txt"):
        message = refusal(archive, keep=keep)
        assert message.startswith(repr(name))
        assert any(words in message for words in reason.split("|"))


def test_a_name_cut_by_a_zero_byte(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"one.txtX.sh": b"evil"})
    archive.write_bytes(archive.read_bytes().replace(b"one.txtX.sh", b"one.txt\0.sh"))
    assert "control characters" in refusal(archive)


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (entry("link", tarfile.SYMTYPE, link="/etc"), "stays in the folder"),
        (entry("link", tarfile.SYMTYPE, link="../.."), "stays in the folder"),
        (entry("link", tarfile.LNKTYPE, link="../../evil"), "stays in the folder"),
        (entry("link", tarfile.SYMTYPE, link="one.txt"), "a symbolic link"),
        (entry("link", tarfile.LNKTYPE, link="one.txt"), "a hard link"),
        (entry("null", tarfile.CHRTYPE), "special file|a device"),
        (entry("disk", tarfile.BLKTYPE), "special file|a device"),
        (entry("pipe", tarfile.FIFOTYPE), "special file|a pipe"),
        (entry("odd", b"Z"), "special file|type b'Z'"),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, info: tarfile.TarInfo, reason: str) -> None:
    message = refusal(tar_of(tmp_path / "a.tar.gz", {"one.txt": b"1"}, info))
    assert message.startswith(repr(info.name))
    assert any(words in message for words in reason.split("|"))


def test_own_judgement_does_not_rest_on_the_one_of_tarfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    assert "leaves it by '..'" in refusal(tar_of(tmp_path / "a.tar", {"../evil": b"1"}))
    assert "a device" in refusal(tar_of(tmp_path / "b.tar", {}, entry("null", tarfile.CHRTYPE)))
    assert "a symbolic link" in refusal(tar_of(tmp_path / "c.tar", {}, entry("x", tarfile.SYMTYPE, link="/etc")))


def test_a_link_that_is_not_kept_is_passed_over(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", {"data/one.txt": b"1"}, entry("link", tarfile.SYMTYPE, link="data/one.txt"))
    assert contents(unpack(archive, tmp_path / "out", keep="data/*")) == {"data/one.txt": b"1"}


@pytest.mark.parametrize(
    ("mode", "reason"), [(0o120777, "a symbolic link"), (0o020666, "a device"), (0o010666, "a pipe")]
)
def test_links_and_devices_in_a_zip(tmp_path: Path, mode: int, reason: str) -> None:
    message = refusal(zip_kind(tmp_path / "a.zip", "odd", mode))
    assert message.startswith("'odd': ")
    assert reason in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("first", "second"),
    [("one.txt", "./one.txt"), ("One.txt", "one.TXT"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "A/B"), ("é", "e\u0301")],
)
def test_members_that_share_a_place(tmp_path: Path, suffix: str, first: str, second: str) -> None:
    message = refusal(archive_of(tmp_path / f"a{suffix}", {first: b"1", second: b"2"}))
    assert message.startswith(repr(second))
    assert "two that share one" in message


def test_a_tar_with_one_name_twice(tmp_path: Path) -> None:
    assert "two that share one" in refusal(tar_of(tmp_path / "a.tar", {"x": b"1"}, entry("x")))


# --- too much ---


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz"])
def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, written = archive_of(tmp_path / f"a{suffix}", {"fine": b"1", "zeros": bytes(2_000_000)}), []
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfileobj", lambda source, *_: written.append(source.read(10)))
        message = refusal(archive, limits=SMALL)
    assert written == [b"1"]
    assert message.startswith("'zeros': expected at most 100,000 bytes")
    assert "decompression bomb" in message
    assert len(contents(unpack(archive, tmp_path / "out"))["zeros"]) == 2_000_000


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_many_small_members_make_a_bomb_too(tmp_path: Path, suffix: str) -> None:
    archive = archive_of(tmp_path / f"a{suffix}", {f"{number}": bytes(30_000) for number in range(5)})
    assert refusal(archive, limits=SMALL).startswith("'3': expected at most 100,000 bytes")


def test_limits_grow_with_the_archive() -> None:
    limits = Limits(ratio=100, free=1000, most=50_000)
    assert [limits.allowed(size) for size in (0, 5, 200, 1000)] == [1000, 1000, 20_000, 50_000]


def test_a_zip_that_understates_its_size(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"zeros": bytes(200_000)})
    true, told = struct.pack("<I", 200_000), struct.pack("<I", 100)
    archive.write_bytes(archive.read_bytes().replace(true, told))
    message = refusal(archive, limits=SMALL)
    assert message.startswith("'zeros': expected a whole archive, found damage")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_tar_header_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(entry("long", kind, size=2**33).tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    assert "expected a header of a few hundred bytes, found one of 8,589,934,592" in refusal(archive)


def test_a_tar_member_of_less_than_no_bytes(tmp_path: Path) -> None:
    """Its end stands before its start: a reader that goes there never comes to an end."""
    archive, header = tmp_path / "a.tar", bytearray(entry("loop").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -1024)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive.write_bytes(bytes(header) + bytes(10_240))
    assert refusal(archive)


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    header = bytearray(entry("holes", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"77777777777\0"  # the size that it would unfold to: 8 GiB
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(10_240))
    assert "a sparse file" in refusal(tmp_path / "a.tar")
    info = entry("holes")
    info.pax_headers = {"GNU.sparse.map": f"0,0,{2**33},0", "GNU.sparse.size": str(2**33)}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    assert "a sparse file" in refusal(tmp_path / "a.tar")


def test_too_many_members(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {f"{number}": b"" for number in range(4)})
    assert refusal(archive, limits=Limits(members=3)) == "'3': expected at most 3 members, found more"


# --- what cannot be read ---


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    archive = archive_of(tmp_path / f"a{suffix}", {f"{number}.bin": noise(3000, number) for number in range(5)})
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    assert "found damage" in refusal(archive)


def noise(count: int, seed: int) -> bytes:
    state, out = seed + 1, bytearray()
    for _ in range(count):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        out.append(state >> 16 & 255)
    return bytes(out)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.xz"])
def test_one_byte_changed(tmp_path: Path, suffix: str) -> None:
    archive = archive_of(tmp_path / f"a{suffix}", {"a.bin": noise(5000, 1)})
    damaged = bytearray(archive.read_bytes())
    damaged[2500] ^= 255
    archive.write_bytes(bytes(damaged))
    assert "found damage" in refusal(archive)


def test_a_damaged_header_inside_a_tar_is_not_taken_for_its_end(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", {"one": b"1", "two": b"2", "three": b"3"})
    damaged = bytearray(archive.read_bytes())
    damaged[1024] ^= 255  # the first letter of the second name: its header's checksum fails
    archive.write_bytes(bytes(damaged))
    assert "no end mark" in refusal(archive)


def test_a_tar_without_its_end_mark(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "a.tar", {"one": b"1", "two": b"2"})
    archive.write_bytes(archive.read_bytes()[:2048])
    assert "no end mark" in refusal(archive)


@pytest.mark.parametrize(
    ("start", "step"), [(b"7z\xbc\xaf\x27\x1c rest", "7-Zip"), (b"<html>", "download it again"), (b"", "download")]
)
def test_files_that_are_no_archive(tmp_path: Path, start: bytes, step: str) -> None:
    (tmp_path / "a.zip").write_bytes(start)
    message = refusal(tmp_path / "a.zip")
    assert message.startswith("expected a zip, tar, tar.gz or tar.xz file")
    assert step in message


def test_a_missing_archive_and_one_without_what_is_wanted(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.zip")
    assert "expected files that match 'kinect/*', found none" in refusal(
        zip_of(tmp_path / "a.zip", FILES), keep="kinect/*"
    )
    assert "found none" in refusal(tar_of(tmp_path / "a.tar", {}, entry("empty", tarfile.DIRTYPE)))


def test_members_packed_in_ways_that_cannot_be_bounded(tmp_path: Path) -> None:
    assert "packed by method 12" in refusal(zip_of(tmp_path / "a.zip", {"a": bytes(9)}, zipfile.ZIP_BZIP2))
    archive = zip_of(tmp_path / "b.zip", {"a": b"1"})
    whole = bytearray(archive.read_bytes())
    whole[6] |= 1
    whole[whole.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(bytes(whole))
    assert "an encrypted file" in refusal(archive)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Path]) -> None:
    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert "found a full disk; make room" in refusal(make(tmp_path / "a", FILES))
