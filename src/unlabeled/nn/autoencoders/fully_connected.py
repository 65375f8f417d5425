"""Fully connected networks between images of any size and codes."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unlabeled.errors import UserError
from unlabeled.nn.layers.mlp import glorot_for_tanh, layers


@runtime_checkable
class StartsAt(Protocol):
    def start_at(self, output: Tensor) -> None:
        """Make the first output near this one, (outputs * C, H, W), whatever the code."""


class ZeroToOne(nn.Module):
    """[-1, 1] to [0, 1]: hundreds of black pixels at -1 would saturate tanh before it has learned anything."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class FullyConnectedEncoder(nn.Sequential):
    """Image (B, C, H, W) in [-1, 1] -> features (B, num_params * dim)."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        dim: int,
        num_params: int = 1,
        hidden: Sequence[int] = (200, 200),  # widths, from the image to the code
        activation: Callable[[], nn.Module] = nn.Tanh,
        code: Callable[[], nn.Module] = nn.Identity,  # of the code
    ):
        widths = [prod(shape), *hidden, num_params * dim]
        super().__init__(ZeroToOne(), nn.Flatten(), *glorot_for_tanh(layers(widths, activation)), code())


class FullyConnectedDecoder(nn.Sequential):
    """Code (B, dim) -> (B, outputs * C, H, W), unbounded."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        dim: int,
        hidden: Sequence[int] = (200, 200),  # widths, from the code to the image
        activation: Callable[[], nn.Module] = nn.Tanh,
        outputs: int = 1,
    ):
        channels, height, width = shape
        wide = (outputs * channels, height, width)
        super().__init__(*glorot_for_tanh(layers([dim, *hidden, prod(wide)], activation)), nn.Unflatten(1, wide))

    @torch.no_grad()
    def start_at(self, output: Tensor) -> None:
        """By the last layer's bias."""
        last = self[-2]
        assert isinstance(last, nn.Linear)
        last.bias.copy_(output.flatten())


class TiedDecoder(nn.Module):
    """Code (B, dim) -> (B, C, H, W), unbounded: one linear layer whose weights are an encoder's, transposed."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = tuple(shape)
        self.bias = nn.Parameter(torch.zeros(prod(shape)))
        self.layer: tuple[nn.Linear, ...] = ()  # in a tuple, so that its weights stay the encoder's alone

    def tie(self, encoder: nn.Module) -> None:
        """Take the weights of this encoder, which has one linear layer and no other with weights."""
        found = [part for part in encoder.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
        if len(found) != 1 or not isinstance(found[0], nn.Linear):
            raise UserError(
                "tied_decoder shares the weights of an encoder of one linear layer: say model.encoder.hidden=[], of a "
                "fully_connected_encoder"
            )
        self.layer = (found[0],)

    def forward(self, z: Tensor) -> Tensor:
        return linear(z, self.layer[0].weight.T, self.bias).unflatten(1, self.shape)
