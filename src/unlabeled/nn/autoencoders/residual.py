"""Residual networks between images and feature maps of a quarter of their sides, for any size.

van den Oord et al. 2017, https://arxiv.org/abs/1711.00937, section 4.1: two strided convolutions of 4x4, then two
residual blocks of 3x3 and 1x1 with ReLU before each; the decoder mirrored.
"""

from torch import Tensor, nn

from unlabeled.nn.layers.sizes import halved
from unlabeled.nn.layers.upsampling import Up


class Block(nn.Sequential):
    """x + ReLU, 3x3, ReLU, 1x1 of x."""

    def __init__(self, width: int, hidden: int):
        super().__init__(nn.ReLU(), nn.Conv2d(width, hidden, 3, 1, 1), nn.ReLU(), nn.Conv2d(hidden, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class ResidualEncoder(nn.Sequential):
    """Image (B, C, H, W) -> map (B, dim, h, w), each side halved (rounding up) `halvings` times."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        dim: int,
        width: int = 256,
        blocks: int = 2,
        hidden: int = 256,  # width inside a block
        halvings: int = 2,
    ):
        modules: list[nn.Module] = []
        for i, (high, wide) in enumerate(halved(*shape[1:], halvings)[:-1]):
            # an odd side is padded by one more row, so that ceil(side / 2) rows come out
            modules += [nn.ZeroPad2d((0, wide % 2, 0, high % 2)), nn.Conv2d(width if i else shape[0], width, 4, 2, 1)]
            modules += [nn.ReLU()] * (i < halvings - 1)
        super().__init__(*modules, *(Block(width, hidden) for _ in range(blocks)), nn.ReLU(), nn.Conv2d(width, dim, 1))


class ResidualDecoder(nn.Sequential):
    """Map (B, dim, h, w) -> (B, outputs * C, H, W), unbounded. The encoder mirrored."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        dim: int,
        width: int = 256,
        blocks: int = 2,
        hidden: int = 256,
        halvings: int = 2,
        outputs: int = 1,
    ):
        pyramid = halved(*shape[1:], halvings)
        modules: list[nn.Module] = [nn.Conv2d(dim, width, 3, 1, 1), *(Block(width, hidden) for _ in range(blocks))]
        for i in reversed(range(halvings)):
            modules += [nn.ReLU(), Up(width, width if i else outputs * shape[0], pyramid[i])]
        super().__init__(*modules)
