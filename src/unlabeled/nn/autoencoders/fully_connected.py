"""Fully connected networks between images of any size and codes."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unlabeled.errors import UserError


def layers(
    widths: Sequence[int], activation: Callable[[], nn.Module], norm: Callable[[int], nn.Module] | None = None
) -> list[nn.Module]:
    """Linear layers from each width to the next; between them the norm, if any, and the activation."""
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        modules += [nn.Linear(inputs, outputs), *([norm(outputs)] if norm else []), activation()]
    return [*modules, nn.Linear(widths[-2], widths[-1])]


def glorot(modules: list[nn.Module]) -> list[nn.Module]:
    """Layers with tanh between them begin with Glorot's weights, and biases of 0; others as they are.

    Glorot & Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html, equation 16. PyTorch's own weights are
    smaller by a factor of 1.7 in square layers: with them a VAE of tanh layers is 10 nats worse after 6,000 batches of
    MNIST.
    """
    if any(isinstance(module, nn.Tanh) for module in modules):
        for module in modules:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
    return modules


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
        num_params: int = 1,
        hidden: Sequence[int] = (200, 200),  # widths, from the image to the code
        activation: Callable[[], nn.Module] = nn.Tanh,
        code: Callable[[], nn.Module] = nn.Identity,  # what the code itself goes through
    ):
        widths = [prod(shape), *hidden, num_params * dim]
        super().__init__(ZeroToOne(), nn.Flatten(), *glorot(layers(widths, activation)), code())


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
        super().__init__(*glorot(layers([dim, *hidden, prod(wide)], activation)), nn.Unflatten(1, wide))

    @torch.no_grad()
    def start_at(self, output: Tensor) -> None:
        """Let the first output be near this, (outputs * C, H, W), whatever the code: the last layer's bias."""
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
