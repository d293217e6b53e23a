"""The standard chain, stage by stage: bodies of constant height whose x tells who is where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets.raw.base import BrokenFile
from datasets.raw.ntu import chain as ntu_chain
from datasets.raw.ntu.chain import standard_chain, translated
from datasets.raw.ntu.skeleton_text import SkeletonText
from tests.datasets.raw.made_up_ntu import STANDING, Recorded, person


def recorded(*bodies: Recorded, frames: int | None = None) -> SkeletonText:
    """What a file with these bodies says."""
    count = frames if frames is not None else max(body.last + 1 for body in bodies)
    present = [
        (frame, body)
        for frame in range(count)
        for body in bodies
        if body.first <= frame <= body.last
    ]
    counts = np.bincount([frame for frame, _ in present], minlength=count)
    joints = [body.joints[frame - body.first] for frame, body in present]
    ids = [body.id for _, body in present]
    stacked = np.array(joints, np.float32).reshape(-1, 25, 3)
    return SkeletonText(
        Path("made_up.skeleton"), counts.astype(np.int64), np.array(ids, np.int64), stacked
    )


def figure(
    frames: int, *, at: float = 0.0, step: float = 0.0, wide: int = 0
) -> NDArray[np.float64]:
    """[frames, 25, 3]: `STANDING` (1.6 m high, 0.55 m wide), with x from ``at`` on, ``step`` more
    in every frame.

    The first ``wide`` frames are stretched in x to more than 0.8 of the height.
    """
    joints = np.repeat(STANDING[None], frames, axis=0)
    joints[:, :, 2] += 3
    joints[:wide, :, 0] *= 3
    joints[:, :, 0] += at + step * np.arange(frames)[:, None]
    return joints


def spine_x(joints: NDArray[np.float32], actor: int) -> list[float | None]:
    """x of an actor's spine middle in every frame, None where the actor is absent."""
    return [round(float(frame[1, 0]), 3) if frame.any() else None for frame in joints[:, actor]]


def test_one_body_is_moved_to_its_first_spine_middle() -> None:
    body = person(20)
    joints, counts = standard_chain(recorded(Recorded(7, 0, body)))
    assert joints.shape == (20, 2, 25, 3)
    assert joints.dtype == np.float32
    single = body.astype(np.float32)
    np.testing.assert_array_equal(joints[:, 0], single - single[0, 1])
    assert not joints[:, 1].any()
    assert not counts


def test_a_single_body_is_never_denoised() -> None:
    joints, counts = standard_chain(recorded(Recorded(7, 0, figure(3, wide=3))))
    assert (len(joints), dict(counts)) == (3, {})


def test_frames_without_a_body_are_skipped() -> None:
    text = recorded(Recorded(7, 2, figure(2, step=1)), Recorded(7, 6, figure(2, at=5)), frames=9)
    joints, counts = standard_chain(text)
    assert spine_x(joints, 0) == [0, 1, 5, 5]
    assert counts == {ntu_chain.SKIPPED: 5}


def test_no_bodies_at_all() -> None:
    joints, counts = standard_chain(recorded(frames=4))
    assert joints.shape == (0, 2, 25, 3)
    assert counts == {ntu_chain.SKIPPED: 4}


def test_bodies_of_11_frames_are_dropped_and_of_12_kept() -> None:
    main = Recorded(1, 0, figure(30, step=0.1))
    joints, counts = standard_chain(
        recorded(main, Recorded(2, 5, figure(11, at=2)), Recorded(3, 5, figure(12, at=3)))
    )
    assert spine_x(joints, 1) == [None] * 5 + [3.0] * 12 + [None] * 13
    assert counts == {ntu_chain.SHORT: 1}


def test_nobody_is_left_of_short_bodies() -> None:
    joints, counts = standard_chain(recorded(Recorded(1, 0, figure(11)), Recorded(2, 0, figure(5))))
    assert len(joints) == 0
    assert counts == {ntu_chain.SHORT: 2, ntu_chain.REMOVED: 11}


def test_69_754_percent_of_wide_frames() -> None:
    main = Recorded(1, 0, figure(100, step=0.1))
    for wide, dropped in ((69, 0), (70, 1)):
        joints, counts = standard_chain(
            recorded(main, Recorded(2, 0, figure(100, at=2, wide=wide)))
        )
        assert counts[ntu_chain.WIDE] == dropped
        assert joints[:, 1].any() != dropped


def test_the_last_body_is_kept_however_wide() -> None:
    first, second = Recorded(2, 0, figure(20, wide=20)), Recorded(1, 0, figure(20, at=4, wide=20))
    joints, counts = standard_chain(recorded(first, second))
    assert counts == {ntu_chain.WIDE: 1}
    np.testing.assert_allclose(joints[0, 0, :, 0], 3 * STANDING[:, 0], atol=1e-6)
    assert not joints[:, 1].any()


def test_most_motion_first() -> None:
    still, lively = Recorded(1, 0, figure(20)), Recorded(2, 0, figure(20, at=5, step=0.1))
    joints, _ = standard_chain(recorded(still, lively))
    assert spine_x(joints, 0)[:3] == [0, 0.1, 0.2]
    assert spine_x(joints, 1)[:3] == [-5, -5, -5]


def test_wide_frames_do_not_count_as_motion() -> None:
    # Half of the flickering body's frames are stretched: its variance is largest with them,
    # smallest without.
    flickering, lively = (
        Recorded(1, 0, figure(20, wide=10)),
        Recorded(2, 0, figure(20, at=5, step=0.01)),
    )
    joints, _ = standard_chain(recorded(flickering, lively))
    assert spine_x(joints, 1)[:3] == [-5, -5, -5]


