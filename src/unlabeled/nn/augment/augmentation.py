"""Differentiable augmentations of a discriminator's images: x (B, C, H, W) -> the same shape."""

from torch import Tensor, nn


class Augmentation(nn.Module):
    """A module x -> x', through which the generator's gradients flow."""

    def observe(self, score_real: Tensor) -> dict[str, Tensor]:
        """Adapt to the discriminator's scores (B,) of real images; the quantities to be recorded. Here: nothing."""
        return {}


class NoAugmentation(Augmentation):
    """The image itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x
