"""Trains MAMP's released linear probe and fine-tuning beside ours, step by step: losses and views
agree to rounding.

    git clone https://github.com/maoyunyao/MAMP ../MAMP
    python benchmarks/protocol_parity.py --mamp ../MAMP

The released `train_one_epoch` of engine_linprobe.py and of engine_finetune.py, its model, layer
decay and learning rates, against `linear-mamp` and `finetune`: the same weights, the same batches
of made-up clips of two bodies, and the same dropout and drop-path masks, on the CPU. Then its
feeder (feeder/feeder_ntu.py) beside ours on the same clips: crop and rotation by the same draws,
and the test view.

Exit codes: 0 all of it agrees; 1 something does not; 2 there is no released code.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import DropPath
from timm.loss import LabelSmoothingCrossEntropy
from torch import Tensor, nn

import harness  # noqa: F401 - makes its neighbours importable  # isort: split
from benchmarks.as_published import absent
from datasets.batches import BodySequences, crops, rotate, test_crops
from datasets.clip_batches import ClipBatch, ClipBodies
from datasets.clips import ClipSet
from datasets.layouts import NTU25
from harness.encoders.importing import converted
from harness.evaluation.epochs import Batches, published_augmentation
from harness.evaluation.probes import Labels
from harness.evaluation.protocol import Subject
from harness.evaluation.protocols.finetune import Classifier, Finetune, FinetuneOptions
from harness.evaluation.protocols.linear_mamp import LinearMamp, LinearMampOptions
from methods.parts.encoder import Encoder, EncoderSize, SkeletonEncoder

ROUNDING = 1e-4
"""How far two fp32 losses may be apart, relatively, after so many steps, and two coordinates of a
view: sums are taken in another order.
"""
EPOCHS, STEPS, WARMUP = 4, 5, 1
"""Twenty steps, with warm-up and cosine."""
CLIPS, BODIES, JOINTS, CLASSES = 6, 2, 25, 60
SIZE = EncoderSize(depth=8, width=64, heads=2, frames=24, patch=4)
DROPOUT = 0.3
"""Of tokens before the head, and the last block's drop path, as published."""
LENGTHS = (20, 63, 64, 65, 100, 127, 200, 299, 300)
"""Frames of the clips that both feeders read: shorter than the shortest crop,
up to all that a file holds.
"""
PADDED, WINDOW = 300, 120
"""Frames of a clip in the released files, and what its feeder resizes to."""


class Released:
    """The released code in a folder, with what it needs to run under today's versions."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        sys.modules["torch._six"] = types.SimpleNamespace(inf=math.inf)  # type: ignore[assignment] # gone from torch 2
        if not torch.cuda.is_available():
            torch.cuda.synchronize = lambda *_: None
        import engine_finetune
        import engine_linprobe
        import feeder.feeder_ntu
        import model.drop
        import model.transformer
        import util.lr_decay
        import util.misc

        self.network, self.drop_path = model.transformer.Transformer, model.drop.DropPath
        self.groups, self.scaler = (
            util.lr_decay.param_groups_lrd,
            util.misc.NativeScalerWithGradNormCount,
        )
        self.linear_epoch, self.finetune_epoch = (
            engine_linprobe.train_one_epoch,
            engine_finetune.train_one_epoch,
        )
        self.feeder = feeder.feeder_ntu.Feeder
        # numpy 2.4 makes no number of an array of one any more.
        feeder.tools.int = lambda number: int(np.asarray(number).item())

    def model(self, protocol: str, drop_path: float) -> Any:
        """Its network for a protocol."""
        return self.network(
            dim_in=3,
            num_classes=CLASSES,
            dim_feat=SIZE.width,
            depth=SIZE.depth,
            num_heads=SIZE.heads,
            mlp_ratio=4,
            num_frames=SIZE.frames,
            num_joints=JOINTS,
            patch_size=1,
            t_patch_size=SIZE.patch,
            qkv_bias=True,
            drop_path_rate=drop_path,
            protocol=protocol,
        )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Neither what the released code prints nor that its names are deprecated."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- the same batches, and the same masks ---


@dataclass
class MadeUp:
    """Batches of clips of two bodies with labels, the same whenever they are asked for."""

    made: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    given: int = 0

    def __post_init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        for _ in range(EPOCHS * STEPS):
            x = torch.randn(CLIPS * BODIES, SIZE.frames, JOINTS, 3, generator=random)
            self.made.append((x, torch.randint(CLASSES, (CLIPS,), generator=random)))

    @property
    def labels(self) -> Labels:
        """Of all clips, numbered through."""
        return torch.cat([labels for _, labels in self.made]).numpy()

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return STEPS

    def epoch(self) -> Iterator[ClipBatch]:
        """The next epoch's, as ours take them."""
        for _ in range(STEPS):
            clips = torch.arange(CLIPS) + self.given * CLIPS
            row = torch.arange(CLIPS).repeat_interleave(BODIES)
            yield ClipBatch(
                clips, self.made[self.given][0], row, torch.arange(BODIES).repeat(CLIPS)
            )
            self.given += 1

    def released(self, epoch: int) -> list[tuple[Tensor, Tensor, int]]:
        """An epoch's as the released loop takes them: samples ``[N, 3, T, V, M]``,
        labels, numbers.
        """
        some = self.made[epoch * STEPS : (epoch + 1) * STEPS]
        return [
            (x.unflatten(0, (CLIPS, BODIES)).permute(0, 4, 2, 3, 1), labels, 0)
            for x, labels in some
        ]


