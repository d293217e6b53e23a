"""Batches: time resize, centring, absent bodies, crops, rotations, order,
and the ways frames are stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import DTypeLike
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from datasets import batches  # not its functions: pytest would collect `test_crops`
from datasets.batches import (
    Augmentation,
    BodySequences,
    Look,
    TrainingBatches,
    evaluation_batches,
    rotations,
)
from datasets.clips import ClipSet, present_bodies
from tests.datasets.made_up import LENGTHS, clip_set, frames, resize_rounding

CPU = torch.device("cpu")
CENTER = 1  # the joint called spine
PLAIN = Augmentation(crop=(1.0, 1.0), min_crop=1, rotation=0.0)


def made_up(
    lengths: tuple[int, ...] = LENGTHS, bodies: int = 1, empty: tuple[tuple[int, int], ...] = ()
) -> ClipSet:
    """Random clips; ``empty`` lists (clip, body) pairs that are absent."""
    clips = replace(clip_set(lengths), joints=frames(sum(lengths), bodies))
    for clip, body in empty:
        clips.joints[clips.offsets[clip] : clips.offsets[clip + 1], body] = 0
    return clips


def whole(source: BodySequences, number: int) -> Tensor:
    """All frames of one body sequence, not resized, ``[T, V, 3]``."""
    length = source.length[number : number + 1]
    return source.window(torch.tensor([number]), torch.zeros_like(length), length, int(length))[0]


def resized(sequence: np.ndarray, count: int) -> Tensor:
    """PyTorch's own linear resize of ``[T, V, 3]``."""
    length, joints, _ = sequence.shape
    rows = torch.from_numpy(np.ascontiguousarray(sequence)).reshape(length, joints * 3).T[None]
    return nn.functional.interpolate(rows, size=count, mode="linear")[0].T.reshape(count, joints, 3)


def assert_resized(found: Tensor, sequence: np.ndarray) -> None:
    """``found`` is the resize of a sequence of random frames, but for rounding."""
    tolerance = resize_rounding(len(sequence))
    torch.testing.assert_close(found, resized(sequence, len(found)), rtol=0, atol=tolerance)


# --- time resize ---


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 100, 120, 121, 300])
@pytest.mark.parametrize("count", [24, 120])
def test_window_equals_interpolate(length: int, count: int) -> None:
    clips = made_up((length,))
    source = BodySequences(clips, CPU, center=False)
    found = source.window(torch.tensor([0]), torch.tensor([0]), torch.tensor([length]), count)
    assert_resized(found[0], clips.joints[:, 0])


def test_each_window_of_a_batch_equals_interpolate_of_its_own_frames() -> None:
    clips = made_up((40, 90, 7))
    source = BodySequences(clips, CPU, center=False)
    numbers, first, length = (
        torch.tensor([2, 0, 1, 1]),
        torch.tensor([1, 5, 0, 30]),
        torch.tensor([6, 20, 90, 33]),
    )
    found = source.window(numbers, first, length, 24)
    for row, number in enumerate(numbers.tolist()):
        start = int(clips.offsets[number] + first[row])
        assert_resized(found[row], clips.joints[start : start + int(length[row]), 0])


def test_window_by_hand() -> None:
    # 2 frames to 4: positions (i + 1/2) / 2 - 1/2 = -1/4 (held at 0), 1/4, 3/4, 5/4 (held at 1)
    clips = made_up((2,))
    clips.joints[0], clips.joints[1] = 8, 16
    source = BodySequences(clips, CPU, center=False)
    found = source.window(torch.tensor([0]), torch.tensor([0]), torch.tensor([2]), 4)
    assert found[0, :, 0, 0].tolist() == [8, 10, 14, 16]


def test_window_of_its_own_length_is_the_clip() -> None:
    clips = made_up()
    source = BodySequences(clips, CPU, center=False)
    for number in range(len(source)):
        assert np.array_equal(whole(source, number).numpy(), clips.clip(number)[:, 0])


def test_window_never_reads_the_next_clip() -> None:
    clips = made_up((3, 4))
    clips.joints[3:] = np.nan
    source = BodySequences(clips, CPU, center=False)
    found = source.window(torch.tensor([0]), torch.tensor([0]), torch.tensor([3]), 50)
    assert found.isfinite().all()


# --- centring ---


def test_centring_puts_the_first_bodys_centre_joint_at_zero_in_the_first_frame() -> None:
    source = BodySequences(made_up(), CPU)
    for number in range(len(source)):
        assert not whole(source, number)[0, CENTER].any()


