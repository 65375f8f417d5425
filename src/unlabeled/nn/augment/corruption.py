"""Corruptions of images, C(x~ | x): what a denoising autoencoder has to undo. They act in evaluation too.

Vincent et al. 2010, https://jmlr.org/papers/v11/vincent10a.html, section 3.3; masking as in Vincent et al. 2008. A
component is one number of x, so that a colour's three channels are hit apart. Black, the papers' 0, is -1 here, and
white, their 1, is 1.
"""

import torch
from torch import Tensor, nn

from unlabeled.errors import UserError


class Gaussian(nn.Module):
    """x + 2 sigma e, e ~ N(0, I): sigma is of grey levels in [0, 1], as published. It may leave [-1, 1]."""

    def __init__(self, scale: float = 0.3):
        super().__init__()
        if scale <= 0:
            raise UserError(f"corruption=gaussian: scale={scale} must be above 0")
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        return x + 2 * self.scale * torch.randn_like(x)


class Masking(nn.Module):
    """A share of each image's components, drawn at random, becomes black: always equally many of them."""

    def __init__(self, share: float = 0.25):
        super().__init__()
        self.share = checked("masking", share)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        hit = drawn(x, self.share)
        return x.flatten(1).scatter(1, hit, -1.0).view_as(x)


class SaltAndPepper(nn.Module):
    """A share of each image's components, drawn at random, becomes black or white by a fair coin."""

    def __init__(self, share: float = 0.25):
        super().__init__()
        self.share = checked("salt_and_pepper", share)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        hit = drawn(x, self.share)
        coin = torch.randint(2, hit.shape, device=x.device, dtype=x.dtype)
        return x.flatten(1).scatter(1, hit, 2 * coin - 1).view_as(x)


def drawn(x: Tensor, share: float) -> Tensor:
    """Of each row of x (B, ...) the indices (B, n) of a share of its components, without repetition."""
    noise = torch.rand(len(x), x[0].numel(), device=x.device)
    return noise.topk(round(share * noise.shape[1]), dim=1, sorted=False).indices


def checked(name: str, share: float) -> float:
    if not 0 < share < 1:
        raise UserError(f"corruption={name}: share={share} must lie between 0 and 1")
    return share