class SameMasks:
    """Makes dropout and drop path of a model draw by the place in the forward pass,
    whoever's model it is.
    """

    def __init__(self, model: nn.Module, drop_path: type[DropPath]) -> None:
        self.calls = 0
        for module in model.modules():
            if isinstance(module, drop_path):
                vars(module)["forward"] = self.masked(float(module.drop_prob), paths=True)
            elif isinstance(module, nn.Dropout) and module.p:
                vars(module)["forward"] = self.masked(module.p, paths=False)

    def masked(self, rate: float, *, paths: bool) -> Callable[[Tensor], Tensor]:
        """A forward function; a path is kept or dropped whole."""

        def forward(x: Tensor) -> Tensor:
            random = torch.Generator().manual_seed(self.calls)
            self.calls += 1
            count = len(x) if paths else x.numel()
            kept = (torch.rand(count, generator=random) >= rate).to(x.dtype) / (1 - rate)
            return x * (kept.view(-1, *[1] * (x.ndim - 1)) if paths else kept.view(x.shape))

        return forward


# --- what is trained ---


class Recorded(nn.Module):
    """A criterion that keeps what it returned."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion, self.losses = criterion, list[float]()

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss."""
        loss: Tensor = self.criterion(outputs, targets)
        self.losses.append(loss.item())
        return loss


class Wrapped(nn.Module):
    """As the released linear loop finds its model: inside another module."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """The model's."""
        found: Tensor = self.module(x)
        return found


def arguments_of(lr: float, min_lr: float, warmup: int) -> argparse.Namespace:
    """What the released loops read."""
    return argparse.Namespace(
        lr=lr, min_lr=min_lr, warmup_epochs=warmup, epochs=EPOCHS, accum_iter=1, enable_amp=False
    )


def released_linear(code: Released, model: Any, data: MadeUp) -> list[float]:
    """Losses of the released linear evaluation, set up as in main_linprobe.py."""
    width = model.head.fc.in_features
    model.head.fc = nn.Sequential(nn.BatchNorm1d(width, affine=False, eps=1e-6), model.head.fc)
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1, momentum=0.9, weight_decay=0)
    criterion, scaler, args = (
        Recorded(nn.CrossEntropyLoss()),
        code.scaler(),
        arguments_of(0.1, 0.0, 0),
    )
    for epoch in range(EPOCHS):
        code.linear_epoch(
            Wrapped(model),
            criterion,
            data.released(epoch),
            optimizer,
            torch.device("cpu"),
            epoch,
            scaler,
            None,
            args=args,
        )
    return criterion.losses


def released_finetuning(code: Released, model: nn.Module, data: MadeUp) -> list[float]:
    """Losses of the released fine-tuning, set up as in main_finetune.py and script_finetune.sh."""
    SameMasks(model, code.drop_path)
    optimizer = torch.optim.AdamW(code.groups(model, 0.05, layer_decay=0.8), lr=3e-4)
    criterion, scaler = Recorded(LabelSmoothingCrossEntropy(smoothing=0.1)), code.scaler()
    for epoch in range(EPOCHS):
        code.finetune_epoch(
            model,
            criterion,
            data.released(epoch),
            optimizer,
            torch.device("cpu"),
            epoch,
            scaler,
            None,
            args=arguments_of(3e-4, 1e-5, WARMUP),
        )
    return criterion.losses


