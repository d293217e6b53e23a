"""`data show`: the tokens that are coloured are those that the method sees,
and the reconstruction is its own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from datasets.formats.npz import write_npz
from harness.conformance.specimen import Specimen, batch
from harness.errors import UsageError
from harness.pictures import drawing
from harness.pictures.show import body_sequences, mask_of, reconstruction, show, visible_tokens
from harness.records.store import ENCODER_FILE, METHOD_FILE, RecordStore
from harness.studies.verify import verify
from methods.amr import AMR
from methods.base import Method
from methods.parts.masks import motion_aware_mask
from methods.parts.tokens import take
from methods.skeletonmae import SkeletonMAE
from tests.harness.small_run import (
    SMALL,
    harness,
    registry,
    run_small_cell,
    small_cell,
    small_clips,
    small_data,
    small_file,
)

METHODS = sorted(registry().methods)


def seen_by(method: Method, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return visible_tokens(method, batch()[:2])


# --- masks ---


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_what_it_sees(name: str) -> None:
    method = Specimen(registry().method(name)).build()
    seen = seen_by(method)
    assert seen.dtype == torch.bool
    assert (len(seen), seen.shape[2]) == (2, 25)
    assert 24 % seen.shape[1] == 0
    share = seen.float().mean().item()
    ratio = getattr(method.options, "mask_ratio", None)
    assert (1 - ratio) * 0.75 < share <= 1 - ratio if ratio else 0.5 < share < 1
    assert torch.equal(seen, seen_by(method))
    assert not torch.equal(seen, seen_by(method, seed=1))


def test_the_mask_is_the_one_that_the_loss_draws() -> None:
    method = Specimen(registry().method("mamp")).build()
    x = torch.cat([batch()[:2]] * 2)
    torch.manual_seed(0)
    mask = motion_aware_mask(x, method.encoder.grid, 0.9, 0.8)
    expected = torch.zeros(4, method.encoder.grid.tokens, dtype=torch.bool).scatter(
        1, mask.visible, True
    )
    assert torch.equal(seen_by(method).flatten(1), expected[:2])


def test_a_region_is_hidden_in_all_its_time_steps() -> None:
    seen = seen_by(Specimen(registry().method("skeletonmae-region")).build())
    assert (seen == seen[:, :1]).all()


def test_a_method_that_hides_nothing_is_refused() -> None:
    class Open(SkeletonMAE):
        def loss(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return self.encoder(x).mean(), {}

    with pytest.raises(UsageError, match="Open hides no tokens from the shared encoder"):
        seen_by(Specimen(Open).build())


def test_masks_and_flags_are_the_same_thing() -> None:
    seen = seen_by(Specimen(registry().method("skeletonmae")).build())
    mask = mask_of(seen)
    flags = seen.flatten(1).float().unsqueeze(-1)
    assert (take(flags, mask.visible) == 1).all()
    assert (take(flags, mask.masked) == 0).all()
    assert mask.visible.shape[1] + mask.masked.shape[1] == flags.shape[1]


# --- reconstructions ---


class Answer(nn.Module):
    """A decoder that says what it was told."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, *given: Tensor) -> Tensor:
        return self.answer


@pytest.mark.parametrize(
    ("name", "options"), [("skeletonmae", {}), ("skeletonmae", {"normalise": "clip"}), ("amr", {})]
)
def test_the_target_itself_gives_the_clip_back(name: str, options: dict[str, str]) -> None:
    method = Specimen(registry().method(name), options).build()
    assert isinstance(method, SkeletonMAE | AMR)
    x, mask = batch()[:2], mask_of(seen_by(method))
    method.decoder = Answer(method.targets(x))  # type: ignore[assignment]
    made = method.reconstruct(x, mask)
    torch.testing.assert_close(made, x, rtol=0, atol=1e-5)