def test_centring_subtracts_one_point_from_the_whole_clip() -> None:
    clips = made_up()
    source = BodySequences(clips, CPU)
    for number in range(len(source)):
        frame = clips.clip(number)[:, 0]
        assert np.array_equal(whole(source, number).numpy(), frame - frame[0, CENTER])


def test_two_bodies_of_a_clip_share_the_origin() -> None:
    clips = made_up(bodies=2)
    source = BodySequences(clips, CPU)
    assert source.clip[4:6].tolist() == [2, 2]
    first, second = (whole(source, number).numpy() for number in (4, 5))
    origin = clips.clip(2)[0, 0, CENTER]
    assert np.array_equal(first, clips.clip(2)[:, 0] - origin)
    assert np.array_equal(second, clips.clip(2)[:, 1] - origin)


def test_origin_is_of_the_second_body_when_the_first_is_absent() -> None:
    clips = made_up(bodies=2, empty=((2, 0),))
    source = BodySequences(clips, CPU)
    number = source.of_clips(np.array([2]))
    assert number.tolist() == [4]
    assert np.array_equal(
        whole(source, 4).numpy(), clips.clip(2)[:, 1] - clips.clip(2)[0, 1, CENTER]
    )


def test_origin_is_of_the_first_frame_that_the_body_is_in() -> None:
    clips = made_up()
    clips.joints[clips.offsets[2]] = 0
    found = whole(BodySequences(clips, CPU), 2)
    assert not found[1, CENTER].any()
    assert np.array_equal(found[1:].numpy(), clips.clip(2)[1:, 0] - clips.clip(2)[1, 0, CENTER])


def test_frames_that_a_body_is_absent_from_stay_zero() -> None:
    clips = made_up()
    clips.joints[clips.offsets[2] + 1] = 0
    found = whole(BodySequences(clips, CPU), 2)
    assert not found[1].any()
    assert found[[0, 2, 3]].any(dim=(1, 2)).all()


def test_a_single_joint_at_the_cameras_origin_is_not_an_absence() -> None:
    clips = made_up()
    clips.joints[clips.offsets[2] + 1, 0, 3] = 0
    found = whole(BodySequences(clips, CPU), 2)
    assert np.array_equal(found[1, 3].numpy(), -clips.clip(2)[0, 0, CENTER])


# --- bodies ---

EMPTY = ((0, 1), (2, 1), (3, 0))


def test_absent_bodies_are_not_batched() -> None:
    source = BodySequences(made_up(bodies=2, empty=EMPTY), CPU)
    assert source.clip.tolist() == [0, 1, 1, 2, 3, 4, 4, 5, 5]
    assert source.length.tolist() == [3, 2, 2, 4, 1, 3, 3, 2, 2]
    assert len(source) == 9


def test_a_clip_without_any_body_is_not_batched() -> None:
    source = BodySequences(made_up(bodies=2, empty=((3, 0), (3, 1))), CPU)
    assert source.clip.unique().tolist() == [0, 1, 2, 4, 5]


def test_a_body_seen_in_one_frame_is_batched_with_all_frames_of_the_clip() -> None:
    clips = made_up(bodies=2, empty=((2, 1),))
    clips.joints[clips.offsets[2] + 2, 1, 4, 2] = 1
    source = BodySequences(clips, CPU)
    assert source.length[source.of_clips(np.array([2]))].tolist() == [4, 4]


def test_absent_bodies_are_batched_as_zeros_when_asked_for() -> None:
    source = BodySequences(made_up(bodies=2, empty=EMPTY), CPU, include_empty=True)
    assert len(source) == 12
    zero = [number for number in range(12) if not whole(source, number).any()]
    assert zero == [1, 5, 6]


@pytest.mark.parametrize(("include_empty", "absent"), [(False, []), (True, [1, 5, 6])])
def test_batched_bodies_tell_whether_they_are_present(
    include_empty: bool, absent: list[int]
) -> None:
    source = BodySequences(made_up(bodies=2, empty=EMPTY), CPU, include_empty=include_empty)
    assert len(source.present) == len(source)
    assert (~source.present).nonzero().squeeze(1).tolist() == absent


def test_body_sequences_of_clips() -> None:
    source = BodySequences(made_up(bodies=2, empty=EMPTY), CPU)
    assert source.of_clips(np.array([4, 1])).tolist() == [1, 2, 5, 6]


def test_present_bodies_by_hand() -> None:
    found = present_bodies(made_up(bodies=2, empty=EMPTY))
    assert found.tolist() == [
        [True, False],
        [True, True],
        [True, False],
        [False, True],
        [True, True],
        [True, True],
    ]


