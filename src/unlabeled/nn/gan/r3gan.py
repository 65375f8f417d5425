"""R3GAN's generator and discriminator: residual networks without normalisation.

Huang et al. 2024, https://arxiv.org/abs/2501.05441, section 4, config E. Any size: `width` channels at sides up to 32,
half as many with each doubling above, two blocks a stage. The generator ends with tanh, which the paper's does
not.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from unlabeled.errors import UserError
from unlabeled.nn.gan.discriminators import FeatureDiscriminator
from unlabeled.nn.layers.init import Layer
from unlabeled.nn.layers.sizes import sides

SLOPE = 0.2  # of leaky ReLU
GAIN = (2 / (1 + SLOPE**2)) ** 0.5  # keeps the variance through it


class Block(nn.Module):
    """x (B, C, H, W) -> x + residue: 1x1 to twice the channels, grouped 3x3, and 1x1 back, which starts at 0.

    Fix-up (Zhang, Dauphin & Ma 2019, https://arxiv.org/abs/1901.09321): of L blocks with three layers each, weights
    start smaller by L^(-1/4), so that no norm is needed.
    """

    def __init__(self, channels: int, group: int, blocks: int):
        super().__init__()
        wide, gain = 2 * channels, GAIN * blocks**-0.25
        if wide % group:
            raise UserError(f"{wide} channels do not divide into groups of {group}: take another width")
        self.conv1 = scaled(nn.Conv2d(channels, wide, 1), gain)
        self.conv2 = scaled(nn.Conv2d(wide, wide, 3, 1, 1, groups=wide // group), gain)
        self.conv3 = scaled(nn.Conv2d(wide, channels, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        h = leaky_relu(self.conv1(x), SLOPE)
        return x + self.conv3(leaky_relu(self.conv2(h), SLOPE))


class Resample(nn.Module):
    """(B, in, h, w) -> (B, out, H, W), bilinearly; a 1x1 convolution where channels change, on the smaller side."""

    def __init__(self, channels: int, out: int, to: tuple[int, int]):
        super().__init__()
        self.to_sides = to
        self.project = nn.Identity() if channels == out else scaled(nn.Conv2d(channels, out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < self.to_sides[0]:
            return interpolate(self.project(x), self.to_sides, mode="bilinear")
        return self.project(interpolate(x, self.to_sides, mode="bilinear"))


class Generator(nn.Module):
    """z (B, latent_dim) -> image (B, C, H, W) in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, int, int],
        width: int = 768,
        group: int = 16,  # channels of each group of the 3x3 convolutions
        blocks: int = 2,  # of a stage
    ):
        super().__init__()
        channels, height, breadth = shape
        pyramid = sides(height, breadth)[::-1]
        widths = narrowing(pyramid, width)
        self.latent_dim = latent_dim
        self.basis = nn.Parameter(torch.randn(widths[0], *pyramid[0]))
        self.mix = scaled(nn.Linear(latent_dim, widths[0], bias=False))
        layers = trunk(pyramid, widths, group, blocks)
        self.net = nn.Sequential(*layers, scaled(nn.Conv2d(widths[-1], channels, 1, bias=False)), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.net(self.basis * self.mix(z)[:, :, None, None])


class Discriminator(FeatureDiscriminator):
    """Image (B, C, H, W) -> score (B,), unbounded: the generator mirrored."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 768,
        group: int = 16,  # channels of each group of the 3x3 convolutions
        blocks: int = 2,  # of a stage
    ):
        super().__init__()
        channels, height, breadth = shape
        pyramid = sides(height, breadth)
        widths = narrowing(pyramid, width)
        layers: list[nn.Module] = [scaled(nn.Conv2d(channels, widths[0], 1, bias=False))]
        layers += trunk(pyramid, widths, group, blocks)
        layers += [scaled(nn.Conv2d(widths[-1], widths[-1], pyramid[-1], groups=widths[-1], bias=False)), nn.Flatten()]
        self.body = nn.Sequential(*layers)
        self.head = scaled(nn.Linear(widths[-1], 1, bias=False))


def narrowing(pyramid: list[tuple[int, int]], width: int) -> list[int]:
    """Channels at each of the sides: width up to 32 pixels, then half as many with each doubling."""
    return [width // max(1, 2 ** ((max(side) - 1) // 32).bit_length()) for side in pyramid]


def trunk(pyramid: list[tuple[int, int]], widths: list[int], group: int, blocks: int) -> list[nn.Module]:
    """From the first of the sides to the last: blocks at each, resampled in between."""
    layers: list[nn.Module] = []
    for i, (width, to) in enumerate(zip(widths, pyramid, strict=True)):
        layers += [Resample(widths[i - 1], width, to)] if i else []
        layers += [Block(width, group, blocks * len(pyramid)) for _ in range(blocks)]
    return layers


def scaled(layer: Layer, gain: float = 1.0) -> Layer:
    """Normal weights of variance gain^2 / inputs; biases of 0."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
    with torch.no_grad():
        layer.weight.mul_(gain)
        if layer.bias is not None:
            layer.bias.zero_()
    return layer
