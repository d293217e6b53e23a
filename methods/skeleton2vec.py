"""Skeleton2vec: predict the contextual features that an EMA teacher sees in the unmasked input.

Xu et al., "Skeleton2vec", arXiv 2401.00921; code Ruizhuo-Xu/SKeleton2vec-code
(models/skeleton2vec.py, models/transformer.py), in its final state: the one with motion-aware tube
masking.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from methods.base import About, Diagnosis, Method, MethodOptions, OptionError, Scalar, known
from methods.parts.decoders import TokenDecoder, scaled_depth
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import Mask, tube_mask, visible_joints
from methods.parts.options import Depth
from methods.parts.teachers import Teacher, published_follows
from methods.parts.tokens import TokenGrid, divisors, nearest_divisor, take

VERSION = 1

PUBLISHED_STEPS = 251_200  # NTU-60 x-sub: 800 epochs of 314 steps
COLLAPSED_STD = 0.1


class Skeleton2vecOptions(MethodOptions):
    """Options; 0 is relative to the encoder: ``tube`` a sixth of the time steps, ``layers`` all,
    depth 3 at ``base``.

    ``decay`` is the teacher's first decay per step in the published schedule
    (`methods.parts.teachers`); without ``instance_norm`` block outputs are layer-normalised, as in
    the authors' early version. ``decoder``: whether each visible latent enters the decoder at its
    own token, or where the released code puts it (`released_places`).
    """

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    tube: int | None = Field(default=None, ge=1, le=10_000)
    beta: float = Field(default=0.1, ge=0, le=1000)
    layers: Depth | None = None
    instance_norm: bool = True
    decay: float = Field(default=0.9999, ge=0, lt=1)
    decoder_depth: Depth | None = None
    decoder: Literal["repaired", "as-released"] = Field(
        default="repaired", json_schema_extra={"later": True}
    )

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in tube length, layers and depth; check them against the grid and the encoder."""
        grid, depth = encoder.grid, encoder.size.depth
        tube = self.tube or nearest_divisor(grid.times, grid.times / 6)
        if grid.times % tube:
            allowed = ", ".join(map(str, divisors(grid.times)))
            raise OptionError(f"tube={tube} must divide the {grid.times} time steps: {allowed}")
        if (self.layers or 1) > depth:
            raise OptionError(
                f"layers={self.layers}: the encoder has {depth}; allowed are 1 to {depth}"
            )
        if not visible_joints(grid.joints, self.mask_ratio):
            raise OptionError(
                f"mask_ratio={self.mask_ratio} leaves none of {grid.joints} joints visible in a"
                f" tube; allowed is up to {1 - 1 / grid.joints:.3f}"
            )
        depths = {
            "layers": self.layers or depth,
            "decoder_depth": self.decoder_depth or scaled_depth(3, encoder),
        }
        return self.model_copy(update={"tube": tube, **depths})


def instance_norm(tokens: Float[Tensor, "B L D"], epsilon: float = 1e-5) -> Float[Tensor, "B L D"]:
    """Each channel to zero mean and unit variance over the sequence's tokens."""
    variance, mean = torch.var_mean(tokens, dim=1, keepdim=True, correction=0)  # [B, 1, D]
    return (tokens - mean) * torch.rsqrt(variance + epsilon)


def released_places(mask: Mask, grid: TokenGrid) -> Mask:
    """The tokens at which the released decoder puts the visible latents, and those where it puts
    mask tokens.

    It appends all mask tokens to the visible latents, cuts this sequence into time steps of V, and
    only then undoes the joint shuffle of each step, whose first joints are its visible ones. So the
    latents of all steps fill the first steps: at 30 x 25 tokens all 60 lie in steps 0 to 2, and
    only the 2 of step 0 at their own token (models/transformer.py, forward_decoder). ``mask`` must
    show the same number of joints in every time step, as `tube_mask` does.
    """
    batch, times = len(mask.visible), grid.times
    steps = [tokens.reshape(batch, times, -1) for tokens in mask]  # [B, T_e, joints of it] each
    order = torch.cat(steps, dim=2).flatten(1)  # [B, L]
    count = mask.visible.shape[1]
    return Mask(order[:, :count], order[:, count:])


