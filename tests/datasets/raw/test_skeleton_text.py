"""The reader of ``.skeleton`` text: equal to a plain line-by-line reader,
and exact about what is broken where.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.raw.base import BrokenFile
from datasets.raw.ntu import skeleton_text
from datasets.raw.ntu.skeleton_text import SkeletonText, read_skeleton
from tests.datasets.raw.made_up_ntu import (
    BODY_ID,
    Recorded,
    person,
    read_line_by_line,
    skeleton_lines,
    write_lines,
    write_skeleton,
    write_tree,
)


def two_frames() -> list[str]:
    """Frame 1 with one body, frame 2 with two: 1 + 2 + 3 x 27 = 84 lines."""
    return skeleton_lines(Recorded(BODY_ID, 0, person(2)), Recorded(BODY_ID + 1, 1, person(1, 1)))


def refusal(path: Path, lines: list[str]) -> tuple[int, str]:
    """Line and reason with which a file of these lines is refused."""
    with pytest.raises(BrokenFile) as caught:
        read_skeleton(write_lines(path / "broken.skeleton", lines))
    assert caught.value.path == path / "broken.skeleton"
    assert "\n" not in str(caught.value)
    return caught.value.line, caught.value.reason


def assert_equal(text: SkeletonText, path: Path) -> None:
    """``text`` says what the plain reader reads."""
    frames = read_line_by_line(path)
    bodies = [body for frame in frames for body in frame]
    np.testing.assert_array_equal(text.bodies, [len(frame) for frame in frames])
    assert text.ids.tolist() == [body["id"] for body in bodies]
    np.testing.assert_array_equal(
        text.joints, np.array([body["joints"] for body in bodies]).reshape(-1, 25, 3)
    )


# --- reading what is right ---


def test_equals_the_plain_reader(tmp_path: Path) -> None:
    for path in write_tree(tmp_path, 16, longest=50):
        text = read_skeleton(path)
        assert_equal(text, path)
        assert text.joints.dtype == np.float32


def test_regular_files_never_go_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        skeleton_text, "_by_line", lambda path, data: pytest.fail(f"{path} went line by line")
    )
    for path in write_tree(tmp_path, 16, longest=50):
        read_skeleton(path)


def test_both_readers_agree(tmp_path: Path) -> None:
    for path in write_tree(tmp_path, 8, longest=50):
        fast, slow = read_skeleton(path), skeleton_text._by_line(path, path.read_bytes())
        for name in ("bodies", "ids", "joints"):
            np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name))


def test_body_ids_keep_all_their_digits(tmp_path: Path) -> None:
    ids = (BODY_ID, BODY_ID + 1, 2**63 - 1)
    assert float(BODY_ID) == float(BODY_ID + 1)
    path = write_skeleton(tmp_path / "a.skeleton", *(Recorded(one, 0, person(1)) for one in ids))
    assert read_skeleton(path).ids.tolist() == list(ids)


@pytest.mark.parametrize(
    "token",
    [
        "0.1",
        "-0.1",
        "0",
        "-0",
        "3.",
        ".5",
        "1e-5",
        "-9.313226E-05",
        "+2.5",
        "0.2181153",
        "123456789012345",
        "1e300",
        "9007199254740993",
        "0.30000000000000004",
        "-1234567.12345678",
        "0.000000000000001",
        "12345678901234567.5",
    ],
)
def test_a_number_is_what_float_makes_of_it(tmp_path: Path, token: str) -> None:
    lines = two_frames()
    lines[4] = " ".join([token, "1", token, *lines[4].split()[3:]])
    found = read_skeleton(write_lines(tmp_path / "a.skeleton", lines)).joints[0, 0]
    with np.errstate(over="ignore"):
        value = np.float64(token).astype(np.float32)
    np.testing.assert_array_equal(found, [value, 1, value])
    assert np.signbit(found[0]) == np.signbit(value)


def test_random_decimals_are_exact(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    numbers = [
        f"{value:.{digits}g}"
        for value, digits in zip(random.normal(size=75), [7, 15, 17] * 25, strict=True)
    ]
    lines = skeleton_lines(Recorded(BODY_ID, 0, person(1)))
    for joint in range(25):
        lines[4 + joint] = " ".join(
            [*numbers[3 * joint : 3 * joint + 3], *lines[4 + joint].split()[3:]]
        )
    found = read_skeleton(write_lines(tmp_path / "a.skeleton", lines)).joints
    np.testing.assert_array_equal(
        found.ravel(), np.array([float(number) for number in numbers]).astype(np.float32)
    )


@pytest.mark.parametrize("newline", ["\r\n", " \n", "\n"])
def test_line_ends_do_not_matter(tmp_path: Path, newline: str) -> None:
    plain = write_lines(tmp_path / "plain.skeleton", two_frames())
    other = write_lines(tmp_path / "other.skeleton", two_frames(), newline)
    assert_equal(read_skeleton(other), plain)


def test_the_last_line_may_lack_its_end_or_be_followed_by_blank_ones(tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "plain.skeleton", two_frames())
    for number, changed in enumerate(
        (plain.read_bytes().rstrip(), plain.read_bytes() + b"\r\n \n")
    ):
        other = tmp_path / f"{number}.skeleton"
        other.write_bytes(changed)
        assert_equal(read_skeleton(other), plain)


def test_frames_without_bodies(tmp_path: Path) -> None:
    path = write_skeleton(tmp_path / "a.skeleton", Recorded(BODY_ID, 2, person(1)), frames=4)
    assert read_skeleton(path).bodies.tolist() == [0, 0, 1, 0]
    empty = read_skeleton(write_skeleton(tmp_path / "b.skeleton", frames=3))
    assert (empty.bodies.tolist(), empty.ids.shape, empty.joints.shape) == (
        [0, 0, 0],
        (0,),
        (0, 25, 3),
    )
    assert len(read_skeleton(write_lines(tmp_path / "c.skeleton", ["0"])).bodies) == 0


def test_coordinates_that_are_not_finite_are_read_and_their_line_is_known(tmp_path: Path) -> None:
    lines = two_frames()
    assert len(lines) == 84
    lines[83] = "nan -inf 1e400 " + " ".join(lines[83].split()[3:])
    text = read_skeleton(write_lines(tmp_path / "a.skeleton", lines))
    np.testing.assert_array_equal(text.joints[2, 24], [np.nan, -np.inf, np.inf])
    assert text.line(2, 24) == 84
    assert text.line(0, 0) == 5
    assert (
        text.line(1, 0) == 33
    )  # 1 + frame 1 (1 + 27 lines) + its count, body line, joint count, and the first joint


# --- what is broken ---


def test_an_empty_file(tmp_path: Path) -> None:
    assert refusal(tmp_path, []) == (1, "expected the number of frames, found an empty file")
    assert refusal(tmp_path, ["", " "]) == (1, "expected the number of frames, found an empty file")


@pytest.mark.parametrize("count", ["2.0", "-2", "two", "2 2", "9" * 5000])
def test_the_frame_count_is_a_whole_number(tmp_path: Path, count: str) -> None:
    line, reason = refusal(tmp_path, [count, *two_frames()[1:]])
    assert (line, reason) == (1, f"expected the number of frames, found {count[:40]!r}")


def test_the_body_count_is_a_whole_number(tmp_path: Path) -> None:
    lines = two_frames()
    lines[29] = "nan"
    assert refusal(tmp_path, lines) == (
        30,
        "expected the number of bodies in frame 2 of 2, found 'nan'",
    )


@pytest.mark.parametrize("kept", [1, 2, 3, 10, 29, 30, 83])
def test_cut_short(tmp_path: Path, kept: int) -> None:
    line, reason = refusal(tmp_path, two_frames()[:kept])
    assert line == kept
    assert "found the end of the file; it is cut short" in reason


def test_cut_within_a_line(tmp_path: Path) -> None:
    lines = two_frames()
    lines[83] = " ".join(lines[83].split()[:5])
    assert refusal(tmp_path, lines) == (84, "expected 12 fields for joint 25, found 5")


@pytest.mark.parametrize("count", ["24", "26", "0", "1000000000"])
def test_25_joints(tmp_path: Path, count: str) -> None:
    lines = two_frames()
    lines[31] = count
    line, reason = refusal(tmp_path, lines)
    assert line == 32
    assert reason.startswith("expected ")
    assert repr(count) in reason


def test_a_missing_joint_line(tmp_path: Path) -> None:
    lines = two_frames()
    del lines[10]
    assert refusal(tmp_path, lines) == (29, "expected 12 fields for joint 25, found 1")


def test_as_many_tokens_on_other_lines(tmp_path: Path) -> None:
    lines = two_frames()
    first, second = lines[10].split(), lines[11].split()
    lines[10:12] = [" ".join(first[:11]), " ".join([first[11], *second])]
    assert refusal(tmp_path, lines) == (11, "expected 12 fields for joint 7, found 11")


def test_an_empty_line_in_between(tmp_path: Path) -> None:
    lines = two_frames()
    lines.insert(3, "")
    assert refusal(tmp_path, lines) == (4, "expected the number of joints, found an empty line")


def test_a_body_line_of_other_fields(tmp_path: Path) -> None:
    lines = two_frames()
    lines[2] += " 1"
    assert refusal(tmp_path, lines) == (3, "expected 10 fields for a body, found 11")


@pytest.mark.parametrize("body_id", ["7.2e16", "-1", "99999999999999999999"])
def test_a_body_id_is_a_whole_number_of_64_bits(tmp_path: Path, body_id: str) -> None:
    lines = two_frames()
    lines[2] = " ".join([body_id, *lines[2].split()[1:]])
    assert refusal(tmp_path, lines) == (
        3,
        f"expected a whole number of 64 bits as body ID, found {body_id!r}",
    )


@pytest.mark.parametrize("token", ["x", "1.2.3", "-", ".", "--1", "1-", "0x10", "1,5"])
def test_a_coordinate_is_a_number(tmp_path: Path, token: str) -> None:
    lines = two_frames()
    lines[4] = " ".join(["0.5", token, *lines[4].split()[2:]])
    line, reason = refusal(tmp_path, lines)
    assert line == 5
    assert reason.startswith(f"expected x y z of joint 1 as numbers, found '0.5 {token} ")


def test_data_after_the_last_frame(tmp_path: Path) -> None:
    assert refusal(tmp_path, [*two_frames(), "0"]) == (
        85,
        "expected the end of the file after the last frame, found '0'",
    )
    assert refusal(tmp_path, ["1", *two_frames()[1:]])[0] == 30


def test_binary_junk(tmp_path: Path) -> None:
    junk = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
    for number, content in enumerate((junk, b"\0" * 100, b"3\n" + junk, b"1\n1\n" + junk)):
        path = tmp_path / f"{number}.skeleton"
        path.write_bytes(content)
        with pytest.raises(BrokenFile, match=r", line \d+: expected "):
            read_skeleton(path)


def test_zeros_that_a_crash_left_at_the_end(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.skeleton", two_frames())
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    with pytest.raises(BrokenFile, match="line 85: expected the end of the file"):
        read_skeleton(path)


@pytest.mark.parametrize("lines", [["999999999"], ["1", "999999999"], ["999999999", "0"]])
def test_counts_that_lie_take_no_memory(tmp_path: Path, lines: list[str]) -> None:
    found = refusal(tmp_path, lines)[1]
    assert "cut short" in found or found == "expected at most 100,000 frames, found 999,999,999"


def test_a_file_too_large_for_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.skeleton"
    with path.open("wb") as file:
        file.truncate(skeleton_text.MOST_BYTES + 1)
    with pytest.raises(
        BrokenFile, match="expected at most 12,582,912 bytes for one clip, found 12,582,913"
    ):
        read_skeleton(path)
