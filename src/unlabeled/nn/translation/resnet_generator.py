"""Residual image-to-image generator of CycleGAN.

Johnson et al. 2016, https://arxiv.org/abs/1603.08155, with instance norm; Zhu et al. 2017,
https://arxiv.org/abs/1703.10593, appendix 7.2: c7s1-64, d128, d256, R256 x 6 or 9, u128, u64, c7s1-3.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.errors import UserError
from unlabeled.nn.layers.init import normal


def initialize(module: nn.Module) -> None:
    """Weights from N(0, 0.02^2), biases of 0, in both networks."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        normal(module)


def _convolution(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    """Padded by reflection, against artefacts at the border."""
    return [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(inputs, outputs, kernel)]


class _Residual(nn.Module):
    """R256. No activation after the sum."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            *_convolution(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResnetGenerator(nn.Module):
    """x (B, C, H, W) in [-1, 1] -> (B, C, H, W) in [-1, 1].

    Images of a batch do not affect each other: instance norm has no shared or running statistics.
    """

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W); sides from 8 up, padded to multiples of 4 and cropped again
        width: int = 64,
        blocks: int = 9,  # paper: 9 from 256 pixels a side, 6 at 128
    ):
        super().__init__()
        channels, height, width_in_pixels = shape
        if min(height, width_in_pixels) < 8:
            raise UserError(
                f"a ResNet generator needs images of at least 8x8, not {height}x{width_in_pixels}: "
                "say a larger data.size"
            )
        layers = [*_convolution(channels, width, 7), nn.InstanceNorm2d(width), nn.ReLU()]
        for n in (width, 2 * width):
            layers += [nn.Conv2d(n, 2 * n, 3, 2, 1), nn.InstanceNorm2d(2 * n), nn.ReLU()]
        layers += [_Residual(4 * width) for _ in range(blocks)]
        for n in (2 * width, width):
            up = nn.ConvTranspose2d(2 * n, n, 3, 2, 1, output_padding=1)
            layers += [up, nn.InstanceNorm2d(n), nn.ReLU()]
        layers += [*_convolution(width, channels, 7), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % 4, 0, -height % 4), mode="reflect")
        return self.layers(padded)[..., :height, :width]
