"""DCGAN generator and discriminator. Radford et al. 2016, https://arxiv.org/abs/1511.06434, section 3 and figure 1.

Any size: the sides are halved for as long as they stay at 4 or more; 64 is the paper's.
"""

import itertools
from collections.abc import Callable

from torch import Tensor, nn

from unlabeled.nn.gan.discriminators import FeatureDiscriminator
from unlabeled.nn.layers.init import normal
from unlabeled.nn.layers.minibatch import MinibatchLayer, NoMinibatch
from unlabeled.nn.layers.sizes import sides
from unlabeled.nn.layers.upsampling import Up


class Generator(nn.Module):
    """z (B, latent_dim) -> image (B, C, H, W) in [-1, 1]."""

    def __init__(self, latent_dim: int, shape: tuple[int, int, int], width: int = 64):
        super().__init__()
        self.latent_dim = latent_dim
        channels, height, breadth = shape
        pyramid = sides(height, breadth)
        widths = [channels, *(width * 2**i for i in range(len(pyramid) - 1))]
        layers: list[nn.Module] = [
            nn.ConvTranspose2d(latent_dim, widths[-1], pyramid[-1], bias=False),
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(),
        ]
        for i in reversed(range(1, len(pyramid) - 1)):
            layers += [Up(widths[i + 1], widths[i], pyramid[i], bias=False), nn.BatchNorm2d(widths[i]), nn.ReLU()]
        self.net = nn.Sequential(*layers, Up(widths[1], channels, pyramid[0]), nn.Tanh())
        self.apply(initialize)

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z[:, :, None, None])


class Discriminator(FeatureDiscriminator):
    """Image (B, C, H, W) -> score (B,), unbounded."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 64,
        batch_norm: bool = True,
        minibatch: Callable[..., MinibatchLayer] = NoMinibatch,  # before the score
    ):
        super().__init__()
        channels, height, breadth = shape
        pyramid = sides(height, breadth)
        widths = [channels, *(width * 2**i for i in range(len(pyramid) - 1))]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            norm = batch_norm and i > 0  # none at the discriminator's input
            odd = [side % 2 for side in pyramid[i]]
            layers += [nn.ZeroPad2d((0, odd[1], 0, odd[0]))] if any(odd) else []
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=not norm)] + [nn.BatchNorm2d(b)] * norm + [nn.LeakyReLU(0.2)]
        batch = minibatch((widths[-1], *pyramid[-1]))
        layers += [batch] if batch.added else []
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1] + batch.added, 1, pyramid[-1])
        self.apply(initialize)


def initialize(module: nn.Module) -> None:
    """Weights from N(0, 0.02) (section 4); batch norm's scale from N(1, 0.02), as in the authors' code."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        normal(module)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
