"""U-Net generator of pix2pix, and the encoder-decoder without its skips.

Isola et al. 2017, https://arxiv.org/abs/1611.07004, section 3.2.1 and appendix 6.1.1: 4x4 convolutions of stride 2,
C64-C128-C256-C512-C512-C512-C512-C512 down and CD512-CD512-CD512-C512-C256-C128-C64 up, for 256x256 images.

Dropout is the generator's noise and stays on in evaluation, where the published code also normalises each image by
its own statistics (section 3.4). So the norm here is instance norm, which is that at any batch size, without
statistics to keep. The innermost level has none, as the authors' erratum says: of one pixel it would leave zero.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad

from unlabeled.errors import UserError
from unlabeled.nn.translation.resnet_generator import initialize

DROPPED = 3  # levels with dropout, the innermost


class Dropout(nn.Module):
    """Dropout in evaluation too."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, training=True)


class EncoderDecoder(nn.Module):
    """x (B, C, H, W) in [-1, 1] -> (B, C, H, W) in [-1, 1]: down to a bottleneck and up again.

    Images of a batch do not affect each other.
    """

    inputs = 1  # of a level on the way up, in multiples of its depth

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W); sides from 4 up, padded to multiples of 2^levels and cropped again
        width: int = 64,
        levels: int = 8,  # halvings; as many as the image has at most
        dropout: float = 0.5,  # 0: none, the generator is deterministic
    ):
        super().__init__()
        channels, height, width_in_pixels = shape
        if min(height, width_in_pixels) < 4:
            raise UserError(
                f"a U-Net needs images of at least 4x4, not {height}x{width_in_pixels}: say a larger data.size"
            )
        if levels < 2 or not 0 <= dropout < 1:
            raise UserError(f"model.generator: levels={levels} must be 2 or more, and dropout={dropout} lie in [0, 1)")
        levels = min(levels, min(height, width_in_pixels).bit_length() - 1)
        self.multiple = 2**levels
        depths = [width * min(2**i, 8) for i in range(levels)]
        self.down = nn.ModuleList([nn.Conv2d(channels, width, 4, 2, 1)])
        for i in range(1, levels):
            norm = [nn.InstanceNorm2d(depths[i])] if i < levels - 1 else []
            self.down.append(nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(depths[i - 1], depths[i], 4, 2, 1), *norm))
        self.up = nn.ModuleList()
        for i in reversed(range(1, levels)):
            inputs = depths[i] if i == levels - 1 else self.inputs * depths[i]
            layers = [nn.ReLU(), nn.ConvTranspose2d(inputs, depths[i - 1], 4, 2, 1), nn.InstanceNorm2d(depths[i - 1])]
            if dropout and i >= levels - DROPPED:
                layers.append(Dropout(dropout))
            self.up.append(nn.Sequential(*layers))
        self.out = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(self.inputs * width, channels, 4, 2, 1), nn.Tanh())
        self.apply(initialize)

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        """The input of the next level up, of this level's output and of what went down at its size."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        x = pad(x, (0, -width % self.multiple, 0, -height % self.multiple), mode="reflect")
        skips: list[Tensor] = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = self.join(up(x), skips.pop())
        return self.out(x)[..., :height, :width]


class UNet(EncoderDecoder):
    """The same with skips: each level up sees what the level down of its size found."""

    inputs = 2

    def join(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.cat([x, skip], 1)
