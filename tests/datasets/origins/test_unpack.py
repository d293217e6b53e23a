"""Archives: what is unpacked and how, every way out of the folder that is refused,
and that nothing remains.
"""

from __future__ import annotations

import errno
import gzip
import io
import struct
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from datasets.errors import DataError
from datasets.origins import unpack as module
from datasets.origins.unpack import unpack

FILES = {"data/one.txt": b"1 2 3\n" * 50, "data/deep/two.txt": b"4 5 6\n", "readme.txt": b""}


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def archive_of(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    """An archive of files, then entries without contents."""
    with tarfile.open(path, "w:gz") as archive:
        for name, contents in files.items():
            archive.addfile(entry(name, size=len(contents)), io.BytesIO(contents))
        for info in more:
            archive.addfile(info)
    return path


def packed(path: Path, tar: bytes) -> Path:
    """An archive of these bytes, which an honest program may not write."""
    path.write_bytes(gzip.compress(tar))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(archive: Path, *, keep: str = "*") -> str:
    """The one line with which an archive is refused;
    neither the folder nor anything else may be there afterwards.
    """
    around = set(archive.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        unpack(archive, archive.parent / "out", keep=keep)
    assert set(archive.parent.rglob("*")) == around
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{archive}: ")
    return str(caught.value).removeprefix(f"{archive}: ")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive may hold 100,000 bytes, or 10 times its own."""
    monkeypatch.setattr(module, "_FREE", 100_000)
    monkeypatch.setattr(module, "_RATIO", 10)


# --- unpacking what is right ---


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", FILES)
    assert unpack(archive, tmp_path / "made" / "out") == tmp_path / "made" / "out"
    assert contents(tmp_path / "made" / "out") == FILES
    assert {path.name for path in tmp_path.iterdir()} == {archive.name, "made"}


def test_only_files_that_match_are_kept(tmp_path: Path) -> None:
    out = unpack(archive_of(tmp_path / "a.tar.gz", FILES), tmp_path / "out", keep="data/*")
    assert contents(out) == {name: FILES[name] for name in ("data/one.txt", "data/deep/two.txt")}


def test_folders_and_dots_in_names(tmp_path: Path) -> None:
    folders = entry("./", tarfile.DIRTYPE), entry("empty", tarfile.DIRTYPE)
    out = unpack(
        archive_of(tmp_path / "a.tar.gz", {"./data//one.txt": b"1"}, *folders), tmp_path / "out"
    )
    assert contents(out) == {"data/one.txt": b"1"}


def test_rights_that_others_could_use_are_not_taken_over(tmp_path: Path) -> None:
    info = entry("tool")
    info.mode = 0o6777
    out = unpack(archive_of(tmp_path / "a.tar.gz", {}, info), tmp_path / "out")
    assert (out / "tool").stat().st_mode & 0o6022 == 0


def test_an_empty_folder_is_taken_over_and_a_full_one_left_alone(tmp_path: Path) -> None:
    archive, out = archive_of(tmp_path / "a.tar.gz", FILES), tmp_path / "out"
    out.mkdir()
    unpack(archive, out)
    (out / "mine").write_text("mine")
    with pytest.raises(DataError, match="expected nothing there or an empty folder"):
        unpack(archive, out)
    assert contents(out) == FILES | {"mine": b"mine"}


def test_what_a_killed_call_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".out.unpacking").mkdir()
    (tmp_path / ".out.unpacking" / "half").write_text("half")
    unpack(archive_of(tmp_path / "a.tar.gz", FILES), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert not (tmp_path / ".out.unpacking").exists()


# --- ways out of the folder ---


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "data/../../evil.txt",
        "data/..",
        "..\\evil.txt",
        "/tmp/evil.txt",
        "\\\\server\\evil.txt",
        "C:\\evil.txt",
        "c:evil.txt",
        "evil\x1b[2J.txt",
    ],
)
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    """Also when the member would not have been kept."""
    archive = archive_of(tmp_path / "a.tar.gz", {"data/one.txt": b"1", name: b"evil"})
    for keep in ("*", "data/one.txt"):
        message = refusal(archive, keep=keep)
        assert message.startswith(f"{name!r}: expected a plain path inside the archive")


@pytest.mark.parametrize(
    "info",
    [
        entry("link", tarfile.SYMTYPE, link="/etc"),
        entry("link", tarfile.SYMTYPE, link="../.."),
        entry("link", tarfile.LNKTYPE, link="../../evil"),
        entry("link", tarfile.SYMTYPE, link="one.txt"),
        entry("link", tarfile.LNKTYPE, link="one.txt"),
        entry("null", tarfile.CHRTYPE),
        entry("disk", tarfile.BLKTYPE),
        entry("pipe", tarfile.FIFOTYPE),
        entry("odd", b"Z"),
    ],
)
def test_links_and_devices(tmp_path: Path, info: tarfile.TarInfo) -> None:
    message = refusal(archive_of(tmp_path / "a.tar.gz", {"one.txt": b"1"}, info))
    assert message.startswith(
        f"{info.name!r}: expected files and folders alone, found a link, a device or "
    )


def test_a_link_that_is_not_kept_is_passed_over(tmp_path: Path) -> None:
    link = entry("link", tarfile.SYMTYPE, link="/etc")
    archive = archive_of(tmp_path / "a.tar.gz", {"data/one.txt": b"1"}, link)
    assert contents(unpack(archive, tmp_path / "out", keep="data/*")) == {"data/one.txt": b"1"}


@pytest.mark.parametrize("second", ["one.txt", "./one.txt", "ONE.txt"])
def test_members_that_share_a_place(tmp_path: Path, second: str) -> None:
    message = refusal(archive_of(tmp_path / "a.tar.gz", {"one.txt": b"1"}, entry(second)))
    assert message.startswith(f"{second!r}: expected every member in a place of its own")


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
def test_a_file_where_a_folder_is(tmp_path: Path, first: str, second: str) -> None:
    assert "found damage" in refusal(archive_of(tmp_path / "a.tar.gz", {first: b"1", second: b"2"}))


def test_a_python_that_cannot_judge_members_does_not_unpack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", FILES)
    monkeypatch.delattr(tarfile, "data_filter")
    assert refusal(archive).startswith("expected Python 3.11.4 or newer")


# --- too much ---


@pytest.mark.parametrize("keep", ["*", "fine"])
@pytest.mark.usefixtures("small")
def test_a_bomb_is_refused_before_it_is_read(
    tmp_path: Path, keep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", {"fine": b"1", "zeros": bytes(2_000_000)})
    assert refusal(archive, keep=keep).startswith(
        "'zeros': expected at most 100,000 bytes out of an archive of"
    )
    monkeypatch.undo()
    assert len(contents(unpack(archive, tmp_path / "out"))["zeros"]) == 2_000_000


@pytest.mark.usefixtures("small")
def test_many_small_members_make_a_bomb_too(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", {f"{number}": bytes(30_000) for number in range(5)})
    assert refusal(archive).startswith("'3': expected at most 100,000 bytes")


@pytest.mark.usefixtures("small")
def test_a_bomb_behind_the_end(tmp_path: Path) -> None:
    tar = gzip.decompress(archive_of(tmp_path / "a.tar.gz", FILES).read_bytes())
    assert " bytes, a bomb?); " in refusal(packed(tmp_path / "b.tar.gz", tar + bytes(10_000_000)))


@pytest.mark.usefixtures("small")
def test_an_honest_archive_may_be_large(tmp_path: Path) -> None:
    archive = archive_of(
        tmp_path / "a.tar.gz", {"a.bin": noise(60_000, 1), "zeros": bytes(200_000)}
    )
    assert len(contents(unpack(archive, tmp_path / "out"))["zeros"]) == 200_000


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    header = entry("long", kind, size=2**24).tobuf(tarfile.GNU_FORMAT)
    archive = packed(tmp_path / "a.tar.gz", header + bytes(2**24))
    tracemalloc.start()
    message = refusal(archive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "found damage (a header of 16777216 bytes)" in message
    assert peak < 2**22


def checked(header: bytearray) -> bytes:
    """A header with its checksum."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def test_a_member_of_less_than_no_bytes(tmp_path: Path) -> None:
    """Its end stands before its start: a reader that goes there never comes to an end."""
    header = bytearray(entry("loop").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -1024)
    assert refusal(packed(tmp_path / "a.tar.gz", checked(header) + bytes(10_240))).startswith(
        "'loop': expected"
    )


@pytest.mark.parametrize(
    "size", [b"00000000010\0", b"77777777777\0"]
)  # what it would unfold to: 8 bytes, 8 GiB
def test_sparse_files_are_refused(tmp_path: Path, size: bytes) -> None:
    header = bytearray(entry("holes", tarfile.GNUTYPE_SPARSE).tobuf(tarfile.GNU_FORMAT))
    header[483:495] = size
    assert refusal(packed(tmp_path / "a.tar.gz", checked(header) + bytes(10_240))).startswith(
        "'holes': expected "
    )


def test_sparse_files_of_another_form_are_refused(tmp_path: Path) -> None:
    info = entry("holes")
    info.pax_headers = {"GNU.sparse.map": "0,0,8,0", "GNU.sparse.size": "8"}
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    assert "a sparse file" in refusal(tmp_path / "a.tar.gz")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_MEMBERS", 3)
    archive = archive_of(tmp_path / "a.tar.gz", {f"{number}": b"" for number in range(4)})
    assert refusal(archive) == "'3': expected at most 3 members, found more"


# --- what cannot be read ---


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8, 0.999])
def test_cut_short(tmp_path: Path, share: float) -> None:
    archive = archive_of(
        tmp_path / "a.tar.gz", {f"{number}.bin": noise(3000, number) for number in range(5)}
    )
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(share * len(whole))])
    assert "found damage" in refusal(archive)


