"""GFP, General Feature Prediction: predict learned multi-level features instead of coordinates.

Sun et al., "Towards Efficient General Feature Prediction in Masked Skeleton Modeling", ICCV 2025,
arXiv 2509.03609; no public code. Notation: predictions P_l = f(E_N), targets Z_l = g(X).
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Annotated, Any, Literal, Self

import torch
from jaxtyping import Float, Float32
from pydantic import Field
from torch import Tensor, nn

from methods.base import (
    About,
    Diagnosis,
    Method,
    MethodOptions,
    OptionError,
    Scalar,
    SlashList,
    known,
)
from methods.parts.decoders import TokenFiller
from methods.parts.encoder import (
    SeparablePositions,
    SkeletonEncoder,
    initialise,
    transformer_blocks,
)
from methods.parts.kernels import full_precision
from methods.parts.masks import Mask, motion_aware_mask
from methods.parts.options import LossWeight, Sharpness, Width
from methods.parts.ranks import all_rows, average, ranks, row_variance, total
from methods.parts.tokens import TokenGrid, divisors, nearest_divisor, patchify

VERSION = 1

COLLAPSED_STD = 0.1


class GFPOptions(MethodOptions):
    """Options; `GFP.about` tells how they relate to the published ones.

    Widths are 512 and 2048 at ``base`` and in proportion to the encoder's elsewhere. ``windows``
    counts the time windows of each local level, coarser ones dividing finer ones; none given are
    ``6/3/1`` (150 + 75 + 25 targets at 30 x 25 tokens) or as near as divides. The global level is
    always there. ``target_input`` is the ablation of what the target network reads: motion,
    coordinates, or the coordinates of masked tokens (others zero). ``decoder_projection`` puts a
    linear layer before the decoder. ``covariance``: its matrix products in float32, in the run's
    precision (autocast), or of bfloat16 operands with float32 sums whatever the run's precision
    (bf16).
    """

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)
    tau: Sharpness = 0.8
    target_input: Literal["motion", "joints", "masked-joints"] = "motion"
    windows: Annotated[tuple[int, ...], SlashList] = ()
    lambda_pred: LossWeight = 5.0
    var_weight: LossWeight = 5.0
    cov_weight: LossWeight = 1.0
    local_width: Width | None = None
    global_width: Width | None = None
    decoder_projection: bool = Field(default=False, json_schema_extra={"later": True})
    covariance: Literal["float32", "autocast", "bf16"] = Field(
        default="float32", json_schema_extra={"later": True}
    )

    def resolved(self, encoder: SkeletonEncoder) -> Self:
        """Fill in the feature widths and check that the windows tile the time axis."""
        windows = self.windows or default_windows(encoder.grid.times)
        _check_windows(windows, encoder.grid.times)
        return self.model_copy(
            update={
                "windows": windows,
                "local_width": self.local_width or 2 * encoder.width,
                "global_width": self.global_width or 8 * encoder.width,
            }
        )


def default_windows(times: int) -> tuple[int, ...]:
    """6, 3 and 1 windows, or as near to it as divides ``times`` time steps."""
    finest = nearest_divisor(times, 6)
    return tuple(dict.fromkeys((finest, nearest_divisor(finest, finest / 2), 1)))


def _check_windows(windows: tuple[int, ...], times: int) -> None:
    allowed, finer = divisors(times), times
    for level, count in enumerate(windows):
        if count < 1 or finer % count or (level and count == finer):
            raise OptionError(
                f"windows={'/'.join(map(str, windows))}: each count must be smaller than the one"
                f" before it and divide it, the first must divide the {times} time steps:"
                f" {', '.join(map(str, allowed))}"
            )
        finer = count


def _mlp(inputs: int, width: int, *, batch_norm: bool) -> nn.Sequential:
    """Three linear layers ``inputs -> width -> width -> width`` with (batch norm and)
    ReLU between them.
    """
    layers: list[nn.Module] = []
    for _ in range(2):
        layers.append(nn.Linear(inputs, width))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width, track_running_stats=False))
        layers.append(nn.ReLU())
        inputs = width
    return nn.Sequential(*layers, nn.Linear(width, width))


def pool_time(
    tokens: Float[Tensor, "B L D"], times: int, windows: int
) -> Float[Tensor, "B L//{times}*{windows} D"]:
    """Average-pool a time-major grid from ``times`` steps to ``windows``."""
    batch, count, width = tokens.shape
    steps, joints = times // windows, count // times
    split = tokens.reshape(batch, windows, steps, joints, width)  # [B, W, T_e / W, V, D]
    return split.mean(2).reshape(batch, windows * joints, width)


class TargetNetwork(nn.Module):
    """Target generation network: one attention-free MLP per level on the patches of the unmasked
    input's motion.

    Local levels read time-pooled 12-d patches, the global level all of them flattened. How the
    inputs are assembled we did not find stated; of the ways we costed, this one matches the
    published 0.64 GFLOPs.
    """

    def __init__(
        self, grid: TokenGrid, windows: tuple[int, ...], local_width: int, global_width: int
    ) -> None:
        super().__init__()
        self.grid, self.windows = grid, windows
        self.local = nn.ModuleList(
            _mlp(grid.patch_width, local_width, batch_norm=True) for _ in windows
        )
        self.whole = _mlp(grid.tokens * grid.patch_width, global_width, batch_norm=True)

    def forward(self, patches: Float[Tensor, "B L P"]) -> list[Float[Tensor, "B _ _"]]:
        """Targets Z_l: ``[B, W * V, local width]`` per level, then ``[B, 1, global width]``."""
        targets = []
        for count, network in zip(self.windows, self.local, strict=True):
            pooled = pool_time(patches, self.grid.times, count)  # [B, W * V, P]
            # batch norm takes rows: every window and joint of every sequence is one
            targets.append(network(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2]))
        return [*targets, self.whole(patches.flatten(1)).unsqueeze(1)]


def patch_motion(x: Float[Tensor, "B T V 3"], grid: TokenGrid) -> Float[Tensor, "B L P"]:
    """Difference of consecutive patches ``X_e[t] - X_e[t - 1]``, zero in the first step."""
    patches = patchify(x, grid.patch)  # [B, L, P]
    step = patches[:, grid.joints :] - patches[:, : -grid.joints]  # [B, L - V, P]
    return nn.functional.pad(step, (0, 0, grid.joints, 0))


class PyramidDecoder(nn.Module):
    """Pools the grid along time before each block:
    750 -> 150 -> 75 -> 25 -> 1 tokens at ``base``.
    """

    def __init__(
        self,
        encoder: SkeletonEncoder,
        windows: tuple[int, ...],
        local: int,
        whole: int,
        *,
        projection: bool,
    ) -> None:
        super().__init__()
        grid, width = encoder.grid, encoder.width
        self.windows = windows
        self.project = nn.Linear(width, width) if projection else nn.Identity()
        self.fill = TokenFiller(encoder)
        self.blocks = transformer_blocks(len(windows) + 1, width, encoder.size.heads)
        self.positions = nn.ModuleList(
            SeparablePositions(count, grid.joints, width) for count in windows
        )
        self.heads = nn.ModuleList(_mlp(width, local, batch_norm=False) for _ in windows)
        self.whole_head = _mlp(width, whole, batch_norm=False)
        initialise(self)

    def forward(self, latent: Float[Tensor, "B K D"], mask: Mask) -> list[Float[Tensor, "B _ _"]]:
        """Predictions P_l from visible latents, one tensor per level as in `TargetNetwork`."""
        pooled = self.fill.pooled(self.project(latent), mask, self.windows[0])  # [B, W * V, D]
        predictions = []
        for level, (block, head) in enumerate(zip(self.blocks, self.heads, strict=False)):
            tokens = block(pooled + self.positions[level]())  # [B, W * V, D]
            predictions.append(head(tokens))
            if level + 1 < len(self.windows):
                pooled = pool_time(tokens, self.windows[level], self.windows[level + 1])
        whole = self.blocks[-1](tokens.mean(1, keepdim=True))  # [B, 1, D]
        return [*predictions, self.whole_head(whole)]


def variance_loss(z: Float[Tensor, "n C"], floor: float = 1.0) -> Scalar:
    """``L_var = (1 / C) sum_i max(0, floor - sqrt(Var(Z[:, i]) + 1e-4))``."""
    return torch.relu(floor - torch.sqrt(row_variance(z) + 1e-4)).mean()


def covariance_loss(z: Float[Tensor, "n C"], *, rounded: bool = False) -> Scalar:
    """``L_cov = (1 / C) sum_{i != j} Cov(Z)_ij^2``, covariance with n - 1.

    The squared Frobenius norm of the C x C covariance equals that of the n x n Gram matrix of the
    centred rows over (n - 1); the smaller of the two is formed. ``rounded``: by `RoundedGram`.
    """
    rows, width = ranks() * len(z), z.shape[1]
    centred = z - average(z.mean(dim=0))  # [n, C]
    if rows < width:
        centred = all_rows(centred)  # [n of all ranks, C]
    narrow = centred if rows >= width else centred.T  # [n, C] or [C, n]
    if rounded:
        product = RoundedGram.apply(narrow)  # [C, C] or [n, n]
        centred = centred.bfloat16().float()  # for a diagonal that is rounded as the product's
    else:
        product = (narrow.T @ narrow).to(z.dtype)  # [C, C] or [n, n]; autocast may round it
    diagonal = centred.square().sum(0)  # [C]
    if rows >= width:  # else every rank has all rows
        product, diagonal = total(product), total(diagonal)
    return (product.square().sum() - diagonal.square().sum()) / ((rows - 1) ** 2 * width)


def rounded_product(
    one: Float[Tensor, "_ n"], other: Float[Tensor, "n _"]
) -> Float32[Tensor, "_ _"]:
    """``one @ other``, of operands rounded to bfloat16 and with float32 sums."""
    one, other = one.bfloat16(), other.bfloat16()
    if one.is_cuda:  # tensor cores; a CPU has no such kernel
        return torch.bmm(one.unsqueeze(0), other.unsqueeze(0), out_dtype=torch.float32).squeeze(0)
    return one.float() @ other.float()


class RoundedGram(torch.autograd.Function):
    """``X^T X`` by `rounded_product`, its gradient ``X (G + G^T)`` too."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "n C"]) -> Float32[Tensor, "C C"]:
        """The product of every two columns."""
        ctx.save_for_backward(x.bfloat16())
        return rounded_product(x.T, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "C C"]) -> Float32[Tensor, "n C"]:
        """The gradient of the columns."""
        (x,), (gradient,) = ctx.saved_tensors, gradients
        return rounded_product(x, gradient + gradient.T)


