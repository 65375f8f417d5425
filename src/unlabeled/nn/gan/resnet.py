"""Residual generator and discriminator of SNGAN, and of SAGAN, with self-attention.

Miyato et al. 2018, https://arxiv.org/abs/1802.05957, appendix B.4, tables 3 to 5 and figure 8; Zhang et al. 2019,
https://arxiv.org/abs/1805.08318. Any size: the tables are those of 32, 48 and 128 pixels a side. `width` is 64 in all
of them, and everything else follows from the size:

- up to 32 pixels (table 3), the generator has 4 width channels throughout, the discriminator 2 width, in four blocks;
- above (tables 4 and 5), channels double from width at the image up to 16 width, with as many stages as the size needs.

Convolutions of 1x1 before enlarging and after shrinking are in the other order in the paper; they commute with
repeating and averaging pixels, and cost a quarter.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from unlabeled.errors import UserError
from unlabeled.nn.gan.discriminators import FeatureDiscriminator
from unlabeled.nn.layers.attention import SelfAttention, plain
from unlabeled.nn.layers.init import glorot
from unlabeled.nn.layers.sizes import sides
from unlabeled.nn.layers.spectral import spectral_norm

SMALL = 32  # pixels: the last size of table 3


def width_at(stage: int, width: int) -> int:
    """Channels after halving the image `stage` times, where they double."""
    return width * min(2**stage, 16)


class GeneratorBlock(nn.Module):
    """(B, in, h, w) -> (B, out, H, W), the given sides."""

    def __init__(self, channels: int, out: int, to: tuple[int, int], wrap: Callable[[nn.Module], nn.Module] = plain):
        super().__init__()
        self.to_sides = to
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(out)
        self.conv1 = wrap(glorot(nn.Conv2d(channels, out, 3, 1, 1), 2**0.5))
        self.conv2 = wrap(glorot(nn.Conv2d(out, out, 3, 1, 1), 2**0.5))
        self.shortcut = wrap(glorot(nn.Conv2d(channels, out, 1)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(interpolate(relu(self.norm1(x)), self.to_sides))
        h = self.conv2(relu(self.norm2(h)))
        return h + interpolate(self.shortcut(x), self.to_sides)


class DiscriminatorBlock(nn.Module):
    """(B, in, H, W) -> (B, out, H, W), or with `down` half the sides, rounded up. The image's block has `first`."""

    def __init__(
        self,
        channels: int,
        out: int,
        down: bool = False,
        first: bool = False,
        wrap: Callable[[nn.Module], nn.Module] = plain,
    ):
        super().__init__()
        inner = out if first else channels
        self.enter = nn.Identity() if first else nn.ReLU()  # keeps negative pixels
        self.conv1 = wrap(glorot(nn.Conv2d(channels, inner, 3, 1, 1), 2**0.5))
        self.conv2 = wrap(glorot(nn.Conv2d(inner, out, 3, 1, 1), 2**0.5))
        same = channels == out and not down
        self.shortcut = nn.Identity() if same else wrap(glorot(nn.Conv2d(channels, out, 1)))
        self.down = nn.AvgPool2d(2, ceil_mode=True) if down else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.conv2(relu(self.conv1(self.enter(x))))) + self.shortcut(self.down(x))


class Generator(nn.Module):
    """z (B, latent_dim) -> image (B, C, H, W) in [-1, 1]."""

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, int, int],
        width: int = 64,
        spectral_norm: bool = False,  # SAGAN's generator has it too
        attention: int | None = None,  # after this many halvings of the image; null: none
    ):
        super().__init__()
        channels, height, breadth = shape
        wrap = choose(spectral_norm)
        pyramid = sides(height, breadth)
        n = len(pyramid) - 1
        small = max(height, breadth) <= SMALL
        widths = [4 * width if small else width_at(i, width) for i in range(n + 1)]
        self.latent_dim = latent_dim
        self.start = (widths[-1], *pyramid[-1])
        self.project = wrap(glorot(nn.Linear(latent_dim, widths[-1] * pyramid[-1][0] * pyramid[-1][1])))
        layers: list[nn.Module] = [SelfAttention(widths[n], wrap)] if attention == n else []
        for i in reversed(range(n)):
            layers += [GeneratorBlock(widths[i + 1], widths[i], pyramid[i], wrap)]
            layers += [SelfAttention(widths[i], wrap)] if i == attention else []
        expect(attention, range(n + 1))
        last = wrap(glorot(nn.Conv2d(widths[0], channels, 3, 1, 1)))
        self.net = nn.Sequential(*layers, nn.BatchNorm2d(widths[0]), nn.ReLU(), last, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.net(self.project(z).unflatten(1, self.start))


class Discriminator(FeatureDiscriminator):
    """Image (B, C, H, W) -> score (B,), unbounded. Without batch norm: each score depends on one image."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int = 64,
        spectral_norm: bool = True,
        attention: int | None = None,  # after this many halvings of the image; null: none
    ):
        super().__init__()
        channels, height, breadth = shape
        wrap = choose(spectral_norm)
        n = len(sides(height, breadth, 3)) - 1
        small = max(height, breadth) <= SMALL
        n = min(n, 2) if small else n
        widths = [2 * width] * 4 if small else [width_at(i, width) for i in range(n + 1)]
        layers: list[nn.Module] = []
        for i, out in enumerate(widths):
            layers += [DiscriminatorBlock(channels, out, down=i < n, first=i == 0, wrap=wrap)]
            layers += [SelfAttention(out, wrap)] if i + 1 == attention else []
            channels = out
        expect(attention, range(1, n + 1))
        self.body = nn.Sequential(*layers, nn.ReLU(), Total())
        self.head = wrap(glorot(nn.Linear(channels, 1)))


class Total(nn.Module):
    """(B, D, h, w) -> (B, D), over positions."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum((2, 3))


def choose(spectral: bool) -> Callable[[nn.Module], nn.Module]:
    return spectral_norm if spectral else plain


def expect(attention: int | None, stages: range) -> None:
    if attention is not None and attention not in stages:
        raise UserError(f"attention={attention}: for this size it is null or one of {', '.join(map(str, stages))}")