@dataclass
class Given:
    """What ours are given: the released weights and the batches; and the losses that come out."""

    weights: dict[str, Tensor]
    data: MadeUp
    losses: list[float] = field(default_factory=list)

    def encoder(self) -> SkeletonEncoder:
        """Ours with the released weights."""
        encoder = SkeletonEncoder(SIZE, JOINTS)
        state, _ = converted(
            {name: v for name, v in self.weights.items() if "head" not in name}, Path("released")
        )
        encoder.load_state_dict(state)
        return encoder.eval()

    def subject(self) -> Subject:
        """That of the protocol."""
        labels = self.data.labels
        everything, nothing, one = (
            np.arange(len(labels)),
            np.zeros(0, np.int64),
            np.zeros(1, np.int64),
        )
        data = types.SimpleNamespace(
            labels=labels,
            bodies=types.SimpleNamespace(device=torch.device("cpu")),
            split=types.SimpleNamespace(train=everything, validation=nothing, test=one),
            clips=types.SimpleNamespace(joints=np.zeros((1, BODIES, JOINTS, 3))),
        )
        features = np.zeros(
            (1, SIZE.width), np.float32
        )  # of the one test clip, at which nobody looks
        return Subject(self.encoder(), data, "made up", CLASSES, frozen=lambda: features)


class OurLinear(LinearMamp):
    """`linear-mamp` on what it is given."""

    given: Given

    def batches(self, subject: Subject, encoder: Encoder, slots: int | None) -> Batches:
        """Those that are given."""
        return self.given.data

    def head(self, width: int, classes: int) -> nn.Module:
        """With the released weights."""
        head = super().head(width, classes)
        weights = {
            f"1.{name}": self.given.weights[f"head.fc.{name}"] for name in ("weight", "bias")
        }
        head.load_state_dict({**head.state_dict(), **weights})
        return head

    def loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Kept."""
        loss = super().loss(logits, classes)
        self.given.losses.append(loss.item())
        return loss


class OurFinetuning(Finetune[FinetuneOptions]):
    """`finetune` on what it is given."""

    given: Given

    def batches(
        self, subject: Subject, encoder: Encoder, clips: Labels, slots: int | None
    ) -> Batches:
        """Those that are given."""
        return self.given.data

    def model(self, encoder: Encoder, classes: int, slots: int) -> nn.Module:
        """With the released weights and masks."""
        model = super().model(encoder, classes, slots)
        assert isinstance(model, Classifier)
        names = {"fc1": "layers.0", "bn": "layers.1", "fc2": "layers.3"}
        weights = dict[str, Tensor]()
        for name, value in self.given.weights.items():
            if name.startswith("head."):
                _, layer, tail = name.split(".")
                weights[f"{names[layer]}.{tail}"] = value
        model.head.load_state_dict(weights)
        SameMasks(model, DropPath)
        return model

    def predict(self, model: nn.Module, subject: Subject, frames: int, slots: int | None) -> Labels:
        """Nobody looks at it."""
        return np.zeros(1, np.int64)

    def loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Kept."""
        loss = super().loss(logits, classes)
        self.given.losses.append(loss.item())
        return loss


def compare(code: Released) -> dict[str, tuple[list[float], list[float]]]:
    """Losses of both protocols, released and ours, step by step."""
    found = {}
    with quietly():
        torch.manual_seed(0)
        model = code.model("linprobe", 0.0)
        nn.init.trunc_normal_(model.head.fc.weight, std=0.01)
        given = Given({name: value.clone() for name, value in model.state_dict().items()}, MadeUp())
        theirs = released_linear(code, model, MadeUp())
        linear = OurLinear(LinearMampOptions(epochs=EPOCHS, batch_size=CLIPS, lr=0.1, looks=1))
        linear.given = given
        linear.evaluate(given.subject())
        found["linear-mamp"] = theirs, given.losses

        torch.manual_seed(1)
        model = code.model("finetune", DROPOUT)
        given = Given({name: value.clone() for name, value in model.state_dict().items()}, MadeUp())
        theirs = released_finetuning(code, model, MadeUp())
        options = FinetuneOptions(epochs=EPOCHS, warmup=WARMUP, batch_size=CLIPS, looks=1)
        finetuning = OurFinetuning(options)
        finetuning.given = given
        subject = given.subject()
        ours = finetuning.resolved(subject)
        ours.given = given
        ours.evaluate(subject)
        found["finetune"] = theirs, given.losses
    return found


# --- the same views ---


def made_up_clips() -> list[NDArray[np.float32]]:
    """``[T, M, V, 3]`` each, nothing of them zero but where they are centred:
    the first body's first frame.
    """
    random = np.random.default_rng(0)
    clips = [random.standard_normal((frames, BODIES, JOINTS, 3), np.float32) for frames in LENGTHS]
    for clip in clips:
        clip[0, 0, NTU25.center] = 0
    return clips