def test_visible_tokens_stay_as_they_are_and_masked_ones_do_not() -> None:
    method = Specimen(registry().method("skeletonmae")).build()
    x, seen = batch()[:2], seen_by(method)
    made = reconstruction(method, x, seen)
    assert made is not None
    visible = seen.repeat_interleave(4, dim=1)
    assert torch.equal(made[visible], x[visible])
    assert (made[~visible] != x[~visible]).any(dim=-1).float().mean() > 0.99


@pytest.mark.parametrize(
    ("name", "options"), [("mamp", {}), ("gfp", {}), ("amr", {"target": "motion"})]
)
def test_methods_that_predict_other_things_reconstruct_nothing(
    name: str, options: dict[str, str]
) -> None:
    method = Specimen(registry().method(name), options).build()
    assert reconstruction(method, batch()[:2], seen_by(method)) is None


# --- clips ---


def test_every_present_body_is_shown() -> None:
    clips = small_clips(bodies=2)
    subjects = clips.columns["subject"]
    assert body_sequences(clips, int((subjects == 2).argmax()), 24).shape == (2, 24, 5, 3)
    assert body_sequences(clips, int((subjects == 1).argmax()), 24).shape == (1, 24, 5, 3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_file(tmp_path_factory.mktemp("data"))


def size_of(path: Path) -> tuple[int, int]:
    """Frames and width of an animation."""
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1), image.width


