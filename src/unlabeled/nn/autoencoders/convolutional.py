"""Encoder of strided convolutions, and the mirrored decoder, for any image size."""

from collections.abc import Callable

from torch import nn

from unlabeled.nn.layers.sizes import sides
from unlabeled.nn.layers.upsampling import Up


class ConvEncoder(nn.Sequential):
    """Image (B, C, H, W) -> features (B, num_params * dim): 4x4 strides of 2, then two linear layers."""

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
