"""Growing generator and discriminator. Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 2 and table 2.

Any size: the sides are halved for as long as they stay at 4 or more; training begins at the smallest.
"""

from itertools import pairwise
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from unlabeled.nn.gan.stylegan2 import channels_of
from unlabeled.nn.layers.equalized import EqualizedConv2d, EqualizedLinear, Leaky, PixelNorm
from unlabeled.nn.layers.minibatch import MinibatchStandardDeviation
from unlabeled.nn.layers.sizes import sides

Sides = tuple[int, int]


def resized(x: Tensor, to: Sides) -> Tensor:
    """x (B, C, H, W) at other sides: by means of pixels to smaller ones, by repeated pixels to larger ones."""
    if tuple(x.shape[2:]) == tuple(to):
        return x
    return interpolate(x, to, mode="area" if to[0] < x.shape[2] or to[1] < x.shape[3] else "nearest")


class Growing(nn.Module):
    """Base of networks grown to `stage`, 0 the smallest; while a stage fades in, it is blended by alpha."""

    alpha: Tensor

    def __init__(self, pyramid: list[Sides]):
        super().__init__()
        self.pyramid = pyramid  # sides, the smallest first
        self.stage, self.fading = 0, False
        self.register_buffer("alpha", torch.ones(()), persistent=False)

    def grow(self, level: float) -> None:
        """Set the growth: at 1 the second size is reached, at 0.3 it is fading in with an alpha of 0.3."""
        self.stage = ceil(level)
        self.fading = level < self.stage
        self.alpha.fill_(1 - (self.stage - level))

    def blended(self, old: Tensor, new: Tensor) -> Tensor:
        return old + (new - old) * self.alpha

    def shrunk(self, x: Tensor) -> Tensor:
        """Images at the stage's size, blended with those of the stage before while it fades in."""
        x = resized(x, self.pyramid[self.stage])
        if not self.fading:
            return x
        return self.blended(resized(resized(x, self.pyramid[self.stage - 1]), self.pyramid[self.stage]), x)


class Generator(Growing):
    """z (B, latent_dim) -> image (B, C, h, w) of the stage's size, in about [-1, 1]."""

    def __init__(self, latent_dim: int, shape: tuple[int, int, int], width: int = 64, maximum: int = 512):
        channels, height, breadth = shape
        super().__init__(sides(height, breadth)[::-1])
        widths = channels_of(len(self.pyramid), width, maximum)[::-1]
        h, w = self.pyramid[0]
        layer = lambda a, b: [EqualizedConv2d(a, b), Leaky(), PixelNorm()]
        start = [EqualizedLinear(latent_dim, widths[0] * h * w), nn.Unflatten(1, (widths[0], h, w)), Leaky()]
        blocks: list[nn.Module] = [nn.Sequential(PixelNorm(), *start, PixelNorm(), *layer(widths[0], widths[0]))]
        blocks += [nn.Sequential(*layer(a, b), *layer(b, b)) for a, b in pairwise(widths)]
        self.blocks = nn.ModuleList(blocks)
        self.to_image = nn.ModuleList(EqualizedConv2d(a, channels, 1, padding=0) for a in widths)

    def forward(self, z: Tensor) -> Tensor:
        before = x = self.blocks[0](z)
        for i in range(1, self.stage + 1):
            before, x = x, self.blocks[i](resized(x, self.pyramid[i]))
        image = self.to_image[self.stage](x)
        if not self.fading:
            return image
        return self.blended(resized(self.to_image[self.stage - 1](before), self.pyramid[self.stage]), image)


class Discriminator(Growing):
    """Image (B, C, H, W), resized to the stage's, -> score (B,), unbounded."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 64,
        maximum: int = 512,
        group: int | None = 4,  # images of minibatch standard deviation; None: the batch
    ):
        channels, height, breadth = shape
        super().__init__(sides(height, breadth)[::-1])
        widths = channels_of(len(self.pyramid), width, maximum)[::-1]
        h, w = self.pyramid[0]
        spread = MinibatchStandardDeviation((widths[0], h, w), group)
        score = [EqualizedLinear(widths[0] * h * w, widths[0]), Leaky(), EqualizedLinear(widths[0], 1)]
        last = [spread, EqualizedConv2d(widths[0] + spread.added, widths[0]), Leaky(), nn.Flatten(), *score]
        layer = lambda a, b: [EqualizedConv2d(a, b), Leaky()]
        steps = [nn.Sequential(*layer(b, b), *layer(b, a)) for a, b in pairwise(widths)]
        self.blocks = nn.ModuleList([nn.Sequential(*last), *steps])
        self.from_image = nn.ModuleList(
            nn.Sequential(EqualizedConv2d(channels, a, 1, padding=0), Leaky()) for a in widths
        )

    def forward(self, x: Tensor) -> Tensor:
        x = resized(x, self.pyramid[self.stage])
        h = self.from_image[self.stage](x)
        for i in range(self.stage, 0, -1):
            h = resized(self.blocks[i](h), self.pyramid[i - 1])
            if self.fading and i == self.stage:
                h = self.blended(self.from_image[i - 1](resized(x, self.pyramid[i - 1])), h)
        return self.blocks[0](h).flatten()