def released_views(
    code: Released, clips: list[NDArray[np.float32]], split: str
) -> NDArray[np.float32]:
    """``[N, T, M, V, 3]`` as the released feeder cuts and turns the clips,
    number i under the seeds i.
    """
    padded = np.zeros((len(clips), PADDED, BODIES * JOINTS * 3), np.float32)
    for row, clip in zip(padded, clips, strict=True):
        row[: len(clip)] = clip.reshape(len(clip), -1)
    views = []
    with tempfile.TemporaryDirectory() as folder:
        path, classes = Path(folder, "clips.npz"), np.eye(len(clips), CLASSES)
        arrays: dict[str, Any] = {f"x_{split}": padded, f"y_{split}": classes}
        np.savez(path, **arrays)
        share, turned = ([0.5, 1], True) if split == "train" else ([0.95], False)
        feeder = code.feeder(
            path,
            p_interval=share,
            split=split,
            random_rot=turned,
            window_size=WINDOW,
            use_mmap=False,
        )
        for number in range(len(clips)):
            np.random.seed(number)  # noqa: NPY002
            torch.manual_seed(number)
            views.append(np.asarray(feeder[number][0]))  # [3, T, V, M]
    return np.stack(views).transpose(0, 2, 4, 3, 1)


def our_views(clips: list[NDArray[np.float32]], split: str) -> NDArray[np.float32]:
    """The same by ours, from the draws that the released feeder makes."""
    encoder = SkeletonEncoder(replace(SIZE, frames=WINDOW), JOINTS)
    augmentation, lengths = published_augmentation(encoder), np.array(LENGTHS)
    columns = {"label": np.arange(len(clips)), "subject": np.zeros(len(clips), np.int64)}
    offsets, names = np.append(0, lengths.cumsum()), tuple(map(str, range(len(clips))))
    source = BodySequences(
        ClipSet("made up", np.concatenate(clips), offsets, columns, names, NTU25, 30.0),
        torch.device("cpu"),
    )
    bodies, chosen = ClipBodies(source, lengths, WINDOW, BODIES), torch.arange(len(clips))
    if split == "test":
        batch = bodies.batch(chosen, *test_crops(bodies.lengths))
        return batch.in_slots(BODIES).numpy()
    share, place, turn = (
        torch.stack(column) for column in zip(*map(draws, chosen.tolist()), strict=True)
    )
    batch = bodies.batch(chosen, *crops(bodies.lengths, augmentation, share, place))
    turned = rotate(batch.x, turn[batch.row], augmentation.rotation)
    return ClipBatch(chosen, turned, batch.row, batch.slot).in_slots(BODIES).numpy()


def draws(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the released feeder draws for a clip, each from 0 to 1: share kept,
    place of the crop, angles.
    """
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)
    frames, share = LENGTHS[number], float(np.random.rand(1)[0])  # noqa: NPY002
    kept = min(max(int(frames * (0.5 + 0.5 * share)), 64), frames)
    places = frames - kept + 1
    place = (np.random.randint(0, places) + 0.5) / places  # noqa: NPY002
    angles = torch.zeros(3).uniform_(-0.3, 0.3)
    # The released matrices turn the other way round, which is the same among symmetric angles.
    return torch.tensor(share), torch.tensor(place), (1 - angles / 0.3) / 2


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mamp", type=Path, help="folder of the released code (maoyunyao/MAMP)")
    arguments = parser.parse_args()
    if what := absent(arguments.mamp, "engine_finetune.py"):
        print(
            f"protocol_parity: expected --mamp FOLDER with a copy of maoyunyao/MAMP, found {what};"
            " nothing was trained"
        )
        return 2
    code, released = 0, Released(arguments.mamp.resolve())
    for name, (theirs, ours) in compare(released).items():
        apart = max(abs(one - two) / abs(one) for one, two in zip(theirs, ours, strict=True))
        print(
            f"{name}: {len(ours)} steps, loss {theirs[0]:.6f} to {theirs[-1]:.6f}, at most"
            f" {apart:.1e} apart"
        )
        code = code or int(apart > ROUNDING)
    clips = made_up_clips()
    for split in ("train", "test"):
        apart = float(
            np.abs(released_views(released, clips, split) - our_views(clips, split)).max()
        )
        print(
            f"feeder, {split} view: clips of {min(LENGTHS)} to {max(LENGTHS)} frames, at most"
            f" {apart:.1e} apart"
        )
        code = code or int(apart > ROUNDING)
    return code


if __name__ == "__main__":
    sys.exit(main())