# --- crops ---


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_crops_stay_inside() -> None:
    length = torch.randint(1, 301, (5000,), generator=generator(1))
    first, kept = batches.random_crops(length, Augmentation(), generator())
    assert (first >= 0).all()
    assert (kept >= 1).all()
    assert (first + kept <= length).all()


def test_random_crops_keep_short_clips_whole() -> None:
    length = torch.arange(1, 65).repeat(10)
    first, kept = batches.random_crops(length, Augmentation(min_crop=64), generator())
    assert torch.equal(kept, length)
    assert not first.any()


def test_random_crops_are_never_shorter_than_the_shortest() -> None:
    length = torch.full((1000,), 80)
    _, kept = batches.random_crops(length, Augmentation(min_crop=64), generator())
    assert (kept.min().item(), kept.max().item()) == (64, 79)


def test_random_crops_keep_a_uniform_share() -> None:
    length = torch.full((4000,), 300)
    _, kept = batches.random_crops(length, Augmentation(crop=(0.5, 1.0)), generator())
    assert 150 <= kept.min() < 153
    assert 297 < kept.max() <= 300
    assert kept.float().mean().item() == pytest.approx(225, abs=3)
    assert (kept < 225).float().mean().item() == pytest.approx(0.5, abs=0.04)


def test_the_kept_length_is_rounded_down() -> None:
    _, kept = batches.random_crops(
        torch.tensor([10]), Augmentation(crop=(0.59, 0.59), min_crop=1), generator()
    )
    assert kept.tolist() == [5]


def test_a_crop_starts_anywhere_with_the_same_probability() -> None:
    augmentation = Augmentation(crop=(0.5, 0.5), min_crop=1)
    first, kept = batches.random_crops(torch.full((6000,), 10), augmentation, generator())
    assert kept.unique().tolist() == [5]
    counts = torch.bincount(first)
    assert len(counts) == 6
    assert ((counts - 1000).abs() < 4 * (6000 * 1 / 6 * 5 / 6) ** 0.5).all()


@pytest.mark.parametrize(
    ("length", "first", "kept"),
    [(100, 2, 96), (10, 0, 10), (1, 0, 1), (39, 0, 39), (40, 1, 38), (300, 7, 286)],
)
def test_test_crop_by_hand(length: int, first: int, kept: int) -> None:
    found = batches.test_crops(torch.tensor([length]))
    assert [part.item() for part in found] == [first, kept]


def test_test_crop_drops_what_the_published_feeder_drops() -> None:
    length = torch.arange(1, 2001)
    dropped, _ = batches.test_crops(length)
    assert dropped.tolist() == [int(0.05 * n / 2) for n in length.tolist()]


# --- rotations ---


