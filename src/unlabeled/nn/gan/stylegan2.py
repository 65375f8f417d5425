"""Generator and discriminator of StyleGAN2. Karras et al. 2020, https://arxiv.org/abs/1912.04958, sections 2 and 4.

Any size: the sides are halved for as long as they stay at 4 or more. In plain PyTorch, without compiled operators.
"""

from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from unlabeled.nn.gan.discriminators import FeatureDiscriminator
from unlabeled.nn.layers.equalized import EqualizedConv2d, EqualizedLinear, Leaky
from unlabeled.nn.layers.filtered import Double, Filter, Halve, even
from unlabeled.nn.layers.minibatch import MinibatchStandardDeviation
from unlabeled.nn.layers.sizes import sides


def channels_of(levels: int, width: int, maximum: int) -> list[int]:
    """Channels at each size, the full one first: doubled with each halving, up to a maximum."""
    return [min(width * 2**i, maximum) for i in range(levels)]


class ModulatedConv(nn.Module):
    """(B, channels, H, W) and w (B, W) -> (B, out, H, W): a convolution whose weights depend on each image's style.

    w'_ijk = s_i w_ijk (equation 1), with s an affine map of w, relative to s = 1;
    w''_ijk = w'_ijk / sqrt(sum_ik w'_ijk^2 + eps) (equation 3). Here s_i scales the
    i-th channel of the input and the root the j-th of the output, so that all images share one convolution.
    """

    def __init__(self, channels: int, out: int, dim: int, kernel: int = 3, demodulate: bool = True):
        super().__init__()
        self.style = EqualizedLinear(dim, channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out, channels, kernel, kernel))
        self.scale = 1 / sqrt(channels * kernel**2)
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        s = self.style(w)
        weight = self.weight * self.scale
        x = self.convolve(x * s[:, :, None, None], weight)
        return x * self.demodulation(s, weight).to(x.dtype)[:, :, None, None] if self.demodulate else x

    def demodulation(self, s: Tensor, weight: Tensor) -> Tensor:
        """(B, out), in float32."""
        with torch.autocast(s.device.type, enabled=False):
            energy = weight.float().square().sum((2, 3))  # (out, channels)
            return (s.float().square() @ energy.T + 1e-8).rsqrt()

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return conv2d(x, weight, padding=weight.shape[2] // 2)


class ModulatedUp(ModulatedConv):
    """Twice the size, filtered, and cropped to the given sides: (B, channels, h, w) -> (B, out, H, W)."""

    def __init__(self, channels: int, out: int, dim: int, to: tuple[int, int]):
        super().__init__(channels, out, dim)
        self.to_sides = to
        self.smooth = Filter(gain=4.0)  # after zeros between pixels

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        x = conv_transpose2d(x, weight.transpose(0, 1), stride=2)  # (B, out, 2h + 1, 2w + 1)
        return self.smooth(x)[..., : self.to_sides[0], : self.to_sides[1]]


class StyledLayer(nn.Module):
    """A modulated convolution, noise, bias and rectifier: figure 2c."""

    noise: Tensor

    def __init__(self, convolution: ModulatedConv, to: tuple[int, int]):
        super().__init__()
        self.convolution = convolution
        self.strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(len(convolution.weight)))
        self.activation = Leaky()
        self.register_buffer("noise", torch.randn(1, 1, *to))  # for comparable images

    def forward(self, x: Tensor, w: Tensor, fresh: bool) -> Tensor:
        x = self.convolution(x, w)
        noise = torch.randn(len(x), *self.noise.shape[1:], device=x.device) if fresh else self.noise
        return self.activation(x + (self.strength * noise + self.bias[:, None, None]).to(x.dtype))


class Generator(nn.Module):
    """Styles w (B, layers, dim) -> image (B, C, H, W), in about [-1, 1]: a constant, modulated at each layer.

    Each size adds to the image that the smaller one has made (skip connections, figure 7b). `fresh`: new noise for each
    image; otherwise the fixed one.
    """

    def __init__(self, shape: tuple[int, int, int], dim: int, width: int = 64, maximum: int = 512):
        super().__init__()
        channels, height, breadth = shape
        pyramid = sides(height, breadth)[::-1]  # the smallest first
        widths = channels_of(len(pyramid), width, maximum)[::-1]
        self.layers = 2 * len(pyramid)  # styles: of every convolution, and of the last step to an image
        self.constant = nn.Parameter(torch.randn(1, widths[0], *pyramid[0]))
        ups = [
            StyledLayer(ModulatedUp(a, b, dim, to), to)
            for a, b, to in zip(widths[:-1], widths[1:], pyramid[1:], strict=True)
        ]
        self.ups = nn.ModuleList(ups)
        self.convolutions = nn.ModuleList(
            StyledLayer(ModulatedConv(a, a, dim), to) for a, to in zip(widths, pyramid, strict=True)
        )
        self.to_image = nn.ModuleList(ModulatedConv(a, channels, dim, 1, demodulate=False) for a in widths)
        self.biases = nn.ParameterList(torch.zeros(channels, 1, 1) for _ in widths)
        self.doubles = nn.ModuleList(Double(to) for to in pyramid[1:])

    def forward(self, w: Tensor, fresh: bool = True) -> Tensor:
        x = self.constant.expand(len(w), -1, -1, -1)
        image: Tensor | None = None
        for i, (convolution, to_image) in enumerate(zip(self.convolutions, self.to_image, strict=True)):
            if i:
                x = self.ups[i - 1](x, w[:, 2 * i - 1], fresh)
            x = convolution(x, w[:, 2 * i], fresh)
            new = to_image(x, w[:, 2 * i + 1]) + self.biases[i]  # this style is also the next size's first
            image = new if image is None else self.doubles[i - 1](image) + new
        assert image is not None
        return image


class Down(nn.Module):
    """A residual block to half the size: (B, channels, H, W) -> (B, out, ceil(H / 2), ceil(W / 2)), figure 7c."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.first = nn.Sequential(EqualizedConv2d(channels, channels), Leaky())
        self.smooth = Filter(padding=2)
        self.second = nn.Sequential(EqualizedConv2d(channels, out, stride=2, padding=0), Leaky())
        self.skip = nn.Sequential(Halve(), EqualizedConv2d(channels, out, 1, padding=0, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        deep = self.second(self.smooth(even(self.first(x))))
        return (deep + self.skip(x)) / sqrt(2)  # as large as either


class Discriminator(FeatureDiscriminator):
    """Image (B, C, H, W) -> score (B,), unbounded. With minibatch standard deviation."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 64,
        maximum: int = 512,
        group: int | None = 4,  # images of minibatch standard deviation; None: the batch
    ):
        super().__init__()
        channels, height, breadth = shape
        pyramid = sides(height, breadth)
        widths = channels_of(len(pyramid), width, maximum)
        spread = MinibatchStandardDeviation((widths[-1], *pyramid[-1]), group)
        self.body = nn.Sequential(
            EqualizedConv2d(channels, widths[0], 1, padding=0),
            Leaky(),
            *self.stages(widths),
            spread,
            EqualizedConv2d(widths[-1] + spread.added, widths[-1]),
            Leaky(),
            nn.Flatten(),
            EqualizedLinear(widths[-1] * pyramid[-1][0] * pyramid[-1][1], widths[-1]),
            Leaky(),
        )
        self.head = EqualizedLinear(widths[-1], 1)

    def stages(self, widths: list[int]) -> list[nn.Module]:
        """From each size to half of it."""
        return [Down(a, b) for a, b in pairwise(widths)]
