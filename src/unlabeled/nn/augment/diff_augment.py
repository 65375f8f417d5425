"""Differentiable augmentation (DiffAugment): colour, translation, cutout.

Zhao et al. 2020, https://arxiv.org/abs/2006.10738, section 3.2; strengths of the authors' code. Each image, real or
fake, has its own draws; colours may leave [-1, 1], as in that code.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from unlabeled.errors import UserError
from unlabeled.nn.augment.augmentation import Augmentation


class DiffAugment(Augmentation):
    """x (B, C, H, W) -> x' of the same shape. A strength of 0 leaves its part out."""

    def __init__(
        self,
        brightness: float = 0.5,  # added, from [-brightness, brightness], to an image of [-1, 1]
        saturation: float = 1.0,  # factor from 1 +- saturation, about the mean of each pixel's channels
        contrast: float = 0.5,  # factor from 1 +- contrast, about the mean of the image
        translation: float = 0.125,  # by whole pixels, up to this share of each side; padded with zeros
        cutout: float = 0.5,  # sides of a rectangle of zeros, as a share of the image's
    ):
        super().__init__()
        strengths = {"saturation": saturation, "translation": translation, "cutout": cutout}
        for name, value in {"brightness": brightness, "contrast": contrast, **strengths}.items():
            if value < 0 or (name in strengths and value > 1):
                raise UserError(f"model.augmentation.{name}={value}: {'from 0 to 1' if value > 0 else 'not negative'}")
        self.brightness, self.saturation, self.contrast = brightness, saturation, contrast
        self.translation, self.cutout = translation, cutout

    def forward(self, x: Tensor) -> Tensor:
        check_images(x)
        return self.cut(self.moved(self.coloured(x)))

    def coloured(self, x: Tensor) -> Tensor:
        x = x + self.brightness * spread(x)
        grey = x.mean(1, keepdim=True)
        x = (x - grey) * (1 + self.saturation * spread(x)) + grey
        mean = x.mean((1, 2, 3), keepdim=True)
        return (x - mean) * (1 + self.contrast * spread(x)) + mean

    def moved(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            size = x.shape[axis]
            most = int(size * self.translation + 0.5)
            if most:
                shift = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
                source = (torch.arange(size, device=x.device) + shift + most).view(
                    -1, 1, *((size, 1), (1, size))[axis - 2]
                )
                wide = pad(x, (0, 0, most, most) if axis == 2 else (most, most, 0, 0))
                x = wide.gather(axis, source.expand_as(x))
        return x

    def cut(self, x: Tensor) -> Tensor:
        inside = []
        for size in x.shape[2:]:
            length = int(size * self.cutout + 0.5)
            # centres such that a pixel and its mirror image are equally likely to be cut
            centre = torch.randint(0, size + 1 - length % 2, (len(x), 1), device=x.device)
            place = torch.arange(size, device=x.device) - centre + length // 2  # (B, size), 0 at the rectangle's start
            inside.append((place >= 0) & (place < length))
        rows, columns = inside
        return x * ~(rows[:, None, :, None] & columns[:, None, None, :])


def spread(x: Tensor) -> Tensor:
    """A random number in [-1, 1) for each image, (B, 1, 1, 1)."""
    return 2 * torch.rand(len(x), 1, 1, 1, device=x.device) - 1


def check_images(x: Tensor) -> None:
    if x.ndim != 4:
        raise UserError("augmentations are for images, and this data is points: say augmentation=none")
