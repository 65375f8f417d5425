"""Fully connected generator and discriminator, of images or of points of any shape.

Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 5. There the generator has rectifiers and sigmoids,
the discriminator maxout with dropout; here rectifiers and tanh, and leaky rectifiers.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

from torch import nn

from unlabeled.nn.gan.discriminators import FeatureDiscriminator
from unlabeled.nn.layers.minibatch import MinibatchLayer, NoMinibatch
from unlabeled.nn.layers.mlp import layers


class Generator(nn.Sequential):
    """z (B, latent_dim) -> x (B, *shape): images in [-1, 1], points anywhere."""

    any_shape = True

    def __init__(
        self,
        latent_dim: int,
        shape: Sequence[int],  # (C, H, W) of images, (D,) of points
        hidden: Sequence[int] = (256, 256),
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        bound = nn.Tanh() if len(shape) == 3 else nn.Identity()
        super().__init__(*layers([latent_dim, *hidden, prod(shape)], activation), nn.Unflatten(1, tuple(shape)), bound)


class Discriminator(FeatureDiscriminator):
    """x (B, *shape) -> score (B,), unbounded."""

    any_shape = True

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W) of images, (D,) of points
        hidden: Sequence[int] = (256, 256),
        activation: Callable[[], nn.Module] = nn.LeakyReLU,
        batch_norm: bool = False,
        minibatch: Callable[..., MinibatchLayer] = NoMinibatch,  # before the score
    ):
        super().__init__()
        parts: list[nn.Module] = [nn.Flatten()]
        for i, (a, b) in enumerate(pairwise([prod(shape), *hidden])):
            norm = batch_norm and i > 0  # none at the discriminator's input
            parts += [nn.Linear(a, b, bias=not norm), *[nn.BatchNorm1d(b)] * norm, activation()]
        width = hidden[-1] if hidden else prod(shape)
        batch = minibatch((width,))
        self.body = nn.Sequential(*parts, batch)
        self.head = nn.Linear(width + batch.added, 1)
