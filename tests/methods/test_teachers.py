"""The EMA teacher: what it keeps per step, what it follows, what it never does."""

from __future__ import annotations

import math

import pytest
import torch

from methods.parts.encoder import SkeletonEncoder
from methods.parts.teachers import Shape, Teacher, published_follows
from tests.methods.made_up import encoder, motion

PUBLISHED_STEPS = 251_200


def pair(follows: float = 12.56, shape: Shape = "linear") -> tuple[SkeletonEncoder, Teacher]:
    """A student and its teacher; the student has moved on by 1 in every weight."""
    student = encoder()
    teacher = Teacher(student, follows, shape)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    return student, teacher


def moved(teacher: Teacher) -> float:
    """How far the teacher's first weight is from where it started; the student is at 1."""
    start = encoder().patch_embed.weight[0, 0]
    return float((teacher.encoder.patch_embed.weight[0, 0] - start).item())


def test_published_follows_by_hand() -> None:
    assert published_follows(0.9999, PUBLISHED_STEPS) == pytest.approx(12.56)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_at_the_published_length_the_decay_is_the_published_one(shape: Shape) -> None:
    teacher = Teacher(encoder(), published_follows(0.9999, PUBLISHED_STEPS), shape)
    step = 1 / PUBLISHED_STEPS
    assert teacher.decay(0.0, step) == pytest.approx(0.9999, abs=1e-8)
    assert teacher.decay(0.5, step) == pytest.approx(0.99995, abs=1e-8)
    assert teacher.decay(1.0, step) == 1.0


@pytest.mark.parametrize("shape", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [10, 1000])
def test_whatever_the_number_of_steps_the_teacher_follows_for_as_many_time_constants(
    shape: Shape, steps: int
) -> None:
    teacher = Teacher(encoder(), follows=2.0, shape=shape)
    kept = math.prod(teacher.decay(step / steps, 1 / steps) for step in range(1, steps + 1))
    assert -math.log(kept) == pytest.approx(2.0, rel=1.1 / steps)


def test_one_step_by_hand() -> None:
    student, teacher = pair(follows=2.0)
    teacher.follow(student, 0.25)  # rate 2 * 2 * (1 - 0.25), over a quarter of the budget
    assert moved(teacher) == pytest.approx(1 - math.exp(-0.75), rel=1e-5)


def test_a_step_is_as_long_as_the_progress_since_the_last_one() -> None:
    student, teacher = pair(follows=2.0)
    teacher.follow(student, 0.25)
    teacher.follow(student, 0.5)
    assert moved(teacher) == pytest.approx(1 - math.exp(-0.75 - 0.5), rel=1e-5)


def test_it_starts_as_the_student_is_and_shares_nothing_with_it() -> None:
    student = encoder()
    teacher = Teacher(student, 1.0, "linear")
    pairs = list(zip(student.parameters(), teacher.encoder.parameters(), strict=True))
    assert all(torch.equal(a, b) and a.data_ptr() != b.data_ptr() for a, b in pairs)


def test_it_is_frozen_and_always_in_eval_mode() -> None:
    teacher = Teacher(encoder(), 1.0, "linear")
    teacher.train()
    assert not teacher.encoder.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(tokens.requires_grad for tokens in teacher(motion(2)))


def test_a_teacher_on_the_meta_device_can_be_built_and_updated() -> None:
    with torch.device("meta"):
        student = encoder()
        Teacher(student, 1.0, "linear").follow(student, 0.5)
