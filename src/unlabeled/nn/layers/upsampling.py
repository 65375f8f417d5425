"""Upsampling layers with given output sides."""

from torch import Tensor, nn
from torch.nn.functional import interpolate


class Up(nn.ConvTranspose2d):
    """Twice the size (4x4, stride 2), cropped to the given sides: (B, in, h, w) -> (B, out, H, W)."""

    def __init__(self, channels: int, out: int, to: tuple[int, int], bias: bool = True):
        super().__init__(channels, out, 4, 2, 1, bias=bias)
        self.to_sides = to

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(x)[..., : self.to_sides[0], : self.to_sides[1]]


class Enlarge(nn.Conv2d):
    """Enlarged to the given sides by repeating pixels, then a 3x3 convolution: (B, in, h, w) -> (B, out, H, W).

    Odena, Dumoulin & Olah 2016, https://distill.pub/2016/deconv-checkerboard/
    """

    def __init__(self, channels: int, out: int, to: tuple[int, int], bias: bool = True):
        super().__init__(channels, out, 3, 1, 1, bias=bias)
        self.to_sides = to

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(interpolate(x, self.to_sides, mode="nearest"))
