"""Predict where each joint ends up relative to its start, from the visible tokens."""

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from methods.base import About, Method, MethodOptions, Scalar
from methods.parts.encoder import SkeletonEncoder
from methods.parts.masks import random_mask


class MeanMotionOptions(MethodOptions):
    """Options."""

    mask_ratio: float = Field(default=0.9, gt=0, lt=1)


class MeanMotion(Method[MeanMotionOptions]):
    """One linear layer on the mean of the visible tokens."""

    about = About(title="Mean motion", paper="none, the README's example")
    Options = MeanMotionOptions

    def __init__(self, encoder: SkeletonEncoder, options: MeanMotionOptions) -> None:
        super().__init__(encoder, options)
        self.predict = nn.Linear(encoder.width, encoder.grid.joints * 3)

    def loss(self, x: Float[Tensor, "B T V 3"]) -> tuple[Scalar, dict[str, Scalar]]:
        """Mean squared error of body sequences in metres."""
        mask = random_mask(x, self.encoder.grid, self.options.mask_ratio)
        latent = self.encoder(x, mask.visible)  # [B, K, D]: K visible tokens
        prediction = self.predict(latent.mean(dim=1))  # [B, V * 3]
        target = (x[:, -1] - x[:, 0]).flatten(1)  # [B, V * 3]
        loss = (prediction - target).square().mean()
        return loss, {"displacement": loss.detach()}