class Regulariser(nn.Module):
    """L_var and L_cov summed over levels; a module, so that its FLOPs are counted apart
    (`harness.speed.flops`).

    Args:
        rounded: see `covariance_loss`.
    """

    def __init__(self, *, rounded: bool = False) -> None:
        super().__init__()
        self.rounded = rounded

    def forward(self, targets: list[Float[Tensor, "B _ _"]]) -> tuple[Scalar, Scalar]:
        """Variance and covariance term of the targets of each level, over all rows of the batch."""
        rows = [target.flatten(0, 1).float() for target in targets]  # [n, C] per level
        variance = torch.stack([variance_loss(z) for z in rows]).sum()
        covariance = torch.stack([covariance_loss(z, rounded=self.rounded) for z in rows]).sum()
        return variance, covariance


class GFP(Method[GFPOptions]):
    """Predict features of motion at four temporal granularities, targets learned jointly."""

    about = About(
        title="General Feature Prediction",
        paper="Sun et al., ICCV 2025, arXiv 2509.03609",
        epochs=400,
        deviations=(
            (
                "variance 5 and covariance 1, as in the same first author's HuiGuanLab/UmURL; the"
                " paper's text, as it was transcribed, has them the other way round:"
                " var_weight=1,cov_weight=5"
            ),
        ),
        choices=(
            (
                "decoder positions on the full grid and again on each level; feature widths in"
                " proportion to the encoder"
            ),
            "the first step's motion is zero",
            (
                "one block per level and 3-layer heads: the reading nearest to the published 1.57"
                " GFLOPs (counted: 1.54)"
            ),
            (
                "no linear layer between encoder and decoder; MAMP's decoder has one, and with"
                " decoder_projection=true 1.56 GFLOPs are counted"
            ),
            "windows of 5, 10 and 30 patches (not frames): the reading that reproduces 251 targets",
            (
                "target network input: time-pooled motion patches; flattened motion for the global"
                " level"
            ),
            (
                "target network layers: linear, batch norm (batch statistics), ReLU, as in"
                " HuiGuanLab/UmURL"
            ),
            "L_pred is the mean over all elements of a level, levels are summed with equal weight",
            "variance and covariance over all rows of a level (clip, body, window, joint)",
            (
                "the statistics (batch norm, variance, covariance) are those of the batch: a"
                " sequence's loss depends on the others of its batch, and another batch size is"
                " another objective"
            ),
            (
                "empty bodies are not in the statistics because the harness does not batch them;"
                " with data.include_empty_bodies=true they are, all as one point"
            ),
            (
                "variance and covariance in float32 whatever the run's precision;"
                " covariance=autocast leaves the products of the covariance (6 % of a step's FLOPs"
                " at base and batch 128) to it, as HuiGuanLab/UmURL does; covariance=bf16 rounds"
                " their operands to bfloat16 and sums in float32"
            ),
        ),
    )
    Options = GFPOptions

    def __init__(self, encoder: SkeletonEncoder, options: GFPOptions) -> None:
        super().__init__(encoder, options)
        local, whole = known(self.options.local_width), known(self.options.global_width)
        windows = self.options.windows
        self.decoder = PyramidDecoder(
            encoder, windows, local, whole, projection=self.options.decoder_projection
        )
        self.target_network = TargetNetwork(encoder.grid, windows, local, whole)
        self.regulariser = Regulariser(rounded=self.options.covariance == "bf16")
        initialise(self.target_network)

    def predictions_and_targets(
        self, x: Float[Tensor, "B T V 3"]
    ) -> tuple[list[Float[Tensor, "B _ _"]], list[Float[Tensor, "B _ _"]]]:
        """P_l and Z_l of one batch, finest level first, global level last."""
        mask = motion_aware_mask(x, self.encoder.grid, self.options.mask_ratio, self.options.tau)
        latent = self.encoder(x, mask.visible)  # [B, K, D]
        return self.decoder(latent, mask), self.target_network(self.target_patches(x, mask))

    def target_patches(self, x: Float[Tensor, "B T V 3"], mask: Mask) -> Float[Tensor, "B L P"]:
        """What the target network reads."""
        grid = self.encoder.grid
        if self.options.target_input == "motion":
            return patch_motion(x, grid)
        patches = patchify(x, grid.patch)  # [B, L, P]
        if self.options.target_input == "joints":
            return patches
        seen = mask.visible.unsqueeze(-1).expand(-1, -1, grid.patch_width)  # [B, K, P]
        return patches.scatter(1, seen, 0)

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """``lambda sum_l mean (P_l - Z_l)^2 + sum_l (var_weight L_var + cov_weight L_cov)``."""
        predictions, targets = self.predictions_and_targets(x)  # [B, W * V or 1, C] per level
        pairs = zip(predictions, targets, strict=True)
        prediction = torch.stack([(p.float() - z.float()).square().mean() for p, z in pairs]).sum()
        with nullcontext() if self.options.covariance == "autocast" else full_precision(x):
            variance, covariance = self.regulariser(targets)
        options = self.options
        loss = (
            options.lambda_pred * prediction
            + options.var_weight * variance
            + options.cov_weight * covariance
        )
        parts = {"prediction": prediction, "variance": variance, "covariance": covariance}
        return loss, {name: part.detach() for name, part in parts.items()}

    def diagnose(self, x: Float[Tensor, "B T V 3"]) -> Diagnosis:
        """Per level: channel std of Z, mean absolute off-diagonal correlation of Z,
        cosine of P and Z.
        """
        predictions, targets = self.predictions_and_targets(x)
        values: dict[str, float] = {}
        for name, p, z in zip(self.level_names(), predictions, targets, strict=True):
            rows = z.flatten(0, 1).float()  # [n, C]
            values[f"std/{name}"] = rows.std(dim=0).mean().item()
            values[f"correlation/{name}"] = mean_correlation(rows)
            values[f"cosine/{name}"] = (
                nn.functional.cosine_similarity(p.float(), z.float(), dim=-1).mean().item()
            )
        low = [name for name in self.level_names() if values[f"std/{name}"] < COLLAPSED_STD]
        warnings = []
        if low:
            warnings.append(
                f"targets collapsed (channel std below {COLLAPSED_STD}) at level {', '.join(low)}"
            )
        if empty := int((x == 0).flatten(1).all(dim=1).sum()):
            warnings.append(
                f"{empty} of {len(x)} bodies are empty, and all one point in batch norm and"
                " statistics"
            )
        return Diagnosis(values, tuple(warnings))

    def level_names(self) -> list[str]:
        """Names of the levels in reports: ``6x``, ``3x``, ``1x`` windows, then ``global``."""
        return [*(f"{count}x" for count in self.options.windows), "global"]


def mean_correlation(rows: Float[Tensor, "n C"]) -> float:
    """Mean absolute correlation between different columns."""
    width = rows.shape[1]
    matrix = torch.corrcoef(rows.T).nan_to_num().abs()  # [C, C]
    return ((matrix.sum() - matrix.diagonal().sum()) / (width * (width - 1))).item()
