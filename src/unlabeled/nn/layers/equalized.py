"""Layers with an equalized learning rate, pixel normalisation, and a scaled leaky rectifier.

Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 4.1: weights are drawn from N(0, 1) and scaled by He's
constant in the forward pass, so that with Adam all weights learn at the same speed at any width.
"""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear


class EqualizedLinear(nn.Module):
    """(B, features) -> (B, out): x W^T / sqrt(features) + b.

    `rate` is a factor of the layer's learning rate: its weights are larger by 1 / rate, and scaled by rate when used.
    """

    def __init__(self, features: int, out: int, bias: float = 0.0, rate: float = 1.0):
        super().__init__()
        self.rate = rate
        self.scale = rate / sqrt(features)
        self.weight = nn.Parameter(torch.randn(out, features) / rate)
        self.bias = nn.Parameter(torch.full((out,), bias / rate))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight * self.scale, self.bias * self.rate)


class EqualizedConv2d(nn.Module):
    """(B, channels, H, W) -> (B, out, H', W'): a convolution by W / sqrt(channels * kernel^2), and b."""

    def __init__(self, channels: int, out: int, kernel: int = 3, stride: int = 1, padding: int = 1, bias: bool = True):
        super().__init__()
        self.stride, self.padding = stride, padding
        self.scale = 1 / sqrt(channels * kernel**2)
        self.weight = nn.Parameter(torch.randn(out, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


class PixelNorm(nn.Module):
    """Each pixel's features (B, C, ...) scaled to mean square 1: section 4.2."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class Leaky(nn.Module):
    """Leaky rectifier of slope 0.2 times `gain`: at sqrt(2) features keep their mean square."""

    def __init__(self, gain: float = sqrt(2)):
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, 0.2) * self.gain
