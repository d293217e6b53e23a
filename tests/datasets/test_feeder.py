"""The published feeder re-made: what a sample is, what a batch holds,
and where its worker processes go.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from datasets.batches import Augmentation, BodySequences, rotations
from datasets.clips import ClipSet
from datasets.errors import DataError
from datasets.published_feeder import (
    PADDED_FRAMES,
    FeederBatches,
    PaddedClips,
    PublishedClips,
    pad_clips,
    rotation_products,
)
from tests.datasets.made_up import clip_set, frames, resize_rounding

# From Python 3.12 on a fork after torch has started threads is a warning; the workers touch none of
# them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

CPU = torch.device("cpu")
PLAIN = Augmentation(crop=(1.0, 1.0), min_crop=1, rotation=0.0)
FRAMES = 24


def two_bodies(lengths: tuple[int, ...], absent: tuple[int, ...] = ()) -> ClipSet:
    """Random clips of two bodies; the second is not in the clips ``absent``."""
    clips = replace(clip_set(lengths), joints=frames(sum(lengths), bodies=2))
    for clip in absent:
        clips.joints[clips.offsets[clip] : clips.offsets[clip + 1], 1] = 0
    return clips


def numbered(count: int) -> ClipSet:
    """Clip n has n + 1 in every coordinate of its first body and 10 (n + 1) in its second."""
    clips = two_bodies((5,) * count)
    clips.joints[:, 0] = np.repeat(np.arange(count) + 1, 5)[:, None, None]
    clips.joints[:, 1] = 10 * clips.joints[:, 0]
    return clips


def dataset(
    clips: ClipSet, augmentation: Augmentation = PLAIN, *chosen: int, center: bool = True
) -> PaddedClips:
    rows = np.array(chosen or range(len(clips)))
    return PaddedClips(
        pad_clips(clips, rows, center=center), frames=FRAMES, augmentation=augmentation
    )


def on_device(clips: ClipSet, clip: int, first: int, length: int, *, center: bool = True) -> Tensor:
    """The same frames of both bodies from the suite's own batches, ``[2, T, V, 3]``."""
    source = BodySequences(clips, CPU, center=center, include_empty=True)
    numbers = source.of_clips(np.array([clip]))
    return source.window(
        numbers, torch.full_like(numbers, first), torch.full_like(numbers, length), FRAMES
    )


def close(one: Tensor, two: Tensor) -> None:
    """Equal but for the rounding of positions among up to 300 random frames."""
    torch.testing.assert_close(one, two, rtol=0, atol=resize_rounding(PADDED_FRAMES))


# --- padding ---


def test_clips_are_padded_with_zeros_to_300_frames_in_the_published_layout() -> None:
    clips = two_bodies((90, 40))
    padded = pad_clips(clips, np.array([1]), center=False)
    assert padded.shape == (1, 3, PADDED_FRAMES, 5, 2)
    assert np.array_equal(padded[0, :, :40], clips.clip(1).transpose(3, 0, 2, 1))
    assert not padded[0, :, 40:].any()


# --- one sample ---


@pytest.mark.parametrize("length", [1, 7, 24, 90, 300])
@pytest.mark.parametrize("center", [True, False])
def test_a_whole_clip_equals_the_device_path(length: int, center: bool) -> None:
    clips = two_bodies((11, length))
    close(dataset(clips, PLAIN, 1, center=center)[0], on_device(clips, 1, 0, length, center=center))


def test_rows_are_the_chosen_clips_in_their_order() -> None:
    clips = two_bodies((30, 40, 50))
    found = dataset(clips, PLAIN, 2, 0)
    assert len(found) == 2
    close(found[0], on_device(clips, 2, 0, 50))
    close(found[1], on_device(clips, 0, 0, 30))


def test_an_absent_body_stays_zero() -> None:
    clips = two_bodies((30, 40), absent=(1,))
    found = dataset(clips)[1]
    assert found[0].any(dim=(1, 2)).all()
    assert not found[1].any()
    close(found, on_device(clips, 1, 0, 40))


def test_a_body_that_leaves_for_some_frames_is_zero_in_them() -> None:
    clips = two_bodies((FRAMES,))
    clips.joints[5:9, 1] = 0
    found = dataset(clips)[0]
    assert (~found.any(dim=(2, 3))).nonzero().tolist() == [[1, 5], [1, 6], [1, 7], [1, 8]]
    close(found, on_device(clips, 0, 0, FRAMES))


def test_frames_after_the_300th_are_cut_off() -> None:
    clips = two_bodies((310,))
    close(dataset(clips)[0], on_device(clips, 0, 0, 300))


