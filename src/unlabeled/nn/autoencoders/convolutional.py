"""A pyramid of strided convolutions, and its mirror, for any size."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import interpolate

from unlabeled.errors import UserError


def sides(height: int, width: int, smallest: int = 4) -> list[tuple[int, int]]:
    """The sides of an image halved (rounding up) for as long as none falls under `smallest`, the full size first."""
    pyramid = [(height, width)]
    while min(-(-side // 2) for side in pyramid[-1]) >= smallest:
        pyramid.append((-(-pyramid[-1][0] // 2), -(-pyramid[-1][1] // 2)))
    if len(pyramid) == 1:
        raise UserError(
            f"images of {height}x{width} are too small to be halved: at least {2 * smallest - 1} pixels a side"
        )
    return pyramid


class Up(nn.ConvTranspose2d):
    """Twice the size (4x4, stride 2), cropped to the sides wanted: (B, in, h, w) -> (B, out, H, W)."""

    def __init__(self, channels: int, out: int, to: tuple[int, int], bias: bool = True):
        super().__init__(channels, out, 4, 2, 1, bias=bias)
        self.to_sides = to

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x)[..., : self.to_sides[0], : self.to_sides[1]]


class Enlarge(nn.Conv2d):
    """Enlarged to the sides wanted by repeating pixels, then a 3x3 convolution: (B, in, h, w) -> (B, out, H, W).

    Odena, Dumoulin & Olah 2016, https://distill.pub/2016/deconv-checkerboard/
    """

    def __init__(self, channels: int, out: int, to: tuple[int, int], bias: bool = True):
        super().__init__(channels, out, 3, 1, 1, bias=bias)
        self.to_sides = to

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(interpolate(x, self.to_sides, mode="nearest"))


class ConvEncoder(nn.Sequential):
    """Image (B, C, H, W) -> features (B, heads * dim): 4x4 strides of 2, doubling from `width`; two linear layers."""

    def __init__(self, shape: tuple[int, int, int], dim: int, num_params: int = 1, width: int = 32, hidden: int = 256):
        channels, height, breadth = shape
        pyramid = sides(height, breadth)
        modules: list[nn.Module] = []
        for i, _ in enumerate(pyramid[1:]):
            out = width * 2 ** min(i, 3)
            # an odd side is padded by one more row, so that ceil(side / 2) rows come out
            odd = [side % 2 for side in pyramid[i]]
            modules += [nn.ZeroPad2d((0, odd[1], 0, odd[0])), nn.Conv2d(channels, out, 4, 2, 1), nn.SiLU()]
            channels = out
        h, w = pyramid[-1]
        super().__init__(
            *modules, nn.Flatten(), nn.Linear(channels * h * w, hidden), nn.SiLU(), nn.Linear(hidden, num_params * dim)
        )


class ConvDecoder(nn.Sequential):
    """Code (B, dim) -> (B, outputs * C, H, W), unbounded. The encoder mirrored."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        dim: int,
        width: int = 32,
        hidden: int = 256,
        outputs: int = 1,
        up: Callable[..., nn.Module] = Up,  # channels, channels out, sides -> a step up: Up or Enlarge
    ):
        channels, height, breadth = shape
        pyramid = sides(height, breadth)
        widths = [outputs * channels, *(width * 2 ** min(i, 3) for i in range(len(pyramid) - 1))]
        h, w = pyramid[-1]
        modules: list[nn.Module] = [
            nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, widths[-1] * h * w), nn.SiLU(),
            nn.Unflatten(1, (widths[-1], h, w)),
        ]  # fmt: skip
        for i in reversed(range(len(pyramid) - 1)):
            modules += [up(widths[i + 1], widths[i], pyramid[i])] + ([nn.SiLU()] if i else [])
        super().__init__(*modules)
