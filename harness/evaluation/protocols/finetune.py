"""Fine-tuning as published: the whole encoder under a head of its own, MAMP's or, for the graph
encoder, STRL.

maoyunyao/MAMP 09e6252: main_finetune.py, util/lr_decay.py, model/transformer.py, script_finetune.sh
and, from scratch, script_finetune_scratch.sh. STRL: Yan et al., ICCV 2023, arXiv 2307.08476
(`methods.strl` is its network).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from datasets.clip_batches import ClipBatch, evaluation_view
from harness.evaluation.epochs import DEVIATIONS, Batches, Schedule, train, training_batches
from harness.evaluation.probes import Labels
from harness.evaluation.protocol import (
    AboutProtocol,
    Protocol,
    ProtocolOptions,
    ProtocolResult,
    Subject,
)
from methods.parts.encoder import Encoder, SkeletonEncoder
from methods.parts.graph import GraphEncoder
from methods.parts.options import known

VERSION = 1

_EVALUATION_BATCH = 64
_LEAST_STEPS, _LEAST_CLIPS = 8, 8
"""Where there are few clips, a batch is so small that an epoch has so many steps,
but not below so many clips.
"""
_PUBLISHED = {
    "mamp": {
        "epochs": 100,
        "batch_size": 48,
        "lr": 3e-4,
        "min_lr": 1e-5,
        "warmup": 5.0,
        "weight_decay": 0.05,
    },
    "strl": {
        "epochs": 110,
        "batch_size": 128,
        "lr": 0.1,
        "min_lr": 0.0,
        "warmup": 5.0,
        "weight_decay": 0.0,
    },
}
"""By head, what a number is that was not given."""


class FinetuneOptions(ProtocolOptions):
    """Options; what is not given is as published for the head, the batch as far as there are clips
    for it.

    ``layer_decay`` is the factor from a block's rate to that of the block below, ``drop_path`` the
    last block's rate.
    """

    head: Literal["mamp", "strl"] = "mamp"
    epochs: int | None = Field(default=None, ge=1, le=100_000)
    batch_size: int | None = Field(default=None, ge=2, le=1_000_000)
    lr: float | None = Field(default=None, gt=0, le=1000)
    min_lr: float | None = Field(default=None, ge=0, le=1000)
    warmup: float | None = Field(default=None, ge=0, le=100_000)
    weight_decay: float | None = Field(default=None, ge=0, le=1000)
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    drop_path: float = Field(default=0.3, ge=0, lt=1)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    hidden: int = Field(default=2048, ge=1, le=1_000_000)
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    empty_bodies: bool = False
    looks: int = Field(default=5, ge=1, le=10_000)


_FinetuneT = TypeVar("_FinetuneT", bound=FinetuneOptions)


class FinetuneHead(nn.Module):
    """Dropout, mean over time, joints side by side, mean over bodies, one hidden layer with batch
    norm.

    With MAMP's 25 joints, width 256, 2,048 hidden units and 60 classes it has 13,236,284
    parameters.
    """

    def __init__(
        self, joints: int, width: int, classes: int, *, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.joints = joints
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            nn.Linear(joints * width, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, batch: ClipBatch) -> Tensor:
        """Logits ``[B, classes]`` from tokens ``[S, L, D]`` of the batch's body sequences."""
        kept = self.dropout(tokens).unflatten(1, (-1, self.joints))  # [S, T, V, D]
        poses = kept.mean(dim=1).flatten(1)  # [S, V * D]
        logits: Tensor = self.layers(batch.mean(poses))
        return logits