def test_a_crop_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # 100 frames, a share half-way between 0.5 and 1: 75 are kept; the last of the 26 starts is
    # frame 25.
    monkeypatch.setattr(np.random, "rand", lambda: 0.5)
    monkeypatch.setattr(np.random, "randint", lambda low, high: high - 1)
    clips = two_bodies((100,))
    found = dataset(clips, Augmentation(crop=(0.5, 1.0), min_crop=64, rotation=0.0))[0]
    close(found, on_device(clips, 0, 25, 75))


@pytest.mark.parametrize(("length", "kept"), [(100, 64), (40, 40)])
def test_a_crop_is_not_shorter_than_the_shortest(
    length: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np.random, "randint", lambda low, high: high - 1)
    clips = two_bodies((length,))
    found = dataset(clips, Augmentation(crop=(0.5, 0.5), min_crop=64, rotation=0.0))[0]
    close(found, on_device(clips, 0, length - kept, kept))


def test_crops_start_anywhere_and_keep_any_share() -> None:
    clips = two_bodies((100,))
    clips.joints[:] = np.arange(1, 101)[:, None, None, None]  # a frame tells its number
    cropped = dataset(clips, Augmentation(crop=(0.5, 1.0), min_crop=1, rotation=0.0), center=False)
    ends = [(float(x.min()), float(x.max())) for x in (cropped[0] for _ in range(200))]
    lengths = [high - low for low, high in ends]
    assert min(low for low, _ in ends) >= 1 - resize_rounding(100)
    assert max(high for _, high in ends) <= 100 + resize_rounding(100)
    assert 45 < min(lengths) < 52
    assert 92 < max(lengths) < 100
    assert len({low for low, _ in ends}) > 20


def test_both_bodies_turn_together_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # draws of 1/2 are no turn, 3/4 half the largest one: a quarter turn about z takes (x, y, z) to
    # (-y, x, z)
    monkeypatch.setattr(torch, "rand", lambda *size: torch.tensor([[0.5, 0.5, 0.75]]))
    clips = two_bodies((30,))
    x, y, z = on_device(clips, 0, 0, 30).unbind(-1)
    found = dataset(clips, replace(PLAIN, rotation=math.pi))[0]
    close(found, torch.stack((-y, x, z), dim=-1))


# --- by the operations of the released feeder ---


def published(clips: ClipSet, augmentation: Augmentation = PLAIN) -> PublishedClips:
    return PublishedClips(
        pad_clips(clips, np.arange(len(clips))), frames=FRAMES, augmentation=augmentation
    )


def drawn(clips: PaddedClips, row: int) -> Tensor:
    """The body sequences of one sample, drawn from fixed states."""
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    return clips.sequences(clips[row][None])


@pytest.mark.parametrize("augmentation", [PLAIN, Augmentation(min_crop=16)])
def test_the_released_operations_make_the_same_samples(augmentation: Augmentation) -> None:
    clips = two_bodies((30, 100, 300), absent=(1,))
    for row in range(3):
        close(drawn(published(clips, augmentation), row), drawn(dataset(clips, augmentation), row))


def test_a_released_sample_has_coordinates_first_and_lies_in_one_piece() -> None:
    sample = published(two_bodies((30,)))[0]
    assert sample.shape == (3, FRAMES, 5, 2)
    assert sample.is_contiguous()
    assert published(two_bodies((30,))).sequences(torch.stack([sample] * 4)).shape == (
        8,
        FRAMES,
        5,
        3,
    )


def test_a_released_sample_of_no_frame_is_zeros() -> None:
    nothing = two_bodies((30,))
    nothing.joints[:] = 0
    assert torch.equal(published(nothing)[0], torch.zeros(3, FRAMES, 5, 2))


def test_a_product_of_three_matrices_is_the_rotation() -> None:
    angles = torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0]])
    torch.testing.assert_close(rotation_products(angles), rotations(angles))


def test_released_batches_hold_both_bodies_of_a_clip_side_by_side() -> None:
    made = PublishedClips(
        pad_clips(numbered(4), np.arange(4), center=False), frames=FRAMES, augmentation=PLAIN
    )
    stream = FeederBatches(made, size=8, workers=1, device=CPU, seed=0)
    seen = stream.sample()
    assert seen.shape == (8, FRAMES, 5, 3)
    assert sorted(seen[0::2, 0, 0, 0].tolist()) == [1, 2, 3, 4]
    assert torch.equal(seen[1::2], 10 * seen[0::2])


# --- batches ---


def feeder(
    clips: ClipSet, size: int, *, seed: int = 0, augmentation: Augmentation = PLAIN
) -> FeederBatches:
    made = dataset(clips, augmentation, center=False)
    return FeederBatches(made, size=size, workers=1, device=CPU, seed=seed)


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    assert not multiprocessing.active_children()
    yield
    assert not multiprocessing.active_children()


