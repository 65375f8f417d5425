"""DCGAN's networks with a class as a second input. Mirza & Osindero 2014, https://arxiv.org/abs/1411.1784.

Section 3.2: an embedding of the class is concatenated with the code's, or the image's; there the networks are
perceptrons. Here it is concatenated with the code, and as constant channels with the image. Classes are (B, K), one-hot
in training; mixtures of classes are possible.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from unlabeled.nn.gan import dcgan
from unlabeled.nn.layers.minibatch import MinibatchLayer, NoMinibatch


class ClassEmbedding(nn.Linear):
    """y (B, K) -> (B, D): for one-hot y a row of a table, initialised from N(0, 1)."""

    def __init__(self, classes: int | None, dim: int):
        super().__init__(classes or 1, dim, bias=False)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)


class Generator(nn.Module):
    """z (B, latent_dim), y (B, K) -> image (B, C, H, W) in [-1, 1]."""

    def __init__(
        self, latent_dim: int, classes: int | None, shape: tuple[int, int, int], embedding: int = 16, width: int = 64
    ):
        super().__init__()
        self.embedding = ClassEmbedding(classes, embedding)
        self.image = dcgan.Generator(latent_dim + embedding, shape, width)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.image(torch.cat([z, self.embedding(y).to(z.dtype)], 1))


class ProductGenerator(nn.Module):
    """z (B, latent_dim), y (B, K) -> image (B, C, H, W) in [-1, 1], from the embedding times the code.

    With the two concatenated ACGAN's generator ignores the code, and on MNIST draws one image of each class.
    """

    def __init__(self, latent_dim: int, classes: int | None, shape: tuple[int, int, int], width: int = 64):
        super().__init__()
        self.embedding = ClassEmbedding(classes, latent_dim)
        self.image = dcgan.Generator(latent_dim, shape, width)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.image(z * self.embedding(y).to(z.dtype))


class Discriminator(nn.Module):
    """Image (B, C, H, W), y (B, K) -> score (B,), unbounded."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int | None,
        embedding: int = 16,
        width: int = 64,
        batch_norm: bool = True,
        minibatch: Callable[..., MinibatchLayer] = NoMinibatch,  # before the score
    ):
        super().__init__()
        channels, height, breadth = shape
        self.embedding = ClassEmbedding(classes, embedding)
        self.image = dcgan.Discriminator((channels + embedding, height, breadth), width, batch_norm, minibatch)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        planes = self.embedding(y).to(x.dtype)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return self.image(torch.cat([x, planes], 1))
