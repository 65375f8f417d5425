"""Resampling of images and features by the filter [1, 3, 3, 1], by channel, padded with 0.

Zhang 2019, https://arxiv.org/abs/1904.11486; Karras et al. 2020, https://arxiv.org/abs/1912.04958, appendix B.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad


class Filter(nn.Module):
    """(B, C, H, W) -> (B, C, H + 2 padding - 3, ...), a weighted mean of 4x4 pixels times `gain`."""

    kernel: Tensor

    def __init__(self, padding: int = 1, gain: float = 1.0):
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.padding = padding
        self.register_buffer("kernel", gain * torch.outer(taps, taps)[None, None], persistent=False)

    def taps(self, x: Tensor) -> Tensor:
        return self.kernel.expand(x.shape[1], -1, -1, -1)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.taps(x), padding=self.padding, groups=x.shape[1])


class Halve(Filter):
    """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)), filtered."""

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(even(x), self.taps(x), stride=2, padding=1, groups=x.shape[1])


class Double(Filter):
    """(B, C, h, w) -> (B, C, 2h, 2w), filtered and cropped to the given sides."""

    def __init__(self, to: tuple[int, int]):
        super().__init__(gain=4.0)  # one of four pixels is not 0
        self.to_sides = to

    def forward(self, x: Tensor) -> Tensor:
        doubled = conv_transpose2d(x, self.taps(x), stride=2, padding=1, groups=x.shape[1])
        return doubled[..., : self.to_sides[0], : self.to_sides[1]]


def even(x: Tensor) -> Tensor:
    """x with odd sides padded by a row or column of 0."""
    odd = [side % 2 for side in x.shape[2:]]
    return pad(x, (0, odd[1], 0, odd[0])) if any(odd) else x