def test_rotations_are_orthonormal_and_proper() -> None:
    found = rotations(3 * torch.randn(50, 3, generator=generator(), dtype=torch.float64))
    torch.testing.assert_close(
        found @ found.mT, torch.eye(3, dtype=torch.float64).expand(50, -1, -1)
    )
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize(
    ("axis", "matrix"),
    [
        (0, [[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
        (1, [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
        (2, [[0, -1, 0], [1, 0, 0], [0, 0, 1]]),
    ],
)
def test_a_quarter_turn_by_hand(axis: int, matrix: list[list[int]]) -> None:
    angles = torch.zeros(1, 3, dtype=torch.float64)
    angles[0, axis] = torch.pi / 2
    torch.testing.assert_close(rotations(angles)[0], torch.tensor(matrix, dtype=torch.float64))


def test_rotations_turn_about_x_then_y_then_z() -> None:
    angles = torch.randn(20, 3, generator=generator(), dtype=torch.float64)
    expected = Rotation.from_euler(
        "xyz", angles.numpy()
    ).as_matrix()  # lower case: fixed axes, R_z R_y R_x
    np.testing.assert_allclose(rotations(angles).numpy(), expected, atol=1e-12)


# --- training batches ---


def training(
    source: BodySequences,
    size: int,
    augmentation: Augmentation = PLAIN,
    seed: int = 0,
    numbers: Tensor | None = None,
) -> TrainingBatches:
    chosen = torch.arange(len(source)) if numbers is None else numbers
    return TrainingBatches(source, chosen, size=size, looks=[Look(8, augmentation)], seed=seed)


def numbered(count: int) -> BodySequences:
    """Sequences whose every coordinate is their number plus one,
    so that a batch tells what is in it.
    """
    lengths = tuple(range(1, count + 1))
    clips = made_up(lengths)
    clips.joints[:] = np.repeat(np.arange(count) + 1, lengths)[:, None, None, None]
    return BodySequences(clips, CPU, center=False)


def drawn(stream: TrainingBatches, count: int) -> list[int]:
    """Numbers of the sequences in the next ``count`` batches."""
    return [round(value) - 1 for _ in range(count) for value in stream.next()[:, 0, 0, 0].tolist()]


def test_an_epoch_sees_each_sequence_once_even_across_batches() -> None:
    order = drawn(training(numbered(7), size=3), 7)
    epochs = [order[:7], order[7:14], order[14:]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3


def test_every_epoch_has_another_order() -> None:
    order = drawn(training(numbered(20), size=20), 3)
    assert len({tuple(order[start : start + 20]) for start in (0, 20, 40)}) == 3


def test_only_the_given_sequences_are_drawn() -> None:
    order = drawn(training(numbered(7), size=2, numbers=torch.tensor([1, 4, 6])), 3)
    assert sorted(order) == [1, 1, 4, 4, 6, 6]


def test_a_batch_keeps_its_size_when_there_are_fewer_sequences() -> None:
    stream = training(numbered(2), size=5)
    order = drawn(stream, 2)
    assert [sorted(order[start : start + 2]) for start in range(0, 10, 2)] == [[0, 1]] * 5


def test_batches_have_the_asked_shape() -> None:
    source = BodySequences(made_up(bodies=2), CPU)
    assert training(source, size=5, augmentation=Augmentation()).next().shape == (5, 8, 5, 3)


def test_same_seed_same_batches() -> None:
    source = BodySequences(made_up((90, 100, 110)), CPU)
    one, two = (training(source, size=2, augmentation=Augmentation(), seed=3) for _ in range(2))
    assert all(torch.equal(one.next(), two.next()) for _ in range(4))


def test_global_random_state_does_not_matter_and_is_left_alone() -> None:
    source = BodySequences(made_up((90, 100, 110)), CPU)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = training(source, size=2, augmentation=Augmentation(), seed=3).next()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(training(source, size=2, augmentation=Augmentation(), seed=3).next(), one)


@pytest.mark.parametrize(
    "augmentation",
    [PLAIN, replace(PLAIN, rotation=0.3), replace(PLAIN, crop=(0.5, 1.0))],
    ids=["order", "rotation", "crop"],
)
def test_another_seed_other_batches(augmentation: Augmentation) -> None:
    source = BodySequences(made_up((90,) * 10), CPU)
    one, two = (
        training(source, size=10, augmentation=augmentation, seed=seed).next() for seed in (0, 1)
    )
    assert not torch.equal(one, two)


def test_without_augmentation_a_batch_holds_the_resized_clips() -> None:
    clips = made_up((9, 11))
    source = BodySequences(clips, CPU, center=False)
    batch = training(source, size=2).next()
    if (batch[0] - resized(clips.clip(0)[:, 0], 8)).abs().max() > 1:  # the order is random
        batch = batch.flip(0)
    for index, row in enumerate(batch):
        assert_resized(row, clips.clip(index)[:, 0])


def test_one_rotation_within_the_bounds_for_all_frames_and_joints_of_a_sequence() -> None:
    axes = torch.eye(3).expand(200, 8, 3, 3)  # three joints, one on each axis
    turned = batches.rotate(axes, torch.rand(200, 3, generator=generator()), 0.3)
    assert torch.equal(turned, turned[:, :1].expand_as(turned))
    angles = Rotation.from_matrix(turned[:, 0].mT.double().numpy()).as_euler("xyz")
    assert np.abs(angles).max() <= 0.3 + 1e-6
    assert (np.abs(angles).max(axis=0) > 0.28).all()
    assert np.abs(angles.mean(axis=0)).max() < 0.06


def test_two_bodies_of_a_clip_are_cropped_and_turned_apart() -> None:
    clips = made_up((60,), bodies=2)
    clips.joints[:, 1] = clips.joints[:, 0]
    source = BodySequences(clips, CPU)
    assert torch.equal(*training(source, size=2).next())
    for augmentation in (replace(PLAIN, rotation=0.3), replace(PLAIN, crop=(0.3, 0.6))):
        one, other = training(source, size=2, augmentation=augmentation).next()
        assert not torch.allclose(one, other, atol=1e-3)


def test_rotation_keeps_a_body_in_shape() -> None:
    source = BodySequences(made_up((90,) * 4), CPU)
    plain = training(source, size=4).next()
    turned = training(source, size=4, augmentation=replace(PLAIN, rotation=0.3)).next()
    bones = [x[:, :, 1:] - x[:, :, :-1] for x in (plain, turned)]
    torch.testing.assert_close(bones[0].norm(dim=-1), bones[1].norm(dim=-1))


# --- evaluation batches ---


@pytest.mark.parametrize("size", [1, 7, 11])
def test_evaluation_covers_each_sequence_once_in_order(size: int) -> None:
    source = BodySequences(made_up(bodies=2, empty=((0, 1),)), CPU)
    numbers = torch.cat([numbers for numbers, _ in evaluation_batches(source, size, 8)])
    assert numbers.tolist() == list(range(11))


@pytest.mark.parametrize("size", [1, 7])
def test_evaluation_does_not_depend_on_the_batch_size(size: int) -> None:
    source = BodySequences(made_up((50, 90, 100, 120, 7, 1, 40, 60, 41)), CPU)
    parts = torch.cat([batch for _, batch in evaluation_batches(source, size, 24)])
    ((_, at_once),) = evaluation_batches(source, 9, 24)
    # Kernels end a row of another length in other instructions: to rounding, of the longest clip.
    torch.testing.assert_close(parts, at_once, rtol=0, atol=resize_rounding(120))


def test_evaluation_reads_the_test_crop() -> None:
    clips = made_up((100,))
    ((_, batch),) = evaluation_batches(BodySequences(clips, CPU, center=False), 1, 24)
    assert_resized(batch[0], clips.joints[2:98, 0])


# --- how frames are stored ---


def all_batches(clips: ClipSet) -> list[Tensor]:
    """Augmented training batches and all evaluation batches."""
    source = BodySequences(clips, CPU)
    stream = training(source, size=4, augmentation=Augmentation(min_crop=2))
    return [
        *(stream.next() for _ in range(4)),
        *(batch for _, batch in evaluation_batches(source, 3, 8)),
    ]


def mapped(folder: Path, clips: ClipSet, order: Literal["C", "F"] = "C") -> ClipSet:
    """The clips with their frames mapped read-only from a file, as `read_npz` maps large ones."""
    np.save(folder / "joints.npy", np.asarray(clips.joints, order=order))
    joints = np.load(folder / "joints.npy", mmap_mode="r")
    assert isinstance(joints, np.memmap)
    return replace(clips, joints=joints)


def test_half_precision_frames_give_the_batches_of_their_values() -> None:
    half = replace(made_up(bodies=2), joints=frames(15, 2).astype(np.float16))
    full = replace(half, joints=half.joints.astype(np.float32))
    found, expected = all_batches(half), all_batches(full)
    assert all(batch.dtype == torch.float32 for batch in found)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("bodies", "empty"), [(1, ()), (2, ()), (2, EMPTY)], ids=["one", "two", "some-absent"]
)
def test_mapped_frames_give_the_same_batches(
    tmp_path: Path, bodies: int, empty: tuple[tuple[int, int], ...], dtype: DTypeLike
) -> None:
    clips = made_up(bodies=bodies, empty=empty)
    clips = replace(clips, joints=clips.joints.astype(dtype))
    found, expected = all_batches(mapped(tmp_path, clips)), all_batches(clips)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_mapped_frames_stay_mapped(tmp_path: Path) -> None:
    clips = mapped(tmp_path, made_up(bodies=2))
    assert np.shares_memory(BodySequences(clips, CPU).rows.numpy(), clips.joints)


@pytest.fixture
def _every_warning() -> Iterator[None]:
    """PyTorch gives some warnings once a process; here they must not depend on the tests before."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("_every_warning")
def test_mapped_frames_give_no_warning(tmp_path: Path) -> None:
    BodySequences(mapped(tmp_path, made_up()), CPU)


# --- several views ---


def test_every_view_is_of_the_same_sequences_and_drawn_for_itself() -> None:
    source = numbered(6)
    looks = [Look(8, PLAIN), Look(4, replace(PLAIN, rotation=0.5))]
    found = TrainingBatches(source, torch.arange(6), size=4, looks=looks, seed=0).next()
    assert isinstance(found, tuple)
    whole, turned = found
    assert (whole.shape[1], turned.shape[1]) == (8, 4)
    torch.testing.assert_close(whole.norm(dim=-1)[:, 0], turned.norm(dim=-1)[:, 0])
    assert not torch.allclose(whole[:, :4], turned)


def test_the_first_view_is_drawn_as_if_it_were_the_only_one() -> None:
    one = training(numbered(6), 4).next()
    several = TrainingBatches(
        numbered(6), torch.arange(6), size=4, looks=[Look(8, PLAIN), Look(8, PLAIN)], seed=0
    ).next()
    assert torch.equal(one, several[0])
