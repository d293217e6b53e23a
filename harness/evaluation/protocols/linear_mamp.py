"""MAMP's linear evaluation as published: batch norm and one linear layer, trained by SGD on
augmented views.

maoyunyao/MAMP 09e6252: main_linprobe.py, engine_linprobe.py, model/transformer.py,
config/*/linprobe_t120_layer8.yaml.
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import Field
from torch import Tensor, nn

from datasets.clip_batches import ClipBatch, evaluation_view
from harness.evaluation.epochs import (
    DEVIATIONS,
    FEW_CLIPS,
    Batches,
    Schedule,
    train,
    training_batches,
)
from harness.evaluation.probes import RAW_FRAMES, Labels
from harness.evaluation.protocol import (
    AboutProtocol,
    Protocol,
    ProtocolOptions,
    ProtocolResult,
    Subject,
)
from methods.parts.encoder import Encoder
from methods.parts.options import known
from methods.parts.tokens import CHANNELS, TokenGrid

VERSION = 2
"""2: a look at the test clips after every epoch; raw coordinates as a control."""

_RECIPES = ((30_000, 256, 0.1), (FEW_CLIPS, 128, 0.1), (0, 32, 0.01))
"""From so many training clips on: clips per batch and rate, as published for NTU,
PKU-MMD I and PKU-MMD II.
"""
_EVALUATION_BATCH = 128


class LinearMampOptions(ProtocolOptions):
    """Options; not given, batch size and rate go by the number of training clips,
    and looks are as many as epochs.
    """

    epochs: int = Field(default=100, ge=1, le=100_000)
    batch_size: int | None = Field(default=None, ge=2, le=1_000_000)
    lr: float | None = Field(default=None, gt=0, le=1000)
    empty_bodies: bool = False
    looks: int | None = Field(default=None, ge=1, le=100_000)


class Coordinates(Encoder):
    """Raw coordinates in an encoder's place:
    the frames of a body sequence side by side are its one token.
    """

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.grid = TokenGrid(times=RAW_FRAMES, joints=joints, patch=1)
        self.width = RAW_FRAMES * joints * CHANNELS

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 1, T * V * 3]`` of body sequences ``[B, T, V, 3]``."""
        return x.flatten(1).unsqueeze(1)


class LightHead(nn.Sequential):
    """Batch norm without affine, then a linear layer of small weights:
    ``[B, D]`` to ``[B, classes]``.
    """

    def __init__(self, width: int, classes: int) -> None:
        linear = nn.Linear(width, classes)
        nn.init.trunc_normal_(linear.weight, std=0.01)
        nn.init.zeros_(linear.bias)
        super().__init__(nn.BatchNorm1d(width, affine=False, eps=1e-6), linear)


class LinearMamp(Protocol[LinearMampOptions]):
    """Freeze the encoder, train the light head."""

    about = AboutProtocol(
        title="Linear evaluation as in MAMP",
        source=(
            "MAMP, ICCV 2023, main_linprobe.py (maoyunyao/MAMP 09e6252): batch norm without affine"
            " and a linear layer on the mean of all tokens and bodies; SGD, momentum 0.9, no decay;"
            " 100 epochs, cosine to 0; crops of half a clip or more, rotations to 0.3 rad"
        ),
        deviations=DEVIATIONS,
        choices=(
            (
                "batch and rate by the number of training clips, as published for NTU (256, 0.1),"
                " PKU-MMD I (128, 0.1) and PKU-MMD II (32, 0.01)"
            ),
            "training and validation clips are trained on",
            (
                "raw coordinates, the control: 32 frames of a view side by side in place of the"
                " mean token; trained once, so that their figure has no spread over seeds"
            ),
        ),
    )
    Options = LinearMampOptions
    reads_raw = True

    def resolved(self, subject: Subject) -> Self:
        """Batch size and rate by the number of training clips;
        a look at the test clips after every epoch.
        """
        _, size, lr = next(recipe for recipe in _RECIPES if len(subject.training_side) >= recipe[0])
        options = self.options
        return self.with_options(
            batch_size=options.batch_size or size,
            lr=options.lr or lr,
            looks=options.looks or options.epochs,
        )

    def evaluate(self, subject: Subject) -> ProtocolResult:
        """Train the head; the encoder reads every view anew, of the test clips once."""
        options, device = self.options, subject.data.device
        _, bodies, joints, _ = subject.data.clips.joints.shape
        encoder = Coordinates(joints) if subject.encoder is None else subject.encoder
        encoder.requires_grad_(False)
        slots = bodies if options.empty_bodies else None
        head = self.head(encoder.width, subject.classes).to(device)
        batches = self.batches(subject, encoder, slots)
        labels = torch.as_tensor(subject.labels, device=device)
        seen = self.test_features(subject, encoder, slots)

        def loss_of(batch: ClipBatch) -> Tensor:
            return self.loss(head(features(encoder, batch)), labels[batch.clips])

        def predict() -> Labels:
            head.eval()
            with torch.no_grad():
                found: Labels = head(seen).argmax(dim=1).cpu().numpy()
            head.train()
            return found

        optimizer = torch.optim.SGD(
            head.parameters(), lr=known(options.lr), momentum=0.9, weight_decay=0.0
        )
        schedule = Schedule(known(options.lr), options.epochs)
        return ProtocolResult(
            *train(subject, batches, loss_of, optimizer, schedule, predict, known(options.looks))
        )

    def head(self, width: int, classes: int) -> nn.Module:
        """What is trained: features ``[B, D]`` to logits ``[B, classes]``."""
        return LightHead(width, classes)

    def batches(self, subject: Subject, encoder: Encoder, slots: int | None) -> Batches:
        """Augmented batches of all labelled clips."""
        return training_batches(
            subject, encoder, subject.training_side, known(self.options.batch_size), slots=slots
        )

    def loss(self, logits: Tensor, classes: Tensor) -> Tensor:
        """Cross entropy of ``[B, classes]`` and ``[B]``."""
        return nn.functional.cross_entropy(logits, classes)

    @staticmethod
    def test_features(subject: Subject, encoder: Encoder, slots: int | None) -> Tensor:
        """``[test clips, D]``: the encoder is frozen and the test view fixed."""
        if slots is None and subject.encoder is not None:  # those that every frozen protocol reads
            return torch.tensor(subject.features[subject.test], device=subject.data.device)
        bodies, lengths = subject.data.bodies, subject.data.clips.lengths
        view = evaluation_view(
            bodies,
            lengths,
            subject.test,
            size=_EVALUATION_BATCH,
            frames=encoder.grid.frames,
            slots=slots,
        )
        return torch.cat([features(encoder, batch) for batch in view])


def features(encoder: Encoder, batch: ClipBatch) -> Tensor:
    """``[B, D]``: mean over tokens, then over bodies, without gradient."""
    with torch.no_grad():
        return batch.mean(encoder(batch.x).float().mean(dim=1))
