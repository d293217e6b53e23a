"""S-JEPA: match an EMA target encoder's features of the unmasked input, as distributions over
channels.

"S-JEPA: A Joint Embedding Predictive Architecture for Skeletal Action Recognition", ECCV 2024,
sjepa.github.io.
"""

from __future__ import annotations

from typing import Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from methods.base import About, Diagnosis, Method, MethodOptions, Scalar, known
from methods.parts.decoders import TokenDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import motion_aware_mask
from methods.parts.options import Depth, Sharpness
from methods.parts.ranks import average
from methods.parts.teachers import Teacher, published_follows
from methods.parts.tokens import take

VERSION = 1

PUBLISHED_STEPS = 187_200  # NTU-60 x-sub: 1200 epochs of 156 steps at batch 256


class SJEPAOptions(MethodOptions):
    """Options; ``decoder_depth`` is 5 at ``base`` and in proportion
    to the encoder's depth elsewhere.
    """

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    tau: Sharpness = 0.8
    decoder_depth: Depth | None = None
    target_temperature: float = Field(default=0.06, ge=1e-4, le=1000)
    prediction_temperature: float = Field(default=0.1, ge=1e-4, le=1000)
    center_rate: float = Field(default=0.9, ge=0, le=1)
    decay: float = Field(default=0.9999, ge=0, lt=1)

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in the predictor's depth."""
        return self.model_copy(
            update={"decoder_depth": self.decoder_depth or scaled_depth(5, encoder)}
        )


class SJEPA(Method[SJEPAOptions]):
    """Predict the distribution over channels that the target encoder gives for masked tokens."""

    about = About(
        title="S-JEPA",
        paper="ECCV 2024, sjepa.github.io (no arXiv number found)",
        epochs=1200,
        deviations=(
            (
                "the suite's crop and rotation instead of the paper's geometric views"
                " (translations, flips)"
            ),
            "test crop of the middle 95 % (MAMP's) instead of 90 %",
            "the suite's batch and schedule instead of 1200 epochs at batch 256",
            (
                "EMA decay refitted to the budget: as many time constants as 0.9999 to 1.0 has over"
                " 187,200 steps"
            ),
        ),
        choices=(
            "motion-aware mask with MAMP's tau 0.8",
            "predictor: MAMP's decoder, with its linear layer, mask tokens and own positions",
            (
                "targets are the target encoder's tokens after its final layer norm, learnt scale"
                " and shift included; I-JEPA normalises them once more without those"
            ),
            (
                "the centre starts at zero and is the mean over all tokens of a batch, masked or"
                " not; with data.include_empty_bodies=true those of empty bodies are among them"
            ),
            "the centre moves after the step, so that a target is never centred on itself",
        ),
    )
    Options = SJEPAOptions
    center: Float[Tensor, "D"]
    batch_mean: Float[Tensor, "D"]

    def __init__(self, encoder: SkeletonEncoder, options: SJEPAOptions) -> None:
        super().__init__(encoder, options)
        self.decoder = TokenDecoder(
            encoder, known(self.options.decoder_depth), outputs=encoder.width
        )
        self.teacher = Teacher(
            encoder, published_follows(self.options.decay, PUBLISHED_STEPS), "cosine"
        )
        self.register_buffer("center", torch.zeros(encoder.width))
        self.register_buffer("batch_mean", torch.zeros(encoder.width))

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """Cross-entropy of ``softmax((z - c) / 0.06)`` and ``softmax(p / 0.1)`` over masked tokens.

        ``z`` is the target encoder's output for the unmasked input, ``c`` a moving average of its
        batch means.
        """
        options = self.options
        mask = motion_aware_mask(x, self.encoder.grid, options.mask_ratio, options.tau)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        prediction = take(self.decoder(latent, mask), mask.masked)  # [B, L - K, D], p
        target = self.features(x)  # [B, L, D], z
        # kept until the step is done: a target is never centred on itself
        self.batch_mean.copy_(average(target.mean((0, 1))))
        centred = take(target, mask.masked) - self.center  # [B, L - K, D], z - c
        wanted = torch.softmax(centred / options.target_temperature, dim=-1)  # [B, L - K, D]
        given = torch.log_softmax(prediction.float() / options.prediction_temperature, dim=-1)
        loss = -(wanted * given).sum(-1).mean()
        return loss, {"cross_entropy": loss.detach()}

    @torch.no_grad()
    def features(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B L D"]:
        """The target encoder's final tokens ``z`` for the unmasked input."""
        return self.teacher.encoder(x).float()

    def after_step(self, progress: float) -> None:
        """The target encoder follows, and the centre moves towards the last batch's mean."""
        self.teacher.follow(self.encoder, progress)
        self.center.lerp_(self.batch_mean, 1 - self.options.center_rate)

    def evaluated_encoder(self) -> SkeletonEncoder:
        """The target encoder, whose weights the paper uses downstream."""
        return self.teacher.encoder

    def diagnose(self, x: Float[Tensor, "B T V 3"]) -> Diagnosis:
        """Spread of the target features over tokens, and the entropy of their distributions,
        in nats.
        """
        features = self.features(x)  # [B, L, D]
        centred = features - self.center  # [B, L, D]
        wanted = torch.softmax(centred / self.options.target_temperature, dim=-1)  # [B, L, D]
        entropy = -(wanted * torch.log(wanted + 1e-12)).sum(-1).mean().item()
        return Diagnosis(
            {
                "std/target": features.flatten(0, 1).std(dim=0).mean().item(),
                "entropy/target": entropy,
            }
        )
