"""InfoGAN's generator and discriminator: two convolutions and a wide fully connected layer.

Chen et al. 2016, https://arxiv.org/abs/1606.03657, appendix C.1, table 1: there of 28 pixels, `width` 64 and `hidden`
1024. Here of any size that can be halved twice.
"""

from math import prod

from torch import nn

from unlabeled.errors import UserError
from unlabeled.nn.gan.discriminators import FeatureDiscriminator
from unlabeled.nn.layers.init import normal
from unlabeled.nn.layers.sizes import sides
from unlabeled.nn.layers.upsampling import Up


def sizes(height: int, breadth: int) -> list[tuple[int, int]]:
    """The image's sides, their halves and their quarters."""
    if min(height, breadth) < 5:
        raise UserError(f"images of {height}x{breadth} are too small to be halved twice: at least 5 pixels a side")
    return sides(height, breadth, 2)[:3]


class Generator(nn.Sequential):
    """z (B, latent_dim) -> image (B, C, H, W) in [-1, 1]."""

    def __init__(self, latent_dim: int, shape: tuple[int, int, int], width: int = 64, hidden: int = 1024):
        channels, height, breadth = shape
        full, half, small = sizes(height, breadth)
        inside = (2 * width, *small)
        super().__init__(
            nn.Linear(latent_dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, prod(inside), bias=False), nn.BatchNorm1d(prod(inside)), nn.ReLU(),
            nn.Unflatten(1, inside),
            Up(2 * width, width, half, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            Up(width, channels, full), nn.Tanh(),
        )  # fmt: skip
        self.apply(initialize)


class Discriminator(FeatureDiscriminator):
    """Image (B, C, H, W) -> score (B,), unbounded."""

    def __init__(self, shape: tuple[int, int, int], width: int = 64, hidden: int = 1024):
        super().__init__()
        channels, height, breadth = shape
        pyramid = sizes(height, breadth)
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(((channels, width), (width, 2 * width))):
            odd = [side % 2 for side in pyramid[i]]
            layers += [nn.ZeroPad2d((0, odd[1], 0, odd[0])), nn.Conv2d(a, b, 4, 2, 1, bias=i == 0)]
            layers += [nn.BatchNorm2d(b)] * i + [nn.LeakyReLU(0.1)]  # no norm at the discriminator's input
        wide = nn.Linear(2 * width * prod(pyramid[-1]), hidden, bias=False)
        self.body = nn.Sequential(*layers, nn.Flatten(), wide, nn.BatchNorm1d(hidden), nn.LeakyReLU(0.1))
        self.head = nn.Linear(hidden, 1)
        self.apply(initialize)


def initialize(module: nn.Module) -> None:
    """Weights from N(0, 0.02), as in the authors' code."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        normal(module)
