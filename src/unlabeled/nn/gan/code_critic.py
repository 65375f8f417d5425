"""Discriminators of codes. Makhzani et al. 2015, https://arxiv.org/abs/1511.05644: two hidden layers of 1,000, ReLU."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from unlabeled.nn.autoencoders.fully_connected import layers


class CodeDiscriminator(nn.Module):
    """Code (B, dim) -> score (B,), unbounded."""

    def __init__(self, dim: int, hidden: Sequence[int] = (1000, 1000)):
        super().__init__()
        self.layers = nn.Sequential(*layers([dim, *hidden, 1], nn.ReLU))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)[:, 0]


class LabelledCodeDiscriminator(CodeDiscriminator):
    """Code (B, dim) and class (B,), -1 where unknown -> score (B,).

    The class stands beside the code as a one-hot vector of `classes` + 1, whose last entry is for the unknown.
    """

    def __init__(self, dim: int, classes: int | None, hidden: Sequence[int] = (1000, 1000)):
        self.classes = classes or 0
        super().__init__(dim + self.classes + 1, hidden)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        part = one_hot(torch.where(y < 0, self.classes, y), self.classes + 1)
        return super().forward(torch.cat([z, part.to(z.dtype)], 1))
