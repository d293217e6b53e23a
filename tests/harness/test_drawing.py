"""Pictures: who is seen from where, which clips are chosen, and files that are whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.layouts import KINECT20, NTU25, UIPRMD22, layout_from_parents
from harness.pictures.drawing import (
    MOST_FRAMES,
    Sketch,
    animate,
    gif_delays,
    sample_clips,
    spread,
    strip,
    viewpoint,
)
from tests.datasets.made_up_person import four, people, pose, walk

LEFT_HAND, RIGHT_HAND, LEFT_FOOT, LEFT_ANKLE = 7, 11, 15, 14


def turned(degrees: float) -> np.ndarray:
    """The person turned about the vertical."""
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return (pose() @ np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]).T).astype(
        np.float32
    )


@pytest.mark.parametrize("degrees", [0, 45, 90, 180, 300])
def test_everybody_is_seen_from_the_front(degrees: float) -> None:
    body = turned(degrees)
    view = viewpoint(body[None], KINECT20)
    x, y = (body @ view.T).T
    assert x[LEFT_HAND] > x[RIGHT_HAND]  # the viewer faces the person
    assert y.argmax() == 3  # the head
    assert x[LEFT_FOOT] < x[LEFT_ANKLE]  # three quarters: toes point past the viewer
    np.testing.assert_allclose(view @ view.T, np.eye(2), atol=1e-6)
    expected = viewpoint(pose()[None], KINECT20) @ pose().T
    np.testing.assert_allclose(body @ view.T, expected.T, atol=1e-5)


def test_a_mirrored_person_is_seen_from_the_front_with_sides_exchanged() -> None:
    body = pose() * np.float32([-1, 1, 1])
    x = (body @ viewpoint(body[None], KINECT20).T)[:, 0]
    assert x[LEFT_HAND] < x[RIGHT_HAND]
    assert x[LEFT_FOOT] < x[LEFT_ANKLE]


def test_without_sides_the_view_is_along_z() -> None:
    layout = layout_from_parents(("a", "b"), (-1, 0))
    view = viewpoint(np.zeros((1, 2, 3), np.float32), layout)
    assert view[0, 0] == pytest.approx(np.cos(np.radians(30)))
    np.testing.assert_allclose(viewpoint(np.zeros((0, 2, 3), np.float32), layout), view)


def test_sides_are_coloured_by_the_pairs() -> None:
    sketch = Sketch.of(walk(3), KINECT20)
    assert sketch.sides[[LEFT_HAND, RIGHT_HAND, 0]].tolist() == [0, 1, 2]
    assert len(set(sketch.colours(0)) | set(sketch.colours(1))) == 6
    assert len(sketch.colours(0)) == 19


def test_heads_are_where_the_layout_has_them() -> None:
    assert Sketch.of(walk(2), KINECT20).head == ([3], pytest.approx(0.06 * 1.6, rel=0.1))
    for layout, joints in ((NTU25, [3]), (UIPRMD22, [5, 4])):
        frames = np.random.default_rng(0).normal(size=(2, 1, layout.joint_count, 3))
        head = Sketch.of(frames, layout).head
        assert head is not None
        assert head[0] == joints


def test_samples_are_of_different_classes_spread_evenly() -> None:
    label = np.repeat(np.arange(10), 7)
    clips = replace(four(), joints=np.ones((70, 1, 20, 3), np.float32), offsets=np.arange(71))
    clips = replace(
        clips, columns={"label": label, "subject": label}, class_names=tuple("abcdefghij")
    )
    chosen = sample_clips(clips)
    assert label[chosen].tolist() == [0, 2, 4, 5, 7, 9]
    assert [index % 7 for index in chosen] == [0, 1, 2, 4, 5, 6]
    assert sample_clips(clips) == chosen
    of_three = replace(clips, columns={**clips.columns, "label": label % 3})
    assert len(sample_clips(of_three)) == 3


def of_two_bodies() -> ClipSet:
    """Clips of one and of two bodies, with an empty frame."""
    alone = np.concatenate([walk(9), np.zeros((9, 1, 20, 3), np.float32)], axis=1)
    alone[4] = 0
    return people(
        alone, np.concatenate([walk(12), walk(12) + np.float32([1, 0, 0])], axis=1), view=[1, 2]
    )


def test_a_strip_has_a_row_per_clip_and_is_always_the_same(tmp_path: Path) -> None:
    clips = of_two_bodies()
    one, other, longer = (tmp_path / name for name in ("one.png", "other.png", "longer.png"))
    strip(clips, [0], one)
    strip(clips, [0], other)
    strip(clips, [0, 1], longer)
    assert one.read_bytes() == other.read_bytes()
    with Image.open(one) as short, Image.open(longer) as tall:
        assert (short.width, tall.width) == (1100, 1100)
        assert tall.height - short.height == 190
        assert len(np.unique(np.asarray(short.convert("RGB")).reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    "spoil",
    [
        lambda joints: joints * np.nan,
        lambda joints: 0 * joints,
        lambda joints: joints[:1],
        lambda joints: joints * 1e9,
    ],
)
def test_strange_clips_are_drawn_all_the_same(spoil, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    frames = spoil(walk(4))
    strip(people(frames), [0], tmp_path / "clip.png")
    animate(frames, KINECT20, tmp_path / "clip.gif", 30)
    assert (tmp_path / "clip.png").exists()
    assert (tmp_path / "clip.gif").exists()


@pytest.mark.parametrize("name", ["\u8d70\u8def", "$x$ and $\\frac{", "\U0001f600"])
@pytest.mark.filterwarnings("error")
def test_any_name_is_drawn_without_a_word_of_a_library(name: str, tmp_path: Path) -> None:
    strip(replace(people(walk(4), walk(5)), class_names=(name, "b")), [0], tmp_path / "clip.png")
    animate(walk(4), KINECT20, tmp_path / "clip.gif", 30, title=name)


def frames_of(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        shown = []
        for place in range(getattr(image, "n_frames", 1)):
            image.seek(place)
            shown.append(np.asarray(image.convert("RGB")).astype(int))
        return shown


def test_an_animation_has_the_clips_frames_at_its_pace(tmp_path: Path) -> None:
    animate(walk(6), KINECT20, tmp_path / "clip.gif", 10)
    with Image.open(tmp_path / "clip.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (6, 100)
    assert not np.array_equal(*frames_of(tmp_path / "clip.gif")[::5])


def test_long_clips_lose_frames_not_pace(tmp_path: Path) -> None:
    animate(walk(2 * MOST_FRAMES + 1), KINECT20, tmp_path / "clip.gif", 50)
    with Image.open(tmp_path / "clip.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (67, 60)


def greens(shown: np.ndarray) -> int:
    """Pixels that are nearly the colour of visible tokens."""
    wanted = np.array([0x00, 0x9E, 0x73])
    return int((np.abs(shown - wanted).sum(axis=2) < 40).sum())


def test_visible_tokens_are_green_when_they_are(tmp_path: Path) -> None:
    visible = np.zeros((2, 20), bool)
    visible[1] = True  # tokens of three frames
    animate(walk(6), KINECT20, tmp_path / "clip.gif", 10, visible=visible)
    counts = [greens(shown) for shown in frames_of(tmp_path / "clip.gif")]
    assert counts[:3] == [0, 0, 0]
    assert min(counts[3:]) > 200


def test_tokens_are_spread_over_frames_and_bodies() -> None:
    tokens = np.array([[True, False], [False, True]])
    assert spread(tokens, (4, 3)).shape == (4, 3, 2)
    assert spread(tokens, (4, 1))[:, 0].tolist() == [
        [True, False],
        [True, False],
        [False, True],
        [False, True],
    ]
    each = np.stack([tokens, ~tokens], axis=1)
    assert spread(each, (2, 2))[0].tolist() == [[True, False], [False, True]]


def test_a_reconstruction_stands_beside_the_original(tmp_path: Path) -> None:
    animate(walk(3), KINECT20, tmp_path / "one.gif", 10)
    animate(walk(3), KINECT20, tmp_path / "two.gif", 10, reconstruction=walk(3) + 0.1)
    one, two = frames_of(tmp_path / "one.gif")[0], frames_of(tmp_path / "two.gif")[0]
    assert two.shape[1] == 2 * one.shape[1]
    assert (two[:, two.shape[1] // 2 :] < 128).any()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    for draw in (
        lambda path: strip(four(), [0], path),
        lambda path: animate(walk(2), KINECT20, path, 30),
    ):
        with pytest.raises(
            DataError,
            match="expected a place to write the picture, found: No such file or directory",
        ):
            draw(tmp_path / "missing" / "clip.gif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("count", "fps"), [(90, 30.0), (31, 13.0), (72, 36.0), (120, 60.0)])
def test_an_animation_lasts_as_long_as_its_clip(count: int, fps: float) -> None:
    delays = gif_delays(count, 1 / fps)
    assert min(delays) >= 20
    if fps <= 50:
        assert sum(delays) == pytest.approx(1000 * count / fps, abs=10)
