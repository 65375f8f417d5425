"""PatchGAN discriminators of pix2pix and CycleGAN, with a score for every patch of 70x70 pixels, or of another size.

Isola et al. 2017, https://arxiv.org/abs/1611.07004, section 3.2.2 and appendix 6.1.2; Zhu et al. 2017,
https://arxiv.org/abs/1703.10593, appendix 7.2: C64-C128-C256-C512, no normalisation in the first.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError
from unlabeled.nn.translation.resnet_generator import initialize


class PatchDiscriminator(nn.Module):
    """x (B, images C, H, W) -> scores (B, H // 2^n - 2, W // 2^n - 2), one a patch. Patches extend over the border.

    n halvings see patches of 18 2^(n - 1) - 2 pixels: 16, 34, 70, 142, 286.
    """

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W) of an image; sides from 4 2^n up
        width: int = 64,
        halvings: int = 3,  # n; paper: 1, 3 and 5
        images: int = 1,  # that are judged together, as channels
    ):
        super().__init__()
        channels, height, width_in_pixels = shape
        if halvings < 1:
            raise UserError(
                f"a patch discriminator's halvings={halvings} must be 1 or more: PixelDiscriminator has none"
            )
        smallest, field = 4 * 2**halvings, 18 * 2 ** (halvings - 1) - 2
        if min(height, width_in_pixels) < smallest:
            raise UserError(
                f"a {field}x{field} patch discriminator needs images of at least {smallest}x{smallest}, "
                f"not {height}x{width_in_pixels}: say a larger data.size, or network=translation/patch_16 for it"
            )
        layers: list[nn.Module] = [nn.Conv2d(images * channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        depths = [width * min(2**i, 8) for i in range(halvings + 1)]
        for inputs, outputs in pairwise(depths):
            stride = 1 if len(layers) == 3 * halvings - 1 else 2  # the last
            layers += [nn.Conv2d(inputs, outputs, 4, stride, 1), nn.InstanceNorm2d(outputs), nn.LeakyReLU(0.2)]
        layers.append(nn.Conv2d(depths[-1], 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[:, 0]


class PixelDiscriminator(nn.Module):
    """x (B, images C, H, W) -> scores (B, H, W), one a pixel. Isola et al. 2017, appendix 6.1.2: C64-C128, 1x1."""

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W) of an image
        width: int = 64,
        images: int = 1,  # that are judged together, as channels
    ):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(images * shape[0], width, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 1),
            nn.InstanceNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 1),
        )
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[:, 0]


class ConditionalDiscriminator(nn.Module):
    """D(a, b): a (B, C, H, W), b (B, C, H, W) -> scores of b as a's translation."""

    def __init__(self, network: nn.Module):  # (B, 2 C, H, W) -> scores (B, ...)
        super().__init__()
        self.network = network

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.network(torch.cat([a, b], 1))


class UnconditionalDiscriminator(nn.Module):
    """D(b), which does not see a: a (B, C, H, W), b (B, C, H, W) -> scores of b as an image of its domain."""

    def __init__(self, network: nn.Module):  # (B, C, H, W) -> scores (B, ...)
        super().__init__()
        self.network = network

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.network(b)
