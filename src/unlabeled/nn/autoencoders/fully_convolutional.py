"""Networks of convolutions only, between images and maps of codes."""

from torch import nn

from unlabeled.errors import UserError
from unlabeled.nn.layers.sizes import halved
from unlabeled.nn.layers.upsampling import Up


def channels_of(dim: int, sides: tuple[int, int]) -> int:
    """Channels of a map of codes with `dim` numbers in all."""
    pixels = sides[0] * sides[1]
    if dim % pixels:
        raise UserError(
            f"latent_dim={dim}: the map of codes is {sides[0]}x{sides[1]}: say a multiple of {pixels}, as "
            f"model.latent_dim={max(1, round(dim / pixels)) * pixels}"
        )
    return dim // pixels


class FullyConvolutionalEncoder(nn.Sequential):
    """Image (B, C, H, W) -> features (B, num_params * dim): strides of 2, then a 3x3 convolution."""

    def __init__(self, shape: tuple[int, int, int], dim: int, num_params: int = 1, width: int = 32, halvings: int = 2):
        channels, height, breadth = shape
        sides = halved(height, breadth, halvings)
        code = channels_of(dim, sides[-1])
        modules: list[nn.Module] = []
        for i, _ in enumerate(sides[1:]):
            out = width * 2 ** min(i, 3)
            modules += [nn.Conv2d(channels, out, 3, 2, 1), nn.SiLU()]  # leaves ceil(side / 2)
            channels = out
        super().__init__(*modules, nn.Conv2d(channels, num_params * code, 3, 1, 1), nn.Flatten())


class FullyConvolutionalDecoder(nn.Sequential):
    """Code (B, dim) -> (B, outputs * C, H, W), unbounded. The encoder mirrored."""

    def __init__(self, shape: tuple[int, int, int], dim: int, width: int = 32, halvings: int = 2, outputs: int = 1):
        channels, height, breadth = shape
        sides = halved(height, breadth, halvings)
        code = channels_of(dim, sides[-1])
        widths = [outputs * channels, *(width * 2 ** min(i, 3) for i in range(halvings))]
        modules: list[nn.Module] = [
            nn.Unflatten(1, (code, *sides[-1])), nn.Conv2d(code, widths[-1], 3, 1, 1), nn.SiLU(),
        ]  # fmt: skip
        for i in reversed(range(halvings)):
            modules += [Up(widths[i + 1], widths[i], sides[i])] + ([nn.SiLU()] if i else [])
        super().__init__(*modules)
