"""What every registered method must do, whichever it is."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import Tensor

from harness.registry import Registry
from methods.base import About, Diagnosis, Method, MethodOptions
from methods.encoder import SkeletonEncoder
from tests.methods.made_up import encoder, motion

METHODS = Registry().methods
every_method = pytest.mark.parametrize("name", METHODS)


def build(name: str, joints: int = 5, seed: int = 0) -> Method:
    """The method with its default options on a small encoder."""
    made = encoder(joints=joints, seed=seed)
    return METHODS[name](made, METHODS[name].Options())


def loss_of(method: Method, x: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return method.loss(x)[0]


def train(method: Method, x: Tensor, steps: int) -> list[float]:
    """Losses of a few steps on one batch."""
    torch.manual_seed(0)
    optimiser = torch.optim.AdamW(method.parameters(), lr=3e-3)
    losses = []
    for step in range(steps):
        optimiser.zero_grad()
        loss, _ = method.loss(x)
        loss.backward()
        optimiser.step()
        method.after_step((step + 1) / steps)
        losses.append(loss.item())
    return losses


def test_the_three_first_methods_are_registered() -> None:
    assert {"gfp", "skeletonmae", "encoder-only"} <= METHODS.keys()


@every_method
def test_loss_is_one_finite_number_with_finite_parts(name: str) -> None:
    loss, parts = build(name).loss(motion(8))
    assert loss.shape == ()
    assert loss.isfinite()
    assert all(part.shape == () and part.isfinite() and not part.requires_grad for part in parts.values())


@every_method
def test_loss_falls_in_a_few_steps(name: str) -> None:
    losses = train(build(name), motion(16), steps=15)
    assert sum(losses[-3:]) / 3 < 0.95 * losses[0]


@every_method
def test_every_trained_parameter_gets_a_gradient(name: str) -> None:
    method = build(name)
    loss_of(method, motion(16)).backward()
    trained = {key: parameter.grad for key, parameter in method.named_parameters() if parameter.requires_grad}
    assert [key for key, gradient in trained.items() if gradient is None or not gradient.isfinite().all()] == []
    weights = {key: gradient for key, gradient in trained.items() if gradient is not None and gradient.ndim > 1}
    assert [key for key, gradient in weights.items() if not gradient.any()] == []


@every_method
def test_same_seed_same_loss(name: str) -> None:
    assert torch.equal(loss_of(build(name), motion(8), seed=3), loss_of(build(name), motion(8), seed=3))


@every_method
def test_another_mask_another_loss(name: str) -> None:
    method = build(name)
    assert not torch.equal(loss_of(method, motion(8), seed=3), loss_of(method, motion(8), seed=4))


@every_method
def test_the_batch_is_left_as_it_was(name: str) -> None:
    x = motion(8)
    build(name).loss(x)[0].backward()
    assert torch.equal(x, motion(8))


@every_method
@pytest.mark.parametrize("joints", [15, 20, 22, 25])
def test_works_for_every_layouts_joint_count(name: str, joints: int) -> None:
    loss = loss_of(build(name, joints), motion(4, joints))
    loss.backward()
    assert loss.isfinite()


@every_method
def test_evaluated_encoder_is_the_shared_architecture_before_and_after_training(name: str) -> None:
    method, expected = build(name), encoder().architecture
    assert method.evaluated_encoder().architecture == expected
    train(method, motion(8), steps=1)
    assert method.evaluated_encoder().architecture == expected


@every_method
def test_training_changes_the_evaluated_encoder(name: str) -> None:
    method, before = build(name), encoder().state_dict()
    train(method, motion(8), steps=2)
    after = method.evaluated_encoder().state_dict()
    assert [key for key, value in before.items() if torch.equal(after[key], value)] == []


@every_method
def test_building_a_method_leaves_the_encoder_as_the_seed_made_it(name: str) -> None:
    state, expected = build(name, seed=7).encoder.state_dict(), encoder(seed=7).state_dict()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


@every_method
def test_weights_travel_through_safetensors(name: str) -> None:
    method, other = build(name), build(name, seed=1)
    train(method, motion(8), steps=1)
    other.load_state_dict(safetensors.torch.load(safetensors.torch.save(method.state_dict())))
    assert torch.equal(loss_of(other, motion(8)), loss_of(method, motion(8)))


@every_method
def test_bf16_autocast_gives_nearly_the_same_loss(name: str) -> None:
    method = build(name)
    exact = loss_of(method, motion(16)).item()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss_of(method, motion(16))
    rounded.backward()
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact, rel=0.03)
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())


@every_method
def test_diagnosis_holds_finite_numbers(name: str) -> None:
    with torch.no_grad():
        diagnosis = build(name).diagnose(motion(8))
    assert isinstance(diagnosis, Diagnosis)
    assert all(isinstance(value, float) and abs(value) < 1e6 for value in diagnosis.values.values())


# --- metadata ---


@every_method
def test_a_report_finds_what_it_says_about_the_method(name: str) -> None:
    about = METHODS[name].about
    assert isinstance(about, About)
    assert all((about.title, about.paper, about.code))
    assert about.division in ("closed", "open")
    assert all(isinstance(text, str) and len(text) > 10 for text in (*about.deviations, *about.choices))


@every_method
def test_a_paper_names_its_arxiv_number_unless_the_method_is_a_control(name: str) -> None:
    about = METHODS[name].about
    assert ("arXiv" in about.paper) != about.control


@every_method
def test_options_are_typed_and_complete_without_any_given(name: str) -> None:
    options = METHODS[name].Options
    assert issubclass(options, MethodOptions)
    assert options() == options.model_validate({})


@every_method
def test_resolved_options_resolve_to_themselves(name: str) -> None:
    method = build(name)
    assert method.options.resolved(method.encoder) == method.options


@every_method
def test_unknown_options_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no_such_option"):
        METHODS[name].Options.model_validate({"no_such_option": 1})


@every_method
def test_the_docstring_says_what_it_is(name: str) -> None:
    assert METHODS[name].__doc__


@every_method
def test_the_encoder_is_the_one_it_was_given(name: str) -> None:
    method = build(name)
    assert isinstance(method.encoder, SkeletonEncoder)
    assert type(method.evaluated_encoder()) is SkeletonEncoder
