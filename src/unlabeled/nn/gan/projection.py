"""Class-conditional residual networks: conditional batch norm, and the projection discriminator.

Miyato & Koyama 2018, https://arxiv.org/abs/1802.05637, section 5; the blocks are SNGAN's, see resnet.py.
Classes are (B, K), one-hot in training; mixtures of classes are possible.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from unlabeled.nn.gan.resnet import SMALL, Discriminator, GeneratorBlock, width_at
from unlabeled.nn.layers.init import glorot
from unlabeled.nn.layers.sizes import sides
from unlabeled.nn.layers.spectral import spectral_norm


class ClassBatchNorm2d(nn.Module):
    """Batch norm with a scale and a shift for each class: x (B, C, H, W), y (B, K) -> (B, C, H, W).

    Dumoulin et al. 2017, https://arxiv.org/abs/1610.07629, equation 5; there of instance norm.
    """

    def __init__(self, channels: int, classes: int | None):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Linear(classes or 1, channels, bias=False)  # of one-hot y: a row for each class
        self.shift = nn.Linear(classes or 1, channels, bias=False)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale(y)[:, :, None, None] * self.norm(x) + self.shift(y)[:, :, None, None]


class ClassGeneratorBlock(GeneratorBlock):
    """(B, in, h, w), y (B, K) -> (B, out, H, W), the given sides."""

    def __init__(self, channels: int, out: int, to: tuple[int, int], classes: int | None):
        super().__init__(channels, out, to)
        self.norm1, self.norm2 = (ClassBatchNorm2d(n, classes) for n in (channels, out))  # type: ignore[assignment]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        h = self.conv1(interpolate(relu(self.norm1(x, y)), self.to_sides))
        h = self.conv2(relu(self.norm2(h, y)))
        return h + interpolate(self.shortcut(x), self.to_sides)


class ClassGenerator(nn.Module):
    """z (B, latent_dim), y (B, K) -> image (B, C, H, W) in [-1, 1]. Channels as in resnet.Generator."""

    def __init__(self, latent_dim: int, classes: int | None, shape: tuple[int, int, int], width: int = 64):
        super().__init__()
        channels, height, breadth = shape
        pyramid = sides(height, breadth)
        small = max(height, breadth) <= SMALL
        widths = [4 * width if small else width_at(i, width) for i in range(len(pyramid))]
        self.start = (widths[-1], *pyramid[-1])
        self.project = glorot(nn.Linear(latent_dim, widths[-1] * pyramid[-1][0] * pyramid[-1][1]))
        self.blocks = nn.ModuleList(
            ClassGeneratorBlock(widths[i + 1], widths[i], pyramid[i], classes)
            for i in reversed(range(len(pyramid) - 1))
        )
        last = glorot(nn.Conv2d(widths[0], channels, 3, 1, 1))
        self.image = nn.Sequential(nn.BatchNorm2d(widths[0]), nn.ReLU(), last, nn.Tanh())

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = self.project(z).unflatten(1, self.start)
        for block in self.blocks:
            h = block(h, y)
        return self.image(h)


class ProjectionDiscriminator(Discriminator):
    """Image (B, C, H, W), y (B, K) -> score (B,), unbounded: y^T V phi(x) + psi(phi(x)), equation 3.

    phi: SNGAN's discriminator up to its pooled features; psi: its last layer. All have spectral norm, V as well.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int | None, width: int = 64):
        super().__init__(shape, width)
        head: Any = self.head
        table = nn.Linear(head.in_features, classes or 1, bias=False)  # V
        nn.init.xavier_uniform_(table.weight)
        self.embedding = spectral_norm(table)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        features = self.features(x)
        products = self.embedding(features)  # (B, K)
        return self.score(features) + (y.to(products.dtype) * products).sum(1)
