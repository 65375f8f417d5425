"""Convolutional autoencoder of the course EE-559: five convolutions to a code, five transposed ones back.

Fleuret, EE-559 Deep Learning (EPFL), lecture "Autoencoders", https://fleuret.org/dlc/: on 28x28 images 5x5, 5x5, 4x4
stride 2, 3x3 stride 2 and a last 4x4 that leaves one pixel: sides 28, 24, 20, 9, 4, 1, and 32 channels between.
Here for any size: further 4x4 strides where the image is larger, smaller kernels where it is under 16 pixels, and a
last kernel of the remaining size.
"""

from torch import nn

from unlabeled.errors import UserError


def plan(height: int, width: int) -> list[tuple[int, int, tuple[int, int]]]:
    """Kernel, stride and input sides of each convolution but the last; at the end the remaining sides."""
    smallest = min(height, width)
    if smallest < 8:
        raise UserError(f"images of {height}x{width} are too small for five convolutions: at least 8x8")
    steps = [(5, 1), (5, 1), (4, 2), (3, 2)] if smallest >= 16 else [(3, 1), (3, 1), (2, 2), (1, 1)]
    sides, layers = (height, width), []
    while steps or min(sides) > 8:
        kernel, stride = steps.pop(0) if steps else (4, 2)
        layers.append((kernel, stride, sides))
        sides = tuple((side - kernel) // stride + 1 for side in sides)  # type: ignore[assignment]
    return [*layers, (0, 1, sides)]


class Encoder(nn.Sequential):
    """Image (B, C, H, W) -> code (B, heads * dim)."""

    def __init__(self, shape: tuple[int, int, int], dim: int, num_params: int = 1, width: int = 32):
        channels, height, breadth = shape
        *layers, (_, _, rest) = plan(height, breadth)
        modules: list[nn.Module] = []
        for kernel, stride, _ in layers:
            modules += [nn.Conv2d(channels, width, kernel, stride), nn.ReLU()]
            channels = width
        super().__init__(*modules, nn.Conv2d(width, num_params * dim, rest), nn.Flatten())


class Decoder(nn.Sequential):
    """Code (B, dim) -> (B, outputs * C, H, W), unbounded. The encoder mirrored."""

    def __init__(self, shape: tuple[int, int, int], dim: int, width: int = 32, outputs: int = 1):
        channels, height, breadth = shape
        *layers, (_, _, rest) = plan(height, breadth)
        modules: list[nn.Module] = [nn.Unflatten(1, (dim, 1, 1)), nn.ConvTranspose2d(dim, width, rest)]
        now = rest
        for i, (kernel, stride, sides) in reversed(list(enumerate(layers))):
            lost = tuple(side - ((n - 1) * stride + kernel) for side, n in zip(sides, now, strict=True))
            out = outputs * channels if i == 0 else width
            modules += [nn.ReLU(), nn.ConvTranspose2d(width, out, kernel, stride, output_padding=lost)]  # type: ignore[arg-type]
            now = sides
        super().__init__(*modules)
