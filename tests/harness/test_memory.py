"""Peak memory of a step, and the largest batch under a cap."""

from __future__ import annotations

import pytest
import torch

from harness.speed.memory import largest_batch, peak_step_bytes, resident_bytes
from harness.training.clock import StepClock
from harness.training.data import LoadedData
from tests.harness.small_run import CPU, small_data, small_trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> LoadedData:
    return small_data(tmp_path_factory.mktemp("memory"))


def test_resident_bytes_are_weights_and_the_two_moments_of_adam(data: LoadedData) -> None:
    trainer = small_trainer(data, "encoder-only")
    weights = 4 * trainer.method.encoder.parameter_count
    assert resident_bytes(trainer) == weights
    trainer.run_block(1, StepClock(CPU))
    tensors = len(list(trainer.method.parameters()))
    assert resident_bytes(trainer) == 3 * weights + 4 * tensors  # and a step counter per tensor


def test_peak_memory_holds_what_is_resident_and_grows_with_the_batch(data: LoadedData) -> None:
    small, large = (small_trainer(data, batch_size=size) for size in (4, 32))
    for trainer in (small, large):
        trainer.run_block(1, StepClock(CPU))
    peaks = [peak_step_bytes(trainer) for trainer in (small, large)]
    assert resident_bytes(small) == resident_bytes(large) < peaks[0]
    assert peaks[1] > 3 * peaks[0]


def test_under_cuda_graphs_a_step_says_nothing_about_memory(data: LoadedData) -> None:
    trainer = small_trainer(data)
    trainer.train = trainer.train.model_copy(update={"cuda_graphs": True})
    assert peak_step_bytes(trainer) is None


# --- the largest batch ---


@pytest.mark.parametrize(
    ("cap", "expected"),
    [
        (100 + 10 * 200, 200),
        (100 + 10 * 207, 200),
        (100 + 10 * 8, 8),
        (100 + 10 * 15, 8),
        (1e9, 4096),
    ],
)
def test_on_a_straight_line_the_largest_batch_is_found(cap: float, expected: int) -> None:
    assert largest_batch(lambda size: 100 + 10 * size, cap) == expected


def test_memory_that_grows_faster_lowers_the_batch_until_it_fits() -> None:
    found = largest_batch(
        lambda size: size * size, 10_000.0
    )  # 96 is the last multiple of 8 below 100
    assert found % 8 == 0
    assert 88 <= found <= 96


def test_memory_that_grows_slower_is_worth_a_second_look() -> None:
    """The line through 8 and 16 is ten times as steep as what follows."""
    tried = []

    def peak(size: int) -> int:
        tried.append(size)
        return 100 * min(size, 16) + 10 * max(0, size - 16)

    assert largest_batch(peak, 4000.0) > 40  # what the first line predicts
    assert len(tried) == 4


def test_running_out_of_memory_counts_as_over_the_cap() -> None:
    def peak(size: int) -> int:
        if size > 50:
            raise torch.OutOfMemoryError
        return 10 * size

    assert 40 <= largest_batch(peak, 1000.0) <= 48


def test_a_cap_below_the_smallest_batch_is_an_error() -> None:
    with pytest.raises(
        MemoryError, match=r"a step of 8 body sequences takes 2\.00 GB, over the cap"
    ):
        largest_batch(lambda size: 2_000_000_000, 1e9)