class Classifier(nn.Module):
    """An encoder and a head on it: logits of a batch of clips."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, batch: ClipBatch) -> Tensor:
        """Logits ``[B, classes]``."""
        logits: Tensor = self.head(self.encoder(batch.x), batch)
        return logits


class _GraphClassifier(nn.Module):
    """STRL as a classifier of batches of clips."""

    def __init__(self, encoder: GraphEncoder, classes: int, slots: int) -> None:
        super().__init__()
        from methods.strl import STRL

        self.strl, self.slots = STRL(encoder, classes), slots

    def forward(self, batch: ClipBatch) -> Tensor:
        """Logits ``[B, classes]``."""
        logits: Tensor = self.strl(batch.in_slots(self.slots))
        return logits


def drop_paths(encoder: SkeletonEncoder, last: float) -> None:
    """Stochastic depth in every block, its rate rising linearly from 0 in the first
    to ``last`` in the last.
    """
    from timm.layers import DropPath

    for block, rate in zip(
        encoder.blocks, torch.linspace(0, last, len(encoder.blocks)).tolist(), strict=True
    ):
        for name in ("drop_path1", "drop_path2"):
            setattr(block, name, DropPath(rate) if rate else nn.Identity())


def layer_scale(name: str, depth: int, decay: float) -> float:
    """What a parameter's rate is multiplied with: ``decay ** (depth + 1 - id)``.

    The id is 0 for patch embedding and positions, i + 1 for block i, depth + 1 for the rest: last
    norm and head.
    """
    _, part, *rest = name.split(".")
    layer = (
        0
        if part in ("patch_embed", "positions")
        else int(rest[0]) + 1
        if part == "blocks"
        else depth + 1
    )
    return decay ** ((depth + 1 - layer) if name.startswith("encoder.") else 0)


def parameter_groups(
    model: Classifier, depth: int, *, decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """The optimiser's groups by ``lr_scale`` and decay;
    parameters of one dimension are not decayed.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        key = layer_scale(name, depth, decay), 0.0 if parameter.ndim == 1 else weight_decay
        group = groups.setdefault(key, {"lr_scale": key[0], "weight_decay": key[1], "params": []})
        group["params"].append(parameter)
    return list(groups.values())


