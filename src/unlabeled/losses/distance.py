"""Distances between images and a decoder's outputs, and the images that outputs mean."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits


class Distance(Protocol):
    def __call__(self, output: Tensor, x: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B,)."""

    def image(self, output: Tensor) -> Tensor:
        """The image in [-1, 1] that an output means."""


class SquaredError(nn.Module):
    """|x - output|^2, summed over pixels."""

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B,)."""
        return (x - output.float()).square().flatten(1).sum(1)

    def image(self, output: Tensor) -> Tensor:
        """The output, clamped to [-1, 1]."""
        return output.float().clamp(-1, 1)


class AbsoluteError(SquaredError):
    """|x - output|, summed over pixels."""

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B,)."""
        return (x - output.float()).abs().flatten(1).sum(1)


class CrossEntropy(nn.Module):
    """Cross-entropy of pixels read as probabilities, in nats, summed; of logits. Vincent et al. 2008, section 2.2."""

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B,)."""
        return binary_cross_entropy_with_logits(output.float(), (x + 1) / 2, reduction="none").flatten(1).sum(1)

    def image(self, output: Tensor) -> Tensor:
        """The probabilities, in [-1, 1]."""
        return output.float().sigmoid() * 2 - 1


class Perceptual(SquaredError):
    """Squared distance of a frozen network's features, with a share of the pixels' own.

    Johnson et al. 2016, https://arxiv.org/abs/1603.08155, equation 2: sum over layers of |phi(x) - phi(output)|^2 / D,
    D the size of a layer's features. Here plus `pixels` |x - output|^2 / (C H W), as features do not fix grey levels.
    """

    def __init__(
        self,
        network: Callable[[Tensor], list[Tensor]],  # x (B, C, H, W) in [-1, 1] -> features of each layer (B, ...)
        pixels: float = 1.0,
        scale: float = 1.0,  # of the whole, to the order of a sum over pixels, as regularizers expect
    ):
        super().__init__()
        self.network = network
        self.pixels, self.scale = pixels, scale

    def forward(self, output: Tensor, x: Tensor) -> Tensor:
        output = output.float()
        with torch.no_grad():
            target = self.network(x)
        found = self.network(output)
        distance = sum((a - b).square().flatten(1).mean(1) for a, b in zip(found, target, strict=True))
        return self.scale * (distance + self.pixels * (x - output).square().flatten(1).mean(1))
