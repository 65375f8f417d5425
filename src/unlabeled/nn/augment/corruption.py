"""Corruptions of images, C(x~ | x), for denoising autoencoders. They act in evaluation too.

Vincent et al. 2010, https://jmlr.org/papers/v11/vincent10a.html, section 3.3; masking as in Vincent et al. 2008. A
component is one channel of one pixel. Black, 0 in the papers, is -1 here, and
white is 1 in both.
"""

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError


class Gaussian(nn.Module):
    """x + 2 sigma e, e ~ N(0, I): sigma is for grey levels in [0, 1], as published. Values may leave [-1, 1]."""

    def __init__(self, scale: float = 0.3):
        super().__init__()
        if scale <= 0:
            raise UserError(f"corruption=gaussian: scale={scale} must be above 0")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        return x + 2 * self.scale * torch.randn_like(x)


class Masking(nn.Module):
    """A random share of each image's components, the same number in each image, becomes black."""

    def __init__(self, share: float = 0.25):
        super().__init__()
        self.share = checked("masking", share)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        hit = drawn(x, self.share)
        return x.flatten(1).scatter(1, hit, -1.0).view_as(x)


class SaltAndPepper(nn.Module):
    """A random share of each image's components becomes black or white with equal probability."""

    def __init__(self, share: float = 0.25):
        super().__init__()
        self.share = checked("salt_and_pepper", share)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        hit = drawn(x, self.share)
        coin = torch.randint(2, hit.shape, device=x.device, dtype=x.dtype)
        return x.flatten(1).scatter(1, hit, 2 * coin - 1).view_as(x)


def drawn(x: Tensor, share: float) -> Tensor:
    """Indices (B, n) of a random share of the components of each row of x (B, ...), without repetition."""
    noise = torch.rand(len(x), x[0].numel(), device=x.device)
    return noise.topk(round(share * noise.shape[1]), dim=1, sorted=False).indices


def checked(name: str, share: float) -> float:
    if not 0 < share < 1:
        raise UserError(f"corruption={name}: share={share} must lie between 0 and 1")
    return share
