"""Generator and discriminator of StyleGAN. Karras et al. 2019, https://arxiv.org/abs/1812.04948, section 2, appendix C.

Any size: the sides are halved while they stay at 4 or more. Both have full size from the start.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from unlabeled.nn.gan import stylegan2
from unlabeled.nn.gan.stylegan2 import channels_of
from unlabeled.nn.layers.equalized import EqualizedConv2d, EqualizedLinear, Leaky
from unlabeled.nn.layers.filtered import Double, Halve
from unlabeled.nn.layers.sizes import sides


class AdaIN(nn.Module):
    """y_s (x - mean(x)) / sd(x) + y_b, each channel of each image alone, (y_s, y_b) an affine map of w (B, W).

    Equation 1; the map is relative to (1, 0).
    """

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.style = EqualizedLinear(dim, 2 * channels)
        self.norm = nn.InstanceNorm2d(channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        scale, shift = self.style(w)[:, :, None, None].chunk(2, 1)
        return (scale + 1) * self.norm(x) + shift


class StyledLayer(nn.Module):
    """Noise, bias, rectifier and style after each convolution, figure 1b."""

    noise: Tensor

    def __init__(self, channels: int, dim: int, to: tuple[int, int]):
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.activation = Leaky()
        self.adain = AdaIN(channels, dim)
        self.register_buffer("noise", torch.randn(1, 1, *to))  # for comparable images

    def forward(self, x: Tensor, w: Tensor, fresh: bool) -> Tensor:
        noise = torch.randn(len(x), *self.noise.shape[1:], device=x.device) if fresh else self.noise
        return self.adain(self.activation(x + (self.strength * noise + self.bias).to(x.dtype)), w)


class Generator(nn.Module):
    """Styles w (B, layers, dim) -> image (B, C, H, W), in about [-1, 1]: a constant, restyled after each convolution.

    `fresh`: new noise for each image; otherwise the fixed one.
    """

    def __init__(self, shape: tuple[int, int, int], dim: int, width: int = 64, maximum: int = 512):
        super().__init__()
        channels, height, breadth = shape
        pyramid = sides(height, breadth)[::-1]  # the smallest first
        widths = channels_of(len(pyramid), width, maximum)[::-1]
        self.layers = 2 * len(pyramid)
        self.constant = nn.Parameter(torch.ones(1, widths[0], *pyramid[0]))
        convolutions: list[nn.Module] = [nn.Identity()]
        for i, (a, to) in enumerate(zip(widths, pyramid, strict=True)):
            if i:
                convolutions.append(nn.Sequential(Double(to), EqualizedConv2d(widths[i - 1], a, bias=False)))
            convolutions.append(EqualizedConv2d(a, a, bias=False))
        self.convolutions = nn.ModuleList(convolutions)
        places = [place for place in zip(widths, pyramid, strict=True) for _ in range(2)]
        self.styled = nn.ModuleList(StyledLayer(a, dim, to) for a, to in places)
        self.to_image = EqualizedConv2d(widths[-1], channels, 1, padding=0)

    def forward(self, w: Tensor, fresh: bool = True) -> Tensor:
        x = self.constant.expand(len(w), -1, -1, -1)
        for i, (convolution, styled) in enumerate(zip(self.convolutions, self.styled, strict=True)):
            x = styled(convolution(x), w[:, i], fresh)
        return self.to_image(x)


class Discriminator(stylegan2.Discriminator):
    """Image (B, C, H, W) -> score (B,), unbounded. StyleGAN2's without residual blocks."""

    def stages(self, widths: list[int]) -> list[nn.Module]:
        """From each size to half of it."""
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [EqualizedConv2d(a, a), Leaky(), EqualizedConv2d(a, b), Halve(), Leaky()]
        return layers
