"""Fully connected networks between images of any size and codes."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn


def layers(widths: Sequence[int], activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """Linear layers from each width to the next, the activation between them and none after the last."""
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        modules += [nn.Linear(inputs, outputs), activation()]
    return modules[:-1]


class ZeroToOne(nn.Module):
    """[-1, 1] to [0, 1]: hundreds of black pixels at -1 would saturate tanh before it has learned anything."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class FullyConnectedEncoder(nn.Sequential):
    """Image (B, C, H, W) in [-1, 1] -> features (B, heads * dim)."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        dim: int,
        heads: int = 1,
        hidden: Sequence[int] = (200, 200),  # widths, from the image to the code
        activation: Callable[[], nn.Module] = nn.Tanh,
    ):
        super().__init__(ZeroToOne(), nn.Flatten(), *layers([prod(shape), *hidden, heads * dim], activation))


class FullyConnectedDecoder(nn.Sequential):
    """Code (B, dim) -> (B, C, H, W), unbounded."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        dim: int,
        hidden: Sequence[int] = (200, 200),  # widths, from the code to the image
        activation: Callable[[], nn.Module] = nn.Tanh,
    ):
        super().__init__(*layers([dim, *hidden, prod(shape)], activation), nn.Unflatten(1, tuple(shape)))