def noise(count: int, seed: int) -> bytes:
    state, out = seed + 1, bytearray()
    for _ in range(count):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        out.append(state >> 16 & 255)
    return bytes(out)


def test_one_byte_changed(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", {"a.bin": noise(5000, 1)})
    damaged = bytearray(archive.read_bytes())
    damaged[2500] ^= 255
    archive.write_bytes(bytes(damaged))
    assert "found damage" in refusal(archive)


def test_a_damaged_header_inside_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "a.tar.gz", {"one": b"1", "two": b"2", "three": b"3"})
    damaged = bytearray(gzip.decompress(archive.read_bytes()))
    damaged[1024] ^= 255  # the first letter of the second name: its header's checksum fails
    assert "found damage (a member that is none)" in refusal(packed(archive, bytes(damaged)))


@pytest.mark.parametrize(
    "start",
    [
        b"7z\xbc\xaf\x27\x1c rest",
        b"<html>",
        b"",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"x", mtime=0),
    ],
)
def test_files_that_are_no_archive(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(start)
    assert refusal(tmp_path / "a.tar.gz").startswith("expected a whole .tar.gz, found damage (")


def test_a_missing_archive_and_one_without_what_is_wanted(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.tar.gz")
    archive = archive_of(tmp_path / "a.tar.gz", FILES, entry("empty", tarfile.DIRTYPE))
    for keep in ("kinect/*", "empty"):
        assert f"expected files that match {keep!r}, found none" in refusal(archive, keep=keep)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    archive = archive_of(tmp_path / "a.tar.gz", FILES)
    monkeypatch.setattr(tarfile.TarFile, "makefile", full)
    assert "found a full disk; make room" in refusal(archive)
