"""PatchGAN discriminator of pix2pix and CycleGAN, with a score for every patch of 70x70 pixels.

Isola et al. 2017, https://arxiv.org/abs/1611.07004, section 3.2.2 and appendix 6.1.2; Zhu et al. 2017,
https://arxiv.org/abs/1703.10593, appendix 7.2: C64-C128-C256-C512, no normalisation in the first.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from unlabeled.errors import UserError
from unlabeled.nn.translation.resnet_generator import initialize


class PatchDiscriminator(nn.Module):
    """x (B, C, H, W) -> scores (B, H // 8 - 2, W // 8 - 2), one a patch. Patches extend over the border."""

    def __init__(
        self,
        shape: Sequence[int],  # (C, H, W); sides from 32 up
        width: int = 64,
    ):
        super().__init__()
        channels, height, width_in_pixels = shape
        if min(height, width_in_pixels) < 32:
            raise UserError(
                f"a 70x70 patch discriminator needs images of at least 32x32, not {height}x{width_in_pixels}: "
                "say a larger data.size"
            )
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inputs, outputs, stride in ((1, 2, 2), (2, 4, 2), (4, 8, 1)):
            layers += [
                nn.Conv2d(inputs * width, outputs * width, 4, stride, 1),
                nn.InstanceNorm2d(outputs * width),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(8 * width, 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)
        self.apply(initialize)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[:, 0]
