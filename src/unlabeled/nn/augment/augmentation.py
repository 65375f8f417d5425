"""Augmentations between images and a discriminator: x (B, C, H, W) -> x' of the same shape, differentiable.

The discriminator never sees an image as it is, real or fake, and the generator is taught through the augmentation.
`observe` is told the discriminator's scores of real images, for those that adapt, and gives what is to be recorded.
"""

from torch import Tensor, nn


class NoAugmentation(nn.Module):
    """The image itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def observe(self, score_real: Tensor) -> dict[str, Tensor]:
        """Nothing adapts."""
        return {}
