"""Networks with a class as a second input. Classes are int64 (B,), read as one-hot vectors."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlabeled.nn.layers.mlp import layers


def with_class(h: Tensor, y: Tensor, classes: int) -> Tensor:
    """h (B, D) and the classes y (B,) -> (B, D + classes)."""
    return torch.cat([h, one_hot(y, classes).to(h.dtype)], 1)


class ConditionalPerceptron(nn.Module):
    """h (B, dim), y (B,) -> (B, num_params * outputs)."""

    def __init__(
        self,
        dim: int,
        classes: int | None,
        outputs: int,
        num_params: int = 1,
        hidden: Sequence[int] = (500,),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.classes = classes or 0
        self.layers = nn.Sequential(*layers([dim + self.classes, *hidden, num_params * outputs], activation))

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        return self.layers(with_class(h, y, self.classes))


class ConditionalEncoder(nn.Module):
    """x (B, C, H, W), y (B,) -> (B, num_params * dim): of the class and a network's features of x."""

    def __init__(self, features: nn.Module, width: int, dim: int, classes: int | None, num_params: int = 2):
        super().__init__()
        self.features = features  # x -> (B, width)
        self.head = ConditionalPerceptron(width, classes, dim, num_params, (width,), nn.SiLU)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.features(x), y)


class ConditionalDecoder(nn.Module):
    """z (B, dim), y (B,) -> (B, C, H, W), by a network of both."""

    def __init__(self, image: Callable[..., nn.Module], dim: int, classes: int | None):
        super().__init__()
        self.classes = classes or 0
        self.image = image(dim=dim + self.classes)  # (B, dim + classes) -> (B, C, H, W)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.image(with_class(z, y, self.classes))
