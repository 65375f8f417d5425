"""Layers by which a discriminator compares the images of a batch, against a generator whose samples are all alike.

They stand between its features and its score: built from the features' shape (C, h, w) or (F,), they append `added`
channels to them.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError, require_several


class MinibatchLayer(nn.Module):
    added: int


class NoMinibatch(MinibatchLayer):
    """The features themselves: each score depends on one image."""

    added = 0

    def __init__(self, shape: Sequence[int]):
        super().__init__()

    def forward(self, features: Tensor) -> Tensor:
        return features


class MinibatchDiscrimination(MinibatchLayer):
    """Closeness of each image to the others of its batch, along `kernels` learned directions of `dims` numbers.

    Salimans et al. 2016, https://arxiv.org/abs/1606.03498, section 3.2: M_i = f(x_i) T,
    c_b(i, j) = exp(-|M_ib - M_jb|_1), o(x_i)_b = sum over j of c_b(i, j). Here the mean over the others, so that it
    does not depend on the batch size.
    """

    uses_batch_statistics = True

    def __init__(self, shape: Sequence[int], kernels: int = 50, dims: int = 5):
        super().__init__()
        if kernels < 1 or dims < 1:
            raise UserError(f"minibatch discrimination with kernels={kernels}, dims={dims}: at least 1 each")
        self.added, self.kernels, self.dims = kernels, kernels, dims
        self.project = nn.Linear(prod(shape), kernels * dims, bias=False)  # T

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            require_several(features, "minibatch discrimination")
        m = self.project(features.flatten(1)).unflatten(1, (self.kernels, self.dims))  # (B, kernels, dims)
        distance = (m[:, None] - m[None]).abs().sum(3)  # (B, B, kernels)
        near = (-distance).exp().sum(1) - 1  # without the image itself, at distance 0
        return append(features, near / max(len(m) - 1, 1))


class MinibatchStandardDeviation(MinibatchLayer):
    """The features' standard deviation over a group of images, averaged over all features: one number a group.

    Karras et al. 2018, https://arxiv.org/abs/1710.10196, section 3. The authors' code takes groups of 4; None, as the
    paper, the batch. A batch that does not divide into groups is one group.
    """

    uses_batch_statistics = True
    added = 1

    def __init__(self, shape: Sequence[int], group: int | None = None):
        super().__init__()
        if group is not None and group < 2:
            raise UserError(f"minibatch standard deviation of groups of {group}: 2 at least")
        self.group = group

    def forward(self, features: Tensor) -> Tensor:
        n = len(features)
        size = self.group if self.group and n % self.group == 0 else n
        groups = features.float().unflatten(0, (n // size, size))  # in float32: small variances of large features
        spread = (groups.var(1, correction=0) + 1e-8).sqrt().flatten(1).mean(1)  # (n / size,)
        return append(features, spread.repeat_interleave(size)[:, None])


def append(features: Tensor, values: Tensor) -> Tensor:
    """Values (B, N) as N more, constant channels of features (B, C, ...)."""
    more = values.to(features.dtype)[(...,) + (None,) * (features.ndim - 2)]
    return torch.cat([features, more.expand(-1, -1, *features.shape[2:])], 1)