def test_motion_is_the_variance_of_each_coordinate_over_frames_and_joints() -> None:
    joints = np.zeros((2, 25, 3), np.float32)
    joints[1, :, 0], joints[:, :5, 1] = 2, 5
    # x: half 0, half 2: 1. y: a fifth 5, the others 0: 25 * 0.2 * 0.8 = 4. z: 0.
    assert ntu_chain._motion(joints) == pytest.approx(5)


def test_equal_motion_is_ordered_by_id() -> None:
    for low_first in (True, False):
        bodies = [Recorded(1, 0, figure(20)), Recorded(2, 0, figure(20, at=2.0))]
        joints, _ = standard_chain(recorded(*(bodies if low_first else bodies[::-1])))
        assert spine_x(joints, 1)[0] == 2


def test_a_body_under_a_new_id_continues_its_actor() -> None:
    before, after = Recorded(1, 0, figure(15, step=0.1)), Recorded(2, 16, figure(14, at=2))
    joints, counts = standard_chain(recorded(before, after))
    assert spine_x(joints, 0) == [round(0.1 * frame, 3) for frame in range(15)] + [2] * 14
    assert not joints[:, 1].any()
    assert counts == {ntu_chain.SKIPPED: 1}


def test_a_single_shared_frame_is_no_overlap_and_two_are() -> None:
    main = Recorded(1, 0, figure(20, step=0.1))
    touching, _ = standard_chain(recorded(main, Recorded(2, 19, figure(20, at=3))))
    assert spine_x(touching, 0)[18:] == [1.8] + [3] * 20
    assert not touching[:, 1].any()
    sharing, _ = standard_chain(recorded(main, Recorded(2, 18, figure(20, at=3))))
    assert spine_x(sharing, 1) == [None] * 18 + [3] * 20
    assert spine_x(sharing, 0) == [round(0.1 * frame, 3) for frame in range(20)] + [None] * 18


def test_a_body_that_overlaps_both_actors_is_dropped() -> None:
    bodies = [Recorded(number, 0, figure(20, at=number, step=0.1 / number)) for number in (1, 2, 3)]
    joints, counts = standard_chain(recorded(*bodies))
    assert (spine_x(joints, 0)[0], spine_x(joints, 1)[0]) == (0, 1)
    assert counts == {ntu_chain.OVERLAPPING: 1}


def test_actor_2_spans_from_the_first_frame_as_published() -> None:
    main = Recorded(1, 0, figure(60, step=0.1))
    late, early = Recorded(2, 40, figure(20, at=2, step=0.05)), Recorded(3, 5, figure(20, at=3))
    joints, counts = standard_chain(recorded(main, late, early))
    assert counts == {ntu_chain.OVERLAPPING: 1}
    assert spine_x(joints, 1)[:40] == [None] * 40


def test_an_id_that_comes_back_counts_as_uninterrupted_as_published() -> None:
    main = Recorded(1, 0, figure(40, step=0.1))
    joints, counts = standard_chain(
        recorded(main, Recorded(2, 0, figure(8, at=2)), Recorded(2, 20, figure(8, at=3)))
    )
    assert counts == {ntu_chain.UNINTERRUPTED: 1}
    assert spine_x(joints, 1) == [2] * 8 + [3] * 8 + [None] * 24


def test_frames_of_dropped_bodies_alone_are_removed() -> None:
    main, noise = Recorded(1, 10, figure(20, step=0.1)), Recorded(2, 0, figure(11, at=5))
    joints, counts = standard_chain(recorded(main, noise))
    assert spine_x(joints, 0) == [round(0.1 * frame, 3) for frame in range(20)]
    assert counts == {ntu_chain.SHORT: 1, ntu_chain.REMOVED: 10}


def test_the_origin_is_actor_1_even_where_actor_2_is_there_first() -> None:
    lively, still = Recorded(1, 5, figure(20, at=1, step=0.1)), Recorded(2, 0, figure(25, at=4))
    joints, _ = standard_chain(recorded(lively, still))
    assert spine_x(joints, 0)[4:7] == [None, 0, 0.1]
    assert spine_x(joints, 1)[0] == 3
    np.testing.assert_array_equal(joints[5, 0, 1], 0)


def test_translated_leaves_clips_without_a_first_body_alone() -> None:
    joints = np.zeros((3, 2, 25, 3), np.float32)
    joints[:, 1] = 1
    np.testing.assert_array_equal(translated(joints), joints)


def test_a_coordinate_that_is_not_finite_is_named_with_its_line() -> None:
    body = figure(20)
    body[3, 4, 1] = np.nan
    with pytest.raises(BrokenFile) as caught:
        standard_chain(recorded(Recorded(1, 0, body)))
    # 1 + three frames of 28 lines + count, body line, joint count + five joints
    assert caught.value.line == 1 + 3 * 28 + 3 + 5
    assert caught.value.reason == "expected finite coordinates in metres, found nan as y of joint 5"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_dropped_bodies_may_hold_anything(value: float) -> None:
    noise = figure(11)
    noise[:] = value
    joints, counts = standard_chain(recorded(Recorded(1, 0, figure(20)), Recorded(2, 0, noise)))
    assert np.isfinite(joints).all()
    assert counts == {ntu_chain.SHORT: 1}


def test_an_id_twice_in_a_frame() -> None:
    with pytest.raises(BrokenFile, match="found ID 5 twice") as caught:
        standard_chain(recorded(Recorded(5, 0, figure(3)), Recorded(5, 2, figure(1))))
    assert caught.value.line == 1 + 2 * 28 + 1 + 27 + 1