def test_a_clip_is_shown_as_it_is(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "clip.gif"
    lines = show(str(data), out, clip=3)
    assert lines[0].startswith("wave   ")
    assert lines[-1] == f"wrote {out}"
    assert size_of(out) == (small_clips().lengths[3], 340)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Animations of at most six frames."""
    monkeypatch.setattr(drawing, "MOST_FRAMES", 6)


@pytest.mark.usefixtures("brief")
def test_masks_are_shown_without_a_reconstruction_unless_trained(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "clip.gif"
    lines = show(str(data), out, method="skeletonmae:mask_ratio=0.75", registry=registry())
    assert "skeletonmae:mask_ratio=0.75: 22 of 90 tokens visible (24.4%)" in lines
    assert any(line.startswith("no reconstruction without a trained decoder") for line in lines)
    assert size_of(out) == (6, 340)
    lines = show(str(data), out, method="skeletonmae:mask_ratio=0.75", train=1, registry=registry())
    assert any(line.startswith("reconstruction: masked tokens as predicted") for line in lines)
    assert size_of(out) == (6, 680)


@pytest.mark.usefixtures("brief")
def test_a_run_is_shown_with_what_it_kept(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    loaded = small_data(tmp_path / "data")
    cell = small_cell(loaded)
    record = run_small_cell(cell, loaded, tmp_path / "runs")
    folder, file = tmp_path / "runs" / record.address, loaded.spec.name
    lines = show(file, tmp_path / "clip.gif", run=folder, registry=registry())
    assert any(line.startswith("skeletonmae: ") and "of 30 tokens" in line for line in lines)
    assert size_of(tmp_path / "clip.gif") == (6, 340)
    assert (METHOD_FILE in record.weights, (folder / METHOD_FILE).exists()) == (False, False)
    run_small_cell(cell, loaded, tmp_path / "runs", keep_decoder=True)
    show(file, tmp_path / "clip.gif", run=folder, registry=registry())
    assert size_of(tmp_path / "clip.gif") == (6, 680)
    with pytest.raises(UsageError, match=r"--method gfp: the run .* is of skeletonmae"):
        show(file, tmp_path / "clip.gif", method="gfp", run=folder, registry=registry())
    with pytest.raises(
        UsageError, match=r"expected weights for the 25 joints of synthetic, found others"
    ):
        show("synthetic", tmp_path / "clip.gif", run=folder, registry=registry())


def test_a_kept_decoder_is_of_the_evaluation_that_counts(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    loaded = small_data(tmp_path / "data")
    record = run_small_cell(small_cell(loaded), loaded, tmp_path / "runs", keep_decoder=True)
    folder = tmp_path / "runs" / record.address
    encoder, whole = load_file(folder / ENCODER_FILE), load_file(folder / METHOD_FILE)
    assert encoder
    assert all(torch.equal(whole[f"encoder.{name}"], value) for name, value in encoder.items())
    assert any(name.startswith("decoder.") for name in whole)
    (checked,) = (check for check in verify(tmp_path / "runs") if check.name == "weights")
    assert (checked.of, checked.differences) == ("2 files", [])


def test_another_decoder_than_the_runs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    loaded = small_data(tmp_path / "data")
    record = run_small_cell(small_cell(loaded), loaded, tmp_path / "runs", keep_decoder=True)
    path = tmp_path / "runs" / record.address / METHOD_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(
        UsageError, match=r"method\.safetensors beside it is not the one it was written with"
    ):
        show(loaded.spec.name, tmp_path / "clip.gif", run=path.parent, registry=registry())
    (checked,) = (check for check in verify(tmp_path / "runs") if check.name == "weights")
    assert METHOD_FILE in checked.differences[0]


def test_a_decoder_that_is_not_kept_any_more_goes(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    loaded = small_data(tmp_path / "data")
    for keep in (True, False):
        record = run_small_cell(small_cell(loaded), loaded, tmp_path / "runs", keep_decoder=keep)
        assert (tmp_path / "runs" / record.address / METHOD_FILE).exists() == keep
    assert RecordStore(tmp_path / "runs").run(record.address) == record


def test_a_run_keeps_its_decoder_where_it_is_asked_to(tmp_path: Path) -> None:
    command = (
        "run",
        *SMALL,
        "--dataset",
        small_file(tmp_path),
        "--methods",
        "skeletonmae",
        "--out",
        tmp_path / "out",
    )
    assert "--keep-decoder" not in harness(*command).out
    again = harness(*command, "--keep-decoder")
    assert again.code == 0
    assert "note: finished without --keep-decoder: skeletonmae, seed 0; see --rerun" in again.lines
    assert "note: finished" not in harness(*command, "--keep-decoder", "--rerun").out
    assert len([*(tmp_path / "out").glob("*/method.safetensors")]) == 1


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"clip": 18}, r"--clip 18: expected 0 to 17, the clips of small"),
        ({"clip": -1}, r"--clip -1: expected 0 to 17"),
        ({"method": "gpf"}, r"unknown method 'gpf', did you mean 'gfp'"),
        ({"method": "gfp,mamp"}, r"--method 'gfp,mamp': expected one method, found 2"),
        ({"method": "gfp:lambda=5"}, r"method gfp: unknown option 'lambda'"),
        ({"method": "gfp:windows=7"}, r"method gfp: windows=7: each count must"),
        ({"method": "gfp", "encoder": "huge"}, r"unknown encoder 'huge'"),
        (
            {"run": Path("nowhere")},
            r"--run nowhere: expected a finished run's folder with record.json",
        ),
    ],
)
def test_wishes_that_cannot_be_met_are_one_line(
    wish: dict[str, object], said: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        show(str(data), tmp_path / "clip.gif", registry=registry(), **wish)  # type: ignore[arg-type]
    assert not (tmp_path / "clip.gif").exists()


def test_damaged_weights_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    loaded = small_data(tmp_path / "data")
    record = run_small_cell(small_cell(loaded), loaded, tmp_path / "runs")
    folder = tmp_path / "runs" / record.address
    (folder / METHOD_FILE).write_bytes(b"not weights")
    with pytest.raises(
        UsageError, match=r"method.safetensors: not a safetensors file that can be read"
    ):
        show(loaded.spec.name, tmp_path / "clip.gif", run=folder, registry=registry())


def test_a_file_of_another_kind_cannot_be_shown(tmp_path: Path) -> None:
    write_npz(tmp_path / "good.npz", small_clips())
    (tmp_path / "bad.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:200])
    with pytest.raises(UsageError, match=r"bad\.npz"):
        show(str(tmp_path / "bad.npz"), tmp_path / "clip.gif")