class Skeleton2vec(Method[Skeleton2vecOptions]):
    """Predict a teacher's averaged block outputs at masked tokens."""

    about = About(
        title="Skeleton2vec",
        paper="Xu et al., arXiv 2401.00921",
        epochs=800,
        code="Ruizhuo-Xu/SKeleton2vec-code",
        deviations=(
            (
                "decoder=repaired: visible latents enter the decoder at their own tokens; the"
                " released code (67af323, models/transformer.py) puts all 60 into time steps 0 to"
                " 2, 2 of them at their own token, and so does decoder=as-released; at the released"
                " initialisation the loss of a batch then differs by less than 0.5 %, its gradient"
                " by 12 to 13 %"
            ),
            (
                "MAMP's feed (crop, resize to T, patch 4) instead of 90 sampled frames in segments"
                " of 3"
            ),
            (
                "the shared encoder: LayerNorm eps 1e-5 instead of 1e-6, no LayerScale; the"
                " released one starts at 1e-4, so that blocks begin as the identity and the"
                " teacher's first targets are the normalised embedding of the input (cosine 1.00"
                " with it at base, here 0.55), a linear function of the coordinates"
            ),
            (
                "Xavier-uniform linear layers; the released code draws linear and patch layers from"
                " a (truncated) normal distribution with sigma 0.02 and starts the encoder's time"
                " positions at zero"
            ),
            (
                "positions are weight-decayed, as in MAMP's code; the released code exempts all of"
                " them"
            ),
            (
                "the suite's schedule: warm-up over 5 % of the budget, lr down to the run's"
                " final_lr, no gradient clipping unless asked for; the released run has"
                " train.warmup=0.025 (20 of 800 epochs), train.final_lr=0.01 and"
                " train.clip_gradient=4"
            ),
            (
                "EMA decay refitted to the budget: as many time constants as 0.9999 to 1.0 has over"
                " 251,200 steps"
            ),
        ),
        choices=(
            (
                "tubes of a sixth of the time steps (5 tokens at base), beta 0.1 as on NTU-60 and"
                " PKU-MMD II"
            ),
            "all block outputs are averaged, as published",
        ),
    )
    Options = Skeleton2vecOptions

    def __init__(self, encoder: SkeletonEncoder, options: Skeleton2vecOptions) -> None:
        super().__init__(encoder, options)
        self.decoder = TokenDecoder(
            encoder, known(self.options.decoder_depth), outputs=encoder.width
        )
        self.teacher = Teacher(
            encoder, published_follows(self.options.decay, PUBLISHED_STEPS), "linear"
        )

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``mean (P - LN(mean_k IN(teacher block k)))^2`` over masked tokens,
        as in the released models/skeleton2vec.py.
        """
        options = self.options
        mask = tube_mask(
            x, self.encoder.grid, options.mask_ratio, known(options.tube), options.beta
        )
        places = mask if options.decoder == "repaired" else released_places(mask, self.encoder.grid)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        prediction = take(self.decoder(latent, places), mask.masked)  # [B, L - K, D]
        target = take(self.targets(x), mask.masked)  # [B, L - K, D]
        loss = (prediction.float() - target).square().mean()
        return loss, {"features": loss.detach()}

    def targets(self, x: Float[Tensor, "B T V 3"]) -> Float[Tensor, "B L D"]:
        """Averaged, normalised outputs of the teacher's last blocks for the unmasked input."""
        norm = instance_norm if self.options.instance_norm else _layer_norm
        normal = [norm(tokens) for tokens in self.last_outputs(x)]  # [B, L, D] each
        return _layer_norm(torch.stack(normal).mean(0))

    def last_outputs(self, x: Float[Tensor, "B T V 3"]) -> list[Float[Tensor, "B L D"]]:
        """The teacher's last ``layers`` block outputs."""
        return [tokens.float() for tokens in self.teacher(x)[-known(self.options.layers) :]]

    def after_step(self, progress: float) -> None:
        """The teacher follows."""
        self.teacher.follow(self.encoder, progress)

    def evaluated_encoder(self) -> SkeletonEncoder:
        """The teacher's, as in the released code (models/transformer.py)."""
        return self.teacher.encoder

    def diagnose(self, x: Float[Tensor, "B T V 3"]) -> Diagnosis:
        """Std of the averaged features over the batch's tokens;
        near 0 the teacher says the same of everything.
        """
        outputs = torch.stack(self.last_outputs(x)).mean(0)  # [B, L, D]
        spread = outputs.flatten(0, 1).std(dim=0).mean().item()
        warning = f"teacher features collapsed (channel std {spread:.3f}, below {COLLAPSED_STD})"
        return Diagnosis({"std/teacher": spread}, (warning,) if spread < COLLAPSED_STD else ())


def _layer_norm(tokens: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
    return nn.functional.layer_norm(tokens, tokens.shape[-1:])