class Finetune(Protocol[_FinetuneT]):
    """Train encoder and head together."""

    about = AboutProtocol(
        title="Fine-tuning as in MAMP",
        source=(
            "MAMP, ICCV 2023, main_finetune.py and script_finetune.sh (maoyunyao/MAMP 09e6252):"
            " AdamW 3e-4 to 1e-5, decay 0.05, 5 of 100 epochs warm-up, batch 48, layer decay 0.8,"
            " drop path to 0.3, dropout 0.3, smoothing 0.1, head of 2,048; from scratch: layer"
            " decay 1. head=strl: Yan et al., ICCV 2023, arXiv 2307.08476: SGD 0.1, momentum 0.9,"
            " batch 128, 110 epochs, label smoothing 0.1"
        ),
        deviations=DEVIATIONS,
        choices=(
            (
                "fewer than 384 training clips (1,024 with head=strl): an eighth of them is a"
                " batch, at least 8 clips"
            ),
            "training and validation clips are trained on",
            (
                "head=strl: warm-up of 5 epochs and a cosine to 0, no weight decay, the rate in"
                " proportion to the batch, crops and rotations as for head=mamp"
            ),
        ),
    )
    Options: ClassVar[type[FinetuneOptions]] = FinetuneOptions
    trains_encoder = True

    def unfit(self, encoder: Encoder | None) -> str:
        """Each head is made for one kind of encoder."""
        if self.options.head == "strl":
            return "" if isinstance(encoder, GraphEncoder) else "head=strl is for the graph encoder"
        return (
            ""
            if isinstance(encoder, SkeletonEncoder)
            else "head=mamp is for the shared encoder; see head=strl"
        )

    def labelled(self, subject: Subject) -> tuple[Labels, tuple[str, ...]]:
        """Clips to train on, and what must be said of them: all of the training side."""
        return subject.training_side, ()

    def resolved(self, subject: Subject) -> Self:
        """What was not given, as published for the head; from scratch without layer decay."""
        options, published = self.options, _PUBLISHED[self.options.head]
        given = {name: value for name in published if (value := getattr(options, name)) is not None}
        clips, size = len(self.labelled(subject)[0]), published["batch_size"]
        fitting = int(min(size, max(_LEAST_CLIPS, clips // _LEAST_STEPS)))
        values: dict[str, Any] = {**published, "batch_size": fitting, **given}
        if options.head == "strl" and "lr" not in given:
            values["lr"] = published["lr"] * values["batch_size"] / size
        if "warmup" not in given:
            values["warmup"] = min(values["warmup"], values["epochs"] / 2)
        decay = (
            1.0
            if subject.untrained
            else options.layer_decay or (1.0 if options.head == "strl" else 0.8)
        )
        return self.with_options(**values, layer_decay=decay)

    def evaluate(self, subject: Subject) -> ProtocolResult:
        """Train on the labelled clips, predict at the end."""
        options, encoder, data = self.options, subject.encoder, subject.data
        assert encoder is not None
        clips, notes = self.labelled(subject)
        slots = data.clips.joints.shape[1]
        model = self.model(encoder, subject.classes, slots).to(data.device).train()
        shown = slots if options.empty_bodies else None
        batches = self.batches(subject, encoder, clips, shown)
        labels = torch.as_tensor(subject.labels, device=data.device)

        def loss_of(batch: ClipBatch) -> Tensor:
            return self.loss(model(batch), labels[batch.clips])

        def predict() -> Labels:
            return self.predict(model, subject, encoder.grid.frames, shown)

        epochs, lr = known(options.epochs), known(options.lr)
        schedule = Schedule(lr, epochs, known(options.warmup), known(options.min_lr))
        predictions, curve = train(
            subject, batches, loss_of, self.optimizer(model), schedule, predict, options.looks
        )
        return ProtocolResult(
            predictions,
            curve,
            labelled=None if clips is subject.training_side else clips,
            notes=notes,
        )

    def model(self, encoder: Encoder, classes: int, slots: int) -> nn.Module:
        """The encoder under its head."""
        options = self.options
        if isinstance(encoder, GraphEncoder):
            return _GraphClassifier(encoder, classes, slots)
        assert isinstance(encoder, SkeletonEncoder)
        drop_paths(encoder, options.drop_path)
        joints = encoder.grid.joints
        head = FinetuneHead(
            joints, encoder.width, classes, hidden=options.hidden, dropout=options.dropout
        )
        return Classifier(encoder, head)

    def batches(
        self, subject: Subject, encoder: Encoder, clips: Labels, slots: int | None
    ) -> Batches:
        """Augmented batches of the labelled clips."""
        return training_batches(
            subject, encoder, clips, known(self.options.batch_size), slots=slots
        )

    def loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Cross entropy of ``[B, classes]`` and ``[B]`` with smoothed labels."""
        return nn.functional.cross_entropy(logits, classes, label_smoothing=self.options.smoothing)

    def predict(self, model: nn.Module, subject: Subject, frames: int, slots: int | None) -> Labels:
        """Classes of the test clips; the model goes on training afterwards."""
        model.eval()
        with torch.no_grad():
            logits = [model(batch) for batch in _batches_to_predict(subject, frames, slots)]
        model.train()
        found: Labels = torch.cat(logits).argmax(dim=1).cpu().numpy()
        return found

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """AdamW with a rate per layer; for STRL plain SGD."""
        options = self.options
        lr, weight_decay = known(options.lr), known(options.weight_decay)
        if not isinstance(model, Classifier):
            return torch.optim.SGD(
                model.parameters(), lr=lr, momentum=0.9, weight_decay=weight_decay
            )
        depth = len(model.encoder.blocks)  # type: ignore[arg-type]
        groups = parameter_groups(
            model, depth, decay=known(options.layer_decay), weight_decay=weight_decay
        )
        return torch.optim.AdamW(groups, lr=lr)


def _batches_to_predict(subject: Subject, frames: int, slots: int | None) -> Iterator[ClipBatch]:
    """The test clips, in order."""
    data = subject.data
    return evaluation_view(
        data.bodies,
        data.clips.lengths,
        subject.test,
        size=_EVALUATION_BATCH,
        frames=frames,
        slots=slots,
    )