def test_an_epoch_holds_every_clip_once_with_its_bodies_side_by_side() -> None:
    stream = feeder(numbered(4), size=4)
    with stream.flowing():
        batches = [stream.next() for _ in range(2)]
    assert [batch.shape for batch in batches] == [(4, FRAMES, 5, 3)] * 2
    seen = torch.cat(batches)[:, 0, 0, 0]
    assert sorted(seen[0::2].tolist()) == pytest.approx([1, 2, 3, 4])
    torch.testing.assert_close(seen[1::2], 10 * seen[0::2])


def test_batches_come_from_the_first_one_on() -> None:
    one, two = (feeder(numbered(8), size=4) for _ in range(2))
    loader = iter(one.loader)
    expected = [next(loader).flatten(0, 1) for _ in range(4)]
    del loader
    with two.flowing():
        assert all(torch.equal(two.next(), batch) for batch in expected)  # nothing is thrown away


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 3])
def test_the_lead_is_what_the_workers_prepare_ahead(workers: int) -> None:
    stream = FeederBatches(dataset(numbered(4)), size=4, workers=workers, device=CPU, seed=0)
    assert stream.loader.prefetch_factor == 2
    assert stream.lead == 2 * workers


def test_workers_live_only_while_batches_flow() -> None:
    stream = feeder(numbered(4), size=4)
    assert not multiprocessing.active_children()
    with stream.flowing():
        assert len(multiprocessing.active_children()) == 1
        stream.next()
        assert len(multiprocessing.active_children()) == 1
    assert not multiprocessing.active_children()


def test_workers_that_are_kept_rest_between_blocks_and_go_on_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "fork")
    stream, other = (feeder(numbered(8), size=4) for _ in range(2))
    stream.keep_workers()
    with other.flowing():
        expected = [other.next() for _ in range(4)]
    with stream.flowing():
        found = [stream.next(), stream.next()]
        assert stream.lead == 1  # drawn are as many as the workers prepare ahead
    (worker,) = multiprocessing.active_children()
    time.sleep(0.1)  # a sample that was begun is finished
    before = psutil.Process(worker.pid).cpu_times()
    time.sleep(0.3)
    assert psutil.Process(worker.pid).cpu_times() == before
    found.append(stream.next())  # outside a block too
    with stream.flowing():
        assert multiprocessing.active_children() == [worker]
        found.append(stream.next())
    assert all(map(torch.equal, found, expected))
    stream.end_workers()
    assert not multiprocessing.active_children()
    assert stream.lead == 2


@pytest.mark.skipif(not hasattr(os, "setpgid"), reason="no process groups")
def test_a_signal_to_the_whole_group_does_not_reach_a_worker() -> None:
    stream = feeder(numbered(4), size=4)
    with stream.flowing():
        stream.next()
        (worker,) = multiprocessing.active_children()
        assert os.getpgid(worker.pid or 0) == worker.pid


def test_workers_end_when_the_training_breaks_off() -> None:
    stream = feeder(numbered(4), size=4)

    def break_off() -> None:
        with stream.flowing():
            stream.next()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert not multiprocessing.active_children()


def test_a_batch_to_warm_up_with_leaves_no_worker() -> None:
    stream = feeder(numbered(4), size=8)
    found = stream.sample()
    assert found.shape == (8, FRAMES, 5, 3)
    assert sorted(found[0::2, 0, 0, 0].tolist()) == pytest.approx([1, 2, 3, 4])
    assert stream.stream is None


def test_the_seed_decides_order_crop_and_rotation_whatever_the_global_state() -> None:
    clips = two_bodies((90, 100, 110, 120))
    found = []
    for seed, state in ((3, 1), (3, 2), (4, 1)):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002 - the feeder draws from this stream in its workers
        stream = feeder(clips, size=8, seed=seed, augmentation=Augmentation())
        with stream.flowing():
            found.append(torch.stack([stream.next() for _ in range(2)]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0][0], found[0][1])


@pytest.mark.parametrize(
    "augmentation", [replace(PLAIN, crop=(0.5, 1.0)), replace(PLAIN, rotation=0.3)]
)
def test_a_clip_looks_different_in_the_next_epoch(augmentation: Augmentation) -> None:
    stream = feeder(two_bodies((90,)), size=2, augmentation=augmentation)
    with stream.flowing():
        assert not torch.equal(stream.next(), stream.next())


def test_a_batch_of_half_clips_is_an_error() -> None:
    with pytest.raises(DataError, match="batch size 5 is not a multiple of 2 bodies"):
        feeder(numbered(4), size=5)


def test_a_batch_of_more_clips_than_there_are_is_an_error() -> None:
    assert feeder(numbered(3), size=6).size == 6
    with pytest.raises(DataError, match="a batch of 4 clips needs as many training clips, found 3"):
        feeder(numbered(3), size=8)
